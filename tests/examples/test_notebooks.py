"""The notebooks of the examples, run from the first cell to the last in a kernel of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from calibration.certificate import load
from calibration.certified import curve_of
from devices.physics import R_SLOPE, R_ZERO

pytestmark = [pytest.mark.real_clock, pytest.mark.patient]

EXAMPLES = Path(__file__).parents[2] / "examples"


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(EXAMPLES / name, 4)
    for cell in notebook.cells:
        cell.pop("outputs", None) if cell.cell_type == "markdown" else cell.update(outputs=[])
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
    return notebook


def test_the_notebook_that_calibrates_a_heater_finds_the_truth_and_draws_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = executed("calibrate_heater.ipynb", tmp_path, monkeypatch)
    kinds = [output.get("data", {}).keys() for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in kind for kind in kinds)
    curve = curve_of(load(tmp_path / "chip.toml"), "Ohm")
    for truly in (100.0, 250.0, 400.0):
        found = curve(R_ZERO + R_SLOPE * truly)
        assert abs(float(found.value) - truly) < 2.0
        assert 1.0 <= float(found.uncertainty) < 1.5
