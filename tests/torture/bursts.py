# SPDX-License-Identifier: LGPL-3.0-or-later
"""Many triggers of one task at one moment, over and over; how many of each were accepted.

    python -m tests.torture.bursts HOME interval|timed BURSTS AT_ONCE
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from typing import Any

from tests.torture.requests import answer, ask, environ_of
from webscheduler.store import history_reading, state
from webscheduler.store.task import new_task

COMMON = {"enabled": True, "argv": ["true"], "preventOverlap": False, "strategy": "fork"}
FIELDS: dict[str, dict[str, Any]] = {"interval": {"minIntervalSeconds": 60}, "timed": {"signature": "timed"}}


def add(name: str, row: dict[str, Any], tasks: state.Tasks) -> None:
    tasks[name] = row


def main(home: str, kind: str, bursts: str, at_once: str) -> int:
    accepted, refused, lines = [], [], 0

    for number in range(int(bursts)):
        name = f"task{number}"
        row = new_task(time.time(), {**COMMON, **FIELDS[kind]})
        state.update(home, functools.partial(add, name, row))
        environ = environ_of(row, int(time.time()) if kind == "timed" else None)
        start = os.pipe()
        requests = [ask(home, environ, start) for _ in range(int(at_once))]
        os.close(start[1])
        os.close(start[0])
        answers = [answer(*request) for request in requests]
        accepted.append(sum(bool(each and each[1].get("status") == "running") for each in answers))
        # 503: on a busy machine somebody holds the gate for longer than a second.
        refused.append(sum(each in [(202, {"accepted": False}), (503, {"accepted": False})] for each in answers))

    while os.listdir(os.path.join(home, "runs")):
        time.sleep(0.01)

    for number in range(int(bursts)):
        lines += sum(1 for entry in history_reading.entries(home, f"task{number}") if entry["run"])

    print(json.dumps({"bursts": int(bursts), "accepted": accepted, "refused": refused, "lines": lines}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
