"""The messages of the MKS 937B: ``@253PR1?;FF`` is answered by ``@253ACK7.602E+2;FF``, or NAK and a code.

Sources: MKS 937B Operation Manual, section 9.1, page 86 (M); the open drivers pymeasure (P) and PyExpLabSys.
The words that stand for a pressure, and all codes but 152 and 160 (P), are *unverified*.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hal.protocols.framing import Lines

END = b";FF"
ANYBODY = 254
"""The address every unit answers to (PyExpLabSys uses it); that it answers with its own is unverified."""

# Pascals in one unit, by the unit's name in capitals (P); the unit itself writes mBAR.
PASCALS = {"TORR": 101325 / 760, "MBAR": 100.0, "PASCAL": 1.0, "MICRON": 101.325 / 760}
UNITS = {"TORR": "TORR", "MBAR": "mBAR", "PASCAL": "PASCAL", "MICRON": "MICRON"}

NOT_ION, UNKNOWN, ARGUMENT, RANGE, FORM = 152, 160, 169, 172, 175
CODES = {
    NOT_ION: "there is no ion gauge on that channel",
    UNKNOWN: "it does not know that command",
    ARGUMENT: "it does not take that argument",
    RANGE: "the value is out of range",
    FORM: "neither a question nor a setting",
}

WORDS = {
    "ATM": "at or near atmosphere, beyond the gauge's range",
    "OFF": "the gauge is off; switch it on at the controller",
    "RP_OFF": "the gauge was switched off by the rear panel",
    "CTRL_OFF": "the gauge was switched off by its control channel",
    "PROT_OFF": "the gauge was switched off to protect it: the pressure was too high",
    "WAIT": "the gauge is starting",
    "LOWEMIS": "the gauge's emission is too low; check its filament",
    "MISCONN": "the sensor is not connected; check its cable",
    "NOGAUGE": "there is no gauge; check `channel` in the lab file",
}

_MESSAGE = re.compile(r"@(\d{3})([A-Za-z]+)(\d*)([?!])(.*)", re.DOTALL)
_REPLY = re.compile(r"@(\d{3})(ACK|NAK)(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?\d\.\d{1,3}E[+-]\d{1,2}", re.IGNORECASE)
_LOW = re.compile(r"LO<(\d(?:\.\d+)?)?E-?(\d{1,2})", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z_]{2,20}|>.*")


def framing() -> Lines:
    """Either end's."""
    return Lines(END)


@dataclass(frozen=True, slots=True)
class Request:
    """A question (`value` is None) or a setting."""

    address: int
    command: str
    number: int | None = None
    value: str | None = None

    def encode(self) -> bytes:
        number = "" if self.number is None else str(self.number)
        asked = "?" if self.value is None else f"!{self.value}"
        return f"@{self.address:03d}{self.command}{number}{asked}".encode("ascii")

    @classmethod
    def decode(cls, message: bytes) -> Request:
        """Raises ValueError."""
        found = _MESSAGE.fullmatch(message.decode("latin-1").strip())
        if found is None or not message.isascii():
            raise ValueError(f"{message!r} is no request")
        number = int(found[3]) if found[3] else None
        return cls(int(found[1]), found[2].upper(), number, found[5] if found[4] == "!" else None)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; refused, `data` is the code."""

    address: int
    data: str
    refused: bool = False

    def encode(self) -> bytes:
        return f"@{self.address:03d}{'NAK' if self.refused else 'ACK'}{self.data}".encode("ascii")

    @classmethod
    def decode(cls, message: bytes) -> Reply:
        """Raises ValueError."""
        found = _REPLY.fullmatch(message.decode("latin-1").strip())
        if found is None:
            raise ValueError(f"{message!r} is no reply")
        return cls(int(found[1]), found[3], found[2] == "NAK")


@dataclass(frozen=True, slots=True)
class Pressure:
    """One channel: a value in the controller's unit, an upper end (`below`), or a word instead of either."""

    value: float | None
    below: bool = False
    word: str = ""


def encode_pressure(value: float) -> str:
    """``7.602E+2``, with no more digits in the exponent than it needs (M)."""
    mantissa, exponent = f"{value:.3E}".split("E")
    return f"{mantissa}E{int(exponent):+d}"


def decode_pressure(data: str) -> Pressure:
    """Raises ValueError."""
    if _NUMBER.fullmatch(data):
        return Pressure(float(data))
    if found := _LOW.fullmatch(data):
        return Pressure(float(found[1] or 1) * 10.0 ** -int(found[2]), below=True)
    if _WORD.fullmatch(data) and data.upper() not in PASCALS:
        return Pressure(None, word=data)
    raise ValueError(f"{data!r} is no pressure")
