"""Which whole-number shift a series of a regular train has against its pulses: their count decides, then latency.

A series of N exposures has N pulses, and outside of it there are none, or at least not N in a row. So
the shift that has most pulses inside the series is the right one. Where several have equally many
(pulses that go on before and after, one missing at an end), the latency of the promptest frame decides
if it is known well enough against the period; if not, the frames are ambiguous, and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hal.frames.comb import HOLE, Train
from hal.frames.frame import Float64, Int64
from hal.frames.series import Part

LATE = 10.0  # s, no frame arrives later
PROMPT = 0.02  # s above the smallest latency that still count as prompt
_ALIKE = 2e-3  # s by which the promptest frames of series may differ; those of one that was held up tell nothing
RARE = 3e-5  # what happens to so few series is not reckoned with
_FEW = 2  # pulses by which the right shift may have fewer than another


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
    front     slots without a pulse, at each of the shifts, with which a series would begin, though pulses were captured
    missable  how many pulses in a row may have been missed, by what is seen of the train
    barred    the furthest shift with more pulses that only the declared smallest latency forbids;  gain: how many more
    swap      how likely a missed first pulse and a dropped last frame are
    unended   no series has a pulse at its last exposure, so that nothing shows where its pulses ended
    """

    places: list[Place]
    period: float
    shifts: Int64 = field(default_factory=lambda: np.zeros(1, np.int64))
    deficit: Int64 = field(default_factory=lambda: np.zeros(1, np.int64))
    floor: float = np.inf
    unsure: float = np.inf
    rival: float = np.inf
    when: float = 0.0
    front: Int64 = field(default_factory=lambda: np.zeros(1, np.int64))
    missable: int = _FEW
    barred: int = 0
    gain: int = 0
    swap: float = 0.0
    unended: bool = False
    ambiguous: int = 0  # whole periods by which the truth may differ
    lost: bool = False  # not even the series is sure

    @property
    def settled(self) -> bool:
        """The pulses alone leave one shift."""
        return bool((self.deficit == 0).sum() == 1) and self.rival == np.inf

    def settle(self, shift: int) -> None:
        """Shift is the only one left."""
        self.move(shift)
        self.shifts, self.deficit, self.front = np.zeros((3, 1), np.int64)
        self.ambiguous = min(self.ambiguous, self.barred)

    def move(self, shift: int) -> None:
        """Make shift the new 0."""
        for place in self.places:
            place.shift += shift
        self.shifts = self.shifts - shift
        self.barred = self.barred and max(self.barred - shift, 1)
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
    armed: float = -np.inf  # s, no frame was exposed before
    since: float = np.inf  # s, from then on at the latest pulses were captured


