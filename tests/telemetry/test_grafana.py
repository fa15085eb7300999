"""What Telegraf and Grafana make of a lab by our configuration, as far as that can be told without running them.

No real Telegraf, InfluxDB or Grafana runs here. The configuration is read strictly and applied to payloads of ours by
our own reading of Telegraf's sources; its script runs in Starlark's own implementation, which is Telegraf's too; the
dashboard goes through the model that Grafana generates from its own schema. The last two need packages (`starlark-go`,
`grafana-foundation-sdk`) and are skipped without.
"""

from __future__ import annotations

import json
import re
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from hal.model.reading import Quality, Reading
from hal.telemetry import topics
from hal.telemetry.rates import Spread

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/reference/telemetry.md").read_text("utf-8")
TIME = 1_764_000_000_123_456_789
DASHBOARD = json.loads((ROOT / "examples/grafana/dashboard.json").read_text("utf-8"))
STARLARK = {str: "string", bool: "bool", int: "int", float: "float", type(None): "NoneType"}
CONFIG = tomllib.loads((ROOT / "examples/grafana/telegraf.conf").read_text("utf-8"))
READINGS = [
    Reading(21.5, "degC", TIME, 5_000_000, 0.1),
    Reading(3, "", TIME, 0),
    Reading(True, "", TIME, 0),
    Reading("open", "", TIME, 0),
    Reading(None, "Pa", TIME, 0, None, Quality.BAD, "gauge: no reply"),
    Reading(2**60, "", TIME, 2**60),
]


# Telegraf does not start with a key it does not know (config/config.go). Those it knows: the `toml` tags in config.go
# (agent, filters), plugins/inputs/mqtt_consumer/mqtt_consumer.go, plugins/common/tls/config.go,
# plugins/parsers/json_v2/parser.go, plugins/processors/starlark, plugins/outputs/influxdb_v2.
KNOWN = {
    "": {"agent", "inputs", "processors", "outputs"},
    "agent": {"interval", "flush_interval", "metric_batch_size", "metric_buffer_limit", "omit_hostname"},
    "inputs": {"mqtt_consumer"},
    "inputs.mqtt_consumer": {
        "servers", "topics", "topic_tag", "topic_parsing", "username", "password", "qos", "connection_timeout",
        "max_undelivered_messages", "persistent_session", "client_id", "data_format", "json_v2", "tls_ca", "tls_cert",
        "tls_key",
    },
    "inputs.mqtt_consumer.topic_parsing": {"topic", "measurement", "tags", "fields", "types"},
    "inputs.mqtt_consumer.json_v2": {"measurement_name", "timestamp_path", "timestamp_format", "field", "tag"},
    "inputs.mqtt_consumer.json_v2.field": {"path", "type", "rename", "optional"},
    "inputs.mqtt_consumer.json_v2.tag": {"path", "rename", "optional"},
    "processors": {"starlark"},
    "processors.starlark": {"source", "namepass"},
    "outputs": {"influxdb_v2"},
    "outputs.influxdb_v2": {"urls", "token", "organization", "bucket"},
}  # fmt: skip


def keys(content: Any, where: str = "") -> Iterator[tuple[str, set[str]]]:
    """The keys of each table of a configuration, by its path."""
    if isinstance(content, list):
        for each in content:
            yield from keys(each, where)
    elif isinstance(content, dict):
        yield where, set(content)
        for key, value in content.items():
            yield from keys(value, f"{where}.{key}".lstrip("."))


def test_telegraf_knows_every_key_of_the_configuration() -> None:
    for where, found in keys(CONFIG):
        assert found <= KNOWN[where], where


