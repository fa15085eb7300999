"""The regimes that clocks are tried in: what a laboratory meets, what it meets on bad days, and anything at all.

`trace(regime, seed)` is one run of a regime, `random_trace(seed)` one of parameters drawn from wide ranges. Every
number is an assumption about hardware: floors, queues and oscillators were not measured on a microscope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .clock_traces import Recipe, Trace, bursts, make, now_and_then, plain
from .physics import (
    Float64,
    Oscillator,
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
