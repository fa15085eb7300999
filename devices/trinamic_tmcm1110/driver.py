"""Trinamic TMCM-1110: a stepper motor with a screw, such as the stage of a holder, a shutter or a valve."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any, ClassVar

from hal.capabilities import Motor
from hal.errors import ConfigError, NoReply, Refused, WrongInstrument
from hal.gate import Purpose, acting
from hal.instrument.address import Calls
from hal.instrument.instrument import Instrument
from hal.model.limits import Limits
from hal.model.reading import Answer, Sample
from hal.model.signal import Kind, SignalR, SignalRW
from hal.model.status import Status
from hal.transport.link import SerialSettings
from hal.transport.session import Exchange, Probe

from . import codec
from .codec import Command, Reply

MODEL = "1110"  # how its version begins
HOMED = 0x484F4D45  # in a user variable that a power cut clears: then its counter means nothing any more
STUCK = 1.0  # s in one place before its target
LOOKING = 0.1  # s between looks at a stop or a search
STOPS_WITHIN = 5.0  # s


@dataclass(frozen=True, slots=True)
class Options:
    """The driver's own settings in a lab file."""

    pitch: float
    """mm per turn of the motor; negative if it is to count the other way."""
    travel: tuple[float, float]
    """Lowest and highest position, mm."""
    steps: int = codec.FULL_STEPS
    """Full steps per turn of the motor."""
    reference_search: int = 0
    """How `home` finds position 0: the module's reference search mode (1: left limit switch); 0: it has no switches."""


