"""The firmware, emulated: our board's own program on this machine, wired to the emulators' world.

``firmware:posix`` is the firmware built for this machine, ``firmware:mps2`` its Cortex-M image in QEMU.
Either one thinks it has converters, pins and a capture unit; what stands behind them is a page of
memory shared with us (firmware/boards/mps2/world.h). `EmulatedBoard` is the wiring in between: the
heater's output warms the world's chip, the chip's thermometer and the pressure are put before the
converters, and the emulated detectors' exposures become edges at the capture inputs, stamped on the
board's own counter.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import mmap
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.insitu_mcu.teds import AREA, DataSheet
from devices.physics import FULL_POWER, R_SLOPE, R_ZERO

from ..errors import ConfigError
from ..instrument.bench import Bench
from ..protocols.firmware_gen import FULL_OUTPUT, SensorKind

log = logging.getLogger("hal")

PUMP = 0.002
"""Seconds between two looks at the world, at least."""
STARTS_WITHIN = 10.0
"""Seconds a board is given to start."""
LOOKS = 0.03
"""Seconds of looking hard at its counter when it has started."""
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

_SHARED = Path("/dev/shm")
_WITH_US = 'exec 3<&0; "$@" 3<&- & child=$!; (read _ <&3; kill -9 $child 2>/dev/null) & exec 3<&-; wait $child'
"""For `sh`: run a program until it ends or our end of the pipe is closed, be it by our death."""

THERMOMETER, REFERENCE_INPUT, GAUGE = 0, 1, 2
"""Analogue inputs: the chip's resistance, the reference's, and the cell's pressure (log10 of Pa, -6 to 4)."""


# ---------------------------------------------------------------------- images


def sources() -> Path:
    """The firmware's sources: of this repository, or as the package carries them."""
    packaged = Path(__file__).parents[1] / "_firmware"
    return packaged if (packaged / "core").is_dir() else Path(__file__).parents[2] / "firmware"


