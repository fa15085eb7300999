"""The lab: opened whole or not at all, and left as the lab file says, whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import toy

from hal import Lab
from hal.capabilities import Gauge, Heater, SourceMeter
from hal.errors import CapabilityError, ConfigError, HalError, LinkLost, NoReply, Superseded, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort
from hal.runtime.latch import Latch
from hal.testing import JumpingLoop
from hal.transport.session import LinkState


class Toys(Lab):
    heater: Heater
    gauge: Gauge


def emulator(lab: Lab, name: str) -> Any:
    assert lab.emulation is not None
    return lab.emulation.emulator(name)


# ---------------------------------------------------------------------- opening


@pytest.mark.usefixtures("in_memory")
async def test_a_lab_gives_the_devices_it_was_asked_for(tmp_path: Path) -> None:
    async with Toys.open(toy.write_lab(tmp_path)) as lab:
        assert isinstance(lab.heater, toy.ToyHeater)
        assert await lab.gauge.pressure.get() == 1e-5
        assert list(lab.devices) == ["heater", "oven", "gauge"]
        assert lab.capabilities() == {"heater": ["Heater"], "oven": ["Heater"], "gauge": ["Gauge"]}


@pytest.mark.usefixtures("in_memory")
async def test_a_missing_device_is_told_before_anything_is_opened(tmp_path: Path) -> None:
    class Wanting(Lab):
        heater: Heater
        valve: Gauge

    with pytest.raises(ConfigError, match=r"Wanting needs a device 'valve' \(Gauge\); the file has heater, oven, gaug"):
        async with Wanting.open(toy.write_lab(tmp_path)):
            pass
    assert not toy.MemoryPort.open_ports


async def test_a_typo_among_an_emulator_s_settings_is_told_with_those_it_has(tmp_path: Path) -> None:
    path = toy.write_lab(tmp_path, toys='schema = 1\n[devices.eye]\ndriver = "merlin"\nemulator = { fpss = 50 }')
    with pytest.raises(
        ConfigError, match=r"eye\.emulator: merlin has no setting 'fpss' \(did you mean 'fps'\?\); it has"
    ):
        await Lab.connect(path)


@pytest.mark.usefixtures("in_memory")
async def test_a_device_that_is_no_such_thing_is_told_before_anything_is_opened(tmp_path: Path) -> None:
    class Wanting(Lab):
        heater: SourceMeter

    with pytest.raises(CapabilityError, match=r"devices\.heater \(heater\) is no SourceMeter: it does not claim"):
        async with Wanting.open(toy.write_lab(tmp_path)):
            pass
    assert not toy.MemoryPort.open_ports


@pytest.mark.usefixtures("in_memory")
async def test_the_wrong_instrument_on_a_link_is_told_and_nothing_but_its_name_was_asked(tmp_path: Path) -> None:
    toys = toy.TOYS + "emulator.reply_delay = 0.01\n"
    path = toy.write_lab(tmp_path, toys=toys)
    toy.HeaterEmulator.kind = "hexapod"
    try:
        with pytest.raises(WrongInstrument, match=r"heater: expected a heater, found 'TOY hexapod'; check `link`") as e:
            async with Toys.open(path):
                pass
    finally:
        toy.HeaterEmulator.kind = "heater"
    assert e.value.__notes__ == ["also: oven: expected a heater, found 'TOY hexapod'; check `link` in the lab file"]
    assert {data for port in toy.MemoryPort.open_ports.values() for data in port.sent} == {b"ID?\n"}


@pytest.mark.usefixtures("in_memory")
async def test_a_drivers_bug_while_opening_closes_all_that_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug(self: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(toy.ToyGauge, "connected", bug)
    with pytest.raises(KeyError, match="bug"):
        async with Toys.open(toy.write_lab(tmp_path)):
            pass
    await asyncio.sleep(1)
    assert not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    assert {link._inbox for port in toy.MemoryPort.open_ports.values() for link in port.links} == {None}


@pytest.mark.usefixtures("in_memory")
async def test_the_labs_limits_narrow_the_drivers_and_are_named(tmp_path: Path) -> None:
    toys = toy.TOYS.replace('"toy:ToyHeater"', '"toy:ToyHeater"\nlimits.setpoint = "20..400 degC"', 1)
    holder = '[holder]\nname = "cell 7"\nheater = "heater"\nlimits.temperature = "..300 degC"\n'
    async with Toys.open(toy.write_lab(tmp_path, holder, toys=toys)) as lab:
        with pytest.raises(HalError, match=r"outside 20 to 300 degC.*set by holder 'cell 7'"):
            lab.heater.ramp(to=350.0, rate=1.0)
        with pytest.raises(HalError, match=r"set by lab\.toml"):
            lab.heater.ramp(to=10.0, rate=1.0)
        assert "limits" in (await lab.devices["heater"].describe_configuration())["heater-setpoint"]


# ---------------------------------------------------------------------- closing


@pytest.mark.usefixtures("in_memory")
async def test_the_end_of_a_script_leaves_every_device_in_its_safe_state(tmp_path: Path) -> None:
    async with Toys.open(toy.write_lab(tmp_path)) as lab:
        await lab.heater.ramp(to=100.0, rate=50.0)
        found = [emulator(lab, name) for name in ("heater", "oven", "gauge")]
    assert [e.changes[-1] for e in found] == ["OFF"] * 3


@pytest.mark.usefixtures("in_memory")
async def test_the_end_of_a_script_may_also_leave_devices_holding(tmp_path: Path) -> None:
    toys = toy.TOYS.replace('name = "toys"', 'name = "toys"\non_exit = "hold"')
    async with Toys.open(toy.write_lab(tmp_path, toys=toys)) as lab:
        lab.heater.ramp(to=500.0, rate=10.0)
        heater = emulator(lab, "heater")
        await asyncio.sleep(5)
    assert "OFF" not in heater.changes
    assert heater.values["SETP"] == pytest.approx(70, abs=3)


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("on_exit", ["safe", "hold"])
async def test_an_error_in_a_script_always_ends_in_the_safe_state(tmp_path: Path, on_exit: str) -> None:
    toys = toy.TOYS.replace('name = "toys"', f'name = "toys"\non_exit = "{on_exit}"')
    with pytest.raises(ZeroDivisionError):
        async with Toys.open(toy.write_lab(tmp_path, toys=toys)) as lab:
            heater = emulator(lab, "heater")
            lab.heater.ramp(to=500.0, rate=10.0)
            await asyncio.sleep(1)
            1 / 0
    assert heater.changes[-1] == "OFF"


@pytest.mark.usefixtures("in_memory")
async def test_nothing_a_script_left_behind_is_sent_after_the_safe_state(tmp_path: Path) -> None:
    late: list[BaseException | None] = []

    async def forgotten(lab: Any) -> None:
        while True:
            await asyncio.sleep(0.01)
            try:
                await lab.heater.gain.put(5.0)
            except HalError as error:
                late.append(error)

    async with Toys.open(toy.write_lab(tmp_path)) as lab:
        heater = emulator(lab, "heater")
        heater.reply_delay = 0.05
        task = asyncio.get_running_loop().create_task(forgotten(lab))
        await asyncio.sleep(0.5)
        statuses = [lab.devices["heater"].gain.set(float(n)) for n in range(8)]  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    await asyncio.sleep(1)
    assert heater.changes[-1] == "OFF"
    assert late
    assert all(status.done for status in statuses)
    assert any(isinstance(status.exception(), Superseded) for status in statuses)
    task.cancel()


@pytest.mark.usefixtures("in_memory")
async def test_a_failure_nobody_awaited_is_raised_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(HalError, match=r"heater\.gain\.set failed and nobody awaited it: heater: no reply"):
        async with Toys.open(toy.write_lab(tmp_path)) as lab:
            emulator(lab, "heater").silent.add("GAIN")
            lab.devices["heater"].gain.set(2.0)  # type: ignore[attr-defined]
            await asyncio.sleep(3)


@pytest.mark.usefixtures("in_memory")
async def test_a_failure_somebody_asked_after_is_not_raised_again(tmp_path: Path) -> None:
    async with Toys.open(toy.write_lab(tmp_path)) as lab:
        emulator(lab, "heater").silent.add("GAIN")
        status = lab.devices["heater"].gain.set(2.0)  # type: ignore[attr-defined]
        with pytest.raises(NoReply):
            await status


@pytest.mark.usefixtures("in_memory")
async def test_being_cancelled_while_closing_does_not_end_the_safe_state(tmp_path: Path) -> None:
    found: list[Any] = []

    async def script() -> None:
        async with Toys.open(toy.write_lab(tmp_path)) as lab:
            found.append(emulator(lab, "heater"))
            found[0].reply_delay = 0.2
            lab.heater.ramp(to=500.0, rate=10.0)
            await asyncio.sleep(100)

    task = asyncio.get_running_loop().create_task(script())
    await asyncio.sleep(3)
    for _ in range(10):
        task.cancel()
        await asyncio.sleep(0.03)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert found[0].changes[-1] == "OFF"
    assert not any("not in its safe state" in text for text in found[0].received)


@pytest.mark.usefixtures("in_memory")
async def test_a_step_of_closing_that_fails_keeps_no_other_from_being_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug(self: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(toy.ToyHeater, "disconnecting", bug, raising=False)
    async with Toys.open(toy.write_lab(tmp_path)) as lab:
        heater = emulator(lab, "heater")
    assert heater.changes[-1] == "OFF"
    assert {s.state for s in lab._sessions.values()} == {LinkState.CLOSED}


@pytest.mark.usefixtures("in_memory")
async def test_a_lab_opened_to_look_changes_nothing(tmp_path: Path) -> None:
    path = toy.write_lab(tmp_path)
    async with Lab.looking(path) as lab:
        assert await lab.signal("heater.temperature").get() == 20.0
        with pytest.raises(HalError, match="opened to be looked at"):
            await lab.signal("heater.gain").put(2.0)  # type: ignore[attr-defined]
        found = [emulator(lab, name) for name in lab.devices]
    assert not any(e.changes for e in found)


# ---------------------------------------------------------------------- a real process on a real wire

SCRIPT = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from hal import Lab
from hal.capabilities import Heater

class Toys(Lab):
    heater: Heater

async def main():
    async with Toys.open({lab!r}) as lab:
        async with lab.heater.ramp(to=500.0, rate=1.0) as ramp:
            await asyncio.sleep(0.3)
            print("ready", flush=True)
            {body}

asyncio.run(main())
"""


