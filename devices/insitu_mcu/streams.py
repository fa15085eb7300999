"""Streams from the board: what came, what did not, and how much more may be sent.

A board without credit keeps what fits and drops the oldest, counting. The host grants blocks by
number, always a window ahead of the newest block it has, so that a program which stops reading
stops the board from sending, and nothing between them fills up.
"""

from __future__ import annotations

from hal.protocols.firmware import EdgeChunk, SampleChunk
from hal.protocols.firmware_gen import CapturesStart, SamplesStart, Stream, StreamStopReply, Telemetry, TelemetryStart

WINDOW = 512
"""Blocks ahead: 2.7 s of samples at 20 kS/s."""


class Ledger:
    """Blocks of one stream that were granted, came, or were lost."""

    stream: Stream
    request: object = None
    """What was asked for; None if nothing streams."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.granted = 0
        """Blocks with lower numbers may be sent."""
        self.next = 0
        """Number of the block expected next."""
        self._seen = self._newest = -1
        self.lost_blocks = 0
        """Blocks that the board sent or dropped and that never came."""
        self.received = 0
        """Samples (each input counts) or edges."""
        self.dropped = 0
        """Samples or edges the board could not send or take, as it counts them."""

    def due(self, again: bool = False) -> int | None:
        """The limit to grant now; None while there is enough, unless it is to be said `again`."""
        limit = self.next + self.window
        if again:
            # Nothing has come since: all that was granted may have been lost, then one block more says how far it is.
            stuck, self._seen = self.next == self._seen, self.next
            return max(limit, self.granted + stuck)
        return limit if limit - self.granted >= self.window // 4 else None

    def end(self, told: StreamStopReply) -> None:
        """The stream has ended; the board says how many blocks there were and how much it dropped."""
        self.lost_blocks += max(0, told.blocks - self.next)
        self.next = max(self.next, told.blocks)
        self.dropped = max(self.dropped, told.dropped)

    def _begin(self) -> None:
        self.granted, self.next, self._seen, self._newest = self.window, 0, -1, -1
        self.lost_blocks = self.received = self.dropped = 0

    def _blocks(self, first: int, last: int, n: int, began: int, ended: int) -> bool:
        """Note blocks `first` to `last`, n of them, from tick `began` to `ended`; whether they are news.

        Numbers that were seen are a repetition, but of later ticks they are of a stream begun anew: what came of the
        one before after it was ended (`begin`) is not this one's.
        """
        if first < self.next:
            if began <= self._newest:
                return False
            self._begin()
        self._newest = ended
        self.lost_blocks += max(0, last + 1 - self.next - n)
        self.next = last + 1
        return True


class Sampled(Ledger):
    """The sample stream. Every sample is received, dropped by the board, or lost on the wire."""

    stream = Stream.SAMPLES

    def __init__(self) -> None:
        super().__init__(WINDOW)
        self.request: SamplesStart | None = None
        self.per_block = 0
        """Instants in a full block."""
        self._first = self._end = 0
        self._channels = 1

    @property
    def expected(self) -> int:
        """Samples that there must have been from the first block to the end of the newest, by their ticks."""
        period = self._period or 1
        return round((self._end - self._first) / period) * self._channels

    @property
    def lost(self) -> int:
        """Samples sent by the board that never came."""
        return self.expected - self.received - self.dropped

    def begin(self, request: SamplesStart) -> None:
        self._begin()
        self.request = request

    def _begin(self) -> None:
        super()._begin()
        self._first = self._end = self._period = 0

    def take(self, chunk: SampleChunk) -> bool:
        """Enter a chunk; return whether it is news."""
        number = chunk.number
        if not self._blocks(int(number[0]), int(number[-1]), len(number), int(chunk.ticks[0]), int(chunk.ticks[-1])):
            return False
        if not self._period:
            self._period, self._channels = chunk.period, len(chunk.channels)
            self._first = int(chunk.ticks[0]) - int(number[0]) * self.per_block * chunk.period
        self.received += chunk.counts.size
        self.dropped = int(chunk.dropped[-1])
        self._end = int(chunk.ticks[-1]) + chunk.period
        return True

    _period = 0


class Captured(Ledger):
    """The stream of captured edges."""

    stream = Stream.CAPTURES

    def __init__(self) -> None:
        super().__init__(64)
        self.request: CapturesStart | None = None
        self.overrun = 0
        """Edges the hardware saw and could not stamp."""
        self.lost = 0
        """Edges sent by the board that never came."""
        self._index = 0

    def begin(self, request: CapturesStart) -> None:
        self._begin()
        self.request = request

    def _begin(self) -> None:
        super()._begin()
        self.overrun = self.lost = self._index = 0

    def take(self, chunk: EdgeChunk) -> bool:
        """Enter a chunk; return whether it is news."""
        number, newest = chunk.number, int(chunk.ticks.max())
        if not self._blocks(int(number[0]), int(number[-1]), len(number), int(chunk.ticks[0]), newest):
            return False
        self.received += len(chunk)
        self._index = int(chunk.index[-1]) + 1
        self.dropped, self.overrun = chunk.dropped, chunk.overrun
        self.lost = self._index - self.received - self.dropped
        return True


class Followed(Ledger):
    """The heater loop's lines, each a block of its own."""

    stream = Stream.TELEMETRY

    def __init__(self) -> None:
        super().__init__(WINDOW)
        self.request: TelemetryStart | None = None
        self.lines: list[Telemetry] = []

    def begin(self, request: TelemetryStart) -> None:
        self._begin()
        self.request = request

    def _begin(self) -> None:
        super()._begin()
        self.lines = []

    def take(self, line: Telemetry) -> bool:
        """Enter a line; return whether it is news."""
        if self.request is None:
            return False  # nobody asked, or nobody does any more
        if not self._blocks(line.number, line.number, 1, line.ticks, line.ticks):
            return False
        self.lines.append(line)
        self.received += 1
        self.dropped = line.dropped
        return True
