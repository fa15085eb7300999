"""Indices from the detector's own counter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.frames.frame import Reason
from hal.frames.numbering import Numbered, Numbering


def number(
    sent: list[int],
    ticks: list[int] | None = None,
    *,
    chunk: int = 1 << 30,
    first: int = 0,
    modulus: int | None = None,
    period: float | None = None,
    armed: bool = True,
) -> tuple[Numbered, Numbering]:
    numbering = Numbering(first=first, modulus=modulus, period=period, armed=armed)
    parts = []
    for i in range(0, len(sent), chunk):
        at = None if ticks is None else np.array(ticks[i : i + chunk])
        parts.append(numbering.add(np.array(sent[i : i + chunk]), at))
    return Numbered.concatenate([*parts, numbering.flush()]), numbering


def test_dropped_frames_leave_holes_and_are_counted() -> None:
    got, numbering = number([1, 2, 4, 7, 8], first=1)
    assert got.index.tolist() == [0, 1, 3, 6, 7]
    assert got.valid.all()
    assert numbering.dropped == 3


def test_frames_lost_at_the_beginning_count_only_if_the_detector_was_armed_by_us() -> None:
    assert number([5, 6, 7])[1].dropped == 5
    assert number([5, 6, 7], armed=False)[1].dropped == 0


def test_a_repeated_number_is_a_duplicate_and_keeps_its_index() -> None:
    got, numbering = number([0, 1, 1, 2])
    assert got.reason.tolist() == [Reason.OK, Reason.OK, Reason.DUPLICATE, Reason.OK]
    assert got.index.tolist() == [0, 1, 1, 2]
    assert (numbering.duplicates, numbering.dropped) == (1, 0)


def test_the_counter_rolls_over_without_a_new_series() -> None:
    got, numbering = number([65533, 65534, 1, 2], modulus=65536, armed=False)
    assert (np.diff(got.index) == [1, 3, 1]).all()
    assert (got.series == 0).all()
    assert numbering.dropped == 2


def test_a_restart_of_the_counter_begins_a_series_even_with_its_first_frames_lost() -> None:
    got, numbering = number([0, 1, 2, 3, 9, 10, 2, 3, 5], [10 * i for i in range(9)])
    assert got.series.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert got.index.tolist() == [0, 1, 2, 3, 9, 10, 2, 3, 5]
    assert got.valid.all()
    assert numbering.dropped == 5 + 3


def test_a_restart_that_looks_like_a_roll_over_is_told_by_the_time() -> None:
    sent, ticks = [65000, 65001, 65002, 0, 1, 2], [0, 10, 20, 30, 40, 50]
    got, _ = number(sent, ticks, modulus=65536, period=10, armed=False)
    assert got.series.tolist() == [0, 0, 0, 1, 1, 1]
    assert got.index.tolist()[3:] == [0, 1, 2]


def test_acquisitions_of_one_frame_each_are_series_of_their_own() -> None:
    got, _ = number([1, 1, 1, 1], [0, 500, 900, 2000], first=1)
    assert got.series.tolist() == [0, 1, 2, 3]
    assert (got.index == 0).all()
    assert got.valid.all()


def test_a_short_series_that_starts_over_is_not_taken_for_the_old_one() -> None:
    got, _ = number([0, 1, 0, 1, 2], [0, 10, 500, 510, 520])
    assert got.series.tolist() == [0, 0, 1, 1, 1]
    assert got.index.tolist() == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("bad", [0, 99, 10**9, -5])
def test_a_corrupted_number_is_resolved_from_the_time_of_a_regular_train(bad: int) -> None:
    got, numbering = number([0, 1, 2, 3, bad, 6, 7], [0, 10, 20, 30, 50, 60, 70], period=10)
    assert got.index.tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert got.valid.all()
    assert numbering.dropped == 1


def test_without_a_period_a_corrupted_number_next_to_drops_is_invalid_and_never_guessed() -> None:
    got, numbering = number([0, 1, 2, 5000, 6, 7, 8])
    assert got.index.tolist() == [0, 1, 2, -1, 6, 7, 8]
    assert got.reason[3] == Reason.BAD_NUMBER
    assert numbering.dropped == 3


def test_a_pause_of_the_train_is_no_restart() -> None:
    got, _ = number([0, 1, 2, 3, 4, 5], [0, 10, 20, 95, 105, 115], period=10)
    assert got.index.tolist() == [0, 1, 2, 3, 4, 5]
    assert (got.series == 0).all()


def test_an_announced_restart_needs_no_three_frames() -> None:
    numbering = Numbering()
    numbering.add(np.array([0, 1, 2]))
    numbering.restart()
    got = numbering.add(np.array([0]))
    assert got.series.tolist() == [1]
    assert got.index.tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_frame_ever_gets_a_wrong_index_whatever_is_lost_repeated_or_restarted(data: st.DataObject) -> None:
    timed = data.draw(st.booleans())
    modulus = data.draw(st.sampled_from([None, 1 << 12, 1 << 32]))
    sent: list[int] = []
    ticks: list[int] = []
    truth: list[tuple[int, int]] = []
    now = 0
    for series in range(data.draw(st.integers(1, 3))):
        length = data.draw(st.integers(40, 400))
        lost = set(data.draw(st.lists(st.integers(5, length - 1), max_size=20)))
        twice = set(data.draw(st.lists(st.integers(5, length - 1), max_size=4)))
        for i in range(length):
            if i in lost:
                continue
            for _ in range(2 if i in twice else 1):
                sent.append(i if modulus is None else i % modulus)
                ticks.append(now + 1000 * i)
                truth.append((series, i))
        now += 1000 * length + data.draw(st.integers(300, 10**7))
    chunk = data.draw(st.integers(1, 300))
    period = 1000.0 if timed else None
    got, numbering = number(sent, ticks, chunk=chunk, modulus=modulus, period=period)
    assert len(got) == len(sent)
    for given_series, given_index, (series, index) in zip(got.series, got.index, truth, strict=True):
        assert (given_series, given_index) == (series, index)
    assert set(np.unique(got.reason)) <= {Reason.OK, Reason.DUPLICATE}
    whole, _ = number(sent, ticks, modulus=modulus, period=period)
    assert np.array_equal(whole.index, got.index)
    assert np.array_equal(whole.reason, got.reason)
    assert numbering.duplicates == len(truth) - len(set(truth))


def test_numbers_and_ticks_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one tick per number"):
        Numbering().add(np.arange(3), np.arange(2))
