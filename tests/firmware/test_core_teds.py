"""The holder's TEDS: whole, blank, damaged; read, written, kept. Stepped clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stepped import HOLDER, Stepped, eeprom, examples, library, tuned

from hal.protocols import firmware_gen as gen


def write(core: Stepped, content: bytes, *, checksum: int | None = None):
    for at in range(0, 256, 128):
        assert core.ask(gen.TedsWrite(at, content[at : at + 128])) == gen.TedsWriteReply()
    crc = library().crc_add(0xFFFF, content, 256)
    return core.ask(gen.TedsCommit(crc if checksum is None else checksum, core.holder))


def read(core: Stepped) -> bytes:
    return b"".join(core.ask(gen.TedsRead(at, 128)).content for at in (0, 128))


def test_a_blank_one_is_bench_mode_with_low_limits():
    core = Stepped(None)
    assert core.hello().teds is gen.TedsState.BLANK
    status = core.status()
    assert (status.output_max, status.temperature_max, status.temperature) == (6553, 333_150, -1)
    core.arm()
    assert core.ask(gen.HeaterSet(300_000, 0)).reason is gen.Refusal.SENSOR
    assert core.ask(gen.HeaterOutput(6554)).reason is gen.Refusal.RANGE
    assert core.ask(gen.HeaterOutput(6553)) == gen.HeaterOutputReply(6553)
    core.live(59_000, step=400)
    assert core.board.heater == 6553
    core.live(1_400, step=400)
    assert core.board.heater == 0
    assert core.status().fault is gen.Fault.ON_TIME


@examples(150)
@given(st.integers(0, 8 * (gen.Teds.SIZE + 2) - 1))
def test_with_one_wrong_bit_there_is_no_arming(bit):
    content = bytearray(eeprom())
    content[bit // 8] ^= 1 << bit % 8
    core = Stepped(bytes(content))
    assert core.hello().teds is gen.TedsState.DAMAGED
    assert isinstance(core.ask(core.arming(core.beat().nonce)), gen.Refused)
    assert core.status().fault is gen.Fault.TEDS_DAMAGED
    assert core.ask(gen.ClearFault(gen.Fault.TEDS_DAMAGED)).reason is gen.Refusal.TEDS
    assert core.board.violations == 0


@pytest.mark.parametrize("content", [b"\0" * 256, b"\xff" * 50 + b"\0" * 206, bytes(range(256))])
def test_what_is_neither_whole_nor_blank_is_damaged(content):
    assert Stepped(content).hello().teds is gen.TedsState.DAMAGED


@pytest.mark.parametrize(
    "change",
    [{"magic": 1}, {"version": 2}, {"gain": 0.0}, {"gain": float("nan")}, {"nominal": 0.0}, {"sensor_channel": 8},
     {"reference_channel": 0}, {"coefficients": (float("inf"), 0.0, 0.0, 0.0)}, {"temperature_min": -1},
     {"temperature_max": 100_000}],
)  # fmt: skip
def test_a_record_that_can_not_be_is_damaged_whatever_its_checksum(change):
    assert Stepped(eeprom(replace(HOLDER, **change))).hello().teds is gen.TedsState.DAMAGED


def test_an_eeprom_that_does_not_answer_does_not_arm():
    core = Stepped(eeprom())
    core.board.eeprom_broken = True
    core.start(eeprom())
    assert core.hello().teds is gen.TedsState.ABSENT
    assert core.counters().eeprom_errors == 1
    refused = core.ask(core.arming(core.beat().nonce))
    assert (refused.reason, refused.detail) == (gen.Refusal.TEDS, gen.TedsState.ABSENT)
    core.advance(500)
    assert core.counters().eeprom_errors == 1  # that nobody is there is no news


def test_what_is_written_is_read_back_and_in_force(core):
    core.hello()
    assert read(core) == eeprom()
    new = eeprom(replace(HOLDER, output_max=4_321, serial=b"8"))[:-3] + b"own"
    assert write(core, new) == gen.TedsCommitReply(gen.TedsState.WRITING)
    assert core.ask(core.arming(core.beat().nonce)).reason is gen.Refusal.TEDS
    core.advance(30)
    core.messages()
    assert [event.value for event in core.events if event.kind is gen.EventKind.TEDS] == [gen.TedsState.VALID]
    assert bytes(core.board.eeprom) == read(core) == new
    assert core.status().output_max == 4_321
    core.arm()
    assert core.ask(gen.HeaterOutput(4_322)).reason is gen.Refusal.RANGE


def test_tighter_limits_of_the_host_end_with_the_holder(core):
    core.hello()
    core.ask(tuned(output_max=10))
    write(core, eeprom())
    core.advance(30)
    assert core.status().output_max == 60_000


def test_a_damaged_one_is_mended_by_writing():
    core = Stepped(b"\0" * 256)
    core.hello()
    write(core, eeprom())
    core.advance(30)
    assert core.status().teds is gen.TedsState.VALID
    assert core.ask(gen.ClearFault(gen.Fault.TEDS_DAMAGED)) == gen.ClearFaultReply(gen.State.SAFE)
    core.arm()


def test_what_would_be_damaged_is_not_written(core):
    core.hello()
    assert write(core, bytes(256)).reason is gen.Refusal.TEDS
    assert write(core, eeprom(), checksum=1).reason is gen.Refusal.CHECKSUM
    core.advance(30)
    assert bytes(core.board.eeprom) == eeprom()


def test_a_write_that_fails_is_a_fault(core):
    core.hello()
    core.board.eeprom_writes_left = 3
    assert write(core, eeprom()) == gen.TedsCommitReply(gen.TedsState.WRITING)
    core.advance(40)
    status = core.status()
    assert (status.state, status.fault, status.fault_value) == (gen.State.FAULT, gen.Fault.TEDS_DAMAGED, 32)
    core.messages()
    assert gen.TedsState.DAMAGED in [e.value for e in core.events if e.kind is gen.EventKind.TEDS]


@pytest.mark.parametrize("old", [eeprom(), None, eeprom(replace(HOLDER, serial=b"6"))])
@pytest.mark.parametrize("new", [eeprom(replace(HOLDER, serial=b"8", output_max=9)), b"\xff" * 256])
def test_a_write_that_loses_its_power_leaves_a_damaged_area_and_no_mixture(old, new):
    for pages in range(1, 18):
        core = Stepped(old)
        core.hello()
        core.board.eeprom_writes_left = pages
        write(core, new)
        core.advance(40)
        content = bytes(core.board.eeprom)
        core.board.eeprom_broken = False
        core.start(content, boot=8)
        whole = pages == 17
        assert core.hello().teds is (
            gen.TedsState.DAMAGED if not whole else gen.TedsState.BLANK if set(new) == {0xFF} else gen.TedsState.VALID
        )
        assert not whole or content == new


def test_it_is_not_written_while_something_may_be_on(core):
    core.arm()
    assert core.ask(gen.TedsWrite(0, b"x")).reason is gen.Refusal.STATE
    assert core.ask(gen.TedsCommit(0, core.holder)).reason is gen.Refusal.STATE


def test_nothing_is_read_or_written_behind_its_end(core):
    core.hello()
    assert core.ask(gen.TedsRead(129, 128)).reason is gen.Refusal.RANGE
    assert core.ask(gen.TedsRead(0xFFFF, 1)).reason is gen.Refusal.RANGE
    assert core.ask(gen.TedsWrite(255, b"ab")).reason is gen.Refusal.RANGE
    assert core.ask(gen.TedsRead(255, 1)).content == b"\xff"
