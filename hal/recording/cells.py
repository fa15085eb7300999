"""How one value stands in the file: fillers for what is unknown, texts of a fixed width."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .layout import UNKNOWN_TIME


def unknown(dtype: np.dtype[Any]) -> Any:
    return {"f": np.nan, "i": UNKNOWN_TIME if dtype.itemsize == 8 else -1, "b": False, "S": b""}.get(dtype.kind, 0)


def encoded(texts: npt.ArrayLike, width: int) -> list[bytes]:
    return [slices(t.decode() if isinstance(t, bytes) else str(t), width)[0] for t in np.atleast_1d(np.asarray(texts))]


def slices(text: str, width: int) -> list[bytes]:
    """UTF-8 in pieces of at most `width` bytes, no character cut in two."""
    whole = text.encode()
    pieces: list[bytes] = []
    while len(whole) > width:
        cut = width
        while whole[cut] & 0xC0 == 0x80:  # inside a character
            cut -= 1
        pieces.append(whole[:cut])
        whole = whole[cut:]
    return [*pieces, whole]
