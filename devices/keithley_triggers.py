"""The trigger model of an emulated 2450 or DMM6500: blocks that it goes through by itself (`:TRIGger`, `:INITiate`).

As in the 2450's Reference Manual, 2450-901-01 Rev. B, pp. 6-137 on, and as fixate's and QCoDeS's drivers and
Keithley's own examples use it: blocks that measure, clear, delay, count, branch and wait; ready-made models
"Empty", "SimpleLoop" and "DurationLoop". Events are ``*TRG`` (COMM), notifications and timers; lines are stored
and do nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from devices.keithley_timers import Events
from hal.protocols.scpi import Entry
from hal.protocols.scpi_parameters import Boolean, Choice, Numeric, ScpiError, Text

STEP = 1e-5  # s that a block takes
LONGEST = 3600.0  # s that somebody waits for its end
MOST = 200_000  # steps after which it is taken to have none
BLOCKS = 63
STIMULI = Choice(
    (
        "NONE",
        "ATRigger",
        "BLENder#",
        "COMMand",
        "DIGio#",
        "DISPlay",
        "EXTernal",
        "LAN#",
        "NOTify#",
        "TIMer#",
        "TSPLink#",
    )
)
Steps = Iterator[float | None]
"""Seconds that a step takes; None while it waits for an event."""


class Stimulus:
    """An event by name, its number kept: ``TIM2``."""

    def parse(self, text: str) -> str:
        digits = text[len(text.rstrip("0123456789")) :]
        return STIMULI.parse(text).rstrip("#") + digits

    def show(self, value: str) -> str:
        return value


class TriggerModel:
    """Blocks, and whatever goes on by itself: a model, or a scan."""

    def __init__(self, measure: Callable[[str], float], clear: Callable[[str], None]) -> None:
        self.measure, self.clear = measure, clear
        self.now = 0.0
        self.charge: Callable[[float], None] = lambda seconds: None
        """Make whoever asks next wait."""
        self.complete: Callable[[], None] = lambda: None
        """Everything that ``*OPC`` waits for is done."""
        self._owed = False
        self.fault: Callable[[ScpiError], None] = lambda error: None
        self.changed: Callable[[], None] = lambda: None
        """Called when blocks are set: what was prepared to go on in their stead does not."""
        self._blocks: dict[int, tuple[str, Any, Any]] = {}
        self.events = Events()
        self._lines: dict[str, Any] = {}
        self.continuous = "AUTO"
        self._task: Steps | None = None
        self._due = 0.0
        self._at = 0
        self._waiting = False

    @property
    def running(self) -> bool:
        return self._task is not None

    @property
    def time(self) -> float:
        """When what it does now happens."""
        return max(self.now, self._due) if self.running else self.now

    @property
    def empty(self) -> bool:
        return not self._blocks

    def reset(self) -> None:
        self._task, self._owed = None, False
        self._blocks = {}
        self.events.reset()
        self._lines.clear()
        self.continuous = "AUTO"

    def start(self, steps: Steps | None = None) -> None:
        """Begin these steps, or the model. Raises `ScpiError`."""
        if self._task is not None:
            raise ScpiError(-213, "Init ignored")
        self._task, self._due = steps or self._model(), self.now
        self.events.forget()

    def abort(self) -> None:
        self._task = None

    def trigger(self) -> None:
        """``*TRG``."""
        self.events.emit("COMM", self.time)

    def advance(self, dt: float) -> None:
        self.now += dt
        while self._task is not None and self._due <= self.now:
            if not self._step():
                self._due = self.now + dt  # ask again later
                break

    def finish(self) -> float:
        """Go to the end at once; return the seconds it takes (as far as it has an end)."""
        for _ in range(MOST):
            if self._task is None or self._due - self.now >= LONGEST or not self._step():
                break
        return max(0.0, self._due - self.now)

    def _step(self) -> bool:
        assert self._task is not None
        try:
            took = next(self._task)
        except StopIteration:
            self._task = None
            self._ended()
            return True
        except ScpiError as error:  # a buffer that is not there
            self._task = None
            self.fault(error)
            return True
        self._waiting = took is None
        self._due += took or 0.0
        return took is not None

    def _ended(self) -> None:
        if self._owed:
            self.complete()
        self._owed = False

    def _opc(self) -> None:
        self._owed = True
        if not self.running:
            self._ended()

    def _wait(self) -> str:
        self.charge(self.finish())
        return "1"

    def _model(self) -> Steps:
        self._at, begun, counts = 1, self._due, dict.fromkeys(self._blocks, 0)
        while self._at in self._blocks:
            kind, value, where = self._blocks[self._at]
            then = self._at + 1
            if kind == "measure":
                for _ in range(int(value)):
                    yield self.measure(where)
            elif kind == "clear":
                self.clear(where)
            elif kind == "delay":
                yield value() if callable(value) else value
            elif kind == "do":
                value()
            elif kind == "count":
                counts[self._at] += 1
                then = where if counts[self._at] < value else then
                counts[self._at] %= value
            elif kind == "elapsed":
                then = where if self._due - begun < value else then
            elif kind == "always" or (kind == "event" and self.events.take(value, self._due)):
                then = where
            elif kind == "notify":
                self.events.emit(f"NOT{int(value)}", self._due)
            elif kind == "wait":
                if where:  # only what comes from now on
                    self.events.take(value, self._due)
                while not self.events.take(value, self._due):
                    due = self.events.due(value)
                    yield None if due is None else max(0.0, due - self._due)
            yield STEP
            self._at = then

    # ------------------------------------------------------------------ the table of headers

    def table(self) -> Iterator[Entry]:
        block, count = Numeric(1, BLOCKS, whole=True), Numeric(1, 1e9, 1, whole=True)
        delay, buffer, event = Numeric(0, 1e4, 0, "s"), Text(bare=True), Stimulus()
        root = ":TRIGger:BLOCk"
        yield Entry("*WAI", write=lambda: self.charge(self.finish()))
        yield Entry("*OPC", self._opc, self._wait)
        yield Entry(":ABORt", write=self.abort)
        yield Entry("*TRG", write=self.trigger)
        yield Entry(":TRIGger[:IMMediate]", write=self.trigger)
        yield Entry(":TRIGger:STATe", read=self._state)
        yield Entry(":TRIGger:LOAD", self.load, takes=(Text(),), rest=Text(bare=True))
        for name in ("MDIGitize", "MEASure", "DIGitize"):
            yield Entry(
                f"{root}:{name}", lambda n, b="defbuffer1", c=1.0: self.put(n, "measure", c, b),
                takes=(block, buffer, count), optional=2,
            )  # fmt: skip
        yield Entry(
            f"{root}:BUFFer:CLEar", lambda n, b="defbuffer1": self.put(n, "clear", 0, b), takes=(block, buffer),
            optional=1,
        )  # fmt: skip
        yield Entry(f"{root}:DELay:CONStant", lambda n, t: self.put(n, "delay", t), takes=(block, delay))
        yield Entry(
            f"{root}:BRANch:COUNter", lambda n, c, to: self.put(n, "count", int(c), int(to)),
            takes=(block, count, block),
        )  # fmt: skip
        yield Entry(f"{root}:BRANch:ALWays", lambda n, to: self.put(n, "always", 0, int(to)), takes=(block, block))
        yield Entry(
            f"{root}:BRANch:EVENt", lambda n, e, to: self.put(n, "event", e, int(to)), takes=(block, event, block)
        )
        yield Entry(
            f"{root}:WAIT", lambda n, e, clear="NEV": self.put(n, "wait", e, clear == "ENT"),
            takes=(block, event, Choice(("ENTer", "NEVer"))), optional=1,
        )  # fmt: skip
        yield Entry(f"{root}:LIST", read=self._list)
        yield Entry(f"{root}:BRANch:ONCE", lambda n, to: self.put(n, "count", 2, int(to)), takes=(block, block))
        yield Entry(
            f"{root}:BRANch:DELTa", lambda n, _t, to, *_: self.put(n, "nop", 0, int(to)), rest=Text(bare=True),
            takes=(block, Numeric(), block),
        )  # fmt: skip
        yield Entry(
            f"{root}:DELay:DYNamic", lambda n, _which: self.put(n, "delay", 0.0), takes=(block, Text(bare=True))
        )
        yield Entry(f"{root}:LOG:EVENt", lambda n, *_: self.put(n, "nop", 0), takes=(block,), rest=Text(bare=True))
        yield Entry(f"{root}:DIGital:IO", lambda n, *_: self.put(n, "nop", 0), takes=(block,), rest=Numeric())
        yield Entry(
            ":TRIGger:CONTinuous", lambda how: setattr(self, "continuous", how), lambda: self.continuous,
            (Choice(("AUTO", "OFF", "RESTart")),),
        )  # fmt: skip
        yield from self._wires()
        yield Entry(f"{root}:NOP", lambda n: self.put(n, "nop", 0), takes=(block,))
        yield Entry(
            f"{root}:NOTify", lambda n, which: self.put(n, "notify", which), takes=(block, Numeric(1, 8, whole=True))
        )
        for name, field, kind in (
            ("DELay", "delays", Numeric(8e-6, 1e5, 1e-5, "s", "{:.6g}")),
            ("COUNt", "count", Numeric(0, 1048575, 1, whole=True)),
            ("STARt:STIMulus", "stimulus", event),
            ("STARt:GENerate", "generate", Boolean()),
            ("STATe", "on", Boolean()),
        ):
            yield Entry(
                f":TRIGger:TIMer#:{name}", lambda n, x, field=field: self._set_timer(n, field, x),
                lambda n, field=field, kind=kind: kind.show(self._of_timer(n, field)), (kind,),
            )  # fmt: skip

    def _of_timer(self, n: int, field: str) -> Any:
        if n not in self.events.timers:
            raise ScpiError(-114)
        found = getattr(self.events.timers[n], field)
        return found[0] if field == "delays" else found

    def _set_timer(self, n: int, field: str, value: Any) -> None:
        self._of_timer(n, field)
        setattr(self.events.timers[n], field, [value] if field == "delays" else value)

    def _list(self) -> str:
        """The blocks in words, one after the other."""
        return "; ".join(f"{n}) {kind.upper()}" for n, (kind, _, _) in sorted(self._blocks.items())) or "Empty"

    def _wires(self) -> Iterator[Entry]:
        """Lines by which it could be triggered."""
        edge = Choice(("FALLing", "RISing", "EITHer", "ABOVe", "BELow"))
        for line in ("EXTernal", "DIGital#", "LAN#", "TSPLink#", "LINE#"):
            yield Entry(f":TRIGger:{line}:IN:CLEar", write=lambda *_: None)
            yield Entry(f":TRIGger:{line}:IN:OVERrun", read=lambda *_: "0")
            for tail, kind, first in (
                ("IN:EDGE", edge, "FALL"),
                ("OUT:LOGic", Choice(("POSitive", "NEGative")), "NEG"),
                ("OUT:PULSewidth", Numeric(0, 100, 1e-5, form="{:.6g}"), 1e-5),
                ("OUT:STIMulus", Stimulus(), "NONE"),
            ):
                yield Entry(
                    f":TRIGger:{line}:{tail}",
                    lambda *given, key=f"{line}{tail}": self._lines.update({f"{key}{given[:-1]}": given[-1]}),
                    lambda *which, key=f"{line}{tail}", kind=kind, first=first: kind.show(
                        self._lines.get(f"{key}{which}", first)
                    ),
                    (kind,),
                )  # fmt: skip
        for kind_of in ("DIGitize", "MEASure"):
            yield Entry(
                f":TRIGger:{kind_of}:STIMulus", lambda event, key=kind_of: self._lines.update({key: event}),
                lambda key=kind_of: str(self._lines.get(key, "NONE")), (Stimulus(),),
            )  # fmt: skip

    def put(self, at: float, kind: str, value: Any, where: Any = None) -> None:
        """Set a block."""
        self.changed()
        self._blocks[int(at)] = (kind, value, where)

    def load(self, name: str, *given: str) -> None:
        """A ready-made model. Raises `ScpiError`."""
        self.changed()
        match name.upper():
            case "EMPTY":
                self._blocks = {}
            case "SIMPLELOOP":
                count = Numeric(1, math.inf, whole=True).parse(given[0]) if given else 1.0
                delay, buffer = self._rest(given)
                readings = Numeric(1, 1e9, whole=True).parse(given[3]) if len(given) > 3 else 1.0
                self._loop(("count", int(count), 2), delay, buffer, readings)
            case "DURATIONLOOP":
                duration = Numeric(5e-7, 1e5).parse(given[0]) if given else 1.0
                delay, buffer = self._rest(given)
                self._loop(("elapsed", duration, 2), delay, buffer, 1.0)
            case _:
                raise ScpiError(-224)

    @staticmethod
    def _rest(given: tuple[str, ...]) -> tuple[float, str]:
        delay = Numeric(0, 1e5).parse(given[1]) if len(given) > 1 else 0.0
        return delay, given[2].strip("\"'") if len(given) > 2 else "defbuffer1"

    def _loop(self, again: tuple[str, Any, int], delay: float, buffer: str, readings: float) -> None:
        blocks = [("clear", 0, buffer), ("delay", delay, None), ("measure", readings, buffer), again]
        self._blocks = dict(enumerate(blocks, 1))

    def _state(self) -> str:
        if not self.running:
            return "IDLE;IDLE;0"
        for_a_timer = self._blocks.get(self._at, ("",))[0] == "wait"
        word = "WAITING" if self._waiting or for_a_timer else "RUNNING"
        return f"{word};{word};{self._at}"
