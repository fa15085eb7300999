"""A run whose writer died: is it being written still, and if not, make its file open anywhere.

A killed writer leaves two marks in the file's first bytes (HDF5 File Format Specification 3.0,
section II.A "Disk Format: Level 0A - Format Signature and Superblock", version 3): the consistency
flags, which keep every plain reader out, and an end-of-file address that is older than the last rows.
`repair` sets both right, with the checksum over them, and then tidies the rows themselves.

Whether a writer lives is told by a lock that the operating system takes back when a process dies:
`run.nxs.lock` beside the run. A writer on another computer is told by its heartbeat there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ..errors import RecordError
from . import layout
from .columns import cameras, growing
from .layout import RUN, UNKNOWN_TIME, Alignment, frames_group
from .lock import WriterLock, is_being_written
from .superblock import Superblock

if TYPE_CHECKING:
    from .reader import Recording


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was found and done; `changed` is False for a file that was whole."""

    path: Path
    changed: bool
    frames: Mapping[str, int] = field(default_factory=dict)  # camera -> frames that are safe
    readings: int = 0  # of all signals together
    trimmed: Mapping[str, int] = field(default_factory=dict)  # dataset -> incomplete rows taken off its end
    realigned: tuple[str, ...] = ()  # cameras
    last_time: int | None = None  # ns; the last moment the file knows of
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.changed:
            return f"{self.path}: whole, nothing to do"
        frames = ", ".join(f"{count} frames of {camera}" for camera, count in self.frames.items()) or "no frames"
        return "; ".join([f"{self.path}: repaired", frames, f"{self.readings} readings", *self.notes])


