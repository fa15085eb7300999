"""Numbers of any width one after the other, the lowest bit first, as IEEE 1451.4 stores them; and its number formats.

Formats: as in the public decoder of SDL-MCI/SDLMA-Core, and in Dewetron's memory dump (see `templates`). That a code of
all ones stands for "not known" is unverified.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import inf, isfinite, log, log1p
from typing import Any

from ..errors import TedsError

EPOCH = date(1998, 1, 1)
"""Day 0 of a Date."""


class BitWriter:
    """Bits, the first one the lowest of the first byte."""

    def __init__(self) -> None:
        self._bits, self.length = 0, 0

    def put(self, code: int, width: int) -> None:
        """Append a number of `width` bits."""
        self._bits |= code << self.length
        self.length += width

    def to_bytes(self) -> bytes:
        """All bits, filled up with zeros to whole bytes."""
        return self._bits.to_bytes((self.length + 7) // 8, "little")


class BitReader:
    """The same the other way round."""

    def __init__(self, data: bytes) -> None:
        self._bits, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, width: int) -> int:
        """The next number of `width` bits. Raises `TedsError` at the end."""
        if width > self._left:
            raise TedsError("the data sheet ends within a value; it was cut off, or has another layout")
        code = self._bits & ((1 << width) - 1)
        self._bits >>= width
        self._left -= width
        return code


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A whole number."""

    bits: int
    least: int = 0
    most: int | None = None

    def code(self, name: str, value: Any) -> int:
        most = (1 << self.bits) - 1 if self.most is None else self.most
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= most:
            raise TedsError(f"{name} = {value!r} is no whole number from {self.least} to {most}")
        return value

    def value(self, code: int) -> int:
        return code


@dataclass(frozen=True, slots=True)
class Letters:
    """Letters A to Z of 5 bits each, the first one lowest; a 0 fills what is left."""

    bits: int

    def code(self, name: str, value: Any) -> int:
        count = self.bits // 5
        if not isinstance(value, str) or len(value) > count or any(not "A" <= letter <= "Z" for letter in value):
            raise TedsError(f"{name} = {value!r} is not made of at most {count} letters A to Z")
        return sum((ord(letter) - 64) << (5 * place) for place, letter in enumerate(value))

    def value(self, code: int) -> str:
        found = [code >> shift & 31 for shift in range(0, self.bits, 5)]
        if any(letter > 26 for letter in found):
            raise TedsError("a text in the data sheet has what is no letter in it; it is damaged")
        return "".join(chr(64 + letter) for letter in found if letter)


@dataclass(frozen=True, slots=True)
class Day:
    """Days since 1998-01-01; all ones: none."""

    bits: int = 16

    def code(self, name: str, value: Any) -> int:
        none = (1 << self.bits) - 1
        if value is None:
            return none
        days = (value - EPOCH).days if isinstance(value, date) and not isinstance(value, datetime) else -1
        if not 0 <= days < none:
            raise TedsError(f"{name} = {value!r} is no day from {EPOCH} to {EPOCH + timedelta(none - 1)}")
        return days

    def value(self, code: int) -> date | None:
        return None if code == (1 << self.bits) - 1 else EPOCH + timedelta(code)


@dataclass(frozen=True, slots=True)
class Single:
    """IEEE 754, 32 bits."""

    bits: int = 32

    def code(self, name: str, value: Any) -> int:
        try:
            packed = struct.pack("<f", value)
        except (struct.error, OverflowError):
            packed = struct.pack("<f", inf)
        if not isfinite(struct.unpack("<f", packed)[0]):
            raise TedsError(f"{name} = {value!r} is no number that has room in 32 bits")
        return int.from_bytes(packed, "little")

    def value(self, code: int) -> float:
        return float(struct.unpack("<f", code.to_bytes(4, "little"))[0])


