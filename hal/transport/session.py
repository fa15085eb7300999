"""Questions and answers on a link: one at a time, the urgent first, each with a deadline.

Theory of operation. A session owns one link and serves every device on it. Whoever wants the wire
takes a *turn*; turns are granted by purpose (safe state, stop, command, question, poll) and then in
order of arrival. A question that hangs is set aside when the safe state waits longer than `GRACE`.

A reply that was not collected - its question timed out, was cancelled or was set aside - is *owed*.
Before the next question the session resynchronises, else that question would get the last one's
answer: replies that identify themselves are matched; else a `Probe` whose answer is unmistakable is
asked and everything before it discarded; else the wire is listened to until the owed reply has come
or a timeout has passed. Writes of the safe state do not wait for that.

Questions are retried (once, unless marked not repeatable: reading `*ESR?` clears it). Writes are
retried only if idempotent, and pass the lab's gate at the last moment before bytes leave.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count

from ..clock.timebase import Timebase
from ..errors import HalError, LinkLost, NoReply
from ..gate import Gate, Purpose, purpose
from ..protocols.framing import Framing
from .link import Link

GRACE = 0.15
"""Seconds the safe state waits for a question in flight before it is set aside."""
BACKOFF = (0.1, 2.0)
"""First and longest pause between attempts to reconnect, s."""

Matches = Callable[[bytes], bool]


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
        self._owed: list[bytes] = []
        self._last_sent = float("-inf")
        self._last_heard = float("-inf")
        self._hand: asyncio.Task[None] | None = None
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

    async def tell(self, message: bytes, *, owner: str = "", idempotent: bool = False) -> int:
        """Send something that changes the device and is not answered; return when, in lab time."""
        rank = purpose(Purpose.COMMAND)
        while True:
            await self._usable(owner, rank)
            async with self._turns.turn(rank, self._hurry):
                self.gate.check(rank)
                try:
                    return await self._send(message)
                except OSError as error:
                    lost = self._lost(owner, error)
            if not (idempotent and self.state is LinkState.RECONNECTING):
                raise lost

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
        first: int | None = None
        while True:
            await self._usable(owner, rank)
            error: HalError
            try:
                async with self._turns.turn(rank, self._hurry):
                    if writes:
                        self.gate.check(rank)
                    again, first = first, self.timebase.now() if first is None else first
                    exchange = await self._once(message, limit, matches, then, writes, rank)
                    if again is not None and matches is not None:  # it may be the late reply to the first attempt
                        exchange = replace(exchange, sent=again)
                    return exchange
            except _SetAside:
                if repeatable:
                    continue  # not its fault: no attempt is used up
                error = NoReply(owner or self._who(), f"{message!r} was set aside for the safe state; ask again")
            except TimeoutError:
                attempts -= 1
                error = NoReply(
                    owner or self._who(),
                    f"no reply to {_shown(message)} in {limit:g} s on {self.link.url}; "
                    "is it powered, set to remote, and the baud rate right?",
                )
                if attempts > 0:
                    continue
            except OSError as reason:
                error = self._lost(owner, reason)
                first = None  # a new wire brings no late replies
                if repeatable and self.state is LinkState.RECONNECTING and rank is not Purpose.POLL:
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
    ) -> Exchange:
        """One attempt, in this task's turn."""
        unsure = bool(self._owed)
        if unsure and not (writes and rank is Purpose.SAFE):
            # Modbus RTU's replies name unit and function, not the register: a match is no proof there.
            proof = matches is not None and getattr(self.framing, "replies_identify", True)
            await self._resynchronise(limit, self_identifying=proof)
            unsure = False
        self._messages.clear()
        self._owed.append(message)
        sent = await self._send(message)
        reply = await self._reply(limit, matches)
        if then is not None and then.after(reply):
            await self._send(then.message)
            reply = await self._reply(limit, then.matches)
        received = self.timebase.now()
        if not unsure:  # else this may have been the reply to an older question: the next one clears it up
            self._owed.clear()
        return Exchange(reply, sent, received)

    async def _send(self, message: bytes) -> int:
        if self.pace:
            loop = asyncio.get_running_loop()
            if (wait := self._last_sent + self.pace - loop.time()) > 0:
                await asyncio.sleep(wait)
            self._last_sent = loop.time()
        if quiet := getattr(self.framing, "quiet", 0.0):  # silence that marks a new message (Modbus RTU)
            loop = asyncio.get_running_loop()
            if (wait := self._last_heard + quiet - loop.time()) > 0:
                await asyncio.sleep(wait)
        sent = self.timebase.now()
        await self.link.send(self.framing.encode(message))
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
            self._messages += self.framing.feed(await self._receive(left))

    async def _receive(self, limit: float) -> bytes:
        """Bytes from the link within `limit` seconds, unless the safe state sets the wait aside."""
        waiting = self._turns.interruptible()
        try:
            async with asyncio.timeout(limit):
                data = await self.link.receive()
            self._last_heard = asyncio.get_running_loop().time()
            return data
        except asyncio.CancelledError:
            if waiting.taken_back():
                raise _SetAside from None
            raise
        finally:
            self._turns.uninterruptible()

    async def _resynchronise(self, limit: float, *, self_identifying: bool) -> None:
        """Make sure that the next message on the wire answers the next question."""
        owed, self._owed = self._owed, []
        self.resynchronised += 1
        self._messages.clear()
        self.framing.reset()
        if self_identifying:
            return
        try:
            if self.probe is not None:
                await self._send(self.probe.question)
                # A lost probe may itself be among what is owed: then its answer comes once more.
                for _ in range(1 + owed.count(self.probe.question)):
                    try:
                        await self._reply(limit, self.probe.recognises)
                    except TimeoutError:
                        if _ == 0:
                            raise
                await self._listen(0.02)
            else:
                await self._listen(limit, enough=len(owed))
        except BaseException:
            self._owed = owed + ([self.probe.question] if self.probe else [])
            raise
        self._messages.clear()
        self.framing.reset()

    async def _listen(self, limit: float, enough: int = 1 << 30) -> None:
        """Discard what arrives for `limit` seconds, or until `enough` messages have."""
        with suppress(TimeoutError):
            for _ in range(enough):
                await self._reply(limit, None)

    def _hurry(self) -> None:
        self._turns.interrupt()

    # ------------------------------------------------------------------ losing and finding the link

    async def _usable(self, owner: str, rank: Purpose) -> None:
        """Return when the link is open; wait while it reconnects, but not for a poll."""
        if self.state is LinkState.OPEN:
            return
        if (
            self.state is LinkState.RECONNECTING
            and rank is not Purpose.POLL
            and asyncio.current_task() is not self._hand
        ):
            await self._restored.wait()
        state: LinkState = self.state  # it may have changed while we waited
        if state is LinkState.OPEN or asyncio.current_task() is self._hand:
            return
        if self.state is LinkState.CLOSED:
            raise LinkLost(owner or self._who(), f"{self.link.url} is closed; open the lab first")
        raise LinkLost(owner or self._who(), self._remedy(self._why))

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
        while loop.time() < deadline and self.state is LinkState.RECONNECTING:
            await self.link.close()
            try:
                await self.link.open()
                self._forget()
                for verify in self.verify:
                    await verify()
            except (OSError, HalError) as error:  # a wrong instrument may yet be exchanged for the right one
                self._why = str(error)
                await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
                pause = min(2 * pause, longest)
                continue
            self._fresh()
            for told in self.on_restored:
                told(self)
            return
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
        self._held = False
        self._queue: list[tuple[Purpose, int, asyncio.Future[None]]] = []
        self._order = count()
        self._waiting: _Waiting | None = None

    def turn(self, rank: Purpose, hurry: Callable[[], None] | None = None) -> _Turn:
        return _Turn(self, rank, hurry)

    async def take(self, rank: Purpose, hurry: Callable[[], None] | None) -> None:
        if not self._held and not self._queue:
            self._held = True
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
        while self._queue:
            _, _, granted = heapq.heappop(self._queue)
            if not granted.done():
                granted.set_result(None)
                return
        self._held = False

    def interruptible(self) -> _Waiting:
        task = asyncio.current_task()
        assert task is not None
        self._waiting = _Waiting(task)
        return self._waiting

    def uninterruptible(self) -> None:
        self._waiting = None

    def interrupt(self) -> None:
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
