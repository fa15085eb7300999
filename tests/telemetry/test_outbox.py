"""What waits on disk: in order, bounded and counted, and still there after a kill."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hal.telemetry import outbox as module
from hal.telemetry import spool as spooling
from hal.telemetry import tally as tallying
from hal.telemetry.keeper import Keeper
from hal.telemetry.outbox import Outbox
from hal.telemetry.segment import line
from hal.telemetry.spool import Spool
from hal.telemetry.tally import OutboxInUse

TOPIC = "insitu/em3/heater/temperature"


def lines(*numbers):
    return [line(TOPIC, b'{"n":%d}' % number) for number in numbers]


def number(message):
    return int(message.payload[5:-1])


def everything(outbox, most=200):
    """Read and confirm all."""
    found = []
    while messages := outbox.read(most):
        for message in messages:
            outbox.confirm(message)
            if message.topic:
                found.append(number(message))
    return found


@pytest.fixture(params=["disk", "memory"])
def outbox(request, tmp_path):
    outbox = Outbox(tmp_path / "outbox" if request.param == "disk" else None)
    yield outbox
    outbox.close()


def test_what_waits_is_read_in_order_and_as_it_was(outbox):
    outbox.append(lines(*range(50)))
    outbox.append(lines(*range(50, 60)))
    first = outbox.read(40)
    assert (first[0].topic, first[0].payload) == (TOPIC, b'{"n":0}')
    outbox.rewind()
    assert everything(outbox) == list(range(60))
    assert outbox.waiting == 0


def test_what_was_not_confirmed_when_the_broker_was_lost_is_read_again(outbox):
    outbox.append(lines(*range(10)))
    messages = outbox.read()
    for message in messages[:4]:
        outbox.confirm(message)
    outbox.rewind()
    assert everything(outbox) == list(range(4, 10))


def test_a_reading_that_was_under_way_when_the_broker_was_lost_gives_nothing_and_skips_nothing(outbox):
    outbox.append(lines(*range(10)))
    turn = outbox.turn
    outbox.rewind()
    assert outbox.read(turn=turn) == []
    assert everything(outbox) == list(range(10))


def test_the_next_session_goes_on_where_the_last_one_was(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.append(lines(*range(10)))
    for message in outbox.read()[:4]:
        outbox.confirm(message)
    outbox.close()
    outbox = Outbox(tmp_path)
    outbox.append(lines(10))
    assert outbox.waiting == 7
    assert everything(outbox) == list(range(4, 11))
    outbox.tidy()
    outbox.close()
    assert [path.name for path in tmp_path.iterdir()] == ["tally"]


def test_beyond_its_size_the_oldest_are_dropped_and_counted(tmp_path):
    outbox = Outbox(tmp_path, size=0.02)
    for first in range(0, 3000, 10):
        outbox.append(lines(*range(first, first + 10)))
    dropped = outbox.status().dropped_size
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 26_000
    assert 0 < dropped < 3000
    assert everything(outbox) == list(range(dropped, 3000))
    outbox.close()


def test_what_has_waited_for_too_long_is_dropped_and_counted(tmp_path):
    now = [1e9]
    outbox = Outbox(tmp_path, age=1.0, clock=lambda: now[0])
    outbox.append(lines(0, 1, 2))
    now[0] += 80_000  # s
    outbox.append(lines(3))
    now[0] += 10_000
    outbox.tidy()
    assert outbox.status().dropped_age == 3
    assert everything(outbox) == [3]
    outbox.close()


def test_in_memory_the_oldest_are_dropped_and_counted():
    outbox = Outbox(memory=1000)
    outbox.append(lines(*range(1000)))
    dropped = outbox.status().dropped_size
    assert 900 < dropped < 1000
    assert everything(outbox) == list(range(dropped, 1000))


def left(folder, *numbers):
    """The segment of an outbox that an earlier session left with these."""
    outbox = Outbox(folder)
    outbox.append(lines(*numbers))
    outbox.close()
    (segment,) = folder.glob("*.waiting")
    return segment


def flipped(data, place):
    return data[:place] + bytes((data[place] ^ 4,)) + data[place + 1 :]


@pytest.mark.parametrize("part", ["checksum", "topic", "tab", "value"])
def test_a_line_in_which_a_bit_has_flipped_is_counted_and_not_sent(tmp_path, part):
    segment = left(tmp_path, 10, 11, 12)
    text = segment.read_bytes()
    begin = text.index(b"\n") + 1
    place = {"checksum": begin + 3, "topic": text.index(b"heater", begin), "tab": begin + 8,
             "value": text.index(b"11", begin)}[part]  # fmt: skip
    segment.write_bytes(flipped(text, place))
    outbox = Outbox(tmp_path)
    assert everything(outbox) == [10, 12]
    assert (outbox.status().damaged, outbox.waiting, outbox.unread) == (1, 0, False)
    outbox.close()
    outbox = Outbox(tmp_path)
    assert (everything(outbox), outbox.status().damaged) == ([], 1)
    outbox.close()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_however_a_segment_is_damaged_nothing_false_is_sent_and_nothing_waits_for_ever(data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        segment = left(folder, *range(100, 120))
        text = segment.read_bytes()
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(text) - 1))
            harms = (flipped(text, place), text[: place or 1], text[:place] + text[place + 7 :])
            text = data.draw(st.sampled_from(harms))
            text = text or b"?"
        segment.write_bytes(text)
        outbox = Outbox(folder)
        outbox.append(lines(120))
        found = everything(outbox, most=data.draw(st.integers(1, 300)))
        assert found == sorted(set(found))
        assert set(found) <= set(range(100, 121))
        assert found[-1] == 120
        assert (outbox.waiting, outbox.unread) == (0, False)
        outbox.close()


def test_a_torn_line_at_the_very_end_is_not_waited_for(tmp_path):
    segment = left(tmp_path, 0)
    with segment.open("ab") as file:
        file.write(line(TOPIC, b'{"n":1}')[:-3])
    outbox = Outbox(tmp_path)
    assert everything(outbox) == [0]
    assert (outbox.waiting, outbox.unread) == (0, False)
    outbox.close()


@pytest.mark.parametrize("harm", [lambda path: os.truncate(path, 100), os.remove], ids=["cut short", "deleted"])
def test_what_somebody_takes_away_is_counted_and_what_comes_later_is_whole(tmp_path, harm):
    outbox = Outbox(tmp_path)
    outbox.append(lines(*range(10)))
    (segment,) = tmp_path.glob("*.waiting")
    harm(segment)
    outbox.append(lines(*range(10, 20)))
    found = everything(outbox)
    assert found[-10:] == list(range(10, 20))
    assert outbox.status().damaged == 20 - len(found) > 0
    assert (outbox.waiting, outbox.unread) == (0, False)
    outbox.close()


def test_what_cannot_be_read_at_the_moment_is_not_given_up(tmp_path, monkeypatch):
    outbox = Outbox(tmp_path)
    outbox.append(lines(*range(10)))

    def exhausted(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", exhausted)
        assert outbox.read() == []
    assert everything(outbox) == list(range(10))
    outbox.close()


def test_a_disk_that_is_pulled_out_is_waited_for(tmp_path):
    outbox = Outbox(tmp_path / "outbox")
    outbox.append(lines(*range(10)))
    (tmp_path / "outbox").rename(tmp_path / "away")
    assert outbox.read() == []
    assert outbox.waiting == 10
    (tmp_path / "away").rename(tmp_path / "outbox")
    assert everything(outbox) == list(range(10))
    outbox.close()


def test_a_tally_that_is_damaged_is_begun_anew_and_all_that_waits_is_sent(tmp_path):
    left(tmp_path, *range(10))
    tally = tmp_path / "tally"
    tally.write_bytes(flipped(tally.read_bytes(), 35))
    outbox = Outbox(tmp_path)
    assert outbox.status() == module.OutboxStatus(waiting=10)
    assert everything(outbox) == list(range(10))
    outbox.close()


@pytest.mark.parametrize("step", [-3e9, 3e9], ids=["back", "ahead"])
def test_a_clock_that_is_corrected_makes_nothing_too_old(tmp_path, monkeypatch, step):
    now, ahead = time.time, [0.0]
    monkeypatch.setattr(module.time, "time", lambda: now() + ahead[0])
    outbox = Outbox(tmp_path, age=1.0)
    outbox.append(lines(0, 1))
    ahead[0] = step
    outbox.append(lines(2))
    assert everything(outbox) == [0, 1, 2]
    outbox.close()


def test_two_labs_do_not_share_an_outbox(tmp_path):
    outbox = Outbox(tmp_path)
    with pytest.raises(OutboxInUse, match="another lab uses the outbox .*; give each a folder of its own"):
        Outbox(tmp_path)
    outbox.close()
    Outbox(tmp_path).close()


class Disk:
    """Lets so many bytes pass, then is full."""

    def __init__(self, monkeypatch, room):
        self.room = room
        write = os.write

        def limited(file, data):
            if self.room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = write(file, data[: self.room])
            self.room -= written
            return written

        monkeypatch.setattr(module.os, "write", limited)


def test_a_full_disk_loses_nothing_that_memory_holds_and_is_told_once(tmp_path, monkeypatch):
    spool, told = Spool(), []
    outbox = Outbox(tmp_path)
    disk = Disk(monkeypatch, room=100)
    keeper = Keeper(spool, outbox, lambda well, text: told.append((well, text)))
    for first in range(0, 30, 10):
        for each in range(first, first + 10):
            spool.put(TOPIC, b'{"n":%d}' % each)
        keeper._move()
    assert outbox.status().full
    ((well, text),) = told
    assert not well
    assert "No space left on device" in text
    assert "make room on the disk" in text
    disk.room = 10**9
    keeper._move()
    assert [well for well, _ in told] == [False, True]
    assert outbox.waiting == 30
    assert everything(outbox) == list(range(30))
    outbox.close()


def test_what_a_full_disk_does_not_take_before_the_end_is_counted(tmp_path, monkeypatch):
    Disk(monkeypatch, room=0)
    outbox = Outbox(tmp_path)
    outbox.append(lines(*range(10)))
    outbox.close()
    monkeypatch.undo()
    outbox = Outbox(tmp_path)
    assert (outbox.status().dropped_full, outbox.lost) == (10, 0)
    outbox.close()


@pytest.mark.real_clock
def test_a_disk_that_does_not_answer_is_told_and_what_it_costs_is_counted(tmp_path, monkeypatch):
    released, write = threading.Event(), os.write
    outbox = Outbox(tmp_path)
    monkeypatch.setattr(module.os, "write", lambda *given: released.wait(60) and write(*given))
    monkeypatch.setattr(module, "SILENT", 0.05)
    monkeypatch.setattr(spooling, "QUEUE", 50)
    spool = Spool(tally=outbox.tally)
    keeper = Keeper(spool, outbox, lambda *_: None)
    keeper.start()
    spool.put(TOPIC, b'{"n":0}')
    deadline = time.monotonic() + 60
    while not outbox.status().full:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "the disk does not answer" in outbox.status().reason
    for number in range(1, 101):
        spool.put(TOPIC, b'{"n":%d}' % number)
    released.set()
    keeper.stop()
    outbox = Outbox(tmp_path)
    status = outbox.status()
    outbox.close()
    assert (status.dropped_full, status.waiting, status.lost_at_kill) == (50, 51, 0)


def test_with_a_full_disk_and_the_broker_back_what_waits_in_memory_is_sent(tmp_path, monkeypatch):
    Disk(monkeypatch, room=0)
    outbox = Outbox(tmp_path, memory=2000)
    outbox.append(lines(*range(100)))
    dropped = outbox.status().dropped_full
    assert dropped > 0
    assert everything(outbox) == list(range(dropped, 100))
    outbox.close()


KILLED = """
import os, sys, time
from pathlib import Path
from hal.telemetry import keeper
from hal.telemetry.keeper import Keeper
from hal.telemetry.outbox import Outbox
from hal.telemetry.spool import Spool
outbox = Outbox(Path(sys.argv[1]))
spool = Spool(tally=outbox.tally)
keeper = Keeper(spool, outbox, print)
for number in range(100):
    spool.put("insitu/em3/heater/temperature", b'{"n":%d}' % number)
