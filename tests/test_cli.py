# SPDX-License-Identifier: LGPL-3.0-or-later
"""The command line as a whole: words, streams, owners, and how it ends."""

from __future__ import annotations

import importlib
import json
import os
import pty
import pwd
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import webscheduler
from tests import CHECKOUT, PACKAGE, accounts
from tests.commandline import Done, call, environment, finished, start
from tests.installation import DOORS, Installation
from webscheduler.cli import main, parser
from webscheduler.store import people

READING = ("list", "status", "logs", "commands", "config", "next", "show", "url")


def words_of(verb: str) -> list[str]:
    """A call of the verb that works, given a task named `task` and a baseUrl."""
    more = {"next": ["--cron", "0 3 * * *"], "show": ["task"], "url": ["task"]}
    return [verb, *more.get(verb, [])]


def test_main_is_given_words_and_returns_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    """main(argv) neither reads sys.argv nor ends the process, not even for --version and --help."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"webscheduler {webscheduler.__version__}\n"
    assert main(["add", "--help"]) == 0
    assert "--min-interval-seconds" in capsys.readouterr().out
    assert main([]) == 2


def test_python_m_and_the_script_are_the_same(tmp_path: Path) -> None:
    """`python -m webscheduler` is the entry point that pyproject.toml names."""
    done = call(tmp_path / "home", "--version")
    assert (done.status, done.out) == (0, f"webscheduler {webscheduler.__version__}\n")
    assert 'webscheduler = "webscheduler.__main__:main"' in (CHECKOUT / "pyproject.toml").read_text()


def options_of(verb: str) -> set[str]:
    return {name for notation, *_ in parser.verb(verb)[2:] for name in parser.split_notation(notation)[0]}


def test_what_is_given_to_a_call_need_not_be_read(installation: Installation) -> None:
    """As a shell's pipe: the call may end before, with more waiting than a pipe holds, and is judged by its own end."""
    installation.add()
    done = call(installation.home, "list", given=b"x" * 1_000_000)
    assert (done.status, "task" in done.out, done.err) == (0, True, "")


def test_every_verb_is_in_a_group() -> None:
    """What a module has as verbs, and nothing else, is in its group, in this order; each has its own line of help."""
    for module, (_, names) in parser.GROUPS.items():
        assert list(importlib.import_module(f"webscheduler.cli.{module}").VERBS) == names.split()

    shown = parser.overview().splitlines()
    assert {len([line for line in shown if line.startswith(f"  {verb} ")]) for verb in parser.MODULES} == {1}
    assert all(line.isprintable() and len(line) <= 120 for line in shown)


