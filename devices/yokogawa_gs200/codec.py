"""Yokogawa GS200 wire: SCPI-like messages, its ranges, and what its monitor measures.

Source: GS200 DC Voltage/Current Source User's Manual, IM GS210-01EN: program messages and terminators 13-1
to 13-6, `:SOURce` 13-12, status registers 13-30 (pages as in print). The commands of programs and of the
monitor are those the QCoDeS driver (0.58, Yokogawa_GS200.py) uses. Answers end with LF; several are joined
by ``;``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from devices.source_meter import Mode
from hal.model.reading import Quality, Sample

TERMINATOR = b"\n"
IDENTITY = ("YOKOGAWA,GS210", "YOKOGAWA,GS211", "YOKOGAWA,GS200")
"""How ``*IDN?`` begins: GS210 and GS211 are the models of the series (seen in users' logs)."""
MONITOR = "/MON"
"""What ``*OPT?`` contains if it can measure (QCoDeS)."""

RANGES = {"voltage": (0.01, 0.1, 1.0, 10.0, 30.0), "current": (1e-3, 0.01, 0.1, 0.2)}  # V, A (QCoDeS, PyMeasure)
OVER_RANGE = 1.2
"""A level may be this much beyond its range (PyMeasure), save in the largest ones: 32 V and 200 mA."""
LARGEST = {"voltage": 32.0, "current": 0.2}  # data sheet; unverified
LIMITER_FROM = 1.0
"""V: the two ranges below have neither limiter nor monitor, but an output resistance of 2 ohm (QCoDeS; data sheet)."""
VOLTAGE, CURRENT = 30.0, 0.2  # V, A, both signs: what the driver allows
VOLTAGE_LIMIT, VOLTAGE_STEP = (1.0, 30.0), 1.0  # V (13-12; the step is of the data sheet, unverified)
CURRENT_LIMIT, CURRENT_STEP = (1e-3, 0.2), 1e-3  # A (13-12; step unverified)

OVER, LOW_LIMITING, HIGH_LIMITING = 1 << 1, 1 << 10, 1 << 11
NOT_MEASURING, NOT_STORING, NO_FILE, NO_SAMPLING_ERROR, READY = 1 << 0, 1 << 2, 1 << 3, 1 << 4, 1 << 8
"""Bits of ``:STATus:CONDition?``, and of ``:STATus:EVENt?`` once they went from 0 to 1 (13-30)."""
SOURCE_CHANGE, END_OF_STEP, END_OF_PROGRAM = 1 << 5, 1 << 6, 1 << 7
"""Bits of ``:STATus:EVENt?`` only (13-30)."""
NAN = 9.91e37
"""No number; unverified."""
STORED = ("TM", "SF", "MF", "SL", "ML")
"""Columns of stored results: time, source function, measurement function, source level, measured level (13-19)."""

STATE = b":OUTP?;:SENS?;:SOUR:FUNC?;:SOUR:RANG?;:SOUR:LEV?"
STATE_ALONE = b":OUTP?;:SOUR:FUNC?;:SOUR:RANG?;:SOUR:LEV?"
"""Without the option there is nothing to sense."""
MEASURE = b":MEAS?;:STAT:COND?"
CONDITION = b":STAT:COND?"
NO_PROGRAM = b":PROG:PAUS;:PROG:EDIT:END"
"""Neither run a program nor edit one."""


@dataclass(frozen=True, slots=True)
class State:
    """What it is set to."""

    output: bool
    sensing: bool
    mode: Mode
    range: float
    level: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """Both quantities: the sourced one as it was set, the other as measured."""

    voltage: Sample[float]
    current: Sample[float]
    output: bool
    limited: bool


def function(mode: Mode) -> str:
    """The mnemonic of what is sourced."""
    return "VOLT" if mode == "voltage" else "CURR"


def parse_state(reply: bytes, monitor: bool) -> State:
    """The answer to `STATE`, or without a monitor to `STATE_ALONE`. Raises ValueError."""
    fields = [text.strip() for text in reply.decode("ascii").split(";")]
    if not monitor:
        fields[1:1] = ["0"]
    output, sensing, name, extent, level = fields
    if output not in ("0", "1") or sensing not in ("0", "1") or name.upper()[:4] not in ("VOLT", "CURR"):
        raise ValueError(f"{reply!r} is no state")
    mode: Mode = "voltage" if name.upper().startswith("VOLT") else "current"
    return State(output == "1", sensing == "1", mode, float(extent), float(level))


def measures(state: State) -> str:
    """Why the monitor can't measure now, empty if it can."""
    if not state.output:
        return "the output is off, and a GS200 measures only while it is on"
    if not state.sensing:
        return "the monitor is switched off; `source` switches it on"
    if state.mode == "voltage" and state.range < LIMITER_FROM:
        return "in the ranges of 10 and 100 mV a GS200 does not measure"
    return ""


def parse_measured(reply: bytes) -> tuple[float, int]:
    """The answer to `MEASURE`: the value, and the condition register. Raises ValueError."""
    value, condition = reply.decode("ascii").split(";")
    return float(value), int(condition)


def measurement(state: State, value: Sample[float], condition: int) -> Measurement:
    """Put together what was set and what was measured."""
    limited = state.output and bool(condition & (LOW_LIMITING | HIGH_LIMITING))
    level: Sample[float] = Sample(state.level if state.output else 0.0)
    if limited:
        level = Sample(None, Quality.BAD, "limited: the source can't reach its level, and does not measure it")
    voltage, current = (level, value) if state.mode == "voltage" else (value, level)
    return Measurement(voltage, current, state.output, limited)


def sample(value: float, condition: int) -> Sample[float]:
    """A measured value with what the condition register says of it."""
    if abs(value) >= NAN or condition & OVER:
        return Sample(None, Quality.BAD, "over range or not measured")
    if condition & (LOW_LIMITING | HIGH_LIMITING):
        return Sample(value, Quality.UNCERTAIN, "limited: the source can't reach its level")
    return Sample(value)


def smallest_range(mode: Mode, largest: float, first: float = LIMITER_FROM) -> float:
    """The smallest range that holds a level; of voltages only those that can limit and measure."""
    fitting = [x for x in RANGES[mode] if largest <= x * (1 + 1e-9) and (mode == "current" or x >= first)]
    return fitting[0]


def number(value: float) -> str:
    """A level or a measured value as it answers: ``+1.50000E+0`` (how many digits: unverified)."""
    mantissa, _, exponent = f"{value:+.5E}".partition("E")
    return f"{mantissa}E{int(exponent):+d}"


def engineering(value: float) -> str:
    """A range or limit as it answers: ``+30E+0``, ``+100E-3`` (13-12)."""
    exponent = 3 * math.floor(math.log10(abs(value)) / 3 + 1e-9) if value else 0
    return f"{value / 10.0**exponent:+.4g}E{exponent:+d}"