def point(topic: str, payload: bytes) -> tuple[str, dict[str, str], dict[str, Any], int | None]:
    """What Telegraf makes of a message by our configuration, as its manual says.

    Of plugins/parsers/json_v2: a field without a type keeps that of JSON, numbers become float; null makes no
    field; a path that is not there is an error unless `optional`. Of inputs/mqtt_consumer: a topic that does
    not fit a `topic_parsing` is left alone. Of processors/starlark: the code is Python but for `type`.
    """
    (source,) = (
        i for i in CONFIG["inputs"]["mqtt_consumer"] if any(paho.topic_matches_sub(t, topic) for t in i["topics"])
    )
    assert source["topic_tag"] == ""
    content = json.loads(payload)
    tags = {}
    for parsing in source["topic_parsing"]:
        if paho.topic_matches_sub(parsing["topic"], topic):
            assert parsing["topic"].count("/") == parsing["tags"].count("/")
            tags |= {k: v for k, v in zip(parsing["tags"].split("/"), topic.split("/"), strict=True) if k != "_"}
    (parser,) = source["json_v2"]
    tags |= {tag["path"]: content[tag["path"]] for tag in parser.get("tag", ())}
    convert: Any = {"float": float, "int": int, "": lambda v: v if isinstance(v, (str, bool)) else float(v)}
    fields = {
        field["path"]: convert[field.get("type", "")](content[field["path"]])
        for field in parser["field"]
        if (field["path"] in content or not field.get("optional")) and content[field["path"]] is not None
    }
    stamp = parser.get("timestamp_path")
    assert stamp is None or parser["timestamp_format"] == "unix_ns"
    metric = types.SimpleNamespace(name=parser["measurement_name"], tags=tags, fields=fields)
    for processor in CONFIG["processors"]["starlark"]:
        if metric.name in processor["namepass"]:
            script: dict[str, Any] = {"type": lambda value: STARLARK[type(value)]}
            exec(compile(processor["source"], "telegraf.conf", "exec", dont_inherit=True), script)
            metric = script["apply"](metric)
    return metric.name, metric.tags, metric.fields, None if stamp is None else int(content[stamp])


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: repr(reading.value))
@pytest.mark.parametrize("spread", [None, Spread(1.0, 2.0, 3.0, 7), Spread(None, None, None, 7)])
def test_telegraf_makes_one_point_of_a_reading_whether_it_came_live_or_as_history(
    reading: Reading[Any], spread: Spread | None
) -> None:
    topic, payload = topics.reading_topic("em3", "heater", "x"), topics.encode_reading(reading, spread)
    name, tags, fields, when = found = point(topic, payload)
    assert point(topics.history_topic(topic), topics.as_history(payload)) == found
    assert (name, when) == ("reading", TIME)
    assert tags == {"lab": "em3", "device": "heater", "signal": "x", "unit": reading.unit}
    place = {float: "value", int: "value", bool: "flag", str: "text", type(None): None}[type(reading.value)]
    if abs(reading.value or 0) <= 2**53 if isinstance(reading.value, int) else True:
        assert {key for key in ("value", "text", "flag") if key in fields} == ({place} if place else set())
    assert not any(value is None for value in fields.values())


# A field keeps its type for ever in InfluxDB: the first one written decides.
TYPES = {"value": float, "text": str, "flag": bool, "uncertainty": float, "time_bound": int, "quality": str,
         "reason": str, "min": float, "mean": float, "max": float, "count": int}  # fmt: skip


def test_every_field_of_a_reading_has_one_type_in_the_database() -> None:
    for reading in READINGS:
        for spread in (None, Spread(1, 2.0, 3, 7)):
            fields = point("insitu/em3/heater/x", topics.encode_reading(reading, spread))[2]
            assert {key: type(value) for key, value in fields.items()} == {key: TYPES[key] for key in fields}


def test_telegraf_takes_every_alarm_event_and_state_of_the_reference() -> None:
    shown = re.findall(
        r"^`(insitu-meta/em3/(?:alarms|events|state)[^`\s]*)`[^\n]*\n```json\n(.*?)^```", REFERENCE, re.M | re.S
    )
    names = set()
    for topic, block in shown:
        for line in block.splitlines():
            name, tags, fields, _ = point(topic, line.encode())
            names.add(name)
            assert tags["lab"] == "em3"
            assert fields
    assert names == {"alarm", "event", "lab"}


