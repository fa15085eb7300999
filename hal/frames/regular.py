"""Series of a regular train onto the combs of its pulses: which whole-number shift is it?

A series of N exposures has N pulses, and outside of it there are none, or at least not N in a row. So
the shift that has most pulses inside the series is the right one. Where several have equally many
(pulses that go on before and after, one missing at an end), the latency of the promptest frame decides
if it is known well enough against the period; if not, the frames are ambiguous, and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hal.frames.comb import PAD, Train
from hal.frames.frame import Float64, Int64
from hal.frames.series import Part

LATE = 10.0  # s, no frame arrives later
_RATE = 7e-7  # how far a rate found in one series may be off some seconds later
_PROMPT = 0.02  # s above the smallest latency that still count as prompt


@dataclass(slots=True)
class Place:
    """Where a part is: slot k of the part is slot k + shift of the train. train -1: nowhere."""

    part: Part
    train: int = -1
    shift: int = 0


@dataclass(slots=True)
class Chain:
    """Parts whose places hang together, as one clock stamped them: they shift by the same whole number.

    shifts    what the pulses allow besides 0, and 0 itself; deficit: pulses fewer inside than the best
    floor     s, latency of the promptest frame at shift 0; sure: by how much it may be off
    rival     s by which the promptest frame would be later in the next best train, inf if there is none
    """

    places: list[Place]
    period: float
    shifts: Int64 = field(default_factory=lambda: np.zeros(1, np.int64))
    deficit: Int64 = field(default_factory=lambda: np.zeros(1, np.int64))
    floor: float = np.inf
    unsure: float = np.inf
    rival: float = np.inf
    when: float = 0.0
    ambiguous: int = 0  # whole periods by which the truth may differ
    lost: bool = False  # not even the series is sure

    @property
    def settled(self) -> bool:
        """The pulses alone leave one shift."""
        return bool((self.deficit == 0).sum() == 1) and self.rival == np.inf

    def move(self, shift: int) -> None:
        """Make shift the new 0."""
        for place in self.places:
            place.shift += shift
        self.shifts = self.shifts - shift
        self.floor -= shift * self.period


class Combs:
    """All trains of a run in order of time, for looking up."""

    def __init__(self, trains: Sequence[Train]) -> None:
        self.trains = list(trains)
        self.begin = np.array([t.time[0] for t in self.trains])
        self.end = np.array([t.time[-1] for t in self.trains])

    def between(self, low: float, high: float) -> list[int]:
        """Trains that have slots within [low, high]."""
        return list(range(int(np.searchsorted(self.end, low)), int(np.searchsorted(self.begin, high, side="right"))))

    def nearest(self, at: float, part: Part, slot: float) -> tuple[int, int, float]:
        """Train and shift that put the (fractional) slot nearest to time `at`, and what is left over, s."""
        best = (-1, 0, np.inf)
        most = -1
        last = int(np.searchsorted(self.begin, at, side="right"))
        for q in range(max(0, last - 2), min(last + 1, len(self.trains))):
            t = self.trains[q]
            if not t.time[0] - t.period <= at <= t.time[-1] + t.period:
                continue
            # The time of slot s + shift, for the shifts next to it.
            shift = round(float(np.interp(at, t.time, np.arange(t.time.size))) - slot)
            off = at - t.at(slot + shift)
            inside = int(t.captured(np.array([part.extent[0] + shift]), part.extent[1])[0])
            if inside > most:
                most, best = inside, (q, shift, off)
        return best


@dataclass(frozen=True, slots=True)
class Rules:
    """What is known of the train, the detector's clock and the way of the frames."""

    period: float  # s
    ppm: float
    resolution: float  # s, of the stamps
    least: float  # s, no frame arrives earlier after its exposure
    slack: float  # s, by which `least` and the pulses' lab time may be off


def chains_of(parts: Sequence[Part], combs: Combs, limit: Float64, rules: Rules) -> list[Chain]:
    """Place the parts of one epoch of the detector's clock.

    limit is, per frame, the latest moment its pulse may have been (arrival, less the exposure), s.
    """
    out: list[Chain] = []
    known: list[tuple[float, float]] = []  # (detector time, pulse time) of what is placed for sure
    queue = sorted(_linkable(parts, rules), key=lambda g: -sum(p.rows.size for p in g))
    ranks = _ranks([g[0] for g in queue if not g[0].ends], combs, limit, rules)
    again = len(queue)
    while queue:
        group = queue.pop(0)
        again -= 1
        seed = max(range(len(group)), key=lambda g: group[g].rows.size)
        options = _options(group[seed], combs, limit, rules, known, ranks.get(id(group[seed])))
        chain = _best(group, seed, options, combs, limit, rules)
        if not chain.lost and again >= 0:
            # What the clock did not lead to, a series without pulses or after a jump, is tried by itself.
            queue += [[p.part] for p in chain.places if p.train < 0]
            chain.places = [p for p in chain.places if p.train >= 0]
        if not chain.lost:
            _shifts(chain, combs, limit, rules)
            if chain.rival == np.inf:
                known += [point for p in chain.places if p.part.ends for point in _clock(p, combs)]
                known.sort()
        out.append(chain)
    return out


