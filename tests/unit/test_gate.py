"""The gate without Kafka: board, buckets, decisions, pages, and the follower of a made-up topic."""

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor import telemetry
from governor.core.directives import (
    Directive,
    Effect,
    Heartbeat,
    WireCondition,
    decode,
    encode,
    unwire,
)
from governor.core.errors import TransientError
from governor.core.rules.actions import Fail
from governor.gate.app import Gate
from governor.gate.board import MAX_KEYS, Board
from governor.gate.buckets import SECOND_NS, Bucket, Buckets
from governor.gate.decide import ALLOW, Decision, drawn, look
from governor.gate.follow import Follower, News
from governor.gate.reading import MAX_BODY_BYTES

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LEASE = timedelta(seconds=30)
FREE = {"tier": WireCondition(values=("free",))}
TEMPLATE = Directive(
    id="d",
    version=1,
    effect=Effect.THROTTLE,
    rule="free-tier",
    action="slow",
    reason="free-tier is at 110% of 400 USD",
    scope=FREE,
    issued_at=NOW,
    until=NOW + timedelta(hours=6),
    rate_requests=2,
    rate_span_s=60,
)


def directive(**changes: Any) -> Directive:
    return msgspec.structs.replace(TEMPLATE, **changes)


def heartbeat(at: datetime = NOW, version: int = 100) -> Heartbeat:
    return Heartbeat(version=version, sent_at=at, lease_until=at + LEASE)


class Known:
    """A board and the lease beside it, at times that the test gives."""

    def __init__(self, limit: int) -> None:
        self.board = Board(limit)
        self.lease_until: datetime | None = None
        self._version = 0

    def take(self, records: Sequence[Directive | Heartbeat], now: datetime) -> None:
        self.board.take([each for each in records if isinstance(each, Directive)], now)
        for beat in records:
            if isinstance(beat, Heartbeat) and beat.version >= self._version:
                self._version, self.lease_until = beat.version, beat.lease_until

    def __len__(self) -> int:
        return len(self.board)

    def in_force(self, now: datetime) -> list[Directive]:
        return list(self.board.in_force(now, self.lease_until))


def board_of(*records: Directive | Heartbeat, limit: int = 1000, now: datetime = NOW) -> Known:
    known = Known(limit)
    known.take(records, now)
    return known


def held(known: Known, dimensions: Mapping[str, str | None], now: datetime = NOW) -> list[str]:
    return [each.id for each in known.board.holding(dimensions, now, known.lease_until)]


def decide(
    known: Known,
    buckets: Buckets,
    dimensions: Mapping[str, str | None],
    now: datetime,
    now_ns: int,
) -> Decision:
    """Decide as the gate does."""
    found, _ = look(known.board, dimensions, now, known.lease_until)
    return found.decision(drawn(found.throttles, buckets, dimensions, now, now_ns), now)


# ------------------------------------------------------------------------------------- the board


def test_a_throttle_holds_for_its_scope() -> None:
    """A request is meant where every condition holds; a dimension left out is missing."""
    scope = FREE | {"model": WireCondition(like=("gpt-*",))}
    board = board_of(heartbeat(), directive(scope=scope))
    assert held(board, {"tier": "free", "model": "gpt-4o"}) == ["d"]
    assert held(board, {"tier": "free", "model": "claude"}) == []
    assert held(board, {"tier": "paid", "model": "gpt-4o"}) == []
    assert held(board, {"tier": "free"}) == []


def test_the_strictest_comes_first() -> None:
    """Of several that hold the lowest rate is first, and of equal rates the smallest burst."""
    board = board_of(
        heartbeat(),
        directive(id="minute", rate_requests=60, rate_span_s=60),
        directive(id="second", rate_requests=1, rate_span_s=1),
        directive(id="hour", rate_requests=10, rate_span_s=3600, scope={}),
    )
    assert held(board, {"tier": "free"}) == ["hour", "second", "minute"]


def test_the_newest_version_holds() -> None:
    """An older version of a directive is ignored, in whatever order the two come."""
    for versions in ((1, 2), (2, 1)):
        records = [directive(version=v, rate_requests=v) for v in versions]
        known = board_of(heartbeat(), *records)
        (throttle,) = known.board.holding({"tier": "free"}, NOW, known.lease_until)
        assert throttle.version == 2


