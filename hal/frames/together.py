"""Lines read at the same times, worked out together: where each frame lies among the readings is found once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hal.frames.channel import Aligned
from hal.frames.line import Line
from hal.frames.place import Places
from hal.frames.readings import unknown


def lines_on(lines: Sequence[Line], places: Places, uncertainty: bool = True) -> list[Aligned]:
    """What `Line.on` gives of each: all have at least two readings, at the times of `places`, by one clock."""
    n = len(places.film.frames)
    value = np.empty((len(lines), n))
    sigma = np.empty((len(lines), n), np.float32) if uncertainty else None
    seen = places.film.seen_by(lines[0].r.channel.clock)
    ends = [line.at_readings(seen) for line in lines] if uncertainty else []
    for block in places.middle.blocks():
        for i, line in enumerate(lines):
            block.interpolate(line.r.value, line.dv, value[i, block.frames])
            if sigma is not None:
                line.sigma_at(block, sigma[i, block.frames], seen, ends[i])
    return [
        line.complete(places, value[i], unknown(n) if sigma is None else sigma[i], uncertainty)
        for i, line in enumerate(lines)
    ]
