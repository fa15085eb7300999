"""An emulated board of eight relays that switch the world's gas valves and its beam blanker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from devices.physics import World
from hal.instrument.registers import Illegal, RegisterMap
from hal.protocols.modbus import ModbusFraming

from .codec import CHANNELS

GASES = {1: "argon", 2: "hydrogen"}
BLANKER = 8


class RelayBoardEmulator:
    """All relays are released at power-up; an energised one opens its valve or blanks the beam."""

    def __init__(
        self,
        world: World,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        gases: Mapping[int, str] = GASES,
        blanker: int | None = BLANKER,
        reply_delay: float = 0.005,
    ) -> None:
        self.world, self.gases, self.blanker, self.reply_delay = world, dict(gases), blanker, reply_delay
        self.energised = [False] * CHANNELS
        self.switched = [0] * CHANNELS
        """How often each relay has changed: contacts wear."""
        self._map = RegisterMap(1 if unit is None else int(unit), coils=self)
        for channel_number in range(1, CHANNELS + 1):
            self._act(channel_number)

    def framing(self, scheme: str) -> ModbusFraming:
        return ModbusFraming(scheme, "server")

    def respond(self, message: bytes) -> bytes | None:
        return self._map.respond(message)

    def advance(self, dt: float) -> None:
        """Relays switch within milliseconds; nothing to wait for."""

    # ------------------------------------------------------------------ the table of coils

    def read(self, start: int, count: int) -> list[int]:
        if start + count > CHANNELS:
            raise Illegal
        return [int(on) for on in self.energised[start : start + count]]

    def write(self, start: int, values: Sequence[int]) -> None:
        if start + len(values) > CHANNELS:
            raise Illegal
        for at, value in enumerate(values, start):
            if self.energised[at] != bool(value):
                self.energised[at] = bool(value)
                self.switched[at] += 1
                self._act(at + 1)

    def _act(self, channel: int) -> None:
        on = self.energised[channel - 1]
        self.world.valves[channel] = on
        if channel in self.gases:
            self.world.lines[self.gases[channel]].open = on
        if channel == self.blanker:
            self.world.blanked = on
