"""An emulated NE-1000: pumps liquid into the shared world, in Basic and Safe mode.

Of the pumping programs only phase 1 is emulated, with the function RAT. In Safe mode a real pump
also sends its alarms unasked, which an emulator can't.
"""

from __future__ import annotations

import re
from typing import Any

from . import codec
from .codec import Quantity, Reply

STEP = 0.01  # s, of the bench: the last of a volume goes out within one


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
        self.status = codec.STOPPED
        self.diameter = diameter
        self.rate = Quantity("0.000", "MH", codec.RATES["MH"])
        self.volume_unit = "UL" if diameter <= codec.MICROLITRES_UP_TO else "ML"
        self.target = 0.0  # uL; 0 pumps for ever
        self.direction = "INF"
        self.out = {"INF": 0.0, "WDR": 0.0}  # uL
        self.done = 0.0
        """uL of the target that are out."""
        self.safe_timeout = 0
        self._silence = 0.0
        self._flow = 0.0  # uL/min, signed
        self._settings: dict[str, str] = {}

    def framing(self, scheme: str) -> codec.PumpEnd:
        return codec.PumpEnd()

    def respond(self, message: bytes) -> bytes | None:
        if message == b"!":
            return self._packed(Reply(self.address, self.status, error="COM")) if self.address == 0 else None
        if self.safe_timeout and message[:1] != b"s":
            return None  # Safe mode hears Safe packets only
        # Spaces and control characters are dropped, all is made upper case (section 10.2.2).
        text = re.sub(r"[^!-~]", "", message[1:].decode("latin-1")).upper()
        match = re.fullmatch(r"(\d{0,2})(.*)", text)
        assert match is not None
        if int(match[1] or 0) != self.address:
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

    def advance(self, dt: float) -> None:
        if self.safe_timeout:
            self._silence += dt
            if self._silence > self.safe_timeout:
                self._silence = 0.0
                if self.status in codec.PUMPING:
                    self.status, self.alarm = codec.STOPPED, "T"
        moved = abs(self._flow) * dt / 60
        if moved:
            self.out["INF" if self._flow > 0 else "WDR"] += moved
            self.done += moved
            if self.target and self.target - self.done < 1e-9:
                self.status = codec.STOPPED
        self._drive()

    # ------------------------------------------------------------------ private

    def _drive(self) -> None:
        """What flows from now on."""
        speed = 0.0
        if self.status == codec.PURGING:
            speed = codec.FASTEST * codec.area(self.diameter)
        elif self.status in codec.PUMPING:
            speed = self.rate.value
            if self.target:
                speed = min(speed, max(self.target - self.done, 0.0) * 60 / STEP)
        self._flow = speed if self.direction == "INF" else -speed
        self.world.liquid = self._flow

    def _packed(self, reply: Reply) -> bytes:
        return (b"s" if self.safe_timeout else b"b") + reply.encode()

    def _do(self, text: str) -> str:
        pumping = self.status in codec.PUMPING
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
                self._set_rate(value, pumping)
            case "VOL", "":
                return f"{codec.number(self.target / codec.VOLUMES[self.volume_unit])}{self.volume_unit}"
            case "VOL", ("UL" | "ML"):
                _only_if(not pumping)
                self.volume_unit = value
            case "VOL", _:
                _only_if(not pumping)
                self.target = _number(value, 0.0, 9999.0) * codec.VOLUMES[self.volume_unit]
            case "DIR", "":
                return self.direction
            case "DIS", "":
                scale = codec.VOLUMES[self.volume_unit]
                # Four digits: the counters begin anew above 9999 (unverified).
                infused, withdrawn = (codec.number(self.out[d] / scale % 9999.5) for d in ("INF", "WDR"))
                return f"I{infused}W{withdrawn}{self.volume_unit}"
            case "PHN", "":
                return "01"
            case "PHN", _:
                _number(value, 1, 1)
            case "FUN", "":
                return "RAT"
            case "SAF", "":
                return f"{self.safe_timeout:03d}"
            case "SAF", _:
                self.safe_timeout = int(_number(value, 0, 255))
            case "ADR", "":
                return f"{self.address:02d}"
            case "ADR", _:
                self.address = int(_number(value, 0, 99))
            case ("RUN", "" | "1" | "01"):
                _only_if(not pumping)
                if self.rate.value == 0:
                    raise _Refusal("OOR")
                if self.status != codec.PAUSED:
                    self.done = 0.0
                self.status = codec.INFUSING if self.direction == "INF" else codec.WITHDRAWING
            case "PUR", "":
                _only_if(not pumping)
                self.status = codec.PURGING
            case "STP", "":
                _only_if(self.status != codec.STOPPED)
                self.status = codec.PAUSED if pumping and self.status != codec.PURGING else codec.STOPPED
            case _:
                return self._do_words(text, pumping)
        self._drive()
        return ""

    def _do_words(self, text: str, pumping: bool) -> str:
        """Commands whose values are letters, and settings that change nothing here."""
        match text:
            case "DIRINF" | "DIRWDR" | "DIRREV":
                _only_if(not (pumping and self.target))
                reverse = "WDR" if self.direction == "INF" else "INF"
                self.direction = reverse if text == "DIRREV" else text[3:]
                if self.status in (codec.INFUSING, codec.WITHDRAWING):
                    self.status = codec.INFUSING if self.direction == "INF" else codec.WITHDRAWING
                self._drive()
                return ""
            case "CLDINF" | "CLDWDR":
                _only_if(not pumping)
                self.out[text[3:]] = 0.0
                return ""
            case "FUNRAT":
                return ""
        match_setting = re.fullmatch(r"(AL|PF|LN|BP|LOC|BUZ|TRG|DIN|ROM)([01A-Z]*)", text)
        if match_setting is None:
            raise _Refusal("")
        name, value = match_setting.groups()
        if not value:
            return self._settings.get(name, "0")
        self._settings[name] = value
        return ""

    def _set_rate(self, value: str, pumping: bool) -> None:
        match = re.fullmatch(r"([0-9.]+)([A-Z]{2})?", value)
        if match is None or (match[2] or "UM") not in codec.RATES:
            raise _Refusal("")
        _only_if(not (pumping and match[2]))  # units stay as they are while it pumps (section 5.4.1)
        unit = match[2] or self.rate.unit
        rate = Quantity(codec.number(_number(match[1], 0.0, 9999.0)), unit, codec.RATES[unit])
        slowest, fastest = (speed * codec.area(self.diameter) for speed in (codec.SLOWEST, codec.FASTEST))
        if rate.value and not slowest <= rate.value <= fastest:
            raise _Refusal("OOR")
        self.rate = rate


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
