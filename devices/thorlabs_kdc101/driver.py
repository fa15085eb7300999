"""Thorlabs KDC101: a stage with a small servo motor and an encoder, such as an MTS25-Z8 or a Z825 actuator."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any, ClassVar

from hal.capabilities import Motor
from hal.errors import ConfigError, NoReply, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.address import Calls, Field, Remembered
from hal.instrument.instrument import Instrument
from hal.model.limits import Limits
from hal.model.reading import Answer, Sample
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.framing import Identifies
from hal.transport.link import SerialSettings
from hal.transport.session import Exchange

from . import codec
from .codec import DcStatus, Info, Message

THERE = 0.005  # mm; how near its servo loop must bring it
LOOKING = 0.1  # s between looks
STARTS_WITHIN = 1.0  # s, after a message that nothing acknowledges
STOPS_WITHIN = 5.0  # s
STANDING = "standing"


@dataclass(frozen=True, slots=True)
class Options:
    """The driver's own settings in a lab file."""

    stage: str
    """What it moves: one of the stages of `codec.STAGES`."""
    counts: float = 0.0
    """Encoder counts per mm; 0: those of the stage."""
    serial: int = 0
    """Serial number on its back, where several could be mistaken for each other; 0: any."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a status brings."""

    position: Sample[float]
    state: str
    homed: bool
    enabled: bool
    problem: str


