"""General curves: tables that never overshoot, splines, polynomials that know whether they turn back."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline, PchipInterpolator

from calibration.errors import CalibrationError, NotMonotone
from calibration.functions import Chebyshev, Inverse, Logarithmic, Pieces, Polynomial, Rational, Spline, Table

UNITS = {"unit_in": "V", "unit_out": "K"}
steps = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)
numbers = st.floats(-10.0, 10.0).map(lambda x: round(x, 3))


@settings(max_examples=40, deadline=None)
@given(steps, st.data())
def test_a_table_rises_where_its_points_rise_and_can_be_inverted_to_its_ends(widths, data):
    heights = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=len(widths), max_size=len(widths)))
    x, y = np.cumsum([0.0, *widths]), np.cumsum([0.0, *heights])
    table = Table(x, y, **UNITS)
    assert table.values(x) == pytest.approx(y, rel=1e-12)
    fine = np.unique(np.concatenate([np.linspace(a, b, 20) for a, b in pairwise(x)]))
    values = table.values(fine)
    assert (np.diff(values) > -1e-12 * y[-1]).all()
    back = table.solve(np.clip(values, y[0], y[-1]))
    assert table.values(back) == pytest.approx(values, rel=1e-12, abs=1e-12 * y[-1])


@settings(max_examples=40, deadline=None)
@given(steps, st.data())
def test_between_two_points_a_table_stays_between_their_values(widths, data):
    y = np.array(data.draw(st.lists(numbers, min_size=len(widths) + 1, max_size=len(widths) + 1)))
    x = np.cumsum([0.0, *widths])
    table = Table(x, y, **UNITS)
    for i in range(len(widths)):
        inside = table.values(np.linspace(x[i], x[i + 1], 21))
        assert inside.min() >= min(y[i], y[i + 1]) - 1e-9
        assert inside.max() <= max(y[i], y[i + 1]) + 1e-9


def test_a_table_and_a_spline_agree_with_scipy():
    rng = np.random.default_rng(5)
    x = np.cumsum(rng.uniform(0.1, 2.0, 15))
    y = np.cumsum(rng.uniform(0.1, 3.0, 15))
    fine = np.linspace(x[1], x[-2], 200)  # an end's slope is ours, see _end
    table, spline = Table(x, y, **UNITS), Spline(x, y, **UNITS)
    assert table.values(fine) == pytest.approx(PchipInterpolator(x, y)(fine), rel=1e-12)
    fine = np.linspace(x[0], x[-1], 200)
    assert spline.values(fine) == pytest.approx(CubicSpline(x, y, bc_type="natural")(fine), rel=1e-11)


def test_points_may_come_in_any_order_and_beyond_them_the_tangent_goes_on():
    table = Table([2.0, 0.0, 1.0], [4.0, 0.0, 1.0], between="straight", uncertainties=[0.4, 0.0, 0.1], **UNITS)
    assert table.values([0.5, 1.5, 3.0, -1.0]).tolist() == [0.5, 2.5, 7.0, -1.0]
    assert table.own([0.5, 2.0]).tolist() == [0.05, 0.4]


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=6), st.booleans())
def test_a_polynomial_is_inverted_only_where_it_does_not_turn_back(coefficients, as_chebyshev):
    make = (
        Chebyshev(coefficients, domain=(-1.0, 3.0), **UNITS)
        if as_chebyshev
        else Polynomial(coefficients, valid=(-1.0, 3.0), **UNITS)
    )
    x = np.linspace(-1.0, 3.0, 2001)
    moves = np.diff(make.values(x))
    size = 1e-12 * max(1.0, np.abs(make.values(x)).max())
    turns = moves.max() > size and moves.min() < -size
    least = 1e-3 * np.abs(moves).max() + size  # a bend narrower than the steps shows up as a nearly level one
    one_way = (moves > least).all() or (moves < -least).all()
    if turns:
        with pytest.raises(NotMonotone):
            make.inverse(make.values(np.array(1.0)))
    elif one_way:
        assert make.invertible == (-1.0, 3.0)


def test_a_curve_that_turns_back_says_where():
    for curve in (
        Polynomial([0.0, 0.0, 1.0], valid=(-1.0, 2.0), **UNITS),
        Rational([0.0, 1.0], [0.0, 1.0], valid=(0.0, 3.0), **UNITS),
        Table([0.0, 1.0, 2.0], [0.0, 1.0, 0.5], **UNITS),
        Spline([0.0, 1.0, 1.1, 3.0], [0.0, 1.0, 5.0, 5.1], **UNITS),
        Polynomial([5.0], valid=(0.0, 1.0), **UNITS),
    ):
        with pytest.raises(NotMonotone, match="can't be inverted"):
            curve.inverse(curve.values(np.array(0.5)))
        with pytest.raises(NotMonotone):
            Inverse(curve)


def test_type_b_turns_back_at_21_degc_and_can_be_inverted_above():
    """NIST Monograph 175, type B from 0 to 630.615 degC: the emf is least near 21 degC."""
    coefficients = [0.0, -2.46508183460e-4, 5.90404211710e-6, -1.32579316360e-9, 1.56682919010e-12, -1.69445292400e-15,
                    6.29903470940e-19]  # fmt: skip
    whole, upper = (
        Polynomial(coefficients, valid=(low, 630.615), unit_in="degC", unit_out="mV", name="type B")
        for low in (0.0, 25.0)
    )
    with pytest.raises(NotMonotone, match=r"turns back at 21\.02"):
        whole.inverse(0.5)
    assert upper.inverse(upper.values(400.0)).value == pytest.approx(400.0, abs=1e-9)


def test_a_narrower_range_makes_a_bent_table_invertible():
    table = Table([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 1.0], valid=(0.0, 2.0), **UNITS)
    assert table.inverse(1.5).value == pytest.approx(float(table.solve(np.array(1.5))))
    assert table.values(table.inverse(1.5).value) == pytest.approx(1.5)


def test_pieces_belong_to_the_upper_one_from_its_lower_end_on():
    low = Polynomial([0.0, 1.0], valid=(0.0, 2.0), **UNITS)
    high = Polynomial([0.001, 1.0], valid=(1.0, 3.0), **UNITS)
    both = Pieces([high, low], step=0.002)
    assert both.values([0.5, 1.0, 2.5]).tolist() == [0.5, 1.001, 2.501]
    assert both.inverse(1.0005).value == pytest.approx(1.0, abs=1e-12)  # within the jump: the jump's place


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Polynomial([], valid=(0, 1), **UNITS), "coefficients must be a list of at least 1"),
        (lambda: Polynomial([1, np.nan], valid=(0, 1), **UNITS), "coefficients must be finite"),
        (lambda: Polynomial(["one"], valid=(0, 1), **UNITS), "coefficients must be numbers"),
        (lambda: Polynomial([1], valid=(1, 0), **UNITS), "valid range must be a lower and a higher"),
        (lambda: Polynomial([1, 2], valid=(0, 1), covariance=[[1]], **UNITS), "covariance must be 2 x 2"),
        (lambda: Polynomial([1, 2], valid=(0, 1), covariance=[[1, 2], [0, 1]], **UNITS), "finite and symmetric"),
        (lambda: Polynomial([1, 2], valid=(0, 1), covariance=[[1, 2], [2, 1]], **UNITS), "a negative variance"),
        (lambda: Rational([1], [-1], valid=(0, 2), **UNITS), "infinite near 1 V"),
        (lambda: Rational([1], [-2 / 3, 1 / 9], valid=(0, 7), **UNITS), "infinite near"),
        (lambda: Rational([1], [0, -0.25], valid=(-3, 3), **UNITS), "infinite near"),
        (lambda: Table([1, 1], [1, 2], **UNITS), "the same x, 1 V"),
        (lambda: Table([1, 2, 3], [1, 2], **UNITS), "3 x and 2 y"),
        (lambda: Table([1, 2], [1, 2], uncertainties=[1, -1], **UNITS), "can't be negative"),
        (lambda: Table([1, 2], [1, 2], valid=(0, 2), **UNITS), "reach from 1 to 2 V, and its valid range further"),
        (lambda: Chebyshev([1, 2], domain=(0, 1), valid=(0, 2), **UNITS), "leaves the series' domain"),
        (lambda: Table([1, 2], [1, 2], between="round", **UNITS), "smooth"),
        (lambda: Pieces([], step=0), "no curves"),
        (lambda: Pieces([Table([0, 1], [0, 1], **UNITS), Table([2, 3], [2, 3], **UNITS)], step=1), "between 1 and 2 V"),
        (lambda: Pieces([Table([0, 1], [0, 1], **UNITS), Table([1, 3], [2, 3], **UNITS)], step=0.5), "by 1 K at 1 V"),
        (lambda: Pieces([Table([0, 1], [0, 1], **UNITS), Table([1, 3], [2, 3], unit_in="V", unit_out="Pa")], step=9),
         "from V to K"),
        (lambda: Logarithmic(Table([0, 1], [0, 1], **UNITS), axis="z", unit="Ohm"), 'is "x" or "y"'),
    ],
)  # fmt: skip
def test_what_makes_no_curve_is_refused_with_its_name(make, message):
    with pytest.raises(CalibrationError, match=message):
        make()


def test_pieces_that_rise_and_fall_have_no_inverse():
    bent = Pieces([Table([0, 1], [0, 1], **UNITS), Table([1, 2], [1, 0], **UNITS)], step=1e-9)
    with pytest.raises(NotMonotone, match="rises in one part and falls"):
        bent.inverse(0.5)


def test_what_has_no_logarithm_has_no_value():
    curve = Logarithmic(Table([0.0, 2.0], [0.0, 1.0], **UNITS), axis="x", unit="Ohm")
    assert np.isnan(curve.values([-1.0, 0.0])).all()


def test_an_inverse_carries_the_curve_s_own_uncertainty_over():
    heater = Polynomial([100.0, 0.4], valid=(0.0, 1000.0), covariance=[[0.04, 0.0], [0.0, 0.0]], **UNITS)
    turned = Inverse(heater)
    assert turned(300.0, 0.3).value == pytest.approx(500.0)
    assert turned(300.0, 0.3).uncertainty == pytest.approx(np.hypot(0.3, 0.2) / 0.4)
    assert heater.inverse(300.0, 0.3).uncertainty == pytest.approx(turned(300.0, 0.3).uncertainty)
