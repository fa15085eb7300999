"""What the board is to watch by itself, in volts and switches, set while everything is off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any

from hal.errors import LimitError, Refused
from hal.model.status import Status
from hal.protocols.firmware_gen import Capability, Interlock, InterlockKind

from .interlocks import COUNT, OFF, WINDOW, Interlocks
from .streaming import StreamingBoard


class WatchingBoard(StreamingBoard):
    """A board and its interlocks. They act without the host."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.interlocks = Interlocks()
        """What the board watches by itself."""
        self._protected = 0
        """The epoch in which it was told so."""

    def watch_level(
        self, number: int, input: int, *, above: float | None = None, below: float | None = None, passes: int = 1
    ) -> Status[None]:
        """Interlock `number` (0 to 3): everything off while an analogue input is above (or below) so many volts.

        The board acts by itself, after so many control passes (1 ms) in a row. Only with everything off.
        Set anew by this program after a reset of the board, which does not arm without. Raises `LimitError`.
        """
        if (above is None) == (below is None):
            raise LimitError(f"{self.name}: give `above` or `below`, in V, one of them; nothing was sent.")
        kind = InterlockKind.BELOW if above is None else InterlockKind.ABOVE
        threshold = self._threshold(input, below if above is None else above)
        if threshold == (0 if above is None else self.known.adc_full_counts):
            raise LimitError(f"{self.name}: no signal is beyond the end of the converter's range; nothing was sent.")
        return self._watch(number, Interlock(kind, input, threshold, 0, self._passes(passes)))

    def watch_step(
        self, number: int, input: int, *, step: float, within: float = 0.01, passes: int = 1
    ) -> Status[None]:
        """Interlock `number` (0 to 3): everything off when an analogue input moves by `step` V `within` so many s.

        As `watch_level`; a step of pressure is one. `within` is at most 32 ms, and no less than `passes`: a step is
        seen for as long.
        """
        window = round(within * 1e6 / self.known.control_period) if isfinite(within) else 0
        if not 1 <= window <= WINDOW:
            raise LimitError(f"{self.name}: within = {within:g} s is none of 1 to {WINDOW} ms; nothing was sent.")
        rule = Interlock(InterlockKind.STEP, input, self._threshold(input, step), window, self._passes(passes))
        if not 0 < rule.threshold < self.known.adc_full_counts:
            raise LimitError(
                f"{self.name}: a step of {step:g} V is less than a count, or the whole range; nothing was sent."
            )
        if passes > window:
            raise LimitError(
                f"{self.name}: a step is seen for {window} passes (`within`), not for {passes}; nothing was sent."
            )
        return self._watch(number, rule)

    def unwatch(self, number: int) -> Status[None]:
        """End interlock `number`."""
        return self._watch(number, OFF)

    def require_switches(self, levels: Mapping[int, bool]) -> Status[None]:
        """Digital inputs that must be as given (True: high), or nothing is on; all others don't count.

        The board acts by itself. Only with everything off. Raises `LimitError`.
        """
        self.need(Capability.DIGITAL, "digital inputs")
        mask = self._bits(list(levels), self.known.digital_inputs, "digital input")
        level = sum(1 << number for number, high in levels.items() if high)
        return self._set_interlocks("require switches", replace(self.interlocks, mask=mask, level=level))

    async def protect(self) -> None:
        """Tell the board what to watch, where it was not told since its start."""
        assert self.hello is not None
        boot = self.hello.boot
        if self._protected != boot:
            for channel, command in self.interlocks.commands():
                await self.do(command, channel)
            self._protected = boot

    def unprotected(self) -> None:
        self._protected = 0

    # ------------------------------------------------------------------ private

    def _watch(self, number: int, rule: Interlock) -> Status[None]:
        if not 0 <= number < COUNT:
            raise LimitError(f"{self.name}: interlock {number} is none of 0 to {COUNT - 1}; nothing was sent.")
        return self._set_interlocks(f"interlock {number}", self.interlocks.with_analogue(number, rule))

    def _set_interlocks(self, what: str, wanted: Interlocks) -> Status[None]:
        self.interlocks, before = wanted, self.interlocks
        return Status(self._tell_interlocks(before), name=f"{self.name} {what}", device=self)

    async def _tell_interlocks(self, before: Interlocks) -> None:
        wanted, self._protected = self.interlocks, 0
        try:
            await self.protect()
        except Refused:
            if self.interlocks is wanted:
                self.interlocks = before  # what the board has, wholly or after the next arming
            raise

    def _threshold(self, input: int, volts: float | None) -> int:
        self.need(Capability.ADC, "analogue inputs")
        assert volts is not None
        hello = self.known
        self._bits([input], hello.adc_channels, "analogue input")
        counts = round(volts / self.volts_per_count) if isfinite(volts) else -1
        if not 0 <= counts <= hello.adc_full_counts:
            most = hello.adc_full_counts * self.volts_per_count
            raise LimitError(f"{self.name}: {volts:g} V is outside 0 to {most:.3g} V; nothing was sent.")
        return counts

    def _passes(self, passes: int) -> int:
        if not 1 <= passes <= 255:
            raise LimitError(f"{self.name}: passes = {passes} is none of 1 to 255; nothing was sent.")
        return passes