class ThorlabsKdc101(Instrument):
    """One controller on its own USB plug.

    Positions are counted from where homing ended; until it has homed since it was switched on it
    does not know where it is, and moves are refused.
    """

    model = "KDC101"
    vendor = "Thorlabs"
    provides = (Motor,)
    Options = Options
    wires = ("serial", "tcp")
    line = SerialSettings(115200, rtscts=True)  # 8N1 (protocol, "Serial port settings" of the introduction)
    timeout = 0.5
    emulator = "devices.thorlabs_kdc101.emulator:Kdc101Emulator"
    asks_with: ClassVar = {"stage": "MTS25-Z8"}
    verified = (
        "layout of messages as in thorlabs-apt-protocol 29 and pylablib 1.4; its emulator by pylablib, "
        "thorlabs-apt-device 0.3, pykdc101 0.26 and instrumentkit 1.0.0b2. Not by an instrument. Unverified: counts "
        "per mm of Z6 stages (measure one move)"
    )

    position = SignalR(float, "mm", at=Field("position"), kind=Kind.HINTED, poll=0.1)
    target = SignalRW(
        float, "mm", at=Remembered("write_target"), of="position", supersedes=True,
        doc="where it goes; done when it was told, `move` when it is there",
    )  # fmt: skip
    speed = SignalRW(float, "mm/s", at=Calls("read_speed", "write_speed"), doc="of the next moves")
    state = SignalR(str, at=Field("state"), poll=LOOKING, varies="in steps", doc="standing, moving or homing")
    homed = SignalR(bool, at=Field("homed"), varies="in steps", doc="since it was switched on")
    enabled = SignalR(bool, at=Field("enabled"), varies="in steps", doc="whether the motor is powered")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        stage = codec.STAGES.get(self.options.stage)
        if stage is None:
            raise ConfigError(
                f"{self.name}: stage = {self.options.stage!r} is not known; known are {', '.join(codec.STAGES)}"
            )
        if not 0.0 <= self.options.counts < float("inf"):
            raise ConfigError(f"{self.name}: counts = {self.options.counts:g} per mm; give 0 or more")
        self._counts = self.options.counts or stage.counts
        self.target.narrow(Limits(0.0, stage.travel), f"the travel of {self.options.stage}")
        self.speed.narrow(Limits(codec.speed(1, self._counts), stage.speed), f"the speed of {self.options.stage}")

    @classmethod
    def framing(cls, scheme: str) -> codec.End:
        return codec.host_end()

    @property
    def limits_of_travel(self) -> Limits:
        """Lowest and highest position that may be asked for, mm."""
        return self.target.limits

    async def identify(self) -> str:
        reply, exchange = await self._asked(codec.HW_REQ_INFO, codec.HW_GET_INFO)
        try:
            info = Info.decode(reply)
        except ValueError:
            raise self.protocol_error(exchange.reply, "hardware information") from None
        wanted = self.options.serial
        if info.model != self.model or (wanted and info.serial != wanted):
            raise WrongInstrument(
                self.name,
                f"expected a KDC101{f' with number {wanted}' if wanted else ''}, found {info.model!r} number "
                f"{info.serial}; check `link` in the lab file",
            )
        return f"Thorlabs KDC101, number {info.serial}, firmware {'.'.join(map(str, info.firmware))}"

    async def prepare(self) -> None:
        # What another program had it tell by itself would be taken for the answers to our questions.
        await self.tell(Message(codec.HW_STOP_UPDATEMSGS).encode(), idempotent=True)

    # ------------------------------------------------------------------ verbs

    def move(self, to: float) -> Status[None]:
        """Go to `to` (mm) at `speed`; ended early, it stops."""
        to = self.target.check(to)
        return self.start(f"move to {to:g} mm", self._move(to), on_cancel=self._stop)

    def stop(self, *, success: bool = True) -> Status[Any]:
        """Brake and stand; sent whatever the motor is thought to be doing."""
        return self.start("stop", self._stop())

    def home(self) -> Status[None]:
        """Find position 0: down to the limit switch, and a little up again."""
        return self.start("homing", self._home(), on_cancel=self._stop)

    async def make_safe(self) -> None:
        await self._halt(codec.IMMEDIATE)

    # ------------------------------------------------------------------ what the signals call

    async def report(self) -> Answer:
        """How it stands."""
        reply, exchange = await self._asked(codec.MOT_REQ_DCSTATUSUPDATE, codec.MOT_GET_DCSTATUSUPDATE)
        try:
            status = DcStatus.decode(reply)
        except ValueError:
            raise self.protocol_error(exchange.reply, "a status") from None
        bits = status.bits
        homing, moving = bits & codec.HOMING, bits & codec.MOVING
        problems = {
            codec.MOTION_ERROR: "it lags too far behind",
            codec.CURRENT_LIMIT: "its motor took too much current",
            codec.LOW_LIMIT: "its lower limit switch is pressed",
            codec.HIGH_LIMIT: "its upper limit switch is pressed",
        }
        position = Sample(status.position / self._counts, uncertainty=1 / self._counts / 12**0.5)
        report = Report(
            position, "homing" if homing else "moving" if moving else STANDING, bool(bits & codec.HOMED),
            bool(bits & codec.IS_ENABLED), ", ".join(text for bit, text in problems.items() if bits & bit),
        )  # fmt: skip
        return Answer(report, exchange.sent, exchange.received)

    async def write_target(self, value: float) -> None:
        report: Report = (await self.report()).payload
        if not report.homed:
            raise Refused(self.name, "it was not homed since it was switched on; use `home` first")
        if not report.enabled:
            state = Message(codec.MOD_SET_CHANENABLESTATE, codec.CHANNEL, codec.ENABLED)
            await self.tell(state.encode(), idempotent=True)
        data = struct.pack("<Hi", codec.CHANNEL, round(value * self._counts))
        await self.tell(Message(codec.MOT_MOVE_ABSOLUTE, data=data).encode(), idempotent=True)

    async def read_speed(self) -> Answer:
        (_, _, velocity), exchange = await self._velocities()
        return Answer(codec.speed(velocity, self._counts), exchange.sent, exchange.received)

    async def write_speed(self, value: float) -> None:
        (least, acceleration, _), _ = await self._velocities()
        wanted = codec.velocity(value, self._counts)
        data = struct.pack(codec.PARAMETERS[codec.MOT_SET_VELPARAMS], codec.CHANNEL, least, acceleration, wanted)
        await self.tell(Message(codec.MOT_SET_VELPARAMS, data=data).encode(), idempotent=True)
        (_, _, taken), _ = await self._velocities()
        if taken != wanted:
            raise Refused(
                self.name,
                f"its speed was set to {value:g} mm/s and reads back {codec.speed(taken, self._counts):g} mm/s",
            )

    # ------------------------------------------------------------------ private

    async def _move(self, to: float) -> None:
        await self.target.put(to)
        for _ in range(round(STARTS_WITHIN / LOOKING)):
            await asyncio.sleep(LOOKING)
            async for _ in self.until(self.state, lambda state: state == STANDING):
                pass
            if abs((where := await self.position.get()) - to) <= THERE:
                return
        report: Report = (await self.report()).payload
        raise Refused(
            self.name,
            f"it stands at {where:.4g} mm on its way to {to:g} mm; {report.problem or 'was it stopped by hand?'}",
        )

    async def _home(self) -> None:
        await self.tell(Message(codec.MOT_MOVE_HOME, codec.CHANNEL).encode(), idempotent=True)
        for _ in range(round(STARTS_WITHIN / LOOKING)):
            await asyncio.sleep(LOOKING)
            async for _ in self.until(self.state, lambda state: state == STANDING):
                pass
            report: Report = (await self.report()).payload
            if report.homed and abs(report.position.value or 0.0) <= THERE:
                return
        raise Refused(self.name, f"it did not find its home; {report.problem or 'is the motor enabled?'}")

    async def _stop(self) -> None:
        with acting(Purpose.STOP):
            await self._halt(codec.PROFILED)

    async def _halt(self, how: int) -> None:
        """Stop, and make sure of it."""
        await self.tell(Message(codec.MOT_MOVE_STOP, codec.CHANNEL, how).encode(), idempotent=True)
        for _ in range(round(STOPS_WITHIN / LOOKING)):
            report: Report = (await self.report()).payload
            if report.state == STANDING:
                return
            await asyncio.sleep(LOOKING)
        raise NoReply(self.name, f"it was told to stop and still moves after {STOPS_WITHIN:g} s; switch it off by hand")

    async def _velocities(self) -> tuple[tuple[int, int, int], Exchange]:
        """Least velocity, acceleration and greatest velocity, as it counts."""
        reply, exchange = await self._asked(codec.MOT_REQ_VELPARAMS, codec.MOT_GET_VELPARAMS, codec.CHANNEL)
        try:
            _, least, acceleration, velocity = struct.unpack(codec.PARAMETERS[codec.MOT_SET_VELPARAMS], reply)
        except struct.error:
            raise self.protocol_error(exchange.reply, "three velocity parameters") from None
        return (least, acceleration, velocity), exchange

    async def _asked(self, question: int, answer: int, channel: int = codec.CHANNEL) -> tuple[bytes, Exchange]:
        """The data of the answer."""
        begins = codec.is_reply(answer)
        exchange = await self.ask(
            Message(question, channel).encode(), matches=Identifies(lambda m: m.startswith(begins))
        )
        reply = Message.decode(exchange.reply)
        if reply.data is None:
            raise self.protocol_error(exchange.reply, "an answer with data")
        return reply.data, exchange
