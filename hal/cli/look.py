"""`hal find`, `check`, `list`, `devices`, `schema`: what is there, and whether it is right."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from ..errors import HalError
from ..model.capabilities import CAPABILITIES
from ..model.signal import SignalRW


def add(verbs: Any) -> None:
    """Add the commands."""
    find = verbs.add_parser("find", help="serial ports, VISA resources, and what answers on them")
    find.add_argument("--ask", action="store_true", help="ask *IDN? of VISA resources that are found")
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
    """List serial ports and VISA resources."""
    from serial.tools import list_ports

    ports = [
        {"url": f"serial://{p.device}", "what": p.description, "id": p.hwid}
        for p in sorted(list_ports.comports(), key=lambda p: str(p.device))
    ]
    resources: list[dict[str, str]] = []
    try:
        import pyvisa

        manager = pyvisa.ResourceManager("@py")
        for name in manager.list_resources("?*::INSTR") + manager.list_resources("?*::SOCKET"):
            if name.startswith("ASRL"):
                continue  # the serial ports again
            entry = {"url": f"visa://{name}", "what": ""}
            if options.ask:
                try:
                    resource: Any = manager.open_resource(name, open_timeout=1000)
                    with resource:
                        resource.timeout = 1000
                        entry["what"] = resource.query("*IDN?").strip()
                except Exception as error:
                    entry["what"] = f"no answer ({error})"
            resources.append(entry)
        manager.close()
    except (ImportError, OSError, ValueError) as error:
        print(f"VISA can't be looked through: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps({"serial": ports, "visa": resources}, indent=2))
        return 0
    for title, found in (("serial ports", ports), ("VISA resources", resources)):
        print(f"{title}:")
        for entry in found:
            print(f"  {entry['url']:<40}{entry['what']}")
        if not found:
            print("  none")
    return 0


def work_check(options: argparse.Namespace) -> int:
    """Check, and tell by the exit code."""
    from ..runtime.config import load

    config = load(options.lab)
    if options.offline:
        rows = [{"device": n, "driver": d.file.driver, "ok": True} for n, d in _entries(config).items()]
        print(json.dumps({"ok": True, "devices": rows}) if options.json else f"{options.lab}: the file is right")
        return 0
    return asyncio.run(_check(config, as_json=options.json))


class _Entry:
    def __init__(self, file: Any, driver: Any) -> None:
        self.file, self.driver = file, driver


def _entries(config: Any) -> dict[str, _Entry]:
    return {name: _Entry(entry, config.drivers[name]) for name, entry in config.file.devices.items()}


async def _check(config: Any, *, as_json: bool) -> int:
    from ..model.capabilities import lacking
    from ..model.context import Context
    from ..runtime.emulation import Emulation
    from ..runtime.wiring import make_session

    context = Context()
    emulation = await Emulation(config).start(only_unreal=True)
    rows = []
    sessions: dict[str, Any] = {}
    try:
        for name, entry in _entries(config).items():
            key, link = config.link_of(name)
            row: dict[str, Any] = {"device": name, "driver": entry.file.driver, "link": link.url, "ok": True}
            options = config.options.get(name) or entry.driver.Options()
            if found := emulation.overrides(name):
                from dataclasses import replace

                options = replace(options, **found)
            device = None
            try:
                if key not in sessions:
                    url = emulation.url(key) if key in emulation.links else link.url
                    names = [n for n in config.file.devices if config.link_of(n)[0] == key]
                    sessions[key] = make_session(config, names, url, context)
                device = entry.driver(
                    sessions[key],
                    name,
                    unit=entry.file.unit,
                    channel=entry.file.channel,
                    options=options,
                    context=context,
                )
                await device.connect()
                row["identity"] = device.identity
                row["capabilities"] = [c.__name__ for c in CAPABILITIES if c in device.provides]
                missing = {c.__name__: lacking(device, c) for c in device.provides}
                if problems := [f"{c}: {'; '.join(m)}" for c, m in missing.items() if m]:
                    row |= {"ok": False, "error": "; ".join(problems)}
            except (HalError, OSError) as error:
                row |= {"ok": False, "error": str(error)}
            finally:
                if device is not None:
                    await device.disconnect()
            rows.append(row)
    finally:
        await emulation.close()
    fine = all(row["ok"] for row in rows)
    if as_json:
        print(json.dumps({"ok": fine, "devices": rows}, indent=2))
    else:
        for row in rows:
            if row["ok"]:
                print(f"ok    {row['device']:<16}{', '.join(row['capabilities']):<24}{row['identity']}")
            else:
                print(f"WRONG {row['device']:<16}{row['error']}")
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
            print(f"  {entry['signal']:<18}{entry['unit']:<9}every {entry['poll']:g} s  {settable}")
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
                "emulator": bool(cls.emulator),
                "verified": cls.verified,
            }
        )
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(
                f"{row['driver']:<18}{row['instrument']:<34}{'/'.join(row['wires']):<16}"
                f"{', '.join(row['capabilities']):<24}{row['verified']}"
            )
    return 0


def work_schema(options: argparse.Namespace) -> int:
    """JSON Schema of the lab file."""
    from ..runtime.config import schema

    print(json.dumps(schema(), indent=2))
    return 0
