"""Fixtures of the tests of the pytest plugin."""

from __future__ import annotations

from helpers.plugin_runs import declare, pipeline, run

__all__ = ["declare", "pipeline", "run"]
