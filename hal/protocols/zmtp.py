"""How ZeroMQ puts messages on a TCP connection (ZMTP 3.0, https://rfc.zeromq.org/spec/23): just enough to be one end.

Frames are stamped when their bytes arrive, a pulled cable shows at once, and the same emulators run in
memory; a ZeroMQ library would hide all three behind its own thread. Security is that of ZMTP's NULL
mechanism: none, as detectors use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = 64
"""Bytes: signature, version 3.0, mechanism, as-server, filler (ZMTP 3.0, "Framing")."""
MORE, LONG, COMMAND = 1, 2, 4
"""Bits of a frame's first byte."""
LONGEST = 1 << 28
"""Bytes beyond which a frame's size is taken for noise."""
HANDSHAKE = 0.1
"""Seconds an emulated server leaves to whoever connects: libzmq hangs up on a message that comes with the handshake."""
PARTNERS = {
    "PULL": ("PUSH",), "SUB": ("PUB", "XPUB"), "PUSH": ("PULL",), "PUB": ("SUB", "XSUB"),
    "REQ": ("REP", "ROUTER"), "REP": ("REQ", "DEALER"),
}  # fmt: skip
"""Which kind of socket each kind talks to."""


@dataclass(frozen=True, slots=True)
class Message:
    """Its parts, and when its last byte was here (lab time, ns)."""

    parts: list[memoryview]
    arrival: int


def frame(body: bytes, flags: int = 0) -> bytes:
    """One frame."""
    if len(body) > 255:
        return bytes((flags | LONG,)) + len(body).to_bytes(8, "big") + body
    return bytes((flags, len(body))) + body


def message(parts: Sequence[bytes]) -> bytes:
    """A message of one or more parts."""
    return b"".join(frame(part, MORE) for part in parts[:-1]) + frame(parts[-1])


def hello(kind: str) -> bytes:
    """What an end says first: the greeting and its READY command.

    Nothing in it depends on the other end, so it is sent in one go.
    """
    greeting = SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
    ready = b"\x05READY" + _property(b"Socket-Type", kind.encode("ascii")) + _property(b"Identity", b"")
    return greeting + frame(ready, COMMAND)


class Receiver:
    """One end of a connection: takes bytes with their arrival as they come, gives whole messages by the batch."""

    def __init__(self, kind: str, *, greeted: bool = False) -> None:
        """`greeted`: the handshake is behind us, or there is none."""
        self.kind = kind
        self.replies: list[bytes] = []
        """What is to be sent back: answers to heartbeats, and a SUB's wish for everything."""
        self._greeted = self._ready = greeted
        self._pieces: list[bytes] = []
        self._arrivals: list[int] = []
        self._parts: list[memoryview] = []

    @property
    def ready(self) -> bool:
        """Whether both ends have greeted."""
        return self._ready

    def forget(self) -> None:
        """Forget a message begun."""
        self._pieces, self._arrivals, self._parts = [], [], []

    def feed(self, data: bytes, arrival: int) -> None:
        """Bytes that were here at `arrival` (lab time, ns)."""
        self._pieces.append(data)
        self._arrivals.append(arrival)

    def take(self) -> list[Message]:
        """The messages complete by now. ValueError if the other end speaks something else."""
        if not self._pieces:
            return []
        data = b"".join(self._pieces) if len(self._pieces) > 1 else self._pieces[0]
        view, size, at = memoryview(data), len(data), 0
        if not self._greeted:
            self._check_greeting(data)
            if size < GREETING:
                return []
            self._greeted, at = True, GREETING
        out: list[list[memoryview]] = []
        ends: list[int] = []
        parts = self._parts
        while size - at >= 2:
            flags = data[at]
            if flags & LONG:
                if size - at < 9:
                    break
                length, begin = int.from_bytes(data[at + 1 : at + 9], "big"), at + 9
            else:
                length, begin = data[at + 1], at + 2
            if flags > MORE | LONG | COMMAND or length > LONGEST:
                raise ValueError("bytes that are no ZeroMQ frame; is another program on this port?")
            end = begin + length
            if end > size:
                break
            at = end
            if flags & COMMAND:
                self._command(data[begin:end])
                continue
            if not self._ready:
                raise ValueError("a message before the ZeroMQ handshake; is another program on this port?")
            parts.append(view[begin:end])
            if not flags & MORE:
                out.append(parts)
                ends.append(end)
                parts = []
        # Parts of a message begun point into bytes that go on living with them.
        self._parts = parts
        arrivals = self._arrived(ends)
        self._pieces, self._arrivals = ([data[at:]], [self._arrivals[-1]]) if at < size else ([], [])
        return [Message(parts, arrival) for parts, arrival in zip(out, arrivals, strict=True)]

    # -------------------------------------------------------------------------------- private

    def _arrived(self, ends: list[int]) -> list[int]:
        """When each message's last byte came."""
        if len(self._pieces) == 1:
            return [self._arrivals[0]] * len(ends)
        borders = np.cumsum([len(piece) for piece in self._pieces])
        at = np.searchsorted(borders, np.array(ends, np.int64) - 1, side="right")
        arrivals: list[int] = np.array(self._arrivals, np.int64)[at].tolist()
        return arrivals

    def _check_greeting(self, data: bytes) -> None:
        head = data[:GREETING]
        if (
            head[:1] != SIGNATURE[: len(head[:1])]
            or head[9:10] not in (b"", b"\x7f")
            or (len(head) > 10 and head[10] < 3)
            or (len(head) >= 32 and head[12:32].rstrip(b"\0") != b"NULL")
        ):
            raise ValueError(
                f"{bytes(head[:16])!r} is no greeting of ZeroMQ 4 without encryption; check host and port of the stream"
            )

    def _command(self, body: bytes) -> None:
        name, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
        if name == b"READY":
            kind = _properties(rest).get("socket-type", "")
            if kind not in PARTNERS[self.kind]:
                raise ValueError(f"its socket is of kind {kind}, which does not talk to {self.kind}; choose the other")
            self._ready = True
            if self.kind == "SUB":  # not before: libzmq hangs up on a message that comes with the handshake
                self.replies.append(frame(b"\x01"))
        elif name == b"ERROR":
            raise ValueError(f"it refuses the connection: {rest[1:].decode('latin1')}")
        elif name == b"PING":  # ZMTP 3.1: a time to live of two bytes, and a context to be sent back
            self.replies.append(frame(b"\x04PONG" + rest[2:], COMMAND))


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


def _properties(data: bytes) -> dict[str, str]:
    found, at = {}, 0
    while at < len(data):
        name = data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
        length = int.from_bytes(data[at : at + 4], "big")
        found[name.decode("latin1").lower()] = data[at + 4 : at + 4 + length].decode("latin1")
        at += 4 + length
    return found
