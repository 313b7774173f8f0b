# SPDX-License-Identifier: LGPL-3.0-or-later
"""Starts the processes of one test server, and ends whatever they leave behind.

Runs as a process of its own, between the test and the server. It is the "subreaper" of everything started below it
(prctl(2)), so also a job that detached itself into a session of its own stays within reach; and it ends with its
standard input, so nothing outlives a test run that was killed. It may import the standard library only.

Protocol: a line of JSON in (the arguments of `subprocess.Popen`, and `log`, a file to append to), a line of JSON out:
the pid, or a text that says why there is none.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def parent(pid: int) -> int | None:
    """The parent of a living process; None for one that is gone, or dead and waited for by nobody."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, threads = fields[0], int(fields[17])
    # While other threads still hold its sockets, a process that ended looks like a zombie, too.
    return None if state in b"ZX" and threads <= 1 else int(fields[1])


def descendants(pid: int) -> list[int]:
    """The living processes below `pid`, parents before their children."""
    children: dict[int | None, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            children.setdefault(parent(int(name)), []).append(int(name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def spawn(log: str, **arguments: object) -> int | str:
    with open(log, "ab") as output:
        try:
            process = subprocess.Popen(  # type: ignore[call-overload]
                **arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=0o022,
                preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_DFL),
            )
        except OSError as error:
            return str(error)
    process.returncode = 0  # nobody is to wait for it
    return int(process.pid)


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no child is left as a zombie
    for line in sys.stdin:
        print(json.dumps(spawn(**json.loads(line))), flush=True)

    while left := descendants(os.getpid()):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


if __name__ == "__main__":
    main()
