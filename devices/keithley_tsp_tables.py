"""What a 2450 and a DMM6500 have in TSP besides their functions: buffers, trigger model, event log, status, clock.

Source and what is unverified: as of `devices.keithley_tsp`. Left out: files, LAN, TSP-Link; lines are only remembered;
the display takes everything and shows nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from statistics import fmean, pstdev
from typing import Any

from devices.keithley_buffers import START, Buffers, Row, timestamp, with_unit
from devices.keithley_timers import Timer
from devices.keithley_triggers import LONGEST, TriggerModel
from devices.keithley_tsp import EVENTS, ON_OFF, Setting, TspFront, expanded, kept
from hal.protocols.lua_values import Exhausted, Native, Table, silent, tonumber, tostring
from hal.protocols.scpi_parameters import ScpiError
from hal.protocols.tsp import Bounds, Register, TspError

BLOCKS = {
    "BUFFER_CLEAR": "BUFF:CLE", "MEASURE_DIGITIZE": "MDIG", "DELAY_CONSTANT": "DEL:CONS", "DELAY_DYNAMIC": "DEL:DYN",
    "BRANCH_COUNTER": "BRAN:COUN", "BRANCH_ALWAYS": "BRAN:ALW", "BRANCH_ON_EVENT": "BRAN:EVEN",
    "BRANCH_ONCE": "BRAN:ONCE", "BRANCH_DELTA": "BRAN:DELT", "WAIT": "WAIT", "NOP": "NOP", "NOTIFY": "NOT",
    "LOG_EVENT": "LOG:EVEN", "DIGITAL_IO": "DIG:IO", "SOURCE_OUTPUT": "SOUR:STAT", "CONFIG_RECALL": "CONF:REC",
    "CONFIG_NEXT": "CONF:NEXT", "CONFIG_PREV": "CONF:PREV", "MEASURE": "MEAS", "DIGITIZE": "DIG",
}  # fmt: skip
"""``trigger.BLOCK_...`` and what follows ``:TRIGger:BLOCk:``; their parameters are the same, in the same order.
The last two are of older firmware, and Keithley's examples have them."""
STATES = ("EMPTY", "IDLE", "RUNNING", "WAITING", "PAUSED", "ABORTING", "ABORTED", "BUILDING", "FAILED")
TRIGGERS = dict(expanded({
    "timer[{n}].delay": Setting(":TRIG:TIM{n}:DEL"), "timer[{n}].count": Setting(":TRIG:TIM{n}:COUN"),
    "timer[{n}].start.stimulus": Setting(":TRIG:TIM{n}:STAR:STIM", EVENTS),
    "timer[{n}].start.generate": Setting(":TRIG:TIM{n}:STAR:GEN", ON_OFF),
    "timer[{n}].enable": Setting(":TRIG:TIM{n}:STAT", ON_OFF),
}, range(1, 5)))  # fmt: skip
LINES = {
    "digin": 6, "digout": 6, "tsplinkin": 3, "tsplinkout": 3, "lanin": 8, "lanout": 8, "blender": 2, "extin": 0,
    "extout": 0,
}  # fmt: skip
"""By which others could trigger it, and how many of them; nobody is there."""
LINE_MODES = (
    "DIGITAL_IN", "DIGITAL_OUT", "DIGITAL_OPEN_DRAIN", "TRIGGER_IN", "TRIGGER_OUT", "TRIGGER_OPEN_DRAIN",
    "SYNCHRONOUS_MASTER", "SYNCHRONOUS_ACCEPTOR",
)  # fmt: skip
BYTE = {"MSB": 1, "SSB": 2, "EAV": 4, "QSB": 8, "MAV": 16, "ESB": 32, "MSS": 64, "OSB": 128}
STANDARD = {"OPC": 1, "QYE": 4, "DDE": 8, "EXE": 16, "CME": 32, "URQ": 64, "PON": 128}
OF_TRIGGERS = (
    "ON", "OFF", "COUNT_AUTO", "COUNT_INFINITE", "COUNT_STOP", "CLEAR_ENTER", "CLEAR_NEVER", "EDGE_FALLING",
    "EDGE_RISING", "EDGE_EITHER", "LOGIC_NEGATIVE", "LOGIC_POSITIVE",
    *(f"USER_DELAY_{kind}{n}" for kind in "MS" for n in range(1, 6)),
)  # fmt: skip
OF_BUFFERS = (
    "ON", "OFF", "FILL_ONCE", "FILL_CONTINUOUS", "STYLE_STANDARD", "STYLE_COMPACT", "STYLE_FULL", "STYLE_WRITABLE",
    "STYLE_WRITABLE_FULL", "SAVE_FORMAT_TIME", "SAVE_RELATIVE_TIME", "SAVE_RAW_TIME", "SAVE_TIMESTAMP_TIME",
)  # fmt: skip
COLUMNS: dict[str, Callable[[Row, Row], Any]] = {
    "readings": lambda row, _: row.reading, "units": lambda row, _: row.unit,
    "formattedreadings": lambda row, _: with_unit(row.reading, row.unit), "statuses": lambda row, _: row.status,
    "relativetimestamps": lambda row, first: row.time - first.time, "timestamps": lambda row, _: timestamp(row.time),
    "seconds": lambda row, _: float(int(_at(row))), "fractionalseconds": lambda row, _: row.time % 1,
    "dates": lambda row, _: timestamp(row.time)[:10], "times": lambda row, _: timestamp(row.time)[11:19],
}  # fmt: skip
OF_SOURCE: dict[str, Callable[[Row, Row], Any]] = {
    "sourcevalues": lambda row, _: row.source, "sourceunits": lambda row, _: row.source_unit,
    "sourceformattedvalues": lambda row, _: with_unit(row.source, row.source_unit),
    "sourcestatuses": lambda row, _: row.source_status,
}  # fmt: skip


