"""Conditions a signal must keep, interlocks that watch them, and the trips that follow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .reading import Quality, Reading

if TYPE_CHECKING:
    from .signal import SignalR

EXPRESSION = re.compile(
    r"^\s*(?P<device>\w+)\.(?P<signal>\w+)\s*(?P<relation>[<>])=?\s*(?P<limit>[-+0-9.eE]+)\s*(?P<unit>.*?)\s*$"
)
"""What an interlock of a lab file looks like: ``gauge.pressure < 1e-3 Pa``."""


BLIND = 6.0
"""Seconds beyond a poll's period without any reading after which an interlock counts as failed."""


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

    A reading that can't be had counts as failed, and so does none at all for `BLIND` seconds beyond
    the poll's period: a blind interlock protects nothing. Only while the link is being reconnected,
    as the lab file allows, does it wait.
    """

    def __init__(
        self, condition: Condition, act: Callable[[Interlock, str], None], *, name: str = "", for_at_least: float = 0.0
    ) -> None:
        self.condition, self.name, self.for_at_least = condition, name or condition.text, for_at_least
        self._act = act
        self._alarm: asyncio.TimerHandle | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._latest = ""
        self.tripped = False
        self.blind = False
        """Whether, when it last failed, it was because there was no value to see."""

    def start(self) -> None:
        """Begin to watch."""
        self.condition.signal.subscribe(self._look)
        self._expect()

    def stop(self) -> None:
        """Cease to watch."""
        self.condition.signal.unsubscribe(self._look)
        self._clear()
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def reset(self) -> None:
        """Watch anew after an acknowledgement."""
        self.tripped = False

    def _expect(self) -> None:
        """Wait for the next reading, but not for ever."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        wait = self.condition.signal.poll + BLIND
        self._watchdog = asyncio.get_running_loop().call_later(wait, self._missed, wait)

    def _missed(self, wait: float) -> None:
        self._expect()
        self._failed_to_see(f"no reading for {wait:g} s")

    def _look(self, reading: Reading[Any]) -> None:
        self._expect()
        if reading.quality is Quality.BAD or reading.value is None:
            self._failed_to_see(reading.reason)
            return
        try:
            holds = self.condition.test(reading.value)
        except Exception as error:
            self._failed_to_see(f"{type(error).__name__}: {error}")
            return
        if holds:
            self._clear()
        else:
            value = f"{reading.value:.6g}" if isinstance(reading.value, float) else str(reading.value)
            self._fail(f"{self.condition.text} failed: {value} {reading.unit}".rstrip(), blind=False)

    def _failed_to_see(self, why: str) -> None:
        if not self.condition.signal.device.reconnecting:
            self._fail(f"{self.condition.text} can't be seen: {why}", blind=True)

    def _fail(self, text: str, *, blind: bool) -> None:
        self._latest = text
        self.blind = blind and (self._alarm is None or self.blind)  # a value that was seen to fail counts
        if self.tripped or self._alarm is not None:
            return
        if self.for_at_least:
            self._alarm = asyncio.get_running_loop().call_later(self.for_at_least, self._trip)
        else:
            self._trip()

    def _trip(self) -> None:
        self._alarm = None
        self.tripped = True
        self._act(self, self._latest)

    def _clear(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
