import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor.core import usage
from governor.core.scopes import DIMENSIONS, Condition, Scope, mask_of

values = st.one_of(st.none(), st.text(max_size=8))
names = st.text("ab*?[]!-", max_size=6)


def test_the_dimensions_are_those_of_the_event() -> None:
    """What a rule may ask for is what usage is summed up by, in the same order."""
    assert DIMENSIONS == usage.DIMENSIONS
    assert set(DIMENSIONS) <= set(usage.UsageEvent.__struct_fields__)


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        (Condition("tier", frozenset({"free", "trial"})), "free", True),
        (Condition("tier", frozenset({"free"})), "Free", False),
        (Condition("tier", frozenset({"free"})), None, False),
        (Condition("tier", frozenset({"free"}), negated=True), "free", False),
        (Condition("tier", frozenset({"free"}), negated=True), "paid", True),
        (Condition("tier", frozenset({"free"}), negated=True), None, True),
        (Condition("tier", patterns=("acme-*",)), "acme-1", True),
        (Condition("tier", patterns=("acme-*",)), "acme-", True),
        (Condition("tier", patterns=("acme-*",)), "ACME-1", False),
        (Condition("tier", patterns=("acme-*",)), "an acme-1", False),
        (Condition("tier", patterns=("acme-*",)), "acme-1\nb", True),
        (Condition("tier", patterns=("acme",)), "acme\n", False),
        (Condition("tier", patterns=("*-mini", "*-nano")), "gpt-nano", True),
        (Condition("tier", patterns=("us-?",)), "us-12", False),
        (Condition("tier", patterns=("us-[12]",)), "us-2", True),
        (Condition("tier", patterns=("us-[!12]",)), "us-2", False),
        (Condition("tier", patterns=("a.c",)), "abc", False),
        (Condition("tier", patterns=("*",)), None, False),
        (Condition("tier", patterns=("*",), negated=True), None, True),
        (Condition("tier", frozenset({"a"}), ("b*",), negated=True), "bc", False),
        (Condition("tier", frozenset({""})), "", True),
        (Condition("tier", frozenset({""})), None, False),
    ],
)
def test_conditions(condition: Condition, value: str | None, *, holds: bool) -> None:
    """A value is one of the values or like a pattern; a missing one is neither."""
    assert condition.holds(value) is holds


@given(st.frozensets(names), st.lists(names, max_size=3).map(tuple), values)
def test_negation_is_the_opposite(
    listed: frozenset[str], patterns: tuple[str, ...], value: str | None
) -> None:
    """For every value either a condition holds or its negation, whatever the patterns."""
    condition = Condition("user", listed, patterns)
    negation = Condition("user", listed, patterns, negated=True)
    assert condition.holds(value) is not negation.holds(value)


def test_long_patterns_are_quick() -> None:
    """A pattern of many stars is no way to stop the daemon."""
    assert not Condition("user", patterns=("*a" * 100 + "b",)).holds("a" * 256)


def test_scopes() -> None:
    """All conditions must hold; a dimension that is left out is missing."""
    scope = Scope(
        (
            Condition("tier", frozenset({"free"})),
            Condition("feature", frozenset({"evals"}), negated=True),
        )
    )
    assert scope.dimensions == ("tier", "feature")
    assert scope.holds({"tier": "free"})
    assert scope.holds({"tier": "free", "feature": "chat", "team": "ml"})
    assert not scope.holds({"tier": "free", "feature": "evals"})
    assert not scope.holds({"feature": "chat"})
    assert Scope().holds({})


def test_masks() -> None:
    """A mask has each dimension once, in one order, so that equal needs share their sums."""
    assert mask_of(("model", "tier", "model", "customer")) == ("customer", "tier", "model")
    assert mask_of(()) == ()
    assert mask_of(DIMENSIONS[::-1]) == DIMENSIONS
