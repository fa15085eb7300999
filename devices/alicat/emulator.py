"""An emulated Alicat MC controller: a gas line of the world, obeying a setpoint that may ramp, and streaming.

What its menu holds besides is in `menu`. Unverified: how fast it settles and measures.
"""

from __future__ import annotations

import random
import re
from math import exp
from typing import Any

from hal.protocols.framing import AnyLines

from ..physics import AMBIENT, Line
from . import codec
from .codec import ANALOG, HELD, LOCKED, MASS_FLOW, MASS_OVER, Frame
from .menu import Menu
from .setpoint import Setpoint

QUICK = 0.004  # s
SETTLING = 0.1  # s, unverified
SAMPLING = 0.02  # s between two measurements, unverified
COUNTS = 64000  # integer setpoint of full scale (MC manual, quick command guide)
OVER = 1.28  # of full scale, where readings end (unverified)
PSIA = 14.70
HIGHEST_PSIA = 160.0
VARIABLES = (34, 36, 37, 38, 39)
NAMES = {"argon": "Ar", "hydrogen": "H2", "nitrogen": "N2", "helium": "He", "oxygen": "O2"}
STREAMING = "@"
"""The letter of a unit that streams (P, "Start Streaming")."""
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
        self.reply_delay = QUICK
        self.letter = str(unit or "A").upper()
        self.full_scale, self.capacity_unit, self.noise, self.meter = full_scale, capacity_unit, noise, meter
        self.firmware, self.source, self.variable = firmware, source, variable
        self.version = codec.decode_firmware(f"A {firmware}")
        self.line: Line = world.lines.setdefault(gas, Line())
        name = NAMES.get(gas, gas)
        self.gas = codec.GASES.index(name) if name in codec.GASES else 0
        self.setpoint = Setpoint()
        self.hold = ""
        """``closed``, ``here`` or nothing."""
        self.locked = False
        self.standard_temperature = standard_temperature
        self.registers = {21: 100, 22: 100, 23: 0, 85: 1}
        self.menu = Menu(self)
        self._random = random.Random(f"{seed} {self.letter}")
        self._age = 0.0
        self._said: list[bytes] = []
        self._silent = 0.0  # s since the last frame of a stream
        self.measured = 0.0
        """In its own unit, as of the latest measurement."""
        self._measure()

    @property
    def sccm(self) -> float:
        """mL/min at 0 degC in one of its units."""
        unit = self.capacity_unit
        return codec.sccm(unit, self.standard_temperature) if unit.upper() in codec.VOLUMES else 1.0

    @property
    def decimals(self) -> int:
        """Five digits in all: +020.000 is too long, +20.000 is shown."""
        return max(0, 5 - len(str(int(self.full_scale))))

    @property
    def unit_code(self) -> int:
        return codec.UNIT_CODES.get(self.capacity_unit.upper(), 0)

    @property
    def of_flow(self) -> bool:
        """Whether its setpoint is a flow."""
        return self.variable in (36, MASS_FLOW)

    def framing(self, scheme: str) -> AnyLines:
        return codec.host_end()

    def respond(self, message: bytes) -> bytes | None:
        self.reply_delay = QUICK
        said = message.decode("latin-1").strip()
        text = said.upper()
        if text[:1] != self.letter:
            return None
        reply = self._answer(text[1:].strip().removeprefix("$$"), said[1:].strip().removeprefix("$$"))
        return None if reply is None else reply.encode("ascii", "replace")

    @property
    def talking(self) -> bool:
        """Whether it streams."""
        return self.letter == STREAMING

    def unasked(self) -> list[bytes]:
        """Its frames, as long as it streams."""
        said, self._said = self._said, []
        return said

    def advance(self, dt: float) -> None:
        self.setpoint.advance(dt)
        if not self.meter and self.hold != "here":
            target = self._target() * self.sccm
            self.line.flow += (target - self.line.flow) * (1 - exp(-dt / SETTLING))
            if target == 0.0 and self.line.flow < 1e-6 * self.full_scale * self.sccm:
                self.line.flow = 0.0  # the valve seals
        self._age += dt
        if self._age >= SAMPLING - 1e-9:
            self._measure()
        for totalizer in self.menu.totalizers:
            totalizer.count(self.line.flow / self.sccm, dt)
        if self.talking:
            self._stream(dt)

    # ------------------------------------------------------------------ physics

    def _target(self) -> float:
        if self.hold or self.source == ANALOG:  # the analog input is at 0 V
            return 0.0
        if any(totalizer.batch_done for totalizer in self.menu.totalizers):
            return 0.0
        if not self.of_flow:  # pressure: it opens until the pressure is there, which it never is
            return self.full_scale if self.setpoint.current > PSIA else 0.0
        return self.setpoint.current

    @property
    def valve(self) -> float:
        """% of its greatest drive (of a valve that opens at 40 %: unverified)."""
        flow = self.line.flow / self.sccm / self.full_scale
        return 0.0 if self.meter or flow <= 0.0 else min(40.0 + 30.0 * flow, 100.0)

    def _measure(self) -> None:
        self._age = 0.0
        self.measured = self.line.flow / self.sccm + self._random.gauss(0.0, self.noise * self.full_scale)

    def _stream(self, dt: float) -> None:
        self._silent += dt
        if self._silent >= self.menu.interval / 1000 - 1e-9:
            self._silent = 0.0
            # The letter is left away, its space stays (manual of the IM series, page 10; D: alicatlib).
            self._said.append(self.frame()[1:].encode("ascii"))

    # ------------------------------------------------------------------ data frame

    @property
    def shown(self) -> float:
        """Flow as it is told: nothing within the zero band, no more than it can measure."""
        value = min(self.measured, OVER * self.full_scale)
        return 0.0 if abs(value) < self.menu.zero_band / 100 * self.full_scale else value

    def frame(self) -> str:
        states = [HELD] * bool(self.hold) + [LOCKED] * self.locked
        if self.measured > OVER * self.full_scale:
            states.insert(0, MASS_OVER)
        pressure, temperature = self.menu.pressure(PSIA), self.menu.temperature(AMBIENT)
        flow, gas = self.shown, self.menu.gases.name(self.gas)
        frame = Frame(pressure, temperature, flow, flow, self.setpoint.current, gas, tuple(states))
        fields = frame.encode(self.letter, self.decimals).split(" ")
        if self.meter:
            del fields[5]
        elif not self.menu.signed:
            fields[5] = fields[5].removeprefix("+")
        if self.menu.totalizers[0].on:
            fields.insert(5 + (not self.meter), self.menu.totalizers[0].text())
        return " ".join(fields)

    def columns(self) -> list[tuple[int, str, str, str, str]]:
        """Statistic, name, type, width and notes of all columns of the frame."""
        width, unit, code = f"7/{self.decimals}", self.capacity_unit, self.unit_code
        decimal = "s decimal"
        pressure, temperature = self.menu.units[2], self.menu.units[3]
        columns = [
            (700, "Unit ID", "string", "1", ""),
            (2, "Abs Press", decimal, "7/2", f"{pressure:03d} 02 {codec.PRESSURES[pressure][0]}"),
            (3, "Flow Temp", decimal, "7/2", f"{temperature:03d} 02 {codec.TEMPERATURES[temperature]}"),
            (4, "Volu Flow", decimal, width, f"{code:03d} {self.decimals:02d} {unit.lstrip('SN')}"),
            (5, "Mass Flow", decimal, width, f"{code:03d} {self.decimals:02d} {unit}"),
        ]
        if not self.meter:
            columns.append((37, "Mass Flow Setpt", decimal, width, f"{code:03d} {self.decimals:02d} {unit}"))
        if self.menu.totalizers[0].on:
            columns.append((9, "Total Mass", "decimal", self.menu.totalizers[0].width, "006 00 SCM3"))
        columns.append((703, "Gas", "string", "6", ""))
        columns.append((701, "*Error", "string", "3", "ADC"))
        return columns + [(702, "*Status", "string", "3", state) for state in codec.STATES if state != "ADC"]

    # ------------------------------------------------------------------ commands

    def _answer(self, text: str, said: str) -> str | None:
        """`said`: with small letters, for names."""
        if text == "":
            return self.frame()
        for pattern, name, oldest in COMMANDS:
            if (found := re.fullmatch(pattern, text)) and self.version >= oldest:
                if self.meter and name in CONTROL:
                    return None  # a command for what it has not is ignored (D: labmcp-alicat, after P)
                answer: str | None = getattr(self, f"_{name}")(*found.groups())
                return answer
        return self.menu.answer(text, said)

    def setpoint_unit(self) -> str:
        """Code and label of the unit that setpoints are in."""
        if self.of_flow:
            return f"{self.unit_code} {self.capacity_unit}"
        code = self.menu.units[2]
        return f"{code} {codec.PRESSURES[code][0]}"

    def _setpoint(self, value: str | None, unit: str | None) -> str:
        if value is not None:
            wanted = float(value)
            if unit is not None and int(unit):
                if not self.of_flow or int(unit) not in codec.UNIT_LABELS:
                    return codec.REFUSAL
                wanted *= codec.sccm(codec.UNIT_LABELS[int(unit)], self.standard_temperature) / self.sccm
            self._set(wanted)
        d = self.decimals
        return f"{self.letter} {self.setpoint.current:+.{d}f} {self.setpoint.requested:+.{d}f} {self.setpoint_unit()}"

    def _set_old(self, value: str) -> str:
        self._set(float(value))
        return self.frame()

    def _set_counts(self, value: str) -> str:
        return self._set_old(str(int(value) / COUNTS * self.full_scale))

    def _set(self, value: float) -> None:
        """What is out of range is brought into it (P, page 12); with an analog source it is not taken (alicatlib)."""
        if self.source != ANALOG:
            low, high = self.menu.range()
            self.setpoint.requested = round(min(max(value, low), high), self.decimals)
            self.setpoint.advance(0.0)

    def highest(self) -> float:
        """The greatest setpoint."""
        return self.full_scale if self.of_flow else HIGHEST_PSIA

    def change_unit(self, unit: str) -> None:
        """Count flows in another unit from now on."""
        before = self.sccm
        self.capacity_unit = unit
        factor = before / self.sccm
        self.full_scale *= factor
        self.measured *= factor
        if self.of_flow:
            self.setpoint.rescale(factor)
        self.menu.rescale(factor)

    def _hold_closed(self) -> str:
        self.hold = "closed"
        return self.frame()

    def _hold_here(self) -> str:
        self.hold = "here"
        return self.frame()

    def _cancel(self) -> str:
        self.hold = ""
        return self.frame()

    def _loop(self, value: str | None) -> str:
        if value is not None:
            if int(value) not in VARIABLES:
                return codec.REFUSAL
            self.variable = int(value)
        return f"{self.letter} {self.variable}"

    def _where_from(self, value: str | None) -> str:
        self.source = value or self.source
        return f"{self.letter} {self.source}"

    def _version(self) -> str:
        return f"{self.letter}   {self.firmware}"

    def _set_gas(self, number: str) -> str:
        return self.frame() if self.menu.select_gas(int(number)) else codec.REFUSAL

    def _lock(self) -> str:
        self.locked = True
        return self.frame()

    def _unlock(self) -> str:
        self.locked = False
        return self.frame()

    def _tare(self) -> str:
        return self.frame()

    def _rename(self, letter: str) -> None:
        """A letter, or ``@``, which streams; nothing is said (P, "Change Unit ID"; D: alicatlib)."""
        self.letter = letter
        self._said, self._silent = [], 0.0

    def _max_ramp(self, value: str | None, time: str | None) -> str:
        if value is not None and time is not None:
            self.setpoint.ramp(float(value), int(time))
        code, label = self.setpoint_unit().split(" ")
        shown, time_code, time_label = self.setpoint.told()
        return f"{self.letter} {shown:.{self.decimals}f} {code} {time_code} {label}/{time_label}"

    def _ramping(self, flags: str | None) -> str:
        if flags is not None:
            self.setpoint.ramps = [int(flag) for flag in flags.split()]
        return f"{self.letter} {' '.join(map(str, self.setpoint.ramps))}"

    def _register(self, number: str, value: str | None = None) -> str:
        register = int(number)
        if value is not None:
            if register == 46:
                self.menu.select_gas(int(value) & 511)
            elif register == 91:
                self.menu.interval = int(value)
            elif register != 122:
                self.registers[register] = int(value)
            elif int(value) in VARIABLES:
                self.variable = int(value)
        known = {46: self.gas, 91: self.menu.interval, 122: self.variable}
        return f"{self.letter}   {register:03d} = {known.get(register, self.registers.get(register, 0))}"

    def _describe(self) -> str:
        """The data frame's columns (the table as in alicatlib's transcripts), lines apart by CR."""
        return "\r".join(self._rows()) + "\r"  # an empty line ends it (D: labmcp-alicat)

    def _describe_one(self, place: str) -> str:
        """One line of that table (D: raacampbell/alicat-matlab asks for one after the other)."""
        rows = self._rows()
        return rows[int(place)] if int(place) < len(rows) else codec.REFUSAL

    def _rows(self) -> list[str]:
        rows = ["D00 ID_ NAME______________________ TYPE_______ WIDTH NOTES___________________"]
        rows += [
            f"D{place:02d} {statistic:03d} {name:<26} {kind:<11} {width:>5} {notes}".rstrip()
            for place, (statistic, name, kind, width, notes) in enumerate(self.columns(), start=1)
        ]
        return [f"{self.letter} {row}" for row in rows]

    def _gas_list(self) -> str:
        return "\r".join(f"{self.letter} G{number:02d} {name:>8}" for number, name in self.menu.gases)

    def _maker(self) -> str:
        lines = ["M00 ALICAT SCIENTIFIC", "M01 www.alicat.com", "M02 Ph   520-290-6060", "M03 info@alicat.com",
                 f"M04 Model Number {'M' if self.meter else 'MC'}-{self.full_scale:g}{self.capacity_unit}-D",
                 "M05 Serial Number 100000", "M06 Date Manufactured 01/01/2025", "M07 Date Calibrated   01/01/2025",
                 "M08 Calibrated By     EM", f"M09 Software Revision {self.firmware.split()[0]}"]  # fmt: skip
        return "\r".join(f"{self.letter} {line}" for line in lines)

    def _software(self) -> str:
        return f"{self.letter} M09 Software Revision {self.firmware}"


