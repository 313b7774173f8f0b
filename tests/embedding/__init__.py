# SPDX-License-Identifier: LGPL-3.0-or-later
"""The examples that pages show, most of them docs/how-to/embedding.md: sites that embed the scheduler, `flask_site` and
`django_site`; `script`, `django_command` and `flask_command`, which use an installation; `site_tasks` and `arguments`,
whose functions are commands.

Each site is one file with an `application`, as a WSGI server wants it, and accounts whose passwords are their names:
olga owns the scheduler, vera reads, nobody has an account and nothing to do with it.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

EXAMPLES = sorted(file for file in Path(__file__).parent.glob("*.py") if file.name != "__init__.py")


def shown(name: str) -> str:
    """What stands between the lines of dashes of an example, as the documentation shows it."""
    return (Path(__file__).parent / name).read_text().split("# " + "-" * 115 + "\n")[1].strip()


def needs(package: str) -> None:
    """Skip where the package is missing, unless everything has to be there."""
    if not importlib.util.find_spec(package):
        assert not os.environ.get("WEBSCHEDULER_REQUIRE_ALL"), f"{package} is missing: pip install {package}"
        pytest.skip(f"{package} is missing: pip install {package}")
