"""What Impulse drives has in common: questions and orders over one connection, samples over the other."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar

from devices.zmq_camera.asking import NUMBER, Questions
from hal.errors import LimitError, NoReply, Refused, WrongInstrument
from hal.instrument.instrument import Instrument
from hal.model.reading import Answer, Quality, Sample
from hal.protocols.framing import Framing, Identifies

from . import codec
from .codec import Reply
from .link import ImpulseLink

AGE = 0.5
"""How old a sample may be when it comes, s: the interval of the vendor's slowest logs (2 Hz); unverified."""
WANTED = {"heat": codec.HEAT, "bias": codec.BIAS, "gas": codec.PRESSURES | codec.FLOWS}


@dataclass(frozen=True, slots=True)
class Property:
    """A property of a topic's samples; set, if at all, by a method of the driver."""

    topic: str
    name: str
    write: str = ""

    def question(self, device: Any) -> Hashable:
        return ("sample", self.topic)

    async def ask(self, device: Any) -> Answer:
        answer: Answer = await device.sample(self.topic)
        return answer

    def value(self, device: Any, payload: dict[str, Any]) -> Sample[float]:
        found: Sample[float] = device.value(self.name, payload)
        return found

    async def put(self, device: Any, value: float) -> None:
        if not self.write:
            raise LimitError(f"{device.name}: this value can only be read; nothing was sent")
        await getattr(device, self.write)(value)


