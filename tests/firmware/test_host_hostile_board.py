"""The driver against a board, and a wire, that do what they must not: the core itself, and a hand on each message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stepped import examples
from stepped_link import stepped

from devices.insitu_mcu.streams import Captured, Followed, Sampled
from hal.errors import LinkLost, ProtocolError, Refused, WrongInstrument
from hal.model.reading import Quality
from hal.protocols import firmware
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware import REPLY, Sorter
from hal.transport.session import Reconnect


def changed(kind: type[Any], **what: Any) -> Callable[[bytes], list[bytes]]:
    """Replies of the board that say something else."""

    def told(message: bytes) -> list[bytes]:
        if message[1] != kind.TYPE | REPLY:
            return [message]
        return [message[: gen.HEADER_SIZE] + replace(firmware.parse(message), **what).pack()]  # type: ignore[type-var]

    return told


def twice(message: bytes) -> list[bytes]:
    return [message, message]


# ---------------------------------------------------------------------- messages lost and repeated


async def test_what_the_wire_repeats_is_counted_and_handed_on_once():
    async with stepped() as (device, link):
        ticks: list[int] = []
        edges: list[int] = []
        device.on_samples(lambda chunk: ticks.extend(chunk.ticks.tolist()))
        device.on_pulses(lambda chunk: edges.extend(chunk.ticks.tolist()))
        link.told = link.said = twice
        async with device.sampling(range(8), 2500), device.capturing(rising=[0]):
            for n in range(30):
                link.core.lib.stepped_capture(0, 1, link.core.board.ticks - 1000 + n)
                await asyncio.sleep(0.01)
        ledger = device.sampled
        assert ledger.received == ledger.expected > 8 * 2500 * 0.25
        assert ledger.lost == ledger.lost_blocks == device.captured.lost == 0
        assert set(np.diff(ticks)) == {400}
        assert len(edges) == device.captured.received == 30


@pytest.mark.parametrize("seed", range(3))
async def test_commands_act_once_however_the_wire_drops_and_repeats(seed):
    draw = np.random.default_rng(seed)

    def wild(message: bytes) -> list[bytes]:
        return [message] * int(draw.choice([0, 1, 2, 3], p=[0.3, 0.4, 0.2, 0.1]))

    async with stepped() as (device, link):
        link.told = link.said = wild
        for _ in range(20):
            await device.do(gen.FaultNow(), tries=50)
            await device.do(gen.ClearFault(gen.Fault.COMMANDED), tries=50)
        link.told = link.said = lambda message: [message]
        told = await device.counters()
        assert told.faults == 20
        assert told.refused == told.stale == 0


async def test_credits_that_never_arrive_do_not_end_a_stream():
    async with stepped() as (device, link):
        numbers = count()
        link.said = lambda message: [] if message[1] == gen.Credit.TYPE and next(numbers) % 4 else [message]
        device.sampled.window = 8
        async with device.sampling(range(8), 2500):
            await asyncio.sleep(2)
            before = device.sampled.next
            await asyncio.sleep(3)
            assert device.sampled.next > before
        ledger = device.sampled
        assert ledger.received + ledger.dropped == ledger.expected


@pytest.mark.parametrize("room", [3, 8, 4096])
async def test_what_waits_on_the_board_when_a_stream_is_ended_still_comes_however_slow_the_line(room):
    async with stepped() as (device, link):
        async with device.sampling(range(8), 250):
            link.core.board.tx_room = room  # bytes in a millisecond
            await asyncio.sleep(1.017)
        ledger = device.sampled
        assert ledger.lost == ledger.lost_blocks == 0
        told = await device.counters()
        assert told.samples == ledger.received + told.samples_dropped
        assert ledger.dropped == told.samples_dropped


# ---------------------------------------------------------------------- a board that starts anew


@pytest.mark.parametrize("away", [0.001, 0.0123, 0.0377, 0.05])
async def test_a_stream_begun_anew_is_accounted_for_whatever_of_the_one_before_still_comes(away):
    async with stepped(reconnect=Reconnect(10.0)) as (device, link):
        old: list[bytes] = []

        def late(message: bytes) -> list[bytes]:
            """Blocks of the stream before come with the first of the new one."""
            if message[1] == gen.Samples.TYPE and len(old) < 5:
                old.append(message)
            if message[1] == gen.SamplesStart.TYPE | REPLY:
                return [*old, message]
            return [message]

        async with device.sampling(range(8), 2500):
            await asyncio.sleep(0.1)
            link.told = late
            await asyncio.sleep(0.1)
            link.gone = True
            await asyncio.sleep(away)
            link.gone = False
            await asyncio.sleep(0.3)
            with suppress(LinkLost):
                await device.status()
            await asyncio.sleep(1.0)
        ledger = device.sampled
        assert len(old) == 5
        assert ledger.received > 8 * 2500 * 0.3
        assert ledger.lost == ledger.lost_blocks == 0


async def test_a_board_that_restarts_in_the_middle_of_a_command_does_not_carry_it_out_after_all():
    async with stepped() as (device, link):
        await device.arm()
        seen: list[int] = []

        def dies(message: bytes) -> list[bytes]:
            if message[1] == gen.DacSet.TYPE and not seen:
                seen.append(1)
                link.core.start(bytes(link.core.board.eeprom), boot=8)
                return []
            return [message]

        link.said = dies
        with pytest.raises(Refused, match="started anew|not in this state"):
            await device.do(gen.DacSet(30_000))
        assert link.core.board.dac[0] == 0
        await asyncio.sleep(3)
        assert device.known.boot == 8
        await device.set_dac(0, 50.0)  # and it is usable again
        assert link.core.board.dac[0] == 32768


# ---------------------------------------------------------------------- a board that says what can't be


@pytest.mark.parametrize(
    ("what", "why"),
    [({"tick_rate": 0}, "runs at 0 Hz"), ({"tick_rate": 999}, "runs at 999 Hz"), ({"control_period": 0}, "takes 0 us"),
     ({"adc_full_counts": 0}, "counts to 0"), ({"adc_full_counts": 65535}, "counts to 65535")],
)  # fmt: skip
async def test_a_board_that_can_not_be_is_refused_in_words(what, why):
    async with stepped(connect=False) as (device, link):
        link.told = changed(gen.HelloReply, **what)
        with pytest.raises(WrongInstrument, match=f"{why}, which can't be; flash firmware that fits"):
            await device.connect()


async def test_a_board_may_offer_more_than_this_program_knows():
    async with stepped(connect=False) as (device, link):
        link.told = changed(gen.HelloReply, capabilities=0xFFFF_FFFF, capture_channels=200, board=b"\xff" * 16)
        await device.connect()
        assert (await device.temperature.read()).quality is Quality.GOOD
        async with device.capturing(rising=[0]):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("ticks", [2**62, 2**63, 2**64 - 1])
async def test_ticks_that_can_not_be_spoil_no_reading_and_no_clock(ticks):
    async with stepped() as (device, link):
        before = device.clock.health(device.session.timebase.now()).epoch
        for kind, what in (
            (gen.StatusReply, {"ticks": ticks, "measured": ticks}), (gen.TimeReply, {"received": ticks, "sent": ticks}),
        ):  # fmt: skip
            link.told = changed(kind, **what)
            await asyncio.sleep(2)
            if kind is gen.StatusReply:
                with pytest.raises(ProtocolError, match="which can't be; reset it"):
                    await device.report()
        link.told = lambda message: [message]
        await asyncio.sleep(3)
        reading = await device.temperature.read()
        assert reading.quality is Quality.GOOD
        assert abs(reading.time - device.session.timebase.now()) < 10_000_000
        assert device.clock.health(device.session.timebase.now()).epoch >= before
        assert device.clock.running


BLOCKS = [gen.Samples.TYPE, gen.Captures.TYPE, gen.Telemetry.TYPE, gen.Event.TYPE]


@examples(100)
@example([(gen.Samples.TYPE, bytes(16) + b"\3\0" + bytes(6)), (gen.Captures.TYPE, bytes(17))])  # with nothing in them
@given(st.lists(st.tuples(st.sampled_from(BLOCKS), st.binary(max_size=60) | st.binary(min_size=200, max_size=240)),
                max_size=8))  # fmt: skip
def test_whatever_stands_in_a_block_the_books_go_on(blocks):
    sampled, captured, followed = Sampled(), Captured(), Followed()
    sampled.begin(gen.SamplesStart(3, 400, 0))
    captured.begin(gen.CapturesStart(1, 0, 0, 0))
    followed.begin(gen.TelemetryStart(1, 0))

    def told(message: gen.Telemetry | gen.Event) -> None:
        if isinstance(message, gen.Telemetry):
            followed.take(message)

    sorter = Sorter(now=lambda: 7, samples=sampled.take, edges=captured.take, told=told)
    for kind, payload in blocks:
        if len(payload) >= 200 and kind == gen.Samples.TYPE:
            payload = _fitting(payload)
        assert sorter.feed(firmware.frame(bytes((gen.VERSION << 4, kind, 0, 0)) + payload)) == b""
    for ledger in (sampled, captured, followed):
        assert ledger.received >= 0 <= ledger.lost_blocks
        assert 0 <= ledger.next <= 2**32


def _fitting(payload: bytes) -> bytes:
    """As the board would: as many counts as it says."""
    head, counts = payload[:23], payload[24:]
    return head + bytes((len(counts) // 2,)) + counts[: len(counts) // 2 * 2]
