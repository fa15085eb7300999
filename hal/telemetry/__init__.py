"""Telemetry over MQTT: topics and payloads, a publisher that never disturbs, a broker where there is none."""
