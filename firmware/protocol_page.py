"""Makes docs/reference/firmware-protocol.md from messages.toml.

    python firmware/protocol_page.py [--check]

`--check` writes nothing and fails where the page is not what it would write.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from generate import DEFINITION, Definition, Field, Message

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "firmware-protocol.md"

GROUPS = {
    "HELLO": "Session, time, safety",
    "SAMPLES_START": "Streams",
    "HEATER_CONFIG": "Heater",
    "DAC_SET": "Outputs, inputs, interlocks",
    "PROFILE_BEGIN": "Profiles and triggers",
    "TEDS_READ": "TEDS",
}
"""The command that begins each group, and its heading."""

ACCESS = {
    "query": "always, changes nothing",
    "safe": "always, towards the safe state",
    "setup": "with the same definition on both sides",
    "idle": "while nothing can be on (SAFE, FAULT)",
    "drive": "in ARMED or RUN",
}


def page(definition: Definition) -> str:
    """Return the page."""
    raw = definition.raw
    return "\n".join(
        [
            "# Firmware protocol",
            "",
            "What the host and our microcontroller say to each other. This page is made from `firmware/messages.toml` "
            "by `python firmware/protocol_page.py`; the C header and the Python module are made from the same file.",
            "",
            "## On the wire",
            "",
            f"A message is a header, a payload of at most {raw['payload_max']} bytes and a CRC-16 (CCITT-FALSE, low "
            "byte first) over both. It is stuffed (COBS) and ends with a zero byte; no other byte on the wire is zero, "
            "so that noise costs the messages it hits and no more. Integers are little-endian.",
            "",
            "| byte of the header | |",
            "|---|---|",
            f"| 0 | version of the framing ({raw['version']}) in the upper four bits, flags in the lower: "
            + "; ".join(f"{flag['value']} {flag['doc']}" for flag in raw["flags"].values())
            + " |",
            "| 1 | type |",
            "| 2 | sequence |",
            "| 3 | channel |",
            "",
            "A reply has its command's type + 0x80, its sequence and its channel; a command that is not carried out "
            f"is answered by a refusal (type 0x{raw['refused']:02X}).",
            "",
            "A host that hears no reply sends the same bytes again. The board remembers its last "
            f"{raw['replies_kept']} replies by sequence and repeats the reply, not the act: a command acts once. "
            "*Fresh* commands are carried out each time they arrive; they have sequence numbers of their own. "
            f"At most {raw['window']} commands are under way. A command whose sequence is more than "
            f"{raw['replies_kept'] - 1} behind the newest, or another one under a sequence that is remembered, is "
            "refused as STALE: it does not act now, and whether it acted then the board can't tell.",
            "",
            "Streams are not acknowledged. Blocks are numbered and say how much was dropped before them; the host "
            "grants blocks by number (CREDIT). Without credit the board drops the oldest and counts. Numbers have 32 "
            f"bits and wrap, so credit ends at most {raw['credit_max']:,} blocks ahead; a start that brings more is "
            "refused (RANGE), a CREDIT of more counts as an old one and changes nothing. A host that reads grants "
            "some hundred.",
            "",
            "**Interlocks do not survive a reset.** A board that has started anew watches nothing, and so does not arm "
            "for a host that means otherwise: ARM brings a CRC-16 over the four analogue interlocks and the digital "
            "inputs as the host takes them to be, and where that is not what is in force the board refuses "
            "(UNPROTECTED). They are not kept in the EEPROM: that is the holder's, and interlocks are the chamber's.",
            "",
            f"A board that hears no HEARTBEAT of its session for {raw['lease_ms']} ms switches everything off. ARM "
            f"must bring a number that a heartbeat's reply gave at most {raw['nonce_ms']} ms ago.",
            "",
            f"HELLO tells a hash of the definition (now `0x{definition.hash:08x}`). Where host and board were built of "
            "different ones, the board is only read; another version of the framing is not spoken with.",
            "",
            *_commands(definition),
            "## What the board says unasked",
            "",
            *(line for name in raw["streams"] for line in _stream(definition, name)),
            "## Refusal",
            "",
            *_table(definition, definition.messages[-1]),
            "## Records",
            "",
            *(line for record in definition.records for line in _record(definition, record)),
            "## Names for numbers",
            "",
            *(line for name in raw["enums"] for line in _enum(definition, name)),
        ]
    )


def _commands(definition: Definition) -> Iterator[str]:
    by_id = {message.id: message for message in definition.messages}
    for name, command in definition.raw["commands"].items():
        if name in GROUPS:
            yield from (f"## {GROUPS[name]}", "")
        yield from (f"### {name} (0x{command['id']:02X})", "", command["doc"], "")
        words = [f"Carried out {ACCESS[command['access']]}."]
        if command.get("fresh"):
            words.append("Fresh.")
        if command.get("silent"):
            words.append("No reply.")
        yield from (" ".join(words), "")
        yield from _table(definition, by_id[command["id"]])
        if not command.get("silent") and command["reply"]:
            yield from ("Reply:", "")
            yield from _table(definition, by_id[command["id"] | 0x80])


def _stream(definition: Definition, name: str) -> Iterator[str]:
    stream = definition.raw["streams"][name]
    message = next(m for m in definition.messages if m.id == stream["id"])
    yield from (f"### {name} (0x{stream['id']:02X})", "", stream["doc"], "")
    yield from _table(definition, message)


def _record(definition: Definition, record: Message) -> Iterator[str]:
    yield from (f"### {record.name}", "", record.doc, "")
    yield from _table(definition, record)


def _enum(definition: Definition, name: str) -> Iterator[str]:
    yield from (f"### {name}", "", "| value | name | |", "|---|---|---|")
    for member, entry in definition.raw["enums"][name].items():
        yield f"| {entry['value']} | {member} | {entry['doc']} |"
    yield ""


def _table(definition: Definition, message: Message) -> Iterator[str]:
    if not message.fields:
        return
    yield from ("| field | type | unit | |", "|---|---|---|---|")
    for field in message.fields:
        words = field.doc + (f" ({field.enum})" if field.enum else "")
        yield f"| {field.name} | {_type(field)} | {field.unit} | {words} |"
    yield ""


def _type(field: Field) -> str:
    if field.fixed:
        return f"{field.type} x {field.fixed}"
    return f"{field.type} x {field.count}, at most {field.max}" if field.count else field.type


def main() -> int:
    """Write the page, or compare."""
    text = page(Definition(DEFINITION.read_text(encoding="utf-8"))).rstrip() + "\n"
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    if "--check" in sys.argv:
        print(f"{PAGE} is not as messages.toml says; run python firmware/protocol_page.py")
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
