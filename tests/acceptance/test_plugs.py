"""Whose plug ever is pulled during a run: a clear error, everybody else safe, the record whole."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from pathlib import Path

import pytest

import hal
from hal import Lab
from hal.errors import InterlockTripped, LinkLost

pytestmark = pytest.mark.real_clock

LINKS = {
    "firmware:heater": "heater",
    "emulator:warmth": "warmth",
    "emulator:body": "body",
    "emulator:bias": "bias",
    "emulator:pump": "pump",
    "emulator:camera": "camera",
    "gas_bus": "argon",
    "relays": "beam",
    "vacuum": "column",
}


@pytest.fixture
def lab_file(tmp_path: Path) -> Path:
    text = files("hal.demo").joinpath("lab.toml").read_text()
    text = text.replace('on_link_lost = "reconnect"', 'on_link_lost = "safe"')
    text = text.replace("firmware:mps2", "firmware:posix")  # the same core; QEMU takes half a processor
    text = text.partition("[telemetry]")[0]  # it comes last
    text = text.replace(
        'driver = "merlin"', 'driver = "merlin"\nemulator = { fps = 100 }'
    )  # the film is not what this is about
    path = tmp_path / "lab.toml"
    path.write_text(text)
    return path


async def bring_to_life(lab: Lab) -> None:
    """Heat, flow, bias, pump: something to be switched off everywhere."""
    d = lab.devices
    await d["argon_valve"].open()
    await d["beam"].unblank()
    await d["argon"].set(10.0)
    await d["pump"].run(rate=30.0)
    await d["bias"].source("voltage", 0.5, compliance=0.01)
    await d["heater"].setpoint.set(100.0)
    await d["warmth"].setpoint.set(60.0)


class EndedByItself(Exception):
    """The board ended a ramp before anybody did."""


def still_on(lab: Lab, but: str) -> list[str]:
    """What is not in its safe state in the emulated world, the instruments behind the pulled plug aside."""
    world = lab.emulation.bench.world
    lost = {name for name in lab.devices if lab.config.link_of(name)[0] == but}
    found = {
        "heater": world.power > 0,
        "warmth": world.body_power > 0,
        "bias": world.voltage != 0,
        "pump": world.liquid > 0,
        "argon": world.lines["argon"].flow > 0.1,
        "argon_valve": world.lines["argon"].open,
        "beam": not world.blanked,
    }
    return [name for name, on in found.items() if on and name not in lost]


async def still_on_after_a_while(lab: Lab, but: str) -> list[str]:
    """The same, after as long as gas takes to stop flowing at most."""
    for _ in range(40):
        if not still_on(lab, but):
            break
        await asyncio.sleep(0.1)
    return still_on(lab, but)


@pytest.mark.parametrize("link", LINKS)
async def test_a_pulled_plug_names_device_and_remedy_and_leaves_the_rest_safe(link, lab_file, tmp_path):
    on = None
    path = None
    with pytest.raises(LinkLost, match=rf"{LINKS[link]}.*check the cable"):
        async with Lab.open(lab_file) as lab:
            async with lab.record(tmp_path / "runs", sample="plug") as run:
                path = run.path
                await bring_to_life(lab)
                await run.hold(0.5)
                lab.emulation.links[link].unplug()
                try:
                    await run.hold(30)
                finally:
                    on = await still_on_after_a_while(lab, link)
    assert on == []
    assert path is not None
    with hal.open_run(path) as run:
        assert run.state == "finished"
        assert len(run.frames) > 40
        assert run.aligned["cell.pressure"].valid.any()
        assert any(event.kind == "link" and "check the cable" in event.text for event in run.events)
        assert any(event.kind == "trip" for event in run.events)


async def test_a_board_whose_plug_is_pulled_leaves_a_cold_heater_and_a_whole_record(lab_file, tmp_path):
    lab_file.write_text(lab_file.read_text().replace("firmware:posix", "firmware:mps2"))
    hot = cold = power = 0.0
    for left in (3, 2, 1, 0):
        try:
            with pytest.raises(LinkLost, match=r"heater.*check the cable"):
                async with Lab.open(lab_file) as lab:
                    async with lab.record(tmp_path / "runs", sample="plug") as run:
                        world = lab.emulation.bench.world
                        ramp = lab.devices["heater"].ramp(to=300.0, rate=100.0)
                        while world.temperature < 150:
                            if ramp.done:
                                raise EndedByItself(str(ramp.exception()))
                            await asyncio.sleep(0.02)
                        hot = world.temperature
                        lab.emulation.links["firmware:heater"].unplug()
                        try:
                            await ramp
                        finally:
                            await asyncio.sleep(2)
                            cold, power = world.temperature, world.power
            break
        except EndedByItself as error:  # the machine stood still for longer than the board's lease
            if not left or "no heartbeat within the lease" not in str(error):
                raise
    assert power == 0
    assert cold < hot / 2
    with hal.open_run(run.path) as record:
        assert record.state == "finished"
        assert len(record.pulses["heater"]) > 100
        assert record.frame_valid.all()  # by their pulses, or else by their arrival
        with_heat = record.aligned["heater.temperature"]
        assert with_heat.valid.any()
        assert not with_heat.valid[-1]  # nobody knows how hot it was after the last word


async def test_a_link_that_may_reconnect_costs_no_more_than_the_readings_between(lab_file, tmp_path):
    lab_file.write_text(lab_file.read_text().replace("[links.relays]", '[links.relays]\non_link_lost = "reconnect"'))
    async with Lab.open(lab_file) as lab, lab.record(tmp_path / "runs", sample="plug") as run:
        await lab.devices["argon_valve"].open()
        lab.emulation.links["relays"].unplug()
        await run.hold(1.0)
        assert lab.devices["argon_valve"].state.last.value is None  # unknown is unknown at once
        await lab.emulation.links["relays"].plug()
        assert await lab.devices["argon_valve"].state.get() == "open"
        await lab.devices["argon_valve"].close()
    with hal.open_run(run.path) as record:
        qualities = {int(q) for q in record.signals["argon_valve.state"].quality}
        assert {0, 3} <= qualities


async def test_after_a_trip_only_safe_state_writes_reach_any_wire(lab_file):
    with pytest.raises(InterlockTripped, match="vacuum.*hal ack"):
        async with Lab.open(lab_file) as lab:
            await bring_to_life(lab)
            await lab.devices["heater"].setpoint.set(25.0)
            ramp = lab.devices["heater"].ramp(to=500.0, rate=5.0)
            await asyncio.sleep(1.0)
            lab.emulation.bench.world.leak = 1.0  # Pa: a window bursts
            while lab.trip is None:
                await asyncio.sleep(0.01)
            with pytest.raises(InterlockTripped):
                await ramp
            with pytest.raises(InterlockTripped):
                await lab.devices["heater"].setpoint.set(50.0)
            with pytest.raises(InterlockTripped):
                await lab.devices["argon"].set(3.0)
            assert await still_on_after_a_while(lab, "") == []
            assert lab.emulation.bench.world.temperature < 60
            raise lab.trip.error
