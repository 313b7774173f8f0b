# SPDX-License-Identifier: LGPL-3.0-or-later
"""What must hold whatever comes from outside, or was written into a file by hand: begin reading in `rules`."""
