"""Writing that a kill or a full disk leaves whole. A leaf: imports the standard library alone.

The rule of `replace`: temporary file in the same directory, flush, fsync, rename, fsync of the directory (rename(2):
atomic only within a file system; the directory's entry is durable only once the directory is synced).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def replace_file(path: str, content: bytes | Iterable[bytes], mode: int = 0o600) -> None:
    """Replace a file so that a reader, or a power cut, meets the old or the new content and never a part."""
    directory = os.path.dirname(path)
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    try:
        os.fchmod(descriptor, mode)  # the umask may have taken bits of it away

        for part in (content,) if isinstance(content, bytes) else content:
            _write(descriptor, part)

        os.fsync(descriptor)
        os.close(descriptor)
        descriptor = -1
        os.replace(temporary, path)
    except BaseException:
        if descriptor >= 0:
            os.close(descriptor)

        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise

    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot sync a directory; the replacement itself stands
    finally:
        os.close(descriptor)


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