def hole(count: int) -> int:
    """How many pulses in a row may have been missed; more, in a series of `count`, are a pause."""
    return min(HOLE, count // 4)


def measure(chain: Chain, combs: Combs, limit: Float64) -> None:
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
    chain.floor, chain.unsure = np.inf, np.inf
    if every.size:
        few = min(5, every.size) - 1
        lowest = np.partition(every, few)[: few + 1]
        chain.floor, chain.unsure = float(lowest.min()), float(np.ptp(lowest)) if few else np.inf


def allowed_shifts(chain: Chain, combs: Combs, limit: Float64, rules: Rules) -> None:
    """Which whole-number shifts of the whole chain have as many pulses inside its series, or nearly."""
    least = rules.least - rules.slack
    most = max(combs.trains[p.train].time.size for p in chain.places)
    up = min(int(max((chain.floor + rules.slack) / chain.period, 0.0)) + 1, most)
    down = min(int(max(LATE - chain.floor, 0.0) / chain.period) + 1, most, _room(chain, combs, rules))
    shifts = np.arange(-down, up + 1)
    shifts = shifts[(chain.floor - shifts * chain.period >= -rules.slack) | (shifts == 0)]
    total = np.zeros(shifts.size, np.int64)
    missed = hole(max(p.part.extent[1] for p in chain.places))
    for place in sorted(chain.places, key=lambda p: -p.part.extent[1]):
        first, count = place.part.extent
        total += combs.trains[place.train].put_out(shifts + place.shift + first, count, missed)
        near = total >= total.max() - 4 - HOLE
        shifts, total = shifts[near], total[near]
    early = (chain.floor - shifts * chain.period < least) & (shifts != 0)
    more = early & (total > total[~early].max(initial=0))
    chain.barred = int(shifts[more].max(initial=0))
    chain.gain = int(total[more].max() - total[~early].max(initial=0)) if more.any() else 0
    if more.any() and not any(_goes_on(p, chain.barred, combs) for p in chain.places):
        chain.gain += _FEW  # there all its pulses are its own
    shifts, total = (shifts[~early], total[~early]) if not early.all() else np.zeros((2, 1), np.int64)
    chain.missable = max(_FEW, 1 + max(combs.trains[p.train].hole for p in chain.places))
    deficit = total.max() - total
    near = deficit <= chain.missable
    chain.shifts, chain.deficit = shifts[near], deficit[near]
    chain.front = np.max([_front(p, chain.shifts, combs, rules) for p in chain.places], axis=0)
    tied = chain.shifts[chain.deficit == 0]
    chain.move(int(tied[np.argmin(np.abs(tied))]))
    chain.unended = not any(_captured(p, sum(p.part.extent) - 1, 1, combs) for p in chain.places)


def _goes_on(place: Place, shift: int, combs: Combs) -> bool:
    """A pulse was captured just before the series or just after it, if it were shifted so."""
    first, count = place.part.extent
    return any(_captured(place, slot + shift, 1, combs) for slot in (first - 1, first + count))


def _room(chain: Chain, combs: Combs, rules: Rules) -> int:
    """By how many slots all series may be earlier: none was exposed before the detector was told to film."""
    if rules.armed == -np.inf:
        return int(np.iinfo(np.int32).max)
    first = min(combs.trains[p.train].at(p.part.extent[0] + p.shift) for p in chain.places)
    return int(max(first - rules.armed, 0.0) / chain.period)


def _front(place: Place, shifts: Int64, combs: Combs, rules: Rules) -> Int64:
    """Slots without pulse with which the series would begin at each shift, as far as pulses were being captured."""
    train, (first, count) = combs.trains[place.train], place.part.extent
    since = int(np.searchsorted(train.time, rules.since))
    begin = shifts + place.shift + first
    return np.minimum(train.empty(np.maximum(begin, since)), count)


def reckon_swaps(chains: Sequence[Chain], combs: Combs) -> None:
    """How likely it is that a series' first pulse was missed and its last frame dropped, by what was lost elsewhere.

    Where nobody knows how many exposures a series has, it then looks complete one slot later. If pulses go on behind
    its last frame, more were dropped in any case, or they are no frame's: then it takes no more than a missed pulse.
    """
    placed = [(c, p) for c in chains if not c.lost for p in c.places if p.train >= 0]
    slots = sum(p.part.extent[1] for _, p in placed)
    seen = sum(_captured(p, p.part.extent[0], p.part.extent[1], combs) for _, p in placed)
    missed, dropped = slots - seen, slots - sum(p.part.rows.size for _, p in placed)
    first = float(np.mean([p.part.slot[0] > 0 for _, p in placed if p.part.extent[0] == 0] or [0.0]))
    for chain in chains:
        chain.swap = (missed + 0.5) / (slots + 1) * max((dropped + 0.5) / (slots + 1), first)
    for chain, place in placed:
        if _captured(place, sum(place.part.extent), 1, combs):
            chain.swap = missed / slots


def _captured(place: Place, slot: int, count: int, combs: Combs) -> int:
    return int(combs.trains[place.train].captured(np.array([slot + place.shift]), count)[0])


def decide(chains: Sequence[Chain], least: float | None, slack: float, host: float) -> None:
    """Where pulses leave a choice, let the latency of the promptest frames decide, if it can.

    host is by how much the pulses' lab time itself may be off (s): it moves slowly, so that chains near
    each other in time share it.
    """
    settled = [c for c in chains if not c.lost and c.settled]
    # One pulse more may have been put out after a series whose first one was missed; more say that `least` is wrong,
    # and so does one if a frame is a whole period late without it.
    gain = sum(c.gain for c in chains if not c.lost)
    lowest = min((c.floor for c in settled), default=np.inf) if least is None else least
    # A detector that puts out pulses before its first exposure leaves a choice wherever the end is in sight.
    none_before = any(not c.unended for c in settled)
    settled = [c for c in settled if c.floor <= lowest + _ALIKE]
    for chain in chains:
        if chain.lost or chain.floor == np.inf:
            continue
        known, doubt = _reference(chain, settled, least, slack, host)
        tied = chain.shifts[chain.deficit == 0]
        # The promptest of the chain may itself have been a little late: as much as the next ones lie apart.
        late = min(5 * chain.unsure, PROMPT)
        high = late + doubt
        possible = (chain.front <= chain.missable) | (chain.shifts == 0)
        rivals = (chain.shifts < 0) & (chain.swap ** np.maximum(chain.deficit, 1) > RARE)
        if chain.unended and not none_before:
            rivals |= chain.shifts > 0
        if known is not None and late < PROMPT and doubt < PROMPT:
            over = chain.floor - chain.shifts * chain.period - known
            fits = (over >= -doubt) & (over <= high)
            alone = fits.sum() == 1 and late < 0.4 * chain.period and doubt + high < 0.95 * chain.period
            most = _FEW if chain.period > 4e-4 else 0
            if alone and chain.deficit[fits][0] <= most:
                chain.move(int(chain.shifts[fits][0]))
                tied, rivals = np.zeros(1, np.int64), np.zeros(chain.shifts.size, np.bool_)
            elif fits.any():
                possible = possible & fits
        if chain.rival < np.inf:
            prompt = known is not None and chain.floor - known <= min(0.35 * chain.rival, PROMPT) + doubt
            chain.lost = not prompt
        doubted = gain >= _FEW or (gain > 0 and least is not None and chain.period > least)
        chain.ambiguous = chain.barred if doubted else 0
        rivals &= possible
        if tied.size > 1 or rivals.any():
            chain.ambiguous = max(1, chain.ambiguous, int(np.abs(chain.shifts[possible]).max(initial=0)))


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
