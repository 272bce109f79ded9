"""`governor rules backtest`: rules over what was used, and nobody is told or slowed down."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from governor.adapters.duckdb.history import History
from governor.cli.options import AsJson, ConfigFile
from governor.core.errors import ConfigError
from governor.core.rules.shared import Mode, Rule
from governor.core.rules.units import Measure, amount_text
from governor.daemon import replayed
from governor.rehearsal import backtest as backtesting
from governor.rulebook import check as check_files
from governor.settings import load

MAX_ROWS: Final = 50
SAMPLES: Final = 720
"""Points of a curve in a picture."""
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def backtest(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Rule files or folders; default: rules.path.")
    ] = None,
    starts: Annotated[str | None, typer.Option("--from", help="First day (UTC), or time.")] = None,
    ends: Annotated[
        str | None, typer.Option("--to", help="Last day (UTC, whole), or time before which to end.")
    ] = None,
    events: Annotated[
        Path | None, typer.Option(help="NDJSON of usage events instead of the store.")
    ] = None,
    event_format: Annotated[str, typer.Option("--format", help="Format of --events.")] = "auto",
    against: Annotated[
        Path | None, typer.Option(help="Other rules; show what these do otherwise.")
    ] = None,
    as_mode: Annotated[
        str | None, typer.Option("--as", help="As if all rules had this mode, such as enforce.")
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(help="Draw it, too: a file *.png or *.svg (governor[charts]).")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what rules would have done over what was used. It tells nobody and slows nobody down.

    History is what the store holds (no daemon may run on it), or a file of events. Times are to
    the minute.

    For example:

      governor rules backtest --from 2026-10-01 --to 2026-10-31

      governor rules backtest new-rules --against rules --as enforce

      governor rules backtest --events october.ndjson --json

      governor rules backtest --chart october.svg
    """
    settings = load(config).settings
    rules = _rules(paths or [settings.rules.path], as_mode)
    others = _rules([against], as_mode) if against else None
    show = _progress if sys.stderr.isatty() and not as_json else _nothing
    with (
        replayed.history(settings, events, event_format, _complain) as store,
        closing(History(store)) as past,
    ):
        start, end = _span(past, starts, ends)

        def over(some: Sequence[Rule]) -> backtesting.Backtest:
            known = past.past(start)
            return backtesting.run(
                some,
                lambda masks: past.usage(masks, start, end, () if chart else some),
                start,
                end,
                show,
                facts=known,
                before=known,
                sampled=(end - start) / SAMPLES if chart else None,
            )

        found = over(rules)
        other = over(others) if others is not None else None
    by_id = {rule.id: rule for rule in (*rules, *(others or ()))}
    if chart:
        _draw(found, by_id, chart)
    if as_json:
        typer.echo(json.dumps(_document(found, other), default=str))
    else:
        _print(found, other, by_id)


def _draw(found: backtesting.Backtest, rules: Mapping[str, Rule], path: Path) -> None:
    """Draw a picture, if what draws is installed."""
    try:
        chart = import_module("governor.rehearsal.chart")
    except ImportError as error:
        why = f"--chart needs {error.name}: pip install 'governor[charts]'"
        raise ConfigError(why) from None
    chart.draw(found, rules, path)


def _rules(paths: Sequence[Path], mode: str | None) -> list[Rule]:
    checked = check_files(paths)
    if checked.problems:
        raise ConfigError("\n".join(str(problem) for problem in checked.problems))
    rules = [rule for file in checked.files for rule in file.rules]
    if mode is None:
        return rules
    if mode not in {each.value for each in Mode}:
        raise ConfigError(f"--as {mode}: write {', '.join(each.value for each in Mode)}")
    return backtesting.as_mode(rules, Mode(mode))


