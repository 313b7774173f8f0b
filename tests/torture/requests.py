# SPDX-License-Identifier: LGPL-3.0-or-later
"""Requests as cheap processes, for tests that make thousands: forked from one that has loaded the package already.

Each is what a CGI script is: one process, one thread, one answer, then `_exit`; it detaches its run as the script does.
It may import the package and the standard library.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from webscheduler import signing, trigger
from webscheduler.http import Request
from webscheduler.runs import admission, process, recorder, retention
from webscheduler.store import capabilities, state

# All that a request and its supervisor import on their way, so that a fork has it.
LOADED = (capabilities, admission, retention, recorder, process, signing, state)


def environ_of(row: dict[str, Any], ts: int | None = None) -> dict[str, str]:
    """The request that the task's URL makes."""
    signature = signing.sign(row["secret"], signing.run_message(row["slug"], None if ts is None else str(ts)))
    query = f"sig={signature}" if ts is None else f"ts={ts}&sig={signature}"
    return {"REQUEST_METHOD": "GET", "PATH_INFO": f"/run/{row['slug']}", "QUERY_STRING": query, "REMOTE_ADDR": "::1"}


def ask(home: str, environ: dict[str, str], start: tuple[int, int] | None = None) -> tuple[int, int]:
    """Start a request; (its pid, a pipe from which `answer` reads). With `start`, a pipe, it begins when the
    caller closes its writing end."""
    reading, writing = os.pipe()
    pid = os.fork()

    if pid == 0:
        try:
            os.close(reading)

            if start is not None:
                os.close(start[1])
                os.read(start[0], 1)

            reply = trigger.answer(Request(environ), home, True, time.time, lambda line: print(line, file=sys.stderr))
            os.write(writing, b"%d %s\n" % (reply.status, reply.body))
        finally:
            os._exit(0)

    os.close(writing)
    return pid, reading


def answer(pid: int, reading: int) -> tuple[int, dict[str, Any]] | None:
    """Wait for a request's end; (status, document), or None if it was killed before it answered."""
    data = b""

    while part := os.read(reading, 65536):
        data += part

    os.close(reading)
    os.waitpid(pid, 0)

    if not data.endswith(b"\n"):
        return None

    status, _, body = data.partition(b" ")
    return int(status), json.loads(body)
