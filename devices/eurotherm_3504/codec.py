"""The parameters of 3504 and 3216: register numbers, decimals and meanings, shared by driver and emulator.

Sources: M = Eurotherm 3216 manual HA028651 and 2000 series communications handbook HA026230 (issue 3), whose
numbers the 3500's first loop shares; D = open drivers that need exactly this: `eurotherm3500` of
MinimalModbus (35, 78, 85, 273, 289), the EDM suite's 3504 driver at 19200 baud (1 to 4, 273). What
neither says is marked unverified: check it on the instrument before relying on it.

The 3216's own are from HA028651, section 15.5 (Modbus addresses), and from open drivers: `Eurotherm3200`
on MinimalModbus (float writes, 276, 531), `QModBus` (199, 273).

The instrument must be configured for degC, with the setpoint rate in units per minute (its default;
per second or per hour can be chosen, and only the 3216 tells).
"""

from __future__ import annotations

from dataclasses import dataclass

PER_MINUTE = 1 / 60  # K/s of 1 K/min


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the register map."""

    number: int
    name: str
    decimals: int = 1
    """Of the scaled integer; the float at 0x8000 + 2 * number needs none. 0: no float, but a whole number."""
    low: float | None = None
    """Limits of a write; a parameter without can't be written."""
    high: float | None = None
    time: bool = False
    """Seconds, and at 0x8000 + 2 * number milliseconds in 32 bits (HA026230, 6.5)."""

    @property
    def writable(self) -> bool:
        return self.low is not None


PV = 1  # M, D: process value
TARGET = 2  # M, D: target setpoint: whichever of SP1 and SP2 is selected
MANUAL_OUTPUT = 3  # D: output in manual mode, %
OUTPUT = 4  # M, D: working output, %
WORKING_SETPOINT = 5  # M, D: where the setpoint has got to on its way to the target
SELECT = 15  # M: 0 SP1, 1 SP2
SP1, SP2 = 24, 25  # M, D: kept for 100,000 writes
REMOTE = 26  # M
RATE = 35  # D: setpoint rate, K/min; 0 = off, the setpoint steps
STATUS = 75  # D: bit field
RATE_DISABLE = 78  # D: 1 = the setpoint steps whatever 35 says
OUTPUT_AGAIN = 85  # D
VERSION = 107  # M
SP_HIGH, SP_LOW = 111, 112  # M: limits of SP1
IDENTIFIER = 122  # M: digits of the model in hexadecimal; 0x3504 unverified for this series
MANUAL = 273  # D: 0 automatic, 1 manual
PV_AGAIN = 289  # D

BAND, INTEGRAL, DERIVATIVE = 6, 8, 9  # M: of the loop, display units and s
DEVIATION = 39  # M, D: temperature less setpoint

MODE = 199  # M: 0 operating, 1 standby (outputs off), 2 being configured; D differs: 2 standby
CONFIGURATION = 2

# Of the 3216 only.
LOCAL = 276  # M, D: 0 own setpoints, 1 the remote one in 26
RATE_UNIT = 531  # D: 0 per minute, 1 per hour, 2 per second
SECONDS = (60.0, 3600.0, 1.0)
"""Of the unit of time of the setpoint rate, by number."""

RATE_STEP = 0.1  # K/min: resolution of 35 on the display and as an integer (D)
RATE_MIN, RATE_MAX = 0.1, 9999.9  # K/min, 0 = off; HA027988 setpoint parameters, unverified
RATE_MAX_3216 = 3000.0  # K/min; HA028651 setpoint parameters, unverified
CYCLE = 0.110  # s: control cycle, in which readings are refreshed (HA027988 technical specification)
CYCLE_3216 = 0.250  # s, unverified (HA028651 technical specification)

PARAMETERS = (
    Parameter(PV, "pv"),
    Parameter(TARGET, "target", 1, -200.0, 3000.0),
    Parameter(MANUAL_OUTPUT, "manual_output", 1, 0.0, 100.0),
    Parameter(OUTPUT, "output"),
    Parameter(WORKING_SETPOINT, "working_setpoint"),
    Parameter(SELECT, "select", 0, 0, 1),
    Parameter(SP1, "sp1", 1, -200.0, 3000.0),
    Parameter(SP2, "sp2", 1, -200.0, 3000.0),
    Parameter(REMOTE, "remote", 1, -200.0, 3000.0),
    Parameter(RATE, "rate", 1, 0.0, RATE_MAX),
    Parameter(STATUS, "status", 0),
    Parameter(RATE_DISABLE, "rate_disable", 0, 0, 1),
    Parameter(OUTPUT_AGAIN, "output"),
    Parameter(VERSION, "version", 0),
    Parameter(SP_HIGH, "sp_high", 1, -200.0, 3000.0),
    Parameter(SP_LOW, "sp_low", 1, -200.0, 3000.0),
    Parameter(IDENTIFIER, "identifier", 0),
    Parameter(MANUAL, "manual", 0, 0, 1),
    Parameter(PV_AGAIN, "pv"),
    Parameter(BAND, "band", 1, 0.1, 3000.0),
    Parameter(INTEGRAL, "integral", 0, 0, 9999, time=True),
    Parameter(DERIVATIVE, "derivative", 0, 0, 9999, time=True),
    Parameter(DEVIATION, "deviation"),
)

_NOT_3216 = (RATE_DISABLE, OUTPUT_AGAIN, PV_AGAIN, RATE)
PARAMETERS_3216 = (
    *(parameter for parameter in PARAMETERS if parameter.number not in _NOT_3216),
    Parameter(RATE, "rate", 1, 0.0, RATE_MAX_3216),
    Parameter(MODE, "mode", 0, 0, 2),
    Parameter(LOCAL, "local", 0, 0, 1),
    Parameter(RATE_UNIT, "rate_unit", 0, 0, 2),
)

STATUS_BITS = {  # D, of the 2000 and 3200 series' register 75; unverified for the 3500
    0: "alarm 1", 1: "alarm 2", 2: "alarm 3", 3: "alarm 4", 4: "manual", 5: "sensor broken",
    6: "loop broken", 10: "out of range", 12: "new alarm", 13: "ramping", 15: "tuning itself",
}  # fmt: skip


def decode_status(word: float) -> str:
    """Register 75 in words, "ok" if no bit is set."""
    return ", ".join(text for bit, text in STATUS_BITS.items() if int(word) >> bit & 1) or "ok"


def encode_status(*texts: str) -> int:
    """The word that `decode_status` reads as `texts`."""
    return sum(1 << bit for bit, text in STATUS_BITS.items() if text in texts)


def model(identifier: float) -> str:
    """The model that register 122 spells, as ``3504``."""
    return f"{int(identifier) & 0xFFFF:04X}"
