"""What was commanded before: a command that comes twice acts once, and is answered twice."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from .command_topics import BadCommand, Reply

Tell = Callable[[Reply], None]


@dataclass(slots=True)
class _Known:
    """A command that came before."""

    what: bytes
    """A digest of topic and payload."""
    waiting: list[Tell]
    """Who wants to know what comes of it."""
    reply: Reply | None = None
    """None: it is under way."""


class Memory:
    """The latest commands of each user, by their ids."""

    def __init__(self, most: int) -> None:
        """`most`: so many of each user."""
        self._most = most
        self._known: defaultdict[str, OrderedDict[str, _Known]] = defaultdict(OrderedDict)

    def first(self, user: str, id: str, topic: str, payload: bytes, tell: Tell) -> Tell | None:
        """Note a command. If it is new, return what to call with its reply; `tell` gets that then.

        None if it came before: `tell` gets the reply of that time, at once or once there is one.
        Raises `BadCommand` if the id was that of another command.
        """
        known, what = self._known[user], sha256(topic.encode() + b"\0" + payload).digest()
        before = known.get(id)
        if before is not None:
            if before.what != what:
                raise BadCommand("this id was used for another command; make a new one for each")
            if before.reply is not None:
                tell(before.reply)
            else:
                before.waiting.append(tell)
            return None
        entry = known[id] = _Known(what, [tell])
        while len(known) > self._most:
            known.popitem(last=False)

        def ended(reply: Reply) -> None:
            entry.reply = reply
            for one in entry.waiting:
                one(reply)
            entry.waiting.clear()

        return ended
