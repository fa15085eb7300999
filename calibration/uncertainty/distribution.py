"""Distributions that express what is known of an error, and random numbers drawn from them (GUM supplement 1, 6.4)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..curve import Float64

Distribution = Literal["normal", "rectangular", "triangular", "arcsine"]
"""rectangular: anywhere within limits; triangular: rather in their middle (a sum of two equal rectangular ones);
arcsine: rather at the limits, as of a quantity that oscillates."""

HALF_WIDTHS: dict[str, float] = {"rectangular": 3.0**0.5, "triangular": 6.0**0.5, "arcsine": 2.0**0.5}
"""Half-width in standard uncertainties (GUM 4.3.7, 4.3.9; supplement 1, 6.4.6)."""


def draw(
    distribution: Distribution, uncertainty: Float64, dof: Float64, trials: int, random: np.random.Generator
) -> Float64:
    """Errors of mean 0, trials along a first axis. uncertainty, dof: of one shape.

    Finite degrees of freedom say that the uncertainty itself is uncertain. A normal error then becomes a scaled t
    (supplement 1, 6.4.9.2). The limits of the others are drawn too, from a rectangle (6.4.3, curvilinear trapezoid)
    whose half-width is the one that GUM G.4.2 connects with that many degrees of freedom.
    """
    size = (trials, *uncertainty.shape)
    finite = np.isfinite(dof)
    if distribution == "normal":
        z = random.standard_normal(size)
        if finite.any():
            nu = np.where(finite, dof, 1.0)
            z = z * np.where(finite, np.sqrt(nu / random.chisquare(nu, size)), 1.0)
        return z * uncertainty
    half: Float64 = np.broadcast_to(HALF_WIDTHS[distribution] * uncertainty, size)
    if finite.any():
        doubt = np.where(finite, 1.0 / np.sqrt(2.0 * np.where(finite, dof, 1.0)), 0.0)
        half = half * (1.0 + doubt * random.uniform(-1.0, 1.0, size))
    if distribution == "rectangular":
        return half * random.uniform(-1.0, 1.0, size)
    if distribution == "triangular":
        return half * (random.random(size) - random.random(size))
    return half * np.sin(np.pi * random.uniform(-1.0, 1.0, size))
