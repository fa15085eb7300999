"""SRS RGA100, RGA200, RGA300: a quadrupole that tells which gases there are in the column or behind the cell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hal.capabilities import GasAnalyser
from hal.errors import ConfigError, LimitError, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.address import Calls, Scpi
from hal.instrument.instrument import Instrument
from hal.model.capabilities import MassSpectrum
from hal.model.reading import Answer, Noise, Quality, Sample
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.transport.link import SerialSettings
from hal.transport.session import Exchange, Probe

from . import codec, ethernet

HEATS_WITHIN = 15.0  # s, for what is answered after a check of the hardware
SPARE = 10.0  # s beyond twice the time of a scan
BURNS = 0.015  # mA of emission that is none: it is told to 0.02 mA (6-35)


@dataclass(frozen=True, slots=True)
class Options:
    """The driver's own settings in a lab file."""

    emission: float = 1.0
    """mA of the filament when it is on."""
    steps: int = 0
    """Currents per amu of a scan, 10 to 25; 0: one current for each whole mass."""
    user: str = ""
    """Of the analyzer's own Ethernet port (818); empty: there is nothing to log in to, as behind a serial server."""
    password: str = ""
    """Where its password is: ``env:NAME``."""


def _whole(text: str) -> int:
    return int(float(text))


