"""The lab file: every mistake is told with file, key, what is wrong and what would be right."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import toy

from hal.errors import ConfigError
from hal.runtime.config import load, parse, schema
from hal.runtime.emulation import rewritten


@dataclass(frozen=True)
class Needing:
    """Options of which one has no default."""

    diameter: float


class Needy(toy.ToyGauge):
    """A gauge that must be told something."""

    Options = Needing


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "em3.toml")
    assert str(caught.value).startswith("em3.toml: ")
    return str(caught.value)


def with_heater(more: str = "", head: str = "schema = 1") -> str:
    return f'{head}\n[devices.heater]\ndriver = "toy:ToyHeater"\n{more}'


def with_camera(more: str) -> str:
    return with_heater(f"[devices.board]\ndriver = 'insitu_mcu'\n[devices.eye]\ndriver = 'merlin'\n{more}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema = 1\n[devices", "not valid TOML"),
        ("[devices.heater]\ndriver = 'toy:ToyHeater'", "schema: is missing; write schema = 1 at the top"),
        (with_heater(head="schema = 2"), r"schema: 2; write schema = 1, without quotes"),
        (with_heater(head="schema = 1\n[lab]\nnmae = 'x'"), r"lab\.nmae: unknown key \(did you mean 'name'\?\)"),
        (with_heater(head="schema = 1\n[lap]\nname = 'x'"), r"lap: unknown key \(did you mean 'lab'\?\)"),
        (with_heater(head="schema = 1\n[lab]\non_exit = 'off'"), r"lab\.on_exit: .*'safe' or 'hold' \(got 'off'\)"),
        ("schema = 1\n[devices]", r"devices: .*at least 1"),
        ("schema = 1\n[devices.1st]\ndriver = 'toy:ToyHeater'", r"devices\.1st: a name is made of letters"),
        ("schema = 1\n[devices.heater]", r"devices\.heater\.driver: is missing"),
        (
            "schema = 1\n[devices.heater]\ndriver = 'eurotherm_3540'",
            r"devices\.heater\.driver: unknown driver 'eurotherm_3540'; did you mean 'eurotherm_3504'\?",
        ),
        (
            "schema = 1\n[devices.heater]\ndriver = 'zzz'",
            r"known are .*eurotherm_3504.*\. Or write \"package\.module:Class\"",
        ),
        (
            "schema = 1\n[devices.heater]\ndriver = 'no_such_package:X'",
            r"devices\.heater\.driver: .*can't be imported.*is the package installed here",
        ),
        ("schema = 1\n[devices.heater]\ndriver = 'toy:Heater9'", r"module toy has no 'Heater9'"),
        ("schema = 1\n[devices.heater]\ndriver = 'toy:World'", r"not a subclass of hal\.Instrument"),
        (
            with_heater("link = 'gas_bus'", "schema = 1\n[links.gas_buss]\nurl = 'tcp://h:1'"),
            r"devices\.heater\.link: 'gas_bus' is neither an entry of \[links\] \(did you mean 'gas_buss'\?\)",
        ),
        (
            with_heater("link = 'tcp://host'"),
            r"devices\.heater\.link: .*host or port is missing; write tcp://host:port",
        ),
        (with_heater("link = 'usb://x'"), r"devices\.heater\.link: .*unknown kind of link"),
        (with_heater("link = 'tcp://host:99999999'"), r"devices\.heater\.link: "),
        (
            with_heater("link = 'serial:///dev/ttyUSB0?baudrat=9600'"),
            r"devices\.heater\.link: .*unknown setting 'baudrat'; known are baudrate",
        ),
        (
            with_heater("link = 'serial:///dev/ttyUSB0?baudrate=fast'"),
            r"devices\.heater\.link: .*baudrate='fast' is no number",
        ),
        (with_heater("link = 'visa://X'"), r"devices\.heater\.link: a heater is reached by tcp or serial, not by visa"),
        (with_heater("gian = 2.0"), r"devices\.heater\.gian: unknown key \(did you mean 'gain'\?\)"),
        (with_heater("lnik = 'emulator:'"), r"devices\.heater\.lnik: unknown key \(did you mean 'link'\?\)"),
        (with_heater("gain = 'much'"), r"devices\.heater\.gain: .*valid number.*\(got 'much'\)"),
        (with_heater("turns = 1.5"), r"devices\.heater\.turns: .*integer.*\(got 1\.5\)"),
        ("schema = 1\n[devices.g]\ndriver = 'test_config:Needy'", r"devices\.g\.diameter: is missing; gauge needs it"),
        (with_heater("limits.setpiont = '..400 degC'"), r"has no signal 'setpiont' \(did you mean 'setpoint'\?\)"),
        (with_heater("limits.setpoint = '..400 bar'"), r"devices\.heater\.limits\.setpoint: 'bar' is a pressure"),
        (with_heater("limits.setpoint = '..400 degF'"), r"devices\.heater\.limits\.setpoint: unknown unit 'degF'"),
        (with_heater("limits.setpoint = '..700 degC'"), r"goes beyond the instrument's own 0 to 600 degC"),
        (with_heater("limits.setpoint = '-5.. degC'"), r"goes beyond the instrument's own 0 to 600 degC"),
        (with_heater("limits.setpoint = '700..800 degC'"), r"leaves nothing of the instrument's own"),
        (with_heater("limits.setpoint = '400..20 degC'"), r"the lower end is above the upper"),
        (with_heater("limits.setpoint = '..'"), r"limits nothing"),
        (with_heater("limits.temperature = '..400 degC'"), r"temperature can only be read; limits apply to setpoint, "),
        (with_heater("limits.mode = '0..1'"), r"mode is no number; limits apply to setpoint, ramp_rate"),
        (with_heater("poll.temprature = 1"), r"devices\.heater\.poll\.temprature: .*did you mean 'temperature'"),
        (with_heater("poll.temperature = 0"), r"devices\.heater\.poll\.temperature: 0; write seconds above 0"),
        (with_heater("calibration = 'none.toml'"), r"devices\.heater\.calibration: there is no file none\.toml"),
        (
            with_heater("link = 'bus'\non_link_lost = 'safe'", "schema = 1\n[links.bus]\nurl = 'tcp://h:1'"),
            r"devices\.heater\.on_link_lost: belongs to links\.bus; write it there",
        ),
        (
            with_heater(
                "link = 'tcp://h:1'\n[devices.oven]\ndriver = 'toy:ToyHeater'\n"
                "link = 'tcp://h:1'\non_link_lost = 'reconnect'"
            ),
            r"devices\.oven\.on_link_lost: heater is on the same link and says otherwise",
        ),
        (
            with_heater(
                "[[interlocks]]\nname = 'v'\nkeep = 'guage.pressure < 1 Pa'\n[devices.gauge]\ndriver='toy:ToyGauge'"
            ),
            r"interlocks\[0\]\.keep: 'guage' is no device here \(did you mean 'gauge'\?\)",
        ),
        (
            with_heater("[[interlocks]]\nname = 'v'\nkeep = 'heater.temperatur < 1 degC'"),
            r"interlocks\[0\]\.keep: .*did you mean 'temperature'",
        ),
        (with_heater("[[interlocks]]\nname = 'v'\nkeep = 'heater.temperature < 1 Pa'"), "they do not convert"),
        (with_heater("[[interlocks]]\nname = 'v'\nkeep = 'heater.temperature is cold'"), "is no condition; write"),
        (with_heater("[[interlocks]]\nname = 'v'\nkeep = 'heater.mode < 1'"), "heater.mode is a str; an interlock"),
        (
            with_heater("[[interlocks]]\nname = 'v'\nkeep = 'heater.temperature < 1'\nfor_atleast = 2"),
            r"interlocks\.0\.for_atleast: unknown key \(did you mean 'for_at_least'\?\)",
        ),
        (
            with_heater(2 * "[[interlocks]]\nname = 'v'\nkeep = 'heater.temperature < 1'\n"),
            r"interlocks\[1\]\.name: 'v' is taken",
        ),
        (with_heater("[holder]\nname = 'c'\nheater = 'haeter'"), r"holder\.heater: 'haeter' is no device here"),
        (
            with_heater("[holder]\nname = 'c'\nheater = 'heater'\nlimits.temprature = '..1 degC'"),
            r"holder\.limits\.temprature: none of the holder's parts has it \(did you mean 'temperature'\?\)",
        ),
        (
            with_heater("[holder]\nname = 'c'\nheater = 'heater'\nlimit.temperature = '..1 degC'"),
            r"holder\.limit: .* is no device's name \(did you mean 'limits'\?\)",
        ),
        (
            with_heater("frame_clock = 'heater'"),
            r"devices\.heater\.frame_clock: belongs to a camera, and a heater is none",
        ),
        (
            with_camera("frame_clock = 'bord'"),
            r"devices\.eye\.frame_clock: 'bord' is no device here \(did you mean 'board'",
        ),
        (
            with_camera("frame_clock = 'heater'"),
            r"devices\.eye\.frame_clock: heater \(heater\) is no FrameClock; board can stamp pulses",
        ),
        (
            with_camera("frame_input = 1"),
            r"devices\.eye\.frame_input: of which device\? write frame_clock = \"device\" too",
        ),
        (
            with_camera("frame_clock = 'board'\nframe_input = -1"),
            r"devices\.eye\.frame_input: .*greater than or equal to 0",
        ),
        (
            with_camera(
                "frame_clock = 'board'\nframe_input = 2\n"
                "[devices.other]\ndriver = 'merlin'\nframe_clock = 'board'\nframe_input = 2"
            ),
            r"devices\.other\.frame_input: input 2 of board is that of eye; give each camera its own",
        ),
        (with_heater("[holder]\nname = 'c'\nheater = ['heater']"), r"holder\.heater: \['heater'\] is no device's name"),
        (
            with_heater(
                "limits.setpoint = '..50 degC'\n[holder]\nname = 'c'\nheater = 'heater'\nlimits.setpoint = '60.. degC'"
            ),
            r"holder\.limits\.setpoint: leaves nothing of what em3\.toml allows heater\.setpoint",
        ),
    ],
)
def test_a_mistake_names_the_file_the_key_and_what_would_be_right(text: str, said: str) -> None:
    assert re.search(said, problem(text)), problem(text)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("link = /dev/ttyUSB0", r'line 4.*: link = /dev/ttyUSB0; put text into quotes: "/dev/ttyUSB0"'),
        ("manual = True", r"line 4.*: manual = True; write true$"),
        ('link = "C:\\dev"', r"line 4.*Unescaped|Unescaped.*line 4.*single quotes"),
        ("[devices.my oven]", r"line 4.*: \[devices\.my oven\]; a name has no blanks"),
        ("link = '/dev/ttyUSB0'", r'heater\.link: .*; write "serial:///dev/ttyUSB0"$'),
        ("link = 'com3'", r'heater\.link: .*; write "serial://COM3"$'),
        ("link = 'serial://dev/ttyUSB0'", r'heater\.link: .*; write "serial:///dev/ttyUSB0"$'),
        ("link = '10.0.0.1:502'", r'heater\.link: .*; write "tcp://10\.0\.0\.1:502"$'),
        ("link = 'GPIB0::24::INSTR'", r'heater\.link: .*; write "visa://GPIB0::24::INSTR"$'),
        ("unit = 1.5", r"heater\.unit: 1\.5; write the address as a whole number"),
        ("limits.setpoint = [20, 400]", r"limits\.setpoint: \[20, 400\]; write a range with its unit in quotes, such"),
        ("limits.setpoint = '20...400 degC'", r"limits\.setpoint: '20\.\.\.400 degC' is no range"),
        ("poll.temperature = '0.1 s'", r"poll\.temperature: '0\.1 s'; write seconds"),
        ("[interlocks]\nname = 'v'", r"interlocks: .*; begin each with \[\[interlocks\]\], in double brackets"),
        (
            "link = 'serial:///dev/ttyS0'\n[devices.oven]\ndriver = 'toy:ToyHeater'\n"
            "link = 'serial:///dev/ttyS0?baudrate=19200'",
            r"devices\.oven\.link: heater is on the same port with other settings",
        ),
        (
            "link = 'bus'\n[devices.oven]\ndriver = 'toy:ToyHeater'\nlink = 'serial:///dev/ttyS0'\n"
            "[links.bus]\nurl = 'serial:///dev/ttyS0?baudrate=19200'",
            r'devices\.oven\.link: is the wire of links\.bus; write link = "bus"',
        ),
        (
            "[links.a]\nurl = 'serial:///dev/ttyS0'\n[links.b]\nurl = 'serial:///dev/ttyS0?baudrate=19200'",
            r"links\.b\.url: is the port of links\.a; use that one",
        ),
    ],
)
def test_what_a_beginner_writes_is_answered_with_what_to_write_instead(line: str, said: str) -> None:
    told = problem(with_heater(line))
    assert re.search(said, told), told
    assert "mistakes" not in told


def test_a_file_that_notepad_saved_is_read(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(with_heater(), encoding="utf-8-sig")
    assert load(tmp_path / "lab.toml").file.devices


def test_several_mistakes_are_told_at_once() -> None:
    told = problem(
        """schema = 1
