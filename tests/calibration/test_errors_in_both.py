"""Fits with errors in x and y: published examples, orthogonal distances, points that share a reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.errors import FitError
from calibration.fit import ChebyshevForm, FunctionForm, PolynomialForm, RationalForm, fit

X = np.array([0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4])
Y = np.array([5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
"""K. Pearson, Phil. Mag. 2 (1901) 559."""
U_X = np.array([1000.0, 1000.0, 500.0, 800.0, 200.0, 80.0, 60.0, 20.0, 1.8, 1.0]) ** -0.5
U_Y = np.array([1.0, 1.8, 4.0, 8.0, 20.0, 20.0, 70.0, 70.0, 100.0, 500.0]) ** -0.5
"""From the weights of D. York, Can. J. Phys. 44 (1966) 1079."""


def decay(x, a, b):
    return a * np.exp(-b * x)


def test_pearsons_points_with_yorks_weights_give_the_published_line():
    found = fit(X, Y, u_x=U_X, u_y=U_Y)  # D. York et al., Am. J. Phys. 72 (2004) 367, table II
    assert found.coefficients == pytest.approx([5.47991022, -0.480533407], abs=5e-9)
    assert found.diagnostics.chi_square == pytest.approx(11.8663531941, rel=1e-9)
    assert found.diagnostics.dof == 8
    observed = fit(X, Y, u_x=U_X, u_y=U_Y, scatter="observed")
    assert found.uncertainties == pytest.approx([0.2949708, 0.0579850], rel=1e-6)
    assert observed.uncertainties == pytest.approx([0.3592465, 0.0706203], rel=1e-6)


def test_covariance_matrices_without_anything_shared_give_the_same():
    single, matrices = fit(X, Y, u_x=U_X, u_y=U_Y), fit(X, Y, u_x=np.diag(U_X**2), u_y=np.diag(U_Y**2))
    assert matrices.coefficients == pytest.approx(single.coefficients, rel=1e-9)
    assert matrices.covariance == pytest.approx(single.covariance, rel=1e-6)
    assert matrices.diagnostics.leverage == pytest.approx(single.diagnostics.leverage, rel=1e-6)
    assert matrices.diagnostics.left_out == pytest.approx(single.diagnostics.left_out, rel=1e-6)
    assert matrices.diagnostics.studentised == pytest.approx(single.diagnostics.studentised, rel=1e-6)


def test_correlated_errors_of_x_and_y_are_those_of_the_matrix_form():
    r = np.linspace(-0.8, 0.8, 10)
    single = fit(X, Y, u_x=U_X, u_y=U_Y, correlation=r)
    matrices = fit(X, Y, u_x=np.diag(U_X**2), u_y=U_Y, correlation=r)
    assert matrices.coefficients == pytest.approx(single.coefficients, rel=1e-9)
    assert single.coefficients != pytest.approx(fit(X, Y, u_x=U_X, u_y=U_Y).coefficients, rel=1e-3)


def test_equal_uncertainties_give_the_principal_axis():
    found = fit(X, Y, u_x=0.3, u_y=0.3)
    values, vectors = np.linalg.eigh(np.cov(X, Y))
    slope = vectors[1, 1] / vectors[0, 1]
    assert found.coefficients[1] == pytest.approx(slope, rel=1e-9)
    assert found.coefficients[0] == pytest.approx(Y.mean() - slope * X.mean(), rel=1e-9)
    assert found.diagnostics.chi_square == pytest.approx(9.0 * values[0] / 0.09, rel=1e-9)


def test_exchanging_x_and_y_gives_the_same_line():
    there, back = fit(X, Y, u_x=U_X, u_y=U_Y), fit(Y, X, u_x=U_Y, u_y=U_X)
    assert back.coefficients[1] == pytest.approx(1.0 / there.coefficients[1], rel=1e-8)
    assert back.diagnostics.chi_square == pytest.approx(there.diagnostics.chi_square, rel=1e-10)


def test_errors_in_x_that_vanish_leave_the_weighted_fit():
    plain = fit(X, Y, u_y=U_Y, form=PolynomialForm(2))
    tiny = fit(X, Y, u_x=1e-9, u_y=U_Y, form=PolynomialForm(2))
    assert tiny.coefficients == pytest.approx(plain.coefficients, rel=1e-6)


@pytest.mark.parametrize(
    "form",
    [PolynomialForm(3), ChebyshevForm(4), RationalForm(1, 1), FunctionForm(decay, [5.0, 0.1], label="decay")],
    ids=lambda form: form.label,
)  # fmt: skip
def test_no_other_coefficients_bring_the_curve_nearer_to_the_points(form):
    found = fit(X, Y, u_x=U_X, u_y=U_Y, form=form)
    dense = np.linspace(-3.0, 10.0, 200_001)

    def distance(c):
        y = form.values(dense, c, (X.min(), X.max()))
        return sum(
            np.min(((dense - a) / u) ** 2 + ((y - b) / v) ** 2) for a, b, u, v in zip(X, Y, U_X, U_Y, strict=True)
        )

    inner = found.coefficients if not isinstance(form, PolynomialForm) else None
    if inner is None:
        inner = np.polynomial.chebyshev.chebfit((2 * X - 7.4) / 7.4, found.curve.values(X), form.degree)
    least = distance(inner)
    assert least == pytest.approx(found.diagnostics.chi_square, rel=1e-4)
    for i in range(form.size):
        for sign in (1.0, -1.0):
            step = np.zeros(form.size)
            step[i] = sign * 1e-2 * abs(inner[i])
            assert distance(inner + step) > least


def test_a_reference_that_is_off_for_all_points_shifts_the_curve_and_not_its_slope():
    x = np.linspace(0.0, 10.0, 12)
    y = 1.0 + 2.0 * x
    own, shared = 0.01, 0.3
    alone = fit(x, y, u_x=own, u_y=0.05)
    found = fit(x, y, u_x=own**2 * np.eye(12) + shared**2, u_y=0.05)
    assert found.uncertainties[1] == pytest.approx(alone.uncertainties[1], rel=1e-6)
    assert found.uncertainties[0] == pytest.approx(np.hypot(alone.uncertainties[0], 2.0 * shared), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(1e-6, 1e6), offset=st.floats(-100.0, 100.0), stretch=st.floats(1e-6, 1e6), seed=st.integers(0, 9999)
)  # fmt: skip
def test_units_do_not_matter(scale, offset, stretch, seed):
    random = np.random.default_rng(seed)
    x = np.linspace(0.0, 1.0, 10)
    y = 1.0 + x + 0.3 * x**2 + random.normal(0.0, 0.02, 10)
    one = fit(x, y, u_x=0.01, u_y=0.02, form=ChebyshevForm(2))
    other = fit(scale * (x + offset), stretch * y, u_x=0.01 * scale, u_y=0.02 * stretch, form=ChebyshevForm(2))
    assert other.diagnostics.chi_square == pytest.approx(one.diagnostics.chi_square, rel=1e-6)
    assert other.curve.own(other.x) / stretch == pytest.approx(one.curve.own(x), rel=1e-6)


def test_a_robust_fit_with_errors_in_both_shrugs_off_an_outlier():
    random = np.random.default_rng(1)
    x = np.linspace(0.0, 10.0, 30)
    y = 1.0 + 2.0 * x + random.normal(0.0, 0.1, 30)
    y[12] += 15.0
    found = fit(x + random.normal(0.0, 0.1, 30), y, u_x=0.1, u_y=0.1, robust="tukey")
    assert found.weights[12] == 0.0
    assert np.all(np.abs(found.coefficients - [1.0, 2.0]) < 3.5 * found.uncertainties)
    assert any("point 13" in remark for remark in found.diagnostics.remarks)


def test_leaving_a_point_out_takes_its_uncertainties_along():
    rest = fit(X, Y, u_x=U_X, u_y=np.diag(U_Y**2), correlation=0.1).without(3)
    keep = np.delete(np.arange(10), 3)
    assert rest.coefficients == pytest.approx(
        fit(X[keep], Y[keep], u_x=U_X[keep], u_y=U_Y[keep], correlation=0.1).coefficients, rel=1e-9
    )
    with pytest.raises(FitError, match="there is no 9"):
        rest.without(9)
