from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from governor.core.alerts import Alert, AlertKey, Ending, Phase, end, step
from governor.core.directives import (
    Directive,
    Effect,
    Heartbeat,
    WireCondition,
    decode,
    encode,
    newest_by_key,
    unwire,
    wire,
)
from governor.core.enforcement import Issue, directives_for, released, scope_of
from governor.core.periods import Calendar, Every
from governor.core.rules.actions import Action, Fail, Rate
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Level, Mode, Threshold
from governor.core.rules.units import Measure
from governor.core.scopes import DIMENSIONS, Condition, Scope

MONTH = Calendar(Every.MONTH, "UTC")
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PERIOD = MONTH.period(NOW)
MINUTE = timedelta(minutes=1)
KEY = AlertKey("growth", ("acme",), PERIOD)

SLOW = Action(name="slow", rate=Rate(10, MINUTE), each="user", fail=Fail.OPEN)
STOP = Action(name="stop", rate=Rate(0, MINUTE), each=None, fail=Fail.CLOSED)


def budget(**changes: object) -> Budget:
    rule = Budget(
        id="growth",
        owner="finops",
        summary="",
        measure=Measure.REQUESTS,
        limit=100,
        limit_text="100 requests",
        calendar=MONTH,
        thresholds=(
            Threshold("50%", 50, Level.INFO),
            Threshold("80%", 80, Level.WARNING, ("slow",)),
            Threshold("100%", 100, Level.CRITICAL, ("slow", "stop")),
        ),
        where=Scope((Condition("tier", frozenset({"free", "trial"})),)),
        per=("customer",),
        mode=Mode.ENFORCE,
        actions={"slow": SLOW, "stop": STOP},
    )
    return replace(rule, **changes)


def alert(amount: int, rule: Budget | None = None) -> Alert:
    state, _ = step(None, KEY, amount, rule or budget(), NOW)
    assert state is not None
    return state


def issue(first: int = 1, now: datetime = NOW) -> Issue:
    return Issue(count(first), now, {"usage/0": "17"})


def directive(**changes: object) -> Directive:
    (first,) = directives_for(alert(80), budget(), [], issue())
    return msgspec.structs.replace(first, **changes)


def said(directives: list[Directive]) -> list[tuple[str, Effect, int]]:
    return [(each.action, each.effect, each.version) for each in directives]


def test_a_directive() -> None:
    """A directive names its rule, alert, reason, usage, rate, end and the records behind it."""
    assert directives_for(alert(80), budget(), [], issue(7)) == [
        Directive(
            id=f"{KEY.id}-slow",
            version=7,
            effect=Effect.THROTTLE,
            rule="growth",
            action="slow",
            reason="80 requests of 100 requests used in 2026-03",
            scope={
                "tier": WireCondition(values=("free", "trial")),
                "customer": WireCondition(values=("acme",)),
            },
            issued_at=NOW,
            until=PERIOD.end,
            rate_requests=10,
            rate_span_s=60,
            each="user",
            fail=Fail.OPEN,
            alert=KEY.id,
            episode=1,
            evidence={"usage/0": "17"},
        )
    ]


@pytest.mark.parametrize(
    ("amount", "actions"),
    [(50, []), (80, ["slow"]), (100, ["slow", "stop"]), (900, ["slow", "stop"])],
)
def test_what_thresholds_call_for(amount: int, actions: list[str]) -> None:
    """Every action of every threshold reached is issued once, with versions that rise."""
    issued = directives_for(alert(amount), budget(), [], issue(5))
    assert said(issued) == [(name, Effect.THROTTLE, 5 + n) for n, name in enumerate(actions)]


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.NOTIFY])
def test_only_enforce_acts(mode: Mode) -> None:
    """In every other mode nothing is issued, and what stands is released."""
    rule = budget(mode=mode)
    standing = directives_for(alert(100), budget(), [], issue())
    assert directives_for(alert(100, rule), rule, [], issue()) == []
    issued = directives_for(alert(100, rule), rule, standing, issue(3))
    assert said(issued) == [("slow", Effect.RELEASE, 3), ("stop", Effect.RELEASE, 4)]
    assert directives_for(alert(100, rule), rule, issued, issue(5)) == []


def test_what_is_over_is_released() -> None:
    """An alert that ended, or whose rule is gone, holds nobody back; a pending one never did."""
    standing = directives_for(alert(80), budget(), [], issue())
    over, _ = end(alert(80), Ending.PERIOD_ENDED, NOW)
    assert said(directives_for(over, budget(), standing, issue(2))) == [("slow", Effect.RELEASE, 2)]
    assert said(directives_for(alert(80), None, standing, issue(2))) == [
        ("slow", Effect.RELEASE, 2)
    ]
    waiting = budget(hold=MINUTE)
    assert alert(80, waiting).phase is Phase.PENDING
    assert directives_for(alert(80, waiting), waiting, [], issue()) == []


