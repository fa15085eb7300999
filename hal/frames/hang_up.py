"""Which pulse is a series' first frame's, told while it still goes on: by the clock, its start or its pattern."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hal.frames.comb import first_within
from hal.frames.follow import Follower, Promptness
from hal.frames.frame import Float64, Int64
from hal.frames.live_pulses import LivePulses
from hal.frames.vote import nearest, vote

FEW = 8
_BEFORE, _AFTER = 6, 6  # slots before a train's first pulse that are empty, and after it that are mostly not
_SILENCE = 16.5  # periods without a pulse that end a train, whatever its phase
_PROMPT = 0.02  # s above the smallest latency that still count as prompt
_PAIRS = 60_000  # differences looked at in one vote


@dataclass(frozen=True, slots=True)
class Opening:
    """The first frames of a series as far as received (n of them, none twice), and which pulses may be theirs.

    index  exposure number in the series;  d: stamps, s, ascending;  limit: latest lab time of the pulse, ns
    low    the first pulse that may be the series', an index; high: the first that can't
    whole  no pulse of the series can be missing at its beginning, as far as one can know
    floor  smallest latency of earlier series' frames beyond `limit`, s; None: not known
    least  whether the smallest latency is known and within `limit`;  slack: s, by which it may be off
    begun  lab time before which no pulse can be of its exposures, ns
    """

    index: Int64
    d: Float64
    limit: Int64
    low: int
    high: int
    whole: bool
    floor: float | None
    least: bool
    slack: float
    begun: int


def beat(index: Int64, d: Float64) -> tuple[float, bool]:
    """Usual time between exposures by the stamps, s, and whether they keep to it; 0: not known."""
    ahead = np.diff(index)
    steps = np.diff(d)[ahead > 0] / ahead[ahead > 0]
    if not steps.size:
        return 0.0, False
    usual = float(np.median(steps))
    steady = usual > 0 and float(np.mean(np.abs(steps - usual) < 0.1 * usual)) > 0.8
    return max(usual, 0.0), steady


def hang_up(
    series: Opening, pulses: LivePulses, before: Follower | None, resolution: float, ppm: float
) -> tuple[Follower | None, str]:
    """A follower from here on, or None and why there is none (yet)."""
    interval, steady = beat(series.index, series.d)
    if interval <= 4 * resolution:
        return None, "its stamps are too coarse, or none of its frames follow one another"
    if before is not None and series.d[0] >= before.last:
        before.interval, before.steady = interval, steady
        if _keeps_on(series, pulses, before):
            return before, ""
    if series.high <= series.low:
        return None, "no pulse came that could be its"
    fresh = Follower(interval, steady, resolution, ppm)
    offset, why = (_at_start if steady else _by_pattern)(series, pulses, fresh)
    fresh.by_start = steady
    found: Follower | None = None
    if offset is not None:
        found, why = _checked(series, pulses, fresh, offset)
    if found is None and steady and series.least:
        for offset in _by_promptness(series, pulses, interval):
            found, _ = _checked(series, pulses, Follower(interval, True, resolution, ppm), offset)
            if found is not None:
                return found, ""
    return found, why


def _keeps_on(series: Opening, pulses: LivePulses, before: Follower) -> bool:
    """The detector's clock went on since the last series: where it says that pulses are, there are."""
    if not before.trusts(series.d).all():
        return False
    return float(np.mean(first_within(pulses.t, before(series.d), before.reach(series.d)) >= 0)) >= 0.6


def _at_start(series: Opening, pulses: LivePulses, fresh: Follower) -> tuple[float | None, str]:
    """The train's first pulse is the first exposure's. Nothing else tells while pulses go on behind the last frame."""
    if not series.whole:
        return None, "the beginning of its pulses was missed"
    period, index = fresh.interval, series.index
    zero = float(np.median(series.d - period * index))
    first_limit = int((series.limit - np.rint(1e9 * period * index).astype(np.int64)).min())
    high = int(np.searchsorted(pulses.time, first_limit + round(series.slack * 1e9) + int(pulses.bound[series.low])))
    begins = _begins(pulses.t, series.low, min(high, series.high), period)
    if not begins:
        return None, "no train of pulses begins where it could"
    start = begins[-1]
    if len(begins) > 1:
        # The last one, if the first frame was as prompt as others were.
        late = (first_limit - int(pulses.time[start])) * 1e-9 - (series.floor or 0.0)
        apart = float(pulses.t[start] - pulses.t[begins[-2]])
        if series.floor is None or late > min(_PROMPT, 0.3 * apart):
            return None, "more than one train of pulses could be its"
    if pulses.lost[start]:
        return None, "pulses were lost just before its first one"
    fresh.room = int(max(int(pulses.time[start]) + int(pulses.bound[start]) - series.begun, 0) * 1e-9 / period)
    return float(pulses.t[start]) - zero, ""


