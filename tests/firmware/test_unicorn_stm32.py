"""The STM32F405 image on a stepped clock: captures to the tick, goes off within exact limits, run after run the same.

Registers and clock are emulated (stm32_parts.py, unicorn_board.py); no test here ran on a chip.
"""

from __future__ import annotations

import random
from binascii import crc_hqx
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("unicorn")
pytest.importorskip("elftools")

from images import any_compiler, built
from stm32_parts import BYTE_US, Stm32Board
from talker import (
    LEASE_MS,
    LIMIT,
    REFERENCE_COUNTS,
    TUNING,
    Plant,
    RefusedByBoard,
    SteppedHost,
    eeprom,
    with_serial,
)
from unicorn import UC_HOOK_CODE

from hal.protocols.firmware_gen import (
    CapturesStart,
    ClearFault,
    DacSet,
    DigitalGet,
    DigitalSet,
    Edge,
    EventKind,
    Fault,
    HeaterOutput,
    HeaterSet,
    Interlock,
    InterlockInputs,
    InterlockKind,
    InterlockSet,
    ProfileBegin,
    ProfileSegments,
    ProfileStart,
    ProfileTarget,
    Read,
    Refusal,
    ResetCause,
    SamplesStart,
    Segment,
    SegmentKind,
    Start,
    State,
    Stream,
    StreamStop,
    TedsCommit,
    TedsRead,
    TedsState,
    TedsWrite,
    Time,
    Trigger,
)

PASS = 1000  # us
CREDIT = 0x7FFF_FFFF
DECISION = 10  # us from the start of a pass until its outputs are set, at an instruction a cycle
FULL = 4200  # PWM steps


@dataclass
class Bench:
    board: Stm32Board
    host: SteppedHost

    def heat(self, output: int = 20_000) -> None:
        self.host.arm()
        self.host.ask(HeaterOutput(output))
        self.host.run(3 * PASS)
        assert self.board.heater == round(output * FULL / 65535)

    def regulate(self) -> None:
        """The loop at work, with its heater on."""
        self.host.ask(TUNING)
        self.host.arm()
        self.host.ask(HeaterSet(350_000, 0))
        self.host.run(30 * PASS)
        assert self.board.heater
        assert self.host.status().state is State.RUN

    def at_phase(self, phase: int) -> None:
        """Runs to so many microseconds after a control interrupt."""
        while self.board.tim4.counter % PASS != phase:
            self.board.run(1)

    def off_after(self, then: int, limit: int) -> int:
        """Microseconds from `then` until the heater went off."""
        assert self.board.heater
        assert self.host.run(limit, lambda: self.board.heater == 0, slice_us=50), "the heater stays on"
        return self.board.heater_off_at - then


def started(memory: bytes | None = eeprom(), image: Path | None = None) -> Bench:
    """A board that has booted, with a session. Its counter wraps after a fifth of a second."""
    board = Stm32Board(image or any_compiler("stm32f405"), eeprom=memory, first_tick=0xFFFF_FFFF - 200_000)
    board.adc.board_input(0, Plant().counts)
    board.adc.board_input(1, REFERENCE_COUNTS)
    board.run(60_000)
    bench = Bench(board, SteppedHost(board))
    bench.host.hello()
    return bench


@pytest.fixture
def bench() -> Bench:
    return started()


def test_says_who_it_is(bench: Bench) -> None:
    hello = bench.host.hello(7)
    assert hello.board.rstrip(b"\0") == b"stm32f405"
    assert (hello.tick_rate, hello.reset_cause, hello.teds) == (1_000_000, ResetCause.POWER, TedsState.VALID)
    assert hello.state is State.SAFE