[devices.heater]
driver = "toy:ToyHeater"
link = "tcp://host"
gian = 2
limits.setpoint = "..900 degC"
[devices.gauge]
driver = "toy:Gauge"
[[interlocks]]
name = "v"
keep = "valve.state < 1"
"""
    )
    assert "5 mistakes" in told
    for key in ("devices.heater.link", "devices.heater.gian", "limits.setpoint", "devices.gauge.driver", "interlocks"):
        assert key in told


def test_a_file_that_is_not_there_or_is_no_text_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory; give the path of a lab file"):
        load(tmp_path / "lab.toml")
    (tmp_path / "lab.toml").write_bytes(b"schema = 1 # \xff\xfe")
    with pytest.raises(ConfigError, match="byte 13 is not UTF-8"):
        load(tmp_path / "lab.toml")
    with pytest.raises(ConfigError):
        load(tmp_path)


def test_limits_come_in_the_signals_unit_and_with_who_set_them() -> None:
    config = parse(
        with_heater(
            "limits.setpoint = '273.15..673.15 K'\nlimits.ramp_rate = '..60 K/min'\n"
            "[holder]\nname = 'cell 7'\nheater = 'heater'\nlimits.temperature = '..300 degC'"
        )
    )
    (ours, by_file), (holders, by_holder) = config.limits["heater"]["setpoint"]
    assert (ours.low, ours.high, by_file) == (pytest.approx(0), pytest.approx(400), "lab.toml")
    assert (holders.high, by_holder) == (300, "holder 'cell 7'")
    assert config.limits["heater"]["ramp_rate"][0][0].high == pytest.approx(1.0)
    assert [(device, name) for device, name, _, _ in config.guards] == [("heater", "temperature")]


def test_a_limit_at_the_instruments_own_end_is_no_widening_whatever_the_last_digit_says() -> None:
    parse(with_heater("limits.setpoint = '273.15..873.15 K'\nlimits.ramp_rate = '..3000 K/min'"))


def test_devices_on_one_link_share_it_and_emulators_are_each_ones_own() -> None:
    config = parse(
        with_heater(
            "link = 'tcp://h:1'\n[devices.oven]\ndriver = 'toy:ToyHeater'\nlink = 'tcp://h:1'\n"
            "[devices.a]\ndriver = 'toy:ToyGauge'\n[devices.b]\ndriver = 'toy:ToyGauge'"
        )
    )
    assert config.link_of("heater")[0] == config.link_of("oven")[0]
    assert config.link_of("a")[0] != config.link_of("b")[0]


def test_the_schema_knows_every_section() -> None:
    assert {"schema", "lab", "links", "devices", "holder", "interlocks", "telemetry"} <= set(schema()["properties"])


def test_a_rewritten_lab_file_keeps_its_comments_and_reaches_other_links() -> None:
    text = """# the lab of em3
