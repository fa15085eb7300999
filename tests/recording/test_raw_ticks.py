"""Exchanges, pulses and samples on record, and the times that follow from them; the truth is known."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from ticking import BOOT, EXPOSURE, PULSE_INPUT, START, VOLT, World, ticks_of, volts

from hal.clock.timebase import Anchor, Timebase
from hal.errors import RecordError
from hal.frames.frame import Reason
from hal.model.context import Context
from hal.protocols.firmware import SampleChunk
from hal.recording import NexusWriter, open_run
from hal.recording.again import align_again
from hal.recording.export import export
from hal.recording.realign import from_recording, realigned
from hal.recording.repair import repair
from hal.recording.summary import timing, timing_lines
from hal.recording.wall import WallWatch


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def path(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ticking") / "run.nxs"
    world.record(path)
    return path


def test_every_exchange_pulse_and_sample_comes_back_as_it_was(world: World, path: Path) -> None:
    again = World()
    with open_run(path) as run:
        exchanges = run.clocks["board"].exchanges
        assert list(exchanges)[:2] == again.exchanges(START, START + 100_000_000)[:2]
        assert run.clocks["board"].declared == world.plan().clocks[0]
        pulses = run.pulses["board"]
        mine = pulses.input == PULSE_INPUT
        assert pulses.ticks[mine].tolist() == ticks_of(world.true_start).tolist()
        assert set(pulses.boot) == {BOOT}
        assert 0 < (~mine).sum() < 200
        stream = run.streams["board"]
        assert np.all(np.diff(stream.ticks) == 1000)
        assert np.abs(stream.value(0) - volts(START + ((stream.ticks / 1e6) / (1 + 23e-6) - 1234.5) * 1e9)).max() < VOLT
        assert stream.declared == world.plan().streams[0]
        assert "80 exchanges" in repr(run.clocks["board"])
        assert "inputs [0, 3]" in repr(stream)
        with pytest.raises(KeyError, match="no clock 'gauge' in this run; there are board"):
            run.clocks["gauge"]


def test_samples_with_a_gap_keep_their_ticks_and_those_without_a_value_are_nan(world: World, tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    none = np.zeros(1, np.int64)
    ticks = np.array([1000, 2000, 3000, 9000, 10000])
    counts = np.array([[1, 5], [-1, 5], [3, 5], [4, 5], [5, 5]], np.int16)
    with NexusWriter(path, world.plan()) as writer:
        chunk = SampleChunk(BOOT, (0, 3), 1000, ticks, counts, none, none, np.zeros(1, np.uint8), START, VOLT)
        writer.ticks.append_samples("board", chunk)
        with pytest.raises(RecordError, match=r"samples of inputs \[0\] don't fit the run's \[0, 3\]; start a new run"):
            writer.ticks.append_samples("board", replace(chunk, channels=(0,), counts=counts[:, :1]))
        with pytest.raises(RecordError, match="gauge: no clock of this name in this run"):
            writer.ticks.append_exchanges("gauge", [])
    with open_run(path) as run:
        assert run.streams["board"].ticks.tolist() == ticks.tolist()
        assert run.streams["board"].missing == 5
        assert np.isnan(run.streams["board"].value(0)).tolist() == [False, True, False, False, False]
        assert len(run.clocks["board"].exchanges) == len(run.pulses["board"]) == 0


def test_exposures_by_pulses_are_where_they_were_and_drops_shift_nothing(world: World, path: Path) -> None:
    with open_run(path) as run:
        found = realigned(run)
        by_arrival = run.frames.bound
    times, matching = found.cameras["camera"].times, found.matchings["camera"]
    assert times is not None
    assert times.valid.all()
    error = times.start - world.true_start[world.received]
    assert (np.abs(error) <= times.bound).all()
    assert np.ptp(error) < 40_000  # ns: what of the error is common stays common
    assert times.bound.max() < 1_000_000 < by_arrival.min()
    assert matching.matched + matching.inferred == len(error)
    assert (matching.ambiguous, matching.without_pulse, matching.not_matched) == (0, 0, 0)
    assert found.dropped == {"camera": 3}


def test_a_camera_set_to_another_rate_in_the_middle_of_a_run_has_its_exposures_by_pulses_all_the_same(
    tmp_path: Path,
) -> None:
    path, world = tmp_path / "run.nxs", World(slower=True)
    world.record(path)
    with open_run(path) as run:
        found = realigned(run)
    times = found.cameras["camera"].times
    assert times is not None
    assert times.valid.all()
    assert set(times.stop - times.start) == {3_000_000, 8_000_000}
    assert (np.abs(times.start - world.true_start[world.received]) <= times.bound).all()
    assert times.bound.max() < 1_000_000


def test_a_frame_names_the_pulse_that_was_its_own(world: World, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.nxs"
    align_again(path, out)
    with open_run(out) as run:
        pulse, pulses = run.frames.pulse, run.pulses["board"]
        assert run.frames.frame_clock == ("board", PULSE_INPUT)
        own = pulse >= 0
        assert own.mean() > 0.5
        wanted = ticks_of(world.true_start[world.received])
        assert (pulses.ticks[pulse[own]] == wanted[own]).all()


def test_what_the_board_sampled_itself_meets_the_frames_without_the_error_of_its_clock(
    world: World, path: Path
) -> None:
    """The link's two ways differ by 0.8 ms, so board and lab are 0.4 ms apart: on this swing 0.9 mV."""
    middle = world.true_start[world.received] + round(EXPOSURE * 5e8)
    with open_run(path) as run:
        columns = realigned(run).cameras["camera"].columns
    sampled, elsewhere = columns["board.input_0"], columns["gauge.voltage"]
    error = sampled.value - volts(middle)
    assert sampled.valid.all()
    assert np.sqrt(np.mean(error**2)) < 0.3 * VOLT
    assert np.mean(np.abs(error) < 2 * sampled.uncertainty) > 0.9
    assert np.median(sampled.uncertainty) < 0.3 * VOLT
    # What another instrument said is stamped by the lab's clock: its uncertainty has the board's error in it.
    assert np.nanmedian(elsewhere.uncertainty) > 10 * np.median(sampled.uncertainty)


