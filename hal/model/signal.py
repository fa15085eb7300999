"""Signals: the typed, named values of a device, declared once as class attributes.

A driver lists them in the order of the instrument's manual, each with its unit and its place on
the wire (`at`); reading, polling, limits, recording and telemetry follow from the declaration.
"""

from __future__ import annotations

import asyncio
import copy
import math
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from enum import Enum
from numbers import Real
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, Protocol, Self, TypeVar

from ..errors import LimitError, ProtocolError
from ..gate import Purpose, purpose
from ..units import unit as known_unit
from .limits import Limits
from .reading import Answer, Noise, Quality, Reading, Sample
from .safety import Condition
from .status import Done, Status

if TYPE_CHECKING:
    from .device import Device

T = TypeVar("T")
Listener = Callable[[Reading[Any]], None]

BACKLOG = 1000
"""Readings a slow follower may lag behind before it loses its oldest."""


RECENT = 64
"""Readings a signal remembers, for whoever asks about a moment just gone."""


class Kind(Enum):
    """Where a signal appears when its device is read."""

    HINTED = "hinted"
    """The value to plot first; part of `read()`."""
    NORMAL = "normal"
    """Part of `read()`."""
    CONFIG = "config"
    """Part of `read_configuration()`: read once per run."""


class Address(Protocol[T]):
    """Where a signal lives on the wire: a query string, a register, a field of a report."""

    def question(self, device: Any) -> Hashable:
        """What is asked; signals of one session with equal questions share the answer."""
        ...

    async def ask(self, device: Any) -> Answer:
        """Ask the device."""
        ...

    def value(self, device: Any, payload: Any) -> T | Sample[T]:
        """Take this signal's value out of the answer; raise ValueError if it isn't there."""
        ...

    async def put(self, device: Any, value: T) -> None:
        """Send a value. It has been checked against the limits."""
        ...


