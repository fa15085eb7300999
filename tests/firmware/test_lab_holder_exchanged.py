"""A holder exchanged under power, seen by a lab that computed with its certificate: it must stop, and say why."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from calibration.certificate import Certificate
from calibration.teds import shorten
from devices.insitu_mcu.emulator import HOLDER, SPARE, EmulatedBoard
from devices.insitu_mcu.teds import ROOM, DataSheet
from devices.physics import World
from hal import Lab
from hal.errors import HalError
from hal.instrument.bench import Bench
from hal.model.reading import Quality

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc")]


def certified(sheet: DataSheet) -> DataSheet:
    made = Certificate(
        kind="curve.polynomial", device="gas cell", serial=sheet.serial, made=datetime(2026, 5, 1, tzinfo=UTC),
        by="A. Uthor", reference="a bath",
        result={
            "unit_in": "degC", "unit_out": "degC", "coefficients": [4.0, 0.98], "valid": [0.0, 900.0],
            "covariance": [[0.09, 0.0], [0.0, 1e-6]], "signal": "board.temperature",
        },
    )  # fmt: skip
    return replace(sheet, certificate=shorten(made, sheet.serial, ROOM))


async def until_quality(lab: Lab, quality: Quality, reason: str) -> None:
    async with asyncio.timeout(8):
        while True:
            reading = await lab.signal("board.temperature_calibrated").read()
            if reading.quality is quality and reason in reading.reason:
                return
            await asyncio.sleep(0.02)


async def test_a_lab_stops_using_the_certificate_of_a_holder_that_was_exchanged_while_it_heated(tmp_path: Path) -> None:
    board = await EmulatedBoard("posix", Bench(World()), spare=certified(SPARE)).open()
    try:
        board.unplug()
        board._eeprom.write_bytes(certified(HOLDER).packed().ljust(4096, b"\xff"))
        await board.plug()
        lines = [
            "schema = 1",
            "[devices.board]",
            'driver = "insitu_mcu"',
            f'link = "{board.url}"',
            "kp = 2.0",
            "ki = 4.0",
        ]
        (tmp_path / "lab.toml").write_text("\n".join(lines) + "\n")
        async with Lab.open(tmp_path / "lab.toml") as lab:
            device: Any = lab.devices["board"]
            await until_quality(lab, Quality.GOOD, "")
            ramp = device.ramp(900.0, 20.0)
            while not (board.page or {})["heater"]:  # type: ignore[index]
                await asyncio.sleep(0.01)
            board.exchange(1)  # without a moment between the two
            with pytest.raises(HalError, match="the holder was exchanged"):
                await ramp
            assert board.page is not None
            assert board.page["heater"] == 0
            await until_quality(lab, Quality.BAD, "was exchanged: 0002 is there now")
            assert (await device.temperature.read()).quality is Quality.GOOD  # by the other one's own curve
            board.exchange(0)
            await until_quality(lab, Quality.GOOD, "")
    finally:
        await board.close()
