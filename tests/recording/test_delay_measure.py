"""Fixed delays from runs whose truth is known: a lamp before a camera, a line led to a board."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ticking import BOOT, LATENCY, START, World, ticks_of

from hal.errors import ClockError
from hal.protocols.firmware import EdgeChunk
from hal.recording import NexusWriter, open_run
from hal.recording.delay_measure import FLASH, PULSE, camera_delay, link_delay

SHUTTER = 0.0011  # s from the pulse to the exposure that it announces
LENGTH = 0.005  # s of a flash
LINE = 1  # capture input that the line of the host is led to


class Lit(World):
    """The same camera, whose shutter is late; a lamp lights what it films, and a line is led to the board."""

    def __init__(self, *, height: float = 150.0, shutter: float = SHUTTER, flashes: int = 35, **given: Any) -> None:
        super().__init__(**given)
        self.height, self.shutter = height, shutter
        gaps = self.random.uniform(0.08, 0.13, flashes)
        self.flashes = START + 100_000_000 + np.rint(np.cumsum(gaps) * 1e9).astype(np.int64)
        self.line = START + 150_000_000 + np.rint(np.cumsum(self.random.uniform(0.25, 0.4, 10)) * 1e9).astype(np.int64)

    def write(self, writer: Any, begin: int, end: int) -> None:
        super().write(_Images(writer, self), begin, end)  # type: ignore[arg-type]
        for at, what in ((self.flashes, FLASH), (self.line, PULSE)):
            for moment in at[(at >= begin) & (at < end)].tolist():
                flash = {"boot": BOOT, "ticks": int(ticks_of(np.array(moment))), "length": LENGTH}
                data = flash if what == FLASH else [moment - 3_000, moment + 3_000]
                writer.append_event(moment + 9_000_000, "note", "board", what, json.dumps({what: data}))
        line = self.line[(self.line >= begin) & (self.line < end)]
        n = line.size
        if n:
            edges = EdgeChunk(
                BOOT, ticks_of(line), np.full(n, LINE, np.uint8), np.ones(n, bool), np.arange(n), np.zeros(1, int), 0,
                0, end + 5_000_000,
            )  # fmt: skip
            writer.ticks.append_pulses("board", edges)

    def lit(self, start: np.ndarray, exposure: np.ndarray) -> np.ndarray:
        """Images of 4 x 4 pixels."""
        begin = (start - START) * 1e-9 + self.shutter
        on = (self.flashes - START)[:, None] * 1e-9
        caught = np.clip(np.minimum(begin + exposure, on + LENGTH) - np.maximum(begin, on), 0.0, None).sum(axis=0)
        level = (60.0 if self.height > 0 else 210.0) + self.height * caught / exposure
        return np.rint(level[:, None, None] + self.random.normal(0.0, 2.0, (start.size, 4, 4))).astype(np.uint8)


class _Images:
    """A writer that gets the images that the lamp lit instead."""

    def __init__(self, writer: NexusWriter, world: Lit) -> None:
        self._writer, self._world = writer, world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def append_frames(self, camera: str, images: np.ndarray, columns: dict[str, Any]) -> None:
        start = START + np.rint(columns["detector_ticks"] / (1 - 31e-6)).astype(np.int64)
        self._writer.append_frames(camera, self._world.lit(start, columns["exposure_time"]), columns)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measured") / "run.nxs"
    Lit().record(path)
    return path


def test_flashes_stamped_by_the_clock_of_the_pulses_tell_the_shutter_s_delay_whatever_the_link_does(
    measured: Path,
) -> None:
    with open_run(measured) as run:
        found = camera_delay(run, "camera")
    # Its clock is 0.4 ms off lab time, and nobody knows; pulses and flashes share that.
    assert found.sigma < 10e-6
    assert abs(found.delay - SHUTTER) < 4 * found.sigma
    assert found.option == "pulse_latency"
    assert found.latency == -found.delay
    assert found.result()["pulse_latency_s"] == -found.delay
    told = [flash for flash in found.flashes if np.isfinite(flash.delay)]
    assert len(told) == found.found.events > 20
    assert max(abs(flash.delay - found.delay) for flash in told) < 5 * found.found.scatter


def test_each_flash_is_found_in_the_frame_that_was_exposed_then(measured: Path) -> None:
    world = Lit()
    with open_run(measured) as run:
        found = camera_delay(run, "camera")
    begin = world.true_start + round(SHUTTER * 1e9)
    end = begin + 3_000_000
    for flash, moment in zip(found.flashes, world.flashes.tolist(), strict=True):
        first = int(np.searchsorted(end, moment, side="right"))
        if first in world.lost or abs(int(begin[first]) - moment) < 100_000 or abs(int(end[first]) - moment) < 100_000:
            continue
        share = (min(int(end[first]), moment + round(LENGTH * 1e9)) - max(int(begin[first]), moment)) / 3e6
        assert flash.frame == first
        assert flash.share == pytest.approx(share, abs=0.03)


def test_by_arrivals_the_clock_of_the_flashes_is_part_of_the_doubt(tmp_path: Path) -> None:
    world, path = Lit(), tmp_path / "run.nxs"
    plan = world.plan()
    by_arrival = replace(plan, cameras=[replace(plan.cameras[0], frame_clock=None)])
    with NexusWriter(path, by_arrival) as writer:
        world.fill(writer)
    with open_run(path) as run:
        found = camera_delay(run, "camera")
    # Frames really arrive LATENCY after pulse and exposure's length, so LATENCY - SHUTTER after the exposure's end.
    assert found.option == "latency"
    assert found.sigma > 100e-6
    assert abs(found.latency - (LATENCY - SHUTTER)) < 3 * found.sigma


def test_a_beam_that_the_pulse_blanks_tells_as_much_as_a_lamp(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    Lit(height=-150.0).record(path)
    with open_run(path) as run:
        found = camera_delay(run, "camera", darker=True, light_delay=2e-4, light_sigma=3e-5)
        # The light came 0.2 ms after the pulse, we say (it did not): so the exposures began that much later still.
        assert abs(found.delay - SHUTTER - 2e-4) < 4 * found.found.sigma
        assert 3e-5 < found.sigma < 4e-5
        with pytest.raises(ClockError, match="brighter"):
            camera_delay(run, "camera")


def test_a_run_that_tells_no_delay_says_why(tmp_path: Path, measured: Path) -> None:
    dark, unlit, unstamped = (tmp_path / f"{name}.nxs" for name in ("dark", "unlit", "unstamped"))
    Lit(height=0.0).record(dark)
    World().record(unlit)
    Lit(pulses=False).record(unstamped)
    with open_run(dark) as run, pytest.raises(ClockError, match="use a brighter or longer flash"):
        camera_delay(run, "camera")
    with open_run(unlit) as run, pytest.raises(ClockError, match="no flash was noted in this run"):
        camera_delay(run, "camera")
    with (
        open_run(unstamped) as run,
        pytest.raises(ClockError, match="could not be matched to pulses: board stamped no"),
    ):
        camera_delay(run, "camera")
    with open_run(measured) as run:
        with pytest.raises(ClockError, match="eye: no camera of"):
            camera_delay(run, "eye")
        with pytest.raises(ClockError, match="no pulse came to input 3 of board; is the line led there"):
            link_delay(run, "board", number=3)
        with pytest.raises(ClockError, match="no pulse came to input 1 of board; is the line led there"):
            link_delay(run, "board", number=LINE, rising=False)
        with pytest.raises(ClockError, match="gauge: .* has no pulses that it stamped"):
            link_delay(run, "gauge", number=LINE)


def test_a_line_tells_the_two_ways_of_a_link(measured: Path) -> None:
    """The question takes 1 ms or more, the answer 0.2 ms or more."""
    with open_run(measured) as run:
        found = link_delay(run, "board", number=LINE)
    assert found.found.events == len(found.late) >= 8
    assert found.found.out == pytest.approx(1.0e-3, abs=5e-5)
    assert found.found.back == pytest.approx(0.2e-3, abs=5e-5)
    assert found.found.sigma < 20e-6
    assert found.evidence()["round_trip_s"] == pytest.approx(1.2e-3, abs=1e-4)
