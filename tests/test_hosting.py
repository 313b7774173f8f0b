# SPDX-License-Identifier: LGPL-3.0-or-later
"""The files that join an installation to a web server: what `init` writes and leaves alone, and the PHP shim."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import CHECKOUT
from tests.commandline import call
from tests.installation import Installation, answered, until
from tests.servers import KINDS, give, start, workplace
from webscheduler.errors import BadInput
from webscheduler.host import entry_files
from webscheduler.store.settings import load_settings

PHP = shutil.which("php")


def run(script: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the file itself, as a server does, with nothing but the request in its environment."""
    return subprocess.Popen([str(script)], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, cwd="/")  # fmt: skip


def test_the_script_of_the_checkout_is_the_one_that_init_writes() -> None:
    """There is one CGI script; `init` only fills in its first lines."""
    assert (CHECKOUT / "cgi-bin" / "webscheduler.cgi").read_text() == entry_files.entry(entry_files.NAME)


def test_init_joins_an_installation_to_a_cgi_bin(tmp_path: Path) -> None:
    """The script that `init` writes runs by itself with no environment: interpreter, home and libraries are in it.
    Writing it again changes nothing."""
    folder = tmp_path / "cgi-bin"
    folder.mkdir()
    done = call(tmp_path / "home", "init", "--cgi-bin", str(folder), "--timezone", "Europe/Paris")
    assert done.status == 0, done.err
    script = folder / "webscheduler.cgi"
    assert script.stat().st_mode & 0o777 == 0o755
    assert script.read_text().split("\n")[0].startswith(f"#!{sys.executable}")
    assert os.listdir(folder) == ["webscheduler.cgi"], "a cgi-bin needs no .htaccess"

    installation = Installation(tmp_path / "home")
    assert load_settings(str(installation.home))["timezone"] == "Europe/Paris"
    installation.add()
    installation.edit(argv=None, command="hello")
    answer = answered(run(script, installation.signed()))
    assert (answer.status, answer.errors) == (202, "")
    installation.idle()
    assert [line["output"] for line in installation.runs()] == ["Hello!\n"]

    before = script.stat()
    assert "there already" in call(tmp_path / "home", "init", "--cgi-bin", str(folder)).out
    assert script.stat().st_mtime_ns == before.st_mtime_ns
    assert script.stat().st_ino == before.st_ino


@pytest.mark.parametrize(("option", "name"), [("--cgi-bin", "webscheduler.cgi"), ("--passenger", "passenger_wsgi.py")])
def test_init_takes_no_file_from_another_home(tmp_path: Path, option: str, name: str) -> None:
    """A script that serves a home goes on serving it: `init` for another one says which, changes nothing, and needs
    --home to be sure. Each of the two commands that it names does what it says."""
    folder, one, two = tmp_path / "cgi-bin", tmp_path / "it's one", tmp_path / "two"
    folder.mkdir()
    assert call(one, "init", option, str(folder)).status == 0
    before = (folder / name).read_text()
    assert repr(str(one)) in before
    done = call(two, "init", option, str(folder))
    assert done.status == 2
    assert done.complaint == (
        f"{two} is created, but {folder / name} serves the home {one}: add --home {shlex.quote(str(one))} to complete "
        f"that, or --home {two} to let it serve this one from now on")
    assert (folder / name).read_text() == before
    assert call(two, "init", option, str(folder), "--home", str(one)).status == 0
    assert (folder / name).read_text() == before
    assert call(two, "init", option, str(folder), "--home", str(two)).status == 0
    assert repr(str(two)) in (folder / name).read_text()


