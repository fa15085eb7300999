"""Presence: whether the lab is there, as the broker tells everybody.

The last word under the lab's state is not always the lab's own. The last will of a session that was
killed comes when the broker notices, up to 15 s late, and then after the "online" of the next session.
So a lab listens to its own state, and says once more that it is there when it hears otherwise. That way
it also finds out that another lab goes by its name.
"""

from __future__ import annotations

from enum import Enum

from ..clock.timebase import Timebase
from ..errors import HalError
from . import topics

LONGEST = 4096
"""Bytes of a state that are looked at."""


class Heard(Enum):
    """What to make of something said of the lab's state."""

    FINE = "fine"
    WRONG = "wrong"
    """It is taken for gone, and is here: say so."""
    TWIN = "twin"
    """Another lab has the same name, and did not have it so far: say that this one is here, it will listen too."""


class Presence:
    """What is said of one session of a lab."""

    def __init__(self, lab: str, session: str, timebase: Timebase) -> None:
        self.topic = topics.state_topic(lab)
        self.echoed = False
        """Whether the broker passes on what this session says."""
        self._session, self._timebase = session, timebase
        self._twins: set[str] = set()

    def online(self) -> bytes:
        """It is there."""
        return self._state(online=True, clean=True)

    def offline(self) -> bytes:
        """It leaves."""
        return self._state(online=False, clean=True)

    def will(self) -> bytes:
        """What the broker is to say when it has lost the lab: nobody knows when that was."""
        return self._state(online=False, clean=False)

    def heard(self, payload: bytes) -> Heard:
        """Judge what somebody has said while this session was online (not what the broker kept from before)."""
        try:
            state = topics.decode_state(payload[:LONGEST])
        except HalError:
            return Heard.WRONG  # whatever it is, the next who looks must find that the lab is there
        self.echoed = self.echoed or state.session == self._session
        if not state.online:
            return Heard.WRONG
        if state.session == self._session or state.session in self._twins:
            return Heard.FINE
        self._twins.add(state.session)
        return Heard.TWIN

    def _state(self, *, online: bool, clean: bool) -> bytes:
        now = self._timebase.now() if clean else None
        return topics.encode_state(topics.LabState(online, self._session, now, clean, self._timebase.anchor))
