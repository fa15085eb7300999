"""Questions and answers between a host and a clock, as USB, FTDI, LAN and bad days make them, with truth kept apart.

`make(recipe, rng)` gives what an estimator may know (`Given`) and what it may not (`Truth`). The recipes are in
`clock_regimes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .physics import Float64, Int64, Mask, Oscillator, Queue, Random, Way, exponential, gamma

BEGIN = 1_767_225_600_000_000_000
"""Lab time at which every trace begins, ns since the UNIX epoch."""
MOMENTS, AT_ONCE = 120, 12
"""Queries come in blocks, as samples do: so many blocks, of so many ticks."""


@dataclass(frozen=True)
class Given:
    """What an estimator may know. Ticks are raw: wrapped to `bits`, perhaps corrupted. Stamps are int64 ns."""

    frequency: float
    """Hz, nominal."""
    ppm: float
    """The datasheet's limit on the rate error."""
    bits: int
    boot: Int64
    """Per exchange; constant where the device does not tell its boots apart."""
    sent: Int64
    ticks_received: Int64
    ticks_sent: Int64
    received: Int64
    one_way_ticks: Int64
    """Ticks of stream blocks, ..."""
    one_way_arrivals: Int64
    """... and when they came, in order."""
    query_ticks: Int64
    """Ticks whose lab time is asked; in blocks of one arrival each, ..."""
    query_arrivals: Int64
    """... which is when they came, in order. An online estimator may use nothing that came later."""


@dataclass(frozen=True)
class Truth:
    """What no estimator may see."""

    lab: Int64
    """ns: the true lab time of each query."""
    epoch: Int64
    """Per query."""
    ticks: Int64
    """Per query: ticks since the epoch's beginning, never wrapped."""
    floor_out: Float64
    """Per query: the smallest delay (s) of a question at that time: the way's own and the trace's shortest wait; ..."""
    floor_back: Float64
    """... and of an answer. What these two differ by, no estimator can see."""
    exchange_epoch: Int64
    exchange_received: Int64
    """Per exchange: its ticks unwrapped (corruption left in)."""
    exchange_sent: Int64
    one_way_epoch: Int64
    one_way_ticks: Int64
    corrupted: Mask
    """Per exchange."""


@dataclass(frozen=True)
class Trace:
    """One simulated run."""

    regime: str
    seed: int
    given: Given
    truth: Truth


@dataclass(frozen=True)
class Recipe:
    """How a trace is made; durations in s."""

    duration: float
    asked: Float64
    """Times at which the host means to ask."""
    oscillator: Oscillator
    out: Way
    back: Way
    frequency: float = 150e6
    ppm: float = 50.0
    bits: int = 64
    turnaround: Queue = field(default_factory=lambda: gamma(20e-6, 4.0))
    boots: Sequence[tuple[float, float]] = ()
    """(time, dead time) of reboots."""
    tells_boots: bool = True
    suspended: Sequence[tuple[float, float]] = ()
    """(time, s): the host slept; its monotonic clock stood still while the device ran on."""
    silent: Sequence[tuple[float, float]] = ()
    """(begin, end) of spans without exchanges."""
    lost: float = 0.003
    """Share of the answers that never come."""
    flipped: float = 0.0
    """Share of the answers with one bit flipped past the CRC."""
    swapped: float = 0.0
    """Share of the answers that are the previous one's, repeated."""
    one_way: float = 0.0
    """Stream blocks per second, used as one-way stamps."""
    block: Queue = field(default_factory=lambda: exponential(1e-3))
    """How long a block lies in the device beyond the smallest delay."""


# ---------------------------------------------------------------------- when to ask


def bursts(duration: float, every: float, rng: Random, *, probes: int = 8, apart: float = 0.064) -> Float64:
    """Bursts of probes, dithered by up to a quarter of their distance."""
    begin = np.arange(0.05, duration, every) + rng.uniform(0.0, 0.1 * every, np.arange(0.05, duration, every).size)
    t = begin[:, None] + apart * np.arange(probes) + rng.uniform(0.0, 0.25 * apart, (begin.size, probes))
    return np.asarray(t[t < duration].ravel())


