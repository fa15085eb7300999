"""Questions and answers on a link: one at a time, the urgent first, each with a deadline.

Theory of operation. A session owns one link (kept open and found again in `kept_link`) and serves every
device on it. Whoever wants the wire takes a turn (`turns`); a question that hangs is set aside for the safe state.

A reply that was not collected - its question timed out, was cancelled or was set aside - is *owed*.
Before the next question the session resynchronises, else that question would get the last one's
answer: replies that identify themselves (`Identifies`) are matched; else the `Probe` of whoever owes
one, whose answer is unmistakable, is asked and everything before it discarded; else the wire is
listened to until the owed reply has come or a timeout has passed. What has not come by then may still
come, and then before the next answer: that question waits for as many, else until the wire is quiet,
and is asked again if some are missing (if it must not be repeated, it takes the last that came).
To the very same question asked again the first reply is good enough, as one that was true at some
time since it was first asked; what has come of it by then, and be it half of it, is kept, since its
end alone could be taken for another value. (An instrument that answers neither in order nor within
`PATIENCE` timeouts of its last answer needs a probe.) Writes of the safe state wait for none of this.
What arrives between questions, asked for by nobody, is discarded before the next leaves.

Questions are retried (once, unless marked not repeatable: reading `*ESR?` clears it). Writes are
retried only if idempotent or if nothing has left yet, and pass the lab's gate at the last moment
before bytes leave. While a link is being reconnected only `verify` speaks on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..clock.timebase import Timebase
from ..errors import HalError, NoReply
from ..gate import Gate, Purpose, purpose
from ..protocols.framing import Framing, Identifies, Matches
from .kept_link import KeptLink, LinkState, Reconnect
from .link import Link
from .turns import GRACE, SetAside, Turns

__all__ = ["Exchange", "FollowUp", "Identifies", "LinkState", "Matches", "Probe", "Reconnect", "Session"]

PATIENCE = 2
"""Timeouts within which the further replies of an instrument come that has begun to answer late."""


class Exchange(NamedTuple):
    """A reply and when it was had: the truth it reports lies between `sent` and `received`."""

    reply: bytes
    sent: int
    """Lab time, ns, just before the question left."""
    received: int
    """Lab time, ns, when its last byte was here."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The second half of an exchange in two steps, within one turn: ACK, then ENQ, then the data."""

    after: Matches
    """The first reply that calls for it; any other reply (a NAK) ends the exchange."""
    message: bytes
    matches: Matches
    """Tells the reply to `message` from others."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A harmless question whose answer can't be taken for another's.

    Those of two channels of one instrument are equal: it answers them alike, and in the order they were asked.
    """

    question: bytes
    recognises: Matches = field(compare=False)
    then: FollowUp | None = field(default=None, compare=False)
    """Where an exchange has two steps."""
    aside: Callable[[bytes], None] | None = field(default=None, compare=False)
    """Told what comes instead of the answer: an alarm that an instrument tells once."""

    def begins(self, reply: bytes) -> bool:
        """Whether `reply` is the answer, or its first half."""
        if self.recognises(reply) or (self.then is not None and self.then.after(reply)):
            return True
        if self.aside is not None:
            self.aside(reply)
        return False


class _Owed(NamedTuple):
    """What has had no reply yet."""

    message: bytes
    sent: int
    """Lab time, ns."""
    probe: Probe | None


_NOTHING = _Owed(b"", 0, None)


class _Doubtful(Exception):
    """An answer came that may be to an older question; now that the wire is quiet, ask again."""


