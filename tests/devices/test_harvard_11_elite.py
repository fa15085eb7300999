"""The Harvard 11 Elite: prompts that tell how it stands, targets that end a run, and liquid that stops."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.harvard_11_elite import codec
from devices.harvard_11_elite.codec import HostEnd, PumpEnd, Reply, Running
from devices.harvard_11_elite.driver import Harvard11Elite
from devices.harvard_11_elite.emulator import Harvard11EliteEmulator
from devices.physics import World
from hal.capabilities import Pump
from hal.errors import ConfigError, LimitError, NoReply, Refused, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.capabilities import lacking
from hal.model.context import Context
from hal.testing import wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session


def talk(emulator: Harvard11EliteEmulator, said: bytes) -> bytes:
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


@pytest.fixture
def pump():
    return Harvard11EliteEmulator(World())


# ---------------------------------------------------------------------- what others say and hear


def test_with_its_address_it_answers_as_flowchem_reads_it(pump):
    """flowchem 1.1.6: lines and prompt begin with two digits, also for address 0."""
    assert talk(pump, b"0VER \r\n") == b"\n00:11 ELITE I/W Single 3.0.4\r\n00:"
    assert talk(pump, b"0stp \r\n") == b"\n00:"
    assert talk(pump, b"0irate lim \r\n") == b"\n00:25.03 nl/min to 25.9927 ml/min\r\n00:"


def test_without_an_address_the_first_pump_of_a_chain_leaves_its_own_away(pump):
    """Legato 100, page 51; a laboratory's driver reads one character for a prompt."""
    assert talk(pump, b"ver\r") == b"\n11 ELITE I/W Single 3.0.4\r\n:"
    assert talk(pump, b"addr\r") == b"\nPump address is 0\r\n:"
    assert talk(pump, b"\r\n") == b"\n:"


def test_the_fastest_rate_follows_from_screw_and_motor():
    """26.0035 ml/min for 14.43 mm, as python-syringe-pump quotes one."""
    assert codec.rate_text(codec.FASTEST * codec.area(14.43)) == "26.0035 ml/min"


def test_while_polling_an_xon_follows_each_prompt(pump):
    """python-syringe-pump 0.2.1 reads until it."""
    assert talk(pump, b"poll on\r\n") == b"\n:\x11"
    assert talk(pump, b"@nvram none\r\n@irate 500 ul/min\r\n") == b"\n:\x11\n:\x11"
    assert talk(pump, b"poll\r") == b"\nON\r\n:\x11"
    assert talk(pump, b"poll off\r") == b"\n:"


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"diameter", "14.427 mm"), (b"svolume", "10 ml"), (b"tvolume", "Target volume not set"), (b"FORCE", "50%"),
        (b"ttime", "Target time not set"), (b"ivolume", "0 ul"), (b"irate", "1 ml/min"), (b"iramp", "Ramp not set up."),
        (b"status", "0 0 0 i...I."), (b"syrm", "Custom, 10 ml, 14.427 mm"), (b"echo", "OFF"), (b"load", "Quick Start"),
    ],
)  # fmt: skip
def test_it_tells_what_it_woke_up_with(pump, said, answered):
    assert talk(pump, said + b"\r") == f"\n{answered}\r\n:".encode()


@pytest.mark.parametrize(
    ("said", "then", "answered"),
    [
        (b"irat 500 u/m", b"irate", "500 ul/min"), (b"IRATE 0.5 ml/min", b"irate", "0.5 ml/min"),
        (b"irate 0.0000500000 m/m", b"irate", "50 nl/min"), (b"wrate max", b"wrate", "25.9927 ml/min"),
        (b"tvol 1.5 m", b"tvolume", "1.5 ml"), (b"tvolume 20ul", b"tvolume", "20 ul"),
        (b"diameter 28.5 mm", b"diameter", "28.5 mm"), (b"diameter 4.7000", b"diam", "4.7 mm"),
        (b"svolume 0.500000000000000 m", b"svolume", "0.5 ml"), (b"force 30", b"force", "30%"),
        (b"ttime 90", b"ttime", "90 seconds"), (b"ttime 01:00:00", b"ttime", "01:00:00"),
        (b"syrm bdp 1 ml", b"diameter", "4.699 mm"),
    ],
)  # fmt: skip
def test_what_it_is_set_to_it_tells_again_in_the_unit_it_was_told(pump, said, then, answered):
    assert talk(pump, said + b"\r") == b"\n:"
    assert talk(pump, then + b"\r") == f"\n{answered}\r\n:".encode()


