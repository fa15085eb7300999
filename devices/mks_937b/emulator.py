"""An emulated 937B: its first gauge sits on the cell, its third on the column.

Commands beyond the manual's section 9.1 are those of the accelerator Sirius, whose EPICS protocol file for the 937B
(lnls-sirius/streamdevice-ioc, `mks937b.proto`: E) lists them with the forms of their answers. Not emulated: gauges that
are switched by another's pressure (the settings are kept), and errors in words (SEM). Unverified: values as delivered.
"""

from __future__ import annotations

import random
import re
from typing import Any

from hal.protocols.framing import Lines

from . import codec
from .codec import Reply, Request

SAMPLING = 0.1  # s between two measurements, unverified
LOWEST, HIGHEST = 1e-8, 1.0e5  # Pa that every gauge sees here
RELAYS = 12  # two for every channel
SWITCHED = {"PRO": 5e-3, "FRC": 1e-3, "CSP": 1e-3, "CHP": 1.5e-3}
"""Pressures at which an ion gauge is protected or switched (E), Torr."""
CONTROL = {"CSE": ("OFF", "A1", "A2", "B1", "B2", "C1", "C2"), "CTL": ("OFF", "AUTO", "SAFE")}
"""Which gauge switches an ion gauge, and how (E); the first as delivered."""
CHOICES = {"LOCK": ("OFF", "ON"), "SEM": ("CODE", "TXT"), "PAR": ("NONE", "EVEN", "ODD")}
BAUDS = ("9600", "19200", "38400", "57600", "115200")  # manual, section 9.1


