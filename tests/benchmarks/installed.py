# SPDX-License-Identifier: LGPL-3.0-or-later
"""The program as people have it: a wheel of this tree in an environment of its own, homes with many tasks, a CGI script
that `init` wrote, and beside it the floors and peers that it is compared with."""

from __future__ import annotations

import glob
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from .measuring import Ended, settle, timed

CHECKOUT = Path(__file__).parents[2]
PEERS = ("gunicorn", "flask", "croniter", "cronsim", "tzdata")
BASE = "http://localhost/cgi-bin/webscheduler.cgi"
ENVIRON = {  # what Apache's mod_cgi sets (RFC 3875, 4.1)
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GATEWAY_INTERFACE": "CGI/1.1",
    "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
    "SERVER_ADDR": "127.0.0.1", "SERVER_SOFTWARE": "Apache", "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "40000",
    "SCRIPT_NAME": "/cgi-bin/webscheduler.cgi", "HTTP_HOST": "localhost", "HTTP_USER_AGENT": "curl/8.0",
    "HTTP_ACCEPT": "*/*", "DOCUMENT_ROOT": "/var/www/html", "REQUEST_SCHEME": "http",
}  # fmt: skip
FLOOR = """\
#!{python} -IS
import os
os.write(1, {answer!r})
os._exit(0)
"""
POPEN = """\
#!{python} -IS
import os, subprocess
subprocess.Popen(["/bin/true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                 start_new_session=True)
os.write(1, {answer!r})
os._exit(0)
"""
FLASK = """\
#!{python}
from wsgiref.handlers import CGIHandler
from flask import Flask
app = Flask(__name__)
app.add_url_rule("/run/<slug>", view_func=lambda slug: {{"accepted": False}})
CGIHandler().run(app)
"""


class Home(NamedTuple):
    """An installation. urls: task -> the path and query of the URL that runs it, and of that which tells its status."""

    path: Path
    script: Path
    urls: dict[str, tuple[str, str]]


