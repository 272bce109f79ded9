"""`governor demo`: a company, a broker and the real daemon, with nothing else installed."""

import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from governor.adapters.duckdb.query import Answer
from governor.core.errors import ConfigError
from governor.core.pricing import NANO_PER_USD
from governor.demo import story
from governor.demo.story import Moment, Show

LIVE_EVERY_S: Final = 0.5
PLAIN_EVERY_S: Final = 2.0
MAX_CELL_CHARACTERS: Final = 50

_OPENING: Final = """\
Kestrel Notes (made up) sends one usage event for each model call to a Kafka topic. The broker here
is a stand-in that keeps all in memory; the daemon is `governor run` as you would run it. Some
records come twice, some cannot be read, some are hours late, and one model has no known price.
"""


def demo(
    seconds: Annotated[
        int, typer.Option(min=8, max=120, help="About how long the whole takes.")
    ] = 30,
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep the store, what was sent and the daemon's log in this folder."),
    ] = None,
) -> None:
    """Count a made-up company's spend for half a minute, then check the count.

    Needs no Kafka and no settings. Ends with code 1 where what was counted is not what was sent.

    For example:

      governor demo

      governor demo --keep demo-store
    """
    console = Console(soft_wrap=not sys.stdout.isatty())
    with _stopped_by_sigterm(), _folder(keep) as folder:
        console.print(_OPENING, markup=False, highlight=False)
        every_s = LIVE_EVERY_S if console.is_terminal else PLAIN_EVERY_S
        with _shown(console) as show:
            ledger = story.play(folder, seconds=seconds, every_s=every_s, show=show)
        store = folder / story.STORE_NAME
        for title, answer in story.reports(store):
            console.print()
            console.print(_table(title, answer))
        checks = story.checks(store, ledger)
    console.print()
    for check in checks:
        verdict = "agree" if check.agrees else "DIFFER"
        line = f"check: {check.what}: sent {_text(check.sent)}, counted {_text(check.counted)}"
        console.print(f"{line}: {verdict}", markup=False, highlight=False, soft_wrap=True)
    agree = all(check.agrees for check in checks)
    spent = Decimal(sum(ledger.nano_of_team.values())) / NANO_PER_USD
    closing = (
        f"OK: {ledger.sent:,} records sent, each counted once or set aside; {spent:,} USD in both"
        " books"
        if agree
        else "FAILED: what governor counted is not what was sent; this is a bug, please report it"
    )
    style = "bold green" if agree else "bold red"
    console.print(closing, style=style, highlight=False, soft_wrap=True)
    if not agree:
        raise typer.Exit(1)
    _print_next(console, keep)


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
    """Make SIGTERM what Ctrl-C is, so that it, too, ends the daemon and the broker."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _shown(console: Console) -> Iterator[Show]:
    """Hand out what shows a moment: a table on a terminal, a line elsewhere."""
    if not console.is_terminal:
        yield lambda moment: console.print(_line(moment), markup=False, highlight=False)
        return
    with Live(Text("starting broker and daemon ..."), console=console) as live:
        yield lambda moment: live.update(_view(moment), refresh=True)


def _line(moment: Moment) -> str:
    totals = moment.totals
    return (
        f"{moment.seconds:5.1f} s  sent {moment.ledger.sent:6,}  behind {_behind(moment):5,}"
        f"  counted {totals['counted']:6,}  duplicates {totals['duplicates']:4,}"
        f"  rejected {totals['rejected']:3,}  late {totals['late']:3,}"
        f"  unpriced {totals['unpriced']:5,}  spend {moment.spend_usd:9.4f} USD"
    )


def _view(moment: Moment) -> Group:
    governor = Table("governor", "", title=f"{moment.seconds:.0f} s", title_justify="left")
    governor.columns[1].justify = "right"
    for name in ("counted", "duplicates", "rejected", "late", "unpriced"):
        governor.add_row(name, f"{moment.totals[name]:,}")
    governor.add_row("sent, not stored yet", f"{_behind(moment):,}")
    governor.add_row("spend, USD", f"{moment.spend_usd:,.4f}")
    teams = Table("team", "events sent", "list price, USD", title="the load maker's own books")
    for column in teams.columns[1:]:
        column.justify = "right"
    nano, events = moment.ledger.nano_of_team, moment.ledger.events_of_team
    for team in sorted(nano, key=lambda team: -nano[team]):
        teams.add_row(team, f"{events[team]:,}", f"{nano[team] / NANO_PER_USD:,.4f}")
    return Group(governor, teams)


def _behind(moment: Moment) -> int:
    return max(0, moment.ledger.sent - moment.totals["events"])


def _table(title: str, answer: Answer) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(answer.columns):
        numeric = any(isinstance(row[number], int | Decimal) for row in answer.rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in answer.rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, int | Decimal):
        return f"{value:,}"
    text = str(value)
    return text if len(text) <= MAX_CELL_CHARACTERS else f"{text[: MAX_CELL_CHARACTERS - 3]}..."


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return f"{sum(value.values()):,} in {len(value)}"
    return f"{value:,}"


def _print_next(console: Console, keep: Path | None) -> None:
    governor = _command()
    folder = keep or Path("demo-store")
    store = shlex.quote(str(folder / story.STORE_NAME))
    ask = f"GOVERNOR_STORE__PATH={store} {governor} sql"
    query = "SELECT customer, sum(cost_usd) FROM usage GROUP BY 1 ORDER BY 2 DESC LIMIT 5"
    first = [f"{ask} \\", f'  "{query}"']
    if keep is None:
        first.insert(0, f"{governor} demo --keep {folder}")
    lines = [
        "Three next things to try:",
        "1. Ask your own question of a store that you keep:",
        *(f"     {line}" for line in first),
        "2. See every setting in force, and where each comes from:",
        f"     {governor} config show",
        "3. Count your own Kafka topic (docs/how-to/connect-to-kafka.md):",
        f"     {governor} topics create && {governor} run",
    ]
    console.print()
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _command() -> str:
    """Return how this governor is called from here."""
    own = Path(sys.argv[0])
    if own.name != "governor":
        return f"{Path(sys.executable).name} -m governor"
    found = shutil.which("governor")
    return "governor" if found and own.resolve() == Path(found).resolve() else str(own)