keeper._move()
spool.begin()
for number in range(100, 107):
    spool.put("insitu/em3/heater/temperature", b'{"n":%d}' % number)
spool.confirmed(spool.take())
for _ in range(3):
    spool.confirmed(spool.take())
print("now", flush=True)
time.sleep(60)
"""


@pytest.mark.real_clock
def test_after_a_kill_what_was_on_disk_is_there_and_what_was_in_memory_is_counted(tmp_path):
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL) if os.name == "posix" else process.kill()
    outbox = Outbox(tmp_path)
    # Of the seven the broker took three; the first it took is the newest of those on disk.
    assert outbox.lost == outbox.status().lost_at_kill == 4
    assert everything(outbox) == list(range(100))
    outbox.close()
    outbox = Outbox(tmp_path)
    assert outbox.lost == 0
    assert outbox.status().lost_at_kill == 4
    outbox.close()


HARMED = """
import os, sys
from pathlib import Path
from hal.telemetry.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
os.truncate(Path(sys.argv[1]) / "tally", 0)
for _ in range(1000):
    outbox.tally.acquired += 1
outbox.tidy()
outbox.close()
"""


@pytest.mark.real_clock
def test_a_tally_that_somebody_cuts_short_ends_no_program(tmp_path):
    assert subprocess.run([sys.executable, "-c", HARMED, str(tmp_path)]).returncode == 0


def test_after_a_power_cut_the_counts_are_those_last_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(tallying, "_MEMORY", tmp_path / "gone")
    monkeypatch.setattr(tallying.tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    outbox = Outbox(tmp_path)
    outbox.append(lines(*range(10)))
    for message in outbox.read()[:4]:
        outbox.confirm(message)
    outbox.tally.acquired = 7
    outbox.tidy()
    outbox.tally.acquired = 9
    outbox.tally._file.close()  # nobody has closed the outbox
    outbox = Outbox(tmp_path)
    assert (outbox.lost, outbox.waiting) == (7, 6)
    outbox.close()


@pytest.mark.real_clock
def test_the_keeper_writes_down_what_waits_and_ends_with_nothing_left(tmp_path):
    spool, outbox = Spool(), Outbox(tmp_path)
    keeper = Keeper(spool, outbox, lambda *_: None)
    keeper.start()
    spool.put(TOPIC, b'{"n":0}')
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.waiting")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    spool.put(TOPIC, b'{"n":1}')
    keeper.stop()
    outbox = Outbox(tmp_path)
    assert everything(outbox) == [0, 1]
    outbox.close()


class Sessions(RuleBasedStateMachine):
    """Readers, writers, breaks and restarts in any order: everything comes, in order."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.outbox = Outbox(Path(self.folder.name), size=100.0)
        self.outbox._largest = 300  # so that there are many segments
        self.put = 0
        self.got = []
        self.under_way = []

    @rule(count=st.integers(1, 30))
    def append(self, count):
        self.outbox.append(lines(*range(self.put, self.put + count)))
        self.put += count

    @rule(most=st.integers(1, 500))
    def read(self, most):
        self.under_way += self.outbox.read(most)

    @precondition(lambda self: self.under_way)
    @rule(part=st.floats(0, 1))
    def confirm(self, part):
        for _ in range(round(part * len(self.under_way))):
            message = self.under_way.pop(0)
            self.outbox.confirm(message)
            self.got.append(number(message))

    @rule()
    def tidy(self):
        self.outbox.tidy()

    @rule()
    def lose_the_broker(self):
        self.outbox.rewind()
        self.under_way.clear()

    @rule()
    def begin_a_new_session(self):
        self.outbox.close()
        self.outbox = Outbox(self.outbox.folder, size=100.0)
        self.outbox._largest = 300
        self.under_way.clear()

    @invariant()
    def what_came_is_whole_and_the_rest_waits(self):
        assert self.got == list(range(len(self.got)))
        assert self.outbox.waiting == self.put - len(self.got)

    def teardown(self):
        self.outbox.rewind()
        assert everything(self.outbox) == list(range(len(self.got), self.put))
        self.outbox.close()
        self.folder.cleanup()


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
