"""Whether a lab is there, as the broker tells it: after a kill, a quick restart, and with two labs of one name."""

import asyncio
import importlib
import multiprocessing
import socket
import struct
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

import aiomqtt
import pytest
from soft_stage import Stage

from hal.model.context import Context
from hal.model.device import Device
from hal.telemetry import broker as module
from hal.telemetry import sender, topics
from hal.telemetry.broker import EmbeddedBroker
from hal.telemetry.publisher import Publisher

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("mosquitto")]

STATE = topics.state_topic("em3")


@pytest.fixture(scope="module")
def kept_broker():
    broker = EmbeddedBroker(program="mosquitto")
    broker.open()
    yield broker
    broker.close()


@pytest.fixture
async def broker(kept_broker):
    """One to which nobody has said anything of this lab."""
    async with aiomqtt.Client("127.0.0.1", kept_broker.port) as client:
        await client.publish(STATE, b"", 1, retain=True)
    return kept_broker


@asynccontextmanager
async def lab(port, name="em3"):
    context = Context()
    async with Publisher(
        context, [Device("stage", context=context)], f"mqtt://127.0.0.1:{port}", lab=name
    ) as telemetry:
        async with asyncio.timeout(60):
            while not telemetry.connected:
                await asyncio.sleep(0.01)
        yield telemetry
    await context.close()


async def kept(broker):
    """What the broker tells whoever comes now."""
    async with aiomqtt.Client("127.0.0.1", broker.port) as client, asyncio.timeout(60):
        await client.subscribe(STATE, 1)
        return topics.decode_state((await anext(aiter(client.messages))).payload)


async def until_online(broker, telemetry):
    async with asyncio.timeout(60):
        while not ((state := await kept(broker)).online and state.session == telemetry.session):
            await asyncio.sleep(0.02)


def run_lab(port, tell):
    """What runs in a process of its own, to be killed."""

    async def main():
        async with Publisher(Context(), [], f"mqtt://127.0.0.1:{port}", lab="em3") as telemetry:
            while not telemetry.connected:
                await asyncio.sleep(0.01)
            tell.send(telemetry.session)
            await asyncio.sleep(60)

    asyncio.run(main())


