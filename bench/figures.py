"""The pictures of docs/explanation, drawn from what the code makes of simulated and of emulated runs.

    python bench/figures.py [NAMES] [--to DIRECTORY] [--run FILE]   NAMES: exchanges bounds matching flash; default: all

Needs the extra `plot`; `flash` also a C compiler, for the emulated board, and a quarter of a minute on a machine that
is not busy, or the run of an earlier `hal delay camera` (one camera, exposures of 10 ms, flashes of 5 ms).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hal.clock.exchange import Exchange
from hal.clock.exchange_clock import ExchangeClock
from hal.frames.match import match
from hal.frames.pulses import Pulses
from hal.frames.series import Frames

EPOCH = 1_767_225_600_000_000_000
BLUE, ORANGE, GREEN, RED, GREY = "#1f6fb4", "#d9731a", "#2f8f4e", "#c0322b", "#777777"


def figure(width: float, height: float) -> Figure:
    """An empty one."""
    made = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(made)
    return made


def plain(axes: Any, x: str, y: str, title: str) -> None:
    """Labels, and no more lines than needed."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


# ------------------------------------------------------------------------------------- clocks


class Board:
    """A counter that is 12 ppm fast and drifts, asked over a USB line: 0.3 ms out, 0.1 ms back, and waits."""

    def __init__(self, seed: int = 2) -> None:
        self.rng = np.random.default_rng(seed)

    def counts(self, lab: Any) -> Any:
        """Microseconds on its counter at lab time (s)."""
        return (np.asarray(lab) * (1 + 12e-6) + 2e-6 * np.sin(np.asarray(lab) / 40.0) * 5) * 1e6

    def exchanges(self, at: Any, out: float = 0.3e-3, back: float = 0.1e-3) -> list[Exchange]:
        found = []
        for sent in at:
            came = sent + out + self.rng.exponential(0.15e-3) + (self.rng.random() < 0.1) * 1.5e-3
            left = came + 0.05e-3
            here = left + back + self.rng.exponential(0.15e-3) + (self.rng.random() < 0.1) * 1.5e-3
            found.append(
                Exchange(
                    1, EPOCH + round(sent * 1e9), int(self.counts(came)), int(self.counts(left)),
                    EPOCH + round(here * 1e9),
                )
            )  # fmt: skip
        return found


def bursts(start: float, stop: float, rng: np.random.Generator) -> Any:
    """When a board is asked: eight times in half a second, every second and a half."""
    first = np.arange(start, stop, 1.5)
    return np.sort((first[:, None] + np.cumsum(rng.uniform(0.048, 0.08, (first.size, 8)), axis=1)).ravel())


def exchanges() -> Figure:
    """What each exchange leaves the clock, and where the model runs."""
    board = Board()
    asked = board.exchanges(bursts(0.0, 60.0, board.rng))
    clock = ExchangeClock.fit(asked, frequency=1e6, ppm=50.0)
    received, left = (np.array([getattr(e, n) for e in asked], np.int64) for n in ("ticks_received", "ticks_sent"))
    sent, here = (np.array([getattr(e, n) for e in asked], np.int64) for n in ("sent", "received"))
    lab = np.linspace(0.0, 60.0, 600)
    ticks = np.asarray(board.counts(lab), np.int64)
    found = clock.to_lab(ticks)
    true = (found.time - EPOCH) * 1e-9 - lab  # s, how far the model is off
    made = figure(7.6, 3.5)
    axes = made.subplots()
    model = clock.to_lab(received)
    axes.plot(
        (sent - EPOCH) * 1e-9,
        (sent - model.time) * 1e-3,
        "v",
        ms=3,
        color=GREEN,
        label="a question left before it came in",
    )
    model = clock.to_lab(left)
    axes.plot(
        (here - EPOCH) * 1e-9,
        (here - model.time) * 1e-3,
        "^",
        ms=3,
        color=ORANGE,
        label="an answer was here after it left",
    )
    axes.fill_between(lab, -found.tight * 1e-3, found.tight * 1e-3, color=BLUE, alpha=0.2, lw=0, label="tight bound")
    axes.axhline(0.0, color=BLUE, lw=1.2, label="the model")
    axes.plot(lab, -true * 1e6, color=RED, lw=1.2, label="the truth")
    axes.set_ylim(-900, 900)
    plain(
        axes,
        "lab time / s",
        "less the model / us",
        "Questions take 0.2 ms longer than answers, and so the truth is 0.1 ms off the middle",
    )
    axes.legend(fontsize=7, ncols=3, loc="lower left")
    return made


