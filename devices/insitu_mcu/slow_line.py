"""A line that takes its time: whatever goes to an emulated board and comes from it is late, each way by its own.

Like an adapter with a latency timer on one way only: in no exchange of time can that be seen.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import suppress

from hal.errors import ConfigError


class SlowLine:
    """Stands between a board's pseudo-terminal and whoever connects here over TCP; `out` and `back` in s."""

    def __init__(self, out: float, back: float) -> None:
        self._delays = out, back
        self._port = 0
        self._server: asyncio.Server | None = None
        self._board: int | None = None
        self._host: asyncio.StreamWriter | None = None
        self._late: tuple[deque[bytes], ...] = deque(), deque()

    @property
    def url(self) -> str:
        """Where it is reached; the same after each opening."""
        return f"tcp://127.0.0.1:{self._port}"

    async def open(self, board: str) -> None:
        """Connect to the board (`serial:///dev/...`) and listen. Raises `ConfigError`."""
        if not board.startswith("serial://"):
            raise ConfigError(f"{board}: only a board on a pseudo-terminal has a slow line; use firmware:posix")
        import tty  # not on Windows, nor is a board

        self._board = os.open(board.removeprefix("serial://"), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._board)
        asyncio.get_running_loop().add_reader(self._board, self._said)
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Cut it."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._host is not None:
            self._host.transport.abort()
            self._host = None
        if self._board is not None:
            asyncio.get_running_loop().remove_reader(self._board)
            os.close(self._board)
            self._board = None
        for late in self._late:
            late.clear()

    # ------------------------------------------------------------------ private

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = writer
        with suppress(ConnectionError):
            while data := await reader.read(4096):
                self._hold(0, data)
        if self._host is writer:
            self._host = None
        writer.close()

    def _said(self) -> None:
        assert self._board is not None
        try:
            self._hold(1, os.read(self._board, 4096))
        except BlockingIOError:
            return
        except OSError:  # it has no power any more
            asyncio.get_running_loop().remove_reader(self._board)

    def _hold(self, way: int, data: bytes) -> None:
        self._late[way].append(data)
        asyncio.get_running_loop().call_later(self._delays[way], self._let_go, way)

    def _let_go(self, way: int) -> None:
        """One piece for each call, so that they stay in order."""
        if not self._late[way]:
            return  # it was cut meanwhile
        data = self._late[way].popleft()
        if way == 0 and self._board is not None:
            with suppress(OSError):
                os.write(self._board, data)
        elif way == 1 and self._host is not None and not self._host.is_closing():
            self._host.write(data)
