"""The MPS2 image in QEMU, with the test as its analogue world: a page of RAM shared with the board, and a doorbell.

Every wait is bounded, and the emulator dies with the `with` block whatever happens. Time is told by
the device's counter and by control passes, never by the wall clock alone: the machine is shared.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

PATIENCE = 60.0  # s, for what the machine has to come round to
TICK_RATE = 25_000_000  # Hz, the CMSDK dual timer
_COUNTER = 0x4000_2004  # its value register; counts down
_PEND = 0xE000_E200  # NVIC_ISPR0


class World:
    """The shared page, by the names in firmware/boards/mps2/world.h."""

    _WORDS = {
        "magic": 0x00, "boots": 0x04, "passes": 0x08, "ticks": 0x0C,
        "heater": 0x10, "heater_on": 0x14, "heater_off": 0x18, "heater_off_pass": 0x1C,
        "dac0": 0x20, "dac1": 0x24, "digital": 0x28, "trigger": 0x2C, "triggers": 0x30,
        "trigger_ticks": 0x34, "trigger_seen": 0x38,
        "entropy": 0x40, "inputs": 0x44, "hang": 0x48, "holder": 0x4C,
        "head": 0x100, "tail": 0x104, "overrun": 0x108,
    }  # fmt: skip
    MAGIC = 0x4D505332
    EDGES = 64
    DOORBELL = 25

    def __init__(self, file: Path) -> None:
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 4096)
        self._words = memoryview(self._map).cast("I")  # one aligned store per word

    def __getitem__(self, name: str) -> int:
        return self._words[self._WORDS[name] // 4]

    def __setitem__(self, name: str, value: int) -> None:
        self._words[self._WORDS[name] // 4] = value & 0xFFFF_FFFF

    def adc(self, channel: int, counts: int) -> None:
        self._words[0x80 // 4 + channel] = counts

    def edge(self, index: int, ticks: int, channel: int, rising: bool) -> None:
        at = 0x200 // 4 + 2 * (index % self.EDGES)
        self._words[at] = ticks & 0xFFFF_FFFF
        self._words[at + 1] = channel | rising << 8

    def close(self) -> None:
        self._words.release()
        self._map.close()


class Qemu:
    """One emulated board. `prepare(world)` runs before the processor starts. `spare`: of another holder."""

    def __init__(
        self,
        image: Path,
        *,
        machine: str = "mps2-an386",
        eeprom: bytes | None = None,
        spare: bytes | None = None,
        shared: bool = True,
        prepare: Callable[[World], None] = lambda world: None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="board-"))
        self._child: subprocess.Popen[bytes] | None = None
        try:
            self._start(image, machine, (eeprom, spare), shared, prepare)
        except BaseException:
            self.close()
            raise

    def _start(
        self,
        image: Path,
        machine: str,
        eeproms: tuple[bytes | None, ...],
        shared: bool,
        prepare: Callable[[World], None],
    ) -> None:
        options = ["-nodefaults", "-display", "none", "-kernel", str(image), "-S"]
        self._memory: Path | None = None
        if shared:
            shm = Path("/dev/shm")
            self._memory = (shm if shm.is_dir() else self.folder) / f"{self.folder.name}.ram"
            self._memory.write_bytes(bytes(4096))
            os.truncate(self._memory, 16 << 20)
            machine += ",memory-backend=shm"
            options += ["-object", f"memory-backend-file,id=shm,size=16M,mem-path={self._memory},share=on"]
            self.world = World(self._memory)
            prepare(self.world)
        for number, eeprom in enumerate(eeproms):
            if eeprom is not None:
                file, drive = self.folder / f"eeprom-{number}", f"teds-{number}"
                file.write_bytes(eeprom)
                options += ["-drive", f"if=none,id={drive},format=raw,file={file}"]
                options += [
                    "-device",
                    f"at24c-eeprom,bus=i2c,address={0x50 + number},rom-size={len(eeprom)},drive={drive}",
                ]
        options += ["-chardev", f"socket,id=link,path={self.folder}/link,server=on,wait=off", "-serial", "chardev:link"]
        options += ["-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"]
        options += [
            "-qtest",
            f"unix:{self.folder}/qtest,server=on,wait=off",
            "-qtest-log",
            "/dev/null",
            "-accel",
            "tcg",
        ]
        with (self.folder / "log").open("wb") as log:
            # Even a test run that is killed outright takes its emulator with it.
            leash = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
            self._child = subprocess.Popen(
                [*leash, "qemu-system-arm", "-M", machine, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._qmp = self._connect("qmp")
        self._qmp_lines = self._qmp.makefile("rb")
        self._qmp_lines.readline()
        self.command("qmp_capabilities")
        self._qtest = self._connect("qtest")
        self._qtest_lines = self._qtest.makefile("rb")
        self._qtest_lock = threading.Lock()
        self.link = self._connect("link")
        self.command("cont")

    def _connect(self, name: str) -> socket.socket:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self._child is not None
            if self._child.poll() is not None:
                raise RuntimeError(f"QEMU ended: {(self.folder / 'log').read_text()}")
            wire = socket.socket(socket.AF_UNIX)
            try:
                wire.connect(str(self.folder / name))
            except OSError:
                wire.close()
                time.sleep(0.01)
                continue
            wire.settimeout(PATIENCE)
            return wire
        raise TimeoutError(f"QEMU does not open its {name} socket")

    def command(self, what: str, **arguments: object) -> object:
        """One QMP command."""
        self._qmp.sendall(json.dumps({"execute": what, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self._qmp_lines.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(str(answer["error"]))

    def qtest(self, line: str) -> str:
        """One qtest command; answers what follows OK."""
        with self._qtest_lock:
            self._qtest.sendall(line.encode() + b"\n")
            while True:
                answer = self._qtest_lines.readline().decode()
                if answer.startswith("OK"):
                    return answer[2:].strip()
                if not answer.startswith("IRQ"):
                    raise RuntimeError(f"qtest {line!r}: {answer!r}")

    def write(self, address: int, value: int) -> None:
        self.qtest(f"writel {address:#x} {value:#x}")

    def read(self, address: int) -> int:
        return int(self.qtest(f"readl {address:#x}"), 16) & 0xFFFF_FFFF

    def memory(self, address: int, size: int) -> bytes:
        return bytes.fromhex(self.qtest(f"read {address:#x} {size:#x}")[2:])

    def ticks(self) -> int:
        """The device's 32-bit counter now."""
        return ~self.read(_COUNTER) & 0xFFFF_FFFF

    def edges(self, edges: list[tuple[int, int, bool]], timeout: float = 10) -> None:
        """Hands (ticks, channel, rising) to the capture unit, in order, as fast as it takes them."""
        end = time.monotonic() + timeout
        world, done = self.world, 0
        while done < len(edges):
            head = world["head"]
            room = World.EDGES - (head - world["tail"] & 0xFFFF_FFFF)
            for ticks, channel, rising in edges[done : done + room]:
                world.edge(head, ticks, channel, rising)
                head += 1
                done += 1
            world["head"] = head
            self.write(_PEND, 1 << World.DOORBELL)
            while world["tail"] != world["head"]:
                if time.monotonic() > end:
                    raise TimeoutError(f"{world['head'] - world['tail']} edges were not read")
                time.sleep(0)

    def freeze(self) -> None:
        self.command("stop")

    def thaw(self) -> None:
        self.command("cont")

    def close(self) -> None:
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGKILL)
            child.wait(10)
        for name in ("_qmp_lines", "_qtest_lines", "_qmp", "_qtest", "link", "world"):
            if (opened := getattr(self, name, None)) is not None:
                opened.close()
        if getattr(self, "_memory", None) is not None:
            self._memory.unlink(missing_ok=True)  # type: ignore[union-attr]
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Qemu:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def until(what: Callable[[], object], message: str, pause: float = 0.001) -> None:
    """Waits for `what` to be true; says `message` if it never is."""
    end = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > end:
            raise TimeoutError(message)
        time.sleep(pause)
