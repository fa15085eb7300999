"""Merlin: what it says and what it films."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.merlin import codec
from devices.merlin.codec import Mpx
from devices.merlin.emulator import Merlin as Emulator
from devices.merlin.stream import AcquisitionBegins, FrameStream, FrameWriter
from devices.physics import World
from hal.frames.chunk import FrameChunk

# Frame headers of real detectors. The first: LiberTEM-rs, libertem_qd_mpx/src/base_types.rs,
# test_parse_frame_header_example_1_single. The others: fpd, fpd_file.py, _print_testing_notes (software
# 0.77.0.16 and 0.65.8, the latter with "nS"; 0.67 raw).
HEADERS = {
    "6 bit": (
        "MQ1,000001,00384,01,0256,0256,U08,   1x1,01,2020-05-18 16:51:49.971626,0.000555,0,0,0,1.200000E+2,"
        "5.110000E+2,0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,3RX,175,511,000,000,"
        "000,000,000,000,125,255,125,125,100,100,082,100,087,030,128,004,255,129,128,176,168,511,511,MQ1A,"
        "2020-05-18T14:51:49.971626178Z,555000ns,6,",
        (256, 256), "uint8", "2020-05-18T14:51:49.971626178", 555_000,
    ),
    "12 bit": (
        "MQ1,000001,00384,01,0256,0256,U16,   1x1,01,2021-10-04 12:57:48.710465,0.001000,0,0,0,5.700000E+1,"
        "5.110000E+2,0.000000+0,0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,3RX,114,511,000,000,000,"
        "000,000,000,100,255,200,125,100,100,098,100,104,050,128,004,255,084,128,135,125,511,511,MQ1A,"
        "2021-10-04T16:57:48.710465438Z,1000000ns,12,",
        (256, 256), "uint16", "2021-10-04T16:57:48.710465438", 1_000_000,
    ),
    "colour": (
        "MQ1,000001,00384,01,0128,0128,U16,   2x2,01,2015-08-27 18:10:36.025832,0.010000,0,1,0,0.000000E+0,"
        "0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,0.000000E+0,3RX,000,000,000,000,000,"
        "000,000,000,175,010,200,125,100,100,093,100,099,030,128,004,255,127,128,177,167,000,000,MQ1A,"
        "2015-08-27T17:10:36.025832396Z,10000000nS,12,",
        (128, 128), "uint16", "2015-08-27T17:10:36.025832396", 10_000_000,
    ),
    "before MQ1A": (
        "MQ1,000001,00384,01,0256,0256,U08,   1x1,01,2020-05-18 16:51:49.971626,0.000555,0,0,0,1.200000E+2,",
        (256, 256), "uint8", "2020-05-18T16:51:49.971626", 555_000,
    ),
}  # fmt: skip


def message(header: str, pixels: bytes) -> bytes:
    return Mpx().encode(header.encode().ljust(384, b"\0") + pixels)


def written(numbers: Any, *, size: int = 4, depth: int = 6, period: int = 1_000_000) -> bytes:
    """Frames with their number in every pixel."""
    numbers = np.asarray(numbers, np.int64)
    pixels = np.repeat(numbers % 60, size * size).astype(np.uint8).reshape(-1, size * size)
    ticks = 1_767_225_600_000_000_000 + numbers * period
    return b"".join(b.tobytes() for b in FrameWriter(size, size, depth, 900_000).frames(numbers, ticks, pixels))


def frames_of(stream: FrameStream) -> FrameChunk:
    return FrameChunk.concatenate([part for part in stream.take() if isinstance(part, FrameChunk)])


# ------------------------------------------------------------------------------------------ codec


def test_a_command_is_framed_as_the_detector_wants_it() -> None:
    # ADMerlin mpxCommand, and uedinst's MERLIN_connection: 'MPX,21,CMD,STARTACQUISITION'
    assert Mpx().encode(codec.request("CMD", "STARTACQUISITION")) == b"MPX,0000000021,CMD,STARTACQUISITION"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"MPX,21,CMD,STARTACQUISITION", id="uedinst"),
        pytest.param(b"MPX,0000000023,CMD,STARTACQUISITION,0", id="libertem_live"),
        pytest.param(b"MPX,0000000021,CMD,STARTACQUISITION", id="instamatic"),
        pytest.param(b"noise MPX,x,MPX,0000000021,CMD,STARTACQUISITION", id="after_noise"),
    ],
)
def test_what_other_programs_send_is_understood(sent: bytes) -> None:
    (body,) = Mpx().feed(sent)
    asked = codec.parse_request(body)
    assert asked is not None
    assert asked[:2] == ("CMD", "STARTACQUISITION")


@given(
    st.lists(st.sampled_from([b"GET,GAIN", b"GET,GAIN,0,0", b"SET,THRESHOLD0,20.5,0"]), max_size=5), st.integers(1, 9)
)
def test_messages_survive_being_cut_anywhere(bodies: list[bytes], cut: int) -> None:
    wire, framing = b"".join(Mpx().encode(body) for body in bodies), Mpx()
    assert [m for k in range(0, len(wire), cut) for m in framing.feed(wire[k : k + cut])] == bodies


@given(st.sampled_from(["GET", "SET", "CMD"]), st.from_regex(r"[A-Z0-9]{1,20}", fullmatch=True), st.integers(0, 3))
def test_a_reply_reads_back_as_it_was_written(verb: str, name: str, code: int) -> None:
    value = "1.5,2" if verb == "GET" else None
    found = codec.parse_reply(codec.reply(verb, name, value, code))
    assert (found.verb, found.name, found.value, found.code) == (verb, name, value or "", code)
    assert codec.answers(codec.reply(verb, name, value, code), verb, name)


def test_the_acquisition_header_reads_back() -> None:
    values = {"Frames in Acquisition (Number)": "16384", "Sensor Bias (V)": "120 V"}
    body = codec.acquisition_header(values)
    assert len(body) == 2048
    assert codec.parse_acquisition_header(body) == values


@pytest.mark.parametrize(("header", "shape", "dtype", "time", "exposure"), HEADERS.values(), ids=HEADERS.keys())
def test_a_real_detectors_frame_is_read(
    header: str, shape: tuple[int, int], dtype: str, time: str, exposure: int
) -> None:
    pixels = np.arange(shape[0] * shape[1]).reshape(shape).astype(dtype)
    stream = FrameStream()
    stream.feed(message(header, pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()), 77)
    frame = frames_of(stream)
    assert (frame.images[0] == pixels).all()
    assert frame.images.dtype == dtype
    assert frame.number.tolist() == [1]
    assert frame.ticks[0] == np.datetime64(time, "ns").astype(np.int64)
    assert (frame.exposure_ns[0], frame.arrival[0]) == (exposure, 77)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.sampled_from([1, 6, 12, 24]))
def test_frames_are_the_same_however_the_bytes_arrive(cuts: list[int], depth: int) -> None:
    wire = Mpx().encode(codec.acquisition_header({})) + written(range(1, 8), depth=depth)
    stream, found, at, arrivals = FrameStream(), [], 0, []
    for k in range(10_000):
        piece = wire[at : at + cuts[k % len(cuts)]]
        at += len(piece)
        arrivals.append((at, k))
        stream.feed(piece, k)
        if k % 3 == 0 or at == len(wire):
            found += stream.take()
        if at == len(wire):
            break
    assert isinstance(found[0], AcquisitionBegins)
    frames = FrameChunk.concatenate([part for part in found if isinstance(part, FrameChunk)])
    assert frames.number.tolist() == list(range(1, 8))
    assert (frames.images == frames.number[:, None, None]).all()
    assert (np.diff(frames.ticks) == 1_000_000).all()
    size = (len(wire) - 2048 - 15) // 7
    for number, arrival in zip(frames.number.tolist(), frames.arrival.tolist(), strict=True):
        end = 2048 + 15 + number * size
        assert arrival == next(k for at, k in arrivals if at >= end)  # when its last byte was here


def test_numbers_grow_beyond_six_digits() -> None:
    stream = FrameStream()
    stream.feed(written([999_998, 999_999, 1_000_000, 1_000_001]), 0)
    assert frames_of(stream).number.tolist() == [999_998, 999_999, 1_000_000, 1_000_001]


def test_missing_bytes_cost_only_the_frame_they_are_missing_from() -> None:
    wire = written(range(1, 11))
    size = len(wire) // 10
    stream = FrameStream()
    stream.feed(b"GARBAGE" * 9 + wire[: 3 * size + 400] + wire[3 * size + 405 :], 0)
    frames = frames_of(stream)
    assert frames.number.tolist() == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert (frames.images == frames.number[:, None, None]).all()
    assert stream.garbage > 0


def test_an_unreadable_number_costs_one_frame() -> None:
    wire = bytearray(written(range(1, 6)))
    wire[2 * (len(wire) // 5) + 22] = ord("?")
    stream = FrameStream()
    stream.feed(bytes(wire), 0)
    assert frames_of(stream).number.tolist() == [1, 2, 4, 5]
    assert stream.garbled == 1


def test_rosettasciio_reads_the_frames(tmp_path: Any) -> None:
    rsciio = pytest.importorskip("rsciio.quantumdetector")
    wire = np.frombuffer(written(range(1, 5), depth=12), np.uint8).reshape(4, -1)
    path = tmp_path / "film.mib"
    path.write_bytes(wire[:, 15:].tobytes())
    data, headers = rsciio.load_mib_data(str(path), return_headers=True)
    assert data.shape == (4, 4, 4)
    assert data[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert rsciio.parse_timestamps(headers)[2] == "2026-01-01T00:00:00.003000000Z"
    assert rsciio.parse_exposures(headers)[0] == pytest.approx(0.9)  # ms


# --------------------------------------------------------------------------------------- emulator


def run(emulator: Emulator, seconds: float) -> bytes:
    """What it sends meanwhile."""
    out = b""
    for _ in range(round(seconds / 0.005)):
        emulator.world.advance(0.005)
        emulator.advance(0.005)
        out += b"".join(emulator.stream())
    return out


def film(emulator: Emulator, seconds: float = 0.2) -> FrameChunk:
    assert emulator.respond(b"SET,NUMFRAMESTOACQUIRE,100000") == b"SET,NUMFRAMESTOACQUIRE,0"
    assert emulator.respond(b"CMD,STARTACQUISITION") == b"CMD,STARTACQUISITION,0"
    stream = FrameStream()
    stream.feed(run(emulator, seconds), 0)
    emulator.respond(b"CMD,STOPACQUISITION")
    return frames_of(stream)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (b"GET,SOFTWAREVERSION,0", b"GET,SOFTWAREVERSION,0.77.0.16,0"),
        (b"get,ImageX", b"GET,ImageX,64,0"),
        (b"GET,NONSENSE", b"GET,NONSENSE,0,2"),
        (b"SET,COUNTERDEPTH,7", b"SET,COUNTERDEPTH,3"),
        (b"SET,ACQUISITIONTIME,fast", b"SET,ACQUISITIONTIME,3"),
        (b"SET,SOFTWAREVERSION,1", b"SET,SOFTWAREVERSION,2"),
        (b"CMD,EXPLODE", b"CMD,EXPLODE,2"),
        (b"hello", None),
    ],
)
def test_the_control_port_answers_with_the_right_code(asked: bytes, answer: bytes | None) -> None:
    assert Emulator(World()).respond(asked) == answer


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        # merlin-interface 0.0.6
        (b"GET,TriggerOutTTL", b"GET,TriggerOutTTL,0,0"), (b"SET,TriggerOutLVDS,6", b"SET,TriggerOutLVDS,0"),
        (b"SET,TriggerOutLVDS,7", b"SET,TriggerOutLVDS,3"),
        (b"SET,TriggerOutTTLDelay,1000", b"SET,TriggerOutTTLDelay,0"),
        (b"SET,SCANX,512", b"SET,SCANX,0"), (b"SET,SCANTRIGGERMODE,9", b"SET,SCANTRIGGERMODE,3"),
        (b"CMD,SCANSTARTRECORD", b"CMD,SCANSTARTRECORD,0"), (b"CMD,STARTLIVE", b"CMD,STARTLIVE,0"),
        (b"SET,RUNHEADLESS,1", b"SET,RUNHEADLESS,0"), (b"SET,FILENAME,run_1.mib", b"SET,FILENAME,0"),
        (b"GET,FILENAME", b"GET,FILENAME,default.mib,0"), (b"GET,THNUMSTEPS", b"GET,THNUMSTEPS,100,0"),
        # areaDetector ADMerlin, merlin_low.h
        (b"SET,BCKGRNDCORRECTION,1", b"SET,BCKGRNDCORRECTION,0"), (b"SET,IMAGESTOSUM,4", b"SET,IMAGESTOSUM,0"),
        (b"SET,PROFILES,16", b"SET,PROFILES,3"), (b"CMD,THSCAN", b"CMD,THSCAN,0"),
        (b"CMD,SWTRIGGER", b"CMD,SWTRIGGER,0"),
    ],
)  # fmt: skip
def test_it_takes_what_other_programs_set(asked: bytes, answer: bytes) -> None:
    assert Emulator(World()).respond(asked) == answer


def test_nothing_can_be_set_while_it_acquires() -> None:
    emulator = Emulator(World())
    emulator.respond(b"CMD,STARTACQUISITION")
    assert emulator.respond(b"SET,ACQUISITIONTIME,2") == b"SET,ACQUISITIONTIME,1"
    assert emulator.respond(b"GET,DETECTORSTATUS") == b"GET,DETECTORSTATUS,1,0"
    assert emulator.respond(b"CMD,STARTACQUISITION") == b"CMD,STARTACQUISITION,1"


def test_reading_out_takes_time_unless_it_is_gapless() -> None:
    emulator = Emulator(World(), depth=12)
    emulator.respond(b"SET,CONTINUOUSRW,0")
    assert emulator.respond(b"GET,ACQUISITIONPERIOD") == b"GET,ACQUISITIONPERIOD,1.822000,0"


def test_it_stops_by_itself_after_the_frames_asked_for() -> None:
    emulator = Emulator(World(), drop=0.0)
    emulator.respond(b"SET,NUMFRAMESTOACQUIRE,50")
    emulator.respond(b"CMD,STARTACQUISITION")
    stream = FrameStream()
    stream.feed(run(emulator, 0.5), 0)
    assert frames_of(stream).number.tolist() == list(range(1, 51))
    assert emulator.respond(b"GET,DETECTORSTATUS") == b"GET,DETECTORSTATUS,0,0"


def test_a_soft_trigger_gives_as_many_frames_as_were_asked_for_each() -> None:
    emulator, stream = Emulator(World(), drop=0.0), FrameStream()
    for text in ("NUMFRAMESTOACQUIRE,30", "NUMFRAMESPERTRIGGER,10", "TRIGGERSTART,5"):
        emulator.respond(b"SET," + text.encode())
    emulator.respond(b"CMD,STARTACQUISITION")
    stream.feed(run(emulator, 0.2), 0)
    assert all(isinstance(part, AcquisitionBegins) for part in stream.take())
    emulator.respond(b"CMD,SOFTTRIGGER")
    stream.feed(run(emulator, 0.2), 0)
    assert len(frames_of(stream)) == 10


def test_the_particle_melts_dims_in_hydrogen_and_is_gone_without_a_beam() -> None:
    def look(**conditions: Any) -> Any:
        world = World()
        emulator = Emulator(world, drop=0.0, jitter=0.0, every=0.0)
        for name, value in conditions.items():
            setattr(world, name, value)
        world.advance = lambda dt: None  # type: ignore[method-assign]
        return film(emulator).images.mean(axis=0)

    cold, molten, hydrogen, dark = look(), look(temperature=900.0), look(hydrogen=1.0), look(blanked=True)
    assert 2 < cold.mean() < 8
    assert np.sum(molten > 6) < 0.6 * np.sum(cold > 6)  # smaller
    assert np.abs(np.diff(molten, axis=1)).max() < 0.5 * np.abs(np.diff(cold, axis=1)).max()  # and without edges
    assert hydrogen[32, 32] < 0.6 * cold[32, 32]
    assert dark.sum() == 0


def test_the_counts_scatter_as_counts_do() -> None:
    images = film(Emulator(World(), drop=0.0), 1.0).images[:, 24:40, 24:40].astype(float)
    assert images.var(axis=0).mean() / images.mean() == pytest.approx(1.0, abs=0.05)


def test_dropped_frames_are_never_sent_and_bursts_come_together() -> None:
    emulator = Emulator(World(), drop=0.05, every=0.3, late=0.3, seed=4)
    emulator.respond(b"SET,NUMFRAMESTOACQUIRE,100000")
    emulator.respond(b"CMD,STARTACQUISITION")
    stream = FrameStream()
    for k in range(400):
        stream.feed(run(emulator, 0.005), k)
    emulator.respond(b"CMD,STOPACQUISITION")
    stream.feed(run(emulator, 1.0), 400)
    frames, truth = frames_of(stream), emulator.truth()
    assert frames.number.tolist() == truth.number[truth.sent].tolist()
    assert 0.03 < 1 - truth.sent.mean() < 0.07
    assert max(np.bincount(frames.arrival)) > 60  # of 5 usually


# ------------------------------------------------------------------------------------------- lamp


def filmed_by_lamp(emulator: Emulator, flashes: list[tuple[float, float]], *, known: float | None = None) -> FrameChunk:
    """0.4 s of film, in which the world's lamp flashes (on, length; seconds)."""
    emulator.respond(b"SET,NUMFRAMESTOACQUIRE,100000")
    emulator.respond(b"CMD,STARTACQUISITION")
    lamp = emulator.world.lamp
    if known is not None:
        lamp.known = known
    for on, length in flashes:
        lamp.flash(on, length)
    stream = FrameStream()
    stream.feed(run(emulator, 0.4), 0)
    return frames_of(stream)


