# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a trigger costs, told without a clock: the system calls that it makes, the files that it opens, what it imports.

`python -m tests.test_witnesses --write` writes tests/vectors/witnesses/PYxx.json anew for the Python that runs it. A
difference to what is there is no fault in itself; whoever makes one says in the commit what it gains.

Rule: the interpreter's own work is left out (its start, its library, memory), since it belongs to its build.
"""

from __future__ import annotations

import compileall
import difflib
import json
import os
import re
import shutil
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import LIBRARY, PACKAGE, SCRIPT
from tests.admin.client import Browser, populate
from tests.commandline import Done, call
from tests.installation import Installation, answered, asking
from tests.test_imports import LISTING, public
from webscheduler.store import state
from webscheduler.store.task import new_task
from webscheduler.times import format_time

GOLDEN = Path(__file__).parent / "vectors" / "witnesses" / "PY{}{}.json".format(*sys.version_info[:2])
STRACE = shutil.which("strace")
OPTIONS = ["-ff", "-y", "-s", "100", "-e", "signal=none"]
CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)(?:<[^>]*>)?(?: (E[A-Z]+))?")
MEMORY = {"brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "futex"}
ALIKE = {"newfstatat": "stat", "lstat": "stat", "statx": "stat", "openat": "open", "clone": "fork", "clone3": "fork",
         "vfork": "fork", "readlinkat": "readlink", "unlinkat": "unlink", "renameat": "rename", "renameat2": "rename",
         "faccessat2": "access", "faccessat": "access", "dup3": "dup2"}  # fmt: skip
MOVED = {"read", "pread64", "readv", "preadv", "write", "pwrite64", "writev"}  # calls whose result is a number of bytes
RUN = re.compile(r"[0-9]{14}-[0-9a-f]{8}")
OWN_NAME = re.compile(r"\.[0-9a-f.]+\.tmp")
HALVINGS = 10  # more of them find one of 10,000 than one of 10
TASKS = {"plain": {}, "timed": {"signature": "timed"}, "disabled": {"enabled": False},
         "allow-listed": {"ipAllowlist": ["198.51.100.7"]}}  # fmt: skip


class Call(NamedTuple):
    """One system call: its name, what it is about, its result, its error."""

    name: str
    about: str
    result: int
    error: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.name, self.about, self.error)))


def needs_strace() -> None:
    if STRACE is None:
        (pytest.fail if os.environ.get("WEBSCHEDULER_REQUIRE_ALL") else pytest.skip)("strace is missing")


def script(installation: Installation) -> Path:
    """The CGI script as `init` writes it: it knows where the package is, since a bare Python (-I -S) does not."""
    file = installation.home.parent / "cgi-bin" / "webscheduler.cgi"

    if not file.exists():
        file.parent.mkdir()
        file.write_text(SCRIPT.read_text().replace("LIBRARIES = []", f"LIBRARIES = [{str(LIBRARY)!r}]"))

    return file


def imported(installation: Installation, environ: dict[str, str]) -> list[str]:
    """What had been imported when the request was answered."""
    words = [sys.executable, "-I", "-S", "-c", LISTING, str(LIBRARY)]

    with installation.start_cgi(environ, words=words, script=script(installation)) as process:
        return sorted(public(set(answered(process).errors.split())))


def traced(installation: Installation, environ: dict[str, str]) -> list[list[Call]]:
    """The calls of the request's process, from the reading of the script on, and of each process that it left, in the
    order of their starts. All of them have ended."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(STRACE), *OPTIONS, "-o", f"{folder}/of", sys.executable, "-I", "-S"]

        with installation.start_cgi(environ, words=words, script=script(installation)) as process:
            assert answered(process).status in (200, 202, 404, 503)

        files = sorted(Path(folder).iterdir(), key=lambda file: int(file.suffix[1:]))
        texts = [file.read_text("utf-8", "replace") for file in files]
        texts.sort(key=lambda text: f'"{script(installation)}", O_RDONLY' not in text)  # numbers begin anew some time
        return [_calls(text, installation) for text in texts]


def _calls(text: str, installation: Installation) -> list[Call]:
    """The calls of one process's trace, without memory, and in the request's without what comes before the script."""
    read = text.rfind(f'"{script(installation)}", O_RDONLY')
    text = text[max(read, 0) :]
    found = []

    for line in text.splitlines():
        match = CALL.match(line)

        if match and match[1] not in MEMORY:
            about = _about(match[1], match[2], installation.home)
            found.append(Call(ALIKE.get(match[1], match[1]), about, int(match[3], 0) if match[3] != "?" else 0,
                              match[4] or ""))  # fmt: skip

    return found


