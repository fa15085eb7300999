"""Our board, emulated: its own program on this machine, wired to the emulators' world.

``firmware:posix`` is the firmware built for this machine, ``firmware:mps2`` its Cortex-M image in QEMU.
Either one thinks it has converters, pins and a capture unit; what stands behind them is a page of
memory shared with us (firmware/boards/mps2/world.h). `EmulatedBoard` is the wiring in between: the
heater's output warms the world's chip, the chip's thermometer and the pressure are put before the
converters, and the emulated detectors' exposures become edges at the capture inputs, stamped on the
board's own counter. A pulse at the trigger output has a lamp flash, which the detectors see.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import shutil
import tempfile
import time
from collections import deque
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.physics import FULL_POWER, R_SLOPE, R_ZERO
from hal.instrument.bench import Bench
from hal.protocols.firmware_gen import FULL_OUTPUT, SensorKind

from . import images
from .counter import Counter
from .machine import Machine
from .page import Page
from .slow_line import SlowLine
from .teds import AREA, DataSheet

log = logging.getLogger("hal")

PUMP = 0.002
"""Seconds between two looks at the world, at least."""
FORESIGHT = 0.05
"""Seconds the world's temperature is foreseen at most."""
REFERENCE = 0.9
"""What the reference resistor reads, of the converter's full scale."""
OHMS = 500.0
"""The reference resistor."""
HOLDER = DataSheet(
    model="emulated holder", serial="0001", calibrated=date(2026, 1, 1), sensor=SensorKind.RESISTANCE,
    sensor_channel=0, reference_channel=1, gain=1.0, reference=OHMS, nominal=R_ZERO,
    coefficients=(0.0, R_ZERO / R_SLOPE, 0.0, 0.0), temperature_min=-100.0, temperature_max=1000.0,
    full_power=FULL_POWER, heater=R_ZERO, rate_max=50_000.0,
)  # fmt: skip
"""The TEDS of the holder on an emulated board: the world's chip, which measures itself by its resistance."""
SPARE = replace(HOLDER, serial="0002", temperature_max=400.0)
"""Of the other one, which may be plugged in instead: a chip that bears less."""
NOBODY = 7
"""Number of no holder, on the page."""

THERMOMETER, REFERENCE_INPUT, GAUGE = 0, 1, 2
"""Analogue inputs: the chip's resistance, the reference's, and the cell's pressure (log10 of Pa, -6 to 4)."""