def bounds() -> Figure:
    """The bounds while exchanges come, in a gap, and afterwards."""
    board = Board(5)
    asked = board.exchanges(np.concatenate([bursts(0.0, 30.0, board.rng), bursts(60.0, 90.0, board.rng)]))
    clock = ExchangeClock.fit(asked, frequency=1e6, ppm=50.0)
    lab = np.linspace(0.0, 120.0, 1200)
    found = clock.to_lab(np.asarray(board.counts(lab), np.int64))
    error = np.abs((found.time - EPOCH) * 1e-9 - lab)
    made = figure(7.6, 3.2)
    axes = made.subplots()
    axes.semilogy(lab, found.bound * 1e-3, color=GREY, label="hard bound: given the datasheet's 50 ppm, nothing else")
    axes.semilogy(lab, found.tight * 1e-3, color=BLUE, label="tight bound: what we believe in")
    axes.semilogy(lab, np.maximum(error * 1e6, 1.0), color=RED, lw=1.0, label="the error")
    for start, stop, what in (
        (0, 30, "asked"),
        (30, 60, "nobody asks"),
        (60, 90, "asked"),
        (90, 120, "nobody asks any more"),
    ):
        axes.text((start + stop) / 2, 4200, what, ha="center", fontsize=8)
        axes.axvline(stop, color=GREY, lw=0.5, ls=":")
    axes.set_ylim(50, 8000)
    plain(axes, "lab time / s", "us", "How well the board's time is known")
    axes.legend(fontsize=7, loc="lower right")
    return made


# ------------------------------------------------------------------------------------- frames


def matching() -> Figure:
    """Frames that come late, in a burst and not all, and the pulses they belong to."""
    rng = np.random.default_rng(8)
    n, period = 400, 1e-3
    start = 0.5 + period * np.arange(n)
    late = 2e-3 + rng.exponential(0.4e-3, n)
    burst = (start > 0.66) & (start < 0.68)
    arrival = np.maximum.accumulate(np.where(burst, 0.69, start + 0.9 * period + late))
    kept = np.ones(n, np.bool_)
    kept[[150, 151, 164, 171, 260]] = False
    stamped = np.ones(n, np.bool_)
    stamped[[162, 175]] = False
    times = np.sort(np.concatenate([start[stamped], [0.6634, start[178] + 6e-6]]))
    ns = EPOCH + np.rint(times * 1e9).astype(np.int64)
    frames = Frames(
        arrival=(EPOCH + np.rint(arrival * 1e9).astype(np.int64))[kept], exposure=np.full(kept.sum(), 0.9 * period),
        ticks=np.rint((start + 3.0) * 1e9).astype(np.int64)[kept], frequency=1e9, ppm=50.0,
        number=np.arange(1, n + 1)[kept], counts="series", first=1, period=period, regular=True, min_latency=2e-3,
    )  # fmt: skip
    found = match(frames, Pulses(time=ns, bound=1000, resolution=1e-8))
    true = np.arange(n)[kept]
    right = np.abs((found.times.start - EPOCH) * 1e-9 - start[kept]) < period / 2
    made = figure(7.6, 4.6)
    upper, lower = made.subplots(2, 1, height_ratios=[2.2, 1.4])
    first, last = 156, 184
    shown = (true >= first) & (true <= last)
    at, come = (found.times.start - EPOCH) * 1e-6, (frames.arrival - EPOCH) * 1e-6
    for k in np.flatnonzero(shown):
        inferred = found.pulse[k] < 0
        upper.plot([at[k], come[k]], [0, 1], color=ORANGE if inferred else BLUE, lw=0.8, ls="--" if inferred else "-")
    inside = (times * 1e3 > start[first] * 1e3 - 0.5) & (times * 1e3 < start[last] * 1e3 + 0.5)
    upper.plot(times[inside] * 1e3, np.zeros(inside.sum()), "|", ms=14, color="black")
    upper.plot(come[shown], np.ones(shown.sum()), ".", color=BLUE)
    lost = [k for k in np.flatnonzero(~kept) if first <= k <= last]
    upper.plot(start[lost] * 1e3, np.zeros(len(lost)), "o", mfc="none", color=RED, ms=9)
    upper.annotate("a stray edge", (663.4, 0.0), (661.0, -0.45), fontsize=8, arrowprops={"arrowstyle": "-", "lw": 0.5})
    upper.annotate(
        "ringing", (start[178] * 1e3, 0.0), (679.2, -0.45), fontsize=8, arrowprops={"arrowstyle": "-", "lw": 0.5}
    )
    upper.annotate(
        "no pulse: inferred",
        (start[175] * 1e3, 0.0),
        (672.0, -0.45),
        fontsize=8,
        arrowprops={"arrowstyle": "-", "lw": 0.5},
    )
    upper.annotate(
        "dropped frames", (start[171] * 1e3, 0.0), (665.3, -0.45), fontsize=8, arrowprops={"arrowstyle": "-", "lw": 0.5}
    )
    upper.set_yticks([0, 1], ["pulses", "arrivals"])
    upper.set_ylim(-0.6, 1.25)
    text = (
        f"{right.sum()} of {right.size} frames found their exposure, {np.count_nonzero(~found.times.valid)} are invalid"
    )
    plain(upper, "lab time / ms", "", f"1,000 frames/s, held back for 20 ms: {text}")
    # C(S): pulses in the slots that the frames would have, for each shift S of the whole series.
    slots = np.zeros(3 * n)
    slots[np.rint((times - start[0]) / period).astype(int).clip(-n, 2 * n - 1) + n] = 1
    sums = np.concatenate([[0.0], np.cumsum(slots)])
    shifts = np.arange(-n, n + 1)
    counted = sums[shifts + 2 * n] - sums[shifts + n]
    lower.plot(shifts, counted, ".-", ms=4, color=BLUE)
    lower.set_xlim(-30, 30)
    lower.set_ylim(counted.max() - 32, counted.max() + 6)
    plain(
        lower,
        "shift S of the series / frames",
        "pulses in its slots",
        "A series meets most of its pulses in its own place only",
    )
    return made


