"""Questions and answers between a host and a clock, as USB, FTDI, LAN and bad days make them, with truth kept apart.

`trace(regime, seed)` gives what an estimator may know (`Given`) and what it may not (`Truth`). Every number is
an assumption about hardware: floors, queues and oscillators were not measured on a microscope.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .physics import (
    Float64,
    Int64,
    Mask,
    Oscillator,
    Queue,
    Random,
    Way,
    bimodal,
    conditioned,
    episodes,
    exponential,
    gamma,
    on_and_off,
    pareto,
    polled,
    still,
    warming,
)

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


# ---------------------------------------------------------------------- parts of regimes


def crystal(rng: Random, *, temperature: Callable[[Float64], Float64] | None = None) -> Oscillator:
    """A board's crystal in a room whose air conditioning comes and goes."""
    slow = conditioned(rng.uniform(0.02e-6, 0.15e-6), rng.uniform(400, 1500), rng.uniform(0, 6))
    extra = temperature or still
    return Oscillator(rng.uniform(-30e-6, 30e-6), temperature=lambda t: slow(t) + extra(t))


def usb(rng: Random, *, queue: float = 1.0) -> tuple[Way, Way]:
    """Full-speed USB behind a high-speed hub: hundred microseconds each way, quick most of the time."""
    out = bimodal(exponential(30e-6 * queue), exponential(250e-6 * queue), 0.15)
    back = bimodal(exponential(60e-6 * queue), exponential(400e-6 * queue), 0.2)
    return Way(rng.uniform(70e-6, 150e-6), out), Way(rng.uniform(70e-6, 150e-6), back)


def _kind(recipe: Recipe, rng: Random) -> Recipe:
    """The ways in which a driver asks differ from lab to lab: by seed bursts, 1 Hz, 10 Hz."""
    asked = (
        bursts(recipe.duration, rng.uniform(1.0, 2.0), rng),
        plain(recipe.duration, 1.0, rng),
        plain(recipe.duration, 10.0, rng),
    )[int(rng.integers(3))]
    return replace(recipe, asked=asked)


# ---------------------------------------------------------------------- the regimes

Regime = Callable[[Random], Recipe]


def usb_quiet(rng: Random) -> Recipe:
    """USB on an idle computer, bursts of eight."""
    out, back = usb(rng)
    return Recipe(600.0, bursts(600.0, 1.5, rng), crystal(rng), out, back)


def usb_quiet_1hz(rng: Random) -> Recipe:
    """USB on an idle computer, one question a second."""
    return replace(usb_quiet(rng), asked=plain(600.0, 1.0, rng))


def usb_quiet_10hz(rng: Random) -> Recipe:
    """USB on an idle computer, ten questions a second."""
    return replace(usb_quiet(rng), asked=plain(300.0, 10.0, rng), duration=300.0)


def usb_bursty(rng: Random) -> Recipe:
    """USB with spells in which a camera takes the bus."""
    out, back = usb(rng)
    spans = on_and_off(600.0, 20.0, 8.0, rng)
    out = replace(out, queue=episodes(out.queue, gamma(1.5e-3, 1.5), spans))
    back = replace(back, queue=episodes(back.queue, gamma(4e-3, 2.0), spans))
    return Recipe(600.0, bursts(600.0, 1.5, rng), crystal(rng), out, back)


def usb_loaded(rng: Random) -> Recipe:
    """USB on a busy computer: heavy tails both ways."""
    out, back = usb(rng)
    out = replace(out, queue=pareto(rng.uniform(100e-6, 300e-6), 1.3))
    back = replace(back, queue=pareto(rng.uniform(200e-6, 900e-6), 1.2))
    return Recipe(600.0, bursts(600.0, 1.5, rng), crystal(rng), out, back)


def ftdi(rng: Random) -> Recipe:
    """An FT232 that keeps short answers for its latency timer of 16 ms."""
    wire = rng.uniform(0.3e-3, 1.2e-3)  # some ten characters at 115,200 to 921,600 baud, each way
    out = Way(wire + rng.uniform(80e-6, 200e-6), bimodal(exponential(60e-6), exponential(400e-6), 0.2))
    period = 16e-3 * (1 + rng.uniform(-50e-6, 50e-6))
    back = Way(wire + rng.uniform(80e-6, 200e-6), polled(period, rng.uniform(0, period), 80e-6))
    return Recipe(600.0, bursts(600.0, 1.5, rng), crystal(rng), out, back)


