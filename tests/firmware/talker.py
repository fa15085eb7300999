"""A small host for firmware tests: asks, keeps the lease, collects streams; on sockets or on a stepped clock."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from binascii import crc_hqx
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import stm32_parts

from devices.insitu_mcu.interlocks import Interlocks
from hal.protocols.firmware import FirmwareFraming, command, parse
from hal.protocols.firmware_gen import (
    INCOMING,
    LEASE_MS,
    SCHEMA,
    Arm,
    Captures,
    ClearFault,
    Counters,
    CountersReply,
    Event,
    Fault,
    Heartbeat,
    HeartbeatReply,
    HeaterConfig,
    Hello,
    HelloReply,
    Interlock,
    InterlockInputs,
    InterlockKind,
    InterlockSet,
    Refusal,
    Refused,
    Request,
    Safe,
    Samples,
    SensorKind,
    State,
    Status,
    StatusReply,
    Stream,
    StreamStop,
    Teds,
    TedsRead,
)

R = TypeVar("R")
BEAT = 0.1  # s between heartbeats


class RefusedByBoard(Exception):
    def __init__(self, refusal: Refused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


@dataclass
class Heard:
    """What came unasked."""

    events: list[Event] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    captures: list[Captures] = field(default_factory=list)

    def take(self, message: object) -> None:
        for kind, into in ((Event, self.events), (Samples, self.samples), (Captures, self.captures)):
            if isinstance(message, kind):
                into.append(message)  # type: ignore[attr-defined]

    @property
    def edges(self) -> int:
        return sum(len(block.edges) for block in self.captures)


class Host:
    """Asks and is answered; subclasses move the bytes and the time."""

    PATIENCE = 5.0
    """s"""

    def __init__(self) -> None:
        self._framing = FirmwareFraming()
        self._numbers = {False: 0, True: 0}  # of what acts once, of what is carried out each time
        self._count = 0  # heartbeats
        self._replies: dict[tuple[int, int], object] = {}
        self.session = 0
        self.beating = False
        self.interlocks = Interlocks()
        self.heard = Heard()
        self.beat: HeartbeatReply | None = None
        self.lock = threading.RLock()

    # ---- bytes and time, in the subclass

    def _write(self, data: bytes) -> None:
        raise NotImplementedError

    def _wait(self, done: Callable[[], object], seconds: float) -> bool:
        raise NotImplementedError

    # ---- commands

    def say(self, request: Request[object], channel: int = 0) -> tuple[int, int]:
        """Sends a command; returns what its reply is found by. What acts once is numbered apart: without gaps."""
        with self.lock:
            number = self._numbers[request.FRESH] = (self._numbers[request.FRESH] + 1) & 0xFF
            key = (request.TYPE, number)
            self._replies.pop(key, None)
            self._write(self._framing.encode(command(request, number, channel)))
            return key

    def ask(self, request: Request[R], channel: int = 0, timeout: float = 0.0) -> R:
        key = self.say(request, channel)
        if not self._wait(lambda: key in self._replies, timeout or self.PATIENCE):
            raise TimeoutError(f"no reply to {request}")
        reply = self._replies.pop(key)
        if isinstance(reply, Refused):
            raise RefusedByBoard(reply)
        if isinstance(request, InterlockSet):
            self.interlocks = self.interlocks.with_analogue(channel, request.interlock)
        elif isinstance(request, InterlockInputs):
            self.interlocks = replace(self.interlocks, mask=request.mask, level=request.level)
        return reply  # type: ignore[return-value]

    def feed(self, data: bytes) -> None:
        with self.lock:
            for message in self._framing.feed(data):
                if message[1] not in INCOMING:
                    continue
                heard = parse(message)
                if isinstance(heard, HeartbeatReply):
                    self.beat = heard
                elif isinstance(heard, Refused):
                    self._replies[heard.command, message[2]] = heard
                elif message[1] & 0x80:
                    self._replies[message[1] & 0x7F, message[2]] = heard
                else:
                    self.heard.take(heard)

    def heartbeat(self) -> None:
        self._count += 1
        self.say(Heartbeat(self.session, self._count))

    # ---- what tests do again and again

    def hello(self, session: int | None = None) -> HelloReply:
        self.session = session if session is not None else self.session + 1
        self._count = 0
        return self.ask(Hello(self.session, SCHEMA))

    def fresh(self) -> HelloReply:
        """A new session in SAFE, nothing latched, nothing heard."""
        self.beating = False
        hello = self.hello()
        for number in range(4):
            self.ask(InterlockSet(Interlock(InterlockKind.OFF, 0, 0, 0, 0)), channel=number)
        self.ask(InterlockInputs(0, 0))
        for stream in Stream:
            self.ask(StreamStop(stream))
        self._wait(lambda: False, 0.01)  # passes: what the interlocks saw is history
        status = self.ask(Status())
        if status.state is State.FAULT:
            self.ask(ClearFault(status.fault))
        self.heard = Heard()
        return hello

    def arm(self) -> None:
        self.beat = None
        self.heartbeat()
        self.beating = True
        if not self._wait(lambda: self.beat is not None, self.PATIENCE):
            raise TimeoutError("no reply to a heartbeat")
        while True:
            holder = self.holder
            assert self.beat is not None
            try:
                self.ask(Arm(self.beat.nonce, self.interlocks.checksum, holder))
                return
            except RefusedByBoard as refused:  # two heartbeats have overtaken it
                if refused.refusal.reason is not Refusal.NONCE:
                    raise

    @property
    def holder(self) -> int:
        """Number of the TEDS in force."""
        return self.ask(TedsRead(0, 0)).holder

    def safe(self) -> None:
        self.ask(Safe())

    def status(self) -> StatusReply:
        return self.ask(Status())

    def counters(self) -> CountersReply:
        return self.ask(Counters())

    def until_fault(self, cause: Fault) -> StatusReply:
        if not self._wait(
            lambda: any(event.value == cause for event in self.heard.events if event.kind == 2), self.PATIENCE
        ):
            raise TimeoutError(f"no fault {cause!r}: {self.status()}")
        return self.status()


class SocketHost(Host):
    """Over a socket, with a thread that reads and keeps the lease while `beating`."""

    PATIENCE = 30.0  # the machine's affair

    def __init__(self, wire: socket.socket) -> None:
        super().__init__()
        self._wire = wire
        self._over = threading.Event()
        self._news = threading.Condition(self.lock)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _write(self, data: bytes) -> None:
        self._wire.sendall(data)

    def _wait(self, done: Callable[[], object], seconds: float) -> bool:
        with self._news:
            return bool(self._news.wait_for(done, seconds))

    def wait(self, done: Callable[[], object]) -> bool:
        return self._wait(done, self.PATIENCE)

    def hush(self) -> None:
        """No heartbeat leaves after this."""
        with self.lock:
            self.beating = False

    def _run(self) -> None:
        due = 0.0
        while not self._over.is_set():
            try:
                ready, _, _ = select.select([self._wire], [], [], 0.02)
                data = self._wire.recv(65536) if ready else b""
            except OSError:
                return
            if ready and not data:
                return
            with self._news:
                self.feed(data)
                if data:
                    self._news.notify_all()
            with self.lock:
                if self.beating and time.monotonic() >= due:
                    due = time.monotonic() + BEAT
                    try:
                        self.heartbeat()
                    except OSError:
                        return

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)


class SteppedHost(Host):
    """Beside a unicorn board: time is the device's."""

    def __init__(self, board: stm32_parts.Stm32Board) -> None:
        super().__init__()
        self.board = board
        self._due = 0

    def _write(self, data: bytes) -> None:
        self.board.usart.send(data)

    def run(self, us: int, done: Callable[[], object] = lambda: False, slice_us: int = 200) -> bool:
        """Lets device time pass, reading and beating, until `done`."""
        board, end = self.board, self.board.clock.now + us
        while board.clock.now < end:
            if done():
                return True
            if self.beating and board.clock.now >= self._due:
                self._due = board.clock.now + round(BEAT * 1e6)
                self.heartbeat()
            board.run(min(slice_us, end - board.clock.now))
            if board.usart.sent:
                data = bytes(board.usart.sent)
                board.usart.sent.clear()
                self.feed(data)
        return bool(done())

    def _wait(self, done: Callable[[], object], seconds: float) -> bool:
        return self.run(round(seconds * 1e6), done)


