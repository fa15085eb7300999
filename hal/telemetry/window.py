"""The window: messages on their way to the broker, so many at a time, each told of when the broker has it.

`aiomqtt` awaits the acknowledgement of each message before the next can go: over a wire of 20 ms that
is 50 messages a second. Here they go one after another, in order, and the acknowledgements come when
they come (MQTT 3.1.1, 4.4 and 4.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from time import monotonic

import aiomqtt

from .cork import Cork

WINDOW = 256
"""Messages under way at once, at most."""

Done = Callable[[], None]


class Window:
    """What is under way on one connection. All of it belongs to the loop of that connection."""

    def __init__(self, client: aiomqtt.Client, wake: Done, size: int = WINDOW) -> None:
        """For the open connection of `client`; `wake` is called when an acknowledgement has come.

        Raises `MqttError`.
        """
        self._cork = Cork(client, self._acknowledged)
        self._wake, self.size = wake, size
        self._under_way: dict[int, tuple[Done | None, float]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def free(self) -> int:
        """How many may be sent now."""
        return 0 if self._cork.full else self.size - len(self._under_way)

    @property
    def waited(self) -> float:
        """Seconds since the oldest of those under way was sent, or since the broker last took a byte."""
        oldest = next(iter(self._under_way.values()), None)
        return self._cork.stuck if oldest is None else monotonic() - oldest[1]

    def send(self, topic: str, payload: bytes, done: Done | None = None, *, qos: int = 1, retain: bool = False) -> None:
        """Send; call `done` when the broker has it (QoS 0: now)."""
        if qos == 0:
            self._cork.write(publish(topic, payload, 0, retain))
            if done is not None:
                done()
            return
        self._number = self._number % 0xFFFF + 1
        self._under_way[self._number] = (done, monotonic())
        self._cork.write(publish(topic, payload, self._number, retain))

    async def say(self, topic: str, payload: bytes, *, retain: bool = False, within: float) -> None:
        """Send and wait until the broker has it, `within` seconds at most. Raises `MqttError`."""
        there: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done() -> None:
            if not there.done():
                there.set_result(None)

        self.send(topic, payload, done, retain=retain)
        try:
            await asyncio.wait_for(there, within)
        except TimeoutError:
            raise aiomqtt.MqttError(f"no acknowledgement in {within:g} s") from None

    def _acknowledged(self, number: int) -> None:
        done, _ = self._under_way.pop(number, (None, 0.0))
        if done is not None:
            done()
        self._wake()


def publish(topic: str, payload: bytes, number: int, retain: bool) -> bytes:
    """A PUBLISH (MQTT 3.1.1, 3.3): of QoS 1 with a packet identifier from 1 to 65535, of QoS 0 with `number` 0."""
    name = _name(topic)
    length = len(name) + len(payload) + (2 if number else 0)
    head = bytearray(((0x32 if number else 0x30) | retain,))
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    head += name
    if number:
        head += number.to_bytes(2, "big")
    head += payload
    return bytes(head)


@lru_cache(8192)
def _name(topic: str) -> bytes:
    name = topic.encode()
    return len(name).to_bytes(2, "big") + name
