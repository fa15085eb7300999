"""The process around an embedded broker: ends it when the lab does, also when the lab is killed.

Run as a file (``python -P broker_process.py PORT PROGRAM``) with the standard library only, so that
it starts in no time. The lab holds the other end of standard input. It writes one line there, the
settings (JSON; hashes of passwords are in it, which have no business on a command line); when it
closes, for whatever reason and on any operating system, the broker ends.
"""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

LOOK = 0.5
"""Seconds between looks at whether broker and parent are still there."""
QUEUED = 100_000_000
"""Bytes that wait for a subscriber who is slow, at most."""


def main(port: int, program: str) -> int:
    """Run the broker until it or the lab ends."""
    over = threading.Event()
    settings = json.loads(_first_line() or b"{}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the lab
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    threading.Thread(target=_watch, args=(over, os.getppid()), daemon=True).start()
    return _amqtt(port, over) if program == "amqtt" else _mosquitto(port, program, settings, over)


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):  # not a byte of what follows
        line += byte
    return line


def _watch(over: threading.Event, parent: int) -> None:
    # End of file is the rule; a child that the lab forked may hold the pipe open, hence the second look.
    def read() -> None:
        while os.read(0, 4096):
            pass
        over.set()

    threading.Thread(target=read, daemon=True).start()
    while not over.wait(LOOK):
        if os.name == "posix" and os.getppid() != parent:
            over.set()


def _mosquitto(port: int, program: str, settings: dict[str, Any], over: threading.Event) -> int:
    with tempfile.TemporaryDirectory(prefix="insitu-broker-") as folder:
        configuration = Path(folder, "mosquitto.conf")
        listeners = "".join(f"listener {port} {address}\n" for address in settings.get("listeners", ["127.0.0.1"]))
        access = "allow_anonymous true\n"
        if "passwords" in settings:
            passwords, acl = Path(folder, "passwords"), Path(folder, "acl")
            _write_private(passwords, settings["passwords"])
            _write_private(acl, settings["acl"])
            access = f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}\n"
        # As root mosquitto would become another user, and thereby forget that it is to die with us.
        same_user = f"user {getpass.getuser()}\n" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
        configuration.write_text(
            f"{listeners}{access}"
            "persistence false\n"
            # 1000 unless told: who stalls for a moment would have holes. With 0, no bound, mosquitto 2.0.11 hangs up
            # on clients that publish what the access file forbids.
            "max_queued_messages 1000000\n"
            f"max_queued_bytes {QUEUED}\n"
            "set_tcp_nodelay true\n"
            "log_dest stderr\n"
            "log_type error\n"
            "log_type warning\n" + same_user
        )
        broker = subprocess.Popen(
            [program, "-c", str(configuration)],
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        while broker.poll() is None and not over.wait(0.1):
            pass
        if broker.poll() is not None:
            return broker.returncode or 1
        broker.terminate()
        try:
            broker.wait(3.0)
        except subprocess.TimeoutExpired:
            broker.kill()
            broker.wait()
        return 0


def _write_private(path: Path, text: str) -> None:
    """Write a file that nobody else could open at any moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _die_with_parent() -> None:
    # For the case that this process itself is killed: prctl(PR_SET_PDEATHSIG, SIGTERM), see prctl(2).
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _amqtt(port: int, over: threading.Event) -> int:
    import asyncio

    from amqtt.broker import Broker

    class Discreet(Broker):  # type: ignore[misc] # it tells no types
        """amqtt 0.12 sends whoever connects what is retained for anybody's subscriptions; this one for its own."""

        async def _publish_retained_messages_for_subscription(self, subscription: Any, session: Any) -> None:
            if any(session is whose for whose, _ in self._subscriptions.get(subscription[0], ())):
                await super()._publish_retained_messages_for_subscription(subscription, session)

    configuration: dict[str, Any] = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }

    async def serve() -> None:
        broker = Discreet(configuration)
        await broker.start()
        await asyncio.to_thread(over.wait)
        await broker.shutdown()

    asyncio.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
