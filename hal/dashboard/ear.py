"""Listening to the broker, and the two things a dashboard may say: stop, and acknowledge."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import time
import uuid
from contextlib import suppress

from ..errors import HalError
from ..telemetry.broker import BrokerUrl, explained
from ..telemetry.command_topics import Command, Reply, Verb, command_topic, encode_command
from ..telemetry.topics import META, READINGS
from .model import HISTORY, LOCAL, Board
from .mqtt import REFUSALS, Message, Wire, connect

log = logging.getLogger("hal.dashboard")

LOOK = 0.2
"""Seconds between two looks for signals that have fallen silent."""
PATIENCE = 6.0
"""Seconds a lab is given to answer, and a broker."""
AGAIN = (1.0, 2.0, 4.0, 8.0)
"""Seconds until a broker that was lost is sought again; the last one from then on."""
KINDS = ("signals", "devices", "alarms", "clocks", "events", "streams", "detector")
"""What is listened to below ``insitu-meta/<lab>/``, beside single topics; other people's commands are not."""


class Ear:
    """A connection to one broker that keeps `board` up to date and seeks the broker again when it is lost."""

    def __init__(self, broker: BrokerUrl, board: Board, *, user: str = "", password: str | None = None) -> None:
        """Raises `ConfigError` if the broker's certificates can't be read."""
        self.broker, self.board, self.user = broker, board, user
        self.connected = False
        self.trouble = f"not yet connected to {broker}"
        """Why it is not connected; for people."""
        self._password, self._tls = password, broker.tls_context()
        self._replies: dict[str, asyncio.Future[Reply]] = {}
        self._wire: Wire | None = None

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look())
            failed = 0
            while True:
                failed = 0 if await self._listen() else failed + 1
                await asyncio.sleep(AGAIN[min(failed, len(AGAIN) - 1)])

    async def command(self, lab: str, verb: Verb, command: Command) -> Reply:
        """Send a command and return the lab's answer. Raises `HalError` if it could not be sent or nobody answers."""
        if self._wire is None or not self.connected:
            raise HalError(f"{lab}: {verb} was NOT sent: {self.trouble}; go to the instruments")
        answered = asyncio.get_running_loop().create_future()
        self._replies[command.id] = answered
        self._wire.publish(command_topic(lab, self.user or LOCAL, verb), encode_command(command))
        log.info("%s: %s sent as %s", lab, verb, self.user or LOCAL)
        try:
            async with asyncio.timeout(PATIENCE):
                reply: Reply = await answered
                return reply
        except TimeoutError:
            raise HalError(
                f"{lab}: no answer to {verb} in {PATIENCE:g} s; whether it was done is not known: go to the instruments"
            ) from None
        finally:
            del self._replies[command.id]

    # ------------------------------------------------------------------ private

    async def _look(self) -> None:
        """See what has fallen silent, also without a broker."""
        while True:
            self.board.look(time.monotonic())
            await asyncio.sleep(LOOK)

    async def _listen(self) -> bool:
        """Connect, and listen until the connection is lost; False if there was none."""
        me = self.user or LOCAL
        # Live readings are for looking: at QoS 0 a slow dashboard costs nobody anything.
        meta = [f"{META}/+/+", *(f"{META}/+/{kind}/#" for kind in KINDS), f"{META}/+/replies/{me}"]
        topics = [(READINGS, 0), (f"{HISTORY}/#", 1), *((topic, 1) for topic in meta)]
        hello = connect(f"haldash{uuid.uuid4().hex[:16]}", self.user, self._password)
        wire: Wire | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                _, wire = await asyncio.get_running_loop().create_connection(
                    lambda: Wire(hello, topics, self._take_in), self.broker.host, self.broker.port, ssl=self._tls
                )
                await asyncio.wait((wire.accepted, wire.lost), return_when=asyncio.FIRST_COMPLETED)
            if not wire.accepted.done():
                raise wire.lost.result() or ConnectionError("it hangs up without a word")
            if (code := wire.accepted.result()) != 0:
                who = self.user or "anonymous listeners"
                self._lost(f"{self.broker} refuses {who}: {REFUSALS.get(code, f'code {code}')}")
                return False
            self._wire, self.connected, self.trouble = wire, True, ""
            log.info("listening to %s", self.broker)
            skipped = 0
            while not wire.lost.done():
                await asyncio.wait((wire.lost,), timeout=1.0)
                wire.look()
                if wire.skipped > skipped:
                    self.board.too_long(wire.skipped - skipped)
                    skipped = wire.skipped
            error = wire.lost.result()
            self._lost(f"the connection to {self.broker} was lost" + (f" ({_why(error)})" if error else ""))
            return True
        except ssl.SSLError as error:
            self._lost(f"{self.broker}: {explained(error)}")
            return False
        except (OSError, TimeoutError) as error:
            self._lost(f"no broker answers at {self.broker} ({_why(error)}); is it running?")
            return False
        finally:
            self._wire, self.connected = None, False
            if wire is not None:
                wire.close()

    def _lost(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.warning("%s", trouble)
        self.trouble = trouble

    def _take_in(self, messages: list[Message]) -> None:
        """Feed the board what came."""
        now, feed = time.monotonic(), self.board.feed
        for topic, payload in messages:
            if topic.startswith(f"{META}/") and topic.split("/")[2:3] == ["replies"]:
                self._replied(payload)
            else:
                feed(topic, payload, now)

    def _replied(self, payload: bytes) -> None:
        with suppress(ValueError, TypeError, AttributeError, KeyError):
            found = json.loads(payload)
            waiting = self._replies.get(str(found["id"]))
            if waiting is not None and not waiting.done():
                waiting.set_result(Reply(found["id"], found["ok"] is True, str(found["text"]), int(found["time"])))


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        return explained(error)
    if isinstance(error, TimeoutError):
        return "it takes too long"
    # asyncio puts addresses into `strerror`, and errors of names (socket.gaierror) have numbers of their own.
    return (os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)).lower()
