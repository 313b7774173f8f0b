# SPDX-License-Identifier: LGPL-3.0-or-later
"""The code of earlier versions, out of the history of this repository: the first commit whose CHANGELOG has a version's
heading is that version.

Rule: where the history is not there (an sdist, a shallow clone) the test is skipped by name, or fails where nothing may
be missing (WEBSCHEDULER_REQUIRE_ALL). `python -m tests.released FOLDER VERSION` takes one along, for a machine that has
no Git: there WEBSCHEDULER_RELEASED names the folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import CHECKOUT

BUILT_WITH = ("pyproject.toml", "README.md", "LICENSE")


def unpack(version: str, folder: Path) -> Path:
    """`folder`, with the package and `cgi-bin` of a version in it, and what builds them."""
    try:
        taken = os.environ.get("WEBSCHEDULER_RELEASED")
        archive = Path(taken, f"{version}.tar").read_bytes() if taken else _archive(version)
    except (AssertionError, OSError, subprocess.CalledProcessError) as error:
        why = f"version {version} is not in the repository's history: {error}"
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)(why)

    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def _archive(version: str) -> bytes:
    heading = f"## [{version}] - "
    # In a shallow clone the oldest commit seems to have made everything.
    assert _git("rev-parse", "--is-shallow-repository").strip() == b"false", "a shallow clone"
    commits = _git("log", "--reverse", "--format=%H", f"-S{heading}", "--", "CHANGELOG.md").decode().split()
    assert commits, f"no commit has {heading!r} in CHANGELOG.md"
    return _git("archive", commits[0], "webscheduler", "cgi-bin", *BUILT_WITH)


def _git(*words: str) -> bytes:
    # The repository of this checkout, not one of a folder above an unpacked sdist.
    return subprocess.run(["git", "--git-dir", str(CHECKOUT / ".git"), *words], check=True, capture_output=True,
                          cwd=CHECKOUT).stdout


if __name__ == "__main__":
    Path(sys.argv[1], f"{sys.argv[2]}.tar").write_bytes(_archive(sys.argv[2]))
