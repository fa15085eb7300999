"""Alicat mass flow controller: obeys a setpoint by serial line; several share one line, each with a letter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from hal.capabilities import FlowController
from hal.errors import ConfigError, NoReply, Refused, UnitError, WrongInstrument
from hal.instrument.address import Calls, Field
from hal.instrument.instrument import Instrument
from hal.model.limits import Limits
from hal.model.reading import Answer, Noise, Quality, Sample
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.framing import AnyLines
from hal.transport.link import SerialSettings
from hal.transport.session import Exchange, Probe

from . import codec
from .codec import Frame, Setpoint

T = TypeVar("T")

SCATTER = 1e-3  # of full scale, one sigma (unverified)


@dataclass(frozen=True, slots=True)
class Options:
    """The driver's own settings in a lab file."""

    standard_temperature: float = 25.0
    """degC at which the instrument counts its standard units (SCCM, SLPM), as its menu says; 25 as delivered."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one data frame brings."""

    flow: Sample[float]
    """sccm"""
    setpoint: float
    """sccm"""
    gas: str
    held: bool


@dataclass(frozen=True, slots=True)
class Settable(Field):
    """A field of the report that a method of the driver sets."""

    write: str = ""

    async def put(self, device: Any, value: Any) -> None:
        await getattr(device, self.write)(value)


