"""The search for a switch at which an axis begins to count: one way fast, back again slowly (RFS)."""

from __future__ import annotations

from typing import Protocol

from devices.axis import Axis

from . import codec
from .codec import Refusal


class Module(Protocol):
    """What a search moves."""

    axis: Axis
    zero: int
    values: dict[int, int]

    def switch(self, which: str) -> bool:
        """Whether a switch is pressed."""
        ...

    def speed(self, units: int) -> float:
        """Microsteps/s of the units of speed."""
        ...


class Search:
    """The legs that are left: direction, what ends the leg (with a minus: leaving it), and the speed."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._legs: list[tuple[int, str, int]] = []
        self._from = 0.0

    def __len__(self) -> int:
        return len(self._legs)

    def begin(self) -> None:
        """Start; raises `Refusal` if the mode (parameter 193) is none."""
        values = self._module.values
        mode = values[codec.SEARCH_MODE]
        fast, slow = values[codec.SEARCH_SPEED], values[codec.SWITCH_SPEED]
        first, second = ("right", "left") if mode & 64 else ("left", "right")
        sign = 1 if first == "right" else -1
        find = [(sign, first, fast), (-sign, f"-{first}", slow)]
        match mode & 0x0F:
            case 1 | 4:
                self._legs = find
            case 2 | 3:
                self._legs = [(-sign, second, fast), *find]
            case 5 | 7:
                self._legs = [(-1, "home", fast), (1, "-home", slow)]
            case 6 | 8:
                self._legs = [(1, "home", fast), (-1, "-home", slow)]
            case _:
                raise Refusal(codec.BAD_VALUE)
        self._from = self._module.axis.position
        self._leg()

    def end(self) -> None:
        """Forget it."""
        self._legs.clear()

    def look(self) -> None:
        """Whether the present leg has found what it looks for."""
        module = self._module
        sign, sought, _ = self._legs[0]
        if sought == "home" and module.switch("left" if sign < 0 else "right"):
            self._legs[0] = (-sign, *self._legs[0][1:])  # not there: look the other way
            self._leg()
            return
        if module.switch(sought.removeprefix("-")) == sought.startswith("-"):
            return
        self._legs.pop(0)
        module.axis.halt()
        if self._legs:
            if self._legs[0][1] in ("left", "right"):
                self._from = module.axis.position
            self._leg()
            return
        module.values[codec.SWITCH_DISTANCE] = round(abs(module.axis.position - self._from))
        module.zero = round(module.axis.position)
        module.axis.go(module.axis.position)

    def _leg(self) -> None:
        sign, _, speed = self._legs[0]
        self._module.axis.run(sign * self._module.speed(speed))
