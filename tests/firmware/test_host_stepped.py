"""The driver and the core on the clock that jumps: what takes its time takes exactly that, on any machine."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from stepped import MS, Stepped
from stepped_link import stepped

from hal.clock.exchange import Exchange
from hal.errors import Refused
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware_gen import Fault, ProfileTarget, Segment, SegmentKind, State

TUNED = {"kp": 2.0, "ki": 4.0, "feed_forward": 0.14}


class Chip:
    """What the heater warms: 700 K at full output, in a tenth of a second."""

    def __init__(self, core: Stepped) -> None:
        self.core = core

    def live(self, seconds: float) -> None:
        goal = 296.15 + 700.0 * self.core.board.heater / 65535
        self.core.temperature += (goal - self.core.temperature) * (1 - np.exp(-seconds / 0.1))

    @property
    def celsius(self) -> float:
        return self.core.temperature - 273.15


async def test_a_ramp_takes_the_time_its_rate_asks_for_and_arrives():
    async with stepped(**TUNED) as (device, link):
        chip = Chip(link.core)
        link.world = chip.live
        loop = asyncio.get_running_loop()
        started = loop.time()
        await device.ramp(to=123.0, rate=100.0)
        assert 1.0 <= loop.time() - started < 1.2
        await asyncio.sleep(1.5)
        assert chip.celsius == pytest.approx(123.0, abs=0.1)
        assert await device.setpoint.get() == 123.0
        assert await device.power.get() == pytest.approx(0.02 * link.core.board.heater / 65535, rel=0.01)


async def test_leaving_a_ramp_early_holds_the_temperature():
    async with stepped(**TUNED) as (device, link):
        chip = Chip(link.core)
        link.world = chip.live
        async with device.ramp(to=500.0, rate=100.0):
            await asyncio.sleep(1.0)
        held = await device.setpoint.get()
        assert held == pytest.approx(123.0, abs=15.0)
        await asyncio.sleep(1.0)
        assert chip.celsius == pytest.approx(held, abs=0.2)


async def test_without_heartbeats_the_heater_is_off_within_the_lease():
    async with stepped(**TUNED) as (device, link):
        link.world = Chip(link.core).live
        ramp = device.ramp(to=300.0, rate=50.0)
        while not link.core.board.heater:
            await asyncio.sleep(0.01)
        device.let_go()
        last = link.core.board.ticks
        with pytest.raises(Refused, match="no heartbeat within the lease"):
            await ramp
        assert link.core.board.heater_off_ticks - last <= (gen.LEASE_MS + 2) * MS
        status = (await device.status()).reply
        assert (status.state, status.fault) == (State.FAULT, Fault.LEASE)


async def test_a_profile_runs_on_the_boards_clock():
    async with stepped() as (device, link):
        passes: dict[int, int] = {}
        link.world = lambda seconds: passes.update({link.core.board.ticks // MS: link.core.board.dac[0]})
        pieces = [Segment(SegmentKind.RAMP, 200, 40_000), Segment(SegmentKind.STEP, 100, 40_000)]
        pieces += [Segment(SegmentKind.STEP, 1, 7), Segment(SegmentKind.STEP, 100, 20_000)]
        await device.profile(ProfileTarget.DAC, pieces, start=0, channel=0)
        seen = list(passes.values())
        begun = next(n for n, value in enumerate(seen) if value)
        assert seen[begun : begun + 200] == sorted(seen[begun : begun + 200])
        assert seen.count(40_000) in (100, 101)  # the last of the ramp may be at its very end
        assert seen.count(7) == 1
        assert seen[-1] == 20_000  # until it is told otherwise


async def test_it_goes_on_asking_the_time_in_bursts():
    async with stepped() as (device, _link):
        got: list[Exchange] = []
        device.on_exchange(got.append)
        await asyncio.sleep(4)
        gaps = np.diff([exchange.sent for exchange in got]) * 1e-9
        assert (gaps > 0.4).sum() >= 1  # a pause between bursts
        assert np.median(gaps) < 0.2
