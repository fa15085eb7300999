"""One source of error: how large it may be, how it is distributed, how well that is known, and who else has it.

GUM is JCGM 100:2008, Guide to the expression of uncertainty in measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ..curve import Float64, doubles
from ..errors import CalibrationError
from .distribution import HALF_WIDTHS, Distribution
from .quantile import student


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """A standard uncertainty, in the unit of the quantity it belongs to; a number, or an array for an array of values.

    Raises `CalibrationError` if it is negative or not finite, or the degrees of freedom are not positive.
    """

    name: str
    uncertainty: ArrayLike
    distribution: Distribution = "normal"
    dof: ArrayLike = inf
    kind: Literal["A", "B"] = "B"
    """A: from the scatter of readings; B: from anything else (GUM 2.3.2, 2.3.3)."""
    shared: str = ""
    """Name of the error if other quantities have the very same one: two channels compared with one reference."""

    def __post_init__(self) -> None:
        u, dof = doubles(self.uncertainty), doubles(self.dof)
        if not np.isfinite(u).all() or np.any(u < 0.0):
            raise CalibrationError(f"{self.name}: a standard uncertainty must be finite and not negative")
        if not np.all(dof > 0.0):
            raise CalibrationError(f"{self.name}: its degrees of freedom must be greater than 0")
        if self.distribution != "normal" and self.distribution not in HALF_WIDTHS:
            raise CalibrationError(
                f"{self.name}: no distribution is called {self.distribution!r}; there are normal, "
                f"{', '.join(HALF_WIDTHS)}"
            )
        object.__setattr__(self, "uncertainty", u)
        object.__setattr__(self, "dof", dof)


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """A measured quantity: its best value, and everything that may be wrong with it, each thing independently."""

    name: str
    value: ArrayLike
    components: Sequence[Component] = field(default_factory=tuple)
    unit: str = ""

    def __post_init__(self) -> None:
        value = doubles(self.value)
        if not np.isfinite(value).all():
            raise CalibrationError(f"{self.name}: its value must be finite")
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "components", tuple(self.components))
        shared = [one.shared for one in self.components if one.shared]
        if len(set(shared)) < len(shared):
            raise CalibrationError(f"{self.name}: two of its components are the same shared error; add them up first")

    @property
    def uncertainty(self) -> Float64:
        """All components together: the root of the sum of squares."""
        total = sum((np.square(one.uncertainty) for one in self.components), np.zeros(np.shape(self.value)))
        return np.asarray(np.sqrt(total))

    @property
    def dof(self) -> Float64:
        """Effective degrees of freedom."""
        if not self.components:
            return np.full(np.shape(self.value), inf)
        u = np.stack(np.broadcast_arrays(*(np.asarray(one.uncertainty) for one in self.components)), axis=-1)
        return effective_dof(u, np.stack(np.broadcast_arrays(u[..., 0], *(one.dof for one in self.components))[1:], -1))


def effective_dof(contributions: ArrayLike, dof: ArrayLike) -> Float64:
    """Degrees of freedom of a sum of independent contributions along the last axis: Welch-Satterthwaite (GUM G.4.1)."""
    u, nu = doubles(contributions), doubles(dof)
    largest = np.max(np.abs(u), axis=-1, initial=0.0)
    share = np.square(u / np.where(largest > 0.0, largest, 1.0)[..., None])
    below = np.sum(share**2 / nu, axis=-1)
    total = np.sum(share, axis=-1) ** 2
    return np.asarray(np.divide(total, below, out=np.full(total.shape, inf), where=below > 0.0))


def readings(name: str, values: ArrayLike, *others: Component, unit: str = "", axis: int = -1) -> Quantity:
    """A quantity from repeated readings along `axis`: their mean, with its scatter as a first component of type A."""
    found = doubles(values)
    if not np.isfinite(found).all():
        raise CalibrationError(f"{name}: one of its readings is not known; leave it out")
    scatter = type_a("repeatability" if found.size > 1 else name, found, axis=axis)
    return Quantity(name, np.mean(found, axis=axis), (scatter, *others), unit)


def type_a(name: str, values: ArrayLike, *, axis: int = -1) -> Component:
    """Of the mean of n independent readings along `axis`: s / sqrt(n) with n - 1 degrees of freedom (GUM 4.2.3)."""
    values = doubles(values)
    n = values.shape[axis] if values.ndim else 1
    if n < 2:
        raise CalibrationError(f"{name}: one reading has no scatter; take more, or state a component of type B")
    u = np.std(values, axis=axis, ddof=1) / np.sqrt(n)
    return Component(name, u, "normal", np.full(np.shape(u), n - 1.0), "A")


def pooled(name: str, deviation: ArrayLike, dof: ArrayLike, n: int = 1) -> Component:
    """Of the mean of n readings whose standard deviation is known from earlier ones with `dof` (GUM 4.2.4, H.3.6)."""
    return Component(name, doubles(deviation) / np.sqrt(n), "normal", dof, "A")


def expanded(
    name: str, uncertainty: ArrayLike, *, k: float = 2.0, level: float | None = None, dof: float = inf, shared: str = ""
) -> Component:
    """From a certificate that states an expanded uncertainty with its k, or with a level and degrees of freedom."""
    if not k > 0.0:
        raise CalibrationError(f"{name}: its coverage factor must be greater than 0")
    factor = k if level is None else float(student(level, dof))
    return Component(name, doubles(uncertainty) / factor, "normal", dof, "B", shared)


def limits(
    name: str,
    half_width: ArrayLike,
    *,
    distribution: Distribution = "rectangular",
    doubt: float = 0.0,
    shared: str = "",
) -> Component:
    """An error of which only the limits -half_width..half_width are known (GUM 4.3.7).

    doubt: by which part the half-width itself may be wrong, such as 0.1; it gives 1 / (2 doubt^2) degrees of
    freedom (GUM G.4.2).
    """
    if distribution not in HALF_WIDTHS:
        raise CalibrationError(f"{name}: {distribution!r} has no limits; there are {', '.join(HALF_WIDTHS)}")
    if not 0.0 <= doubt <= 1.0:
        raise CalibrationError(f"{name}: the doubt about a half-width is a part of it, between 0 and 1")
    dof = 0.5 / doubt**2 if doubt else inf
    u = doubles(half_width) / HALF_WIDTHS[distribution]
    return Component(name, u, distribution, dof, "B", shared)


def resolution(step: ArrayLike, name: str = "resolution") -> Component:
    """Of a display or converter that shows nothing finer than `step`: anywhere in +/- half a step (GUM F.2.2.1)."""
    return limits(name, 0.5 * doubles(step))


def drift(rate: ArrayLike, elapsed: float, name: str = "drift since calibration") -> Component:
    """Since the calibration: at most `rate` per unit of time, either way, over `elapsed` units of time."""
    if elapsed < 0.0:
        raise CalibrationError(f"{name}: the calibration lies in the future; is the date right?")
    return limits(name, doubles(rate) * elapsed)


def hysteresis(up: ArrayLike, down: ArrayLike, name: str = "hysteresis") -> Component:
    """Of a reading that depends on the way there: half the difference of both ways, as limits about their mean."""
    return limits(name, 0.5 * np.abs(doubles(up) - doubles(down)))
