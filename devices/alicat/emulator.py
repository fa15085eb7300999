"""An emulated Alicat MC controller with firmware 10v20: a gas line of the world, obeying a setpoint that may ramp.

Not emulated: streaming, the totalizer and gas mixtures (their commands are refused with "?"), and PID terms beyond
being kept.
"""

from __future__ import annotations

import random
import re
from math import exp
from typing import Any

from hal.protocols.framing import AnyLines

from ..physics import Line
from . import codec
from .codec import ANALOG, HELD, LOCKED, MASS_FLOW, MASS_OVER, Frame

SETTLING = 0.1  # s, unverified
SAMPLING = 0.02  # s between two measurements, unverified
COUNTS = 64000  # integer setpoint of full scale (MC manual, quick command guide)
OVER = 1.28  # of full scale, where readings end (unverified)
PSIA = 14.70
HIGHEST_PSIA = 160.0
UNIT_CODES = {"SLPM": 7, "SCCM": 12, "NLPM": 71, "NCCM": 76}  # 76 unverified
VARIABLES = (34, 36, 37, 38, 39)
SECONDS = {3: 1e-3, 4: 1.0, 5: 60.0, 6: 3600.0, 7: 86400.0}  # SR's units of time (the driver alicat)
TIMES = {3: "ms", 4: "s", 5: "m", 6: "h", 7: "d"}
NAMES = {"argon": "Ar", "hydrogen": "H2", "nitrogen": "N2", "helium": "He", "oxygen": "O2"}
NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+))"


