"""Commands over MQTT: what others may ask of the lab is checked, done, answered and put on the record.

Theory of operation. Two listeners hear on threads of their own; one of them only ``stop``. The lab's
loop decides on each message in the order they came: is it from somebody who may, is it well formed, new,
and in time? A value goes the way a script's does, ``signal.set``: limits, gate and link are the same. What
was asked, by whom, and what came of it is a ``command`` in the journal.

When in doubt nothing is set, nothing is released, and a stop stops: it is carried out once more even
under an id used before, and also if, pressed now, the broker is to retain it by mistake. A trip ends the
lease, so that nothing that was sent before it is set after it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from ..errors import HalError
from ..gate import Purpose, acting
from ..model.context import Context
from ..model.journal import Event
from ..model.safety import Trip
from ..model.signal import SignalR, SignalRW
from . import command_topics as topics
from .broker import BrokerUrl
from .command_listener import BURST, RATE, Answer, Heard, Listener
from .command_memory import Memory
from .command_topics import Acknowledge, BadCommand, Command, Reply, Set, Stop, Take
from .lease import Grant, Lease

LONGEST = 300.0
"""Seconds ahead that a command may expire, at most: one that is good for longer is good for ever."""
REMEMBERED = round(RATE * LONGEST + BURST)
"""Commands of each user that are remembered: as many as can come while one of them is good."""
ON_WIRE = 4
"""Values on their way over one wire at once, at most: a reading that is due waits for no more than these."""
LAST_WORDS = 2.0
"""Seconds given at the end to values under way; a stop has all the time it takes."""


class Controls(Protocol):
    """What commands need of a lab."""

    context: Context

    @property
    def trip(self) -> Trip | None:
        """The trip in force."""
        ...

    def signal(self, path: str) -> SignalR[Any]:
        """The signal called ``device.signal``. Raises `ConfigError`."""
        ...

    async def stop(self, *, by: str, reason: str = "") -> None:
        """Take every device to its safe state, and keep it there until somebody acknowledges."""
        ...

    def acknowledge(self, trip: Trip | None = None, *, by: str) -> None:
        """Release a trip in the name of a person."""
        ...


class Denied(HalError):
    """A command that is understood and not carried out."""


class Commands:
    """Hears, checks, carries out and answers the commands of one lab."""

    def __init__(
        self,
        lab: Controls,
        name: str,
        url: BrokerUrl,
        *,
        may: Mapping[str, Sequence[str]],
        allow: Iterable[str] = (),
        lease: float = 60.0,
        session: str = "",
        alarm: Callable[[str, str], bool] = lambda alarm, by: False,
    ) -> None:
        """Prepare; nothing is opened yet.

        `may`: each user's rights. `allow`: the signals that may be set. `lease`: its length, s.
        `alarm`: acknowledges an alarm other than the trip (name, by whom); False if there is none.
        """
        self._lab, self._name, self._session = lab, name, session
        self._may = {user: tuple(rights) for user, rights in may.items()}
        self._allow, self._alarm = frozenset(allow), alarm
        self._lease = Lease(lease)
        self._memory = Memory(REMEMBERED)
        self._running: set[asyncio.Task[None]] = set()
        self._on_wire: Counter[Hashable] = Counter()
        """How many values are on their way over each wire."""
        self._stopping: asyncio.Task[None] | None = None
        self._stops: set[asyncio.Task[None]] = set()
        """Those of `_running` that wait for a stop."""
        self._stopped_by: Trip | None = None
        """The trip that `_stopping` made, or found."""
        self._on_top = 0
        """When the last stop was asked for, or something else came on top of a trip in force, lab time, ns."""
        self._ending = False
        self._expiry: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._may_stop = frozenset(user for user, rights in self._may.items() if "stop" in rights)
        self._urgent = Listener(
            url, topics.urgent_filters(name, sorted(self._may_stop)), lambda heard: self._heard(self._urgent, heard),
            self._tell, what="stop",
        )  # fmt: skip
        self._other = Listener(
            url, topics.other_filters(name), lambda heard: self._heard(self._other, heard), self._tell,
            what="set, lease and acknowledge", as_published=True,
        )  # fmt: skip

    @property
    def connected(self) -> bool:
        """Whether commands are heard."""
        return self._urgent.connected.is_set() and self._other.connected.is_set()

    def start(self) -> None:
        """Begin to listen."""
        self._loop = asyncio.get_running_loop()
        self._lab.context.journal.listeners.append(self._entered)
        self._urgent.keep(topics.rights_topic(self._name), topics.encode_rights(self._session, self._may))
        self._tell_lease(None)
        self._urgent.start()
        self._other.start()

    async def close(self) -> None:
        """See stops through, give other commands a moment, answer them, then leave."""
        if self._loop is None:
            return
        if self._running:
            await asyncio.wait(self._running, timeout=LAST_WORDS)
        self._ending = True
        for task in self._running - self._stops:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        with suppress(ValueError):
            self._lab.context.journal.listeners.remove(self._entered)
        if self._expiry is not None:
            self._expiry.cancel()
        self._loop = None
        self._urgent.keep(topics.rights_topic(self._name), topics.encode_rights(self._session, None))
        self._tell_lease(None)
        await asyncio.gather(asyncio.to_thread(self._urgent.close), asyncio.to_thread(self._other.close))

    # ------------------------------------------------------------------ a listener's thread

    def _heard(self, listener: Listener, heard: Heard) -> None:
        now = self._lab.context.timebase.now()
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._decide, listener, heard, now)
                return
        listener.decided()

    def _tell(self, text: str) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._lab.context.journal.note, "link", "commands", text)

    # ------------------------------------------------------------------ the lab's loop

    def _decide(self, listener: Listener, heard: Heard, came: int) -> None:
        try:
            self._look_at(listener, heard, came)
        except Exception as error:  # nothing that comes from outside may disturb the lab
            self._lab.context.journal.note("error", "", f"a command failed: {type(error).__name__}: {error}")
        finally:
            listener.decided()

    def _look_at(self, listener: Listener, heard: Heard, came: int) -> None:
        if heard.size == 0:  # how MQTT takes a retained message back
            return
        user = verb = signal = ""
        id: str | None = None
        try:
            user, verb, signal = topics.sender_of(self._name, heard.topic)
            if verb == "stop" and listener is self._other and user in self._may_stop:
                return  # the other listener has heard it
            command = _decoded(verb, signal, heard)
            id = command.id  # first of all, since whatever comes of it is answered by its id
            if heard.retained:
                raise Denied(
                    "the broker was told to retain this, and would bring it again to every lab; "
                    "a command must not be retained, and this one was not carried out. "
                    f"Take it back with an empty retained message to {heard.topic}"
                )
            if self._ending:
                raise Denied("the lab is being closed; nothing was done")
            self._check_right(user, verb)
            if isinstance(command, BadCommand):
                raise command
        except (BadCommand, Denied) as error:
            what = f"{verb} {signal}".strip() or "command"
            self._answer(listener, heard, user, self._noted(user, what, signal, id, False, str(error), came))
            return
        self._once(listener, heard, user, command, came)

    def _check_right(self, user: str, verb: str) -> None:
        right = "set" if verb == "lease" else verb
        if user not in self._may:
            raise Denied(f"{user} is no user of this lab; name [telemetry.users.{user}] in the lab file")
        if right not in self._may[user]:
            rights = ", ".join(self._may[user]) or "nothing"
            raise Denied(f"{user} may not {right}; the lab file lets {user} {rights}")

    def _once(self, listener: Listener, heard: Heard, user: str, command: Command, came: int) -> None:
        """Carry a command out unless it was before; then answer as before. A stop is carried out always."""

        def tell(reply: Reply) -> None:
            self._answer(listener, heard, user, reply)

        if isinstance(command, Stop):  # what was safe an hour ago may not be so now
            self._carry_out(user, command, heard, came, tell)
            return
        try:
            ended = self._memory.first(user, command.id, heard.topic, heard.payload, tell)
        except BadCommand as error:
            tell(self._noted(user, topics.said(command), "", command.id, False, str(error), came))
            return
        if ended is not None:
            self._carry_out(user, command, heard, came, ended)

    def _carry_out(self, user: str, command: Command, heard: Heard, came: int, ended: Callable[[Reply], None]) -> None:
        """Do it, now or in a task; `ended` gets what came of it."""
        signal = command.signal if isinstance(command, Set) else ""

        def note(ok: bool, text: str, grant: Grant | None = None) -> None:
            ended(self._noted(user, topics.said(command), signal, command.id, ok, text, came, grant))

        try:
            self._check_time(command, heard, came)
            match command:
                case Take():
                    note(True, *self._on_lease(user, command))
                case Acknowledge():
                    note(True, self._on_acknowledge(user, command, came))
                case Stop():
                    self._on_top = self._lab.context.timebase.now()
                    self._in_task(self._on_stop(user, command, note), self._stops)
                case Set():
                    self._on_set(user, command, heard, came, note)
        except Exception as error:  # also a driver's own: who asked must hear of it
            note(False, str(error) if isinstance(error, HalError) else f"{type(error).__name__}: {error}")

    def _check_time(self, command: Command, heard: Heard, came: int) -> None:
        now = self._lab.context.timebase.now()
        if heard.expiry is not None and now > came + heard.expiry * 1_000_000_000:
            raise Denied(f"it came too late: its message expired after {heard.expiry} s; nothing was done")
        if command.expires is None:
            return
        left = (command.expires - now) / 1e9
        if left <= 0:
            raise Denied(
                f"it came {-left:.3g} s too late by the lab's clock; nothing was done. "
                "If it was sent just now, compare the clocks of the two machines"
            )
        if left > LONGEST and not isinstance(command, Stop):
            raise Denied(
                f'"expires" is {left:.0f} s ahead by the lab\'s clock, and may be {LONGEST:.0f} s; nothing was done. '
                "Give it less time, or compare the clocks of the two machines"
            )

    # ------------------------------------------------------------------ what each does

    def _on_lease(self, user: str, command: Take) -> tuple[str, Grant | None]:
        now = self._lab.context.timebase.now()
        grant: Grant | None = None
        match command.action:
            case "take":
                if self._lab.trip is not None:
                    raise Denied(f"nothing can be set: {self._lab.trip.text}; take the lease once that is acknowledged")
                grant = self._lease.take(user, now)
            case "renew":
                grant = self._lease.renew(user, command.lease, now)
            case "give":
                self._lease.give(user, command.lease, now)
        self._tell_lease(grant)
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if grant is None:
            return f"{user} has given the lease back", None
        self._expiry = asyncio.get_running_loop().call_later(
            (grant.until - now) / 1e9 + 0.01, self._look_for_expiry, user
        )
        return f"{user} has the lease for {(grant.until - now) / 1e9:.0f} s", grant

    def _look_for_expiry(self, user: str) -> None:
        now = self._lab.context.timebase.now()
        held = self._lease.holder(now)
        if held is not None:  # the timer was early
            wait = (held.until - now) / 1e9 + 0.01
            self._expiry = asyncio.get_running_loop().call_later(wait, self._look_for_expiry, user)
            return
        self._expiry = None
        self._tell_lease(None)
        self._lab.context.journal.note("command", "", f"the lease of {user} has expired", by=user, verb="lease")

    def _tell_lease(self, grant: Grant | None) -> None:
        now = self._lab.context.timebase.now()
        holder, until = (None, None) if grant is None else (grant.user, grant.until)
        self._urgent.keep(topics.lease_topic(self._name), topics.encode_lease(holder, until, now))

    def _entered(self, event: Event) -> None:
        """A trip ends the lease: what was sent before it must not be set after its acknowledgement."""
        if event.kind == "trip" and "number" not in event.data:  # it is no trip of its own: one is in force
            self._on_top = event.time
        if event.kind == "trip" and self._lease.end() is not None:
            self._tell_lease(None)
            if self._expiry is not None:
                self._expiry.cancel()
                self._expiry = None

    def _on_acknowledge(self, user: str, command: Acknowledge, came: int) -> str:
        if command.alarm != "trip":
            if not self._alarm(command.alarm, user):
                raise Denied(f"there is no alarm {command.alarm!r} to acknowledge")
            return f"{command.alarm} was acknowledged by {user}"
        trip = self._lab.trip
        if trip is None:
            raise Denied("no trip awaits its acknowledgement")
        if command.time is None and command.expires is None:
            raise Denied(
                'give "time", that of the trip you have seen, or at least "expires": this could come late, '
                "and release a trip that nobody has seen"
            )
        last = max(trip.time, self._on_top)
        if came < last or (command.time is not None and command.time < last):
            raise Denied(f"another trip has happened since, or a stop: {trip.text}; look at it first")
        if command.time is not None and command.time > self._lab.context.timebase.now():
            raise Denied('"time" is that of the trip that was seen, and lies ahead; nothing was released')
        self._lab.acknowledge(trip, by=user)
        return f"{trip.name} was acknowledged by {user}: {trip.text}"

    async def _on_stop(self, user: str, command: Stop, note: Callable[[bool, str], None]) -> None:
        # A stop still under way serves for this one too, unless its trip was released meanwhile.
        stopping = self._stopping
        if stopping is None or stopping.done() or self._lab.trip is not self._stopped_by:
            stopping = self._stopping = asyncio.ensure_future(self._lab.stop(by=user, reason=command.reason))
            await asyncio.sleep(0)  # it trips in its first step
            self._stopped_by = self._lab.trip
        await asyncio.wait([stopping])
        if stopping.cancelled():
            note(False, "the lab is being closed, which takes every device to its safe state as well")
        elif (error := stopping.exception()) is not None:
            also = "; ".join(getattr(error, "__notes__", []))
            note(False, f"NOT every device is in its safe state: {error}" + (f"; {also}" if also else ""))
        else:
            note(True, "every device is in its safe state; nothing can be set until somebody acknowledges")

    def _on_set(self, user: str, command: Set, heard: Heard, came: int, note: Callable[[bool, str], None]) -> None:
        if command.signal not in self._allow:
            listed = ", ".join(sorted(self._allow)) or "none"
            raise Denied(f"{command.signal} may not be set over MQTT; the lab file allows: {listed}")
        self._lab.context.gate.check(Purpose.COMMAND)  # first: a trip ended the lease too, and is what to tell
        now = self._lab.context.timebase.now()
        self._lease.check(user, command.lease, now)
        signal = self._lab.signal(command.signal)
        wire = signal.device.wire
        if self._on_wire[wire] >= ON_WIRE:
            raise Denied(f"{ON_WIRE} values are on their way to {signal.device.name} already; wait for their answers")
        if not isinstance(signal, SignalRW):
            raise Denied(f"{command.signal} can only be read")
        if signal.dtype is str and not signal.choices:
            # Within one message too a text could hold a command of the instrument's (SCPI's ";").
            raise Denied(f"{command.signal} takes any text, and such can't be set over MQTT; nothing was sent")
        if signal.device.reconnecting:
            raise Denied(f"{signal.device.name}: its link is lost and being sought; nothing was sent")
        good_until = command.expires if heard.expiry is None else min(command.expires, came + heard.expiry * 10**9)
        limit = asyncio.timeout((good_until - now) / 1e9)  # it may wait for its turn, or for the link
        # In turn with the polls, not ahead of them: else a slider gone wild could blind an interlock on this wire.
        with acting(Purpose.POLL):
            status = signal.set(command.value)

        async def sent() -> None:
            try:
                async with limit:
                    await status
            except asyncio.CancelledError:
                note(False, f"{command.signal} = {command.value!r} was called off before it was confirmed")
            except Exception as error:  # whatever a driver raises is told to who asked
                if limit.expired():
                    note(False, f"{command.signal} = {command.value!r} expired before it was confirmed, and was called "
                         "off; whether it was sent is not known, look")  # fmt: skip
                else:
                    note(False, str(error) or type(error).__name__)
            else:
                note(True, f"{command.signal} = {command.value!r} {signal.unit} was sent".replace("  ", " "))

        self._on_wire[wire] += 1
        self._in_task(sent()).add_done_callback(lambda _: self._on_wire.subtract([wire]))

    def _in_task(self, work: Coroutine[Any, Any, None], *further: set[asyncio.Task[None]]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        for tasks in (self._running, *further):
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        return task

    # ------------------------------------------------------------------ answers

    def _noted(
        self, user: str, what: str, signal: str, id: str | None, ok: bool, text: str, came: int,
        grant: Grant | None = None,
    ) -> Reply:  # fmt: skip
        """Put a command on the record; return the answer."""
        event = self._lab.context.journal.note(
            "command", signal.partition(".")[0], f"{user or 'somebody'}: {what}: {'' if ok else 'refused: '}{text}",
            by=user, what=what, id=id, ok=ok, answer=text, came=came,
        )  # fmt: skip
        if grant is None:
            return Reply(id, ok, text, event.time)
        return Reply(id, ok, text, event.time, grant.token, grant.until)

    def _answer(self, listener: Listener, heard: Heard, user: str, reply: Reply) -> None:
        if not user:
            return
        payload, own = topics.encode_reply(reply), topics.reply_topic(self._name, user)
        if heard.response_topic and topics.may_be_answered_at(self._name, user, heard.response_topic):
            listener.say(Answer(heard.response_topic, payload, correlation=heard.correlation))
            if heard.response_topic == own:
                return
        listener.say(Answer(own, payload, correlation=heard.correlation))


def _decoded(verb: str, signal: str, heard: Heard) -> Command | BadCommand:
    if heard.size > topics.LARGEST:
        return BadCommand(f"the payload has {heard.size} bytes; a command has {topics.LARGEST} at most")
    try:
        return topics.decode_command(verb, signal, heard.payload)
    except BadCommand as error:
        return error
