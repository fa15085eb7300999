"""Lake Shore's curve files: what is written is read again, what is damaged is refused, published points come out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.curve_file import MOST, CurveFile, load, parse
from calibration.errors import CalibrationError
from calibration.functions import Chebyshev, Pieces

# Lake Shore, Temperature Measurement and Control Catalog, appendix G, standard curve of the DT-470.
KELVIN = np.array([1.4, 4.2, 10, 20, 30, 50, 77.35, 100, 150, 200, 250, 300, 350, 400, 450, 475])
VOLT = np.array([1.6981, 1.6260, 1.4201, 1.2144, 1.1070, 1.0705, 1.0203, 0.9755, 0.8687, 0.7555, 0.6384, 0.5189,
                 0.3978, 0.2746, 0.1499, 0.0906])  # fmt: skip
SLOPE = np.array([-13.1, -33.6, -28.7, -17.6, -2.34, -1.75, -1.92, -2.04, -2.19, -2.31, -2.37, -2.4, -2.44, -2.49,
                  -2.46, -2.22])  # fmt: skip
"""mV/K."""
# The same curve 10 as Chebyshev series, four ranges of voltage; Lake Shore MTD series user's manual, appendix J-2,
# which states an RMS deviation of 10 mK. Coefficients as in several public readout programs, which agree.
CURVE_10 = [
    ((1.32412, 1.69812), [7.556358, -5.917261, 0.237238, -0.334636, -0.058642, -0.019929, -0.020715, -0.014814,
                          -0.008789, -0.008554]),
    ((1.11732, 1.42013), [17.304227, -7.894688, 0.453442, 0.002243, 0.158036, -0.193093, 0.155717, -0.085185, 0.078550,
                          -0.018312, 0.039255]),
    ((0.923174, 1.13935), [71.818025, -53.799888, 1.669931, 2.314228, 1.566635, 0.723026, -0.149503, 0.046876,
                           -0.388555, 0.056889, -0.116823, 0.058580]),
    ((0.079767, 0.999614), [287.756797, -194.144823, -3.837903, -1.318325, -0.109120, -0.393265, 0.146911, -0.111192,
                            0.028877, -0.029286, 0.015619]),
]  # fmt: skip
CERNOX = """Sensor Model:\tCX-1050-SD-1.4L
Serial Number:\tX23517
Data Format:\t4\t(Log Ohms/Kelvin)
SetPoint Limit: 325.      (Kelvin)
Temperature coefficient:  1 (Negative)
Number of Breakpoints:   4

No.   Units      Temperature (K)

  1  1.81425       325.000
  2  2.00000       150.000
  3\t3.00000\t10.0
  4  4.10000       1.4
