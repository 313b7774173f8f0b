"""What a CGI trigger imports before its response: interpreter start-up is the price of CGI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from tests.installation import CHECKOUT, Installation

GOLDEN = Path(__file__).parent / "vectors" / "cgi_modules.txt"
FORBIDDEN = {"argparse", "logging", "dataclasses", "subprocess", "filelock", "typing", "contextlib", "urllib.parse",
             "ipaddress", "tempfile", "pathlib", "threading", "random", "zoneinfo", "asyncio",
             "webscheduler.admin", "webscheduler.cli", "webscheduler.cron", "webscheduler.runner",
             "webscheduler.record", "webscheduler.wsgi"}

# The one place that writes to the client says what is loaded at that moment.
PROBE = f"""
import sys
before = set(sys.modules)
sys.path[:0] = [{str(CHECKOUT)!r}, {str(Path(filelock.__file__).parents[1])!r}]
from webscheduler import strategies
write_all = strategies.write_all

def witness(data):
    sys.stderr.write("\\n".join(sorted(set(sys.modules) - before)))
    sys.stderr.flush()
    write_all(data)

strategies.write_all = witness
from webscheduler.cgi import main
main()
"""


def loaded(installation: Installation, environ: dict[str, str]) -> tuple[set[str], bytes]:
    """(modules loaded when the response goes out, beyond those of a bare interpreter; the response)."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROBE], capture_output=True, timeout=60, check=True,
        env={"WEBSCHEDULER_HOME": str(installation.home), **environ})
    return set(done.stderr.decode().split()), done.stdout


@pytest.fixture
def triggered(installation: Installation) -> set[str]:
    installation.add(strategy="auto")
    modules, response = loaded(installation, installation.signed())
    assert b'"strategy": "fork"' in response
    installation.idle()
    return modules


def test_the_modules_of_ours_are_those_of_the_list(triggered):
    """Another module on the way to a response is a decision, made by changing the list."""
    ours = sorted(name for name in triggered if name.startswith("webscheduler"))
    assert ours == [name for name in GOLDEN.read_text().split() if name.startswith("webscheduler")]


def test_the_standard_library_s_are_those_of_the_list(triggered):
    """Nor does the standard library come along beyond what the list has; versions of Python may need less."""
    known = set(GOLDEN.read_text().split())
    extra = {name for name in triggered if not name.startswith(("webscheduler", "_", "encodings"))} - known
    # What json and hmac bring along differs by version.
    assert extra <= {"sre_compile", "sre_parse", "sre_constants", "collections.abc", "contextlib", "abc"} - FORBIDDEN


def test_nothing_costly_is_loaded_by_an_accepted_trigger(triggered):
    """The panel, the command line, cron and what runs and records come after the response, or never."""
    assert not {name for name in triggered for bad in FORBIDDEN if name == bad or name.startswith(bad + ".")}


@pytest.mark.parametrize("what", ["refused", "locked"])
def test_nothing_costly_is_loaded_by_the_others(installation, what):
    """A refusal and a skip, which write a line themselves, need neither filelock nor the runner either."""
    go_on = installation.home / "go-on"
    installation.add(argv=["/bin/sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.05; done', str(go_on)])
    environ = installation.signed()

    if what == "refused":
        environ["QUERY_STRING"] = "sig=" + "0" * 64
    else:
        installation.cgi(environ)
        installation.command_runs()

    modules, response = loaded(installation, environ)
    assert (b"locked" in response) == (what == "locked")
    assert b"200" not in response
    assert not {name for name in modules for bad in FORBIDDEN - {"webscheduler.record"}
                if name == bad or name.startswith(bad + ".")}
    go_on.touch()
    installation.idle()