@pytest.fixture(scope="module")
def nursery():
    """Processes that need not import everything each for itself."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        yield multiprocessing.get_context("spawn")
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "hal.telemetry.publisher", "hal.capabilities"])
    yield context
    importlib.import_module("multiprocessing.forkserver")._forkserver._stop()  # not there on Windows


@contextmanager
def killed_lab(nursery, port):
    """A lab that is online, its session, and how to kill it."""
    heard, tell = nursery.Pipe(duplex=False)
    process = nursery.Process(target=run_lab, args=(port, tell), daemon=True)
    process.start()
    try:
        assert heard.poll(30)
        yield heard.recv(), process.kill
    finally:
        process.kill()
        process.join()


class Wire:
    """A network between a lab and the broker that can go away without either end being told."""

    def __init__(self, broker):
        self.broker, self.cut = broker, False

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.far = []
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.let_go()

    async def connected(self, reader, writer):
        far_reader, far = await asyncio.open_connection("127.0.0.1", self.broker.port)
        self.far.append(far)

        async def carry(source, sink):
            with suppress(OSError):
                while data := await source.read(4096):
                    if not self.cut:
                        sink.write(data)
            if not self.cut:
                sink.close()

        await asyncio.gather(carry(reader, far), carry(far_reader, writer))

    def let_go(self):
        """The broker notices at last, as it does when the keep-alive is over: the connection ends without a word."""
        for far in self.far:
            sock = far.get_extra_info("socket")
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.transport.abort()
        self.far.clear()


@pytest.mark.parametrize("program", ["mosquitto", "amqtt"])
async def test_a_lab_that_is_killed_is_offline_by_its_last_will(program, nursery):
    if program == "amqtt":
        pytest.importorskip("amqtt")
    broker = EmbeddedBroker(program=program)
    await asyncio.to_thread(broker.open)
    try:
        with killed_lab(nursery, broker.port) as (session, kill):
            assert (await kept(broker)).online
            kill()
        async with asyncio.timeout(60):
            while (state := await kept(broker)).online:
                await asyncio.sleep(0.02)
        assert (state.session, state.clean, state.time) == (session, False, None)
    finally:
        await asyncio.to_thread(broker.close)


async def test_the_will_of_a_killed_session_that_comes_late_does_not_make_its_successor_seem_dead(broker, nursery):
    async with Wire(broker) as wire:
        with ExitStack() as stack:  # this loop carries what the lab says
            session, kill = await asyncio.to_thread(stack.enter_context, killed_lab(nursery, wire.port))
            wire.cut = True
            kill()
        async with lab(broker.port) as telemetry, aiomqtt.Client("127.0.0.1", broker.port) as client:
            assert (await kept(broker)).online
            await client.subscribe(STATE, 1)
            wire.let_go()  # now the broker says that the lab is gone
            async with asyncio.timeout(60):
                async for message in client.messages:
                    state = topics.decode_state(message.payload)
                    if not state.online:
                        assert state.session == session
                        break
            await until_online(broker, telemetry)
        state = await kept(broker)
        assert not state.online
        assert state.clean


async def test_a_session_killed_and_begun_anew_within_a_second_is_online(broker, nursery):
    with killed_lab(nursery, broker.port) as (_, kill):
        kill()
    async with lab(broker.port) as telemetry:
        await until_online(broker, telemetry)
        await asyncio.sleep(0.2)
        assert (await kept(broker)).session == telemetry.session


@pytest.mark.parametrize("program", ["mosquitto", "amqtt"])
async def test_a_lab_with_a_broker_of_its_own_stays_online_when_another_of_its_name_has_left(program, monkeypatch):
    if program == "amqtt":
        pytest.importorskip("amqtt")
    monkeypatch.setattr(module, "_program", lambda _, find=module._program: find(program))
    context = Context()
    stage = Stage("heater", context=context)
    async with Publisher(context, [stage], "embedded:", lab="em3") as telemetry:
        broker = telemetry._embedded

        def told():
            return [event.text for event in context.journal.recent if event.kind == "error"]

        async with lab(broker.port), asyncio.timeout(60):
            while not told():
                await asyncio.sleep(0.01)
        if program == "mosquitto":  # amqtt may throw away what somebody says just before leaving
            await until_online(broker, telemetry)
        (text,) = told()
        assert "another lab called 'em3' publishes" in text
        async with aiomqtt.Client("127.0.0.1", broker.port) as client, asyncio.timeout(60):
            await client.subscribe(topics.READINGS)
            messages = aiter(client.messages)  # and nothing that is retained for the lab's own ears
            assert {str((await anext(messages)).topic).split("/")[0] for _ in range(5)} == {topics.ROOT}
    await context.close()


async def test_a_lab_whose_connection_is_taken_over_by_itself_is_online(broker, monkeypatch):
    """The network goes, the lab seeks the broker anew, and the broker has not noticed: the same client comes twice."""
    async with Wire(broker) as wire, lab(wire.port) as telemetry, aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe(STATE, 1)
        monkeypatch.setattr(sender, "PATIENCE", 0.6)
        wire.cut = True
        telemetry._context.journal.note("note", "", "nobody acknowledges this")
        async with asyncio.timeout(60):
            while telemetry.connected:
                await asyncio.sleep(0.02)
            wire.cut = False
            while not telemetry.connected:
                await asyncio.sleep(0.02)
        said = []
        await until_online(broker, telemetry)
        async with asyncio.timeout(60):  # the broker did say that it was gone
            async for message in client.messages:
                said.append(topics.decode_state(message.payload).online)
                if said[-2:] == [False, True]:
                    break
        assert telemetry.connected


async def test_two_labs_of_one_name_are_both_told_and_do_not_quarrel(broker):
    async with lab(broker.port) as one, aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe(STATE, 1)
        async with lab(broker.port) as other:
            for telemetry in (one, other):
                async with asyncio.timeout(60):
                    while not told(telemetry):
                        await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            assert [len(told(telemetry)) for telemetry in (one, other)] == [1, 1]
            assert "give each a name of its own" in told(one)[0]
        await until_online(broker, one)  # although the other has said that the lab has left
        said = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                async for _ in client.messages:
                    said += 1
        assert said < 8


def told(telemetry):
    return [e.text for e in telemetry._context.journal.recent if e.kind == "error" and "another lab called" in e.text]
