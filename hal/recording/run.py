"""One experiment on the record: every signal and every frame from the moment it starts.

The recorder taps signals and cameras by itself; nothing a script does or omits loses data. Rows are
collected on the event loop and written by one thread of its own, several times a second.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import HalError, RecordError
from ..gate import Purpose, acting
from ..model.calibrated import CalibratedAt
from ..model.journal import Event
from ..model.reading import Reading
from ..model.signal import SignalR, SignalRW
from .layout import UNKNOWN_TIME
from .plan import Recordable, is_camera, plan
from .provisional import Provisional
from .taps import Taps, Ticks
from .wall import WallWatch

if TYPE_CHECKING:
    from ..frames.chunk import FrameChunk
    from ..frames.live import Rows
    from .nexus import NexusWriter

PERIOD = 0.2
"""Seconds between writes."""
ANSWER = 2.0
"""Seconds to wait for one answer at a run's begin and end."""
LATE_FRAMES = 3.0
"""Longest wait for frames under way when a run ends, s."""
BEHIND = 20_000
"""Frames waiting for the disk at which the journal says so."""


class Interrupted(HalError):
    """A run that somebody ended: Ctrl-C, `kill`, a cancelled task."""


class Run:
    """A recording under way; made by `Lab.record`."""

    def __init__(
        self,
        lab: Recordable,
        directory: str | Path,
        *,
        sample: str,
        notes: Mapping[str, Any],
        film: bool = True,
        script: Path | None = None,
    ) -> None:
        self._lab, self._sample, self._notes = lab, sample, notes
        self.directory = Path(directory)
        self.path = self.directory
        """The file, from the start on."""
        self.readings: dict[str, int] = defaultdict(int)
        """Readings by device."""
        self.frames: dict[str, int] = defaultdict(int)
        """Frames by camera."""
        self.dropped: dict[str, int] = defaultdict(int)
        """Frames by camera that were exposed and never arrived, once finished."""
        self.result: dict[str, Any] = {}
        """The summary as a dictionary, once finished."""
        self._writer: NexusWriter | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._signals: list[SignalR[Any]] = []
        self._listening, self._tapping = ExitStack(), ExitStack()
        """What undoes our listening to signals and journal, and to cameras."""
        self._rows: dict[str, list[Reading[Any]]] = defaultdict(list)
        self._chunks: list[tuple[str, FrameChunk]] = []
        self._events: list[Event] = []
        self._provisional: Provisional | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._problem: Exception | None = None
        self._ended_by = ""
        self._film, self._script = film, script
        self._films = AsyncExitStack()
        self._taps = Taps(lab)
        self._wall = WallWatch(lab.context)
        self._said_behind = False
        self._over = False

    # ------------------------------------------------------------------ for scripts

    async def hold(self, seconds: float) -> None:
        """Go on recording for `seconds`. Raises what stops the recording, such as a full disk."""
        self._refuse_when_over()
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            self._raise_problem()
            await asyncio.sleep(min(left, 0.5))

    def note(self, text: str, **data: Any) -> None:
        """Put a remark on the record, stamped now."""
        self._refuse_when_over()
        self._lab.context.journal.note("note", "", text, **data)

    def summary(self) -> str:
        """A table: frames, dropped, readings per device, alignment uncertainty per signal."""
        from .summary import table

        return table(self)

    # ------------------------------------------------------------------ for the lab

    async def start(self) -> None:
        """Create the file, begin to listen, wait for everybody's first reading. Raises `RecordError`."""
        for kind, text in await self._in_thread(_mend_earlier_runs, self.directory):
            self._lab.context.journal.note(kind, "", text)
        self._signals = [s for d in self._lab.devices.values() for s in d.signals()]
        self._taps.listen()
        now = self._lab.context.timebase.now()
        for signal in self._signals:
            known = signal.last
            if known is not None and known.value is not None and now - known.time < signal.max_gap * 1e9:
                self._take(signal, known)
            self._follow(signal, partial(self._take, signal))
        await self._first_readings()
        described = plan(self._lab, self._sample, self._notes, self._script)
        self.path = self._free_path(described.start_time)
        creating = asyncio.ensure_future(self._in_thread(_create, self.path, described))
        try:
            self._writer = await asyncio.shield(creating)
        except asyncio.CancelledError:  # a trip just now: the file is begun, and wants to be closed
            self._writer = await creating
            raise
        self._lab.context.journal.listeners.append(self._events.append)
        self._listening.callback(self._lab.context.journal.listeners.remove, self._events.append)
        self._tell_overrides()
        self._wall.tell()
        self._provisional = Provisional(self._lab)
        for device in self._lab.devices.values():
            if is_camera(device):
                tap = partial(self._take_chunk, device.name)
                device.on_chunk(tap)
                self._tapping.callback(device.off_chunk, tap)
        self._flushing = asyncio.get_running_loop().create_task(self._flush_for_ever(), name="record")
        await self._taps.sample()
        if self._film:
            for device in self._lab.devices.values():
                if is_camera(device):
                    await self._films.enter_async_context(device.filming())

    def ended_by(self, error: BaseException) -> None:
        """Note why the run ends early."""
        if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)):
            error = getattr(getattr(self._lab, "trip", None), "error", None) or Interrupted("it was interrupted")
        self._ended_by = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self._lab.context.journal.note("error", "", f"the run ends early: {self._ended_by}")

    async def finish(self) -> None:
        """Stop listening, write the rest, lay every signal onto every frame, close the file. Raises `RecordError`."""
        self._over = True
        if self._writer is None:  # it failed before there was a file
            self._listening.close()
            self._taps.close()
            self._thread.shutdown(wait=False)
            return
        self._wall.tell()
        await self._stop_filming()
        self._tapping.close()
        await self._last_readings()
        await self._taps.cease()
        self._taps.close()
        self._listening.close()
        if self._flushing is not None:
            self._flushing.cancel()
            with suppress(asyncio.CancelledError):
                await self._flushing
        try:
            if self._problem is None:
                await self._in_thread(self._write, self._take_everything())
                self.result = await self._in_thread(self._close)
            else:
                await self._in_thread(self._writer.abandon)
        except Exception as error:
            self._raise_problem()
            raise error if isinstance(error, HalError) else RecordError(f"{self.path}: {error}") from error
        finally:
            self._thread.shutdown(wait=False)
        self._raise_problem()

    # ------------------------------------------------------------------ private: listening

    def _follow(self, signal: SignalR[Any], listener: Callable[[Reading[Any]], None]) -> None:
        signal.subscribe(listener)
        self._listening.callback(signal.unsubscribe, listener)

    def _take(self, signal: SignalR[Any], reading: Reading[Any]) -> None:
        self._rows[signal.path].append(reading)
        self.readings[signal.device.name] += 1

    def _take_chunk(self, camera: str, chunk: FrameChunk) -> None:
        self._chunks.append((camera, chunk))
        self.frames[camera] += len(chunk.number)
        waiting = sum(len(c.number) for _, c in self._chunks)
        if waiting > BEHIND and not self._said_behind:
            self._said_behind = True
            self._lab.context.journal.note("error", camera, f"the disk is {waiting} frames behind; nothing is lost yet")

    def _tell_overrides(self) -> None:
        """Every run says of itself which certificates it has no right to."""
        for signal in self._signals:
            if isinstance(signal.at, CalibratedAt) and (reason := signal.at.calibration.override):
                text = f"{signal.name}: certificate {signal.at.calibration.file} is used by override: {reason}"
                self._lab.context.journal.note("calibration", signal.device.name, text, override=reason)

    async def _first_readings(self) -> None:
        """Have a reading of every signal; those polled slowly are asked now."""
        await asyncio.sleep(0.05)  # the polls just begun are quicker
        await self._read_now([s for s in self._signals if not self._rows[s.path]])
        if missing := [s.path for s in self._signals if not self._rows[s.path]]:
            self._lab.context.journal.note("note", "", f"the run begins without a reading of {', '.join(missing)}")

    async def _last_readings(self) -> None:
        """Read once more, so that the last frames have readings on both sides."""
        await self._read_now([s for s in self._signals if not isinstance(s, SignalRW) or s.of])

    async def _read_now(self, signals: list[SignalR[Any]]) -> None:
        """Ask each question of `signals` once and publish the answers; what can't be read stays as it is."""
        by_question: dict[Any, list[SignalR[Any]]] = defaultdict(list)
        for signal in signals:
            by_question[signal.question].append(signal)

        async def ask(same: list[SignalR[Any]]) -> None:
            with acting(Purpose.POLL), suppress(HalError, TimeoutError):
                answer = await asyncio.wait_for(same[0].at.ask(same[0].device), ANSWER)
                for signal in same:
                    signal.publish(signal.reading(answer))

        await asyncio.gather(*map(ask, by_question.values()))

    async def _stop_filming(self) -> None:
        """Stop the cameras we started and wait for frames that are still under way."""
        await self._films.aclose()
        for device in self._lab.devices.values():
            if is_camera(device):
                await device.drain(LATE_FRAMES)

    # ------------------------------------------------------------------ private: writing

    async def _flush_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self._problem is None:
            # By the clock: what one write takes must not put off the next, or a kill would lose more.
            due = max(due + PERIOD, loop.time() + PERIOD / 4)
            await asyncio.sleep(due - loop.time())
            self._wall.look()
            try:
                await self._in_thread(self._write, self._take_everything())
            except Exception as error:
                self._problem = error if isinstance(error, HalError) else RecordError(f"{self.path}: {error}")
                self._lab.context.journal.note("error", "", f"recording ends: {self._problem}")

    def _take_everything(self) -> _Batch:
        rows, self._rows = self._rows, defaultdict(list)
        chunks, self._chunks = self._chunks, []
        events = list(self._events)
        self._events.clear()
        self._said_behind = False
        now, loop = self._lab.context.timebase.now(), asyncio.get_running_loop()
        return _Batch(rows, chunks, events, self._taps.take(), now, loop)

    def _write(self, batch: _Batch) -> None:
        """In the thread."""
        writer = self._writer
        assert writer is not None
        for path, readings in batch.rows.items():
            if readings:
                writer.append_signal(
                    path,
                    [r.value for r in readings],
                    np.array([r.time for r in readings], np.int64),
                    np.array([r.bound for r in readings], np.int64),
                    np.array([np.nan if r.uncertainty is None else r.uncertainty for r in readings]),
                    [r.quality.value for r in readings],
                    [UNKNOWN_TIME if r.ticks is None else r.ticks for r in readings],
                )
        for camera, chunk in batch.chunks:
            writer.append_frames(
                camera,
                chunk.images,
                {
                    "number": chunk.number,
                    "detector_ticks": chunk.ticks,
                    "arrival": chunk.arrival,
                    "start": chunk.start,
                    "stop": chunk.stop,
                    "bound": chunk.bound,
                    "valid": chunk.valid,
                    "sigma": chunk.sigma,
                    "exposure_time": chunk.exposure_ns * 1e-9,
                    "series": chunk.series,
                    "exposure_index": chunk.index,
                    "reason": chunk.reason,
                },
            )
        batch.ticks.write(writer)
        for event in batch.events:
            data = json.dumps(event.data, default=str) if event.data else ""
            writer.append_event(event.time, event.kind, event.device, event.text, data)
        writer.flush_if_due()  # what was measured first; what is worked out from it may take a while
        for camera, rows, moved in self._laid(batch):
            if moved:
                writer.place_frames(camera, rows.first, rows.frames)
            writer.append_aligned(camera, rows.first, {p: (a.value, a.sigma, a.valid) for p, a in rows.values.items()})
        writer.flush_if_due()

    def _laid(self, batch: _Batch) -> list[tuple[str, Rows, bool]]:
        """Provisional values; should they fail, the recording goes on without them."""
        if self._provisional is None:
            return []
        try:
            return self._provisional.take(batch.rows, batch.chunks, batch.now)
        except Exception as error:
            self._provisional = None
            text = f"no more provisional values at frames: {type(error).__name__}: {error}"
            batch.loop.call_soon_threadsafe(self._lab.context.journal.note, "error", "", text)
            return []

    def _close(self) -> dict[str, Any]:
        """In the thread: the final alignment, from what the file holds, then the end of the file."""
        from .origin import Origin
        from .realign import Realigned, realigned
        from .summary import result

        writer = self._writer
        assert writer is not None
        writer.flush()
        final, problem = Realigned(), None
        try:
            final = realigned(writer.as_it_stands())
        except Exception as error:  # the record must be closed in order all the same
            problem = RecordError(
                f"{self.path}: everything is recorded, and can't be aligned ({type(error).__name__}: {error}); "
                "the values at its frames are provisional ones, `hal align` may do better"
            )
            writer.append_event(self._lab.context.timebase.now(), "error", text=str(problem))
        self.dropped.update(final.dropped)
        for camera, alignment in final.cameras.items():
            writer.replace_aligned(camera, alignment.columns, alignment.times)
        if final.cameras:
            writer.state_origin(Origin.now(final.cameras))
        found = result(self, final, self._ended_by)
        writer.close(self._lab.context.timebase.now(), found)
        if problem is not None:
            raise problem
        return found

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _refuse_when_over(self) -> None:
        if self._over:
            raise RecordError(f"{self.path}: this run is over; begin another with `lab.record`")

    def _raise_problem(self) -> None:
        if self._problem is not None:
            raise self._problem

    # ------------------------------------------------------------------ private: files

    def _free_path(self, start_time: int) -> Path:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(
                f"{self.directory}: no run can be recorded here ({error.strerror}); name another directory"
            ) from None
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(start_time / 1e9))
        words = re.sub(r"[^A-Za-z0-9]+", "-", self._sample).strip("-") or "run"
        path = self.directory / f"{stamp}_{words}.nxs"
        for again in range(2, 1000):
            if not path.exists():
                break
            path = self.directory / f"{stamp}_{words}_{again}.nxs"
        return path


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is written at one time."""

    rows: Mapping[str, list[Reading[Any]]]
    chunks: list[tuple[str, FrameChunk]]
    events: list[Event]
    ticks: Ticks
    now: int
    loop: asyncio.AbstractEventLoop


def _create(path: Path, described: Any) -> NexusWriter:
    from .nexus import NexusWriter

    return NexusWriter(path, described)


def _mend_earlier_runs(directory: Path) -> list[tuple[str, str]]:
    """Repair what an earlier process left behind in this directory; return what to note in the journal."""
    if not directory.is_dir():
        return []
    from .realign import from_recording
    from .repair import find_broken, repair

    notes = []
    for path in find_broken(directory):
        try:
            notes.append(("note", str(repair(path, from_recording))))
        except (HalError, OSError) as error:
            notes.append(("error", f"{path} could not be repaired: {error}"))
    return notes