@pytest.mark.parametrize(
    ("said", "first", "second"),
    [
        (b"frobnicate", "Command error:", "Unknown command"), (b"irate 99 ml/min", "Argument error: 99 ml/min", "Out"),
        (b"irate 1", "Argument error: 1", "Unknown"), (b"tvolume 11 ml", "Argument error: 11 ml", "Out of range"),
        (b"diameter 33.5", "Argument error: 33.5", "Out of range"), (b"tvolume 1 ml/min", "Argument error", "Unknown"),
        (b"poll sometimes", "Argument error: sometimes", "Unknown"), (b"force 101", "Argument error: 101", "Out"),
    ],
)  # fmt: skip
def test_a_refusal_is_a_line_of_its_kind_and_a_line_of_its_matter(pump, said, first, second):
    """Allegro manual, page 57."""
    before, kind, matter, prompt = talk(pump, said + b"\r").decode().replace("\r", "").split("\n")
    assert (before, prompt) == ("", ":")
    assert kind.startswith(first)
    assert matter.startswith(f"   {second}")


def test_a_pump_that_can_only_infuse_knows_no_withdrawing():
    pump = Harvard11EliteEmulator(World(), firmware="11 ELITE Infuse Only Single 3.0.4")
    assert b"Unknown command" in talk(pump, b"wrun\r")
    assert b"Unknown command" in talk(pump, b"wrate lim\r")
    assert pump.world.liquid == 0.0


def test_the_prompt_tells_how_it_stands(pump):
    assert talk(pump, b"irun\r") == b"\n>"
    assert pump.world.liquid == 1000.0
    assert talk(pump, b"irate 2 ml/min\r") == b"\n>"
    assert pump.world.liquid == 2000.0
    assert b"Command error" in talk(pump, b"diameter 10\r")
    assert talk(pump, b"crate\r") == b"\nInfusing at 2 ml/min\r\n>"
    assert talk(pump, b"rrun\r") == b"\n<"
    assert pump.world.liquid == -1000.0
    pump.stall()
    assert talk(pump, b"status\r").endswith(b"w.S.W.\r\n*")
    assert talk(pump, b"stp\r") == b"\n:"


def test_it_stops_at_its_target_and_says_so(pump):
    talk(pump, b"tvolume 100 ul\rirate 60 ul/min\rirun\r")
    for _ in range(11000):
        pump.advance(0.01)
    assert pump.world.liquid == 0.0
    assert talk(pump, b"ivolume\r") == b"\n100 ul\r\nT*"
    assert talk(pump, b"status\r") == b"\n0 100000 100000000000 i...IT\r\nT*"
    assert talk(pump, b"irun\r") == b"\nT*", "its counter stands at the target still"
    assert talk(pump, b"cvolume\rirun\r") == b"\nT*\n>"


def test_a_pump_that_does_not_poll_says_by_itself_that_it_has_stopped():
    """A laboratory's driver of the Legato 110 waits for a line feed and ``T*``; flowchem wants the address it gave."""
    for polls, run, said in ((b"off", b"irun", [b"\nT*"]), (b"off", b"0irun", [b"\n00T*"]), (b"on", b"irun", [])):
        pump = Harvard11EliteEmulator(World())
        talk(pump, b"poll " + polls + b"\rtvolume 1 ul\r" + run + b"\r")
        assert pump.unasked() == []
        for _ in range(20):
            pump.advance(0.01)
        assert pump.unasked() == said
        assert (pump.unasked(), pump.talking) == ([], False)


