"""Platinum agrees with the printed tables of IEC 60751, the ITS-90's fixed points and a published certificate."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.errors import CalibrationError, FitError, NotMonotone, OutOfRange
from calibration.its90_data import FIXED_POINTS
from calibration.lookup import ACCURACY
from calibration.rtd import Platinum
from calibration.sprt import REFERENCE, SUBRANGES, Sprt

PT100 = Platinum()

# Wr, its-90.com/table1.html: H. Preston-Thomas, Metrologia 27 (1990), table 1.
RATIOS = dict(
    zip(
        FIXED_POINTS,
        [0.00119007, 0.00844974, 0.09171804, 0.21585975, 0.84414211, 1.0]
        + [1.11813889, 1.60980185, 1.89279768, 2.56891730, 3.37600860, 4.28642053],
        strict=True,
    )
)

# Isotech, sample certificate of a 25 ohm SPRT (isotech.co.uk/icarus/samplecertlong.htm): ohms and coefficients.
WATER = 25.544261
ABOVE_ZERO = {231.927: 48.342838, 419.527: 65.608169, 660.32: 86.217653}
ABOUT_WATER = {"Hg": 21.563901, "Ga": 28.561074}
CERTIFIED = {
    7: (-2.982376094442697e-4, -2.347216136920800e-5, 5.058518332814592e-6),
    5: (-2.796694757957740e-4, -3.199472366290438e-4),
}

# The size that coefficients of real thermometers have.
LIKELY = {
    1: (-2e-4, -1e-5, 1e-7, 1e-7, 2e-8, 3e-9, 1e-10),
    2: (-2e-4, -1e-5, 1e-6, 1e-6, 1e-7),
    3: (-2e-4, -1e-5, 1e-6),
    4: (-1e-4, 2e-5),
    5: CERTIFIED[5],
    6: (*CERTIFIED[7], -1e-5),
    7: CERTIFIED[7],
    8: (-2e-4, -2e-5),
    9: (-2e-4, -2e-5),
    10: (-2e-4,),
    11: (-2e-4,),
}
SUBRANGE = pytest.mark.parametrize("subrange", sorted(SUBRANGES))


def sprt(subrange):
    return Sprt(subrange, 100.0, LIKELY[subrange], aluminium=3.3752260 if subrange == 6 else None)


def printed():
    lines = (Path(__file__).parent / "data" / "pt100.txt").read_text("utf-8").splitlines()
    return [line.split() for line in lines if not line.startswith("#")]


def test_every_printed_value_of_a_pt100_is_met_to_its_last_digit():
    table = printed()
    assert len(table) > 290
    off = [
        (t, ohm, value)
        for t, ohm in table
        if abs((value := float(PT100.values(float(t)))) - float(ohm)) > 0.5 * 10.0 ** -len(ohm.partition(".")[2]) + 1e-9
    ]
    assert off == []


def test_every_printed_resistance_gives_its_temperature_back_those_of_both_ends_too():
    t, ohm = np.array([(float(t), float(ohm)) for t, ohm in printed()]).T
    assert (t.min(), t.max()) == (-200.0, 850.0)
    assert np.abs((PT100.inverse(ohm).value - t) * PT100.slopes(t)).max() < 0.51e-2
    for beyond in (18.51, 390.49):
        with pytest.raises(OutOfRange):
            PT100.inverse(beyond)


def test_the_inverse_of_a_pt100_solves_the_equation_over_its_whole_range():
    t = np.linspace(-200.0, 850.0, 40_001)
    assert np.abs(PT100.inverse(PT100.values(t)).value - t).max() < 1.2 * ACCURACY


@given(nominal=st.floats(1.0, 10_000.0), t=st.floats(-200.0, 850.0))
def test_other_nominal_resistances_scale(nominal, t):
    assert float(Platinum(nominal).values(t)) == pytest.approx(nominal / 100.0 * float(PT100.values(t)))


def test_the_slope_of_a_pt100_is_the_difference_quotient():
    t = np.linspace(-199.0, 849.0, 2001)
    assert PT100.slopes(t) == pytest.approx((PT100.values(t + 0.01) - PT100.values(t - 0.01)) / 0.02, rel=1e-7)


@pytest.mark.parametrize(  # SAB Kabel, "Pt100 Tabelle": limits in ohm and K
    ("tolerance", "t", "kelvin", "ohm"),
    [
        ("A", -100.0, 0.35, 0.14),
        ("A", 0.0, 0.15, 0.06),
        ("A", 300.0, 0.75, 0.27),
        ("B", -100.0, 0.80, 0.32),
        ("B", 0.0, 0.30, 0.12),
        ("B", 600.0, 3.30, 1.06),
        ("AA", 100.0, 0.27, 0.10),
        ("C", 100.0, 1.60, 0.61),
    ],
)
def test_a_class_is_an_uncertainty_of_its_limit_over_root_three(tolerance, t, kelvin, ohm):
    sensor = Platinum(tolerance=tolerance)
    assert float(sensor(t).uncertainty) * 3**0.5 == pytest.approx(ohm, abs=0.005)
    assert float(sensor.inverse(PT100.values(t)).uncertainty) * 3**0.5 == pytest.approx(kelvin, rel=1e-4)


def test_a_thin_film_is_refused_where_its_class_does_not_hold():
    film, wire = Platinum(tolerance="AA", element="film"), Platinum(tolerance="AA")
    ohm = PT100.values(200.0)
    with pytest.raises(OutOfRange, match="film"):
        film.inverse(ohm)
    marked = film.inverse(ohm, outside="mark")
    assert marked.uncertain
    assert float(marked.value) == pytest.approx(200.0, abs=1e-4)
    assert float(wire.inverse(ohm).value) == pytest.approx(200.0, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Platinum(0.0), CalibrationError, "positive"),
        (lambda: Platinum(float("nan")), CalibrationError, "positive"),
        (lambda: Platinum(tolerance="D"), CalibrationError, "AA, A, B and C"),
        (lambda: Platinum(element="foil"), CalibrationError, "film"),
        (lambda: Platinum(tolerance="A", a=3.9e-3), CalibrationError, "not both"),
        (lambda: Platinum(b=-5.775e-6), NotMonotone, "falls near 3"),
        (lambda: PT100.inverse(400.0), OutOfRange, "18.52"),
        (lambda: Sprt(12, 25.5), CalibrationError, "1 to 11"),
        (lambda: Sprt(7, -1.0), CalibrationError, "positive"),
        (lambda: Sprt(7, 25.5, (1e-4,)), CalibrationError, "3 coefficients"),
        (lambda: Sprt(6, 25.5, (1e-4, 0.0, 0.0, 0.0)), CalibrationError, "aluminium"),
        (lambda: Sprt(1, 25.5, (1e-4,) * 7), NotMonotone, "falls near -259"),
        (lambda: Sprt.from_points(7, WATER, {"Zn": 65.6}), FitError, "needs 3"),
        (lambda: Sprt.from_points(9, WATER, {"In": 41.1, "Zn": 65.6}), FitError, "outside"),
        (lambda: Sprt.from_points(9, WATER, {"In": 41.1, "Xx": 65.6}), FitError, "no fixed point"),
        (lambda: Sprt.from_points(9, WATER, {"In": 41.1, 156.5985: 41.1}), FitError, "the same"),
    ],
)
def test_what_makes_no_sense_is_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize("point", FIXED_POINTS)
def test_the_reference_function_meets_the_fixed_points_to_the_last_printed_digit(point):
    assert float(REFERENCE.values(FIXED_POINTS[point])) == pytest.approx(RATIOS[point], abs=0.5e-8)
    assert float(REFERENCE.inverse(RATIOS[point], outside="mark").value) == pytest.approx(FIXED_POINTS[point], abs=5e-5)


def test_the_inverse_of_the_reference_function_solves_it_over_its_whole_range():
    t = np.linspace(*REFERENCE.valid, 40_001)
    assert np.abs(REFERENCE.inverse(REFERENCE.values(t)).value - t).max() < 1.2 * REFERENCE.accuracy


@pytest.mark.parametrize(("subrange", "points"), [(7, ABOVE_ZERO), (5, ABOUT_WATER)])
def test_the_fixed_points_of_a_published_certificate_give_its_coefficients(subrange, points):
    found = Sprt.from_points(subrange, WATER, points)
    assert found.coefficients == pytest.approx(CERTIFIED[subrange], rel=1e-9)


@pytest.mark.parametrize(("subrange", "points"), [(7, ABOVE_ZERO), (5, ABOUT_WATER)])
def test_a_certified_thermometer_tells_the_temperature_of_its_fixed_points(subrange, points):
    thermometer = Sprt(subrange, WATER, CERTIFIED[subrange])
    t = [FIXED_POINTS.get(point, point) for point in points]
    assert thermometer.inverse(list(points.values())).value == pytest.approx(t, abs=1.2 * REFERENCE.accuracy)
    assert thermometer.values(t) == pytest.approx(list(points.values()), abs=1e-6)


@SUBRANGE
def test_resistance_and_temperature_are_each_other_s_inverse_in_every_sub_range(subrange):
    thermometer = sprt(subrange)
    t = np.linspace(*thermometer.valid, 2001)
    assert np.abs(thermometer.inverse(thermometer.values(t)).value - t).max() < 2.0 * REFERENCE.accuracy


@SUBRANGE
def test_the_slope_is_the_difference_quotient_in_every_sub_range(subrange):
    thermometer = sprt(subrange)
    low, high = thermometer.valid
    t = np.linspace(low + 0.02, high - 0.02, 1001)
    h = 1e-4
    difference = (thermometer.values(t + h) - thermometer.values(t - h)) / (2.0 * h)
    assert thermometer.slopes(t) == pytest.approx(difference, rel=1e-6)


@SUBRANGE
def test_an_ideal_thermometer_follows_the_reference_function(subrange):
    ideal = Sprt(subrange, 25.0)
    t = np.linspace(*ideal.valid, 101)
    assert ideal.values(t) == pytest.approx(25.0 * REFERENCE.values(t), rel=1e-14)


@SUBRANGE
def test_as_many_points_as_coefficients_find_the_thermometer_again(subrange):
    made = sprt(subrange)
    t = np.linspace(*made.valid, made.subrange.count + 1)
    given = np.delete(t, np.argmin(np.abs(t)))  # the triple point of water tells no coefficient
    if subrange == 6:
        given = np.array([FIXED_POINTS[point] for point in ("Sn", "Zn", "Al", "Ag")])
        made = Sprt(6, 100.0, LIKELY[6], aluminium=float(made.values(FIXED_POINTS["Al"])) / 100.0)
    found = Sprt.from_points(subrange, 100.0, {float(at): float(made.values(at)) for at in given})
    t = np.linspace(*made.valid, 301)
    assert np.abs((found.values(t) - made.values(t)) / made.slopes(t)).max() < 1e-6


def test_a_standard_thermometers_uncertainty_is_what_trials_of_its_fixed_points_give():
    rng = np.random.default_rng(7)
    points = {"Sn": 25.5 * 1.8926, "Zn": 25.5 * 2.5686, "Al": 25.5 * 3.3757}
    u, u_water = np.array([2e-5, 3e-5, 5e-5]), 1e-5
    known = Sprt.from_points(7, 25.5, points, uncertainties=u, water_uncertainty=u_water)
    t = np.array([30.0, 200.0, 419.5, 600.0])
    r = known.values(t)
    moved = []
    for _ in range(150):
        errors = rng.normal(0.0, u)
        tried = {name: value + e for (name, value), e in zip(points.items(), errors, strict=True)}
        moved.append(Sprt.from_points(7, 25.5 + rng.normal(0.0, u_water), tried).values(t))
    assert np.std(moved, axis=0) == pytest.approx(known.own(t), rel=0.25)
    found = known.inverse(r, 1e-5)
    expected = np.hypot(1e-5, known.own(t)) / known.slopes(t)
    assert found.uncertainty == pytest.approx(expected, rel=1e-6)
    assert not Sprt(7, 25.5, known.coefficients).own(t).any()


def test_a_standard_thermometers_covariance_has_to_be_one_and_of_its_size():
    with pytest.raises(CalibrationError, match="4 x 4"):
        Sprt(7, 25.5, (0.0, 0.0, 0.0), covariance=np.zeros((3, 3)))
