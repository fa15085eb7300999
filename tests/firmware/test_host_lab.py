"""A lab file whose link starts the emulated board: the shared world heats, and the detector's pulses are stamped."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from devices.insitu_mcu import images
from hal import Lab
from hal.capabilities import Beam, Camera, FrameClock, Heater, Valve
from hal.errors import CapabilityError, ConfigError, InterlockTripped, LimitError
from hal.protocols.firmware import EdgeChunk
from hal.runtime import config
from hal.transport.link import parse_url

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc")]

LAB = """
schema = 1
[devices.heater]
driver = "devices.insitu_mcu.driver:InsituMcu"
link = "firmware:{board}"
kp = 2.0
ki = 4.0
feed_forward = 0.066
limits.setpoint = "20..800 degC"
emulator = {{ seed = 5 }}

[devices.camera]
driver = "merlin"
emulator = {{ fps = 200 }}
"""


class InSitu(Lab):
    heater: Heater
    camera: Camera


@pytest.fixture(
    params=["posix", pytest.param("mps2", marks=pytest.mark.needs_tool("qemu-system-arm", "arm-none-eabi-gcc"))]
)
def lab_file(request, tmp_path):
    file = tmp_path / "lab.toml"
    file.write_text(LAB.format(board=request.param))
    return file


async def test_a_lab_heats_with_the_emulated_board_and_leaves_it_safe(lab_file):
    async with InSitu.open(lab_file) as lab:
        page = lab.emulation.links["firmware:heater"].port.page
        await lab.heater.ramp(to=90.0, rate=60.0)
        async with asyncio.timeout(60):  # where the machine was busy its world went in large steps: let it settle
            while abs(lab.emulation.bench.world.temperature - 90.0) > 4.0 or not page["heater"]:
                await asyncio.sleep(0.01)
        await lab.heater.safe_state()
        assert page["heater"] == 0


async def test_every_exposure_of_the_detector_is_stamped_on_the_boards_clock(lab_file):
    async with InSitu.open(lab_file) as lab:
        got: list[EdgeChunk] = []
        clock: FrameClock = lab.heater
        clock.on_pulses(got.append)
        async with clock.capturing(rising=[0], falling=[0]):
            async with lab.camera.filming():
                seen = 0
                async for _ in lab.camera.frames():
                    if (seen := seen + 1) > 150:
                        break
            await lab.camera.drain()
            made = len(lab.emulation.emulator("camera").truth().number)
            async with asyncio.timeout(60):  # its world hands them on as the machine has time for it
                while sum(int((~chunk.rising).sum()) for chunk in got) < made:
                    await asyncio.sleep(0.01)
        detector, bench = lab.emulation.emulator("camera"), lab.emulation.bench
        truth = detector.truth()
        ticks = np.concatenate([chunk.ticks for chunk in got])
        rising = np.concatenate([chunk.rising for chunk in got])
        assert rising.sum() == (~rising).sum() == len(truth.number) > 150
        times, bound = clock.lab_time(ticks)
        monotonic = lab.context.timebase.now() - time.monotonic_ns()
        epoch = int(times[0])  # doubles hold no nanoseconds since 1970
        middle = (times[rising] + times[~rising] - 2 * epoch) / 2
        true = (truth.middle + bench.now - detector.lived) * 1e9 + (monotonic - epoch)
        # A look at the counter through the page is up to a scheduler's slice late.
        assert np.abs(middle - true).max() < bound.max() + 1e6
        # The board's ticks know nothing of that: exposures follow each other as they did.
        assert np.abs(np.diff(middle - true)).max() < 3000


async def test_a_pulse_of_the_trigger_output_has_the_lamp_flash_at_its_tick(lab_file):
    async with InSitu.open(lab_file) as lab:
        with pytest.raises(LimitError, match="a pulse of 0 s in 0.03 s is outside 0 to 10 s; nothing was sent"):
            lab.heater.fire(0.0)
        boot, ticks = await lab.heater.fire(0.002)
        assert boot == lab.heater.hello.boot
        lab_time, bound = lab.heater.lab_time(np.array([ticks]))
        bench, monotonic = lab.emulation.bench, lab.context.timebase.now() - time.monotonic_ns()
        await asyncio.sleep(0.1)
        on = (int(lab_time[0]) - monotonic) * 1e-9 - bench.now + bench.world.lived
        near = bound[0] * 1e-9 + 1e-3  # a look at the counter through the page is up to a scheduler's slice late
        seconds = bench.world.lamp.lit(np.array([0.0, 0.0, 0.0]), np.array([on - near, on + near + 0.005, on + 1.0]))
        assert seconds == pytest.approx([0.0, 0.005, 0.005], abs=1e-9)
        assert bench.world.lamp.known > on + 0.05


PARTS = """
schema = 1
[links.board]
url = "firmware:posix"

