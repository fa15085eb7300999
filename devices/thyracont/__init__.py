"""Thyracont Smartline vacuum transmitters on RS-485, protocols V1 and V2."""
