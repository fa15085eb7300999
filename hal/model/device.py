"""Device: a named group of signals with a safe state; what scripts and Bluesky see of an instrument."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterator
from typing import Any, TypeVar

from ..errors import NoReply
from ..gate import Purpose, acting
from .context import Context
from .reading import Quality, Reading
from .signal import Kind, SignalR, SignalRW
from .status import Done, Status

T = TypeVar("T")

SAFE_WITHIN = 10.0
"""Seconds a device is given to reach its safe state."""
PATIENCE = 3.0
"""Seconds of failed readings an operation sits out before it fails itself."""


class Device:
    """Base of every driver; satisfies Bluesky's Readable, Configurable and Stoppable by shape."""

    provides: tuple[type, ...] = ()
    """The capabilities this driver claims; checked when a lab opens. An instance may turn out to have fewer."""
    parent = None

    def __init__(self, name: str = "", *, context: Context | None = None) -> None:
        self.name = name or type(self).__name__.lower()
        self.context = context or Context()
        self.operation: Status[Any] | None = None
        """The latest operation, such as a ramp; a newer one supersedes it."""
        self._added: dict[str, SignalR[Any]] = {}

    # ------------------------------------------------------------------ for scripts

    def signals(self) -> Iterator[SignalR[Any]]:
        """All signals, in the driver's order; those that were added come last."""
        seen = set()
        for cls in reversed(type(self).__mro__):
            for name, member in vars(cls).items():
                if isinstance(member, SignalR) and name not in seen:
                    seen.add(name)
                    yield getattr(self, name)
        yield from self._added.values()

    def add_signal(self, signal: SignalR[Any]) -> None:
        """Take on a signal that no driver declares, such as a calibrated one; it is an attribute from now on."""
        signal.device = self
        self.__dict__[signal.name] = self._added[signal.name] = signal

    async def safe_state(self) -> None:
        """Take the device to where it can be left alone; passes the gate a trip has closed.

        Raises whatever kept it from getting there.
        """
        for status in list(self.context.pending):
            if isinstance(status, Status) and status.of(self) and not status.running_here:
                status.cancel_without_hold(f"{self.name} went to its safe state")
        self.context.journal.note("operation", self.name, "safe state")
        with acting(Purpose.SAFE):
            try:
                async with asyncio.timeout(SAFE_WITHIN):
                    await self.make_safe()
            except TimeoutError as error:
                if isinstance(error, NoReply):
                    raise
                raise NoReply(
                    self.name, f"did not reach its safe state in {SAFE_WITHIN:g} s; see to it by hand"
                ) from None

    def stop(self, *, success: bool = True) -> Status[Any]:
        """End the operation under way (the device holds); a no-op on an idle device. (`success` is Bluesky's.)"""
        if self.operation is None or self.operation.done:
            return Done(f"{self.name} stop")
        self.operation.cancel()
        return Status(self.operation.ended(), name=f"{self.name} stop")

    async def read(self) -> dict[str, Any]:
        """All but configuration, as Bluesky wants it: value and timestamp in seconds."""
        return await self._read(Kind.HINTED, Kind.NORMAL)

    async def read_configuration(self) -> dict[str, Any]:
        """The configuration signals, as Bluesky wants them."""
        return await self._read(Kind.CONFIG)

    async def describe(self) -> dict[str, Any]:
        """What `read` returns: source, dtype, shape, units, limits."""
        return self._describe(Kind.HINTED, Kind.NORMAL)

    async def describe_configuration(self) -> dict[str, Any]:
        """What `read_configuration` returns."""
        return self._describe(Kind.CONFIG)

    @property
    def hints(self) -> dict[str, Any]:
        """The fields to plot first."""
        return {"fields": [f"{self.name}-{s.name}" for s in self.signals() if s.kind is Kind.HINTED]}

    # ------------------------------------------------------------------ for drivers

    async def make_safe(self) -> None:
        """Send what the safe state takes. Drivers override this; it runs ahead of all else."""

    def start(
        self,
        what: str,
        work: Coroutine[Any, Any, T],
        *,
        on_cancel: Callable[[], Coroutine[Any, Any, object]] | None = None,
    ) -> Status[T]:
        """Begin an operation and return at once. It supersedes the one before, on the record.

        `on_cancel` holds the device when the operation is ended early.
        """
        self.context.journal.note("operation", self.name, f"{what}: begun")
        before = self.operation
        if before is not None and not before.done:
            before.cancel_without_hold(f"superseded by {what!r}", superseded=True)
        else:
            before = None
        status = Status(work, name=f"{self.name} {what}", device=self, on_cancel=on_cancel, after=before)
        self.operation = status
        return status

    async def until(
        self, signal: SignalR[T], reached: Callable[[T], bool], *, patience: float = PATIENCE
    ) -> AsyncIterator[Reading[T]]:
        """Follow `signal` until `reached`; raise `NoReply` after `patience` seconds without a good reading.

        While the link is being reconnected patience does not run out: that has a limit of its own.
        """
        loop = asyncio.get_running_loop()
        good = loop.time()
        async for reading in signal.watch():
            if reading.value is None or reading.quality is Quality.BAD:
                if self.reconnecting:
                    good = loop.time()
                elif loop.time() - good > patience:
                    raise NoReply(self.name, f"{signal.name} could not be read for {patience:g} s: {reading.reason}")
                continue
            good = loop.time()
            yield reading
            if reached(reading.value):
                return

    @property
    def wire(self) -> Hashable:
        """What questions of this device go over; devices on one wire may share answers."""
        return id(self)

    @property
    def reconnecting(self) -> bool:
        """Whether the link is lost and being sought."""
        return False

    async def _read(self, *kinds: Kind) -> dict[str, Any]:
        # One exchange per question, as for the shared poll.
        out: dict[str, Any] = {}
        answers: dict[Hashable, Any] = {}
        for signal in self.signals():
            if signal.kind in kinds:
                question = signal.question
                if question not in answers:
                    answers[question] = await signal.at.ask(self)
                reading = signal.reading(answers[question])
                signal.last = reading
                out[f"{self.name}-{signal.name}"] = {"value": reading.value, "timestamp": reading.time / 1e9}
        return out

    def _describe(self, *kinds: Kind) -> dict[str, Any]:
        dtypes = {float: "number", int: "integer", bool: "boolean", str: "string"}
        out: dict[str, Any] = {}
        for signal in self.signals():
            if signal.kind in kinds:
                key: dict[str, Any] = {
                    "source": f"hal://{signal.path}", "dtype": dtypes[signal.dtype], "shape": [], "units": signal.unit,
                }  # fmt: skip
                if isinstance(signal, SignalRW) and signal.dtype in (int, float):
                    key["limits"] = {"control": {"low": signal.limits.low, "high": signal.limits.high}}
                out[f"{self.name}-{signal.name}"] = key
        return out