def test_a_target_time_ends_a_run_too(pump):
    talk(pump, b"ttime 2\rirun\r")
    for _ in range(300):
        pump.advance(0.01)
    assert pump.prompt == codec.TARGET
    assert pump.out["i"] == pytest.approx(1000.0 / 60 * 2, rel=1e-3)


def test_another_pumps_address_is_left_alone():
    slave = Harvard11EliteEmulator(World(), unit=12, local=False)
    assert talk(slave, b"irun\r3irun\r") == b""
    assert talk(slave, b"12irun\r") == b"\n12>"
    assert talk(slave, b"12:ver\r").startswith(b"\n12:11 ELITE")


# ---------------------------------------------------------------------- the codec, both directions

LINES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
REPLIES = st.builds(
    Reply, st.integers(0, 99), st.lists(LINES, max_size=3).map(tuple), st.sampled_from(list(codec.PROMPTS))
)


@given(st.lists(REPLIES, max_size=4), st.lists(st.integers(1, 6)))
def test_answers_survive_any_cutting_once_the_pump_polls(replies, cuts):
    framing, found, steps = HostEnd(), [], iter(cuts)
    framing.feed(b"\n00:\x11")
    stream = b"".join(reply.encode(addressed=True, polled=True) for reply in replies)
    while stream:
        size = next(steps, len(stream))
        found += framing.feed(stream[:size])
        stream = stream[size:]
    assert [Reply.decode(message) for message in found] == replies


@given(REPLIES)
def test_an_answer_of_a_pump_that_does_not_poll_ends_with_its_prompt(reply):
    (message,) = HostEnd().feed(reply.encode(addressed=True, polled=False))
    assert Reply.decode(message) == reply


@given(st.floats(1e-4, 1e5))
def test_a_volume_survives_the_wire_to_four_digits(volume):
    assert codec.parse_volume(codec.volume_text(volume))[0] == pytest.approx(volume, rel=6e-5)


@given(st.floats(1e-4, 1e5), st.sampled_from(["", "ml/hr", "ul/min", "nl/sec"]))
def test_a_rate_survives_the_wire_in_any_unit(rate, unit):
    text = codec.rate_text(rate, unit)
    assert codec.parse_rate(text)[0] == pytest.approx(rate, rel=6e-4)
    assert text.endswith(unit.partition("/")[2])


@given(st.integers(0, 10**12), st.integers(0, 10**8), st.integers(0, 10**13), st.tuples(*[st.booleans()] * 4))
def test_a_status_survives_the_wire(rate, milliseconds, volume, flags):
    told = Running(rate * 6e-8, milliseconds / 1e3, volume * 1e-9, *flags)
    again = Running.decode(told.encode())
    assert (again.withdrawing, again.moving, again.stalled, again.target) == flags
    assert (again.rate, again.seconds, again.volume) == pytest.approx((told.rate, told.seconds, told.volume), rel=1e-9)


@given(st.binary(max_size=60))
def test_no_bytes_whatever_upset_the_pump(noise):
    pump = Harvard11EliteEmulator(World())
    talk(pump, noise + b"\r")
    assert pump.world.liquid == 0.0
    HostEnd().feed(noise)
    PumpEnd().feed(noise)


# ---------------------------------------------------------------------- pumping


def test_a_ramp_goes_from_one_rate_to_another_until_a_rate_is_set(pump):
    assert talk(pump, b"iramp\r") == b"\nRamp not set up.\r\n:"
    assert talk(pump, b"iramp 1 ml/min 5 ml/min 20\rirun\r") == b"\n:\n>"
    for seconds, rate in ((5, 2000.0), (15, 5000.0), (5, 5000.0)):
        for _ in range(seconds * 100):
            pump.advance(0.01)
        assert pump.world.liquid == pytest.approx(rate, rel=1e-3)
    talk(pump, b"stp\rirate 3 ml/min\rirun\r")
    assert pump.world.liquid == pytest.approx(3000.0)


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"echo off\r\n", b"\n:"), (b"cmd ultra\r\n", b"\n:"), (b"tilt\r\n", b"\n:"), (b"boot\r\n", b"\n:"),
        (b"config a400,g1,p2.4,t24,br,n0.1,x33,e100\r\n", b"\n:"), (b"load qs\r\n", b"\n:"), (b"gang 1\r\n", b"\n:"),
        (b"iramp 1 ml/min 500 ml/min 20\r\n", b"\nArgument error: 1 ml/min 500 ml/min 20\r\n   Out of range\r\n:"),
    ],
)  # fmt: skip
def test_it_takes_what_programs_for_its_sister_send(pump, said, answered):
    """yaqd-kd-scientific 2023.12 and kdsautolib 0.0.5 (Legato 100 and 110); the ramp is none that it can pump."""
    assert talk(pump, said) == answered


