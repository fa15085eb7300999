"""The code in the pages on uncertainty and calibration runs, and prints what the pages say that it prints."""

from __future__ import annotations

import contextlib
import io
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.certificate import parse
from calibration.certified import curve_of
from calibration.teds import lengthen
from devices.insitu_mcu.emulator import HOLDER
from hal.recording.recalibrate import recalibrate

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def run(page: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """What the page's Python defines, and what each block printed beside the text block that follows it, if any."""
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    said: list[tuple[str, str]] = []
    for (kind, code), (after, text) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(code, page, "exec"), names)
            said.append((out.getvalue(), text if after == "text" else ""))
    return names, said


def test_the_budget_on_the_page_is_the_budget_that_is_printed() -> None:
    names, said = run("explanation/uncertainty.md")
    shown = [(printed, text) for printed, text in said if text]
    assert len(shown) == 1
    for printed, text in shown:
        assert printed.strip() == text.strip()
    assert len(said) > 1
    low, high = names["low"], names["high"]
    assert (low < names["r"]).all()
    assert (names["r"] < high).all()
    assert names["found"].best.form.size == 3  # the page's resistances bend


@pytest.fixture(scope="module")
def how_to() -> dict[str, Any]:
    names, said = run("how-to/calibrate.md")
    assert said[0][0] == "499.817 +/- 0.047 degC\n"  # type K: 20.644 mV at 500 degC, and this one deviates a little
    return names


def test_the_thermocouple_on_the_page_is_right(how_to: dict[str, Any]) -> None:
    found = curve_of(how_to["certificate"], "mV", on=date(2026, 5, 1))(20.644)
    assert float(found.value) == pytest.approx(500.0, abs=0.5)  # IEC 60584-1, less 7.5 uV of deviation
    assert 0.04 < float(found.uncertainty) < 0.06


def test_the_pages_signature_is_one(how_to: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    assert parse(how_to["signed"](how_to["certificate"], tmp_path)).hash == how_to["certificate"].hash


def test_the_template_on_the_page_can_be_used(how_to: dict[str, Any], tmp_path: Path) -> None:
    page = (DOCS / "how-to/calibrate.md").read_text(encoding="utf-8")
    (tmp_path / "ours.toml").write_text(next(code for kind, code in BLOCK.findall(page) if "[[template]]" in code))
    (cls,) = how_to["load_templates"](tmp_path / "ours.toml").values()
    points = ({"x": 1, "y": 0.5},)
    sheet = how_to["Sheet"](how_to["sheet"].basic, (cls(low=0.0, curve="its own", r0=100.0, points=points),))
    found = how_to["with_ours"](how_to["to_pages"](how_to["pack"](sheet)), tmp_path / "ours.toml")
    assert found[:3] == (0.0, "its own", points)


class Board:
    """Reads and writes a data sheet."""

    sheet = HOLDER

    async def read_teds(self) -> Any:
        return self.sheet

    async def write_teds(self, sheet: Any) -> None:
        self.sheet = sheet


async def test_the_page_writes_a_certificate_into_a_holder(how_to: dict[str, Any], tmp_path: Path) -> None:
    from dataclasses import replace

    result = {"unit_in": "degC", "unit_out": "degC", "coefficients": [1.0, 1.0], "valid": [0.0, 900.0],
              "signal": "board.temperature"}  # fmt: skip
    given = replace(how_to["certificate"], kind="curve.polynomial", serial=HOLDER.serial, result=result)
    board = Board()
    await how_to["write_into_holder"](board, given.save(tmp_path / "c.toml"))
    found = lengthen(board.sheet.certificate, HOLDER.serial, "holder")
    assert found is not None
    assert float(curve_of(found)(100.0).value) == pytest.approx(101.0, abs=1e-4)


def test_the_pages_ways_to_look_at_a_run_work(how_to: dict[str, Any], tmp_path: Path, ticking_world: Any) -> None:
    from dataclasses import replace

    result = {"unit_in": "V", "unit_out": "Pa", "coefficients": [0.5, 3.0], "valid": [0.0, 5.0]}
    given = replace(how_to["certificate"], kind="curve.polynomial", result=result)
    path = tmp_path / "run.nxs"
    ticking_world(seconds=1.0).record(path)
    recalibrate(path, given.save(tmp_path / "c.toml"), "board.input_0")
    name, value, uncertainty, at_frames = how_to["newest"](path)
    assert name == "board.input_0_calibrated"
    assert len(value) == len(uncertainty) > 5
    assert "camera" in at_frames
    samples, doubts = how_to["every_sample"](path)
    assert len(samples) > 500
    assert np.isfinite(doubts).all()


@pytest.fixture
def ticking_world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "recording"))
    import ticking

    return ticking.World
