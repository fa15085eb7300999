"""Columns of a file: how they are made, which grow, what stands for the unknown, texts of a fixed width."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from .layout import CAMERAS, UNKNOWN_TIME


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


def cameras(file: h5py.File) -> list[str]:
    """The cameras of a run, in the plan's order."""
    groups = file.get(CAMERAS, {})
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


def make_group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    """A group of this NeXus class."""
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def growing_column(
    group: h5py.Group, name: str, dtype: Any, chunk: int, units: str, fill: Any, long_name: str, **how: Any
) -> None:
    """An empty column that can grow."""
    if isinstance(dtype, np.dtype) and dtype.kind == "S":
        dtype = h5py.string_dtype("utf-8", dtype.itemsize)
        fill = None
    dataset = group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(chunk,), fillvalue=fill, **how)
    dataset.attrs["long_name"] = long_name
    if units:
        dataset.attrs["units"] = units
