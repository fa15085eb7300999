"""An emulated Impulse: the program with an experiment running, good enough for the vendor's own client.

It heats the world's chip, biases its contacts and lets gas into its cell, publishes samples and events, and refuses
with the codes that the client knows. What the client does not show (texts, order of checks, how a setpoint moves, the
state after a sweep) is a guess, marked so here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from devices.physics import AMBIENT, World
from devices.zmq_camera.asking import Answers
from devices.zmq_camera.outbox import Outbox
from hal.protocols import zmtp
from hal.protocols.framing import Framing

from . import codec
from .experiment import CONDUCTANCE, Experiment

BEGAN = datetime(2026, 1, 1, 9, 0)
"""What its clock says when it starts."""
PRECISION = {"degC": 6, "V": 15, "A": 18, "Ohm": 11, "mW": 3, "mbar": 7, "ml/min": 9, "s": 3}
"""Digits it tells of a property, by unit (impulsePy 1.0.0, decimalVals)."""


class Refusal(Exception):
    """Why a request is not done: the reply."""

    def __init__(self, code: str, message: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.reply = codec.reply(code, message, {"errors": errors} if errors else None)


class ImpulseEmulator:
    """Settings: `channels` of the experiment (heat, bias, gas, massSpec, liquid), what it `biases` (voltage or
    current), `status` ("control" takes orders), `per_second` (samples), `max_temperature` of the chip (degC),
    `max_voltage` (V), `max_current` (A), `max_pressure` (mbar), `system` (kind of gas supply), `seed`.
    """

    reply_delay = 0.005
    streaming = True

    def __init__(
        self,
        world: World,
        *,
        unit: object = None,
        channel: object = None,
        channels: tuple[str, ...] | list[str] = ("heat", "bias", "gas"),
        biases: Literal["voltage", "current"] = "voltage",
        status: str = codec.IN_CONTROL,
        per_second: float = 5.0,
        max_temperature: float = 1300.0,
        max_voltage: float = 100.0,
        max_current: float = 0.1,
        max_pressure: float = 1000.0,
        system: str = "gplus",
        seed: int = 5557,
    ) -> None:
        known = {"heat", "bias", "gas", "massSpec", "liquid"}
        if not set(channels) <= known:
            raise ValueError(f"channels are {', '.join(sorted(known))}; {', '.join(channels)!r} are given")
        self.world, self.channels, self.biases, self.status = world, tuple(channels), biases, status
        self.max_temperature, self.max_pressure, self.system = max_temperature, max_pressure, system
        self.max_voltage, self.max_current = max_voltage, max_current
        self.lived = 0.0
        self.profile = ""
        """Path of the profile that is loaded."""
        self._lab = Experiment(world, biases, seed)
        self._outbox = Outbox()
        self._period, self._next, self._sequence = 1.0 / per_second, 0.0, 0
        self._busy: set[str] = set()
        self._requests: dict[str, Callable[[dict[str, Any]], Mapping[str, Any] | None]] = {
            "impulse.getStatus": lambda _: {"status": self.status},
            "impulse.getAvailableDataChannels": lambda _: {"activeChannels": [*self.channels, codec.EVENTS]},
            "impulse.getAvailableProperties": lambda asked: {"properties": list(self._properties(asked))},
            "impulse.getPropertyInformation": self._about,
            "heat.startRamp": self._start_ramp,
            "heat.stopRamp": lambda _: self._stop("heat"),
            "bias.getConfiguration": lambda _: {"$type": f"configuration.bias.{self.biases}"},  # unverified
            "bias.applyConstantBias": self._apply_bias,
            "bias.startSweepCycle": self._start_sweep,
            "bias.stopSweepCycle": lambda _: self._stop("bias"),
            "gas.getConfiguration": lambda _: {
                "$type": f"configuration.gas.{self.system}"
            },  # all but its end unverified
            f"gas.{system}.inletOutletPressure.startRamp": self._start_pressures,
            f"gas.{system}.pressureFlow.startRamp": self._start_pressure_and_flow,
            "gas.stopRamp": lambda _: self._stop("gas"),
            "gas.evacuateHolder": self._evacuate,
            "gas.setBypass": self._nothing,
            "gas.setFlowCheck": self._nothing,
            "gas.flushReactor": self._nothing,
            f"gas.{system}.pressureFlow.initiateFlow": self._nothing,
            f"gas.{system}.pressureFlow.stopInitializingFlow": self._nothing,
            "liquid.setLine": self._nothing,
            "liquid.v2.setHumidity": self._nothing,
            **{f"liquid.v{n}.pressureFlow.apply": self._apply_liquid for n in (0, 1, 2)},
            **{f"liquid.v{n}.inletOutletPressure.apply": self._apply_liquid for n in (0, 1, 2)},
            "profileController.loadProfile": self._load_profile,
            "profileController.controlProfile": self._control_profile,
        }

    # ------------------------------------------------------------------ control port

    def framing(self, scheme: str) -> Framing:
        return Answers()

    def respond(self, message: bytes) -> bytes | None:
        if not message:
            return b""  # the handshake of ZeroMQ
        try:
            kind, asked = codec.parse_request(message)
        except ValueError as error:
            return codec.reply(codec.BAD_REQUEST, str(error))
        handler = self._requests.get(kind)
        if handler is None:
            return codec.reply(codec.BAD_REQUEST, f"unknown request control.{kind}")
        stimulus = kind.partition(".")[0]
        try:
            if stimulus != "impulse":
                if stimulus != "profileController" and stimulus not in self.channels:
                    raise Refusal(codec.INVALID_OPERATION, f"the experiment has no {stimulus}")
                if self.status != codec.IN_CONTROL and not kind.endswith("getConfiguration"):
                    raise Refusal(codec.INVALID_OPERATION, f"Impulse is not in control but in {self.status}")
            return codec.reply(codec.OK, data=handler(asked))
        except Refusal as refusal:
            return refusal.reply

    # ------------------------------------------------------------------ data port

    def greet(self) -> bytes:
        """What whoever connects to the data port gets first."""
        self._outbox.greet(self.lived)
        return zmtp.hello("PUB")

    def stream(self) -> list[bytes]:
        """What is to be published by now."""
        return self._outbox.take(self.lived)

    # ------------------------------------------------------------------ life

    def advance(self, dt: float) -> None:
        self.lived += dt
        self._lab.advance(dt)
        while self._lab.finished:
            self._over(self._lab.finished.pop(0))
        if self.lived >= self._next:
            self._next = max(self._next + self._period, self.lived)
            self._sequence += 1
            for channel in self.channels:
                self._publish(channel, self._stamp() | self._lab.values(channel))

    # ------------------------------------------------------------------ what it publishes

    def _properties(self, asked: Mapping[str, Any]) -> dict[str, str]:
        channel = asked.get("channelName")
        if channel == codec.EVENTS:
            return {}
        if channel not in self.channels:
            raise _invalid("channelName", f"there is no channel {channel!r}")
        return {"experimentDuration": "s", **self._lab.units(channel)}

    def _about(self, asked: dict[str, Any]) -> dict[str, Any]:
        name, properties = asked.get("propertyName"), self._properties(asked)
        if not isinstance(name, str) or name not in properties:
            raise _invalid("propertyName", f"there is no property {name!r}")
        unit = properties[name]
        shown = {"degC": "°C", "Ohm": "Ω"}.get(unit, unit)
        return {
            "channelName": asked["channelName"], "propertyName": name, "unit": shown,
            "precision": PRECISION.get(unit, 3),
        }  # fmt: skip

    def _stamp(self) -> dict[str, Any]:
        return {
            "sequenceNumber": self._sequence,
            "timeStamp": (BEGAN + timedelta(seconds=self.lived)).isoformat(timespec="microseconds"),
            "experimentDuration": round(self.lived, 6),
        }

    def _publish(self, topic: str, content: Mapping[str, Any]) -> None:
        if not self._outbox.full:
            self._outbox.put(self.lived, zmtp.message([topic.encode(), json.dumps(content).encode()]))

    def _over(self, stimulus: str) -> None:
        if stimulus in self._busy:
            self._busy.discard(stimulus)
            self._publish(codec.EVENTS, {"$type": codec.FINISHED, "stimulusType": stimulus})

    # ------------------------------------------------------------------ orders

    def _stop(self, stimulus: str) -> None:
        if stimulus not in self._busy:
            raise Refusal(codec.INVALID_OPERATION, "nothing is under way")  # unverified
        if stimulus == "heat":
            self._lab.heat.start(self._lab.heat.value, 0.0)
        elif stimulus == "bias":
            self._lab.sweep = None
        else:
            for setpoint in self._lab.setpoints.values():
                setpoint.start(setpoint.value, 0.0)
        self._over(stimulus)

    def _start_ramp(self, asked: dict[str, Any]) -> None:
        to = _number(asked, "temperature", AMBIENT - 5.0, self.max_temperature)
        if "rampRate" in asked and "rampTime" not in asked:  # its name is unverified, K/s
            seconds = abs(to - self._lab.heat.value) / _number(asked, "rampRate", 1e-6, 1e9)
        else:
            seconds = _number(asked, "rampTime", 0.0, 1e7)
        self._lab.heat.start(to, seconds)
        self._lab.heating = True
        self._busy.add("heat")

    def _bias_limits(self) -> tuple[float, float]:
        return (
            (self.max_voltage, self.max_current) if self.biases == "voltage" else (self.max_current, self.max_voltage)
        )

    def _apply_bias(self, asked: dict[str, Any]) -> None:
        most, limit = self._bias_limits()
        level, compliance = _number(asked, "setpoint", -most, most), _number(asked, "compliance", 0.0, limit)
        self._lab.sweep = None
        self._over("bias")
        self._lab.level, self._lab.compliance, self._lab.biased = level, compliance, True

    def _start_sweep(self, asked: dict[str, Any]) -> None:
        most, limit = self._bias_limits()
        baseline = _number(asked, "baseline", -most, most)
        amplitude = _number(asked, "amplitude", -most, most)
        if abs(baseline + amplitude) > most:
            raise _invalid("amplitude", f"baseline and amplitude reach beyond {most:g}")
        rate, cycles = _number(asked, "rate", 1e-9, 1e9), _number(asked, "cycles", 1, 1e6)
        compliance = _number(asked, "compliance", 0.0, limit)
        if not isinstance(asked.get("sweepCycleType"), str):
            raise _invalid("sweepCycleType", "is missing")
        if amplitude == 0.0:
            raise _invalid("amplitude", "is zero")
        self._lab.compliance, self._lab.biased = compliance, True
        self._lab.sweep, self._lab.sweep_time = (
            (baseline, amplitude, rate, 0.0),
            cycles * 2 * abs(amplitude) / rate,
        )
        self._busy.add("bias")

    def _start_pressures(self, asked: dict[str, Any]) -> None:
        to = {name: _number(asked, f"{name}Pressure", 0.0, self.max_pressure) for name in ("inlet", "outlet")}
        seconds = _number(asked, "rampTime", 0.0, 1e7)
        flows = {
            n: _number(asked, f"gas{n}Flow", 0.0, 100.0)
            for n in self._lab.flows
            if asked.get(f"gas{n}Flow") is not None
        }
        self._flow(to["inlet"], to["outlet"], seconds)
        self._lab.flows |= flows

    def _start_pressure_and_flow(self, asked: dict[str, Any]) -> None:
        pressure = _number(asked, "reactorPressure", 0.0, self.max_pressure)
        half = _number(asked, "reactorFlow", 0.0, 10.0) / CONDUCTANCE / 2
        seconds = _number(asked, "rampTime", 0.0, 1e7)
        if pressure + half > self.max_pressure or pressure < half:
            raise _invalid("reactorFlow", f"{asked['reactorFlow']} ml/min can't be had at {pressure:g} mbar")
        self._flow(pressure + half, pressure - half, seconds)

    def _flow(self, inlet: float, outlet: float, seconds: float) -> None:
        self._lab.setpoints["inlet"].start(inlet, seconds)
        self._lab.setpoints["outlet"].start(outlet, seconds)
        self._lab.flowing = True
        self._busy.add("gas")

    def _evacuate(self, _: dict[str, Any]) -> None:
        if self._lab.flowing:
            self._flow(0.0, 0.0, 0.0)

    def _apply_liquid(self, asked: dict[str, Any]) -> None:
        values = {name: _number(asked, name, 0.0, 10_000.0) for name in self._lab.liquid if name in asked}
        self._lab.liquid |= values
        self.world.pumps[self] = self._lab.liquid["flow"]

    def _load_profile(self, asked: dict[str, Any]) -> None:
        path = asked.get("path")
        if not isinstance(path, str) or not path:
            raise _invalid("path", "is missing")
        self.profile = path

    def _control_profile(self, asked: dict[str, Any]) -> None:
        action = asked.get("action")
        if not self.profile:
            raise Refusal(codec.INVALID_OPERATION, "no profile is loaded")
        if not isinstance(action, str):
            raise _invalid("action", "is missing")
        self._publish(codec.EVENTS, {"$type": codec.PROFILE, "state": action})

    def _nothing(self, _: dict[str, Any]) -> None:
        """Taken, without effect on the world."""


def _invalid(parameter: str, description: str) -> Refusal:
    error = {"parameter": parameter, "$type": "control.error.invalidParameter", "description": description}
    return Refusal(codec.INVALID_INPUT, "the request has invalid parameters", [error])  # texts unverified


def _number(asked: Mapping[str, Any], name: str, low: float, high: float) -> float:
    try:
        value = codec.number(asked, name)
    except ValueError as error:
        raise _invalid(name, str(error)) from None
    if not low <= value <= high:
        raise _invalid(name, f"{value:g} is not within {low:g} to {high:g}")
    return value