def repair(
    path: str | os.PathLike[str],
    realign: Callable[[Recording], Mapping[str, Alignment]] | None = None,
) -> RepairReport:
    """Make a run that its writer left behind open plainly; lose nothing that was recorded.

    `realign` gets the mended recording and returns each camera's final alignment. A whole file is left
    as it is; a file that someone still writes is refused. Repairing twice, or half and again, is safe.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordError(f"{path}: no such run; check the name")
    if Superblock.read(path) is None:
        raise RecordError(f"{path}: not an HDF5 file; is it a run?")
    path.with_name(f".{path.name}.spare").unlink(missing_ok=True)  # what its writer had set aside
    lock = WriterLock(path)
    if not lock.path.exists() and not is_broken(path):
        return RepairReport(path, changed=False)
    lock.acquire()  # refuses if a writer, or another repair, is at work
    try:
        if not is_broken(path):
            lock.remove()
            return RepairReport(path, changed=False)
        try:
            notes = _mend_superblock(path)
            frames, readings, trimmed, last = _mend_rows(path, notes)
            realigned = _realign(path, realign) if realign is not None else ()
            _finish(path, last, notes)
            lock.remove()
        except RuntimeError as error:  # what HDF5 raises when it can't write
            raise RecordError(f"{path}: can't be mended now ({error}); is the disk full?") from error
    finally:
        lock.release()
    return RepairReport(path, True, frames, readings, trimmed, realigned, last, tuple(notes))


def is_broken(path: str | os.PathLike[str]) -> bool:
    """Whether the file was left open or unfinished; says nothing on whether someone still writes it."""
    superblock = Superblock.read(Path(path))
    if superblock is None:
        return False
    if superblock.flags:
        return True
    try:
        with h5py.File(path, "r") as file:
            if f"{RUN}/state" not in file:
                return False  # HDF5, but none of ours
            # `part` stands there until the texts have got their own length, see `nexus.tidy`
            return _decoded(file[f"{RUN}/state"][()]) == "recording" or f"{layout.EVENTS}/part" in file
    except OSError:
        return superblock.version >= 2  # flags clear, yet it won't open: half repaired


def find_broken(directory: str | os.PathLike[str]) -> list[Path]:
    """Runs below `directory` that need `repair`; those being written now are not among them."""
    return sorted(
        path
        for path in Path(directory).rglob("*.nxs")
        if not path.name.startswith(".") and path.is_file() and is_broken(path) and not is_being_written(path)
    )


def _mend_superblock(path: Path) -> list[str]:
    superblock = Superblock.read(path)
    if superblock is None or superblock.version < 2:
        raise RecordError(f"{path}: not a file of ours; nothing was touched")
    if not superblock.is_sound:
        raise RecordError(f"{path}: the first bytes are damaged (checksum); nothing was touched, keep a copy and ask")
    notes: list[str] = []
    size = path.stat().st_size - superblock.position
    if superblock.end_of_file > size:  # a power cut: the disk never got the last bytes
        with open(path, "rb+") as file:
            file.truncate(superblock.position + superblock.end_of_file)
        notes.append(f"{superblock.end_of_file - size} bytes at the end never reached the disk")
    end = max(superblock.end_of_file, size)
    if superblock.flags or superblock.end_of_file != end:
        with open(path, "rb+") as file:
            file.seek(superblock.position)
            file.write(superblock.closed(end))
            file.flush()
            os.fsync(file.fileno())
    return notes


# --- the rows ---------------------------------------------------------------------------------


def _mend_rows(path: Path, notes: list[str]) -> tuple[dict[str, int], int, dict[str, int], int]:
    """Make the columns of each table equally long; return what is safe and the last moment known."""
    from .finish import fill_empty, pad_stimuli

    frames: dict[str, int] = {}
    readings = 0
    trimmed: dict[str, int] = {}
    with _opened(path) as file:
        last = int(file[f"{RUN}/start_time"][()])
        for camera in cameras(file):
            group = file[frames_group(camera)]
            frames[camera] = _trim(group, trimmed, notes)
            last = max(last, _latest(group["exposure_stop"]), _latest(group["arrival_time"]))
            pad_stimuli(file, camera, frames[camera])
        for group in file.get(layout.SIGNALS, {}).values():
            readings += _trim(group, trimmed, notes)
            last = max(last, _latest(group["time"]))
        last = max(last, _mend_ticks(file, trimmed, notes))
        fill_empty(file)
        if "part" in file[layout.EVENTS]:
            _trim(file[layout.EVENTS], trimmed, notes)
        last = max(last, _latest(file[layout.EVENTS]["time"]))
    return frames, readings, trimmed, last


def _mend_ticks(file: h5py.File, trimmed: dict[str, int], notes: list[str]) -> int:
    """The same for exchanges, pulses and streams; return the last moment they know."""
    last = UNKNOWN_TIME
    for group in file.get(layout.CLOCKS, {}).values():
        _trim(group, trimmed, notes)
        last = max(last, _latest(group["received"]))
    for group in file.get(layout.PULSES, {}).values():
        _trim(group, trimmed, notes)
        last = max(last, _latest(group["arrival"]))
    for group in file.get(layout.STREAMS, {}).values():
        blocks, counts = group["blocks"], group["samples/counts"]
        _trim(blocks, trimmed, notes)
        # Samples are written by whole chunks, later than the blocks that describe them.
        ends = np.cumsum(blocks["count"][:])
        whole = int(np.searchsorted(ends, counts.shape[0], side="right"))
        samples = int(ends[whole - 1]) if whole else 0
        for dataset in growing(blocks):
            if dataset.shape[0] > whole:
                trimmed[dataset.name] = int(dataset.shape[0]) - whole
                dataset.resize(whole, axis=0)
        counts.resize(samples, axis=0)
        if (readable := _readable_rows(counts)) < samples:
            notes.append(f"{counts.name}: rows {readable} to {samples - 1} can't be read")
        last = max(last, _latest(blocks["arrival"]))
    return last


def _finish(path: Path, last: int, notes: list[str]) -> None:
    """Last of all, so that a repair that was itself interrupted is seen as such."""
    from .finish import tidy

    with _opened(path) as file:
        # Its own end time is there if the writer died in the very act of closing.
        closed = int(file[f"{RUN}/end_time"][()]) != UNKNOWN_TIME
        if not closed:
            file[f"{RUN}/end_time"][()] = last
        try:
            tidy(file)
        except _UNREADABLE as error:
            notes.append(f"some texts can't be read ({error})")
        file[f"{RUN}/state"][()] = b"finished" if closed else b"crashed"


def _realign(path: Path, realign: Callable[[Recording], Mapping[str, Alignment]]) -> tuple[str, ...]:
    from .finish import aligned_rows, write_alignment
    from .origin import Origin
    from .reader import open_run

    with open_run(path) as recording:
        results = realign(recording)
        kinds = {name: recording.signals[name].kind for name in recording.signals}
    with _opened(path) as file:
        start = int(file[f"{RUN}/start_time"][()])
        for camera, result in results.items():
            write_alignment(file, camera, aligned_rows(result.columns, kinds), result.times, start)
        if results:
            Origin.now(results).write(file)
    return tuple(results)


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r+", libver=("v110", "v110"))
    except OSError as error:
        try:
            with h5py.File(path, "r"):
                pass
        except OSError:
            message = f"{path}: still can't be opened ({error}); keep a copy, then try h5clear"
        else:
            message = f"{path}: someone reads it now; close that program and repair again"
        raise RecordError(message) from error


def _trim(group: h5py.Group, trimmed: dict[str, int], notes: list[str]) -> int:
    """Cut every column of a table to the rows that all of them have."""
    datasets = growing(group)
    count = min(int(dataset.shape[0]) for dataset in datasets)
    key = next(group[name] for name in ("indices_image", "time", "arrival", "received") if name in group)
    try:
        tail = np.asarray(key[max(0, count - 4096) : count])
        written = np.flatnonzero((tail != -1) & (tail != UNKNOWN_TIME))
        count -= len(tail) - (int(written[-1]) + 1 if len(written) else 0)  # a row that was only made room for
    except _UNREADABLE:
        pass  # noted below
    for dataset in datasets:
        if dataset.shape[0] > count:
            trimmed[dataset.name] = int(dataset.shape[0]) - count
            dataset.resize(count, axis=0)
        if (readable := _readable_rows(dataset)) < count:
            notes.append(f"{dataset.name}: rows {readable} to {count - 1} can't be read")
    return count


def _readable_rows(dataset: h5py.Dataset) -> int:
    """Rows up to the last chunk that can be read; fewer than there are only after a power cut."""
    count, size = int(dataset.shape[0]), int(dataset.chunks[0])
    while count:
        first = (count - 1) // size * size
        try:
            _ = dataset[first:count]
            return count
        except _UNREADABLE:
            count = first
    return 0


def _latest(times: h5py.Dataset) -> int:
    """The latest of the last few times; they need not be in order."""
    try:
        tail = np.asarray(times[-4096:]) if times.shape[0] else np.empty(0, "i8")
    except _UNREADABLE:
        return UNKNOWN_TIME
    return int(tail.max()) if len(tail) else UNKNOWN_TIME


_UNREADABLE = (OSError, RuntimeError, KeyError)  # what h5py raises where bytes are missing


def _decoded(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)