def test_an_action_taken_from_the_rule_is_released() -> None:
    """What the thresholds reached no longer call for ends; what they still do stays."""
    standing = directives_for(alert(100), budget(), [], issue())
    milder = budget(thresholds=(*budget().thresholds[:2], Threshold("100%", 100, Level.CRITICAL)))
    issued = directives_for(alert(100, milder), milder, standing, issue(3))
    assert said(issued) == [("stop", Effect.RELEASE, 3)]


@pytest.mark.parametrize(
    "changed",
    [
        budget(actions={"slow": replace(SLOW, rate=Rate(11, MINUTE)), "stop": STOP}),
        budget(actions={"slow": replace(SLOW, rate=Rate(10, 2 * MINUTE)), "stop": STOP}),
        budget(actions={"slow": replace(SLOW, each=None), "stop": STOP}),
        budget(actions={"slow": replace(SLOW, fail=Fail.CLOSED), "stop": STOP}),
        budget(where=Scope((Condition("tier", frozenset({"free"})),))),
    ],
)
def test_a_changed_throttle_is_issued_again(changed: Budget) -> None:
    """Another rate, span, share, failure or scope is a new version of the same directive."""
    standing = directives_for(alert(80), budget(), [], issue())
    (again,) = directives_for(alert(80), changed, standing, issue(2))
    assert (again.id, again.version, again.effect) == (standing[0].id, 2, Effect.THROTTLE)
    assert directives_for(alert(80), changed, [again], issue(3)) == []


def test_more_usage_is_no_new_directive() -> None:
    """That an amount, the time, a summary or the evidence moved on changes no directive."""
    standing = directives_for(alert(80), budget(), [], issue())
    later = Issue(count(2), NOW + MINUTE, {"usage/0": "99"})
    assert directives_for(alert(95), budget(summary="new"), standing, later) == []


def test_a_manual_release_holds() -> None:
    """What a person released stays so, whatever rises or is edited, until the next period."""
    (standing,) = directives_for(alert(80), budget(), [], issue())
    freed = released(standing, issue(2), reason="a launch", by="ada")
    assert (freed.effect, freed.released_by, freed.reason) == (Effect.RELEASE, "ada", "a launch")
    assert not freed.holds_at(NOW, NOW + MINUTE)
    faster = budget(actions={"slow": replace(SLOW, rate=Rate(99, MINUTE)), "stop": STOP})
    quiet = budget(mode=Mode.NOTIFY)
    assert directives_for(alert(80), budget(), [freed], issue(3)) == []
    assert directives_for(alert(80), faster, [freed], issue(3)) == []
    assert directives_for(alert(80, quiet), quiet, [freed], issue(3)) == []
    assert said(directives_for(alert(100), budget(), [freed], issue(3))) == [
        ("stop", Effect.THROTTLE, 3)
    ]
    following = replace(KEY, period=MONTH.period(PERIOD.end))
    fresh, _ = step(None, following, 80, budget(), PERIOD.end)
    assert fresh is not None
    (anew,) = directives_for(fresh, budget(), [], issue(3))
    assert anew.id != freed.id


def test_a_release_by_the_rule_does_not_last() -> None:
    """What was released because the rule only notified is issued again once it enforces."""
    quiet = budget(mode=Mode.NOTIFY)
    standing = directives_for(alert(80), budget(), [], issue())
    freed = directives_for(alert(80, quiet), quiet, standing, issue(2))
    assert said(directives_for(alert(80), budget(), freed, issue(3))) == [
        ("slow", Effect.THROTTLE, 3)
    ]


situations = st.tuples(
    st.sampled_from([10, 50, 80, 100, 500]),
    st.builds(
        lambda mode, requests, limit: budget(
            mode=mode,
            actions={"slow": replace(SLOW, rate=Rate(requests, MINUTE)), "stop": STOP},
            thresholds=tuple(
                replace(threshold, amount=threshold.amount * limit)
                for threshold in budget().thresholds
            ),
        ),
        st.sampled_from(Mode),
        st.sampled_from([1, 10]),
        st.sampled_from([1, 2]),
    ),
    st.booleans(),
    st.booleans(),
)


def settle(
    state: Alert, rule: Budget | None, standing: dict[str, Directive], versions: Iterator[int]
) -> list[Directive]:
    """Issue what is asked for, hold it to what it must be, and let it stand."""
    before = max((each.version for each in standing.values()), default=0)
    issued = directives_for(state, rule, list(standing.values()), Issue(versions, NOW, {}))
    given_out = [each.version for each in issued]
    assert given_out == sorted(set(given_out))
    assert all(version > before for version in given_out)
    assert len({each.id for each in issued}) == len(issued)
    standing |= {each.id: each for each in issued}
    assert directives_for(state, rule, list(standing.values()), Issue(versions, NOW, {})) == []
    return issued


