"""Tests of the admin panel: through its WSGI application, and in a real browser behind real servers."""
