"""A lab goes on sampling, reading and recording whatever goes wrong in the model of a board's clock."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hal import Lab, open_run
from hal.clock.exchange import Exchange
from hal.model.reading import Quality
from hal.recording.clocks import RunClocks

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc")]

LAB = """
schema = 1
[devices.board]
driver = "insitu_mcu"
link = "firmware:posix"
record_inputs = [0]
record_rate = 500.0
"""


async def test_a_mistake_in_a_clock_s_model_ends_neither_a_lab_nor_its_run_and_costs_no_raw_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab.toml").write_text(LAB)
    async with Lab.open(tmp_path / "lab.toml") as lab:
        board = lab.devices["board"]
        with monkeypatch.context() as mistaken:
            mistaken.setattr("hal.clock.span.fit", lambda *given, **more: 1 / 0)
            async with lab.record(tmp_path / "runs", sample="gold") as run, asyncio.timeout(60):
                asked = board.clock.health(0).exchanges
                received = board.sampled.received
                told: list[Exchange] = []
                board.on_exchange(told.append)
                # It is asked on and on, so what asks also lives, and samples come.
                while len(told) < 10 or board.sampled.received < received + 500:
                    await asyncio.sleep(0.02)
                reading = await board.temperature.read()
                health = lab.clocks["board"].health(lab.context.timebase.now())
        assert asked == 0
        assert reading.quality is Quality.GOOD
        assert not health.usable
        assert "could not be worked out (ZeroDivisionError" in health.reason
        await board.exchange_time()
        assert lab.clocks["board"].health(lab.context.timebase.now()).usable
        assert not lab.trips
    with open_run(run.path) as record:
        assert len(record.streams["board"]) >= 500
        assert len(record.clocks["board"].exchanges) >= 10
        assert RunClocks(record).health()["board"].usable
