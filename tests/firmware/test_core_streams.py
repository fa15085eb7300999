"""The core's streams: every sample and every edge is sent or counted. Stepped clock."""

from __future__ import annotations

import ctypes
import random
import struct
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stepped import MS, Stepped, eeprom, examples

from hal.protocols import firmware_gen as gen


def of(core: Stepped, kind: type) -> list:
    core.messages()
    return [block for block in core.blocks if isinstance(block, kind)]


def _u64(value: int) -> ctypes.c_uint64:
    return ctypes.c_uint64(value)


def counts(block: gen.Samples) -> tuple[int, ...]:
    return struct.unpack(f"<{len(block.counts) // 2}h", block.counts)


def test_eight_inputs_at_20_000_samples_a_second_arrive_whole(core):
    core.hello()
    reply = core.ask(gen.SamplesStart(0xFF, 400, 1_000_000))
    assert reply == gen.SamplesStartReply(400, 13)
    began = core.board.ticks
    for step in range(1000):
        for channel in range(8):
            core.board.adc[channel] = 100 * channel + step % 100
        core.advance(1)
        core.messages()
    stopped = core.ask(gen.StreamStop(gen.Stream.SAMPLES))
    core.advance(5)
    blocks = of(core, gen.Samples)
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert sum(len(block.counts) for block in blocks) == 2 * 20_000
    assert all(block.dropped == 0 and block.flags == 0 for block in blocks)
    assert stopped.dropped == 0
    due = began + 400
    for block in blocks:
        assert block.ticks == due
        for i, value in enumerate(counts(block)):
            if i % 8 > 1:  # 0 and 1 are the holder's thermometer
                instant = block.ticks + 400 * (i // 8)
                assert value == 100 * (i % 8) + (instant - began - 1) // MS % 100
        due += 400 * (len(block.counts) // 16)


def test_faster_than_20_000_samples_a_second_is_refused(core):
    core.hello()
    refused = core.ask(gen.SamplesStart(0xFF, 399, 1))
    assert (refused.reason, refused.detail) == (gen.Refusal.RANGE, 400)
    assert core.ask(gen.SamplesStart(0b1, 50, 1)).period == 50
    for mask in (0, 0x100):
        assert core.ask(gen.SamplesStart(mask, 5000, 1)).reason is gen.Refusal.RANGE


def test_slow_samples_come_soon(core):
    core.hello()
    assert core.ask(gen.SamplesStart(1, 100_000, 100)).per_block == 1
    core.advance(350)
    assert len(of(core, gen.Samples)) == 3


def test_without_credit_nothing_is_sent_the_oldest_go_and_are_counted(core):
    core.hello()
    core.ask(gen.SamplesStart(0b11, 100, 3))
    core.advance(500)
    assert [block.number for block in of(core, gen.Samples)] == [0, 1, 2]
    core.ask(gen.Status())
    core.send(gen.Credit(gen.Stream.SAMPLES, 100))
    core.ask(gen.StreamStop(gen.Stream.SAMPLES))
    core.advance(50)
    blocks = of(core, gen.Samples)
    got = sum(len(block.counts) for block in blocks) // 2
    assert blocks[3].flags == gen.SampleFlag.GAP
    assert got + blocks[-1].dropped == 10_000 == core.counters().samples
    assert blocks[3].dropped > 0
    assert core.counters().samples_dropped == blocks[-1].dropped
    skipped = (blocks[3].ticks - blocks[2].ticks) // 100 - len(blocks[2].counts) // 4
    assert 2 * skipped == blocks[3].dropped


def test_credit_only_rises(core):
    core.hello()
    core.ask(gen.SamplesStart(1, 1000, 5))
    core.send(gen.Credit(gen.Stream.SAMPLES, 2))
    core.advance(2000)
    assert len(of(core, gen.Samples)) == 5
    assert core.messages() == []  # CREDIT has no reply


@examples(30)
@given(st.data())
def test_every_sample_is_received_dropped_or_missed_whatever_the_credit_and_the_line(data):
    core = Stepped(eeprom())
    core.hello()
    channels = data.draw(st.integers(1, 8))
    period = data.draw(st.integers(50 * channels, 4000))
    core.ask(gen.SamplesStart((1 << channels) - 1, period, 2))
    limit, began = 2, core.board.ticks
    for _ in range(20):
        core.advance(data.draw(st.integers(1, 60)))
        core.board.tx_room = data.draw(st.sampled_from([0, 7, 4096]))
        if data.draw(st.booleans()):
            limit += data.draw(st.integers(0, 8))
            core.send(gen.Credit(gen.Stream.SAMPLES, limit))
    core.board.tx_room = 4096
    instants = (core.board.ticks - began) // period
    core.send(gen.Credit(gen.Stream.SAMPLES, limit + 100))
    core.send(gen.StreamStop(gen.Stream.SAMPLES))
    core.advance(100)
    blocks = of(core, gen.Samples)
    got = sum(len(block.counts) for block in blocks) // 2
    dropped = blocks[-1].dropped if blocks else 0
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert got + dropped == instants * channels
    assert core.board.violations == 0


def test_instants_that_the_timer_lost_are_counted_as_missed(core):
    core.hello()
    core.ask(gen.SamplesStart(0b111, 1000, 1000))
    core.advance(20.5)
    core.lib.board_sampling(0)  # the interrupt stays away: its next comes at 28.5 ms
    core.advance(7)
    core.lib.board_sampling(1000)
    core.advance(20)
    core.ask(gen.StreamStop(gen.Stream.SAMPLES))
    core.advance(2)
    blocks = of(core, gen.Samples)
    late = [block for block in blocks if block.flags & gen.SampleFlag.LATE]
    assert len(late) == 1
    assert late[0].dropped == 3 * 8 == core.counters().samples_missed
    assert core.counters().samples * 2 == sum(len(block.counts) for block in blocks)


def test_a_new_start_begins_at_number_0(core):
    core.hello()
    for _ in range(2):
        core.blocks.clear()
        core.ask(gen.SamplesStart(1, 1000, 100))
        core.advance(200)
        assert [block.number for block in of(core, gen.Samples)][:2] == [0, 1]


@pytest.mark.parametrize("ended_by", ["a new start", "another session"])
def test_what_waits_when_its_stream_is_ended_is_counted_as_dropped(core, ended_by):
    core.hello()
    starts = gen.SamplesStart(0b11, 1000, 2), gen.CapturesStart(1, 0, 1, 0), gen.TelemetryStart(1, 3)
    for start in starts:
        core.ask(start)
    for _ in range(50):
        core.lib.stepped_capture(0, 1, _u64(core.board.ticks))
    core.advance(100)
    if ended_by == "a new start":
        for start in starts:
            core.ask(replace(start, credit=1000))
        for stream in gen.Stream:
            core.ask(gen.StreamStop(stream))
    else:
        core.hello(session=5)
    core.advance(50)
    told = core.counters()
    samples = sum(len(block.counts) // 2 for block in of(core, gen.Samples))
    edges = sum(len(block.edges) for block in of(core, gen.Captures))
    assert told.samples == samples + told.samples_dropped >= 200
    assert told.edges == edges + told.edges_dropped == 50
    assert len(of(core, gen.Telemetry)) + told.telemetry_dropped >= 100


# ---------------------------------------------------------------------- edges


def test_10_000_edges_come_with_their_very_ticks(core):
    random_ = random.Random(3)
    core.hello()
    core.ask(gen.CapturesStart(0b1111, 0b1111, 1_000_000, 0))
    sent = []
    while len(sent) < 10_000:
        for _ in range(random_.randrange(6)):
            edge = gen.Edge(core.board.ticks - random_.randrange(900), random_.randrange(4), random_.randrange(2))
            core.lib.stepped_capture(edge.channel, edge.rising, _u64(edge.ticks))
            sent.append(edge)
        core.advance(1)
        core.messages()
    core.advance(5)
    blocks = of(core, gen.Captures)
    assert [edge for block in blocks for edge in block.edges] == sent
    assert all(block.dropped == 0 for block in blocks)
    assert sent[0].ticks < 1 << 32 < sent[-1].ticks
    index = 0
    for number, block in enumerate(blocks):
        assert (block.number, block.first) == (number, index)
        index += len(block.edges)


def test_edges_that_nobody_takes_are_counted_the_oldest_first(core):
    core.hello()
    core.ask(gen.CapturesStart(1, 0, 0, 0))
    for n in range(300):
        core.lib.stepped_capture(0, 1, _u64(core.board.ticks + n))
    core.advance(10)
    assert of(core, gen.Captures) == []
    core.send(gen.Credit(gen.Stream.CAPTURES, 1000))
    core.advance(20)
    blocks = of(core, gen.Captures)
    assert sum(len(block.edges) for block in blocks) == 256
    assert blocks[0].first == blocks[-1].dropped == 44 == core.counters().edges_dropped
    assert core.counters().edges == 300


def test_only_edges_that_were_asked_for_come(core):
    core.hello()
    core.ask(gen.CapturesStart(0b01, 0b10, 100, 0))
    for channel in range(3):
        for rising in (0, 1):
            core.lib.stepped_capture(channel, rising, _u64(core.board.ticks))
    core.advance(5)
    (block,) = of(core, gen.Captures)
    assert [(edge.channel, edge.rising) for edge in block.edges] == [(0, 1), (1, 0)]
    assert core.ask(gen.CapturesStart(0b10000, 0, 1, 0)).reason is gen.Refusal.RANGE


def test_other_inputs_may_be_wanted_without_losing_what_waits(core):
    core.hello()
    core.ask(gen.CapturesStart(0b01, 0, 0, 0))
    for n in range(3):
        core.lib.stepped_capture(0, 1, _u64(core.board.ticks + n))
    core.ask(gen.CapturesStart(0b11, 0, 0, 1))
    core.lib.stepped_capture(1, 1, _u64(core.board.ticks + 10))
    core.send(gen.Credit(gen.Stream.CAPTURES, 10))
    core.advance(5)
    (block,) = of(core, gen.Captures)
    assert [edge.channel for edge in block.edges] == [0, 0, 0, 1]
    assert (block.number, block.first, block.dropped) == (0, 0, 0)


def test_a_stream_that_does_not_run_can_not_go_on(core):
    core.hello()
    assert core.ask(gen.CapturesStart(1, 0, 10, 1)).reason is gen.Refusal.INCOMPLETE
    assert core.board.rising == 0


@pytest.mark.parametrize(
    "start", [gen.SamplesStart(1, 1000, 0), gen.CapturesStart(1, 0, 0, 0), gen.TelemetryStart(1, 0)]
)
def test_credit_ends_where_numbers_would_seem_past(core, start):
    core.hello()
    assert core.ask(replace(start, credit=gen.CREDIT_MAX + 1)).reason is gen.Refusal.RANGE
    assert not isinstance(core.ask(replace(start, credit=gen.CREDIT_MAX)), gen.Refused)
    core.lib.stepped_capture(0, 1, _u64(core.board.ticks))
    core.advance(60)
    assert core.messages() == []
    assert core.blocks


def test_credit_can_not_be_raised_to_where_the_stream_would_end_for_ever(core):
    core.hello()
    core.ask(gen.TelemetryStart(1, gen.CREDIT_MAX))
    assert core.ask(gen.Credit(gen.Stream.TELEMETRY, 2 * gen.CREDIT_MAX)).reason is gen.Refusal.RANGE
    core.blocks.clear()
    core.advance(10)
    assert len(of(core, gen.Telemetry)) >= 9
    core.send(gen.Credit(gen.Stream.TELEMETRY, 5))  # an old one, come late
    core.advance(5)
    assert core.messages() == []


# ---------------------------------------------------------------------- telemetry, events


def test_telemetry_tells_each_pass_if_asked_to(core):
    core.heat()
    core.ask(gen.TelemetryStart(1, 1000))
    core.advance(100)
    lines = of(core, gen.Telemetry)
    assert len(lines) >= 98
    assert {later.ticks - line.ticks for line, later in pairwise(lines)} == {MS}
    assert lines[-1].output == 1000
    assert lines[-1].state is gen.State.RUN
    assert lines[-1].temperature == pytest.approx(296_150, abs=50)


def test_events_that_a_deaf_host_missed_leave_a_gap_in_the_numbers(core):
    core.hello()
    core.board.tx_room = 0
    for _ in range(40):
        core.beats += 1
        core.send(gen.Heartbeat(core.session, core.beats))
        core.advance(1)
        core.send(gen.FaultNow())
        core.send(gen.ClearFault(gen.Fault.COMMANDED))
        core.advance(1)
    core.board.tx_room = 4096
    core.advance(50)
    core.messages()
    numbers = [event.number for event in core.events]
    assert numbers == sorted(set(numbers))
    missing = numbers[-1] + 1 - len(numbers)
    assert missing > 0
    assert core.counters().events_dropped == missing