class Alicat(Instrument):
    """One controller: `unit` is its letter, A to Z (none: A).

    Flows are mL/min at 0 degC and 101.325 kPa. The instrument counts SCCM and SLPM at its own standard
    temperature, which is 25 degC as delivered and an option here: a wrong one is a flow wrong by 9 %.
    A standard (or normal) pressure other than 101.325 kPa, and a normal temperature other than 0 degC,
    are not known to the driver. While the setpoint ramps, `setpoint` is where it has come to.
    """

    model = "MC"
    vendor = "Alicat"
    provides = (FlowController,)
    Options = Options
    wires = ("serial", "tcp")
    line = SerialSettings(19200)  # 8N1 (MC manual, "Serial Communications")
    timeout = 0.5
    emulator = "devices.alicat.emulator:AlicatEmulator"
    verified = (
        "command guide of the MC manual, forms of answers after open drivers; "
        "the open drivers alicat 0.9, alicatlib 0.3.1, pyalicat 0.0.11 and labmcp-alicat 0.1 against the emulator. "
        "Unverified: scatter, units' standard states"
    )

    flow = SignalR(
        float, "sccm", at=Field("flow"), kind=Kind.HINTED, poll=0.2,
        max_age=0.05,  # unverified: the primer gives the streaming interval, 50 ms, and no rate of measurement
        noise=Noise(absolute=0.02),
    )  # fmt: skip
    setpoint = SignalRW(
        float, "sccm", at=Settable("setpoint", write="write_setpoint"), limits=(0.0, float("inf")), of="flow",
        kind=Kind.NORMAL, poll=0.2, supersedes=True,
    )  # fmt: skip
    gas = SignalR(str, at=Field("gas"), kind=Kind.CONFIG, varies="in steps", doc="the gas it reckons with")
    held = SignalR(bool, at=Field("held"), varies="in steps", doc="the valve stands still and obeys no setpoint")
    full_scale = SignalR(float, "sccm", at=Calls("read_full_scale"), kind=Kind.CONFIG, varies="in steps")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        letter = "A" if self.unit is None else self.unit
        if not (isinstance(letter, str) and len(letter) == 1 and "A" <= letter.upper() <= "Z"):
            raise ConfigError(f"{self.name}: unit = {self.unit!r} is no unit ID; give a letter, A to Z")
        standard = self.options.standard_temperature
        if not -50.0 <= standard <= 100.0:
            raise ConfigError(f"{self.name}: standard_temperature = {standard!r} degC; give 0 to 25, as its menu says")
        self._letter = letter.upper()
        self._firmware = (0, 0)
        self._full = 0.0  # sccm
        self._sccm = 0.0  # in one of its units
        self._unit = ""

    @classmethod
    def framing(cls, scheme: str) -> AnyLines:
        return codec.host_end()

    @cached_property
    def probe(self) -> Probe:  # an answer is known by its form only
        return Probe(self._line("VE"), lambda m: not _refusal(_text(m)) and self._answers(codec.decode_firmware)(m))

    async def identify(self) -> str:
        exchange = await self.ask(self._line("VE"), matches=self._answers(codec.decode_firmware))
        said = _text(exchange.reply)
        self._firmware = self._understood(exchange, "VE", codec.decode_firmware)
        if self._firmware < codec.OLDEST:
            raise WrongInstrument(self.name, f"its firmware is {said[1:].strip()}; the driver needs 9v00 or newer")
        try:
            await self._asked("LV", codec.decode_variable)
        except (Refused, NoReply):  # a meter is silent to what only a controller knows
            raise WrongInstrument(
                self.name, "expected a flow controller, found a meter; check `unit` and `link` in the lab file"
            ) from None
        return f"Alicat {self._letter}, firmware {said[1:].strip()}"

    async def connected(self) -> None:
        await self._check_standard()
        await self.read_full_scale()
        await self._check_order()
        limits = Limits(0.0, self._full)
        if not self.setpoint.limits.within(limits):
            self.setpoint.narrow(limits, "the instrument's full scale")
        self.flow.noise = Noise(absolute=SCATTER * self._full)

    # ------------------------------------------------------------------ verbs

    def set(self, value: float) -> Status[None]:
        """Ask for `value` sccm; done when the instrument has taken it (watch `flow` to see it settle)."""
        self.setpoint.check(value)
        return self.start(f"set {value:g} sccm", self.setpoint.put(value))

    def close(self) -> Status[None]:
        """Hold the valve closed, and set 0."""
        return self.start("close", self.make_safe())

    async def make_safe(self) -> None:
        # Held closed it is closed whatever controls it: a setpoint of pressure, the analog input, a valve hold.
        # Then the setpoint, lest the flow come back when somebody ends the hold.
        frame, _ = await self._sent("HC", Frame.decode)
        if codec.HELD not in frame.states:
            raise Refused(self.name, "HC was sent and its valve is not held closed; close it by hand")
        taken, _ = await self._sent("LS 0", Setpoint.decode)
        if taken.requested != 0.0:
            raise Refused(self.name, f"its valve is held closed, but its setpoint stays at {taken.requested:g}")

    # ------------------------------------------------------------------ what the signals call

    async def report(self) -> Answer:
        """Flow, setpoint, gas and hold, by one question."""
        frame, exchange = await self._asked("", Frame.decode)
        return Answer(self._report(frame), exchange.sent, exchange.received)

    async def write_setpoint(self, value: float) -> None:
        """Set, end a hold, and make sure that the controller follows. Raises `Refused`."""
        variable, _ = await self._asked("LV", codec.decode_variable)
        if variable != codec.MASS_FLOW:
            raise Refused(
                self.name,
                f"it controls variable {variable}, not mass flow ({codec.MASS_FLOW}); nothing was set. "
                "Choose mass flow as its loop variable",
            )
        if self._firmware >= codec.TELLS_SOURCE:
            source, _ = await self._asked("LSS", codec.decode_source)
            if source == codec.ANALOG:
                raise Refused(self.name, "its setpoint comes from the analog input; choose serial at its front panel")
        told, _ = await self._asked("LS", Setpoint.decode)
        if told.unit.upper() != self._unit.upper():  # somebody has been at its menu: a number would mean another flow
            raise UnitError(
                f"{self.name}: it is set in {told.unit} now, and was in {self._unit}; nothing was set. Connect anew"
            )
        taken, _ = await self._sent(f"LS {value / self._sccm:.6g}", Setpoint.decode)
        if abs(taken.requested - value / self._sccm) > taken.step:
            raise Refused(
                self.name,
                f"{value:g} sccm was asked for and the setpoint is {taken.requested * self._sccm:g} sccm; "
                "is somebody at the front panel, or its setpoint limited?",
            )
        frame, _ = await self._asked("", Frame.decode)
        if codec.HELD in frame.states:
            frame, _ = await self._sent("C", Frame.decode)
            if codec.HELD in frame.states:
                raise Refused(self.name, "its valve stays held; end the hold at its front panel")

    async def read_full_scale(self) -> Answer:
        """Full scale in sccm. Raises `UnitError` if it does not measure a volume at known conditions."""
        (full, unit), exchange = await self._asked("FPF 5", codec.decode_full_scale)
        try:
            self._sccm = codec.sccm(unit, self.options.standard_temperature)
        except ValueError as error:
            raise UnitError(f"{self.name}: its unit of flow: {error}; choose another in its menu") from None
        if not 0.0 < full < float("inf"):
            raise WrongInstrument(self.name, f"expected a full scale above 0, found {full:g} {unit}")
        self._unit = unit
        self._full = full * self._sccm
        return Answer(self._full, exchange.sent, exchange.received)

    # ------------------------------------------------------------------ private

    async def _check_standard(self) -> None:
        """A wrong standard temperature is a flow wrong by up to 9 %: newer firmware tells its own."""
        if self._firmware < codec.TELLS_SOURCE:
            return
        try:
            told, _ = await self._asked("DCFRT S", codec.decode_temperature)
        except (Refused, NoReply):  # the form of its answer is unverified: then the lab file counts
            return
        if abs(told - self.options.standard_temperature) > 0.05:
            raise UnitError(
                f"{self.name}: it counts its standard units at {told:g} degC and the lab file says "
                f"{self.options.standard_temperature:g}; if its own is right, write standard_temperature = {told:g}"
            )

    async def _check_order(self) -> None:
        """The data frame can be configured: make sure that the setpoint stands where it is looked for."""
        variable, _ = await self._asked("LV", codec.decode_variable)
        told, _ = await self._asked("LS", Setpoint.decode)
        frame, _ = await self._asked("", Frame.decode)
        ramping = told.current != told.requested
        if not ramping and abs(frame.setpoint - told.current) > 2 * told.step:
            raise UnitError(
                f"{self.name}: its data frame does not have the setpoint in fifth place; restore the frame as delivered"
            )
        if variable == codec.MASS_FLOW and told.unit.upper() != self._unit.upper():
            raise UnitError(
                f"{self.name}: it measures in {self._unit} and is set in {told.unit}; choose one unit in its menu"
            )

    def _report(self, frame: Frame) -> Report:
        flow = Sample(frame.flow * self._sccm)
        for state in (codec.MASS_OVER, "ADC"):  # then the number is the end of the range, or nothing
            if state in frame.states:
                flow = Sample(None, Quality.BAD, codec.STATES[state])
        return Report(flow, frame.setpoint * self._sccm, frame.gas, codec.HELD in frame.states)

    async def _asked(self, text: str, parse: Callable[[str], T]) -> tuple[T, Exchange]:
        exchange = await self.ask(self._line(text), matches=self._answers(parse))
        return self._understood(exchange, text, parse), exchange

    async def _sent(self, text: str, parse: Callable[[str], T]) -> tuple[T, Exchange]:
        exchange = await self.command(self._line(text), idempotent=True, matches=self._answers(parse))
        return self._understood(exchange, text, parse), exchange

    def _line(self, text: str) -> bytes:
        return f"{self._letter}{text}".encode("ascii")

    def _answers(self, form: Callable[[str], object]) -> Callable[[bytes], bool]:
        """What is of this unit and of this form, or a refusal."""

        def matches(message: bytes) -> bool:
            line = _text(message)
            try:
                return _refusal(line) or (line[:1] == self._letter and form(line) is not None)
            except ValueError:
                return False

        return matches

    def _understood(self, exchange: Exchange, text: str, parse: Callable[[str], T]) -> T:
        line = _text(exchange.reply)
        if _refusal(line):
            raise Refused(self.name, f"{self._letter}{text} was refused (?); check its model and firmware")
        try:
            return parse(line)
        except ValueError as error:
            raise self.protocol_error(exchange.reply, f"an answer to {text or 'a poll'} ({error})") from None


def _text(message: bytes) -> str:
    return message.decode("latin-1").replace("\0", "").strip()  # some adapters put zero bytes in (the driver alicat)


def _refusal(line: str) -> bool:
    return line.rpartition(" ")[2] == codec.REFUSAL
