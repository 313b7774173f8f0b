# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests of the admin panel: through its WSGI application, and in a real browser behind real servers."""