class EmulatedBoard:
    """One board and its surroundings: a `Port` to serve, and a part of the bench."""

    def __init__(
        self, kind: str, bench: Bench, *, teds: bool = True, seed: int = 3, noise: float = 1.0, ppm: int = 0,
        flash: float = 0.005, out: float = 0.0, back: float = 0.0, spare: DataSheet = SPARE,
    ) -> None:  # fmt: skip
        """`teds`: whether its holder has a data sheet. `spare`: of another holder, for `exchange`. `noise`: of its
        converter, counts. `ppm`: of its crystal.

        `flash`: s that the lamp at its trigger output is on after each rising edge, however long the pulse; 0: there
        is none. `out`, `back`: s, by how much its line delays what is said to it, and what it says.
        """
        if kind == "mps2" and (missing := images.missing_for_qemu()):
            log.warning("firmware:mps2: %s; using the firmware built for this machine instead", missing)
            kind = "posix"
        self.kind, self.bench = kind, bench
        self.full_counts = 32767 if kind == "posix" else 4095
        """Of its converter."""
        self.noise = noise
        self.flash = flash
        self.pulses_lost = 0
        """Edges that did not fit into the capture unit."""
        self._folder = Path(tempfile.mkdtemp(prefix="insitu-mcu-"))
        self._machine = Machine(kind, self._folder, ppm=ppm)
        self._random = random.Random(seed)
        self._pump: asyncio.Task[None] | None = None
        self._detectors: list[tuple[Any, Any]] = []
        self._exposed: list[tuple[Any, NDArray[np.float64], NDArray[np.float64]]] = []
        self._edges: deque[tuple[int, int, bool]] = deque()
        self._standing = _Standing()
        self._line = SlowLine(out, back) if out or back else None
        self._triggers = 0
        self._before = 0.0, self._world.temperature
        """Moment and temperature of the last step."""
        self._slope = 0.0  # K/s
        self._holder = 0
        self._eeprom, other = self._machine.eeproms
        self._eeprom.write_bytes((HOLDER.packed() if teds else b"\xff" * AREA).ljust(4096, b"\xff"))
        other.write_bytes(spare.packed().ljust(4096, b"\xff"))

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self._machine.url if self._line is None else self._line.url

    @property
    def page(self) -> Page | None:
        """Its inputs and outputs; None while it has no power."""
        return self._machine.page

    @property
    def counter(self) -> Counter:
        """Its counter on our clock."""
        return self._machine.counter

    async def open(self) -> EmulatedBoard:
        """Switch it on. Raises `ConfigError`."""
        try:
            await self.plug()
        except BaseException:
            await self.close()
            raise
        self.bench.watchers.append(self._step)
        self._pump = asyncio.get_running_loop().create_task(self._run(), name=f"world of {self.url}")
        return self

    def unplug(self) -> None:
        """Pull cable and power."""
        if self._line is not None:
            self._line.close()
        self._world.lamp.known = math.inf
        self._machine.stop()
        self._world.heaters.pop(self, None)

    async def plug(self) -> None:
        """Put them back: it starts anew, with the same holder."""
        await self._machine.start(self._prepare)
        self._triggers = 0
        if self._line is not None:
            await self._line.open(self._machine.url)

    def exchange(self, holder: int | None) -> None:
        """Plug another holder in, with the power on or off: 0 is the first, 1 the spare one, None none at all."""
        self._holder = NOBODY if holder is None else holder
        if self.page is not None:
            self.page["holder"] = self._holder

    async def close(self) -> None:
        """Switch it off for good."""
        if self._step in self.bench.watchers:
            self.bench.watchers.remove(self._step)
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
            self._pump = None
        self.unplug()
        for detector, told in self._detectors:
            detector.pulses.remove(told)
        self._detectors.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    # ------------------------------------------------------------------ private

    @property
    def _world(self) -> Any:
        return self.bench.world

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.bench.advance_to(loop.time())
            await asyncio.sleep(PUMP)

    def _step(self, now: float) -> None:
        """The bench has lived until `now`: what the board does reaches the world, and the world the board."""
        self._find_detectors()
        page = self.page
        if page is None:
            self._exposed.clear()
            return
        seen = page["ticks"]  # at the last pass; its outputs follow within microseconds: they are looked at below
        self._world.heaters[self] = page["heater"] / FULL_OUTPUT * FULL_POWER
        self._standing.note(time.monotonic())
        moment, temperature = self._before
        self._before = now, self._world.temperature
        self._slope = (self._world.temperature - temperature) / (now - moment) if now > moment else 0.0
        self._show(self._world, page)
        self._light_lamp(page, seen, now)
        self._queue_edges(now)
        if self._edges and page.edges(self._edges):
            self._machine.ring()

    def _light_lamp(self, page: Page, seen: int, now: float) -> None:
        """What the trigger output did becomes light; until the counter was `seen`, that is all it did."""
        if not self.flash:
            return
        lamp, lived = self._world.lamp, self._world.lived
        triggers = page["triggers"]
        if triggers != self._triggers:
            if triggers - self._triggers & 0xFFFF_FFFF > 1:
                log.warning(
                    "%s: pulses of the trigger output came too fast to be seen; only the last one lit", self.url
                )
            self._triggers = triggers
            lamp.flash(lived + self.counter.moment(page["trigger_ticks"], now) - now, self.flash)
        lamp.known = lived + self.counter.moment(seen, now) - now

    def edge(self, channel: int) -> None:
        """Let an edge rise at a capture input now: somebody's line is led there."""
        if self.page is None:
            return
        self._edges.append((self.counter.at(time.monotonic()), channel, True))
        if self.page.edges(self._edges):
            self._machine.ring()

    def _prepare(self, page: Page) -> None:
        """As it is when the power comes on."""
        page["holder"] = self._holder
        self._show(self._world, page)

    def _show(self, world: Any, page: Page) -> None:
        """What the converters see."""
        reference = round(REFERENCE * self.full_counts)  # whole: half a count is a quarter of a kelvin
        ohms = R_ZERO + R_SLOPE * (world.temperature + self._slope * self._standing.age)
        page.adc(THERMOMETER, ohms / OHMS * reference + self._random.gauss(0.0, self.noise))
        page.adc(REFERENCE_INPUT, reference)
        decades = (math.log10(max(world.pressure, 1e-6)) + 6) / 10
        page.adc(GAUGE, decades * self.full_counts + self._random.gauss(0.0, self.noise))

    def _find_detectors(self) -> None:
        """Detectors of the bench, those that came after the board too: the first is at capture input 0."""
        known = [detector for detector, _ in self._detectors]
        for emulator in self.bench.emulators:
            pulses: Any = getattr(emulator, "pulses", None)
            if pulses is not None and emulator not in known:
                told = partial(self._note, emulator)
                self._detectors.append((emulator, told))
                pulses.append(told)

    def _note(self, detector: Any, start: NDArray[np.float64], stop: NDArray[np.float64]) -> None:
        self._exposed.append((detector, start, stop))

    def _queue_edges(self, now: float) -> None:
        """Exposures that ended in this step, as a rising and a falling edge each, in order."""
        if not self._exposed:
            return
        edges = []
        for detector, start, stop in self._exposed:
            born = now - detector.lived
            channel = [known for known, _ in self._detectors].index(detector)
            for rising, times in ((True, start), (False, stop)):
                edges += [(float(t) + born, channel, rising) for t in times]
        self._exposed.clear()
        edges.sort()
        self._edges.extend((self.counter.at(moment), channel, rising) for moment, channel, rising in edges)
        while len(self._edges) > 4096:
            self._edges.popleft()
            self.pulses_lost += 1


class _Standing:
    """How old the world is, on average, when the board looks at it.

    The board measures whenever it likes and the world stands still between two steps, for tens of
    milliseconds on a busy machine. What it is shown is meant for the middle of that time.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._seconds = self._squares = 0.0

    def note(self, now: float) -> None:
        """The world has just made a step, at monotonic time `now`."""
        if self._last is not None:
            stood = now - self._last
            kept = math.exp(-stood)  # of what was more than a second ago
            self._seconds = self._seconds * kept + stood
            self._squares = self._squares * kept + stood * stood
        self._last = now

    @property
    def age(self) -> float:
        """Seconds: half of how long it stands, as somebody finds it who looks at any time; foresight has an end."""
        return min(self._squares / self._seconds / 2, FORESIGHT) if self._seconds else 0.0
