"""Valves and a beam blanker at the board's digital outputs: devices of their own on the board's session.

The board lets go of all its outputs when it goes to its safe state, when its host falls silent and at
every reset, so what hangs on them must be safe without current: a valve's safe position is where it
stands then, and the blanker must blank then.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from hal.errors import ConfigError, Refused
from hal.instrument.instrument import Instrument
from hal.model.capabilities import Beam, Valve
from hal.model.reading import Answer
from hal.model.signal import Kind, SignalR
from hal.model.status import Status
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware import FirmwareFraming
from hal.protocols.firmware_gen import Capability, State
from hal.protocols.framing import Framing
from hal.transport.link import SerialSettings

from .addresses import Told
from .board import Board
from .driver import InsituMcu


class _Output(Instrument):
    """One digital output; `channel` from 0. The board itself is a device of the same lab file, on the same link."""

    vendor, model = "insitu-hal", "output of the in-situ microcontroller board"
    wires = ("serial", "tcp", "firmware")
    line = SerialSettings(921600)
    timeout = InsituMcu.timeout
    verified = InsituMcu.verified

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return FirmwareFraming()

    @property
    def board(self) -> InsituMcu:
        """The board this is an output of. Raises `ConfigError`."""
        board = Board.on(self.session)
        if not isinstance(board, InsituMcu):
            raise ConfigError(
                f"{self.name}: the board on {self.session.link.url} is no device of this lab; write one with "
                'driver = "insitu_mcu" on the same entry of [links]'
            )
        return board

    @property
    def bit(self) -> int:
        """Of this output. Raises `ConfigError`."""
        number = 0 if self.channel is None else int(self.channel)
        outputs = self.board.known.digital_outputs
        if not 0 <= number < outputs:
            raise ConfigError(f"{self.name}: channel {number} is none of the board's outputs 0 to {outputs - 1}")
        return 1 << number

    async def identify(self) -> str:
        if self.board.hello is None:
            await self.board.identify()
        self.board.need(Capability.DIGITAL, "digital outputs")
        return f"output {self.bit.bit_length() - 1} of {self.board.name}"

    async def report(self) -> Answer:
        """The board's status report."""
        return await self.board.report()

    async def make_safe(self) -> None:
        status: gen.StatusReply = (await self.report()).payload
        if status.state in (State.ARMED, State.RUN):
            with suppress(Refused):  # the board itself went to its safe state meanwhile: look
                await self.board.do(gen.DigitalSet(self.bit, 0))
            status = (await self.report()).payload
        if self._is_on(status):
            raise Refused(self.name, f"its output stays on, the board is in {status.state.name}; switch it off by hand")

    def _is_on(self, status: gen.StatusReply) -> bool:
        return bool(status.digital_out & self.bit)

    async def _switch(self, on: bool) -> None:
        if not on:
            await self.make_safe()  # needs no arming, and must not arm
            return
        await self.board.arm_now()
        reply: gen.DigitalSetReply = (await self.board.do(gen.DigitalSet(self.bit, self.bit))).reply
        if not reply.value & self.bit:
            raise Refused(self.name, "its output stays off; see the board's state")


@dataclass(frozen=True, slots=True)
class ValveOptions:
    """How a valve hangs on its output."""

    open_when: Literal["on", "off"] = "on"
    """The output's state in which it is open."""
    safe: Literal["open", "closed"] = "closed"
    """Where it is to go when the lab goes to its safe state; it must stand there without current."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("open_when", self.open_when, ("on", "off")), ("safe", self.safe, ("open", "closed")),
        ):  # fmt: skip
            if value not in known:
                raise ConfigError(f"{name} = {value!r} is none of {', '.join(known)}")
        if (self.safe == "open") != (self.open_when == "off"):
            raise ConfigError(
                f"safe = {self.safe!r} can't be kept by a valve that is open when its output is {self.open_when}: the "
                "board lets go of all outputs at a fault, a reset and without its host; take a valve that closes "
                "(opens) without current, or declare the other position safe"
            )


class McuValve(_Output):
    """A valve at one digital output of the board; `channel` from 0."""

    provides = (Valve,)
    Options = ValveOptions
    options: ValveOptions

    state = SignalR(
        str, at=Told(lambda d, s: d.position(s)), kind=Kind.HINTED, poll=0.1, varies="in steps",
        doc="By its output; no contact reports the valve itself.",
    )  # fmt: skip

    def position(self, status: gen.StatusReply) -> str:
        """Where it stands by the board's report."""
        return "open" if self._is_on(status) == (self.options.open_when == "on") else "closed"

    def open(self) -> Status[None]:
        """Open it."""
        return self.start("open", self._go("open"))

    def close(self) -> Status[None]:
        """Close it."""
        return self.start("close", self._go("closed"))

    async def _go(self, position: str) -> None:
        await self._switch((position == "open") == (self.options.open_when == "on"))
        self.state.publish(await self.state.read())


class McuBeam(_Output):
    """The beam blanker at one digital output of the board; the beam passes while the output is on."""

    provides = (Beam,)

    blanked = SignalR(
        bool, at=Told(lambda d, s: d.dark(s)), kind=Kind.HINTED, poll=0.1, varies="in steps",
        doc="By its output; the microscope is not asked.",
    )  # fmt: skip

    def dark(self, status: gen.StatusReply) -> bool:
        """Whether the beam is off the specimen by the board's report."""
        return not self._is_on(status)

    def blank(self) -> Status[None]:
        """Keep the beam off the specimen."""
        return self.start("blank", self._go(False))

    def unblank(self) -> Status[None]:
        """Let it through."""
        return self.start("unblank", self._go(True))

    async def _go(self, on: bool) -> None:
        await self._switch(on)
        self.blanked.publish(await self.blanked.read())


__all__ = ["McuBeam", "McuValve", "ValveOptions"]
