"""What a Merlin says on its control port: requests, replies, error codes and the acquisition header.

Sources, none of them the manual itself (MerlinEM User Manual; not public):
[AD]   areaDetector ADMerlin, mpxConnection.cpp and merlin_low.h: in use at real detectors for years
[TD]   DiamondLightSource/tickit-devices, merlin/parameters.py and commands.py: Diamond's simulation
[LL]   LiberTEM-live 0.3, detectors/merlin/{control,sim}.py
[MI]   merlin_interface (pixstem's), merlin_interface.py
[IN]   instamatic, camera/camera_merlin.py

A message is ``MPX,<length>,<body>``: ten digits, and the length counts the comma before the body [AD
mpxRead, LL sim.get_mpx_header]. Nothing ends it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

PREFIX = b"MPX,"
PREFIX_SIZE = 15
"""``MPX,0000000000,``"""
LONGEST = 1 << 26
"""Bytes beyond which a length is taken for noise; four chips at 24 bit are 1 MB."""

_START = re.compile(rb"MPX,(\d{1,10}),")


class Code(IntEnum):
    """How a request fared [TD, LL, MI agree; AD numbers them one higher from 1 on and has an "unknown error"]."""

    OK = 0
    BUSY = 1
    """Nothing can be set while it acquires [MI startacquisition]."""
    UNKNOWN = 2
    RANGE = 3


MEANING: dict[int, str] = {
    Code.BUSY: "busy; stop the acquisition first (in the Merlin software, if it was begun there)",
    Code.UNKNOWN: "does not know that; check the version of the Merlin software",
    Code.RANGE: "parameter out of range; change the value",
}


class State(IntEnum):
    """DETECTORSTATUS [TD]."""

    IDLE = 0
    BUSY = 1
    STANDBY = 2


class TriggerStart(IntEnum):
    """TRIGGERSTART and TRIGGERSTOP [MI triggerstart]; 1 to 4 and 6 to 9 are external."""

    INTERNAL = 0
    SOFT = 5


@dataclass(frozen=True, slots=True)
class Reply:
    """``GET,<name>,<value>,<code>``; ``SET`` and ``CMD`` answer without a value [AD, TD, LL]."""

    verb: str
    name: str
    value: str
    code: int

    @property
    def meaning(self) -> str:
        """The code in words."""
        return MEANING.get(self.code, "not in the list of codes; see the Merlin software's own messages")


def request(verb: str, name: str, value: str | None = None) -> bytes:
    """The body of a request."""
    return ",".join((verb, name) if value is None else (verb, name, value)).encode("ascii")


def parse_request(body: bytes) -> tuple[str, str, str] | None:
    """Verb, name and value ("" if none); None if it is no request at all, which gets no reply [TD parse_request]."""
    parts = body.decode("latin1").strip("\r\n ").split(",", 2)
    if len(parts) < 2 or parts[0].upper() not in ("GET", "SET", "CMD"):
        return None
    return parts[0].upper(), parts[1].strip(), parts[2].strip() if len(parts) == 3 else ""


def reply(verb: str, name: str, value: str | None, code: int) -> bytes:
    """The body of a reply."""
    parts = (verb, name, str(int(code))) if value is None else (verb, name, value, str(int(code)))
    return ",".join(parts).encode("latin1")


def parse_reply(body: bytes) -> Reply:
    """Take a reply apart; ValueError if it is none. A value may contain commas."""
    parts = body.decode("latin1").split(",")
    verb, least = parts[0].upper(), 4 if parts[0].upper() == "GET" else 3
    if verb not in ("GET", "SET", "CMD") or len(parts) < least:
        raise ValueError(f"{body[:60]!r} is no reply of a Merlin")
    return Reply(verb, parts[1], ",".join(parts[2:-1]), int(parts[-1]))


def answers(body: bytes, verb: str, name: str) -> bool:
    """Whether this reply is the one to that request: replies repeat verb and name."""
    return body.upper().startswith(f"{verb},{name},".upper().encode("ascii"))


class Mpx:
    """``MPX,<length>,<body>``, both directions; skips what is no message, as [AD mpxRead] does.

    Lengths written with fewer digits are understood: [IN] and others send them.
    """

    def __init__(self) -> None:
        self._buffer = b""

    def encode(self, message: bytes) -> bytes:
        return b"MPX,%010d,%b" % (len(message) + 1, message)

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        messages: list[bytes] = []
        while (match := _START.search(self._buffer)) is not None:
            length = int(match[1])
            if not 1 < length <= LONGEST:
                self._buffer = self._buffer[match.start() + 1 :]
                continue
            end = match.end() - 1 + length
            if len(self._buffer) < end:
                self._buffer = self._buffer[match.start() :]
                return messages
            messages.append(self._buffer[match.end() : end])
            self._buffer = self._buffer[end:]
        self._buffer = self._buffer[-PREFIX_SIZE:]
        return messages

    def reset(self) -> None:
        self._buffer = b""


# The acquisition header: lines of "key:<tab>value", padded with blanks [LL AcquisitionHeader.from_raw
# and the header in its tests/detectors/merlin; TD acq_header: 2049 with the comma].
HEADER_SIZE = 2048


def acquisition_header(values: dict[str, str]) -> bytes:
    """The body of the message that opens every acquisition on the data port."""
    lines = ["HDR,\t", *(f"{key}:\t{value}" for key, value in values.items()), "End\t"]
    return "\n".join(lines).encode("latin1").ljust(HEADER_SIZE)


def parse_acquisition_header(body: bytes) -> dict[str, str]:
    """Its values by key."""
    found = {}
    for line in body.decode("latin1").split("\n")[1:]:
        key, colon, value = line.partition(":\t")
        if colon:
            found[key.strip()] = value.strip()
    return found