@settings(deadline=None, max_examples=150)
@given(st.lists(situations, max_size=8))
def test_how_things_stand_decides(found: list[tuple[int, Budget, bool, bool]]) -> None:
    """After whatever came before: asking twice changes nothing, and what holds is what is due.

    That is what a daemon that starts with nothing standing would issue, less what people released.
    """
    standing: dict[str, Directive] = {}
    versions, freed = count(1), set()
    for amount, rule, gone, by_hand in found:
        state, _ = step(None, KEY, amount, rule, NOW)
        if state is None:
            continue
        known = None if gone else rule
        settle(state, known, standing, versions)
        due = {each.id: each for each in directives_for(state, known, [], issue())}
        holding = {i: each for i, each in standing.items() if each.effect is Effect.THROTTLE}
        assert holding.keys() == due.keys() - freed
        assert all(each.rate_requests == due[i].rate_requests for i, each in holding.items())
        if by_hand and holding:
            name = min(holding)
            free = released(holding[name], Issue(versions, NOW, {}), reason="x", by="ada")
            standing[name] = free
            freed.add(name)


values = st.sampled_from([None, "", "a", "ab", "b", "a\n", "*", "[a]"])
used = st.fixed_dictionaries(dict.fromkeys(DIMENSIONS[:4], values))
conditions = st.builds(
    Condition,
    st.sampled_from(DIMENSIONS[:4]),
    st.frozensets(values.filter(lambda value: value is not None), max_size=3),
    st.lists(st.sampled_from(["*", "a*", "?", "[!a]*", ""]), max_size=2).map(tuple),
    st.booleans(),
)
scopes = st.lists(conditions, max_size=3, unique_by=lambda c: c.dimension).map(
    lambda drawn: Scope(tuple(drawn))
)


@settings(deadline=None, max_examples=300)
@given(scopes, st.lists(st.sampled_from(DIMENSIONS[:4]), unique=True, max_size=3), used, used)
def test_the_scope_of_a_group(
    where: Scope, per: list[str], seen: dict[str, str | None], asked: dict[str, str | None]
) -> None:
    """A throttle is for exactly the usage that the group is made of, also over the wire."""
    assume(where.holds(seen))
    rule = budget(where=where, per=tuple(per))
    scope = scope_of(rule, tuple(seen[name] for name in per))
    assert len(set(scope.dimensions)) == len(scope.dimensions)
    assert scope.holds(seen)
    for usage in (asked, {**asked, **{name: seen[name] for name in per}}):
        same_group = all(usage[name] == seen[name] for name in per)
        assert scope.holds(usage) is (where.holds(usage) and same_group)
        assert unwire(wire(scope)).holds(usage) is scope.holds(usage)
    assert unwire(wire(scope)) == scope


any_scopes = st.lists(
    st.builds(
        Condition,
        st.sampled_from(DIMENSIONS),
        st.frozensets(st.text(max_size=5), max_size=3),
        st.lists(st.text(max_size=5), max_size=3).map(tuple),
        st.booleans(),
    ),
    max_size=4,
    unique_by=lambda c: c.dimension,
).map(lambda drawn: Scope(tuple(drawn)))
times = st.datetimes(timezones=st.just(UTC))
directives = st.builds(
    Directive,
    id=st.text(max_size=20),
    version=st.integers(0, 2**62),
    effect=st.sampled_from(Effect),
    rule=st.text(max_size=10),
    action=st.text(max_size=10),
    reason=st.text(max_size=20),
    scope=any_scopes.map(wire),
    issued_at=times,
    until=times,
    rate_requests=st.integers(0, 10**9),
    rate_span_s=st.integers(1, 86_400),
    each=st.none() | st.sampled_from(DIMENSIONS),
    fail=st.sampled_from(Fail),
    alert=st.none() | st.text(max_size=10),
    evidence=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    models=st.dictionaries(st.text(max_size=5), st.text(max_size=5), min_size=1, max_size=2),
    percent=st.integers(0, 100),
    percent_of=st.none() | st.sampled_from(DIMENSIONS),
    starts_at=st.none() | times,
    shadow=st.booleans(),
    waits=st.none() | st.text(max_size=5),
    released_by=st.none() | st.text(max_size=5),
)
heartbeats = st.builds(Heartbeat, version=st.integers(0, 2**62), sent_at=times, lease_until=times)


