# SPDX-License-Identifier: GPL-2.0
"""Runs a program and hands over what it prints, line by line."""

import os
import selectors
import signal
import subprocess
import time

from settings import KILL_GRACE, ROOT


class Child:
    """A program whose lines are handed over as they come."""

    def __init__(self, command, env=None):
        # Should this process be killed, so that it cannot clean up.
        command = ['setpriv', '--pdeathsig', 'TERM', '--', *command]
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True)
        self.timed_out = False

    def run(self, out, err, deadline):
        """Feeds the lines to out() and err() until the end, or until deadline() is past."""
        with selectors.DefaultSelector() as selector:
            for pipe, sink in ((self.process.stdout, out), (self.process.stderr, err)):
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, [sink, b''])
            ended, kill_at = None, None
            while selector.get_map():
                for key, _ in selector.select(0.2):
                    self.read(selector, key)
                now = time.monotonic()
                if ended is None and self.process.poll() is not None:
                    ended = now
                # A daemon that it has left behind may hold the pipes for ever.
                if ended is not None and now > ended + 1:
                    self.flush(selector)
                    break
                if ended is None and kill_at is not None and now > kill_at:
                    self.kill()
                elif ended is None and kill_at is None and now > deadline():
                    self.timed_out = True
                    self.terminate()
                    kill_at = now + KILL_GRACE
        self.kill()
        return self.process.wait()

    @staticmethod
    def read(selector, key):
        data = os.read(key.fd, 65536)
        sink, pending = key.data
        if not data:
            selector.unregister(key.fileobj)
            if pending:
                sink(pending.decode(errors='replace'))
            return
        *lines, key.data[1] = (pending + data).split(b'\n')
        for line in lines:
            sink(line.decode(errors='replace').rstrip('\r'))

    @staticmethod
    def flush(selector):
        for key in list(selector.get_map().values()):
            sink, pending = key.data
            if pending:
                sink(pending.decode(errors='replace'))

    def terminate(self):
        """Asks it to end, and only it: a rig has a machine to put away first."""
        self.process.terminate()

    def kill(self):
        """Ends it, and what it has started and left behind."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def stop(self):
        self.terminate()
        try:
            self.process.wait(KILL_GRACE)
        except subprocess.TimeoutExpired:
            pass
        self.kill()
