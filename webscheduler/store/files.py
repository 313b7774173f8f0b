# SPDX-License-Identifier: LGPL-3.0-or-later
"""Writing files so that a kill or a full disk leaves them whole, locking them, and where they are.

The rules: a file is replaced by a temporary one in the same directory: write, fsync, rename, fsync of the directory
(rename(2): atomic only within a file system; the directory's entry is durable only once the directory is synced). No
lock is waited for without a limit: its holder may be stopped.
"""

from __future__ import annotations

import os
import time

from ..errors import Unusable
from . import close as close
from . import file_name as file_name

try:
    import fcntl
except ImportError:  # the package can be imported where it cannot work; `lock_file` says so
    fcntl = None  # type: ignore[assignment,unused-ignore]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..shapes import Any, Iterable


def find_home(environ: dict[str, str] | None = None) -> str:
    """Absolute path of the home directory: WEBSCHEDULER_HOME, else `~/.webscheduler`. It need not exist."""
    environ = environ if environ is not None else dict(os.environ)
    home = environ.get("WEBSCHEDULER_HOME")

    if not home:
        account = environ.get("HOME") or os.path.expanduser("~")  # under CGI (RFC 3875) nobody promises HOME

        if account == "~":
            raise Unusable("this account has no home: set WEBSCHEDULER_HOME or the HOME line of webscheduler.cgi")

        home = os.path.join(account, ".webscheduler")

    if "\0" in home or not os.path.isabs(home):
        raise Unusable(f"WEBSCHEDULER_HOME must be an absolute path, not {home[:100]!r}")

    return os.path.normpath(home)


def replace_file(path: str, content: bytes | Iterable[bytes], mode: int = 0o600, sync: str = "all",
                 copy: str = "") -> None:
    """Replace a file, so that whatever happens it has the old or the new content. After an OSError it is what it was.

    sync: `all`; `file`, where a power cut may bring the old content back; `none`, where it may tear the file. copy:
    another path, which gets the same content just before, and is synced only with `all`.
    """
    targets = [copy, path] if copy else [path]
    temporaries = [f"{target}.{os.getpid()}.{os.urandom(4).hex()}.tmp" for target in targets]
    # Opened before anything changes: later, an error would say that nothing was written.
    synced = sync == "all" and hasattr(os, "O_DIRECTORY")  # Windows opens no directory
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if synced else -1

    try:
        for target, temporary in zip(targets, temporaries):
            _make_file(temporary, content, mode, sync == "all" or (sync == "file" and target == path))

        for target, temporary in zip(targets, temporaries):
            os.replace(temporary, target)
    except BaseException:
        for temporary in temporaries:
            remove(temporary)
        raise
    else:
        if directory >= 0:
            try:
                os.fsync(directory)
            except OSError:
                pass  # some network file systems cannot sync a directory; the replacement itself stands
    finally:
        if directory >= 0:
            close(directory)


def _make_file(path: str, content: bytes | Iterable[bytes], mode: int, sync: bool) -> None:
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, how, mode)

    try:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)  # the umask may have taken bits of it away

        for part in (content,) if isinstance(content, bytes) else content:
            _write(descriptor, part)

        if sync:
            os.fsync(descriptor)
    except BaseException:
        close(descriptor)
        raise

    os.close(descriptor)  # an error counts: over a network, some say only now that the disk is full


def read_json(path: str) -> Any:
    """The JSON document in a file; None if there is none, or none that can be read."""
    import json

    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return None


def remove(path: str) -> None:
    """Unlink a file, if it is there and that is possible: whoever finds it later does it."""
    try:
        os.unlink(path)
    except OSError:
        pass


def append_bytes(descriptor: int, data: bytes) -> None:
    """Write the data to the end of a file opened for that, or nothing of it. Raises OSError."""
    end = os.fstat(descriptor).st_size

    try:
        _write(descriptor, data)
    except OSError:
        os.ftruncate(descriptor, end)  # the disk is full: no half line, and room for a shorter one
        raise


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)

    while view:
        view = view[os.write(descriptor, view):]


def is_same_file(descriptor: int, path: str) -> bool:
    """Whether an open file is still what the path means: neither removed nor replaced since it was opened."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def lock_file(descriptor: int, patience: float = 0.0) -> bool:
    """Take the exclusive lock (flock(2)) of an open file; False if somebody else still has it after so many seconds.
    Raises Unusable where files cannot be locked."""
    deadline = time.monotonic() + patience
    pause = 0.001

    while not _flock(descriptor, "LOCK_EX"):
        if time.monotonic() >= deadline:
            return False

        time.sleep(pause)
        pause = min(pause * 2, 0.002)  # longer, and of many who wait one may never get it

    return True


def open_locked(path: str, patience: float) -> int:
    """Open a file, made if there is none, and lock it, which may be replaced meanwhile. Returns a descriptor; closing
    it releases the lock. Raises OSError, a BlockingIOError after so many seconds of waiting; Unusable."""
    deadline = time.monotonic() + patience

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

        try:
            if not lock_file(descriptor, max(0.0, deadline - time.monotonic())):
                raise BlockingIOError(None, "another process keeps it locked")

            if is_same_file(descriptor, path):
                return descriptor
        except BaseException:
            close(descriptor)
            raise

        close(descriptor)


def unlock_file(descriptor: int) -> None:
    """Unlock, for all copies of the descriptor. Closing would leave the lock to a copy that a fork has made."""
    _flock(descriptor, "LOCK_UN")


def _flock(descriptor: int, operation: str) -> bool:
    if fcntl is None:
        raise Unusable("this Python has no fcntl, without which nothing can be locked: use one that has")

    try:
        fcntl.flock(descriptor, getattr(fcntl, operation) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise Unusable(f"files cannot be locked here ({error.strerror}): move the home to a local disk")

    return True