def lan(rng: Random) -> Recipe:
    """Ethernet through switches; what comes back queues behind images."""
    out = Way(rng.uniform(90e-6, 200e-6), exponential(20e-6))
    back = Way(rng.uniform(90e-6, 200e-6), bimodal(gamma(150e-6, 1.5), pareto(800e-6, 1.8), 0.3))
    return Recipe(900.0, plain(900.0, 2.0, rng), crystal(rng), out, back, frequency=1e6, ppm=100.0)


def warming_crystal(rng: Random) -> Recipe:
    """A board switched on with the trace: several ppm within minutes, and it wanders."""
    drift = warming(rng.choice([-1, 1]) * rng.uniform(3e-6, 8e-6), rng.uniform(200.0, 600.0))
    out, back = usb(rng)
    oscillator = replace(crystal(rng, temperature=drift), walk=1e-9)
    return _kind(Recipe(1200.0, np.zeros(0), oscillator, out, back), rng)


def roll_over(rng: Random) -> Recipe:
    """A 32-bit counter at 180 MHz: it wraps every 24 s."""
    out, back = usb(rng)
    return _kind(Recipe(600.0, np.zeros(0), crystal(rng), out, back, frequency=180e6, bits=32), rng)


def reboot(rng: Random) -> Recipe:
    """Two resets; the device tells its boots apart."""
    at = np.sort(rng.uniform(60.0, 560.0, 2))
    boots = [(float(t), float(rng.uniform(0.5, 4.0))) for t in at] if at[1] - at[0] > 30 else [(float(at[0]), 2.0)]
    return replace(usb_quiet(rng), boots=boots, frequency=180e6, bits=32)


def reboot_untold(rng: Random) -> Recipe:
    """Resets that nobody reports; the counter has 32 bits, so it might as well have wrapped."""
    return replace(reboot(rng), tells_boots=False)


def sparse(rng: Random) -> Recipe:
    """A question every 10 to 60 s, for two hours."""
    out, back = usb(rng)
    return Recipe(
        7200.0, now_and_then(7200.0, 10.0, 60.0, rng), crystal(rng), out, back, frequency=180e6, bits=32, lost=0.01
    )


def path_change(rng: Random) -> Recipe:
    """In the middle the device is plugged into another port: the smallest delays change both ways."""
    out, back = usb(rng)
    at = rng.uniform(200.0, 400.0)
    share = rng.uniform(0.3, 0.7)  # of the change, by direction
    change = rng.choice([-1, 1]) * rng.uniform(300e-6, 2000e-6)
    less = max(0.0, -change)  # the slower path comes first where delays shrink
    out = replace(out, floor=out.floor + share * less, changes=[(at, out.floor + share * less + share * change)])
    back = replace(
        back,
        floor=back.floor + (1 - share) * less,
        changes=[(at, back.floor + (1 - share) * less + (1 - share) * change)],
    )
    return _kind(Recipe(600.0, np.zeros(0), crystal(rng), out, back, silent=[(at - 1.0, at + 1.0)]), rng)


def corrupted(rng: Random) -> Recipe:
    """Bits flipped past the CRC and answers repeated."""
    return _kind(replace(usb_quiet(rng), flipped=0.004, swapped=0.004, frequency=180e6, bits=32), rng)


def one_way(rng: Random) -> Recipe:
    """A stream of blocks at 20 Hz, and a question every half minute."""
    out, back = usb(rng)
    return Recipe(
        1200.0, now_and_then(1200.0, 20.0, 40.0, rng), crystal(rng), out, back, one_way=20.0, block=gamma(0.3e-3, 1.5)
    )


def resonance(rng: Random) -> Recipe:
    """The questions' period is a whole number of USB frames of 1 ms, but for what two crystals differ.

    Answers wait for the frame's poll; with some host controllers questions do as well.
    """
    frame = 1e-3 * (1 + rng.uniform(-30e-6, 30e-6))
    out, back = usb(rng)
    if rng.random() < 0.5:
        out = replace(out, queue=polled(frame, rng.uniform(0, frame), 15e-6))
    back = replace(back, queue=polled(frame, rng.uniform(0, frame), 25e-6))
    rate = float(rng.choice([1.0, 2.0, 10.0]))
    asked = plain(600.0, rate, rng, dither=0.0) + rng.exponential(20e-6, plain(600.0, rate, rng).size)
    return Recipe(600.0, asked, crystal(rng), out, back, turnaround=gamma(8e-6, 8.0))


