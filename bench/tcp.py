"""What a library adds to an instrument on TCP: get, set and read back, many listeners, a hundred devices.

One emulated SCPI instrument, in a process of its own, answers everybody at once (`reply_delay = 0`);
each device has its own connection. Every contestant sends the same messages.

- ours: an `Instrument` with `Scpi` addresses on a `TcpLink`; limits, journal, gate and resynchronising on.
- ophyd-async: a `SignalBackend` over asyncio streams, one connection and one lock per device, as one
  writes it for a control system it does not know (its own soft backend polls the same way).
- QCoDeS: a `VisaInstrument` at ``TCPIP::host::port::SOCKET`` with pyvisa-py, blocking; once as it is
  installed and once with TCP_NODELAY set by hand, for pyvisa-py refuses to be asked for it.
- asyncio alone: streams and nothing else; the floor.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from functools import partial
from itertools import count as numbers

from _measure import OURS, Audience, Figure, Work, arguments, finish, header, measure

from hal import Instrument, Scpi, SignalR, SignalRW
from hal.errors import WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort
from hal.model.context import Context
from hal.protocols.framing import Lines
from hal.transport.session import Session
from hal.transport.tcp import TcpLink

HOST = "127.0.0.1"
OPHYD, FLOOR = "ophyd-async", "asyncio alone (the floor)"
QCODES, QCODES_NODELAY = "QCoDeS (blocking)", "QCoDeS (blocking), NODELAY"
DEVICES = 100
FLAT_OUT = 1e-6  # s between polls: as fast as it goes
NEVER = 3600.0  # s
IDENTITY = "INSITU,BENCH,0,1.0"
LIMITS = (-1e9, 1e9)
VALUES = numbers(1)
"""No value twice: whoever reads one back can't have read an old one."""


# ---------------------------------------------------------------------- the instrument, in a child process


class Emulated:
    """Two quantities to set and read, and counters of the questions for them."""

    reply_delay = 0.0

    def __init__(self) -> None:
        self.values = {b"VOLT": b"0", b"CURR": b"0"}
        self.asked: Counter[bytes] = Counter()

    def framing(self, scheme: str) -> Lines:
        return Lines(b"\n")

    def respond(self, message: bytes) -> bytes | None:
        if message == b"*IDN?":
            return IDENTITY.encode()
        if message.startswith(b"COUN"):  # one for each contestant
            self.asked[message] += 1
            return str(self.asked[message]).encode()
        if message.endswith(b"?"):
            return self.values[message[:-1]]
        header, _, value = message.partition(b" ")
        self.values[header] = value
        return None

    def advance(self, dt: float) -> None:
        """It knows no time."""


async def serve() -> None:
    """Serve until the parent goes."""
    bench = Bench(Emulated())  # it has no world either
    port = await TcpPort(bench.wire([Emulated()], "tcp"), host=HOST).open()
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    print(port.port, flush=True)
    await asyncio.get_running_loop().create_future()


def _leave_with_the_parent() -> None:
    sys.stdin.read()  # ends when the parent does, however it does
    os._exit(0)


# ---------------------------------------------------------------------- ours


class Supply(Instrument):
    voltage = SignalRW(float, "V", at=Scpi("VOLT?", "VOLT {value!r}"), limits=LIMITS, poll=NEVER)
    current = SignalRW(float, "A", at=Scpi("CURR?", "CURR {value!r}"), limits=LIMITS, poll=NEVER)
    counter = SignalR(float, "", at=Scpi("COUN1?"), poll=FLAT_OUT)

    async def identify(self) -> str:
        found = (await self.ask(b"*IDN?")).reply.decode()
        if found != IDENTITY:
            raise WrongInstrument(self.name, f"expected the bench's emulator, found {found!r}; check the port")
        return found


def our_supply(port: int, name: str = "bench", context: Context | None = None) -> Supply:
    context = context or Context()
    session = Session(TcpLink(HOST, port), Lines(b"\n"), timebase=context.timebase, gate=context.gate)
    return Supply(session, name, context=context)


