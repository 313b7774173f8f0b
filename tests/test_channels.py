# SPDX-License-Identifier: LGPL-3.0-or-later
"""How notifications go out: by mail, by a signed POST, as pings; within ten seconds; and which settings they take.

Witnesses: openssl for signatures and certificates, aiosmtpd for mail servers.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import CHECKOUT
from tests.commandline import call, environment
from tests.installation import Installation, until, waits_for
from tests.listeners import PASSWORD, Hook, listening, mail_server, make_certificate
from tests.servers.server import free_port
from webscheduler.errors import BadInput
from webscheduler.runs import channels
from webscheduler.store.fields import HIDDEN
from webscheduler.store.settings import SETTINGS, check_setting, load_settings, parse_setting, save_settings
from webscheduler.vocabulary import ENTRY

# Over TLS from the start aiosmtpd does not see that there is TLS.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
NOTICE: Any = {"id": "", "to": [], "at": "", "subject": "job ended", "facts": {
    "command": "job", "status": "failed", "output": "out", "errorOutput": "\n.\nBcc: you@example.org\né\n",
    "exitCode": None}}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The certificate, which this process and those that it starts trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as made:
        yield made


def send(installation: Installation, channel: str, **settings: Any) -> str:
    """Send the notice; what went wrong."""
    installation.configure(**settings)
    return channels.send(load_settings(str(installation.home)), channel, NOTICE, time.time())


# Mail

def sendmail(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "sendmail"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(channels, "SENDMAIL", (str(program),))


def test_mail_goes_through_sendmail(installation: Installation, tmp_path: Path, monkeypatch: Any) -> None:
    """The message has one recipient and one subject, whatever the output and the name hold."""
    sendmail(tmp_path, f'echo "$@" > {tmp_path}/words; cat > {tmp_path}/mail', monkeypatch)
    assert send(installation, "email", notify={"email": "me@example.org"}, name="my\nBcc: x@example.org") == ""
    head, _, body = (tmp_path / "mail").read_text().partition("\n\n")
    assert (tmp_path / "words").read_text() == "-t -oi\n"
    assert "To: me@example.org\n" in head
    assert "Subject: [my\\nBcc: x@example.org] job ended\n" in head
    assert "\nBcc" not in head
    assert "Bcc: you@example.org\n" in body
    sendmail(tmp_path, "echo 'no such user' >&2; exit 67", monkeypatch)
    assert send(installation, "email").endswith("sendmail ended with 67: no such user")
    monkeypatch.setattr(channels, "SENDMAIL", ())
    assert send(installation, "email") == "this host has no sendmail: use a mail server (setting `smtp`) or a webhook"


@pytest.mark.parametrize(("scheme", "sender"), [("smtps", ""), ("smtp", ""), ("smtp", "other@example.org")])
def test_mail_goes_through_a_mail_server(
    installation: Installation, trusted: Path, scheme: str, sender: str
) -> None:
    """With TLS from the start or STARTTLS, and a password as it is; the message is whole."""
    with mail_server(trusted, scheme == "smtps") as (place, took):
        smtp = f"{scheme}://{place}" + (f"?from={sender}" if sender else "")
        assert send(installation, "email", notify={"email": "A <a@example.org>, b@example.org"}, smtp=smtp) == ""

    (message,) = took
    sender = sender or "me@example.org"
    assert message["X-Envelope"] == f"{sender} a@example.org,b@example.org"
    assert (message["From"], message["Subject"]) == (sender, "[webscheduler] job ended")
    assert message["Message-ID"].endswith("@example.org>")
    assert message["Date"].datetime.timestamp() == pytest.approx(time.time(), abs=60)
    content = message.get_content().replace("\r\n", "\n")
    assert "status: failed\n" in content
    assert "exitCode" not in content
    assert content.endswith("Bcc: you@example.org\né\n")


def test_a_password_is_sent_to_nobody_else(installation: Installation, trusted: Path, monkeypatch: Any) -> None:
    """Not without TLS, not to a server whose certificate is not trusted; and no message shows it."""
    with mail_server(None, False) as (place, took):
        assert send(installation, "email", notify={"email": "a@example.org"}, smtp=f"smtp://{place}") == (
            "STARTTLS extension not supported by server.")

    for scheme in ("smtp", "smtps"):
        with mail_server(trusted, scheme == "smtps") as (place, _):
            other = f"{scheme}://{place.replace('127.0.0.1', 'localhost')}"
            assert send(installation, "email", smtp=other).startswith("[SSL: CERTIFICATE_VERIFY_FAILED]")
            wrong = send(installation, "email", smtp=f"{scheme}://{place.replace(PASSWORD, 'invalid')}")
            assert wrong == f"535 5.7.8 Authentication credentials {HIDDEN}"
            monkeypatch.delenv("SSL_CERT_FILE")
            said = send(installation, "email", smtp=f"{scheme}://{place}")
            assert said.startswith("[SSL: CERTIFICATE_VERIFY_FAILED]")
            monkeypatch.setenv("SSL_CERT_FILE", str(trusted))

    assert took == []


# A webhook

def test_a_signed_post(installation: Installation, trusted: Path, tmp_path: Path) -> None:
    """openssl computes the same over what was posted; the time is signed too. The certificate is checked. The
    reference names each key."""
    key = "k" * 15 + "$"

    with listening(trusted) as hook:
        assert send(installation, "url", notify={"url": hook.url}, notifyKey=key) == ""
        (method, path, headers, body), = hook.calls
        document = json.loads(body)
        assert send(installation, "url", notify={"url": hook.url.replace("127.0.0.1", "localhost")}).startswith(
            "[SSL: CERTIFICATE_VERIFY_FAILED]")

    (tmp_path / "body.json").write_bytes(body)
    openssl = subprocess.run(["openssl", "dgst", "-sha256", "-hmac", key, tmp_path / "body.json"], capture_output=True,
                             text=True, check=True).stdout.split()[-1]
    assert (method, path, headers["Content-Type"]) == ("POST", "/hook", "application/json")
    assert headers["X-Webscheduler-Signature"] == f"sha256={openssl}"
    page = (CHECKOUT / "docs" / "reference" / "notifications.md").read_text()
    assert not [key for key in {*document, "late"} - set(ENTRY) if f"\n| `{key}` |" not in page]
    assert document.pop("sentAt").startswith("20")
    assert document == {"text": "[webscheduler] job ended", "installation": "webscheduler", **NOTICE["facts"]}


def test_without_a_key_nothing_is_signed(installation: Installation, hook: Hook) -> None:
    assert send(installation, "url", notify={"url": hook.url}) == ""
    assert "X-Webscheduler-Signature" not in hook.calls[0][2]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_a_webhook(installation: Installation, hook: Hook, status: int) -> None:
    """It is followed as the same POST, or it is an error that names where it leads; never a GET that counts as sent."""
    target = hook.url.replace("/hook", "/there")
    hook.leads["/hook"] = (status, target + "?token=x")
    problem = send(installation, "url", notify={"url": hook.url})

    if status in (307, 308):
        assert (problem, hook.paths, hook.documents[0]["command"]) == ("", ["/there?token=x"], "job")
    else:
        assert problem == (f"HTTP {status} to {target}, and such a redirect drops what is posted: set the URL to where "
                           "it leads")
        assert hook.calls == []


def test_any_other_answer_than_2xx_is_an_error(installation: Installation, hook: Hook) -> None:
    for hook.status in (400, 404, 500):
        assert send(installation, "url", notify={"url": hook.url}) == f"HTTP {hook.status}"


# Ten seconds

def test_a_mail_program_sees_no_request(installation: Installation, tmp_path: Path, monkeypatch: Any) -> None:
    """It may be the account's own, or run what the account's files name (`passwordeval` of msmtp)."""
    monkeypatch.setenv("QUERY_STRING", "sig=secret")
    monkeypatch.setenv("HTTP_COOKIE", "secret")
    sendmail(tmp_path, f"env > {tmp_path}/seen", monkeypatch)
    assert send(installation, "email", notify={"email": "me@example.org"}, environment={"MINE": "1"}) == ""
    seen = (tmp_path / "seen").read_text()
    assert "MINE=1" in seen.split()
    assert "secret" not in seen


@pytest.mark.parametrize("channel", ["sendmail", "a child of sendmail", "a mail server", "a webhook"])
def test_a_send_ends_at_its_time_limit(
    installation: Installation, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channel: str
) -> None:
    """Whatever does not answer, and whoever keeps a pipe open."""
    # A sendmail that ends must have been started and have ended by then.
    monkeypatch.setattr(channels, "LIMIT", 3.0 if channel == "a child of sendmail" else 0.5)
    hook.answers.clear()
    release = tmp_path / "release"
    settings: dict[str, Any] = {"notify": {"email": "me@example.org"}}
    waits = f'while [ ! -e "{release}" ]; do sleep 0.02; done'

    if channel == "a mail server":
        settings["smtp"] = hook.url.replace("http", "smtp").replace("/hook", "")
    elif channel == "a webhook":
        settings = {"notify": {"url": hook.url}}
    else:
        sendmail(tmp_path, waits if channel == "sendmail" else f"({waits}) & exit 0", monkeypatch)

    problem = send(installation, *settings["notify"], **settings)  # nobody has answered by its end, or ever will
    release.touch()
    assert hook.calls == []
    expected = {"a child of sendmail": [""], "a webhook": ["no whole answer within 0.5 s, its time limit"]}
    assert problem in expected.get(channel, ["not done within 0.5 s", "timed out"])


def test_the_time_limit_is_ten_seconds() -> None:
    assert channels.LIMIT == 10.0


# Pings

def test_pings_of_a_task(installation: Installation, hook: Hook) -> None:
    """In their order: it starts, and it succeeded or failed; a failure that is tried again is not told."""
    broken = installation.home.parent / "broken"
    installation.add("job", ["test", "!", "-e", str(broken)], pingUrl=hook.url)

    for fails in (False, True):
        broken.touch() if fails else None
        call(installation.home, "run", "job")

    assert hook.paths == ["/hook/start", "/hook", "/hook/start", "/hook/fail"]
    assert {method for method, _, _, _ in hook.calls} == {"GET"}
    del hook.calls[:]
    installation.edit("job", retries=1, pingUrl=f"{hook.url}/?create=1")
    call(installation.home, "run", "job")
    assert hook.paths == ["/hook/start?create=1"]
    installation.edit("job", retries=0)
    installation.edit("@due", pingUrl=hook.url)
    del hook.calls[:]
    call(installation.home, "run-due")
    assert hook.paths == ["/hook/start", "/hook"]
    assert not (installation.home / "notices.json").exists()


def test_a_ping_delays_no_run(installation: Installation, hook: Hook) -> None:
    """The command runs while the ping of its start waits for an answer; the ping of its end comes after that."""
    hook.answers.clear()
    release = installation.home / "release"
    installation.add("job", waits_for(release), pingUrl=hook.url)
    assert installation.trigger(name="job").document["accepted"]
    installation.command_runs()
    release.touch()
    installation.idle()
    assert hook.calls == []
    hook.answers.set()
    until(lambda: len(hook.calls) == 2, "both pings")
    assert hook.paths == ["/hook/start", "/hook"]


def test_a_ping_that_does_not_arrive_is_said(installation: Installation, hook: Hook) -> None:
    """As a channel is; it is not kept, since a late one would tell of the wrong moment."""
    installation.add("job", pingUrl=f"http://127.0.0.1:{free_port()}/x")
    assert call(installation.home, "run", "job").status == 0
    assert "nothing has arrived by ping of job since " in call(installation.home, "status").out
    installation.edit("job", pingUrl=hook.url)
    call(installation.home, "run", "job")
    assert hook.paths == ["/hook/start", "/hook"]
    assert "nothing has arrived" not in call(installation.home, "status").out


# Tests by hand

def test_notify_test(installation: Installation, trusted: Path, hook: Hook) -> None:
    """Each channel and each ping is tried, whatever happens to the others; the ping says how the task is. What was
    kept goes out with it."""
    assert call(installation.home, "notify", "test").complaint.startswith("there is nobody to notify: `webscheduler ")
    installation.add("good", pingUrl=hook.url)
    installation.add("bad", ["false"], pingUrl=hook.url.replace("hook", "bad"))
    installation.configure(notify={"url": "http://127.0.0.1:9/"})
    call(installation.home, "run", "bad")
    del hook.calls[:]

    with mail_server(trusted, True) as (place, took):
        installation.configure(notify={"url": hook.url, "email": "a@example.org"}, smtp=f"smtps://{place}")
        done = call(installation.home, "notify", "test", env=environment(
            installation.home, SSL_CERT_FILE=str(trusted)))
        assert (done.status, done.err) == (0, "")
        assert sorted(done.out.splitlines()) == ["email: sent", "ping of bad: sent", "ping of good: sent", "url: sent"]
        assert "a test from the command line" in took[0]["Subject"]

    assert sorted(hook.paths) == ["/bad/fail", "/hook", "/hook", "/hook"]
    assert hook.texts == ["a test from the command line", "bad ended as failed"]
    done = call(installation.home, "notify", "test")
    assert done.status == 1
    assert done.err.startswith("webscheduler: email: [Errno 111] Connection refused\n")
    assert "url: sent" in done.out


# Settings

def test_whom_to_notify_is_set_by_options(installation: Installation) -> None:
    """Each channel alone; the setting is the same, and what another version has put there stays."""
    home = installation.home
    assert call(home, "notify").out == "there is nobody to notify: `webscheduler notify --email me@example.org`\n"
    done = call(home, "notify", "--email", "me@example.org")
    assert (done.status, done.err) == (0, "")
    assert done.out == "email: me@example.org\n`webscheduler notify test` sends a test\n"
    installation.configure(notify={"email": "me@example.org", "pigeon": "x"})
    assert call(home, "notify", "--url", "https://example.org/hook").status == 0
    assert call(home, "config", "get", "notify", "--json").document == {
        "email": "me@example.org", "pigeon": "x", "url": "https://example.org/hook"}
    assert call(home, "notify", "--email", "", "--url", "").out.splitlines()[0] == "pigeon: x"
    assert call(home, "notify", "--email", "foo").complaint.startswith("--email: must be an address")
    assert call(home, "notify", "--url", "ftp://x/").complaint.startswith("--url: ")
    assert call(home, "config", "get", "notify", "--json").document == {"pigeon": "x"}
    assert "webscheduler notify --email me@example.org" in " ".join(call(home, "notify", "--help").out.split())


def test_options_and_a_test_in_one(installation: Installation, hook: Hook) -> None:
    done = call(installation.home, "notify", "test", "--url", hook.url)
    assert (done.status, done.out) == (0, "url: sent\n")


WRONG = [("name", "a\nb"), ("name", "a\u2028b"), ("name", "a\x1bb"), *(("notify", {"email": text}) for text in (
    "foo@", "@example.org", "foo", "a b@example.org", "a@b@c", "a@example.org\nBcc: b@example.org", "é@example.org",
    "a@bücher.example", "a@.example", "a@example.org; b@example.org", "<a@example.org")), *(
    ("notify", {"url": text}) for text in ("http://", "https:///x", "http://a b/", "http://x:y/", "ftp://x/")), *(
    ("smtp", text) for text in ("mail.example.org", "http://x", "smtp://", "smtp://h:x", "smtp://u:é@h", "smtps://h/",
                                "smtp://u:***@h")), *(
    ("notifyKey", text) for text in ("short", "x" * 15, "a b" * 9, "***"))]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_would_send_nothing_is_refused(installation: Installation, name: str, value: Any) -> None:
    """On the command line, in the panel and from a backup, which check alike."""
    with pytest.raises(BadInput, match=f"^{name}: |^email: |^url: "):
        check_setting(name, value)

    with pytest.raises(BadInput):
        save_settings(str(installation.home), {name: value})

    with pytest.raises(BadInput):
        parse_setting(name, value if isinstance(value, str) else json.dumps(value))


@pytest.mark.parametrize(("name", "value"), [
    ("name", "Läden, 1"), ("notify", {"email": "root@localhost, Me <me+x@example.org>"}),
    ("notify", {"url": "https://me:x@bücher.example:8080/é?x"}), ("smtp", "smtp://h"),
    ("smtp", "smtps://u:p@[::1]:25"),
    ("smtp", f"smtps://me@example.org:{PASSWORD}@h:1?from=a@b"), ("notifyKey", "x" * 16)])
def test_what_can_be_sent_is_taken(installation: Installation, name: str, value: Any) -> None:
    save_settings(str(installation.home), {name: value})
    assert load_settings(str(installation.home))[name] == value


@pytest.mark.parametrize("value", [{"name": "a\nb"}, {"notify": {"email": "foo@"}}, {"notify": {"url": "http://"}}])
def test_what_is_stored_already_loads(installation: Installation, value: dict[str, Any]) -> None:
    """And doctor says that nothing is sent."""
    installation.configure(**value)
    assert {name: load_settings(str(installation.home))[name] for name in value} == value
    assert call(installation.home, "config", "set", "defaultTimeout", "9").status == 0
    assert f"webscheduler config set {next(iter(value))} VALUE" in call(installation.home, "doctor", "--offline").out


def test_a_ping_url_is_checked_like_a_webhook(installation: Installation) -> None:
    for url in ("http://", "ftp://x/", "hc-ping.com/x"):
        done = call(installation.home, "add", "job", "--ping-url", url, "--", "true")
        assert done.status == 2
        assert any(said in done.complaint for said in ("must start with http", "this is no URL"))

    assert call(installation.home, "add", "job", "--ping-url", "https://hc-ping.com/x", "--", "true").status == 0
    assert installation.row("job")["pingUrl"] == "https://hc-ping.com/x"


def test_secrets_are_not_shown(installation: Installation) -> None:
    """In lists and by what is set; `config get` alone shows one."""
    smtp, key = f"smtps://me@example.org:{PASSWORD}@h?from=a@b", "k" * 20
    home = installation.home
    hidden = f"smtps://me@example.org:{HIDDEN}@h?from=a@b"
    assert call(home, "config", "set", "smtp", smtp).out == f"smtp is {hidden}\n"
    assert call(home, "config", "set", "notifyKey", key).out == f"notifyKey is {HIDDEN}\n"
    listed = call(home, "config", "list", "--json")
    assert (listed.document["smtp"], listed.document["notifyKey"]) == (hidden, HIDDEN)
    shown = listed.out + call(home, "config").out + call(home, "doctor", "--offline").out + call(home, "status").out
    assert PASSWORD not in shown
    assert key not in shown
    assert call(home, "config", "get", "smtp").out == f"{smtp}\n"
    assert call(home, "config", "get", "notifyKey", "--json").document == key
    assert [name for name, row in SETTINGS.items() if row.kind in ("smtp", "key")] == ["smtp", "notifyKey"]
