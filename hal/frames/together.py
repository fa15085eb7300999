"""Lines read at the same times, worked out together: their sigma^2 as products of small matrices.

Between two readings sigma^2 is a sum of a few numbers that belong to the readings (different for every channel)
times weights that belong to the frame (the same for all channels): 1-u and u, q = u (1 - u) and its square. So for
some frames in a row and the readings around them,

    (channels x readings) times (readings x frames)

is all there is to do. The weights 1-u and u of reading j at the coordinate s = k + u are the hat function
max(0, 1 - |s - j|), and q is the product of two neighbouring hats. Values are cheaper line by line.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hal.frames.channel import Aligned
from hal.frames.frame import Float32, Float64, Int64
from hal.frames.line import Line
from hal.frames.place import Block, Number, Places
from hal.frames.readings import unknown

_INTERVALS = 3  # between readings, in one product: fewer make many products, more make many zeros
_FRAMES = (32, 256)  # in one product, at least and at most
_READINGS = 24  # in one product, at most: with more, one line after the other is faster


def lines_on(lines: Sequence[Line], places: Places, uncertainty: bool = True) -> list[Aligned]:
    """What `Line.on` gives of each: all have at least two readings, at the times of `places`, by one clock."""
    n, m = len(places.film.frames), places.time.size
    value = np.empty((len(lines), n))
    sigma = np.empty((len(lines), n), np.float32) if uncertainty else None
    table = _Table(lines, places, value, sigma)
    group = 1 << round(np.log2(np.clip(_INTERVALS * n / m, *_FRAMES)))
    for block in places.middle.blocks():
        begin, end = block.frames.start, block.frames.stop
        rest = (end - begin) % group  # of the last block
        if not rest:
            table.fill(block, group)
            continue
        if end - begin > rest:
            table.fill(Block(places.middle, slice(begin, end - rest)), group)
        table.fill(Block(places.middle, slice(end - rest, end)), rest)
    return [
        line.complete(places, value[i], unknown(n) if sigma is None else sigma[i], uncertainty)
        for i, line in enumerate(lines)
    ]


class _Table:
    """Numbers of all lines, shape (lines, readings or intervals), and where the results go, (lines, frames)."""

    def __init__(self, lines: Sequence[Line], places: Places, value: Float64, sigma: Float32 | None) -> None:
        self.lines, self.value, self.sigma = lines, value, sigma
        self.seen = places.film.seen_by(lines[0].r.channel.clock)
        self.bent = any(line.bent for line in lines)
        if sigma is None:
            return
        self.ends = np.stack([line.at_readings(self.seen) for line in lines])
        self.c = np.stack([line.c for line in lines])
        if not self.seen.even:
            self.slope2 = np.stack([line.slope2 for line in lines])
        if self.bent:
            self.d = np.stack([line.d for line in lines])

    def fill(self, block: Block, group: int) -> None:
        """Values and sigmas of the block's frames, `group` of them (a divisor of all) per product."""
        for i, line in enumerate(self.lines):
            block.interpolate(line.r.value, line.dv, self.value[i, block.frames])
        if self.sigma is None:
            return
        k = block.k.reshape(-1, group)
        first = k.min(1)
        count = int((k.max(1) - first).max()) + 2
        if count > _READINGS:
            for i, line in enumerate(self.lines):
                line.sigma_at(block, self.sigma[i, block.frames], self.seen, self.ends[i])
            return
        at = first[:, None] + np.arange(count)  # readings, (products, count)
        s = ((k - first[:, None]) + block.u.reshape(-1, group)).astype(np.float32)
        hats = s[:, None, :] - np.arange(count, dtype=np.float32)[:, None]
        np.abs(hats, out=hats)
        np.subtract(np.float32(1.0), hats, out=hats)
        np.maximum(hats, np.float32(0.0), out=hats)
        weights, columns = [hats], [_taken(self.ends, at)]
        if not self.seen.even:
            # The frames' own variance of time goes with the weights.
            time2 = (self.seen.sigma[block.frames] ** 2).reshape(-1, 1, group)
            weights.append(weights[0] * time2)
            columns.append(_taken(self.slope2, at))
        q = weights[0][:, :-1] * weights[0][:, 1:]
        weights.append(q)
        columns.append(_taken(self.c, at[:, :-1]))
        if self.bent:
            weights.append(q * q)
            columns.append(_taken(self.d, at[:, :-1]))
        out = self.sigma[:, block.frames]
        np.matmul(np.concatenate(columns, 2), np.concatenate(weights, 1), out=_cut(out, group))
        np.maximum(out, np.float32(0.0), out=out)
        np.sqrt(out, out=out)


def _taken(table: NDArray[Number], at: Int64) -> NDArray[Number]:
    """The numbers at the readings of each product: (products, lines, readings)."""
    return table.take(at, axis=1, mode="clip").transpose(1, 0, 2)


def _cut(out: NDArray[Number], group: int) -> NDArray[Number]:
    """A view of (lines, frames) as (products, lines, group)."""
    return out.reshape(len(out), -1, group).transpose(1, 0, 2)
