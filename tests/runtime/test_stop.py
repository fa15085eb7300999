"""A person's stop: every device in its safe state, and nothing set until somebody acknowledges."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
import toy

from hal import Lab
from hal.capabilities import Heater
from hal.errors import ConfigError, HalError, InterlockTripped, LinkLost, NoReply
from hal.runtime.config import load
from hal.runtime.latch import Latch

pytestmark = pytest.mark.usefixtures("in_memory")

LEFT = toy.TOYS.replace('name = "toys"', 'name = "toys"\non_exit = "hold"')
"""Its devices are left as they are at the end."""


class Toys(Lab):
    heater: Heater
    oven: Heater


def emulator(lab: Any, name: str = "heater") -> Any:
    return lab.emulation.emulator(name)


async def test_a_stop_ends_a_ramp_and_the_script_with_who_and_why(tmp_path: Path) -> None:
    with pytest.raises(InterlockTripped, match=r"stopped by Ada: the window bulges\. Every device was told"):
        async with Toys.open(toy.write_lab(tmp_path)) as lab:
            ramp = lab.heater.ramp(to=500.0, rate=1.0)
            await asyncio.sleep(5)
            await lab.stop(by="Ada", reason="the window bulges")
            assert emulator(lab).values["OUT"] == 0
            await ramp
    with pytest.raises(InterlockTripped, match=r"still tripped: stopped by Ada: the window bulges"):
        await Toys.connect(tmp_path / "lab.toml")
    Latch(tmp_path / "lab.toml", "toys").acknowledge("Ada")
    await (await Toys.connect(tmp_path / "lab.toml")).close()


async def test_a_device_that_is_not_safe_is_raised_and_the_others_are_safe_all_the_same(tmp_path: Path) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path))
    try:
        for heater in (lab.heater, lab.oven):
            await heater.setpoint.set(100.0)
        emulator(lab).silent.add("OFF")
        with pytest.raises(NoReply, match="heater: no reply to b'OFF'"):
            await lab.stop(by="Ada")
        assert emulator(lab, "oven").values["OUT"] == 0
        emulator(lab).silent.clear()
        await lab.stop(by="Ada")  # once more, while tripped
        assert emulator(lab).values["OUT"] == 0
        assert len(lab.trips) == 1
    finally:
        await lab.close()


async def test_a_stop_is_somebodys(tmp_path: Path) -> None:
    async with Toys.open(toy.write_lab(tmp_path)) as lab:
        with pytest.raises(ValueError, match="by whom"):
            await lab.stop(by=" ")
        assert lab.trip is None


async def test_a_password_that_is_not_found_is_told_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EM3_MQTT", raising=False)
    text = '[telemetry]\nbroker = "mqtt://b"\nuser = "hal"\npassword = "env:EM3_MQTT"'
    with pytest.raises(ConfigError, match="no password at env:EM3_MQTT"):
        await Toys.connect(toy.write_lab(tmp_path, text))
    assert not toy.MemoryPort.open_ports


async def test_a_stop_goes_on_when_its_caller_does_not(tmp_path: Path) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path))
    try:
        for attempt in range(2):  # the first trips; the second comes while tripped
            emulator(lab, "oven").silent.add("OFF")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await lab.stop(by="Ada")
            emulator(lab, "oven").silent.clear()
            before = emulator(lab, "oven").changes.count("OFF")
            await toy.eventually(lambda before=before: emulator(lab, "oven").changes.count("OFF") > before)
            assert emulator(lab).changes.count("OFF") >= attempt + 1
    finally:
        await lab.close()


async def test_a_stop_of_another_threads_is_as_good(tmp_path: Path) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path))
    try:
        await lab.heater.setpoint.set(100.0)
        await asyncio.to_thread(asyncio.run, lab.stop(by="Ada"))
        assert emulator(lab).values["OUT"] == 0
        assert lab.trip is not None
        with pytest.raises(InterlockTripped):
            await lab.heater.setpoint.set(100.0)
    finally:
        await lab.close()


async def test_a_stop_while_a_lost_link_holds_the_lab_is_latched_all_the_same(tmp_path: Path) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path))
    lab.emulation.links["emulator:oven"].unplug()  # type: ignore[union-attr]
    with pytest.raises(LinkLost):
        await lab.oven.temperature.get()
    assert lab.trip is not None
    assert not lab.trip.latched
    with pytest.raises(LinkLost):
        await lab.stop(by="Ada")
    await lab.close()
    with pytest.raises(InterlockTripped, match="still tripped: stopped by Ada"):
        await Toys.connect(tmp_path / "lab.toml")


async def test_a_stop_while_the_lab_closes_stops_every_device_and_is_latched(tmp_path: Path) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path, toys=LEFT))
    for heater in (lab.heater, lab.oven):
        await heater.setpoint.set(100.0)
    lab.heater.ramp(to=500.0, rate=1.0)
    emulator(lab).silent.add("TEMP?")  # it is to hold, and takes its time
    await asyncio.sleep(0.5)
    closing = asyncio.ensure_future(lab.close())
    await asyncio.sleep(0.1)
    assert not closing.done()
    emulator(lab, "oven").silent.add("OFF")
    stop = asyncio.ensure_future(lab.stop(by="Ada"))
    await asyncio.sleep(0.5)
    emulator(lab, "oven").silent.clear()
    await asyncio.gather(closing, stop, return_exceptions=True)
    assert stop.exception() is None
    assert emulator(lab).values["OUT"] == emulator(lab, "oven").values["OUT"] == 0
    assert Latch(tmp_path / "lab.toml", "toys").read() is not None


async def test_what_is_acknowledged_while_the_lab_closes_lets_nothing_through(tmp_path: Path) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path))
    await lab.stop(by="Ada")
    emulator(lab, "oven").silent.add("OFF")  # so that closing takes its time
    closing = asyncio.ensure_future(lab.close())
    await asyncio.sleep(0.2)
    lab.acknowledge(by="Ada")
    with pytest.raises(HalError, match="being closed"):
        await lab.heater.setpoint.set(300.0)
    await closing
    assert emulator(lab).values["OUT"] == 0


async def test_a_lab_that_is_closed_or_only_looked_at_says_that_it_can_not_stop(tmp_path: Path) -> None:
    path = toy.write_lab(tmp_path)
    async with Toys.looking(path) as lab:
        with pytest.raises(HalError, match="opened to be looked at"):
            await lab.stop(by="Ada")
        assert "OFF" not in emulator(lab).changes
    lab = await Toys.connect(path)
    await lab.close()
    with pytest.raises(HalError, match="the lab is closed"):
        await lab.stop(by="Ada")
    assert Latch(path, "toys").read() is None


async def test_something_cancelled_within_a_driver_is_a_device_that_is_not_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path))
    try:
        await lab.oven.setpoint.set(100.0)
        tries: list[int] = []

        async def make_safe() -> None:
            tries.append(1)
            if len(tries) <= 3:
                raise asyncio.CancelledError

        monkeypatch.setattr(lab.heater, "make_safe", make_safe)
        with pytest.raises(HalError, match="heater: something its safe state waited for was cancelled"):
            await lab.stop(by="Ada")
        assert len(tries) == 3
        assert emulator(lab, "oven").values["OUT"] == 0
    finally:
        await lab.close()


async def test_a_disk_that_hangs_does_not_hold_up_the_safe_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path))
    answers = threading.Event()
    write = Latch.set

    def hanging(self: Latch, trip: Any) -> None:
        answers.wait(10)
        write(self, trip)

    monkeypatch.setattr(Latch, "set", hanging)
    try:
        await lab.heater.setpoint.set(100.0)
        stop = asyncio.ensure_future(lab.stop(by="Ada"))
        await asyncio.sleep(0.5)
        assert emulator(lab).values["OUT"] == 0
        assert not stop.done()
        lab.acknowledge(by="Ada")  # before it is even written down
        answers.set()
        await stop
    finally:
        answers.set()
        await lab.close()
    assert Latch(tmp_path / "lab.toml", "toys").read() is None


async def test_a_folder_that_is_gone_has_acknowledged_nothing(tmp_path: Path) -> None:
    lab = await Toys.connect(toy.write_lab(tmp_path))
    try:
        await lab.stop(by="Ada")
        (tmp_path / ".hal").rename(tmp_path / "away")
        await asyncio.sleep(3)
        assert lab.trip is not None
        (tmp_path / "away").rename(tmp_path / ".hal")
        Latch(tmp_path / "lab.toml", "toys").acknowledge("Zoë 佐")
        await toy.eventually(lambda: lab.trip is None)
        assert lab.context.journal.recent[-1].text == "acknowledged by Zoë 佐"
    finally:
        await lab.close()


async def test_no_password_is_in_a_message_or_in_what_a_record_keeps(tmp_path: Path) -> None:
    path = toy.write_lab(tmp_path, '[telemetry]\nbroker = "mqtt://hal:s3cr@localhost"')
    config = load(path)
    assert "s3cr" not in config.text
    assert "mqtt://hal:...@localhost" in config.text
    for wrong in (
        "password = 53212",
        '[telemetry.users]\nanna = "s53212"',
        "[telemetry.users.anna]\npassword = [53212]",
    ):
        path.write_text(toy.TOYS + f'[telemetry]\nbroker = "embedded:"\n{wrong}\n')
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert "53212" not in str(caught.value)
