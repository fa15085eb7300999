"""How often intervals stated for 95 % contain the truth in simulated calibrations, and what a trial costs.

    python bench/coverage.py [--trials 10000] [--seeds 10]

Each line is one kind of calibration: the coverage over all seeds, the least and the greatest of one seed, and the time
for one trial. Goal: between 94 % and 96 % for every seed. The last kind shows what it costs to let the points choose
their form: it is not to be stated. The last lines set first order beside Monte Carlo.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter

import numpy as np

from calibration.fit import ChebyshevForm, PolynomialForm, RationalForm, fit, select
from calibration.fit.errors_in_both import Errors, adjust
from calibration.fit.forms import Form
from calibration.uncertainty import Component, Quantity, limits, propagate, readings, resolution, student

X = np.linspace(0.0, 10.0, 8)
AT = np.array([0.0, 1.3, 5.0, 9.1, 10.0])
ENDS = (0.0, 10.0)
NONE = np.zeros(8)

Case = Callable[[np.random.Generator, int], "np.ndarray"]
"""For each trial, and for each place asked: whether the interval contains the truth."""


def band(form: Form, c: np.ndarray, x: np.ndarray, y: np.ndarray, errors: Errors, dof: float = np.inf) -> np.ndarray:
    """Whether the 95 % bands of many fits contain the curve with coefficients c of the form."""
    found = adjust(form, x, y, errors, ENDS).solution
    rows = form.gradients(AT, found.coefficients, ENDS)
    variance = np.sum((rows @ found.unscaled) * rows, axis=-1)
    if np.isfinite(dof):
        variance = variance * (found.sum_of_squares / found.dof)[:, None]
    middle = form.values(AT, found.coefficients, ENDS)
    half = float(student(0.95, dof)) * np.sqrt(variance)
    return np.abs(middle - form.values(AT, c, ENDS)) <= half


def known(random: np.random.Generator, trials: int) -> np.ndarray:
    form, c, u = ChebyshevForm(3), np.array([10.0, 8.0, -1.0, 0.2]), np.linspace(0.1, 0.4, 8)
    y = form.values(X, c, ENDS) + u * random.standard_normal((trials, 8))
    return band(form, c, X, y, Errors(NONE, u**2, NONE, False))


def scatter(random: np.random.Generator, trials: int) -> np.ndarray:
    form, c = ChebyshevForm(3), np.array([10.0, 8.0, -1.0, 0.2])
    y = form.values(X, c, ENDS) + 0.3 * random.standard_normal((trials, 8))
    return band(form, c, X, y, Errors(NONE, np.ones(8), NONE, False), dof=4.0)


def shared(random: np.random.Generator, trials: int) -> np.ndarray:
    form, c = ChebyshevForm(1), np.array([11.0, 10.0])
    x = X + 0.05 * random.standard_normal((trials, 8)) + 0.2 * random.standard_normal((trials, 1))
    y = form.values(X, c, ENDS) + 0.1 * random.standard_normal((trials, 8))
    return band(form, c, x, y, Errors(0.05**2 * np.eye(8) + 0.2**2, 0.1**2 * np.eye(8), NONE, True))


def both(random: np.random.Generator, trials: int) -> np.ndarray:
    form, c = ChebyshevForm(2), np.array([10.0, 8.0, -1.0])
    x = X + 0.05 * random.standard_normal((trials, 8))
    y = form.values(X, c, ENDS) + 0.2 * random.standard_normal((trials, 8))
    return band(form, c, x, y, Errors(np.full(8, 0.05**2), np.full(8, 0.2**2), NONE, False))


def ratio(random: np.random.Generator, trials: int) -> np.ndarray:
    form, c = RationalForm(1, 1), np.array([1.0, 2.0, 0.1])
    y = form.values(X, c, ENDS) + 0.02 * random.standard_normal((trials, 8))
    return band(form, c, X, y, Errors(NONE, np.full(8, 0.02**2), NONE, False))


def robust(points: int, outliers: float, u_y: float | None = None) -> Case:
    """Through `fit` itself, a fiftieth of the trials: one by one."""
    x = np.linspace(0.0, 10.0, points)

    def case(random: np.random.Generator, trials: int) -> np.ndarray:
        inside = []
        for _ in range(max(trials // 50, 1)):
            off = np.where(random.random(points) < outliers, 20.0, 1.0)
            y = 1.0 + 2.0 * x + 0.1 * off * random.standard_normal(points)
            low, high = fit(x, y, form=PolynomialForm(1), u_y=u_y, robust="tukey").band(AT)
            inside.append((low <= 1.0 + 2.0 * AT) & (high >= 1.0 + 2.0 * AT))
        return np.array(inside)

    return case


def chosen(random: np.random.Generator, trials: int) -> np.ndarray:
    """Of forms that AICc chose, a fiftieth of the trials; the bend is one u_y high."""
    c, inside = np.array([11.0, 10.0, 0.1]), []
    for _ in range(max(trials // 50, 1)):
        y = ChebyshevForm(2).values(X, c, ENDS) + 0.1 * random.standard_normal(8)
        low, high = select(X, y, [ChebyshevForm(degree) for degree in (1, 2, 3)], u_y=0.1).best.band(AT)
        truth = ChebyshevForm(2).values(AT, c, ENDS)
        inside.append((low <= truth) & (high >= truth))
    return np.array(inside)


def budget(random: np.random.Generator, trials: int) -> np.ndarray:
    volts = 0.1 + 2e-6 * random.standard_normal((trials, 5))
    found = propagate(
        lambda v, i, r: v / i - r,
        readings("V", volts, resolution(1e-6)),
        Quantity("I", 1e-3 + 1e-8 * random.standard_normal(trials), [Component("source", 1e-8)]),
        Quantity("R_lead", 0.3 + 1e-3 * random.uniform(-1.0, 1.0, trials), [limits("lead", 1e-3)]),
    )
    return (found.low <= 99.7) & (found.high >= 99.7)


CASES: dict[str, Case] = {
    "known u_y, cubic": known,
    "scatter, cubic, 4 dof": scatter,
    "shared reference, line": shared,
    "errors in both, parabola": both,
    "known u_y, ratio": ratio,
    "budget, 5 readings": budget,
    "Tukey, 40, 5 % outliers": robust(40, 0.05),
    "Tukey, 6": robust(6, 0.0),
    "Tukey, 6, known u_y": robust(6, 0.0, 0.1),
    "Tukey, 6, 5 % outliers": robust(6, 0.05),
    "form chosen by AICc": chosen,
}


def agreement() -> None:
    """The uncertainty to first order over that of trials, as the model bends more and more."""
    print("\ny = x^2, x = 1 +/- u: first order over Monte Carlo, and what is reported")
    for u in (0.01, 0.03, 0.1, 0.2, 0.3, 1.0):
        one = propagate(np.square, Quantity("x", 1.0, [Component("e", u)]))
        assert one.trials is not None
        said = "trials" if one.by_trials else "first order"
        print(f"  u = {u:5.2f}  {float(one.first_order / one.trials.uncertainty[0]):.3f}  {said}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--trials", type=int, default=10_000)
    arguments.add_argument("--seeds", type=int, default=10)
    options = arguments.parse_args()
    print(f"{'calibration':26} {'all':>7} {'least':>7} {'most':>7} {'us/trial':>9}")
    for name, case in CASES.items():
        started, shares, count = perf_counter(), [], 0
        for seed in range(options.seeds):
            inside = case(np.random.default_rng(seed), options.trials)
            count += len(inside)
            shares.append(inside.mean(axis=0))
        cost = (perf_counter() - started) / count * 1e6
        print(f"{name:26} {np.mean(shares):7.2%} {np.min(shares):7.2%} {np.max(shares):7.2%} {cost:9.1f}", flush=True)
    agreement()


if __name__ == "__main__":
    main()
