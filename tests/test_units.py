"""Units: one closed table, two spellings, affine conversions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.errors import UnitError
from hal.units import _TABLE, convert, factors, unit

PAIRS = [(a.name, b.name) for a in _TABLE for b in _TABLE if a.dimension == b.dimension]


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (0.0, "degC", "K", 273.15),
        (300.0, "K", "degC", 26.85),
        (1.0, "bar", "Pa", 1e5),
        (760.0, "Torr", "Pa", 101325.0),
        (1e-3, "mbar", "Pa", 0.1),
        (60.0, "K/min", "K/s", 1.0),
        (1.0, "slm", "sccm", 1000.0),
        (1.0, "mL/h", "uL/min", 1000 / 60),
        (14.503773773, "psi", "bar", 1.0),
        (5.0, "", "%", 500.0),
        (2.0, "kV", "mV", 2e6),
    ],
)
def test_values_convert_as_the_tables_of_the_units_say(value: float, source: str, target: str, expected: float) -> None:
    assert convert(value, source, target) == pytest.approx(expected, rel=1e-9)


@given(st.sampled_from(PAIRS), st.floats(-1e6, 1e6))
def test_there_and_back_is_where_one_was(pair: tuple[str, str], value: float) -> None:
    a, b = pair
    there = convert(value, a, b)
    offset = abs(factors(b, a)[1])
    assert convert(there, b, a) == pytest.approx(value, rel=1e-9, abs=1e-9 * (offset + 1e-3))


@given(st.sampled_from(PAIRS), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_converting_keeps_the_order(pair: tuple[str, str], x: float, y: float) -> None:
    if x <= y:
        assert convert(x, *pair) <= convert(y, *pair)


def test_every_unit_is_found_by_each_of_its_spellings() -> None:
    for known in _TABLE:
        assert unit(known.name) is known
        for spelling in (known.ucum, known.udunits):
            found = unit(spelling)
            assert (found.dimension, found.scale, found.offset) == (known.dimension, known.scale, known.offset), (
                spelling
            )


@pytest.mark.parametrize(("alias", "name"), [("°C", "degC"), ("µL/min", "uL/min"), ("Ω", "Ohm"), ("torr", "Torr")])
def test_what_people_type_is_understood(alias: str, name: str) -> None:
    assert unit(alias) is unit(name)


def test_an_unknown_unit_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnitError, match="unknown unit 'furlong'; known units are: .*degC"):
        unit("furlong")


@pytest.mark.parametrize(("source", "target"), [("bar", "degC"), ("sccm", "mL/min"), ("K", "K/s"), ("V", "A")])
def test_units_of_different_quantities_do_not_convert(source: str, target: str) -> None:
    with pytest.raises(UnitError, match="they do not convert"):
        convert(1.0, source, target)
