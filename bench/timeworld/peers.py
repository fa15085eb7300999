"""How others map a device's clock onto the host's: written anew after the published source, or the package itself.

Device time here is in seconds of the device's own nominal rate. Peers are told what ours must find out: where the
counter rolled over and where a new epoch began (each epoch has a peer of its own).

Online ways take exchanges one by one and map by what they know so far; offline ways see a whole epoch.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol

import numpy as np

from .chrony import Chrony
from .physics import Float64

Mapping = Callable[[Float64], Float64]
"""Device seconds to lab seconds."""


@dataclass(frozen=True)
class Exchanged:
    """All exchanges of one epoch, in s: lab, device, device, lab."""

    sent: Float64
    device_received: Float64
    device_sent: Float64
    received: Float64
    tick: float
    """The device's resolution, s."""

    @property
    def offset(self) -> Float64:
        """Lab minus device, half-way (RFC 5905 section 8, with the sign turned)."""
        return 0.5 * ((self.sent - self.device_received) + (self.received - self.device_sent))

    @property
    def delay(self) -> Float64:
        """Round trip without the device's share (RFC 5905 section 8)."""
        return (self.received - self.sent) - (self.device_sent - self.device_received)

    @property
    def time(self) -> Float64:
        """Device time half-way."""
        return 0.5 * (self.device_received + self.device_sent)


class Online(Protocol):
    """A way that follows a clock."""

    name: ClassVar[str]

    def add(self, sent: float, device_received: float, device_sent: float, received: float) -> None: ...
    def to_lab(self, clock: Float64) -> Float64: ...


# ---------------------------------------------------------------------- online


class LastExchange:
    """The newest exchange's midpoint, at the nominal rate (F. Cristian, Distributed Computing 3 (1989) 146)."""

    name = "last exchange"

    def __init__(self, precision: float = 0.0) -> None:
        self._offset = math.nan

    def add(self, sent: float, device_received: float, device_sent: float, received: float) -> None:
        self._offset = 0.5 * ((sent - device_received) + (received - device_sent))

    def to_lab(self, clock: Float64) -> Float64:
        return clock + self._offset


class Arrival:
    """An answer's arrival taken as its time, at the nominal rate: what a script with a list of stamps does."""

    name = "arrival stamps"

    def __init__(self, precision: float = 0.0) -> None:
        self._offset = math.nan

    def add(self, sent: float, device_received: float, device_sent: float, received: float) -> None:
        self._offset = received - device_sent

    def to_lab(self, clock: Float64) -> Float64:
        return clock + self._offset


class Wave:
    """A wave of probes as liblsl sends it; the probe with the shortest round trip stands for it.

    liblsl time_receiver.cpp, result_aggregation_scheduled; defaults of api_config.cpp: 8 probes, 64 ms apart,
    at least 6 answers, aggregated 128 ms after the last. Probes that come more slowly make up waves of at least six.
    """

    PROBES, ANSWERS, SPAN = 8, 6, 8 * 0.064 + 0.128

    def __init__(self) -> None:
        self._probes: list[tuple[float, float, float]] = []
        self._begin = 0.0

    def add(
        self, sent: float, device_received: float, device_sent: float, received: float
    ) -> list[tuple[float, float]]:
        """Device time and offset (lab minus device) of a wave that has ended, if one has."""
        ended = []
        if len(self._probes) >= self.ANSWERS and sent - self._begin > self.SPAN:
            ended.append(self._best())
        if not self._probes:
            self._begin = sent
        self._probes.append(
            (
                (received - sent) - (device_sent - device_received),
                0.5 * (device_received + device_sent),
                0.5 * ((sent - device_received) + (received - device_sent)),
            )
        )
        if len(self._probes) == self.PROBES:
            ended.append(self._best())
        return ended

    def _best(self) -> tuple[float, float]:
        _, time, offset = min(self._probes, key=lambda probe: probe[0])
        self._probes = []
        return time, offset


class Lsl:
    """liblsl's time_correction(): the newest wave's offset, held until the next (time_receiver.cpp).

    Until the first wave has ended: the best of what there is.
    """

    name = "lsl"

    def __init__(self, precision: float = 0.0) -> None:
        self._wave, self._offset, self._shortest, self._settled = Wave(), math.nan, math.inf, False

    def add(self, sent: float, device_received: float, device_sent: float, received: float) -> None:
        for _, offset in self._wave.add(sent, device_received, device_sent, received):
            self._offset, self._settled = offset, True
        delay = (received - sent) - (device_sent - device_received)
        if not self._settled and delay < self._shortest:
            self._shortest = delay
            self._offset = 0.5 * ((sent - device_received) + (received - device_sent))

    def to_lab(self, clock: Float64) -> Float64:
        return clock + self._offset


