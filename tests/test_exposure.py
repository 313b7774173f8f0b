# SPDX-License-Identifier: LGPL-3.0-or-later
"""What `doctor` and the panel's Diagnostics warn of: what others could read, change or start here."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admin.client import Browser, populate
from tests.commandline import call, environment
from tests.installation import SIMPLE, Installation, until
from tests.servers import as_user, give, python
from webscheduler.host import doctor
from webscheduler.host.findings import OK, WARNING, Finding
from webscheduler.store import keys, state
from webscheduler.store.settings import load_settings

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to give files away")


def warnings(installation: Installation) -> list[str]:
    """Those of Diagnostics, which `doctor` shows, too."""
    home = str(installation.home)
    settings = load_settings(home)
    found = doctor.of_tasks(settings, state.read(home), time.time())
    everywhere = {each.text() for each in doctor.examine(home, time.time())}
    assert {each.text() for each in found} <= everywhere
    return [said(each) for each in found if each.state != OK]


def said(finding: Finding) -> str:
    assert finding.state == WARNING
    return f"{finding.about}: {finding.text()}"


@pytest.fixture
def reachable() -> Iterator[Installation]:
    """An installation that everybody could enter, were it not for the mode of its home."""
    with tempfile.TemporaryDirectory(prefix="ws-") as folder:
        os.chmod(folder, 0o755)
        yield Installation(Path(folder, "home"))


def test_nothing_to_warn_of(installation: Installation, reachable: Installation) -> None:
    assert warnings(installation) == warnings(reachable) == []


@pytest.mark.parametrize(("mode", "who"), [
    (0o755, "all accounts of this machine"), (0o701, "all accounts of this machine"),
    (0o750, "the accounts of the group"), (0o710, "the accounts of the group")])  # fmt: skip
def test_other_accounts_that_can_read_the_home(reachable: Installation, mode: int, who: str) -> None:
    """Those that its mode lets in, where the directories above do."""
    reachable.home.chmod(mode)
    (line,) = warnings(reachable)
    assert line.startswith(f"home: {who}")
    assert line.endswith(f"can read or enter it: `chmod 700 {reachable.home}`")
    reachable.home.parent.chmod(0o700)
    assert warnings(reachable) == []


@pytest.mark.parametrize(("mode", "warned"), [(0o775, True), (0o757, True), (0o1777, False), (0o755, False)])
def test_a_parent_that_others_can_write(installation: Installation, mode: int, warned: bool) -> None:
    """Wherever it is above the home's real place, also if that is named by a link: they could put another home there.
    With the sticky bit they cannot."""
    above, link = installation.home.parent / "above", installation.home.parent / "link"
    (above / "b").mkdir(parents=True)
    installation.home.rename(above / "b" / "home")
    link.symlink_to(above / "b" / "home")
    above.chmod(mode)

    for installation.home in (above / "b" / "home", link):
        line = (f"home: {above}, above it, can be changed by others, who could put another home in its place: "
                f"`chmod go-w {above}`")
        assert warnings(installation) == [line] * warned


def test_a_link_to_the_home_that_others_can_change(installation: Installation) -> None:
    """Who can replace the link, or one that it leads to, puts another home in its place, too."""
    (shared := installation.home.parent / "shared").mkdir()
    (shared / "link").symlink_to(installation.home)
    (first := installation.home.parent / "first").symlink_to("shared/link")
    shared.chmod(0o777)

    for installation.home in (shared / "link", first):
        assert [line.partition(",")[0] for line in warnings(installation)] == [f"home: {shared}"]


@root
def test_a_server_that_runs_as_another_user_than_the_owner(installation: Installation) -> None:
    """The page itself says so, since it is that user who makes it."""
    populate(installation)
    os.chown(installation.home, pwd.getpwnam("nobody").pw_uid, -1)
    browser = Browser(installation)
    browser.sign_in()
    assert "it belongs to nobody, and this runs as root: let the server run the script as nobody" in browser.get(
        "diagnostics")


@root
def test_a_home_of_the_account_that_servers_share(reachable: Installation) -> None:
    """Where scripts of all customers run as one user, theirs can read it."""
    give(reachable.home.parent, "www-data")
    done = subprocess.run([python(), "-m", "webscheduler", "doctor", "--offline"], capture_output=True, text=True,
                          env={"WEBSCHEDULER_HOME": str(reachable.home), "PATH": "/usr/bin:/bin"}, cwd="/",
                          **as_user("www-data"))
    assert "warning home       it belongs to www-data, as whom servers run scripts of all customers" in done.stdout


@pytest.mark.parametrize(("base", "warned"), [
    ("http://example.org/cron", True), ("HTTP://Example.org:8080/x.cgi", True), ("https://example.org/cron", False),
    (None, False), ("http://127.0.0.1:8000/cron", False), ("http://localhost/cron", False), ("http://[::1]/x", False)])
def test_an_address_without_encryption(installation: Installation, base: str | None, warned: bool) -> None:
    """What stays on this machine is read by nobody on the way."""
    installation.configure(baseUrl=base)
    line = (f"url: {base} is without encryption: others on the network can read trigger URLs and passwords; use https "
            "if your host offers it")
    assert warnings(installation) == [line] * warned


@pytest.mark.parametrize(("calls", "fields", "warned"), [
    (3, {}, 3), (2, {}, 2), (1, {}, 0), (3, {"minIntervalSeconds": 60}, 0)])
def test_a_url_that_is_called_more_than_once_a_minute(
    installation: Installation, calls: int, fields: dict[str, int], warned: int
) -> None:
    """As history tells it, whether the calls ran or were skipped; not if a minimum interval is set, and not for runs by
    hand."""
    installation.add(argv=["true"], **{**SIMPLE, **fields})

    for number in range(calls):
        installation.trigger()
        until(lambda: not installation.claims(), "the end of the run")
        until(lambda number=number: fields or len(installation.runs()) > number, "its line")

    assert call(installation.home, "run", "task").status == 0
    line = (f"tasks: task was called at least {warned} times in a minute, and has no minimum interval: `webscheduler "
            "edit task --min-interval-seconds 60`")
    assert warnings(installation) == [line] * bool(warned)


def test_diagnostics_show_them(installation: Installation) -> None:
    """In the visitor's language, before anybody presses a button."""
    installation.configure(baseUrl="http://example.org/cron")
    populate(installation)
    browser = Browser(installation, HTTP_ACCEPT_LANGUAGE="fr")
    browser.sign_in()
    assert "http://example.org/cron est sans chiffrement" in browser.get("diagnostics")


