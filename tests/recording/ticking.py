"""A board, a camera and what they measure, made up: every true moment is known, the record gets only what they'd tell.

The board's clock runs fast, questions to it wait on their way, and the two ways are unequal. The camera's frames
arrive late and in bursts, some never; its frame pulses are stamped by the board. The board samples a ramp.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hal.clock.exchange import Exchange
from hal.frames.frame import Reason
from hal.protocols.firmware import EdgeChunk, SampleChunk
from hal.recording import CameraPlan, ClockAnchor, DevicePlan, NexusWriter, RunPlan, SignalPlan
from hal.recording.layout import ClockPlan, StreamPlan
from hal.recording.plan import FRAME_COLUMNS

START = 1_780_000_000_000_000_000  # ns
TICK = 1_000_000.0  # board ticks per second, nominal
FAST = 23e-6  # by which the board's clock is fast
BOOT = 77
RATE = 250.0  # frames per second
LATENCY = 0.004  # s, declared, from the end of an exposure to its arrival
EXPOSURE = 0.003  # s
PULSE_INPUT = 2
SAMPLING = 1000.0  # 1/s
VOLT = 1e-4  # V per count


def volts(moment: np.ndarray) -> np.ndarray:
    """What is at the board's input 0 at true moments, ns: a slow swing."""
    return 1.5 + 0.5 * np.sin((np.asarray(moment) - START) * 1e-9 * 2 * np.pi * 0.7)


def ticks_of(moment: np.ndarray) -> np.ndarray:
    """The board's count at true moments, ns."""
    return np.floor(((np.asarray(moment) - START) * 1e-9 + 1234.5) * TICK * (1 + FAST)).astype(np.int64)


