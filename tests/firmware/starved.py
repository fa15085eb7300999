"""A machine that stops a program for a quarter of a second has not been kind enough to tell anything of a lease of half
a second. Such a run tells nothing: it is done again. One that was not disturbed counts, whatever it says."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

STALL = 0.12
"""s without a step of this program, or of the board's, that may have cost it a heartbeat."""
RUNS = 10


class Stalls:
    """Looks, as long as it is entered, how long the machine left us and the board alone."""

    def __init__(self, passes: Callable[[], int] | None = None) -> None:
        self._passes = passes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.worst = 0.0
        """s"""

    def _look(self) -> None:
        looked = moved = time.monotonic()
        passes = None
        while not self._over.wait(0.005):
            now = time.monotonic()
            self.worst = max(self.worst, now - looked)
            looked = now
            if self._passes is None:
                continue
            if (seen := self._passes()) != passes:
                passes, moved = seen, now
            self.worst = max(self.worst, now - moved)

    def __enter__(self) -> Stalls:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._over.set()
        self._thread.join()


def again_if_starved(test: Callable[..., None]) -> Callable[..., None]:
    """A test of `board` and `host` that fails is run again if the machine stood still meanwhile."""

    @functools.wraps(test)
    def patient(**given: Any) -> None:
        board, host = given["board"], given["host"]
        for left in range(RUNS - 1, -1, -1):
            with Stalls(lambda: board.world["passes"]) as stalls:
                try:
                    test(**given)
                    return
                except Exception:
                    if stalls.worst < STALL or not left:
                        raise
            host.fresh()

    return patient
