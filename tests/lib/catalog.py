# SPDX-License-Identifier: GPL-2.0
"""The tests that there are, and which of them to run."""

import collections
import difflib
import fnmatch
import glob
import os
import re
import shlex

import ktap
from settings import BUILD, SLACK, TESTS

STAGES = ('smoke', 'check', 'long')
# after: on the host, when all others have run
PLACES = ('host', 'guest', 'after')

# The kernels that kernel-patches/build makes; what runs in the last two is slower.
BUILT = ('stock', 'tree', 'debug', 'kcsan')
CHECKING = ('debug', 'kcsan')
CHECKING_SLACK = 5

Kernel = collections.namedtuple('Kernel', 'name path')


class Test:
    """A file of tests/ that has a header, on one kernel if it wants a guest."""

    def __init__(self, path, header, kernel=None):
        self.path, self.kernel = path, kernel
        self.stem = os.path.splitext(os.path.basename(path))[0]
        self.description = header['test']
        self.stage = header.get('stage', 'check')
        self.where = header.get('where', 'host')
        self.kernels = header.get('kernels', 'tree').split()
        self.vm = shlex.split(header.get('vm', ''))
        self.budget = float(header.get('budget', 60))
        self.report = ktap.Report()
        self.output, self.errors, self.log = [], [], []
        self.seconds = 0.0
        if self.stage not in STAGES or self.where not in PLACES:
            raise ValueError(f'{path}: stage is one of {", ".join(STAGES)}, '
                             f'where one of {", ".join(PLACES)}')

    def on(self, kernel):
        """The same test for one kernel."""
        header = {'test': self.description, 'stage': self.stage, 'where': self.where,
                  'kernels': ' '.join(self.kernels), 'vm': shlex.join(self.vm),
                  'budget': self.budget}
        return Test(self.path, header, kernel)

    @property
    def name(self):
        if self.kernel is None or self.kernel.name == 'tree':
            return self.stem
        return f'{self.stem}@{self.kernel.name}'

    @property
    def program(self):
        if self.path.endswith('.c'):
            return os.path.join(BUILD, 'bin', 'test-' + self.stem)
        return self.path

    @property
    def limit(self):
        slower = 'tree' in self.kernels and self.kernel and self.kernel.name in CHECKING
        return self.budget * SLACK * (CHECKING_SLACK if slower else 1)


class UnknownTest(Exception):
    """A name that no test has, and the names that are like it."""

    def __init__(self, name, names):
        super().__init__(name)
        self.name = name
        self.near = difflib.get_close_matches(name, names, 5, 0.4) or \
            [other for other in names if name.strip('*') in other] or names


def read_header(path):
    """The header of a test, or None of a file that has none."""
    header = {}
    try:
        with open(path, encoding='utf-8') as lines:
            for _, line in zip(range(30), lines):
                match = re.match(r'(?:#|//| \*) (test|stage|where|kernels|vm|budget): *(.*)', line)
                if match:
                    header.setdefault(match[1], match[2].strip())
    except UnicodeDecodeError:
        return None
    return header if 'test' in header else None


def discover():
    tests = []
    for path in sorted(glob.glob(os.path.join(TESTS, '*'))):
        if os.path.isfile(path) and os.path.splitext(path)[1] in ('', '.sh', '.c'):
            header = read_header(path)
            if header:
                tests.append(Test(path, header))
    return tests


def variants(tests, kernel, stage):
    """Each host test, and each guest test on every kernel that it is for."""
    for test in tests:
        if test.where != 'guest':
            if kernel is None:
                yield test
        elif kernel is not None:
            if 'tree' in test.kernels or kernel.name in test.kernels:
                yield test.on(kernel)
        else:
            for name in kernels_of(test, stage):
                yield test.on(Kernel(name, name))


def kernels_of(test, stage):
    if stage == 'smoke':
        return test.kernels[:1]
    if stage == 'long' and 'tree' in test.kernels:
        return [*test.kernels, *(name for name in CHECKING if name not in test.kernels)]
    return test.kernels


def select(tests, patterns, stage):
    if not patterns:
        return [test for test in tests if STAGES.index(test.stage) <= STAGES.index(stage)]
    chosen = []
    for pattern in patterns:
        found = [test for test in tests if fnmatch.fnmatchcase(test.name, pattern)
                 or fnmatch.fnmatchcase(test.stem, pattern)]
        if not found:
            raise UnknownTest(pattern, sorted({test.name for test in tests}))
        chosen += [test for test in found if test not in chosen]
    return chosen


def in_order(tests):
    """Host tests, then boots, stock before tree: later ones compare with it; then after."""
    def key(test):
        kernel = test.kernel.name if test.kernel else ''
        return (PLACES.index(test.where), kernel != 'stock', kernel, test.vm,
                STAGES.index(test.stage), test.name)
    return sorted(tests, key=key)
