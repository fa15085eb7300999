"""How a script is ended from outside, and work that is done to its end whoever cancels it."""

from __future__ import annotations

import asyncio
import atexit
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
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


class LastResort:
    """Closes a lab that its notebook or script left open: the kernel restarts, the loop ends, `kill` comes.

    It is a task that waits to be cancelled: by `asyncio.run` as it ends, by the interpreter's end, by a signal.
    """

    def __init__(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`close` takes every device to its safe state and ends within a minute."""
        self._close = close
        self._released = False
        self._loop = asyncio.get_running_loop()
        self._over = threading.Event()
        self._task = self._loop.create_task(self._wait(), name="last resort of a lab")
        atexit.register(self._at_exit)
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                    self._before[number] = signal.signal(number, self._told)

    def release(self) -> None:
        """The lab is being closed as it should be."""
        self._released = True
        self._task.cancel()

    async def _wait(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not self._released:
                print("hal: a lab was left open; its devices go to their safe state", file=sys.stderr)
                with ended_by_signals(asyncio.current_task(), over=lambda: True):
                    await to_the_end(self._close())
            raise
        finally:
            atexit.unregister(self._at_exit)
            for number in self._before:
                if signal.getsignal(number) == self._told:
                    signal.signal(number, signal.SIG_DFL)
            self._over.set()

    def _told(self, number: int, _: object) -> None:
        self._task.add_done_callback(lambda _: signal.raise_signal(number))  # by now it does what it did before
        self._loop.call_soon_threadsafe(self._task.cancel)

    def _at_exit(self) -> None:
        if self._loop.is_running():  # in another thread
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._over.wait(60)
            return
        self._task.cancel()
        for _ in range(10):  # an ended kernel has told its loop to stop more than once
            if self._task.done() or self._loop.is_closed():
                return
            with suppress(RuntimeError, asyncio.CancelledError):
                self._loop.run_until_complete(self._task)


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
