"""The MPS2 image in QEMU: captures, heats, streams, and goes off whatever happens to host, sensor or program.

One emulator for the module. Limits are counted in control passes: QEMU's time is the machine's, and goes on while
the machine has no time for QEMU.
"""

from __future__ import annotations

import os
import random
import threading
import time
from binascii import crc_hqx
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from images import built
from qemu import TICK_RATE, Qemu, World, until
from starved import again_if_starved
from talker import (
    LEASE_MS,
    LIMIT,
    REFERENCE_COUNTS,
    TEDS,
    TUNING,
    Plant,
    RefusedByBoard,
    SocketHost,
    eeprom,
    with_serial,
)

from hal.protocols.firmware_gen import (
    Arm,
    CapturesStart,
    ClearFault,
    Credit,
    EventKind,
    Fault,
    HeaterOutput,
    HeaterSet,
    Interlock,
    InterlockKind,
    InterlockSet,
    Refusal,
    ResetCause,
    SampleFlag,
    SamplesStart,
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

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("qemu-system-arm", "arm-none-eabi-gcc")]

PASS = TICK_RATE // 1000  # ticks in a control pass
SECONDS = int(os.environ.get("SOAK_SECONDS", "20"))  # 600 for the long one
CREDIT = 0x7FFF_FFFF  # blocks: no end of it (numbers wrap, so half of them)
OTHER = replace(with_serial(b"0043"), temperature_max=340_000)  # of a holder that bears less
NOBODY = 7


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Qemu, SocketHost]]:
    def prepare(world: World) -> None:
        world["entropy"] = 0x1234_5678
        world.adc(0, Plant().counts)
        world.adc(1, REFERENCE_COUNTS)

    with Qemu(built("mps2"), eeprom=eeprom(), spare=eeprom(OTHER), prepare=prepare) as board:
        until(lambda: board.world["magic"] == World.MAGIC, "the image does not start")
        host = SocketHost(board.link)
        yield board, host
        host.close()


@pytest.fixture
def board(_tools: None, request: pytest.FixtureRequest) -> Qemu:
    return request.getfixturevalue("running")[0]  # only where the tools are


@pytest.fixture
def host(board: Qemu, request: pytest.FixtureRequest) -> SocketHost:
    """A new session; specimen at ambient, everything off."""
    board.world.adc(0, Plant().counts)
    board.world.adc(1, REFERENCE_COUNTS)
    passes = board.world["passes"]
    until(lambda: board.world["passes"] - passes & 0xFFFF_FFFF > 4, "no pass")  # for the sensor to be believed again
    host: SocketHost = request.getfixturevalue("running")[1]
    host.fresh()
    return host


def heat(host: SocketHost, board: Qemu, output: int = 20_000) -> None:
    host.arm()
    host.ask(HeaterOutput(output))
    on(host, board)


def on(host: SocketHost, board: Qemu) -> None:
    """Waits for the heater to be on, as long as nothing speaks against it."""
    while not board.world["heater"]:
        assert host.status().state is State.RUN


def off_after(board: Qemu, passes: int) -> int:
    """Control passes from then until the heater went off."""
    until(lambda: board.world["heater"] == 0, "the heater stays on")
    return board.world["heater_off_pass"] - passes


def test_says_who_it_is(host: SocketHost) -> None:
    hello = host.hello()
    assert hello.board.rstrip(b"\0") == b"mps2-an386"
    assert hello.tick_rate == TICK_RATE
    assert hello.read_only == 0
    assert hello.state is State.SAFE
    assert hello.teds is TedsState.VALID
    assert hello.build != 0


def test_garbage_costs_nothing_but_itself(host: SocketHost) -> None:
    noise = random.Random(1)
    before = host.counters()
    for length in (1, 3, 255, 256, 1000, 5000):
        host._write(noise.randbytes(length) + b"\0")
        assert host.status().state is State.SAFE
    after = host.counters()
    assert after.rx_bytes - before.rx_bytes > 6000
    assert after.rx_framing + after.rx_checksum > before.rx_framing + before.rx_checksum
    assert after.rx_overrun == before.rx_overrun


