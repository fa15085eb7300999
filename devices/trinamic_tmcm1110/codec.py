"""What is said to a Trinamic TMCM-1110: TMCL telegrams of nine bytes, and the units its motion controller counts in.

Sources: Trinamic "TMCM-1110 TMCL Firmware Manual", firmware V1.09, revision V1.04, 2018 (telegrams: sections 3.1 and
3.2; commands: 3.6; axis parameters: 4; global parameters: 5; units: 6.1); where marked D, Trinamic's own package
PyTrinamic 0.2 has it so. The manual's text was at hand in parts only, and sister models with the same motion
controller (TMC429) filled the gaps: TMCM-1140 hardware manual, section 8.1; TMCM-1141 and TMCM-6110 firmware manuals.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

# Commands (section 3.6), and those that make sense inside a program only (numbers: Trinamic's TMCL.h, see `program`).
ROR, ROL, MST, MVP, SAP, GAP, STAP, RSAP = 1, 2, 3, 4, 5, 6, 7, 8
SGP, GGP, STGP, RSGP, RFS, SIO, GIO = 9, 10, 11, 12, 13, 14, 15
SCO, GCO, CCO = 30, 31, 32
CALC, COMP, JC, JA, CSUB, RSUB, EI, DI, WAIT, STOP = range(19, 29)
CALCX, AAP, AGP, CLE, VECT, RETI, ACO = range(33, 40)
VERSION, FACTORY, REACHED_EVENT = 136, 137, 138
STOP_PROGRAM, RUN_PROGRAM, STEP_PROGRAM, RESET_PROGRAM, LOAD_PROGRAM, END_LOADING, READ_PROGRAM, PROGRAM_STATUS = (
    PROGRAM
) = range(128, 136)
IN_PROGRAM_ONLY = (*range(19, 30), *range(33, 51))

ABS, REL, COORD = 0, 1, 2  # types of MVP
START, END, STATUS = 0, 1, 2  # types of RFS

# Status codes (section 3.2.1).
OK, LOADED, EVENT = 100, 101, 128
FULL = 9
"""Of a program's memory (TMCL.h)."""
BAD_CHECKSUM, BAD_COMMAND, BAD_TYPE, BAD_VALUE, LOCKED, UNAVAILABLE = range(1, 7)
STATUSES = {
    BAD_CHECKSUM: "the telegram arrived damaged; check the line",
    BAD_COMMAND: "it does not know the command; is it a TMCM-1110?",
    BAD_TYPE: "it does not know the parameter",
    BAD_VALUE: "the value is out of its range",
    LOCKED: "its EEPROM is locked",
    UNAVAILABLE: "the command is not available now",
    FULL: "there is no room for it in the memory of programs",
}

# Axis parameters (section 4).
TARGET, POSITION, TARGET_VELOCITY, VELOCITY, MAX_VELOCITY, MAX_ACCELERATION = range(6)
AT_TARGET, HOME_SWITCH, RIGHT_SWITCH, LEFT_SWITCH, RIGHT_DISABLED, LEFT_DISABLED = range(8, 14)
MICROSTEPS, RAMP_DIVISOR, PULSE_DIVISOR = 140, 153, 154
SEARCH_MODE, SEARCH_SPEED, SWITCH_SPEED, SWITCH_DISTANCE = 193, 194, 195, 196

# Global parameters (section 5): bank 0, and the user variables of bank 2, of which those from 56 on are not kept
# without power.
ADDRESS, HEARTBEAT, PAUSE_BEFORE_REPLY, HOST_ADDRESS, SECONDARY_ADDRESS = 66, 68, 75, 76, 87
USER_BANK, INTERRUPT_BANK, MARK = 2, 3, 255

FASTEST = 2047  # internal units of speed and acceleration
CLOCK = 16e6  # Hz, of the motion controller
FULL_STEPS = 200  # per turn, of a motor of 1.8 deg


class Refusal(Exception):
    """A command that is not carried out, by its status code."""

    def __init__(self, status: int) -> None:
        self.status = status


