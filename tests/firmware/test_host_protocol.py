"""The host's end of the firmware's wire: framing, replies, streams as arrays. No board, no I/O."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.protocols import firmware
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware import EdgeChunk, FirmwareFraming, SampleChunk, Sorter

MESSAGES = st.binary(min_size=gen.HEADER_SIZE, max_size=gen.HEADER_SIZE + gen.PAYLOAD_MAX)


def header(kind: int, sequence: int = 0) -> bytes:
    return bytes((gen.VERSION << 4, kind, sequence, 0))


def sample_block(number: int, *, ticks: int, counts: list[int], mask: int = 0b11, dropped: int = 0) -> bytes:
    block = gen.Samples(number, ticks, 50, mask, dropped, gen.SampleFlag(0), struct.pack(f"<{len(counts)}h", *counts))
    return header(gen.Samples.TYPE) + block.pack()


def sorted_out(data: bytes) -> tuple[bytes, list[SampleChunk], list[EdgeChunk], Sorter]:
    samples: list[SampleChunk] = []
    edges: list[EdgeChunk] = []
    sorter = Sorter(now=lambda: 7, samples=samples.append, edges=edges.append)
    return sorter.feed(data), samples, edges, sorter


@given(st.lists(MESSAGES, max_size=5), st.lists(st.integers(1, 40), max_size=30))
def test_messages_survive_however_the_wire_divides_them(messages, cuts):
    data = b"".join(map(firmware.frame, messages))
    assert data.count(0) == len(messages)
    framing, got = FirmwareFraming(), []
    for cut in [*cuts, len(data)]:
        got += framing.feed(data[:cut])
        data = data[cut:]
    assert got == messages
    assert framing.damaged == 0


@given(MESSAGES, st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_costs_that_message_and_no_other(message, where, change):
    wire = bytearray(firmware.frame(message))
    wire[where % len(wire)] ^= change
    got = FirmwareFraming().feed(bytes(wire) + b"\0" + firmware.frame(b"next one"))
    assert got[-1] == b"next one"
    assert message not in got


@given(st.binary(max_size=2000))
def test_noise_is_never_taken_for_a_message_nor_kept_for_ever(noise):
    framing = FirmwareFraming()
    framing.feed(b"\x55" * 5000 + noise)
    assert framing.feed(b"\0" + firmware.frame(b"after all"))[-1:] == [b"after all"]


def test_the_crc_is_the_one_of_the_definition():
    # CRC-16/CCITT-FALSE of "123456789" is 0x29B1 (Koopman's and the RevEng catalogue's check value).
    assert firmware.crc_hqx(b"123456789", 0xFFFF) == 0x29B1


def test_a_reply_is_told_by_its_command_and_number():
    question = firmware.command(gen.HeaterSet(300_000, 0), 9)
    fits = firmware.reply_to(question)
    assert fits(header(gen.HeaterSet.TYPE | firmware.REPLY, 9) + b"....")
    assert not fits(header(gen.HeaterSet.TYPE | firmware.REPLY, 8) + b"....")
    assert not fits(header(gen.HeaterOff.TYPE | firmware.REPLY, 9) + b".")


def test_a_refusal_belongs_to_the_command_it_names():
    fits = firmware.reply_to(firmware.command(gen.Safe(), 9))
    refusal = gen.Refused(gen.Safe.TYPE, gen.Refusal.STATE, gen.State.SAFE, 0).pack()
    assert fits(header(gen.REFUSED, 9) + refusal)
    other = gen.Refused(gen.Arm.TYPE, gen.Refusal.STATE, gen.State.SAFE, 0).pack()
    assert not fits(header(gen.REFUSED, 9) + other)


def test_replies_pass_and_streams_are_taken_out():
    reply = firmware.frame(header(gen.Safe.TYPE | firmware.REPLY, 3) + b"\1")
    block = firmware.frame(sample_block(0, ticks=1000, counts=[1, -2, 3, -4]))
    left, samples, _, _ = sorted_out(block + reply + block[:-3])
    assert left == reply
    (chunk,) = samples
    assert chunk.ticks.tolist() == [1000, 1050]
    assert chunk.counts.tolist() == [[1, -2], [3, -4]]
    assert chunk.channels == (0, 1)
    assert chunk.arrival == 7


def test_blocks_that_came_together_become_one_chunk():
    data = b"".join(firmware.frame(sample_block(k, ticks=100 * k, counts=[k] * 4)) for k in range(5))
    _, samples, _, _ = sorted_out(data)
    (chunk,) = samples
    assert chunk.number.tolist() == [0, 1, 2, 3, 4]
    assert chunk.counts.shape == (10, 2)
    assert np.array_equal(chunk.ticks, np.arange(10) * 50)


def test_a_change_of_inputs_or_length_begins_a_new_chunk():
    blocks = [
        sample_block(0, ticks=0, counts=[1, 2, 3, 4]),
        sample_block(1, ticks=100, counts=[1, 2, 3, 4], mask=0b101),
        sample_block(2, ticks=200, counts=[1, 2], mask=0b101),
    ]
    _, samples, _, _ = sorted_out(b"".join(map(firmware.frame, blocks)))
    assert [(c.channels, c.counts.shape) for c in samples] == [((0, 1), (2, 2)), ((0, 2), (2, 2)), ((0, 2), (1, 2))]


@pytest.mark.parametrize("mask", [0, 0b111])
def test_a_block_that_does_not_fit_its_inputs_is_left_out(mask):
    _, samples, _, _ = sorted_out(firmware.frame(sample_block(0, ticks=0, counts=[1, 2, 3, 4], mask=mask)))
    assert not samples


def test_ticks_beyond_32_bits_and_polarities_arrive_whole():
    edges = tuple(gen.Edge(2**40 + 3 * k, k % 2, k % 2) for k in range(22))
    block = header(gen.Captures.TYPE) + gen.Captures(4, 88, 5, 1, edges).pack()
    _, _, chunks, _ = sorted_out(firmware.frame(block))
    (chunk,) = chunks
    assert chunk.ticks.tolist() == [edge.ticks for edge in edges]
    assert chunk.rising.tolist() == [bool(edge.rising) for edge in edges]
    assert chunk.index.tolist() == list(range(88, 110))
    assert (chunk.dropped, chunk.overrun) == (5, 1)


def test_the_reference_page_is_made_from_the_definition():
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, root / "firmware" / "protocol_page.py", "--check"], check=False)
    assert run.returncode == 0


def test_another_version_of_the_framing_is_noticed():
    _, _, _, sorter = sorted_out(firmware.frame(bytes((0x20, 0x81, 0, 0))))
    assert sorter.foreign == 2


def test_counts_become_volts_and_a_converter_without_a_value_none():
    block = gen.Samples(0, 100, 10, 0b101, 0, gen.SampleFlag(0), np.array([0, 100, -1, 32767], "<i2").tobytes())
    (chunk,) = firmware.sample_chunks([bytes((0x10, gen.Samples.TYPE, 0, 0)) + block.pack()], 7, 0, 1e-4)
    assert chunk.channels == (0, 2)
    assert chunk.volts == pytest.approx(np.array([[0.0, 0.01], [np.nan, 3.2767]]), nan_ok=True)
