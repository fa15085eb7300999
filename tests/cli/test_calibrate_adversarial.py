"""`hal calibrate` on a bad day: plugs pulled, Ctrl-C at every prompt, rubbish typed, files torn, two points only."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy

from calibration.certificate import load
from calibration.certified import curve_of
from hal import Lab
from hal.cli import build, main
from hal.cli.calibrate import Terminal, certify, collect
from hal.errors import ConfigError, HalError, NoReply, RecordError
from hal.recording import ClockAnchor, DevicePlan, NexusWriter, RunPlan, SignalPlan
from hal.recording.points import Axes, Point, PointFile, mean_of
from hal.runtime.take_points import guide

AXES = Axes("heater.temperature", "degC", "", "degC")
in_memory = toy.in_memory
START = 1_780_000_000_000_000_000


class Typist:
    """Types one answer after the other; then Ctrl-C."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, question: str) -> str:
        self.asked.append(question)
        if not self.answers:
            raise KeyboardInterrupt
        return self.answers.pop(0)


def by_hand(lab: Any, **more: Any) -> Any:
    how: dict[str, Any] = {"reference_unit": "degC", "window": 1.0, "within": 0.5, "typed_uncertainty": 0.05}
    return guide(lab, "heater.temperature", "", **how | more)


def silent(_: str) -> None:
    """Nobody listens."""


# ---------------------------------------------------------------------- at the prompts