def test_a_release_ends_a_throttle() -> None:
    """A release frees at once, and an older throttle that comes after it does not bring it back."""
    board = board_of(heartbeat(), directive(version=3))
    board.take([directive(version=4, effect=Effect.RELEASE)], NOW)
    assert held(board, {"tier": "free"}) == []
    board.take([directive(version=3)], NOW)
    assert held(board, {"tier": "free"}) == []
    board.take([directive(version=5)], NOW)
    assert held(board, {"tier": "free"}) == ["d"]


def test_a_new_scope_replaces_the_old() -> None:
    """A newer version with another scope holds there and no longer where the older one held."""
    paid = {"tier": WireCondition(values=("paid", "trial"))}
    board = board_of(heartbeat(), directive(), directive(version=2, scope=paid))
    assert held(board, {"tier": "free"}) == []
    assert held(board, {"tier": "trial"}) == ["d"]


@pytest.mark.parametrize(
    ("fail", "after", "holds"),
    [
        (Fail.OPEN, timedelta(seconds=29), True),
        (Fail.OPEN, LEASE, False),
        (Fail.CLOSED, LEASE, True),
        (Fail.CLOSED, timedelta(hours=6) - timedelta(microseconds=1), True),
        (Fail.CLOSED, timedelta(hours=6), False),
    ],
)
def test_open_needs_a_lease_and_closed_an_end(fail: Fail, after: timedelta, *, holds: bool) -> None:
    """An open directive holds while the lease is fresh, a closed one until its own end."""
    board = board_of(heartbeat(), directive(fail=fail))
    assert bool(held(board, {"tier": "free"}, NOW + after)) is holds


def test_without_any_heartbeat() -> None:
    """A gate that has seen no heartbeat obeys closed directives and no open ones."""
    board = board_of(directive(id="open"), directive(id="closed", fail=Fail.CLOSED))
    assert held(board, {"tier": "free"}) == ["closed"]


def test_a_heartbeat_moves_the_lease() -> None:
    """A heartbeat renews every open directive at once; one of an older daemon does not."""
    board = board_of(heartbeat(), directive())
    later = NOW + timedelta(minutes=1)
    assert held(board, {"tier": "free"}, later) == []
    board.take([heartbeat(later, version=99)], later)
    assert held(board, {"tier": "free"}, later) == []
    board.take([heartbeat(later)], later)
    assert held(board, {"tier": "free"}, later) == ["d"]


def test_what_has_ended_is_forgotten() -> None:
    """A directive past its end takes no room, be it new or known."""
    board = board_of(heartbeat(), directive(until=NOW), directive(id="e"))
    assert len(board) == 1
    board.take([], NOW + timedelta(hours=6))
    assert len(board) == 0


def test_the_board_has_a_limit() -> None:
    """Beyond the limit a new directive is dropped and counted; known ones can still change."""
    before = ignored("full")
    board = board_of(heartbeat(), *(directive(id=str(n)) for n in range(5)), limit=3)
    assert len(board) == 3
    assert ignored("full") == before + 2
    board.take([directive(id="0", version=2, effect=Effect.RELEASE)], NOW)
    assert held(board, {"tier": "free"}) == ["1", "2"]


def test_an_unknown_dimension_is_not_obeyed() -> None:
    """A directive about a dimension of a newer daemon is counted and left alone, never widened."""
    before = ignored("not_understood")
    strange = {"planet": WireCondition(values=("mars",), not_=True)}
    board = board_of(heartbeat(), directive(scope=strange), directive(id="e", each="planet"))
    assert held(board, {}) == []
    assert ignored("not_understood") == before + 2


values = st.sampled_from(["a", "b", "c", "d"])
conditions = st.builds(
    WireCondition,
    values=st.lists(values, max_size=4, unique=True).map(tuple),
    like=st.lists(st.sampled_from(["a*", "*", "?"]), max_size=1).map(tuple),
    not_=st.booleans(),
)
scopes = st.dictionaries(st.sampled_from(["customer", "tier", "model"]), conditions, max_size=3)
requests = st.dictionaries(
    st.sampled_from(["customer", "tier", "model", "team"]), st.none() | values, max_size=4
)


