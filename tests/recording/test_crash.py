"""A run whose writer is killed, and a run that is read while it is written: real processes, real kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

import hal.recording.lock as lock_module
from hal.errors import RecordError
from hal.recording import (
    Aligned,
    Alignment,
    CameraPlan,
    ClockAnchor,
    NexusWriter,
    RunPlan,
    SignalPlan,
    open_run,
)
from hal.recording.lock import is_being_written
from hal.recording.repair import find_broken, repair
from hal.recording.superblock import Superblock, lookup3

pytestmark = pytest.mark.real_clock

WRITER = """
import sys, threading, time
import numpy as np
from hal.recording import CameraPlan, ClockAnchor, NexusWriter, RunPlan, SignalPlan

path, pace = sys.argv[1], sys.argv[2]
begin = time.time_ns()
writer = NexusWriter(path, RunPlan(
    "crash", begin, ClockAnchor(begin, 0), sample="none",
    signals=[SignalPlan("heater.temperature", "degC"), SignalPlan("valve.state", kind="str"),
             SignalPlan("adc.voltage", "V", rate=1000.0)],
    cameras=[CameraPlan("camera", (64, 64), "uint8", 0.001, 1000.0,
                        aligned=["heater.temperature", "valve.state"])],
))
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
print("ready", flush=True)
noise = np.random.default_rng(1).poisson(3, (20, 64, 64)).astype("u1")
k = 0
while not stop.is_set():
    number = np.arange(k, k + 20)
    now = time.time_ns()
    images = noise.copy()
    images[:, 0, :8] = number.astype("<i8").view("u1").reshape(20, 8)   # the frame says who it is
    start = now - (19 - np.arange(20)) * 1_000_000
    ones = np.ones(20, bool)
    columns = dict(number=number, start=start, stop=start, arrival=start, valid=ones)
    writer.append_frames("camera", images, columns)
    writer.append_signal("heater.temperature", [float(k)], [now])
    writer.append_signal("valve.state", ["open"], [now])
    writer.append_signal("adc.voltage", number / 1.0, start)
    writer.append_event(now, "tick", "camera", str(k))
    if k >= 400:                                                         # alignment lags behind
        writer.append_aligned("camera", k - 400, {"heater.temperature": (number - 400.0, ones * 0.1, ones)})
    k += 20
    if pace == "paced":
        stop.wait(max(0.0, begin / 1e9 + k / 1000 - time.time()))
