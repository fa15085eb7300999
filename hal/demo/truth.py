"""How good a record is, where the truth is known: emulated runs only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..recording.reader import Recording, open_run

SIGNALS = {
    "heater.temperature": "temperature",
    "warmth.temperature": "body",
    "body.temperature": "body",
    "bias.voltage": "voltage",
    "bias.current": "current",
    "argon.flow": "flow_argon",
    "hydrogen.flow": "flow_hydrogen",
    "cell.pressure": "pressure",
    "column.pressure": "column",
}
"""The demo's signals and the quantity of the world each measures."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One signal against the truth."""

    path: str
    frames: int
    within_two_sigma: float
    median_sigma: float
    rms_error: float
    valid: float
    """Share of the frames received that have a value."""

    @property
    def ratio(self) -> float:
        """Median stated uncertainty over actual RMS error; above 1.5 would be timid.

        Jumps (a quench, the steps of a sweep) dominate the error's RMS, rest the median of what is stated:
        where a signal jumps the ratio is small and says little.
        """
        return self.median_sigma / self.rms_error if self.rms_error else float("nan")


@dataclass(frozen=True, slots=True)
class Report:
    """All signals, and the frames' times."""

    signals: list[Judgement]
    frames: int
    wrong_index: int
    """Frames whose picture was taken at another time than the record says by more than its bound."""
    worst_time_error: float
    """s"""


def compare(run_path: str | Path, truth_path: str | Path) -> Report:
    """Lay the record beside the truth."""
    with np.load(truth_path) as loaded:
        truth = {name: loaded[name] for name in loaded.files}
    with open_run(run_path) as run:
        return _compare(run, truth)


def _compare(run: Recording, truth: dict[str, Any]) -> Report:
    anchor = run.clock
    offset = anchor.epoch - anchor.monotonic
    moments = truth["time"] + offset
    middle, wrong, worst = _true_middles(run, truth, offset)
    known = middle != 0
    found = []
    base = int(moments[0])
    for path, quantity in SIGNALS.items():
        if path not in run.aligned:
            continue
        column = run.aligned[path]
        value, sigma = np.asarray(column.value, float), np.asarray(column.uncertainty, float)
        good = column.valid & known & np.isfinite(value)
        expected = np.interp((middle[good] - base) * 1e-9, (moments - base) * 1e-9, truth[quantity])
        error = value[good] - expected
        found.append(
            Judgement(
                path, int(good.sum()), float(np.mean(np.abs(error) <= 2 * sigma[good])),
                float(np.median(sigma[good])), float(np.sqrt(np.mean(error**2))),
                float(np.mean(column.valid[known])),
            )
        )  # fmt: skip
    return Report(found, len(middle), wrong, worst)


def _true_middles(run: Recording, truth: dict[str, Any], offset: int) -> tuple[NDArray[np.int64], int, float]:
    """When each recorded frame was really exposed (0: unknown), by number and order of the series."""
    number = run.frame_number
    if "frames_number" not in truth or not len(truth["frames_number"]):
        return run.frame_time, 0, float("nan")
    # Series restart their numbers, and the detector's first one may be earlier than the run's: pair from the last.
    true_series = truth["frames_series"].astype(np.int64)
    restarts = np.cumsum(np.diff(number, prepend=number[:1]) < 0).astype(np.int64)
    series = restarts + int(true_series[-1]) - int(restarts[-1])
    width = int(max(number.max(), truth["frames_number"].max())) + 1
    keys = true_series * width + truth["frames_number"]
    wanted = series * width + number
    at = np.clip(np.searchsorted(keys, wanted), 0, len(keys) - 1)
    found = keys[at] == wanted
    middle = np.where(found, truth["frames_time"][at] + offset, 0)
    check = found & run.frame_valid
    error = np.abs(run.frame_time[check] - middle[check])
    wrong = int(np.sum(error > run.frame_bound[check]))
    return middle, wrong, float(error.max()) * 1e-9 if error.size else float("nan")


def table(report: Report) -> str:
    """The report as text."""
    lines = [f"{'signal':<22}{'within 2 sigma':>15}{'median sigma':>14}{'RMS error':>12}{'ratio':>7}{'valid':>9}"]
    for s in report.signals:
        lines.append(
            f"{s.path:<22}{s.within_two_sigma:>15.1%}{s.median_sigma:>14.3g}{s.rms_error:>12.3g}{s.ratio:>7.2f}{s.valid:>9.2%}"
        )
    lines.append(
        f"{report.frames} frames, {report.wrong_index} outside their stated interval; "
        f"worst error of an exposure's time {report.worst_time_error * 1e3:.2f} ms"
    )
    return "\n".join(lines)
