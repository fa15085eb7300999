"""Test a control script's instruments without them, on a clock that jumps: a minute's ramp takes no time.

Run it with `pytest examples/test_bench.py`.
"""

import asyncio

import pytest

from hal.errors import LimitError, LinkLost
from hal.testing import wired


@pytest.fixture
async def bench():
    async with wired("eurotherm_3504", name="heater", unit=1) as (heater, wire):
        yield heater, wire


async def test_a_ramp_takes_the_time_its_rate_asks_for(bench):
    heater, _ = bench
    started = asyncio.get_running_loop().time()
    await heater.ramp(to=325.0, rate=5.0)
    assert asyncio.get_running_loop().time() - started == pytest.approx(60.0, rel=0.15)


async def test_a_setpoint_beyond_the_limits_never_reaches_the_wire(bench):
    heater, wire = bench
    with pytest.raises(LimitError, match="outside .* degC; nothing was sent"):
        await heater.ramp(to=5000.0, rate=1.0)
    assert not wire.sent


async def test_a_pulled_cable_names_the_device_and_the_remedy(bench):
    heater, wire = bench
    wire.unplug()
    with pytest.raises(LinkLost, match="heater: .*check the cable"):
        await heater.temperature.get()
