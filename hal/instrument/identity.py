"""Who answers `*IDN?`: the question that most instruments of message-based buses share (IEEE 488.2, 10.14)."""

from __future__ import annotations

from ..errors import WrongInstrument
from ..transport.session import Probe
from .instrument import Instrument

QUESTION = b"*IDN?"


def naming(maker: bytes) -> Probe:
    """The question as a session's probe: no other answer begins with the maker's name, in capitals, in any case."""
    return Probe(QUESTION, lambda reply: reply.upper().startswith(maker))


async def identified(device: Instrument, what: str, begins: str | tuple[str, ...]) -> str:
    """Ask, and return the answer, which must begin with (one of) `begins`, in capitals; the answer may have any case.

    what: the instrument in words, with its article: ``a Keithley 2450``. Raises `WrongInstrument`.
    """
    found = (await device.ask(QUESTION)).reply.decode("ascii", "replace").strip()
    if not found.upper().startswith(begins):
        raise WrongInstrument(device.name, f"expected {what}, found {found!r}; check `link` in the lab file")
    return found
