"""What to tell about prices: models without one, and costs that senders reckon otherwise.

Both are about governor's own books and not about a rule: a model without a price enters caps at a
stand-in, and a sender who reports another cost has another price list, or counts other tokens.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from governor.core.notifications import MAX_TEXT_CHARACTERS, Notice
from governor.core.rules.shared import Level, Mode
from governor.core.rules.units import Measure, amount_text

UNPRICED: Final = "unpriced-model"
DISAGREES: Final = "cost-disagrees"
MAX_OPEN: Final = 20
"""Models that are told of one by one; of the rest it is told how many there are."""
OTHERS: Final = "other models"
LEAST_NANO: Final = 10**9
"""A dollar: from there on costs of a day are compared, and less is no news."""
GROWTH: Final = 2
"""An open notice is told again when its amount has grown this many times, by a dollar at least."""


class ModelName(NamedTuple):
    """A model as events name it."""

    provider: str
    model: str

    @property
    def text(self) -> str:
        """Return the name as people read it."""
        return f"{self.provider}/{self.model}" if self.model else self.provider


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Usage without a price: events, tokens, and what caps count for it in nano-dollars."""

    events: int = 0
    tokens: int = 0
    nano: int = 0

    def plus(self, other: "Unpriced") -> "Unpriced":
        """Return both together."""
        return Unpriced(
            self.events + other.events, self.tokens + other.tokens, self.nano + other.nano
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """What senders say that priced usage cost, and what it costs by our prices; nano-dollars."""

    reported: int = 0
    ours: int = 0

    def plus(self, other: "Compared") -> "Compared":
        """Return both together."""
        return Compared(self.reported + other.reported, self.ours + other.ours)

    def disagrees(self, percent: int) -> bool:
        """Tell whether ours is further from what is reported than so many percent of it."""
        if max(self.reported, self.ours) < LEAST_NANO:
            return False
        return 100 * abs(self.ours - self.reported) > percent * self.reported


def has_grown(amount: int, told: int) -> bool:
    """Tell whether an amount has grown so much that it is told again; nano-dollars."""
    return amount >= max(GROWTH * told, told + LEAST_NANO)


def unpriced_of(deltas: pa.Table) -> Mapping[ModelName, Unpriced]:
    """Return what of the rollup deltas of a batch has no price, by model."""
    if not (pc.sum(deltas["unpriced_events"]).as_py() or 0):
        return {}
    some = deltas.filter(pc.greater(deltas["unpriced_events"], 0))
    found: dict[ModelName, Unpriced] = {}
    for row in _rows(some, "unpriced_events", "unpriced_tokens", "unpriced_nano"):
        name = ModelName(row["provider"], row["model"])
        added = Unpriced(row["unpriced_events"], row["unpriced_tokens"], int(row["unpriced_nano"]))
        found[name] = found.get(name, Unpriced()).plus(added)
    return found


def compared_of(deltas: pa.Table) -> Mapping[tuple[date, ModelName], Compared]:
    """Return reported costs and ours of the rollup deltas of a batch, by UTC day and model."""
    if deltas["reported_nano"].null_count == deltas.num_rows:
        return {}
    some = deltas.filter(deltas["reported_nano"].is_valid())
    found: dict[tuple[date, ModelName], Compared] = {}
    for row in _rows(some, "bucket", "reported_nano", "compared_nano"):
        key = (row["bucket"].date(), ModelName(row["provider"], row["model"]))
        added = Compared(int(row["reported_nano"]), int(row["compared_nano"]))
        found[key] = found.get(key, Compared()).plus(added)
    return found


def _rows(deltas: pa.Table, *names: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = deltas.select(["provider", "model", *names]).to_pylist()
    return rows


def unpriced_notice(name: ModelName, found: Unpriced, since: datetime, now: datetime) -> Notice:
    """Return the first notice of a model without a price; later ones are `grown` from it."""
    return _notice(
        UNPRICED,
        name,
        title=f"No price for {name.text}",
        summary=_unpriced_text(name, found, since),
        value=amount_text(Measure.COST, found.nano),
        at=(since, now),
    )


def _unpriced_text(name: ModelName, found: Unpriced, since: datetime) -> str:
    usd = amount_text(Measure.COST, found.nano)
    events = "1 event" if found.events == 1 else f"{found.events:,} events"
    what = f"{events}, {found.tokens:,} tokens since {since:%Y-%m-%d %H:%M} UTC"
    words = ["governor", "prices", "explain", name.model, "--provider", name.provider]
    advice = f" Add a price to prices.yaml; see: {shlex.join(words)}" if name.model else ""
    return f"{what}. Caps count {usd} for them, at a stand-in price.{advice}"


def disagreement_notice(
    name: ModelName, day: date, found: Compared, since: datetime, now: datetime
) -> Notice:
    """Return the first notice of a model of which senders reckon another cost."""
    return _notice(
        DISAGREES,
        name,
        title=f"Reported cost of {name.text} is not ours",
        summary=_disagreement_text(day, found),
        value=amount_text(Measure.COST, abs(found.ours - found.reported)),
        at=(since, now),
    )


def _disagreement_text(day: date, found: Compared) -> str:
    ours, theirs = (amount_text(Measure.COST, nano) for nano in (found.ours, found.reported))
    share = (
        f"{Decimal(100 * (found.ours - found.reported)) / found.reported:+.0f}%"
        if found.reported
        else "where nothing is reported"
    )
    return (
        f"On {day} senders report {theirs}; by our prices it is {ours} ({share})."
        " One price list is wrong, or one count of tokens is."
    )


def grown(before: Notice, after: Notice) -> Notice:
    """Return the notice that goes on from one that was told."""
    return replace(
        after,
        message=before.message,
        revision=before.revision + 1,
        fired_at=before.fired_at,
    )


def ended(before: Notice, why: str, now: datetime) -> Notice:
    """Return the notice that ends what was told."""
    return replace(before, revision=before.revision + 1, resolved=why, at=now)


def model_of(notice: Notice) -> ModelName:
    """Return the model that a notice is about."""
    group = dict(notice.group)
    return ModelName(group.get("provider", OTHERS), group.get("model", ""))


def _notice(
    kind: str,
    name: ModelName,
    *,
    title: str,
    summary: str,
    value: str,
    at: tuple[datetime, datetime],
) -> Notice:
    since, now = at
    group = (("provider", name.provider), ("model", name.model)) if name.model else ()
    return Notice(
        message=f"{kind}-{name.text[:200]}-{since:%Y%m%dT%H%M%S.%f}",
        alert=f"{kind}-{name.text[:200]}",
        revision=1,
        rule=kind,
        owner="governor",
        mode=Mode.NOTIFY,
        level=Level.WARNING,
        resolved=None,
        title=title,
        summary=summary[:MAX_TEXT_CHARACTERS],
        value=value,
        limit="",
        percent=None,
        group=group,
        period="",
        period_end=now,
        at=now,
        fired_at=since,
        history=(),
    )
