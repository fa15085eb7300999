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
from collections import deque
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
from . import topics
from .broker import BrokerUrl, EmbeddedBroker, explained, tls_refusal
from .outbox import Outbox, Waiting
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
"""Seconds of readings sent in one go: the loop, which may be the lab's, is not kept longer."""
HISTORY = 8
"""Messages of history sent in one go, if nothing live waits."""
HISTORY_RATE = 1000.0
"""Messages of history sent in a second, at most: what happens now comes first."""
RETRY = 0.1
"""Seconds until the outbox is looked at again that had something and gave nothing."""
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
        self._session, self._spool, self._outbox = session, spool, outbox
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
        self._lent: deque[list[Any]] = deque()  # history under way: message, whether the broker has it
        self._read: deque[Waiting] = deque()  # history read and not yet sent
        self._reading: asyncio.Future[list[Waiting]] | None = None
        self._next_history = 0.0

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
            if self.url.tls and self._there is not False:
                refusal = await asyncio.to_thread(tls_refusal, self.url)
                trouble = refusal or trouble
            if self.connected:
                self.connected, pause = False, BACKOFF[0]
            self._note(
                False, f"no broker at {self.url} ({_said(trouble)}); still trying, the experiment goes on without"
            )
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
            will=aiomqtt.Will(topics.state_topic(self.lab), self._state(online=False, clean=False), 1, True),
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
            self._lent.clear()
            self._read.clear()
            self._reading = None
            self._outbox.rewind()
            # A broker that hangs leaves aiomqtt's socket open and registered with the loop.
            # Shut down, the socket becomes readable and paho puts it away.
            open_socket: Any = client._client.socket()
            if open_socket is not None:
                with suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
                await asyncio.sleep(0.05)

    async def _hello(self, window: Window) -> None:
        for signal in self._signals:
            while not window.free:
                await self._acknowledgement(window)
            description = topics.encode_description(
                topics.describe(self.lab, signal, self._session, self._rates.of(signal.device.name, signal.name))
            )
            topic = topics.description_topic(self.lab, signal.device.name, signal.name)
            window.send(topic, description, retain=True)
        await self._tell_trip(window)
        await window.say(topics.state_topic(self.lab), self._state(online=True), retain=True, within=PATIENCE)
        self.connected = True
        self._spool.begin()

    async def _goodbye(self, window: Window) -> None:
        await window.say(topics.state_topic(self.lab), self._state(online=False), retain=True, within=PATIENCE)

    async def _publish(self, client: aiomqtt.Client, window: Window) -> None:
        """Say what there is, then send what there is until asked to end; raise when the connection is lost."""
        listening = asyncio.ensure_future(_lost(client))
        listening.add_done_callback(lambda _: self._wake.ring())
        end: float | None = None
        loop = asyncio.get_running_loop()
        try:
            await self._hello(window)
            self._note(True, f"publishing to {self.url}")
            while not listening.done():
                self._nudged = False
                self._wake.still()
                sent = await self._send_some(window)
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
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _send_some(self, window: Window) -> bool:
        """Send the most urgent of what waits; return whether there was something."""
        if self._told != (self._context.tripped, self.trip_changed):
            await self._tell_trip(window)
        elif not window.free:
            return False
        elif (first := self._spool.take_event()) is not None:
            number, event = first
            done = partial(self._spool.event_sent, number)
            window.send(_event_topic(self.lab, event), _event(event, number), done)
        elif (state := self._spool.take_state()) is not None:
            window.send(*state, retain=True)
        elif (passing := self._spool.take_passing()) is not None:
            window.send(*passing, qos=0)
        elif self._spool.waits:
            self._send_live(window)
        else:
            return self._send_history(window)
        return True

    def _send_live(self, window: Window) -> None:
        until = monotonic() + TURN
        while window.free and monotonic() < until and (message := self._spool.take()) is not None:
            window.send(message.topic, message.payload, partial(self._spool.confirmed, message), qos=self._qos)

    def _send_history(self, window: Window) -> bool:
        """Send a little of what waited on disk: only if nothing live waits, and so much in a second at most."""
        if self._ending and self._outbox.folder is not None:
            return False  # the next session sends it
        if self._history_in() > 0:
            return False
        if not self._read:
            if self._reading is None and self._outbox.unread:  # aside: a disk may hang, and live readings must not
                self._reading = asyncio.ensure_future(asyncio.to_thread(self._outbox.read, turn=self._outbox.turn))
                self._reading.add_done_callback(lambda _: self._wake.ring())
            if self._reading is None or not self._reading.done():
                return False
            reading, self._reading = self._reading, None
            self._read.extend(reading.result())
            if not self._read:
                self._next_history = asyncio.get_running_loop().time() + RETRY
                return False
        sent = 0
        while self._read and sent < HISTORY and window.free > window.size // 2:
            message = self._read.popleft()
            lent = [message, False]
            self._lent.append(lent)
            topic = topics.history_topic(message.topic)
            window.send(topic, topics.as_history(message.payload), partial(self._history_confirmed, lent))
            sent += 1
        self._next_history = asyncio.get_running_loop().time() + (0.0 if self._ending else sent / HISTORY_RATE)
        return sent > 0

    def _history_confirmed(self, lent: list[Any]) -> None:
        lent[1] = True
        while self._lent and self._lent[0][1]:
            self._outbox.confirm(self._lent.popleft()[0])
            self._spool.counts.history += 1

    def _history_in(self) -> float:
        return self._next_history - asyncio.get_running_loop().time()

    def _pause(self, window: Window) -> float | None:
        """Seconds until there is something to do, if nothing comes."""
        pauses = [LOOK]
        if len(window):
            pauses.append(PATIENCE - window.waited)
        if self._read or (self._reading is None and self._outbox.unread):
            pauses.append(self._history_in() if window.free > window.size // 2 else LOOK)
        return max(0.0, min(pauses))

    async def _acknowledgement(self, window: Window) -> None:
        self._wake.still()
        await self._wake.heard(PATIENCE - window.waited)
        if window.waited > PATIENCE:
            raise aiomqtt.MqttError(f"no acknowledgement in {PATIENCE:g} s")

    async def _tell_trip(self, window: Window) -> None:
        tripped, since = self._context.tripped, self.trip_changed
        payload = topics.encode_trip(
            topics.TripState(tripped is not None, since, tripped or "", "" if tripped else self.trip_by)
        )
        await window.say(topics.trip_topic(self.lab), payload, retain=True, within=PATIENCE)
        self._told = tripped, since

    def _state(self, *, online: bool, clean: bool = True) -> bytes:
        timebase = self._context.timebase
        return topics.encode_state(
            topics.LabState(online, self._session, timebase.now() if online or clean else None, clean, timebase.anchor)
        )

    def _note(self, there: bool, text: str) -> None:
        """Enter in the journal that the broker came or went: once, however often it is tried in between."""
        log.info("%s", text)
        if there is not self._there:
            self._there = there
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
        return topics.encode_event(event, number)
    except Exception as error:  # somebody's `data` that has no text: the event itself must pass
        return topics.encode_event(replace(event, data={"unreadable": type(error).__name__}), number)


async def _rest(event: asyncio.Event, seconds: float | None, *others: asyncio.Future[Any]) -> None:
    """Wait for `event`, for one of `others`, or for `seconds`."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiting, *others], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def _said(error: BaseException) -> str:
    """Why there is no broker; aiomqtt leaves the reason for a certificate's refusal in the context."""
    below = error.__context__
    return explained(below if isinstance(below, ssl.SSLError) else error)


async def _lost(client: aiomqtt.Client) -> None:
    """Return never; raise when the connection is lost. Nothing is subscribed, so no message comes."""
    try:
        async for _ in client.messages:
            pass
    except aiomqtt.MqttError as error:
        raise aiomqtt.MqttError("the connection was lost") from error


class Bell:
    """Wakes one who waits; for the loop's own thread. Much cheaper than a task that waits for an `Event`."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake who waits, or will."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def still(self) -> None:
        """From now on only a new ring wakes."""
        self._rung = False

    async def heard(self, seconds: float | None) -> None:
        """Return when it rings, or after `seconds`."""
        if self._rung:
            return
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self.ring) if seconds is not None else None
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
