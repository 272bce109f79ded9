"""`governor rules explain`: why a rule fired, or why it did not."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from governor.cli.control import call
from governor.cli.options import AsJson, ConfigFile, pairs
from governor.core.errors import ConfigError, TransientError
from governor.daemon import offline
from governor.settings import Settings, load


def explain(
    rule: Annotated[str | None, typer.Argument(help="The id of a rule.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Only this group, such as user=ann; may repeat.")
    ] = None,
    entity: Annotated[
        list[str] | None, typer.Option(help="All rules that touch it, such as customer=acme.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="When, such as 2026-11-01T09:00:00Z.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show how a rule stands: value, thresholds, clocks, throttles, and the SQL of the number.

    With --entity: every rule that counts its usage. The daemon is asked, if one runs.

    For example:

      governor rules explain free-tier-daily

      governor rules explain free-user-requests --group user=ann --at 2026-11-20T12:00:00Z

      governor rules explain --entity customer=acme
    """
    if (rule is None) == (entity is None):
        raise ConfigError("name a rule, or --entity such as customer=acme, one of the two")
    fields = _fields("group", group)
    fields |= _fields("entity", entity)
    fields |= {"rule": rule} if rule else {}
    fields |= {"at": _moment(at)} if at else {}
    found = _asked(load(config).settings, fields)
    if as_json:
        typer.echo(json.dumps(found, default=str))
        return
    for explained in found:
        for line in _lines(explained):
            typer.echo(line)
    if not found:
        typer.echo("no rule counted its usage in the period of that time")


def _fields(what: str, given: list[str] | None) -> dict[str, str]:
    such_as = "name=value, such as customer=acme"
    found = pairs(given, such_as, option=f"--{what}", empty=True)
    return {f"{what}.{name}": value for name, value in found}


def _moment(text: str) -> str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--at {text!r}: write it such as 2026-11-01T09:00:00Z") from None
    return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).isoformat()


def _asked(settings: Settings, fields: Mapping[str, str]) -> list[dict[str, Any]]:
    """Ask the daemon, or where none runs the store."""
    if Path(settings.control.socket).exists():
        try:
            answer: list[dict[str, Any]] = call(settings, "GET", f"/v1/explain?{urlencode(fields)}")
        except TransientError as error:
            if not isinstance(error.__cause__, ConnectionRefusedError):
                raise
        else:
            return answer
    return offline.explain(settings, fields)


def _lines(explained: Mapping[str, Any]) -> Iterator[str]:
    told = explained
    yield f"{told['rule']} ({told['place']}), {told['kind']}, mode {told['mode']}"
    yield from _window(told)
    for each in told["thresholds"]:
        acts = f", then {', '.join(each['actions'])}" if each["actions"] else ""
        amount = "" if each["at"] == each["amount"] else f" = {each['amount']}"
        yield f"    {each['at']}{amount}: {each['level']}{acts}"
    for group in told["groups"]:
        yield from _group(group)
    if not told["groups"]:
        yield "  no group used anything in this period"
    yield "  the number, by governor sql:"
    for line in told["sql"].splitlines():
        yield f"    {line}"


def _group(group: Mapping[str, Any]) -> Iterator[str]:
    values = {key: "(none)" if v is None else v for key, v in group["group"].items()}
    named = ", ".join(f"{key}={value}" for key, value in values.items())
    share = f", of it {group['share']} by this entity" if "share" in group else ""
    percent = f" ({group['percent']} %)" if group["percent"] else ""
    value = group["value"] or group.get("health", "not known")
    yield f"  {named or 'in all'}: {value}{percent}{share}"
    for sentence in group["why"]:
        yield f"    {sentence}"
    alert = group["alert"]
    if alert:
        fired = _time(alert["fired_at"])
        yield f"    alert {alert['alert_id']}: {alert['phase']}, fired {fired}"
    if group["reached"] or alert:
        yield f"    told: {', '.join(group['receivers'])}"
    for mute in group["mutes"]:
        yield f"    held back: {mute}"
    for throttle in group["throttles"]:
        yield f"    {throttle['effect']} {throttle['action']}: {throttle['reason']}"


def _window(told: Mapping[str, Any]) -> Iterator[str]:
    """Say what the number is made of, and when that begins anew."""
    resets = f" and resets {_time(told['resets_at'])}" if told["resets_at"] else ""
    if told["kind"] == "budget":
        yield f"  counts {told['counts']}, limit {told['limit']} in {told['period']},"
        yield f"  which began {_time(told['period_start'])}{resets}"
        return
    span = f"{_time(told['period_start'])} to {_time(told['window_end'])}"
    yield f"  its number is in {told['counts']}, over {span}{resets}"
    yield f"  judged every {told['every_s']:g} s"


def _time(value: Any) -> str:
    return f"{str(value)[:16].replace('T', ' ')} UTC" if value else "never"
