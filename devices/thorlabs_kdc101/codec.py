"""What is said to a Thorlabs KDC101: APT messages of six bytes, with data behind them where there are any.

Source: Thorlabs "APT Controllers Host-Controller Communications Protocol", issues 15 to 37 (header: "Description of the
message header"; scaling: "Conversion between position, velocity and acceleration values in standard physical units and
their equivalent APT parameters"; messages by their names). The document was at hand as its table of contents; layouts
and status bits are those that two independent open packages, thorlabs-apt-protocol 29 and pylablib 1.4, agree on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

HOST, RACK, BAY, USB = 0x01, 0x11, 0x21, 0x50
"""Addresses. A K-Cube on its own USB plug is USB; RACK and BAY are those of a hub and its first bay."""
LONG = 0x80  # in the destination: data follow
LONGEST_DATA = 255
CHANNEL = 1

# MGMSG_...
HW_DISCONNECT, HW_REQ_INFO, HW_GET_INFO = 0x0002, 0x0005, 0x0006
HW_START_UPDATEMSGS, HW_STOP_UPDATEMSGS = 0x0011, 0x0012
HW_NO_FLASH_PROGRAMMING = 0x0018
MOD_SET_CHANENABLESTATE, MOD_REQ_CHANENABLESTATE, MOD_GET_CHANENABLESTATE = 0x0210, 0x0211, 0x0212
MOD_IDENTIFY = 0x0223
HUB_REQ_BAYUSED, HUB_GET_BAYUSED, NO_HUB = 0x0065, 0x0066, 0xFF
MOD_SET_DIGOUTPUTS, MOD_REQ_DIGOUTPUTS, MOD_GET_DIGOUTPUTS = 0x0213, 0x0214, 0x0215
HW_SET_KCUBEMMILOCK, HW_REQ_KCUBEMMILOCK, HW_GET_KCUBEMMILOCK = 0x0250, 0x0251, 0x0252
MOT_SET_ENCCOUNTER, MOT_SET_POSCOUNTER = 0x0409, 0x0410
MOT_SET_VELPARAMS, MOT_REQ_VELPARAMS, MOT_GET_VELPARAMS = 0x0413, 0x0414, 0x0415
MOT_SET_JOGPARAMS, MOT_SET_LIMSWITCHPARAMS = 0x0416, 0x0423
MOT_REQ_STATUSBITS, MOT_GET_STATUSBITS = 0x0429, 0x042A
MOT_SET_GENMOVEPARAMS, MOT_SET_HOMEPARAMS = 0x043A, 0x0440
MOT_MOVE_HOME, MOT_MOVE_HOMED = 0x0443, 0x0444
MOT_SET_MOVERELPARAMS, MOT_MOVE_RELATIVE = 0x0445, 0x0448
MOT_SET_MOVEABSPARAMS, MOT_MOVE_ABSOLUTE = 0x0450, 0x0453
MOT_MOVE_VELOCITY, MOT_MOVE_COMPLETED = 0x0457, 0x0464
MOT_MOVE_STOP, MOT_MOVE_STOPPED = 0x0465, 0x0466
MOT_MOVE_JOG, MOT_SUSPEND_ENDOFMOVEMSGS, MOT_RESUME_ENDOFMOVEMSGS = 0x046A, 0x046B, 0x046C
MOT_REQ_STATUSUPDATE, MOT_GET_STATUSUPDATE = 0x0480, 0x0481
MOT_REQ_DCSTATUSUPDATE, MOT_GET_DCSTATUSUPDATE, MOT_ACK_DCSTATUSUPDATE = 0x0490, 0x0491, 0x0492
MOT_SET_DCPIDPARAMS, MOT_SET_AVMODES, MOT_SET_EEPROMPARAMS = 0x04A0, 0x04B3, 0x04B9
RESTORE_FACTORY_SETTINGS = 0x0686
MOT_SET_KCUBEMMIPARAMS, MOT_SET_KCUBETRIGIOCONFIG, MOT_SET_KCUBEPOSTRIGPARAMS = 0x0520, 0x0523, 0x0526

NEGATIVE, POSITIVE = 1, 2
"""Directions of jogging and homing. The document calls them forward and reverse; with this controller its forward
counts down (D: both open packages turn it round)."""
IMMEDIATE, PROFILED = 1, 2  # ways to stop
ENABLED, DISABLED = 1, 2

PARAMETERS: dict[int, str] = {
    MOT_SET_ENCCOUNTER: "<Hi",
    MOT_SET_POSCOUNTER: "<Hi",
    MOT_SET_VELPARAMS: "<H3i",  # least velocity, acceleration, greatest velocity
    MOT_SET_JOGPARAMS: "<HH4iH",  # mode, step, least velocity, acceleration, greatest velocity, way to stop
    MOT_SET_LIMSWITCHPARAMS: "<HHHiiH",
    MOT_SET_GENMOVEPARAMS: "<Hi",  # backlash
    MOT_SET_HOMEPARAMS: "<HHHii",  # direction, limit switch, velocity, offset
    MOT_SET_MOVERELPARAMS: "<Hi",
    MOT_SET_MOVEABSPARAMS: "<Hi",
    MOT_SET_DCPIDPARAMS: "<H4iH",
    MOT_SET_AVMODES: "<HH",
    MOT_SET_KCUBEMMIPARAMS: "<HHiiHii3H",
    MOT_SET_KCUBETRIGIOCONFIG: "<H4H",
    MOT_SET_KCUBEPOSTRIGPARAMS: "<H8i",
}
"""Parameters by the message that sets them, the channel first; the next number asks for them, the one after tells."""

# Status bits, of MOT_GET_STATUSBITS and others.
LOW_LIMIT, HIGH_LIMIT = 1 << 0, 1 << 1
MOVING_DOWN, MOVING_UP, JOGGING_DOWN, JOGGING_UP = (1 << bit for bit in range(4, 8))
CONNECTED, HOMING, HOMED = 1 << 8, 1 << 9, 1 << 10
TRACKING, SETTLED, MOTION_ERROR = 1 << 12, 1 << 13, 1 << 14
CURRENT_LIMIT, POWER_OK, IS_ENABLED = 1 << 24, 1 << 28, 1 << 31
MOVING = MOVING_DOWN | MOVING_UP | JOGGING_DOWN | JOGGING_UP | HOMING

# ---------------------------------------------------------------------- stages and units

SAMPLING = 2048 / 6e6  # s, the controller's cycle: the scaling of KDC101 and TDC001


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage with its motor."""

    counts: float
    """Encoder counts per mm."""
    travel: float
    """mm"""
    speed: float
    """Greatest, mm/s."""
    acceleration: float
    """Usual, mm/s2."""
    number: int
    """By which the controller knows it (D, pylablib; 0: not told)."""


