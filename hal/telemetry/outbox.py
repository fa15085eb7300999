"""The outbox: readings that wait on disk while the broker is away, and are sent as history when it is back.

Theory of operation. Readings are appended to segments, files with a number that only grows. They are
read again in the same order; what the broker has acknowledged is noted in the tally, so that after a
restart, or a kill, sending goes on where it was. Each line has a checksum: one that is not as it was
written is counted and not sent. Segments that are done are deleted; beyond the bounds in size and age
the oldest are dropped, and counted. What can't be written because the disk is full waits in memory,
bounded and counted as well, as everything does if the outbox has no folder.

`append` and `tidy` belong to one thread, `read` may run on another, and `confirm`, `rewind` and
`status` never touch the disk.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .segment import SUFFIX, Segment, Waiting, taken_apart
from .tally import Tally

SIZE = 1024.0
"""MB that may wait, unless the lab file says otherwise."""
AGE = 30.0
"""Days that a reading may wait, unless the lab file says otherwise."""
MEMORY = 8 << 20
"""Bytes that may wait in memory where there is no folder, or its disk is full."""
SEGMENTS = 16
"""Into how many segments the size, and the age, is divided at least: so much of it is dropped at once."""
LARGEST = 16 << 20  # bytes in a segment
TALLY = "tally"
SILENT = 5.0
"""Seconds a disk may take before it is said to hang."""


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """How much waits, and what was lost since the outbox was made."""

    waiting: int = 0
    """Messages."""
    dropped_size: int = 0
    """Messages dropped because the outbox was at its size."""
    dropped_age: int = 0
    """Messages dropped because they had waited for too long."""
    dropped_full: int = 0
    """Messages dropped because the disk took nothing and memory was full."""
    damaged: int = 0
    """Messages that were on disk and can't be read any more."""
    lost_at_kill: int = 0
    """Readings that a session held in memory when it was killed; at most."""
    full: bool = False
    """Whether the disk takes nothing at the moment."""
    reason: str = ""
    """What is wrong and what to do; empty when all is well."""


