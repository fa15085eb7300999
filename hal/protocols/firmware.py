"""The wire of our own microcontroller: framed messages, replies told by number, streams. No I/O; both directions.

A message is a header (version and flags, type, sequence, channel), at most 240 bytes of payload and a
CRC-16; on the wire it is stuffed (COBS), so that a zero byte ends it and nothing else does. Whatever
happens to the bytes costs the messages they belong to and no other.

Commands act exactly once: a host that hears nothing sends *the same bytes again*, with the same
sequence number; the firmware remembers its last replies and repeats the reply, not the act. So every
command here is idempotent on the wire, whatever it does.

Streams are not acknowledged. Blocks are numbered and carry how many were dropped before them; the
host grants credits, and a board without credit drops and counts rather than wait. `Sorter` takes
them out of what arrives; sample blocks become arrays without an object per sample.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from .firmware_gen import (
    HEADER_SIZE,
    INCOMING,
    PAYLOAD_MAX,
    VERSION,
    Captures,
    Event,
    Incoming,
    Refused,
    Request,
    Samples,
    Telemetry,
)
from .framing import Identifies

REPLY = 0x80
"""Added to a command's type in its reply."""
LONGEST = HEADER_SIZE + PAYLOAD_MAX + 2 + 2
"""Bytes of a message on the wire: stuffing adds one to so short a message, and a zero ends it."""

END_OF_TIME = 1 << 62
"""No board counts so many ticks; a number beyond is none of its clock's."""

Int64 = NDArray[np.int64]


# ---------------------------------------------------------------------- messages and bytes


def stuff(data: bytes) -> bytes:
    """COBS: the same without zeros, one byte longer. At most 253 bytes, as all our messages are."""
    return b"".join([bytes((len(part) + 1,)) + part for part in data.split(b"\0")])


def unstuff(data: bytes) -> bytes | None:
    """Undo `stuff`; None if that is not what it was."""
    out = bytearray(data)
    n, at = len(out), 0
    while at < n:
        code = out[at]
        if not code:
            return None
        out[at] = 0
        at += code
    return bytes(out[1:]) if at == n else None


def frame(message: bytes) -> bytes:
    """The bytes that carry `message` (header and payload)."""
    if not HEADER_SIZE <= len(message) <= HEADER_SIZE + PAYLOAD_MAX:
        raise ValueError(f"a message of {len(message)} bytes; it has {HEADER_SIZE} to {HEADER_SIZE + PAYLOAD_MAX}")
    return stuff(message + crc_hqx(message, 0xFFFF).to_bytes(2, "little")) + b"\0"


def unframe(piece: bytes) -> bytes | None:
    """The message in what stood between two zeros; None if it was damaged."""
    if not HEADER_SIZE + 3 <= len(piece) < LONGEST:
        return None
    data = unstuff(piece)
    if data is None or crc_hqx(data[:-2], 0xFFFF) != data[-2] | data[-1] << 8:
        return None
    return data[:-2]


def command(request: Request[object], sequence: int, channel: int = 0) -> bytes:
    """The message that carries a request. Sent again with the same number it acts no second time."""
    return bytes((VERSION << 4, request.TYPE, sequence & 0xFF, channel)) + request.pack()


def reply_to(message: bytes) -> Identifies:
    """Return a test for the reply to the command `message`, be it carried out or refused."""
    kind, sequence = message[1], message[2]

    def fits(reply: bytes) -> bool:
        if reply[2] != sequence:
            return False
        if reply[1] == Refused.TYPE:
            return len(reply) > HEADER_SIZE and reply[HEADER_SIZE] == kind
        return reply[1] == kind | REPLY

    return Identifies(fits, numbered=True)


def parse(message: bytes) -> Incoming:
    """What the board said. Raises ValueError where it does not fit the definition."""
    known = INCOMING.get(message[1])
    if known is None:
        raise ValueError(f"no message has the type 0x{message[1]:02X}")
    return known.unpack(message[HEADER_SIZE:])


class FirmwareFraming:
    """Messages on the wire, for a session or the board's end of it."""

    def __init__(self) -> None:
        self._rest = b""
        self.damaged = 0
        """Messages spoilt on the wire."""

    def encode(self, message: bytes) -> bytes:
        return frame(message)

    def feed(self, data: bytes) -> list[bytes]:
        *pieces, self._rest = (self._rest + data).split(b"\0")
        if len(self._rest) > LONGEST:
            self._rest = self._rest[:LONGEST]  # noise without end: enough of it to be found damaged
        found = []
        for piece in pieces:
            if (message := unframe(piece)) is not None:
                found.append(message)
            elif piece:
                self.damaged += 1
        return found

    def reset(self) -> None:
        self._rest = b""