"""


def test_curve_10_from_its_chebyshev_series_is_the_published_table():
    valid = [(1.368, 1.69812), (1.119, 1.368), (0.9755, 1.119), (0.0798, 0.9755)]  # series are bent at domains' ends
    ranges = [
        Chebyshev(a, domain=domain, valid=part, unit_in="V", unit_out="K", name="curve 10")
        for (domain, a), part in zip(CURVE_10, valid, strict=True)
    ]
    curve = Pieces(ranges, step=0.02, name="DT-470")
    found = curve(VOLT)
    # The fit's 10 mK RMS beside the rounding of the printed volts to 0.05 mV.
    allowed = 0.02 + 5e-5 / np.abs(SLOPE * 1e-3)
    assert (np.abs(found.value - KELVIN)[1:] < allowed[1:]).all()
    assert 1e3 / curve.slopes(VOLT[1:-1]) == pytest.approx(SLOPE[1:-1], rel=0.03)
    assert curve.inverse(300.0).value == pytest.approx(0.5189, abs=5e-5)


def test_a_diode_s_curve_file_gives_its_breakpoints_and_straight_lines_between():
    file = CurveFile("DT-470", "D12345", 2, 475.0, VOLT, KELVIN)
    curve = parse(file.text()).curve()
    assert (curve.unit_in, curve.unit_out) == ("V", "K")
    assert curve(VOLT).value == pytest.approx(KELVIN)
    assert curve(0.5 * (0.5189 + 0.3978)).value == pytest.approx(325.0)
    assert curve.inverse(77.35).value == pytest.approx(1.0203)
    smooth = file.curve("smooth")
    assert smooth(0.5189).value == pytest.approx(300.0)
    assert not file.positive


def test_a_cernox_s_file_with_tabs_is_read_in_ohms():
    file = parse(CERNOX)
    assert (file.model, file.serial, file.format, file.limit) == ("CX-1050-SD-1.4L", "X23517", 4, 325.0)
    curve = file.curve()
    assert curve.unit_in == "Ohm"
    assert curve(1e3).value == pytest.approx(10.0)
    assert curve(10**2.5).value == pytest.approx(80.0)  # straight in log10 ohm
    assert curve.inverse(1.4).value == pytest.approx(10**4.1)


def test_log_ohms_to_log_kelvin_gives_kelvin():
    file = CurveFile("RX", "", 5, 40.0, np.array([3.0, 4.0]), np.array([1.0, -1.0]))
    assert file.curve()(10**3.5).value == pytest.approx(1.0)
    assert parse(file.text()).temperature.tolist() == [1.0, -1.0]


texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=15)
steps = st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(texts, texts, st.integers(1, 5), st.floats(1.0, 1500.0), steps, st.booleans(), st.data())
def test_what_is_written_is_read_again(model, serial, form, limit, widths, falls, data):
    heights = data.draw(st.lists(st.floats(1e-6, 10.0), min_size=len(widths), max_size=len(widths)))
    sensor, kelvin = np.cumsum([0.1, *widths]), np.cumsum([0.5, *heights])
    if (np.diff(sensor) <= 0).any() or (np.diff(kelvin) <= 0).any():
        return
    made = CurveFile(model, serial, form, limit, sensor, kelvin[::-1] if falls else kelvin)
    read = parse(made.text())
    assert (read.model, read.serial, read.format, read.limit) == (model, serial, form, limit)
    assert (read.sensor == made.sensor).all()
    assert (read.temperature == made.temperature).all()


def test_a_file_is_saved_and_never_overwritten(tmp_path):
    file = parse(CERNOX)
    path = file.save(tmp_path / "X23517.340")
    assert b"\r\n" in path.read_bytes()
    assert load(path).sensor.tolist() == file.sensor.tolist()
    with pytest.raises(CalibrationError, match="there is a curve file already"):
        file.save(path)
    marked = tmp_path / "marked.340"
    marked.write_bytes(b"\xef\xbb\xbf" + CERNOX.encode())
    assert load(marked).model == file.model
    marked.write_bytes(CERNOX.replace("CX-1050", "CX-\xb51050").encode("latin-1"))
    assert load(marked).model == "CX-\xb51050-SD-1.4L"
    with pytest.raises(CalibrationError, match="can't be read"):
        load(tmp_path / "none.340")


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("Temperature coefficient:  1 (Negative)\n", ""), ("1 (Negative)", "Negative"), ("1 (Negative)", "1"),
        ("1.4\n", "1.4\n\x1a"), ("Sensor Model:", "\ufeffSensor Model:"), ("\n", "\r\n"), ("\n", "\r"),
        ("Data Format:", "DATA FORMAT :"), ("(Log Ohms/Kelvin)", ""), ("325.      (Kelvin)", "325.0K"),
        ("(K)\n", "(K)\n----  -----  -----\n"), ("Sensor", "Name: Cernox 7\nSensor"), ("325.000", "3.25E+02"),
    ],
)  # fmt: skip
def test_what_programs_and_people_do_to_a_file_does_no_harm(was, becomes):
    assert was in CERNOX
    whole, bent = parse(CERNOX), parse(CERNOX.replace(was, becomes))
    assert (bent.model, bent.serial, bent.format, bent.limit) == (whole.model, whole.serial, whole.format, whole.limit)
    assert bent.sensor.tolist() == whole.sensor.tolist()
    assert bent.temperature.tolist() == whole.temperature.tolist()


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("Breakpoints:   4", "Breakpoints:   5", "announces 5 breakpoints and has 4"),
        ("  4  4.10000       1.4\n", "", "announces 4 breakpoints and has 3"),
        ("  2  2.00000       150.000\n", "", "breakpoint 2 is missing; 3"),
        ("1 (Negative)", "2 (Positive)", "coefficient is said to be '2 .Positive.'"),
        ("1 (Negative)", "perhaps", "coefficient is said to be 'perhaps'"),
        ("150.000", "5.0", "doesn't rise or fall throughout"),
        ("2.00000", "1.81425", "doesn't rise or fall throughout"),
        ("2.00000", "two", "is no breakpoint"),
        ("4\t(Log Ohms/Kelvin)", "7", "data format is 7"),
        ("4\t(Log Ohms/Kelvin)", "4.5", "data format is '4.5'; it is a code"),
        ("4\t(Log Ohms/Kelvin)", "log", "dataformat is 'log', which is no number"),
        ("SetPoint Limit: 325.", "Limit: 325.", "does not say its setpointlimit; is this a .340 file"),
        ("1.4\n", "-1.4\n", "a temperature is -1.4 K"),
        ("1.4\n", "inf\n", "temperatures must be finite"),
        ("1.4\n", "1.4\nend of file\n", "follows the breakpoints"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(was, becomes, message):
    assert was in CERNOX
    with pytest.raises(CalibrationError, match=message):
        parse(CERNOX.replace(was, becomes))


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_rubbish_is_refused(text):
    with pytest.raises(CalibrationError):
        parse(text)


def test_more_points_than_a_controller_holds_are_refused():
    many = np.arange(1.0, MOST + 2.0)
    with pytest.raises(CalibrationError, match="200 at most"):
        CurveFile("DT", "1", 2, 300.0, many, many)
