"""The standard's templates: which values follow the basic data sheet, and in how many bits.

Template 33 is checked bit by bit with a sensor's memory dump (Dewetron TRION API manual, "TEDS Interface").
Template 36: widths and ranges as in the public decoder of SDL-MCI/SDLMA-Core; the order of the thermocouple types and
both tolerances are unverified (the tolerances follow from the greatest values that National Instruments' overview
gives, 319 kOhm and 7.9 s). The others (30 to 32, 34, 35, 37 to 43) are not here: their bits stand in IEEE 1451.4
itself and in its tutorial (standards.ieee.org, "teds.pdf"), neither of which was at hand; open code has them nowhere,
makers' manuals (HBM A1813, NI-DAQmx) list their properties without widths, and a data sheet that is nearly right is
worse than none. Who has the standard types them into a file: `load_templates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import ClassVar, Protocol

from .bits import Choice, Day, Fields, Letters, Ratios, Single, Steps, Unsigned

END: Fields = (
    ("calibrated", Day()), ("initials", Letters(15)), ("period", Unsigned(12)), ("location", Unsigned(11)),
)  # fmt: skip
"""With which the templates of sensors end."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """Template 33: a bridge, such as a load cell. Its values are linear in between."""

    NUMBER: ClassVar[int] = 33
    FIELDS: ClassVar[Fields] = (
        ("measurand", Unsigned(6)), ("low", Single()), ("high", Single()), ("precision", Unsigned(2, 2, 2)),
        ("low_output", Single()), ("high_output", Single()), ("type", Choice(2, ("quarter", "half", "full"))),
        ("impedance", Steps(18, 1.0, 0.1)), ("response", Ratios(6, 1e-6, 0.146)), ("excitation", Steps(9, 0.1, 0.1)),
        ("excitation_low", Steps(9, 0.1, 0.1)), ("excitation_high", Steps(9, 0.1, 0.1)), *END,
    )  # fmt: skip

    measurand: int
    """Number of the physical quantity and its unit in the standard's list; not interpreted here."""
    low: float
    high: float
    """Least and greatest value, in the unit of `measurand`."""
    low_output: float
    high_output: float
    """V/V at both."""
    type: str = "full"
    """"quarter", "half" or "full"."""
    impedance: float | None = None
    """Ohm."""
    response: float | None = None
    """s."""
    excitation: float | None = None
    excitation_low: float | None = None
    excitation_high: float | None = None
    """V: nominal, least and greatest."""
    calibrated: date | None = None
    initials: str = ""
    period: int = 0
    """Days from one calibration to the next; 0: not stated."""
    location: int = 0
    precision: int = 2
    """How outputs are stored; only 2 (32 bits) is known here."""


@dataclass(frozen=True, slots=True)
class Thermocouple:
    """Template 36: a thermocouple, or one that is compensated already."""

    NUMBER: ClassVar[int] = 36
    FIELDS: ClassVar[Fields] = (
        ("low", Steps(11, -273.0, 1.0)), ("high", Steps(11, -273.0, 1.0)),
        ("low_output", Steps(7, -0.025, 0.001)), ("high_output", Steps(7, -0.025, 0.001)),
        ("type", Choice(4, ("B", "E", "J", "K", "N", "R", "S", "T", "other"))),
        ("junction", Choice(1, ("required", "compensated"))),
        ("resistance", Ratios(12, 1.0, 0.00155)), ("response", Ratios(6, 1e-6, 0.146)), *END,
    )  # fmt: skip

    type: str
    """Letter, or "other"."""
    low: float | None = None
    high: float | None = None
    """degC."""
    low_output: float | None = None
    high_output: float | None = None
    """V at both."""
    junction: str = "required"
    """Whether a cold junction has to be measured ("required") or is in it ("compensated")."""
    resistance: float | None = None
    """Ohm."""
    response: float | None = None
    """s."""
    calibrated: date | None = None
    initials: str = ""
    period: int = 0
    location: int = 0


class Template(Protocol):
    """One filled in: what these two are, and those that `load_templates` makes."""

    NUMBER: ClassVar[int]
    FIELDS: ClassVar[Fields]


TEMPLATES: dict[int, type[Template]] = {cls.NUMBER: cls for cls in (Bridge, Thermocouple)}
