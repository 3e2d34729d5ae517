"""Measurements anyone can re-run: ratios taken side by side in one run. Never part of the test suite."""
