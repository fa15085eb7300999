"""New Era NE-1000 syringe pump: infuses or withdraws liquid, counted by the turns of its screw."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

from hal.capabilities import Pump
from hal.errors import ConfigError, HalError, LimitError, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.address import Calls, Field
from hal.instrument.instrument import Instrument
from hal.model.reading import Answer, Quality, Sample
from hal.model.signal import Kind, SignalR
from hal.model.status import Status
from hal.transport.link import SerialSettings
from hal.transport.session import Exchange, Probe

from . import codec
from .codec import Quantity, Reply

T = TypeVar("T")

ROUNDED = 1e-3  # relative; by how much a number may come back changed


@dataclass(frozen=True, slots=True)
class Options:
    """The driver's own settings in a lab file."""

    diameter: float | None = None
    """Inner diameter of the syringe, mm; None: as it was set at the pump."""
    direction: Literal["infuse", "withdraw"] = "infuse"
    watchdog: int = 0
    """s without a word from the program after which the pump stops by itself (its Safe mode); 0: never."""


@dataclass(frozen=True, slots=True)
class Dispensed:
    """What DIS brings."""

    volume: Sample[float]
    state: str


class Ne1000(Instrument):
    """One pump of the network: `unit` is its address, 0 to 99 (none: 0).

    The pump takes four digits: what can't be told so to half a part in a thousand is refused, and
    what is recorded is what the pump says it took. Volumes are infused minus withdrawn since its
    counters were cleared.
    """

    model = "NE-1000"
    vendor = "New Era"
    provides = (Pump,)
    Options = Options
    wires = ("serial", "tcp")
    line = SerialSettings(19200)  # 8N1 (manual, section 10.1)
    timeout = 0.3
    emulator = "devices.ne1000.emulator:Ne1000Emulator"
    verified = (
        "manual 1200-01, sections 10.2 to 10.4; the open drivers nesp-lib and labmcp-new-era 0.1.2, and in part "
        "new-era 2.2.3 (for an NE-9000), against the emulator"
    )

    # No scatter is declared: a stepper motor's counts are exact, and each reading carries its own resolution.
    rate = SignalR(
        float, "uL/min", at=Calls("read_rate"), kind=Kind.HINTED, poll=0.5, varies="in steps",
        doc="present rate; negative while withdrawing, 0 while it stands",
    )  # fmt: skip
    volume = SignalR(float, "uL", at=Field("volume"), poll=0.5)
    state = SignalR(str, at=Field("state"), poll=0.5, varies="in steps")
    diameter = SignalR(float, "mm", at=Calls("read_diameter"), kind=Kind.CONFIG, varies="in steps")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        address = 0 if self.unit is None else self.unit
        if not (isinstance(address, int) and 0 <= address <= 99):
            raise ConfigError(f"{self.name}: unit = {self.unit!r} is no address; give 0 to 99")
        wanted = self.options.diameter
        if wanted is not None and not codec.NARROWEST <= wanted <= codec.WIDEST:
            raise ConfigError(
                f"{self.name}: diameter = {wanted:g} mm is outside {codec.NARROWEST} to {codec.WIDEST:g} mm"
            )
        if not 0 <= self.options.watchdog <= 255:
            raise ConfigError(f"{self.name}: watchdog = {self.options.watchdog} s is outside 0 to 255 s")
        if self.options.direction not in ("infuse", "withdraw"):
            raise ConfigError(f"{self.name}: direction = {self.options.direction!r}; write infuse or withdraw")
        self._address = address
        self._diameter = 0.0

    @classmethod
    def framing(cls, scheme: str) -> codec.HostEnd:
        return codec.HostEnd()

    @cached_property
    def probe(self) -> Probe:
        def recognises(reply: bytes) -> bool:
            return reply.startswith(b"%02d" % self._address) and b"NE" in reply

        return Probe(self._command("VER"), recognises, aside=self._note_alarm)

    async def identify(self) -> str:
        try:
            said = (await self._question("VER")).data
        except Refused:  # the alarm of having been switched on; now it is acknowledged
            said = (await self._question("VER")).data
        if not said.startswith("NE"):
            raise WrongInstrument(
                self.name, f"expected a New Era pump, found {said!r}; check `unit` and `link` in the lab file"
            )
        return f"New Era {said.replace('V', ', firmware ', 1)}"

    async def connected(self) -> None:
        self._diameter = (await self.read_diameter()).payload

    async def prepare(self) -> None:
        wanted = self.options.diameter
        if wanted is not None and abs(self._diameter - wanted) > codec.ROUNDING * wanted:
            # Refused while it pumps, as it should be: all rates would change.
            await self._send(f"DIA{codec.number(wanted).rstrip('.')}")
            self._diameter = (await self.read_diameter()).payload
        if self.options.watchdog:
            await self._send(f"SAF{self.options.watchdog}")
            self.state.subscribe(_heard)  # the shared poll keeps the watchdog quiet

    async def disconnecting(self) -> None:
        if self.options.watchdog:
            self.state.unsubscribe(_heard)
            with suppress(HalError):  # else it stops when the time is up, which is what it is for
                await self._send("SAF0")

    # ------------------------------------------------------------------ verbs

    def run(self, rate: float) -> Status[None]:
        """Pump at `rate` (uL/min) until stopped; done when it runs. One that pumps already stops in between."""
        setting = self._checked_rate(rate)
        return self.start(f"run at {rate:g} uL/min", self._begin(setting, None), on_cancel=self._stop)

    def dispense(self, volume: float, rate: float) -> Status[None]:
        """Pump `volume` (uL) at `rate` (uL/min); done when it is out. Ended early, it stops."""
        setting, amount = self._checked_rate(rate), self._checked_volume(volume)
        return self.start(
            f"dispense {volume:g} uL at {rate:g} uL/min", self._dispense(amount, setting), on_cancel=self._stop
        )

    def stop(self, *, success: bool = True) -> Status[Any]:
        """Stop; sent whatever the pump is thought to be doing."""
        return self.start("stop", self._stop())

    async def make_safe(self) -> None:
        # The first STP stops (pauses) it, the second forgets what was left to pump.
        reply = Reply(self._address)
        for _ in range(4):
            reply = await self._told(await self.command(self._command("STP"), idempotent=True))
            if reply.status == codec.STOPPED:
                return
        raise Refused(
            self.name,
            f"STP was sent four times and its state is {codec.STATES.get(reply.status) or codec.ALARMS[reply.alarm]}; "
            "switch it off by hand",
        )

    # ------------------------------------------------------------------ what the signals call

    async def read_rate(self) -> Answer:
        reply, exchange = await self._asked("RAT")
        rate = self._meant(exchange.reply, "a rate", lambda: codec.parse_quantity(reply.data, codec.RATES))
        sign = {codec.INFUSING: 1.0, codec.WITHDRAWING: -1.0}.get(reply.status, 0.0)
        sample = Sample(sign * rate.value, uncertainty=abs(sign) * rate.resolution / 12**0.5)
        if reply.status == codec.PURGING:
            sample = Sample(None, Quality.BAD, "it purges, at a rate it does not tell")
        return Answer(sample, exchange.sent, exchange.received)

    async def report(self) -> Answer:
        """Volume and state."""
        reply, exchange = await self._asked("DIS")
        infused, withdrawn = self._meant(exchange.reply, "two volumes", lambda: codec.parse_dispensed(reply.data))
        resolution = (infused.resolution**2 + withdrawn.resolution**2 * (withdrawn.value > 0)) ** 0.5
        volume = Sample(infused.value - withdrawn.value, uncertainty=resolution / 12**0.5)
        return Answer(Dispensed(volume, codec.STATES[reply.status]), exchange.sent, exchange.received)

    async def read_diameter(self) -> Answer:
        reply, exchange = await self._asked("DIA")
        diameter = self._meant(exchange.reply, "a diameter", lambda: float(reply.data))
        return Answer(diameter, exchange.sent, exchange.received)

    # ------------------------------------------------------------------ private

    def _checked_rate(self, rate: float) -> Quantity:
        slowest, fastest = (speed * codec.area(self._diameter) for speed in (codec.SLOWEST, codec.FASTEST))
        if not slowest <= rate <= fastest:
            raise LimitError(
                f"{self.name}.rate = {rate:g} uL/min is outside {slowest:.3g} to {fastest:.4g} uL/min for a syringe of "
                f"{self._diameter:g} mm; nothing was sent. Change the rate, or the syringe and `diameter`."
            )
        try:
            return codec.quantity(rate, codec.RATES)
        except ValueError as error:
            raise LimitError(f"{self.name}.rate: {error}; nothing was sent. Give a rounder number.") from None

    def _checked_volume(self, volume: float) -> Quantity:
        if not 0.0 < volume < float("inf"):
            raise LimitError(f"{self.name}.volume = {volume:g} uL is not above 0; nothing was sent.")
        try:
            return codec.quantity(volume, codec.VOLUMES)
        except ValueError as error:
            raise LimitError(f"{self.name}.volume: {error}; nothing was sent. Give a rounder number.") from None

    async def _begin(self, rate: Quantity, volume: Quantity | None) -> None:
        """Settings, a look at what was taken, and RUN."""
        await self.make_safe()
        await self._forget_program()
        # In mL where the counter would otherwise run over in minutes.
        unit = volume.unit if volume is not None else "ML" if rate.value >= 1000.0 else "UL"
        await self._send(f"VOL{unit}")
        await self._send(f"VOL{volume.text if volume is not None else '0'}")
        await self._send(f"RAT{rate.text}{rate.unit}")
        await self._send("DIRINF" if self.options.direction == "infuse" else "DIRWDR")
        await self._took("RAT", rate.value, codec.RATES)
        await self._took("VOL", volume.value if volume is not None else 0.0, codec.VOLUMES)
        reply = await self._send("RUN", idempotent=False)
        if reply.status not in codec.PUMPING:
            raise Refused(self.name, f"RUN was acknowledged and it is {codec.STATES[reply.status]}; look at the pump")

    async def _forget_program(self) -> None:
        """Only one phase: a program that somebody left in it would go on, at its own rate, when ours is done."""
        try:
            await self._send("PHN1")
        except Refused:  # a pump of the family that has no programs
            return
        for text in ("FUNRAT", "PHN2", "FUNSTP", "PHN1"):
            await self._send(text)

    async def _took(self, what: str, value: float, units: dict[str, float]) -> None:
        reply, exchange = await self._asked(what)
        taken = self._meant(exchange.reply, "a number", lambda: codec.parse_quantity(reply.data, units)).value
        if abs(taken - value) > ROUNDED * value:
            raise Refused(self.name, f"{what} was set to {value:g} and reads back {taken:g}; is the keypad in use?")

    async def _dispense(self, volume: Quantity, rate: Quantity) -> None:
        before = await self.volume.get()
        await self._begin(rate, volume)
        pumping = [codec.STATES[status] for status in codec.PUMPING]
        async for _ in self.until(self.state, lambda state: state not in pumping):
            pass
        reading = await self.volume.read()
        out = abs((reading.value or 0.0) - before)
        short = volume.value - out
        # Both readings are rounded, each to its last digit.
        if short > volume.value * 1e-3 + 4 * (reading.uncertainty or 0.0) + volume.resolution:
            raise Refused(
                self.name,
                f"it stopped after {out:g} of {volume.value:g} uL; was it stopped by hand, stalled or switched off?",
            )

    async def _stop(self) -> None:
        with acting(Purpose.STOP):
            await self.make_safe()

    def _command(self, text: str) -> bytes:
        return f"{self._address}{text}".encode("ascii")

    async def _question(self, text: str) -> Reply:
        return (await self._asked(text))[0]

    async def _asked(self, text: str) -> tuple[Reply, Exchange]:
        exchange = await self.ask(self._command(text))
        return self._understood(await self._told(exchange), exchange.reply, text), exchange

    async def _send(self, text: str, *, idempotent: bool = True) -> Reply:
        exchange = await self.command(self._command(text), idempotent=idempotent)
        return self._understood(await self._told(exchange), exchange.reply, text)

    async def _told(self, exchange: Exchange) -> Reply:
        """The reply, whatever it says."""
        try:
            reply = Reply.decode(exchange.reply)
        except ValueError:
            raise self.protocol_error(exchange.reply, "a status") from None
        if reply.alarm:
            self._note(reply.alarm)
            if self.options.watchdog:  # in Safe mode it may have come unasked, and the reply proper is still to come
                await self.ask(self._command("VER"), matches=lambda message: b"NE" in message)
        return reply

    def _note(self, alarm: str) -> None:
        kind = "note" if alarm == "R" else "error"  # it was switched on: nothing is wrong
        self.context.journal.note(kind, self.name, f"alarm {alarm}: {codec.ALARMS[alarm]}")

    def _note_alarm(self, message: bytes) -> None:
        """What it says instead of an answer: an alarm is told once, whatever was asked."""
        with suppress(ValueError):
            reply = Reply.decode(message)
            if reply.address == self._address and reply.alarm:
                self._note(reply.alarm)

    def _meant(self, message: bytes, what: str, parse: Callable[[], T]) -> T:
        """What `parse` makes of a reply. Raises `ProtocolError`."""
        try:
            return parse()
        except ValueError:
            raise self.protocol_error(message, what) from None

    def _understood(self, reply: Reply, message: bytes, what: str) -> Reply:
        """The reply, if it is one to be content with. Raises `ProtocolError`, `Refused`."""
        if reply.address != self._address:
            raise self.protocol_error(message, f"a reply of pump {self._address}")
        if reply.alarm:  # having been told, it is acknowledged; what was asked was not done
            raise Refused(
                self.name, f"alarm {reply.alarm}: {codec.ALARMS[reply.alarm]}; see to it, then begin {what} again"
            )
        if reply.error is not None:
            meaning = codec.ERRORS.get(reply.error, "see the manual, section 10.3")
            raise Refused(self.name, f"{what} was refused (?{reply.error}): {meaning}")
        return reply


def _heard(reading: object) -> None:
    """Somebody has to listen for the poll to run."""
