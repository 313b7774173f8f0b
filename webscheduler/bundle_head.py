# SPDX-License-Identifier: LGPL-3.0-or-later
"""The beginning of a bundle: finds and loads the modules that follow in the same file. `bundle` fills in its names.

The rules: compiled modules are cached only in a directory that only our own user can open and that is not a symbolic
link, one for each bundle and Python; without one they are compiled at each start. No syntax newer than Python 3.5 is
used here, so that an older Python gets as far as saying that it is too old.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

HOME = ""  # e.g. "/home/account/.webscheduler"; empty: WEBSCHEDULER_HOME, else ~/.webscheduler
BUILD = ""  # hash of all files in it
LOWEST = (3, 9)  # of this package and of its filelock
FILES = ""  # names of the files in it


def unavailable(why: str) -> None:
    """Answer 503 as the package would, and say why in the server's error log."""
    if "GATEWAY_INTERFACE" in os.environ:
        os.write(1, b"Status: 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 19\r\n"
                    b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n{\"accepted\": false}")

    try:
        sys.stderr.write("webscheduler: %s\n" % why)
        sys.stderr.flush()
    finally:
        os._exit(1 if "GATEWAY_INTERFACE" not in os.environ else 0)


class Bundle:
    """A finder and loader of modules (PEP 451), and of data files (`get_data`)."""

    def __init__(self, path: str, cache: str) -> None:
        self.path, self.cache = path, cache
        self.files = frozenset(FILES.split())
        self.texts = {}  # type: dict[str, str]

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """The spec of a module in the bundle, or None."""
        file = name.replace(".", "/")

        for each, is_package in ((file + ".py", False), (file + "/__init__.py", True)):
            if each in self.files:
                made = type(sys.__spec__)  # to import it by its name would slow down each start
                spec = made(name, self, origin=self.path + "/" + each, is_package=is_package)  # type: ignore[arg-type]
                spec.has_location = True
                return spec

        return None

    def create_module(self, spec: "ModuleSpec") -> None:
        """Modules are created as usual."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run a module's code."""
        import marshal

        origin = str(module.__spec__.origin)  # type: ignore[union-attr]
        name = origin[len(self.path) + 1:]
        compiled = self._cached(name)

        try:
            code = marshal.loads(compiled) if compiled else None
        except (EOFError, ValueError, TypeError):
            code = None  # torn by a power cut

        if code is None:
            code = compile(self._carried(name), origin, "exec", dont_inherit=True)
            self._keep(name, marshal.dumps(code))

        exec(code, module.__dict__)

    def get_data(self, path: str) -> bytes:
        """The content of a file in the bundle, by its path beside a module's __file__."""
        name = path[len(self.path) + 1:]

        if name not in self.files:
            raise OSError(2, "not in the bundle", path)

        data = self._cached(name)

        if data is None:
            data = self._carried(name)
            self._keep(name, data)

        return data

    def _carried(self, name: str) -> bytes:
        if not self.texts:
            import binascii
            import json
            import zlib

            with open(self.path, "rb") as file:
                lines = file.read().split(b"\n")

            if not any(line.startswith(b"BUILD = ") and BUILD.encode() in line for line in lines[:100]):
                raise ImportError("%s was replaced meanwhile" % self.path)

            data = b"".join(line[2:] for line in lines[lines.index(b"# DATA") + 1:])
            self.texts = json.loads(zlib.decompress(binascii.a2b_base64(data)).decode("ascii"))

        return self.texts[name].encode("latin-1")

    def _cached(self, name: str) -> "bytes | None":
        try:
            with open(self.cache + "/" + name.replace("/", "@"), "rb") as file:
                return file.read()
        except OSError:
            return None

    def _keep(self, name: str, data: bytes) -> None:
        if not self.cache:
            return

        final = self.cache + "/" + name.replace("/", "@")
        temporary = "%s.%d.%s.tmp" % (final, os.getpid(), os.urandom(4).hex())

        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

            with open(descriptor, "wb") as file:
                file.write(data)

            os.replace(temporary, final)
        except OSError:
            pass  # a full disk: the next start compiles again


def cache_directory() -> str:
    """The directory for compiled modules, created if needed; empty if none is safe."""
    home = HOME or os.environ.get("WEBSCHEDULER_HOME") or os.path.expanduser("~/.webscheduler")
    tag = "%s-%x" % (sys.implementation.cache_tag, sys.hexversion)
    directory = "%s/cache/%s-%s" % (home, BUILD[:32], tag)

    try:
        if not os.path.isdir(directory):
            _prepare(home, directory, tag)

        for each in (home + "/cache", directory):
            status = os.lstat(each)

            # A directory and not a link, ours, and closed to group and others.
            if status.st_mode & 0o170077 != 0o040000 or status.st_uid != os.geteuid():
                return ""
    except OSError:
        return ""

    return directory


def _prepare(home: str, directory: str, tag: str) -> None:
    """Create the cache if the home exists and is ours, and remove those of other bundles for this Python."""
    if os.stat(home).st_uid != os.geteuid():
        return

    for each in (home + "/cache", directory):
        try:
            os.mkdir(each, 0o700)
        except FileExistsError:
            pass

    for other in os.listdir(home + "/cache"):
        old = home + "/cache/" + other

        if other.endswith("-" + tag) and old != directory and not os.path.islink(old):
            for name in os.listdir(old):
                os.unlink(old + "/" + name)

            os.rmdir(old)


def main() -> None:
    """Answer a request, or be the command line."""
    if HOME:
        os.environ["WEBSCHEDULER_HOME"] = HOME

    # A query without "=" reaches a script as arguments (RFC 3875, 4.4): they must not become a command line.
    if "GATEWAY_INTERFACE" in os.environ or "REQUEST_METHOD" in os.environ:
        import gc

        gc.disable()  # a request is over before it pays; a supervisor turns it on again

        try:
            from webscheduler.cgi import main as answer
        except (ImportError, OSError, MemoryError) as error:  # replaced meanwhile, no more open files
            unavailable("the package cannot be loaded: %s" % error)

        answer()
    else:
        from webscheduler.cli import main as command_line

        sys.exit(command_line())


if sys.version_info < LOWEST:
    unavailable("needs Python %d.%d or later, not %s: change the first line of %s"
                % (*LOWEST, sys.version.split()[0], __file__))

if __name__ in ("__main__", "bundle"):
    sys.meta_path.insert(0, Bundle(os.path.abspath(__file__), cache_directory()))

if __name__ == "__main__":
    main()
