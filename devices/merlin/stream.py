"""A Merlin's data port: frames in blocks of bytes, taken out and put in by numpy, a batch at a time.

A frame is ``MPX,<length>,MQ1,<number>,<size of header>,<chips>,<x>,<y>,<U08|U16|U32>,<layout>,<chip
select>,<local time>,<exposure s>,<counter>,<colour mode>,<gain>,<8 thresholds>,<3RX and 27 DACs per
chip>,MQ1A,<UTC with ns>Z,<exposure>ns,<depth>,`` padded with NUL to 384 bytes (one chip), then the
pixels, big-endian. Verified against libertem_qd_mpx base_types.rs and its test
`test_parse_frame_header_example_1_single`, LiberTEM io/dataset/mib.py, rosettasciio
quantumdetector/_api.py, and the headers of software 0.65.8 to 0.77 quoted in fpd's fpd_file.py.

Unverified: that the time stamp marks the *start* of the exposure, and how numbers beyond 999999 are
written (here: in as many digits as it takes). Very old software gave every frame of an acquisition
the same time stamp (areaDetector's ADMerlin, parseDataFrame): such frames get no valid time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hal.frames.chunk import FrameChunk

from .codec import LONGEST, PREFIX, PREFIX_SIZE, parse_acquisition_header

Bytes = NDArray[np.uint8]
Int64 = NDArray[np.int64]

PIXELS = {b"U08": ">u1", b"U16": ">u2", b"U32": ">u4"}
TYPES = {1: "U08", 6: "U08", 12: "U16", 24: "U32"}
"""Pixel type by counter depth (bits)."""

_MESSAGE = re.compile(rb"MPX,\d{10},(?:MQ1|HDR)")
_KIND = slice(PREFIX_SIZE, PREFIX_SIZE + 3)
_COMMA, _ZERO = ord(","), ord("0")


@dataclass(frozen=True, slots=True)
class AcquisitionBegins:
    """An acquisition header: numbers start over."""

    values: dict[str, str]


class FrameStream:
    """Takes bytes with their time of arrival as they come; gives frames by the batch.

    ``garbage`` counts bytes that belonged to no whole message, ``garbled`` frames with an unreadable header.
    """

    def __init__(self) -> None:
        self.garbage = self.garbled = 0
        self._pieces: list[bytes] = []
        self._arrivals: list[int] = []

    def feed(self, data: bytes, arrival: int) -> None:
        """Bytes that were here at `arrival` (lab time, ns)."""
        self._pieces.append(data)
        self._arrivals.append(arrival)

    def take(self) -> list[AcquisitionBegins | FrameChunk]:
        """What is complete by now, in order. ValueError for a format that is not supported."""
        if not self._pieces:
            return []
        data = b"".join(self._pieces)
        ends = np.cumsum([len(piece) for piece in self._pieces])
        arrivals = np.array(self._arrivals, np.int64)
        out: list[AcquisitionBegins | FrameChunk] = []
        at = 0
        while len(data) - at >= PREFIX_SIZE + 3:
            length = _length(data, at)
            if length is None:
                at = self._resume(data, at + 1)
                continue
            whole = (len(data) - at) // length
            if whole == 0:
                break
            if data[at + PREFIX_SIZE : at + PREFIX_SIZE + 3] != b"MQ1":
                out.append(AcquisitionBegins(parse_acquisition_header(data[at + PREFIX_SIZE : at + length])))
                at += length
                continue
            block = np.frombuffer(data, np.uint8, whole * length, at).reshape(whole, length)
            alike = (block[:, : _KIND.stop] == block[0, : _KIND.stop]).all(axis=1)
            n = whole if alike.all() else int(np.argmin(alike))
            following = data[at + n * length : at + n * length + len(PREFIX)]
            if following != PREFIX[: len(following)]:
                n -= 1  # bytes are missing inside: it took the beginning of the next for its end
            if n:
                last = at + length * np.arange(1, n + 1) - 1
                out += self._frames(block[:n], arrivals[np.searchsorted(ends, last, side="right")])
                at += n * length
            else:
                at = self._resume(data, at + 1)
        self._keep(data[at:], ends, arrivals)
        return out

    # -------------------------------------------------------------------------------- private

    def _resume(self, data: bytes, at: int) -> int:
        """Where the next message may begin."""
        match = _MESSAGE.search(data, at)
        found = match.start() if match else max(at, len(data) - PREFIX_SIZE - 2)
        self.garbage += found - at + 1
        return found

    def _keep(self, rest: bytes, ends: Int64, arrivals: Int64) -> None:
        # Only the last byte of a frame counts, and it is yet to come.
        self._pieces, self._arrivals = ([rest], [int(arrivals[-1])]) if rest else ([], [])

    def _frames(self, block: Bytes, arrivals: Int64) -> list[FrameChunk]:
        """Frames of one size; rows whose headers are laid out alike are read together."""
        out = []
        while len(block):
            layout = _Layout.of(block[0])
            if layout is None:
                self.garbled += 1
                block, arrivals = block[1:], arrivals[1:]
                continue
            n = layout.run(block)
            number, ticks, exposure, good = layout.read(block[:n])
            images, when = layout.images(block[:n]), arrivals[:n]
            if not good.all():
                self.garbled += int(n - good.sum())
                images, number, ticks, exposure, when = (
                    images[good], number[good], ticks[good], exposure[good], when[good],
                )  # fmt: skip
            out.append(FrameChunk.raw(images, number, ticks, exposure, when))
            block, arrivals = block[n:], arrivals[n:]
        return out


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the fields of a header are."""

    header: int  # bytes, after the prefix
    commas: NDArray[np.bool_]
    fixed: slice  # what must be equal from frame to frame: sizes, pixel type, layout
    number: slice
    time: slice
    exposure: slice
    to_ns: int  # the exposure's digits, times this, are ns
    pixel: str
    shape: tuple[int, int]

    @classmethod
    def of(cls, row: Bytes) -> _Layout | None:
        """From one frame; None if its header can't be read. ValueError if its format is not supported."""
        body = row[PREFIX_SIZE:].tobytes()
        try:
            size = int(body.split(b",", 3)[2])
            fields = body[:size].split(b",")
            rows, columns = int(fields[5]), int(fields[4])
            extended = fields.index(b"MQ1A") if b"MQ1A" in fields else 0
        except (ValueError, IndexError):
            return None
        pixel = PIXELS.get(fields[6])
        if pixel is None:
            raise ValueError(
                f"frames of type {fields[6].decode('latin1')!r} are not supported; set the file format to binary (0)"
            )
        if rows * columns * np.dtype(pixel).itemsize != len(body) - size:
            return None
        starts = np.cumsum([0] + [len(field) + 1 for field in fields])

        def place(field: int, cut: int = 0) -> slice:
            return slice(int(starts[field]), int(starts[field + 1]) - 1 - cut)

        if extended:  # "2020-05-18T14:51:49.971626178Z", "555000ns" (0.65.8 wrote nS)
            time, exposure, to_ns = place(extended + 1, 1), place(extended + 2, 2), 1
        else:  # "2020-05-18 16:51:49.971626", "0.000555"
            time, exposure, to_ns = place(9), place(10), 10 ** (9 - len(fields[10].partition(b".")[2]))
        commas = row[PREFIX_SIZE : PREFIX_SIZE + size] == _COMMA
        return cls(
            size, commas, slice(int(starts[2]), int(starts[8])), place(1), time, exposure, to_ns, pixel, (rows, columns)
        )

    def run(self, block: Bytes) -> int:
        """How many frames from the first on are laid out like this."""
        head = block[:, PREFIX_SIZE : PREFIX_SIZE + self.header]
        alike = ((head == _COMMA) == self.commas).all(axis=1)
        alike &= (head[:, self.fixed] == head[0, self.fixed]).all(axis=1)
        return len(block) if alike.all() else max(int(np.argmin(alike)), 1)

    def read(self, block: Bytes) -> tuple[Int64, Int64, Int64, NDArray[np.bool_]]:
        """Numbers, ticks, exposures in ns, and which rows are readable."""
        head = block[:, PREFIX_SIZE : PREFIX_SIZE + self.header]
        number, good = _digits(head[:, self.number])
        ticks, stamped = _moments(head[:, self.time])
        text = head[:, self.exposure]
        exposure, timed = _digits(text[:, text[0] != ord(".")])
        return number, ticks, exposure * self.to_ns, good & stamped & timed

    def images(self, block: Bytes) -> NDArray[Any]:
        """The pixels in this machine's byte order, copied out of the receive buffer."""
        pixels = np.ascontiguousarray(block[:, PREFIX_SIZE + self.header :]).view(self.pixel)
        native = pixels.astype(np.dtype(self.pixel).newbyteorder("="), copy=False)
        return native.reshape(len(block), *self.shape)


