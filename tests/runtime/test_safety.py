"""After a trip nothing but the safe state reaches a wire, until somebody acknowledges; reading goes on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import toy

from hal import Lab
from hal.capabilities import Gauge, Heater
from hal.errors import HalError, InterlockTripped, LinkLost
from hal.model.safety import Condition
from hal.runtime.latch import Latch

pytestmark = pytest.mark.usefixtures("in_memory")

VACUUM = """
[[interlocks]]
name = "vacuum"
keep = "gauge.pressure < 1e-3 Pa"
"""
TRIPPED = r"interlock 'vacuum' tripped: gauge.pressure < 0.001 Pa failed: 0.5 Pa\. .*hal ack .*lab.toml --by YOUR_NAME"


class Toys(Lab):
    heater: Heater
    gauge: Gauge


class Bench:
    """A lab, its emulators and what reached their wires since the trip."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.heater: toy.HeaterEmulator = lab.emulation.emulator("heater")
        self.oven: toy.HeaterEmulator = lab.emulation.emulator("oven")
        self.gauge: toy.GaugeEmulator = lab.emulation.emulator("gauge")

    def fail(self) -> None:
        """Let the vacuum fail, and forget what was sent so far when it trips."""
        self.gauge.values["PRES"] = 0.5

        def tripped(event: Any) -> None:
            if "latched" in event.data:
                for emulator in (self.heater, self.oven, self.gauge):
                    emulator.received.clear()

        self.lab.context.journal.listeners.append(tripped)

    async def trip(self) -> None:
        self.fail()
        await toy.eventually(lambda: self.lab.trip is not None)

    @property
    def changes(self) -> list[str]:
        return self.heater.changes + self.oven.changes + self.gauge.changes


@asynccontextmanager
async def opened(directory: Path, *more: str, cls: type[Lab] = Toys) -> AsyncIterator[Bench]:
    """A lab as a notebook has it: no task to cancel."""
    lab = await cls.connect(toy.write_lab(directory, VACUUM, *more))
    bench = Bench(lab)
    try:
        yield bench
    finally:
        with suppress(HalError):
            await lab.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as made:
        yield made


async def quiet(bench: Bench) -> None:
    """Give stragglers their time; then only the safe state may have reached the wires."""
    await asyncio.sleep(5)
    assert set(bench.changes) == {"OFF"}
    assert "OFF" in bench.heater.changes
    assert "OFF" in bench.oven.changes
    assert bench.heater.values["OUT"] == 0


# ---------------------------------------------------------------------- nothing reaches a wire


async def test_a_ramp_ends_with_the_trip_and_its_hold_is_never_sent(bench: Bench) -> None:
    ramp = bench.lab.heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(3)
    bench.fail()
    with pytest.raises(InterlockTripped, match=TRIPPED):
        await ramp
    await quiet(bench)


async def test_a_ramp_being_cancelled_at_the_moment_of_the_trip_sends_no_hold(bench: Bench) -> None:
    bench.heater.reply_delay = 0.08
    ramp = bench.lab.heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(3)
    bench.lab.context.journal.listeners.append(lambda event: ramp.cancel() if event.kind == "trip" else None)
    await bench.trip()
    with pytest.raises((InterlockTripped, asyncio.CancelledError)):
        await ramp
    await quiet(bench)


@pytest.mark.parametrize("head_start", [0.0, 0.005, 0.03, 0.07, 0.1, 0.13])
async def test_a_hold_under_way_when_the_trip_comes_is_ended_by_it(bench: Bench, head_start: float) -> None:
    bench.heater.reply_delay = 0.06
    ramp = bench.lab.heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(3)
    ramp.cancel()
    await asyncio.sleep(head_start)
    bench.fail()
    bench.lab._guard.tripped_by(bench.lab.interlocks[0], "gauge.pressure < 0.001 Pa failed: 0.5 Pa")
    with pytest.raises((InterlockTripped, asyncio.CancelledError)):
        await ramp
    await quiet(bench)


async def test_an_operation_begun_while_the_safe_state_begins_fails_with_the_trip(bench: Bench) -> None:
    begun: list[Any] = []

    def too_late(event: Any) -> None:
        if event.kind == "trip":
            begun.append(bench.lab.heater.start("look first", asyncio.sleep(10)))  # before it sends anything

    bench.lab.context.journal.listeners.append(too_late)
    await bench.trip()
    with pytest.raises(InterlockTripped, match=TRIPPED):
        await begun[0]
    await quiet(bench)


