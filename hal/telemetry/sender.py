"""The sender: talks to the broker for the publisher, and seeks it again when it is lost.

It belongs to whatever loop runs it: the lab's own, or one on a thread. It is never cancelled, it is
asked to end: aiomqtt connects in a thread that nobody can cancel, and a connection left behind
would keep the lab "online". Each of its waits is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

import aiomqtt

from ..errors import HalError
from ..model.context import Context
from ..model.journal import Event
from ..model.signal import SignalR
from . import descriptions, topics
from .bell import Bell
from .broker import BrokerUrl, EmbeddedBroker, explained, refuses, tls_refusal
from .history import History
from .outbox import Outbox
from .presence import Heard, Presence
from .rates import Rates
from .spool import Spool
from .window import Window

log = logging.getLogger("hal.telemetry")

PATIENCE = 3.0
"""Seconds the broker is given to take a message."""
BACKOFF = (0.25, 5.0)
"""First and longest pause between attempts to reach the broker, s."""
FLUSH = 2.0
"""Seconds given at the end to what still waits."""
KEEPALIVE = 10  # s: a lab that was cut off is offline for everybody after 1.5 times that (MQTT 3.1.1, 3.1.2.10)
BUFFER = 64 << 10  # bytes under way to a slow broker: what is in there no newer reading can replace
GRACE = 0.5
"""Seconds a broker not yet reached is given although the lab ends."""
TURN = 2e-3
"""Seconds of sending in one go: the loop, which may be the lab's, is not kept longer."""
REPEAT = 0.2
"""Seconds from saying again that the lab is here to the next time, however often somebody says the contrary."""
STEADY = 10.0
"""Seconds a connection has to last that comes after several which did not, before anybody is told."""
BREAKS = 3
"""How many connections in a row may be lost sooner, each of them on the record."""
ECHO = 5.0
"""Seconds in which the lab hears itself say that it is there, if the broker passes on what it takes."""
LOOK = 1.0
"""Seconds between looks at whether there is something to do, if nothing comes."""
WHO = "telemetry"


