"""Telling people: that a task fails, that it is well again, that it comes late.

The rules: told once when it begins and once when it ends, not at each run, and nothing of a task whose `notify` is
false. What cannot be sent is said where it is seen (the exit line of whoever asked for a test) and never disturbs a
run, which is recorded before. By mail through the host's sendmail, or by a POST of JSON to a webhook; both take what
they send from history, nothing else.
"""

from __future__ import annotations

import json
import os

from ..errors import Unusable
from ..fetching import fetch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..store.settings import Settings
    from ..store.task import Task

SENDMAIL = ("/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/msmtp")
PATIENCE = 20  # seconds for each way
EXCERPT = 2000


def after_run(settings: Settings, task: Task, entry: dict[str, Any], failures_before: int) -> None:
    """Tell of a run where it changed how the task is: the first failure (after its retries), or the first success
    after failures. Never raises."""
    if not settings["notify"] or not task["notify"]:
        return

    success, attempt = entry["status"] == "success", entry["attempt"] or 1

    if success and failures_before or not success and attempt > task["retries"] and failures_before < attempt:
        what = "is well again" if success else f"ended as {entry['status']}"
        try_send(settings, f"{entry['command']} {what}", entry)


def try_send(settings: Settings, subject: str, facts: dict[str, Any]) -> str:
    """Send, and return an empty text, or what went wrong."""
    try:
        send(settings, subject, facts)
    except Unusable as error:
        return str(error)

    return ""


def send(settings: Settings, subject: str, facts: dict[str, Any]) -> None:
    """Send by each way that the settings name. Raises Unusable saying which could not."""
    problems = []

    for way, act in (("email", _mail), ("url", _post)):
        if settings["notify"].get(way):
            try:
                act(settings, subject, facts)
            except Exception as error:  # whatever a mail program or a web server does, the run is recorded
                problems.append(f"{way}: {getattr(error, 'reason', None) or error}".split("\n")[0])

    if problems:
        raise Unusable("notification not sent: " + "; ".join(problems))


def _mail(settings: Settings, subject: str, facts: dict[str, Any]) -> None:
    import subprocess
    from email.message import EmailMessage

    program = next((path for path in SENDMAIL if os.access(path, os.X_OK)), None)

    if program is None:
        raise Unusable("this host has no sendmail: use a webhook")

    message = EmailMessage()
    message["To"] = settings["notify"]["email"]
    message["Subject"] = f"[{settings['name']}] {subject}"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    shown = {key: value for key, value in facts.items() if key not in ("output", "errorOutput") and value is not None}
    text = "".join(f"{key}: {value}\n" for key, value in shown.items())
    message.set_content(text + "\n" + str(facts.get("errorOutput") or facts.get("output") or "")[-EXCERPT:])
    done = subprocess.run([program, "-t", "-oi"], input=message.as_bytes(), capture_output=True, timeout=PATIENCE,
                          check=False)

    if done.returncode:
        raise Unusable(f"{program} ended with {done.returncode}: {done.stderr.decode('utf-8', 'replace')[:200]}")


def _post(settings: Settings, subject: str, facts: dict[str, Any]) -> None:
    short = {key: value[-EXCERPT:] if isinstance(value, str) else value for key, value in facts.items()}
    # `text` is what chat services show of a webhook.
    body = json.dumps({"text": f"[{settings['name']}] {subject}", "installation": settings["name"], **short}).encode()
    answer = fetch(settings["notify"]["url"], PATIENCE, {"Content-Type": "application/json"}, body, follow=True)

    if not 200 <= answer.status < 300:
        raise Unusable(answer.problem or f"HTTP {answer.status}")
