"""Units: one closed table that knows the UCUM and the UDUNITS spelling of each.

Signals carry the UCUM-like spelling of the first column (what people type in a lab file and
read in a message); files carry the UDUNITS spelling that NeXus asks for. Conversion is affine,
``base = scale * value + offset``. Sources: UCUM 2.1, tables 1-3; SI Brochure 9th ed., table 8;
"sccm" is 1 mL/min of an ideal gas at 0 degC and 101.325 kPa (SEMI E12-0303).
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UnitError


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit: its spellings, dimension, and the way to the dimension's base unit."""

    name: str
    """As typed and shown: ``degC``."""
    ucum: str
    """The UCUM code: ``Cel``."""
    udunits: str
    """The UDUNITS/NeXus spelling: ``degC``."""
    dimension: str
    scale: float = 1.0
    offset: float = 0.0


_TABLE = (
    Unit("", "1", "", "number"),
    Unit("%", "%", "percent", "number", 0.01),
    Unit("K", "K", "K", "temperature"),
    Unit("degC", "Cel", "degC", "temperature", 1.0, 273.15),
    Unit("K/s", "K/s", "K/s", "temperature rate"),
    Unit("K/min", "K/min", "K/min", "temperature rate", 1 / 60),
    Unit("K/h", "K/h", "K/hour", "temperature rate", 1 / 3600),
    Unit("Pa", "Pa", "Pa", "pressure"),
    Unit("hPa", "hPa", "hPa", "pressure", 1e2),
    Unit("kPa", "kPa", "kPa", "pressure", 1e3),
    Unit("mbar", "mbar", "mbar", "pressure", 1e2),
    Unit("bar", "bar", "bar", "pressure", 1e5),
    Unit("Torr", "[Torr]", "torr", "pressure", 101325 / 760),
    Unit("psi", "[psi]", "psi", "pressure", 6894.757293168361),
    Unit("V", "V", "V", "voltage"),
    Unit("mV", "mV", "mV", "voltage", 1e-3),
    Unit("V/s", "V/s", "V/s", "voltage rate"),
    Unit("A", "A", "A", "current"),
    Unit("mA", "mA", "mA", "current", 1e-3),
    Unit("uA", "uA", "uA", "current", 1e-6),
    Unit("nA", "nA", "nA", "current", 1e-9),
    Unit("Ohm", "Ohm", "ohm", "resistance"),
    Unit("W", "W", "W", "power"),
    Unit("mW", "mW", "mW", "power", 1e-3),
    Unit("s", "s", "s", "time"),
    Unit("ms", "ms", "ms", "time", 1e-3),
    Unit("us", "us", "us", "time", 1e-6),
    Unit("ns", "ns", "ns", "time", 1e-9),
    Unit("min", "min", "minute", "time", 60.0),
    Unit("1/s", "/s", "1/s", "frequency"),
    Unit("Hz", "Hz", "Hz", "frequency"),
    Unit("sccm", "{sccm}", "cm3/min", "gas flow"),
    Unit("slm", "{slm}", "l/min", "gas flow", 1e3),
    Unit("mL/min", "mL/min", "ml/min", "volume flow", 1e3),
    Unit("uL/min", "uL/min", "ul/min", "volume flow"),
    Unit("mL/h", "mL/h", "ml/hour", "volume flow", 1e3 / 60),
    Unit("uL", "uL", "ul", "volume"),
    Unit("mL", "mL", "ml", "volume", 1e3),
    Unit("mm", "mm", "mm", "length"),
    Unit("um", "um", "um", "length", 1e-3),
    Unit("nm", "nm", "nm", "length", 1e-6),
    Unit("mm/s", "mm/s", "mm/s", "speed"),
    Unit("deg", "deg", "degree", "angle"),
    Unit("deg/s", "deg/s", "degree/s", "angular speed"),
    Unit("kV", "kV", "kV", "voltage", 1e3),
)

_ALIASES = {
    "°C": "degC", "C": "degC", "celsius": "degC", "kelvin": "K", "µA": "uA", "µL": "uL", "µL/min": "uL/min",
    "ul/min": "uL/min", "ml/min": "mL/min", "ml": "mL", "ul": "uL", "ohm": "Ohm", "Ω": "Ohm", "torr": "Torr",
    "percent": "%", "minute": "min",
}  # fmt: skip

_BY_NAME: dict[str, Unit] = {}
for _unit in _TABLE:
    _BY_NAME[_unit.name] = _unit
for _unit in _TABLE:
    _BY_NAME.setdefault(_unit.ucum, _unit)
    _BY_NAME.setdefault(_unit.udunits, _unit)
for _alias, _name in _ALIASES.items():
    _BY_NAME.setdefault(_alias, _BY_NAME[_name])


def unit(name: str) -> Unit:
    """Return the unit called `name` in any known spelling; raise `UnitError` otherwise."""
    try:
        return _BY_NAME[name]
    except KeyError:
        known = " ".join(sorted(u.name for u in _TABLE if u.name))
        raise UnitError(f"unknown unit {name!r}; known units are: {known}") from None


def factors(source: str, target: str) -> tuple[float, float]:
    """Return ``(scale, offset)`` with ``target = scale * source + offset``."""
    a, b = unit(source), unit(target)
    if a.dimension != b.dimension:
        raise UnitError(f"{source!r} is a {a.dimension} and {target!r} a {b.dimension}; they do not convert")
    return a.scale / b.scale, (a.offset - b.offset) / b.scale


def convert(value: float, source: str, target: str) -> float:
    """Return `value`, given in `source`, expressed in `target`."""
    scale, offset = factors(source, target)
    return scale * value + offset