def test_keys_that_travel_without_encryption(installation: Installation) -> None:
    """If there are any, and a setting lets them."""
    home = str(installation.home)
    installation.configure(apiOverHttp=True)
    assert warnings(installation) == []
    keys.add(home, "ci", "viewer", time.time())
    line = ("settings: `apiOverHttp` lets keys of the API travel without encryption: others on the network can read "
            "them; use https if your host offers it")
    assert warnings(installation) == [line]
    installation.configure(apiOverHttp=False)
    assert warnings(installation) == []


@pytest.mark.parametrize("file", ["users.json", "api-keys.json"])
@pytest.mark.parametrize("content", ["{", '{"version": 7}'])
def test_people_and_keys_that_cannot_be_read(installation: Installation, file: str, content: str) -> None:
    """An error that says what to do, before somebody finds the panel or the API answering 503."""
    (installation.home / file).write_text(content)
    (installation.home / file).chmod(0o600)
    done = call(installation.home, "doctor", "--offline")
    (line,) = [line for line in done.out.splitlines() if file in line]
    assert (done.status, line.split()[0]) == (1, "error")
    assert ("update this one" if "version" in content else "mend it, or remove it and") in line


def test_others_cannot_read_what_keys_are_kept_in(installation: Installation) -> None:
    """Nor the lock and the record beside it, whatever the umask; a key is in none of them."""
    program = f"{sys.executable} -m webscheduler api-key"
    script = f"umask 0; {program} add ci --role owner; {program} revoke ci; {program} add cd --role owner"
    made = subprocess.run(["/bin/sh", "-c", script], env=environment(installation.home), capture_output=True, text=True,
                          check=True).stdout.split()

    for name in ("api-keys.json", "api-keys.json.lock", "audit.jsonl"):
        file = installation.home / name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, name
        assert not any(word in file.read_text() for word in made if word.startswith("wsk_")), name
