"""What a signal costs with no wire behind it: get, set, many listeners, a hundred devices.

Everybody's values live in the program, so that only the library's own work is left.

- ours: a `Device` with `Soft` addresses. `set` checks limits, enters the journal and publishes.
- ophyd-async: `soft_signal_rw`, `observe_value`, `Device.connect(mock=False)`. No limits there.
- QCoDeS: `ManualParameter` with a `Numbers` validator, in a blocking call. It has no listeners to
  fan out to (a script polls), hence no row there; connecting is building the instrument.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import count as numbers

import ophyd_async.core as oa
import qcodes
from _measure import OURS, Audience, Figure, Work, arguments, finish, header, measure
from qcodes.instrument import Instrument as QcodesInstrument
from qcodes.validators import Numbers

from hal import Device, Reading, SignalRW, Soft
from hal.model.context import Context

OPHYD, QCODES = "ophyd-async", "QCoDeS (blocking)"
FLOOR = "asyncio alone (the floor)"
DEVICES = 100
BURST = 100
Publish = Callable[[float], None]
NEVER = 3600.0  # s between polls: what is heard comes of `set` and `publish` alone


# ---------------------------------------------------------------------- the same device, three times


class Supply(Device):
    voltage = SignalRW(float, "V", at=Soft(0.0), limits=(-1e9, 1e9), poll=NEVER)
    current = SignalRW(float, "A", at=Soft(0.0), limits=(-1e9, 1e9), poll=NEVER)
    compliance = SignalRW(float, "V", at=Soft(0.0), limits=(-1e9, 1e9), poll=NEVER)


class OphydSupply(oa.Device):
    def __init__(self, name: str = "") -> None:
        self.voltage = oa.soft_signal_rw(float, 0.0, units="V")
        self.current = oa.soft_signal_rw(float, 0.0, units="A")
        self.compliance = oa.soft_signal_rw(float, 0.0, units="V")
        super().__init__(name)


class QcodesSupply(QcodesInstrument):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        limits = Numbers(-1e9, 1e9)
        for parameter, unit in (("voltage", "V"), ("current", "A"), ("compliance", "V")):
            self.add_parameter(
                parameter, parameter_class=qcodes.ManualParameter, unit=unit, vals=limits, initial_value=0.0
            )


# ---------------------------------------------------------------------- get and set

VALUES = numbers(1)
"""No value twice: who has it can't have had it before."""


def gets(ours: Supply, ophyd: OphydSupply, qc: QcodesSupply) -> dict[str, Work]:
    async def of_ours(count: int) -> None:
        expected = float(next(VALUES))
        await ours.voltage.set(expected)
        for _ in range(count):
            value = await ours.voltage.get()
        assert value == expected

    async def of_ophyd(count: int) -> None:
        expected = float(next(VALUES))
        await ophyd.voltage.set(expected)
        for _ in range(count):
            value = await ophyd.voltage.get_value()
        assert value == expected

    def of_qcodes(count: int) -> None:
        expected = float(next(VALUES))
        qc.voltage.set(expected)
        for _ in range(count):
            value = qc.voltage.get()
        assert value == expected

    return {OURS: of_ours, OPHYD: of_ophyd, QCODES: of_qcodes}


def sets(ours: Supply, ophyd: OphydSupply, qc: QcodesSupply) -> dict[str, Work]:
    async def of_ours(count: int) -> None:
        for _ in range(count):
            value = float(next(VALUES))
            await ours.voltage.set(value)
        assert await ours.voltage.get() == value

    async def of_ophyd(count: int) -> None:
        for _ in range(count):
            value = float(next(VALUES))
            await ophyd.voltage.set(value)
        assert await ophyd.voltage.get_value() == value

    def of_qcodes(count: int) -> None:
        for _ in range(count):
            value = float(next(VALUES))
            qc.voltage.set(value)
        assert qc.voltage.get() == value

    return {OURS: of_ours, OPHYD: of_ophyd, QCODES: of_qcodes}


# ---------------------------------------------------------------------- fan-out


async def watch(signal: SignalRW[float], audience: Audience) -> None:
    async for reading in signal.watch():
        audience.heard(reading.value)


async def observe(signal: oa.SignalR[float], audience: Audience) -> None:
    async for value in oa.observe_value(signal):
        audience.heard(value)


def fan_out_of_sets(device: Supply | OphydSupply, audience: Audience) -> Work:
    """Set, wait until everybody has it, set the next."""

    async def work(count: int) -> None:
        for _ in range(count):
            value = float(next(VALUES))
            heard = audience.expect(value)
            await device.voltage.set(value)
            await heard

    return work


