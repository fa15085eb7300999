"""Harvard Apparatus Pump 11 Elite: a syringe pump, infuses or withdraws liquid, counted by the turns of its screw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

from hal.capabilities import Pump
from hal.errors import ConfigError, LimitError, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.address import Calls, Field
from hal.instrument.instrument import Instrument
from hal.model.reading import Answer, Sample
from hal.model.signal import Kind, SignalR
from hal.model.status import Status
from hal.transport.link import SerialSettings
from hal.transport.session import Exchange, Probe

from . import codec
from .codec import Reply, Running

T = TypeVar("T")

ROUNDED = 1e-3  # relative; by how much a number may come back changed


@dataclass(frozen=True, slots=True)
class Options:
    """The driver's own settings in a lab file."""

    diameter: float | None = None
    """Inner diameter of the syringe, mm; None: as it was set at the pump."""
    syringe_volume: float | None = None
    """Of the syringe, mL: no more is dispensed at once; None: as it was set at the pump."""
    direction: Literal["infuse", "withdraw"] = "infuse"


@dataclass(frozen=True, slots=True)
class Report:
    """What ``status`` brings."""

    rate: float
    state: str


class Harvard11Elite(Instrument):
    """One pump of the chain: `unit` is its address, 0 to 99 (none: 0).

    Volumes are infused minus withdrawn since the driver was opened. The pump stops by a target for its own
    counters: they are cleared before each run, and what they had counted is kept by the driver.
    """

    model = "Pump 11 Elite"
    vendor = "Harvard Apparatus"
    provides = (Pump,)
    Options = Options
    wires = ("serial", "tcp")
    line = SerialSettings(115200)  # 8N1 (flowchem; set at the pump)
    timeout = 0.5
    emulator = "devices.harvard_11_elite.emulator:Harvard11EliteEmulator"
    verified = (
        "manuals of pumps of the same language (PHD ULTRA 5419-002, Legato 100 5617-006); the open drivers flowchem "
        "1.1.6 and python-syringe-pump 0.2.1 against the emulator; unverified: the Elite's own manual, error texts"
    )

    # No scatter is declared: a stepper motor's counts are exact; rate and volume come in femtolitres or with
    # the resolution of their last digit.
    rate = SignalR(
        float, "uL/min", at=Field("rate"), kind=Kind.HINTED, poll=0.5, varies="in steps",
        doc="present rate; negative while withdrawing, 0 while it stands",
    )  # fmt: skip
    volume = SignalR(float, "uL", at=Calls("read_volume"), poll=0.5)
    state = SignalR(str, at=Field("state"), poll=0.5, varies="in steps")
    diameter = SignalR(float, "mm", at=Calls("read_diameter"), kind=Kind.CONFIG, varies="in steps")
    force = SignalR(
        float, "%", at=Calls("read_force"), kind=Kind.CONFIG, varies="in steps",
        doc="of its greatest, at which it stalls; set at the pump to what the syringe stands",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        address = 0 if self.unit is None else self.unit
        if not (isinstance(address, int) and 0 <= address <= 99):
            raise ConfigError(f"{self.name}: unit = {self.unit!r} is no address; give 0 to 99")
        wanted, volume = self.options.diameter, self.options.syringe_volume
        if wanted is not None and not codec.NARROWEST <= wanted <= codec.WIDEST:
            raise ConfigError(
                f"{self.name}: diameter = {wanted:g} mm is outside {codec.NARROWEST} to {codec.WIDEST:g} mm"
            )
        if volume is not None and not 0.0 < volume <= 140.0:
            raise ConfigError(f"{self.name}: syringe_volume = {volume:g} mL is outside 0 to 140 mL")
        if self.options.direction not in ("infuse", "withdraw"):
            raise ConfigError(f"{self.name}: direction = {self.options.direction!r}; write infuse or withdraw")
        self._address = address
        self._letter = self.options.direction[0]
        self._limits = 0.0, 0.0  # uL/min
        self._most = 0.0  # uL
        self._counted = 0.0  # uL, by counters that were cleared since
        self._counters = asyncio.Lock()  # who reads them must not meet them half cleared

    @classmethod
    def framing(cls, scheme: str) -> codec.HostEnd:
        return codec.HostEnd()

    @cached_property
    def probe(self) -> Probe:  # an answer tells whose it is, not to what
        return Probe(self._command("ver"), lambda message: self._mine(message) and b"ELITE" in message.upper())

    async def identify(self) -> str:
        # How answers end is no setting of the pump's work: it is asked for before anything else, also after a trip.
        await self._asked("poll on")
        said = (await self._asked("ver"))[0].lines
        if len(said) != 1 or "ELITE" not in said[0].upper():
            raise WrongInstrument(
                self.name, f"expected a Pump 11 Elite, found {' '.join(said)!r}; check `unit` and `link`"
            )
        if self._letter == "w" and "I/W" not in said[0].upper():
            raise ConfigError(f"{self.name}: direction = 'withdraw', but {said[0]!r} can only infuse")
        return f"Harvard {said[0]}"

    async def connected(self) -> None:
        self._limits, _ = await self._line(f"{self._letter}rate lim", codec.parse_limits, "its limits")
        self._most, _ = await self._line("svolume", lambda text: codec.parse_volume(text)[0], "a volume")

    async def prepare(self) -> None:
        try:  # else every rate is written to a memory that wears out
            await self._send("nvram none")
        except Refused:  # other firmware says "off" (python-syringe-pump)
            await self._send("nvram off")
        diameter, volume = self.options.diameter, self.options.syringe_volume
        # Refused while it pumps, as it should be: all rates would change.
        if diameter is not None and abs((await self.read_diameter()).payload - diameter) > ROUNDED * diameter:
            await self._send(f"diameter {codec.number(diameter)} mm")
        if volume is not None and abs(self._most - volume * 1e3) > ROUNDED * volume * 1e3:
            await self._send(f"svolume {codec.number(volume)} ml")
        await self.connected()

    # ------------------------------------------------------------------ verbs

    def run(self, rate: float) -> Status[None]:
        """Pump at `rate` (uL/min) until stopped; done when it runs. One that pumps already stops in between."""
        self._check_rate(rate)
        return self.start(f"run at {rate:g} uL/min", self._begin(rate, None), on_cancel=self._stop)

    def dispense(self, volume: float, rate: float) -> Status[None]:
        """Pump `volume` (uL) at `rate` (uL/min); done when it is out. Ended early, it stops."""
        self._check_rate(rate)
        if not 0.0 < volume <= self._most:
            raise LimitError(
                f"{self.name}.volume = {volume:g} uL is outside 0 to {self._most:g} uL, which the syringe holds; "
                "nothing was sent. Change the volume, or the syringe and `syringe_volume`."
            )
        return self.start(
            f"dispense {volume:g} uL at {rate:g} uL/min", self._dispense(volume, rate), on_cancel=self._stop
        )

    def stop(self, *, success: bool = True) -> Status[Any]:
        """Stop; sent whatever the pump is thought to be doing."""
        return self.start("stop", self._stop())

    async def make_safe(self) -> None:
        reply = await self._send("stp")
        if reply.prompt in codec.MOVING:
            raise Refused(
                self.name, f"stp was answered, and it is {codec.PROMPTS[reply.prompt]}; switch it off by hand"
            )

    # ------------------------------------------------------------------ what the signals call

    async def report(self) -> Answer:
        """Rate and state."""
        running, exchange = await self._line("status", Running.decode, "a status")
        rate = 0.0 if not running.moving else -running.rate if running.withdrawing else running.rate
        return Answer(Report(rate, codec.PROMPTS[running.prompt]), exchange.sent, exchange.received)

    async def read_volume(self) -> Answer:
        async with self._counters:
            return await self._read_volume()

    async def read_diameter(self) -> Answer:
        diameter, exchange = await self._line("diameter", _before("mm"), "a diameter")
        return Answer(diameter, exchange.sent, exchange.received)

    async def read_force(self) -> Answer:
        force, exchange = await self._line("force", _before("%"), "a percentage")
        return Answer(force, exchange.sent, exchange.received)

    # ------------------------------------------------------------------ private

    async def _read_volume(self) -> Answer:
        volumes, first, last = [], 0, 0
        for letter in "iw":
            found, exchange = await self._line(f"{letter}volume", _volume, "a volume")
            volumes.append(found)
            first, last = first or exchange.sent, exchange.received
        (infused, fine), (withdrawn, also_fine) = volumes
        resolution = (fine**2 + also_fine**2 * (withdrawn > 0)) ** 0.5
        sample = Sample(self._counted + infused - withdrawn, uncertainty=resolution / 12**0.5)
        return Answer(sample, first, last)

    def _check_rate(self, rate: float) -> None:
        slowest, fastest = self._limits
        if not slowest <= rate <= fastest:
            raise LimitError(
                f"{self.name}.rate = {rate:g} uL/min is outside {slowest:.4g} to {fastest:.6g} uL/min for its syringe; "
                "nothing was sent. Change the rate, or the syringe and `diameter`."
            )

    async def _begin(self, rate: float, volume: float | None) -> None:
        """Counters, settings, a look at what was taken, and run."""
        await self.make_safe()
        async with self._counters:
            counted: Sample[float] = (await self._read_volume()).payload
            await self._send("cvolume")
            self._counted = counted.value or 0.0
        await self._send("cttime")
        await self._send("ctvolume")
        await self._send(f"{self._letter}rate {codec.rate_text(rate)}")
        await self._took(f"{self._letter}rate", rate, lambda text: codec.parse_rate(text)[0])
        if volume is not None:
            await self._send(f"tvolume {codec.volume_text(volume)}")
            await self._took("tvolume", volume, lambda text: codec.parse_volume(text)[0])
        reply = await self._send(f"{self._letter}run", idempotent=False)
        going = codec.INFUSING if self._letter == "i" else codec.WITHDRAWING
        if reply.prompt not in (going, codec.TARGET if volume is not None else going):
            raise Refused(
                self.name, f"{self._letter}run was answered, and it is {codec.PROMPTS[reply.prompt]}; look at the pump"
            )

    async def _took(self, what: str, value: float, parse: Callable[[str], float]) -> None:
        taken, _ = await self._line(what, parse, "a number")
        if abs(taken - value) > ROUNDED * value:
            raise Refused(self.name, f"{what} was set to {value:g} and reads back {taken:g}; is the keypad in use?")

    async def _dispense(self, volume: float, rate: float) -> None:
        await self._begin(rate, volume)
        moving = [codec.PROMPTS[prompt] for prompt in codec.MOVING]
        async for _ in self.until(self.state, lambda state: state not in moving):
            pass
        reading = await self.volume.read()
        out = abs((reading.value or 0.0) - self._counted)
        if volume - out > volume * ROUNDED + 4 * (reading.uncertainty or 0.0):
            state = await self.state.get()
            raise Refused(
                self.name,
                f"it stopped after {out:g} of {volume:g} uL and is {state}; "
                "was it stopped by hand or switched off, is the line blocked or the syringe empty?",
            )

    async def _stop(self) -> None:
        with acting(Purpose.STOP):
            await self.make_safe()

    async def _line(self, text: str, parse: Callable[[str], T], what: str) -> tuple[T, Exchange]:
        """What `parse` makes of the one line that answers. Raises `ProtocolError`, `Refused`."""
        reply, exchange = await self._asked(text)
        try:
            (line,) = reply.lines
            return parse(line.strip()), exchange
        except ValueError:
            raise self.protocol_error(exchange.reply, what) from None

    async def _asked(self, text: str) -> tuple[Reply, Exchange]:
        exchange = await self.ask(self._command(text), matches=self._mine)
        return self._content(exchange, text), exchange

    async def _send(self, text: str, *, idempotent: bool = True) -> Reply:
        exchange = await self.command(self._command(text), idempotent=idempotent, matches=self._mine)
        return self._content(exchange, text)

    def _command(self, text: str) -> bytes:
        return f"{self._address:02d}{text}".encode("ascii")

    def _mine(self, message: bytes) -> bool:
        try:
            return Reply.decode(message).address == self._address
        except ValueError:
            return False

    def _content(self, exchange: Exchange, what: str) -> Reply:
        """The reply, if it is one to be content with. Raises `Refused`."""
        reply = Reply.decode(exchange.reply)
        if reply.error:
            raise Refused(self.name, f"{what!r} was refused: {reply.error}; is it pumping, or in another mode?")
        return reply


def _volume(text: str) -> tuple[float, float]:
    """uL, and the uL of its last digit."""
    value, unit = codec.parse_volume(text)
    return value, 1e-4 * codec.VOLUMES[unit]


def _before(unit: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not text.endswith(unit):
            raise ValueError(f"{text!r} does not end with {unit}")
        return float(text.removesuffix(unit))

    return parse