def plain(duration: float, rate: float, rng: Random, *, dither: float = 0.02) -> Float64:
    """A timer that fires `rate` times a second, late by a random share of its period."""
    t = np.arange(0.1, duration, 1.0 / rate)
    return t + rng.uniform(0.0, dither / rate, t.size)


def now_and_then(duration: float, shortest: float, longest: float, rng: Random) -> Float64:
    """Pauses drawn between the shortest and the longest; two probes at the very beginning."""
    pauses = rng.uniform(shortest, longest, int(duration / shortest) + 2)
    t = np.concatenate([[0.1, 0.6], 0.6 + np.cumsum(pauses)])
    return t[t < duration]


# ---------------------------------------------------------------------- making a trace


def make(recipe: Recipe, rng: Random, regime: str = "", seed: int = 0) -> Trace:
    """Let the world run."""
    r = recipe
    tell = _Counter(r, rng)
    sent, at_device, answered, received = _exchanged(r, rng)
    epoch = tell.epoch(at_device)
    whole = (epoch == tell.epoch(answered)) & tell.alive(at_device) & tell.alive(answered) & tell.awake(sent, received)
    sent, at_device, answered, received, epoch = (v[whole] for v in (sent, at_device, answered, received, epoch))
    ticks_received, ticks_sent = tell.ticks(at_device), tell.ticks(answered)
    corrupted = _corrupt(r, ticks_received, ticks_sent, epoch, rng)

    streamed = np.arange(0.3, r.duration, 1 / r.one_way) if r.one_way else np.zeros(0)
    came = streamed + r.back.delays(streamed, rng) + r.block(streamed, rng)
    came = np.maximum.accumulate(came) if came.size else came
    keep = tell.alive(streamed) & tell.awake(streamed, came)
    streamed, came = streamed[keep], came[keep]
    wait_out = np.min(at_device - sent - r.out.floors(sent), initial=np.inf)
    wait_back = np.min(received - answered - r.back.floors(answered), initial=np.inf)
    wait_back = np.min(came - streamed - r.back.floors(streamed), initial=wait_back)

    asked, arrived = _queries(r, tell, received, epoch, rng)
    mask = np.int64(-1) if r.bits >= 63 else np.int64((1 << r.bits) - 1)
    given = Given(
        frequency=r.frequency,
        ppm=r.ppm,
        bits=r.bits,
        boot=epoch.astype(np.int64) * r.tells_boots,
        sent=BEGIN + np.floor(sent * 1e9).astype(np.int64),
        ticks_received=ticks_received & mask,
        ticks_sent=ticks_sent & mask,
        received=BEGIN + np.ceil(received * 1e9).astype(np.int64),
        one_way_ticks=tell.ticks(streamed) & mask,
        one_way_arrivals=BEGIN + np.ceil(came * 1e9).astype(np.int64),
        query_ticks=tell.ticks(asked) & mask,
        query_arrivals=BEGIN + np.ceil(arrived * 1e9).astype(np.int64),
    )
    truth = Truth(
        lab=BEGIN + np.rint(asked * 1e9).astype(np.int64),
        epoch=tell.epoch(asked),
        ticks=tell.ticks(asked),
        floor_out=r.out.floors(asked) + wait_out,
        floor_back=r.back.floors(asked) + wait_back,
        exchange_epoch=epoch,
        exchange_received=ticks_received,
        exchange_sent=ticks_sent,
        one_way_epoch=tell.epoch(streamed),
        one_way_ticks=tell.ticks(streamed),
        corrupted=corrupted,
    )
    return Trace(regime, seed, given, truth)


