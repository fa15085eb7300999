"""The firmware's core on a board in memory whose clock moves when told: 1 tick is 1 us, a control pass 1000 ticks."""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import settings

from devices.insitu_mcu.interlocks import Interlocks
from hal.protocols import firmware
from hal.protocols import firmware_gen as gen

ROOT = Path(__file__).parents[2]
FIRMWARE = ROOT / "firmware"
BUILT = ROOT / "build" / "firmware"
SANITIZED = "INSITU_CORE_LIBRARY"
"""Environment: another build of the library, such as the one with address sanitizer."""
REPEATED = SANITIZED in os.environ
"""The tests were run on the plain library already: a fifth of hypothesis' examples will do."""
MS = 1000
"""Ticks in a millisecond."""
FULL = 32767
"""Counts at full scale."""


class Board(ctypes.Structure):
    """struct stepped of firmware/tests/stepped_board.h."""

    _fields_ = [
        ("ticks", ctypes.c_uint64),
        ("adc", ctypes.c_int16 * 16),
        ("inputs", ctypes.c_uint16),
        ("eeprom", ctypes.c_uint8 * 256),
        ("eeprom_broken", ctypes.c_bool),
        ("eeprom_writes_left", ctypes.c_uint32),
        ("passes_stop", ctypes.c_bool),
        ("tx_room", ctypes.c_uint32),
        ("heater", ctypes.c_uint16),
        ("dac", ctypes.c_uint16 * 4),
        ("digital", ctypes.c_uint16),
        ("pulse", ctypes.c_bool),
        ("pulses", ctypes.c_uint32),
        ("pulse_ticks", ctypes.c_uint64),
        ("rising", ctypes.c_uint8),
        ("falling", ctypes.c_uint8),
        ("fed", ctypes.c_uint32),
        ("critical", ctypes.c_uint32),
        ("violations", ctypes.c_uint32),
        ("heater_on_ticks", ctypes.c_uint64),
        ("heater_off_ticks", ctypes.c_uint64),
        ("passes_at_off", ctypes.c_uint32),
    ]


_BUFFER = ctypes.create_string_buffer(65536)


@cache
def library() -> Any:
    """The core as a library, built when its sources changed."""
    if path := os.environ.get(SANITIZED):
        lib = ctypes.CDLL(path)
    else:
        make("lib")
        lib = ctypes.CDLL(str(BUILT / "libcore.so"))
    lib.cobs_encode.restype = ctypes.c_size_t
    lib.crc_add.restype = ctypes.c_uint16
    lib.stepped_take.restype = ctypes.c_size_t
    lib.stepped_frame.restype = ctypes.c_size_t
    lib.stepped_state.restype = ctypes.c_uint8
    lib.stepped_waits.restype = ctypes.c_bool
    lib.clock_now.restype = ctypes.c_uint64
    return lib


@contextmanager
def building() -> Iterator[None]:
    """One process builds at a time, however many run tests: none sees a file half written."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(*targets: str) -> None:
    """Build; the compiler's words are the failure's."""
    with building():
        run = subprocess.run(["make", "-s", "-C", str(FIRMWARE), *targets], capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr[-3000:]


HOLDER = gen.Teds(
    magic=0x53444554, version=1, model=b"test holder", serial=b"7", calibrated=20000,
    sensor=gen.SensorKind.RESISTANCE, sensor_channel=0, reference_channel=1, gain=1.0, reference=1000.0,
    nominal=500.0, coefficients=(273.15, 500.0, 0.0, 0.0), cold_offset=0.0, cold_slope=0.0, heater=500.0,
    full_power=0.02, temperature_min=100_000, temperature_max=900_000, rate_max=50_000, output_max=60_000,
    on_time_max=0,
)  # fmt: skip
"""A resistance of 500 ohm at 0 degC that doubles in 500 K, against 1000 ohm."""
REFERENCE_COUNTS = 20_000


def eeprom(teds: gen.Teds = HOLDER) -> bytes:
    """The EEPROM's 256 bytes with a record."""
    record = teds.pack()
    crc = library().crc_add(0xFFFF, record, len(record))
    return (record + crc.to_bytes(2, "little")).ljust(256, b"\xff")


def counts_at(kelvin: float) -> int:
    """What the converter reads across HOLDER's sensor."""
    return round((kelvin - 273.15 + 500.0) * REFERENCE_COUNTS / 1000.0)