class Installed:
    """Everything under one temporary folder, for one Python."""

    def __init__(self, place: Path, python: str) -> None:
        self.place, self.homes = place, dict[tuple[int, str], Home]()
        self.errors = place / "errors.log"
        self.environ = {"PATH": ENVIRON["PATH"], "HOME": str(place), "LANG": "C.UTF-8"}  # of a person
        wheels = place / "wheels"
        users, peers = self._environment("users", python), self._environment("peers", python)
        run(peers / "python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, CHECKOUT)
        wheel, = glob.glob(f"{wheels}/*.whl")
        run(users / "python", "-m", "pip", "install", "-q", wheel)
        run(peers / "python", "-m", "pip", "install", "-q", wheel, *PEERS)
        self.python, self.program, self.peers = str(users / "python3"), str(users / "webscheduler"), peers
        self.version = run(self.python, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])").strip()

    def _environment(self, name: str, python: str) -> Path:
        run(python, "-m", "venv", self.place / name)
        return self.place / name / "bin"

    def home(self, tasks: int, purpose: str = "") -> Home:
        """An installation with so many tasks, of which `quick` runs /bin/true and `long` sleeps; made once."""
        if (tasks, purpose) not in self.homes:
            self.homes[tasks, purpose] = self._make(tasks, purpose)

        return self.homes[tasks, purpose]

    def _make(self, tasks: int, purpose: str) -> Home:
        path = self.place / f"home{tasks}{purpose}"
        scripts = path.with_name(path.name + "-cgi") / "cgi-bin"
        scripts.mkdir(parents=True)
        self.cli(path, "init", "--base-url", BASE, "--timezone", "Europe/Paris", "--cgi-bin", str(scripts))

        # Nothing is due within the next hours, but where the schedules are what is shown.
        hour = (time.gmtime().tm_hour + 12) % 24
        when = (f"{hour} * * *", f"{hour} * * 1-5", f"{hour} * * SUN", f"{hour} 1 * *", f"{hour} * * 6#2")
        when = (f"{hour} * * *", "* * * *", f"{hour} * * SUN", f"{hour} 1 * *", "*/4 * * *") if purpose else when
        self.cli(path, "add", "quick", "--strategy", "fork", "--cron", f"30 {hour} * * *", "--", "/bin/true")
        self.cli(path, "add", "long", "--strategy", "fork", "--", "/bin/sleep", "600")
        self.cli(path, "add", "waits", "--strategy", "sync", "--", "/bin/true")
        self.cli(path, "run", "quick")
        file, history = path / "state.json", (path / "logs" / "quick.jsonl").read_text()
        rows = json.loads(file.read_bytes())

        for number in range(tasks - len(rows)):
            name = f"app:task-{number}"
            rows[name] = {**rows["quick"], "slug": secrets.token_hex(16), "secret": secrets.token_hex(32),
                          "title": f"Task {number}", "group": f"group {number % 12}",
                          "expression": f"{number % 60} {when[number % 5]}"}  # fmt: skip
            (path / "logs" / f"app_task-{number}.jsonl").write_text(20 * history.replace('"quick"', json.dumps(name)))

        text = ",\n".join(json.dumps({name: row})[1:-1] for name, row in rows.items())
        file.write_text("{\n" + text + "\n}\n")
        self.cli(path, "edit", "quick", "--title", "The quick one")
        urls = {name: self.target(path, name) for name in ("quick", "long", "waits")}
        urls["status"] = self.target(path, "quick", "--status")
        urls["unknown"] = ("/run/" + "0" * 32, "sig=" + "0" * 64)
        home = Home(path, scripts / "webscheduler.cgi", urls)

        for _ in range(2):  # what a change leaves to be done is done by the first run after it
            self.request(home.script, urls["quick"])
            settle()

        return home

    def target(self, home: Path, name: str, *options: str) -> tuple[str, str]:
        """Path and query of a task's URL."""
        url = self.cli(home, "url", name, *options).strip()
        assert url.startswith(BASE), url
        path, _, query = url[len(BASE):].partition("?")
        return path, query

    def cli(self, home: Path, *words: str, given: str = "") -> str:
        """What `webscheduler WORDS` prints."""
        try:
            return run(self.program, "--home", home, *words, given=given)
        finally:
            settle()

    # Requests

    def request(self, script: Path, target: tuple[str, str] = ("", ""), **options: Any) -> Ended:
        """Call a CGI script by its path, as a server does."""
        return timed([str(script)], {**ENVIRON, "PATH_INFO": target[0], "QUERY_STRING": target[1]}, self.errors,
                     **options)  # fmt: skip

    def script(self, name: str, text: str, **values: Any) -> Path:
        """A CGI script of the same Python."""
        file = self.place / name
        file.write_text(text.format(**{"python": self.python, **values}))
        file.chmod(0o755)
        return file

    def bare(self, *options: str) -> Ended:
        """The interpreter, doing nothing."""
        return timed([self.python, *options, "-c", "pass"], ENVIRON, self.errors)

    def call(self, home: Home, *words: str) -> Ended:
        """The command line, timed."""
        return timed([self.program, "--home", str(home.path), *words], self.environ, self.errors)


def run(*words: object, given: str = "", cwd: Path = Path("/")) -> str:
    """Run a command that must succeed, and whose time does not matter; its output."""
    environ = {**{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "WEBSCHEDULER"))},
               "PIP_DISABLE_PIP_VERSION_CHECK": "1"}  # fmt: skip
    done = subprocess.run([str(word) for word in words], input=given, text=True, capture_output=True, env=environ,
                          cwd=cwd)  # fmt: skip

    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")

    return done.stdout


def webhook() -> str | None:
    """Where adnanh/webhook is, if it is here."""
    return shutil.which("webhook")
