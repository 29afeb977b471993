"""Helpers for every other package: errors, files, validation, limits, progress, devices."""
