"""`hal delay` on real wires: it finds what the emulators keep to themselves, and `hal align` uses what it found."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from calibration.certificate import load
from hal.cli import main
from hal.recording import open_run

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("cc")]

SHUTTER = 0.0017
"""Seconds from the camera's pulse to the exposure that it announces."""
OUT, BACK = 0.0031, 0.0009
"""Seconds that the board's line takes each way, at least."""
CAMERA = f"""
schema = 1
[devices.eye]
driver = "merlin"
link = "emulator:"
emulator = {{ fps = 50, size = 32, drop = 0.01, pulse_delay = {-SHUTTER}, seed = 3 }}
frame_clock = "board"
frame_input = 0
[devices.board]
driver = "insitu_mcu"
link = "firmware:posix"
emulator = {{ flash = 0.024 }}
"""
LINK = f"""
schema = 1
[devices.board]
driver = "insitu_mcu"
link = "firmware:posix"
emulator = {{ out = {OUT}, back = {BACK} }}
"""


def lab(folder: Path, text: str) -> str:
    file = folder / "lab.toml"
    file.write_text(text)
    return str(file)


def measured(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What `hal delay` prints. A machine that stands still for longer than the board's lease (0.5 s) or its nonces last
    measures nothing, and the board says so: then once more. If it never keeps up, that is no verdict on the code."""
    stood_still = "no heartbeat within the lease", "after a fault: clear_fault", "the nonce was old", "no reply to"
    for _ in range(4):
        code = main(["delay", *words])
        said = capsys.readouterr()
        if code == 0:
            return said.out
        assert any(why in said.err for why in stood_still), said.err
    pytest.skip(f"four times over this machine stood still for longer than a board waits: {said.err}")


def test_a_lamp_tells_the_camera_s_delay_and_its_certificate_puts_the_frames_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "eye.toml"
    words = ["--flashes", "14", "--flash", "0.024", "--out", str(file), "--by", "A. Uthor", "--expires", "2099-05-01"]
    runs = tmp_path / "runs"
    said = measured(["camera", lab(tmp_path, CAMERA), "eye", *words, "--runs", str(runs)], capsys)
    assert "flashes fell across an exposure's beginning or end" in said
    certificate = load(file)
    certificate.check(kind="delay.camera", serial="Merlin 0.77.0.16", on=date(2099, 5, 1))
    delay, sigma = certificate.number("delay_s"), certificate.number("delay_sigma_s")
    assert sigma < 50e-6
    assert abs(delay - SHUTTER) < 5 * sigma
    assert certificate.number("pulse_latency_s") == -delay
    assert certificate.by == "A. Uthor"
    # It lists each flash with the frame that caught it and how much: of 20 ms exposures, of flashes of 24 ms.
    rows = [line.split() for line in said.splitlines()[1:13]]
    assert [row[0] for row in rows] == [str(n) for n in range(1, 13)]
    caught = [row for row in rows if row[1] != "none" and row[3] != "-"]  # a busy machine may flash between two frames
    assert len(caught) >= 8
    assert all(0.0 < float(row[2].rstrip("%")) <= 100.0 for row in caught)
    assert all(abs(float(row[4])) < 500.0 for row in caught)  # us
    (run,) = (Path(line.removeprefix("  the run: ")) for line in said.splitlines() if line.startswith("  the run: "))
    new = tmp_path / "new.nxs"
    assert main(["align", str(run), "--out", str(new), "--certificate", f"eye={file}"]) == 0
    with open_run(run) as before, open_run(new) as after:
        both = before.frames.valid & after.frames.valid
        assert both.sum() > 0.9 * len(before.frames) > 100
        moved = after.frames.start[both] - before.frames.start[both]
        assert np.abs(moved - delay * 1e9).max() <= 1
        assert after.origin is not None
        assert after.origin.parameters["certificates"] == {"eye": certificate.hash}


def test_a_line_led_to_the_board_tells_which_way_of_its_link_is_the_slow_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, runs = tmp_path / "board.toml", tmp_path / "runs"
    words = ["emulator:", "--pulses", "8", "--out", str(file), "--runs", str(runs), "--json"]
    said = json.loads(measured(["link", lab(tmp_path, LINK), *words], capsys))
    certificate = load(file)
    certificate.check(kind="delay.link")
    out, back, sigma = (certificate.number(name) for name in ("out_s", "back_s", "sigma_s"))
    assert said["result"] == {"out_s": out, "back_s": back, "sigma_s": sigma}
    # What the line adds is known, what this machine adds is not: it may be more each way, never less.
    assert out > OUT - 5 * sigma
    assert back > BACK - 5 * sigma
    assert out + back == pytest.approx(said["evidence"]["round_trip_s"])
    # With it, the board's stamps of the line's pulses are where this computer made them.
    new = tmp_path / "new.nxs"
    assert main(["align", said["run"], "--out", str(new), "--certificate", f"board={file}"]) == 0


def test_a_port_without_an_rts_pin_is_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = os.openpty()
    try:
        port, runs = f"serial://{os.ttyname(ends[1])}", tmp_path / "runs"
        assert main(["delay", "link", lab(tmp_path, LINK), port, "--runs", str(runs)]) == 1
        assert "has no RTS pin to be moved" in capsys.readouterr().err
        assert not runs.exists()
    finally:
        for end in ends:
            os.close(end)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["camera", "LAB", "board"], "board: no camera of LAB; it has eye"),
        (["camera", "LAB", "eye", "--board", "eye"], "LAB: eye: no board with a trigger output; there is board"),
        (["camera", "LAB", "eye", "--serial", "W43-B7"], "eye: says it is 'Merlin 0.77.0.16', which has no 'W43-B7'"),
        (["camera", "LAB", "eye", "--out", "LAB"], "LAB: is there already; give the certificate another name"),
        (["link", "LAB", "tcp://127.0.0.1:9"], "give a serial port, such as serial:///dev/ttyS0"),
        (["link", "LAB", "serial:///dev/nothing"], "serial:///dev/nothing can't be opened"),
    ],
)
def test_what_can_t_be_measured_is_refused_before_the_lamp_flashes(
    tmp_path: Path, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file, runs = lab(tmp_path, CAMERA), tmp_path / "runs"
    assert main(["delay", *[word.replace("LAB", file) for word in words], "--runs", str(runs)]) == 1
    assert complaint.replace("LAB", file) in capsys.readouterr().err
    assert not runs.exists()
