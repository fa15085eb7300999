"""Topics and payloads of commands: what may be asked of a lab over MQTT, and what it answers, pure.

MQTT does not tell who published a message. The user is therefore a level of the topic,
``insitu-meta/<lab>/commands/<user>/...``, and it is the broker that lets nobody write below another's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ConfigError, HalError
from .payload import SCHEMA, encode
from .topics import META, level

LARGEST = 8192
"""Bytes in the payload of a command, at most; far less than anybody needs."""
LONGEST_ID = 128
"""Characters in an id, at most."""
LONGEST_TOPIC = 1000
"""Characters in the topic of a command, at most; it lands on the record."""
LONGEST_TEXT = 500
"""Characters in a reason or a value that is text, at most."""

Verb = Literal["set", "lease", "stop", "acknowledge"]
Right = Literal["watch", "stop", "acknowledge", "set"]
RIGHTS: tuple[Right, ...] = ("watch", "stop", "acknowledge", "set")
"""What a user may be allowed. Who may `set` may take the lease."""


class BadCommand(HalError, ValueError):
    """A command that can't be understood. `id` is that of the command where it could be read."""

    def __init__(self, text: str, id: str | None = None) -> None:
        super().__init__(text)
        self.id = id


# ---------------------------------------------------------------------- topics


def command_topic(lab: str, user: str, verb: Verb, signal: str = "") -> str:
    """Where `user` commands; `signal` (``device.signal``) for ``set``."""
    topic = f"{_commands(lab)}/{level(user, 'user')}/{verb}"
    if verb == "set":
        device, _, name = signal.partition(".")
        topic += f"/{level(device, 'device')}/{level(name, 'signal')}"
    return topic


def urgent_filters(lab: str, users: Iterable[str]) -> tuple[str, ...]:
    """What the lab subscribes to hear ``stop`` of those who may: no flood of anybody else's can delay it."""
    return tuple(command_topic(lab, user, "stop") for user in users)


def other_filters(lab: str) -> tuple[str, ...]:
    """What the lab subscribes to hear all other commands, and ``stop`` of those who may not."""
    return tuple(f"{_commands(lab)}/+/{verb}" for verb in ("set/#", "lease", "acknowledge", "stop"))


def reply_topic(lab: str, user: str) -> str:
    """Where the commands of `user` are answered; not retained."""
    return f"{META}/{level(lab, 'lab')}/replies/{level(user, 'user')}"


def rights_topic(lab: str) -> str:
    """Where the lab says who may command what; retained."""
    return f"{META}/{level(lab, 'lab')}/rights"


def lease_topic(lab: str) -> str:
    """Where the lab says who may set signals at present; retained."""
    return f"{META}/{level(lab, 'lab')}/lease"


def sender_of(lab: str, topic: str) -> tuple[str, str, str]:
    """User, verb and signal (``device.signal``, empty unless ``set``) of a command's topic. Raises `BadCommand`."""
    if len(topic) > LONGEST_TOPIC or not topic.isprintable():
        raise BadCommand(f"{_shown(topic)} is too long or not printable for the topic of a command")
    start = f"{_commands(lab)}/"
    levels = topic.removeprefix(start).split("/")
    if not topic.startswith(start) or len(levels) < 2 or not all(levels):
        raise BadCommand(f"{topic!r} is no topic of a command; write {start}USER/stop and the like")
    user, verb, *place = levels
    try:
        level(user, "user")
    except ConfigError as error:
        raise BadCommand(str(error)) from None
    if verb == "set":
        if len(place) != 2:
            raise BadCommand(f"{topic!r} names no signal; write {start}{user}/set/DEVICE/SIGNAL")
        return user, verb, ".".join(place)
    if verb not in ("lease", "stop", "acknowledge") or place:
        raise BadCommand(f"{topic!r} is no command; there are set/DEVICE/SIGNAL, lease, stop and acknowledge")
    return user, verb, ""


