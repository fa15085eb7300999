"""Instrument: a device on a session, with a unit and a channel of its own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from ..errors import HalError, ProtocolError
from ..model.context import Context
from ..model.device import Device
from ..protocols.framing import Framing
from ..transport.link import SerialSettings
from ..transport.session import Exchange, FollowUp, LinkState, Matches, Probe, Session


@dataclass(frozen=True, slots=True)
class NoOptions:
    """A driver without settings of its own."""


class Instrument(Device):
    """Base of drivers of real instruments.

    A driver states its wire in class attributes and declares its signals; `identify` must raise
    `WrongInstrument` if something else answers.
    """

    model: ClassVar[str] = ""
    vendor: ClassVar[str] = ""
    Options: ClassVar[type] = NoOptions
    """A frozen dataclass with the driver's own settings in a lab file."""
    wires: ClassVar[tuple[str, ...]] = ("serial", "tcp")
    """Schemes of links it can be reached by, the usual one first."""
    line: ClassVar[SerialSettings] = SerialSettings()
    """The serial line as the manual gives it."""
    timeout: ClassVar[float] = 1.0
    """Longest time an answer takes, s."""
    pace: ClassVar[float] = 0.0
    """Least time between two messages, s."""
    emulator: ClassVar[str] = ""
    """Where its emulator is: ``package.module:Class``."""
    asks_who: ClassVar[bool] = True
    """Whether `identify` asks the instrument; one that can't be asked is taken at the lab file's word."""
    asks_with: ClassVar[Mapping[str, Any]] = {}
    """Values of the options that a lab file must give, good enough to ask who is there."""
    verified: ClassVar[str] = ""
    """How far the driver is known to be right: manual, third-party driver, real instrument."""

    def __init__(
        self,
        session: Session,
        name: str = "",
        *,
        unit: int | str | None = None,
        channel: int | str | None = None,
        options: Any = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(name, context=context)
        self.session, self.unit, self.channel = session, unit, channel
        self.options = options if options is not None else self.Options()
        self.identity = ""
        """Who answered, as of `identify`."""

    # ------------------------------------------------------------------ drivers override

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        """A fresh framing for a link of this scheme."""
        raise NotImplementedError(f"{cls.__name__} does not say how its messages are framed")

    @cached_property
    def probe(self) -> Probe | None:
        """A question by which a session can resynchronise, if the protocol has one.

        An instrument whose replies do not say what they answer (`Identifies`) needs it: without, a reply that
        comes late may be taken for another's if it is late enough.
        """
        return None

    async def identify(self) -> str:
        """Return who answers on the link; raise `WrongInstrument` if it is another."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it identifies itself")

    async def connected(self) -> None:
        """Read what the driver must know before use (full scale, units); after `identify`, before scripts."""

    async def prepare(self) -> None:
        """Set what the driver's options ask for; after `connected`, and not where a lab is only looked at."""

    async def disconnecting(self) -> None:
        """Let go of what `connected` took (further sockets, tasks)."""

    # ------------------------------------------------------------------ life

    # Not `open` and `close`: those are verbs of valves and flow controllers.

    async def connect(self) -> None:
        """Open the link, make sure of the instrument. Raises `LinkLost`, `NoReply`, `WrongInstrument`."""
        if self.name not in self.session.users:
            self.session.users.append(self.name)
        await self.session.open()
        await self._verify()
        if self._verify not in self.session.verify:
            self.session.verify.append(self._verify)

    async def disconnect(self) -> None:
        """Let go of the instrument; the session closes with its last user."""
        await self.disconnecting()
        if self.name in self.session.users:
            self.session.users.remove(self.name)
        if self._verify in self.session.verify:
            self.session.verify.remove(self._verify)
        if not self.session.users:
            await self.session.close()

    async def _verify(self) -> None:
        self.identity = await self.identify()
        try:
            await self.connected()
            if not self.context.gate.closed:
                await self.prepare()
        except HalError as error:
            # After a trip a driver can't set its instrument up again. Found again, it can go to its safe state.
            if not (self.context.gate.closed and self.session.state is LinkState.RECONNECTING):
                raise
            self.context.journal.note("error", self.name, f"not set up again after the trip: {error}")

    # ------------------------------------------------------------------ what drivers speak with

    async def ask(
        self,
        question: bytes,
        *,
        timeout: float | None = None,
        repeatable: bool = True,
        matches: Matches | None = None,
        then: FollowUp | None = None,
    ) -> Exchange:
        """Ask the instrument; see `Session.ask`."""
        return await self.session.ask(
            question,
            owner=self.name,
            timeout=timeout or self.timeout,
            repeatable=repeatable,
            matches=matches,
            then=then,
            probe=self.probe,
        )

    async def command(
        self, message: bytes, *, timeout: float | None = None, idempotent: bool = False, matches: Matches | None = None
    ) -> Exchange:
        """Send a change that is answered; see `Session.command`."""
        return await self.session.command(
            message,
            owner=self.name,
            timeout=timeout or self.timeout,
            idempotent=idempotent,
            matches=matches,
            probe=self.probe,
        )

    async def tell(self, message: bytes, *, idempotent: bool = False) -> int:
        """Send a change that is not answered; see `Session.tell`."""
        return await self.session.tell(message, owner=self.name, idempotent=idempotent)

    def protocol_error(self, reply: bytes, expected: str) -> ProtocolError:
        """The error of a reply the manual does not allow."""
        return ProtocolError(
            self.name, f"expected {expected}, got {reply!r}; check the line settings and `driver` in the lab file"
        )

    @cached_property
    def fields(self) -> dict[str, Any]:
        """What addresses may name in braces: unit, channel and the options."""
        return {"unit": self.unit, "channel": self.channel, **asdict(self.options)}

    @property
    def wire(self) -> Hashable:
        return id(self.session)

    @property
    def reconnecting(self) -> bool:
        return self.session.state is LinkState.RECONNECTING
