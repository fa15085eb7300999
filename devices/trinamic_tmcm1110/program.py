"""A TMCL program in a module's memory: loaded over the wire, then run by the module itself.

Sources: Trinamic support, article 48 "Send TMCL program to module" (download mode, status 101); Trinamic's header
TMCL.h of the "Homebus Reference Design", 2021 (numbers of commands, conditions, sizes of memory and stack, status 9);
TMCM-1160 TMCL firmware manual V1.19, section 3.6.22 (WAIT); Trinamic's forum, thread 589 (command 135); PyTrinamic,
examples LoadTMCLBinary and tmcl_script_load. Unverified: how many commands it does in a second, that a command refused
in a program is passed over, and the form of a reply to command 134.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from . import codec
from .codec import Command, Refusal

MEMORY, DEPTH = 2048, 8
PACE = 1e-3  # s for a command
TICK = 0.01  # s, of WAIT

TICKS, POSITION, REFERENCE_SWITCH, LIMIT_SWITCH, SEARCH = range(5)  # what WAIT waits for
LOAD, SWAP = 9, 10  # types of CALCX
STANDING, RUNNING, STEPPING = range(3)
ALL_INTERRUPTS = 255
TIMERS = range(3)
READING = (codec.GAP, codec.GGP, codec.GIO, codec.GCO)
"""Commands whose value comes into the accumulator."""
FROM_ACCUMULATOR = {codec.AAP: codec.SAP, codec.AGP: codec.SGP, codec.ACO: codec.SCO}


class Module(Protocol):
    """What a program acts on."""

    def execute(self, command: Command) -> int | None:
        """Carry out a command of the direct mode; raises `Refusal`."""
        ...

    def reached(self, what: int) -> bool:
        """Whether what a WAIT waits for is there."""
        ...

    def interrupting(self, number: int) -> bool:
        """Whether an interrupt but those of the timers is due."""
        ...

    def period(self, timer: int) -> float:
        """Of a timer's interrupt, s; 0: never."""
        ...


