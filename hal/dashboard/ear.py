"""Listening to the broker, and the two things a dashboard may say: stop, and acknowledge.

paho's own thread receives, so that a busy page makes no message late; what came waits in a bounded queue until
the page's loop takes it in, several times a second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
import uuid
from collections import deque
from contextlib import suppress
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from ..errors import HalError
from ..telemetry.broker import BrokerUrl
from ..telemetry.command_topics import Command, Reply, Verb, command_topic, encode_command
from ..telemetry.topics import META, READINGS
from .model import HISTORY, LOCAL, Board

log = logging.getLogger("hal.dashboard")

EVERY = 0.1
"""Seconds between two looks into the queue."""
QUEUE = 200_000
"""Messages that may wait; of more, the oldest are not looked at."""
PATIENCE = 6.0
"""Seconds a lab is given to answer."""
KINDS = ("signals", "devices", "alarms", "clocks", "events", "streams", "detector")
"""What is listened to below ``insitu-meta/<lab>/``, beside single topics; other people's commands are not."""


class Ear:
    """A connection to one broker that keeps `board` up to date and seeks the broker again when it is lost."""

    def __init__(
        self,
        broker: BrokerUrl,
        board: Board,
        *,
        user: str = "",
        password: str | None = None,
    ) -> None:
        self.broker, self.board, self.user = broker, board, user
        self.connected = False
        self.trouble = f"not yet connected to {broker}"
        """Why it is not connected; for people."""
        self._password = password
        self._queue: deque[tuple[str, bytes, float, float]] = deque(maxlen=QUEUE)
        self._replies: dict[str, asyncio.Future[Reply]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: mqtt.Client | None = None

    async def run(self) -> None:
        """Listen until cancelled."""
        self._loop = asyncio.get_running_loop()
        client = self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"haldash{uuid.uuid4().hex[:16]}")
        if self.user:
            client.username_pw_set(self.user, self._password)
        if (tls := self.broker.tls_context()) is not None:
            client.tls_set_context(tls)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail, client.on_message = self._on_connect_fail, self._on_message
        client.on_socket_open = _at_once
        client.reconnect_delay_set(1, 8)
        client.connect_async(self.broker.host, self.broker.port, keepalive=15)
        client.loop_start()
        try:
            while True:
                self.take_in()
                await asyncio.sleep(EVERY)
        finally:
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)

    def take_in(self) -> None:
        """Feed the board what came."""
        queue, feed = self._queue, self.board.feed
        waiting = len(queue)
        if waiting == QUEUE:
            log.warning("this machine can't keep up: readings were not looked at")
        for _ in range(waiting):
            topic, payload, came, wall = queue.popleft()
            if topic.startswith(f"{META}/") and topic.split("/")[2:3] == ["replies"]:
                self._replied(payload)
            else:
                feed(topic, payload, came, wall)
        self.board.look(time.monotonic())

    async def command(self, lab: str, verb: Verb, command: Command) -> Reply:
        """Send a command and return the lab's answer. Raises `HalError` if it could not be sent or nobody answers."""
        client = self._client
        if client is None or not self.connected:
            raise HalError(f"{lab}: {verb} was NOT sent: {self.trouble}; go to the instruments")
        answered = asyncio.get_running_loop().create_future()
        self._replies[command.id] = answered
        client.publish(command_topic(lab, self.user or LOCAL, verb), encode_command(command), qos=1)
        log.info("%s: %s sent as %s", lab, verb, self.user or LOCAL)
        try:
            async with asyncio.timeout(PATIENCE):
                reply: Reply = await answered
                return reply
        except TimeoutError:
            raise HalError(
                f"{lab}: no answer to {verb} in {PATIENCE:g} s; whether it was done is not known: go to the instruments"
            ) from None
        finally:
            del self._replies[command.id]

    def _replied(self, payload: bytes) -> None:
        with suppress(ValueError, TypeError, AttributeError, KeyError):
            found = json.loads(payload)
            waiting = self._replies.get(str(found["id"]))
            if waiting is not None and not waiting.done():
                waiting.set_result(Reply(found["id"], found["ok"] is True, str(found["text"]), int(found["time"])))

    # ------------------------------------------------------------------ on paho's thread

    def _on_message(self, _: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        topic = message.topic
        self._queue.append((topic, bytes(message.payload), time.monotonic(), time.time()))
        if topic.startswith(f"{META}/") and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.take_in)

    def _on_connect(self, client: mqtt.Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self.trouble = f"{self.broker} refuses {self.user or 'anonymous listeners'}: {reason}"
            log.warning("%s", self.trouble)
            return
        # Live readings are for looking: at QoS 0 a slow dashboard costs nobody anything.
        meta = [f"{META}/+/+", *(f"{META}/+/{kind}/#" for kind in KINDS), f"{META}/+/replies/{self.user or LOCAL}"]
        client.subscribe([(READINGS, 0), (f"{HISTORY}/#", 1), *((topic, 1) for topic in meta)])
        self.connected, self.trouble = True, ""
        log.info("listening to %s", self.broker)

    def _on_connect_fail(self, *_: Any) -> None:
        self.trouble = f"no broker answers at {self.broker}"

    def _on_disconnect(self, *_: Any) -> None:
        if self.connected:
            self.connected, self.trouble = False, f"the connection to {self.broker} was lost"
            log.warning("%s", self.trouble)


def _at_once(_: mqtt.Client, __: Any, connection: Any) -> None:
    with suppress(OSError, AttributeError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a stop waits 40 ms for the ack before
