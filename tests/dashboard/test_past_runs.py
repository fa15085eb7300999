"""Past runs as a dashboard lists and draws them: real files, recorded in a lab of toys; nothing is written."""

import asyncio
import contextlib
import hashlib
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import in_memory, write_lab

from hal import Lab
from hal.capabilities import Gauge, Heater
from hal.dashboard.run_curves import POINTS, thinned
from hal.dashboard.runs import SHOWN_EVENTS, Runs
from hal.errors import HalError
from hal.recording.layout import SIGNALS

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
    name = names(runs)[0]
    run = runs.run(name)
    first = run["signals"][0]
    assert (first["path"], first["unit"], first["varies"]) == ("heater.temperature", "°C", True)
    (rows,) = runs.curves(name, [first["path"]], *first["span"]).values()
    points = np.array([row for row in rows if row[1] is not None])
    assert points[-1, 1] - points[0, 1] == pytest.approx(50.0, abs=5.0)
    assert (points[:, 2] <= points[:, 1]).all()
    assert (points[:, 3] >= points[:, 1]).all()
    assert any(event["text"] == "warm" for event in run["events"])


async def test_a_window_of_a_run_has_its_single_readings_and_the_line_goes_on_to_both_edges(runs):
    name = names(runs)[0]
    whole = runs.curves(name, ["heater.temperature"], -1.0, 1e6)["heater.temperature"]
    begin, end = (whole[4][0] + whole[5][0]) / 2, (whole[8][0] + whole[9][0]) / 2
    assert runs.curves(name, ["heater.temperature"], begin, end)["heater.temperature"] == whole[4:10]


async def test_a_trip_is_shown_and_marked_however_much_else_happened(runs, tmp_path, monkeypatch):
    from hal.dashboard import runs as module

    monkeypatch.setattr(module, "SHOWN_EVENTS", 3)
    with contextlib.suppress(HalError, asyncio.CancelledError):
        async with Toys.open(write_lab(tmp_path)) as lab:
            async with lab.record(runs.directory, sample="late", user="anna") as run:
                for _ in range(5):
                    run.note("idle")
                await lab.stop(by="anna", reason="smoke")
                await asyncio.sleep(1.0)
    found = runs.run(names(runs)[0])
    assert [e["kind"] for e in found["events"] if e["grave"]] == ["trip", "error"]
    assert found["more_events"] > 0
    assert len(found["events"]) == 3 < SHOWN_EVENTS


async def test_a_damaged_file_is_told_in_words(runs):
    name = names(runs)[0]
    path = runs.directory / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (row,) = (row for row in runs.listing() if row["name"] == name)
    assert "copy it again" in row["trouble"]
    with pytest.raises(HalError, match="copy it again"):
        runs.run(name)
    with pytest.raises(HalError, match="not an HDF5 file"):
        runs.run("20200101-000000_broken.nxs")


async def test_a_file_that_lost_a_column_is_told_in_words(runs):
    name = names(runs)[0]
    with h5py.File(runs.directory / name, "r+") as file:
        del file[f"{SIGNALS}/heater.temperature/valid"]
    with pytest.raises(HalError, match="damaged.*hal repair"):
        runs.run(name)


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


@given(st.integers(POINTS + 1, 5 * POINTS), st.integers(0, 9), st.booleans())
@settings(max_examples=20)
def test_a_long_run_is_thinned_and_no_extreme_is_lost(count, seed, steps):
    random = np.random.default_rng(seed)
    time = np.sort(random.integers(0, 10_000, count)).astype(float)
    value = random.normal(0.0, 1.0, count)
    rows = np.array(thinned(time, value, value - 0.5, value + 0.5, steps=steps))
    assert len(rows) <= POINTS
    assert rows[:, 2].min() == pytest.approx(value.min() - 0.5, rel=1e-6)
    assert rows[:, 3].max() == pytest.approx(value.max() + 0.5, rel=1e-6)
    assert (np.diff(rows[:, 0]) >= 0).all()
    assert (rows[:, 1] >= rows[:, 2]).all()
    assert (rows[:, 1] <= rows[:, 3]).all()


def test_where_nothing_is_known_for_long_the_line_is_broken_and_a_single_bad_reading_does_not_break_it():
    time = np.arange(100_000.0)
    value = np.where((time >= 50_000) & (time < 60_000) | (time == 7), np.nan, 1.0)
    rows = thinned(time, value, value, value)
    unknown = [row[0] for row in rows if row[1] is None]
    assert unknown
    assert all(49_900 < t < 60_100 for t in unknown)
