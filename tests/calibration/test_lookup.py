"""The table of an inverse keeps its promise for whatever monotone curve it is made from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.curve import Curve
from calibration.errors import CalibrationError, NotMonotone
from calibration.lookup import ACCURACY, Lookup
from calibration.rtd import Platinum
from calibration.sprt import REFERENCE
from calibration.thermocouple import Thermocouple


class Made(Curve):
    """A curve of the given functions."""

    name = "made"
    unit_in = unit_out = "1"

    def __init__(self, function, slope, valid):
        self.function, self.slope, self.valid = function, slope, valid

    def values(self, x):
        return self.function(np.asarray(x, np.float64))

    def slopes(self, x):
        return self.slope(np.asarray(x, np.float64))


CURVES = {
    "a line": (lambda x: 3.0 * x + 1.0, lambda x: np.full_like(x, 3.0), (-5.0, 20.0)),
    "a falling line": (lambda x: -x, lambda x: np.full_like(x, -1.0), (0.0, 1.0)),
    "a thermistor": (lambda x: np.exp(-0.04 * x), lambda x: -0.04 * np.exp(-0.04 * x), (0.0, 100.0)),
    "a parabola from near its apex": (lambda x: x * x, lambda x: 2.0 * x, (1e-3, 100.0)),
    "a parabola towards its apex": (lambda x: -x * x, lambda x: -2.0 * x, (-100.0, -1e-3)),
    "one steep in the middle": (lambda x: np.arctan(x), lambda x: 1.0 / (1.0 + x * x), (-5.0, 5.0)),
    "a cube, flat in the middle": (lambda x: x**3 + 0.1 * x, lambda x: 3.0 * x * x + 0.1, (-3.0, 3.0)),
}


@pytest.mark.parametrize("kind", CURVES)
def test_the_table_solves_the_curve_to_its_accuracy(kind):
    curve = Made(*CURVES[kind])
    x = np.append(np.random.default_rng(0).uniform(*curve.valid, 20_000), curve.valid)
    lookup = Lookup(curve, curve.valid)
    assert np.abs(lookup(curve.values(x)) - x).max() < 1.2 * ACCURACY
    assert lookup.error <= ACCURACY


@settings(max_examples=20, deadline=None)
@given(seam=st.floats(-8.0, 8.0), ratio=st.floats(0.5, 2.0))
def test_a_corner_costs_nothing_where_it_is_known(seam, ratio):
    curve = Made(
        lambda x: np.where(x < seam, x - seam, ratio * (x - seam)),
        lambda x: np.where(x < seam, 1.0, ratio),
        (-9.0, 9.0),
    )
    lookup = Lookup(curve, curve.valid, seam)
    x = np.append(np.linspace(-9.0, 9.0, 1001), seam)
    assert lookup(curve.values(x)) == pytest.approx(x, abs=1.2 * ACCURACY)


def test_a_curve_that_turns_back_has_no_table():
    curve = Made(lambda x: x**3 - x, lambda x: 3.0 * x * x - 1.0, (-2.0, 2.0))
    with pytest.raises(NotMonotone, match="turns back"):
        Lookup(curve, curve.valid)


def test_a_curve_too_bent_for_a_table_is_refused():
    curve = Made(lambda x: x**21 + 1e-9 * x, lambda x: 21.0 * x**20 + 1e-9, (-1.0, 1.0))
    with pytest.raises(CalibrationError, match="no table"):
        Lookup(curve, curve.valid)


@pytest.mark.parametrize("curve", [*map(Thermocouple, "BEJKNRST"), Platinum(), REFERENCE], ids=lambda c: c.name)
def test_an_uncertainty_is_that_of_the_reading_over_the_slope_within_a_thousandth(curve):
    x = np.linspace(*curve.span, 20_001)[1:-1]
    found = curve.inverse(curve.values(x), 0.01)
    assert np.abs(found.uncertainty * np.abs(curve.slopes(x)) / 0.01 - 1.0).max() < 1e-3
    assert np.abs(found.value - x).max() < 1.2 * curve.accuracy
