"""Pfeiffer's telegrams: address, action, parameter, length, data, checksum, CR, all in printable digits.

Sources: Pfeiffer TC 400 operating instructions, page 25, and TC 110 PB, PT 0245 BEN/J, pages 31 and 32 ("Pfeiffer
Vacuum protocol", sections 8.1 to 8.3: frame, refusals, data types, examples: M); of gauges "DigiLine PPT 200"
operating instructions PG 0022 BEN/B (G: sections 6.2 and 6.3, which also have the parameters of CPT, RPT, HPT and
MPT 200), and the open driver pfeiffer-vacuum-protocol 1.0 (D) for the 100 series, whose instructions were not read.
Parameters of drives are in `turbo`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hal.protocols.framing import Lines

READ, CONTROL = 0, 1
QUESTION = "=?"
EVERYBODY = 0
"""The address that all obey and none answers (M: section 8.1)."""
REFUSALS = {
    "NO_DEF": "it has no such parameter",
    "_RANGE": "the value is out of range",
    "_LOGIC": "it can't be read, or not be set, at present",
}
"""M: section 8.2."""

# Parameters of gauges (G: 6.2; D).
ERROR, FIRMWARE, NAME, PRESSURE, ADJUST, CORRECTION = 303, 312, 349, 740, 741, 742
NO_ERROR = "000000"
WARNING = "Wrn001"
"""With it a pressure is still measured."""
FAULTS = {
    "Err001": "its transmitter is defective", "Err002": "its memory is defective",
    "Err003": "its filament 1 is defective", "Err004": "its filament 2 is defective",
    "Err005": "both its filaments are defective", WARNING: "its filament 1 is defective, it goes on with the other",
}  # fmt: skip
"""G: parameter 303; those of filaments are the HPT's."""
GAUGES = {"A1": "CPT 100", "A2": "RPT 100", "A3": "PPT 100", "A4": "HPT 100", "A5": "MPT 100"}

_TELEGRAM = re.compile(r"(\d{3})([01])0(\d{3})(\d{2})(.*)(\d{3})", re.DOTALL)


def framing() -> Lines:
    """Either end's."""
    return Lines(b"\r")


def checksum(text: str) -> int:
    """Sum of the characters' codes, modulo 256 (M: section 8.1)."""
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


# ---------------------------------------------------------------------- data

Value = bool | int | float | str

BOOLEAN_OLD, U_INTEGER, U_REAL, STRING, BOOLEAN_NEW, U_SHORT_INT, U_EXPO_NEW, STRING_LONG = 0, 1, 2, 4, 6, 7, 10, 11
SIZES = {
    BOOLEAN_OLD: 6, U_INTEGER: 6, U_REAL: 6, STRING: 6, BOOLEAN_NEW: 1, U_SHORT_INT: 3, U_EXPO_NEW: 6, STRING_LONG: 16,
}  # fmt: skip
"""Characters by data type (M: section 8.3)."""


def encode_data(kind: int, value: Value) -> str:
    """A value as its data type (section 8.3) writes it; raises ValueError if it doesn't fit."""
    size = SIZES[kind]
    match kind:
        case 0 | 6:
            data = ("1" if value else "0") * size
        case 1 | 7:
            data = f"{int(value):0{size}d}"
        case 2:  # two of the six digits are decimals
            data = f"{round(float(value) * 100):0{size}d}"
        case 10:
            data = encode_pressure(float(value) * HECTOPASCAL)
        case _:
            data = str(value).ljust(size)
    if len(data) != size or (kind not in (4, 11) and not data.isdecimal()):
        raise ValueError(f"{value!r} does not fit data type {kind}")
    return data


def decode_data(kind: int, data: str) -> Value:
    """A value of a data type (section 8.3), pressures in hPa; raises ValueError."""
    if len(data) != SIZES[kind] or (kind not in (4, 11) and not (data.isascii() and data.isdecimal())):
        raise ValueError(f"{data!r} is not of data type {kind}")
    match kind:
        case 0 | 6:
            if data.strip("0") and data.strip("1"):
                raise ValueError(f"{data!r} is neither true nor false")
            return data[0] == "1"
        case 1 | 7:
            return int(data)
        case 2:
            return int(data) / 100
        case 10:
            return decode_pressure(data) / HECTOPASCAL
        case _:
            return data.strip()


HECTOPASCAL = 100.0  # Pa


def encode_pressure(pascal: float) -> str:
    """Four digits and an exponent: ``100023`` is 1000 hPa (G: parameter 740)."""
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
