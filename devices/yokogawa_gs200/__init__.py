"""Yokogawa GS200 voltage and current source: a quiet bias for a specimen, measuring if it has the option /MON."""
