"""Values on frames while both come in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.frames.align import Channel, align
from hal.frames.frame import FrameTimes, Reason
from hal.frames.live import LiveAligner, LiveChannel, Rows

ORIGIN = 1_790_000_000_000_000_000
SECOND = 1_000_000_000
FIXED = {
    "slow": LiveChannel(max_gap_s=2.0),
    "wide": LiveChannel(max_gap_s=2.0),
    "bias": LiveChannel(kind="step", polled=True, max_gap_s=2.0),
    "set": LiveChannel(kind="step", max_gap_s=2.0),
}
PERIODS = {"slow": 0.2, "wide": 0.05, "bias": 0.1, "set": 0.3}
BOUNDS = {"slow": 20_000_000, "wide": 120_000_000, "bias": 10_000_000, "set": 1_000_000}


def readings(seed: int, lasts: float) -> dict[str, Channel]:
    rng = np.random.default_rng(seed)
    out = {}
    for name, fixed in FIXED.items():
        m = int(lasts / PERIODS[name])
        time = ORIGIN + np.cumsum(rng.uniform(0.8, 1.2, m) * PERIODS[name] * SECOND).astype(np.int64)
        value = np.cumsum(rng.normal(size=m)) if fixed.kind == "linear" else np.floor(rng.uniform(0, 3, m))
        out[name] = Channel(
            time, value, BOUNDS[name], 0.1, fixed.kind, max_gap_s=fixed.max_gap_s, good=rng.random(m) > 0.02,
            polled=fixed.polled,
        )  # fmt: skip
    return out


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.15]), st.integers(5, 75))
def test_final_rows_are_those_that_alignment_over_everything_gives(seed: int, exposure: float, chunk: int) -> None:
    lasts = 20.0
    channels = readings(seed, lasts)
    rng = np.random.default_rng(seed + 1)
    start = ORIGIN + np.sort(rng.uniform(0, lasts * SECOND, 300)).astype(np.int64)
    frames = FrameTimes.of(start, start + round(exposure * SECOND), 1000)
    live = LiveAligner(FIXED, history_s=6.0)  # frames come up to 5 s after their readings
    fed = dict.fromkeys(channels, 0)
    got: list[Rows] = []
    for i in range(0, len(frames), chunk):
        part = frames[i : i + chunk]
        now = int(part.stop[-1])
        for name, channel in channels.items():
            upto = int(np.searchsorted(channel.time, now))
            where = slice(fed[name], upto)
            assert channel.good is not None
            live.feed(name, channel.time[where], channel.value[where], BOUNDS[name], 0.1, channel.good[where])
            fed[name] = upto
        live.add(part)
        got.append(live.settle(now))
    for name, channel in channels.items():
        assert channel.good is not None
        rest = slice(fed[name], None)
        live.feed(name, channel.time[rest], channel.value[rest], BOUNDS[name], 0.1, channel.good[rest])
    got.append(live.flush())
    assert [r.first for r in got] == np.cumsum([0, *[len(r) for r in got[:-1]]]).tolist()
    assert sum(len(r) for r in got) == len(frames)
    offline = align(frames, channels)
    for name in channels:
        value = np.concatenate([r.values[name].value for r in got])
        sigma = np.concatenate([r.values[name].sigma for r in got])
        reason = np.concatenate([r.values[name].reason for r in got])
        np.testing.assert_array_equal(reason, offline[name].reason)
        np.testing.assert_allclose(value, offline[name].value, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(sigma, offline[name].sigma, rtol=1e-3, atol=1e-5)


def moments(*seconds: float) -> FrameTimes:
    t = ORIGIN + np.rint(np.array(seconds) * SECOND).astype(np.int64)
    return FrameTimes.of(t, t)


def ramp(live: LiveAligner, first: int, last: int) -> None:
    for i in range(first, last):
        live.feed("t", ORIGIN + i * SECOND // 10, float(i), 0, 0.01)


def test_a_new_frame_gets_the_last_reading_at_once_and_the_line_when_final() -> None:
    live = LiveAligner({"t": LiveChannel(max_gap_s=1.0)})
    ramp(live, 0, 10)
    early = live.add(moments(0.95))
    assert not early.final
    assert early.values["t"].value[0] == 9.0
    assert early.values["t"].sigma[0] == pytest.approx(0.5, rel=0.05)  # 10 per second x 0.05 s
    assert len(live.settle(ORIGIN + SECOND)) == 0
    ramp(live, 10, 14)
    final = live.settle(ORIGIN + 14 * SECOND // 10)
    assert final.final
    assert final.values["t"].value[0] == pytest.approx(9.5)
    assert live.waiting == 0


def test_a_silent_channel_holds_frames_up_no_longer_than_its_deadline() -> None:
    live = LiveAligner({"t": LiveChannel(max_gap_s=1.0, response_s=0.2), "mute": LiveChannel(max_gap_s=3.0)})
    ramp(live, 0, 10)
    live.add(moments(0.5))
    assert len(live.settle(ORIGIN + 3 * SECOND)) == 0
    rows = live.settle(ORIGIN + 4 * SECOND + 1)
    assert len(rows) == 1
    assert rows.values["t"].valid.all()
    assert rows.values["mute"].reason[0] == Reason.NO_DATA


def test_heartbeats_make_the_frames_of_a_step_channel_final() -> None:
    live = LiveAligner({"v": LiveChannel(kind="step", max_gap_s=2.0)})
    live.feed("v", ORIGIN, 5.0)
    live.add(moments(0.5))
    assert len(live.settle(ORIGIN + SECOND)) == 0
    live.heartbeat("v", ORIGIN + SECOND)
    rows = live.settle(ORIGIN + SECOND)
    assert rows.values["v"].value.tolist() == [5.0]
    assert rows.values["v"].sigma.tolist() == [0.0]
    with pytest.raises(ValueError, match="step channels"):
        LiveAligner({"t": LiveChannel()}).heartbeat("t", ORIGIN)


def test_the_best_estimate_now_grows_less_certain_with_age_and_ends_at_the_largest_gap() -> None:
    live = LiveAligner({"t": LiveChannel(max_gap_s=1.0)})
    assert live.at("t", ORIGIN).reason == Reason.NO_DATA
    ramp(live, 0, 10)
    inside = live.at("t", ORIGIN + 55 * SECOND // 100)
    assert inside.value == pytest.approx(5.5)
    assert inside.valid
    assert inside.final
    near, far = (live.at("t", ORIGIN + ms * 1_000_000) for ms in (1000, 1800))
    assert near.value == far.value == 9.0
    assert not near.final
    assert far.sigma == pytest.approx(9.0, rel=0.05)
    assert near.sigma == pytest.approx(1.0, rel=0.05)
    assert live.at("t", ORIGIN + 2 * SECOND).reason == Reason.AFTER_DATA


def test_after_a_bad_reading_nothing_is_held() -> None:
    live = LiveAligner({"t": LiveChannel()})
    ramp(live, 0, 5)
    live.feed("t", ORIGIN + SECOND // 2, float("nan"), good=False)
    assert not live.at("t", ORIGIN + SECOND).valid


def test_memory_stays_bounded_over_long_runs() -> None:
    live = LiveAligner({"t": LiveChannel()}, history_s=5.0, max_frames=500)
    for minute in range(50):
        t = ORIGIN + (minute * 60 + np.arange(0, 60, 0.01)) * SECOND
        live.feed("t", t.astype(np.int64), np.zeros(6000))
        live.settle(int(t[-1]))
    assert live._buffers["t"].time.size < 13_000
    start = ORIGIN + 3000 * SECOND + np.arange(2000) * 1000
    live.add(FrameTimes.of(start, start))
    assert len(live.settle(ORIGIN)) == 1500
    assert live.waiting == 500


def test_frames_that_get_better_times_are_final_with_those_and_no_sooner() -> None:
    channels = readings(3, 12.0)
    live = LiveAligner(FIXED)
    start = ORIGIN + np.arange(100, dtype=np.int64) * SECOND // 20 + SECOND
    rough, better = (
        FrameTimes.of(start + 30_000_000, start + 31_000_000, 50_000_000),
        FrameTimes.of(start, start + 10**6),
    )
    for name, channel in channels.items():
        assert channel.good is not None
        live.feed(name, channel.time, channel.value, BOUNDS[name], 0.1, channel.good)
    live.add(rough[:60])
    live.add(rough[60:])
    assert len(live.settle(ORIGIN + 12 * SECOND, before=0)) == 0
    now = live.retime(0, better[:70])
    assert (now.first, len(now), now.final) == (0, 70, False)
    first = live.settle(ORIGIN + 12 * SECOND, before=70)
    assert len(first) == 70
    late = live.retime(50, better[50:])  # the first twenty of them are final already
    assert (late.first, len(late)) == (70, 30)
    rest = live.settle(ORIGIN + 12 * SECOND)
    assert len(rest) == 30
    for name, channel in channels.items():
        wanted = align(better, {name: channel})[name]
        got = np.concatenate([first.values[name].value, rest.values[name].value])
        assert np.allclose(got, wanted.value, equal_nan=True)
