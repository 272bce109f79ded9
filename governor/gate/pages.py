"""The gate's pages for people and monitors: how it is, what it obeys, what it can be asked."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from governor import telemetry
from governor.core.directives import Directive, Heartbeat
from governor.gate.answer import METRICS, Answer, encode, text
from governor.gate.describe import description

MAX_LISTED: Final = 1_000
"""Most directives that `/v1/directives` lists; `in_force` counts all."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page; `secret` ones need the token of callers, where there is one."""

    answer: Callable[[], Answer]
    secret: bool = False


class Shown(Protocol):
    """What the pages show of a gate; see `gate.app`."""

    trouble: str | None

    @property
    def opened(self) -> bool:
        """Whether the topic was read to its end once."""

    @property
    def now(self) -> datetime:
        """The daemon's time."""

    @property
    def beat(self) -> Heartbeat | None:
        """The last sign of the daemon."""

    @property
    def lease_age_s(self) -> float:
        """How old that is."""

    @property
    def lease_is_fresh(self) -> bool:
        """Whether `open` directives are obeyed."""

    @property
    def known(self) -> int:
        """How many directives are known."""

    @property
    def buckets(self) -> int:
        """How many rates are in use."""

    @property
    def shared_trouble(self) -> str | None:
        """Why rates are not shared."""

    def in_force(self) -> list[Directive]:
        """Return what is obeyed now."""


class Pages:
    """Makes the pages of a gate."""

    def __init__(self, gate: Shown) -> None:
        self._gate = gate
        self._pages = {
            "/healthz": Page(lambda: text(200, "ok")),
            "/readyz": Page(self._ready),
            "/v1/directives": Page(self._directives, secret=True),
            "/metrics": Page(self._metrics),
            "/openapi.json": Page(lambda: Answer(200, encode(description()))),
        }

    @property
    def listed(self) -> list[str]:
        """What can be asked, for whoever asked something else."""
        return ["POST /v1/decide", *(f"GET {page}" for page in self._pages)]

    def get(self, path: str) -> Page | None:
        """Return the page at a path, if there is one."""
        return self._pages.get(path)

    def _ready(self) -> Answer:
        gate = self._gate
        trouble = [f"the last try failed: {gate.trouble}"] if gate.trouble else []
        if gate.shared_trouble:
            trouble.append(f"shared rates: {gate.shared_trouble}")
        if not gate.opened:
            first = "the directives were not read yet: everything is allowed"
            return text(503, *[first, *trouble])
        return text(200, *["ok", self._lease_line(), *trouble])

    def _lease_line(self) -> str:
        gate = self._gate
        if gate.beat is None:
            return "lease: none, the daemon gave no sign yet; open directives are not obeyed"
        age_s = gate.lease_age_s
        if gate.lease_is_fresh:
            return f"lease: fresh, the daemon's last sign is {age_s:.0f} s old"
        return (
            f"lease: over, the daemon's last sign is {age_s:.0f} s old;"
            " open directives are not obeyed"
        )

    def _directives(self) -> Answer:
        gate, found = self._gate, self._gate.in_force()
        beat = gate.beat
        said = {
            "read": gate.opened,
            "now": gate.now,
            "lease": beat
            and {
                "sent_at": beat.sent_at,
                "until": beat.lease_until,
                "age_s": gate.lease_age_s,
                "fresh": gate.lease_is_fresh,
            },
            "known": gate.known,
            "in_force": len(found),
            "directives": found[:MAX_LISTED],
        }
        return Answer(200, encode(said))

    def _metrics(self) -> Answer:
        gate = self._gate
        telemetry.GATE_DIRECTIVES.set(len(gate.in_force()))
        if gate.beat is not None:
            telemetry.GATE_LEASE_AGE.set(gate.lease_age_s)
        telemetry.GATE_READY.set(gate.opened)
        telemetry.GATE_BUCKETS.set(gate.buckets)
        return Answer(200, telemetry.exposition(telemetry.GATE_REGISTRY), METRICS)
