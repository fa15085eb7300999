"""Lake Shore 336 temperature controller: four inputs, two heater outputs."""
