"""The parameters of Pfeiffer's drives of turbo pumps: numbers, data types, and what they may be set to.

Sources: the open driver pfeiffer-turbo 0.3.4 (its table, written after the manuals of TC 110 and TM 700: numbers,
types, texts of errors), and socs (`pfeiffer_tc400`), whose pumps start when both 010 and 023 are on. TC 110 PB,
PT 0245, page 32 gives the data types. Unverified: the ranges and what a drive is delivered with.
"""

from __future__ import annotations

from dataclasses import dataclass

from .codec import BOOLEAN_OLD, STRING, U_INTEGER, U_REAL, U_SHORT_INT, Value, encode_data


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number of the list."""

    number: int
    kind: int
    """Data type."""
    initial: Value = 0
    low: float = 0.0
    high: float = -1.0
    """What may be set; nothing if `high` is below `low`."""

    @property
    def settable(self) -> bool:
        return self.high >= self.low

    def encode(self, value: Value) -> str:
        """Raises ValueError."""
        return encode_data(self.kind, value)


def _switch(number: int, initial: bool = False) -> Parameter:
    return Parameter(number, BOOLEAN_OLD, initial, 0, 1)


STANDBY = _switch(2)
RUN_UP_CONTROL = _switch(4, True)
ACKNOWLEDGE = _switch(9)
STATION = _switch(10)
MOTOR = _switch(23, True)
SPEED_MODE = Parameter(26, U_SHORT_INT, 0, 0, 1)
REMOTE_PRIORITY = Parameter(300, BOOLEAN_OLD)
SWITCH_POINT = Parameter(302, BOOLEAN_OLD)
ERROR = Parameter(303, STRING)
TOO_HOT = (Parameter(304, BOOLEAN_OLD), Parameter(305, BOOLEAN_OLD))
AT_SPEED = Parameter(306, BOOLEAN_OLD)
ACCELERATES = Parameter(307, BOOLEAN_OLD)
TARGET = Parameter(308, U_INTEGER)  # Hz
SPEED = Parameter(309, U_INTEGER)  # Hz
CURRENT = Parameter(310, U_REAL)  # A
HOURS_PUMP = Parameter(311, U_INTEGER)
FIRMWARE = Parameter(312, STRING)
VOLTAGE = Parameter(313, U_REAL)  # V
HOURS_DRIVE = Parameter(314, U_INTEGER)
NOMINAL = Parameter(315, U_INTEGER)  # Hz
POWER = Parameter(316, U_INTEGER)  # W
CYCLES = Parameter(319, U_INTEGER)
ELECTRONIC, BOTTOM, BEARING, MOTOR_TEMPERATURE = (Parameter(n, U_INTEGER) for n in (326, 330, 342, 346))  # degC
RATE = Parameter(336, U_INTEGER)  # rpm/s
NAME = Parameter(349, STRING)
HARDWARE = Parameter(354, STRING)
HISTORY = tuple(Parameter(n, STRING, "000000") for n in range(360, 370))
TARGET_RPM, SPEED_RPM, NOMINAL_RPM = (Parameter(n, U_INTEGER) for n in (397, 398, 399))
RUN_UP_TIME = Parameter(700, U_INTEGER, 8, 1, 120)  # min
SWITCH_POINT_1 = Parameter(701, U_INTEGER, 80, 50, 97)  # %
SPEED_SET = Parameter(707, U_REAL, 65.0, 20, 100)  # %
STANDBY_SET = Parameter(717, U_REAL, 66.7, 20, 100)  # %
ADDRESS = Parameter(797, U_INTEGER, 1, 1, 255)

PARAMETERS = {
    parameter.number: parameter
    for parameter in (
        _switch(1), STANDBY, RUN_UP_CONTROL, ACKNOWLEDGE, STATION, _switch(12), _switch(13),
        Parameter(17, U_SHORT_INT, 0, 0, 1), Parameter(19, U_SHORT_INT, 0, 0, 15), MOTOR,
        Parameter(24, U_SHORT_INT, 1, 0, 15), Parameter(25, U_SHORT_INT, 0, 0, 2), SPEED_MODE,
        Parameter(27, U_SHORT_INT, 0, 0, 2), Parameter(30, U_SHORT_INT, 0, 0, 2),
        *(Parameter(n, U_SHORT_INT, 0, 0, 8) for n in (35, 36, 37, 38, 55)), _switch(50),
        Parameter(60, U_SHORT_INT, 1, 0, 255), _switch(61), Parameter(62, U_SHORT_INT, 0, 0, 5),
        Parameter(63, U_SHORT_INT, 0, 0, 5), REMOTE_PRIORITY, SWITCH_POINT, ERROR, *TOO_HOT, AT_SPEED, ACCELERATES,
        TARGET, SPEED, CURRENT, HOURS_PUMP, FIRMWARE, VOLTAGE, HOURS_DRIVE, NOMINAL, POWER, CYCLES, ELECTRONIC, BOTTOM,
        RATE, BEARING, MOTOR_TEMPERATURE, NAME, HARDWARE, *HISTORY, TARGET_RPM, SPEED_RPM, NOMINAL_RPM, RUN_UP_TIME,
        SWITCH_POINT_1, SPEED_SET, Parameter(708, U_SHORT_INT, 100, 10, 100), Parameter(710, U_INTEGER, 0, 0, 1000),
        Parameter(711, U_INTEGER, 0, 0, 1000), STANDBY_SET, Parameter(719, U_INTEGER, 20, 5, 97),
        Parameter(720, U_SHORT_INT, 50, 40, 98), Parameter(721, U_INTEGER, 3600, 6, 3600),
        Parameter(777, U_INTEGER, 0, 0, 1500), ADDRESS,
    )
}  # fmt: skip
"""By number: those of a TC 110."""

NO_ERROR = "000000"
ERRORS = {
    "Err001": "it ran too fast",
    "Err002": "overvoltage at its supply",
    "Err006": "it did not run up in time; is the pressure too high, or the fore pump off?",
    "Err008": "the pump is not connected to its drive",
    "Err010": "an internal fault",
    "Err021": "the drive does not recognise the pump",
    "Err041": "too much motor current",
    "Err043": "an internal fault of its configuration",
    "Err044": "its electronics are too hot",
    "Err045": "its motor is too hot",
    "Err046": "an internal fault at the start",
    "Err073": "too much load on the axial bearing",
    "Err074": "too much load on the radial bearing",
    "Err098": "an internal fault of communication",
    "Err107": "a fault of its power stage",
    "Err108": "it can't measure its speed",
    "Err117": "the bottom of the pump is too hot",
    "Err118": "its power stage is too hot",
    "Err119": "its bearing is too hot",
    "Err777": "the nominal speed was not confirmed",
}
"""Errors stop the pump; what begins with ``Wrn`` does not."""
