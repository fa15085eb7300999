"""The listener: a connection to the broker on a thread of its own, for commands to come in and answers to go out.

Theory of operation. It reads from its socket only as fast as commands may come (`RATE`) and only while
few are undecided (`UNDECIDED`); the rest waits in the broker, which bounds it, and not in the lab. So a
flood of commands costs the experiment nothing worth measuring; what waits behind one for too long is
let go with the connection. ``stop`` has a listener to itself, so that no flood of anything else,
acknowledgements included, delays it.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from .broker import BrokerUrl, explained, refuses, tls_refusal
from .command_topics import LARGEST

log = logging.getLogger("hal.telemetry")

RATE = 20.0
"""Commands per second, in the long run."""
BURST = 40.0
"""Commands at once."""
UNDECIDED = 8
"""Commands handed to the lab that it has not decided yet, at most."""
ANSWERS = 1000
"""Answers that may wait for the broker."""
PATIENCE = 3.0
"""Seconds the broker is given to connect."""
BACKOFF = (0.25, 5.0)
"""First and longest pause between attempts to reach the broker, s."""
FLUSH = 1.0
"""Seconds given at the end to answers that still wait."""
KEEPALIVE = 10  # s
BEHIND = 10.0
"""Seconds of commands that come faster than `RATE`, after which the connection is made anew: what waits is dropped."""
UNDER_WAY = 16
"""Messages an MQTT 5 broker may send before the first is acknowledged."""
LARGEST_PACKET = 16 * 1024 * 1024
"""Bytes of a message that an MQTT 5 broker may send at all: it is held in memory before it can be refused."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as it came."""

    topic: str
    payload: bytes
    """Cut off one byte beyond `LARGEST`."""
    size: int
    """Bytes of the payload."""
    retained: bool
    """Whether it waited in the broker from before; of a listener that is told `as_published`, or is to wait there."""
    response_topic: str = ""
    correlation: bytes | None = None
    expiry: int | None = None
    """Seconds it was good for when it came (MQTT 5)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A message to send."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None


class Listener:
    """Hears what is published to some topics. `say`, `keep` and `decided` are for any thread."""

    def __init__(
        self,
        url: BrokerUrl,
        filters: Iterable[str],
        hear: Callable[[Heard], None],
        tell: Callable[[str], None],
        *,
        what: str,
        as_published: bool = False,
    ) -> None:
        """`hear` and `tell` are called on the listener's thread.

        `hear` with each message; `decided` must follow once for each. `tell` when nothing can be heard, and when
        that is over. `what` is heard: for people. `as_published`: be told of a message that comes now, too, whether
        it is to be retained (MQTT 5, 3.8.3.1; the older one can't tell).
        """
        self._url, self._filters, self._hear, self._tell = url, list(filters), hear, tell
        self._what, self._as_published = what, as_published
        self._answers: deque[Answer] = deque(maxlen=ANSWERS)
        self._kept: dict[str, bytes] = {}
        self._undecided = 0
        self._lock = threading.Lock()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry's commands", daemon=True)
        self._tokens, self._filled = BURST, monotonic()
        self._kept_up = monotonic()  # when it last was not behind
        self._version = MQTTProtocolVersion.MQTTv5
        self._reached = False
        self._missed = ""  # why it can't be heard, as was told
        self.connected = threading.Event()
        """Whether it hears at present."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Send what waits, then leave. Blocks for a few seconds if the broker hangs."""
        self._ending.set()
        self._wake()
        self._thread.join(PATIENCE + FLUSH + 1.0)

    def say(self, answer: Answer) -> None:
        """Publish, QoS 1."""
        self._answers.append(answer)
        self._wake()

    def keep(self, topic: str, payload: bytes) -> None:
        """Publish retained, QoS 1, now and whenever the connection is made anew."""
        self._kept[topic] = payload
        self.say(Answer(topic, payload, retain=True))

    def decided(self) -> None:
        """The lab knows what to do with a message."""
        with self._lock:
            self._undecided -= 1
        self._wake()

    # ------------------------------------------------------------------ the listener's thread

    def _run(self) -> None:
        pause, failed = BACKOFF[0], 0
        try:
            while not self._ending.is_set():
                try:
                    self._converse()
                except Exception as error:  # also what paho makes of a broken packet: a thread that ends is deaf
                    failed += 1
                    log.info("commands: no broker at %s (%s)", self._url, explained(error))
                    if not self._ending.is_set():
                        self._tell_why(failed, error)
                if self.connected.is_set():
                    self.connected.clear()
                    pause, failed = BACKOFF[0], 1
                elif self._reached:  # it is there, and does not want us: perhaps it knows the other version
                    v5, v311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
                    self._version = v311 if self._version is v5 else v5
                self._ending.wait(pause)
                pause = min(pause * 2, BACKOFF[1])
        finally:
            self._wake_r.close()
            self._wake_w.close()

    def _tell_why(self, failed: int, error: Exception) -> None:
        """Tell that nothing can be heard: at the second failure in a row, and when it is refused for another reason.

        Not at the first, which may be that the broker knows the older version of MQTT only.
        """
        if failed < 2:
            return
        error = tls_refusal(self._url) or error
        why = explained(error)
        if why != self._missed and (not self._missed or refuses(error)):
            self._missed = why
            self._tell(f"{self._what} can't be heard at {self._url} ({why}); still trying")

    def _converse(self) -> None:
        client = self._client()
        properties = None
        if self._version is MQTTProtocolVersion.MQTTv5:
            properties = _properties(PacketTypes.CONNECT)
            properties.ReceiveMaximum, properties.MaximumPacketSize = UNDER_WAY, LARGEST_PACKET
        self._reached = False
        client.connect(self._url.host, self._url.port, KEEPALIVE, properties=properties)
        self._reached = True
        try:
            connecting = self._kept_up = monotonic()
            until: float | None = None
            while until is None or monotonic() < until:
                if not self.connected.is_set() and monotonic() > connecting + PATIENCE:
                    raise ConnectionError(f"no answer in {PATIENCE:g} s")
                if monotonic() > self._kept_up + BEHIND:
                    raise ConnectionError(f"more than {RATE:g} commands a second come; those that wait are dropped")
                if self._ending.is_set():
                    until = until or monotonic() + FLUSH
                    if not self.connected.is_set() or not (self._answers or client._out_messages):
                        break
                self._turn(client)
        finally:
            client.disconnect()
            with suppress(Exception):
                client.loop_write()
            sock: Any = client.socket()
            if sock is not None:
                sock.close()

    def _turn(self, client: paho.Client) -> None:
        """Wait for something to do, then do it."""
        sock: Any = client.socket()
        if sock is None:
            raise ConnectionError("the connection was lost")
        rest = self._rest()
        pending = rest == 0 and bool(getattr(sock, "pending", lambda: 0)())  # TLS has read more than it has given
        reading = [self._wake_r, sock] if rest == 0 else [self._wake_r]
        readable, writable, _ = select.select(
            reading, [sock] if client.want_write() else [], [], 0 if pending else min(rest or 0.5, 0.5)
        )
        if self._wake_r in readable:
            with suppress(BlockingIOError):
                self._wake_r.recv(4096)
        result = paho.MQTT_ERR_SUCCESS
        if sock in readable or pending:
            result = client.loop_read(1)
        if result == paho.MQTT_ERR_SUCCESS and self.connected.is_set():
            self._send(client)
        if result == paho.MQTT_ERR_SUCCESS and (sock in writable or client.want_write()):
            result = client.loop_write()
        if result == paho.MQTT_ERR_SUCCESS:
            result = client.loop_misc()
        if result != paho.MQTT_ERR_SUCCESS:
            raise ConnectionError(paho.error_string(result))

    def _rest(self) -> float:
        """Seconds until the next message may be read."""
        now = monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * RATE)
        self._filled = now
        if self._tokens > BURST / 2:
            self._kept_up = now
        if not self.connected.is_set():
            return 0.0
        if self._undecided >= UNDECIDED:
            return 0.5  # or until `decided` wakes us
        return 0.0 if self._tokens >= 1.0 else (1.0 - self._tokens) / RATE

    def _send(self, client: paho.Client) -> None:
        while self._answers:
            answer = self._answers.popleft()
            properties = None
            if answer.correlation is not None and self._version is MQTTProtocolVersion.MQTTv5:
                properties = _properties(PacketTypes.PUBLISH)
                properties.CorrelationData = answer.correlation
            client.publish(answer.topic, answer.payload, 1, answer.retain, properties)

    def _client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            f"halc{uuid.uuid4().hex[:18]}",
            protocol=self._version,
            reconnect_on_failure=False,
        )
        client.connect_timeout = PATIENCE
        if self._url.username is not None:
            client.username_pw_set(self._url.username, self._url.password)
        context = self._url.tls_context()
        if context is not None:
            client.tls_set_context(context)
        client.on_socket_open = _quick
        client.on_connect, client.on_message = self._on_connect, self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_socket_register_write = lambda *_: None  # `publish` must not write by itself
        return client

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            raise ConnectionError(f"[code:{reason.value}] {reason}")
        if not self._filters:
            self._heard_again()
        elif self._version is MQTTProtocolVersion.MQTTv5:
            options = SubscribeOptions(qos=1, retainAsPublished=self._as_published)
            client.subscribe([(topic, options) for topic in self._filters])
        else:
            client.subscribe([(topic, 1) for topic in self._filters])
        for topic, payload in list(self._kept.items()):
            self._answers.appendleft(Answer(topic, payload, retain=True))

    def _on_subscribe(self, _client: paho.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._tell(f"{self._what} can't be heard: {self._url} does not let us subscribe; see to its access rules")
            self.connected.set()
        else:
            self._heard_again()

    def _heard_again(self) -> None:
        if self._missed:
            self._missed = ""
            self._tell(f"{self._what} can be heard again")
        self.connected.set()

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._tokens -= 1.0
        properties: Any = message.properties
        heard = Heard(
            message.topic, bytes(message.payload[: LARGEST + 1]), len(message.payload), message.retain,
            getattr(properties, "ResponseTopic", ""), getattr(properties, "CorrelationData", None),
            getattr(properties, "MessageExpiryInterval", None),
        )  # fmt: skip
        with self._lock:  # from here on `decided` follows
            self._undecided += 1
        self._hear(heard)

    def _wake(self) -> None:
        with suppress(OSError):  # full: it is about to wake; closed: it has ended
            self._wake_w.send(b"\0")


def _properties(packet: int) -> Any:
    make: Any = Properties
    return make(packet)


def _quick(_client: Any, _data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
