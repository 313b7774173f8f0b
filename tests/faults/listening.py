# SPDX-License-Identifier: LGPL-3.0-or-later
"""Runs an act in a process whose system calls, and those of all that it starts, ask us first; and makes one fail.

Rules: the filter (seccomp(2)) is inherited over fork and exec, so no process of the act escapes it, and when the last
one ends the listener says so; we are the parent of all whose own has ended (PR_SET_CHILD_SUBREAPER), and reap them. A
call that is to fail is not made; a process is killed before its call.
Why not strace: it counts the calls of each process for itself, so a fault that is meant for a supervisor strikes the
request before it; and it needs a new interpreter for each fault, which with all that follows takes 130 ms of processor
instead of 22 (measured).
"""

from __future__ import annotations

import collections
import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from tests import PACKAGE
from tests.faults import calls
from tests.faults.calls import Place

RECEIVE, SEND, ADD = 0xC0502100, 0xC0182101, 0x40182103  # linux/seccomp.h
GO_ON, REPLACE = 1, 1
SUBREAPER, NO_NEW_PRIVILEGES = 36, 38  # prctl(2)
NEW_LISTENER, KILLABLE = 8, 32  # the latter: a signal does not make a call ask twice (Linux 5.19)
NUMBER = {"x86_64": 317, "aarch64": 277}
LIMIT = 60.0  # seconds until an act is ended, and said to hang; gates and histories are waited for by 10 and 30
libc = ctypes.CDLL(None, use_errno=True)


class Fault(NamedTuple):
    """What happens at a place. kind: kill (the process), killall (all of the act), torn (half of a write, then kill),
    short (half of a write), once (an error), lasting (the error at each call from there on that may have it)."""

    kind: str
    place: Place
    error: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.error + ' ' if self.error else ''}at {self.place}"


class Ended(NamedTuple):
    """What became of an act. status: as os.waitpid tells; places: its calls, without a fault; passed: how many others
    there were, by kind; struck: whether the fault took place; hung: whether it had to be ended; reused: descriptors
    used again after a close that failed."""

    output: bytes
    errors: bytes
    status: int
    places: list[Place]
    passed: dict[str, int]
    struck: bool
    hung: bool
    reused: list[str]


def usable() -> str:
    """Why nothing can be done here; empty if it can."""
    if calls.MACHINE is None:
        return "only for x86_64 and aarch64"

    ended = perform(lambda: None, "/nowhere", watched=False)
    return "" if ended.status == 0 else "the kernel has no seccomp listener (Linux 5.19), or this container forbids it"


def perform(
    act: Callable[[], int | None], home: str, fault: Fault | None = None, watched: bool = True, imports: bool = False
) -> Ended:
    """Do the act in a process of its own, and wait for all that it starts. watched: note its calls, or strike one;
    imports: those that open modules, too."""
    libc.prctl(SUBREAPER, 1, 0, 0, 0)
    ours, theirs = socket.socketpair()
    output, errors = os.pipe(), os.pipe()
    pid = os.fork()

    if pid == 0:
        _child(act, theirs, output[1], errors[1], watched)

    theirs.close()
    os.close(output[1])
    os.close(errors[1])
    _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    watch = Watch(home, fault, pid, imports)
    texts = {output[0]: b"", errors[0]: b""}

    try:
        hung = _attend(watch, descriptors[0], texts) if descriptors else False

        for descriptor in texts:
            while data := os.read(descriptor, 65536):
                texts[descriptor] += data
    finally:
        for descriptor in (*descriptors, output[0], errors[0]):
            os.close(descriptor)

    return Ended(texts[output[0]], texts[errors[0]], _reap(pid), watch.places, watch.passed, watch.struck, hung,
                 sorted(watch.reused))


def _reap(first: int) -> int:
    """Wait until all processes of the act are gone, and their locks with them; the status of the first. The listener
    tells of their end a moment before their files are closed; those whose parent has ended are our children now."""
    found = 0

    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return found

        found = status if pid == first else found


def _child(act: Callable[[], int | None], theirs: socket.socket, output: int, errors: int, watched: bool) -> None:
    status = 1

    try:
        null = os.open(os.devnull, os.O_RDONLY)

        for source, target in ((null, 0), (output, 1), (errors, 2)):
            os.dup2(source, target)

        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", 1, closefd=False)
        keep = theirs.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 256)
        listener = _listen(sorted(calls.BY_NUMBER) if watched else [])

        if listener >= 0:
            socket.send_fds(theirs, [b"x"], [listener])
            status = act() or 0
            sys.stdout.flush()
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _listen(numbers: list[int]) -> int:
    """Have the calls of these numbers ask whoever has the descriptor that is returned; -1 if that is not possible."""
    machine = os.uname().machine
    lines = [(0x20, 0, 0, 4), (0x15, 0, len(numbers) + 1, calls.ARCHITECTURE[calls.MACHINE or 0]), (0x20, 0, 0, 0)]
    lines += [(0x15, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    lines += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x7FC00000)]  # allow, ask
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    filled = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(program)))
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)  # else only root may do this
    return int(libc.syscall(NUMBER[machine], 1, NEW_LISTENER | KILLABLE, ctypes.byref(filled)))


