"""A run on disk, as the people who open it see it: h5py, HyperSpy, nexusformat, pynxtools, tables."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from hal.clock.exchange import Exchange
from hal.errors import RecordError
from hal.protocols.firmware import EdgeChunk, SampleChunk
from hal.recording import (
    Aligned,
    CameraPlan,
    ClockAnchor,
    Column,
    DevicePlan,
    FrameTimes,
    Holder,
    NexusWriter,
    Recording,
    RunPlan,
    SignalPlan,
    open_run,
)
from hal.recording.export import export
from hal.recording.layout import UNKNOWN_TIME, ClockPlan, StreamPlan

START = 1_780_000_000_000_000_000  # ns
FRAMES = 500
STACK = "entry/measurement/event_camera/image_frames/stack_2d"
ALIGNED = ("heater.temperature", "gauge.pressure", "valve.state", "valve.open")


def plan(**changes: object) -> RunPlan:
    """A small lab: a heater, a gauge, a valve, and a camera of 16 x 24 pixels at 1000 frames/s."""
    facts: dict[str, object] = {
        "title": "ramp to 400",
        "start_time": START,
        "clock": ClockAnchor(START, 5_000, 900, "lab"),
        "lab": "em3",
        "sample": "Au on SiNx 12",
        "user": "Ada",
        "sample_notes": {"grown by": "CVD"},
        "software": {"insitu-hal": "0.1.0"},
        "lab_file": "schema = 1\n",
        "script": "print('µm')\n",
        "holder": Holder("gas-cell 7", {"heater": "heater"}, {"pressure": "0..1 bar"}),
        "devices": [
            DevicePlan(
                "heater",
                "linkam_t95",
                model="T95",
                vendor="Linkam",
                identity="T95-PE 1234",
                link="serial:///dev/ttyUSB0",
                capabilities=["Heater"],
                certificates={"k_type.toml": "expires = 2027-01-01"},
                config={"poll": 0.1},
                limits={"setpoint": "20..400 degC"},
            )
        ],
        "signals": [
            SignalPlan("heater.temperature", "degC", "Cel", "degC", aperture=0.05, max_age=0.1),
            SignalPlan("heater.setpoint", "degC", "Cel", "degC", interpolation="step", role="setpoint"),
            SignalPlan("gauge.pressure", "Pa", "Pa", "Pa"),
            SignalPlan("valve.state", kind="str", interpolation="step"),
            SignalPlan("valve.open", kind="bool", interpolation="step"),
            SignalPlan("adc.voltage", "V", "V", "V", rate=2000.0, raw_ticks=True),
        ],
        "cameras": [
            CameraPlan(
                "camera",
                (16, 24),
                "uint8",
                0.0009,
                1000.0,
                aligned=ALIGNED,
                columns=[Column("beam_current", "float32", "pA", "beam current")],
                frame_clock=("board", 0),
            )
        ],
        "clocks": [ClockPlan("board", 1e6, 100.0), ClockPlan("silent", 32768.0, 20.0, 24)],
        "pulses": ["board", "silent"],
        "streams": [StreamPlan("board", (0, 3), 1e-4, rate=1000.0), StreamPlan("silent", (1,), 1.0)],
    }
    return RunPlan(**(facts | changes))  # type: ignore[arg-type]


def record(path: Path) -> None:
    """Half a second: frame k shows k; the camera drops two frames; the gauge is never known."""
    k = np.arange(FRAMES)
    start = START + k * 1_000_000
    ones = np.ones(FRAMES, bool)
    with NexusWriter(path, plan()) as writer:
        for first in range(0, FRAMES, 40):
            part = slice(first, first + 40)
            images = np.broadcast_to(k[part, None, None], (len(k[part]), 16, 24)).astype("u1")
            writer.append_frames(
                "camera",
                images,
                {
                    "number": k[part] + 2 * (k[part] >= 300),
                    "detector_ticks": k[part] * 100,
                    "start": start[part],
                    "stop": start[part] + 900_000,
                    "arrival": start[part] + 5_000_000,
                    "valid": ones[part],
                    "bound": np.full(len(k[part]), 250),
                    "beam_current": np.full(len(k[part]), 1.5),
                },
            )
            live = (20 + k[part] / 10, np.full(len(k[part]), 0.1), ones[part])
            writer.append_aligned("camera", first, {"heater.temperature": live})
        writer.append_signal(
            "heater.temperature",
            [20.0, None, 70.0],
            start[[0, 250, 499]],
            [50_000_000] * 3,
            [0.1, np.nan, 0.1],
            ["good", "bad", "stale"],
        )
        writer.append_signal("valve.state", ["open", "closed"], start[[0, 9]])
        writer.append_signal("valve.open", [True, None], start[[0, 9]], quality=["good", "bad"])
        writer.append_signal("adc.voltage", np.sin(k), start, ticks=k * 16)
        writer.ticks.append_exchanges("board", [Exchange(1, START, 50, 52, START + 2000)])
        edges = EdgeChunk(1, k * 1000, np.zeros(FRAMES, "u1"), np.ones(FRAMES, bool), k, np.arange(1), 0, 0, START)
        writer.ticks.append_pulses("board", edges)
        none = np.zeros(1, np.int64)
        counts = np.stack([k, -k], axis=1).astype("i2")
        samples = SampleChunk(1, (0, 3), 1000, k * 1000, counts, none, none, np.zeros(1, "u1"), START, 1e-4)
        writer.ticks.append_samples("board", samples)
        writer.append_event(START, "setpoint", "heater", "to 400 °C", '{"to": 400.0}')
        writer.append_event(START + 1, "trip", "gauge", "ä" * 700, json.dumps({"long": "y" * 9000}))
        temperature = Aligned(20 + k / 10, np.full(FRAMES, 0.1), k != 7)
        state = Aligned(np.array(["open"] * FRAMES), np.full(FRAMES, np.nan), ones)
        unknown = (np.full(FRAMES, np.nan), np.full(FRAMES, 1.0), ones)
        times = FrameTimes(start + 50, start + 900_050, np.full(FRAMES, 120), ones)
        writer.replace_aligned(
            "camera",
            {"heater.temperature": temperature, "valve.state": state, "gauge.pressure": unknown},
            times,
        )
        writer.close(START + 500_000_000, {"frames": FRAMES, "dropped": 2})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run.nxs"
    record(path)
    return path


@pytest.fixture
def run(path: Path) -> Iterator[Recording]:
    with open_run(path) as run:
        yield run


def test_a_run_comes_back_as_it_was_recorded(run: Recording) -> None:
    assert (run.title, run.sample, run.state) == ("ramp to 400", "Au on SiNx 12", "finished")
    assert (run.start_time, run.end_time) == (START, START + 500_000_000)
    assert run.clock == ClockAnchor(START, 5_000, 900, "lab")
    assert (run.lab_file, run.script) == ("schema = 1\n", "print('µm')\n")
    assert run.user == "Ada"
    assert run.holder == Holder("gas-cell 7", {"heater": "heater"}, {"pressure": "0..1 bar"})
    assert run.software == {"insitu-hal": "0.1.0"}
    assert run.summary == {"frames": FRAMES, "dropped": 2}
    heater = run.devices["heater"]
    assert (heater.vendor, heater.model, heater.capabilities) == ("Linkam", "T95", ("Heater",))
    assert heater.certificates == {"k_type.toml": "expires = 2027-01-01"}
    assert "500 frames of 16 x 24 uint8, 2 dropped" in repr(run)


def test_frames_are_indexed_like_an_array_and_read_when_asked_for(run: Recording) -> None:
    assert run.frames.shape == (FRAMES, 16, 24)
    assert (run.frames[123] == 123).all()
    assert (run.frames[-1] == (FRAMES - 1) % 256).all()
    assert run.frames[10:20:5, 3].shape == (2, 24)
    assert run.frames[..., 0].shape == (FRAMES, 16)
    assert [int(frame[0, 0]) for frame in run.frames][:300:100] == [0, 100, 200]
    with pytest.raises(IndexError, match="frame 500 of 500"):
        run.frames[500]


def test_frames_carry_their_number_and_exposure_and_the_gap_counts_as_dropped(run: Recording) -> None:
    assert run.dropped == 2
    assert run.frame_number[299:301].tolist() == [299, 302]
    assert run.frame_time[0] == START + 50 + 450_000
    assert run.frame_bound.tolist() == [120] * FRAMES  # the final times replaced the provisional ones
    assert run.frames.arrival[0] == START + 5_000_000
    assert run.frames.column("beam_current").tolist() == [1.5] * FRAMES
    with pytest.raises(KeyError, match="beam_current"):
        run.frames.column("beam")


def test_an_unknown_value_is_nan_and_masked_in_raw_and_aligned_data(run: Recording) -> None:
    raw = run.signals["heater.temperature"]
    assert np.isnan(raw.value[1])
    assert raw.valid.tolist() == [True, False, True]
    assert raw.quality.tolist() == [0, 3, 1]
    assert run.signals["valve.open"].valid.tolist() == [True, False]
    aligned = run.aligned["heater.temperature"]
    assert np.isnan(aligned.value[7])
    assert not aligned.valid[7]
    assert aligned.valid.sum() == FRAMES - 1
    assert np.isnan(aligned.uncertainty[7])
    pressure = run.aligned["gauge.pressure"]  # said to be valid, yet NaN
    assert np.isnan(pressure.value).all()
    assert not pressure.valid.any()


def test_a_signal_that_was_never_read_is_there_and_empty(run: Recording) -> None:
    setpoint = run.signals["heater.setpoint"]
    assert len(setpoint) == 0
    assert setpoint.unit == "degC"
    assert setpoint.role == "setpoint"


def test_texts_and_raw_ticks_survive_whatever_their_length(run: Recording) -> None:
    assert run.signals["valve.state"].value.tolist() == ["open", "closed"]
    assert run.aligned["valve.state"].value[3] == "open"
    ticks = run.signals["adc.voltage"].ticks
    assert ticks is not None
    assert ticks[-1] == (FRAMES - 1) * 16
    start, setpoint, trip, end = run.events
    assert (start.kind, end.kind) == ("start", "end")
    assert (setpoint.text, setpoint.data) == ("to 400 °C", {"to": 400.0})
    assert trip.text == "ä" * 700
    assert trip.data == {"long": "y" * 9000}


def test_a_signal_s_overlong_text_is_kept_whole_among_the_events(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    with NexusWriter(path, plan(cameras=())) as writer:
        writer.append_signal("valve.state", ["open", "µ" * 100], [START, START + 1])
    with open_run(path) as run:
        assert run.signals["valve.state"].value.tolist() == ["open", "µ" * 64]
        assert run.events[1].text == "µ" * 100


def test_h5py_alone_finds_raw_ticks_with_their_meaning(path: Path) -> None:
    with h5py.File(path) as file:
        clock = file["entry/clocks/board"]
        assert (clock["frequency"][()], clock["frequency"].attrs["units"]) == (1e6, "1/s")
        assert clock["received"][:].tolist() == [START + 2000]
        assert clock["received"].attrs["units"] == "ns"
        assert file["entry/pulses/board/ticks"][-1] == (FRAMES - 1) * 1000
        stream = file["entry/streams/board"]
        assert stream["samples/counts"][7].tolist() == [7, -7]
        assert stream["blocks/first_tick"][:].tolist() == [0]
        assert (stream.attrs["scale"], stream.attrs["unit"]) == (1e-4, "V")
        camera = file["entry/cameras/camera"]
        assert (camera["frame_clock"].asstr()[()], camera["frame_input"][()]) == ("board", 0)


def test_a_name_that_is_not_there_says_which_are(run: Recording) -> None:
    with pytest.raises(KeyError, match=r"heater\.temp.*heater\.temperature"):
        run.signals["heater.temp"]
    with pytest.raises(RecordError, match="no camera 'side'; there are camera"):
        run.aligned_to("side")


def test_h5py_alone_finds_frames_and_units_and_what_to_plot(path: Path) -> None:
    with h5py.File(path) as file:
        group: h5py.Group = file
        while "default" in group.attrs:
            group = group[group.attrs["default"]]
        assert group.name == f"/{STACK}"
        assert group[group.attrs["signal"]].shape == (FRAMES, 16, 24)
        assert group["indices_image"][:3].tolist() == [0, 1, 2]
        assert {len(group[name]) for name in ("frame_number", "exposure_start", "exposure_bound", "elapsed")} == {500}
        assert group["exposure_start"].attrs["units"] == "ns"
        log = file["entry/signals/heater.temperature"]
        assert log.attrs["NX_class"] == "NXlog"
        assert log["value"].attrs["units"] == "degC"
        assert log["time"].attrs["start"] == "1970-01-01T00:00:00Z"
        assert log["uncertainty"].attrs["units"] == "K"  # a difference of degC
        assert h5py.check_enum_dtype(log["quality"].dtype)["stale"] == 1
        stimuli = file["entry/stimuli_camera"]
        assert stimuli[stimuli.attrs["axes"][0]].attrs["units"] == "s"
        assert len(stimuli["elapsed"]) == len(stimuli[stimuli.attrs["signal"]]) == FRAMES
        assert file["entry/events/text"].asstr()[1] == "to 400 °C"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lazy", [False, True])
def test_hyperspy_opens_the_frames_as_images_over_the_frame_index(path: Path, lazy: bool) -> None:
    hs = pytest.importorskip("hyperspy.api")
    signal = hs.load(path, use_default=True, lazy=lazy)
    assert isinstance(signal, hs.signals.Signal2D)
    (index,) = signal.axes_manager.navigation_axes
    assert (index.name, index.size, index.scale, index.offset) == ("indices_image", FRAMES, 1, 0)
    assert signal.axes_manager.signal_shape == (24, 16)  # HyperSpy says columns first
    assert float(np.asarray(signal.inav[123].data).mean()) == 123


@pytest.mark.filterwarnings("ignore")
def test_hyperspy_opens_the_whole_file_without_being_told_how(path: Path) -> None:
    hs = pytest.importorskip("hyperspy.api")
    shapes = [signal.data.shape for signal in hs.load(path)]
    assert (FRAMES, 16, 24) in shapes


@pytest.mark.filterwarnings("ignore")
def test_nexusformat_plots_frames_first_and_finds_signals_by_name(path: Path) -> None:
    nexusformat = pytest.importorskip("nexusformat.nexus")
    root = nexusformat.nxload(path)
    plotted = root.plottable_data
    assert plotted.nxpath == f"/{STACK}"
    assert plotted.nxsignal.shape == (FRAMES, 16, 24)
    assert root["entry/signals/heater.temperature/value"].units == "degC"


def test_pynxtools_calls_the_file_valid(path: Path) -> None:
    pytest.importorskip("pynxtools")
    said = validated(path)
    assert "is valid according to the `NXem` application definition" in said, said
    assert "WARNING" not in said, said


def test_a_run_without_a_camera_is_valid_and_plots_its_first_signal(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    with NexusWriter(path, plan(cameras=())) as writer:
        writer.append_signal("heater.temperature", [20.0, 21.0], [START, START + 1])
    with open_run(path) as run:
        assert run.signals["heater.temperature"].value.tolist() == [20.0, 21.0]
        with pytest.raises(RecordError, match="no camera"):
            _ = run.frames
    with h5py.File(path) as file:
        plot = file["entry"][file["entry"].attrs["default"]]
        assert plot["value"][:].tolist() == [20.0, 21.0]
    assert "is valid according to the `NXem`" in validated(path)


def test_two_cameras_keep_their_own_frames_and_alignment(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    side = CameraPlan("a_side", (8, 8), "uint16", rate=10.0, aligned=("gauge.pressure",))
    with NexusWriter(path, plan(cameras=[*plan().cameras, side])) as writer:
        writer.append_frames("camera", np.zeros((2, 16, 24), "u1"), {})
        writer.append_frames("a_side", np.full((3, 8, 8), 500, "u2"), {"number": np.arange(3)})
        writer.append_aligned("a_side", 1, {"gauge.pressure": (np.ones(1), np.ones(1), np.ones(1, bool))})
    with open_run(path) as run:
        assert run.frames.camera == "camera"
        assert list(run.cameras) == ["camera", "a_side"]
        assert run.cameras["a_side"][2].max() == 500
        assert run.aligned_to("a_side")["gauge.pressure"].valid.tolist() == [False, True, False]
        assert not run.frame_valid.any()
        assert (run.frame_time == UNKNOWN_TIME).all()


def test_pandas_gets_one_row_per_frame_with_times_and_units(run: Recording) -> None:
    pytest.importorskip("pandas")
    table = run.to_pandas()
    assert len(table) == FRAMES
    assert str(table.index[0]) == "2026-05-28 20:26:40.000450050+00:00"
    assert table["heater.temperature"].iloc[10] == 21.0
    assert np.isnan(table["heater.temperature"].iloc[7])
    assert not table["heater.temperature.valid"].iloc[7]
    assert table.attrs["units"]["heater.temperature"] == "degC"


def test_xarray_gets_the_same_over_the_frame_axis(run: Recording) -> None:
    pytest.importorskip("xarray")
    table = run.to_xarray(images=True)
    assert dict(table.sizes) == {"frame": FRAMES, "row": 16, "column": 24}
    assert table["heater.temperature"].attrs["units"] == "degC"
    assert int(table["image"][9].max()) == 9


@pytest.mark.parametrize(("verb", "missing"), [("to_pandas", "pandas"), ("to_xarray", "xarray")])
def test_a_table_without_its_library_names_what_to_install(
    run: Recording, monkeypatch: pytest.MonkeyPatch, verb: str, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(RecordError, match=r'pip install "insitu-hal\[tables\]"'):
        getattr(run, verb)()


def test_export_writes_tables_with_units_in_the_header_and_blanks_where_unknown(path: Path, tmp_path: Path) -> None:
    done = export(path, tmp_path / "tables", progress=False)
    assert json.loads(done.to_json())["tables"][str(tmp_path / "tables" / "aligned_camera.csv")] == FRAMES
    with open(tmp_path / "tables" / "aligned_camera.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["time (UTC)"] == "2026-05-28T20:26:40.000450050Z"
    assert rows[10]["heater.temperature (degC)"] == "21.0"
    assert rows[10]["heater.temperature valid"] == "1"
    assert rows[7]["heater.temperature (degC)"] == ""
    assert rows[7]["heater.temperature valid"] == "0"
    assert "heater.temperature uncertainty (K)" in rows[0]
    with open(tmp_path / "tables" / "signal_heater.temperature.csv", encoding="utf-8", newline="") as stream:
        assert [row["quality"] for row in csv.DictReader(stream)] == ["good", "bad", "stale"]
    with pytest.raises(RecordError, match="is there already"):
        export(path, tmp_path / "tables", progress=False)


def test_export_can_be_asked_for_one_signal_only(path: Path, tmp_path: Path) -> None:
    export(path, tmp_path, aligned=False, signals=["valve.state"], events=False, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["signal_valve.state.csv"]
    with pytest.raises(RecordError, match=r"no signal 'valve'; there are adc\.voltage"):
        export(path, tmp_path, signals=["valve"], progress=False)


def test_a_plan_that_cannot_be_recorded_lists_every_problem_before_a_file_exists(tmp_path: Path) -> None:
    bad = plan(signals=[SignalPlan("a b"), SignalPlan("x"), SignalPlan("x")])
    with pytest.raises(RecordError, match=r"'x' appears twice.*'a b' is no NeXus name.*aligns 'heater\.temp"):
        NexusWriter(tmp_path / "run.nxs", bad)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_written_over(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(RecordError, match="there is a run of this name already"):
        NexusWriter(path, plan())
    assert path.read_bytes() == before


def test_rows_that_do_not_fit_the_plan_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    frames = np.ones((2, 16, 24), "u1")
    with NexusWriter(path, plan()) as writer:
        writer.append_frames("camera", frames, {"number": np.arange(2)})
        for images, columns, complaint in (
            (frames[:, :8], {}, "start a new run"),
            (frames, {"gain": np.ones(2)}, "unknown column 'gain'"),
            (frames, {"number": np.arange(3)}, "give one per row"),
        ):
            with pytest.raises(RecordError, match=complaint):
                writer.append_frames("camera", images, columns)
        with pytest.raises(RecordError, match="declare it in the plan"):
            writer.append_signal("heater.power", [1.0], [START])
        with pytest.raises(RecordError, match="a quality is one of good"):
            writer.append_signal("gauge.pressure", [1.0], [START], quality=["fine"])
        with pytest.raises(RecordError, match="1 aligned rows for 2 frames"):
            writer.replace_aligned("camera", {"gauge.pressure": (np.ones(1), np.ones(1), np.ones(1, bool))})
    with pytest.raises(RecordError, match="the run is closed"):
        writer.append_event(START, "late")
    with open_run(path) as run:
        assert len(run.frames) == 2


def test_a_stranger_s_file_is_told_from_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes.nxs").write_text("not HDF5")
    with pytest.raises(RecordError, match="not an HDF5 file"):
        open_run(tmp_path / "notes.nxs")
    with h5py.File(tmp_path / "other.nxs", "w") as file:
        file["x"] = 1
    with pytest.raises(RecordError, match="not a run of ours"):
        open_run(tmp_path / "other.nxs")
    with pytest.raises(RecordError, match="no such run"):
        open_run(tmp_path / "absent.nxs")


def test_importing_the_package_does_not_import_h5py() -> None:
    code = "import sys, hal.recording; print('h5py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def validated(path: Path) -> str:
    """What `pynx validate` says; it exits 0 even when the file is not valid."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("pynx")), "validate", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr
