"""What the recorder listens to at devices with a clock of their own: exchanges of time, pulses, samples."""

from __future__ import annotations

from collections import defaultdict
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import HalError
from ..instrument.clocked import Clocked
from .plan import Recordable, recorded_inputs, stamps_pulses

if TYPE_CHECKING:
    from ..clock.exchange import Exchange
    from ..protocols.firmware import EdgeChunk, SampleChunk
    from .nexus import NexusWriter


class Ticks:
    """What came since the last writing, by device and in order."""

    def __init__(self) -> None:
        self.exchanges: dict[str, list[Exchange]] = defaultdict(list)
        self.pulses: list[tuple[str, EdgeChunk]] = []
        self.samples: list[tuple[str, SampleChunk]] = []

    def write(self, writer: NexusWriter) -> None:
        """Hand it to the writer, in the writer's thread."""
        for device, exchanges in self.exchanges.items():
            writer.ticks.append_exchanges(device, exchanges)
        for device, pulses in self.pulses:
            writer.ticks.append_pulses(device, pulses)
        for device, samples in self.samples:
            writer.ticks.append_samples(device, samples)


class Taps:
    """Listens to every device of a lab that has ticks to give."""

    def __init__(self, lab: Recordable) -> None:
        self._lab = lab
        self._listening, self._sampling = ExitStack(), AsyncExitStack()
        self._ticks = Ticks()

    def listen(self) -> None:
        """From now on nothing is missed."""
        for name, device in self._lab.devices.items():
            if isinstance(device, Clocked):
                self._follow(device.on_exchange, device.off_exchange, partial(self._exchange, name))
            if stamps_pulses(device):
                self._follow(device.on_pulses, device.off_pulses, partial(self._pulses, name))
            if recorded_inputs(device):
                self._follow(device.on_samples, device.off_samples, partial(self._samples, name))

    async def sample(self) -> None:
        """Have the inputs sampled that the lab file wants recorded."""
        for device in self._lab.devices.values():
            if inputs := recorded_inputs(device):
                try:
                    await self._sampling.enter_async_context(device.sampling(inputs, device.options.record_rate))
                except HalError as error:  # the rest of the run is worth recording all the same
                    self._lab.context.journal.note("error", device.name, f"its inputs are not recorded: {error}")

    async def cease(self) -> None:
        """End the sampling; what is under way still comes."""
        try:
            await self._sampling.aclose()
        except HalError as error:
            self._lab.context.journal.note("error", "", f"the sampling of inputs could not be ended: {error}")

    def close(self) -> None:
        """Listen no more."""
        self._listening.close()

    def take(self) -> Ticks:
        """What came since it was last asked."""
        taken, self._ticks = self._ticks, Ticks()
        return taken

    # ------------------------------------------------------------------ private

    def _follow(self, begin: Any, end: Any, listener: Any) -> None:
        begin(listener)
        self._listening.callback(end, listener)

    def _exchange(self, device: str, exchange: Exchange) -> None:
        self._ticks.exchanges[device].append(exchange)

    def _pulses(self, device: str, chunk: EdgeChunk) -> None:
        self._ticks.pulses.append((device, chunk))

    def _samples(self, device: str, chunk: SampleChunk) -> None:
        self._ticks.samples.append((device, chunk))
