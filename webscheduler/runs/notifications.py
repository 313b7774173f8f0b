# SPDX-License-Identifier: LGPL-3.0-or-later
"""Notifications: a task fails, has recovered, or is late.

The rules: one when it starts to fail and one when it recovers, not at each run, and none about a task whose `notify` is
false. A run is recorded before anything is sent, so what cannot be sent disturbs no run; only who sends a test sees the
error. What is sent comes from history and nothing else.
"""

from __future__ import annotations

import json
import os

from ..errors import Unusable
from ..fetching import fetch
from ..printable import escaped
from ..vocabulary import SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..shapes import Entry
    from ..store.settings import Settings
    from ..store.task import Task

SENDMAIL = ("/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/msmtp")
PATIENCE = 20  # seconds for each channel
EXCERPT = 2000


def after_run(settings: Settings, task: Task, entry: Entry, failures_before: int) -> None:
    """Notify if the run changed how the task is: its first failure (after the retries), or its first success after
    failures. failures_before: how many runs before it failed in a row. Never raises."""
    if not settings["notify"] or not task["notify"]:
        return

    success, attempt = entry["status"] == SUCCESS, entry["attempt"] or 1

    if (success and failures_before) or (not success and attempt > task["retries"] and failures_before < attempt):
        what = "has recovered" if success else f"ended as {entry['status']}"
        try_send(settings, f"{entry['command']} {what}", {**entry})


def try_send(settings: Settings, subject: str, facts: dict[str, Any]) -> str:
    """Send; empty text, or what went wrong."""
    try:
        send(settings, subject, facts)
    except Unusable as error:
        return str(error)

    return ""


def send(settings: Settings, subject: str, facts: dict[str, Any]) -> None:
    """Send to each channel that the settings name. Raises Unusable saying which failed."""
    problems = []

    for channel, target in settings["notify"].items():
        if target:
            try:
                SENDERS[channel](settings, target, subject, facts)
            except Exception as error:  # a mail program and a web server may do anything
                problems.append(f"{channel}: {getattr(error, 'reason', None) or error}".split("\n")[0])

    if problems:
        raise Unusable("notification not sent: " + "; ".join(problems))


def _mail(settings: Settings, target: str, subject: str, facts: dict[str, Any]) -> None:
    import subprocess
    from email.message import EmailMessage

    program = next((path for path in SENDMAIL if os.access(path, os.X_OK)), None)

    if program is None:
        raise Unusable("this host has no sendmail: use a webhook")

    message = EmailMessage()
    message["To"] = target
    message["Subject"] = escaped(f"[{settings['name']}] {subject}", one_line=True)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    shown = {key: value for key, value in facts.items() if key not in ("output", "errorOutput") and value is not None}
    text = "".join(f"{key}: {value}\n" for key, value in shown.items())
    message.set_content(text + "\n" + str(facts.get("errorOutput") or facts.get("output") or "")[-EXCERPT:])
    done = subprocess.run([program, "-t", "-oi"], input=message.as_bytes(), capture_output=True, timeout=PATIENCE,
                          check=False)

    if done.returncode:
        raise Unusable(f"{program} ended with {done.returncode}: {done.stderr.decode('utf-8', 'replace')[:200]}")


def _post(settings: Settings, target: str, subject: str, facts: dict[str, Any]) -> None:
    short = {key: value[-EXCERPT:] if isinstance(value, str) else value for key, value in facts.items()}
    # Chat services show `text`.
    body = json.dumps({"text": f"[{settings['name']}] {subject}", "installation": settings["name"], **short}).encode()
    answer = fetch(target, PATIENCE, {"Content-Type": "application/json"}, body, follow=True)

    if not 200 <= answer.status < 300:
        raise Unusable(answer.problem or f"HTTP {answer.status}")


# For each of settings.CHANNELS: sends to the target that the setting `notify` names. May raise anything.
SENDERS = {"email": _mail, "url": _post}
