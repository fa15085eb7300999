"""An emulated NE-1000: pumps liquid into the shared world, in Basic and Safe mode, by a program of up to 41 phases.

Functions of phases: section 7 of the manual. Not emulated: the logic port, so that nothing triggers and event traps
(EVN, EVS) and branches (IF) do nothing; FIL. Unverified: the phases as delivered (here: all but the first STP),
what INC and DEC count from, and which phase is selected when a program has ended (here: the first).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from . import codec
from .codec import Quantity, Reply

STEP = 0.01  # s, of the bench: the last of a volume goes out within one
PHASES = 41  # section 10.2.1
RATE_PHASES = ("RAT", "INC", "DEC", "FIL")
FUNCTIONS = re.compile(
    r"(RAT|FIL|INC|DEC|STP|LPS|BEP|EVR|CLD|PRI)|(JMP|LOP|IF|EVN|EVS|PRL|TRG|PAS)(\d{1,2})|(OUT)([01])|(PAS)(\d?\.\d)"
)
NUMBERED = ("JMP", "LOP", "IF", "PAS", "OUT", "TRG")
ENDLESS = 1000
"""Phases that take no time, one after the other, after which it gives up: a program of jumps."""


@dataclass
class Phase:
    """One step of a pumping program."""

    function: str = "STP"
    number: float = 0.0
    """Of JMP, LOP, PAS and so on."""
    rate: Quantity = field(default_factory=lambda: Quantity("0.000", "MH", codec.RATES["MH"]))
    target: float = 0.0
    """uL; 0 pumps for ever."""
    direction: str = "INF"


class Ne1000Emulator:
    """One pump. Settings: see `__init__`."""

    def __init__(
        self,
        world: Any,
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        diameter: float = 14.5,
        alarm: str = "R",
        firmware: str = "NE1000V3.928",
        seed: int = 1,
    ) -> None:
        """`diameter`: mm, as stored. `alarm`: pending at power-up (R: has been reset)."""
        self.reply_delay = 0.008
        self.world, self.firmware = world, firmware
        self.address = int(unit) if unit is not None else 0
        self.alarm = alarm
        self.diameter = diameter
        self.volume_unit = "UL" if diameter <= codec.MICROLITRES_UP_TO else "ML"
        self.status = codec.STOPPED
        self.phases: list[Phase] = []
        self.at = 0
        """The phase selected, or under way, less one."""
        self.out = {"INF": 0.0, "WDR": 0.0}  # uL
        self.done = 0.0
        """uL of the target that are out."""
        self._loops: dict[int, int] = {}
        self._pause = 0.0  # s left of a pause phase
        self._speed = 0.0  # uL/min of the phase before, from which INC and DEC count
        self._resumes = codec.STOPPED
        self._said: list[bytes] = []
        self.safe_timeout = 0
        self._silence = 0.0
        self._flow = 0.0  # uL/min, signed
        self._settings: dict[str, str] = {}
        self._deliver()

    def _deliver(self) -> None:
        """As delivered, also after RESET."""
        self.status, self.at, self.safe_timeout = codec.STOPPED, 0, 0
        self.phases = [Phase("RAT"), *(Phase() for _ in range(PHASES - 1))]
        self._settings.clear()
        self._drive()

    @property
    def phase(self) -> Phase:
        return self.phases[self.at]

    @property
    def rate(self) -> Quantity:
        return self.phase.rate

    @property
    def target(self) -> float:
        return self.phase.target

    @property
    def direction(self) -> str:
        return self.phase.direction

    @property
    def running(self) -> bool:
        """Whether a program is under way."""
        return self.status in (*codec.PUMPING, codec.PAUSE_PHASE, codec.WAITING)

    @property
    def talking(self) -> bool:
        """Whether it may send an alarm by itself, as it does in Safe mode."""
        return bool(self._said) or bool(self.safe_timeout and self.status in codec.PUMPING)

    def unasked(self) -> list[bytes]:
        """Alarms in Safe mode; they stay until they are told in an answer (section 10.3)."""
        said, self._said = self._said, []
        return said

    def framing(self, scheme: str) -> codec.PumpEnd:
        return codec.PumpEnd()

    def respond(self, message: bytes) -> bytes | None:
        if message == b"!":
            return self._packed(Reply(self.address, self.status, error="COM")) if self.address == 0 else None
        if self.safe_timeout and message[:1] != b"s":
            return None  # Safe mode hears Safe packets only
        # Spaces and control characters are dropped, all is made upper case (section 10.2.2).
        text = re.sub(r"[^!-~]", "", message[1:].decode("latin-1")).upper()
        if text.startswith("*") and text[1:2].isdigit():
            self._burst(text[1:])
            return None
        everybody, text = text.startswith("*"), text.removeprefix("*")
        match = re.fullmatch(r"(\d{0,2})(.*)", text)
        assert match is not None
        if int(match[1] or 0) != self.address and not everybody:
            return None
        self._silence = 0.0
        if self.alarm:  # told, it is acknowledged; the command is not carried out (section 10.3)
            alarm, self.alarm = self.alarm, ""
            return self._packed(Reply(self.address, alarm=alarm))
        try:
            data = self._do(match[2])
        except _Refusal as refusal:
            return self._packed(Reply(self.address, self.status, error=refusal.code))
        return self._packed(Reply(self.address, self.status, data))

    def _burst(self, text: str) -> None:
        """``*0RUN1STP``: one command each for several pumps at once, and nobody answers (section 10.4)."""
        for address, command in re.findall(r"(\d{1,2})([A-Z]{3}(?:[0-9.]+[A-Z]{2}|[A-Z]*))(?=\d|$)", text):
            if int(address) == self.address and not self.alarm:
                try:
                    self._do(command)
                except _Refusal:
                    continue

    def advance(self, dt: float) -> None:
        if self.safe_timeout:
            self._silence += dt
            if self._silence > self.safe_timeout:
                self._silence = 0.0
                if self.running:
                    self.status, self.alarm = codec.STOPPED, "T"
                    self._said.append(self._packed(Reply(self.address, alarm="T")))
        moved = abs(self._flow) * dt / 60
        if moved:
            self.out["INF" if self._flow > 0 else "WDR"] += moved
            self.done += moved
            if self.target and self.target - self.done < 1e-9 and self.status != codec.PURGING:
                self._speed = self._rate_now()
                self._enter(self.at + 1)
        elif self.status == codec.PAUSE_PHASE and self._pause:
            self._pause -= dt
            if self._pause <= 1e-9:
                self._enter(self.at + 1)
        self._drive()

    # ------------------------------------------------------------------ private

    def _rate_now(self) -> float:
        """uL/min of the phase under way."""
        change = {"INC": 1.0, "DEC": -1.0}.get(self.phase.function)
        return self.rate.value if change is None else max(self._speed + change * self.rate.value, 0.0)

    def _enter(self, at: int) -> None:
        """Go on with a phase, and through those that take no time."""
        for _ in range(ENDLESS):
            if not 0 <= at < PHASES:
                break
            self.at, self.done = at, 0.0
            function, number = self.phase.function, int(self.phase.number)
            match function:
                case "RAT" | "INC" | "DEC" | "FIL":
                    if self.rate.value == 0.0 and function == "RAT":
                        self.alarm = "O"  # out of range (section 10.2.1)
                        break
                    self.status = codec.INFUSING if self.direction == "INF" else codec.WITHDRAWING
                    return
                case "PAS":
                    self.status, self._pause = codec.PAUSE_PHASE, self.phase.number
                    return
                case "STP":
                    break
                case "JMP" | "PRL" | "PRI":
                    at = number - 1 if function == "JMP" else 0
                    continue
                case "LOP":
                    self._loops[at] = self._loops.get(at, 0) + 1
                    if self._loops[at] < number:
                        starts = [n for n in range(at) if self.phases[n].function == "LPS"]
                        at = starts[-1] + 1 if starts else 0
                        continue
                    del self._loops[at]
                case "CLD":
                    self.out = {"INF": 0.0, "WDR": 0.0}
            at += 1
        else:
            self.alarm = "E"
        self.status, self.at = codec.STOPPED, 0

    def _drive(self) -> None:
        """What flows from now on."""
        speed = 0.0
        if self.status == codec.PURGING:
            speed = codec.FASTEST * codec.area(self.diameter)
        elif self.status in codec.PUMPING:
            speed = self._rate_now()
            if self.target:
                speed = min(speed, max(self.target - self.done, 0.0) * 60 / STEP)
        self._flow = speed if self.direction == "INF" else -speed
        self.world.pumps[self] = self._flow

    def _packed(self, reply: Reply) -> bytes:
        return (b"s" if self.safe_timeout else b"b") + reply.encode()

    def _do(self, text: str) -> str:
        pumping = self.running
        command, value = re.fullmatch(r"([A-Z]{0,3})(.*)", text).groups()  # type: ignore[union-attr]
        match command, value:
            case "", "":
                return ""
            case "VER", "":
                return self.firmware
            case "DIA", "":
                return codec.number(self.diameter)
            case "DIA", _:
                _only_if(not pumping)
                self.diameter = _number(value, codec.NARROWEST, codec.WIDEST)
                self.volume_unit = "UL" if self.diameter <= codec.MICROLITRES_UP_TO else "ML"
            case "RAT", "":
                return f"{codec.number(float(self.rate.text))}{self.rate.unit}"
            case "RAT", _:
                self._set_rate(value.removeprefix("C").removeprefix("I").removeprefix("W"), pumping)
            case "VOL", "":
                return f"{codec.number(self.target / codec.VOLUMES[self.volume_unit])}{self.volume_unit}"
            case "VOL", ("UL" | "ML"):
                _only_if(not pumping)
                self.volume_unit = value
            case "VOL", _:
                _only_if(not pumping and self.phase.function in RATE_PHASES)
                self.phase.target = _number(value, 0.0, 9999.0) * codec.VOLUMES[self.volume_unit]
            case "DIR", "":
                return self.direction
            case "DIS", "":
                scale = codec.VOLUMES[self.volume_unit]
                # Four digits: the counters begin anew above 9999 (unverified).
                infused, withdrawn = (codec.number(self.out[d] / scale % 9999.5) for d in ("INF", "WDR"))
                return f"I{infused}W{withdrawn}{self.volume_unit}"
            case "PHN", "":
                return f"{self.at + 1:02d}"
            case "PHN", _:
                _only_if(not pumping)
                self.at = int(_number(value, 1, PHASES)) - 1
            case "FUN", "":
                shown = self.phase.function
                return shown + (
                    f"{self.phase.number:02g}" if shown in ("JMP", "LOP", "IF", "PAS", "OUT", "TRG") else ""
                )
            case "SAF", "":
                return f"{self.safe_timeout:03d}"
            case "SAF", _:
                self.safe_timeout = int(_number(value, 0, 255))
            case "ADR", "":
                return f"{self.address:02d}"
            case "ADR", _:
                self.address = int(_number(re.sub(r"B\d+$", "", value), 0, 99))  # B: another speed of the line
            case "RUN", _:
                self._run(value, pumping)
            case "PUR", "":
                _only_if(not pumping)
                self.status = codec.PURGING
            case "STP", "":
                _only_if(self.status != codec.STOPPED)
                self._resumes = self.status
                self.status = codec.PAUSED if pumping and self.status != codec.PURGING else codec.STOPPED
                if self.status == codec.STOPPED:
                    self.at = 0
            case _:
                return self._do_words(text, pumping)
        self._drive()
        return ""

    def _run(self, value: str, pumping: bool) -> None:
        """Go on after a pause, or begin with a phase."""
        _only_if(not pumping or self.status == codec.PAUSE_PHASE)
        if self.status == codec.PAUSE_PHASE:  # the end of a pause that waits for it
            self._enter(self.at + 1)
        elif self.status == codec.PAUSED and not value:
            self.status = self._resumes
        else:
            first = int(_number(value, 1, PHASES)) - 1 if value else 0
            if self.phases[first].function == "RAT" and self.phases[first].rate.value == 0:
                raise _Refusal("OOR")
            self._loops.clear()
            self._enter(first)

    def _do_words(self, text: str, pumping: bool) -> str:
        """Commands whose values are letters, and settings that change nothing here."""
        match text:
            case "DIRINF" | "DIRWDR" | "DIRREV":
                _only_if(self.phase.function in RATE_PHASES and not (pumping and self.target))
                reverse = "WDR" if self.direction == "INF" else "INF"
                self.phase.direction = reverse if text == "DIRREV" else text[3:]
                if self.status in (codec.INFUSING, codec.WITHDRAWING):
                    self.status = codec.INFUSING if self.direction == "INF" else codec.WITHDRAWING
                self._drive()
                return ""
            case "CLDINF" | "CLDWDR":
                _only_if(not pumping)
                self.out[text[3:]] = 0.0
                return ""
            case "RESET":
                self.address = 0
                self._deliver()
                return ""
        if text.startswith("FUN"):
            found = FUNCTIONS.fullmatch(text[3:])
            if found is None:
                raise _Refusal("OOR" if text[3:6].isalpha() else "")
            _only_if(not pumping)
            name, *number = (part for part in found.groups() if part)
            self.phase.function, self.phase.number = name, float(number[0]) if number else 0.0
            return ""
        if re.fullmatch(r"IN[2346]", text):
            return "1"  # nothing pulls the inputs down (the open driver new-era 2.2.3 asks for pin 2)
        if re.fullmatch(r"OUT5[01]", text):
            return ""
        match_setting = re.fullmatch(r"(AL|PF|LN|BP|LOC|BUZ|TRG|DIN|ROM)([01A-Z]*)", text)
        if match_setting is None:
            raise _Refusal("")
        name, value = match_setting.groups()
        if not value:
            return self._settings.get(name, "FT" if name == "TRG" else "0")  # as delivered: unverified
        self._settings[name] = value
        return ""

    def _set_rate(self, value: str, pumping: bool) -> None:
        match = re.fullmatch(r"([0-9.]+)([A-Z]{2})?", value)
        if match is None or (match[2] or "UM") not in codec.RATES:
            raise _Refusal("")
        _only_if(
            self.phase.function in RATE_PHASES and not (pumping and match[2])
        )  # units stay as they are while it pumps (section 5.4.1)
        unit = match[2] or self.rate.unit
        rate = Quantity(codec.number(_number(match[1], 0.0, 9999.0)), unit, codec.RATES[unit])
        slowest, fastest = (speed * codec.area(self.diameter) for speed in (codec.SLOWEST, codec.FASTEST))
        if rate.value and not slowest <= rate.value <= fastest:
            raise _Refusal("OOR")
        self.phase.rate = rate


class _Refusal(Exception):
    def __init__(self, code: str) -> None:
        self.code = code


def _only_if(applicable: bool) -> None:
    if not applicable:
        raise _Refusal("NA")


def _number(text: str, low: float, high: float) -> float:
    """A number of four digits (section 10.2.1)."""
    if re.fullmatch(r"\d*\.?\d{0,3}", text) is None or not 1 <= len(text.replace(".", "")) <= 4:
        raise _Refusal("OOR" if re.fullmatch(r"[0-9.]+", text) else "")
    if not low <= float(text) <= high:
        raise _Refusal("OOR")
    return float(text)
