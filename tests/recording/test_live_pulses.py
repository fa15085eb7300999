"""A lab that films and whose board stamps the pulses: frames have their exposures by them while the run goes on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from hal import Lab, open_run
from hal.frames.view import Frame
from hal.instrument.camera import CameraInstrument

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc"), pytest.mark.timeout(180)]

LAB = """
schema = 1
[devices.board]
driver = "devices.insitu_mcu.driver:InsituMcu"
link = "firmware:posix"

[devices.camera]
driver = "merlin"
frame_clock = "board"
emulator = { fps = 100 }
"""


async def test_frames_have_their_exposures_by_pulses_while_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(LAB)
    seen: list[Frame] = []
    async with Lab.open(tmp_path / "lab.toml") as lab:
        camera = lab.devices["camera"]
        assert isinstance(camera, CameraInstrument)
        assert camera.matched is None
        async with lab.record(tmp_path / "runs", sample="gold") as run:
            deadline = time.monotonic() + 60
            async for frame in camera.frames():
                seen.append(frame)
                if sum(f.by_pulse for f in seen[-300:]) > 150 or time.monotonic() > deadline:
                    break
            share, bound = camera.matched, camera.exposure_bound
            better = False
            while not better and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
                with open_run(run.path) as record:  # the file says so too, before the run ends
                    bounds = record.frame_bound[record.frame_valid]
                    better = bounds.size > 100 and bool((bounds <= 2 * (bound or 0)).sum() > 100)
        assert camera.matched is None
    assert better
    assert share is not None
    assert share > 0.1
    told = [frame for frame in seen if frame.by_pulse]
    assert len(told) > 150
    with open_run(run.path) as record:
        row = {int(number): k for k, number in enumerate(record.frames.number)}
        at = np.array([row[frame.number] for frame in told])
        assert (record.frames.pulse[at] >= 0).all()
        films = next(event for event in record.events if event.text == "films")
        assert films.data["since"] < record.frame_time.min()  # so no exposure was before it, and the matcher knows
        final, known = record.frame_time[at], record.frame_bound[at]
    live = np.array([frame.exposure.middle for frame in told])
    stated = np.array([frame.exposure.bound for frame in told])
    assert (np.abs(live - final) <= stated + known).all()
    period = 10_000_000
    assert np.abs(live - final).max() < period // 4  # none is another's
