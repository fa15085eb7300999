"""What clocks and links do: crystals that warm and wander, ways to a device that queue, poll and change.

Time here is seconds since the trace's beginning, float64. Estimators never see any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Random = np.random.Generator

Temperature = Callable[[Float64], Float64]
"""Rate error (s/s) that the oscillator's temperature causes, by time."""


@dataclass(frozen=True)
class Oscillator:
    """frequency * (1 + offset + temperature(t) + random walk of frequency + white frequency noise)."""

    offset: float
    walk: float = 3e-10
    """Random walk of frequency: standard deviation of the rate after 1 s; grows with the square root of time."""
    white: float = 1e-9
    """White frequency noise: standard deviation of the time error after 1 s, in s."""
    temperature: Temperature = np.zeros_like

    def error(self, duration: float, rng: Random) -> Callable[[Float64], Float64]:
        """Time error (s) over true time from 0 to `duration`: what the device's seconds have gained."""
        steps = int(np.clip(duration / 0.05, 2_000, 200_000))
        grid = np.linspace(0.0, duration, steps + 1)
        step = duration / steps
        rate = self.offset + self.temperature(grid) + np.cumsum(rng.normal(0.0, self.walk * np.sqrt(step), grid.size))
        grown = 0.5 * (rate[1:] + rate[:-1]) * step + rng.normal(0.0, self.white * np.sqrt(step), steps)
        error = np.concatenate([[0.0], np.cumsum(grown)])
        return lambda t: np.interp(t, grid, error)


def still(t: Float64) -> Float64:
    """A laboratory whose temperature stays."""
    return np.zeros_like(t)


def warming(by: float, tau: float, *, since: float = 0.0) -> Temperature:
    """A board that was switched on at `since`: the rate moves by `by` with the time constant `tau`."""
    return lambda t: np.where(t > since, by * -np.expm1(-np.maximum(t - since, 0.0) / tau), 0.0)


def conditioned(amplitude: float, period: float, phase: float = 0.0) -> Temperature:
    """An air conditioning that comes and goes."""
    return lambda t: amplitude * np.sin(2 * np.pi * t / period + phase)


# ---------------------------------------------------------------------- delays beyond the smallest

Queue = Callable[[Float64, Random], Float64]
"""Delay (s, >= 0) beyond the smallest, of messages that left at given times."""


def exponential(mean: float) -> Queue:
    """Queues of many short things."""
    return lambda t, rng: rng.exponential(mean, t.size)


def gamma(mean: float, shape: float) -> Queue:
    """The larger the shape, the rarer is a message that hardly waited."""
    return lambda t, rng: rng.gamma(shape, mean / shape, t.size)


def pareto(scale: float, power: float, *, limit: float = 0.5) -> Queue:
    """Heavy tail (Lomax): P(delay > d) = (1 + d/scale)^-power; no message waits longer than `limit`."""
    return lambda t, rng: np.minimum(scale * rng.pareto(power, t.size), limit)


def bimodal(quick: Queue, slow: Queue, share: float) -> Queue:
    """A share of the messages goes the slow way."""

    def draw(t: Float64, rng: Random) -> Float64:
        a, b = quick(t, rng), slow(t, rng)
        return np.where(rng.random(t.size) < share, b, a)

    return draw


def polled(period: float, phase: float, jitter: float) -> Queue:
    """Wait for the next poll on a grid that another oscillator keeps, and a little jitter of the host."""
    return lambda t, rng: (phase - t) % period + rng.exponential(jitter, t.size)


def episodes(calm: Queue, busy: Queue, spans: Sequence[tuple[float, float]]) -> Queue:
    """Busy within the spans (begin, end in s), calm otherwise."""
    edges = np.array(spans, float).reshape(-1, 2)

    def draw(t: Float64, rng: Random) -> Float64:
        a, b = calm(t, rng), busy(t, rng)
        inside = np.searchsorted(edges[:, 0], t, side="right") > np.searchsorted(edges[:, 1], t, side="right")
        return np.where(inside, b, a)

    return draw


def on_and_off(duration: float, calm: float, busy: float, rng: Random) -> list[tuple[float, float]]:
    """Busy spans of mean length `busy` with mean pauses `calm`, both exponential."""
    spans, t = [], rng.exponential(calm)
    while t < duration:
        end = t + rng.exponential(busy)
        spans.append((t, end))
        t = end + rng.exponential(calm)
    return spans


@dataclass(frozen=True)
class Way:
    """One direction of a link: the smallest delay (s), which may change at given times, and the queue beyond it."""

    floor: float
    queue: Queue
    changes: Sequence[tuple[float, float]] = field(default=())
    """(time, floor from then on), in order."""

    def floors(self, t: Float64) -> Float64:
        """The smallest delay at times t."""
        levels = np.array([self.floor, *(level for _, level in self.changes)])
        return levels[np.searchsorted(np.array([at for at, _ in self.changes]), t, side="right")]

    def delays(self, t: Float64, rng: Random) -> Float64:
        """Delays of messages that left at t."""
        return self.floors(t) + self.queue(t, rng)