def test_ten_thousand_edges_arrive_with_exactly_the_ticks_injected(board: Qemu, host: SocketHost) -> None:
    draw = random.Random(2)
    host.ask(CapturesStart(rising=0xF, falling=0xF, credit=CREDIT, go_on=0))
    ticks = board.ticks() - 2_000_000_000 // 8  # long past, so that every one differs from when it was handed over
    edges = []
    for _ in range(10_000):
        ticks += draw.randrange(1, 20_000)
        edges.append((ticks & 0xFFFF_FFFF, draw.randrange(4), bool(draw.randrange(2))))
    for start in range(0, len(edges), 128):
        board.edges(edges[start : start + 128])
        # The board keeps 256; it drops and counts beyond, which is another test's matter.
        assert host.wait(lambda sent=start: host.heard.edges >= sent)
    assert host.wait(lambda: host.heard.edges >= len(edges))
    got = [edge for block in host.heard.captures for edge in block.edges]
    assert [(edge.ticks & 0xFFFF_FFFF, edge.channel, bool(edge.rising)) for edge in got] == edges
    assert [edge.ticks for edge in got] == sorted(edge.ticks for edge in got)
    assert got[-1].ticks - got[0].ticks == (edges[-1][0] - edges[0][0]) & 0xFFFF_FFFF
    first = 0
    for number, block in enumerate(host.heard.captures):
        assert (block.number, block.first, block.dropped) == (number, first, 0)
        first += len(block.edges)


def test_edges_without_credit_are_dropped_and_counted(board: Qemu, host: SocketHost) -> None:
    host.ask(CapturesStart(rising=0xF, falling=0, credit=0, go_on=0))
    board.edges([(board.ticks(), 0, True)] * 1000)
    time.sleep(0.05)
    assert host.heard.edges == 0
    host.say(Credit(Stream.CAPTURES, CREDIT))
    assert host.wait(
        lambda: host.heard.edges and host.heard.captures[-1].first + len(host.heard.captures[-1].edges) >= 1000
    )
    last = host.heard.captures[-1]
    assert host.heard.edges + last.dropped == 1000
    assert last.dropped > 0


@again_if_starved
def test_the_heater_settles_at_its_setpoint_and_never_passes_its_limit(board: Qemu, host: SocketHost) -> None:
    world, plant = board.world, Plant()
    over = threading.Event()
    lived = 0.0

    def specimen() -> None:
        """It stands still while the machine does, for it is the machine's, too."""
        nonlocal lived
        before = world["ticks"]
        while not over.is_set():
            time.sleep(0.001)
            now = world["ticks"]
            step = min(((now - before) & 0xFFFF_FFFF) / TICK_RATE, 0.005)
            before = now
            plant.advance(world["heater"] / 65535, step)
            world.adc(0, plant.counts)
            lived += step

    thread = threading.Thread(target=specimen)
    thread.start()
    try:
        host.ask(TUNING)
        host.arm()
        host.ask(HeaterSet(373_150, 0))
        until(lambda: lived > 2.5 or host.status().state is not State.RUN, "the specimen does not live", pause=0.05)
        settled = [plant.kelvin for _ in range(100) if not time.sleep(0.01)]
        status = host.status()
    finally:
        over.set()
        thread.join()
    celsius = 100.0
    assert status.state is State.RUN
    assert status.fault is Fault.NONE
    assert all(abs(kelvin - 273.15 - celsius) <= 0.005 * celsius for kelvin in settled)
    assert plant.hottest < LIMIT
    assert status.temperature == pytest.approx(373_150, abs=300)


@again_if_starved
def test_a_frozen_host_turns_the_heater_off_within_the_lease(board: Qemu, host: SocketHost) -> None:
    heat(host, board)
    begun = board.world["passes"]
    while board.world["passes"] - begun < LEASE_MS + 200:
        assert host.status().state is State.RUN
    host.hush()
    passes = board.world["passes"]  # the last heartbeat was before
    assert off_after(board, passes) <= LEASE_MS + 2
    assert host.until_fault(Fault.LEASE).state is State.FAULT


@again_if_starved
def test_a_dead_link_turns_the_heater_off_within_the_lease(board: Qemu, host: SocketHost) -> None:
    heat(host, board)
    with host.lock:  # not one byte more from the host, as if it were killed
        assert off_after(board, board.world["passes"]) <= LEASE_MS + 2


@again_if_starved
def test_any_byte_is_no_heartbeat(board: Qemu, host: SocketHost) -> None:
    heat(host, board)
    host.hush()
    passes = board.world["passes"]
    while board.world["heater"]:
        host.status()  # a live host, but none that renews
        assert board.world["passes"] - passes < 10 * LEASE_MS
    assert board.world["heater_off_pass"] - passes <= LEASE_MS + 2