async def test_commands_waiting_for_their_turn_are_never_sent(bench: Bench) -> None:
    bench.heater.reply_delay = 0.25
    statuses = [bench.lab.heater.gain.set(float(n)) for n in range(1, 9)]
    bench.fail()
    for status in statuses:
        with suppress(InterlockTripped):
            await status
    assert isinstance(statuses[-1].exception(), InterlockTripped)
    await quiet(bench)


async def test_a_command_that_had_no_reply_is_not_repeated_after_the_trip(bench: Bench) -> None:
    bench.heater.silent.add("GAIN")
    status = bench.lab.heater.gain.set(3.0)
    await asyncio.sleep(0.05)
    bench.fail()
    with pytest.raises(InterlockTripped):
        await status
    await quiet(bench)


async def test_a_script_that_swallows_the_error_and_goes_on_is_refused_every_time(bench: Bench) -> None:
    async def stubborn() -> int:
        refused = 0
        while refused < 20:
            try:
                await bench.lab.heater.ramp(to=500.0, rate=10.0)
            except InterlockTripped:
                refused += 1
                await asyncio.sleep(0.1)
        with pytest.raises(InterlockTripped, match=TRIPPED):
            await bench.lab.heater.gain.put(5.0)
        with pytest.raises(InterlockTripped):
            bench.lab.heater.label.set("x")
        return refused

    script = asyncio.get_running_loop().create_task(stubborn())
    await asyncio.sleep(1)
    bench.fail()
    assert await script == 20
    await quiet(bench)


async def test_nothing_waiting_for_a_reconnection_is_sent_once_it_is_back(tmp_path: Path) -> None:
    toys = toy.TOYS.replace('driver = "toy:ToyHeater"', 'driver = "toy:ToyHeater"\non_link_lost = "reconnect"', 1)
    path = toy.write_lab(tmp_path, VACUUM, toys=toys)
    lab = await Toys.connect(path)
    bench = Bench(lab)
    ramp = bench.lab.heater.ramp(to=500.0, rate=10.0)
    await asyncio.sleep(2)
    link = lab.emulation.links["emulator:heater"]  # type: ignore[union-attr]
    link.unplug()
    direct = asyncio.get_running_loop().create_task(bench.lab.heater.gain.put(4.0))
    await asyncio.sleep(1)
    await bench.trip()
    await asyncio.sleep(0.5)
    await link.plug()
    with pytest.raises(InterlockTripped):
        await ramp
    with pytest.raises(InterlockTripped):
        await direct
    await quiet(bench)
    await lab.close()


async def test_a_lost_link_found_again_after_a_trip_gets_its_safe_state_though_its_setup_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connected(self: toy.Toy) -> None:
        await self.acknowledged(b"MODE fast")

    monkeypatch.setattr(toy.ToyHeater, "connected", connected)
    toys = toy.TOYS.replace('driver = "toy:ToyHeater"', 'driver = "toy:ToyHeater"\non_link_lost = "reconnect"', 1)
    lab = await Toys.connect(toy.write_lab(tmp_path, VACUUM, toys=toys))
    bench = Bench(lab)
    link = lab.emulation.links["emulator:heater"]  # type: ignore[union-attr]
    await bench.lab.heater.setpoint.set(300.0)
    link.unplug()
    waiting = asyncio.get_running_loop().create_task(bench.lab.heater.temperature.get())
    await toy.eventually(lambda: bench.lab.heater.reconnecting)
    await bench.trip()
    await link.plug()
    await quiet(bench)
    await waiting
    await lab.close()


# ---------------------------------------------------------------------- who is told


async def test_reading_goes_on_after_a_trip(bench: Bench) -> None:
    await bench.trip()
    assert await bench.lab.gauge.pressure.get() == 0.5
    readings = []
    async for reading in bench.lab.heater.temperature.watch():
        readings.append(reading.value)
        if len(readings) == 3:
            break
    assert readings[0] is not None


async def test_an_iterator_under_way_ends_with_the_trip(bench: Bench) -> None:
    bench.fail()
    with pytest.raises(InterlockTripped, match=TRIPPED):
        async for _ in bench.lab.heater.temperature.watch():
            pass


async def run(directory: Path, script: Any, *more: str) -> Bench:
    """Run a script as people write it, the vacuum failing after a second."""
    made: list[Bench] = []
    async with Toys.open(toy.write_lab(directory, VACUUM, *more)) as lab:
        made.append(Bench(lab))
        asyncio.get_running_loop().call_later(1.0, made[0].fail)
        await script(lab, made[0])
    return made[0]


