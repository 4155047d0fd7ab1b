"""Figures with their uncertainty: accuracy, latency."""
