"""What every model endures: rubbish on its wire, half messages, two at once, answers that come too late.

An emulator must take it as the instrument would: never a crash, never an action that nobody asked for.
A driver must never take the answer to its last question for the answer to this one.
"""

import asyncio
import math
import random
from typing import Any

import pytest
from test_contracts import ELSEWHERE, bench

from hal.errors import HalError
from hal.model.signal import Kind, SignalRW
from hal.runtime import registry

MODELS = [n for n in registry.known() if n not in ELSEWHERE]


def state(world: Any) -> tuple[Any, ...]:
    """What an action nobody asked for would change."""
    lines = tuple((name, line.flow, line.open) for name, line in world.lines.items())
    power = round(world.power, 3)  # W: a loop whose setpoint is where it is gives a little now and then
    return power, world.voltage, world.liquid, world.blanked, dict(world.valves), lines


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", range(6))
async def test_rubbish_crashes_no_emulator_and_moves_nothing(model: str, seed: int) -> None:
    chance = random.Random(seed)
    async with bench(model) as (device, wire):
        before = state(wire.world)
        raw = wire.bench.wire([wire.emulator], device.wires[0]).connection()
        loop = asyncio.get_running_loop()
        for _ in range(60):
            raw.receive(chance.randbytes(chance.randrange(1, 80)), loop.time())
            await asyncio.sleep(chance.choice((0.0, 0.001, 0.3)))
        raw.receive(b"\r\n", loop.time())
        await asyncio.sleep(0.5)
        assert state(wire.world) == before


@pytest.mark.parametrize("model", MODELS)
async def test_after_rubbish_the_instrument_answers_again(model: str) -> None:
    chance = random.Random(7)
    async with bench(model) as (device, wire):
        for _ in range(5):
            with_end = chance.randbytes(20) + b"\r\n"
            for reply in wire.bench.wire([wire.emulator], device.wires[0]).connection().receive(
                with_end, asyncio.get_running_loop().time()
            ):  # fmt: skip
                assert isinstance(reply[1], bytes)
        await asyncio.sleep(1.0)
        assert await device.identify()


@pytest.mark.parametrize("model", MODELS)
async def test_a_late_answer_is_never_taken_for_the_next_one(model: str) -> None:
    async with bench(model) as (device, wire):
        await asyncio.sleep(3.0)
        known = {}
        for signal in device.signals():
            reading = await signal.read()
            if reading.value is not None:
                known[signal] = reading.value
        questions = {s.question: s for s in known if not isinstance(s, SignalRW) or s.kind is not Kind.CONFIG}
        for slow in questions.values():
            for after, signal in questions.items():
                if after == slow.question:
                    continue
                wire.faults.delay = device.timeout * 1.2
                asked = asyncio.ensure_future(slow.read())
                await asyncio.sleep(device.timeout * 0.5)
                wire.faults.delay = 0.0
                reading = await signal.read()
                await asyncio.gather(asked, return_exceptions=True)
                if reading.value is not None:
                    assert alike(reading.value, known[signal]), f"{signal.path} after a late {slow.path}"


NEIGHBOURS = {"mks_937b": 3, "pfeiffer_tpg36x": 2, "keithley_2602b": "b", "thyracont": 2}
"""A further channel of models that have several."""


@pytest.mark.parametrize("seed", [0, 3])  # 3: the 937B hangs twice while it catches up, with two channels' probes owed
@pytest.mark.parametrize("model", MODELS)
async def test_one_that_hangs_now_and_then_gives_each_channel_its_own_answers(model: str, seed: int) -> None:
    """It hangs for up to twelve timeouts, also in the middle of what it had to catch up with."""
    chance = random.Random(seed)
    async with bench(model) as (device, wire):
        devices = [device]
        if (channel := NEIGHBOURS.get(model)) is not None:
            devices.append(
                type(device)(device.session, "other", channel=channel, options=device.options, context=device.context)
            )
            await devices[1].connect()
        await asyncio.sleep(3.0)
        known = {signal: (await signal.read()).value for one in devices for signal in one.signals()}
        signals = [s for s in known if not isinstance(s, SignalRW) or s.kind is not Kind.CONFIG]
        for _ in range(40):
            wire.faults.delay = device.timeout * chance.choice((0.0, 0.0, 0.4, 0.9, 1.3, 3.1, 12.0))
            signal = chance.choice(signals)
            asked = asyncio.ensure_future(signal.read())
            await asyncio.sleep(device.timeout * chance.choice((0.1, 0.6, 5.0)))
            if not chance.randrange(3):
                asked.cancel()
            wire.faults.delay *= chance.randrange(2)
            (reading,) = await asyncio.gather(asked, return_exceptions=True)
            if isinstance(reading, HalError | asyncio.CancelledError) or reading.value is None:
                continue
            assert alike(reading.value, known[signal], 1e-9 if signal.unit == "Pa" else 1.0), signal.path


@pytest.mark.parametrize("model", MODELS)
async def test_garbled_answers_are_told_and_never_believed_to_be_something_else(model: str) -> None:
    """A value may be off by the digits that were hit; a text where a number should be is an error of ours."""
    async with bench(model) as (device, wire):
        await asyncio.sleep(2.0)
        wire.faults.garble = 0.5
        for _ in range(8):
            for signal in device.signals():
                try:
                    reading = await signal.read()
                except HalError:
                    continue
                assert reading.value is None or isinstance(reading.value, signal.dtype), signal.path
        wire.faults.garble = 0.0
        await asyncio.sleep(5.0)
        assert await device.identify()


def alike(value: Any, known: Any, least: float = 1.0) -> bool:
    """The same, but for noise and for the while between."""
    if isinstance(value, float) and isinstance(known, float):
        return math.isclose(value, known, rel_tol=0.3, abs_tol=least)
    return bool(value == known)
