# SPDX-License-Identifier: LGPL-3.0-or-later
"""The command line, called as people call it: a process of its own, its exit status, both of its streams.

Rule: what is printed is UTF-8 whatever the locale, and nothing ever prints a traceback: `call` itself asserts that.
It may import the package and the standard library.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests import python_path
from tests.installation import PATIENCE, python_options

WINDOWS = """
import argparse, http.client, importlib.metadata, os, pathlib, shutil, signal, socket, subprocess, sys, tempfile
import getpass, ssl, urllib.request, zoneinfo

sys.modules.update(dict.fromkeys(("pwd", "grp", "fcntl", "resource", "termios", "tty", "pty", "syslog")))
missing = {
    os: "O_DIRECTORY O_CLOEXEC O_NOFOLLOW O_NONBLOCK fchmod chown fchown fork getuid geteuid getgid getegid getpgid "
        "getsid setsid killpg posix_spawn pread pwrite mkfifo WNOHANG uname statvfs sysconf getgroups",
    signal: "SIGKILL SIGHUP SIGCHLD SIGALRM SIGPIPE SIGUSR1 pthread_sigmask setitimer alarm"}

for module, names in missing.items():
    for name in names.split():
        delattr(module, name)

ssl.enum_certificates = lambda store: ()
sys.platform = "win32"
sys.argv[0] = "webscheduler"
from webscheduler.cli import main
sys.exit(main())
"""  # what POSIX adds is not there; the standard library itself is loaded before, as Windows has its own


class Done(NamedTuple):
    """What a call came to."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its standard output, which must be one JSON document."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """Its standard error, which must be one line."""
        assert self.err.startswith("webscheduler: ") and self.err.count("\n") == 1, self.err
        return self.err[len("webscheduler: "):-1]


def environment(home: Path, **variables: str) -> dict[str, str]:
    """What a call finds around it."""
    return {"PATH": os.environ["PATH"], "HOME": str(home.parent), "WEBSCHEDULER_HOME": str(home), "LANG": "C.UTF-8",
            **python_path(), **python_options(), **variables}


def start(home: Path, *words: str | bytes, **popen: Any) -> subprocess.Popen[bytes]:
    """Start `webscheduler WORDS`, as from a terminal: not deaf to Ctrl-C, as what a shell starts by `&` is."""
    given = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
             "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
             "env": environment(home), "cwd": home.parent, **popen}
    return subprocess.Popen([sys.executable, "-m", "webscheduler", *words], **given)


def finished(process: subprocess.Popen[bytes], given: bytes | None = None) -> Done:
    """Wait for its end, which must come. It may end before it has read what it is given, or read nothing of it."""
    with process:
        try:
            out, err = process.communicate(given, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    assert b"Traceback" not in (err or b""), err.decode()
    return Done(process.returncode, (out or b"").decode(), (err or b"").decode())


def call(home: Path, *words: str | bytes, given: bytes | None = None, **popen: Any) -> Done:
    """`webscheduler WORDS`, from beginning to end; what it is given is its standard input."""
    if given is not None:
        popen["stdin"] = subprocess.PIPE

    return finished(start(home, *words, **popen), given)
