"""Topics and payloads of the lab's telemetry: what a dashboard meets on MQTT, in both directions, pure.

``insitu/<lab>/<device>/<signal>`` carries readings and nothing else, so that a dashboard that
subscribes ``insitu/+/+/+`` never meets anything but a reading. Descriptions, the lab's state, alarms,
the health of clocks and events live under ``insitu-meta/<lab>/...``. Payloads are JSON, always valid:
what is unknown is null, and an integer that JavaScript would round (beyond 2^53) is a decimal string.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..clock.timebase import Anchor
from ..errors import ConfigError, ProtocolError
from ..model.journal import Event
from ..model.reading import Quality, Reading
from ..model.signal import Kind, SignalR
from .outbox import OutboxStatus
from .payload import EMPTY, Shape, decode, encode, scalar, text_of
from .payload import SCHEMA as SCHEMA
from .rates import Spread

ROOT, HISTORY, META = "insitu", "insitu-history", "insitu-meta"
READINGS = f"{ROOT}/+/+/+"
"""What a dashboard subscribes: lab, device, signal."""
PAST = f"{HISTORY}/+/+/+"
"""What an archive subscribes as well: readings that had to wait."""
LARGEST = 100_000
"""Bytes in the payload of a reading or an event, at most."""

# ---------------------------------------------------------------------- topics


def level(name: str, what: str) -> str:
    """Return `name` if it may be a level of a topic; raise `ConfigError` otherwise."""
    forbidden = sorted({c for c in name if c in "/+#$" or not c.isprintable()})
    if not name or forbidden or len(name.encode()) > 200:
        why = f"has {', '.join(map(repr, forbidden))}" if forbidden else "is empty" if not name else "is too long"
        raise ConfigError(
            f"telemetry: the {what} name {name!r} {why} and can't be part of an MQTT topic; "
            "use letters, digits, '_' and '-'"
        )
    return name


def reading_topic(lab: str, device: str, signal: str) -> str:
    """Where a signal's readings are published; not retained."""
    return f"{ROOT}/{level(lab, 'lab')}/{level(device, 'device')}/{level(signal, 'signal')}"


def history_topic(reading_topic: str) -> str:
    """Where a reading is published that had to wait, by the topic it would have had; not retained."""
    return HISTORY + reading_topic.removeprefix(ROOT)


def description_topic(lab: str, device: str, signal: str) -> str:
    """Where a signal describes itself; retained."""
    return f"{META}/{level(lab, 'lab')}/signals/{level(device, 'device')}/{level(signal, 'signal')}"


def device_topic(lab: str, device: str) -> str:
    """Where a device says who it is and whether it is there; retained."""
    return f"{META}/{level(lab, 'lab')}/devices/{level(device, 'device')}"


def stream_topic(lab: str, device: str, name: str) -> str:
    """Where the chunks of a fast stream are published; not retained."""
    return f"{META}/{level(lab, 'lab')}/streams/{level(device, 'device')}/{level(name, 'stream')}"


def detector_topic(lab: str, camera: str) -> str:
    """Where a camera that films says how it goes; not retained."""
    return f"{META}/{level(lab, 'lab')}/detector/{level(camera, 'device')}"


def outbox_topic(lab: str) -> str:
    """Where the outbox says how much waits and what was lost; retained."""
    return f"{META}/{level(lab, 'lab')}/outbox"


def alarm_topic(lab: str, name: str) -> str:
    """Where an alarm stands until it is over and acknowledged; retained."""
    return f"{META}/{level(lab, 'lab')}/alarms/{level(name, 'alarm')}"


def state_topic(lab: str) -> str:
    """Where the lab says whether it is there; retained, and the last will."""
    return f"{META}/{level(lab, 'lab')}/state"


def trip_topic(lab: str) -> str:
    """Where the lab says whether a trip awaits its acknowledgement; retained."""
    return f"{META}/{level(lab, 'lab')}/alarms/trip"


def clock_topic(lab: str, device: str) -> str:
    """Where the clock of a device tells how well it is known; retained."""
    return f"{META}/{level(lab, 'lab')}/clocks/{level(device, 'device')}"


def event_topic(lab: str, kind: str) -> str:
    """Where events of a kind (set, operation, trip, acknowledge, link, ...) are published; not retained."""
    return f"{META}/{level(lab, 'lab')}/events/{level(kind, 'event')}"


def source(topic: str) -> tuple[str, str, str]:
    """Lab, device and signal of a reading's topic. Raises `ProtocolError`."""
    levels = topic.split("/")
    if len(levels) != 4 or levels[0] != ROOT or not all(levels):
        raise ProtocolError("telemetry", f"{topic!r} is no topic of a reading; subscribe {READINGS!r}")
    return levels[1], levels[2], levels[3]


# ---------------------------------------------------------------------- readings


