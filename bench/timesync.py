"""Clocks and frames against simulated truth: our estimates and bounds beside those of LSL, Klipper, chrony and others.

Each regime (timeworld/clock_regimes.py) is run with several seeds. Offline: the whole run is fitted, then all ticks are
mapped. Online: every block of ticks is mapped when it arrives, by what had come until then. Peers get the same
exchanges, and from the truth where counters rolled over and devices rebooted; nobody gets calibrated delays.

    python bench/timesync.py             # three seeds; about two minutes
    python bench/timesync.py --quick     # one seed of the normal regimes
    python bench/timesync.py --frames    # frames onto pulses alone
    python bench/timesync.py --fuzz 100  # parameters drawn from wide ranges instead; says which seeds went worst
    python bench/timesync.py --only "path change" --seeds 20
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import geometric_mean

import numpy as np
from _measure import machine, span
from timeworld.clock_regimes import NASTY, NORMAL, REGIMES, random_trace, trace
from timeworld.clock_traces import Trace
from timeworld.frame_traces import frame_table
from timeworld.peers import OFFLINE, ONLINE, Exchanged
from timeworld.physics import Float64, Int64, Mask

from hal.clock.exchange import Exchanges
from hal.clock.exchange_clock import ExchangeClock

GOAL_OFFLINE, GOAL_ONLINE, GOAL_WORST, GOAL_TIGHT, GOAL_WIDTH = 0.35, 0.75, 1.5, 0.999, 1.3


# ---------------------------------------------------------------------- one run, judged


@dataclass
class Judged:
    """Our answers to a trace's queries."""

    p50: float
    """ns, absolute error."""
    p99: float
    seen: float
    """p99 about the middle of what the smallest delays allow: the error without the unseen asymmetry."""
    invalid: float
    """Share of the queries."""
    hard_missed: int
    """Queries whose truth lies outside the hard bound, ..."""
    tight_missed: int
    """... outside the tight one, ..."""
    asked: int
    """... of so many valid ones."""
    width: float
    """Median of the tight bound over half the smallest round trip (and half a tick)."""
    seconds: float
    """That it took: fit and queries offline; per block of ticks online, with the exchanges before it."""


Figures = dict[str, tuple[float, float]]
"""By peer: p99 of the error (ns), and of what could be seen of it."""


@dataclass
class Result:
    """One trace."""

    regime: str
    seed: int
    exchanges: int
    asymmetry: float
    """ns: the error that nobody can see, half of what the run's two smallest delays differ by."""
    offline: Judged
    online: Judged
    peers_offline: Figures = field(default_factory=dict)
    peers_online: Figures = field(default_factory=dict)


def unseen(t: Trace) -> float:
    """By how much (s) the middle between the run's smallest delays is late."""
    if not t.truth.lab.size:
        return 0.0
    return 0.5 * float(t.truth.floor_back.min() - t.truth.floor_out.min())


def judged(t: Trace, lab: Int64, bound: Int64, tight: Int64, valid: Mask, seconds: float) -> Judged:
    """Compare with the truth."""
    error = np.abs(lab - t.truth.lab)[valid]
    half = 0.5e9 * (t.truth.floor_out + t.truth.floor_back + 1 / t.given.frequency)[valid]
    if not error.size:
        return Judged(np.inf, np.inf, np.inf, 1.0, 0, 0, 0, np.inf, seconds)
    return Judged(
        p50=float(np.quantile(error, 0.5)),
        p99=float(np.quantile(error, 0.99)),
        seen=float(np.quantile(np.abs(lab - t.truth.lab - 1e9 * unseen(t))[valid], 0.99)),
        invalid=float(np.mean(~valid)),
        hard_missed=int(np.sum(error > bound[valid])),
        tight_missed=int(np.sum(error > tight[valid])),
        asked=error.size,
        width=float(np.median(tight[valid] / half)),
        seconds=seconds,
    )