# ---------------------------------------------------------------------- asyncio alone


class Wire:
    """One question at a time on a stream; what anybody would write first."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._lock = asyncio.Lock()
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._owed = 0
        self.identity = ""

    async def open(self) -> None:
        """Open once, however many signals ask for it."""
        async with self._lock:
            if self.identity:
                return
            self._reader, self._writer = await asyncio.open_connection(HOST, self.port)
            sock: socket.socket = self._writer.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # asyncio's own default
            self._writer.write(b"*IDN?\n")
            self.identity = (await self._reader.readline()).decode().strip()
            assert self.identity == IDENTITY

    async def ask(self, question: str) -> str:
        async with self._lock:
            while self._owed:  # a cancelled question's reply would be taken for this one's
                await self._reader.readline()
                self._owed -= 1
            self._writer.write(question.encode() + b"\n")
            self._owed += 1
            reply = await self._reader.readline()
            self._owed -= 1
            return reply.decode().strip()

    async def tell(self, message: str) -> None:
        async with self._lock:
            self._writer.write(message.encode() + b"\n")
            await self._writer.drain()

    def close(self) -> None:
        self._writer.transport.abort()


# ---------------------------------------------------------------------- ophyd-async and QCoDeS

# Imported late: the child that serves needs neither.


def ophyd_supply_class():
    """The device class and its backend."""
    import ophyd_async.core as oa
    from bluesky.protocols import Reading

    class ScpiBackend(oa.SignalBackend):
        """A number asked with ``HEAD?`` and set with ``HEAD value``; polled while anybody listens."""

        def __init__(self, wire: Wire, head: str, period: float = NEVER) -> None:
            super().__init__(float)
            self.wire, self.head, self.period = wire, head, period
            self._setpoint = 0.0
            self._callback = None
            self._poll: asyncio.Task[None] | None = None

        def source(self, name: str, read: bool) -> str:
            return f"scpi://{HOST}:{self.wire.port}/{self.head}"

        async def connect(self, timeout: float) -> None:
            try:
                async with asyncio.timeout(timeout):
                    await self.wire.open()
            except (TimeoutError, OSError) as error:
                raise oa.NotConnectedError(self.source("", True)) from error

        async def put(self, value: float | None) -> None:
            self._setpoint = float(value or 0.0)
            await self.wire.tell(f"{self.head} {self._setpoint!r}")
            if self._callback is not None:
                self._callback(self._reading(self._setpoint))

        async def get_datakey(self, source: str):
            return {"source": source, "dtype": "number", "shape": []}

        async def get_reading(self):
            return self._reading(await self.get_value())

        async def get_value(self) -> float:
            return float(await self.wire.ask(f"{self.head}?"))

        async def get_setpoint(self) -> float:
            return self._setpoint

        def set_callback(self, callback) -> None:
            if self._poll is not None:
                self._poll.cancel()
                self._poll = None
            self._callback = callback
            if callback is not None:
                self._poll = asyncio.create_task(self._run(callback))

        async def _run(self, callback) -> None:
            while True:
                callback(await self.get_reading())
                await asyncio.sleep(self.period)

        @staticmethod
        def _reading(value: float):
            return Reading(value=value, timestamp=time.time(), alarm_severity=0)

    class OphydSupply(oa.Device):
        def __init__(self, port: int, name: str = "") -> None:
            self.wire = Wire(port)
            self.voltage = oa.SignalRW(ScpiBackend(self.wire, "VOLT"))
            self.current = oa.SignalRW(ScpiBackend(self.wire, "CURR"))
            self.counter = oa.SignalR(ScpiBackend(self.wire, "COUN2", FLAT_OUT))
            super().__init__(name)

    return OphydSupply


def qcodes_supply_class():
    """The instrument class."""
    import logging

    from qcodes.instrument import VisaInstrument
    from qcodes.validators import Numbers

    logging.getLogger("pyvisa").setLevel(logging.WARNING)

    class QcodesSupply(VisaInstrument):
        default_terminator = "\n"

        def __init__(self, name: str, port: int, *, nodelay: bool = False) -> None:
            # Its default device_clear=True waits 0.1 s for silence on every socket it opens.
            super().__init__(name, f"TCPIP::{HOST}::{port}::SOCKET", visalib="@py", device_clear=False)
            if nodelay:
                # pyvisa-py 0.8.1 raises "Unknown attribute" for VI_ATTR_TCPIP_NODELAY.
                handle = self.visa_handle
                sock = handle.visalib.sessions[handle.session].interface
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for parameter, head, unit in (("voltage", "VOLT", "V"), ("current", "CURR", "A")):
                self.add_parameter(
                    parameter,
                    get_cmd=f"{head}?",
                    set_cmd=f"{head} {{!r}}",
                    get_parser=float,
                    unit=unit,
                    vals=Numbers(*LIMITS),
                )
            self.add_parameter("counter", get_cmd="COUN3?", get_parser=float)
            assert self.ask("*IDN?") == IDENTITY

    return QcodesSupply


# ---------------------------------------------------------------------- get, set and read back


def asynchronous(read, write=None) -> Work:
    """Read, or write and read back and compare."""

    async def work(count: int) -> None:
        if write is None:
            for _ in range(count):
                value = await read()
            assert value >= 0.0
            return
        for _ in range(count):
            value = float(next(VALUES))
            await write(value)
            assert await read() == value

    return work


def blocking(read, write=None) -> Work:
    def work(count: int) -> None:
        if write is None:
            for _ in range(count):
                value = read()
            assert value >= 0.0
            return
        for _ in range(count):
            value = float(next(VALUES))
            write(value)
            assert read() == value

    return work


# ---------------------------------------------------------------------- listeners


async def watch(signal, audience: Audience) -> None:
    async for reading in signal.watch():
        audience.heard(reading.value)


async def observe(signal, audience: Audience) -> None:
    from ophyd_async.core import observe_value

    async for value in observe_value(signal):
        audience.heard(value)


def fan_out_of_sets(signal, read, audience: Audience) -> Work:
    """Set, wait until every listener has it, set the next; the last is read back from the instrument."""

    async def work(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            value = float(next(VALUES))
            heard = audience.expect(value)
            await signal.set(value)
            await heard
        took = time.perf_counter() - begun
        assert await read() == value  # also: the instrument has worked off what it was sent
        return took

    return work


async def heard(stream: AsyncGenerator) -> float:
    value = await anext(stream)
    return getattr(value, "value", value)  # ours yields readings, ophyd-async values


def polled(values: Callable[[], AsyncGenerator], size: int) -> Work:
    """Listeners on a signal polled flat out: seconds per reading that all have had, none missed, none twice."""

    async def work(count: int) -> float:
        async def listen() -> tuple[float, float]:
            async with aclosing(values()) as stream:
                value = await heard(stream)
                begun = time.perf_counter()
                for _ in range(count):
                    before, value = value, await heard(stream)
                    assert value == before + 1
                return begun, time.perf_counter()

        spans = await asyncio.gather(*(listen() for _ in range(size)))
        return max(end for _, end in spans) - min(begun for begun, _ in spans)

    return work


# ---------------------------------------------------------------------- a hundred devices


def connects(port: int, ophyd_class, qcodes_class) -> dict[str, Work]:
    """A hundred connections, each to an instrument that has said who it is."""

    async def ours(count: int) -> float:
        begun = time.perf_counter()
        context = Context()
        devices = [our_supply(port, f"d{n}", context) for n in range(DEVICES)]
        await asyncio.gather(*(device.connect() for device in devices))
        took = time.perf_counter() - begun
        assert all(device.identity == IDENTITY for device in devices)
        assert await devices[-1].voltage.get() >= 0.0
        for device in devices:
            await device.disconnect()
        return took

    async def ophyd(count: int) -> float:
        begun = time.perf_counter()
        devices = [ophyd_class(port, f"d{n}") for n in range(DEVICES)]
        await asyncio.gather(*(device.connect() for device in devices))
        took = time.perf_counter() - begun
        assert all(device.wire.identity == IDENTITY for device in devices)
        assert await devices[-1].voltage.get_value() >= 0.0
        for device in devices:
            device.wire.close()
        return took

    def qcodes(count: int) -> float:
        begun = time.perf_counter()
        devices = [qcodes_class(f"d{n}", port) for n in range(DEVICES)]
        took = time.perf_counter() - begun
        assert devices[-1].voltage.get() >= 0.0
        for device in devices:
            device.close()
        return took

    async def floor(count: int) -> float:
        begun = time.perf_counter()
        wires = [Wire(port) for _ in range(DEVICES)]
        await asyncio.gather(*(wire.open() for wire in wires))
        took = time.perf_counter() - begun
        for wire in wires:
            wire.close()
        return took

    return {OURS: ours, OPHYD: ophyd, QCODES: qcodes, FLOOR: floor}


# ---------------------------------------------------------------------- all together


async def figures(port: int, run: Callable[[Figure], Awaitable[Figure]]) -> list[Figure]:
    ophyd_class, qcodes_class = ophyd_supply_class(), qcodes_supply_class()
    ours, ophyd, wire = our_supply(port), ophyd_class(port, "bench"), Wire(port)
    await ours.connect()
    await ophyd.connect()
    await wire.open()
    qc, quick = qcodes_class("qc", port), qcodes_class("quick", port, nodelay=True)

    async def ask_wire() -> float:
        return float(await wire.ask("VOLT?"))

    async def tell_wire(value: float) -> None:
        await wire.tell(f"VOLT {value!r}")

    out = [
        await run(
            Figure(
                "get",
                {
                    OURS: asynchronous(ours.voltage.get),
                    OPHYD: asynchronous(ophyd.voltage.get_value),
                    QCODES: blocking(qc.voltage.get),
                    FLOOR: asynchronous(ask_wire),
                },
            )
        ),
        await run(
            Figure(
                "set and read back",
                {
                    OURS: asynchronous(ours.voltage.get, ours.voltage.set),
                    OPHYD: asynchronous(ophyd.voltage.get_value, ophyd.voltage.set),
                    QCODES: blocking(qc.voltage.get, qc.voltage.set),
                    QCODES_NODELAY: blocking(quick.voltage.get, quick.voltage.set),
                    FLOOR: asynchronous(ask_wire, tell_wire),
                },
            )
        ),
    ]
    from ophyd_async.core import observe_value

    for size in (1, 10):
        label = f"{size} listener{'s' if size > 1 else ''}"
        async with AsyncExitStack() as stage:
            a = await stage.enter_async_context(Audience(partial(watch, ours.voltage), size))
            b = await stage.enter_async_context(Audience(partial(observe, ophyd.voltage), size))
            works = {
                OURS: fan_out_of_sets(ours.voltage, ours.voltage.get, a),
                OPHYD: fan_out_of_sets(ophyd.voltage, partial(ophyd.voltage.get_value, cached=False), b),
            }
            out.append(await run(Figure(f"set until {label} had it", works)))
        works = {
            OURS: polled(ours.counter.watch, size),
            OPHYD: polled(partial(observe_value, ophyd.counter), size),
        }
        out.append(await run(Figure(f"poll flat out, {label}", works)))
    out.append(await run(Figure(f"{DEVICES} devices connected", connects(port, ophyd_class, qcodes_class), fixed=1)))

    await ours.disconnect()
    ophyd.wire.close()
    wire.close()
    qc.close()
    quick.close()
    return out


async def main() -> None:
    options = arguments(__doc__, rounds=21)
    header("One SCPI instrument on TCP", ("ophyd-async", "qcodes", "pyvisa", "pyvisa-py"))
    child = subprocess.Popen(  # noqa: ASYNC220 (started before anything is measured)
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        port = int(child.stdout.readline())
        finish(await figures(port, partial(measure, rounds=options.rounds, slice_=options.slice)), check=options.check)
    finally:
        child.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(5)
        if child.poll() is None:
            child.kill()


if __name__ == "__main__":
    asyncio.run(serve() if "--serve" in sys.argv else main())