class SignalR(Generic[T]):
    """A value that can be read and watched."""

    def __init__(
        self,
        dtype: type[T],
        unit: str = "",
        *,
        at: Address[T],
        kind: Kind = Kind.NORMAL,
        doc: str = "",
        poll: float | None = None,
        max_age: float = 0.0,
        aperture: float = 0.0,
        noise: Noise | None = None,
        varies: Literal["smoothly", "in steps"] = "smoothly",
        max_gap: float | None = None,
    ) -> None:
        """Declare a signal.

        `poll`: seconds between readings while anybody follows (None: 1 s; CONFIG signals 10 s).
        `max_age`: how old the value may be that the instrument answers from its cache, s.
        `aperture`: how long the instrument measures for one value, s.
        `noise`: scatter of repeated readings. `varies`: how to go from one reading to the next.
        `max_gap`: seconds between readings across which nothing is interpolated (None: 5 periods, 1 s at least).
        """
        known_unit(unit)  # a unit nobody knows is a mistake in the driver: tell it where it stands
        self.dtype, self.unit, self.at, self.kind, self.__doc__ = dtype, unit, at, kind, doc
        self.poll = poll if poll is not None else 10.0 if kind is Kind.CONFIG else 1.0
        self.max_age, self.aperture, self.noise, self.varies = max_age, aperture, noise, varies
        self._max_gap = max_gap
        self.device: Device
        self.name = ""
        self.last: Reading[T] | None = None
        """The newest reading published, whoever asked for it."""
        self.recent: deque[Reading[T]] = deque(maxlen=RECENT)
        """The newest readings followers have had."""
        self._listeners: tuple[Listener, ...] = ()

    def __set_name__(self, owner: type[Device], name: str) -> None:
        self.name = name

    def __get__(self, device: Device | None, owner: type | None = None) -> Self:
        if device is None:
            return self
        bound: Self | None = device.__dict__.get(self.name)
        if bound is None:
            bound = copy.copy(self)
            bound.recent = deque(maxlen=RECENT)
            bound.device = device
            device.__dict__[self.name] = bound
        return bound

    def __set__(self, device: Device, value: Never) -> None:
        raise AttributeError(f"signals are not assigned; write `await {device.name}.{self.name}.set(...)`")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self.unit}>" if self.name else f"<{type(self).__name__}>"

    @property
    def path(self) -> str:
        """``device.signal``, unique in a lab."""
        return f"{self.device.name}.{self.name}"

    @property
    def parent(self) -> Device:
        """The device, as Bluesky asks for it."""
        return self.device

    @property
    def question(self) -> Hashable:
        """What is asked of which wire to read this signal."""
        return (self.device.wire, self.at.question(self.device))

    @property
    def max_gap(self) -> float:
        """Seconds between two readings across which nothing is interpolated."""
        return self._max_gap if self._max_gap is not None else max(5 * self.poll, 1.0)

    async def get(self) -> T:
        """Ask the device now. Raises `DeviceError`."""
        answer = await self.at.ask(self.device)
        found = self._taken_from(answer)
        if not isinstance(found, Sample) and not (isinstance(found, float) and not math.isfinite(found)):
            return found
        reading = self.reading(answer)
        if reading.value is None:
            raise ProtocolError(self.device.name, f"{self.name} has no value: {reading.reason}")
        return reading.value

    async def read(self) -> Reading[T]:
        """Ask the device now; the reading says how well its time and value are known. Raises `DeviceError`."""
        reading = self.reading(await self.at.ask(self.device))
        self.last = reading
        return reading

    async def watch(self) -> AsyncIterator[Reading[T]]:
        """Follow the shared poll. A reading that failed comes with quality BAD and the reason.

        Whoever falls `BACKLOG` readings behind loses the oldest. A trip ends the iteration with its error.
        """
        context = self.device.context
        mailbox: _Mailbox[T] = _Mailbox()
        context.pending.add(mailbox)
        self.subscribe(mailbox.put)
        try:
            readings, future = mailbox.readings, asyncio.get_running_loop().create_future
            while True:
                while not readings or mailbox.error:
                    if mailbox.error is not None:
                        raise context.delivered(mailbox.error)
                    mailbox.waiter = future()
                    await mailbox.waiter
                yield readings.popleft()
        finally:
            self.unsubscribe(mailbox.put)
            context.pending.discard(mailbox)

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with every reading, at once and in order; it must not wait. Starts the poll."""
        first = not self._listeners
        self._listeners += (listener,)
        if first:
            self.device.context.polls.follow(self)

    def unsubscribe(self, listener: Listener) -> None:
        """Undo `subscribe`; the last one out stops the poll."""
        if listener in self._listeners:
            self._listeners = tuple(known for known in self._listeners if known != listener)
            if not self._listeners:
                self.device.context.polls.leave(self)

    def below(self: SignalR[float], limit: float) -> Condition:
        """The condition that this stays below `limit` (in the signal's unit)."""
        _number(self, limit)
        return Condition(self, lambda value: value < limit, f"{self.path} < {limit:g} {self.unit}".rstrip())

    def above(self: SignalR[float], limit: float) -> Condition:
        """The condition that this stays above `limit` (in the signal's unit)."""
        _number(self, limit)
        return Condition(self, lambda value: value > limit, f"{self.path} > {limit:g} {self.unit}".rstrip())

    # ------------------------------------------------------------------ for drivers and polls

    def reading(self, answer: Answer) -> Reading[T]:
        """Make a reading of an answer. Raises `ProtocolError` if the value is not in it."""
        found = self._taken_from(answer)
        quality, reason, uncertainty = Quality.GOOD, "", None
        value: T | None
        if isinstance(found, Sample):
            quality, reason, uncertainty, value = found.quality, found.reason, found.uncertainty, found.value
        else:
            value = found
        if value is None and quality is not Quality.BAD:
            quality, reason = Quality.BAD, reason or "the instrument gave no value"
        if isinstance(value, float) and not math.isfinite(value):
            value, quality, reason = None, Quality.BAD, reason or f"the instrument says {value}"
        if uncertainty is None and self.noise is not None and value is not None:
            uncertainty = self.noise.of(value)  # type: ignore[arg-type]
        earliest = answer.sent - round((self.max_age + self.aperture) * 1e9)
        time = (earliest + answer.received) // 2
        return Reading(value, self.unit, time, answer.received - time, uncertainty, quality, reason, answer.ticks)

    def _taken_from(self, answer: Answer) -> T | Sample[T]:
        try:
            return self.at.value(self.device, answer.payload)
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError, struct.error) as error:
            raise ProtocolError(
                self.device.name,
                f"{self.name} can't be read from {_shown(answer.payload)} ({error}); "
                "check that the driver fits the instrument and its settings",
            ) from error

    def bad(self, reason: str) -> Reading[T]:
        """A reading that says there is none."""
        return Reading(None, self.unit, self.device.context.timebase.now(), 0, None, Quality.BAD, reason)

    def publish(self, reading: Reading[T]) -> None:
        """Hand a reading to every listener."""
        self.last = reading
        self.recent.append(reading)
        for listener in self._listeners:
            try:
                listener(reading)
            except Exception as error:  # one listener's mistake must not blind the others: interlocks are among them
                text = f"a listener of {self.path} failed: {type(error).__name__}: {error}"
                self.device.context.journal.note("error", self.device.name, text)


