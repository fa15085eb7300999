"""Every error the HAL raises on purpose, as one tree; each message ends with what to do about it.

The form of a message is ``who: what happened; what to do``. Each class also derives
from the builtin a Python programmer would expect to catch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HalError(Exception):
    """Root of every error this project raises on purpose."""


class ConfigError(HalError, ValueError):
    """The lab file asks for something that can't be built; nothing was opened."""


class UnitError(HalError, ValueError):
    """A unit the closed table does not know, or two units of different dimensions."""


class LimitError(HalError, ValueError):
    """A value outside its limits; nothing was sent to the device."""


class CapabilityError(HalError, TypeError):
    """A device does not offer what the caller needs of it."""


class RecordError(HalError, OSError):
    """A run's record can't be written, opened or repaired."""


class ClockError(HalError, ValueError):
    """A clock can't be related to the lab's timebase."""


class Superseded(HalError):
    """A later operation on the same device took this one's place."""


class InterlockTripped(HalError):
    """A trip: the lab went to its safe state and its write gate is closed until acknowledged."""


class DeviceError(HalError):
    """Base of what one device reports or does wrong; carries the device's name."""

    def __init__(self, device: str, message: str) -> None:
        super().__init__(f"{device}: {message}")
        self.device = device

    def __reduce__(self) -> tuple[type[DeviceError], tuple[str, str]]:
        return type(self), (self.device, str(self).removeprefix(f"{self.device}: "))


class LinkLost(DeviceError, ConnectionError):
    """The cable, port or socket is gone."""


class NoReply(DeviceError, TimeoutError):
    """The link is up, but the device did not answer in time."""


class ProtocolError(DeviceError):
    """The device answered with bytes its manual does not allow."""


class WrongInstrument(DeviceError):
    """Another instrument than the configured one answers on the link."""


class Refused(DeviceError):
    """The device understood the message and refused it, with its own error code."""


def near(word: str, known: Iterable[str]) -> str:
    """For a message about a word that is not known: which of those known may have been meant, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
