"""Propagation of distributions by random trials, as many as the result needs (JCGM 101:2008, GUM supplement 1, 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np

from ..curve import Float64
from ..errors import CalibrationError
from .sources import Sources

SEQUENCE = 10_000
"""Trials of one sequence, or 100 / (1 - level) if that is more (7.9.4 b)."""
TOLERANCE = 0.01
"""Of the standard uncertainty, in place of 7.9.2's digits: so well are mean, uncertainty and interval known."""
MOST = 200
"""Sequences; reached only by distributions with tails so long that their mean hardly exists."""
TOGETHER = 16
"""Values tried at a time: 200 sequences of them fit into memory."""

Model = Callable[..., Float64]


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """What random trials found, for m values."""

    value: Float64
    """Their mean."""
    uncertainty: Float64
    """Their standard deviation. A t distribution's with few degrees of freedom is larger than s / sqrt(n)."""
    low: Float64
    high: Float64
    """Ends of the interval with equal probability on both sides."""
    shortest: tuple[Float64, Float64]
    """Of all intervals of that level the shortest, which belongs to a skew distribution."""
    count: int
    settled: bool
    """Whether the tolerance was reached."""


def trials(model: Model, sources: Sources, level: float, seed: int) -> Trials:
    """Adaptive Monte Carlo. Raises `CalibrationError` where a trial has no finite result."""
    m = sources.values.shape[1]
    parts = [
        _block(model, sources.part(slice(start, start + TOGETHER)), level, np.random.default_rng([seed, start]))
        for start in range(0, m, TOGETHER)
    ]
    rows = np.concatenate([rows for rows, _, _ in parts], axis=1)
    return Trials(
        rows[0], rows[1], rows[2], rows[3], (rows[4], rows[5]), max(count for _, count, _ in parts),
        all(settled for _, _, settled in parts),
    )  # fmt: skip


def _block(model: Model, sources: Sources, level: float, random: np.random.Generator) -> tuple[Float64, int, bool]:
    size = max(SEQUENCE, ceil(100.0 / (1.0 - level)))
    found: list[Float64] = []
    summaries: list[Float64] = []
    settled = False
    while len(found) < MOST and not settled:
        y = np.sort(evaluate(model, sources.draw(size, random)), axis=0)
        if not np.isfinite(y).all():
            bad = float(np.mean(~np.isfinite(y)))
            raise CalibrationError(
                f"{bad:.2%} of the random trials have no finite result: the distributions reach where the model is "
                " not defined; state narrower limits, or another distribution"
            )
        found.append(y)
        summaries.append(np.stack([y.mean(0), y.std(0, ddof=1), *_equal(y, level)]))
        if len(found) > 1:
            spread = np.std(np.stack(summaries), axis=0, ddof=1) / np.sqrt(len(found))
            settled = bool(np.all(2.0 * spread <= TOLERANCE * np.mean(np.stack(summaries), axis=0)[1]))
    y = np.sort(np.concatenate(found), axis=0)
    rows = np.stack([y.mean(0), y.std(0, ddof=1), *_equal(y, level), *_shortest(y, level)])
    return rows, y.shape[0], settled


def evaluate(model: Model, inputs: Float64) -> Float64:
    """model of (q, k, m) inputs as (k, m); a single number only if it is a constant, and no sum or mean of its own."""
    with np.errstate(all="ignore"):
        found = np.asarray(model(*inputs))
        constant = not found.ndim and inputs[0].size > 0 and np.array_equal(found, model(*inputs[:, -1:, -1:]))
    if np.iscomplexobj(found):
        raise CalibrationError("the model gives complex numbers; take its real and imaginary part one after the other")
    if found.shape != inputs.shape[1:] and not constant:
        raise CalibrationError(
            f"the model gives an array of shape {found.shape} for arrays of {inputs.shape[1:]}; it must work on arrays "
            "of any shape, element by element"
        )
    return np.array(np.broadcast_to(found.astype(np.float64), inputs.shape[1:]))


def _equal(y: Float64, level: float) -> tuple[Float64, Float64]:
    ends = np.quantile(y, [0.5 * (1.0 - level), 0.5 * (1.0 + level)], axis=0)
    return ends[0], ends[1]


def _shortest(y: Float64, level: float) -> tuple[Float64, Float64]:
    inside = min(round(level * y.shape[0]), y.shape[0] - 1)
    first = np.argmin(y[inside:] - y[:-inside], axis=0)
    across = np.arange(y.shape[1])
    return y[first, across], y[first + inside, across]
