"""Least squares against NIST's certified regressions, and everything else a fit of y alone must do."""

from pathlib import Path

import numpy as np
import pytest

from calibration.curve import Estimate
from calibration.errors import CalibrationError, FitError
from calibration.fit import ChebyshevForm, Fit, FunctionForm, PolynomialForm, RationalForm, fit, linear, select
from calibration.fit.forms import as_powers
from calibration.functions import Polynomial

STRD = Path(__file__).parent / "data" / "strd"


def certified(name: str) -> tuple[np.ndarray, float, np.ndarray]:
    """Coefficients with their standard deviations, residual standard deviation, and the data, y first."""
    text = (STRD / f"{name}.txt").read_text().splitlines()
    table = np.array([line.split()[3:] for line in text if line.startswith("# certified")], float)
    scale = float(next(line for line in text if line.startswith("# residual")).split()[2])
    return table, scale, np.loadtxt(STRD / f"{name}.txt")


def digits(found: np.ndarray, right: np.ndarray) -> float:
    """How many of the worst of them are right: the negative logarithm of its relative error."""
    return float(-np.log10(np.max(np.abs(found / right - 1.0)) + 1e-17))


@pytest.mark.parametrize(("name", "degree"), [("norris", 1), ("pontius", 2)])
def test_fits_of_nist_reference_data_have_the_certified_digits(name, degree):
    table, scale, data = certified(name)
    found = fit(data[:, 1], data[:, 0], form=PolynomialForm(degree))
    assert digits(found.coefficients, table[:, 0]) > 12.0
    assert digits(found.uncertainties, table[:, 1]) > 12.0
    assert found.scale == pytest.approx(scale, rel=1e-12)
    assert found.dof == len(data) - degree - 1


def test_the_tenth_degree_of_filip_keeps_thirteen_digits_in_chebyshevs_basis():
    table, scale, data = certified("filip")
    found = fit(data[:, 1], data[:, 0], form=ChebyshevForm(10))
    powers, covariance = as_powers(found.coefficients, found.covariance, (data[:, 1].min(), data[:, 1].max()))
    assert digits(powers, table[:, 0]) > 13.0
    assert digits(np.sqrt(np.diag(covariance)), table[:, 1]) > 13.0
    assert found.scale == pytest.approx(scale, rel=1e-12)


def test_a_polynomial_whose_powers_cannot_carry_its_uncertainty_is_refused():
    _, _, data = certified("filip")
    with pytest.raises(FitError, match="ChebyshevForm"):
        fit(data[:, 1], data[:, 0], form=PolynomialForm(10))


def test_longleys_nearly_dependent_columns_keep_eleven_digits():
    table, _, data = certified("longley")
    found = linear.solve(np.column_stack([np.ones(16), data[:, 1:]]), data[:, 0])
    assert digits(found.coefficients, table[:, 0]) > 11.0
    variance = found.sum_of_squares / found.dof
    assert digits(np.sqrt(np.diag(found.unscaled) * variance), table[:, 1]) > 11.0


def thermometer() -> Fit:
    """JCGM 100:2008, table H.6: correction of a thermometer, the temperature less 20 degC."""
    t = [21.521, 22.012, 22.512, 23.003, 23.507, 23.999, 24.513, 25.002, 25.503, 26.010, 26.511]
    b = [-0.171, -0.169, -0.166, -0.159, -0.164, -0.165, -0.156, -0.157, -0.159, -0.161, -0.160]
    return fit(np.array(t) - 20.0, b, valid=(0.0, 10.0), unit_in="degC above 20", unit_out="degC")


def test_the_guides_thermometer_is_calibrated_as_in_the_guide():
    found = thermometer()  # H.3.3, H.3.4
    assert found.coefficients == pytest.approx([-0.1712, 0.00218], abs=0.00005)
    assert found.uncertainties == pytest.approx([0.0029, 0.00067], abs=0.00005)
    assert found.covariance[0, 1] / np.prod(found.uncertainties) == pytest.approx(-0.930, abs=5e-4)
    assert found.scale == pytest.approx(0.0035, abs=5e-5)
    at_30 = found.curve(10.0)
    assert float(at_30.value) == pytest.approx(-0.1494, abs=5e-5)
    assert float(at_30.uncertainty) == pytest.approx(0.0041, abs=5e-5)
    assert found.k() == pytest.approx(2.26, abs=0.005)  # table G.2, 9 degrees of freedom


def test_a_fitted_curve_gives_estimates_in_its_units():
    estimate = thermometer().curve(5.0, 0.1)
    assert isinstance(estimate, Estimate)
    assert estimate.unit == "degC"


