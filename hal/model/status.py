"""A running operation: await it, leave its block to cancel it, or hand it to Bluesky."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ..errors import HalError, Superseded
from ..gate import Purpose, acting

if TYPE_CHECKING:
    from .device import Device

T = TypeVar("T")


class Status(Generic[T]):
    """One operation under way, such as a ramp; has the shape of `bluesky.protocols.Status`.

    Cancelling it (also by leaving its ``async with`` block early) holds the device; an error takes
    the device to its safe state; a trip ends it without another write.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        *,
        name: str = "operation",
        device: Device | None = None,
        on_cancel: Callable[[], Awaitable[object]] | None = None,
        after: Status[Any] | None = None,
        safe_on_error: bool = True,
    ) -> None:
        """`safe_on_error`: whether its failure takes the device to the safe state (a refused setting does not)."""
        self.name = name
        self._device, self._on_cancel = device, on_cancel
        self._safe_on_error = safe_on_error
        self._imposed: Exception | None = None
        self._observed = False
        self._last: asyncio.Task[None] | None = None
        """What it does after an early end: hold, or go to the safe state."""
        if device is not None:
            device.context.pending.add(self)
        self._task: _Operation[T] = _Operation(self._run(work, after), loop=asyncio.get_running_loop(), name=name)
        self._task.add_done_callback(self._ended)

    # ------------------------------------------------------------------ for scripts

    def __await__(self) -> Generator[Any, None, T]:
        self._observed = True
        try:
            return (yield from self._task.__await__())
        except Exception as error:
            raise self._delivered(error) from error.__cause__

    def _delivered(self, error: Exception) -> Exception:
        return error if self._device is None else self._device.context.delivered(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._observed = True
        self.cancel()
        await asyncio.wait([self._task])
        if kind is None and not self._task.cancelled():
            error = self._task.exception()
            if isinstance(error, Exception) and not isinstance(error, Superseded):
                raise self._delivered(error)

    def cancel(self) -> None:
        """End the operation early; the device holds where it is. No effect on one that has ended."""
        if not self._task.done() and self._imposed is None and not self._task.cancelling():
            self._task.cancel()

    @property
    def done(self) -> bool:
        return self._task.done()

    @property
    def success(self) -> bool:
        return self.done and not self._task.cancelled() and self._task.exception() is None

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        """The error it ended with; None while under way and after success. (`timeout` is Bluesky's.)"""
        if not self.done:
            return None
        self._observed = True
        return asyncio.CancelledError() if self._task.cancelled() else self._task.exception()

    def add_callback(self, callback: Callable[[Self], None]) -> None:
        """Call back when it has ended, at once if it has already."""
        if self.done:
            callback(self)
        else:
            self._task.add_done_callback(lambda _: callback(self))

    def __repr__(self) -> str:
        state = "under way" if not self.done else "done" if self.success else "failed"
        return f"<Status {self.name}: {state}>"

    # ------------------------------------------------------------------ for the device and the lab

    def fail(self, error: Exception) -> None:
        """End it now with `error`, with no hold and no further write (a trip, a newer operation)."""
        if self._task.done() or self._imposed is not None or self._task.stage is _Stage.SAFE:
            return
        self._imposed = error
        if self._task.stage is _Stage.HOLDING and self._last is not None:
            self._last.cancel()
        else:
            self._task.cancel()

    def cancel_without_hold(self, why: str, *, superseded: bool = False) -> None:
        """End it because something else takes over the device: a newer operation, the safe state."""
        if self._task.done() or self._imposed is not None or self._task.stage is _Stage.SAFE:
            return
        error: Exception | None = None
        if self._device is not None:
            what = why if superseded else f"ended: {why}"
            self._device.context.journal.note("operation", self._device.name, f"{self._said}: {what}")
            error = self._device.context.refusal()  # of an operation begun since the trip
        self.fail(error or Superseded(f"{self.name}: {why}"))

    @property
    def running_here(self) -> bool:
        """Whether the caller is part of this operation."""
        return asyncio.current_task() in (self._task, self._last)

    def of(self, device: Device) -> bool:
        """Whether it is an operation on `device`."""
        return self._device is device

    async def ended(self) -> None:
        """Return once it no longer writes, however it ended."""
        if not self._task.done():
            await asyncio.wait([self._task])

    async def _run(self, work: Coroutine[Any, Any, T], after: Status[Any] | None) -> T:
        try:
            try:
                self._task.begin()
                if after is not None:
                    await after.ended()
                return await work
            except asyncio.CancelledError:
                if self._imposed is not None:
                    raise self._imposed from None
                await self._hold()
                raise
            finally:
                work.close()
        except Exception as error:
            if self._device is not None and self._imposed is None and not self._device.context.gate.closed:
                await self._make_safe(self._device, error)
            raise

    async def _hold(self) -> None:
        """Hold the device; being cancelled once more does not end that, a trip does."""
        if self._on_cancel is None:
            return
        try:
            with acting(Purpose.STOP):
                await self._undisturbed(self._on_cancel(), _Stage.HOLDING)
        except asyncio.CancelledError:
            if self._imposed is not None:
                raise self._imposed from None
            raise

    async def _make_safe(self, device: Device, error: Exception) -> None:
        """Take the device to its safe state after an error; nothing ends that but its own deadline."""
        device.context.journal.note("error", device.name, f"{self._said} failed: {error}")
        if not self._safe_on_error:
            return
        try:
            await self._undisturbed(device.safe_state(), _Stage.SAFE)
        except Exception as problem:  # the operation's own error is the one to raise
            device.context.journal.note("error", device.name, f"not in its safe state: {problem}")

    async def _undisturbed(self, work: Awaitable[object], stage: _Stage) -> None:
        """Do `work` in a task of its own, which a cancellation of this one does not reach."""

        async def run() -> None:
            await work

        self._task.stage = stage
        self._last = asyncio.get_running_loop().create_task(run(), name=f"{self.name}, {stage.value}")
        try:
            await asyncio.wait([self._last])
        finally:
            self._task.stage = _Stage.WORKING
        self._last.result()

    def _ended(self, task: asyncio.Task[T]) -> None:
        device = self._device
        error = None if task.cancelled() else task.exception()
        if device is None:
            return
        device.context.pending.discard(self)
        if self._imposed is None and not self.name.endswith(".set"):
            text = "cancelled" if task.cancelled() else "failed" if error else "done"
            device.context.journal.note(
                "operation", device.name, f"{self.name.removeprefix(device.name).strip()}: {text}"
            )
        if isinstance(error, Exception) and self._imposed is None and not self._observed:
            # Somebody may still await it in this turn of the loop; the lab asks again when it closes.
            device.context.unobserved.append(Unobserved(self, error))

    @property
    def _said(self) -> str:
        """What it is, without the device's name."""
        return self.name.removeprefix(self._device.name).strip() if self._device is not None else self.name

    @property
    def observed(self) -> bool:
        """Whether anybody has asked how it ended."""
        return self._observed


class _Stage(Enum):
    """How far an operation is; says whether it may be cancelled now."""

    NEW = "new"
    """Not begun: a cancellation waits for that, so that what has to follow it does."""
    WORKING = "working"
    HOLDING = "holding"
    SAFE = "safe"


class _Operation(asyncio.Task[T]):
    """The task of a status; also who awaits it cancels it, hence not a matter of `Status.cancel` alone."""

    stage = _Stage.NEW
    _early = False

    def begin(self) -> None:
        """Raise CancelledError if it was cancelled before it could begin."""
        self.stage = _Stage.WORKING
        if self._early:
            raise asyncio.CancelledError

    def cancel(self, msg: Any = None) -> bool:
        match self.stage:
            case _Stage.NEW:
                self._early = True
                return not self.done()
            case _Stage.WORKING:
                return super().cancel(msg)
            case _:
                return False


class Unobserved(HalError):
    """An operation that failed while nobody awaited it."""

    def __init__(self, status: Status[Any], error: Exception) -> None:
        super().__init__(f"{status.name} failed and nobody awaited it: {error}")
        self.status, self.error = status, error


class Done(Status[None]):
    """An operation that was over as soon as it was asked for."""

    def __init__(self, name: str = "operation") -> None:
        self.name = name
        self._imposed = None
        self._observed = True

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield  # makes this a generator

    async def __aexit__(self, *_: object) -> None:
        """Nothing is left to cancel."""

    def cancel(self) -> None:
        """Nothing is left to cancel."""

    def fail(self, error: Exception) -> None:
        """Nothing is left to fail."""

    async def ended(self) -> None:
        """It has."""

    @property
    def done(self) -> bool:
        return True

    @property
    def success(self) -> bool:
        return True

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        return None

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)
