"""What an operator wants to know of a clock: can I use it, how old is it, how far off."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClockHealth:
    """A clock's state at one moment of lab time."""

    usable: bool
    """Ticks read now would get a lab time."""
    reason: str
    """Why not, and what to do; of a usable clock what happened to it lately, mostly nothing."""
    age: float
    """s since the last look that was taken in; inf if there was none."""
    offset: int
    """ns, lab time less nominal clock time (ticks / frequency, roll-overs counted within the epoch), now."""
    rate_ppm: float
    """By how much a second of that clock is longer than a lab second."""
    bound: int
    """ns, hard bound of a tick read now."""
    sigma: float
    """ns, standard uncertainty of a tick read now."""
    residual: float
    """ns, median distance of the last looks from the model: a quiet link's is small."""
    epoch: int
    """Span between two resets, counted from 0; -1 if there is none yet."""
    exchanges: int
    """Looks taken in within the epoch (one way: arrivals kept)."""
