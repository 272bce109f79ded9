"""`governor prices rerate`: what is stored, priced again by the prices of now."""

import json
import re
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import typer
from rich.console import Console
from rich.table import Table

from governor.cli.control import call
from governor.cli.options import AsJson, ConfigFile
from governor.core.errors import ConfigError, PermanentError, TransientError
from governor.core.pricing import NANO_PER_USD
from governor.daemon import offline
from governor.settings import Settings, load

LOOK_EVERY_S: Final = 0.5
MAX_ROWS: Final = 20
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def rerate(
    starts: Annotated[str, typer.Option("--from", help="First day (UTC), or a time with a zone.")],
    ends: Annotated[
        str, typer.Option("--to", help="Last day (UTC, whole), or a time before which to end.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; write nothing.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Price stored events of a span again, by event time, at the prices of now.

    Each change is kept, as it was and as it is, in the table adjustments. Sums follow; budgets of
    periods that are over fire nothing. The daemon does it while it goes on, if one runs. The same
    order again changes nothing.

    For example:

      governor prices rerate --from 2026-11-01 --to 2026-11-30 --dry-run

      governor prices rerate --from 2026-11-01 --to 2026-11-30 --json > changed.json
    """
    settings = load(config).settings
    span = _moment("--from", starts, whole_days=0), _moment("--to", ends, whole_days=1)
    if span[0] >= span[1]:
        raise ConfigError(f"--to {ends}: is before --from {starts}")
    show = _quiet if as_json or not sys.stderr.isatty() else _progress
    done = _carried_out(settings, span, dry_run=dry_run, show=show)
    if done["error"]:
        raise PermanentError(f"priced {done['done']} of {done['slices']} slices: {done['error']}")
    if as_json:
        typer.echo(json.dumps(done, default=str))
    else:
        _print(done)


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


Show = Callable[[Mapping[str, Any]], None]


def _carried_out(
    settings: Settings, span: tuple[datetime, datetime], *, dry_run: bool, show: Show
) -> dict[str, Any]:
    """Have the daemon do it, or where none runs do it here."""
    asked = {"from": span[0].isoformat(), "until": span[1].isoformat()}
    query = urlencode(asked | {"dry_run": "true" if dry_run else "false"})
    if not settings.control.socket.exists():
        return offline.rerate(settings, *span, dry_run=dry_run, said=show)
    try:
        done: dict[str, Any] = call(settings, "POST", f"/v1/prices/rerate?{query}")
    except TransientError as error:
        if not isinstance(error.__cause__, ConnectionRefusedError):
            raise
        return offline.rerate(settings, *span, dry_run=dry_run, said=show)
    while not done["over"]:
        show(done)
        threading.Event().wait(LOOK_EVERY_S)
        done = call(settings, "GET", f"/v1/prices/rerate/{done['run']}")
    return done


def _quiet(_: Mapping[str, Any]) -> None:
    """Show nothing on the way."""


def _progress(done: Mapping[str, Any]) -> None:
    share = 100 * done["done"] // max(1, done["slices"])
    changed = done["total"]["events"]
    sys.stderr.write(f"\r{share:3} %  {done['done']}/{done['slices']} slices, {changed:,} changed ")
    sys.stderr.write("\n" if done["over"] else "")
    sys.stderr.flush()


def _print(done: Mapping[str, Any]) -> None:
    console = Console(highlight=False)
    total = done["total"]
    verb = "would change" if done["dry_run"] else "changed"
    if not total["events"]:
        console.print("nothing changes: every event has the price of now")
        return
    if not console.is_terminal:
        console.width = 160
    table = Table("day", "provider", "model", "customer", "events", "before USD", "after USD")
    for row in done["changes"][:MAX_ROWS]:
        table.add_row(
            *(row["day"] if isinstance(row["day"], str) else row["day"].isoformat(),),
            *(row["provider"], row["model"], row["customer"] or "", f"{row['events']:,}"),
            *(_usd(row["before_nano"]), _usd(row["after_nano"])),
        )
    console.print(table)
    if done["groups"] > MAX_ROWS:
        rest = done["groups"] - MAX_ROWS
        console.print(f"and {rest:,} more rows; --json has up to 1,000, adjustments has all")
    console.print(
        f"{total['events']:,} events {verb}: {_usd(total['before_nano'])} USD before,"
        f" {_usd(total['after_nano'])} USD after; unpriced {total['unpriced_before']:,} before,"
        f" {total['unpriced_after']:,} after; caps {_usd(total['cap_before_nano'])} before,"
        f" {_usd(total['cap_after_nano'])} after"
    )
    if not done["dry_run"]:
        console.print(f"run {done['run']}, in the tables rerates, adjustments and audit")


def _usd(nano: int) -> str:
    return f"{Decimal(nano) / NANO_PER_USD:,.6f}"
