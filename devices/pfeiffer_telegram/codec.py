"""Pfeiffer's telegrams: address, action, parameter, length, data, checksum, CR, all in printable digits.

Sources: the open driver pfeiffer-vacuum-protocol 1.0 (D), written after the operating instructions of
the gauges ("Pfeiffer Vacuum protocol for RS-485"), whose pages were not read for this driver. Pumps
and their drives speak the same telegrams.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hal.protocols.framing import Lines

READ, CONTROL = 0, 1
QUESTION = "=?"
REFUSALS = {
    "NO_DEF": "it has no such parameter",
    "_RANGE": "the value is out of range",
    "_LOGIC": "it can't be read, or not be set, at present",
}

# Parameters of gauges (D).
ERROR, FIRMWARE, NAME, PRESSURE, VACUUM_SETPOINT, CORRECTION = 303, 312, 349, 740, 741, 742
NO_ERROR = "000000"
FAULTS = {"Err001": "its transmitter is defective", "Err002": "its memory is defective"}
GAUGES = {"A1": "CPT 100", "A2": "RPT 100", "A3": "PPT 100", "A4": "HPT 100", "A5": "MPT 100"}

_TELEGRAM = re.compile(r"(\d{3})([01])0(\d{3})(\d{2})(.*)(\d{3})", re.DOTALL)


def framing() -> Lines:
    """Either end's."""
    return Lines(b"\r")


def checksum(text: str) -> int:
    """Sum of the characters' codes, modulo 256 (D)."""
    return sum(text.encode("latin-1")) % 256


@dataclass(frozen=True, slots=True)
class Telegram:
    """One message of either direction. A question is a READ with the data ``=?``; answers are CONTROL."""

    address: int
    action: int
    parameter: int
    data: str

    def encode(self) -> bytes:
        text = f"{self.address:03d}{self.action}0{self.parameter:03d}{len(self.data):02d}{self.data}"
        return f"{text}{checksum(text):03d}".encode("latin-1")

    @classmethod
    def decode(cls, message: bytes) -> Telegram:
        """Raises ValueError, also of a wrong length or checksum."""
        text = message.decode("latin-1")
        found = _TELEGRAM.fullmatch(text) if message.isascii() else None
        if found is None or int(found[4]) != len(found[5]):
            raise ValueError(f"{message!r} is no telegram")
        if int(found[6]) != checksum(text[:-3]):
            raise ValueError(f"{message!r} has a wrong checksum")
        return cls(int(found[1]), int(found[2]), int(found[3]), found[5])


def encode_pressure(pascal: float) -> str:
    """Four digits and an exponent: ``100023`` is 1000 hPa (D: mantissa times 10^(exponent - 26) bar)."""
    if pascal <= 0.0:
        return "000000"
    mantissa, exponent = f"{pascal:.3e}".split("e")
    digits, power = mantissa.replace(".", ""), int(exponent) + 18
    if power < 0:
        return "000000"
    if power > 99:
        raise ValueError(f"{pascal:g} Pa is more than a telegram can say")
    return f"{digits}{power:02d}"


def decode_pressure(data: str) -> float:
    """Pa; raises ValueError."""
    if not (len(data) == 6 and data.isascii() and data.isdecimal()):
        raise ValueError(f"{data!r} is no pressure")
    return float(f"{data[:4]}e{int(data[4:]) - 21}")
