"""An emulated Keithley 2602B: two channels, a Lua interpreter, triggers; one channel at the specimen's contacts.

What a line does is worked out at once, with the world as it stands, and the instrument's clock runs
ahead by the time it took: the answer comes that much later, the next line waits, and the specimen
feels each level when its time has come. ``abort`` takes back what has not happened yet.

Faithful where drivers of others look (keithley2600, QCoDeS and PyMeasure run against it, and Keithley's
own tutorials). Left out: files, other nodes of TSP-Link, TSP-Net, LAN and GPIB settings, calibration, what
the display shows.
Source: Series 2600B Reference Manual, 2600BS-901-01; unverified: what ``abort`` does to
sweeps, the time of waking up.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from devices.physics import World
from hal.protocols.framing import AnyLines, Framing
from hal.protocols.lua_values import Exhausted, Native, Table, silent, tonumber, tostring
from hal.protocols.tsp import Bounds, Tsp, TspError

from . import codec, factory
from .lines import Lines
from .smu import LINE_FREQUENCY, VOLTAGE, Felt, Smu
from .status import BUFFER_AVAILABLE, CURRENT_LIMIT, SMUA, SMUB, VOLTAGE_LIMIT, StatusModel
from .triggers import Events, Timeline, Triggers

LATENCY = 0.002  # s
SETUPS = 5
"""Places where settings are kept."""
EPOCH = 1_750_000_000.0  # s since 1970 when it woke up
HORIZON = 3600.0
"""Seconds a line may take before it is taken to never end."""


class Keithley2602BEmulator:
    """A 2602B. Settings: `seed`; `specimen`, the channel that biases ``world.voltage``; `load`, ohm at the other."""

    def __init__(
        self, world: World, *, unit: object = None, channel: object = None, seed: int = 2602, specimen: str = "",
        load: float = 1000.0, model: str = codec.MODEL,
    ) -> None:  # fmt: skip
        self.world, self.load = world, load
        self.reply_delay = LATENCY
        self.specimen = (specimen or str(channel or "a"))[-1:].lower()
        if self.specimen not in ("a", "b"):
            raise ValueError(f"specimen = {specimen!r} is no channel; give a or b")
        self._bench = 0.0
        self._timeline = Timeline()
        self._plan: deque[tuple[float, dict[str, Felt]]] = deque()
        """What the specimen will feel, and when."""
        self._felt: dict[str, Felt] = {}
        self.smus: dict[str, Smu] = {}
        self.tsp = tsp = Tsp(model, "4301234", "3.3.5")
        tsp.spend, tsp.wait, tsp.settle = self._spend, self._wait, self._settle
        tsp.reset, tsp.trigger, tsp.aborted = self._reset, self._trigger, self._abort
        self._events = Events()
        for letter in "ab":
            self.smus[letter] = Smu(
                tsp, letter, self._timeline, self._events, load=lambda letter=letter: self._load(letter),  # type: ignore[misc]
                changed=self._changed, chance=random.Random(seed + ord(letter)), epoch=EPOCH,
            )  # fmt: skip
        self._triggers = Triggers(tsp, self._timeline, self._events)
        self._lines = Lines(tsp, self._events)
        self._saved: dict[float, dict[str, dict[str, float]]] = {}
        self._status = StatusModel(tsp, {
            "measurement.instrument.smua": lambda: self._limits("a"),
            "measurement.instrument.smub": lambda: self._limits("b"),
            "measurement.voltage_limit": lambda: self._summary(VOLTAGE_LIMIT),
            "measurement.current_limit": lambda: self._summary(CURRENT_LIMIT),
            "measurement.buffer_available": lambda: self._summary(BUFFER_AVAILABLE),
            "operation.sweeping": self._sweeping,
        })  # fmt: skip
        for name, table in self._tables().items():
            tsp.machine.globals.set(name, table)
        tsp.factory_script(factory.SWEEPS)
        self._timeline.now = 0.0
        self._plan.clear()

    # ------------------------------------------------------------------ the instrument's life

    def framing(self, scheme: str) -> Framing:
        return AnyLines(codec.TERMINATOR)

    def respond(self, message: bytes) -> bytes | None:
        reply = self.tsp.receive(message)
        self._timeline.run_to(self._timeline.now)
        self.reply_delay = LATENCY + max(0.0, self._timeline.now - self._bench)
        self._drive()
        return reply

    def advance(self, dt: float) -> None:
        self._bench += dt
        self._timeline.run_to(self._bench)
        self._drive()

    @property
    def errors(self) -> int:
        """Entries of the error queue not yet read."""
        return len(self.tsp.errors)

    # ------------------------------------------------------------------ physics and time

    def _load(self, letter: str) -> float:
        return self.world.resistance if letter == self.specimen else self.load

    def _changed(self) -> None:
        """A source was set, now on the instrument's clock."""
        if len(self.smus) == 2:
            self._plan.append((self._timeline.now, {letter: smu.felt for letter, smu in self.smus.items()}))

    def _drive(self) -> None:
        """Have the specimen feel what its time has come for."""
        while self._plan and self._plan[0][0] <= self._bench:
            self._felt = self._plan.popleft()[1]
        if self.specimen in self._felt:
            self.world.voltage = self._felt[self.specimen].operating_point(self.world.resistance)[0]

    def _spend(self, seconds: float) -> None:
        if self._timeline.now + seconds - self._bench > HORIZON:
            raise Exhausted(f"more than {HORIZON:g} s")
        self._timeline.run_to(self._timeline.now + seconds)

    @property
    def _busy(self) -> bool:
        return any(smu.background.busy for smu in self.smus.values())

    def _settle(self) -> None:
        while self._busy and self._timeline.next - self._bench <= HORIZON:
            self.tsp.machine.step()
            self._timeline.run_to(self._timeline.next)

    def _wait(self) -> None:
        self._settle()
        if self._busy:
            raise Exhausted("it waits for a trigger that can't come")

    def _reset(self) -> None:
        for smu in self.smus.values():
            smu.reset()
        self._triggers.reset()
        self._lines.reset()
        self.tsp.format.asciiprecision, self.tsp.format.data = 6, 1

    def _trigger(self) -> None:
        self._events.emit(self._triggers.command)

    def _abort(self) -> None:
        """Stop, and take back what lies ahead of the world's time."""
        self._drive()
        self._plan.clear()
        self._timeline.clear()
        self._timeline.now = self._bench
        for letter, smu in self.smus.items():
            if letter in self._felt:
                smu.restore(self._felt[letter])
            smu.forget_after(self._bench)
            smu.abort()

    # ------------------------------------------------------------------ status

    def _limits(self, letter: str) -> int:
        smu = self.smus[letter]
        _, _, limited = smu.operating_point()
        held = (CURRENT_LIMIT if smu.function == VOLTAGE else VOLTAGE_LIMIT) if limited else 0
        return held | (BUFFER_AVAILABLE if any(buffer.rows for buffer in smu.buffers) else 0)

    def _summary(self, bit: int) -> int:
        return sum(mark for letter, mark in (("a", SMUA), ("b", SMUB)) if self._limits(letter) & bit)

    def _sweeping(self) -> int:
        return sum(mark for letter, mark in (("a", SMUA), ("b", SMUB)) if self.smus[letter].background.busy)

    # ------------------------------------------------------------------ tables

    def _tables(self) -> dict[str, Any]:
        tsp = self.tsp
        node: dict[str, Any] = {
            "linefreq": LINE_FREQUENCY,
            "autolinefreq": True,
            "description": "",
            "prompts4882": 1,
            "setup": 0,
        }
        queue: deque[Any] = deque()

        def flag(name: str) -> Any:
            return lambda value: setattr(tsp, name, int(tonumber(value) or 0))

        localnode = tsp.node(tsp.attributes(
            "localnode",
            getters={
                "model": lambda: tsp.model, "serialno": lambda: tsp.serial, "revision": lambda: tsp.revision,
                "prompts": lambda: tsp.prompts, "showerrors": lambda: tsp.showerrors,
            } | {name: lambda name=name: node[name] for name in node},
            setters={"prompts": flag("prompts"), "showerrors": flag("showerrors")} | {
                name: lambda value, name=name: node.__setitem__(name, value) for name in node
            },
            objects={"reset": silent(lambda *_: self._reset())},
        ))  # fmt: skip
        started = [0.0]
        nothing = silent(lambda *_: None)

        def save(which: Any = None, *_: Any) -> None:
            self._saved[Bounds(1, SETUPS).checked(which)] = {name: dict(smu.values) for name, smu in self.smus.items()}

        def recall(which: Any = None, *_: Any) -> None:
            """With its outputs off; 0 is the factory's (``setup.recall()``)."""
            number = tonumber(which)
            if number != 0 and number not in self._saved:
                raise TspError(2205, "File not found")
            self._reset()
            for name, values in self._saved.get(number or 0.0, {}).items():
                self.smus[name].values.update(values | {"source.output": 0})

        tables = {
            "smua": self.smus["a"].table, "smub": self.smus["b"].table, "localnode": localnode,
            "node": Table.of([localnode]), "trigger": self._triggers.table, "status": self._status.table,
            "display": self._display(),
            "beeper": Table({"ON": 1.0, "OFF": 0.0, "enable": 1.0, "beep": tsp.native("beep", nothing)}),
            "digio": self._lines.digio, "tsplink": self._lines.tsplink,
            "timer": tsp.attributes("timer", objects={
                "reset": silent(lambda *_: started.__setitem__(0, self._timeline.now)),
                "measure": tsp.attributes("timer_measure", objects={"t": lambda *_: self._timeline.now - started[0]}),
            }),
            "os": tsp.attributes("os", objects={
                "time": lambda *_: float(int(EPOCH + self._timeline.now)), "clock": lambda *_: self._timeline.now,
            }),
            "setup": tsp.attributes(
                "setup", getters={"poweron": lambda: node["setup"]},
                objects={"recall": silent(recall), "save": silent(save)},
                setters={"poweron": lambda value: node.update(setup=Bounds(0, SETUPS).checked(value))},
            ),
            "dataqueue": tsp.attributes("dataqueue", getters={"count": lambda: len(queue)}, objects={
                "CAPACITY": 128, "clear": silent(lambda *_: queue.clear()),
                "add": lambda value=None, *_: len(queue) < 128 and (queue.append(value) or True),  # type: ignore[func-returns-value]
                "next": lambda *_: queue.popleft() if queue else None,
            }),
            "gpib": Table({"address": 26.0}), "serial": Table({"baud": 9600.0}),
        }  # fmt: skip
        functions = {
            "reset": silent(lambda *_: self._reset()), "settime": nothing, "settimezone": nothing,
            "gettimezone": lambda *_: "0", "meminfo": lambda *_: (24000.0, 32768.0),
        }  # fmt: skip
        return tables | {name: tsp.native(name, call) for name, call in functions.items()}

    def _display(self) -> Table:
        """What takes everything politely: texts, keys, settings of what is shown."""
        lines = [""]

        def put(text: Any = None, other: Any = None, *_: Any) -> None:
            lines[0] = tostring(other if other is not None else text)

        def polite() -> Table:
            return Table({"measure": Table({"func": 0.0}), "limit": Table({"func": 0.0}), "digits": 5.0})

        nothing = Native("polite", silent(lambda *_: None))
        names = ("sendkey", "setcursor", "menu", "prompt", "inputvalue", "waitkey", "getlastkey", "getannunciators")
        return Table(dict.fromkeys(names, nothing) | {
            "getcursor": Native("getcursor", lambda *_: (1.0, 1.0, 0.0)),
            "settext": Native("settext", silent(put)), "gettext": Native("gettext", lambda *_: lines[0]),
            "clear": Native("clear", silent(lambda *_: lines.__setitem__(0, ""))),
            "smua": polite(), "smub": polite(), "screen": 2.0, "locallockout": 0.0, "numpad": 1.0, "SMUA": 0.0,
            "SMUB": 1.0, "SMUA_SMUB": 2.0, "USER": 3.0, "MEASURE_DCAMPS": 0.0, "MEASURE_DCVOLTS": 1.0,
            "MEASURE_OHMS": 2.0, "MEASURE_WATTS": 3.0, "LIMIT_IV": 0.0, "LIMIT_P": 1.0, "LOCK": 1.0, "UNLOCK": 0.0,
            "DIGITS_4_5": 4.0, "DIGITS_5_5": 5.0, "DIGITS_6_5": 6.0, "ENABLE": 1.0, "DISABLE": 0.0,
            "loadmenu": Table(dict.fromkeys(("add", "delete", "catalog"), nothing)),
            "trigger": Table({"clear": nothing, "wait": nothing, "EVENT_ID": 0.0}),
        })  # fmt: skip
