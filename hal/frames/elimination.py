"""What series know of each other: they follow one another, and the trains left over belong to those left over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from hal.frames.comb import PAD
from hal.frames.frame import Float64
from hal.frames.regular import place_on
from hal.frames.series import Part
from hal.frames.shifts import Chain, Combs, Rules

_ALIKE = 0.02  # shares of captured pulses that don't differ
_FEW = 0.1  # of another series' frames, and nobody believes them


def refuse_overlaps(chains: Sequence[Chain], combs: Combs) -> None:
    """Series are exposed one after the other, in the order of reception: one of two that contradict is lost.

    It is the one with hardly any frames (a corrupted stamp), or else the one with fewer of its pulses: its own were
    not captured, or its train is broken, and it got its neighbour's instead. If both have as many, neither is
    believed: the earlier one may have been held up until the later one was received.
    """
    spans = []
    for chain in chains:
        for place in chain.places:
            if not chain.lost and place.train >= 0:
                train, (first, count) = combs.trains[place.train], place.part.extent
                begin = train.at(first + place.shift)
                share = int(train.captured(np.array([first + place.shift]), count)[0]) / count
                size = place.part.rows.size
                spans.append(
                    (int(place.part.rows.min()), begin, begin + (count - 1) * train.period, share, size, chain)
                )
    spans.sort(key=lambda span: span[0])
    kept: list[tuple[float, float, int, Chain]] = []  # (end, share, frames, chain) of those that agree so far
    for _, begin, end, share, size, chain in spans:
        slack = 2.5 * chain.period
        while kept and not chain.lost and kept[-1][0] > begin + slack and kept[-1][3] is not chain:
            _, theirs, many, other = kept[-1]
            if not _FEW < size / many < 1 / _FEW:
                ahead = float(size - many)
            else:
                ahead = share - theirs if abs(share - theirs) > _ALIKE else 0.0
            chain.lost = ahead <= 0
            if ahead >= 0:
                other.lost = True
                kept.pop()
        if not chain.lost:
            kept.append((end, share, size, chain))


def by_elimination(chains: Sequence[Chain], combs: Combs, limit: Float64, rules: Rules) -> bool:
    """Place lost series between placed ones, if exactly as many trains are free there; whether any was.

    Series are received in the order in which they were exposed, and each has a train of its own. If more
    trains are free than series are lost, whole series may have been dropped: then nothing is done.
    """
    parts = sorted(((p.part, c) for c in chains for p in c.places), key=lambda pair: int(pair[0].rows[0]))
    if not any(c.lost for c in chains) or not combs.trains:
        return False
    usual = float(np.median([p.extent[1] for p, _ in parts]))
    taken = {p.train for c in chains if not c.lost for p in c.places if p.train >= 0}
    free = [q for q, t in enumerate(combs.trains) if q not in taken and t.before[-1] >= 0.5 * usual]
    any_ = False
    at = 0
    while at < len(parts):
        stretch: list[tuple[Part, Chain]] = []
        while at + len(stretch) < len(parts) and parts[at + len(stretch)][1].lost:
            stretch.append(parts[at + len(stretch)])
        if stretch:
            left = _train(parts[at - 1]) if at else -1
            right = _train(parts[at + len(stretch)]) if at + len(stretch) < len(parts) else len(combs.trains)
            last = float(limit[stretch[-1][0].rows].max())
            here = [q for q in free if left < q < right and combs.begin[q] + PAD * rules.period <= last]
            if len(here) == len(stretch) and all(len(c.places) == 1 for _, c in stretch):
                placed = [place_on(p, q, combs, limit, rules) for (p, _), q in zip(stretch, here, strict=True)]
                if all(chain is not None for chain in placed):
                    for (_, old), new in zip(stretch, placed, strict=True):
                        assert new is not None
                        for name in (f.name for f in fields(Chain)):
                            setattr(old, name, getattr(new, name))
                    any_ = True
        at += len(stretch) + 1
    return any_


def _train(pair: tuple[Part, Chain]) -> int:
    """The train of a placed part, -1 if it has none."""
    part, chain = pair
    return next((p.train for p in chain.places if p.part is part), -1)
