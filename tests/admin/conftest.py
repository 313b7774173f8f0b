# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fixtures of the panel's tests."""

from __future__ import annotations

import pytest

from tests.admin.client import Browser, populate
from tests.installation import Installation


@pytest.fixture
def inhabited(installation: Installation) -> Installation:
    """An installation with people and a base URL."""
    installation.configure(baseUrl="https://example.org/cron")
    populate(installation)
    return installation


@pytest.fixture
def owner(inhabited: Installation) -> Browser:
    """A browser in which the owner is signed in."""
    browser = Browser(inhabited)
    assert browser.sign_in().status == 200
    return browser
