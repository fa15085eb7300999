"""Bronkhorst mass flow controllers (EL-FLOW, IQ+FLOW and kin): several share one line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hal.capabilities import FlowController
from hal.errors import ConfigError, Refused, UnitError, WrongInstrument
from hal.instrument.address import Calls, Field
from hal.instrument.instrument import Instrument
from hal.model.limits import Limits
from hal.model.reading import Answer, Noise
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.protocols.framing import Identifies
from hal.transport.link import SerialSettings

from . import codec
from .codec import Packet, Parameter
from .framing import Binary

REFRESH = 0.05  # s; the instrument renews its measurement at least this often (unverified: 9.17.023 gives none)
SCATTER = 1e-3  # of full scale, one sigma (EL-FLOW Select data sheet: repeatability < 0.2 % of reading; unverified)


@dataclass(frozen=True, slots=True)
class Report:
    """What one question brings."""

    flow: float
    """sccm"""
    setpoint: float
    """sccm"""
    mode: int


@dataclass(frozen=True, slots=True)
class Settable(Field):
    """A field of the report that a method of the driver sets."""

    write: str = ""

    async def put(self, device: Any, value: Any) -> None:
        await getattr(device, self.write)(value)


class Bronkhorst(Instrument):
    """One controller: `unit` is its node address on the bus; none asks whichever is alone on the line.

    Flows are mL/min at 0 degC and 101.325 kPa whatever unit the instrument was made for. Setpoints
    are rounded by the instrument to 1/32000 of full scale. A setpoint slope that was set at the instrument
    delays what is asked for, closing too: it is told when the lab opens.
    """

    model = "EL-FLOW / IQ+FLOW"
    vendor = "Bronkhorst"
    provides = (FlowController,)
    wires = ("serial", "tcp")
    line = SerialSettings(38400)  # 8N1 (9.17.027; bronkhorst-propar)
    timeout = 0.5
    emulator = "devices.bronkhorst.emulator:BronkhorstEmulator"
    verified = (
        "examples of manual 9.17.027; the vendor's package bronkhorst-propar 1.3.0, binary and ASCII, and PyExpLabSys "
        "against the emulator"
    )

    flow = SignalR(
        float, "sccm", at=Field("flow"), kind=Kind.HINTED, poll=0.2, max_age=REFRESH, noise=Noise(absolute=0.02)
    )
    setpoint = SignalRW(
        float, "sccm", at=Settable("setpoint", write="write_setpoint"), limits=(0.0, float("inf")), of="flow",
        kind=Kind.NORMAL, poll=0.2, supersedes=True,
    )  # fmt: skip
    mode = SignalR(
        str, at=Field("mode", convert=lambda mode: codec.MODES.get(mode, f"mode {mode}")),
        kind=Kind.CONFIG, varies="in steps", doc="whose setpoint is obeyed",
    )  # fmt: skip
    temperature = SignalR(float, "degC", at=Calls("read_temperature"), kind=Kind.CONFIG, doc="inside the instrument")
    valve = SignalR(float, "%", at=Calls("read_valve"), kind=Kind.CONFIG, doc="drive of the valve")
    gas = SignalR(str, at=Calls("read_gas"), kind=Kind.CONFIG, varies="in steps", doc="the gas it is calibrated for")
    full_scale = SignalR(float, "sccm", at=Calls("read_full_scale"), kind=Kind.CONFIG, varies="in steps")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.unit is not None and not (isinstance(self.unit, int) and 1 <= self.unit <= 127):
            raise ConfigError(f"{self.name}: unit = {self.unit!r} is no node address; give 1 to 127")
        self._node = codec.ANY_NODE if self.unit is None else int(self.unit)
        self._sequence = 0
        self._full = 0.0  # sccm
        self._sccm = 0.0  # in one unit of capacity

    @classmethod
    def framing(cls, scheme: str) -> Binary:
        return Binary()

    async def identify(self) -> str:
        kind, serial = (await self._fetch(codec.DEVICE_TYPE, codec.SERIAL)).payload
        if not codec.controls_gas(kind):
            raise WrongInstrument(
                self.name,
                f"expected a mass flow controller, found a {kind!r} (serial number {serial}); "
                "check `unit` and `link` in the lab file",
            )
        return f"Bronkhorst {kind}, {serial}"

    async def connected(self) -> None:
        await self.read_full_scale()
        limits = Limits(0.0, self._full)
        if not self.setpoint.limits.within(limits):
            self.setpoint.narrow(limits, "the instrument's full scale")
        try:
            (slope,) = (await self._fetch(codec.SLOPE)).payload
        except Refused:  # one that has none
            slope = 0
        if slope:
            self.context.journal.note(
                "note", self.name, f"its setpoint slope is {slope / 10:g} s for full scale: closing takes as long"
            )
        self.flow.noise = Noise(absolute=SCATTER * self._full)
        self.setpoint.noise = Noise(resolution=self._full / codec.FULL)

    # ------------------------------------------------------------------ verbs

    def set(self, value: float) -> Status[None]:
        """Ask for `value` sccm; done when the instrument has taken it (watch `flow` to see it settle)."""
        self.setpoint.check(value)
        return self.start(f"set {value:g} sccm", self.setpoint.put(value))

    def close(self) -> Status[None]:
        """Close the valve."""
        return self.start("close", self.make_safe())

    async def make_safe(self) -> None:
        # One packet. The setpoint first: it is taken even where the mode may not be written. A controller
        # left in purge or analog mode does not obey the setpoint, hence the mode.
        await self._send((codec.SETPOINT, 0), (codec.CONTROL_MODE, codec.BUS))

    # ------------------------------------------------------------------ what the signals call

    async def report(self) -> Answer:
        """Flow, setpoint and mode, by one question."""
        answer = await self._fetch(codec.FMEASURE, codec.FSETPOINT, codec.CONTROL_MODE)
        flow, setpoint, mode = answer.payload
        return replace(answer, payload=Report(flow * self._sccm, setpoint * self._sccm, mode))

    async def write_setpoint(self, value: float) -> None:
        """Set, and make sure that it is what the controller follows. Raises `Refused`."""
        await self._send((codec.SETPOINT, round(value / self._full * codec.FULL)))
        report: Report = (await self.report()).payload
        if report.mode not in (codec.BUS, codec.RS232):
            raise Refused(
                self.name,
                f"its control mode is {report.mode} ({codec.MODES.get(report.mode, 'unknown')}), which does not obey "
                "the setpoint; set it to 0 (bus setpoint), or close() once, which does that",
            )
        if abs(report.setpoint - value) > self._full / codec.FULL:
            raise Refused(
                self.name,
                f"the setpoint {value:g} sccm was acknowledged, but it reads back {report.setpoint:g} sccm; "
                "is another master on the bus?",
            )

    async def read_gas(self) -> Answer:
        return _only(await self._fetch(codec.FLUID))

    async def read_temperature(self) -> Answer:
        return _only(await self._fetch(codec.TEMPERATURE))

    async def read_valve(self) -> Answer:
        answer = await self._fetch(codec.VALVE)
        return replace(answer, payload=answer.payload[0] / 0xFFFFFF * 100)

    async def read_full_scale(self) -> Answer:
        """Full scale in sccm; refuses a unit that can't be converted without knowing the gas."""
        answer = await self._fetch(codec.CAPACITY, codec.CAPACITY_UNIT)
        capacity, unit = answer.payload
        if unit not in codec.SCCM:
            raise UnitError(
                f"{self.name}: its full scale is {capacity:g} {unit!r}, which is not a volume at normal conditions; "
                f"set the capacity unit to mln/min (known are {', '.join(codec.SCCM)})"
            )
        self._sccm = codec.SCCM[unit]
        self._full = capacity * self._sccm
        if not 0.0 < self._full < float("inf"):
            raise WrongInstrument(
                self.name, f"expected a full scale above 0, found {capacity:g} {unit}; is it configured?"
            )
        return replace(answer, payload=self._full)

    # ------------------------------------------------------------------ private

    async def _fetch(self, *parameters: Parameter) -> Answer:
        packet = self._packet(codec.read_request(parameters))
        exchange = await self.ask(packet.encode(), matches=Identifies(packet.answered_by))
        self._refuse(exchange.reply, "reading")
        try:
            values = codec.read_reply(parameters, Packet.decode(exchange.reply).data)
        except ValueError as error:
            raise self.protocol_error(exchange.reply, f"the values asked for ({error})") from None
        return Answer(values, exchange.sent, exchange.received)

    async def _send(self, *values: tuple[Parameter, float | int | str]) -> None:
        packet = self._packet(codec.write_request(values))
        exchange = await self.command(packet.encode(), idempotent=True, matches=Identifies(packet.answered_by))
        self._refuse(exchange.reply, "setting")
        if codec.status_of(exchange.reply[3:]) is None:
            raise self.protocol_error(exchange.reply, "a status")

    def _packet(self, data: bytes) -> Packet:
        self._sequence = (self._sequence + 1) % 256
        return Packet(self._sequence, self._node, data)

    def _refuse(self, reply: bytes, what: str) -> None:
        if (error := codec.error_of(reply)) is not None:
            meaning = codec.ERRORS.get(error, "a general error, see manual 9.17.027, section 3.3.4")
            raise Refused(self.name, f"{what} failed with error {error}: {meaning}")
        status = codec.status_of(reply[3:])
        if status is not None and status[0] != codec.OK:
            code, position = status
            meaning = codec.MEANINGS.get(code, "see manual 9.17.027")
            raise Refused(self.name, f"{what} failed with status {code} at byte {position}: {meaning}")


def _only(answer: Answer) -> Answer:
    return replace(answer, payload=answer.payload[0])
