"""A real browser before a real lab: emulated instruments on real wires, a real broker, the page as people see it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from hal import open_run
from hal.cli import main

pytest.importorskip("nicegui")
playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.real_clock, pytest.mark.needs_tool("mosquitto"), pytest.mark.timeout(400)]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")

LAB = """
schema = 1
[lab]
name = "em3"
[devices.heater]
driver = "eurotherm_3504"
unit = 1
limits.setpoint = "20..600 degC"
poll.temperature = 0.2
[devices.gauge]
driver = "pfeiffer_tpg36x"
channel = 2
[telemetry]
broker = "embedded:PORT"
[telemetry.commands]
"""

# It goes on after a trip, as a notebook does, and says what the instrument itself says.
SCRIPT = """
import asyncio, json, sys
from hal import Lab
from hal.capabilities import Gauge, Heater

class Bench(Lab):
    heater: Heater
    gauge: Gauge

async def main():
    async with Bench.open("lab.toml") as lab:
        async with lab.record("runs", sample="Au on SiNx 12"):
            lab.heater.ramp(to=500.0, rate=2.0)
            print("running", flush=True)
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    asyncio.current_task().uncancel()
                    await asyncio.sleep(1)
                    manual, output = await lab.heater.manual.get(), await lab.heater.output.get()
                    print(json.dumps({"manual": manual, "output": output, "trip": lab.trip.name}), flush=True)

