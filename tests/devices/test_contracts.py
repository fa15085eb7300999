"""What every model that claims a capability must do: one contract per capability, run over all of them.

Each model runs in memory against its own emulator, on the clock that jumps. Whoever adds a model adds
nothing here, unless it needs more than its defaults: then a line in `NEEDS`.
"""

import asyncio
import math
from typing import Any

import pytest

from hal.errors import LimitError
from hal.gate import Purpose, acting
from hal.model.capabilities import (
    Beam,
    FlowController,
    GasAnalyser,
    Gauge,
    Heater,
    Motor,
    Pump,
    SourceMeter,
    Thermometer,
    VacuumPump,
    Valve,
    lacking,
)
from hal.runtime import registry
from hal.testing import wired

NEEDS: dict[str, dict[str, Any]] = {
    "thorlabs_kdc101": {"options": {"stage": "MTS25-Z8"}, "homed": True},
    "trinamic_tmcm1110": {"options": {"pitch": 1.0, "travel": (-10.0, 10.0)}},
    "lakeshore_336": {"inputs": {"A": "temperature"}, "pid": (5.0, 20.0, 0.0), "options": {"range": "medium"}},
    "keithley_dmm6500": {"options": {"function": "temperature"}},
}
"""What `wired` is given for a model beyond its defaults."""
ELSEWHERE = {
    "insitu_mcu": "its far end is the firmware (tests/devices/test_insitu_mcu.py)",
    "mcu_valve": "its far end is the firmware (tests/devices/test_insitu_mcu.py)",
    "mcu_beam": "its far end is the firmware (tests/devices/test_insitu_mcu.py)",
    "dectris": "its commands are HTTP requests on connections of their own (tests/devices/test_dectris.py)",
    "replay": "it needs a film (tests/devices/test_replay_camera.py)",
}
"""Models that memory can't hold."""


def models(capability: type) -> Any:
    return pytest.mark.parametrize(
        "model",
        [n for n in registry.known() if n not in ELSEWHERE and capability in registry.driver(n).provides],
    )


def bench(model: str) -> Any:
    return wired(model, name="it", **NEEDS.get(model, {}))


@pytest.mark.parametrize("model", [n for n in registry.known() if n not in ELSEWHERE])
async def test_every_model_has_the_shape_it_claims_and_says_how_far_it_was_verified(model: str) -> None:
    async with bench(model) as (device, _wire):
        assert device.provides
        for capability in device.provides:
            assert lacking(device, capability) == []
        assert device.identity
        assert device.verified


@pytest.mark.parametrize("model", [n for n in registry.known() if n not in ELSEWHERE])
async def test_the_safe_state_works_as_the_first_thing_after_connecting_and_again(model: str) -> None:
    async with bench(model) as (device, _wire):
        with acting(Purpose.SAFE):
            await device.make_safe()
            await device.make_safe()


@pytest.mark.parametrize("model", [n for n in registry.known() if n not in ELSEWHERE])
async def test_every_reading_is_of_its_type_and_says_when_it_was(model: str) -> None:
    async with bench(model) as (device, _wire):
        await asyncio.sleep(2.0)
        before = device.context.timebase.now()
        for signal in device.signals():
            reading = await signal.read()
            after = device.context.timebase.now()
            assert reading.value is None or isinstance(reading.value, signal.dtype), signal.path
            assert reading.bound >= 0
            assert reading.time + reading.bound >= before - 60e9
            assert reading.time - reading.bound <= after


@models(Thermometer)
async def test_a_thermometer_follows_what_it_is_in(model: str) -> None:
    async with bench(model) as (device, _wire):
        await asyncio.sleep(2.0)
        assert await device.temperature.get() == pytest.approx(25.0, abs=2.0)


@models(Heater)
async def test_a_heater_ramps_holds_and_switches_off(model: str) -> None:
    async with bench(model) as (device, wire):
        loop = asyncio.get_running_loop()
        began = loop.time()
        rate = min(1.0, device.ramp_rate.limits.high)
        await device.ramp(to=60.0, rate=rate)
        took = loop.time() - began
        assert await device.temperature.get() == pytest.approx(60.0, abs=2.5)
        assert took > 0.7 * (60.0 - 25.0) / rate, "it went faster than it was told"
        await device.hold()
        here = await device.temperature.get()
        await asyncio.sleep(10.0)
        assert await device.temperature.get() == pytest.approx(here, abs=3.0)
        await device.off()
        await asyncio.sleep(60.0)
        assert await device.temperature.get() < 45.0
        assert wire.world.temperature < 45.0


