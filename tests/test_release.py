# SPDX-License-Identifier: LGPL-3.0-or-later
"""A release: the same sources give the same bytes wherever they are built, and `.ci/release` makes none of what is not
committed or not dated. `.ci/run` makes one of each state that it tests."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import webscheduler
from tests import CHECKOUT
from tests.embedding import needs
from tests.installation import PATIENCE

SOURCES = ("webscheduler", "cgi-bin", "docs", "tests", "LICENSES", "pyproject.toml", ".gitignore", "README.md",
           "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
DAY = "1790000000"
LARGEST = 512_000  # bytes of the wheel


def copy(folder: Path, oddly: bool) -> Path:
    """A copy of the sources; oddly: with other times, modes and order of files than they have here."""
    files = sorted((file for name in SOURCES for file in (CHECKOUT / name, *(CHECKOUT / name).rglob("*"))
                    if file.is_file() and "__pycache__" not in file.parts and "screenshots" not in file.parts),
                   reverse=oddly)

    for file in files:
        place = folder / file.relative_to(CHECKOUT)
        place.parent.mkdir(0o700 if oddly else 0o755, parents=True, exist_ok=True)
        shutil.copyfile(file, place)
        place.chmod(0o600 if oddly else 0o644)

        if oddly:
            os.utime(place, (1_000_000_000, 1_000_000_000))

    return folder


def python(package: Path, oddly: bool, *words: str) -> None:
    """Call Python, with the package of a folder."""
    odd = {"TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    given = {"PATH": os.environ["PATH"], "HOME": str(package), "PYTHONPATH": str(package), "SOURCE_DATE_EPOCH": DAY,
             **(odd if oddly else {"TZ": "UTC", "LC_ALL": "C.UTF-8"})}
    script = f'umask {"077" if oddly else "022"}; exec "$@"'
    done = subprocess.run(["/bin/sh", "-c", script, "sh", sys.executable, *words], env=given, cwd=package.parent,
                          capture_output=True, text=True, timeout=4 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


def sums(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    """Wheel, sdist and bundle, of two folders with other times, modes, order of files, umask, zone and language; the
    bundle is the same from the sources and from the wheel. The wheel has types, licences, and only the package."""
    needs("build")
    needs("hatchling")
    found = []

    for folder, oddly in ((tmp_path / "one", False), (tmp_path / "another folder" / "two", True)):
        copy(folder, oddly)
        made = folder / "dist"
        python(folder, oddly, "-m", "build", "--no-isolation", "--outdir", str(made), str(folder))
        python(folder, oddly, "-m", "webscheduler", "bundle", "--output", str(made / "webscheduler.cgi"))
        (wheel,) = made.glob("*.whl")

        with zipfile.ZipFile(wheel) as file:
            file.extractall(tmp_path / "unpacked")

        python(tmp_path / "unpacked", oddly, "-m", "webscheduler", "bundle", "--output", str(made / "again.cgi"))
        found.append(sums(made))

    assert found[0] == found[1]
    assert len(found[0]) == 4
    assert found[0]["again.cgi"] == found[0]["webscheduler.cgi"]
    names = [str(file.relative_to(tmp_path / "unpacked")) for file in (tmp_path / "unpacked").rglob("*")]
    assert "webscheduler/py.typed" in names
    assert not [name for name in names if not re.match(r"webscheduler(-[\d.]+\.dist-info)?(/|$)", name)]
    assert {"LICENSE", "GPL-3.0-or-later.txt"} <= {Path(name).name for name in names if ".dist-info/licenses/" in name}
    assert wheel.stat().st_size <= LARGEST


def test_one_bound_of_the_wheel_is_held_and_explained() -> None:
    """`.ci/release` refuses a wheel above the bound of these tests, and a page says why it is not less."""
    if not (CHECKOUT / ".ci").exists():
        pytest.skip("an sdist has no .ci")

    assert f'[ "$size" -le {LARGEST} ] || die "the wheel' in (CHECKOUT / ".ci" / "release").read_text()
    assert f"at most {LARGEST:,})" in (CHECKOUT / "docs" / "explanation" / "left-out.md").read_text()


def test_what_was_made_is_whole() -> None:
    """What `.ci/release` left in dist/: each file is in the sums, which are right; the list of parts names filelock and
    nothing else; the notes are the CHANGELOG's about this version, whole (of a draft, before them what has none)."""
    made, version = CHECKOUT / "dist", f"webscheduler-{webscheduler.__version__}"
    fresh = (made / "SHA256SUMS").exists() and (
        (made / "SHA256SUMS").stat().st_mtime > (CHECKOUT / "CHANGELOG.md").stat().st_mtime)

    if not fresh and not os.environ.get("WEBSCHEDULER_REQUIRE_ALL"):
        pytest.skip("dist/ is not of this state: .ci/release --draft")

    said = dict(reversed(line.split("  ")) for line in (made / "SHA256SUMS").read_text().splitlines())
    assert set(said) == {f"{version}-py3-none-any.whl", f"{version}.tar.gz", f"{version}.cdx.json", "webscheduler.cgi"}
    assert {name: digest for name, digest in sums(made).items() if name in said} == said
    parts = json.loads((made / f"{version}.cdx.json").read_bytes())
    assert parts["metadata"]["component"]["version"] == webscheduler.__version__
    assert [part["name"] for part in parts["components"]] == ["filelock"]
    text = (CHECKOUT / "CHANGELOG.md").read_text().partition(f"\n## [{webscheduler.__version__}] - ")[2]
    section = text.partition("\n")[2].partition("\n## [")[0].strip()
    assert section and (made / "NOTES.md").read_text().strip().endswith(section)


