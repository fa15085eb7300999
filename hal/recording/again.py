"""A run aligned again, from its raw ticks: what would change, and a file in which it has changed.

Raw data stay as they are. The file gets the new times and values in their usual places, and keeps what
stood there under `earlier_alignments`, each with its origin. It is written beside the run and takes its
place, or its own name, when it is whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ..errors import RecordError
from .columns import make_group
from .declared import Changes
from .finish import aligned_rows, write_alignment
from .layout import ALIGNMENT, EARLIER, FRAME_COLUMNS, RUN, Alignment, frames_group, stimuli_group
from .origin import Origin
from .rewriting import make_sure_it_is_over, rewritten

if TYPE_CHECKING:
    from .reader import Recording

MOVED = ("start", "stop", "bound", "valid", "sigma", "pulse")
"""Columns of frames that an alignment states."""


@dataclass(frozen=True, slots=True)
class CameraShift:
    """What an alignment changed for one camera's frames. Shifts are of the exposures' middles, s."""

    frames: int
    timed_by: str
    median_shift: float
    largest_shift: float
    gained: int
    """Frames that have a time now and had none."""
    lost: int
    median_bound: float
    values: dict[str, ValueShift]


@dataclass(frozen=True, slots=True)
class ValueShift:
    """The same for one signal's values at the frames, in its unit."""

    unit: str
    median_shift: float
    largest_shift: float
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class AgainReport:
    """What was, or would be, changed."""

    run: str
    written: str
    """The file; empty if nothing was written."""
    origin: Origin
    cameras: dict[str, CameraShift]
    why_not: str = ""
    """Why nothing was written."""

    def to_json(self) -> dict[str, Any]:
        """As `hal align --json` shows it."""
        return asdict(self)

    def __str__(self) -> str:
        from .summary import duration

        lines = []
        for name, camera in self.cameras.items():
            lines.append(
                f"{name}: {camera.frames} frames by {camera.timed_by}; times moved by {duration(camera.median_shift)} "
                f"(median), {duration(camera.largest_shift)} at most; known to +-{duration(camera.median_bound)}"
                + (f"; {camera.gained} have a time now" if camera.gained else "")
                + (f"; {camera.lost} have none any more" if camera.lost else "")
            )
            same = sum(not (v.largest_shift or v.gained or v.lost) for v in camera.values.values())
            lines += [f"  {same} of {len(camera.values)} signals as before"] if camera.values else []
            for path, value in camera.values.items():
                if value.largest_shift or value.gained or value.lost:
                    lines.append(
                        f"  {path:<32} by {value.median_shift:.3g} (median), {value.largest_shift:.3g} "
                        f"{value.unit} at most".rstrip()
                        + (f"; {value.gained} more values" if value.gained else "")
                        + (f"; {value.lost} fewer" if value.lost else "")
                    )
        lines.append(f"numbers: {self.origin.digest}, version {self.origin.version}")
        lines.append(f"written to {self.written}" if self.written else f"nothing was written: {self.why_not}")
        return "\n".join(lines)