def capture_run() -> tuple[list[Edge], list[tuple[int, int, bool]], bytes, int]:
    bench = started()
    board, host, draw = bench.board, bench.host, random.Random(3)
    host.ask(CapturesStart(rising=0b11, falling=0b01, credit=CREDIT, go_on=0))
    given = []
    level = False
    start = board.clock.now
    at = start
    for _ in range(300):
        at += draw.randrange(60, 900)
        channel, rising = draw.choice(((0, None), (1, True)))
        if rising is None:
            level = rising = not level

        def edge(channel: int = channel, rising: bool = rising) -> None:
            given.append((board.tim2.counter, channel, rising))
            board.edge(channel, rising)

        board.clock.at(at, edge)
    assert host.run(2_000_000, lambda: host.heard.edges == 300)
    got = [edge for block in host.heard.captures for edge in block.edges]
    return got, given, bytes(board.uc.mem_read(0x2000_0000, 0x1_0000)), board.clock.now


def test_captured_edges_carry_the_tick_of_the_capture_register_and_two_runs_are_the_same_run() -> None:
    got, given, memory, ended = capture_run()
    assert [(edge.ticks & 0xFFFF_FFFF, edge.channel, bool(edge.rising)) for edge in got] == given
    assert [edge.ticks for edge in got] == sorted(edge.ticks for edge in got)
    again = capture_run()
    assert again == (got, given, memory, ended)


def test_an_edge_that_overtakes_the_interrupt_is_counted_as_lost(bench: Bench) -> None:
    board, host = bench.board, bench.host
    host.ask(CapturesStart(rising=0b1, falling=0, credit=CREDIT, go_on=0))
    host.run(5000)
    board.edge(0, True)
    board.edge(0, True)  # within one slice: the first is overwritten
    assert host.run(50_000, lambda: host.heard.edges == 1)
    board.clock.after(2000, lambda: board.edge(0, True))
    assert host.run(50_000, lambda: host.heard.edges == 2)
    assert host.heard.captures[-1].overrun == 1
    assert host.counters().edges_overrun == 1


def test_edges_that_come_without_end_keep_no_control_pass_out(bench: Bench) -> None:
    """A loose wire at a frame input: a million edges a second, more than any interrupt can follow."""
    board, host = bench.board, bench.host
    board.adc.board_input(2, 1000)
    host.ask(InterlockSet(Interlock(InterlockKind.STEP, 2, 200, 16, 1)))
    host.ask(CapturesStart(rising=0b1, falling=0b1, credit=CREDIT, go_on=0))
    bench.regulate()
    host.beating = False

    def rattle() -> None:
        board.edge(0, not board.port_a.pins & 1)
        board.clock.after(1, rattle)

    rattle()
    board.run(2 * PASS)
    assert board.heater
    board.adc.board_input(2, 1300)
    assert bench.off_after(board.clock.now, 10 * PASS) <= PASS + 2 * DECISION


def test_other_inputs_may_be_captured_without_losing_an_edge_that_waits(bench: Bench) -> None:
    board, host = bench.board, bench.host
    host.ask(CapturesStart(rising=0b01, falling=0, credit=CREDIT, go_on=0))
    host.run(5 * PASS)
    changes = board.symbols["board_capture"] & ~1
    board.uc.hook_add(UC_HOOK_CODE, lambda *_: board.edge(0, True), None, changes, changes)  # at the worst moment
    for rising in (0b11, 0b01, 0b00):
        host.ask(CapturesStart(rising=rising, falling=0, credit=0, go_on=1))
    host.run(5 * PASS)
    assert [edge.channel for block in host.heard.captures for edge in block.edges] == [0, 0]
    assert host.counters().edges == 3  # the last one nobody wanted to hear of any more


def test_time_is_the_counter_and_goes_on_where_it_wraps(bench: Bench) -> None:
    last = None
    while bench.board.clock.now < 300_000:
        reply = bench.host.ask(Time(5, 6))
        assert 0 <= reply.sent - reply.received < 2000
        assert (bench.board.tim2.counter - reply.sent) & 0xFFFF_FFFF < 2000
        assert last is None or reply.received > last.sent
        last = reply
        bench.host.run(20_000)
    assert last is not None
    assert last.sent >> 32 == 1


