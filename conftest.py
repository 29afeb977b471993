"""For the whole repository: `pytester` lets the plugin's tests run pytest within pytest."""

from __future__ import annotations

pytest_plugins = ("pytester",)
