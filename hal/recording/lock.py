"""Who writes a run: a lock file beside it, with a heartbeat for other computers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import RecordError

HEARTBEAT = 3.0  # s; a writer on another computer touches its lock file well within this


def is_being_written(path: str | os.PathLike[str]) -> bool:
    """Whether a living process holds this run open for writing (or is repairing it)."""
    return WriterLock(Path(path)).is_held()


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
