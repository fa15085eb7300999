"""chrony's estimate of a clock, written anew: a weighted line through as many samples as still look like one.

What is built, of chrony at commit 8f2db839 (June 2026), with the defaults of srcparams.h:
- sourcestats.c: up to 64 samples, and as many older ones for the runs test; weights by distance (half the delay and
  the dispersion, against the median); the offsets corrected for asymmetric jitter once ten estimates agree;
- regress.c: a weighted line; the oldest samples go until the signs of the residuals change often enough;
- ntp_core.c: maxdelay 3 s, maxdelaydevratio 10.
Not built: the slewing of a computer's clock by the estimate. What is mapped here follows the estimate at once,
which is in chrony's favour.
"""

from __future__ import annotations

import math
from statistics import median

import numpy as np

from .physics import Float64

SAMPLES, RUNS_RATIO, FEWEST = 64, 2, 3
"""sourcestats.c MAX_SAMPLES; regress.h REGRESS_RUNS_RATIO, MIN_SAMPLES_FOR_REGRESS."""
WORST_FREQUENCY, WORST_DEVIATION = 2e-3, 4.0
"""sourcestats.c WORST_CASE_FREQ_BOUND, WORST_CASE_STDDEV_BOUND."""
MAX_DELAY, MAX_DELAY_DEVIATIONS, MAX_CLOCK_ERROR = 3.0, 10.0, 1e-6
"""srcparams.h SRC_DEFAULT_MAXDELAY, ..._MAXDELAYDEVRATIO; maxclockerror of chrony.conf."""
DEVIATION_TO_DISTANCE = 0.7
"""sourcestats.c SD_TO_DIST_RATIO."""
ASYMMETRY, LARGEST_ASYMMETRY, AGREEING = 0.45, 0.5, 10
"""sourcestats.c MIN_ASYMMETRY, MAX_ASYMMETRY, MIN_ASYMMETRY_RUN."""
STUDENT = (636.6, 31.6, 12.92, 8.61, 6.869, 5.959, 5.408, 5.041, 4.781, 4.587, 4.437, 4.318, 4.221, 4.14, 4.073)
"""Student's t, 99.95 %, for 1, 2, ... degrees of freedom (any table of statistics)."""


def student(freedom: int) -> float:
    """Student's t, 99.95 %; beyond 15 degrees of freedom an expansion of the normal quantile, good to 0.01."""
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    z = 3.2905
    return max(z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2), 3.5)


def critical_runs(n: int) -> int:
    """As few runs of equal sign among n residuals, or fewer, happen to a true line in 5 % of the cases."""
    return round((n + 1) / 2 - 1.6449 * math.sqrt(n - 1) / 2) if n >= 8 else 0


def runs(residuals: Float64) -> int:
    """How many runs of residuals of one sign."""
    return 1 + int(np.count_nonzero(residuals[1:] * residuals[:-1] <= 0.0))


