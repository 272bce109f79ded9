"""Orders carried out on the store while no daemon has it open."""

import getpass
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from governor import rulebook
from governor.adapters.duckdb.explaining import numbers_of
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.state import State
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.core.errors import ConfigError
from governor.daemon import answers, explaining
from governor.daemon.clocks import WallClock
from governor.daemon.parts import file_options, price_book
from governor.daemon.pricing import Pricing, tariffs_of
from governor.loops.evaluate import Evaluate
from governor.loops.rerate import Rerate
from governor.settings import Settings


def explain(settings: Settings, fields: Mapping[str, str]) -> list[dict[str, Any]]:
    """Explain rules from what is stored; raise StoreInUseError where a daemon has it open."""
    path = settings.store.path
    if not path.exists():
        raise ConfigError(f"{path} does not exist yet; start governor run, or see store.path")
    book = rulebook.load(settings.rules.path)
    rules = {rule.id: rule for rule in book.rules}
    with numbers_of(path) as numbers:
        return explaining.answer(numbers, rules, fields, WallClock().at(None), book.routing)


def rerate(
    settings: Settings,
    starts_at: datetime,
    ends_at: datetime,
    *,
    dry_run: bool,
    said: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Price what is stored of a span again; `said` hears how far it is.

    Raise StoreInUseError where a daemon has the store open, ConfigError for a faulty price file.
    """
    now = partial(WallClock().at, None)
    catalogue, book = Catalogue(), price_book(settings)
    tariffs = tariffs_of(catalogue, book)
    store = Store(file_options(settings), RateTable(tariffs), now)
    try:
        state = State(store, now)
        evaluate = Evaluate(
            state, (), now=now, follow_events=False, receivers=(), publish=lambda _: None
        )
        pricing = Pricing(
            catalogue,
            book,
            tariffs,
            settings.prices.path,
            store,
            state,
            tell=evaluate.tell,
            audit=evaluate.audited,
            recount=evaluate.recount,
            now=now,
            percent=settings.prices.disagreement_percent,
        )
        loop = Rerate(pricing, ask=lambda call: call(), now=now)
        who = getpass.getuser()
        progress = loop.order(starts_at, ends_at, dry_run=dry_run, who=who, via="command line")
        loop.carry_out(progress, threading.Event(), said=lambda: said(answers.rerate_row(progress)))
    finally:
        store.close()
    return answers.rerate_row(progress)
