"""The contestants on TCP: the emulated instrument, and its driver in ours, ophyd-async, QCoDeS and bare asyncio."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections import Counter

from hal import Instrument, Scpi, SignalR, SignalRW
from hal.errors import WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort
from hal.model.context import Context
from hal.protocols.framing import Lines
from hal.transport.session import Session
from hal.transport.tcp import TcpLink

HOST = "127.0.0.1"
FLAT_OUT = 1e-6  # s between polls: as fast as it goes
NEVER = 3600.0  # s
IDENTITY = "INSITU,BENCH,0,1.0"
LIMITS = (-1e9, 1e9)


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


if __name__ == "__main__" and "--serve" in sys.argv:
    asyncio.run(serve())
