"""An emulated Pfeiffer gauge on RS-485: silent to damaged telegrams and to other addresses.

Not emulated: what it adjusts, and parameters of filaments, cathodes and switching points.
"""

from __future__ import annotations

import random
from typing import Any

from hal.protocols.framing import Lines

from . import codec
from .codec import Telegram

SAMPLING = 0.01  # s between two measurements (PPT 200: PG 0022 BEN/B, section 13.2)
LEAST, MOST = 20, 800
"""Hundredths: the factor for the gas (the same, section 6.2)."""


class Telegraph:
    """The far end of telegrams: silent to damaged ones and to other addresses."""

    address: int

    def framing(self, scheme: str) -> Lines:
        return codec.framing()

    def respond(self, message: bytes) -> bytes | None:
        try:
            said = Telegram.decode(message)
        except ValueError:
            return None
        if said.address == codec.EVERYBODY and said.action == codec.CONTROL:
            self._set(said.parameter, said.data)
        if said.address != self.address:
            return None
        if said.action == codec.CONTROL:
            data = self._set(said.parameter, said.data)
        else:
            data = self._read(said.parameter) if said.data == codec.QUESTION else "_LOGIC"
        return Telegram(self.address, codec.CONTROL, said.parameter, data).encode()

    def _read(self, parameter: int) -> str:
        raise NotImplementedError

    def _set(self, parameter: int, data: str) -> str:
        raise NotImplementedError


class PfeifferTelegramEmulator(Telegraph):
    """One gauge. Settings: see `__init__`."""

    def __init__(
        self,
        world: Any,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        sees: str = "pressure",
        kind: str = "    A5",
        noise: float = 0.01,
        seed: int = 1,
    ) -> None:
        """`sees`: what of the world it measures. `kind`: as parameter 349 says. `noise`: relative, one sigma."""
        self.reply_delay = 0.005
        self.world, self.sees, self.noise = world, sees, noise
        self.address = int(unit) if unit is not None else 1
        self.error = codec.NO_ERROR
        self.values = {codec.FIRMWARE: "010500", codec.NAME: kind}
        self.settings = {codec.CORRECTION: "000100"}
        self._random = random.Random(f"{seed} {self.address}")
        self._age = 0.0
        self._measure()

    def advance(self, dt: float) -> None:
        self._age += dt
        if self._age >= SAMPLING - 1e-9:
            self._measure()

    def _measure(self) -> None:
        self._age = 0.0
        self.measured = getattr(self.world, self.sees) * (1 + self._random.gauss(0.0, self.noise))

    def _known(self) -> dict[int, str]:
        shown = codec.encode_pressure(self.measured * int(self.settings[codec.CORRECTION]) / 100)
        return self.values | self.settings | {codec.PRESSURE: shown, codec.ERROR: self.error}

    def _read(self, parameter: int) -> str:
        if parameter == codec.ADJUST:
            return "_LOGIC"  # to be written only
        return self._known().get(parameter, "NO_DEF")

    def _set(self, parameter: int, data: str) -> str:
        if parameter == codec.ADJUST:
            return data if data in ("000", "001") else "_RANGE"  # at zero, or at the atmosphere's pressure
        if parameter not in self.settings:
            return "_LOGIC" if parameter in self._known() else "NO_DEF"
        if not data.isdecimal() or len(data) != len(self.settings[parameter]) or not LEAST <= int(data) <= MOST:
            return "_RANGE"
        self.settings[parameter] = data
        return data
