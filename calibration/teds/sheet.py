"""A whole data sheet: 64 bits that say whose sensor it is, the templates, and an end.

Layout: National Instruments, "IEEE 1451.4 Sensor Templates Overview" (tutorial 3468), tables 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import TedsError
from .bits import BitReader, BitWriter, Fields, Letters, Unsigned, put, take
from .templates import TEMPLATES, Template

STANDARD, END = 0, 3
"""Selectors of 2 bits: a standard template follows; nothing follows."""
MOST = 8
"""Templates in one data sheet; more are a sign of rubbish."""


@dataclass(frozen=True, slots=True)
class Basic:
    """The basic data sheet: its first 64 bits."""

    manufacturer: int
    """17 to 16381, as the IEEE assigns them."""
    model: int
    serial: int
    version_letter: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Sheet:
    """A data sheet."""

    basic: Basic
    templates: tuple[Template, ...] = ()


_BASIC: Fields = (
    ("manufacturer", Unsigned(14, 17, 16381)), ("model", Unsigned(15)), ("version_letter", Letters(5)),
    ("version", Unsigned(6)), ("serial", Unsigned(24)),
)  # fmt: skip


def pack(sheet: Sheet) -> bytes:
    """The data sheet's bytes, without the pages' checksums. Raises `TedsError` for what has no room in its field."""
    bits = BitWriter()
    put(bits, _values(sheet.basic, _BASIC), _BASIC)
    for template in sheet.templates:
        bits.put(STANDARD, 2)
        bits.put(template.NUMBER, 8)
        put(bits, _values(template, template.FIELDS), template.FIELDS)
    bits.put(END, 2)
    bits.put(1, 1)  # no more of the standard's; users' data may follow
    return bits.to_bytes()


def unpack(data: bytes, known: Mapping[int, type[Template]] = TEMPLATES) -> Sheet:
    """The other way round. Raises `TedsError`: cut off, damaged, or a template that is not known here.

    known: the templates by their numbers, such as ``TEMPLATES | load_templates("ours.toml")``.
    """
    bits = BitReader(data)
    basic = Basic(**take(bits, _BASIC))
    templates: list[Template] = []
    while (selector := bits.take(2)) != END:
        if selector != STANDARD or len(templates) == MOST:
            raise TedsError(f"the data sheet has a section of kind {selector}, a maker's own; ask its maker")
        number = bits.take(8)
        if number not in known:
            raise TedsError(
                f"the data sheet uses template {number}, which is not known here; known are "
                f"{', '.join(map(str, known))}. Who has the standard can type it: calibration.teds.load_templates"
            )
        templates.append(known[number](**take(bits, known[number].FIELDS)))
    return Sheet(basic, tuple(templates))


def _values(told: object, fields: Fields) -> dict[str, Any]:
    return {name: getattr(told, name) for name, _ in fields}
