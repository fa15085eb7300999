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

    def follow(self, signal: SignalR[Any]) -> None:
        """Begin to poll `signal`, together with all that the same question answers."""
        key = signal.question
        poll = self._polls.get(key)
        if poll is None:
            poll = self._polls[key] = _Poll()
        poll.signals.append(signal)
        if poll.task is None or poll.task.done():
            poll.task = asyncio.get_running_loop().create_task(poll.run(), name=f"poll {signal.path}")

    def leave(self, signal: SignalR[Any]) -> None:
        """Stop polling `signal`."""
        poll = self._polls.get(signal.question)
        if poll is not None and signal in poll.signals:
            poll.signals.remove(signal)
            if not poll.signals:
                del self._polls[signal.question]
                if poll.task is not None:
                    poll.task.cancel()

    async def close(self) -> None:
        """Stop all."""
        tasks = [poll.task for poll in self._polls.values() if poll.task is not None]
        self._polls.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _Poll:
    def __init__(self) -> None:
        self.signals: list[SignalR[Any]] = []
        self.task: asyncio.Task[None] | None = None

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
                await asyncio.sleep(max(0.0, due - now))

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
                first.device.context.journal.note("error", first.device.name, f"reading {first.path}: {text}")
            for signal in list(self.signals):
                signal.publish(signal.bad(text))
            return
        for signal in list(self.signals):
            try:
                reading = signal.reading(answer)
            except HalError as error:
                reading = signal.bad(str(error))
            signal.publish(reading)
