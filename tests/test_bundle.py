# SPDX-License-Identifier: LGPL-3.0-or-later
"""The bundle: one text file that runs with nothing installed, on every Python it says, and keeps to itself."""

from __future__ import annotations

import json
import marshal
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from tests import LIBRARY
from tests.admin.client import Form
from tests.commandline import WINDOWS
from tests.installation import REFUSED, Installation, answered, asking, until
from tests.servers import KINDS, give, start, workplace
from webscheduler import signing
from webscheduler.cli import parser
from webscheduler.errors import BadInput
from webscheduler.host import bundle
from webscheduler.interchange import exporting
from webscheduler.store import history_reading, state
from webscheduler.store.settings import load_settings
from webscheduler.store.task import load_task

PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
EVIL = marshal.dumps(compile("import os; os.write(2, b'code of somebody else ran'); os._exit(3)", "evil", "exec"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bundle") / "webscheduler.cgi"
    bundle.write(str(file))
    return file


@pytest.fixture
def script(built: Path, installation: Installation) -> Iterator[Path]:
    """A copy with the HOME of the test's installation in it, in a folder that cannot be written."""
    folder = installation.home.parent / "cgi-bin"
    folder.mkdir()
    text = built.read_text("ascii")
    file = folder / "webscheduler.cgi"
    file.write_text(text.replace('HOME = ""', f"HOME = {str(installation.home)!r}", 1))
    file.chmod(0o755)
    folder.chmod(0o555)
    yield file
    folder.chmod(0o755)


def interpreter(version: str) -> str:
    """That Python, from PATH or where pyenv keeps it; else the test is skipped, or failed where none may be missing."""
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    places = [*sorted(root.glob(f"versions/{version}.*/bin/python{version}")), shutil.which(f"python{version}")]

    for place in filter(None, places):
        said = subprocess.run([place, "-IS", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                              capture_output=True, text=True)  # fmt: skip

        if said.stdout.strip() == version:
            return str(place)

    pytest.skip(f"there is no Python {version}")  # where nothing may be missing, too: no package brings all of them


def lowest(file: Path) -> tuple[int, int]:
    first, second = re.findall(r"^LOWEST = \((\d+), (\d+)\)", file.read_text("ascii"), re.MULTILINE)[0]
    return int(first), int(second)


def call(script: Path, environ: dict[str, str], *words: str, python: str = sys.executable) -> subprocess.Popen[bytes]:
    """Start it as a server does, with an environment of nothing but the request."""
    return subprocess.Popen([python, "-IS", str(script), *words], env=environ, stdin=subprocess.DEVNULL, cwd="/",
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def greeting(installation: Installation, **fields: Any) -> None:
    """Add a task that runs a command which the bundle carries."""
    installation.add()
    installation.edit(argv=None, command="hello", **fields)


def nobody() -> dict[str, str]:
    """A request that nobody signed."""
    return asking("/run/" + "0" * 32, "sig=" + "0" * 64)


def cache(installation: Installation) -> Path:
    (directory,) = (installation.home / "cache").iterdir()
    return directory


def test_is_plain_text(built: Path) -> None:
    """ASCII with LF, executable, the editable HOME among the first lines, and the same sources make the same bytes."""
    data = built.read_bytes()
    assert data.isascii()
    assert b"\r" not in data
    assert b"\0" not in data
    assert data.endswith(b"\n")
    assert built.stat().st_mode & 0o777 == 0o755
    assert data.startswith(b"#!/usr/bin/python3 -IS\n")
    assert any(line.startswith(b'HOME = ""') for line in data.split(b"\n")[:5])
    assert max(map(len, data.split(b"\n"))) < 5000

    assert bundle.build(bundle.PYTHON) == bundle.build(bundle.PYTHON)


def test_says_which_python_it_needs(built: Path, tmp_path: Path) -> None:
    """Its head names the lowest Python that its filelock serves; asked to serve a lower one, none is written."""
    first, second = lowest(built)
    assert f"for Python {first}.{second} and later" in built.read_text("ascii").split("\n")[1]
    bundle.write(str(tmp_path / "same"), f"{first}.{second}")

    with pytest.raises(BadInput, match=rf"filelock .* needs Python {first}.{second}"):
        bundle.write(str(tmp_path / "lower"), f"{first}.{second - 1}")

    assert not (tmp_path / "lower").exists()


def on_windows(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(LIBRARY), "USERPROFILE": str(folder)}
    return subprocess.run([sys.executable, "-c", WINDOWS, *words], env=environ, cwd=folder, text=True,
                          capture_output=True, timeout=60)  # fmt: skip


def test_is_made_on_windows_too(built: Path, tmp_path: Path) -> None:
    """Without the modules and functions of POSIX the same bytes come out, and help shows what works there."""
    done = on_windows(tmp_path, "bundle")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "webscheduler.cgi").read_bytes() == built.read_bytes()
    assert os.listdir(tmp_path) == ["webscheduler.cgi"]
    text = on_windows(tmp_path, "--help").stdout
    assert set(re.findall(r"(?m)^  ([a-z][a-z-]+) ", text)) == {"bundle", "site", *parser.FAR}
    assert "demo" not in text


@pytest.mark.parametrize("verb", ["list", "init", "demo", "doctor", "run"])
def test_says_on_windows_what_does_not_work_there(tmp_path: Path, verb: str) -> None:
    """What works only for an installation elsewhere says so, too."""
    done = on_windows(tmp_path, verb)
    elsewhere = "name an installation elsewhere by --at, or " if verb in parser.FAR else ""
    assert done.returncode == 2
    assert done.stderr == (f"webscheduler: {verb} works on Linux and macOS: here, {elsewhere}`webscheduler bundle` "
                           "makes one file to upload\n")


def test_a_full_disk_leaves_no_half_a_bundle(built: Path, tmp_path: Path) -> None:
    """The file that was there stays, and nothing else."""
    file = tmp_path / "webscheduler.cgi"
    file.write_text("before")
    done = subprocess.run(["sh", "-c", 'ulimit -f 8; trap "" XFSZ; exec "$@"', "sh", sys.executable, "-m",
                           "webscheduler", "bundle", "--output", str(file)], cwd=LIBRARY, text=True,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"webscheduler: {file} cannot be written: File too large\n"
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"webscheduler.cgi": "before"}


@pytest.mark.parametrize("kind", exporting.FORMATS)
def test_exports_with_the_templates_that_it_carries(built: Path, installation: Installation, kind: str) -> None:
    """Data files are in it as well as modules."""
    installation.add(argv=["/bin/echo", "hi"], expression="7 3 * * *")
    installation.configure(baseUrl="https://example.org/cron")
    done = subprocess.run([sys.executable, "-IS", str(built), "export", kind], capture_output=True, text=True, cwd="/",
                          env={"WEBSCHEDULER_HOME": str(installation.home)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == str(exporting.export(kind, load_settings(str(installation.home)),
                                               [load_task("task", installation.row())]))


@pytest.mark.parametrize(
    ("option", "value"),
    [("require", "three"), ("interpreter", "python3"), ("interpreter", "/a b/python3"), ("interpreter", "/x\nx")],
)
def test_refuses_what_would_not_run(tmp_path: Path, option: str, value: str) -> None:
    """A version that is none, and an interpreter that no first line can name, are errors of one line."""
    with pytest.raises(BadInput):
        bundle.write(str(tmp_path / "out"), **{option: value})

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("version", PYTHONS)
def test_runs_on_each_python(installation: Installation, script: Path, version: str) -> None:
    """With no environment, no HOME, a folder that cannot be written and nothing installed, a signed request runs its
    command to the end; on a Python that its filelock does not serve it answers 503 and one clear line."""
    python = interpreter(version)
    greeting(installation, arguments="you")

    if tuple(map(int, version.split("."))) < lowest(script):
        answer = answered(call(script, installation.signed(), python=python))
        assert answer.status == 503
        assert answer.body == REFUSED
        assert re.fullmatch(rf"webscheduler: needs Python [\d.]+ or later, not {version}[^\n]*\n", answer.errors)
        return

    answer = answered(call(script, installation.signed(), python=python))
    assert (answer.status, answer.errors) == (202, "")
    assert answer.document["strategy"] == "fork"
    installation.idle()
    (run,) = installation.runs()
    assert (run["status"], run["output"]) == ("success", "Hello, you!\n"), run["errorOutput"]
    assert os.listdir(script.parent) == [script.name]


def test_a_python_that_is_too_old_says_so(script: Path, installation: Installation) -> None:
    """Below the lowest Python: 503 for the client, one line for the error log, whatever the request."""
    text = script.read_text().replace("LOWEST = ", "LOWEST = (3, 99)  # ", 1)
    old = installation.home.parent / "old.cgi"
    old.write_text(text)
    answer = answered(call(old, nobody()))
    assert (answer.status, answer.body) == (503, REFUSED)
    assert "needs Python 3.99 or later" in answer.errors
    assert answer.errors.count("\n") == 1


def test_fifty_first_requests_at_once(script: Path, installation: Installation) -> None:
    """Many that come before anything is cached are all answered, and leave whole files only, for their user alone."""
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: answered(call(script, nobody())), range(50)))

    assert {(answer.status, answer.body, answer.errors) for answer in answers} == {(202, REFUSED, "")}
    files = list(cache(installation).iterdir())
    assert [file.name for file in files if file.suffix != ".py"] == []
    assert cache(installation).stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert all(marshal.loads(file.read_bytes()) for file in files)


@pytest.mark.parametrize("flaw", ["open", "parent open", "link", "parent link", "torn"])
def test_trusts_no_cache_but_its_own(script: Path, installation: Installation, flaw: str) -> None:
    """Compiled modules are taken from, and put into, a directory of the user's own that nobody else can enter, no
    link; otherwise they are compiled anew. One that a power cut tore is made again."""
    assert answered(call(script, nobody())).status == 202
    directory = cache(installation)
    target = directory / "webscheduler@cgi.py"
    assert target.exists()
    target.write_bytes(b"" if flaw == "torn" else EVIL)

    if flaw == "open":
        directory.chmod(0o755)
    elif flaw == "parent open":
        directory.parent.chmod(0o770)
    elif flaw != "torn":
        moved = directory if flaw == "link" else directory.parent
        moved.rename(installation.home.parent / "elsewhere")
        moved.symlink_to(installation.home.parent / "elsewhere")

    before = target.read_bytes()
    answer = answered(call(script, nobody()))
    assert (answer.status, answer.errors) == (202, "")
    assert (target.read_bytes() == before) is (flaw != "torn")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of another user")
def test_trusts_no_cache_of_somebody_else(script: Path, installation: Installation) -> None:
    """A directory of another user is not used, whatever its mode."""
    assert answered(call(script, nobody())).status == 202
    (cache(installation) / "webscheduler@cgi.py").write_bytes(EVIL)
    os.chown(cache(installation), 65534, 65534)
    answer = answered(call(script, nobody()))
    assert (answer.status, answer.errors) == (202, "")


def test_a_new_bundle_clears_the_cache_of_the_old(script: Path, installation: Installation) -> None:
    """An update leaves no compiled modules of the version before."""
    old = installation.home / "cache" / f"{'0' * 32}-{sys.implementation.cache_tag}-{sys.hexversion:x}"
    old.mkdir(parents=True)
    old.parent.chmod(0o700)
    (old / "webscheduler@cgi.py").write_bytes(b"")
    assert answered(call(script, nobody())).status == 202
    assert cache(installation).name != old.name


def test_words_of_a_query_are_no_command_line(script: Path, installation: Installation) -> None:
    """A server hands a query without `=` to a script as its words (RFC 3875, 4.4): it remains a request."""
    answer = answered(call(script, {**asking("/status/x", "list"), "GATEWAY_INTERFACE": "CGI/1.1"}, "list"))
    assert answer.status == 404
    assert b"@due" not in answer.body


def test_is_the_command_line_too(script: Path, installation: Installation) -> None:
    """Started by hand it is `webscheduler`, for the home in its head."""
    installation.add()
    done = subprocess.run([sys.executable, "-IS", str(script), "list", "--json"], capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {task["name"] for task in json.loads(done.stdout)} == {"@due", "task"}


def test_serves_the_api(script: Path, installation: Installation) -> None:
    """To a key that its own command line made; its document, too."""
    made = subprocess.run([sys.executable, "-IS", str(script), "api-key", "add", "ci", "--role", "editor"],
                          capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, check=True)  # fmt: skip

    def ask(path: str) -> Any:
        environ = asking(f"/api/v1{path}", HTTP_X_WEBSCHEDULER_KEY=made.stdout.split()[0], REMOTE_ADDR="127.0.0.1")
        answer = answered(call(script, environ))
        assert (answer.status, answer.errors) == (200, "")
        return answer.document

    assert [task["name"] for task in ask("/tasks")["tasks"]] == ["@due"]
    assert "/api/v1/tasks" in ask("/openapi.json")["paths"]


def test_carries_files_that_are_no_modules(script: Path) -> None:
    """What a package keeps beside its modules is read through its loader, as from a directory."""
    code = (f"exec(compile(open({str(script)!r}).read(), {str(script)!r}, 'exec'), "
            f"{{'__name__': 'bundle', '__file__': {str(script)!r}}})\n"
            "import pkgutil, webscheduler\n"
            "assert pkgutil.get_data('webscheduler', 'py.typed') == b''\n"
            "assert b'def main' in pkgutil.get_data('webscheduler', 'cgi.py')\n"
            "try: pkgutil.get_data('webscheduler', 'none')\n"
            "except OSError: print('as it should be')")  # fmt: skip
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True)
    assert done.stdout == "as it should be\n", done.stderr


def test_below_a_real_server(built: Path) -> None:
    """Under Apache, uploaded as it is but for its HOME, a signed URL runs a command and the status URL tells."""
    kind = KINDS["apache-cgid"]

    with workplace(kind) as directory:
        installation = Installation(directory / "home")
        greeting(installation)
        give(directory, kind.user)
        file = directory / "webscheduler.cgi"
        file.write_text(built.read_text().replace('HOME = ""', f"HOME = {str(directory / 'home')!r}", 1))

        with start(kind, directory, file) as server:
            row = state.read(str(directory / "home"))["task"]

            def get(url: str) -> Any:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    return json.load(answer)

            assert get(signing.trigger_url(server.url, row["slug"], row["secret"]))["strategy"] == "fork"
            until(lambda: installation.runs(), "the run")
            assert installation.runs()[0]["output"] == "Hello!\n"
            assert get(signing.status_url(server.url, row["slug"], row["secret"]))["status"] == "healthy"


def test_uploaded_alone(built: Path) -> None:
    """Below Apache, with no HOME and in a folder that cannot be written, the first visit says where the home may be
    named; with that line edited it leads through the set-up to a URL which, once called, runs everything that is due.
    """
    kind = KINDS["apache-cgid"]

    with workplace(kind) as directory, start(kind, directory, built) as server:
        home = directory / "account" / "files"
        home.parent.mkdir()
        give(home.parent, kind.user)
        script = directory / kind.scripts / built.name
        script.parent.chmod(0o555)
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

        def visit(url: str, fields: dict[str, str] | None = None) -> str:
            with browser.open(url, urllib.parse.urlencode(fields).encode() if fields else None, timeout=60) as answer:
                return str(answer.read().decode())

        def submit(page: str, **fields: str) -> str:
            form = Form(page).forms[0]
            return visit(urllib.parse.urljoin(server.url, form["action"]), {**form["fields"], "x": "", **fields})

        assert "HOME = " in visit(server.url + "/admin/")
        script.write_text(script.read_text().replace('HOME = ""', f"HOME = {str(home)!r}", 1))
        page = visit(server.url)
        assert "…/files" in page
        page = submit(page)
        assert "…/files/setup-code" in page
        assert str(directory) not in page
        page = submit(page, code=(home / "setup-code").read_text(), timezone="Europe/Paris", user="zoe",
                      password="correct horse battery", again="correct horse battery")  # fmt: skip
        (url,) = set(re.findall(r"http://[^\s\"<>]+/run/[0-9a-f]{32}\?sig=[0-9a-f]{64}", page))
        assert url.startswith(server.url)
        assert "Never called so far" in page

        with urllib.request.urlopen(url, timeout=30) as answer:
            assert json.load(answer)["strategy"] == "fork"

        until(lambda: list(history_reading.entries(str(home), "@due")), "the tick")
        assert "Called once" in visit(server.url + "/admin/")
        assert next(history_reading.entries(str(home), "@due"))["status"] == "success"
        assert os.listdir(script.parent) == [script.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become a user whom the system does not know")
def test_an_account_without_a_home_is_told_where_to_name_one(built: Path) -> None:
    """A visitor reads it as a page, the caller of a URL gets the 503 of an installation that cannot work."""
    with workplace(KINDS["apache-cgid"]) as directory:
        script = Path(shutil.copy(built, directory))

        for path, body in (("/admin/", b"the HOME line of webscheduler.cgi"), ("/run/" + "0" * 32, REFUSED)):
            answer = answered(subprocess.Popen(
                ["/usr/bin/python3", "-IS", str(script)], env=asking(path, "sig=" + "0" * 64), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", user=54321))  # fmt: skip
            assert answer.status == 503
            assert body in answer.body