class TrinamicTmcm1110(Instrument):
    """One module: `unit` is its address, 1 to 255 (none: 1). Only its own motor, number 0.

    Positions are counted from where it was switched on, or from where `home` found its switch. With
    a `reference_search`, moves are refused until it has been homed since it was switched on.
    """

    model = "TMCM-1110"
    vendor = "Trinamic"
    provides = (Motor,)
    Options = Options
    wires = ("serial", "tcp")
    line = SerialSettings(9600)  # 8N1, as delivered (manual, section 5.1, parameter 65); USB takes any
    timeout = 0.5
    emulator = "devices.trinamic_tmcm1110.emulator:Tmcm1110Emulator"
    asks_with: ClassVar = {"pitch": 1.0, "travel": (-1.0, 1.0)}
    verified = (
        "TMCL firmware manual V1.09 in parts, manuals of modules with the same motion controller; its emulator by "
        "Trinamic's own PyTrinamic 0.2.26, programs included, and by pytmcl 1.0. Not by an instrument. Unverified: "
        "factory settings, modes of the search"
    )

    position = SignalR(
        float, "mm", at=Calls("read_position"), kind=Kind.HINTED, poll=0.1,
        doc="as counted in microsteps; lost steps go unnoticed",
    )  # fmt: skip
    target = SignalRW(
        float, "mm", at=Calls("read_target", "write_target"), of="position", supersedes=True, poll=1.0,
        doc="where it goes; done when it was told, `move` when it is there",
    )  # fmt: skip
    speed = SignalRW(float, "mm/s", at=Calls("read_speed", "write_speed"), doc="of the next moves")
    homed = SignalR(bool, at=Calls("read_homed"), varies="in steps", doc="since it was switched on, by `home`")
    searching = SignalR(bool, at=Calls("read_searching"), poll=LOOKING, varies="in steps", doc="for its switches")
    left_switch = SignalR(bool, at=Calls("read_left_switch"), varies="in steps")
    right_switch = SignalR(bool, at=Calls("read_right_switch"), varies="in steps")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        address = 1 if self.unit is None else self.unit
        if not (isinstance(address, int) and 1 <= address <= 255):
            raise ConfigError(f"{self.name}: unit = {self.unit!r} is no address; give 1 to 255")
        pitch, (low, high) = self.options.pitch, self.options.travel
        if not isfinite(pitch) or pitch == 0.0:
            raise ConfigError(f"{self.name}: pitch = {pitch:g} mm is no pitch; give mm per turn of the motor")
        if not (isfinite(low) and isfinite(high) and low < high):
            raise ConfigError(f"{self.name}: travel = [{low:g}, {high:g}] mm is no travel; give the lower end first")
        if self.options.steps < 1:
            raise ConfigError(f"{self.name}: steps = {self.options.steps}; give full steps per turn, 200 for 1.8 deg")
        if not 0 <= self.options.reference_search <= 255:
            raise ConfigError(f"{self.name}: reference_search = {self.options.reference_search} is outside 0 to 255")
        self._address = address
        self._per_mm = 0.0
        """Microsteps; signed."""
        self._pulse_divisor = 0
        self.target.narrow(Limits(low, high), "`travel` in the lab file")

    @classmethod
    def framing(cls, scheme: str) -> codec.HostEnd:
        return codec.HostEnd()

    @property
    def limits_of_travel(self) -> Limits:
        """Lowest and highest position that may be asked for, mm."""
        return self.target.limits

    @cached_property
    def probe(self) -> Probe:  # a reply names its command, not its parameter
        return Probe(self._message(codec.VERSION, 1), self._of(codec.VERSION))

    async def identify(self) -> str:
        exchange = await self.ask(self._message(codec.VERSION), matches=lambda m: len(m) == codec.SIZE)
        text = exchange.reply[1:].decode("ascii", "replace")
        if not text.startswith(MODEL):
            raise WrongInstrument(
                self.name, f"expected a TMCM-1110, found {text!r}; check `link` and `unit` in the lab file"
            )
        return f"Trinamic TMCM-{text[:4]}, firmware {text[4:]}"

    async def connected(self) -> None:
        microsteps = 2 ** await self._get(codec.MICROSTEPS)
        self._pulse_divisor = await self._get(codec.PULSE_DIVISOR)
        self._per_mm = microsteps * self.options.steps / self.options.pitch
        slowest = self._mm_per_s(1)
        self.speed.narrow(Limits(slowest, self._mm_per_s(codec.FASTEST)), "its pulse divisor")
        low, high = self.options.travel
        if max(abs(low), abs(high)) * abs(self._per_mm) >= 2**31:
            raise ConfigError(f"{self.name}: travel = [{low:g}, {high:g}] mm is more than its counter holds")

    # ------------------------------------------------------------------ verbs

    def move(self, to: float) -> Status[None]:
        """Go to `to` (mm) at `speed`; ended early, it stops."""
        to = self.target.check(to)
        return self.start(f"move to {to:g} mm", self._move(to), on_cancel=self._stop)

    def stop(self, *, success: bool = True) -> Status[Any]:
        """Brake and stand; sent whatever the motor is thought to be doing."""
        return self.start("stop", self._stop())

    def home(self) -> Status[None]:
        """Find position 0 by the switches, in the mode `reference_search` of the lab file. Raises `ConfigError`."""
        if not self.options.reference_search:
            raise ConfigError(f"{self.name}: it is not known how to home; give `reference_search` in the lab file")
        return self.start("reference search", self._home(), on_cancel=self._stop)

    async def make_safe(self) -> None:
        # A program in the module, or a search under way, would go on by itself and move it again.
        await self.command(
            self._message(codec.STOP_PROGRAM), idempotent=True, matches=self._of(codec.STOP_PROGRAM)
        )  # what it answers does not matter: there may be none
        await self._command(codec.RFS, codec.END, idempotent=True)
        await self._command(codec.MST, idempotent=True)

    # ------------------------------------------------------------------ what the signals call

    async def read_position(self) -> Answer:
        return await self._length(codec.POSITION)

    async def read_target(self) -> Answer:
        return await self._length(codec.TARGET)

    async def write_target(self, value: float) -> None:
        if self.options.reference_search and not (await self.read_homed()).payload:
            raise Refused(self.name, "it was not homed since it was switched on; use `home` first")
        await self._command(codec.MVP, codec.ABS, value=round(value * self._per_mm), idempotent=True)

    async def read_speed(self) -> Answer:
        units, exchange = await self._asked(codec.GAP, codec.MAX_VELOCITY)
        return Answer(self._mm_per_s(units), exchange.sent, exchange.received)

    async def write_speed(self, value: float) -> None:
        units = max(codec.internal_velocity(value * abs(self._per_mm), self._pulse_divisor), 1)
        await self._command(codec.SAP, codec.MAX_VELOCITY, value=units, idempotent=True)
        if (taken := await self._get(codec.MAX_VELOCITY)) != units:
            raise Refused(self.name, f"its speed was set to {units} and reads back {taken}; who else sets it?")

    async def read_homed(self) -> Answer:
        mark, exchange = await self._asked(codec.GGP, codec.MARK, codec.USER_BANK)
        return Answer(mark == HOMED, exchange.sent, exchange.received)

    async def read_searching(self) -> Answer:
        leg, exchange = await self._asked(codec.RFS, codec.STATUS)
        return Answer(leg != 0, exchange.sent, exchange.received)

    async def read_left_switch(self) -> Answer:
        return await self._flag(codec.LEFT_SWITCH)

    async def read_right_switch(self) -> Answer:
        return await self._flag(codec.RIGHT_SWITCH)

    # ------------------------------------------------------------------ private

    def _mm_per_s(self, units: int) -> float:
        return codec.microsteps_per_second(units, self._pulse_divisor) / abs(self._per_mm)

    async def _move(self, to: float) -> None:
        await self.target.put(to)
        target, loop = round(to * self._per_mm), asyncio.get_running_loop()
        before, since = None, loop.time()
        async for reading in self.until(self.position, lambda now: round(now * self._per_mm) == target):
            if reading.value != before:
                before, since = reading.value, loop.time()
            elif loop.time() - since > STUCK:
                raise Refused(self.name, f"it stands at {before:g} mm on its way to {to:g} mm; {await self._why()}")

    async def _why(self) -> str:
        for switch, parameter in (("left", codec.LEFT_SWITCH), ("right", codec.RIGHT_SWITCH)):
            if await self._get(parameter):
                return f"its {switch} limit switch is pressed, check `travel` and whether it was homed"
        return "was it stopped by another, or is its speed or acceleration 0?"

    async def _home(self) -> None:
        await self._command(codec.SGP, codec.MARK, codec.USER_BANK, 0, idempotent=True)
        await self._command(codec.SAP, codec.SEARCH_MODE, value=self.options.reference_search, idempotent=True)
        await self._command(codec.RFS, codec.START, idempotent=True)
        async for _ in self.until(self.searching, lambda searching: not searching):
            pass
        where = await self.position.get()
        if abs(where) > abs(self.options.pitch):  # it ends where it counts from
            raise Refused(self.name, f"its reference search ended at {where:g} mm; was it stopped by another?")
        await self._command(codec.SGP, codec.MARK, codec.USER_BANK, HOMED, idempotent=True)

    async def _stop(self) -> None:
        with acting(Purpose.STOP):
            await self.make_safe()
            for _ in range(round(STOPS_WITHIN / LOOKING)):
                if not await self._get(codec.VELOCITY):
                    return
                await asyncio.sleep(LOOKING)
        raise NoReply(self.name, f"it was told to stop and still moves after {STOPS_WITHIN:g} s; switch it off by hand")

    async def _length(self, parameter: int) -> Answer:
        steps, exchange = await self._asked(codec.GAP, parameter)
        sample = Sample(steps / self._per_mm, uncertainty=1 / abs(self._per_mm) / 12**0.5)
        return Answer(sample, exchange.sent, exchange.received)

    async def _flag(self, parameter: int) -> Answer:
        value, exchange = await self._asked(codec.GAP, parameter)
        return Answer(bool(value), exchange.sent, exchange.received)

    async def _get(self, parameter: int) -> int:
        return (await self._asked(codec.GAP, parameter))[0]

    def _message(self, number: int, kind: int = 0, bank: int = 0, value: int = 0) -> bytes:
        return Command(self._address, number, kind, bank, value).encode()

    async def _asked(self, number: int, kind: int, bank: int = 0) -> tuple[int, Exchange]:
        exchange = await self.ask(self._message(number, kind, bank), matches=self._of(number))
        return self._understood(exchange.reply, number, kind), exchange

    async def _command(
        self, number: int, kind: int = 0, bank: int = 0, value: int = 0, *, idempotent: bool = False
    ) -> None:
        exchange = await self.command(
            self._message(number, kind, bank, value), idempotent=idempotent, matches=self._of(number)
        )
        self._understood(exchange.reply, number, kind)

    def _of(self, number: int) -> Any:
        """Tells replies to a command from what it says of itself."""
        return lambda message: message[1] == self._address and message[3] == number

    def _understood(self, message: bytes, number: int, kind: int) -> int:
        try:
            reply = Reply.decode(message)
        except ValueError:
            raise self.protocol_error(message, "a reply of eight bytes and a sum") from None
        if reply.status != codec.OK:
            meaning = codec.STATUSES.get(reply.status, "see the manual, section 3.2.1")
            raise Refused(self.name, f"command {number}, type {kind} was refused (status {reply.status}): {meaning}")
        return reply.value
