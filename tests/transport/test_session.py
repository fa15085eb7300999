"""The session: every answer belongs to its question, whatever happens on the wire and in the queue."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hal.clock.timebase import Timebase
from hal.errors import HalError, InterlockTripped, LinkLost, NoReply, WrongInstrument
from hal.gate import Gate, Purpose, acting
from hal.protocols.framing import Lines
from hal.testing import JumpingLoop
from hal.transport import turns
from hal.transport.fault import Faults, FaultyLink
from hal.transport.memory import MemoryLink
from hal.transport.session import FollowUp, Identifies, LinkState, Probe, Reconnect, Session


class Echo:
    """An instrument that answers ``Q`` with ``a:Q``, one after the other, as late as it is told."""

    streaming = False

    def __init__(self) -> None:
        self.delay = 0.01
        self.delays: list[float | None] = []
        """Of the next answers; None: none is given."""
        self.stuck_until = 0.0
        self.taken: list[tuple[float, bytes]] = []
        self._framing = Lines(b"\n")
        self._free = 0.0

    def stream(self, now: float) -> bytes:
        return b""

    def receive(self, data: bytes, now: float) -> list[tuple[float, bytes]]:
        out = []
        for message in self._framing.feed(data):
            self.taken.append((now, message))
            delay = self.delays.pop(0) if self.delays else self.delay
            if delay is not None and not message.startswith(b"!"):
                self._free = max(now, self._free, self.stuck_until) + delay
                out.append((self._free - now, b"a:" + message + b"\n"))
        return out

    @property
    def messages(self) -> list[bytes]:
        return [message for _, message in self.taken]


class Bench:
    def __init__(self, session: Session, echo: Echo, link: MemoryLink, faults: Faults, gate: Gate) -> None:
        self.session, self.echo, self.link, self.faults, self.gate = session, echo, link, faults, gate
        self.probe: Probe | None = None

    async def ask(self, question: bytes, **options: Any) -> bytes:
        return (await self.session.ask(question, owner="toy", **{"probe": self.probe} | options)).reply

    async def command(self, message: bytes, **options: Any) -> bytes:
        return (await self.session.command(message, owner="toy", **{"probe": self.probe} | options)).reply

    def later(self, work: Any) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work)

    async def safe(self, message: bytes = b"OFF") -> float:
        """Send it as the safe state does; return how long that took."""
        began = now()
        with acting(Purpose.SAFE):
            await self.session.tell(b"!" + message)
        return now() - began


PROBE = Probe(b"probe", lambda reply: reply == b"a:probe")


@asynccontextmanager
async def benched(*, probe: Probe | None = None, **options: Any) -> AsyncIterator[Bench]:
    gate = Gate()
    echo, faults = Echo(), Faults()
    link = MemoryLink(echo)
    session = Session(
        FaultyLink(link, faults), Lines(b"\n"), timebase=Timebase.of_loop(now), gate=gate, **{"timeout": 1.0} | options
    )
    session.users.append("toy")
    await session.open()
    try:
        bench = Bench(session, echo, link, faults, gate)
        bench.probe = probe
        yield bench
    finally:
        await session.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with benched() as made:
        yield made


def now() -> float:
    return asyncio.get_running_loop().time()


def answers(question: bytes) -> Identifies:
    return Identifies(lambda reply: reply == b"a:" + question)


# ---------------------------------------------------------------------- deadlines and retries


async def test_an_answer_comes_with_the_interval_it_was_true_in(bench: Bench) -> None:
    bench.echo.delay = 0.25
    exchange = await bench.session.ask(b"Q")
    assert exchange.reply == b"a:Q"
    assert exchange.received - exchange.sent == 250_000_000


async def test_an_unanswered_question_is_retried_once(bench: Bench) -> None:
    bench.echo.delays = [None, 0.01]
    assert await bench.ask(b"Q") == b"a:Q"
    assert bench.echo.messages == [b"Q", b"Q"]


async def test_a_question_that_is_never_answered_names_device_question_time_and_remedy(bench: Bench) -> None:
    bench.echo.delays = [None, None, None]
    with pytest.raises(NoReply, match=r"toy: no reply to b'Q' in 1 s on memory:; is it powered"):
        await bench.ask(b"Q")
    assert bench.echo.messages == [b"Q", b"Q"]


async def test_a_question_that_is_not_repeatable_is_never_asked_twice(bench: Bench) -> None:
    bench.echo.delays = [None]
    with pytest.raises(NoReply):
        await bench.ask(b"*ESR?", repeatable=False)
    assert bench.echo.messages == [b"*ESR?"]


async def test_a_command_is_not_repeated(bench: Bench) -> None:
    bench.echo.delays = [None]
    with pytest.raises(NoReply):
        await bench.command(b"STEP 1")
    assert bench.echo.messages == [b"STEP 1"]


async def test_an_idempotent_command_is_repeated_once(bench: Bench) -> None:
    bench.echo.delays = [None]
    assert await bench.command(b"SET 1", idempotent=True) == b"a:SET 1"
    assert bench.echo.messages == [b"SET 1", b"SET 1"]


async def test_a_command_that_had_not_left_yet_may_try_again() -> None:
    async with benched(probe=PROBE) as bench:
        bench.echo.delays = [None, None]  # of the question and of the first probe
        with pytest.raises(NoReply):
            await bench.ask(b"Q", repeatable=False)
        assert await bench.command(b"STEP 1") == b"a:STEP 1"
        assert bench.echo.messages.count(b"STEP 1") == 1


async def test_a_deadline_of_one_question_overrides_the_sessions(bench: Bench) -> None:
    bench.echo.delay = 3.0
    assert await bench.ask(b"slow", timeout=5.0) == b"a:slow"


async def test_sending_has_a_deadline_too(bench: Bench) -> None:
    async def blocked(data: bytes) -> None:
        await asyncio.Event().wait()

    bench.link.send = blocked  # type: ignore[method-assign]
    began = now()
    with pytest.raises(NoReply, match="toy: .*could not be sent in 1 s"):
        await bench.session.tell(b"!X", owner="toy")
    with pytest.raises(NoReply, match="toy: no reply"):
        await bench.ask(b"Q", repeatable=False)
    assert now() - began < 5


# ---------------------------------------------------------------------- the answer that comes late


@pytest.mark.parametrize("probe", [None, PROBE], ids=["neither", "probe"])
@pytest.mark.parametrize("late", [1.2, 1.9, 2.5, 3.5, 7.3])
async def test_after_a_timeout_the_next_question_never_gets_the_last_ones_answer(
    probe: Probe | None, late: float
) -> None:
    async with benched(probe=probe) as bench:
        bench.echo.stuck_until = late
        with suppress(NoReply):
            assert await bench.ask(b"Q1", repeatable=False) == b"a:Q1"
        for question in (b"Q2", b"Q3", b"Q4", b"Q5", b"Q6", b"Q7"):
            with suppress(NoReply):
                assert await bench.ask(question) == b"a:" + question
        assert await bench.ask(b"Q8") == b"a:Q8"


async def test_an_instrument_that_is_off_does_not_keep_another_on_its_wire_from_answering(bench: Bench) -> None:
    other = Probe(b"who?", lambda reply: reply == b"a:who?")
    bench.echo.delays = [None, None, None, None]
    with pytest.raises(NoReply):
        await bench.ask(b"Q1", probe=other)
    assert await bench.ask(b"Q2", probe=PROBE) == b"a:Q2"
    began = now()
    assert await bench.ask(b"Q3", probe=PROBE) == b"a:Q3"
    assert now() - began < 0.5


async def test_what_comes_instead_of_a_probe_s_answer_is_handed_on(bench: Bench) -> None:
    heard: list[bytes] = []
    probe = Probe(b"probe", lambda reply: reply == b"a:probe", aside=heard.append)
    bench.echo.stuck_until = 1.5
    with pytest.raises(NoReply):
        await bench.ask(b"Q1", probe=probe, repeatable=False)
    assert await bench.ask(b"Q2", probe=probe) == b"a:Q2"
    assert heard == [b"a:Q1"]


@pytest.mark.parametrize("late", [1.2, 2.5, 3.5])
async def test_where_replies_identify_themselves_the_late_one_is_passed_over(bench: Bench, late: float) -> None:
    bench.echo.stuck_until = late
    with suppress(NoReply):
        await bench.ask(b"Q1", matches=answers(b"Q1"), repeatable=False)
    for question in (b"Q2", b"Q3", b"Q4"):
        with suppress(NoReply):
            assert await bench.ask(question, matches=answers(question)) == b"a:" + question
    assert await bench.ask(b"Q5", matches=answers(b"Q5")) == b"a:Q5"


async def test_a_matching_late_reply_counts_from_the_first_time_the_question_was_asked(bench: Bench) -> None:
    bench.echo.stuck_until = 1.3
    exchange = await bench.session.ask(b"Q", matches=answers(b"Q"))
    assert exchange.received - exchange.sent > 1.3e9


@pytest.mark.parametrize("probe", [None, PROBE], ids=["neither", "probe"])
async def test_a_cancelled_question_leaves_no_answer_to_the_next(probe: Probe | None) -> None:
    async with benched(probe=probe) as bench:
        bench.echo.delays = [0.5]
        question = bench.later(bench.ask(b"Q1"))
        await asyncio.sleep(0.1)
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        assert await bench.ask(b"Q2") == b"a:Q2"
        assert await bench.ask(b"Q3") == b"a:Q3"


async def test_a_question_cancelled_before_it_left_owes_nothing() -> None:
    async with benched(pace=0.5) as bench:
        await bench.ask(b"Q1")
        question = bench.later(bench.ask(b"Q2"))
        await asyncio.sleep(0.1)
        question.cancel()
        assert await bench.ask(b"Q3") == b"a:Q3"
        assert bench.session.resynchronised == 0


async def test_a_reply_lost_for_good_costs_one_wait_and_not_every_later_one(bench: Bench) -> None:
    bench.echo.delays = [None]
    with pytest.raises(NoReply):
        await bench.ask(b"Q1", repeatable=False)
    assert await bench.ask(b"Q2") == b"a:Q2"
    began = now()
    assert await bench.ask(b"Q3") == b"a:Q3"
    assert now() - began < 0.1


async def test_a_line_nobody_asked_for_does_not_shift_the_answers(bench: Bench) -> None:
    inbox = bench.link._inbox
    assert inbox is not None
    inbox.feed(b"BOOT V1.0\n")
    assert await bench.ask(b"Q1") == b"a:Q1"
    inbox.feed(b"half a line of noi")
    assert await bench.ask(b"Q2") == b"a:Q2"


async def test_garbage_before_the_answer_is_not_taken_for_it_where_replies_identify_themselves(bench: Bench) -> None:
    inbox = bench.link._inbox
    assert inbox is not None
    bench.echo.delays = [0.2]
    asyncio.get_running_loop().call_later(0.1, inbox.feed, b"\xff\x00#\n\n")
    assert await bench.ask(b"Q", matches=answers(b"Q")) == b"a:Q"


async def test_an_exchange_in_two_steps_keeps_its_turn(bench: Bench) -> None:
    then = FollowUp(lambda reply: reply == b"a:Q", b"ENQ", lambda reply: reply == b"a:ENQ")
    first = bench.later(bench.ask(b"Q", then=then))
    second = bench.later(bench.ask(b"R"))
    assert (await first, await second) == (b"a:ENQ", b"a:R")
    assert bench.echo.messages == [b"Q", b"ENQ", b"R"]


# ---------------------------------------------------------------------- turns


async def test_the_urgent_goes_first_on_a_busy_link(bench: Bench) -> None:
    bench.echo.delay = 0.02
    running = bench.later(bench.ask(b"running"))
    await asyncio.sleep(0)
    waiting = []

    async def ask_for(purpose: Purpose, message: bytes) -> None:
        with acting(purpose):
            await bench.session.command(message)

    for purpose in (Purpose.POLL, Purpose.SCRIPT, Purpose.COMMAND, Purpose.STOP, Purpose.SAFE):
        waiting += [bench.later(ask_for(purpose, f"{purpose.name} {n}".encode())) for n in (1, 2)]
        await asyncio.sleep(0)
    await asyncio.gather(running, *waiting)
    assert bench.echo.messages == [b"running"] + [
        f"{name} {n}".encode() for name in ("SAFE", "STOP", "COMMAND", "SCRIPT", "POLL") for n in (1, 2)
    ]


async def test_a_hanging_question_is_set_aside_for_the_safe_state_and_answered_all_the_same(bench: Bench) -> None:
    bench.echo.delays = [0.8]
    question = bench.later(bench.ask(b"Q"))
    await asyncio.sleep(0.1)
    assert await bench.safe() <= turns.GRACE + 0.01
    assert await question == b"a:Q"


async def test_the_safe_state_also_sets_aside_a_question_that_was_pausing_when_it_came() -> None:
    async with benched(pace=0.3, timeout=5.0) as bench:
        await bench.ask(b"Q1")
        bench.echo.delays = [None, None]
        question = bench.later(bench.ask(b"Q2"))  # sleeps 0.3 s, then hangs
        await asyncio.sleep(0.05)
        assert await bench.safe() < 1.0
        question.cancel()


async def test_a_command_set_aside_says_that_its_fate_is_unknown(bench: Bench) -> None:
    bench.echo.delays = [0.8]
    command = bench.later(bench.command(b"STEP"))
    await asyncio.sleep(0.1)
    await bench.safe()
    with pytest.raises(NoReply, match="toy: b'STEP' was set aside for the safe state; whether it was carried out"):
        await command
    assert bench.echo.messages.count(b"STEP") == 1


async def test_two_safe_states_on_one_slow_bus_do_not_set_each_other_aside(bench: Bench) -> None:
    bench.echo.delay = 3 * turns.GRACE

    async def off(message: bytes) -> bytes:
        with acting(Purpose.SAFE):
            return await bench.command(message, idempotent=True)

    assert await asyncio.gather(off(b"OFF 1"), off(b"OFF 2")) == [b"a:OFF 1", b"a:OFF 2"]
    assert bench.echo.messages == [b"OFF 1", b"OFF 2"]


async def test_a_safe_state_command_waits_for_no_owed_reply(bench: Bench) -> None:
    bench.echo.delays = [2.5]
    with pytest.raises(NoReply):
        await bench.ask(b"Q", repeatable=False)
    began = now()
    assert await bench.safe() == 0.0
    with acting(Purpose.SAFE), suppress(NoReply):
        await bench.command(b"OFF")
    assert bench.echo.taken[-1][0] == began


async def test_a_safe_state_command_does_not_take_an_older_answer_that_comes_first(bench: Bench) -> None:
    bench.echo.delays = [1.05]
    with pytest.raises(NoReply):
        await bench.ask(b"Q", repeatable=False)
    with acting(Purpose.SAFE):
        assert await bench.command(b"OFF") == b"a:OFF"


async def test_a_waiter_that_is_cancelled_does_not_lose_the_turn(bench: Bench) -> None:
    bench.echo.delay = 0.1
    first, second, third = (bench.later(bench.ask(q)) for q in (b"1", b"2", b"3"))
    await asyncio.sleep(0.05)
    second.cancel()
    assert await first == b"a:1"
    assert await third == b"a:3"
    assert bench.echo.messages == [b"1", b"3"]


async def test_a_waiter_cancelled_just_as_its_turn_comes_hands_it_on(bench: Bench) -> None:
    bench.echo.delay = 0.1
    first, second, third = (bench.later(bench.ask(q)) for q in (b"1", b"2", b"3"))
    first.add_done_callback(lambda _: second.cancel())
    await asyncio.wait([first, second, third])
    assert third.result() == b"a:3"


async def test_messages_keep_the_pace_the_manual_asks_for() -> None:
    async with benched(pace=0.2) as bench:
        await asyncio.gather(*(bench.ask(q) for q in (b"1", b"2", b"3")))
        times = [time for time, _ in bench.echo.taken]
        assert [round(later - sooner, 6) for sooner, later in itertools.pairwise(times)] == [0.2, 0.2]


async def test_two_devices_share_a_session_and_an_error_names_the_one_that_asked(bench: Bench) -> None:
    bench.session.users.append("other")
    bench.echo.delays = [None, None]
    with pytest.raises(NoReply, match="^other: no reply"):
        await bench.session.ask(b"Q", owner="other")
    assert await bench.ask(b"R") == b"a:R"


# ---------------------------------------------------------------------- the gate


def shut(gate: Gate) -> None:
    gate.close(lambda: InterlockTripped("interlock 'vacuum' tripped"))


async def test_after_a_trip_questions_pass_and_writes_do_not(bench: Bench) -> None:
    shut(bench.gate)
    assert await bench.ask(b"Q") == b"a:Q"
    with pytest.raises(InterlockTripped):
        await bench.command(b"SET 1")
    with pytest.raises(InterlockTripped):
        await bench.session.tell(b"!SET 2")
    await bench.safe()
    assert bench.echo.messages == [b"Q", b"!OFF"]


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_command_waiting_for_its_turn_when_the_trip_comes_never_leaves(bench: Bench, idempotent: bool) -> None:
    bench.echo.delay = 0.2
    question = bench.later(bench.ask(b"Q"))
    await asyncio.sleep(0)
    command = bench.later(bench.command(b"SET 1", idempotent=idempotent))
    tell = bench.later(bench.session.tell(b"!SET 2", idempotent=idempotent))
    await asyncio.sleep(0.05)
    shut(bench.gate)
    await question
    for write in (command, tell):
        with pytest.raises(InterlockTripped):
            await write
    assert bench.echo.messages == [b"Q"]


async def test_a_command_pausing_for_the_pace_when_the_trip_comes_never_leaves() -> None:
    async with benched(pace=0.5) as bench:
        await bench.ask(b"Q")
        writes = [bench.later(bench.command(b"SET 1")), bench.later(bench.session.tell(b"!SET 2"))]
        await asyncio.sleep(0.1)
        shut(bench.gate)
        for write in writes:
            with pytest.raises(InterlockTripped):
                await write
        assert bench.echo.messages == [b"Q"]


@pytest.mark.parametrize("probe", [None, PROBE], ids=["neither", "probe"])
async def test_a_command_that_waits_for_an_owed_reply_when_the_trip_comes_never_leaves(probe: Probe | None) -> None:
    async with benched(probe=probe) as bench:
        bench.echo.delays = [1.8]
        with pytest.raises(NoReply):
            await bench.ask(b"Q", repeatable=False)
        command = bench.later(bench.command(b"SET 1"))
        await asyncio.sleep(0.2)
        shut(bench.gate)
        with pytest.raises(InterlockTripped):
            await command
        assert b"SET 1" not in bench.echo.messages


async def test_the_retry_of_a_command_does_not_pass_a_gate_that_was_shut_meanwhile(bench: Bench) -> None:
    bench.echo.delays = [None]
    command = bench.later(bench.command(b"SET 1", idempotent=True))
    await asyncio.sleep(0.5)
    shut(bench.gate)
    with pytest.raises(InterlockTripped):
        await command
    assert bench.echo.messages == [b"SET 1"]


async def test_a_trip_by_another_link_refuses_writes_and_leaves_this_link_alone(bench: Bench) -> None:
    bench.gate.close(lambda: LinkLost("other", "the link is gone"))
    with pytest.raises(LinkLost, match="^other"):
        await bench.command(b"SET 1")
    assert bench.session.state is LinkState.OPEN
    assert await bench.ask(b"Q") == b"a:Q"
    await bench.safe()


# ---------------------------------------------------------------------- losing and finding the link


async def test_a_lost_link_names_the_device_the_reason_and_the_remedy(bench: Bench) -> None:
    told: list[tuple[LinkLost, bool]] = []
    bench.session.on_lost.append(lambda _, error, for_good: told.append((error, for_good)))
    bench.link.unplug()
    with pytest.raises(LinkLost, match=r"toy: the link memory: is gone \(the cable .*\); check the cable"):
        await bench.ask(b"Q")
    assert [for_good for _, for_good in told] == [True]
    with pytest.raises(LinkLost):
        await bench.ask(b"R")
    assert len(told) == 1


async def test_a_cable_pulled_while_a_question_waits_ends_it_at_once(bench: Bench) -> None:
    bench.echo.delay = 0.9
    question = bench.later(bench.ask(b"Q"))
    await asyncio.sleep(0.1)
    began = now()
    bench.link.unplug()
    with pytest.raises(LinkLost):
        await question
    assert now() == began


async def test_a_script_waits_while_the_link_is_reconnected_and_a_poll_does_not() -> None:
    async with benched(reconnect=Reconnect(10.0)) as bench:
        bench.link.unplug()

        async def poll() -> bytes:
            with acting(Purpose.POLL):
                return await bench.ask(b"P")

        question = bench.later(bench.ask(b"Q"))
        await asyncio.sleep(0.01)
        with pytest.raises(LinkLost, match="toy: .*reconnecting, check the cable"):
            await poll()
        asyncio.get_running_loop().call_later(3.0, bench.link.plug)
        assert await question == b"a:Q"
        assert 3.0 <= now() < 6.0
        assert await poll() == b"a:P"


async def test_an_idempotent_command_is_repeated_after_a_reconnection_and_no_other() -> None:
    async with benched(reconnect=Reconnect(10.0)) as bench:
        bench.echo.delay = 0.5
        commands = {
            b"SET 1": bench.later(bench.command(b"SET 1", idempotent=True)),
        }
        await asyncio.sleep(0.1)
        bench.link.unplug()
        asyncio.get_running_loop().call_later(1.0, bench.link.plug)
        assert await commands[b"SET 1"] == b"a:SET 1"
        step = bench.later(bench.command(b"STEP"))
        await asyncio.sleep(0.1)
        bench.link.unplug()
        bench.link.plug()
        with pytest.raises(LinkLost):
            await step
        assert bench.echo.messages == [b"SET 1", b"SET 1", b"STEP"]


async def test_a_write_waiting_for_the_reconnection_does_not_pass_a_gate_shut_meanwhile() -> None:
    async with benched(reconnect=Reconnect(10.0)) as bench:
        bench.link.unplug()
        writes = [
            bench.later(bench.command(b"SET 1", idempotent=True)),
            bench.later(bench.session.tell(b"!SET 2", idempotent=True)),
        ]
        await asyncio.sleep(0.1)
        shut(bench.gate)
        bench.link.plug()
        for write in writes:
            with pytest.raises(InterlockTripped):
                await write
        assert bench.echo.messages == []


async def test_it_gives_up_after_the_time_set_and_says_so() -> None:
    async with benched(reconnect=Reconnect(2.0)) as bench:
        told: list[bool] = []
        bench.session.on_lost.append(lambda _, error, for_good: told.append(for_good))
        bench.link.unplug()
        with pytest.raises(LinkLost, match="gave up after 2 s"):
            await bench.ask(b"Q")
        assert now() == pytest.approx(2.0, abs=0.2)
        assert told == [False, True]


async def test_nobody_speaks_on_a_link_reopened_before_it_was_verified() -> None:
    async with benched(reconnect=Reconnect(10.0)) as bench:
        right = False

        async def verify() -> None:
            await bench.ask(b"ID?")
            if not right:
                raise WrongInstrument("toy", "expected another")

        bench.session.verify.append(verify)
        bench.echo.delay = 0.2
        bench.later(bench.ask(b"Q1")).add_done_callback(lambda task: task.exception())
        await asyncio.sleep(0.05)
        queued = [bench.later(bench.command(f"SET {n}".encode(), idempotent=True)) for n in range(3)]
        await asyncio.sleep(0.05)
        bench.link.unplug()
        bench.link.plug()
        await asyncio.sleep(4.0)
        assert set(bench.echo.messages) == {b"Q1", b"ID?"}
        right = True
        assert await asyncio.gather(*queued) == [b"a:SET 0", b"a:SET 1", b"a:SET 2"]


async def test_a_link_lost_again_while_it_is_verified_does_not_stop_the_world() -> None:
    async with benched(reconnect=Reconnect(3.0)) as bench:

        async def verify() -> None:
            bench.link.unplug()
            await bench.ask(b"ID?")

        bench.session.verify.append(verify)
        bench.link.unplug()
        bench.link.plug()
        with pytest.raises(LinkLost):
            await bench.command(b"!X")
        bench.link.plug()
        with pytest.raises(LinkLost, match="gave up"):
            await bench.ask(b"Q")


async def test_verifying_may_use_tasks_of_its_own() -> None:
    async with benched(reconnect=Reconnect(3.0)) as bench:

        async def verify() -> None:
            assert await asyncio.wait_for(bench.ask(b"ID?"), 1.0) == b"a:ID?"
            assert await asyncio.gather(bench.ask(b"A"), bench.ask(b"B")) == [b"a:A", b"a:B"]

        bench.session.verify.append(verify)
        bench.link.unplug()
        question = bench.later(bench.ask(b"Q"))
        await asyncio.sleep(0.05)
        bench.link.plug()
        assert await question == b"a:Q"


async def test_a_bug_in_a_drivers_verification_still_ends_in_giving_up() -> None:
    async with benched(reconnect=Reconnect(2.0)) as bench:

        async def verify() -> None:
            raise KeyError("bug")

        bench.session.verify.append(verify)
        bench.link.unplug()
        bench.link.plug()
        with pytest.raises(LinkLost):
            await bench.command(b"X")
        with pytest.raises(LinkLost, match=r"bug.*gave up"):
            await bench.ask(b"Q")


async def test_reconnecting_belongs_to_no_safe_state_though_the_safe_state_found_the_link_lost() -> None:
    async with benched(reconnect=Reconnect(2.0)) as bench:

        async def verify() -> None:
            await bench.session.tell(b"!SETUP")

        bench.session.verify.append(verify)
        shut(bench.gate)
        bench.link.unplug()
        safe = bench.later(bench.safe())
        safe.add_done_callback(lambda task: task.exception())
        await asyncio.sleep(0.05)
        bench.link.plug()
        await asyncio.sleep(3.0)
        assert b"!SETUP" not in bench.echo.messages


async def test_closing_ends_what_waits(bench: Bench) -> None:
    bench.echo.delays = [None]
    question = bench.later(bench.ask(b"Q"))
    await asyncio.sleep(0.1)
    await bench.session.close()
    with pytest.raises(LinkLost):
        await question
    with pytest.raises(LinkLost, match="is closed; open the lab first"):
        await bench.ask(b"Q")


# ---------------------------------------------------------------------- anything at all

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "command", "poll", "safe", "cancel", "stuck"]),
        st.sampled_from([0.0, 0.01, 0.05, 0.2, 1.0, 1.5, 2.4]),  # s until the next step
        st.sampled_from([0.01, 0.05, 0.14, 0.3, 0.9, 1.3, 3.7, None]),  # s until its answer
        st.booleans(),  # replies identify themselves
    ),
    max_size=14,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.booleans())
def test_whatever_is_late_lost_or_cancelled_every_answer_belongs_to_its_question(steps: Any, probing: bool) -> None:
    async def play() -> None:
        async with benched(probe=PROBE if probing else None) as bench:
            tasks: list[asyncio.Task[None]] = []

            async def one(kind: str, message: bytes, matching: bool) -> None:
                rank = {"poll": Purpose.POLL, "command": Purpose.COMMAND, "safe": Purpose.SAFE}.get(kind)
                matches = answers(message) if matching else None
                with suppress(NoReply), acting(Purpose.SCRIPT if rank is None else rank):
                    send = bench.ask if kind in ("ask", "poll") else bench.command
                    reply = await send(message, matches=matches)
                    # The safe state does not wait to be sure of an answer. A command is not repeated to be
                    # sure of it: where nothing identifies replies and its own is lost, an older one passes.
                    unsure = kind == "safe" or (kind == "command" and not probing)
                    assert reply == b"a:" + message or (unsure and not matching)

            for number, (kind, pause, delay, matching) in enumerate(steps):
                if kind == "stuck":
                    if bench.echo._free <= now():  # it hangs for a while, then answers all, in order
                        bench.echo.stuck_until = now() + (delay or 0.0) * (8 if probing else 1)
                elif kind == "cancel":
                    if tasks:
                        tasks[-1].cancel()
                else:
                    bench.echo.delays.append(delay if delay is None else min(delay, 0.9))
                    tasks.append(bench.later(one(kind, f"{kind}{number}".encode(), matching)))
                await asyncio.sleep(pause)
            done = await asyncio.gather(*tasks, return_exceptions=True)
            bad = [e for e in done if isinstance(e, Exception)]
            if bad:
                raise bad[0]
            bench.echo.delays.clear()
            for number in range(8):
                await one("ask", f"last{number}".encode(), False)
            await asyncio.sleep(max(bench.echo.stuck_until, bench.echo._free, now()) - now())
            assert await bench.ask(b"end") == b"a:end"

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(play())


def test_every_error_of_a_session_is_ours_and_ends_with_what_to_do() -> None:
    for error in (NoReply("toy", "x"), LinkLost("toy", "x")):
        assert isinstance(error, HalError)
        assert re.match("toy: ", str(error))


async def test_faults_are_the_same_every_time_for_one_seed() -> None:
    async def heard(seed: int) -> list[bytes]:
        link = FaultyLink(MemoryLink(Echo()), Faults(drop=0.3, garble=0.3), seed=seed)
        await link.open()
        out = []
        for number in range(20):
            await link.send(b"%02d\n" % number)
            try:
                async with asyncio.timeout(1.0):
                    out.append(await link.receive())
            except TimeoutError:
                out.append(b"")
        await link.close()
        return out

    first = await heard(1)
    assert first == await heard(1)
    assert first != await heard(2)
    assert b"" in first


class Halting(Echo):
    """It pauses within each answer, for a while or for ever."""

    pause: float | None = 0.2

    def receive(self, data: bytes, now: float) -> list[tuple[float, bytes]]:
        out = []
        for delay, answer in super().receive(data, now):
            out.append((delay, answer[:-3]))
            if self.pause is not None:
                out.append((delay + self.pause, answer[-3:]))
                self._free += self.pause
        return out


@asynccontextmanager
async def halting() -> AsyncIterator[Bench]:
    async with benched() as bench:
        echo = Halting()
        bench.link.far_end = bench.echo = echo
        yield bench


async def cancelled_within_its_answer(bench: Bench, question: bytes) -> None:
    asked = bench.later(bench.ask(question))
    await asyncio.sleep(0.1)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


async def test_a_question_cancelled_within_its_answer_leaves_no_half_of_it_to_the_same_question() -> None:
    async with halting() as bench:
        await cancelled_within_its_answer(bench, b"value1")
        assert await bench.ask(b"value1") == b"a:value1"
        assert await bench.ask(b"other2") == b"a:other2"
        assert await bench.ask(b"value1") == b"a:value1"
        assert now() < 2.0


async def test_half_an_answer_that_came_while_nobody_listened_is_no_answer() -> None:
    async with halting() as bench:
        bench.echo.delays = [0.1]
        asked = bench.later(bench.ask(b"value1"))
        await asyncio.sleep(0.05)
        asked.cancel()
        await asyncio.sleep(0.1)
        assert await bench.ask(b"value1") == b"a:value1"
        assert await bench.ask(b"value1") == b"a:value1"


async def test_a_question_cancelled_within_its_answer_costs_the_next_one_no_timeout() -> None:
    async with halting() as bench:
        await cancelled_within_its_answer(bench, b"value1")
        began = now()
        assert await bench.ask(b"other2") == b"a:other2"
        assert now() - began < 0.5


async def test_an_answer_that_broke_off_is_not_put_before_the_next() -> None:
    async with halting() as bench:
        bench.echo.pause = None
        with pytest.raises(NoReply):
            await bench.ask(b"value1", repeatable=False)
        bench.echo.pause = 0.0
        assert await bench.ask(b"value1") == b"a:value1"
        assert await bench.ask(b"other2") == b"a:other2"


async def test_an_answer_that_broke_off_in_a_cancelled_question_is_not_put_before_the_next() -> None:
    async with halting() as bench:
        bench.echo.pause = None
        await cancelled_within_its_answer(bench, b"value1")
        bench.echo.pause = 0.0
        await asyncio.sleep(1.5)
        assert await bench.ask(b"value1") == b"a:value1"
