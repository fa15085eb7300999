"""An emulated gauge controller: its first gauge sits on the cell, the second on the column.

Not emulated: the continuous output (COM) with which a real one begins after power-up, since an
emulator speaks only when spoken to.
"""

from __future__ import annotations

import random
from typing import Any

from . import codec
from .codec import ACK, ENQ, ETX, NAK, Measurement

SAMPLING = 0.04  # s between two measurements
LOWEST, HIGHEST = 5e-7, 1e5  # Pa: a full-range gauge, PKR 251 (5e-9 to 1000 mbar)
ABSENT = 2.0e-2 * 100  # Pa, what is sent of an input without a gauge (D: TPG 256 A drivers)


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
        seed: int = 1,
    ) -> None:
        """`sees`: what of the world each input measures. `shown`: unit. `noise`: relative, one sigma."""
        self.reply_delay = 0.008
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
        self._settings = {"BAU": "0", "LNG": "0", "FIL": ",".join("1" * self.inputs)}
        self._refused = False
        self._asked = "PRX"
        self._random = random.Random(seed)
        self._age = 0.0
        self._measured: list[Measurement] = []
        self._measure()

    def framing(self, scheme: str) -> codec.ControllerEnd:
        return codec.ControllerEnd()

    def respond(self, message: bytes) -> bytes | None:
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
        return ACK

    def advance(self, dt: float) -> None:
        self._age += dt
        if self._age >= SAMPLING - 1e-9:
            self._measure()

    # ------------------------------------------------------------------ private

    def _measure(self) -> None:
        self._age = 0.0
        self._measured = [self._one(number) for number in range(1, self.inputs + 1)]

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
        known = {"PRX", "UNI", "TID", "ERR", "SEN", "COM", "PNR", *self._settings}
        known |= {f"PR{number}" for number in range(1, self.inputs + 1)}
        if self.modern:
            known |= {"AYT", "TMP"}
        if mnemonic in known:
            return True
        self.error = codec.SYNTAX
        return False

    def _set(self, mnemonic: str, parameters: list[str]) -> bool:
        """Take a setting; False (and the error word) if it is inadmissible."""
        self.error = codec.INADMISSIBLE
        if not all(p.isdecimal() for p in parameters):
            return False
        numbers = [int(p) for p in parameters]
        match mnemonic, numbers:
            case "UNI", [code] if code in codec.UNITS and (self.modern or code <= 2):
                self.unit = code
            case "SEN", states if len(states) == self.inputs and all(s in (0, 1, 2) for s in states):
                for number, state in enumerate(states, 1):
                    if state:  # 0 leaves it, 1 is off, 2 is on
                        (self.off.add if state == 1 else self.off.discard)(number)
                self._measure()
            case ("FIL", filters) if len(filters) == self.inputs and all(f <= 3 for f in filters):
                self._settings["FIL"] = ",".join(parameters)
            case (("BAU" | "LNG"), [code]) if code <= 4:
                self._settings[mnemonic] = str(code)
            case "COM", [code] if code <= 2:
                pass
            case _:
                return False
        self.error = codec.NO_ERROR
        return True

    def _data(self) -> str:
        if self._refused:
            return self.error
        match self._asked:
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
            case "TMP":
                return "23"
            case "SEN":
                return ",".join("1" if n in self.off else "2" for n in range(1, self.inputs + 1))
            case "PRX" | "COM":
                return codec.encode_measurements([self._shown(m) for m in self._measured])
            case asked if asked.startswith("PR"):
                return self._shown(self._measured[int(asked[2:]) - 1]).encode()
            case asked:
                return self._settings[asked]

    def _shown(self, measured: Measurement) -> Measurement:
        if self.unit == codec.VOLT:
            return Measurement(measured.status, 5.0)
        return Measurement(measured.status, measured.value / codec.PASCALS[self.unit])
