"""Keithley 2450 wire: SCPI messages and what its readings say of themselves.

Source: Model 2450 Reference Manual, 2450-901-01 Rev. B, September 2013 (pages given as in print).
The instrument must be set to the SCPI command set (``*LANG?`` answers ``SCPI``). Messages end with
LF both ways; a raw socket is at port 5025.
"""

from __future__ import annotations

from dataclasses import dataclass

from devices.source_meter import Mode
from hal.model.reading import Quality, Sample

TERMINATOR = b"\n"
IDENTITY = "KEITHLEY INSTRUMENTS,MODEL 2450"
"""How ``*IDN?`` begins; serial number and firmware follow (verified against PyMeasure's users' logs)."""

VOLTAGE = 210.0  # V, both signs (p. 6-73 and PyMeasure)
CURRENT = 1.05  # A, both signs
VOLTAGE_LIMIT = (0.02, 210.0)  # V; least value as of the QCoDeS driver's least range: unverified
CURRENT_LIMIT = (1e-9, 1.05)  # A; least value unverified
LOW_VOLTAGE, LOW_CURRENT = 21.0, 0.105
"""Beyond 21 V no more than 105 mA can be had, and the other way round: 20 W (data sheet 1KW-60904)."""

OVERFLOW = 9.9e37
"""A reading this large is over range (verified against open simulators and drivers; p. unverified)."""

LIMITED, OVER_TEMPERATURE, OUTPUT_ON = 1 << 5, 1 << 4, 1 << 7
"""Bits of the element SOURSTATus (p. 8-29)."""

READ = b':READ? "defbuffer1", SOUR, READ, SOURSTAT, SOURUNIT, UNIT'
"""One measurement with the source's own value, its status, and what both are (p. 6-6, 6-7)."""
UNITS = {"V": "Volt DC", "A": "Amp DC", "Ohm": "Ohm", "W": "Watt DC"}
"""As the elements SOURUNIT and UNIT spell them (p. 8-36, for TSP; the first letter is relied on)."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One reading: both quantities, each with what the instrument thinks of it."""

    voltage: Sample[float]
    current: Sample[float]
    output: bool
    limited: bool
    sourced: str
    """``V`` or ``A``."""
    level: float
    """The source value read back (or as programmed, if readback is off)."""


def parse_reading(reply: bytes) -> Measurement:
    """Take the answer to `READ` apart. Raises ValueError."""
    fields = [text.strip() for text in reply.decode("ascii").split(",")]
    if len(fields) != 5:
        raise ValueError(f"{len(fields)} fields instead of 5")
    source, reading, status = float(fields[0]), float(fields[1]), int(float(fields[2]))
    kinds = [fields[3][:1].upper(), fields[4][:1].upper()]
    if kinds[0] not in ("V", "A"):
        raise ValueError(f"{fields[3]!r} is no unit of a source")
    limited = bool(status & LIMITED)
    missing: Sample[float] = Sample(None, Quality.BAD, f"the instrument measures {fields[4]} at present")
    found = {kinds[1]: _sample(reading, status), kinds[0]: _sample(source, status)}
    return Measurement(
        found.get("V", missing), found.get("A", missing), bool(status & OUTPUT_ON), limited, kinds[0], source
    )


def format_reading(source: float, reading: float, status: int, source_unit: str, unit: str) -> str:
    """The answer to `READ`: the other direction."""
    return f"{number(source)},{number(reading)},{status},{UNITS[source_unit]},{UNITS[unit]}"


def number(value: float) -> str:
    """A number as the instrument prints it, seven digits."""
    return f"{value:.6E}"


def function(mode: Mode) -> str:
    """The mnemonic of what is sourced."""
    return "VOLT" if mode == "voltage" else "CURR"


def other(mode: Mode) -> str:
    """The mnemonic of what is measured and limited."""
    return "CURR" if mode == "voltage" else "VOLT"


def limit(mode: Mode) -> str:
    """The header of the compliance (p. 6-71)."""
    return ":SOUR:VOLT:ILIM" if mode == "voltage" else ":SOUR:CURR:VLIM"


def level(mode: Mode) -> str:
    """The header of the source level."""
    return f":SOUR:{function(mode)}"


def _sample(value: float, status: int) -> Sample[float]:
    if abs(value) >= OVERFLOW:
        return Sample(None, Quality.BAD, "over range")
    if status & OVER_TEMPERATURE:
        return Sample(value, Quality.UNCERTAIN, "the source-measure unit is too hot")
    if status & LIMITED:
        return Sample(value, Quality.UNCERTAIN, "in compliance: the source can't reach its level")
    return Sample(value)