class Klipper:
    """Klipper's clock synchronisation (klippy/clocksync.py, commit 84104bbb): device time regressed on sending times
    with a memory of thirty questions; half the shortest round trip, which ages by 10 us an hour, is added."""

    name = "klipper"
    DECAY, AGEING, START = 1 / 30, 10e-6 / 3600, 1e-3

    def __init__(self, precision: float = 0.0) -> None:
        self._first = True
        self._time = self._clock = self._variance = self._covariance = 0.0
        self._frequency, self._prediction, self._predicted = 1.0, self.START**2, -9999.0
        self._half, self._half_at = math.inf, 0.0

    def add(self, sent: float, device_received: float, device_sent: float, received: float) -> None:
        if self._first:  # connect(): the first question anchors the averages
            self._time, self._clock, self._first = sent, device_received, False
            self._half, self._half_at = 0.5 * (received - sent), sent
            return
        expected = (sent - self._time) * self._frequency + self._clock
        squared = (device_received - expected) ** 2
        if squared > 25 * self._prediction and squared > 500e-6**2:
            if device_received > expected and sent < self._predicted + 10.0:
                return
            self._prediction = self.START**2
        else:
            self._predicted = sent
            self._prediction = (1 - self.DECAY) * (self._prediction + squared * self.DECAY)
        by_time, by_clock = sent - self._time, device_received - self._clock
        self._time += self.DECAY * by_time
        self._variance = (1 - self.DECAY) * (self._variance + by_time**2 * self.DECAY)
        self._clock += self.DECAY * by_clock
        self._covariance = (1 - self.DECAY) * (self._covariance + by_time * by_clock * self.DECAY)
        if self._covariance > 0:  # a repeated answer as the second one would divide by zero
            self._frequency = self._covariance / self._variance
        half = 0.5 * (received - sent)
        if half < self._half + (sent - self._half_at) * self.AGEING:
            self._half, self._half_at = half, sent

    def to_lab(self, clock: Float64) -> Float64:
        return self._time + self._half + (clock - self._clock) / self._frequency


class NtpFilter:
    """NTP's clock filter (RFC 5905 section 10): of the last eight samples the one with the least distance (half the
    delay and the dispersion, which grows by 15 us/s), if it is newer than the last one used.

    The frequency is measured as in section 11.3 (state FREQ): the change of the offset since the earliest
    sample used within the last 900 s (stepout).
    """

    name = "ntp filter"
    STAGES, PHI, STEPOUT = 8, 15e-6, 900.0

    def __init__(self, precision: float = 0.0) -> None:
        self._stages: deque[tuple[float, float, float]] = deque(maxlen=self.STAGES)
        self._used: deque[tuple[float, float]] = deque()
        self._offset, self._at, self._frequency = math.nan, -math.inf, 0.0

    def add(self, sent: float, device_received: float, device_sent: float, received: float) -> None:
        time = 0.5 * (device_received + device_sent)
        delay = (received - sent) - (device_sent - device_received)
        self._stages.append((time, 0.5 * ((sent - device_received) + (received - device_sent)), delay))
        best = min(self._stages, key=lambda stage: 0.5 * stage[2] + self.PHI * (time - stage[0]))
        if best[0] <= self._at:
            return
        self._at, self._offset = best[0], best[1]
        self._used.append((self._at, self._offset))
        while self._at - self._used[0][0] > self.STEPOUT:
            self._used.popleft()
        if self._at > self._used[0][0]:
            self._frequency = (self._offset - self._used[0][1]) / (self._at - self._used[0][0])

    def to_lab(self, clock: Float64) -> Float64:
        return clock + self._offset + self._frequency * (clock - self._at)


class RunningLine:
    """A least-squares line through all midpoints so far."""

    name = "running line"

    def __init__(self, precision: float = 0.0) -> None:
        self._n, self._x, self._y, self._xx, self._xy = 0, 0.0, 0.0, 0.0, 0.0

    def add(self, sent: float, device_received: float, device_sent: float, received: float) -> None:
        x = 0.5 * (device_received + device_sent)
        y = 0.5 * ((sent - device_received) + (received - device_sent))
        self._n += 1
        dx, dy = x - self._x, y - self._y
        self._x += dx / self._n
        self._y += dy / self._n
        self._xx += dx * (x - self._x)
        self._xy += dx * (y - self._y)

    def to_lab(self, clock: Float64) -> Float64:
        slope = self._xy / self._xx if self._xx > 0 else 0.0
        return np.asarray(clock + self._y + slope * (clock - self._x))


@dataclass
class _State:
    """Of the filter below: offset (s), rate, and the elements of their covariance."""

    offset: float
    rate: float
    p00: float
    p01: float
    p11: float


