"""Calibration: from what an instrument says to what was, with its uncertainty. Needs numpy, nothing of ours.

`calibration.curve` says what every calibration is; `functions` has the general ones, `thermocouple`, `rtd`, `sprt`,
`thermistor`, `heater`, `gauge`, `gas`, `gas_line`, `pump`, `load` and `curve_file` those of sensors, `specimen` what a
heater's temperature says of the specimen's. `uncertainty` propagates and budgets, `fit` finds curves from points,
`certificate` keeps them, `teds` lets a sensor carry its own.
"""
