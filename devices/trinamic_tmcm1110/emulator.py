"""An emulated TMCM-1110 on a linear axis with a limit switch at either end and a home switch between them.

Programs in its memory are in `program`, the search for switches is in `search`. Not emulated: stall detection, user
functions. Unverified: which status answers a write to a parameter that can only be read (here: wrong type), and how a
motor that is spun with ROR takes a negative speed (here: to the left, as PyTrinamic's `rotate` expects).
"""

from __future__ import annotations

import random
from typing import Any

from devices.axis import Axis

from . import codec, parameters, program
from .codec import Command, Refusal, Reply, require
from .program import Program
from .search import Search

LEAD = 2000.0  # microsteps from a limit switch to the end of the rail
COORDINATES = 21
OUTPUTS, INPUTS = 8, 7
AUTO_START = 77  # global parameter
SUPPLY, WARMTH = 240, 31  # GIO 8 and 9 of bank 1: 0.1 V, degC
STOP_SWITCHES = {27: "left", 28: "right"}  # by interrupt
TEMPERATURE_INPUTS = {8: SUPPLY, 9: WARMTH}


class Tmcm1110Emulator:
    """One module. Settings: see `__init__`."""

    def __init__(
        self, world: Any, *, unit: int | str | None = None, channel: object = None, left: int = -2_000_000,
        right: int = 2_000_000, home: int = 0, at: int = 0, version: str = "1110V109", seed: int = 1110,
        reply_delay: float = 0.002,
    ) -> None:  # fmt: skip
        """`left`, `right`, `home`: where the switches are on the rail, microsteps; `at`: where the motor wakes up."""
        self.quick = self.reply_delay = reply_delay
        self.left, self.right, self.home = left, right, home
        self.version = version
        self.axis = Axis(low=left - LEAD, high=right + LEAD, position=float(at))
        self.zero = at
        """Where on the rail its counter is 0."""
        self.eeprom: dict[tuple[int, int], int] = {}
        """What survives a power cut, by bank (-1: the axis) and number."""
        if unit is not None:
            self.eeprom[0, codec.ADDRESS] = int(unit)
        self.now = 0.0
        self._random = random.Random(seed)
        self.program = Program(self)
        self.power_up()

    def power_up(self) -> None:
        """What a power cut leaves."""
        self.axis.halt()
        self.zero = round(self.axis.position)
        self.values = {n: self.eeprom.get((-1, n), p.factory) for n, p in parameters.AXIS.items()}
        self.globals = {n: self.eeprom.get((0, n), p.factory) for n, p in parameters.GLOBAL.items()}
        self.user = {n: self.eeprom.get((2, n), 0) for n in range(256)}
        self.interrupts = dict.fromkeys(parameters.INTERRUPTS, 0)
        self.coordinates = [0] * COORDINATES
        self.outputs = [0] * OUTPUTS
        self.search = Search(self)
        self.program.reset()
        if self.globals[AUTO_START] and self.program.commands:
            self.program.control(Command(0, codec.RUN_PROGRAM))
        self._announce = False
        self._said: list[bytes] = []
        self._booted = self._heard = self.now

    def framing(self, scheme: str) -> codec.ModuleEnd:
        return codec.ModuleEnd(lambda: self.now)

    def respond(self, message: bytes) -> bytes | None:
        address = message[0]
        if address != self.globals[codec.ADDRESS] and not address == self.globals[codec.SECONDARY_ADDRESS] > 0:
            return None
        self.reply_delay = self.quick + self.globals[codec.PAUSE_BEFORE_REPLY] / 1000
        if message != codec.summed(message[:-1]):
            return self._reply(message[1], codec.BAD_CHECKSUM)
        self._heard = self.now
        command = Command.decode(message[:-1])
        if command.number == codec.VERSION and command.type == 0:
            return bytes((self.globals[codec.HOST_ADDRESS],)) + self.version.encode("ascii")
        if self.program.loading and command.number < codec.STOP_PROGRAM:
            return self._reply(command.number, self.program.load(command), command.value)
        if command.number == codec.READ_PROGRAM:
            return self._read_program(command.value)
        try:
            value = self.execute(command)
        except Refusal as refusal:
            return self._reply(command.number, refusal.status)
        if value is None or self.globals[255]:
            return None
        return b"".join(self.unasked()) + self._reply(command.number, codec.OK, value)

    @property
    def talking(self) -> bool:
        """Whether it has more to say by itself."""
        return self._announce or bool(self._said)

    def unasked(self) -> list[bytes]:
        """What it says by itself: that the target is reached, if it was asked to."""
        said, self._said = self._said, []
        return said

    def advance(self, dt: float) -> None:
        self.now += dt
        heartbeat = self.globals[codec.HEARTBEAT] / 1000
        if heartbeat and self.now - self._heard > heartbeat and (self.search or self.axis.moving):
            self._run(0)  # nobody has spoken for too long (section 5, parameter 68)
        units = self.values
        self.axis.acceleration = codec.microsteps_per_second2(
            max(units[codec.MAX_ACCELERATION], 1), units[codec.RAMP_DIVISOR], units[codec.PULSE_DIVISOR]
        )
        self.axis.speed = self.speed(units[codec.MAX_VELOCITY])
        if self.search:
            self.axis.advance(dt)
            self.search.look()
        elif self._stopped_by_switch():
            self.axis.velocity = 0.0
            if self.axis.target is None:
                self.axis.halt()
        else:
            self.axis.advance(dt)
        self.program.advance(dt)
        if self._announce and self._at_target():
            self._announce = False
            self._said.append(self._reply(codec.REACHED_EVENT, codec.EVENT, 1))

    # ------------------------------------------------------------------ where it is

    @property
    def counter(self) -> int:
        return round(self.axis.position) - self.zero

    def switch(self, which: str) -> bool:
        """Whether a switch is pressed."""
        match which:
            case "left":
                return self.axis.position <= self.left
            case "right":
                return self.axis.position >= self.right
            case _:
                return abs(self.axis.position - self.home) <= LEAD / 10

    def speed(self, units: int) -> float:
        """Microsteps/s."""
        return codec.microsteps_per_second(units, self.values[codec.PULSE_DIVISOR])

    def _at_target(self) -> bool:
        return self.axis.target is not None and self.axis.away == 0.0 and not self.search

    def _stopped_by_switch(self) -> bool:
        left = self.switch("left") and not self.values[codec.LEFT_DISABLED] and self._heading() < 0
        return left or (self.switch("right") and not self.values[codec.RIGHT_DISABLED] and self._heading() > 0)

    def _heading(self) -> float:
        return self.axis.velocity or self.axis.away or self.axis.wanted

    # ------------------------------------------------------------------ what its program asks

    def reached(self, what: int) -> bool:
        match what:
            case program.POSITION:
                return self._at_target()
            case program.REFERENCE_SWITCH:
                return self.switch("home")
            case program.LIMIT_SWITCH:
                return self.switch("left") or self.switch("right")
            case program.SEARCH:
                return not self.search
            case _:
                return False

    def interrupting(self, number: int) -> bool:
        return number in STOP_SWITCHES and self.switch(STOP_SWITCHES[number])

    def period(self, timer: int) -> float:
        return self.interrupts[timer] / 1000

    def _read_program(self, at: int) -> bytes:
        """A command of the memory in place of a reply's status, command and value."""
        commands = self.program.commands
        found = commands[at] if 0 <= at < len(commands) else Command(0, 0)
        host = self.globals[codec.HOST_ADDRESS]
        return codec.summed(Command(host, found.number, found.type, found.motor, found.value).encode())

    # ------------------------------------------------------------------ commands

    def _reply(self, number: int, status: int, value: int = 0) -> bytes:
        host, address = self.globals[codec.HOST_ADDRESS], self.globals[codec.ADDRESS]
        return codec.summed(Reply(host, address, status, number, value).encode())

    def execute(self, command: Command) -> int | None:
        """Carry out a command, from the wire or from the program; raises `Refusal`. None: no reply."""
        match command.number:
            case codec.ROR | codec.ROL | codec.MST:
                require(command.motor == 0 and abs(command.value) <= codec.FASTEST, codec.BAD_VALUE)
                sign = {codec.ROR: 1, codec.ROL: -1, codec.MST: 0}[command.number]
                self._run(sign * command.value)
                return command.value
            case codec.MVP:
                return self._move(command)
            case codec.SAP | codec.GAP | codec.STAP | codec.RSAP:
                require(command.motor == 0, codec.BAD_VALUE)
                return self._axis_parameter(command)
            case codec.SGP | codec.GGP | codec.STGP | codec.RSGP:
                return self._global_parameter(command)
            case codec.RFS:
                require(command.motor == 0, codec.BAD_VALUE)
                return self._reference(command.type)
            case codec.SIO:
                require(command.motor == 2, codec.BAD_TYPE)
                require(command.type < OUTPUTS and command.value in (0, 1), codec.BAD_VALUE)
                self.outputs[command.type] = command.value
                return command.value
            case codec.GIO:
                return self._input(command)
            case codec.SCO | codec.GCO | codec.CCO:
                return self._coordinate(command)
            case codec.VERSION if command.type == 1:
                major, minor = int(self.version[5]), int(self.version[6:])
                return int(self.version[:4]) << 16 | major << 8 | minor
            case codec.FACTORY if command.value == 1234:
                self.eeprom.clear()
                self.power_up()
                return None
            case codec.REACHED_EVENT:
                self._announce = True
                return command.value
            case number if number in codec.PROGRAM:
                return self.program.control(command)
            case number if number in codec.IN_PROGRAM_ONLY:
                raise Refusal(codec.UNAVAILABLE)
            case _:
                raise Refusal(codec.BAD_COMMAND)

    def _run(self, velocity: int) -> None:
        self.search.end()
        self._announce = False
        self.values[codec.TARGET_VELOCITY] = velocity
        self.axis.run(self.speed(velocity))

    def _move(self, command: Command) -> int:
        require(command.motor == 0, codec.BAD_VALUE)
        match command.type:
            case codec.ABS:
                target = command.value
            case codec.REL:
                target = self.counter + command.value
            case codec.COORD:
                require(0 <= command.value < COORDINATES, codec.BAD_VALUE)
                target = self.coordinates[command.value]
            case _:
                raise Refusal(codec.BAD_TYPE)
        require(-parameters.FULL <= target < parameters.FULL, codec.BAD_VALUE)
        self._go(target)
        return target

    def _go(self, target: int) -> None:
        self.search.end()
        self.axis.go(float(target + self.zero))

    def _axis_parameter(self, command: Command) -> int:
        parameter = parameters.AXIS.get(command.type)
        if parameter is None:
            raise Refusal(codec.BAD_TYPE)
        key = (-1, command.type)
        match command.number:
            case codec.GAP:
                return self._axis_value(command.type)
            case codec.STAP:
                require("E" in parameter.access, codec.BAD_TYPE)
                self.eeprom[key] = self._axis_value(command.type)
                return 0
            case codec.RSAP:
                require("E" in parameter.access, codec.BAD_TYPE)
                self.values[command.type] = self.eeprom.get(key, parameter.factory)
                return self.values[command.type]
        require("W" in parameter.access, codec.BAD_TYPE)
        require(parameter.low <= command.value <= parameter.high, codec.BAD_VALUE)
        match command.type:
            case codec.TARGET:
                self._go(command.value)
            case codec.POSITION:
                self.zero = round(self.axis.position) - command.value
                if self.axis.target is not None and self.axis.away == 0.0:
                    self.axis.go(self.axis.position)
            case codec.TARGET_VELOCITY:
                self._run(command.value)
            case _:
                self.values[command.type] = command.value
        return command.value

    def _axis_value(self, number: int) -> int:
        match number:
            case codec.TARGET:
                return self.counter if self.axis.target is None else round(self.axis.target) - self.zero
            case codec.POSITION:
                return self.counter
            case codec.VELOCITY:
                return codec.internal_velocity(self.axis.velocity, self.values[codec.PULSE_DIVISOR])
            case codec.AT_TARGET:
                return int(self._at_target() or not (self.axis.moving or self.search))
            case codec.HOME_SWITCH:
                return int(self.switch("home"))
            case codec.RIGHT_SWITCH:
                return int(self.switch("right"))
            case codec.LEFT_SWITCH:
                return int(self.switch("left"))
            case _:
                return self.values[number]

    def _global_parameter(self, command: Command) -> int:
        match command.motor:
            case 0:
                parameter, values = parameters.GLOBAL.get(command.type), self.globals
            case codec.USER_BANK:
                parameter, values = parameters.USER, self.user
            case codec.INTERRUPT_BANK:
                parameter, values = parameters.INTERRUPTS.get(command.type), self.interrupts
            case _:
                raise Refusal(codec.BAD_TYPE)
        if parameter is None:
            raise Refusal(codec.BAD_TYPE)
        key = (command.motor, command.type)
        if command.number == codec.GGP:
            if key == (0, 132):
                return round((self.now - self._booted) * 1000)
            if command.motor == 0 and command.type in (128, 129, 130):
                return {128: self.program.state, 129: int(self.program.loading), 130: self.program.at}[command.type]
            if key == (0, 133):
                return self._random.randrange(parameters.FULL)
            return values[command.type]
        if command.number == codec.SGP:
            require("W" in parameter.access, codec.BAD_TYPE)
            require(parameter.low <= command.value <= parameter.high, codec.BAD_VALUE)
            if key == (0, 132):
                self._booted = self.now - command.value / 1000
            values[command.type] = command.value
            return command.value
        kept = "E" in parameter.access and (command.motor == 0 or command.type < parameters.KEPT_USER)
        require(kept, codec.BAD_TYPE)
        if command.number == codec.STGP:
            self.eeprom[key] = values[command.type]
        else:
            values[command.type] = self.eeprom.get(key, parameter.factory)
        return values[command.type]

    def _reference(self, kind: int) -> int:
        match kind:
            case codec.START:
                self.search.begin()
            case codec.END:
                self.search.end()
                self.axis.run(0.0)
            case codec.STATUS:
                return len(self.search)
            case _:
                raise Refusal(codec.BAD_TYPE)
        return 0

    def _input(self, command: Command) -> int:
        number = command.type
        match command.motor:
            case 0 if number < INPUTS:
                return 0
            case 1 if number in TEMPERATURE_INPUTS:
                return TEMPERATURE_INPUTS[number]
            case 1 if number < INPUTS:
                return self._random.randrange(3)
            case 2 if number < OUTPUTS:
                return self.outputs[number]
            case 0 | 1 | 2:
                raise Refusal(codec.BAD_VALUE)
            case _:
                raise Refusal(codec.BAD_TYPE)

    def _coordinate(self, command: Command) -> int:
        require(command.type < COORDINATES and command.motor == 0, codec.BAD_VALUE)
        match command.number:
            case codec.SCO:
                self.coordinates[command.type] = command.value
            case codec.CCO:
                self.coordinates[command.type] = self.counter
        return self.coordinates[command.type]
