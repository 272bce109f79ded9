"""`governor demo`: the end of a company's day, with the real daemon and gate, nothing installed."""

import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from governor.cli.demo_view import View, report
from governor.core.errors import ConfigError
from governor.core.pricing import NANO_PER_USD
from governor.demo import checks, story
from governor.demo.checks import Check
from governor.demo.company import FREE, LEAKED
from governor.demo.stage import RULES_NAME, SETTINGS_NAME, STORE_NAME
from governor.demo.story import Outcome
from governor.settings import load

ENTRY: Final = "governor.cli.ahead"
"""The module that runs the daemon and the gate by the demo's clock."""
KEPT: Final = Path("demo-store")
"""The folder that the closing words propose."""

_OPENING: Final = """\
Kestrel Notes (made up) has free, pro and enterprise customers. Before each model call its gateway
asks `governor gate` whether it may run; after it, it sends a usage event to Kafka, which `governor
run` counts and judges by the example rules of `rules/`. Both are the real ones; Kafka and Slack are
stand-ins on this machine. Some records come twice, some cannot be read, and of one model no price
is known.
"""


def demo(
    seconds: Annotated[
        int, typer.Option(min=30, max=600, help="About how long the whole takes.")
    ] = 60,
    forever: Annotated[
        bool, typer.Option("--forever", help="Go on when the story is told, until Ctrl-C.")
    ] = False,
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep store, rules, settings, logs and what was sent in this folder."),
    ] = None,
) -> None:
    """Watch a made-up company's free tier run away, be slowed down, and be freed, in a minute.

    Needs no Kafka, no Slack and no settings. Ends with code 1 where what was counted is not what
    was sent, or anything of the story did not happen.

    For example:

      governor demo

      governor demo --forever --keep demo-store
    """
    console = Console(soft_wrap=not sys.stdout.isatty())
    stop = threading.Event()
    with _stopped_by_sigterm(), _folder(keep) as folder:
        console.print(_OPENING, markup=False, highlight=False)

        def go_on() -> list[str]:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: _end(stop))
            return _while_it_runs(folder)

        with View(console, go_on) as view:
            outcome = story.play(
                folder,
                seconds=seconds,
                forever=stop if forever else None,
                entry=ENTRY,
                show=view,
            )
        for title, answer in checks.reports(folder / STORE_NAME):
            console.print()
            console.print(report(title, answer))
    holds = all(check.holds for check in (*outcome.books, *outcome.story))
    lines = ["", *_check_lines(outcome), "", *_summary(outcome)]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    closing = _closing(outcome)
    style = "bold green" if holds else "bold red"
    console.print(closing, style=style, highlight=False, soft_wrap=True)
    if not holds:
        raise typer.Exit(1)
    words = "\n".join(["", *_next(keep)])
    console.print(words, markup=False, highlight=False, soft_wrap=True)


def _end(stop: threading.Event) -> None:
    """End what goes on in good order; a second signal interrupts."""
    stop.set()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="governor-demo-") as folder:
            yield Path(folder)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise ConfigError(f"--keep {keep}: is not an empty folder; name one that does not exist")
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--keep {keep}: {error.strerror}") from error
    yield keep.resolve()


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Make SIGTERM what Ctrl-C is, so that it, too, ends the children and the broker."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_lines(outcome: Outcome) -> list[str]:
    return [
        *(
            f"check: {check.what}: sent {_text(check.expected)}, counted {_text(check.found)}:"
            f" {'agree' if check.holds else 'DIFFER'}"
            for check in outcome.books
        ),
        *(f"check: {check.what}: {_as_told(check)}" for check in outcome.story),
    ]


def _as_told(check: Check) -> str:
    found = _text(check.found)
    return found if check.holds else f"{found}; NOT AS TOLD, {_text(check.expected)}"


