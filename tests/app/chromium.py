"""A real browser for the tests of the pages, and what it finds wrong with them."""

import os
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = os.environ.get("BLOODCELL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
#: No sandbox: tests may run as root. The others keep the browser itself from asking its maker for anything.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium():
    """Start a browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, headless=True)
        yield started
        started.close()


def violations(tab):
    """Return what axe-core finds: rule, and what breaks it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(tab).response["violations"]
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