# ---------------------------------------------------------------------- streams


@dataclass(frozen=True, slots=True)
class SampleChunk:
    """Samples of a stretch of blocks, as arrays: m instants of c inputs in b blocks."""

    boot: int
    """The epoch of the ticks: the board's boot id."""
    channels: tuple[int, ...]
    """The inputs, in the order of the columns."""
    period: int
    """Ticks between instants."""
    ticks: Int64
    """(m,) of each instant, on the board's clock."""
    counts: NDArray[np.int16]
    """(m, c) as converted."""
    number: Int64
    """(b,) of each block."""
    dropped: Int64
    """(b,) samples the board had dropped or missed before each block, since the stream began."""
    flags: NDArray[np.uint8]
    """(b,) `SampleFlag` of each block."""
    arrival: int
    """Lab time, ns, when the last of it was here."""
    volts_per_count: float

    def __len__(self) -> int:
        return len(self.ticks)

    @property
    def volts(self) -> NDArray[np.float64]:
        """(m, c) at the inputs; NaN where the converter gave no value (a negative count)."""
        return np.where(self.counts < 0, np.nan, self.counts * self.volts_per_count)


@dataclass(frozen=True, slots=True)
class EdgeChunk:
    """Captured edges, as arrays of shape (m,)."""

    boot: int
    ticks: Int64
    channel: NDArray[np.uint8]
    rising: NDArray[np.bool_]
    index: Int64
    """Of each edge since the stream began, those dropped by the board counted."""
    number: Int64
    """(b,) of each block."""
    dropped: int
    """Edges the board had dropped before the last block, since the stream began."""
    overrun: int
    """Edges its hardware saw and could not stamp."""
    arrival: int

    def __len__(self) -> int:
        return len(self.ticks)


class Sorter:
    """Everything that arrives: replies go on to the session, streams to the listeners, as arrays."""

    def __init__(
        self,
        *,
        now: Callable[[], int],
        samples: Callable[[SampleChunk], object] = lambda chunk: None,
        edges: Callable[[EdgeChunk], object] = lambda chunk: None,
        told: Callable[[Telemetry | Event], object] = lambda message: None,
    ) -> None:
        self._now, self._samples, self._edges, self._told = now, samples, edges, told
        self._rest = b""
        self.boot = 0
        """Whose ticks these are; whoever says HELLO sets it."""
        self.volts_per_count = 0.0
        """Of the samples; whoever says HELLO sets it."""
        self.damaged = 0
        """Messages spoilt on the wire, or not as defined."""
        self.foreign = 0
        """Another version of the framing that was heard; 0: none."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they arrive; return those of replies."""
        *pieces, self._rest = (self._rest + data).split(b"\0")
        if len(self._rest) > LONGEST:
            self._rest = self._rest[:LONGEST]
        replies, samples, edges = [], [], []
        for piece in pieces:
            message = unframe(piece)
            if message is None:
                self.damaged += bool(piece)
            elif message[0] >> 4 != VERSION:
                self.foreign = message[0] >> 4
            elif message[1] == Samples.TYPE:
                samples.append(message)
            elif message[1] == Captures.TYPE:
                edges.append(message)
            elif message[1] in (Telemetry.TYPE, Event.TYPE):
                self._tell(message)
            else:
                replies.append(piece + b"\0")
        arrival = self._now()
        for run in _runs(samples):
            for chunk in sample_chunks(run, self.boot, arrival, self.volts_per_count):
                self._samples(chunk)
        for run in _runs(edges):
            if (found := edge_chunk(run, self.boot, arrival)) is not None:
                self._edges(found)
        return b"".join(replies)

    def reset(self) -> None:
        """Forget a message begun: another wire."""
        self._rest = b""

    def _tell(self, message: bytes) -> None:
        try:
            told = parse(message)
        except ValueError:
            self.damaged += 1
            return
        assert isinstance(told, Telemetry | Event)
        if told.ticks < END_OF_TIME:
            self._told(told)
        else:
            self.damaged += 1


