"""The messages of the MKS 937B: ``@253PR1?;FF`` is answered by ``@253ACK7.602E+2;FF``, or NAK and a code.

Sources: MKS "Series 937B Vacuum System Controller" instruction manual, 100016467 rev. F, August 2020, sections 9.2
(messages), 9.3 (pressures and the words that stand for one) and 9.10 (codes); the open drivers pymeasure (P) and
PyExpLabSys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hal.protocols.framing import Lines

END = b";FF"
ANYBODY = 254
"""The address every unit answers to, with its own (section 6.6.3)."""

# Pascals in one unit, by the unit's name in capitals (P); the unit itself writes mBAR.
PASCALS = {"TORR": 101325 / 760, "MBAR": 100.0, "PASCAL": 1.0, "MICRON": 101.325 / 760}
UNITS = {"TORR": "TORR", "MBAR": "mBAR", "PASCAL": "PASCAL", "MICRON": "MICRON"}

# Codes of refusals (section 9.10).
WRONG_GAUGE, NO_GAUGE, NOT_ION, NOT_HOT, NOT_COLD, NOT_MANOMETER, NOT_PIRANI, NOT_PIRANI_OR_MANOMETER = range(150, 158)
UNKNOWN, LOCKED, DIRECTION_FIXED, NO_CHANNEL, ABSOLUTE = 160, 161, 162, 163, 164
ARGUMENT, RANGE, NO_CONTROL, FORM = 169, 172, 173, 175
NO_CALIBRATION, NO_COMBINATION, PASCAL_ONLY, GAS_GIVEN, TOO_HIGH = 178, 181, 182, 183, 199
CODES = {
    WRONG_GAUGE: ("WRONG_GAUGE", "another kind of gauge is on that channel"),
    NO_GAUGE: ("NO_GAUGE", "there is no gauge on that channel"),
    NOT_ION: ("NOT_IONGAUGE", "there is no ion gauge on that channel"),
    NOT_HOT: ("NOT_HOTCATHODE", "there is no hot cathode on that channel"),
    NOT_COLD: ("NOT_COLDCATHODE", "there is no cold cathode on that channel"),
    NOT_MANOMETER: ("NOT_CAPACITANCE_MANOMETER", "there is no manometer on that channel"),
    NOT_PIRANI: ("NOT_PIRANI_OR_CTP", "there is no Pirani gauge on that channel"),
    NOT_PIRANI_OR_MANOMETER: ("NOT_PR_OR_CM", "there is neither a Pirani gauge nor a manometer on that channel"),
    UNKNOWN: ("UNRECOGNIZED_MSG", "it does not know that command"),
    LOCKED: ("SET_CMD_LOCK", "setting is disabled at the controller"),
    DIRECTION_FIXED: ("RLY_DIR_FIX_FOR_ION", "relays of ion gauges close below their set point only"),
    NO_CHANNEL: ("INVALID_CHANNEL", "it has no such channel"),
    ABSOLUTE: ("DIFF_CM", "only a differential manometer is zeroed so"),
    ARGUMENT: ("INVALID_ARGUMENT", "it does not take that argument"),
    RANGE: ("VALUE_OUT_OF_RANGE", "the value is out of range"),
    NO_CONTROL: ("INVALID_CTRL_CHAN", "no gauge was chosen to control that one"),
    FORM: ("CMD_QUERY_BYTE_INVALID", "neither a question nor a setting"),
    NO_CALIBRATION: ("CAL_DISABLED", "calibrating is disabled at the controller"),
    NO_COMBINATION: ("COMBINATION_DISABLED", "no gauges are combined"),
    PASCAL_ONLY: ("INTERNATIONAL_UNIT_ONLY", "it shows pascals only"),
    GAS_GIVEN: ("GAS_TYPE_DEFINED", "a gas is chosen that has a factor of its own"),
    TOO_HIGH: ("PRESSURE_TOO_HIGH_FOR_DEGAS", "the pressure is too high for degassing"),
}
"""What a refusal says if errors are told as text, and what it means."""

WORDS = {
    "ATM": "at or near atmosphere, beyond the gauge's range",
    "OFF": "the gauge is off; switch it on at the controller",
    "RP_OFF": "the gauge was switched off by the rear panel",
    "CTRL_OFF": "the gauge was switched off by its control channel",
    "PROT_OFF": "the gauge was switched off to protect it: the pressure was too high",
    "WAIT": "the gauge is starting",
    "LOWEMIS": "the gauge's emission is too low; check its filament",
    "MISCONN": "the sensor is not connected; check its cable",
    "NO_GAUGE": "there is no gauge; check `channel` in the lab file",
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
    step: float = 0.0
    """Of its last digit. A zero at the end of three digits is none: it fills the place (section 2.3.3)."""


def is_number(text: str) -> bool:
    """Whether it is a number that can be set."""
    return re.fullmatch(r"-?\d{1,6}(\.\d{0,6})?(E[+-]?\d{1,2})?", text, re.IGNORECASE) is not None


def meaning(data: str) -> str:
    """Of a refusal, whether it is told as a code or as text."""
    for code, (text, said) in CODES.items():
        if data in (str(code), text):
            return said
    return "see the manual"


def encode_pressure(value: float) -> str:
    """``7.602E+2``, with no more digits in the exponent than it needs."""
    mantissa, exponent = f"{value:.3E}".split("E")
    return f"{mantissa}E{int(exponent):+d}"


def encode_short(value: float) -> str:
    """``7.60E+02``: of a Pirani or ion gauge, two digits and a zero (section 9.3)."""
    mantissa, exponent = f"{value:.1E}".split("E")
    return f"{mantissa}0E{exponent}"


def decode_pressure(data: str) -> Pressure:
    """Raises ValueError."""
    if _NUMBER.fullmatch(data):
        mantissa, exponent = data.upper().split("E")
        decimals = len(mantissa.partition(".")[2])
        if decimals == 2 and mantissa.endswith("0"):
            decimals = 1
        return Pressure(float(data), step=10.0 ** (int(exponent) - decimals))
    if found := _LOW.fullmatch(data):
        return Pressure(float(found[1] or 1) * 10.0 ** -int(found[2]), below=True)
    if _WORD.fullmatch(data) and data.upper() not in PASCALS:
        return Pressure(None, word=data)
    raise ValueError(f"{data!r} is no pressure")
