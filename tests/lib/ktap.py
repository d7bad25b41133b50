# SPDX-License-Identifier: GPL-2.0
"""Reads what a test prints, and says what it amounts to."""

import collections
import re

Result = collections.namedtuple('Result', 'outcome name detail')

RESULT = re.compile(r'(?P<indent> *)(?P<status>ok|not ok)\b(?: (?P<number>\d+))?'
                    r'(?: ?- )? *(?P<name>.*?)'
                    r'(?P<skip> *(?<!\\)# *SKIP\b[: ]*(?P<reason>.*))?$', re.IGNORECASE)
PLAN = re.compile(r'1\.\.(?P<count>\d+)(?: *# *SKIP\b *(?P<reason>.*))?$', re.IGNORECASE)

SKIPPED = 4     # the exit status of a test that skips as a whole


class Report:
    """The results of one test: its top-level lines, and what is wrong with them.

    Whatever keeps a test from having said all that it should is a failed
    result of its own, so that it cannot be lost between results that passed.
    """

    def __init__(self):
        self.results = []
        self.printed = 0    # so many of them come from the test itself
        self.plan = None
        self.whole_skip = None
        self.last_line = ''
        self.details = []
        self.nested_failure = ''
        self.said_not_ok = False
        self.bailed_out = None

    def add(self, outcome, name, detail=''):
        self.results.append(Result(outcome, name, detail))

    def line(self, text):
        """Takes one line of the test's standard output."""
        if text.strip():
            self.last_line = text.strip()
        result = RESULT.match(text)
        plan = PLAN.match(text)
        if result and result['indent']:
            # A test that runs a test of its own (KUnit, kselftest).
            if result['status'].lower() == 'not ok' and not result['skip']:
                self.nested_failure = self.nested_failure or text.strip()
        elif result:
            self.result_line(result)
        elif plan and self.plan is not None:
            self.add('fail', 'one plan', 'a second plan: ' + text)
        elif plan:
            self.plan = int(plan['count'])
            if self.plan == 0:
                self.whole_skip = (plan['reason'] or '').strip()
        elif text.startswith('Bail out!'):
            self.bailed_out = text
        elif text.startswith('#'):
            self.details.append(text.lstrip('# '))

    def result_line(self, match):
        detail = '\n'.join(self.details)
        name = match['name'] or f'result {len(self.results) + 1}'
        number = int(match['number'] or len(self.results) + 1)
        outcome = 'pass' if match['status'].lower() == 'ok' else 'fail'
        self.said_not_ok |= outcome == 'fail'
        if number != len(self.results) + 1:
            outcome, detail = 'fail', f'it is number {len(self.results) + 1}, not {number}'
        elif match['skip'] and outcome == 'pass':
            reason = match['reason'].strip()
            outcome, detail = ('skip', reason) if reason else ('fail', 'skipped without a reason')
        elif outcome == 'pass' and self.nested_failure:
            outcome, detail = 'fail', f'said ok over "{self.nested_failure}"'
        self.add(outcome, name, detail)
        self.details, self.nested_failure = [], ''

    def finish(self, status, trouble=''):
        """The test has ended, by itself with an exit status, or by trouble."""
        ran = self.printed = len(self.results)
        if trouble:
            self.add('fail', 'runs to its end', f'{trouble}, {self.progress(ran)}')
        elif self.bailed_out:
            self.add('fail', 'runs to its end', self.bailed_out)
        elif self.skips_whole(status, ran):
            self.finish_skip()
        elif status not in (0, 1):
            self.add('fail', 'exits with 0 or 1',
                     f'{describe_status(status)}, {self.progress(ran)}')
        elif self.plan is None:
            self.add('fail', 'has a plan', f'it printed {ran} results and no 1..N line')
        elif self.plan != ran:
            self.add('fail', 'keeps to its plan', self.progress(ran))
        elif ran == 0:
            self.add('fail', 'has results', 'it printed none')
        elif (status != 0) != self.said_not_ok:
            said = 'a result is not ok' if self.said_not_ok else 'all are ok'
            self.add('fail', 'exit status agrees with its results', f'status {status}, but {said}')

    def skips_whole(self, status, ran):
        return ran == 0 and (status == SKIPPED or (status == 0 and self.whole_skip is not None))

    def finish_skip(self):
        reason = self.whole_skip or self.last_line.lstrip('# ')
        if not reason or PLAN.match(reason):
            self.add('fail', 'skips with a reason', 'it skipped without one')
        else:
            self.add('skip', 'all of it', re.sub(r'^SKIP\b[: ]*', '', reason))

    def progress(self, ran):
        of = self.plan if self.plan is not None else 'an unknown number'
        return f'died after {ran} of {of}'

    def count(self, outcome):
        return sum(result.outcome == outcome for result in self.results)

    @property
    def outcome(self):
        """One for the whole test: it failed, passed, or all of it was skipped."""
        if self.count('fail') or not self.results:
            return 'fail'
        return 'pass' if self.count('pass') else 'skip'


def describe_status(status):
    return f'killed by signal {-status}' if status < 0 else f'exit status {status}'
