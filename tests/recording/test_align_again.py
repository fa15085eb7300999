"""`hal align`: a run's times and values worked out anew, in a copy or in the run, which keeps the old ones."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from ticking import EXPOSURE, START, World

from calibration.certificate import Certificate
from hal.cli import main
from hal.errors import RecordError
from hal.recording import NexusWriter, open_run
from hal.recording.again import align_again
from hal.recording.declared import Changes

STACK = "entry/measurement/event_camera/image_frames/stack_2d"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "run.nxs"
    World().record(path)
    return path


@pytest.fixture
def run_file(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(recorded, tmp_path / "run.nxs"))


def raw(file: h5py.File) -> dict[str, str]:
    """Everything that an alignment must not touch."""
    found: dict[str, str] = {}

    def visit(name: str, item: object) -> None:
        derived = name.startswith(("entry/stimuli_", "entry/alignment", "entry/earlier_alignments"))
        own = name.rpartition("/")[2] in (
            "exposure_start", "exposure_stop", "exposure_bound", "exposure_valid", "exposure_sigma", "pulse_index",
            "elapsed", "reason",
        )  # fmt: skip
        if isinstance(item, h5py.Dataset) and not derived and not own:
            found[name] = repr(np.asarray(item[()]).tolist())

    file.visititems(visit)
    return found


def test_to_ask_what_would_change_changes_nothing(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = run_file.read_bytes()
    assert main(["align", str(run_file)]) == 0
    said = capsys.readouterr().out
    assert "camera: 992 frames by pulses at input 2 of board; times moved by" in said
    assert "board.input_0" in said
    assert "nothing was written: name a file, or align in place" in said
    assert run_file.read_bytes() == before
    assert list(run_file.parent.iterdir()) == [run_file]


def test_a_copy_gets_new_times_and_keeps_the_raw_data_and_the_old_times(run_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.nxs"
    with h5py.File(run_file) as file:
        old, before = raw(file), file[f"{STACK}/exposure_start"][:]
    report = align_again(run_file, out)
    assert report.cameras["camera"].median_shift > 1e-4
    with h5py.File(out) as file:
        assert raw(file) == old
        assert file["entry/earlier_alignments/1/camera/exposure_start"][:].tolist() == before.tolist()
        assert (file[f"{STACK}/exposure_start"][:] != before).any()
    with h5py.File(run_file) as file:
        assert file[f"{STACK}/exposure_start"][:].tolist() == before.tolist()
    with open_run(out) as run:
        assert run.origin == report.origin
        assert np.abs(run.frames.start - World().true_start[World().received]).max() < 1_000_000
        assert run.aligned["board.input_0"].valid.all()


def test_the_same_record_gives_the_same_bytes(run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (tmp_path / f"{name}.nxs" for name in ("first", "second", "third"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1780000000")
    align_again(run_file, first)
    align_again(run_file, second)
    assert first.read_bytes() == second.read_bytes()
    # From what was aligned before the numbers are the same as from the run itself.
    assert align_again(second).origin.digest == align_again(run_file).origin.digest
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    align_again(run_file, third)
    assert [a != b for a, b in zip(first.read_bytes(), third.read_bytes(), strict=True)].count(True) <= 20  # the date


def test_in_place_the_run_keeps_what_stood_there_and_is_left_alone_when_nothing_changes(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["align", str(run_file), "--in-place"]) == 0
    with open_run(run_file) as run:
        first = run.origin
        assert first is not None
        starts = run.frames.start
    changed = ["align", str(run_file), "--in-place", "--set", "camera.pulse_latency=0.0005"]
    assert main(changed) == 0
    with open_run(run_file) as run:
        assert (starts - run.frames.start).tolist() == [500_000] * len(starts)
        assert run.origin is not None
        assert run.origin.parameters["changes"] == {"camera": {"pulse_latency": 0.0005}}
        assert run.earlier_origins == [first]
        kept = run.file["entry/earlier_alignments/2/camera"]
        assert kept["exposure_start"][:].tolist() == starts.tolist()
        assert "board.input_0_valid" in kept["stimuli"]
    after = run_file.read_bytes()
    capsys.readouterr()
    assert main(changed) == 0
    assert "the same numbers stand there already" in capsys.readouterr().out
    assert run_file.read_bytes() == after


def test_a_calibrated_link_takes_its_unequal_ways_out_of_every_frame_s_time(run_file: Path) -> None:
    """Out takes 0.8 ms longer than back: undeclared, every exposure seems 0.4 ms off."""
    true = World().true_start[World().received]
    plain = align_again(run_file).cameras["camera"]
    ways = {"delay_out": 0.001, "delay_back": 0.0002, "delay_sigma": 1e-6}
    calibrated = align_again(run_file, run_file, changes=Changes({"board": ways})).cameras["camera"]
    with open_run(run_file) as run:
        error = run.frames.start - true
        assert np.abs(error).max() < 60_000
        assert (np.abs(error) <= run.frames.bound).all()
    assert calibrated.median_bound < plain.median_bound / 2


def test_a_certificate_of_the_camera_s_delay_moves_its_frames_and_is_named_in_the_file(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = Certificate(
        kind="delay.camera", device="Merlin", serial="", made=datetime(2026, 5, 1, tzinfo=UTC), by="A. Uthor",
        reference="LED at a trigger output", result={"delay_s": 4.17e-4, "delay_sigma_s": 2e-6},
        expires=date(2027, 5, 1),
    )  # fmt: skip
    file = certificate.save(tmp_path / "delay.toml")
    align_again(run_file, run_file)
    with open_run(run_file) as run:
        before = run.frames.start
    assert main(["align", str(run_file), "--in-place", "--certificate", f"camera={file}"]) == 0
    with open_run(run_file) as run:
        assert (run.frames.start - before).tolist() == [417_000] * len(before)
        assert run.origin is not None
        assert run.origin.parameters["certificates"] == {"camera": certificate.hash}
    file.write_text(file.read_text().replace("0.000417", "0.000117"))
    assert main(["align", str(run_file), "--certificate", f"camera={file}"]) == 1
    assert "its content does not fit its hash" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--set", "camera.colour=3"], "camera: has no 'colour' that could be changed; it has ppm, latency"),
        (["--set", "gauge.latency=3"], "gauge: no camera and no clock of this run; there are camera, board"),
        (["--set", "camera.latency=-1"], "camera.latency: -1 is no possible value"),
        (["--set", "camera.latency=nan"], "camera.latency: nan is no possible value"),
        (["--set", "board.ppm=0"], "board.ppm: 0 is no possible value"),
        (["--set", "latency=1"], "--set latency=1: write it as NAME.FIELD=VALUE"),
        (["--set", "camera.latency=soon"], "--set camera.latency=soon: write it as"),
        (["--certificate", "camera"], "--certificate camera: write it as NAME=FILE"),
        (["--out", "there.nxs"], "there.nxs: is there already"),
    ],
)
def test_what_can_t_be_declared_is_refused_before_anything_is_written(
    run_file: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(run_file.parent)
    Path("there.nxs").write_text("something else")
    before = run_file.read_bytes()
    assert main(["align", str(run_file), *arguments]) == 1
    assert complaint in capsys.readouterr().err
    assert run_file.read_bytes() == before
    assert Path("there.nxs").read_text() == "something else"


def test_a_run_that_is_being_written_or_was_left_unfinished_is_refused(tmp_path: Path) -> None:
    path, world = tmp_path / "run.nxs", World(seconds=1.0)
    writer = NexusWriter(path, world.plan())
    world.fill(writer)
    writer.flush()
    left = tmp_path / "left.nxs"
    shutil.copy(path, left)
    with pytest.raises(RecordError, match="still being written; align it when it is over"):
        align_again(path, tmp_path / "new.nxs")
    with pytest.raises(RecordError, match="left it unfinished; `hal repair"):
        align_again(left, tmp_path / "new.nxs")
    writer.close(START + 1)
    assert not (tmp_path / "new.nxs").exists()


def test_a_run_of_a_version_that_knew_no_ticks_is_opened_and_aligned_by_arrivals(
    run_file: Path, tmp_path: Path
) -> None:
    with h5py.File(run_file, "r+") as file:
        for name in ("alignment", "clocks", "pulses", "streams", "cameras/camera/frame_clock"):
            del file[f"entry/{name}"]
        for name in ("exposure_sigma", "pulse_index"):
            del file[f"{STACK}/{name}"]
    with open_run(run_file) as run:
        assert len(run.frames) == len(run.frames.start) == 992
        assert "pulse" not in run.frames.columns
        assert run.origin is None
        assert run.frames.frame_clock is None
        assert dict(run.clocks) == dict(run.streams) == {}
    report = align_again(run_file, tmp_path / "new.nxs")
    assert report.cameras["camera"].timed_by == "the lower envelope of their arrivals"
    with open_run(tmp_path / "new.nxs") as run:
        assert (run.frames.pulse == -1).all()
        assert run.frames.column("sigma").min() > 0
        assert np.abs(run.frames.start - World().true_start[World().received]).max() < run.frame_bound.max()


def test_a_disk_that_is_full_leaves_the_run_as_it_was(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_file.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hal.recording.again.write_alignment", full)
    with pytest.raises(RecordError, match="can't be written .*the run is as it was"):
        align_again(run_file, run_file)
    assert run_file.read_bytes() == before
    assert list(run_file.parent.iterdir()) == [run_file]


def test_the_report_is_a_table_and_json_with_a_picture_beside_the_run(
    run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert main(["report", str(run_file)]) == 0
    said = capsys.readouterr().out
    assert "clock of board: 80 exchanges" in said
    assert "board.input_0" in said
    assert said.splitlines()[-1] == str(run_file.with_suffix(".png"))
    assert run_file.with_suffix(".png").exists()
    assert main(["report", str(run_file), "--json", "--picture", str(run_file.with_name("other.png"))]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cameras"]["camera"]["pulses"]["captured"] == 995
    assert found["clocks"]["board"]["exchanges"] == 80
    assert abs(found["clocks"]["board"]["rate_ppm"] + 23) < 5


def test_hal_align_says_in_json_what_it_did(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_file.with_name("new.nxs")
    assert main(["align", str(run_file), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["written"] == str(out)
    assert found["cameras"]["camera"]["frames"] == 992
    assert found["origin"]["digest"].startswith("sha256:")
    assert found["cameras"]["camera"]["median_bound"] < EXPOSURE