@pytest.mark.usefixtures("in_memory")
async def test_rubbish_is_asked_again_and_no_point_is_made_of_it(tmp_path: Path) -> None:
    typist = Typist("dnoe", "", "26,3", "nan", "", "1e999", "26.3", "done")
    said: list[str] = []
    async with Lab.open(toy.write_lab(tmp_path)) as lab:
        file = PointFile(tmp_path / "a.points", AXES)
        await collect(lab, by_hand(lab), file, typist, said.append)
    assert [point.y for point in file.points] == [26.3]
    assert typist.asked[1] == "'dnoe' is neither; press Enter for the next point, or type `done`: "
    assert sum("is no number; type one such as 26.3" in text for text in said) == 4


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("prompt", range(5))
async def test_ctrl_c_at_any_prompt_keeps_the_points_before_it(tmp_path: Path, prompt: int) -> None:
    answers = ["", "20.1", "", "20.2", ""][:prompt]
    with pytest.raises(KeyboardInterrupt):
        async with Lab.open(toy.write_lab(tmp_path)) as lab:
            await collect(lab, by_hand(lab), PointFile(tmp_path / "a.points", AXES), Typist(*answers), silent)
    assert [point.y for point in PointFile(tmp_path / "a.points", AXES).points] == [20.1, 20.2][: prompt // 2]


@pytest.mark.real_clock
async def test_a_terminal_that_is_closed_ends_it_and_is_not_taken_for_done(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        os.write(writer, b" 26.3 \ndon")
        terminal = Terminal()
        assert await terminal.ask("") == "26.3"
        os.close(writer)
        with pytest.raises(HalError, match="nobody can type any more: the terminal was closed"):
            await terminal.ask("")


# ---------------------------------------------------------------------- plugs


@pytest.mark.usefixtures("in_memory")
async def test_a_plug_that_is_pulled_within_a_window_makes_no_point_of_what_came_before(tmp_path: Path) -> None:
    async with Lab.open(toy.write_lab(tmp_path)) as lab:
        file = PointFile(tmp_path / "a.points", AXES)
        how = by_hand(lab, window=5.0, patience=12.0)
        taking = asyncio.create_task(collect(lab, how, file, Typist("", "20.0", "done"), silent))
        await asyncio.sleep(2.5)  # half a window of steady readings
        lab.emulation.emulator("heater").silent.add("TEMP?")  # type: ignore[union-attr]
        with pytest.raises(
            NoReply, match=r"heater\.temperature gave too few good readings in the last 5 s; look at the c"
        ):
            await taking
    assert file.points == []


@pytest.mark.usefixtures("in_memory")
async def test_a_link_that_is_lost_ends_it_with_the_points_taken(tmp_path: Path) -> None:
    place = tmp_path / "a.points"
    with pytest.raises(HalError):
        async with Lab.open(toy.write_lab(tmp_path)) as lab:
            how = guide(lab, "heater.temperature", "", setpoint="heater.setpoint", steps=[20.0, 25.0],
                        reference_unit="degC", window=1.0, within=0.5, patience=20.0)  # fmt: skip

            async def pulls(_: str) -> str:
                for port in toy.MemoryPort.open_ports.values():
                    port.unplug()
                return "20.0"

            await collect(lab, how, PointFile(place, AXES), pulls, silent)
    assert [point.y for point in PointFile(place, AXES).points] == [20.0]


@pytest.mark.usefixtures("in_memory")
async def test_what_is_calibrated_already_is_not_calibrated_again(tmp_path: Path) -> None:
    from calibration.certificate import Certificate

    Certificate(
        kind="curve.polynomial", device="d", serial="", made=datetime(2026, 5, 1, tzinfo=UTC), by="A", reference="r",
        result={"unit_in": "degC", "unit_out": "degC", "coefficients": [1.0, 1.0], "valid": [0.0, 400.0]},
    ).save(tmp_path / "c.toml")  # fmt: skip
    toys = toy.TOYS.replace("[devices.oven]", 'calibration.temperature = "c.toml"\n\n[devices.oven]')
    async with Lab.open(toy.write_lab(tmp_path, toys=toys)) as lab:
        with pytest.raises(ConfigError, match=r"calibrated already; name the raw signal, heater\.temperature"):
            guide(lab, "heater.temperature_calibrated", "", reference_unit="degC")


# ---------------------------------------------------------------------- files


def test_a_point_torn_by_a_power_cut_costs_that_point_only(tmp_path: Path) -> None:
    place = tmp_path / "a.points"
    file = PointFile(place, AXES)
    for y in (1.0, 2.0):
        file.add(Point(0, y, 0.1, y, 0.1, 9))
    whole = place.read_bytes()
    for cut in range(1, 40):
        place.write_bytes(whole + whole.splitlines(keepends=True)[-1][:cut])
        again = PointFile(place, AXES)
        assert [point.y for point in again.points] == [1.0, 2.0]
        again.add(Point(0, 3.0, 0.1, 3.0, 0.1, 9))
        assert [point.y for point in PointFile(place, AXES).points] == [1.0, 2.0, 3.0]


def test_a_points_file_that_was_torn_at_its_first_line_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.points").write_text('{"axes": {"sig')
    with pytest.raises(RecordError, match="holds no calibration points"):
        PointFile(tmp_path / "a.points", AXES)


# ---------------------------------------------------------------------- gone on with


def begun(place: Path, *steps: float | None, serial: str = "W43") -> PointFile:
    """A points file with points at these setpoints."""
    file = PointFile(place, AXES, serial)
    for step in steps:
        file.add(Point(START, step or 20.0, 0.1, step or 20.0, 0.1, 9, step))
    return file


def test_another_list_of_setpoints_is_noticed_and_a_longer_one_is_welcome(tmp_path: Path) -> None:
    file = begun(tmp_path / "a.points", 50.0, 100.0)
    again = PointFile(tmp_path / "a.points", AXES, "W43")
    assert again.points == file.points
    for steps in ([50.0, 100.0], [50.0, 100.0, 150.0]):
        again.fit_into(steps)
    for steps, asked in (([50.0, 150.0], "50, 150"), ([100.0, 50.0], "100, 50"), ([50.0], "50")):
        with pytest.raises(RecordError, match=rf"has points at 50, 100, and those asked for now are {asked}; ask for"):
            again.fit_into(steps)
    with pytest.raises(RecordError, match="has points at by hand, and those asked for now are 50"):
        begun(tmp_path / "b.points", None).fit_into([50.0])


def test_points_of_another_chip_are_not_gone_on_with(tmp_path: Path) -> None:
    begun(tmp_path / "a.points", 50.0)
    with pytest.raises(RecordError, match=r"the serial number 'W43', not 'W44'; name another file .*--points"):
        PointFile(tmp_path / "a.points", AXES, "W44")


@pytest.mark.usefixtures("in_memory")
async def test_going_on_says_where_and_since_when_and_nothing_is_set_for_another_list(tmp_path: Path) -> None:
    said: list[str] = []
    async with Lab.open(toy.write_lab(tmp_path)) as lab:
        await lab.signal("heater.ramp_rate").set(50.0)
        file = begun(tmp_path / "a.points", 20.0, 25.0)
        with pytest.raises(RecordError, match="those asked for now are 20, 30"):
            await collect(lab, by_hand(lab, setpoint="heater.setpoint", steps=[20.0, 30.0]), file, Typist(), silent)
        assert await lab.signal("heater.setpoint").get() == 20.0
        await collect(
            lab, by_hand(lab, setpoint="heater.setpoint", steps=[20.0, 25.0, 30.0]), file, Typist("30.1"), said.append
        )
    assert said[0].startswith("going on with the 2 points in ")
    assert said[0].endswith("taken 2026-05-28 20:26 UTC to 2026-05-28 20:26 UTC")
    assert said[1] == "point 3 of 3: heater.setpoint = 30 degC"
    assert [point.step for point in file.points] == [20.0, 25.0, 30.0]


# ---------------------------------------------------------------------- arguments and points


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--window", "nan"], "is no number from 0 on"), (["--window", "0"], "is not above 0"),
        (["--at", "100,,200"], "no list of numbers"), (["--at", "100,inf"], "no list of numbers"),
        (["--typed-uncertainty", "-1"], "is no number from 0 on"), (["--reference-uncertainty", "x"], "is no number"),
        (["--expires", "2020-01-01"], "is over"), (["--expires", "soon"], "is no day such as"),
        (["--patience", "-1"], "is no number from 0 on"), (["--degree", "9"], "invalid choice"),
    ],
)  # fmt: skip
def test_rubbish_on_the_command_line_is_told_at_once(
    words: Sequence[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build().parse_args(["calibrate", "lab.toml", "heater.temperature", "--out", "c.toml", *words])
    assert why in capsys.readouterr().err


def certificate_of(points: list[Point], *words: str) -> Any:
    options = build().parse_args(
        ["calibrate", "lab.toml", "heater.temperature", "--out", "c.toml", "--by", "A", *words]
    )
    return certify(AXES, points, options)


def point(x: float, y: float, u: float = 0.1) -> Point:
    return Point(0, x, u, y, u, 10)


def test_a_point_that_did_not_scatter_does_not_free_the_others_of_their_errors() -> None:
    """A signal that is shown in steps often gives the same reading throughout a window."""
    points = [point(0.0, 0.0, 0.01), point(50.0, 50.0, 0.01), point(100.0, 100.0, 0.01)]
    points = [replace(p, u_x=u) for p, u in zip(points, (1.0, 0.0, 1.0), strict=True)]
    _, fitted = certificate_of(points)
    assert float(fitted.curve.own(0.0)) > 0.3


def test_points_that_lie_too_far_off_widen_the_certificate_and_say_so() -> None:
    y = [0.0, 25.3, 49.8, 75.2, 99.7]
    good = [point(x, x, 0.01) for x in (0.0, 25.0, 50.0, 75.0, 100.0)]
    far = [replace(p, y=value) for p, value in zip(good, y, strict=True)]
    certificate, fitted = certificate_of(far, "--degree", "1")
    assert (certificate.evidence["scatter"], fitted.scatter) == ("observed", "observed")
    assert certificate.result["degrees_of_freedom"] == 3.0
    low, high = fitted.band(50.0)
    assert low + 0.3 < 50.0 < high - 0.3
    certificate, fitted = certificate_of([replace(p, y=p.y + 0.01) for p in good], "--degree", "1")
    assert (certificate.evidence["scatter"], "degrees_of_freedom" in certificate.result) == ("given", False)


@pytest.mark.parametrize("times", [1, 5])
def test_readings_of_one_measurement_are_not_taken_for_many(times: int) -> None:
    """An instrument that measures twice a second and is asked ten times tells every value five times."""
    random, nothing = np.random.default_rng(0), np.full(200, np.nan)
    means = [mean_of(np.repeat(random.normal(0.0, 1.0, 200 // times), times), nothing) for _ in range(400)]
    steady = [mean for mean in means if mean.steady]
    true = np.std([mean.value for mean in steady])
    assert 0.9 * true < np.median([mean.uncertainty for mean in steady]) < 1.4 * true


@pytest.mark.parametrize(("count", "degree"), [(2, 1), (3, 1), (4, 1), (5, 2), (6, 3), (20, 3)])
def test_the_degree_leaves_two_points_that_check_the_curve(count: int, degree: int) -> None:
    _, fitted = certificate_of([point(x, x) for x in np.linspace(0.0, 100.0, count)])
    assert fitted.form.size == degree + 1


def test_a_bend_that_the_points_hardly_show_is_within_what_the_certificate_says() -> None:
    """A form that the points themselves chose held the truth at mid-range in half of such calibrations, not in 95 %."""
    random, x = np.random.default_rng(0), np.linspace(0.0, 100.0, 8)
    inside = []
    for _ in range(24):
        y = x + 0.1 * (8.0 * (x / 100.0 - 0.5) ** 2 - 1.0) + 0.1 * random.standard_normal(8)
        certificate, _ = certificate_of([replace(point(a, b), u_x=0.0) for a, b in zip(x, y, strict=True)])
        found = curve_of(certificate)(50.0)
        inside.append(abs(float(found.value) - 49.9) <= float(found.expanded()))
    assert np.mean(inside) > 0.8


def test_two_points_make_a_line_that_says_that_nothing_checks_it() -> None:
    certificate, fitted = certificate_of([point(0.0, 1.0), point(100.0, 99.0)])
    assert len(certificate.result["coefficients"]) == 2
    assert fitted.curve.values(50.0) == pytest.approx(50.0)
    assert "no other point checks it" in str(fitted)
    assert float(fitted.curve.own(50.0)) > 0.05  # the points' own uncertainties, in both


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([], "no certificate was written"),
        ([point(1.0, 1.0)], "1 points can't tell"),
        ([point(1.0, 1.0), point(1.0, 2.0)], "the same x"),
        ([point(0.0, 1.0, 0.0), point(1.0, 2.0, 0.0)], "scatter"),
        ([point(x, 5.0) for x in (0.0, 1.0, 2.0, 3.0)], "flat"),
        ([point(x, (x - 2.0) ** 2, 0.01) for x in np.arange(5.0)], "turns back"),
        ([point(0.0, 1.0), point(1.0, float("nan"))], "no certificate was written"),
    ],
)
def test_points_that_make_no_certificate_are_told_in_one_sentence(points: list[Point], why: str) -> None:
    with pytest.raises(RecordError, match=why) as told:
        certificate_of(points)
    assert "\n" not in str(told.value)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A furnace at one temperature, with a signal that never read anything good."""
    path = tmp_path_factory.mktemp("short") / "run.nxs"
    time = START + np.arange(300) * 100_000_000
    signals = [SignalPlan(f"chip.{name}", "Ohm", "Ohm", "ohm") for name in ("resistance", "dead")]
    signals += [SignalPlan("furnace.temperature", "degC", "Cel", "degC"), SignalPlan("furnace.state", kind="str")]
    plan = RunPlan("oven", START, ClockAnchor(START, 0), devices=[DevicePlan("chip", "m"), DevicePlan("furnace", "m")],
                   signals=signals)  # fmt: skip
    with NexusWriter(path, plan) as writer:
        rng = np.random.default_rng(0)
        writer.append_signal("chip.resistance", 80.0 + rng.normal(0, 0.02, time.size), time)
        writer.append_signal("chip.dead", np.full(time.size, np.nan), time, quality=["bad"] * time.size)
        writer.append_signal("furnace.temperature", 25.0 + rng.normal(0, 0.1, time.size), time)
        writer.append_signal("furnace.state", ["ok"], time[:1])
    return path


@pytest.mark.parametrize(
    ("signal", "reference", "why"),
    [
        (
            "chip.temperature",
            "furnace.temperature",
            "no signal 'chip.temperature' in this run; there are chip.dead, chip.resistance",
        ),
        ("chip.resistance", "furnace.pressure", "no signal 'furnace.pressure' in this run"),
        ("chip.resistance", "furnace.state", "furnace.state is no number"),
        ("chip.dead", "furnace.temperature", "chip.dead has no good reading in this run"),
        ("chip.resistance", "furnace.temperature", "1 points can't tell"),
    ],
)
def test_a_run_that_can_not_tell_says_why(
    short_run: Path, tmp_path: Path, signal: str, reference: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(short_run), signal, reference, "--out", str(tmp_path / "c.toml")]) == 1
    told = capsys.readouterr().err
    assert why in told
    assert "Traceback" not in told
    assert not (tmp_path / "c.toml").exists()


def test_a_folder_that_is_not_there_is_told_with_the_points_kept(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="can't be written"):
        PointFile(tmp_path / "none" / "a.points", AXES)


def test_points_are_what_json_makes_of_them(tmp_path: Path) -> None:
    file = PointFile(tmp_path / "a.points", AXES)
    file.add(point(1.0, 2.0))
    head, row = (json.loads(line) for line in (tmp_path / "a.points").read_text().splitlines())
    assert (head["axes"]["signal"], row["y"]) == ("heater.temperature", 2.0)


def test_an_expiry_of_today_is_still_to_come(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    for day in (today, today + timedelta(1)):
        certificate, _ = certificate_of([point(0.0, 1.0), point(9.0, 9.0)], "--expires", str(day))
        assert load(certificate.save(tmp_path / f"{day}.toml")).expires == day