@given(st.lists(st.tuples(scopes, scopes), max_size=6), requests)
def test_the_index_finds_what_a_scan_finds(
    pairs: list[tuple[dict[str, WireCondition], dict[str, WireCondition]]],
    request: dict[str, str | None],
) -> None:
    """Those that hold are those that are meant, whatever the scopes, also after a replacement."""
    board = board_of(heartbeat())
    for number, (first, then) in enumerate(pairs):
        board.take([directive(id=str(number), scope=first)], NOW)
        board.take([directive(id=str(number), scope=then, version=2)], NOW)
    expected = [str(n) for n, (_, then) in enumerate(pairs) if unwire(then).holds(request)]
    assert sorted(held(board, request)) == sorted(expected)


def test_many_values_do_not_multiply() -> None:
    """A scope of three times a thousand values takes a thousand keys, not a billion."""
    many = tuple(str(n) for n in range(1000))
    scope = {name: WireCondition(values=many) for name in ("customer", "user", "team")}
    board = board_of(heartbeat(), directive(scope=scope))
    assert held(board, {"customer": "7", "user": "8", "team": "9"}) == ["d"]
    assert held(board, {"customer": "7", "user": "8", "team": "x"}) == []
    few = tuple(str(n) for n in range(MAX_KEYS + 1))
    board = board_of(heartbeat(), directive(scope={"tier": WireCondition(values=few)}))
    assert held(board, {"tier": str(MAX_KEYS)}) == ["d"]


def test_times_need_a_zone() -> None:
    """A record with a time without a zone is not readable: a gate could not compare it."""
    for record in (directive(until=NOW.replace(tzinfo=None)), heartbeat(NOW.replace(tzinfo=None))):
        assert decode(*encode(record)) is None
    assert decode(*encode(directive())) == TEMPLATE


@pytest.mark.parametrize(
    "value", [b'{"x": ' + b"[" * 100_000, b'{"id": "\xff"}', b"{}", b"7", b'{"version": 1e400}']
)
def test_what_cannot_be_read_is_no_record(value: bytes) -> None:
    """Whatever lies on the topic, reading it gives None and never an error."""
    assert decode(b"directive:d", value) is None
    assert decode(b"heartbeat", value) is None


# ------------------------------------------------------------------------------------ the buckets


@given(
    requests=st.integers(1, 20),
    span_s=st.sampled_from([1, 7, 60, 3600]),
    gaps_ns=st.lists(st.integers(0, 90 * SECOND_NS), min_size=1, max_size=80),
)
def test_never_more_than_burst_and_rate(requests: int, span_s: int, gaps_ns: list[int]) -> None:
    """In no window of time are more let through than one burst and what its length brings."""
    buckets, bucket = Buckets(), Bucket("d", None, requests, span_s * SECOND_NS)
    now_ns, drawn = 5, []
    for gap_ns in gaps_ns:
        now_ns += gap_ns // requests
        if buckets.wait_ns(bucket, now_ns) == 0:
            buckets.draw(bucket, now_ns)
            drawn.append(now_ns)
    for first, start_ns in enumerate(drawn):
        for last in range(first, len(drawn)):
            length_ns = drawn[last] - start_ns
            most = requests + Fraction(requests * length_ns, bucket.span_ns)
            assert last - first + 1 <= most


