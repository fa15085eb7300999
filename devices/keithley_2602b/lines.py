"""Lines by which the emulated 2602B triggers others and is triggered: digital I/O, and TSP-Link with nobody on it.

Source: 2600BS-901-01, ``digio.*``, ``tsplink.*`` by name; numbers of the trigger modes as in its table of
``digio.trigger[N].mode``. Nothing is connected: lines that nobody pulls down read 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hal.protocols.lua_values import Table, silent, tonumber
from hal.protocols.tsp import Bounds, Tsp

from .triggers import Detector, Events

DIGITAL, LINK = 14, 3
ALL = (1 << DIGITAL) - 1
MODES = {
    "TRIG_BYPASS": 0, "TRIG_FALLING": 1, "TRIG_RISING": 2, "TRIG_EITHER": 3, "TRIG_SYNCHRONOUSA": 4,
    "TRIG_SYNCHRONOUS": 5, "TRIG_SYNCHRONOUSM": 6, "TRIG_RISINGA": 7, "TRIG_RISINGM": 8,
}  # fmt: skip
PULSE = 10e-6  # s


class Lines:
    """The tables `digio` and `tsplink`."""

    def __init__(self, tsp: Tsp, events: Events) -> None:
        self._tsp, self._events = tsp, events
        self._written, self._protected = ALL, 0
        self._resets: list[Callable[[], None]] = []
        self.digio = tsp.attributes(
            "digio",
            getters={"writeprotect": lambda: self._protected},
            setters={"writeprotect": lambda mask: setattr(self, "_protected", int(Bounds(0, ALL).checked(mask)))},
            objects=MODES | {
                "readbit": lambda n=None, *_: self._written >> int(Bounds(1, DIGITAL).checked(n)) - 1 & 1,
                "readport": lambda *_: self._written,
                "writebit": silent(self._write_bit), "writeport": silent(lambda value=None, *_: self._write(value)),
                "trigger": Table.of([self._trigger() for _ in range(DIGITAL)]),
            },
        )  # fmt: skip
        self.tsplink = tsp.attributes(
            "tsplink",
            getters={"state": lambda: "offline", "node": lambda: 1, "master": lambda: 1, "group": lambda: 0},
            setters={"node": lambda _: None, "group": lambda _: None},
            objects=MODES | {
                "reset": lambda *_: 1, "readbit": lambda *_: 1, "readport": lambda *_: 7,
                "writebit": silent(lambda *_: None), "writeport": silent(lambda *_: None), "writeprotect": 0,
                "trigger": Table.of([self._trigger() for _ in range(LINK)]),
            },
        )  # fmt: skip

    def reset(self) -> None:
        """As on waking up."""
        self._written, self._protected = ALL, 0
        for reset in self._resets:
            reset()

    def _write(self, value: Any, only: int = ALL) -> None:
        free = only & ~self._protected
        self._written = (self._written & ~free) | (int(Bounds(0, ALL).checked(value)) & free)

    def _write_bit(self, n: Any = None, value: Any = None, *_: Any) -> None:
        bit = 1 << int(Bounds(1, DIGITAL).checked(n)) - 1
        self._write(float(bit if tonumber(value) else 0), bit)

    def _trigger(self) -> Table:
        """One line's: it only hears what its stimulus tells it to send, and ``assert``."""
        event, detector = self._events.new(), Detector(self._events)
        state: dict[str, Any] = {"mode": 0.0, "pulsewidth": PULSE}

        def wait(timeout: Any = None, *_: Any) -> bool:
            self._tsp.spend(max(0.0, tonumber(timeout) or 0.0))
            return False

        def reset(*_: Any) -> None:
            state.update(mode=0.0, pulsewidth=PULSE)
            detector.stimulus = 0

        self._resets.append(reset)
        return self._tsp.attributes(
            "line_trigger",
            getters={
                "mode": lambda: state["mode"], "pulsewidth": lambda: state["pulsewidth"], "overrun": lambda: False,
                "stimulus": lambda: detector.stimulus,
            },
            setters={
                "mode": lambda value: state.update(mode=Bounds(0, 8).checked(value)),
                "pulsewidth": lambda value: state.update(pulsewidth=Bounds(0, 60).checked(value)),
                "stimulus": lambda value: setattr(detector, "stimulus", int(tonumber(value) or 0)),
            },
            objects={
                "EVENT_ID": event, "clear": silent(lambda *_: setattr(detector, "detected", False)), "wait": wait,
                "assert": silent(lambda *_: None), "release": silent(lambda *_: None), "reset": silent(reset),
                "connect": silent(lambda *_: None), "disconnect": silent(lambda *_: None),
            },
        )  # fmt: skip