@pytest.mark.parametrize(("counts", "cause"), [(4095, Fault.SENSOR_OPEN), (0, Fault.SENSOR_SHORT)])
@again_if_starved
def test_a_broken_sensor_turns_the_heater_off_in_two_passes(
    board: Qemu, host: SocketHost, counts: int, cause: Fault
) -> None:
    host.ask(TUNING)
    host.arm()
    host.ask(HeaterSet(350_000, 0))
    on(host, board)
    board.world.adc(0, counts)
    passes = board.world["passes"]  # the next one sees it, if this one did not
    assert off_after(board, passes) <= 2
    assert host.until_fault(cause).fault is cause


@again_if_starved
def test_a_pressure_step_turns_the_heater_off_in_two_passes(board: Qemu, host: SocketHost) -> None:
    board.world.adc(2, 1000)
    host.ask(InterlockSet(Interlock(InterlockKind.STEP, 2, 200, 16, 1)), channel=0)
    heat(host, board)
    begun = board.world["passes"]
    until(lambda: board.world["passes"] - begun > 16, "no passes")
    board.world.adc(2, 1300)
    passes = board.world["passes"]
    assert off_after(board, passes) <= 2
    assert host.until_fault(Fault.PRESSURE_STEP).fault is Fault.PRESSURE_STEP


def test_time_is_told_consistently_by_the_devices_counter(board: Qemu, host: SocketHost) -> None:
    last = 0
    asked = time.monotonic_ns()
    first = None
    for nonce in range(200):
        t1 = time.monotonic_ns()
        reply = host.ask(Time(t1, nonce))
        assert (reply.t1, reply.nonce) == (t1, nonce)
        assert last < reply.received <= reply.sent
        last = reply.sent
        first = first if first is not None else reply
    elapsed = (time.monotonic_ns() - asked) / 1e9
    assert first is not None
    ticked = (last - first.received) / TICK_RATE
    assert 0 < ticked <= elapsed
    assert (last & 0xFFFF_FFFF) <= board.ticks() or last >> 32 < host.ask(Time(0, 0)).sent >> 32


def test_the_64_bit_clock_goes_on_where_the_counter_wraps(board: Qemu, host: SocketHost) -> None:
    """The counter starts 10 s before its wrap."""
    until(lambda: host.ask(Time(0, 0)).sent >> 32 >= 1, "the clock does not pass 2^32", pause=0.05)
    before, reply, after = board.ticks(), host.ask(Time(0, 0)), board.ticks()
    assert (reply.sent - before) & 0xFFFF_FFFF <= (after - before) & 0xFFFF_FFFF


@again_if_starved
def test_trigger_pulses_come_at_their_ticks_or_are_counted_as_missed(board: Qemu, host: SocketHost) -> None:
    host.arm()
    before, missed = board.world["triggers"], host.counters().pulses_missed
    at, period = host.ask(Time(0, 0)).sent + TICK_RATE // 5, 1_250_000
    host.ask(Trigger(at, 25_000, period, 3))

    def fired() -> list[int]:
        return [event.ticks for event in host.heard.events if event.kind is EventKind.TRIGGER]

    end = at + 4 * period
    while host.status().ticks < end or len(fired()) < board.world["triggers"] - before:
        time.sleep(0.005)
    assert host.status().state is State.ARMED
    assert fired() == [tick for tick in (at, at + period, at + 2 * period) if tick in fired()]
    assert len(fired()) == board.world["triggers"] - before == 3 - (host.counters().pulses_missed - missed) > 0
    assert board.world["trigger_ticks"] == fired()[-1] & 0xFFFF_FFFF


