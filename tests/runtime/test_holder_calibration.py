"""A holder plugged in brings its calibration along, in the EEPROM of a real board; and takes it away again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from calibration.certificate import Certificate, parse
from calibration.teds import shorten
from devices.insitu_mcu.emulator import HOLDER, EmulatedBoard
from devices.insitu_mcu.teds import ROOM, DataSheet
from devices.physics import World
from hal import Lab
from hal.instrument.bench import Bench
from hal.model.reading import Quality
from hal.recording import open_run
from hal.telemetry.descriptions import describe

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc")]

LINE: dict[str, Any] = {
    "unit_in": "degC", "unit_out": "degC", "coefficients": [4.0, 0.98], "valid": [0.0, 900.0],
    "covariance": [[0.09, 0.0], [0.0, 1e-6]], "signal": "board.temperature",
}  # fmt: skip


def certificate(serial: str = "GC-0007", **changed: Any) -> Certificate:
    given: dict[str, Any] = {
        "kind": "curve.polynomial", "device": "gas cell", "serial": serial, "made": datetime(2026, 5, 1, tzinfo=UTC),
        "by": "A. Uthor", "reference": "a bath", "result": LINE,
    }  # fmt: skip
    return Certificate(**given | changed)


def holder(serial: str = "GC-0007", **changed: Any) -> DataSheet:
    """A holder with its certificate in it."""
    return replace(
        HOLDER, model="gas cell", serial=serial, certificate=shorten(certificate(serial, **changed), serial, ROOM)
    )


BARE = replace(HOLDER, model="gas cell", serial="GC-0007")


def plug_in(board: EmulatedBoard, sheet: DataSheet) -> None:
    """The holder with this data sheet, for when the board starts."""
    board._eeprom.write_bytes(sheet.packed().ljust(4096, b"\xff"))


@pytest.fixture
async def board() -> AsyncIterator[EmulatedBoard]:
    opened = await EmulatedBoard("posix", Bench(World())).open()
    yield opened
    await opened.close()


def lab_file(folder: Path, board: EmulatedBoard, *more: str) -> Path:
    lines = [
        "schema = 1", "[devices.board]", 'driver = "insitu_mcu"', f'link = "{board.url}"', 'on_link_lost = "reconnect"',
        *more,
    ]  # fmt: skip
    (folder / "lab.toml").write_text("\n".join(lines) + "\n")
    return folder / "lab.toml"


async def restart(board: EmulatedBoard, sheet: DataSheet) -> None:
    """Switch off, exchange the holder, switch on."""
    board.unplug()
    plug_in(board, sheet)
    await board.plug()


async def reading_of(lab: Lab, within: float = 8.0) -> Any:
    """A calibrated reading, once the board speaks again."""
    async with asyncio.timeout(within):
        while (await lab.signal("board.temperature").read()).value is None:
            await asyncio.sleep(0.05)
    return await lab.signal("board.temperature_calibrated").read()


def said(lab: Lab, text: str) -> bool:
    return any(text in event.text for event in lab.context.journal.recent)


async def test_a_certificate_written_into_a_holder_is_applied_by_a_lab_that_has_no_file_for_it(
    board: EmulatedBoard, tmp_path: Path
) -> None:
    plug_in(board, BARE)
    await restart(board, BARE)
    path = lab_file(tmp_path, board)
    async with Lab.open(path) as lab:
        device: Any = lab.devices["board"]
        assert not hasattr(device, "temperature_calibrated")
        sheet = await device.read_teds()
        await device.write_teds(replace(sheet, certificate=shorten(certificate(), sheet.serial, ROOM)))
    async with Lab.open(path) as lab:
        device = lab.devices["board"]
        raw = await device.temperature.get()
        reading = await device.temperature_calibrated.read()
        assert reading.value == pytest.approx(4.0 + 0.98 * raw, abs=0.5)  # it scatters
        assert reading.uncertainty == pytest.approx(0.3, abs=0.05)
        assert said(
            lab, "temperature_calibrated is by the certificate in the TEDS of gas cell GC-0007 (a bath, A. Uthor"
        )
        text = describe("lab", device.temperature_calibrated).long_name
        assert text.startswith("temperature by certificate TEDS of GC-0007, sha256:")


async def test_a_holder_exchanged_while_the_board_was_off_is_not_read_with_the_others_certificate(
    board: EmulatedBoard, tmp_path: Path
) -> None:
    await restart(board, holder())
    async with Lab.open(lab_file(tmp_path, board)) as lab:
        async with lab.record(tmp_path, sample="gold") as run:
            await run.hold(0.3)
            assert (await reading_of(lab)).quality is Quality.GOOD
            await restart(board, holder("GC-0008"))
            other = await reading_of(lab)
            assert (other.quality, other.value) == (Quality.BAD, None)
            assert other.reason == (
                "the holder GC-0007, whose TEDS brought the certificate, was exchanged: GC-0008 is there now"
            )
            assert await lab.signal("board.temperature").get() == pytest.approx(25.0, abs=2.0)
            await restart(board, holder())
            assert (await reading_of(lab)).quality is Quality.GOOD
        assert said(lab, "was exchanged: GC-0008 is there now")
        assert said(lab, "holds again: what it was made for is back")
    with open_run(run.path) as read:
        made = read.signals["board.temperature_calibrated"]
        kept = parse(read.devices["board"].certificates[made.certificate])
        assert made.certificate == f"TEDS of GC-0007, {kept.hash[:19]}"
        assert (made.raw, kept.serial) == ("board.temperature", "GC-0007")
        assert kept.evidence["shortened_from"] == certificate().hash[:23]
        assert made.valid.any()
        assert not made.valid.all()


async def test_a_files_certificate_is_refused_once_another_holder_is_plugged_in(
    board: EmulatedBoard, tmp_path: Path
) -> None:
    await restart(board, BARE)
    certificate().save(tmp_path / "gc7.toml")
    async with Lab.open(lab_file(tmp_path, board, 'calibration.temperature = "gc7.toml"')) as lab:
        assert (await reading_of(lab)).quality is Quality.GOOD
        await restart(board, replace(BARE, serial="GC-0007-B"))
        other = await reading_of(lab)
        assert (other.quality, other.value) == (Quality.BAD, None)
        assert "certificate gc7.toml does not hold any more" in other.reason
        assert "'GC-0007-B'" in other.reason
        device: Any = lab.devices["board"]
        await device.write_teds(BARE)  # no restart: the board is told who is there
        assert (await reading_of(lab)).quality is Quality.GOOD


async def test_a_file_in_the_lab_wins_and_the_journal_says_so(board: EmulatedBoard, tmp_path: Path) -> None:
    await restart(board, holder())
    certificate(result=LINE | {"coefficients": [100.0, 1.0]}).save(tmp_path / "gc7.toml")
    async with Lab.open(lab_file(tmp_path, board, 'calibration.temperature = "gc7.toml"')) as lab:
        assert await lab.signal("board.temperature_calibrated").get() > 100.0
        assert said(lab, "temperature: the lab file names a certificate; the one that gas cell GC-0007 brings")


SPOILT = bytearray(holder().certificate)
SPOILT[40] ^= 1


@pytest.mark.parametrize(
    ("sheet", "more", "why"),
    [
        (holder(expires=date(2026, 6, 1)), [], "gas cell GC-0007 is not used: it expired on 2026-06-01"),
        (replace(BARE, certificate=bytes(SPOILT)), [], "is damaged, or is another holder's; write it anew"),
        (replace(holder(), serial="GC-0009"), [], "is damaged, or is another holder's"),
        (replace(BARE, certificate=b"rubbish"), [], "is no certificate"),
        (holder(result=LINE | {"signal": "board.pressure"}), [], "it is of a signal 'pressure', which board has not"),
        (holder(result=LINE | {"signal": "board.setpoint"}), [], "setpoint is set, not measured"),
        (holder(result=LINE | {"unit_in": "V", "unit_out": "A"}), [], "it takes V to A, and the signal is in degC"),
        (holder(), ["[calibration.signed_by]", f'us = "{"0" * 64}"'], "it is not signed, as the lab file demands"),
    ],
)
async def test_a_certificate_that_can_not_be_used_is_told_and_the_lab_opens_without_it(
    board: EmulatedBoard, tmp_path: Path, sheet: DataSheet, more: list[str], why: str
) -> None:
    await restart(board, sheet)
    async with Lab.open(lab_file(tmp_path, board, *more)) as lab:
        assert not hasattr(lab.devices["board"], "temperature_calibrated")
        assert said(lab, why)
        assert await lab.signal("board.temperature").get() == pytest.approx(25.0, abs=2.0)


async def test_what_was_written_behind_the_labs_back_is_not_used_until_it_is_opened_anew(
    board: EmulatedBoard, tmp_path: Path
) -> None:
    await restart(board, holder())
    async with Lab.open(lab_file(tmp_path, board)) as lab:
        device: Any = lab.devices["board"]
        await device.write_teds(holder(result=LINE | {"coefficients": [50.0, 1.0]}))
        reading = await device.temperature_calibrated.read()
        assert reading.value is None
        assert "was written anew; open the lab anew to use it" in reading.reason
        await device.write_teds(None)
        assert "none is there now" in (await device.temperature_calibrated.read()).reason
