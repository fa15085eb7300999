"""The core's wire: frames survive anything, commands act once, ticks count past 32 bits. Stepped clock."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stepped import MS, Stepped, eeprom, examples

from hal.protocols import firmware
from hal.protocols import firmware_gen as gen


def test_hello_says_who_is_there(core):
    reply = core.hello()
    assert reply.schema == gen.SCHEMA
    assert reply.boot == 7
    assert reply.read_only == 0
    assert reply.teds is gen.TedsState.VALID
    assert reply.state is gen.State.SAFE
    assert gen.Capability.HEATER | gen.Capability.TEST in reply.capabilities
    assert reply.board.rstrip(b"\0") == b"stepped"
    assert (reply.tick_rate, reply.adc_channels, reply.control_period) == (1_000_000, 8, 1000)


def test_with_another_definition_the_session_only_reads(core):
    reply = core.ask(gen.Hello(5, gen.SCHEMA ^ 1))
    assert reply.read_only == 1
    core.session = 5
    assert core.beat().renewed == 0
    for request in (core.arming(1), gen.SamplesStart(1, 1000, 1), gen.TedsWrite(0, b"x")):
        assert core.ask(request).reason is gen.Refusal.READ_ONLY
    assert core.status().state is gen.State.SAFE
    assert core.ask(gen.Safe()) == gen.SafeReply(gen.State.SAFE)


def test_nothing_is_set_before_hello(core):
    assert core.ask(core.arming(1)).reason is gen.Refusal.NO_SESSION
    assert core.ask(gen.HeaterOutput(1)).reason is gen.Refusal.NO_SESSION


def test_an_unknown_command_is_refused_and_a_reply_is_not_answered(core):
    core.write(firmware.frame(bytes((gen.VERSION << 4, 0x3F, 9, 0))))
    core.write(firmware.frame(bytes((gen.VERSION << 4, 0xFF, 9, 0))))
    core.advance(1)
    (refused,) = core.messages()
    assert firmware.parse(refused) == gen.Refused(0x3F, gen.Refusal.UNKNOWN, gen.State.SAFE, 0)


@examples(60)
@given(st.binary(max_size=700), st.lists(st.integers(1, 30), max_size=20))
def test_garbage_costs_no_more_than_the_message_it_runs_into(noise, cuts):
    core = Stepped(eeprom())
    wanted = firmware.frame(firmware.command(gen.Status(), 200))
    data = noise + b"\0" + wanted
    at = 0
    for cut in [*cuts, len(data)]:
        core.write(data[at : at + cut])
        core.advance(0.1)
        at += cut
    core.advance(2)
    replies = [message for message in core.messages() if message[2] == 200 and message[1] == gen.StatusReply.TYPE]
    assert len(replies) == 1
    assert core.board.violations == 0


@examples(100)
@given(st.data())
def test_a_frame_with_a_wrong_bit_is_not_carried_out(data):
    core = Stepped(eeprom())
    core.hello()
    good = bytearray(firmware.frame(firmware.command(gen.DigitalSet(0xFF, 0xFF), 7)))
    bit = data.draw(st.integers(0, 8 * (len(good) - 1) - 1))
    good[bit // 8] ^= 1 << bit % 8
    core.write(bytes(good) + b"\0")
    core.advance(1)
    assert core.messages() == []
    counters = core.counters()
    assert counters.rx_checksum + counters.rx_framing >= 1


@pytest.mark.parametrize("size", [246, 247, 248, 249, 1000])
def test_noise_without_end_costs_one_frame(core, size):
    core.write(b"\x55" * size + b"\0" + firmware.frame(firmware.command(gen.Status(), 3)))
    core.advance(5)
    assert [message[2] for message in core.messages()] == [3]
    counters = core.counters()
    assert (counters.rx_framing + counters.rx_checksum, counters.rx_frames) == (1, 2)


def test_a_frame_of_another_version_is_counted_and_left(core):
    core.write(firmware.frame(bytes(((gen.VERSION + 1) << 4, gen.Status.TYPE, 1, 0))))
    core.advance(1)
    assert core.messages() == []
    assert core.counters().rx_framing == 1


def test_a_host_that_does_not_read_stops_nothing(core):
    core.heat()
    core.ask(gen.SamplesStart(0xFF, 400, 1_000_000))
    core.board.tx_room = 0
    core.send(gen.Time(1, 2))
    for _ in range(30):
        core.beats += 1
        core.send(gen.Heartbeat(core.session, core.beats))
        core.advance(100)
    assert core.state is gen.State.RUN
    core.board.tx_room = 4096
    core.advance(50)
    core.messages()
    counters = core.counters()
    assert counters.tx_dropped > 0
    assert counters.samples_dropped > 0
    assert counters.passes > 3000


# ---------------------------------------------------------------------- once


def test_a_command_repeated_is_answered_again_and_not_done_again(core):
    core.arm()
    message = core.send(gen.DigitalSet(0b11, 0b01))
    core.advance(1)
    first = core.messages()
    core.ask(gen.DigitalSet(0b11, 0b10))
    core.write(firmware.frame(message))
    core.advance(1)
    (again,) = core.messages()
    assert core.board.digital == 0b10
    assert again[0] & gen.FLAG_REPLAYED
    assert again[1:] == first[0][1:]
    assert core.counters().replayed == 1


def test_commands_of_a_window_may_come_in_any_order(core):
    core.arm()
    base = core.sequence
    order = [4, 2, 1, 3]
    for ahead in order:
        core.send(gen.DacSet(ahead), channel=0, sequence=(base + ahead) & 0xFF)
        core.advance(1)
        assert core.board.dac[0] == ahead
    assert len(core.messages()) == 4


def test_a_command_too_old_to_be_remembered_does_nothing(core):
    core.arm()
    old = core.send(gen.DacSet(1))
    for value in range(2, 12):
        core.ask(gen.DacSet(value))
    core.write(firmware.frame(old))
    core.advance(1)
    told = [firmware.parse(reply) for reply in core.messages()]
    assert [(t.command, t.reason) for t in told] == [(gen.DacSet.TYPE, gen.Refusal.STALE)]
    assert core.board.dac[0] == 11
    assert core.counters().stale == 1
    assert core.counters().refused == 1


def test_a_new_session_numbers_its_commands_as_it_likes(core):
    core.arm()
    core.ask(gen.DacSet(1))
    core.hello(session=2)
    core.sequence -= 100
    core.arm()
    assert core.ask(gen.DacSet(6)) == gen.DacSetReply(6)
    assert core.counters().stale == 0


@examples(200)
@given(st.lists(st.integers(0, 255), max_size=30))
def test_whatever_the_sequences_a_command_acts_or_is_old_or_is_known(sequences):
    core = Stepped(eeprom())
    core.arm()
    newest, seen = core.sequence, {core.sequence}
    for value, sequence in enumerate(sequences):
        before = core.board.dac[0]
        core.send(gen.DacSet(value + 1), sequence=sequence)
        core.advance(0)
        behind = (newest - sequence) & 0xFF
        if behind >= 128:
            seen = {s for s in seen if (sequence - s) & 0xFF < gen.REPLIES_KEPT}
            newest = sequence
        acts = behind >= 128 or (behind < gen.REPLIES_KEPT and sequence not in seen)
        seen.add(sequence)
        assert core.board.dac[0] == (value + 1 if acts else before)


def test_sequences_wrap(core):
    core.arm()
    for value in range(600):
        assert core.ask(gen.DacSet(value)) == gen.DacSetReply(value)
    assert core.counters().stale == 0


@pytest.mark.parametrize("seed", range(5))
def test_over_a_line_that_loses_doubles_and_garbles_each_command_acts_once(seed):
    """A host that repeats until it is answered; the profile's loader refuses what comes twice."""
    random_ = random.Random(seed)
    core = Stepped(eeprom())
    core.arm()
    segments = [gen.Segment(gen.SegmentKind.STEP, 1 + n, n) for n in range(60)]
    requests = [gen.ProfileBegin(gen.ProfileTarget.DAC, 60, 1, 0)]
    requests += [gen.ProfileSegments(n, (segment,)) for n, segment in enumerate(segments)]  # type: ignore[misc]

    def through(data: bytes) -> bytes:
        fate = random_.random()
        if fate < 0.25:
            return b""
        if fate < 0.35:
            return data[: random_.randrange(len(data))]
        if fate < 0.45:
            at = random_.randrange(len(data))
            return data[:at] + bytes((data[at] ^ 1 << random_.randrange(8),)) + data[at + 1 :]
        return data * 2 if fate < 0.6 else data

    repeats = 0
    for request in requests:
        core.sequence = (core.sequence + 1) & 0xFF
        message = firmware.command(request, core.sequence)
        fits = firmware.reply_to(message)
        for _ in range(100):
            repeats += 1
            core.write(b"\0" + through(firmware.frame(message)))
            core.advance(1)
            back = b"".join(through(piece + b"\0") for piece in core.read().split(b"\0") if piece)
            answers = [reply for reply in core.framing.feed(back) if fits(reply)]
            if answers:
                break
        parsed = firmware.parse(answers[0])
        assert not isinstance(parsed, gen.Refused), f"{request}: {parsed}"
    assert repeats > len(requests) * 1.3
    assert parsed == gen.ProfileSegmentsReply(gen.ProfileState.READY, 60)
    assert core.board.violations == 0