def _about(name: str, arguments: str, home: Path) -> str:
    """The file that a call is about, named so that it is the same everywhere; else empty."""
    found = re.match(r'(?:AT_FDCWD(?:<[^>]*>)?, )?"(/[^"]*)"|\d+<([^>]*)>(?:, "([^"]*)")?', arguments)
    first, opened_as, below = found.groups("") if found else ("", "", "")
    path = first or os.path.join(opened_as, below if "at" in name else "").rstrip("/")  # fstat(2) has a "" there

    for place, name in ((home, "home"), (PACKAGE, "package"), (LIBRARY, "library"),
                        (home.parent, "script")):  # fmt: skip
        if path == str(place) or path.startswith(f"{place}/"):
            return OWN_NAME.sub(".N.tmp", RUN.sub("RUN", name + path[len(str(place)):]))

    if path.startswith(tuple(sysconfig.get_paths().values())) or "/lib/python" in path or path.endswith(".zip"):
        return "python"

    return re.sub(r"/proc/\d+", "/proc/PID", re.sub(r"^(pipe|socket|anon_inode):.*", r"\1", path))


def own(calls: list[Call]) -> list[str]:
    """What is done for the request: everything but imports."""
    return [str(call) for call in calls if not call.about.startswith(("package", "library", "script", "python"))]


def modules(calls: list[Call]) -> list[str]:
    """The package's own modules that were loaded."""
    found = (re.match(r"package/(?:(.*)/)?__pycache__/(\w+)\.", call.about) for call in calls if call.name == "open")
    names = {".".join(filter(None, ((match[1] or "").replace("/", "."), match[2]))) for match in found if match}
    return sorted(names)


def opened(calls: list[Call]) -> list[str]:
    """The files of the home that were opened."""
    return sorted({call.about for call in calls if call.name == "open" and call.about.startswith("home")})


def moved(calls: list[Call], name: str) -> int:
    """Bytes that were read (`read`) or written of the home's files."""
    return sum(max(0, call.result) for call in calls
               if call.name in MOVED and name in call.name and call.about.startswith("home"))  # fmt: skip


def ready(installation: Installation, name: str = "task") -> None:
    """Do what the first runs after a change, and the first refusal of a minute, have to do besides."""
    for _ in range(2):
        traced(installation, installation.signed(name))

    installation.cgi(asking("/run/" + "ab" * 16, "sig=1"))


def witness(installation: Installation) -> dict[str, Any]:
    """What the file of vectors holds."""
    installation.add(argv=["/bin/true"])
    ready(installation)
    unsigned = asking("/run/" + "ab" * 16, "sig=" + "0" * 64)
    refused = traced(installation, unsigned)
    assert len(refused) == 1
    accepted, supervisor, *others = traced(installation, installation.signed())
    counted = ("fork", "execve", "fsync", "fdatasync", "rename", "unlink", "flock")
    return {
        "refused": {"calls": own(refused[0]), "modules": imported(installation, unsigned)},
        "accepted": {"calls": own(accepted), "modules": imported(installation, installation.signed())},
        "supervisor": {"files": opened(supervisor), "modules": modules(supervisor), "processes": len(others),
                       "counts": {name: sum(call.name == name for call in supervisor) for name in counted}},
    }  # fmt: skip


def text_of(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=1) + "\n"


def test_a_trigger_does_what_is_written(installation: Installation) -> None:
    """A refused and an accepted trigger make the system calls, open the files and import the modules of the vectors."""
    needs_strace()

    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN.name} is not written: python -m tests.test_witnesses --write")

    before, now = GOLDEN.read_text().splitlines(), text_of(witness(installation)).splitlines()
    assert before == now, "\n".join(difflib.unified_diff(before, now, lineterm=""))


@pytest.mark.parametrize("indexed", [
    pytest.param(True, id="index"),
    pytest.param(False, id="no index"),
])
@pytest.mark.parametrize("shape", ["static", "timed", "none", "altered", "status"])
def test_the_work_tells_nothing_of_the_task(installation: Installation, shape: str, indexed: bool) -> None:
    """Without a valid signature the same is opened, called, loaded, read and written, whatever task the slug names:
    none, a plain one, one that is timed, disabled, or has a list of addresses."""
    needs_strace()
    wrong = "sig=" + "0" * 64
    query = {"static": wrong, "timed": f"ts={int(time.time())}&{wrong}", "none": "",
             "altered": wrong.replace("=", "%3D"), "status": wrong}[shape]
    kind = "status" if shape == "status" else "run"
    slugs = {"unknown": "8" * 32}  # in the order of slugs it is between others, as most are

    for name, slug in zip(TASKS, "17af"):
        installation.add(name, argv=["/bin/true"], slug=slug * 32, **TASKS[name])
        slugs[name] = slug * 32

    more = {f"more {number}": new_task(time.time(), {"slug": f"{number:032x}"}) for number in range(20)}
    state.update(str(installation.home), lambda tasks: tasks.update(more))  # the index is not read at once
    ready(installation, "plain")
    # There is no more room for refusals, some of which are of slugs that are known.
    refusal = {"at": format_time(0), "ip": "192.0.2.1", "method": "GET", "problem": "another"}
    full = [{**refusal, "slug": slug} for slug in (*(f"{number:032x}" for number in range(45)), *slugs.values())]
    found = {}

    for name, slug in slugs.items():
        if not indexed:
            (installation.home / "index").unlink(missing_ok=True)

        (installation.home / "refused.json").write_text(json.dumps(full))
        os.utime(installation.home / "refused.json", (0, 0))  # so that each refusal writes it
        calls, = traced(installation, asking(f"/{kind}/{slug}", query))
        found[name] = [(str(call), call.result if call.name in MOVED else 0) for call in calls]

    assert found["unknown"]
    assert any(about == "open home/index" for about, _ in found["unknown"]) == indexed

    for name, calls in found.items():
        assert calls == found["unknown"], name


