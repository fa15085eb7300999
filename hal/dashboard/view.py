"""What a browser is told of a lab: plain JSON, only what changed since it last asked.

The browser asks, at most a few times a second, and gets an answer that says all: a slow phone asks less
often and nothing queues up for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .model import FILMING, PERIODS, Board, Lab, Signal
from .series import SECOND, Curve
from .words import shown, shown_seconds, shown_unit

SPAN = 120
"""Seconds of the small curve in a tile."""
NEWEST = 10
"""Entries of the journal that are shown whatever they are."""
GRAVE = ("trip", "acknowledge", "error", "link")
"""Kinds of entries that are shown as long as they are kept, and marked in the plots of past runs."""
LONGEST = 300
"""Characters of a value, or of a reason, that are shown."""
PLOTS = 6
"""Curves that are drawn large at once."""
SPANS = {"1 min": 60, "10 min": 600, "1 h": 3600, "8 h": 28800, "2 d": 172800}
"""Windows of the plots, s."""
ORDER = ("Heater", "Thermometer", "SourceMeter", "FlowController", "PressureController", "Gauge", "Valve", "Pump")
"""Devices with these capabilities come first."""


def lab_now(lab: Lab, now: float, wall: float) -> int:
    """The lab's clock (ns) when this machine's monotonic one says `now` (s); before any reading `wall` (s, UNIX)."""
    return round((wall if lab.lead is None else now + lab.lead) * SECOND)


def layout(lab: Lab) -> list[dict[str, Any]]:
    """Devices with their signals, in the order of the page."""
    devices: dict[str, list[Signal]] = {}
    for signal in lab.present():
        if signal.about.get("kind") != "config":
            devices.setdefault(signal.device, []).append(signal)

    def rank(name: str) -> tuple[int, str]:
        capabilities = _of(devices[name], "capabilities") or ()
        return min((ORDER.index(c) for c in capabilities if c in ORDER), default=len(ORDER)), name

    return [
        {
            "name": name,
            "make": " ".join(filter(None, (_of(devices[name], "vendor"), _of(devices[name], "model")))),
            "signals": [_fixed(s) for s in _sorted(devices[name])],
        }
        for name in sorted(devices, key=rank)
    ]


def favourites(lab: Lab) -> list[str]:
    """What is drawn large before anybody has chosen: the first hinted numbers, one of each device."""
    chosen: dict[str, str] = {}
    for device in layout(lab):
        for signal in device["signals"]:
            if signal["hinted"] and signal["number"]:
                chosen.setdefault(device["name"], signal["path"])
    return list(chosen.values())[:4]


def cell(signal: Signal, ago: Callable[[float], float] = lambda when: when) -> dict[str, Any]:
    """How a signal stands. `ago` turns a time of this machine (s, monotonic) into one of the lab (ms)."""
    text, sigma, unit = shown(signal.value, signal.uncertainty, signal.unit)
    quality = "silent" if signal.silent else signal.quality or "none"
    reason = signal.reason
    if signal.silent:
        reason = f"nothing heard for {PERIODS} periods of {shown_seconds(signal.interval)}"
    to = "" if signal.setpoint is None else " ".join(filter(None, shown(signal.setpoint, None, signal.unit)))
    return {
        "text": text[:LONGEST], "sigma": sigma, "unit": unit, "quality": quality, "reason": reason[:LONGEST], "to": to,
        "heard": ago(signal.heard) if signal.silent else None,
    }  # fmt: skip


def ahead(lab: Lab, now: float, wall: float) -> float:
    """By how many seconds the lab's clock is ahead of this machine's; 0 if it can't be told from a slow network."""
    found = 0.0 if lab.lead is None else now + lab.lead - wall
    return round(found, 1) if abs(found) > 2 else 0.0


