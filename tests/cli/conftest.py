"""Fixtures of the tests of the command line."""

from __future__ import annotations

from helpers.cli_runs import all_right, tiny

__all__ = ["all_right", "tiny"]
