"""Messages: one definition, and C and Python that agree on every bit of it. No board."""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
import sys
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stepped import FIRMWARE, library

from hal.protocols import firmware
from hal.protocols import firmware_gen as gen

MESSAGES: list[typing.Any] = [*gen.REQUESTS.values(), *gen.INCOMING.values()]
WIDTHS = {"B": (0, 8), "H": (0, 16), "I": (0, 32), "Q": (0, 64), "h": (1, 16), "i": (1, 32)}


def integers(letter: str) -> st.SearchStrategy[int]:
    signed, bits = WIDTHS[letter]
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if signed else st.integers(0, (1 << bits) - 1)


def in_c(kind: int, payload: bytes) -> bytes | None:
    """The payload as C packs what it unpacked; None where it does not fit."""
    buffer = ctypes.create_string_buffer(512)
    size = library().stepped_repack(kind, payload, ctypes.c_size_t(len(payload)), buffer)
    assert size >= -1, f"C knows no message 0x{kind:02X}"
    return buffer.raw[:size] if size >= 0 else None


def in_python(message: typing.Any, payload: bytes) -> bytes | None:
    try:
        return typing.cast(bytes, message.unpack(payload).pack())
    except ValueError:
        return None


def filled(message: typing.Any, draw: st.DrawFn) -> typing.Any:
    """A message with drawn values, of the types that its fields say."""
    hints = typing.get_type_hints(message)
    values = {}
    for field in dataclasses.fields(message):
        values[field.name] = draw(VALUES[message.__name__, field.name, hints[field.name]])
    return message(**values)


class _Values(dict[typing.Any, typing.Any]):
    """Strategies by message and field, read off the definition."""

    def __missing__(self, key: tuple[str, str, typing.Any]) -> st.SearchStrategy[typing.Any]:
        message, name, hint = key
        field = DEFINED[message][name]
        self[key] = strategy = of(field, hint)
        return strategy


def of(field: dict[str, typing.Any], hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    letters = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i16": "h", "i32": "i"}
    if field.get("raw"):
        size = 2 if field["type"] == "i16" else 1
        if field.get("fixed"):
            return st.binary(min_size=field["fixed"], max_size=field["fixed"])
        return st.integers(0, field["max"]).flatmap(lambda n: st.binary(min_size=n * size, max_size=n * size))
    if field.get("enum"):
        return st.sampled_from(list(getattr(gen, field["enum"])))
    one: st.SearchStrategy[typing.Any]
    if field["type"] == "f32":
        one = st.floats(width=32, allow_nan=False)
    elif field["type"] in letters:
        one = integers(letters[field["type"]])
    else:
        record = getattr(gen, field["type"])
        one = st.builds(
            record, **{name: of(DEFINED[record.__name__][name], None) for name in typing.get_type_hints(record)
                       if name in DEFINED[record.__name__]}
        )  # fmt: skip
    if field.get("fixed"):
        return st.tuples(*[one] * field["fixed"])
    if field.get("count"):
        return st.lists(one, max_size=field["max"]).map(tuple)
    return one


def _definition() -> dict[str, dict[str, dict[str, typing.Any]]]:
    import tomllib

    raw = tomllib.loads((FIRMWARE / "messages.toml").read_text())
    found = {}
    for name, command in raw["commands"].items():
        pascal = "".join(part.capitalize() for part in name.split("_"))
        found[pascal], found[f"{pascal}Reply"] = command["request"], command["reply"]
    for name, stream in raw["streams"].items():
        found[name.capitalize()] = stream["fields"]
    found |= {name: record["fields"] for name, record in raw["records"].items()}
    found["Refused"] = raw["refusal"]["fields"]
    return {name: {field["name"]: field for field in fields} for name, fields in found.items()}


DEFINED = _definition()
VALUES = _Values()
EVERY = pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)


def test_the_generated_files_are_those_of_the_definition():
    run = subprocess.run([sys.executable, FIRMWARE / "generate.py", "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@EVERY
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_c_and_python_say_a_message_in_the_same_bytes(message, data):
    said = filled(message, data.draw)
    payload = said.pack()
    assert len(payload) <= gen.PAYLOAD_MAX
    assert in_c(message.TYPE, payload) == payload
    assert message.unpack(payload) == said


@EVERY
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_bytes_fit_in_c_and_python_alike_or_in_neither(message, data):
    payload = data.draw(st.binary(max_size=gen.PAYLOAD_MAX))
    exact = filled(message, data.draw).pack()
    for tried in (payload, exact[:-1], exact + b"\0", payload[: len(exact)].ljust(len(exact), b"\0")):
        if tried == exact:
            continue
        c, python = in_c(message.TYPE, tried), in_python(message, tried)
        if python is not None:
            assert c == python
        elif c is not None:  # C leaves enumerations to its handlers
            with pytest.raises(ValueError, match="is not a valid"):
                message.unpack(tried)


def test_the_record_in_the_eeprom_is_the_same_in_both():
    from stepped import HOLDER

    buffer = ctypes.create_string_buffer(512)
    packed = HOLDER.pack()
    assert library().stepped_repack_teds(packed, ctypes.c_size_t(len(packed)), buffer) == gen.Teds.SIZE
    assert buffer.raw[: gen.Teds.SIZE] == packed


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=600), st.integers(0, 255))
def test_stuffing_takes_the_zeros_out_and_gives_them_back(data, byte):
    data = data.replace(bytes([byte]), b"\0")
    buffer = ctypes.create_string_buffer(1024)
    size = library().cobs_encode(data, ctypes.c_size_t(len(data)), buffer)
    stuffed = buffer.raw[:size]
    assert 0 not in stuffed
    assert size <= len(data) + len(data) // 254 + 1
    if len(data) < 254:
        assert stuffed == firmware.stuff(data)
    size = library().cobs_decode(buffer, ctypes.c_size_t(size))
    assert buffer.raw[:size] == data


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_what_is_no_stuffing_is_found_out_and_never_read_beyond(data):
    buffer = ctypes.create_string_buffer(data, max(1, len(data)))
    size = library().cobs_decode(buffer, ctypes.c_size_t(len(data)))
    there = firmware.unstuff(data) if len(data) < 254 and 0 not in data else None
    assert size <= len(data)
    if there is not None:
        assert buffer.raw[:size] == there


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_both_count_the_same_checksum(data):
    from binascii import crc_hqx

    assert library().crc_add(0xFFFF, data, ctypes.c_size_t(len(data))) == crc_hqx(data, 0xFFFF)


def test_the_checksum_is_the_one_that_its_name_says():
    assert library().crc_add(0xFFFF, b"123456789", ctypes.c_size_t(9)) == 0x29B1  # CRC-16/CCITT-FALSE check value