def header(board: Board, lab: Lab, user: str, now: float) -> dict[str, Any]:
    """Everything but signals: state, alarms, detectors, clocks, journal, and what `user` may do."""
    return {
        "lab": lab.name,
        "state": lab.state,
        "twins": lab.twins,
        "since": None if lab.since is None else lab.since / 1e6,
        "may": [what for what in ("stop", "acknowledge") if lab.may(user, what)],
        "alarms": [
            {
                "name": a.name, "active": a.active, "acknowledged": a.acknowledged, "severity": a.severity,
                "time": a.time / 1e6, "text": a.text, "by": a.by,
            }
            for a in lab.pressing()
        ],
        "detectors": [_detector(name, found, now - came) for name, (found, came) in sorted(lab.detectors.items())],
        "clocks": [_clock(name, found) for name, found in sorted(lab.clocks.items()) if _current(lab, found)],
        "devices": {
            name: {"state": str(found.get("state", "")), "reason": str(found.get("reason") or "")}
            for name, found in lab.devices.items()
        },
        "events": _journal(lab),
        "outbox": _outbox(lab.outbox),
        "labs": sorted(board.labs),
        "unreadable": board.unreadable and f"{board.unreadable} not understood, the last: {board.last_unreadable}",
    }  # fmt: skip