def encode_reading(reading: Reading[Any], spread: Spread | None = None) -> bytes:
    """The payload of a reading, and of the readings it stands for."""
    value, quality, reason = reading.value, reading.quality, reading.reason
    if isinstance(value, float) and not math.isfinite(value):
        value, quality, reason = None, Quality.BAD, reason or f"the value is {value}"
    uncertainty = reading.uncertainty
    # Put together by hand: there are thousands in a second, and `json.dumps` takes five times as long.
    text = (
        f'{{"schema":{SCHEMA},"value":{scalar(value)},"unit":{text_of(reading.unit)},"time":"{reading.time}",'
        f'"time_bound":{scalar(reading.bound)},'
        f'"uncertainty":{"null" if uncertainty is None else scalar(uncertainty)},'
        f'"quality":"{quality.value}","reason":{text_of(reason) if reason else EMPTY}'
    )
    if spread is not None:
        text += (
            f',"min":{scalar(spread.min)},"mean":{scalar(spread.mean)},"max":{scalar(spread.max)},'
            f'"count":{spread.count}'
        )
    payload = (text + "}").encode("utf-8", "replace")
    if len(payload) > LARGEST:  # many a broker hangs up on such, and would again at each attempt
        why = f"{len(payload)} bytes are too many for telemetry, which carries {LARGEST}: {reason or value!s:.200}"
        return encode_reading(replace(reading, value=None, quality=Quality.BAD, reason=why), spread)
    return payload


def as_history(payload: bytes) -> bytes:
    """The payload of the same reading, sent later."""
    return payload[:-1] + b',"history":true}'


def decode_reading(payload: bytes | str) -> Reading[Any]:
    """The reading in a payload. Raises `ProtocolError`."""
    found = decode(payload, "a reading")
    with Shape("a reading"):
        return Reading(
            found["value"], found["unit"], int(found["time"]), int(found["time_bound"]), found["uncertainty"],
            Quality(found["quality"]), found["reason"],
        )  # fmt: skip


def streamed(signal: SignalR[Any]) -> bool:
    """Whether a signal's readings are published."""
    return signal.kind is not Kind.CONFIG


# ---------------------------------------------------------------------- state of the lab, trips, events


@dataclass(frozen=True, slots=True)
class LabState:
    """Whether a lab is there."""

    online: bool
    session: str
    """One run of the program; a new one has a new clock anchor."""
    time: int | None
    """Lab time of this state, ns; None in the last will: nobody knows when the lab was lost."""
    clean: bool
    """False in the last will: the program died or the network went."""
    anchor: Anchor


def encode_state(state: LabState) -> bytes:
    """The payload of a lab's state."""
    anchor = state.anchor
    return encode({
        "state": "online" if state.online else "offline",
        "session": state.session,
        "time": None if state.time is None else str(state.time),
        "clean": state.clean,
        "anchor": {
            "epoch": str(anchor.epoch), "counter": str(anchor.counter), "bound": anchor.bound, "clock": anchor.clock,
        },
    })  # fmt: skip


def decode_state(payload: bytes | str) -> LabState:
    """The state in a payload. Raises `ProtocolError`."""
    found = decode(payload, "a lab's state")
    with Shape("a lab's state"):
        anchor = found["anchor"]
        return LabState(
            {"online": True, "offline": False}[found["state"]],
            found["session"],
            None if found["time"] is None else int(found["time"]),
            found["clean"],
            Anchor(int(anchor["epoch"]), int(anchor["counter"]), int(anchor["bound"]), anchor["clock"]),
        )


@dataclass(frozen=True, slots=True)
class TripState:
    """Whether a trip holds the lab in its safe state."""

    tripped: bool
    time: int
    """Since when (lab time, ns)."""
    text: str = ""
    """What happened and what to do; empty when all is well."""
    by: str = ""
    """Who acknowledged the last one."""
    session: str = ""
    """The lab's session; another than the lab's state names: an old one that stayed behind."""


def encode_trip(state: TripState) -> bytes:
    """The payload of the trip's state."""
    return encode({
        "tripped": state.tripped,
        "time": str(state.time),
        "text": state.text,
        "active": state.tripped,
        "acknowledged": not state.tripped,
        "severity": "trip",
        "by": state.by,
        "session": state.session,
    })  # fmt: skip


def decode_trip(payload: bytes | str) -> TripState:
    """The trip's state in a payload. Raises `ProtocolError`."""
    found = decode(payload, "a trip's state")
    with Shape("a trip's state"):
        by, session = found.get("by", ""), found.get("session", "")
        return TripState(found["tripped"], int(found["time"]), found["text"], by, session)


def encode_outbox(status: OutboxStatus) -> bytes:
    """The payload of the outbox's state."""
    return encode(asdict(status))


def decode_outbox(payload: bytes | str) -> OutboxStatus:
    """The outbox's state in a payload. Raises `ProtocolError`."""
    found = decode(payload, "an outbox's state")
    with Shape("an outbox's state"):
        return OutboxStatus(**{f.name: found[f.name] for f in fields(OutboxStatus)})


def encode_event(event: Event, number: int) -> bytes:
    """The payload of a journal's entry; `number` counts the session's events, so that a gap shows."""
    return encode({
        "number": number,
        "time": str(event.time),
        "kind": event.kind,
        "device": event.device,
        "text": event.text,
        "data": event.data,
    })  # fmt: skip


def decode_event(payload: bytes | str) -> tuple[Event, int]:
    """The entry in a payload, and its number. Raises `ProtocolError`."""
    found = decode(payload, "an event")
    with Shape("an event"):
        event = Event(int(found["time"]), found["kind"], found["device"], found["text"], found["data"])
        return event, found["number"]