schema = 1
[links.bus]  # two on one wire
url = "tcp://real:1"  # the real one
on_link_lost = "reconnect"

[devices.heater]
driver = "toy:ToyHeater"   # hot!
link = "bus"
limits.setpoint = "..400 degC"

[devices.oven]
driver = "toy:ToyHeater"
link = "tcp://real:2"

[devices.gauge]  # no link at all
driver = "toy:ToyGauge"

[[interlocks]]
name = "vacuum"
keep = "gauge.pressure < 1 Pa"  # keep it
"""
    config = parse(text)
    urls = {"bus": "tcp://e:1", "tcp://real:2": "tcp://e:2", "emulator:gauge": "tcp://e:3"}
    overrides: Any = lambda name: {}  # noqa: E731
    new = rewritten(config, urls, overrides)
    for comment in ("# the lab of em3", "# two on one wire", "# hot!", "# no link at all", "# keep it"):
        assert comment in new
    again = parse(new)
    assert [again.link_of(d)[1].url for d in ("heater", "oven", "gauge")] == ["tcp://e:1", "tcp://e:2", "tcp://e:3"]
    assert again.link_of("heater")[1].on_link_lost == "reconnect"
    assert again.limits == config.limits
    assert again.file.interlocks == config.file.interlocks


@pytest.mark.parametrize(
    "text",
    [
        'schema = 1\ndevices.heater.driver = "toy:ToyHeater"\ndevices.heater.link = "tcp://real:1"\n',
        'schema = 1\n[devices]\nheater = { driver = "toy:ToyHeater", link = "tcp://real:1" }\n',
        'schema = 1\n[devices."heater"]\ndriver = "toy:ToyHeater"\nlink = "tcp://real:1"\n',
    ],
)
def test_a_lab_file_too_free_in_form_to_rewrite_never_leads_to_the_real_instrument(text: str) -> None:
    config = parse(text)
    try:
        new = rewritten(config, {"tcp://real:1": "tcp://e:1"}, lambda name: {})
    except ConfigError:
        return
    assert parse(new).link_of("heater")[1].url == "tcp://e:1"


def test_mistakes_of_shape_and_of_meaning_are_told_in_one_go() -> None:
    text = """
        schema = 1
        [devices.heater]
        driver = "toy:ToyHeater"
        poll.temperature = -1
        limits.setpoint = "400..20 degC"
        [telemetry]
        broker = "http://somewhere"
    """
    with pytest.raises(ConfigError) as told:
        parse(text, "lab.toml")
    for key in ("devices.heater.poll.temperature", "devices.heater.limits.setpoint", "telemetry.broker"):
        assert f"  {key}: " in str(told.value)
