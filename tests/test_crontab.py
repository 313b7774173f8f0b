# SPDX-License-Identifier: LGPL-3.0-or-later
"""crontab: our own line in a crontab and no other byte, and what the lines of any crontab mean.

The crontab of the account that runs the tests is never read nor written. Most tests have a program of their own that
keeps a file; Debian's real one is a witness where it can have a spool of its own, which only root can give it: a file
system that is mounted for one process is gone with it, however that ended.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.commandline import Done, call, environment
from tests.installation import Installation, until
from tests.test_exported_jobs import served
from webscheduler.errors import BadInput
from webscheduler.interchange import crontab
from webscheduler.schedule.cron import Cron
from webscheduler.store import history_reading

FULL = bool(os.environ.get("WEBSCHEDULER_FULL"))
REQUIRED = bool(os.environ.get("WEBSCHEDULER_REQUIRE_ALL"))
CRONTAB = shutil.which("crontab", path="/usr/bin:/bin")
KEEPS_A_FILE = """\
table={table}
case "$1" in
  -l) [ -e "$table" ] || {{ echo 'no crontab for me' >&2; exit 1; }}; cat "$table" ;;
  -r) rm "$table" ;;
  *) cat > "$table" ;;
esac
"""
STRAY = 54321  # an account that no machine has
# What Debian's has to itself: its spool, and the machine's settings without the machine's jobs.
PRIVATE = ('mount --bind "$0/spool" /var/spool/cron/crontabs && mount --bind "$0/etc" /etc && '
           'mount -t tmpfs none /run && exec "$@"')


class Account:
    """An account with a crontab, which the program bin/crontab keeps, and installations in its own directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.installations: list[Installation] = []
        (directory / "bin").mkdir()
        self.program(KEEPS_A_FILE.format(table=shlex.quote(str(directory / "table"))))

    def program(self, text: str) -> None:
        """What its `crontab` is."""
        path = self.directory / "bin" / "crontab"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)

    def read(self) -> bytes | None:
        """Its crontab; None where there is none."""
        done = subprocess.run([self.directory / "bin" / "crontab", "-l"], capture_output=True)
        return done.stdout if done.returncode == 0 else None

    def write(self, content: bytes) -> None:
        subprocess.run([self.directory / "bin" / "crontab", "-"], input=content, check=True)

    def home(self, name: str = "home") -> Path:
        """Make an installation."""
        self.installations.append(Installation(self.directory / name))
        return self.installations[-1].home

    def call(self, home: Path, *words: str, **variables: str) -> Done:
        """`webscheduler WORDS`, as the account."""
        return call(home, *words, env=environment(home, PATH=f"{self.directory}/bin:/usr/bin:/bin", **variables))


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    (tmp_path / "account").mkdir()
    made = Account(tmp_path / "account")

    try:
        yield made
    finally:
        for installation in made.installations:
            installation.end()


class Debian(NamedTuple):
    """Debian's crontab and cron with a spool of their own. folder: their `spool` and `etc`."""

    account: Account
    folder: Path

    def argv(self, *words: str) -> list[str]:
        """What runs a program where that spool and that /etc are the machine's."""
        return ["unshare", "--mount", "sh", "-c", PRIVATE, str(self.folder), *words]