# 512 counts a turn, gear 67.49 to 1, screw of 1 mm (MTS50/M-Z8 manual); the document of 28 November 2022 has 34554.96
# for all Z8, its older issues 34304 (gear 67 to 1), 0.7 % short. Both as open programs quote them: pylablib and
# thorlabs-apt-device still have the latter. Travel and speed: data sheets of the stages, unverified.
Z8 = 34554.96
STAGES = {
    "MTS25-Z8": Stage(Z8, 25.0, 2.4, 4.5, 7),
    "MTS50-Z8": Stage(Z8, 50.0, 2.4, 4.5, 8),
    "Z806": Stage(Z8, 6.0, 2.6, 4.0, 11),
    "Z812": Stage(Z8, 12.0, 2.6, 4.0, 10),
    "Z825": Stage(Z8, 25.0, 2.6, 4.0, 9),
    "Z606": Stage(24600.0, 6.0, 0.5, 0.5, 0),
    "Z612": Stage(24600.0, 12.0, 0.5, 0.5, 0),
    "Z625": Stage(24600.0, 25.0, 0.5, 0.5, 0),
}


def velocity(speed: float, counts: float) -> int:
    """What MOT_SET_VELPARAMS takes for a speed in mm/s."""
    return round(speed * counts * SAMPLING * 65536)


def speed(velocity: int, counts: float) -> float:
    """mm/s"""
    return velocity / (counts * SAMPLING * 65536)


def acceleration(rate: float, counts: float) -> int:
    """What MOT_SET_VELPARAMS takes for an acceleration in mm/s2."""
    return round(rate * counts * SAMPLING**2 * 65536)


def rate(acceleration: int, counts: float) -> float:
    """mm/s2"""
    return acceleration / (counts * SAMPLING**2 * 65536)


# ---------------------------------------------------------------------- messages


@dataclass(frozen=True, slots=True)
class Message:
    """Either two parameters, or data."""

    number: int
    first: int = 0
    second: int = 0
    data: bytes | None = None
    destination: int = USB
    source: int = HOST

    def encode(self) -> bytes:
        if self.data is None:
            return struct.pack("<H4B", self.number, self.first, self.second, self.destination, self.source)
        return struct.pack("<HHBB", self.number, len(self.data), self.destination | LONG, self.source) + self.data

    @classmethod
    def decode(cls, message: bytes) -> Self:
        """Raises ValueError."""
        if len(message) < HEADER:
            raise ValueError(f"{message!r} is shorter than a header")
        number, first, second, destination, source = struct.unpack_from("<H4B", message)
        if not destination & LONG:
            return cls(number, first, second, None, destination, source)
        if len(message) - HEADER != first | second << 8:
            raise ValueError(f"{message!r} has not the length it says")
        return cls(number, 0, 0, message[HEADER:], destination & ~LONG, source)


HEADER = 6


def is_reply(number: int) -> bytes:
    """How a reply of that number begins."""
    return struct.pack("<H", number)