def ours_offline(t: Trace) -> tuple[Judged, Mask]:
    """The whole run at once."""
    g = t.given
    begun = time.perf_counter()
    clock = ExchangeClock.fit(
        Exchanges(g.boot, g.sent, g.ticks_received, g.ticks_sent, g.received),
        frequency=g.frequency,
        ppm=g.ppm,
        bits=g.bits,
    )
    if g.one_way_ticks.size:
        clock.add_one_way(g.one_way_ticks, g.one_way_arrivals)
    answer = clock.to_lab(g.query_ticks, g.query_arrivals)
    took = time.perf_counter() - begun
    return judged(t, answer.time, answer.bound, answer.tight, answer.valid, took), answer.valid


def blocks(t: Trace) -> list[tuple[int, int]]:
    """Queries that arrived together, as (begin, end)."""
    edges = np.flatnonzero(np.diff(t.given.query_arrivals)) + 1
    return list(zip([0, *edges.tolist()], [*edges.tolist(), t.given.query_arrivals.size], strict=True))


def ours_online(t: Trace) -> tuple[Judged, Mask]:
    """Exchanges and blocks in order of arrival."""
    g = t.given
    clock = ExchangeClock(frequency=g.frequency, ppm=g.ppm, bits=g.bits)
    n = g.query_ticks.size
    lab, bound, tight, valid = (np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool))
    exchanges = list(Exchanges(g.boot, g.sent, g.ticks_received, g.ticks_sent, g.received))
    done = streamed = 0
    cuts = blocks(t) if n else []
    begun = time.perf_counter()
    for i, j in cuts:
        now = int(g.query_arrivals[i])
        upto = int(np.searchsorted(g.one_way_arrivals, now, side="right"))
        while done < len(exchanges) and exchanges[done].received <= now:
            # What was streamed before an exchange is given before it.
            before = int(np.searchsorted(g.one_way_arrivals, exchanges[done].received, side="right"))
            if before > streamed:
                clock.add_one_way(g.one_way_ticks[streamed:before], g.one_way_arrivals[streamed:before])
                streamed = before
            clock.add(exchanges[done])
            done += 1
        if upto > streamed:
            clock.add_one_way(g.one_way_ticks[streamed:upto], g.one_way_arrivals[streamed:upto])
            streamed = upto
        answer = clock.to_lab(g.query_ticks[i:j], g.query_arrivals[i:j])
        lab[i:j], bound[i:j], tight[i:j], valid[i:j] = answer.time, answer.bound, answer.tight, answer.valid
    took = (time.perf_counter() - begun) / max(len(cuts), 1)
    return judged(t, lab, bound, tight, valid, took), valid


@dataclass
class Epoch:
    """What peers get of one epoch, in s since its first exchange."""

    exchanged: Exchanged
    asked: Float64
    """Device times of the queries."""
    arrived: Float64
    truth: Float64
    unseen: float
    queries: Int64
    """Which of the trace's."""


def epochs(t: Trace) -> Iterable[Epoch]:
    """Unwrapped and parted by the truth; answers that can't be are left out, as any client would."""
    g, truth = t.given, t.truth
    for number in np.unique(truth.epoch):
        of_it = np.flatnonzero(truth.exchange_epoch == number)
        first = of_it[np.flatnonzero(~truth.corrupted[of_it])[0]]
        c0, t0 = int(truth.exchange_received[first]), int(g.sent[first])
        clock = [((ticks[of_it] - c0) + 0.5) / g.frequency for ticks in (truth.exchange_received, truth.exchange_sent)]
        sent, received = (g.sent[of_it] - t0) * 1e-9, (g.received[of_it] - t0) * 1e-9
        share = clock[1] - clock[0]
        good = (share >= 0) & (share <= received - sent + 1 / g.frequency)
        newest = -np.inf
        for k in np.flatnonzero(good):
            # With a coarse counter equal readings are not repeated answers.
            if clock[0][k] < newest or (clock[0][k] == newest and g.frequency > 1e5):
                good[k] = False
            else:
                newest = clock[0][k]
        asked = np.flatnonzero(truth.epoch == number)
        yield Epoch(
            Exchanged(sent[good], clock[0][good], clock[1][good], received[good], 1 / g.frequency),
            ((truth.ticks[asked] - c0) + 0.5) / g.frequency,
            (g.query_arrivals[asked] - t0) * 1e-9,
            (truth.lab[asked] - t0) * 1e-9,
            unseen(t),
            asked,
        )


