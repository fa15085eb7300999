"""An emulated Lake Shore 336: thermometers in the holder, and a heater on the chip if it is switched on.

Inputs are read ten times a second, each reading the mean of that span plus noise. While both heater
ranges are off it leaves the world's heater alone: another controller may have it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from devices.physics import FULL_POWER, World
from hal.protocols.framing import AnyLines, Framing
from hal.protocols.scpi import Choice, Entry, Interpreter, Numeric, Text
from hal.units import convert

from . import codec

INPUTS = ("A", "B", "C", "D")
NOISE = 5e-3  # K, one sigma
SHARE = {0: 0.0, 1: 0.01, 2: 0.1, 3: 1.0}
"""Of full power, by range: a factor of ten in power from one to the next (data sheet)."""


@dataclass
class Input:
    """One sensor."""

    name: str
    source: str = ""
    """Attribute of the world it measures, degC; none: nothing is connected."""
    kelvin: float = 0.0
    total: float = 0.0
    count: int = 0
    kind: list[float] = field(default_factory=lambda: [1, 0, 1, 0, codec.KELVIN])
    label: str = ""
    limit: float = 0.0
    """K; 0 is off. Beyond it all heaters go off."""

    @property
    def status(self) -> int:
        return 0 if self.source else 1


@dataclass
class Output:
    """One heater output and its loop."""

    mode: int = 1
    input: int = 1
    power_up: int = 0
    range: int = 0
    pid: tuple[float, float, float] = (50.0, 20.0, 0.0)
    manual: float = 0.0
    ramping: bool = False
    rate: float = 10.0  # K/min
    goal: float = 298.15
    """Where the setpoint is going, K."""
    setpoint: float = 298.15
    percent: float = 0.0
    integral: float = 0.0
    before: float = 0.0
    heater: list[float] = field(default_factory=lambda: [0, 1, 1, 0, 1])


class LakeShore336Emulator:
    """A 336. Settings: `inputs` (what each measures, by letter), `seed`, `celsius` (units of all inputs), `pid`."""

    def __init__(
        self, world: World, *, unit: object = None, channel: object = None,
        inputs: Mapping[str, str] | None = None, seed: int = 336, celsius: bool = False,
        pid: tuple[float, float, float] = (50.0, 20.0, 0.0),
    ) -> None:  # fmt: skip
        self.world = world
        self.reply_delay = 0.01
        self._random = random.Random(seed)
        sources = {"A": "body", "B": "temperature"} if inputs is None else inputs
        self.inputs = {name: Input(name, sources.get(name, ""), label=f"Input {name}") for name in INPUTS}
        self.outputs = {1: Output(), 2: Output(input=2), 3: Output(mode=0, input=0), 4: Output(mode=0, input=0)}
        for output in self.outputs.values():
            output.pid = pid
        if celsius:
            for sensor in self.inputs.values():
                sensor.kind[4] = codec.CELSIUS
        self._since = 0.0
        self._interpreter = Interpreter(f"{codec.IDENTITY},LSA1234/#######,2.9", list(self._table()), scpi=False)
        for sensor in self.inputs.values():
            self._read_sensor(sensor)

    # ------------------------------------------------------------------ the instrument's life

    def framing(self, scheme: str) -> Framing:
        return AnyLines(b"\r\n")

    def respond(self, message: bytes) -> bytes | None:
        return self._interpreter.respond(message)

    def advance(self, dt: float) -> None:
        for sensor in self.inputs.values():
            if sensor.source:
                sensor.total += getattr(self.world, sensor.source)
                sensor.count += 1
        self._since += dt
        if self._since < 1 / codec.UPDATES - 1e-9:
            return
        period, self._since = self._since, 0.0
        for sensor in self.inputs.values():
            self._read_sensor(sensor)
        for number in (1, 2):
            self._control(self.outputs[number], period)
        self._heat()

    # ------------------------------------------------------------------ physics

    def _read_sensor(self, sensor: Input) -> None:
        if not sensor.source:
            return
        true = sensor.total / sensor.count if sensor.count else getattr(self.world, sensor.source)
        sensor.total, sensor.count = 0.0, 0
        sensor.kelvin = max(0.0, convert(true, "degC", "K") + self._random.gauss(0, NOISE))
        if sensor.limit and sensor.kelvin > sensor.limit:
            for output in self.outputs.values():
                output.range = 0

    def _control(self, output: Output, period: float) -> None:
        """One step of setpoint ramp and loop: percent = P (e + I/1000 sum(e) + D de/dt), M340 chapter 2."""
        step = output.rate / 60 * period
        far = output.goal - output.setpoint
        output.setpoint += far if not output.ramping or not output.rate else max(-step, min(step, far))
        sensor = self.inputs[INPUTS[output.input - 1]] if output.input else None
        if output.range == 0 or sensor is None or sensor.status:
            output.percent, output.integral = 0.0, 0.0
        elif output.mode == 3:
            output.percent = output.manual
        elif output.mode in codec.CLOSED_LOOPS:
            p, i, d = output.pid
            error = output.setpoint - sensor.kelvin
            wanted = p * (
                error + i / 1000 * (output.integral + error * period) + d / 100 * (error - output.before) / period
            )
            if 0 < wanted < 100:
                output.integral += error * period  # not while the output is at its end: it would run away
            output.percent, output.before = max(0.0, min(100.0, wanted)), error

    def _heat(self) -> None:
        self.world.heaters[self] = sum(
            SHARE[o.range] * o.percent / 100 * FULL_POWER for o in (self.outputs[1], self.outputs[2])
        )

    # ------------------------------------------------------------------ commands

    def _table(self) -> Iterator[Entry]:
        name, any_output, heater = Choice(INPUTS), Numeric(1, 4, whole=True), Numeric(1, 2, whole=True)
        number, flag = Numeric(form="{:+08.3f}"), Numeric(0, 1, whole=True)

        def whole(low: float, high: float) -> Numeric:
            return Numeric(low, high, whole=True)

        def of(o: float) -> Output:
            return self.outputs[int(o)]

        yield Entry("KRDG", read=lambda i: codec.number(self.inputs[i].kelvin), asks=(name,), asks_at_least=1)
        yield Entry("CRDG", read=lambda i: codec.number(self._celsius(i)), asks=(name,), asks_at_least=1)
        yield Entry("SRDG", read=lambda i: codec.number(self._sensor_units(i)), asks=(name,), asks_at_least=1)
        yield Entry("RDGST", read=lambda i: f"{self.inputs[i].status:03d}", asks=(name,), asks_at_least=1)
        yield Entry(
            "INNAME", lambda i, text: setattr(self.inputs[i], "label", text[:15]),
            lambda i: f"{self.inputs[i].label:<15}",
            (name, Text(bare=True)), (name,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "TLIMIT", lambda i, k: setattr(self.inputs[i], "limit", k), lambda i: codec.number(self.inputs[i].limit),
            (name, Numeric(0, 10000)), (name,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "INTYPE", lambda i, *given: setattr(self.inputs[i], "kind", list(given)),
            lambda i: ",".join(f"{x:g}" for x in self.inputs[i].kind),
            (name, whole(0, 4), flag, whole(0, 8), flag, whole(1, 3)), (name,), asks_at_least=1,
        )  # fmt: skip
        yield Entry("INCRV", read=lambda i: "02", asks=(name,), asks_at_least=1)
        yield Entry(
            "CRVHDR", read=lambda n: "DT-600 SERIES  ,STANDARD C,2,+475.000,1", asks=(whole(1, 59),), asks_at_least=1
        )
        yield Entry(
            "OUTMODE", self._set_mode, lambda o: f"{of(o).mode},{of(o).input},{of(o).power_up}",
            (any_output, whole(0, 5), whole(0, 4), flag), (any_output,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "PID", lambda o, p, i, d: setattr(of(o), "pid", (p, i, d)),
            lambda o: ",".join(f"{x:+07.1f}" for x in of(o).pid),
            (heater, Numeric(0.1, 1000), Numeric(0, 1000), Numeric(0, 200)), (heater,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "HTRSET", lambda o, *given: setattr(of(o), "heater", list(given)),
            lambda o: "{:g},{:g},{:g},{:+06.3f},{:g}".format(*of(o).heater),
            (heater, flag, whole(1, 2), whole(0, 4), Numeric(0, 2), whole(1, 2)), (heater,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "RANGE", lambda o, r: setattr(of(o), "range", int(r)), lambda o: str(of(o).range),
            (any_output, whole(0, 3)), (any_output,), asks_at_least=1,
        )  # fmt: skip
        yield Entry("HTR", read=lambda o: f"{of(o).percent:+06.1f}", asks=(heater,), asks_at_least=1)
        yield Entry("HTRST", read=lambda o: "0", asks=(heater,), asks_at_least=1)
        yield Entry(
            "MOUT", lambda o, x: setattr(of(o), "manual", x), lambda o: codec.number(of(o).manual),
            (any_output, Numeric(0, 100)), (any_output,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "SETP", self._set_setpoint, lambda o: codec.number(self._shown_setpoint(of(o))),
            (any_output, number), (any_output,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "RAMP", self._set_ramp, lambda o: f"{of(o).ramping:d},{of(o).rate:+06.1f}",
            (any_output, flag, Numeric(0, codec.RATES[1])), (any_output,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "RAMPST", read=lambda o: str(int(of(o).ramping and of(o).setpoint != of(o).goal)),
            asks=(any_output,), asks_at_least=1,
        )  # fmt: skip

    def _celsius(self, name: str) -> float:
        sensor = self.inputs[name]
        return convert(sensor.kelvin, "K", "degC") if sensor.source else 0.0

    def _sensor_units(self, name: str) -> float:
        """A silicon diode's voltage, near enough."""
        sensor = self.inputs[name]
        return max(0.0, 1.2 - 2.3e-3 * sensor.kelvin) if sensor.source else 0.0

    def _is_celsius(self, output: Output) -> bool:
        return bool(output.input) and self.inputs[INPUTS[output.input - 1]].kind[4] == codec.CELSIUS

    def _set_setpoint(self, number: float, value: float) -> None:
        output = self.outputs[int(number)]
        output.goal = convert(value, "degC", "K") if self._is_celsius(output) else value
        if not output.ramping or not output.rate:
            output.setpoint = output.goal

    def _shown_setpoint(self, output: Output) -> float:
        return convert(output.setpoint, "K", "degC") if self._is_celsius(output) else output.setpoint

    def _set_ramp(self, number: float, on: float, rate: float) -> None:
        output = self.outputs[int(number)]
        output.ramping, output.rate = bool(on), round(rate, 1)

    def _set_mode(self, number: float, mode: float, source: float, power_up: float) -> None:
        output = self.outputs[int(number)]
        output.mode, output.input, output.power_up = int(mode), int(source), int(power_up)
