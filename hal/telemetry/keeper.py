"""The keeper of the outbox: a thread that writes down what the broker has not taken at once.

The loops of the lab and of the sender never write to a disk: one that hangs must not make them wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .outbox import Outbox
from .segment import line
from .spool import Spool

LOOK = 0.2
"""Seconds between looks. A message is on disk, or with the broker, so long after `spool.PATIENCE` at most."""
END = 5.0
"""Seconds a disk is given at the end."""

Tell = Callable[[bool, str], None]


class Keeper:
    """Moves messages from the spool to the outbox until it is stopped."""

    def __init__(self, spool: Spool, outbox: Outbox, tell: Tell) -> None:
        """`tell`: called with whether all is well and what happened, from the keeper's thread, once for each change."""
        self._spool, self._outbox, self._tell = spool, outbox, tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="telemetry's outbox", daemon=True)
        self._well = True
        self._messages = self._readings = 0  # handed to the outbox, and not known to be on disk

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and close the outbox; takes `END` seconds if the disk hangs. Blocks."""
        self._over.set()
        self._thread.join(END)

    def _keep(self) -> None:
        while not self._over.wait(LOOK):
            self._move()
        self._move()
        self._outbox.close()

    def _move(self) -> None:
        messages = self._spool.overdue()
        self._outbox.append([line(message.topic, message.payload) for message in messages])
        self._messages += len(messages)
        self._readings += sum(message.count for message in messages)
        if self._messages and not self._outbox.full:
            self._spool.stored(self._messages, self._readings)
            self._messages = self._readings = 0
        if self._outbox.full is self._well:
            self._well = not self._outbox.full
            self._tell(self._well, self._outbox.reason or "nothing waits for the disk of the outbox any more")