@models(Heater)
@pytest.mark.parametrize("verb", ["setpoint", "ramp", "rate"])
async def test_a_heater_refuses_what_is_beyond_its_limits_before_anything_is_sent(model: str, verb: str) -> None:
    async with bench(model) as (device, wire):
        high = device.setpoint.limits.high
        assert math.isfinite(high)
        wire.forget()
        with pytest.raises(LimitError, match="nothing was sent"):
            match verb:
                case "setpoint":
                    device.setpoint.set(high + 1.0)
                case "ramp":
                    device.ramp(to=high + 1.0, rate=device.ramp_rate.limits.high)
                case "rate":
                    device.ramp(to=50.0, rate=device.ramp_rate.limits.high * 1.5)
        assert not wire.sent


@models(Heater)
async def test_a_ramp_left_early_holds_the_temperature(model: str) -> None:
    async with bench(model) as (device, _wire):
        rate = min(1.0, device.ramp_rate.limits.high)
        async with device.ramp(to=80.0, rate=rate):
            await asyncio.sleep(20.0 / rate)
        await asyncio.sleep(20.0)
        assert 30.0 < await device.temperature.get() < 70.0


@models(SourceMeter)
async def test_a_source_meter_sources_measures_and_switches_off(model: str) -> None:
    async with bench(model) as (device, wire):
        await device.source("voltage", 1.0, compliance=0.1)
        await asyncio.sleep(1.0)
        assert await device.voltage.get() == pytest.approx(1.0, rel=0.02)
        assert await device.current.get() == pytest.approx(1.0 / wire.world.resistance, rel=0.05)
        await device.source("current", 1e-3, compliance=2.0)
        await asyncio.sleep(1.0)
        assert await device.current.get() == pytest.approx(1e-3, rel=0.02)
        await device.off()
        await asyncio.sleep(1.0)
        assert wire.world.voltage == 0.0


@models(SourceMeter)
async def test_a_source_meter_sweeps(model: str) -> None:
    async with bench(model) as (device, wire):
        curve = await device.sweep("voltage", [0.0, 0.5, 1.0, -1.0], compliance=0.1, dwell=0.1)
        assert list(curve.levels) == [0.0, 0.5, 1.0, -1.0]
        slope = (curve.current[2] - curve.current[3]) / (curve.voltage[2] - curve.voltage[3])
        assert 1 / slope == pytest.approx(wire.world.resistance, rel=0.05)


@models(SourceMeter)
async def test_a_source_meter_obeys_compliance(model: str) -> None:
    async with bench(model) as (device, _wire):
        await device.source("voltage", 1.0, compliance=1e-3)
        await asyncio.sleep(1.0)
        assert abs(await device.current.get()) <= 1e-3 * 1.05


@models(SourceMeter)
@pytest.mark.parametrize(("level", "compliance"), [(1e4, 0.1), (-1e4, 0.1), (1.0, 1e3), (float("nan"), 0.1)])
async def test_a_source_meter_refuses_what_is_beyond_its_limits_before_anything_is_sent(
    model: str, level: float, compliance: float
) -> None:
    async with bench(model) as (device, wire):
        wire.forget()
        with pytest.raises(LimitError):
            device.source("voltage", level, compliance=compliance)
        assert not wire.sent


@models(FlowController)
async def test_a_flow_controller_reaches_its_setpoint_and_closes(model: str) -> None:
    async with bench(model) as (device, _wire):
        await device.set(5.0)
        await asyncio.sleep(15.0)
        assert await device.flow.get() == pytest.approx(5.0, abs=0.3)
        assert await device.setpoint.get() == pytest.approx(5.0, abs=0.05)
        assert await device.gas.get()
        await device.close()
        await asyncio.sleep(15.0)
        assert await device.flow.get() == pytest.approx(0.0, abs=0.3)


