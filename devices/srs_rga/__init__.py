"""The Stanford Research Systems residual gas analyzers RGA100, RGA200 and RGA300."""
