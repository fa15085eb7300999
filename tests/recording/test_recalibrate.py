"""`hal recalibrate`: a run's raw readings through another certificate, beside everything that was there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ticking import World

from calibration.certificate import Certificate
from hal.cli import main
from hal.errors import RecordError
from hal.recording import DevicePlan, RunPlan, SignalPlan, open_run
from hal.recording.again import align_again
from hal.recording.recalibrate import layers, recalibrate

# a gauge: log10 p/Pa = 1.667 U - 9.33, between 1.8 and 8.6 V (Pfeiffer PKR 251)
GAUGE: dict[str, Any] = {
    "unit_in": "V", "unit_out": "Pa", "coefficients": [-9.33, 1.667], "logarithm": "y", "valid": [0.5, 8.6],
    "covariance": [[1e-4, 0.0], [0.0, 0.0]],
}  # fmt: skip
LINE: dict[str, Any] = {"unit_in": "V", "unit_out": "V", "coefficients": [0.01, 1.02], "valid": [0.0, 1.8],
                        "uncertainty": 0.003}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "run.nxs"
    World(seconds=2.0).record(path)
    return path


@pytest.fixture
def run_file(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(recorded, tmp_path / "run.nxs"))


def certified(folder: Path, result: dict[str, Any], name: str = "new.toml", **changed: Any) -> Path:
    given: dict[str, Any] = {
        "kind": "curve.polynomial", "device": "gauge 417", "serial": "", "made": datetime(2026, 5, 1, tzinfo=UTC),
        "by": "A. Uthor", "reference": "a spinning rotor gauge", "result": result,
    }  # fmt: skip
    return Certificate(**given | changed).save(folder / name)


def everything(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update({name: repr(item[()])}) if isinstance(item, h5py.Dataset) else None
        )
    return found


def test_a_layer_is_added_and_nothing_that_was_there_is_touched(run_file: Path, tmp_path: Path) -> None:
    before = everything(run_file)
    new = certified(tmp_path, GAUGE)
    assert main(["recalibrate", str(run_file), "--certificate", f"gauge.voltage={new}"]) == 0
    after = everything(run_file)
    assert {name: text for name, text in after.items() if not name.startswith("entry/recalibrated")} == before
    with open_run(run_file) as run:
        (layer,) = layers(run)
        raw = run.signals["gauge.voltage"]
        assert layer.certificate == new.read_text()
        assert (layer.path, layer.raw, layer.readings.unit) == ("gauge.voltage_calibrated", "gauge.voltage", "Pa")
        assert np.allclose(layer.readings.value, 10 ** (1.667 * raw.value - 9.33), rtol=1e-12)
        relative = layer.readings.uncertainty / layer.readings.value  # 0.01 of log10, and 1.667 times the noise
        noise = np.nan_to_num(raw.uncertainty, nan=0.0)
        assert np.allclose(relative, np.log(10) * np.hypot(0.01, 1.667 * noise), rtol=1e-9)


def test_a_layer_has_the_values_at_frames_too(run_file: Path, tmp_path: Path) -> None:
    align_again(run_file, run_file)
    recalibrate(run_file, certified(tmp_path, GAUGE), "board.input_0")
    with open_run(run_file) as run:
        (layer,) = layers(run)
        frames, at = layer.at_frames["camera"], run.aligned_to("camera")["board.input_0"]
        assert frames.valid.sum() == at.valid.sum() > 100
        expected = 10 ** (1.667 * at.value[at.valid] - 9.33)
        assert np.allclose(frames.value[frames.valid], expected, rtol=1e-12)


def test_layers_pile_up_and_the_same_one_is_not_added_twice(run_file: Path, tmp_path: Path) -> None:
    first, second = certified(tmp_path, GAUGE, "a.toml"), certified(tmp_path, LINE, "b.toml")
    assert recalibrate(run_file, first, "gauge.voltage").written
    assert recalibrate(run_file, second, "gauge.voltage").written
    before = run_file.read_bytes()
    again = recalibrate(run_file, first, "gauge.voltage")
    assert (again.written, again.why_not) == ("", "the same values stand there already")
    assert run_file.read_bytes() == before
    with open_run(run_file) as run:
        assert [(layer.number, layer.readings.unit) for layer in layers(run)] == [(1, "Pa"), (2, "V")]


def test_a_copy_leaves_the_run_as_it_was(run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, new, out = run_file.read_bytes(), certified(tmp_path, LINE), tmp_path / "copy.nxs"
    assert (
        main(["recalibrate", str(run_file), "--certificate", f"gauge.voltage={new}", "--out", str(out), "--json"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert run_file.read_bytes() == before
    with open_run(out) as run:
        (layer,) = layers(run)
        raw = run.signals["gauge.voltage"].value
        shift = 0.01 + 0.02 * raw
        assert said["median_shift"] == pytest.approx(np.median(shift))
        assert said["compared_with"] == "gauge.voltage"
        assert said["beyond"] == np.sum(raw > 1.8) > 0  # it swings from 1 to 2 V
        assert np.array_equal(layer.readings.beyond, raw > 1.8)
    with pytest.raises(RecordError, match="is there already"):
        recalibrate(run_file, new, "gauge.voltage", out)


def test_a_certificate_may_say_which_signal_it_is_for(run_file: Path, tmp_path: Path) -> None:
    new = certified(tmp_path, GAUGE | {"signal": "gauge.voltage"})
    assert recalibrate(run_file, new).raw == "gauge.voltage"


@pytest.mark.parametrize(
    ("changed", "signal", "message"),
    [
        ({"expires": date(2026, 5, 20)}, "gauge.voltage", "it expired on 2026-05-20.*--override"),
        ({"serial": "0417"}, "gauge.voltage", "serial number '0417'.*--override"),
        ({}, "", "which signal is the certificate for.*DEVICE.SIGNAL=FILE"),
        ({}, "gauge.pressure", "no signal 'gauge.pressure'"),
        ({"kind": "delay.camera"}, "gauge.voltage", "no curve"),
        ({"result": GAUGE | {"unit_in": "degC"}}, "gauge.voltage", "takes degC to Pa, and the signal is in V"),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused_and_the_run_left_alone(
    run_file: Path, tmp_path: Path, changed: dict[str, Any], signal: str, message: str
) -> None:
    before = run_file.read_bytes()
    with pytest.raises(RecordError, match=message):
        recalibrate(run_file, certified(tmp_path, changed.pop("result", GAUGE), **changed), signal)
    assert run_file.read_bytes() == before


def test_an_override_is_kept_with_the_layer(run_file: Path, tmp_path: Path) -> None:
    new = certified(tmp_path, GAUGE, expires=date(2026, 5, 20))
    recalibrate(run_file, new, "gauge.voltage", override="the rotor gauge is away")
    with open_run(run_file) as run:
        assert layers(run)[0].override == "the rotor gauge is away"


def test_an_edited_certificate_is_refused(run_file: Path, tmp_path: Path) -> None:
    new = certified(tmp_path, GAUGE)
    new.write_text(new.read_text().replace("1.667", "1.767"))
    with pytest.raises(RecordError, match="changed after it was made"):
        recalibrate(run_file, new, "gauge.voltage", override="never mind")


class Calibrated(World):
    """As `World`, and the gauge's voltage was calibrated when the run was made."""

    certificate = ""

    def plan(self) -> RunPlan:
        plan = super().plan()
        made = SignalPlan("gauge.pressure", "Pa", "Pa", "Pa", raw="gauge.voltage", certificate="g.toml")
        gauge = DevicePlan("gauge", "made up", certificates={"g.toml": self.certificate})
        (camera,) = plan.cameras
        camera = replace(camera, aligned=[*camera.aligned, made.path])
        return replace(plan, signals=[*plan.signals, made], devices=[*plan.devices, gauge], cameras=[camera])