class Child:
    """A script in a process of its own; the emulator it drives is served here."""

    def __init__(self, directory: Path, delay: float, body: str = "await ramp", script: str = SCRIPT) -> None:
        self.emulator = toy.HeaterEmulator(None, reply_delay=delay)
        self.port = TcpPort(Bench(toy.World()).wire([self.emulator], "tcp"))
        self.directory, self.body, self.script = directory, body, script

    async def __aenter__(self) -> Child:
        await self.port.open()
        self.lab = self.directory / "lab.toml"
        self.lab.write_text(f'schema = 1\n[devices.heater]\ndriver = "toy:ToyHeater"\nlink = "{self.port.url}"\n')
        script = self.directory / "script.py"
        tests = str(Path(toy.__file__).parent)
        script.write_text(self.script.format(tests=tests, lab=str(self.lab), body=self.body))
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"HAL_LAB": ""},
        )
        assert self.process.stdout is not None
        ready = await asyncio.wait_for(self.process.stdout.readline(), 100)
        if ready != b"ready\n":
            raise AssertionError((await self.process.communicate())[1].decode())
        return self

    async def end(self) -> tuple[int, str]:
        """Wait until it has ended; return the exit code and what it said."""
        _, said = await asyncio.wait_for(self.process.communicate(), 100)
        assert self.process.returncode is not None
        return self.process.returncode, said.decode()

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        await self.port.close()