def answer(board: Board, lab: Lab, user: str, asked: Mapping[str, Any], now: float, wall: float) -> dict[str, Any]:
    """The answer to a browser that asks.

    `asked`: `since` (revision of the last answer, 0 at first), `plots` (paths drawn large), `span` (s), `end` (ms, lab
    time; null follows), `have` (by path: time in ms of its last point, `order`, `width`), `sparks` (the second up to
    which it has small curves, 0 at first; null: not now).
    `now`: s, monotonic; `wall`: s, UNIX.
    """
    since = _whole(asked.get("since"))
    if since > board.revision:
        since = 0  # of a dashboard that was there before this one
    found: dict[str, Any] = {
        "revision": board.revision, "now": lab_now(lab, now, wall) / 1e6, "behind": round(lab.behind),
        "ahead": ahead(lab, now, wall),
    }  # fmt: skip
    # A camera that stops filming sends nothing: its tile changes all the same.
    if lab.told > since or not since or lab.detectors:
        found["header"] = header(board, lab, user, now)
    if lab.shape > since or not since:
        found["layout"], found["favourites"] = layout(lab), favourites(lab)
        since = 0
    base = found["now"] - now * 1e3
    found["cells"] = {
        s.path: cell(s, lambda when: base + when * 1e3)
        for s in lab.present()
        if s.changed > since and s.about.get("kind") != "config"
    }
    end = lab_now(lab, now, wall) + SECOND  # a reading that came while we asked
    if asked.get("sparks") is not None:
        found["sparks"] = sparks(lab, _whole(asked["sparks"]), end // SECOND)
    span = min(max(float(asked.get("span") or 60), 0.1), 1e6)
    until = end if asked.get("end") is None else round(float(asked["end"]) * 1e6)
    found["curves"] = {}
    for path in list(asked.get("plots") or ())[:PLOTS]:
        device, _, name = str(path).partition(".")
        signal = lab.signals.get((device, name))
        if signal is not None:
            have = (asked.get("have") or {}).get(path)
            found["curves"][path] = _curve(signal, until - round(span * SECOND), until, have)
    return found


def sparks(lab: Lab, since: int, until: int) -> dict[str, Any]:
    """The small curves of every hinted number, second by second: from where on, and [s, value] of each.

    `since`: s, the last second a browser has (0: none), which may have changed since, as the one before it.
    """
    start = max(since - 1, until - SPAN)
    found = {
        s.path: [[t, float(f"{v:.5g}")] for t, v in s.series.seconds(start, until + 1) if math.isfinite(v)]
        for s in lab.present()
        if s.hinted
    }
    return {"from": start, "points": {path: curve for path, curve in found.items() if curve}}


def points(curve: Curve) -> list[list[float | None]]:
    """A curve as a browser draws it: [ms, value, low, high]."""
    columns = (_rounded(c) for c in (curve.value, curve.low, curve.high))
    return [list(row) for row in zip((curve.time / 1e6).tolist(), *columns, strict=True)]


def said(device: str, text: str) -> str:
    """What happened, with the device it happened to."""
    return text if not device or device in text else f"{device}: {text}"


# ---------------------------------------------------------------------- parts


def _curve(signal: Signal, start: int, end: int, have: Any) -> dict[str, Any]:
    gap, order = signal.patience, signal.series.order
    if isinstance(have, dict) and have.get("order") == order and isinstance(have.get("last"), (int, float)):
        # One ms before: the browser's number has lost the last digits.
        curve = signal.series.curve(start, end, gap=gap, since=round(have["last"] * 1e6) - 1_000_000)
        if curve.width == have.get("width"):
            return {"order": order, "width": curve.width, "points": points(curve), "more": True}
    curve = signal.series.curve(start, end, gap=gap)
    return {"order": order, "width": curve.width, "points": points(curve), "more": False}


def _fixed(signal: Signal) -> dict[str, Any]:
    about = signal.about
    return {
        "path": signal.path,
        "name": signal.name.replace("_", " "),
        "long": str(about.get("long_name") or ""),
        "hinted": signal.hinted,
        "number": about["dtype"] in ("float", "int") if "dtype" in about else bool(len(signal.series)),
        "unit": shown_unit(signal.unit),
        "target": bool(about.get("setpoint_of")),
        "steps": about.get("varies") == "in steps",
        "gap": signal.patience,
    }


def _sorted(signals: Sequence[Signal]) -> list[Signal]:
    return sorted(signals, key=lambda s: not s.hinted)  # else in the driver's order, as described


def _of(signals: Sequence[Signal], what: str) -> Any:
    return next((s.about[what] for s in signals if s.about.get(what)), None)


def _detector(name: str, found: Mapping[str, Any], age: float) -> dict[str, Any]:
    matched, bound, frames = _real(found.get("matched")), _real(found.get("bound_ns")), _whole(found.get("frames"))
    dropped, rate = _whole(found.get("dropped")), _real(found.get("rate"))
    filming = age < FILMING
    if not filming:
        sync = "idle"
    elif matched is None and bound is None:
        sync = "none"
    else:
        sync = "good" if matched is None or matched >= 0.999 else "uncertain" if matched >= 0.9 else "bad"
    return {
        "name": name,
        "filming": filming,
        "rate": f"{rate:.1f}" if rate is not None and filming else "–",
        "frames": f"{frames:,}".replace(",", " "),
        "dropped": f"{dropped:,}".replace(",", " "),
        "lost": dropped > 0,
        "sync": sync,
        "matched": "–" if matched is None else f"{math.floor(matched * 1000) / 10:g} %",
        "bound": "–" if bound is None else f"± {shown_seconds(bound / 1e9)}",
    }


def _clock(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    bound, sigma, rate = (_real(found.get(key)) for key in ("bound", "sigma", "rate_ppm"))
    return {
        "name": name,
        "usable": bool(found.get("usable")),
        "reason": str(found.get("reason") or ""),
        "bound": "–" if bound is None else f"± {shown_seconds(bound / 1e9)}",
        "sigma": "–" if sigma is None else shown_seconds(sigma / 1e9),
        "rate": "–" if rate is None else f"{rate:+.2f} ppm".replace("-", "−"),
    }


def _outbox(found: Mapping[str, Any]) -> str:
    waiting = _whole(found.get("waiting"))
    lost = sum(_whole(found.get(key)) for key in ("dropped_size", "dropped_age", "lost_at_kill"))
    said = [f"{waiting} readings still to come"] if waiting else []
    said += [f"{lost} readings lost to telemetry"] if lost else []
    said += [str(found["reason"])] if found.get("full") and found.get("reason") else []
    return "; ".join(said)


def _current(lab: Lab, found: Mapping[str, Any]) -> bool:
    return not lab.session or found.get("session") == lab.session


def _journal(lab: Lab) -> list[dict[str, Any]]:
    """What happened, the newest first; a trip is not lost among the safe states that it brings."""
    newest = sorted(lab.events, key=_time, reverse=True)
    shown = [e for place, e in enumerate(newest) if place < NEWEST or e["kind"] in GRAVE]
    return [{"time": e["time"] / 1e6, "kind": e["kind"], "text": said(e["device"], e["text"])} for e in shown]


def _time(event: Mapping[str, Any]) -> int:
    return int(event["time"])


def _rounded(column: npt.NDArray[np.float64]) -> list[float | None]:
    """With as many digits as a screen can show: half the bytes."""
    return [float(f"{v:.7g}") if math.isfinite(v) else None for v in column.tolist()]


def _real(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int:
    return int(number) if (number := _real(value)) is not None else 0
