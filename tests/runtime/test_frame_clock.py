"""A camera whose frame pulses a board stamps, and the clocks of a lab: with the board's firmware on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hal import Lab
from hal.capabilities import FrameClock
from hal.errors import CapabilityError
from hal.protocols.firmware import EdgeChunk

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc")]

LAB = """
schema = 1
[devices.eye]
driver = "merlin"
emulator = { fps = 500, drop = 0.05 }
frame_clock = "board"
frame_input = 0
[devices.board]
driver = "insitu_mcu"
link = "firmware:posix"
"""


@pytest.fixture
def lab_file(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(LAB)
    return path


@pytest.fixture
def slower(lab_file: Path) -> Path:
    """Its camera films so slowly that no machine has frames queue, whose arrivals would tell no time."""
    lab_file.write_text(LAB.replace("fps = 500", "fps = 100"))
    return lab_file


class Edges:
    """What a board told of its capture inputs."""

    def __init__(self, board: Any) -> None:
        self.chunks: list[EdgeChunk] = []
        board.on_pulses(self.chunks.append)

    def count(self, *, rising: bool) -> int:
        return sum(int(np.count_nonzero(chunk.rising == rising)) for chunk in self.chunks)


async def test_a_film_has_a_pulse_of_every_exposure_and_nobody_has_to_ask_for_it(lab_file: Path) -> None:
    async with Lab.open(lab_file) as lab:
        eye, board = lab.devices["eye"], lab.devices["board"]
        assert eye.frame_clock == (board, 0)
        edges = Edges(board)
        for _ in range(2):
            async with eye.filming():
                await asyncio.sleep(0.6)
        exposures = lab.emulation.emulator("eye").truth().number
        assert len(exposures) > 200
        assert edges.count(rising=True) == len(exposures)  # also of those whose frame was never sent
        assert edges.count(rising=False) == 0


async def test_the_end_of_a_film_leaves_others_their_pulses(lab_file: Path) -> None:
    async with Lab.open(lab_file) as lab:
        eye, board = lab.devices["eye"], lab.devices["board"]
        edges = Edges(board)
        async with board.capturing(rising=(), falling=(0,)):
            async with eye.filming():
                await asyncio.sleep(0.4)
            before = edges.count(rising=True), edges.count(rising=False)
            eye.frame_clock = None  # films on without pulses of its own
            async with eye.filming():
                await asyncio.sleep(0.4)
        assert edges.count(rising=True) == before[0] > 100
        assert edges.count(rising=False) > before[1] + 100


async def test_a_camera_taken_to_its_safe_state_stops_its_pulses_too(lab_file: Path) -> None:
    async with Lab.open(lab_file) as lab:
        eye, board = lab.devices["eye"], lab.devices["board"]
        await eye.arm()
        await asyncio.sleep(0.3)
        await lab.safe_state()
        captured = await board.pulses.get()
        assert captured > 50
        async with board.capturing(rising=(1,)):
            await asyncio.sleep(0.2)
        assert await board.pulses.get() == captured


async def test_a_board_that_turns_out_to_capture_nothing_is_no_frame_clock(
    lab_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from devices.insitu_mcu.driver import InsituMcu
    from hal.protocols.firmware_gen import Capability

    offers = InsituMcu.offers
    monkeypatch.setattr(InsituMcu, "offers", lambda self, what: what is not Capability.CAPTURE and offers(self, what))
    with pytest.raises(CapabilityError, match=r"devices\.eye\.frame_clock: board is no FrameClock: it does not claim"):
        async with Lab.open(lab_file):
            pass


async def test_a_lab_knows_its_clocks_and_how_good_they_are(slower: Path) -> None:
    class Looking(Lab):
        board: FrameClock

    async with Looking.open(slower) as lab:
        assert set(lab.clocks) == {"eye", "board"}
        now = lab.context.timebase.now
        assert "no frame has arrived" in lab.clocks["eye"].health(now()).reason
        async with lab.devices["eye"].filming():
            async with asyncio.timeout(60):
                while not all(clock.health(now()).usable for clock in lab.clocks.values()):
                    await asyncio.sleep(0.05)
        eye, board = (lab.clocks[name].health(now()) for name in ("eye", "board"))
        assert board.exchanges >= 8
        assert 0 < board.bound < eye.bound  # asked there and back, instead of told one way
