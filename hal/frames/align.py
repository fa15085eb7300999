"""Every channel's value during every frame, with its uncertainty; absent where the data can't tell.

`docs/explanation/alignment.md` derives the formulas. In one line, for a linear channel at the
fraction u between two readings:

    sigma^2 = (1-u)^2 s0^2 + u^2 s1^2 + slope^2 (w^2/3 + sigma_t^2) + (curvature)^2 + (unresolved jump)^2
"""

from __future__ import annotations

from collections.abc import Mapping

from hal.frames.channel import Aligned, Channel, Kind
from hal.frames.frame import FrameTimes
from hal.frames.line import Line
from hal.frames.readings import Middles, Place, Readings
from hal.frames.steps import Steps

__all__ = ["Aligned", "Channel", "Kind", "align"]


def align(frames: FrameTimes, channels: Mapping[str, Channel]) -> dict[str, Aligned]:
    """Each channel's value at the middle of each exposure, or its mean over the exposure.

    The mean is taken where the exposure is longer than half the interval between the readings
    around it. Nothing is extrapolated. Channels that share the *same* time array (by identity) and
    delay also share the search for neighbours. Cost: about 25 ns per frame and channel.
    """
    middles = Middles.of(frames)
    sharing: dict[tuple[int, int], list[str]] = {}
    for name, channel in channels.items():
        sharing.setdefault((id(channel.time), round(channel.delay_s * 1e9)), []).append(name)
    out: dict[str, Aligned] = {}
    for names in sharing.values():
        place: Place | None = None  # let go before the next: three arrays as long as the frames
        for name in names:
            curve = curve_of(channels[name])
            place = Place.of(middles, curve.r.time) if place is None else place
            out[name] = curve.on(frames, place)
    return {name: out[name] for name in channels}


def curve_of(channel: Channel) -> Line | Steps:
    """The channel's readings, prepared for any number of frames."""
    readings = Readings.of(channel)
    return Line(readings) if channel.kind == "linear" else Steps(readings)
