# SPDX-License-Identifier: LGPL-3.0-or-later
"""The servers that are Python programs: gunicorn, waitress, cheroot, wsgiref; and uWSGI.

All run as the user, as a host's do. It may import `server`.
"""

from __future__ import annotations

from pathlib import Path
from signal import SIGHUP

from tests.servers.server import Plan, Process, Site

UWSGI = "/usr/bin/uwsgi-core"
UWSGI_PYTHON = "/usr/lib/uwsgi/plugins/python3_plugin.so"
SERVE = Path(__file__).with_name("serve.py")


def gunicorn(site: Site, workers: int = 1, threads: int = 1) -> Plan:
    """With sync workers, or gthread where more than one thread is asked for."""
    argv = [site.python, "-m", "gunicorn", "--bind", f"127.0.0.1:{site.port}"]
    # From a file, since older releases refuse the option; left alone it is a socket below the user's home.
    argv += ["--config", site.write("gunicorn.conf.py", "control_socket_disable = True")]
    argv += ["--workers", str(workers), "--threads", str(threads), *site.extra, f"{site.file.stem}:application"]
    # gunicorn cuts the SCRIPT_NAME of its environment off each path: its way to be mounted below a prefix.
    process = Process(argv, site.port, site.user, {**site.env, "SCRIPT_NAME": site.prefix}, site.file.parent)
    return Plan([process], "Booting worker", site.prefix, SIGHUP, workers=workers)


def served(site: Site, server: str) -> Plan:
    """wsgiref, waitress or cheroot, by a program of ours."""
    argv = [site.python, site.write("serve.py", SERVE.read_text())]
    argv += [server, str(site.port), site.prefix, str(site.file), *site.extra]
    return Plan([Process(argv, site.port, site.user, site.env)], "the server is ready", site.prefix)


def uwsgi(site: Site) -> Plan:
    argv = [UWSGI, "--plugin", "python3", "--http-socket", f"127.0.0.1:{site.port}"]
    argv += ["--master", "--die-on-term", "--need-app", "--processes", "4"]
    # Until then a worker loses the signals that end it.
    argv += ["--hook-accepting", "print:this worker accepts"]
    argv += ["--virtualenv", str(Path(site.python).parents[1])]
    argv += ["--manage-script-name", "--mount", f"{site.prefix or '/'}={site.file}", *site.extra]
    return Plan(
        [Process(argv, site.port, site.user, site.env)], "\nthis worker accepts", site.prefix, SIGHUP, workers=4
    )