@pytest.mark.parametrize("verb", sorted(parser.MODULES))
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Help of every verb, and of every argument of it, can be shown and is a sentence."""
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    _, sentence, *arguments = parser.verb(verb)
    assert out.startswith(f"usage: {parser.usage(verb)}\n")
    assert all(f"  {option}" in out or f", {option}" in out for option in options_of(verb))
    assert all(text.endswith(".") for text in (sentence, *(about for _, about, *_ in arguments)))


def test_only_the_module_of_the_verb_is_imported(installation: Installation) -> None:
    """`list` loads no other verbs than those of its module, and `--version` no parser at all."""
    code = "import sys; from webscheduler.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"

    def loaded(*words: str) -> set[str]:
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True,
                              env=environment(installation.home), timeout=60)
        return set(done.stderr.split())

    dear = {"dataclasses", "pathlib", "typing", "logging", "zoneinfo", "shutil", "subprocess", "filelock"}
    own = {f"webscheduler.cli.{module}" for module in parser.GROUPS}
    bare = set(subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True,
                              env=environment(installation.home)).stdout.split())
    assert loaded("list") & own == {"webscheduler.cli.tasks"}
    assert not loaded("list") & dear - bare
    assert not loaded("--version") & {"argparse", "re", "json", *own, *dear} - bare


@pytest.mark.parametrize("verb", sorted(parser.MODULES))
def test_options_are_not_abbreviated(verb: str, installation: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    """A prefix of an option is an unknown option, for each option of each verb."""
    options = {"--help", "--home", *options_of(verb)}

    for option in sorted(options):
        cut = option[:-1]

        if option.startswith("--") and cut not in options and len(cut) > 2:
            assert main([verb, f"{cut}=x"]) == 2, cut
            assert capsys.readouterr().err.startswith("webscheduler: ")


@pytest.mark.parametrize(("words", "says"), [
    ([], "no command is given"),
    (["lst"], "did you mean 'list'?"),
    (["\x1b[31m"], "there is no command"),
    (["list", "--colour"], "unrecognized arguments: --colour"),
    (["list", "--grup", "x"], "(did you mean '--group'?)"),
    (["logs", "@du"], "(did you mean '@due'?)"),
    (["run", "@dew"], "(did you mean '@due'?)"),
    (["remove", "@du", "--yes"], "(did you mean '@due'?)"),
    (["config", "set", "timezome", "UTC"], "(did you mean 'timezone'?)"),
    (["edit", "@due", "--unset", "titel"], "(did you mean 'title'?)"),
    (["add", "x", "--command", "helo"], "(did you mean 'hello'?)"),
    (["--hme", "/x", "list"], "(did you mean '--home'?)"),
    (["add", "greet", "echo", "hi"], "put -- before the program, as in `webscheduler add greet -- echo hi`"),
    (["edit", "@due", "echo", "hi"], "put -- before the program"),
    (["remove"], "required: NAME"),
    (["remove", "@due", "nothing", "--yes"], "no task is named 'nothing'"),
    (["show"], "required: NAME"),
    (["show", "a", "b"], "unrecognized arguments: b"),
    (["add", "a"], "give either a registered command, or a program"),
    (["list", "--", "true"], "only `add` and `edit`"),
    (["--home", "", "list"], "--home"),
    (["list", "--home"], "expected one argument"),
    (["show", "nothing"], "no task is named 'nothing'"),
    (["show", ""], "no task is named ''"),
    (["enable"], "give either names of tasks or --group"),
    (["enable", "a", "--group", "b"], "give either names of tasks or --group"),
    (["enable", "--group", "none"], "no task is in group 'none'"),
    (["edit", "@due"], "nothing to change"),
    (["edit", "@due", "--unset", "slug"], "no field is called 'slug'"),
    (["next"], "give a task, --cron or --every"),
    (["next", "@due", "--every", "60"], "give a task, --cron or --every"),
    (["next", "@due"], "has no schedule"),
    (["next", "--cron", "* * *"], "--cron: has 3 fields"),
    (["next", "--cron", "0 0 30 2 *"], "never comes"),
    (["next", "--cron", "0 0 \0 2 *"], "--cron: "),
    (["next", "--every", "0"], "--every: must be from 1"),
    (["next", "--every", "60", "--count", "0"], "--count"),
    (["next", "--every", "60", "--count", "\u00b9"], "--count"),
    (["next", "--every", "60", "--from", "tomorrow"], "--from"),
    (["next", "--every", "60", "--from", "9999-12-31T23:59:59Z"], "beyond"),
    (["next", "--every", "60", "--timezone", "Middle/Earth"], "timezone"),
    (["next", "--every", "60", "--timezone", "../../etc/passwd"], "timezone"),
    (["next", "--every", "60", "--timezone", ""], "timezone"),
    (["next", "--every", "60", "--timezone", "a\0b"], "timezone"),
    (["next", "--every", "60", "--timezone", "\udcff"], "timezone"),
    (["logs", "nothing"], "no task is named 'nothing'"),
    (["logs", "--status", "great"], "--status"),
    (["logs", "--limit", "-1"], "--limit"),
    (["logs", "--limit", "1_0"], "--limit"),
    (["logs", "--run", "x"], "no run has the id"),
    (["cancel", "nothing"], "no task is named"),
    (["run", "nothing"], "no task is named"),
    (["rename", "nothing", "else"], "no task is named"),
    (["rename", "@due", "else"], "@due is built in"),
    (["remove", "@due", "--yes"], "@due is built in"),
    (["url", "@due"], "config set baseUrl"),
    (["url", "@due", "--base", "example.org"], "baseUrl"),
    (["url", "@due", "--timed", "--status"], "not allowed with"),
    (["config", "sit"], "must be one of list, get, set, unset"),
    (["config", "get"], "webscheduler config get KEY"),
    (["config", "set", "name"], "webscheduler config set KEY VALUE"),
    (["config", "list", "name"], "webscheduler config list"),
    (["config", "get", "colour"], "no setting is named 'colour'"),
    (["config", "set", "colour", "red"], "no setting is named 'colour'"),
    (["config", "unset", "\x1b[31m"], "no setting is named"),
    (["serve", "--port", "http"], "--port"),
    (["serve", "--port", "70000"], "--port"),
])
def test_a_wrong_call_ends_with_one_line_and_status_2(
    words: list[str], says: str, installation: Installation, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line says what is wrong, holds nothing that a terminal would obey, and nothing was changed."""
    monkeypatch.setenv("WEBSCHEDULER_HOME", str(installation.home))
    before = {file: (installation.home / file).read_bytes() for file in ("state.json", "config.json")}
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("webscheduler: ") and err.count("\n") == 1 and err[:-1].isprintable(), err
    assert says in err
    assert before == {file: (installation.home / file).read_bytes() for file in before}