def test_a_request_reads_as_much_of_many_tasks(installation: Installation) -> None:
    """With 10,000 tasks a trigger, refused or skipped, and a status URL, of a task that is late or not, read what they
    read with 10, but for the lines that more halvings look at."""
    needs_strace()
    ago = format_time(time.time() - 86400)
    installation.add(argv=["/bin/true"])
    installation.add("late", intervalSeconds=3600, createdAt=ago, lastRunAt=ago)
    installation.add("listed", ipAllowlist=["198.51.100.7"])
    requests = [asking("/run/" + "ab" * 16, "sig=" + "0" * 64), installation.signed("listed"),
                installation.asking_status(), installation.asking_status("late")]  # fmt: skip
    read: list[list[int]] = []

    for count in (10, 10_000):
        rows = {f"task-{number}": new_task(time.time(), {"argv": ["/bin/true"]}) for number in range(count - 2)}
        state.update(str(installation.home), lambda tasks, rows=rows: tasks.update(rows))
        ready(installation)
        installation.call("cgi", requests[1])  # its line of history, as one a minute
        read.append([moved(traced(installation, environ)[0], "read") for environ in requests])

    assert all(many - few <= HALVINGS * 512 for few, many in zip(*read)), read


def in_panel(installation: Installation, path: str, **fields: str) -> None:
    """Save a form of the panel."""
    populate(installation)
    browser = Browser(installation)
    assert browser.sign_in().status == 200
    browser.get(path, name="task")
    assert browser.submit(path, **fields).status == 200


def by_hand(installation: Installation, in_place: bool) -> None:
    file = installation.home / "state.json"
    edited = file.read_text().replace('"description": ""', '"description": "edited"')
    assert edited != file.read_text()
    new = file if in_place else file.with_name("new")
    new.write_text(edited)
    new.replace(file)


# A change, and the name of the task after it.
CHANGES: dict[str, Any] = {
    "by a program": lambda installation: installation.edit(title="Another"),
    "edit": lambda installation: call(installation.home, "edit", "task", "--title", "Another"),
    "add": lambda installation: call(installation.home, "add", "more", "--", "true"),
    "remove": lambda installation: call(installation.home, "remove", "other", "--yes"),
    "rename": lambda installation: call(installation.home, "rename", "task", "renamed"),
    "rotate-secret": lambda installation: call(installation.home, "rotate-secret", "task"),
    "disable": lambda installation: call(installation.home, "disable", "other"),
    "config set": lambda installation: call(installation.home, "config", "set", "defaultTimeout", "77"),
    "a setting by a program": lambda installation: installation.configure(defaultTimeout=77),
    "a task in the panel": lambda installation: in_panel(installation, "edit", title="Another", do="save"),
    "a setting in the panel": lambda installation: in_panel(installation, "settings", defaultTimeout="77"),
    "by hand": lambda installation: by_hand(installation, in_place=False),
    "by hand in place": lambda installation: by_hand(installation, in_place=True),
    "the end of a run": lambda installation: traced(installation, installation.signed("other")),
    "the end of a run by hand": lambda installation: call(installation.home, "run", "other"),
    "a tick": lambda installation: call(installation.home, "run-due"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_second_trigger_after_a_change_reads_the_index(installation: Installation, change: str) -> None:
    """The first trigger after a change, or the change itself, leaves an index that the second one believes."""
    needs_strace()
    installation.configure(baseUrl="https://example.org/cron")
    installation.add(argv=["/bin/true"])
    installation.add("other", argv=["/bin/true"])
    ready(installation)
    before = (installation.home / "state.json").read_bytes(), (installation.home / "config.json").read_bytes()
    done = CHANGES[change](installation)
    assert not isinstance(done, Done) or done.status == 0, done
    name = "renamed" if change == "rename" else "task"
    assert before != ((installation.home / "state.json").read_bytes(), (installation.home / "config.json").read_bytes())
    traced(installation, installation.signed(name))
    request = traced(installation, installation.signed(name))[0]
    assert "home/index" in opened(request)
    assert not [str(each) for each in request if each.about.startswith("home/state.json") and "read" in each.name]


def main() -> int:
    if sys.argv[1:] != ["--write"] or STRACE is None:
        print("usage: python -m tests.test_witnesses --write    (needs strace)", file=sys.stderr)
        return 2

    compileall.compile_dir(str(PACKAGE), quiet=1)

    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder, "home"))

        try:
            GOLDEN.parent.mkdir(exist_ok=True)
            GOLDEN.write_text(text_of(witness(installation)))
        finally:
            installation.end()

    return 0


if __name__ == "__main__":
    raise SystemExit(main())
