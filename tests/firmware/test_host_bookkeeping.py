"""What the host keeps of the board: streams accounted for, interlocks, the holder's data sheet."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stepped import Stepped, eeprom

from devices.insitu_mcu import teds
from devices.insitu_mcu.interlocks import OFF, Interlocks
from devices.insitu_mcu.streams import Captured, Followed, Sampled
from devices.insitu_mcu.teds import DataSheet
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware import EdgeChunk, SampleChunk

PER_BLOCK, INPUTS, PERIOD = 13, 8, 50


def blocks(*numbers: int, dropped: int = 0, shift: int = 0) -> SampleChunk:
    """Blocks as a board sends them that drops nothing; `shift`: instants that were never taken."""
    ticks = np.concatenate([(np.arange(PER_BLOCK) + n * PER_BLOCK + shift) * PERIOD for n in numbers])
    counts = np.zeros((len(ticks), INPUTS), np.int16)
    b = len(numbers)
    return SampleChunk(
        1, tuple(range(INPUTS)), PERIOD, ticks, counts, np.array(numbers), np.full(b, dropped),
        np.zeros(b, np.uint8), 0, 1e-4,
    )  # fmt: skip


@pytest.fixture
def sampled():
    ledger = Sampled()
    ledger.begin(gen.SamplesStart(0xFF, PERIOD, 0))
    ledger.per_block = PER_BLOCK
    return ledger


def test_a_whole_stream_has_nothing_lost(sampled):
    for n in range(100):
        sampled.take(blocks(n))
    assert sampled.received == 100 * PER_BLOCK * INPUTS == sampled.expected
    assert (sampled.lost, sampled.dropped, sampled.lost_blocks) == (0, 0, 0)


def test_blocks_that_never_came_are_counted_as_lost_on_the_wire(sampled):
    sampled.take(blocks(1, 2, 5))
    assert sampled.lost_blocks == 3
    assert sampled.lost == 3 * PER_BLOCK * INPUTS


def test_what_the_board_dropped_or_missed_is_not_counted_twice(sampled):
    sampled.take(blocks(0))
    sampled.take(blocks(3, dropped=2 * PER_BLOCK * INPUTS))
    sampled.take(blocks(4, dropped=(2 * PER_BLOCK + 4) * INPUTS, shift=4))
    assert sampled.dropped == (2 * PER_BLOCK + 4) * INPUTS
    assert sampled.lost == 0


def test_credit_is_due_before_the_board_runs_out_of_it(sampled):
    due = [n for n in range(sampled.window) if sampled.take(blocks(n)) and sampled.due() is not None]
    assert due
    assert due[0] < sampled.window / 2
    sampled.granted = sampled.due()
    assert sampled.due() is None
    assert sampled.due(again=True) == sampled.granted


def test_where_nothing_comes_any_more_a_block_is_granted_to_see_how_far_the_board_is(sampled):
    sampled.take(blocks(0))
    sampled.granted = sampled.due(again=True)
    assert sampled.due(again=True) == sampled.granted + 1
    sampled.take(blocks(sampled.granted))  # all before it were lost
    assert sampled.due() == sampled.granted + 1 + sampled.window


TICKS = np.arange(10)
ZEROS = np.zeros(10, np.uint8)


def test_edges_are_received_dropped_or_lost():
    captured = Captured()
    captured.begin(gen.CapturesStart(1, 0, 0, 0))
    for number, first, dropped in ((0, 0, 0), (2, 25, 5)):  # block 1 with ten edges is lost, five were dropped
        captured.take(EdgeChunk(1, TICKS, ZEROS, ZEROS == 0, first + TICKS, np.array([number]), dropped, 0, 0))
    assert (captured.received, captured.dropped, captured.lost, captured.lost_blocks) == (20, 5, 10, 1)


def test_lines_of_the_heater_loop_are_received_dropped_or_lost():
    followed = Followed()
    followed.begin(gen.TelemetryStart(1, 0))
    for number in (0, 1, 5):
        followed.take(gen.Telemetry(number, 1000 * number, 3, 300_000, 0, 0, gen.State.SAFE, gen.HeaterMode.OFF))
    assert (followed.received, followed.lost_blocks, followed.dropped) == (3, 3, 3)
    assert [line.ticks for line in followed.lines] == [0, 1000, 5000]


# ---------------------------------------------------------------------- interlocks

INPUT, THRESHOLD = st.integers(0, 7), st.integers(1, 32766)
LEVELS = st.builds(
    gen.Interlock, kind=st.sampled_from([gen.InterlockKind.ABOVE, gen.InterlockKind.BELOW]),
    input=INPUT, threshold=THRESHOLD, window=st.integers(1, 32), passes=st.integers(1, 255),
)  # fmt: skip
# A step is seen for no more passes than its window has.
STEPS = st.tuples(INPUT, THRESHOLD, st.integers(1, 32), st.integers(1, 32)).map(
    lambda step: gen.Interlock(gen.InterlockKind.STEP, *step[:2], max(step[2:]), min(step[2:]))
)
RULES = LEVELS | STEPS


@settings(max_examples=50, deadline=None)
@given(rules=st.lists(st.one_of(st.just(OFF), RULES), min_size=4, max_size=4), mask=st.integers(0, 255),
       level=st.integers(0, 255))  # fmt: skip
def test_the_board_and_the_host_have_one_checksum_of_the_interlocks(rules, mask, level):
    core = Stepped(eeprom())
    core.hello()
    wanted = Interlocks(tuple(rules), mask, level & mask)
    for channel, command in wanted.commands():
        core.ask(command, channel)
    core.board.inputs = level
    refused = core.ask(gen.Arm(core.beat().nonce, wanted.checksum ^ 1, core.holder))
    assert refused.reason in (gen.Refusal.UNPROTECTED, gen.Refusal.INTERLOCK)
    if refused.reason is gen.Refusal.UNPROTECTED:
        assert refused.detail == wanted.checksum


SHEET = DataSheet(
    model="gas-cell 7", serial="0417", calibrated=date(2026, 3, 1), sensor=gen.SensorKind.RESISTANCE, sensor_channel=0,
    reference_channel=1, gain=2.0, reference=500.0, nominal=278.2, coefficients=(0.0, 1236.5, 0.0, 0.0),
    temperature_min=-50.0, temperature_max=900.0, full_power=0.15, heater=278.2, rate_max=5000.0,
)  # fmt: skip


def test_a_data_sheet_comes_back_as_it_was_written():
    back = teds.unpacked(SHEET.packed())
    assert back is not None
    assert (back.model, back.serial, back.calibrated) == ("gas-cell 7", "0417", date(2026, 3, 1))
    assert back.sensor is SHEET.sensor
    assert back.coefficients == pytest.approx(SHEET.coefficients, abs=1e-4)
    assert (back.temperature_max, back.full_power) == pytest.approx((900.0, 0.15))


def test_an_erased_area_is_blank_and_a_changed_byte_is_damage():
    assert teds.unpacked(b"\xff" * teds.AREA) is None
    area = bytearray(SHEET.packed())
    area[30] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        teds.unpacked(bytes(area))


def test_a_name_too_long_for_the_eeprom_is_refused():
    with pytest.raises(ValueError, match="room for 16"):
        replace(SHEET, model="a very long model name").packed()
