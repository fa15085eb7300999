"""Keithley 2400 wire: SCPI messages and what its readings say of themselves.

Source: 2400 Series SourceMeter User's Manual, 2400S-900-01 Rev. K, September 2011 (section-page as in
print; the pages of other sub-editions are shifted by one or two). Over GPIB messages end with LF. Over
RS-232 the instrument's menu sets what its own messages end with; what it takes is any of CR, LF, CR LF
(the latter unverified).
"""

from __future__ import annotations

from dataclasses import dataclass

from devices.source_meter import Mode
from hal.model.reading import Quality, Sample

TERMINATOR = b"\n"
IDENTITY = "KEITHLEY INSTRUMENTS INC.,MODEL 2400"
"""How ``*IDN?`` begins (16-3; the blank the manual prints after the comma is not in users' logs)."""

VOLTAGE, CURRENT = 210.0, 1.05  # V, A, both signs (18-74 and PyMeasure)
VOLTAGE_LIMIT = (2e-4, 210.0)  # V: not below 0.1 % of the measuring range (18-68); the least is 0.2 V
CURRENT_LIMIT = (1e-9, 1.05)  # A: likewise, the least range is 1 uA
LOW_VOLTAGE, LOW_CURRENT = 21.0, 0.105
"""Beyond 21 V no more than 105 mA can be had, and the other way round: error +826 (B-7; data sheet)."""

NAN = 9.91e37
"""Neither measured nor sourced (18-50)."""
OVERFLOW = 9.9e37
"""A reading this large is over range (value as in PyMeasure and open drivers; page unverified)."""

ELEMENTS = ("VOLT", "CURR", "RES", "TIME", "STAT")
"""In this order whatever the order they were chosen in (18-49)."""
OVER_RANGE, COMPLIANCE, OVER_VOLTAGE, RANGE_COMPLIANCE = 1 << 0, 1 << 3, 1 << 4, 1 << 16
FRONT, VOLTS_MEASURED, AMPERES_MEASURED, OHMS_MEASURED = 1 << 2, 1 << 11, 1 << 12, 1 << 13
VOLTS_SOURCED, AMPERES_SOURCED, FOUR_WIRE = 1 << 14, 1 << 15, 1 << 22
"""Bits of the element STATus (18-50, 18-51)."""

READ = b":FORM:ELEM?;:READ?"
"""One measurement, together with what its numbers are: others may have chosen other elements."""
NOT_PERMITTED_OFF = 803
"""The error of a ``:READ?`` with the output off; it is not answered (17-5, B-6)."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One reading: both quantities, each with what the instrument thinks of it."""

    voltage: Sample[float]
    current: Sample[float]
    output: bool
    limited: bool


def unmeasured() -> Measurement:
    """What can be said of a 2400 with its output off: it does not measure then (18-55)."""
    missing: Sample[float] = Sample(None, Quality.BAD, "the output is off, and a 2400 measures only while it is on")
    return Measurement(missing, missing, False, False)


def parse_reading(reply: bytes) -> Measurement:
    """Take the answer to `READ` apart. Raises ValueError."""
    elements, semicolon, numbers = reply.decode("ascii").partition(";")
    if not semicolon:
        raise ValueError("no reading after the names of its elements")
    names = [name.strip().upper()[:4] for name in elements.split(",")]
    values = [float(text) for text in numbers.split(",")]
    if len(names) != len(values):
        raise ValueError(f"{len(values)} numbers for {len(names)} elements; is the trigger count 1?")
    if not set(names) <= set(ELEMENTS):
        raise ValueError(f"{elements!r} are no elements of a reading")
    found = dict(zip(names, values, strict=True))
    if "STAT" not in found:
        raise ValueError("the status is not among the elements")
    status = int(found["STAT"])
    return Measurement(
        _sample(found.get("VOLT", NAN), status),
        _sample(found.get("CURR", NAN), status),
        True,
        bool(status & (COMPLIANCE | RANGE_COMPLIANCE)),
    )


def format_reading(elements: tuple[str, ...], values: dict[str, float]) -> str:
    """The numbers of a reading: the other direction."""
    return ",".join(f"{values[name]:+.6E}" for name in ELEMENTS if name in elements)


def function(mode: Mode) -> str:
    """The mnemonic of what is sourced."""
    return "VOLT" if mode == "voltage" else "CURR"


def limit(mode: Mode) -> str:
    """The header of the compliance, which is that of what is measured (18-68)."""
    return ":SENS:CURR:PROT" if mode == "voltage" else ":SENS:VOLT:PROT"


def _sample(value: float, status: int) -> Sample[float]:
    if value == NAN:
        return Sample(None, Quality.BAD, "not measured at present; `source` chooses both")
    if abs(value) >= OVERFLOW:
        return Sample(None, Quality.BAD, "over range")
    if status & OVER_VOLTAGE:
        return Sample(value, Quality.UNCERTAIN, "the over-voltage protection holds the source back")
    if status & (COMPLIANCE | RANGE_COMPLIANCE):
        return Sample(value, Quality.UNCERTAIN, "in compliance: the source can't reach its level")
    if status & OVER_RANGE:
        return Sample(value, Quality.UNCERTAIN, "measured while over range")
    return Sample(value)