def _attend(watch: Watch, listener: int, texts: dict[int, bytes]) -> bool:
    """Answer all questions until the last process has ended. Returns whether it had to be ended."""
    poller = select.poll()
    deadline = time.monotonic() + LIMIT

    for descriptor in (listener, *texts):
        poller.register(descriptor, select.POLLIN)

    while True:
        for descriptor, events in poller.poll(max(0.0, deadline - time.monotonic()) * 1000 + 1):
            if descriptor != listener:
                data = os.read(descriptor, 65536)
                texts[descriptor] += data

                if not data:
                    poller.unregister(descriptor)
            elif events & select.POLLIN:
                watch.answer(listener)
            elif events & select.POLLHUP:
                return False

        if time.monotonic() > deadline:
            watch.end()
            return True


class Watch:
    """Decides about each call of an act."""

    def __init__(self, home: str, fault: Fault | None, pid: int, imports: bool) -> None:
        self.imports, self.passed = imports, collections.Counter()  # type: ignore[var-annotated]
        self.home, self.fault, self.places, self.struck, self.reused = home, fault, [], False, set()  # type: ignore[var-annotated]
        self._names = {pid: "1"}  # of processes, by pid
        self._children: dict[str, int] = {}
        self._counts: dict[tuple[str, str, str], int] = {}
        self._starting: set[int] = set()  # interpreters that have not come to our code yet
        self._commands: set[int] = set()
        self._failed: dict[tuple[int, int], str] = {}  # what descriptors meant whose close failed
        self._lasting: tuple[str, int] | None = None  # its error, and the process that it is about, or 0

    def answer(self, listener: int) -> None:
        """Take one question, and answer it."""
        question = bytearray(80)

        try:
            fcntl.ioctl(listener, RECEIVE, question)
        except OSError:
            return  # the process was killed, or had a signal, meanwhile

        identifier, pid, _, number = struct.unpack_from("QIIi", question)
        reply, error, flags = 0, 0, GO_ON

        try:
            if pid in self._commands:
                self.passed["of a command"] += 1
            elif not self.struck or self._lasting:
                reply, error, flags = self._decide(listener, identifier, pid, calls.BY_NUMBER[number],
                                                   struct.unpack_from("6Q", question, 32))  # fmt: skip
        except OSError:
            pass  # it was killed meanwhile

        try:
            fcntl.ioctl(listener, SEND, struct.pack("QqiI", identifier, reply, -error, flags))
        except OSError as failed:
            if failed.errno != errno.ENOENT:  # killed
                raise

    def end(self) -> None:
        """Kill all processes of the act that are known."""
        for pid in self._names:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _decide(
        self, listener: int, identifier: int, pid: int, call: str, words: tuple[int, ...]
    ) -> tuple[int, int, int]:
        go_on = (0, 0, GO_ON)
        name, path = calls.ALIKE.get(call, call), self._path(pid, call, words)
        name = "fstat" if name == "stat" and call in calls.PATH_SECOND and self._of_descriptor(pid, words) else name
        process = self._process(pid)

        if pid in self._starting:
            if path.startswith(str(PACKAGE)):
                self._starting.discard(pid)

            self.passed["of an interpreter's start"] += 1
            return go_on

        about = calls.named(path, self.home) if path else "-"

        if self.imports and name == "open" and not about:
            about = calls.module(path)

        if call == "execve":
            about = "python" if "python" in os.path.basename(path) else path
            (self._starting if about == "python" else self._commands).add(pid)

        if not about or process is None:
            self.passed["of imports" if process else "of what a command starts"] += 1
            return go_on

        if (pid, words[0] & 0xFFFFFFFF) in self._failed and call in calls.OF_DESCRIPTOR:
            self.reused.add(f"{name} after its close failed: {self._failed[pid, words[0] & 0xFFFFFFFF]}")

        flags = words[2 if call == "openat" else 1] if name == "open" else 0
        changes = bool(flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))
        count = self._counts[process, name, about] = self._counts.get((process, name, about), 0) + 1

        if self.fault is None:
            size = words[2] if name == "write" and about.startswith("home") else 0
            self.places.append(Place(process, name, about, count, changes, size,
                                     bool(size) and self._appends(pid, words[0])))  # fmt: skip
            return go_on

        if (process, name, about, count) == self.fault.place.key and not self.struck:
            self.struck = True
            return self._strike(listener, identifier, pid, name, words)

        if self._lasting and self._lasting[1] in (0, pid) and self._lasting[0] in calls.errors_of(name, about, changes):
            return self._fail(listener, identifier, pid, name, words, self._lasting[0])

        return go_on

    def _strike(
        self, listener: int, identifier: int, pid: int, name: str, words: tuple[int, ...]
    ) -> tuple[int, int, int]:
        assert self.fault

        if self.fault.kind in ("torn", "short"):
            half = words[2] // 2
            self._write(pid, words[0], calls.text_at(pid, words[1], half))

            if self.fault.kind == "short":
                return half, 0, 0

        if self.fault.kind in ("kill", "torn"):
            waiting = select.poll()
            waiting.register(listener, select.POLLIN)

            # SIGCHLD ends a call of the parent that is not taken yet with EINTR, and a close is then never made.
            while waiting.poll(0):
                self.answer(listener)

            os.kill(pid, signal.SIGKILL)
            return 0, 0, GO_ON

        if self.fault.kind == "killall":
            self.end()
            return 0, 0, GO_ON

        if self.fault.kind == "lasting":  # a process has a number of descriptors; the rest is the machine's
            self._lasting = self.fault.error, pid if self.fault.error == "EMFILE" else 0

        return self._fail(listener, identifier, pid, name, words, self.fault.error)

    def _fail(
        self, listener: int, identifier: int, pid: int, name: str, words: tuple[int, ...], error: str
    ) -> tuple[int, int, int]:
        if name == "close":  # close(2) closes whatever it returns; the number means /dev/null from now on
            self._failed[pid, words[0] & 0xFFFFFFFF] = calls.named(calls.opened(pid, words[0] & 0xFFFFFFFF), self.home)
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

            try:
                fcntl.ioctl(listener, ADD, struct.pack("QIIII", identifier, REPLACE, null, words[0] & 0xFFFFFFFF,
                                                       os.O_CLOEXEC))  # fmt: skip
            finally:
                os.close(null)

        if name == "execve":
            self._starting.discard(pid)
            self._commands.discard(pid)

        return 0, getattr(errno, error), 0

    def _process(self, pid: int) -> str | None:
        """What a process is called: by its parent, and as which child of it."""
        if pid not in self._names:
            with open(f"/proc/{pid}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])

            over = self._names.get(parent, "?")

            for child in self._children_of(parent, pid):
                if child not in self._names:  # in the order in which they were made, not of their first calls
                    self._children[over] = self._children.get(over, 0) + 1
                    self._names[child] = f"{over}.{self._children[over]}"

            if parent in self._commands:
                self._commands.add(pid)
                return None

        return self._names[pid]

    def _children_of(self, parent: int, pid: int) -> list[int]:
        if parent not in self._names:
            return [pid]

        try:
            with open(f"/proc/{parent}/task/{parent}/children") as file:
                found = [int(word) for word in file.read().split()]
        except OSError:
            found = []

        return found if pid in found else [pid]

    def _path(self, pid: int, call: str, words: tuple[int, ...]) -> str:
        if call in calls.PATH_FIRST:
            return calls.path_at(pid, words[0])

        if call in calls.PATH_SECOND:
            path = calls.path_at(pid, words[1]) if words[1] else ""
            directory = words[0] & 0xFFFFFFFF
            return path if path.startswith("/") or directory == 0xFFFFFF9C else os.path.join(
                calls.opened(pid, directory), path).rstrip("/")  # fmt: skip

        return calls.opened(pid, words[0] & 0xFFFFFFFF) if call in calls.OF_DESCRIPTOR else ""

    def _of_descriptor(self, pid: int, words: tuple[int, ...]) -> bool:
        return not words[1] or calls.text_at(pid, words[1], 1) == b"\0"

    def _appends(self, pid: int, descriptor: int) -> bool:
        with open(f"/proc/{pid}/fdinfo/{descriptor}") as file:
            return bool(int(file.read().split("flags:")[1].split()[0], 8) & os.O_APPEND)

    def _write(self, pid: int, descriptor: int, data: bytes) -> None:
        with open(f"/proc/{pid}/fdinfo/{descriptor}") as file:
            place = int(file.read().split()[1])

        target = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_WRONLY | (os.O_APPEND if self._appends(pid, descriptor)
                                                                        else 0))  # fmt: skip

        try:
            os.pwrite(target, data, place)  # to the end where the file is opened for that, as write(2) says
        finally:
            os.close(target)