def test_the_first_byte_of_a_request_is_what_is_stamped(bench: Bench) -> None:
    bench.host.run(10_000)
    before = bench.board.tim2.counter
    reply = bench.host.ask(Time(0, 0))
    assert 0 <= (reply.received - before - BYTE_US) & 0xFFFF_FFFF <= 5


def test_a_silent_host_turns_the_heater_off_within_lease_and_two_passes(bench: Bench) -> None:
    bench.heat()
    bench.host.run(600_000)  # over a lease: kept
    assert bench.board.heater
    bench.host.beating = False
    bench.host.run(3000)
    status = bench.host.status()
    renewed = bench.board.clock.now  # or earlier
    assert bench.off_after(renewed, 2_000_000) <= status.lease_left * 1000 + 2 * PASS
    assert bench.host.until_fault(Fault.LEASE).state is State.FAULT


def test_the_lease_is_exact(bench: Bench) -> None:
    bench.heat()
    bench.host.beating = False
    bench.host.run(20_000)
    bench.host.heartbeat()
    sent = bench.board.clock.now
    elapsed = bench.off_after(sent, 2_000_000)
    assert LEASE_MS * 1000 <= elapsed <= LEASE_MS * 1000 + 2 * PASS


@pytest.mark.parametrize(
    ("counts", "cause", "phase"),
    [(4095, Fault.SENSOR_OPEN, 0), (4095, Fault.SENSOR_OPEN, 15), (4095, Fault.SENSOR_OPEN, 500),
     (4095, Fault.SENSOR_OPEN, 999), (0, Fault.SENSOR_SHORT, 15), (0, Fault.SENSOR_SHORT, 500),
     (100, Fault.SENSOR_RANGE, 999)],
)  # fmt: skip
def test_a_broken_sensor_turns_the_heater_off_within_two_passes(
    bench: Bench, counts: int, cause: Fault, phase: int
) -> None:
    bench.regulate()
    bench.at_phase(phase)  # whenever in a pass it breaks
    bench.board.adc.board_input(0, counts)
    assert bench.off_after(bench.board.clock.now, 10 * PASS) <= 2 * PASS + DECISION
    assert bench.host.until_fault(cause).state is State.FAULT


def test_a_dead_converter_turns_the_heater_off_within_two_passes(bench: Bench) -> None:
    bench.regulate()
    bench.at_phase(500)
    bench.board.adc.answers = False
    assert bench.off_after(bench.board.clock.now, 20 * PASS) <= 2 * PASS  # each wait for it is bounded
    assert bench.host.until_fault(Fault.ADC_DEAD).state is State.FAULT


@pytest.mark.parametrize("phase", [0, 2, 3, 4, 6, 12, 500, 999])
def test_a_pressure_step_turns_the_heater_off_within_a_millisecond(bench: Bench, phase: int) -> None:
    bench.board.adc.board_input(2, 1000)
    bench.host.ask(InterlockSet(Interlock(InterlockKind.STEP, 2, 200, 16, 1)))
    bench.regulate()
    bench.host.beating = False  # without the host's help
    bench.at_phase(phase)
    bench.board.adc.board_input(2, 1300)
    assert bench.off_after(bench.board.clock.now, 10 * PASS) <= PASS + DECISION
    assert bench.host.until_fault(Fault.PRESSURE_STEP).state is State.FAULT


def test_an_open_interlock_turns_everything_off_within_a_pass(bench: Bench) -> None:
    board, host = bench.board, bench.host
    board.port_c.pins = 0  # closed loops pull low; a broken wire reads high
    host.ask(InterlockInputs(0b0011, 0b0000))
    bench.heat()
    host.ask(DigitalSet(0b1111, 0b1010))
    host.ask(DacSet(0x8000), channel=1)
    host.run(2 * PASS)
    assert board.port_b.outputs == 0b1010
    assert board.dac.read(0x14) == 0x800
    assert host.ask(DigitalGet()).outputs == 0b1010
    board.port_c.pins = 1 << 6 + 1
    then = board.clock.now
    assert bench.off_after(then, 10 * PASS) <= PASS + 100
    host.run(PASS)
    assert board.port_b.outputs == 0
    assert (board.dac.volts(0), board.dac.volts(1)) == (0, 0)
    assert host.until_fault(Fault.INTERLOCK_INPUT)
    with pytest.raises(RefusedByBoard) as refused:
        host.ask(DigitalSet(0b1111, 0b1111))
    assert refused.value.refusal.reason is Refusal.STATE