def test_a_frame_shows_as_much_of_the_lamp_s_flash_as_its_exposure_caught() -> None:
    emulator = Emulator(World(), fps=100.0, drop=0.0, every=0.0, jitter=0.0)
    images = filmed_by_lamp(emulator, [(0.1043, 0.012)]).images
    brightness = images.mean(axis=(1, 2))
    begin = emulator.truth().middle[: len(images)] - 0.005
    dark = np.median(brightness)
    caught = np.clip(np.minimum(begin + 0.01, 0.1163) - np.maximum(begin, 0.1043), 0.0, None) / 0.01
    assert np.count_nonzero(caught) == 2
    assert np.abs((brightness - dark) / 20.0 - caught).max() < 0.02  # 20 counts in an exposure that is lit throughout
    assert caught.sum() == pytest.approx(1.2, abs=1e-3)


def test_a_flash_that_is_told_late_is_on_the_film_all_the_same() -> None:
    """The frame waits until it is certain what light fell on it, but not for ever."""
    emulator = Emulator(World(), fps=100.0, drop=0.0, every=0.0, jitter=0.0)
    before = filmed_by_lamp(emulator, [], known=0.1)
    assert len(before.number) == 9  # those that ended by 0.1 s; the first began at 1 ms
    emulator.world.lamp.flash(0.25, 0.05)
    emulator.world.lamp.known = 0.4
    stream = FrameStream()
    stream.feed(run(emulator, 0.005), 1)
    images = frames_of(stream).images
    assert np.count_nonzero(images.mean(axis=(1, 2)) > before.images.mean() + 1) == 6
    emulator.world.lamp.known = 0.41  # and then says no more
    run(emulator, 1.0)
    stream = FrameStream()
    stream.feed(run(emulator, 0.05), 2)
    assert len(frames_of(stream).number) == 5


def test_trigger_pulses_come_before_the_exposures_if_the_shutter_is_slow() -> None:
    emulator = Emulator(World(), fps=100.0, drop=0.0, pulse_delay=-0.0017)
    pulses: list[Any] = []
    emulator.pulses.append(lambda start, stop: pulses.append((start, stop)))
    filmed_by_lamp(emulator, [])
    start, stop = (np.concatenate([pulse[k] for pulse in pulses]) for k in (0, 1))
    middle = emulator.truth().middle
    assert np.allclose((start + stop) / 2 + 0.0017, middle, atol=1e-9)
