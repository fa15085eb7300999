"""When each frame was exposed: intervals on the lab's timebase, and why a frame or a value is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
Codes = NDArray[np.uint8]


class Reason(IntEnum):
    """Why an entry is invalid (OK: it is not). uint8; files hold the numbers, so never renumber."""

    OK = 0
    NO_CLOCK = 1  # no arrival of this clock's epoch has been seen
    BAD_TICK = 2  # a corrupted detector timestamp that the frame's neighbours can't replace
    DUPLICATE = 3  # the detector's number was received before
    BAD_NUMBER = 4  # a sequence number that fits neither its neighbours nor a restart
    NO_FRAME_TIME = 5  # the frame itself has no valid exposure
    NO_DATA = 6  # the channel has no reading at all
    BEFORE_DATA = 7  # exposed before the channel's first reading
    AFTER_DATA = 8  # exposed after the channel's last reading
    GAP = 9  # the neighbouring readings are further apart than max_gap
    BAD_QUALITY = 10  # next to a reading of bad quality
    AMBIGUOUS = 11  # could be the neighbouring exposure
    NO_PULSE = 12  # no frame pulse for it, nor can one be inferred
    NOT_MATCHED = 13  # its series could not be matched to pulses


_COLUMNS = ("start", "stop", "bound", "sigma", "valid", "reason")


@dataclass(frozen=True, slots=True)
class Exposure:
    """One frame's exposure: start and stop in ns since the UNIX epoch, each known to +-bound ns."""

    start: int
    stop: int
    bound: int
    sigma: float  # ns, standard uncertainty common to start and stop
    valid: bool
    reason: Reason

    @property
    def middle(self) -> int:
        """Mid-point of the exposure, ns since the UNIX epoch."""
        return self.start + (self.stop - self.start) // 2

    @property
    def duration(self) -> float:
        """Length of the exposure in seconds."""
        return (self.stop - self.start) * 1e-9


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """Exposures of n frames in order of reception, as a structure of arrays of shape (n,).

    start, stop and bound are int64 ns; sigma float32 ns; reason holds `Reason` codes. Where
    valid is False, start and stop are placeholders and must not be used.

    clock is the id of the clock that stamped the exposures ("" for none), within the standard
    uncertainty of start and stop as read on that clock, ns, the error of mapping the clock to lab
    time left out. Readings stamped by the same clock carry the same mapping error, which cancels:
    for them `within` counts instead of sigma. None: no better than sigma.
    """

    start: Int64
    stop: Int64
    bound: Int64
    sigma: Float32
    valid: Mask
    reason: Codes
    clock: str = ""
    within: Float32 | None = None

    def __post_init__(self) -> None:
        shape = self.start.shape
        if self.within is not None and self.within.shape != shape:
            raise ValueError(f"frame times: within has not the shape {shape} of start; pass arrays of equal length")
        for name in _COLUMNS:
            if getattr(self, name).shape != shape or len(shape) != 1:
                raise ValueError(f"frame times: {name} has not the shape {shape} of start; pass arrays of equal length")
        if self.start.dtype != np.int64 or self.stop.dtype != np.int64:
            raise ValueError("frame times: start and stop must be int64 ns; floats can't hold them")

    @classmethod
    def of(
        cls,
        start: Int64,
        stop: Int64,
        bound: Int64 | int = 0,
        *,
        sigma: Float32 | float | None = None,
        valid: Mask | None = None,
        reason: Codes | None = None,
        clock: str = "",
        within: Float32 | float | None = None,
    ) -> FrameTimes:
        """Exposures from arrays of shape (n,) in ns; bound, sigma and within may be scalars.

        sigma defaults to bound / sqrt(3), the uniform distribution. A frame that ends before it
        starts is a ValueError.
        """
        start, stop = np.asarray(start, np.int64), np.asarray(stop, np.int64)
        if (stop < start).any():
            raise ValueError("frame times: a frame stops before it starts; check the exposure's sign and unit (ns)")
        bounds = np.broadcast_to(np.asarray(bound, np.int64), start.shape)
        sigmas = bounds / np.sqrt(3.0) if sigma is None else sigma
        ok = np.ones(start.shape, np.bool_) if valid is None else np.asarray(valid, np.bool_)
        codes = np.zeros(start.shape, np.uint8) if reason is None else np.asarray(reason, np.uint8)
        if reason is None and valid is not None:
            codes = np.where(ok, Reason.OK, Reason.NO_FRAME_TIME).astype(np.uint8)
        apart = None if within is None else np.broadcast_to(np.asarray(within, np.float32), start.shape)
        sigmas = np.broadcast_to(np.asarray(sigmas, np.float32), start.shape)
        return cls(start, stop, bounds, sigmas, ok, codes, clock, apart)

    @classmethod
    def concatenate(cls, parts: Sequence[FrameTimes]) -> FrameTimes:
        """The frames of all parts, in order; no parts give no frames.

        Parts stamped by different clocks have no clock in common: then clock is "" and sigma counts.
        """
        parts = [p for p in parts if len(p)] or list(parts[:1])
        if not parts:
            none = np.zeros(0, np.int64)
            return cls.of(none, none)
        start, stop, bound, sigma, valid, reason = (np.concatenate([getattr(p, f) for p in parts]) for f in _COLUMNS)
        one_clock = all(p.clock == parts[0].clock for p in parts)
        within: Float32 | None = None
        if one_clock and any(p.within is not None for p in parts):
            within = np.concatenate([p.sigma if p.within is None else p.within for p in parts])
        return cls(start, stop, bound, sigma, valid, reason, parts[0].clock if one_clock else "", within)

    def __len__(self) -> int:
        return int(self.start.size)

    def __getitem__(self, where: slice | Int64 | Mask) -> FrameTimes:
        """The selected frames (slice, index array or mask); views where numpy gives views."""
        within = None if self.within is None else self.within[where]
        start, stop, bound, sigma, valid, reason = (getattr(self, f)[where] for f in _COLUMNS)
        return FrameTimes(start, stop, bound, sigma, valid, reason, self.clock, within)

    def exposure(self, k: int) -> Exposure:
        """The k-th frame's exposure as Python numbers."""
        return Exposure(
            int(self.start[k]),
            int(self.stop[k]),
            int(self.bound[k]),
            float(self.sigma[k]),
            bool(self.valid[k]),
            Reason(int(self.reason[k])),
        )

    def or_by_arrival(self, rough: FrameTimes) -> FrameTimes:
        """Frames that no pulse settles keep the exposure that their arrival tells, less exact and just as true.

        An ambiguous one has whichever of both is the more exact. Their reason still says that no pulse settles them.
        """
        placed = (self.reason == Reason.AMBIGUOUS) & (self.start != 0)
        exact = placed & (~rough.valid | (self.bound <= rough.bound))
        unsettled = np.isin(self.reason, (Reason.AMBIGUOUS, Reason.NO_PULSE, Reason.NOT_MATCHED))
        instead = ~exact & unsettled & rough.valid
        if not (exact & ~self.valid | instead).any():
            return self

        def either(mine: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
            return np.where(instead, other, mine).astype(mine.dtype)

        within = None if self.within is None else either(self.within, rough.sigma)
        return replace(
            self, start=either(self.start, rough.start), stop=either(self.stop, rough.stop),
            bound=either(self.bound, rough.bound), sigma=either(self.sigma, rough.sigma), within=within,
            valid=self.valid | instead | exact,
        )  # fmt: skip

    @property
    def middle(self) -> Int64:
        """Mid-points, ns since the UNIX epoch (halved without overflow at 1.8e18)."""
        return self.start + (self.stop - self.start) // 2