class Impulse(Instrument):
    """Base of what Impulse drives: they share its two connections."""

    vendor = "DENSsolutions"
    wires = ("tcp",)
    timeout = 2.0  # unverified
    emulator = "devices.dens_impulse.emulator:ImpulseEmulator"
    stream_option = "data_port"
    topic: ClassVar[str]
    """Of the samples it can't do without."""
    topics: ClassVar[tuple[str, ...]]
    """All whose samples it uses."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.impulse = ImpulseLink.of(self.session, self.options.data_port)
        self.properties: dict[str, frozenset[str]] = {}
        """What the samples of each active topic tell."""
        self.factors: dict[str, float] = {}
        """What turns a property's value into our unit."""
        self.over = {topic: asyncio.Event() for topic in self.topics}
        """Set while Impulse is at nothing of a topic that we know of."""
        for event in self.over.values():
            event.set()
        self._numbers = count(1)

    @classmethod
    def framing(cls, scheme: str) -> Framing:
        return Questions()

    async def identify(self) -> str:
        """Its status; raises `WrongInstrument` if what answers is not Impulse."""
        found = await self.query("impulse.getStatus")
        status = found.data.get("status")
        if found.code != codec.OK or not isinstance(status, str):
            raise WrongInstrument(
                self.name, f"expected Impulse, got {found.why} with status {status!r}; check `link` in the lab file"
            )
        return f"DENSsolutions Impulse, status {status}"

    async def connected(self) -> None:
        active = (await self.query("impulse.getAvailableDataChannels")).data.get("activeChannels")
        if not isinstance(active, list) or self.topic not in active:
            raise Refused(
                self.name, f"Impulse has no channel {self.topic!r} (active are: {active!r}); start an experiment "
                "that has it in Impulse, then open the lab again",
            )  # fmt: skip
        self.factors.clear()
        self.properties = {topic: await self._properties(topic) for topic in self.topics if topic in active}
        if self._heard not in self.impulse.on_event:
            self.impulse.on_event.append(self._heard)

    async def disconnecting(self) -> None:
        if self._heard in self.impulse.on_event:
            self.impulse.on_event.remove(self._heard)

    # ------------------------------------------------------------------ for drivers

    async def query(self, kind: str, **parameters: Any) -> Reply:
        """Ask something that changes nothing."""
        message = self._numbered(codec.request(kind, **parameters))
        return self._parsed((await self.ask(message, matches=_answers(message))).reply)

    async def order(self, kind: str, *, idle: bool = False, idempotent: bool = False, **parameters: Any) -> None:
        """Have something changed. Raises `Refused`; with `idle`, nothing to be stopped is fine too."""
        message = self._numbered(codec.request(kind, **parameters))
        given = await self.command(message, idempotent=idle or idempotent, matches=_answers(message))
        found = self._parsed(given.reply)
        if found.code != codec.OK and not (idle and found.code == codec.INVALID_OPERATION):
            raise Refused(self.name, f"{kind}: Impulse refused it: {found.why}; see what Impulse's window says")

    async def sample(self, topic: str) -> Answer:
        """The newest sample of a topic. Raises `NoReply`."""
        try:
            async with asyncio.timeout(self.timeout):
                found, arrival = await self.impulse.sample(topic)
        except TimeoutError:
            raise NoReply(
                self.name, f"no data of {topic!r} for {self.timeout:g} s; does an experiment run in Impulse?"
            ) from None
        return Answer(found, arrival, arrival)

    def value(self, name: str, found: dict[str, Any]) -> Sample[float]:
        """The property `name` of a sample, in our unit. Raises ValueError."""
        if name not in self.factors:
            return Sample(None, Quality.BAD, f"Impulse does not tell {name}")
        return Sample(codec.number(found, name) * self.factors[name])

    def factor(self, name: str) -> float:
        """What turns a property's value into our unit. Raises `Refused` if Impulse does not tell it."""
        if name not in self.factors:
            raise Refused(self.name, f"Impulse does not tell {name} in this experiment, so its unit is not known")
        return self.factors[name]

    async def begin_action(self, topic: str, kind: str, **parameters: Any) -> None:
        """Order something that takes its time; `over[topic]` is set when Impulse says that it is over."""
        if not self.over[topic].is_set():  # whether one action may follow on another unstopped is unverified
            await self.stop_action(topic)
        await self.order(kind, **parameters)
        self.over[topic].clear()
        self.impulse.forget(topic)

    async def stop_action(self, topic: str) -> None:
        """Stop what is under way, if anything is."""
        await self.order(f"{topic}.{'stopSweepCycle' if topic == 'bias' else 'stopRamp'}", idle=True)
        self.over[topic].set()
        self.impulse.forget(topic)

    # ------------------------------------------------------------------ private

    async def _properties(self, topic: str) -> frozenset[str]:
        """Learn what a topic tells, and in which unit."""
        wanted = WANTED.get(topic, {})
        told = (await self.query("impulse.getAvailableProperties", channelName=topic)).data.get("properties")
        names = frozenset(name for name in told if isinstance(name, str)) if isinstance(told, list) else frozenset()
        for name in sorted(names):
            if name not in wanted:
                continue
            about = await self.query("impulse.getPropertyInformation", channelName=topic, propertyName=name)
            theirs = str(about.data.get("unit"))
            try:
                self.factors[name] = codec.factor(theirs, self.unit_of(name, theirs) or wanted[name])
            except ValueError as error:
                raise Refused(
                    self.name, f"Impulse tells {name} in {theirs!r}: {error}; a driver that knows it is needed"
                ) from None
        return names

    def unit_of(self, name: str, theirs: str) -> str:
        """Our unit of a property that is one quantity or another, by the unit Impulse tells it in."""
        return ""

    def _heard(self, event: dict[str, Any]) -> None:
        match event:
            case {"$type": codec.FINISHED, "stimulusType": str(stimulus)} if stimulus in self.topics:
                self.over[stimulus].set()
            case {"$type": codec.POPUP | codec.NOTIFICATION, "message": told}:
                self.context.journal.note("note", self.name, f"Impulse says: {told}")

    def _numbered(self, text: bytes) -> bytes:
        return (next(self._numbers) & 0xFFFFFFFF).to_bytes(NUMBER, "big") + text

    def _parsed(self, message: bytes) -> Reply:
        try:
            return codec.parse_reply(message[NUMBER:])
        except ValueError:
            raise self.protocol_error(message[NUMBER:], "a reply of Impulse") from None


def _answers(question: bytes) -> Identifies:
    return Identifies(lambda reply: reply[:NUMBER] == question[:NUMBER], numbered=True)
