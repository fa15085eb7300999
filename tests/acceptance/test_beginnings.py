"""Runs that end before they have begun, and labs that end well: nothing is left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.resources import files
from pathlib import Path

import aiomqtt
import pytest

import hal
from hal import Lab
from hal.errors import InterlockTripped, RecordError
from hal.recording.run import Run
from hal.telemetry.broker import EmbeddedBroker

pytestmark = pytest.mark.real_clock


@pytest.fixture
def lab_file(tmp_path: Path, machine_to_oneself: Callable[[], AbstractContextManager[None]]) -> Iterator[Path]:
    path = tmp_path / "lab.toml"
    path.write_text((Path(__file__).parents[2] / "examples" / "lab.toml").read_text())
    with machine_to_oneself():  # a second without a reading is a hole, and said to be one
        yield path


async def test_a_trip_while_a_run_begins_leaves_a_file_that_is_whole(lab_file, tmp_path, monkeypatch):
    begin = Run._first_readings

    async def slow(run: Run) -> None:
        await begin(run)
        run._lab.emulation.bench.world.leak = 1.0  # Pa
        while run._lab.trip is None:
            await asyncio.sleep(0.01)

    monkeypatch.setattr(Run, "_first_readings", slow)
    with pytest.raises(InterlockTripped):
        async with Lab.open(lab_file) as lab:
            lab.interlock(lab.devices["gauge"].pressure.below(1e-3))
            async with lab.record(tmp_path / "runs"):
                await asyncio.sleep(10)
    runs = list((tmp_path / "runs").iterdir())
    assert all(path.suffix == ".nxs" for path in runs), runs  # no lock, nothing set aside
    for path in runs:
        with hal.open_run(path) as run:
            assert run.state == "finished"
            assert "InterlockTripped" in run.summary["ended_early_by"]


async def test_a_second_recording_at_once_is_refused_and_the_first_goes_on(lab_file, tmp_path):
    async with Lab.open(lab_file) as lab:
        async with lab.record(tmp_path / "runs") as run:
            with pytest.raises(RecordError, match="still under way"):
                async with lab.record(tmp_path / "runs"):
                    pass
            await run.hold(0.5)
        with pytest.raises(RecordError, match="is over"):
            run.note("too late")
        async with lab.record(tmp_path / "runs") as second:
            await second.hold(0.5)
    with hal.open_run(second.path) as record:
        assert record.aligned["heater.setpoint"].valid.all()  # known from before it began
    assert len(list((tmp_path / "runs").glob("*.nxs"))) == 2


async def test_a_directory_that_cannot_be_made_is_told_in_a_sentence(lab_file, tmp_path):
    (tmp_path / "file").write_text("")
    async with Lab.open(lab_file) as lab:
        with pytest.raises(RecordError, match="name another directory"):
            async with lab.record(tmp_path / "file"):
                pass


@pytest.mark.needs_tool("mosquitto")
async def test_a_lab_that_closes_well_leaves_no_alarm_behind(lab_file):
    broker = EmbeddedBroker()
    await asyncio.to_thread(broker.open)
    try:
        url = f'[telemetry]\nbroker = "mqtt://127.0.0.1:{broker.port}"\n'
        lab_file.write_text(lab_file.read_text() + url)
        async with Lab.open(lab_file):
            await asyncio.sleep(1.0)
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe("insitu-meta/+/alarms/trip")
            async with asyncio.timeout(5):
                message = await anext(aiter(client.messages))
        assert json.loads(message.payload)["tripped"] is False
    finally:
        await asyncio.to_thread(broker.close)


def test_the_demo_needs_nothing_but_what_is_installed_with_it():
    assert files("hal.demo").joinpath("lab.toml").is_file()