# ---------------------------------------------------------------------- time


def test_ticks_count_on_where_32_bits_end():
    core = Stepped(eeprom(), ticks=0xFFFF_FFFF - 50 * MS)
    core.hello()
    before = core.ask(gen.Time(11, 22))
    core.advance(100)
    after = core.ask(gen.Time(33, 44))
    assert (before.t1, before.nonce, after.t1, after.nonce) == (11, 22, 33, 44)
    assert before.sent < 1 << 32 < after.received
    assert after.sent - before.sent == 100 * MS
    assert before.received <= before.sent


@examples(50)
@given(st.integers(0, (1 << 32) - 1), st.lists(st.integers(0, 2000), min_size=1, max_size=30))
def test_64_bit_ticks_are_the_boards_own_wherever_it_starts(start, steps):
    core = Stepped(eeprom(), ticks=start)
    for step in steps:
        core.advance(step)
        assert core.ask(gen.Time(0, 0)).sent == core.board.ticks


def test_received_is_when_the_first_byte_came(core):
    core.hello()
    data = firmware.frame(firmware.command(gen.Time(1, 1), 9))
    core.write(data[:1])
    core.advance(0.1)
    began = core.board.ticks - 100
    core.write(data[1:])
    core.advance(0.3)
    reply = firmware.parse(core.messages()[0])
    assert isinstance(reply, gen.TimeReply)
    assert reply.received == began
    assert reply.sent == began + 100
