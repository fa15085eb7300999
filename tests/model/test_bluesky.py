"""Bluesky by shape: devices and operations are what its plans expect, with no import of it in the HAL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import toy
from bluesky import RunEngine, plans, protocols
from bluesky import plan_stubs as stubs
from bluesky.run_engine import call_in_bluesky_event_loop

from hal.testing import wired


async def test_devices_and_operations_have_the_shapes_bluesky_asks_for() -> None:
    async with wired(toy.ToyHeater, name="heater", world=toy.World()) as (heater, _):
        for shape in (protocols.Readable, protocols.Configurable, protocols.Movable, protocols.Stoppable):
            assert isinstance(heater, shape), shape
        assert isinstance(heater, protocols.HasHints)
        status = heater.gain.set(2.0)
        assert isinstance(status, protocols.Status)
        await status
        assert isinstance(heater.stop(), protocols.Status)
        assert isinstance(heater.label.set("x"), protocols.Status)


async def test_what_is_read_is_what_is_described() -> None:
    async with wired(toy.ToyHeater, name="heater", world=toy.World()) as (heater, wire):
        read, described = await heater.read(), await heater.describe()
        assert read.keys() == described.keys()
        assert len(wire.sent) == 2  # TEMP? and OUT?
        assert (await heater.read_configuration()).keys() == (await heater.describe_configuration()).keys()
        assert heater.hints == {"fields": ["heater-temperature"]}
        assert described["heater-temperature"] == {
            "source": "hal://heater.temperature", "dtype": "number", "shape": [], "units": "degC",
        }  # fmt: skip


@pytest.mark.real_clock
def test_a_run_engine_counts_and_scans_a_device() -> None:
    engine = RunEngine({}, context_managers=[])
    documents: list[tuple[str, dict[str, Any]]] = []
    engine.subscribe(lambda name, document: documents.append((name, document)))
    opened = wired(toy.ToyHeater, name="heater", world=toy.World())
    heater, wire = call_in_bluesky_event_loop(opened.__aenter__())
    try:
        engine(plans.count([heater], num=2))
        engine(plans.scan([heater], heater, 20.5, 21.0, 2))
        engine(stubs.mv(heater.gain, 3.0))
        assert wire.emulator.values["GAIN"] == 3.0
    finally:
        call_in_bluesky_event_loop(opened.__aexit__(None, None, None))
        engine.loop.call_soon_threadsafe(engine.loop.stop)
    events = [document["data"]["heater-temperature"] for name, document in documents if name == "event"]
    assert events == pytest.approx([20.0, 20.0, 20.5, 21.0], abs=0.05)
    (first, *_) = (document for name, document in documents if name == "descriptor")
    assert first["configuration"]["heater"]["data"]["heater-gain"] == 1.0
    assert first["hints"] == {"heater": {"fields": ["heater-temperature"]}}


async def test_a_failed_operation_tells_bluesky_why() -> None:
    async with wired(toy.ToyHeater, name="heater", world=toy.World()) as (heater, wire):
        wire.emulator.silent.add("GAIN")
        told: list[Any] = []
        status = heater.gain.set(2.0)
        status.add_callback(told.append)
        assert status.exception() is None
        await asyncio.sleep(3)
        assert told == [status]
        assert not status.success
        assert "no reply" in str(status.exception())
