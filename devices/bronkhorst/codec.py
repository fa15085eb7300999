"""ProPar, the language of Bronkhorst's flow controllers: packets and the parameters in them.

Source: Bronkhorst 9.17.027 "RS232 interface with FLOW-BUS protocol", sections 3.3 to 3.10, and the vendor's own
package bronkhorst-propar 1.3.0: chaining, commands, status codes, and the process, parameter and type numbers of its
table (there by "DDE" number). A packet is ``sequence node length data``; how it travels is in `framing`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ANY_NODE = 0x80  # the one instrument that owns the RS-232 line, whatever its address
FULL = 32000  # counts at 100 % (9.17.023, "measure", "setpoint")

# Commands (bronkhorst-propar, PP_COMMAND_...).
STATUS, WRITE, WRITE_SILENTLY, READ = 0, 1, 2, 4

# What status codes mean (bronkhorst-propar, PP_STATUS_...) and what to do about them.
OK, NO_PROCESS, NO_PARAMETER, WRONG_TYPE, WRONG_VALUE, READ_ONLY, BROKEN = 0, 3, 4, 5, 6, 13, 34
MEANINGS = {
    1: "the process is claimed by another master; let that one go",
    2: "the command is unknown to it; check the driver",
    NO_PROCESS: "it has no such process; check that it is a flow controller",
    NO_PARAMETER: "it has no such parameter; its firmware may be too old",
    WRONG_TYPE: "the parameter has another type; check the driver",
    WRONG_VALUE: "the value is out of its range; check full scale and unit",
    READ_ONLY: "the parameter can only be read; unlock it with FlowPlot if it must be set",
    17: "the parameter can only be written; check the driver",
    BROKEN: "the packet did not make sense to it; check the line",
}

# Error messages, which take the place of an answer (9.17.027, sections 3.3.3 and 3.3.4).
BAD_LENGTH, BAD_MESSAGE, NO_NODE, NO_ANSWER = 3, 4, 5, 9
ERRORS = {
    BAD_LENGTH: "the packet did not make sense to it; check the line",
    BAD_MESSAGE: "the packet did not make sense to it; check the line",
    NO_NODE: "there is no such node on the bus; check `unit`",
    NO_ANSWER: "the node did not answer on the bus; is it powered?",
}

Kind = Literal["byte", "word", "signed", "long", "float", "text"]
_CODE: dict[Kind, int] = {"byte": 0x00, "word": 0x20, "signed": 0x20, "long": 0x40, "float": 0x40, "text": 0x60}
_FORMAT: dict[int, str] = {0x00: ">B", 0x20: ">H", 0x40: ">I"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value inside an instrument: where it is and how it is written."""

    process: int
    number: int
    kind: Kind
    length: int = 0
    """Of a text; 0: ends with a zero byte."""

    @property
    def code(self) -> int:
        """Type and number as they travel."""
        return _CODE[self.kind] | self.number


IDENT = Parameter(0, 0, "text")  # DDE 1
ADDRESS = Parameter(0, 1, "byte")  # DDE 2
NEXT_ADDRESS = Parameter(0, 3, "byte")  # DDE 4
WINK = Parameter(0, 0, "text")  # DDE 1, written: blinks for that many seconds (9.17.023 "wink")
MEASURE = Parameter(1, 0, "signed")  # DDE 8
SETPOINT = Parameter(1, 1, "word")  # DDE 9
SLOPE = Parameter(1, 2, "word")  # DDE 10: 0.1 s from 0 to 100 %
CONTROL_MODE = Parameter(1, 4, "byte")  # DDE 12
CAPACITY = Parameter(1, 13, "float")  # DDE 21: flow at 100 %, in CAPACITY_UNIT
FLUID = Parameter(1, 17, "text", 10)  # DDE 25
ALARM_INFO = Parameter(1, 20, "byte")  # DDE 28
CAPACITY_UNIT = Parameter(1, 31, "text", 7)  # DDE 129
FMEASURE = Parameter(33, 0, "float")  # DDE 205, in CAPACITY_UNIT
FSETPOINT = Parameter(33, 3, "float")  # DDE 206, in CAPACITY_UNIT
TEMPERATURE = Parameter(33, 7, "float")  # DDE 142, degC
DEVICE_TYPE = Parameter(113, 1, "text", 6)  # DDE 90
MODEL = Parameter(113, 2, "text")  # DDE 91
SERIAL = Parameter(113, 3, "text")  # DDE 92
FIRMWARE = Parameter(113, 5, "text", 6)  # DDE 105 in the vendor's table
CHANNELS = Parameter(0, 18, "byte")  # as the vendor's master asks
VALVE = Parameter(114, 1, "long")  # DDE 55: 0..0xFFFFFF, the drive of the valve

