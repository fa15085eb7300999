"""Rates: which readings of a signal are published. All of them, unless the lab file asks for fewer.

`dead_band` publishes changes: a reading that differs from the last one published by less is held back
until `heartbeat` seconds have passed. When a jump comes, the reading before it is published as well,
so that a line drawn between two points is true within the dead band.

`every` publishes one message in so many seconds: the latest reading, with the least, mean and greatest
value and the number of all readings since the one before, so that a spike is never hidden.

A change of quality, and of anything that is no number, passes at once. Pure: nothing here knows time
but by the readings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from ..errors import ConfigError
from ..model.reading import Reading

HEARTBEAT = 10.0
"""Seconds after which an unchanged reading is published again, unless the lab file says otherwise."""
WITHIN = 1e-3
"""Part of `every` by which a reading may come early and still end it: polls are no metronomes."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What of a signal is published; all if nothing is given."""

    every: float | None = None
    """Seconds from one message to the next, which tells of all readings between."""
    dead_band: float | None = None
    """Changes by less than this (in the signal's unit) are not published."""
    heartbeat: float | None = None
    """Seconds after which an unchanged reading is published all the same."""

    def __post_init__(self) -> None:
        if self.every is not None and (self.dead_band is not None or self.heartbeat is not None):
            raise ConfigError('"every" and "dead_band" exclude each other; write one of the two')
        for name in ("every", "dead_band", "heartbeat"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and (value > 0 or (value == 0 and name == "dead_band"))):
                raise ConfigError(f"{name} = {value!r} is no such number; write one above 0")
        if (self.dead_band is None) is not (self.heartbeat is None):
            # One of the two was given: "on change", and "an unchanged value now and then".
            object.__setattr__(self, "dead_band", self.dead_band if self.dead_band is not None else 0.0)
            object.__setattr__(self, "heartbeat", self.heartbeat if self.heartbeat is not None else HEARTBEAT)

    @property
    def slowest(self) -> float | None:
        """Seconds between two messages at most, if readings come faster; None: as they come."""
        return self.every if self.every is not None else self.heartbeat


EVERYTHING = Rate()


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of a lab, by signal (``heater.temperature``) or by device (``heater``)."""

    by_name: Mapping[str, Rate] = field(default_factory=dict)

    def of(self, device: str, signal: str) -> Rate:
        """The rate of a signal: its own, else that of its device."""
        return self.by_name.get(f"{device}.{signal}") or self.by_name.get(device) or EVERYTHING


@dataclass(frozen=True, slots=True)
class Spread:
    """The numbers of all readings that one message stands for; None where none of them had a value."""

    min: float | None
    mean: float | None
    max: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Due:
    """A reading to be published, and the spread of those it stands for (of `every` only)."""

    reading: Reading[Any]
    spread: Spread | None = None
    count: int = 1
    """Readings it stands for, itself included."""


class Thinner:
    """Decides reading by reading, of one signal and in order."""

    def add(self, reading: Reading[Any]) -> list[Due]:
        """What is to be published now that `reading` is there, oldest first."""
        return [Due(reading)]

    def flush(self) -> list[Due]:
        """What is to be published since no more will come."""
        return []


def thinner(rate: Rate) -> Thinner:
    """The thinner of a rate."""
    if rate.every is not None:
        return Decimator(rate.every)
    if rate.dead_band is not None and rate.heartbeat is not None:
        return DeadBand(rate.dead_band, rate.heartbeat)
    return Thinner()


class DeadBand(Thinner):
    """Publishes changes, and an unchanged reading now and then."""

    def __init__(self, band: float, heartbeat: float) -> None:
        self._band, self._heartbeat = band, round(heartbeat * 1e9)
        self._last: Reading[Any] | None = None
        self._held: Reading[Any] | None = None
        self._count = 0

    def add(self, reading: Reading[Any]) -> list[Due]:
        last = self._last
        if last is not None and last.quality is reading.quality and self._unchanged(last.value, reading.value):
            if reading.time - last.time < self._heartbeat:
                self._held = reading
                self._count += 1
                return []
            self._held = None
            return self._pass(reading)
        return [*self.flush(), *self._pass(reading)]

    def flush(self) -> list[Due]:
        held, self._held = self._held, None
        if held is None:
            return []
        count, self._count = self._count, 0
        return [Due(held, None, count)]

    def _pass(self, reading: Reading[Any]) -> list[Due]:
        count, self._count = self._count + 1, 0
        self._last = reading
        return [Due(reading, None, count)]

    def _unchanged(self, before: Any, now: Any) -> bool:
        if _number(before) and _number(now) and self._band:
            return bool(abs(now - before) < self._band)
        return type(before) is type(now) and bool(before == now)


class Decimator(Thinner):
    """Publishes the latest reading every so often, with the spread of all since the one before."""

    def __init__(self, every: float) -> None:
        self._every = round(every * 1e9 * (1 - WITHIN))
        self._published: int | None = None
        self._latest: Reading[Any] | None = None
        self._least = self._greatest = self._sum = 0.0
        self._values = self._count = 0

    def add(self, reading: Reading[Any]) -> list[Due]:
        before = self._latest
        due: list[Due] = []
        changed = before is not None and (before.quality is not reading.quality or _leapt(before.value, reading.value))
        if changed:
            due += self.flush()
        self._take(reading)
        if changed or self._published is None or reading.time - self._published >= self._every:
            due += self.flush()
        return due

    def flush(self) -> list[Due]:
        if self._latest is None or not self._count:
            return []
        spread = Spread(None, None, None, self._count)
        if self._values:
            mean = min(max(self._sum / self._values, self._least), self._greatest)  # rounding may take it out
            spread = Spread(self._least, mean, self._greatest, self._count)
        due = Due(self._latest, spread, self._count)
        self._published = self._latest.time
        self._values = self._count = 0
        self._sum = 0.0
        return [due]

    def _take(self, reading: Reading[Any]) -> None:
        self._latest = reading
        self._count += 1
        value: Any = reading.value
        if _number(value):
            self._least = min(self._least, value) if self._values else value
            self._greatest = max(self._greatest, value) if self._values else value
            self._sum += value
            self._values += 1


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _leapt(before: Any, now: Any) -> bool:
    """Whether something changed that no spread of numbers can tell of."""
    return not (_number(before) and _number(now)) and bool(before != now)
