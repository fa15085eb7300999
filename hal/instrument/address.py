"""Addresses: the places on a wire where signals live.

`Scpi` for text protocols, `Field` for a field of a report the driver fetches, `Calls` for a pair of
the driver's own methods, `Remembered` for what is set and never reported, `Soft` for values that
live in the program. `Register` and `Coil` (Modbus) are in `registers`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..errors import LimitError
from ..model.reading import Answer, Sample

T = TypeVar("T")


class ReadOnly:
    """An address that can't be set."""

    async def put(self, device: Any, value: Any) -> None:
        raise LimitError(f"{device.name}: this value can only be read; nothing was sent")


@dataclass(frozen=True, slots=True)
class Scpi(Generic[T]):
    """Text asked and told; braces name the device's unit, channel and options: ``"KRDG? {input}"``."""

    query: str
    command: str = ""
    parse: Callable[[str], T | Sample[T]] = float  # type: ignore[assignment]
    shape: Callable[[Any], Any] = lambda value: value
    """Turns the value into what the command's ``{value}`` shows."""

    def question(self, device: Any) -> Hashable:
        return self.query.format_map(device.fields)

    async def ask(self, device: Any) -> Answer:
        exchange = await device.ask(self.query.format_map(device.fields).encode("ascii"))
        return Answer(exchange.reply, exchange.sent, exchange.received)

    def value(self, device: Any, payload: bytes) -> T | Sample[T]:
        return self.parse(payload.decode("ascii").strip())

    async def put(self, device: Any, value: T) -> None:
        text = self.command.format_map(device.fields | {"value": self.shape(value)})
        await device.tell(text.encode("ascii"), idempotent=True)


@dataclass(frozen=True, slots=True)
class Field(ReadOnly):
    """A field of the report that the driver's method `report` fetches: ``async def report(self) -> Answer``."""

    name: str
    report: str = "report"
    convert: Callable[[Any], Any] = lambda value: value

    def question(self, device: Any) -> Hashable:
        return (self.report, device.unit, device.channel)

    async def ask(self, device: Any) -> Answer:
        answer: Answer = await getattr(device, self.report)()
        return answer

    def value(self, device: Any, payload: Any) -> Any:
        return self.convert(getattr(payload, self.name))


@dataclass(frozen=True, slots=True)
class Calls:
    """Two of the driver's own methods: ``async def read_x(self) -> Answer``, ``async def write_x(self, value)``."""

    read: str
    write: str = ""
    convert: Callable[[Any], Any] = lambda value: value

    def question(self, device: Any) -> Hashable:
        return (self.read, device.unit, device.channel)

    async def ask(self, device: Any) -> Answer:
        answer: Answer = await getattr(device, self.read)()
        return answer

    def value(self, device: Any, payload: Any) -> Any:
        return self.convert(payload)

    async def put(self, device: Any, value: Any) -> None:
        if not self.write:
            raise LimitError(f"{device.name}: this value can only be read; nothing was sent")
        await getattr(device, self.write)(value)


@dataclass(frozen=True, slots=True)
class Remembered:
    """A value the instrument takes and never tells: what was last set, by way of the method `write`."""

    write: str

    def question(self, device: Any) -> Hashable:
        return (self.write, id(device))

    async def ask(self, device: Any) -> Answer:
        now = device.context.timebase.now()
        return Answer(device.__dict__.get(f"_remembered_{self.write}"), now, now)

    def value(self, device: Any, payload: Any) -> Any:
        from ..model.reading import Quality

        return (
            Sample(None, Quality.BAD, "not set yet, and the instrument does not tell") if payload is None else payload
        )

    async def put(self, device: Any, value: Any) -> None:
        await getattr(device, self.write)(value)
        device.__dict__[f"_remembered_{self.write}"] = value


class Soft(Generic[T]):
    """A value that lives in the program; setting it takes no waiting."""

    __slots__ = ("initial", "key")

    def __init__(self, initial: T) -> None:
        self.initial = initial
        self.key = f"_soft_{id(self)}"

    def question(self, device: Any) -> Hashable:
        return (self.key, id(device))

    async def ask(self, device: Any) -> Answer:
        now = device.context.timebase.now()
        return Answer(device.__dict__.get(self.key, self.initial), now, now)

    def value(self, device: Any, payload: Any) -> T:
        value: T = payload
        return value

    def put_now(self, device: Any, value: T) -> None:
        device.__dict__[self.key] = value

    async def put(self, device: Any, value: T) -> None:
        device.__dict__[self.key] = value
