"""The demo: an emulated lab on real wires, a control script, its record and a picture of it."""
