"""The board as such: who it is, how it is spoken to, that its host lives."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from hal.errors import ConfigError, DeviceError, LimitError, LinkLost, NoReply, ProtocolError, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.instrument import Instrument
from hal.model.reading import Answer
from hal.protocols import firmware
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware import FirmwareFraming, Sorter
from hal.protocols.firmware_gen import Event, EventKind, Fault, Refusal, Request, State, TedsState, Telemetry
from hal.protocols.framing import Framing
from hal.transport.session import Exchange, Session
from hal.transport.tap import Tap

from .words import NO_SHEET, RANGES, REFUSALS, TEDS

BEAT = gen.LEASE_MS / 10e3
"""Seconds between heartbeats: the event loop may stand still for nine tenths of the lease, or eight be lost."""
_boards: WeakKeyDictionary[Session, Board] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Done:
    """A command carried out, or a question answered."""

    reply: Any
    exchange: Exchange


class Board(Instrument):
    """A board of ours on a serial line or socket; `InsituMcu` adds what it is for."""

    TIMEOUT = 0.1  # s: an answer takes 2 ms
    TRIES = 6

    timeout = TIMEOUT

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        if isinstance(self.session.link, Tap):
            raise ConfigError(f"{self.name}: one board is one device; give each board a link of its own")
        _boards[self.session] = self
        now = self.session.timebase.now
        self._sorter = Sorter(now=now, samples=self._samples_came, edges=self._edges_came, told=self._told)
        self.session.link = Tap(self.session.link, self._sorter.feed, self._wire_gone)
        self.hello: gen.HelloReply | None = None
        """Who answered, and what it offers."""
        self.events: list[Event] = []
        """What the board told of itself in this epoch."""
        self._session_id = secrets.randbits(32) | 1
        self._acts = self._asked = secrets.randbits(8)
        """Numbers of the last command that acts once, and of the last that is carried out each time it comes."""
        self._count = 0
        self._nonce = 0
        self._beating: asyncio.Task[None] | None = None
        self._again: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ who is there

    @classmethod
    def on(cls, session: Session) -> Board | None:
        """The board on a session, for devices that are parts of it."""
        return _boards.get(session)

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
        self._refuse_nonsense(hello)
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

    def _refuse_nonsense(self, hello: gen.HelloReply) -> None:
        """Raise `WrongInstrument` where nothing could be reckoned with what the board says of itself."""
        for what, value, least, most in (
            ("counter runs at {} Hz", hello.tick_rate, 1_000_000, 2**32),
            ("control loop takes {} us", hello.control_period, 1, 10_000),
            ("converter counts to {}", hello.adc_full_counts, 1, 32767),
        ):
            if not least <= value <= most:
                raise WrongInstrument(
                    self.name, f"the board says that its {what.format(value)}, which can't be; flash firmware that fits"
                )

    @property
    def volts_per_count(self) -> float:
        """Of its analogue inputs; 0 before it has said who it is."""
        return 0.0 if self.hello is None else self.hello.adc_full_scale * 1e-6 / self.hello.adc_full_counts

    @property
    def read_only(self) -> bool:
        """Whether host and firmware were built of different definitions: then nothing is set."""
        return self.hello is not None and (bool(self.hello.read_only) or self.hello.schema != gen.SCHEMA)

    def offers(self, capability: gen.Capability) -> bool:
        """Whether the board says it has it."""
        return self.hello is not None and bool(self.hello.capabilities & capability)

    @property
    def known(self) -> gen.HelloReply:
        """What it said of itself. Raises `DeviceError` before it is connected."""
        if self.hello is None:
            raise DeviceError(self.name, "it has not said yet what it has; connect it first")
        return self.hello

    def need(self, capability: gen.Capability, what: str) -> None:
        if self.hello is not None and not self.offers(capability):
            raise Refused(self.name, f"the board says it has no {what}; nothing was sent")

    async def connected(self) -> None:
        if not self.read_only and not self.context.gate.closed:
            await self._resume_streams()

    async def disconnecting(self) -> None:
        tasks = [t for t in (self._beating, self._again) if t is not None]
        self._beating = self._again = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # ------------------------------------------------------------------ speaking

    async def do(self, request: Request[Any], channel: int = 0, *, tries: int = TRIES, harmless: bool = False) -> Done:
        """Say `request` until it is answered, and have it act once. Raises `Refused`, `NoReply`, `LinkLost`.

        One at a time, though the board takes four: on a USB line each waits a millisecond or two, some fifty a second
        are said, and that the safe state overtakes all else rests on it (`bench/firmware.py` has what it would bring).
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

    async def beat(self, tries: int = 1) -> gen.HeartbeatReply:
        """One heartbeat: renews the lease, brings a nonce to arm with."""
        self._count += 1
        beat = gen.Heartbeat(self._session_id, self._count)
        reply: gen.HeartbeatReply = (await self.do(beat, tries=tries)).reply
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

    def unprotected(self) -> None:
        """The board's interlocks are not those that were set; drivers set them again."""

    def exchanged(self) -> None:
        """The board's holder is not the one that is known; drivers read it anew."""

    # ------------------------------------------------------------------ private

    def _message(self, request: Request[Any], channel: int = 0) -> bytes:
        # Two counts: the firmware takes a jump in the numbers of what acts once for something very old.
        if request.FRESH:
            number = self._asked = (self._asked + 1) & 0xFF
        else:
            number = self._acts = (self._acts + 1) & 0xFF
        try:
            return firmware.command(request, number, channel)
        except ValueError as error:
            raise LimitError(f"{self.name}: {error}; nothing was sent") from None

    def _refusal(self, request: Request[Any], refused: gen.Refused) -> Refused:
        if refused.reason is Refusal.NO_SESSION:
            self._start_again()
        elif refused.reason is Refusal.UNPROTECTED:
            self.unprotected()
        elif refused.reason is Refusal.HOLDER:
            self.exchanged()
        detail = f" ({refused.detail})" if refused.detail else ""
        why = REFUSALS.get(refused.reason, refused.reason.name)
        if refused.reason is Refusal.RANGE:
            why = RANGES.get(type(request), why)
        if (
            refused.reason is Refusal.TEDS
            and isinstance(request, gen.TedsCommit)
            and refused.detail != TedsState.ABSENT
        ):
            why, detail = NO_SHEET, ""
        elif refused.reason is Refusal.TEDS and refused.detail in TEDS:
            why, detail = TEDS[TedsState(refused.detail)], ""
        return Refused(self.name, f"{type(request).__name__} was refused in {refused.state.name}: {why}{detail}")

    @property
    def _boot(self) -> int | None:
        return None if self.hello is None else self.hello.boot

    def _hand(self, listener: Callable[[Any], None], what: Any) -> None:
        try:
            listener(what)
        except Exception as error:  # one listener's trouble must not cost the others their data
            self.context.journal.note("error", self.name, f"a listener failed: {type(error).__name__}: {error}")

    def _new_epoch(self, hello: gen.HelloReply, *, anew: bool) -> None:
        self._sorter.boot = hello.boot
        self._sorter.volts_per_count = self.volts_per_count
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
