"""The emulated axis of motion: trapezoids of the right length that never overshoot."""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.axis import Axis

STEP = 0.01  # s, of the bench


def live(axis: Axis, seconds: float) -> None:
    for _ in range(round(seconds / STEP)):
        axis.advance(STEP)


@settings(deadline=None)  # steps of the emulated clock, as many as it takes
@given(st.floats(-1e4, 1e4), st.floats(1e3, 1e5), st.floats(1e3, 1e6))
def test_a_move_takes_the_time_of_its_trapezoid_and_never_overshoots(target, speed, acceleration):
    axis = Axis(speed=speed, acceleration=acceleration)
    axis.go(target)
    far, ramp = abs(target), speed**2 / acceleration
    ideal = far / speed + speed / acceleration if far > ramp else 2 * sqrt(far / acceleration)
    elapsed = 0.0
    while axis.moving:
        axis.advance(STEP)
        elapsed += STEP
        assert abs(axis.position) <= far + 1e-6
        assert abs(axis.velocity) <= speed + 1e-6
        assert elapsed < ideal * 1.1 + 0.2
    assert axis.position == target
    assert elapsed > ideal * 0.95 - 3 * STEP


def test_a_velocity_is_reached_by_the_acceleration_and_braked_by_it():
    axis = Axis(acceleration=100.0)
    axis.run(50.0)
    live(axis, 0.25)
    assert axis.velocity == pytest.approx(25.0)
    live(axis, 1.0)
    assert axis.velocity == 50.0
    axis.run(0.0)
    live(axis, 0.25)
    assert axis.velocity == pytest.approx(25.0)
    live(axis, 0.3)
    assert not axis.moving


def test_the_end_of_travel_stops_it_short_of_its_target():
    axis = Axis(high=10.0, speed=100.0, acceleration=1e4)
    axis.go(20.0)
    live(axis, 1.0)
    assert (axis.position, axis.velocity) == (10.0, 0.0)
    assert axis.moving, "it still wants to go on"


def test_a_new_target_behind_it_is_reached_after_braking():
    axis = Axis(speed=100.0, acceleration=100.0)
    axis.go(1000.0)
    live(axis, 1.0)
    turned_at = axis.position
    axis.go(0.0)
    live(axis, 0.5)
    assert axis.position > turned_at
    live(axis, 10.0)
    assert axis.position == 0.0