@pytest.mark.real_clock
@pytest.mark.skipif(sys.platform == "win32", reason="a Windows console sends no signals to one process alone")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_and_kill_end_a_script_through_the_safe_state(tmp_path: Path, number: signal.Signals) -> None:
    async with Child(tmp_path, 0.002) as child:
        assert "OFF" not in child.emulator.changes
        child.process.send_signal(number)
        code, _ = await child.end()
        assert code != 0
        assert child.emulator.changes[-1] == "OFF"


@pytest.mark.real_clock
@pytest.mark.skipif(sys.platform == "win32", reason="a Windows console sends no signals to one process alone")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_one_while_closing_does_not_leave_the_heater_on(tmp_path: Path, number: signal.Signals) -> None:
    async with Child(tmp_path, 0.002) as child:
        child.emulator.reply_delay = 0.25  # each step of the hold and of the safe state
        child.emulator.silent.add("OFF")  # lost at first: it must be sent again
        child.process.send_signal(number)
        for _ in range(8):
            await asyncio.sleep(0.12)
            child.process.send_signal(number)
        child.emulator.silent.clear()
        child.emulator.received.clear()
        code, said = await child.end()
        assert code != 0
        assert child.emulator.changes[-1] == "OFF", said
        assert child.emulator.values["OUT"] == 0