class Program:
    """The interpreter and its memory, which survives a power cut."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self.commands: list[Command] = []
        self.loading = False
        self.reset()

    def reset(self) -> None:
        """Stand before the first command, with nothing in the registers."""
        self.state = STANDING
        self.at = 0
        self.accumulator = self.x = self._compared = 0
        self.timed_out = False
        self._stack: list[int] = []
        self._waited: float | None = None
        self._behind = 0.0
        self._vectors: dict[int, int] = {}
        self._enabled: set[int] = set()
        self._timers: dict[int, float] = {}
        self._returns: int | None = None
        """Where to go on after an interrupt."""

    # ------------------------------------------------------------------ over the wire

    def load(self, command: Command) -> int:
        """Keep a command; the status of the reply."""
        if self.at >= MEMORY:
            return codec.FULL
        self.commands[self.at :] = [command]
        self.at += 1
        return codec.LOADED

    def control(self, command: Command) -> int:
        """Commands 128 to 133 and 135; the value of the reply; raises `Refusal`."""
        match command.number:
            case codec.STOP_PROGRAM:
                self.state = STANDING
            case codec.RUN_PROGRAM:
                if not self.commands:
                    raise Refusal(codec.UNAVAILABLE)  # unverified
                if command.type == 1:
                    self.at = command.value
                self.state, self._waited = RUNNING, None
            case codec.STEP_PROGRAM:
                self.state = STEPPING
            case codec.RESET_PROGRAM:
                self.reset()
            case codec.LOAD_PROGRAM:
                self.state, self.loading = STANDING, True
                self.at = max(0, min(command.value, len(self.commands)))
            case codec.END_LOADING:
                self.loading, self.at = False, 0
            case codec.PROGRAM_STATUS:
                return self.state << 24 | self.at
        return 0

    # ------------------------------------------------------------------ running

    @property
    def running(self) -> bool:
        return self.state in (RUNNING, STEPPING)

    def advance(self, dt: float) -> None:
        """Let `dt` seconds pass."""
        if not self.running or self.loading:
            return
        self._behind += dt
        for timer in self._timers:
            self._timers[timer] -= dt
        if self._waited is not None:
            self._waited += dt
        while self.running and self._behind >= PACE:
            self._behind -= PACE
            self._interrupt()
            if not 0 <= self.at < len(self.commands) or (self._step(self.commands[self.at]) and self.state == STEPPING):
                self.state = STANDING

    def _interrupt(self) -> None:
        if self._returns is not None or ALL_INTERRUPTS not in self._enabled:
            return
        for number, vector in self._vectors.items():
            if number not in self._enabled:
                continue
            if number in TIMERS:
                if not (period := self._module.period(number)):
                    continue
                due = self._timers.setdefault(number, period) <= 0.0
                if due:
                    self._timers[number] += period
            else:
                due = self._module.interrupting(number)
            if due:
                self._returns, self.at, self._waited = self.at, vector, None
                return

    def _step(self, command: Command) -> bool:
        """Do one command; False while it waits."""
        if command.number == codec.WAIT and not self._has_waited(command):
            return False
        self.at += 1
        self._do(command)
        return True

    def _has_waited(self, command: Command) -> bool:
        if self._waited is None:
            self._waited = 0.0
        limit = command.value * TICK
        there = command.type != TICKS and self._module.reached(command.type)
        if not there and (self._waited < limit - 1e-9 or (command.type != TICKS and command.value == 0)):
            return False
        self.timed_out |= not there and command.type != TICKS
        self._waited = None
        return True

    def _do(self, command: Command) -> None:
        kind, value = command.type, command.value
        match command.number:
            case 0 | codec.STOP:  # 0 marks the end of what was loaded
                self.state = STANDING
            case codec.CALC:
                self.accumulator = _calculated(kind, self.accumulator, value)
            case codec.CALCX if kind == LOAD:
                self.x = self.accumulator
            case codec.CALCX if kind == SWAP:
                self.x, self.accumulator = self.accumulator, self.x
            case codec.CALCX:
                self.accumulator = _calculated(kind, self.accumulator, self.x)
            case codec.COMP:
                self._compared = self.accumulator - value
            case codec.JC if self._holds(kind):
                self.at = value
            case codec.JC | codec.WAIT:
                pass
            case codec.JA:
                self.at = value
            case codec.CSUB if len(self._stack) < DEPTH:
                self._stack.append(self.at)
                self.at = value
            case codec.RSUB if self._stack:
                self.at = self._stack.pop()
            case codec.CSUB | codec.RSUB:  # too deep, or from nowhere: unverified
                self.state = STANDING
            case codec.CLE:
                self.timed_out &= kind not in (0, 1)
            case codec.VECT:
                self._vectors[kind] = value
            case codec.EI:
                self._enabled.add(kind)
            case codec.DI:
                self._enabled.discard(kind)
            case codec.RETI if self._returns is not None:
                self.at, self._returns = self._returns, None
            case codec.RETI:
                pass
            case number:
                if number in FROM_ACCUMULATOR:
                    command = replace(command, number=FROM_ACCUMULATOR[number], value=self.accumulator)
                with suppress(Refusal):
                    found = self._module.execute(command)
                    if number in READING and found is not None:
                        self.accumulator = found

    def _holds(self, condition: int) -> bool:
        """Of JC. Alarms, deviations and shutdowns are none that this module meets."""
        compared = self._compared
        holds = (
            self.accumulator == 0, self.accumulator != 0, compared == 0, compared != 0, compared > 0, compared >= 0,
            compared < 0, compared <= 0, self.timed_out,
        )  # fmt: skip
        return condition < len(holds) and holds[condition]


def _calculated(kind: int, left: int, right: int) -> int:
    """CALC's results, in 32 bits with a sign; divided by zero, nothing changes (unverified)."""
    match kind:
        case 0:
            found = left + right
        case 1:
            found = left - right
        case 2:
            found = left * right
        case 3 | 4 if right == 0:
            found = left
        case 3:
            found = int(left / right)
        case 4:
            found = left - right * int(left / right)
        case 5:
            found = left & right
        case 6:
            found = left | right
        case 7:
            found = left ^ right
        case 8:
            found = ~left
        case 9:
            found = right
        case _:
            found = left
    return (found + 2**31) % 2**32 - 2**31