def peers_offline(t: Trace, valid: Mask) -> Figures:
    """Every peer on the queries that we answered."""
    errors: dict[str, list[Float64]] = {name: [] for name in OFFLINE}
    for epoch in epochs(t):
        keep = valid[epoch.queries]
        for name, way in OFFLINE.items():
            error = way(epoch.exchanged)(epoch.asked) - epoch.truth
            errors[name].append(np.array([error, error - epoch.unseen])[:, keep])
    return {name: _p99(e) for name, e in errors.items()}


def peers_online(t: Trace, valid: Mask) -> Figures:
    """The same, block by block as they came."""
    errors: dict[str, list[Float64]] = {}
    for epoch in epochs(t):
        keep, e = valid[epoch.queries], epoch.exchanged
        rows = list(zip(*(v.tolist() for v in (e.sent, e.device_received, e.device_sent, e.received)), strict=True))
        edges = [0, *(np.flatnonzero(np.diff(epoch.arrived)) + 1).tolist(), epoch.arrived.size]
        counts = np.searchsorted(e.received, epoch.arrived, side="right").tolist()
        for make in ONLINE:
            peer, done, lab = make(e.tick), 0, np.full(epoch.asked.size, np.nan)
            for i, j in pairwise(edges):
                for row in rows[done : counts[i]]:
                    peer.add(*row)
                done = max(done, counts[i])
                lab[i:j] = peer.to_lab(epoch.asked[i:j])
            error = lab - epoch.truth
            errors.setdefault(peer.name, []).append(np.array([error, error - epoch.unseen])[:, keep])
    return {name: _p99(e) for name, e in errors.items()}


def _p99(errors: Sequence[Float64]) -> tuple[float, float]:
    error = np.abs(np.concatenate(errors, axis=1)) if errors else np.zeros((2, 0))
    if not error.size or not np.isfinite(error).all():
        return np.inf, np.inf
    first, second = (np.quantile(error, 0.99, axis=1) * 1e9).tolist()
    return first, second


def run(regime: str, seed: int) -> Result:
    """Everything about one trace; `drawn` is the regime of drawn parameters."""
    t = random_trace(seed) if regime == "drawn" else trace(regime, seed)
    offline, valid_offline = ours_offline(t)
    online, valid_online = ours_online(t)
    return Result(
        regime,
        seed,
        t.given.sent.size,
        abs(unseen(t)) * 1e9,
        offline,
        online,
        peers_offline(t, valid_offline),
        peers_online(t, valid_online),
    )


# ---------------------------------------------------------------------- tables


def mean(values: Iterable[float]) -> float:
    """Geometric; endless if one is."""
    listed = [max(v, 1e-3) for v in values]
    return geometric_mean(listed) if all(np.isfinite(listed)) else float("inf")


def ns(value: float) -> str:
    """Nanoseconds with a handy unit."""
    return span(value * 1e-9) if np.isfinite(value) else "-"


@dataclass
class Row:
    """One regime over its seeds: geometric means."""

    regime: str
    results: list[Result]

    def ours(self, live: bool, quantile: str = "p99") -> float:
        return mean(getattr(r.online if live else r.offline, quantile) for r in self.results)

    def peers(self, live: bool, *, seen: bool = False) -> dict[str, float]:
        each = [r.peers_online if live else r.peers_offline for r in self.results]
        return {name: mean(figures[name][seen] for figures in each) for name in each[0]}

    def best(self, live: bool, *, seen: bool = False) -> tuple[str, float]:
        return min(self.peers(live, seen=seen).items(), key=lambda item: item[1])

    def missed(self, live: bool) -> tuple[int, int, int]:
        """Queries outside the hard bound, outside the tight one, all."""
        each = [r.online if live else r.offline for r in self.results]
        return sum(e.hard_missed for e in each), sum(e.tight_missed for e in each), sum(e.asked for e in each)

    def width(self, live: bool) -> float:
        return mean((r.online if live else r.offline).width for r in self.results)

    def invalid(self, live: bool) -> float:
        return float(np.mean([(r.online if live else r.offline).invalid for r in self.results]))


