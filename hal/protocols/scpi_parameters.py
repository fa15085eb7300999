"""Parameters of SCPI and languages like it: kinds of them, both ways, mnemonics in short and long form. No I/O.

Sources: SCPI-99 volume 1, chapters 5 (short and long forms) and 7 (parameters); IEEE 488.2-1992, chapter 7.
Neither text was at hand: chapter numbers are from memory, behaviour from the manuals that restate them (34410A
user's guide p. 13, Keithley 2450 reference 2450-901-01, appendix C).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import isinf
from typing import Any, Protocol

NAN = 9.91e37
"""What "not a number" looks like on the wire (SCPI-99 7.2.1.5)."""

TEXTS = {
    0: "No error", -101: "Invalid character", -102: "Syntax error", -103: "Invalid separator", -104: "Data type error",
    -108: "Parameter not allowed", -109: "Missing parameter", -113: "Undefined header",
    -114: "Header suffix out of range", -123: "Exponent too large", -131: "Invalid suffix", -151: "Invalid string data",
    -200: "Execution error", -221: "Settings conflict", -222: "Data out of range",
    -224: "Illegal parameter value", -230: "Data corrupt or stale", -310: "System error", -350: "Queue overflow",
    -410: "Query INTERRUPTED", -420: "Query UNTERMINATED",
}  # fmt: skip
"""Standard codes in use here (SCPI-99 21.8.8 and following)."""


class ScpiError(Exception):
    """What an instrument puts into its error queue; raised by handlers and parameter kinds."""

    def __init__(self, code: int, text: str = "") -> None:
        self.code, self.text = code, text or TEXTS.get(code, "Device-specific error")
        super().__init__(f'{code},"{self.text}"')


class Kind(Protocol):
    """A kind of parameter, both ways."""

    def parse(self, text: str) -> Any:
        """Return the value; raise `ScpiError`."""
        ...

    def show(self, value: Any) -> str:
        """Return the value as a reply shows it."""
        ...


_NUMBER = re.compile(r"^([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-z%/]*)$")
_BASES = {"H": 16, "Q": 8, "B": 2}
_MULTIPLIERS = {
    "EX": 1e18, "PE": 1e15, "T": 1e12, "G": 1e9, "MA": 1e6, "K": 1e3, "": 1.0,
    "M": 1e-3, "U": 1e-6, "N": 1e-9, "P": 1e-12, "F": 1e-15, "A": 1e-18,
}  # fmt: skip
"""IEEE 488.2 table 7-2; M is milli, MA mega, except MHZ and MOHM."""


@dataclass(frozen=True, slots=True)
class Numeric:
    """A number, with MINimum, MAXimum and DEFault where it has bounds (SCPI-99 7.2.1)."""

    low: float = float("-inf")
    high: float = float("inf")
    default: float = 0.0
    unit: str = ""
    form: str = "{:.6E}"
    whole: bool = False

    def parse(self, text: str) -> float:
        special = self.special(text)
        value = self._number(text) if special is None else special
        if self.whole:
            value = float(round(value))
        if not self.low <= value <= self.high:
            raise ScpiError(-222)
        return value

    def special(self, text: str) -> float | None:
        """The bound or default named by `text`, None if it names none."""
        for name, value in (("MINimum", self.low), ("MAXimum", self.high), ("DEFault", self.default)):
            if mnemonic(name).fullmatch(text.upper()):
                return value
        return None

    def show(self, value: float) -> str:
        return str(round(value)) if self.whole else self.form.format(value)

    def _number(self, text: str) -> float:
        if text[:1] == "#" and text[1:2].upper() in _BASES:
            try:
                return float(int(text[2:], _BASES[text[1:2].upper()]))
            except OverflowError:
                raise ScpiError(-123) from None
            except ValueError:
                raise ScpiError(-101) from None
        match = _NUMBER.match(text)
        if match is None:
            raise ScpiError(-104)
        number, suffix = _finite(match[1]), match[2].upper()
        return number * self._scale(suffix) if suffix else number

    def _scale(self, suffix: str) -> float:
        unit = self.unit.upper()
        if not unit or not suffix.endswith(unit):
            raise ScpiError(-131)
        multiplier = suffix[: -len(unit)]
        if suffix in ("MHZ", "MOHM"):
            return 1e6
        if multiplier not in _MULTIPLIERS:
            raise ScpiError(-131)
        return _MULTIPLIERS[multiplier]


@dataclass(frozen=True, slots=True)
class Steps(Numeric):
    """A number that is one of a few: the next that is not smaller, whatever the sign."""

    of: tuple[float, ...] = ()

    def parse(self, text: str) -> float:
        value = abs(Numeric.parse(self, text))
        return next((step for step in self.of if value <= step * (1 + 1e-9)), self.of[-1])


@dataclass(frozen=True, slots=True)
class Boolean:
    """ON, OFF or a number that rounds to zero or not (SCPI-99 7.3)."""

    default: bool = False

    def parse(self, text: str) -> bool:
        if text.upper() in ("ON", "OFF"):
            return text.upper() == "ON"
        match = _NUMBER.match(text)
        if match is None or match[2]:
            raise ScpiError(-104)
        return round(_finite(match[1])) != 0

    def show(self, value: bool) -> str:
        return "1" if value else "0"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some mnemonics, in short or long form; replies show the short one (SCPI-99 7.1)."""

    names: tuple[str, ...]
    default: str = ""
    quoted: bool = False
    """Whether it travels as a string, both ways: ``"CURR:DC"``."""

    def parse(self, text: str) -> str:
        bare = unquoted(text)
        if self.quoted and bare is None:
            raise ScpiError(-104)
        for name in self.names:
            if mnemonic(name).fullmatch((bare if bare is not None else text).upper()):
                return _short(name)
        raise ScpiError(-224)

    def show(self, value: str) -> str:
        return f'"{value}"' if self.quoted else value


