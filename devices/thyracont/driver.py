"""Thyracont Smartline transmitter on RS-485: total pressure; several share one line, each with an address."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from hal.capabilities import Gauge
from hal.errors import ConfigError, Refused, WrongInstrument
from hal.instrument.address import Calls
from hal.instrument.instrument import Instrument
from hal.model.reading import Answer, Noise, Quality, Sample
from hal.model.signal import Kind, SignalR
from hal.protocols.framing import Identifies, Lines
from hal.transport.link import SerialSettings
from hal.transport.session import Exchange, Probe

from . import codec
from .codec import TelegramV1, TelegramV2


class _Thyracont(Instrument):
    """What both protocols share. The driver sets nothing in the transmitter."""

    vendor = "Thyracont"
    provides = (Gauge,)
    wires = ("serial", "tcp")
    timeout = 0.5

    pressure = SignalR(
        float, "Pa", at=Calls("read_pressure"), kind=Kind.HINTED, poll=0.2,
        max_age=0.1,  # unverified
        noise=Noise(relative=0.01),  # unverified
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        address = 1 if self.unit is None else self.unit
        if not (isinstance(address, int) and 1 <= address <= 16):
            raise ConfigError(f"{self.name}: unit = {self.unit!r} is no address; give 1 to 16")
        self._address = address

    @classmethod
    def framing(cls, scheme: str) -> Lines:
        return codec.framing()

    async def make_safe(self) -> None:
        """A gauge has nothing to make safe."""

    async def read_pressure(self) -> Answer:
        raise NotImplementedError

    def _refused(self, command: str, error: str) -> Refused:
        return Refused(self.name, f"{command} was refused ({error}): {codec.ERRORS.get(error, 'see its manual')}")


class ThyracontV2(_Thyracont):
    """One transmitter with protocol V2: `unit` is its address, 1 to 16 (none: 1).

    `channel` chooses one of its sensors: 1 Pirani, 2 piezo, 3 hot cathode, 4 cold cathode (none: whichever fits
    the pressure).
    """

    model = "Smartline V2"
    line = SerialSettings(115200)  # 8N1 (PyMeasure)
    emulator = "devices.thyracont.emulator:ThyracontEmulator"
    verified = (
        "Thyracont's Communication Protocol 2.1.5; its emulator by PyMeasure 0.16, scietex-hal-vacuum-gauge 2.5.0, "
        "vsr53 1.1.1, pyvsr53dl 0.1.1 and a laboratory's driver of the VSR53USB; unverified: noise and rate"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.channel not in (None, 1, 2, 3, 4):
            raise ConfigError(f"{self.name}: channel = {self.channel!r} is no sensor; give 1 to 4, or none")

    async def identify(self) -> str:
        try:
            kind = (await self._fetch("TD"))[0]
            await self._fetch(self._measure)
        except Refused as refused:
            raise WrongInstrument(
                self.name, f"expected a transmitter with this sensor; check `unit` and `channel` ({refused})"
            ) from None
        return f"Thyracont {kind}, {(await self._fetch('SD'))[0]}, firmware {(await self._fetch('VF'))[0]}"

    async def read_pressure(self) -> Answer:
        """The pressure; no value beyond the range, or if the sensor is off or defective."""
        data, exchange = await self._fetch(self._measure, ("ERROR1", "_SEDIS"))
        sample: Sample[float]
        if data in (codec.BELOW, codec.ABOVE):
            where = "below" if data == codec.BELOW else "above"
            sample = Sample(None, Quality.BAD, f"{data}: the pressure is {where} its range")
        elif data in codec.ERRORS:
            sample = Sample(None, Quality.BAD, f"{data}: {codec.ERRORS[data]}")
        else:
            try:
                sample = Sample(codec.decode_millibar(data) * codec.PASCALS)
            except ValueError:
                raise self.protocol_error(exchange.reply, "a pressure") from None
        return Answer(sample, exchange.sent, exchange.received)

    @property
    def _measure(self) -> str:
        return "MV" if self.channel is None else f"M{self.channel}"

    async def _fetch(self, command: str, telling: tuple[str, ...] = ()) -> tuple[str, Exchange]:
        """Data; errors among `telling` too, others are raised as `Refused`."""

        def matches(message: bytes) -> bool:
            try:
                said = TelegramV2.decode(message)
            except ValueError:
                return False
            mine = (said.address, said.command) == (self._address, command)
            return mine and said.access in (codec.READ_ANSWER, codec.ERROR)

        question = TelegramV2(self._address, codec.READ, command)
        exchange = await self.ask(question.encode(), matches=Identifies(matches))
        said = TelegramV2.decode(exchange.reply)
        if said.access == codec.ERROR and said.data not in telling:
            raise self._refused(command, said.data)
        return said.data, exchange


class ThyracontV1(_Thyracont):
    """One transmitter with protocol V1: `unit` is its address, 1 to 15 (none: 1).

    What it says beyond its range is unverified: a pressure of 0 is taken for none.
    """

    model = "Smartline V1"
    line = SerialSettings(9600)  # 8N1 (PyMeasure)
    emulator = "devices.thyracont.emulator:ThyracontV1Emulator"
    verified = (
        "the open driver PyMeasure 0.16, read and run against the emulator; "
        "unverified: its manual was not read, noise and rate, what it says out of range"
    )

    @cached_property
    def probe(self) -> Probe:
        def recognises(message: bytes) -> bool:
            try:
                said = TelegramV1.decode(message)
            except ValueError:
                return False
            return (said.address, said.command) == (self._address, "T")

        return Probe(TelegramV1(self._address, "T").encode(), recognises)  # an error does not say of what it is one

    async def identify(self) -> str:
        try:
            kind, _ = await self._fetch("T")
            await self._fetch("M")
        except Refused as refused:
            raise WrongInstrument(
                self.name, f"expected a vacuum transmitter; check `unit` and `link` ({refused})"
            ) from None
        return f"Thyracont {kind}"

    async def read_pressure(self) -> Answer:
        """The pressure."""
        data, exchange = await self._fetch("M")
        try:
            pressure = codec.decode_pressure(data)
        except ValueError:
            raise self.protocol_error(exchange.reply, "a pressure") from None
        sample = Sample(pressure)
        if pressure == 0.0:
            sample = Sample(None, Quality.BAD, "it says 0, which no gauge can see; is it below its range?")
        return Answer(sample, exchange.sent, exchange.received)

    async def _fetch(self, command: str) -> tuple[str, Exchange]:
        def matches(message: bytes) -> bool:
            try:
                said = TelegramV1.decode(message)
            except ValueError:
                return False
            return said.address == self._address and (said.command == command or bool(said.error))

        exchange = await self.ask(TelegramV1(self._address, command).encode(), matches=matches)
        said = TelegramV1.decode(exchange.reply)
        if said.error:
            raise self._refused(command, said.error)
        return said.data, exchange
