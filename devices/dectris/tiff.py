"""One image as a TIFF file, as the monitor of a DECTRIS detector sends it: one strip, not compressed.

Source: TIFF 6.0, sections 2 and 4 (grey scale).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORT, LONG = 3, 4
HEADER = 8


def encode(image: NDArray[np.generic[Any]]) -> bytes:
    """Pixels of 8, 16 or 32 bit, without sign."""
    rows, columns = image.shape
    pixels = image.astype(image.dtype.newbyteorder("<")).tobytes()
    fields = [
        (256, LONG, columns), (257, LONG, rows), (258, SHORT, image.itemsize * 8),
        (259, SHORT, 1),  # not compressed
        (262, SHORT, 1),  # 0 is black
        (273, LONG, HEADER), (277, SHORT, 1), (278, LONG, rows), (279, LONG, len(pixels)),
        (339, SHORT, 1),  # without sign
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    pad = bytes(len(pixels) % 2)
    where = HEADER + len(pixels) + len(pad)
    head = b"II" + struct.pack("<HI", 42, where)
    return head + pixels + pad + struct.pack("<H", len(fields)) + entries + bytes(4)
