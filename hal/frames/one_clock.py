"""What one clock stamped hangs together: frames and series whose stamps contradict their pulses are found out.

Pulse time less stamp is the offset of the detector's clock, which changes by its ppm and no faster. A frame with
another's pulse, or one placed where the train keeps another beat than it did, stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hal.frames.comb import Train
from hal.frames.frame import Float64, Int64, Mask
from hal.frames.shifts import Chain, Combs, Rules

_NEAR = 9  # frames whose median tells the offset
_OWN = 1e-6  # s, by which stamps scatter about pulses anyway
_MOST = 0.03  # periods, and at most
_STRAY = 0.3  # periods: a stamp further beside says nothing of the pulse
_LONE = 5  # stamps in a row that may be corrupted
_WEAK = 20  # frames: fewer may find the pulses of any other series that is as short
_ASKED = 30  # parts on either side that are asked


@dataclass(frozen=True, slots=True)
class Checked:
    """Of a part's frames: which contradict, a better edge (-1: none), by how much the others may be off (s)."""

    refused: Mask
    edge: Int64
    extra: Float64


def checked(slot: Int64, d: Float64, stamped: Mask, train: Train, edges: Float64, rules: Rules) -> Checked | None:
    """Hold the stamps d (s) of frames placed at these slots against the pulses there; None: they agree throughout."""
    off, has = train.time[slot] - d, train.pulse[slot] >= 0
    told = np.flatnonzero(stamped & has)
    scatter = 8 * float(np.median(np.abs(np.diff(off[told])))) if told.size > 2 else 0.0
    own = 2 * rules.resolution + min(max(scatter, _OWN), _MOST * train.period)
    rate = 1e-6 * rules.ppm
    if (np.abs(np.diff(off[stamped])) <= own + rate * np.abs(np.diff(d[stamped]))).all():
        return None
    everything = Checked(np.ones(slot.size, np.bool_), np.full(slot.size, -1), np.zeros(slot.size))
    if told.size < 3:
        return everything
    width = min(_NEAR, told.size - (1 - told.size % 2))
    at = np.clip(np.arange(told.size) - width // 2, 0, told.size - width)
    usual = np.median(off[told][at[:, None] + np.arange(width)], axis=1)
    # Where the offset runs away faster than any clock, the train and the detector keep different beats.
    beat = train.time[slot[told]]
    broken = np.zeros(slot.size, np.bool_)
    far = np.flatnonzero(np.abs(usual[width:] - usual[:-width]) > own + rate * (beat[width:] - beat[:-width]))
    for k in far.tolist():
        broken[told[k] : told[k + width] + 1] = True
    expected = np.interp(slot, slot[told], usual)
    beside = np.abs(off - expected)
    beyond = rate * train.period * np.maximum(np.maximum(slot[told[0]] - slot, slot - slot[told[-1]]), 0)
    reach = own + beyond + np.where(has, 0.0, 6 * train.spread)
    odd = stamped & (beside > reach)
    if (broken | odd).mean() > 0.5:
        return everything
    wild = odd & (beside > _STRAY * train.period)
    # The stamp points at another edge of its slot: the one taken was a stray.
    edge = np.full(slot.size, -1)
    j = np.searchsorted(edges, d + expected - reach)
    near = (j < edges.size) & (edges[np.minimum(j, edges.size - 1)] <= d + expected + reach)
    edge[odd & ~wild & near] = j[odd & ~wild & near]
    # A corrupted stamp between good ones changes nothing; many in a row, or at an end, are no accident.
    good = np.flatnonzero(stamped & ~wild & ~broken)
    run = np.cumsum(~wild)
    inside = np.zeros(slot.size, np.bool_)
    if good.size:
        inside[good[0] : good[-1] + 1] = True
    refused = broken | (wild & (~inside | (np.bincount(run)[run] - 1 > _LONE)))
    return Checked(refused, edge, np.where(odd & ~wild & (edge < 0), beside, 0.0))


def refuse_strangers(chains: Sequence[Chain], combs: Combs, rules: Rules) -> None:
    """Of one epoch: parts of a few frames whose offset is not that of the others near them are lost."""
    parts = [(chain, p) for chain in chains if not chain.lost for p in chain.places if p.train >= 0 and p.part.ends]
    middle = [p.part.ends[len(p.part.ends) // 2] for _, p in parts]
    order = sorted(range(len(parts)), key=lambda n: middle[n][1])
    parts, middle = [parts[n] for n in order], [middle[n] for n in order]
    d = np.array([stamp for _, stamp in middle])
    size = np.array([p.part.rows.size for _, p in parts])
    offset = np.array([
        combs.trains[p.train].at(slot + p.shift) - stamp for (_, p), (slot, stamp) in zip(parts, middle, strict=True)
    ])  # fmt: skip
    if (size >= _WEAK).all():
        return
    backing = np.zeros(len(parts), np.int64)
    agree: list[Mask] = []
    first = np.clip(np.arange(len(parts)) - _ASKED, 0, None)
    for n in range(len(parts)):
        near = slice(int(first[n]), n + _ASKED + 1)
        slack = 2 * rules.slack + rules.resolution + 1e-6 * rules.ppm * np.abs(d[near] - d[n])
        agree.append(np.abs(offset[near] - offset[n]) <= slack)
        backing[n] = int(size[near][agree[n]].sum())
    for n in range(len(parts)):
        near = slice(int(first[n]), n + _ASKED + 1)
        against = backing[near][~agree[n]]
        if backing[n] < _WEAK and against.size and int(against.max()) >= backing[n]:
            parts[n][0].lost = True
