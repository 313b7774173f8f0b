# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tasks to and from other schedulers: crontabs, JSON, systemd timers, Kubernetes CronJobs.

May import `store`, `schedule` and `commands`. Begin with `importing`; `exporting` is its mirror.
"""