def _begins(t: Float64, low: int, high: int, period: float) -> list[int]:
    """Pulses in [low, high) with which a train begins: others follow on their comb, and none precedes them there."""
    t = t[low:]
    some = np.arange(min(high - low, t.size))
    if not some.size:
        return []
    gap = np.diff(t[some], prepend=t[0] - 100 * period) / period
    odd = (gap > _SILENCE) | ((gap > 0.5) & (np.abs(gap - np.rint(gap)) > 0.1))
    out = []
    for i in np.flatnonzero(odd).tolist():
        ahead = t[i] + period * np.arange(1, _AFTER + 1)
        ahead = ahead[ahead < t[-1] + 0.2 * period]
        behind = t[i] - period * np.arange(1, _BEFORE + 1)
        near = 0.1 * period
        follow = int(np.sum(first_within(t, ahead, np.full(ahead.size, near)) >= 0))
        precede = int(np.sum(first_within(t[:i], behind, np.full(behind.size, near)) >= 0)) if i else 0
        if follow >= max(2, 0.6 * ahead.size) and not precede:
            out.append(low + i)
    return out


def _by_promptness(series: Opening, pulses: LivePulses, period: float) -> list[float]:
    """Offsets that make the promptest frame as prompt as one can be, if that leaves no other period."""
    allowed = pulses.on_clock(series.limit) - series.d
    lowest = np.sort(allowed)[:5]
    doubt = series.slack + 1e-9 * float(pulses.bound[-1])
    late = 5 * float(np.ptp(lowest)) if lowest.size == 5 else np.inf
    if late + 2 * doubt > 0.5 * period:
        return []
    zero = float(np.median(series.d - period * series.index))
    latest = float(lowest[0]) + doubt
    # Any of the newest pulses tells the phase, unless it is a stray.
    some = latest - (latest - (pulses.t[series.low : series.high][-3:] - zero)) % period
    return [offset for offset in some.tolist() if latest - offset <= late + 2 * doubt]


def _by_pattern(series: Opening, pulses: LivePulses, fresh: Follower) -> tuple[float | None, str]:
    """Irregular intervals are a pattern, found again among the pulses by a vote on the offset."""
    if series.d.size < FEW:
        return None, "too few frames for a pattern"
    t = pulses.t[series.low : series.high]
    latest = float((pulses.on_clock(series.limit) - series.d).min()) + series.slack + 1e-9 * float(pulses.bound[-1])
    last = int(np.searchsorted(t, latest + series.d[-1], side="right"))
    first = max(0, last - _PAIRS // series.d.size)
    if last - first < FEW:
        return None, "no pulse came that could be its"
    width = max(1.2 * fresh.resolution + 1e-7, fresh.interval / 20)
    lowest = max(float(t[first] - series.d[-1]), latest - _PAIRS * width)
    rate = (last - first) / float(t[last - 1] - t[first])
    offset, most, second = vote(t[first:last], series.d, lowest, latest, width)
    n = series.d.size
    chance = n * min(rate * 2 * width, 1.0)
    if most < max(6, 0.6 * n, chance + 6 * np.sqrt(chance + 1)) or second > 0.75 * most:
        return None, "its pattern is not found among the pulses"
    return offset, ""


def _checked(series: Opening, pulses: LivePulses, fresh: Follower, offset: float) -> tuple[Follower | None, str]:
    """With that offset most frames must have a pulse, none may come before its exposure, and not all long after."""
    at = series.d + offset
    known = at < pulses.newest + 0.25 * fresh.interval
    close = nearest(pulses.t, at)
    off = close - at
    middle = float(np.median(off[known])) if known.any() else 0.0
    fits = known & (np.abs(off - middle) < 0.15 * fresh.interval)
    if fits.sum() < 3 or fits.sum() < 0.75 * series.d.size or abs(middle) > 0.25 * fresh.interval:
        return None, "too many of its frames would have no pulse"
    fresh.learn(series.d[fits], close[fits])
    if fresh.scatter > 0.04 * fresh.interval:
        return None, "its stamps and the pulses don't keep step"
    edge = np.searchsorted(pulses.t, close[fits])
    prompt = Promptness(series.least, series.slack)
    prompt.learn(np.asarray((series.limit[fits] - pulses.time[edge]) * 1e-9))
    why = prompt.contradicts(1e-9 * float(pulses.bound[edge].max()))
    return (None, why) if why else (fresh, "")
