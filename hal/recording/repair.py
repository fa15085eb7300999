"""A run whose writer died: is it being written still, and if not, make its file open anywhere.

A killed writer leaves two marks in the file's first bytes (HDF5 File Format Specification 3.0,
section II.A "Disk Format: Level 0A - Format Signature and Superblock", version 3): the consistency
flags, which keep every plain reader out, and an end-of-file address that is older than the last rows.
`repair` sets both right, with the checksum over them, and then tidies the rows themselves.

Whether a writer lives is told by a lock that the operating system takes back when a process dies:
`run.nxs.lock` beside the run. A writer on another computer is told by its heartbeat there.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import h5py
import numpy as np

from ..errors import RecordError
from . import layout
from .layout import RUN, UNKNOWN_TIME, Alignment, frames_group

if TYPE_CHECKING:
    from .reader import Recording

HEARTBEAT = 3.0  # s; a writer on another computer touches its lock file well within this


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
    lock = WriterLock(path)
    if not lock.path.exists() and not is_broken(path):
        return RepairReport(path, changed=False)
    lock.acquire()  # refuses if a writer, or another repair, is at work
    try:
        if not is_broken(path):
            lock.remove()
            return RepairReport(path, changed=False)
        notes = _mend_superblock(path)
        frames, readings, trimmed, last = _mend_rows(path, notes)
        realigned = _realign(path, realign) if realign is not None else ()
        _finish(path, last, notes)
        lock.remove()
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


def is_being_written(path: str | os.PathLike[str]) -> bool:
    """Whether a living process holds this run open for writing (or is repairing it)."""
    return WriterLock(Path(path)).is_held()


def find_broken(directory: str | os.PathLike[str]) -> list[Path]:
    """Runs below `directory` that need `repair`; those being written now are not among them."""
    return sorted(
        path
        for path in Path(directory).rglob("*.nxs")
        if not path.name.startswith(".") and path.is_file() and is_broken(path) and not is_being_written(path)
    )


# --- who is writing ---------------------------------------------------------------------------


class WriterLock:
    """The right to write one run, held through a lock file beside it for as long as the process lives."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.path = run.with_name(f"{run.name}.lock")
        self._file: BinaryIO | None = None

    def acquire(self) -> None:
        """Take the lock, or say who has it."""
        if self._held_elsewhere():
            raise self._refusal()
        try:
            file = open(self.path, "a+b")  # noqa: SIM115 - held until release
        except OSError as error:
            raise RecordError(
                f"{self.run}: can't write beside it ({error}); is the folder there and writable?"
            ) from error
        if not _lock(file):
            file.close()
            raise self._refusal()
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        file.flush()
        self._file = file

    def beat(self) -> None:
        """Show other computers that this writer lives."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a share that went away shows in the write itself
                os.utime(self.path)

    def is_held(self) -> bool:
        """Whether another holder lives; also True for a second lock within this process."""
        if self._file is not None or not self.path.exists():
            return self._file is not None
        if self._held_elsewhere():
            return True
        try:
            with open(self.path, "rb+") as file:
                return not _lock(file)
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def remove(self) -> None:
        """The run is whole: take the lock file away, then let go."""
        if sys.platform == "win32":  # an open file can't be removed there
            self.release()
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let go; a lock file left behind says that the run needs repair."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _holder(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _held_elsewhere(self) -> bool:
        """Locks don't always reach across a network share; a heartbeat does."""
        host = self._holder().get("host")
        if host is None or host == socket.gethostname():
            return False
        before = self._pulse()
        until = time.monotonic() + HEARTBEAT
        while time.monotonic() < until:
            time.sleep(0.1)
            if self._pulse() != before:
                return True
        return False

    def _pulse(self) -> tuple[int, int]:
        try:
            return self.path.stat().st_mtime_ns, self.run.stat().st_size
        except OSError:
            return 0, 0

    def _refusal(self) -> RecordError:
        holder = self._holder()
        who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
        return RecordError(f"{self.run}: {who} is writing it; close that run first")


_FAR = 1 << 30  # the locked byte; beyond the text, which Windows would make unreadable


