"""Eurotherm 3504, 3508 and 3216: heat the specimen by their own loop and their own setpoint ramp."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from hal.errors import Refused, WrongInstrument
from hal.instrument import registers
from hal.instrument.instrument import Instrument
from hal.instrument.registers import Register
from hal.model.capabilities import Heater, Thermometer
from hal.model.reading import Noise
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols import modbus
from hal.protocols.modbus import ModbusFraming
from hal.transport.link import SerialSettings
from hal.transport.session import Probe

from . import codec

LOOP = (codec.PV, codec.WORKING_SETPOINT)  # read together, in one query
AGE = codec.CYCLE + 0.01  # s


@dataclass(frozen=True, slots=True)
class Options:
    """What a lab file may say of this instrument."""

    rate: float = 1.0
    """K/s at which `set` goes to its value."""

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"rate = {self.rate:g}: give K/s, more than 0")


class Eurotherm3504(Instrument):
    """One loop of a 3504. Every ramp is the instrument's own: it goes on, and ends, without us.

    The target setpoint is kept in a memory good for 100,000 writes (HA028651); a ramp costs one of
    them, two if it begins from `off()`.
    """

    vendor, model = "Eurotherm", "3504"
    provides = (Heater, Thermometer)
    Options = Options
    wires = ("serial", "tcp")
    line = SerialSettings(9600, 8, "N", 1)
    timeout = 0.5
    emulator = "devices.eurotherm_3504.emulator:Eurotherm3504Emulator"
    verified = (
        "register numbers by open drivers; its emulator by eurothermlib and clients on minimalmodbus 2.1.1, "
        "in EI-Bisynch by HA026230 and SweepMe's driver; never on a real 3504: identifier, status, float writes "
        "(see codec)"
    )

    temperature = SignalR(
        float, "degC", at=Register(codec.PV, float32=True, block=LOOP), kind=Kind.HINTED,
        poll=0.1, max_age=AGE, noise=Noise(absolute=0.5),
    )  # fmt: skip
    setpoint = SignalRW(
        float, "degC", at=Register(codec.TARGET, float32=True, block=LOOP, verify=True), limits=(0, 1200),
        of="temperature", supersedes=True, kind=Kind.NORMAL, poll=0.1,
    )  # fmt: skip
    manual_output = SignalR(float, "%", at=Register(codec.MANUAL_OUTPUT, float32=True, block=LOOP), poll=0.1)
    output = SignalR(float, "%", at=Register(codec.OUTPUT, float32=True, block=LOOP), poll=0.1, max_age=AGE)
    working_setpoint = SignalR(
        float, "degC", at=Register(codec.WORKING_SETPOINT, float32=True, block=LOOP), poll=0.1, max_age=AGE
    )
    ramp_rate = SignalRW(
        float, "K/s",
        at=Register(codec.RATE, scale=codec.PER_MINUTE, float32=True, step=codec.RATE_STEP, verify=True),
        limits=(codec.RATE_MIN * codec.PER_MINUTE, codec.RATE_MAX * codec.PER_MINUTE),
    )  # fmt: skip
    status = SignalR(str, at=Register(codec.STATUS, signed=False, parse=codec.decode_status), varies="in steps")
    manual = SignalR(bool, at=Register(codec.MANUAL, parse=bool), varies="in steps")

    TOLERANCE = 1.0  # K: a ramp is done once the setpoint has arrived and the temperature is this near
    NEAR = 5.0  # K: further from the temperature than this, the setpoint is brought here before it ramps
    PATIENCE = 1.0  # s for the loop to show what was written

    @classmethod
    def framing(cls, scheme: str) -> ModbusFraming:
        return ModbusFraming(scheme, baudrate=cls.line.baudrate)

    @cached_property
    def probe(self) -> Probe | None:  # on a serial line, replies do not tell their register
        unit = registers.unit_of(self)
        question = modbus.loopback(unit, 0xA537)
        return Probe(question, lambda reply: reply[6] == unit and reply[7] & 0x7F == modbus.LOOPBACK)

    async def identify(self) -> str:
        try:
            found = codec.model(await self._word(codec.IDENTIFIER))
            # Only the 3500 has both (MinimalModbus); a 3200 has no 78.
            await self._word(codec.RATE_DISABLE)
            await self._word(codec.MANUAL)
        except Refused as error:
            raise WrongInstrument(
                self.name, f"expected a {self.vendor} 3504, found something else ({error}); {_CHECK}"
            ) from None
        if not found.startswith("35"):
            raise WrongInstrument(self.name, f"expected a {self.vendor} 3504, found '{found}'; {_CHECK}")
        return f"{self.vendor} {found} V{await self._word(codec.VERSION):04X}"

    # ------------------------------------------------------------------ verbs

    def ramp(self, to: float, rate: float) -> Status[None]:
        """Go to `to` (degC) at `rate` (K/s); ended early, it holds. Raises `LimitError`."""
        self.setpoint.check(to)
        self._check_rate(rate)
        return self.start(f"ramp to {to:g} degC at {rate:g} K/s", self._ramp(to, rate), on_cancel=self._hold)

    def set(self, value: float) -> Status[None]:
        """Go to `value` (degC) at the rate of the lab file's `rate`."""
        return self.ramp(value, self.options.rate)

    def hold(self) -> Status[None]:
        """Stay at the present temperature; a heater that is off stays off."""
        return self.start("hold", self._hold())

    def off(self) -> Status[None]:
        """Manual mode, output zero: the specimen cools by itself."""
        return self.start("off", self.make_safe())

    async def make_safe(self) -> None:
        # Manual first: in automatic mode the output is the loop's, and a zero written there is lost.
        await self._set_word(codec.MANUAL, 1)
        await self._set_word(codec.MANUAL_OUTPUT, 0)
        await self._until_seen(self.output, lambda percent: percent == 0, "the output did not go to zero")
        if not await self.manual.get():
            raise Refused(self.name, "it left manual mode by itself; switch the heater off by hand")

    # ------------------------------------------------------------------ private

    async def _ramp(self, to: float, rate: float) -> None:
        here = await self.temperature.get()
        if await self.manual.get() or abs(await self.working_setpoint.get() - here) > self.NEAR:
            await self._begin_here(here)
        await self.ramp_rate.put(rate)
        await self._let_ramp()
        await self._set_word(codec.MANUAL, 0)
        await self.setpoint.put(to)
        async for _ in self.until(self.working_setpoint, lambda now: abs(now - to) < 0.05):
            pass
        async for _ in self.until(self.temperature, lambda now: abs(now - to) <= self.TOLERANCE):
            pass

    async def _begin_here(self, here: float) -> None:
        """Let the working setpoint step to the temperature, so that a ramp neither jumps nor lags."""
        start = min(max(here, self.setpoint.limits.low), self.setpoint.limits.high)
        # Not the other way round: it would step to wherever it was going.
        await self.setpoint.put(start)
        await self._let_step()
        await self._until_seen(
            self.working_setpoint, lambda now: abs(now - start) < 0.05, "the working setpoint does not follow"
        )

    async def _let_step(self) -> None:
        """Have the working setpoint follow at once."""
        await self._set_word(codec.RATE_DISABLE, 1)

    async def _let_ramp(self) -> None:
        """Have it follow at the ramp rate."""
        await self._set_word(codec.RATE_DISABLE, 0)

    async def _hold(self) -> None:
        limits = self.setpoint.limits
        await self.setpoint.put(min(max(await self.temperature.get(), limits.low), limits.high))

    def _check_rate(self, rate: float) -> None:
        """Raise `LimitError` unless the instrument can ramp at just this rate."""
        self.ramp_rate.check(rate)
        address = self.ramp_rate.at
        assert isinstance(address, Register)
        address.encode(self, rate)

    async def _until_seen(self, signal: SignalR[float], seen: Callable[[float], bool], what: str) -> None:
        """Read `signal` until `seen`, for a few control cycles; raise `Refused` saying `what`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.PATIENCE
        while not seen(value := await signal.get()):
            if loop.time() > deadline:
                raise Refused(
                    self.name,
                    f"{what} within {self.PATIENCE:g} s ({signal.name} is {value:g} {signal.unit}); "
                    "check its output limits and setpoint source, switch it off by hand if in doubt",
                )
            await asyncio.sleep(codec.CYCLE / 2)

    async def _word(self, number: int) -> int:
        exchange = await registers.ask(self, modbus.read("registers", registers.unit_of(self), number, 1))
        return modbus.words(exchange.reply)[0]

    async def _set_word(self, number: int, word: int) -> None:
        # The reply echoes the word (APP 6.6).
        exchange = await registers.command(self, modbus.write_register(registers.unit_of(self), number, word))
        if (echo := exchange.reply[-2:]) != word.to_bytes(2, "big"):
            raise Refused(self.name, f"register {number} was set to {word} and became {echo.hex()}; check its limits")


AGE_3216 = codec.CYCLE_3216 + 0.01  # s


class Eurotherm3216(Eurotherm3504):
    """A 3216 (or 3208, 3204, 32h8), the smaller controller: one loop, ramped by its setpoint rate.

    Its target setpoint too is kept in a memory good for 100,000 writes (HA028651).
    """

    model = "3216"
    emulator = "devices.eurotherm_3504.emulator:Eurotherm3216Emulator"
    verified = (
        "register numbers by HA028651 and open drivers; never on a real 3216: "
        "identifier, highest rate, control cycle (see codec)"
    )

    temperature = SignalR(
        float, "degC", at=Register(codec.PV, float32=True, block=LOOP), kind=Kind.HINTED,
        poll=0.2, max_age=AGE_3216, noise=Noise(absolute=0.5),
    )  # fmt: skip
    output = SignalR(float, "%", at=Register(codec.OUTPUT, float32=True, block=LOOP), poll=0.2, max_age=AGE_3216)
    working_setpoint = SignalR(
        float, "degC", at=Register(codec.WORKING_SETPOINT, float32=True, block=LOOP), poll=0.2, max_age=AGE_3216
    )
    ramp_rate = SignalRW(
        float, "K/s",
        at=Register(codec.RATE, scale=codec.PER_MINUTE, float32=True, step=codec.RATE_STEP, verify=True),
        limits=(codec.RATE_MIN * codec.PER_MINUTE, codec.RATE_MAX_3216 * codec.PER_MINUTE),
    )  # fmt: skip

    async def identify(self) -> str:
        try:
            found = codec.model(await self._word(codec.IDENTIFIER))
            version = await self._word(codec.VERSION)
        except Refused as error:
            raise WrongInstrument(
                self.name, f"expected a {self.vendor} 3200, found something else ({error}); {_CHECK}"
            ) from None
        if not found.startswith("32"):
            raise WrongInstrument(self.name, f"expected a {self.vendor} 3200, found '{found}'; {_CHECK}")
        return f"{self.vendor} {found} V{version:04X}"

    async def _ramp(self, to: float, rate: float) -> None:
        for number, what in (
            (codec.RATE_UNIT, "its setpoint rate is not per minute; set its ramp units to minutes"),
            (codec.LOCAL, "its setpoint comes from elsewhere (remote); choose the local one"),
            (codec.MODE, "it is in standby or being configured; bring it back to operation"),
        ):
            if value := await self._word(number):
                raise Refused(self.name, f"{what} at its keys (parameter {number} is {value})")
        await super()._ramp(to, rate)

    async def _let_step(self) -> None:
        await self._set_word(codec.RATE, 0)  # off

    async def _let_ramp(self) -> None:
        """The rate has been set: that is all it takes."""


_CHECK = "check `link`, `unit` and `driver` in the lab file"
