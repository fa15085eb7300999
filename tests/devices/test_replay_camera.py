"""Films in files, shown as a camera would film them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from devices.merlin.codec import PREFIX_SIZE
from devices.merlin.stream import FrameWriter
from devices.replay.driver import Replay
from devices.replay.files import open_film

sys.path.insert(0, os.path.dirname(__file__))
from streams import filmed

START = 1_767_225_600_000_000_000


@pytest.fixture
def mib(tmp_path: Path) -> Path:
    """Forty frames, 5 ms apart, but for a pause of 50 ms after the twentieth."""
    number = np.arange(1, 41)
    times = START + number * 5_000_000 + 50_000_000 * (number > 20)
    pixels = np.repeat(number, 64).astype(np.uint8).reshape(40, 64)
    blocks = FrameWriter(8, 8, 12, 4_000_000).frames(number, times, pixels)
    path = tmp_path / "film.mib"
    path.write_bytes(b"".join(block[:, PREFIX_SIZE:].tobytes() for block in blocks))
    return path


def test_a_mib_file_tells_numbers_times_and_pixels(mib: Path) -> None:
    film = open_film(str(mib))
    assert film.number.tolist() == list(range(1, 41))
    assert np.diff(film.start)[[0, 19, 20]].tolist() == [5_000_000, 55_000_000, 5_000_000]
    assert (film.images(3, 5)[:, 0, 0] == [4, 5]).all()
    assert set(film.exposure_ns.tolist()) == {4_000_000}


def test_an_hdf5_file_is_read_with_its_times(tmp_path: Path) -> None:
    path = tmp_path / "film.h5"
    with h5py.File(path, "w") as file:
        file["a/stack"] = np.arange(3 * 4, dtype="u2").reshape(3, 2, 2)
        file["a/seconds"] = [0.0, 0.5, 1.5]
    film = open_film(str(path), "a/stack", "a/seconds")
    assert film.start.tolist() == [0, 500_000_000, 1_500_000_000]
    assert film.shape == (2, 2)


@pytest.mark.parametrize("content", [b"", b"no film", b"MQ1,000001,00384,01,0256,0256,R64,"])
def test_what_is_no_film_is_refused_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    for name in ("film.mib", "film.h5"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="film"):
            open_film(str(tmp_path / name))
    with pytest.raises(ValueError, match="no such file"):
        open_film(str(tmp_path / "other.mib"))


@pytest.mark.real_clock
async def test_a_film_runs_at_the_pace_it_was_taken(mib: Path) -> None:
    async with filmed(Replay, path=str(mib)) as film:
        async with film.camera.filming(), asyncio.timeout(20):
            async for frame in film.camera.frames():
                assert (frame.image == frame.number).all()
                if frame.number == 40:
                    break
        frames = film.frames
        assert frames.number.tolist() == list(range(1, 41))
        steps = np.diff(frames.start[frames.valid])
        assert steps.max() == pytest.approx(55e6, rel=1e-3)
        assert np.median(steps) == pytest.approx(5e6, rel=1e-3)


@pytest.mark.real_clock
async def test_a_film_in_a_loop_begins_again_with_numbers_that_go_on(mib: Path) -> None:
    async with filmed(Replay, path=str(mib), fps=400, loop=True) as film:
        async with film.camera.filming(), asyncio.timeout(20):
            async for frame in film.camera.frames():
                if frame.number > 100:
                    break
        assert (np.diff(film.frames.number) == 1).all()
        assert await film.camera.dropped.get() == 0
