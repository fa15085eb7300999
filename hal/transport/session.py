"""Questions and answers on a link: one at a time, the urgent first, each with a deadline.

Theory of operation. A session owns one link and serves every device on it. Whoever wants the wire
takes a *turn*; turns are granted by purpose (safe state, stop, command, question, poll) and then in
order of arrival. A question that hangs is set aside when the safe state waits longer than `GRACE`.

A reply that was not collected - its question timed out, was cancelled or was set aside - is *owed*.
Before the next question the session resynchronises, else that question would get the last one's
answer: replies that identify themselves are matched; else a `Probe` whose answer is unmistakable is
asked and everything before it discarded; else the wire is listened to until the owed reply has come
or a timeout has passed. What has not come by then may still come, and then before the next answer:
that question waits for as many, else until the wire is quiet, and is asked again if some are missing
(if it must not be repeated, it takes the last that came). To the very same question asked again the
first reply is good enough, as one that was true at some time since it was first asked. (An instrument
that answers neither in order nor within `PATIENCE` timeouts of its last answer needs a probe.) Writes
of the safe state wait for none of this. What arrives between questions, asked for by nobody, is
discarded before the next leaves.

Questions are retried (once, unless marked not repeatable: reading `*ESR?` clears it). Writes are
retried only if idempotent or if nothing has left yet, and pass the lab's gate at the last moment
before bytes leave. While a link is being reconnected only `verify` speaks on it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import ParamSpec, TypeVar

from ..clock.timebase import Timebase
from ..errors import HalError, LinkLost, NoReply
from ..gate import Gate, Purpose, acting, purpose
from ..protocols.framing import Framing
from .link import Link

GRACE = 0.15
"""Seconds the safe state waits for a question in flight before it is set aside."""
PATIENCE = 2
"""Timeouts within which the further replies of an instrument come that has begun to answer late."""
BACKOFF = (0.1, 2.0)
"""First and longest pause between attempts to reconnect, s."""

Matches = Callable[[bytes], bool]

T = TypeVar("T")
P = ParamSpec("P")

_mending: ContextVar[object | None] = ContextVar("hal_mending", default=None)
"""Marks the task that verifies a link just reopened, and what that task starts."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A reply and when it was had: the truth it reports lies between `sent` and `received`."""

    reply: bytes
    sent: int
    """Lab time, ns, just before the question left."""
    received: int
    """Lab time, ns, when its last byte was here."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A harmless question whose answer can't be taken for another's."""

    question: bytes
    recognises: Matches


@dataclass(frozen=True, slots=True)
class Reconnect:
    """What to do when the link is lost: try again for `within` seconds, then give up."""

    within: float = 10.0


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The second half of an exchange in two steps, within one turn: ACK, then ENQ, then the data."""

    after: Matches
    """The first reply that calls for it; any other reply (a NAK) ends the exchange."""
    message: bytes
    matches: Matches
    """Tells the reply to `message` from others."""


class LinkState(Enum):
    """Where a session's link stands."""

    CLOSED = "closed"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    LOST = "lost"


class _SetAside(Exception):
    """The safe state needs the wire now."""


class _Doubtful(Exception):
    """An answer came that may be to an older question; now that the wire is quiet, ask again."""