@pytest.fixture
async def bench():
    options = {"diameter": 10.3, "syringe_volume": 5.0}
    async with wired(Harvard11Elite, name="pump", options=options) as (device, wire):
        yield device, wire


async def live(pump, seconds):
    await asyncio.sleep(seconds)
    await pump.state.get()  # the bench lives when it is spoken to


async def test_it_is_a_pump_and_says_who_it_is(bench):
    pump, wire = bench
    assert lacking(pump, Pump) == []
    assert pump.identity == "Harvard 11 ELITE I/W Single 3.0.4"
    assert await pump.diameter.get() == 10.3
    assert wire.emulator.syringe_volume == 5000.0
    assert wire.emulator.settings["nvram"] == "none"


async def test_it_runs_until_it_is_stopped(bench):
    pump, wire = bench
    await pump.run(30.0)
    assert await pump.rate.get() == pytest.approx(30.0)
    assert await pump.state.get() == "infusing"
    await live(pump, 60.0)
    assert wire.world.pumped == pytest.approx(30.0, rel=0.01)
    await pump.stop()
    pumped = wire.world.pumped
    await live(pump, 60.0)
    assert wire.world.pumped == pytest.approx(pumped)
    assert await pump.rate.get() == 0.0


async def test_a_volume_is_dispensed_in_the_time_its_rate_takes_and_all_volumes_add_up(bench):
    pump, wire = bench
    begun = asyncio.get_running_loop().time()
    await pump.dispense(volume=100.0, rate=60.0)
    assert asyncio.get_running_loop().time() - begun == pytest.approx(100.0, abs=1.5)
    assert wire.world.pumped == pytest.approx(100.0, abs=0.01)
    await pump.dispense(volume=20.0, rate=60.0)
    assert await pump.volume.get() == pytest.approx(120.0, abs=0.1)
    assert wire.emulator.out["i"] == pytest.approx(20.0, abs=0.01)


async def test_leaving_a_dispense_early_stops_the_liquid(bench):
    pump, wire = bench
    async with pump.dispense(volume=100.0, rate=60.0):
        await asyncio.sleep(10)
    assert wire.world.liquid == 0.0
    assert wire.world.pumped == pytest.approx(10.0, rel=0.02)


async def test_stop_is_sent_even_if_nothing_is_known_to_run(bench):
    pump, wire = bench
    wire.emulator.respond(b"irun")  # from the keypad
    assert wire.world.liquid > 0.0
    await pump.stop()
    assert wire.world.liquid == 0.0


async def test_the_safe_state_is_one_message(bench):
    pump, wire = bench
    await pump.safe_state()
    assert wire.sent == [b"00stp\r\n"]


async def test_withdrawing_counts_backwards():
    async with wired(Harvard11Elite, name="pump", options={"direction": "withdraw"}) as (pump, _):
        await pump.run(60.0)
        await asyncio.sleep(10)
        assert await pump.rate.get() == pytest.approx(-60.0)
        assert await pump.volume.get() == pytest.approx(-10.0, rel=0.02)


