"""Simulated calibrations: how often the interval stated for 95 % contains the truth, 10^4 trials for each of ten seeds.

`bench/coverage.py` prints the figures, of more cases.
"""

import numpy as np
import pytest

from calibration.fit import ChebyshevForm, PolynomialForm
from calibration.fit.errors_in_both import Errors, adjust
from calibration.uncertainty import Component, Quantity, propagate, readings, resolution, student

TRIALS = 10_000
SEEDS = range(10)
X = np.linspace(0.0, 10.0, 8)
AT = np.array([0.0, 2.2, 7.1, 10.0])
ENDS = (0.0, 10.0)
LINE = np.array([1.0, 2.0])
BENT = np.array([1.0, 2.0, -0.05])


def share_inside(truth, middle, half):
    return np.mean(np.abs(middle - truth) <= half, axis=0)


def fitted(form, truth, x, y, errors, dof=np.inf):
    """Coverage of the true curve at each of `AT`, with k for 95 %."""
    found = adjust(form, x, y, errors, ENDS).solution
    rows = form.gradients(AT, np.zeros(form.size), ENDS)
    scale = 1.0 if np.isinf(dof) else found.sum_of_squares / found.dof
    variance = np.einsum("ai,...ij,aj->...a", rows, found.unscaled, rows) * np.reshape(scale, (-1, 1))
    return share_inside(truth, found.coefficients @ rows.T, student(0.95, dof) * np.sqrt(variance))


def well(coverage):
    return np.all(coverage > 0.94) and np.all(coverage < 0.96)


@pytest.mark.parametrize("seed", SEEDS)
def test_bands_from_known_uncertainties_cover_the_curve(seed):
    random = np.random.default_rng(seed)
    u = np.linspace(0.1, 0.4, 8)
    y = np.polynomial.polynomial.polyval(X, BENT) + u * random.standard_normal((TRIALS, 8))
    truth = np.polynomial.polynomial.polyval(AT, BENT)
    assert well(fitted(PolynomialForm(2), truth, X, y, Errors(np.zeros(8), u**2, np.zeros(8), False)))


@pytest.mark.parametrize("seed", SEEDS)
def test_bands_from_the_scatter_cover_the_curve(seed):
    random = np.random.default_rng(seed)
    y = np.polynomial.polynomial.polyval(X, BENT) + 0.3 * random.standard_normal((TRIALS, 8))
    truth = np.polynomial.polynomial.polyval(AT, BENT)
    errors = Errors(np.zeros(8), np.ones(8), np.zeros(8), False)
    assert well(fitted(ChebyshevForm(2), truth, X, y, errors, dof=5))


@pytest.mark.parametrize("seed", SEEDS)
def test_bands_cover_the_curve_where_all_points_share_a_reference(seed):
    random = np.random.default_rng(seed)
    own, shared = 0.1, 0.3
    y = np.polynomial.polynomial.polyval(X, LINE) + own * random.standard_normal((TRIALS, 8))
    y += shared * random.standard_normal((TRIALS, 1))
    truth = np.polynomial.polynomial.polyval(AT, LINE)
    errors = Errors(np.zeros((8, 8)), own**2 * np.eye(8) + shared**2, np.zeros(8), True)
    assert well(fitted(PolynomialForm(1), truth, X, y, errors))


@pytest.mark.parametrize("seed", SEEDS)
def test_bands_cover_the_curve_where_x_and_y_have_errors(seed):
    random = np.random.default_rng(seed)
    u_x, u_y = 0.1, 0.2
    x = X + u_x * random.standard_normal((TRIALS, 8))
    y = np.polynomial.polynomial.polyval(X, LINE) + u_y * random.standard_normal((TRIALS, 8))
    errors = Errors(np.full(8, u_x**2), np.full(8, u_y**2), np.zeros(8), False)
    assert well(fitted(PolynomialForm(1), np.polynomial.polynomial.polyval(AT, LINE), x, y, errors))


@pytest.mark.parametrize("seed", SEEDS)
def test_budgets_with_few_readings_cover_the_result(seed):
    random = np.random.default_rng(seed)
    current, lead, reference = 1e-3, 0.3, 100.0
    volts = reference * current + 2e-6 * random.standard_normal((TRIALS, 5))
    found = propagate(
        lambda v, i, r: v / i - r,
        readings("V", volts, resolution(1e-6), unit="V"),
        Quantity("I", current * (1.0 + 1e-5 * random.standard_normal(TRIALS)), [Component("source", 1e-8)], "A"),
        Quantity("R_lead", lead + 1e-3 * random.standard_normal(TRIALS), [Component("certificate", 1e-3)], "Ohm"),
        unit="Ohm",
    )
    truth = reference - lead
    assert found.linear.all()
    assert well(np.mean((found.low <= truth) & (truth <= found.high)))
