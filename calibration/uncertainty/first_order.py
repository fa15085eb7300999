"""The law of propagation of uncertainty (GUM 5.1 and 5.2), and whether the model is straight enough for it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..curve import Bools, Float64
from .monte_carlo import Model, evaluate
from .sources import Sources

STEP = 0.1
"""Of the differences that stand for derivatives, in standard uncertainties of the quantity."""
VARIANCE = 0.03
"""Terms of higher order up to this part of the variance, and so about half of it in the uncertainty ..."""
BIAS = 0.1
"""... and a shift of the mean up to this part of the uncertainty leave the model straight enough."""
POINTS = 2_000_000
"""Evaluations of the model at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Of m values."""

    value: Float64
    sensitivities: Float64
    """(q, m): dy/dx of each quantity; NaN where it has no uncertainty to be multiplied with."""
    signed: Float64
    """(sources, m): contribution of each source to y, with its sign."""
    straight: Bools
    """Whether terms of higher order may be left out."""


def linearised(model: Model, sources: Sources) -> Linear:
    """Derivatives, contributions, and terms of second and third order."""
    q, m = sources.values.shape
    offsets = _offsets(q)
    block = max(1, POINTS // len(offsets))
    value, straight = np.empty(m), np.empty(m, np.bool_)
    slopes, u = np.empty((q, m)), sources.totals
    for start in range(0, m, block):
        part = slice(start, start + block)
        inputs = sources.values[:, None, part] + offsets.T[:, :, None] * u[:, None, part]
        y = evaluate(model, inputs)
        value[part] = y[0]
        slopes[:, part], straight[part] = _terms(y, q)
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivities = np.where(u > 0.0, slopes / u, np.nan)
    signed = np.zeros((len(sources.sources), m))
    for row, source in zip(signed, sources.sources, strict=True):
        for number, size in source.sizes.items():
            row += np.where(size > 0.0, sensitivities[number] * size, 0.0)
    return Linear(value, sensitivities, signed, straight)


def _offsets(q: int) -> Float64:
    """Where the model is asked, in standard uncertainties: centre; small and whole steps; corners of each pair."""
    unit = np.eye(q)
    rows = [np.zeros(q)]
    for i in range(q):
        rows += [s * unit[i] for s in (STEP, -STEP, 2 * STEP, -2 * STEP, 1.0, -1.0)]
    for i, j in combinations(range(q), 2):
        rows += [a * unit[i] + b * unit[j] for a in (1.0, -1.0) for b in (1.0, -1.0)]
    return np.stack(rows)


def _terms(y: Float64, q: int) -> tuple[Float64, Bools]:
    """First-order contributions of each quantity, and whether those of higher order are small.

    For independent normal z of variance 1 and y = sum a_i z_i + 1/2 sum d_ij z_i z_j + 1/6 sum t_ijk z_i z_j z_k
    the mean is 1/2 sum d_ii, and the variance is sum a_i^2 + 1/2 sum d_ij^2 + sum_ij a_i t_ijj to fourth order
    (GUM 5.1.2, note).
    """
    alone = y[1 : 1 + 6 * q].reshape(q, 6, -1)
    near, far = alone[:, 0] - alone[:, 1], alone[:, 2] - alone[:, 3]
    slopes = (8.0 * near - far) / (12.0 * STEP)
    up, down = alone[:, 4], alone[:, 5]
    bend = up + down - 2.0 * y[0]
    third = 3.0 * (up - down) - 6.0 * slopes  # f_iii u^3
    more = 0.5 * np.sum(bend**2, axis=0) + np.sum(np.abs(slopes * third), axis=0)
    corners = y[1 + 6 * q :].reshape(-1, 4, y.shape[1])
    for (i, j), (pp, pm, mp, mm) in zip(combinations(range(q), 2), corners, strict=True):
        more = more + (0.25 * (pp - pm - mp + mm)) ** 2
        more = more + np.abs(slopes[i] * 0.5 * (pp + pm - 2.0 * up[i] - (mp + mm - 2.0 * down[i])))
        more = more + np.abs(slopes[j] * 0.5 * (pp + mp - 2.0 * up[j] - (pm + mm - 2.0 * down[j])))
    variance = np.sum(slopes**2, axis=0)
    noise = (64.0 * np.finfo(np.float64).eps * np.max(np.abs(y), axis=0)) ** 2
    shift = 0.5 * np.abs(np.sum(bend, axis=0))
    straight = (more <= VARIANCE * variance + noise) & (shift <= BIAS * np.sqrt(variance) + np.sqrt(noise))
    return slopes, np.asarray(straight)