@dataclass
class _Step:
    """One exchange taken in: the state before (None where the filter began anew) and after."""

    time: float
    before: _State | None
    after: _State


class Kalman:
    """Two-state Kalman filter (offset, rate): white and random-walk frequency noise as process (C. Zucca, P. Tavella,
    IEEE TUFFC 52 (2005) 289), the round trip's excess over the shortest as measurement noise, 5-sigma gate."""

    name = "kalman"
    WHITE, WALK, FLOOR, GATE, PATIENCE = 5e-9, 3e-9, 10e-6, 5.0, 8

    def __init__(self, precision: float = 0.0) -> None:
        self.steps: list[_Step] = []
        self._floor = self.FLOOR**2 + precision**2 / 12
        self._shortest, self._refused = math.inf, 0

    def add(self, sent: float, device_received: float, device_sent: float, received: float) -> None:
        x = 0.5 * (device_received + device_sent)
        y = 0.5 * ((sent - device_received) + (received - device_sent))
        delay = (received - sent) - (device_sent - device_received)
        if delay > 0:
            self._shortest = min(self._shortest, delay)
        noise = self._floor + max(0.5 * (delay - self._shortest), 0.0) ** 2
        if not self.steps or self._refused >= self.PATIENCE:
            rate = self.steps[-1].after.rate if self.steps else 0.0
            self.steps.append(_Step(x, None, _State(y, rate, noise, 0.0, (100e-6) ** 2)))
            self._refused = 0
            return
        last = self.steps[-1]
        if x <= last.time:
            return
        s = self._ahead(last.after, x - last.time)
        innovation, variance = y - s.offset, s.p00 + noise
        if innovation**2 > self.GATE**2 * variance:
            self._refused += 1
            return
        self._refused = 0
        a, b = s.p00 / variance, s.p01 / variance
        after = _State(
            s.offset + a * innovation,
            s.rate + b * innovation,
            s.p00 - a * s.p00,
            s.p01 - a * s.p01,
            s.p11 - b * s.p01,
        )
        self.steps.append(_Step(x, s, after))

    def _ahead(self, s: _State, step: float) -> _State:
        """The state `step` s later."""
        white, walk = self.WHITE**2 * step, self.WALK**2 * step
        return _State(
            s.offset + step * s.rate,
            s.rate,
            s.p00 + 2 * step * s.p01 + step**2 * s.p11 + white + walk * step**2 / 3,
            s.p01 + step * s.p11 + walk * step / 2,
            s.p11 + walk,
        )

    def to_lab(self, clock: Float64) -> Float64:
        last = self.steps[-1]
        return np.asarray(clock + last.after.offset + last.after.rate * (clock - last.time))


ONLINE: tuple[Callable[[float], Online], ...] = (
    Chrony,
    Lsl,
    Klipper,
    NtpFilter,
    Kalman,
    RunningLine,
    LastExchange,
    Arrival,
)
"""Made with the device's resolution (s)."""


# ---------------------------------------------------------------------- offline


def straight_line(e: Exchanged) -> Mapping:
    """A least-squares line through all midpoints."""
    x, y = e.time, e.offset
    if x.size < 2:
        return lambda clock: clock + y[0]
    centre = x.mean()
    slope, level = np.polyfit(x - centre, y, 1)
    return lambda clock: clock + level + slope * (clock - centre)


def arrivals(e: Exchanged) -> Mapping:
    """Interpolation between arrivals, as with numpy.interp or pandas' interpolate."""
    return _interpolated(e.device_sent, e.received - e.device_sent)


def nearest_stamp(e: Exchanged) -> Mapping:
    """pandas.merge_asof of device time on the nearest midpoint."""
    import pandas as pd

    table = pd.DataFrame({"clock": e.time, "offset": e.offset}).sort_values("clock")

    def mapped(clock: Float64) -> Float64:
        order = np.argsort(clock, kind="stable")
        found = pd.merge_asof(pd.DataFrame({"clock": clock[order]}), table, on="clock", direction="nearest")
        lab = np.empty_like(clock)
        lab[order] = clock[order] + found["offset"].to_numpy()
        return lab

    return mapped


def lsl_interpolated(e: Exchanged) -> Mapping:
    """Offsets of liblsl's waves, interpolated."""
    waves = _waves(e)
    return _interpolated(waves[:, 0], waves[:, 1])


def pyxdf_lsl(e: Exchanged) -> Mapping:
    """What a recording to XDF becomes: an offset every 5 s (LabRecorder), fitted by pyxdf itself."""
    waves = _waves(e)
    every, last = [], -math.inf
    for time, offset in waves:
        if time - last >= 5.0:
            every.append((time, offset))
            last = time
    return _pyxdf(np.array(every))