class Mks937bEmulator:
    """The whole controller with its six channels. Settings: see `__init__`."""

    def __init__(
        self,
        world: Any,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        sees: tuple[str, ...] = ("pressure", "", "column"),
        shown: str = "TORR",
        model: str = "937B",
        noise: float = 0.005,
        seed: int = 1,
    ) -> None:
        """`sees`: what of the world each channel measures. `shown`: unit. `noise`: relative, one sigma."""
        self.reply_delay = 0.008
        self.world, self.model, self.noise, self.shown = world, model, noise, shown.upper()
        self.address = int(unit) if unit is not None else 253
        self.sees = list(sees) + [""] * (6 - len(sees))
        self.words: dict[int, str] = {}
        """What a channel says instead of a pressure, for tests: ``{1: "PROT_OFF"}``."""
        self.off: set[int] = set()
        self.baud = "9600"
        self.relays: dict[tuple[str, int], str] = {}
        self.closed: set[int] = set()
        """Relays that their pressure has switched."""
        self.gauges: dict[tuple[str, int], str] = {}
        self.choices = {name: words[0] for name, words in CHOICES.items()}
        self.delay = 8  # ms before it answers (E: DLY)
        self._random = random.Random(seed)
        self._age = 0.0
        self._measured: list[float] = []
        self._measure()

    def framing(self, scheme: str) -> Lines:
        return codec.framing()

    def respond(self, message: bytes) -> bytes | None:
        start = message.rfind(b"@")  # whatever was on the line before
        if start < 0:
            return None
        try:
            request = Request.decode(message[start:])
        except ValueError:
            if message[start + 1 : start + 4] == b"%03d" % self.address:
                return Reply(self.address, str(codec.UNKNOWN), refused=True).encode()
            return None
        if request.address not in (self.address, codec.ANYBODY):
            return None
        before = self.address
        said = self._answer(request)
        return Reply(before, str(said), refused=isinstance(said, int)).encode()

    def advance(self, dt: float) -> None:
        self._age += dt
        if self._age >= SAMPLING - 1e-9:
            self._measure()

    # ------------------------------------------------------------------ private

    def _measure(self) -> None:
        self._age = 0.0
        self._measured = [
            getattr(self.world, what) * (1 + self._random.gauss(0.0, self.noise)) if what else 0.0 for what in self.sees
        ]

        for number in range(1, RELAYS + 1):
            self._switch(number)

    def _switch(self, number: int) -> None:
        """Close or open a relay by its channel's pressure."""
        channel = (number + 1) // 2
        shown = self._measured[channel - 1] / codec.PASCALS[self.shown]
        point, back = (float(self.relays.get((name, number), "1.000E-3")) for name in ("SP", "SH"))
        below = self.relays.get(("SD", number), "BELOW") == "BELOW"
        on, off = (shown < point, shown > max(back, point)) if below else (shown > point, shown < min(back, point))
        if on and self.sees[channel - 1] and channel not in self.off:
            self.closed.add(number)
        elif off or not self.sees[channel - 1]:
            self.closed.discard(number)

    def _closed(self, number: int) -> bool:
        match self.relays.get(("EN", number), "CLEAR"):
            case "SET":
                return True
            case "ENABLE":
                return number in self.closed
        return False

    def _pressure(self, channel: int) -> str:
        if channel in self.words:
            return self.words[channel]
        if not self.sees[channel - 1]:
            return "NOGAUGE"
        if channel in self.off:
            return "OFF"
        pascal = self._measured[channel - 1]
        if pascal > HIGHEST:
            return "ATM"
        if pascal < LOWEST:
            return "LO<E-11"
        return codec.encode_pressure(pascal / codec.PASCALS[self.shown])

    def _answer(self, request: Request) -> str | int:
        """Data, or the code of a refusal."""
        number, value = request.number, request.value
        match request.command:
            case "PR" | "T" | "CP" if number is not None and not 1 <= number <= 6:
                return codec.UNKNOWN
            case "PR" if number is not None:
                return self._pressure(number) if value is None else codec.FORM
            case "PRZ":  # apart by spaces: unverified
                return " ".join(self._pressure(channel) for channel in range(1, 7)) if value is None else codec.FORM
            case "PC" if number in (1, 2):
                return self._pressure(number)
            case "T" if number is not None:
                if number % 2 == 0 or not self.sees[number - 1]:
                    return codec.NOT_ION
                return "O" if number in self.off else "G"
            case "CP" if number is not None:
                return self._power(number, value)
            case "U":
                return self._unit(value)
            case "SP" | "SH" | "SD" | "EN" | "SS" if number is not None and 1 <= number <= 12:
                return self._relay(request.command, number, value)
            case "SSA" if value is None:
                return "".join(str(int(self._closed(relay))) for relay in range(1, RELAYS + 1))
            case "PRO" | "FRC" | "CSP" | "CHP" | "CSE" | "CTL" if number is not None and 1 <= number <= 6:
                return self._ion_gauge(request.command, number, value)
            case "VAC" | "ATM" if number is not None and 1 <= number <= 6:
                if value is not None and request.command == "ATM":
                    return codec.encode_pressure(float(value)) if _is_number(value) else codec.ARGUMENT
                return "OK" if self.sees[number - 1] else codec.UNKNOWN
            case "LOCK" | "SEM" | "PAR" if number is None:
                if value is not None:
                    if value.upper() not in CHOICES[request.command]:
                        return codec.ARGUMENT
                    self.choices[request.command] = value.upper()
                return self.choices[request.command]
            case "DLY" if number is None:
                if value is not None:
                    if not (value.isdecimal() and 1 <= int(value) <= 8):
                        return codec.RANGE if value.isdecimal() else codec.ARGUMENT
                    self.delay = int(value)
                    self.reply_delay = self.delay / 1000
                return str(self.delay)
            case "MT" if value is None:
                slots = [any(self.sees[at : at + 2]) for at in (0, 2, 4)]
                return ",".join([*("CC" if fitted else "NC" for fitted in slots), "NC"])
            case "STA" | "STB" | "STC" if value is None:  # a letter for either gauge of the slot (its form: unverified)
                first = "ABC".index(request.command[2]) * 2
                return "".join(self._state(channel) for channel in (first + 1, first + 2))
            case "AD" if value is not None:
                if not (value.isdecimal() and 1 <= int(value) <= 253):
                    return codec.RANGE if value.isdecimal() else codec.ARGUMENT
                self.address = int(value)
                return f"{self.address:03d}"
            case "BR" if number is None:
                if value is not None and value not in BAUDS:
                    return codec.ARGUMENT
                self.baud = value or self.baud
                return self.baud
            case "MD" | "SN" | "FV" if value is not None:
                return codec.FORM
            case "MD":
                return self.model
            case "SN":
                return "1234567890"
            case "FV":
                return "1.11"
            case "AD":
                return f"{self.address:03d}"
            case _:
                return codec.UNKNOWN

    def _state(self, channel: int) -> str:
        """``G``: good, ``O``: off, ``N``: none."""
        return "N" if not self.sees[channel - 1] else "O" if channel in self.off else "G"

    def _ion_gauge(self, command: str, number: int, value: str | None) -> str | int:
        """A setting of an ion gauge; other gauges have none."""
        if number % 2 == 0 or not self.sees[number - 1]:
            return codec.NOT_ION
        key = command, number
        if command in CONTROL:
            if value is not None:
                if value.upper() not in CONTROL[command]:
                    return codec.ARGUMENT
                self.gauges[key] = value.upper()
            return self.gauges.get(key, CONTROL[command][0])
        if value is not None:
            if not _is_number(value):
                return codec.ARGUMENT
            self.gauges[key] = codec.encode_pressure(float(value))
        torr = SWITCHED[command] * codec.PASCALS["TORR"] / codec.PASCALS[self.shown]
        return self.gauges.get(key, codec.encode_pressure(torr))

    def _power(self, channel: int, value: str | None) -> str | int:
        if value is not None:
            if value.upper() not in ("ON", "OFF"):
                return codec.ARGUMENT
            (self.off.add if value.upper() == "OFF" else self.off.discard)(channel)
        return "OFF" if channel in self.off else "ON"

    def _unit(self, value: str | None) -> str | int:
        if value is not None:
            if value.upper() not in codec.UNITS:
                return codec.ARGUMENT
            self.shown = value.upper()
        return codec.UNITS[self.shown]

    def _relay(self, command: str, number: int, value: str | None) -> str | int:
        if command == "SS":
            return ("SET" if self._closed(number) else "CLEAR") if value is None else codec.FORM
        if value is not None:
            words = {"SD": ("ABOVE", "BELOW"), "EN": ("SET", "ENABLE", "CLEAR")}.get(command)
            if words is not None and value.upper() not in words:
                return codec.ARGUMENT
            if words is None:
                if not _is_number(value):
                    return codec.ARGUMENT
                value = codec.encode_pressure(float(value))
            self.relays[command, number] = value.upper()
            self._switch(number)
        power_up = {"SD": "BELOW", "EN": "CLEAR"}.get(command, "1.000E-3")
        return self.relays.get((command, number), power_up)


def _is_number(text: str) -> bool:
    """Whether it is a pressure that can be set."""
    return re.fullmatch(r"\d{1,6}(\.\d{0,6})?(E[+-]?\d{1,2})?", text, re.IGNORECASE) is not None
