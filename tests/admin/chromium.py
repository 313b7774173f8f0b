# SPDX-License-Identifier: LGPL-3.0-or-later
"""Debian's Chromium by Playwright, and two checkers of pages: axe-core and the Nu HTML checker, both from npm.

What is missing is a skip, and a failure where nothing may be missing. The npm packages lie below the user's cache and
are fetched there once.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(os.path.exists, ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")), "")
# A name of this machine that a browser does not take for this machine, so that it grants nothing for being local.
PLAIN = "plain.example"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "webscheduler-tests"
PACKAGES = {"axe-core": "axe.min.js", "vnu-jar": "build/dist/vnu.jar"}


def missing(what: str) -> None:
    """Skip, or fail where everything has to be there."""
    (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)(what)


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is missing (PyPI)")

    if not BROWSER:
        missing("no Chromium (Debian package: chromium)")

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=[
            "--no-sandbox", "--disable-dev-shm-usage", f"--host-resolver-rules=MAP {PLAIN} 127.0.0.1"])

        try:
            yield found
        finally:
            found.close()


@functools.cache
def package(name: str) -> Path:
    """The file that matters of one of PACKAGES."""
    file = CACHE / "node_modules" / name / PACKAGES[name]

    if not file.exists():
        if not shutil.which("npm"):
            missing(f"{name} is missing, and so is npm (Debian package: npm)")

        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", CACHE, *PACKAGES], check=True,
                       timeout=300, stdout=subprocess.DEVNULL)

    return file


def violations(page: Any) -> list[str]:
    """What axe-core finds wrong with the page for people who see, hear or move differently (WCAG 2 A and AA, and its
    best practices): rule and element."""
    page.evaluate(package("axe-core").read_text())
    found = page.evaluate("async () => (await axe.run()).violations")
    return [f"{each['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:200]}" for each in found
            for node in each["nodes"]]


def invalid(directory: Path) -> list[str]:
    """What the Nu HTML checker finds wrong with the pages in the directory, warnings included."""
    if not shutil.which("java"):
        missing("no Java for the HTML checker (Debian package: default-jre-headless)")

    done = subprocess.run(["java", "-jar", package("vnu-jar"), "--format", "json", "--skip-non-html", directory],
                          capture_output=True, text=True, timeout=300)
    messages = json.loads(done.stderr)["messages"]
    return [f"{Path(each.get('url', '')).name}:{each.get('lastLine')}: {each['message']} {each.get('extract', '')!r}"
            for each in messages]