def test_a_board_that_stamped_nothing_leaves_arrivals_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    World(pulses=False).record(path)
    with open_run(path) as run:
        found = realigned(run)
    times = found.cameras["camera"].times
    assert times is not None
    assert times.valid.mean() > 0.99
    assert found.cameras["camera"].by == "the lower envelope of their arrivals"
    said = "\n".join(timing_lines(timing(found)))
    assert "0 pulses at input 2 of board, not used: board stamped no pulse at input 2; is the cable plugged in?" in said
    assert json.loads(json.dumps(timing(found)))["clocks"]["board"]["exchanges"] == 80


def test_the_summary_tells_clocks_and_matching_in_a_line_each(path: Path) -> None:
    with open_run(path) as run:
        lines = timing_lines(timing(realigned(run)))
    assert lines[0].startswith("camera: 992 frames, 3 dropped, 0 without a time, exposures known to +-")
    assert lines[0].endswith("us by pulses at input 2 of board")
    assert lines[1].startswith("camera: 995 pulses at input 2 of board; ")
    assert lines[2].startswith("clock of board: 80 exchanges, -2")
    assert "known to +-" in lines[2]


def test_a_reason_that_the_numbers_gave_when_frames_came_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    world = World()
    with NexusWriter(path, world.plan()) as writer:
        world.fill(writer)
    with h5py.File(path, "r+") as file:
        file["entry/measurement/event_camera/image_frames/stack_2d/reason"][7] = Reason.BAD_NUMBER
    with open_run(path) as run:
        times = realigned(run).cameras["camera"].times
    assert times is not None
    assert times.reason is not None
    assert times.reason[7] == Reason.BAD_NUMBER
    assert not times.valid[7]
    assert times.valid[8]