async def test_a_script_that_sleeps_gets_the_trip_too(tmp_path: Path) -> None:
    began = asyncio.get_running_loop().time()

    async def script(lab: Any, bench: Bench) -> None:
        await asyncio.sleep(3600)

    with pytest.raises(InterlockTripped, match=TRIPPED):
        await run(tmp_path, script)
    assert asyncio.get_running_loop().time() - began < 5
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_script_that_ends_before_it_could_notice_gets_it_at_the_end(tmp_path: Path) -> None:
    async def script(lab: Any, bench: Bench) -> None:
        await toy.eventually(lambda: lab.trip is not None)

    with pytest.raises(InterlockTripped, match=TRIPPED):
        await run(tmp_path, script)


async def test_a_script_in_a_task_group_gets_it(tmp_path: Path) -> None:
    async def script(lab: Any, bench: Bench) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(3600))
            group.create_task(asyncio.sleep(3600))

    with pytest.raises(InterlockTripped, match=TRIPPED):
        await run(tmp_path, script)


async def test_a_script_that_handled_it_is_not_cancelled(tmp_path: Path) -> None:
    went_on = False

    async def script(lab: Any, bench: Bench) -> None:
        nonlocal went_on
        with suppress(InterlockTripped):
            await lab.heater.ramp(to=500.0, rate=1.0)
        await asyncio.sleep(30)
        went_on = True

    await run(tmp_path, script)
    assert went_on


async def test_a_script_that_handled_the_refusal_of_a_direct_write_is_not_cancelled(tmp_path: Path) -> None:
    went_on = False

    async def script(lab: Any, bench: Bench) -> None:
        nonlocal went_on
        await toy.eventually(lambda: lab.trip is not None)
        with pytest.raises(InterlockTripped):
            await lab.heater.gain.put(2.0)
        await asyncio.sleep(30)
        went_on = True

    await run(tmp_path, script)
    assert went_on


async def test_a_script_cancelled_for_another_reason_stays_cancelled(tmp_path: Path) -> None:
    async def script(lab: Any, bench: Bench) -> None:
        await asyncio.sleep(0.5)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    with pytest.raises(asyncio.CancelledError):
        await run(tmp_path, script)
    asyncio.current_task().uncancel()  # type: ignore[union-attr]


# ---------------------------------------------------------------------- interlocks


async def test_an_interlock_waits_for_as_long_as_it_is_told(tmp_path: Path) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path, VACUUM + "for_at_least = 1.0\n"))
    bench = Bench(lab)
    bench.gauge.values["PRES"] = 0.5
    await asyncio.sleep(0.8)
    bench.gauge.values["PRES"] = 1e-5
    await asyncio.sleep(2)
    assert lab.trip is None
    bench.gauge.values["PRES"] = 0.5
    await asyncio.sleep(1.3)
    assert lab.trip is not None
    await lab.close()


async def test_a_gauge_that_can_not_be_read_counts_as_failed(bench: Bench) -> None:
    bench.gauge.values["PRES"] = "garbage"
    await asyncio.sleep(0.3)
    assert "gauge.pressure < 0.001 Pa can't be seen: gauge: pressure can't be read" in bench.lab.trip.text


async def test_a_poll_that_says_nothing_at_all_counts_as_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(type(bench.lab.gauge.pressure.at), "ask", hang)
    await asyncio.sleep(8)
    assert "can't be seen: no reading for 6.1 s" in bench.lab.trip.text


async def test_a_reading_that_is_no_number_can_be_guarded_too(bench: Bench) -> None:
    gauge = bench.lab.gauge
    bench.lab.interlock(Condition(gauge.state, lambda state: state == "ok", "gauge.state is ok"), name="state")
    await asyncio.sleep(0.5)
    assert bench.lab.trip is None
    bench.gauge.values["STAT"] = "broken"
    await asyncio.sleep(0.3)
    assert bench.lab.trip.text == "interlock 'state' tripped: gauge.state is ok failed: broken"


async def test_a_test_that_raises_counts_as_failed(bench: Bench) -> None:
    bench.lab.interlock(Condition(bench.lab.gauge.state, lambda state: state < 1, "bug"), name="bug")
    await asyncio.sleep(0.3)
    assert "bug can't be seen: TypeError" in bench.lab.trip.text


async def test_an_interlock_waits_while_its_link_is_reconnected_and_acts_when_that_fails(tmp_path: Path) -> None:
    toys = toy.TOYS.replace(
        'driver = "toy:ToyGauge"', 'driver = "toy:ToyGauge"\non_link_lost = "reconnect"\nwithin = 5'
    )
    lab = await Toys.connect(toy.write_lab(tmp_path, VACUUM, toys=toys))
    bench = Bench(lab)
    link = lab.emulation.links["emulator:gauge"]  # type: ignore[union-attr]
    link.unplug()
    await asyncio.sleep(3)
    assert lab.trip is None
    await link.plug()
    await asyncio.sleep(3)
    assert lab.trip is None
    link.unplug()
    await asyncio.sleep(7)
    assert lab.trip is not None
    assert bench.heater.changes[-1] == bench.oven.changes[-1] == "OFF"
    await lab.close()