writer.close(time.time_ns(), {"frames": k})
print(k, flush=True)
"""


@dataclass
class Child:
    """A writer in a process of its own."""

    path: Path
    process: subprocess.Popen[str]
    killed: int = 0  # ns

    def kill(self) -> None:
        self.killed = time.time_ns()
        self.process.kill()
        self.process.communicate()


def written(path: Path, pace: str = "paced") -> Child:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), pace],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return Child(path, process)


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, machine_to_oneself: Callable[[], AbstractContextManager[None]]
) -> Mapping[str, Child]:
    """Writers killed at several moments; the last one while it writes as fast as it can."""
    folder = tmp_path_factory.mktemp("killed")
    moments = {"at once": 0.0, "early": 0.6, "later": 1.45, "flat out": 1.0}  # s
    with machine_to_oneself():
        children = {
            name: written(folder / f"{name.replace(' ', '_')}.nxs", "flat" if name == "flat out" else "paced")
            for name in moments
        }
        begin = time.monotonic()
        for name, moment in sorted(moments.items(), key=lambda item: item[1]):
            time.sleep(max(0.0, begin + moment - time.monotonic()))
            children[name].kill()
    return children


def copied(child: Child, folder: Path) -> Path:
    """The killed run as its writer left it, with the lock file."""
    for path in (child.path, child.path.with_name(f"{child.path.name}.lock")):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / child.path.name


MOMENTS = ["at once", "early", "later", "flat out"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_opens_at_once_with_swmr_and_lost_at_most_a_second(
    killed: Mapping[str, Child], moment: str
) -> None:
    child = killed[moment]
    with pytest.raises(OSError), h5py.File(child.path):
        pass
    with h5py.File(child.path, swmr=True):
        pass
    with open_run(child.path) as run:
        assert run.state == "interrupted"
        count = len(run.frames)
        if moment != "at once":
            assert child.killed - run.frame_time[count - 1] < 1_000_000_000
            assert child.killed - run.signals["heater.temperature"].time[-1] < 1_000_000_000
            assert child.killed - run.events[-1].time < 1_000_000_000


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_repaired_run_opens_plainly_and_holds_all_that_was_readable_before(
    killed: Mapping[str, Child], moment: str, tmp_path: Path
) -> None:
    path = copied(killed[moment], tmp_path)
    with open_run(path) as run:
        before, readings = len(run.frames), {name: len(run.signals[name]) for name in run.signals}
    assert find_broken(tmp_path) == [path]
    report = repair(path)
    assert report.changed
    assert report.frames == {"camera": before}
    assert "repaired" in str(report)
    with h5py.File(path) as file:
        stack = file["entry/measurement/event_camera/image_frames/stack_2d"]
        assert {len(item) for name, item in stack.items() if item.maxshape[:1] == (None,)} == {before}
        stimuli = [item for item in file["entry/stimuli_camera"].values() if isinstance(item, h5py.Dataset)]
        assert {len(item) for item in stimuli if item.ndim} == {before}
        assert file["entry/end_time"].asstr()[()]
    with open_run(path) as run:
        assert run.state == "crashed"
        assert run.end_time is not None
        assert run.end_time <= killed[moment].killed
        assert {name: len(run.signals[name]) for name in run.signals} == readings
        labels = np.ascontiguousarray(run.frames[:, 0, :8]).view("<i8")[:, 0]
        assert (labels == np.arange(before)).all()  # every frame is itself
        assert (run.frame_number == labels).all()
        aligned = run.aligned["heater.temperature"]
        assert (aligned.value[aligned.valid] == np.arange(before)[aligned.valid]).all()
        assert [event.text for event in run.events][1:4] == ["0", "20", "40"][: len(run.events) - 1]
    assert find_broken(tmp_path) == []
    assert sorted(tmp_path.iterdir()) == [path]


def test_repairing_twice_changes_nothing_the_second_time(killed: Mapping[str, Child], tmp_path: Path) -> None:
    path = copied(killed["later"], tmp_path)
    assert repair(path).changed
    after = path.read_bytes()
    again = repair(path)
    assert not again.changed
    assert "nothing to do" in str(again)
    assert path.read_bytes() == after


@pytest.mark.filterwarnings("ignore")
def test_a_repaired_run_is_valid_nexus_and_opens_in_hyperspy(killed: Mapping[str, Child], tmp_path: Path) -> None:
    hs = pytest.importorskip("hyperspy.api")
    path = copied(killed["later"], tmp_path)
    repair(path)
    pynx = Path(sys.executable).with_name("pynx")
    said = subprocess.run([str(pynx), "validate", str(path)], capture_output=True, text=True, check=False)
    assert "is valid according to the `NXem`" in said.stdout + said.stderr
    assert hs.load(path, use_default=True, lazy=True).axes_manager.signal_shape == (64, 64)


def test_repair_lets_the_caller_align_again_and_keeps_the_result(killed: Mapping[str, Child], tmp_path: Path) -> None:
    path = copied(killed["later"], tmp_path)

    def realign(run: object) -> Mapping[str, Alignment]:
        count = len(run.frames)  # type: ignore[attr-defined]
        return {
            "camera": Alignment(
                {
                    "heater.temperature": Aligned(np.full(count, 7.0), np.full(count, 0.5), np.ones(count, bool)),
                    "valve.state": Aligned(np.full(count, "open"), np.full(count, np.nan), np.ones(count, bool)),
                }
            )
        }

    assert repair(path, realign).realigned == ("camera",)
    with open_run(path) as run:
        assert (run.aligned["heater.temperature"].value == 7.0).all()
        assert (run.aligned["valve.state"].value == "open").all()


def test_a_repair_that_failed_halfway_can_be_done_again(killed: Mapping[str, Child], tmp_path: Path) -> None:
    path = copied(killed["early"], tmp_path)

    def realign(run: object) -> Mapping[str, Alignment]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        repair(path, realign)
    assert find_broken(tmp_path) == [path]
    assert repair(path).changed
    with open_run(path) as run:
        assert run.state == "crashed"


def test_bytes_that_never_reached_the_disk_cost_only_themselves(killed: Mapping[str, Child], tmp_path: Path) -> None:
    path = copied(killed["later"], tmp_path)
    with open_run(path) as run:
        before = len(run.frames)
    superblock = Superblock.read(path)
    assert superblock is not None  # the file may be longer than what its head vouches for
    os.truncate(path, superblock.end_of_file - 200_000)  # a power cut
    report = repair(path)
    assert any("never reached the disk" in note for note in report.notes)
    with open_run(path) as run:
        count = len(run.frames)
        assert count == before  # the room is kept, and what can't be read says so
        labels = np.ascontiguousarray(run.frames[: count // 2, 0, :8]).view("<i8")[:, 0]
        assert (labels == np.arange(count // 2)).all()


def test_a_crashed_run_that_someone_reads_is_repaired_once_they_stop(
    killed: Mapping[str, Child], tmp_path: Path
) -> None:
    path = copied(killed["early"], tmp_path)
    with open_run(path), pytest.raises(RecordError, match="someone reads it now"):
        repair(path)
    assert find_broken(tmp_path) == [path]
    assert repair(path).changed


def test_a_writer_killed_before_its_first_row_leaves_a_run_that_can_be_repaired(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    plan = RunPlan("nothing yet", 1, ClockAnchor(1, 0), signals=[SignalPlan("a.b")])
    writer = NexusWriter(path, plan)
    before_swmr = path.read_bytes()
    writer.close(2)
    body = bytearray(before_swmr[:44])
    body[11] = 1  # open for writing, SWMR not begun
    path.write_bytes(bytes(body) + lookup3(bytes(body)).to_bytes(4, "little") + before_swmr[48:])
    with pytest.raises(RecordError, match="run `hal repair` on it"):
        open_run(path)
    assert repair(path).changed
    with open_run(path) as run:
        assert run.state == "crashed"
        assert len(run.signals["a.b"]) == 0


def test_a_damaged_superblock_is_refused_and_left_alone(killed: Mapping[str, Child], tmp_path: Path) -> None:
    path = copied(killed["early"], tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:30] + bytes([whole[30] ^ 1]) + whole[31:])
    before = path.read_bytes()
    with pytest.raises(RecordError, match="damaged"):
        repair(path)
    assert path.read_bytes() == before


def test_a_run_can_be_read_by_another_process_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    child = written(path)
    try:
        with open_run(path) as run:
            assert run.state == "recording"
            assert run.end_time is None
            assert run.summary == {}
            seen = [wait_for_frames(run, 1)]
            seen.append(wait_for_frames(run, seen[0] + 300))
            labels = np.ascontiguousarray(run.frames[:, 0, :8]).view("<i8")[:, 0]
            assert (labels == np.arange(len(labels))).all()
            assert len(run.signals["heater.temperature"]) > 0
            assert len(run.events) > 10
            assert run.signals["valve.state"].value[-1] == "open"
            aligned = run.aligned["heater.temperature"]
            assert len(aligned.value) >= seen[1]
            assert not aligned.valid[-1]
            assert np.isnan(aligned.value[-1])

            assert is_being_written(path)
            assert find_broken(tmp_path) == []
            with pytest.raises(RecordError, match=f"process {child.process.pid} on .* is writing it"):
                repair(path)

            out, _ = child.process.communicate("stop\n", timeout=20)
            frames = int(out)
            assert len(run.frames) == frames  # the reader that was there sees the end as well
            assert (run.frames[-1] == run.frames[frames - 1]).all()
            assert run.state == "finished"
    finally:
        child.kill()
    assert not repair(path).changed
    assert sorted(tmp_path.iterdir()) == [path]
    with h5py.File(path), open_run(path) as run:
        assert run.summary == {"frames": frames}
        assert len(run.frames) == frames


def test_a_frozen_writer_is_still_a_writer(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("no SIGSTOP on Windows")
    child = written(tmp_path / "run.nxs")
    try:
        child.process.send_signal(signal.SIGSTOP)
        with pytest.raises(RecordError, match="close that run first"):
            repair(child.path)
    finally:
        child.kill()


def test_a_run_open_for_writing_in_this_very_process_is_not_touched(tmp_path: Path) -> None:
    plan = RunPlan("here", 0, ClockAnchor(0, 0), signals=[SignalPlan("a.b")], cameras=[CameraPlan("camera", (4, 4))])
    with NexusWriter(tmp_path / "run.nxs", plan):
        with pytest.raises(RecordError, match=f"process {os.getpid()} "):
            repair(tmp_path / "run.nxs")
        assert find_broken(tmp_path) == []


def test_a_run_followed_within_the_same_process_ends_well_and_is_tidied_later(tmp_path: Path) -> None:
    path = tmp_path / "run.nxs"
    plan = RunPlan("notebook", 1, ClockAnchor(1, 0), signals=[SignalPlan("valve.state", kind="str")])
    writer = NexusWriter(path, plan)
    with open_run(path) as run:
        writer.append_signal("valve.state", ["open"], [2])
        writer.flush()
        assert run.signals["valve.state"].value.tolist() == ["open"]
        writer.close(3, {"good": True})
        assert run.state == "finished"
        assert run.summary == {"good": True}
    with open_run(path) as run:
        assert run.state == "finished"
    assert repair(path).changed
    with open_run(path) as run:
        assert run.state == "finished"
        assert run.end_time == 3
        assert [event.kind for event in run.events] == ["start", "end"]
    assert not repair(path).changed


def test_a_writer_on_another_computer_is_known_by_its_heartbeat(
    killed: Mapping[str, Child], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied(killed["early"], tmp_path)
    lock = path.with_name(f"{path.name}.lock")
    lock.write_text('{"pid": 1, "host": "microscope-2"}')
    monkeypatch.setattr(lock_module, "HEARTBEAT", 0.3)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            os.utime(lock)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RecordError, match="process 1 on microscope-2"):
            repair(path)
    finally:
        stop.set()
        thread.join()
    assert repair(path).changed  # the heart has stopped


def test_the_checksum_is_jenkins_lookup3() -> None:
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551  # from Jenkins' own driver5()


def test_the_checksum_agrees_with_the_one_hdf5_writes(tmp_path: Path) -> None:
    for block in (0, 512, 4096):
        path = tmp_path / f"{block}.h5"
        with h5py.File(path, "w", libver="latest", userblock_size=block) as file:
            file["x"] = 1
        superblock = Superblock.read(path)
        assert superblock is not None
        assert superblock.position == block
        assert superblock.is_sound
        assert superblock.flags == 0


def wait_for_frames(run: object, count: int) -> int:
    until = time.monotonic() + 10
    while len(run.frames) < count:  # type: ignore[attr-defined]
        assert time.monotonic() < until, f"no {count} frames within 10 s"
        time.sleep(0.02)
    return len(run.frames)  # type: ignore[attr-defined]
