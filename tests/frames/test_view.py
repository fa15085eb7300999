"""Views of the film as a script meets them, on a camera reduced to its outline."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from hal.clock.timebase import Timebase
from hal.errors import InterlockTripped, Refused
from hal.frames import view as module
from hal.frames.chunk import FrameChunk
from hal.frames.frame import FrameTimes
from hal.frames.numbering import Numbered
from hal.frames.view import Frame, Stimuli, View
from hal.model.context import Context
from hal.model.status import Status

T0 = 1_750_000_000_000_000_000


def chunk(first: int, n: int, *, valid: bool = True) -> FrameChunk:
    """n frames of 1 ms, numbered from `first`."""
    number = np.arange(first, first + n)
    raw = FrameChunk.raw(np.full((n, 2, 3), first, np.uint8), number, number * 1000, np.full(n, 900), T0 + number)
    start = T0 + number * 1_000_000
    times = FrameTimes.of(start, start + 1_000_000, 5, valid=np.full(n, valid))
    index = Numbered(np.zeros(n, np.int32), number - 1, np.ones(n, np.bool_), np.zeros(n, np.uint8))
    return raw.with_times(times, index)


class Camera:
    """Films whenever somebody looks."""

    def __init__(self) -> None:
        self.context = Context(Timebase.of_loop(asyncio.get_running_loop().time))
        self.stimuli: Stimuli | None = None
        self.views: set[View] = set()
        self.users = 0

    @asynccontextmanager
    async def filming(self) -> AsyncIterator[None]:
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1

    def send(self, part: FrameChunk) -> None:
        for view in self.views:
            view.put(part)


class Heated:
    """A heater at 1 K per ms."""

    def at(self, path: str, time_ns: int) -> tuple[float, float, bool, bool]:
        assert path == "heater.temperature"
        return (time_ns - T0) * 1e-6, 0.1, time_ns < T0 + 10_000_000, False


async def test_frames_come_in_order_across_chunks() -> None:
    camera, seen = Camera(), []
    asyncio.get_running_loop().call_later(1.0, camera.send, chunk(1, 3))
    asyncio.get_running_loop().call_later(2.0, camera.send, chunk(4, 2))
    async for frame in View(camera):
        seen.append(frame.number)
        if frame.number == 5:
            break
    assert seen == [1, 2, 3, 4, 5]


async def test_leaving_the_loop_early_lets_go_of_the_camera_though_the_view_is_kept() -> None:
    camera = Camera()
    view = View(camera)
    asyncio.get_running_loop().call_later(1.0, camera.send, chunk(1, 3))
    async for _ in view:
        assert camera.users == 1
        break
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert camera.users == 0
    assert not camera.views
    assert not camera.context.pending


async def test_a_view_that_falls_behind_skips_the_oldest_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKLOG", 25)
    camera = Camera()
    view = View(camera)

    def flood() -> None:
        for k in range(10):
            camera.send(chunk(1 + 10 * k, 10))

    asyncio.get_running_loop().call_later(1.0, flood)
    seen = []
    async for frame in view:
        seen.append(frame.number)
        if frame.number == 100:
            break
    assert seen == list(range(81, 101))
    assert view.skipped == 80


async def test_a_view_ends_with_its_operation_though_no_frame_comes() -> None:
    camera = Camera()
    async for _ in View(camera, Status(asyncio.sleep(3.0))):
        pytest.fail("there was no frame")
    assert asyncio.get_running_loop().time() == pytest.approx(3.0)
    assert camera.users == 0


async def test_a_view_whose_operation_is_over_does_not_start_the_camera() -> None:
    camera, status = Camera(), Status(asyncio.sleep(0.1))
    await status
    async for _ in View(camera, status):
        pytest.fail("there was no frame")
    assert asyncio.get_running_loop().time() == pytest.approx(0.1)


async def test_the_error_of_the_operation_comes_out_of_the_loop() -> None:
    async def ramp() -> None:
        await asyncio.sleep(1.0)
        raise Refused("heater", "sensor open; check the holder")

    with pytest.raises(Refused, match="sensor open"):
        async for _ in View(Camera(), Status(ramp())):
            pass


async def test_an_operation_held_by_hand_ends_the_view_quietly() -> None:
    status = Status(asyncio.sleep(60.0))
    asyncio.get_running_loop().call_later(1.0, status.cancel)
    async for _ in View(Camera(), status):
        pass
    assert asyncio.get_running_loop().time() == pytest.approx(1.0)


async def test_a_trip_ends_a_waiting_view_with_its_error() -> None:
    camera = Camera()
    trip = InterlockTripped("vacuum: gauge.pressure < 1e-3 Pa failed")
    asyncio.get_running_loop().call_later(1.0, camera.context.fail_pending, trip)
    with pytest.raises(InterlockTripped, match="vacuum"):
        async for _ in View(camera):
            pass


async def test_a_trip_comes_before_frames_that_wait() -> None:
    camera, seen = Camera(), 0
    asyncio.get_running_loop().call_later(1.0, camera.send, chunk(1, 100))

    async def look() -> None:
        nonlocal seen
        async for _ in View(camera):
            seen += 1
            if seen == 3:
                camera.context.fail_pending(InterlockTripped("vacuum"))

    with pytest.raises(InterlockTripped):
        await look()
    assert seen == 3


async def test_stepping_by_hand_works_too() -> None:
    camera = Camera()
    view = View(camera)
    asyncio.get_running_loop().call_later(1.0, camera.send, chunk(7, 2))
    assert (await anext(view)).number == 7
    assert (await anext(view)).number == 8
    await view.aclose()
    assert camera.users == 0


def test_a_frame_knows_its_exposure_and_its_place() -> None:
    frame = Frame(chunk(11, 5), 2)
    assert (frame.number, frame.index, frame.ticks, frame.arrival) == (13, 12, 13000, T0 + 13)
    exposure = frame.exposure
    assert (exposure.start, exposure.stop, exposure.bound) == (T0 + 13_000_000, T0 + 14_000_000, 5)
    assert exposure.valid


def test_a_frame_tells_what_the_specimen_felt_in_the_middle_of_its_exposure() -> None:
    frame = Frame(chunk(3, 1), 0, Heated())
    assert frame["heater.temperature"] == pytest.approx(3.5)
    assert frame.stimulus("heater.temperature") == (pytest.approx(3.5), 0.1, True, False)


@pytest.mark.parametrize(
    ("part", "stimuli"),
    [
        pytest.param(chunk(3, 1), None, id="nobody_knows_the_stimuli"),
        pytest.param(chunk(3, 1, valid=False), Heated(), id="the_exposure_is_unknown"),
        pytest.param(chunk(30, 1), Heated(), id="the_stimulus_is_unknown_then"),
    ],
)
def test_what_is_not_known_is_nan(part: FrameChunk, stimuli: Any) -> None:
    assert math.isnan(Frame(part, 0, stimuli)["heater.temperature"])


def test_nobody_can_spoil_the_pixels_for_the_others() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Frame(chunk(1, 1), 0).image[0, 0] = 9
