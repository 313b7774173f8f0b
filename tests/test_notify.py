# SPDX-License-Identifier: LGPL-3.0-or-later
"""Notifications: told once when a task begins to fail and once when it has recovered, by webhook and by mail."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from webscheduler import editing
from webscheduler.errors import BadInput, Unusable
from webscheduler.host.home import create_home
from webscheduler.runs import notifications
from webscheduler.runs.supervisor import run_by_hand
from webscheduler.store import locks, state
from webscheduler.store.settings import CHANNELS, load_settings, save_settings


@pytest.fixture
def hook():
    """A webhook on loopback; its address and the documents that it got."""
    got = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", got
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path):
    """An installation with one task that fails while a file named `broken` is there."""
    home = str(tmp_path / "home")
    create_home(home, time.time())
    editing.create(load_settings(home), "job", {"argv": ["test", "!", "-e", str(tmp_path / "broken")]}, time.time())
    return home


def test_told_once_when_it_fails_and_once_when_it_is_well(home, tmp_path, hook):
    """Five runs, of which the second to fourth fail, make two notifications."""
    url, got = hook
    save_settings(home, {"notify": {"url": url}})

    for broken in (False, True, True, True, False):
        (tmp_path / "broken").touch() if broken else (tmp_path / "broken").unlink(missing_ok=True)
        run_by_hand(home, "job", "cli", time.time)

    assert [document["status"] for document in got] == ["failed", "success"]
    assert got[0]["text"] == "[webscheduler] job ended as failed"
    assert got[1]["text"] == "[webscheduler] job has recovered"


def test_a_failure_with_tries_left_is_not_told(home, tmp_path, hook):
    """Only the last try of a slot tells."""
    url, got = hook
    save_settings(home, {"notify": {"url": url}})
    editing.edit(load_settings(home), "job", {"retries": 1}, time.time())
    (tmp_path / "broken").touch()
    run_by_hand(home, "job", "cli", time.time)
    assert got == []


def test_a_webhook_that_is_gone_disturbs_no_run(home, tmp_path):
    """The run is recorded whether or not anybody could be told; a test message says what is wrong."""
    save_settings(home, {"notify": {"url": "http://127.0.0.1:9/"}})
    (tmp_path / "broken").touch()
    entry = run_by_hand(home, "job", "cli", time.time)
    assert entry["status"] == "failed"

    with pytest.raises(Unusable, match=r"^notification not sent: url: .*refused"):
        notifications.send(load_settings(home), "a test", {})


def test_mail_goes_through_sendmail(home, tmp_path, monkeypatch):
    """The message has one recipient and one subject, whatever the output holds."""
    program = tmp_path / "sendmail"
    program.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/words\ncat > {tmp_path}/mail\n")
    program.chmod(0o700)
    monkeypatch.setattr(notifications, "SENDMAIL", (str(program),))
    save_settings(home, {"notify": {"email": "me@example.org"}})
    entry = {"status": "failed", "errorOutput": "\n.\nBcc: you@example.org\n"}
    notifications.send(load_settings(home), "job ended", entry)
    mail = (tmp_path / "mail").read_text()
    head, _, body = mail.partition("\n\n")
    assert (tmp_path / "words").read_text() == "-t -oi\n"
    assert "To: me@example.org" in head
    assert "Subject: [webscheduler] job ended" in head
    assert "Bcc" not in head
    assert "Bcc: you@example.org" in body


@pytest.mark.parametrize("value", [[], {"mail": "x@y"}, {"email": "x"}, {"email": "a@b\nBcc: c@d"}, {"url": "file:///x"},
                                   {"url": 1}, {"email": None}])
def test_settings_that_cannot_be(home, value):
    """What is no address and no web address is refused where it is entered."""
    with pytest.raises(BadInput, match=r"^notify: "):
        save_settings(home, {"notify": value})


def test_a_task_with_notify_false_is_never_told_of(home, tmp_path, hook):
    """Neither its failure, nor that it has recovered, nor that it comes late; the same tick tells of another."""
    url, got = hook
    save_settings(home, {"notify": {"url": url}})
    settings, long_ago = load_settings(home), "2020-01-01T00:00:00+00:00"

    for name, told in (("quiet", False), ("heard", True)):
        argv = ["test", "!", "-e", str(tmp_path / "broken")]
        editing.create(settings, name, {"argv": argv, "notify": told, "expression": "0 0 1 1 *"}, time.time())

    for broken in (True, False):
        (tmp_path / "broken").touch() if broken else (tmp_path / "broken").unlink()
        assert [run_by_hand(home, name, "cli", time.time)["status"] for name in ("quiet", "heard")] == [
            "failed" if broken else "success"] * 2

    assert [document["text"] for document in got] == ["[webscheduler] heard ended as failed",
                                                      "[webscheduler] heard has recovered"]

    def age(tasks):
        for name in ("quiet", "heard"):
            tasks[name].update(createdAt=long_ago, scheduledSince=long_ago, lastRunAt=long_ago)

    del got[:]
    state.update(home, age)

    for name in ("quiet", "heard"):
        with locks.Gate(home, name) as gate:
            gate.last_start = 0.0
            gate.save()

    entry = run_by_hand(home, "@due", "cli", time.time)
    assert sorted(entry["started"]) == ["heard", "quiet"]
    assert [(document["text"], document["late"]) for document in got] == [
        ("[webscheduler] late tasks: 1, the first is heard", "heard")]


def test_every_channel_has_a_sender():
    """Who adds a channel to the settings cannot forget to send to it."""
    assert set(notifications.SENDERS) == set(CHANNELS)
