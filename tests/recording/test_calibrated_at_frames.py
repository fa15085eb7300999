"""Calibrated values at frames: a certificate's uncertainty is never averaged down, and a foreign one gives none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ticking import START, World, volts

from calibration.certificate import Certificate
from hal.errors import RecordError
from hal.frames.channel import Aligned
from hal.frames.chunk import FrameChunk
from hal.frames.frame import FrameTimes
from hal.frames.numbering import Numbered
from hal.frames.stimuli import Stimuli
from hal.instrument.address import Soft
from hal.model.calibrated import Calibration
from hal.model.device import Device
from hal.model.reading import Quality, Reading
from hal.model.signal import SignalR
from hal.recording import DevicePlan, NexusWriter, RunPlan, SignalPlan, open_run
from hal.recording.again import align_again
from hal.recording.provisional import Provisional
from hal.recording.recalibrate import recalibrate, samples
from hal.runtime.calibration import stated

LINE: dict[str, Any] = {"unit_in": "V", "unit_out": "Pa", "coefficients": [0.5, 3.0], "valid": [0.0, 5.0],
                        "uncertainty": 0.2}  # fmt: skip
SECOND = 1_000_000_000


def certified(folder: Path, **changed: Any) -> Path:
    given: dict[str, Any] = {
        "kind": "curve.polynomial", "device": "gauge 417", "serial": "", "made": datetime(2026, 5, 1, tzinfo=UTC),
        "by": "A. Uthor", "reference": "a spinning rotor gauge", "result": LINE,
    }  # fmt: skip
    return Certificate(**given | changed).save(folder / "g.toml")


class Exchanged(World):
    """As `World`; the gauge's voltage is calibrated, and after a second another gauge is plugged in."""

    certificate = ""

    def plan(self) -> RunPlan:
        plan = super().plan()
        signals = [
            SignalPlan("gauge.pressure", "Pa", "Pa", "Pa", raw="gauge.voltage", certificate="g.toml"),
            SignalPlan("board.holder_serial", kind="str", interpolation="step"),
        ]
        gauge = DevicePlan("gauge", "made up", certificates={"g.toml": self.certificate})
        (camera,) = plan.cameras
        camera = replace(camera, aligned=[*camera.aligned, "gauge.pressure"])
        return replace(plan, signals=[*plan.signals, *signals], devices=[*plan.devices, gauge], cameras=[camera])

    def write(self, writer: NexusWriter, begin: int, end: int) -> None:
        super().write(writer, begin, end)
        time, foreign = begin + 1_000_000, begin - START >= SECOND
        quality = ["bad" if foreign else "good"]
        value = np.nan if foreign else 0.5 + 3.0 * volts(np.array(time))
        writer.append_signal("gauge.pressure", value, time, 1_000_000, 0.2, quality)
        writer.append_signal("board.holder_serial", ["GC-0008" if foreign else "GC-0007"], time, 0)


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exchanged")
    world = Exchanged(seconds=2.0)
    world.certificate = certified(folder).read_text()
    world.record(folder / "run.nxs")
    align_again(folder / "run.nxs", folder / "run.nxs")
    return folder / "run.nxs"


def test_frames_after_the_holder_was_exchanged_have_no_value_by_the_first_ones_certificate(exchanged: Path) -> None:
    with open_run(exchanged) as run:
        at = run.aligned_to("camera")
        raw, made = at["gauge.voltage"], at["gauge.pressure"]
        middle = run.cameras["camera"].start  # the frames' times as aligned
        before, after = middle < START + 0.89 * SECOND, middle > START + 0.91 * SECOND
        assert made.valid[before & raw.valid].all()
        assert (before & raw.valid).sum() > 100
        assert not made.valid[after].any()
        assert raw.valid[after].sum() > 100
        assert np.allclose(made.value[made.valid], 0.5 + 3.0 * raw.value[made.valid])


def test_a_run_in_which_the_holder_was_exchanged_is_not_recalibrated_with_either_ones_certificate(
    exchanged: Path, tmp_path: Path
) -> None:
    new = certified(tmp_path, serial="GC-0008")
    with pytest.raises(
        RecordError, match=r"exchanged during the run \(GC-0007, GC-0008\), and it is of one of them.*--ov"
    ):
        recalibrate(exchanged, new, "gauge.voltage", tmp_path / "out.nxs")
    assert recalibrate(exchanged, new, "gauge.voltage", tmp_path / "out.nxs", override="only the second half").written