class Session:
    """One link, its framing, and the queue of those who want it."""

    def __init__(
        self,
        link: Link,
        framing: Framing,
        *,
        timebase: Timebase,
        gate: Gate | None = None,
        timeout: float = 1.0,
        pace: float = 0.0,
        probe: Probe | None = None,
        reconnect: Reconnect | None = None,
    ) -> None:
        """`timeout`: seconds for one attempt. `pace`: least seconds between two messages (from the manual)."""
        self.link, self.framing, self.timebase = link, framing, timebase
        self.gate = gate or Gate()
        self.timeout, self.pace, self.probe, self.reconnect = timeout, pace, probe, reconnect
        self.state = LinkState.CLOSED
        self.users: list[str] = []
        """Names of the devices on this link."""
        self.verify: list[Callable[[], Awaitable[object]]] = []
        """Run after a reconnection, before anybody else: is it still the right instrument?"""
        self.on_lost: list[Callable[[Session, LinkLost, bool], None]] = []
        """Told at once when the link is lost: (session, error, for_good)."""
        self.on_restored: list[Callable[[Session], None]] = []
        self.resynchronised = 0
        """How often owed replies had to be cleared away."""
        self._turns = _Turns()
        self._messages: list[bytes] = []
        self._owed: list[tuple[bytes, int]] = []
        """What has had no reply yet, and when it left (lab time, ns)."""
        self._stray = b"", 0, 0.0
        """A question asked twice and answered once, how many replies may still come, and until when."""
        self._last_sent = float("-inf")
        self._last_heard = float("-inf")
        self._left = False
        """Whether anything of the turn's message may have reached the wire."""
        self._hand: asyncio.Task[None] | None = None
        self._mending: object | None = None
        self._restored: asyncio.Event = asyncio.Event()
        self._why = ""

    # ------------------------------------------------------------------ life

    async def open(self) -> None:
        """Open the link once, however many devices ask for it. Raises `LinkLost`."""
        async with self._turns.turn(Purpose.COMMAND):
            if self.state is LinkState.OPEN:
                return
            try:
                await self.link.open()
            except OSError as error:
                raise LinkLost(self._who(), f"{error}; check the cable, the power and `link` in the lab file") from None
            self._fresh()

    async def close(self) -> None:
        """Close the link; pending questions fail."""
        self.state = LinkState.CLOSED
        if self._hand is not None:
            self._hand.cancel()
            with suppress(asyncio.CancelledError):
                await self._hand
            self._hand = None
        await self.link.close()
        self._restored.set()

    # ------------------------------------------------------------------ asking and telling

    async def ask(
        self,
        question: bytes,
        *,
        owner: str = "",
        timeout: float | None = None,
        repeatable: bool = True,
        matches: Matches | None = None,
        then: FollowUp | None = None,
    ) -> Exchange:
        """Ask and return the reply. A question must not change the device: it passes a closed gate.

        `matches` tells this question's reply from others where replies identify themselves; `then`
        asks on within the same turn. Raises `NoReply`, `LinkLost`.
        """
        return await self._exchange(
            question, owner, timeout, purpose(Purpose.SCRIPT), repeatable, matches, then, writes=False
        )

    async def command(
        self,
        message: bytes,
        *,
        owner: str = "",
        timeout: float | None = None,
        idempotent: bool = False,
        matches: Matches | None = None,
    ) -> Exchange:
        """Send something that changes the device and is answered. Raises what the gate was shut with."""
        return await self._exchange(
            message, owner, timeout, purpose(Purpose.COMMAND), idempotent, matches, None, writes=True
        )

    async def tell(self, message: bytes, *, owner: str = "", idempotent: bool = False, changes: bool = True) -> int:
        """Send something that is not answered; return when, in lab time.

        Unless it `changes` nothing (credit for a stream), it passes the lab's gate.
        """
        rank = purpose(Purpose.COMMAND)
        while True:
            await self._usable(owner, rank)
            error: HalError
            try:
                async with self._turns.turn(rank, self._hurry):
                    self._left = False
                    return await self._send(message, self.timeout, rank, writes=changes)
            except HalError:
                raise
            except _SetAside:
                error = self._set_aside(owner, message)
            except TimeoutError:
                error = NoReply(
                    owner or self._who(),
                    f"{_shown(message)} could not be sent in {self.timeout:g} s on {self.link.url}; "
                    "does it hold up the line (flow control)? is it alive?",
                )
                raise error from None
            except OSError as reason:
                error = self._lost(owner, reason)
                if not self._may_wait(rank):
                    raise error from None
            if not idempotent and self._left:
                raise error from None

    def lose(self, owner: str, reason: OSError) -> LinkLost:
        """A driver's further connection to the same instrument is gone: then this link counts as lost too.

        Reconnects if so configured (`verify` opens the further connection again) and tells `on_lost`;
        returns the error to raise.
        """
        return self._lost(owner, reason)

    # ------------------------------------------------------------------ private

    async def _exchange(
        self,
        message: bytes,
        owner: str,
        timeout: float | None,
        rank: Purpose,
        repeatable: bool,
        matches: Matches | None,
        then: FollowUp | None,
        *,
        writes: bool,
    ) -> Exchange:
        limit = self.timeout if timeout is None else timeout
        attempts = 2 if repeatable else 1
        went = False
        spare = 1  # for an attempt of which nothing left
        while True:
            await self._usable(owner, rank)
            error: HalError
            try:
                async with self._turns.turn(rank, self._hurry):
                    self._left = False
                    if writes:
                        self.gate.check(rank)
                    return await self._once(message, limit, matches, then, writes, rank, repeatable=repeatable)
            except HalError:  # the gate's; a trip by a lost link is an OSError too, and not of this link
                raise
            except _Doubtful:
                continue
            except _SetAside:
                if repeatable or not self._left:
                    continue  # not its fault: no attempt is used up
                error = self._set_aside(owner, message)
            except TimeoutError:
                went = went or self._left
                unsent = "" if went else "; nothing was sent, what it was last asked has no reply yet"
                error = NoReply(
                    owner or self._who(),
                    f"no reply to {_shown(message)} in {limit:g} s on {self.link.url}{unsent}; "
                    "is it powered and set to remote, and are the line settings and `driver` right?",
                )
                if not self._left and spare and not repeatable:
                    spare -= 1
                    continue
                attempts -= 1
                if attempts > 0:
                    continue
            except OSError as reason:
                error = self._lost(owner, reason)
                if (repeatable or not self._left) and self._may_wait(rank):
                    continue
            raise error from None

    async def _once(
        self,
        message: bytes,
        limit: float,
        matches: Matches | None,
        then: FollowUp | None,
        writes: bool,
        rank: Purpose,
        *,
        repeatable: bool,
    ) -> Exchange:
        """One attempt, in this task's turn."""
        doubts, patience, sure, strays = 0, PATIENCE * limit, True, 0
        since: int | None = None
        # Modbus RTU's replies name unit and function, not the register: a match is no proof there.
        proof = matches is not None and getattr(self.framing, "replies_identify", True)
        hasty = writes and rank is Purpose.SAFE and not proof
        if not hasty:
            await self._await_stray(message, proof=proof)
        elif self._stray[2] > asyncio.get_running_loop().time():
            self._owed += [(self._stray[0], self.timebase.now())] * self._stray[1]
        if self._owed:
            same = [left for owed, left in self._owed if owed == message]
            if hasty:
                doubts, patience, sure = len(self._owed), GRACE, False
            elif proof and getattr(self.framing, "replies_numbered", False):
                self._owed.clear()
            elif same and (proof or (self.probe is None and len(same) == len(self._owed))):
                # Asked before, and no better answer is to be had than the first that comes, true at some
                # time since then. The others must not be taken for the next question's.
                strays, since = len(self._owed), min(same)
            elif not proof:
                doubts = await self._resynchronise(limit, rank)
        sent = await self._send(message, limit, rank, writes=writes, begins=True)
        reply = await self._reply(limit, matches)
        received = self.timebase.now()
        while doubts:  # a reply to an older question comes before its own
            try:
                reply = await self._reply(patience, matches)
            except TimeoutError:
                if sure and repeatable:
                    self._owed.clear()  # nothing is under way any more
                    raise _Doubtful from None
                break
            doubts, received = doubts - 1, self.timebase.now()
        if then is not None and then.after(reply):
            await self._send(then.message, limit, rank, writes=False)
            reply = await self._reply(limit, then.matches)
            received = self.timebase.now()
        if sure or not doubts:
            self._owed.clear()
        if strays:
            self._stray = message, strays, asyncio.get_running_loop().time() + PATIENCE * limit
        return Exchange(reply, sent if since is None else since, received)

    async def _send(self, message: bytes, limit: float, rank: Purpose, *, writes: bool, begins: bool = False) -> int:
        """Send when pace and silence allow; return when. `begins`: an exchange, whose reply is owed from now on."""
        if self.pace:
            loop = asyncio.get_running_loop()
            if (wait := self._last_sent + self.pace - loop.time()) > 0:
                await asyncio.sleep(wait)
            self._last_sent = loop.time()
        if quiet := getattr(self.framing, "quiet", 0.0):  # silence that marks a new message (Modbus RTU)
            loop = asyncio.get_running_loop()
            if (wait := self._last_heard + quiet - loop.time()) > 0:
                await asyncio.sleep(wait)
        # Nothing waits between these looks and the wire.
        if self.state is not LinkState.OPEN and not self._mine():
            raise ConnectionError(self._why or "it was closed")
        if writes:
            self.gate.check(rank)
        if begins:
            self._messages.clear()
            self.framing.reset()
            self.link.discard()
            del self._owed[:-63]  # of an instrument that is dead
            self._owed.append((message, self.timebase.now()))
        self._left = True
        sent = self.timebase.now()
        await self._wait(limit, self.link.send, self.framing.encode(message))
        return sent

    async def _reply(self, limit: float, matches: Matches | None) -> bytes:
        """Wait for the next message that `matches`; raise TimeoutError, OSError or `_SetAside`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        while True:
            while self._messages:
                message = self._messages.pop(0)
                if matches is None or matches(message):
                    return message
            if (left := deadline - loop.time()) <= 0:
                raise TimeoutError
            data = await self._wait(left, self.link.receive)
            self._last_heard = loop.time()
            self._messages += self.framing.feed(data)

    async def _wait(self, limit: float, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Wait for the link at most `limit` seconds, unless the safe state sets the wait aside."""
        if self._turns.hurried:
            raise _SetAside
        waiting = self._turns.interruptible()
        try:
            async with asyncio.timeout(limit):
                return await work(*args, **kwargs)
        except asyncio.CancelledError:
            if waiting.taken_back():
                raise _SetAside from None
            raise
        finally:
            self._turns.uninterruptible()

    async def _await_stray(self, message: bytes, *, proof: bool) -> None:
        """Let the second reply to a question asked twice pass, where it could be taken for another's."""
        asked, most, until = self._stray
        left = until - asyncio.get_running_loop().time()
        if left > 0 and not (proof and message != asked):
            await self._listen(left, most)
            self._stray = b"", 0, 0.0

    async def _resynchronise(self, limit: float, rank: Purpose) -> int:
        """Clear away what is owed; return how many replies may still come before the next question's."""
        owed, self._owed = self._owed, []
        self.resynchronised += 1
        self._messages.clear()
        self.framing.reset()
        try:
            if self.probe is not None:
                await self._send(self.probe.question, limit, rank, writes=False)
                await self._reply(limit, self.probe.recognises)
                # A lost probe may itself be among what is owed: then its answer comes once more.
                lost = sum(message == self.probe.question for message, _ in owed)
                heard = await self._listen(PATIENCE * limit, lost, self.probe.recognises)
                await self._listen(0.02, 64)
                self._owed = [(self.probe.question, self.timebase.now())] * (lost - heard)
            else:
                self._owed = owed[await self._listen(limit, len(owed)) :]
        except BaseException:
            self._owed = owed + ([(self.probe.question, self.timebase.now())] if self.probe else [])
            raise
        finally:
            self._left = False  # a probe is not the message
        self._messages.clear()
        self.framing.reset()
        return len(self._owed)

    async def _listen(self, silence: float, most: int, matches: Matches | None = None) -> int:
        """Discard what arrives until `silence` seconds without, or until `most` messages have come."""
        for heard in range(most):
            try:
                await self._reply(silence, matches)
            except TimeoutError:
                return heard
        return most

    def _hurry(self) -> None:
        self._turns.interrupt()

    # ------------------------------------------------------------------ losing and finding the link

    async def _usable(self, owner: str, rank: Purpose) -> None:
        """Return when the link is open; wait while it reconnects, but not for a poll."""
        while not self._mine():
            if self.state is LinkState.OPEN:
                return
            if self.state is LinkState.CLOSED:
                raise LinkLost(owner or self._who(), f"{self.link.url} is closed; open the lab first")
            if not self._may_wait(rank):
                raise LinkLost(owner or self._who(), self._remedy(self._why))
            await self._restored.wait()

    def _may_wait(self, rank: Purpose) -> bool:
        """Whether this task is to wait for a reconnection under way."""
        return self.state is LinkState.RECONNECTING and rank is not Purpose.POLL and not self._mine()

    def _mine(self) -> bool:
        """Whether this task verifies the link just reopened."""
        return self._mending is not None and _mending.get() is self._mending

    def _set_aside(self, owner: str, message: bytes) -> NoReply:
        return NoReply(
            owner or self._who(),
            f"{_shown(message)} was set aside for the safe state; whether it was carried out is not known, look",
        )

    def _lost(self, owner: str, reason: OSError) -> LinkLost:
        """Note that the wire is gone, start to reconnect if so configured; return the error to raise."""
        if self.state is LinkState.OPEN:
            self._why = str(reason)
            self._restored.clear()
            if self.reconnect is not None:
                self.state = LinkState.RECONNECTING
                self._hand = asyncio.get_running_loop().create_task(self._reconnect(self.reconnect.within))
            else:
                self.state = LinkState.LOST
            self._tell_lost(for_good=self.reconnect is None)
        return LinkLost(owner or self._who(), self._remedy(str(reason)))

    async def _reconnect(self, within: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        pause, longest = BACKOFF
        self._mending = object()
        _mending.set(self._mending)
        with acting(Purpose.COMMAND):  # whatever the task did that found the link lost
            while loop.time() < deadline and self.state is LinkState.RECONNECTING:
                await self.link.close()
                try:
                    async with asyncio.timeout_at(deadline + longest):
                        await self.link.open()
                        self._forget()
                        for verify in list(self.verify):
                            await verify()
                except Exception as error:  # a wrong instrument may yet be exchanged for the right one
                    self._why = str(error) or f"it took too long to answer ({type(error).__name__})"
                    await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
                    pause = min(2 * pause, longest)
                    continue
                self._mending = None
                self._fresh()
                for told in self.on_restored:
                    told(self)
                return
        self._mending = None
        await self.link.close()
        self.state = LinkState.LOST
        self._why += f"; gave up after {within:g} s"
        self._restored.set()
        self._tell_lost(for_good=True)

    def _forget(self) -> None:
        """A wire just opened owes nothing."""
        self.framing.reset()
        self._messages.clear()
        self._owed.clear()
        self._stray = b"", 0, 0.0

    def _fresh(self) -> None:
        self._forget()
        self.state = LinkState.OPEN
        self._restored.set()

    def _tell_lost(self, *, for_good: bool) -> None:
        error = LinkLost(self._who(), self._remedy(self._why))
        for told in self.on_lost:
            told(self, error, for_good)

    def _remedy(self, why: str) -> str:
        if self.state is LinkState.RECONNECTING:
            return f"the link {self.link.url} is gone ({why}); reconnecting, check the cable"
        return f"the link {self.link.url} is gone ({why}); check the cable, then reopen the lab"

    def _who(self) -> str:
        return ", ".join(self.users) or self.link.url


def _shown(message: bytes) -> str:
    return repr(message) if len(message) <= 40 else f"{message[:40]!r}..."


class _Waiting:
    """A wait for bytes that the safe state may end."""

    __slots__ = ("before", "interrupted", "task")

    def __init__(self, task: asyncio.Task[object]) -> None:
        self.task, self.interrupted = task, False
        self.before = task.cancelling()

    def interrupt(self) -> None:
        if not self.interrupted:
            self.interrupted = True
            self.task.cancel()

    def taken_back(self) -> bool:
        """Whether the cancellation was ours alone; if so it is undone."""
        return self.interrupted and self.task.uncancel() <= self.before


class _Turns:
    """A lock whose next holder is the most urgent, not the first come."""

    def __init__(self) -> None:
        self._held: Purpose | None = None
        self.hurried = False
        """The holder is to be set aside as soon as it waits."""
        self._queue: list[tuple[Purpose, int, asyncio.Future[None]]] = []
        self._order = count()
        self._waiting: _Waiting | None = None

    def turn(self, rank: Purpose, hurry: Callable[[], None] | None = None) -> _Turn:
        return _Turn(self, rank, hurry)

    async def take(self, rank: Purpose, hurry: Callable[[], None] | None) -> None:
        if self._held is None:
            self._held = rank
            return
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._queue, (rank, next(self._order), granted))
        alarm = loop.call_later(GRACE, hurry) if rank is Purpose.SAFE and hurry else None
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give()
            raise
        finally:
            if alarm is not None:
                alarm.cancel()

    def give(self) -> None:
        self._held, self.hurried = None, False
        while self._queue:
            rank, _, granted = heapq.heappop(self._queue)
            if not granted.done():
                self._held = rank
                granted.set_result(None)
                return

    def interruptible(self) -> _Waiting:
        task = asyncio.current_task()
        assert task is not None
        self._waiting = _Waiting(task)
        return self._waiting

    def uninterruptible(self) -> None:
        self._waiting = None

    def interrupt(self) -> None:
        """Set the holder aside, unless it is the safe state itself (another device's, on the same wire)."""
        if self._held is None or self._held is Purpose.SAFE:
            return
        self.hurried = True
        if self._waiting is not None:
            self._waiting.interrupt()


class _Turn:
    __slots__ = ("_hurry", "_rank", "_turns")

    def __init__(self, turns: _Turns, rank: Purpose, hurry: Callable[[], None] | None) -> None:
        self._turns, self._rank, self._hurry = turns, rank, hurry

    async def __aenter__(self) -> None:
        await self._turns.take(self._rank, self._hurry)

    async def __aexit__(self, *_: object) -> None:
        self._turns.give()
