"""Triggers of the emulated 2602B: events, what waits for them, timers, blenders, and sweeps in the background.

Everything happens on the instrument's own clock, which `Timeline.run_to` moves on.
Source: 2600BS-901-01, section 3 ("Triggering"; the trigger model of a source-measure unit is
figure "Remote trigger model") and ``smuX.trigger.*``, ``trigger.*``.
Left out: digital lines, TSP-Link and LAN as stimuli (they never come), overruns.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Generator
from itertools import count
from typing import Any

from hal.protocols.lua_values import Table, silent, tonumber
from hal.protocols.tsp import Bounds, Tsp

BLENDERS, INPUTS, TIMERS, GENERATORS = 6, 4, 8, 2
SHORTEST = 10e-6  # s, of a timer (``trigger.timer[N].delaylist``)
MOST_EVENTS = 20_000
"""Events at one moment; more is a loop of triggers."""


class Timeline:
    """The instrument's clock and what is to happen on it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Do something `delay` seconds from now."""
        heapq.heappush(self._due, (self.now + delay, next(self._order), action))

    def run_to(self, time: float) -> None:
        """Live until `time`, doing what is due on the way."""
        while self._due and self._due[0][0] <= time:
            when, _, action = heapq.heappop(self._due)
            self.now = max(self.now, when)
            action()
        self.now = max(self.now, time)

    @property
    def next(self) -> float:
        """When something is to happen next; infinite if nothing is."""
        return self._due[0][0] if self._due else math.inf

    def clear(self) -> None:
        """Forget what was to happen."""
        self._due.clear()


