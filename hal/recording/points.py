"""Calibration points: a signal and a reference, both steady for a while; kept in a file as they are taken.

Steady: within the window the means of its first and second half differ by no more than twice the standard uncertainty
of that difference (which the scatter of the quieter half tells), or by no more than what the user allows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordError
from .layout import QUALITIES

if TYPE_CHECKING:
    from .parts import SignalRecord
    from .reader import Recording

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

LEAST = 6
"""Readings in a window, without which nothing can be said of it."""
APART = 6.0
"""Standard uncertainties by which neighbouring windows of one plateau may differ."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A signal over a window: its mean, and the standard uncertainty of that."""

    value: float
    uncertainty: float
    readings: int
    steady: bool


@dataclass(frozen=True, slots=True)
class Point:
    """One calibration point."""

    time: int
    """End of the window, ns."""
    x: float
    u_x: float
    """The signal, in its unit."""
    y: float
    u_y: float
    """The reference, in its unit; what all points share is not in u_y."""
    readings: int
    step: float | None = None
    """Of the setpoint, in its unit; None: somebody brought everything there."""


@dataclass(frozen=True, slots=True)
class Axes:
    """What is calibrated, and against what."""

    signal: str
    unit: str
    reference: str
    """A signal, or empty where a person types the values."""
    reference_unit: str