def place_on(part: Part, train: int, combs: Combs, limit: Float64, rules: Rules) -> Chain | None:
    """The part on that very train, None if it has not its pulses or had not been exposed by then."""
    options = _options(part, combs, limit, rules, [], train)
    if not options:
        return None
    chain = Chain([Place(part, *options[0])], rules.period)
    _measure(chain, combs, limit)
    if not rules.least - rules.slack <= chain.floor <= LATE:
        return None
    _shifts(chain, combs, limit, rules)
    return chain


def _best(
    group: list[Part], seed: int, options: list[tuple[int, int]], combs: Combs, limit: Float64, rules: Rules
) -> Chain:
    """The chain from whichever train of the seed has the pulses, and after which the frames were promptest."""
    low, high = max(0, seed - 6), min(len(group), seed + 7)
    tried: list[tuple[int, Chain, tuple[int, int]]] = []
    for train, shift in options[:60]:
        chain = Chain(_grow(group[low:high], seed - low, train, shift, combs, rules), rules.period)
        total = sum(_inside(p, combs) for p in chain.places)
        _measure(chain, combs, limit)
        if total >= 2:
            tried.append((total, chain, (train, shift)))
    tried = [t for t in tried if rules.least - rules.slack <= t[1].floor <= LATE]
    if not tried:
        return Chain([Place(p) for p in group], rules.period, lost=True)
    most = max(t[0] for t in tried)
    near = sorted((t for t in tried if t[0] >= 0.8 * most - 1), key=lambda t: t[1].floor)
    won = near[0][2]
    chain = Chain(_grow(group, seed, *won, combs, rules), rules.period)
    _measure(chain, combs, limit)
    chain.rival = near[1][1].floor - near[0][1].floor if len(near) > 1 else np.inf
    return chain


def _ranks(parts: Sequence[Part], combs: Combs, limit: Float64, rules: Rules) -> dict[int, int]:
    """Series without stamps: the n-th series is the n-th train from some first one on; which train each is, by id.

    Of the first trains that every series could have followed in time, the one with most pulses, and
    then the one after which the promptest frame was promptest.
    """
    if len(parts) < 2 or not combs.trains:
        return {}
    usual = float(np.median([p.extent[1] for p in parts]))
    whole = [q for q, t in enumerate(combs.trains) if t.before[-1] >= 0.5 * usual]
    order = sorted(parts, key=lambda p: p.ordinal)
    ends = np.array([combs.trains[q].time[-PAD - 1] for q in whole])
    begins = np.array([combs.trains[q].time[PAD] for q in whole])
    counts = np.array([combs.trains[q].before[-1] for q in whole])
    rank = np.array([p.ordinal - order[0].ordinal for p in order])
    first_frame = np.array([limit[p.rows[0]] - rules.period * (p.slot[0] - p.extent[0]) for p in order])
    last_frame = np.array([limit[p.rows[-1]] + rules.period * (p.extent[0] + p.extent[1] - p.slot[-1]) for p in order])
    wanted = np.array([p.extent[1] for p in order])
    best: tuple[float, float, int] | None = None
    for c in range(-int(rank[-1]), len(whole)):
        at = rank + c
        here = (at >= 0) & (at < len(whole))
        if not here.any():
            continue
        a = at[here]
        reach = 3 * rules.period + rules.slack
        if (first_frame[here] - begins[a] < rules.least - reach).any():
            continue
        if (last_frame[here] - ends[a] > LATE + reach).any():
            continue
        score = float(np.minimum(counts[a], wanted[here]).sum())
        floor = float((first_frame[here] - begins[a]).min())
        if best is None or (score >= 0.98 * best[0] and floor < best[1]) or score > 1.02 * best[0]:
            best = (score, floor, c)
    if best is None:
        return {}
    return {
        id(p): whole[r + best[2]] for p, r in zip(order, rank.tolist(), strict=True) if 0 <= r + best[2] < len(whole)
    }


