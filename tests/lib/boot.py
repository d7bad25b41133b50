# SPDX-License-Identifier: GPL-2.0
"""One boot of a guest, and the tests that run in it."""

import os
import re
import time

from child import Child
from settings import BOOT_LIMIT, BUILD, GUEST_RUN, KILL_GRACE, RESULTS, VM_RUN

PANIC = 255
RIG_STATUS = {PANIC: 'the guest panicked', 124: 'the guest did not end in time',
              125: 'the rig failed'}


class Boot:
    """Runs as many of the tests as its guest survives; the others are left."""

    MARK = re.compile(r'# guest-run: (\w+) ?(.*)')

    def __init__(self, run, tests):
        self.run_, self.left = run, list(tests)
        self.current, self.status, self.errors, self.log = None, None, [], []
        self.deadline = time.monotonic() + BOOT_LIMIT
        run.boots += 1
        self.kernel_log = os.path.join(RESULTS, f'boot-{run.boots}-{tests[0].kernel.name}.log')

    def run(self):
        first = self.left[0]
        limit = BOOT_LIMIT + sum(test.limit + KILL_GRACE for test in self.left)
        command = [VM_RUN, '--kernel', first.kernel.path, '--output', RESULTS,
                   '--kernel-log', self.kernel_log,
                   '--timeout', f'{limit:.0f}', '--env', f'BUILD={BUILD}',
                   '--env', f'RESULTS={RESULTS}', '--env', f'KERNEL_NAME={first.kernel.name}',
                   *first.vm, '--', GUEST_RUN]
        for test in self.left:
            command += [test.name, f'{test.limit:g}', test.program]
        self.run_.child = child = Child(command, self.run_.env)
        status = child.run(self.out, self.err, lambda: self.deadline)
        self.ended(status, child.timed_out)

    def out(self, text):
        mark = self.MARK.match(text)
        if mark:
            getattr(self, 'on_' + mark[1])(mark[2])
        elif self.current is not None and text:
            self.run_.out(self.current, text)

    def err(self, text):
        self.errors.append(text)
        if self.current is not None:
            self.run_.err(self.current, text)

    def on_begin(self, name):
        self.finish_current()
        self.current = next(test for test in self.left if test.name == name)
        self.left.remove(self.current)
        self.current.log, self.log = self.log, []
        self.run_.begin(self.current)
        self.deadline = time.monotonic() + self.current.limit + KILL_GRACE

    def on_log(self, text):
        if text:
            (self.log if self.current is None else self.current.log).append(text)

    def on_end(self, text):
        self.status = int(text.rpartition(' ')[2])
        self.current.seconds = time.monotonic() - self.current.started
        self.deadline = time.monotonic() + BOOT_LIMIT

    def finish_current(self, trouble=''):
        """The test's line waits until its guest is known to have survived it."""
        if self.current is None:
            return
        if not trouble and self.status in (124, 137):
            trouble = f'timed out: it did not end in {self.current.limit:g} s'
        if self.status is None:
            self.current.seconds = time.monotonic() - self.current.started
        self.run_.finish(self.current, self.status, trouble)
        self.current, self.status = None, None

    def ended(self, status, timed_out):
        trouble = ''
        if timed_out:
            trouble = 'the guest hung and was killed'
        elif status != 0:
            trouble = f'{RIG_STATUS.get(status, "the rig ended early")} (status {status})'
        elif self.left or (self.current is not None and self.status is None):
            trouble = 'the guest ended early'
        if self.current is not None:
            if status != PANIC:
                self.current.log += self.unseen_log()
            self.finish_current(trouble)
        else:
            self.never_began(trouble)

    def unseen_log(self):
        """What the kernel logged after guest-run had looked the last time.

        After a panic it is not wanted: the rig has shown it decoded.
        """
        lines = []
        if os.path.exists(self.kernel_log):
            with open(self.kernel_log, encoding='utf-8', errors='replace') as log:
                for line in log:
                    lines.append(line.rstrip('\r\n'))
                    if 'guest-run: cut ' in line:
                        lines.clear()
        return lines

    def never_began(self, trouble):
        """Another boot would end like this one, so nothing is left over."""
        for test in self.left:
            self.run_.begin(test)
            test.errors, test.log = self.errors, self.log
            test.output += ['# stderr: ' + text for text in self.errors]
            self.run_.finish(test, 0, f'no test began: {trouble}')
        self.left = []
