# SPDX-License-Identifier: LGPL-3.0-or-later
"""Programs that torment an installation; test_torture.py and test_claims.py run them and read what they print."""