class Outbox:
    """Messages that wait, oldest first."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        size: float = SIZE,
        age: float = AGE,
        memory: int = MEMORY,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Open the outbox in `folder`, made if need be, with what an earlier session left; None: in memory.

        `size`: MB at most. `age`: days at most. `memory`: bytes at most in memory.
        `clock`: s since 1970; as the system's own, but a correction of that makes nothing old at once.
        Raises `OSError`, `OutboxInUse`.
        """
        begun = time.time() - time.monotonic()
        self.folder = folder
        self._bound, self._age, self._memory = int(size * 1e6), age * 86400, memory
        self._clock = clock or (lambda: begun + time.monotonic())
        self._largest = max(4096, min(self._bound // SEGMENTS, LARGEST))
        self._lock = threading.Lock()
        self._segments: deque[Segment] = deque()
        self._file: int | None = None  # the last segment, while it is written
        self._fresh: deque[bytes] = deque()  # not on disk
        self._fresh_bytes = 0
        self._loan: deque[bytes] = deque()  # of these, what was read and is not confirmed
        self._writing = False  # whether what waits in memory is going to disk now
        self._busy: float | None = None  # since when the disk is being waited for, by the monotonic clock
        self._reading = (0, 0)
        self.turn = 0
        """How often it was rewound."""
        self.full = False
        self.reason = ""
        self.lost = 0
        """Readings that the session before may have lost because it was killed."""
        if folder is None:
            self.tally = Tally.in_memory()
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self.tally = Tally.open(folder / TALLY)
            self._find(folder)
        self.lost = self.tally.begin()
        self.rewind()

    # ------------------------------------------------------------------ the thread that writes

    def append(self, lines: Sequence[bytes]) -> None:
        """Put `lines` (of `line`) behind all others. What the disk won't take waits in memory; see `full`."""
        with self._lock:
            self._fresh.extend(lines)
            self._fresh_bytes += sum(map(len, lines))
        self.tidy()

    def tidy(self) -> None:
        """Write what waits in memory, delete what is done, drop what is too much or too old."""
        if self.folder is not None:
            self._busy = time.monotonic()
            self._write(self.folder)
            self._drop()
            with suppress(OSError):  # the next time, then
                self.tally.save()
            self._busy = None
        with self._lock:
            while self._fresh and self._fresh_bytes > self._memory:
                self._fresh_bytes -= len(self._fresh.popleft())
                if self.folder is None:
                    self.tally.dropped_size += 1
                else:
                    self.tally.dropped_full += 1

    def close(self, *, write: bool = True) -> None:
        """Write what waits in memory and end the session."""
        if write:
            with self._lock:
                self._fresh.extendleft(reversed(self._loan))
                self._loan.clear()
            self.tidy()
            if self.folder is not None:
                self.tally.dropped_full += len(self._fresh)  # the disk has not taken them, and memory ends here
        self._end_segment()
        self.tally.close()

    # ------------------------------------------------------------------ any thread

    def read(self, most: int = 1 << 16, turn: int | None = None) -> list[Waiting]:
        """The next messages, `most` bytes of them or one; empty if nothing waits, or if it was rewound since `turn`.

        Blocks as long as a disk does.
        """
        turn = self.turn if turn is None else turn
        while True:
            with self._lock:
                if turn != self.turn:
                    return []
                segment = next((s for s in self._segments if s.number >= self._reading[0]), None)
                if segment is None:
                    return self._lend(most)
                start = self._reading[1] if segment.number == self._reading[0] else 0
                size, last = segment.size, segment is self._segments[-1]
            try:
                found, end = segment.read(start, size, most)
            except OSError:  # of the whole machine, such as too many open files: nothing is lost, perhaps it passes
                return []
            with self._lock:
                if turn != self.turn:  # it was rewound meanwhile
                    return []
                if end > start:
                    self._reading = segment.number, end
                elif last and segment is self._segments[-1]:
                    self._reading = segment.number, size
                    return self._lend(most)
                else:
                    self._reading = segment.number + 1, 0
            if found:
                return found

    def confirm(self, message: Waiting) -> None:
        """The broker has it and all before it; of a gap: it can't be had."""
        with self._lock:
            if message.segment == 0:
                if self._loan:
                    self._fresh_bytes -= len(self._loan.popleft())
                return
            for segment in self._segments:
                if segment.number > message.segment:
                    break
                part = segment.number == message.segment and message.lines > 0
                lines = message.lines if part else segment.lines - segment.done
                segment.done += lines
                if not (part and message.topic):
                    self.tally.damaged += lines
            self.tally.place = message.segment << 40 | message.end

    def rewind(self) -> None:
        """Read again from the first message that is not confirmed; a reading under way gives nothing."""
        with self._lock:
            self.turn += 1
            self._fresh.extendleft(reversed(self._loan))
            self._loan.clear()
            self._reading = self.tally.place >> 40, self.tally.place & (1 << 40) - 1

    @property
    def waiting(self) -> int:
        """Messages that are not confirmed."""
        with self._lock:
            return sum(s.lines - s.done for s in self._segments) + len(self._fresh) + len(self._loan)

    @property
    def unread(self) -> bool:
        """Whether `read` has something, as far as can be told without the disk."""
        with self._lock:
            if self._fresh:
                return True
            number, offset = self._reading
            return any(s.number > number or (s.number == number and s.size > offset) for s in self._segments)

    def status(self) -> OutboxStatus:
        """How much waits, and what was lost."""
        tally, full, reason = self.tally, self.full, self.reason
        if (since := self._busy) is not None and time.monotonic() > since + SILENT:
            full, reason = True, self._said("the disk does not answer", "see to the disk")
        return OutboxStatus(
            self.waiting, tally.dropped_size, tally.dropped_age, tally.dropped_full + tally.dropped_hung,
            tally.damaged, tally.lost_at_kill, full, reason,
        )  # fmt: skip

    # ------------------------------------------------------------------ private

    def _find(self, folder: Path) -> None:
        """What an earlier session left."""
        place = self.tally.place
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            try:
                number = int(path.name.removesuffix(SUFFIX))
                segment = Segment.found(path, number, place & (1 << 40) - 1 if number == place >> 40 else 0)
            except (OSError, ValueError):
                continue
            if number < place >> 40 or segment.done >= segment.lines:
                path.unlink(missing_ok=True)
            else:
                self._segments.append(segment)

    def _lend(self, most: int) -> list[Waiting]:
        lent: list[Waiting] = []
        while self._fresh and most > 0 and not self._writing:
            line = self._fresh.popleft()
            most -= len(line)
            self._loan.append(line)
            topic, payload = taken_apart(line) or ("", b"")
            lent.append(Waiting(topic, payload, 0, 0, 1))
        return lent

    def _write(self, folder: Path) -> None:
        with self._lock:
            if not self._fresh and not self._loan:
                self.full, self.reason = False, ""  # as far as anybody needs it
            if not self._fresh or self._loan:  # what is lent is older, and may have to be read again first
                return
            lines = list(self._fresh)
        try:
            while lines:
                segment = self._open(folder)
                room, taken = self._largest - segment.size, 0
                for line in lines:
                    taken += 1
                    room -= len(line)
                    if room <= 0:
                        break
                if not self._append(segment, lines[:taken]):
                    return
                del lines[:taken]
                if room <= 0:
                    self._end_segment()
        except OSError as error:
            self._trouble(error)
        else:
            self.full, self.reason = False, ""

    def _open(self, folder: Path) -> Segment:
        now = self._clock()
        if self._file is not None:
            segment, there = self._segments[-1], os.fstat(self._file)
            if there.st_size == segment.size and there.st_nlink and now - segment.begun < self._age / SEGMENTS:
                return segment  # and else somebody has cut it short, or deleted it, or it is time for a new one
            self._end_segment()
        numbers = [(self.tally.place >> 40), self._reading[0], *(s.number for s in self._segments)]
        number = max(numbers) + 1
        while (path := folder / f"{number:08d}{SUFFIX}").exists():  # one that could not be read
            number += 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._file = os.open(path, flags, 0o644)
        segment = Segment(path, number, now)
        with self._lock:
            self._segments.append(segment)
        return segment

    def _append(self, segment: Segment, lines: list[bytes]) -> bool:
        """Write whole lines or none; return False if a reader was faster, so that they must stay in memory."""
        assert self._file is not None
        data = b"".join(lines)
        with self._lock:
            if self._loan or not self._fresh or self._fresh[0] is not lines[0]:
                return False
            self._writing = True
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
            with self._lock:
                segment.size += len(data)
                segment.lines += len(lines)
                segment.newest = self._clock()
                for _ in lines:
                    self._fresh_bytes -= len(self._fresh.popleft())
        except OSError:
            if written:
                os.ftruncate(self._file, segment.size)
            raise
        finally:
            self._writing = False
        return True

    def _end_segment(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _trouble(self, error: OSError) -> None:
        self.full, self.reason = True, self._said(error.strerror or str(error), "make room on the disk")

    def _said(self, why: str, remedy: str) -> str:
        return (
            f"the outbox {self.folder} can't be written ({why}); readings wait in memory, "
            f"and the oldest are lost beyond that: {remedy}, or bring the broker back"
        )

    def _drop(self) -> None:
        """Delete what is done; drop the oldest beyond the bounds."""
        now = self._clock()
        while True:
            with self._lock:
                if not self._segments:
                    return
                oldest = self._segments[0]
                left = oldest.lines - oldest.done
                total = sum(s.size for s in self._segments)
                if left > 0 and total > self._bound and len(self._segments) > 1:
                    self.tally.dropped_size += left
                elif left > 0 and now - oldest.newest > self._age:
                    self.tally.dropped_age += left
                elif left > 0:
                    return
                self._segments.popleft()
                ends = not self._segments
            if ends:
                self._end_segment()
            try:
                oldest.path.unlink(missing_ok=True)
            except OSError:  # a reader has it open (Windows); the next session finds it done, or sends it again
                pass
