"""How a script is ended from outside, and work that is done to its end whoever cancels it."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Ending:
    """What signals have asked for."""

    interrupted: bool = False
    """By Ctrl-C: the script raises KeyboardInterrupt."""
    told: bool = False
    """The script's task was cancelled."""


@contextmanager
def ended_by_signals(body: asyncio.Task[Any] | None, over: Callable[[], bool]) -> Iterator[Ending]:
    """Ctrl-C and `kill` end a script through the safe state, and no second one breaks into that.

    `body` is the script's task, `over` tells when there is nothing to end any more. asyncio's own handling would
    raise KeyboardInterrupt at any line at the second Ctrl-C.
    """
    loop, ending = asyncio.get_running_loop(), Ending()

    def end(number: int) -> None:
        if number == signal.SIGINT and ending.interrupted:
            print("hal: the devices go to their safe state; please wait", file=sys.stderr)
        ending.interrupted = ending.interrupted or number == signal.SIGINT
        if body is not None and not over() and not ending.told:
            ending.told = True
            body.cancel()

    def caught(number: int, _: object) -> None:
        loop.call_soon_threadsafe(end, number)

    before: dict[int, Any] = {}
    if body is not None and threading.current_thread() is threading.main_thread():
        before[signal.SIGINT] = signal.signal(signal.SIGINT, caught)
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, caught)
    try:
        yield ending
    finally:
        for number, handler in before.items():
            if handler is not None:  # not one set from outside Python
                signal.signal(number, handler)


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` however often the caller is cancelled meanwhile: an open file, a hot heater can't be left."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if not task.cancelled():
                cancelled = error
        except Exception:  # its own: raised below
            break
    task.result()
    if cancelled is not None:
        raise cancelled
