"""Keithley 2602B wire: what it can do, and the lines of TSP by which the driver asks and sets.

Source: Series 2600B Reference Manual, 2600BS-901-01; pages are of Rev. C (August 2016) unless another
is named. Data sheet: SPEC-2602B Rev. B. Messages end with LF both ways; a raw socket is at port 5025.

Questions bring their own ``string.format``, so that neither ``format.asciiprecision`` nor whoever set
it last matters; a question changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from devices.source_meter import Mode
from hal.model.reading import Quality, Sample

TERMINATOR = b"\n"
MODEL = "2602B"
IDENTITY = ("KEITHLEY INSTRUMENTS INC., MODEL 2602B,", "KEITHLEY INSTRUMENTS, MODEL 2602B,")
"""How ``*IDN?`` begins: older firmware (p. D-3) and newer (Rev. F, p. 11-3), in capitals."""

VOLTAGE_RANGES = (0.1, 1.0, 6.0, 40.0)  # V (data sheet)
CURRENT_RANGES = (100e-9, 1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0, 3.0)  # A (data sheet)
OVERRANGE = 1.01
"""How far beyond its name a range goes: 40.4 V, 3.03 A (data sheet)."""
VOLTAGE, CURRENT = 40.4, 3.03  # V, A; both signs
VOLTAGE_LIMIT = (0.01, 40.0)  # V (Rev. F, p. 9-244)
CURRENT_LIMIT = (10e-9, 3.0)  # A (Rev. F, p. 9-244)
LOW_VOLTAGE, LOW_CURRENT = 6.06, 1.01
"""Beyond 6 V no more than 1 A can be had, and the other way round: 40.4 W (Rev. B, p. 4-12)."""
NPLC = (0.001, 25.0)
"""Cycles of the mains a measurement takes (``smuX.measure.nplc``)."""
OVERFLOW = 9.91e37
"""A reading that is over range (``smuX.measure.rangeY``)."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Both quantities at once, and the state they were measured in."""

    voltage: Sample[float]
    current: Sample[float]
    output: bool
    limited: bool


@dataclass(frozen=True, slots=True)
class State:
    """What the source is set to."""

    mode: Mode
    level: float
    compliance: float
    output: bool


def measure(channel: str) -> str:
    """Ask for one measurement of both quantities (``measure.iv`` gives current, then voltage)."""
    s = f"smu{channel}"
    return (
        f'print(string.format("%d %s %.9e %.9e", {s}.source.output, tostring({s}.source.compliance), {s}.measure.iv()))'
    )


def parse_measurement(reply: bytes) -> Measurement:
    """Take the answer to `measure` apart. Raises ValueError."""
    output, limited, current, voltage = reply.decode("ascii").split()
    if output not in ("0", "1") or limited not in ("true", "false"):
        raise ValueError(f"{output!r} and {limited!r} are no states of output and compliance")
    held = limited == "true"
    return Measurement(_sample(float(voltage), held), _sample(float(current), held), output == "1", held)


def format_measurement(found: Measurement) -> str:
    """The answer to `measure`: the other direction."""
    volts, amperes = (OVERFLOW if s.value is None else s.value for s in (found.voltage, found.current))
    return f"{int(found.output)} {'true' if found.limited else 'false'} {amperes:.9e} {volts:.9e}"


def state(channel: str, mode: Mode) -> str:
    """Ask what the source is set to; level and limit are those of a source of this kind."""
    s = f"smu{channel}.source"
    values = f"{s}.func, {level(channel, mode)}, {limit(channel, mode)}, {s}.output"
    return f'print(string.format("%d %.9e %.9e %d", {values}))'


def parse_state(reply: bytes) -> State:
    """Take the answer to `state` apart. Raises ValueError."""
    function, sourced, compliance, output = reply.decode("ascii").split()
    if function not in ("0", "1") or output not in ("0", "1"):
        raise ValueError(f"{function!r} and {output!r} are no states of function and output")
    return State("voltage" if function == "1" else "current", float(sourced), float(compliance), output == "1")


def parse_error(reply: bytes) -> tuple[int, str]:
    """Code and text of ``print(errorqueue.next())``; severity and node follow (p. 7-91). Raises ValueError."""
    code, text, *_ = reply.decode("ascii", "replace").split("\t")
    return int(float(code)), text


def question(attribute: str) -> str:
    """Ask for a number."""
    return f'print(string.format("%.9e", {attribute}))'


def level(channel: str, mode: Mode) -> str:
    """The attribute of the source level (``smuX.source.levelY``)."""
    return f"smu{channel}.source.level{'v' if mode == 'voltage' else 'i'}"


def limit(channel: str, mode: Mode) -> str:
    """The attribute of the compliance of a source of this kind (``smuX.source.limitY``)."""
    return f"smu{channel}.source.limit{'i' if mode == 'voltage' else 'v'}"


def _sample(value: float, limited: bool) -> Sample[float]:
    if value != value or abs(value) >= OVERFLOW:
        return Sample(None, Quality.BAD, "over range")
    if limited:
        return Sample(value, Quality.UNCERTAIN, "in compliance: the source can't reach its level")
    return Sample(value)