@dataclass
class World:
    """What happens in `seconds`, all at once; `record` writes it as it would have come."""

    seconds: float = 4.0
    seed: int = 1
    lost: frozenset[int] = frozenset({200, 201, 390})
    """Exposures whose frames never arrive."""
    pulses: bool = True
    slower: bool = False
    """In the second half the camera is set to exposures of 8 ms every 10 ms, and numbers them anew."""
    true_start: np.ndarray = field(init=False)
    _arrived: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        count = int((self.seconds - 0.02) * RATE)
        self.true_start = START + 20_000_000 + np.rint(np.arange(count) * 1e9 / RATE).astype(np.int64)
        self.series, self.index = np.zeros(count, np.int32), np.arange(count)
        self.exposure = np.full(count, EXPOSURE)
        if self.slower:
            half = count // 2
            later = self.true_start[half] + 150_000_000 + np.arange(half * 4 // 10) * 10_000_000
            later = later[later < self.true_start[-1]]
            self.true_start = np.concatenate([self.true_start[:half], later])
            self.series = np.repeat([0, 1], [half, later.size]).astype(np.int32)
            self.index = np.concatenate([np.arange(half), np.arange(later.size)])
            self.exposure = np.repeat([EXPOSURE, 0.008], [half, later.size])
            count = self.true_start.size
        self.received = np.array([k for k in range(count) if k not in self.lost])

    def plan(self) -> RunPlan:
        alignment = {
            "frequency": 1e9, "ppm": 50.0, "latency": LATENCY, "latency_sigma": 1e-4, "first": 0,
            "signals": {
                "board.input_0": {"max_gap": 5.0, "polled": True}, "board.load": {"max_gap": 5.0, "polled": True},
                "gauge.voltage": {"max_gap": 5.0, "polled": True},
            },
        }  # fmt: skip
        stamped = {"raw_ticks": True, "ticks_clock": "board"}
        return RunPlan(
            "ticking", START, ClockAnchor(START, 0), sample="none",
            devices=[DevicePlan("camera", "made up", config={"alignment": alignment}), DevicePlan("board", "made up")],
            signals=[
                SignalPlan("board.input_0", "V", "V", "V", **stamped),
                SignalPlan("board.load", "V", "V", "V", max_age=0.001, **stamped),
                SignalPlan("gauge.voltage", "V", "V", "V"),
            ],
            cameras=[
                CameraPlan(
                    "camera", (4, 4), "uint8", EXPOSURE, RATE, columns=FRAME_COLUMNS,
                    aligned=["board.input_0", "board.load", "gauge.voltage"], ticks_rate=1e9,
                    frame_clock=("board", PULSE_INPUT),
                )
            ],
            clocks=[ClockPlan("board", TICK, 100.0)],
            pulses=["board"],
            streams=[StreamPlan("board", (0, 3), VOLT, ("board.input_0", ""), "V", SAMPLING, VOLT / np.sqrt(12))],
        )  # fmt: skip

    def exchanges(self, begin: int, end: int) -> list[Exchange]:
        """The question takes 1 ms or more, the answer 0.2 ms or more: nothing can tell that but a certificate."""
        found = []
        for sent in range(begin, end, 61_000_000):
            there = sent + 1_000_000 + int(self.random.exponential(300_000))
            back = there + 20_000 + 200_000 + int(self.random.exponential(300_000))
            came, left = (int(t) for t in ticks_of(np.array([there, there + 20_000])))
            found.append(Exchange(BOOT, sent, came, left, back))
        return found

    def write(self, writer: NexusWriter, begin: int, end: int) -> None:
        """Everything that happens from `begin` to `end`, ns; frames and all else in the order of their coming."""
        writer.ticks.append_exchanges("board", self.exchanges(begin, end))
        shown = np.flatnonzero((self.true_start >= begin) & (self.true_start < end))
        if self.pulses and shown.size:
            other = np.sort(self.random.integers(begin, end, 3))  # at another input: nobody's frames
            moments = np.concatenate([self.true_start[shown], other])
            inputs = np.concatenate([np.full(shown.size, PULSE_INPUT), np.zeros(3, int)]).astype(np.uint8)
            order = np.argsort(moments, kind="stable")
            n = moments.size
            writer.ticks.append_pulses(
                "board",
                EdgeChunk(
                    BOOT, ticks_of(moments[order]), inputs[order], np.ones(n, bool), np.arange(n), np.zeros(1, int),
                    0, 0, end + 5_000_000,
                ),
            )  # fmt: skip
        period = round(TICK / SAMPLING)
        first, last = (int(t) // period + 1 for t in ticks_of(np.array([begin, end])))
        at = np.arange(first, last) * period
        moments = START + np.rint((at / TICK / (1 + FAST) - 1234.5) * 1e9).astype(np.int64)
        counts = np.rint(volts(moments) / VOLT).astype(np.int16)
        none = np.zeros(1, np.int64)
        writer.ticks.append_samples(
            "board",
            SampleChunk(BOOT, (0, 3), period, at, np.stack([counts, counts // 2], 1), none, none,
                        np.zeros(1, np.uint8), end + 3_000_000, VOLT),
        )  # fmt: skip
        asked = np.arange(begin, end, 100_000_000)
        answered = asked + 2_000_000
        value = volts(asked + 1_000_000)
        for path in ("board.input_0", "board.load"):
            ticks = ticks_of(asked + 1_000_000)
            writer.append_signal(path, value, asked + 1_000_000, (answered - asked) // 2, ticks=ticks)
        writer.append_signal(
            "gauge.voltage", value, asked + 1_000_000, (answered - asked) // 2, np.full(len(asked), 1e-3)
        )
        frames = np.intersect1d(shown, self.received)
        if frames.size:
            self._frames(writer, frames)
        writer.flush_if_due()

    def _frames(self, writer: NexusWriter, number: np.ndarray) -> None:
        start, exposure = self.true_start[number], self.exposure[number]
        late = self.random.exponential(0.003, number.size) + (0.12 if self.random.random() < 0.3 else 0.0)
        arrival = np.maximum.accumulate(start + np.rint((exposure + LATENCY + late) * 1e9).astype(np.int64))
        arrival = np.maximum(arrival, self._arrived)
        self._arrived = int(arrival[-1])
        ones = np.ones(number.size, bool)
        rough = arrival - np.rint((exposure + LATENCY) * 1e9).astype(np.int64)
        writer.append_frames(
            "camera",
            np.broadcast_to((number % 256)[:, None, None], (number.size, 4, 4)).astype("u1"),
            {
                "number": self.index[number], "detector_ticks": np.rint((start - START) * (1 - 31e-6)).astype(np.int64),
                "arrival": arrival, "start": rough, "stop": rough + np.rint(exposure * 1e9).astype(np.int64),
                "valid": ones, "bound": np.full(number.size, 200_000_000), "exposure_time": exposure,
                "series": self.series[number], "exposure_index": self.index[number],
                "reason": np.full(number.size, Reason.OK, np.uint8),
            },
        )  # fmt: skip

    def record(self, path: Path, *, pace: bool = False) -> None:
        """Write it all; `pace` as slowly as it happens, until somebody kills us."""
        with NexusWriter(path, self.plan()) as writer:
            self.fill(writer, pace=pace)
            writer.flush()

    def fill(self, writer: NexusWriter, *, pace: bool = False) -> None:
        begun, step = time.monotonic(), 100_000_000
        for k in range(int(self.seconds * 10)):
            self.write(writer, START + k * step, START + (k + 1) * step)
            if pace:
                time.sleep(max(0.0, begun + (k + 1) * 0.1 - time.monotonic()))
                print(k, flush=True)


if __name__ == "__main__":
    World(seconds=60.0).record(Path(sys.argv[1]), pace=True)
