"""A condition that fails while a lost link holds the lab is latched; one that the lost link made blind is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toy
from toy import in_memory

from hal import Lab
from hal.capabilities import Gauge, Heater
from hal.errors import InterlockTripped, LinkLost

__all__ = ["in_memory"]

pytestmark = pytest.mark.usefixtures("in_memory")

VACUUM = """
[[interlocks]]
name = "vacuum"
keep = "gauge.pressure < 1e-3 Pa"
"""


class Toys(Lab):
    heater: Heater
    oven: Heater
    gauge: Gauge


async def with_a_lost_link(folder: Path, victim: str) -> Any:
    lab = await Toys.connect(toy.write_lab(folder, VACUUM))
    lab.emulation.links[f"emulator:{victim}"].unplug()  # type: ignore[union-attr]
    with pytest.raises(LinkLost):
        await (lab.gauge.pressure if victim == "gauge" else lab.oven.temperature).get()
    assert lab.trip is not None
    assert not lab.trip.latched
    return lab


async def test_an_interlock_that_fires_while_a_lost_link_holds_the_lab_is_latched(tmp_path: Path) -> None:
    lab = await with_a_lost_link(tmp_path, "oven")
    lab.emulation.emulator("gauge").values["PRES"] = 0.5
    await toy.eventually(lambda: lab.interlocks[0].tripped)
    assert lab.trip.latched
    assert "interlock 'vacuum' tripped" in lab.context.tripped
    with pytest.raises(InterlockTripped, match="vacuum"):
        await lab.heater.setpoint.set(30.0)
    await lab.close()
    with pytest.raises(InterlockTripped, match="still tripped: interlock 'vacuum' tripped"):
        await Toys.connect(tmp_path / "lab.toml")


async def test_an_interlock_made_blind_by_something_else_than_the_lost_link_is_latched_too(tmp_path: Path) -> None:
    lab = await with_a_lost_link(tmp_path, "oven")
    lab.emulation.emulator("gauge").silent.add("PRES?")
    await toy.eventually(lambda: lab.interlocks[0].tripped, within=30)
    assert lab.trip.latched
    await lab.close()


async def test_an_interlock_made_blind_by_the_lost_link_itself_is_not_latched(tmp_path: Path) -> None:
    lab = await with_a_lost_link(tmp_path, "gauge")
    await toy.eventually(lambda: lab.interlocks[0].tripped, within=30)
    assert not lab.trip.latched
    assert not (tmp_path / ".hal").exists()
    with pytest.raises(LinkLost):
        await lab.heater.setpoint.set(30.0)
    await lab.close()
    await (await Toys.connect(tmp_path / "lab.toml")).close()
