"""The common solver of curves that have no inverse of their own: jumps, kinks, flat starts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.curve import Curve


class Drawn(Curve):
    """Any rising function, for the solver alone."""

    name, unit_in, unit_out, valid = "drawn", "V", "K", (0.0, 3.0)

    def __init__(self, f, slope):
        self._f, self._slope = f, slope

    def values(self, x):
        return self._f(np.asarray(x, float))

    def slopes(self, x):
        return self._slope(np.asarray(x, float))


JUMP = Drawn(lambda x: np.where(x < 1.0, x, x + 1.0), np.ones_like)
KINK = Drawn(lambda x: np.where(x < 1.0, 1e-3 * x, 1e-3 + 1e3 * (x - 1.0)), lambda x: np.where(x < 1.0, 1e-3, 1e3))
STEP = Drawn(lambda x: np.arctan(50.0 * (x - 1.3)), lambda x: 50.0 / (1.0 + (50.0 * (x - 1.3)) ** 2))
CUBE = Drawn(lambda x: (x - 1.0) ** 3, lambda x: 3.0 * (x - 1.0) ** 2)


def test_a_value_within_a_jump_is_found_at_the_jump():
    assert JUMP.solve(np.array([1.2, 1.5, 1.9])) == pytest.approx([1.0, 1.0, 1.0], abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([JUMP, KINK, STEP]), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=8))
def test_every_x_is_found_again_from_its_value(curve, x):
    x = np.array(x)
    assert curve.solve(curve.values(x)) == pytest.approx(x, abs=1e-9)


def test_a_flat_place_costs_digits_and_not_the_answer():
    y = CUBE.values(np.linspace(0.0, 3.0, 13))
    assert CUBE.values(CUBE.solve(y)) == pytest.approx(y, abs=1e-15)


def test_gaps_stay_gaps():
    found = STEP.solve(np.array([np.nan, 0.0]))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1.3)
