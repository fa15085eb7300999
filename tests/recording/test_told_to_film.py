"""From when on a run's frames can have been exposed: the camera's first order to film, if no frame came before it."""

from __future__ import annotations

import numpy as np
import pytest

from hal.recording.matching import told_to_film
from hal.recording.parts import Event
from hal.recording.realign import FrameColumns

NOW = 1_790_000_000_000_000_000


def films(since: object, device: str = "camera") -> Event:
    return Event(NOW, "operation", device, "films", {"since": since})


FIRST = [films(NOW), films(NOW + 9_000_000)]


@pytest.mark.parametrize(
    ("events", "arrival", "armed"),
    [
        (FIRST, NOW + 3_000_000, NOW),
        (FIRST, NOW - 1, None),  # it filmed before the run, by hand
        ([films(NOW, "other")], NOW + 1, None),
        ([Event(NOW, "operation", "camera", "films")], NOW + 1, None),  # a run of an earlier version
        ([], NOW + 1, None),
    ],
)
def test_the_first_order_of_a_run_counts_if_no_frame_came_before_it(events, arrival, armed):
    n = 3
    zero = np.zeros(n, np.int64)
    frames = FrameColumns(
        zero, zero, arrival + np.arange(n), np.zeros(n), zero.astype(np.int32), zero, zero.astype(np.uint8)
    )
    assert told_to_film(events, "camera", frames) == armed