def _linkable(parts: Sequence[Part], rules: Rules) -> list[list[Part]]:
    """Parts between which the clock can be trusted to less than half a period."""
    stamped = [p for p in parts if p.ends]
    out: list[list[Part]] = []
    for part in sorted(stamped, key=lambda p: p.ends[0][1]):
        if out:
            last = out[-1]
            gap = part.ends[0][1] - last[-1].ends[-1][1]
            base = max(part.ends[-1][1] - part.ends[0][1], last[-1].ends[-1][1] - last[0].ends[0][1])
            if _doubt(gap, base, rules) < 0.4 * rules.period:
                last.append(part)
                continue
        out.append([part])
    return out + [[p] for p in parts if not p.ends]


def _doubt(gap: float, base: float, rules: Rules) -> float:
    """By how much a clock known over `base` seconds may be off `gap` seconds later, s."""
    own = 0.5 * rules.resolution + 4e-9
    return own + 1e-7 + abs(gap) * min(1e-6 * rules.ppm, _RATE + 2 * own / max(base, 1e-9))


def _options(
    part: Part, combs: Combs, limit: Float64, rules: Rules, known: list[tuple[float, float]], train: int | None
) -> list[tuple[int, int]]:
    """Trains that may be the part's, each with its best shift, the latest first."""
    mine = limit[part.rows]
    first, count = part.extent
    span = count * rules.period
    found: list[tuple[int, int, int]] = []
    among = combs.between(float(mine.min()) - LATE - span, float(mine.max())) if train is None else [train]
    guess = _guess(part, known, rules)
    if guess is not None:
        among = [q for q in among if q in combs.between(guess[0] - guess[1] - span, guess[0] + guess[1] + span)]
    for q in reversed(among):
        t = combs.trains[q]
        seen = mine - rules.least + rules.slack
        inner = seen <= t.time[-1]
        top = t.time.size - PAD // 2 - first
        if inner.any():
            top = min(top, int((np.searchsorted(t.time, seen[inner], side="right") - 1 - part.slot[inner]).min()))
        low = PAD // 2 - first - count
        if guess is not None:
            middle = float(np.interp(guess[0], t.time, np.arange(t.time.size))) - part.ends[0][0]
            wide = guess[1] / t.period + 1.5
            low, top = max(low, int(np.ceil(middle - wide))), min(top, int(np.floor(middle + wide)))
        if top < low:
            continue
        shifts = np.arange(low, top + 1)
        inside = t.captured(shifts + first, count)
        best = int(inside.max())
        # A train that is complete only if the frames had arrived before their exposure is another one's.
        every = t.captured(np.arange(PAD // 2 - first - count, t.time.size), count)
        if best >= max(1, 0.2 * count) and best >= int(every.max()) - max(3, 0.03 * count):
            found.append((best, q, int(shifts[np.flatnonzero(inside == best)[-1]])))
    most = max((f[0] for f in found), default=0)
    return [(q, s) for inside, q, s in found if inside >= 0.8 * most - 1]


def _guess(part: Part, known: list[tuple[float, float]], rules: Rules) -> tuple[float, float] | None:
    """When the part's first frames had their pulse by the clock of what is placed already, and its doubt, s."""
    if not known or not part.ends:
        return None
    d = part.ends[0][1]
    near = min(known, key=lambda k: abs(k[0] - d))
    others = [k for k in known if 0 < abs(k[0] - near[0]) < 60]
    far = max(others, key=lambda k: abs(k[0] - near[0])) if others else near
    base = abs(far[0] - near[0])
    rate = (far[1] - near[1]) / (far[0] - near[0]) if base > 0 else 1.0
    rate = min(max(rate, 1 - 1.1e-6 * rules.ppm), 1 + 1.1e-6 * rules.ppm)
    return near[1] + rate * (d - near[0]), _doubt(d - near[0], base, rules)


def _inside(place: Place, combs: Combs) -> int:
    if place.train < 0:
        return 0
    first, count = place.part.extent
    return int(combs.trains[place.train].captured(np.array([first + place.shift]), count)[0])


def _grow(group: list[Part], seed: int, train: int, shift: int, combs: Combs, rules: Rules) -> list[Place]:
    """From the seed to its neighbours, one after the other, by the clock as known so far."""
    places = [Place(p) for p in group]
    places[seed] = Place(group[seed], train, shift)
    if len(group) == 1:
        return places
    for way in (range(seed + 1, len(group)), range(seed - 1, -1, -1)):
        known = _clock(places[seed], combs) if len(group) > 1 else []
        for g in way:
            part = group[g]
            near = part.ends[0] if way.step > 0 else part.ends[-1]
            from_ = known[-1] if way.step > 0 else known[0]
            base = known[-1][0] - known[0][0]
            rate = (known[-1][1] - known[0][1]) / base if base > 0 else 1.0
            rate = min(max(rate, 1 - 1.1e-6 * rules.ppm), 1 + 1.1e-6 * rules.ppm)
            at = from_[1] + rate * (near[1] - from_[0])
            q, s, off = combs.nearest(at, part, near[0])
            if q < 0 or abs(off) > 0.1 * rules.period + _doubt(near[1] - from_[0], base, rules):
                continue
            places[g] = Place(part, q, s)
            points = _clock(places[g], combs)
            # The newest minute tells the rate; more of it would be another temperature.
            known = sorted([*known, *points])
            known = [k for k in known if abs(k[0] - near[1]) < max(10.0, 3 * (points[-1][0] - points[0][0]))]
    return places


def _clock(place: Place, combs: Combs) -> list[tuple[float, float]]:
    """(detector time, pulse time) at the ends of a placed part."""
    t = combs.trains[place.train]
    return [(d, t.at(slot + place.shift)) for slot, d in place.part.ends]


def _measure(chain: Chain, combs: Combs, limit: Float64) -> None:
    """The latency of the promptest frame."""
    late = []
    for place in chain.places:
        if place.train >= 0:
            t = combs.trains[place.train]
            at = place.part.slot + place.shift
            inside = (at >= 0) & (at < t.time.size)
            late.append(limit[place.part.rows[inside]] - t.time[at[inside]])
            chain.when = float(t.time[min(max(int(at[0]), 0), t.time.size - 1)])
    every = np.concatenate(late) if late else np.zeros(0)
    if every.size:
        few = min(5, every.size) - 1
        lowest = np.partition(every, few)[: few + 1]
        chain.floor, chain.unsure = float(lowest.min()), float(np.ptp(lowest)) if few else np.inf


def _shifts(chain: Chain, combs: Combs, limit: Float64, rules: Rules) -> None:
    """Which whole-number shifts of the whole chain have as many pulses inside its series, or nearly."""
    floor = rules.least - rules.slack
    most = max(combs.trains[p.train].time.size for p in chain.places)
    up = min(int(max((chain.floor - floor) / chain.period, 0.0)) + 1, most)
    down = min(int(max(LATE - chain.floor, 0.0) / chain.period) + 1, most)
    shifts = np.arange(-down, up + 1)
    shifts = shifts[(chain.floor - shifts * chain.period >= floor) | (shifts == 0)]
    total = np.zeros(shifts.size, np.int64)
    for place in sorted(chain.places, key=lambda p: p.part.extent[1]):
        first, count = place.part.extent
        total += combs.trains[place.train].captured(shifts + place.shift + first, count)
        near = total >= total.max() - 4
        shifts, total = shifts[near], total[near]
    deficit = total.max() - total
    near = deficit <= 2
    chain.shifts, chain.deficit = shifts[near], deficit[near]
    tied = chain.shifts[chain.deficit == 0]
    chain.move(int(tied[np.argmin(np.abs(tied))]))


def decide(chains: Sequence[Chain], least: float | None, slack: float, host: float) -> None:
    """Where pulses leave a choice, let the latency of the promptest frames decide, if it can.

    host is by how much the pulses' lab time itself may be off (s): it moves slowly, so that chains near
    each other in time share it.
    """
    settled = [c for c in chains if not c.lost and c.settled]
    for chain in chains:
        if chain.lost or chain.floor == np.inf:
            continue
        known, doubt = _reference(chain, settled, least, slack, host)
        tied = chain.shifts[chain.deficit == 0]
        # The promptest of the chain may itself have been a little late: as much as the next ones lie apart.
        high = min(5 * chain.unsure, 0.4 * chain.period, _PROMPT) + doubt
        if known is not None and doubt + high < 0.95 * chain.period and doubt < _PROMPT:
            over = chain.floor - chain.shifts * chain.period - known
            fits = np.flatnonzero((over >= -doubt) & (over <= high))
            if fits.size == 1 and (chain.deficit[fits[0]] == 0 or chain.period > 4e-4):
                chain.move(int(chain.shifts[fits[0]]))
                tied = np.zeros(1, np.int64)
        if chain.rival < np.inf:
            prompt = known is not None and chain.floor - known <= min(0.35 * chain.rival, _PROMPT) + doubt
            chain.lost = not prompt
        chain.ambiguous = int(np.abs(tied).max()) if tied.size > 1 else 0


def _reference(
    chain: Chain, settled: Sequence[Chain], least: float | None, slack: float, host: float
) -> tuple[float | None, float]:
    """What the promptest frame's latency is elsewhere, and how sure that is for this chain."""
    best: tuple[float | None, float] = (None, np.inf)
    if least is not None:
        best = (least, slack)
    for other in settled:
        if other is not chain:
            doubt = other.unsure + min(2 * host, 1e-6 + 5e-6 * abs(other.when - chain.when))
            if doubt < best[1] and (best[0] is None or doubt < 0.5 * best[1]):
                best = (other.floor, doubt)
    return best