def test_the_band_is_k_times_the_curves_own_uncertainty_and_a_further_reading_scatters_more():
    found = thermometer()
    x = np.linspace(0.0, 10.0, 7)
    low, high = found.band(x, 0.99)
    middle = found.curve(x)
    assert 0.5 * (high - low) == pytest.approx(3.2498 * middle.uncertainty, rel=1e-4)  # t, 9 degrees, 99 %
    assert 0.5 * (low + high) == pytest.approx(middle.value)
    below, above = found.prediction(x, level=0.99)
    assert 0.5 * (above - below) == pytest.approx(3.2498 * np.hypot(middle.uncertainty, found.scale), rel=1e-4)


def test_known_uncertainties_are_taken_at_their_word_unless_the_scatter_is_asked():
    x, y = np.arange(1.0, 7.0), np.array([3.3, 5.6, 7.1, 9.3, 10.7, 12.1])
    given = fit(x, y, u_y=0.5)  # by hand: sum of (x - mean)^2 = 17.5
    assert given.uncertainties[1] == pytest.approx(0.5 / np.sqrt(17.5))
    assert given.dof == np.inf
    observed = fit(x, y, u_y=0.5, scatter="observed")
    assert observed.coefficients == pytest.approx(given.coefficients)
    birge = np.sqrt(given.diagnostics.chi_square / 4.0)
    assert observed.uncertainties == pytest.approx(birge * given.uncertainties)
    assert observed.uncertainties == pytest.approx(fit(x, y).uncertainties)


def test_a_constant_is_the_weighted_mean():
    y, u = np.array([10.1, 9.7, 10.4]), np.array([0.1, 0.2, 0.4])
    found = fit([1.0, 2.0, 3.0], y, u_y=u, form=PolynomialForm(0))
    assert found.coefficients == pytest.approx([np.sum(y / u**2) / np.sum(1 / u**2)])
    assert found.uncertainties == pytest.approx([np.sum(1 / u**2) ** -0.5])


def test_an_error_that_all_points_share_does_not_average_out():
    x = np.linspace(0.0, 1.0, 50)
    y = 2.0 + 3.0 * x
    own, shared = 0.1, 0.5
    found = fit(x, y, u_y=own**2 * np.eye(50) + shared**2)
    alone = fit(x, y, u_y=own)
    assert found.coefficients == pytest.approx([2.0, 3.0])
    assert found.uncertainties[1] == pytest.approx(alone.uncertainties[1])  # a slope feels no common offset
    assert found.uncertainties[0] == pytest.approx(np.hypot(alone.uncertainties[0], shared))


def test_leave_one_out_residuals_are_those_of_fits_without_each_point():
    random = np.random.default_rng(0)
    x = np.sort(random.uniform(0.0, 10.0, 9))
    y = 1.0 + x - 0.05 * x**2 + random.normal(0.0, 0.1, 9)
    u = random.uniform(0.05, 0.2, 9)
    shared = np.diag(u**2) + 0.01
    for u_y in (None, u):
        found = fit(x, y, u_y=u_y, form=PolynomialForm(2))
        left = [y[i] - found.without(i).curve.values(x[i]) for i in range(9)]
        assert found.diagnostics.left_out == pytest.approx(left, rel=1e-9)
    found = fit(x, y, u_y=shared, form=PolynomialForm(2))  # predicted with what the others know of the common error
    for i in (0, 4):
        rest, others = found.without(i), np.delete(np.arange(9), i)
        known = shared[i, others] @ np.linalg.solve(shared[np.ix_(others, others)], rest.residuals)
        assert found.diagnostics.left_out[i] == pytest.approx(y[i] - rest.curve.values(x[i]) - known, rel=1e-8)


def test_cooks_distance_is_how_far_the_curve_moves_without_the_point():
    found = thermometer()
    for i in (0, 5, 10):
        step = found.without(i).coefficients - found.coefficients
        distance = step @ np.linalg.solve(found.covariance, step) / 2.0
        assert found.diagnostics.cook[i] == pytest.approx(distance, rel=1e-9)


def test_a_parabola_fitted_as_a_line_is_told_from_its_residuals():
    x = np.linspace(0.0, 1.0, 30)
    y = x + 0.3 * x**2
    found = fit(x, y, u_y=0.01)
    assert any("keep their sign" in remark for remark in found.diagnostics.remarks)
    assert any("further from the curve" in remark for remark in found.diagnostics.remarks)
    assert found.diagnostics.durbin_watson < 0.5
    assert "look:" in str(found)


def test_uncertainties_that_are_far_too_large_are_doubted():
    x = np.linspace(0.0, 1.0, 30)
    found = fit(x, x + np.random.default_rng(1).normal(0.0, 0.01, 30), u_y=0.1)
    assert any("closer to the curve" in remark for remark in found.diagnostics.remarks)