class FrameWriter:
    """Frames as a Merlin sends them, one shape and exposure; for the emulator."""

    def __init__(self, rows: int, columns: int, depth: int, exposure_ns: int) -> None:
        self.depth = depth
        thresholds = ",".join(["2.000000E+1", "5.110000E+2"] + ["0.000000E+0"] * 6)
        dacs = (
            "3RX,175,511" + ",000" * 6 + ",125,255,125,125,100,100,082,100,087,030,128,004,255,129,128,176,168,511,511"
        )
        self._text = (
            f"00384,01,{columns:04},{rows:04},{TYPES[depth]},   1x1,01,%s,{exposure_ns * 1e-9:.6f},0,0,0,"
            f"{thresholds},{dacs},MQ1A,%sZ,{exposure_ns}ns,{depth},"
        )
        self._pixel = np.dtype(PIXELS[TYPES[depth].encode()])
        self._pixels = rows * columns * self._pixel.itemsize
        self._templates: dict[int, tuple[Bytes, int, int]] = {}

    def frames(self, numbers: Int64, ticks: Int64, pixels: NDArray[Any]) -> list[Bytes]:
        """Whole messages as rows, in one array per width of the number."""
        out, at = [], 0
        while at < len(numbers):
            width = max(6, len(str(numbers[at])))
            stop = int(np.searchsorted(numbers, 10**width)) if width > 6 or numbers[-1] > 999_999 else len(numbers)
            part = slice(at, stop)
            template, local, utc = self._template(width)
            block = np.empty((stop - at, template.size + self._pixels), np.uint8)
            block[:, : template.size] = template
            block[:, 19 : 19 + width] = (numbers[part, None] // 10 ** np.arange(width - 1, -1, -1)) % 10 + _ZERO
            text = np.datetime_as_string(ticks[part].view("M8[ns]")).astype("S29").view(np.uint8).reshape(-1, 29)
            block[:, utc : utc + 29] = text
            block[:, local : local + 26] = text[:, :26]
            block[:, local + 10] = ord(" ")
            raw = pixels[part].astype(self._pixel, copy=False).reshape(stop - at, -1)
            block[:, template.size :] = raw.view(np.uint8)
            out.append(block)
            at = stop
        return out

    def _template(self, width: int) -> tuple[Bytes, int, int]:
        if width not in self._templates:
            local, utc = "2000-01-01 00:00:00.000000", "2000-01-01T00:00:00.000000000"
            header = f"MQ1,{0:0{width}},{self._text % (local, utc)}"
            text = f"MPX,{384 + self._pixels + 1:010},{header}".encode("ascii")
            template = np.frombuffer(text.ljust(PREFIX_SIZE + 384, b"\0"), np.uint8)
            self._templates[width] = template, text.index(local.encode()), text.index(utc.encode())
        return self._templates[width]


def _length(data: bytes, at: int) -> int | None:
    """Bytes of the message that begins here, prefix included; None if none does."""
    digits = data[at + 4 : at + 14]
    if data[at : at + 4] != PREFIX or not digits.isdigit() or data[at + PREFIX_SIZE - 1] != _COMMA:
        return None
    if data[at + PREFIX_SIZE : at + PREFIX_SIZE + 3] not in (b"MQ1", b"HDR"):
        return None
    length = int(digits)
    return PREFIX_SIZE - 1 + length if 4 < length <= LONGEST else None


def _digits(text: Bytes) -> tuple[Int64, NDArray[np.bool_]]:
    """Decimal numbers of equal width, (n, width), and which rows are digits throughout."""
    figures = text - np.uint8(_ZERO)
    powers = 10 ** np.arange(text.shape[1] - 1, -1, -1, dtype=np.int64)
    return figures.astype(np.int64) @ powers, np.asarray((figures <= 9).all(axis=1))


def _moments(text: Bytes) -> tuple[Int64, NDArray[np.bool_]]:
    """ISO times with a fraction, (n, width), in ns since 1970."""
    fraction = text.shape[1] - 20
    columns = np.array([*range(4), 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, *range(20, 20 + fraction)])
    figures = text[:, columns] - np.uint8(_ZERO)
    good = (figures <= 9).all(axis=1)
    f = figures.astype(np.int64)
    year, month, day = f[:, :4] @ np.array([1000, 100, 10, 1]), f[:, 4] * 10 + f[:, 5], f[:, 6] * 10 + f[:, 7]
    good &= (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    months = (year - 1970) * 12 + month - 1
    days = months.view("M8[M]").astype("M8[D]").view(np.int64) + day - 1
    clock = f[:, 8:14] @ np.array([36000, 3600, 600, 60, 10, 1])
    part = f[:, 14:] @ (10 ** np.arange(8, 8 - fraction, -1, dtype=np.int64))
    return (days * 86_400 + clock) * 1_000_000_000 + part, good