def mean_of(value: Float64, noise: Float64, within: float = 0.0) -> Mean:
    """Of the readings of one window; noise: the standard uncertainty of each, NaN where unknown.

    u^2 = s^2 / n + d^2 / 3: s the scatter (or the stated noise, if that is larger), n as many readings as are worth
    independent ones, d the drift from the first half to the second, which is half of that over the whole window (GUM
    4.2.3, 4.3.7).
    """
    n = value.size
    if n < LEAST:
        return Mean(float(value.mean()) if n else float("nan"), float("nan"), n, False)
    first, second = value[: n // 2], value[n // 2 :]
    drift = abs(float(second.mean() - first.mean()))
    stated = float(np.nanmedian(noise)) if np.isfinite(noise).any() else 0.0
    halves = first.var(ddof=1), second.var(ddof=1)
    scatter = max(sqrt(float(sum(halves)) / 2.0), stated)
    quiet = max(sqrt(float(min(halves))), stated)  # a jump makes one half restless: it must not excuse itself
    steady = drift <= max(within, 2.0 * quiet * sqrt(1.0 / first.size + 1.0 / second.size))
    alike = _alike(np.concatenate([first - first.mean(), second - second.mean()]))
    return Mean(float(value.mean()), sqrt(scatter**2 * alike / n + drift**2 / 3.0), n, steady)


def _alike(rest: Float64) -> float:
    """How many neighbouring readings tell as much as one, for each is asked more often than the instrument measures,
    or averages over the ones before: 1 + 2 times the sum of the correlations with the readings before, as long as two
    of them together are positive (C. J. Geyer, Statist. Sci. 7 (1992) 473).
    """
    n, square = rest.size, float(rest @ rest)
    total, lag = -1.0, 0
    while square and 2 * lag < n:
        pair = sum(float(rest[: n - k] @ rest[k:]) for k in (lag, lag + 1)) / square
        if pair <= 0.0:
            break
        total, lag = total + 2.0 * pair, lag + 2
    return min(max(total, 1.0), float(n))


def apart(one: Mean, other: Mean, within: float = 0.0, k: float = APART) -> bool:
    """Whether two means are of different places: by more than `k` standard uncertainties of their difference."""
    return abs(one.value - other.value) > max(within, k * float(np.hypot(one.uncertainty, other.uncertainty)))


def plateaus(run: Recording, signal: str, reference: str, *, window: float, within: float = 0.0) -> list[Point]:
    """Where a run's signal and reference were both steady, one point each: the last window of every plateau.

    window: s; within: as for `steady`, in the signal's and the reference's unit alike. Raises `RecordError`.
    """
    x, y = (_readings(run, path) for path in (signal, reference))
    begin, end = max(x[0][0], y[0][0]), min(x[0][-1], y[0][-1])
    length = round(window * 1e9)
    found: list[Point] = []
    before: list[Mean] = []
    for start in range(int(begin), int(end) - length + 1, max(1, length // 2)):
        here = [_window(s, start, start + length, within) for s in (x, y)]
        if not all(mean.steady for mean in here):
            before = []
            continue
        if before and not any(apart(a, b, within) for a, b in zip(here, before, strict=True)):
            found.pop()  # the same plateau, better settled
        before = here
        of_x, of_y = here
        readings = min(of_x.readings, of_y.readings)
        found.append(Point(start + length, of_x.value, of_x.uncertainty, of_y.value, of_y.uncertainty, readings))
    return found


class PointFile:
    """Points on disk, each safe as soon as it is taken; a file that exists is gone on with."""

    def __init__(self, path: Path, axes: Axes, serial: str = "") -> None:
        """serial: of what is calibrated. Raises `RecordError` if the file is of something else."""
        self.path = path
        self.points: list[Point] = []
        if not path.exists():
            self._append({"axes": asdict(axes), "serial": serial})
            return
        try:
            whole, _, torn = path.read_text(encoding="utf-8").rpartition("\n")
            head, *rows = [json.loads(line) for line in whole.splitlines()]
            known, whose = Axes(**head["axes"]), str(head.get("serial", ""))
            self.points = [Point(**row) for row in rows]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}: holds no calibration points ({error}); name another file") from None
        if known != axes:
            raise RecordError(
                f"{path}: has points of {known.signal} [{known.unit}] against {known.reference or 'typed values'} "
                f"[{known.reference_unit}]; name another file for these"
            )
        if whose != serial:
            raise RecordError(
                f"{path}: has points of the serial number {whose!r}, not {serial!r}; name another file for these "
                "(--points)"
            )
        if torn:  # the power went while it was written: that point was not taken, those before it were
            os.truncate(path, len(whole.encode()) + 1)

    def fit_into(self, steps: Sequence[float]) -> None:
        """Make sure that the points are the first of these steps. Raises `RecordError`."""
        taken = [point.step for point in self.points]
        if taken == list(steps[: len(taken)]):
            return
        begins = ", ".join("by hand" if step is None else f"{step:g}" for step in taken)
        raise RecordError(
            f"{self.path}: has points at {begins}, and those asked for now are {', '.join(f'{s:g}' for s in steps)}; "
            "ask for the same ones first, further ones after them, or name another file to begin anew (--points)"
        )

    def add(self, point: Point) -> None:
        """Keep a point; on disk when this returns."""
        self._append(asdict(point))
        self.points.append(point)

    def _append(self, row: dict[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RecordError(f"{self.path}: can't be written ({error.strerror}); choose another folder") from None


# ---------------------------------------------------------------------------- private

_Readings = tuple[Int64, Float64, Float64]


def _readings(run: Recording, path: str) -> _Readings:
    if path not in run.signals:
        raise RecordError(f"{run.path}: no signal {path!r} in this run; there are {', '.join(run.signals)}")
    record: SignalRecord = run.signals[path]
    if record.kind not in ("float", "int"):
        raise RecordError(f"{path} is no number; name a signal that is measured")
    good = record.valid & (record.quality == QUALITIES.index("good"))
    if not good.any():
        raise RecordError(f"{run.path}: {path} has no good reading in this run")
    order = np.argsort(record.time[good], kind="stable")
    time, value = record.time[good][order], np.asarray(record.value, np.float64)[good][order]
    return time, value, record.uncertainty[good][order]


def _window(readings: _Readings, start: int, stop: int, within: float) -> Mean:
    first, last = np.searchsorted(readings[0], [start, stop])
    return mean_of(readings[1][first:last], readings[2][first:last], within)