class SignalRW(SignalR[T]):
    """A value that can also be set, within limits."""

    def __init__(
        self,
        dtype: type[T],
        unit: str = "",
        *,
        at: Address[T],
        limits: tuple[float, float] | None = None,
        choices: tuple[T, ...] = (),
        of: str = "",
        supersedes: bool = False,
        kind: Kind = Kind.CONFIG,
        varies: Literal["smoothly", "in steps"] = "in steps",
        doc: str = "",
        poll: float | None = None,
        max_age: float = 0.0,
        aperture: float = 0.0,
        noise: Noise | None = None,
        max_gap: float | None = None,
    ) -> None:
        """Declare a signal that can be set; further parameters as for `SignalR`.

        `limits`: least and greatest value, in `unit`. `choices`: the only values allowed.
        `of`: name of the readback this is the setpoint of. `supersedes`: setting it ends an operation
        under way on the device (a heater's setpoint does, its PID terms do not).
        """
        super().__init__(
            dtype, unit, at=at, kind=kind, doc=doc, poll=poll, max_age=max_age, aperture=aperture,
            noise=noise, varies=varies, max_gap=max_gap,
        )  # fmt: skip
        self.driver_limits = Limits(*limits) if limits else Limits()
        self.limits = self.driver_limits
        self._low_by = self._high_by = "the driver"
        self.choices, self.of, self.supersedes = choices, of, supersedes

    def narrow(self, limits: Limits, by: str) -> None:
        """Allow less than before; `by` is named when a value is refused for it."""
        before, self.limits = self.limits, self.limits.narrowed(limits)
        if self.limits.low > before.low:
            self._low_by = by
        if self.limits.high < before.high:
            self._high_by = by

    def check(self, value: T) -> T:
        """Return `value` in the signal's type; raise `LimitError` unless it may be sent."""
        if self.choices and value not in self.choices:
            raise LimitError(f"{self.path} = {value!r} is none of {self.choices}; nothing was sent.")
        if self.dtype is float or self.dtype is int:
            if type(value) is not self.dtype and (isinstance(value, bool) or not isinstance(value, Real)):
                raise LimitError(f"{self.path} = {value!r} is no number; nothing was sent.")
            number = float(value)  # type: ignore[arg-type]
            if number not in self.limits or not math.isfinite(number):
                by = self._low_by if number < self.limits.low else self._high_by
                raise LimitError(
                    f"{self.path} = {number:.12g} {self.unit} is outside {self.limits.shown(self.unit)}; "
                    f"nothing was sent. Change the value, or the limits (set by {by})."
                )
            if self.dtype is int and number != int(number):
                raise LimitError(f"{self.path} = {number:g} is no whole number; nothing was sent.")
            return self.dtype(value)  # type: ignore[call-arg]
        if not isinstance(value, self.dtype):
            raise LimitError(f"{self.path} = {value!r} is no {self.dtype.__name__}; nothing was sent.")
        return value

    def set(self, value: T) -> Status[None]:
        """Check at once, then send; await the status to know that it was sent. Raises `LimitError`."""
        checked = self.check(value)
        put_now = getattr(self.at, "put_now", None)
        if put_now is not None:
            self.device.context.gate.check(purpose(Purpose.COMMAND))
            put_now(self.device, checked)
            self._was_set(checked, self.device.context.timebase.now())
            return Done()
        name = f"{self.path}.set"
        if self.supersedes:
            return self.device.start(f"{self.name} = {checked}", self.put(checked))
        return Status(self.put(checked), name=name, device=self.device, safe_on_error=False)

    async def put(self, value: T) -> None:
        """Check and send, as one step of a driver's operation (`set` is for scripts). Raises `LimitError`."""
        checked = self.check(value)
        begun = self.device.context.timebase.now()
        await self.at.put(self.device, checked)
        self._was_set(checked, begun)

    def _was_set(self, value: T, begun: int) -> None:
        """Tell everybody; the device took the value some time since `begun`."""
        context = self.device.context
        now = context.timebase.now()
        middle = (begun + now) // 2
        context.journal.note("set", self.device.name, f"{self.path} = {value} {self.unit}".rstrip(), value=value)
        self.publish(Reading(value, self.unit, middle, now - middle, 0.0 if self.dtype in (int, float) else None))


def _number(signal: SignalR[Any], limit: Any) -> None:
    if isinstance(limit, bool) or not isinstance(limit, Real) or not math.isfinite(float(limit)):
        raise ValueError(f"{signal.path}: {limit!r} is no limit; give a number in {signal.unit or 'its unit'}")


def _shown(payload: Any) -> str:
    text = repr(payload)
    return text if len(text) <= 60 else text[:57] + "..."


class _Mailbox(Generic[T]):
    """Readings waiting for one follower."""

    __slots__ = ("dropped", "error", "readings", "waiter")

    def __init__(self) -> None:
        self.readings: deque[Reading[T]] = deque(maxlen=BACKLOG)
        self.dropped = 0
        self.waiter: asyncio.Future[None] | None = None
        self.error: Exception | None = None

    def put(self, reading: Reading[T]) -> None:
        if len(self.readings) == BACKLOG:
            self.dropped += 1
        self.readings.append(reading)
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        self.error = error
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
