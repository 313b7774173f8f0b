# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which package is tested: the one that pip installed, in this process and in each that tests start."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import webscheduler
from tests import CHECKOUT, INSTALLED, LIBRARY, PACKAGE, SCRIPT, sources
from tests.accounts import run
from tests.commandline import environment
from tests.installation import PATIENCE, Installation, answered
from webscheduler.host import home
from webscheduler.store import history

pytestmark = pytest.mark.skipif(
    not INSTALLED and not os.environ.get("WEBSCHEDULER_REQUIRE_ALL"),
    reason="webscheduler is not installed in this Python, so the checkout is tested: pip install '.[test]'")
SITE_PACKAGES = Path(sysconfig.get_path("purelib")).resolve()
WHERE = "import os, webscheduler.cgi as one; print(os.path.realpath(one.__file__))"


def of_site_packages(file: str) -> bool:
    return Path(file).resolve() == SITE_PACKAGES / "webscheduler" / "cgi.py"


def test_this_process() -> None:
    """The tests' own imports come from site-packages, whatever the current folder was."""
    assert LIBRARY == SITE_PACKAGES
    modules = [webscheduler, home, history, *(module for name, module in sys.modules.items()
                                              if name.partition(".")[0] == "webscheduler")]
    assert {SITE_PACKAGES / "webscheduler" in Path(module.__file__ or "").resolve().parents
            for module in modules} == {True}


def test_the_command_line(installation: Installation) -> None:
    """A spawned `python`, in the environment that `call` gives to the command line, and in that of the tests."""
    for given in (environment(installation.home), dict(os.environ)):
        done = subprocess.run([sys.executable, "-c", WHERE], env=given, capture_output=True, text=True, check=True)
        assert of_site_packages(done.stdout.strip())


@pytest.mark.parametrize("options", [[], ["-I"]])
def test_the_script(installation: Installation, options: list[str]) -> None:
    """The CGI script, and the run that it starts: both say what they have imported."""
    listing = ("import json, os, sys\nwrite = os.write\ndef listed(descriptor, data):\n"
               "    if descriptor == 1:\n        write(2, sys.modules['webscheduler.cgi'].__file__.encode())\n"
               "    return write(descriptor, data)\nos.write = listed\nscript = sys.argv[1]\n"
               "exec(compile(open(script).read(), script, 'exec'), {'__name__': '__main__', '__file__': script})\n")
    installation.add(argv=[sys.executable, "-c", WHERE], strategy="fork")

    with installation.start_cgi(installation.signed(), words=[sys.executable, *options, "-c", listing]) as process:
        answer = answered(process)

    assert answer.document["accepted"]
    assert of_site_packages(answer.errors)
    installation.idle()
    (line,) = installation.runs()
    assert of_site_packages(line["output"].strip())
    assert SCRIPT.read_text() == (CHECKOUT / "cgi-bin" / SCRIPT.name).read_text()


def test_the_wheel_of_a_release_holds_this_package() -> None:
    """What `.ci/release` made of this checkout is, file by file, what is installed and tested here."""
    found = {}

    for file in (CHECKOUT / "dist").glob("webscheduler-*.whl"):
        with zipfile.ZipFile(file) as wheel:
            found = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}

    files = {f"webscheduler/{name}": data for name, data in sources(PACKAGE).items()}

    if found != files and not os.environ.get("WEBSCHEDULER_REQUIRE_ALL"):
        pytest.skip("dist/ has no wheel of this package: .ci/release --draft")

    assert found == files


def test_other_accounts_and_pythons() -> None:
    """They get a copy of the installed package."""
    done = run(["-c", "import json, webscheduler as one; print(json.dumps(one.__file__))"], None)
    assert CHECKOUT not in Path(json.loads(done.stdout)).parents, done.stderr


def test_a_package_that_is_not_what_lies_here_is_not_tested(tmp_path: Path) -> None:
    """After a change the package is to be installed again: the suite says so instead of testing what was."""
    there = tmp_path / "site"
    copy = there / "webscheduler"
    shutil.copytree(PACKAGE, copy)
    (copy / "times.py").write_text("")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_query.py"]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(there)}, cwd=CHECKOUT, capture_output=True,
                          text=True, timeout=PATIENCE)
    assert done.returncode != 0
    assert "install it again" in done.stderr


def test_every_source_file_names_its_licence() -> None:
    """Whoever copies one file knows under which terms (SPDX)."""
    folders = [CHECKOUT / name for name in ("webscheduler", "tests", "docs", "cgi-bin")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".cgi")]
    assert len(files) > 100
    assert [file for file in files if "SPDX-License-Identifier: LGPL-3.0-or-later" not in file.read_text()[:300]] == []


def test_what_only_root_can_do_is_asked_of_root_alone() -> None:
    """The suite is for ordinary users, too: a test that gives a file away says that it needs root, in its decorator or
    by a condition."""
    careless = []

    for file in sorted((CHECKOUT / "tests").rglob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            text = ast.unparse(node)
            if isinstance(node, ast.FunctionDef) and re.search(r"\bos\.(l?chown|set[eg]?[ug]id)\(", text):
                careless += [] if re.search(r"geteuid|@root\b", text) else [f"{file.name}:{node.lineno}"]

    assert careless == []


def test_no_module_is_compiled_where_that_would_spoil_it_for_others() -> None:
    """Where files cannot grow, Python may put half of a compiled module in the place of a whole one, and under another
    clock it takes all of them for old: every process that imports such a module ends with an error."""
    careless = []

    for file in sorted((CHECKOUT / "tests").rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                text = ast.unparse(node)
                spoils = re.search(r"RLIMIT_FSIZE|ulimit -f|'faketime', ", text)
                careless += [f"{file.name}:{node.name}"] if spoils and "BYTECODE" not in text.upper() else []

    assert careless == []
