"""What is known of the labs on a broker, from the messages that came: no MQTT, no browser, no clock of its own.

Whoever is not shown to be there is not: a lab without a state is unknown, and a signal of which nothing was
heard for three of its periods is silent. That is judged by when a message *came*, since the
clock of the lab is not the clock of this machine.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..telemetry.topics import META, ROOT, SCHEMA
from .series import SECOND, Series

PERIODS = 3
"""A signal is silent when nothing was heard of it for so many of its periods."""
LEAST = 2.0
"""s: nothing is silent sooner, however often it is polled: that is the network's."""
DRIFT = 1e-3
"""s/s: how fast the estimate of a lab's clock forgets the quickest message."""
LATEST = 300.0
"""s: no network brings a reading so late. If all are, for `DOUBT` seconds, the lab's clock is another than it was."""
DOUBT = 10.0
FILMING = 4.0
"""s after which a camera of which nothing is heard is not filming."""
EVENTS = 60
"""Entries of the journal that are kept."""
MOST_SIGNALS, MOST_LABS = 2000, 20
"""More are not looked at: a page can't show them and memory is bounded."""
LOCAL = "local"
"""In the rights of a lab: whoever comes without a name, which only a broker on loopback without passwords allows."""
LARGEST = 2**63 - 1
HISTORY = "insitu-history"


@dataclass(slots=True)
class Signal:
    """One signal, as far as it is known."""

    device: str
    name: str
    about: Mapping[str, Any] = field(default_factory=dict)
    """Its description, as published; empty before that."""
    value: Any = None
    unit: str = ""
    uncertainty: float | None = None
    quality: str = ""
    """good, stale, uncertain, bad; empty before the first reading."""
    reason: str = ""
    heard: float = -math.inf
    """When (s, this machine's monotonic clock)."""
    silent: bool = False
    setpoint: Any = None
    """What its setpoint was last seen to be set to, where it has one."""
    series: Series = field(default_factory=Series)
    changed: int = 0

    @property
    def path(self) -> str:
        return f"{self.device}.{self.name}"

    @property
    def hinted(self) -> bool:
        return bool(self.about.get("kind") == "hinted")

    @property
    def interval(self) -> float:
        """Seconds within which it is heard even if nothing changes."""
        given = self.about.get("interval") or self.about.get("period")
        return float(given) if isinstance(given, (int, float)) and given > 0 else 1.0

    @property
    def patience(self) -> float:
        """Seconds of silence that are no silence yet."""
        return max(PERIODS * self.interval, LEAST)


DESCRIBED: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(
        ("long_name", "unit", "dtype", "kind", "setpoint_of", "varies", "vendor", "model", "session"), str
    ),
    "capabilities": list, "period": (int, float), "interval": (int, float),
}  # fmt: skip
"""What is taken from a description, and as what: it may be anybody's."""


@dataclass(slots=True)
class Alarm:
    """Something a person must know, until a person has acknowledged it."""

    name: str
    active: bool
    acknowledged: bool
    severity: str
    """trip, alarm or warning."""
    time: int
    text: str
    by: str = ""
    session: str = ""


