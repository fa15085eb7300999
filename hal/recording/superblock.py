"""The first bytes of an HDF5 file, where a writer leaves its mark: read and mended without the library."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..errors import RecordError

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
