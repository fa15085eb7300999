"""Keithley 2400 source-measure unit."""

from __future__ import annotations

from functools import cached_property

from devices.keithley_scpi import KeithleySourceMeter
from devices.source_meter import Checked, Mode
from hal.errors import ProtocolError, WrongInstrument
from hal.instrument.address import Field
from hal.instrument.identity import naming
from hal.model.capabilities import SourceMeter
from hal.model.reading import Answer, Noise
from hal.model.signal import Kind, SignalR, SignalRW
from hal.protocols.framing import AnyLines, Framing
from hal.transport.link import SerialSettings
from hal.transport.session import Probe

from . import codec


class Keithley2400(KeithleySourceMeter):
    """Sources voltage or current within a compliance, measures both. Safe state: 0, output off.

    It measures only while the output is on; off, `voltage` and `current` have no value.
    """

    model = "2400"
    vendor = "Keithley"
    provides = (SourceMeter,)
    wires = ("serial", "visa", "tcp")
    line = SerialSettings(9600)
    timeout = 3.0
    entries = 10  # of the error queue (18-109)
    envelope = (codec.LOW_VOLTAGE, codec.LOW_CURRENT)
    look_at = "output enable and ranges"
    emulator = "devices.keithley_2400.emulator:Keithley2400Emulator"
    verified = (
        "User's Manual 2400S-900-01 Rev. K; its emulator by QCoDeS 0.58, PyMeasure 0.16 and "
        "labmcp-keithley-smu 0.1.2. Not by an instrument. "
        "Unverified: what a chained message answers, end of line over RS-232, noise."
    )

    # Noise is not in the manual: one sigma at 1 PLC, of the order of the last digit shown (unverified).
    voltage = SignalR(
        float, "V", at=Field("voltage", "measure"), kind=Kind.HINTED, poll=0.5, aperture=0.04,
        noise=Noise(absolute=2e-5, relative=1e-5), doc="Across the specimen.",
    )  # fmt: skip
    current = SignalR(
        float, "A", at=Field("current", "measure"), kind=Kind.HINTED, poll=0.5, aperture=0.04,
        noise=Noise(absolute=1e-9, relative=3e-5), doc="Through the specimen.",
    )  # fmt: skip
    output = SignalR(
        bool, at=Field("output", "measure"), poll=0.5, aperture=0.04, varies="in steps", doc="Whether it is on."
    )
    limited = SignalR(
        bool, at=Field("limited", "measure"), poll=0.5, aperture=0.04, varies="in steps",
        doc="Whether the compliance holds the source back.",
    )  # fmt: skip
    voltage_level = SignalRW(
        float, "V", at=Checked(":SOUR:VOLT?", ":SOUR:VOLT {value:.7g}"), limits=(-codec.VOLTAGE, codec.VOLTAGE),
        of="voltage", supersedes=True, doc="What a voltage source is set to.",
    )  # fmt: skip
    current_level = SignalRW(
        float, "A", at=Checked(":SOUR:CURR?", ":SOUR:CURR {value:.7g}"), limits=(-codec.CURRENT, codec.CURRENT),
        of="current", supersedes=True, doc="What a current source is set to.",
    )  # fmt: skip
    voltage_limit = SignalRW(
        float, "V", at=Checked(":SENS:VOLT:PROT?", ":SENS:VOLT:PROT {value:.7g}"), limits=codec.VOLTAGE_LIMIT,
        doc="Compliance of a current source.",
    )  # fmt: skip
    current_limit = SignalRW(
        float, "A", at=Checked(":SENS:CURR:PROT?", ":SENS:CURR:PROT {value:.7g}"), limits=codec.CURRENT_LIMIT,
        doc="Compliance of a voltage source.",
    )  # fmt: skip

    # ------------------------------------------------------------------ wire

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return AnyLines(codec.TERMINATOR)

    @cached_property
    def probe(self) -> Probe:
        return naming(b"KEITHLEY")

    async def identify(self) -> str:
        found = (await self.ask(b"*IDN?")).reply.decode("ascii", "replace").strip()
        if not found.upper().replace(", ", ",").startswith(codec.IDENTITY):
            raise WrongInstrument(self.name, f"expected a Keithley 2400, found {found!r}; check `link` in the lab file")
        return found

    async def prepare(self) -> None:
        await self.tell(b":FORM:DATA ASC;:FORM:ELEM VOLT,CURR,STAT", idempotent=True)

    async def measure(self) -> Answer:
        """Measure both quantities at once, if the output is on: off, the question would stay unanswered."""
        first = await self.ask(b":OUTP?")
        if first.reply.strip() == b"0":
            return Answer(codec.unmeasured(), first.sent, first.received)
        if first.reply.strip() != b"1":
            raise self.protocol_error(first.reply, "the state of the output")
        exchange = await self.ask(codec.READ)
        try:
            found = codec.parse_reading(exchange.reply)
        except ValueError as error:
            raise ProtocolError(
                self.name, f"{exchange.reply!r} is no reading ({error}); :FORM:ELEM VOLT,CURR,STAT is needed"
            ) from None
        return Answer(found, exchange.sent, exchange.received)

    # ------------------------------------------------------------------ sourcing

    async def step(self, mode: Mode, level: float) -> None:
        await self.tell(f":SOUR:{codec.function(mode)} {level:.7g}".encode(), idempotent=True)

    async def begin(self, mode: Mode, level: float, compliance: float) -> None:
        function, limit = codec.function(mode), codec.limit(mode)
        await self.tell(b":ABOR", idempotent=True)
        await self.drain()
        reply = (await self.ask(f":SOUR:FUNC?;{limit}?".encode())).reply
        try:
            present, in_force = reply.decode("ascii").split(";")
            narrower = compliance <= float(in_force)
        except ValueError:
            raise self.protocol_error(reply, "function and limit") from None
        prepare = []
        if present.strip().upper() != function:
            prepare += [":OUTP OFF", f":SOUR:FUNC {function}"]
        prepare += [
            ":SOUR:CLE:AUTO OFF",  # or it would go off after each measurement (18-72)
            f":SOUR:{function}:MODE FIX",
            f":SOUR:{function}:RANG:AUTO ON",
            ":SENS:FUNC:CONC ON",
            ":SENS:FUNC 'VOLT','CURR'",
            ":SENS:VOLT:RANG:AUTO ON",
            ":SENS:CURR:RANG:AUTO ON",
            ":FORM:DATA ASC",
            ":FORM:ELEM VOLT,CURR,STAT",
            ":ARM:COUN 1;:ARM:SOUR IMM",
            ":TRIG:COUN 1;:TRIG:SOUR IMM",
        ]
        set_level, set_limit = f":SOUR:{function} {level:.7g}", f"{limit} {compliance:.7g}"
        # With the output on, neither the old level with a wider limit nor the new one without its own.
        await self.order(*prepare)
        await self.order(*((set_limit, set_level) if narrower else (set_level, set_limit)))
        await self.order(":OUTP ON")
        await self.read_back(mode, level, compliance, (f":SOUR:{function}", limit))
