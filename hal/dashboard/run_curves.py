"""Curves of a past run: all of it at a glance, or a window of it down to single readings; no spike is thinned away."""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..recording.layout import UNKNOWN_TIME, signal_group
from ..recording.reader import Recording
from .series import COVERAGE, Column
from .words import shown, shown_unit

POINTS = 1200
"""Most points of a curve."""
GLANCE = 200
"""Readings that are looked at to see whether a signal varies: a file of gigabytes is not read for its list of names."""


def glance(run: Recording, path: str) -> dict[str, Any] | None:
    """What there is to know of a signal before it is drawn; None if it is no number or was never read."""
    group, count = _open(run, path)
    if group["value"].dtype.kind not in "fiu" or not count:
        return None
    some = slice(0, count, max(1, count // GLANCE))
    time, value, sigma = _read(group, some)
    known = np.isfinite(value)
    if not known.any():
        time, value, sigma = _read(group, slice(0, count))
        known = np.isfinite(value)
    if not known.any():
        return None
    text, _, _ = shown(float(value[known][-1]))
    start = run.start_time
    return {
        "path": path,
        "unit": shown_unit(_attribute(group, "unit")),
        "steps": _attribute(group, "interpolation") != "linear",
        "measured": bool(sigma.any()),
        "varies": bool(np.ptp(value[known]) > 6 * COVERAGE * np.median(sigma[known])),
        "last": text,
        "span": [(int(time[0]) - start) / 1e9, (int(group["time"][count - 1]) - start) / 1e9],
    }


def curve(run: Recording, path: str, begin: float, end: float) -> list[list[float | None]]:
    """A signal between two times (s since the run's start): rows of time, value, low, high; the band is low to high."""
    group, count = _open(run, path)
    start = run.start_time
    time = np.asarray(group["time"][:count], np.int64)
    in_order = bool((time[1:] >= time[:-1]).all())
    if in_order:  # a reading more on each side, so that the line goes to the edge
        first, last = np.searchsorted(time, [start + round(begin * 1e9), start + round(end * 1e9)])
        here = slice(max(0, int(first) - 1), min(count, int(last) + 1))
    else:
        here = slice(0, count)
    time, value, sigma = _read(group, here)
    if not in_order:
        order = np.argsort(time, kind="stable")
        time, value, sigma = time[order], value[order], sigma[order]
    half = COVERAGE * sigma
    steps = _attribute(group, "interpolation") != "linear"
    return thinned((time - start) / 1e9, value, value - half, value + half, steps=steps)


def thinned(time: Column, value: Column, low: Column, high: Column, *, steps: bool = False) -> list[list[float | None]]:
    """At most `POINTS` rows: the mean (of what goes in steps the last value), the least low and the greatest high."""
    if len(time) > POINTS:
        edges = np.linspace(time[0], time[-1], POINTS, endpoint=False)
        first = np.unique(np.searchsorted(time, edges))
        last = np.r_[first[1:], len(time)] - 1
        known = np.isfinite(value)
        count = np.add.reduceat(known, first, dtype=np.int64)
        if steps:
            value = value[last]
        else:
            total = np.add.reduceat(np.where(known, value, 0.0), first)
            value = np.where(count, total / np.maximum(count, 1), math.nan)
        time = (time[first] + time[last]) / 2
        low, high = np.fmin.reduceat(low, first), np.fmax.reduceat(high, first)
    rows = zip(time.tolist(), value.tolist(), low.tolist(), high.tolist(), strict=True)
    return [[round(t, 6), *(float(f"{x:.7g}") if math.isfinite(x) else None for x in row)] for t, *row in rows]


# ---------------------------------------------------------------------- private


def _open(run: Recording, path: str) -> tuple[h5py.Group, int]:
    """A signal's columns, and how many readings are on disk with all of them."""
    if path not in list(run.signals):  # the mapping itself would read the whole signal to answer
        raise KeyError(f"no signal {path!r}")
    group = run.file[signal_group(path)]
    columns = [group[name] for name in ("time", "value", "uncertainty", "valid")]
    if run.file.swmr_mode:
        for column in columns:
            column.id.refresh()
    count = min(int(column.shape[0]) for column in columns)
    if count == 1 and int(group["time"][0]) == UNKNOWN_TIME:  # a row that says: never read
        count = 0
    return group, count


def _read(group: h5py.Group, here: slice) -> tuple[npt.NDArray[np.int64], Column, Column]:
    """Time (ns), value and standard uncertainty; what is unknown is NaN, an uncertainty 0."""
    valid = np.asarray(group["valid"][here], bool)
    value = np.where(valid, np.asarray(group["value"][here], np.float64), math.nan)
    sigma = np.nan_to_num(np.asarray(group["uncertainty"][here], np.float64), nan=0.0)
    return np.asarray(group["time"][here], np.int64), value, sigma


def _attribute(group: h5py.Group, name: str) -> str:
    found = group.attrs[name]
    return found.decode() if isinstance(found, bytes) else str(found)