async def test_the_holders_limits_guard_a_readback(tmp_path: Path) -> None:
    holder = """
[holder]
name = "cell 7"
heater = "heater"
limits.temperature = "..100 degC"
"""
    lab = await Toys.connect(toy.write_lab(tmp_path, holder))
    bench = Bench(lab)
    bench.heater.values |= {"SETP": 500.0, "RATE": 50.0, "OUT": 1}  # somebody at the front panel
    await asyncio.sleep(5)
    assert lab.trip is not None
    assert "heater.temperature within up to 100 degC (holder 'cell 7') failed" in lab.trip.text
    assert bench.heater.changes[-1] == bench.oven.changes[-1] == "OFF"
    lab.acknowledge(by="me")
    await lab.close()


async def test_a_drivers_bug_in_one_safe_state_keeps_no_other_device_from_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug() -> None:
        raise KeyError("bug")

    monkeypatch.setattr(bench.lab.heater, "make_safe", bug)
    await bench.trip()
    await asyncio.sleep(2)
    assert bench.oven.changes == ["OFF"]
    assert any("not in its safe state: 'bug'" in event.text for event in bench.lab.context.journal.recent)
    await bench.lab.close()
    assert bench.oven.changes[-1] == "OFF"


async def test_a_listener_that_fails_at_the_trip_does_not_keep_the_lab_from_it(bench: Bench) -> None:
    def buggy(event: object) -> None:
        raise ValueError("bug")

    bench.lab.context.journal.listeners.append(buggy)
    bench.fail()
    await toy.eventually(lambda: bench.lab.trip is not None)
    await quiet(bench)


# ---------------------------------------------------------------------- acknowledging


async def test_acknowledging_opens_the_gate_and_the_interlock_watches_anew(bench: Bench) -> None:
    await bench.trip()
    await asyncio.sleep(1)
    bench.gauge.values["PRES"] = 1e-5
    await asyncio.sleep(0.2)
    with pytest.raises(ValueError, match="by whom"):
        bench.lab.acknowledge(by=" ")
    bench.lab.acknowledge(bench.lab.trip, by="Ada")
    await bench.lab.heater.gain.set(2.0)
    assert bench.heater.values["GAIN"] == 2.0
    assert any(e.text == "acknowledged by Ada" for e in bench.lab.context.journal.recent)
    bench.gauge.values["PRES"] = 0.5
    await asyncio.sleep(0.3)
    assert bench.lab.trip.number == 2


async def test_acknowledging_a_cause_that_persists_trips_again(bench: Bench) -> None:
    await bench.trip()
    bench.lab.acknowledge(by="Ada")
    await asyncio.sleep(0.3)
    assert bench.lab.trip.number == 2


