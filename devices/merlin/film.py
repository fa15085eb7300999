"""What emulated detectors share: exposures whose truth is kept, and frames that are sent late, in bursts, or never."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

REMEMBERED = 4_000_000  # exposures whose truth is kept


@dataclass(frozen=True, slots=True)
class Truth:
    """All exposures so far, the dropped ones too: arrays of equal length."""

    series: NDArray[np.int32]
    number: NDArray[np.int64]
    middle: NDArray[np.float64]
    """Middle of the exposure, seconds lived by the emulator (see `Film.lived`)."""
    sent: NDArray[np.bool_]


class Film:
    """Base of detectors. Chance `drop` that a frame is never sent; s: `delay`, the least from the end of an exposure
    to sending, `jitter`, the mean of the rest, `every`, the mean interval of bursts (0: none), `late`, the
    longest that frames are held back in one, `pulse_delay`, from the beginning of an exposure to its pulse at the
    trigger output (negative: the pulse comes first, and then the shutter).
    """

    def __init__(
        self, rng: np.random.Generator, *, drop: float, delay: float, jitter: float, every: float, late: float,
        pulse_delay: float = 0.0,
    ) -> None:  # fmt: skip
        self.lived = 0.0
        """Seconds since it was switched on: the time base of the truth."""
        self.drop, self.delay, self.jitter, self.every, self.late = drop, delay, jitter, every, late
        self.pulse_delay = pulse_delay
        self.pulses: list[Callable[[NDArray[Any], NDArray[Any]], None]] = []
        """Its trigger output: told when a pulse began and ended (seconds lived), once the exposure has."""
        self._rng = rng
        self._released = 0.0
        self._hold = self._burst(0.0)
        self._truth: deque[tuple[int, NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]] = deque()
        self._kept = 0

    def truth(self) -> Truth:
        """Every exposure there was."""
        if not self._truth:
            none = np.zeros(0)
            return Truth(none.astype(np.int32), none.astype(np.int64), none, none.astype(np.bool_))
        series = np.concatenate([np.full(len(number), s, np.int32) for s, number, _, _ in self._truth])
        return Truth(series, *(np.concatenate([row[i] for row in self._truth]) for i in (1, 2, 3)))

    def exposed(
        self, series: int, number: NDArray[np.int64], start: NDArray[Any], stop: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Exposures were made (seconds lived); returns which of them are sent."""
        sent = self._rng.random(len(number)) >= self.drop
        self._truth.append((series, number, (start + stop) / 2, sent))
        self._kept += len(number)
        while self._kept > REMEMBERED:
            self._kept -= len(self._truth.popleft()[1])
        for pulse in self.pulses:
            pulse(start + self.pulse_delay, stop + self.pulse_delay)
        return sent

    def due(self, stop: NDArray[Any]) -> NDArray[np.float64]:
        """When frames are sent: after a delay, held back in bursts, and never out of order."""
        due = stop + self.delay + self._rng.exponential(self.jitter, stop.size) if self.jitter else stop + self.delay
        while due[-1] >= self._hold[0]:
            begin, end = self._hold
            due = np.where((due >= begin) & (due < end), end, due)
            if due[-1] <= end:
                break  # and so may be the next
            self._hold = self._burst(end)
        due = np.maximum.accumulate(np.maximum(due, self._released))
        self._released = float(due[-1])
        return due

    def released(self) -> float:
        """When a message that is no frame goes out: with what is next, and never out of order."""
        self._released = max(self._released, self.lived + self.delay)
        return self._released

    def _burst(self, after: float) -> tuple[float, float]:
        """From when until when frames are held back next."""
        begin = after + self._rng.exponential(self.every) if self.every else np.inf
        return begin, begin + self._rng.uniform(0.2, 1.0) * self.late
