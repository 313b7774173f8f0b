# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fixtures that more than one test file uses; what pytest's header says of the package under test."""

from __future__ import annotations

import compileall
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import INSTALLED, PACKAGE, python_path
from tests.installation import Installation

# What takes a moment longer on a busy machine, or draws much that does not fit, is not wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[
    HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large])
settings.load_profile("any machine")


def pytest_report_header() -> str:
    return f"webscheduler: {PACKAGE}" + ("" if INSTALLED else " (the checkout: it is not installed in this Python)")


def pytest_configure() -> None:
    if not INSTALLED and os.environ.get("WEBSCHEDULER_REQUIRE_ALL"):
        raise pytest.UsageError("webscheduler is not installed in this Python, and nothing may be missing")


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests run in a folder of their own: `python -m` and `python -c` look for modules in the current one first. And
    none finds the crontab of the account that runs them."""
    programs = tmp_path_factory.mktemp("programs")
    (programs / "crontab").write_text("#!/bin/sh\necho 'no crontab for tests' >&2\nexit 1\n")
    (programs / "crontab").chmod(0o755)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("current"))
        patch.setenv("PATH", str(programs), prepend=os.pathsep)

        for name, value in python_path().items():
            patch.setenv(name, value)

        yield


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """All modules are compiled: under a limit on the size of files Python leaves half of a compiled module, which it
    then takes for a whole one."""
    compileall.compile_dir(str(PACKAGE), quiet=1)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A new installation; whatever a test leaves running in it is killed."""
    made = Installation(tmp_path / "home")

    try:
        yield made
    finally:
        made.end()
