"""An emulated Pump 11 Elite: pumps liquid into the shared world, and stops at a target volume or time.

When it stops by itself and does not poll, its prompt comes unasked (D: a driver of the Legato 110 waits for it).
Of the real one it lacks stored methods, the display and echo; polling ``remote`` is as ``off``.
Unverified: the form of ramps and what they answer (here: from one rate to another in so many seconds, until a rate is
set), the words after ``Command error:`` and ``Argument error:``, and what it says to ``crate`` when it stands.
"""

from __future__ import annotations

import re
from typing import Any

from . import codec
from .codec import Reply, Running

STEP = 0.01  # s, of the bench: the last of a volume goes out within one
SERIAL = "D400123"
WORDS = (
    "address", "ascale", "baud", "boot", "cat", "citime", "civolume", "cmd", "config", "crate", "ctime", "cttime",
    "ctvolume", "cvolume", "cwtime", "cwvolume", "diameter", "dim", "echo", "force", "ftswitch", "gang", "iramp",
    "irate", "irun", "itime", "ivolume", "load", "metrics", "nvram", "poll", "rrun", "run", "status", "stop", "stp",
    "svolume", "syrmanu", "tilt", "time", "ttime", "tvolume", "ver", "version", "wramp", "wrate", "wrun", "wtime",
    "wvolume",
)  # fmt: skip
CHOICES = {
    "echo": ("on", "off"), "poll": ("on", "off", "remote"), "nvram": ("on", "off", "none"),
    "ftswitch": ("mom", "rise", "fall"), "cmd": ("ultra", "22", "44"),
}  # fmt: skip
RANGES = {"ascale": (1, 100), "dim": (0, 100), "force": (1, 100), "gang": (1, 2), "baud": (9600, 921600)}
PLASTIC = {1: 4.699, 3: 8.585, 5: 11.989, 10: 14.427, 20: 19.05, 30: 21.59, 60: 26.594}
"""mm by mL: Becton Dickinson's plastic syringes, code ``bdp``; the only maker it knows."""