def show(rows: Sequence[Row], live: bool) -> None:
    """Ours beside the best. `seen` is the error about the middle of what the smallest delays allow."""
    title = "online" if live else "offline"
    print(f"\n{title + ': |error|':18}{'p50':>9}{'p99':>9}{'best peer':>25}{'ratio':>7}", end="")
    print(f"{'/chrony':>9}" if live else "", end="")
    print(f"{'unseen':>9}{'seen':>9}{'best peer':>25}{'ratio':>8}", end="")
    print(f"{'invalid':>9}{'hard out':>9}{'tight out':>10}{'tight/asym':>11}")
    for row in rows:
        name, best = row.best(live)
        other, seen = row.best(live, seen=True)
        hard, tight, asked = row.missed(live)
        out = tight / asked if asked else np.nan
        print(f"{row.regime:18}{ns(row.ours(live, 'p50')):>9}{ns(row.ours(live)):>9}", end="")
        print(f"{name:>16}{ns(best):>9}{_flag(row.ours(live) / best, GOAL_WORST):>7}", end="")
        print(f"{row.ours(live) / row.peers(True)['chrony']:>9.2f}" if live else "", end="")
        print(f"{ns(mean(r.asymmetry for r in row.results)):>9}{ns(row.ours(live, 'seen')):>9}", end="")
        print(f"{other:>16}{ns(seen):>9}{row.ours(live, 'seen') / seen:>8.2f}{row.invalid(live):>9.2%}", end="")
        print(f"{f'{hard}!' if hard else '0':>9}", end="")
        print(f"{f'{out:.2%}' + ('!' if out > 1 - GOAL_TIGHT else ''):>10}{_flag(row.width(live), GOAL_WIDTH):>11}")


def show_peers(rows: Sequence[Row], live: bool) -> None:
    """Everybody's p99 over ours."""
    names = list(rows[0].peers(live))
    print(f"\n{'p99 over ours, ' + ('online' if live else 'offline'):26}" + "".join(f"{n:>17}" for n in names))
    for row in rows:
        print(f"{row.regime:26}" + "".join(f"{row.peers(live)[n] / row.ours(live):>17.3g}" for n in names))


def _flag(value: float, limit: float) -> str:
    return f"{value:.2f}" + ("!" if value > limit else "")


def goals(rows: Sequence[Row]) -> None:
    """Met or missed."""
    normal = [row for row in rows if row.regime in NORMAL] or list(rows)
    print("\ngoals (geometric means of p99 over the normal regimes)")

    def said(what: str, value: float, goal: float, *, least: bool = False) -> None:
        met = value >= goal if least else value <= goal
        print(f"  {what:82}{value:>10.4g}  goal {'>=' if least else '<='} {goal:g}  {'met' if met else 'MISSED'}")

    def noted(what: str, value: float) -> None:
        print(f"  {what:82}{value:>10.4g}")

    for seen, figure, note in ((False, "p99", ""), (True, "seen", "; without the unseen asymmetry")):
        for live in (False, True):
            single = {n: mean(row.peers(live, seen=seen)[n] for row in normal) for n in normal[0].peers(live)}
            best = min(single, key=lambda n: single[n])
            ours = mean(row.ours(live, figure) for row in normal)
            if not live:
                said(f"offline, of the best single peer's ({best}){note}", ours / single[best], GOAL_OFFLINE)
            else:
                said(f"online, of chrony's{note}", ours / single["chrony"], GOAL_ONLINE)
                noted(f"  of the best single peer's ({best}){note}", ours / single[best])
            if not seen:
                oracle = mean(mean(r.asymmetry for r in row.results) for row in normal)
                noted("  the unseen asymmetry alone, of the best single peer's: less can't be", oracle / single[best])
            each = mean(row.ours(live, figure) / row.best(live, seen=seen)[1] for row in normal)
            noted(f"  of the best peer of each regime{note}", each)
    for live, way in ((False, "offline"), (True, "online")):
        worst = max(rows, key=lambda row: row.ours(live) / row.best(live)[1])
        ratio = worst.ours(live) / worst.best(live)[1]
        said(f"{way}, worst regime of its best peer's ({worst.regime})", ratio, GOAL_WORST)
    for live, way in ((False, "offline"), (True, "online")):
        each = [r.online if live else r.offline for row in rows for r in row.results]
        broken = sum(e.hard_missed > 0 for e in each)
        said(f"{way}, traces in which the hard bound was broken, of {len(each)}", broken, 0)
        within = 1 - sum(e.tight_missed for e in each) / sum(e.asked for e in each)
        said(f"{way}, share of queries within the tight bound", within, GOAL_TIGHT, least=True)
        share = {row.regime: 1 - row.missed(live)[1] / max(row.missed(live)[2], 1) for row in rows}
        least = min(share, key=lambda regime: share[regime])
        said(f"{way}, the same in the worst regime ({least})", share[least], GOAL_TIGHT, least=True)
        width = mean(row.width(live) for row in normal)
        said(f"{way}, tight bound over what the asymmetry alone would give", width, GOAL_WIDTH)
        noted(f"{way}, share of queries called invalid", float(np.mean([e.invalid for e in each])))
    fit = [r.offline.seconds for row in rows for r in row.results]
    live_cost = [r.online.seconds for row in rows for r in row.results]
    print(f"  cost: a whole run {span(float(np.median(fit)))} (most {span(max(fit))}); ", end="")
    print(f"a block online, with its exchanges {span(float(np.median(live_cost)))} (most {span(max(live_cost))})")


