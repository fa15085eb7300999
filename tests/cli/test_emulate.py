"""`hal emulate MODEL` as somebody uses it who has nothing else of ours: a process, and a bare port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial

from hal.cli import main

pytestmark = pytest.mark.real_clock


@contextmanager
def emulated(*arguments: str) -> Iterator[tuple[dict[str, object], subprocess.Popen[str]]]:
    """The command at work, and what it says of where it is reached."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hal.cli", "emulate", *arguments], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = ""
        while "Ctrl-C" not in said and (line := process.stdout.readline()):
            said += line if "Ctrl-C" not in line else "#" + line
        yield tomllib.loads(said), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_a_serial_instrument_answers_on_a_port_of_the_name_it_was_given_until_interrupted(tmp_path: Path) -> None:
    name = tmp_path / "ttyGauge"
    with emulated("pfeiffer_tpg36x", "--serial", str(name), "--set", "noise=0") as (said, process):
        assert said == {"link": f"serial://{name}"}
        with serial.Serial(str(name), 9600, timeout=10) as port:
            port.write(b"PR1\r\n")
            assert port.read_until(b"\r\n") == b"\x06\r\n"
            port.write(b"\x05")
            assert port.read_until(b"\r\n") == b"0,+1.0000E-05\r\n"  # the cell's 1e-3 Pa, in mbar
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert not os.path.lexists(name)


def test_an_instrument_answers_on_a_tcp_port_which_nobody_else_gets(capsys: pytest.CaptureFixture[str]) -> None:
    with emulated("keithley_2450", "--tcp", "0", "--set", "language=TSP") as (said, process):
        host, _, port = str(said["link"]).removeprefix("tcp://").partition(":")
        assert host == "127.0.0.1"
        with socket.create_connection((host, int(port)), timeout=20) as wire:
            wire.sendall(b"*IDN?\n")
            assert wire.makefile().readline().startswith("KEITHLEY INSTRUMENTS,MODEL 2450,")
        assert main(["emulate", "merlin", "--tcp", port]) == 1
        assert f"port {port} of 127.0.0.1 is taken" in capsys.readouterr().err
        process.terminate()
        assert process.wait(20) == 0


def test_a_detector_shows_its_second_port_too() -> None:
    with emulated("merlin", "--tcp", "0", "--set", "fps=100") as (said, _):
        with socket.create_connection(("127.0.0.1", int(str(said["data_port"]))), timeout=20) as data:
            with socket.create_connection(("127.0.0.1", int(str(said["link"]).rpartition(":")[2])), timeout=20) as wire:
                wire.sendall(b"MPX,0000000021,CMD,STARTACQUISITION")
                assert wire.recv(4096).startswith(b"MPX,")
            assert data.recv(4) == b"MPX,"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["eurotherm"], "did you mean eurotherm_3216 or eurotherm_3504? `hal devices` lists all"),
        (["Allicat"], "did you mean alicat?"),
        (["lab.toml"], "give the path of a lab file"),
        (["keithley_2450", "--serial"], "keithley_2450 has no serial line, only visa or tcp; say --tcp PORT"),
        (["alicat", "--serial", "--tcp", "0"], "say --serial or --tcp"),
        (["alicat", "--set", "colour=red"], "alicat has no setting 'colour'; it has unit, channel, gas, full_scale,"),
        (["alicat", "--set", "gas"], "write key=value"),
        (["alicat", "--serial", __file__], "something else is there already"),
        (["alicat", "--serial", "/nowhere/tty"], "there is no folder /nowhere"),
        (["alicat", "--tcp", "0", "--data", "0"], "sends nothing but answers"),
        (["alicat", "--tcp", "192.0.2.1:0"], "192.0.2.1 is no address of this machine"),
        (["insitu_mcu", "--tcp", "0"], "chooses its TCP port itself"),
        (["replay", "--tcp", "0"], "no film is given"),
    ],
)
def test_what_can_not_be_served_is_told_in_a_sentence(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["emulate", *arguments]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["alicat", "--tcp", "65536"], "'65536' is no port"),
        (["alicat", "--write", "x.toml"], "--write is for a lab file; alicat is taken for a model"),
        (["lab.toml", "--tcp", "0"], "--tcp is for a model; lab.toml is taken for a lab file"),
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["emulate", *arguments])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_programs_learn_where_an_instrument_is_as_json() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hal.cli", "emulate", "relay_valve", "--json"], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        said = json.loads(process.stdout.readline())
        process.terminate()
        assert process.wait(20) == 0
    assert (said["pid"], said["model"], said["url"][:16]) == (process.pid, "relay_valve", "tcp://127.0.0.1:")