def test_every_sample_of_a_streamed_input_can_be_had_calibrated(exchanged: Path, tmp_path: Path) -> None:
    new = certified(tmp_path)
    with open_run(exchanged) as run:
        stream = run.streams["board"]
        found = samples(run, "board.input_0", new.read_text())
        assert found.value.shape == (len(stream),)
        assert len(stream) > 1500
        assert np.allclose(found.value, 0.5 + 3.0 * stream.value(0))
        assert np.allclose(found.uncertainty, np.hypot(0.2, 3.0 * stream.declared.sigma))
        with pytest.raises(RecordError, match=r"gauge\.voltage was not streamed"):
            samples(run, "gauge.voltage", new.read_text())
        with pytest.raises(RecordError, match="changed after it was made"):
            samples(run, "board.input_0", new.read_text().replace("3.0", "3.1"))


# ---------------------------------------------------------------------- while a run goes on


class Gauge(Device):
    """Steady at 2 V."""

    voltage = SignalR(float, "V", at=Soft(2.0), poll=0.1)


def film(times: FrameTimes) -> FrameChunk:
    n = len(times)
    number = np.arange(n)
    raw = FrameChunk.raw(np.zeros((n, 2, 2), np.uint8), number, number, np.full(n, 900), times.stop)
    return raw.with_times(times, Numbered(np.zeros(n, np.int32), number, np.ones(n, np.bool_), np.zeros(n, np.uint8)))


def reading(value: float | None, time: int, sigma: float) -> Reading[float]:
    return Reading(value, "", time, 1000, sigma, Quality.GOOD if value is not None else Quality.BAD)


@pytest.fixture
def gauge(tmp_path: Path) -> Gauge:
    made = Gauge("gauge")
    calibration: Calibration = stated(tmp_path, certified(tmp_path).name, "", made.voltage)
    made.add_signal(calibration.of(made.voltage))
    return made


def test_provisional_values_keep_a_certificates_uncertainty_however_many_readings_a_frame_has(gauge: Gauge) -> None:
    camera = SimpleNamespace(name="camera", on_chunk=None)
    lab: Any = SimpleNamespace(devices={"gauge": gauge, "camera": camera})
    live = Provisional(lab)
    times = [START + k * 100_000_000 for k in range(100)]
    rows = {
        "gauge.voltage": [reading(2.0, t, 0.001) for t in times],
        "gauge.voltage_calibrated": [reading(6.5 if k < 80 else None, t, 0.2) for k, t in enumerate(times)],
    }
    start = np.array([START + SECOND, START + 5 * SECOND, START + 9 * SECOND])
    chunk = film(FrameTimes.of(start, start + 3 * SECOND // 4, 1000))
    (_, found, *_), *_ = live.take(rows, [("camera", chunk)], START)
    made: Aligned = found.values["gauge.voltage_calibrated"]
    assert made.valid.tolist() == [True, True, False]
    assert made.value[:2] == pytest.approx([6.5, 6.5])
    raw = found.values["gauge.voltage"].sigma[:2]
    assert (raw < 0.01).all()
    assert made.sigma[:2] == pytest.approx(np.hypot(0.2, 3.0 * raw), rel=1e-5)


def test_a_script_that_asks_for_a_calibrated_signal_at_a_frame_is_told_the_same(gauge: Gauge) -> None:
    made: Any = gauge.voltage_calibrated  # type: ignore[attr-defined]
    for k in range(10):
        gauge.voltage.recent.append(reading(2.0, START + k * 100_000_000, 0.1))
        made.recent.append(reading(6.5 if k < 8 else None, START + k * 100_000_000, 0.36))
    gauge.voltage.subscribe = made.subscribe = lambda listener: None  # type: ignore[method-assign]
    stimuli = Stimuli({"gauge.voltage": gauge.voltage, "gauge.voltage_calibrated": made}.__getitem__)
    raw, told = (stimuli.at(f"gauge.{name}", START + 350_000_000) for name in ("voltage", "voltage_calibrated"))
    assert told[0] == pytest.approx(6.5)
    assert told[1] == pytest.approx(np.hypot(0.2, 3.0 * raw[1]), rel=1e-5)
    assert told[2]
    assert not stimuli.at("gauge.voltage_calibrated", START + 850_000_000)[2]
