"""An emulated KDC101 with a stage on it: encoder, limit switches at both ends, and a motor that takes its time.

Unverified: what it wakes up with (enabled, not homed, the stage's usual speeds), what it says at a limit switch
(stopped), and the unit of the velocity it tells. Parameters that only the knob, the triggers or the servo loop use
are kept and change nothing.
"""

from __future__ import annotations

import struct
from typing import Any

from devices.axis import Axis

from . import codec
from .codec import DcStatus, Info, Message

UPDATES_EVERY = 0.1  # s
UNHEARD = 50  # updates sent without an acknowledgement, after which it is silent
HOME_OFFSET = 0.3  # mm from the lower limit switch to position 0
HOME_SPEED = 1.0  # mm/s


class Kdc101Emulator:
    """One controller and stage. Settings: see `__init__`."""

    def __init__(
        self, world: Any, *, unit: object = None, channel: object = None, stage: str = "MTS25-Z8", at: float = 7.0,
        homed: bool = False, serial: int = 27000001, model: str = "KDC101", reply_delay: float = 0.004,
    ) -> None:  # fmt: skip
        """`at`: mm above its home position; the controller knows of it only if `homed`."""
        self.reply_delay = reply_delay
        self.stage = codec.STAGES[stage]
        self.info = Info(serial, model, 16, (2, 2, 4), "K-Cube DC Servo Motor Driver")
        counts = self.stage.counts
        self.axis = Axis(
            low=-HOME_OFFSET * counts, high=(self.stage.travel + HOME_OFFSET) * counts, position=at * counts,
            acceleration=self.stage.acceleration * counts,
        )  # fmt: skip
        self.zero = 0.0 if homed else self.axis.position
        """Where on the stage its counter is 0."""
        self.homed, self.enabled = homed, True
        self.end_messages = True
        self.outputs, self.lock = 0, codec.DISABLED
        """Its digital outputs, and whether its wheel and buttons are locked."""
        self.parameters = self._factory()
        self._doing = ""
        """move, jog, stop, home (towards the switch), leave (away from it), or nothing."""
        self._said: list[bytes] = []
        self._updates, self._next, self._unheard = False, 0.0, 0
        self._now = 0.0

    def framing(self, scheme: str) -> codec.End:
        return codec.cube_end()

    def respond(self, message: bytes) -> bytes | None:
        said = Message.decode(message)
        answers = self.unasked()
        if (answer := self._answer(said)) is not None:
            answers.append(answer.encode())
        return b"".join(answers) or None

    @property
    def talking(self) -> bool:
        """Whether it has more to say by itself."""
        updating = self._updates and self._unheard < UNHEARD
        return bool(updating or self._said or self._doing)

    def unasked(self) -> list[bytes]:
        """What it says by itself: that a move has ended, and how it stands."""
        said, self._said = self._said, []
        return said

    def advance(self, dt: float) -> None:
        self._now += dt
        self.axis.advance(dt)
        self._watch()
        if self._updates and self._now >= self._next:
            self._next += UPDATES_EVERY
            self._unheard += 1
            if self._unheard <= UNHEARD:
                self._say(codec.MOT_GET_DCSTATUSUPDATE)

    # ------------------------------------------------------------------ where it is

    @property
    def counter(self) -> int:
        return round(self.axis.position - self.zero)

    def status(self) -> DcStatus:
        """What it tells of itself."""
        bits = codec.CONNECTED | codec.POWER_OK | codec.TRACKING
        bits |= codec.IS_ENABLED * self.enabled | codec.HOMED * self.homed
        bits |= codec.LOW_LIMIT * (self.axis.position <= self.axis.low)
        bits |= codec.HIGH_LIMIT * (self.axis.position >= self.axis.high)
        if self._doing:
            up = (self.axis.velocity or self.axis.away or self.axis.wanted) > 0
            match self._doing:
                case "home" | "leave":
                    bits |= codec.HOMING
                case "jog":
                    bits |= codec.JOGGING_UP if up else codec.JOGGING_DOWN
                case _:
                    bits |= codec.MOVING_UP if up else codec.MOVING_DOWN
        else:
            bits |= codec.SETTLED
        return DcStatus(self.counter, round(self.axis.velocity * codec.SAMPLING), bits)

    def _say(self, number: int) -> None:
        self._said.append(
            Message(number, data=self.status().encode(), destination=codec.HOST, source=codec.USB).encode()
        )

    # ------------------------------------------------------------------ moving

    def _begin(self, doing: str, velocity: float) -> bool:
        """Whether it may move; then it is on its way at that speed (in counts/s)."""
        if not self.enabled or velocity <= 0.0:
            return False
        self._doing, self.axis.speed = doing, velocity
        return True

    def _pace(self) -> float:
        """Sets the acceleration; returns the speed, counts/s, of moves."""
        _, _, acceleration, velocity = self.parameters[codec.MOT_SET_VELPARAMS]
        return self._set_pace(acceleration, velocity)

    def _set_pace(self, acceleration: int, velocity: int) -> float:
        counts = self.stage.counts
        self.axis.acceleration = max(codec.rate(acceleration, counts), 0.01) * counts
        return min(codec.speed(velocity, counts), self.stage.speed) * counts

    def _go(self, counter: int) -> None:
        if self._begin("move", self._pace()):
            self.axis.go(counter + self.zero)

    def _jog(self, direction: int) -> None:
        _, mode, step, _, acceleration, velocity, _ = self.parameters[codec.MOT_SET_JOGPARAMS]
        sign = 1 if direction == codec.POSITIVE else -1
        if self._begin("jog", self._set_pace(acceleration, velocity)):
            if mode == 2:
                self.axis.go(self.axis.position + sign * step)
            else:
                self.axis.run(sign * self.axis.speed)

    def _run(self, direction: int) -> None:
        if self._begin("move", self._pace()):
            self.axis.run(self.axis.speed if direction == codec.POSITIVE else -self.axis.speed)

    def _home(self) -> None:
        if self._begin("home", self.parameters[codec.MOT_SET_HOMEPARAMS][3] / (codec.SAMPLING * 65536)):
            self.homed = False
            self.axis.run(-self.axis.speed)

    def _stop(self, how: int) -> None:
        if not self._doing:
            return
        self._doing = "stop"
        self.axis.run(0.0)
        if how == codec.IMMEDIATE:
            self.axis.halt()

    def _watch(self) -> None:
        """What follows when it has come to a stop."""
        match self._doing:
            case "home" if self.axis.position <= self.axis.low:
                self._doing = "leave"
                self.axis.go(0.0)
            case "leave" if not self.axis.moving:
                self.zero, self.homed, self._doing = 0.0, True, ""
                if self.end_messages:
                    self._said.append(self._short(codec.MOT_MOVE_HOMED, codec.CHANNEL, 0).encode())
            case "move" | "jog" if not self.axis.moving:
                self._end(codec.MOT_MOVE_COMPLETED)
            case "move" | "jog" if self._against_the_end():
                self.axis.halt()
                self._end(codec.MOT_MOVE_STOPPED)
            case "stop" if not self.axis.moving:
                self._end(codec.MOT_MOVE_STOPPED)

    def _against_the_end(self) -> bool:
        heading = self.axis.velocity or self.axis.away or self.axis.wanted
        return (heading < 0 and self.axis.position <= self.axis.low) or (
            heading > 0 and self.axis.position >= self.axis.high
        )

    def _end(self, number: int) -> None:
        self._doing = ""
        if self.end_messages:
            self._say(number)

    # ------------------------------------------------------------------ messages

    def _answer(self, said: Message) -> Message | None:
        match said.number:
            case codec.HW_REQ_INFO:
                info = self.info.encode()
                number = struct.pack("<H", self.stage.number)  # where pylablib looks for it
                return self._message(codec.HW_GET_INFO, info[:76] + number + info[78:])
            case codec.MOT_REQ_DCSTATUSUPDATE:
                return self._message(codec.MOT_GET_DCSTATUSUPDATE, self.status().encode())
            case codec.MOT_REQ_STATUSUPDATE:
                data = struct.pack("<HiiI", codec.CHANNEL, self.counter, self.counter, self.status().bits)
                return self._message(codec.MOT_GET_STATUSUPDATE, data)
            case codec.MOT_REQ_STATUSBITS:
                return self._message(codec.MOT_GET_STATUSBITS, struct.pack("<HI", codec.CHANNEL, self.status().bits))
            case codec.MOD_REQ_CHANENABLESTATE:
                state = codec.ENABLED if self.enabled else codec.DISABLED
                return self._short(said.number + 1, codec.CHANNEL, state)
            case codec.MOD_REQ_DIGOUTPUTS:
                return self._short(codec.MOD_GET_DIGOUTPUTS, self.outputs, 0)
            case codec.HW_REQ_KCUBEMMILOCK:
                return self._short(codec.HW_GET_KCUBEMMILOCK, 0, self.lock)
            case codec.HUB_REQ_BAYUSED:
                return self._short(codec.HUB_GET_BAYUSED, codec.NO_HUB, 0)
            case number if number - 1 in codec.PARAMETERS:
                return self._message(number + 1, self._told(number - 1))
            case number if number in codec.PARAMETERS:
                self._set(number, said.data or b"")
            case _:
                self._obey(said)
        return None

    def _short(self, number: int, first: int, second: int) -> Message:
        return Message(number, first, second, None, codec.HOST, codec.USB)

    def _message(self, number: int, data: bytes) -> Message:
        return Message(number, data=data, destination=codec.HOST, source=codec.USB)

    def _obey(self, said: Message) -> None:
        match said.number:
            case codec.MOT_MOVE_ABSOLUTE:
                self._go(self._given(said, codec.MOT_SET_MOVEABSPARAMS))
            case codec.MOT_MOVE_RELATIVE:
                self._go(self.counter + self._given(said, codec.MOT_SET_MOVERELPARAMS))
            case codec.MOT_MOVE_JOG:
                self._jog(said.second)
            case codec.MOT_MOVE_VELOCITY:
                self._run(said.second)
            case codec.MOT_MOVE_HOME:
                self._home()
            case codec.MOT_MOVE_STOP:
                self._stop(said.second)
            case codec.MOD_SET_CHANENABLESTATE:
                self.enabled = said.second == codec.ENABLED
                if not self.enabled:
                    self._stop(codec.IMMEDIATE)
            case codec.MOD_SET_DIGOUTPUTS:
                self.outputs = said.first
            case codec.HW_SET_KCUBEMMILOCK:
                self.lock = said.second
            case codec.HW_START_UPDATEMSGS:
                self._updates, self._next, self._unheard = True, self._now + UPDATES_EVERY, 0
            case codec.RESTORE_FACTORY_SETTINGS:
                self.parameters = self._factory()
            case codec.MOT_ACK_DCSTATUSUPDATE:
                self._unheard = 0
            case codec.HW_STOP_UPDATEMSGS | codec.HW_DISCONNECT:
                self._updates = False
            case codec.MOT_SUSPEND_ENDOFMOVEMSGS | codec.MOT_RESUME_ENDOFMOVEMSGS:
                self.end_messages = said.number == codec.MOT_RESUME_ENDOFMOVEMSGS

    def _given(self, said: Message, kept: int) -> int:
        """The number in the message, or the one set before."""
        if said.data is not None and len(said.data) == 6:
            self._set(kept, said.data)
        return self.parameters[kept][1]

    def _told(self, number: int) -> bytes:
        values = self.parameters[number]
        if number in (codec.MOT_SET_POSCOUNTER, codec.MOT_SET_ENCCOUNTER):
            values = (codec.CHANNEL, self.counter)
        return struct.pack(codec.PARAMETERS[number], *values)

    def _set(self, number: int, data: bytes) -> None:
        form = struct.Struct(codec.PARAMETERS[number])
        if len(data) != form.size:
            return
        values = form.unpack(data)
        if values[0] != codec.CHANNEL:
            return
        self.parameters[number] = values
        if number in (codec.MOT_SET_POSCOUNTER, codec.MOT_SET_ENCCOUNTER):
            self.zero = self.axis.position - values[1]

    def _factory(self) -> dict[int, tuple[int, ...]]:
        counts, one = self.stage.counts, codec.CHANNEL
        usual = codec.acceleration(self.stage.acceleration, counts)
        fast = codec.velocity(self.stage.speed, counts)
        slow = codec.velocity(HOME_SPEED, counts)
        blank = {number: (one,) + (0,) * (_fields(form) - 1) for number, form in codec.PARAMETERS.items()}
        return blank | {
            codec.MOT_SET_VELPARAMS: (one, 0, usual, fast),
            codec.MOT_SET_JOGPARAMS: (one, 2, round(0.1 * counts), 0, usual, fast, codec.PROFILED),
            codec.MOT_SET_LIMSWITCHPARAMS: (one, 2, 2, round(self.stage.travel * counts), 0, 1),
            codec.MOT_SET_HOMEPARAMS: (one, 2, 1, slow, round(HOME_OFFSET * counts)),
            codec.MOT_SET_DCPIDPARAMS: (one, 435, 195, 993, 195, 15),
            codec.MOT_SET_AVMODES: (one, 15),
            codec.MOT_SET_KCUBEMMIPARAMS: (one, 1, fast, usual, 1, 0, 0, 60, 10, 0),
            codec.MOT_SET_KCUBEPOSTRIGPARAMS: (one, 0, round(0.1 * counts), 1, 0, round(0.1 * counts), 1, 50000, 1),
        }  # fmt: skip


def _fields(form: str) -> int:
    return len(struct.unpack(form, bytes(struct.calcsize(form))))
