"""A camera that takes its frames from a ZeroMQ stream, wired to its emulator over TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from devices.physics import World
from hal.clock.timebase import Timebase
from hal.frames.chunk import FrameChunk
from hal.gate import Gate
from hal.instrument.bench import Bench
from hal.instrument.serving import StreamPort, TcpPort
from hal.model.context import Context
from hal.runtime import registry
from hal.transport.session import Reconnect, Session
from hal.transport.tcp import TcpLink


class Film:
    """The camera, its emulator, its stream's port, and all frames that came."""

    def __init__(self, camera: Any, emulator: Any, control: TcpPort, data: StreamPort) -> None:
        self.camera, self.emulator, self.control, self.data = camera, emulator, control, data
        self.chunks: list[FrameChunk] = []
        camera.on_chunk(self.chunks.append)

    @property
    def frames(self) -> FrameChunk:
        return FrameChunk.concatenate(self.chunks)


@asynccontextmanager
async def filmed(
    cls: Any, *, options: dict[str, Any] | None = None, reconnect: Reconnect | None = None, **settings: Any
) -> AsyncIterator[Film]:
    bench = Bench(World())
    emulator = registry.load(cls.emulator)(bench.world, **settings)
    control = await TcpPort(bench.wire([emulator], "tcp")).open()
    data = await StreamPort(bench, emulator).open()
    context = Context(Timebase.system(), Gate())
    session = Session(
        TcpLink("127.0.0.1", control.port), cls.framing("tcp"), timebase=context.timebase, gate=context.gate,
        timeout=cls.timeout, reconnect=reconnect,
    )  # fmt: skip
    given = cls.Options(**{"data_port": data.port, **(options or {})})
    camera = cls(session, "camera", options=given, context=context)
    try:
        await camera.connect()
        yield Film(camera, emulator, control, data)
    finally:
        await camera.disconnect()
        await control.close()
        await data.close()
        await context.close()