class _Counter:
    """The device's counter over true time, through reboots and the host's sleep."""

    def __init__(self, recipe: Recipe, rng: Random) -> None:
        r = recipe
        self.frequency, self.error = r.frequency, r.oscillator.error(r.duration + 60.0, rng)
        self.boots, self.sleeps = r.boots, r.suspended
        self._edges = np.sort([t + dead for t, dead in r.boots] + [t for t, _ in r.suspended])
        # A counter that never wraps within the trace still starts anywhere: it ran before we came.
        first = int(rng.integers(0, min(1 << r.bits, 1 << 50)))
        starts, slept = [first], 0.0
        for edge in self._edges:
            sleep = next((s for t, s in r.suspended if t == edge), None)
            if sleep is None:  # reset: zero plus the boot loader's time
                starts.append(int(rng.uniform(0.05, 0.3) * r.frequency) - self._count(edge))
                slept = 0.0
            else:
                slept = sleep
                starts.append(starts[-1] + int(slept * r.frequency))
        self._starts = np.array(starts, np.int64)

    def _count(self, t: float) -> int:
        return int(np.floor(self.frequency * (t + self.error(np.array([t]))[0])))

    def epoch(self, t: Float64) -> Int64:
        """The number of the epoch."""
        return np.searchsorted(self._edges, t, side="right").astype(np.int64)

    def ticks(self, t: Float64) -> Int64:
        """The counter at t, as if it had 64 bits."""
        return np.floor(self.frequency * (t + self.error(t))).astype(np.int64) + self._starts[self.epoch(t)]

    def alive(self, t: Float64) -> Mask:
        """Not dead in a reboot."""
        on = np.ones(t.size, bool)
        for begin, dead in self.boots:
            on &= (t < begin) | (t >= begin + dead)
        return on

    def awake(self, begin: Float64, end: Float64) -> Mask:
        """The host did not fall asleep between, nor the device die."""
        on = np.ones(begin.size, bool)
        for t, _ in (*self.sleeps, *self.boots):
            on &= (end < t) | (begin >= t)
        return on


def _exchanged(r: Recipe, rng: Random) -> tuple[Float64, Float64, Float64, Float64]:
    """Sent, received by the device, answered, received; the host asks nothing while it waits for an answer."""
    sent = r.asked
    for begin, end in r.silent:
        sent = sent[(sent < begin) | (sent >= end)]
    at_device = sent + r.out.delays(sent, rng)
    answered = at_device + r.turnaround(at_device, rng)
    received = answered + r.back.delays(answered, rng)
    keep, free = np.zeros(sent.size, bool), -1.0
    came = rng.random(sent.size) >= r.lost
    for i, (a, b) in enumerate(zip(sent.tolist(), received.tolist(), strict=True)):
        if a >= free:
            keep[i], free = True, b
    keep &= came
    return sent[keep], at_device[keep], answered[keep], received[keep]


def _corrupt(r: Recipe, first: Int64, second: Int64, epoch: Int64, rng: Random) -> Mask:
    """Change ticks in place; which exchanges were hit."""
    n = first.size
    flips = rng.random(n) < r.flipped
    for i in np.flatnonzero(flips):
        ticks = first if rng.random() < 0.5 else second
        ticks[i] ^= np.int64(1) << np.int64(rng.integers(0, min(r.bits, 40)))
    swaps = (rng.random(n) < r.swapped) & (np.arange(n) > 0)
    for i in np.flatnonzero(swaps):
        if epoch[i] == epoch[i - 1]:
            first[i], second[i] = first[i - 1], second[i - 1]
    return np.asarray(flips | swaps)


def _queries(r: Recipe, tell: _Counter, received: Float64, epoch: Int64, rng: Random) -> tuple[Float64, Float64]:
    """Blocks of samples: true times and arrivals; each after the third and before the last exchange of its epoch."""
    moments = np.sort(rng.uniform(0.0, r.duration, MOMENTS))
    span = min(0.5, 0.2 * r.duration / MOMENTS)
    t = moments[:, None] - np.sort(rng.uniform(0.0, span, (MOMENTS, AT_ONCE)), axis=1)[:, ::-1]
    arrived = moments + r.back.delays(moments, rng) + r.block(moments, rng)
    arrived = np.repeat(np.maximum.accumulate(arrived), AT_ONCE)
    t = t.ravel()
    number = tell.epoch(t)
    keep = np.zeros(t.size, bool)
    for e in np.unique(epoch):
        of_it = received[epoch == e]
        if of_it.size > 4:
            keep |= (number == e) & (t > of_it[2]) & (arrived < of_it[-1])
    keep &= tell.alive(t) & tell.awake(t, arrived)
    # A block is asked as a whole or not at all.
    keep = np.repeat(keep.reshape(MOMENTS, AT_ONCE).all(axis=1), AT_ONCE)
    return t[keep], arrived[keep]
