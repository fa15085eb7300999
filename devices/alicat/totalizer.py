"""A totalizer of an emulated Alicat: how much has flowed, and the batch after which the valve closes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Totalizer:
    """One of the two totalizers; in units of flow times minutes."""

    statistic: int = 1
    """What it counts; 1: it is off."""
    mode: int = 0
    limit: int = 0
    digits: int = 7
    decimals: int = 2
    total: float = 0.0
    batch: float = 0.0
    """After how much the valve closes; 0: never."""

    @property
    def on(self) -> bool:
        return self.statistic != 1

    @property
    def batch_done(self) -> bool:
        return 0.0 < self.batch <= self.total

    @property
    def width(self) -> str:
        return f"{self.digits}/{self.decimals}"

    def text(self) -> str:
        return f"{self.total:0{self.digits + 1}.{self.decimals}f}"

    def count(self, flow: float, dt: float) -> None:
        if self.on and not (self.mode == 0 and flow < 0.0) and not (self.mode == 1 and flow > 0.0):
            self.total += flow * dt / 60
            full = 10.0 ** (self.digits - self.decimals)
            if self.total >= full:  # limits 1 and 3 begin anew, 0 and 2 stay (P, page 23)
                self.total = self.total - full if self.limit in (1, 3) else full - 10.0**-self.decimals
