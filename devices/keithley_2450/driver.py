"""Keithley 2450 source-measure unit (SCPI command set)."""

from __future__ import annotations

from functools import cached_property

from devices.keithley_scpi import KeithleySourceMeter
from devices.source_meter import Mode, Ordered
from hal.errors import ProtocolError, WrongInstrument
from hal.instrument.address import Field
from hal.instrument.identity import identified, naming
from hal.model.capabilities import SourceMeter
from hal.model.reading import Answer, Noise
from hal.model.signal import Kind, SignalR, SignalRW
from hal.protocols.framing import Framing, Lines
from hal.transport.session import Probe

from . import codec


class Keithley2450(KeithleySourceMeter):
    """Sources voltage or current within a compliance, measures both. Safe state: 0, output off."""

    model = "2450"
    vendor = "Keithley"
    provides = (SourceMeter,)
    wires = ("visa", "tcp")
    timeout = 2.0
    entries = 1000  # of the event log (p. 6-101)
    advice = meaning = "see MENU > Event Log"
    envelope = (codec.LOW_VOLTAGE, codec.LOW_CURRENT)
    look_at = "interlock and ranges"
    emulator = "devices.keithley_2450.emulator:Keithley2450Emulator"
    verified = (
        "Reference Manual 2450-901-01 Rev. B; its emulator by QCoDeS 0.58, PyMeasure 0.16 and Keithley's examples, "
        "in TSP by Tektronix's tm_devices 3.7.0 and the drivers of PyExpLabSys and SweepMe. Not by an instrument."
    )

    voltage = SignalR(
        float, "V", at=Field("voltage", "measure"), kind=Kind.HINTED, poll=0.5, aperture=0.02,
        noise=Noise(absolute=2e-5, relative=1e-5), doc="Across the specimen.",
    )  # fmt: skip
    current = SignalR(
        float, "A", at=Field("current", "measure"), kind=Kind.HINTED, poll=0.5, aperture=0.02,
        noise=Noise(absolute=1e-10, relative=3e-5), doc="Through the specimen.",
    )  # fmt: skip
    output = SignalR(
        bool, at=Field("output", "measure"), poll=0.5, aperture=0.02, varies="in steps", doc="Whether it is on."
    )
    limited = SignalR(
        bool, at=Field("limited", "measure"), poll=0.5, aperture=0.02, varies="in steps",
        doc="Whether the compliance holds the source back.",
    )  # fmt: skip
    voltage_level = SignalRW(
        float, "V", at=Ordered(":SOUR:VOLT?", ":SOUR:VOLT {value:.7g}"), limits=(-codec.VOLTAGE, codec.VOLTAGE),
        of="voltage", supersedes=True, doc="What a voltage source is set to.",
    )  # fmt: skip
    current_level = SignalRW(
        float, "A", at=Ordered(":SOUR:CURR?", ":SOUR:CURR {value:.7g}"), limits=(-codec.CURRENT, codec.CURRENT),
        of="current", supersedes=True, doc="What a current source is set to.",
    )  # fmt: skip
    voltage_limit = SignalRW(
        float, "V", at=Ordered(":SOUR:CURR:VLIM?", ":SOUR:CURR:VLIM {value:.7g}"), limits=codec.VOLTAGE_LIMIT,
        doc="Compliance of a current source.",
    )  # fmt: skip
    current_limit = SignalRW(
        float, "A", at=Ordered(":SOUR:VOLT:ILIM?", ":SOUR:VOLT:ILIM {value:.7g}"), limits=codec.CURRENT_LIMIT,
        doc="Compliance of a voltage source.",
    )  # fmt: skip

    # ------------------------------------------------------------------ wire

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Lines(codec.TERMINATOR)

    @cached_property
    def probe(self) -> Probe:
        return naming(b"KEITHLEY")

    async def identify(self) -> str:
        found = await identified(self, "a Keithley 2450", codec.IDENTITY)
        language = (await self.ask(b"*LANG?")).reply.decode("ascii", "replace").strip()
        if language != "SCPI":
            raise WrongInstrument(
                self.name,
                f"expected a 2450 that speaks SCPI, found one that speaks {language!r}; "
                "set MENU > Settings > Command Set to SCPI and restart it",
            )
        return found

    async def measure(self) -> Answer:
        """Measure both quantities at once."""
        exchange = await self.ask(codec.READ)
        try:
            found = codec.parse_reading(exchange.reply)
        except ValueError as error:
            raise ProtocolError(
                self.name, f"{exchange.reply!r} is no reading ({error}); check the instrument's settings"
            ) from None
        return Answer(found, exchange.sent, exchange.received)

    # ------------------------------------------------------------------ sourcing

    async def step(self, mode: Mode, level: float) -> None:
        await self.tell(f"{codec.level(mode)} {level:.7g}".encode(), idempotent=True)

    async def begin(self, mode: Mode, level: float, compliance: float) -> None:
        function, other = codec.function(mode), codec.other(mode)
        await self.drain()
        present = (await self.ask(f":SOUR:FUNC?;{codec.limit(mode)}?;:OUTP?".encode())).reply.decode("ascii").split(";")
        if len(present) != 3:
            raise self.protocol_error(";".join(present).encode(), "function, limit and output")
        prepare = []
        if not present[0].strip().upper().startswith(function):
            prepare += [":OUTP OFF", f":SOUR:FUNC {function}"]
        prepare += [
            f':SENS:FUNC "{other}"',
            f":SENS:{other}:RANG:AUTO ON",
            f":SOUR:{function}:RANG:AUTO ON",
            f":SOUR:{function}:READ:BACK ON",
        ]
        set_level, set_limit = f"{codec.level(mode)} {level:.7g}", f"{codec.limit(mode)} {compliance:.7g}"
        # With the output on, neither the old level with a wider limit nor the new one without its own.
        narrower = compliance <= float(present[1])
        await self.order(*prepare, *((set_limit, set_level) if narrower else (set_level, set_limit)), ":OUTP ON")
        await self.read_back(mode, level, compliance, (codec.level(mode), codec.limit(mode)))