@pytest.mark.parametrize("line", ['HOME = ""', "HOME = os.environ", "HOME = 'not closed"])
def test_init_completes_a_script_that_names_no_home(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "cgi-bin"
    folder.mkdir()
    script = folder / "webscheduler.cgi"
    script.write_text(entry_files.entry(entry_files.NAME).replace('HOME = ""', line))
    assert call(tmp_path / "home", "init", "--cgi-bin", str(folder)).status == 0
    assert f"HOME = {str(tmp_path / 'home')!r}" in script.read_text()


@pytest.mark.parametrize(("option", "name"), [("--cgi-bin", "webscheduler.cgi"), ("--passenger", "passenger_wsgi.py")])
def test_init_never_overwrites_what_it_did_not_write(tmp_path: Path, option: str, name: str) -> None:
    """A file of somebody else stays as it is; one line says to move it away."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_text("#!/bin/sh\necho mine\n")
    done = call(tmp_path / "home", "init", option, str(folder))
    assert done.status == 2
    assert "was not written by webscheduler: move it away" in done.complaint
    assert (folder / name).read_text() == "#!/bin/sh\necho mine\n"
    assert call(tmp_path / "home", "init", option, str(tmp_path / "nowhere")).status == 2


def test_init_lets_scripts_run_where_the_server_would_show_them(tmp_path: Path) -> None:
    """Outside of a cgi-bin an .htaccess is written as well, unless there is one, which is left alone."""
    for name, before in (("empty", None), ("taken", "Require all granted\n")):
        folder = tmp_path / name
        folder.mkdir()

        if before:
            (folder / ".htaccess").write_text(before)

        done = call(tmp_path / "home", "init", "--cgi-bin", str(folder))
        assert done.status == 0
        assert "ExecCGI" in (done.out if before else (folder / ".htaccess").read_text())
        assert before is None or (folder / ".htaccess").read_text() == before


def test_init_refuses_an_interpreter_that_no_first_line_can_name(tmp_path: Path) -> None:
    """A path with a blank would make a script that fails with a misleading message."""
    folder = tmp_path / "cgi-bin"
    folder.mkdir()
    blank = tmp_path / "my python"
    blank.mkdir()
    (blank / "python3").symlink_to(sys.executable)
    done = call(tmp_path / "home", "init", "--cgi-bin", str(folder), "--python", str(blank / "python3"))
    assert done.status == 2
    assert "config set python" in done.complaint
    assert os.listdir(folder) == []


@pytest.mark.parametrize(("option", "value", "given"), [
    ("--python", "/nonexistent", b""), ("--python", "/bin/true", b""), ("--timezone", "Mars", b""),
    ("--base-url", "no address", b""), ("--cgi-bin", "/nonexistent", b""),
    ("--password-stdin", "anna", b"short\n"), ("--password-stdin", "a b", b"long enough 7\n")])
def test_init_makes_nothing_of_what_it_refuses(tmp_path: Path, option: str, value: str, given: bytes) -> None:
    """A mistake in a word of the call: the next call creates the home, and says so."""
    done = call(tmp_path / "home", "--home", str(tmp_path / "new" / "home"), "init", option, value, given=given)
    assert (done.status, done.out, done.complaint.count("\n")) == (2, "", 0)
    assert os.listdir(tmp_path) == []


def test_init_writes_what_passenger_loads(tmp_path: Path) -> None:
    """The entry names home and libraries, and runs in a Python that knows neither."""
    folder = tmp_path / "app"
    folder.mkdir()
    done = call(tmp_path / "home", "init", "--passenger", str(folder))
    assert done.status == 0
    assert "touch tmp/restart.txt" in done.out
    code = ("import runpy, sys; app = runpy.run_path(sys.argv[1])['application']; "
            "environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': '/status/x', 'QUERY_STRING': '', 'SCRIPT_NAME': ''}; "
            "print(b''.join(app(environ, lambda status, headers: print(status))))")  # fmt: skip
    ran = subprocess.run([sys.executable, "-IS", "-c", code, str(folder / "passenger_wsgi.py")], capture_output=True,
                         text=True, env={})  # fmt: skip
    assert ran.stdout.startswith("404"), ran.stderr
    assert "there already" in call(tmp_path / "home", "init", "--passenger", str(folder)).out


def test_a_private_python_is_told(tmp_path: Path) -> None:
    """An interpreter below a folder that others cannot enter works only where scripts run as its owner."""
    private = tmp_path / "private" / "bin"
    private.mkdir(parents=True)
    (private / "python3").touch()
    private.parent.chmod(0o700)
    found = entry_files.python_is_private(str(private / "python3"))
    assert found
    assert str(private).startswith(found)
    assert entry_files.python_is_private("/usr/bin/python3") == ""


def test_the_php_shim_triggers_a_task() -> None:
    """Run as a panel runs a file, the shim triggers the task and ends with 0; refused, with 1; by the web, nothing."""
    if not PHP:
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)("php is missing (Debian: php-cli)")

    kind = KINDS["wsgiref"]

    with workplace(kind) as directory:
        installation = Installation(directory / "home")
        installation.add()
        give(directory, kind.user)
        application = directory / "application.py"
        application.write_text("from webscheduler.wsgi import application\n")

        with start(kind, directory, application, env={"WEBSCHEDULER_HOME": str(installation.home)}) as server:
            row = installation.row()
            shim = directory / "shim.php"
            shim.write_text(entry_files.php_shim(server.url, "task", row["slug"], row["secret"]))

            ran = subprocess.run([PHP, str(shim)], capture_output=True, text=True, timeout=60)
            assert (ran.returncode, ran.stdout) == (0, "accepted\n"), ran.stderr
            until(lambda: installation.runs(), "the run")

            by_web = subprocess.run([PHP, str(shim)], capture_output=True, text=True, env={"REMOTE_ADDR": "192.0.2.1"})
            assert by_web.stdout == ""

            installation.edit(secret="0" * 64)
            ran = subprocess.run([PHP, str(shim)], capture_output=True, text=True, timeout=60)
            assert ran.returncode == 1
            assert ran.stdout.startswith("not accepted")
            assert len(installation.runs()) == 1


def test_no_shim_for_what_cannot_work(installation: Installation) -> None:
    """Without a base URL, or for a task that takes timed signatures only, the error says what to do."""
    assert "baseUrl" in call(installation.home, "shim", "php").complaint
    installation.configure(baseUrl="https://example.org/x.cgi")
    installation.add(signature="timed")
    assert "--signature either" in call(installation.home, "shim", "php", "task").complaint
    assert "php" in call(installation.home, "shim", "perl").complaint


def test_a_shim_of_the_command_line(installation: Installation) -> None:
    """`shim php` prints the file alone, for the task it names or else for what is due."""
    base = "https://example.org/it's"
    printed = call(installation.home, "shim", "php", "--base", base)
    assert printed.status == 0
    assert printed.out.startswith("<?php\n")
    assert f"$url = 'https://example.org/it\\'s/run/{installation.row('@due')['slug']}';" in printed.out
    assert installation.row("@due")["secret"] not in printed.out


def test_a_long_interpreter_is_refused(installation: Installation) -> None:
    """The kernel cuts a first line off (execve(2)); a script of such a line would not start."""
    installation.configure(python="/" + "x" * 300)

    with pytest.raises(BadInput, match="too long"):
        entry_files.first_line(load_settings(str(installation.home)), [])
