"""Past runs as a dashboard lists and draws them: real files, recorded in a lab of toys; nothing is written."""

import hashlib
import shutil

import numpy as np
import pytest
from toy import in_memory, write_lab

from hal import Lab
from hal.capabilities import Gauge, Heater
from hal.dashboard.runs import POINTS, Runs

__all__ = ["in_memory"]

pytestmark = pytest.mark.usefixtures("in_memory")


recorded = {}


class Toys(Lab):
    heater: Heater
    oven: Heater
    gauge: Gauge


@pytest.fixture
async def runs(tmp_path, tmp_path_factory):
    """Two runs of a heater that warms up, and what else may lie about. Recorded once, copied for each test."""
    if "runs" not in recorded:
        folder = tmp_path_factory.mktemp("toys")
        async with Toys.open(write_lab(folder)) as lab:
            for sample in ("gold", "platinum"):
                async with lab.record(folder / "runs", sample=sample, user="anna") as run:
                    await lab.heater.ramp(to=lab.heater.temperature.last.value + 50.0, rate=2.0)
                    run.note("warm")
        recorded["runs"] = folder / "runs"
    place = shutil.copytree(recorded["runs"], tmp_path / "runs")
    (place / "20200101-000000_broken.nxs").write_bytes(b"not at all a run")
    (place / "secret.txt").write_text("for nobody")
    return Runs(place)


def names(runs):
    return [row["name"] for row in runs.listing()]


async def test_the_list_has_the_newest_first_and_says_which_can_not_be_read(runs):
    listing = runs.listing()
    assert [(row["sample"], row["user"], row["state"]) for row in listing] == [
        ("platinum", "anna", "finished"), ("gold", "anna", "finished"), ("", "", "unreadable"),
    ]  # fmt: skip
    assert listing[0]["start"] > listing[1]["start"]
    assert listing[2]["trouble"]
    assert runs.listing()[0] is listing[0]  # a run that has not changed is not read again


async def test_a_run_is_drawn_with_its_band_and_what_was_measured_and_varies_first(runs):
    run = runs.run(names(runs)[0])
    first = run["curves"][0]
    assert (first["path"], first["unit"], first["varies"]) == ("heater.temperature", "°C", True)
    points = np.array([p for p in first["points"] if p[1] is not None])
    assert points[-1, 1] - points[0, 1] == pytest.approx(50.0, abs=5.0)
    assert (points[:, 2] <= points[:, 1]).all()
    assert (points[:, 3] >= points[:, 1]).all()
    assert any(event["text"] == "warm" for event in run["events"])


async def test_only_runs_of_this_directory_are_shown(runs, tmp_path):
    for name in ("secret.txt", "../lab.toml", str(tmp_path / "lab.toml"), "", ".", "none.nxs"):
        with pytest.raises(KeyError):
            runs.run(name)
        with pytest.raises(KeyError):
            runs.picture(name)


async def test_the_picture_beside_a_run_is_found(runs):
    name = names(runs)[0]
    assert runs.picture(name) is None
    beside = (runs.directory / name).with_suffix(".png")
    beside.write_bytes(b"png")
    assert runs.picture(name) == beside


async def test_looking_changes_no_file(runs):
    def content():
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in runs.directory.iterdir()}

    before = content()
    for row in runs.listing():
        if not row["trouble"]:
            runs.run(row["name"])
    assert content() == before


def test_a_long_run_is_thinned_and_its_spike_stays():
    from hal.dashboard.runs import _thinned

    time = np.arange(100_000.0)
    value = np.where(time == 54_321, 99.0, 1.0)
    points = np.array(_thinned(time, value, value - 0.1, value + 0.1))
    assert len(points) <= POINTS
    assert points[:, 3].max() == pytest.approx(99.1)