@dataclass(frozen=True, slots=True)
class Steps:
    """ConRes: start + code x step. The code of all ones says that nothing is known, and reads as None."""

    bits: int
    start: float
    step: float

    def code(self, name: str, value: Any) -> int:
        none = (1 << self.bits) - 1
        if value is None:
            return none
        place = (value - self.start) / self.step if _is_number(value) else -1.0
        code = round(place) if isfinite(place) else -1
        if not 0 <= code < none:
            raise TedsError(f"{name} = {value!r} is not within {self.start:g} to {self.value(none - 1):g}")
        return code

    def value(self, code: int) -> float | None:
        return None if code == (1 << self.bits) - 1 else self.start + code * self.step


@dataclass(frozen=True, slots=True)
class Ratios:
    """ConRelRes: start x (1 + 2 tolerance)^code. The code of all ones says that nothing is known."""

    bits: int
    start: float
    tolerance: float

    def code(self, name: str, value: Any) -> int:
        none = (1 << self.bits) - 1
        if value is None:
            return none
        ratio = value / self.start if _is_number(value) else 0.0
        code = round(log(ratio) / log1p(2.0 * self.tolerance)) if 0.0 < ratio < inf else -1
        if not 0 <= code < none:
            raise TedsError(f"{name} = {value!r} is not within {self.start:g} to {self.value(none - 1):g}")
        return code

    def value(self, code: int) -> float | None:
        return None if code == (1 << self.bits) - 1 else self.start * (1.0 + 2.0 * self.tolerance) ** code


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a list of names."""

    bits: int
    names: tuple[str, ...]

    def code(self, name: str, value: Any) -> int:
        if value not in self.names:
            raise TedsError(f"{name} = {value!r} is none of {', '.join(self.names)}")
        return self.names.index(value)

    def value(self, code: int) -> str:
        if code >= len(self.names):
            raise TedsError(f"the data sheet has the choice {code} of {len(self.names)}; it has another layout")
        return self.names[code]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


Format = Unsigned | Letters | Day | Single | Steps | Ratios | Choice


@dataclass(frozen=True, slots=True)
class Rows:
    """As many rows of the same fields as the number before them says. A row is a mapping from names to values."""

    bits: int
    """Of their number."""
    fields: Fields


@dataclass(frozen=True, slots=True)
class Only:
    """A field that is there only where an earlier one of the same row or template has this value; else it is None."""

    where: str
    value: Any
    form: Format | Rows


Fields = tuple[tuple[str, Format | Rows | Only], ...]
"""Names and how their values are stored, in the order of the bits."""


def put(bits: BitWriter, values: Mapping[str, Any], fields: Fields) -> None:
    """Append the values of these fields. Raises `TedsError` for what has no room in its field."""
    for name, form in fields:
        value = values.get(name)
        if isinstance(form, Only):
            if values.get(form.where) != form.value:
                if value is not None:
                    raise TedsError(f"{name} = {value!r} has no place where {form.where} is {values.get(form.where)!r}")
                continue
            form = form.form
        if isinstance(form, Rows):
            rows = () if value is None else value
            if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
                raise TedsError(f"{name} = {value!r} is no list of rows, each with a value for each name")
            bits.put(Unsigned(form.bits).code(f"number of {name}", len(rows)), form.bits)
            for row in rows:
                if unknown := [key for key in row if key not in dict(form.fields)]:
                    raise TedsError(f"{name}: a row has {', '.join(map(repr, unknown))}, which the template has not")
                put(bits, row, form.fields)
            continue
        bits.put(form.code(name, value), form.bits)


def take(bits: BitReader, fields: Fields) -> dict[str, Any]:
    """The next values, by name. Raises `TedsError`: cut off, or a value that can't be."""
    found: dict[str, Any] = {}
    for name, form in fields:
        found[name] = None
        if isinstance(form, Only):
            if found[form.where] != form.value:
                continue
            form = form.form
        if isinstance(form, Rows):
            found[name] = tuple(take(bits, form.fields) for _ in range(bits.take(form.bits)))
            continue
        code = bits.take(form.bits)
        if isinstance(form, Unsigned):
            try:
                form.code(name, code)
            except TedsError as error:
                raise TedsError(f"the data sheet's {error}; it is damaged, or has another layout") from None
        found[name] = form.value(code)
    return found