@pytest.mark.parametrize("words", [["serve", "--host", "a\0b"], ["serve", "--host", "\u00e9" * 100],
                                   ["serve", "--host", "192.0.2.1"]])
def test_an_address_that_cannot_be_had_is_told(
    words: list[str], installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No server comes up, and one line says so."""
    monkeypatch.setenv("WEBSCHEDULER_HOME", str(installation.home))
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "choose others with --host and --port" in err and err.count("\n") == 1


@pytest.mark.parametrize("verb", READING)
def test_reading_verbs_print_one_json_document(verb: str, installation: Installation) -> None:
    """With --json the output is one document of plain ASCII, an array where there are several things."""
    installation.add(title="h\u00e9llo \u202e")
    installation.configure(baseUrl="https://example.org/x")
    done = call(installation.home, *words_of(verb), "--json")
    assert done.status == 0
    assert done.out.isascii() and done.err == ""
    assert isinstance(done.document, list if verb in ("list", "logs", "commands", "next") else dict)


@pytest.mark.parametrize("verb", READING)
def test_a_reader_that_goes_away_ends_it_quietly(verb: str, installation: Installation) -> None:
    """`webscheduler VERB | head -0`: no traceback, nothing on standard error."""
    installation.add()
    installation.configure(baseUrl="https://example.org/x")
    reading, writing = os.pipe()
    os.close(reading)
    process = start(installation.home, *words_of(verb), stdout=writing)
    os.close(writing)
    done = finished(process)
    assert (done.status, done.err) == (141, "")


@pytest.mark.parametrize("words", [["list"], ["--help"], ["--version"]])
def test_a_full_disk_under_the_output_is_one_line(words: list[str], installation: Installation) -> None:
    """What cannot be written is told on standard error, with status 1."""
    with Path("/dev/full").open("wb") as full:
        done = call(installation.home, *words, stdout=full)

    assert done.status == 1
    assert "No space left on device" in done.complaint


@pytest.mark.parametrize("words", [["add", "a", "--", "true"], ["config", "set", "name", "x"], ["disable", "@due"]])
def test_a_full_disk_under_the_home_changes_nothing(words: list[str], installation: Installation) -> None:
    """A file that cannot be written is told in one line, and is what it was."""
    before = {file: (installation.home / file).read_bytes() for file in ("state.json", "config.json")}
    limit = (0, resource.RLIM_INFINITY)  # no byte can be written to any file: EFBIG
    done = call(installation.home, *words, env=environment(installation.home, PYTHONDONTWRITEBYTECODE="1"),
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert done.status == 1
    assert "cannot be written: File too large" in done.complaint
    assert before == {file: (installation.home / file).read_bytes() for file in before}


def shortest(verb: str) -> list[str]:
    """The shortest call of the verb that the parser takes and that does something."""
    more = {"add": ["--", "true"], "edit": ["--title", "x"], "enable": ["a"], "disable": ["a"]}
    needed = [notation for notation, *_ in parser.verb(verb)[2:] if notation[0] not in "-["]
    return [verb, *("a" if word.isupper() else word.partition("|")[0] for word in needed), *more.get(verb, [])]


@pytest.mark.parametrize("verb", sorted({*parser.MODULES} - {*parser.FOR_ANYBODY}))
def test_a_home_that_is_not_there_is_told(verb: str, tmp_path: Path) -> None:
    """Every verb that needs an installation says how to make one, before it looks at anything else."""
    done = call(tmp_path / "home", *shortest(verb))
    assert done.status == 1
    assert "webscheduler init" in done.complaint
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("words", [["list"], ["show", "task"], ["logs"], ["url", "task", "--base", "http://x"]])
def test_a_damaged_state_is_read_from_its_copy_and_said(words: list[str], installation: Installation) -> None:
    """Reading verbs go on with the last good copy, `status` calls it unhealthy, and nothing overwrites the file."""
    installation.add()
    installation.edit(title="x")
    (installation.home / "state.json").write_text("{")
    done = call(installation.home, *words)
    assert done.status == 0
    assert words == ["logs"] or words[0] == "url" or "cannot be parsed" in done.complaint
    report = call(installation.home, "status", "--json")
    assert report.status == 1
    assert report.document["status"] == "failing" and "cannot be parsed" in report.document["warnings"][0]
    refused = call(installation.home, "edit", "task", "--title", "y")
    assert refused.status == 1 and "state.json.bak" in refused.complaint
    assert (installation.home / "state.json").read_text() == "{"


@pytest.mark.parametrize("words", [["show", "task"], ["next", "task"]])
def test_a_task_that_the_copy_does_not_have_is_one_error(words: list[str], installation: Installation) -> None:
    """What is wrong is state.json: that nobody knows the task is no second line, and no word against its name."""
    copy = (installation.home / "state.json").read_bytes()
    installation.add()
    (installation.home / "state.json.bak").write_bytes(copy)
    (installation.home / "state.json").write_text("{")
    done = call(installation.home, *words)
    assert done.status == 1
    assert "cannot be parsed" in done.complaint and "no task is named" not in done.complaint


@pytest.mark.parametrize("verb", ["add", "edit", "remove", "rename", "enable", "disable", "url", "rotate-secret",
                                  "list", "show", "status", "run", "cancel", "run-due", "sync"])
def test_a_state_without_any_good_copy_is_one_line(verb: str, installation: Installation) -> None:
    """What needs the tasks says that they cannot be read and how to go on, and leaves the file alone."""
    for file in ("state.json", "state.json.bak"):
        (installation.home / file).write_bytes(b"\xff\x00[")

    done = call(installation.home, *shortest(verb))
    assert done.status == 1
    assert "state.json" in done.complaint
    assert (installation.home / "state.json").read_bytes() == b"\xff\x00["


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(("mine", "cure"), [
    (False, "as root, give the home directory to nobody, or use another one"),
    (True, "`chown -R nobody '{home}'` as root")])
def test_nobody_is_told_to_take_over_what_is_not_theirs(mine: bool, cure: str) -> None:
    """A home below a directory of root's gave the advice to chown all that; one that root made for the user is it."""
    with accounts.place() as place:
        home = place / "a home"
        home.mkdir(0o700)
        os.chown(place, pwd.getpwnam("nobody").pw_uid if mine else 0, -1)
        place.chmod(0o755)
        done = accounts.run(["-m", "webscheduler", "--home", str(home / "in"), "list"], pwd.getpwnam("nobody").pw_uid)
        assert done.stderr == (f"webscheduler: {home / 'in'} cannot be looked at; {home} belongs to root, and this "
                               f"runs as nobody: {cure.format(home=home)}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_told_the_line_to_use(installation: Installation) -> None:
    """Whoever is not the owner gets the `sudo -u` line, and every verb but init, demo and next --cron refuses."""
    somebody = pwd.getpwnam("nobody")
    os.chmod(installation.home.parent, 0o755)
    shutil.chown(installation.home, "nobody")
    done = call(installation.home, "list", "--group", "a b")
    assert done.status == 1
    assert done.complaint == (f"{installation.home} belongs to nobody: sudo -u nobody "
                              f"WEBSCHEDULER_HOME={installation.home} {sys.executable} -m webscheduler list "
                              "--group 'a b'")
    assert call(installation.home, "init").status == 1
    assert call(installation.home, "next", "--cron", "0 3 * * *").status == 0
    assert call(installation.home, "next", "@due").status == 1
    assert somebody.pw_uid == installation.home.stat().st_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_unreadable_home_is_one_line(installation: Installation, tmp_path: Path) -> None:
    """A user who cannot even look into the home is told so, without a traceback."""
    place = tmp_path / "package"
    shutil.copytree(PACKAGE, place / "webscheduler", ignore=shutil.ignore_patterns("__pycache__"))

    for directory in (place, *place.parents):
        if os.stat(directory).st_mode & 0o005 != 0o005 and str(directory).startswith("/tmp/"):
            os.chmod(directory, 0o755)

    user = pwd.getpwnam("nobody")
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    done = subprocess.run([python, "-B", "-m", "webscheduler", "list"], cwd=place, capture_output=True, text=True,
                          env={**environment(installation.home), "PYTHONPATH": str(place)}, user=user.pw_uid,
                          group=user.pw_gid, extra_groups=[], timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("webscheduler: ") and done.stderr.count("\n") == 1, done.stderr
    assert "sudo -u root" in done.stderr


def test_home_is_taken_from_the_option_before_and_after_the_verb(installation: Installation, tmp_path: Path) -> None:
    """--home wins over the environment wherever it stands, and may be relative."""
    elsewhere = tmp_path / "elsewhere"
    installation.add("here")

    for words in (["--home", str(installation.home), "list"], ["list", "--home", str(installation.home)],
                  ["list", "--home=home"]):
        assert "here" in call(elsewhere, *words).out

    assert call(elsewhere, "init", "--home", str(elsewhere)).status == 0
    assert elsewhere.stat().st_mode & 0o777 == 0o700


def test_the_keyboard_ends_it_without_a_traceback(installation: Installation) -> None:
    """Ctrl-C while it waits, here for an answer, is status 130, says nothing and does nothing."""
    installation.add()
    ours, theirs = pty.openpty()
    process = start(installation.home, "remove", "task", stdin=theirs)
    os.close(theirs)
    assert process.stdout and process.stdout.read(len("Remove task")) == b"Remove task"
    process.send_signal(signal.SIGINT)
    done = finished(process)
    os.close(ours)
    assert (done.status, done.err) == (130, "")
    assert installation.row()["argv"] == ["true"]


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_no_locale_breaks_what_is_shown(locale: str, installation: Installation) -> None:
    """Names and titles beyond the locale's characters are shown all the same."""
    installation.add("t\u00e2che")
    done = call(installation.home, "list", env={**environment(installation.home), "LC_ALL": locale,
                                                "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert done.status == 0
    assert "t\u00e2che" in done.out or "t\\xe2che" in done.out or "t\\udcc3\\udca2che" in done.out


def test_words_that_are_no_utf_8_are_told(installation: Installation) -> None:
    """Bytes that are no text are refused, visibly, wherever they stand."""
    for words in ([b"show", b"\xff"], [b"add", b"\xff", b"--", b"true"], [b"add", b"a", b"--", b"\xff"],
                  [b"edit", b"@due", b"--title", b"\xff"], [b"config", b"set", b"name", b"\xff"], [b"\xff"]):
        done = call(installation.home, *words)
        assert done.status == 2
        assert "\\udcff" in done.complaint or "is not valid UTF-8" in done.complaint


def test_a_terminal_is_asked_and_no_means_no(installation: Installation) -> None:
    """Without --yes a terminal is asked; whatever is not yes leaves all as it is; without one --yes is named."""
    installation.add()
    done = call(installation.home, "remove", "task")
    assert done.status == 2 and "--yes" in done.complaint

    for answer, gone in ((b"\n", False), (b"n\n", False), (b"\x04", False), (b"y\n", True)):
        ours, theirs = pty.openpty()
        process = start(installation.home, "remove", "task", stdin=theirs)
        os.close(theirs)
        os.write(ours, answer)
        done = finished(process)
        os.close(ours)
        assert "Remove task and its history? [y/N]" in done.out
        assert (done.status == 0) is gone
        assert ("task" in json.loads((installation.home / "state.json").read_text())) is not gone


PASSWORD = "correct horse battery"


def answering(home: Path, *answers: str, **variables: str) -> Done:
    """`init` on a terminal, and what is typed there, each answer to a question of its own."""
    ours, theirs = pty.openpty()
    process = start(home, "init", stdin=theirs, stderr=subprocess.STDOUT, start_new_session=True,
                    env={**environment(home), **variables})
    os.close(theirs)
    assert process.stdout
    said = b""

    for answer in answers:
        while not said.rstrip(b"\n").endswith((b")", b": ")):
            said += process.stdout.read1()  # type: ignore[attr-defined]

        os.write(ours, answer.encode() + b"\n")
        said += b"<" + answer.encode() + b">"

    done = finished(process)
    os.close(ours)
    return done._replace(out=said.decode() + done.out)


def test_set_up_asks_a_terminal(tmp_path: Path) -> None:
    """`init` on a terminal asks for what nobody can guess, once, and again for what is no answer; the zone is that of
    the machine, where nothing else is said."""
    home, scripts = tmp_path / "home", tmp_path / "cgi-bin"
    scripts.mkdir()
    done = answering(home, "example.org", "http://127.0.0.1:9/cron", "Middle/Earth", "Europe/Lisbon",
                     str(tmp_path / "nowhere"), str(scripts), "short", "short", PASSWORD, PASSWORD + "x", PASSWORD,
                     PASSWORD)
    assert done.status == 0
    assert [call(home, "config", "get", name).out for name in ("baseUrl", "timezone")] == [
        "http://127.0.0.1:9/cron\n", "Europe/Lisbon\n"]
    assert (scripts / "webscheduler.cgi").exists()
    person = people.verify(str(home), pwd.getpwuid(os.getuid()).pw_name, PASSWORD)
    assert person and person.role == "owner"
    assert done.out.count("webscheduler: ") == 5
    assert "set-password" not in done.out
    assert answering(home).out.splitlines()[0] == f"{home} is complete."


def broken_off(home: Path, *answers: str) -> str:
    """`init` on a terminal, ended by Ctrl-C at the question after these answers; what it printed."""
    ours, theirs = pty.openpty()
    process = start(home, "init", stdin=theirs, stderr=subprocess.STDOUT)
    os.close(theirs)
    assert process.stdout
    said = b""

    for answer in (*answers, None):
        while not said.rstrip(b"\n").endswith((b")", b": ")):
            said += process.stdout.read1()  # type: ignore[attr-defined]

        if answer is not None:
            os.write(ours, answer.encode() + b"\n")
            said += b"<"

    process.send_signal(signal.SIGINT)
    assert finished(process).status == 130
    os.close(ours)
    return said.decode()


def test_a_set_up_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    """What was answered is kept, at whichever question it ended; the next `init` asks for the rest."""
    answers = ["http://127.0.0.1:9/cron", "Europe/Lisbon", str(tmp_path), PASSWORD, PASSWORD]

    for known in range(4):
        home = tmp_path / f"home{known}"
        asked = broken_off(home, *answers[:known])
        assert asked.count("(Enter: ") == known + 1
        done = answering(home, *answers[min(known, 2):])  # whether a script was written, only its folder knows
        assert done.status == 0, done.out
        assert done.out.count("What will its URL be") == (known == 0)
        assert done.out.count("time zone") == (known < 2)
        assert call(home, "config", "get", "baseUrl").out == "http://127.0.0.1:9/cron\n"
        assert call(home, "config", "get", "timezone").out == "Europe/Lisbon\n"
        assert people.read(str(home))
        (tmp_path / "webscheduler.cgi").unlink()
        (tmp_path / ".htaccess").unlink()


@pytest.mark.parametrize(("option", "value"), [
    ("--base-url", "https://example.org/cron/admin/"), ("--base-url", "nonsense"), ("--timezone", "Middle/Earth"),
    ("--cgi-bin", "/nowhere"), ("--passenger", "/nowhere")])
def test_set_up_asks_nothing_before_its_options_are_right(tmp_path: Path, option: str, value: str) -> None:
    home = tmp_path / "home"
    ours, theirs = pty.openpty()
    done = finished(start(home, "init", option, value, stdin=theirs))
    os.close(ours)
    os.close(theirs)
    assert (done.status, done.out) == (2, "")
    assert done.complaint
    assert not home.exists()


@pytest.mark.parametrize(("name", "value", "what"), [
    ("baseUrl", "https://example.org/cron/admin/", "is the panel's address"),
    ("baseUrl", "https://example.org/cron/admin/sign-in", "is the panel's address"),
    ("php", "/opt/nowhere/php", "is not a program here"), ("php", "/etc/passwd", "is not a program here")])
def test_a_setting_that_cannot_work_is_refused_where_it_is_typed(
    installation: Installation, name: str, value: str, what: str
) -> None:
    done = call(installation.home, "config", "set", name, value)
    assert done.status == 2
    assert done.complaint.startswith(f"{name}: ") and what in done.complaint
    assert call(installation.home, "config", "get", name).out == "null\n"


@pytest.mark.parametrize(("variable", "zone"), [("Asia/Tokyo", "Asia/Tokyo"), (":Europe/Paris", "Europe/Paris"),
                                                ("CET-1CEST", "UTC")])
def test_set_up_takes_no_answer_for_the_default(tmp_path: Path, variable: str, zone: str) -> None:
    """Enter on a terminal means: the machine's zone, and the rest is not known yet."""
    home = tmp_path / "home"
    done = answering(home, "", "", "", "", TZ=variable)
    assert done.status == 0
    assert f"(Enter: {zone})" in done.out
    assert call(home, "config", "get", "timezone").out == f"{zone}\n"
    assert call(home, "config", "get", "baseUrl").out == "null\n"
    assert not people.read(str(home))
    assert " set-password " in done.out


def test_set_up_says_what_is_next_and_changes_nothing_twice(tmp_path: Path) -> None:
    """What `init` prints as next steps works as it stands, and a second `init` leaves every secret as it is."""
    home = tmp_path / "home"
    first = call(home, "init", "--base-url", "http://127.0.0.1:9/cron")
    assert first.status == 0
    assert [oct(path.stat().st_mode & 0o077) for path in home.rglob("*")].count("0o0") == len(list(home.rglob("*")))
    state = (home / "state.json").read_bytes()
    steps = re.findall(r"^  (.*?)(?:    .*)?$", first.out.partition("Next:")[2], re.MULTILINE)
    assert len(steps) == 3
    assert call(home, "init").status == 0
    assert (home / "state.json").read_bytes() == state

    for step in steps:
        done = subprocess.run(["/bin/sh", "-c", step], input=PASSWORD.encode(), env=environment(home), cwd=home.parent)
        assert done.returncode == 0


def test_set_up_refuses_a_place_that_is_served(tmp_path: Path) -> None:
    """A home below a document root would be handed out by the web server."""
    (tmp_path / "public_html").mkdir()
    done = call(tmp_path / "public_html" / "home", "init")
    assert done.status == 2
    assert "public_html" in done.complaint
    assert os.listdir(tmp_path / "public_html") == []


def test_settings_are_listed_set_got_and_unset(installation: Installation) -> None:
    """A value that was set is in force and can be taken back; texts are printed bare, the rest as JSON."""
    def config(*words: str) -> Any:
        done = call(installation.home, "config", *words)
        assert done.status == 0, done.err
        return done

    config("set", "baseUrl", "https://example.org/cgi-bin/webscheduler.cgi")
    assert config("get", "baseUrl").out == "https://example.org/cgi-bin/webscheduler.cgi\n"
    config("set", "commands", '{"backup": {"argv": ["/bin/true"]}}')
    assert config("get", "commands", "--json").document == {"backup": {"argv": ["/bin/true"]}}
    assert "backup" in call(installation.home, "commands").out
    config("set", "trustedProxies", "127.0.0.1, ::1")
    assert config("--json").document["trustedProxies"] == ["127.0.0.1", "::1"]
    config("set", "trustedProxies", config("get", "trustedProxies").out)  # JSON, as it is shown
    assert config("--json").document["trustedProxies"] == ["127.0.0.1", "::1"]
    config("unset", "trustedProxies")
    assert config("get", "trustedProxies").out == "[]\n"
    config("set", "baseUrl", "")
    assert config("get", "baseUrl", "--json").document is None


@pytest.mark.parametrize("url", ["example.org", "//example.org", "ftp://example.org", "https://", "https:///x",
                                 "https://example.org/?a", "https://example.org/#a", "https://example.org/?",
                                 "https://exa mple.org", "https://\u00e9.org", "https://a:b@example.org", "https://x:y/",
                                 "https://[::1", "https://x/\x1b", "javascript:alert(1)", "https://x:99999/"])
def test_a_base_that_no_url_can_start_with_is_refused(
    url: str, installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is set and where it is given, baseUrl must be http(s), with a host and without query or fragment."""
    monkeypatch.setenv("WEBSCHEDULER_HOME", str(installation.home))

    for words in (["config", "set", "baseUrl", url], ["url", "@due", "--base", url], ["init", "--base-url", url]):
        assert main(words) == 2
        assert ("--base-url:" if words[0] == "init" else "baseUrl:") in capsys.readouterr().err

    assert main(["config", "get", "baseUrl", "--json"]) == 0
    assert capsys.readouterr().out == "null\n"


def test_settings_that_are_set_at_once_are_all_set(installation: Installation) -> None:
    setting = [(name, str(number)) for number, name in enumerate(
        ("defaultTimeout", "maxConcurrentTasks", "logRetentionDays", "signatureWindowSeconds", "name"), 50)] * 2
    begun = [start(installation.home, "config", "set", *words) for words in setting]
    assert {finished(each).status for each in begun} == {0}
    assert {(name, str(call(installation.home, "config", "list", "--json").document[name]))
            for name, _ in setting} == set(setting)
    assert (installation.home / "config.json.lock").stat().st_mode & 0o777 == 0o600


def test_settings_nested_too_deep_are_one_line(installation: Installation) -> None:
    """JSON that Python's parser gives up on is told like JSON that is none, and a trigger answers 503."""
    installation.add()
    (installation.home / "config.json").write_text('{"notify": ' + "[" * 200_000)
    assert "config.json cannot be read" in call(installation.home, "list").complaint

    for door in DOORS:
        answer = installation.trigger(door)
        assert answer.status == 503 and "config.json cannot be read" in answer.errors


def test_a_broken_setting_can_be_mended(installation: Installation) -> None:
    """A config.json with a bad value stops every verb with its name, but not `config set`, which mends it."""
    installation.configure(timezone=5)
    done = call(installation.home, "list")
    assert done.status == 1
    assert "webscheduler config set timezone" in done.complaint
    assert call(installation.home, "config", "set", "timezone", "Europe/Paris").status == 0
    assert call(installation.home, "list").status == 0
    assert call(installation.home, "config", "set", "timezone", "Middle/Earth").status == 2
