"""Prices as values: exact rates, ids made of their content, and who stands in for whom."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor.core.pricing import (
    FEMTO_PER_NANO,
    FEMTO_PER_USD,
    NANO_PER_USD,
    RATE_NAMES,
    ModelKey,
    Price,
    Rates,
    fallbacks,
    femto_per_unit,
)

PRICE = Price(ModelKey("acme", "large"), Rates(input=2_500_000, output=10_000_000), "by hand")


def priced(provider: str, model: str, input_rate: int | None, output_rate: int | None) -> Price:
    return Price(ModelKey(provider, model), Rates(input=input_rate, output=output_rate), "by hand")


# ---------------------------------------------------------------------------------------- rates


def test_the_units_of_money_fit_each_other() -> None:
    """A femto-dollar is 10**-15 USD, a nano-dollar 10**-9."""
    assert FEMTO_PER_NANO * NANO_PER_USD == FEMTO_PER_USD == 10**15


@pytest.mark.parametrize(
    ("usd", "units", "femto"),
    [
        ("2.50", 10**6, 2_500_000_000),
        ("0.0028", 10**6, 2_800_000),
        ("0.000000001", 10**6, 1),
        ("10", 1_000, 10 * 10**12),
        ("0.035", 1, 35 * 10**12),
        ("0", 10**6, 0),
        ("600", 10**6, 600_000_000_000),
        ("0.0000000005", 10**6, 0),
        ("0.0000000015", 10**6, 2),
        ("0.0000000025", 10**6, 2),
    ],
)
def test_a_rate_is_exact_in_femto_dollars(usd: str, units: int, femto: int) -> None:
    """Down to 10**-9 USD for a million units nothing is lost; a tie beyond goes to the even."""
    assert femto_per_unit(Decimal(usd), units) == femto


@given(st.decimals(0, 10_000, places=12, allow_nan=False), st.sampled_from([1, 60, 1_000, 10**6]))
def test_a_rate_is_rounded_half_to_even_once(usd: Decimal, units: int) -> None:
    """The rate is the nearest integer of the exact quotient."""
    assert femto_per_unit(usd, units) == round(Fraction(usd) * FEMTO_PER_USD / units)


# ------------------------------------------------------------------------------------ price ids


def test_a_price_id_is_the_same_for_ever() -> None:
    """Ids are stored beside every event, so what they are made of may never change."""
    assert PRICE.price_id == 8772831960153648015
    dated = replace(
        PRICE,
        rates=Rates(request=1, web_search=10**13),
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
        from_second=3_600,
        until_tokens=200_001,
    )
    assert dated.price_id == 145446367607053517


def test_equal_prices_have_equal_ids() -> None:
    """An id is made of content alone: no order, no process, no counter."""
    again = Price(ModelKey("acme", "large"), Rates(input=2_500_000, output=10_000_000), "by hand")
    assert (again, again.price_id) == (PRICE, PRICE.price_id)
    assert 0 <= PRICE.price_id < 2**63


def test_every_part_of_a_price_is_in_its_id() -> None:
    """A change of anything that is charged makes another price; where it was found does not."""
    changed = {
        "key": ModelKey("acme", "small"),
        "rates": Rates(input=2_500_001, output=10_000_000),
        "tier": "batch",
        "starts_at": datetime(2026, 1, 1, tzinfo=UTC),
        "ends_at": datetime(2027, 1, 1, tzinfo=UTC),
        "from_second": 1,
        "until_second": 2,
        "from_tokens": 1,
        "until_tokens": 2,
    }
    assert {*changed, "source"} == {part.name for part in fields(Price) if part.init}
    assert replace(PRICE, source="elsewhere").price_id == PRICE.price_id
    others = [replace(PRICE, **{name: value}) for name, value in changed.items()]
    others += [replace(PRICE, rates=Rates(**{name: 1})) for name in RATE_NAMES]
    assert len({price.price_id for price in (PRICE, *others)}) == len(others) + 1


def test_no_rate_is_another_price_than_a_rate_of_zero() -> None:
    """Unknown and free are told apart."""
    assert priced("acme", "x", 1, None).price_id != priced("acme", "x", 1, 0).price_id


# ------------------------------------------------------------------------------------ stand-ins


def test_the_dearest_of_a_provider_stands_in() -> None:
    """The dearest has the greatest sum of input and output rate; "" names the dearest of all."""
    cheap, dear = priced("acme", "cheap", 1, 9), priced("acme", "dear", 6, 5)
    other = priced("bolt", "only", 0, 100)
    assert fallbacks([cheap, dear, other]) == {"acme": dear, "bolt": other, "": other}


def test_a_price_without_both_token_rates_stands_in_for_nothing() -> None:
    """A stand-in must say what input and output cost; zero is an answer, none is not."""
    half = [priced("acme", "a", 10**9, None), priced("acme", "b", None, 10**9)]
    free = priced("acme", "c", 0, 0)
    assert fallbacks(half) == {}
    assert fallbacks([*half, free]) == {"acme": free, "": free}


@given(
    st.lists(
        st.builds(
            priced,
            st.sampled_from(["acme", "bolt"]),
            st.sampled_from("abcd"),
            st.none() | st.integers(0, 2),
            st.none() | st.integers(0, 2),
        )
    ),
    st.randoms(use_true_random=False),
)
def test_stand_ins_do_not_depend_on_the_order_of_prices(prices: list[Price], shuffler) -> None:  # noqa: ANN001
    """Among equally dear prices the choice is the same on every start."""
    shuffled = list(prices)
    shuffler.shuffle(shuffled)
    found = fallbacks(prices)
    assert found == fallbacks(shuffled)
    for provider, chosen in found.items():
        sums = [
            price.rates.input + price.rates.output
            for price in prices
            if price.key.provider == (provider or price.key.provider)
            and price.rates.input is not None
            and price.rates.output is not None
        ]
        assert (chosen.rates.input or 0) + (chosen.rates.output or 0) == max(sums)