class SrsRga(Instrument):
    """One analyzer: reads pressure while its filament is on, and scans.

    A scan holds the line until it is over: any command would stop it. Pressures are as if all were
    nitrogen, by the sensitivities that the analyzer keeps (found at the emission it was calibrated with).
    """

    model = "RGA100, RGA200, RGA300"
    vendor = "Stanford Research Systems"
    provides = (GasAnalyser,)
    Options = Options
    wires = ("serial", "tcp")
    line = SerialSettings(28800, rtscts=True)  # 8N1 (6-5; D)
    timeout = 3.0
    emulator = "devices.srs_rga.emulator:SrsRgaEmulator"
    verified = (
        "manual, chapter 6; its emulator by SRS's own package srsinst.rga 0.3.9, with and without a login, by "
        "labmcp-srs-rga 0.1 and pyrga 0.0.3. Not by an instrument. Unverified: times of scans (as ruediPy measured "
        "them), noise"
    )

    pressure = SignalR(
        float, "Pa", at=Calls("read_pressure"), kind=Kind.HINTED, aperture=0.2,
        noise=Noise(relative=0.01),  # unverified: the manual gives none
        doc="total, as if all were nitrogen; none while the filament is off",
    )  # fmt: skip
    filament = SignalRW(
        bool, at=Calls("read_filament", "write_filament"), kind=Kind.NORMAL, poll=1.0,
        doc="whether it is on; set, it is done when the emission is reached",
    )  # fmt: skip
    emission = SignalR(float, "mA", at=Scpi("FL?"), noise=Noise(absolute=0.01))
    problem = SignalR(
        str, at=Calls("read_problem"), poll=2.0, varies="in steps", doc="what its own checks find; empty: nothing"
    )
    multiplier = SignalRW(
        int, "V", at=Calls("read_multiplier", "write_multiplier"), limits=(0, codec.HIGH_VOLTAGE),
        doc="of the electron multiplier; 0: the Faraday cup measures",
    )  # fmt: skip
    noise_floor = SignalRW(
        int, at=Scpi("NF?", "NF{value}", parse=_whole), limits=(codec.SLOWEST, codec.FASTEST),
        doc="0: slow with little noise, 7: fast with much",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        low, high = codec.EMISSION
        if not low <= self.options.emission <= high:
            raise ConfigError(f"{self.name}: emission = {self.options.emission:g} mA is outside {low:g} to {high:g} mA")
        if self.options.steps and not codec.STEPS[0] <= self.options.steps <= codec.STEPS[1]:
            raise ConfigError(f"{self.name}: steps = {self.options.steps} is neither 0 nor within 10 to 25 per amu")
        if bool(self.options.user) != bool(self.options.password):
            raise ConfigError(f"{self.name}: `user` and `password` belong together")
        if self.options.password and not self.options.password.startswith("env:"):
            raise ConfigError(f'{self.name}: its password is for whoever reads this file; write password = "env:NAME"')
        self._masses = 0
        self._has_multiplier = False

    @classmethod
    def framing(cls, scheme: str) -> codec.HostEnd:
        return codec.HostEnd()

    @cached_property
    def probe(self) -> Probe:
        return Probe(b"ID?", lambda message: b"SRSRGA" in message)

    async def identify(self) -> str:
        if self.options.user:
            await self._log_in()
        # After a login more may come than the word that was waited for.
        known = (lambda message: b"SRSRGA" in message) if self.options.user else None
        said = (await self.ask(b"ID?", matches=known)).reply.decode("latin-1")
        match = codec.IDENTITY.search(said)
        if match is None or int(match[1]) not in codec.MASSES:
            raise WrongInstrument(self.name, f"expected an SRS RGA, found {said!r}; check `link` in the lab file")
        self._masses = int(match[1])
        return f"SRS RGA{match[1]}, number {match[3]}, firmware {match[2]}"

    async def connected(self) -> None:
        self._has_multiplier = (await self._asked("MO?"))[0] != 0.0

    # ------------------------------------------------------------------ verbs

    def scan(self, first: float, last: float) -> Status[MassSpectrum]:
        """Scan from `first` to `last` (m/z, whole numbers), at `noise_floor`. The filament must be on."""
        for mass in (first, last):
            if mass != int(mass) or not 1 <= mass <= self._masses:
                raise LimitError(
                    f"{self.name}: {mass:g} is no whole mass from 1 to {self._masses} amu; nothing was sent"
                )
        if not first < last:
            raise LimitError(f"{self.name}: a scan from {first:g} to {last:g} amu goes nowhere; nothing was sent")
        return self.start(f"scan {first:g} to {last:g}", self._scan(int(first), int(last)), on_cancel=self._quit)

    def off(self) -> Status[None]:
        """Filament off."""
        return self.start("filament off", self.make_safe())

    def stop(self, *, success: bool = True) -> Status[Any]:
        """End a scan; the filament stays as it is."""
        return self.start("stop", self._quit())

    async def make_safe(self) -> None:
        # In a scan, what was measured may still come before the answer.
        await self.command(b"FL0", timeout=HEATS_WITHIN, idempotent=True, matches=lambda m: m[-1:].isdigit())
        emission, _ = await self._asked("FL?")
        if emission > BURNS:
            raise Refused(self.name, f"FL0 was taken and it still emits {emission:g} mA; switch it off by hand")

    # ------------------------------------------------------------------ what the signals call

    async def read_pressure(self) -> Answer:
        emission, exchange = await self._asked("FL?")
        if emission <= BURNS:
            return Answer(Sample(None, Quality.BAD, "the filament is off"), exchange.sent, exchange.received)
        sensitivity, _ = await self._asked("ST?")
        exchange = await self.ask(codec.bringing(b"TP?", 1))
        current = float(codec.currents(exchange.reply)[0])
        if current == 0.0:  # which is how it says that it was not to measure
            sample: Sample[float] = Sample(None, Quality.BAD, "it measures no total while the multiplier is on")
        else:
            sample = Sample(current * codec.pascal_per_ampere(sensitivity))
        return Answer(sample, exchange.sent, exchange.received)

    async def read_filament(self) -> Answer:
        emission, exchange = await self._asked("FL?")
        return Answer(emission > BURNS, exchange.sent, exchange.received)

    async def write_filament(self, value: bool) -> None:
        if value:
            await self._checked(f"FL{self.options.emission:.2f}", codec.FILAMENT)
        else:
            await self.make_safe()

    async def read_problem(self) -> Answer:
        status, exchange = await self._asked("ER?")
        found = [part for bit, part in codec.PARTS.items() if int(status) & bit]
        return Answer(", ".join(found), exchange.sent, exchange.received)

    async def read_multiplier(self) -> Answer:
        if not self._has_multiplier:
            now = self.context.timebase.now()
            return Answer(Sample(None, Quality.BAD, "it has no electron multiplier"), now, now)
        volts, exchange = await self._asked("HV?")
        return Answer(round(volts), exchange.sent, exchange.received)

    async def write_multiplier(self, value: int) -> None:
        if not self._has_multiplier:
            raise Refused(self.name, "it has no electron multiplier; nothing was sent")
        await self._checked(f"HV{value}", codec.MULTIPLIER)

    # ------------------------------------------------------------------ private

    async def _log_in(self) -> None:
        variable = self.options.password.removeprefix("env:")
        password = os.environ.get(variable)
        if password is None:
            raise ConfigError(f"{self.name}: there is no environment variable {variable} with its password; set it")
        await self.ask(codec.prompting(b" ", ethernet.NAME))
        user = self.options.user.encode()
        await self.ask(codec.prompting(user, ethernet.PASSWORD), repeatable=False)
        welcome = codec.prompting(password.encode(), ethernet.WELCOME, ethernet.NAME)
        if (await self.ask(welcome, repeatable=False)).reply != ethernet.WELCOME:
            raise Refused(self.name, f"it does not let {self.options.user!r} in; check `user` and {variable}")

    async def _scan(self, first: int, last: int) -> MassSpectrum:
        if not (await self.read_filament()).payload:
            raise Refused(self.name, "its filament is off; set `filament` first")
        steps = self.options.steps
        count = codec.points(first, last, steps)
        for setting in (f"MF{self._masses}", f"MI{first}", f"MF{last}", *([f"SA{steps}"] if steps else [])):
            await self.tell(setting.encode("ascii"), idempotent=True)  # the first must never exceed the last
        taken, _ = await self._asked("AP?" if steps else "HP?")
        if taken != count:
            raise Refused(
                self.name, f"a scan of {count} currents was set and it would give {taken:g}; who sets it too?"
            )
        sensitivity, _ = await self._asked("SP?")
        gain = await self._gain()
        took = count * codec.GATES[int((await self._asked("NF?"))[0])]
        command = codec.bringing(b"SC1" if steps else b"HS1", count + 1)  # the last is the total
        exchange = await self.ask(command, timeout=2 * took + SPARE, repeatable=False)
        currents = codec.currents(exchange.reply)[:-1]
        middle = (exchange.sent + exchange.received) // 2
        pressures = currents * codec.pascal_per_ampere(sensitivity) / gain
        return MassSpectrum(codec.masses(first, last, steps), pressures, middle, exchange.received - middle)

    async def _gain(self) -> float:
        """Of the multiplier; 1 for the Faraday cup."""
        if not (self._has_multiplier and (await self._asked("HV?"))[0] > 0.0):
            return 1.0
        return max((await self._asked("MG?"))[0] * 1000, 1.0)

    async def _quit(self) -> None:
        with acting(Purpose.STOP):
            await self.tell(b"HS0", idempotent=True)  # does nothing but end what is under way (6-46)

    async def _checked(self, command: str, part: int) -> None:
        """Send what is answered with STATUS after a check of the hardware. Raises `Refused`."""
        exchange = await self.command(command.encode("ascii"), timeout=HEATS_WITHIN, idempotent=True)
        if int(self._number(exchange)) & part:
            bits, _ = await self._asked(codec.ERROR_BYTES[part] + "?")
            raise Refused(
                self.name, f"{command} failed, {codec.PARTS[part]}: {codec.described(part, int(bits))}; look at it"
            )

    async def _asked(self, question: str) -> tuple[float, Exchange]:
        exchange = await self.ask(question.encode("ascii"))
        return self._number(exchange), exchange

    def _number(self, exchange: Exchange) -> float:
        try:
            return float(exchange.reply)
        except ValueError:
            raise self.protocol_error(exchange.reply, "a number") from None