class Chrony:
    """Offsets (reference minus clock, s) of one clock against a reference; times in the clock's own seconds."""

    name = "chrony"

    def __init__(self, precision: float = 1e-9) -> None:
        self.precision = precision
        self._reset()

    def _reset(self) -> None:
        self._times: list[float] = []
        self._offsets: list[float] = []
        self._delays: list[float] = []
        self._dispersions: list[float] = []
        self._older = 0  # of the above, at their beginning: only for the runs test
        self._asymmetry_run = 0
        self.frequency, self.skew, self.deviation = 0.0, WORST_FREQUENCY, WORST_DEVIATION
        self.offset, self.at = 0.0, 0.0

    @property
    def samples(self) -> int:
        """How many samples the line is drawn through."""
        return len(self._times) - self._older

    def add(self, sent: float, device_received: float, device_sent: float, received: float) -> None:
        """One exchange."""
        time = 0.5 * (device_received + device_sent)
        offset = 0.5 * ((sent - device_received) + (received - device_sent))
        delay = max(abs((received - sent) - (device_sent - device_received)), self.precision)
        if delay > MAX_DELAY or not self._credible(time, offset, delay):
            return
        if self.samples == SAMPLES:
            self._prune(1)
        if self._times and time <= self._times[-1]:
            self._reset()
        self._times.append(time)
        self._offsets.append(offset)
        self._delays.append(delay)
        skew = min(self.skew, WORST_FREQUENCY)
        self._dispersions.append(self.precision + skew * abs(received - sent))
        self._regress()

    def to_lab(self, clock: Float64) -> Float64:
        """The reference's time, by the newest estimate."""
        return np.asarray(clock + self.offset + self.frequency * (clock - self.at))

    def _credible(self, time: float, offset: float, delay: float) -> bool:
        if self.samples < 6:
            return True
        ago = time - self.at
        largest = self.deviation * MAX_DELAY_DEVIATIONS + ago * (self.skew + MAX_CLOCK_ERROR)
        more = 0.5 * (delay - min(self._delays))
        error = abs(offset - (self.offset + ago * self.frequency))
        return more <= largest or error - delay > largest

    def _prune(self, oldest: int) -> None:
        self._older += oldest
        surplus = self._older - self.samples * (RUNS_RATIO - 1)
        if surplus > 0:
            for column in (self._times, self._offsets, self._delays, self._dispersions):
                del column[:surplus]
            self._older -= surplus

    def _regress(self) -> None:
        n, m = self.samples, self._older
        self.at = self._times[-1]
        if n < FEWEST:
            self.offset, self.skew, self.deviation = self._offsets[-1], WORST_FREQUENCY, WORST_DEVIATION
            return
        x = np.array(self._times) - self.at
        y, delays = np.array(self._offsets), np.array(self._delays)
        y = y - self._asymmetry(x, y, delays) * (delays - delays.min())
        distances = 0.5 * delays[m:] + np.array(self._dispersions[m:])
        nearest = distances.min()
        deviation = min(max((median(distances.tolist()) - nearest) / DEVIATION_TO_DISTANCE, self.precision), nearest)
        weights = (1.0 + np.maximum(distances - nearest - self.precision, 0.0) / deviation) ** -2
        # The lines from every start on, by sums from the end; x counts from the newest sample, so nothing cancels.
        w = weights[::-1]
        v, r = x[m:][::-1], y[m:][::-1]
        total, wx, wy = np.cumsum(w), np.cumsum(w * v), np.cumsum(w * r)
        spreads = np.cumsum(w * v * v)[FEWEST - 1 :] - (wx * wx / total)[FEWEST - 1 :]
        slopes = (np.cumsum(w * v * r)[FEWEST - 1 :] - (wx * wy / total)[FEWEST - 1 :]) / spreads
        levels = (wy / total)[FEWEST - 1 :] - slopes * (wx / total)[FEWEST - 1 :]
        for used in range(n, FEWEST - 1, -1):
            slope, level = slopes[used - FEWEST], levels[used - FEWEST]
            first = max(m + n - used * RUNS_RATIO, 0)
            residuals = y[first:] - level - slope * x[first:]
            if runs(residuals) > critical_runs(residuals.size):
                break
        r = residuals[-used:]
        variance = (weights[n - used :] @ (r * r)) / (used - 2)
        self.frequency, self.offset = float(slope), float(level)
        self.skew = float(np.clip(math.sqrt(variance / spreads[used - FEWEST]) * student(used - 2), 1e-12, 1.0))
        self.deviation = max(1e-9, math.sqrt(variance * used / total[used - 1]))
        self._prune(n - used)

    def _asymmetry(self, x: Float64, y: Float64, delays: Float64) -> float:
        """By how much the offset grows with the delay, once that is sure."""
        if x.size < 4:
            return 0.0
        a, b, c = x - x.mean(), delays - delays.mean(), y - y.mean()
        aa, bb, ab = a @ a, b @ b, a @ b
        determinant = aa * bb - ab * ab
        solvable = determinant > 1e-10 * aa * bb
        slope = (aa * (b @ c) - ab * (a @ c)) / determinant if solvable else 0.0
        if not solvable or slope * self._asymmetry_run < 0:
            self._asymmetry_run = 0
            return 0.0
        if abs(slope) >= ASYMMETRY:
            self._asymmetry_run = int(np.clip(self._asymmetry_run + math.copysign(1, slope), -1000, 1000))
        if abs(self._asymmetry_run) < AGREEING:
            return 0.0
        return float(np.clip(slope, -LARGEST_ASYMMETRY, LARGEST_ASYMMETRY))
