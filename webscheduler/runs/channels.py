# SPDX-License-Identifier: LGPL-3.0-or-later
"""The ways to notify somebody: mail by sendmail or a mail server, a webhook, and pings of a monitoring service.

The rules: a send ends within LIMIT seconds, whatever the other side does. Connections are encrypted and certificates
checked where they carry a password. What goes wrong is one line, and no password is in it.
"""

from __future__ import annotations

import json
import os

from ..commands.registry import environment
from ..errors import Unusable
from ..fetching import fetch, within
from ..printable import escaped
from ..store.fields import HIDDEN, mail_server
from ..times import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from email.message import EmailMessage

    from ..shapes import Notice
    from ..store.settings import Settings

SENDMAIL = ("/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/msmtp")
LIMIT = 10.0  # seconds
EXCERPT = 2000  # characters of each output
START, SUCCEEDED, FAILED = "/start", "", "/fail"  # what is added to a ping URL (healthchecks.io/docs/http_api)
SIGNATURE = "X-Webscheduler-Signature"


def send(settings: Settings, channel: str, notice: Notice, now: float) -> str:
    """Send to one channel of the setting `notify`; empty text, or what went wrong."""
    try:
        SENDERS[channel](settings, settings["notify"][channel], notice, now)
    except TimeoutError:
        return f"not done within {LIMIT:g} s"
    except Exception as error:  # a mail program and a server may do anything
        return _problem(error, settings["smtp"])

    return ""


def ping(url: str, signal: str) -> str:
    """Call a ping URL; empty text, or what went wrong. signal: START, SUCCEEDED or FAILED."""
    path, mark, query = url.partition("?")
    answer = fetch(path.rstrip("/") + signal + mark + query if signal else url, LIMIT, follow=True)

    if 200 <= answer.status < 300:
        return ""

    return answer.problem or f"HTTP {answer.status}"


def _problem(error: Exception, smtp: str | None) -> str:
    code, said = getattr(error, "smtp_code", None), getattr(error, "smtp_error", b"")
    text = f"{code} {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}" if code else str(error)
    text = " ".join((text or type(error).__name__).split())[:300]
    password = mail_server(smtp)[4] if smtp else ""
    return text.replace(password, HIDDEN) if password else text


def _mail(settings: Settings, target: str, notice: Notice, now: float) -> None:
    from email.message import EmailMessage

    message, facts = EmailMessage(), notice["facts"]
    message["To"] = target
    message["Subject"] = escaped(f"[{settings['name']}] {notice['subject']}", one_line=True)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    shown = {key: value for key, value in facts.items() if key not in ("output", "errorOutput") and value is not None}
    text = "".join(f"{key}: {value}\n" for key, value in shown.items())
    message.set_content(text + "\n" + str(facts.get("errorOutput") or facts.get("output") or "")[-EXCERPT:])

    if settings["smtp"]:
        within(LIMIT, lambda: _by_server(settings["smtp"], message, now))
    else:
        _by_sendmail(settings, message)


def _by_server(server: str, message: EmailMessage, now: float) -> None:
    import smtplib
    import ssl
    from email.utils import formatdate, make_msgid

    secure, host, port, user, password, sender = mail_server(server)
    sender = sender or (user if "@" in user else message["To"].addresses[0].addr_spec)
    message["From"] = sender
    message["Date"] = formatdate(now)
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    context, name = ssl.create_default_context(), os.uname().nodename  # smtplib would ask the DNS for our name

    with smtplib.SMTP_SSL(host, port, name, timeout=LIMIT, context=context) if secure else smtplib.SMTP(
            host, port, name, timeout=LIMIT) as session:
        if not secure:
            session.starttls(context=context)

        if user:
            session.login(user, password)

        session.send_message(message)


def _by_sendmail(settings: Settings, message: EmailMessage) -> None:
    import signal
    import subprocess
    import tempfile

    program = next((path for path in SENDMAIL if os.access(path, os.X_OK)), None)

    if program is None:
        raise Unusable("this host has no sendmail: use a mail server (setting `smtp`) or a webhook")

    # Files, not pipes: who waits for the end of a pipe waits for whatever the program leaves behind.
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as errors:
        source.write(message.as_bytes())
        source.seek(0)
        child = subprocess.Popen([program, "-t", "-oi"], stdin=source, stdout=subprocess.DEVNULL, stderr=errors,
                                 env=environment(settings.home, settings["environment"]), start_new_session=True)

        try:
            code = child.wait(LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise TimeoutError

        errors.seek(0)
        said = errors.read(200).decode("utf-8", "replace")

    if code:
        raise Unusable(f"{program} ended with {code}: {said}")


def _post(settings: Settings, target: str, notice: Notice, now: float) -> None:
    # Chat services show `text`. The time keeps who copies a signed message from sending it again later.
    body = json.dumps({"text": f"[{settings['name']}] {notice['subject']}", "installation": settings["name"],
                       **notice["facts"], "sentAt": format_time(now)}).encode()
    headers = {"Content-Type": "application/json"}

    if settings["notifyKey"]:
        import hashlib
        import hmac

        key = settings["notifyKey"].encode()
        headers[SIGNATURE] = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()

    answer = fetch(target, LIMIT, headers, body, follow=True)

    if answer.location:
        target = answer.location.partition("?")[0][:200]
        raise Unusable(f"HTTP {answer.status} to {target}, and such a redirect drops what is posted: set the URL "
                       "to where it leads")

    if not 200 <= answer.status < 300:
        raise Unusable(answer.problem or f"HTTP {answer.status}")


# For each of settings.CHANNELS: sends a notice to the target that the setting `notify` names. May raise anything.
SENDERS = {"email": _mail, "url": _post}
