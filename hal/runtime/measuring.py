"""Measuring fixed delays: a board has a lamp flash while a camera films, or this computer pulses a line to a board.

Both are recorded as runs; what comes of them is worked out from the run (`hal.recording.delay_measure`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import ConfigError, LinkLost
from ..instrument.camera import CameraInstrument
from ..instrument.clocked import Clocked
from ..model.status import Status
from ..recording.delay_measure import FLASH, PULSE
from ..transport.link import parse_url

if TYPE_CHECKING:
    from .lab import Lab

APART = 0.05
"""Seconds from one flash to the next, at least; up to twice as long, drawn anew each time."""
PULSES_APART = 0.25
"""Seconds from one pulse of the line to the next, at least: they must not be taken for one another."""
PULSE_LENGTH = 0.02
"""Seconds that a pulse of the line lasts."""


@runtime_checkable
class Pulser(Clocked, Protocol):
    """A board with a trigger output."""

    def fire(self, length: float, *, after: float = ..., channel: int = 0) -> Status[tuple[int, int]]:
        """Pulse it once: boot and tick at which it rose."""
        ...


class Line(Protocol):
    """A wire that this computer can raise and lower."""

    def switch(self, on: bool) -> None:
        """Do so; it has happened when this returns."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class RequestToSend:
    """The RTS pin of a serial port. Raises `LinkLost`."""

    def __init__(self, url: str) -> None:
        import serial

        self._url = url
        try:
            self._port = serial.Serial()
            self._port.rts = False
            self._port.port = parse_url(url).path
            self._port.open()
        except (OSError, ValueError) as error:
            raise LinkLost("line", f"{url} can't be opened: {error}; check the port, and that nobody uses it") from None
        try:
            self.switch(False)  # not every port has the pin
        except LinkLost:
            self.close()
            raise

    def switch(self, on: bool) -> None:
        try:
            self._port.rts = on
        except OSError as error:
            raise LinkLost("line", f"{self._url} has no RTS pin to be moved ({error}); use a real port") from None

    def close(self) -> None:
        self._port.close()


class EmulatedLine:
    """The same on an emulated bench: led to an input of an emulated board."""

    def __init__(self, board: Any, number: int) -> None:
        self._board, self._number = board, number

    def switch(self, on: bool) -> None:
        if on:
            self._board.edge(self._number)

    def close(self) -> None:
        pass


def line_to(lab: Lab, board: str, url: str, number: int) -> Line:
    """The line by its URL: ``serial:///dev/ttyS0``, or ``emulator:`` for an emulated board. Raises `ConfigError`."""
    if url != "emulator:":
        if parse_url(url).scheme != "serial":
            raise ConfigError(f"line {url!r}: give a serial port, such as serial:///dev/ttyS0; its RTS pin is used")
        return RequestToSend(url)
    emulated = None if lab.emulation is None else lab.emulation.links.get(lab.config.link_of(board)[0])
    if emulated is None or not hasattr(emulated.port, "edge"):
        raise ConfigError(f"line {url!r}: {board} is not emulated in this lab; give a serial port")
    return EmulatedLine(emulated.port, number)


def camera_of(lab: Lab, name: str) -> CameraInstrument:
    """A camera of a lab by its name. Raises `ConfigError`."""
    device = lab.devices.get(name)
    if not isinstance(device, CameraInstrument):
        cameras = [n for n, d in lab.devices.items() if isinstance(d, CameraInstrument)]
        raise ConfigError(f"{name}: no camera of {lab.config.path}; it has {', '.join(cameras) or 'none'}")
    return device


def board_of(lab: Lab, name: str = "") -> Any:
    """A board of a lab by its name; without one, the only board there is. Raises `ConfigError`."""
    boards = {n: d for n, d in lab.devices.items() if isinstance(d, Pulser)}
    if name in boards:
        return boards[name]
    if not name and len(boards) == 1:
        return next(iter(boards.values()))
    there = ", ".join(boards) or "none"
    raise ConfigError(
        f"{lab.config.path}: {name or 'which board?'}: {'no board with a trigger output' if name else 'say --board'}; "
        f"there is {there}"
    )


async def film_flashes(
    lab: Lab, camera: CameraInstrument, board: Any, *, flashes: int, length: float, channel: int = 0,
    directory: Path = Path("runs"), told: Callable[[], None] = lambda: None,
) -> Path:  # fmt: skip
    """Record a run in which `board` has a lamp flash for `length` s, again and again and in step with nothing.

    `told` is called with each flash. Returns the run.
    """
    apart = max(APART, 4 * (camera.period + length))
    async with lab.record(directory, sample=f"delay of {camera.name}") as run:
        await run.hold(apart)
        for number in range(flashes):
            boot, ticks = await board.fire(length, channel=channel)
            flash = {"boot": boot, "ticks": ticks, "length": length, "output": channel}
            lab.context.journal.note("note", board.name, f"flash {number + 1}", **{FLASH: flash})
            told()
            await run.hold(apart * random.uniform(1.0, 2.0))
    return run.path


async def pulse_line(
    lab: Lab, board: Any, line: Line, *, pulses: int, number: int, rising: bool = True,
    directory: Path = Path("runs"), told: Callable[[], None] = lambda: None,
) -> Path:  # fmt: skip
    """Record a run in which `line` pulses at moments that this computer knows, and `board` stamps them."""
    now = lab.context.timebase.now
    edges = ((number,), ()) if rising else ((), (number,))
    capturing: AbstractAsyncContextManager[None] = board.capturing(*edges)
    try:
        async with lab.record(directory, sample=f"delay of the link of {board.name}", film=False) as run, capturing:
            for count in range(pulses):
                await run.hold(PULSES_APART * random.uniform(1.0, 2.0))
                before = now()
                line.switch(True)
                after = now()
                await asyncio.sleep(PULSE_LENGTH)
                line.switch(False)
                lab.context.journal.note("note", board.name, f"pulse {count + 1}", **{PULSE: [before, after]})
                told()
            await run.hold(PULSES_APART)
    finally:
        line.close()
    return run.path
