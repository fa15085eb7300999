"""DECTRIS detectors: packed images, both streams, SIMPLON over HTTP, on real TCP wires."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.dectris import packing, rest
from devices.dectris.driver import Dectris
from devices.dectris.emulator import Dectris as Emulator
from devices.dectris.rest import Http
from devices.dectris.stream import Reader, SeriesBegins, SeriesEnds, WriterV1, WriterV2
from devices.physics import World
from hal.errors import Refused, WrongInstrument
from hal.frames.chunk import FrameChunk
from hal.protocols import zmtp
from hal.transport.session import LinkState, Reconnect

sys.path.insert(0, os.path.dirname(__file__))
from streams import filmed

pytest.importorskip("lz4")
pytest.importorskip("cbor2")

ABOUT = {
    "data_collection_date": "2026-01-01T00:00:00.5Z", "x_pixels_in_detector": 7, "y_pixels_in_detector": 5,
    "count_time": 0.001, "frame_time": 0.002, "bit_depth_image": 16, "description": "d", "detector_number": "n",
    "nimages": 3, "ntrigger": 1, "threshold_energy": 4000.0,
}  # fmt: skip


def images(dtype: str, rows: int, columns: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(rows * columns).poisson(3, (rows, columns)).astype(dtype)


def messages(parts: list[list[bytes]]) -> list[zmtp.Message]:
    return [zmtp.Message([memoryview(p) for p in each], 1000 + k) for k, each in enumerate(parts)]


@pytest.mark.parametrize("how", ["none", "lz4", "lz4<", "bslz4"])
@given(dtype=st.sampled_from(["u1", "u2", "u4"]), rows=st.integers(1, 90), columns=st.integers(1, 90))
@settings(max_examples=25, deadline=None)
def test_a_packed_image_unpacks_to_itself(how: str, dtype: str, rows: int, columns: int) -> None:
    image = images(dtype, rows, columns)
    found = packing.unpack(packing.pack(image, how), how, image.dtype, image.shape)
    assert (found == image).all()
    assert found.dtype == image.dtype


@pytest.mark.parametrize("shape", [(64, 64), (37, 41), (1, 7)])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_dectris_own_decompressor_reads_what_the_emulator_packs(dtype: str, shape: tuple[int, int]) -> None:
    vendor = pytest.importorskip("dectris.compression")
    image = images(dtype, *shape)
    for how in ("lz4", "bslz4"):
        assert vendor.decompress(packing.pack(image, how), how, elem_size=image.itemsize) == image.tobytes()
    assert packing.unbslz4(packing.pack(image, "bslz4"), image.itemsize) == image.tobytes()


def test_a_header_of_zeros_as_libertem_live_sends_it_is_understood() -> None:
    image = images("u2", 64, 64)
    packed = bytes(12) + packing.pack(image, "bslz4")[12:]
    assert (packing.unpack(packed, "bs16-lz4<", image.dtype, (64, 64)) == image).all()


@given(st.binary(max_size=300), st.sampled_from(["lz4", "lz4<", "bslz4", "bs16-lz4<", "<", "zstd"]))
@settings(deadline=None)
def test_rubbish_for_an_image_is_an_error_and_never_a_crash(data: bytes, how: str) -> None:
    if len(data) != 128:
        with pytest.raises(ValueError):
            packing.unpack(data, how, np.dtype("u2"), (8, 8))


@pytest.mark.parametrize("make", [WriterV1, WriterV2])
@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
def test_a_series_reads_back_as_it_was_written(make: Any, compression: str) -> None:
    writer, image = make(compression, "basic"), images("u2", 5, 7)
    sent = writer.begin(4, ABOUT)
    sent += [writer.image(4, n, 10_000 * n, 10_000 * n + 9_000, image + n) for n in range(3)]
    reader = Reader()
    found = reader.take(messages([*sent, writer.end(4)]))
    frames = FrameChunk.concatenate([part for part in found if isinstance(part, FrameChunk)])
    assert isinstance(found[0], SeriesBegins)
    assert found[-1] == SeriesEnds(4)
    assert reader.broken == 0
    assert frames.number.tolist() == [0, 1, 2]
    assert frames.ticks.tolist() == [0, 10_000, 20_000]
    assert frames.exposure_ns.tolist() == [9_000] * 3
    assert (frames.images == image + np.arange(3, dtype="u2")[:, None, None]).all()


@pytest.mark.parametrize("make", [WriterV1, WriterV2])
def test_without_images_the_pixels_are_left_packed(make: Any) -> None:
    writer = make("bslz4", "basic")
    writer.begin(1, ABOUT)
    (chunk,) = [
        part for part in Reader(images=False).take(messages([writer.image(1, 9, 0, 5, images("u2", 5, 7))]))
        if isinstance(part, FrameChunk)
    ]  # fmt: skip
    assert chunk.images.shape == (1, 0, 0)
    assert chunk.number.tolist() == [9]


@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=4), max_size=5))
def test_rubbish_on_the_stream_is_counted_and_never_a_frame(parts: list[list[bytes]]) -> None:
    found = Reader().take(messages(parts))
    assert not [part for part in found if isinstance(part, FrameChunk)]


@given(st.lists(st.binary(max_size=600), max_size=4), st.integers(1, 50))
def test_zeromq_messages_survive_being_cut_anywhere(parts: list[bytes], cut: int) -> None:
    parts = parts or [b""]
    wire, receiver = zmtp.hello("PUSH") + zmtp.message(parts) * 2, zmtp.Receiver("PULL")
    found = []
    for k in range(0, len(wire), cut):
        receiver.feed(wire[k : k + cut], k)
        found += [[bytes(p) for p in m.parts] for m in receiver.take()]
    assert found == [parts, parts]


@given(st.binary(max_size=200))
def test_rubbish_over_http_is_answered_with_an_error_or_not_at_all(data: bytes) -> None:
    emulator, framing = Emulator(World()), Http()  # type: ignore[arg-type]
    for message in framing.feed(
        data + b"PUT /detector/api/1.8.0/config/nimages HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]"
    ):
        reply = emulator.respond(message)
        assert reply is None or rest.parse_response(reply).status >= 400
    assert json.loads(emulator.respond(rest.request("GET", "/detector/api/1.8.0/config/nimages", "h")).partition(
        b"\r\n\r\n")[2])["value"] == 1  # type: ignore[union-attr]  # fmt: skip


def told(emulator: Emulator, method: str, path: str, value: Any = ...) -> rest.Response:
    reply = emulator.respond(rest.request(method, path, "h", value))
    assert reply is not None
    return rest.parse_response(reply)


@pytest.mark.parametrize("module", ["detector", "stream", "monitor"])
@pytest.mark.parametrize("task", ["config", "status"])
def test_every_key_that_is_listed_can_be_read_in_the_form_others_expect(module: str, task: str) -> None:
    """fastcs-eiger 0.4.0 reads all keys of all modules, and takes these types only (`EigerParameterResponse`)."""
    emulator = Emulator(World())  # type: ignore[arg-type]
    keys = told(emulator, "GET", f"/{module}/api/1.8.0/{task}/keys").value
    types = {"float", "int", "bool", "uint", "string", "datetime", "State", "string[]"}
    for key in keys:
        found = told(emulator, "GET", f"/{module}/api/1.8.0/{task}/{key}").value
        assert found["value_type"] in types, key
        assert found["access_mode"] in ("r", "w", "rw")


@pytest.mark.parametrize(
    "path",
    [
        "detector/api/1.8.0/config/threshold/1/mode", "detector/api/1.8.0/config/threshold/2/energy",
        "detector/api/1.8.0/config/threshold/difference/mode", "detector/api/1.8.0/config/extg_mode",
        "detector/api/1.8.0/config/nexpi", "detector/api/1.8.0/config/eiger_fw_version",
        "detector/api/1.8.0/status/board_000/th0_temp", "detector/api/1.8.0/status/high_voltage/state",
        "filewriter/api/1.8.0/status/buffer_free", "stream/api/1.8.0/status/dropped", "monitor/api/1.8.0/config/mode",
    ],
)  # fmt: skip
def test_it_has_what_area_detector_asks_for(path: str) -> None:
    """ADEiger 3.4.0, eigerDetector.cpp, its constructor."""
    assert told(Emulator(World()), "GET", "/" + path).status == 200  # type: ignore[arg-type]


def test_the_monitor_keeps_the_latest_images_as_tiff() -> None:
    """fastcs-eiger 0.4.0 and ADEiger: images/next takes one away, images/monitor shows the latest."""
    emulator = Emulator(World(), fps=100.0, size=16)  # type: ignore[arg-type]
    images = "/monitor/api/1.8.0/images"
    assert told(emulator, "GET", f"{images}/next").status == 408
    told(emulator, "PUT", "/monitor/api/1.8.0/config/mode", "enabled")
    told(emulator, "PUT", "/detector/api/1.8.0/config/nimages", 20)
    told(emulator, "PUT", "/detector/api/1.8.0/command/arm")
    told(emulator, "PUT", "/detector/api/1.8.0/command/trigger")
    for _ in range(40):
        emulator.advance(0.01)
    ((series, numbers),) = told(emulator, "GET", images).value
    assert (series, numbers) == (1, [15, 16, 17, 18, 19])
    reply = emulator.respond(rest.request("GET", f"{images}/next", "h"))
    assert reply is not None
    picture = reply.partition(b"\r\n\r\n")[2]
    assert picture[:4] == b"II*\0"
    assert np.frombuffer(picture, "<u2", 256, offset=8).sum() > 0
    assert told(emulator, "GET", images).value == [[1, [16, 17, 18, 19]]]
    told(emulator, "PUT", "/monitor/api/1.8.0/command/clear")
    assert told(emulator, "GET", images).value == []


def test_energies_that_go_together_change_together_and_are_named() -> None:
    emulator = Emulator(World())  # type: ignore[arg-type]
    changed = told(emulator, "PUT", "/detector/api/1.8.0/config/photon_energy", 12000.0).value
    assert {"photon_energy", "threshold_energy", "threshold/1/energy", "wavelength"} <= set(changed)
    assert told(emulator, "GET", "/detector/api/1.8.0/config/threshold/1/energy").value["value"] == 6000.0
    told(emulator, "PUT", "/detector/api/1.8.0/config/threshold/1/energy", 5000.0)
    assert told(emulator, "GET", "/detector/api/1.8.0/config/threshold_energy").value["value"] == 5000.0


# -------------------------------------------------------------------------------------- real wires


@pytest.mark.real_clock
@pytest.mark.parametrize("stream", [1, 2])
async def test_every_exposure_is_where_it_was_within_its_bound(stream: int) -> None:
    async with filmed(Dectris, options={"stream": stream}, fps=200, drop=0.02, every=0.0, ppm=-40.0) as film:
        camera = film.camera
        loop, timebase = asyncio.get_running_loop(), camera.context.timebase
        offset = timebase.now() - loop.time() * 1e9
        for _ in range(2):
            async with camera.filming(), asyncio.timeout(20):
                async for frame in camera.frames():
                    if frame.number >= 150:
                        break
            await camera.drain()
        frames, truth = film.frames, film.emulator.truth()
        bench_now, loop_now = film.emulator.lived, film.data.bench.now
        assert frames.number.tolist() == truth.number[truth.sent].tolist()[: len(frames)]
        assert frames.images.shape[1:] == camera.shape == (64, 64)
        assert set(frames.series.tolist()) == {0, 1}
        assert frames.valid.all()
        lab = offset + (truth.middle[truth.sent][: len(frames)] - bench_now + loop_now) * 1e9
        off = (frames.start + frames.stop) / 2 - lab
        assert (np.abs(off) <= frames.bound).all()
        assert await camera.dropped.get() > 0


@pytest.mark.real_clock
async def test_a_pulled_stream_is_noticed_and_taken_up_again() -> None:
    async with filmed(Dectris, fps=200, drop=0.0, every=0.0, reconnect=Reconnect(10.0)) as film:
        camera = film.camera
        async with camera.filming(), asyncio.timeout(20):
            async for frame in camera.frames():
                if frame.number >= 50:
                    break
            film.data.unplug()
            while camera.session.state is LinkState.OPEN:
                await asyncio.sleep(0.01)
            await film.data.plug()
            before = film.frames.number[-1]
            async for frame in camera.frames():
                if frame.number > before + 50:
                    break
        assert set(film.frames.series.tolist()) == {0}


@pytest.mark.real_clock
async def test_the_exposure_is_set_with_the_period_and_refused_while_it_films() -> None:
    async with filmed(Dectris, fps=100) as film:
        await film.camera.exposure.set(0.005)
        assert await film.camera.exposure.get() == pytest.approx(0.005, rel=1e-3)
        assert await film.camera.frame_period.get() == pytest.approx(0.005, rel=1e-3)
        async with film.camera.filming():
            with pytest.raises(Refused, match="armed"):
                await film.camera.exposure.set(0.01)


@pytest.mark.real_clock
async def test_a_detector_after_power_up_is_initialised() -> None:
    async with filmed(Dectris, fps=100, initialized=False) as film:
        assert await film.camera.state.get() == "idle"


@pytest.mark.real_clock
async def test_another_server_is_found_out() -> None:
    class Other(Dectris):
        emulator = "test_dectris:WebServer"

    with pytest.raises(WrongInstrument, match="check `link`"):
        async with filmed(Other):
            pass


class WebServer(Emulator):
    """Something else that speaks HTTP."""

    def respond(self, message: bytes) -> bytes | None:
        return rest.response(404, "nothing here")


@pytest.fixture(autouse=True)
def _here() -> Iterator[None]:
    sys.modules.setdefault("test_dectris", sys.modules[__name__])
    yield
