"""The lab: devices from a lab file, opened together, guarded, and left in their safe state."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_type_hints

from ..clock.timebase import Timebase
from ..errors import CapabilityError, ConfigError, HalError, RecordError
from ..gate import Purpose, acting
from ..instrument.instrument import Instrument
from ..model.capabilities import CAPABILITIES, lacking
from ..model.context import Context
from ..model.safety import Condition, Interlock, Trip, parse_condition
from ..model.signal import SignalR
from ..model.status import Unobserved
from ..transport.session import LinkState, Session
from ..units import convert
from .guarding import Guard, raise_first
from .latch import Latch
from .leaving import LastResort, ended_by_signals, to_the_end

if TYPE_CHECKING:
    from ..clock.envelope import EnvelopeClock
    from ..clock.exchange_clock import ExchangeClock
    from ..recording.run import Run
    from ..telemetry.broker import BrokerUrl
    from ..telemetry.commands import Commands
    from ..telemetry.publisher import Publisher
    from .config import LabConfig
    from .emulation import Emulation

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
        self.emulation: Emulation | None = None
        """The emulators behind ``emulator:`` links, for the bench."""
        self._guard = Guard(self.context, Latch(config.path, self.name))
        self._sessions: dict[str, Session] = {}
        self._let_go = False
        """The devices are being disconnected: nothing can be sent to them any more."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_resort: LastResort | None = None
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
        guard, failed = lab._guard, True
        with ended_by_signals(task, over=lambda: guard.leaving) as ending:
            try:
                yield lab
                failed = False
            except asyncio.CancelledError:
                if ending.interrupted and task is not None:
                    task.uncancel()
                    raise KeyboardInterrupt from None
                if guard.cancelled_for is None or task is None:
                    raise
                if task.uncancel() > 0:  # somebody else wants it cancelled too
                    raise
                raise guard.cancelled_for.error from None
            finally:
                await lab._close_whatever_happens(failed=failed)
        if lab.trip is not None and task not in lab.context.reached:
            raise lab.trip.error  # it ended before it could notice
        lab._raise_unobserved()

    @classmethod
    async def connect(cls, path: str | Path | None = None) -> Self:
        """Open the lab for use over several cells of a notebook; end with ``await lab.close()``.

        Left open when the kernel restarts or the loop ends, it takes every device to its safe state all the same.
        """
        lab = await cls._opened(path, body=None)
        lab._last_resort = LastResort(lambda: lab._close_whatever_happens(failed=True))
        return lab

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
        return self._guard.watch(condition, name=name, for_at_least=for_at_least)

    @property
    def interlocks(self) -> list[Interlock]:
        """The conditions that must hold, in the order in which they were given."""
        return self._guard.interlocks

    @property
    def trip(self) -> Trip | None:
        """The trip in force, until it is acknowledged."""
        return self._guard.trip

    @property
    def trips(self) -> list[Trip]:
        """All trips of this session."""
        return self._guard.trips

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
        if self._guard.only_looking:
            raise HalError("this lab was opened to be looked at; nothing can be stopped from here")
        if self._let_go:
            raise HalError("the lab is closed; nothing can be sent to its devices any more")
        await self._guard.stop(by, reason)

    async def safe_state(self) -> None:
        """Take every device to its safe state. Raises the first failure, the others as its notes.

        Once begun it goes on, also if the caller is cancelled: a few devices would be safe, the others not.
        """
        await self._guard.safe_state()

    def acknowledge(self, trip: Trip | None = None, *, by: str) -> None:
        """Release a trip in the name of a person: writes pass again, interlocks watch anew."""
        if not by.strip():
            raise ValueError("acknowledge: by whom? give a person's name")
        if self.trip is not None and trip in (None, self.trip):
            self._guard.acknowledge(by)

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
            await to_the_end(run.finish())

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
        lab._loop = asyncio.get_running_loop()
        lab._guard.body, lab._guard.only_looking = body, looking
        if looking:
            lab.context.gate.close(lambda: HalError("this lab was opened to be looked at; nothing can be set"))
        else:
            lab._guard.latch.refuse_if_set()
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
        if config.file.telemetry is not None and not self._guard.only_looking:  # no password: nothing is opened
            broker = await asyncio.to_thread(config.file.telemetry.url, config.path.parent)
        wires = await wire(config, self.context)
        self.emulation, self._sessions, self.devices = wires.emulation, wires.sessions, wires.devices
        self._guard.devices = self.devices
        for session in self._sessions.values():
            session.on_lost.append(self._guard.link_lost)
            session.on_restored.append(self._guard.link_restored)
        problems = [p for p in await asyncio.gather(*map(_opening, self.devices.values())) if p]
        raise_first(problems)
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
        if self._guard.only_looking:
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
        place = self._guard.latch.path.with_name(f"{self.name}.broker")
        with contextlib.suppress(OSError):  # a convenience for `hal dashboard`
            if url:
                place.parent.mkdir(exist_ok=True)
                place.write_text(url)
            else:
                place.unlink(missing_ok=True)

    # ------------------------------------------------------------------ private: closing

    async def _close_whatever_happens(self, *, failed: bool, opening: bool = False) -> None:
        self._guard.leaving = True
        await to_the_end(self._close(failed=failed, opening=opening))

    async def _close(self, *, failed: bool, opening: bool) -> None:
        guard = self._guard
        if guard.closing:
            return
        guard.closing = True
        for interlock in self.interlocks:
            interlock.stop()
        # A device whose link is gone for good has been told of already, and can't be told anything.
        connected = [d for d in self.devices.values() if d.identity and d.session.state is not LinkState.LOST]
        if guard.only_looking:
            pass
        elif failed or self.trip is not None or self.config.file.lab.on_exit == "safe":
            if not opening:
                guard.refuse_from_now_on()
                await asyncio.gather(*(guard.make_safe(d) for d in connected))
        else:
            for device in connected:
                if device.operation is not None and not device.operation.done:
                    device.operation.cancel()  # holds: what runs steadily is left running
                    await device.operation.ended()
            guard.refuse_from_now_on()
        if self.commands is not None:
            await self._attempt("commands", self.commands.close())
        await guard.settle()
        if self.telemetry is not None:
            await self._attempt("telemetry", self.telemetry.stop())
            if self.telemetry.url.embedded:
                self._tell_broker("")
        await self.context.close()
        await guard.settle()  # a stop may have come all the while
        self._let_go = True
        for device in self.devices.values():
            # What a driver writes as it lets go passes the gate of a lab that closes, not that of a trip.
            with acting(Purpose.COMMAND if self.trip is not None or guard.only_looking else Purpose.SAFE):
                await self._attempt(device.name, device.disconnect())
        for session in self._sessions.values():  # one whose devices failed to let go of it
            await self._attempt(session.link.url, session.close())
        if self.emulation is not None:
            await self._attempt("emulation", self.emulation.close())
        if self._last_resort is not None:
            self._last_resort.release()

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


async def _opening(device: Instrument) -> Exception | None:
    try:
        await device.connect()
    except Exception as error:  # all are waited for before the lab closes again
        return error
    return None


def _caller() -> Path | None:
    """The file of the script that asked for a recording."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_code.co_filename)
        if name not in (__file__, contextlib.__file__):
            return Path(name)
        frame = frame.f_back
    return None
