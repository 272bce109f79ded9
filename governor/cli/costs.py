"""How long the questions of rules take on the store: `governor rules check --cost`."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from governor.adapters.duckdb.explaining import numbers_of
from governor.core.errors import GovernorError, PermanentError
from governor.core.rules.query import Query
from governor.core.rules.shared import Rule
from governor.daemon.clocks import WallClock


def costs(store: Path, rules: Iterable[Rule]) -> Iterator[str]:
    """Yield a line for each question, asked once of a store that no daemon has open."""
    questions = [rule for rule in rules if isinstance(rule, Query)]
    if not questions:
        yield "no rule asks a question"
        return
    if not store.exists():
        yield f"{store} does not exist yet: what the questions cost was not measured"
        return
    now = WallClock().at(None)
    try:
        with numbers_of(store) as numbers:
            past = numbers.past(now)
            for rule in questions:
                began = time.perf_counter()
                try:
                    found = f"{len(past.answer(rule, now - rule.window, now)):,} groups"
                except PermanentError as error:
                    found = str(error)
                yield f"{rule.id}: {1000 * (time.perf_counter() - began):,.0f} ms, {found}"
    except GovernorError as error:
        yield f"what the questions cost was not measured: {error}"
