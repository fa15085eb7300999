"""Certificates in a lab file: applied beside the raw signal, refused when they are not this sensor's, and recorded."""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import toy

from calibration.certificate import Certificate, load
from hal import Lab
from hal.cli.look import work_check
from hal.clock.timebase import Timebase
from hal.errors import ConfigError, InterlockTripped
from hal.model.reading import Quality
from hal.recording.reader import open_run
from hal.runtime.config import parse

LINE = {"unit_in": "degC", "unit_out": "degC", "coefficients": [5.0, 0.98], "valid": [0.0, 400.0],
        "covariance": [[0.09, 0.0], [0.0, 1e-6]]}  # fmt: skip


def certified(folder: Path, name: str = "chip.toml", kind: str = "curve.polynomial", **changed: Any) -> str:
    given: dict[str, Any] = {
        "kind": kind, "device": "chip W43", "serial": "", "made": datetime(2026, 5, 1, tzinfo=UTC), "by": "A. Uthor",
        "reference": "a bath", "result": LINE,
    }  # fmt: skip
    Certificate(**given | changed).save(folder / name)
    return name


def lab_file(folder: Path, calibration: str, *more: str) -> Path:
    toys = toy.TOYS.replace("[devices.oven]", f"{calibration}\n\n[devices.oven]")
    return toy.write_lab(folder, *more, toys=toys)


@pytest.mark.usefixtures("in_memory")
async def test_a_calibrated_signal_stands_beside_the_raw_one(tmp_path: Path) -> None:
    path = lab_file(tmp_path, f'calibration.temperature = "{certified(tmp_path)}"')
    async with Lab.open(path) as lab:
        heater: Any = lab.devices["heater"]
        await heater.ramp(to=100.0, rate=50.0)
        raw = await heater.temperature.get()
        reading = await heater.temperature_calibrated.read()
        assert raw == pytest.approx(100.0, abs=1.0)
        assert reading.value == pytest.approx(5.0 + 0.98 * raw, abs=1e-6)
        assert reading.uncertainty == pytest.approx((0.09 + 1e-6 * raw**2) ** 0.5, rel=1e-3)
        assert (reading.unit, reading.quality) == ("degC", Quality.GOOD)
        assert lab.signal("heater.temperature_calibrated") is heater.temperature_calibrated


@pytest.mark.usefixtures("in_memory")
async def test_both_are_answered_by_one_question(tmp_path: Path) -> None:
    path = lab_file(tmp_path, f'calibration.temperature = "{certified(tmp_path)}"')
    async with Lab.open(path) as lab:
        heater: Any = lab.devices["heater"]
        raw: list[Any] = []
        made: list[Any] = []
        heater.temperature.subscribe(raw.append)
        heater.temperature_calibrated.subscribe(made.append)
        await asyncio.sleep(1.0)
        assert len(made) > 5
        by_time = {reading.time: reading.value for reading in raw}
        assert all(m.value == pytest.approx(5.0 + 0.98 * by_time[m.time]) for m in made)


@pytest.mark.usefixtures("in_memory")
async def test_beyond_its_range_a_calibrated_value_is_uncertain(tmp_path: Path) -> None:
    name = certified(tmp_path, result=LINE | {"valid": [30.0, 60.0]})
    async with Lab.open(lab_file(tmp_path, f'calibration.temperature = "{name}"')) as lab:
        heater: Any = lab.devices["heater"]
        await heater.ramp(to=100.0, rate=50.0)
        reading = await heater.temperature_calibrated.read()
        assert reading.quality is Quality.UNCERTAIN
        assert "beyond 30 to 60 degC, where certificate chip.toml holds" in reading.reason