@given(requests=st.integers(1, 20), span_s=st.sampled_from([1, 7, 60]), late_ns=st.integers(0, 10))
def test_the_wait_is_exact(requests: int, span_s: int, late_ns: int) -> None:
    """After a burst the wait that is told is enough, and one nanosecond less is not."""
    buckets, bucket = Buckets(), Bucket("d", None, requests, span_s * SECOND_NS)
    for _ in range(requests):
        assert buckets.wait_ns(bucket, 0) == 0
        buckets.draw(bucket, 0)
    wait_ns = buckets.wait_ns(bucket, late_ns)
    assert wait_ns + late_ns == -(-bucket.span_ns // requests)
    assert buckets.wait_ns(bucket, late_ns + wait_ns - 1) == 1
    assert buckets.wait_ns(bucket, late_ns + wait_ns) == 0


def test_buckets_have_a_limit() -> None:
    """The one not asked for longest is forgotten first, counted, and then full again."""
    counter = "governor_gate_buckets_forgotten_total"
    before = telemetry.GATE_REGISTRY.get_sample_value(counter) or 0
    buckets = Buckets(limit=2)
    first, second, third = (Bucket("d", name, 1, SECOND_NS) for name in "abc")
    buckets.draw(first, 0)
    buckets.draw(second, 0)
    assert buckets.wait_ns(first, 0) > 0  # a refused one is asked for, too
    buckets.draw(third, 0)
    assert len(buckets) == 2
    assert buckets.wait_ns(first, 0) > 0
    assert buckets.wait_ns(second, 0) == 0
    assert telemetry.GATE_REGISTRY.get_sample_value(counter) == before + 1


# ---------------------------------------------------------------------------------- the decisions


def test_nothing_holds() -> None:
    """Where no directive holds the answer is allow and nothing else."""
    found = decide(board_of(heartbeat(), directive()), Buckets(), {"tier": "paid"}, NOW, 0)
    assert found == Decision(decision="allow")
    assert msgspec.json.encode(found) == b'{"decision":"allow"}'


def test_a_throttle_lets_its_rate_through() -> None:
    """Two a minute: two now, then one every half minute; each answer says by what and why."""
    board, buckets = board_of(heartbeat(), directive(fail=Fail.CLOSED)), Buckets()
    seconds = (0, 0, 0, 17, 30, 30)
    found = [
        decide(board, buckets, {"tier": "free"}, NOW + timedelta(seconds=s), s * SECOND_NS)
        for s in seconds
    ]
    assert [one.allowed for one in found] == [True, True, False, False, True, False]
    assert [one.retry_after_s for one in found] == [None, None, 30.0, 13.0, None, 30.0]
    assert msgspec.to_builtins(found[2]) == {
        "decision": "throttle",
        "allowed": False,
        "rate": "2/min",
        "reason": "free-tier is at 110% of 400 USD",
        "rule": "free-tier",
        "directive": "d",
        "until": "2026-11-24T15:00:00Z",
        "retry_after_s": 30.0,
    }


def test_each_value_has_its_own_rate() -> None:
    """With `each` one customer does not use up another's; those that do not say share one."""
    board, buckets = board_of(heartbeat(), directive(each="customer", rate_requests=1)), Buckets()
    asked = ["acme", "acme", "hooli", None, None]
    allowed = [
        decide(board, buckets, {"tier": "free", "customer": customer}, NOW, 0).allowed
        for customer in asked
    ]
    assert allowed == [True, False, True, True, False]


def test_every_throttle_must_let_it_through() -> None:
    """A request that one throttle refuses draws from none, and the one to wait for is named."""
    board = board_of(
        heartbeat(),
        directive(id="each", each="customer", rate_requests=1, rate_span_s=60),
        directive(id="all", rate_requests=2, rate_span_s=60),
    )
    buckets = Buckets()
    found = [
        decide(board, buckets, {"tier": "free", "customer": customer}, NOW, 0)
        for customer in ("a", "a", "b", "c", "c")
    ]
    assert [one.allowed for one in found] == [True, False, True, False, False]
    assert [one.directive for one in found] == ["each", "each", "each", "all", "all"]


def test_a_rate_of_zero_refuses_until_the_end() -> None:
    """Nothing is let through, and the wait is what is left of the directive."""
    board = board_of(heartbeat(), directive(rate_requests=0))
    found = decide(board, Buckets(), {"tier": "free"}, NOW, 0)
    assert (found.allowed, found.rate, found.retry_after_s) == (False, "0/min", 6 * 3600.0)


def test_nobody_waits_past_the_end() -> None:
    """A directive that ends before its bucket has filled is not waited for any longer."""
    board, buckets = board_of(heartbeat(), directive(until=NOW + timedelta(seconds=5))), Buckets()
    found = [decide(board, buckets, {"tier": "free"}, NOW, 0) for _ in range(3)]
    assert found[2].retry_after_s == 5.0


# -------------------------------------------------------------------------------------- the pages


class Site:
    """The gate in process, at a time that the test sets."""

    def __init__(self, *records: Directive | Heartbeat) -> None:
        self.now = NOW
        self.gate = Gate(now=lambda: self.now, monotonic_ns=self.steady_ns)
        if records:
            self.gate.learn(News(records, caught_up=True))

    def steady_ns(self) -> int:
        return (self.now - NOW) // timedelta(microseconds=1) * 1_000

    def ask(
        self,
        body: bytes | Mapping[str, object] = b"",
        *,
        method: str = "POST",
        path: str = "/v1/decide",
        headers: Mapping[str, str] | None = None,
        parts: int = 1,
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, body (read where it is JSON) and headers."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json"} | dict(headers or {})
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        }
        size = -(-len(content) // parts) or 1
        pieces = [content[n : n + size] for n in range(0, len(content), size)] or [b""]
        coming = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        coming[-1]["more_body"] = False
        sent: list[Any] = []

        async def receive() -> Any:
            return coming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.gate(scope, receive, send))
        start, end = sent
        got = {k.decode(): v.decode() for k, v in start["headers"]}
        assert got["content-length"] == str(len(end["body"]))
        is_json = got["content-type"] == "application/json"
        return start["status"], json.loads(end["body"]) if is_json else end["body"].decode(), got