def _lock(file: BinaryIO) -> bool:
    """Try to lock an open file; the system lets go when this process ends, however it ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if sys.platform == "win32":
            return False
        raise RecordError(f"{file.name}: can't be locked ({error}); record to a disk that knows locks") from error
    return True


# --- the superblock ---------------------------------------------------------------------------

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Superblock:
    """The first bytes of an HDF5 file (specification, section II.A, versions 2 and 3).

    Signature 8, version 1, size of offsets 1, size of lengths 1, consistency flags 1, then four
    addresses (base, extension, end of file, root group) and the checksum of all that, 4 bytes.
    """

    position: int
    raw: bytes

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The superblock, or None if this is no HDF5 file."""
        try:
            with open(path, "rb") as file:
                for position in _positions(path.stat().st_size):
                    file.seek(position)
                    raw = file.read(8 + 4 + 4 * 8 + 4)
                    if raw.startswith(_SIGNATURE) and len(raw) >= 12:
                        size = 12 + 4 * raw[9] + 4
                        return cls(position, raw[:size] if raw[8] >= 2 else raw[:12])
        except FileNotFoundError as error:
            raise RecordError(f"{path}: no such run; check the name") from error
        return None

    @property
    def version(self) -> int:
        return int(self.raw[8])

    @property
    def flags(self) -> int:
        """0: closed. Bit 0: open for writing. Bit 2: by an SWMR writer. (Versions below 2 have none.)"""
        return int(self.raw[11]) if self.version >= 2 else 0

    @property
    def end_of_file(self) -> int:
        return int.from_bytes(self.raw[28:36], "little")

    @property
    def is_sound(self) -> bool:
        return len(self.raw) == 48 and int.from_bytes(self.raw[-4:], "little") == lookup3(self.raw[:-4])

    def closed(self, end_of_file: int) -> bytes:
        """The same superblock with its flags cleared and the end of file where it is."""
        body = bytearray(self.raw[:-4])
        body[11] = 0
        struct.pack_into("<Q", body, 12 + 2 * 8, end_of_file)
        return bytes(body) + struct.pack("<I", lookup3(bytes(body)))


def lookup3(key: bytes) -> int:
    """Bob Jenkins' lookup3 hash (`hashlittle`, start value 0), the checksum HDF5 puts on its metadata."""
    a = b = c = (0xDEADBEEF + len(key)) & _M
    blocks = max(len(key) - 1, 0) // 12  # the last 1 to 12 bytes are mixed in differently
    for block in range(blocks):
        x, y, z = struct.unpack_from("<III", key, 12 * block)
        a, b, c = (a + x) & _M, (b + y) & _M, (c + z) & _M
        for turn in (4, 6, 8, 16, 19, 4):  # mix: a, b, c change places each turn
            a = (a - c) & _M
            a ^= _rotated(c, turn)
            c = (c + b) & _M
            a, b, c = b, c, a
    if not key:
        return c
    x, y, z = struct.unpack("<III", key[12 * blocks :].ljust(12, b"\0"))
    a, b, c = (a + x) & _M, (b + y) & _M, (c + z) & _M
    for turn in (14, 11, 25, 16, 4, 14, 24):  # final: c, a, b take turns
        c = ((c ^ b) - _rotated(b, turn)) & _M
        a, b, c = b, c, a
    return int(b)  # after seven turns the last c stands in b


_M = 0xFFFFFFFF


def _rotated(word: int, by: int) -> int:
    return ((word << by) | (word >> (32 - by))) & _M


def _positions(size: int) -> Iterator[int]:
    """A superblock stands at byte 0, 512, 1024, 2048, ... (section II.A)."""
    position = 0
    while position < size:
        yield position
        position = position * 2 or 512


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
        fill_empty(file)
        if "part" in file[layout.EVENTS]:
            _trim(file[layout.EVENTS], trimmed, notes)
        last = max(last, _latest(file[layout.EVENTS]["time"]))
    return frames, readings, trimmed, last


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
    from .reader import open_run

    with open_run(path) as recording:
        results = realign(recording)
        kinds = {name: recording.signals[name].kind for name in recording.signals}
    with _opened(path) as file:
        start = int(file[f"{RUN}/start_time"][()])
        for camera, result in results.items():
            write_alignment(file, camera, aligned_rows(result.columns, kinds), result.times, start)
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


def cameras(file: h5py.File) -> list[str]:
    """The cameras of a run, in the plan's order."""
    groups = file.get(layout.CAMERAS, {})
    return sorted(groups, key=lambda name: int(groups[name].attrs["place"]))


def growing(group: h5py.Group) -> list[h5py.Dataset]:
    """The columns that live in this group or in the groups below (not those it links to)."""
    found: list[h5py.Dataset] = []
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.SoftLink):
            item = group[name]
            if isinstance(item, h5py.Group):
                found += growing(item)
            elif item.maxshape[:1] == (None,):
                found.append(item)
    return found


def _trim(group: h5py.Group, trimmed: dict[str, int], notes: list[str]) -> int:
    """Cut every column of a table to the rows that all of them have."""
    datasets = growing(group)
    count = min(int(dataset.shape[0]) for dataset in datasets)
    key = next(group[name] for name in ("indices_image", "time") if name in group)
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
