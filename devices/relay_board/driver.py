"""Valves and a beam blanker on the relays of one board: several devices, one session, one query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hal.errors import ConfigError, Refused, WrongInstrument
from hal.instrument import registers
from hal.instrument.instrument import Instrument
from hal.instrument.registers import Coil
from hal.model.capabilities import Beam, Valve
from hal.model.signal import Kind, SignalR
from hal.model.status import Status
from hal.protocols import modbus
from hal.protocols.modbus import ModbusFraming
from hal.transport.link import SerialSettings

from . import codec

ALL = (0, codec.CHANNELS - 1)


class _Relay(Instrument):
    """One relay of a board.

    Such boards do not say who they are. What can be verified is that eight coils answer and that a
    ninth is refused; that the right board is on this link and unit, a person must make sure.
    The relay's state is the board's own word for its coil: no contact reports what hangs on it.
    """

    vendor, model = "", "8-relay board"
    wires = ("tcp", "serial")
    line = SerialSettings(9600, 8, "N", 1)
    timeout = 0.5
    emulator = "devices.relay_board.emulator:RelayBoardEmulator"
    verified = (
        "against pymodbus and minimalmodbus 2.1 as other masters; its emulator, as a Waveshare Modbus POE ETH Relay "
        "(B), by that board's client waveshare-modbus; never on a board"
    )

    @classmethod
    def framing(cls, scheme: str) -> ModbusFraming:
        return ModbusFraming(scheme, baudrate=cls.line.baudrate)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            self.coil = codec.coil(1 if self.channel is None else int(self.channel))
        except ValueError as error:
            raise ConfigError(f"{self.name}: {error}; write `channel = 1` in the lab file") from None

    async def identify(self) -> str:
        try:
            await self._coils()
        except Refused as error:
            raise WrongInstrument(self.name, f"expected a board of 8 relays, found none ({error}); {_CHECK}") from None
        question = modbus.read("coils", registers.unit_of(self), codec.CHANNELS, 1)
        exchange = await self.ask(question, matches=self._framing.matches(question))
        if modbus.exception_code(exchange.reply) != modbus.ILLEGAL_ADDRESS:
            raise WrongInstrument(
                self.name, f"expected a board of 8 relays, found 'more than 8 coils or no refusal'; {_CHECK}"
            )
        return "8-relay board (it has no identity of its own)"

    @property
    def _framing(self) -> ModbusFraming:
        framing = self.session.framing
        assert isinstance(framing, ModbusFraming)
        return framing

    async def _coils(self) -> list[bool]:
        question = modbus.read("coils", registers.unit_of(self), 0, codec.CHANNELS)
        return modbus.bits((await registers.ask(self, question)).reply, codec.CHANNELS)

    async def _energise(self, on: bool) -> None:
        """Switch the relay; the reply echoes the coil and its new state (APP 6.5)."""
        message = modbus.write_coil(registers.unit_of(self), self.coil, on)
        exchange = await registers.command(self, message)
        if exchange.reply[-2:] != message[-2:]:
            raise Refused(self.name, f"the relay of channel {self.coil + 1} did not switch; see to the board")


class _Position(Coil):
    """Open or closed, by what the lab file says an energised relay means."""

    def value(self, device: Any, payload: bytes) -> str:
        return codec.position(super().value(device, payload), device.options.open_when)


class _Blanked(Coil):
    """Blanked or not, by what the lab file says an energised relay means."""

    def value(self, device: Any, payload: bytes) -> bool:
        return bool(super().value(device, payload) == (device.options.blanked_when == "energised"))


def _coil_of(device: Any) -> int:
    return int(device.coil)


@dataclass(frozen=True, slots=True)
class ValveOptions:
    """How a valve hangs on its relay."""

    open_when: Literal["energised", "released"] = "energised"
    safe: Literal["open", "closed"] = "closed"
    """Where it goes when the lab goes to its safe state."""

    def __post_init__(self) -> None:
        _choose("open_when", self.open_when, ("energised", "released"))
        _choose("safe", self.safe, ("open", "closed"))


class RelayValve(_Relay):
    """A valve on one relay; `channel` 1 to 8."""

    provides = (Valve,)
    Options = ValveOptions

    state = SignalR(str, at=_Position(_coil_of, block=ALL), kind=Kind.HINTED, poll=0.2, varies="in steps")

    def open(self) -> Status[None]:
        """Open it."""
        return self.start("open", self._go("open"))

    def close(self) -> Status[None]:
        """Close it."""
        return self.start("close", self._go("closed"))

    async def make_safe(self) -> None:
        await self._go(self.options.safe)

    async def _go(self, position: str) -> None:
        await self._energise(codec.energised(position, self.options.open_when))
        self.state.publish(await self.state.read())


@dataclass(frozen=True, slots=True)
class BeamOptions:
    """How the blanker hangs on its relay."""

    blanked_when: Literal["energised", "released"] = "energised"

    def __post_init__(self) -> None:
        _choose("blanked_when", self.blanked_when, ("energised", "released"))


class RelayBeam(_Relay):
    """The beam blanker on one relay; its safe state is blanked."""

    provides = (Beam,)
    Options = BeamOptions

    blanked = SignalR(bool, at=_Blanked(_coil_of, block=ALL), kind=Kind.HINTED, poll=0.2, varies="in steps")

    def blank(self) -> Status[None]:
        """Keep the beam off the specimen."""
        return self.start("blank", self._go(True))

    def unblank(self) -> Status[None]:
        """Let it through."""
        return self.start("unblank", self._go(False))

    async def make_safe(self) -> None:
        await self._go(True)

    async def _go(self, blanked: bool) -> None:
        await self._energise(blanked == (self.options.blanked_when == "energised"))
        self.blanked.publish(await self.blanked.read())


def _choose(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} = {value!r} is none of {', '.join(known)}")


_CHECK = "check `link`, `unit` and `driver` in the lab file"