@pytest.mark.real_clock
async def test_hal_ack_from_another_process_releases_a_running_lab(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        await bench.trip()
        bench.gauge.values["PRES"] = 1e-5
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", _ACK, str(tmp_path / "lab.toml")],
            capture_output=True, text=True, check=False, env=_environment(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "acknowledged by Ada: interlock 'vacuum' tripped" in done.stdout
        await toy.eventually(lambda: bench.lab.trip is None, within=3)
        await bench.lab.heater.gain.set(2.0)
        assert any(e.text == "acknowledged by Ada" for e in bench.lab.context.journal.recent)


def _until_of(trip: int, path: Path) -> None:
    deadline = time.monotonic() + 10
    while not (path.exists() and str(trip) in path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.005)


_ACK = "import sys; from hal.cli import main; sys.exit(main(['ack', sys.argv[1], '--by', 'Ada']))"


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": str(Path(toy.__file__).parent)}


async def test_the_latch_outlives_the_lab_and_the_next_open_refuses_in_one_message(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        await bench.trip()
    toy.MemoryPort.open_ports.clear()
    with pytest.raises(InterlockTripped, match=r"the lab is still tripped: interlock 'vacuum'.*hal ack .*lab.toml"):
        async with Toys.open(tmp_path / "lab.toml"):
            pass
    assert not toy.MemoryPort.open_ports
    assert Latch(tmp_path / "lab.toml", "toys").acknowledge("Ada") is not None
    async with Toys.open(tmp_path / "lab.toml") as lab:
        assert lab.trip is None


async def test_a_trip_that_can_not_be_written_down_is_not_taken_for_acknowledged(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / ".hal").write_text("a file where the directory should be")
    await bench.trip()
    await asyncio.sleep(5)
    assert bench.lab.trip is not None
    with pytest.raises(InterlockTripped):
        await bench.lab.heater.gain.put(2.0)
    bench.lab.acknowledge(by="Ada")
    await asyncio.sleep(0)


async def test_an_old_acknowledgement_is_not_credited_with_a_new_trip(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        await bench.trip()
        bench.lab.acknowledge(by="Ada")
        await asyncio.sleep(0.5)
        assert bench.lab.trip is not None
        latch = tmp_path / ".hal" / "toys.trip.json"
        await asyncio.to_thread(_until_of, bench.lab.trip.time, latch)  # a thread writes it, on a clock that can't jump
        bench.gauge.values["PRES"] = 1e-5
        latch.unlink()
        await toy.eventually(lambda: bench.lab.trip is None, within=60)
        assert bench.lab.context.journal.recent[-1].text == "acknowledged by somebody who removed the latch file"


# ---------------------------------------------------------------------- lost links


@pytest.mark.parametrize("victim", ["heater", "oven", "gauge"])
async def test_pulling_any_plug_takes_the_others_to_their_safe_state(tmp_path: Path, victim: str) -> None:
    others = {"heater", "oven", "gauge"} - {victim}
    bench: Bench
    with pytest.raises(LinkLost, match=rf"{victim}: the link .* is gone .*check the cable"):
        async with Toys.open(toy.write_lab(tmp_path)) as lab:
            bench = Bench(lab)
            await lab.devices["heater"].setpoint.set(300.0)  # type: ignore[attr-defined]
            await lab.devices["oven"].setpoint.set(300.0)  # type: ignore[attr-defined]
            asyncio.get_running_loop().call_later(1.0, lab.emulation.links[f"emulator:{victim}"].unplug)  # type: ignore[union-attr]
            signal = lab.devices[victim].pressure if victim == "gauge" else lab.devices[victim].temperature  # type: ignore[attr-defined]
            while True:
                await signal.get()
                await asyncio.sleep(0.1)
    for name in others:
        assert getattr(bench, name).changes[-1] == "OFF", name
    assert not (tmp_path / ".hal").exists()  # no latch for a cable


async def test_a_script_that_repeats_its_write_after_another_link_is_lost_spoils_no_safe_state(tmp_path: Path) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path))
    bench = Bench(lab)
    lab.emulation.links["emulator:gauge"].unplug()  # type: ignore[union-attr]
    bench.oven.reply_delay = 0.2
    with pytest.raises(LinkLost):
        await lab.gauge.pressure.get()
    for _ in range(5):
        with pytest.raises(LinkLost, match="^gauge"):
            await lab.heater.gain.put(3.0)  # type: ignore[attr-defined]
    await asyncio.sleep(3)
    assert bench.heater.changes == ["OFF"]
    assert bench.oven.changes == ["OFF"]
    await lab.close()


async def test_with_reconnection_a_script_carries_on(tmp_path: Path) -> None:
    toys = toy.TOYS.replace('driver = "toy:ToyHeater"', 'driver = "toy:ToyHeater"\non_link_lost = "reconnect"')
    async with Toys.open(toy.write_lab(tmp_path, toys=toys)) as lab:
        bench = Bench(lab)
        ramp = lab.heater.ramp(to=120.0, rate=10.0)
        link = lab.emulation.links["emulator:heater"]  # type: ignore[union-attr]
        await asyncio.sleep(2)
        link.unplug()
        await asyncio.sleep(3)
        await link.plug()
        await ramp
        assert lab.trip is None
        assert bench.heater.changes == ["RATE 10", "SETP 120"]
    assert bench.heater.changes[-1] == "OFF"


async def test_another_instrument_on_the_link_found_again_is_not_accepted(tmp_path: Path) -> None:
    toys = toy.TOYS.replace(
        'driver = "toy:ToyHeater"', 'driver = "toy:ToyHeater"\non_link_lost = "reconnect"\nwithin = 3'
    )
    lab = await Toys.connect(toy.write_lab(tmp_path, toys=toys))
    bench = Bench(lab)
    bench.heater.calls_itself = "hexapod"
    link = lab.emulation.links["emulator:heater"]  # type: ignore[union-attr]
    link.unplug()
    await link.plug()
    with pytest.raises(LinkLost, match=r"expected a heater, found 'TOY hexapod'.*gave up after 3 s"):
        await lab.heater.temperature.get()
    assert set(bench.heater.received) == {"ID?"}
    assert lab.trip is not None
    await lab.close()