# Control modes (DDE 12 in the vendor's table) in which the setpoint sent is the one obeyed.
BUS, CLOSE_VALVE, IDLE, FULLY_OPEN, RS232 = 0, 3, 4, 8, 18
MODES = {
    0: "bus setpoint", 1: "analog input", 2: "slave of another instrument", 3: "valve closed", 4: "idle",
    5: "test", 6: "tuning", 7: "setpoint 100 %", 8: "purge (fully open)", 9: "calibration", 12: "setpoint 0 %",
    18: "RS-232 setpoint", 20: "valve steering", 21: "analog valve steering", 22: "valve safe state",
}  # fmt: skip

# sccm (mL/min at 0 degC, 101.325 kPa) in one unit of capacity. "n" is 0 degC, "s" 20 degC, both at
# 101.325 kPa (Bronkhorst, "Volume flow versus mass flow"); the strings are those of 9.17.023, section 4.20.
# Actual volumes (l/min), masses (g/h) and pressures depend on gas and state and are refused.
_WARM = 273.15 / 293.15
SCCM = {
    "ln/min": 1e3, "ln/h": 1e3 / 60, "mln/min": 1.0, "mln/h": 1 / 60, "m3n/h": 1e6 / 60, "m3n/min": 1e6, "m3n/s": 6e7,
    "ls/min": 1e3 * _WARM, "ls/h": 1e3 / 60 * _WARM, "mls/min": _WARM, "mls/h": _WARM / 60, "m3s/h": 1e6 / 60 * _WARM,
    "sccm": 1.0, "slm": 1e3, "mln/m": 1.0, "ln/m": 1e3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Packet:
    """What travels: who is meant, and a number by which the reply is known."""

    sequence: int
    node: int
    data: bytes

    def answered_by(self, message: bytes) -> bool:
        """Whether `message` is the reply to this packet."""
        return len(message) > 3 and message[0] == self.sequence and self.node in (message[1], ANY_NODE)

    def encode(self) -> bytes:
        return bytes((self.sequence, self.node, len(self.data))) + self.data

    @classmethod
    def decode(cls, message: bytes) -> Packet:
        """Raises ValueError."""
        if len(message) < 4 or message[2] != len(message) - 3:
            raise ValueError(f"{message.hex(' ')} is no ProPar packet")
        return cls(message[0], message[1], message[3:])


def controls_gas(device_type: str) -> bool:
    """Whether a device of this type is a flow controller for gas: DMFC, CORIFC, not DMFM, DEPC, DLFC (DDE 175)."""
    return device_type.endswith("FC") and device_type != "DLFC"


# ---------------------------------------------------------------------- values


def encode_value(parameter: Parameter, value: float | int | str) -> bytes:
    """The bytes of a value; raises ValueError if the type can't hold it."""
    try:
        match parameter.kind:
            case "text":
                text = str(value).encode("ascii")
                if parameter.length == 0:
                    return b"\0" + text + b"\0"
                return bytes((parameter.length,)) + text[: parameter.length].ljust(parameter.length)
            case "float":
                return struct.pack(">f", value)
            case "signed":
                # 0..41942 as it is, -23593..-1 as the rest of the 16 bits.
                if not -23593 <= int(value) <= 41942:
                    raise ValueError(f"{value} is outside -23593 to 41942")
                return struct.pack(">H", int(value) % 65536)
            case kind:
                return struct.pack(_FORMAT[_CODE[kind]], int(value))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{value!r} does not fit {parameter}: {error}") from None


def decode_value(parameter: Parameter, raw: bytes) -> float | int | str:
    match parameter.kind:
        case "text":
            return raw.split(b"\0", 1)[0].decode("latin-1").rstrip()
        case "float":
            return float(struct.unpack(">f", raw)[0])
        case "signed":
            count = int.from_bytes(raw, "big")
            return count if count <= 41942 else count - 65536
        case _:
            return int.from_bytes(raw, "big")


# ---------------------------------------------------------------------- reading


def read_request(parameters: Sequence[Parameter]) -> bytes:
    """The data of a packet that asks for several values at once."""
    out = bytearray((READ,))
    for process, group, more in _chained(parameters):
        out.append(process | (0x80 if more else 0))
        for parameter, follows in group:
            out += bytes((parameter.code | (0x80 if follows else 0), parameter.process, parameter.code))
            if parameter.kind == "text":
                out.append(parameter.length)
    return bytes(out)


def read_reply(parameters: Sequence[Parameter], data: bytes) -> list[float | int | str]:
    """The values of a reply, in the order asked; raises ValueError if it is none."""
    if data[:1] != bytes((WRITE_SILENTLY,)):
        raise ValueError(f"{data.hex(' ')} is no reply to a reading")
    found = [(process, code, raw) for process, code, raw, _ in _walk(data)]
    if [(p, c) for p, c, _ in found] != [(p.process, p.code) for p in parameters]:
        raise ValueError(f"{data.hex(' ')} does not answer what was asked")
    return [decode_value(parameter, raw) for parameter, (_, _, raw) in zip(parameters, found, strict=True)]


@dataclass(frozen=True, slots=True)
class Asked:
    """One value asked for, as an instrument sees it."""

    process_index: int
    """The byte to repeat in the reply before the parameter; -1 where it is chained to the one before."""
    index: int
    process: int
    code: int
    length: int
    position: int
    """Of the parameter in the packet's data, for status replies."""


def read_asked(data: bytes) -> list[Asked]:
    """Take a reading's data apart; raises ValueError with what is wrong."""
    out: list[Asked] = []
    at, chained, more = 1, False, True
    while at < len(data):
        process_index = -1
        if not chained:
            if not more:
                raise ValueError("bytes after the end of the chain")
            process_index, more, at = data[at], bool(data[at] & 0x80), at + 1
        if len(data) < at + 3:
            raise ValueError("the packet ends within a parameter")
        index, process, code = data[at], data[at + 1] & 0x7F, data[at + 2] & 0x7F
        chained, position, at, length = bool(index & 0x80), at, at + 3, 0
        if code & 0x60 == 0x60:
            if len(data) <= at:
                raise ValueError("the packet ends within a text")
            length, at = data[at], at + 1
        out.append(Asked(process_index, index, process, code, length, position))
    if not out or chained:
        raise ValueError("the chain has no end")
    return out


def answer(asked: Sequence[Asked], values: Sequence[bytes]) -> bytes:
    """The data of a reply; values as made by `encode_value`."""
    out = bytearray((WRITE_SILENTLY,))
    for one, raw in zip(asked, values, strict=True):
        if one.process_index >= 0:
            out.append(one.process_index)
        out.append(one.index)
        out += raw
    return bytes(out)


# ---------------------------------------------------------------------- writing


def write_request(values: Sequence[tuple[Parameter, float | int | str]], *, silently: bool = False) -> bytes:
    """The data of a packet that sets several values at once, in this order."""
    out = bytearray((WRITE_SILENTLY if silently else WRITE,))
    raw = {parameter: encode_value(parameter, value) for parameter, value in values}
    for process, group, more in _chained([parameter for parameter, _ in values]):
        out.append(process | (0x80 if more else 0))
        for parameter, follows in group:
            out.append(parameter.code | (0x80 if follows else 0))
            out += raw[parameter]
    return bytes(out)


def written(data: bytes) -> list[tuple[int, int, bytes, int]]:
    """Process, code, raw value and position of everything a packet sets; raises ValueError."""
    return list(_walk(data))


def status_reply(status: int, position: int) -> bytes:
    return bytes((STATUS, status, min(position, 255)))


def error_of(message: bytes) -> int | None:
    """The number of an error message: a packet of length 0 with one byte more (section 3.3.4)."""
    return message[3] if len(message) == 4 and message[2] == 0 else None


def status_of(data: bytes) -> tuple[int, int] | None:
    """Status and position if `data` is a status reply."""
    return (data[1], data[2] if len(data) > 2 else 0) if len(data) >= 2 and data[0] == STATUS else None


# ---------------------------------------------------------------------- private


def _chained(parameters: Sequence[Parameter]) -> list[tuple[int, list[tuple[Parameter, bool]], bool]]:
    """Neighbours of one process together, each with whether another follows."""
    groups: list[list[Parameter]] = []
    for parameter in parameters:
        if groups and groups[-1][0].process == parameter.process:
            groups[-1].append(parameter)
        else:
            groups.append([parameter])
    return [
        (group[0].process, [(p, i < len(group) - 1) for i, p in enumerate(group)], number < len(groups) - 1)
        for number, group in enumerate(groups)
    ]


def _walk(data: bytes) -> list[tuple[int, int, bytes, int]]:
    out = []
    at, chained, more, process = 1, False, True, 0
    while at < len(data):
        if not chained:
            if not more:
                raise ValueError("bytes after the end of the chain")
            process, more, at = data[at] & 0x7F, bool(data[at] & 0x80), at + 1
        if len(data) <= at:
            raise ValueError("the packet ends within a parameter")
        code, chained, position, at = data[at] & 0x7F, bool(data[at] & 0x80), at, at + 1
        if code & 0x60 == 0x60:
            length, at = data[at : at + 1], at + 1
            if length != b"\0":
                raw = data[at : at + (length[0] if length else 0)]
                missing = not length or len(raw) < length[0]
                at += len(raw)
            else:
                end = data.find(b"\0", at)
                raw, missing = data[at : end if end >= 0 else None], end < 0
                at = end + 1 if end >= 0 else len(data)
        else:
            size = {0x00: 1, 0x20: 2, 0x40: 4}[code & 0x60]
            raw, at = data[at : at + size], at + size
            missing = len(raw) < size
        if missing:
            raise ValueError("the packet ends within a value")
        out.append((process, code, raw, position))
    if not out or chained:
        raise ValueError("the chain has no end")
    return out