class Stepped:
    """The core, as its host and its world see it."""

    def __init__(self, content: bytes | None = None, *, ticks: int = 0xFFFF_0000, boot: int = 7) -> None:
        self.lib = library()
        self.board = Board.in_dll(self.lib, "stepped")
        ctypes.memset(ctypes.byref(self.board), 0, ctypes.sizeof(self.board))
        self.board.tx_room = 4096
        self.framing = firmware.FirmwareFraming()
        self.events: list[gen.Event] = []
        self.blocks: list[gen.Incoming] = []
        self.sequence = 0
        self.session = 0
        self.beats = 0
        self.board.adc[1] = REFERENCE_COUNTS
        self.temperature = 296.15
        self.start(content, ticks=ticks, boot=boot)

    def start(self, content: bytes | None = None, *, ticks: int = 0xFFFF_0000, boot: int = 7) -> None:
        """Power on; None is a blank EEPROM."""
        self.interlocks = Interlocks()
        self.board.eeprom[:] = content or b"\xff" * 256
        self.lib.stepped_start(ctypes.c_uint64(ticks), boot)
        self.advance(2)

    @property
    def temperature(self) -> float:
        return self._temperature

    @temperature.setter
    def temperature(self, kelvin: float) -> None:
        self._temperature = kelvin
        self.board.adc[0] = counts_at(kelvin)

    @property
    def state(self) -> gen.State:
        return gen.State(self.lib.stepped_state())

    def advance(self, ms: float) -> None:
        """Let time pass."""
        self.lib.stepped_advance(ctypes.c_uint64(round(ms * MS)))

    def write(self, data: bytes) -> None:
        self.lib.stepped_send(data, ctypes.c_size_t(len(data)))

    def read(self) -> bytes:
        size = self.lib.stepped_take(_BUFFER, ctypes.c_size_t(len(_BUFFER)))
        return ctypes.string_at(_BUFFER, size)

    def messages(self) -> list[bytes]:
        """Replies that have come; events and blocks are put aside."""
        replies = []
        for message in self.framing.feed(self.read()):
            if message[1] & 0x80:
                replies.append(message)
                continue
            parsed = firmware.parse(message)
            (self.events if isinstance(parsed, gen.Event) else self.blocks).append(parsed)  # type: ignore[arg-type]
        return replies

    def send(self, request: gen.Request[Any], channel: int = 0, sequence: int | None = None) -> bytes:
        """Send a command and return its message, for repeating."""
        if sequence is None:
            self.sequence = (self.sequence + 1) & 0xFF
            sequence = self.sequence
        message = firmware.command(request, sequence, channel)
        self.write(firmware.frame(message))
        return message

    def ask(self, request: gen.Request[Any], channel: int = 0) -> Any:
        """The reply to a command, carried out or refused."""
        self.messages()
        fits = firmware.reply_to(self.send(request, channel))
        self.lib.stepped_advance(ctypes.c_uint64(0))
        found = [message for message in self.messages() if fits(message)]
        while not found and self.lib.stepped_waits():  # for the EEPROM, which did not look as it should
            self.advance(1)
            found = [message for message in self.messages() if fits(message)]
        assert len(found) == 1, f"{len(found)} replies to {request}"
        reply = firmware.parse(found[0])
        if isinstance(reply, gen.InterlockSetReply):
            self.interlocks = self.interlocks.with_analogue(channel, request.interlock)
        elif isinstance(reply, gen.InterlockInputsReply):
            self.interlocks = replace(self.interlocks, mask=request.mask, level=request.level)
        return reply

    # ---- what a host does

    def hello(self, session: int = 99) -> gen.HelloReply:
        self.session, self.beats = session, 0
        reply: gen.HelloReply = self.ask(gen.Hello(session, gen.SCHEMA))
        return reply

    def beat(self) -> gen.HeartbeatReply:
        self.beats += 1
        reply: gen.HeartbeatReply = self.ask(gen.Heartbeat(self.session, self.beats))
        return reply

    def arm(self) -> None:
        """From power-on to ARMED."""
        if not self.session:
            self.hello()
        reply = self.ask(self.arming(self.beat().nonce))
        assert reply == gen.ArmReply(gen.State.ARMED), reply

    def arming(self, nonce: int) -> gen.Arm:
        """The command that arms, for the interlocks that were set and the holder that is there."""
        return gen.Arm(nonce, self.interlocks.checksum, self.holder)

    @property
    def holder(self) -> int:
        """Number of the TEDS in force: a host that always looks."""
        return self.ask(gen.TedsRead(0, 0)).holder  # type: ignore[no-any-return]

    def plug(self, content: bytes | None) -> None:
        """Exchange the holder under power; None: pull it out."""
        self.board.eeprom_broken = content is None
        self.board.eeprom[:] = content or b"\xff" * 256

    def live(self, ms: float, step: float = 100) -> None:
        """Let time pass with a host that lives."""
        while ms > 0:
            self.beat()
            self.advance(min(step, ms))
            ms -= step

    def status(self) -> gen.StatusReply:
        reply: gen.StatusReply = self.ask(gen.Status())
        return reply

    def counters(self) -> gen.CountersReply:
        reply: gen.CountersReply = self.ask(gen.Counters())
        return reply

    def heat(self, output: int = 1000) -> None:
        """To RUN, in open loop."""
        if self.state != gen.State.ARMED:
            self.arm()
        assert self.ask(gen.HeaterOutput(output)) == gen.HeaterOutputReply(output)
        self.advance(2)
        assert self.board.heater == output
        assert self.state == gen.State.RUN


def examples(count: int) -> settings:
    """How many examples hypothesis is to try."""
    return settings(max_examples=max(10, count // 5) if REPEATED else count, deadline=None)


GAINS = gen.HeaterConfig(
    kp=400.0, ki=800.0, kd=0.0, feed_forward=0.0, ambient=296_150, slew=0, output_max=60_000,
    temperature_max=900_000, on_time_max=0, loop_break=0,
)  # fmt: skip


def tuned(**changes: Any) -> gen.HeaterConfig:
    return replace(GAINS, **changes)
