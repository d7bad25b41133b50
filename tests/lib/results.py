# SPDX-License-Identifier: GPL-2.0
"""The files that a run leaves in build/results; KTAP is the source of all others."""

import json
import os
import re
import xml.etree.ElementTree as ET

from settings import RESULTS


def ktap_path(test):
    return os.path.join(RESULTS, test.name + '.ktap')


def write_ktap(test, last_line):
    with open(ktap_path(test), 'w', encoding='utf-8') as out:
        out.write(f'KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: {test.name}\n')
        out.writelines(f'    {line}\n' for line in test.output)
        out.writelines(f'    # kernel: {line}\n' for line in test.log)
        out.write(re.sub(r' \d+ ', ' 1 ', last_line, count=1) + '\n')


def read_times():
    """The seconds that each test took when it ran last."""
    try:
        with open(os.path.join(RESULTS, 'times'), encoding='utf-8') as lines:
            return {name: float(seconds) for name, seconds in map(str.split, lines)}
    except FileNotFoundError:
        return {}


def write_times(times):
    with open(os.path.join(RESULTS, 'times'), 'w', encoding='utf-8') as out:
        out.writelines(f'{name} {times[name]:.1f}\n' for name in sorted(times))


def read_stages(path):
    """What tests/lib/stage has kept: name, seconds and budget of each stage."""
    stages = []
    if path and os.path.exists(path):
        with open(path, encoding='utf-8') as lines:
            for line in lines:
                name, seconds, budget = line.rstrip('\n').split('\t')
                stages.append({'name': name, 'seconds': float(seconds),
                               'budget': float(budget)})
    return stages


def write_json(what, stages, counts, tests):
    results = {
        **what, 'counts': counts, 'stages': stages,
        'tests': [{'name': test.name, 'description': test.description,
                   'where': test.where, 'kernel': test.kernel.name if test.kernel else None,
                   'outcome': test.report.outcome, 'seconds': round(test.seconds, 1),
                   'budget': test.budget,
                   'results': [result._asdict() for result in test.report.results]}
                  for test in tests]}
    with open(os.path.join(RESULTS, 'results.json'), 'w', encoding='utf-8') as out:
        json.dump(results, out, indent=1)
        out.write('\n')


def write_junit(tests):
    suites = ET.Element('testsuites')
    for test in tests:
        report = test.report
        suite = ET.SubElement(suites, 'testsuite', name=test.name,
                              tests=str(len(report.results)),
                              failures=str(report.count('fail')),
                              skipped=str(report.count('skip')), time=f'{test.seconds:.1f}')
        for result in report.results:
            case = ET.SubElement(suite, 'testcase', classname=test.name,
                                 name=printable(result.name))
            if result.outcome != 'pass':
                tag = 'failure' if result.outcome == 'fail' else 'skipped'
                element = ET.SubElement(case, tag, message=printable(result.detail)[:200])
                element.text = printable(result.detail)
    ET.ElementTree(suites).write(os.path.join(RESULTS, 'junit.xml'), encoding='utf-8',
                                 xml_declaration=True)


def printable(text):
    """Without what XML cannot hold."""
    return re.sub(r'[^\t\n\r\x20-\ud7ff\ue000-\ufffd]', '?', text)
