"""Fixtures that more than one test file uses."""

from __future__ import annotations

import compileall
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import CHECKOUT, Installation


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """All modules are compiled: under a limit on the size of files Python leaves half of a compiled module, which it
    then takes for a whole one."""
    compileall.compile_dir(str(CHECKOUT / "webscheduler"), quiet=1)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A new installation; whatever a test leaves running in it is killed."""
    made = Installation(tmp_path / "home")

    try:
        yield made
    finally:
        made.end()
