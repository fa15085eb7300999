"""Framing: the same messages come out, however the bytes arrive."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.protocols.framing import LONGEST, AnyLines, Framing, Lines, Raw

PLAIN = st.binary(max_size=20).filter(lambda message: b"\r" not in message and b"\n" not in message)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(PLAIN), st.lists(st.integers(0, 1000)), st.sampled_from([b"\n", b"\r", b"\r\n"]))
def test_lines_come_out_as_they_went_in_however_the_bytes_are_cut(
    messages: list[bytes], cuts: list[int], end: bytes
) -> None:
    sender, receiver = Lines(end), Lines(end)
    data = b"".join(sender.encode(message) for message in messages)
    assert [message for piece in pieces(data, cuts) for message in receiver.feed(piece)] == messages


@given(st.lists(PLAIN.filter(bool)), st.lists(st.integers(0, 1000)), st.sampled_from([b"\n", b"\r", b"\r\n"]))
def test_tolerant_lines_take_any_end_of_line(messages: list[bytes], cuts: list[int], end: bytes) -> None:
    receiver = AnyLines(b"\r\n")
    data = b"".join(message + end for message in messages)
    assert [message for piece in pieces(data, cuts) for message in receiver.feed(piece)] == messages


@given(st.lists(st.binary(max_size=64)), st.sampled_from([Lines(b"\r\n"), Lines(b"\r", b"\n"), AnyLines(b"\n"), Raw()]))
def test_no_bytes_whatever_upset_a_framing(noise: list[bytes], framing: Framing) -> None:
    for piece in noise:
        framing.feed(piece)
    framing.reset()
    assert framing.feed(b"ok\r\n")[0].strip() == b"ok"


def test_the_ends_of_the_two_directions_may_differ() -> None:
    framing = Lines(b"\r", b"\n")
    assert framing.encode(b"Q") == b"Q\r"
    assert framing.feed(b"a\rb\nrest") == [b"a\rb"]
    assert framing.feed(b"\n") == [b"rest"]


def test_resetting_forgets_a_message_begun() -> None:
    framing = Lines(b"\n")
    framing.feed(b"half")
    framing.reset()
    assert framing.feed(b"whole\n") == [b"whole"]


@pytest.mark.parametrize("framing", [Lines(b"\r\n"), AnyLines(b"\n")])
def test_noise_without_an_end_does_not_fill_the_memory(framing: Lines) -> None:
    for _ in range(20):
        framing.feed(b"x" * (LONGEST // 8))
    assert len(framing._buffer) <= LONGEST
    framing.reset()
    assert framing.feed(b"ok\r\n") == [b"ok"]


def test_raw_bytes_come_as_they_are() -> None:
    assert Raw().encode(b"x") == b"x"
    assert Raw().feed(b"") == []
    assert Raw().feed(b"xy") == [b"xy"]
