"""`hal calibrate`: from steady points to a certificate, with devices and from a run; no point taken is ever lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy

from calibration.certificate import load
from calibration.certified import curve_of
from hal import Lab
from hal.cli import build, main
from hal.cli.calibrate import certify, collect
from hal.errors import ConfigError, LimitError, NoReply, RecordError
from hal.recording import ClockAnchor, DevicePlan, NexusWriter, RunPlan, SignalPlan
from hal.recording.points import Axes, PointFile, mean_of
from hal.runtime.take_points import guide

START = 1_780_000_000_000_000_000  # ns
TRUE = (12.0, 1.05, 2e-4)
"""Reference = 12 + 1.05 x + 2e-4 x^2."""
in_memory = toy.in_memory


def truth(x: Any) -> Any:
    return TRUE[0] + TRUE[1] * x + TRUE[2] * x**2


def options(*words: str) -> Any:
    return build().parse_args(["calibrate", *words])


def told(_: str) -> None:
    """Nobody listens."""


class Person:
    """Reads the reference from the emulated heater itself."""

    def __init__(self, lab: Any, leaves_after: int = 99) -> None:
        self.lab, self.left = lab, leaves_after

    async def __call__(self, question: str) -> str:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return str(truth(self.lab.emulation.emulator("heater").values["TEMP"]))


def by_hand(lab: Any, *steps: float, **more: Any) -> Any:
    how: dict[str, Any] = {"setpoint": "heater.setpoint", "steps": steps, "reference_unit": "degC", "window": 1.0,
                           "typed_uncertainty": 0.05}  # fmt: skip
    return guide(lab, "heater.temperature", "", **how | more)


AXES = Axes("heater.temperature", "degC", "", "degC")


@pytest.mark.usefixtures("in_memory")
async def test_stepping_through_setpoints_gives_a_certificate_that_tells_the_truth(tmp_path: Path) -> None:
    async with Lab.open(toy.write_lab(tmp_path)) as lab:
        file = PointFile(tmp_path / "a.points", AXES)
        await lab.signal("heater.ramp_rate").set(50.0)
        await collect(lab, by_hand(lab, 40.0, 60.0, 90.0, 120.0, 160.0, 200.0), file, Person(lab), told)
    assert [round(point.x) for point in file.points] == [40, 60, 90, 120, 160, 200]
    given = options("lab.toml", "heater.temperature", "--out", "c.toml", "--serial", "W43", "--by", "A. Uthor",
                    "--reference-uncertainty", "0.4", "--against", "a bath")  # fmt: skip
    certificate, fitted = certify(AXES, file.points, given)
    curve = curve_of(load(certificate.save(tmp_path / "c.toml")), "degC")
    x = np.linspace(40.0, 200.0, 50)
    assert np.abs(curve.values(x) - truth(x)).max() < 0.1
    assert fitted.form.size == 4  # a cubic, whatever fewer coefficients might do
    assert float(curve(100.0).uncertainty) > 0.4
    assert (certificate.serial, certificate.reference) == ("W43", "a bath")
    assert certificate.result["signal"] == "heater.temperature"
    assert certificate.evidence["points"] == 6


@pytest.mark.usefixtures("in_memory")
async def test_ctrl_c_loses_no_point_and_the_same_command_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "a.points"
    with pytest.raises(KeyboardInterrupt):
        async with Lab.open(toy.write_lab(tmp_path)) as lab:
            await lab.signal("heater.ramp_rate").set(50.0)
            await collect(lab, by_hand(lab, 30.0, 40.0, 50.0), PointFile(place, AXES), Person(lab, 2), told)
    kept = PointFile(place, AXES).points
    assert [round(point.x) for point in kept] == [30, 40]
    async with Lab.open(toy.write_lab(tmp_path)) as lab:
        file = PointFile(place, AXES)
        await lab.signal("heater.ramp_rate").set(50.0)
        await collect(lab, by_hand(lab, 30.0, 40.0, 50.0), file, Person(lab), told)
    assert file.points[:2] == kept
    assert [round(point.x) for point in file.points] == [30, 40, 50]


@pytest.mark.usefixtures("in_memory")
async def test_no_point_is_taken_while_it_moves(tmp_path: Path) -> None:
    async with Lab.open(toy.write_lab(tmp_path)) as lab:
        with pytest.raises(NoReply, match=r"heater\.temperature did not become steady in 5 s.*--patience.*--within"):
            await collect(lab, by_hand(lab, 200.0, patience=5.0), PointFile(tmp_path / "a", AXES), Person(lab), told)


@pytest.mark.usefixtures("in_memory")
async def test_what_can_not_be_done_is_told_before_anything_is_set(tmp_path: Path) -> None:
    async with Lab.open(toy.write_lab(tmp_path)) as lab:
        with pytest.raises(LimitError, match="700"):
            by_hand(lab, 100.0, 700.0)
        with pytest.raises(ConfigError, match="to which values"):
            by_hand(lab)
        with pytest.raises(ConfigError, match="need a unit"):
            by_hand(lab, 100.0, reference_unit="")
        with pytest.raises(ConfigError, match="less than 6 readings"):
            by_hand(lab, 100.0, window=0.3)
        with pytest.raises(ConfigError, match="its own reference"):
            guide(lab, "heater.temperature", "heater.temperature")
        assert await lab.signal("heater.setpoint").get() == 20.0


def test_a_mean_knows_its_scatter_and_neither_drift_nor_jump_is_steady() -> None:
    rng = np.random.default_rng(1)
    noise = np.full(400, np.nan)
    trials = [mean_of(rng.normal(5.0, 0.2, 400), noise) for _ in range(400)]
    assert np.std([t.value for t in trials]) == pytest.approx(0.01, rel=0.1)
    assert 0.93 < np.mean([t.steady for t in trials]) < 0.98  # twice the standard uncertainty
    drifting = rng.normal(5.0, 0.2, 400) + np.linspace(0.0, 0.5, 400)
    assert not mean_of(drifting, noise).steady
    assert mean_of(drifting, noise, within=0.4).steady
    assert mean_of(drifting, noise).uncertainty > 0.25 / np.sqrt(3) * 0.8
    assert not mean_of(np.ones(5), noise[:5]).steady
    assert not mean_of(np.array([20.0, 20.0, *[30.0] * 8]), noise[:10]).steady


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A furnace that goes through six plateaus with ramps between them, and a heater's resistance in it."""
    path = tmp_path_factory.mktemp("recorded") / "run.nxs"
    rng = np.random.default_rng(2)
    stops = [25.0, 100.0, 200.0, 300.0, 400.0, 500.0]
    truly = np.concatenate([
        np.concatenate([np.full(300, stop), np.linspace(stop, after, 200)])
        for stop, after in zip(stops, stops[1:] + [500.0], strict=True)
    ])  # fmt: skip
    time = START + np.arange(truly.size) * 100_000_000
    signals = [SignalPlan("chip.resistance", "Ohm", "Ohm", "ohm"), SignalPlan("furnace.temperature", "degC", "Cel")]
    signals.append(SignalPlan("furnace.output", "V", "V", "V"))
    devices = [DevicePlan("chip", "made up", identity="DENS W43"), DevicePlan("furnace", "made up")]
    plan = RunPlan("oven", START, ClockAnchor(START, 0), devices=devices, signals=signals)
    with NexusWriter(path, plan) as writer:
        resistance = 80.0 * (1.0 + 3e-3 * (truly - 20.0) - 4e-7 * (truly - 20.0) ** 2)
        writer.append_signal("chip.resistance", resistance + rng.normal(0, 0.02, time.size), time)
        writer.append_signal("furnace.temperature", truly + rng.normal(0, 0.1, time.size), time)
        writer.append_signal("furnace.output", 0.01 * truly + rng.normal(0, 0.001, time.size), time)
    return path