def test_the_heater_settles_at_its_setpoint_and_never_passes_its_limit(bench: Bench) -> None:
    board, host, plant = bench.board, bench.host, Plant()

    def specimen() -> None:
        plant.advance(board.heater / FULL, 0.0005)
        board.adc.board_input(0, plant.counts)
        board.clock.after(500, specimen)

    specimen()
    host.ask(TUNING)
    host.arm()
    host.ask(HeaterSet(373_150, 0))
    host.run(2_000_000)
    settled = []
    for _ in range(100):
        host.run(5000)
        settled.append(plant.kelvin - 273.15)
    assert all(abs(celsius - 100.0) <= 0.5 for celsius in settled)
    assert plant.hottest < LIMIT
    assert host.status().state is State.RUN


def test_a_pulse_of_one_millisecond_is_one_millisecond(bench: Bench) -> None:
    board, host = bench.board, bench.host
    host.arm()
    host.ask(ProfileBegin(ProfileTarget.OUTPUT, 2, 1, 0))
    host.ask(
        ProfileSegments(0, [Segment(SegmentKind.STEP, 1, 30_000), Segment(SegmentKind.STEP, 1, 0)])  # type: ignore[arg-type]
    )
    marks = len(board.pwm.log)
    host.ask(ProfileStart(Start.NOW, 0, 0))
    host.run(20 * PASS)
    changes = board.pwm.log[marks:]
    assert [value for _, value in changes] == [round(30_000 * FULL / 65535), 0]
    assert changes[1][0] - changes[0][0] == pytest.approx(PASS, abs=50)


def test_a_trigger_pulse_begins_and_ends_at_its_ticks(bench: Bench) -> None:
    board, host = bench.board, bench.host
    host.arm()
    at = host.ask(Time(0, 0)).sent + 20_000
    host.ask(Trigger(at, 100, 5_000, 3))
    assert host.run(100_000, lambda: sum(event.kind is EventKind.TRIGGER for event in host.heard.events) == 3)
    edges = [(at + 5000 * n + late & 0xFFFF_FFFF, level) for n in range(3) for late, level in ((0, 1), (100, 0))]
    assert board.tim2.output == edges
    assert [e.ticks for e in host.heard.events if e.kind is EventKind.TRIGGER] == [at, at + 5000, at + 10_000]