def flash(path: Path | None = None) -> Figure:
    """What frames caught of flashes whose moments are known: `hal delay camera` on an emulated lab."""
    import asyncio

    from hal import Lab
    from hal.recording import open_run
    from hal.recording.clocks import RunClocks
    from hal.recording.delay_measure import _brightness, _flashes, camera_delay
    from hal.runtime.measuring import board_of, camera_of, film_flashes

    lab_file = """
schema = 1
[devices.eye]
driver = "merlin"
link = "emulator:"
emulator = { fps = 100, size = 32, pulse_delay = -0.0017, seed = 3 }
frame_clock = "board"
[devices.board]
driver = "insitu_mcu"
link = "firmware:posix"
"""

    async def film(folder: Path) -> Path:
        (folder / "lab.toml").write_text(lab_file)
        async with Lab.open(folder / "lab.toml") as lab:
            camera, board = camera_of(lab, "eye"), board_of(lab)
            return await film_flashes(lab, camera, board, flashes=80, length=0.005, directory=folder / "runs")

    with tempfile.TemporaryDirectory() as folder, open_run(path or asyncio.run(film(Path(folder)))) as run:
        (stack,) = run.cameras.values()
        found = camera_delay(run, stack.camera)
        _, moments, length, _ = _flashes(run, RunClocks(run))
        start, share = stack.start, _brightness(stack, len(stack))
    share = (share - found.found.dark) / (found.found.gain * found.exposure)
    near = np.argmin(np.abs(start[:, None] - moments[None, :] + round(2.5e6)), axis=1)
    after = (start - moments[near]) * 1e-6
    x = np.linspace(-16, 12, 600)

    def caught(delay: float) -> Any:
        begin = x + delay * 1e3
        end = begin + found.exposure * 1e3
        return np.clip(np.minimum(end, length * 1e3) - np.maximum(begin, 0.0), 0.0, None) / (found.exposure * 1e3)

    made = figure(7.6, 3.3)
    axes = made.subplots()
    axes.plot(x, caught(0.0), color=GREY, lw=1.0, ls="--", label="if the times were right as they are")
    axes.plot(x, caught(found.delay), color=BLUE, lw=1.2, label=f"with exposures {found.delay * 1e3:.4f} ms later")
    axes.plot(after, share, ".", ms=4, color=ORANGE, label="frames")
    axes.set_xlim(x[0], x[-1])
    title = f"Exposures of 10 ms, flashes of 5 ms: {found.delay * 1e3:.4f} ms +- {found.sigma * 1e6:.1f} us (one sigma)"
    plain(
        axes, "stated start of the exposure, after that of the flash / ms", "part of the exposure that was lit", title
    )
    axes.legend(fontsize=7, loc="upper left")
    return made


FIGURES: dict[str, Callable[[], Figure]] = {
    "exchanges": exchanges, "bounds": bounds, "matching": matching, "flash": flash,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[1] / "docs" / "explanation")
    parser.add_argument("--run", type=Path, help="draw `flash` from this one")
    options = parser.parse_args()
    for name in options.names or FIGURES:
        path = options.to / f"{name}.png"
        made = flash(options.run) if name == "flash" else FIGURES[name]()
        made.savefig(path, metadata={"Software": ""})
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
