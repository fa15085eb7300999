"""The detector's clock at the end of a window of frames, carried over to the next one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hal.frames.frame import Int64, Mask
from hal.frames.series import Frames
from hal.frames.shifts import Chain, Combs


@dataclass(frozen=True, slots=True)
class MatchClock:
    """The detector's clock at the last matched frame, to carry over to the next window: lab = f(ticks)."""

    tick: int
    lab: int  # ns, of the pulse's edge of the exposure
    rate: float  # lab seconds per detector second


def carry_over(chain: Chain, combs: Combs, tick: float, lab: float, rate: float) -> None:
    """The clock of the window before says which of the shifts that the pulses allow it is."""
    for place in chain.places:
        if place.train >= 0 and place.part.ends:
            train = combs.trains[place.train]
            slot, stamp = place.part.ends[0]
            now = float(np.interp(slot + place.shift, np.arange(train.time.size), train.time))
            off = (lab + rate * (stamp - tick) - now) / chain.period
            shift = round(off)
            if abs(off - shift) < 0.3 and shift in chain.shifts:
                chain.settle(shift)
                chain.rival = np.inf
            return


def last_clock(frames: Frames, moment: Int64, good: Mask) -> MatchClock | None:
    """Tick and lab time at the end of the last matched frames, and the rate between some of them."""
    if frames.ticks is None:
        return None
    at = np.flatnonzero(good if frames.stamped is None else good & frames.stamped)[-400:]
    if at.size < 2:
        return None
    offset = moment[at] - np.rint(frames.ticks[at] * (1e9 / frames.frequency)).astype(np.int64)
    usual = int(np.median(offset[-50:]))
    near = at[np.abs(offset - usual) < 1_000_000]  # corrupted stamps out
    if near.size < 2 or frames.ticks[near[-1]] == frames.ticks[near[0]]:
        return None
    c, t = frames.ticks[near].astype(np.float64) - float(frames.ticks[near[0]]), moment[near] - moment[near[0]]
    spread = float(((c - c.mean()) ** 2).sum())
    rate = float(((c - c.mean()) * (t - t.mean())).sum()) / spread * frames.frequency * 1e-9 if spread else 1.0
    rate = float(np.clip(rate, 1 - 1e-6 * frames.ppm, 1 + 1e-6 * frames.ppm))
    centre = c.mean()
    lab = int(moment[near[0]]) + round(float(t.mean()))
    return MatchClock(int(frames.ticks[near[0]]) + round(float(centre)), lab, rate)
