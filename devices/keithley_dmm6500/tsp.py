"""A Keithley DMM6500 in TSP: which attribute of ``dmm``, ``channel`` and ``scan`` is which header of its SCPI table.

Source: as of `devices.keithley_tsp` (commands_DMM6500.json). Left out: limit tests, configuration lists, analog
triggers, references of thermistors and RTDs by their own constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devices.keithley_tsp import ON_OFF, Setting, TspFront, attribute_names
from devices.keithley_tsp_tables import Readings
from hal.protocols.lua_values import Table, silent, tonumber, tostring
from hal.protocols.tsp import TspError

from .scanner import CHANNELS

FUNCTIONS = {
    "FUNC_DC_VOLTAGE": "VOLT", "FUNC_AC_VOLTAGE": "VOLT:AC", "FUNC_DC_CURRENT": "CURR", "FUNC_AC_CURRENT": "CURR:AC",
    "FUNC_RESISTANCE": "RES", "FUNC_4W_RESISTANCE": "FRES", "FUNC_DIODE": "DIOD", "FUNC_CAPACITANCE": "CAP",
    "FUNC_TEMPERATURE": "TEMP", "FUNC_CONTINUITY": "CONT", "FUNC_ACV_FREQUENCY": "FREQ", "FUNC_ACV_PERIOD": "PER",
    "FUNC_DCV_RATIO": "VOLT:RAT",
}  # fmt: skip
DIGITIZERS = {"FUNC_DIGITIZE_VOLTAGE": "VOLT", "FUNC_DIGITIZE_CURRENT": "CURR"}
DIGITS = {f"DIGITS_{n}_5": f"{n}" for n in range(3, 7)}
MATH = {"MATH_MXB": "MXB", "MATH_PERCENT": "PERC", "MATH_RECIPROCAL": "REC"}
FILTERS = {"FILTER_REPEAT_AVG": "REP", "FILTER_MOVING_AVG": "MOV", "FILTER_HYBRID_AVG": "HYBR"}
UNITS = {
    "UNIT_VOLT": "VOLT", "UNIT_DB": "DB", "UNIT_DBM": "DBM", "UNIT_CELSIUS": "CELS", "UNIT_KELVIN": "KELV",
    "UNIT_FAHRENHEIT": "FAHR",
}  # fmt: skip
TRANSDUCERS = {
    "TRANS_THERMOCOUPLE": "TC", "TRANS_THERMISTOR": "THER", "TRANS_TWORTD": "RTD", "TRANS_THREERTD": "TRTD",
    "TRANS_FOURRTD": "FRTD", "TRANS_CJC2001": "CJC2001",
}  # fmt: skip
RTDS = {f"RTD_{name}": name for name in ("PT100", "PT385", "PT3916", "D100", "F100", "USER")}
IMPEDANCE = {"IMPEDANCE_10M": "MOHM10", "IMPEDANCE_AUTO": "AUTO"}

OF_ANY = {
    "range": Setting(":SENS:{f}:RANG", None, "RANGE"),
    "rel.enable": Setting(":SENS:{f}:REL:STAT", ON_OFF, "REL_ENABLE"),
    "rel.level": Setting(":SENS:{f}:REL", None, "REL_LEVEL"),
    "displaydigits": Setting(":DISP:{f}:DIG", DIGITS, "DIGITS"),
    "math.enable": Setting(":CALC:{f}:MATH:STAT", ON_OFF, "MATH_ENABLE"),
    "math.format": Setting(":CALC:{f}:MATH:FORM", MATH, "MATH_FORMAT"),
    "math.mxb.mfactor": Setting(":CALC:{f}:MATH:MMF", None, "MATH_MXB_MF"),
    "math.mxb.bfactor": Setting(":CALC:{f}:MATH:MBF", None, "MATH_MXB_BF"),
    "math.percent": Setting(":CALC:{f}:MATH:PERC", None, "MATH_PERCENT"),
}
"""What measuring and digitizing both have; the attribute's name is completed below."""
MEASURE = {path: Setting(s.header, s.names, f"MEAS_{s.attribute}") for path, s in OF_ANY.items()} | {
    "count": Setting(":SENS:COUN", None, "MEAS_COUNT"),
    "autorange": Setting(":SENS:{f}:RANG:AUTO", ON_OFF, "MEAS_RANGE_AUTO"),
    "nplc": Setting(":SENS:{f}:NPLC", None, "MEAS_NPLC"),
    "aperture": Setting(":SENS:{f}:APER", None, "MEAS_APERTURE"),
    "autozero.enable": Setting(":SENS:{f}:AZER", ON_OFF, "MEAS_AUTO_ZERO"),
    "autodelay": Setting(":SENS:{f}:DEL:AUTO", {"DELAY_OFF": "0", "DELAY_ON": "1"}, "MEAS_AUTO_DELAY"),
    "linesync": Setting(":SENS:{f}:LINE:SYNC", ON_OFF, "MEAS_LINE_SYNC"),
    "filter.enable": Setting(":SENS:{f}:AVER", ON_OFF, "MEAS_FILTER_ENABLE"),
    "filter.count": Setting(":SENS:{f}:AVER:COUN", None, "MEAS_FILTER_COUNT"),
    "filter.type": Setting(":SENS:{f}:AVER:TCON", FILTERS, "MEAS_FILTER_TYPE"),
    "filter.window": Setting(":SENS:{f}:AVER:WIND", None, "MEAS_FILTER_WINDOW"),
    "rel.method": Setting(
        ":SENS:VOLT:RAT:REL:METH", {"METHOD_PARTS": "PART", "METHOD_RESULT": "RES"}, "MEAS_REL_METHOD"
    ),
    "unit": Setting(":SENS:{f}:UNIT", UNITS, "MEAS_UNIT"),
    "dbreference": Setting(":SENS:{f}:DB:REF", None, "MEAS_DB_REFERENCE"),
    "dbmreference": Setting(":SENS:{f}:DBM:REF", None, "MEAS_DBM_REFERENCE"),
    "inputimpedance": Setting(":SENS:{f}:INP", IMPEDANCE, "MEAS_INPUT_IMPEDANCE"),
    "detectorbandwidth": Setting(
        ":SENS:{f}:DET:BAND", {f"DETECTBW_{n}HZ": f"{n}" for n in (3, 30, 300)}, "MEAS_DETECTBW"
    ),
    "threshold.range": Setting(":SENS:{f}:THR:RANG", None, "MEAS_THRESHOLD_RANGE"),
    "threshold.autorange": Setting(":SENS:{f}:THR:RANG:AUTO", ON_OFF, "MEAS_THRESHOLD_RANGE_AUTO"),
    "offsetcompensation.enable": Setting(
        ":SENS:{f}:OCOM", {f"OCOMP_{word}": word for word in ("OFF", "ON", "AUTO")} | {"OFF": "OFF", "ON": "ON"},
        "MEAS_OFFCOMP_ENABLE",
    ),
    "opendetector": Setting(":SENS:{f}:ODET", ON_OFF, "MEAS_OPEN_DETECTOR"),
    "bias.level": Setting(":SENS:DIOD:BIAS:LEV", None, "MEAS_BIAS_LEVEL"),
    "transducer": Setting(":SENS:TEMP:TRAN", TRANSDUCERS, "MEAS_TRANSDUCER"),
    "thermocouple": Setting(
        ":SENS:TEMP:TC:TYPE", {f"THERMOCOUPLE_{letter}": letter for letter in "BEJKNRST"}, "MEAS_THERMOCOUPLE"
    ),
    "thermistor": Setting(":SENS:TEMP:THER", {f"THERM_{n}": f"{n}" for n in (2252, 5000, 10000)}, "MEAS_THERMISTOR"),
    "simreftemperature": Setting(":SENS:TEMP:TC:RJUN:SIM", None, "MEAS_SIM_REF_TEMP"),
    "twortd": Setting(":SENS:TEMP:RTD:TWO", RTDS, "MEAS_TWO_RTD"),
    "threertd": Setting(":SENS:TEMP:RTD:THR", RTDS, "MEAS_THREE_RTD"),
    "fourrtd": Setting(":SENS:TEMP:RTD:FOUR", RTDS, "MEAS_FOUR_RTD"),
}  # fmt: skip
DIGITIZE = {
    path: Setting(s.header.replace("{f}", "DIG:{f}"), s.names, f"DIGI_{s.attribute}") for path, s in OF_ANY.items()
} | {
    "count": Setting(":SENS:DIG:COUN", None, "DIGI_COUNT"),
    "samplerate": Setting(":SENS:DIG:{f}:SRAT", None, "DIGI_SAMPLE_RATE"),
    "inputimpedance": Setting(":SENS:DIG:VOLT:INP", IMPEDANCE, "DIGI_INPUT_IMPEDANCE"),
}
TOP = {"terminals": Setting(":ROUT:TERM", {"TERMINALS_FRONT": "FRON", "TERMINALS_REAR": "REAR"}, writable=False)}
SCAN = {"scancount": Setting(":ROUT:SCAN:COUN:SCAN"), "scaninterval": Setting(":ROUT:SCAN:INT")}
MORE = ("OFF", "ON", "FUNC_NONE", "ATTR_MEAS_FUNCTION", "ATTR_DIGI_FUNCTION", *FUNCTIONS, *DIGITIZERS)


