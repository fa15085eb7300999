"""Conditions a signal must keep, interlocks that watch them, and the trips that follow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, InterlockTripped
from .reading import Quality, Reading

if TYPE_CHECKING:
    from .signal import SignalR

EXPRESSION = re.compile(
    r"^\s*(?P<device>\w+)\.(?P<signal>\w+)\s*(?P<relation>[<>])=?\s*(?P<limit>[-+0-9.eE]+)\s*(?P<unit>.*?)\s*$"
)
"""What an interlock of a lab file looks like: ``gauge.pressure < 1e-3 Pa``."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A test that a signal must keep passing."""

    signal: SignalR[Any]
    test: Callable[[Any], bool]
    text: str


def parse_condition(text: str) -> tuple[str, str, str, float, str]:
    """Take ``"gauge.pressure < 1e-3 Pa"`` apart: device, signal, relation, limit, unit. Raises `ConfigError`."""
    match = EXPRESSION.match(text)
    if match is None:
        raise ConfigError(f'{text!r} is no condition; write "device.signal < number unit"')
    try:
        limit = float(match["limit"])
    except ValueError:
        raise ConfigError(f"{text!r}: {match['limit']!r} is no number") from None
    return match["device"], match["signal"], match["relation"], limit, match["unit"]


@dataclass(frozen=True, slots=True)
class Trip:
    """An interlock, or a lost link, having acted."""

    number: int
    name: str
    """Of the interlock, or of the device whose link was lost."""
    text: str
    """What happened."""
    time: int
    """Lab time, ns."""
    error: Exception
    """What pending operations and writes are ended with."""
    latched: bool = True
    """Whether it outlives the process until somebody acknowledges it."""


class Interlock:
    """Watches one condition; calls `act` once it has failed for long enough.

    A reading that can't be had counts as failed: a blind interlock protects nothing. Only while the
    link is being reconnected, as the lab file allows, does it wait.
    """

    def __init__(
        self, condition: Condition, act: Callable[[Interlock, str], None], *, name: str = "", for_at_least: float = 0.0
    ) -> None:
        self.condition, self.name, self.for_at_least = condition, name or condition.text, for_at_least
        self._act = act
        self._alarm: asyncio.TimerHandle | None = None
        self._latest = ""
        self.tripped = False

    def start(self) -> None:
        """Begin to watch."""
        self.condition.signal.subscribe(self._look)

    def stop(self) -> None:
        """Cease to watch."""
        self.condition.signal.unsubscribe(self._look)
        self._clear()

    def reset(self) -> None:
        """Watch anew after an acknowledgement."""
        self.tripped = False

    def _look(self, reading: Reading[Any]) -> None:
        if self.tripped:
            return
        signal = self.condition.signal
        if reading.quality is Quality.BAD or reading.value is None:
            if signal.device.reconnecting:
                return
            self._latest = f"{self.condition.text} can't be seen: {reading.reason}"
        elif self.condition.test(reading.value):
            self._clear()
            return
        else:
            self._latest = f"{self.condition.text} failed: {reading.value:g} {reading.unit}"
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(self.for_at_least, self._trip)

    def _trip(self) -> None:
        self._alarm = None
        self.tripped = True
        self._act(self, self._latest)

    def _clear(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def tripped(text: str, remedy: str) -> InterlockTripped:
    """The error of a trip."""
    return InterlockTripped(f"{text}; every device was taken to its safe state. {remedy}")
