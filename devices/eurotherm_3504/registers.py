"""The registers of an emulated Eurotherm: the loop's own, those that only remember, and the rules of both areas.

Sources: HA026230 (issue 3), chapter 5 (numbers, gaps, what is refused) and 6 (the IEEE area); HA028651 (issue 7),
section 15.5; D = numbers that open drivers need: Eurotherm3200 of nupylab (timer, program), the EPICS support
of Diamond for the 3504 (second loop, programmer, recipes), Eurotherm3508 of furnace-controller programs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from hal.instrument.registers import FLOATS, Illegal
from hal.protocols.modbus import ILLEGAL_ADDRESS, ILLEGAL_VALUE

from .codec import Parameter

Kept = tuple[Parameter, float]
"""A parameter that only remembers, and its value as delivered."""
UNDEFINED = 0x8000
"""What stands where no parameter is: HA026230 says "undefined"; this is what it pads the IEEE area with."""
OUTPUT_HIGH, OUTPUT_LOW, OFFSET, SENSOR_TYPE = 30, 31, 141, 12290
EXTERNAL = (10, 203)
"""Sensor type and register of a temperature that comes by the wire (HA028651, 15.5 "PV.CM"; D)."""


def _floats(numbers: Iterable[int], low: float, high: float, default: float = 0.0) -> list[Kept]:
    return [(Parameter(number, "", 1, low, high), default) for number in numbers]


def _whole(numbers: Iterable[int], low: int, high: int, default: int = 0) -> list[Kept]:
    return [(Parameter(number, "", 0, low, high), float(default)) for number in numbers]


def _times(numbers: Iterable[int], default: float = 0.0) -> list[Kept]:
    return [(Parameter(number, "", 0, 0, 359_999, time=True), default) for number in numbers]


def _told(numbers: Iterable[int], value: float = 0.0, decimals: int = 0) -> list[Kept]:
    return [(Parameter(number, "", decimals), value) for number in numbers]


_BOTH: list[Kept] = [
    *_whole((7,), 0, 1), *_floats((11,), -3000, 3000, -200), *_floats((12,), -3000, 3000, 1372),  # action, range
    *_floats((13, 14, 81, 82), -3000, 3000), *_floats((47, 68, 69, 71), 0, 3000, 1),  # alarms, their hysteresis
    *_floats((10, 20), 0, 1000, 5), *_floats((16, 17, 18), 0, 3000), *_floats((19,), 0, 10, 1), *_times((21,), 30),
    *_floats((27, 28), -1000, 1000), *_floats((OUTPUT_HIGH,), 0, 100, 100), *_floats((OUTPUT_LOW,), -100, 100),
    *_floats((34,), -100, 100), *_floats((37,), 0, 100), *_floats((66, 67), -3000, 3000),
    *_told((79, 80), 0, 1), *_times((83,)), *_floats((86, 88), 0, 3000, 1), *_told((87,)),
    *_floats((101,), 0, 100, 1.6), *_whole((106,), 0, 10), *_told((121,), 1280), *_whole((131,), 1, 254, 1),
    *_floats((OFFSET, 142), -3000, 3000), *_told((202,), 1.0, 1), *_told((215,), 25.0, 1),
    *_told((258, 260, 263, 269)), *_whole((270,), 0, 1), *_whole((274,), 0, 1), *_told((275, 277)),
    *_whole((278, 279), 0, 1), *_told((294, 295, 296, 297)),
]  # fmt: skip
KEPT: tuple[Kept, ...] = (
    *_BOTH, *_told((74,)), *_told((512, 516, 531)), *_told((525,), 1),  # of its configuration, told only
     *_whole((199,), 0, 2), *_whole((72,), 0, 2), *_floats((48, 180), 0.1, 9999, 20),
    *_times((49, 181), 360), *_times((51, 183), 60), *_floats((50, 52), -100, 100), *_whole((276,), 0, 1),
    *_whole((313,), 0, 8),
    *_told((315, 316)), *_whole((5193,), 0, 50, 1), *_told((5195,)), *_whole((5226, 5229), 0, 1),
    *_floats((15361, 15362), -3000, 3000),  # where one set of P, I and D ends (D)
    # The second loop, 1024 further on (D).
    *_told((1025, 1028, 1029), 0, 1), *_floats((1026, 1048, 1049), -200, 3000), *_floats((1027,), 0, 100),
    *_floats((1030,), 0.1, 3000, 20), *_times((1032,), 360), *_times((1033,), 60), *_whole((1039,), 0, 1),
    *_floats((1054,), 0, 100, 100), *_floats((1055,), -100, 100), *_floats((1059,), 0, 9999.9),
    *_whole((1294, 1297), 0, 1, 1),
)  # fmt: skip
KEPT_3216: tuple[Kept, ...] = (
    *_BOTH, *_whole((23,), 0, 3), *_told((76,), 0xFFFF), *_whole((85,), 0, 2), *_floats((84,), -100, 100),
    *_told((103,), 0, 1), *_floats((102,), 0, 1000), *_floats((EXTERNAL[1],), -3000, 3000), *_floats((146,), 0, 100),
    # Timer and programmer (HA028651, chapter 14; D): configuration, resolution, dwell, elapsed, remaining,
    # threshold, what comes at the end, servo, cycles.
    *_whole((320, 321, 322, 323), 0, 4), *_times((324,)), *(
        (Parameter(number, "", 0, time=True), 0.0) for number in (325, 326)
    ), *_floats((327,), 0, 3000, 1), *_whole((328, 329), 0, 3), *_whole((332,), 1, 100, 1), *_told((333,), 1),
    *_times(range(1280, 1292, 3)), *_floats(range(1281, 1292, 3), -200, 3000), *_floats(range(1282, 1292, 3), 0, 3000),
    *_whole((512, 515, 516), 0, 3), *_whole((SENSOR_TYPE,), 0, 12, 1), *_told((12544,), 1),
)  # fmt: skip


class Registers:
    """The instrument's one table of registers: scaled integers, and the same in full from 0x8000 on.

    A block that is read may have gaps; a block that is written may too, and what is refused in it ends it
    (HA026230, chapter 5). Where there is no parameter at all is exception 2, which neither manual denies.
    """

    def __init__(self, instrument: Any) -> None:
        self._instrument: Any = instrument
        self._known = {parameter.number: parameter for parameter, _ in instrument.kept}
        self._known |= {parameter.number: parameter for parameter in instrument.parameters}

    def read(self, start: int, count: int) -> list[int]:
        if start < FLOATS:
            found = [self._known.get(start + n) for n in range(count)]
            words = [UNDEFINED if parameter is None else self._integer(parameter) for parameter in found]
        else:
            found = [self._known.get(number) for number in self._numbers(start, count)]
            words = [word for parameter in found for word in self._full(parameter)][:count]
        if not any(found):
            raise Illegal(ILLEGAL_ADDRESS)
        return words

    def write(self, start: int, values: Sequence[int]) -> None:
        if start < FLOATS:
            changes = [(self._known.get(start + n), _signed(word)) for n, word in enumerate(values)]
            wanted = [(p, word / 10**p.decimals) for p, word in changes if p is not None]
        else:
            found = [self._known.get(number) for number in self._numbers(start, len(values))]
            pairs = [values[n : n + 2] for n in range(0, len(values), 2)]
            wanted = [(p, _number(p, pair)) for p, pair in zip(found, pairs, strict=True) if p is not None]
        if not wanted:
            raise Illegal(ILLEGAL_ADDRESS)
        for parameter, value in wanted:
            self._check(parameter, value)
            self._set(parameter, value)

    def knows(self, number: int) -> bool:
        """Whether there is a parameter of this number."""
        return number in self._known

    def value(self, number: int) -> float:
        """A parameter's value in full."""
        return self._value(self._known[number])

    def shown(self, number: int) -> str:
        """A parameter's value as the display has it."""
        parameter = self._known[number]
        return f"{self._value(parameter):z.{parameter.decimals}f}"

    def put(self, number: int, value: float) -> None:
        """Set a parameter. Raises `Illegal`."""
        parameter = self._known[number]
        self._check(parameter, value)
        self._set(parameter, value)

    def _numbers(self, start: int, count: int) -> list[int]:
        """Of the parameters of a block in the IEEE area; its last one may be a single word."""
        if start % 2:
            raise Illegal(ILLEGAL_ADDRESS)
        numbers = [(start - FLOATS) // 2 + n for n in range((count + 1) // 2)]
        last = self._known.get(numbers[-1])
        if count % 2 and (last is None or last.decimals or last.time):
            raise Illegal(ILLEGAL_ADDRESS)  # half of a number
        return numbers

    def _check(self, parameter: Parameter, value: float) -> None:
        # Which code the instrument gives for a read-only parameter is unverified ("data error", chapter 5).
        if parameter.low is None or parameter.high is None:
            raise Illegal(ILLEGAL_ADDRESS)
        low, high = parameter.low, parameter.high
        if parameter.name in ("target", "sp1", "sp2"):
            low, high = max(low, self._instrument.sp_low), min(high, self._instrument.sp_high)
        if not low <= value <= high:
            raise Illegal(ILLEGAL_VALUE)

    def _set(self, parameter: Parameter, value: float) -> None:
        if not parameter.name:
            self._instrument.settings[parameter.number] = value
            return
        if parameter.name in ("target", "sp1", "sp2"):
            self._instrument.setpoint_writes += 1
        if parameter.name == "manual_output" and not self._instrument.manual:
            return  # in automatic mode the loop writes it
        setattr(self._instrument, parameter.name, value if parameter.decimals else int(value))

    def _value(self, parameter: Parameter) -> float:
        if parameter.name:
            return float(getattr(self._instrument, parameter.name))
        return float(self._instrument.settings[parameter.number])

    def _integer(self, parameter: Parameter) -> int:
        value: int = round(self._value(parameter) * 10**parameter.decimals)
        highest = 0x7FFF if parameter.decimals else 0xFFFF
        return min(max(value, -0x8000), highest) & 0xFFFF

    def _full(self, parameter: Parameter | None) -> tuple[int, int]:
        """Both words in the IEEE area (HA026230, 6.3 to 6.5)."""
        if parameter is None:
            return UNDEFINED, UNDEFINED
        if parameter.time:
            milliseconds = round(self._value(parameter) * 1000)
            return milliseconds >> 16 & 0xFFFF, milliseconds & 0xFFFF
        if not parameter.decimals:
            return self._integer(parameter), UNDEFINED
        first, second = struct.unpack(">HH", struct.pack(">f", self._value(parameter)))
        return first, second


def _number(parameter: Parameter, words: Sequence[int]) -> float:
    """What a pair of words in the IEEE area says of a parameter."""
    if parameter.time:
        return (words[0] << 16 | words[1]) / 1000
    if not parameter.decimals:
        return float(_signed(words[0]))
    return float(struct.unpack(">f", struct.pack(">HH", *words))[0])


def _signed(word: int) -> int:
    return word - 0x10000 if word >= 0x8000 else word
