"""The broker: where telemetry goes, and one of the lab's own where there is none (``embedded:``)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError

LOOPBACK = "127.0.0.1"
START_WITHIN = 15.0
"""Seconds a broker is given to accept connections."""
STOP_WITHIN = 5.0
"""Seconds a broker is given to end."""
PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", r"C:\Program Files\mosquitto")
"""Where mosquitto may be although it is not on the PATH."""

_KEEPER = Path(__file__).with_name("broker_process.py")


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """``mqtt://user:password@host:1883``, ``mqtts://host:8883`` or ``embedded:[port]``."""

    host: str
    port: int
    """0 for a free one (embedded only)."""
    tls: bool = False
    embedded: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """As shown in messages and files: without the password."""
        user = f"{self.username}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{host}:{self.port}"


def parse_broker(url: str) -> BrokerUrl:
    """Take the URL of a broker apart. Raises `ConfigError`."""
    scheme, _, rest = url.partition(":")
    try:
        if scheme == "embedded":
            port = int(rest or 0)
            if not 0 <= port < 65536:
                raise ValueError
            return BrokerUrl(LOOPBACK, port, embedded=True)
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError
        tls = parts.scheme == "mqtts"
        return BrokerUrl(
            parts.hostname,
            parts.port or (8883 if tls else 1883),
            tls=tls,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )
    except ValueError:
        shown = f"{scheme}:...@{rest.rpartition('@')[2]}" if "@" in rest else url
        raise ConfigError(
            f"telemetry: broker {shown!r} can't be understood; "
            'write "mqtt://host", "mqtts://user:password@host:8883", "embedded:" or "embedded:1883"'
        ) from None


class EmbeddedBroker:
    """A broker of the lab's own on the loopback interface, in a process that dies with this one.

    Mosquitto where it is installed, else amqtt. Nothing is kept on disk. The methods block for as
    long as processes take to start and end: call them on a thread.
    """

    def __init__(self, port: int = 0, *, program: Literal["", "mosquitto", "amqtt"] = "") -> None:
        """`port`: 0 for a free one. `program`: one of the two; else whichever is there."""
        self.port = port
        self.program, self._path = _program(program)
        self._free = port == 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def open(self) -> None:
        """Start it, on the same port as before if it had one; return when it accepts connections.

        Raises `ConfigError`.
        """
        self.close()
        for attempt in range(3):
            chosen = self.port or _free_port()
            if not _can_bind(chosen):
                raise ConfigError(
                    f"telemetry: port {chosen} is in use, so no broker can be embedded there; "
                    f'write "embedded:" for a free port, or "mqtt://localhost:{chosen}" for the broker that has it'
                )
            with tempfile.TemporaryFile() as errors:
                if self._start(chosen, errors):
                    self.port = chosen
                    return
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()[-500:]
            self.close()
            if not self._free or self.port or attempt == 2:
                break  # else another program may have been faster to take the free port
        raise ConfigError(f"telemetry: the embedded broker ({self.program}) did not start: {said or 'it says nothing'}")

    def close(self) -> None:
        """End it; no effect if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()  # the process ends when this pipe does
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self, port: int, errors: IO[bytes]) -> bool:
        # A session of its own: Ctrl-C in the terminal must not take the broker before the lab's last words.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_KEEPER), str(port), self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError):
                socket.create_connection((LOOPBACK, port), 1.0).close()
                return True
            time.sleep(0.02)
        return False


def _program(wanted: str) -> tuple[str, str]:
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(PLACES))
    if mosquitto and wanted != "amqtt":
        return "mosquitto", mosquitto
    if wanted != "mosquitto" and importlib.util.find_spec("amqtt") is not None:
        return "amqtt", "amqtt"
    raise ConfigError(
        "telemetry: there is no broker to embed; install mosquitto (https://mosquitto.org/download) "
        'or amqtt (pip install "insitu-hal[broker]"), or name a broker: "mqtt://host"'
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":  # elsewhere it would let us take a port that is in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