def align_again(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    changes: Changes | None = None,
    certificates: Mapping[str, str] | None = None,
) -> AgainReport:
    """Align a run anew; write it to `out` if given (which may be the run itself), else only say what would change.

    `certificates`: name of a camera or clock to the hash of the certificate its changes are from, for the record.
    Raises `RecordError` for a run that is being written or broken, and for a file that is there already.
    """
    from .reader import open_run
    from .realign import realigned

    path = Path(path)
    target = Path(out) if out is not None else None
    make_sure_it_is_over(path, "align", "mends and aligns it")
    in_place = target is not None and target.exists() and path.exists() and target.samefile(path)
    if target is not None and target.exists() and not in_place:
        raise RecordError(f"{target}: is there already; name another file, or align in place")
    changes = changes or Changes()
    with open_run(path) as run:
        found = realigned(run, changes)
        parameters: dict[str, Any] = {}
        if changes.values:
            parameters["changes"] = changes.to_json()
        if certificates:
            parameters["certificates"] = dict(certificates)
        origin = Origin.now(found.cameras, parameters)
        kinds = {name: run.signals[name].kind for name in run.signals}
        shifts = {n: _shift(run, n, a) for n, a in found.cameras.items()}
        stands = run.origin is not None and (run.origin.digest, run.origin.version) == (origin.digest, origin.version)
    if target is None:
        return AgainReport(str(path), "", origin, shifts, "name a file, or align in place")
    if in_place and stands:
        return AgainReport(str(path), "", origin, shifts, "the same numbers stand there already")
    with rewritten(path, target, "aligned") as file:
        start = int(file[f"{RUN}/start_time"][()])
        _keep(file, list(found.cameras))
        for camera, alignment in found.cameras.items():
            _make_room(file, camera)
            write_alignment(file, camera, aligned_rows(alignment.columns, kinds), alignment.times, start)
        origin.write(file)
    return AgainReport(str(path), str(target), origin, shifts)


def _shift(run: Recording, camera: str, new: Alignment) -> CameraShift:
    old, times = run.cameras[camera], new.times
    assert times is not None
    count = len(times.start)
    was, is_now = old.valid[:count], times.valid
    moved = np.abs((times.start + (times.stop - times.start) // 2 - old.time[:count])[was & is_now]) * 1e-9
    values = {}
    before = run.aligned_to(camera)
    for path, column in new.columns.items():
        earlier = before[path]
        had, has = earlier.valid[:count], column.valid
        both = had & has
        if earlier.value.dtype.kind in "fiub":
            change = np.abs(np.asarray(column.value, float)[both] - np.asarray(earlier.value[:count], float)[both])
        else:
            change = np.zeros(0)
        values[path] = ValueShift(
            column.unit, *_middle_and_most(change), int(np.sum(has & ~had)), int(np.sum(had & ~has))
        )
    bound = float(np.median(times.bound[is_now])) * 1e-9 if is_now.any() else float("nan")
    return CameraShift(
        count, new.by, *_middle_and_most(moved), int(np.sum(is_now & ~was)), int(np.sum(was & ~is_now)), bound, values
    )  # fmt: skip


def _middle_and_most(change: Any) -> tuple[float, float]:
    return (float(np.median(change)), float(np.max(change))) if len(change) else (0.0, 0.0)


def _keep(file: h5py.File, cameras: list[str]) -> None:
    """Put what stands in the file now aside, with its origin."""
    earlier = file[EARLIER] if EARLIER in file else make_group(file, EARLIER, "NXcollection")
    kept = make_group(earlier, str(len(earlier) + 1), "NXcollection")
    if ALIGNMENT in file:
        for name in file[ALIGNMENT]:
            file.copy(file[f"{ALIGNMENT}/{name}"], kept, name)
    for camera in cameras:
        group = make_group(kept, camera, "NXcollection")
        frames = file[frames_group(camera)]
        for name in [*(FRAME_COLUMNS[column][0] for column in MOVED), "elapsed", "reason"]:
            if name in frames:
                file.copy(frames[name], group, name)
        values = make_group(group, "stimuli", "NXcollection")
        stimuli = file[stimuli_group(camera)]
        for name in stimuli:
            if not isinstance(stimuli.get(name, getlink=True), h5py.SoftLink) and name != "title":
                file.copy(stimuli[name], values, name)


def _make_room(file: h5py.File, camera: str) -> None:
    """Columns that runs of earlier versions did not have."""
    from .columns import growing_column

    frames = file[frames_group(camera)]
    for column in ("sigma", "pulse"):
        name, dtype, units, fill, meaning = FRAME_COLUMNS[column]
        if name not in frames:
            count = len(frames["frame_number"])
            growing_column(frames, name, dtype, frames["frame_number"].chunks[0], units, fill, meaning)
            frames[name].resize(count, axis=0)