UNDATED = "## [Unreleased]\n\n### Added\n- Something.\n\n"


@pytest.mark.parametrize("change, why", [
    (lambda folder: (folder / "new.txt").touch(), "something is not committed"),
    (lambda folder: rewrite(folder, r"## \[[\d.]+\] - [\d-]+", "## [0.0.1] - 2020-01-01"),
     "CHANGELOG.md does not date it"),
    (lambda folder: rewrite(folder, r"(?s)\A.*?(?=## \[\d)", UNDATED), "CHANGELOG.md has changes under Unreleased"),
])
def test_what_is_no_release_is_refused(tmp_path: Path, change: Callable[[Path], None], why: str) -> None:
    """A file that is not committed, a version without a date, a change that belongs to none: one line, and nothing is
    made."""
    folder = tmp_path / "clone"

    if not (CHECKOUT / ".git").exists():
        pytest.skip("this checkout has no history: git clone")

    git(tmp_path, "clone", "-q", "-s", "--depth", "1", f"file://{CHECKOUT}", str(folder))

    for name in (".ci/release", ".ci/pythons", "CHANGELOG.md", "webscheduler/__init__.py"):
        shutil.copy(CHECKOUT / name, folder / name)

    rewrite(folder, r"(?s)\A.*?(?=## \[\d)", "# Changelog\n\n")
    version = re.search(r'"(.*)"', (folder / "webscheduler" / "__init__.py").read_text().partition("__version__")[2])
    assert version
    rewrite(folder, r"\A", f"## [{version[1]}] - 2020-02-20\n\n")
    commit(folder)
    change(folder)

    if "committed" not in why:
        commit(folder)

    done = subprocess.run([str(folder / ".ci" / "release")], env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
                          capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr and done.stderr.count("\n") == 1
    assert not (folder / "dist").exists()


def rewrite(folder: Path, pattern: str, text: str) -> None:
    """Replace a part of the CHANGELOG."""
    file = folder / "CHANGELOG.md"
    file.write_text(re.sub(pattern, text, file.read_text()))


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *words], cwd=folder, check=True,
                   capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
