"""What the board watches by itself: analogue inputs and switches that must be as they should, or nothing is on.

A reset sets none. So an ARM tells the board, by a checksum, which interlocks the host takes to be in
force; a board that has others (it was reset, or another host was there) does not arm.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hal.protocols import firmware_gen as gen
from hal.protocols.firmware_gen import Interlock, InterlockKind, Request

COUNT = 4
"""Analogue interlocks of a board."""
WINDOW = 32
"""Control passes a step is looked for in, at most."""
OFF = Interlock(InterlockKind.OFF, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Interlocks:
    """All interlocks of one board."""

    analogue: tuple[Interlock, ...] = (OFF,) * COUNT
    mask: int = 0
    """Digital inputs that count, bits."""
    level: int = 0
    """How they must be."""

    def with_analogue(self, number: int, rule: Interlock) -> Interlocks:
        """The same with another rule at `number`."""
        return replace(self, analogue=(*self.analogue[:number], rule, *self.analogue[number + 1 :]))

    def commands(self) -> Iterator[tuple[int, Request[Any]]]:
        """What sets all of them, each with its channel."""
        for number, rule in enumerate(self.analogue):
            yield number, gen.InterlockSet(rule)
        yield 0, gen.InterlockInputs(self.mask, self.level)

    @property
    def checksum(self) -> int:
        """As the board has it where these are in force."""
        rules = b"".join(rule.pack() for rule in self.analogue)
        return crc_hqx(rules + gen.InterlockInputs(self.mask, self.level).pack(), 0xFFFF)