def _summary(outcome: Outcome) -> list[str]:
    traffic, ledger = outcome.traffic, outcome.ledger
    free, free_refused = traffic.asked[FREE], traffic.refused[FREE]
    paid = traffic.asked.total() - free
    leaked = traffic.refused_of(LEAKED)
    counted = ledger.sent / outcome.seconds
    return [
        "Summary",
        f"  spend      {_spent(outcome):,} USD, to the nano-dollar",
        f"  events     {ledger.sent:,} in {outcome.seconds:.0f} s, {counted:,.0f} a second",
        f"  alerts     {_alerts(outcome)}",
        (
            f"  free tier  {free:,} requests, {free_refused:,} refused, {leaked:,} of them with the"
            " posted key"
        ),
        f"  paid       {paid:,} requests, {traffic.refused.total() - free_refused:,} refused",
    ]


def _alerts(outcome: Outcome) -> str:
    levels = next(check.found for check in outcome.story if isinstance(check.found, list))
    return f"one message in Slack about the budget, that said in turn: {', '.join(levels)}"


def _closing(outcome: Outcome) -> str:
    if not all(check.holds for check in outcome.books):
        return "FAILED: what governor counted is not what was sent; this is a bug, please report it"
    if not all(check.holds for check in outcome.story):
        return (
            "FAILED: the books agree, but not all happened as told; on a slow machine try a longer"
            " one, --seconds 180"
        )
    return (
        f"OK: {outcome.ledger.sent:,} records sent, each counted once or set aside;"
        f" {_spent(outcome):,} USD in both books"
    )


def _spent(outcome: Outcome) -> Decimal:
    return Decimal(sum(outcome.ledger.nano_of_team.values())) / NANO_PER_USD


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return f"{sum(value.values()):,} in {len(value)}"
    if isinstance(value, list):
        return ", ".join(value)
    return value if isinstance(value, str) else f"{value:,}"


def _while_it_runs(folder: Path) -> list[str]:
    governor, config = _command(), f"--config {shlex.quote(str(folder / SETTINGS_NAME))}"
    return [
        "The story is told, and all goes on until Ctrl-C. From another terminal:",
        f"  {governor} status {config}",
        f"  {governor} alerts list {config} --all",
        f"  {governor} throttles list {config}",
        f"  {governor} report daily {config} --dry-run",
        f"What Slack's people see is at {_slack_page(folder)}",
        "The posted key will use up the new day's budget within a minute or two. Then raise",
        f"`limit` in {folder / RULES_NAME / 'free-tier.yaml'}, and see the free tier freed.",
    ]


def _slack_page(folder: Path) -> str:
    """Return where the stand-in shows its channels: at the root of its Web API."""
    base_url = load(folder / SETTINGS_NAME).settings.slack.base_url
    return base_url.removesuffix("api/")


def _next(keep: Path | None) -> list[str]:
    governor = _command()
    config = shlex.quote(str((keep or KEPT) / SETTINGS_NAME))
    if keep is None:
        first = [
            "1. Let it go on, and ask what it does from another terminal:",
            f"     {governor} demo --forever --keep {KEPT}",
            f"     {governor} alerts list --config {config} --all",
        ]
    else:
        query = "SELECT customer, sum(cost_usd) FROM usage GROUP BY 1 ORDER BY 2 DESC LIMIT 5"
        first = [
            "1. Ask your own question of the store that you kept:",
            f"     {governor} sql --config {config} \\",
            f'       "{query}"',
        ]
    return [
        "Three next things to try:",
        *first,
        "2. Read the rules that ran, write your own (docs/how-to/write-a-budget.md), check them:",
        f"     {governor} rules check rules",
        "3. Count your own Kafka topic (docs/how-to/connect-to-kafka.md):",
        f"     {governor} topics create && {governor} run",
    ]


def _command() -> str:
    """Return how this governor is called from here."""
    own = Path(sys.argv[0])
    if own.name != "governor":
        return f"{Path(sys.executable).name} -m governor"
    found = shutil.which("governor")
    return "governor" if found and own.resolve() == Path(found).resolve() else str(own)
