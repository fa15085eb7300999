"""The messages of a home-made frame server: a JSON part that says what follows, then the pixels as they lie in memory.

    {"type": "frame", "number": 17, "time": 1767225600000000000, "exposure": 900000,
     "shape": [256, 256], "dtype": "uint16"}                              then 131,072 bytes

number    counts exposures (int); which number is the first is a setting of the driver
time      start of the exposure on the source's own clock, ns (int); leave it out if there is none
exposure  its length, ns (int); leave it out if it is not known
period    from one exposure to the next, ns (int), where they follow a beat and have no time
shape     rows, columns
dtype     numpy's name of the pixel type; little-endian unless it says otherwise (">u2")
series    (int) counts acquisitions; when it changes, numbers begin anew

Several frames may share a message: then number (and time) are lists, and shape is [n, rows, columns]. A
message without pixels (shape left out, one part) tells times and numbers only. Unknown keys are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hal.frames.chunk import FrameChunk
from hal.protocols.zmtp import Message

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Frames:
    """What one message tells. `ticks` is None where the source stamps nothing."""

    series: int | None
    number: Int64
    ticks: Int64 | None
    exposure_ns: int
    images: NDArray[Any]
    arrival: int

    @property
    def chunk(self) -> FrameChunk:
        """As the camera takes it; frames without a time are stamped with their arrival."""
        n = len(self.number)
        arrival = np.full(n, self.arrival)
        return FrameChunk.raw(
            self.images, self.number, arrival if self.ticks is None else self.ticks, np.full(n, self.exposure_ns),
            arrival,
        )  # fmt: skip


def encode(
    number: int | Sequence[int],
    pixels: NDArray[Any] | None,
    *,
    time: int | Sequence[int] | None = None,
    exposure: int | None = None,
    period: int | None = None,
    series: int | None = None,
) -> list[bytes]:
    """The parts of a message: what a server sends."""
    given = {"time": time, "exposure": exposure, "period": period, "series": series}
    head: dict[str, Any] = {"type": "frame", "number": number}
    head |= {key: value for key, value in given.items() if value is not None}
    if pixels is None:
        return [json.dumps(head).encode()]
    head |= {"shape": list(pixels.shape), "dtype": np.dtype(pixels.dtype).newbyteorder("<").str}
    return [json.dumps(head).encode(), pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()]


def decode(message: Message, *, images: bool = True) -> Frames | None:
    """Take a message apart; None if it is of another type. ValueError says what is wrong with it.

    Without `images` the pixels are left where they are.
    """
    try:
        head = json.loads(bytes(message.parts[0]))
        if head.get("type") != "frame":
            return None
        number = np.atleast_1d(np.array(head["number"], np.int64))
        ticks = None
        if head.get("time") is not None:
            ticks = np.atleast_1d(np.array(head["time"], np.int64))
        elif head.get("period") is not None:
            ticks = number * int(head["period"])
        exposure, series = int(head.get("exposure") or 0), head.get("series")
        pixels = np.zeros((len(number), 0, 0), np.uint8)
        if images and len(message.parts) > 1:
            shape = tuple(int(side) for side in head["shape"])
            dtype = np.dtype(str(head["dtype"]))
            shape = (1, *shape) if len(shape) == 2 else shape
            raw = np.frombuffer(message.parts[1], dtype.newbyteorder("<") if dtype.byteorder == "=" else dtype)
            pixels = raw.reshape(shape).astype(dtype.newbyteorder("="))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(
            f"a frame message can't be read ({error}); compare it with docs/reference/frame-sources.md"
        ) from None
    if number.ndim != 1 or len(pixels) != len(number) or (ticks is not None and ticks.shape != number.shape):
        raise ValueError(
            f"a frame message has {number.size} numbers, {len(pixels)} images and "
            f"{'no' if ticks is None else ticks.size} times; give one of each per frame"
        )
    return Frames(series, number, ticks, exposure, pixels, message.arrival)
