"""Does the dashboard stay responsive? 100 signals at 50 readings a second each, one broker, one page, one browser.

    python bench/dashboard.py [--signals 100] [--rate 50] [--seconds 20]

Says what share of a core the dashboard and the browser took, and how the page fared: long tasks of its main
thread (50 ms and more: what a person feels), the longest pause between two frames, how often a shown value changed
(5 a second at most is meant), and how old the value was that it showed. Needs the extra `dashboard`, playwright,
Chromium and mosquitto; Linux, since it reads /proc. Publisher, broker, dashboard and browser share the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from hal.dashboard.mqtt import connect
from hal.telemetry.broker import EmbeddedBroker
from hal.telemetry.window import publish as packet

TICK = os.sysconf("SC_CLK_TCK")
LAB, EACH = "bench", 5
WATCH = """() => {
    window.found = {long: [], gaps: [], ages: [], changes: 0};
    new PerformanceObserver((list) => list.getEntries().forEach((e) => found.long.push(e.duration)))
        .observe({entryTypes: ['longtask']});
    let last = performance.now();
    const frame = (now) => { found.gaps.push(now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    const shown = document.querySelector('[data-path="device00.signal0"]');
    new MutationObserver(() => {
        found.changes += 1;
        found.ages.push(Date.now() / 1000 % 1000 - parseFloat(shown.textContent));
    }).observe(shown, {subtree: true, characterData: true, childList: true});
}"""


def publish(port: int, signals: int, rate: float) -> None:
    """Readings for ever: the value is the time, so that a page shows how old it is.

    By the bare socket, all of a round at once: a client library would have a queue of its own, and share the blame.
    """
    broker = socket.create_connection(("127.0.0.1", port))
    broker.sendall(connect("bench", "", None, alive=0))
    assert broker.recv(4)[3] == 0
    names = [(f"device{i // EACH:02d}", f"signal{i % EACH}") for i in range(signals)]
    state = {"schema": 1, "state": "online", "session": "s", "time": "0", "clean": True}
    broker.sendall(packet(f"insitu-meta/{LAB}/state", json.dumps(state).encode(), 0, True))
    for device, name in names:
        about = {
            "schema": 1, "unit": "V/s", "kind": "hinted", "period": 1 / rate, "dtype": "float", "session": "s",
            "long_name": name, "vendor": "Nobody", "model": "Fast", "capabilities": [], "setpoint_of": "",
        }  # fmt: skip
        broker.sendall(packet(f"insitu-meta/{LAB}/signals/{device}/{name}", json.dumps(about).encode(), 0, True))
    topics = [f"insitu/{LAB}/{device}/{name}" for device, name in names]
    sent, start = 0, time.monotonic()
    while True:
        now = time.time_ns()
        payload = (
            f'{{"schema":1,"value":{now / 1e9 % 1000:.3f},"unit":"V/s","time":"{now}","time_bound":1000000,'
            '"uncertainty":0.001,"quality":"good","reason":""}'
        ).encode()
        broker.sendall(b"".join(packet(topic, payload, 0, False) for topic in topics))
        sent += 1
        time.sleep(max(0.0, start + sent / rate - time.monotonic()))


def cpu(pids: list[int]) -> float:
    """Seconds of processor time that processes have used."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += family(int(child))
    return found


def memory(pid: int) -> float:
    """MB of a process in memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--rate", type=float, default=50.0, help="readings a second of each")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--publish", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish(options.publish, options.signals, options.rate)
    broker = EmbeddedBroker(program="mosquitto")
    broker.open()
    here = [sys.executable, __file__, "--publish", str(broker.port), "--signals", str(options.signals)]
    publisher = subprocess.Popen([*here, "--rate", str(options.rate)])
    command = [
        sys.executable,
        "-m",
        "hal.cli",
        "dashboard",
        "--broker",
        f"mqtt://127.0.0.1:{broker.port}",
        "--port",
        "0",
    ]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert served.stdout is not None
        address = served.stdout.readline().split()[0]
        with sync_playwright() as tool:
            browser = tool.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(120_000)
            page.goto(address)
            page.locator('[data-path="device00.signal0"]').wait_for()
            page.wait_for_timeout(8000)  # loading is not what is measured
            drivers = [pid for pid in family(os.getpid()) if pid not in family(served.pid) + family(publisher.pid)]
            browsers = [pid for pid in drivers if "chrom" in Path(f"/proc/{pid}/comm").read_text()]
            page.evaluate(WATCH)
            before, started = [cpu([served.pid]), cpu(browsers), cpu([publisher.pid])], time.monotonic()
            page.wait_for_timeout(options.seconds * 1000)
            found = page.evaluate("found")
            took = time.monotonic() - started
            used = [now - then for now, then in zip(
                [cpu([served.pid]), cpu(browsers), cpu([publisher.pid])], before, strict=True)]  # fmt: skip
            resident = memory(served.pid)
            browser.close()
    finally:
        for process in (publisher, served):
            process.terminate()
            process.wait()
        broker.close()
    ages = sorted(found["ages"]) or [float("nan")]
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{options.signals} signals x {options.rate:g}/s asked for; {load}")
    print(f"dashboard    {100 * used[0] / took:6.1f} % of a core, {resident:.0f} MB")
    print(f"browser      {100 * used[1] / took:6.1f} % of a core (all its processes; no graphics card)")
    print(f"publisher    {100 * used[2] / took:6.1f} % of a core")
    print(f"long tasks   {len(found['long']):6d} in {took:.0f} s, longest {max(found['long'], default=0):.0f} ms")
    print(f"frames       longest pause {max(found['gaps']):.0f} ms")
    print(f"shown value  changed {found['changes'] / took:.1f} times a second")
    print(f"age shown    median {ages[len(ages) // 2]:.2f} s, worst {ages[-1]:.2f} s")


if __name__ == "__main__":
    main()
