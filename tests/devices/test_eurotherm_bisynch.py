"""Eurotherm in EI-Bisynch: two letters for a register, refusals with a reason in EE, and an address that may change.

Sources of the exchanges: HA026230 (issue 3), chapter 4; the protocol files of Diamond's and ISIS's EPICS support
`eurotherm2k`; nomad-camels-driver-eurotherm-bisynch 0.1.0; BisynchBath, a program for Isotech's baths with a 3504.
"""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.eurotherm_3504.emulator import Eurotherm3216Emulator, Eurotherm3504Emulator
from devices.physics import World
from hal.instrument.bench import Bench
from hal.instrument.serving import TcpPort
from hal.protocols.bisynch import ACK, EOT, NAK, answer, poll, select


def controller(unit: int = 1) -> Eurotherm3504Emulator:
    return Eurotherm3504Emulator(World(), unit=unit, protocol="bisynch")


def value(instrument: Eurotherm3504Emulator, name: str, unit: int = 1) -> str:
    """What the instrument answers a poll, its form checked."""
    reply = instrument.respond(poll(unit, name))
    assert reply is not None
    text = reply[1 + len(name) : -2].decode()
    assert reply == answer(name, text)
    return text


def test_the_manuals_examples_are_answered() -> None:
    instrument = controller()
    instrument.pv = 16.4
    assert instrument.respond(bytes.fromhex("0430303131505605")) == bytes.fromhex("02505631362e340318")
    assert instrument.respond(bytes.fromhex("043030313102534c32322e300302")) == ACK
    assert instrument.target == 22.0


def test_both_protocols_show_one_instrument() -> None:
    instrument = controller()
    for name, text in (("S1", "80.0"), ("RR", "10"), ("HO", " +050.0 "), ("TI", "12"), ("mA", "1")):
        assert instrument.respond(select(1, name, text)) == ACK
    assert (instrument.sp1, instrument.rate, instrument.integral, instrument.manual) == (80.0, 10.0, 12.0, 1)
    assert [value(instrument, name) for name in ("SL", "HO", "TI", "SS", "1SL")] == ["80.0", "50.0", "12", "0", "80.0"]
    assert value(instrument, "II") == ">3504"
    assert value(instrument, "V0") == ">0291"
    assert int(value(instrument, "SO")) & 16  # manual


def test_a_ramp_is_the_instruments_own() -> None:
    instrument = controller()
    assert instrument.respond(select(1, "RR", "60.0")) == ACK
    assert instrument.respond(select(1, "SL", "125.0")) == ACK
    for _ in range(500):
        instrument.world.advance(0.1)
        instrument.advance(0.1)
    assert 70 < float(value(instrument, "SP")) < 80
    assert value(instrument, "SL") == "125.0"


@pytest.mark.parametrize(
    ("message", "reply", "status"),
    [
        (poll(1, "QQ"), EOT, 1),
        (poll(1, "2PV"), EOT, 1),  # one loop, one channel
        (select(1, "QQ", "1"), NAK, 1),
        (select(1, "PV", "100.0"), NAK, 2),
        (select(1, "OP", "50.0"), NAK, 2),  # automatic: the loop's
        (select(1, "SL", "22.0")[:-1] + b"\x7f", NAK, 7),
        (select(1, "SL", "hot"), NAK, 7),
        (select(1, "SL", "1e2"), NAK, 7),
        (select(1, "SL", "nan"), NAK, 7),
        (select(1, "SL", ">0010"), NAK, 7),
        (select(1, "SL", ""), NAK, 7),
        (select(1, "SL", "1200.1"), NAK, 8),  # beyond the limits of the setpoint
        (select(1, "mA", "2"), NAK, 8),
        (select(1, "IM", "3"), NAK, 8),  # would damage a real one (5.4)
        (poll(1, "PV"), None, 0),
    ],
)
def test_what_is_refused_is_refused_by_its_number(message: bytes, reply: bytes | None, status: int) -> None:
    instrument = controller()
    found = instrument.respond(message)
    if reply is not None:
        assert found == reply
    assert value(instrument, "EE") == f">{status:04X}"
    assert instrument.target == 25.0
    assert instrument.respond(select(1, "SL", "30.0")) == ACK
    assert value(instrument, "EE") == ">0000"


