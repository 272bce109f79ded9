"""`governor prices`: what usage is charged by, why, and what is wrong with the price file."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from governor import pricebook
from governor.adapters.prices import Catalogue
from governor.cli.options import AsJson, ConfigFile
from governor.cli.problems import EXIT_WRONG, count, problem_lines, problem_rows
from governor.core.errors import ConfigError
from governor.core.pricing import (
    FEMTO_PER_USD,
    FIRST_INSTANT,
    LAST_INSTANT,
    NANO_PER_USD,
    Buyer,
    Override,
    Price,
)
from governor.core.reckoning import INPUT_PARTS, OTHERS, OUTPUT_PARTS, Reckoning, in_force, reckon
from governor.core.reckoning import units_of as split
from governor.core.tariffs import Tariff
from governor.daemon.clocks import WallClock
from governor.daemon.parts import price_book
from governor.daemon.pricing import tariffs_of
from governor.settings import load

EXIT_UNPRICED: Final = 1
MILLION: Final = 10**6
QUANTITIES: Final[Mapping[str, str]] = {
    "input": "input_tokens",
    "output": "output_tokens",
    **INPUT_PARTS,
    **OUTPUT_PARTS,
    **OTHERS,
}
"""What `--tokens` calls a quantity, and the field of the event."""
PER_MILLION: Final = frozenset({"input", "output", *INPUT_PARTS, *OUTPUT_PARTS})

app = typer.Typer(help="Check the price file; explain a price.", no_args_is_help=True)


@app.callback()
def _prices() -> None:
    """Check the price file; explain a price."""


@app.command()
def check(
    path: Annotated[Path | None, typer.Argument(help="File; default: prices.path.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check a price file and print every problem with its place. Exit 2 if there is one.

    For example:

      governor prices check

      governor prices check --json prices.yaml | jq '.problems[].message'
    """
    file = path or load(config).settings.prices.path
    checked = pricebook.check(file)
    if as_json:
        names = [override.id for override in checked.overrides]
        document = {"ok": not checked.problems, "path": str(file), "prices": names}
        typer.echo(json.dumps(document | {"problems": problem_rows(checked.problems)}))
    else:
        for line in problem_lines(checked.problems, {file: checked.raw}):
            typer.echo(line)
        wrong = count(len(checked.problems), "problem") if checked.problems else "ok"
        typer.echo(f"{file}: {count(len(checked.overrides), 'price')}, {wrong}")
    raise typer.Exit(EXIT_WRONG if checked.problems else 0)


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="The model, as events name it.")],
    provider: Annotated[
        str, typer.Option(help="The provider, as events name it; else told from the model.")
    ] = "unknown",
    at: Annotated[str | None, typer.Option(help="When, such as 2026-07-01T09:00:00Z.")] = None,
    tokens: Annotated[
        str, typer.Option(help="What was used: input=10000,cache_read=4000,output=500.")
    ] = "input=1000000,output=1000000",
    service_tier: Annotated[str | None, typer.Option(help="Such as batch, flex, priority.")] = None,
    customer: Annotated[str | None, typer.Option(help="Who is served.")] = None,
    team: Annotated[str | None, typer.Option(help="Whose feature it is.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what usage costs: which price of which layer charges, and the arithmetic.

    Exit 1 where no price is known; caps then count the stand-in, which is shown.

    For example:

      governor prices explain gpt-4o --tokens input=10000,cache_read=4000,output=500

      governor prices explain claude-sonnet-4-5 --service-tier batch --at 2026-07-01
    """
    settings = load(config).settings
    moment = _moment(at)
    units = split(_quantities(tokens))
    tariffs = tariffs_of(Catalogue(), price_book(settings))
    tariff = tariffs.find(provider, model, service_tier, Buyer(customer, team))
    price = in_force(tariff.cells, moment, units.context_tokens)
    found = reckon(units, price.rates) if price else None
    known = price is not None and found is not None and found.nano is not None
    shown = price if known and price else tariff.stand_in
    reckoning = found if known and found else reckon(units, shown.rates)
    document = {
        "provider": provider,
        "model": model,
        "key": None if tariff.key is None else "/".join(tariff.key),
        "at": moment.isoformat(),
        "service_tier": tariff.tier,
        "priced": known,
        "why_not": None if known else _why_not(tariff, found),
        "contradicts": units.contradicts,
        "layers": _layers(tariff, moment, shown if known else None),
        "price": _price_row(shown),
        "arithmetic": [_line_row(line.rate, line.units, line.femto) for line in reckoning.lines],
        "nano": reckoning.nano,
        "usd": None if reckoning.nano is None else str(Decimal(reckoning.nano) / NANO_PER_USD),
    }
    if as_json:
        typer.echo(json.dumps(document))
    else:
        _print(document, str(settings.prices.path))
    raise typer.Exit(0 if known else EXIT_UNPRICED)


def _moment(text: str | None) -> datetime:
    if text is None:
        return WallClock().at(None)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--at {text!r}: write it such as 2026-07-01T09:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _quantities(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for pair in text.split(","):
        name, _, amount = pair.partition("=")
        if name.strip() not in QUANTITIES or not amount.strip().isdecimal():
            known = ", ".join(QUANTITIES)
            raise ConfigError(f"--tokens {pair!r}: write name=count; the names are {known}")
        found[QUANTITIES[name.strip()]] = int(amount)
    return found


def _why_not(tariff: Tariff, found: Reckoning | None) -> str:
    if found is not None:
        return f"the price has no rate for {', '.join(found.missing)}"
    if not tariff.cells:
        return "no price is known for this model"
    return f"no price is in force then ({count(len(tariff.cells), 'price')} at other times)"


def _layers(tariff: Tariff, at: datetime, charging: Price | None) -> list[dict[str, Any]]:
    """Return what is asked in turn; one of them charges."""
    rows = [_layer(override, at) for override in tariff.overrides]
    if tariff.listed:
        rows.append({"source": tariff.listed[0].source, "charge": "list price", "in_force": True})
    taken = False
    for row in rows:
        row["charges"] = charging is not None and row["in_force"] and not taken
        taken = taken or row["in_force"]
    return rows


def _layer(override: Override, at: datetime) -> dict[str, Any]:
    charge = "own price" if override.multiplier is None else f"list price x {_factor(override)}"
    return {
        "source": override.source,
        "charge": charge,
        "from": _bound(override.starts_at),
        "until": _bound(override.ends_at),
        "in_force": override.starts_at <= at < override.ends_at,
    }


def _factor(override: Override) -> str:
    factor = override.multiplier
    return "" if factor is None else _plain(Decimal(factor.numerator) / factor.denominator)


def _bound(at: datetime) -> str | None:
    return None if at in (FIRST_INSTANT, LAST_INSTANT) else at.isoformat()


def _price_row(price: Price) -> dict[str, Any]:
    return {
        "id": price.price_id,
        "key": "/".join(price.key),
        "source": price.source,
        "service_tier": price.tier,
        "from": _bound(price.starts_at),
        "until": _bound(price.ends_at),
    }


def _line_row(rate: str, units: int, femto: int) -> dict[str, Any]:
    per = MILLION if rate in PER_MILLION else 1
    return {
        "unit": "compute_ms" if rate == "compute" else rate,
        "units": units,
        "usd_per_million" if per == MILLION else "usd_per_unit": _plain(
            Decimal(femto) * per / FEMTO_PER_USD
        ),
        "usd": _plain(Decimal(units * femto) / FEMTO_PER_USD),
    }


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _print(document: Mapping[str, Any], file: str) -> None:
    console = Console(highlight=False)
    name = document["key"] or f"{document['provider']}/{document['model']}"
    tier = document["service_tier"]
    console.print(f"{name}, tier {tier}, at {document['at']}", markup=False)
    if document["contradicts"]:
        console.print("parts exceed their total, so they are charged on top of it")
    if not document["priced"]:
        console.print(f"UNPRICED: {document['why_not']}", markup=False)
        key = document["price"]["key"]
        console.print(f"caps count a stand-in, the dearest known: {key}", markup=False)
    for table in (_layer_table(document, file), _arithmetic_table(document)):
        console.print(table, soft_wrap=not console.is_terminal)
    price = document["price"]
    if tier != price["service_tier"] and document["priced"]:
        console.print(
            f"no price of tier {tier} is known then; this is the {price['service_tier']} one"
        )
    console.print(f"{document['usd']} USD = {document['nano']:,} nano-dollars; price {price['id']}")


def _layer_table(document: Mapping[str, Any], file: str) -> Table:
    table = Table("", "layer", "charge", "from", "until", title=f"asked in turn ({file})")
    for row in document["layers"]:
        mark = "charges" if row["charges"] else ""
        bounds = (row.get("from") or "", row.get("until") or "")
        table.add_row(mark, row["source"], row["charge"], *bounds)
    return table


def _arithmetic_table(document: Mapping[str, Any]) -> Table:
    table = Table("unit", "units", "USD each", "USD", title="arithmetic")
    for row in document["arithmetic"]:
        many = row.get("usd_per_million")
        each = f"{many} / million" if many else row.get("usd_per_unit", "")
        table.add_row(row["unit"], f"{row['units']:,}", each, row["usd"])
    return table