def _at(row: Row) -> float:
    """When it was measured, s since 1970."""
    return START.timestamp() + row.time


class Readings:
    """Reading buffers as values of Lua, and the functions that fill them."""

    def __init__(self, front: TspFront, buffers: Buffers, *, source: bool) -> None:
        """`source`: whether readings come with what was sourced."""
        self._front, self._buffers, self._columns = front, buffers, COLUMNS | (OF_SOURCE if source else {})
        nothing = silent(lambda *_: None)
        front.add({name: self._handle(name) for name in ("defbuffer1", "defbuffer2")} | {
            "buffer": front.grown({
                "make": self._make, "delete": silent(self._delete), "getstats": self._statistics,
                "clearstats": nothing, "save": nothing, "saveappend": nothing, **front.constants("buffer", OF_BUFFERS),
            })
        })  # fmt: skip

    def reader(self, header: str, *, with_time: bool = False) -> Callable[..., Any]:
        """``read`` or ``readwithtime``: measure by that header."""

        def read(buffer: Any = None, *_: Any) -> Any:
            name = self._name(buffer)
            self._front.perform(f'{header}? "{name}"')
            row = self._rows(name)[-1]
            return (row.reading, float(int(_at(row))), row.time % 1) if with_time else row.reading

        return read

    def _name(self, buffer: Any) -> str:
        if buffer is None:
            return "defbuffer1"
        if not isinstance(buffer, Table) or buffer not in self._front.buffers:
            raise TspError(-104)
        return self._front.buffers[buffer]

    def _rows(self, name: str) -> deque[Row]:
        try:
            return self._buffers.of(name)
        except ScpiError as error:
            raise TspError(error.code, error.text) from None

    def _handle(self, name: str) -> Table:
        front = self._front
        fill = kept(front.constant(f"buffer.FILL_{'CONTINUOUS' if name.startswith('def') else 'ONCE'}"))
        log = kept(front.constant(f"buffer.{'ON' if name.startswith('def') else 'OFF'}"))

        def column(of: Callable[[Row, Row], Any]) -> Table:
            def at(n: float) -> Any:
                rows = self._rows(name)
                return of(rows[int(n) - 1], rows[0]) if 1 <= n <= len(rows) else None

            return front.tsp.attributes("column", getters={"n": lambda: len(self._rows(name))}, at=at)

        def resize(size: Any) -> None:
            self._buffers.make(name, int(Bounds(10, 6_875_000).checked(size)))

        columns = {title: column(of) for title, of in self._columns.items()}
        made = front.tsp.attributes(
            "reading_buffer",
            getters={
                "n": lambda: len(self._rows(name)), "capacity": lambda: self._rows(name).maxlen,
                "startindex": lambda: min(1, len(self._rows(name))), "endindex": lambda: len(self._rows(name)),
                "fillmode": fill[0], "logstate": log[0],
            },
            setters={"capacity": resize, "fillmode": fill[1], "logstate": log[1]},
            objects=columns | {"clear": silent(lambda *_: self._rows(name).clear())},
            at=lambda n: front.tsp.machine.index(columns["readings"], n),
        )  # fmt: skip
        front.buffers[made] = name
        return made

    def _make(self, size: Any = None, *_: Any) -> Table:
        name = f"buffer {len(self._front.buffers) + 1}"
        self._buffers.make(name, int(Bounds(0, 6_875_000).checked(size)))
        return self._handle(name)

    def _delete(self, buffer: Any = None, *_: Any) -> None:
        name = self._name(buffer)
        self._rows(name)
        self._buffers.delete(name)

    def _statistics(self, buffer: Any = None, *_: Any) -> Table:
        rows = list(self._rows(self._name(buffer)))
        found = Table({"n": float(len(rows))})
        if rows:
            values = [row.reading for row in rows]
            found.set("mean", fmean(values))
            found.set("stddev", pstdev(values))
            for title, of in (("min", min), ("max", max)):
                row = of(rows, key=lambda row: row.reading)
                found.set(title, Table({
                    "reading": row.reading, "seconds": float(int(_at(row))), "fractionalseconds": row.time % 1,
                    "timestamp": timestamp(row.time),
                }))  # fmt: skip
        return found


