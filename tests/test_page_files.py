# SPDX-License-Identifier: LGPL-3.0-or-later
"""What pages give to paste into files is taken by those who read it: servers' configurations by the servers, entries by
Python, jobs by published schemas and systemd.

Shell is typed in test_pages.py; test_prometheus.py tries the files of monitoring.md, test_applying.py those of
tasks-as-code.md.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest

from tests.installation import Installation
from tests.pages import DOCS, blocks
from tests.servers.apache import APACHE, MODULES, modules
from tests.servers.fronts import NGINX

REQUIRED = bool(os.environ.get("WEBSCHEDULER_REQUIRE_ALL"))
HOW_TO = [page for page in sorted((DOCS / "how-to").glob("*.md")) if not page.name.endswith(".fr.md")]


def needs(there: object, what: str) -> None:
    if not there:
        (pytest.fail if REQUIRED else pytest.skip)(f"{what} is missing")


def of(begins: str, *pages: str) -> list[str]:
    """The blocks of how-to pages, all or these, that begin so."""
    return [block for page in HOW_TO if page.name in (pages or (page.name,)) for block in blocks(page.read_text())
            if re.match(begins, block)]


def test_nginx_takes_its_blocks(tmp_path: Path) -> None:
    needs(shutil.which(NGINX), "nginx")
    shutil.copy("/etc/nginx/fastcgi_params", tmp_path)
    locations, formats = of("location ", "nginx.md"), of("log_format", "nginx.md")
    assert (len(locations), len(formats)) == (2, 1)
    text = "\n".join(["events {}", f"pid {tmp_path}/pid;", "http {", *formats,
                      *(f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi",
                                                                            "scgi")),
                      "server {", "listen 127.0.0.1:1;", *locations, "}", "}"])

    for given, status in ((text, 0), (text.replace("proxy_pass", "proxy_passes"), 1)):
        (tmp_path / "nginx.conf").write_text(given.replace("/var/log/nginx/", f"{tmp_path}/"))
        done = subprocess.run([NGINX, "-t", "-e", tmp_path / "log", "-c", tmp_path / "nginx.conf"], capture_output=True,
                              text=True)
        assert done.returncode == status, done.stderr


@pytest.mark.parametrize(("begins", "module"), [
    ("ScriptAlias /cron", "cgi"), ("WSGIDaemonProcess", "wsgi"), ("PassengerPython", "passenger")])
def test_apache_takes_its_blocks(begins: str, module: str, tmp_path: Path) -> None:
    needs(shutil.which(APACHE) and Path(MODULES, f"mod_{module}.so").exists(), f"Apache's mod_{module}")
    (block,) = of(begins, "apache.md", "passenger.md")
    block = block.replace("/srv/", f"{tmp_path}/").replace("/home/me/", f"{tmp_path}/")
    block = block.replace("user=me group=me", "user=daemon group=daemon")
    text = "\n".join([f"ServerRoot {tmp_path}", f"DefaultRuntimeDir {tmp_path}", "ServerName localhost",
                      "Listen 127.0.0.1:1", f"ErrorLog {tmp_path}/log",
                      *modules("mpm_prefork", "authz_core", "alias", module), block])

    for given, status in ((text, 0), (f"{text}\nWrong on\n", 1)):
        (tmp_path / "apache.conf").write_text(given)
        done = subprocess.run([APACHE, "-t", "-f", tmp_path / "apache.conf"], capture_output=True, text=True)
        assert done.returncode == status, done.stderr


def test_entries_are_applications(installation: Installation) -> None:
    """Each `application = create_app(…)` that is to be pasted answers a request."""
    entries = of("from webscheduler import create_app")
    assert len(entries) == 3

    for entry in entries:
        names: dict[str, object] = {}
        exec(entry.replace("/home/me/.webscheduler", str(installation.home)), names)  # as a server does
        environ: dict[str, object] = {"PATH_INFO": "/run/none"}
        setup_testing_defaults(environ)
        application = names["application"]
        assert callable(application)
        assert json.loads(b"".join(application(environ, lambda status, headers: None))) == {"accepted": False}


def lines_of(caller: str) -> list[tuple[str, str]]:
    """What is to be pasted for it: where, and the text."""
    (found,) = (each for each in json.loads((DOCS / "how-to" / "callers.json").read_text())["callers"]
                if each["name"] == caller)
    return [(lines["where"], "\n".join(lines["text"]) + "\n") for lines in found["lines"]]


@pytest.mark.parametrize(("caller", "schema"), [("GitHub Actions", "github-workflows"), ("GitLab", "gitlab-ci")])
def test_a_callers_pipeline_follows_its_schema(caller: str, schema: str, tmp_path: Path) -> None:
    needs(importlib.util.find_spec("check_jsonschema"), "check-jsonschema")
    ((_, text),) = lines_of(caller)
    file = tmp_path / "pipeline.yml"

    for given, status in ((text, 0), (text.replace("runs-on:", "runs-off:").replace("timeout: 5", "timeout: [5]"), 1)):
        file.write_text(given)
        done = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", file],
                              capture_output=True, text=True)
        assert done.returncode == status, done.stdout


def test_the_cronjob_of_the_page_follows_the_schemas() -> None:
    """Those of all versions that kubernetes-validate knows."""
    needs(importlib.util.find_spec("kubernetes_validate"), "kubernetes-validate")
    import kubernetes_validate
    import yaml

    from tests.test_exported_jobs import versions

    ((_, text),) = lines_of("Kubernetes CronJob")

    for version in versions():
        assert kubernetes_validate.validate(yaml.safe_load(text), version, strict=True)


def test_systemd_takes_the_units_of_the_page(tmp_path: Path) -> None:
    """They name each other, as files of the names that the page says; only the file with the URL is not there."""
    needs(shutil.which("systemd-analyze"), "systemd")
    files = []

    for where, text in lines_of("systemd timer"):
        (name,) = re.findall(r"/etc/systemd/system/([\w.-]+)`", where)[:1]
        files.append(tmp_path / name)
        files[-1].write_text(text)

    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "webscheduler" in line] == []
    files[0].write_text(files[0].read_text().replace("Type=oneshot", "Type=wrong"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)
    assert "webscheduler-due.service" in done.stderr
