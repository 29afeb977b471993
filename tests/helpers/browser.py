"""Open pages in headless Chromium, if there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_HOW = "(pip install 'rlcircuits[browser]')"
_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def open_browser() -> Iterator[Any]:
    """Yield a browser of playwright's. Skips the test where playwright or Chromium is not installed."""
    api = pytest.importorskip("playwright.sync_api", reason=f"playwright is not installed {_HOW}")
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def axe_script() -> str:
    """Return axe-core's script, which axe-playwright-python ships. Skips the test where it is not installed."""
    package = pytest.importorskip("axe_playwright_python", reason=f"axe-core is not installed {_HOW}")
    (script,) = Path(package.__file__).parent.rglob("axe.min.js")
    return script.read_text(encoding="utf-8")
