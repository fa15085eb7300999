"""`hal find`, `check`, `list`, `devices`, `schema`: what is there, and whether it is right."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import HalError
from ..model.capabilities import CAPABILITIES, lacking
from ..model.signal import SignalRW

IN = "    "


def add(verbs: Any) -> None:
    """Add the commands."""
    find = verbs.add_parser("find", help="serial ports, VISA resources, and what answers on them")
    find.add_argument(
        "urls", nargs="*", metavar="URL", help="look at these links only (tcp://host:port, serial:///dev/...)"
    )
    find.add_argument("--ask", action="store_true", help="ask who is there, in the language of every driver in turn")
    find.add_argument("--json", action="store_true")
    find.set_defaults(work=work_find)

    check = verbs.add_parser("check", help="check a lab file, its connections, identities and capabilities")
    check.add_argument("lab", type=Path)
    check.add_argument("--offline", action="store_true", help="the file only; open nothing")
    check.add_argument("--json", action="store_true")
    check.set_defaults(work=work_check)

    listing = verbs.add_parser("list", help="devices and signals of a lab file; opens nothing")
    listing.add_argument("lab", type=Path)
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(work=work_list)

    devices = verbs.add_parser("devices", help="all drivers that are installed")
    devices.add_argument("--json", action="store_true")
    devices.set_defaults(work=work_devices)

    schema = verbs.add_parser("schema", help="JSON Schema of the lab file, for editors")
    schema.set_defaults(work=work_schema)


def work_find(options: argparse.Namespace) -> int:
    """List links and, if asked to, who answers on them."""
    from ..runtime import discovery

    places = (
        [discovery.Place(url) for url in options.urls]
        if options.urls
        else [*discovery.serial_ports(), *discovery.visa_resources()]
    )
    rows: list[dict[str, Any]] = [{"url": place.url, "what": place.what} for place in places]
    if options.ask:
        asyncio.run(_ask(rows, quiet=options.json))
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        print(f"{row['url']:<44}{row['what']}")
        for answer in row.get("answers", ()):
            print(f"    {answer['driver']}: {answer['identity']}")
        if options.ask and not row["answers"]:
            print("    no driver got an answer it knows")
    if not rows:
        print("no serial port and no VISA resource found")
    return 0


async def _ask(rows: list[dict[str, Any]], *, quiet: bool) -> None:
    """Ask on all links at once: one that is silent takes half a minute."""
    from ..runtime import discovery

    with tqdm(total=len(rows), desc="asking", leave=False, disable=quiet) as progress:

        async def ask(row: dict[str, Any]) -> None:
            row["answers"] = await discovery.ask(row["url"])
            progress.update()

        await asyncio.gather(*(ask(row) for row in rows))


def work_check(options: argparse.Namespace) -> int:
    """Check, and tell by the exit code."""
    from ..runtime.config import load

    config = load(options.lab)
    if options.offline:
        rows = [{"device": n, "driver": entry.driver, "ok": True} for n, entry in config.file.devices.items()]
        print(json.dumps({"ok": True, "devices": rows}) if options.json else f"{options.lab}: the file is right")
        return 0
    return asyncio.run(_check(config, as_json=options.json))


async def _check(config: Any, *, as_json: bool) -> int:
    from ..model.context import Context
    from ..runtime.calibration import objections
    from ..runtime.wiring import give_frame_clock, wire

    context = Context()
    context.gate.close(lambda: HalError("checking only; nothing is set"))
    wires = await wire(config, context)
    rows: list[dict[str, Any]] = []
    try:
        for name, device in wires.devices.items():
            link = config.link_of(name)[1].url
            row: dict[str, Any] = {"device": name, "driver": config.file.devices[name].driver, "link": link, "ok": True}
            try:
                await device.connect()
                row["identity"] = device.identity
                row["capabilities"] = [c.__name__ for c in CAPABILITIES if c in device.provides]
                missing = {c.__name__: lacking(device, c) for c in device.provides}
                if problems := [f"{c}: {'; '.join(m)}" for c, m in missing.items() if m]:
                    row |= {"ok": False, "error": "; ".join(problems)}
            except (HalError, OSError) as error:
                row |= {"ok": False, "error": str(error)}
            finally:
                await device.disconnect()
            rows.append(row)
        for row in rows:
            try:
                give_frame_clock(config, row["device"], wires.devices)
            except HalError as error:
                row["ok"] = False
                row.setdefault("error", str(error))
        for name, texts in objections(config, wires.devices).items():
            row = next(row for row in rows if row["device"] == name)
            if row["ok"]:  # of one that is not there nothing can be said
                row |= {"ok": False, "error": "; ".join(texts)}
    finally:
        if wires.emulation is not None:
            await wires.emulation.close()
    fine = all(row["ok"] for row in rows)
    if as_json:
        print(json.dumps({"ok": fine, "devices": rows}, indent=2))
    else:
        for row in rows:
            if row["ok"]:
                print(f"ok    {row['device']:<16}{', '.join(row['capabilities']):<24}  {row['identity']}")
            else:
                print(f"WRONG {row['device']:<16}{row['error'].removeprefix(row['device'] + ': ')}")
        print("all is well" if fine else f"{sum(not row['ok'] for row in rows)} of {len(rows)} devices are not right")
    return 0 if fine else 1


def work_list(options: argparse.Namespace) -> int:
    """Devices and signals."""
    from ..runtime.config import _signals, load

    config = load(options.lab)
    out: dict[str, dict[str, Any]] = {}
    for name, cls in config.drivers.items():
        signals = []
        for signal_name, signal in _signals(cls).items():
            entry: dict[str, Any] = {"signal": signal_name, "unit": signal.unit, "about": signal.__doc__ or ""}
            entry["poll"] = config.file.devices[name].poll.get(signal_name, signal.poll)
            if isinstance(signal, SignalRW):
                limits = signal.driver_limits
                if signal_name in config.limits.get(name, {}):
                    for narrower, _ in config.limits[name][signal_name]:
                        limits = limits.narrowed(narrower)
                entry["settable"] = True
                if signal.dtype in (int, float):
                    entry["limits"] = limits.shown(signal.unit)
            signals.append(entry)
        out[name] = {
            "driver": config.file.devices[name].driver,
            "model": f"{cls.vendor} {cls.model}".strip(),
            "link": config.link_of(name)[1].url,
            "capabilities": [c.__name__ for c in CAPABILITIES if c in cls.provides],
            "signals": signals,
        }
    if options.json:
        print(json.dumps(out, indent=2))
        return 0
    for name, device in out.items():
        print(f"{name}: {device['model']} ({', '.join(device['capabilities'])}) on {device['link']}")
        for entry in device["signals"]:
            settable = (
                f"settable, {entry['limits']}" if "limits" in entry else "settable" if "settable" in entry else ""
            )
            print(f"  {entry['signal']:<18} {entry['unit']:<8} every {entry['poll']:g} s  {settable}")
    return 0


def work_devices(options: argparse.Namespace) -> int:
    """All drivers."""
    from ..runtime import registry

    rows: list[dict[str, Any]] = []
    for name in registry.known():
        try:
            cls = registry.driver(name)
        except HalError as error:
            rows.append({"driver": name, "instrument": f"({error})", "wires": [], "capabilities": [], "verified": ""})
            continue
        rows.append(
            {
                "driver": name,
                "instrument": f"{cls.vendor} {cls.model}".strip(),
                "wires": list(cls.wires),
                "capabilities": [c.__name__ for c in cls.provides],
                "emulator": bool(cls.emulator) or "firmware" in cls.wires,
                "verified": cls.verified,
            }
        )
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        cells = [
            (row["driver"], row["instrument"], "/".join(row["wires"]), ", ".join(row["capabilities"])) for row in rows
        ]
        widths = [max(map(len, column)) + 2 for column in zip(*cells, strict=True)]
        for row, four in zip(rows, cells, strict=True):
            line = "".join(f"{cell:<{width}}" for cell, width in zip(four, widths, strict=True))
            if sys.stdout.isatty():  # for people: what does not fit goes below
                width = shutil.get_terminal_size().columns
                print(
                    line.rstrip(),
                    textwrap.fill(row["verified"], width, initial_indent=IN, subsequent_indent=IN),
                    sep="\n",
                )
            else:  # for grep
                print(line + row["verified"])
    return 0


def work_schema(options: argparse.Namespace) -> int:
    """JSON Schema of the lab file."""
    from ..runtime.config import schema

    print(json.dumps(schema(), indent=2))
    return 0