class Events:
    """Trigger events by their numbers, and who hears of them."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self.listeners: list[Callable[[int], None]] = []
        self._pending: list[int] = []
        self._telling = False

    def new(self) -> int:
        """A number for a new kind of event."""
        return next(self._numbers)

    def emit(self, event: int) -> None:
        """Tell everybody of an event; events that this causes come after it."""
        self._pending.append(event)
        if self._telling:
            return
        self._telling = True
        try:
            told = 0
            while self._pending and told < MOST_EVENTS:
                event = self._pending.pop(0)
                told += 1
                for listener in list(self.listeners):
                    listener(event)
        finally:
            self._pending.clear()
            self._telling = False


class Detector:
    """Remembers that the event it looks for has come."""

    def __init__(self, events: Events) -> None:
        self.stimulus = 0
        self.detected = False
        events.listeners.append(self._hear)

    def _hear(self, event: int) -> None:
        if event == self.stimulus:
            self.detected = True


Steps = Generator["float | Detector", None, None]
"""A course of action: each step is a wait of so many seconds, or for a detector."""


class Background:
    """Something that goes on by itself: a sweep, or measurements whose end nobody waits for."""

    def __init__(self, timeline: Timeline, events: Events) -> None:
        self._timeline = timeline
        self._steps: Steps | None = None
        self._waiting: Detector | None = None
        self._run = 0
        events.listeners.append(lambda event: self._look())

    @property
    def busy(self) -> bool:
        return self._steps is not None

    def start(self, steps: Steps) -> None:
        self.abort()
        self._steps = steps
        self._timeline.after(0.0, self._resume(self._run))

    def abort(self) -> None:
        self._steps = self._waiting = None
        self._run += 1

    def _resume(self, run: int) -> Callable[[], None]:
        return lambda: self._advance() if run == self._run else None

    def _look(self) -> None:
        if self._waiting is not None and self._waiting.detected:
            self._timeline.after(0.0, self._resume(self._run))

    def _advance(self) -> None:
        if self._waiting is not None:
            if not self._waiting.detected:
                return
            self._waiting.detected = False
            self._waiting = None
        run = self._run
        while self._steps is not None:
            step = next(self._steps, None)
            if run != self._run:
                return  # the step itself ended it
            if step is None:
                self._steps = None
            elif isinstance(step, Detector):
                if not step.detected:
                    self._waiting = step
                    return
                step.detected = False
            elif step > 0:
                self._timeline.after(step, self._resume(run))
                return


class Triggers:
    """The table `trigger`: its event of the command interface, blenders, timers and generators."""

    def __init__(self, tsp: Tsp, timeline: Timeline, events: Events) -> None:
        self.timeline, self.events = timeline, events
        self.command = events.new()
        self._detector = Detector(events)
        self._detector.stimulus = self.command
        self._resets: list[Callable[[], None]] = []
        self.table = tsp.attributes("trigger", objects={
            "EVENT_ID": self.command, "EVENT_NONE": 0,
            "clear": silent(lambda *_: setattr(self._detector, "detected", False)),
            "wait": lambda timeout=None, *_: self._wait(tsp, timeout),
            "blender": Table.of([self._blender(tsp) for _ in range(BLENDERS)]),
            "timer": Table.of([self._timer(tsp) for _ in range(TIMERS)]),
            "generator": Table.of([self._generator(tsp) for _ in range(GENERATORS)]),
        })  # fmt: skip

    def reset(self) -> None:
        """As on waking up."""
        for reset in self._resets:
            reset()

    def _wait(self, tsp: Tsp, timeout: Any) -> bool:
        """Whether the event was there; nothing can come while a line is carried out."""
        seen, self._detector.detected = self._detector.detected, False
        if not seen:
            tsp.spend(max(0.0, tonumber(timeout) or 0.0))
        return seen

    def _blender(self, tsp: Tsp) -> Table:
        event, inputs = self.events.new(), [0] * INPUTS
        seen: set[int] = set()
        any_of = [False]

        def hear(happened: int) -> None:
            wanted = {n for n in inputs if n}
            if happened not in wanted:
                return
            seen.add(happened)
            if any_of[0] or seen >= wanted:
                seen.clear()
                self.events.emit(event)

        def reset(*_: Any) -> None:
            inputs[:] = [0] * INPUTS
            seen.clear()
            any_of[0] = False

        self.events.listeners.append(hear)
        self._resets.append(reset)
        stimuli = Table()

        def put(_table: Any, n: Any = None, value: Any = None, *_: Any) -> None:
            place = tonumber(n) or 0.0
            if 1 <= place <= INPUTS:
                inputs[int(place) - 1] = int(tonumber(value) or 0)

        stimuli.meta = Table({
            "__index": tsp.native("index", lambda _t, n=None, *_: inputs[int(tonumber(n) or 1) - 1]
                                  if 1 <= (tonumber(n) or 0) <= INPUTS else None),
            "__newindex": tsp.native("newindex", silent(put)),
        })  # fmt: skip
        return tsp.attributes(
            "blender",
            getters={"orenable": lambda: any_of[0], "overrun": lambda: False},
            setters={"orenable": lambda value: any_of.__setitem__(0, value is True or tonumber(value) == 1)},
            objects={
                "EVENT_ID": event, "stimulus": stimuli, "reset": silent(reset),
                "clear": silent(lambda *_: seen.clear()),
            },
        )  # fmt: skip

    def _timer(self, tsp: Tsp) -> Table:
        event = self.events.new()
        detector = Detector(self.events)
        delays = [SHORTEST]
        state: dict[str, Any] = {"count": 1.0, "run": 0, "passthrough": False, "turn": 0}

        def tick(run: int, left: float) -> None:
            if run != state["run"]:
                return
            self.events.emit(event)
            if left > 1:
                self.timeline.after(delay(), lambda: tick(run, left - 1))

        def delay() -> float:
            state["turn"] += 1
            return delays[(int(state["turn"]) - 1) % len(delays)]

        def hear(happened: int) -> None:
            if not detector.stimulus or happened != detector.stimulus:
                return
            state["run"] += 1
            run, turns = state["run"], state["count"] or math.inf
            if state["passthrough"]:
                self.timeline.after(0.0, lambda: self.events.emit(event) if run == state["run"] else None)
            self.timeline.after(delay(), lambda: tick(run, turns))

        def reset(*_: Any) -> None:
            delays[:] = [SHORTEST]
            detector.stimulus = 0
            state.update(count=1.0, passthrough=False, turn=0, run=state["run"] + 1)

        def stop(*_: Any) -> None:
            state["run"] += 1

        def set_list(value: Any) -> None:
            given = value.array() if isinstance(value, Table) else [value]
            delays[:] = [Bounds(8e-6, 4294.0).checked(v) for v in given] or [SHORTEST]

        self.events.listeners.append(hear)
        self._resets.append(reset)
        return tsp.attributes(
            "timer",
            getters={
                "delay": lambda: delays[0], "delaylist": lambda: Table.of(delays), "count": lambda: state["count"],
                "passthrough": lambda: bool(state["passthrough"]), "stimulus": lambda: detector.stimulus,
                "overrun": lambda: False,
            },
            setters={
                "delay": set_list, "delaylist": set_list,
                "count": lambda value: state.update(count=Bounds(0, 1048575).checked(value)),
                "passthrough": lambda value: state.update(passthrough=value is True or tonumber(value) == 1),
                "stimulus": lambda value: setattr(detector, "stimulus", int(tonumber(value) or 0)),
            },
            objects={"EVENT_ID": event, "reset": silent(reset), "clear": silent(stop)},
        )  # fmt: skip

    def _generator(self, tsp: Tsp) -> Table:
        event = self.events.new()
        return tsp.attributes(
            "generator", objects={"EVENT_ID": event, "assert": silent(lambda *_: self.events.emit(event))}
        )
