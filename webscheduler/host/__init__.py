"""What the host is like, and how an installation is put on it: home, entry files, bundle, doctor, probe.

May import everything but the doors. Begin with `doctor`, which asks all the others.
"""