def install(
    front: TspFront, readings: Readings, active: Callable[[str], dict[str, Any]], reset: Callable[[], None]
) -> None:
    """Give the instrument its ``dmm``, ``channel`` and ``scan``; `active`: the settings of the first of a list of
    channels, of those in use if it is empty."""

    def measured() -> str:
        return str(active("")["func"])

    def digitized() -> str:
        found = str(active("")["digitizer"])
        return "VOLT" if found == "NONE" else found

    def chooser(header: str, functions: dict[str, str], key: str) -> tuple[Callable[[], Table], Callable[[Any], None]]:
        def get() -> Table:
            other = key == "func" and active("")["digitizer"] != "NONE"
            names = (name for name, word in functions.items() if word == active("")[key] and not other)
            return front.constant(f"dmm.{next(names, 'FUNC_NONE')}")

        def put(value: Any) -> None:
            front.perform(f'{header} "{(functions | {"FUNC_NONE": "NONE"}).get(front.short(value), "")}"')

        return get, put

    def scanned() -> Table:
        name = front.perform(":ROUT:SCAN:BUFF?")
        return next(table for table, of in front.buffers.items() if of == name)

    def acquire(settings: dict[str, Setting], header: str, function: Callable[[], str]) -> Callable[..., Any]:
        def call(*_: Any) -> Any:
            front.perform(f":SENS:{header}{function()}:REL:ACQ")
            return front.read("dmm", settings["rel.level"], function())

        return call

    measure = front.branch("dmm", MEASURE, measured, extras={
        "func": chooser(":SENS:FUNC", FUNCTIONS, "func"), "read": readings.reader(":READ"),
        "readwithtime": readings.reader(":READ", with_time=True), "rel.acquire": acquire(MEASURE, "", measured),
        "autozero.once": front.function(":SENS:AZER:ONCE"),
        **front.attribute_functions("dmm", tuple(MEASURE.values()), FUNCTIONS),
    })  # fmt: skip
    digitize = front.branch("dmm", DIGITIZE, digitized, extras={
        "func": chooser(":SENS:DIG:FUNC", DIGITIZERS, "digitizer"), "read": readings.reader(":READ:DIG"),
        "readwithtime": readings.reader(":READ:DIG", with_time=True),
        "rel.acquire": acquire(DIGITIZE, "DIG:", digitized),
        **front.attribute_functions("dmm", tuple(DIGITIZE.values()), DIGITIZERS),
    })  # fmt: skip
    names = attribute_names((*MEASURE.values(), *DIGITIZE.values(), *TOP.values())) | set(MORE)
    front.add({
        "dmm": front.branch("dmm", TOP, extras={
            "measure": measure, "digitize": digitize, "reset": silent(lambda *_: reset()),
        } | front.constants("dmm", sorted(names))),
        "channel": _channels(front, active),
        "scan": front.branch("scan", SCAN, extras={
            "create": _of_channels(front, ":ROUT:SCAN"), "add": _of_channels(front, ":ROUT:SCAN:ADD"),
            "list": lambda *_: front.perform(":ROUT:SCAN?"),
            "stepcount": (lambda: float(front.perform(":ROUT:SCAN:COUN:STEP?")), None),
            "buffer": (scanned, lambda value: front.perform(f":ROUT:SCAN:BUFF {front.words((value,))}")),
        }),
        "slot": Table({1.0: front.grown({"idn": (lambda: front.perform(":SYST:CARD1:IDN?"), None)})}),
    })  # fmt: skip