@pytest.fixture
def debian(account: Account) -> Iterator[Debian]:
    """The account has Debian's own crontab, for root."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount, for a crontab that is not this account's")

    if not CRONTAB or not Path("/usr/sbin/cron").exists():
        (pytest.fail if REQUIRED else pytest.skip)("there is no crontab here (Debian package: cron)")

    with tempfile.TemporaryDirectory() as directory:
        made = Debian(account, Path(directory))
        shutil.copytree("/etc", made.folder / "etc", symlinks=True)
        shutil.rmtree(made.folder / "etc" / "cron.d", ignore_errors=True)

        for name in ("crontab", "cron.allow", "cron.deny"):
            (made.folder / "etc" / name).unlink(missing_ok=True)

        (made.folder / "spool").mkdir()
        shutil.chown(made.folder / "spool", "root", "crontab")
        (made.folder / "spool").chmod(0o1730)
        account.program(f'exec {shlex.join(made.argv(CRONTAB))} "$@"\n')
        yield made


@pytest.fixture(params=["a file", "Debian"])
def either(request: pytest.FixtureRequest, account: Account) -> Account:
    """The account, its crontab kept by the one and by the other program."""
    if request.param == "Debian":
        request.getfixturevalue("debian")

    return account


# Our line

def test_install_and_uninstall_in_an_empty_crontab(either: Account) -> None:
    """Both are idempotent; status tells by its exit status."""
    home = either.home()
    assert either.call(home, "crontab", "status") == Done(1, "the crontab has no line of ours\n", "")
    done = either.call(home, "crontab", "install")
    assert (done.status, done.err) == (0, "")
    content = either.read()
    assert content
    line = content.decode()
    assert re.fullmatch(rf"\* \* \* \* \* WEBSCHEDULER_HOME={home} (PYTHONPATH=\S+ )?\S+ -m webscheduler run-due "
                        rf">/dev/null # webscheduler {home}\n", line)
    assert done.out == f"the crontab has our line now:\n{line}"
    assert either.call(home, "crontab", "install").out == f"the crontab has our line already:\n{line}"
    assert either.read() == content
    assert either.call(home, "crontab", "status") == Done(0, f"the crontab has our line:\n{line}", "")
    assert either.call(home, "crontab", "uninstall") == Done(0, "our line is removed from the crontab\n", "")
    assert either.call(home, "crontab", "uninstall") == Done(0, "the crontab has no line of ours\n", "")
    assert either.read() == b""


OTHERS = (
    b"# mine\n"
    b"MAILTO=me@example.org\n"
    b"\n"
    b"  \t 5 4 * * *\t/bin/true   # webscheduler\n"
    b"5 4 * * * webscheduler run-due # webscheduler /somewhere/else\n"
    b"# * * * * * commented # webscheduler HOME\n"
    b"0 0 1 1 * echo \xe9t\xe9 \\% 100\n"
    b"@daily printf 'a\\r\\n'\n"
    b"\n\n"
)  # fmt: skip


def test_every_other_byte_stays(either: Account) -> None:
    """Blanks, comments, bytes of no encoding, lines of others that look like ours, one of ours commented out."""
    home = either.home()
    others = OTHERS.replace(b"HOME", os.fsencode(home))
    either.write(others)
    either.call(home, "crontab", "install")
    content = either.read()
    assert content
    assert content.startswith(others)
    assert content[len(others):].count(b"\n") == 1
    either.call(home, "crontab", "uninstall")
    assert either.read() == others


def test_a_crontab_from_dos_is_not_touched(debian: Debian) -> None:
    """Debian's `crontab -l` does not show a carriage return as it is, so it could not be written back."""
    account, kept = debian.account, debian.folder / "spool" / "root"
    account.write(b"1 1 * * * first\n@daily true\r\n")
    before = kept.read_bytes()
    assert before.endswith(b"true\r\n")
    done = account.call(account.home(), "crontab", "install")
    assert (done.status, done.complaint[:30]) == (1, "line 2 of the crontab ends wit")
    assert kept.read_bytes() == before


def test_two_installations_live_side_by_side(either: Account) -> None:
    """Also where the path of one is part of the other's."""
    homes = [either.home(name) for name in ("home", "home2", "a home", "my # webscheduler home")]

    lines = []

    for home in homes:
        assert either.call(home, "crontab", "install").status == 0
        lines = (either.read() or b"").splitlines()

    assert len(lines) == 4

    for home in homes:
        assert either.call(home, "crontab", "uninstall").status == 0
        assert (either.read() or b"").splitlines() == lines[homes.index(home) + 1:]


def test_another_rhythm_takes_the_place_of_the_line(either: Account) -> None:
    """And of several, should somebody have copied it."""
    home = either.home()
    either.call(home, "crontab", "install")
    line = either.read() or b""
    either.write(b"1 1 * * * first\n" + line + b"2 2 * * * second\n" + line)
    either.call(home, "crontab", "install", "--every", "15")
    assert either.read() == b"1 1 * * * first\n" + line.replace(b"* *", b"*/15 *", 1) + b"2 2 * * * second\n"
    document = either.call(home, "crontab", "status", "--json").document
    assert document == {"installed": True, "changed": False, "lines": [line.decode().replace("* *", "*/15 *", 1)[:-1]]}


@pytest.mark.parametrize("name", ["plain", "two words", "it's", "100%", 'a"b', "$HOME;id", "back\\slash", "a\\\\b\\%c",
                                  "été", "#hash", "-n"])
