"""Checkpoints: loaded, identified without loading, and with noise."""
