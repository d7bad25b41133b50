# SPDX-License-Identifier: GPL-2.0
"""Finds what must not be in a kernel log."""

import collections
import fnmatch
import re

# A report that fails the test in which it appears.
SPLAT = re.compile(r'\bWARNING: |\bBUG: |\bkernel BUG at |\bOops\b|\bKernel panic\b|'
                   r'\b(?:KASAN|KCSAN|KFENCE|UBSAN|ODEBUG): |Call Trace:|'
                   r'\bDMA-API: (?!preallocated|debugging enabled)|'
                   r'general protection fault|unable to handle |\brefcount_t: |'
                   r'possible circular locking|possible recursive locking|'
                   r'inconsistent lock state|suspicious RCU usage|lock held when returning|'
                   r'\bkmemleak: \d+ new suspected|\blist_(?:add|del) corruption|'
                   r'nobody cared|stack guard page was hit|INFO: trying to register non-static')

# Under emulation these say that the host was busy.  They come with a backtrace.
TIMING = re.compile(r'soft lockup|workqueue lockup|detected (?:expedited )?stalls|'
                    r'self-detected stall|blocked for more than|hogged CPU|'
                    r'starved for \d+ jiffies|clocksource.*unstable|took too long')

# The first splat's warning is the cause, later lines belong to it.
REPORT_END = re.compile(r'---\[ end |</TASK>')
REPORT_LINES = 100
REPORT_GAP = 2.0
TIMING_GAP = 10.0

Known = collections.namedtuple('Known', 'test pattern reason')


def seconds(line):
    stamp = re.match(r'(?:<\d+>)?\[ *(\d+\.\d+)\]', line)
    return float(stamp[1]) if stamp else None


def splats(lines):
    """Returns the splats of a log, each a list of lines, and how many timing reports."""
    found, timing, report, last, last_timing = [], 0, None, None, None
    for line in lines:
        now = seconds(line)
        now = last if now is None else now
        if report is not None and (len(report) >= REPORT_LINES or
                                   (last is not None and now - last > REPORT_GAP)):
            report = None
        last = now
        if TIMING.search(line):
            timing, last_timing, report = timing + 1, now, None
        elif report is not None:
            report.append(line)
            if REPORT_END.search(line):
                report = None
        elif SPLAT.search(line):
            of_timing = 'Call Trace:' in line and last_timing is not None \
                and now - last_timing < TIMING_GAP
            if not of_timing:
                report = [line]
                found.append(report)
    return found, timing


def read_known(path):
    """The list of splats to put up with: lines of `TEST-GLOB PATTERN # reason`."""
    known = []
    try:
        with open(path, encoding='utf-8') as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip() or line.startswith('#'):
                    continue
                entry, _, reason = line.strip().rpartition(' # ')
                test, _, pattern = entry.partition(' ')
                if not pattern.strip() or not reason.strip():
                    raise ValueError(f'{path}:{number}: not TEST-GLOB PATTERN # reason')
                known.append(Known(test, re.compile(pattern.strip()), reason.strip()))
    except FileNotFoundError:
        pass
    return known


def excuse(splat, test, known):
    """Why this splat may be in the log of this test, or None."""
    text = '\n'.join(splat)
    for entry in known:
        if fnmatch.fnmatch(test, entry.test) and entry.pattern.search(text):
            return entry.reason
    return None
