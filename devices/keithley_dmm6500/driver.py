"""Keithley DMM6500 digital multimeter (SCPI command set)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from devices.source_meter import ErrorQueue
from hal.errors import ConfigError, WrongInstrument
from hal.instrument.address import Calls, Field, Scpi
from hal.instrument.identity import identified, naming
from hal.instrument.instrument import Instrument
from hal.model.capabilities import Thermometer
from hal.model.reading import Answer, Noise, Sample
from hal.model.signal import Kind, SignalR, SignalRW
from hal.protocols.framing import Framing, Lines
from hal.transport.session import Probe

from . import codec


@dataclass(frozen=True, slots=True)
class Options:
    """What it measures, and how: set when a lab opens."""

    function: Literal["voltage", "current", "resistance", "resistance_4w", "temperature"] = "voltage"
    nplc: float = 1.0
    """Power line cycles of one measurement."""
    range: float = 0.0
    """Greatest value expected, V, A or Ohm; 0: it finds its range itself."""

    def __post_init__(self) -> None:
        if not codec.NPLC[0] <= self.nplc <= codec.NPLC[1]:
            raise ConfigError(
                f"nplc = {self.nplc:g} is not within {codec.NPLC[0]:g} to {codec.NPLC[1]:g} power line cycles"
            )
        ranges = codec.FUNCTIONS[codec.MEASURES[self.function]].ranges
        if self.range and not (ranges and 0 < self.range <= ranges[-1]):
            most = f"0 to {ranges[-1]:g}" if ranges else "left out: a temperature has no range"
            raise ConfigError(f"range = {self.range:g} of {self.function} should be {most}")


class Measured(Field):
    """The reading, if the multimeter measures this signal's quantity."""

    def __init__(self, signal: str) -> None:
        super().__init__(signal, "measure")

    def value(self, device: Any, payload: codec.Measurement) -> Sample[float]:
        return payload.of(self.name)


