"""An emulated MercuryiTC as it stands beside a cryostat: its motherboard and some daughter boards.

Sensor MB1.T1 and heater MB0.H1 are on the world's specimen, DB8.T1 and DB1.H1 on the body of its holder;
needle valve DB4.G1 and level meter DB3.L1 act on nothing, DB5.P1 tells the cell's pressure.

Unverified: what a power-up leaves, the rate of readings, that TSET reads as the end of a ramp, that a ramp
begins at the setpoint before (in a loop just switched on at the temperature), INVALID for a value out of range.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from devices.physics import BODY_FULL_POWER, FULL_POWER, World
from hal.protocols.framing import AnyLines, Framing
from hal.units import convert

from . import codec
from .boards import Board, Gauge, Get, Heater, Kept, Levels, Noun, Sensor, Set, Valve, told

CYCLE = 0.1  # s
NOISE = 0.01  # K, one sigma
START = datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)
"""What its clock says when it is switched on."""


class OxfordMercuryItcEmulator:
    """A MercuryiTC. Settings: `seed`, `serial`. `locked`: the user may change nothing."""

    def __init__(
        self, world: World, *, unit: int | str | None = None, channel: object = None, seed: int = 101,
        serial: str = "123450001", reply_delay: float = 0.01,
    ) -> None:  # fmt: skip
        self.world, self.reply_delay, self.serial = world, reply_delay, serial
        self.address = 1 if unit is None else int(unit)
        self.locked = False
        self._elapsed, self._now, self._random = 0.0, 0.0, random.Random(seed)
        self._clock = timedelta()
        self._kept = Kept()
        heater = Heater("MB0.H1", serial, lambda share: world.heaters.__setitem__(self, share * FULL_POWER))
        body = Heater(
            "DB1.H1", serial + "1", lambda share: world.body_heaters.__setitem__(self, share * BODY_FULL_POWER)
        )
        self.valve = Valve("DB4.G1", serial + "4")
        # Both tuned for what they heat: the chip follows in a second, the body takes minutes.
        self.sensor = Sensor("MB1.T1", serial, lambda: self._measure(world.temperature), heater, 0.5, 0.02)
        holder = Sensor("DB8.T1", serial + "8", lambda: self._measure(world.body), body, 5.0, 1.0)
        gauge = Gauge("DB5.P1", serial + "5", lambda: world.pressure / 100)
        self.sensors = (self.sensor, holder)
        holder.valve = gauge.valve = self.valve
        boards: tuple[Board, ...] = (
            heater, self.sensor, holder, body, self.valve, gauge, Levels("DB3.L1", serial + "3")
        )  # fmt: skip
        self.boards = {board.uid: board for board in boards}
        self._tree: dict[str, tuple[Get, Set | None]] = dict(self._system())
        for board in boards:
            self._tree |= {f"{board.root}:{path}": noun for path, noun in board.nouns()}

    def framing(self, scheme: str) -> Framing:
        return AnyLines(b"\n")

    def respond(self, message: bytes) -> bytes | None:
        text = message.decode("latin-1")
        if text[:1] == "@":  # ISOBUS
            if text[1:2] != str(self.address):
                return None
            text = text[2:]
        if text == "*IDN?":
            return f"{codec.IDENTITY}{self.serial}:2.6.04.000".encode()
        verb, _, nouns = text.partition(":")
        if verb not in ("READ", "SET") or len(message) >= codec.LONGEST:
            return f"{verb[:8]}:INVALID".encode("latin-1", "replace")
        return (self._read(nouns.removesuffix("?")) if verb == "READ" else self._set(nouns)).encode(
            "latin-1", "replace"
        )

    # ------------------------------------------------------------------ commands

    def _read(self, nouns: str) -> str:
        if nouns in self._tree:
            return f"STAT:{nouns}:{self._tree[nouns][0]()}"
        # Of a board as a whole everything is told, each noun once.
        told, before = [], nouns.split(":")
        for path, (get, _) in self._tree.items():
            parts = path.split(":")
            if path.startswith(nouns + ":") and nouns.startswith("DEV:") and not {"MAN", "PWR"} & {*parts}:
                same = next((n for n, (a, b) in enumerate(zip(parts, before, strict=False)) if a != b), len(before))
                told += [*parts[max(same, nouns.count(":") + 1) :], get()]
                before = parts
        return f"STAT:{nouns}:{':'.join(told)}" if told else f"STAT:{self._wrong(nouns)}"

    def _set(self, nouns: str) -> str:
        if nouns == "SYS:RST":  # D: mercuryitc
            return f"STAT:SET:{nouns}:{'DENIED' if self.locked else 'VALID'}"
        # A time has colons of its own: the longest path that is known.
        path = next((path for path in self._tree if nouns.startswith(path + ":") and self._tree[path][1]), "")
        path, value = (path, nouns[len(path) + 1 :]) if path else nouns.rpartition(":")[::2]
        _, change = self._tree.get(path, (None, None))
        if change is None:
            return f"STAT:SET:{self._wrong(path)}"
        if self.locked:
            return f"STAT:SET:{path}:DENIED"
        if not change(value):
            return f"STAT:SET:{path}:INVALID"
        return f"STAT:SET:{path}:{value}:VALID"  # as it was sent (D: mercuryitc takes no unit it did not send)

    def _wrong(self, nouns: str) -> str:
        """The nouns as far as they are known, and what is the matter with the next."""
        parts = nouns.split(":")
        if len(parts) > 1 and parts[0] == "DEV" and parts[1] not in self.boards:
            return f"{nouns}:NOT_FOUND"
        for n in range(1, len(parts) + 1):
            if not any((path + ":").startswith(":".join(parts[:n]) + ":") for path in self._tree):
                return ":".join([*parts[:n], "INVALID"])
        return f"{nouns}:INVALID"

    def _system(self) -> Iterator[Noun]:
        kept = self._kept
        yield "SYS:CAT", (lambda: ":".join(board.root for board in self.boards.values()), None)
        yield "SYS:SERL", told(self.serial)
        yield "SYS:MAN:SERL", told(self.serial)
        yield "SYS:MAN:FVER", told("2.6.04.000")
        yield "SYS:MAN:HVER", told("1")
        yield "SYS:FLSH", told("102400")  # kB; this and the following as mercuryitc reads and sets them
        yield kept.text("SYS:USER", "NORM", "NORM", "ENG")
        yield kept.text("SYS:LOCK", "OFF", "OFF", "SOFT", "ON")
        yield kept.text("SYS:DISP:DIMA", "OFF", "OFF", "ON")
        yield kept.number("SYS:DISP:DIMT", 60, 0, 1e5, ".0f")
        yield kept.number("SYS:DISP:BRIG", 100.0, 0.0, 100.0)
        yield "SYS:TIME", (lambda: f"{self._time:%H:%M:%S}", lambda text: self._set_clock(text, "%H:%M:%S"))
        yield "SYS:DATE", (lambda: f"{self._time:%Y:%m:%d}", lambda text: self._set_clock(text, "%Y:%m:%d"))
        yield "SYS:ALRM", told("")

    @property
    def _time(self) -> datetime:
        return START + self._clock + timedelta(seconds=self._now)

    def _set_clock(self, text: str, form: str) -> bool:
        try:
            given = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            return False
        now = self._time
        if form == "%Y:%m:%d":
            wanted = now.replace(year=given.year, month=given.month, day=given.day)
        else:
            wanted = now.replace(hour=given.hour, minute=given.minute, second=given.second)
        self._clock += wanted - now
        return True

    # ------------------------------------------------------------------ time

    def advance(self, dt: float) -> None:
        self._elapsed += dt
        self._now += dt
        while self._elapsed >= CYCLE - 1e-9:
            self._elapsed -= CYCLE
            for sensor in self.sensors:
                sensor.cycle(CYCLE)

    def _measure(self, celsius: float) -> float:
        kelvin: float = convert(celsius, "degC", "K")
        return max(0.0, kelvin + self._random.gauss(0.0, NOISE))
