"""The tally: how many readings there were and how many are safe, kept where it outlives a killed program.

Theory of operation. To count is to write a number to shared memory, which no disk can slow, let alone
stop: a file of a disk mapped into memory ends the whole program by a signal when that disk is full, torn
out, or cut short by somebody. What a killed session left in shared memory the next one finds. From time
to time `save` brings it to the disk, for after a power cut: then at most what came since is uncounted, or
sent twice. The file has a checksum; one that is not right is begun anew.
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import HalError

MAGIC = int.from_bytes(b"HALTLY02", "little")
CELLS = 16
SIZE = 8 * CELLS
_FAR = 1 << 30  # the locked byte; beyond the content, which Windows would make unreadable
_MEMORY = Path("/dev/shm")  # elsewhere the folder for temporary files, on the machine's own disk


class OutboxInUse(HalError):
    """Another program has this outbox."""


def _cell(index: int, doc: str) -> Any:
    def get(self: Tally) -> int:
        return int(self._cells[index])

    def put(self: Tally, value: int) -> None:
        self._cells[index] = value

    return property(get, put, doc=doc)


class Tally:
    """Counters of an outbox; each outlives the program from the moment it is set."""

    acquired: int = _cell(1, "Readings of this session that were to be published.")
    settled: int = _cell(2, "Of those, how many the broker or the disk has, or are among the dropped.")
    running: int = _cell(3, "1 from the beginning of a session to its end; still 1 after a kill.")
    place: int = _cell(4, "Up to where the broker has the outbox: number of the segment << 40 | offset in it.")
    lost_at_kill: int = _cell(5, "Readings lost because a session was killed, since the outbox was made; at most.")
    dropped_size: int = _cell(6, "Messages dropped because the outbox was at its size.")
    dropped_age: int = _cell(7, "Messages dropped because they had waited for too long.")
    dropped_full: int = _cell(8, "Messages dropped because the disk took nothing and memory was full.")
    dropped_hung: int = _cell(9, "Messages dropped because the disk did not answer and memory was full.")
    damaged: int = _cell(10, "Messages that were on disk and can't be read any more.")
    session: int = _cell(11, "Which session this is.")

    def __init__(self, memory: Any, file: Any = None, live: Path | None = None) -> None:
        """Use `open` or `in_memory`."""
        self._memory, self._file, self._live = memory, file, live
        self._cells: Any = memoryview(memory).cast("Q")
        self._saved = b""

    @classmethod
    def in_memory(cls) -> Tally:
        """One that is forgotten."""
        return cls(bytearray(SIZE))

    @classmethod
    def open(cls, path: Path) -> Tally:
        """Open or make the file, and keep others from it. Raises `OSError`, `OutboxInUse`."""
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644), "r+b", 0)
        try:
            _lock(file, path)
            left = _checked(file.read(SIZE + 8))
            memory, live = _shared(session := secrets.randbits(63))
            memory[:] = left or bytes(SIZE)
            tally = cls(memory, file, live)
            tally._cells[0], tally.session = MAGIC, session
            tally.save()  # a full disk shows here
        except BaseException:
            file.close()
            raise
        return tally

    def begin(self) -> int:
        """Begin a session; return how many readings the one before may have lost because it was killed."""
        lost = max(0, self.acquired - self.settled) if self.running else 0
        self.lost_at_kill += lost
        self.acquired = self.settled = 0
        self.running = 1
        self.save()
        return lost

    def save(self) -> None:
        """Bring it to the disk, for after a power cut; takes as long as a disk does. Raises `OSError`."""
        content = bytes(self._memory)
        if self._file is None or content == self._saved:
            return
        self._file.seek(0)
        self._file.write(content + zlib.crc32(content).to_bytes(8, "little"))
        self._saved = content

    def close(self) -> None:
        """End the session, and let others have the file."""
        self.running = 0
        content = bytearray(self._memory)
        with suppress(OSError):
            self.save()
        self._cells.release()
        if isinstance(self._memory, mmap.mmap):
            self._memory.close()
        if self._live is not None:
            with suppress(OSError):
                self._live.unlink()
        if self._file is not None:
            self._file.close()
        self._memory, self._file, self._live = content, None, None
        self._cells = memoryview(content).cast("Q")


def _checked(content: bytes) -> bytes | None:
    """What the session before has left, on the disk or, if it was killed, in shared memory; None: nothing of use."""
    kept = content[:SIZE]
    if len(content) != SIZE + 8 or zlib.crc32(kept) != int.from_bytes(content[SIZE:], "little"):
        return None
    cells = memoryview(kept).cast("Q")
    if cells[0] != MAGIC:
        return None
    live = _live(cells[11])
    with suppress(OSError):
        left = live.read_bytes()
        live.unlink()
        if len(left) == SIZE and (after := memoryview(left).cast("Q"))[11] == cells[11] and after[1] >= cells[1]:
            return left
    return kept


def _live(session: int) -> Path:
    return (_MEMORY if _MEMORY.is_dir() else Path(tempfile.gettempdir())) / f"insitu-outbox-{session:016x}"


def _shared(session: int) -> tuple[Any, Path | None]:
    """Memory that outlives the program, and the file it is; where there is none, memory as any other."""
    live = _live(session)
    try:
        with os.fdopen(os.open(live, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b") as file:
            file.write(bytes(SIZE))  # so that there is room for it: to find out later would be too late
            file.flush()
            return mmap.mmap(file.fileno(), SIZE), live
    except (OSError, ValueError):
        with suppress(OSError):
            live.unlink()
        return bytearray(SIZE), None


def _lock(file: Any, path: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, BlockingIOError) or sys.platform == "win32":
            raise OutboxInUse(
                f"telemetry: another lab uses the outbox {path.parent}; give each a folder of its own"
            ) from None
        raise OSError(f"{path} can't be locked ({error})") from error