def pyxdf_all(e: Exchanged) -> Mapping:
    """pyxdf's robust line (Huber loss by ADMM) through the offsets of all exchanges."""
    return _pyxdf(np.column_stack([e.time, e.offset]))


def two_hulls(e: Exchanged) -> Mapping:
    """The line with the widest margin between the lower hull of one way and the upper hull of the other (after
    L. Zhang, Z. Liu, C. H. Xia, INFOCOM 2002, both ways)."""
    centre = e.time.mean()
    low, high = e.sent - e.device_received, e.received - e.device_sent
    a, b = e.device_received - centre, e.device_sent - centre

    def margin(slope: float) -> tuple[float, float]:
        return float((low - slope * a).max()), float((high - slope * b).min())

    left, right = -0.02, 0.02  # RC oscillators included; the margin is concave in the slope
    ratio = (math.sqrt(5) - 1) / 2
    inner = [right - ratio * (right - left), left + ratio * (right - left)]
    value = [margin(s)[1] - margin(s)[0] for s in inner]
    for _ in range(70):
        if value[0] > value[1]:
            right, inner[1], value[1] = inner[1], inner[0], value[0]
            inner[0] = right - ratio * (right - left)
            value[0] = margin(inner[0])[1] - margin(inner[0])[0]
        else:
            left, inner[0], value[0] = inner[0], inner[1], value[1]
            inner[1] = left + ratio * (right - left)
            value[1] = margin(inner[1])[1] - margin(inner[1])[0]
    slope = 0.5 * (left + right)
    level = 0.5 * sum(margin(slope))
    return lambda clock: clock + level + slope * (clock - centre)


def smoother(e: Exchanged) -> Mapping:
    """The Kalman filter above, run backwards as well (H. E. Rauch, F. Tung, C. T. Striebel, AIAA J. 3 (1965) 1445)."""
    forward = Kalman(e.tick)
    for row in zip(e.sent, e.device_received, e.device_sent, e.received, strict=True):
        forward.add(*(float(v) for v in row))
    steps = forward.steps
    offset, rate = steps[-1].after.offset, steps[-1].after.rate
    times, offsets = [steps[-1].time], [offset]
    for this, following in zip(steps[-2::-1], steps[:0:-1], strict=True):
        s, p = this.after, following.before
        if p is None:  # begun anew: nothing is carried over
            offset, rate = s.offset, s.rate
        else:
            step, determinant = following.time - this.time, p.p00 * p.p11 - p.p01**2
            by_offset, by_rate = offset - p.offset, rate - p.rate
            u = (p.p11 * by_offset - p.p01 * by_rate) / determinant
            v = (p.p00 * by_rate - p.p01 * by_offset) / determinant
            offset = s.offset + (s.p00 + step * s.p01) * u + s.p01 * v
            rate = s.rate + (s.p01 + step * s.p11) * u + s.p11 * v
        times.append(this.time)
        offsets.append(offset)
    return _interpolated(np.array(times[::-1]), np.array(offsets[::-1]))


OFFLINE: dict[str, Callable[[Exchanged], Mapping]] = {
    "pyxdf (lsl)": pyxdf_lsl,
    "pyxdf (all)": pyxdf_all,
    "straight line": straight_line,
    "two hulls": two_hulls,
    "kalman smoother": smoother,
    "lsl interpolated": lsl_interpolated,
    "pandas nearest": nearest_stamp,
    "arrivals": arrivals,
}


def _interpolated(x: Float64, y: Float64) -> Mapping:
    order = np.argsort(x, kind="stable")
    return lambda clock: clock + np.interp(clock, x[order], y[order])


def _waves(e: Exchanged) -> Float64:
    """Device time and offset of every wave; without a whole wave, of the best exchange."""
    wave = Wave()
    ended = []
    for row in zip(e.sent, e.device_received, e.device_sent, e.received, strict=True):
        ended += wave.add(*(float(v) for v in row))
    if not ended:
        best = int(np.argmin(e.delay))
        ended = [(float(e.time[best]), float(e.offset[best]))]
    return np.array(ended)


def _pyxdf(points: Float64) -> Mapping:
    """The package's own clock synchronisation on offsets (rows of device time and lab minus device)."""
    from pyxdf import pyxdf

    logging.getLogger("pyxdf").setLevel(logging.ERROR)

    def mapped(clock: Float64) -> Float64:
        order = np.argsort(clock, kind="stable")
        stream: Any = SimpleNamespace(
            clock_times=points[:, 0].tolist(),
            clock_values=points[:, 1].tolist(),
            time_stamps=clock[order].copy(),
            clock_segments=[],
        )
        pyxdf._clock_sync({1: stream})
        lab = np.empty_like(clock)
        lab[order] = stream.time_stamps
        return lab

    return mapped