class Harvard11EliteEmulator:
    """One pump. Settings: see `__init__`."""

    def __init__(
        self,
        world: Any,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        diameter: float = 14.427,
        syringe_volume: float = 10.0,
        firmware: str = "11 ELITE I/W Single 3.0.4",
        local: bool = True,
        seed: int = 1,
    ) -> None:
        """`diameter`: mm, and `syringe_volume`: mL, as stored. `local`: the host's own cable ends in it, so that it
        answers without an address as well. A firmware without ``I/W`` can only infuse."""
        self.reply_delay = 0.005
        self.world, self.firmware, self.local = world, firmware, local
        self.address = int(unit) if unit is not None else 0
        self.diameter, self.syringe_volume = diameter, syringe_volume * 1e3
        self.settings = {"echo": "off", "poll": "off", "nvram": "on", "ftswitch": "mom", "ascale": "100",
                         "baud": "115200", "dim": "15", "force": "50", "gang": "1", "cmd": "ultra"}  # fmt: skip
        self.rates = {"i": 1000.0, "w": 1000.0}  # uL/min
        self.units = {"i": "ml/min", "w": "ml/min", "t": "ml", "s": "ml"}
        self.out = {"i": 0.0, "w": 0.0}  # uL
        self.seconds = {"i": 0.0, "w": 0.0}
        self.target = 0.0  # uL; 0: none
        self.target_time = 0.0  # s; 0: none
        self.ramps: dict[str, tuple[float, float, float]] = {}
        """From and to (uL/min) and in how many seconds, by direction."""
        self._ramping = 0.0  # s of the ramp that are over
        self.direction = "i"
        self.prompt = codec.IDLE
        self._flow = 0.0  # uL/min, signed
        self._stopped = False  # by itself, and it has not said so yet
        self._addressed = self.address > 0
        """Whether what it says carries its address: as its last answer did (unverified for what it says unasked)."""

    def framing(self, scheme: str) -> codec.PumpEnd:
        return codec.PumpEnd()

    def respond(self, message: bytes) -> bytes | None:
        text = message.decode("latin-1").strip()
        found = re.fullmatch(r"@?(\d{0,2}):?@?(.*)", text, re.DOTALL)
        assert found is not None
        if int(found[1]) != self.address if found[1] else not self.local:
            return None
        before = self.address
        try:
            lines = self._do(found[2].strip())
        except _Error as error:
            lines = [error.kind, f"   {error.matter}"]
        reply = Reply(before, tuple(lines), self.prompt)
        self._addressed = bool(before or found[1])
        return reply.encode(addressed=self._addressed, polled=self.settings["poll"] == "on")

    @property
    def talking(self) -> bool:
        """Whether it may have something to say by itself."""
        return self.settings["poll"] != "on" and (self._stopped or self.moving)

    def unasked(self) -> list[bytes]:
        """Its prompt, if it has stopped by itself since it was last asked this."""
        stopped, self._stopped = self._stopped, False
        reply = Reply(self.address, (), self.prompt).encode(addressed=self._addressed, polled=False)
        return [reply] if stopped and self.settings["poll"] != "on" else []

    def advance(self, dt: float) -> None:
        if self.prompt in codec.MOVING:
            self.out[self.direction] += abs(self._flow) * dt / 60
            self.seconds[self.direction] += dt
            self._ramping += dt
            self._stop_at_target()
            self._stopped = not self.moving
        self._drive()

    def stall(self) -> None:
        """The pusher meets more than its force."""
        self.prompt, self._stopped = codec.STALLED, True
        self._drive()

    # ------------------------------------------------------------------ private

    @property
    def moving(self) -> bool:
        return self.prompt in codec.MOVING

    def _stop_at_target(self) -> None:
        done = self.target and self.target - self.out[self.direction] < 1e-9
        if done or (self.target_time and self.target_time - self.seconds[self.direction] < 1e-9):
            self.prompt = codec.TARGET

    def _drive(self) -> None:
        """What flows from now on."""
        speed = self._rate_now() if self.moving else 0.0
        if self.target:
            speed = min(speed, max(self.target - self.out[self.direction], 0.0) * 60 / STEP)
        self._flow = speed if self.direction == "i" else -speed
        self.world.pumps[self] = self._flow

    def _rate_now(self) -> float:
        """uL/min, of a ramp or as set."""
        if self.direction not in self.ramps:
            return self.rates[self.direction]
        start, end, seconds = self.ramps[self.direction]
        return start + (end - start) * min(self._ramping / seconds, 1.0)

    def _do(self, text: str) -> list[str]:
        word, _, argument = text.partition(" ")
        word, argument = word.lower(), " ".join(argument.split())
        if not word:
            return []
        names = [w for w in WORDS if w == word] or [w for w in WORDS if len(word) >= 4 and w.startswith(word)]
        if not names or (names[0] in ("wrun", "rrun", "wrate", "wramp") and "I/W" not in self.firmware):
            raise _Error("Command error:", "Unknown command")
        lines = self._known(names[0], argument)
        self._drive()
        return lines

    def _known(self, word: str, argument: str) -> list[str]:
        match word:
            case "ver":
                return [self.firmware]
            case "version":
                number = self.firmware.rsplit(" ", 1)[-1]
                return [f"Firmware:      v{number}", f"Pump address:  {self.address}", f"Serial number: {SERIAL}"]
            case "address":
                if argument:
                    self.address = int(_within(argument, 0, 99))
                    return []
                return [f"Pump address is {self.address}"]
            case "stp" | "stop":
                self.prompt = codec.IDLE
            case "run" | "irun" | "wrun" | "rrun":
                self._run({"irun": "i", "wrun": "w", "run": self.direction}.get(word, _other(self.direction)))
            case "irate" | "wrate":
                return self._rate(word[0], argument)
            case "crate":
                if not self.moving:
                    return []
                how = "Infusing" if self.direction == "i" else "Withdrawing"
                return [f"{how} at {codec.rate_text(self._rate_now(), self.units[self.direction])}"]
            case "iramp" | "wramp":
                return self._ramp(word[0], argument)
            case "ivolume" | "wvolume":
                return [codec.volume_text(self.out[word[0]])]
            case "itime" | "wtime":
                return [_seconds(self.seconds[word[0]])]
            case "civolume" | "cwvolume" | "cvolume":
                for direction in word[1] if word[1] in "iw" else "iw":
                    self.out[direction] = 0.0
            case "citime" | "cwtime" | "ctime":
                for direction in word[1] if word[1] in "iw" else "iw":
                    self.seconds[direction] = 0.0
            case "ctvolume":
                self.target = 0.0
            case "cttime":
                self.target_time = 0.0
            case "status":
                moving, backwards = self.moving, self.direction == "w"
                present = self._rate_now() if moving else 0.0
                return [
                    Running(
                        present, self.seconds[self.direction], self.out[self.direction], backwards, moving,
                        self.prompt == codec.STALLED, self.prompt == codec.TARGET,
                    ).encode()
                ]  # fmt: skip
            case "tvolume" | "svolume" | "ttime" | "diameter" | "syrmanu":
                return self._syringe(word, argument)
            case _:
                return self._setting(word, argument)
        return []

    def _ramp(self, direction: str, argument: str) -> list[str]:
        """``iramp 1 ml/min 5 ml/min 30``"""
        if not argument:
            if direction not in self.ramps:
                return ["Ramp not set up."]
            start, end, seconds = self.ramps[direction]
            return [f"{codec.rate_text(start)} to {codec.rate_text(end)} in {_seconds(seconds)}"]
        found = re.fullmatch(r"(\S+ \S+?) (\S+ \S+?) (\S+)", argument)
        if found is None:
            raise _Error(f"Argument error: {argument}", "Unknown argument")
        low, high = (speed * codec.area(self.diameter) for speed in (codec.SLOWEST, codec.FASTEST))
        start, end = (_quantity(found[n], codec.parse_rate)[0] for n in (1, 2))
        if not (low <= start <= high and low <= end <= high):
            raise _Error(f"Argument error: {argument}", "Out of range")
        self.ramps[direction] = start, end, _within(found[3], 0.1, 359999)
        return []

    def _run(self, direction: str) -> None:
        self._ramping = 0.0
        self.direction = direction
        self.prompt = codec.INFUSING if direction == "i" else codec.WITHDRAWING
        self._stop_at_target()

    def _rate(self, direction: str, argument: str) -> list[str]:
        low, high = (speed * codec.area(self.diameter) for speed in (codec.SLOWEST, codec.FASTEST))
        match argument.lower():
            case "":
                return [codec.rate_text(self.rates[direction], self.units[direction])]
            case "lim":
                return [f"{codec.rate_text(low)} to {codec.rate_text(high)}"]
            case "min" | "max":
                rate, unit = low if argument.lower() == "min" else high, ""
            case _:
                rate, unit = _quantity(argument, codec.parse_rate)
                if not low * (1 - 1e-4) <= rate <= high * (1 + 1e-4):  # limits as it tells them are taken
                    raise _Error(f"Argument error: {argument}", "Out of range")
        self.ramps.pop(direction, None)  # a constant rate again
        self.rates[direction] = min(max(rate, low), high)
        self.units[direction] = unit or codec.rate_text(rate).split()[1]
        return []

    def _syringe(self, word: str, argument: str) -> list[str]:
        if not argument:
            return [self._told(word)]
        if self.moving and word in ("diameter", "svolume", "syrmanu"):
            raise _Error("Command error:", "Pump is running")
        match word:
            case "tvolume":
                volume, self.units["t"] = _quantity(argument, codec.parse_volume)
                if not 0.0 < volume <= self.syringe_volume * (1 + 1e-9):  # D: flowchem
                    raise _Error(f"Argument error: {argument}", "Out of range")
                self.target = volume
            case "svolume":
                self.syringe_volume, self.units["s"] = _quantity(argument, codec.parse_volume)
            case "ttime":
                parts = argument.split(":")
                seconds = sum(_within(part, 0, 359999) * 60**n for n, part in enumerate(reversed(parts)))
                self.target_time = seconds
            case "diameter":
                self.diameter = _within(argument.lower().removesuffix("mm"), codec.NARROWEST, codec.WIDEST)
                for direction, rate in self.rates.items():  # what the new syringe can't give is brought into its limits
                    low, high = (speed * codec.area(self.diameter) for speed in (codec.SLOWEST, codec.FASTEST))
                    self.rates[direction] = min(max(rate, low), high)
            case _:
                return self._maker(argument.lower())
        return []

    def _told(self, word: str) -> str:
        match word:
            case "tvolume":
                return codec.volume_text(self.target, self.units["t"]) if self.target else "Target volume not set"
            case "svolume":
                return codec.volume_text(self.syringe_volume, self.units["s"])
            case "ttime":
                return _seconds(self.target_time) if self.target_time else "Target time not set"
            case "diameter":
                return f"{codec.number(self.diameter)} mm"
            case _:
                return f"Custom, {codec.volume_text(self.syringe_volume, 'ml')}, {codec.number(self.diameter)} mm"

    def _maker(self, argument: str) -> list[str]:
        if argument == "?":
            return ["bdp  Becton Dickinson, Plasti-pak"]
        code, _, size = argument.partition(" ")
        if code != "bdp":
            raise _Error(f"Argument error: {argument}", "Unknown syringe")
        if size == "?":
            return [f"{millilitres} ml" for millilitres in PLASTIC]
        volume, _ = _quantity(size, codec.parse_volume)
        if volume / 1e3 not in PLASTIC:
            raise _Error(f"Argument error: {argument}", "Unknown syringe")
        self.syringe_volume, self.diameter = volume, PLASTIC[int(volume / 1e3)]
        return []

    def _setting(self, word: str, argument: str) -> list[str]:
        match word:
            case "metrics" | "config" if not argument:
                return [f"{name:<18} {value}" for name, value in self._metrics()]
            case "load":
                return [] if argument else ["Quick Start"]
            case "cat" if not argument:
                return ["0 file(s) using 0 steps"]
            case "boot":
                self.prompt, self.settings["poll"] = codec.IDLE, "off"
                return []
            case "config" | "tilt":
                return []  # taken (D: kdsautolib), and nothing changes here
            case "time":
                return ["07/01/26 12:00:00 PM"]
        if word not in self.settings:
            raise _Error("Command error:", "Not available")
        if not argument:
            value = self.settings[word]
            return [f"{value}%" if word in ("ascale", "dim", "force") else value.upper()]
        if word in CHOICES:
            if argument.lower() not in CHOICES[word]:
                raise _Error(f"Argument error: {argument}", "Unknown argument")
            self.settings[word] = argument.lower()
        else:
            low, high = RANGES[word]
            self.settings[word] = str(int(_within(argument, low, high)))
        return []

    def _metrics(self) -> list[tuple[str, str]]:
        """D: as flowchem quotes a pump's."""
        return [
            ("Pump type", "Pump 11"), ("Pump type string", self.firmware.rsplit(" ", 1)[0]), ("Display type", "Sharp"),
            ("Steps per rev", "400"), ("Gear ratio", "1:1"), ("Pulley ratio", "2.4:1"),
            ("Lead screw", "24 threads per inch"), ("Microstepping", "16 microsteps per step"),
            ("Low speed limit", "27 seconds"), ("High speed limit", "26 microseconds"), ("Motor polarity", "Reverse"),
            ("Min syringe size", "0.1 mm"), ("Max syringe size", "33 mm"), ("Min raw force %", "20%"),
            ("Max raw force %", "80%"), ("Encoder", "100 lines"),
            ("Direction", "Infuse/withdraw" if "I/W" in self.firmware else "Infuse only"), ("Programmable", "Yes"),
            ("Limit switches", "No"), ("Command set", "None"),
        ]  # fmt: skip


class _Error(Exception):
    """Two lines: the kind and the matter."""

    def __init__(self, kind: str, matter: str) -> None:
        self.kind, self.matter = kind, matter


def _other(direction: str) -> str:
    return "w" if direction == "i" else "i"


def _seconds(seconds: float) -> str:
    """M (python-syringe-pump reads both): ``30 seconds``, from an hour on ``01:00:00``."""
    if seconds < 3600:
        return f"{codec.number(seconds)} seconds"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _quantity(text: str, parse: Any) -> tuple[float, str]:
    try:
        value, unit = parse(text)
    except ValueError:
        raise _Error(f"Argument error: {text}", "Unknown argument") from None
    return float(value), str(unit)


def _within(text: str, low: float, high: float) -> float:
    text = text.strip()
    if re.fullmatch(r"\d{1,9}(\.\d{0,9})?|\.\d{1,9}", text) is None:
        raise _Error(f"Argument error: {text}", "Unknown argument")
    if not low <= float(text) <= high:
        raise _Error(f"Argument error: {text}", "Out of range")
    return float(text)