def calibrated(run: Path, folder: Path, *more: str) -> int:
    words = ["chip.resistance", "furnace.temperature", "--out", str(folder / "chip.toml"), "--serial", "W43"]
    return main(["calibrate", str(run), *words, "--by", "A. Uthor", *more])


def test_a_run_with_plateaus_is_enough(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrated(recorded, tmp_path) == 0
    said = capsys.readouterr().out
    certificate = load(tmp_path / "chip.toml")
    assert certificate.evidence["points"] == 6
    curve = curve_of(certificate, "Ohm")
    t = np.linspace(30.0, 500.0, 100)
    left = curve.values(80.0 * (1.0 + 3e-3 * (t - 20.0) - 4e-7 * (t - 20.0) ** 2)) - t
    assert np.abs(left).max() < 0.3
    assert "6 points" in said
    assert 'use it in a lab file: calibration.resistance = "' in said
    assert (tmp_path / "chip.png").stat().st_size > 10_000


def test_a_simpler_curve_is_named_and_left_to_who_knows_the_sensor(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["calibrate", str(recorded), "furnace.output", "furnace.temperature", "--by", "A. Uthor"]
    assert main([*words, "--out", str(tmp_path / "cubic.toml")]) == 0
    assert "AICc would take a polynomial of degree 1 (" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "line.toml"), "--degree", "1"]) == 0
    assert "AICc" not in capsys.readouterr().out
    cubic, line = (curve_of(load(tmp_path / name), "V") for name in ("cubic.toml", "line.toml"))
    assert float(cubic(5.0).uncertainty) > float(line(5.0).uncertainty)


