"""Segments: the files of the outbox, a message a line, each with a checksum."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".waiting"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message of the outbox, as read; or, without a topic, a gap where nothing can be read any more."""

    topic: str
    payload: bytes
    segment: int
    """0: from memory."""
    end: int
    """Where the next one begins, bytes from the beginning of its segment."""
    lines: int
    """How many lines it is; 0: all that are left of the segment."""


def line(topic: str, payload: bytes) -> bytes:
    """A message as it waits: ``checksum<TAB>topic<TAB>payload``. Neither topic nor JSON has a line's end in it."""
    text = topic.encode() + b"\t" + payload
    return b"%08x\t%s\n" % (zlib.crc32(text), text)


def taken_apart(line: bytes) -> tuple[str, bytes] | None:
    """Topic and payload of a line, with or without its end; None: it is not as it was written."""
    checksum, _, text = line.rstrip(b"\n").partition(b"\t")
    if b"%08x" % zlib.crc32(text) != checksum:
        return None
    topic, _, payload = text.partition(b"\t")
    return topic.decode(), payload


class Segment:
    """One file of the outbox."""

    __slots__ = ("begun", "done", "lines", "newest", "number", "path", "size")

    def __init__(self, path: Path, number: int, now: float) -> None:
        self.path, self.number = path, number
        self.size = self.lines = self.done = 0
        self.begun = self.newest = now

    @classmethod
    def found(cls, path: Path, number: int, place: int) -> Segment:
        """One that an earlier session left and that is done up to `place`, bytes. Raises `OSError`."""
        there = path.stat()
        segment = cls(path, number, there.st_mtime)
        segment.size = there.st_size
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                segment.lines += block.count(b"\n")
                segment.done += block[: max(0, place)].count(b"\n")
                place -= len(block)
        return segment

    def read(self, start: int, size: int, most: int) -> tuple[list[Waiting], int]:
        """The messages from `start` on, `most` bytes of them or one; and where the next begins.

        `size`: where what was written ends. Raises `OSError`.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read(min(most, size - start))
                while b"\n" not in data and (more := file.read(min(most, size - start - len(data)))):
                    data += more
        except FileNotFoundError:  # dropped meanwhile, or deleted by somebody
            if not self.path.parent.is_dir():  # a disk that was pulled out may come back
                raise
            data = b""
        found: list[Waiting] = []
        end = start
        for each in data.split(b"\n")[:-1]:
            end += len(each) + 1
            topic, payload = taken_apart(each) or ("", b"")
            found.append(Waiting(topic, payload, self.number, end, 1))
        if not found and start < size:  # it was cut short, or ends in the midst of a line
            return [Waiting("", b"", self.number, size, 0)], size
        return found, end
