"""Where to read on: each case of stored position, extent and policy, and what a refusal says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor.core.errors import PermanentError
from governor.core.positions import (
    Extent,
    PartitionId,
    Position,
    ResetPolicy,
    Resumption,
    Start,
    resume,
)

PLACE = PartitionId("usage", 3)
EARLIEST, LATEST, NONE = ResetPolicy
HELD = Extent(100, 200, "T1")


def decided(
    stored: Position | None,
    policy: ResetPolicy,
    extent: Extent = HELD,
    *,
    topic_known: bool = True,
) -> Resumption:
    return resume(PLACE, stored=stored, extent=extent, topic_known=topic_known, policy=policy)


@pytest.mark.parametrize("policy", ResetPolicy)
@pytest.mark.parametrize("offset", [100, 150, 200])
def test_a_stored_position_that_still_exists_is_read_on_from(
    offset: int, policy: ResetPolicy
) -> None:
    """From the first record held to just behind the last, the policy is not asked."""
    assert decided(Position(offset, "T1"), policy) == Resumption(offset, Start.STORED, 0)


@pytest.mark.parametrize("policy", ResetPolicy)
def test_a_new_partition_of_a_known_topic_is_read_from_its_beginning(policy: ResetPolicy) -> None:
    """A topic that grows loses no record, whatever the policy says about new topics."""
    assert decided(None, policy) == Resumption(100, Start.NEW_PARTITION, 0)


@pytest.mark.parametrize(
    ("stored", "extent", "earliest", "latest"),
    [
        (None, HELD, (100, Start.NEW_TOPIC, 0), (200, Start.NEW_TOPIC, 100)),
        (None, Extent(0, 0, None), (0, Start.NEW_TOPIC, 0), (0, Start.NEW_TOPIC, 0)),
        (Position(150, "T0"), HELD, (100, Start.RECREATED, 0), (200, Start.RECREATED, 100)),
        (Position(99, "T0"), HELD, (100, Start.RECREATED, 0), (200, Start.RECREATED, 100)),
        (Position(99, "T1"), HELD, (100, Start.EXPIRED, 1), (200, Start.EXPIRED, 101)),
        (Position(0, None), HELD, (100, Start.EXPIRED, 100), (200, Start.EXPIRED, 200)),
        (Position(201, "T1"), HELD, (100, Start.TRUNCATED, 0), (200, Start.TRUNCATED, 100)),
    ],
    ids=["new", "empty", "recreated", "recreated-behind", "expired", "no-id", "truncated"],
)
def test_without_a_usable_position_the_policy_chooses(
    stored: Position | None,
    extent: Extent,
    earliest: tuple[int, Start, int],
    latest: tuple[int, Start, int],
) -> None:
    """`earliest` reads what is held, `latest` what comes; records passed over are counted."""
    for policy, wanted in ((EARLIEST, earliest), (LATEST, latest)):
        assert decided(stored, policy, extent, topic_known=stored is not None) == Resumption(
            *wanted
        )


@pytest.mark.parametrize(
    ("stored", "held"), [(None, "T1"), ("T1", None), (None, None), ("T1", "T1")]
)
def test_a_topic_is_only_new_where_both_ids_are_known(stored: str | None, held: str | None) -> None:
    """Brokers before 2.8 have no topic ids; an unknown id proves nothing."""
    assert decided(Position(150, stored), LATEST, Extent(100, 200, held)).start is Start.STORED


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (None, "new topic (no position is stored, the broker holds 100 to 200)"),
        (Position(150, "T0"), "recreated (stored position 150, the broker holds 100 to 200)"),
        (Position(7, "T1"), "expired (stored position 7, the broker holds 100 to 200)"),
        (Position(300, "T1"), "truncated (stored position 300, the broker holds 100 to 200)"),
    ],
)
def test_policy_none_refuses_and_says_what_to_do(stored: Position | None, said: str) -> None:
    """The refusal names the partition, what is wrong, both offsets and the two ways on."""
    with pytest.raises(PermanentError) as caught:
        decided(stored, NONE, topic_known=False)
    assert str(caught.value) == (
        f"topic usage partition 3: {said}, and kafka.auto_offset_reset is 'none'."
        " Start once with GOVERNOR_KAFKA__AUTO_OFFSET_RESET=earliest (count what is there)"
        " or =latest (count from now on)"
    )


positions = st.none() | st.builds(
    Position, st.integers(0, 50), st.none() | st.sampled_from(["T0", "T1"])
)


@given(
    positions,
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted),
    st.booleans(),
    st.sampled_from([EARLIEST, LATEST]),
)
def test_reading_always_begins_at_an_offset_that_exists(
    stored: Position | None,
    held: list[int],
    topic_known: bool,  # noqa: FBT001  # drawn by hypothesis, which passes by place
    policy: ResetPolicy,
) -> None:
    """The offset lies in the extent, and no record between is passed over without being counted."""
    extent = Extent(held[0], held[1], "T1")
    found = decided(stored, policy, extent, topic_known=topic_known)
    assert extent.beginning <= found.offset <= extent.end
    unread_from = stored.next_offset if stored and found.start is Start.EXPIRED else held[0]
    if found.start is Start.STORED:
        assert stored is not None
        unread_from = stored.next_offset
    assert found.missed_records == found.offset - unread_from
