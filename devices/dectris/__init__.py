"""DECTRIS hybrid-pixel detectors (EIGER2, QUADRO, ELA, ARINA ...): SIMPLON commands, frames over ZeroMQ."""
