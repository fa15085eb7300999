"""Gas that is measured at the end of a line was somewhere else when it was what it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal.frames.align import align
from hal.frames.channel import Channel
from hal.frames.frame import FrameTimes
from hal.frames.transit import transit

ORIGIN = 1_790_000_000_000_000_000


def ns(seconds):
    return ORIGIN + np.rint(np.asarray(seconds) * 1e9).astype(np.int64)


def test_at_a_steady_flow_the_delay_is_the_lines_content_over_the_flow():
    flow_time = np.arange(0.0, 100.0, 0.1)
    delay, sigma = transit(ns([30.0, 70.0]), ns(flow_time), np.full(flow_time.size, 20.0), 3.0, 0.1)
    assert delay == pytest.approx([9.0, 9.0], abs=1e-6)  # 3 mL at 20 mL/min
    assert sigma == pytest.approx([0.3, 0.3], rel=1e-6)


@given(st.lists(st.floats(1.0, 50.0), min_size=20, max_size=60), st.floats(0.1, 3.0))
def test_what_flowed_during_the_delay_fills_the_line(flows, content):
    flow_time = np.arange(len(flows), dtype=float)
    when = np.linspace(0.0, flow_time[-1], 57)
    delay, _ = transit(ns(when), ns(flow_time), np.array(flows), content)
    for t, d in zip(when, delay, strict=True):
        grid = np.unique(np.concatenate([[t - d, t], flow_time[(flow_time > t - d) & (flow_time < t)]]))
        if np.isfinite(d):
            filled = np.trapezoid(np.interp(grid, flow_time, flows), grid) / 60 if hasattr(np, "trapezoid") else (
                np.trapz(np.interp(grid, flow_time, flows), grid) / 60
            )  # fmt: skip
            assert filled == pytest.approx(content, rel=1e-6)


def test_without_flow_for_long_enough_nobody_knows_what_is_measured():
    flow_time = np.arange(0.0, 50.0, 0.5)
    delay, _ = transit(ns([2.0, 40.0, 80.0]), ns(flow_time), np.full(flow_time.size, 10.0), 1.0)
    assert np.isnan(delay[0])  # the line was not yet filled
    assert np.isfinite(delay[1])
    assert np.isnan(delay[2])  # after the last reading of the flow
    stopped, _ = transit(ns([40.0]), ns(flow_time), np.zeros(flow_time.size), 1.0)
    assert np.isnan(stopped).all()


def test_a_change_of_gas_is_laid_onto_the_frames_it_reached_the_specimen_at():
    """The analyser sees a step late, and later at a slower flow; aligned, both steps are where they were."""
    flow_time = np.arange(0.0, 300.0, 0.2)
    flow = np.where(flow_time < 150.0, 30.0, 10.0)
    when = np.arange(0.0, 300.0, 0.25)
    delay, sigma = transit(ns(when), ns(flow_time), flow, 2.0, 0.02)
    known = np.isfinite(delay)
    at_the_specimen = when - np.where(known, delay, 0.0)
    value = np.where((at_the_specimen > 60.0) & (at_the_specimen < 200.0), 1.0, 0.0)
    channel = Channel(
        ns(when), value, delay_s=delay, delay_sigma_s=sigma, sigma=0.01, kind="step", polled=True, max_gap_s=20.0
    )
    frames = np.array([50.0, 58.0, 62.0, 120.0, 198.0, 202.0, 230.0])
    found = align(FrameTimes.of(ns(frames), ns(frames + 1e-3)), {"analyser": channel})["analyser"]
    assert found.valid.all()
    assert found.value.round().tolist() == [0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(("content", "sigma"), [(0.0, 0.0), (-1.0, 0.0), (1.0, -0.1), (float("nan"), 0.0)])
def test_a_line_that_holds_nothing_is_refused(content, sigma):
    with pytest.raises(ValueError, match="check its volume"):
        transit(ns([1.0]), ns([0.0, 1.0]), np.ones(2), content, sigma)
