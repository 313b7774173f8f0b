# SPDX-License-Identifier: LGPL-3.0-or-later
"""`rotate-secret --keep-old`: old URLs stay valid for a while, and never longer, whatever becomes of the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from tests import python_path
from tests.commandline import call
from tests.installation import DOORS, Installation, asking, until
from webscheduler import signing, trigger
from webscheduler.http import Request
from webscheduler.runs.indexing import refresh
from webscheduler.store import state
from webscheduler.store.index import open_index

HOUR = 3600


@pytest.fixture
def task(installation: Installation) -> Iterator[Installation]:
    installation.add()
    installation.add("other")
    yield installation
    installation.idle()


def answered(installation: Installation, environ: dict[str, str], seconds: float = 0, door: str = "wsgi") -> bool:
    """Whether the request is accepted if it comes so many seconds from now."""
    found = trigger.answer(Request(dict(environ)), str(installation.home), door == "cgi", lambda: time.time() + seconds,
                           print)
    installation.idle()
    return found.body != trigger.REFUSED and b'"accepted": true' in found.body


def rotate(task: Installation, *options: str) -> dict[str, str]:
    """Give the task a new secret; a request that was signed before."""
    old = task.signed()
    assert call(task.home, "rotate-secret", "task", *options).status == 0
    return old


def old_secrets(task: Installation) -> list[object]:
    return [row.get("oldSecret") for row in state.read_strictly(str(task.home)).values()]


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("door", DOORS)
def test_both_urls_work_until_the_end(task: Installation, door: str, indexed: bool) -> None:
    """Old and new URL, for running and for the status, at both doors and with and without the index; of the old ones
    neither does before the rotation or after the end, by the clock."""
    old_status = task.asking_status()
    old = rotate(task, "--keep-old", "24h")

    for environ in (old, task.signed()):
        if indexed:
            assert until(lambda: refresh(str(task.home))) and open_index(str(task.home))
        else:
            (task.home / "index").unlink(missing_ok=True)

        answer = task.call(door, environ)
        assert answer.document["accepted"] is True, answer
        task.idle()

    assert task.call(door, old_status).status == task.call(door, task.asking_status()).status == 200
    assert not answered(task, old, -HOUR, door)
    assert answered(task, old, 23.9 * HOUR, door)


def test_without_the_option_old_urls_are_dead_at_once(task: Installation) -> None:
    """Also those that an earlier rotation kept."""
    older = rotate(task, "--keep-old", "1h")
    old = rotate(task)
    assert old_secrets(task) == [None] * 3
    assert not answered(task, older) and not answered(task, old) and answered(task, task.signed())


def test_only_the_secret_before_the_present_one_is_kept(task: Installation) -> None:
    older, old = rotate(task, "--keep-old", "1h"), rotate(task, "--keep-old", "1h")
    assert not answered(task, older) and answered(task, old)


def test_a_timed_signature_of_the_old_secret_is_good_once(task: Installation) -> None:
    """Each secret has marks of its own, so neither is replayed."""
    task.edit(signature="timed")
    old = task.signed(ts=int(time.time()))
    assert call(task.home, "rotate-secret", "task", "--keep-old", "1h").status == 0
    new = task.signed(ts=int(time.time()))
    assert answered(task, old) and not answered(task, old)
    assert answered(task, new) and not answered(task, new) and not answered(task, old)


def test_a_task_that_no_line_of_the_index_describes(task: Installation) -> None:
    """One with a list of addresses is read from state.json, and keeps who has signed."""
    task.edit(signature="timed", ipAllowlist=["127.0.0.0/8", "::1"])
    old = {**task.signed(ts=int(time.time())), "REMOTE_ADDR": "127.0.0.1"}
    assert call(task.home, "rotate-secret", "task", "--keep-old", "1h").status == 0
    assert answered(task, old) and not answered(task, old)


def a_trigger(task: Installation, old: dict[str, str], seconds: float) -> None:
    assert not answered(task, old, seconds)


def a_monitor(task: Installation, old: dict[str, str], seconds: float) -> None:
    row = task.row()
    signature = signing.sign(row["oldSecret"]["secret"], signing.status_message(row["slug"]))
    status = asking(f"/status/{row['slug']}", f"sig={signature}")
    assert trigger.answer(Request(status), str(task.home), False, lambda: time.time() + seconds, print).status == 404


def a_tick(task: Installation, old: dict[str, str], seconds: float) -> None:
    assert answered(task, task.signed("@due"), seconds)


def a_run(task: Installation, old: dict[str, str], seconds: float) -> None:
    assert answered(task, task.signed(), seconds)


@pytest.mark.parametrize("seen_by", [a_trigger, a_monitor, a_tick, a_run])
def test_no_clock_revives_it_once_its_end_was_seen(
    task: Installation, seen_by: Callable[[Installation, dict[str, str], float], None]
) -> None:
    """Whoever sees the end past takes the secret out of state.json, and its copy."""
    old = rotate(task, "--keep-old", "2s")
    begun = time.time()
    assert until(lambda: time.time() > begun + 2.1)
    seen_by(task, old, 0)
    assert old_secrets(task) == [None] * 3
    assert "oldSecret\": {" not in (task.home / "state.json.bak").read_text()
    assert not answered(task, old, -2)
    assert answered(task, task.signed())


def test_the_refusal_says_why(task: Installation) -> None:
    old = rotate(task, "--keep-old", "1h")
    assert not answered(task, old, -HOUR)
    assert "secret before the present one" in (task.home / "refused.json").read_text()


def test_it_can_be_ended_before(task: Installation) -> None:
    """--end-old makes no new secret; twice is once."""
    old, new = rotate(task, "--keep-old", "1h"), task.signed()
    shown = call(task.home, "show", "task", "--json").document
    assert shown["oldSecretUntil"] > shown["createdAt"]
    assert "old URLs" in call(task.home, "show", "task").out

    for _ in range(2):
        assert call(task.home, "rotate-secret", "task", "--end-old", "--json").document["oldSecretUntil"] is None

    assert not answered(task, old) and answered(task, new)


@pytest.mark.parametrize("words", [["--keep-old", "0"], ["--keep-old", "31d"], ["--keep-old", "soon"],
                                   ["--keep-old", "1h", "--end-old"]])
def test_what_cannot_be_is_refused(task: Installation, words: list[str]) -> None:
    before = (task.home / "state.json").read_bytes()
    done = call(task.home, "rotate-secret", "task", *words)
    assert done.status == 2 and done.complaint.startswith(("--keep-old: ", "--end-old: "))
    assert (task.home / "state.json").read_bytes() == before


def test_it_is_shown_nowhere_and_never_travels(task: Installation, tmp_path: Path) -> None:
    """No list, document or export has it, even one with secrets; an import brings none in."""
    rotate(task, "--keep-old", "1h")
    secret = task.row()["oldSecret"]["secret"]

    for words in (["list", "--json"], ["show", "task", "--json"], ["show", "task"], ["export", "json"],
                  ["export", "json", "--with-secrets"], ["status", "--json"]):
        done = call(task.home, *words)
        assert secret not in done.out + done.err

    file = tmp_path / "tasks.json"
    row = {**task.row(), "slug": "0" * 32}
    file.write_text(json.dumps({"came": row}))
    assert call(task.home, "import", "json", str(file)).status == 0
    assert task.row("came")["oldSecret"] is None


def test_what_a_hand_has_written_is_no_old_secret(task: Installation) -> None:
    """A field of another shape gives no access; the task goes on."""
    old = rotate(task, "--keep-old", "1h")

    for broken in ({}, {"secret": "x"}, {"secret": "0" * 64}, {**task.row()["oldSecret"], "until": "soon"},
                   {**task.row()["oldSecret"], "from": "9999-01-01T00:00:00.000+00:00"}):
        task.edit(oldSecret={**broken})
        assert not answered(task, old) and answered(task, task.signed())


def test_a_worker_needs_no_import_for_it_later() -> None:
    """It lives on when the package is replaced."""
    code = "import sys, webscheduler.wsgi; sys.exit('webscheduler.store.old_secret' not in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, **python_path()})
    assert done.returncode == 0
