"""Lake Shore 336 wire: short text commands, several to a line.

Source: Model 336 Temperature Controller User's Manual, chapter 6 (not at hand page by page: what is
marked M335/M340 was read in those models' manuals, D is what drivers of others need). Lines end with
LF (CRLF on the serial line), replies with CRLF. TCP port 7777; serial 57600 baud, 7-O-1. No blank is
needed after a question mark, and what is not understood does not end a chain (D: lakeshore asks
``...;*ESR?`` to learn of it).
"""

from __future__ import annotations

from dataclasses import dataclass

from hal.model.reading import Quality, Sample
from hal.units import convert

IDENTITY = "LSCI,MODEL336"
"""How ``*IDN?`` begins; serial number and firmware follow (D)."""
RATES = (0.1, 100.0)
"""K/min a setpoint can ramp at; 0 would be a step (M335)."""
HOTTEST = 1000.0 - 273.15  # degC: the least of what sensors and curves allow is the holder's business
COLDEST = -273.15
UPDATES = 10.0
"""Readings a second of every input (data sheet)."""
RESOLUTION = 1e-3  # K, of a reading below 1000 K

QUERY_ERROR, EXECUTION_ERROR, COMMAND_ERROR = 4, 16, 32
"""Bits of ``*ESR?`` (D; reading clears)."""
ALARM, NEW_READING, TUNED = 1 << 0, 1 << 4, 1 << 5
RAMPED = {1: 1 << 3, 2: 1 << 2}
"""Bits of ``OPST?`` and ``OPSTR?`` (the vendor's package `lakeshore` 1.10); by output: its ramp is done."""
OPERATION = 1 << 7
"""Bit of ``*STB?`` that sums these up (the same)."""

STATUS = {
    1: "invalid reading", 16: "temperature under range", 32: "temperature over range",
    64: "sensor reads zero", 128: "sensor over range",
}  # fmt: skip
"""Bits of ``RDGST?`` (D: QCoDeS; M340 9-40)."""

KELVIN, CELSIUS, SENSOR = 1, 2, 3
"""Units of an input and of the setpoints that follow it, last field of ``INTYPE?`` (D: QCoDeS)."""
ZONE, OPEN_LOOP, MONITOR = 2, 3, 4
CLOSED_LOOPS = (1, ZONE)
"""Modes of ``OUTMODE?`` in which the setpoint counts: PID and zone (D: QCoDeS, lakeshore)."""


@dataclass(frozen=True, slots=True)
class Loop:
    """How an output is set up."""

    mode: int
    input: int
    """0 none, 1 to 4 are A to D."""
    units: int


def parse_temperature(reply: str) -> Sample[float]:
    """Take ``+300.000;0`` (``KRDG? A;RDGST? A``) apart, in degC. Raises ValueError."""
    kelvin, status = reply.split(";")
    bits = int(status)
    if bits:
        reasons = ", ".join(text for bit, text in STATUS.items() if bits & bit) or f"status {bits}"
        return Sample(None, Quality.BAD, f"input says: {reasons}")
    return Sample(convert(float(kelvin), "K", "degC"))


def parse_setpoint(reply: str) -> Sample[float]:
    """Take ``+300.000;1,0,1,0,1`` (``SETP? 1;INTYPE? A``) apart, in degC. Raises ValueError."""
    value, kind = reply.split(";")
    units = int(kind.split(",")[-1])
    if units == KELVIN:
        return Sample(convert(float(value), "K", "degC"))
    if units == CELSIUS:
        return Sample(float(value))
    return Sample(None, Quality.BAD, "the setpoint is in sensor units; set the input to kelvin")


def format_setpoint(degc: float, units: int) -> str:
    """A setpoint in the units the loop's input is set to. Raises ValueError for sensor units."""
    if units == KELVIN:
        return f"{convert(degc, 'degC', 'K'):.3f}"
    if units == CELSIUS:
        return f"{degc:.3f}"
    raise ValueError("sensor units")


def parse_ramp(reply: str) -> tuple[bool, float]:
    """Take ``1,+010.5`` (``RAMP? 1``) apart: whether setpoints ramp, and the rate in K/s. Raises ValueError."""
    on, rate = reply.split(",")
    return int(on) == 1, float(rate) / 60


def format_rate(rate: float) -> str:
    """A rate given in K/s, in K/min as the wire has it, to its resolution of 0.1."""
    return f"{rate * 60:.1f}"


def parse_loop(outmode: str, intype: str) -> Loop:
    """Take ``1,1,0`` (``OUTMODE? 1``) and ``1,0,1,0,1`` (``INTYPE? A``) apart. Raises ValueError."""
    mode, source, _ = outmode.split(",")
    return Loop(int(mode), int(source), int(intype.split(",")[-1]))


def number(value: float) -> str:
    """A number as replies show it: ``+300.000``."""
    return f"{value:+08.3f}"