def test_grafana_asks_for_nothing_that_telegraf_does_not_write() -> None:
    dashboard = DASHBOARD
    written: dict[str, set[str]] = {}
    for source in CONFIG["inputs"]["mqtt_consumer"]:
        for parser in source["json_v2"]:
            known = written.setdefault(parser["measurement_name"], {"time"})
            known |= {entry["path"] for kind in ("field", "tag") for entry in parser.get(kind, ())}
            known |= {word for parsing in source["topic_parsing"] for word in parsing["tags"].split("/")} - {"_"}
    queries = [target["query"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"]]
    queries += [annotation["target"]["query"] for annotation in dashboard["annotations"]["list"]]
    assert len(queries) > 10
    for query in queries:
        (measurement,) = re.findall(r'FROM "(\w+)"', query)
        names = set(re.findall(r'"(\w+)"', query)) - {measurement}
        assert names <= written[measurement], query
    assert {p["id"] for p in dashboard["panels"]} == set(range(1, len(dashboard["panels"]) + 1))


def test_the_processor_does_the_same_in_starlarks_own_implementation() -> None:
    starlark_go = pytest.importorskip("starlark_go")
    (processor,) = CONFIG["processors"]["starlark"]
    # The binding has nothing with attributes, so that the metric's fields are handed in as what they are: a dict.
    script = processor["source"].replace("metric.fields", 'metric["fields"]')
    for value in (21.5, 3, True, "open", None):
        as_python = {"reason": "", **({} if value is None else {"value": value})}
        metric = types.SimpleNamespace(fields=dict(as_python))
        python: dict[str, Any] = {"type": lambda value: STARLARK[type(value)]}
        exec(compile(processor["source"], "telegraf.conf", "exec", dont_inherit=True), python)
        starlark = starlark_go.Starlark()
        starlark.exec(script)
        starlark.set(given=as_python)
        found = starlark.eval('apply({"fields": dict(given)})["fields"]')
        assert found == python["apply"](metric).fields
        assert {key: type(each) for key, each in found.items()} == {k: type(v) for k, v in metric.fields.items()}


# What the dashboard has that the model does not: what an import asks for, and what only the data source understands.
BEYOND = {"__inputs", "__requires", "annotations.list.target.refId", "annotations.list.target.rawQuery",
          "annotations.list.target.query", "annotations.list.target.textColumn"}  # fmt: skip


def lost(sent: Any, back: Any, where: str = "") -> Iterator[str]:
    """Where `back` has not what `sent` had."""
    if isinstance(sent, dict):
        for key, value in sent.items():
            path = f"{where}.{key}".lstrip(".")
            if isinstance(back, dict) and key in back:
                yield from lost(value, back[key], path)
            else:
                yield path
    elif isinstance(sent, list) and isinstance(back, list) and len(sent) == len(back):
        for ours, theirs in zip(sent, back, strict=True):
            yield from lost(ours, theirs, where)
    elif sent != back:
        yield where


def test_grafanas_own_model_of_a_dashboard_knows_every_field_of_it() -> None:
    pytest.importorskip("grafana_foundation_sdk")
    from grafana_foundation_sdk.cog import encoder, plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()

    def passed(content: Any) -> set[str]:
        text = encoder.JSONEncoder().encode(Dashboard.from_json(content))
        return set(lost(content, json.loads(text)))

    assert passed(DASHBOARD) == BEYOND
    wrong = json.loads(json.dumps(DASHBOARD))
    plot = next(panel for panel in wrong["panels"] if panel["type"] == "timeseries")
    plot["options"]["legende"] = plot["gridPoss"] = plot["fieldConfig"]["defaults"]["units"] = {}
    assert passed(wrong) - BEYOND == {"panels.options.legende", "panels.gridPoss", "panels.fieldConfig.defaults.units"}