def test_the_line_runs_what_is_due_whatever_the_home_is_called(account: Account, name: str) -> None:
    """Read back from the crontab and given to the shell as Debian's cron does."""
    home = account.home(name)
    assert account.call(home, "add", "task", "--every", "86400", "--", "true").status == 0
    done = account.call(home, "crontab", "install")
    assert (done.status, done.err) == (0, "")
    job, = crontab.parse((account.read() or b"").decode())[0]
    assert (job.expression, job.stdin) == ("* * * * *", None)
    ran = subprocess.run(["/bin/sh", "-c", job.command], capture_output=True, text=True, cwd="/",
                         env={"HOME": str(account.directory), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"})
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert [line["status"] for line in history_reading.entries(str(home), "task")] == ["success"]
    assert account.call(home, "crontab", "install").out.startswith("the crontab has our line already")


@pytest.mark.skipif(not (FULL or REQUIRED), reason="cron starts jobs at full minutes only")
@pytest.mark.timeout(200)
def test_crons_own_daemon_runs_the_line(debian: Debian) -> None:
    """And takes lines of others as the parser here says: escapes, standard input, variables, directory. It runs what is
    exported, too, for an account that is made for it."""
    account = debian.account
    home = account.home("a 100% home's")
    account.call(home, "add", "task", "--every", "86400", "--", "true")
    out = account.directory / "out"
    out.mkdir()
    lines = ["X = a b", f"OUT='{out}'",
             r"""* * * * * /usr/bin/printf '\%s|' 'a\\b' 'c\d' 'e\%f' 'g\\\%h' "$X" > $OUT/one""",
             r"* * * * * cat > $OUT/two%l1 \% a\\b c\d%l2\%e%",
             r"* * * * * cat > $OUT/three%l1\\%l2",
             "* * * * * echo hi > $OUT/four # 50\\% done"]
    account.write(("\n".join(lines) + "\n").encode())
    account.call(home, "crontab", "install")

    with ExitStack() as stack:
        stray, called = exported_for_another(debian, stack)
        daemon = subprocess.Popen(debian.argv("/usr/sbin/cron", "-f"))
        stack.callback(daemon.wait)
        stack.callback(daemon.send_signal, signal.SIGTERM)
        deadline = time.monotonic() + 130

        while time.monotonic() < deadline and not (out / "four").exists():
            time.sleep(1)

        until(lambda: list(history_reading.entries(str(home), "task")))
        until(lambda: (stray / "words").exists() and called.runs("called"))
        called.idle()
        assert (stray / "words").read_text() == f"100%|a\\b|it's|b c|{stray}|"
        assert (stray / "words").stat().st_uid == STRAY
        assert {(line["trigger"], line["status"]) for line in called.runs("called")} == {("url", "success")}

    jobs, problems = crontab.parse("\n".join(lines))
    assert problems == []
    mine = account.directory / "mine"
    mine.mkdir()

    for job in jobs:
        subprocess.run(["/bin/sh", "-c", job.command], input=(job.stdin or "").encode(), check=True, cwd="/",
                       env={**job.environment, "OUT": str(mine), "PATH": "/usr/bin:/bin"})

    def written(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    until(lambda: written(out) == written(mine))


def exported_for_another(debian: Debian, stack: ExitStack) -> tuple[Path, Installation]:
    """Load what is exported for an account that is only there: a job that runs its command, and one that calls its
    task's URL. (the account's home, the installation)."""
    stray = debian.folder / "stray"
    stray.mkdir()
    debian.folder.chmod(0o711)
    assert os.geteuid() == 0  # see `debian`
    os.chown(stray, STRAY, STRAY)

    for file, line in (("passwd", f"stray:x:{STRAY}:{STRAY}::{stray}:/bin/sh"), ("group", f"stray:x:{STRAY}:"),
                       ("shadow", "stray:*:19000:0:99999:7:::")):
        with open(debian.folder / "etc" / file, "a") as table:
            table.write(f"{line}\n")

    called = Installation(debian.account.home("called"))
    called.add("words", ["sh", "-c", 'printf "%s|" "$@" "$A" "$PWD" > words.new && mv words.new words', "sh", "100%",
                         "a\\b", "it's"], expression="* * * * *", environment={"A": "b c"}, cwd=str(stray), timeout=30)
    text = call(called.home, "export", "crontab").out
    called.edit("words", enabled=False, expression=None)
    called.add("called", ["true"], expression="* * * * *")
    address = stack.enter_context(served(called))
    text += call(called.home, "export", "crontab", "--by-url", "--base", address).out
    file = debian.account.directory / "exported"
    file.write_text(text)
    subprocess.run(debian.argv(str(CRONTAB), "-u", "stray", str(file)), check=True)
    assert (debian.folder / "spool" / "stray").exists()
    return stray, called


# What may go wrong

@pytest.mark.parametrize("action", ["install", "uninstall"])
@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("echo 'crontab: you (games) are not allowed to use this program' >&2; exit 1", 1, "are not allowed"),
        ("echo 'crontabs/games: Permission denied' >&2; exit 1", 1, "Permission denied"),
        ("exit 1", 1, "exit status 1"),
        ("echo 'partly'; echo 'no crontab for games' >&2; exit 1", 1, "no crontab for games"),
        ("echo 'line one\nline two' >&2; exit 2", 1, "line one line two"),
        ("kill -9 $$", 1, "exit status -9"),
    ],
)
def test_nothing_is_written_when_the_crontab_cannot_be_read(
    account: Account, action: str, text: str, status: int, says: str
) -> None:
    """Only "no crontab for" on its own is an empty crontab."""
    home = account.home()
    written = account.directory / "written"
    account.program(f'[ "$1" = -l ] || {{ touch {written}; exit 0; }}\n{text}\n')
    done = account.call(home, "crontab", action)
    assert done.status == status
    assert done.complaint.startswith("`crontab -l` fails, so nothing is changed: ")
    assert says in done.complaint
    assert not written.exists()


def test_a_crontab_that_refuses_or_swallows_a_change_is_told(account: Account) -> None:
    """What was written is read back."""
    home = account.home()
    account.program('[ "$1" = -l ] && exit 0\necho "line 1: too long" >&2; exit 1\n')
    assert "did not accept the change, so nothing is changed: line 1: too long" in account.call(
        home, "crontab", "install").complaint
    account.program('[ "$1" = -l ] && echo "1 1 * * * x"\ncat > /dev/null\n')
    assert "does not contain it: it is as it was" in account.call(home, "crontab", "install").complaint


def test_a_last_line_without_its_break_gets_one(account: Account) -> None:
    """Some crontabs keep such a line; ours must not be glued to it."""
    home = account.home()
    file = account.directory / "file"
    file.write_bytes(b"1 1 * * * x")
    account.program(f'if [ "$1" = -l ]; then cat {file}; else cat > {file}; fi\n')
    assert account.call(home, "crontab", "install").status == 0
    assert re.fullmatch(rb"1 1 \* \* \* x\n\* \* \* \* \* WEBSCHEDULER_HOME=[^\n]+\n", file.read_bytes())


def test_a_host_without_crontab_gets_a_clear_answer(account: Account) -> None:
    home = account.home()
    (account.directory / "bin" / "crontab").unlink()

    for action in ("install", "uninstall", "status"):
        done = call(home, "crontab", action, env=environment(home, PATH=str(account.directory / "bin")))
        assert done.status == 1
        assert done.complaint == ("this host has no `crontab`: let its panel call the URL that `webscheduler url @due` "
                                  "prints")


def test_an_account_that_may_have_no_crontab(debian: Debian) -> None:
    """Debian's own refusal, which root alone does not get."""
    account = debian.account
    (debian.folder / "etc" / "cron.deny").write_text("games\n")
    account.program(f'exec {shlex.join(debian.argv("setpriv", "--reuid=games", "--regid=games", "--clear-groups"))} '
                    f'{CRONTAB} "$@"\n')
    done = account.call(account.home(), "crontab", "install")
    assert done.status == 1
    assert "not allowed to use this program" in done.complaint
    assert list((debian.folder / "spool").iterdir()) == []


@pytest.mark.parametrize(("python", "says"), [("/bin/false", "/bin/false does not find webscheduler"),
                                              ("/nowhere/python", "/nowhere/python cannot be run")])
def test_an_interpreter_that_would_fail_in_the_crontab_is_told_before(account: Account, python: str, says: str) -> None:
    home = account.home()
    account.call(home, "config", "set", "defaultTimeout", "300")  # so that there is a file to write into by hand
    settings = Path(home, "config.json")
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "python": python}))
    done = account.call(home, "crontab", "install")
    assert done.status == 1
    assert says in done.complaint
    assert account.read() is None


