"""Apache: mod_cgi, mod_cgid, suexec, mod_wsgi in three ways, Passenger.

Each starts from a configuration of its own, nothing of /etc/apache2 is read. As root Apache keeps its privileged
parent and gives the work to the user, as on a host; otherwise all of it is the caller's. It may import `server`.
"""

from __future__ import annotations

import grp
import os
import pwd
import signal
from pathlib import Path

from tests.servers.server import Plan, Process, Site

MODULES = Path("/usr/lib/apache2/modules")
SUEXEC_HTTPD = "www-data"  # the only user whose server Debian's suexec obeys


def modules(*names: str) -> list[str]:
    return [f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in names]


def apache(site: Site, *lines: str, user: str | None = None, path: str = "") -> Plan:
    user = user or site.user
    account = []
    if os.geteuid() == 0:
        account = [f"User {user}", f"Group {grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name}"]
    configuration = site.write(
        "apache.conf",
        f"ServerRoot {site.run}",
        f"DefaultRuntimeDir {site.run}",
        f"PidFile {site.run}/pid",
        f"Mutex file:{site.run} default",
        f"Listen 127.0.0.1:{site.port}",
        "ServerName localhost",
        *account,
        f"ErrorLog {site.log}",
        "LogLevel info",
        *modules("authz_core", "mime", "alias", "env", "setenvif", "rewrite", "dir"),
        "TypesConfig /dev/null",
        "Timeout 60",
        f"DocumentRoot {site.run}",
        f"<Directory {site.directory}>\nRequire all granted\nAllowOverride All\nOptions +FollowSymLinks\n</Directory>",
        *lines,
        *site.extra,
    )
    # mod_wsgi offers no setting for the environment of its processes but the server's own.
    process = Process(["/usr/sbin/apache2", "-f", configuration, "-DFOREGROUND"], env=site.env)
    return Plan([process], "resuming normal operations", path, signal.SIGUSR1)


def cgi_lines(site: Site) -> list[str]:
    return [
        *(f'SetEnv {name} "{value}"' for name, value in site.env.items()),
        f"ScriptAlias /cgi-bin/ {site.file.parent}/",
    ]


def cgi(site: Site) -> Plan:
    lines = modules("mpm_prefork", "cgi") + cgi_lines(site)
    return apache(site, *lines, path=f"/cgi-bin/{site.file.name}")


def cgid(site: Site) -> Plan:
    lines = modules("mpm_event", "cgid") + cgi_lines(site)
    return apache(site, *lines, f"ScriptSock {site.run}/cgisock", path=f"/cgi-bin/{site.file.name}")
