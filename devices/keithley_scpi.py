"""What the drivers of Keithley's SCPI source-meters (2400, 2450) share: power envelope, safe state, reading back."""

from __future__ import annotations

from typing import ClassVar

from devices.source_meter import ErrorQueue, Mode, SourceMeterUnit, close
from hal.errors import Refused


class KeithleySourceMeter(ErrorQueue, SourceMeterUnit):
    """Base of both; a model says its `envelope`, and where to look when the output does not do as asked."""

    envelope: ClassVar[tuple[float, float]]
    """V and A of which only one may be exceeded at a time."""
    look_at: ClassVar[str] = "ranges"

    async def make_safe(self) -> None:
        # :ABOR first: a trigger model that runs takes nothing else (2400S-900-01, 16-3). Two messages: whatever
        # the first one meets, the second is a message of its own.
        await self.tell(b":ABOR;:SOUR:VOLT 0;:SOUR:CURR 0", idempotent=True)
        await self.tell(b":OUTP OFF", idempotent=True)
        await self.confirm_off()

    def impossible(self, volts: float, amperes: float) -> str:
        high, strong = self.envelope
        if volts > high and amperes > strong:
            return (
                f"{volts:g} V with {amperes:g} A is more than a {self.model} can do; "
                f"stay below {high:g} V or {strong:g} A"
            )
        return ""

    async def read_back(self, mode: Mode, level: float, compliance: float, headers: tuple[str, str]) -> None:
        """Ask for level, limit (by their `headers`) and output, and tell whoever follows them. Raises `Refused`."""
        query = f"{headers[0]}?;{headers[1]}?;:OUTP?"
        reply = (await self.ask(query.encode())).reply
        try:
            took, limit, on = (float(text) for text in reply.decode("ascii").split(";"))
        except ValueError:
            raise self.protocol_error(reply, "level, limit and output") from None
        if not (close(took, level) and on == 1):
            raise Refused(
                self.name, f"asked for {mode} {level:g}, it says {took:g} with output {'on' if on else 'off'}; "
                f"check {self.look_at} at the front panel",
            )  # fmt: skip
        if not close(limit, compliance):
            raise Refused(
                self.name,
                f"asked for a compliance of {compliance:g}, it took {limit:g}; choose one that fits the range",
            )
        sourced, limited = self.set_by(mode)
        self.note(sourced, level)
        self.note(limited, compliance)
