"""The wall clock's corrections during a run: written down, never followed."""

from __future__ import annotations

from ..model.context import Context

STEP = 1_000_000
"""ns by which the wall clock must have moved to be worth an entry."""
PAUSE = 5_000_000_000
"""Least ns between two entries."""


class WallWatch:
    """Looks how far the wall clock has moved from where the session's anchor has it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told = 0
        self._when = 0

    def tell(self) -> None:
        """Enter in the journal where it stands now."""
        self._note(self._context.timebase.drift())

    def look(self) -> None:
        """The same if it has moved by more than a millisecond since, and some seconds are over."""
        now = self._context.timebase.now()
        if now - self._when < PAUSE:
            return
        moved = self._context.timebase.drift()
        if abs(moved - self._told) > STEP:
            self._note(moved)

    def _note(self, moved: int) -> None:
        self._told, self._when = moved, self._context.timebase.now()
        self._context.journal.note(
            "clock", "", f"the wall clock is {moved / 1e6:+.3f} ms from where the anchor has it", moved_ns=moved
        )
