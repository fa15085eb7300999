"""Runs of a lab whose emulated board stamps the detector's pulses: the real firmware, real wires, a real kill."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from hal import Lab, open_run
from hal.capabilities import Camera, Heater
from hal.errors import RecordError
from hal.recording.again import align_again
from hal.recording.realign import from_recording, realigned
from hal.recording.repair import repair

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc"), pytest.mark.timeout(180)]

LAB = """
schema = 1
[devices.board]
driver = "devices.insitu_mcu.driver:InsituMcu"
link = "firmware:posix"
record_inputs = [0, 2]
record_rate = 2000.0
emulator = { seed = 5 }

[devices.camera]
driver = "merlin"
frame_clock = "board"
frame_input = 0
emulator = { fps = 50 }
"""
SCRIPT = """
import asyncio
from hal import Lab
async def main():
    async with Lab.open("lab.toml") as lab:
        async with lab.record("runs", sample="killed") as run:
            print(run.path, flush=True)
            await run.hold(60)
asyncio.run(main())
"""


class InSitu(Lab):
    board: Heater
    camera: Camera


@pytest.fixture
def bench(tmp_path: Path, machine_to_oneself: Callable[[], AbstractContextManager[None]]) -> Iterator[Path]:
    (tmp_path / "lab.toml").write_text(LAB)
    with machine_to_oneself():  # a frame that is nowhere prompt says nothing of its pulse
        yield tmp_path


async def test_a_run_has_its_exposures_by_the_boards_pulses_and_its_inputs_at_every_sample(bench: Path) -> None:
    async with InSitu.open(bench / "lab.toml") as lab:
        async with lab.record(bench / "runs", sample="gold") as run:
            await run.hold(6.0)
        assert lab.emulation is not None
        detector = lab.emulation.emulator("camera")
        truth, born = detector.truth(), (lab.emulation.bench.now or 0.0) - detector.lived
        monotonic = lab.context.timebase.now() - time.monotonic_ns()
        summary = run.summary()
        board = lab.devices["board"]
        received, lost = board.sampled.received // 2, (board.sampled.dropped + board.sampled.lost) // 2
    with open_run(run.path) as record:
        frames, camera = record.frames, run.result["cameras"]["camera"]
        assert camera["pulses"]["captured"] >= len(frames) > 200  # at a rate that a machine that stalls keeps up with
        assert camera["pulses"]["matched"] + camera["pulses"]["inferred"] == len(frames)
        assert frames.valid.all()
        place = {int(number): k for k, number in enumerate(truth.number)}
        rows = np.array([place[int(number)] for number in frames.number])
        epoch = int(frames.time[0])  # doubles hold no nanoseconds since 1970
        true = (truth.middle[rows] + born) * 1e9 + (monotonic - epoch)
        error = (frames.time - epoch) - true
        # A look at the counter through the page is up to a scheduler's slice late.
        assert np.abs(error).max() < frames.bound.max() + 1e6
        assert np.percentile(np.abs(error - np.median(error)), 99) < frames.bound.max() < 1e6
        stream = record.streams["board"]
        assert len(stream) == received > 1000
        # On a busy machine the board may drop some; each is accounted for, and no value stands in for it.
        assert stream.missing <= lost
        taken, period = stream.ticks, int(stream.period[0])
        opened = record.pulses["board"].ticks[frames.pulse]
        shut = opened + (frames.stop - frames.start) // 1000  # a tick is a microsecond
        first, last = np.searchsorted(taken, opened - period), np.searchsorted(taken, shut + period)
        inside = (first > 0) & (last < len(taken))
        whole = inside & (taken[last.clip(max=len(taken) - 1)] - taken[first - 1] == (last - first + 1) * period)
        assert whole.sum() > 50
        assert record.aligned["board.input_0"].valid[whole].all()
        assert len(record.clocks["board"].exchanges) == run.result["clocks"]["board"]["exchanges"] >= 5
        assert [event.kind for event in record.events].count("clock") >= 2  # where the wall clock stood
        again = realigned(record)
        assert record.origin is not None
    assert "clock of board: " in summary
    assert "pulses at input 0 of board" in summary
    assert again.matchings["camera"].matched == camera["pulses"]["matched"]
    assert align_again(run.path).origin.digest == record_digest(run.path)


def test_a_lab_killed_while_it_records_leaves_a_run_that_is_mended_and_aligned_by_pulses(bench: Path) -> None:
    (bench / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=bench, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stdout is not None
    path = bench / process.stdout.readline().strip()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with open_run(path) as run:
            clock, samples = run.clocks["board"].exchanges, run.streams["board"]
            if len(run.pulses["board"]) > 80 < len(run.frames) and len(clock) > 5 and len(samples) > 2000:
                break
        time.sleep(0.2)
    process.kill()
    process.communicate()
    assert repair(path, from_recording).realigned == ("camera",)
    with open_run(path) as run:
        assert run.state == "crashed"
        assert len(run.pulses["board"]) > 50
        assert (run.frames.pulse >= 0).sum() > 50
        assert np.median(run.frame_bound[run.frame_valid]) < 3_000_000
    assert align_again(path).origin.digest == record_digest(path)


async def test_a_run_that_can_t_be_aligned_is_closed_all_the_same_and_says_so(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("hal.recording.realign.by_arrival", broken)
    with pytest.raises(RecordError, match="everything is recorded, and can't be aligned .*a mistake of ours"):
        async with InSitu.open(bench / "lab.toml") as lab:
            async with lab.record(bench / "runs", sample="gold") as run:
                await run.hold(1.0)
    monkeypatch.undo()
    with open_run(run.path) as record:
        assert record.state == "finished"
        assert record.origin is None
        assert len(record.frames) > 20
        assert any("can't be aligned" in event.text for event in record.events)
    assert align_again(run.path, run.path).cameras["camera"].frames > 20


def record_digest(path: Path) -> str:
    """Of the alignment that stands in the file."""
    with open_run(path) as run:
        assert run.origin is not None
        return run.origin.digest
