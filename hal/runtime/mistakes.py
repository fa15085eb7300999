"""What is wrong with a lab file, in sentences: the key, what stands there, what would be right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..errors import ConfigError, near
from .lab_file import InterlockEntry, LabEntry, LabFile, LinkEntry
from .telemetry_entry import CommandsEntry, RateEntry, TelemetryEntry, UserEntry

RANGE = 'write a range with its unit in quotes, such as "20..400 degC"'
INSTEAD = {
    "schema": "write schema = 1, without quotes",
    "interlocks": "begin each with [[interlocks]], in double brackets",
    "limits": RANGE,
    "poll": "write seconds above 0, such as 0.5",
    "unit": "write the address as a whole number, or as text in quotes",
    "channel": "write it as a whole number, or as text in quotes",
}
"""By key, what pydantic's own words don't say."""


def not_toml(error: Exception, text: str) -> str:
    """The line at which TOML ends, and what is most often wrong there."""
    found = re.search(r"at line (\d+)", str(error))
    line = text.splitlines()[int(found[1]) - 1].strip() if found else ""
    told = f"not valid TOML: {error}" + (f": {line}" if line else "")
    value = line.partition("=")[2].strip()
    if "Invalid value" in str(error) and value in ("True", "False"):
        return f"{told}; write {value.lower()}"
    if "Invalid value" in str(error) and re.match(r"[A-Za-z/]", value):
        return f'{told}; put text into quotes: "{value.partition("#")[0].strip()}"'
    if "Unescaped" in str(error):
        return f"{told}; put it into single quotes, or write / for \\"
    if line.startswith("[") and " " in line:
        return f"{told}; a name has no blanks"
    return told


def link_meant(text: str) -> str:
    """How a link would be written that somebody gave as `text`; empty: unknown."""
    if text.startswith("/dev/"):
        return f'; write "serial://{text}"'
    if re.fullmatch(r"COM\d+", text, re.I):
        return f'; write "serial://{text.upper()}"'
    if re.match(r"(GPIB|TCPIP|USB|ASRL|PXI)\d*::", text, re.I):
        return f'; write "visa://{text}"'
    if re.fullmatch(r"[\w.-]+:\d+", text):
        return f'; write "tcp://{text}"'
    return ""


def sentence(problem: Any) -> str:
    """What pydantic found, in words."""
    where = [str(part) for part in problem["loc"]]
    key = ".".join(where).replace(".[key]", "")
    match problem["type"]:
        case "extra_forbidden":
            known = _known_keys(where)
            return f"{key}: unknown key{near(where[-1], known)}; known here are {', '.join(known)}"
        case "missing":
            return f"{key}: is missing" + ("; write schema = 1 at the top" if key == "schema" else "")
        case "string_pattern_mismatch":
            return f"{key}: a name is made of letters, digits and underscores and does not begin with a digit"
        case _ if where[0] == "telemetry" and where[1:2] != ["rates"]:  # it may be a password
            return f"{key}: {problem['msg']}"
    word = where[2] if where[0] == "devices" and len(where) > 2 else where[0] if len(where) == 1 else ""
    if word in INSTEAD:
        key = ".".join(where[: 4 if word in ("limits", "poll") else 3])  # no branch of a union
        return f"{key}: {problem['input']!r}; {INSTEAD[word]}"
    return f"{key}: {problem['msg']} (got {problem['input']!r})"


def _known_keys(where: list[str]) -> list[str]:
    within: dict[str, type[BaseModel]] = {"users": UserEntry, "commands": CommandsEntry, "rates": RateEntry}
    if where[0] == "telemetry" and len(where) > 2 and where[1] in within:
        return list(within[where[1]].model_fields)
    section = where[0] if len(where) > 1 else ""
    models: dict[str, type[BaseModel]] = {
        "lab": LabEntry, "links": LinkEntry, "interlocks": InterlockEntry, "telemetry": TelemetryEntry,
    }  # fmt: skip
    return [f.alias or name for name, f in models.get(section, LabFile).model_fields.items()]


def told(path: Path, problems: list[str]) -> ConfigError:
    """All that is wrong, as one error."""
    if len(problems) == 1:
        return ConfigError(f"{path}: {problems[0]}")
    return ConfigError(f"{path}: {len(problems)} mistakes\n" + "\n".join(f"  {problem}" for problem in problems))
