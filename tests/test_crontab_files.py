# SPDX-License-Identifier: LGPL-3.0-or-later
"""Crontabs as people have them: system ones, from Windows, with steps that cron takes, with keys in their commands."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.commandline import Done, call
from tests.installation import Installation
from webscheduler.interchange import crontab, importing, user_column
from webscheduler.schedule.cron import Cron
from webscheduler.store import state
from webscheduler.store.task import DUE

REAL_CRONTAB = shutil.which("crontab") or "crontab"  # looked up before the one that stands in for it in tests
ME = pwd.getpwuid(os.geteuid()).pw_name
SYSTEM = f"""\
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

17 *\t* * *\t{ME}\tcd / && run-parts --report /etc/cron.hourly
25 6\t* * *\t{ME}\ttest -x /usr/sbin/anacron || run-parts /etc/cron.daily
5-55/10 * * * * nobody command -v debian-sa1 > /dev/null && debian-sa1 1 1
30 3 * * 7 www-data [ -x /usr/lib/sweep ] && /usr/lib/sweep
@daily mail /usr/lib/sort-mail
"""


def come(installation: Installation, text: str | bytes, *words: str) -> Done:
    file = installation.home.parent / "crontab"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return call(installation.home, "import", "crontab", str(file), *words)


def commands(installation: Installation) -> dict[str, str]:
    """The shell command of each task."""
    return {name: row["argv"][-1] for name, row in state.read_strictly(str(installation.home)).items() if name != DUE}


def test_a_system_crontab_is_recognised_and_its_users_are_mapped(installation: Installation) -> None:
    """Lines of this account lose the column; those of others are left out, by number and name."""
    done = come(installation, SYSTEM)
    assert commands(installation) == {"run-parts": "cd / && run-parts --report /etc/cron.hourly",
                                      "anacron": "test -x /usr/sbin/anacron || run-parts /etc/cron.daily"}
    assert "this is a system crontab, whose lines name a user before the command" in done.err

    for number, user in ((6, "nobody"), (7, "www-data"), (8, "mail")):
        assert f"line {number} is left out: it is for the user {user}, and tasks run as {ME}" in done.err


def test_lines_of_other_users_come_in_if_that_is_asked_for(installation: Installation) -> None:
    come(installation, SYSTEM, "--any-user")
    assert {"/usr/lib/sort-mail", "[ -x /usr/lib/sweep ] && /usr/lib/sweep"} < set(commands(installation).values())
    assert len(commands(installation)) == 5


@pytest.mark.parametrize("lines", [
    "0 5 * * * mail -s report me < /tmp/report\n",
    "0 5 * * * mail bob\n1 5 * * * mail alice\n",
    "0 5 * * * man hier\n",
    f"0 5 * * * /usr/bin/backup\n1 5 * * * {ME} /usr/bin/x\n",
    "0 5 * * * git pull\n",
    "0 5 * * * nobody-knows /usr/bin/x\n",
])  # fmt: skip
def test_a_program_named_like_a_user_stays_a_program(installation: Installation, lines: str) -> None:
    """An account's own crontab has no such column, and nothing of its commands is lost."""
    done = come(installation, lines)
    assert "system crontab, whose" not in done.err
    assert list(commands(installation).values()) == [line.split(None, 5)[5] for line in lines.splitlines()]


def test_a_line_that_begins_with_a_user_among_others_is_asked_about(installation: Installation) -> None:
    done = come(installation, "0 5 * * * /usr/bin/backup\n1 5 * * * www-data /usr/bin/x\n")
    assert "line 2 runs 'www-data', which is a user and no program: is this a line of a system crontab?" in done.err


@pytest.mark.parametrize(("place", "system"), [("/etc/crontab", True), ("/etc/cron.d/php", True), ("", False),
                                               ("/home/me/crontab", False)])
def test_the_place_of_a_file_tells(place: str, system: bool) -> None:
    """There the first word is a user, even one that nobody knows here."""
    jobs, _ = crontab.parse("0 5 * * * deploy-x17 make\n")
    divided = user_column.divide(jobs, place)
    assert (divided is not None) == system

    if divided:
        (user, job), = divided
        assert (user, job.command) == ("deploy-x17", "make")


def test_a_user_without_a_command_is_left_out(installation: Installation) -> None:
    jobs, _ = crontab.parse("0 5 * * * root\n")
    assert user_column.divide(jobs, "/etc/crontab") == [("root", jobs[0]._replace(command=""))]
    arrival = importing.of_crontab("0 5 * * * root\n", {}, "UTC", place="/etc/crontab")
    assert not arrival.tasks and "line 1 is left out: it has a user and no command" in arrival.said


@pytest.mark.parametrize("encode", [
    lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.encode("utf-16"),
    lambda text: b"\xfe\xff" + text.replace("\n", "\r\n").encode("utf-16-be"),
])  # fmt: skip
def test_files_of_windows_are_read_as_meant(installation: Installation, encode: object) -> None:
    assert callable(encode)
    done = come(installation, encode("A=b\n0 5 * * * echo é\n"))
    assert (done.status, commands(installation)) == (0, {"echo": "echo é"})
    assert installation.row("echo")["environment"] == {"A": "b"}


