"""Frame pulses: the edges a detector puts out at its exposures, as a counter captured them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hal.frames.frame import Float64, Int64, Mask

RING = 25e-6  # s after an edge in which further ones are ringing of the line


@dataclass(frozen=True, slots=True)
class Pulses:
    """The captured pulses of one input, arrays of shape (m,), in any order.

    time        int64 ns lab time, as the clock model maps the captured ticks
    bound       int64 ns: time is known to +-bound (array or scalar), the clock's mapping included
    ticks       int64, the captured ticks themselves, if at hand (carried along, not used)
    sigma       ns, standard uncertainty of time: array or scalar; None: bound / sqrt(3)
    latency     s from the edge of the exposure to the pulse; subtracted
    latency_sigma  s, its standard uncertainty
    resolution  s, one step of the capturing counter
    edge        the exposure's edge that the pulse marks
    valid       mask: the pulse has a lab time; None: all have
    clock       id of the clock that captured them ("board"); readings stamped by the same one share
                its mapping error with the frames
    """

    time: Int64
    bound: Int64 | int = 0
    ticks: Int64 | None = None
    sigma: Float64 | float | None = None
    latency: float = 0.0
    latency_sigma: float = 0.0
    resolution: float = 1e-8
    edge: Literal["start", "stop"] = "start"
    valid: Mask | None = None
    clock: str = ""

    def __post_init__(self) -> None:
        if np.asarray(self.time).dtype != np.int64 or np.ndim(self.time) != 1:
            raise ValueError("pulses: time must be one-dimensional int64 ns of lab time; floats can't hold it")
        for name in ("bound", "ticks", "sigma", "valid"):
            got = getattr(self, name)
            if got is not None and np.shape(got) not in ((), self.time.shape):
                raise ValueError(
                    f"pulses: {name} has shape {np.shape(got)}, time {self.time.shape}; give one per pulse"
                )
        if self.edge not in ("start", "stop"):
            raise ValueError(f"pulses: edge {self.edge!r} is not known; use 'start' or 'stop'")
        if not (self.resolution >= 0 and self.latency_sigma >= 0 and np.isfinite(self.latency)):
            raise ValueError(
                "pulses: resolution or latency_sigma is negative, or latency not a number; check the lab file"
            )

    def __len__(self) -> int:
        return int(self.time.size)


def debounce(t: Float64, window: float) -> Int64:
    """Indices of the edges that no kept edge precedes by less than window; t ascending.

    An edge that was itself suppressed suppresses nothing: a line that rings for longer than the
    window is seen again, not lost.
    """
    if not t.size:
        return np.zeros(0, np.int64)
    keep = np.concatenate([[True], np.diff(t) > window])
    last = -np.inf
    for i in np.flatnonzero(~keep).tolist():
        if keep[i - 1]:
            last = float(t[i - 1])
        keep[i] = t[i] - last > window
        last = float(t[i]) if keep[i] else last
    return np.flatnonzero(keep)


def usual_interval(t: Float64, expected: float | None) -> float:
    """Median interval of ascending pulses, s: of those within 20 % of the expected one if that is known."""
    gaps = np.diff(t)
    if expected is not None:
        near = gaps[np.abs(gaps - expected) < 0.2 * expected]
        return float(np.median(near)) if near.size >= 3 else expected
    gaps = gaps[gaps > RING]
    return float(np.median(gaps)) if gaps.size else 1.0
