"""The publisher: puts every reading of the lab on MQTT, and never makes the experiment wait.

Theory of operation. The lab's loop hands readings and events to a `Spool` and goes on; that is all
it ever does for telemetry. A sender empties the spool as fast as the broker takes it. When the
broker is lost the sender seeks it again for as long as the lab lives, and says all anew when it is
back: descriptions, the trip's state, that the lab is online. The sender is a task of the lab's loop,
or, where that loop can't watch sockets (Windows' own), has a thread and a loop of its own.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol, Self

from ..clock.health import ClockHealth
from ..model.context import Context
from ..model.device import Device
from ..model.journal import Event
from ..model.reading import Reading
from ..model.signal import SignalR
from . import topics
from .broker import BrokerUrl, EmbeddedBroker, parse_broker
from .sender import WHO, Sender
from .spool import Counts, Spool

CLOCKS = 5.0
"""Seconds between two states of each clock."""


class Clock(Protocol):
    """A clock that says how well it is known."""

    def health(self, now: int) -> ClockHealth:
        """Its state at lab time `now`, ns."""
        ...


class Publisher:
    """Publishes the readings of `devices` and the journal of their lab until it is stopped."""

    def __init__(
        self,
        context: Context,
        devices: Iterable[Device],
        broker: str,
        *,
        lab: str,
        session: str = "",
        rate: float = 10.0,
        thread: bool | None = None,
        clocks: Callable[[], Mapping[str, Clock]] = dict,
    ) -> None:
        """Prepare; nothing is opened yet. Raises `ConfigError`.

        `clocks`: returns the devices' own clocks as they are now, by device.
        `rate`: readings of one signal per second, at most; a change of quality always passes.
        `thread`: whether the sender has a thread of its own (None: where the loop makes it necessary).
        """
        self.url: BrokerUrl = parse_broker(broker)
        """Where the readings go; of an embedded broker the port is known once started."""
        self.session = session or uuid.uuid4().hex
        self._context, self._thread, self._clocks = context, thread, clocks
        self._telling: asyncio.Task[None] | None = None
        self._embedded = EmbeddedBroker(self.url.port) if self.url.embedded else None
        self._lab = topics.level(lab, "lab")
        self._signals = [signal for device in devices for signal in device.signals()]
        for signal in self._signals:
            topics.description_topic(lab, signal.device.name, signal.name)  # refuses names MQTT can't carry
        self._spool = Spool(rate)
        self._followed: list[tuple[SignalR[Any], Callable[[Reading[Any]], None]]] = []
        self._sender: Sender | None = None
        self._running: asyncio.Future[None] | None = None

    @property
    def counts(self) -> Counts:
        """What was published and what was not."""
        return self._spool.counts

    @property
    def connected(self) -> bool:
        """Whether the broker has us and knows us."""
        return self._sender is not None and self._sender.connected

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to publish. A broker that is away is no error; `ConfigError` if none can be embedded."""
        if self._running is not None:
            return
        loop = asyncio.get_running_loop()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.open)
            self.url = BrokerUrl(self.url.host, self._embedded.port, embedded=True)
        sender = self._sender = Sender(
            self._lab, self.session, self.url, self._spool, self._signals, self._context, loop, self._embedded
        )
        own = self._thread if self._thread is not None else not _watches_sockets(loop)
        self._running = _on_thread(sender.run) if own else loop.create_task(sender.run(), name=WHO)
        self._context.journal.listeners.append(self._entered)
        for signal in self._signals:
            if topics.streamed(signal):
                topic = topics.reading_topic(self._lab, signal.device.name, signal.name)
                listener = self._listener(topic, sender)
                self._followed.append((signal, listener))
                signal.subscribe(listener)
        self._telling = loop.create_task(self._tell_clocks(sender), name=f"{WHO} of clocks")

    async def stop(self) -> None:
        """Send what waits, say "offline" and leave; takes a few seconds if the broker hangs."""
        running, sender, self._running = self._running, self._sender, None
        if running is None or sender is None:
            return
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait([self._telling])
        for signal, listener in self._followed:
            signal.unsubscribe(listener)
        self._followed.clear()
        with suppress(ValueError):
            self._context.journal.listeners.remove(self._entered)
        sender.end()
        try:
            await asyncio.shield(running)
        finally:
            if self._embedded is not None:
                await asyncio.to_thread(self._embedded.close)

    # ------------------------------------------------------------------ called by the lab's loop; these never wait

    def _listener(self, topic: str, sender: Sender) -> Callable[[Reading[Any]], None]:
        put, nudge = self._spool.put, sender.nudge

        def look(reading: Reading[Any]) -> None:
            put(topic, reading)
            nudge()

        return look

    async def _tell_clocks(self, sender: Sender) -> None:
        while True:
            now = self._context.timebase.now()
            for device, clock in self._clocks().items():
                state = topics.clock_state(device, clock.health(now), self.session, now)
                self._spool.put_state(topics.clock_topic(self._lab, device), topics.encode_clock(state))
            sender.nudge()
            await asyncio.sleep(CLOCKS)

    def _entered(self, event: Event) -> None:
        self._spool.put_event(event)
        if self._sender is not None:
            if event.kind in ("trip", "acknowledge"):
                self._sender.trip_changed = event.time
            self._sender.nudge()


def _watches_sockets(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop can tell when a socket is ready: Windows' own can't, nor can a clock that jumps."""
    one, other = socket.socketpair()
    try:
        loop.add_reader(one, lambda: None)
        loop.remove_reader(one)
    except (NotImplementedError, RuntimeError):
        return False
    finally:
        one.close()
        other.close()
    return True


def _on_thread(work: Callable[[], Any]) -> asyncio.Future[None]:
    """Run a coroutine function on a thread with a loop of its own; the future is done when the thread is."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def ended(error: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    def body() -> None:
        error: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(work())
        except BaseException as caught:
            error = caught
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(ended, error)

    threading.Thread(target=body, name=WHO, daemon=True).start()
    return done