def test_a_decision_is_always_200() -> None:
    """Allowed, let through or refused: the question was answered."""
    site = Site(heartbeat(), directive(rate_requests=1))
    assert site.ask({"tier": "paid"})[:2] == (200, {"decision": "allow"})
    assert site.ask({"tier": "free"}, parts=3)[1]["allowed"] is True
    status, found, _ = site.ask({"tier": "free"})
    assert (status, found["allowed"], found["retry_after_s"]) == (200, False, 60.0)


def test_null_and_nothing_are_missing() -> None:
    """A dimension may be null or left out; an empty object asks about a request of no kind."""
    site = Site(heartbeat(), directive(scope={"tier": WireCondition(like=("*",), not_=True)}))
    for body in ({}, {"tier": None}):
        assert site.ask(body)[1]["decision"] == "throttle"
    assert site.ask({"tier": "free"})[1] == {"decision": "allow"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"teir": "free"}', "unknown dimension 'teir' (did you mean 'tier'?)"),
        (b'{"tags": null}', "unknown dimension 'tags' (known: customer, user, tier,"),
        (b'{"teir": 3, "tier": 4}', "unknown dimension 'teir'"),
        (b'{"tier": 3}', "tier must be a text or null"),
        (b'{"tier": ["free"]}', "tier must be a text or null"),
        (json.dumps({"user": "x" * 257}).encode(), "user has 257 characters; at most 256"),
        (b'["tier"]', "the body must be an object of dimensions"),
        (b"", "the body is not JSON"),
        (b'{"tier": "free"', "the body is not JSON"),
        (b'{"tier": "\xff"}', "the body is not JSON"),
        (b"[" * 5000, "the body is not JSON"),
    ],
)
def test_a_wrong_body_is_400(body: bytes, said: str) -> None:
    """What is wrong is said, by the name of the dimension."""
    status, found, _ = Site(heartbeat()).ask(body)
    assert status == 400
    assert found["error"].startswith(said)


def test_256_characters_are_taken() -> None:
    """The limit counts characters and not bytes."""
    assert Site(heartbeat()).ask({"user": "ü" * 256})[0] == 200


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        (404, {"path": "/v1/decisions"}),
        (405, {"method": "GET"}),
        (405, {"method": "POST", "path": "/readyz"}),
        (413, {"body": b" " * (MAX_BODY_BYTES + 1), "parts": 4}),
        (413, {"headers": {"content-length": "99999"}}),
        (415, {"headers": {"content-type": "text/plain"}}),
        (415, {"headers": {"content-type": ""}}),
        (415, {"headers": {"content-encoding": "gzip"}}),
    ],
)
def test_a_wrong_request_says_so(status: int, asked: dict[str, Any]) -> None:
    """Each has its status, an error in JSON, and is heard no further."""
    found, body, headers = Site(heartbeat()).ask(**asked)
    assert found == status
    assert body.keys() == {"error"}
    assert headers.get("connection") == (None if status == 404 else "close")
    assert headers.get("allow") == {405: "POST" if "path" not in asked else "GET, HEAD"}.get(status)


def test_before_the_topic_was_read() -> None:
    """Everything is allowed, however much is known, and /readyz says so with the last trouble."""
    site = Site()
    site.gate.learn(News((directive(fail=Fail.CLOSED),), trouble="Kafka at k:1: nobody answers"))
    assert site.ask({"tier": "free"})[1] == {"decision": "allow"}
    status, text, _ = site.ask(method="GET", path="/readyz")
    assert status == 503
    assert text == (
        "the directives were not read yet: everything is allowed\n"
        "the last try failed: Kafka at k:1: nobody answers\n"
    )
    assert site.ask(method="GET", path="/v1/directives")[1]["directives"] == []
    assert site.ask(method="GET", path="/healthz")[:2] == (200, "ok\n")
    site.gate.learn(News((), caught_up=True))
    assert site.ask({"tier": "free"})[1]["decision"] == "throttle"


