"""Uncertainties against the worked examples of the GUM, its supplement 1, and EA-4/02."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.errors import CalibrationError
from calibration.uncertainty import (
    Component,
    Quantity,
    chi_square_tail,
    covariance,
    drift,
    effective_dof,
    expanded,
    hysteresis,
    limits,
    pooled,
    propagate,
    readings,
    resolution,
    student,
    type_a,
)


@pytest.mark.parametrize(
    ("dof", "row"),  # JCGM 100:2008, table G.2: 1 sigma, 90, 95 %, 2 sigma, 99 %, 3 sigma
    [
        (1, (1.84, 6.31, 12.71, 13.97, 63.66, 235.80)), (2, (1.32, 2.92, 4.30, 4.53, 9.92, 19.21)),
        (3, (1.20, 2.35, 3.18, 3.31, 5.84, 9.22)), (5, (1.11, 2.02, 2.57, 2.65, 4.03, 5.51)),
        (8, (1.07, 1.86, 2.31, 2.37, 3.36, 4.28)), (10, (1.05, 1.81, 2.23, 2.28, 3.17, 3.96)),
        (20, (1.03, 1.72, 2.09, 2.13, 2.85, 3.42)), (50, (1.01, 1.68, 2.01, 2.05, 2.68, 3.16)),
        (100, (1.005, 1.660, 1.984, 2.025, 2.626, 3.077)), (np.inf, (1.000, 1.645, 1.960, 2.000, 2.576, 3.000)),
    ],
)  # fmt: skip
def test_coverage_factors_are_those_of_the_guides_table(dof, row):
    found = [float(student(level, dof)) for level in (0.682690, 0.90, 0.95, 0.954500, 0.99, 0.9973002)]
    assert found == pytest.approx(row, abs=0.0051 if dof <= 50 else 0.00051)


def test_coverage_factors_know_one_and_two_degrees_of_freedom_in_closed_form():
    for level in (1e-6, 0.3, 0.95, 0.999999):
        assert float(student(level, 1)) == pytest.approx(np.tan(0.5 * np.pi * level), rel=1e-9)
        assert float(student(level, 2)) == pytest.approx(level * np.sqrt(2.0 / (1.0 - level**2)), rel=1e-9)


def test_coverage_factors_fall_smoothly_into_the_normal_one():
    dof = np.geomspace(0.5, 1e9, 400)
    k = student(0.95, dof)
    assert np.all(np.diff(k) < 0.0)
    assert k[-1] == pytest.approx(1.959963984540054, rel=1e-8)
    assert student(0.95, np.nan) != student(0.95, np.nan)
    assert student(0.95, np.full((2, 3), 7.5)).shape == (2, 3)


def test_chi_square_tails_are_those_of_closed_forms_and_tables():
    x = np.array([0.0, 0.3, 2.0, 30.0])
    assert chi_square_tail(x, 2) == pytest.approx(np.exp(-0.5 * x), rel=1e-12)
    assert chi_square_tail(x, 4) == pytest.approx(np.exp(-0.5 * x) * (1 + 0.5 * x), rel=1e-12)
    assert float(chi_square_tail(18.307, 10)) == pytest.approx(0.05, abs=1e-5)
    assert float(chi_square_tail(1000.0, 1000)) == pytest.approx(0.4941, abs=1e-4)


def impedance():
    """JCGM 100:2008, table H.2: five simultaneous readings, and their correlations."""
    v = readings("V", [5.007, 4.994, 5.005, 4.990, 4.999], unit="V")
    i = readings("I", np.array([19.663, 19.639, 19.640, 19.685, 19.678]) * 1e-3, unit="A")
    phi = readings("phi", [1.0456, 1.0438, 1.0468, 1.0428, 1.0433], unit="rad")
    correlations = {("V", "I"): -0.355, ("V", "phi"): 0.858, ("I", "phi"): -0.645}
    models = (lambda v, i, p: v / i * np.cos(p), lambda v, i, p: v / i * np.sin(p), lambda v, i, p: v / i)
    return [propagate(model, v, i, phi, unit="Ohm", correlations=correlations) for model in models]


def test_correlated_readings_give_the_guides_resistance_and_reactance():
    found = impedance()  # H.2, table H.3
    assert [float(one.value) for one in found] == pytest.approx([127.732, 219.847, 254.260], abs=1e-3)
    assert [float(one.uncertainty) for one in found] == pytest.approx([0.071, 0.295, 0.236], abs=1.1e-3)
    r, x, z = found
    assert float(covariance(r, x) / r.uncertainty / x.uncertainty) == pytest.approx(-0.588, abs=2e-3)
    assert float(covariance(r, z) / r.uncertainty / z.uncertainty) == pytest.approx(-0.485, abs=2e-3)
    assert float(covariance(x, z) / x.uncertainty / z.uncertainty) == pytest.approx(0.993, abs=1e-3)
    assert float(covariance(r, r)) == pytest.approx(float(r.uncertainty) ** 2)
    assert [float(one.dof) for one in found] == [4.0] * 3
    assert [bool(one.by_trials) for one in found] == [False] * 3


def gauge_block(**options):
    """JCGM 100:2008, H.1, in nm and degC."""
    repeated = pooled("repeatability", 13.0, 24, 5)
    return propagate(
        lambda l_s, d, alpha, d_alpha, theta, d_theta: l_s + d - l_s * (d_alpha * theta + alpha * d_theta) - 50e6,
        Quantity("l_s", 50_000_623.0, [Component("certificate", 25.0, dof=18)], "nm"),
        Quantity("d", 215.0, [repeated, Component("random", 3.9, dof=5), Component("systematic", 6.7, dof=8)], "nm"),
        Quantity("alpha_s", 11.5e-6, [limits("handbook", 2e-6)], "1/K"),
        Quantity("d_alpha", 0.0, [limits("difference", 1e-6, doubt=0.1)], "1/K"),
        Quantity("theta", -0.1, [Component("of the bed", 0.2), limits("cycle", 0.5, distribution="arcsine")], "K"),
        Quantity("d_theta", 0.0, [limits("difference", 0.05, doubt=0.5)], "K"),
        unit="nm", level=0.99, **options,
    )  # fmt: skip


def test_the_guides_gauge_block_to_first_order():
    found = gauge_block(method="first order")  # H.1.5, H.1.6
    assert float(found.value) == pytest.approx(838.0, abs=0.5)
    assert float(found.uncertainty) == pytest.approx(31.7, abs=0.5)  # the guide gives 32 from rounded parts
    assert float(found.dof) == pytest.approx(16.7, abs=0.8)  # rounded down to 16
    contributions = {line.component: abs(float(line.contribution)) for line in found.lines}
    assert contributions["certificate"] == pytest.approx(25.0)
    assert np.hypot(np.hypot(contributions["repeatability"], contributions["random"]), contributions["systematic"]) == (
        pytest.approx(9.7, abs=0.05)
    )
    assert [one.component for one in found.lines if abs(float(one.contribution)) == pytest.approx(2.9, abs=0.05)]
    assert [one.component for one in found.lines if abs(float(one.contribution)) == pytest.approx(16.6, abs=0.05)]


def test_the_gauge_block_bends_and_is_reported_from_trials():
    found = gauge_block()  # JCGM 101:2008, 9.5.4: 838, 36, [745, 932]
    assert not found.linear
    assert found.by_trials
    assert float(found.value) == pytest.approx(838.0, abs=1.0)
    assert float(found.uncertainty) == pytest.approx(36.0, abs=0.6)
    assert float(found.low) == pytest.approx(745.0, abs=2.0)
    assert float(found.high) == pytest.approx(932.0, abs=2.0)
    assert "bends" in found.table()


def test_a_sum_of_normal_errors_is_the_same_both_ways():
    x = [Quantity(f"x{i}", 0.0, [Component("error", 1.0)]) for i in range(4)]
    found = propagate(lambda a, b, c, d: a + b + c + d, *x)  # JCGM 101:2008, 9.2.2
    assert not found.by_trials
    assert float(found.uncertainty) == pytest.approx(2.0)
    assert float(found.high) == pytest.approx(3.92, abs=0.005)
    assert float(found.trials.uncertainty[0]) == pytest.approx(2.0, rel=0.01)


def test_one_prevailing_rectangular_error_has_a_smaller_factor():
    x = [Quantity(f"x{i}", 0.0, [Component("error", 10.0 if i == 3 else 1.0, "rectangular")]) for i in range(4)]
    found = propagate(lambda a, b, c, d: a + b + c + d, *x)  # JCGM 101:2008, 9.2.4
    assert found.linear
    assert found.by_trials
    assert float(found.uncertainty) == pytest.approx(10.1, abs=0.06)
    assert float(found.high) == pytest.approx(17.0, abs=0.1)
    assert float(found.first_order) * 1.96 == pytest.approx(19.9, abs=0.05)


def test_the_supplements_mass_calibration_is_not_left_to_first_order():
    found = propagate(  # JCGM 101:2008, 9.3: 1.2341, 0.0754, [1.0834, 1.3825] mg
        lambda m, dm, air, w, r: (m + dm) * (1.0 + (air - 1.2) * (1.0 / w - 1.0 / r)) - 1e5,
        Quantity("m_R,c", 1e5, [Component("certificate", 0.050)], "mg"),
        Quantity("dm_R,c", 1.234, [Component("certificate", 0.020)], "mg"),
        Quantity("rho_a", 1.20, [limits("air", 0.10)], "kg/m3"),
        Quantity("rho_W", 8e3, [limits("weight", 1e3)], "kg/m3"),
        Quantity("rho_R", 8e3, [limits("reference", 50.0)], "kg/m3"),
        unit="mg",
    )
    assert float(found.first_order) == pytest.approx(0.0539, abs=5e-5)
    assert not found.linear
    assert float(found.value) == pytest.approx(1.2341, abs=5e-4)
    assert float(found.uncertainty) == pytest.approx(0.0754, abs=8e-4)
    assert [float(found.low), float(found.high)] == pytest.approx([1.0834, 1.3825], abs=2e-3)


@pytest.mark.parametrize(
    ("x1", "r", "mean", "u", "low", "high"),  # JCGM 101:2008, tables 6 to 8 and figures, in 1e-6
    [
        (0.000, 0.0, 50, 50, 0, 150), (0.010, 0.0, 150, 112, 0, 367), (0.050, 0.0, 2551, 502, 1590, 3543),
        (0.000, 0.9, 50, 67, 0, 185), (0.010, 0.9, 150, 121, 13, 398), (0.050, 0.9, 2551, 505, 1628, 3555),
    ],
)  # fmt: skip
def test_the_supplements_comparison_loss_near_zero(x1, r, mean, u, low, high):
    found = propagate(
        lambda a, b: a**2 + b**2,
        Quantity("X1", x1, [Component("meter", 0.005)]),
        Quantity("X2", 0.0, [Component("meter", 0.005)]),
        correlations={("X1", "X2"): r} if r else None,
    )
    trials = found.trials
    assert float(trials.value[0]) * 1e6 == pytest.approx(mean, abs=max(2.0, 0.012 * u))
    assert float(trials.uncertainty[0]) * 1e6 == pytest.approx(u, rel=0.02)
    ends = [float(end[0]) * 1e6 for end in trials.shortest]
    assert ends == pytest.approx([low, high], abs=0.07 * u)
    if x1 < 0.02:
        assert found.by_trials


def test_a_weight_is_calibrated_as_in_the_european_example():
    found = propagate(  # EA-4/02 M:2022, S2: 10 000.025 g, u = 29.3 mg, U = 59 mg
        lambda s, drifted, difference, off, air: s + drifted + difference + off + air,
        Quantity("m_S", 10_000.005, [expanded("certificate", 0.045)], "g"),
        Quantity("dm_D", 0.0, [limits("drift", 0.015)], "g"),
        Quantity("dm", 0.020, [pooled("comparison", 0.025, np.inf, 3)], "g"),
        Quantity("dm_C", 0.0, [limits("eccentricity", 0.010)], "g"),
        Quantity("dB", 0.0, [limits("buoyancy", 0.010)], "g"),
        unit="g",
        level=0.9545,
    )
    assert float(found.value) == pytest.approx(10_000.025)
    assert float(found.uncertainty) * 1e3 == pytest.approx(29.3, abs=0.05)
    assert float(found.expanded) * 1e3 == pytest.approx(59.0, abs=0.5)
    assert "10000.025 +/- 0.059 g (95.45 %, k = 2)" in found.table()


def test_a_multimeter_whose_last_digit_prevails_is_not_given_k_2():
    found = propagate(  # EA-4/02 M:2022, S9: 0.10 +/- 0.05 V
        lambda shown, source, error: shown - source - error,
        Quantity("V_iX", 100.1, [resolution(0.1)], "V"),
        Quantity("V_S", 100.0, [expanded("certificate", 0.002)], "V"),
        Quantity("dV_S", 0.0, [limits("specification", 0.011)], "V"),
        unit="V",
    )
    assert found.by_trials
    assert float(found.uncertainty) == pytest.approx(0.030, abs=5e-4)
    assert float(found.expanded) == pytest.approx(0.05, abs=2e-3)
    assert 1.65 < float(found.k) < 1.75  # 1.65 for the digit alone


def test_degrees_of_freedom_add_up_as_in_the_guide():
    found = effective_dof([0.25, 0.57, 0.82], [9, 4, 14])  # G.4.1, example
    assert float(found) == pytest.approx(19.0, abs=0.05)
    assert float(effective_dof([1.0, 0.0], [np.inf, 3.0])) == np.inf
    assert float(effective_dof([0.0, 0.0], [2.0, 3.0])) == np.inf


def test_components_are_what_the_guide_makes_of_them():
    values = [9.99, 10.01, 10.03, 10.00, 9.97]
    assert float(type_a("readings", values).uncertainty) == pytest.approx(0.01)  # s = sqrt(2e-3 / 4) = 0.02236
    assert float(type_a("readings", values).dof) == 4.0
    assert float(resolution(1.0).uncertainty) == pytest.approx(0.29, abs=0.002)  # F.2.2.1
    assert float(drift(0.1, 6.0).uncertainty) == pytest.approx(0.6 / np.sqrt(3.0))
    assert float(hysteresis(10.2, 10.0).uncertainty) == pytest.approx(0.1 / np.sqrt(3.0))
    assert float(limits("limits", 1.0, doubt=0.25).dof) == pytest.approx(8.0)  # G.4.2, example
    assert float(expanded("U", 5.0, level=0.95, dof=8.0).uncertainty) == pytest.approx(5.0 / 2.306, rel=1e-4)


def test_an_error_that_two_channels_share_cancels_in_their_difference_and_doubles_in_their_sum():
    own, bath = Component("noise", 0.01), Component("bath", 0.5, shared="bath 3")
    a, b = Quantity("a", 20.0, [own, bath], "degC"), Quantity("b", 21.0, [own, bath], "degC")
    for method in ("first order", "monte carlo"):
        difference = propagate(lambda a, b: a - b, a, b, method=method)
        total = propagate(lambda a, b: a + b, a, b, method=method)
        assert float(difference.uncertainty) == pytest.approx(0.01 * np.sqrt(2.0), rel=0.02)
        assert float(total.uncertainty) == pytest.approx(1.0, rel=0.02)
    sum_of_shares = sum(float(line.share) for line in total.lines)
    assert sum_of_shares == pytest.approx(1.0)


def test_arrays_have_a_budget_for_each_value():
    volts = np.linspace(0.0, 2.0, 5)
    found = propagate(
        lambda v, r: v**2 / r,
        Quantity("V", volts, [Component("meter", 0.1)], "V"),
        Quantity("R", 10.0, [Component("certificate", 0.01)], "Ohm"),
        unit="W",
    )
    assert found.value.shape == (5,)
    assert list(found.linear) == [False, False, True, True, True]
    assert list(found.by_trials) == [not straight for straight in found.linear]
    single = propagate(
        lambda v, r: v**2 / r,
        Quantity("V", 1.5, [Component("meter", 0.1)]),
        Quantity("R", 10.0, [Component("certificate", 0.01)]),
    )
    assert float(found.uncertainty[3]) == pytest.approx(float(single.first_order))
    assert "W" in found.table((3,))
    with pytest.raises(CalibrationError, match="which"):
        found.table()


MODELS = (
    lambda a, b, c: a + b * c,
    lambda a, b, c: a * np.exp(0.3 * b) / c,
    lambda a, b, c: np.sqrt(a**2 + b**2) - c,
    lambda a, b, c: a * np.sin(b) + np.log(c),
    lambda a, b, c: a * b**2 / c**3,
)


@settings(max_examples=25, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    relative=st.tuples(*[st.floats(1e-4, 0.4)] * 3),
    kinds=st.tuples(*[st.sampled_from(["normal", "rectangular", "triangular", "arcsine"])] * 3),
    values=st.tuples(*[st.floats(0.5, 5.0)] * 3),
)
def test_where_first_order_is_said_to_hold_it_agrees_with_trials(model, relative, kinds, values):
    quantities = [
        Quantity(name, value, [Component("error", 0.25 * part * value, kind)])
        for name, value, part, kind in zip("abc", values, relative, kinds, strict=True)
    ]
    found = propagate(model, *quantities)
    half = float(found.expanded)
    tried = found.trials
    assert float(found.low) == pytest.approx(float(tried.low[0]), abs=0.05 * half)
    assert float(found.high) == pytest.approx(float(tried.high[0]), abs=0.05 * half)
    if found.linear:
        assert float(found.first_order) == pytest.approx(float(tried.uncertainty[0]), rel=0.05)


def test_trials_repeat_from_their_seed_and_differ_from_another():
    x = Quantity("x", 1.0, [Component("error", 0.5)])
    one, same, other = (propagate(np.exp, x, method="monte carlo", seed=seed) for seed in (1, 1, 2))
    assert float(one.value) == float(same.value) != float(other.value)


def test_a_table_names_every_component_and_its_share():
    text = gauge_block(method="first order").table()
    lines = text.splitlines()
    titles = ["quantity", "value", "component", "std.", "unc.", "distribution", "dof", "sensitivity", "contribution"]
    assert lines[0].split() == [*titles, "share"]
    assert any("certificate" in line and "62.3%" in line for line in lines)
    assert "838 +/- 92 nm (99 %" in lines[-1]
    exact = propagate(lambda a, b: a * b, Quantity("a", 2.0, [resolution(0.1)]), Quantity("b", 3.0))
    assert "exact" in exact.table()


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda: Component("x", -1.0), "not negative"),
        (lambda: Component("x", 1.0, "gaussian"), "rectangular"),
        (lambda: Component("x", 1.0, dof=0.0), "greater than 0"),
        (lambda: type_a("x", [1.0]), "one reading"),
        (lambda: drift(1.0, -1.0), "future"),
        (lambda: Quantity("x", np.nan), "finite"),
        (lambda: student(95, 5), "between 0 and 1"),
        (lambda: propagate(lambda: 1.0), "no quantities"),
        (lambda: propagate(lambda a, b: a, Quantity("a", 1.0), Quantity("a", 1.0)), "same name"),
        (lambda: propagate(np.log, Quantity("a", -1.0, [Component("e", 0.1)])), "no finite result"),
        (lambda: propagate(np.log, Quantity("a", 0.1, [Component("e", 0.1)])), "not defined"),
        (lambda: propagate(np.exp, Quantity("a", 1.0), correlations={("a", "b"): 0.5}), "no such quantity"),
        (
            lambda: propagate(
                lambda a, b, c: a + b + c,
                *(Quantity(name, 1.0, [Component("e", 0.1)]) for name in "abc"),
                correlations={("a", "b"): 0.9, ("a", "c"): 0.9, ("b", "c"): -0.9},
            ),
            "true together",
        ),
        (lambda: propagate(lambda a: np.ones(3), Quantity("a", np.ones(2))), "element by element"),
    ],
)
def test_what_makes_no_sense_is_refused(action, said):
    with pytest.raises(CalibrationError, match=said):
        action()


def test_a_result_that_depends_on_nothing_uncertain_has_no_uncertainty():
    found = propagate(lambda a: 2.0 * a, Quantity("a", 1.5))
    assert float(found.uncertainty) == 0.0
    assert float(found.low) == float(found.high) == 3.0
    assert str(found).startswith("3 +/- 0")