class Sender:
    """Talks to the broker. `run` belongs to the loop that sends; `nudge` and `end` are for any thread."""

    def __init__(
        self,
        lab: str,
        session: str,
        url: BrokerUrl,
        spool: Spool,
        outbox: Outbox,
        signals: list[SignalR[Any]],
        context: Context,
        lab_loop: asyncio.AbstractEventLoop,
        embedded: EmbeddedBroker | None,
        *,
        qos: int = 1,
        rates: Rates | None = None,
    ) -> None:
        self.lab, self.url = lab, url
        self._session, self._spool = session, spool
        self._signals, self._context, self._rates = signals, context, rates or Rates()
        self._lab_loop, self._embedded, self._qos = lab_loop, embedded, qos
        self._identifier = f"hal{uuid.uuid4().hex[:20]}"  # 3.1.1 promises 23 letters and digits
        self.connected = False
        self.trip_changed = context.timebase.now()
        """When something last happened to the trip (lab time, ns)."""
        self.trip_by = ""
        """Who acknowledged the last trip."""
        self._told: tuple[str | None, int] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._wake = Bell()
        self._end = asyncio.Event()
        self._nudged = False
        self._ending = False
        self._there: bool | None = None
        self._absent: set[str] = set()  # what was told of why it is not there
        self._presence = Presence(lab, session, context.timebase)
        self._history = History(outbox, spool, self._wake.ring)
        self._listens = True  # to its own state
        self._hears = False  # whether the broker has promised so
        self._unsaid = False  # whether it must be said again that we are here
        self._said = 0.0  # when that was done, s
        self._since = 0.0  # when it was connected, s
        self._breaks = 0  # connections in a row that did not last

    # ------------------------------------------------------------------ any thread

    def nudge(self) -> None:
        """Something waits in the spool."""
        if not self._nudged and self._loop is not None:
            self._nudged = True
            if threading.get_ident() == self._thread:
                self._wake.ring()
                return
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake.ring)

    def end(self) -> None:
        """Send what waits, then return from `run`."""
        self._ending = True
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end.set)
                self._loop.call_soon_threadsafe(self._wake.ring)

    # ------------------------------------------------------------------ the sending loop

    async def run(self) -> None:
        """Keep the broker informed until asked to end."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        if self._ending:
            self._end.set()
        try:
            await self._keep_informed()
        finally:
            self.connected = False

    async def _keep_informed(self) -> None:
        pause = BACKOFF[0]
        while True:
            trouble: BaseException
            try:
                if self._embedded is not None and not self._embedded.alive:
                    await asyncio.to_thread(self._embedded.open)
                await self._knock()
                async with self._connection() as (client, window):
                    await self._publish(client, window)
                    await self._goodbye(window)
                    return
            except Exception as error:
                # Whatever it is, it must neither reach the experiment nor end telemetry.
                trouble = error
            if self._ending:
                return
            if self.url.tls:
                refusal = await asyncio.to_thread(tls_refusal, self.url)
                trouble = refusal or trouble
            if self._since:
                self._breaks = 0 if monotonic() > self._since + STEADY else self._breaks + 1
                pause = BACKOFF[0] if self._breaks < BREAKS else pause
                self.connected, self._since, self._listens = False, 0.0, True
            # aiomqtt leaves the reason for a certificate's refusal in the context.
            trouble = trouble.__context__ if isinstance(trouble.__context__, ssl.SSLError) else trouble
            text = f"no broker at {self.url} ({explained(trouble)}); still trying, the experiment goes on without"
            self._note(False, text, anew=refuses(trouble))
            await _rest(self._end, pause)
            pause = min(pause * 2, BACKOFF[1])

    async def _knock(self) -> None:
        # A broker that is away is found out here, where the wait is ours, rather than in aiomqtt's thread.
        knock = asyncio.ensure_future(asyncio.open_connection(self.url.host, self.url.port))
        await asyncio.wait([knock], timeout=GRACE)
        await _rest(self._end, PATIENCE - GRACE, knock)
        if not knock.done():
            knock.cancel()
            await asyncio.gather(knock, return_exceptions=True)
            raise ConnectionError(f"no answer in {PATIENCE:g} s")
        _, writer = knock.result()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[aiomqtt.Client, Window]]:
        client = aiomqtt.Client(
            self.url.host,
            self.url.port,
            username=self.url.username,
            password=self.url.password,
            identifier=self._identifier,
            will=aiomqtt.Will(self._presence.topic, self._presence.will(), 1, True),
            keepalive=KEEPALIVE,
            timeout=PATIENCE,
            tls_context=await asyncio.to_thread(self.url.tls_context),  # reads files
            socket_options=(
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),  # else an event after a reading takes 40 ms
                (socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER),
            ),
        )
        try:
            async with client:
                yield client, Window(client, self._wake.ring)
        finally:
            self._spool.cut()
            self._history.cut()
            # A broker that hangs leaves aiomqtt's socket open and registered with the loop.
            # Shut down, the socket becomes readable and paho puts it away.
            open_socket: Any = client._client.socket()
            if open_socket is not None:
                with suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
                await asyncio.sleep(0.05)

    async def _hello(self, client: aiomqtt.Client, window: Window) -> None:
        await self._listen_to_our_state(client)
        for signal in self._signals:
            while not window.free:
                await self._acknowledgement(window)
            description = descriptions.encode_description(
                descriptions.describe(self.lab, signal, self._session, self._rates.of(signal.device.name, signal.name))
            )
            topic = topics.description_topic(self.lab, signal.device.name, signal.name)
            window.send(topic, description, retain=True)
        self._tell_trip(window)
        await window.say(self._presence.topic, self._presence.online(), retain=True, within=PATIENCE)
        self.connected, self._since = True, monotonic()
        self._spool.begin()

    async def _goodbye(self, window: Window) -> None:
        self.connected = False
        await window.say(self._presence.topic, self._presence.offline(), retain=True, within=PATIENCE)

    async def _publish(self, client: aiomqtt.Client, window: Window) -> None:
        """Say what there is, then send what there is until asked to end; raise when the connection is lost."""
        listening = asyncio.ensure_future(self._listen(client))
        listening.add_done_callback(lambda _: self._wake.ring())
        hello = asyncio.ensure_future(self._hello(client, window))
        end: float | None = None
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait([hello, listening], return_when=asyncio.FIRST_COMPLETED)
            if not hello.done():
                raise aiomqtt.MqttError("it hangs up on us; does it let us publish? See to its access rules")
            await hello
            while not listening.done():
                if self._breaks < BREAKS or monotonic() > self._since + STEADY:
                    self._note(True, f"publishing to {self.url}")
                if self._hears and not self._presence.echoed and monotonic() > self._since + ECHO:
                    self._hears = False
                    self._tell("link", f"{self.url} takes what we publish, and nothing of it comes back. See to its "
                        f"access rules: the lab must be allowed to write below insitu/{self.lab}, "
                        f"insitu-history/{self.lab} and insitu-meta/{self.lab}, and to read {self._presence.topic}; "
                        "else what it says may be thrown away")  # fmt: skip
                self._nudged = False
                self._wake.still()
                sent = self._send_some(window)
                if window.waited > PATIENCE:
                    await asyncio.sleep(0.05)  # if it was the loop that hung, the acknowledgements are here now
                    if window.waited > PATIENCE:
                        raise aiomqtt.MqttError(f"no acknowledgement in {PATIENCE:g} s")
                if self._ending:
                    end = end or loop.time() + FLUSH
                    if loop.time() > end or not (sent or len(window)):
                        return
                if sent:
                    await asyncio.sleep(0)  # the loop may be the lab's
                else:
                    await self._wake.heard(self._pause(window))
            await listening
        finally:
            for task in (hello, listening):
                task.cancel()
            await asyncio.gather(hello, listening, return_exceptions=True)

    async def _listen_to_our_state(self, client: aiomqtt.Client) -> None:
        if not self._listens:
            return
        self._listens = self._hears = False  # if it hangs up on this, the next attempt does without
        # Before anything is published: paho and the window number their packets each by itself.
        granted: Any = await client.subscribe(self._presence.topic, qos=0)
        self._listens, self._hears = True, not any(code.is_failure for code in granted)

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Hear what is said of our state. Return never; raise when the connection is lost."""
        try:
            async for message in client.messages:
                if message.retain:
                    continue  # it was so before we came
                heard = self._presence.heard(bytes(message.payload))
                if heard is Heard.TWIN:
                    self._tell(
                        "error",
                        f"another lab called {self.lab!r} publishes to {self.url}, and what the two say is mixed up; "
                        "give each a name of its own (`name` under [lab]), or end the one that was forgotten",
                    )
                if heard is not Heard.FINE:
                    self._unsaid = True
                    self._wake.ring()
        except aiomqtt.MqttError as error:
            raise aiomqtt.MqttError("the connection was lost") from error

    def _send_some(self, window: Window) -> bool:
        """Send the most urgent of what waits; return whether there was something."""
        if self._told != (self._context.tripped, self.trip_changed) and window.free:
            self._tell_trip(window)
        if self._unsaid and window.free and monotonic() > self._said + REPEAT:
            window.send(self._presence.topic, self._presence.online(), retain=True)
            self._unsaid, self._said = False, monotonic()
        until, sent = monotonic() + TURN, False
        while window.free and monotonic() < until and self._send_next(window):
            sent = True
        return sent or self._history.send(window, ending=self._ending)

    def _send_next(self, window: Window) -> bool:
        if not self._spool.first:
            if (message := self._spool.take()) is None:
                return False
            window.send(message.topic, message.payload, partial(self._spool.confirmed, message), qos=self._qos)
        elif (event := self._spool.take_event()) is not None:
            done = partial(self._spool.event_sent, event[0])
            window.send(_event_topic(self.lab, event[1]), _event(event[1], event[0]), done)
        elif (state := self._spool.take_state()) is not None:
            window.send(*state, retain=True)
        elif (passing := self._spool.take_passing()) is not None:
            window.send(*passing, qos=0)
        return True

    def _pause(self, window: Window) -> float:
        """Seconds until there is something to do, if nothing comes."""
        longest = min(LOOK, PATIENCE - window.waited) if len(window) else LOOK
        return max(0.0, self._history.pause(window, longest))

    async def _acknowledgement(self, window: Window) -> None:
        self._wake.still()
        await self._wake.heard(PATIENCE - window.waited)
        if window.waited > PATIENCE:
            raise aiomqtt.MqttError(f"no acknowledgement in {PATIENCE:g} s")

    def _tell_trip(self, window: Window) -> None:
        tripped, since = self._context.tripped, self.trip_changed
        payload = topics.encode_trip(
            topics.TripState(tripped is not None, since, tripped or "", "" if tripped else self.trip_by, self._session)
        )
        window.send(topics.trip_topic(self.lab), payload, retain=True)
        self._told = tripped, since

    def _note(self, there: bool, text: str, *, anew: bool = False) -> None:
        """Enter in the journal that the broker came or went: once, however often it is tried in between.

        `anew`: also that it is away for another reason than was told.
        """
        log.info("%s", text)
        if there is not self._there:
            self._there = there
            self._absent.clear()
        elif not anew or text in self._absent:
            return
        self._absent.add(text)
        self._tell("link", text)

    def _tell(self, kind: str, text: str) -> None:
        with suppress(RuntimeError):  # the lab's loop has ended
            self._lab_loop.call_soon_threadsafe(self._context.journal.note, kind, WHO, text)


def _event_topic(lab: str, event: Event) -> str:
    try:
        return topics.event_topic(lab, event.kind)
    except HalError:
        return topics.event_topic(lab, "note")


def _event(event: Event, number: int) -> bytes:
    try:
        payload = topics.encode_event(event, number)
        why = f"{len(payload)} bytes"
        if len(payload) <= topics.LARGEST:
            return payload
    except Exception as error:  # somebody's `data` that has no text: the event itself must pass
        why = type(error).__name__
    return topics.encode_event(replace(event, text=f"{event.text:.1000}", data={"unreadable": why}), number)


async def _rest(event: asyncio.Event, seconds: float | None, *others: asyncio.Future[Any]) -> None:
    """Wait for `event`, for one of `others`, or for `seconds`."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiting, *others], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
