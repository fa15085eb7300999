"""Pfeiffer drive of a turbo pump (TC 110, TC 400) on RS-485: switches it on and off, tells its speed and health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hal.capabilities import VacuumPump
from hal.errors import ConfigError, Refused, WrongInstrument
from hal.instrument.address import Calls
from hal.model.reading import Answer, Noise
from hal.model.signal import Kind, SignalR
from hal.model.status import Status

from . import codec, turbo_codec
from .driver import Telegraph
from .turbo_codec import Parameter


@dataclass(frozen=True, slots=True)
class Options:
    """The driver's own settings in a lab file."""

    safe: Literal["as it is", "off"] = "as it is"
    """What becomes of the pump in the safe state: a pump that runs down takes the vacuum with it."""


@dataclass(frozen=True, slots=True)
class _At:
    """A parameter as the place of a signal."""

    parameter: Parameter

    def question(self, device: Any) -> Any:
        return (self.parameter.number, device.unit)

    async def ask(self, device: Any) -> Answer:
        data, exchange = await device.fetch(self.parameter.number)
        return Answer(data, exchange.sent, exchange.received)

    def value(self, device: Any, payload: str) -> Any:
        found = codec.decode_data(self.parameter.kind, payload)
        return float(found) if self.parameter.kind in (codec.U_INTEGER, codec.U_REAL) else found

    async def put(self, device: Any, value: Any) -> None:
        raise NotImplementedError("nothing of a drive is a setpoint here")


class PfeifferTc(Telegraph):
    """The drive of one turbo pump: `unit` is its address, 1 to 255 (none: 1)."""

    model = "TC 110 / TC 400"
    provides = (VacuumPump,)
    Options = Options
    emulator = "devices.pfeiffer_telegram.turbo_emulator:PfeifferTcEmulator"
    verified = (
        "telegrams by the manuals of TC 110 and TC 400, section 8; parameters by the open driver pfeiffer-turbo "
        "0.3.4, run against the emulator as was PyExpLabSys; unverified: ranges, what it is delivered with, rate of "
        "readings"
    )

    speed = SignalR(
        float, "Hz", at=_At(turbo_codec.SPEED), kind=Kind.HINTED, poll=1.0, noise=Noise(resolution=1.0),
        doc="of the rotor",
    )  # fmt: skip
    target = SignalR(float, "Hz", at=_At(turbo_codec.TARGET), poll=5.0, varies="in steps", doc="speed it goes for")
    at_speed = SignalR(bool, at=_At(turbo_codec.AT_SPEED), poll=1.0, varies="in steps", doc="whether it has reached it")
    current = SignalR(
        float, "A", at=_At(turbo_codec.CURRENT), poll=1.0, noise=Noise(resolution=0.01), doc="of the motor"
    )
    power = SignalR(float, "W", at=_At(turbo_codec.POWER), poll=5.0, doc="of the motor")
    error = SignalR(
        str, at=Calls("read_error"), poll=1.0, varies="in steps",
        doc="empty, or its error (Err...: it has stopped) or warning (Wrn...) and what that means",
    )  # fmt: skip
    bearing = SignalR(float, "degC", at=_At(turbo_codec.BEARING), poll=5.0, doc="temperature of the bearing")
    motor = SignalR(float, "degC", at=_At(turbo_codec.MOTOR_TEMPERATURE), poll=5.0, doc="temperature of the motor")
    nominal_speed = SignalR(float, "Hz", at=_At(turbo_codec.NOMINAL), kind=Kind.CONFIG, varies="in steps")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.options.safe not in ("as it is", "off"):
            raise ConfigError(f"{self.name}: safe = {self.options.safe!r}; write 'as it is' or 'off'")

    async def identify(self) -> str:
        name = (await self.fetch(turbo_codec.NAME.number))[0].strip()
        try:
            await self.fetch(turbo_codec.SPEED.number)
        except Refused:
            raise WrongInstrument(
                self.name, f"expected the drive of a turbo pump, found {name!r}, which has no speed; check `unit`"
            ) from None
        firmware = (await self.fetch(turbo_codec.FIRMWARE.number))[0].strip()
        return f"Pfeiffer {name.replace('_', ' ')}, firmware {firmware}"

    # ------------------------------------------------------------------ verbs

    def on(self) -> Status[None]:
        """Switch the pump on; done when it has its speed, minutes later. Ended early, it goes on running up.

        Raises `Refused` for an error of the drive, also one that comes on the way.
        """
        return self.start("on", self._on())

    def off(self) -> Status[None]:
        """Switch the pump off; done when it stands, many minutes later."""
        return self.start("off", self._off())

    def acknowledge(self) -> Status[None]:
        """Clear an error whose cause is gone; the pump stays off."""
        return self.start("acknowledge", self.control(turbo_codec.ACKNOWLEDGE.number, "111111"))

    async def make_safe(self) -> None:
        if self.options.safe == "off":
            await self._switch(turbo_codec.STATION, False)

    # ------------------------------------------------------------------ what the signals call

    async def read_error(self) -> Answer:
        code, exchange = await self.fetch(turbo_codec.ERROR.number)
        meaning = turbo_codec.ERRORS.get(code, "see its manual")
        text = "" if code == turbo_codec.NO_ERROR else f"{code}: {meaning}"
        return Answer(text, exchange.sent, exchange.received)

    # ------------------------------------------------------------------ private

    async def _on(self) -> None:
        await self._stop_on_error()
        await self._switch(turbo_codec.MOTOR, True)
        await self._switch(turbo_codec.STATION, True)
        async for there in self.until(self.at_speed, lambda there: there):
            if not there.value:
                await self._stop_on_error()

    async def _off(self) -> None:
        await self._switch(turbo_codec.STATION, False)
        async for _ in self.until(self.speed, lambda speed: speed < 1.0):
            pass

    async def _switch(self, parameter: Parameter, on: bool) -> None:
        await self.control(parameter.number, parameter.encode(on))

    async def _stop_on_error(self) -> None:
        error = await self.error.get()
        if error.startswith("Err"):
            raise Refused(self.name, f"{error}. See to it, acknowledge() and begin again")
