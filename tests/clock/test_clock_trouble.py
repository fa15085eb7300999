"""Exchanges as odd as they may come, and a model of a clock that is mistaken: the clock says so and raises nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import hal.clock.span
from hal.clock.envelope import EnvelopeClock
from hal.clock.exchange import Exchange, Exchanges
from hal.clock.exchange_clock import ExchangeClock

ORIGIN = 1_790_000_000_000_000_000


def at(t: float) -> int:
    return ORIGIN + round(t * 1e9)


def asked(count: int, *, first: float = 1.0, every: float = 0.5, frequency: float = 1e6) -> Iterator[Exchange]:
    for t in first + every * np.arange(count):
        ticks = int(frequency * (t + 1e-4))
        yield Exchange(1, at(t), ticks, ticks + 20, at(t + 3e-4))


@pytest.fixture
def mistaken(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def divides(*given: Any, **more: Any) -> None:
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(hal.clock.span, "fit", divides)
    return monkeypatch


def test_a_mistake_in_the_model_makes_ticks_invalid_and_is_said_and_the_next_exchange_may_mend_it(
    mistaken: pytest.MonkeyPatch,
) -> None:
    clock = ExchangeClock(frequency=1e6, ppm=50.0, name="board")
    for exchange in asked(1500):  # long enough for older ones to be condensed, twice
        clock.add(exchange)
    ticks, came = np.array([700_000_000]), np.array([at(700.01)])
    assert not clock.to_lab(ticks, came).valid.any()
    assert not clock.to_lab(ticks).valid.any()
    health = clock.health(at(751.0))
    assert not health.usable
    assert health.reason.startswith("board: ticks got no lab time, for its exchanges could not be worked out (ZeroDiv")
    mistaken.undo()
    clock.add(next(asked(1, first=752.0)))
    got = clock.to_lab(ticks, came)
    assert got.valid.all()
    assert abs(int(got.time[0]) - at(700.0)) <= got.bound[0] < 1_000_000
    assert clock.health(at(752.1)).usable


def test_a_run_with_a_mistaken_model_can_be_opened_all_the_same(mistaken: pytest.MonkeyPatch) -> None:
    clock = ExchangeClock.fit(list(asked(40)), frequency=1e6, ppm=50.0, name="board")
    assert not clock.to_lab(np.arange(5) * 1_000_000, np.full(5, at(10.0))).valid.any()
    assert "align" in clock.health(at(21.0)).reason


def test_a_mistake_about_one_epoch_leaves_the_others_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ExchangeClock(frequency=1e6, ppm=50.0)
    for exchange in asked(40):
        clock.add(exchange)
    before = clock.to_lab(np.array([10_000_000]), np.array([at(10.01)]))
    monkeypatch.setattr(hal.clock.span, "fit", lambda *given, **more: 1 / 0)
    clock.add(Exchange(2, at(100.0), 5, 9, at(100.001)))
    again = clock.to_lab(np.array([10_000_000, 7]), np.array([at(10.01), at(100.01)]))
    assert again.valid.tolist() == [True, False]
    assert again.time[0] == before.time[0]


def test_a_detector_s_clock_that_is_mistaken_costs_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = np.arange(4000) * 10_000_000
    arrivals = ORIGIN + ticks + 2_000_000
    clock = EnvelopeClock(name="eye")
    with monkeypatch.context() as wrong:
        wrong.setattr("hal.clock.envelope._support", lambda *given: 1 / 0)
        clock.add(ticks[:2000], arrivals[:2000])
        assert not clock.to_lab(ticks[:2000], arrivals[:2000]).valid.any()
        health = clock.health(int(arrivals[1999]))
        assert not health.usable
        assert health.reason.startswith("eye: frames got no lab time by arrival, for ZeroDivisionError")
    clock.add(ticks[2000:], arrivals[2000:])
    got = clock.to_lab(ticks[2000:], arrivals[2000:])
    assert got.valid.all()
    assert clock.health(int(arrivals[-1])).usable


# ------------------------------------------------------------------ odd exchanges


def told(clock: ExchangeClock, ticks: list[int], t: list[float]) -> None:
    """Its hard bound holds for events at times t."""
    got = clock.to_lab(np.array(ticks, np.int64), np.array([at(s + 1e-3) for s in t]))
    error = np.abs(got.time - np.array([at(s) for s in t]))
    assert (error <= got.bound + 1)[got.valid].all()
    assert (got.tight <= got.bound)[got.valid].all()
    assert np.isfinite(got.sigma[got.valid]).all()


@pytest.mark.filterwarnings("error")
@settings(max_examples=12, deadline=None)
@example(1e6, 64, 20_000.0, -1.0, [1.0], [(1e-4, 0.0, 1e-4)], True)  # ticks are longer than its rate is lower
@example(1.0, 64, 20_000.0, -1.0, [1.0] * 40, [(0.0, 0.0, 0.0)], True)  # and half a tick is, too
@example(1e6, 64, 100.0, 0.3, [1e-6] * 40, [(1e-4, 4.0, 1e-4), (0.05, 0.0, 1e-7)], False)  # answers that overtake
@given(
    frequency=st.sampled_from([1.0, 50.0, 1000.0, 32768.0, 1e6, 1e9]),
    bits=st.sampled_from([24, 32, 48, 64]),
    ppm=st.sampled_from([1.0, 100.0, 20_000.0]),
    share=st.sampled_from([-1.0, 0.0, 0.3, 1.0]),
    steps=st.lists(st.sampled_from([0.0, 1e-6, 1e-4, 0.02, 1.0, 3600.0]), min_size=1, max_size=40),
    ways=st.lists(st.tuples(*[st.sampled_from([0.0, 1e-7, 1e-4, 0.05, 4.0])] * 3), min_size=1, max_size=8),
    queue=st.booleans(),
)
def test_however_exchanges_come_the_hard_bound_holds_and_nothing_is_divided_by_zero(
    frequency: float, bits: int, ppm: float, share: float, steps: list[float], ways: list[tuple[float, ...]],
    queue: bool,
) -> None:  # fmt: skip
    """Bursts within a microsecond, answers that overtake one another, hours of silence, a counter of one tick a
    second, and a rate at the very limit."""

    def ticks(t: float) -> int:
        return int(np.floor(frequency * (t + 100.0) * (1 + share * ppm * 1e-6))) & ((1 << bits) - 1)

    t, exchanges, moments = 1.0, [], []
    for k, step in enumerate(steps):
        t += step
        out, own, back = ways[k % len(ways)]
        received = t + out + own + back
        exchanges.append(
            Exchange(1, at(t) - 1, _signed(ticks(t + out)), _signed(ticks(t + out + own)), at(received) + 1)
        )
        moments.append(t + out)
        t = received if queue else t
    whole = Exchanges.of(sorted(exchanges, key=lambda e: e.received))
    clock = ExchangeClock(frequency=frequency, ppm=ppm, bits=bits)
    moments += [t + after for after in (1e-3, 1.0, 500.0)]
    for exchange in whole:
        clock.add(exchange)
        if len(whole) < 12:
            clock.to_lab(whole.ticks_sent)
    for one in (clock, ExchangeClock.fit(whole, frequency=frequency, ppm=ppm, bits=bits)):
        told(one, [_signed(ticks(moment)) for moment in moments], moments)
        assert "got no lab time" not in one.health(at(t + 1.0)).reason


def test_a_millisecond_counter_that_is_asked_in_step_with_its_ticks_is_not_believed_finer_than_they_are() -> None:
    """For a minute every answer comes at the same place within a tick, and the rate seems to be known."""

    def ticks(t: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.floor(1e3 * (t + 50.0) * (1 - 13e-6)).astype(np.int64)

    rng = np.random.default_rng(4)
    t = np.arange(1.0, 300.0) + 2e-6 * rng.random(299)
    out, back = 3e-5 + rng.exponential(3e-5, t.size), 6e-5 + rng.exponential(6e-5, t.size)
    came = t + out
    clock = ExchangeClock(frequency=1e3, ppm=50.0)
    outside = 0
    for k, count in enumerate(ticks(came).tolist()):
        clock.add(Exchange(1, at(t[k]) - 1, count, count, at(came[k] + back[k]) + 1))
        if k % 12 == 0:
            moments = t[k] + np.array([0.01, 0.5, 0.99])
            # An event is anywhere within its tick, so its middle is what can be known.
            got = clock.to_lab(ticks(moments))
            outside += int(np.count_nonzero(np.abs(got.time - [at(m) for m in moments]) > got.tight))
    assert outside == 0


def _signed(ticks: int) -> int:
    return ticks - (1 << 64) if ticks >= 1 << 63 else ticks