def _runs(blocks: list[bytes]) -> Iterator[list[bytes]]:
    """Blocks whose numbers rise: where they do not, one was repeated, or the stream begun anew."""
    run: list[bytes] = []
    last = -1
    for block in blocks:
        number = int.from_bytes(block[HEADER_SIZE : HEADER_SIZE + 4], "little")
        if number <= last:
            if block == run[-1]:
                continue
            yield run
            run = []
        run.append(block)
        last = number
    if run:
        yield run


def sample_chunks(
    messages: list[bytes], boot: int, arrival: int, volts_per_count: float = 0.0
) -> Iterator[SampleChunk]:
    """Sample blocks as arrays: those of one length, inputs and period together. What does not fit is left out."""
    for length, run in groupby(messages, len):
        size = length - _SAMPLES_HEAD
        if size <= 0 or size % 2:
            continue
        blocks = np.frombuffer(b"".join(run), _sample_block(size // 2))
        blocks = blocks[(blocks["n"] == size // 2) & (blocks["ticks"] < END_OF_TIME)]
        changes = np.flatnonzero((np.diff(blocks["mask"]) != 0) | (np.diff(blocks["period"].astype(np.int64)) != 0)) + 1
        for part in np.split(blocks, changes) if len(changes) else (blocks,):
            channels = _channels(int(part["mask"][0])) if len(part) else ()
            if not channels or (size // 2) % len(channels):
                continue
            period, instants = int(part["period"][0]), size // 2 // len(channels)
            ticks = part["ticks"].astype(np.int64)[:, None] + np.arange(instants, dtype=np.int64) * period
            yield SampleChunk(
                boot, channels, period, ticks.reshape(-1), part["counts"].reshape(-1, len(channels)),
                part["number"].astype(np.int64), part["dropped"].astype(np.int64), part["flags"], arrival,
                volts_per_count,
            )  # fmt: skip


def edge_chunk(messages: list[bytes], boot: int, arrival: int) -> EdgeChunk | None:
    """Captured edges as arrays; None if there is none that fits the definition."""
    parts, index, number = [], [], []
    dropped = overrun = 0
    for message in messages:
        head = np.frombuffer(message, _CAPTURES_HEAD, 1)[0] if len(message) >= _CAPTURES_HEAD.itemsize else None
        if head is None or len(message) != _CAPTURES_HEAD.itemsize + int(head["n"]) * _EDGE.itemsize:
            continue
        part = np.frombuffer(message, _EDGE, offset=_CAPTURES_HEAD.itemsize)
        if not len(part) or part["ticks"].max() >= END_OF_TIME:
            continue
        parts.append(part)
        index.append(int(head["first"]) + np.arange(len(part), dtype=np.int64))
        number.append(int(head["number"]))
        dropped, overrun = int(head["dropped"]), int(head["overrun"])
    if not parts:
        return None
    edges = np.concatenate(parts)
    return EdgeChunk(
        boot, edges["ticks"].astype(np.int64), edges["channel"], edges["rising"] != 0, np.concatenate(index),
        np.array(number, np.int64), dropped, overrun, arrival,
    )  # fmt: skip


_HEADER: list[tuple[str, str]] = [("version", "u1"), ("type", "u1"), ("sequence", "u1"), ("channel", "u1")]
_SAMPLES_FIELDS: list[tuple[str, str]] = [
    ("number", "<u4"), ("ticks", "<u8"), ("period", "<u4"), ("mask", "<u2"), ("dropped", "<u4"), ("flags", "u1"),
    ("n", "u1"),
]  # fmt: skip
_SAMPLES_HEAD = np.dtype([*_HEADER, *_SAMPLES_FIELDS]).itemsize
_CAPTURES_HEAD = np.dtype(
    [*_HEADER, ("number", "<u4"), ("first", "<u4"), ("dropped", "<u4"), ("overrun", "<u4"), ("n", "u1")]
)
_EDGE = np.dtype([("ticks", "<u8"), ("channel", "u1"), ("rising", "u1")])


@cache
def _sample_block(n: int) -> np.dtype[np.void]:
    return np.dtype([*_HEADER, *_SAMPLES_FIELDS, ("counts", "<i2", (n,))])


@cache
def _channels(mask: int) -> tuple[int, ...]:
    return tuple(bit for bit in range(16) if mask >> bit & 1)