class AlicatEmulator:
    """One controller on a line of the shared world. Settings: see `__init__`."""

    def __init__(
        self,
        world: Any,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        gas: str = "argon",
        full_scale: float = 20.0,
        capacity_unit: str = "SCCM",
        standard_temperature: float = 25.0,
        firmware: str = "10v20.0-R24 Jan  9 2025,15:04:07",
        source: str = "S",
        variable: int = MASS_FLOW,
        noise: float = 1e-3,
        meter: bool = False,
        seed: int = 1,
    ) -> None:
        """`full_scale`: in `capacity_unit`. `noise`: of full scale. `meter`: has no valve, hence no setpoint."""
        self.reply_delay = 0.004
        self.letter = str(unit or "A").upper()
        self.full_scale, self.capacity_unit, self.noise, self.meter = full_scale, capacity_unit, noise, meter
        self.firmware, self.source, self.variable = firmware, source, variable
        self.version = codec.decode_firmware(f"A {firmware}")
        self.line: Line = world.lines.setdefault(gas, Line())
        name = NAMES.get(gas, gas)
        self.gas = codec.GASES.index(name) if name in codec.GASES else 0
        self.requested = 0.0
        self.current = 0.0
        """The setpoint that is followed, on its way to the one requested."""
        self.ramp = 0.0
        """Per second; 0: at once."""
        self.ramp_time = 4
        self.ramps = [1, 1, 0, 0]
        """Whether it ramps up, down, to zero, at power-up (LSRC)."""
        self.hold = ""
        """``closed``, ``here`` or nothing."""
        self.locked = False
        self._sccm = codec.sccm(capacity_unit, standard_temperature) if capacity_unit in codec.VOLUMES else 1.0
        self._registers = {21: 100, 22: 100, 23: 0, 85: 1, 91: 50}
        self._random = random.Random(f"{seed} {self.letter}")
        self._age = 0.0
        self.measured = 0.0
        """In its own unit, as of the latest measurement."""
        self._measure()

    @property
    def decimals(self) -> int:
        """Five digits in all: +020.000 is too long, +20.000 is shown."""
        return max(0, 5 - len(str(int(self.full_scale))))

    def framing(self, scheme: str) -> AnyLines:
        return codec.host_end()

    def respond(self, message: bytes) -> bytes | None:
        text = message.decode("latin-1").strip().upper()
        if text[:1] != self.letter:
            return None
        reply = self._answer(text[1:].strip().removeprefix("$$"))
        return None if reply is None else reply.encode("ascii")

    def advance(self, dt: float) -> None:
        self._move_setpoint(dt)
        if not self.meter and self.hold != "here":
            target = self._target() * self._sccm
            self.line.flow += (target - self.line.flow) * (1 - exp(-dt / SETTLING))
            if target == 0.0 and self.line.flow < 1e-6 * self.full_scale * self._sccm:
                self.line.flow = 0.0  # the valve seals
        self._age += dt
        if self._age >= SAMPLING - 1e-9:
            self._measure()

    # ------------------------------------------------------------------ physics

    def _target(self) -> float:
        if self.hold or self.source == ANALOG:  # the analog input is at 0 V
            return 0.0
        if self.variable not in (36, MASS_FLOW):  # pressure: it opens until the pressure is there, which it never is
            return self.full_scale if self.current > PSIA else 0.0
        return self.current

    def _move_setpoint(self, dt: float) -> None:
        gap = self.requested - self.current
        stepwise = self.ramps[2] if self.requested == 0.0 else self.ramps[0] if gap > 0 else self.ramps[1]
        if not (self.ramp and stepwise) or abs(gap) <= self.ramp * dt:
            self.current = self.requested
        else:
            self.current += self.ramp * dt if gap > 0 else -self.ramp * dt

    def _measure(self) -> None:
        self._age = 0.0
        self.measured = self.line.flow / self._sccm + self._random.gauss(0.0, self.noise * self.full_scale)

    # ------------------------------------------------------------------ commands

    def _answer(self, text: str) -> str | None:
        if text == "":
            return self._frame()
        for pattern, name, oldest in COMMANDS:
            if (found := re.fullmatch(pattern, text)) and self.version >= oldest:
                if self.meter and name in CONTROL:
                    break
                answer: str | None = getattr(self, f"_{name}")(*found.groups())
                return answer
        return codec.REFUSAL

    def _frame(self) -> str:
        states = [HELD] * bool(self.hold) + [LOCKED] * self.locked
        if self.measured > OVER * self.full_scale:
            states.insert(0, MASS_OVER)
        shown = min(self.measured, OVER * self.full_scale)
        frame = Frame(PSIA, 25.0, shown, shown, self.current, codec.GASES[self.gas], tuple(states))
        line = frame.encode(self.letter, self.decimals)
        if self.meter:
            fields = line.split(" ")
            del fields[5]
            line = " ".join(fields)
        return line

    def _setpoint(self, value: str | None) -> str:
        if value is not None and not self._set(float(value)):
            return codec.REFUSAL
        unit = f"{UNIT_CODES.get(self.capacity_unit, 0)} {self.capacity_unit}"
        if self.variable not in (36, MASS_FLOW):
            unit = "10 PSIA"
        d = self.decimals
        return f"{self.letter} {self.current:+.{d}f} {self.requested:+.{d}f} {unit}"

    def _set_old(self, value: str) -> str:
        return self._frame() if self._set(float(value)) else codec.REFUSAL

    def _set_counts(self, value: str) -> str:
        return self._set_old(str(int(value) / COUNTS * self.full_scale))

    def _set(self, value: float) -> bool:
        """Out of range it is refused; with an analog source it is not taken (both unverified)."""
        if not 0.0 <= value <= (self.full_scale if self.variable in (36, MASS_FLOW) else HIGHEST_PSIA):
            return False
        if self.source != ANALOG:
            self.requested = round(value, self.decimals)
            self._move_setpoint(0.0)
        return True

    def _hold_closed(self) -> str:
        self.hold = "closed"
        return self._frame()

    def _hold_here(self) -> str:
        self.hold = "here"
        return self._frame()

    def _cancel(self) -> str:
        self.hold = ""
        return self._frame()

    def _loop(self, value: str | None) -> str:
        if value is not None:
            if int(value) not in VARIABLES:
                return codec.REFUSAL
            self.variable = int(value)
        return f"{self.letter} {self.variable}"

    def _where_from(self, value: str | None) -> str:
        self.source = value or self.source
        return f"{self.letter} {self.source}"

    def _full_scale(self, statistic: str) -> str:
        if int(statistic) in (4, 5, 37):
            return (
                f"{self.letter} {self.full_scale:+.{self.decimals}f} "
                f"{UNIT_CODES.get(self.capacity_unit, 0)} {self.capacity_unit}"
            )
        if int(statistic) in (2, 34):
            return f"{self.letter} {HIGHEST_PSIA:+.2f} 10 PSIA"
        return codec.REFUSAL

    def _version(self) -> str:
        return f"{self.letter}   {self.firmware}"

    def _set_gas(self, number: str) -> str:
        if int(number) >= len(codec.GASES):
            return codec.REFUSAL
        self.gas = int(number)
        return self._frame()

    def _active_gas(self, number: str | None) -> str:
        if number is not None and self._set_gas(number) == codec.REFUSAL:
            return codec.REFUSAL
        return f"{self.letter} {self.gas} {codec.GASES[self.gas]} {codec.GASES[self.gas]}"

    def _lock(self) -> str:
        self.locked = True
        return self._frame()

    def _unlock(self) -> str:
        self.locked = False
        return self._frame()

    def _tare(self) -> str:
        return self._frame()

    def _rename(self, letter: str) -> str:
        self.letter = letter
        return self._frame()

    def _max_ramp(self, value: str | None, time: str | None) -> str:
        if value is not None and time is not None:
            self.ramp_time = int(time)
            self.ramp = float(value) / SECONDS[self.ramp_time]
        shown = self.ramp * SECONDS[self.ramp_time]
        unit, code = self.capacity_unit, UNIT_CODES.get(self.capacity_unit, 0)
        return f"{self.letter} {shown:.{self.decimals}f} {code} {self.ramp_time} {unit}/{TIMES[self.ramp_time]}"

    def _ramping(self, flags: str | None) -> str:
        if flags is not None:
            self.ramps = [int(flag) for flag in flags.split()]
        return f"{self.letter} {' '.join(map(str, self.ramps))}"

    def _register(self, number: str, value: str | None = None) -> str:
        register = int(number)
        if value is not None:
            if register == 46 and int(value) & 511 < len(codec.GASES):
                self.gas = int(value) & 511
            elif register == 122 and int(value) in VARIABLES:
                self.variable = int(value)
            else:
                self._registers[register] = int(value)
        held = {46: self.gas, 122: self.variable}.get(register, self._registers.get(register, 0))
        return f"{self.letter}   {register:03d} = {held}"

    def _describe(self) -> str:
        """The data frame's columns (the table as in alicatlib's transcripts), lines apart by CR."""
        width, unit = f"7/{self.decimals}", self.capacity_unit
        code = UNIT_CODES.get(unit, 0)
        rows = ["D00 ID_ NAME______________________ TYPE_______ WIDTH NOTES___________________"]
        rows += [f"D01 700 {'Unit ID':<26} string          1"]
        columns = [
            (2, "Abs Press", "7/2", "010 02 PSIA"),
            (3, "Flow Temp", "7/2", "002 02 `C"),
            (4, "Volu Flow", width, f"{code:03d} 02 CCM"),
            (5, "Mass Flow", width, f"{code:03d} 02 {unit}"),
        ]
        if not self.meter:
            columns.append((37, "Mass Flow Setpt", width, f"{code:03d} 02 {unit}"))
        for place, (statistic, name, size, notes) in enumerate(columns, start=2):
            rows.append(f"D{place:02d} {statistic:03d} {name:<26} s decimal     {size} {notes}")
        rows.append(f"D{len(columns) + 2:02d} 703 {'Gas':<26} string          6")
        return "\r".join(f"{self.letter} {row}" for row in rows)

    def _gas_list(self) -> str:
        return "\r".join(f"{self.letter} G{number:02d}      {name}" for number, name in enumerate(codec.GASES))

    def _maker(self) -> str:
        lines = ["M00 Alicat Scientific", "M01 www.alicat.com", "M02 +1 888-290-6060", "M03 info@alicat.com",
                 f"M04 Model Number   MC-{self.full_scale:g}{self.capacity_unit}-D", "M05 Serial Number 100000",
                 "M06 Date Manufactured 01/01/2025", "M07 Date Calibrated   01/01/2025", "M08 Calibrated By    EM",
                 f"M09 Software Revision {self.firmware}"]  # fmt: skip
        return "\r".join(f"{self.letter} {line}" for line in lines)

    def _software(self) -> str:
        return f"{self.letter} M09 Software Revision {self.firmware}"


