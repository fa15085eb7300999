"""Alarms: what a person has to know, shown until it is over and somebody has said "I know".

The trip is not among them: it holds the lab, and is acknowledged at the lab itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from .payload import Shape, decode, encode

Severity = Literal["trip", "alarm", "warning"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """The state of one alarm."""

    active: bool
    """Whether what it tells of still is so."""
    acknowledged: bool
    """Whether somebody knows."""
    severity: Severity
    """trip: an interlock acted; alarm: see to it now; warning: see to it today."""
    time: int
    """Since when, lab time, ns."""
    text: str
    """What happened and what to do."""
    by: str = ""
    """Who acknowledged it."""
    session: str = ""
    """The lab's session; another than the lab's state names: an old one that stayed behind."""


def encode_alarm(alarm: Alarm) -> bytes:
    """The payload of an alarm."""
    return encode(asdict(alarm) | {"time": str(alarm.time)})


def decode_alarm(payload: bytes | str) -> Alarm:
    """The alarm in a payload. Raises `ProtocolError`."""
    found = decode(payload, "an alarm")
    with Shape("an alarm"):
        known = {f.name: found[f.name] for f in fields(Alarm) if f.name != "session" or f.name in found}
        return Alarm(**known | {"time": int(found["time"])})


class Alarms:
    """The alarms of a lab, by name; `tell` is called with each change."""

    def __init__(self, session: str, tell: Callable[[str, Alarm], None]) -> None:
        self.standing: dict[str, Alarm] = {}
        """Those that are active or not acknowledged."""
        self._session, self._tell = session, tell

    def declare(self, name: str, severity: Severity, time: int) -> None:
        """There is such an alarm, and all is well: one that an earlier session left behind is over."""
        if name not in self.standing:
            self._tell(name, Alarm(False, True, severity, time, "", session=self._session))

    def begin(self, name: str, severity: Severity, text: str, time: int) -> None:
        """Something is wrong since lab time `time`. Nothing new if the alarm is active already."""
        before = self.standing.get(name)
        if before is None or not before.active:
            self._put(name, Alarm(True, False, severity, time, text, session=self._session))

    def end(self, name: str) -> None:
        """It is over; the alarm stands until somebody has acknowledged it."""
        before = self.standing.get(name)
        if before is not None and before.active:
            self._put(name, replace(before, active=False))

    def acknowledge(self, name: str, by: str) -> bool:
        """Somebody knows. False if there was nothing to acknowledge."""
        before = self.standing.get(name)
        if before is None or before.acknowledged:
            return False
        self._put(name, replace(before, acknowledged=True, by=by))
        return True

    def _put(self, name: str, alarm: Alarm) -> None:
        self.standing[name] = alarm
        if alarm.acknowledged and not alarm.active:
            del self.standing[name]
        self._tell(name, alarm)