def test_a_single_point_off_and_a_point_nothing_checks_are_named():
    random = np.random.default_rng(2)
    x = np.linspace(0.0, 1.0, 20)
    y = x + random.normal(0.0, 0.01, 20)
    y[7] += 0.1
    assert any(remark.startswith("point 8 ") for remark in fit(x, y).diagnostics.remarks)
    lonely = fit(np.append(x, 50.0), np.append(y, 50.0))
    assert any(remark.startswith("point 21 ") and "alone" in remark for remark in lonely.diagnostics.remarks)


@pytest.mark.parametrize("robust", [None, "tukey"])
def test_readings_that_are_all_the_same_are_not_called_exact(robust):
    remarks = fit([1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0], robust=robust).diagnostics.remarks
    assert any("state u_y" in remark for remark in remarks)


def test_good_points_earn_no_remark_more_often_than_by_chance():
    random = np.random.default_rng(3)
    x = np.linspace(0.0, 1.0, 15)
    said = sum(bool(fit(x, x + random.normal(0.0, 0.1, 15), u_y=0.1).diagnostics.remarks) for _ in range(100))
    assert said < 10  # four looks at one in a hundred each


@pytest.mark.parametrize("how", ["huber", "tukey"])
def test_a_robust_fit_shrugs_off_outliers(how):
    random = np.random.default_rng(4)
    x = np.linspace(0.0, 10.0, 40)
    y = 1.0 + 2.0 * x + random.normal(0.0, 0.1, 40)
    bad = [5, 20, 33]
    y[bad] += [5.0, -8.0, 20.0]
    plain, robust = fit(x, y), fit(x, y, robust=how)
    off = np.abs(robust.coefficients - [1.0, 2.0]) / robust.uncertainties
    assert np.all(off < 3.5)
    assert np.all(robust.uncertainties < 0.2 * plain.uncertainties)
    assert np.all(robust.weights[bad] < 0.1)
    assert np.median(robust.weights) > 0.9


@pytest.mark.parametrize("how", ["huber", "tukey"])
def test_without_outliers_a_robust_fit_costs_little(how):
    random = np.random.default_rng(5)
    x = np.linspace(0.0, 10.0, 200)
    y = 1.0 + 2.0 * x + random.normal(0.0, 0.1, 200)
    plain, robust = fit(x, y, u_y=0.1), fit(x, y, u_y=0.1, robust=how)
    assert robust.uncertainties == pytest.approx(plain.uncertainties, rel=0.2)
    assert np.all(np.abs(robust.coefficients - plain.coefficients) < plain.uncertainties)


@pytest.mark.parametrize("how", ["huber", "tukey"])
def test_points_that_do_not_scatter_leave_a_robust_fit_the_uncertainty_that_was_stated(how):
    x = np.linspace(0.0, 10.0, 6)
    plain, robust = fit(x, 1.0 + 2.0 * x, u_y=0.1), fit(x, 1.0 + 2.0 * x, u_y=0.1, robust=how)
    assert robust.uncertainties == pytest.approx(plain.uncertainties, rel=0.03)
    assert robust.dof == np.inf
    assert fit(x, 1.0 + 2.0 * x + 0.1 * np.cos(7.0 * x), robust=how).dof == pytest.approx(2.8)


@pytest.mark.parametrize("by", ["aicc", "bic"])
@pytest.mark.parametrize("u_y", [None, 0.05])
def test_the_criterion_finds_the_degree_that_made_the_points(by, u_y):
    random = np.random.default_rng(6)
    x = np.linspace(-1.0, 1.0, 40)
    right = 0
    for _ in range(15):
        y = 1.0 + x - 0.4 * x**2 + random.normal(0.0, 0.05, 40)
        found = select(x, y, [PolynomialForm(d) for d in range(6)], by=by, u_y=u_y)
        right += found.best.form.label == "polynomial of degree 2"
        assert sum(found.shares) == pytest.approx(1.0)
    assert right >= (11 if by == "bic" else 9)


def test_the_criteria_are_those_of_their_papers():
    x, y = np.arange(8.0), np.array([0.0, 1.2, 1.9, 3.1, 4.2, 4.8, 6.1, 7.0])
    found = select(x, y, [PolynomialForm(1)])
    rss = np.polyfit(x, y, 1, full=True)[1][0]
    assert found.scores[0] == pytest.approx(8 * np.log(rss / 8) + 2 * 3 + 2 * 3 * 4 / (8 - 3 - 1))
    assert select(x, y, [PolynomialForm(1)], by="bic").scores[0] == pytest.approx(8 * np.log(rss / 8) + 3 * np.log(8))


