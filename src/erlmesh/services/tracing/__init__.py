"""Traces of calls with OpenTelemetry. Nothing here is loaded before they are asked for."""