def require(fulfilled: bool, status: int) -> None:
    """Refuse with `status` unless `fulfilled`."""
    if not fulfilled:
        raise Refusal(status)


# ---------------------------------------------------------------------- units (section 6.1)


def microsteps_per_second(velocity: int, pulse_divisor: int) -> float:
    """Speed of internal units; 1678 with divisor 3 are 51208.5 microsteps/s."""
    return float(CLOCK * velocity / (2**pulse_divisor * 2048 * 32))


def internal_velocity(speed: float, pulse_divisor: int) -> int:
    """The nearest internal unit of a speed in microsteps/s."""
    return round(speed / microsteps_per_second(1, pulse_divisor))


def microsteps_per_second2(acceleration: int, ramp_divisor: int, pulse_divisor: int) -> float:
    """Acceleration of internal units; 100 with divisors 7 and 3 are 46566 microsteps/s2."""
    return float(CLOCK**2 * acceleration / 2 ** (ramp_divisor + pulse_divisor + 29))


# ---------------------------------------------------------------------- telegrams


@dataclass(frozen=True, slots=True)
class Command:
    """Host to module (section 3.1)."""

    address: int
    number: int
    type: int = 0
    motor: int = 0
    """Motor, or bank."""
    value: int = 0
    """Signed."""

    def encode(self) -> bytes:
        """Without the sum, which the framing adds."""
        return struct.pack(">4Bi", self.address, self.number, self.type, self.motor, self.value)

    @classmethod
    def decode(cls, message: bytes) -> Self:
        return cls(*struct.unpack(">4Bi", message))


@dataclass(frozen=True, slots=True)
class Reply:
    """Module to host (section 3.2)."""

    host: int
    address: int
    status: int
    number: int
    """Of the command replied to."""
    value: int = 0
    """Signed."""

    def encode(self) -> bytes:
        """Without the sum, which the framing adds."""
        return struct.pack(">4Bi", self.host, self.address, self.status, self.number, self.value)

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises ValueError."""
        if len(message) != SIZE - 1:
            raise ValueError(f"{message!r} is no reply")
        return cls(*struct.unpack(">4Bi", message))


SIZE = 9
VERSION_TEXT = bytes((VERSION, 0))
"""Command and type of the one question whose reply has no sum: the host's address and eight characters."""


def summed(message: bytes) -> bytes:
    """The telegram of a message: the sum of its bytes at its end."""
    return message + bytes((sum(message) & 0xFF,))


class HostEnd:
    """Sends commands, receives replies; of bytes that are no telegram it drops one after the other."""

    def __init__(self) -> None:
        self._buffer = b""
        self._text = False

    def encode(self, message: bytes) -> bytes:
        self._text = message[1:3] == VERSION_TEXT
        return summed(message)

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        messages = []
        while len(self._buffer) >= SIZE:
            telegram = self._buffer[:SIZE]
            if self._text and telegram[1:].isalnum():
                messages.append(telegram)
            elif telegram == summed(telegram[:-1]):
                messages.append(telegram[:-1])
            else:
                self._buffer = self._buffer[1:]
                continue
            self._buffer = self._buffer[SIZE:]
        return messages

    def reset(self) -> None:
        self._buffer = b""


PAUSE = 0.05
"""Seconds without a byte after which the module forgets a telegram begun. Unverified: the manual's page is missing."""


class ModuleEnd:
    """Receives nine bytes at a time, right or wrong; sends what it is given, sum and all."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._heard = clock, 0.0
        self._buffer = b""

    def encode(self, message: bytes) -> bytes:
        return message

    def feed(self, data: bytes) -> list[bytes]:
        now = self._clock()
        if now - self._heard > PAUSE:
            self._buffer = b""
        self._heard = now
        self._buffer += data
        whole = len(self._buffer) // SIZE * SIZE
        messages = [self._buffer[at : at + SIZE] for at in range(0, whole, SIZE)]
        self._buffer = self._buffer[whole:]
        return messages

    def reset(self) -> None:
        self._buffer = b""
