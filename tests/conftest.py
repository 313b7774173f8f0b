"""Fixtures that more than one test file uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A new installation; whatever a test leaves running in it is killed."""
    made = Installation(tmp_path / "home")

    try:
        yield made
    finally:
        made.end()
