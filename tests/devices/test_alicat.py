"""The Alicat flow controller: its lines, its rules of refusal, and a valve that is closed when it should be."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.alicat import codec
from devices.alicat.codec import Frame, Setpoint
from devices.alicat.driver import Alicat
from devices.alicat.emulator import AlicatEmulator
from devices.physics import World
from hal.capabilities import FlowController
from hal.errors import ConfigError, LimitError, NoReply, Refused, UnitError, WrongInstrument
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.model.capabilities import lacking
from hal.model.context import Context
from hal.testing import wired
from hal.transport.serial import SerialLink
from hal.transport.session import Session

STANDARD = 273.15 / 298.15  # sccm in one SCCM counted at 25 degC


def talk(emulator: AlicatEmulator, said: bytes) -> bytes:
    framing = emulator.framing("serial")
    replies = (emulator.respond(message) for message in framing.feed(said))
    return b"".join(framing.encode(reply) for reply in replies if reply is not None)


async def live(mfc: Alicat, seconds: float) -> None:
    """Let time pass; the far end lives up to the latest message."""
    await asyncio.sleep(seconds)
    await mfc.flow.read()


@pytest.fixture
def far():
    return AlicatEmulator(World(), full_scale=500.0, noise=0.0)


@pytest.fixture
async def bench():
    async with wired(Alicat, name="mfc") as (mfc, wire):
        yield mfc, wire


# ---------------------------------------------------------------------- lines, as manuals and open drivers have them


def test_a_data_frame_of_a_real_controller_is_understood():
    """MC-500SCCM-D, firmware 10v20 (from the open driver alicatlib)."""
    frame = Frame.decode("A +014.62 +021.89 +000.00 +000.00 +050.00     N2")
    assert (frame.pressure, frame.flow, frame.setpoint, frame.gas, frame.states) == (14.62, 0.0, 50.0, "N2", ())


def test_valve_drive_and_totalizer_may_stand_before_the_gas():
    """Manual of the CODA/IM series, page 10, "Data Format"."""
    frame = Frame.decode("A +15.542 +24.57 +16.667 +15.444 +15.440 +81.23 +22741.4 N2")
    assert (frame.flow, frame.setpoint, frame.gas) == (15.444, 15.44, "N2")


@pytest.mark.parametrize(
    ("line", "means"),
    [("A 100 12 SCCM", (100.0, "SCCM")), ("A +500.00 12 SCCM", (500.0, "SCCM")), ("A 5 5.0000 71 NLPM", (5.0, "NLPM"))],
)
def test_a_full_scale_is_understood_in_every_form_that_was_seen(line, means):
    assert codec.decode_full_scale(line) == means


def test_a_setpoint_says_where_it_is_and_where_it_goes():
    assert Setpoint.decode("A +12.50 +50.00 12 SCCM") == Setpoint(12.5, 50.0, 0.01, "SCCM")


@pytest.mark.parametrize(
    ("line", "means"), [("A   10v20.0-R24 Jan  9 2025,15:04:07", (10, 20)), ("A 8v17.0-R23 Nov 1 2019", (8, 17))]
)
def test_firmware_is_understood(line, means):
    assert codec.decode_firmware(line) == means


@given(
    st.builds(
        Frame, *[st.floats(-99, 99).map(lambda x: round(x, 2) + 0.0)] * 5, st.sampled_from(codec.GASES),
        st.lists(st.sampled_from(list(codec.STATES)), max_size=3).map(tuple),
    )
)  # fmt: skip
def test_frames_survive_the_wire(frame):
    assert Frame.decode(frame.encode("Q", 2)) == frame


@given(st.binary(max_size=60))
def test_no_bytes_whatever_upset_either_end(noise):
    emulator = AlicatEmulator(World())
    talk(emulator, noise + b"\rA" + noise + b"\r")
    for parse in (Frame.decode, Setpoint.decode, codec.decode_full_scale, codec.decode_firmware):
        try:
            parse(noise.decode("latin-1"))
        except ValueError:
            continue


# ---------------------------------------------------------------------- the emulator, to a stranger's driver


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        # what the open driver alicat 0.9 sends
        (b"AR122\r", b"A   122 = 37\r"), (b"AW122=34\r", b"A   122 = 34\r"), (b"A$$R46\r", b"A   046 = 1\r"),
        (b"A$$W46=8\r", b"A   046 = 8\r"), (b"A$$r85\r", b"A   085 = 1\r"), (b"ALS\r", b"A +0.00 +0.00 12 SCCM\r"),
        (b"AS5.00\r", b"A +014.70 +025.00 +000.00 +000.00 +005.00     Ar\r"), (b"ALSRC\r", b"A 1 1 0 0\r"),
        (b"ASR 25.00 4\r", b"A 25.00 12 4 SCCM/s\r"), (b"AGM mix 240 50 0 50 1\r", b"A 240 0=50.00 1=50.00\r"),
        (b"AGM mix 240 50 0 40 1\r", b"?\r"), (b"AGD240\r", b"?\r"),
        (b"A$$TB 1\r", b"A 1 0.00 6 SCM3\r"), (b"AVE\r", b"A   10v20.0-R24 Jan  9 2025,15:04:07\r"),
        # the manual's guide: any case, spaces, counts
        (b"a\r", b"A +014.70 +025.00 +000.00 +000.00 +000.00     Ar\r"),
        (b"a s 15.44\r", b"A +014.70 +025.00 +000.00 +000.00 +015.44     Ar\r"),
        (b"a32000\r", b"A +014.70 +025.00 +000.00 +000.00 +250.00     Ar\r"),
        (b"ag8\r", b"A +014.70 +025.00 +000.00 +000.00 +000.00     N2\r"), (b"AGS\r", b"A 1 Ar Argon\r"),
        (b"AHC\r", b"A +014.70 +025.00 +000.00 +000.00 +000.00     Ar HLD\r"),
        (b"AL\r", b"A +014.70 +025.00 +000.00 +000.00 +000.00     Ar LCK\r"),
        (b"ALSS\r", b"A S\r"), (b"ALV\r", b"A 37\r"), (b"AFPF 5\r", b"A +500.00 12 SCCM\r"),
        (b"AXYZ\r", b"?\r"), (b"B\r", b""), (b"\r\r", b""),
    ],
)  # fmt: skip
def test_it_answers_as_manuals_and_open_drivers_have_it(far, said, answered):
    assert talk(far, said) == answered


def test_its_data_frame_is_described_line_by_line(far):
    lines = talk(far, b"A??D*\r").split(b"\r")
    assert lines[1].split() == b"A D01 700 Unit ID string 1".split()
    assert lines[5].split() == b"A D05 005 Mass Flow s decimal 7/2 012 02 SCCM".split()
    assert [line[:1] for line in lines] == [b"A"] * 22 + [b""] * 2
    assert talk(far, b"A??D*\r").endswith(b"\r\r")  # an empty line ends it
    assert talk(far, b"A??D5\r") == lines[5] + b"\r"  # raacampbell/alicat-matlab, getMFCprops.m
    assert talk(far, b"A??D60\r") == b"?\r"


def test_a_new_letter_is_obeyed_at_once(far):
    assert talk(far, b"A@=C\rA\rC\r").count(b"C +014.70") == 1
    assert talk(far, b"C@ B\rC\rB\r").count(b"B +014.70") == 1


@pytest.mark.parametrize(("said", "taken"), [(b"AS501\r", 500.0), (b"AS-1\r", 0.0)])
def test_a_setpoint_out_of_range_is_brought_into_it(far, said, taken):
    """Primer, page 12."""
    talk(far, said)
    assert far.setpoint.requested == taken


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        # alicatlib 0.3.1, with what it has seen real controllers answer
        (b"ADV 1 5 37 15\r", b"+000.00 +000.00 -------\r"), (b"AFPF 15\r", b"A 0 1 ---\r"),
        (b"ADCU 5\r", b"A 12 SCCM\r"), (b"ADCA 5 250\r", b"A 250\r"), (b"ADCZ 0 1.5\r", b"A 0 1.50\r"),
        (b"ADCZ 0 6.5\r", b"?\r"), (b"ADCFRP S\r", b"A 14.69595 10 PSIA\r"), (b"ADCFRT N\r", b"A 0.00 2 `C\r"),
        (b"AZCA 1 2.5\r", b"A 1 2.5\r"), (b"AZCA 0\r", b"A 0 1.0\r"), (b"AZCA 0 0\r", b"?\r"),
        (b"AZCP 1\r", b"A 1\r"), (b"ANCS 100\r", b"A 100\r"), (b"ANCB\r", b"A 19200\r"), (b"AFFP -1\r", b"A 1\r"),
        (b"AUD 2 Hall 3\r", b"A 2 Hall 3\r"), (b"AUD 1\r", b"A \r"), (b"AASOCV 0\r", b"A 5 12 SCCM\r"),
        (b"AVD\r", b"A 000.00 000.00 000.00 000.00\r"), (b"ALCDB 1 2.5\r", b"A 2.50 12 SCCM\r"),
        (b"ATC 1 5 0 1 7 2\r", b"A 1 5 0 1 7 2\r"), (b"ATC 1\r", b"A 1 1 0 0 7 2\r"), (b"ATC 1 5 9 1 7 2\r", b"?\r"),
        (b"ATCR 1\r", b"A 1\r"), (b"@@ A\r", b""),
        # pyalicat 0.0.11, which leaves spaces where it has nothing to say
        (b"AGS  \r", b"A 1 Ar Argon\r"), (b"ALS  \r", b"A +0.00 +0.00 12 SCCM\r"), (b"ALCG   \r", b"A 100 500 0\r"),
        (b"ALCGD 0 120 4000\r", b"A 120 4000\r"), (b"ALCDM \r", b"A 1\r"), (b"ALCA 2\r", b"A 2\r"),
        (b"ALR 37 12 0 250\r", b"A 37 0.00 250.00 12 SCCM\r"), (b"ALCVO 0 1.5 2\r", b"A 1.5 2\r"),
        (b"AASRCA 4\r", b"A 4\r"), (b"AGC 240\r", b"?\r"), (b"AFACTORY RESTORE ALL\r", b"A FACTORY RESTORE ALL\r"),
    ],
)  # fmt: skip
def test_the_menu_answers_as_open_drivers_have_it(far, said, answered):
    assert talk(far, said) == answered


def test_the_setpoint_of_the_data_frame_may_go_without_its_sign(far):
    """pyalicat 0.0.11: FDF 0; the driver reads either."""
    assert talk(far, b"AFDF 0\r").split()[5] == b"000.00"
    assert Frame.decode(talk(far, b"A\r").decode().strip()).setpoint == 0.0
    assert talk(far, b"AFDF 1\r").split()[5] == b"+000.00"


def test_a_setpoint_may_name_its_unit(far):
    """pyalicat 0.0.11: LS, value, code of the unit."""
    assert talk(far, b"ALS .25 7\r") == b"A +250.00 +250.00 12 SCCM\r"
    assert talk(far, b"ALS 5 99\r") == b"?\r"


def test_another_unit_changes_numbers_and_not_the_flow(far):
    talk(far, b"ALS 100\r")
    for _ in range(200):
        far.advance(0.01)
    assert talk(far, b"ADCU 5 7\r") == b"A 7 SLPM\r"
    assert talk(far, b"ALS\r") == b"A +0.1000 +0.1000 7 SLPM\r"
    assert talk(far, b"AFPF 5\r") == b"A +0.5000 7 SLPM\r"
    far.advance(0.01)
    assert far.line.flow == pytest.approx(100 * STANDARD, rel=1e-3)


def test_it_streams_without_its_letter_until_it_gets_one(far):
    """Manual of the IM series, page 10; alicatlib 0.3.1 for the space that stays."""
    assert talk(far, b"ANCS 100\rA@ @\r") == b"A 100\r"
    for _ in range(100):
        far.advance(0.01)
    said = far.unasked()
    assert said == [b" +014.70 +025.00 +000.00 +000.00 +000.00     Ar"] * 10
    assert talk(far, b"A\r@@=B\r") == b""
    far.advance(1.0)
    assert not far.talking
    assert not far.unasked()
    assert talk(far, b"BVE\r").startswith(b"B   10v20")


def test_a_batch_ends_the_flow(far):
    talk(far, b"ATC 1 5 0 1 7 2\rATB 1 5\rALS 300\r")
    for _ in range(300):
        far.advance(0.01)
    assert far.line.flow == 0.0
    assert 5.0 <= far.menu.totalizers[0].total < 6.0
    assert len(talk(far, b"A\r").split()) == 8  # the totalizer stands before the gas
    talk(far, b"AT 1\r")
    far.advance(0.5)
    assert far.line.flow > 0.0


def test_a_mixture_can_be_chosen_and_forgotten(far):
    talk(far, b"AGM forming 0 95 8 5 6\rAGM Form 255 95 8 5 6\rAG255\r")
    assert talk(far, b"AGS\r") == b"A 255 Form Form\r"
    assert talk(far, b"AGC 255\rAGD255\rAGS\r") == b"A 255 8=95.00 6=5.00\rA 255\rA 0 Air Air\r"


def test_older_firmware_does_not_know_newer_commands():
    old = AlicatEmulator(World(), firmware="8v17.0-R23 Nov  1 2019")
    assert talk(old, b"ALS\rALV\rALSS\r") == b"?\r?\r?\r"
    assert talk(old, b"AS5\r").split()[5] == b"+05.000"


def test_a_controller_of_pressure_has_the_range_of_its_gauge(far):
    talk(far, b"ALV 34\rALS 100\r")
    assert Setpoint.decode(talk(far, b"ALS\r").decode().strip()) == Setpoint(100.0, 100.0, 0.01, "PSIA")
    assert b"+160.00 +160.00 10 PSIA" in talk(far, b"ALS 161\r")


def test_the_setpoint_ramps_as_it_was_told(far):
    talk(far, b"ASR 10 4\rALS 100\r")
    for _ in range(300):
        far.advance(0.01)
    assert Setpoint.decode(talk(far, b"ALS\r").decode().strip()).current == pytest.approx(30.0, abs=0.2)
    talk(far, b"ALS 0\r")  # to zero it goes at once unless told otherwise
    far.advance(0.01)
    assert far.setpoint.current == 0.0


@pytest.mark.real_clock
async def test_a_whole_session_over_a_serial_line():
    world = World()
    port = await PtyPort(Bench(world).wire([AlicatEmulator(world), AlicatEmulator(world, unit="B")], "serial")).open()
    context = Context()
    link = SerialLink(port.path, Alicat.line)
    session = Session(link, Alicat.framing("serial"), timebase=context.timebase, gate=context.gate, timeout=0.5)
    a = Alicat(session, "a", context=context)
    b = Alicat(session, "b", unit="b", context=context)
    try:
        await a.connect()
        await b.connect()
        await b.set(4.0)
        assert await b.setpoint.get() == pytest.approx(4.0, abs=1e-3)
        assert await a.setpoint.get() == 0.0
    finally:
        await a.disconnect()
        await b.disconnect()
        await port.close()


# ---------------------------------------------------------------------- the driver


def test_it_is_a_flow_controller():
    assert lacking(Alicat, FlowController) == []


async def test_flow_is_counted_at_zero_degrees_whatever_the_instrument_counts_at(bench):
    mfc, wire = bench
    await mfc.set(10.0)
    await live(mfc, 3)
    assert wire.emulator.setpoint.requested == pytest.approx(10.0 / STANDARD, abs=1e-3)
    assert wire.world.lines["argon"].flow == pytest.approx(10.0, abs=0.01)
    assert await mfc.flow.get() == pytest.approx(10.0, abs=0.1)


async def test_a_normal_unit_and_another_standard_are_respected():
    async with wired(Alicat, capacity_unit="NLPM", full_scale=2.0) as (mfc, _):
        assert mfc.setpoint.limits.high == pytest.approx(2000.0)
    async with wired(
        Alicat, standard_temperature=0.0, options={"standard_temperature": 0.0}, full_scale=20.0
    ) as (mfc, _):  # fmt: skip
        assert mfc.setpoint.limits.high == pytest.approx(20.0)


async def test_a_mass_per_time_is_refused():
    with pytest.raises(UnitError, match=r"mfc: its unit of flow: 'g/h' is not one of SCCM"):
        async with wired(Alicat, name="mfc", capacity_unit="g/h"):
            pass


async def test_beyond_full_scale_nothing_is_sent(bench):
    mfc, wire = bench
    for value in (20.0 * STANDARD * 1.001, -0.1, float("nan")):
        with pytest.raises(LimitError):
            mfc.set(value)
        with pytest.raises(LimitError):
            mfc.setpoint.set(value)
    assert not wire.sent


async def test_the_safe_state_is_a_valve_held_closed_and_no_setpoint_to_return_to(bench):
    mfc, wire = bench
    await mfc.set(10.0)
    await live(mfc, 2)
    wire.forget()
    await mfc.safe_state()
    assert wire.sent == [b"AHC\r", b"ALS 0\r"]
    await live(mfc, 2)
    assert wire.world.lines["argon"].flow == 0.0
    assert await mfc.held.get() is True
    talk(wire.emulator, b"AC\r")
    await live(mfc, 2)
    assert wire.world.lines["argon"].flow == 0.0


async def test_a_valve_left_held_open_is_closed_and_then_obeys_again(bench):
    mfc, wire = bench
    await mfc.set(10.0)
    await live(mfc, 2)
    talk(wire.emulator, b"AHP\r")
    await mfc.close()
    await live(mfc, 2)
    assert wire.world.lines["argon"].flow == 0.0
    await mfc.set(5.0)
    await live(mfc, 2)
    assert wire.world.lines["argon"].flow == pytest.approx(5.0, abs=0.01)
    assert await mfc.held.get() is False


async def test_a_controller_of_pressure_is_given_no_flow(bench):
    mfc, wire = bench
    talk(wire.emulator, b"ALV 34\r")
    with pytest.raises(Refused, match=r"mfc: it controls variable 34, not mass flow \(37\); nothing was set"):
        await mfc.set(5.0)
    assert wire.emulator.setpoint.requested == 0.0


async def test_an_analog_setpoint_is_told(bench):
    mfc, wire = bench
    talk(wire.emulator, b"ALSS A\r")
    with pytest.raises(Refused, match=r"its setpoint comes from the analog input"):
        await mfc.set(5.0)


async def test_another_unit_than_at_the_beginning_is_told_before_anything_is_set(bench):
    mfc, wire = bench
    talk(wire.emulator, b"ADCU 5 7\r")
    with pytest.raises(UnitError, match="it is set in SLPM now, and was in SCCM; nothing was set"):
        await mfc.set(5.0)
    assert wire.emulator.setpoint.requested == 0.0


async def test_another_standard_temperature_than_in_the_lab_file_is_told():
    with pytest.raises(UnitError, match=r"at 0 degC and the lab file says 25; .* write standard_temperature = 0"):
        async with wired(Alicat, standard_temperature=0.0):
            pass


async def test_a_setpoint_that_was_not_taken_is_told(bench):
    mfc, wire = bench
    wire.emulator._set = lambda value: None
    with pytest.raises(Refused, match=r"5 sccm was asked for and the setpoint is 0 sccm"):
        await mfc.set(5.0)


async def test_a_flow_over_range_is_no_value(bench):
    mfc, wire = bench
    wire.emulator.measured = 30.0
    reading = await mfc.flow.read()
    assert (reading.value, reading.reason) == (None, "mass flow over range")


async def test_the_gas_is_that_of_the_front_panel(bench):
    mfc, wire = bench
    assert await mfc.gas.get() == "Ar"
    talk(wire.emulator, b"AG6\r")
    assert await mfc.gas.get() == "H2"


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"meter": True}, "found a meter"), ({"firmware": "8v17.0-R23 Nov  1 2019"}, "needs 9v00 or newer")],
)
async def test_what_is_no_controller_of_a_kind_it_knows_is_refused(settings, why):
    with pytest.raises(WrongInstrument, match=why):
        async with wired(Alicat, **settings):
            pass


async def test_a_rearranged_data_frame_is_found_out():
    emulator = AlicatEmulator(World())
    emulator.setpoint.requested = emulator.setpoint.current = 7.0
    frame = emulator.frame
    emulator.frame = lambda: " ".join([*(f := frame().split(" "))[:4], f[5], f[4], *f[6:]])
    with pytest.raises(UnitError, match="does not have the setpoint in fifth place"):
        async with wired(Alicat, emulator=emulator):
            pass


async def test_another_letter_is_silence():
    with pytest.raises(NoReply):
        async with wired(Alicat, emulator=AlicatEmulator(World(), unit="B")):
            pass


@pytest.mark.parametrize("unit", ["AB", "1", 3, ""])
async def test_a_unit_that_is_no_letter_is_a_mistake_in_the_lab_file(unit):
    with pytest.raises(ConfigError, match="is no unit ID"):
        async with wired(Alicat, unit=unit, emulator=AlicatEmulator(World())):
            pass
