"""Limits: they refuse and never clip, both signs, and nothing reaches the wire."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

from hal.errors import ConfigError, LimitError, UnitError
from hal.model.limits import Limits, parse_limits
from hal.testing import Wire, wired

Bench = tuple[toy.ToyHeater, Wire]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with wired(toy.ToyHeater, name="heater", world=toy.World()) as (heater, wire):
        yield heater, wire


@pytest.mark.parametrize("value", [600.1, -0.1, 1e9, -1e9, math.nan, math.inf, -math.inf, np.float64("nan")])
async def test_a_number_outside_or_no_finite_one_is_refused_and_nothing_is_sent(bench: Bench, value: float) -> None:
    heater, wire = bench
    with pytest.raises(LimitError, match="outside 0 to 600 degC; nothing was sent"):
        heater.setpoint.set(value)
    with pytest.raises(LimitError):
        heater.ramp(to=value, rate=1.0)
    assert not wire.sent


@pytest.mark.parametrize(
    "value", [True, np.True_, "100", None, [100.0], np.array([100.0]), np.array([1.0, 2.0]), 1 + 0j, np.complex128(1)]
)
async def test_what_is_no_number_is_refused(bench: Bench, value: Any) -> None:
    heater, wire = bench
    with pytest.raises(LimitError, match="is no number; nothing was sent"):
        heater.setpoint.set(value)
    assert not wire.sent


@pytest.mark.parametrize("value", [100, 100.0, np.float32(100), np.float64(100), np.int16(100), np.uint8(100)])
async def test_numbers_of_numpy_are_numbers(bench: Bench, value: Any) -> None:
    heater, wire = bench
    await heater.setpoint.set(value)
    assert wire.sent == [b"SETP 100\n"]


@pytest.mark.parametrize("rate", [0.0, -1.0, 51.0, math.nan, True])
async def test_the_rate_is_limited_like_the_setpoint(bench: Bench, rate: float) -> None:
    heater, wire = bench
    with pytest.raises(LimitError, match="heater.ramp_rate"):
        heater.ramp(to=100.0, rate=rate)
    assert not wire.sent
    assert heater.operation is None


async def test_a_value_just_outside_is_shown_with_the_digits_that_tell(bench: Bench) -> None:
    heater, _ = bench
    with pytest.raises(LimitError, match="600.0000001 degC is outside 0 to 600"):
        heater.setpoint.check(600.0000001)


async def test_whole_numbers_are_asked_for_where_only_they_exist(bench: Bench) -> None:
    heater, wire = bench
    with pytest.raises(LimitError, match="no whole number"):
        heater.turns.set(1.5)  # type: ignore[arg-type]
    with pytest.raises(LimitError):
        heater.turns.set(True)
    await heater.turns.set(2.0)  # type: ignore[arg-type]
    assert wire.sent == [b"TURN 2\n"]


async def test_only_the_choices_may_be_chosen(bench: Bench) -> None:
    heater, wire = bench
    with pytest.raises(LimitError, match="none of"):
        heater.mode.set("faster")
    await heater.mode.set("fast")
    assert wire.sent == [b"MODE fast\n"]


async def test_a_signal_is_not_assigned(bench: Bench) -> None:
    heater, _ = bench
    with pytest.raises(AttributeError, match=r"await heater\.setpoint\.set"):
        heater.setpoint = 3.0  # type: ignore[assignment, misc]


async def test_the_refusal_names_who_set_the_limit_that_was_met(bench: Bench) -> None:
    heater, _ = bench
    heater.setpoint.narrow(Limits(high=400), "lab.toml")
    heater.setpoint.narrow(Limits(10, 500), "holder 'gas-cell 7'")
    with pytest.raises(LimitError, match=r"outside 10 to 400 degC.*\(set by lab\.toml\)"):
        heater.setpoint.check(450)
    with pytest.raises(LimitError, match=r"\(set by holder 'gas-cell 7'\)"):
        heater.setpoint.check(5)
    with pytest.raises(LimitError, match=r"\(set by the driver\)"):
        heater.gain.check(11)


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)), max_size=5))
def test_limits_only_ever_narrow(steps: list[tuple[float, float]]) -> None:
    limits = Limits(-100.0, 100.0)
    for low, high in steps:
        narrower = limits.narrowed(Limits(low, high))
        assert narrower.low >= limits.low
        assert narrower.high <= limits.high
        limits = narrower


def test_nothing_that_is_no_number_lies_within_limits() -> None:
    assert math.nan not in Limits()
    assert math.nan not in Limits(0, 1)


@pytest.mark.parametrize(
    ("text", "unit", "low", "high"),
    [
        ("20..400 degC", "degC", 20, 400),
        ("-196 .. 600degC", "degC", -196, 600),
        ("..1 bar", "Pa", -math.inf, 1e5),
        ("0..", "Pa", 0, math.inf),
        ("1e-3..1e3 Pa", "Pa", 1e-3, 1e3),
        ("-5..-1", "V", -5, -1),
        ("273.15..673.15 K", "degC", 0, 400),
    ],
)
def test_a_range_is_read_in_its_own_unit(text: str, unit: str, low: float, high: float) -> None:
    limits = parse_limits(text, unit)
    assert (limits.low, limits.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("text", ["20-400", "warm", "400..20 degC", "..", "1.2.3..4", "nan..4", "..inf", ""])
def test_what_is_no_range_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(ConfigError, match=r'write "20\.\.400|above the upper'):
        parse_limits(text, "degC")


def test_a_range_of_another_quantity_is_refused() -> None:
    with pytest.raises(UnitError, match="'bar' is a pressure and 'degC' a temperature"):
        parse_limits("..1 bar", "degC")


async def test_a_decimal_is_no_real_number_to_python_and_is_refused_rather_than_guessed_at(bench: Bench) -> None:
    heater, _ = bench
    with pytest.raises(LimitError):
        heater.setpoint.check(Decimal(3))  # type: ignore[arg-type]
