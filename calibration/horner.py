"""A function given piece by piece as polynomials, evaluated on arrays in blocks that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .curve import Float64, doubles
from .its90_data import Coefficients

BLOCK = 1 << 14
"""Samples worked on at a time: few enough for the processor's cache, many enough that a call to numpy costs little."""


def blocks(size: int) -> Iterator[slice]:
    """The slices that cut `size` samples into blocks."""
    return (slice(start, start + BLOCK) for start in range(0, size, BLOCK))


def horner(x: Float64, coefficients: Coefficients, out: Float64) -> Float64:
    """The polynomial with these coefficients (of the powers 0, 1, 2, ...) at x, into `out`."""
    out[...] = coefficients[-1]
    for c in coefficients[-2::-1]:
        np.multiply(out, x, out=out)
        np.add(out, c, out=out)
    return out


def derivative(coefficients: Coefficients) -> Coefficients:
    """Coefficients of the polynomial's derivative."""
    return tuple(i * c for i, c in enumerate(coefficients))[1:] or (0.0,)


@dataclass(frozen=True, slots=True)
class Bump:
    """p(u) exp(rate u^2), u = x - centre: what the reference function of type K has beside its polynomials."""

    factor: Coefficients
    rate: float
    centre: float

    def derivative(self) -> Bump:
        """d/dx: (p'(u) + 2 rate u p(u)) exp(rate u^2)."""
        shifted = (0.0, *(2.0 * self.rate * c for c in self.factor))
        own = (*derivative(self.factor), *(0.0 for _ in shifted))
        return Bump(tuple(a + b for a, b in zip(own, shifted, strict=False)), self.rate, self.centre)

    def add(self, x: Float64, out: Float64) -> None:
        """Add the bump at x to `out`."""
        u = x - self.centre
        power = np.multiply(u, u)
        np.multiply(power, self.rate, out=power)
        np.exp(power, out=power)
        np.multiply(power, horner(u, self.factor, np.empty_like(u)), out=power)
        np.add(out, power, out=out)


class PiecewisePolynomial:
    """Polynomials, each on an interval; an edge belongs to the piece below it. The outer ones go on beyond the ends."""

    def __init__(
        self, edges: tuple[float, ...], polynomials: tuple[Coefficients, ...], bump: Bump | None = None
    ) -> None:
        """`edges`: one more than there are polynomials, rising. `bump`: is added to the last piece."""
        self._edges = edges
        self._polynomials = polynomials
        self._bump = bump
        self._lows, self._highs = (-np.inf, *edges[1:-1]), (*edges[1:-1], np.inf)

    def derivative(self) -> PiecewisePolynomial:
        """d/dx, piece by piece."""
        bump = None if self._bump is None else self._bump.derivative()
        return PiecewisePolynomial(self._edges, tuple(derivative(p) for p in self._polynomials), bump)

    def __call__(self, x: ArrayLike) -> Float64:
        """The function at x, of any shape."""
        x = doubles(x)
        flat = x.reshape(-1)
        out = np.empty(flat.size)
        for block in blocks(flat.size):
            self._evaluate(flat[block], out[block])
        return out.reshape(x.shape)

    def _evaluate(self, x: Float64, out: Float64) -> None:
        """Each piece from the one of the least x on, over what the pieces below it gave: quicker than sorting."""
        least, greatest = np.fmin.reduce(x), np.fmax.reduce(x)  # NaN only if all are
        begun = False
        for polynomial, low, high in zip(self._polynomials, self._lows, self._highs, strict=True):
            if greatest <= low or least > high:
                continue
            piece = horner(x, polynomial, np.empty_like(x) if begun else out)
            if self._bump is not None and high == np.inf:
                self._bump.add(x, piece)
            if begun:
                np.copyto(out, piece, where=x > low)
            begun = True
