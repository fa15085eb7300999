"""The command line as a user types it: real processes, real ptys and ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    command = [sys.executable, "-m", "hal.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(LAB)
    return path


@pytest.fixture
def emulated(lab: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    out = lab.with_name("emulated.toml")
    process = subprocess.Popen(
        [sys.executable, "-m", "hal.cli", "emulate", str(lab), "--write", str(out), "--json"],
        stdout=subprocess.PIPE, text=True, cwd=lab.parent,
    )  # fmt: skip
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["devices"]["heater"]["url"].startswith("serial://")
    yield out, process
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    process.stdout.close()


def test_emulators_in_a_process_of_their_own_are_reached_by_the_lab_file_they_write(emulated, tmp_path):
    out, _ = emulated
    text = out.read_text()
    assert "serial:///dev/pts/" in text
    assert "tcp://127.0.0.1:" in text
    assert "# a comment that stays" in text
    answer = json.loads(hal("check", out, "--json", cwd=tmp_path).stdout)
    assert answer["ok"]
    assert [d["device"] for d in answer["devices"]] == ["heater", "valve", "gauge"]
    assert "3504" in answer["devices"][0]["identity"]


def test_check_fails_with_the_device_and_the_remedy_when_nobody_answers(emulated, tmp_path):
    out, process = emulated
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    done = hal("check", out, cwd=tmp_path, expect=1)
    assert "WRONG valve" in done.stdout
    assert "check the cable" in done.stdout


def test_watch_prints_readings_as_json_and_leaves_the_instrument_as_it_was(emulated, tmp_path):
    out, _ = emulated
    lines = hal("watch", out, "heater.temperature", "--for", "1", "--json", cwd=tmp_path).stdout.splitlines()
    readings = [json.loads(line) for line in lines]
    assert len(readings) >= 5
    assert {r["signal"] for r in readings} == {"heater.temperature"}
    assert all(r["unit"] == "degC" and int(r["time"]) > 1.7e18 and r["uncertainty"] > 0 for r in readings)


def test_watching_takes_nothing_to_its_safe_state(emulated, tmp_path):
    out, _ = emulated
    (tmp_path / "open.py").write_text(
        "import asyncio\nfrom hal import Lab\n"
        "async def main():\n"
        "    async with Lab.open('emulated.toml') as lab:\n"
        "        await lab.devices['valve'].open()\n"
        "asyncio.run(main())\n"
    )
    text = out.read_text().replace('name = "cli"', 'name = "cli"\non_exit = "hold"')
    out.write_text(text)
    hal("run", "open.py", cwd=tmp_path)
    hal("watch", out, "valve", "--for", "1", cwd=tmp_path)
    last = json.loads(hal("watch", out, "valve.state", "--for", "1", "--json", cwd=tmp_path).stdout.splitlines()[-1])
    assert last["value"] == "open"


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
    table = hal("watch", "clocked.toml", "--clocks", "--for", "1", cwd=tmp_path).stdout.splitlines()
    board, camera = (next(line for line in table if line.startswith(name)) for name in ("board", "camera"))
    assert board.endswith("yes")
    assert "no: no frame has arrived yet" in camera
    lines = hal("watch", "clocked.toml", "board", "--clocks", "--for", "1", "--json", cwd=tmp_path).stdout.splitlines()
    states = [json.loads(line) for line in lines]
    assert {s["device"] for s in states} == {"board"}
    assert all(s["usable"] and 0 < s["bound"] < 100e6 and s["exchanges"] > 0 for s in states)


def test_watching_clocks_where_there_are_none_says_so(emulated, tmp_path):
    out, _ = emulated
    done = hal("watch", out, "--clocks", cwd=tmp_path, expect=1)
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
        "        await asyncio.sleep(30)\n"
        "asyncio.run(main())\n"
    )
    done = hal("run", "trip.py", cwd=tmp_path, expect=1)
    assert "gauge.pressure < 1e-09 Pa failed" in done.stderr
    again = hal("run", "trip.py", cwd=tmp_path, expect=1)
    assert "still tripped" in again.stderr
    assert "hal ack lab.toml --by" in again.stderr
    assert "acknowledged by Ada" in hal("ack", lab, "--by", "Ada", cwd=tmp_path).stdout
    assert "failed" in hal("run", "trip.py", cwd=tmp_path, expect=1).stderr


def test_terminating_a_script_takes_the_devices_to_their_safe_state(emulated, tmp_path):
    out, _ = emulated
    (tmp_path / "open.py").write_text(
        "import asyncio\nfrom hal import Lab\n"
        "async def main():\n"
        "    async with Lab.open('emulated.toml') as lab:\n"
        "        await lab.devices['valve'].open()\n"
        "        print(await lab.devices['valve'].state.get(), flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "open.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "open"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) != 0
    process.stdout.close()
    last = json.loads(hal("watch", out, "valve.state", "--for", "1", "--json", cwd=tmp_path).stdout.splitlines()[-1])
    assert last["value"] == "closed"


def test_find_tells_who_answers_on_a_link(emulated, tmp_path):
    out, _ = emulated
    links = [line.split('"')[1] for line in out.read_text().splitlines() if "serial://" in line or "tcp://" in line][:2]
    found = json.loads(hal("find", "--ask", "--json", *links, cwd=tmp_path).stdout)
    answers = {row["url"]: [a["driver"] for a in row["answers"]] for row in found}
    assert sorted(sum(answers.values(), [])) == ["eurotherm_3504", "relay_beam", "relay_valve"]
