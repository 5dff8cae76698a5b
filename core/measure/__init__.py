"""Milliseconds of teacher and student side by side, and what they were measured on."""

from core.measure.latency_pairs import latency
from core.measure.machine import hardware

__all__ = ["hardware", "latency"]
