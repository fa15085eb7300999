"""A driver of one's own in one file: a bath thermostat that speaks a line protocol."""

import asyncio
from dataclasses import dataclass

from hal import Instrument, Kind, Noise, Scpi, SignalR, SignalRW, Status
from hal.capabilities import Heater
from hal.errors import WrongInstrument
from hal.protocols.framing import AnyLines, Framing, Lines
from hal.transport.link import SerialSettings


class Bath(Instrument):
    """Signals first, in the order of the manual; then what it can do."""

    model, vendor = "B-7", "Example Baths"
    provides = (Heater,)
    wires, line = ("serial", "tcp"), SerialSettings(9600)
    emulator = f"{__name__}:EmulatedBath"
    verified = "nothing of it: there is no such instrument"

    temperature = SignalR(
        float, "degC", at=Scpi("PV?"), kind=Kind.HINTED, poll=0.5, max_age=0.1, noise=Noise(resolution=0.01)
    )
    setpoint = SignalRW(
        float, "degC", at=Scpi("SP?", "SP {value:.2f}"), limits=(-40, 200), of="temperature", supersedes=True
    )
    ramp_rate = SignalRW(float, "K/s", at=Scpi("RATE?", "RATE {value:.3f}"), limits=(0.001, 1.0))

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Lines(b"\r\n")

    async def identify(self) -> str:
        identity = (await self.ask(b"ID?")).reply.decode()
        if not identity.startswith("BATH"):
            raise WrongInstrument(self.name, f"expected a B-7, found {identity!r}; check `link` in the lab file")
        return identity

    def ramp(self, to: float, rate: float) -> Status[None]:
        """Go to `to` (degC) at `rate` (K/s); ended early, it holds."""
        self.setpoint.check(to)
        self.ramp_rate.check(rate)
        return self.start(f"ramp to {to:g} degC", self._ramp(to, rate), on_cancel=self._hold)

    def hold(self) -> Status[None]:
        """Stay at the present temperature."""
        return self.start("hold", self._hold())

    def off(self) -> Status[None]:
        """Heater off."""
        return self.start("off", self.make_safe())

    async def make_safe(self) -> None:
        await self.tell(b"OFF")

    async def _ramp(self, to: float, rate: float) -> None:
        await self.ramp_rate.put(rate)
        await self.setpoint.put(to)
        async for _ in self.until(self.temperature, lambda now: abs(now - to) < 0.05):
            pass

    async def _hold(self) -> None:
        await self.setpoint.put(await self.temperature.get())


@dataclass
class EmulatedBath:
    """The far end of the wire: answers lines, lives in time."""

    world: object = None
    unit: object = None
    channel: object = None
    reply_delay: float = 0.005
    temperature: float = 25.0
    setpoint: float = 25.0
    rate: float = 0.1
    on: bool = False

    def framing(self, scheme: str) -> Framing:
        return AnyLines(b"\r\n")

    def respond(self, message: bytes) -> bytes | None:
        match message.split():
            case [b"ID?"]:
                return b"BATH B-7 1.0"
            case [b"PV?"]:
                return b"%.2f" % self.temperature
            case [b"SP?"]:
                return b"%.2f" % self.setpoint
            case [b"RATE?"]:
                return b"%.3f" % self.rate
            case [b"SP", value] if number(value) is not None:
                self.setpoint, self.on = float(value), True
            case [b"RATE", value] if number(value) is not None:
                self.rate = float(value)
            case [b"OFF"]:
                self.on = False
        return None

    def advance(self, dt: float) -> None:
        target, step = (self.setpoint, self.rate * dt) if self.on else (25.0, 0.01 * dt)
        self.temperature += max(-step, min(step, target - self.temperature))


def number(text: bytes) -> float | None:
    """A number in the bath's form, or None: on a bad line anything may come."""
    try:
        return float(text)
    except ValueError:
        return None


async def main() -> None:
    """Try it against its emulator, here in memory and in no time."""
    from hal.testing import wired

    async with wired(Bath, name="bath") as (bath, _):
        await bath.ramp(to=30.0, rate=0.5)
        print(bath.identity, await bath.temperature.get(), "degC")


if __name__ == "__main__":
    from hal.testing import JumpingLoop

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main())