def may_be_answered_at(lab: str, user: str, topic: str) -> bool:
    """Whether a response topic is the user's own.

    The lab may write everywhere. It must not be brought to publish in somebody else's name.
    """
    own = reply_topic(lab, user)
    return (topic == own or topic.startswith(f"{own}/")) and not set(topic) & set("+#") and topic.isprintable()


def _commands(lab: str) -> str:
    return f"{META}/{level(lab, 'lab')}/commands"


# ---------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Set:
    """Set a signal, as the holder of the lease."""

    id: str
    signal: str
    value: float | int | str | bool
    lease: str
    """The lease's token."""
    expires: int
    """ns, UNIX time: after it the value must not be sent."""


@dataclass(frozen=True, slots=True)
class Take:
    """Take the lease, renew it, or give it back."""

    id: str
    action: Literal["take", "renew", "give"]
    lease: str = ""
    """The lease's token, unless it is to be taken."""
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Take every device to its safe state."""

    id: str
    reason: str = ""
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Release a trip or an alarm."""

    id: str
    alarm: str
    time: int | None = None
    """ns, of the alarm that was seen: it is not to release one that came since."""
    expires: int | None = None


Command = Set | Take | Stop | Acknowledge


def encode_command(command: Command) -> bytes:
    """The payload of a command."""
    content: dict[str, Any] = {"schema": SCHEMA, "id": command.id}
    match command:
        case Set():
            content |= {"value": command.value, "lease": command.lease}
        case Take():
            content |= {"action": command.action} | ({"lease": command.lease} if command.lease else {})
        case Stop():
            content |= {"reason": command.reason}
        case Acknowledge():
            content |= {"alarm": command.alarm} | ({} if command.time is None else {"time": str(command.time)})
    if command.expires is not None:
        content["expires"] = str(command.expires)
    return json.dumps(content, allow_nan=False, ensure_ascii=False).encode()


def decode_command(verb: str, signal: str, payload: bytes) -> Command:
    """The command in a payload; `verb` and `signal` come from its topic. Raises `BadCommand`."""
    found = _read(payload)
    id = found.get("id")
    if not isinstance(id, str) or not 0 < len(id) <= LONGEST_ID or not id.isprintable():
        raise BadCommand(f'"id" must be text of 1 to {LONGEST_ID} characters, made anew for each command')
    if type(found.get("schema")) is not int or found["schema"] != SCHEMA:
        raise BadCommand(f'"schema" must be {SCHEMA}', id)
    fields = _Fields({key: value for key, value in found.items() if key not in ("schema", "id")}, id)
    command: Command
    match verb:
        case "set":
            command = Set(id, signal, fields.value(), fields.text("lease"), fields.time("expires"))
        case "lease":
            action = fields.one_of("action", "take", "renew", "give")
            token = "" if action == "take" else fields.text("lease")
            command = Take(id, action, token, fields.time_if_given("expires"))  # type: ignore[arg-type]
        case "stop":
            command = Stop(id, fields.text("reason", ""), fields.time_if_given("expires"))
        case "acknowledge":
            command = Acknowledge(
                id, fields.text("alarm"), fields.time_if_given("time"), fields.time_if_given("expires")
            )
        case _:
            raise BadCommand(f"{verb!r} is no command", id)
    fields.end()
    return command


def _read(payload: bytes) -> dict[str, Any]:
    if len(payload) > LARGEST:
        raise BadCommand(f"the payload has {len(payload)} bytes; a command has {LARGEST} at most")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise ValueError("the same field twice")
        return found

    def never(name: str) -> Any:
        raise ValueError(f"{name} is no number")

    try:
        found = json.loads(payload, object_pairs_hook=pairs, parse_constant=never)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadCommand(f"the payload is no JSON ({why}): {_shown(payload)}") from None
    if not isinstance(found, dict):
        raise BadCommand(f"the payload is no JSON object: {_shown(payload)}")
    return found


