"""The publisher: puts every reading of the lab on MQTT, and never makes the experiment wait.

Theory of operation. The lab's loop hands readings and events to a `Spool` and goes on; that is all
it ever does for telemetry. A sender empties the spool as fast as the broker takes it. What the broker
does not take within half a second a `Keeper` writes to the `Outbox`, from where the sender sends it
as history when nothing live waits. When the broker is lost the sender seeks it again for as long as
the lab lives, and says all anew when it is back: descriptions, the trip's state, that the lab is
online. The sender is a task of the lab's loop, or, where that loop can't watch sockets (Windows' own),
has a thread and a loop of its own; the keeper has a thread.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self

from ..clock.health import ClockHealth
from ..errors import HalError
from ..model.context import Context
from ..model.device import Device
from ..model.journal import Event
from ..model.reading import Reading
from ..model.signal import SignalR
from . import clock_states, topics
from .alarms import Alarm, Alarms, encode_alarm
from .broker import BrokerUrl, EmbeddedBroker, parse_broker
from .keeper import Keeper
from .outbox import AGE, SIZE, Outbox, OutboxStatus
from .rates import EVERYTHING, Due, Rate, Rates, Thinner, thinner
from .sender import WHO, Sender
from .spool import Counts, Spool
from .states import DeviceState, Films, Watch, device_state, encode_detector, encode_device
from .streams import Samples, Stream, StreamChunk, encode_chunk

CLOCKS = 5.0
"""Seconds between two states of each clock."""
OUTBOX = 2.0
"""Seconds between two states of the outbox, at least."""


DETECTOR = 1.0
"""Seconds between two states of a camera that films."""


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
        broker: str | BrokerUrl,
        *,
        lab: str,
        session: str = "",
        qos: int = 1,
        rates: Mapping[str, Rate] | None = None,
        outbox: Path | None = None,
        outbox_size: float = SIZE,
        outbox_age: float = AGE,
        thread: bool | None = None,
        clocks: Callable[[], Mapping[str, Clock]] = dict,
    ) -> None:
        """Prepare; nothing is opened yet. Raises `ConfigError`.

        `qos`: of live readings; 0 is faster, and what is under way when the broker is lost is lost then.
        `rates`: by signal ("heater.temperature") or device ("heater"); else every reading is published.
        `outbox`: the folder in which readings wait while the broker is away, `outbox_size` MB and
        `outbox_age` days at most; None: in memory.
        `thread`: whether the sender has a thread of its own (None: where the loop makes it necessary).
        `clocks`: returns the devices' own clocks as they are now, by device.
        """
        self.url: BrokerUrl = parse_broker(broker) if isinstance(broker, str) else broker
        """Where the readings go; of an embedded broker the port is known once started."""
        self.session = session or uuid.uuid4().hex
        self._context, self._thread, self._clocks = context, thread, clocks
        self._qos, self._rates = qos, Rates(rates or {})
        self._folder, self._outbox_size, self._outbox_age = outbox, outbox_size, outbox_age
        self._embedded = EmbeddedBroker.of(self.url, lab) if self.url.embedded else None
        self._lab = topics.level(lab, "lab")
        self._devices = list(devices)
        self._signals = [signal for device in self._devices for signal in device.signals()]
        for signal in self._signals:
            topics.description_topic(lab, signal.device.name, signal.name)  # refuses names MQTT can't carry
        self._spool = Spool()
        self._followed: list[tuple[SignalR[Any], Callable[[Reading[Any]], None]]] = []
        self._thinners: list[tuple[str, Thinner]] = []
        self._telling: list[asyncio.Task[None]] = []
        self._alarms = Alarms(self.session, self._tell_alarm)
        self._said_of_links: dict[str, str] = {}
        self._states: dict[str, DeviceState] = {}
        self._streams: list[Stream] = []
        self._outbox: Outbox | None = None
        self._keeper: Keeper | None = None
        self._sender: Sender | None = None
        self._running: asyncio.Future[None] | None = None
        self._no_folder = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def counts(self) -> Counts:
        """What was published and what was not."""
        return self._spool.counts

    @property
    def outbox(self) -> OutboxStatus:
        """How much waits for the broker, and what was lost."""
        return self._outbox.status() if self._outbox is not None else OutboxStatus()

    @property
    def alarms(self) -> Mapping[str, Alarm]:
        """Those that are active or await their acknowledgement, by name; the trip is not among them."""
        return self._alarms.standing

    def acknowledge(self, alarm: str, by: str) -> bool:
        """Somebody knows of an alarm (not of the trip, see `Lab.acknowledge`); False if there is nothing to know."""
        if not self._alarms.acknowledge(alarm, by):
            return False
        self._context.journal.note("acknowledge", alarm, f"alarm {alarm} acknowledged by {by}", alarm=alarm, by=by)
        return True

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
        loop = self._loop = asyncio.get_running_loop()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.open)
            self.url = self._embedded.url
        outbox = self._outbox = await asyncio.to_thread(self._open_outbox)
        self._spool = Spool(tally=outbox.tally)
        self._context.journal.listeners.append(self._entered)
        if self._no_folder:
            self._context.journal.note("error", WHO, f"{self._no_folder}; readings wait in memory only")
        if outbox.lost:
            text = f"the session before was killed; of the readings it still held, {outbox.lost} are lost at most"
            self._context.journal.note("error", WHO, text)
        sender = self._sender = Sender(
            self._lab, self.session, self.url, self._spool, outbox, self._signals, self._context, loop, self._embedded,
            qos=self._qos, rates=self._rates,
        )  # fmt: skip
        self._keeper = Keeper(self._spool, outbox, self._outbox_changed)
        self._keeper.start()
        own = self._thread if self._thread is not None else not _watches_sockets(loop)
        self._running = _on_thread(sender.run) if own else loop.create_task(sender.run(), name=WHO)
        for signal in self._signals:
            if topics.streamed(signal):
                listener = self._listener(signal, sender)
                self._followed.append((signal, listener))
                signal.subscribe(listener)
        for device in self._devices:
            if isinstance(device, Samples):
                self._streams.append(Stream(device.name, device, self._tell_chunk))
        now = self._context.timebase.now()
        for name in ("outbox", *(f"link-{device.name}" for device in self._devices)):
            self._alarms.declare(name, "alarm", now)
        self._tell_devices()
        for work in (self._tell_clocks, self._tell_outbox, self._tell_detectors):
            self._telling.append(loop.create_task(self._go_on(work, sender), name=f"{WHO}: {work.__name__}"))

    async def stop(self) -> None:
        """Send what waits, say "offline" and leave; takes a few seconds if the broker hangs."""
        running, sender, self._running = self._running, self._sender, None
        if running is None or sender is None or self._keeper is None:
            return
        for task in self._telling:
            task.cancel()
        await asyncio.wait(self._telling)
        self._telling.clear()
        for stream in self._streams:
            stream.close()
        self._streams.clear()
        for signal, listener in self._followed:
            signal.unsubscribe(listener)
        self._followed.clear()
        for topic, thin in self._thinners:
            self._put(topic, thin.flush(), acquired=0)
        self._thinners.clear()
        with suppress(ValueError):
            self._context.journal.listeners.remove(self._entered)
        sender.end()
        try:
            await asyncio.shield(running)
        finally:
            await asyncio.to_thread(self._keeper.stop)
            if self._embedded is not None:
                await asyncio.to_thread(self._embedded.close)

    def _open_outbox(self) -> Outbox:
        self._no_folder = ""
        try:
            return Outbox(self._folder, size=self._outbox_size, age=self._outbox_age)
        except HalError as error:  # the experiment is worth more than its telemetry
            self._no_folder = str(error)
        except OSError as error:
            self._no_folder = f"the outbox {self._folder} can't be opened ({error.strerror or error}); see to its disk"
        return Outbox()

    # ------------------------------------------------------------------ called by the lab's loop; these never wait

    def _listener(self, signal: SignalR[Any], sender: Sender) -> Callable[[Reading[Any]], None]:
        topic = topics.reading_topic(self._lab, signal.device.name, signal.name)
        put, nudge, encode = self._spool.put, sender.nudge, topics.encode_reading
        rate = self._rates.of(signal.device.name, signal.name)

        def every(reading: Reading[Any]) -> None:
            put(topic, encode(reading))
            nudge()

        if rate == EVERYTHING:
            return every
        thin = thinner(rate)
        self._thinners.append((topic, thin))

        def some(reading: Reading[Any]) -> None:
            due = thin.add(reading)
            if due:
                self._put(topic, due, acquired=1)
                nudge()
            else:
                self._spool.held_back()

        return some

    def _put(self, topic: str, due: list[Due], *, acquired: int) -> None:
        for each in due:
            self._spool.put(topic, topics.encode_reading(each.reading, each.spread), each.count, acquired)
            acquired = 0

    async def _tell_outbox(self, sender: Sender) -> None:
        told: OutboxStatus | None = None
        while True:
            if (status := self.outbox) != told:
                now, more = self._context.timebase.now(), _lost(status) - _lost(told or status)
                if status.full:
                    self._alarms.begin("outbox", "alarm", status.reason, now)
                    if self._outbox is not None and not self._outbox.full and not (told or OutboxStatus()).full:
                        self._outbox_changed(False, status.reason)  # a disk that hangs: the keeper can't tell
                elif more > 0:
                    text = f"{more} messages were lost on their way through the outbox; bring the broker back"
                    self._alarms.begin("outbox", "warning", text, now)
                else:
                    self._alarms.end("outbox")
                told = status
                self._spool.put_state(topics.outbox_topic(self._lab), topics.encode_outbox(status))
                sender.nudge()
            self._tell_devices()
            await asyncio.sleep(OUTBOX)

    def _tell_devices(self) -> None:
        for device in self._devices:
            link, tripped = self._said_of_links.get(device.name, ""), self._context.tripped
            state = device_state(self._lab, device, self.session, tripped, link)
            if state == self._states.get(device.name):
                continue
            self._states[device.name] = state
            self._spool.put_state(topics.device_topic(self._lab, device.name), encode_device(state))
            alarm = f"link-{device.name}"
            if state.state == "lost":
                self._alarms.begin(alarm, "alarm", state.reason, self._context.timebase.now())
            else:
                self._alarms.end(alarm)

    def _tell_alarm(self, name: str, alarm: Alarm) -> None:
        self._spool.put_state(topics.alarm_topic(self._lab, name), encode_alarm(alarm))
        if self._sender is not None:
            self._sender.nudge()

    def _tell_chunk(self, chunk: StreamChunk) -> None:
        if self._sender is not None and self._sender.connected:
            self._spool.put_passing(topics.stream_topic(self._lab, chunk.device, chunk.name), encode_chunk(chunk))
            self._sender.nudge()

    async def _tell_detectors(self, sender: Sender) -> None:
        watches = {device.name: Watch(device) for device in self._devices if isinstance(device, Films)}
        try:
            while watches:
                await asyncio.sleep(DETECTOR)
                for name, watch in watches.items():
                    state = await watch.state(self._context.timebase.now())
                    if state is not None:
                        self._spool.put_passing(topics.detector_topic(self._lab, name), encode_detector(state))
                        sender.nudge()
        finally:
            for watch in watches.values():
                watch.close()

    def _outbox_changed(self, well: bool, text: str) -> None:
        """Called from the keeper's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the lab's loop has ended
                self._loop.call_soon_threadsafe(self._context.journal.note, "note" if well else "error", WHO, text)

    async def _go_on(self, work: Callable[[Sender], Coroutine[Any, Any, None]], sender: Sender) -> None:
        try:
            await work(sender)
        except Exception as error:  # a driver's trouble with its camera or clock is not that of the lab
            self._context.journal.note("error", WHO, f"{work.__name__}: {type(error).__name__}: {error}")

    async def _tell_clocks(self, sender: Sender) -> None:
        while True:
            now = self._context.timebase.now()
            for device, clock in self._clocks().items():
                state = clock_states.clock_state(device, clock.health(now), self.session, now)
                self._spool.put_state(topics.clock_topic(self._lab, device), clock_states.encode_clock(state))
            sender.nudge()
            await asyncio.sleep(CLOCKS)

    def _entered(self, event: Event) -> None:
        self._spool.put_event(event)
        if event.kind == "link":
            self._said_of_links.update(dict.fromkeys(event.device.split(", "), event.text))
        if event.kind in ("link", "trip", "acknowledge") and self._loop is not None:
            self._loop.call_soon(self._tell_devices)  # by then the lab has done what the event tells of
        if self._sender is not None:
            if event.kind in ("trip", "acknowledge") and "alarm" not in event.data:
                self._sender.trip_changed = event.time
                self._sender.trip_by = str(event.data.get("by", ""))
            self._sender.nudge()


def _lost(status: OutboxStatus) -> int:
    return status.dropped_size + status.dropped_age + status.dropped_full + status.damaged


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