def suspended(rng: Random) -> Recipe:
    """The host slept ten minutes; its monotonic clock stood still, the device did not."""
    return replace(usb_quiet(rng), suspended=[(rng.uniform(150.0, 450.0), rng.uniform(300.0, 900.0))])


def rc_oscillator(rng: Random) -> Recipe:
    """A microcontroller on its internal RC oscillator: 2 % by datasheet, thousands of ppm in truth, restless."""
    out, back = usb(rng)
    slow = conditioned(rng.uniform(5e-6, 40e-6), rng.uniform(300.0, 900.0), rng.uniform(0, 6))
    oscillator = Oscillator(rng.uniform(-8e-3, 8e-3), walk=2e-8, white=3e-8, temperature=slow)
    return _kind(Recipe(600.0, np.zeros(0), oscillator, out, back, frequency=16e6, ppm=20_000.0, bits=32), rng)


def milliseconds(rng: Random) -> Recipe:
    """A device that counts milliseconds in 32 bits (Arduino's millis)."""
    out, back = usb(rng)
    return _kind(Recipe(600.0, np.zeros(0), crystal(rng), out, back, frequency=1e3, bits=32), rng)


def lopsided(rng: Random) -> Recipe:
    """Questions go out undisturbed; the answers wait behind a stream, and hardly any slips through."""
    out = Way(rng.uniform(70e-6, 150e-6), exponential(25e-6))
    back = Way(rng.uniform(70e-6, 150e-6), gamma(4e-3, 2.5))
    return _kind(Recipe(600.0, np.zeros(0), crystal(rng), out, back), rng)


def slow_serial(rng: Random) -> Recipe:
    """9,600 baud: ten milliseconds out, twice as long back, little jitter."""
    out = Way(rng.uniform(8e-3, 12e-3), bimodal(exponential(100e-6), exponential(1e-3), 0.1))
    back = Way(rng.uniform(16e-3, 25e-3), bimodal(exponential(200e-6), exponential(1e-3), 0.1))
    return Recipe(900.0, plain(900.0, 1.0, rng), crystal(rng), out, back, frequency=1e6, ppm=100.0)


def wifi(rng: Random) -> Recipe:
    """A tablet's radio: milliseconds, retries, sleep of the radio."""
    queue = bimodal(gamma(0.8e-3, 1.2), bimodal(pareto(5e-3, 1.5), polled(0.1024, 0.03, 1e-3), 0.2), 0.3)
    out, back = Way(rng.uniform(0.5e-3, 1e-3), queue), Way(rng.uniform(0.5e-3, 1e-3), queue)
    return Recipe(900.0, bursts(900.0, 2.0, rng), crystal(rng), out, back, lost=0.05)


def temperature_shock(rng: Random) -> Recipe:
    """Somebody opens the enclosure: the rate moves by a ppm or three within seconds."""
    at = rng.uniform(200.0, 400.0)
    shock = warming(rng.choice([-1, 1]) * rng.uniform(1e-6, 3e-6), rng.uniform(5.0, 20.0), since=at)
    out, back = usb(rng)
    return _kind(Recipe(600.0, np.zeros(0), crystal(rng, temperature=shock), out, back), rng)


def silences(rng: Random) -> Recipe:
    """Exchanges stop for minutes, samples come on: holdover."""
    spans = [(100.0, 190.0), (300.0, 500.0), (650.0, 660.0)]
    return _kind(replace(usb_quiet(rng), duration=900.0, silent=spans), rng)


def stalls(rng: Random) -> Recipe:
    """The host's process stops for up to half a second now and then; both ways wait."""
    out, back = usb(rng)
    spans = on_and_off(600.0, 10.0, 0.4, rng)
    out = replace(out, queue=episodes(out.queue, gamma(60e-3, 1.5), spans))
    back = replace(back, queue=episodes(back.queue, gamma(120e-3, 1.5), spans))
    return _kind(Recipe(600.0, np.zeros(0), crystal(rng), out, back), rng)


def hub_changes(rng: Random) -> Recipe:
    """A hub that settles on other delays time and again."""
    out, back = usb(rng)
    at = np.cumsum(rng.uniform(40.0, 120.0, 12))
    at = at[at < 590.0]
    out = replace(out, changes=[(float(t), float(rng.uniform(70e-6, 600e-6))) for t in at])
    back = replace(back, changes=[(float(t), float(rng.uniform(70e-6, 600e-6))) for t in at])
    return Recipe(600.0, bursts(600.0, 1.5, rng), crystal(rng), out, back)


