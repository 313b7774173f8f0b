# SPDX-License-Identifier: LGPL-3.0-or-later
"""The examples that docs/how-to/embedding.md shows: sites that embed the scheduler, `flask_site` and `django_site`, and
`script`, `django_command` and `flask_command`, which use an installation.

Each site is one file with an `application`, as a WSGI server wants it, and accounts whose passwords are their names:
olga owns the scheduler, vera reads, nobody has an account and nothing to do with it.
"""

from __future__ import annotations

import importlib.util
import os

import pytest


def needs(package: str) -> None:
    """Skip where the package is missing, unless everything has to be there."""
    if not importlib.util.find_spec(package):
        assert not os.environ.get("WEBSCHEDULER_REQUIRE_ALL"), f"{package} is missing: pip install {package}"
        pytest.skip(f"{package} is missing: pip install {package}")
