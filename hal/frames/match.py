"""Which captured pulse belongs to which detector frame, and so when each frame was exposed.

Neither the k-th pulse is the k-th frame's (one loss shifts all), nor does arrival time tell (frames wait
in queues for seconds). What does is the detector's own numbering and stamps, and the pattern of the
pulses: docs/explanation/frames.md derives the ways taken here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hal.frames.arrivals import by_arrival
from hal.frames.comb import PAD, Train, trains
from hal.frames.elimination import by_elimination, refuse_overlaps
from hal.frames.frame import Codes, Float64, FrameTimes, Int64, Reason
from hal.frames.irregular import by_pattern
from hal.frames.kinship import by_kinship
from hal.frames.match_clock import MatchClock, carry_over, last_clock
from hal.frames.one_clock import checked, refuse_strangers
from hal.frames.pulses import RING, Pulses, debounce, usual_interval
from hal.frames.regular import chains_of
from hal.frames.series import Frames, falls, parts_of
from hal.frames.shifts import Combs, Rules, decide, reckon_swaps

__all__ = ["Frames", "MatchClock", "MatchSummary", "Matched", "Pulses", "match"]

_SLACK = 5e-5  # s, by which the smallest latency may be off


@dataclass(frozen=True, slots=True)
class MatchSummary:
    """What was found, for reports and health."""

    frames: int
    matched: int  # valid frames
    dropped: int  # exposures within the series that were not received
    doubled: int  # frames received more than once
    missing: int  # exposures of valid frames whose pulse was not captured; their time is interpolated
    unused: int  # pulses that belong to no received frame: of dropped ones, strays, ringing
    series: int
    epochs: int  # spans between restarts of the detector's clock (1: none)
    ambiguous: int
    offset: int  # ns, lab time less detector time at the last matched frame; 0 without stamps
    rate_ppm: float  # by how much a detector second is longer than a lab second; NaN if unknown
    residual: float  # ns, scatter of pulses about the detector's time (robust standard deviation)

    def __str__(self) -> str:
        return (
            f"{self.matched} of {self.frames} frames matched in {self.series} series; {self.dropped} dropped, "
            f"{self.doubled} doubled, {self.missing} without pulse, {self.ambiguous} ambiguous; "
            f"{self.unused} pulses unused; scatter {self.residual:.0f} ns"
        )


@dataclass(frozen=True, slots=True)
class Matched:
    """Exposures of n frames in order of reception.

    times    where valid is False, start, stop and bound of AMBIGUOUS frames still hold every exposure it
             may be, and those of DUPLICATE ones are their original's; of others they are placeholders
    pulse    int64 (n,), index of the frame's pulse as given, -1: none captured, or not known
    summary  counts for the report
    clock    to be handed to `match` with the next window; None without stamps or matches
    """

    times: FrameTimes
    pulse: Int64
    summary: MatchSummary
    clock: MatchClock | None


@dataclass(slots=True)
class _Sheet:
    """What is known of each frame so far."""

    start: Float64  # s, time of the pulse's edge
    edge: Int64  # index among the sorted edges
    extra: Float64  # s, added to the bound
    reason: Codes
    twin: Int64

    @classmethod
    def blank(cls, n: int) -> _Sheet:
        return cls(
            np.full(n, np.nan), np.full(n, -1), np.zeros(n), np.full(n, Reason.NOT_MATCHED, np.uint8), np.full(n, -1)
        )


@dataclass(slots=True)
class _Tally:
    series: int = 0
    epochs: int = 1
    dropped: int = 0
    residual: float = float("nan")


def match(frames: Frames, pulses: Pulses, *, clock: MatchClock | None = None) -> Matched:
    """Give each frame its pulse, and with it its exposure on lab time.

    Frames in order of reception, pulses in any. Every frame gets an answer: valid with its exposure, or
    invalid with the reason (AMBIGUOUS, NO_PULSE, NOT_MATCHED, DUPLICATE, BAD_TICK). A frame whose pulse
    was not captured is placed between its neighbours', with a wider bound and pulse -1.

    Live: match the newest window only, say the last 10 s, with the pulses from a little before its first
    exposure, and hand over the `clock` of the last result. It settles a window that begins within a
    train, where the ends of the series are not in sight. Give `per_series` only if whole series are in
    the window. A window is as good as the whole run except for its newest frames, which later ones
    may still correct.

    Cost is linear in frames and pulses. Never raises on odd data; arrays of unequal length were a
    ValueError when `frames` and `pulses` were made.
    """
    n = len(frames)
    good = np.arange(len(pulses)) if pulses.valid is None else np.flatnonzero(pulses.valid)
    sheet, tally = _Sheet.blank(n), _Tally()
    base = int(pulses.time[good].min()) if good.size else (int(frames.arrival[0]) if n else 0)
    ids = good[np.argsort(pulses.time[good], kind="stable")]
    edges: Float64 = np.asarray((pulses.time[ids] - base) * 1e-9 - pulses.latency, np.float64)
    exposure = np.broadcast_to(np.asarray(frames.exposure, np.float64), (n,))
    if n and ids.size:
        whole = exposure if pulses.edge == "start" else 0.0
        limit: Float64 = np.asarray((frames.arrival - base) * 1e-9 - whole, np.float64)
        host = float(np.median(np.broadcast_to(pulses.bound, len(pulses))[ids])) * 1e-9
        _place(frames, edges, pulses.resolution, limit, host, base, clock, sheet, tally)
    return _result(frames, pulses, ids, base, edges, exposure, sheet, tally)


def _place(
    frames: Frames, edges: Float64, resolution: float, limit: Float64, host: float, base: int, clock: MatchClock | None,
    sheet: _Sheet, tally: _Tally,
) -> None:  # fmt: skip
    period = usual_interval(edges, frames.period) if frames.period is None else frames.period
    t = edges[debounce(edges, min(RING, 0.22 * period))]
    n = limit.size
    regular = frames.regular and (frames.per_series is None or frames.per_series > 2)
    combs = trains(t, edges, usual_interval(t, period), resolution=resolution) if regular else []
    stamped = np.zeros(n, np.bool_)
    if frames.ticks is not None:
        stamped = np.ones(n, np.bool_) if frames.stamped is None else np.asarray(frames.stamped, np.bool_)
    if not stamped.any():
        if regular and frames.number is not None and frames.counts != "deliveries":
            _regular(frames, np.arange(n), None, stamped, combs, edges, limit, period, host, None, sheet, tally)
        else:
            _unstamped(frames, t, edges, combs, limit, period, host, sheet, tally)
        return
    assert frames.ticks is not None
    some = np.flatnonzero(stamped)
    d = (frames.ticks - frames.ticks[some[some.size // 2]]) / frames.frequency
    cuts = some[falls(d[some])]
    tally.epochs = cuts.size + 1
    epochs = np.split(np.arange(n), cuts)
    if regular:
        _regular(frames, np.arange(n), d, stamped, combs, edges, limit, period, host, cuts, sheet, tally, clock, base)
        return
    for rows in epochs:
        _irregular(frames, rows, d, stamped, limit, t, edges, period, sheet, tally)


def _regular(
    frames: Frames, rows: Int64, d: Float64 | None, stamped: np.typing.NDArray[np.bool_], combs: list[Train],
    edges: Float64, limit: Float64, period: float, host: float, cuts: Int64 | None, sheet: _Sheet, tally: _Tally,
    clock: MatchClock | None = None, base: int = 0,
) -> None:  # fmt: skip
    least = 0.0 if frames.min_latency is None else frames.min_latency
    resolution = max(frames.resolution, 1.0 / frames.frequency)
    found = Combs(combs)
    slack = _slack(frames, host)
    armed = -np.inf if frames.armed is None else (frames.armed - base) * 1e-9 - _SLACK - host
    since = 0.0 if frames.armed is None else min(armed, 0.0)  # the first pulse was at 0
    rules = Rules(combs[0].period if combs else period, frames.ppm, resolution, least, slack, armed, since)
    split = []
    for epoch in np.split(rows, [] if cuts is None else cuts):
        own = None if d is None else d[epoch]
        split.append(parts_of(frames, epoch, own, stamped[epoch], period, sheet.reason, sheet.twin))
    # One or two frames of a series that nothing else supports: a corrupted stamp or number, as likely as not.
    large = max((p.rows.size for parts in split for p in parts), default=0)
    kin = [chains_of([p for p in parts if p.rows.size > 2 or large <= 8], found, limit, rules) for parts in split]
    chains = [chain for own_chains in kin for chain in own_chains]
    if clock is not None and frames.ticks is not None and d is not None:
        at = int(np.flatnonzero(stamped)[np.flatnonzero(stamped).size // 2])
        zero = int(frames.ticks[at])
        for chain in chains:
            carry_over(chain, found, (clock.tick - zero) / frames.frequency, (clock.lab - base) * 1e-9, clock.rate)
    if frames.per_series is None:
        reckon_swaps(chains, found)
    decide(chains, frames.min_latency, slack, host)
    refuse_overlaps(chains, found)
    if by_elimination(chains, found, limit, rules):
        decide(chains, frames.min_latency, slack, host)
        refuse_overlaps(chains, found)
    if d is not None:
        for own_chains in kin:
            by_kinship(own_chains, found, d, rules)
            refuse_strangers(own_chains, found, rules)
    spreads = []
    for chain in chains:
        for place in chain.places:
            part = place.part
            if chain.lost or place.train < 0:
                sheet.reason[part.rows] = Reason.NOT_MATCHED if chain.lost else Reason.NO_PULSE
                continue
            train = combs[place.train]
            at_ = part.slot + place.shift
            inside = (at_ >= 0) & (at_ < train.time.size)
            row, slot = part.rows[inside], at_[inside]
            sheet.start[row], sheet.edge[row] = train.time[slot], train.pulse[slot]
            none = train.pulse[slot] < 0
            sheet.extra[row] = np.where(none, 5 * train.spread + 1e-7, 0.0)
            sheet.reason[row] = Reason.OK
            sheet.reason[part.rows[~inside]] = Reason.NO_PULSE
            if d is not None and (told := checked(slot, d[row], stamped[row], train, edges, rules)) is not None:
                better = told.edge >= 0
                sheet.start[row[better]], sheet.edge[row[better]] = edges[told.edge[better]], told.edge[better]
                sheet.extra[row] = np.where(better, 0.0, sheet.extra[row] + told.extra)
                sheet.reason[row[told.refused]] = Reason.NOT_MATCHED
                sheet.start[row[told.refused]] = np.nan
                row = row[~told.refused]
            if none.size and none.mean() > 0.7:
                sheet.reason[row] = Reason.NO_PULSE
            if chain.ambiguous:
                sheet.extra[row] += chain.ambiguous * train.period
                sheet.reason[row] = Reason.AMBIGUOUS
            tally.series += 1
            tally.dropped += part.extent[1] - part.rows.size
            spreads.append(train.spread)
    tally.residual = float(np.median(spreads)) * 1e9 if spreads else float("nan")


def _slack(frames: Frames, host: float) -> float:
    """By how much a frame may seem to arrive sooner than the smallest latency, s."""
    return _SLACK + host + (0.0 if frames.min_latency is None else 3 * frames.min_latency_sigma)


def _irregular(
    frames: Frames, rows: Int64, d: Float64, stamped: np.typing.NDArray[np.bool_], limit: Float64, t: Float64,
    edges: Float64, period: float, sheet: _Sheet, tally: _Tally,
) -> None:  # fmt: skip
    if t.size < 4:
        return
    for found in by_pattern(frames, rows, d[rows], stamped[rows], limit, t, edges, period, sheet.twin):
        sheet.start[found.rows], sheet.edge[found.rows] = found.start, found.pulse
        sheet.extra[found.rows], sheet.reason[found.rows] = found.extra, found.reason
        if found.offset is not None:
            tally.residual = found.offset.spread * 1e9
            tally.series += 1


def _unstamped(
    frames: Frames, t: Float64, edges: Float64, combs: list[Train], limit: Float64, period: float, host: float,
    sheet: _Sheet, tally: _Tally,
) -> None:  # fmt: skip
    """Nothing but deliveries (or numbers of irregular triggers) and arrivals."""
    slots, owner = t, np.searchsorted(edges, t)
    # An edge right behind another may be its ringing, or the pulse itself and the one before a stray.
    beside = edges[np.searchsorted(edges, t + min(RING, 0.22 * period), side="right") - 1] - t
    n = limit.size
    if combs:
        inner = [slice(PAD, c.time.size - PAD) for c in combs]
        slots = np.concatenate([c.time[i] for c, i in zip(combs, inner, strict=True)])
        owner = np.concatenate([c.pulse[i] for c, i in zip(combs, inner, strict=True)])
        beside = np.zeros(slots.size)
    elif frames.regular:
        return
    tally.series = max(len(combs), 1)
    count = _counted(frames)
    if frames.min_latency is None:
        sheet.reason[:] = Reason.AMBIGUOUS
        return
    got = by_arrival(slots, limit, count, frames.min_latency, period, _slack(frames, host), bool(combs))
    every = frames.per_series is not None and all(c.time.size - 2 * PAD == frames.per_series for c in combs)
    if every and combs and n == slots.size:
        # As many deliveries as exposures, series by series: nothing was dropped.
        slot, sure = np.arange(n), np.ones(n, np.bool_)
        first = last = slot
    else:
        slot, sure, first, last = got.slot, got.sure, got.first, got.last
    known = slot >= 0
    row = np.flatnonzero(known)
    sheet.start[row] = slots[slot[row]]
    sheet.edge[row] = np.where(sure[row], owner[slot[row]], -1)
    apart = np.maximum(slots[last[row]] - slots[slot[row]], slots[slot[row]] - slots[first[row]])
    spread = max((c.spread for c in combs), default=0.0)
    sheet.extra[row] = apart + np.where(owner[slot[row]] < 0, 5 * spread + 1e-7, beside[slot[row]])
    sheet.reason[:] = np.where(sure, Reason.OK, Reason.AMBIGUOUS)
    # The same exposure delivered twice.
    order = row[np.argsort(slot[row], kind="stable")]
    again = np.flatnonzero((np.diff(slot[order]) == 0) & sure[order[1:]] & sure[order[:-1]])
    sheet.reason[order[again + 1]] = Reason.DUPLICATE
    sheet.twin[order[again + 1]] = order[again]
    tally.residual = spread * 1e9


def _counted(frames: Frames) -> Int64:
    """Exposures by the detector's numbers, series after series; deliveries if it has none that ascend."""
    deliveries = np.arange(len(frames))
    if frames.number is None or frames.counts == "deliveries":
        return deliveries
    count = frames.number.copy()
    for i in falls(count).tolist():
        follows = count[i - 1] + 1
        if frames.per_series is not None and frames.counts == "series":
            follows = (count[i - 1] // frames.per_series + 1) * frames.per_series + frames.number[i] - frames.first
        count[i:] += follows - count[i]
    return deliveries if (np.diff(count) <= 0).any() else count - count[0]


def _result(
    frames: Frames, pulses: Pulses, ids: Int64, base: int, edges: Float64, exposure: Float64, sheet: _Sheet,
    tally: _Tally,
) -> Matched:  # fmt: skip
    n = len(frames)
    again = np.flatnonzero((sheet.reason == Reason.DUPLICATE) & (sheet.twin >= 0))
    for values in (sheet.start, sheet.edge, sheet.extra):
        values[again] = values[sheet.twin[again]]
    placed = np.isfinite(sheet.start)
    reason = np.where(~placed & (sheet.reason == Reason.OK), Reason.NO_PULSE, sheet.reason).astype(np.uint8)
    valid = reason == Reason.OK
    length = np.rint(exposure * 1e9).astype(np.int64)
    moment = np.rint(np.where(placed, sheet.start, 0.0) * 1e9).astype(np.int64) + base
    pulse = np.full(n, -1)
    bound, sigma = np.zeros(n, np.int64), np.zeros(n)
    latency_sigma = pulses.latency_sigma * 1e9
    step = pulses.resolution * 1e9
    within = np.hypot(latency_sigma, step / np.sqrt(12)) + np.zeros(n)
    if ids.size:
        near = np.clip(np.searchsorted(edges, np.where(placed, sheet.start, 0.0)), 0, ids.size - 1)
        near = np.where(sheet.edge >= 0, sheet.edge, near)
        pulse = np.where(sheet.edge >= 0, ids[near], -1)
        bounds = np.broadcast_to(np.asarray(pulses.bound, np.float64), (len(pulses),))
        sigmas = bounds / np.sqrt(3.0) if pulses.sigma is None else np.broadcast_to(pulses.sigma, (len(pulses),))
        extra = sheet.extra * 1e9
        bound = np.ceil(bounds[ids[near]] + step + 3 * latency_sigma + extra).astype(np.int64)
        within = np.hypot(within, extra / np.sqrt(3.0))
        sigma = np.hypot(sigmas[ids[near]], within)
    start = moment if pulses.edge == "start" else moment - length
    times = FrameTimes(
        start=np.where(placed, start, 0),
        stop=np.where(placed, start + length, 0),
        bound=bound,
        sigma=sigma.astype(np.float32),
        valid=valid,
        reason=reason,
        clock=pulses.clock,
        within=within.astype(np.float32),
    )
    hit = np.zeros(len(pulses), np.bool_)
    hit[pulse[valid & (pulse >= 0)]] = True
    used = int(hit.sum())
    last = last_clock(frames, moment, valid & (pulse >= 0))
    summary = MatchSummary(
        frames=n,
        matched=int(valid.sum()),
        dropped=tally.dropped,
        doubled=int((reason == Reason.DUPLICATE).sum()),
        missing=int((valid & (pulse < 0)).sum()),
        unused=len(pulses) - used,
        series=tally.series,
        epochs=tally.epochs,
        ambiguous=int((reason == Reason.AMBIGUOUS).sum()),
        offset=0 if last is None else last.lab - round(last.tick * 1e9 / frames.frequency),
        rate_ppm=float("nan") if last is None else (1.0 / last.rate - 1.0) * 1e6,
        residual=tally.residual,
    )
    return Matched(times, pulse, summary, last)
