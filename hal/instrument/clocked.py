"""Devices with a clock of their own, and those that stream samples stamped by it.

What such a device stamps is stored in its own ticks; how ticks become lab time is told by the
exchanges, of which every one can be had here. So a run that keeps both can be timed anew, later and better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from ..clock.exchange import Exchange
from ..clock.exchange_clock import ExchangeClock
from ..protocols.firmware import SampleChunk


@runtime_checkable
class Clocked(Protocol):
    """A device that is asked for its time again and again while it is connected."""

    clock: ExchangeClock
    """Its clock against lab time; another object once a board with another tick rate answers."""

    def on_exchange(self, listener: Callable[[Exchange], None]) -> None:
        """Call `listener` with every exchange of time, at once and in order; it must not wait."""
        ...

    def off_exchange(self, listener: Callable[[Exchange], None]) -> None:
        """Undo `on_exchange`."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """A device that samples analogue inputs at a steady rate by its own clock, faster than it could be asked."""

    def sampling(self, channels: Sequence[int], rate: float) -> AbstractAsyncContextManager[None]:
        """Sample these inputs `rate` times a second inside the block.

        Users of the same inputs at the same rate share one stream; `Refused` while it runs otherwise.
        """
        ...

    def on_samples(self, listener: Callable[[SampleChunk], None]) -> None:
        """Call `listener` with every chunk of samples, at once and in order; it must not wait."""
        ...

    def off_samples(self, listener: Callable[[SampleChunk], None]) -> None:
        """Undo `on_samples`."""
        ...
