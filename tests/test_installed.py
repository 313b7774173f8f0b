# SPDX-License-Identifier: LGPL-3.0-or-later
"""With pip, in an environment of its own: install 0.1.0, upgrade, go back, uninstall. Only the home is left."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import webscheduler
from tests import CHECKOUT
from tests.embedding import needs
from tests.outside import BASE, Done
from tests.released import BUILT_WITH, unpack

MOST = 120  # seconds for one call of pip, which may have to download filelock


class Account:
    """Somebody with an environment and a home below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder, folder / "venv" / "bin"
        self.call(sys.executable, "-m", "venv", str(folder / "venv"))

    def call(self, *words: str, status: int = 0, folder: Path | None = None) -> Done:
        given = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WEBSCHEDULER"))}
        # pip asks programs in PATH what they are, and some of those leave files in the home.
        given.update(HOME=str(self.folder), PATH="/usr/bin:/bin")
        done = subprocess.run(words, env=given, cwd=folder or self.folder, capture_output=True, text=True, timeout=MOST)
        assert done.returncode == status, done.stdout + done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def pip(self, *words: str) -> None:
        self.call(str(self.programs / "python"), "-m", "pip", "-q", *words)

    def webscheduler(self, *words: str, status: int = 0) -> str:
        return self.call(str(self.programs / "webscheduler"), *words, status=status).out

    def wheel(self, source: Path) -> str:
        """The wheel of the sources in a folder."""
        place = self.folder / "wheels" / source.name
        self.call(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(place), str(source))
        (made,) = place.iterdir()
        return str(made)

    def of_the_program(self) -> list[str]:
        """What the environment has of the program."""
        return [str(path) for path in (self.folder / "venv").rglob("*webscheduler*")]


def test_install_upgrade_downgrade_uninstall(tmp_path: Path) -> None:
    """Each version goes on with the tasks, URLs and history of the one before; uninstalling leaves the home as it is,
    and nothing of the program."""
    needs("build")
    needs("hatchling")
    account = Account(tmp_path)
    old = account.wheel(unpack("0.1.0", tmp_path / "0.1.0"))
    today = tmp_path / "today"
    today.mkdir()

    for name in ("webscheduler", "cgi-bin", "LICENSES", *BUILT_WITH):
        (today / name).symlink_to(CHECKOUT / name)

    new = account.wheel(today)
    home, url = tmp_path / ".webscheduler", ""
    steps = (("0.1.0", old), (webscheduler.__version__, new), ("0.1.0", old))

    for runs, (version, wheel) in enumerate(steps, 1):
        account.pip("install", *(["--upgrade", "--force-reinstall", "--no-deps"] if runs > 1 else []), wheel)

        if runs == 1:
            account.webscheduler("init", "--base-url", BASE)
            account.webscheduler("add", "hello", "--command", "hello", "--every", "3600")
            url = account.webscheduler("url", "hello")

        assert account.webscheduler("--version").split()[-1] == version
        account.webscheduler("run", "hello")
        assert account.webscheduler("url", "hello") == url
        found = json.loads(account.webscheduler("logs", "--json"))
        assert [line["status"] for line in found] == ["success"] * runs

        if wheel == new:
            account.webscheduler("edit", "hello", "--on-failure", "hello", status=2)
            account.webscheduler("add", "also", "--command", "hello", "--on-success", "hello")

    assert re.search(r'"onSuccess": \["hello"\]', (home / "state.json").read_text())
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert account.of_the_program()
    account.pip("uninstall", "--yes", "webscheduler")
    assert account.of_the_program() == []
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    left = {path.name for path in tmp_path.iterdir()} - {"venv", "wheels", "0.1.0", "today", ".cache"}
    assert left == {".webscheduler"}