class KeithleyDmm6500(ErrorQueue, Instrument):
    """Measures one quantity at a time, that of the option `function`; the other signals say so.

    Opening a lab sets it up: autoranging or the range, integration time, no filter, no relative offset, no
    math. What a thermometer is, is set at its panel. Safe state: as it is, it only measures.
    """

    model = "DMM6500"
    vendor = "Keithley"
    provides: tuple[type, ...] = (Thermometer,)
    Options = Options
    wires = ("visa", "tcp")
    timeout = 5.0  # a measurement of 12 power line cycles with ranges to be found
    entries = 1000  # of the event log, as of the 2450
    meaning = "see MENU > Event Log"
    emulator = "devices.keithley_dmm6500.emulator:KeithleyDmm6500Emulator"
    verified = (
        "commands of PyMeasure 0.16, tested on a real one, and of QCoDeS 0.58, which its emulator also serves; in "
        "TSP Tektronix's descriptions of its commands and its package tm_devices 3.7.0; the rest as the 2450's manual "
        "has it; not by an instrument. Unverified: noise, time of a measurement."
    )

    # Noise at 1 power line cycle: unverified.
    voltage = SignalR(
        float, "V", at=Measured("voltage"), kind=Kind.HINTED, poll=0.5, aperture=0.02,
        noise=Noise(absolute=1e-6, relative=1e-6), doc="DC",
    )  # fmt: skip
    current = SignalR(
        float, "A", at=Measured("current"), kind=Kind.HINTED, poll=0.5, aperture=0.02,
        noise=Noise(absolute=1e-9, relative=5e-6), doc="DC",
    )  # fmt: skip
    resistance = SignalR(
        float, "Ohm", at=Measured("resistance"), kind=Kind.HINTED, poll=0.5, aperture=0.02,
        noise=Noise(absolute=1e-4, relative=3e-6), doc="by two wires or four, as `function` says",
    )  # fmt: skip
    temperature = SignalR(
        float, "degC", at=Measured("temperature"), kind=Kind.HINTED, poll=0.5, aperture=0.02,
        noise=Noise(absolute=0.01),
    )  # fmt: skip
    function = SignalRW(
        str, at=Calls("read_function", "write_function"), choices=tuple(codec.MEASURES),
        doc="what it measures; set, it is set up as when a lab opens, autoranging",
    )  # fmt: skip
    terminals = SignalR(
        str, at=Scpi(":ROUT:TERM?", parse=lambda text: {"FRON": "front", "REAR": "rear"}[text.upper()]),
        kind=Kind.CONFIG, varies="in steps", doc="which are in use, by the button at its front",
    )  # fmt: skip

    async def make_safe(self) -> None:
        """Nothing: it sources nothing that could harm more than its measuring does already."""

    # ------------------------------------------------------------------ wire

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Lines(codec.TERMINATOR)

    @cached_property
    def probe(self) -> Probe:
        return naming(b"KEITHLEY")

    async def identify(self) -> str:
        found = await identified(self, "a Keithley DMM6500", codec.IDENTITY)
        language = (await self.ask(b"*LANG?")).reply.decode("ascii", "replace").strip()
        if language != "SCPI":
            raise WrongInstrument(
                self.name,
                f"expected a DMM6500 that speaks SCPI, found one that speaks {language!r}; "
                "set MENU > Settings > Command Set to SCPI and restart it",
            )
        return found

    async def connected(self) -> None:
        self.provides = (Thermometer,) if self.options.function == "temperature" else ()
        reply = (await self.ask(b":SYST:LFR?")).reply
        try:
            aperture = self.options.nplc / float(reply)
        except (ValueError, ZeroDivisionError):
            raise self.protocol_error(reply, "the line frequency") from None
        for signal in (self.voltage, self.current, self.resistance, self.temperature):
            signal.aperture = aperture

    async def prepare(self) -> None:
        await self._set_up(self.options.function, self.options.range)

    # ------------------------------------------------------------------ what the signals call

    async def measure(self) -> Answer:
        """Measure once; the payload is a `codec.Measurement`."""
        exchange = await self.ask(codec.READ)
        try:
            found = codec.parse_reading(exchange.reply)
        except ValueError:
            raise self.protocol_error(exchange.reply, "a function and a reading") from None
        return Answer(found, exchange.sent, exchange.received)

    async def read_function(self) -> Answer:
        """What it measures."""
        exchange = await self.ask(b":SENS:FUNC?")
        try:
            short = codec.parse_function(exchange.reply.decode("ascii", "replace"))
        except ValueError:
            raise self.protocol_error(exchange.reply, "a function") from None
        names = {short: name for name, short in codec.MEASURES.items()}
        return Answer(names.get(short, codec.FUNCTIONS[short].shown), exchange.sent, exchange.received)

    async def write_function(self, name: str) -> None:
        """Measure something else. Raises `Refused`."""
        await self._set_up(name, 0.0)

    # ------------------------------------------------------------------ private

    async def _set_up(self, name: str, extent: float) -> None:
        short = codec.MEASURES[name]
        function = codec.FUNCTIONS[short]
        sense = f":SENS:{function.shown}"
        orders = [
            f':SENS:FUNC "{function.shown}"', ":SENS:COUN 1", ":FORM ASC", f"{sense}:NPLC {self.options.nplc:g}",
            f"{sense}:AVER OFF", f"{sense}:REL:STAT OFF", f":CALC:{function.shown}:MATH:STAT OFF",
        ]  # fmt: skip
        if extent:
            orders.append(f"{sense}:RANG {extent:g}")
        elif function.ranges:
            orders.append(f"{sense}:RANG:AUTO ON")
        if short == "VOLT":
            orders.append(f"{sense}:UNIT VOLT")
        elif short == "TEMP":
            orders.append(f"{sense}:UNIT CELS")
        await self.drain()
        await self.order(*orders)
