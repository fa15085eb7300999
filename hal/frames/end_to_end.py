"""Channels put one after another on one long line, so that a few live readings of each are worked out in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hal.frames.channel import Aligned
from hal.frames.frame import Reason
from hal.frames.line import Line, prepare
from hal.frames.place import Film, Places
from hal.frames.readings import Readings, one_after_another

APART = 1 << 45
"""ns from one channel to the next: ten hours, and 128 of them are exact as floats."""
MOST = 128
"""Channels on one line."""


class EndToEnd:
    """Linear channels of at least two readings each that have aperture, sigma_common, max_age and clock in common."""

    def __init__(self, parts: Sequence[Readings]) -> None:
        self.parts = parts
        self._origin = int(parts[0].time[0])
        self.line = Line(one_after_another(parts, self._origin, APART))
        prepare([self.line])
        self._first = np.array([[part.time[0]] for part in parts])
        self._last = np.array([[part.time[-1]] for part in parts])
        ends = np.cumsum([part.x.size for part in parts])
        self.slope2 = [self.line.slope2[end - 2 : end] for end in ends.tolist()]
        """Squared slope at the last two readings of each channel, per s^2."""

    def fits(self, film: Film) -> bool:
        """Whether the frames are near enough, and too short for means."""
        middle = film.middle.time
        near = not middle.size or max(abs(int(m) - self._origin) for m in (middle.min(), middle.max())) < APART // 4
        return near and film.longest <= 0.5 * self.line.r.narrowest

    def on(self, film: Film) -> list[Aligned]:
        """What `Line.on` gives of each."""
        n, frames = len(film.frames), film.frames
        shift = np.arange(len(self.parts))[:, None] * APART - self._origin
        times, shape = frames[np.tile(np.arange(n), len(self.parts))], (len(self.parts), n)
        every = replace(times, start=(frames.start + shift).ravel(), stop=(frames.stop + shift).ravel())
        found = self.line.on(Places(Film(every), self.line.r.time))
        value, sigma, valid = found.value.reshape(shape), found.sigma.reshape(shape), found.valid.reshape(shape)
        reason = found.reason.reshape(shape).copy()
        middle = film.middle.time
        reason[(middle < self._first) & frames.valid] = Reason.BEFORE_DATA
        reason[(middle > self._last) & frames.valid] = Reason.AFTER_DATA
        return [Aligned(value[i], sigma[i], valid[i], reason[i]) for i in range(len(self.parts))]
