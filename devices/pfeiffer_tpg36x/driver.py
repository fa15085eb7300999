"""Pfeiffer TPG 361, 362 and 366: total pressure of one input; two devices share one question."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from hal.capabilities import Gauge
from hal.errors import ConfigError, ProtocolError, Refused, WrongInstrument
from hal.instrument.address import Calls, ReadOnly
from hal.instrument.instrument import Instrument
from hal.model.reading import Answer, Noise, Quality, Sample
from hal.model.signal import Kind, SignalR
from hal.transport.link import SerialSettings
from hal.transport.session import Exchange, FollowUp, Probe

from . import codec
from .codec import Measurement

FETCH = FollowUp(codec.is_ack, codec.ENQ, codec.is_data)
PROBE = Probe(b"AYT", codec.is_identity, FETCH)
"""Answers are known by their form only, late ones too."""


@dataclass(frozen=True, slots=True)
class Pressures:
    """All inputs at one moment, and the unit they are in."""

    inputs: list[Measurement]
    unit: int


class Input(ReadOnly):
    """A device's own input among all that one PRX brings."""

    def question(self, device: Any) -> Hashable:
        return "PRX"

    async def ask(self, device: Any) -> Answer:
        answer: Answer = await device.pressures()
        return answer

    def value(self, device: Any, payload: Pressures) -> float | Sample[float]:
        if device.channel > len(payload.inputs):
            raise ValueError(f"it has no input {device.channel}")
        if payload.unit == codec.VOLT:
            return Sample(None, Quality.BAD, "the controller shows volts; choose a unit of pressure in its menu")
        measured: Measurement = payload.inputs[device.channel - 1]
        pressure = measured.value * codec.PASCALS[payload.unit]
        match measured.status:
            case codec.GOOD:
                return pressure
            case codec.UNDER:  # somewhere between nothing and this
                return Sample(pressure, Quality.UNCERTAIN, codec.MEANINGS[codec.UNDER], abs(pressure))
            case status:
                # Over range is no value either: how far over is not known, and no limit may seem to be kept.
                return Sample(None, Quality.BAD, codec.MEANINGS[status])


class PfeifferTpg36x(Instrument):
    """One input of the controller: `channel` 1 to 6. Pascals, whatever unit the controller shows.

    The unit can be changed on the front panel at any time and is not in the measurement: it is asked
    with every reading, and a reading across a change is discarded.
    """

    model = "TPG 361/362/366"
    vendor = "Pfeiffer Vacuum"
    provides = (Gauge,)
    wires = ("serial", "tcp")
    line = SerialSettings(9600)  # 8N1 (BG 5500 BEN, section 1.2)
    timeout = 0.5
    emulator = "devices.pfeiffer_tpg36x.emulator:PfeifferTpg36xEmulator"
    verified = (
        "manual BG 5500 BEN in part; the open drivers PyExpLabSys, pylablib 1.4 (as a TPG 262), labmcp-pfeiffer-tpg "
        "0.1.2 and tpg-256a-pressure-monitor 0.3.0 against the emulator, which also answers what PSI's protocol file "
        "for the TPG 366 asks"
    )

    pressure = SignalR(
        float, "Pa", at=Input(), kind=Kind.HINTED, poll=0.2,
        max_age=0.05,  # unverified: BG 5500 gives 100 measurements a second and a filter besides
        noise=Noise(relative=0.005),  # unverified: gauges repeat to 2 % (PKR 251 data sheet), the filter averages
    )  # fmt: skip
    gauge = SignalR(str, at=Calls("read_gauge"), kind=Kind.CONFIG, varies="in steps", doc="type of the gauge")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.channel is None:
            self.channel = 1
        if not (isinstance(self.channel, int) and 1 <= self.channel <= 6):
            raise ConfigError(f"{self.name}: channel = {self.channel!r} is no input; give 1 to 6")
        self._unit = -1

    @classmethod
    def framing(cls, scheme: str) -> codec.HostEnd:
        return codec.HostEnd()

    @cached_property
    def probe(self) -> Probe:
        return PROBE

    async def identify(self) -> str:
        try:
            said = await self._answer("AYT")
        except Refused:  # a TPG 261 or 262 does not know AYT, but its program's number
            firmware = await self._answer("PNR")
            self.probe = Probe(b"PNR", partial(_is, firmware), FETCH)
            return f"Pfeiffer TPG 26x, firmware {firmware}"
        try:
            who = codec.Identity.decode(said)
            inputs = codec.INPUTS[who.model]
        except (ValueError, KeyError):
            raise WrongInstrument(
                self.name, f"expected a TPG 361, 362 or 366, found {said!r}; check `link` in the lab file"
            ) from None
        assert isinstance(self.channel, int)
        if self.channel > inputs:
            raise WrongInstrument(
                self.name, f"channel = {self.channel}, and a {who.model} has {inputs}; check `channel` in the lab file"
            )
        return f"Pfeiffer {who.model}, {who.serial}, firmware {who.firmware}"

    async def connected(self) -> None:
        self._unit = await self._shown_unit()

    # ------------------------------------------------------------------ what the signals call

    async def pressures(self) -> Answer:
        """All inputs, in the unit that was shown before and after. Raises `ProtocolError` if it changed."""
        exchange = await self._exchange("PRX")
        before, self._unit = self._unit, await self._shown_unit()
        if before != self._unit:
            raise ProtocolError(
                self.name,
                f"the unit was changed from {codec.UNITS.get(before, '?')} to {codec.UNITS[self._unit]} at the "
                "controller; this reading was discarded, the next will be right",
            )
        try:
            inputs = codec.decode_measurements(_text(exchange))
        except ValueError as error:
            raise self.protocol_error(exchange.reply, f"pressures ({error})") from None
        return Answer(Pressures(inputs, self._unit), exchange.sent, exchange.received)

    async def read_gauge(self) -> Answer:
        """Type of the gauge on this input."""
        exchange = await self._exchange("TID")
        types = [kind.strip() for kind in _text(exchange).split(",")]
        assert isinstance(self.channel, int)
        if self.channel > len(types):
            raise self.protocol_error(exchange.reply, f"the type of gauge {self.channel}")
        return Answer(types[self.channel - 1], exchange.sent, exchange.received)

    # ------------------------------------------------------------------ private

    async def _shown_unit(self) -> int:
        said = await self._answer("UNI")
        if said not in map(str, codec.UNITS):
            raise self.protocol_error(said.encode(), "a unit, 0 to 5")
        return int(said)

    async def _answer(self, mnemonic: str) -> str:
        return _text(await self._exchange(mnemonic))

    async def _exchange(self, mnemonic: str) -> Exchange:
        exchange = await self.ask(
            mnemonic.encode("ascii"),
            matches=codec.is_control,
            then=FETCH,
        )
        if codec.is_control(exchange.reply):
            raise Refused(self.name, f"{mnemonic} was refused (NAK); is it a TPG 36x, and the line undisturbed?")
        return exchange


def _is(text: str, message: bytes) -> bool:
    return message.decode("latin-1").strip() == text


def _text(exchange: Exchange) -> str:
    return exchange.reply.decode("latin-1").strip()
