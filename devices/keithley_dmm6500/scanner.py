"""The scanner card of an emulated multimeter: ten channels that it closes one after the other (`:ROUTe`).

Commands as PyMeasure's and qcodes-contrib's drivers send them, whose authors had a card 2000-SCAN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from devices.keithley_triggers import Steps
from hal.protocols.scpi import Entry, setting
from hal.protocols.scpi_parameters import Boolean, Numeric, ScpiError, Text

CHANNELS = 10
NONE, CARD, PSEUDO = "Empty Slot", "2000,10-Chan Mux,0.0.0a,00000000", "2000,Pseudo 10Ch Mux,0.0.0a,00000000"
"""Answers to ``:SYST:CARD1:IDN?`` (qcodes-contrib-drivers; the pseudo card's end unverified)."""


class Channels:
    """A list of channels: ``(@1,3:5)``."""

    def parse(self, text: str) -> tuple[int, ...]:
        if not (text.startswith("(@") and text.endswith(")")):
            raise ScpiError(-104)
        try:
            return tuple(chain.from_iterable(_span(part) for part in text[2:-1].split(",") if part.strip()))
        except ValueError:
            raise ScpiError(-102) from None

    def show(self, value: Sequence[int]) -> str:
        runs: list[list[int]] = []
        for channel in value:
            if runs and channel == runs[-1][-1] + 1:
                runs[-1].append(channel)
            else:
                runs.append([channel])
        return f"(@{','.join(str(run[0]) if len(run) == 1 else f'{run[0]}:{run[-1]}' for run in runs)})"


def _span(part: str) -> range:
    first, _, last = part.partition(":")
    return range(int(first), int(last or first) + 1)


class Scanner:
    """Which channel is closed, which are scanned, and whether there is a card at all."""

    def __init__(self, measure: Callable[[str], float], clear: Callable[[str], None], card: bool) -> None:
        self.measure, self.clear = measure, clear
        self.identity = CARD if card else NONE
        self.closed = 0
        """The channel that is closed, 0 if none is."""
        self.channels: tuple[int, ...] = ()
        self.values: dict[str, Any] = {}

    def reset(self) -> None:
        self.closed, self.channels = 0, ()
        self.values |= {"count": 1, "interval": 0.0, "buffer": "defbuffer1"}

    def check(self, channels: Sequence[int]) -> Sequence[int]:
        """Channels that exist. Raises `ScpiError`."""
        if self.identity == NONE or not all(1 <= channel <= CHANNELS for channel in channels):
            raise ScpiError(-222)  # code unverified
        return channels

    def steps(self) -> Steps:
        """One scan after the other."""
        done = 0
        self.clear(self.values["buffer"])
        while not self.values["count"] or done < self.values["count"]:
            done, took = done + 1, 0.0
            for channel in self.channels:
                self.closed = channel
                took += (step := self.measure(self.values["buffer"]))
                yield step
            if done != self.values["count"]:
                yield max(self.values["interval"] - took, 1e-5)
        self.closed = 0

    def table(self) -> Iterator[Entry]:
        some = (Channels(),)
        yield Entry(":ROUTe[:CHANnel]:CLOSe", self._close, lambda: self._list((self.closed,)), some)
        yield Entry(
            ":ROUTe[:CHANnel]:CLOSe:STATe", asks=some, asks_at_least=1,
            read=lambda channels: ",".join(str(int(c == self.closed)) for c in self.check(channels)),
        )  # fmt: skip
        yield Entry(":ROUTe[:CHANnel]:OPEN", self._open, takes=some)
        yield Entry(":ROUTe[:CHANnel]:OPEN:ALL", write=lambda: setattr(self, "closed", 0))
        root = ":ROUTe:SCAN"
        yield Entry(f"{root}[:CREate]", self._create, lambda: Channels().show(self.channels), some, optional=1)
        yield Entry(f"{root}:ADD", lambda more: self._create(self.channels + more), takes=some)
        yield setting(f"{root}:COUNt:SCAN", "count", Numeric(0, 1e8, 1, whole=True), self.values)
        yield setting(f"{root}:INTerval", "interval", Numeric(0, 1e5, 0, "s", "{:.6g}"), self.values)
        yield setting(f"{root}:BUFFer", "buffer", Text("defbuffer1", bare=True), self.values)
        yield Entry(f"{root}:COUNt:STEP", read=lambda: str(len(self.channels)))
        yield self._of_channels(":ROUTe[:CHANnel]:DELay", Numeric(0, 60, form="{:.6g}"))
        yield self._of_channels(":ROUTe[:CHANnel]:LABel", Text())
        yield Entry(":SYSTem:CARD[1]:IDN", read=lambda: self.identity)
        yield Entry(":SYSTem:CARD[1]:VCHannel[:STARt]", read=lambda: self._number(1))
        yield Entry(":SYSTem:CARD[1]:VCHannel:END", read=lambda: self._number(CHANNELS))
        yield Entry(":SYSTem:CARD[1]:VMAX", read=lambda: self._number(110))
        yield Entry(
            ":SYSTem:PCARd[1]", self._pretend, lambda: "2000" if self.identity == PSEUDO else "0",
            (Numeric(0, 2000, whole=True),),
        )  # fmt: skip
        yield setting(f"{root}:ALARm", "alarm", Boolean(), self.values)

    def _of_channels(self, header: str, kind: Numeric | Text) -> Entry:
        """Something that is kept for each channel."""
        kept: dict[int, Any] = self.values.setdefault(header, {})

        def write(value: Any, channels: tuple[int, ...]) -> None:
            kept.update(dict.fromkeys(self.check(channels), value))

        def read(channels: tuple[int, ...]) -> str:
            return ",".join(kind.show(kept.get(channel, kind.default)) for channel in self.check(channels))

        return Entry(header, write, read, (kind, Channels()), (Channels(),), asks_at_least=1)

    def _close(self, channels: tuple[int, ...]) -> None:
        self.closed = self.check(channels)[-1] if channels else 0

    def _open(self, channels: tuple[int, ...]) -> None:
        if self.closed in self.check(channels):
            self.closed = 0

    def _create(self, channels: tuple[int, ...] = ()) -> None:
        self.channels = tuple(self.check(channels)) if channels else ()

    def _pretend(self, model: float) -> None:
        if self.identity != CARD:
            self.identity = PSEUDO if model == 2000 else NONE

    def _number(self, value: int) -> str:
        return str(value if self.identity != NONE else 0)

    @staticmethod
    def _list(channels: tuple[int, ...]) -> str:
        return Channels().show([channel for channel in channels if channel])
