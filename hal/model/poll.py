"""One poll, many listeners: a question is asked once per period, however many follow its signals."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError, HalError
from ..gate import Purpose, acting

if TYPE_CHECKING:
    from .signal import SignalR


class Polls:
    """The polls of one lab, each started with its first listener and stopped with its last."""

    def __init__(self) -> None:
        self._polls: dict[Hashable, _Poll] = {}
        self._keys: dict[SignalR[Any], Hashable] = {}
        """What each signal followed was found under; its question may change with the device's settings."""

    def follow(self, signal: SignalR[Any]) -> None:
        """Begin to poll `signal`, together with all that the same question answers."""
        key = self._keys[signal] = signal.question
        poll = self._polls.get(key)
        if poll is None:
            poll = self._polls[key] = _Poll()
        poll.signals.append(signal)
        if poll.task is None or poll.task.done():
            poll.task = asyncio.get_running_loop().create_task(poll.run(), name=f"poll {signal.path}")
        else:
            _done(poll.joined, False)

    def leave(self, signal: SignalR[Any]) -> None:
        """Stop polling `signal`."""
        key = self._keys.pop(signal, None)
        poll = self._polls.get(key)
        if poll is not None and signal in poll.signals:
            poll.signals.remove(signal)
            if not poll.signals:
                del self._polls[key]
                if poll.task is not None:
                    poll.task.cancel()

    async def close(self) -> None:
        """Stop all."""
        tasks = [poll.task for poll in self._polls.values() if poll.task is not None]
        self._polls.clear()
        self._keys.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _Poll:
    def __init__(self) -> None:
        self.signals: list[SignalR[Any]] = []
        self.task: asyncio.Task[None] | None = None
        self.joined: asyncio.Future[bool] | None = None
        """Somebody has come who may want it sooner."""
        self._told = ""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        with acting(Purpose.POLL):
            while self.signals:
                await self._once()
                # Keep to the grid; a slow instrument skips beats rather than queueing them up.
                period = min((s.poll or 1.0 for s in self.signals), default=1.0)
                now = loop.time()
                due += period
                if due < now:
                    due = now + min(period, 0.001)
                due = await self._pause(due)

    async def _pause(self, due: float) -> float:
        """Wait until `due`, or only as long as a newcomer's period if that is shorter; return until when."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            self.joined = loop.create_future()
            alarm = loop.call_at(max(due, began), _done, self.joined, True)
            try:
                if await self.joined:
                    return due
            finally:
                alarm.cancel()
            due = min([due, *(began + s.poll for s in self.signals)])

    async def _once(self) -> None:
        first = self.signals[0]
        try:
            answer = await first.at.ask(first.device)
        except DeviceError as error:
            for signal in list(self.signals):
                signal.publish(signal.bad(str(error)))
            return
        except Exception as error:  # a driver's bug must not silence the signal, nor hide
            text = f"{type(error).__name__}: {error}"
            if not isinstance(error, HalError):
                self._tell(first, text)
            for signal in list(self.signals):
                signal.publish(signal.bad(text))
            return
        for signal in list(self.signals):
            try:
                reading = signal.reading(answer)
            except HalError as error:
                reading = signal.bad(str(error))
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                self._tell(signal, text)
                reading = signal.bad(text)
            signal.publish(reading)

    def _tell(self, signal: SignalR[Any], text: str) -> None:
        """Note a driver's bug, but not at every beat."""
        if text != self._told:
            self._told = text
            signal.device.context.journal.note("error", signal.device.name, f"reading {signal.path}: {text}")


def _done(future: asyncio.Future[bool] | None, value: bool) -> None:
    if future is not None and not future.done():
        future.set_result(value)
