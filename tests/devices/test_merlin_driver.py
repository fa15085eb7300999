"""The driver of Merlin: its frames in lab time, its views, and what becomes of a film whose wire is pulled."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from devices.merlin.codec import Mpx
from devices.merlin.driver import Merlin
from devices.merlin.emulator import Merlin as Emulator
from devices.merlin.stream import FrameStream
from devices.physics import World
from hal.clock.timebase import Timebase
from hal.errors import InterlockTripped, LimitError, LinkLost, NoReply, ProtocolError, Refused, WrongInstrument
from hal.frames.chunk import FrameChunk
from hal.frames.frame import Reason
from hal.gate import Gate
from hal.instrument.bench import Bench
from hal.instrument.serving import StreamPort, TcpPort
from hal.model.context import Context
from hal.testing import wired
from hal.transport.session import LinkState, Reconnect, Session
from hal.transport.tcp import TcpLink

RAW = (
    "MQ1,000001,00384,01,0256,0256,R64,   1x1,01,2017-11-10 15:39:58.616402,0.005000,0,0,0,,MQ1A,"
    "2017-11-10T15:39:58.616402345Z,5000000ns,6,"
)


class Recorder:
    """Keeps everything."""

    def __init__(self, camera: Merlin) -> None:
        self.chunks: list[FrameChunk] = []
        camera.on_chunk(self.chunks.append)

    @property
    def film(self) -> FrameChunk:
        return FrameChunk.concatenate(self.chunks)


def starts(wire: Any) -> int:
    return sum(b"STARTACQUISITION" in sent for sent in wire.sent)


async def test_it_says_who_it_is_and_what_it_films() -> None:
    async with wired("merlin", name="camera", depth=12, size=32, fps=500) as (camera, _):
        assert camera.identity == "Merlin 0.77.0.16"
        assert (camera.shape, camera.dtype, camera.period) == ((32, 32), "uint16", pytest.approx(0.002))


async def test_another_instrument_is_found_out() -> None:
    with pytest.raises(WrongInstrument, match=r"expected a Merlin.*check `link`"):
        async with wired("merlin", version="ready"):
            pass


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_exposure_is_where_it_was_within_its_bound(seed: int) -> None:
    async with wired("merlin", fps=500, size=16, seed=seed, ppm=-45.0, drop=0.01, every=2.0) as (camera, wire):
        recorder = Recorder(camera)
        async with camera.filming():
            await asyncio.sleep(20.0)
        await asyncio.sleep(1.0)
        film, truth = recorder.film, wire.emulator.truth()
        assert film.number.tolist() == truth.number[truth.sent].tolist()
        assert (film.index == film.number - 1).all()
        assert film.valid.all()
        lab = camera.context.timebase.at(round(truth.middle[0] * 1e9)) + np.rint(
            (truth.middle - truth.middle[0]) * 1e9
        ).astype(np.int64)
        off = (film.start + film.stop) // 2 - lab[truth.sent]
        assert (np.abs(off) <= film.bound).all()
        settled = slice(1000, None)
        assert np.abs(off[settled]).max() < 1e6  # ns; arrivals are up to half a second late
        assert film.bound[settled].max() < 4e6
        lost = int((~truth.sent).sum())
        assert lost > 50
        assert await camera.dropped.get() == lost - int(np.sum(~truth.sent[truth.number > film.number[-1]]))


async def test_the_rate_and_the_counts_are_read_without_an_exchange() -> None:
    async with wired("merlin", fps=200, drop=0.0, every=0.0) as (camera, wire):
        async with camera.filming():
            await asyncio.sleep(5.0)
            wire.forget()
            assert await camera.rate.get() == pytest.approx(200, rel=0.05)
            assert await camera.received.get() == pytest.approx(1000, abs=30)
            assert not wire.sent
        await asyncio.sleep(1.5)
        assert await camera.rate.get() == 0.0


async def test_draining_waits_for_every_frame_on_its_way() -> None:
    async with wired("merlin", fps=200, drop=0.0, every=0.3, late=0.5, seed=5) as (camera, wire):
        recorder = Recorder(camera)
        async with camera.filming():
            await asyncio.sleep(3.0)
            now = camera.context.timebase.now()
            await camera.drain()
            assert recorder.film.stop[-1] >= now
        await camera.drain()
        assert recorder.film.number[-1] == wire.emulator.truth().number[-1]


async def test_a_start_without_a_reply_is_undone() -> None:
    async with wired("merlin", fps=100) as (camera, wire):
        respond = wire.emulator.respond

        def silent(message: bytes) -> bytes | None:
            reply: bytes | None = respond(message)
            return None if b"STARTACQUISITION" in message else reply

        wire.emulator.respond = silent
        with pytest.raises(NoReply):
            async for _ in camera.frames():
                pass
        assert respond(b"GET,DETECTORSTATUS") == b"GET,DETECTORSTATUS,0,0"
        assert not camera.armed


async def test_a_film_that_somebody_else_began_is_numbered_too() -> None:
    async with wired("merlin", name="camera", fps=100, drop=0.0) as (camera, wire):
        recorder = Recorder(camera)
        wire.emulator.respond(b"SET,ACQUISITIONPERIOD,20")
        wire.emulator.respond(b"SET,NUMFRAMESTOACQUIRE,50")
        wire.emulator.respond(b"CMD,STARTACQUISITION")
        await camera.bias.get()
        await asyncio.sleep(3.0)
        assert recorder.film.index.tolist() == list(range(50))
        assert not camera.armed


async def test_late_frames_are_counted() -> None:
    async with wired("merlin", fps=200, size=16, drop=0.0, every=1.0, late=0.5, seed=3) as (camera, _):
        async with camera.filming():
            await asyncio.sleep(10.0)
        assert 100 < await camera.late.get() < 1000


async def test_the_exposure_is_set_together_with_the_period() -> None:
    async with wired("merlin") as (camera, _):
        for seconds in (0.005, 0.0005, 0.002):
            await camera.exposure.set(seconds)
            assert await camera.exposure.get() == pytest.approx(seconds)
            assert await camera.frame_period.get() == pytest.approx(seconds)


async def test_an_exposure_the_detector_does_not_take_is_refused() -> None:
    async with wired("merlin", depth=12) as (camera, wire):
        wire.emulator._table["ACQUISITIONTIME"] = wire.emulator._table["COUNTERDEPTH"]  # takes 1, 6, 12, 24 only
        with pytest.raises(Refused, match="parameter out of range"):
            await camera.exposure.set(0.05)


async def test_an_exposure_beyond_the_limits_never_reaches_the_wire() -> None:
    async with wired("merlin", name="camera") as (camera, wire):
        with pytest.raises(LimitError, match="nothing was sent"):
            camera.exposure.set(1000.0)
        assert not wire.sent


async def test_setting_the_exposure_of_a_running_camera_is_refused_with_the_remedy() -> None:
    async with wired("merlin", name="camera") as (camera, _):
        await camera.arm()
        with pytest.raises(Refused, match=r"camera: SET .*stop the acquisition first"):
            await camera.exposure.set(0.002)


async def test_views_and_recorder_share_one_acquisition_and_the_last_one_out_stops_it() -> None:
    async with wired("merlin", fps=100) as (camera, wire):

        async def look(frames: int) -> None:
            async for _ in camera.frames():
                frames -= 1
                if not frames:
                    break

        async with camera.filming():
            await asyncio.gather(look(50), look(100))
            await asyncio.sleep(0.1)
            assert camera.armed
            assert starts(wire) == 1
        assert not camera.armed
        assert b"STOPACQUISITION" in wire.sent[-1]


async def test_a_camera_armed_by_hand_films_on_when_views_leave() -> None:
    async with wired("merlin", fps=100) as (camera, wire):
        await camera.arm()
        async for _ in camera.frames():
            break
        await asyncio.sleep(0.1)
        assert camera.armed
        await camera.stop()
        assert not camera.armed
        assert starts(wire) == 1


async def test_leaving_a_view_early_stops_the_camera() -> None:
    async with wired("merlin", fps=100) as (camera, wire):
        async for _ in camera.frames():
            break
        await asyncio.sleep(0.1)
        assert not camera.armed
        assert wire.emulator.respond(b"GET,DETECTORSTATUS") == b"GET,DETECTORSTATUS,0,0"


async def test_stopping_the_camera_ends_its_views() -> None:
    async with wired("merlin", fps=100) as (camera, _):
        seen = 0
        async for _ in camera.frames():
            seen += 1
            if seen == 20:
                await camera.stop()
        assert 20 <= seen < 30


async def test_stopping_an_idle_camera_sends_nothing() -> None:
    async with wired("merlin") as (camera, wire):
        await camera.stop()
        assert not wire.sent


async def test_a_slow_script_skips_frames_and_the_recorder_loses_none() -> None:
    async with wired("merlin", fps=1000, drop=0.0) as (camera, wire):
        recorder, seen, view = Recorder(camera), 0, camera.frames()
        async for _ in view:
            await asyncio.sleep(0.5)
            seen += 1
            if seen == 12:
                break
        await asyncio.sleep(1.0)
        truth = wire.emulator.truth()
        assert view.skipped > 4000
        assert recorder.film.number.tolist() == truth.number[truth.sent].tolist()


async def test_each_acquisition_is_a_series_of_its_own() -> None:
    async with wired("merlin", fps=200, drop=0.0, every=0.0) as (camera, wire):
        recorder = Recorder(camera)
        for _ in range(3):
            async with camera.filming():
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.5)
        film = recorder.film
        assert np.unique(film.series).tolist() == [0, 1, 2]
        assert (film.index[np.flatnonzero(np.diff(film.series)) + 1] == 0).all()
        assert await camera.dropped.get() == 0
        assert film.valid.all()
        truth = wire.emulator.truth()
        assert len(film) == len(truth.number)


async def test_a_listener_in_trouble_does_not_cost_the_others_their_frames() -> None:
    async with wired("merlin", name="camera", fps=100) as (camera, _):

        def broken(chunk: FrameChunk) -> None:
            raise RuntimeError("disk full")

        camera.on_chunk(broken)
        recorder = Recorder(camera)
        async with camera.filming():
            await asyncio.sleep(1.0)
        assert len(recorder.film) > 50
        assert any("disk full" in event.text for event in camera.context.journal.recent)


async def test_the_safe_state_takes_one_message() -> None:
    async with wired("merlin", fps=100) as (camera, wire):
        await camera.arm()
        wire.forget()
        await camera.safe_state()
        assert wire.sent == [b"MPX,0000000020,CMD,STOPACQUISITION"]
        assert not camera.armed
        await camera.safe_state()  # and once more on an idle one


async def test_a_trip_ends_the_film_and_the_view_and_nothing_else_is_written() -> None:
    async with wired("merlin", fps=100) as (camera, wire):

        async def trip() -> None:
            await asyncio.sleep(1.0)
            error = InterlockTripped("vacuum")
            camera.context.gate.close(lambda: error)
            camera.context.fail_pending(error)
            await camera.safe_state()

        tripping = asyncio.create_task(trip())
        with pytest.raises(InterlockTripped):
            async for _ in camera.frames():
                pass
        await tripping
        await asyncio.sleep(1.0)
        assert sum(b"STOPACQUISITION" in sent for sent in wire.sent) == 1
        with pytest.raises(InterlockTripped):
            await camera.arm()


async def test_a_pulled_cable_ends_the_view() -> None:
    async with wired("merlin", name="camera", fps=100) as (camera, wire):
        asyncio.get_running_loop().call_later(1.0, wire.unplug)
        with pytest.raises(LinkLost, match=r"camera: .*check the cable"):
            async for _ in camera.frames():
                pass
        assert not camera.armed


async def test_a_film_goes_on_over_a_reconnection_and_counts_what_it_missed() -> None:
    async with wired("merlin", fps=200, drop=0.0, every=0.0, reconnect=Reconnect(10.0)) as (camera, wire):
        recorder = Recorder(camera)
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, wire.unplug)
        loop.call_later(3.0, wire.plug)
        async for frame in camera.frames():
            if frame.number > 1000:
                break
        film = recorder.film
        missed = np.diff(film.number).max() - 1
        assert missed > 100
        assert (film.index == film.number - 1).all()
        assert np.unique(film.series).tolist() == [0]
        assert await camera.dropped.get() == missed


async def test_a_detector_switched_off_and_on_meanwhile_is_started_again() -> None:
    async with wired("merlin", fps=200, drop=0.0, every=0.0, reconnect=Reconnect(10.0)) as (camera, wire):
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, wire.unplug)
        loop.call_later(2.0, wire.emulator.respond, b"CMD,RESET")
        loop.call_later(3.0, wire.plug)
        async with camera.filming():
            await asyncio.sleep(1.5)
            recorder = Recorder(camera)
            await asyncio.sleep(4.0)
        assert recorder.film.series.tolist() == [1] * len(recorder.film)
        assert len(recorder.film) > 200


def test_raw_frames_are_refused_with_the_remedy() -> None:
    stream = FrameStream()
    stream.feed(Mpx().encode(RAW.encode().ljust(384, b"\0") + bytes(256 * 256)), 0)
    with pytest.raises(ValueError, match="set the file format to binary"):
        stream.take()


async def test_frames_of_another_kind_end_the_view_with_the_remedy() -> None:
    async with wired("merlin", name="camera", fps=100) as (camera, wire):
        raw = Mpx().encode(RAW.encode().ljust(384, b"\0") + bytes(256 * 256))

        def intrude() -> None:
            wire.emulator._queue.append((np.array([0.0]), raw))

        asyncio.get_running_loop().call_later(1.0, intrude)
        with pytest.raises(ProtocolError, match="set the file format to binary"):
            async for _ in camera.frames():
                pass


async def test_an_old_detectors_frozen_time_stamp_gives_no_time_at_all() -> None:
    async with wired("merlin", fps=100) as (camera, _):
        recorder = Recorder(camera)
        camera.new_series()
        for k in range(5):
            number = np.arange(1 + 20 * k, 21 + 20 * k)
            now = camera.context.timebase.now()
            camera.take_in(
                FrameChunk.raw(
                    np.zeros((20, 2, 2), np.uint8), number, np.full(20, 10**18), np.full(20, 10**7), np.full(20, now)
                )
            )
            await asyncio.sleep(0.2)
        assert not recorder.film.valid[1:].any()
        assert set(recorder.film.reason.tolist()) <= {Reason.OK, Reason.BAD_NUMBER, Reason.BAD_TICK, Reason.DUPLICATE}


# -------------------------------------------------------------------------------------- real wire


@pytest.mark.real_clock
async def test_a_film_over_tcp_and_a_pulled_data_port() -> None:
    bench = Bench(World())
    emulator = Emulator(bench.world, fps=1000, drop=0.0, every=0.0)  # type: ignore[arg-type]
    control = await TcpPort(bench.wire([emulator], "tcp")).open()
    data = await StreamPort(bench, emulator).open()
    context = Context(Timebase.system(), Gate())
    session = Session(
        TcpLink("127.0.0.1", control.port), Mpx(), timebase=context.timebase, gate=context.gate,
        reconnect=Reconnect(10.0), timeout=3.0,
    )  # fmt: skip
    camera = Merlin(session, "camera", options=Merlin.Options(data_port=data.port), context=context)
    heard: asyncio.Queue[str] = asyncio.Queue()
    session.on_lost.append(lambda _, error, for_good: heard.put_nowait(str(error)))
    await camera.connect()
    try:
        recorder = Recorder(camera)
        async with camera.filming(), asyncio.timeout(20):
            async for frame in camera.frames():
                if frame.number >= 600:
                    break
            assert (recorder.film.index == recorder.film.number - 1).all()
            behind = recorder.film.arrival - recorder.film.stop
            assert np.median(behind[300:]) < 0.2e9
            data.unplug()
            assert "data port" in await heard.get()
            assert session.state is LinkState.RECONNECTING
            await data.plug()
            before = recorder.film.number[-1]
            async for frame in camera.frames():
                if frame.number > before + 100:
                    break
            assert session.state is LinkState.OPEN
            assert np.unique(recorder.film.series).tolist() == [0]
    finally:
        await camera.disconnect()
        await control.close()
        await data.close()
        await context.close()
