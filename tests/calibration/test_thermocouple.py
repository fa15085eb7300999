"""Thermocouples agree with NIST's printed tables, back and forth, and know how sure they are.

data/nist/type_*.tab: NIST ITS-90 Thermocouple Database (SRD 60, its90.nist.gov), as distributed; a work of the United
States government. IEC 60584-1 prints the same values in microvolts.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.errors import CalibrationError, OutOfRange
from calibration.horner import BLOCK
from calibration.its90_data import THERMOCOUPLES
from calibration.lookup import ACCURACY
from calibration.thermocouple import Thermocouple

TABLES = Path(__file__).parent / "data" / "nist"
POINTS = {"B": 1821, "E": 1271, "J": 1411, "K": 1643, "N": 1571, "R": 1819, "S": 1819, "T": 671}
LETTERS = pytest.mark.parametrize("letter", sorted(POINTS))


@cache
def of(letter):
    return Thermocouple(letter)


def text(letter):
    return (TABLES / f"type_{letter.lower()}.tab").read_text("latin-1")


def printed(letter):
    """The table: degC and mV, each temperature once."""
    steps, found = [], {}
    for line in text(letter).partition("****")[0].splitlines():
        words = line.split()
        if words and words[0].endswith("C"):
            steps = [int(word) for word in words[1:]]
        elif len(words) > 1 and re.fullmatch(r"-?\d+", words[0]) and "." in words[1]:
            found |= {int(words[0]) + step: float(mv) for step, mv in zip(steps, words[1:], strict=False)}
    return np.array(sorted(found)), np.array([found[t] for t in sorted(found)])


def whole_range(letter, n):
    low, high = of(letter).invertible
    return low + (high - low) * np.random.default_rng(0).random(n)


@LETTERS
def test_every_printed_value_is_met_to_its_last_digit(letter):
    t, mv = printed(letter)
    assert t.size == POINTS[letter]
    assert (t[0], t[-1]) == (of(letter).valid[0], int(of(letter).valid[1]))
    assert np.abs(of(letter).values(t) - mv).max() <= 0.5e-3 + 1e-9


@LETTERS
def test_every_printed_voltage_gives_its_temperature_back_those_of_both_ends_too(letter):
    t, mv = printed(letter)
    there = t >= of(letter).invertible[0] if letter != "B" else (t > 43) & (mv > 0.0)
    found = of(letter).inverse(mv[there]).value
    assert np.abs(of(letter).values(found) - mv[there]).max() <= 0.5e-3 + 1e-9
    assert np.abs((found - t[there]) * of(letter).slopes(t[there])).max() <= 0.55e-3  # the slope's change within it
    low, high = of(letter).invertible
    assert low <= found.min() <= found.max() <= high + 1e-9
    for beyond in (float(of(letter).values(high)) + 0.6e-3, -10.0):
        with pytest.raises(OutOfRange):
            of(letter).inverse(beyond)


@LETTERS
def test_the_coefficients_are_those_that_nist_distributes(letter):
    section = text(letter).partition("name: reference function")[2].partition("****")[0]
    numbers = [float(word) for word in re.findall(r"[-+]?\d\.\d{12}E[-+]\d\d", section)]
    data = THERMOCOUPLES[letter]
    assert numbers == [c for piece in data.polynomials for c in piece] + list(data.bump or ())


@LETTERS
def test_the_inverse_solves_the_reference_function_over_its_whole_monotone_range(letter):
    t = np.append(whole_range(letter, 20_000), [*of(letter).invertible, 0.0 if letter != "B" else 630.615])
    emf = of(letter).values(t)
    found = of(letter).inverse(emf).value
    assert np.abs(found - t).max() < 1.2 * ACCURACY
    assert np.abs((of(letter).values(found) - emf) / of(letter).slopes(found)).max() < 1e-3


@LETTERS
def test_the_seebeck_coefficient_is_the_slope(letter):
    t = whole_range(letter, 2000)
    h = 1e-3
    difference = (of(letter).values(t + h) - of(letter).values(t - h)) / (2.0 * h)
    apart = ~np.isclose(t, 0.0, atol=h)  # where the pieces of type N meet, the slope jumps
    assert of(letter).slopes(t)[apart] == pytest.approx(difference[apart], rel=1e-5, abs=1e-7)


def test_beyond_the_reference_function_a_marked_value_follows_its_tangent():
    k = of("K")
    end, slope = float(k.values(1372.0)), float(k.slopes(1372.0))
    marked = k.inverse([end + 2.0 * slope, end], outside="mark")
    assert marked.value == pytest.approx([1374.0, 1372.0])
    assert marked.uncertain.tolist() == [True, False]


def test_type_b_is_refused_where_its_voltage_tells_two_temperatures():
    b = of("B")
    falling = b.values(np.linspace(0.0, 21.0, 22))
    assert np.all(np.diff(falling) < 0.0)
    for emf in (0.0, -0.001, float(falling[-1])):
        with pytest.raises(OutOfRange, match="type B"):
            b.inverse(emf)
    assert float(b.inverse(1e-4).value) == pytest.approx(42.53, abs=0.02)
    assert b.inverse(-0.001, outside="mark").uncertain


def test_a_reading_gets_the_voltage_that_its_cold_junction_lacks():
    read = 20.644 - 0.879  # NIST: type K, 500 degC and 22 degC
    assert float(of("K").temperature(read, 22.0).value) == pytest.approx(500.0, abs=0.03)
    each = of("K").temperature([read, 20.644], junction=[22.0, 0.0])
    assert each.value == pytest.approx([500.0, 500.0], abs=0.03)


@given(letter=st.sampled_from(sorted(POINTS)), place=st.floats(0.0, 1.0), junction=st.floats(0.0, 60.0))
def test_a_voltage_goes_back_to_its_temperature(letter, place, junction):
    low, high = of(letter).invertible
    t = low + place * (high - low)
    emf = of(letter).emf(t, junction)
    back = of(letter).temperature(emf.value, junction, outside="mark")
    assert float(back.value) == pytest.approx(t, abs=2.0 * ACCURACY)


def test_voltmeter_and_cold_junction_make_the_temperature_as_uncertain_as_they_do_in_a_simulation():
    k, rng = of("K"), np.random.default_rng(1)
    emf = float(k.emf(650.0, 23.0).value)
    stated = float(k.temperature(emf, 23.0, uncertainty=0.01, junction_uncertainty=0.4).uncertainty)
    drawn = k.temperature(emf + rng.normal(0.0, 0.01, 100_000), 23.0 + rng.normal(0.0, 0.4, 100_000)).value
    assert drawn.std() == pytest.approx(stated, rel=0.02)
    assert stated > float(k.temperature(emf, 23.0, uncertainty=0.01).uncertainty) > 0.0


@pytest.mark.parametrize(
    ("letter", "level", "t", "limit"),
    [
        ("K", 1, 100.0, 1.5),
        ("K", 1, 1000.0, 4.0),
        ("K", 2, 1200.0, 9.0),
        ("N", 3, -200.0, 3.0),
        ("N", 3, 20.0, 2.5),
        ("T", 1, 100.0, 0.5),
        ("T", 2, -40.0, 1.0),
        ("T", 3, -100.0, 1.5),
        ("E", 2, 900.0, 6.75),
        ("J", 1, 750.0, 3.0),
        ("S", 1, 1100.0, 1.0),
        ("S", 1, 1600.0, 2.5),
        ("R", 2, 1600.0, 4.0),
        ("B", 2, 1000.0, 2.5),
        ("B", 3, 600.0, 4.0),
    ],
)
def test_the_class_of_the_wires_makes_the_temperature_uncertain_by_its_limit_over_root_three(letter, level, t, limit):
    wires = Thermocouple(letter, tolerance=level)
    assert float(wires.inverse(wires.values(t)).uncertainty) == pytest.approx(limit / 3**0.5, rel=1e-4)
    assert float(wires(t).uncertainty / of(letter).slopes(t)) == pytest.approx(limit / 3**0.5)


def test_beyond_the_range_of_its_class_a_value_is_refused_or_marked():
    wires = Thermocouple("K", tolerance=1)
    beyond = wires.values(1100.0)
    with pytest.raises(OutOfRange, match="class 1"):
        wires.temperature(beyond, 0.0)
    marked = wires.temperature([beyond, wires.values(-150.0), 10.0, np.nan], 0.0, outside="mark")
    assert marked.uncertain.tolist() == [True, True, False, False]
    assert marked.value[:2] == pytest.approx([1100.0, -150.0], abs=ACCURACY)  # the reference function still holds
    assert not of("K").temperature(beyond, 0.0).uncertain


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Thermocouple("Q"), "B, E, J, K, N, R, S, T"),
        (lambda: Thermocouple("k"), "no thermocouple"),
        (lambda: Thermocouple("J", tolerance=3), "it has 1 and 2"),
        (lambda: of("K").temperature(1.0, -300.0), "reference junction"),
        (lambda: of("K").temperature(1.0, -300.0, outside="mark"), "reference junction"),
        (lambda: of("K").temperature(60.0, 22.0), "type K: 1 of 1"),
        (lambda: of("K").temperature(6.0, 22.0, uncertainty=-1.0), "negative"),
        (lambda: of("K").temperature(6.0, 22.0, outside="guess"), "refuse"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(CalibrationError, match=message):
        make()


def test_many_values_are_what_each_is_alone():
    k, t = of("K"), whole_range("K", 2 * BLOCK + 17)
    emf = k.values(t)
    some = slice(None, None, 977)
    assert np.array_equal(emf[some], [k.values(one) for one in t[some]])
    assert np.array_equal(k.inverse(emf).value[some], [k.inverse(one).value for one in emf[some]])
    assert np.array_equal(k.inverse(emf[::3]).value, k.inverse(emf).value[::3])


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (2, 1, 2)])
def test_the_shape_is_kept(shape):
    emf = np.full(shape, 20.0)
    found = of("K").temperature(emf, 22.0, uncertainty=0.01)
    assert found.value.shape == found.uncertainty.shape == found.uncertain.shape == shape


def test_what_is_not_known_stays_unknown_and_harms_nothing_else():
    emf = np.array([20.0, np.nan, -3.0])
    found = of("K").temperature(emf, 22.0, uncertainty=0.01)
    assert np.isnan(found.value).tolist() == [False, True, False]
    assert not found.uncertain.any()
    assert found.value[[0, 2]] == pytest.approx(of("K").temperature(emf[[0, 2]], 22.0).value)
    assert np.isnan(of("K").values([1.0, np.nan, -1.0])).tolist() == [False, True, False]