def _span(past: History, starts: str | None, ends: str | None) -> tuple[datetime, datetime]:
    held = past.span()
    if held is None:
        raise ConfigError("there is no usage to replay")
    first = held[0].replace(hour=0, minute=0, second=0, microsecond=0)
    start = first if starts is None else _moment("--from", starts, whole_days=0)
    end = held[1] + timedelta(minutes=1) if ends is None else _moment("--to", ends, whole_days=1)
    if start >= end:
        raise ConfigError(f"the span ends ({end}) before it begins ({start})")
    return start, end


def _moment(option: str, text: str, *, whole_days: int) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} {text!r}: write a day such as 2026-11-01") from None
    if _DATE.fullmatch(text):
        return found.replace(tzinfo=UTC) + timedelta(days=whole_days)
    if found.tzinfo is None:
        raise ConfigError(f"{option} {text!r}: has no zone; write such as 2026-11-01T09:00:00Z")
    return found.astimezone(UTC)


def _complain(text: str) -> None:
    sys.stderr.write(f"governor: {text}\n")


def _nothing(_: datetime) -> None:
    """Show nothing on the way."""


def _progress(now: datetime) -> None:
    sys.stderr.write(f"\r{now:%Y-%m-%d %H:%M} ")
    sys.stderr.flush()


def _document(found: backtesting.Backtest, other: backtesting.Backtest | None) -> dict[str, Any]:
    document = asdict(replace(found, samples=()))
    del document["samples"]
    if other is not None:
        gone, new = backtesting.differences(other, found)
        document["against"] = {"only_before": gone, "only_now": new}
    return document


def _print(
    found: backtesting.Backtest, other: backtesting.Backtest | None, rules: Mapping[str, Rule]
) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(f"{found.start:%Y-%m-%d %H:%M} to {found.end:%Y-%m-%d %H:%M} UTC, as if run then")
    table = Table("rule", "mode", "alerts")
    for name, times in found.fired.items():
        table.add_row(name, rules[name].mode.value, f"{times:,}" if times else "never fired")
    console.print(table)
    if other is None:
        _print_transitions(console, "what would have happened", found.transitions)
    else:
        gone, new = backtesting.differences(other, found)
        _print_transitions(console, "only with the other rules", gone)
        _print_transitions(console, "only with these rules", new)
    for throttle in found.throttles:
        scope = ", ".join(f"{key}={'/'.join(value)}" for key, value in throttle.scope.items())
        past = throttle.past_nano
        cost = f"; {amount_text(Measure.COST, past)} were used in this time" if past else ""
        ended = f"{throttle.ended:%Y-%m-%d %H:%M}" if throttle.ended else "after the end"
        console.print(
            f"{'shadow ' if throttle.shadow else ''}{throttle.action} ({throttle.does}) of"
            f" {throttle.rule} on {scope or 'all'}: {throttle.began:%Y-%m-%d %H:%M}"
            f" to {ended}{cost}",
            markup=False,
        )
    avoided = sum(throttle.past_nano or 0 for throttle in found.throttles)
    console.print(
        f"{found.posts:,} messages posted and {found.updates:,} edits; actions would have avoided"
        f" at most {amount_text(Measure.COST, avoided)}"
    )


def _print_transitions(
    console: Console, title: str, transitions: Sequence[Mapping[str, Any]]
) -> None:
    if not transitions:
        console.print(f"{title}: nothing")
        return
    table = Table("at (UTC)", "rule", "group", "what", "level", "threshold", "value", title=title)
    for row in transitions[:MAX_ROWS]:
        group = ", ".join(f"{key}={value}" for key, value in row["group"].items())
        told = (row["what"], row["level"] or "", row["threshold"] or row["reason"] or "")
        table.add_row(f"{row['at']:%Y-%m-%d %H:%M}", row["rule"], group, *told, row["value"])
    console.print(table)
    for row in transitions[:MAX_ROWS]:
        if row["why"]:
            console.print(f"{row['at']:%Y-%m-%d %H:%M} {row['why']}", markup=False)
    if len(transitions) > MAX_ROWS:
        console.print(f"and {len(transitions) - MAX_ROWS:,} more; --json shows all")
