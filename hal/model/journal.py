"""The journal: what was done and what happened, in order, for the record and the control room."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..clock.timebase import Timebase

log = logging.getLogger("hal")


@dataclass(frozen=True, slots=True)
class Event:
    """One entry."""

    time: int
    """Lab time, ns since the UNIX epoch."""
    kind: str
    """set, operation, command, trip, acknowledge, link, clock, note, error."""
    device: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


class Journal:
    """Takes entries and hands each to every listener at once."""

    def __init__(self, timebase: Timebase, *, keep: int = 1000) -> None:
        self.timebase = timebase
        self.listeners: list[Callable[[Event], None]] = []
        self.recent: deque[Event] = deque(maxlen=keep)

    def note(self, kind: str, device: str, text: str, **data: Any) -> Event:
        """Enter something that happened now."""
        event = Event(self.timebase.now(), kind, device, text, data)
        self.recent.append(event)
        for listener in list(self.listeners):
            try:
                listener(event)
            except Exception:  # a trip is noted here: no listener may keep it from acting
                log.exception("a listener of the journal failed at: %s", text)
        log.log(
            logging.WARNING if kind in ("trip", "error") else logging.INFO, "%s: %s", f"{kind} {device}".strip(), text
        )
        return event
