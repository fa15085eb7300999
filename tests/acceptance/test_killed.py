"""What is left of a run whose script dies: everything but the last second, aligned like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import hal

pytestmark = [pytest.mark.real_clock, pytest.mark.timeout(180)]

EXAMPLES = Path(__file__).parents[2] / "examples"

SCRIPT = """
import asyncio, resource, signal, sys
from hal import Lab
limit = int(sys.argv[2]) if len(sys.argv) > 2 else 0
if limit:
    from hal.recording.nexus import NexusWriter
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    abandon = NexusWriter.abandon
    def with_room(self):  # a limit of the process gives no room back; a disk does, when what was set aside goes
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        abandon(self)
    NexusWriter.abandon = with_room
async def main():
    async with Lab.open("lab.toml") as lab:
        async with lab.record("runs", sample="crash") as run:
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            ramp = lab.devices["heater"].ramp(to=100.0, rate=5.0)
            print(run.path, flush=True)
            await run.hold(float(sys.argv[1]))
            await ramp
asyncio.run(main())
"""


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    (tmp_path / "lab.toml").write_text((EXAMPLES / "lab.toml").read_text().replace("fps = 50", "fps = 200"))
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def start(bench: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "script.py", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    return subprocess.Popen(
        command, cwd=bench, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("alive", [1.0, 3.3])
def test_a_killed_script_loses_a_second_at_most_and_the_next_run_mends_what_it_left(bench, alive):
    for _ in range(3):  # where the machine stood still just then, nobody had a chance to write
        process = start(bench, 60)
        path = bench / process.stdout.readline().strip()
        time.sleep(alive)
        killed = time.time_ns()
        process.send_signal(signal.SIGKILL)
        process.communicate()

        with h5py.File(path, "r", swmr=True) as file:  # at once, by anybody's program
            assert "entry" in file
        with pytest.raises(OSError), h5py.File(path, "r"):
            pass
        with hal.open_run(path) as run:
            assert run.state == "interrupted"
            lost = killed - int(run.frames.arrival[-1]) if len(run.frames) else 0
        if lost < 1.3e9:  # the kill itself takes a moment
            break
    assert lost < 1.3e9

    process = start(bench, 0.5)
    process.communicate(timeout=100)
    with h5py.File(path, "r") as file:
        assert "entry" in file
    with hal.open_run(path) as run:
        assert run.state == "crashed"
        assert run.frame_valid.all()
        aligned = run.aligned["heater.temperature"]
        readings = run.signals["heater.temperature"]
        covered = (run.frame_time > readings.time[2]) & (run.frame_time < readings.time[-3])
        assert covered.any()
        assert aligned.valid[covered].all()
        assert np.all(aligned.uncertainty[covered] > 0)


def test_a_camera_left_filming_by_a_killed_script_is_stopped_and_films_anew(bench):
    emulators = subprocess.Popen(
        [sys.executable, "-m", "hal.cli", "emulate", "lab.toml", "--write", "emulated.toml", "--json"],
        cwd=bench, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert emulators.stdout.readline()
        (bench / "lab.toml").write_text((bench / "emulated.toml").read_text())
        process = start(bench, 60)
        first = bench / process.stdout.readline().strip()
        time.sleep(1.0)
        process.kill()
        process.communicate()
        process = start(bench, 1.0)
        second = bench / process.stdout.readline().strip()
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors[-2000:]
        for path in (first, second):
            with hal.open_run(path) as run:
                assert len(run.frames) > 50
        with hal.open_run(second) as run:
            assert any("was filming already" in event.text for event in run.events)
    finally:
        emulators.terminate()
        emulators.communicate(timeout=20)


def test_a_full_disk_is_told_and_what_was_written_before_can_be_read(bench):
    process = start(bench, 60, 1_500_000)
    path = bench / process.stdout.readline().strip()
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 1, errors[-2000:]
    assert "RecordError" in errors
    assert "disk full" in errors
    subprocess.run([sys.executable, "-m", "hal.cli", "repair", str(path)], check=True, cwd=bench, capture_output=True)
    with hal.open_run(path) as run:
        assert len(run.frames) > 100