def fan_out_of_updates(publish: Publish, audience: Audience, *, burst: int = 1) -> Work:
    """Updates that come from the device: the listeners' cost without that of `set`. A piece is one update."""

    async def work(count: int) -> None:
        for _ in range(max(1, count // burst)):
            values = [float(next(VALUES)) for _ in range(burst)]
            heard = audience.expect(values[-1])
            for value in values:
                publish(value)
            await heard

    return work


def our_publisher(device: Supply) -> Publish:
    """What a poll does with an answer."""

    def publish(value: float) -> None:
        device.voltage.publish(Reading(value, "V", device.context.timebase.now(), 0))

    return publish


class Floor:
    """Tasks that each wait for a future: less than this no fan-out to tasks of asyncio can cost."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[float]] = []

    async def follow(self, audience: Audience) -> None:
        loop = asyncio.get_running_loop()
        while True:
            future = loop.create_future()
            self.waiting.append(future)
            audience.heard(await future)

    def publish(self, value: float) -> None:
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            future.set_result(value)


async def fan_outs(stage: AsyncExitStack, size: int) -> list[Figure]:
    """The figures for an audience of `size`; the audiences stay until the stage is cleared."""

    async def audience(follow: Callable[[Audience], Awaitable[None]]) -> Audience:
        return await stage.enter_async_context(Audience(follow, size))

    ours, ophyd, floor = Supply("bench"), OphydSupply("bench"), Floor()
    await ophyd.connect()
    readback, setter = oa.soft_signal_r_and_setter(float, 0.0, units="V")
    readback.set_name("readback")
    await readback.connect()
    published = Supply("published")
    set_ours = await audience(partial(watch, ours.voltage))
    set_ophyd = await audience(partial(observe, ophyd.voltage))
    update_ours = await audience(partial(watch, published.voltage))
    update_ophyd = await audience(partial(observe, readback))
    update_floor = await audience(floor.follow)
    publish = our_publisher(published)
    updates = {
        OURS: fan_out_of_updates(publish, update_ours),
        OPHYD: fan_out_of_updates(setter, update_ophyd),
        FLOOR: fan_out_of_updates(floor.publish, update_floor),
    }
    bursts = {
        OURS: fan_out_of_updates(publish, update_ours, burst=BURST),
        OPHYD: fan_out_of_updates(setter, update_ophyd, burst=BURST),
    }
    label, goal = (f"{size} listeners", {OPHYD: 0.2}) if size > 1 else ("1 listener", {})
    return [
        Figure(
            f"set until {label} had it",
            {OURS: fan_out_of_sets(ours, set_ours), OPHYD: fan_out_of_sets(ophyd, set_ophyd)},
            goal,
        ),
        Figure(f"update until {label} had it", updates, goal),
        Figure(f"  of {BURST} at once, each", bursts, goal),
    ]


# ---------------------------------------------------------------------- a hundred devices


def connects(*, reading: bool) -> dict[str, Work]:
    """From nothing to a hundred devices in one lab, ready; with `reading`, to the first value of each signal."""

    async def ours(count: int) -> None:
        for _ in range(count):
            context = Context()
            devices = [Supply(f"d{n}", context=context) for n in range(DEVICES)]
            # Nothing is to be connected: binding each signal to its device is what is left.
            signals = [signal for device in devices for signal in device.signals()]
            assert len(signals) == 3 * DEVICES
            if reading:
                assert sum([await signal.get() for signal in signals]) == 0.0

    async def ophyd(count: int) -> None:
        for _ in range(count):
            devices = [OphydSupply(f"d{n}") for n in range(DEVICES)]
            await oa.wait_for_connection(**{device.name: device.connect() for device in devices})
            signals = [signal for device in devices for _, signal in device.children()]
            assert len(signals) == 3 * DEVICES
            if reading:
                assert sum([await signal.get_value() for signal in signals]) == 0.0

    def qc(count: int) -> None:
        for _ in range(count):
            devices = [QcodesSupply(f"d{n}") for n in range(DEVICES)]
            if reading:
                assert sum([p.get() for d in devices for p in (d.voltage, d.current, d.compliance)]) == 0.0
            for device in devices:
                device.close()

    return {OURS: ours, OPHYD: ophyd, QCODES: qc}


async def main() -> None:
    options = arguments(__doc__, rounds=25)
    header("Signals in the program (soft backend)", ("ophyd-async", "qcodes", "bluesky"))
    ours, ophyd, qc = Supply("bench"), OphydSupply("bench"), QcodesSupply("bench")
    await ophyd.connect()
    run = partial(measure, rounds=options.rounds, slice_=options.slice)
    figures = [
        await run(Figure("get", gets(ours, ophyd, qc), {OPHYD: 0.2})),
        await run(Figure("set", sets(ours, ophyd, qc), {OPHYD: 0.2})),
    ]
    async with AsyncExitStack() as stage:
        for size in (1, 10):
            figures += [await run(figure) for figure in await fan_outs(stage, size)]
    goal = {OPHYD: 0.5}
    figures += [
        await run(Figure(f"{DEVICES} devices made, connected", connects(reading=False), goal)),
        await run(Figure("  and every signal read once", connects(reading=True), goal)),
    ]
    finish(figures, check=options.check)


if __name__ == "__main__":
    asyncio.run(main())
