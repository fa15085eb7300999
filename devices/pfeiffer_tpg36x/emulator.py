"""An emulated gauge controller: its first gauge sits on the cell, the second on the column.

Not emulated: test programs, degassing, and gauges that are switched by another's pressure (their settings are kept).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from . import codec, settings
from .codec import ACK, ENQ, ESC, ETX, NAK, Measurement

SAMPLING = 0.04  # s between two measurements
LOWEST, HIGHEST = 5e-7, 1e5  # Pa: a full-range gauge, PKR 251 (5e-9 to 1000 mbar)
INTERVALS = (0.1, 1.0, 60.0)  # s, of COM
ABSENT = 2.0e-2 * 100  # Pa, what is sent of an input without a gauge (D: TPG 256 A drivers)


@dataclass
class Switch:
    """One switching function: on below `low`, off above `high` (Pa)."""

    input: int = 0
    low: float = 1e-2
    high: float = 1e-1
    on: bool = False

    def see(self, pascal: float) -> None:
        self.on = pascal < self.low or (self.on and pascal <= self.high)


class PfeifferTpg36xEmulator:
    """The whole controller with all its inputs. Settings: see `__init__`."""

    def __init__(
        self,
        world: Any,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        model: str = "TPG362",
        sees: tuple[str, ...] = ("pressure", "column"),
        shown: str = "",
        noise: float = 0.005,
        fresh: bool = False,
        seed: int = 1,
    ) -> None:
        """`unit`: address on RS-485; none: it answers to all. `sees`: what of the world each input measures.
        `shown`: unit. `noise`: relative, one sigma.
        `fresh`: just switched on, it tells measurements every second until it hears something."""
        self.reply_delay = 0.008
        self.address = None if unit is None else int(unit)
        self._spoken_to = True
        self.world, self.model, self.noise = world, model, noise
        self.inputs = codec.INPUTS.get(model, 2 if model.endswith("2") else 1)
        self.modern = model in codec.INPUTS
        """A TPG 36x; a 26x knows neither AYT nor hPa."""
        names = {name: code for code, name in codec.UNITS.items()}
        self.unit = names[shown or ("hPa" if self.modern else "mbar")]
        self.sees = list(sees[: self.inputs]) + [""] * (self.inputs - len(sees))
        self.faults: dict[int, int] = {}
        """Status forced upon an input, for tests: ``{1: codec.ERROR}``."""
        self.off: set[int] = set()
        self.error = codec.NO_ERROR
        self.names = [f"GAUGE_{number}".ljust(settings.NAME, "_") for number in range(1, self.inputs + 1)]
        family = "36" if self.modern else "26"
        self._kept = {name: kept for name, kept in settings.KEPT.items() if kept.only in ("", family)}
        if self.inputs == 6:
            self._kept["DCB"] = settings.SHOWN_BY_366
        self._settings = {name: kept.first(self.inputs) for name, kept in self._kept.items()}
        self._settings |= {f"SC{number}": settings.GAUGE_CONTROL for number in range(1, self.inputs + 1)}
        self.switches = [Switch() for _ in range(6 if self.inputs == 6 else 4)]
        self._switching = {f"SP{number}" for number in range(1, len(self.switches) + 1)}
        self._refused = False
        self._asked = "ERR"
        self._every = 1.0 if fresh else 0.0
        """Seconds between two lines of the continuous output; 0: none."""
        self._waited = 0.0
        self._said: list[bytes] = []
        self._random = random.Random(seed)
        self._age = 0.0
        self._measured: list[Measurement] = []
        self._measure()

    def framing(self, scheme: str) -> codec.ControllerEnd:
        return codec.ControllerEnd()

    def respond(self, message: bytes) -> bytes | None:
        if message[:1] == ESC:  # on RS-485 an address stands before each mnemonic, and ENQ is for the last one named
            self._spoken_to = message[1:3].isdigit() and self.address in (None, int(message[1:3]))
            message = message[3:]
        elif message not in (ENQ, ETX):
            self._spoken_to = True
        if not self._spoken_to:
            return None
        self._every, self._said = 0.0, []  # whatever comes ends the continuous output
        if message == ETX:
            self._refused = False
            return None
        if message == ENQ:
            return self._data().encode("ascii")
        text = message.decode("latin-1").replace(" ", "").upper()  # spaces are ignored (section 1.3)
        mnemonic, *parameters = text.split(",")
        self._refused = not (self._known(mnemonic) and (not parameters or self._set(mnemonic, parameters)))
        if self._refused:
            return NAK
        self._asked = mnemonic
        if mnemonic == "COM":  # ACK is followed at once by the first line
            self._every = self._waited = INTERVALS[int(parameters[0]) if parameters else 1]
        return ACK

    @property
    def talking(self) -> bool:
        """Whether it tells measurements without being asked."""
        return self._every > 0.0

    def unasked(self) -> list[bytes]:
        """Measurements of the continuous output (COM)."""
        said, self._said = self._said, []
        return said

    def advance(self, dt: float) -> None:
        if self._every:
            self._waited += dt
            if self._waited >= self._every - 1e-9:
                self._waited = 0.0
                self._said.append(codec.encode_measurements([self._shown(m) for m in self._measured]).encode("ascii"))
        self._age += dt
        if self._age >= SAMPLING - 1e-9:
            self._measure()

    # ------------------------------------------------------------------ private

    def _measure(self) -> None:
        self._age = 0.0
        self._measured = [self._one(number) for number in range(1, self.inputs + 1)]
        for switch in self.switches:
            switch.see(self._measured[switch.input].value if switch.input < self.inputs else ABSENT)

    def _one(self, number: int) -> Measurement:
        """In pascals."""
        if not self.sees[number - 1]:
            return Measurement(codec.NONE, ABSENT)
        if number in self.off:
            return Measurement(codec.OFF, 0.0)
        pressure = getattr(self.world, self.sees[number - 1]) * (1 + self._random.gauss(0.0, self.noise))
        status = codec.UNDER if pressure < LOWEST else codec.OVER if pressure > HIGHEST else codec.GOOD
        return Measurement(self.faults.get(number, status), min(max(pressure, LOWEST), HIGHEST))

    def _known(self, mnemonic: str) -> bool:
        known = {"PRX", "UNI", "TID", "ERR", "SEN", "COM", "PNR", "SPS", "RES", "SAV", *self._settings}
        known |= {"CID"} if self.inputs == 6 else set()
        known |= {f"PR{number}" for number in range(1, self.inputs + 1)}
        known |= self._switching
        if self.modern:
            known |= {"AYT", *settings.TOLD}
        if mnemonic in known:
            return True
        self.error = codec.SYNTAX
        return False

    def _set(self, mnemonic: str, parameters: list[str]) -> bool:
        """Take a setting; False (and the error word) if it is inadmissible."""
        self.error = codec.INADMISSIBLE
        if mnemonic == "CID" and self.inputs == 6:
            if len(parameters) != self.inputs or not all(0 < len(name) <= settings.NAME for name in parameters):
                return False
            self.names = [name.ljust(settings.NAME, "_") for name in parameters]
            self.error = codec.NO_ERROR
            return True
        if mnemonic in self._kept:
            taken = self._kept[mnemonic].taken(parameters, self.inputs)
            if taken is None:
                return False
            self._settings[mnemonic] = taken
            self.error = codec.NO_ERROR
            return True
        try:
            numbers = [float(p) for p in parameters]
        except ValueError:
            return False
        match mnemonic, numbers:
            case "UNI", [code] if code in codec.UNITS and (self.modern or code <= 2):
                self.unit = int(code)
            case "SEN", states if len(states) == self.inputs and all(s in (0, 1, 2) for s in states):
                for number, state in enumerate(states, 1):
                    if state:  # 0 leaves it, 1 is off, 2 is on
                        (self.off.add if state == 1 else self.off.discard)(number)
                self._measure()
            case (("RES" | "SAV"), [code]) if code in (0, 1):
                pass
            case (name, [who, low, high]) if name in self._switching and 0 < low <= high < 1e9 and who in range(9):
                switch = self.switches[int(name[2:]) - 1]
                switch.input, switch.low, switch.high = int(who), *(x * self._pascal for x in (low, high))
            case (name, [on, off, low, high]) if name in self._settings and on in range(6) and off in range(6):
                self._settings[name] = f"{on:.0f},{off:.0f},{low:.4E},{high:.4E}"
            case "COM", [code] if code in (0, 1, 2):
                pass
            case _:
                return False
        self.error = codec.NO_ERROR
        return True

    def _data(self) -> str:
        if self._refused:
            return self.error
        match self._asked:
            case asked if asked in self._settings:
                return self._settings[asked]
            case "AYT":
                return codec.Identity(self.model, "PTG28290", "44998061", "010100", "010100").encode()
            case "PNR":
                return "010100" if self.modern else "302-510-A"
            case "UNI":
                return str(self.unit)
            case "TID":
                return ",".join("PKR" if seen else "noSEn" for seen in self.sees)
            case "ERR":
                error, self.error = self.error, codec.NO_ERROR
                return error
            case "SAV" if self.inputs == 6:
                return codec.NO_ERROR  # PSI's protocol file, see `settings`
            case "RES" | "SAV":
                return "0"
            case "CID":
                return ",".join(self.names)
            case "SPS":
                return ",".join(str(int(switch.on)) for switch in self.switches)
            case asked if asked[:2] == "SP":
                switch = self.switches[int(asked[2:]) - 1]
                return f"{switch.input},{switch.low / self._pascal:.4E},{switch.high / self._pascal:.4E}"
            case "SEN":
                return ",".join(
                    "0" if not seen else "1" if n in self.off else "2" for n, seen in enumerate(self.sees, 1)
                )
            case "PRX" | "COM":
                return codec.encode_measurements([self._shown(m) for m in self._measured])
            case asked if asked.startswith("PR"):
                return self._shown(self._measured[int(asked[2:]) - 1]).encode()
            case asked:
                return settings.TOLD[asked]

    @property
    def _pascal(self) -> float:
        """Pa in one of the unit that it shows."""
        return codec.PASCALS.get(self.unit, 1.0)

    def _shown(self, measured: Measurement) -> Measurement:
        if self.unit == codec.VOLT:
            return Measurement(measured.status, 5.0)
        return Measurement(measured.status, measured.value / codec.PASCALS[self.unit])