def test_what_came_of_a_run_calibrates_that_run(recorded: Path, tmp_path: Path) -> None:
    run = Path(shutil.copy(recorded, tmp_path / "run.nxs"))
    assert calibrated(run, tmp_path, "--picture", str(tmp_path / "seen.png")) == 0
    assert (tmp_path / "seen.png").exists()
    assert main(["recalibrate", str(run), "--certificate", str(tmp_path / "chip.toml")]) == 0


def test_a_new_certificate_remembers_the_one_before(recorded: Path, tmp_path: Path) -> None:
    assert calibrated(recorded, tmp_path, "--degree", "2") == 0
    old = (tmp_path / "chip.toml").rename(tmp_path / "old.toml")
    assert calibrated(recorded, tmp_path, "--replaces", str(old)) == 0
    assert load(tmp_path / "chip.toml").history == (load(old).hash,)


def test_what_is_wrong_with_a_run_or_a_file_is_told(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrated(recorded, tmp_path, "--window", "80") == 1
    assert "were never both steady for 80 s" in capsys.readouterr().err
    assert main(["calibrate", str(recorded), "chip.resistance", "--out", str(tmp_path / "x.toml")]) == 1
    assert "against which signal of the run" in capsys.readouterr().err
    PointFile(tmp_path / "a.points", AXES)
    with pytest.raises(RecordError, match="has points of heater.temperature"):
        PointFile(tmp_path / "a.points", Axes("oven.temperature", "degC", "", "degC"))
    (tmp_path / "b.points").write_text("rubbish\n")
    with pytest.raises(RecordError, match="holds no calibration points"):
        PointFile(tmp_path / "b.points", AXES)


LAB = """
schema = 1
[devices.heater]
driver = "eurotherm_3504"
"""


class Terminal:
    """`hal calibrate` as a process, and somebody who types."""

    def __init__(self, folder: Path, *words: str) -> None:
        (folder / "lab.toml").write_text(LAB)
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "hal.cli", "calibrate", "lab.toml", "heater.temperature", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        self.said = b""

    def until(self, text: bytes) -> None:
        assert self.process.stdout is not None
        seen = len(self.said)
        while text not in self.said[seen:]:
            more = os.read(self.process.stdout.fileno(), 4096)
            assert more, self.said.decode()
            self.said += more

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()


@pytest.mark.real_clock
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole consoles only")
def test_ctrl_c_at_the_terminal_leaves_the_points_and_ends_in_order(tmp_path: Path) -> None:
    words = ["--set", "heater.setpoint", "--at", "30,40,50", "--unit", "degC", "--window", "1", "--within", "0.5"]
    terminal = Terminal(tmp_path, *words, "--out", "c.toml")
    terminal.until(b"What does the reference say, in degC?")
    terminal.type("26.3")
    terminal.until(b"What does the reference say, in degC?")
    terminal.process.send_signal(signal.SIGINT)
    said, _ = terminal.process.communicate(timeout=60)
    assert terminal.process.returncode == 130, said.decode()
    assert b"points taken so far (1) are in c.points; the same command goes on from there" in said
    assert [point.y for point in PointFile(tmp_path / "c.points", AXES).points] == [26.3]
    assert not (tmp_path / "c.toml").exists()