@pytest.mark.real_clock
async def test_an_unplugged_tcp_link_reaches_the_script_with_what_to_do(tmp_path: Path) -> None:
    async with Child(tmp_path, 0.002) as child:
        child.port.unplug()
        code, said = await child.end()
        assert code == 1
        assert "heater: the link tcp://127.0.0.1" in said
        assert "check the cable" in said


LEFT_OPEN = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from hal import Lab

async def main():
    lab = await Lab.connect({lab!r})
    await lab.devices["heater"].setpoint.set(500.0)
    print("ready", flush=True)
    {body}

loop = asyncio.new_event_loop()
loop.run_until_complete(main())  # as a notebook's kernel does; it is told to stop more than once
loop.call_soon(loop.stop)
"""


@pytest.mark.real_clock
@pytest.mark.skipif(sys.platform == "win32", reason="a Windows console sends no signals to one process alone")
@pytest.mark.parametrize("number", [None, signal.SIGTERM])
async def test_a_lab_left_open_is_safe_when_its_process_ends(tmp_path: Path, number: signal.Signals | None) -> None:
    body = "await asyncio.sleep(3600)" if number else "pass"
    async with Child(tmp_path, 0.002, body, LEFT_OPEN) as child:
        if number:
            child.process.send_signal(number)
        code, said = await child.end()
        assert code == (-number if number else 0)
        assert "hal: a lab was left open; its devices go to their safe state" in said
        assert child.emulator.changes[-1] == "OFF"


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("forgotten", [True, False])
def test_a_lab_left_open_is_safe_when_its_loop_ends(
    tmp_path: Path, forgotten: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[Any] = []

    async def script() -> None:
        lab = await Lab.connect(toy.write_lab(tmp_path))
        found.append(emulator(lab, "heater"))
        await lab.signal("heater.setpoint").set(300.0)  # type: ignore[attr-defined]
        if not forgotten:
            await lab.close()
            found[0].received.clear()
            return
        raise ZeroDivisionError

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        with suppress(ZeroDivisionError):
            runner.run(script())
    assert found[0].changes[-1:] == (["OFF"] if forgotten else [])
    assert ("a lab was left open" in capsys.readouterr().err) == forgotten


async def test_the_latch_refuses_what_it_can_not_read_rather_than_let_it_pass(tmp_path: Path) -> None:
    latch = Latch(tmp_path / "lab.toml", "x")
    latch.path.parent.mkdir()
    latch.path.write_text("{ half a tr")
    with pytest.raises(HalError, match="a trip that can't be read"):
        latch.refuse_if_set()
    latch.acknowledge("Ada")
    latch.refuse_if_set()


async def test_a_lost_link_is_ours_and_a_connection_error() -> None:
    assert issubclass(LinkLost, (HalError, ConnectionError))
