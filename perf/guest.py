# SPDX-License-Identifier: GPL-2.0
"""Boots a kernel and runs odp-bench in it."""

import contextlib
import os
import signal
import subprocess
import sys
import traceback

import figures
from figures import BUILD, HERE, ROOT, Unusable

VM_RUN = os.path.join(ROOT, 'tests', 'vm', 'run')
BENCH = os.path.join(BUILD, 'bin', 'odp-bench')
MACHINE = ['--memory', '2G', '--pmem', '256M', '--swap', '256M',
           '--hugepages', '32', '--timeout', '3600']
COUNTING = ['--deterministic', *MACHINE]
REAL_TIME = ['--cpus', '2', *MACHINE]

# What tests/vm/run and odp-bench say with their status
ENDED = {0: 'complete', 1: 'failed', 255: 'panicked'}
FINE, WRONG, USAGE, PANICKED, UNUSABLE = 0, 1, 2, 3, 125
STATUS = {'complete': FINE, 'failed': WRONG, 'panicked': PANICKED}


@contextlib.contextmanager
def errors_of(name):
    """Errors become messages and a status, so do Ctrl-C and what timeout(1) sends."""
    def interrupt(number, _frame):
        raise KeyboardInterrupt(number)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except Unusable as error:
        print(f'{name}: {error}', file=sys.stderr)
        sys.exit(UNUSABLE)
    except KeyboardInterrupt:
        print(f'{name}: interrupted', file=sys.stderr)
        sys.exit(130)
    except Exception:  # pylint: disable=broad-exception-caught
        # A bug of these scripts is no verdict on a kernel.
        traceback.print_exc()
        sys.exit(UNUSABLE)


def split_options(arguments):
    """What comes before -- and what comes after it, for odp-bench."""
    if '--' not in arguments:
        return arguments, []
    at = arguments.index('--')
    return arguments[:at], arguments[at + 1:]


def check_bench():
    if not os.access(BENCH, os.X_OK):
        raise Unusable(f'no {BENCH}: run make userspace')


def find_kernel(side):
    """The path of a side's bzImage."""
    child = subprocess.Popen([os.path.join(HERE, 'kernel'), side], stdout=subprocess.PIPE,
                             text=True)
    try:
        path = child.communicate()[0].strip()
    finally:
        stop(child)
    if child.returncode:
        raise Unusable(f'no kernel to measure for {side}; the message is above')
    return path


def start(bzimage, machine, output, command, log=None):
    """Boots a guest that may write to the folder output; its messages go to the file log."""
    os.makedirs(output, exist_ok=True)
    with open(log, 'wb') if log else contextlib.nullcontext() as out:
        return subprocess.Popen(
            [VM_RUN, '--kernel', bzimage, *machine, '--output', output, '--', *command],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out and subprocess.STDOUT)


def stop(process):
    """Ends it, if it has not; the rig puts its guest away before it ends."""
    if process.poll() is None:
        process.terminate()
        process.wait()


class Boot:
    """A guest with a benchmark, which may run beside others."""

    def __init__(self, bzimage, json_path, options, machine, log=None):
        self.json_path, self.log = json_path, log
        self.clock = 'instructions' if '--deterministic' in machine else 'time'
        command = [BENCH, *options, '--clock', self.clock, '--json', json_path]
        with contextlib.suppress(FileNotFoundError):
            os.remove(json_path)
        self.process = start(bzimage, machine, os.path.dirname(json_path), command, log)

    def finish(self):
        """The figures, with how it ended."""
        status = self.process.wait()
        if status == USAGE:
            print('odp-bench takes no such options' + self.messages(), file=sys.stderr)
            sys.exit(USAGE)
        if status in (124, UNUSABLE):
            raise Unusable('the guest did not run to its end' + self.messages())
        data = {'kernel': '-', 'device': '-', 'clock': self.clock, 'rounds': 0, 'cpus': 0,
                'results': []}
        if os.path.exists(self.json_path):
            data = figures.load(self.json_path)
        elif status in (0, 1):
            raise Unusable('odp-bench could not begin' + self.messages())
        return {**data, 'ended': ENDED.get(status, 'failed')}

    def messages(self):
        if self.log is None:
            return '; its messages are above'
        with open(self.log, encoding='utf-8', errors='replace') as lines:
            return ':\n' + ''.join(lines.readlines()[-20:])


@contextlib.contextmanager
def booted(*boots):
    """Whatever happens, leaves neither a guest nor the file that it wrote."""
    try:
        yield boots
    finally:
        for boot in boots:
            stop(boot.process)
            for path in (boot.json_path, boot.json_path + '.tmp'):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
