"""Past runs in a directory: a list of them, and of each its curves and the picture beside it. Nothing is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import HalError
from .series import COVERAGE
from .words import shown, shown_seconds, shown_unit

MOST_RUNS = 500
"""The newest are listed."""
POINTS = 1200
"""Most points of a curve of a run."""
PICTURES = (".png", ".svg")
SHOWN_EVENTS = 200


@dataclass(frozen=True, slots=True)
class Listed:
    """A run in the list, as JSON has it, and what the file was like when it was read."""

    stamp: tuple[int, int]
    row: dict[str, Any]


class Runs:
    """The runs below one directory. The methods read files: call them on a thread, one at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[str, Listed] = {}

    def listing(self) -> list[dict[str, Any]]:
        """The newest runs first."""
        found = {}
        for path in self._files():
            name = path.relative_to(self.directory).as_posix()
            try:
                status = path.stat()
            except OSError:
                continue  # just moved away
            stamp = status.st_mtime_ns, status.st_size
            known = self._known.get(name)
            found[name] = known if known is not None and known.stamp == stamp else Listed(stamp, _row(path, name))
        self._known = found
        return sorted((listed.row for listed in found.values()), key=lambda row: -(row["start"] or 0))

    def run(self, name: str) -> dict[str, Any]:
        """One run with its curves. Raises `KeyError` if there is none of that name here, `HalError` if unreadable."""
        from ..recording.reader import open_run

        path = self.path(name)
        with open_run(path) as run:
            start = run.start_time
            curves = [c for path_ in run.signals if (c := _curve(run.signals[path_], start)) is not None]
            events = [
                {"time": (e.time - start) / 1e9, "kind": e.kind, "text": e.text}
                for e in run.events
                if e.kind not in ("summary", "clock")
            ][:SHOWN_EVENTS]
            facts = _facts(run)
        return {
            **_row(path, name),
            "facts": facts,
            "curves": sorted(curves, key=_rank),
            "events": events,
            "picture": self.picture(name) is not None,
        }

    def path(self, name: str) -> Path:
        """The file of a run in this directory. Raises `KeyError`."""
        for path in self._files():  # only what is found here, whatever `name` spells
            if path.relative_to(self.directory).as_posix() == name:
                return path
        raise KeyError(name)

    def picture(self, name: str) -> Path | None:
        """The picture beside a run (`hal report` draws it), if there is one. Raises `KeyError`."""
        path = self.path(name)
        return next((p for suffix in PICTURES if (p := path.with_suffix(suffix)).is_file()), None)

    def _files(self) -> list[Path]:
        paths = [p for pattern in ("*.nxs", "*/*.nxs") for p in self.directory.glob(pattern) if p.is_file()]
        return sorted(paths, key=lambda p: p.name, reverse=True)[:MOST_RUNS]


def _row(path: Path, name: str) -> dict[str, Any]:
    from ..recording.reader import open_run

    row: dict[str, Any] = {"name": name, "title": path.stem, "sample": "", "user": "", "start": None, "trouble": ""}
    row |= {"duration": "–", "frames": "–", "dropped": "–", "lost": False, "state": "unreadable"}
    try:
        with open_run(path) as run:
            end = run.end_time
            frames = sum(len(stack) for stack in run.cameras.values())
            row |= {
                "title": run.title,
                "sample": run.sample,
                "user": run.user,
                "state": run.state,
                "start": run.start_time / 1e6,
                "duration": "–" if end is None else shown_seconds((end - run.start_time) / 1e9),
                "frames": f"{frames:,}".replace(",", " "),
                "dropped": f"{run.dropped:,}".replace(",", " "),
                "lost": run.dropped > 0,
            }
    except (HalError, OSError, KeyError, ValueError) as error:
        row["trouble"] = str(error)[:300]
    return row


def _rank(curve: dict[str, Any]) -> tuple[bool, bool, bool, str]:
    """What varies comes first, and of that what was measured and not set."""
    return not curve["varies"], curve["steps"], not curve["measured"], curve["path"]


def _facts(run: Any) -> list[list[str]]:
    """Name and value of what a person wants to know first."""
    facts = [["sample", run.sample], ["user", run.user or "–"], ["state", run.state]]
    if run.holder is not None:
        facts.append(["holder", run.holder.name])
    summary = run.summary
    for name, camera in summary.get("cameras", {}).items():
        pulses = camera.get("pulses") or {}
        if pulses.get("captured"):
            facts.append([f"{name}: pulses", f"{pulses.get('matched', 0)} of {pulses['captured']} matched"])
    for name, clock in summary.get("clocks", {}).items():
        text = f"known to ± {shown_seconds(clock['bound_s'])}" if clock.get("usable") else str(clock.get("reason", ""))
        facts.append([f"clock {name}", text])
    return [[name, value] for name, value in facts if value]


def _curve(signal: Any, start: int) -> dict[str, Any] | None:
    value = np.asarray(signal.value)
    if value.dtype.kind not in "fiu" or not len(value):
        return None
    number = np.where(np.asarray(signal.valid, bool), value.astype(np.float64), math.nan)
    known = np.isfinite(number)
    if not known.any():
        return None
    sigma = np.nan_to_num(np.asarray(signal.uncertainty, np.float64), nan=0.0) * COVERAGE
    time = (np.asarray(signal.time, np.int64) - start) / 1e9
    last = int(np.flatnonzero(known)[-1])
    text, _, _ = shown(float(number[last]))
    return {
        "path": signal.path,
        "unit": shown_unit(signal.unit),
        "steps": signal.interpolation != "linear",
        "measured": bool(sigma.any()),
        "varies": bool(np.ptp(number[known]) > 6 * np.median(sigma[known])),
        "last": text,
        "points": _thinned(time, number, number - sigma, number + sigma),
    }


def _thinned(*columns: npt.NDArray[np.float64]) -> list[list[float | None]]:
    """At most `POINTS` rows of time, value, low, high; what lies between two shows in the band."""
    time, value, low, high = columns
    if len(time) > POINTS:
        first = np.unique(np.linspace(0, len(time), POINTS, endpoint=False).astype(int))
        time, value = time[first], value[first]
        low, high = np.fmin.reduceat(low, first), np.fmax.reduceat(high, first)
    rows = np.column_stack([time, value, low, high]).tolist()
    return [[float(f"{x:.7g}") if math.isfinite(x) else None for x in row] for row in rows]
