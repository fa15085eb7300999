"""The lab: devices from a lab file, opened together, guarded, and left in their safe state."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal as signals_of_the_os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_type_hints

from ..clock.timebase import Timebase
from ..errors import CapabilityError, ConfigError, HalError, InterlockTripped, LinkLost, RecordError, Superseded
from ..gate import Purpose, acting
from ..instrument.instrument import Instrument
from ..model.capabilities import CAPABILITIES, lacking
from ..model.context import Context
from ..model.safety import Condition, Interlock, Trip, parse_condition
from ..model.signal import SignalR
from ..model.status import Unobserved
from ..transport.session import LinkState, Session
from ..units import convert
from .latch import Latch

if TYPE_CHECKING:
    from ..clock.envelope import EnvelopeClock
    from ..clock.exchange_clock import ExchangeClock
    from ..recording.run import Run
    from ..telemetry.broker import BrokerUrl
    from ..telemetry.commands import Commands
    from ..telemetry.publisher import Publisher
    from .config import LabConfig
    from .emulation import Emulation

GRACE = 0.3
"""Seconds a script has to take notice of a trip by itself before its task is cancelled."""
LOOK = 0.5
"""Seconds between looks at the latch file while tripped."""
TRIES = 3
"""How often a device is asked to go to its safe state."""


T = TypeVar("T")

OWN_NAMES = {
    "config",
    "name",
    "context",
    "devices",
    "interlocks",
    "trip",
    "trips",
    "emulation",
    "telemetry",
    "commands",
    "run",
}
"""What a lab has under these names itself."""


class Lab:
    """Subclass it with one annotation per device that your experiment needs::

    class InSitu(Lab):
        heater: Heater
        camera: Camera

    async with InSitu.open("lab.toml") as lab:
        await lab.heater.ramp(to=400.0, rate=2.5)
    """

    def __init__(self, config: LabConfig, *, timebase: Timebase | None = None) -> None:
        """Use `open` or `connect` instead."""
        self.config = config
        self.name = config.file.lab.name
        self.context = Context(timebase)
        self.devices: dict[str, Instrument] = {}
        self.interlocks: list[Interlock] = []
        self.trip: Trip | None = None
        """The trip in force, until it is acknowledged."""
        self.trips: list[Trip] = []
        """All trips of this session."""
        self.emulation: Emulation | None = None
        """The emulators behind ``emulator:`` links, for the bench."""
        self._latch = Latch(config.path, self.name)
        self._sessions: dict[str, Session] = {}
        self._body: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancelled_for: Trip | None = None
        """The trip for which the script's task was cancelled."""
        self._interrupted = self._told_to_end = False
        self._leaving = False
        self._closing = False
        self._let_go = False
        """The devices are being disconnected: nothing can be sent to them any more."""
        self._looking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kept: set[asyncio.Task[Any]] = set()
        """Those of the tasks that closing waits for: devices on their way to their safe state, the latch file."""
        self._writing: asyncio.Task[None] | None = None
        """The latest work on the latch file that is done on a thread."""
        self._unwritten: Trip | None = None
        """A trip that could not be written to the latch file."""
        self.telemetry: Publisher | None = None
        """The publisher, if the lab file names a broker."""
        self.commands: Commands | None = None
        """Who listens to commands, if the lab file allows any."""
        self.run: Run | None = None
        """The recording under way."""

    # ------------------------------------------------------------------ opening and closing

    @classmethod
    @asynccontextmanager
    async def open(cls, path: str | Path | None = None) -> AsyncIterator[Self]:
        """Open the lab of a lab file; whatever happens, leave every device in its safe state.

        `path` defaults to ``lab.toml``; `hal run --lab FILE` (variable HAL_LAB) overrides it.
        Raises `ConfigError`, `CapabilityError`, `LinkLost`, `NoReply`, `WrongInstrument`, and
        `InterlockTripped` if an earlier trip was not acknowledged.
        """
        task = asyncio.current_task()
        lab = await cls._opened(path, body=task)
        failed = True
        with lab._stopped_by_signals():
            try:
                yield lab
                failed = False
            except asyncio.CancelledError:
                if lab._interrupted and task is not None:
                    task.uncancel()
                    raise KeyboardInterrupt from None
                if lab._cancelled_for is None or task is None:
                    raise
                if task.uncancel() > 0:  # somebody else wants it cancelled too
                    raise
                raise lab._cancelled_for.error from None
            finally:
                await lab._close_whatever_happens(failed=failed)
        if lab.trip is not None and task not in lab.context.reached:
            raise lab.trip.error  # it ended before it could notice
        lab._raise_unobserved()

    @classmethod
    async def connect(cls, path: str | Path | None = None) -> Self:
        """Open the lab for use over several cells of a notebook; end with ``await lab.close()``."""
        return await cls._opened(path, body=None)

    @classmethod
    @asynccontextmanager
    async def looking(cls, path: str | Path) -> AsyncIterator[Self]:
        """Open a lab only to read it: no interlock, no telemetry, nothing written, nothing changed at the end."""
        lab = await cls._opened(path, body=None, looking=True)
        try:
            yield lab
        finally:
            await lab._close_whatever_happens(failed=False)

    async def close(self) -> None:
        """Leave every device as the lab file says (`on_exit`), then disconnect. Raises what nobody awaited."""
        await self._close_whatever_happens(failed=False)
        self._raise_unobserved()

    @classmethod
    def needs(cls) -> dict[str, type]:
        """The devices this experiment needs: name to capability."""
        base = set(get_type_hints(Lab))
        return {n: t for n, t in get_type_hints(cls).items() if not n.startswith("_") and n not in base}

    # ------------------------------------------------------------------ safety

    def interlock(self, condition: Condition, *, name: str = "", for_at_least: float = 0.0) -> Interlock:
        """From now on, if `condition` fails for `for_at_least` seconds, trip."""
        if not isinstance(condition, Condition):
            raise TypeError(
                f"an interlock keeps a condition, such as lab.gauge.pressure.below(1e-3), not {condition!r}"
            )
        interlock = Interlock(condition, self._tripped_by, name=name, for_at_least=for_at_least)
        self.interlocks.append(interlock)
        interlock.start()
        self.context.journal.note("note", condition.signal.device.name, f"interlock {interlock.name}: {condition.text}")
        return interlock

    async def stop(self, *, by: str, reason: str = "") -> None:
        """A person's stop: every device to its safe state, and nothing is set until somebody acknowledges.

        It is a trip: what a script does fails with it, and the next lab does not open before `hal ack`.
        Once begun it goes on, also if the caller is cancelled. It may be awaited on another thread's loop.
        Raises the first failure of a device to get there, the others as its notes; `HalError` where the lab
        is only looked at, or closed.
        """
        if not by.strip():
            raise ValueError("stop: by whom? give a person's name")
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            there = asyncio.run_coroutine_threadsafe(self.stop(by=by, reason=reason), self._loop)
            await asyncio.wrap_future(there)
            return
        if self._looking:
            raise HalError("this lab was opened to be looked at; nothing can be stopped from here")
        if self._let_go:
            raise HalError("the lab is closed; nothing can be sent to its devices any more")
        text = f"stopped by {by}" + (f": {reason}" if reason.strip() else "")
        made_safe = self._trip("stop", text, InterlockTripped, latched=True, anew=True)
        if made_safe is None:  # tripped already: once more, the safe state passes a closed gate
            made_safe = self._start(self._make_all_safe(), kept=True)
        await asyncio.wait([made_safe] + ([self._writing] if self._writing is not None else []))
        _raise_first(made_safe.result())

    async def safe_state(self) -> None:
        """Take every device to its safe state. Raises the first failure, the others as its notes.

        Once begun it goes on, also if the caller is cancelled: a few devices would be safe, the others not.
        """
        _raise_first(await asyncio.shield(self._start(self._make_all_safe(), kept=True)))

    def acknowledge(self, trip: Trip | None = None, *, by: str) -> None:
        """Release a trip in the name of a person: writes pass again, interlocks watch anew."""
        if not by.strip():
            raise ValueError("acknowledge: by whom? give a person's name")
        if self.trip is None or (trip is not None and trip is not self.trip):
            return
        if self._writing is not None and not self._writing.done():  # else the trip would be written after its release
            self._writing = self._start(self._released_late(by, self._writing), kept=True)
        else:
            try:
                self._latch.acknowledge(by, self.context.timebase)
            except OSError as problem:
                self._not_written(f"the acknowledgement could not be written down: {problem}")
        self._release(by)

    # ------------------------------------------------------------------ recording

    @asynccontextmanager
    async def record(
        self, directory: str | Path = "runs", *, sample: str = "unknown", film: bool = True, **notes: Any
    ) -> AsyncIterator[Run]:
        """Record every signal and every frame into one file until the block is left, however it is left.

        The cameras film all the while, unless `film` is False: then only while somebody looks at them.
        """
        from ..recording.run import Run

        if self.run is not None:
            raise RecordError(f"{self.run.path}: this run is still under way; leave its block before the next begins")
        run = self.run = Run(self, directory, sample=sample, notes=notes, film=film, script=_caller())
        try:
            await run.start()
            yield run
        except BaseException as error:
            run.ended_by(error)
            raise
        finally:
            self.run = None
            await _to_the_end(run.finish())

    def signals(self) -> Iterator[SignalR[Any]]:
        """Every signal of every device."""
        for device in self.devices.values():
            yield from device.signals()

    def signal(self, path: str) -> SignalR[Any]:
        """The signal called ``device.signal``. Raises `ConfigError`."""
        device, _, name = path.partition(".")
        for found in self.devices[device].signals() if device in self.devices else ():
            if found.name == name:
                return found
        raise ConfigError(f"{path!r} is no signal of this lab; `hal list` shows them")

    def capabilities(self) -> dict[str, list[str]]:
        """What each device can do."""
        return {n: [c.__name__ for c in CAPABILITIES if c in d.provides] for n, d in self.devices.items()}

    @property
    def clocks(self) -> dict[str, ExchangeClock | EnvelopeClock]:
        """The clocks of devices that have one of their own, by device: boards by exchange, detectors by arrival."""
        from ..instrument.camera import CameraInstrument
        from ..instrument.clocked import Clocked

        found: dict[str, ExchangeClock | EnvelopeClock] = {}
        for name, device in self.devices.items():
            if isinstance(device, (Clocked, CameraInstrument)):
                found[name] = device.clock
        return found

    # ------------------------------------------------------------------ private: opening

    @classmethod
    async def _opened(cls, path: str | Path | None, body: asyncio.Task[Any] | None, *, looking: bool = False) -> Self:
        from .config import load

        config = load(os.environ.get("HAL_LAB") or path or "lab.toml")
        cls._check_needs(config)
        lab = cls(config)
        lab._body, lab._looking, lab._loop = body, looking, asyncio.get_running_loop()
        if looking:
            lab.context.gate.close(lambda: HalError("this lab was opened to be looked at; nothing can be set"))
        else:
            lab._latch.refuse_if_set()
        try:
            await lab._connect()
        except BaseException:
            await lab._close_whatever_happens(failed=True, opening=True)
            raise
        return lab

    @classmethod
    def _check_needs(cls, config: LabConfig) -> None:
        for name, capability in cls.needs().items():
            if hasattr(Lab, name) or name in OWN_NAMES:
                raise ConfigError(f"{cls.__name__}: {name!r} is a name of Lab's own; call the device something else")
            driver = config.drivers.get(name)
            if driver is None:
                raise ConfigError(
                    f"{config.path}: {cls.__name__} needs a device {name!r} ({capability.__name__}); "
                    f"the file has {', '.join(config.drivers)}"
                )
            if missing := lacking(driver, capability):
                raise CapabilityError(
                    f"{config.path}: devices.{name} ({driver.model or driver.__name__}) is no {capability.__name__}: "
                    f"{'; '.join(missing)}. Nothing was sent; name another device or driver."
                )

    async def _connect(self) -> None:
        from .wiring import give_frame_clock, wire

        config, broker = self.config, None
        if config.file.telemetry is not None and not self._looking:  # a password not found: nothing is opened
            broker = await asyncio.to_thread(config.file.telemetry.url, config.path.parent)
        wires = await wire(config, self.context)
        self.emulation, self._sessions, self.devices = wires.emulation, wires.sessions, wires.devices
        for session in self._sessions.values():
            session.on_lost.append(self._link_lost)
            session.on_restored.append(self._link_restored)
        problems = [p for p in await asyncio.gather(*map(_opening, self.devices.values())) if p]
        _raise_first(problems)
        for name, capability in self.needs().items():
            if missing := lacking(self.devices[name], capability):  # it told what it has when it was connected
                what = "; ".join(missing)
                raise CapabilityError(f"{config.path}: devices.{name} is no {capability.__name__}: {what}")
            setattr(self, name, self.devices[name])
        for name in self.devices:
            give_frame_clock(config, name, self.devices)
        if config.calibrations:
            from .calibration import apply

            await apply(config, self.devices)
        self._give_stimuli()
        if self._looking:
            return
        self._start_interlocks()
        await self._start_telemetry(broker)

    def _give_stimuli(self) -> None:
        from ..frames.stimuli import Stimuli

        stimuli = Stimuli(self.signal)
        for device in self.devices.values():
            if hasattr(device, "stimuli"):
                device.stimuli = stimuli

    def _start_interlocks(self) -> None:
        for entry in self.config.file.interlocks:
            device, name, relation, limit, unit = parse_condition(entry.keep)
            signal = self.signal(f"{device}.{name}")
            bound = convert(limit, unit or signal.unit, signal.unit)
            condition = signal.below(bound) if relation == "<" else signal.above(bound)
            self.interlock(condition, name=entry.name, for_at_least=entry.for_at_least)
        for device, name, limits, by in self.config.guards:
            signal = self.signal(f"{device}.{name}")
            text = f"{signal.path} within {limits.shown(signal.unit)} ({by})"
            self.interlock(
                Condition(signal, limits.__contains__, text), name=f"{device}_{name}_of_holder", for_at_least=0.2
            )

    async def _start_telemetry(self, broker: BrokerUrl | None) -> None:
        entry = self.config.file.telemetry
        if entry is None or broker is None:
            return
        from ..telemetry.commands import Commands
        from ..telemetry.publisher import Publisher

        folder = self.config.path.parent
        telemetry = self.telemetry = Publisher(
            self.context, self.devices.values(), broker, lab=self.name,
            qos=entry.qos, rates=entry.rate_of(), outbox=entry.outbox_folder(folder), outbox_size=entry.outbox_size,
            outbox_age=entry.outbox_age, clocks=lambda: self.clocks,
        )  # fmt: skip
        await telemetry.start()
        if telemetry.url.embedded:
            self._tell_broker(f"mqtt://{telemetry.url.host}:{telemetry.url.port}\n")
        if entry.commands is not None:
            self.commands = Commands(
                self, self.name, telemetry.url, may=entry.may(), allow=entry.commands.allow,
                lease=entry.commands.lease, session=telemetry.session, alarm=telemetry.acknowledge,
            )  # fmt: skip
            self.commands.start()

    def _tell_broker(self, url: str) -> None:
        """Leave word beside the lab file of where an embedded broker is; empty: it is gone."""
        place = self._latch.path.with_name(f"{self.name}.broker")
        with contextlib.suppress(OSError):  # a convenience for `hal dashboard`
            if url:
                place.parent.mkdir(exist_ok=True)
                place.write_text(url)
            else:
                place.unlink(missing_ok=True)

    # ------------------------------------------------------------------ private: tripping

    def _tripped_by(self, interlock: Interlock, text: str) -> None:
        self._trip(interlock.name, f"interlock {interlock.name!r} tripped: {text}", InterlockTripped, latched=True)

    def _link_lost(self, session: Session, error: LinkLost, for_good: bool) -> None:
        names = ", ".join(session.users)
        self.context.journal.note("link", names, str(error))
        if for_good and not self._closing and not self._looking:
            self._trip(names, str(error).removeprefix(f"{names}: "), lambda text: LinkLost(names, text), latched=False)

    def _link_restored(self, session: Session) -> None:
        self.context.journal.note("link", ", ".join(session.users), f"the link {session.link.url} is back")
        if self.trip is not None:
            for device in self.devices.values():
                if device.session is session:
                    self._start(self._make_safe_quietly(device))

    def _trip(
        self, name: str, text: str, make: Callable[[str], HalError], *, latched: bool, anew: bool = False
    ) -> asyncio.Task[list[Exception]] | None:
        """Return the devices' way to their safe state; None if a trip is in force that does for this one too.

        `anew`: one that is not latched does not. (It does for an interlock, which a lost link makes blind.)
        """
        if self.trip is not None and (self.trip.latched or not anew):
            self.context.journal.note("trip", name, f"{text} (while tripped already)")
            return None
        remedy = (
            "Every device was told to go to its safe state; look after them, then type "
            f"`hal ack {self.config.path} --by YOUR_NAME`."
            if latched
            else f"Every other device was told to go to its safe state; what {name} does now is not known, see to it."
        )

        def error() -> HalError:
            return make(f"{text}. {remedy}")

        def refusal() -> Exception:
            return self.context.delivered(error())

        trip = Trip(len(self.trips) + 1, name, text, self.context.timebase.now(), error(), latched)
        self.trip = trip
        self.trips.append(trip)
        self.context.tripped = text
        self.context.reached.clear()
        self.context.gate.close(refusal)
        # These begin once this function has returned, and do so whatever the rest of it meets.
        made_safe = self._start(self._make_all_safe(), kept=True)
        if latched:
            self._writing = self._start(self._write_down(trip, self._writing), kept=True)
        self._start(self._after_trip(trip, made_safe))
        self.context.fail_pending(trip.error)
        self.context.journal.note("trip", name, text, number=trip.number, latched=latched)
        return made_safe

    async def _write_down(self, trip: Trip, before: asyncio.Task[None] | None) -> None:
        """On a thread: a network folder that hangs must hold up neither the safe state nor the polls."""
        if before is not None:
            await asyncio.wait([before])
        try:
            await asyncio.to_thread(self._latch.set, trip)
        except OSError as problem:
            self._unwritten = trip
            self._not_written(f"the trip could not be written down: {problem}")

    async def _released_late(self, by: str, before: asyncio.Task[None]) -> None:
        await asyncio.wait([before])
        try:
            await asyncio.to_thread(self._latch.acknowledge, by, self.context.timebase)
        except OSError as problem:
            self._not_written(f"the acknowledgement could not be written down: {problem}")

    def _not_written(self, text: str) -> None:
        self.context.journal.note("error", "lab", text)

    async def _after_trip(self, trip: Trip, made_safe: asyncio.Task[list[Exception]]) -> None:
        for problem in await made_safe:
            if not isinstance(problem, LinkLost):
                trip.error.add_note(f"NOT in its safe state: {problem}")
        await asyncio.sleep(GRACE)
        body = self._body
        if body is not None and not body.done() and not self._leaving and body not in self.context.reached:
            self._cancelled_for = trip
            body.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        # A trip that is not on disk can only be released by `acknowledge` in this process.
        while self.trip is trip and trip.latched and self._unwritten is not trip and not self._closing:
            await asyncio.sleep(LOOK)
            if (by := self._latch.acknowledged_by()) is not None and self.trip is trip and not self._closing:
                self._release(by)

    def _release(self, by: str) -> None:
        assert self.trip is not None
        trip, self.trip = self.trip, None
        self.context.tripped = None
        if self._closing:  # who acknowledges meanwhile does not let anything through after the safe state
            self._refuse_from_now_on()
        else:
            self.context.gate.open()
        self.context.reached.clear()
        for interlock in self.interlocks:
            interlock.reset()
        self.context.journal.note("acknowledge", trip.name, f"acknowledged by {by}", number=trip.number, by=by)

    async def _make_all_safe(self) -> list[Exception]:
        return [p for p in await asyncio.gather(*(self._make_safe(d) for d in self.devices.values())) if p]

    async def _make_safe(self, device: Instrument) -> Exception | None:
        problem: Exception | None = None
        for attempt in range(TRIES):
            try:
                await device.safe_state()
                return None
            except asyncio.CancelledError:  # of something that the driver awaited, unless it is ours
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                problem = HalError(f"{device.name}: something its safe state waited for was cancelled; see to it")
            except Exception as error:  # a driver's bug must not keep the others from their safe state
                problem = error
                if isinstance(error, LinkLost):
                    break
            await asyncio.sleep(0.2 * (attempt + 1))
        self.context.journal.note("error", device.name, f"not in its safe state: {problem}")
        return problem

    async def _make_safe_quietly(self, device: Instrument) -> None:
        await self._make_safe(device)

    def _start(self, work: Coroutine[Any, Any, T], *, kept: bool = False) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        for those in (self._tasks, self._kept) if kept else (self._tasks,):
            those.add(task)
            task.add_done_callback(those.discard)
        return task

    async def _settle(self) -> None:
        """Wait for what a trip or a stop has begun, then end the other tasks."""
        while self._tasks:
            if not self._kept:
                for task in self._tasks:
                    task.cancel()
            await asyncio.wait(self._kept or self._tasks)

    # ------------------------------------------------------------------ private: closing

    async def _close_whatever_happens(self, *, failed: bool, opening: bool = False) -> None:
        self._leaving = True
        await _to_the_end(self._close(failed=failed, opening=opening))

    async def _close(self, *, failed: bool, opening: bool) -> None:
        if self._closing:
            return
        self._closing = True
        for interlock in self.interlocks:
            interlock.stop()
        # A device whose link is gone for good has been told of already, and can't be told anything.
        connected = [d for d in self.devices.values() if d.identity and d.session.state is not LinkState.LOST]
        if self._looking:
            pass
        elif failed or self.trip is not None or self.config.file.lab.on_exit == "safe":
            if not opening:
                self._refuse_from_now_on()
                await asyncio.gather(*(self._make_safe_quietly(d) for d in connected))
        else:
            for device in connected:
                if device.operation is not None and not device.operation.done:
                    device.operation.cancel()  # holds: what runs steadily is left running
                    await device.operation.ended()
            self._refuse_from_now_on()
        if self.commands is not None:
            await self._attempt("commands", self.commands.close())
        await self._settle()
        if self.telemetry is not None:
            await self._attempt("telemetry", self.telemetry.stop())
            if self.telemetry.url.embedded:
                self._tell_broker("")
        await self.context.close()
        await self._settle()  # a stop may have come all the while
        self._let_go = True
        for device in self.devices.values():
            # What a driver writes as it lets go passes the gate of a lab that closes, not that of a trip.
            with acting(Purpose.COMMAND if self.trip is not None or self._looking else Purpose.SAFE):
                await self._attempt(device.name, device.disconnect())
        for session in self._sessions.values():  # one whose devices failed to let go of it
            await self._attempt(session.link.url, session.close())
        if self.emulation is not None:
            await self._attempt("emulation", self.emulation.close())

    def _refuse_from_now_on(self) -> None:
        """Nothing a script left behind may be sent after the safe state."""
        if self.trip is None:
            self.context.gate.close(lambda: HalError("the lab is being closed; nothing more can be set"))
            self.context.fail_pending(Superseded("ended: the lab was closed"))

    async def _attempt(self, who: str, work: Coroutine[Any, Any, object]) -> None:
        """One step of closing: if it fails, the others follow all the same."""
        try:
            await work
        except Exception as error:
            self.context.journal.note("error", who, f"closing: {error}")

    def _raise_unobserved(self) -> None:
        left = [e for e in self.context.unobserved if isinstance(e, Unobserved) and not e.status.observed]
        self.context.unobserved.clear()
        if left:
            for other in left[1:]:
                left[0].add_note(f"also: {other}")
            raise left[0] from left[0].error

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """Ctrl-C and `kill` end a script through the safe state, and no second one breaks into that.

        asyncio's own handling would raise KeyboardInterrupt at any line at the second Ctrl-C.
        """
        loop, body = asyncio.get_running_loop(), self._body

        def end(number: int) -> None:
            if number == signals_of_the_os.SIGINT and self._interrupted:
                print("hal: the devices go to their safe state; please wait", file=sys.stderr)
            self._interrupted = self._interrupted or number == signals_of_the_os.SIGINT
            if body is not None and not self._leaving and not self._told_to_end:
                self._told_to_end = True
                body.cancel()

        def caught(number: int, _: object) -> None:
            loop.call_soon_threadsafe(end, number)

        before: dict[int, Any] = {}
        if body is not None and threading.current_thread() is threading.main_thread():
            before[signals_of_the_os.SIGINT] = signals_of_the_os.signal(signals_of_the_os.SIGINT, caught)
            for name in ("SIGTERM", "SIGHUP"):
                number = getattr(signals_of_the_os, name, None)  # Windows has no SIGHUP
                if number is not None and signals_of_the_os.getsignal(number) is signals_of_the_os.SIG_DFL:
                    before[number] = signals_of_the_os.signal(number, caught)
        try:
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # not one set from outside Python
                    signals_of_the_os.signal(number, handler)


async def _opening(device: Instrument) -> Exception | None:
    try:
        await device.connect()
    except Exception as error:  # all are waited for before the lab closes again
        return error
    return None


def _raise_first(problems: list[Exception]) -> None:
    if problems:
        for other in problems[1:]:
            problems[0].add_note(f"also: {other}")
        raise problems[0]


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` however often the caller is cancelled meanwhile: an open file, a hot heater can't be left."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if not task.cancelled():
                cancelled = error
        except Exception:  # its own: raised below
            break
    task.result()
    if cancelled is not None:
        raise cancelled


def _caller() -> Path | None:
    """The file of the script that asked for a recording."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_code.co_filename)
        if name not in (__file__, contextlib.__file__):
            return Path(name)
        frame = frame.f_back
    return None
