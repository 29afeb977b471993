"""Calibration: how often the gate is wrong, measured by running it on pairs whose right outcome is known."""
