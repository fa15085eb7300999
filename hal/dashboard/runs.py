"""Past runs in a directory: a list of them, and of each what happened and the picture beside it. Nothing is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import HalError
from .view import GRAVE, said
from .words import shown_seconds

MOST_RUNS = 500
"""The newest are listed."""
PICTURES = (".png", ".svg")
SHOWN_EVENTS = 200
UNREADABLE = (HalError, OSError, KeyError, ValueError, TypeError, RuntimeError)
"""What a damaged file may raise."""


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
        """One run, without its curves. Raises `KeyError` if there is none of that name, `HalError` if unreadable."""
        from ..recording.reader import open_run
        from .run_curves import glance

        path = self.path(name)
        try:
            with open_run(path) as run:
                signals = [found for path_ in run.signals if (found := glance(run, path_)) is not None]
                events, more = _events(run)
                facts = _facts(run)
        except UNREADABLE as error:
            raise HalError(_told(error, path)) from error
        return {
            **_row(path, name),
            "facts": facts,
            "signals": sorted(signals, key=_rank),
            "events": events,
            "more_events": more,
            "picture": self.picture(name) is not None,
        }

    def curves(self, name: str, paths: Sequence[str], begin: float, end: float) -> dict[str, list[list[float | None]]]:
        """Signals of a run between two times (s since its start). Raises `KeyError`, `HalError`."""
        from ..recording.reader import open_run
        from .run_curves import curve

        path = self.path(name)
        try:
            with open_run(path) as run:
                return {p: curve(run, p, begin, end) for p in paths}
        except UNREADABLE as error:
            raise HalError(_told(error, path)) from error

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
    except UNREADABLE as error:
        row["trouble"] = _told(error, path)
    return row


def _told(error: Exception, path: Path) -> str:
    """Why a file can't be read, and what to do; without its name, beside which this stands."""
    text = str(error.args[0] if error.args else error).removeprefix(f"{path}: ")
    if (cut := re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", text)) is not None:
        there, whole = (int(size) / 1e6 for size in cut.groups())
        return f"only {there:.3g} MB of {whole:.3g} MB are there; copy it again, or try `hal repair`"
    if isinstance(error, HalError):
        return text[:300]
    return f"the file is damaged ({text[:200]}); look what `hal repair` can save of it"


def _events(run: Any) -> tuple[list[dict[str, Any]], int]:
    """What happened, the grave before the rest, and how much else is not shown."""
    start, found = run.start_time, [e for e in run.events if e.kind not in ("summary", "clock")]
    ranked = sorted(enumerate(found), key=lambda at: (at[1].kind not in GRAVE, at[0]))[:SHOWN_EVENTS]
    return [
        {"time": (e.time - start) / 1e9, "kind": e.kind, "text": said(e.device, e.text), "grave": e.kind in GRAVE}
        for _, e in sorted(ranked, key=lambda at: at[0])
    ], len(found) - len(ranked)


def _rank(signal: dict[str, Any]) -> tuple[bool, bool, bool, str]:
    """What varies comes first, and of that what was measured and not set."""
    return not signal["varies"], signal["steps"], not signal["measured"], signal["path"]


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
