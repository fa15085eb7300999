"""The lease, against a model that remembers everything: never two writers, never one beyond its time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hal.telemetry.lease import Lease, LeaseError

LENGTH = 10  # s
people = st.sampled_from(["anna", "ben", "eve"])


class Leases(RuleBasedStateMachine):
    """Three people, who may show any token ever given out."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.lease = Lease(LENGTH, token=lambda: f"t{next(self.numbers)}")
        self.now = 1_000
        self.owner: dict[str, str] = {}  # of each token given out
        self.current: tuple[str, str, int] | None = None  # who, token, until

    def valid(self, user: str, token: str) -> bool:
        return self.current is not None and self.now < self.current[2] and self.current[:2] == (user, token)

    @rule(seconds=st.integers(0, 15))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1_000_000_000

    @rule(user=people)
    def take(self, user: str) -> None:
        free = self.current is None or self.now >= self.current[2] or self.current[0] == user
        if not free:
            with pytest.raises(LeaseError, match="has the lease for another"):
                self.lease.take(user, self.now)
            return
        grant = self.lease.take(user, self.now)
        assert grant.token not in self.owner
        self.owner[grant.token] = user
        self.current = (user, grant.token, self.now + LENGTH * 1_000_000_000)
        assert grant.until == self.current[2]

    @rule(user=people, which=st.integers(0, 50))
    def renew(self, user: str, which: int) -> None:
        token = f"t{which}"
        if self.valid(user, token):
            grant = self.lease.renew(user, token, self.now)
            assert grant.token == token
            self.current = (user, token, grant.until)
            assert grant.until == self.now + LENGTH * 1_000_000_000
        else:
            with pytest.raises(LeaseError):
                self.lease.renew(user, token, self.now)

    @rule(user=people)
    def renew_the_latest(self, user: str) -> None:
        if self.current is not None:
            self.renew(user, int(self.current[1][1:]))

    @rule(user=people)
    def give_back_the_latest(self, user: str) -> None:
        token = "t0" if self.current is None else self.current[1]
        if self.valid(user, token):
            self.lease.give(user, token, self.now)
            self.current = None
        else:
            with pytest.raises(LeaseError):
                self.lease.give(user, token, self.now)

    @invariant()
    def only_the_holder_of_the_latest_token_may_set(self) -> None:
        allowed = []
        for token, user in itertools.product(self.owner, ["anna", "ben", "eve"]):
            try:
                self.lease.check(user, token, self.now)
            except LeaseError:
                continue
            allowed.append((user, token))
        expected = [self.current[:2]] if self.current is not None and self.now < self.current[2] else []
        assert allowed == expected


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_token_cannot_be_guessed_from_the_one_before() -> None:
    lease = Lease(60)
    tokens = {lease.take("anna", 0).token for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 16 for token in tokens)
