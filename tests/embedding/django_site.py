# SPDX-License-Identifier: LGPL-3.0-or-later
"""A Django site with the scheduler below /cron, whose people sign in at the site and are known to the panel.

Rule: what stands between the two lines of dashes is shown in docs/how-to/embedding.md, word for word.
`python -m tests.embedding.django_site` makes the database with its accounts.
"""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings
from django.contrib.auth import authenticate, login
from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from webscheduler import create_app

settings.configure(
    SECRET_KEY=os.environ["SITE_KEY"],
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1"],
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SITE_DATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # quick, for tests
)
django.setup()


@csrf_exempt
def sign_in(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, username=request.POST["name"], password=request.POST["password"])

    if user is None:
        return HttpResponse("no", status=403)

    login(request, user)
    return HttpResponse("welcome")


def front(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"the site itself, at {request.META['SCRIPT_NAME']}")


# -------------------------------------------------------------------------------------------------------------------

scheduler = create_app()


def scheduler_user(user: Any) -> dict[str, str] | None:
    """Who of the site's accounts may use the panel, and as what."""
    if user.is_active and user.is_staff:
        return {"name": user.get_username(), "role": "owner" if user.is_superuser else "viewer"}

    return None


@csrf_exempt  # triggers are signed, and the panel's forms have tokens of their own
def cron(request: WSGIRequest, below: str = "") -> HttpResponseBase:
    """Hand the request over to the scheduler, mounted here."""
    mount = request.META["SCRIPT_NAME"] + request.path_info[:len(request.path_info) - len(below)]
    environ = {
        **request.environ,
        "SCRIPT_NAME": mount.encode().decode("latin-1"),  # WSGI wants bytes as characters (PEP 3333)
        "PATH_INFO": below.encode().decode("latin-1"),
        "wsgi.input": request,  # also where a middleware has read the body
        "webscheduler.user": scheduler_user(request.user),
    }
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        started[:] = [status, headers]

    body = scheduler(environ, start_response)
    status, headers = started
    response = StreamingHttpResponse(body, status=int(status[:3]), reason=status[4:])

    for name, value in headers:
        if name.lower() == "set-cookie":
            response.cookies.load(value)  # there may be several
        else:
            response.headers[name] = value

    return response


urlpatterns = [
    path("", front),
    path("login", sign_in),
    re_path(r"^cron(?P<below>/.*)?$", cron),
]

# -------------------------------------------------------------------------------------------------------------------

application = get_wsgi_application()

if __name__ == "__main__":
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)

    for name, staff, owner in (("olga", True, True), ("vera", True, False), ("nobody", False, False)):
        User.objects.create_user(name, password=name, is_staff=staff, is_superuser=owner)
