"""An emulated 937B: a manometer on the cell, on channel A1, and a cold cathode on the column, on B1.

Not emulated: analog outputs (their settings are kept), what zeroing and correcting a gauge changes, the old commands of
a 937A, and XDL, which would erase the firmware. Unverified: how often it measures, which refusal is said where several
fit, what a setting is answered that was rounded, the numbers of its cards, and how a word of a setting is written if
the manual and open drivers differ.
"""

from __future__ import annotations

import random
from typing import Any

from hal.protocols.framing import Lines

from . import codec, settings
from .codec import Reply, Request
from .gauges import Channel
from .settings import CHANNEL, DIRECTIONS, HOT, ION, MANOMETER, MODES, OUTPUTS, PLACES, SYSTEM, THERMAL, Setting

SAMPLING = 0.1  # s between two measurements, unverified
RELAYS = 12
SLOTS = "ABC"
CLEAN = 1e-2  # Torr, below which a Pirani gauge is zeroed (9.6)
ZERO = 0.05  # of full scale, below which a manometer is (9.5)
DEGAS = 5e-5  # Torr, above which no hot cathode is degassed (unverified)


class Mks937bEmulator:
    """The whole controller with its six channels. Settings: see `__init__`."""

    def __init__(
        self,
        world: Any,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        sees: tuple[str, ...] = ("pressure", "", "column"),
        sensors: tuple[str, ...] = (MANOMETER, "", settings.COLD),
        shown: str = "TORR",
        model: str = "937B",
        noise: float = 0.005,
        seed: int = 1,
    ) -> None:
        """`sees`: what of the world each channel measures; `sensors`: with what: CM, PR, CP, CC or HC, from A1 on.
        `shown`: unit. `noise`: relative, one sigma."""
        self.reply_delay = 0.008
        self.world, self.model, self.noise, self.shown = world, model, noise, shown.upper()
        self.address = int(unit) if unit is not None else 253
        self.sees = [*sees, *[""] * 6][:6]
        fitted = [*sensors, *[""] * 6][:6]
        self.channels = [Channel(n + 1, fitted[n] if self.sees[n] else "") for n in range(6)]
        self.system = {name: one.factory for name, one in SYSTEM.items()}
        self.relays = {number: _Relay() for number in range(1, RELAYS + 1)}
        self.outputs = {n: {name: one.factory for name, one in OUTPUTS.items()} for n in range(7)}
        self.combined = {1: "NA,NA,NA", 2: "NA,NA,NA"}
        self.combining = {1: "Disable", 2: "Disable"}
        self._random = random.Random(seed)
        self._age = 0.0
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
            ours = (b"%03d" % self.address, b"%03d" % codec.ANYBODY)
            return self._reply(codec.UNKNOWN) if message[start + 1 : start + 4] in ours else None
        if request.address not in (self.address, codec.ANYBODY):
            return None
        before = self.address
        try:
            return self._reply(self._answer(request), before)
        except _Refusal as refusal:
            return self._reply(refusal.code, before)

    def advance(self, dt: float) -> None:
        for channel in self.channels:
            channel.advance(dt)
        self._age += dt
        if self._age >= SAMPLING - 1e-9:
            self._measure()

    # ------------------------------------------------------------------ measuring and switching

    def _measure(self) -> None:
        self._age = 0.0
        for channel, what in zip(self.channels, self.sees, strict=True):
            if what:
                pascal = getattr(self.world, what) * (1 + self._random.gauss(0.0, self.noise))
                channel.torr = pascal / codec.PASCALS["TORR"]
        for channel in self.channels:
            place = channel.kept.get("CSE", "OFF")
            channel.protect(self.channels[PLACES.index(place)] if place in PLACES else None)
        for number, relay in self.relays.items():
            relay.see(self._channel_of(number).value)

    def _channel_of(self, relay: int) -> Channel:
        """The channel whose pressure switches a relay: all four of a slot belong to a single ion gauge (8.1.1)."""
        first = self.channels[(relay - 1) // 4 * 2]
        return first if first.ion else self.channels[(relay - 1) // 2]

    # ------------------------------------------------------------------ messages

    def _reply(self, said: str | int, address: int | None = None) -> bytes:
        refused = isinstance(said, int)
        if isinstance(said, int):
            said = codec.CODES[said][0] if self.system["SEM"] == "TXT" else str(said)
        return Reply(self.address if address is None else address, said, refused).encode()

    def _answer(self, request: Request) -> str | int:
        """Data, or the code of a refusal."""
        name, number, value = request.command, request.number, request.value
        if value is not None and self.system["SPM"] == "Disable" and name != "SPM":
            return codec.LOCKED
        if name in SYSTEM and number is None:
            return self._setting(self.system, name, SYSTEM[name], value)
        if name in OUTPUTS and number is not None:
            if not 0 <= number <= 6:
                return codec.NO_CHANNEL
            return self._setting(self.outputs[number], name, OUTPUTS[name], value)
        if name in CHANNEL and number is not None:
            return self._channel_setting(name, self._channel(number), value)
        if name in ("SP", "SH", "SD", "EN", "SS") and number is not None:
            if number not in self.relays:
                return codec.NO_CHANNEL
            return self._relay(name, number, value)
        if value is not None and name in ("PR", "PRZ", "PC", "SSA", "ENA", "MT", "MD", "SN", "FV", "T", "SS"):
            return codec.FORM
        match name:
            case "PR" if number is not None:
                return self._channel(number).shown(self.shown)
            case "PRZ":
                return " ".join(channel.shown(self.shown) for channel in self.channels)
            case "PC" | "SPC" | "EPC" if number is not None:
                return self._combination(name, number, value)
            case "T" if number is not None:
                channel = self._channel(number)
                return channel.status if channel.ion else codec.NOT_ION
            case "CP" if number is not None:
                return self._power(self._channel(number), value)
            case "DG" if number is not None:
                return self._degas(self._channel(number), value)
            case "VAC" | "ATZ" if number is not None:
                return self._zero(name, self._channel(number))
            case "U":
                return self._unit(value)
            case "SSA":
                return "".join(str(int(relay.closed)) for relay in self.relays.values())
            case "ENA":
                return "".join(str(MODES.index(relay.mode)) for relay in self.relays.values())
            case "MT":
                return ",".join([*(self._module(slot) for slot in range(3)), "NA"])
            case "STA" | "STB" | "STC" if value is None:
                first = SLOTS.index(name[2]) * 2
                return "".join(channel.sensor or "NG" for channel in self.channels[first : first + 2])
            case "AD":
                return self._address(value)
            case "MD":
                return self.model
            case "SN":
                return "1234567890" if number is None else f"110000000{number}"
            case "FV":
                return "1.11"
            case "FD" if number is not None:
                if self.system["CAL"] == "Disable":
                    return codec.NO_CALIBRATION
                self._channel(number).restore()
                return "OK"
            case "FDS":
                self.system = {name: one.factory for name, one in SYSTEM.items()}
                self.address, self.shown = 253, "TORR"
                self.combined, self.combining = dict.fromkeys((1, 2), "NA,NA,NA"), dict.fromkeys((1, 2), "Disable")
                return "OK"
            case _:
                return codec.UNKNOWN

    def _channel(self, number: int) -> Channel:
        if not 1 <= number <= 6:
            raise _Refusal(codec.NO_CHANNEL)
        return self.channels[number - 1]

    def _setting(self, kept: dict[str, str], name: str, setting: Setting, value: str | None) -> str | int:
        if value is not None:
            taken = setting.take(value, self.shown)
            if isinstance(taken, int):
                return taken
            kept[name] = taken
            if name == "DLY":
                self.reply_delay = float(taken) / 1000
            elif name == "IU" and taken == "ON":
                self.shown = "PASCAL"
        if name == "SST" and float(kept[name]) == 0.0:
            return "OFF"
        return setting.tell(kept[name], self.shown)

    def _channel_setting(self, name: str, channel: Channel, value: str | None) -> str | int:
        setting = CHANNEL[name]
        if channel.sensor not in setting.sensors:
            return settings.REFUSED[setting.sensors]
        if value is not None:
            if setting.calibration and self.system["CAL"] == "Disable":
                return codec.NO_CALIBRATION
            if name == "CSP" and channel.kept["CSE"] == "OFF":
                return codec.NO_CONTROL
            if name == "GC" and channel.kept["GT"] != "Custom":
                return codec.GAS_GIVEN
            if name == "GT" and value.upper() == "CUSTOM" and channel.sensor != HOT:
                return codec.ARGUMENT
            if name in ("CSP", "CHP") and channel.kept["XCS"] == "ON" and codec.is_number(value):
                setting = Setting(setting.sensors, "", (), setting.low, settings.WIDER, setting.form, torr=True)
        said = self._setting(channel.kept, name, setting, value)
        if value is not None and name == "CSP" and isinstance(said, str):
            channel.kept["CHP"] = repr(1.5 * channel.number_of("CSP"))  # 9.7
        return f"AUTO-{channel.sensor}" if name == "PT" and said == "AUTO" and value is None else said

    def _power(self, channel: Channel, value: str | None) -> str | int:
        if not channel.sensor:
            return "OFF" if value is None else codec.NO_GAUGE
        if value is not None:
            if value.upper() not in ("ON", "OFF"):
                return codec.ARGUMENT
            channel.power(value.upper() == "ON")
        return "ON" if channel.on else "OFF"

    def _degas(self, channel: Channel, value: str | None) -> str | int:
        if channel.sensor != HOT:
            return codec.NOT_HOT
        if value is not None:
            if value.upper() not in ("ON", "OFF"):
                return codec.ARGUMENT
            if value.upper() == "ON" and (channel.value is None or channel.torr > DEGAS):
                return codec.TOO_HIGH
            channel.degassing = channel.number_of("DGT") * 60 if value.upper() == "ON" else 0.0
        return "ON" if channel.degassing else "OFF"

    def _zero(self, name: str, channel: Channel) -> str | int:
        if channel.sensor not in (MANOMETER, *THERMAL):
            return codec.NOT_PIRANI_OR_MANOMETER
        if self.system["CAL"] == "Disable":
            return codec.NO_CALIBRATION
        if name == "ATZ" and (channel.sensor != MANOMETER or channel.kept["CMT"] != "Diff"):
            return codec.ABSOLUTE if channel.sensor == MANOMETER else codec.NOT_MANOMETER
        most = ZERO * channel.number_of("RNG") if channel.sensor == MANOMETER else CLEAN
        return "OK" if channel.torr < most else codec.RANGE

    def _unit(self, value: str | None) -> str | int:
        if value is not None:
            if value.upper() not in codec.UNITS:
                return codec.ARGUMENT
            if self.system["IU"] == "ON" and value.upper() != "PASCAL":
                return codec.PASCAL_ONLY
            self.shown = value.upper()
        return codec.UNITS[self.shown]

    def _address(self, value: str | None) -> str | int:
        if value is not None:
            if not (value.isdecimal() and 1 <= int(value) <= 253):
                return codec.RANGE if value.isdecimal() else codec.ARGUMENT
            self.address = int(value)
        return f"{self.address:03d}"

    def _module(self, slot: int) -> str:
        """What is in a slot; Pirani modules take both kinds of Pirani gauge."""
        sensors = [channel.sensor for channel in self.channels[2 * slot : 2 * slot + 2] if channel.sensor]
        return "NC" if not sensors else "PR" if sensors[0] in THERMAL else sensors[0]

    def _combination(self, name: str, number: int, value: str | None) -> str | int:
        if number not in self.combined:
            return codec.NO_CHANNEL
        if name == "SPC":
            if value is not None:
                if len(places := value.upper().split(",")) != 3 or any(p not in (*PLACES, "NA") for p in places):
                    return codec.ARGUMENT
                self.combined[number] = ",".join(places)
            return self.combined[number]
        if name == "EPC":
            if value is not None:
                if value.upper() not in ("ENABLE", "DISABLE"):
                    return codec.ARGUMENT
                self.combining[number] = value.capitalize()
            return self.combining[number]
        places = [place for place in reversed(self.combined[number].split(",")) if place != "NA"]
        if self.combining[number] == "Disable" or len(places) < 2:
            return codec.NO_COMBINATION
        channels = [self.channels[PLACES.index(place)] for place in places]  # from the lowest range on
        seeing = [channel for channel in channels if channel.value is not None]
        return (seeing or channels)[0].shown(self.shown)

    def _relay(self, name: str, number: int, value: str | None) -> str | int:
        relay, channel = self.relays[number], self._channel_of(number)
        low, below, above = settings.RELAYS.get(channel.sensor, settings.RELAYS[MANOMETER])
        if name == "SS":
            return ("SET" if relay.closed else "CLEAR") if value is None else codec.FORM
        if value is not None and name in ("SD", "EN"):
            if value.upper() not in (DIRECTIONS if name == "SD" else MODES):
                return codec.ARGUMENT
            if name == "EN":
                relay.mode = value.upper()
            elif channel.sensor in ION and value.upper() == "ABOVE":
                return codec.DIRECTION_FIXED
            else:
                relay.direction = value.upper()
                relay.back = relay.point * (below if relay.direction == "BELOW" else above)
        elif value is not None:
            if not codec.is_number(value):
                return codec.ARGUMENT
            if float(value) < 0.0:
                return codec.RANGE
            torr = float(value) * codec.PASCALS[self.shown] / codec.PASCALS["TORR"]
            if name == "SP":
                relay.point = torr or low * (channel.number_of("RNG") if channel.sensor == MANOMETER else 1.0)
                relay.back = relay.point * (below if relay.direction == "BELOW" else above)
            else:
                relay.back = torr
        relay.see(channel.value)
        if name in ("SD", "EN"):
            return relay.direction if name == "SD" else relay.mode
        kept = relay.point if name == "SP" else relay.back
        return f"{kept * codec.PASCALS['TORR'] / codec.PASCALS[self.shown]:.2E}"


class _Relay:
    """One set point relay (8.1)."""

    def __init__(self) -> None:
        self.point, self.back = 1e-3, 1.5e-3  # Torr
        self.direction, self.mode = DIRECTIONS[0], MODES[0]
        self._tripped = False

    @property
    def closed(self) -> bool:
        return self.mode == "SET" or (self.mode == "ENABLE" and self._tripped)

    def see(self, torr: float | None) -> None:
        """Follow a pressure; open if there is none. A hysteresis on the wrong side of the set point is none."""
        if torr is None:
            self._tripped = False
        elif self.direction == "BELOW":
            self._tripped = torr < self.point or (self._tripped and torr <= self.back)
        else:
            self._tripped = torr > self.point or (self._tripped and torr >= self.back)


class _Refusal(Exception):
    def __init__(self, code: int) -> None:
        self.code = code
