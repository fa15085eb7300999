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

    def turn(self, rank: Purpose) -> _Turn:
        """Hold the wire: ``async with turns.turn(rank):``."""
        return _Turn(self, rank)

    async def wait(self, limit: float, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work` returns, for the holder of the turn.

        Raises TimeoutError after `limit` seconds, and `SetAside` when the safe state wants the wire. `work` must
        bear being cancelled.
        """
        if self._hurried:
            raise SetAside
        self._waiting = waiting = _Wait(limit)
        try:
            return await work(*args, **kwargs)
        except BaseException as error:
            if waiting.taken_back() and isinstance(error, asyncio.CancelledError):
                raise waiting.why from None
            raise
        finally:
            waiting.deadline.cancel()
            self._waiting = None

    async def take(self, rank: Purpose) -> None:
        """Wait for the turn."""
        if self._held is None:
            self._held = rank
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

    def _hurry(self) -> None:
        """Set the holder aside, unless it is the safe state itself (another device's, on the same wire)."""
        if self._held is None or self._held is Purpose.SAFE:
            return
        self._hurried = True
        if self._waiting is not None:
            self._waiting.end(SetAside)


class _Wait:
    """A wait for the wire. asyncio.timeout would do for the deadline, at a third of what a whole question costs."""

    __slots__ = ("_before", "_task", "deadline", "why")

    def __init__(self, limit: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before = task, task.cancelling()
        self.why: type[Exception] = Exception
        """What it was ended with; Exception while it was not."""
        self.deadline = task.get_loop().call_later(limit, self.end, TimeoutError)

    def end(self, why: type[Exception]) -> None:
        if self.why is Exception:
            self.why = why
            self._task.cancel()

    def taken_back(self) -> bool:
        """Undo the cancellation by `end`; return whether there was one, and none by anybody else."""
        return self.why is not Exception and self._task.uncancel() <= self._before


class _Turn:
    __slots__ = ("_rank", "_turns")

    def __init__(self, turns: Turns, rank: Purpose) -> None:
        self._turns, self._rank = turns, rank

    async def __aenter__(self) -> None:
        await self._turns.take(self._rank)

    async def __aexit__(self, *_: object) -> None:
        self._turns.give()
