"""One signal's readings on the way to the frames, and its values once there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hal.frames.frame import Codes, Float32, Float64, Int64, Mask

Kind = Literal["linear", "step"]


@dataclass(frozen=True, slots=True)
class Channel:
    """The readings of one signal: arrays of shape (m,), in any order.

    time        int64 ns since the UNIX epoch, the middle of the interval in which the value was
                measured. `max_age` and half the aperture are already taken off it.
    value       float; NaN counts as bad quality.
    time_bound  ns, half-width of that interval: array or scalar.
    sigma       standard uncertainty of one reading's noise, unit of value: array or scalar. 0: not stated;
                in linear channels it is then what the readings before show.
    sigma_common  standard uncertainty that all readings share (calibration); never averaged down.
    kind        "linear" between readings, or "step": a value holds until the next reading.
    polled      step channels only: the value was looked up, so that a change happened somewhere
                between two readings. False: readings are written when the value changes.
    aperture_s  seconds the instrument averages within the interval.
    delay_s     seconds by which the value lags the sample, with standard uncertainty delay_sigma_s:
                scalars, or per reading where the delay depends on something else (`hal.frames.transit`).
                A reading whose delay is NaN counts as bad.
    max_gap_s   readings further apart than this leave the frames between them without a value.
    good        mask, True for readings of good quality; None: all.
    max_age_s   seconds that the instrument's answers may be old: this much of the interval that 2 time_bound
                span; the rest is the wait for the answer. 0: the interval is all alike.
    clock       id of the clock that stamped the readings ("" for none). Where it is the frames' own,
                the error of mapping it to lab time is common to both and cancels.

    Arrays of another length than time are a ValueError.
    """

    time: Int64
    value: Float64
    time_bound: Int64 | int = 0
    sigma: Float64 | float = 0.0
    kind: Kind = "linear"
    aperture_s: float = 0.0
    delay_s: Float64 | float = 0.0
    delay_sigma_s: Float64 | float = 0.0
    max_gap_s: float = 5.0
    good: Mask | None = None
    sigma_common: float = 0.0
    polled: bool = False
    clock: str = ""
    max_age_s: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "step"):
            raise ValueError(f"channel: kind {self.kind!r} is not known; use 'linear' or 'step'")
        if np.asarray(self.time).dtype != np.int64:
            raise ValueError("channel: time must be int64 ns since the UNIX epoch; floats can't hold it")
        shape = self.time.shape
        for name in ("value", "time_bound", "sigma", "good", "delay_s", "delay_sigma_s"):
            got = np.shape(getattr(self, name))
            if len(shape) != 1 or (getattr(self, name) is not None and got not in ((), shape)):
                raise ValueError(f"channel: {name} has the shape {got}, time {shape}; pass equal lengths or a scalar")


@dataclass(frozen=True, slots=True)
class Aligned:
    """One channel on n frames, arrays of shape (n,).

    value is NaN where valid is False. sigma (same unit, NaN there too, and throughout where no
    uncertainties were asked for): value +- sigma holds the truth in 68 % of cases and +- 2 sigma in
    95 % or more, which for normally distributed errors is the standard uncertainty. reason holds
    `Reason` codes. Channels may share valid and reason; these are read-only then.
    """

    value: Float64
    sigma: Float32
    valid: Mask
    reason: Codes

    def __len__(self) -> int:
        return int(self.value.size)

    def __getitem__(self, where: slice | Int64 | Mask) -> Aligned:
        """The selected frames."""
        return Aligned(self.value[where], self.sigma[where], self.valid[where], self.reason[where])
