"""A Keithley 2450 in TSP: which attribute of ``smu`` is which header of its SCPI table.

Source: as of devices/keithley_tsp.py (commands_2450.json). Left out: ``query`` and ``storefunc`` of configuration
lists, the safety interlock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devices.keithley_tsp import ON_OFF, Setting, TspFront, attribute_names, expanded
from devices.keithley_tsp_tables import Readings
from hal.protocols.lua_values import Table, silent, tonumber

SOURCED = {"FUNC_DC_VOLTAGE": "VOLT", "FUNC_DC_CURRENT": "CURR"}
MEASURED = SOURCED | {"FUNC_RESISTANCE": "RES"}
OFF_MODES = {"OFFMODE_NORMAL": "NORM", "OFFMODE_HIGHZ": "HIMP", "OFFMODE_ZERO": "ZERO", "OFFMODE_GUARD": "GUAR"}
PROTECTION = {"PROTECT_NONE": "NONE"} | {
    f"PROTECT_{v}V": f"PROT{v}" for v in (2, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180)
}

SOURCE = {
    "func": Setting(":SOUR:FUNC", SOURCED),
    "level": Setting(":SOUR:{f}:LEV", None, "SRC_LEVEL"),
    "range": Setting(":SOUR:{f}:RANG", None, "SRC_RANGE"),
    "autorange": Setting(":SOUR:{f}:RANG:AUTO", ON_OFF, "SRC_RANGE_AUTO"),
    "delay": Setting(":SOUR:{f}:DEL", None, "SRC_DELAY"),
    "autodelay": Setting(":SOUR:{f}:DEL:AUTO", ON_OFF, "SRC_DELAY_AUTO"),
    "readback": Setting(":SOUR:{f}:READ:BACK", ON_OFF, "SRC_READBACK"),
    "highc": Setting(":SOUR:{f}:HIGH:CAP", ON_OFF, "SRC_HIGHC"),
    "offmode": Setting(":OUTP:{f}:SMOD", OFF_MODES, "SRC_OFFMODE"),
    "output": Setting(":OUTP", ON_OFF),
    "ilimit.level": Setting(":SOUR:VOLT:ILIM"),
    "vlimit.level": Setting(":SOUR:CURR:VLIM"),
    "protect.level": Setting(":SOUR:VOLT:PROT", PROTECTION, "SRC_PROTECT_LEVEL"),
    "protect.tripped": Setting(":SOUR:VOLT:PROT:TRIP", ON_OFF, "SRC_PROTECT_TRIPPED", writable=False),
} | dict(expanded({"userdelay[{n}]": Setting(":SOUR:{f}:DEL:USER{n}", None, "SRC_USER_DELAY_Y")}, range(1, 6)))
TERMINALS = Setting(":ROUT:TERM", {"TERMINALS_FRONT": "FRON", "TERMINALS_REAR": "REAR"})
MEASURE = {
    "terminals": TERMINALS,  # its older place
    "nplc": Setting(":SENS:{f}:NPLC", None, "MEAS_NPLC"),
    "range": Setting(":SENS:{f}:RANG", None, "MEAS_RANGE"),
    "autorange": Setting(":SENS:{f}:RANG:AUTO", ON_OFF, "MEAS_RANGE_AUTO"),
    "autorangelow": Setting(":SENS:{f}:RANG:AUTO:LLIM", None, "MEAS_RANGE_LOW"),
    "autorangehigh": Setting(":SENS:{f}:RANG:AUTO:ULIM", None, "MEAS_RANGE_HIGH"),
    "autorangerebound": Setting(":SENS:{f}:RANG:AUTO:REB", ON_OFF, "MEAS_RANGE_REBOUND"),
    "autozero.enable": Setting(":SENS:{f}:AZER", ON_OFF, "MEAS_AUTO_ZERO"),
    "sense": Setting(":SENS:{f}:RSEN", {"SENSE_2WIRE": "0", "SENSE_4WIRE": "1"}, "MEAS_SENSE"),
    "count": Setting(":SENS:COUN", None, "MEAS_COUNT"),
    "filter.enable": Setting(":SENS:{f}:AVER", ON_OFF, "MEAS_FILTER_ENABLE"),
    "filter.count": Setting(":SENS:{f}:AVER:COUN", None, "MEAS_FILTER_COUNT"),
    "filter.type": Setting(
        ":SENS:{f}:AVER:TCON", {"FILTER_REPEAT_AVG": "REP", "FILTER_MOVING_AVG": "MOV"}, "MEAS_FILTER_TYPE"
    ),
    "rel.enable": Setting(":SENS:{f}:REL:STAT", ON_OFF, "MEAS_REL_ENABLE"),
    "rel.level": Setting(":SENS:{f}:REL", None, "MEAS_REL_LEVEL"),
    "unit": Setting(
        ":SENS:{f}:UNIT", {"UNIT_AMP": "AMP", "UNIT_VOLT": "VOLT", "UNIT_OHM": "OHM", "UNIT_WATT": "WATT"}, "MEAS_UNIT"
    ),
    "displaydigits": Setting(":DISP:{f}:DIG", {f"DIGITS_{n}_5": f"{n}" for n in range(3, 7)}, "MEAS_DIGITS"),
    "offsetcompensation": Setting(":SENS:RES:OCOM", ON_OFF, "MEAS_OFFSET_COMP"),
    "math.enable": Setting(":CALC:{f}:MATH:STAT", ON_OFF, "MEAS_MATH_ENABLE"),
    "math.format": Setting(
        ":CALC:{f}:MATH:FORM", {"MATH_MXB": "MXB", "MATH_PERCENT": "PERC", "MATH_RECIPROCAL": "REC"}, "MEAS_MATH_FORMAT"
    ),
    "math.mxb.mfactor": Setting(":CALC:{f}:MATH:MMF", None, "MEAS_MATH_MXB_MF"),
    "math.mxb.bfactor": Setting(":CALC:{f}:MATH:MBF", None, "MEAS_MATH_MXB_BF"),
    "math.percent": Setting(":CALC:{f}:MATH:PERC", None, "MEAS_MATH_PERCENT"),
} | dict(expanded({
    "limit[{n}].enable": Setting(":CALC2:{f}:LIM{n}:STAT", ON_OFF, "MEAS_LIMIT_ENABLE_Y"),
    "limit[{n}].high.value": Setting(":CALC2:{f}:LIM{n}:UPP", None, "MEAS_LIMIT_HIGH_Y"),
    "limit[{n}].low.value": Setting(":CALC2:{f}:LIM{n}:LOW", None, "MEAS_LIMIT_LOW_Y"),
    "limit[{n}].autoclear": Setting(":CALC2:{f}:LIM{n}:CLE:AUTO", ON_OFF, "MEAS_LIMIT_AUTO_CLEAR_Y"),
    "limit[{n}].audible": Setting(
        ":CALC2:{f}:LIM{n}:AUD", {"AUDIBLE_NONE": "NONE", "AUDIBLE_FAIL": "FAIL", "AUDIBLE_PASS": "PASS"},
        "MEAS_LIMIT_AUDIBLE_Y",
    ),
    "limit[{n}].fail": Setting(
        ":CALC2:{f}:LIM{n}:FAIL",
        {"FAIL_NONE": "NONE", "FAIL_HIGH": "HIGH", "FAIL_LOW": "LOW", "FAIL_BOTH": "BOTH"}, "MEAS_LIMIT_FAIL_Y",
        writable=False,
    ),
}, (1, 2))) | dict(
    expanded({"userdelay[{n}]": Setting(":SENS:{f}:DEL:USER{n}", None, "MEAS_USER_DELAY_Y")}, range(1, 6))
)  # fmt: skip
TOP = {"terminals": TERMINALS}
LIMIT = Setting(":SOUR:{f}:{x}LIM", None, "SRC_LIMIT_LEVEL")
"""Of whichever is sourced; as an attribute each has its own."""
MORE = ("INFINITE", "DELAY_AUTO", "RANGE_AUTO", "RANGE_BEST", "RANGE_FIXED", "OFF", "ON", *MEASURED)


def install(
    front: TspFront, readings: Readings, sourced: Callable[[], str], measured: Callable[[], str],
    reset: Callable[[], None],
) -> None:  # fmt: skip
    """Give the instrument its ``smu``; `sourced` and `measured`: the functions in use, ``VOLT``, ``CURR``, ``RES``."""

    def put_function(value: Any) -> None:
        front.perform(f':SENS:FUNC "{MEASURED.get(front.short(value), "")}"')

    def function() -> Table:
        return front.constant(f"smu.{next(name for name, word in MEASURED.items() if word == measured())}")

    def tripped(header: str, of: str) -> Any:
        if sourced() != of:
            return None
        return front.constant("smu.ON" if front.perform(header) == "1" else "smu.OFF")

    def acquire(*_: Any) -> Any:
        front.perform(f":SENS:{measured()}:REL:ACQ")
        return front.read("smu", MEASURE["rel.level"], measured())

    def sweep(shape: str) -> Callable[..., Any]:
        def call(_name: Any = None, *given: Any) -> None:
            front.perform(f":SOUR:SWE:{sourced()}:{shape} {front.words(given)}")

        return silent(call)

    def sweep_list(name: Any = None, index: Any = 1.0, wait: Any = 0.0, *more: Any) -> None:
        """Each level of a configuration list from `index` on; of `more`, only the buffer has an effect."""
        named, buffer = front.words((name,)), front.words(more[2:3]) or '"defbuffer1"'
        points = int(front.perform(f":SOUR:CONF:LIST:SIZE? {named}")) - int(tonumber(index) or 1) + 1
        front.perform(':TRIG:LOAD "Empty"')
        for n, block in enumerate((
            f"BUFF:CLE {{}},{buffer}", f"CONF:REC {{}},{named},{front.words((index,))}", "SOUR:STAT {},1",
            f"DEL:CONS {{}},{front.words((wait,))}", f"MEAS {{}},{buffer}", f"CONF:NEXT {{}},{named}",
            f"BRAN:COUN {{}},{points},4", "SOUR:STAT {},0",
        ), 1):  # fmt: skip
            front.perform(f":TRIG:BLOC:{block.format(n)}")

    source = front.branch("smu", SOURCE, sourced, extras={
        "ilimit.tripped": (lambda: tripped(":SOUR:VOLT:ILIM:TRIP?", "VOLT"), None),
        "vlimit.tripped": (lambda: tripped(":SOUR:CURR:VLIM:TRIP?", "CURR"), None),
        "sweeplinear": sweep("LIN"), "sweeplinearstep": sweep("LIN:STEP"), "sweeplog": sweep("LOG"),
        "sweeplist": silent(sweep_list),
        **front.attribute_functions("smu", (*SOURCE.values(), LIMIT), SOURCED), **_lists(front, ":SOUR:CONF:LIST"),
    })  # fmt: skip
    measure = front.branch("smu", MEASURE, measured, extras={
        "func": (function, put_function), "read": readings.reader(":READ"),
        "readwithtime": readings.reader(":READ", with_time=True), "rel.acquire": acquire,
        "autozero.once": front.function(":SENS:AZER:ONCE"),
        "limit[1].clear": silent(lambda *_: None), "limit[2].clear": silent(lambda *_: None),
        **front.attribute_functions("smu", tuple(MEASURE.values()), MEASURED), **_lists(front, ":SENS:CONF:LIST"),
    })  # fmt: skip
    names = attribute_names((*SOURCE.values(), *MEASURE.values(), *TOP.values(), LIMIT)) | set(MORE)
    front.add({"smu": front.branch("smu", TOP, extras={
        "source": source, "measure": measure, "reset": silent(lambda *_: reset()),
        "interlock": Table({"tripped": front.constant("smu.OFF"), "enable": front.constant("smu.OFF")}),
    } | front.constants("smu", sorted(names)))})  # fmt: skip


def _lists(front: TspFront, root: str) -> dict[str, Any]:
    """Configuration lists."""
    shown: list[str] = []

    def catalog(*_: Any) -> Any:
        """One name each time, nil after the last."""
        if not shown:
            shown.extend([*(name.strip('"') for name in front.perform(f"{root}:CAT?").split(",") if name), ""])
        return shown.pop(0) or None

    return {
        "configlist.create": front.function(f"{root}:CRE"), "configlist.delete": front.function(f"{root}:DEL"),
        "configlist.store": front.function(f"{root}:STOR"), "configlist.recall": front.function(f"{root}:REC"),
        "configlist.size": front.function(f"{root}:SIZE?"), "configlist.catalog": catalog,
    }  # fmt: skip
