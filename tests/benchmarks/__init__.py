# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the program costs, as ratios to the least that the same work could cost: `python -m tests.benchmarks`.

The rule: a number is never judged alone. A floor or a peer takes turns with ours in the same run, so both meet the same
noise, and the median of the pairs' ratios is compared with a bar. Begin with `table`, which names every row.
What is measured is the wheel as people install it, called from outside: no module here but
`bench_cron` imports the package.
"""