def test_a_single_carriage_return_is_refused(installation: Installation) -> None:
    """cron gives it to the command, which nobody means."""
    done = come(installation, "0 5 * * * one\r\n0 6 * * * two\n")
    assert commands(installation) == {"two": "two"}
    assert "line 1 is left out: it has a carriage return" in done.err


def test_the_same_line_under_another_environment_is_another_job(installation: Installation) -> None:
    text = "A=1\n0 5 * * * run\nA=2\n0 5 * * * run\n"
    come(installation, text)
    assert [installation.row(name)["environment"] for name in ("run", "run-2")] == [{"A": "1"}, {"A": "2"}]
    done = come(installation, text)
    assert "line 2 is a task already" in done.err and "line 4 is a task already" in done.err


@pytest.mark.parametrize("command", [
    'curl "https://example.org/cron.php?key=4f9d2c7be1"', "wget -qO- 'https://me:pass1word@example.org'",
    "/srv/3f2a9c1b7d6e4f5a8b9c0d1e2f3a4b5c/run", "php cron.php sk_live_51Hx09qAbCdEfGhIj",
    "curl https://example.org/cron/0d8f1c2b3a4e5f60718293a4b5c6d7e8", "run 550e8400-e29b-41d4-a716-446655440000",
])  # fmt: skip
def test_no_name_has_what_looks_like_a_key(command: str) -> None:
    """Names are shown in lists, mails and exports."""
    name, = importing.of_crontab(f"@daily {command}\n", {}, "UTC").tasks
    secrets = ("4f9d", "key", "pass1word", "3f2a", "sk_live", "0d8f", "550e")
    assert not any(secret in name for secret in secrets), name


@pytest.mark.parametrize(("theirs", "ours"), [
    ("*/123 * * * *", "*/60 * * * *"), ("0 */48 * * *", "0 */24 * * *"), ("0 0 */99 * *", "0 0 */31 * *"),
    ("0 0 1 */13 *", "0 0 1 */12 *"), ("0 0 * * */9", "0 0 * * */7"), ("5-10/99 * * * *", "5-10/60 * * * *"),
    ("0,*/70 3 * * *", "0,*/60 3 * * *"), ("*/15 * * * *", "*/15 * * * *"), ("@daily", "@daily"),
])  # fmt: skip
def test_a_step_beyond_its_field_comes_in_as_what_cron_does(
    installation: Installation, theirs: str, ours: str
) -> None:
    """cron takes it and starts at the first value alone; an import says so."""
    done = come(installation, f"{theirs} run\n")
    assert installation.row("run")["expression"] == ours
    assert (f"line 1: a step in {theirs!r} goes beyond its field" in done.err) == (theirs != ours)
    assert f"run: {ours}\n" in done.out


def values(field: str, low: int, high: int) -> set[int]:
    """What a field with a step stands for in cron's entry.c: from the first value on, while within the range."""
    found: set[int] = set()

    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        start, end = (low, high) if span == "*" else (int(first), int(last or first))
        found.update(range(start, end + 1, int(step or 1)))

    return found


@pytest.mark.parametrize("step", [61, 90, 123, 999])
@pytest.mark.parametrize("span", ["*", "7-40", "0-59"])
def test_a_shortened_step_means_the_same_minutes(step: int, span: str) -> None:
    expression = crontab.with_cron_steps(f"{span}/{step} * * * *")
    assert set(Cron(expression).minutes) == values(f"{span}/{step}", 0, 59)


def test_debians_crontab_takes_such_steps(tmp_path: Path) -> None:
    """The program that reads crontabs agrees that they are right."""
    file = tmp_path / "crontab"
    file.write_text("*/123 * * * * true\n0 */48 * * * true\n")

    if not os.path.exists(REAL_CRONTAB):
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)("crontab is missing")

    checked = subprocess.run([REAL_CRONTAB, "-n", str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(("line", "says"), [
    ("0 0/5 * * * x", "write 0-23/5 if you mean that"), ("1 2 * * 7-3 x", "'7-3' runs backwards"),
    ("1 2 30 2 * x", "never comes: no such day exists"), ("1 2 31 4,6 * x", "never comes"),
    ("*/0 * * * * x", "needs a step of 1 to 60"),
])  # fmt: skip
def test_what_cannot_come_in_keeps_its_remedy(installation: Installation, line: str, says: str) -> None:
    done = come(installation, line + "\n")
    assert "line 1 is left out" in done.err and says in done.err
    assert commands(installation) == {}


def test_cron_tz_is_named_as_cronies(installation: Installation) -> None:
    """Debian's cron takes it for a variable of the command, so the times were others there."""
    done = come(installation, "CRON_TZ=Asia/Tokyo\n0 5 * * * run\n")
    assert "CRON_TZ is taken as cronie means it" in done.err
    assert "cronie" not in come(installation, "0 6 * * * run\n").err