async def test_what_the_syringe_can_not_give_never_reaches_the_wire(bench):
    pump, wire = bench
    fastest = codec.FASTEST * codec.area(10.3)
    for rate in (fastest * 1.01, -1.0, 0.0, float("nan")):
        with pytest.raises(LimitError, match="nothing was sent"):
            pump.run(rate)
        with pytest.raises(LimitError, match="nothing was sent"):
            pump.dispense(10.0, rate)
    for volume in (5001.0, 0.0, -1.0, float("nan")):
        with pytest.raises(LimitError, match="nothing was sent"):
            pump.dispense(volume, 10.0)
    assert not wire.sent


# ---------------------------------------------------------------------- trouble


async def test_a_pump_that_took_something_else_is_not_started(bench):
    pump, wire = bench
    known = wire.emulator._known
    wire.emulator._known = lambda word, argument: known(word, "5 ul/min" if word == "irate" and argument else argument)
    with pytest.raises(Refused, match=r"pump: irate was set to 50 and reads back 5"):
        await pump.run(50.0)
    assert wire.world.liquid == 0.0


async def test_a_stall_fails_the_dispense_and_says_how_much_is_out(bench):
    pump, wire = bench
    status = pump.dispense(volume=100.0, rate=60.0)
    await asyncio.sleep(20)
    wire.emulator.stall()
    with pytest.raises(Refused, match=r"it stopped after (19|20)[.0-9]* of 100 uL and is stalled"):
        await status


async def test_a_refusal_is_told_in_the_pumps_words(bench):
    pump, wire = bench
    wire.emulator.syringe_volume = 50.0  # changed at the keypad
    with pytest.raises(Refused, match=r"'tvolume 100 ul' was refused: Argument error: 100 ul Out of range"):
        await pump.dispense(volume=100.0, rate=60.0)
    assert wire.world.liquid == 0.0


async def test_a_pump_that_was_switched_off_and_on_and_forgot_to_poll_is_still_stopped(bench):
    pump, wire = bench
    await pump.run(60.0)
    wire.emulator.settings["poll"] = "off"
    await pump.stop()
    assert wire.world.liquid == 0.0
    assert await pump.state.get() == "stopped"


async def test_a_dead_pump_is_named(bench):
    pump, wire = bench
    wire.faults.frozen = True
    with pytest.raises(NoReply, match=r"pump: no reply to b'00status'"):
        await pump.rate.get()


async def test_another_instrument_is_not_taken_for_a_pump():
    with pytest.raises(WrongInstrument, match=r"expected a Pump 11 Elite, found 'PHD ULTRA 2.0.5'"):
        async with wired(Harvard11Elite, name="pump", firmware="PHD ULTRA 2.0.5"):
            pass


async def test_an_infusing_pump_is_not_asked_to_withdraw():
    with pytest.raises(ConfigError, match="can only infuse"):
        async with wired(Harvard11Elite, options={"direction": "withdraw"}, firmware="11 ELITE Infuse Only 3.0.4"):
            pass


@pytest.mark.parametrize(
    "options", [{"diameter": 0.0}, {"diameter": 34.0}, {"direction": "up"}, {"syringe_volume": -1.0}], ids=str
)
async def test_impossible_options_are_mistakes_in_the_lab_file(options):
    with pytest.raises(ConfigError):
        async with wired(Harvard11Elite, name="pump", options=options):
            pass


# ---------------------------------------------------------------------- a real wire


@pytest.mark.real_clock
async def test_on_a_real_serial_line_two_pumps_of_a_chain_keep_apart():
    world = World()
    ends = [Harvard11EliteEmulator(world), Harvard11EliteEmulator(World(), unit=5, local=False)]
    port = await PtyPort(Bench(world).wire(ends, "serial")).open()
    context = Context()
    session = Session(SerialLink(port.path, Harvard11Elite.line), HostEnd(), timebase=context.timebase)
    first, second = (Harvard11Elite(session, f"p{unit}", unit=unit, context=context) for unit in (0, 5))
    try:
        await first.connect()
        await second.connect()
        await first.dispense(volume=5.0, rate=600.0)
        assert world.pumped == pytest.approx(5.0, abs=0.01)
        assert ends[1].out == {"i": 0.0, "w": 0.0}
    finally:
        await context.close()
        await first.disconnect()
        await second.disconnect()
        await port.close()
