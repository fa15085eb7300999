"""A home-made frame server: the form of its messages, and frames from pyzmq and from the emulator."""

from __future__ import annotations

import asyncio
import os
import sys

import numpy as np
import pytest

from devices.zmq_camera import schema
from devices.zmq_camera.driver import UNTIMED, ZmqCamera
from hal.clock.timebase import Timebase
from hal.errors import Refused
from hal.frames.chunk import FrameChunk
from hal.gate import Gate
from hal.model.context import Context
from hal.protocols import zmtp
from hal.transport.session import Session
from hal.transport.tcp import TcpLink

sys.path.insert(0, os.path.dirname(__file__))
from streams import filmed


def message(*parts: bytes) -> zmtp.Message:
    return zmtp.Message([memoryview(part) for part in parts], 77)


def test_frames_read_back_as_they_were_written() -> None:
    pixels = np.arange(24, dtype="u2").reshape(2, 3, 4)
    found = schema.decode(message(*schema.encode([5, 6], pixels, time=[100, 200], exposure=90, series=1)))
    assert found is not None
    assert found.ticks is not None
    assert (found.number.tolist(), found.ticks.tolist(), found.series) == ([5, 6], [100, 200], 1)
    assert (found.images == pixels).all()


def test_a_message_as_it_stands_in_the_documentation_is_understood() -> None:
    head = b'{"type": "frame", "number": 17, "time": 1767225600000000000, "exposure": 900000, '
    found = schema.decode(message(head + b'"shape": [256, 256], "dtype": "uint16"}', bytes(131072)))
    assert found is not None
    assert found.images.shape == (1, 256, 256)


@pytest.mark.parametrize(
    "parts",
    [
        (b"{",), (b"[]", b""), (b'{"type":"frame"}',), (b'{"type":"frame","number":"x"}',),
        (b'{"type":"frame","number":1,"shape":[4,4],"dtype":"uint16"}', bytes(31)),
        (b'{"type":"frame","number":[1,2],"shape":[4,4],"dtype":"uint8"}', bytes(16)),
        (b'{"type":"frame","number":[1,2],"time":[1]}',),
    ],
)  # fmt: skip
def test_a_broken_message_is_an_error_that_says_so(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="frame message"):
        schema.decode(message(*parts))


@pytest.mark.real_clock
@pytest.mark.parametrize("batch", [1, 10])
async def test_frames_that_carry_the_time_are_stamped_by_it(batch: int) -> None:
    async with filmed(ZmqCamera, fps=200, batch=batch, drop=0.02) as film:
        async with film.camera.filming(), asyncio.timeout(20):
            async for frame in film.camera.frames():
                if frame.number > 200:
                    break
        frames = film.frames
        assert frames.valid.all()
        apart = np.diff(frames.start) / np.diff(frames.number)
        assert np.median(apart) == pytest.approx(5e6, rel=2e-4)
        with pytest.raises(Refused, match="at the detector's own server"):
            await film.camera.exposure.set(0.1)


@pytest.mark.real_clock
async def test_frames_without_a_time_say_how_little_is_known_of_it() -> None:
    async with filmed(ZmqCamera, fps=100, stamped=False) as film:
        async with film.camera.filming(), asyncio.timeout(20):
            async for frame in film.camera.frames():
                if frame.number > 20:
                    break
        assert (film.frames.bound >= 3 * UNTIMED * 1e9).all()


@pytest.mark.real_clock
@pytest.mark.parametrize(("kind", "socket"), [("PUSH", "PULL"), ("PUB", "SUB")])
async def test_a_server_written_with_pyzmq_is_understood(kind: str, socket: str) -> None:
    zmq = pytest.importorskip("zmq")
    context = zmq.Context()
    server = context.socket(getattr(zmq, kind))
    server.setsockopt(zmq.LINGER, 0)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    hal = Context(Timebase.system(), Gate())
    session = Session(TcpLink("127.0.0.1", port), ZmqCamera.framing("tcp"), timebase=hal.timebase, gate=hal.gate)
    camera = ZmqCamera(session, "camera", options=ZmqCamera.Options(socket=socket), context=hal)  # type: ignore[arg-type]
    chunks: list[FrameChunk] = []
    camera.on_chunk(chunks.append)
    try:
        await camera.connect()
        await asyncio.sleep(0.3)  # its handshake is done in a thread of its own
        for number in range(20):
            parts = schema.encode(number, np.full((4, 5), number, "u4"), time=number * 1000, exposure=900)
            server.send_multipart(parts, flags=zmq.NOBLOCK)
        async with asyncio.timeout(10):
            while sum(map(len, chunks)) < 20:
                await asyncio.sleep(0.01)
        film = FrameChunk.concatenate(chunks)
        assert film.number.tolist() == list(range(20))
        assert film.images[:, 0, 0].tolist() == list(range(20))
    finally:
        await camera.disconnect()
        await hal.close()
        server.close()
        context.term()
