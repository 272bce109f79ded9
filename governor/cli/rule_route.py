"""`governor rules route`: who would be told of an alert, and what would hold that back."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from governor import rulebook
from governor.cli.options import AsJson, ConfigFile
from governor.core.errors import ConfigError
from governor.core.routing import FACTS, Routing
from governor.core.scopes import DIMENSIONS
from governor.daemon.clocks import WallClock
from governor.documents.sections import suggestion
from governor.settings import load


def route(
    facts: Annotated[
        list[str], typer.Argument(help="Facts of an alert: owner=growth level=critical.")
    ],
    firing: Annotated[
        list[str] | None,
        typer.Option(help="What fires as well, as facts with commas; may repeat."),
    ] = None,
    at: Annotated[str | None, typer.Option(help="When, such as 2026-11-01T23:00:00Z.")] = None,
    rules: Annotated[Path | None, typer.Option(help="Folder of the rules.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show who would be told of an alert with these facts, and what would hold that back.

    Facts are rule, owner, kind, level, mode, labels of rules, and values of the group.

    For example:

      governor rules route owner=growth level=critical

      governor rules route rule=customer-daily customer=acme level=info --at 2026-11-01T23:00:00Z

      governor rules route rule=team-daily team=search --firing rule=team-month,team=search
    """
    book = rulebook.load(rules or load(config).settings.rules.path)
    labels = {name for rule in book.rules for name in rule.labels}
    known = [*FACTS, *DIMENSIONS, *sorted(labels)]
    mine = _facts(facts, known)
    others = [_facts(each.split(","), known) for each in firing or ()]
    now = WallClock().at(None) if at is None else _moment(at)
    answer = _answer(book.routing, mine, others, now)
    if as_json:
        typer.echo(json.dumps(answer, default=str))
        return
    for line in _lines(answer):
        typer.echo(line)


def _facts(given: list[str], known: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise ConfigError(f"{text!r}: write name=value, such as owner=growth")
        if name not in known:
            raise ConfigError(f"{name!r} is no fact of an alert{suggestion(name, known)}")
        found[name] = value
    return found


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--at {text!r}: write such as 2026-11-01T23:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _answer(
    routing: Routing,
    facts: dict[str, str | None],
    firing: list[dict[str, str | None]],
    at: datetime,
) -> dict[str, Any]:
    known = {"level": "info", "mode": "notify"} | facts
    return {
        "at": at,
        "facts": facts,
        "routes": [
            {"place": route.place, "to": route.to, "also": route.also}
            for route in routing.matched(known)
        ],
        "receivers": list(routing.receivers_for(known, ("everybody",))),
        "mutes": routing.mutes(known, at, routing.firing(firing)),
    }


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    if not answer["routes"]:
        yield "no routes: everybody is told of everything"
    for each in answer["routes"]:
        also = ", and goes on" if each["also"] else ""
        yield f"{each['place']}: to {', '.join(each['to'])}{also}"
    yield f"told: {', '.join(answer['receivers'])}"
    for mute in answer["mutes"]:
        yield f"held back: {mute}"
    if not answer["mutes"]:
        yield f"nothing holds it back at {answer['at']:%Y-%m-%d %H:%M} UTC"