def test_a_calibrated_signal_is_laid_onto_frames_through_its_raw_one(tmp_path: Path) -> None:
    world = Calibrated(seconds=2.0)
    world.certificate = certified(tmp_path, GAUGE).read_text()
    path = tmp_path / "run.nxs"
    world.record(path)
    align_again(path, path)
    with open_run(path) as run:
        at = run.aligned_to("camera")
        raw, made = at["gauge.voltage"], at["gauge.pressure"]
        assert (made.valid == raw.valid).all()
        assert made.valid.sum() > 100
        assert np.allclose(made.value[made.valid], 10 ** (1.667 * raw.value[made.valid] - 9.33), rtol=1e-12)
        relative = made.uncertainty[made.valid] / made.value[made.valid]
        assert relative.min() >= np.log(10) * 0.01  # the certificate's own, however many readings were averaged


def test_a_run_whose_certificate_is_damaged_says_which(tmp_path: Path) -> None:
    world = Calibrated(seconds=1.0)
    world.certificate = certified(tmp_path, GAUGE).read_text().replace("1.667", "1.767")
    world.record(tmp_path / "run.nxs")
    with pytest.raises(RecordError, match=r"gauge\.pressure can't be calibrated by 'g\.toml'.*changed after"):
        align_again(tmp_path / "run.nxs")


def test_the_signal_that_was_calibrated_is_the_one_that_is_meant(tmp_path: Path) -> None:
    world = Calibrated(seconds=1.0)
    world.certificate = certified(tmp_path, GAUGE, "old.toml").read_text()
    world.record(tmp_path / "run.nxs")
    assert recalibrate(tmp_path / "run.nxs", certified(tmp_path, GAUGE)).raw == "gauge.voltage"
