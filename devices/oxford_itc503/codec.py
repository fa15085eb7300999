"""ITC503 wire: one letter and a number, answered by the letter, a value, or a question mark.

Sources: M = ITC503 Operator's Handbook, issue 4 (April 2000), chapter on remote operation, at hand as
an extract; the same commands stand in the MercuryiTC manual UMC0071, section 8.4 (legacy commands).
D = open drivers that need exactly this: PyMeasure 0.16 `itc503`, QCoDeS contributed `ITC503`.
9600 baud, 8N2 (D); lines end with CR, a LF after it is ignored (M).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hal.units import convert

IDENTITY = "ITC503"
"""How the answer to V begins; version and year follow. It does not echo the V (D)."""
SETPOINT, SENSOR, ERROR, OUTPUT, VOLTAGE, GAS = 0, 1, 4, 5, 6, 7
"""Numbers of the R command (M): setpoint, first of three sensors, then as named."""
HOTTEST = 1677.7  # K; highest setpoint (D)
MAX_OUTPUT = 99.9  # % (M, O command)
RESOLUTION = 0.1  # K, as readings are shown; unverified: it depends on the sensor's range
REMOTE = 3  # remote, its keys stay usable (M, C command)
HEATER_AUTO, GAS_AUTO = 1, 2  # bits of the A command's number (M); 4 is added while AutoGFS calibrates (M)

_STATUS = re.compile(r"X(\d)A(\d)C(\d)S(\d\d)H(\d)L(\d)")
_VALUE = re.compile(r"[A-Za-z]([+-]?\d+\.?\d*|[+-]?\.\d+)")


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to X."""

    modes: int
    """Automatic heater and gas, bits as of the A command."""
    control: int
    """As of the C command: bit 0 remote, bit 1 unlocked."""
    sweep: int
    """0 none; 2P-1 on the way to step P, 2P holding there."""
    sensor: int
    """By which the heater is controlled, 1 to 3."""
    auto_pid: int = 0
    system: int = 0

    def encode(self) -> str:
        return f"X{self.system}A{self.modes}C{self.control}S{self.sweep:02d}H{self.sensor}L{self.auto_pid}"

    @classmethod
    def decode(cls, text: str) -> Status:
        """Raises ValueError."""
        if not (found := _STATUS.fullmatch(text)):
            raise ValueError(f"no status: {text!r}")
        system, modes, control, sweep, sensor, auto_pid = map(int, found.groups())
        return cls(modes, control, sweep, sensor, auto_pid, system)

    @property
    def heating(self) -> bool:
        """Whether the heater is automatic."""
        return bool(self.modes & HEATER_AUTO)


def decode_value(text: str) -> float:
    """The number in ``R298.1``. Raises ValueError."""
    if not (found := _VALUE.fullmatch(text)) or text[0] != "R":
        raise ValueError(f"no value: {text!r}")
    return float(found[1])


def decode_temperature(text: str) -> float:
    """The kelvin in ``R298.1``, as degC. Raises ValueError."""
    return convert(decode_value(text), "K", "degC")


def encode_setpoint(celsius: float) -> str:
    """``T333.15`` of 60 degC."""
    return f"T{convert(celsius, 'degC', 'K'):.2f}"
