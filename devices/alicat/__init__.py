"""Alicat mass flow controllers (MC series and kin) with firmware 9v00 or newer."""
