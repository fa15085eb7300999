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
import inspect
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from functools import partial
from itertools import count as numbers

from _measure import OURS, Audience, Figure, Work, arguments, finish, header, measure
from _tcp_contestants import IDENTITY, Wire, ophyd_supply_class, our_supply, qcodes_supply_class
from _tcp_contestants import __file__ as CONTESTANTS

from hal.model.context import Context

OPHYD, FLOOR = "ophyd-async", "asyncio alone (the floor)"
QCODES, QCODES_NODELAY = "QCoDeS (blocking)", "QCoDeS (blocking), NODELAY"
DEVICES = 100
VALUES = numbers(1)
"""No value twice: whoever reads one back can't have read an old one."""


# ---------------------------------------------------------------------- get, set and read back


def gets(read, write) -> Work:
    """Read what was written beforehand. `read` and `write` may be blocking or not."""

    async def work(count: int) -> float:
        expected = float(next(VALUES))
        await maybe(write(expected))
        await maybe(read())  # the write is through
        blocking = not inspect.iscoroutinefunction(read)
        begun = time.perf_counter()
        for _ in range(count):
            value = read() if blocking else await read()
        took = time.perf_counter() - begun
        assert value == expected
        return took

    return work


def round_trips(read, write) -> Work:
    """Write, read back, compare."""

    async def work(count: int) -> None:
        blocking = not inspect.iscoroutinefunction(read)
        for _ in range(count):
            value = float(next(VALUES))
            if blocking:
                write(value)
                assert read() == value
            else:
                await write(value)
                assert await read() == value

    return work


async def maybe(result):
    """Await what can be awaited."""
    return await result if inspect.isawaitable(result) else result


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
                    OURS: gets(ours.voltage.get, ours.voltage.set),
                    OPHYD: gets(ophyd.voltage.get_value, ophyd.voltage.set),
                    QCODES: gets(qc.voltage.get, qc.voltage.set),
                    FLOOR: gets(ask_wire, tell_wire),
                },
            )
        ),
        await run(
            Figure(
                "set and read back",
                {
                    OURS: round_trips(ours.voltage.get, ours.voltage.set),
                    OPHYD: round_trips(ophyd.voltage.get_value, ophyd.voltage.set),
                    QCODES: round_trips(qc.voltage.get, qc.voltage.set),
                    QCODES_NODELAY: round_trips(quick.voltage.get, quick.voltage.set),
                    FLOOR: round_trips(ask_wire, tell_wire),
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
        [sys.executable, CONTESTANTS, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
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
    asyncio.run(main())
