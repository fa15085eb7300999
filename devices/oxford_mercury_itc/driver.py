"""Oxford Instruments MercuryiTC: one sensor, the loop that belongs to it, and the loop's own ramp."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hal.errors import ConfigError, LimitError, Refused
from hal.instrument.address import Calls
from hal.instrument.identity import identified, naming
from hal.instrument.instrument import Instrument
from hal.model.capabilities import Heater, Thermometer
from hal.model.reading import Answer, Noise
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.framing import AnyLines, Framing
from hal.transport.link import SerialSettings
from hal.transport.session import Probe
from hal.units import convert

from . import codec

SETTLE = 1.0  # s for the loop to have taken its setpoint before that ramps; its cycle is unverified


@dataclass(frozen=True, slots=True)
class Options:
    """What a lab file may say of this instrument."""

    sensor: str = "MB1.T1"
    """Identifier of the sensor whose loop heats, as in the instrument's catalogue (READ:SYS:CAT)."""
    tolerance: float = 0.5
    """A ramp is done when the temperature is this near its end, K."""


class OxfordMercuryItc(Instrument):
    """One loop of a MercuryiTC. Every ramp is the instrument's own: it goes on, and ends, without us.

    Its remote command set must be SCPI, not legacy (in legacy it speaks as an ITC503). Gas flow is left alone.
    """

    model, vendor = "MercuryiTC", "Oxford Instruments"
    provides = (Heater, Thermometer)
    Options = Options
    wires = ("tcp", "serial", "visa")
    line = SerialSettings(57600)  # as at ISIS (IBEX); set at the front panel
    timeout = 1.0  # unverified
    emulator = "devices.oxford_mercury_itc.emulator:OxfordMercuryItcEmulator"
    verified = (
        "manual UMC0071, section 8.3; PyMeasure's driver, mercuryitc 0.3 and SweepMe's driver against the emulator; "
        "never on a real one. Unverified: where a ramp begins, rate of readings"
    )

    temperature = SignalR(
        float, "degC", at=Calls("read_temperature", convert=codec.temperature), kind=Kind.HINTED, poll=0.5,
        max_age=0.2,  # unverified
        noise=Noise(absolute=0.01), doc="of the sensor of the lab file",
    )  # fmt: skip
    setpoint = SignalRW(
        float, "degC", at=Calls("read_setpoint", "write_setpoint", convert=codec.temperature),
        limits=(-273.15, convert(codec.HOTTEST, "K", "degC")), of="temperature", supersedes=True,
        kind=Kind.NORMAL, poll=1.0, doc="where it is going; at the ramp rate if ramping is on",
    )  # fmt: skip
    ramp_rate = SignalRW(
        float, "K/s", at=Calls("read_rate", "write_rate", convert=codec.rate),
        limits=(codec.SLOWEST / 60, codec.FASTEST / 60),
    )  # fmt: skip
    ramping = SignalR(bool, at=Calls("read_ramping", convert=codec.switch), varies="in steps", doc="setpoints ramp")
    automatic = SignalR(bool, at=Calls("read_loop", convert=codec.switch), varies="in steps", doc="the loop heats")
    output = SignalR(float, "%", at=Calls("read_output", convert=codec.number), poll=1.0)
    power = SignalR(float, "W", at=Calls("read_power", convert=lambda text: codec.number(text, "W")))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        sensor = self.options.sensor
        if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?", sensor):
            raise ConfigError(f"{self.name}: sensor = {sensor!r} is no identifier; write it as MB1.T1")
        self._sensor, self._loop = f"DEV:{sensor}:TEMP", f"DEV:{sensor}:TEMP:LOOP"
        self._heater = ""

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return AnyLines(b"\n")

    @cached_property
    def probe(self) -> Probe:
        return naming(b"IDN:")

    async def identify(self) -> str:
        return await identified(self, "an Oxford MercuryiTC", codec.IDENTITY)

    async def connected(self) -> None:
        heater = (await self._get(f"{self._loop}:HTR")).payload
        if not re.fullmatch(r"[A-Z]+\d+\.H\d+", heater):
            raise Refused(
                self.name, f"no heater belongs to the loop of {self.options.sensor} (it says {heater!r}); "
                "choose one at the front panel, or another `sensor` in the lab file",
            )  # fmt: skip
        self._heater = heater

    # ------------------------------------------------------------------ verbs

    def ramp(self, to: float, rate: float) -> Status[None]:
        """Go to `to` (degC) at `rate` (K/s) from where it is now; ended early, it holds. Raises `LimitError`."""
        self.setpoint.check(to)
        self._check_rate(rate)
        return self.start(f"ramp to {to:g} degC at {rate:g} K/s", self._ramp(to, rate), on_cancel=self._hold)

    def hold(self) -> Status[None]:
        """Stay at the present temperature; a heater that is off stays off."""
        return self.start("hold", self._hold())

    def off(self) -> Status[None]:
        """Loop off, output zero: it cools by itself."""
        return self.start("off", self.make_safe())

    async def make_safe(self) -> None:
        # The loop first: while it is on the output is its own, and off it keeps its last output.
        await self._set(f"{self._loop}:ENAB", "OFF")
        await self._set(f"{self._loop}:HSET", "0")
        output = await self.output.get()
        if await self.automatic.get() or output:
            raise Refused(self.name, f"the heater is still at {output:g} %; switch it off at the front panel")

    # ------------------------------------------------------------------ what the signals call

    async def read_temperature(self) -> Answer:
        """Of the sensor, K."""
        return await self._get(f"{self._sensor}:SIG:TEMP")

    async def read_setpoint(self) -> Answer:
        """Of the loop, K."""
        return await self._get(f"{self._loop}:TSET")

    async def write_setpoint(self, value: float) -> None:
        """Set it, degC, and look. Raises `Refused`."""
        await self._set(f"{self._loop}:TSET", codec.encode_temperature(value))
        taken = codec.temperature((await self.read_setpoint()).payload)
        if abs(taken - value) > 0.01:
            raise Refused(self.name, f"the setpoint was set to {value:g} and became {taken:g} degC; see its hot limit")

    async def read_rate(self) -> Answer:
        """Of the loop's ramp, K/min."""
        return await self._get(f"{self._loop}:RSET")

    async def write_rate(self, value: float) -> None:
        """Set the rate, K/s, and look. Raises `Refused`."""
        self._check_rate(value)
        await self._set(f"{self._loop}:RSET", codec.encode_rate(value))
        taken = codec.rate((await self.read_rate()).payload)
        if abs(taken - value) > codec.RATE_STEP / 60:
            raise Refused(self.name, f"the ramp rate was set to {value:g} and became {taken:g} K/s")

    async def read_ramping(self) -> Answer:
        """Whether setpoints ramp."""
        return await self._get(f"{self._loop}:RENA")

    async def read_loop(self) -> Answer:
        """Whether the loop heats."""
        return await self._get(f"{self._loop}:ENAB")

    async def read_output(self) -> Answer:
        """Of the loop, %."""
        return await self._get(f"{self._loop}:HSET")

    async def read_power(self) -> Answer:
        """Of the heater, W."""
        return await self._get(f"DEV:{self._heater}:HTR:SIG:POWR")

    # ------------------------------------------------------------------ private

    async def _ramp(self, to: float, rate: float) -> None:
        # A ramp begins at the setpoint, which may be anywhere. The setpoint goes first to the temperature
        # and only then is ramping switched off: the other way it would jump to wherever it was going.
        await self.setpoint.put(await self._here())
        await self._set(f"{self._loop}:RENA", "OFF")
        await asyncio.sleep(SETTLE)
        await self.ramp_rate.put(rate)
        await self._set(f"{self._loop}:RENA", "ON")
        if not await self.ramping.get():
            raise Refused(self.name, "it does not ramp its setpoint; is a sweep or another program running there?")
        await self._set(f"{self._loop}:ENAB", "ON")
        await self.setpoint.put(to)
        async for _ in self.until(self.temperature, lambda now: abs(now - to) <= self.options.tolerance):
            pass

    async def _hold(self) -> None:
        await self.setpoint.put(await self._here())

    async def _here(self) -> float:
        """The present temperature as a setpoint."""
        limits = self.setpoint.limits
        here: float = min(max(await self.temperature.get(), limits.low), limits.high)
        return here

    def _check_rate(self, rate: float) -> None:
        """Raise `LimitError` unless the instrument can ramp at this rate, to a percent."""
        self.ramp_rate.check(rate)
        if abs(float(codec.encode_rate(rate)) / 60 / rate - 1) > 0.01:
            raise LimitError(
                f"{self.name}: ramp_rate = {rate:g} K/s lies between steps of {codec.RATE_STEP / 60:g} K/s; "
                "nothing was sent"
            )

    async def _get(self, nouns: str) -> Answer:
        """Ask for one value, with its unit. Raises `Refused`, `ProtocolError`."""
        exchange = await self.ask(
            codec.encode("READ", nouns).encode(),
            matches=lambda reply: codec.answers(reply.decode("latin-1"), "READ", nouns),
        )
        reply = exchange.reply.decode("latin-1").strip()
        self._refused(f"READ:{nouns}", reply)
        try:
            return Answer(codec.value(reply, nouns), exchange.sent, exchange.received)
        except ValueError:
            raise self.protocol_error(exchange.reply, f"STAT:{nouns}:...") from None

    async def _set(self, nouns: str, value: str) -> None:
        """Set one value. Raises `Refused`."""
        exchange = await self.command(
            codec.encode("SET", nouns, value).encode(),
            idempotent=True,
            matches=lambda reply: codec.answers(reply.decode("latin-1"), "SET", nouns),
        )
        self._refused(f"SET:{nouns}:{value}", exchange.reply.decode("latin-1").strip())

    def _refused(self, sent: str, reply: str) -> None:
        if word := codec.refusal(reply):
            raise Refused(self.name, f"{sent!r} was refused ({word}): {codec.REFUSALS[word]}")
