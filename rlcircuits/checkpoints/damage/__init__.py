"""Damage a checkpoint on purpose, to test whether a gate notices."""
