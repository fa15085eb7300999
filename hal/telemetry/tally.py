"""The tally: how many readings there were and how many are safe, in a file that outlives a killed program.

The file is mapped into memory: to count is to write a number there, and the system brings it to disk
whatever becomes of the program. The next session reads what the last one left.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import HalError

MAGIC = int.from_bytes(b"HALTLY01", "little")
CELLS = 16
SIZE = 8 * CELLS
_FAR = 1 << 30  # the locked byte; beyond the content, which Windows would make unreadable


class OutboxInUse(HalError):
    """Another program has this outbox."""


def _cell(index: int, doc: str) -> Any:
    def get(self: Tally) -> int:
        return int(self._cells[index])

    def put(self: Tally, value: int) -> None:
        self._cells[index] = value

    return property(get, put, doc=doc)


class Tally:
    """Counters of an outbox; each is kept the moment it is set."""

    acquired: int = _cell(1, "Readings of this session that were to be published.")
    settled: int = _cell(2, "Of those, how many the broker or the disk has.")
    running: int = _cell(3, "1 from the beginning of a session to its end; still 1 after a kill.")
    place: int = _cell(4, "Up to where the broker has the outbox: number of the segment << 40 | offset in it.")
    lost_at_kill: int = _cell(5, "Readings lost because a session was killed, since the outbox was made; at most.")
    dropped_size: int = _cell(6, "Messages dropped because the outbox was at its size.")
    dropped_age: int = _cell(7, "Messages dropped because they had waited for too long.")
    dropped_full: int = _cell(8, "Messages dropped because the disk took nothing and memory was full.")

    def __init__(self, memory: Any, file: Any = None) -> None:
        """Use `open` or `in_memory`."""
        self._memory, self._file = memory, file
        self._cells: Any = memoryview(memory).cast("Q")

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
            if os.fstat(file.fileno()).st_size != SIZE:
                file.truncate(0)
                file.write(bytes(SIZE))  # written, not only made longer: a full disk must show here, not at a count
            tally = cls(mmap.mmap(file.fileno(), SIZE), file)
        except BaseException:
            file.close()
            raise
        if tally._cells[0] != MAGIC:
            for index in range(CELLS):
                tally._cells[index] = MAGIC if index == 0 else 0
        return tally

    def begin(self) -> int:
        """Begin a session; return how many readings the one before may have lost because it was killed."""
        lost = max(0, self.acquired - self.settled) if self.running else 0
        self.lost_at_kill += lost
        self.acquired = self.settled = 0
        self.running = 1
        return lost

    def close(self) -> None:
        """End the session, and let others have the file."""
        self.running = 0
        self._cells.release()
        if self._file is not None:
            self._memory.flush()
            self._memory.close()
            self._file.close()
        self._memory = bytearray(SIZE)
        self._cells = memoryview(self._memory).cast("Q")


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