asyncio.run(main())
"""
LONG = 120_000  # ms: a machine that does other things as well


class Program:
    """A program that runs beside the test, and what it has said."""

    def __init__(self, folder, name, *command):
        self.said = folder / f"{name}.txt"
        with self.said.open("w") as out:
            self.process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)

    def wait_for(self, pattern, within=180.0):
        end = time.monotonic() + within
        while (found := re.search(pattern, self.said.read_text())) is None:
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < end, self.said.read_text()
            time.sleep(0.05)
        return found

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The lab and its dashboard; they start at the same time."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "lab.toml").write_text(LAB.replace("PORT", str(port)))
    (folder / "script.py").write_text(SCRIPT)
    (folder / "runs").mkdir()
    hal = (sys.executable, "-m", "hal.cli")
    started = (
        Program(folder, "lab", sys.executable, "script.py"),
        Program(folder, "dashboard", *hal, "dashboard", "lab.toml", "--port", "0", "--runs", "runs"),
    )
    yield started
    for program in started:
        program.end()


@pytest.fixture(scope="module")
def lab(programs):
    programs[0].wait_for("running")
    return programs[0]


@pytest.fixture(scope="module")
def address(programs):
    return programs[1].wait_for(r"http://127\.0\.0\.1:\d+").group()


@pytest.fixture(scope="module")
def browser(programs):  # starts while they do
    with playwright.sync_playwright() as tool:
        browser = launched(tool)
        yield browser
        browser.close()


def launched(tool):
    """The system's browser, else Playwright's own (``playwright install chromium``)."""
    for path in filter(None, map(shutil.which, BROWSERS)):
        # Ubuntu's chromium is a script that asks for a snap.
        if subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0:
            return tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
    try:
        return tool.chromium.launch(args=["--no-sandbox"])
    except playwright.Error:
        if os.environ.get("CI") == "true":
            pytest.fail("this test needs chromium, and CI must have it (see the Makefile's `tools` target)")
        pytest.skip("needs chromium")


@pytest.fixture(scope="module")
def phone(browser, address):
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).new_page()
    phone.set_default_timeout(LONG)
    phone.goto(address)
    return phone


@pytest.fixture(scope="module")
def page(browser, address, lab):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(LONG)
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(address)
    page.locator('[data-path="heater.temperature"] b').wait_for()
    yield page
    assert page.errors == []


def value(page):
    return float(page.locator('[data-path="heater.temperature"] b').inner_text())


def described(page):
    return page.locator(".strips").get_attribute("aria-label")


def test_values_move_and_nothing_is_fetched_from_elsewhere(page, address):
    before = value(page)
    page.wait_for_function(
        "before => +document.querySelector('[data-path=\"heater.temperature\"] b').innerText > before + 2", arg=before
    )
    assert {url for url in page.asked if not url.startswith((address, "data:", address.replace("http", "ws")))} == set()
    assert page.locator(".bar h1").inner_text() == "em3"
    assert "online" in page.locator(".state").inner_text()


def test_quality_is_told_by_shape_and_word_not_by_colour_alone(page):
    quality = page.locator(".tile", has_text="Eurotherm").locator(".quality").first
    assert quality.inner_text().split() == ["●", "good"]


def test_the_plot_draws_the_readings_and_zooms_by_button_wheel_and_key(page):
    strips = page.locator(".strips")
    colour = "rgb(0, 114, 178)"  # of the first curve
    drawn = """colour => { const c = document.querySelector('.strips canvas'), want = colour.match(/\\d+/g).map(Number);
        if (!c) return false;
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
        for (let i = 0; i < d.length; i += 4) n += want.every((w, k) => Math.abs(d[i + k] - w) < 6) && d[i + 3] > 200;
        return n > 100; }"""
    page.wait_for_function(drawn, arg=colour)
    assert "last 60 s" in described(page)
    page.get_by_role("button", name="show less time").click()
    page.wait_for_function("document.querySelector('.strips').ariaLabel.includes('last 30 s')")
    strips.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('.strips').ariaLabel.includes('past 30 s')")
    box = strips.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_function("+document.querySelector('.strips').ariaLabel.match(/past (\\d+) s/)?.[1] < 25")
    page.get_by_role("button", name="Back to now").click()
    page.get_by_role("button", name="1 min").click()
    page.wait_for_function("document.querySelector('.strips').ariaLabel.includes('last 60 s')")


def test_a_signal_is_taken_into_the_plots_and_out_again(page):
    button = page.get_by_role("button", name="plot gauge.pressure")
    before = button.get_attribute("aria-pressed")
    button.click()
    page.wait_for_function(
        "before => document.querySelector('[aria-label=\"plot gauge.pressure\"]').ariaPressed !== before", arg=before
    )
    assert ("gauge.pressure" in described(page)) == (before == "false")
    button.click()


def test_a_phone_shows_all_of_it_without_sideways_scrolling(phone):
    phone.locator('[data-path="heater.temperature"] b').wait_for()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    stop = phone.get_by_role("button", name="STOP").bounding_box()
    assert min(stop["width"], stop["height"]) >= 44  # what a thumb hits
    assert stop["x"] + stop["width"] <= 390


def test_the_keyboard_reaches_stop_first_and_escape_takes_it_back(page, lab):
    page.evaluate("document.activeElement.blur()")
    page.locator(".skip").focus()
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className").startswith("stop"):
            break
    assert page.evaluate("document.activeElement.innerText").strip() == "STOP"
    page.keyboard.press("Enter")
    page.locator("dialog[open]").wait_for()
    assert page.evaluate("document.activeElement.innerText") == "Stop now"
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    assert page.locator(".notice.trip").count() == 0


def test_a_page_that_has_slept_for_an_hour_calls_nothing_now_until_it_has_heard_anew(page, lab):
    said = page.evaluate("""() => new Promise((done) => {
        const now = Date.now, notices = document.querySelector('.notices');
        new MutationObserver((_, observer) => {
            if (!notices.innerText.includes('60 min old')) return;
            observer.disconnect();
            Date.now = now;
            done(true);
        }).observe(notices, {subtree: true, childList: true, characterData: true});
        Date.now = () => now() + 3600e3;
        setTimeout(() => ((Date.now = now), done(false)), 20000); })""")
    assert said
    page.locator(".state", has_text="online").wait_for()
    page.locator(".notice", has_text="No answer").wait_for(state="detached")


def test_a_stop_that_can_not_be_sent_is_said_so_at_once_and_is_not_sent_later(page, lab, programs):
    dashboard = programs[1].process
    dashboard.send_signal(signal.SIGSTOP)
    try:
        page.locator(".notice", has_text="No answer from the dashboard").wait_for()
        page.locator(".state", has_text="unknown").wait_for()
        page.get_by_role("button", name="STOP").click()
        page.get_by_role("button", name="Stop now").click(delay=300)
        page.locator(".notice", has_text="NOT sent").wait_for()
    finally:
        dashboard.send_signal(signal.SIGCONT)
    page.locator(".state", has_text="online").wait_for()
    assert page.locator(".notice.trip").count() == 0
    page.get_by_role("button", name="Close").click()


def test_stop_held_for_a_second_takes_the_heater_to_its_safe_state(page, lab):
    assert page.locator('[data-path="heater.temperature"]').is_visible()
    box = page.get_by_role("button", name="STOP").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.locator(".notice.trip").wait_for()
    page.mouse.up()
    found = json.loads(lab.wait_for(r"\{.*\}").group())
    assert found == {"manual": True, "output": 0.0, "trip": "stop"}
    assert page.locator("dialog[open]").count() == 0  # letting go is no second press


def test_an_alarm_shows_on_every_screen_and_is_gone_from_all_once_acknowledged_on_one(page, phone):
    phone.locator(".notice.trip").wait_for()
    page.locator(".notice.trip").get_by_role("button", name="Acknowledge").click()
    for screen in (page, phone):
        screen.locator(".notice.trip").wait_for(state="detached")


def test_the_run_that_is_being_recorded_is_among_the_past_runs(page, browser, address):
    past = browser.new_page()
    past.set_default_timeout(LONG)
    past.goto(f"{address}/runs")
    row = past.locator("tbody tr")
    row.wait_for()
    assert "Au on SiNx 12" in row.inner_text()
    row.locator("a").click()
    past.locator(".strips canvas").wait_for()
    assert past.get_by_role("button", name="heater.temperature").get_attribute("aria-pressed") == "true"
    past.close()


def test_a_lab_that_dies_is_not_taken_for_alive(page, lab):
    lab.process.kill()
    # Its embedded broker ends with it, and may or may not come to say the last will.
    page.locator(".notice.bad", has_text=re.compile("died|no broker answers|was lost")).first.wait_for()
    page.locator('.tile .quality:has-text("silent")').first.wait_for()
    assert page.locator('[data-path="heater.temperature"] b').inner_text()  # the last value stays, and is called silent


def test_the_record_is_whole_and_tells_who_stopped_and_who_acknowledged(programs, lab):
    """The lab was killed while it recorded, in the test before."""
    (path,) = (lab.said.parent / "runs").glob("*.nxs")
    assert main(["repair", str(path)]) == 0
    with open_run(path) as run:
        temperature = run.signals["heater.temperature"]
        told = {kind: [e.text for e in run.events if e.kind == kind] for kind in ("trip", "acknowledge")}
        trip = next(e.time for e in run.events if e.kind == "trip")
        state = run.state
    assert state == "crashed"
    assert len(told["trip"]) == len(told["acknowledge"]) == 1
    assert "this machine" in told["trip"][0]  # the user of a dashboard without one
    assert (temperature.time[1:] > temperature.time[:-1]).all()
    assert temperature.time[0] < trip < temperature.time[-1]  # it went on being read
