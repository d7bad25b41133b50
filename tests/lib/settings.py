# SPDX-License-Identifier: GPL-2.0
"""Where things are, and how long they may take."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.path.realpath(os.environ.get('BUILD') or os.path.join(ROOT, 'build'))
RESULTS = os.path.join(BUILD, 'results')
# The harness is tested with tests and a rig of its own.
TESTS = os.path.realpath(os.environ.get('TESTS_DIR') or os.path.join(ROOT, 'tests'))
VM_RUN = os.environ.get('VM_RUN') or os.path.join(ROOT, 'tests', 'vm', 'run')
GUEST_RUN = os.path.join(ROOT, 'tests', 'lib', 'guest-run')
# A budget is for an idle machine of two cores; emulation on a busy one is slower.
SLACK = float(os.environ.get('TESTS_SLACK') or 4)
BOOT_LIMIT = 180 * SLACK / 4
KILL_GRACE = 20