@settings(deadline=None, max_examples=200)
@given(directives | heartbeats)
def test_records_come_back(record: Directive | Heartbeat) -> None:
    """What was written to the topic is read as the same, and only under its own key."""
    key, value = encode(record)
    assert decode(key, value) == record
    assert decode(key + b"x", value) is None
    assert decode(None, value) is None
    assert decode(key, None) is None
    assert decode(key, value[:-1]) is None


@settings(deadline=None, max_examples=100)
@given(any_scopes)
def test_scopes_come_back(scope: Scope) -> None:
    """A scope off the wire is the scope that went on it, its order and patterns included."""
    assert unwire(wire(scope)) == scope


KEYS = (b"heartbeat", b"directive:x", b"directive:", b"other", b"directive:\xff", b"")


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(KEYS) | st.binary(max_size=20), st.binary(max_size=60))
@example(b"directive:x", b"[" * 100_000)
@example(b"heartbeat", b'{"version":1' * 20_000)
@example(b"directive:x", b'{"id":"\\ud800"}')
@example(b"directive:x", b"null")
def test_garbage(key: bytes, value: bytes) -> None:
    """Bytes that are no record of ours are read as nothing and never raise."""
    assert decode(key, value) is None


@settings(deadline=None, max_examples=300)
@given(directives, st.integers(0), st.binary(max_size=3), st.integers(0, 4))
def test_damaged_records(record: Directive, at: int, put: bytes, taken: int) -> None:
    """A record with some bytes changed is read as nothing or as a directive of the same key."""
    key, value = encode(record)
    at %= len(value)
    found = decode(key, value[:at] + put + value[at + taken :])
    assert found is None or (isinstance(found, Directive) and found.key.encode() == key)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "1"},
        {"effect": "shoot"},
        {"until": "2026-04-01T00:00:00"},
        {"until": "soon"},
        {"rate_requests": -1},
        {"rate_requests": 1.5},
        {"rate_span_s": 0},
        {"fail": "ajar"},
        {"scope": []},
        {"scope": {"tier": {"values": "free"}}},
        {"id": "another"},
        {"id": None},
    ],
)
def test_wrong_fields(changes: dict[str, object]) -> None:
    """A directive with a field of a wrong type, range or zone is none."""
    key, value = encode(directive())
    fields = msgspec.json.decode(value)
    assert decode(key, msgspec.json.encode(fields)) == directive()
    assert decode(key, msgspec.json.encode(fields | {"of_a_later_release": 1})) == directive()
    assert decode(key, msgspec.json.encode(fields | changes)) is None
    for name in ("id", "version", "effect", "scope", "until", "rate_requests", "rate_span_s"):
        less = {field: value for field, value in fields.items() if field != name}
        assert decode(key, msgspec.json.encode(less)) is None


FRESH, STALE = NOW + MINUTE, NOW - MINUTE


@pytest.mark.parametrize(
    ("fail", "lease_until", "holds"),
    [
        (Fail.OPEN, FRESH, True),
        (Fail.OPEN, STALE, False),
        (Fail.OPEN, NOW, False),
        (Fail.OPEN, None, False),
        (Fail.CLOSED, FRESH, True),
        (Fail.CLOSED, STALE, True),
        (Fail.CLOSED, None, True),
    ],
)
def test_leases(fail: Fail, lease_until: datetime | None, *, holds: bool) -> None:
    """An open directive holds under a fresh lease only, a closed one without; none when over."""
    throttle = directive(fail=fail, until=NOW + 2 * MINUTE)
    assert throttle.holds_at(NOW, lease_until) is holds
    free = msgspec.structs.replace(throttle, effect=Effect.RELEASE)
    assert not free.holds_at(NOW, lease_until)
    for over in (NOW, NOW - MINUTE):
        assert not msgspec.structs.replace(throttle, until=over).holds_at(NOW, lease_until)


@given(st.sampled_from(Fail), st.integers(-5, 5), st.none() | st.integers(-5, 5))
def test_no_directive_outlives_its_end(fail: Fail, until: int, lease: int | None) -> None:
    """Whatever the lease says: nothing holds from `until` on, and no open one past its lease."""
    lease_until = None if lease is None else NOW + lease * MINUTE
    throttle = directive(fail=fail, until=NOW + until * MINUTE)
    leased = fail is Fail.CLOSED or (lease is not None and lease > 0)
    assert throttle.holds_at(NOW, lease_until) is (until > 0 and leased)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), unique=True))
def test_the_newest_version_counts(versions: list[tuple[str, int]]) -> None:
    """Of each directive the greatest version is what holds, in whatever order they are read."""
    records = [directive(id=name, version=version) for name, version in versions]
    found = newest_by_key(records)
    expected = {name: max(v for n, v in versions if n == name) for name, _ in versions}
    assert {name: record.version for name, record in found.items()} == expected