@pytest.mark.timeout(3 * SECONDS + 900)
@again_if_starved
def test_five_thousand_samples_a_second_are_all_accounted_for(board: Qemu, host: SocketHost) -> None:
    seconds, rate = SECONDS, 625  # 8 inputs at 625 /s: 5 kS/s
    for channel in range(2, 8):
        board.world.adc(channel, 100 * channel)
    start = host.ask(SamplesStart(0xFF, TICK_RATE // rate, CREDIT))
    assert start.period == TICK_RATE // rate
    boots = board.world["boots"]
    time.sleep(seconds)
    assert board.world["boots"] == boots, f"the board was reset in the middle: {host.hello().reset_cause!r}"
    host.ask(StreamStop(Stream.SAMPLES))
    sent = host.ask(StreamStop(Stream.SAMPLES)).blocks
    blocks = list(host.heard.samples)
    assert len(blocks) >= sent  # they came before the answer
    assert [block.number for block in blocks] == list(range(len(blocks)))
    received = sum(len(block.counts) // 2 for block in blocks)
    first, last = blocks[0], blocks[-1]
    instants = (last.ticks - first.ticks) // last.period + len(last.counts) // 16
    # Every instant of the timer was either received or counted as missed, to the sample.
    assert (last.ticks - first.ticks) % last.period == 0
    assert received + last.dropped - first.dropped == 8 * instants
    assert instants >= seconds * rate * 0.9
    assert received > 0
    for before, after in pairwise(blocks):
        assert bool(after.flags & SampleFlag.GAP) == (after.dropped != before.dropped)
        ended = before.ticks + len(before.counts) // 16 * before.period
        assert after.ticks - ended == (after.dropped - before.dropped) // 8 * after.period


def test_the_stack_stays_within_its_budget(board: Qemu, host: SocketHost) -> None:
    stack = board.memory(0x2000_0000, 2048)
    used = len(stack) - (len(stack) - len(stack.lstrip(b"\xa5")))
    assert 0 < used <= 1024


def test_a_hang_is_reset_by_the_watchdog_with_everything_off(board: Qemu, host: SocketHost) -> None:
    for hang in (1, 2):  # the main loop, the control pass
        heat(host, board)
        boots, boot = board.world["boots"], host.hello(host.session).boot
        board.world["hang"] = hang
        until(lambda b=boots: board.world["boots"] == b + 1, "no reset")
        assert board.world["heater"] == 0
        host.beating = False
        hello = host.fresh()
        assert hello.reset_cause is ResetCause.WATCHDOG
        assert hello.boot != boot
        assert hello.state is State.SAFE


def test_a_crash_switches_off_and_restarts(board: Qemu, host: SocketHost) -> None:
    heat(host, board)
    boots = board.world["boots"]
    board.world["hang"] = 3
    until(lambda: board.world["boots"] == boots + 1, "no restart")
    assert board.world["heater"] == 0
    assert host.fresh().reset_cause is ResetCause.CRASH  # by itself, not by the watchdog


def test_teds_survives_a_reset(board: Qemu, host: SocketHost) -> None:
    content = eeprom(with_serial(b"0042"))[:256]
    for offset in (0, 128):
        host.ask(TedsWrite(offset, content[offset : offset + 128]))
    assert host.ask(TedsCommit(crc_hqx(content, 0xFFFF), host.holder)).state is TedsState.WRITING
    assert host.wait(
        lambda: [event.value for event in host.heard.events if event.kind is EventKind.TEDS] == [TedsState.VALID]
    )
    boots = board.world["boots"]
    board.command("system_reset")
    until(lambda: board.world["boots"] == boots + 1, "no reset")
    hello = host.fresh()
    assert hello.reset_cause is ResetCause.PIN
    assert hello.teds is TedsState.VALID
    read = b"".join(host.ask(TedsRead(offset, 128)).content for offset in (0, 128))
    assert read == content
    assert b"0042" in read
    assert TEDS.serial.rstrip(b"\0") not in read[:40]


def settled(host: SocketHost, teds: TedsState) -> None:
    until(lambda: host.status().teds is teds, f"it is not {teds!r}", pause=0.02)


@again_if_starved
def test_a_holder_exchanged_under_power_is_judged_anew_and_armed_by_who_has_read_it(
    board: Qemu, host: SocketHost
) -> None:
    known = host.holder
    heat(host, board)
    board.world["holder"] = NOBODY
    passes = board.world["passes"]
    assert off_after(board, passes) <= 31 + 2 + 10  # a look comes when the main loop has its turn
    assert host.until_fault(Fault.HOLDER).fault is Fault.HOLDER
    settled(host, TedsState.ABSENT)
    board.world["holder"] = 1
    settled(host, TedsState.VALID)
    assert host.status().temperature_max == 340_000
    host.ask(ClearFault(Fault.HOLDER))
    assert host.beat is not None
    with pytest.raises(RefusedByBoard) as refused:
        host.ask(Arm(host.beat.nonce, host.interlocks.checksum, known))
    assert refused.value.refusal.reason is Refusal.HOLDER
    assert b"0043" in host.ask(TedsRead(0, 128)).content
    heat(host, board)
    host.safe()
    board.world["holder"] = 0  # between two looks: only the arming can see it
    with pytest.raises(RefusedByBoard) as refused:
        host.arm()
    assert refused.value.refusal.reason is Refusal.TEDS
    settled(host, TedsState.VALID)
    assert host.status().temperature_max == round(LIMIT * 1000)


def test_an_old_nonce_does_not_arm(board: Qemu, host: SocketHost) -> None:
    host.arm()
    host.safe()
    assert host.beat is not None
    with pytest.raises(RefusedByBoard) as refused:
        host.ask(Arm(0xDEAD_BEEF, host.interlocks.checksum, host.holder))
    assert refused.value.refusal.reason is Refusal.NONCE
    assert board.world["heater"] == 0