def test_twenty_thousand_samples_a_second_are_all_accounted_for_and_stamped_by_the_timer(bench: Bench) -> None:
    board, host = bench.board, bench.host
    for channel in range(8):
        board.adc.board_input(channel, 100 + channel)
    assert host.ask(SamplesStart(0xFF, 400, CREDIT)).period == 400
    host.run(150_000)
    host.ask(StreamStop(Stream.SAMPLES))
    host.run(5 * PASS)  # what waited is still sent
    blocks = host.heard.samples
    instants = (blocks[-1].ticks - blocks[0].ticks) // 400 + len(blocks[-1].counts) // 16
    received = sum(len(block.counts) // 2 for block in blocks)
    assert received + blocks[-1].dropped == 8 * instants
    assert instants == pytest.approx(375, abs=10)
    assert blocks[-1].dropped == 0
    for before, after in pairwise(blocks):
        assert after.ticks - before.ticks == len(before.counts) // 16 * 400
    assert blocks[3].counts[:16] == b"".join((100 + channel).to_bytes(2, "little") for channel in range(8))
    assert host.ask(Read()).counts[:8] == tuple(100 + channel for channel in range(8))


def test_no_byte_is_lost_at_full_speed_beside_the_control_loop(bench: Bench) -> None:
    """The UART has no FIFO: a byte not fetched within 11 us is gone."""
    bench.heat()
    before = bench.host.counters()
    for _ in range(30):
        bench.host.status()
    draw = random.Random(4)
    noise = bytes(draw.randrange(1, 256) for _ in range(2000))
    bench.board.usart.send(noise + b"\0")
    bench.host.run(2100 * BYTE_US)
    after = bench.host.counters()
    assert after.rx_overrun == before.rx_overrun
    assert after.rx_bytes - before.rx_bytes > 2000


def test_after_a_reset_it_does_not_arm_without_the_interlocks_the_host_means(bench: Bench) -> None:
    board, host = bench.board, bench.host
    host.ask(InterlockSet(Interlock(InterlockKind.ABOVE, 4, 3000, 0, 1)), channel=0)
    host.arm()
    host.beating = False
    board.reset_by(1 << 26)
    board.run(60_000)
    host.hello()
    with pytest.raises(RefusedByBoard) as refused:
        host.arm()
    assert refused.value.refusal.reason is Refusal.UNPROTECTED
    assert host.status().state is State.SAFE
    host.ask(InterlockSet(Interlock(InterlockKind.ABOVE, 4, 3000, 0, 1)), channel=0)
    host.arm()
    assert host.status().state is State.ARMED


@pytest.mark.parametrize("heating", [False, True])
def test_a_hang_is_reset_by_the_watchdog_with_everything_off(bench: Bench, heating: bool) -> None:
    board = bench.board
    boot = bench.host.hello().boot
    if heating:
        bench.heat()
    bench.host.beating = False
    then, boots = board.clock.now, board.boots
    board.hang()
    board.slice = PASS  # nothing happens in it
    board.run_until(lambda: board.boots == boots + 1, 1_000_000)
    board.slice = 1
    assert board.started_at - then <= 250_000
    assert board.heater == 0
    board.run(60_000)
    hello = bench.host.hello()
    assert hello.reset_cause is ResetCause.WATCHDOG
    assert hello.boot != boot
    assert hello.state is State.SAFE


def test_a_crash_switches_off_at_once_and_is_told_after_the_restart(bench: Bench) -> None:
    board = bench.board
    bench.heat()
    bench.host.beating = False
    assert board.heater > 0
    then, boots = board.clock.now, board.boots
    board.crash()
    board.run_until(lambda: board.heater == 0, 1_000)
    assert board.clock.now - then <= 100
    board.run_until(lambda: board.boots == boots + 1, 1_000)
    board.run(60_000)
    hello = bench.host.hello()
    assert (hello.reset_cause, hello.state) == (ResetCause.CRASH, State.SAFE)
    board.software_reset()  # and only once
    board.run(60_000)
    assert bench.host.hello().reset_cause is ResetCause.SOFTWARE


def test_a_clock_that_does_not_lock_starts_nothing(bench: Bench) -> None:
    """A tenth as fast, all that is promised in milliseconds would take ten times as long."""
    board, boots = bench.board, bench.board.boots
    assert board.rcc.words[0] & 1 << 19  # a crystal that stops later is a crash
    bench.heat()
    board.rcc.locks = False
    board.reset_by(1 << 26)
    board.slice = 100
    board.run_until(lambda: board.boots == boots + 3, 200_000)
    assert board.heater == 0
    assert board.tim4.zero is None  # no control pass, and no word to a host


def test_a_supply_that_sinks_switches_everything_off_and_starts_nothing_until_it_is_back(bench: Bench) -> None:
    """Too little for the flash at 168 MHz, and still enough for a processor that reads it wrong."""
    board, boots = bench.board, bench.board.boots
    bench.heat()
    bench.host.ask(DacSet(0xFFFF), channel=1)
    assert board.dac.volts(1) > 3.2
    board.supply.volts = 2.75
    board.run_until(lambda: board.heater == 0 and board.dac.volts(1) == 0, 10)
    board.slice = 100
    board.run_until(lambda: board.boots == boots + 3, 200_000)
    assert board.tim4.zero is None  # no control pass, and no word to a host
    board.slice = 1
    board.supply.volts = 3.3
    board.run(60_000)
    hello = bench.host.hello()
    assert (hello.reset_cause, hello.state) == (ResetCause.CRASH, State.SAFE)


def test_teds_is_written_to_the_memory_and_read_after_a_reset(bench: Bench) -> None:
    board, host = bench.board, bench.host
    assert board.eeprom is not None
    content = eeprom(with_serial(b"0042"))[:256]
    for offset in (0, 128):
        host.ask(TedsWrite(offset, content[offset : offset + 128]))
    host.ask(TedsCommit(crc_hqx(content, 0xFFFF), host.holder))
    assert host.run(2_000_000, lambda: any(event.kind is EventKind.TEDS for event in host.heard.events))
    assert bytes(board.eeprom.content[:256]) == content
    board.reset_by(1 << 26)
    board.run(60_000)
    hello = host.hello()
    assert (hello.reset_cause, hello.teds) == (ResetCause.PIN, TedsState.VALID)
    assert b"".join(host.ask(TedsRead(offset, 128)).content for offset in (0, 128)) == content


def test_a_damaged_teds_does_not_arm() -> None:
    content = bytearray(eeprom())
    content[20] ^= 1
    bench = started(bytes(content))
    assert bench.host.hello().teds is TedsState.DAMAGED
    with pytest.raises(RefusedByBoard):
        bench.host.arm()
    assert bench.board.heater == 0


def test_without_a_memory_it_does_not_hang() -> None:
    bench = started(None)
    hello = bench.host.hello()
    assert hello.teds is not TedsState.VALID
    assert bench.host.counters().eeprom_errors > 0


def test_a_look_at_the_memory_takes_less_than_a_pass_and_comes_every_31_ms(bench: Bench) -> None:
    board = bench.board
    assert board.eeprom is not None
    bench.heat()
    board.eeprom.called.clear()
    board.eeprom.longest = 0
    bench.host.run(310 * PASS)
    assert 9 <= len(board.eeprom.called) <= 11
    assert 500 < board.eeprom.longest < PASS
    assert bench.host.status().state is State.RUN


def test_a_holder_pulled_out_while_heating_puts_the_heater_off(bench: Bench) -> None:
    board, host = bench.board, bench.host
    assert board.eeprom is not None
    bench.heat()
    then = board.clock.now
    board.eeprom.gone = True
    assert bench.off_after(then, 100 * PASS) <= (31 + 2 + 2) * PASS
    assert host.until_fault(Fault.HOLDER).teds is TedsState.READING
    host.run(200 * PASS)
    assert host.status().teds is TedsState.ABSENT
    board.eeprom.content[:256] = eeprom(with_serial(b"0042"))[:256]
    board.eeprom.gone = False
    host.run(250 * PASS)
    assert host.status().teds is TedsState.VALID
    assert b"0042" in host.ask(TedsRead(0, 128)).content
    host.ask(ClearFault(Fault.HOLDER))
    bench.heat()


def test_a_memory_that_a_reset_cut_off_in_the_middle_of_a_byte_is_freed(bench: Bench) -> None:
    board = bench.board
    assert board.eeprom is not None
    board.eeprom.content[:256] = bytes(256)  # zeros: it holds the line
    board.run_until(lambda: board.eeprom.pulls and board.eeprom._state == "send", 100 * PASS)
    board.eeprom.content[:256] = eeprom()[:256]
    board.reset_by(1 << 29)
    board.run(60_000)
    assert bench.host.hello().teds is TedsState.VALID
    assert bench.host.counters().eeprom_errors == 0  # at the first attempt


def test_the_image_of_the_compiler_from_pypi_does_the_same() -> None:
    pytest.importorskip("ziglang")
    bench = started(image=built("stm32f405", "zig"))
    bench.regulate()
    bench.at_phase(500)
    bench.board.adc.board_input(0, 4095)
    assert bench.off_after(bench.board.clock.now, 10 * PASS) <= 2 * PASS
    assert bench.host.until_fault(Fault.SENSOR_OPEN).state is State.FAULT
