"""Every channel's value during every frame, with its uncertainty; absent where the data can't tell.

`docs/explanation/alignment.md` derives the formulas. In one line, for a linear channel at the
fraction u between two readings:

    sigma^2 = (1-u)^2 s0^2 + u^2 s1^2 + slope^2 (w^2/3 + sigma_t^2) + (curvature)^2 + (unresolved jump)^2
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np

from hal.frames.channel import Aligned, Channel, Kind
from hal.frames.frame import FrameTimes
from hal.frames.line import Line, prepare
from hal.frames.place import Film, Places
from hal.frames.readings import Readings
from hal.frames.steps import Steps
from hal.frames.together import lines_on

__all__ = ["Aligned", "Channel", "Kind", "align"]


def align(frames: FrameTimes, channels: Mapping[str, Channel], *, uncertainty: bool = True) -> dict[str, Aligned]:
    """Each channel's value at the middle of each exposure, or its mean over the exposure.

    The mean is taken where the exposure is longer than half the interval between the readings
    around it. Nothing is extrapolated. Channels read at the same times are worked out
    together. Frames in order of time are faster. Without `uncertainty`, all sigma are NaN, in a third
    of the time.
    """
    film = Film(frames)
    out: dict[str, Aligned] = {}
    names = sorted(channels, key=lambda name: _base(channels[name]))
    # One base at a time: its places are as long as the frames.
    for _, alike in groupby(names, key=lambda name: _base(channels[name])):
        waiting = {name: Readings.of(channels[name]) for name in alike}
        while waiting:
            time = next(iter(waiting.values())).time
            now = {name: r for name, r in waiting.items() if np.array_equal(r.time, time)}
            waiting = {name: r for name, r in waiting.items() if name not in now}
            out |= _on_one_base(now, Places(film, time), uncertainty)
    return {name: out[name] for name in channels}


def _on_one_base(readings: Mapping[str, Readings], places: Places, uncertainty: bool) -> dict[str, Aligned]:
    curves = {name: curve_of(r) for name, r in readings.items()}
    lines = {name: curve for name, curve in curves.items() if isinstance(curve, Line)}
    if uncertainty:
        prepare(list(lines.values()))
    out: dict[str, Aligned] = {}
    for clock in {line.r.channel.clock for line in lines.values()}:
        some = {name: line for name, line in lines.items() if line.r.channel.clock == clock}
        if len(some) >= _TOGETHER and places.time.size > 1:
            out |= dict(zip(some, lines_on(list(some.values()), places, uncertainty), strict=True))
    return {name: out[name] if name in out else curve.on(places, uncertainty) for name, curve in curves.items()}


def curve_of(readings: Readings) -> Line | Steps:
    """The channel's readings, ready for any number of frames; a line's uncertainties are still to be prepared."""
    return Line(readings) if readings.channel.kind == "linear" else Steps(readings)


_TOGETHER = 3
"""Lines from which working them out together pays."""


def _base(channel: Channel) -> tuple[Any, ...]:
    """What brings channels together that were read at the same times."""
    time = channel.time
    first = (int(time[0]), int(time[-1])) if time.size else (0, 0)
    return (time.size, *first, float(np.sum(channel.delay_s)))