@pytest.mark.parametrize("words", [["instal"], ["install", "--every", "7"], ["install", "--every", "0"],
                                   ["install", "--every", "90"], ["install", "--every", "¹"],
                                   ["install", "--every", "1441"], ["install", "--every", "-5"]])
def test_wrong_words_touch_nothing(account: Account, words: list[str]) -> None:
    assert account.call(account.home(), "crontab", *words).status == 2
    assert account.read() is None


# What an expression says

def test_every_so_many_minutes() -> None:
    """Refused, or exactly that, over midnight as well."""
    exact = 0
    begin = datetime(2026, 3, 1, tzinfo=timezone.utc)

    for minutes in range(-1, 1500):
        try:
            cron = Cron(crontab.expression(minutes))
        except BadInput:
            assert minutes <= 0 or 1440 % minutes or (60 % minutes and minutes % 60), minutes
            continue

        exact += 1
        moment = begin

        for _ in range(3):
            following = cron.next(moment, timezone.utc)
            assert following == moment + timedelta(minutes=minutes), minutes
            moment = following

    assert exact == 11 + 8


# What lines mean

def jobs(text: str) -> list[tuple[str, str, str | None, dict[str, str]]]:
    found, problems = crontab.parse(text)
    assert problems == []
    return [(job.expression, job.command, job.stdin, job.environment) for job in found]


