"""Series of a regular train onto the combs of its pulses: which train each has, and what hangs together.

Series that one clock stamped are placed as a chain, by its rate; others one by one. Without stamps they are
counted. How far a chain may shift as a whole, and who decides, is in `shifts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hal.frames.comb import PAD, Train
from hal.frames.frame import Float64
from hal.frames.series import Part
from hal.frames.shifts import LATE, PROMPT, Chain, Combs, Place, Rules, allowed_shifts, hole, measure

_RATE = 7e-7  # how far a rate found in one series may be off some seconds later


def chains_of(parts: Sequence[Part], combs: Combs, limit: Float64, rules: Rules) -> list[Chain]:
    """Place the parts of one epoch of the detector's clock.

    limit is, per frame, the latest moment its pulse may have been (arrival, less the exposure), s.
    """
    out: list[Chain] = []
    known: list[tuple[float, float]] = []  # (detector time, pulse time) of what is placed for sure
    queue = sorted(_linkable(parts, rules), key=lambda g: -sum(p.rows.size for p in g))
    ranks = _ranks([g[0] for g in queue if not g[0].ends], combs, limit, rules)
    while queue:
        group = queue.pop(0)
        seed = max(range(len(group)), key=lambda g: group[g].rows.size)
        options = _options(group[seed], combs, limit, rules, known, ranks.get(id(group[seed])))
        chain = _best(group, seed, options, combs, limit, rules)
        if chain.lost and len(group) > 1:
            queue += [[part] for part in group]
            continue
        if not chain.lost:
            # What the clock did not lead to, a series without pulses or after a jump, is tried by itself.
            queue += _linkable([p.part for p in chain.places if p.train < 0], rules)
            chain.places = [p for p in chain.places if p.train >= 0]
        if not chain.lost:
            allowed_shifts(chain, combs, limit, rules)
            odd = [p for p in chain.places if _astray(p, combs)]
            if odd and len(chain.places) > 1:
                # The clock jumped between them.
                queue += [[p.part] for p in odd]
                chain.places = [p for p in chain.places if not any(p is q for q in odd)]
                if not chain.places:
                    continue
                measure(chain, combs, limit)
                allowed_shifts(chain, combs, limit, rules)
            while torn := _torn(chain, combs):
                queue.append([p.part for p in chain.places[torn:]])
                chain.places = chain.places[:torn]
                measure(chain, combs, limit)
                allowed_shifts(chain, combs, limit, rules)
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
    measure(chain, combs, limit)
    if not rules.least - rules.slack <= chain.floor <= LATE:
        return None
    allowed_shifts(chain, combs, limit, rules)
    return chain


def _best(
    group: list[Part], seed: int, options: list[tuple[int, int]], combs: Combs, limit: Float64, rules: Rules
) -> Chain:
    """The chain from whichever train of the seed has the pulses, and after which the frames were promptest."""
    low, high = max(0, seed - 6), min(len(group), seed + 7)
    tried: list[tuple[int, Chain, tuple[int, int]]] = []
    for train, shift in options[:60]:
        chain = Chain(_grow(group[low:high], seed - low, train, shift, combs, rules), rules.period)
        _not_before(chain, chain.places[seed - low], combs, limit, rules)
        total = sum(_inside(p, combs) for p in chain.places)
        if total >= 2:
            tried.append((total, chain, (train, shift)))
    tried = [t for t in tried if rules.least - rules.slack <= t[1].floor <= LATE]
    if not tried:
        return Chain([Place(p) for p in group], rules.period, lost=True)
    most = max(t[0] for t in tried)
    near = sorted((t for t in tried if t[0] >= 0.8 * most - 1), key=lambda t: t[1].floor)
    won = near[0][2]
    chain = Chain(_grow(group, seed, *won, combs, rules), rules.period)
    _not_before(chain, chain.places[seed], combs, limit, rules)
    chain.rival = near[1][1].floor - near[0][1].floor if len(near) > 1 else np.inf
    return chain


def _not_before(chain: Chain, seed: Place, combs: Combs, limit: Float64, rules: Rules) -> None:
    """The seed's pulses may leave several shifts, and the later ones be too late for other parts of the chain.

    If they leave no earlier one, it is those parts that don't belong to the chain.
    """
    measure(chain, combs, limit)
    early = rules.least - rules.slack - chain.floor
    if early <= 0 or chain.floor == -np.inf:
        return
    by = int(np.ceil(early / chain.period))
    inside = _inside(seed, combs)
    chain.move(-by)
    if _inside(seed, combs) >= inside:
        return
    chain.move(by)
    for place in chain.places:
        if place is not seed and place.train >= 0:
            alone = Chain([place], chain.period)
            measure(alone, combs, limit)
            if alone.floor < rules.least - rules.slack:
                place.train = -1
    measure(chain, combs, limit)


def _ranks(parts: Sequence[Part], combs: Combs, limit: Float64, rules: Rules) -> dict[int, int]:
    """Series without stamps: which train each is, by id, of those that are sure.

    Series are counted, and the count lags behind the trains by the series lost so far. Of the trains that a series
    could have followed in time none is later than its own, and what was lost stays lost: the lag at a series is the
    least of what it and the later ones allow. It is sure where a series was prompt, and between prompt ones of one lag.
    """
    usual = float(np.median([p.extent[1] for p in parts])) if parts else 0.0
    whole = [q for q, t in enumerate(combs.trains) if t.before[-1] >= 0.5 * usual]
    # A train that bridges a pause holds several series, and trains can't be counted.
    if len(parts) < 2 or not whole or max(combs.trains[q].before[-1] for q in whole) > 1.5 * usual:
        return {}
    order = sorted(parts, key=lambda p: p.ordinal)
    begins = np.array([combs.trains[q].time[PAD] for q in whole])
    rank = np.array([p.ordinal - order[0].ordinal for p in order])
    # When the series' first pulse was, plus the smallest latency of its frames.
    came = np.array([float((limit[p.rows] - rules.period * (p.slot - p.extent[0])).min()) for p in order])
    reach = np.array([(hole(p.extent[1]) + 1) * rules.period + rules.slack for p in order])
    last = np.searchsorted(begins, came - rules.least + reach, side="right") - 1
    lag = np.minimum.accumulate((last - rank)[::-1])[::-1]
    at = rank + lag
    possible = (at >= 0) & (at < begins.size)
    late = came - begins[np.clip(at, 0, begins.size - 1)] - rules.least
    if rules.least == 0 and possible.any():
        late -= late[possible].min()  # the smallest latency is not known
    prompt = possible & (late <= reach + PROMPT)
    known = np.flatnonzero(prompt)
    if not known.size:
        return {}
    where = np.arange(len(order))
    before = known[np.clip(np.searchsorted(known, where, side="right") - 1, 0, None)]
    after = known[np.clip(np.searchsorted(known, where), None, known.size - 1)]
    sure = possible & (lag[before] == lag) & (lag[after] == lag)
    return {id(p): whole[q] for p, q, ok in zip(order, at.tolist(), sure.tolist(), strict=True) if ok}


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
        top, possible = (_latest(t, part, mine - least + rules.slack) for least in (rules.least, 0.0))
        low = PAD // 2 - first - count
        if guess is not None:
            middle = float(np.interp(guess[0], t.time, np.arange(t.time.size))) - part.ends[0][0]
            wide = guess[1] / t.period + 1.5
            low, last = max(low, int(np.ceil(middle - wide))), int(np.floor(middle + wide))
            top, possible = min(top, last), min(possible, last)
        if top < low:
            continue
        shifts = np.arange(low, possible + 1)
        inside = t.put_out(shifts + first, count, hole(count))
        # A train that is complete only if the frames had arrived before their exposure is another one's.
        every = t.put_out(np.arange(PAD // 2 - first - count, t.time.size), count, hole(count))
        enough = max(1, 0.2 * count, int(every.max()) - max(3, 0.03 * count))
        best = int(inside[: top - low + 1].max())
        if best < enough <= int(inside.max()):
            return []  # only the declared latency forbids it: one of both is wrong
        shifts, inside = shifts[: top - low + 1], inside[: top - low + 1]
        if best >= enough:
            found.append((best, q, int(shifts[np.flatnonzero(inside == best)[-1]])))
    most = max((f[0] for f in found), default=0)
    return [(q, s) for inside, q, s in found if inside >= 0.8 * most - 1]


def _latest(train: Train, part: Part, seen: Float64) -> int:
    """The last shift with which no frame of the part was exposed later than `seen` says, s."""
    inner = seen <= train.time[-1]
    top = train.time.size - PAD // 2 - part.extent[0]
    if inner.any():
        top = min(top, int((np.searchsorted(train.time, seen[inner], side="right") - 1 - part.slot[inner]).min()))
    return top


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
    return int(combs.trains[place.train].put_out(np.array([first + place.shift]), count, hole(count))[0])


def _astray(place: Place, combs: Combs) -> bool:
    """The part would have clearly more pulses beside the place that its chain gives it."""
    first, count = place.part.extent
    near = np.arange(-PAD, PAD + 1) + first + place.shift
    inside = combs.trains[place.train].put_out(near, count, hole(count))
    return bool(inside.max() > inside[PAD] + 2)


def _torn(chain: Chain, combs: Combs) -> int:
    """The first of the places that would all together have clearly more pulses one or two slots beside; 0: none.

    Between it and the one before the clock (or that of the pulses) went another way than its course had told.
    """
    if len(chain.places) < 2:
        return 0
    near = np.arange(-2, 3)
    gain = np.zeros((len(chain.places), near.size), np.int64)
    for i, place in enumerate(chain.places):
        first, count = place.part.extent
        inside = combs.trains[place.train].put_out(near + first + place.shift, count, hole(count))
        gain[i] = inside - inside[2]
    tail = np.cumsum(gain[::-1], axis=0)[::-1].max(axis=1)
    head = np.cumsum(gain, axis=0).max(axis=1)
    both = np.maximum(tail[1:], head[:-1])
    return int(np.argmax(both)) + 1 if both.max() >= 2 else 0


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
            doubt = _doubt(near[1] - from_[0], base, rules)
            if doubt > 0.4 * rules.period:
                continue
            q, s, off = combs.nearest(at, part, near[0])
            if q < 0 or abs(off) > 0.1 * rules.period + doubt:
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
