"""Admission: which events count, which are late, which repeat, whatever way the log is cut."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governor.core.admission import NO_WATERMARK_US, Admitted, Window, admit, newest_time_us
from governor.core.positions import PartitionId
from governor.core.usage import QUANTITIES, Reason, UsageEvent, micros, table_of

NOW = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
TICK = timedelta(microseconds=1)
WINDOW = Window(back=timedelta(days=2), ahead=timedelta(hours=1), late_after=timedelta(minutes=10))
A0, A1, B0 = PartitionId("a", 0), PartitionId("a", 1), PartitionId("b", 0)


class Message(NamedTuple):
    """One message as a log hands it over."""

    partition: int
    offset: int
    value: bytes


class Row(NamedTuple):
    """A decoded event and where it stood."""

    place: PartitionId
    offset: int
    event: UsageEvent


def usage(event_id: str = "id", at: datetime = NOW, **fields: Any) -> UsageEvent:
    return UsageEvent(event_id, "gateway", at, "openai", "gpt-5", **{"input_tokens": 1, **fields})


def rows(*events: UsageEvent, place: PartitionId = A0, first: int = 0) -> list[Row]:
    return [Row(place, first + number, event) for number, event in enumerate(events)]


def judged(
    seen: Iterable[Row],
    watermarks: Mapping[PartitionId, int] | None = None,
    *,
    now: datetime = NOW,
    window: Window = WINDOW,
) -> Admitted:
    """Admit rows as ingest does: partition by partition, each in log order."""
    ordered = sorted(seen, key=lambda row: row.place)
    return admit(
        table_of([row.event for row in ordered]),
        [Message(row.place.partition, row.offset, b"bytes") for row in ordered],
        [(place, len(list(run))) for place, run in groupby(ordered, key=lambda row: row.place)],
        now=now,
        window=window,
        watermarks=watermarks or {},
    )


def counted(admitted: Admitted) -> dict[tuple[PartitionId, int], bool]:
    """Return whether each counted row is late, by its place and offset."""
    names = ("topic", "partition", "offset", "late")
    columns = [admitted.events[name].to_pylist() for name in names]
    return {(PartitionId(t, p), at): late for t, p, at, late in zip(*columns, strict=True)}


def reasons(admitted: Admitted) -> list[tuple[int, Reason]]:
    return [(reject.offset, reject.reason) for reject in admitted.rejects]


# ----------------------------------------------------------------------------------- the window


def test_the_edges_of_the_window_are_inside_it() -> None:
    """An event at exactly `now - back` or `now + ahead` counts; a microsecond beyond, no more."""
    oldest, newest = NOW - WINDOW.back, NOW + WINDOW.ahead
    times = [oldest - TICK, oldest, newest, newest + TICK]
    admitted = judged(rows(*(usage(str(at), at) for at in times)))
    assert reasons(admitted) == [(0, Reason.TOO_OLD), (3, Reason.TOO_NEW)]
    assert list(counted(admitted)) == [(A0, 1), (A0, 2)]


def test_a_reject_says_when_the_event_was_and_what_the_limit_is() -> None:
    """The detail of a time that is not accepted names both times; the bytes are kept."""
    old, new = judged(
        rows(usage(at=NOW - timedelta(days=3)), usage(at=NOW + TICK * 10**10))
    ).rejects
    assert old.detail == (
        "event_time 2026-06-28T12:30:00.000000Z is before 2026-06-29T12:30:00Z, the oldest accepted"
    )
    assert new.detail == (
        "event_time 2026-07-01T15:16:40.000000Z is after 2026-07-01T13:30:00Z, the newest accepted"
    )
    assert (old.topic, old.partition, old.offset, old.raw) == ("a", 0, 0, b"<5 bytes>")


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("0001-01-01T00:00:00+14:00", Reason.TOO_OLD),
        ("0001-01-01T00:00:00+00:00", Reason.TOO_OLD),
        ("1969-12-31T23:59:59+00:00", Reason.TOO_OLD),
        ("9999-12-31T23:59:59-14:00", Reason.TOO_NEW),
    ],
)
def test_times_beyond_the_calendar_are_set_aside(at: str, reason: Reason) -> None:
    """A time that UTC has no year for is rejected like any other that is too old or too new."""
    admitted = judged(rows(usage(at=datetime.fromisoformat(at)), usage("good")))
    assert reasons(admitted) == [(0, reason)]
    assert list(counted(admitted)) == [(A0, 1)]


def test_a_time_is_the_same_in_any_zone() -> None:
    """Event times are compared as instants."""
    inside = (NOW + WINDOW.ahead).astimezone(
        tz=datetime.fromisoformat("2026-01-01T00+05:45").tzinfo
    )
    assert not judged(rows(usage(at=inside))).rejects


# ------------------------------------------------------------------------------------- no usage


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_one_reported_quantity_is_enough(quantity: str) -> None:
    """Any quantity counts as a report, zero included."""
    assert not judged(rows(usage(**{"input_tokens": None, quantity: 0}))).rejects


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({}, False),
        ({"duration_ms": 5}, False),
        ({"requests": 2}, False),
        ({"status": "success"}, False),
        ({"status": "error"}, True),
        ({"error_type": "timeout"}, True),
        ({"status": "success", "error_type": "timeout"}, True),
    ],
)
def test_without_a_quantity_only_a_failure_is_accepted(
    fields: Mapping[str, Any], *, accepted: bool
) -> None:
    """Without a quantity an event says nothing, unless it says that the request failed."""
    admitted = judged(rows(usage("bare", input_tokens=None, **fields), usage("good")))
    assert reasons(admitted) == ([] if accepted else [(0, Reason.NO_USAGE)])
    assert all("input_tokens" in reject.detail for reject in admitted.rejects)


def test_an_event_has_one_reason_and_its_time_comes_first() -> None:
    """An event without usage and out of the window is rejected once, for its time."""
    empty = {"input_tokens": None}
    faulty = [
        usage("old", NOW - timedelta(days=3), **empty),
        usage("new", NOW + timedelta(days=3), **empty),
        usage("now", **empty),
    ]
    assert [reason for _, reason in reasons(judged(rows(*faulty)))] == [
        Reason.TOO_OLD,
        Reason.TOO_NEW,
        Reason.NO_USAGE,
    ]


def test_rejects_keep_the_order_of_the_log() -> None:
    """Rejects are listed by row, not by reason."""
    old, bare = usage(at=NOW - timedelta(days=3)), usage(input_tokens=None)
    admitted = judged(rows(bare, old, usage(), bare, old))
    assert [offset for offset, _ in reasons(admitted)] == [0, 1, 3, 4]


# ------------------------------------------------------------------------------------- lateness


def test_an_event_is_late_when_more_than_the_limit_older_than_the_newest() -> None:
    """Exactly `late_after` older is on time; a microsecond more is late."""
    edge = NOW - WINDOW.late_after
    admitted = judged(rows(usage("1"), usage("2", edge), usage("3", edge - TICK), usage("4")))
    assert list(counted(admitted).values()) == [False, False, True, False]
    assert admitted.watermarks == {A0: micros(NOW)}


def test_each_partition_has_a_watermark_of_its_own() -> None:
    """What another partition or topic has seen makes no event late."""
    past = NOW - timedelta(hours=1)
    admitted = judged(
        [*rows(usage("1")), *rows(usage("2", past), place=A1), *rows(usage("3", past), place=B0)]
    )
    assert not any(counted(admitted).values())
    assert admitted.watermarks == {A0: micros(NOW), A1: micros(past), B0: micros(past)}


def test_a_stored_watermark_goes_on_and_never_back() -> None:
    """An older event is judged by the watermark of the batches before, and does not lower it."""
    before = {A0: micros(NOW), B0: 7}
    admitted = judged(rows(usage(at=NOW - timedelta(hours=1))), before)
    assert counted(admitted) == {(A0, 0): True}
    assert admitted.watermarks == {A0: micros(NOW)}


def test_rejected_events_move_no_watermark() -> None:
    """A clock far ahead must not make everybody else late."""
    admitted = judged(
        rows(
            usage("ahead", NOW + timedelta(hours=2)),
            usage("bare", NOW + timedelta(minutes=50), input_tokens=None),
            usage("good", NOW - timedelta(minutes=5)),
        )
    )
    assert counted(admitted) == {(A0, 2): False}
    assert admitted.watermarks == {A0: micros(NOW - timedelta(minutes=5))}


def test_a_partition_with_rejects_alone_has_no_watermark() -> None:
    """Where nothing was accepted, the watermark stays where it was."""
    bare = usage(input_tokens=None)
    assert judged(rows(bare)).watermarks == {A0: NO_WATERMARK_US}
    assert judged(rows(bare), {A0: 5}).watermarks == {A0: 5}


# -------------------------------------------------------------------------------------- repeats


def test_the_first_of_equal_identities_counts() -> None:
    """Identity is source, id and time; a repeat is left out and counted where it stood."""
    same = usage("same", output_tokens=9)
    admitted = judged([*rows(usage("same"), same), *rows(same, place=A1), *rows(same, place=B0)])
    assert list(counted(admitted)) == [(A0, 0)]
    assert admitted.events["output_tokens"].to_pylist() == [None]
    assert admitted.repeats == {A0: 1, A1: 1, B0: 1}
    assert not admitted.rejects


def test_the_same_id_of_another_time_or_source_is_another_event() -> None:
    """Ids are only trusted together with the time and the source."""
    other_source = UsageEvent("id", "batch-job", NOW, "openai", "gpt-5", input_tokens=1)
    admitted = judged(rows(usage(), usage(at=NOW - TICK), other_source))
    assert len(counted(admitted)) == 3
    assert admitted.repeats == {A0: 0}


def test_source_and_id_are_not_confused() -> None:
    """Identities whose parts spell the same when joined are two."""
    first = UsageEvent("b/c", "a", NOW, "openai", "gpt-5", input_tokens=1)
    second = UsageEvent("c", "a/b", NOW, "openai", "gpt-5", input_tokens=1)
    swapped = UsageEvent("a", "b/c", NOW, "openai", "gpt-5", input_tokens=1)
    assert len(counted(judged(rows(first, second, swapped)))) == 3


def test_a_rejected_event_does_not_shadow_its_identity() -> None:
    """An event that was set aside for missing usage leaves room for one that has some."""
    admitted = judged(rows(usage("x", input_tokens=None), usage("x"), usage("x")))
    assert list(counted(admitted)) == [(A0, 1)]
    assert (reasons(admitted), admitted.repeats) == ([(0, Reason.NO_USAGE)], {A0: 1})


def test_ids_are_compared_to_the_last_character() -> None:
    """Letter case, a NUL and blanks tell two ids apart."""
    ids = ["a", "A", "a\0", "a\0b", " a", "a "]
    assert len(counted(judged(rows(*map(usage, ids))))) == len(ids)


# -------------------------------------------------------------------------------- nothing at all


def test_no_events_are_admitted_as_no_events() -> None:
    """A batch of markers alone gives an empty table with all columns."""
    nothing, something = judged([]), judged(rows(usage()))
    assert nothing.events.schema.names == something.events.schema.names
    assert (nothing.events.num_rows, nothing.rejects) == (0, [])
    assert (dict(nothing.repeats), dict(nothing.watermarks)) == ({}, {})
    assert newest_time_us(nothing.events) is None


def test_the_newest_time_is_the_greatest_of_the_table() -> None:
    """The event clock moves by the newest event, wherever it stands."""
    times = [NOW - TICK, NOW, NOW - timedelta(days=400)]
    assert newest_time_us(table_of([usage(at=at) for at in times])) == micros(NOW)


def test_micros_are_exact() -> None:
    """Instants become whole microseconds without a float, before 1970 too."""
    assert micros(datetime(2026, 7, 1, 12, 30, 0, 123_457, UTC)) == 1_782_909_000_123_457
    assert micros(datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)) == -1


# --------------------------------------------------------------------------- however it is cut

PLACES = (A0, A1, B0)
logs = st.lists(
    st.tuples(
        st.sampled_from(PLACES),
        st.integers(-60 * 49, 70),
        st.sampled_from([True, True, True, False]),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


def accounted(log: list[Row]) -> tuple[dict[Any, Any], dict[PartitionId, int]]:
    """Judge a log one event after the other, in plain Python: verdicts and watermarks."""
    verdicts: dict[Any, Any] = {}
    newest: dict[PartitionId, datetime] = {}
    for place, offset, event in log:
        at = event.event_time
        if at < NOW - WINDOW.back:
            verdicts[place, offset] = Reason.TOO_OLD
        elif at > NOW + WINDOW.ahead:
            verdicts[place, offset] = Reason.TOO_NEW
        elif event.input_tokens is None:
            verdicts[place, offset] = Reason.NO_USAGE
        else:
            before = newest.get(place, at)
            verdicts[place, offset] = before - at > WINDOW.late_after
            newest[place] = max(before, at)
    return verdicts, {place: micros(at) for place, at in newest.items()}


@settings(max_examples=120, deadline=None)
@given(logs)
def test_verdicts_do_not_depend_on_how_the_log_is_cut(
    moments: list[tuple[PartitionId, int, bool, bool]],
) -> None:
    """Cut anywhere, the same events are late, the same are set aside, the watermarks are equal."""
    log = [
        Row(
            place,
            number,
            usage(
                str(number),
                NOW + timedelta(minutes=minutes),
                input_tokens=1 if reports else None,
            ),
        )
        for number, (place, minutes, reports, _) in enumerate(moments)
    ]
    batches: list[list[Row]] = [[]]
    for row, (_, _, _, cut) in zip(log, moments, strict=True):
        batches[-1].append(row)
        if cut:
            batches.append([])
    verdicts: dict[Any, Any] = {}
    watermarks: dict[PartitionId, int] = {}
    for batch in batches:
        admitted = judged(batch, watermarks)
        watermarks |= admitted.watermarks
        verdicts |= counted(admitted)
        for reject in admitted.rejects:
            place = PartitionId(reject.topic, reject.partition)
            verdicts[place, reject.offset] = reject.reason
    known = {place: at for place, at in watermarks.items() if at != NO_WATERMARK_US}
    assert (verdicts, known) == accounted(log)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.integers(0, 3), st.integers(0, 2))))
def test_every_event_is_counted_repeated_or_rejected(
    moments: list[tuple[PartitionId, int, int]],
) -> None:
    """Repeats are what a dictionary of identities says, and the three outcomes add up."""
    log = [
        Row(place, number, usage(str(event_id), NOW - timedelta(days=days)))
        for number, (place, event_id, days) in enumerate(moments)
    ]
    first: dict[tuple[str, datetime], tuple[PartitionId, int]] = {}
    for row in sorted(log, key=lambda row: row.place):
        first.setdefault((row.event.event_id, row.event.event_time), (row.place, row.offset))
    admitted = judged(log)
    assert list(counted(admitted)) == list(first.values())
    assert sum(admitted.repeats.values()) == len(log) - len(first)
