"""The command line as a user types it, against emulators in a process of their own behind real ptys and ports.

A process is started only where it matters that it is one: it costs a second and more before anything is tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from hal import Lab
from hal.cli import main
from hal.runtime import registry

pytestmark = [pytest.mark.real_clock, pytest.mark.patient]

LAB = """
schema = 1
[lab]
name = "cli"
[links.relays]
url = "emulator:"
[devices.heater]
driver = "eurotherm_3504"   # a comment that stays
unit = 1
limits.setpoint = "20..400 degC"
[devices.valve]
driver = "relay_valve"
link = "relays"
channel = 1
[devices.gauge]
driver = "pfeiffer_tpg36x"
channel = 1
"""


def hal(*arguments: str | Path, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, in this process."""
    words, out, err = [str(word) for word in arguments], io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        patch.object(sys, "argv", sys.argv[:]), patch.object(sys, "path", sys.path[:]),
    ):  # fmt: skip
        code = main(words)
    assert code == expect, f"{words}: {code}\n{out.getvalue()}\n{err.getvalue()}"
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def typed(*arguments: str | Path, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "hal.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)
    assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def state_of_the_valve(lab: Path) -> Any:
    """What the instrument answers now."""

    async def ask() -> Any:
        async with Lab.looking(lab) as looking:
            return await looking.signal("valve.state").get()

    return asyncio.run(ask())


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(LAB)
    return path


@contextlib.contextmanager
def emulating(folder: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """`hal emulate` at work, and the lab file it wrote."""
    lab, out = folder / "lab.toml", folder / "emulated.toml"
    lab.write_text(LAB)
    process = subprocess.Popen(
        [sys.executable, "-m", "hal.cli", "emulate", str(lab), "--write", str(out), "--json"],
        stdout=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        try:
            assert json.loads(process.stdout.readline())["devices"]["heater"]["url"].startswith("serial://")
            yield out, process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with emulating(tmp_path_factory.mktemp("emulated")) as (out, _):
        yield out


def test_emulators_in_a_process_of_their_own_are_reached_by_the_lab_file_they_write(emulated, tmp_path):
    text = emulated.read_text()
    assert "serial:///dev/pts/" in text
    assert "tcp://127.0.0.1:" in text
    assert "# a comment that stays" in text
    answer = json.loads(typed("check", emulated, "--json", cwd=tmp_path).stdout)
    assert answer["ok"]
    assert [d["device"] for d in answer["devices"]] == ["heater", "valve", "gauge"]
    assert "3504" in answer["devices"][0]["identity"]


def test_check_fails_with_the_device_and_the_remedy_when_nobody_answers(lab, tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # listens never
        dead = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        lab.write_text(LAB.replace('url = "emulator:"', f'url = "{dead}"').replace("unit = 1", f'link = "{dead}"'))
        done = hal("check", lab, cwd=tmp_path, expect=1)
    for name in ("heater", "valve"):
        assert f"WRONG {name} " in done.stdout, done
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"WRONG {name} "))
        assert f"{dead}: connection refused, nothing listens there; check the cable" in line
    assert "2 of 3 devices are not right" in done.stdout


class Head(io.StringIO):
    """Reads so many lines and then has had enough, as `head` does."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.lines = lines

    def write(self, text: str) -> int:
        if self.getvalue().count("\n") >= self.lines:
            raise BrokenPipeError
        return super().write(text)


def test_watch_prints_readings_as_json_until_who_reads_them_has_had_enough(emulated):
    out = Head(5)
    with contextlib.redirect_stdout(out):
        assert main(["watch", str(emulated), "heater.temperature", "--json"]) == 0
    readings = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(readings) == 5
    assert {r["signal"] for r in readings} == {"heater.temperature"}
    assert all(r["unit"] == "degC" and int(r["time"]) > 1.7e18 and r["uncertainty"] > 0 for r in readings)


def test_watching_takes_nothing_to_its_safe_state(emulated, tmp_path):
    (tmp_path / "open.py").write_text(
        "import asyncio\nfrom hal import Lab\n"
        "async def main():\n"
        "    async with Lab.open('held.toml') as lab:\n"
        "        await lab.devices['valve'].open()\n"
        "asyncio.run(main())\n"
    )
    held = tmp_path / "held.toml"
    held.write_text(emulated.read_text().replace('name = "cli"', 'name = "cli"\non_exit = "hold"'))
    hal("run", "open.py", cwd=tmp_path)
    assert state_of_the_valve(held) == "open"
    hal("watch", held, "valve", "--for", "0.1", cwd=tmp_path)
    assert state_of_the_valve(held) == "open"


CLOCKED = """
schema = 1
[devices.board]
driver = "insitu_mcu"
link = "firmware:posix"
[devices.camera]
driver = "merlin"
frame_clock = "board"
"""


@pytest.mark.needs_tool("cc")
def test_watch_shows_how_well_the_clocks_are_known(tmp_path):
    (tmp_path / "clocked.toml").write_text(CLOCKED)
    table = hal("watch", "clocked.toml", "--clocks", "--for", "0.5", cwd=tmp_path).stdout.splitlines()
    board, camera = (next(line for line in table if line.startswith(name)) for name in ("board", "camera"))
    assert board.endswith("yes")
    assert "no: no frame has arrived yet" in camera
    lines = hal(
        "watch", "clocked.toml", "board", "--clocks", "--for", "0.5", "--json", cwd=tmp_path
    ).stdout.splitlines()
    states = [json.loads(line) for line in lines]
    assert {s["device"] for s in states} == {"board"}
    assert all(s["usable"] and s["bound"] > 0 and s["exchanges"] > 0 for s in states)


def test_watching_clocks_where_there_are_none_says_so(emulated, tmp_path):
    done = hal("watch", emulated, "--clocks", cwd=tmp_path, expect=1)
    assert "no device of this lab has a clock of its own" in done.stderr


def test_a_typo_in_the_lab_file_is_told_with_file_key_and_what_would_be_right(lab, tmp_path):
    lab.write_text(LAB.replace("limits.setpoint", "limit.setpoint"))
    done = hal("check", lab, cwd=tmp_path, expect=1)
    assert "lab.toml: devices.heater.limit: unknown key (did you mean 'limits'?)" in done.stderr
    assert "Traceback" not in done.stderr


def test_list_shows_signals_units_and_the_narrowed_limits_without_opening_anything(lab, tmp_path):
    listed = json.loads(hal("list", lab, "--json", cwd=tmp_path).stdout)
    setpoint = next(s for s in listed["heater"]["signals"] if s["signal"] == "setpoint")
    assert setpoint["limits"] == "20 to 400 degC"
    assert listed["gauge"]["capabilities"] == ["Gauge"]


def test_the_schema_accepts_what_the_loader_accepts_and_refuses_what_it_refuses(lab, tmp_path):
    import tomllib

    import jsonschema

    schema = json.loads(hal("schema", cwd=tmp_path).stdout)
    jsonschema.validate(tomllib.loads(LAB), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(LAB.replace("schema = 1", "schema = 7")), schema)


def test_find_says_what_ports_and_resources_there_are(tmp_path):
    found = json.loads(hal("find", "--json", cwd=tmp_path).stdout)
    assert isinstance(found, list)


def test_every_driver_is_listed_with_its_wires_capabilities_and_how_far_it_is_verified(tmp_path):
    rows = json.loads(hal("devices", "--json", cwd=tmp_path).stdout)
    assert {"eurotherm_3504", "lakeshore_336", "keithley_2450", "bronkhorst", "merlin"} <= {r["driver"] for r in rows}
    assert all(r["wires"] and r["capabilities"] and r["emulator"] and r["verified"] for r in rows)


def test_ack_says_when_there_is_nothing_to_acknowledge(lab, tmp_path):
    assert "not tripped" in hal("ack", lab, "--by", "Ada", cwd=tmp_path).stdout


def test_a_trip_outlives_the_process_until_it_is_acknowledged(lab, tmp_path):
    (tmp_path / "trip.py").write_text(
        "import asyncio\nfrom hal import Lab\n"
        "async def main():\n"
        "    async with Lab.open('lab.toml') as lab:\n"
        "        lab.interlock(lab.devices['gauge'].pressure.below(1e-9))\n"
        "        await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    done = typed("run", "trip.py", cwd=tmp_path, expect=1)
    assert "gauge.pressure < 1e-09 Pa failed" in done.stderr
    again = hal("run", "trip.py", cwd=tmp_path, expect=1)
    assert "still tripped" in again.stderr
    assert "hal ack lab.toml --by" in again.stderr
    assert "acknowledged by Ada" in hal("ack", lab, "--by", "Ada", cwd=tmp_path).stdout
    assert "failed" in hal("run", "trip.py", cwd=tmp_path, expect=1).stderr


def test_a_mistake_in_a_script_is_shown_from_the_script_s_own_first_line_on(tmp_path):
    (tmp_path / "slip.py").write_text("def measure():\n    return {}['rate']\nmeasure()\n")
    lines = hal("run", "slip.py", cwd=tmp_path, expect=1).stderr.splitlines()
    assert lines[:2] == ["Traceback (most recent call last):", '  File "slip.py", line 3, in <module>']
    assert lines[-1] == "KeyError: 'rate'"


def test_terminating_a_script_takes_the_devices_to_their_safe_state(emulated, tmp_path):
    (tmp_path / "open.py").write_text(
        "import asyncio\nfrom hal import Lab\n"
        "async def main():\n"
        f"    async with Lab.open({str(emulated)!r}) as lab:\n"
        "        await lab.devices['valve'].open()\n"
        "        print(await lab.devices['valve'].state.get(), flush=True)\n"
        "        await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "open.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "open"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    process.stdout.close()
    assert state_of_the_valve(emulated) == "closed"


def test_find_tells_who_answers_on_a_link(emulated, tmp_path, monkeypatch):
    some = ("alicat", "eurotherm_3504", "mks_937b", "ne1000", "pfeiffer_tc", "relay_beam", "relay_valve")
    few = {name: registry.known()[name] for name in some}
    monkeypatch.setattr(registry, "known", lambda: few)  # a silent language costs half a second each
    lines = emulated.read_text().splitlines()
    links = [line.split('"')[1] for line in lines if "serial://" in line or "tcp://" in line][:2]
    answers: set[str] = set()
    for _ in range(10):  # an emulator that the machine holds up for half a second is not heard
        found = json.loads(hal("find", "--ask", "--json", *links, cwd=tmp_path).stdout)
        answers |= {answer["driver"] for row in found for answer in row["answers"]}
        if len(answers) == 3:
            break
    assert answers == {"eurotherm_3504", "relay_beam", "relay_valve"}