class Session(KeptLink):
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
        reconnect: Reconnect | None = None,
    ) -> None:
        """`timeout`: seconds for one attempt. `pace`: least seconds between two messages (from the manual)."""
        super().__init__(link, reconnect)
        self.framing, self.timebase = framing, timebase
        self.gate = gate or Gate()
        self.timeout, self.pace = timeout, pace
        self._quiet: float = getattr(framing, "quiet", 0.0)
        """s of silence that mark a new message (Modbus RTU)."""
        self._send_at_once: Callable[[bytes], bool] | None = getattr(link, "send_at_once", None)
        """Of a link that knows when a message can be sent without waiting; a tenth of what a question costs."""
        self.resynchronised = 0
        """How often owed replies had to be cleared away."""
        self._turns = Turns()
        self._messages: list[bytes] = []
        self._owed: list[_Owed] = []
        self._stray: tuple[_Owed, int, float] = _NOTHING, 0, 0.0
        """A question asked twice and answered once, how many replies may still come, and until when."""
        self._probes: dict[Probe, None] = {}
        """Those that were asked: an answer to one may come any time."""
        self._last_sent = float("-inf")
        self._last_heard = float("-inf")
        self._half = self._torn = False
        """Whether what came last is the beginning of a message; whether its end has been waited for in vain."""
        self._left = False
        """Whether anything of the turn's message may have reached the wire."""

    async def open(self) -> None:
        """Open the link once, however many devices ask for it. Raises `LinkLost`."""
        async with self._turns.turn(Purpose.COMMAND):
            await super().open()

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
        probe: Probe | None = None,
    ) -> Exchange:
        """Ask and return the reply. A question must not change the device: it passes a closed gate.

        What does not pass `matches` is passed over (`Identifies` says that what does is the reply); `then` asks on
        within the same turn; `probe` clears away the reply if it should be owed. Raises `NoReply`, `LinkLost`.
        """
        return await self._exchange(
            question, owner, timeout, purpose(Purpose.SCRIPT), repeatable, matches, then, probe, writes=False
        )

    async def command(
        self,
        message: bytes,
        *,
        owner: str = "",
        timeout: float | None = None,
        idempotent: bool = False,
        matches: Matches | None = None,
        probe: Probe | None = None,
    ) -> Exchange:
        """Send something that changes the device and is answered. Raises what the gate was shut with."""
        return await self._exchange(
            message, owner, timeout, purpose(Purpose.COMMAND), idempotent, matches, None, probe, writes=True
        )

    async def tell(self, message: bytes, *, owner: str = "", idempotent: bool = False, changes: bool = True) -> int:
        """Send something that is not answered; return when, in lab time.

        Unless it `changes` nothing (credit for a stream), it passes the lab's gate.
        """
        rank = purpose(Purpose.COMMAND)
        while True:
            if self.state is not LinkState.OPEN:
                await self._usable(owner, rank)
            error: HalError
            try:
                async with self._turns.turn(rank):
                    self._left = False
                    return await self._send(message, self.timeout, rank, writes=changes)
            except HalError:
                raise
            except SetAside:
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

    def forget(self) -> None:
        """A wire just opened owes nothing."""
        self._discard()
        self._owed.clear()
        self._probes.clear()
        self._stray = _NOTHING, 0, 0.0

    async def _exchange(
        self,
        message: bytes,
        owner: str,
        timeout: float | None,
        rank: Purpose,
        repeatable: bool,
        matches: Matches | None,
        then: FollowUp | None,
        probe: Probe | None,
        *,
        writes: bool,
    ) -> Exchange:
        limit = self.timeout if timeout is None else timeout
        attempts = 2 if repeatable else 1
        went = False
        spare = 1  # for an attempt of which nothing left
        while True:
            if self.state is not LinkState.OPEN:
                await self._usable(owner, rank)
            error: HalError
            try:
                if not self._turns.taken(rank):
                    await self._turns.take(rank)
                try:
                    self._left = False
                    if writes:
                        self.gate.check(rank)
                    return await self._once(message, limit, matches, then, probe, writes, rank, repeatable=repeatable)
                finally:
                    self._turns.give()
            except HalError:  # the gate's; a trip by a lost link is an OSError too, and not of this link
                raise
            except _Doubtful:
                continue
            except SetAside:
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
        probe: Probe | None,
        writes: bool,
        rank: Purpose,
        *,
        repeatable: bool,
    ) -> Exchange:
        """One attempt, in this task's turn."""
        doubts, patience, sure, strays = 0, PATIENCE * limit, True, 0
        since: int | None = None
        proof = isinstance(matches, Identifies)
        hasty = writes and rank is Purpose.SAFE and not proof
        if self._stray[1]:
            if not hasty:
                await self._await_stray(message, proof=proof)
            elif self._stray[2] > asyncio.get_running_loop().time():
                self._owed += [self._stray[0]] * self._stray[1]
        fresh = not self._owed  # else what has come by now may be the beginning of what is owed
        if self._half and asyncio.get_running_loop().time() > self._last_heard + limit:
            self._torn = True
        if self._owed and (owed := self._really_owed()):
            same = [one.sent for one in owed if one.message == message]
            if hasty:
                doubts, patience, sure = len(owed), GRACE, False
            elif isinstance(matches, Identifies) and matches.numbered:
                self._owed.clear()
            elif same and (proof or (probe is None and len(same) == len(owed))):
                if self._torn and await self._listen(limit, 1):  # the end was late; else it does not come any more
                    self._owed.remove(owed.pop(0))
                    self._torn = False
                # Asked before, and no better answer is to be had than the first that comes, true at some
                # time since then. The others must not be taken for the next question's.
                strays, since = len(owed), min(same) if owed else None
            elif not proof:
                doubts = await self._resynchronise(limit, rank, probe)
        sent = await self._send(message, limit, rank, writes=writes, owes=(probe,), fresh=fresh or self._torn)
        reply = await self._reply(limit, matches, message)
        received = self.timebase.now()
        while doubts:  # a reply to an older question comes before its own
            try:
                reply = await self._reply(patience, matches, message)
            except TimeoutError:
                if sure and repeatable:
                    self._owed.clear()  # nothing is under way any more
                    raise _Doubtful from None
                break
            doubts, received = doubts - 1, self.timebase.now()
        if then is not None and then.after(reply):
            await self._send(then.message, limit, rank, writes=False)
            reply = await self._reply(limit, then.matches, message)
            received = self.timebase.now()
        if probe is not None and message == probe.question:
            self._answered(probe)
        elif sure or not doubts:
            self._owed.clear()
        if strays:
            self._stray = _Owed(message, sent, probe), strays, asyncio.get_running_loop().time() + PATIENCE * limit
        return Exchange(reply, sent if since is None else since, received)

    async def _send(
        self,
        message: bytes,
        limit: float,
        rank: Purpose,
        *,
        writes: bool,
        owes: tuple[Probe | None] | None = None,
        fresh: bool = False,
    ) -> int:
        """Send when pace and silence allow; return when.

        `owes`: from now on a reply is owed, with the probe that clears it away; `fresh`: nothing that has come by
        now is of use.
        """
        if self.pace:
            loop = asyncio.get_running_loop()
            if (wait := self._last_sent + self.pace - loop.time()) > 0:
                await asyncio.sleep(wait)
            self._last_sent = loop.time()
        if self._quiet:
            loop = asyncio.get_running_loop()
            if (wait := self._last_heard + self._quiet - loop.time()) > 0:
                await asyncio.sleep(wait)
        # Nothing waits between these looks and the wire.
        if self.state is not LinkState.OPEN and not self._mine():
            raise ConnectionError(self._why or "it was closed")
        if writes:
            self.gate.check(rank)
        if fresh:
            self._discard()
            self.link.discard()
        self._left = True
        sent = self.timebase.now()
        if owes is not None:
            del self._owed[:-63]  # of an instrument that is dead
            self._owed.append(_Owed(message, sent, *owes))
        data = self.framing.encode(message)
        if self._send_at_once is not None:
            self._turns.go_on()
            if self._send_at_once(data):
                return sent
        await self._turns.wait(asyncio.get_running_loop().time() + limit, self.link.send, data)
        return sent

    async def _reply(self, limit: float, matches: Matches | None, asked: bytes = b"") -> bytes:
        """Wait for the next message that `matches` and answers no probe but the one `asked`.

        Raises TimeoutError, OSError, `SetAside`.
        """
        loop = asyncio.get_running_loop()
        deadline, late = loop.time() + limit, False
        while True:
            while self._messages:
                message = self._messages.pop(0)
                if self._probes and self._answers_a_probe(message, asked):
                    continue
                if matches is None or matches(message):
                    return message
            try:
                if late:  # nor does a flood of what does not match keep anybody waiting
                    raise TimeoutError
                data = await self._turns.wait(deadline, self.link.receive)
            except TimeoutError:
                self._torn = self._half
                raise
            self._last_heard = heard = loop.time()
            late = heard >= deadline
            messages = self.framing.feed(data)
            self._half = not messages
            self._messages += messages

    def _answers_a_probe(self, message: bytes, asked: bytes) -> bool:
        """Whether it is the late answer to one that was asked before."""
        for probe in self._probes:
            if probe.question != asked and probe.recognises(message):
                self._answered(probe)
                return True
        return False

    def _discard(self) -> None:
        """What was begun to be heard is not of use."""
        self._messages.clear()
        self.framing.reset()
        self._half = self._torn = False

    async def _await_stray(self, message: bytes, *, proof: bool) -> None:
        """Let the second reply to a question asked twice pass, where it could be taken for another's."""
        asked, most, until = self._stray
        left = until - asyncio.get_running_loop().time()
        if left > 0 and not (proof and message != asked.message):
            await self._listen(left, most)
            self._stray = _NOTHING, 0, 0.0

    async def _resynchronise(self, limit: float, rank: Purpose, mine: Probe | None) -> int:
        """Clear away what is owed; return how many replies may still come before the next question's."""
        self.resynchronised += 1
        try:
            for probe in dict.fromkeys(one.probe for one in self._really_owed()):
                if probe is None:
                    those = [one for one in self._owed if one.probe is None]
                    heard = those[: await self._listen(limit, len(those))]
                    self._owed = [one for one in self._owed if one not in heard]
                    continue
                try:
                    await self._ask_probe(probe, limit, rank)
                except TimeoutError:
                    if probe == mine:  # another instrument on this wire may be off
                        raise
        finally:
            self._left = False  # a probe is not the message
        self._discard()
        return len(self._really_owed())

    async def _ask_probe(self, probe: Probe, limit: float, rank: Purpose) -> None:
        """Let an unmistakable answer push out all that its instrument owes. Raises TimeoutError."""
        if self._torn:
            self._discard()
        self._probes[probe] = None
        # One that falls silent before all have come has lost the rest, or it hangs again. Asked once more, one that
        # hangs does not answer, and still owes them.
        for _ in range(2):
            await self._send(probe.question, limit, rank, writes=False, owes=(probe,))
            if await self._settled(probe, limit, rank):
                return
        self._owed = [one for one in self._owed if one.probe != probe]

    async def _settled(self, probe: Probe, limit: float, rank: Purpose) -> bool:
        """Hear what it answers; return whether it owes nothing then. Raises TimeoutError if it answers nothing."""
        reply = await self._reply(limit, probe.begins, probe.question)
        for _ in range(len(self._owed)):
            if probe.begins(reply):
                if probe.then is not None and probe.then.after(reply):
                    await self._send(probe.then.message, limit, rank, writes=False)
                    await self._reply(limit, probe.recognises, probe.question)
                self._answered(probe)
                if all(one.probe != probe for one in self._really_owed()):
                    return True
            try:  # it was the answer to an earlier probe: what was asked after that is still to come
                reply = await self._reply(PATIENCE * limit, None, probe.question)
            except TimeoutError:
                return False
        return False

    def _really_owed(self) -> list[_Owed]:
        """Without answers to probes: those are known when they come."""
        return [one for one in self._owed if one.probe is None or one.message != one.probe.question]

    def _answered(self, probe: Probe) -> None:
        """An answer to a probe is that to the first that has none; what was asked before that comes no more."""
        for place, one in enumerate(self._owed):
            if one.probe == probe and one.message == probe.question:
                self._owed = [one for n, one in enumerate(self._owed) if n > place or one.probe != probe]
                return

    async def _listen(self, silence: float, most: int, matches: Matches | None = None) -> int:
        """Discard what arrives until `silence` seconds without, or until `most` messages have come."""
        for heard in range(most):
            try:
                await self._reply(silence, matches)
            except TimeoutError:
                return heard
        return most

    def _set_aside(self, owner: str, message: bytes) -> NoReply:
        return NoReply(
            owner or self._who(),
            f"{_shown(message)} was set aside for the safe state; whether it was carried out is not known, look",
        )


def _shown(message: bytes) -> str:
    return repr(message) if len(message) <= 40 else f"{message[:40]!r}..."