class End:
    """One end of the line. It drops bytes that can't begin a message meant for it: there is no sum.

    A message that it does not know is dropped as a whole, so that none is found in its data.
    """

    def __init__(self, destinations: frozenset[int], source: int, known: frozenset[int]) -> None:
        """`destinations`: its own addresses; `source`: the other end's. `known`: the messages it may get."""
        self._destinations, self._source, self._known = destinations, source, known
        self._buffer = b""

    def encode(self, message: bytes) -> bytes:
        return message

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        messages = []
        while len(self._buffer) >= HEADER:
            number, length, destination, source = struct.unpack_from("<HHBB", self._buffer)
            is_long = destination & LONG
            known = number in self._known
            if (
                not (known or source == self._source)
                or destination & ~LONG not in self._destinations
                or (is_long and length > LONGEST_DATA)
            ):
                self._buffer = self._buffer[1:]
                continue
            size = HEADER + (length if is_long else 0)
            if len(self._buffer) < size:
                break
            if known:
                messages.append(self._buffer[:size])
            self._buffer = self._buffer[size:]
        return messages

    def reset(self) -> None:
        self._buffer = b""


def _told() -> frozenset[int]:
    return frozenset(
        {
            HW_GET_INFO, MOD_GET_CHANENABLESTATE, MOT_GET_STATUSBITS, MOT_GET_STATUSUPDATE, MOT_GET_DCSTATUSUPDATE,
            MOT_MOVE_HOMED, MOT_MOVE_COMPLETED, MOT_MOVE_STOPPED, MOD_GET_DIGOUTPUTS, HW_GET_KCUBEMMILOCK,
            HUB_GET_BAYUSED,
        }
        | {number + 2 for number in PARAMETERS}
    )  # fmt: skip


def _said() -> frozenset[int]:
    return frozenset(
        {
            HW_DISCONNECT, HW_REQ_INFO, HW_START_UPDATEMSGS, HW_STOP_UPDATEMSGS, HW_NO_FLASH_PROGRAMMING,
            MOD_SET_CHANENABLESTATE, MOD_REQ_CHANENABLESTATE, MOD_IDENTIFY, MOT_REQ_STATUSBITS, MOT_MOVE_HOME,
            MOT_MOVE_RELATIVE, MOT_MOVE_ABSOLUTE, MOT_MOVE_VELOCITY, MOT_MOVE_STOP, MOT_MOVE_JOG,
            MOT_SUSPEND_ENDOFMOVEMSGS, MOT_RESUME_ENDOFMOVEMSGS, MOT_REQ_STATUSUPDATE, MOT_REQ_DCSTATUSUPDATE,
            MOT_ACK_DCSTATUSUPDATE, MOT_SET_EEPROMPARAMS, RESTORE_FACTORY_SETTINGS, MOD_SET_DIGOUTPUTS,
            MOD_REQ_DIGOUTPUTS, HW_SET_KCUBEMMILOCK, HW_REQ_KCUBEMMILOCK, HUB_REQ_BAYUSED,
        }
        | {number + step for number in PARAMETERS for step in (0, 1)}
    )  # fmt: skip


def host_end() -> End:
    """What the program reads with."""
    return End(frozenset({0, HOST}), USB, _told())


def cube_end() -> End:
    """What the controller reads with."""
    return End(frozenset({USB, RACK, BAY}), HOST, _said())


# ---------------------------------------------------------------------- what comes in data

_INFO = struct.Struct("<I8sH4B48s12xHHH")
_STATUS = struct.Struct("<HihHI")


@dataclass(frozen=True, slots=True)
class Info:
    """HW_GET_INFO"""

    serial: int
    model: str
    kind: int
    firmware: tuple[int, int, int]
    """Major, interim, minor."""
    notes: str = ""
    hardware: int = 1
    modification: int = 0
    channels: int = 1

    def encode(self) -> bytes:
        major, interim, minor = self.firmware
        return _INFO.pack(
            self.serial, self.model.encode("ascii"), self.kind, minor, interim, major, 0, self.notes.encode("ascii"),
            self.hardware, self.modification, self.channels,
        )  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises ValueError."""
        if len(data) != _INFO.size:
            raise ValueError(f"{data!r} is no hardware information")
        serial, model, kind, minor, interim, major, _, notes, hardware, modification, channels = _INFO.unpack(data)
        text, remark = (part.partition(b"\0")[0].decode("ascii", "replace") for part in (model, notes))
        return cls(serial, text, kind, (major, interim, minor), remark, hardware, modification, channels)


@dataclass(frozen=True, slots=True)
class DcStatus:
    """MOT_GET_DCSTATUSUPDATE and what comes at the end of a move."""

    position: int
    """Encoder counts."""
    velocity: int
    """As the motor's speed loop has it."""
    bits: int
    current: int = 0
    """mA; reserved in older issues."""

    def encode(self) -> bytes:
        return _STATUS.pack(CHANNEL, self.position, self.velocity, self.current, self.bits)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises ValueError."""
        if len(data) != _STATUS.size:
            raise ValueError(f"{data!r} is no status of a DC motor")
        _, position, velocity, current, bits = _STATUS.unpack(data)
        return cls(position, velocity, bits, current)
