# SPDX-License-Identifier: LGPL-3.0-or-later
"""The tests, and which package they test: the installed one, as users have it, not the one that lies beside them.

    python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/python -m pytest

Python looks into the current folder first, so the checkout is left out while the package is imported here, before any
test does it. Where nothing is installed the checkout serves, which pytest's header says, and which is a failure where
nothing may be missing (WEBSCHEDULER_REQUIRE_ALL). `tests/test_package.py` proves it, for other processes too.
An installed package that is not what lies beside the tests is not tested at all.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def _without_checkout(path: list[str]) -> list[str]:
    return [entry for entry in path if Path(entry or ".").resolve() != CHECKOUT]


def _package() -> Path:
    """Import the package; its folder."""
    before = list(sys.path)
    sys.path[:] = _without_checkout(before)

    try:
        import webscheduler
    except ImportError:
        sys.path[:] = [str(CHECKOUT), *before]
        import webscheduler
    finally:
        sys.path[:] = before

    assert webscheduler.__file__
    return Path(webscheduler.__file__).resolve().parent


def sources(folder: Path) -> dict[str, bytes]:
    """The files of a package by name, without what Python made of them."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts}


PACKAGE = _package()
LIBRARY = PACKAGE.parent
INSTALLED = LIBRARY != CHECKOUT

if INSTALLED and sources(PACKAGE) != sources(CHECKOUT / "webscheduler"):
    raise ImportError(f"{PACKAGE} is not what lies beside these tests: install it again (pip install .)")

# The CGI script as it comes with the package. Beside a checkout it would take that checkout's package.
SCRIPT = PACKAGE / "host" / "entries" / "webscheduler.cgi" if INSTALLED else CHECKOUT / "cgi-bin" / "webscheduler.cgi"


def python_path() -> dict[str, str]:
    """What another process of this Python needs in its environment to find the package: nothing, once installed."""
    return {} if INSTALLED else {"PYTHONPATH": str(CHECKOUT)}
