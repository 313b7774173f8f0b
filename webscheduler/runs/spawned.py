# SPDX-License-Identifier: LGPL-3.0-or-later
"""Supervises a run in a new Python process, for servers whose workers have threads, which keep neither signals nor the
claim: `spawn`, `resume_argv` and `supervise_elsewhere` are called in the worker, and `resume` is what is started.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import time

from .. import vocabulary as words
from ..store.files import file_name, is_same_file
from ..store.locks import Claim, facts_of
from ..store.settings import load_settings
from . import detach, supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

    from ..shapes import Result
    from ..store.lookup import View

REPORTED = 3800  # characters of each stream that a waiting request can use
_spawned: list[subprocess.Popen[bytes]] = []


def _leave_running() -> None:
    """At the end of this process: the children continue, so Python need not warn that they do."""
    for child in _spawned:
        child.returncode = 0


def spawn(argv: Sequence[str], claim: Claim, wait: bool = False) -> bytes:
    """Start `argv` in a session of its own with no descriptor of ours but the claim, which is closed here as soon as
    its exec has succeeded: this process is not of the run. Signals that tell it to end are blocked until it takes them
    (`supervisor.Signals`).

    wait: wait for the end of its standard output, and return what it wrote there. Raises OSError if it cannot be
    started.
    """
    # Reap the children of earlier calls that have ended, so that a long-lived worker collects no zombies.
    # Another thread may do the same at this moment, so children are removed one by one.
    for child in [child for child in _spawned if child.poll() is not None]:
        try:
            _spawned.remove(child)
        except ValueError:
            pass

    # The mask is inherited over fork and exec (signal(7)), and is this thread's alone.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, detach.TO_END)

    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if wait else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=[claim.descriptor], start_new_session=True, cwd="/")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    claim.close()
    _spawned.append(child)
    atexit.unregister(_leave_running)
    atexit.register(_leave_running)

    if child.stdout is None:
        return b""

    try:
        with child.stdout as output:
            return output.read()
    except OSError:  # it was started, whatever became of its answer
        child.wait()
        return b""


_programs: dict[str, tuple[str, list[str]]] = {}  # home -> (identity of config.json; argv without the descriptor)


def resume_argv(home: str, claim: Claim, view: View) -> list[str]:
    """argv of a new Python process that supervises the run instead of this one. Most of it is kept while the settings,
    which name the interpreter, are the same; what an index was made from is identified without a doubt."""
    settings, argv = _programs.get(home, ("", []))

    if not view.signed or settings != view.sources[1] or not os.access(argv[0], os.X_OK):
        from ..commands.registry import python

        argv = python(load_settings(home), "webscheduler.runs.spawned:resume", home, site=False)
        _programs[home] = view.sources[1], argv

    return [*argv, str(claim.descriptor)]


def supervise_elsewhere(home: str, claim: Claim, clock: Callable[[], float], view: View) -> Result:
    """Pass the claim to such a process, and wait for the line of history that it prints."""
    argv = resume_argv(home, claim, view)
    seen = Claim(claim.path, -1, claim.name, claim.run)

    try:
        seen.descriptor = os.open(claim.path, os.O_RDONLY | os.O_CLOEXEC)
        reported = spawn(argv, claim, wait=True)
    except OSError as error:
        from . import recorder

        seen.close()
        why = f"the host gave no process: {argv[0]}: {error.strerror}\n"
        return recorder.finish(home, claim, recorder.outcome(words.FAILED, words.NO_PROCESS, error_output=why),
                               load_settings(home)["timezone"], clock())[0]

    result: Result = {"run": claim.run, "status": words.INTERRUPTED, "reason": words.FOUND_DEAD, "exitCode": None,
                      "duration": None, "output": "", "errorOutput": ""}

    try:
        result.update(json.loads(reported))
    except ValueError:  # it was killed
        try:
            # The claim of a run that is recorded is unlinked, but can be read here.
            result["recorded"] = not is_same_file(seen.descriptor, seen.path)
            result.update(seen.facts().get("outcome", {}))  # type: ignore[typeddict-item]
        except OSError as error:
            result["problem"] = str(error)

    seen.close()
    return result


def resume(home: str, descriptor: str) -> None:
    """What `resume_argv` runs: supervise the run whose claim is open as `descriptor`, and print its line of history."""
    facts = facts_of(int(descriptor))
    name, run = facts["name"], facts["run"]
    claim = Claim(os.path.join(home, "runs", f"{file_name(name)}@{run}"), int(descriptor), name, run)

    def tell(entry: Result) -> None:
        short = {stream: entry[stream][:REPORTED] for stream in ("output", "errorOutput")}

        try:
            print(json.dumps({**entry, **short}), flush=True)
        except OSError:
            pass  # who asked is gone

        detach.silence()  # the end of the output, for which the request waits

    supervisor.supervise(home, claim, time.time, tell)
    os._exit(0)  # all is written, and to take an interpreter down costs as much as half of its start
