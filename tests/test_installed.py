# SPDX-License-Identifier: LGPL-3.0-or-later
"""Somebody with an account that has a cgi-bin of Apache, and with nothing but Python's venv and pip, types what the
pages say, word by word: the first task; an upgrade, the way back, the uninstalling.

Rule: the address is the only thing that changes. What pip installs comes from a folder that has both versions, as an
index would; a constraint says when `pip install webscheduler` gets the old one.
"""

from __future__ import annotations

import json
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from tests import PACKAGE, sources
from tests.outside import Outside, until
from tests.pages import ADDRESS, DOCS, shell, typed
from tests.released import unpack
from tests.servers import KINDS, distribution, give, workplace
from tests.servers.server import Server, Site, free_port
from tests.test_versions import NEWER
from webscheduler import __version__

TUTORIAL = DOCS / "tutorial" / "first-task.md"
UPGRADE = DOCS / "how-to" / "upgrade.md"
UNINSTALL = DOCS / "how-to" / "uninstall.md"
OLD = "0.1.0"
AGAIN = ". ~/webscheduler/bin/activate\n"  # "in a later session, type the second line again"


def wheel(folder: Path, project: str, version: str, files: dict[str, bytes]) -> None:
    """A wheel (PEP 427) with these files, as an index would have it."""
    info = f"{project}-{version}.dist-info"
    files = {**files, f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    digests = {path: urlsafe_b64encode(sha256(content).digest()).decode() for path, content in files.items()}
    record = "".join(f"{path},sha256={digest.rstrip('=')},{len(files[path])}\n" for path, digest in digests.items())

    with zipfile.ZipFile(folder / f"{project}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            archive.writestr(path, content)


def index(folder: Path, packages: dict[str, Path]) -> None:
    """Make the folder, with what pip installs for `pip install webscheduler`: the package of each version, and
    filelock; the file OLD in it is the constraint that makes it OLD."""
    folder.mkdir()
    (folder / OLD).write_text(f"webscheduler=={OLD}\n")

    for version, package in packages.items():
        info = f"webscheduler-{version}.dist-info"
        wheel(folder, "webscheduler", version, {
            **{f"webscheduler/{name}": content for name, content in sources(package).items()},
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: webscheduler\nVersion: {version}\n"
                                "Requires-Dist: filelock\n".encode(),
            f"{info}/entry_points.txt": b"[console_scripts]\nwebscheduler = webscheduler.__main__:main\n"})

    lock = distribution("filelock")
    assert lock and lock.files
    wheel(folder, "filelock", lock.version, {
        str(file): Path(str(file.locate())).read_bytes() for file in lock.files
        if file.suffix != ".pyc" and file.name not in ("RECORD", "WHEEL", "INSTALLER", "REQUESTED")})


class Account:
    """Somebody's home in `folder`, and what is at `address` for others."""

    def __init__(self, folder: Path, address: str, user: str) -> None:
        self.folder, self.address, self.user = folder, address, user
        self.home = folder / ".webscheduler"
        self.packages = folder.parent / "packages"

    def types(self, *blocks: str, **variables: str) -> str:
        """What these blocks print. `python3` is that of the machine."""
        return typed("\n".join(blocks).replace(ADDRESS, self.address), self.folder, "/usr/local/bin:/usr/bin:/bin",
                     self.user, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.packages), PIP_DISABLE_PIP_VERSION_CHECK="1",
                     PIP_NO_CACHE_DIR="1", **variables)

    def runs(self, task: str) -> list[tuple[str, str]]:
        """How each of its runs was started and ended."""
        log = self.home / "logs" / f"{task}.jsonl"
        lines = map(json.loads, log.read_text().splitlines() if log.exists() else ())
        return [(line["trigger"], line["status"]) for line in lines]

    def idle(self) -> None:
        """Wait until all that was started in its name has ended."""
        until(lambda: not Outside(self.folder).processes(), "the end of all runs")

    def files(self) -> dict[Path, bytes]:
        """What is in its home."""
        return {path: path.read_bytes() for path in self.home.rglob("*") if path.is_file()}

    def of_the_program(self) -> list[Path]:
        """What its environment has of the program."""
        return [*self.folder.joinpath("webscheduler").rglob("*webscheduler*")]


@contextmanager
def account(old: Path | None = None) -> Iterator[Account]:
    """A new account with an empty public_html/cgi-bin. pip has the package under test and, if given, that of OLD."""
    kind = KINDS["apache-cgid"]

    with workplace(kind) as directory:
        folder, run = directory / "account", directory / "run"
        script = folder / "public_html" / "cgi-bin" / "webscheduler.cgi"

        for each in (script.parent, run):
            each.mkdir(parents=True)

        (run / "error.log").touch()
        index(directory / "packages", {__version__: PACKAGE, **({OLD: old} if old else {})})
        give(directory, kind.user)
        site = Site(directory, run, free_port(), kind.user, script, "", {}, (), "")

        with Server(kind.configure(site), site) as server:
            yield Account(folder, server.url.partition("/cgi-bin/")[0], kind.user)


def test_the_tutorial_runs() -> None:
    """Each block: the virtual environment, the run by URL, the call that is refused, the tick."""
    with account() as somebody:
        shown = somebody.types(*shell(TUTORIAL))
        somebody.idle()
        assert somebody.runs("backup") == [("cli", "success"), ("url", "success")]
        assert '{"accepted": false}' in shown
        assert "last tick:" in shown
        assert "me can sign in" in shown
        assert (somebody.folder / "backups" / "site.tar.gz").stat().st_size > 0


def test_install_upgrade_downgrade_uninstall(tmp_path: Path) -> None:
    """Each version goes on with the tasks, URLs and history of the one before, and the script in the cgi-bin serves
    both; OLD touches nothing of a newer format. Uninstalling leaves the home as it is, and nothing of the program."""
    install, init, *_ = shell(TUTORIAL)
    *upgrade, back = shell(UPGRADE)
    crontab, *uninstall, remove_program, remove_home = shell(UNINSTALL)
    assert back == f"pip install webscheduler=={OLD}\n"
    assert crontab == "webscheduler crontab uninstall\n"  # "if you used the account's crontab": not this one

    with account(unpack(OLD, tmp_path / OLD) / "webscheduler") as somebody:
        somebody.types(install, init, "webscheduler add hello --command hello",
                       PIP_CONSTRAINT=str(somebody.packages / OLD))
        script = somebody.folder / "public_html" / "cgi-bin" / "webscheduler.cgi"
        entry, urls = script.read_bytes(), set()

        for runs, (blocks, version) in enumerate(((["true"], OLD), (upgrade, __version__), ([back], OLD)), 1):
            somebody.types(AGAIN, *blocks)
            named, url = somebody.types(AGAIN, "webscheduler --version", "webscheduler url hello").splitlines()
            assert named.split()[-1] == version
            urls.add(url)
            answer = json.loads(somebody.types(f"curl -sS '{url}'"))
            assert answer["accepted"] and answer["run"]
            somebody.idle()
            assert somebody.runs("hello") == [("url", "success")] * runs

            if version != OLD:
                somebody.types(AGAIN, "webscheduler add also --command hello --on-success hello")

        assert len(urls) == 1 and script.read_bytes() == entry
        assert '"onSuccess": ["hello"]' in (somebody.home / "state.json").read_text()

        config = somebody.home / "config.json"
        settings = config.read_text()
        config.write_text(json.dumps({**json.loads(settings), "version": 2}))
        before = somebody.files()
        assert NEWER in somebody.types(AGAIN, "webscheduler list || [ $? = 1 ]")
        assert somebody.types(f"curl -sS -w '%{{http_code}}' '{urls.pop()}'") == '{"accepted": false}503'
        assert somebody.files() == before
        config.write_text(settings)

        (newest,) = (block for block in upgrade if block == "pip install --upgrade webscheduler\n")
        somebody.types(AGAIN, newest, *uninstall)
        before = somebody.files()
        assert somebody.of_the_program()
        somebody.types(AGAIN, "pip uninstall --yes webscheduler")
        assert somebody.of_the_program() == []
        somebody.types(remove_program)
        assert somebody.files() == before
        somebody.types(remove_home)
        assert {path.name for path in somebody.folder.iterdir()} == {
            "public_html", "webscheduler-before", "scheduler", "webscheduler.cgi", "tasks.json"}
        assert not [*script.parent.iterdir()]
