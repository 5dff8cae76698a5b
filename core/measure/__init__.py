"""Milliseconds of teacher and student side by side, and what they were measured on."""

from core.measure.latency_pairs import at_reference, latency
from core.measure.machine import hardware

__all__ = ["at_reference", "hardware", "latency"]