class _Fields:
    """The fields of one command, taken out one by one."""

    def __init__(self, fields: dict[str, Any], id: str) -> None:
        self._fields, self._id = fields, id

    def value(self) -> float | int | str | bool:
        found = self._take("value")
        if isinstance(found, int) and not isinstance(found, bool) and not -(2**63) <= found < 2**63:
            raise self._bad('"value" is too large a number')
        if isinstance(found, str) and not (len(found) <= LONGEST_TEXT and found.isprintable()):
            # A line break could end one message to an instrument and begin another.
            raise self._bad(f'"value" must be printable and of {LONGEST_TEXT} characters at most')
        if not isinstance(found, (bool, int, float, str)):
            raise self._bad('"value" must be a number, text, true or false')
        return found

    def text(self, name: str, default: str | None = None) -> str:
        found = self._take(name, default)
        if not isinstance(found, str) or len(found) > LONGEST_TEXT or not (found or default is not None):
            raise self._bad(f'"{name}" must be text of {LONGEST_TEXT} characters at most')
        return "".join(c if c.isprintable() else " " for c in found)

    def one_of(self, name: str, *words: str) -> str:
        found = self._take(name)
        if found not in words:
            raise self._bad(f'"{name}" must be one of {", ".join(words)}')
        return str(found)

    def time(self, name: str) -> int:
        found = self._take(name)
        if not isinstance(found, str) or re.fullmatch(r"[0-9]{1,19}", found) is None:
            raise self._bad(
                f'"{name}" must be UNIX time in nanoseconds as text of digits, such as "1764000010000000000"'
            )
        return int(found)

    def time_if_given(self, name: str) -> int | None:
        return self.time(name) if self._fields.get(name) is not None else self._fields.pop(name, None)

    def end(self) -> None:
        if self._fields:
            unknown = ", ".join(_shown(name) for name in sorted(self._fields)[:5])
            raise self._bad(f"unknown field {unknown}; nothing was done")

    def _take(self, name: str, default: str | None = None) -> Any:
        if name not in self._fields and default is None:
            raise self._bad(f'"{name}" is missing')
        return self._fields.pop(name, default)

    def _bad(self, text: str) -> BadCommand:
        return BadCommand(text, self._id)


def _shown(given: bytes | str) -> str:
    text = repr(given)
    return text if len(text) <= 60 else text[:57] + "..."


# ---------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a command."""

    id: str | None
    """Of the command; None if it could not be read."""
    ok: bool
    text: str
    time: int
    """Lab time of the answer, ns."""
    lease: str = ""
    """The lease's token, to whoever has just taken or renewed it."""
    until: int | None = None
    """Lab time at which that lease expires, ns."""


def encode_reply(reply: Reply) -> bytes:
    """The payload of an answer."""
    content: dict[str, Any] = {"id": reply.id, "ok": reply.ok, "text": reply.text, "time": str(reply.time)}
    if reply.until is not None:
        content |= {"lease": reply.lease, "until": str(reply.until)}
    return encode(content)


def encode_rights(session: str, may: Mapping[str, Sequence[str]] | None) -> bytes:
    """Who may do what; `may` None: commands are off."""
    known = {user: list(rights) for user, rights in (may or {}).items()}
    return encode({"session": session, "commands": may is not None, "may": known})


def encode_lease(holder: str | None, until: int | None, time: int) -> bytes:
    """Who holds the lease, and until when (lab time, ns)."""
    return encode({"holder": holder, "until": None if until is None else str(until), "time": str(time)})


def said(command: Command) -> str:
    """A command in words."""
    match command:
        case Set():
            return f"set {command.signal} = {command.value!r}"
        case Take():
            return f"{command.action} lease"
        case Stop():
            return "stop" + (f" ({command.reason})" if command.reason else "")
        case Acknowledge():
            return f"acknowledge {command.alarm}"
