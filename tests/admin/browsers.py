# SPDX-License-Identifier: LGPL-3.0-or-later
"""Debian's Chromium and Firefox by Playwright, and two checkers of pages from npm: axe-core and the Nu HTML checker.

What is missing is a skip, and a failure where nothing may be missing. The npm packages lie below the user's cache and
are fetched there once.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

PROGRAMS = {"chromium": ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"),
            "firefox": ("/usr/bin/firefox-esr", "/usr/bin/firefox")}
# A name of this machine that a browser does not take for this machine, so that it grants nothing for being local.
PLAIN = "plain.example"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "webscheduler-tests"
PACKAGES = {"axe-core": "axe.min.js", "vnu-jar": "build/dist/vnu.jar"}


def missing(what: str) -> None:
    """Skip, or fail where everything has to be there."""
    (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)(what)


class Firefox:
    """Firefox by WebDriver BiDi, in which colours and motion are the browser's and not the context's: for each such
    choice one is started, when it is first asked for. Playwright cannot click in it without JavaScript."""

    CHOICES: ClassVar[dict[str, dict[Any, dict[str, Any]]]] = {
        "color_scheme": {"dark": {"layout.css.prefers-color-scheme.content-override": 0}},
        "reduced_motion": {"reduce": {"ui.prefersReducedMotion": 1}},
    }

    def __init__(self, launch: Callable[..., Any]) -> None:
        self.launch = launch
        self.started: dict[str, Any] = {}

    def new_context(self, **options: Any) -> Any:
        assert options.pop("java_script_enabled", True)
        chosen: dict[str, Any] = {"network.dns.localDomains": PLAIN}

        for option, choices in self.CHOICES.items():
            chosen.update(choices.get(options.pop(option, None), {}))

        if str(chosen) not in self.started:
            self.started[str(chosen)] = self.launch(channel="moz-firefox", firefox_user_prefs=chosen)

        return self.started[str(chosen)].new_context(**options)

    def close(self) -> None:
        for each in self.started.values():
            each.close()


@contextmanager
def browsers() -> Iterator[Callable[[str], Any]]:
    """Browsers without a window, by their names in PROGRAMS; each is started when it is first asked for."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is missing (PyPI)")

    with sync_playwright() as playwright, ExitStack() as stack:

        @functools.cache
        def browser(name: str) -> Any:
            program = next(filter(os.path.exists, PROGRAMS[name]), "")

            if not program:
                missing(f"no {name} (Debian package: {Path(PROGRAMS[name][0]).name})")

            launch = functools.partial(getattr(playwright, name).launch, executable_path=program)
            found = Firefox(launch) if name == "firefox" else launch(args=[
                "--no-sandbox", "--disable-dev-shm-usage", f"--host-resolver-rules=MAP {PLAIN} 127.0.0.1"])
            stack.callback(found.close)
            return found

        yield browser


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
