"""Ticks of some clock brought onto lab time, each with how well it is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LabTimes:
    """Lab time of n ticks, arrays of shape (n,).

    time    int64 ns since the UNIX epoch; 0, a placeholder, where valid is False
    bound   int64 ns, the hard bound: the truth is within time +- bound as long as the clock keeps its datasheet's
            rate and no exchange was corrupted
    tight   int64 ns, the bound we believe in: it also takes a crystal's rate to change slowly; never above bound
    sigma   ns, standard uncertainty; common to neighbouring ticks, so it does not average out
    epoch   the span between two resets of the clock, -1 where the tick belongs to none
    """

    time: Int64
    bound: Int64
    tight: Int64
    sigma: Float64
    valid: Mask
    epoch: NDArray[np.int32]
