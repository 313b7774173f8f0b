# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a CGI request imports, which is what it costs: interpreter start-up is the price of CGI."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import LIBRARY
from tests.installation import Installation, answered, asking
from webscheduler.runs.indexing import refresh

VECTORS = Path(__file__).parent / "vectors"

# Runs the script and, right before its response is written, tells on standard error what it has imported by then.
LISTING = """
import sys
bare = set(sys.modules)
import os
write = os.write

def listed(descriptor, data):
    if descriptor == 1:
        write(2, " ".join(set(sys.modules) - bare).encode())
    return write(descriptor, data)

os.write = listed
library, script = sys.argv[1:]
sys.path.append(library)
exec(compile(open(script).read(), script, "exec"), {"__name__": "__main__", "__file__": script})
"""

FORBIDDEN = {"argparse", "logging", "dataclasses", "subprocess", "filelock", "typing", "contextlib", "inspect",
             "pathlib", "tempfile", "threading", "asyncio", "secrets", "random", "zoneinfo", "ipaddress", "signal",
             "select", "pwd", "json", "hmac", "hashlib", "datetime", "re", "urllib", "urllib.parse", "http",
             "http.client", "email", "importlib", "functools", "collections",
             "importlib.metadata", "traceback", "webscheduler.admin", "webscheduler.http_api",
             "webscheduler.store.keys", "webscheduler.runs.process", "webscheduler.runs.recorder",
             "webscheduler.schedule",
             "webscheduler.addresses", "webscheduler.commands"}  # fmt: skip


def golden() -> list[str]:
    """The listed modules, sorted; what a Python imports beside them has a file of its own."""
    more = VECTORS / f"cgi_modules_{sys.version_info[0]}_{sys.version_info[1]}.txt"
    own = more.read_text().split() if more.exists() else []
    return sorted([*(VECTORS / "cgi_modules.txt").read_text().split(), *own])


def imported(installation: Installation, environ: dict[str, str], status: int = 202) -> set[str]:
    """What a bare interpreter (python -I -S) had imported when it answered the request."""
    assert refresh(str(installation.home))

    with installation.start_cgi(environ, words=[sys.executable, "-I", "-S", "-c", LISTING, str(LIBRARY)]) as process:
        answer = answered(process)

    assert answer.status == status
    return set(answer.errors.split())


def public(modules: set[str]) -> set[str]:
    """Without what is the interpreter's own affair and differs between its versions: `os` needs errno since 3.14.8."""
    return {name for name in modules
            if not name.startswith(("_", "sre_", "re.")) and name not in ("heapq", "math", "errno")}


@pytest.mark.parametrize("strategy", ["fork", "auto"])
def test_a_trigger_imports_what_is_listed(installation: Installation, strategy: str) -> None:
    """Before its response is out, a trigger that forks has imported exactly the modules of the golden list."""
    installation.add(strategy=strategy)
    modules = public(imported(installation, installation.signed()))
    assert sorted(modules) == golden()
    assert not modules & FORBIDDEN
    installation.idle()
    assert [run["strategy"] for run in installation.runs()] == ["fork"]


def test_other_answers_import_little_more(installation: Installation) -> None:
    """A refusal needs less, and skips add the writing of one line: not even these wait for what they do not need."""
    go_on = installation.home / "go-on"
    installation.add(argv=["sh", "-c", f"while [ ! -e {go_on} ]; do sleep 0.02; done"])
    installation.add("off", enabled=False)
    listed = set(golden())
    unsigned = asking("/run/" + "ab" * 16, "sig=1")
    assert installation.call("cgi", unsigned).refused  # leaves its trace, as one a minute does
    own = {name for name in imported(installation, unsigned) if name.startswith("webscheduler.")}
    assert own == {f"webscheduler.{name}" for name in ("cgi", "http", "store", "store.files", "store.index", "trigger",
                                                       "errors")}  # the last ones to find the home
    assert public(imported(installation, {**installation.signed(), "REQUEST_METHOD": "HEAD"})) <= listed
    skip = public(imported(installation, installation.signed("off")))
    assert not skip & (FORBIDDEN - {"json", "re", "functools", "collections"})
    installation.trigger("wsgi")
    installation.command_runs()
    # Whether the run that locks it lives, and what is to be written of the skip: no more than that.
    locked = public(imported(installation, installation.signed()))
    assert not locked & (FORBIDDEN - {"json", "re", "functools", "collections"})
    go_on.touch()
    installation.idle()
    installation.gone()


def test_the_package_itself_imports_nothing() -> None:
    """`import webscheduler` costs nothing: what it offers is loaded when it is used."""
    program = "import sys; before = set(sys.modules); import webscheduler; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(LIBRARY)!r}); "
                           + program], capture_output=True, text=True, check=True)  # fmt: skip
    assert set(done.stdout.split()) <= {"webscheduler", "__future__"}


STARTED = """
import io, json, sys
sys.path[:0] = sys.argv[3:]
from webscheduler.wsgi import create_app

class Gone:  # as while the package is replaced
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == "webscheduler":
            raise ImportError(f"{name} is imported by a request")

sys.meta_path.insert(0, Gone())
application = create_app(sys.argv[1])
found = []

for environ in json.loads(sys.argv[2]):
    result = application({**environ, "wsgi.errors": sys.stderr, "wsgi.input": io.BytesIO()},
                         lambda status, headers: found.append([status[:3]]))
    found[-1].append(json.loads(b"".join(result)))

print(json.dumps(found))
"""


def test_a_wsgi_process_has_imported_all_when_it_starts(installation: Installation) -> None:
    """It lives on when the package is replaced: no request imports a module of it, which may be another's by then."""
    for name, fields in {"one": {}, "off": {"enabled": False}, "timed": {"signature": "timed"}, "at once":
                         {"strategy": "sync"}, "listed": {"ipAllowlist": ["10.0.0.0/8"]}, "dead": {}}.items():
        installation.add(name, **fields)

    (installation.home / "runs" / "dead@20260101000000-00000000").write_text("")
    environs = [installation.signed(name) for name in ("one", "off", "at once", "listed", "dead")]
    environs += [installation.signed("timed", ts=int(time.time())), installation.asking_status("one"),
                 asking("/run/" + "ab" * 16, "sig=1"), asking("/status/" + "ab" * 16, "sig=1"), asking("/other")]
    words = [sys.executable, "-I", "-c", STARTED, str(installation.home), json.dumps(environs), str(LIBRARY)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stderr == "", done.stderr
    found = json.loads(done.stdout)
    accepted = [answer.get("accepted") for _, answer in found]
    assert accepted == [True, False, True, False, True, True, None, False, None, None]
    assert [status for status, _ in found] == ["202", "202", "200", *["202"] * 3, "200", "202", "404", "404"]
    installation.idle()
    assert [run["status"] for run in installation.runs("dead")] == ["interrupted", "success"]
