"""A holder that is exchanged while the board has power: nothing is on with another one than was armed. Stepped clock.

The board in memory looks, too: an arming with an EEPROM that is not the one in force, or an output that is on for
longer than an exchange may go unseen, is counted and fails the test.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stepped import HOLDER, MS, Stepped, eeprom, examples, library, tuned

from hal.protocols import firmware_gen as gen

COOLER = replace(HOLDER, serial=b"8", temperature_max=400_000, output_max=5_000)
LOOK = 31
"""ms between two looks."""
DOUBTS = 2
"""ms until a look is believed."""
ROUND = 32 * LOOK
ANEW = 100 + 32
"""ms until a changed EEPROM has settled and is read anew, by a main loop that turns once in a pass."""
BLANK = b"\xff" * 256


def teds_events(core: Stepped) -> list[int]:
    core.messages()
    return [event.value for event in core.events if event.kind is gen.EventKind.TEDS]


def read(core: Stepped) -> bytes:
    return b"".join(core.ask(gen.TedsRead(at, 128)).content for at in (0, 128))


@pytest.mark.parametrize(
    ("there", "state", "hottest"),
    [(eeprom(COOLER), gen.TedsState.VALID, 400_000), (BLANK, gen.TedsState.BLANK, 333_150),
     (bytes(256), gen.TedsState.DAMAGED, 333_150), (None, gen.TedsState.ABSENT, 333_150)],
)  # fmt: skip
def test_an_exchange_in_safe_is_seen_within_a_second_and_judged_anew(core, there, state, hottest):
    core.hello()
    before = core.status().holder
    core.plug(there)
    core.advance(ROUND + LOOK + ANEW + 5)
    status = core.status()
    assert (status.teds, status.temperature_max) == (state, hottest)
    assert teds_events(core) == [gen.TedsState.READING, state]
    assert status.holder != before
    assert read(core) == (there or BLANK)
    if state in (gen.TedsState.VALID, gen.TedsState.BLANK):
        core.arm()
    else:
        assert core.ask(core.arming(core.beat().nonce)).reason in (gen.Refusal.TEDS, gen.Refusal.STATE)


def test_while_it_is_read_anew_the_limits_are_those_of_the_bench(core):
    core.hello()
    core.ask(tuned())
    core.plug(eeprom(COOLER))
    core.advance(1)
    refused = core.ask(core.arming(core.beat().nonce))
    assert (refused.reason, refused.detail) == (gen.Refusal.TEDS, gen.TedsState.READING)
    status = core.status()
    assert (status.teds, status.output_max, status.temperature) == (gen.TedsState.READING, 6553, -1)


@pytest.mark.parametrize("there", [eeprom(COOLER), BLANK, bytes(256), None])
def test_an_arming_sees_an_exchange_of_the_moment_before_and_is_refused(core, there):
    core.hello()
    known = core.holder
    nonce = core.beat().nonce
    core.plug(there)
    refused = core.ask(gen.Arm(nonce, core.interlocks.checksum, known))
    assert (refused.reason, refused.state) == (gen.Refusal.TEDS, gen.State.SAFE)
    core.live(ANEW + LOOK)
    assert core.state is not gen.State.ARMED
    if there == eeprom(COOLER):  # the board knows it by now, the host does not
        refused = core.ask(gen.Arm(core.beat().nonce, core.interlocks.checksum, known))
        assert refused.reason is gen.Refusal.HOLDER
        core.arm()
        assert core.ask(gen.HeaterOutput(5_001)).reason is gen.Refusal.RANGE


def test_the_last_byte_counts_too_though_the_record_ends_before(core):
    core.hello()
    core.board.eeprom[255] = 7  # of its certificate
    assert core.ask(core.arming(core.beat().nonce)).reason is gen.Refusal.TEDS
    core.advance(ANEW + 5)
    core.arm()
    assert read(core)[255] == 7


@pytest.mark.parametrize("phase", [0.0, 7.3, 20.9])
def test_a_holder_pulled_out_while_heating_is_a_fault_within_a_look_and_its_doubts(core, phase):
    core.heat()
    core.live(300 + phase)
    since = core.board.ticks
    core.plug(None)
    core.live(100, step=5)
    assert core.board.heater == 0
    assert core.board.heater_off_ticks - since <= (LOOK + DOUBTS + 2) * MS
    status = core.status()
    assert (status.state, status.fault, status.fault_value) == (
        gen.State.FAULT, gen.Fault.HOLDER, gen.TedsState.READING
    )  # fmt: skip
    assert core.ask(gen.ClearFault(gen.Fault.HOLDER)).reason is gen.Refusal.TEDS
    core.plug(eeprom())
    core.live(2 * ANEW + 2 * LOOK + 20)
    assert core.ask(gen.ClearFault(gen.Fault.HOLDER)) == gen.ClearFaultReply(gen.State.SAFE)
    core.heat()


def test_a_holder_exchanged_unseen_while_armed_is_a_fault_within_a_second(core):
    core.arm()
    core.ask(gen.DigitalSet(0xFF, 0xFF))
    since = core.board.ticks
    core.plug(eeprom(COOLER))
    core.live(ROUND + LOOK + 10)
    status = core.status()
    assert (status.fault, core.board.digital) == (gen.Fault.HOLDER, 0)
    assert status.fault_ticks - since <= (ROUND + DOUBTS + 2) * MS
    core.live(ANEW + 10)
    assert core.ask(gen.ClearFault(gen.Fault.HOLDER)) == gen.ClearFaultReply(gen.State.SAFE)
    assert core.status().temperature_max == 400_000


def test_what_waits_to_begin_ends_with_the_holder(core):
    core.arm()
    core.ask(gen.ProfileBegin(gen.ProfileTarget.OUTPUT, 1, 1, 0))
    core.ask(gen.ProfileSegments(0, (gen.Segment(gen.SegmentKind.STEP, 1000, 30_000),)))
    core.ask(gen.ProfileStart(gen.Start.AT_TICK, core.board.ticks + 300 * MS, 0))
    core.plug(None)
    core.live(100)
    core.plug(eeprom(COOLER))
    core.live(400)
    assert core.ask(gen.ClearFault(gen.Fault.HOLDER)) == gen.ClearFaultReply(gen.State.SAFE)
    core.arm()
    core.live(200)
    assert core.board.heater_on_ticks == 0
    refused = core.ask(gen.ProfileStart(gen.Start.NOW, 0, 0))
    assert (refused.reason, refused.detail) == (gen.Refusal.RANGE, 5_000)


def test_a_disturbed_look_is_no_other_holder(core):
    core.heat()
    content = bytes(core.board.eeprom)
    for n in range(40):
        core.board.eeprom[:] = bytes(256) if n % 2 else content  # for a millisecond now and then
        core.board.eeprom_broken = n % 4 == 2
        core.live(1)
        core.plug(content)
        core.live(33)
    assert core.state is gen.State.RUN


def test_a_record_meant_for_one_holder_is_not_written_to_another(core):
    core.hello()
    known = core.holder
    new = eeprom(replace(HOLDER, serial=b"7", calibrated=20_100))
    crc = library().crc_add(0xFFFF, new, 256)
    core.ask(gen.TedsWrite(0, new[:128]))
    core.plug(eeprom(COOLER))  # in the middle
    core.ask(gen.TedsWrite(128, new[128:]))
    assert core.ask(gen.TedsCommit(crc, known)).reason in (gen.Refusal.HOLDER, gen.Refusal.BUSY)
    core.advance(ANEW + 5)
    for at in (0, 128):
        core.ask(gen.TedsWrite(at, new[at : at + 128]))
    assert core.ask(gen.TedsCommit(crc, known)).reason is gen.Refusal.HOLDER
    assert bytes(core.board.eeprom) == eeprom(COOLER)
    core.plug(None)
    core.advance(ROUND + LOOK + ANEW + 5)
    assert core.ask(gen.TedsCommit(crc, core.holder)).reason is gen.Refusal.TEDS


def test_an_arming_that_is_refused_anyway_holds_no_heartbeat_up(core):
    core.heat()
    core.board.eeprom_broken = True  # each look would take its doubts
    core.send(gen.Arm(1, 0, 0))
    assert core.ask(gen.Heartbeat(core.session, core.beats + 1)).renewed == 1


def test_a_number_of_before_a_reset_is_none_of_after_it(core):
    core.hello()
    known = core.holder
    core.start(eeprom(), boot=0x1234_5678)
    core.hello()
    assert core.ask(gen.Arm(core.beat().nonce, core.interlocks.checksum, known)).reason is gen.Refusal.HOLDER


@examples(60)
@given(st.lists(st.tuples(st.sampled_from([eeprom(), eeprom(COOLER), BLANK, None]), st.integers(1, 300)), max_size=8))
def test_whatever_was_plugged_in_before_what_is_there_is_in_force(exchanges):
    core = Stepped(eeprom())
    core.hello()
    there: bytes | None = eeprom()
    for content, ms in exchanges:
        core.plug(content)
        there = content
        core.live(ms)
    core.live(ROUND + 2 * (LOOK + ANEW) + 20)
    status = core.status()
    assert status.teds is {None: gen.TedsState.ABSENT, BLANK: gen.TedsState.BLANK}.get(there, gen.TedsState.VALID)
    assert read(core) == (there or BLANK)
    assert core.board.violations == 0


def test_an_arming_right_behind_a_new_interlock_is_judged_by_it(core):
    core.hello()
    core.board.adc[4] = 9_001
    nonce = core.beat().nonce
    core.send(gen.InterlockSet(gen.Interlock(gen.InterlockKind.ABOVE, 4, 9_000, 0, 1)), channel=1)
    core.interlocks = core.interlocks.with_analogue(1, gen.Interlock(gen.InterlockKind.ABOVE, 4, 9_000, 0, 1))
    assert core.ask(core.arming(nonce)).reason is gen.Refusal.INTERLOCK  # no control pass came in between
