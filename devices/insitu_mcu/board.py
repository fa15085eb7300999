"""The board as such: who it is, how it is spoken to, that its host lives, what time it is."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any, TypeVar

from hal.errors import ConfigError, DeviceError, LinkLost, NoReply, ProtocolError, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.instrument import Instrument
from hal.model.reading import Answer
from hal.protocols import firmware
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware import FirmwareFraming, Sorter
from hal.protocols.firmware_gen import Event, EventKind, Fault, Refusal, Request, State, Telemetry
from hal.protocols.framing import Framing
from hal.transport.session import Exchange
from hal.transport.tap import Tap

from .clock import TickClock, TimeExchange
from .words import REFUSALS

R = TypeVar("R")

BEAT = gen.LEASE_MS / 3e3
"""Seconds between heartbeats: two may be lost before the board switches off."""
BURST = 8
"""Time exchanges on connecting."""
OFTEN, SELDOM = 0.1, 0.717
"""Seconds between time exchanges: at first, and later (in step with nothing)."""
AT_FIRST = 5.0  # s


@dataclass(frozen=True, slots=True)
class Done:
    """A command carried out, or a question answered."""

    reply: Any
    exchange: Exchange


class Board(Instrument):
    """A board of ours on a serial line or socket; `StreamingBoard` adds its streams, `InsituMcu` what it is for."""

    TIMEOUT = 0.1  # s: an answer takes 2 ms
    TRIES = 6

    timeout = TIMEOUT

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        if isinstance(self.session.link, Tap):
            raise ConfigError(f"{self.name}: one board is one device; give each board a link of its own")
        now = self.session.timebase.now
        self._sorter = Sorter(now=now, samples=self._samples_came, edges=self._edges_came, told=self._told)
        self.session.link = Tap(self.session.link, self._sorter.feed, self._wire_gone)
        self.hello: gen.HelloReply | None = None
        """Who answered, and what it offers."""
        self.ticks = TickClock(ppm=self.options.clock_ppm)
        """The board's clock against lab time."""
        self.events: list[Event] = []
        """What the board told of itself in this epoch."""
        self._session_id = secrets.randbits(32) | 1
        self._acts = self._asked = secrets.randbits(8)
        """Numbers of the last command that acts once, and of the last that is carried out each time it comes."""
        self._count = 0
        self._nonce = 0
        self._beating: asyncio.Task[None] | None = None
        self._timing: asyncio.Task[None] | None = None
        self._again: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ who is there

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return FirmwareFraming()

    async def identify(self) -> str:
        self._sorter.reset()
        try:
            done = await self.do(gen.Hello(self._session_id, gen.SCHEMA))
        except NoReply:
            if self._sorter.foreign:
                raise WrongInstrument(
                    self.name,
                    f"the board speaks version {self._sorter.foreign} of the protocol, this program version "
                    f"{gen.VERSION}; flash firmware that fits",
                ) from None
            raise
        except ProtocolError as error:
            raise WrongInstrument(
                self.name, f"expected our board, found something else ({error}); check `link` in the lab file"
            ) from None
        hello: gen.HelloReply = done.reply
        before, self.hello = self.hello, hello
        board = hello.board.rstrip(b"\0").decode(errors="replace")
        if before is None or before.boot != hello.boot:
            self._new_epoch(hello, anew=before is not None)
        if self.read_only:
            self.context.journal.note(
                "error", self.name,
                f"the firmware's messages are not this program's (schema {hello.schema:08x}, here {gen.SCHEMA:08x}): "
                "it can be read, not set",
            )  # fmt: skip
        return f"{board} build {hello.build:08x} boot {hello.boot:08x} ({hello.reset_cause.name} reset)"

    @property
    def read_only(self) -> bool:
        """Whether host and firmware were built of different definitions: then nothing is set."""
        return self.hello is not None and (bool(self.hello.read_only) or self.hello.schema != gen.SCHEMA)

    def offers(self, capability: gen.Capability) -> bool:
        """Whether the board says it has it."""
        return self.hello is not None and bool(self.hello.capabilities & capability)

    def need(self, capability: gen.Capability, what: str) -> None:
        if self.hello is not None and not self.offers(capability):
            raise Refused(self.name, f"the board says it has no {what}; nothing was sent")

    async def connected(self) -> None:
        for _ in range(BURST):
            await self.exchange_time()
        if not self.read_only and not self.context.gate.closed:
            await self._resume_streams()
        self._timing = self._timing or asyncio.create_task(self._keep_time(), name=f"{self.name} time")

    async def disconnecting(self) -> None:
        tasks = [t for t in (self._beating, self._timing, self._again) if t is not None]
        self._beating = self._timing = self._again = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # ------------------------------------------------------------------ speaking

    async def do(self, request: Request[Any], channel: int = 0, *, tries: int = TRIES, harmless: bool = False) -> Done:
        """Say `request` until it is answered, and have it act once. Raises `Refused`, `NoReply`, `LinkLost`.

        `harmless`: it touches nothing but the flow of data, and passes a closed gate.
        """
        asks = request.ACCESS == "query" or harmless
        if self.read_only and request.ACCESS not in ("query", "safe"):
            raise Refused(self.name, f"{REFUSALS[Refusal.READ_ONLY]}; nothing was sent")
        message = self._message(request, channel)
        for left in range(tries - 1, -1, -1):
            try:
                fits = firmware.reply_to(message)
                if asks:
                    exchange = await self.ask(message, repeatable=False, matches=fits)
                else:
                    # Not retried by the session, which would not know when: each try is seen here.
                    exchange = await self.command(message, matches=fits)
                break
            except NoReply:
                if not left:
                    raise
                if request.FRESH:  # asked anew: a late answer to the first must not pass for the second's
                    message = self._message(request, channel)
        try:
            reply = firmware.parse(exchange.reply)
        except ValueError as error:
            raise ProtocolError(self.name, f"{type(request).__name__}: {error}") from None
        if isinstance(reply, gen.Refused):
            raise self._refusal(request, reply)
        return Done(reply, exchange)

    async def exchange_time(self) -> TimeExchange | None:
        """Ask the board's time once and keep what was found; None if the answer was lost."""
        nonce = secrets.randbits(32)
        try:
            done = await self.do(gen.Time(self.session.timebase.now(), nonce), tries=1)
        except NoReply:
            return None
        reply: gen.TimeReply = done.reply
        if reply.nonce != nonce:
            return None
        found = TimeExchange(reply.boot, done.exchange.sent, reply.received, reply.sent, done.exchange.received)
        self.ticks.add(found)
        if self.hello is not None and reply.boot != self.hello.boot:
            self._start_again()
        return found

    async def status(self) -> Done:
        """All there is to know about it now."""
        return await self.do(gen.Status())

    async def counters(self) -> gen.CountersReply:
        """What was lost, and what was not, since the board started."""
        reply: gen.CountersReply = (await self.do(gen.Counters())).reply
        return reply

    async def counts(self) -> Answer:
        """The report behind the counting signals."""
        done = await self.do(gen.Counters())
        return Answer(done.reply, done.exchange.sent, done.exchange.received)

    # ------------------------------------------------------------------ living

    async def beat(self) -> gen.HeartbeatReply:
        """One heartbeat: renews the lease, brings a nonce to arm with."""
        self._count += 1
        reply: gen.HeartbeatReply = (await self.do(gen.Heartbeat(self._session_id, self._count), tries=1)).reply
        self._nonce = reply.nonce
        self.heard(reply.state, reply.fault)
        return reply

    def keep_alive(self) -> None:
        """Let the heart beat from now on."""
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat_on(), name=f"{self.name} heart")

    def let_go(self) -> None:
        """Let the heart stop: the board switches everything off by itself."""
        beating, self._beating = self._beating, None
        if beating is not None and beating is not asyncio.current_task():
            beating.cancel()

    def heard(self, state: State, fault: Fault) -> None:
        """The board told its state; drivers look."""

    # ------------------------------------------------------------------ private

    def _message(self, request: Request[Any], channel: int = 0) -> bytes:
        # Two counts: the firmware takes a jump in the numbers of what acts once for something very old.
        if request.FRESH:
            number = self._asked = (self._asked + 1) & 0xFF
        else:
            number = self._acts = (self._acts + 1) & 0xFF
        return firmware.command(request, number, channel)

    def _refusal(self, request: Request[Any], refused: gen.Refused) -> Refused:
        if refused.reason is Refusal.NO_SESSION:
            self._start_again()
        detail = f" ({refused.detail})" if refused.detail else ""
        why = REFUSALS.get(refused.reason, refused.reason.name)
        return Refused(self.name, f"{type(request).__name__} was refused in {refused.state.name}: {why}{detail}")

    def _new_epoch(self, hello: gen.HelloReply, *, anew: bool) -> None:
        self.ticks.new_epoch(hello.boot, hello.tick_rate)
        self._sorter.boot = hello.boot
        self.events.clear()
        if anew:
            self.context.journal.note(
                "clock", self.name,
                f"the board started anew ({hello.reset_cause.name} reset): a new epoch of its ticks, {hello.boot:08x}",
                boot=hello.boot,
            )  # fmt: skip

    def _start_again(self) -> None:
        """The board restarted behind an open link: make its acquaintance anew."""
        if self._again is None or self._again.done():
            self._again = asyncio.create_task(self._acquaint(), name=f"{self.name} again")

    async def _acquaint(self) -> None:
        try:
            hello: gen.HelloReply = (await self.do(gen.Hello(self._session_id, gen.SCHEMA))).reply
            if self.hello is None or hello.boot != self.hello.boot:  # else it was told late, and is known
                await self._verify()
        except DeviceError as error:
            self.context.journal.note("error", self.name, str(error))

    async def _beat_on(self) -> None:
        loop = asyncio.get_running_loop()
        with acting(Purpose.COMMAND):  # not behind questions
            while not self.context.gate.closed:  # after a trip the board is to look after itself, too
                due = loop.time() + BEAT
                try:
                    await self.beat()
                except NoReply:
                    continue  # another at once
                except DeviceError as error:
                    self.context.journal.note("error", self.name, f"heartbeat: {error}")
                    if isinstance(error, LinkLost) and not self.reconnecting:
                        return
                await asyncio.sleep(max(0.0, due - loop.time()))

    async def _keep_time(self) -> None:
        loop = asyncio.get_running_loop()
        often_until = loop.time() + AT_FIRST
        with acting(Purpose.POLL):
            while True:
                await asyncio.sleep(
                    OFTEN if loop.time() < often_until else SELDOM * (0.9 + 0.2 * secrets.randbits(16) / 65536)
                )
                try:
                    await self.exchange_time()
                except DeviceError:
                    continue  # whoever needs the board will say so
                self._grant(again=True)

    def _wire_gone(self, reason: OSError) -> None:
        self.session.lose(self.name, reason)

    async def _resume_streams(self) -> None:
        """Streams that were running when the link or the board went, begun anew."""

    def _grant(self, *, again: bool = False) -> None:
        """Grant the board credit for its streams."""

    def _samples_came(self, chunk: firmware.SampleChunk) -> None: ...

    def _edges_came(self, chunk: firmware.EdgeChunk) -> None: ...

    def _telemetry_came(self, line: Telemetry) -> None: ...

    def _told(self, message: Telemetry | Event) -> None:
        if isinstance(message, Telemetry):
            self._telemetry_came(message)
            return
        if message.kind is EventKind.BOOT:
            if self.hello is not None:  # else it is from before us
                self._start_again()
            return
        self.events.append(message)
        del self.events[:-1000]
        self.on_event(message)

    def on_event(self, event: Event) -> None:
        """The board told something of itself; drivers look."""
