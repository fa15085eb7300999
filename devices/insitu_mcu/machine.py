"""The program of an emulated board at work: a process of this machine, or QEMU with a Cortex-M inside."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hal.errors import ConfigError

from . import images
from .counter import Counter
from .page import Page

STARTS_WITHIN = 60.0
"""Seconds a board is given to start."""
LOOKS, LOOKS_AT_MOST = 8, 0.3
"""How often its counter must have been seen in time when it has started, and seconds spent on that at most."""

_SHARED = Path("/dev/shm")
_WITH_US = 'exec 3<&0; "$@" 3<&- & child=$!; (read _ <&3; kill -9 $child 2>/dev/null) & exec 3<&-; wait $child'
"""For `sh`: run a program until it ends or our end of the pipe is closed, be it by our death."""


class Machine:
    """A board's program, started and stopped like a board that is plugged in and out."""

    def __init__(self, kind: str, folder: Path, *, ppm: int = 0) -> None:
        """`kind`: posix or mps2. `folder`: for its files. `ppm`: error of its crystal."""
        self.kind, self.folder, self.ppm = kind, folder, ppm
        self.url = ""
        """Where it is reached; the same after each start."""
        self.eeproms = folder / "eeprom", folder / "eeprom-1"
        """Memories of the holders that may be plugged in; `holder` on the page says which one is."""
        self.page: Page | None = None
        """What it shares with us while it runs."""
        self.counter = self._new_counter()
        self._memory = folder / "memory"
        self._process: subprocess.Popen[bytes] | None = None
        self._qtest: socket.socket | None = None

    async def start(self, prepare: Callable[[Page], None]) -> None:
        """Switch it on, with what `prepare` puts before its converters. Raises `ConfigError`."""
        memory = _SHARED if self.kind != "posix" and _SHARED.is_dir() else self.folder  # noqa: ASYNC240
        self._memory = memory / f"{self.folder.name}.ram"
        with self._memory.open("wb") as file:
            file.truncate(Page.SIZE if self.kind == "posix" else 16 << 20)
        try:
            page = Page(self._memory)
            page["entropy"] = secrets.randbits(32)
            prepare(page)
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
        enough, passes = time.monotonic() + LOOKS_AT_MOST, page["passes"]
        while self.counter.agreeing < LOOKS and time.monotonic() < enough:
            if page["passes"] != passes:  # it is told once a millisecond: see it fresh
                seen = page["ticks"]
                self.counter.look(seen, time.monotonic())
                passes = page["passes"]
        self.page = page

    def ring(self) -> None:
        """Tell it that edges wait on the page."""
        if self._qtest is None:
            return  # the host's build looks by itself
        with suppress(OSError):
            self._qtest.recv(65536)  # answers to earlier rings
        with suppress(OSError):
            self._qtest.send(b"writel 0xE000E200 0x02000000\n")  # the doorbell pends an interrupt

    def stop(self) -> None:
        """Pull cable and power."""
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

    # ------------------------------------------------------------------ private

    def _new_counter(self) -> Counter:
        return Counter(1e6 * (1 + self.ppm * 1e-6) if self.kind == "posix" else 25e6)

    async def _start_posix(self) -> None:
        program = await asyncio.to_thread(images.host_build)
        link = self.folder / "wire"
        command = [str(program), "--pty", "--link", str(link), "--world", str(self._memory)]
        command += ["--eeprom", str(self.eeproms[0]), "--ppm", str(self.ppm)]
        self._spawn(command)
        deadline = time.monotonic() + STARTS_WITHIN
        while not link.exists():
            self._check_alive(deadline)
            await asyncio.sleep(0.002)
        self.url = f"serial://{link}"

    async def _start_qemu(self) -> None:
        image = await asyncio.to_thread(images.qemu_image)
        assert image is not None
        port = int(self.url.rpartition(":")[2]) if self.url else _free_port()
        command = [
            "qemu-system-arm", "-M", "mps2-an386,memory-backend=shm", "-nodefaults", "-display", "none",
            "-object", f"memory-backend-file,id=shm,size=16M,mem-path={self._memory},share=on",
            "-kernel", str(image), "-accel", "tcg",
            "-chardev", f"socket,id=link,host=127.0.0.1,port={port},server=on,wait=off,nodelay=on",
            "-serial", "chardev:link",
            "-qtest", f"unix:{self.folder}/qtest,server=on,wait=off", "-qtest-log", "/dev/null",
        ]  # fmt: skip
        for number, eeprom in enumerate(self.eeproms):
            command += ["-drive", f"if=none,id=teds{number},format=raw,file={eeprom}"]
            command += ["-device", f"at24c-eeprom,bus=i2c,address={0x50 + number},rom-size=4096,drive=teds{number}"]
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
            command = ["/bin/sh", "-c", _WITH_US, "sh", *command]
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
