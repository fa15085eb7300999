"""Messages of DENSsolutions Impulse, both directions: JSON questions and replies, and what it publishes.

There is no public manual. What stands here is read from the vendor's own client impulsePy (PyPI, MIT): 3.1.0 for
questions, replies and topics, 1.0.0 for the codes of refusals, the names of measured values and the kinds of events.
What the client does not show is marked unverified.

    {"$type": "control.heat.startRamp", "temperature": 300, "rampTime": 4}   ->   {"resultCode": "ok"}
    topic b"heat", {"sequenceNumber": 17, "timeStamp": "...", "experimentDuration": 1.7, "temperatureMeasured": ...}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hal.errors import UnitError
from hal.units import convert, unit

CONTROL_PORT, DATA_PORT = 5557, 5556  # impulsePy 3.1.0: controlEndpoint, dataEndpoint

OK, INVALID_INPUT, BAD_REQUEST, INVALID_OPERATION = "ok", "invalidInput", "badRequest", "invalidOperation"
"""Result codes (impulsePy 1.0.0, sendControl)."""
IN_CONTROL = "control"
"""The status in which Impulse takes orders (impulsePy 3.1.0, waitForControl); the names of others are unverified."""

EVENTS = "events"
FINISHED = "data.event.stimulusActionFinished"
POPUP, NOTIFICATION = "data.event.popupRaised", "data.event.notificationRaised"
PROFILE = "data.event.profileController.stateChanged"  # impulsePy 1.0.0, eventCatcher

HEAT: dict[str, str] = {"temperatureSetpoint": "degC", "temperatureMeasured": "degC", "powerMeasured": "W"}
BIAS: dict[str, str] = {
    "voltageMeasured": "V", "currentMeasured": "A", "resistance": "Ohm",
    "setpoint": "V or A", "compliance": "A or V",
}  # fmt: skip
PRESSURES: dict[str, str] = {
    f"{where}Pressure{what}": "Pa" for where in ("inlet", "outlet", "reactor") for what in ("Measured", "Setpoint")
}
FLOWS: dict[str, str] = {f"gas{n}Flow{what}": "sccm" for n in (1, 2, 3) for what in ("Measured", "Setpoint")}
"""Properties of a channel's samples (impulsePy 1.0.0, decimalVals), and the units we want them in."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What Impulse answers."""

    code: str
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """Code and reasons, for people."""
        errors = self.data.get("errors")
        told = [self.message] if self.message else []
        for error in errors if isinstance(errors, Sequence) and not isinstance(errors, str) else ():
            if isinstance(error, Mapping):
                told.append(f"{error.get('parameter', '?')}: {error.get('description', error.get('$type', '?'))}")
        return f"{self.code} ({'; '.join(told)})" if told else self.code


def request(kind: str, **parameters: Any) -> bytes:
    """A question or order: `kind` without its "control."."""
    return json.dumps({"$type": f"control.{kind}", **parameters}, allow_nan=False).encode()


def parse_request(text: bytes) -> tuple[str, dict[str, Any]]:
    """Kind without its "control.", and parameters. Raises ValueError."""
    found = _object(text)
    kind = found.pop("$type", None)
    if not isinstance(kind, str) or not kind.startswith("control."):
        raise ValueError(f"{kind!r} is no kind of request")
    return kind.removeprefix("control."), found


def reply(code: str, message: str = "", data: Mapping[str, Any] | None = None) -> bytes:
    """An answer."""
    out: dict[str, Any] = {"resultCode": code}
    if message:
        out["message"] = message
    if data is not None:
        out["data"] = data
    return json.dumps(out).encode()


def parse_reply(text: bytes) -> Reply:
    """Take an answer apart. Raises ValueError."""
    found = _object(text)
    code, message, data = found.get("resultCode"), found.get("message"), found.get("data")
    if not isinstance(code, str):
        raise ValueError(f"{text!r} has no resultCode")
    return Reply(code, message if isinstance(message, str) else "", data if isinstance(data, dict) else {})


def parse_published(parts: Sequence[bytes | memoryview]) -> tuple[str, dict[str, Any]]:
    """Topic and content of what is published. Raises ValueError."""
    if len(parts) != 2:
        raise ValueError(f"published in {len(parts)} parts; a topic and its JSON are two")
    return bytes(parts[0]).decode("ascii", "replace"), _object(bytes(parts[1]))


def number(found: Mapping[str, Any], name: str) -> float:
    """A finite number out of a sample or request. Raises ValueError."""
    value = found.get(name)
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise ValueError(f"{name} is {value!r}, no number")


def factor(theirs: str, ours: str) -> float:
    """What turns a value in Impulse's unit into one in ours. Raises ValueError."""
    try:
        if ours == "sccm" and unit(theirs).name == "mL/min":
            return 1.0  # mass flow controllers tell normal mL/min; at which temperature is unverified
        if convert(0.0, theirs, ours) != 0.0:
            raise ValueError(f"{theirs!r} and {ours!r} do not share their zero")
        return convert(1.0, theirs, ours)
    except UnitError as error:
        raise ValueError(str(error)) from None


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{text[:40]!r} is no JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"{text[:40]!r} is no JSON object")
    return found
