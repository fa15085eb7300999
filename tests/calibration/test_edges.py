"""Corners where a wrong number would look like a right one: masks, levels, ends, and how well a doubt is known."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from calibration.curve import Curve, Estimate
from calibration.errors import CalibrationError, FitError
from calibration.fit import fit
from calibration.functions import Polynomial, Table
from calibration.gas import BRONKHORST, flow
from calibration.heater import at_no_power, four_wire
from calibration.pump import correction
from calibration.rtd import Platinum
from calibration.sprt import Sprt
from calibration.thermocouple import Thermocouple
from calibration.uncertainty import Component, Quantity, chi_square_tail, covariance, propagate, readings

SQUARE = Polynomial([0.0, 0.0, 2.0], valid=(0.0, 10.0), unit_in="sccm", unit_out="Pa")
CURVES: list[Curve] = [SQUARE, Thermocouple("K"), Platinum(), Sprt(8, 25.5, (1e-4, 1e-5)),
                       Table([0.0, 1.0, 2.0], [5.0, 1.0, 0.0], unit_in="V", unit_out="K")]  # fmt: skip


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_what_a_mask_hides_never_comes_out_as_a_value(curve: Curve) -> None:
    x = 0.7 * curve.valid[1]
    hidden = np.ma.array([x, x, 1e30], mask=[False, True, True])
    found = curve(hidden)
    assert np.isnan(found.value).tolist() == [False, True, True]
    assert np.isnan(curve.values(hidden)).tolist() == [False, True, True]
    y = float(curve.values(x))
    back = curve.inverse(np.ma.array([y, y, 1e30], mask=[False, True, True]))
    assert back.value[0] == pytest.approx(x, abs=1e-4)
    assert np.isnan(back.value[1:]).all()


def test_a_fit_or_a_mean_of_what_a_mask_hides_is_refused() -> None:
    y = np.ma.array([0.0, 1.0, 99.0, 3.0], mask=[0, 0, 1, 0])
    with pytest.raises(FitError, match="y of point 3 is nan; leave that point out"):
        fit([0, 1, 2, 3], y, u_y=0.1)
    with pytest.raises(CalibrationError, match="V: one of its readings is not known"):
        readings("V", y)
    found = four_wire(y, 1.0)
    assert np.isnan(found.value).tolist() == [False, False, True, False]


@pytest.mark.parametrize("given", [["a", "b"], [[1.0], [1.0, 2.0]], [1j], [10**400]])
def test_what_is_no_number_is_told(given: list[object]) -> None:
    with pytest.raises(CalibrationError, match="numbers are needed"):
        SQUARE(given)  # type: ignore[arg-type]
    with pytest.raises(FitError, match="must be a list of numbers"):
        fit(given, [1.0, 2.0], u_y=0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_one_value_with_many_uncertainties_gives_many_estimates(curve: Curve) -> None:
    x = 0.7 * curve.valid[1]
    for found in (curve(x, [0.1, 0.2, 0.4]), curve.inverse(curve.values(x), [0.1, 0.2, 0.4])):
        assert found.value.shape == found.uncertainty.shape == found.uncertain.shape == (3,)
        assert found.uncertainty[2] == pytest.approx(4.0 * found.uncertainty[0], rel=1e-3)
    one = curve.inverse(float(curve.values(x)), 0.4)
    assert one.value.shape == one.uncertainty.shape == ()
    assert float(one.uncertainty) == pytest.approx(found.uncertainty[2])


def test_just_below_a_point_a_table_has_that_points_value_and_not_the_last_ones() -> None:
    table = Table([-1e6, 1e-3, 5.0], [0.0, 1.0, 100.0], unit_in="V", unit_out="K", between="straight")
    assert float(table.values(np.nextafter(1e-3, 0.0))) == pytest.approx(1.0)


def test_where_a_curve_ends_level_its_inverse_is_known_with_an_infinite_doubt() -> None:
    found = SQUARE.inverse([0.0, 50.0], 0.1)  # an orifice: no flow, no pressure drop
    assert found.value == pytest.approx([0.0, 5.0])
    assert found.uncertainty[0] == inf
    assert found.uncertainty[1] == pytest.approx(0.1 / 20.0)


def test_the_doubt_of_a_resistance_without_power_is_known_as_well_as_its_points_allow() -> None:
    resistance, rise = at_no_power([100.00, 100.11, 100.19], [0.0, 1e-3, 2e-3])
    assert (resistance.dof, rise.dof) == (1.0, 1.0)
    assert float(resistance.expanded()) == pytest.approx(12.706 * float(resistance.uncertainty), rel=1e-4)
    assert at_no_power([100.0, 100.1, 100.2], [0.0, 1e-3, 2e-3], 0.01)[0].dof == inf


def test_a_pump_weighed_twice_is_known_less_well_than_one_weighed_often() -> None:
    volumes = np.array([99.0, 101.0])
    weighed = Estimate(volumes, np.full(2, 1e-3), np.zeros(2, bool), "uL")
    twice = correction(100.0, weighed, full_scale=500.0)(200.0)
    assert float(twice.dof) == pytest.approx(1.0, rel=1e-3)
    assert float(twice.expanded()) == pytest.approx(12.7 * 2.0, rel=1e-2)
    exactly = Estimate(np.array([99.0]), np.full(1, 1e-3), np.zeros(1, bool), "uL")
    assert correction(100.0, exactly, full_scale=500.0)(200.0).dof == inf


def test_no_other_point_is_taken_for_that_of_aluminium() -> None:
    with pytest.raises(FitError, match="needs the aluminium point"):
        Sprt.from_points(6, 25.5, {"Sn": 48.26, "Zn": 65.5, 700.0: 89.0, "Ag": 109.3})


def test_a_gas_that_is_not_there_makes_no_doubt() -> None:
    pure = flow("CO2", BRONKHORST, full_scale=10.0, calibrated={"CO2": 1.0, "N2": 0.0})
    assert float(pure(5.0).uncertainty) == 0.0


def test_points_that_lie_on_the_curve_exactly_are_no_outliers_of_each_other() -> None:
    for robust in ("huber", "tukey"):
        found = fit(np.arange(5), 1.0 + 2.0 * np.arange(5), robust=robust)  # type: ignore[arg-type]
        assert found.coefficients == pytest.approx([1.0, 2.0])
        assert "do not scatter at all" in str(found)


@pytest.mark.parametrize("model", [np.mean, lambda x: x[0], lambda x: x.reshape(-1), np.sum], ids=range(4))
def test_a_model_that_mixes_its_trials_is_refused_and_not_taken_for_a_constant(model: object) -> None:
    with pytest.raises(CalibrationError, match="element by element"):
        propagate(model, Quantity("x", [1.0, 2.0], [Component("e", 0.1)]))  # type: ignore[arg-type]
    assert float(propagate(lambda x: 5.0, Quantity("x", 1.0, [Component("e", 0.1)])).value) == 5.0  # type: ignore[arg-type, return-value]


def test_quantities_of_different_lengths_are_named() -> None:
    with pytest.raises(CalibrationError, match=r"do not go together: x of \(3,\), y of \(2,\)"):
        propagate(lambda x, y: x + y, Quantity("x", np.zeros(3)), Quantity("y", np.zeros(2)))


VOLT, AMPERE, PHI = (Quantity(name, value, [Component("scatter", u, dof=4)]) for name, value, u in
             (("V", 4.999, 3.2e-3), ("I", 19.661e-3, 9.5e-6), ("phi", 1.04446, 7.5e-4)))  # fmt: skip
TOGETHER = {("V", "I"): -0.355, ("V", "phi"): 0.858, ("I", "phi"): -0.645}


def test_two_results_vary_together_in_whatever_order_their_quantities_were_named() -> None:
    """GUM H.2."""
    how = {"correlations": TOGETHER, "method": "first order"}
    r = propagate(lambda v, i, p: v / i * np.cos(p), VOLT, AMPERE, PHI, **how)
    x = propagate(lambda p, i, v: v / i * np.sin(p), PHI, AMPERE, VOLT, **how)
    z = propagate(lambda i, v: v / i, AMPERE, VOLT, correlations={("I", "V"): -0.355}, method="first order")
    for one, other, printed in ((r, x, -0.588), (r, z, -0.485), (x, z, 0.993)):
        found = float(covariance(one, other) / one.uncertainty / other.uncertainty)
        assert found == pytest.approx(printed, abs=5e-3)


@pytest.mark.parametrize(
    ("correlations", "why"),
    [
        ({("V", "I"): 0.3}, "V and I is another one in each"),
        (None, "I has correlations in one of the two results only"),
    ],
)
def test_results_that_do_not_agree_on_a_correlation_have_no_covariance(correlations: object, why: str) -> None:
    r = propagate(lambda v, i, p: v / i * np.cos(p), VOLT, AMPERE, PHI, correlations=TOGETHER, method="first order")
    z = propagate(lambda v, i: v / i, VOLT, AMPERE, correlations=correlations, method="first order")  # type: ignore[arg-type]
    for pair in ((r, z), (z, r)):
        with pytest.raises(CalibrationError, match=why):
            covariance(*pair)


@pytest.mark.parametrize("dof", [1e3, 1e5, 1e7])
def test_chi_square_of_very_many_readings_is_right_too(dof: float) -> None:
    """Its median, after E. B. Wilson and M. M. Hilferty, Proc. Natl. Acad. Sci. 17 (1931) 684."""
    assert float(chi_square_tail(dof * (1.0 - 2.0 / (9.0 * dof)) ** 3, dof)) == pytest.approx(0.5, abs=1e-5)
