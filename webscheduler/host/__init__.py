# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the host is like, and how an installation is put on it: home, entry files, bundle, doctor, probe.

May import everything except the doors. Begin with `doctor`, which uses most of the others.
"""
