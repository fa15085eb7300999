"""What the board streams: samples of its analogue inputs and stamped edges, as arrays, by credit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from hal.errors import DeviceError
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware import EdgeChunk, Int64, SampleChunk
from hal.protocols.firmware_gen import Capability, Telemetry

from .board import Board
from .streams import Captured, Sampled

QUIET = 0.05
"""Seconds without a block after which a stream that was stopped is at its end."""


class StreamingBoard(Board):
    """A board and what it sends unasked. Listeners get every chunk at once and in order; they must not wait."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.sampled = Sampled()
        """What became of the samples."""
        self.captured = Captured()
        """What became of the edges."""
        self._crediting: asyncio.Task[None] | None = None
        self._sample_listeners: tuple[Callable[[SampleChunk], None], ...] = ()
        self._edge_listeners: tuple[Callable[[EdgeChunk], None], ...] = ()
        self._telemetry_listeners: tuple[Callable[[Telemetry], None], ...] = ()

    # ------------------------------------------------------------------ streams

    @asynccontextmanager
    async def sampling(self, channels: Sequence[int], rate: float) -> AsyncIterator[None]:
        """Stream analogue inputs, `rate` instants a second, inside the block; `on_samples` listeners get chunks."""
        self.need(Capability.ADC, "analogue inputs")
        assert self.hello is not None
        mask = sum(1 << channel for channel in set(channels))
        request = gen.SamplesStart(mask, round(self.hello.tick_rate / rate), 0)
        await self._start_samples(request)
        try:
            yield
        finally:
            await self._stop(gen.Stream.SAMPLES)

    def on_samples(self, listener: Callable[[SampleChunk], None]) -> None:
        """Call `listener` with every chunk of samples, at once and in order; it must not wait."""
        self._sample_listeners += (listener,)

    def off_samples(self, listener: Callable[[SampleChunk], None]) -> None:
        """Undo `on_samples`."""
        self._sample_listeners = tuple(known for known in self._sample_listeners if known != listener)

    @asynccontextmanager
    async def capturing(self, rising: Sequence[int] = (0,), falling: Sequence[int] = ()) -> AsyncIterator[None]:
        """Stamp edges at capture inputs inside the block; `on_pulses` listeners get chunks."""
        self.need(Capability.CAPTURE, "capture inputs")
        bits = [sum(1 << channel for channel in set(inputs)) for inputs in (rising, falling)]
        await self._start_captures(gen.CapturesStart(bits[0], bits[1], 0))
        try:
            yield
        finally:
            await self._stop(gen.Stream.CAPTURES)

    def on_pulses(self, listener: Callable[[EdgeChunk], None]) -> None:
        """Call `listener` with every chunk of stamped pulses, at once and in order; it must not wait."""
        self._edge_listeners += (listener,)

    def off_pulses(self, listener: Callable[[EdgeChunk], None]) -> None:
        """Undo `on_pulses`."""
        self._edge_listeners = tuple(known for known in self._edge_listeners if known != listener)

    def lab_time(self, ticks: Int64) -> tuple[Int64, Int64]:
        """Lab time of ticks of this epoch and its bound, ns. Raises `DeviceError` before it is known."""
        estimate = self.ticks.estimate()
        if estimate is None:
            raise DeviceError(self.name, "its clock is not known yet; wait for a time exchange")
        return estimate.at(ticks)

    async def _stop(self, stream: gen.Stream) -> None:
        ledger = self.sampled if stream is gen.Stream.SAMPLES else self.captured
        try:
            await self.do(gen.StreamStop(stream), harmless=True)
            seen = -1
            while seen != ledger.next:  # what waits on the board still comes
                seen = ledger.next
                await asyncio.sleep(QUIET)
            # Asked again, for the numbers at the very end.
            made: gen.StreamStopReply = (await self.do(gen.StreamStop(stream), harmless=True)).reply
            ledger.end(made)
        except DeviceError as error:  # whoever left is done with the stream: this is no error of theirs
            self.context.journal.note("error", self.name, f"stopping a stream: {error}")
        finally:
            ledger.request = None

    async def disconnecting(self) -> None:
        crediting, self._crediting = self._crediting, None
        if crediting is not None:
            crediting.cancel()
            await asyncio.wait([crediting])
        await super().disconnecting()

    # ------------------------------------------------------------------ private

    async def _resume_streams(self) -> None:
        """Streams that were running when the link or the board went, begun anew: numbers start at 0 again."""
        if self.sampled.request is not None:
            await self._start_samples(self.sampled.request)
        if self.captured.request is not None:
            await self._start_captures(self.captured.request)

    async def _start_samples(self, request: gen.SamplesStart) -> gen.SamplesStartReply:
        self.sampled.begin(request)
        reply: gen.SamplesStartReply = (await self.do(replace(request, credit=self.sampled.window))).reply
        self.sampled.per_block = reply.per_block
        return reply

    async def _start_captures(self, request: gen.CapturesStart) -> None:
        self.captured.begin(request)
        await self.do(replace(request, credit=self.captured.window))

    def _samples_came(self, chunk: SampleChunk) -> None:
        if self.sampled.take(chunk):
            self._grant()
        for listener in self._sample_listeners:
            self._hand(listener, chunk)

    def _edges_came(self, chunk: EdgeChunk) -> None:
        if self.captured.take(chunk):
            self._grant()
        for listener in self._edge_listeners:
            self._hand(listener, chunk)

    def _hand(self, listener: Callable[[Any], None], what: Any) -> None:
        try:
            listener(what)
        except Exception as error:  # one listener's trouble must not cost the others their data
            self.context.journal.note("error", self.name, f"a listener failed: {type(error).__name__}: {error}")

    def _grant(self, *, again: bool = False) -> None:
        if self._crediting is None or self._crediting.done():
            self._crediting = asyncio.create_task(self._send_credits(again), name=f"{self.name} credits")

    async def _send_credits(self, again: bool) -> None:
        """Grant what is due; `again`, whatever is due or not: a lost credit must not end a stream."""
        for ledger in (self.sampled, self.captured):
            must = again
            while ledger.request is not None and (limit := ledger.due(must)) is not None:
                must = False
                message = self._message(gen.Credit(ledger.stream, limit))
                try:
                    await self.session.tell(message, owner=self.name, idempotent=True, changes=False)
                except DeviceError:
                    return  # the link is gone; begun anew with fresh credits
                ledger.granted = limit
