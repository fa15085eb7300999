"""An emulated 937B: its first gauge sits on the cell, its third on the column.

Not emulated: calibration, ion-gauge parameters, and relays that act (their settings are kept).
"""

from __future__ import annotations

import random
from typing import Any

from hal.protocols.framing import Lines

from . import codec
from .codec import Reply, Request

SAMPLING = 0.1  # s between two measurements, unverified
LOWEST, HIGHEST = 1e-8, 1.0e5  # Pa that every gauge sees here
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
        said = self._answer(request)
        return Reply(self.address, str(said), refused=isinstance(said, int)).encode()

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
            case "BR" if number is None:
                if value is not None and value not in BAUDS:
                    return codec.ARGUMENT
                self.baud = value or self.baud
                return self.baud
            case "MD" | "SN" | "FV" | "AD" if value is not None:
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
            return ("SET" if self.relays.get(("EN", number)) == "SET" else "CLEAR") if value is None else codec.FORM
        if value is not None:
            words = {"SD": ("ABOVE", "BELOW"), "EN": ("SET", "ENABLE", "CLEAR")}.get(command)
            if words is not None and value.upper() not in words:
                return codec.ARGUMENT
            if words is None:
                try:
                    value = codec.encode_pressure(float(value))
                except (ValueError, OverflowError):
                    return codec.ARGUMENT
            self.relays[command, number] = value.upper()
        power_up = {"SD": "BELOW", "EN": "CLEAR"}.get(command, "1.000E-3")
        return self.relays.get((command, number), power_up)
