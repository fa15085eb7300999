"""Thyracont's telegrams: an address, a command, data and one character of checksum, then CR. Pressures are in mbar.

Protocol V1 (transmitters made until 2017): ``001M^``, answered ``001M982122V``. Protocol V2: an access code before
the command and the length of the data after it: ``0010MV00D``, answered ``0011MV079.734e2h``. Both have the same
checksum. Sources: Thyracont "Communication Protocol" version 2.1.5, 13.10.2021 (P: V2, section numbers); of V1, and
what came after P, the open drivers PyMeasure 0.16 (`thyracont`, its transcripts too) and scietex-hal-vacuum-gauge
2.5.0; the protocol V1 was not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hal.protocols.framing import Lines

from ..pfeiffer_telegram.codec import decode_pressure, encode_pressure

PASCALS = 100.0  # in one mbar

READ, READ_ANSWER, WRITE, WRITE_ANSWER, DEFAULT, DEFAULT_ANSWER, ERROR = 0, 1, 2, 3, 4, 5, 7
"""Access codes of V2 (P, 2.3); an answer's is its question's and one."""

ERRORS = {
    "NO_DEF": "it knows no such command",
    "_LOGIC": "the access code is wrong, or it can't be done at present",
    "_RANGE": "the value is out of range",
    "ERROR1": "its sensor is defective or unplugged",
    "SYNTAX": "it does not understand the data",
    "LENGTH": "the data are too long or too short",
    "_CD_RE": "it can't read its calibration",
    "_EP_RE": "it can't read its memory",
    "_UNSUP": "it takes no such value",
    "_SEDIS": "this sensor is switched off",
}
"""P, 6."""
SENSORS = {
    0: "whichever fits",
    1: "Pirani",
    2: "piezo",
    3: "hot cathode",
    4: "cold cathode",
    6: "ambient",
    7: "relative",
}
"""P, 2.7."""
BELOW, ABOVE = "UR", "OR"
"""What V2 says instead of a pressure beyond its range (P, 5.1.2)."""

__all__ = ["decode_pressure", "encode_pressure"]  # of V1, in Pa: as Pfeiffer's


def framing() -> Lines:
    """Either end's."""
    return Lines(b"\r")


def checksum(text: str) -> str:
    """Sum of the characters' codes modulo 64, plus 64, as a character."""
    return chr(sum(text.encode("latin-1")) % 64 + 64)


def _checked(message: bytes) -> str:
    """Without its checksum; raises ValueError."""
    text = message.replace(b"\0", b"").decode("latin-1")  # zeros are seen before answers (PyMeasure)
    if not text.isascii() or len(text) < 5:
        raise ValueError(f"{message!r} is no telegram")
    if checksum(text[:-1]) != text[-1]:
        raise ValueError(f"{message!r} has a wrong checksum")
    return text[:-1]


# ---------------------------------------------------------------------- protocol V1


@dataclass(frozen=True, slots=True)
class TelegramV1:
    """Capitals ask, small letters set; the answer repeats the command, or says ``NO_DEF`` in its place."""

    address: int
    command: str
    data: str = ""

    def encode(self) -> bytes:
        text = f"{self.address:03d}{self.command}{self.data}"
        return (text + checksum(text)).encode("latin-1")

    @classmethod
    def decode(cls, message: bytes) -> TelegramV1:
        """Raises ValueError, also of a wrong checksum."""
        text = _checked(message)
        if re.match(r"\d{3}\D", text) is None:
            raise ValueError(f"{message!r} is no telegram of V1")
        return cls(int(text[:3]), text[3], text[4:])

    @property
    def error(self) -> str:
        """The refusal in it, if it is one: ``NO_DEF``."""
        said = self.command + self.data
        return said if said in ERRORS else ""


# ---------------------------------------------------------------------- protocol V2


@dataclass(frozen=True, slots=True)
class TelegramV2:
    """One message of either direction."""

    address: int
    access: int
    command: str
    data: str = ""

    def encode(self) -> bytes:
        text = f"{self.address:03d}{self.access}{self.command}{len(self.data):02d}{self.data}"
        return (text + checksum(text)).encode("latin-1")

    @classmethod
    def decode(cls, message: bytes) -> TelegramV2:
        """Raises ValueError, also of a wrong length or checksum."""
        found = re.fullmatch(r"(\d{3})(\d)([A-Z][A-Z0-9])(\d{2})(.*)", _checked(message), re.DOTALL)
        if found is None or int(found[4]) != len(found[5]):
            raise ValueError(f"{message!r} is no telegram of V2")
        return cls(int(found[1]), int(found[2]), found[3], found[5])


def encode_millibar(millibar: float) -> str:
    """``9.734e2``"""
    mantissa, exponent = f"{millibar:.3e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def decode_millibar(data: str) -> float:
    """mbar; raises ValueError."""
    if re.fullmatch(r"\d+(\.\d*)?(e[-+]?\d{1,3})?", data, re.IGNORECASE) is None:
        raise ValueError(f"{data!r} is no pressure")
    return float(data)
