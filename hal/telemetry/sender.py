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
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import aiomqtt

from ..errors import HalError
from ..model.context import Context
from ..model.journal import Event
from ..model.signal import SignalR
from . import topics
from .broker import BrokerUrl, EmbeddedBroker
from .spool import Spool

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
WHO = "telemetry"


class Sender:
    """Talks to the broker. `run` belongs to the loop that sends; `nudge` and `end` are for any thread."""

    def __init__(
        self,
        lab: str,
        session: str,
        url: BrokerUrl,
        spool: Spool,
        signals: list[SignalR[Any]],
        context: Context,
        lab_loop: asyncio.AbstractEventLoop,
        embedded: EmbeddedBroker | None,
    ) -> None:
        self.lab, self.url = lab, url
        self._session, self._spool, self._signals, self._context = session, spool, signals, context
        self._lab_loop, self._embedded = lab_loop, embedded
        self._identifier = f"hal{uuid.uuid4().hex[:20]}"  # 3.1.1 promises 23 letters and digits
        self.connected = False
        self.trip_changed = context.timebase.now()
        """When something last happened to the trip (lab time, ns)."""
        self._told: tuple[str | None, int] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake, self._end = asyncio.Event(), asyncio.Event()
        self._nudged = False
        self._ending = False
        self._there: bool | None = None

    # ------------------------------------------------------------------ any thread

    def nudge(self) -> None:
        """Something waits in the spool."""
        if not self._nudged and self._loop is not None:
            self._nudged = True
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake.set)

    def end(self) -> None:
        """Send what waits, then return from `run`."""
        self._ending = True
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end.set)
                self._loop.call_soon_threadsafe(self._wake.set)

    # ------------------------------------------------------------------ the sending loop

    async def run(self) -> None:
        """Keep the broker informed until asked to end."""
        self._loop = asyncio.get_running_loop()
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
                async with self._connection() as client:
                    await self._publish(client)
                    await self._goodbye(client)
                    return
            except Exception as error:
                # Whatever it is, it must neither reach the experiment nor end telemetry.
                trouble = error
            if self._ending:
                return
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
    async def _connection(self) -> AsyncIterator[aiomqtt.Client]:
        client = aiomqtt.Client(
            self.url.host,
            self.url.port,
            username=self.url.username,
            password=self.url.password,
            identifier=self._identifier,
            will=aiomqtt.Will(topics.state_topic(self.lab), self._state(online=False, clean=False), 1, True),
            keepalive=KEEPALIVE,
            timeout=PATIENCE,
            tls_context=ssl.create_default_context() if self.url.tls else None,
            socket_options=(
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),  # else an event after a reading takes 40 ms
                (socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER),
            ),
        )
        try:
            async with client:
                yield client
        finally:
            # A broker that hangs leaves aiomqtt's socket open and registered with the loop.
            # Shut down, the socket becomes readable and paho puts it away.
            open_socket: Any = client._client.socket()
            if open_socket is not None:
                with suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
                await asyncio.sleep(0.05)

    async def _hello(self, client: aiomqtt.Client) -> None:
        for signal in self._signals:
            description = topics.encode_description(topics.describe(self.lab, signal, self._session))
            topic = topics.description_topic(self.lab, signal.device.name, signal.name)
            await client.publish(topic, description, qos=1, retain=True)
        await self._tell_trip(client)
        await client.publish(topics.state_topic(self.lab), self._state(online=True), qos=1, retain=True)
        self.connected = True

    async def _goodbye(self, client: aiomqtt.Client) -> None:
        await client.publish(topics.state_topic(self.lab), self._state(online=False), qos=1, retain=True)

    async def _publish(self, client: aiomqtt.Client) -> None:
        """Say what there is, then send what the spool has until asked to end; raise when the connection is lost."""
        listening = asyncio.ensure_future(_lost(client))
        end: float | None = None
        loop = asyncio.get_running_loop()
        try:
            await self._hello(client)
            self._note(True, f"publishing to {self.url}")
            while not listening.done():
                self._nudged = False
                self._wake.clear()
                sent = await self._send_one(client)
                if self._ending:
                    end = end or loop.time() + FLUSH
                    if not sent or loop.time() > end:
                        return
                elif not sent:
                    await _rest(self._wake, self._spool.wait(), listening)
            await listening
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _send_one(self, client: aiomqtt.Client) -> bool:
        """Send the most urgent of what waits; return whether there was something."""
        if self._told != (self._context.tripped, self.trip_changed):
            await self._tell_trip(client)
        elif (first := self._spool.first_event()) is not None:
            number, event = first
            await client.publish(_event_topic(self.lab, event), _event(event, number), qos=1)
            self._spool.event_sent(number)
        elif (waiting := self._spool.first_state()) is not None:
            await client.publish(waiting[0], waiting[1], qos=1, retain=True)
            self._spool.state_sent(*waiting)
        elif (taken := self._spool.take(hurry=self._ending)) is not None:
            topic, reading = taken
            try:
                await client.publish(topic, topics.encode_reading(reading), qos=0)
            except aiomqtt.MqttError:
                self._spool.give_back(topic, reading)
                raise
            self._spool.sent()
            await asyncio.sleep(0)  # a publish that succeeds at once has not let go of the loop
        else:
            return False
        return True

    async def _tell_trip(self, client: aiomqtt.Client) -> None:
        tripped, since = self._context.tripped, self.trip_changed
        payload = topics.encode_trip(topics.TripState(tripped is not None, since, tripped or ""))
        await client.publish(topics.trip_topic(self.lab), payload, qos=1, retain=True)
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
            with suppress(RuntimeError):  # the lab's loop has ended
                self._lab_loop.call_soon_threadsafe(self._context.journal.note, "link", WHO, text)


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


def _said(error: BaseException | None) -> str:
    text = str(error).strip()
    return text or type(error).__name__


async def _lost(client: aiomqtt.Client) -> None:
    """Return never; raise when the connection is lost. Nothing is subscribed, so no message comes."""
    try:
        async for _ in client.messages:
            pass
    except aiomqtt.MqttError as error:
        raise aiomqtt.MqttError("the connection was lost") from error
