"""DENSsolutions Impulse: the chip's heater, and the biasing of what lies on it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any, Literal

from devices.source_meter import Mode, SourceMeterUnit
from hal.errors import ConfigError, HalError, LimitError, Refused, UnitError
from hal.instrument.address import Soft
from hal.model.capabilities import Heater, Thermometer
from hal.model.reading import Answer, Noise, Quality, Sample
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.units import unit

from . import codec
from .impulse import AGE, Impulse, Property

COLDEST, HOTTEST = (
    20.0,
    1300.0,
)  # degC: of the vendor's heating chips; Impulse itself refuses what the mounted one can't
NEAR = 1.0
"""K within which a ramp has reached its end."""
OTHER = {"voltage": "current", "current": "voltage", "": ""}
"""What the compliance limits."""
PATIENCE = 10.0
"""Seconds beyond its time within which an action must be over."""


class Biased(dict[str, Any]):
    """A sample of the bias channel, as a source-meter's measurement."""

    voltage: Sample[float]
    current: Sample[float]
    output = True
    limited = False


class DensImpulse(Impulse, SourceMeterUnit):
    """Heats and, where the experiment in Impulse has a bias channel, biases.

    Impulse has no switch for the heater: off is a setpoint of `safe_temperature`, at which no power is needed. It
    biases either voltage or current, as its experiment was set up, so it is no SourceMeter, though used like one.
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """What a lab file may say of Impulse."""

        data_port: int = codec.DATA_PORT
        """Where it publishes what it measures; the link is the control port (5557)."""
        safe_temperature: float = 25.0
        """The setpoint that stands for an output switched off, degC."""
        profiles: bool = False
        """Allow profiles of Impulse's own. The limits of the lab file do not hold for what is in them."""

    model = "Impulse"
    provides = (Heater, Thermometer)
    topic, topics = "heat", ("heat", "bias")
    advice = "see what Impulse's window says"
    verified = (
        "the vendor's client impulsePy 3.1.0 against the emulator; never on a real one. Unverified: how its setpoint "
        "moves, codes and status but the usual, units but those it tells, noise"
    )
    options: Options

    temperature = SignalR(
        float, "degC", at=Property("heat", "temperatureMeasured"), kind=Kind.HINTED, poll=0.2, max_age=AGE,
        noise=Noise(absolute=0.01),  # unverified, as all noise here
    )  # fmt: skip
    setpoint = SignalRW(
        float, "degC", at=Property("heat", "temperatureSetpoint", "write_setpoint"), limits=(COLDEST, HOTTEST),
        of="temperature", supersedes=True, poll=1.0, max_age=AGE, doc="Set, it goes there at the ramp rate.",
    )  # fmt: skip
    ramp_rate = SignalRW(
        float, "K/s", at=Soft(10.0), limits=(1e-3, 1e3), doc="Impulse is told how long a ramp takes, by this rate."
    )
    power = SignalR(float, "W", at=Property("heat", "powerMeasured"), poll=0.5, max_age=AGE)

    voltage = SignalR(float, "V", at=Property("bias", "voltageMeasured"), poll=0.5, max_age=AGE, noise=Noise(1e-6))
    current = SignalR(
        float, "A", at=Property("bias", "currentMeasured"), poll=0.5, max_age=AGE, noise=Noise(1e-11, 1e-5)
    )
    resistance = SignalR(float, "Ohm", at=Property("bias", "resistance"), poll=0.5, max_age=AGE)
    # The widest of the source-meters Impulse drives; it refuses what the mounted chip can't. Unverified.
    voltage_level = SignalRW(
        float, "V", at=Property("bias", "voltage setpoint", "write_level"), limits=(-200, 200), of="voltage",
        supersedes=True, max_age=AGE,
    )  # fmt: skip
    current_level = SignalRW(
        float, "A", at=Property("bias", "current setpoint", "write_level"), limits=(-1, 1), of="current",
        supersedes=True, max_age=AGE,
    )  # fmt: skip
    current_limit = SignalRW(
        float, "A", at=Property("bias", "current compliance", "write_limit"), limits=(1e-9, 1), max_age=AGE,
        doc="Compliance of a voltage.",
    )  # fmt: skip
    voltage_limit = SignalRW(
        float, "V", at=Property("bias", "voltage compliance", "write_limit"), limits=(1e-3, 200), max_age=AGE,
        doc="Compliance of a current.",
    )  # fmt: skip

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.biases: Mode | Literal[""] = ""
        """What the experiment in Impulse biases, if anything."""
        self._off_at = self.options.safe_temperature
        if not COLDEST <= self._off_at <= 50.0:
            raise ConfigError(f"{self.name}: safe_temperature = {self._off_at:g}: give one from {COLDEST:g} to 50 degC")

    # ------------------------------------------------------------------ heating

    def ramp(self, to: float, rate: float) -> Status[None]:
        """Go to `to` (degC) at `rate` (K/s); ended early, it holds. Raises `LimitError`."""
        self.setpoint.check(to)
        self.ramp_rate.check(rate)
        return self.start(f"ramp to {to:g} degC at {rate:g} K/s", self._ramp(to, rate), on_cancel=self._hold)

    def hold(self) -> Status[None]:
        """Stay at the present temperature."""
        return self.start("hold", self._hold())

    def off(self) -> Status[None]:
        """Setpoint to the safe temperature, at once: it cools by itself. A bias stays."""
        return self.start("off", self._heat_off())

    async def make_safe(self) -> None:
        errors: list[HalError] = []
        # All orders first, then a look at what came of them; whatever keeps one from being done, the others are.
        for part in (self._stop_heat, self._cool, self._stop_bias, self._unbias, self._cooled, self._unbiased):
            try:
                await part()
            except HalError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    async def write_setpoint(self, to: float) -> None:
        """Go there at the ramp rate; does not wait."""
        await self._heat(to, await self._rate())

    # ------------------------------------------------------------------ biasing

    def sweep_cycle(
        self, baseline: float, amplitude: float, kind: str, rate: float, cycles: int, compliance: float
    ) -> Status[None]:
        """Have Impulse sweep from `baseline` by `amplitude` (V or A, as it biases) and back at `rate` (per s).

        `kind` is Impulse's sweepCycleType; how far each kind goes is unverified, so both signs of `amplitude` must be
        within the limits. Done when Impulse says so; ended early, it stops. Raises `LimitError`.
        """
        mode = self._mode()
        self.check_all(mode, [baseline, baseline + amplitude, baseline - amplitude], compliance)
        if not (0 < rate < math.inf and amplitude and cycles >= 1):
            raise LimitError(f"{self.name}: a sweep needs an amplitude, a rate above 0 and a cycle; nothing was sent.")
        return self.start(
            f"{cycles} sweep cycles", self._sweep_cycle(baseline, amplitude, kind, rate, cycles, compliance),
            on_cancel=lambda: self.stop_action("bias"),
        )  # fmt: skip

    def bias_off(self) -> Status[None]:
        """Bias to zero; the heater stays as it is."""
        return self.start("bias off", self._bias_to_zero())

    async def write_level(self, level: float) -> None:
        """Change what is biased, within the compliance it has."""
        mode = self._mode()
        answer = await self.sample("bias")
        compliance = self.value(f"{'current' if mode == 'voltage' else 'voltage'} compliance", answer.payload).value
        if not compliance:
            raise Refused(self.name, "it has no compliance yet; use source() and give one")
        await self.begin(mode, level, compliance)

    async def write_limit(self, compliance: float) -> None:
        """Change the compliance of what is biased."""
        mode = self._mode()
        level = self.value(f"{mode} setpoint", (await self.sample("bias")).payload).value
        await self.begin(mode, level or 0.0, compliance)

    async def begin(self, mode: Mode, level: float, compliance: float) -> None:
        if mode != self._mode():
            raise Refused(
                self.name,
                f"the experiment in Impulse biases {self.biases}, not {mode}; choose there what it shall bias",
            )
        await self.order(
            "bias.applyConstantBias",
            setpoint=level / self.factor("setpoint"),
            compliance=compliance / self.factor("compliance"),
        )
        self.impulse.forget("bias")
        await self._took(mode, level)

    async def step(self, mode: Mode, level: float) -> None:
        await self.write_level(level)

    async def measure(self) -> Answer:
        self.impulse.forget("bias")  # not what was measured before the last change
        answer = await self.sample("bias")
        found = Biased(answer.payload)
        found.voltage, found.current = (self.value(f"{what}Measured", found) for what in ("voltage", "current"))
        reached = found.current if self.biases == "voltage" else found.voltage
        most = self.value("compliance", found).value
        found.limited = reached.value is not None and most is not None and abs(reached.value) >= 0.999 * most
        return Answer(found, answer.sent, answer.received)

    async def look_for_errors(self, during: str) -> None:
        """Each order was answered for itself."""

    # ------------------------------------------------------------------ profiles

    def profile(self, path: str, action: str = "start") -> Status[None]:
        """Load a profile that was made in Impulse and have it started. Its values are not held against our limits.

        The names of actions other than "start" are unverified.
        """
        if not self.options.profiles:
            raise LimitError(
                f"{self.name}: what is in a profile is not held against the limits; if that is meant, say "
                "`profiles = true` in the lab file. Nothing was sent."
            )
        return self.start(f"profile {path}", self._profile(path, action), on_cancel=self._hold)

    # ------------------------------------------------------------------ for Impulse

    def unit_of(self, name: str, theirs: str) -> str:
        if name not in ("setpoint", "compliance"):
            return ""
        try:
            ours = "V" if unit(theirs).dimension == "voltage" else "A"
        except UnitError:
            ours = "A"
        if name == "setpoint":
            self.biases = "voltage" if ours == "V" else "current"
        return ours

    def value(self, name: str, found: dict[str, Any]) -> Sample[float]:
        what, _, of_bias = name.rpartition(" ")
        biased = self.biases if of_bias == "setpoint" else OTHER[self.biases]
        if what and what != biased:
            return Sample(None, Quality.BAD, f"Impulse biases {self.biases or 'nothing'}")
        return super().value(of_bias, found)

    async def sample(self, topic: str) -> Answer:
        if topic not in self.properties:
            now = self.context.timebase.now()
            return Answer({}, now, now)
        return await super().sample(topic)

    async def connected(self) -> None:
        self.biases = ""
        await super().connected()

    # ------------------------------------------------------------------ private

    async def _rate(self) -> float:
        """K/s, and never more than the limits allow by now."""
        return min(await self.ramp_rate.get(), self.ramp_rate.limits.high)

    async def _heat(self, to: float, rate: float) -> float:
        """Start a ramp; return how long it takes, s."""
        seconds = abs(to - await self.temperature.get()) / rate
        await self.begin_action("heat", "heat.startRamp", temperature=round(to, 6), rampTime=round(seconds, 3))
        return seconds

    async def _ramp(self, to: float, rate: float) -> None:
        loop = asyncio.get_running_loop()
        await self.ramp_rate.put(rate)
        end = await self._heat(to, rate) + loop.time()
        over = self.over["heat"]

        def reached(here: float) -> bool:
            # That it is over is told once, and perhaps while the link was lost.
            return abs(here - to) <= NEAR and (over.is_set() or loop.time() > end + 2 * AGE)

        async for reading in self.until(self.temperature, reached):
            now = loop.time()
            if (over.is_set() and now < end - 2 * AGE) or now > end + PATIENCE:
                how = "was ended in Impulse" if over.is_set() else "is not over"
                raise Refused(self.name, f"the ramp to {to:g} degC {how} at {reading.value:g} degC; {self.advice}")

    async def _hold(self) -> None:
        await self.stop_action("heat")
        here = min(max(await self.temperature.get(), COLDEST), self.setpoint.limits.high)
        await self.begin_action("heat", "heat.startRamp", temperature=round(here, 3), rampTime=0)

    async def _heat_off(self) -> None:
        await self._stop_heat()
        await self._cool()
        await self._cooled()

    async def _stop_heat(self) -> None:
        await self.stop_action("heat")

    async def _cool(self) -> None:
        await self.order("heat.startRamp", idempotent=True, temperature=self._off_at, rampTime=0)
        self.impulse.forget("heat")

    async def _cooled(self) -> None:
        for _ in range(2):  # as in `_took`
            took = (await self.setpoint.read()).value
            if took is not None and took <= self._off_at + NEAR:
                return
            self.impulse.forget("heat")
        raise Refused(self.name, f"asked to cool, its setpoint is {took} degC; stop the experiment in Impulse")

    async def _bias_to_zero(self) -> None:
        await self._stop_bias()
        await self._unbias()
        await self._unbiased()

    async def _stop_bias(self) -> None:
        if self.biases:
            await self.stop_action("bias")

    async def _unbias(self) -> None:
        if self.biases:
            known = self.value("compliance", self.impulse.newest("bias")).value if self.impulse.newest("bias") else None
            await self.order("bias.applyConstantBias", idempotent=True, setpoint=0.0, compliance=known or 1e-3)
            self.impulse.forget("bias")

    async def _unbiased(self) -> None:
        if self.biases:
            await self._took(self.biases, 0.0)

    async def _took(self, mode: Mode, level: float) -> None:
        for _ in range(2):  # the first sample may have been under way before the order was
            took = self.value(f"{mode} setpoint", (await self.sample("bias")).payload).value
            if took is not None and math.isclose(took, level, rel_tol=1e-3, abs_tol=1e-9):
                return
            self.impulse.forget("bias")
        raise Refused(self.name, f"asked to bias {level:g}, its setpoint is {took}; {self.advice}")

    async def _sweep_cycle(
        self, baseline: float, amplitude: float, kind: str, rate: float, cycles: int, compliance: float
    ) -> None:
        per = self.factor("setpoint")
        await self.begin_action(
            "bias", "bias.startSweepCycle", baseline=baseline / per, amplitude=amplitude / per, sweepCycleType=kind,
            rate=rate / per, cycles=cycles, compliance=compliance / self.factor("compliance"),
        )  # fmt: skip
        # The longest kind we can think of goes to both signs and back.
        await self._wait_over("bias", 4 * cycles * abs(amplitude) / rate)

    async def _profile(self, path: str, action: str) -> None:
        await self.order("profileController.loadProfile", path=path)
        await self.order("profileController.controlProfile", action=action)

    async def _wait_over(self, topic: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds + PATIENCE):
                await self.over[topic].wait()
        except TimeoutError:
            raise Refused(self.name, f"what Impulse does is not over after {seconds:g} s; {self.advice}") from None

    def _mode(self) -> Mode:
        if not self.biases:
            raise Refused(self.name, "the experiment in Impulse has no bias channel; start one that has")
        return self.biases