def test_ready_says_how_the_lease_is() -> None:
    """A lease that is over is said, and is no reason to be unready; nor is a later trouble."""
    site = Site(directive())
    assert site.ask(method="GET", path="/readyz")[1].startswith("ok\nlease: none")
    site.gate.learn(News((heartbeat(),), caught_up=True))
    assert "fresh, the daemon's last sign is 0 s old" in site.ask(method="GET", path="/readyz")[1]
    site.now = NOW + timedelta(seconds=40)
    site.gate.learn(News(trouble="nobody answers"))
    status, text, _ = site.ask(method="GET", path="/readyz")
    assert status == 200
    assert "lease: over, the daemon's last sign is 40 s old" in text
    assert "the last try failed: nobody answers" in text


def test_what_holds_is_listed() -> None:
    """The page lists what is obeyed now, with the age of the lease."""
    site = Site(heartbeat(), directive(), directive(id="c", fail=Fail.CLOSED))
    site.now = NOW + timedelta(seconds=31)
    status, found, _ = site.ask(method="GET", path="/v1/directives")
    assert status == 200
    assert (found["known"], found["in_force"], found["lease"]["age_s"]) == (2, 1, 31.0)
    assert found["lease"]["fresh"] is False
    assert [one["id"] for one in found["directives"]] == ["c"]
    assert msgspec.convert(found["directives"][0], Directive) == directive(id="c", fail=Fail.CLOSED)


def test_decisions_are_counted() -> None:
    """The metrics count decisions by kind, and tell directives, buckets and the lease's age."""
    before = {kind: decisions(kind) for kind in ("allow", "throttle_allowed", "throttle_refused")}
    site = Site(heartbeat(), directive(rate_requests=1))
    for tier in ("paid", "free", "free", "free"):
        site.ask({"tier": tier})
    site.now += timedelta(seconds=7)
    text = site.ask(method="GET", path="/metrics")[1]
    grown = {kind: decisions(kind) - count for kind, count in before.items()}
    assert grown == {"allow": 1, "throttle_allowed": 1, "throttle_refused": 2}
    for line in ("directives 1.0", "lease_age_seconds 7.0", "buckets 1.0", "ready 1.0"):
        assert f"\ngovernor_gate_{line}\n" in text
    assert "governor_ingest_paused" not in text  # a zero of the daemon would mislead


def decisions(kind: str) -> float:
    found = telemetry.GATE_REGISTRY.get_sample_value(
        "governor_gate_decisions_total", {"decision": kind}
    )
    return found or 0.0


def ignored(reason: str) -> float:
    found = telemetry.GATE_REGISTRY.get_sample_value(
        "governor_gate_records_ignored_total", {"reason": reason}
    )
    return found or 0.0


# ----------------------------------------------------------------------------------- the follower


class Script:
    """A topic made of what each poll gives; it stops the follower at the end."""

    def __init__(
        self, stop: threading.Event, *polls: list[Directive | Heartbeat] | Exception
    ) -> None:
        self._stop = stop
        self._polls = list(polls)
        self.caught_up = False
        self.unreadable = 0
        self.closed = False

    def poll(self, timeout_ms: int) -> list[Directive | Heartbeat]:  # noqa: ARG002
        found = self._polls.pop(0)
        if not self._polls:
            self._stop.set()
        if isinstance(found, Exception):
            raise found
        self.caught_up = True
        self.unreadable += 1
        return found

    def close(self) -> None:
        self.closed = True


def test_the_follower_goes_on_after_any_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is told and tried again after, also one that nobody foresaw; nothing is raised."""
    monkeypatch.setattr("governor.gate.follow.FIRST_PAUSE_S", 0.001)
    stop, told = threading.Event(), []
    before = ignored("unreadable")
    polls = [TransientError("away"), ZeroDivisionError("odd"), [heartbeat()], []]
    reader = Script(stop, *polls)
    Follower(reader, told.append).run(stop)
    assert told == [
        News(trouble="away"),
        News(trouble="ZeroDivisionError('odd')"),
        News((heartbeat(),), caught_up=True),
        News(caught_up=True),
    ]
    assert reader.closed
    assert ignored("unreadable") == before + 2


def test_allow_is_one_value() -> None:
    """The answer to most questions is not built anew."""
    assert decide(board_of(), Buckets(), {}, NOW, 0) is ALLOW
