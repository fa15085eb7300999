"""Convex hulls and the line with the most room, against trying everything."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hal.clock.bounds import above
from hal.clock.lines import Band, hull_below

Float64 = NDArray[np.float64]
points = st.lists(st.tuples(st.integers(0, 200), st.integers(-1000, 1000)), min_size=1, max_size=120)


def columns(pairs: list[tuple[int, int]]) -> tuple[Float64, Float64]:
    x, y = np.array(sorted(pairs), float).T
    return x, y


@settings(deadline=None)
@example([*[(0, 0)] * 80, (1, 0), (1, -1), (1, -1)], 0.0)  # several at one place, at the end of many
@given(points, st.floats(-20.0, 20.0))
def test_the_hull_bears_every_line_that_the_points_bear(pairs: list[tuple[int, int]], slope: float) -> None:
    x, y = columns(pairs)
    hx, hy = hull_below(x, y)
    assert (np.diff(hx) > 0).all()
    assert np.isclose((hy - slope * hx).min(), (y - slope * x).min(), atol=1e-6)
    edges = np.diff(hy) / np.diff(hx)
    assert (np.diff(edges) > 0).all()


@settings(deadline=None)
@given(points, points, st.floats(0.1, 10.0), st.floats(0.1, 10.0), st.floats(0.0, 50.0))
def test_no_slope_scores_better_than_the_best_and_those_within_are_as_good_as_was_asked(
    lower: list[tuple[int, int]], upper: list[tuple[int, int]], low: float, up: float, less: float
) -> None:
    xl, a = columns(lower)
    xu, b = columns(upper)

    def score(slopes: Float64) -> Float64:
        s = slopes[:, None]
        return np.asarray(up * (b - s * xu).min(1) - low * (a - s * xl).max(1))

    best = Band(xl, a, xu, b, 15.0).best(low, up, less)
    grid = np.linspace(-15.0, 15.0, 2001)
    # The score's terms refer to x = 0 here and to the middle there; that adds (low - up) s x to it.
    shifted = score(grid) + (up - low) * grid * best.middle
    top = up * best.ceiling - low * best.floor
    slack = 1e-6 * (1.0 + np.abs(shifted).max())
    assert top >= shifted.max() - slack
    inside = (grid >= best.low) & (grid <= best.high)
    if less:
        assert (shifted[inside] >= top - less - slack).all()
        assert (shifted[(grid < best.low - 1e-9) | (grid > best.high + 1e-9)] <= top - less + slack).all()


@settings(deadline=None)
@given(points, st.lists(st.integers(-100, 300), min_size=1, max_size=20), st.floats(0.0, 30.0))
def test_the_envelope_is_the_least_that_any_point_allows(
    pairs: list[tuple[int, int]], at: list[int], steepest: float
) -> None:
    x, y = columns(pairs)
    z = np.array(at, float)
    tried = (y + steepest * np.abs(z[:, None] - x)).min(1)
    assert np.allclose(above(steepest * x, y, steepest * z), tried, atol=1e-6)