[devices.beam]
driver = "devices.insitu_mcu.outputs:McuBeam"
link = "board"
channel = 1

[devices.heater]
driver = "insitu_mcu"
link = "board"
record_inputs = [2, 3]
{more}

[devices.gas]
driver = "devices.insitu_mcu.outputs:McuValve"
link = "board"
channel = 0
"""


class WithParts(Lab):
    heater: Heater
    gas: Valve
    beam: Beam


async def test_a_valve_and_the_beam_share_the_boards_link_and_end_safe(tmp_path):
    file = tmp_path / "lab.toml"
    file.write_text(PARTS.format(more=""))
    async with WithParts.open(file) as lab:
        page = lab.emulation.links["board"].port.page
        await lab.gas.open()
        await lab.beam.unblank()
        assert page["digital"] == 0b11
        assert await lab.gas.state.get() == "open"
        await lab.safe_state()
        assert page["digital"] == 0
        assert await lab.beam.blanked.get() is True


@pytest.mark.parametrize(
    ("more", "why"),
    [("record_rate = 20000.0", "20,000 samples a second"), ("record_rate = 0.0", "not above 0")],
)
def test_samples_that_the_board_can_not_stream_are_refused_in_the_lab_file(tmp_path, more, why):
    file = tmp_path / "lab.toml"
    file.write_text(PARTS.format(more=more))
    with pytest.raises(ConfigError, match=why):
        config.load(file)


async def test_a_switch_at_the_board_is_an_interlock_of_the_lab(tmp_path):
    file = tmp_path / "lab.toml"
    file.write_text(PARTS.format(more="") + '[[interlocks]]\nname = "door"\nkeep = "heater.switch_2 < 0.5"\n')
    with pytest.raises(InterlockTripped, match="door"):
        async with WithParts.open(file) as lab:
            page = lab.emulation.links["board"].port.page
            await lab.beam.unblank()
            page["inputs"] = 0b100
            try:
                async for _ in lab.heater.temperature.watch():
                    pass
            finally:
                await lab.beam.safe_state()
                dark = page["digital"] == 0
    assert dark


async def test_a_board_without_power_takes_the_lab_to_its_safe_state(lab_file):
    with pytest.raises((InterlockTripped, ConnectionError)):
        async with InSitu.open(lab_file) as lab:
            lab.heater.ramp(to=500.0, rate=20.0)
            async for _ in lab.heater.temperature.watch():
                lab.emulation.links["firmware:heater"].unplug()


async def test_a_board_that_turns_out_to_lack_what_is_asked_for_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "lab.toml"
    file.write_text(LAB.format(board="posix"))
    from devices.insitu_mcu.driver import InsituMcu

    monkeypatch.setattr(InsituMcu, "offers", lambda self, capability: False)
    with pytest.raises(CapabilityError, match=r"devices.heater is no Heater"):
        async with InSitu.open(file):
            pass


async def test_where_qemu_is_missing_it_says_so_and_uses_the_host_build(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(images, "missing_for_qemu", lambda: "qemu-system-arm is not installed here")
    file = tmp_path / "lab.toml"
    file.write_text(LAB.format(board="mps2"))
    async with InSitu.open(file) as lab:
        assert lab.heater.identity.startswith("posix")
    assert "using the firmware built for this machine instead" in caplog.text


def test_a_board_that_is_none_is_refused_by_name():
    with pytest.raises(ConfigError, match="write firmware:posix or firmware:mps2"):
        parse_url("firmware:arduino")