def test_only_the_one_that_is_addressed_answers_and_a_broadcast_is_obeyed_in_silence() -> None:
    bus = [controller(1), controller(12)]
    assert [unit.respond(poll(12, "PV")) is None for unit in bus] == [True, False]
    assert [unit.respond(b"\x04~~~~" + answer("SL", "40.0")) for unit in bus] == [None, None]
    assert [unit.respond(b"\x04~~22" + answer("SL", "50.0")) for unit in bus] == [None, None]
    assert [unit.target for unit in bus] == [40.0, 50.0]


def test_ack_asks_for_the_next_parameter_and_nak_for_the_same_until_the_host_turns_away() -> None:
    instrument = controller()
    value(instrument, "S1")
    assert instrument.respond(NAK) == answer("S1", "25.0")
    assert instrument.respond(ACK) == answer("S2", "25.0")
    assert instrument.respond(ACK) == answer("SL", "25.0")
    instrument.respond(EOT)
    assert instrument.respond(ACK) is None
    instrument.respond(select(1, "SL", "30.0"))
    assert instrument.respond(NAK) is None
    value(instrument, "wc")
    assert instrument.respond(ACK) == EOT  # there is none after it


def test_values_of_fixed_length_are_filled_with_blanks() -> None:
    instrument = controller()
    assert instrument.respond(select(1, "FX", ">1")) == ACK  # leading zeros may be left out
    assert value(instrument, "S1") == "    25.0"
    assert value(instrument, "II") == ">3504"


def test_while_it_is_configured_it_heats_nothing_and_is_at_address_0() -> None:
    instrument = controller()
    instrument.respond(select(1, "SL", "400.0"))
    for _ in range(20):
        instrument.advance(0.1)
    assert float(value(instrument, "WO")) > 10
    assert instrument.respond(select(1, "IM", "2")) == ACK
    instrument.advance(0.5)
    assert instrument.respond(poll(1, "PV")) is None
    assert float(value(instrument, "WO", unit=0)) == 0
    assert instrument.respond(select(0, "IM", "0")) == ACK
    assert instrument.respond(poll(1, "PV")) is None  # it starts anew
    instrument.advance(5.1)
    assert float(value(instrument, "WO")) > 10


def test_another_protocol_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="write one of modbus, bisynch"):
        Eurotherm3216Emulator(World(), protocol="profibus")  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_noise_sets_nothing(noise: list[bytes]) -> None:
    instrument = controller()
    framing = instrument.framing("serial")
    for piece in noise:
        for message in framing.feed(piece):
            instrument.respond(message)
    assert (instrument.target, instrument.rate, instrument.manual) == (25.0, 0.0, 0)
    for message in framing.feed(EOT + poll(1, "S1")):
        reply = instrument.respond(message)
    assert reply == answer("S1", "25.0")


@pytest.mark.real_clock
async def test_the_messages_of_others_are_answered_on_a_real_wire() -> None:
    """EPICS (Diamond, ISIS) writes six decimals and whole numbers; nomad-camels ends its messages with CR LF."""
    bench = Bench(World())
    instrument = controller(3)
    port = TcpPort(bench.wire([instrument], "tcp"))
    await port.open()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)

        async def ask(message: bytes, end: bytes = b"") -> bytes:
            writer.write(message)
            return await asyncio.wait_for(reader.readuntil(end) if end else reader.readexactly(1), 5)

        assert (await ask(b"\x040033PV\x05\r\n", b"\x03")).startswith(b"\x02PV2")
        await reader.readexactly(1)  # BCC
        assert await ask(select(3, "SL", "150.000000")) == ACK
        assert await ask(select(3, "XP", "20") + b"\r\n") == ACK
        assert await ask(select(3, "SL", "150.00")) == ACK
        assert await ask(select(3, "SL", "2000")) == NAK
        assert await ask(b"\x040033EE\x05", b"\x03") == b"\x02EE>0008\x03"
        writer.close()
    finally:
        await port.close()
    assert (instrument.target, instrument.band) == (150.0, 20.0)
