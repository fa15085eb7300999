"""MKS 937B: total pressure of one gauge of the controller."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import hypot, sqrt
from typing import Any, TypeVar

from hal.capabilities import Gauge
from hal.errors import ConfigError, ProtocolError, Refused, WrongInstrument
from hal.instrument.address import Calls
from hal.instrument.instrument import Instrument
from hal.model.reading import Answer, Noise, Quality, Sample
from hal.model.signal import Kind, SignalR
from hal.protocols.framing import Lines, Matches
from hal.transport.link import SerialSettings
from hal.transport.session import Exchange, Probe

from . import codec
from .codec import Reply, Request

T = TypeVar("T")
NOISE = Noise(relative=0.005)  # unverified


class Mks937b(Instrument):
    """One channel, 1 to 6, of the controller with address `unit`, 1 to 253 (none: 253). Pascals, whatever it shows.

    The unit can be changed at the front panel and is not in the measurement: it is asked after every
    reading, and a reading across a change is discarded. The driver changes nothing at the controller.
    """

    model = "937B"
    vendor = "MKS"
    provides = (Gauge,)
    wires = ("serial", "tcp")
    line = SerialSettings(9600)  # 8N1 (manual, section 9.2)
    timeout = 0.5
    emulator = "devices.mks_937b.emulator:Mks937bEmulator"
    verified = (
        "manual rev. F, chapter 9; the open drivers pymeasure 0.16 and PyExpLabSys against the emulator, which also "
        "answers what devicehub-go and the EPICS protocol file of the accelerator Sirius ask. "
        "Unverified: noise and rate"
    )

    pressure = SignalR(
        float, "Pa", at=Calls("read_pressure"), kind=Kind.HINTED, poll=0.2,
        max_age=0.2,  # unverified
        noise=NOISE,
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.channel is None:
            self.channel = 1
        if not (isinstance(self.channel, int) and 1 <= self.channel <= 6):
            raise ConfigError(f"{self.name}: channel = {self.channel!r} is no channel; give 1 to 6")
        address = 253 if self.unit is None else self.unit
        if not (isinstance(address, int) and 1 <= address <= 253):
            raise ConfigError(f"{self.name}: unit = {self.unit!r} is no address; give 1 to 253")
        self._address = address
        self._unit = ""

    @classmethod
    def framing(cls, scheme: str) -> Lines:
        return codec.framing()

    @cached_property
    def probe(self) -> Probe:  # replies tell neither command nor channel
        return Probe(Request(self._address, "MD").encode(), self._answers(_model))

    async def identify(self) -> str:
        model, _ = await self._asked("MD", str)
        if _model(model) is None:
            raise WrongInstrument(self.name, f"expected a 937B, found {model!r}; check `unit` and `link`")
        serial, _ = await self._asked("SN", str)
        return f"MKS {model}, {serial}"

    async def connected(self) -> None:
        self._unit, _ = await self._asked("U", _unit)

    async def make_safe(self) -> None:
        """A gauge has nothing to make safe."""

    async def read_pressure(self) -> Answer:
        """The channel's pressure. Raises `ProtocolError` if the unit was changed meanwhile."""
        assert isinstance(self.channel, int)
        found, exchange = await self._asked("PR", codec.decode_pressure, self.channel)
        before = self._unit
        self._unit, _ = await self._asked("U", _unit)
        if before != self._unit:
            raise ProtocolError(
                self.name,
                f"the unit was changed from {before} to {self._unit} at the controller; "
                "this reading was discarded, the next will be right",
            )
        sample: Sample[float]
        if found.value is None:
            sample = Sample(None, Quality.BAD, codec.WORDS.get(found.word.upper(), f"the controller says {found.word}"))
        else:
            pressure = found.value * codec.PASCALS[self._unit]
            rounding = found.step * codec.PASCALS[self._unit] / sqrt(12)
            sample = Sample(pressure, uncertainty=hypot(NOISE.of(pressure), rounding))
            if found.below:  # somewhere between nothing and this
                sample = Sample(pressure, Quality.UNCERTAIN, "below the gauge's range: no more than this", pressure)
        return Answer(sample, exchange.sent, exchange.received)

    # ------------------------------------------------------------------ private

    def _answers(self, form: Callable[[str], object]) -> Matches:
        """What is of this controller and of this form, or a refusal."""

        def matches(message: bytes) -> bool:
            try:
                reply = Reply.decode(message)
                return reply.address == self._address and (reply.refused or form(reply.data) is not None)
            except ValueError:
                return False

        return matches

    async def _asked(self, command: str, parse: Callable[[str], T], number: int | None = None) -> tuple[T, Exchange]:
        exchange = await self.ask(Request(self._address, command, number).encode(), matches=self._answers(parse))
        reply = Reply.decode(exchange.reply)
        if reply.refused:
            raise Refused(self.name, f"{command} was refused (NAK{reply.data}): {codec.meaning(reply.data)}")
        return parse(reply.data), exchange


def _unit(data: str) -> str:
    if data.upper() not in codec.PASCALS:
        raise ValueError(f"{data!r} is no unit of pressure")
    return data.upper()


def _model(text: str) -> str | None:
    return text if text.upper().startswith("937") else None