def host_build() -> Path:
    """The firmware as a program of this machine, built with `cc` if it was not yet. Raises `ConfigError`."""
    if sys.platform == "win32":
        raise ConfigError("an emulated board needs a POSIX system (on Windows: WSL); or give the link of a real board")
    root = sources()
    files = sorted([*root.glob("core/*.[ch]"), *root.glob("boards/posix/*.[ch]"), root / "boards/mps2/world.h"])
    if not (root / "core").is_dir():
        raise ConfigError(f"firmware:posix: its sources are not at {root}; is the package whole?")
    build = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]
    program = _cache() / f"insitu-mcu-{build}"
    if program.exists():
        return program
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ConfigError("firmware:posix needs a C compiler to build the board's program; type: apt install gcc")
    program.parent.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_name(f"{program.name}.{os.getpid()}")
    command = [*compiler.split(), "-std=c11", "-O2", f"-I{root / 'core'}", f"-DBUILD_ID=0x{build}u"]
    command += [str(file) for file in files if file.suffix == ".c"] + ["-o", str(unfinished)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise ConfigError(f"firmware:posix can't be built with {compiler}:\n{made.stderr[-2000:]}")
    unfinished.replace(program)  # at once: another process may build it too
    return program


def qemu_image() -> Path | None:
    """The Cortex-M image for QEMU: as the package carries it, or built if there is a cross compiler; else None."""
    root = sources()
    for image in (root / "images" / "mps2.elf", root.parent / "build" / "firmware" / "mps2.elf"):
        if image.exists() and (root.name == "_firmware" or not shutil.which("arm-none-eabi-gcc")):
            return image
    if shutil.which("make") and shutil.which("arm-none-eabi-gcc"):
        out = _cache()
        made = subprocess.run(
            ["make", "-s", "-C", str(root), f"OUT={out}", "mps2"], capture_output=True, text=True, check=False
        )
        if made.returncode == 0:
            return out / "mps2.elf"
        log.warning("firmware:mps2 can't be built: %s", made.stderr[-500:])
    return None


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "insitu-hal" / "firmware"


# ---------------------------------------------------------------------- the page shared with the board


class Page:
    """The board's inputs and outputs, as firmware/boards/mps2/world.h lays them out."""

    SIZE = 0x400
    MAGIC = 0x4D505332
    EDGES = 64
    _WORDS = {
        "magic": 0x00, "boots": 0x04, "passes": 0x08, "ticks": 0x0C, "heater": 0x10, "digital": 0x28,
        "triggers": 0x30, "entropy": 0x40, "inputs": 0x44, "hang": 0x48, "head": 0x100, "tail": 0x104,
        "overrun": 0x108,
    }  # fmt: skip

    def __init__(self, file: Path) -> None:
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), self.SIZE)
        self._words = memoryview(self._map).cast("I")  # one aligned store per word

    def __getitem__(self, name: str) -> int:
        return self._words[self._WORDS[name] // 4]

    def __setitem__(self, name: str, value: int) -> None:
        self._words[self._WORDS[name] // 4] = value & 0xFFFF_FFFF

    def adc(self, channel: int, counts: float) -> None:
        """Put a count before the converter."""
        self._words[0x80 // 4 + channel] = max(0, round(counts))

    def dac(self, channel: int) -> int:
        return self._words[0x20 // 4 + channel]

    def edges(self, edges: deque[tuple[int, int, bool]]) -> bool:
        """Hand as many edges (ticks, input, rising) to the capture unit as fit; whether there were any."""
        head = first = self["head"]
        room = self.EDGES - (head - self["tail"] & 0xFFFF_FFFF)
        while edges and room:
            ticks, channel, rising = edges.popleft()
            at = 0x200 // 4 + 2 * (head % self.EDGES)
            self._words[at] = ticks & 0xFFFF_FFFF
            self._words[at + 1] = channel | rising << 8
            head, room = head + 1 & 0xFFFF_FFFF, room - 1
        self["head"] = head
        return head != first

    def close(self) -> None:
        self._words.release()
        self._map.close()


class Counter:
    """The board's counter on our monotonic clock: both count the machine's seconds, from another moment.

    A look at the page is late, never early, so the furthest one counts.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._offset: float | None = None

    def look(self, seen: int, now: float) -> None:
        """The counter (32 bits) was `seen`, or more by now, at monotonic time `now`."""
        if self._offset is None:
            self._offset = seen - now * self.rate
        ahead = (seen - round(self._offset + now * self.rate) + 2**31) % 2**32 - 2**31
        if ahead > 0:
            self._offset += ahead

    def at(self, moment: float) -> int:
        """The counter (32 bits) at a monotonic time."""
        assert self._offset is not None
        return round(self._offset + moment * self.rate) & 0xFFFF_FFFF


# ---------------------------------------------------------------------- boards


class EmulatedBoard:
    """One board and its surroundings: a `Port` to serve, and a part of the bench."""

    def __init__(
        self, kind: str, bench: Bench, *, teds: bool = True, seed: int = 3, noise: float = 1.0, ppm: int = 0
    ) -> None:
        """`teds`: whether its holder has a data sheet. `noise`: of its converter, counts. `ppm`: of its crystal."""
        if kind == "mps2" and (missing := _missing_for_qemu()):
            log.warning("firmware:mps2: %s; using the firmware built for this machine instead", missing)
            kind = "posix"
        self.kind, self.bench = kind, bench
        self.folder = Path(tempfile.mkdtemp(prefix="insitu-mcu-"))
        self.url = ""
        self.full_counts = 32767 if kind == "posix" else 4095
        """Of its converter."""
        self.noise, self.ppm = noise, ppm
        self.page: Page | None = None
        self.counter = self._new_counter()
        self.pulses_lost = 0
        """Edges that did not fit into the capture unit."""
        self._random = random.Random(seed)
        self._process: subprocess.Popen[bytes] | None = None
        self._qtest: socket.socket | None = None
        self._pump: asyncio.Task[None] | None = None
        self._detectors: list[tuple[Any, Any]] = []
        self._exposed: list[tuple[Any, NDArray[np.float64], NDArray[np.float64]]] = []
        self._edges: deque[tuple[int, int, bool]] = deque()
        self._eeprom = self.folder / "eeprom"
        self._eeprom.write_bytes((HOLDER.packed() if teds else b"\xff" * AREA).ljust(4096, b"\xff"))

    async def open(self) -> EmulatedBoard:
        """Switch it on. Raises `ConfigError`."""
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        self.bench.watchers.append(self._step)
        self._pump = asyncio.get_running_loop().create_task(self._run(), name=f"world of {self.url}")
        return self

    def unplug(self) -> None:
        """Pull cable and power."""
        self._stop()

    async def plug(self) -> None:
        """Put them back: it starts anew, with the same holder."""
        await self._start()

    async def close(self) -> None:
        """Switch it off for good."""
        if self._step in self.bench.watchers:
            self.bench.watchers.remove(self._step)
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
            self._pump = None
        self._stop()
        for detector, told in self._detectors:
            detector.pulses.remove(told)
        self._detectors.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ------------------------------------------------------------------ private: the world

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
        world: Any = self.bench.world
        world.power = page["heater"] / FULL_OUTPUT * FULL_POWER
        self._show(world, page)
        self._queue_edges(now)
        if self._edges and page.edges(self._edges) and self._qtest is not None:
            with suppress(OSError):
                self._qtest.recv(65536)  # answers to earlier rings
            with suppress(OSError):
                self._qtest.send(b"writel 0xE000E200 0x02000000\n")  # the doorbell pends an interrupt

    def _show(self, world: Any, page: Page) -> None:
        """What the converters see."""
        reference = REFERENCE * self.full_counts
        ohms = R_ZERO + R_SLOPE * world.temperature
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

    # ------------------------------------------------------------------ private: the program

    def _new_counter(self) -> Counter:
        rate = 1e6 * (1 + self.ppm * 1e-6) if self.kind == "posix" else 25e6
        return Counter(rate)

    async def _start(self) -> None:
        memory = _SHARED if self.kind != "posix" and _SHARED.is_dir() else self.folder  # noqa: ASYNC240
        self._memory = memory / f"{self.folder.name}.ram"
        with self._memory.open("wb") as file:
            file.truncate(Page.SIZE if self.kind == "posix" else 16 << 20)
        try:
            page = Page(self._memory)
            page["entropy"] = secrets.randbits(32)
            self._show(self.bench.world, page)
            if self.kind == "posix":
                await self._start_posix()
            else:
                await self._start_qemu()
            deadline = time.monotonic() + STARTS_WITHIN
            while page["magic"] != Page.MAGIC or not page["passes"]:
                self._check_alive(deadline)
                await asyncio.sleep(0.005)
        finally:
            self._memory.unlink(missing_ok=True)  # both ends have it mapped: it goes with them, however they end
        self.counter = self._new_counter()
        enough, passes = time.monotonic() + LOOKS, page["passes"]
        while time.monotonic() < enough:  # it is told once a millisecond: see it fresh a few times
            if page["passes"] != passes:
                seen = page["ticks"]
                self.counter.look(seen, time.monotonic())
                passes = page["passes"]
        self.page = page

    async def _start_posix(self) -> None:
        program = await asyncio.to_thread(host_build)
        link = self.folder / "wire"
        command = [str(program), "--pty", "--link", str(link), "--world", str(self._memory)]
        command += ["--eeprom", str(self._eeprom), "--ppm", str(self.ppm)]
        self._spawn(command)
        deadline = time.monotonic() + STARTS_WITHIN
        while not link.exists():
            self._check_alive(deadline)
            await asyncio.sleep(0.002)
        self.url = f"serial://{link}"

    async def _start_qemu(self) -> None:
        image = await asyncio.to_thread(qemu_image)
        assert image is not None
        port = int(self.url.rpartition(":")[2]) if self.url else _free_port()
        command = [
            "qemu-system-arm", "-M", "mps2-an386,memory-backend=shm", "-nodefaults", "-display", "none",
            "-object", f"memory-backend-file,id=shm,size=16M,mem-path={self._memory},share=on",
            "-kernel", str(image), "-accel", "tcg",
            "-drive", f"if=none,id=teds,format=raw,file={self._eeprom}",
            "-device", "at24c-eeprom,bus=i2c,address=0x50,rom-size=4096,drive=teds",
            "-chardev", f"socket,id=link,host=127.0.0.1,port={port},server=on,wait=off,nodelay=on",
            "-serial", "chardev:link",
            "-qtest", f"unix:{self.folder}/qtest,server=on,wait=off", "-qtest-log", "/dev/null",
        ]  # fmt: skip
        self._spawn(command)
        deadline = time.monotonic() + STARTS_WITHIN
        while self._qtest is None:
            self._check_alive(deadline)
            wire = socket.socket(socket.AF_UNIX)
            try:
                wire.connect(f"{self.folder}/qtest")
            except OSError:
                wire.close()
                await asyncio.sleep(0.01)
            else:
                wire.setblocking(False)
                self._qtest = wire
        self.url = f"tcp://127.0.0.1:{port}"

    def _spawn(self, command: list[str]) -> None:
        """Start a program that ends with us, however we end."""
        if sys.platform != "win32":
            command = ["sh", "-c", _WITH_US, "sh", *command]
        with (self.folder / "log").open("wb") as told:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=told, stderr=told)

    def _check_alive(self, deadline: float) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            told = self.folder / "log"
            why = told.read_text(errors="replace")[-500:] if told.exists() else ""
            raise ConfigError(f"firmware:{self.kind}: the board ended with {self._process.returncode}. {why}".rstrip())
        if time.monotonic() > deadline:
            raise ConfigError(f"firmware:{self.kind}: the board did not start in {STARTS_WITHIN:g} s")

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if sys.platform == "win32":
                process.kill()
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
        if self._qtest is not None:
            self._qtest.close()
            self._qtest = None
        page, self.page = self.page, None
        if page is not None:
            page.close()
        self.bench.world.power = 0.0  # type: ignore[attr-defined]


def _missing_for_qemu() -> str:
    """What keeps us from running the image, as a sentence; empty if nothing does."""
    if sys.platform == "win32":
        return "QEMU shares no memory there"
    if shutil.which("qemu-system-arm") is None:
        return "qemu-system-arm is not installed here (apt install qemu-system-arm)"
    if qemu_image() is None:
        return "there is no image for it here, and no arm-none-eabi-gcc to build one"
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