def _channels(front: TspFront, active: Callable[[str], dict[str, Any]]) -> Table:
    """Channels and what they measure; `active`: the settings of the first of a list of them."""
    by_name = {f"ATTR_{setting.attribute}": setting for setting in (*MEASURE.values(), *DIGITIZE.values())}
    choosers = {
        "ATTR_MEAS_FUNCTION": (":SENS:FUNC", FUNCTIONS), "ATTR_DIGI_FUNCTION": (":SENS:DIG:FUNC", DIGITIZERS),
    }  # fmt: skip

    def function_of(where: str, attribute: str) -> str:
        """What the first of some channels measures, or digitizes."""
        if attribute.startswith("ATTR_DIGI"):
            return "VOLT" if active(where)["digitizer"] == "NONE" else str(active(where)["digitizer"])
        return str(active(where)["func"])

    def set_up(channels: Any = None, *pairs: Any) -> None:
        where = _listed(channels)
        for attribute, value in zip(pairs[::2], pairs[1::2], strict=False):
            name = front.short(attribute)
            if name in choosers:
                header, words = choosers[name]
                front.perform(f'{header} "{words.get(front.short(value), "")}",{where}')
            elif name in by_name:
                front.write(by_name[name], function_of(where, name), value, where)
            else:
                raise TspError(-104)

    def get(channels: Any = None, attribute: Any = None, *_: Any) -> Any:
        """A single channel's attribute; of several the first (how those are shown: unverified)."""
        where, name = _listed(channels), front.short(attribute)
        if name in choosers:
            words, found = choosers[name][1], function_of(where, name)
            return front.constant(f"dmm.{next((title for title, word in words.items() if word == found), 'FUNC_NONE')}")
        if name not in by_name:
            raise TspError(-104)
        return front.read("dmm", by_name[name], function_of(where, name), where)

    def kept(header: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Getter and setter of what a channel has besides its function."""

        def get_kept(channels: Any = None, *_: Any) -> Any:
            text = front.perform(f"{header}? {_listed(channels)}").split(",")[0]
            return text.strip('"') if tonumber(text) is None else tonumber(text)

        def put(channels: Any = None, value: Any = None, *_: Any) -> None:
            front.perform(f"{header} {front.words((value,))},{_listed(channels)}")

        return get_kept, silent(put)

    (label, set_label), (wait, set_wait) = kept(":ROUT:LAB"), kept(":ROUT:DEL")
    return front.grown({
        "setdmm": silent(set_up), "getdmm": get, "open": _of_channels(front, ":ROUT:OPEN"),
        "close": _of_channels(front, ":ROUT:CLOS"), "getlabel": label, "setlabel": set_label, "getdelay": wait,
        "setdelay": set_wait, "getclose": lambda *_: front.perform(":ROUT:CLOS?").strip("(@)") or None,
    })  # fmt: skip


def _of_channels(front: TspFront, header: str) -> Callable[..., Any]:
    """A function of a list of channels."""

    def call(channels: Any = None, *_: Any) -> None:
        front.perform(f"{header} {_listed(channels)}")

    return silent(call)


def _listed(channels: Any) -> str:
    """``"1:3, 5"`` as SCPI has it; all of them by ``"allslots"``. Raises `TspError`."""
    text = tostring(channels).lower().replace("allslots", f"1:{CHANNELS}").replace("slot1", f"1:{CHANNELS}")
    if not text or text.strip("0123456789:, "):
        raise TspError(-104)
    return f"(@{text.replace(' ', '')})"