def overnight(rng: Random) -> Recipe:
    """Eight hours at one question in five seconds, warming, then the air conditioning's night."""
    drift = warming(rng.choice([-1, 1]) * rng.uniform(2e-6, 5e-6), rng.uniform(600.0, 1800.0))
    out, back = usb(rng)
    return Recipe(28_800.0, plain(28_800.0, 0.2, rng), crystal(rng, temperature=drift), out, back, bits=32)


def short_run(rng: Random) -> Recipe:
    """Twelve seconds: hardly more than the beginning."""
    return _kind(replace(usb_quiet(rng), duration=12.0), rng)


NORMAL: dict[str, Regime] = {
    "usb quiet": usb_quiet,
    "usb quiet 1 Hz": usb_quiet_1hz,
    "usb quiet 10 Hz": usb_quiet_10hz,
    "usb bursty": usb_bursty,
    "usb loaded": usb_loaded,
    "ftdi 16 ms": ftdi,
    "lan": lan,
    "warming crystal": warming_crystal,
    "roll-over": roll_over,
    "reboot": reboot,
    "reboot untold": reboot_untold,
    "sparse": sparse,
    "path change": path_change,
    "corrupted": corrupted,
    "one-way": one_way,
    "resonance": resonance,
}
"""What a laboratory meets; the goals' geometric means are over these."""

NASTY: dict[str, Regime] = {
    "suspended host": suspended,
    "rc oscillator": rc_oscillator,
    "milliseconds": milliseconds,
    "lopsided": lopsided,
    "slow serial": slow_serial,
    "wifi": wifi,
    "temperature shock": temperature_shock,
    "silences": silences,
    "stalls": stalls,
    "hub changes": hub_changes,
    "overnight": overnight,
    "short run": short_run,
}
"""What it meets on bad days."""

REGIMES = NORMAL | NASTY


def trace(regime: str, seed: int) -> Trace:
    """One run of a regime; the same seed gives the same run."""
    rng = np.random.default_rng([list(REGIMES).index(regime), seed])
    return make(REGIMES[regime](rng), rng, regime, seed)


# ---------------------------------------------------------------------- anything at all


def drawn(rng: Random) -> Recipe:
    """Parameters from wide ranges: what nobody thought of."""

    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def way(floor: float) -> Way:
        size = floor * between(0.05, 10.0)
        queue = (
            exponential(size),
            pareto(size, rng.uniform(1.1, 3.0)),
            gamma(size, rng.uniform(0.7, 3.0)),
            bimodal(exponential(0.2 * size), gamma(5 * size, 2.0), rng.uniform(0.05, 0.5)),
        )[int(rng.integers(4))]
        return Way(floor, queue)

    rate = between(0.02, 20.0)
    duration = min(between(max(10.0, 12 / rate), 28_800.0), 12_000 / rate)
    ppm = between(5.0, 5000.0)
    quality = ppm / 50.0  # worse oscillators wander more
    oscillator = Oscillator(
        rng.uniform(-0.8, 0.8) * ppm * 1e-6,
        walk=between(1e-10, 1e-9) * quality,
        white=1e-9 * quality,
        temperature=conditioned(min(0.1 * ppm, 5.0) * 1e-6 * rng.random(), between(200.0, 4000.0)),
    )
    floor = between(20e-6, 20e-3)
    asked = (
        plain(duration, rate, rng, dither=rng.choice([0.0, 0.02, 0.5]))
        if rng.random() < 0.6
        else bursts(duration, max(8 / rate, 0.7), rng)
    )
    return Recipe(
        duration,
        asked,
        oscillator,
        way(floor),
        way(floor * between(0.5, 2.0)),
        frequency=float(rng.choice([1e6, 16e6, 150e6, 1e9])),
        ppm=ppm,
        bits=int(rng.choice([32, 64])),
        lost=float(rng.choice([0.0, 0.01, 0.1])),
        one_way=float(rng.choice([0.0, 0.0, 5.0])),
    )


def random_trace(seed: int) -> Trace:
    """A run with parameters drawn from wide ranges."""
    rng = np.random.default_rng([977, seed])
    return make(drawn(rng), rng, "drawn", seed)
