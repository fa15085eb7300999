"""What keeps a lab safe while it is open: interlocks, trips, stops, and the devices' way to their safe state.

A *trip* shuts the gate, so that nothing can be set, sends every device to its safe state, ends the script, and
stands until a person acknowledges it. Trips by interlocks and by people are *latched*: written down beside the lab
file, so that they outlive the process (`latch`). A lost link trips too, but is no reason to latch: the next lab
finds out by itself whether the link is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from ..errors import HalError, InterlockTripped, LinkLost, Superseded
from ..instrument.instrument import Instrument
from ..model.context import Context
from ..model.safety import Condition, Interlock, Trip
from ..transport.session import LinkState, Session
from .latch import Latch

GRACE = 0.3
"""Seconds a script has to take notice of a trip by itself before its task is cancelled."""
LOOK = 0.5
"""Seconds between looks at the latch file while tripped."""
TRIES = 3
"""How often a device is asked to go to its safe state."""

T = TypeVar("T")


class Guard:
    """The interlocks of a lab and the trip in force."""

    def __init__(self, context: Context, latch: Latch, *, body: asyncio.Task[Any] | None = None) -> None:
        """`body`: the script's task, which a trip ends."""
        self.context, self.latch, self.body = context, latch, body
        self.devices: Mapping[str, Instrument] = {}
        self.interlocks: list[Interlock] = []
        self.trip: Trip | None = None
        """The trip in force, until it is acknowledged."""
        self.trips: list[Trip] = []
        """All trips of this session."""
        self.cancelled_for: Trip | None = None
        """The trip for which the script's task was cancelled."""
        self.leaving = False
        """The script is over: there is nothing to cancel."""
        self.closing = False
        """The lab closes: what shuts the gate from now on, nobody opens again."""
        self.only_looking = False
        """The lab was opened to be read: nothing trips."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kept: set[asyncio.Task[Any]] = set()
        """Those of the tasks that closing waits for: devices on their way to their safe state, the latch file."""
        self._writing: asyncio.Task[None] | None = None
        """The latest work on the latch file that is done on a thread."""
        self._unwritten: Trip | None = None
        """A trip that could not be written to the latch file."""

    # ------------------------------------------------------------------ what trips

    def watch(self, condition: Condition, *, name: str = "", for_at_least: float = 0.0) -> Interlock:
        """From now on, if `condition` fails for `for_at_least` seconds, trip."""
        interlock = Interlock(condition, self.tripped_by, name=name, for_at_least=for_at_least)
        self.interlocks.append(interlock)
        interlock.start()
        self.context.journal.note("note", condition.signal.device.name, f"interlock {interlock.name}: {condition.text}")
        return interlock

    def tripped_by(self, interlock: Interlock, text: str) -> None:
        """An interlock's condition has failed."""
        # Blind for the very link that was lost it adds nothing to that trip; all else must be acknowledged.
        device = self.devices.get(interlock.condition.signal.device.name)
        explained = interlock.blind and device is not None and device.session.state is LinkState.LOST
        text = f"interlock {interlock.name!r} tripped: {text}"
        self._trip(interlock.name, text, InterlockTripped, latched=True, anew=not explained)

    def link_lost(self, session: Session, error: LinkLost, for_good: bool) -> None:
        """A link is gone; `for_good` if nobody tries to open it again."""
        names = ", ".join(session.users)
        self.context.journal.note("link", names, str(error))
        if for_good and not self.closing and not self.only_looking:
            self._trip(names, str(error).removeprefix(f"{names}: "), lambda text: LinkLost(names, text), latched=False)

    def link_restored(self, session: Session) -> None:
        """A link is back: if a trip stands, its devices have missed the safe state."""
        self.context.journal.note("link", ", ".join(session.users), f"the link {session.link.url} is back")
        if self.trip is not None:
            for device in self.devices.values():
                if device.session is session:
                    self._start(self.make_safe(device))

    async def stop(self, by: str, reason: str) -> None:
        """A person's stop. Raises the first failure of a device to get to its safe state."""
        text = f"stopped by {by}" + (f": {reason}" if reason.strip() else "")
        made_safe = self._trip("stop", text, InterlockTripped, latched=True, anew=True)
        if made_safe is None:  # tripped already: once more, the safe state passes a closed gate
            made_safe = self._start(self._make_all_safe(), kept=True)
        await asyncio.wait([made_safe] + ([self._writing] if self._writing is not None else []))
        raise_first(made_safe.result())

    async def safe_state(self) -> None:
        """Every device to its safe state, no trip. Raises the first failure. Goes on if the caller is cancelled."""
        raise_first(await asyncio.shield(self._start(self._make_all_safe(), kept=True)))

    def acknowledge(self, by: str) -> None:
        """Release the trip in force."""
        if self._writing is not None and not self._writing.done():  # else the trip would be written after its release
            self._writing = self._start(self._released_late(by, self._writing), kept=True)
        else:
            try:
                self.latch.acknowledge(by, self.context.timebase)
            except OSError as problem:
                self._not_written(f"the acknowledgement could not be written down: {problem}")
        self._release(by)

    def refuse_from_now_on(self) -> None:
        """Nothing a script left behind may be sent after the safe state at closing."""
        if self.trip is None:
            self.context.gate.close(lambda: HalError("the lab is being closed; nothing more can be set"))
            self.context.fail_pending(Superseded("ended: the lab was closed"))

    async def settle(self) -> None:
        """Wait for what a trip or a stop has begun, then end the other tasks."""
        while self._tasks:
            if not self._kept:
                for task in self._tasks:
                    task.cancel()
            await asyncio.wait(self._kept or self._tasks)

    # ------------------------------------------------------------------ tripping

    def _trip(
        self, name: str, text: str, make: Callable[[str], HalError], *, latched: bool, anew: bool = False
    ) -> asyncio.Task[list[Exception]] | None:
        """Return the devices' way to their safe state; None if a trip is in force that does for this one too.

        `anew`: one that is not latched does not. (It does for an interlock that the lost link itself made blind.)
        """
        if self.trip is not None and (self.trip.latched or not anew):
            self.context.journal.note("trip", name, f"{text} (while tripped already)")
            return None
        remedy = (
            "Every device was told to go to its safe state; look after them, then type "
            f"`hal ack {self.latch.lab_file} --by YOUR_NAME`."
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
            await asyncio.to_thread(self.latch.set, trip)
        except OSError as problem:
            self._unwritten = trip
            self._not_written(f"the trip could not be written down: {problem}")

    async def _released_late(self, by: str, before: asyncio.Task[None]) -> None:
        await asyncio.wait([before])
        try:
            await asyncio.to_thread(self.latch.acknowledge, by, self.context.timebase)
        except OSError as problem:
            self._not_written(f"the acknowledgement could not be written down: {problem}")

    def _not_written(self, text: str) -> None:
        self.context.journal.note("error", "lab", text)

    async def _after_trip(self, trip: Trip, made_safe: asyncio.Task[list[Exception]]) -> None:
        for problem in await made_safe:
            if not isinstance(problem, LinkLost):
                trip.error.add_note(f"NOT in its safe state: {problem}")
        await asyncio.sleep(GRACE)
        body = self.body
        if body is not None and not body.done() and not self.leaving and body not in self.context.reached:
            self.cancelled_for = trip
            body.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        # A trip that is not on disk can only be released by `acknowledge` in this process.
        while self.trip is trip and trip.latched and self._unwritten is not trip and not self.closing:
            await asyncio.sleep(LOOK)
            if (by := self.latch.acknowledged_by()) is not None and self.trip is trip and not self.closing:
                self._release(by)

    def _release(self, by: str) -> None:
        assert self.trip is not None
        trip, self.trip = self.trip, None
        self.context.tripped = None
        if self.closing:  # who acknowledges meanwhile does not let anything through after the safe state
            self.refuse_from_now_on()
        else:
            self.context.gate.open()
        self.context.reached.clear()
        for interlock in self.interlocks:
            interlock.reset()
        self.context.journal.note("acknowledge", trip.name, f"acknowledged by {by}", number=trip.number, by=by)

    async def _make_all_safe(self) -> list[Exception]:
        return [p for p in await asyncio.gather(*(self.make_safe(d) for d in self.devices.values())) if p]

    async def make_safe(self, device: Instrument) -> Exception | None:
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

    def _start(self, work: Coroutine[Any, Any, T], *, kept: bool = False) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        for those in (self._tasks, self._kept) if kept else (self._tasks,):
            those.add(task)
            task.add_done_callback(those.discard)
        return task


def raise_first(problems: list[Exception]) -> None:
    """Raise the first of several problems, the others as its notes."""
    if problems:
        for other in problems[1:]:
            problems[0].add_note(f"also: {other}")
        raise problems[0]
