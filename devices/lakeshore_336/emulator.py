"""An emulated Lake Shore 336: thermometers in the holder, and a heater on the chip if it is switched on.

Inputs are read ten times a second, each reading the mean of that span plus noise. While both heater
ranges are off it leaves the world's heater alone: another controller may have it. Simplified: autotuning
takes its time and leaves P, I and D as they are; curves and warm-up supplies only answer.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean

from devices.physics import AMBIENT, FULL_POWER, World
from hal.protocols.framing import AnyLines, Framing
from hal.protocols.scpi import Entry, Interpreter
from hal.protocols.scpi_parameters import Numeric, ScpiError
from hal.units import convert

from . import codec
from .settings import FLAG, INPUTS, AnyPlace, Output, Place, Store, whole

NOISE = 5e-3  # K, one sigma
SHARE = {0: 0.0, 1: 0.01, 2: 0.1, 3: 1.0}
"""Of full power, by range: a factor of ten in power from one to the next (data sheet)."""
TUNING = 60.0  # s that autotuning takes, unverified


@dataclass
class Input:
    """One sensor."""

    name: str
    source: str = ""
    """Attribute of the world it measures, degC; none: nothing is connected."""
    kelvin: float = 0.0
    """The latest reading, by which the loop controls, filter or not (M370, 4.11.2.5)."""
    seen: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    """Readings that a filter averages."""
    total: float = 0.0
    count: int = 0
    kind: list[float] = field(default_factory=lambda: [1, 0, 1, 0, codec.KELVIN])
    extremes: tuple[float, float] | None = None
    alarms: list[int] = field(default_factory=lambda: [0, 0])
    """High and low."""

    @property
    def status(self) -> int:
        return 0 if self.source and self.kind[0] else 1

    @property
    def filtered(self) -> float:
        """What is told."""
        return fmean(self.seen) if self.seen else self.kelvin

    def smooth(self, on: float, points: float, window: float) -> None:
        """Take the latest reading into the running average (M330, ``FILT``); a jump by more than the window, % of what
        was shown (D has it; of what: unverified), begins it anew."""
        if not on or abs(self.kelvin - self.filtered) > window / 100 * self.filtered:
            self.seen.clear()
        if on:
            self.seen.append(self.kelvin)
            while len(self.seen) > points:
                self.seen.popleft()


@dataclass
class Loop:
    """One output and its control loop."""

    mode: int = 1
    input: int = 1
    power_up: int = 0
    range: int = 0
    ramping: bool = False
    rate: float = 10.0  # K/min
    goal: float = 298.15
    setpoint: float = 298.15
    percent: float = 0.0
    integral: float = 0.0
    before: float = 0.0


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
        self.inputs = {name: Input(name, sources.get(name, "")) for name in INPUTS}
        self.outputs: dict[int, Loop] = {}
        self.store = Store()
        self._since = 0.0
        self._events = self._enable = 0
        self._tuning: tuple[int, float] | None = None
        self._tuning_failed = 0
        self._interpreter = Interpreter(
            f"{codec.IDENTITY},LSA1234/#######,2.9", list(self._table()), on_reset=self._restart, scpi=False,
            summary=lambda: codec.OPERATION if self._events & self._enable else 0,
        )  # fmt: skip
        self._default()
        for output in self.outputs:
            self.store.of("PID", output)[:] = pid
        for sensor in self.inputs.values():
            sensor.kind[4] = codec.CELSIUS if celsius else codec.KELVIN
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
        self._events |= codec.NEW_READING
        if self._tuning is not None:
            self._tune(period)
        for number, output in self.outputs.items():
            self._control(number, output, period)
        self._heat()

    # ------------------------------------------------------------------ physics

    def _read_sensor(self, sensor: Input) -> None:
        if not sensor.source:
            return
        true = sensor.total / sensor.count if sensor.count else getattr(self.world, sensor.source)
        sensor.total, sensor.count = 0.0, 0
        sensor.kelvin = max(0.0, convert(true, "degC", "K") + self._random.gauss(0, NOISE))
        sensor.smooth(*self.store.of("FILTER", sensor.name))
        if sensor.status:
            return
        (limit,) = self.store.of("TLIMIT", sensor.name)
        if limit and sensor.kelvin > limit:
            self._all_off()
        low, high = sensor.extremes or (self._shown(sensor),) * 2
        sensor.extremes = min(low, self._shown(sensor)), max(high, self._shown(sensor))
        self._alarm(sensor)

    def _alarm(self, sensor: Input) -> None:
        """Alarms rise beyond their values and, unless latched, fall within the deadband (M331 ``ALARM``)."""
        on, high, low, deadband, latched = self.store.of("ALARM", sensor.name)[:5]
        value = self._shown(sensor)
        rise = [value > high, value < low]
        stay = [bool(latched) or value > high - deadband, bool(latched) or value < low + deadband]
        sensor.alarms = [
            int(bool(on) and (r or (bool(a) and s))) for a, r, s in zip(sensor.alarms, rise, stay, strict=True)
        ]
        self._events |= codec.ALARM if any(sensor.alarms) else 0

    def _tune(self, period: float) -> None:
        assert self._tuning is not None
        output, left = self._tuning
        if left > period and self.outputs[output].range:
            self._tuning = output, left - period
            return
        self._tuning, self._tuning_failed = None, int(not self.outputs[output].range)
        self._events |= codec.TUNED

    def _control(self, number: int, output: Loop, period: float) -> None:
        """One step of setpoint ramp and loop: percent = P (e + I/1000 sum(e) + D de/dt), M340 chapter 2."""
        step = output.rate / 60 * period
        far = output.goal - output.setpoint
        output.setpoint += far if not output.ramping or not output.rate else max(-step, min(step, far))
        if far and output.setpoint == output.goal and output.ramping:
            self._events |= codec.RAMPED.get(number, 0)
        p, i, d, manual = *self.store.of("PID", number), *self.store.of("MOUT", number)
        if output.mode == codec.ZONE and number in (1, 2):
            p, i, d, manual = self._zone(number, output) or (p, i, d, manual)
        sensor = self._sensor(output)
        if output.mode == codec.MONITOR:
            output.percent = self._monitor(number, output)
        elif output.range == 0 or sensor is None or sensor.status:
            output.percent, output.integral = 0.0, 0.0
        elif output.mode == codec.OPEN_LOOP:
            output.percent = manual
        elif output.mode in codec.CLOSED_LOOPS:
            error = output.setpoint - sensor.kelvin
            # Manual output is added in closed loop too (unverified for the 336).
            wanted = manual + p * (
                error + i / 1000 * (output.integral + error * period) + d / 100 * (error - output.before) / period
            )
            if 0 < wanted < 100:
                output.integral += error * period  # not while the output is at its end: it would run away
            output.percent, output.before = max(0.0, min(100.0, wanted)), error
        else:
            output.percent = 0.0

    def _zone(self, number: int, output: Loop) -> tuple[float, float, float, float] | None:
        """P, I, D and manual output of the first zone that holds the setpoint; its other settings come into force."""
        for zone in range(1, 11):
            bound, p, i, d, manual, extent, source, rate = self.store.of("ZONE", (number, zone))
            if bound and output.setpoint <= bound:
                output.range = int(extent) if output.range else 0
                output.rate, output.input = rate, int(source) or output.input
                return p, i, d, manual
        return None

    def _monitor(self, number: int, output: Loop) -> float:
        """Percent of an output that follows a reading (D: ``ANALOG``)."""
        source, units, high, low, bipolar = self.store.of("ANALOG", number)
        sensor = self._sensor(output) or (self.inputs[INPUTS[int(source) - 1]] if 1 <= source <= len(INPUTS) else None)
        if sensor is None or high == low:
            return 0.0
        share = float((self._in(sensor, units) - low) / (high - low))
        return max(-100.0, min(100.0, (2 * share - 1 if bipolar else max(0.0, share)) * 100))

    def _heat(self) -> None:
        self.world.heaters[self] = sum(
            SHARE[o.range] * o.percent / 100 * FULL_POWER for o in (self.outputs[1], self.outputs[2])
        )

    def _all_off(self) -> None:
        for output in self.outputs.values():
            output.range = 0

    # ------------------------------------------------------------------ commands

    def _table(self) -> Iterator[Entry]:
        name, names, any_output, heater = Place(), AnyPlace(), Output(), Output(2)
        readings: dict[str, Callable[[Input], str]] = {
            "KRDG": lambda s: codec.number(0.0 if s.status else s.filtered),
            "CRDG": lambda s: codec.number(self._in(s, codec.CELSIUS)),
            "SRDG": lambda s: codec.number(self._in(s, codec.SENSOR)),
            "RDGST": lambda s: f"{s.status:03d}",
        }
        for header, show in readings.items():
            yield Entry(
                header, asks=(names,), asks_at_least=1,
                read=lambda i, show=show: ",".join(show(s) for s in self.inputs.values() if i in ("", s.name)),
            )  # fmt: skip
        yield Entry(
            "INTYPE", lambda i, *given: setattr(self.inputs[i], "kind", list(given)),
            lambda i: ",".join(f"{x:g}" for x in self.inputs[i].kind),
            (name, whole(0, 5), FLAG, whole(0, 8), FLAG, whole(1, 3)), (name,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "MDAT", read=lambda i: ",".join(map(codec.number, self.inputs[i].extremes or (0.0, 0.0))), asks=(name,),
            asks_at_least=1,
        )  # fmt: skip
        yield Entry("MNMXRST", write=self._forget_extremes)
        yield Entry("ALARMST", read=lambda i: "{},{}".format(*self.inputs[i].alarms), asks=(name,), asks_at_least=1)
        yield Entry("ALMRST", write=self._reset_alarms)
        yield Entry("RELAYST", read=self._relay, asks=(whole(1, 2),), asks_at_least=1)
        yield from self._of_outputs(any_output, heater)
        yield from self.store.table()
        yield Entry("TEMP", read=lambda: codec.number(convert(AMBIENT, "degC", "K")))
        yield Entry("NETID", read=lambda: "1," + ",".join(map(str, self.store.of("NET")[2:9])) + ",00:1F:B9:00:00:01")
        yield Entry("OPST", read=lambda: str(self._condition()))
        yield Entry("OPSTR", read=self._read_events)
        yield Entry(
            "OPSTE", lambda x: setattr(self, "_enable", int(x)), lambda: str(self._enable), (whole(0, 255),)
        )  # fmt: skip
        yield Entry("DFLT", lambda _: self._default(), takes=(whole(99, 99),))

    def _of_outputs(self, any_output: Output, heater: Output) -> Iterator[Entry]:
        def of(o: float) -> Loop:
            return self.outputs[int(o)]

        yield Entry(
            "OUTMODE", self._set_mode, lambda o: f"{of(o).mode},{of(o).input},{of(o).power_up}",
            (any_output, whole(0, 5), whole(0, 8), FLAG), (any_output,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "RANGE", self._set_range, lambda o: str(of(o).range), (any_output, whole(0, 3)), (any_output,),
            asks_at_least=1,
        )  # fmt: skip
        yield Entry("HTR", read=lambda o: f"{of(o).percent:+06.1f}", asks=(heater,), asks_at_least=1)
        yield Entry("AOUT", read=lambda o: f"{of(o).percent:+06.1f}", asks=(any_output,), asks_at_least=1)
        yield Entry("HTRST", read=lambda o: "0", asks=(any_output,), asks_at_least=1)
        yield Entry(
            "SETP", self._set_setpoint, lambda o: codec.number(self._shown_setpoint(of(o))),
            (any_output, Numeric()), (any_output,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "RAMP", self._set_ramp, lambda o: f"{of(o).ramping:d},{of(o).rate:+06.1f}",
            (any_output, FLAG, Numeric(0, codec.RATES[1])), (any_output,), asks_at_least=1,
        )  # fmt: skip
        yield Entry(
            "RAMPST", read=lambda o: str(int(of(o).ramping and of(o).setpoint != of(o).goal)),
            asks=(any_output,), asks_at_least=1,
        )  # fmt: skip
        yield Entry("ATUNE", self._start_tuning, takes=(any_output, whole(0, 2)))
        yield Entry("TUNEST", read=self._tuning_status)

    def _sensor(self, output: Loop) -> Input | None:
        """What a loop follows; none, or one of an option card that is not there."""
        return self.inputs[INPUTS[output.input - 1]] if 1 <= output.input <= len(INPUTS) else None

    def _in(self, sensor: Input, units: float) -> float:
        """A reading in kelvin, Celsius or sensor units (a silicon diode's voltage, near enough)."""
        if sensor.status:
            return 0.0
        if units == codec.CELSIUS:
            return float(convert(sensor.filtered, "K", "degC"))
        if units == codec.KELVIN:
            return sensor.filtered
        return max(0.0, 1.2 - 2.3e-3 * sensor.filtered)

    def _shown(self, sensor: Input) -> float:
        return self._in(sensor, sensor.kind[4])

    def _is_celsius(self, output: Loop) -> bool:
        sensor = self._sensor(output)
        return sensor is not None and sensor.kind[4] == codec.CELSIUS

    def _set_setpoint(self, number: float, value: float) -> None:
        output = self.outputs[int(number)]
        output.goal = convert(value, "degC", "K") if self._is_celsius(output) else value
        if not output.ramping or not output.rate:
            output.setpoint = output.goal

    def _shown_setpoint(self, output: Loop) -> float:
        return convert(output.setpoint, "K", "degC") if self._is_celsius(output) else output.setpoint

    def _set_ramp(self, number: float, on: float, rate: float) -> None:
        output = self.outputs[int(number)]
        output.ramping, output.rate = bool(on), round(rate, 1)

    def _set_range(self, number: float, value: float) -> None:
        if number > 2 and value > 1:  # D: outputs 3 and 4 are only on or off
            raise ScpiError(-222)
        self.outputs[int(number)].range = int(value)

    def _set_mode(self, number: float, mode: float, source: float, power_up: float) -> None:
        output = self.outputs[int(number)]
        output.mode, output.input, output.power_up = int(mode), int(source), int(power_up)

    def _start_tuning(self, number: float, _mode: float) -> None:
        output = self.outputs[int(number)]
        ready = output.mode in codec.CLOSED_LOOPS and output.range > 0
        self._tuning, self._tuning_failed = (int(number), TUNING) if ready else None, int(not ready)

    def _tuning_status(self) -> str:
        """D: whether it tunes, which output, whether it failed, and at which stage."""
        return f"{self._tuning is not None:d},{self._tuning[0] if self._tuning else 0},{self._tuning_failed},00"

    def _relay(self, number: float) -> str:
        mode, source, kind = self.store.of("RELAY", int(number))
        high, low = self.inputs[source].alarms
        return str(int(mode == 1 or (mode == 2 and bool((low, high, low or high)[int(kind)]))))

    def _forget_extremes(self) -> None:
        for sensor in self.inputs.values():
            sensor.extremes = None

    def _reset_alarms(self) -> None:
        for sensor in self.inputs.values():
            sensor.alarms = [0, 0]

    def _condition(self) -> int:
        alarm = codec.ALARM if any(any(sensor.alarms) for sensor in self.inputs.values()) else 0
        done = sum(
            bit for n, bit in codec.RAMPED.items() if self.outputs[n].ramping
            and self.outputs[n].setpoint == self.outputs[n].goal
        )  # fmt: skip
        return alarm | done | (codec.NEW_READING if self._since < 0.05 else 0)

    def _read_events(self) -> str:
        events, self._events = self._events, 0
        return str(events)

    def _default(self) -> None:
        """``DFLT 99``: as delivered."""
        self.outputs |= {1: Loop(), 2: Loop(input=2), 3: Loop(mode=0, input=0), 4: Loop(mode=0, input=0)}
        self.store.reset()
        self._forget_extremes()
        self._reset_alarms()

    def _restart(self) -> None:
        """``*RST``: as after switching on. Outputs that are not to stay on go off."""
        for output in self.outputs.values():
            output.range = output.range if output.power_up else 0