@pytest.mark.parametrize(
    ("line", "expression", "command"),
    [
        ("* * * * * a", "* * * * *", "a"),
        ("  1\t2  3 4\t 5   a  b ", "1 2 3 4 5", "a  b "),
        ("@daily a", "@daily", "a"),
        ("*/5 0-3,7 * jan-MAR mon#1 a b", "*/5 0-3,7 * jan-MAR mon#1", "a b"),
        ("0 0 * * * A=b c", "0 0 * * *", "A=b c"),
        ("0 0 * * * a # no comment of cron's", "0 0 * * *", "a # no comment of cron's"),
        ("@reboot a", "@reboot", "a"),
    ],
)
def test_a_line_that_runs_something(line: str, expression: str, command: str) -> None:
    assert jobs(line) == [(expression, command, None, {})]


@pytest.mark.parametrize(
    ("command", "shell", "stdin"),
    [  # each as Debian's cron 3.0pl1-162 takes it
        ("cat%", "cat", ""),
        ("cat%a", "cat", "a\n"),
        ("cat%a%b", "cat", "a\nb\n"),
        ("cat%a%b%", "cat", "a\nb\n"),
        (r"date +\%H", "date +%H", None),
        (r"echo a\b c\\d e\\\%f", "echo a\\b c\\d e\\%f", None),
        (r"cat \%%l1 \% a\\b c\d%l2\%e%", "cat %", "l1 % a\\\\b c\\d\nl2%e\n"),
        (r"cat%l1\\%l2", "cat", "l1\\%l2\n"),
        (r"a\\%b", "a\\", "b\n"),
        ("a\\", "a\\", None),
    ],
)
def test_percent_signs(command: str, shell: str, stdin: str | None) -> None:
    assert jobs(f"* * * * * {command}") == [("* * * * *", shell, stdin, {})]


def test_what_is_escaped_is_read_as_it_was() -> None:
    """Every text of up to six signs that cron treats in its own way."""
    texts = [""]

    for _ in range(6):
        texts += [text + sign for text in texts[-(4 ** len(texts[-1])):] for sign in "a\\%'"]

    assert len(texts) == sum(4 ** length for length in range(7))

    for text in texts:
        found, = crontab.parse(f"* * * * * x{crontab.escaped(text)}")[0]
        assert (found.command, found.stdin) == (f"x{text}".rstrip("") , None)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("A=b", "A", "b"), ("A = b", "A", "b"), ("  A=b  ", "A", "b"), ('A="b c "', "A", "b c "), ("A='b'", "A", "b"),
        ("A=", "A", ""), ('A=""', "A", ""), ("A=b=c", "A", "b=c"), ('"A"=b', "A", "b"), ("A=$HOME/x", "A", "$HOME/x"),
        ("A=b # c", "A", "b # c"), ("MAILTO=\"\"", "MAILTO", ""),
    ],
)  # fmt: skip
def test_a_line_that_sets_a_variable(line: str, name: str, value: str) -> None:
    """It counts for the jobs after it; nothing in its value is expanded."""
    assert jobs(f"@daily first\n{line}\n@daily second") == [
        ("@daily", "first", None, {}), ("@daily", "second", None, {name: value})]


def test_a_later_assignment_wins_for_what_follows() -> None:
    assert [job[3] for job in jobs("A=1\n@daily a\nA=2\nB=3\n@daily b\n")] == [{"A": "1"}, {"A": "2", "B": "3"}]


@pytest.mark.parametrize("line", ["* * * * *", "* * * *  ", "nonsense", "@daily", "1 2 3 4 5 "])
def test_a_line_that_is_nothing_is_reported(line: str) -> None:
    found, problems = crontab.parse(f"# comment\n\n{line}\n@daily a")
    assert [job.command for job in found] == ["a"]
    assert problems == [f"line 3 is neither a job nor NAME=value: {line.strip()!r}"]