ANY = (0, 0)
# Pattern, what does it, and the first firmware that has it (primer, contents: versions beside the commands).
COMMANDS: tuple[tuple[str, str, tuple[int, int]], ...] = (
    (rf"LS(?: *{NUMBER})?(?: +\d+)?", "setpoint", (9, 0)),
    (rf"S *{NUMBER}", "set_old", ANY),
    (r"(\d{1,5})", "set_counts", ANY),
    (r"HC", "hold_closed", ANY),
    (r"HP?", "hold_here", ANY),
    (r"C", "cancel", ANY),
    (r"LV(?: *(\d+))?", "loop", (9, 0)),
    (r"LSS(?: *([SUA]))?", "where_from", (10, 5)),
    (r"FPF *(\d+)(?: +\d+)?", "full_scale", (6, 0)),
    (r"VE", "version", ANY),
    (r"G *(\d+)", "set_gas", ANY),
    (r"GS(?: *(\d+))?(?: +[01])?", "active_gas", (10, 5)),
    (r"L", "lock", ANY),
    (r"U", "unlock", ANY),
    (r"V|P|PC", "tare", ANY),
    (r"@ *=? *([A-Z])", "rename", ANY),
    (rf"SR(?: *{NUMBER} +([3-7]))?", "max_ramp", (7, 11)),
    (r"LSRC(?: *([01] [01] [01] [01]))?", "ramping", (10, 5)),
    (r"R *(\d{1,3})", "register", ANY),
    (r"W *(\d{1,3}) *= *(\d+)", "register", ANY),
    (r"\?\?D\*", "describe", ANY),
    (r"\?\?G\*", "gas_list", ANY),
    (r"\?\?M\*", "maker", ANY),
    (r"\?\?M0?9", "software", ANY),
)
CONTROL = {
    "setpoint", "set_old", "set_counts", "hold_closed", "hold_here", "cancel", "loop", "where_from", "max_ramp",
    "ramping",
}  # fmt: skip
"""What a meter without a valve does not know."""