@dataclass(slots=True)
class Lab:
    """One lab, as far as it is known."""

    name: str
    state: str = "unknown"
    """online, offline (it said so), dead (the broker said so in its place), or unknown."""
    since: int | None = None
    session: str = ""
    twins: bool = False
    """Whether another lab goes by the same name: a session has spoken again after another one came."""
    former: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    """Sessions that others came after, without a word of theirs that they end."""
    signals: dict[tuple[str, str], Signal] = field(default_factory=dict)
    devices: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    detectors: dict[str, tuple[Mapping[str, Any], float]] = field(default_factory=dict)
    """What was last said of a camera, and when it came."""
    clocks: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    outbox: Mapping[str, Any] = field(default_factory=dict)
    rights: Mapping[str, Any] = field(default_factory=dict)
    events: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENTS))
    lead: float | None = None
    """s: by how much the lab's clock is at least ahead of this machine's monotonic one, which nobody sets."""
    judged: float = 0.0
    """When that was last judged (s, monotonic)."""
    quickest: float | None = None
    """The same (s), of the readings since the last look."""
    behind: float = 0.0
    """s: by how much readings come later than they could; a network or a machine that can't keep up."""
    doubted: float | None = None
    """Since when (s, monotonic) all readings come later than any network brings them."""
    shape: int = 0
    """Revision at which the set of signals last changed."""
    told: int = 0
    """Revision at which anything but a signal last changed."""

    def may(self, user: str, what: str) -> bool:
        """Whether `user` ("" is nobody in particular) may do `what`: stop, acknowledge."""
        may = self.rights.get("may")
        granted = may.get(user or LOCAL) if isinstance(may, dict) else None
        # Rights of an earlier session were left behind on the broker.
        return isinstance(granted, list) and what in granted and self._lives(self.rights.get("session"))

    def present(self) -> list[Signal]:
        """Signals of the present session; what an earlier one left behind on the broker is not shown."""
        return [s for s in self.signals.values() if s.quality or (s.about and self._of_now(s.about.get("session")))]

    def pressing(self) -> list[Alarm]:
        """Alarms of the present session that are active or not acknowledged, the gravest first."""
        rank = {"trip": 0, "alarm": 1, "warning": 2}
        alarms = [a for a in self.alarms.values() if (a.active or not a.acknowledged) and self._of_now(a.session)]
        return sorted(alarms, key=lambda a: (a.acknowledged, rank.get(a.severity, 1), -a.time, a.name))

    def _of_now(self, session: str | None) -> bool:
        """Whether what a session said is not of an earlier one; older labs do not say which they are."""
        return not session or not self.session or self._lives(session)

    def _lives(self, session: Any) -> bool:
        return session == self.session or (self.twins and session in self.former)


