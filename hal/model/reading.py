"""A reading: a value, its unit, when it was true and how well that is known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import sqrt
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Quality(Enum):
    """What may be made of a reading."""

    GOOD = "good"
    STALE = "stale"
    """True once, and older than it should be."""
    UNCERTAIN = "uncertain"
    """The instrument itself has doubts: over range, in compliance, settling."""
    BAD = "bad"
    """No value: `value` is None and `reason` says why."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """An interval, not a point: the value was true some time in ``time - bound`` to ``time + bound``."""

    value: T | None
    unit: str
    time: int
    """Middle of the interval, lab time, ns since the UNIX epoch."""
    bound: int
    """Half-width of the interval, ns."""
    uncertainty: float | None = None
    """One standard deviation of repeatability and resolution, in `unit`; accuracy is a certificate's matter."""
    quality: Quality = Quality.GOOD
    reason: str = ""
    ticks: int | None = None
    """The instrument's own clock, where it has one."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How far repeated readings of a steady value scatter: one sigma, from the manual or measured."""

    absolute: float = 0.0
    relative: float = 0.0
    resolution: float = 0.0
    """The last digit, in the signal's unit; adds 1/sqrt(12) of itself (GUM F.2.2.1)."""

    def of(self, value: float) -> float:
        """Standard uncertainty of one reading of `value`."""
        return sqrt(self.absolute**2 + (self.relative * value) ** 2 + self.resolution**2 / 12)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one exchange, not yet taken apart: several signals may be in it."""

    payload: Any
    sent: int
    received: int
    ticks: int | None = None


@dataclass(frozen=True, slots=True)
class Sample(Generic[T]):
    """A value with what the instrument says of it; for addresses whose replies carry a status."""

    value: T | None
    quality: Quality = Quality.GOOD
    reason: str = ""
    uncertainty: float | None = None
