"""Frames without stamps: prompt ones tell by their arrival which exposures they are, late ones by their neighbours.

Deliveries are counted, and the count lags behind the exposures by what was dropped so far: the level.
A prompt frame shows its level, as no later exposure could have arrived by then and an earlier one would
have been a period late. Between prompt frames of one level nothing was dropped. Where the level differs
and late frames lie in between, nobody can tell which of them are missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hal.frames.frame import Float64, Int64, Mask

_ALIKE = 3  # prompt frames in a row that make a level believable


@dataclass(frozen=True, slots=True)
class Levels:
    """Per frame: its slot, whether it is sure, and the first and last slot it may be (-1: unknown)."""

    slot: Int64
    sure: Mask
    first: Int64
    last: Int64


def by_arrival(
    slots: Float64, limit: Float64, count: Int64, least: float, period: float, slack: float, steady: bool
) -> Levels:
    """Slots (ascending times, s) of frames whose exposure was at `limit` - latency, latency >= least (s).

    count numbers the frames (deliveries or exposures), ascending. Where latency scatters by more
    than about a tenth of the period, nothing is sure. steady: every exposure has a slot, so that late frames
    between prompt ones of one level are sure as well; of irregular pulses some may be missing or stray.
    """
    n, size = limit.size, slots.size
    newest = np.searchsorted(slots, limit - least + slack, side="right") - 1
    unknown = Levels(np.full(n, -1), np.zeros(n, np.bool_), np.full(n, -1), np.full(n, -1))
    if not n or size < 2:
        return unknown
    over = limit - least - slots[np.clip(newest, 0, None)]
    usual = float(np.median(over))
    reach = min(max(5 * usual, 4 * slack, 0.05 * period), 0.35 * period)
    prompt = (newest >= 0) & (over <= reach)
    # Behind the last slot there is no next one that would bound the frame's exposure from above.
    prompt &= newest < size - 1
    prompt |= (newest == size - 1) & (over <= 0.35 * period)
    # Else several in a row are a period late often enough; irregular pulses may follow within a third of it.
    if usual > (0.15 if steady else 0.1) * period or slack > 0.2 * period:
        return unknown
    level = newest - count
    # Enough prompt frames in a row at one level.
    same = np.concatenate([[False], (np.diff(level) == 0) & prompt[1:] & prompt[:-1]])
    run = np.cumsum(~same)
    long = np.bincount(run)[run] >= min(_ALIKE, n)
    at = np.flatnonzero(prompt & long)
    if not at.size:
        return unknown
    where = np.arange(n)
    before = np.clip(np.searchsorted(at, where, side="right") - 1, 0, None)
    after = np.clip(np.searchsorted(at, where, side="left"), None, at.size - 1)
    low, high = level[at[before]], level[at[after]]
    low = np.where(where < at[0], 0 - count[0], low)
    high = np.where(where > at[-1], size - 1 - count[-1], high)
    # Causality for the frame itself, and for those after it up to the next anchor.
    cap = np.minimum.accumulate(np.minimum(level, np.iinfo(np.int64).max)[::-1])[::-1]
    falling = high < low
    high = np.where(falling, high, np.minimum(high, np.maximum(cap, low)))
    sure = (low == high) & (level >= low)
    if not steady:
        alone = limit - least - slots[np.clip(newest - 1, 0, None)] > 2 * reach
        sure &= _anchored(level, newest, prompt, prompt & long, alone, over <= min(2 * reach, 0.5 * period))
    elif (np.diff(level[at]) < 0).any():
        # Some were delivered twice: where others were held up, that may stand for one that was dropped.
        sure &= prompt & long
    first, last = np.minimum(low, high) + count, np.maximum(low, high) + count
    slot = np.clip(high + count, 0, size - 1)
    sure &= (first >= 0) & (last < size)
    return Levels(slot, sure, np.clip(first, 0, size - 1), np.clip(last, 0, size - 1))


def _anchored(level: Int64, newest: Int64, prompt: Mask, good: Mask, alone: Mask, soon: Mask) -> Mask:
    """Frames of irregular triggers that are sure: pulses may be missing, and strays among them.

    Where the level changes, a frame that was late by as much as a stray or another's pulse came after its own would
    look prompt for that: it must not have been so late (alone), and the one before it not held up. A single one that
    was a little late (soon), between two sure ones of its level, has the only pulse that is between theirs.
    """
    n = level.size
    at, where = np.flatnonzero(good), np.arange(n)
    earlier = at[np.clip(np.searchsorted(at, where) - 1, 0, None)]
    goes_on = (level[earlier] == level) & (earlier < where)
    fresh = np.concatenate([[False], prompt[:-1] & (np.diff(newest) > 0)])
    anchor = good & (goes_on | (alone & fresh))
    between = np.zeros(n, np.bool_)
    between[1:-1] = soon[1:-1] & anchor[:-2] & anchor[2:] & (level[:-2] == level[1:-1]) & (level[2:] == level[1:-1])
    return np.asarray(anchor | between)