# ---- the holder of these tests: a 100 ohm sensor against a 100 ohm reference, heated by up to 300 K

AMBIENT = 296.15  # K
REFERENCE_COUNTS = 2000
LIMIT = 380.0  # K
TEDS = Teds(
    0x53444554, 1, b"bench holder".ljust(16, b"\0"), b"0001".ljust(16, b"\0"), 20000,
    SensorKind.RESISTANCE, 0, 1, 1.0, 100.0, 100.0, (273.15, 259.74, 0.0, 0.0), 0.0, 0.0,
    50.0, 1.0, 200_000, round(LIMIT * 1000), 5000, 65535, 0,
)  # fmt: skip
TUNING = HeaterConfig(
    kp=2000.0, ki=4000.0, kd=0.0, feed_forward=218.0, ambient=round(AMBIENT * 1000), slew=0,
    output_max=65535, temperature_max=round(LIMIT * 1000), on_time_max=0, loop_break=0,
)  # fmt: skip


def eeprom(teds: Teds | None = TEDS, size: int = 4096) -> bytes:
    """The content of a memory with this TEDS; blank without."""
    if teds is None:
        return b"\xff" * size
    record = teds.pack()
    return (record + struct.pack("<H", crc_hqx(record, 0xFFFF))).ljust(size, b"\xff")


def with_serial(number: bytes) -> Teds:
    return replace(TEDS, serial=number.ljust(16, b"\0"))


@dataclass
class Plant:
    """What the heater heats: one time constant."""

    kelvin: float = AMBIENT
    hottest: float = AMBIENT
    tau: float = 0.5  # s
    rise: float = 300.0  # K at full output

    def advance(self, output: float, dt: float) -> None:
        """`output` from 0 to 1."""
        steps = max(1, round(dt / 0.002))
        for _ in range(steps):
            self.kelvin += (output * self.rise - (self.kelvin - AMBIENT)) * dt / steps / self.tau
        self.hottest = max(self.hottest, self.kelvin)

    @property
    def counts(self) -> int:
        ohms = 100.0 * (1 + (self.kelvin - 273.15) / 259.74)
        return min(4095, round(ohms / 100.0 * REFERENCE_COUNTS))


__all__ = [
    "AMBIENT", "LEASE_MS", "LIMIT", "REFERENCE_COUNTS", "TEDS", "TUNING", "Heard", "Host", "Plant", "RefusedByBoard",
    "SocketHost", "SteppedHost", "eeprom", "with_serial",
]  # fmt: skip