ANY = (0, 0)
# Pattern, what does it, and the first firmware that has it (primer, contents: versions beside the commands).
COMMANDS: tuple[tuple[str, str, tuple[int, int]], ...] = (
    (rf"LS(?: *{NUMBER})?(?: +(\d+))?", "setpoint", (9, 0)),
    (rf"S *{NUMBER}", "set_old", ANY),
    (r"(\d{1,5})", "set_counts", ANY),
    (r"HC", "hold_closed", ANY),
    (r"HP?", "hold_here", ANY),
    (r"C", "cancel", ANY),
    (r"LV(?: *(\d+))?", "loop", (9, 0)),
    (r"LSS(?: *([SUA]))?(?: +[01])?", "where_from", (10, 5)),
    (r"VE", "version", ANY),
    (r"G *(\d+)", "set_gas", ANY),
    (r"L", "lock", ANY),
    (r"U", "unlock", ANY),
    (r"V|T|P|TP|PC", "tare", ANY),
    (r"@ *=? *([A-Z@])", "rename", ANY),
    (rf"SR(?: *{NUMBER} +([3-7]))?", "max_ramp", (7, 11)),
    (r"LSRC(?: *([01] [01] [01] [01]))?", "ramping", (10, 5)),
    (r"R *(\d{1,3})", "register", ANY),
    (r"W *(\d{1,3}) *= *(\d+)", "register", ANY),
    (r"\?\?D\*", "describe", ANY),
    (r"\?\?D(\d{1,2})", "describe_one", ANY),
    (r"\?\?G\*", "gas_list", ANY),
    (r"\?\?M\*", "maker", ANY),
    (r"\?\?M0?9", "software", ANY),
)
CONTROL = {
    "setpoint", "set_old", "set_counts", "hold_closed", "hold_here", "cancel", "loop", "where_from", "max_ramp",
    "ramping",
}  # fmt: skip
"""What a meter without a valve does not know."""
