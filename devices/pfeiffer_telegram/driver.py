"""Pfeiffer digital gauge on RS-485: total pressure; several share one line, each with an address."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from hal.capabilities import Gauge
from hal.errors import ConfigError, Refused, WrongInstrument
from hal.instrument.address import Calls
from hal.instrument.instrument import Instrument
from hal.model.reading import Answer, Noise, Quality, Sample
from hal.model.signal import Kind, SignalR
from hal.protocols.framing import Lines
from hal.transport.link import SerialSettings
from hal.transport.session import Exchange, Matches, Probe

from . import codec
from .codec import Telegram


class Telegraph(Instrument):
    """Whoever speaks telegrams: `unit` is its address, 1 to 255 (none: 1)."""

    vendor = "Pfeiffer Vacuum"
    wires = ("serial", "tcp")
    line = SerialSettings(9600)  # 8N1 (gauges: PG 0022 BEN/B, section 6.2; drives: unverified)
    timeout = 0.5

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        address = 1 if self.unit is None else self.unit
        if not (isinstance(address, int) and 1 <= address <= 255):
            raise ConfigError(f"{self.name}: unit = {self.unit!r} is no address; give 1 to 255")
        self._address = address

    @classmethod
    def framing(cls, scheme: str) -> Lines:
        return codec.framing()

    @cached_property
    def probe(self) -> Probe:  # an answer tells its parameter, and not whether that was read or set
        question = Telegram(self._address, codec.READ, codec.NAME, codec.QUESTION)
        return Probe(question.encode(), self._answer_to(codec.NAME))

    async def fetch(self, parameter: int) -> tuple[str, Exchange]:
        """The data of a parameter. Raises `Refused`."""
        question = Telegram(self._address, codec.READ, parameter, codec.QUESTION)
        exchange = await self.ask(question.encode(), matches=self._answer_to(parameter))
        return self._content(exchange, parameter), exchange

    async def control(self, parameter: int, data: str) -> None:
        """Set a parameter, and make sure that it was taken. Raises `Refused`."""
        message = Telegram(self._address, codec.CONTROL, parameter, data).encode()
        exchange = await self.command(message, idempotent=True, matches=self._answer_to(parameter))
        taken = self._content(exchange, parameter)
        if taken != data:
            raise Refused(
                self.name, f"parameter {parameter} was set to {data} and {taken} was confirmed; is it in use?"
            )

    def _answer_to(self, parameter: int) -> Matches:
        def matches(message: bytes) -> bool:
            try:
                said = Telegram.decode(message)
            except ValueError:
                return False
            return (said.address, said.action, said.parameter) == (self._address, codec.CONTROL, parameter)

        return matches

    def _content(self, exchange: Exchange, parameter: int) -> str:
        data = Telegram.decode(exchange.reply).data
        if data in codec.REFUSALS:
            raise Refused(self.name, f"parameter {parameter} was refused ({data}): {codec.REFUSALS[data]}")
        return data


class PfeifferTelegram(Telegraph):
    """One gauge: `unit` is its address, 1 to 255 (none: 1). The driver sets nothing in it.

    Its error is asked after every pressure; with an error there is no value, with a warning it is uncertain. What a
    gauge says at the ends of its range is unverified: a pressure of 0 is taken for none.
    """

    model = "CPT/RPT/PPT/HPT/MPT"
    provides = (Gauge,)
    emulator = "devices.pfeiffer_telegram.emulator:PfeifferTelegramEmulator"
    verified = (
        "telegrams and parameters by the manual of the PPT 200, PG 0022 BEN/B, sections 6.2 and 6.3; the open drivers "
        "pfeiffer-vacuum-protocol 1.0 and pylablib 1.4 (DPG202) against the emulator; "
        "unverified: the other gauges' rate and noise, what it says out of range"
    )

    pressure = SignalR(
        float, "Pa", at=Calls("read_pressure"), kind=Kind.HINTED, poll=0.2,
        max_age=0.1,  # unverified; a PPT 200 measures every 10 ms (PG 0022 BEN/B, section 13.2)
        noise=Noise(relative=0.01),  # of its repeatability, 2 %, taken for two sigma (the same; others unverified)
    )  # fmt: skip

    async def identify(self) -> str:
        kind = (await self.fetch(codec.NAME))[0].strip()
        try:
            await self.fetch(codec.PRESSURE)
        except Refused:
            raise WrongInstrument(
                self.name, f"expected a gauge, found {kind!r}, which has no pressure; check `unit` and `link`"
            ) from None
        firmware = (await self.fetch(codec.FIRMWARE))[0].strip()
        return f"Pfeiffer {codec.GAUGES.get(kind, kind)}, firmware {firmware}"

    async def make_safe(self) -> None:
        """A gauge has nothing to make safe."""

    async def read_pressure(self) -> Answer:
        """The pressure, with what its error says of it."""
        data, exchange = await self.fetch(codec.PRESSURE)
        try:
            pressure = codec.decode_pressure(data)
        except ValueError as error:
            raise self.protocol_error(exchange.reply, f"a pressure ({error})") from None
        error_code, _ = await self.fetch(codec.ERROR)
        sample = Sample(pressure)
        if error_code == codec.WARNING:
            sample = Sample(pressure, Quality.UNCERTAIN, f"{error_code}: {codec.FAULTS[error_code]}")
        elif error_code != codec.NO_ERROR:
            sample = Sample(None, Quality.BAD, f"{error_code}: {codec.FAULTS.get(error_code, 'see its manual')}")
        elif pressure == 0.0:
            sample = Sample(None, Quality.BAD, "it says 0, which no gauge can see; is it below its range?")
        return Answer(sample, exchange.sent, exchange.received)
