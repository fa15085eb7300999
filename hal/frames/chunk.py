"""A chunk of frames on its way from the detector: arrays, never one object per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .frame import Codes, Float32, FrameTimes, Int64, Mask, Reason
from .numbering import Int32, Numbered

Images = NDArray[Any]


class Later:
    """What is found out about a chunk's frames after it was handed on; set once."""

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times: FrameTimes | None = None
        """Exposures by their pulses; of frames that no pulse settles, by arrival as before."""


@dataclass(frozen=True, slots=True)
class FrameChunk:
    """n frames in order of reception. All arrays are read-only and shared by everybody who gets the chunk.

    What the detector said: images (n, rows, columns), number, ticks (of the exposure's start, on its
    own clock), exposure_ns. When the last byte was here: arrival (lab time). What follows from it:
    start, stop, bound, sigma (ns of lab time), valid and reason as in `FrameTimes`; series and index
    as in `Numbered`. Where valid is False, start and stop are placeholders. `later`: where exposures by
    pulses will be found within about a second, None if no pulses are stamped.
    """

    images: Images
    number: Int64
    ticks: Int64
    exposure_ns: Int64
    arrival: Int64
    start: Int64
    stop: Int64
    bound: Int64
    sigma: Float32
    valid: Mask
    reason: Codes
    series: Int32
    index: Int64
    later: Later | None = None

    def __post_init__(self) -> None:
        n = len(self.number)
        for name in _columns():
            array = getattr(self, name)
            if len(array) != n:
                raise ValueError(f"frame chunk: {name} has {len(array)} entries and number {n}; give one per frame")
            array.flags.writeable = False

    @classmethod
    def raw(cls, images: Images, number: Int64, ticks: Int64, exposure_ns: Int64, arrival: Int64) -> FrameChunk:
        """As received: no number is trusted yet, no time is known."""
        n = len(number)
        none = np.zeros(n, np.int64)
        return cls(
            images, number, ticks, exposure_ns, arrival, none, none, none, np.zeros(n, np.float32),
            np.zeros(n, np.bool_), np.full(n, Reason.NO_CLOCK, np.uint8), np.full(n, -1, np.int32), np.full(n, -1),
        )  # fmt: skip

    @classmethod
    def concatenate(cls, parts: Sequence[FrameChunk]) -> FrameChunk:
        """The frames of all parts (at least one, images of one shape), in order."""
        if len(parts) == 1:
            return parts[0]
        columns: dict[str, Any] = {n: np.concatenate([getattr(part, n) for part in parts]) for n in _columns()}
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, where: slice) -> FrameChunk:
        """A stretch of frames, without copying."""
        columns: dict[str, Any] = {name: getattr(self, name)[where] for name in _columns()}
        return FrameChunk(**columns)

    def with_times(self, times: FrameTimes, numbered: Numbered) -> FrameChunk:
        """The same frames, numbered and on lab time."""
        return replace(
            self, start=times.start, stop=times.stop, bound=times.bound, sigma=times.sigma, valid=times.valid,
            reason=times.reason, series=numbered.series, index=numbered.index,
        )  # fmt: skip

    def for_later(self, later: Later) -> FrameChunk:
        """The same frames, about which more will be known."""
        return replace(self, later=later)

    @property
    def times(self) -> FrameTimes:
        """When the frames were exposed."""
        return FrameTimes(self.start, self.stop, self.bound, self.sigma, self.valid, self.reason)

    @property
    def best_times(self) -> FrameTimes:
        """The same by the best of present knowledge: by pulses once they were found."""
        return self.times if self.later is None or self.later.times is None else self.later.times


@cache
def _columns() -> tuple[str, ...]:
    return tuple(field.name for field in fields(FrameChunk) if field.name != "later")
