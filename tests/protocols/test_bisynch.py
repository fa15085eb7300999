"""EI-Bisynch: where a message ends whatever its check character is, what is a question, what is noise."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.protocols.bisynch import (
    ACK,
    ENQ,
    EOT,
    NAK,
    BisynchFraming,
    Question,
    answer,
    check_character,
    parse_question,
    poll,
    select,
)

UNITS = st.integers(0, 99)
NAMES = st.from_regex(r"[1-9]?[A-Za-z][A-Za-z0-9]", fullmatch=True)
VALUES = st.one_of(
    st.floats(-9999, 9999).map(lambda value: f"{value:.2f}"), st.integers(0, 0xFFFF).map(lambda word: f">{word:04X}")
)
MESSAGES = st.one_of(
    st.builds(poll, UNITS, NAMES), st.builds(select, UNITS, NAMES, VALUES), st.sampled_from([ACK, NAK])
)


def test_the_manuals_examples_are_made_byte_by_byte() -> None:
    # HA026230 issue 3, 4.6 and 4.9 (which in words calls the second check character 32 hex, in its line of bytes 02).
    assert poll(1, "PV") == bytes.fromhex("0430303131505605")
    assert answer("PV", "16.4") == bytes.fromhex("02505631362e340318")
    assert select(1, "SL", "22.0") == bytes.fromhex("043030313102534c32322e300302")


@given(UNITS, NAMES, VALUES)
def test_what_is_asked_is_what_is_understood(unit: int, name: str, value: str) -> None:
    assert parse_question(poll(unit, name)) == Question(f"{unit:02}", name)
    assert parse_question(select(unit, name, value)) == Question(f"{unit:02}", name, value)


@given(st.lists(MESSAGES, max_size=6), st.lists(st.integers(0, 60), max_size=6))
def test_messages_come_out_whole_however_the_line_cuts_them(messages: list[bytes], cuts: list[int]) -> None:
    stream, framing = b"".join(messages), BisynchFraming()
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert [message for piece in pieces for message in framing.feed(piece)] == messages


@given(st.binary(max_size=80), MESSAGES)
def test_noise_costs_a_message_at_the_most(noise: bytes, message: bytes) -> None:
    framing = BisynchFraming()
    framing.feed(noise + b"\x04")
    framing.feed(message + message)
    assert framing.feed(message)[-1:] == [message]


@pytest.mark.parametrize(
    "message",
    [
        b"\x040121PV\x05",  # each digit twice
        b"\x04001PV\x05",
        b"\x040011P\x05",
        b"\x040011PVX1\x05",
        b"\x040011\x05",
        b"\x04\x05",
        b"\x040011PV16.4\x03",
    ],
)
def test_what_is_not_of_the_form_is_no_question(message: bytes) -> None:
    assert parse_question(message) is None


def test_a_wrong_check_character_is_noticed_and_a_right_one_may_be_any_byte() -> None:
    good = select(1, "SL", "22.0")
    question = parse_question(good[:-1] + b"\x7f")
    assert question is not None
    assert not question.intact
    assert {check_character(f"PV{n}\x03".encode()) for n in range(100)} >= {EOT, ENQ, ACK}
    for value in range(100):
        message = select(1, "PV", f"{value}")
        question = parse_question(message)
        assert question is not None
        assert question.intact
        assert BisynchFraming().feed(message) == [message]


def test_a_host_that_turns_away_is_seen_to() -> None:
    assert BisynchFraming().feed(EOT + poll(1, "PV") + b"\r\n" + ACK) == [EOT, poll(1, "PV"), ACK]