@pytest.mark.usefixtures("in_memory")
async def test_an_interlock_can_watch_a_calibrated_signal(tmp_path: Path) -> None:
    calibration = f'calibration.temperature = "{certified(tmp_path)}"'
    keep = '[[interlocks]]\nname = "hot"\nkeep = "heater.temperature_calibrated < 350 K"'
    with pytest.raises(InterlockTripped, match="temperature_calibrated"):
        async with Lab.open(lab_file(tmp_path, calibration, keep)) as lab:
            await lab.devices["heater"].ramp(to=100.0, rate=50.0)  # type: ignore[attr-defined]
            await asyncio.sleep(5.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expires": date(2026, 6, 1)}, r"heater\.calibration\.temperature: chip\.toml: it expired on 2026-06-01"),
        ({"result": LINE | {"unit_in": "Pa", "unit_out": "V"}}, "takes Pa to V, and the signal is in degC"),
        ({"result": LINE | {"coefficients": [0.0, 1.0, -0.01], "covariance": [[0.0] * 3] * 3}}, "turns back at 50"),
        ({"kind": "curve.platinum", "result": {"unit_in": "degC", "unit_out": "Ohm"}},
         "takes Ohm to degC, and the signal is in degC"),
        ({"result": LINE | {"unit_in": "V"}}, "takes V to degC, and the signal is in degC; name the certificate of"),
        ({"result": LINE | {"unit_out": "mV"}}, "takes degC to mV, and the signal is in degC"),
        ({"kind": "delay.camera", "result": {"delay_s": 1.0}}, "which is no curve"),
        ({"result": LINE | {"unit_in": "mV/V"}}, "unknown unit 'mV/V'"),
    ],
)  # fmt: skip
def test_a_bent_certificate_is_refused_before_anything_is_opened(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    certified(tmp_path, **change)
    with pytest.raises(ConfigError, match=message) as refused:
        parse(lab_file(tmp_path, 'calibration.temperature = "chip.toml"').read_text(), tmp_path / "lab.toml")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ('calibration.temperature = "edited.toml"', "changed after it was made"),
        ('calibration.temperature = "none.toml"', "there is no file"),
        ('calibration.setpoint = "chip.toml"', "is set, not measured"),
        ('calibration.output = "chip.toml"', "is no number"),
        ('calibration = "chip.toml"', r"holds the curve of one signal.*write calibration\.SIGNAL"),
        ('calibration.temprature = "chip.toml"', "did you mean 'temperature'"),
        ('calibration.temperature = { certificate = "edited.toml", override = "trust me" }', "changed after it was"),
        (
            'calibration = { temperature = "chip.toml", temperature_calibrated = "chip.toml" }',
            "temperature_calibrated is calibrated already; name the raw signal, temperature",
        ),
        ('calibration.temperature = "huge.toml"', "has 2000000 bytes; no certificate is so large"),
        ('calibration.temperature = "."', "can't be read"),
        ('calibration.temperature = "chip.toml"\ncalibration.temperature = "chip.toml"', "not valid TOML"),
    ],
)
def test_a_wrong_entry_is_told(tmp_path: Path, calibration: str, message: str) -> None:
    certified(tmp_path)
    edited = (tmp_path / "chip.toml").read_text().replace("0.98", "0.99")
    (tmp_path / "edited.toml").write_text(edited)
    (tmp_path / "huge.toml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(ConfigError, match=message):
        parse(lab_file(tmp_path, calibration).read_text(), tmp_path / "lab.toml")


@pytest.mark.usefixtures("in_memory")
async def test_somebody_elses_certificate_is_refused_when_the_lab_opens(tmp_path: Path) -> None:
    name = certified(tmp_path, serial="W43-B7")
    told = r"made for chip W43 with the serial number 'W43-B7', and what is connected says '.*heater.*override"
    with pytest.raises(ConfigError, match=told):
        async with Lab.open(lab_file(tmp_path, f'calibration.temperature = "{name}"')):
            pass


@pytest.mark.usefixtures("in_memory")
async def test_the_holder_that_the_lab_file_names_may_be_the_one_that_was_calibrated(tmp_path: Path) -> None:
    name = certified(tmp_path, serial="W43-B7")
    holder = '[holder]\nname = "double tilt"\nserial = "W43-B7"'
    async with Lab.open(lab_file(tmp_path, f'calibration.temperature = "{name}"', holder)) as lab:
        assert await lab.signal("heater.temperature_calibrated").get() > 0.0


@pytest.mark.usefixtures("in_memory")
async def test_an_override_and_its_reason_go_on_the_record_with_certificate_and_raw_values(tmp_path: Path) -> None:
    name = certified(tmp_path, serial="W43-B7", expires=date(2026, 6, 1))
    entry = f'calibration.temperature = {{ certificate = "{name}", override = "no other chip until Monday" }}'
    async with Lab.open(lab_file(tmp_path, entry)) as lab:
        async with lab.record(tmp_path, sample="gold") as run:
            await run.hold(2.0)
    with open_run(run.path) as read:
        assert read.devices["heater"].certificates == {name: (tmp_path / name).read_text()}
        raw, made = read.signals["heater.temperature"], read.signals["heater.temperature_calibrated"]
        assert (made.raw, made.certificate) == ("heater.temperature", name)
        at = dict(zip(raw.time, raw.value, strict=True))
        assert len(made) > 10
        assert all(m == pytest.approx(5.0 + 0.98 * at[t]) for t, m in zip(made.time, made.value, strict=True))
        said = [event for event in read.events if event.kind == "calibration"]
        assert [event.data for event in said] == [{"override": "no other chip until Monday"}]
        assert said[0].text.startswith("temperature_calibrated: certificate chip.toml is used by override")


# ---------------------------------------------------------------------- whose certificate, and how long still


def signed_lab(folder: Path, text: str, public: str) -> Path:
    (folder / "chip.toml").write_text(text)
    return lab_file(folder, 'calibration.temperature = "chip.toml"', f'[calibration.signed_by]\n"our lab" = "{public}"')


def test_a_lab_that_demands_a_signature_takes_only_that_one(tmp_path: Path) -> None:
    signing = pytest.importorskip("calibration.signing")
    pytest.importorskip("cryptography")
    certified(tmp_path, "plain.toml")
    plain = load(tmp_path / "plain.toml")
    ours, theirs = (signing.new_key(tmp_path / name) for name in ("ours.pem", "theirs.pem"))
    good = signing.sign(plain, tmp_path / "ours.pem")
    path = signed_lab(tmp_path, good, ours.upper())
    assert parse(path.read_text(), path).calibrations["heater"]["temperature"].text == good
    for text, why in [
        (plain.text(), "it is not signed"),
        (signing.sign(plain, tmp_path / "theirs.pem"), "none of our lab"),
        (good.replace(ours, theirs), "none of our lab"),
        (good.replace('signature = "', 'signature = "00'), "was changed after it was signed"),
    ]:
        path = signed_lab(tmp_path, text, ours)
        with pytest.raises(ConfigError, match=why):
            parse(path.read_text(), path)
    assert theirs != ours


def test_an_override_is_no_signature(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    entry = f'calibration.temperature = {{ certificate = "{certified(tmp_path)}", override = "trust me" }}'
    path = lab_file(tmp_path, entry, f'[calibration.signed_by]\n"our lab" = "{"0" * 64}"')
    with pytest.raises(ConfigError, match="not signed"):
        parse(path.read_text(), path)


def test_a_key_that_is_none_is_told(tmp_path: Path) -> None:
    path = lab_file(tmp_path, "", '[calibration]\nsigned_by = { us = "laboratory.pem" }')
    with pytest.raises(ConfigError, match=r"calibration\.signed_by\.us"):
        parse(path.read_text(), path)


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize(("days", "told"), [(0, True), (30, True), (31, False)])
async def test_a_certificate_that_soon_expires_is_told_some_days_ahead(tmp_path: Path, days: int, told: bool) -> None:
    name = certified(tmp_path, expires=datetime.now(UTC).date() + timedelta(days=days))
    async with Lab.open(lab_file(tmp_path, f'calibration.temperature = "{name}"')) as lab:
        texts = [event.text for event in lab.context.journal.recent if event.kind == "calibration"]
        assert texts == (
            [f"temperature: certificate chip.toml expires in {days} days; calibrate anew before that"] * told
        )
        assert await lab.signal("heater.temperature_calibrated").get() > 0.0


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("override", ["", "no other chip until Monday"])
async def test_a_certificate_that_expires_while_the_lab_is_open_leaves_its_values_in_doubt(
    tmp_path: Path, override: str
) -> None:
    name, last = certified(tmp_path, expires=datetime.now(UTC).date() + timedelta(days=1)), datetime.now(UTC).date()
    entry = f'calibration.temperature = {{ certificate = "{name}", override = "{override}" }}'
    async with Lab.open(lab_file(tmp_path, entry)) as lab:
        calibrated: Any = lab.signal("heater.temperature_calibrated")
        assert (await calibrated.read()).quality is Quality.GOOD
        anchor = lab.context.timebase.anchor
        lab.context.timebase = Timebase(time.perf_counter_ns, replace(anchor, epoch=anchor.epoch + 2 * 86_400 * 10**9))
        found = [await calibrated.read() for _ in range(3)]
        assert all(reading.value == pytest.approx(5.0 + 0.98 * 20.0, abs=1.0) for reading in found)
        told = [event.text for event in lab.context.journal.recent if event.kind == "error"]
        if override:
            assert (found[0].quality, told) == (Quality.GOOD, [])
            return
        why = f"certificate chip.toml expired on {last + timedelta(days=1)}, while the lab was open"
        assert {(reading.quality, reading.reason) for reading in found} == {(Quality.UNCERTAIN, why)}
        assert told == [f"temperature: {why}; calibrate anew"]


@pytest.mark.usefixtures("in_memory")
async def test_a_certificate_for_ever_is_one(tmp_path: Path) -> None:
    name = certified(tmp_path, expires=date.max)
    async with Lab.open(lab_file(tmp_path, f'calibration.temperature = "{name}"')) as lab:
        assert (await lab.signal("heater.temperature_calibrated").read()).quality is Quality.GOOD


@pytest.mark.usefixtures("in_memory")
def test_checking_a_lab_tells_of_somebody_elses_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = certified(tmp_path, serial="W43-B7")
    lab = lab_file(tmp_path, f'calibration.temperature = "{name}"')
    assert work_check(argparse.Namespace(lab=lab, offline=False, json=False)) == 1
    assert "made for chip W43 with the serial number 'W43-B7'" in capsys.readouterr().out
