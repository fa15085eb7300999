"""Every channel's value during every frame, with its uncertainty; absent where the data can't tell.

`docs/explanation/alignment.md` derives the formulas. In one line, for a linear channel at the
fraction u between two readings:

    sigma^2 = (1-u)^2 s0^2 + u^2 s1^2 + slope^2 (w^2/3 + sigma_t^2) + (curvature)^2 + (unresolved jump)^2
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hal.frames.channel import Aligned, Channel, Kind
from hal.frames.frame import FrameTimes
from hal.frames.line import Line
from hal.frames.place import Film, Places
from hal.frames.readings import Readings
from hal.frames.steps import Steps

__all__ = ["Aligned", "Channel", "Kind", "align"]


def align(frames: FrameTimes, channels: Mapping[str, Channel], *, uncertainty: bool = True) -> dict[str, Aligned]:
    """Each channel's value at the middle of each exposure, or its mean over the exposure.

    The mean is taken where the exposure is longer than half the interval between the readings
    around it. Nothing is extrapolated. Channels read at the same times share the search for
    neighbours. Frames in order of time are faster. Without `uncertainty`, all sigma are NaN, in half
    the time.
    """
    film = Film(frames)
    out: dict[str, Aligned] = {}
    places: Places | None = None
    for name in sorted(channels, key=lambda name: _base(channels[name])):
        readings = Readings.of(channels[name])
        # One base at a time: its places are as long as the frames.
        if places is None or not np.array_equal(places.time, readings.time):
            places = Places(film, readings.time)
        out[name] = curve_of(readings, uncertainty).on(places, seen_by(frames, readings.channel.clock), uncertainty)
    return {name: out[name] for name in channels}


def curve_of(readings: Readings, uncertainty: bool = True) -> Line | Steps:
    """The channel's readings, prepared for any number of frames."""
    return (Line if readings.channel.kind == "linear" else Steps)(readings, uncertainty)


def seen_by(frames: FrameTimes, clock: str) -> FrameTimes:
    """The frames with the uncertainty that their times have beside readings stamped by `clock`.

    On one and the same clock the error of mapping it to lab time is common and cancels: what is left
    is `within`, and three of it for the bound.
    """
    if not clock or frames.clock != clock or frames.within is None:
        return frames
    bound = np.minimum(np.ceil(3.0 * frames.within).astype(np.int64), frames.bound)
    return replace(frames, sigma=np.minimum(frames.within, frames.sigma), bound=bound)


def _base(channel: Channel) -> tuple[Any, ...]:
    """What brings channels together that were read at the same times."""
    time = channel.time
    first = (int(time[0]), int(time[-1])) if time.size else (0, 0)
    return (time.size, *first, float(np.sum(channel.delay_s)))
