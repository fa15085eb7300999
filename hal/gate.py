"""The write gate: after a trip only safe-state writes reach a wire, until a person acknowledges.

Every session asks its gate at the last moment before bytes leave. Whether a write belongs to the
safe state is a property of the task that makes it (a context variable), so that a driver's
`make_safe` reads like any other driver code and a ramp that is being cancelled at that moment
can't pass for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum


class Purpose(IntEnum):
    """Why something is sent; lower goes first on a busy link."""

    SAFE = 0
    """The safe state: passes a closed gate."""
    STOP = 1
    """A stop or hold asked for by a person or script."""
    COMMAND = 2
    """Anything that changes the device."""
    SCRIPT = 3
    """A question somebody waits for."""
    POLL = 4
    """A question of the shared poll."""


_purpose: ContextVar[Purpose | None] = ContextVar("hal_purpose", default=None)


@contextmanager
def acting(purpose: Purpose) -> Iterator[None]:
    """Everything sent inside the block, by this task, is sent for `purpose`."""
    token = _purpose.set(purpose)
    try:
        yield
    finally:
        _purpose.reset(token)


def purpose(default: Purpose) -> Purpose:
    """The purpose of the running task; `default` where none was stated."""
    stated = _purpose.get()
    return default if stated is None else stated


class Gate:
    """Open until shut by a trip; shared by all sessions of a lab."""

    def __init__(self) -> None:
        self._error: Callable[[], Exception] | None = None

    @property
    def closed(self) -> bool:
        return self._error is not None

    def close(self, error: Callable[[], Exception]) -> None:
        """Shut the gate; `error` makes what a refused writer gets."""
        self._error = error

    def open(self) -> None:
        """Let writes pass again. Only an acknowledgement by a person should lead here."""
        self._error = None

    def check(self, writing_for: Purpose) -> None:
        """Raise what the gate was shut with unless the write belongs to the safe state."""
        if self._error is not None and writing_for is not Purpose.SAFE:
            raise self._error()