def test_ticks_can_be_read_while_the_run_is_written(world: World, tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    writer = NexusWriter(path, world.plan())
    with open_run(path) as run:
        before = len(run.clocks["board"].exchanges)
        World().write(writer, START, START + 200_000_000)
        writer.flush()
        assert (before, len(run.clocks["board"].exchanges)) == (0, 4)
        assert len(run.pulses["board"]) > 40
        assert len(run.streams["board"]) == 200
        writer.close(START + 300_000_000)


def test_a_run_killed_in_the_middle_is_repaired_and_aligned_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    command = [sys.executable, str(Path(__file__).with_name("ticking.py")), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 14:
            break
    process.kill()
    process.communicate()
    report = repair(path, from_recording)
    assert report.realigned == ("camera",)
    with open_run(path) as run:
        assert run.state == "crashed"
        origin = run.origin
        assert origin is not None
        stream = run.streams["board"]
        assert np.all(np.diff(stream.ticks) == 1000)
        assert len(stream) == stream.count.sum() > 500
        frames, bound = len(run.frames), np.median(run.frame_bound[run.frame_valid])
        assert frames > 200
        assert bound < 1_000_000
    again = align_again(path)
    assert again.origin.digest == origin.digest
    assert again.cameras["camera"].largest_shift == 0.0


def test_tables_carry_the_pulse_and_the_uncertainty_of_the_time(path: Path, tmp_path: Path) -> None:
    align_again(path, tmp_path / "new.nxs")
    export(tmp_path / "new.nxs", tmp_path / "tables", progress=False)
    with open(tmp_path / "tables" / "aligned_camera.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[10]["time sigma (ns)"]) > 0
    assert 0 <= max(int(row["row among the pulses of board"]) for row in rows) < 1200
    assert {row["reason"] for row in rows} == {"0"}
    with open(tmp_path / "tables" / "signal_board.load.csv", encoding="utf-8", newline="") as stream:
        assert int(next(iter(csv.DictReader(stream)))["ticks"]) > 0


def test_a_picture_shows_clocks_and_intervals(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from hal.recording.clock_picture import draw_clock, draw_intervals
    from hal.recording.clocks import RunClocks
    from hal.recording.picture import picture

    align_again(path, tmp_path / "new.nxs")
    assert picture(tmp_path / "new.nxs").stat().st_size > 20_000
    from matplotlib.figure import Figure

    with open_run(tmp_path / "new.nxs") as run:
        above, below = Figure().subplots(2, 1)
        draw_intervals(above, run.frames, run.start_time)
        draw_clock(below, run, RunClocks(run), "board")
    assert above.get_title(loc="left") == "camera: 992 frames every 4 ms, 3 dropped, 0 without a time"
    (drops,) = [line for line in above.lines if line.get_label() == "over dropped ones"]
    assert np.round(drops.get_ydata()).tolist() == [12, 8]  # two in a row, then one
    assert below.get_title(loc="left").startswith("clock of board: 80 exchanges, -2")
    early, late = (
        next(x for x in below.lines if x.get_label() == name) for name in ("question left", "answer was here")
    )
    assert max(early.get_ydata()) < 0 < min(late.get_ydata())  # the model runs between


class _Wall:
    """A wall clock that somebody corrects."""

    def __init__(self) -> None:
        self.now = 0
        self.ahead = 0
        self.context = Context(Timebase(lambda: self.now, Anchor(0, 0, 0), lambda: self.now + self.ahead))
        self.watch = WallWatch(self.context)

    def after(self, seconds: float) -> list[int]:
        """Look ten times a second; return what was entered by now."""
        for _ in range(round(seconds * 10)):
            self.now += 100_000_000
            self.watch.look()
        return [event.data["moved_ns"] for event in self.context.journal.recent]


def test_a_corrected_wall_clock_is_noted_once_it_moved_a_millisecond_and_never_followed() -> None:
    wall = _Wall()
    wall.watch.tell()
    assert wall.after(20) == [0]
    wall.ahead = 900_000
    assert wall.after(20) == [0]
    wall.ahead = 3_000_000_000  # NTP steps it by 3 s
    assert wall.after(20) == [0, 3_000_000_000]
    assert wall.context.timebase.now() == wall.now
    wall.ahead = -2_000_000
    assert wall.after(20)[-1] == -2_000_000


def test_a_wall_clock_that_slews_all_the_time_is_noted_every_few_seconds_at_most() -> None:
    wall = _Wall()
    for _ in range(600):  # a minute, 20 ms/s
        wall.ahead += 2_000_000
        entries = wall.after(0.1)
    assert 10 <= len(entries) <= 13


def test_a_look_at_the_wall_clock_is_not_deceived_by_a_pause_in_the_middle_of_it() -> None:
    now = 0
    pauses = iter([40_000_000, 0, 70_000_000, 0])

    def counter() -> int:
        nonlocal now
        now += 50  # ns that a look takes
        return now

    def wall() -> int:
        nonlocal now
        seen = now
        now += next(pauses)
        return seen

    assert abs(Timebase(counter, Anchor(0, 0, 0), wall).drift()) <= 50