@models(FlowController)
async def test_a_flow_controller_refuses_more_than_its_range(model: str) -> None:
    async with bench(model) as (device, wire):
        wire.forget()
        for value in (device.setpoint.limits.high * 1.01, -1.0):
            with pytest.raises(LimitError):
                device.set(value)
        assert not wire.sent


@models(Gauge)
async def test_a_gauge_shows_a_pressure_in_pascal(model: str) -> None:
    async with bench(model) as (device, wire):
        await asyncio.sleep(2.0)
        pressure = await device.pressure.get()
        assert min(wire.world.column, wire.world.pressure) / 2 < pressure < 2 * max(wire.world.pressure, 0.1)


@models(Valve)
async def test_a_valve_opens_and_closes(model: str) -> None:
    async with bench(model) as (device, _wire):
        await device.open()
        assert await device.state.get() == "open"
        await device.close()
        assert await device.state.get() == "closed"


@models(Beam)
async def test_a_beam_is_blanked_in_the_safe_state(model: str) -> None:
    async with bench(model) as (device, _wire):
        await device.unblank()
        assert await device.blanked.get() is False
        with acting(Purpose.SAFE):
            await device.make_safe()
        assert await device.blanked.get() is True


@models(Pump)
async def test_a_pump_dispenses_a_volume_and_stops(model: str) -> None:
    async with bench(model) as (device, wire):
        loop = asyncio.get_running_loop()
        before, began = wire.world.pumped, loop.time()
        await device.dispense(20.0, rate=60.0)  # uL, uL/min: 20 s
        assert loop.time() - began == pytest.approx(20.0, rel=0.15)
        assert wire.world.pumped - before == pytest.approx(20.0, rel=0.05)
        await device.run(60.0)
        await asyncio.sleep(10.0)
        assert await device.rate.get() == pytest.approx(60.0, rel=0.02)
        await device.stop()
        await asyncio.sleep(1.0)
        assert wire.world.liquid == 0.0


@models(VacuumPump)
async def test_a_vacuum_pump_runs_up_and_down(model: str) -> None:
    async with bench(model) as (device, _wire):
        await device.on()
        fast = await device.speed.get()
        assert fast > 100.0
        async with device.off():
            await asyncio.sleep(60.0)
        assert await device.speed.get() < fast


@models(Motor)
async def test_a_motor_goes_where_it_is_told_and_stops(model: str) -> None:
    async with bench(model) as (device, _wire):
        start = await device.position.get()
        low, high = device.limits_of_travel.low, device.limits_of_travel.high
        away = start + (1.0 if start + 2.0 < high else -1.0)
        await device.move(away)
        assert await device.position.get() == pytest.approx(away, abs=0.01)
        async with device.move(start):
            await asyncio.sleep(0.05)
        stopped = await device.position.get()
        await asyncio.sleep(2.0)
        assert await device.position.get() == pytest.approx(stopped, abs=0.05)
        assert low < high


@models(Motor)
async def test_a_motor_refuses_to_leave_its_travel(model: str) -> None:
    async with bench(model) as (device, wire):
        wire.forget()
        for beyond in (device.limits_of_travel.high + 1.0, device.limits_of_travel.low - 1.0):
            with pytest.raises(LimitError):
                device.move(beyond)
        assert not wire.sent


@models(GasAnalyser)
async def test_a_gas_analyser_scans_and_its_filament_goes_off(model: str) -> None:
    async with bench(model) as (device, _wire):
        await device.filament.set(True)
        await asyncio.sleep(10.0)
        spectrum = await device.scan(1, 50)
        assert len(spectrum.mass) == len(spectrum.partial_pressure) >= 50
        assert spectrum.mass[0] == pytest.approx(1.0, abs=0.5)
        assert spectrum.mass[-1] == pytest.approx(50.0, abs=0.5)
        assert spectrum.partial_pressure.max() > 0.0
        await device.off()
        assert await device.filament.get() is False


@models(GasAnalyser)
async def test_a_gas_analyser_refuses_masses_it_has_not(model: str) -> None:
    async with bench(model) as (device, wire):
        wire.forget()
        for first, last in ((0, 50), (1, 100_000), (50, 1)):
            with pytest.raises(LimitError):
                device.scan(first, last)
        assert not wire.sent