@dataclass(frozen=True, slots=True)
class Text:
    """A string in single or double quotes, or bare where the instrument takes that."""

    default: str = ""
    bare: bool = False

    def parse(self, text: str) -> str:
        string = unquoted(text)
        if string is None:
            if not self.bare:
                raise ScpiError(-104)
            return text
        return string

    def show(self, value: str) -> str:
        return value if self.bare else '"' + value.replace('"', '""') + '"'


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ScpiError(-123)
    return number


def unquoted(text: str) -> str | None:
    """The contents of a quoted string (doubled quotes are one), None if it is not quoted."""
    if len(text) >= 2 and text[0] in "\"'" and text[-1] == text[0]:
        return text[1:-1].replace(text[0] * 2, text[0])
    return None


# ---------------------------------------------------------------------- mnemonics


@lru_cache(maxsize=4096)
def mnemonic(name: str) -> re.Pattern[str]:
    """What a mnemonic may be written as, in capitals: its short and its long form."""
    return re.compile(pattern_text(name))


def pattern_text(header: str) -> str:
    """The regular expression of a header as manuals print it (SCPI-99 chapters 5 and 6)."""
    out, at = "", 0
    while at < len(header):
        if found := re.compile(r"\[(\d+)\]").match(header, at):
            out += f"(?:{found[1]})?"
        elif found := re.compile(r"([A-Z_]+)([a-z_]*)").match(header, at):
            rest = found[2].upper()
            out += found[1] + (f"(?:{rest})?" if rest else "")
        elif found := re.compile(r"[\[\]#:*?\d]").match(header, at):
            out += {"[": "(?:", "]": ")?", "#": r"(\d*)", "*": r"\*", "?": r"\?"}.get(found[0], found[0])
        else:
            raise ValueError(f"{header!r} can't be read at position {at}")
        at = found.end()
    return out


def _short(name: str) -> str:
    """The short form of a name: its capitals, optional parts left out."""
    return re.sub(r"[a-z]", "", re.sub(r"\[[^]]*\]", "", name))