class Common:
    """Trigger model, event log, status, clock: what every one of the family has."""

    def __init__(
        self, front: TspFront, triggers: TriggerModel, *, charge: Callable[[float], None], clock: Callable[[], float],
        reset: Callable[[], None], line: float,
    ) -> None:  # fmt: skip
        """`charge`: let time pass for the instrument, s; `clock`: s since power-up; `line`: Hz."""
        self._front, self._triggers, self._charge, self._clock = front, triggers, charge, clock
        self._timer = 0.0
        tsp, nothing = front.tsp, silent(lambda *_: None)
        tsp.spend, tsp.reset, tsp.settle, tsp.wait = charge, reset, self._settle, self._wait
        tsp.trigger, tsp.aborted = triggers.trigger, triggers.abort
        triggers.fault = lambda error: tsp.fault(TspError(error.code, error.text))
        functions = {
            "reset": silent(lambda *_: reset()), "gettime": self._seconds, "available": lambda *_: True,
            "createconfigscript": nothing,
        }  # fmt: skip
        localnode = tsp.node(self._node(line))
        front.add({
            "localnode": localnode, "node": Table.of([localnode]), "timer": self._stopwatch(),
            "dataqueue": self._queue(), "eventlog": self._events(), "status": self._status(),
            "trigger": self._trigger(), "display": self._polite("display"),
            "beeper": Table({"beep": tsp.native("beep", nothing)}), "gpib": Table({"address": 18.0}),
            "digio": self._digital(),
            "fs": front.grown({
                "is_dir": lambda *_: False, "is_file": lambda *_: False, "cwd": lambda *_: "/usb1/",
                **dict.fromkeys(("chdir", "mkdir", "readdir", "rmdir"), self._no_drive),
            }),
            "file": front.grown({"usbdriveexists": lambda *_: 0, "open": self._no_drive, "mkdir": self._no_drive}),
            "os": front.grown({
                "time": lambda *_: float(int(self._seconds())), "clock": lambda *_: clock(),
                "date": lambda *_: f"{START + timedelta(seconds=clock()):%c}",
            }),
        } | {name: tsp.native(name, call) for name, call in functions.items()})  # fmt: skip

    @staticmethod
    def _no_drive(*_: Any) -> None:
        raise TspError(2205, "File not found")  # nothing is in its USB port; code unverified

    # ------------------------------------------------------------------ time

    def _seconds(self, *_: Any) -> float:
        """What its clock says, s since 1970."""
        return START.timestamp() + self._clock()

    def _settle(self) -> None:
        self._charge(self._triggers.finish())

    def _wait(self) -> None:
        self._settle()
        if self._triggers.running:
            raise Exhausted(f"it would wait more than {LONGEST:g} s, or for a trigger that can't come")

    def _stopwatch(self) -> Table:
        return self._front.grown({
            "cleartime": silent(lambda *_: setattr(self, "_timer", self._clock())),
            "gettime": lambda *_: self._clock() - self._timer,
        })  # fmt: skip

    # ------------------------------------------------------------------ tables

    def _node(self, line: float) -> Table:
        front, tsp = self._front, self._front.tsp

        def switch(name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
            def put(value: Any) -> None:
                on = value if type(value) is float else {"ENABLE": 1.0, "DISABLE": 0.0}.get(front.short(value))
                setattr(tsp, name, int(Bounds(0, 7).checked(on)))

            return lambda: getattr(tsp, name), put

        levels = ("ENABLE", "DISABLE", *(f"ACCESS_{name}" for name in ("FULL", "EXCLUSIVE", "PROTECTED", "LOCKOUT")))
        return front.grown({
            "vendor": (lambda: front.vendor, None), "model": (lambda: tsp.model, None),
            "serialno": (lambda: tsp.serial, None),
            "version": (lambda: tsp.revision, None), "linefreq": (lambda: line, None), "prompts": switch("prompts"),
            "showevents": switch("showerrors"), "gettime": self._seconds,
            "settime": lambda *_: f"{START + timedelta(seconds=self._clock()):%a %b %d %H:%M:%S %Y}",
            "access": kept(front.constant("localnode.ACCESS_FULL")), "prompts4882": kept(1.0),
        } | front.constants("localnode", levels))  # fmt: skip

    def _queue(self) -> Table:
        queue: deque[Any] = deque()

        def add(value: Any = None, *_: Any) -> bool:
            if len(queue) < 128:
                queue.append(value)
                return True
            return False

        return self._front.grown({
            "CAPACITY": 128.0, "count": (lambda: len(queue), None), "clear": silent(lambda *_: queue.clear()),
            "add": add, "next": lambda *_: queue.popleft() if queue else None,
        })  # fmt: skip

    def _digital(self) -> Table:
        """Six lines with nothing on them, which remember what they are told."""
        front, written = self._front, [63.0]
        names = ("STATE_LOW", "STATE_HIGH", *(f"MODE_{name}" for name in LINE_MODES))
        line = {"mode": front.constant("digio.MODE_DIGITAL_IN"), "state": front.constant("digio.STATE_HIGH")}
        reset = front.tsp.native("reset", silent(lambda *_: None))
        return front.grown({
            "readport": lambda *_: written[0],
            "writeport": silent(lambda value=None, *_: written.__setitem__(0, Bounds(0, 63).checked(value))),
            "line": Table.of([Table(line | {"reset": reset}) for _ in range(6)]), **front.constants("digio", names),
        })  # fmt: skip

    def _events(self) -> Table:
        """The event log, of which only the errors are kept."""
        tsp = self._front.tsp

        def chosen(kinds: Any) -> bool:
            return bool(int(tonumber(kinds) or 7) & 1)

        def following(kinds: Any = None, *_: Any) -> Any:
            if not tsp.errors or not chosen(kinds):
                return 0.0, "No error", 0.0, 0.0, 0.0, 0.0
            code, text, _severity = tsp.errors.popleft()
            seconds = self._clock()
            return float(code), text, 1.0, 0.0, float(int(START.timestamp() + seconds)), float(int(seconds % 1 * 1e9))

        return self._front.grown({
            "next": following, "clear": silent(lambda *_: tsp.errors.clear()), "post": silent(lambda *_: None),
            "suppress": silent(lambda *_: None),
            "getcount": lambda kinds=None, *_: len(tsp.errors) if chosen(kinds) else 0,
            "save": silent(lambda *_: None), "SEV_ERROR": 1, "SEV_WARN": 2, "SEV_INFO": 4, "SEV_ALL": 7,
        })  # fmt: skip

    def _status(self) -> Table:
        tsp = self._front.tsp
        registers = {"standard": tsp.standard, "operation": Register(), "questionable": Register()}

        def put(owner: Any, name: str, value: Any) -> None:
            setattr(owner, name, int(Bounds(0, 0xFFFF).checked(value)))

        def clear(*_: Any) -> None:
            for register in registers.values():
                register.latched = 0

        def preset(*_: Any) -> None:
            for register in registers.values():
                register.enable = 0

        items: dict[str, Any] = {
            "condition": (tsp.status_byte, None), "clear": silent(clear), "preset": silent(preset), **BYTE,
            **{f"standard.{name}": bit for name, bit in STANDARD.items()},
            "request_enable": (lambda: tsp.request_enable, lambda value: put(tsp, "request_enable", value)),
        }  # fmt: skip
        for name, register in registers.items():
            items |= {
                f"{name}.event": (register.event, None), f"{name}.condition": (register.condition, None),
                f"{name}.enable": (partial(getattr, register, "enable"), partial(put, register, "enable")),
            }  # fmt: skip
        return self._front.grown(items)

    def _trigger(self) -> Table:
        front, triggers = self._front, self._triggers

        def load(name: Any = None, *given: Any) -> None:
            front.perform(f":TRIG:LOAD {front.words((tostring(name), *given))}")

        def set_block(n: Any = None, kind: Any = None, *given: Any) -> None:
            header = BLOCKS.get(front.short(kind).removeprefix("BLOCK_"))
            if header is None:
                raise TspError(-104)
            if header == "NOT":  # which notification, as a number
                given = tuple(float(front.short(event)[-1:] or 0) for event in given)
            front.perform(f":TRIG:BLOC:{header} {front.words((n, *given))}")

        def state(*_: Any) -> Any:
            first, second, block = front.perform(":TRIG:STAT?").split(";")
            names = ("EMPTY", "EMPTY") if triggers.empty and not triggers.running else (first, second)
            return *(front.constant(f"trigger.STATE_{name}") for name in names), float(block)

        def wait(seconds: Any = None, *_: Any) -> bool:
            self._charge(max(0.0, tonumber(seconds) or 0.0))
            return False

        timers: dict[str, Any] = {}
        for n in triggers.events.timers:
            timers |= {
                f"timer[{n}].clear": silent(lambda *_: None), f"timer[{n}].wait": wait,
                f"timer[{n}].reset": silent(partial(self._reset_timer, n)), f"timer[{n}].start.overrun": False,
                f"timer[{n}].delaylist": (partial(self._delays, n), partial(self._set_delays, n)),
            }  # fmt: skip
        return front.branch("trigger", TRIGGERS, extras=timers | {
            "model.load": silent(load), "model.setblock": silent(set_block), "model.state": state,
            "model.initiate": front.function(":INIT"), "model.abort": front.function(":ABOR"),
            "model.getblocklist": lambda *_: front.perform(":TRIG:BLOC:LIST?"), "clear": silent(lambda *_: None),
            "wait": wait, **{name: self._lines(number, wait) for name, number in LINES.items()},
        } | front.constants("trigger", (
            *EVENTS, *OF_TRIGGERS, *(f"BLOCK_{name}" for name in BLOCKS), *(f"STATE_{name}" for name in STATES),
        )))  # fmt: skip

    def _reset_timer(self, n: int, *_: Any) -> None:
        self._triggers.events.timers[n] = Timer()

    def _delays(self, n: int) -> Table:
        return Table.of(self._triggers.events.timers[n].delays)

    def _set_delays(self, n: int, value: Any) -> None:
        if not isinstance(value, Table) or not value.array():
            raise TspError(-104)
        self._triggers.events.timers[n].delays = [Bounds(8e-6, 1e5).checked(delay) for delay in value.array()]

    @staticmethod
    def _lines(number: int, wait: Callable[..., bool]) -> Table:
        """Some lines, or a single one (0), which remember what they are told."""
        nothing = Native("nothing", silent(lambda *_: None))

        def line() -> Table:
            return Table({"wait": Native("wait", wait), "overrun": False} | dict.fromkeys(
                ("clear", "reset", "assert", "release", "connect", "disconnect"), nothing
            ))  # fmt: skip

        return Table.of([line() for _ in range(number)]) if number else line()

    def _polite(self, root: str) -> Table:
        """What takes everything: constants made as they are named; the rest does nothing, and what is in it as well.

        Nobody is at the display, so that whoever asks there gets no answer (nil).
        """

        def index(_table: Any, key: Any, *_: Any) -> Any:
            name = tostring(key)
            return self._front.constant(f"{root}.{name}") if name.isupper() else table

        table = Table()
        table.meta = Table({
            "__index": Native("index", index), "__newindex": Native("newindex", silent(lambda *_: None)),
            "__call": Native("call", silent(lambda *_: None)),
        })  # fmt: skip
        return table