def test_forms_with_too_many_coefficients_are_named_and_left():
    found = select(
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 2.1, 2.9, 4.2, 5.0, 6.1], [PolynomialForm(d) for d in range(8)]
    )
    assert found.best.form.label == "polynomial of degree 1"
    assert len(found.refused) >= 3
    assert "not fitted" in found.table()


def test_a_ratio_and_a_law_of_ones_own_find_the_coefficients_that_made_the_points():
    x = np.linspace(0.0, 4.0, 25)
    y = (1.0 + 2.0 * x) / (1.0 + 0.3 * x)
    ratio = fit(x, y, form=RationalForm(1, 1), u_y=0.01)
    assert ratio.coefficients == pytest.approx([1.0, 2.0, 0.3], rel=1e-9)
    law = fit(x, y, form=FunctionForm(lambda x, a, b, c: (a + b * x) / (1.0 + c * x), [0.8, 1.5, 0.2]), u_y=0.01)
    assert law.coefficients == pytest.approx(ratio.coefficients, rel=1e-7)
    assert law.covariance == pytest.approx(ratio.covariance, rel=1e-5)
    at = np.linspace(0.0, 4.0, 9)
    assert law.curve.own(at) == pytest.approx(ratio.curve.own(at), rel=1e-5)
    assert law.curve.slopes(at) == pytest.approx(ratio.curve.slopes(at), rel=1e-7)
    assert float(law.curve.inverse(law.curve.values(3.0)).value) == pytest.approx(3.0)


def test_a_noisy_nonlinear_fit_scatters_as_its_covariance_says():
    random = np.random.default_rng(7)
    x = np.linspace(0.0, 4.0, 25)
    law = FunctionForm(lambda x, a, b: a * np.exp(-b * x), [1.0, 1.0])
    fits = [fit(x, 2.0 * np.exp(-0.7 * x) + random.normal(0.0, 0.02, 25), form=law, u_y=0.02) for _ in range(100)]
    scatter = np.std([one.coefficients for one in fits], axis=0)
    assert scatter == pytest.approx(fits[0].uncertainties, rel=0.2)


def test_a_fit_of_noiseless_points_is_the_curve_and_a_falling_one_can_be_inverted():
    curve = Polynomial([3.0, -1.0, -0.05], valid=(0.0, 5.0), unit_in="V", unit_out="K")
    x = np.linspace(0.0, 5.0, 12)
    found = fit(x, curve.values(x), form=PolynomialForm(2), u_y=1e-3, unit_in="V", unit_out="K")
    assert found.coefficients == pytest.approx(curve.coefficients, abs=1e-12)
    back = found.curve.inverse(found.curve.values(x), 1e-3)
    assert back.value == pytest.approx(x, abs=1e-12)
    assert np.all(back.uncertainty > 1e-3 / 1.6)


@pytest.mark.parametrize(
    ("x", "y", "options", "said"),
    [
        ([1.0, 2.0], [1.0, 2.0], {}, "take more"),
        ([1.0], [1.0], {"u_y": 1.0}, "take more"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], {}, "the same x"),
        ([1.0, 1.0, 2.0], [1.0, 2.0, 3.0], {"form": PolynomialForm(2), "u_y": 1.0}, "apart"),
        ([1.0, 2.0, np.nan], [1.0, 2.0, 3.0], {}, "point 3"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], {}, "one y"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"u_y": -1.0}, "negative"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"u_y": 0.0}, "without any uncertainty"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"u_y": np.ones((3, 3))}, "singular"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"u_y": [1.0, 2.0]}, "one for each"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"u_x": 1.0}, "u_y"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"u_y": 1.0, "u_x": 1.0, "correlation": 2.0}, "between -1 and 1"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"scatter": "given"}, "u_y"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"robust": "hard"}, "tukey"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], {"robust": "huber", "u_y": np.eye(3)}, "covariance"),
    ],
)  # fmt: skip
def test_points_that_cannot_tell_are_refused_in_one_sentence(x, y, options, said):
    with pytest.raises(FitError, match=said) as caught:
        fit(x, y, name="heater", **options)
    assert str(caught.value).startswith("heater: ")


def test_a_form_that_does_not_fit_at_all_ends_in_an_error_not_in_numbers():
    with pytest.raises(FitError, match="converge"):
        law = FunctionForm(lambda x, a, b: np.where(a > 0, np.nan, x * b), [1.0, 1.0], label="nonsense")
        fit([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], form=law)


@pytest.mark.parametrize("degree", [-1, 1.5, True])
def test_a_degree_is_a_whole_number(degree):
    with pytest.raises(CalibrationError, match="whole number"):
        PolynomialForm(degree)
