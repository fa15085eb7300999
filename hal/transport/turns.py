"""Whose turn it is on a wire: the most urgent first, and the safe state may end another's wait.

Turns are granted by purpose (safe state, stop, command, question, poll) and then in order of arrival. Whoever
holds the turn waits for the wire through `Turns.wait`, with a deadline; if the safe state has been waiting for
`GRACE`, that wait ends with `SetAside` and the turn passes on.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from itertools import count
from typing import ParamSpec, TypeVar

from ..gate import Purpose

GRACE = 0.15
"""Seconds the safe state waits for a question in flight before it is set aside."""

T = TypeVar("T")
P = ParamSpec("P")


class SetAside(Exception):
    """The safe state needs the wire now."""


class Turns:
    """A lock whose next holder is the most urgent, not the first come."""

    def __init__(self) -> None:
        self._held: Purpose | None = None
        self._hurried = False
        """The holder is to be set aside as soon as it waits."""
        self._queue: list[tuple[Purpose, int, asyncio.Future[None]]] = []
        self._order = count()
        self._waiting: _Wait | None = None
        self._alarm: asyncio.TimerHandle | None = None
        """Looks whether a wait is over its limit. It outlives the wait it was set for, and serves the next ones:
        a timer for each would be a quarter of what a question costs."""

    def turn(self, rank: Purpose) -> _Turn:
        """Hold the wire: ``async with turns.turn(rank):``."""
        return _Turn(self, rank)

    def go_on(self) -> None:
        """Raise `SetAside` if the safe state wants the wire: for the holder, before what needs no waiting."""
        if self._hurried:
            raise SetAside

    async def wait(self, until: float, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work` returns, for the holder of the turn.

        Raises TimeoutError when the loop's time is `until`, and `SetAside` when the safe state wants the wire. `work`
        must bear being cancelled.
        """
        self.go_on()
        task = asyncio.current_task()
        assert task is not None
        self._waiting = waiting = _Wait(task, until)
        if self._alarm is None or self._alarm.when() > until:
            self._set_alarm(task.get_loop(), until)
        try:
            return await work(*args, **kwargs)
        except BaseException as error:
            if waiting.taken_back() and isinstance(error, asyncio.CancelledError):
                assert waiting.why is not None
                raise waiting.why from None
            raise
        finally:
            self._waiting = None

    def taken(self, rank: Purpose) -> bool:
        """Take the turn if nobody has it; return whether that was so."""
        if self._held is not None:
            return False
        self._held = rank
        return True

    async def take(self, rank: Purpose) -> None:
        """Wait for the turn."""
        if self.taken(rank):
            return
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._queue, (rank, next(self._order), granted))
        alarm = loop.call_later(GRACE, self._hurry) if rank is Purpose.SAFE else None
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give()
            raise
        finally:
            if alarm is not None:
                alarm.cancel()

    def give(self) -> None:
        """Pass the turn on."""
        self._held, self._hurried = None, False
        while self._queue:
            rank, _, granted = heapq.heappop(self._queue)
            if not granted.done():
                self._held = rank
                granted.set_result(None)
                return

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_at(when, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        if self._waiting is None:
            return
        if loop.time() < self._waiting.until:
            self._set_alarm(loop, self._waiting.until)
        else:
            loop.call_soon(self._time_out, self._waiting)  # what came while the loop was held up is heard first

    def _time_out(self, waiting: _Wait) -> None:
        if self._waiting is waiting:
            waiting.end(TimeoutError)

    def _hurry(self) -> None:
        """Set the holder aside, unless it is the safe state itself (another device's, on the same wire)."""
        if self._held is None or self._held is Purpose.SAFE:
            return
        self._hurried = True
        if self._waiting is not None:
            self._waiting.end(SetAside)


class _Wait:
    """A wait for the wire."""

    __slots__ = ("_before", "_task", "until", "why")

    def __init__(self, task: asyncio.Task[object], until: float) -> None:
        self._task, self._before, self.until = task, task.cancelling(), until
        self.why: type[Exception] | None = None
        """What ended it, unless it ended by itself."""

    def end(self, why: type[Exception]) -> None:
        if self.why is None:
            self.why = why
            self._task.cancel()

    def taken_back(self) -> bool:
        """Undo the cancellation by `end`; return whether there was one, and none by anybody else."""
        return self.why is not None and self._task.uncancel() <= self._before


class _Turn:
    __slots__ = ("_rank", "_turns")

    def __init__(self, turns: Turns, rank: Purpose) -> None:
        self._turns, self._rank = turns, rank

    async def __aenter__(self) -> None:
        await self._turns.take(self._rank)

    async def __aexit__(self, *_: object) -> None:
        self._turns.give()
