# SPDX-License-Identifier: LGPL-3.0-or-later
"""serve.py SERVER PORT PREFIX FILE: serves the `application` of FILE on 127.0.0.1 by wsgiref, waitress or cheroot.

A program for the interpreter of the tested user, which cannot import the tests.
"""

from __future__ import annotations

import importlib
import os
import sys


def main(server: str, port: str, prefix: str, file: str) -> None:
    sys.path.insert(0, os.path.dirname(file))
    application = importlib.import_module(os.path.basename(file)[:-3]).application
    address = ("127.0.0.1", int(port))

    def mounted(environ, start_response):  # type: ignore[no-untyped-def]
        environ["SCRIPT_NAME"] = prefix
        environ["PATH_INFO"] = environ["PATH_INFO"][len(prefix) :]
        return application(environ, start_response)

    if server == "waitress":
        import waitress  # type: ignore[import-untyped]

        listening = waitress.create_server(application, listen=f"127.0.0.1:{port}", url_prefix=prefix, threads=8)
        run = listening.run
    elif server == "cheroot":
        from cheroot.wsgi import Server

        cheroot = Server(address, mounted, numthreads=8)
        cheroot.prepare()
        run = cheroot.serve
    else:
        from socketserver import ThreadingMixIn
        from wsgiref.simple_server import WSGIServer, make_server

        threaded = type("ThreadedServer", (ThreadingMixIn, WSGIServer), {"daemon_threads": True})
        run = make_server(*address, mounted, server_class=threaded).serve_forever

    print("the server is ready", flush=True)
    run()


if __name__ == "__main__":
    main(*sys.argv[1:])
