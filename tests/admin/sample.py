# SPDX-License-Identifier: LGPL-3.0-or-later
"""An installation as a shop might have it, for pictures and for checks that need every page to be full.

It may import the package.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from tests.admin.client import OWNER, populate
from tests.installation import Installation
from webscheduler import __version__, editing
from webscheduler.store import history, keys, locks, state
from webscheduler.store.refusals import add_refusal
from webscheduler.store.settings import load_settings
from webscheduler.times import format_time

REPORT = ("printf '\\033[1;32mPASS\\033[0m 12 checks\\n\\033[31mFAIL\\033[0m totals of <b>May</b> differ\\n';"
          " echo 'warning: disk 91% full' >&2; exit 3")
COMMANDS = {"backup": {"argv": ["/bin/sh", "-c", "echo saving tables; sleep 600"], "description": "Database dump"},
            "report": {"argv": ["/bin/sh", "-c", REPORT], "arguments": True, "description": "Sales report as PDF"}}
NAMES = {"shop:backup": "Nightly backup", "shop:report": "Monthly report", "shop:prices": "Prices from the wholesaler"}

# Name -> the page, for whoever is signed in as the owner; `run` and `live` are added by `fill`.
PAGES = {"tasks": "", "task": "task?name=shop%3Aprices", "due": "task?name=%40due", "edit": "edit?name=shop%3Aprices",
         "new": "edit", "history": "history", "filtered": "history?status=problems",
         "delete": "delete?name=shop%3Areport", "secret": "secret?name=shop%3Areport", "clear": "clear",
         "diagnostics": "diagnostics", "settings": "settings", "account": "account", "people": "people",
         "keys": "keys", "missing": "task?name=gone"}


def entry(name: str, begun: float, took: float, status: str, code: int | None, **more: Any) -> dict[str, Any]:
    run = time.strftime("%Y%m%d%H%M%S", time.gmtime(begun)) + f"-{random.getrandbits(32):08x}"
    return {"command": name, "startedAt": format_time(begun), "finishedAt": format_time(begun + took), "duration": took,
            "status": status, "exitCode": code, "output": "12 rows\n", "errorOutput": "", "run": run, "reason": None,
            "strategy": "fork", "trigger": "due", "triggeredAt": format_time(begun), "ip": None, "scheduledFor": None,
            "signal": None, "attempt": 1, "count": 1, **more}


def fill(installation: Installation, base: str) -> dict[str, str]:
    """Tasks, history and people; the pages to look at, by name."""
    home, now = str(installation.home), time.time()
    random.seed(7)
    installation.configure(baseUrl=base, timezone="Europe/Paris", commands=COMMANDS, name="Example shop",
                           notify={"email": "admin@example.org"})
    populate(installation)
    keys.add(home, "deployment", "editor", now - 9 * 86400, now + 81 * 86400, ["203.0.113.0/24", "2001:db8::/32"])
    keys.add(home, "dashboard", "viewer", now - 90 * 86400, now - 86400)
    settings = load_settings(home)

    def add(name: str, **fields: Any) -> None:
        editing.create(settings, name, {"title": NAMES.get(name, ""), **fields}, now - 3 * 86400)

    add("shop:backup", command="backup", expression="0 3 * * *", group="maintenance", timeout=3600)
    add("shop:report", command="report", expression="0 5 1 * *", group="maintenance", arguments="--format pdf")
    add("shop:mail-queue", command="hello", arguments="mail", expression="*/10 * * * *", group="shop")
    add("shop:sitemap", command="hello", intervalSeconds=5400, group="shop", enabled=False)
    add("shop:prices", command="http", arguments="https://example.org/prices 60", expression="30 9-17/2 * * 1-5",
        group="shop", strategy="fork", minIntervalSeconds=300)

    def past(name: str, count: int, gap: float, **more: Any) -> dict[str, Any]:
        last: dict[str, Any] = {}

        for number in range(count, 0, -1):
            status, code, error = random.choice([("success", 0, "")] * 8 + [
                ("failed", 137, "Killed\n"), ("timeout", 143, "no answer from the bank\n")])
            begun = now - gap * (number - 0.4)
            last = entry(name, begun, random.uniform(0.2, 30), status, code, errorOutput=error, **more)
            history.append(home, name, last)

        state.update(home, lambda tasks: tasks[name].update(
            lastRunAt=last["startedAt"], lastRunStatus=last["status"], lastRunDuration=last["duration"],
            lastRunExitCode=last["exitCode"], lastRunId=last["run"]))
        return last

    past("shop:backup", 20, 86400)
    past("shop:mail-queue", 70, 600)
    past("shop:prices", 24, 7200, trigger="url", ip="203.0.113.7")
    failed = entry("shop:report", now - 20 * 86400, 4.2, "failed", 3, errorOutput="warning: disk 91% full\n", output=(
        "\x1b[1;32mPASS\x1b[0m 12 checks\n\x1b[31mFAIL\x1b[0m totals of <b>May</b> differ by \x1b[33m0.03\x1b[0m\n"))
    history.append(home, "shop:report", failed)
    state.update(home, lambda tasks: tasks["shop:report"].update(
        lastRunAt=failed["startedAt"], lastRunStatus="failed", lastRunDuration=4.2, lastRunExitCode=3,
        lastRunId=failed["run"]))

    for number in range(12):
        history.append(home, "@due", entry("@due", now - 900 * (12 - number) + 60, 1.3, "success", 0, trigger="url",
                                           ip="203.0.113.7", output="started shop:mail-queue\n"))

    skipped = entry("shop:prices", now - 50, 0.0, "skipped", None, run=None, reason="rate_limited", trigger="url",
                    ip="203.0.113.7", count=4, output="")
    history.append(home, "shop:prices", skipped)
    add_refusal(home, now - 4000, "GET", "", "198.51.100.9",
                "the signature is not 64 hexadecimal digits", {}.get)
    (installation.home / "commands.json").write_text(json.dumps({
        "sync": {"at": format_time(now - 600), "package": __version__},
        "broken": {"shop.jobs": "ImportError: No module named pdf"}}))

    claim = locks.make_claim(home, "shop:backup", "20260101030000-0a1b2c3d", {
        "run": "20260101030000-0a1b2c3d", "name": "shop:backup", "startedAt": format_time(now - 95), "trigger": "admin",
        "starter": locks.identity()})
    claim.close()
    Path(home, "output", "20260101030000-0a1b2c3d.log").write_text(
        "saving tables\n  customers \x1b[32mdone\x1b[0m\n  orders    \x1b[32mdone\x1b[0m\n  invoices …\n")
    return {**PAGES, "run": f"run?name=shop%3Areport&run={failed['run']}",
            "live": "run?name=shop%3Abackup&run=20260101030000-0a1b2c3d"}


__all__ = ["OWNER", "PAGES", "fill"]
