"""The EEPROM's pages: 32 bytes each, the first of them a checksum that makes the page's sum 0 modulo 256.

VTI EMX-4016B manual, appendix C, figure C-7-4; checked with the memory dump in Dewetron's TRION API manual, "TEDS
Interface" (pages 80 1F 40 62 ... and 46 C1 0E C3 ...).
"""

from __future__ import annotations

from ..errors import TedsError

PAGE = 32
"""Bytes of a page, checksum included."""
ROOM = PAGE - 1


def to_pages(data: bytes, size: int = 4 * PAGE) -> bytes:
    """A data sheet as an EEPROM of `size` bytes holds it (DS2431: 128). Raises `TedsError` if it has no room."""
    pages = size // PAGE
    if len(data) > pages * ROOM:
        raise TedsError(f"the data sheet takes {len(data)} bytes, and the EEPROM has room for {pages * ROOM}")
    data = data.ljust(pages * ROOM, b"\0")
    parts = [data[ROOM * i : ROOM * (i + 1)] for i in range(pages)]
    return b"".join(bytes([-sum(part) % 256]) + part for part in parts)


def from_pages(memory: bytes) -> bytes:
    """The data sheet in an EEPROM's bytes. Raises `TedsError`: blank, cut off, or a wrong checksum."""
    if not memory or len(memory) % PAGE:
        raise TedsError(f"an EEPROM of {PAGE}-byte pages can't have {len(memory)} bytes; was it read to its end?")
    if set(memory) <= {0xFF} or set(memory) <= {0x00}:
        raise TedsError("the EEPROM is blank; write a data sheet into it")
    found = b""
    for number in range(len(memory) // PAGE):
        page = memory[PAGE * number : PAGE * (number + 1)]
        if set(page) == {0xFF}:  # never written: nothing of the data sheet can come after it
            break
        if sum(page) % 256:
            raise TedsError(f"page {number} of the EEPROM has a wrong checksum; read it again, or write it anew")
        found += page[1:]
    return found