class Board:
    """All labs on one broker. `feed` it what comes, `look` now and then."""

    def __init__(self) -> None:
        self.labs: dict[str, Lab] = {}
        self.revision = 1
        """Grows with everything that changes."""
        self.unreadable = 0
        self.last_unreadable = ""
        self._known: dict[str, tuple[Lab, Signal, bool]] = {}
        self._meta: dict[str, Callable[[Lab, list[str], dict[str, Any], float], None]] = {
            "signals": self._description, "state": self._state, "alarms": self._alarm, "clocks": self._clock,
            "events": self._event, "devices": self._device, "detector": self._detector, "outbox": self._outbox,
            "rights": self._rights, "streams": self._stream,
        }  # fmt: skip

    def feed(self, topic: str, payload: bytes, came: float) -> None:
        """Take in a message that came at `came` (s, monotonic); what can't be understood is counted, no more."""
        try:
            if (known := self._known.get(topic)) is not None:  # thousands a second are of topics seen before
                self._reading(*known, _read(payload), came)
                return
            levels = topic.split("/")
            if levels[0] in (ROOT, HISTORY) and len(levels) == 4:
                self._first(topic, levels, _read(payload), came)
            elif levels[0] == META and len(levels) >= 3 and levels[2] in self._meta:
                lab = self._lab(levels[1])
                self._meta[levels[2]](lab, levels[3:], _read(payload) if payload else {}, came)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError, OverflowError) as error:
            self.unreadable += 1
            self.last_unreadable = f"{topic[:80]}: {type(error).__name__} {error}"[:200]

    def too_long(self, count: int) -> None:
        """Count messages that were too long to be looked at."""
        self.unreadable += count
        self.last_unreadable = "a message of more than a megabyte"

    def look(self, now: float) -> None:
        """See what has fallen silent by `now` (s, monotonic)."""
        for lab in self.labs.values():
            _judge(lab, now)
            for signal in lab.signals.values():
                silent = bool(signal.quality) and now - signal.heard > signal.patience
                if silent != signal.silent:
                    signal.silent = silent
                    signal.changed = self._next()

    # ------------------------------------------------------------------ readings

    def _first(self, topic: str, levels: list[str], found: dict[str, Any], came: float) -> None:
        int(found["time"]), found["value"], found["unit"], found["quality"]  # what is no reading makes no signal
        lab = self._lab(levels[1])
        signal = self._signal(lab, levels[2], levels[3])
        self._reading(lab, signal, levels[0] == HISTORY, found, came)
        self._known[topic] = lab, signal, levels[0] == HISTORY

    def _reading(self, lab: Lab, signal: Signal, history: bool, found: dict[str, Any], came: float) -> None:
        value, time, quality = found["value"], _time(found["time"]), str(found["quality"])
        if not (value is None or isinstance(value, (bool, int, float, str))):
            raise TypeError("a value is a number, a text or a truth")
        if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
            raise OverflowError("a value of more than 64 bits")
        uncertainty = None if (given := found.get("uncertainty")) is None else float(given)
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            drawn = None if quality == "bad" else value
            signal.series.add(time, drawn, uncertainty or 0.0, found.get("min"), found.get("max"))
        if history:
            return  # of the past: it fills the plot and says nothing of now
        # Live ones are in order: what came last is now, even if a clock was set back.
        signal.heard = came
        signal.value, signal.unit, signal.uncertainty = value, str(found["unit"]), uncertainty
        signal.quality, signal.reason = quality, str(found.get("reason") or "")
        signal.silent = False
        signal.changed = self._next()
        if "setpoint_of" in signal.about:
            self._set(lab, signal, value)
        lead = time / 1e9 - came
        # The way here only makes it smaller: the quickest message is right.
        lab.lead = lead if lab.lead is None else max(lead, lab.lead - DRIFT * (came - lab.judged))
        lab.judged = came
        lab.quickest = lead if lab.quickest is None else max(lead, lab.quickest)

    def _stream(self, lab: Lab, levels: list[str], found: dict[str, Any], came: float) -> None:
        device, name = levels
        values, first, step = found["values"], _time(found["time"]), float(found["step"])
        signal = self._signal(lab, device, name)
        for place, value in enumerate(values):
            signal.series.add(first + round(place * step * SECOND), None if value is None else float(value))
        if values:
            last = None if values[-1] is None else float(values[-1])
            signal.value, signal.unit, signal.quality = last, str(found["unit"]), "good"
            signal.heard, signal.silent = came, False
            signal.about = signal.about or {"kind": "normal", "period": len(values) * step, "dtype": "float"}
            dropped = found.get("dropped") or 0
            signal.reason = f"{dropped} samples dropped" if dropped else ""
            signal.changed = self._next()

    # ------------------------------------------------------------------ everything else

    def _description(self, lab: Lab, levels: list[str], found: dict[str, Any], _: float) -> None:
        device, name = levels
        if not found:
            if (gone := lab.signals.pop((device, name), None)) is not None:
                self._known = {topic: known for topic, known in self._known.items() if known[1] is not gone}
        else:
            signal = self._signal(lab, device, name)
            signal.about = {key: found[key] for key, kind in DESCRIBED.items() if isinstance(found.get(key), kind)}
            signal.unit = str(found["unit"])
            signal.changed = self._next()
        lab.shape = self._next()

    def _state(self, lab: Lab, _: list[str], found: dict[str, Any], __: float) -> None:
        if not found:
            lab.state, lab.since = "unknown", None
        else:
            online, clean = {"online": True, "offline": False}[found["state"]], bool(found["clean"])
            lab.since = None if found["time"] is None else _time(found["time"])
            lab.state = "online" if online else "offline" if clean else "dead"
            session = str(found["session"])
            lab.twins = online and (lab.twins or session in lab.former)
            if lab.session != session:
                if lab.session:
                    lab.former.append(lab.session)
                lab.session, lab.lead, lab.doubted = session, None, None
                lab.detectors.clear()
                for signal in lab.signals.values():  # the new session has described its own before it says this
                    if not lab.twins and signal.about.get("session") not in (lab.session, None):
                        signal.quality = ""
                lab.shape = self._next()
            if not online:
                lab.former.clear()
        lab.told = self._next()

    def _alarm(self, lab: Lab, levels: list[str], found: dict[str, Any], _: float) -> None:
        (name,) = levels
        if not found:
            lab.alarms.pop(name, None)
        else:
            active = bool(found["active"] if "active" in found else found["tripped"])
            lab.alarms[name] = Alarm(
                name,
                active,
                bool(found.get("acknowledged", not active)),
                str(found.get("severity", "trip" if name == "trip" else "alarm")),
                _time(found["time"] or 0),
                str(found["text"]),
                str(found.get("by") or ""),
                str(found.get("session") or ""),
            )
        lab.told = self._next()

    def _clock(self, lab: Lab, levels: list[str], found: dict[str, Any], _: float) -> None:
        _put(lab.clocks, levels, found)
        lab.told = self._next()

    def _device(self, lab: Lab, levels: list[str], found: dict[str, Any], _: float) -> None:
        _put(lab.devices, levels, found)
        lab.told = self._next()

    def _detector(self, lab: Lab, levels: list[str], found: dict[str, Any], came: float) -> None:
        (camera,) = levels
        lab.detectors[camera] = found, came
        lab.told = self._next()

    def _outbox(self, lab: Lab, _: list[str], found: dict[str, Any], __: float) -> None:
        lab.outbox, lab.told = found, self._next()

    def _rights(self, lab: Lab, _: list[str], found: dict[str, Any], __: float) -> None:
        lab.rights, lab.told = found, self._next()

    def _event(self, lab: Lab, _: list[str], found: dict[str, Any], __: float) -> None:
        event = {
            "number": found["number"], "time": _time(found["time"]), "kind": str(found["kind"]),
            "device": str(found["device"]), "text": str(found["text"])[:500],
        }  # fmt: skip
        if any((event["number"], event["time"]) == (e["number"], e["time"]) for e in lab.events):
            return  # delivered again
        lab.events.append(event)
        lab.told = self._next()
        if event["kind"] == "set" and "value" in found["data"]:
            device, _dot, name = event["text"].partition(" = ")[0].partition(".")
            if (device, name) in lab.signals:
                self._set(lab, lab.signals[device, name], found["data"]["value"])

    def _set(self, lab: Lab, signal: Signal, value: Any) -> None:
        """Show what a setpoint is at its readback."""
        readback = lab.signals.get((signal.device, str(signal.about.get("setpoint_of") or "")))
        if readback is not None and readback.setpoint != value:
            readback.setpoint, readback.changed = value, self._next()

    # ------------------------------------------------------------------ places

    def _lab(self, name: str) -> Lab:
        if name not in self.labs:
            if len(self.labs) >= MOST_LABS:
                raise ValueError(f"more than {MOST_LABS} labs")
            self.labs[name] = Lab(name, told=self._next())
        return self.labs[name]

    def _signal(self, lab: Lab, device: str, name: str) -> Signal:
        signal = lab.signals.get((device, name))
        if signal is None:
            if len(lab.signals) >= MOST_SIGNALS:
                raise ValueError(f"more than {MOST_SIGNALS} signals")
            signal = lab.signals[device, name] = Signal(device, name)
            lab.shape = self._next()
        return signal

    def _next(self) -> int:
        self.revision += 1
        return self.revision


def _judge(lab: Lab, now: float) -> None:
    """Say how late the readings since the last look came, and whether that can be."""
    if lab.quickest is None or lab.lead is None:
        return
    if lab.lead - lab.quickest < LATEST:
        lab.doubted = None
    elif lab.doubted is None:
        lab.doubted = now
    elif now - lab.doubted > DOUBT:
        lab.lead, lab.doubted = lab.quickest, None
    lab.behind, lab.quickest = lab.lead - lab.quickest, None


def _put(place: dict[str, Mapping[str, Any]], levels: list[str], found: dict[str, Any]) -> None:
    (name,) = levels
    if found:
        place[name] = found
    else:
        place.pop(name, None)


def _time(text: Any) -> int:
    """A lab time, ns."""
    if not -LARGEST <= (time := int(text)) <= LARGEST:
        raise OverflowError("a time beyond the year 2262")
    return time


def _read(payload: bytes) -> dict[str, Any]:
    found = json.loads(payload)
    if b"\\u" in payload:  # half of a character can be written so, and no browser can be sent it
        found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"not of schema {SCHEMA}")
    return found