def show_worst(results: Sequence[Result], count: int = 12) -> None:
    """Which drawn traces went worst."""

    def ratio(r: Result, live: bool) -> float:
        one, peers = (r.online, r.peers_online) if live else (r.offline, r.peers_offline)
        return one.seen / min(seen for _, seen in peers.values())

    for live, way in ((False, "offline"), (True, "online")):
        print(f"\n{way + ': drawn traces that went worst':44}{'ratio':>8}{'best peer':>17}", end="")
        print(f"{'seen':>10}{'unseen':>10}{'exchanges':>10}{'tight/asym':>12}")
        for r in sorted(results, key=lambda r: -ratio(r, live))[:count]:
            one, peers = (r.online, r.peers_online) if live else (r.offline, r.peers_offline)
            name = min(peers, key=lambda n: peers[n][1])
            print(f"  seed {r.seed:<37}{ratio(r, live):>8.2f}{name:>17}", end="")
            print(f"{ns(one.seen):>10}{ns(r.asymmetry):>10}{r.exchanges:>10}{one.width:>12.2f}")
        for what in ("hard_missed", "tight_missed"):
            bad = [r for r in results if getattr(r.online if live else r.offline, what)]
            listed = ", ".join(f"{r.seed} ({getattr(r.online if live else r.offline, what)})" for r in bad[:30])
            print(f"  {what}: {len(bad)} traces: {listed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each regime (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--quick", action="store_true", help="one seed of the normal regimes")
    parser.add_argument("--only", action="append", choices=list(REGIMES), help="this regime; may be repeated")
    parser.add_argument("--fuzz", type=int, default=0, help="so many traces of drawn parameters instead")
    parser.add_argument("--clocks", action="store_true", help="without the frames")
    parser.add_argument("--frames", action="store_true", help="the frames alone")
    parser.add_argument("--peers", action="store_true", help="the figures of every peer as well")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default %(default)s)")
    options = parser.parse_args()
    if options.frames:
        frame_table(quick=options.quick)
        return
    seeds = 1 if options.quick else options.seeds
    said = f"{options.fuzz} drawn runs" if options.fuzz else f"{seeds} seed{'s' * (seeds > 1)}"
    print(f"Clocks against simulated truth, {said}\n  {machine()}")
    if options.fuzz:
        work = [("drawn", options.first + seed) for seed in range(options.fuzz)]
    else:
        names = options.only or ([*NORMAL] if options.quick else [*NORMAL, *NASTY])
        work = [(name, options.first + seed) for seed in range(seeds) for name in names]
    with ProcessPoolExecutor(options.jobs) as pool:
        results = list(pool.map(run, *zip(*work, strict=True), chunksize=1))
    results = [r for r in results if r.offline.asked]
    rows = [Row(name, [r for r in results if r.regime == name]) for name in dict.fromkeys(r.regime for r in results)]
    for live in (False, True):
        show(rows, live)
        if options.peers:
            show_peers(rows, live)
    goals(rows)
    if options.fuzz:
        show_worst(results)
    sys.stdout.flush()
    if not options.fuzz and not options.only and not options.clocks:
        print()
        frame_table(quick=options.quick)


if __name__ == "__main__":
    main()
