# SPDX-License-Identifier: GPL-2.0
"""The figures in the JSON of odp-bench: read, put together, compared."""

import collections
import fnmatch
import json
import math
import os
import random
import statistics

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(HERE)
BUILD = os.path.realpath(os.environ.get('BUILD') or os.path.join(ROOT, 'build'))
PERF = os.path.join(BUILD, 'perf')
RESAMPLES = 1000

Key = collections.namedtuple('Key', 'case memory mr size')
RESULT = {*Key._fields, 'value', 'samples', 'error'}


class Unusable(Exception):
    """What is there cannot be measured or compared; the message says why."""


def key_of(result):
    return Key(result['case'], result['memory'], result['mr'], result['size'])


def by_key(data):
    return {key_of(result): result for result in data['results']}


def load(path):
    try:
        with open(path, encoding='utf-8') as file:
            data = json.load(file)
        for record, needed in ((data, {'clock'}), *((result, RESULT) for result in data['results'])):
            if not needed <= record.keys():
                raise KeyError(*needed - record.keys())
    except (OSError, ValueError) as error:
        raise Unusable(f'{path}: {error}') from error
    except (AttributeError, KeyError, TypeError) as error:
        raise Unusable(f'{path}: these are not figures of perf/run: {error!r}') from error
    return data


def save(data, path):
    """Complete or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.new', 'w', encoding='utf-8') as file:
        json.dump(data, file, indent=1)
    os.rename(path + '.new', path)


def put_together(boots):
    """One set of figures out of several boots', each boot's median a sample."""
    figures = {}
    for boot in boots:
        for key, result in by_key(boot).items():
            figure = figures.setdefault(key, {**result, 'samples': [], 'error': None})
            if result['value'] is None:
                figure['error'] = figure['error'] or result['error']
            else:
                figure['samples'].append(result['value'])
    for figure in figures.values():
        if figure['error'] or not figure['samples']:
            figure.update(value=None, low=None, high=None, samples=[])
        else:
            figure.update(value=statistics.median(figure['samples']),
                          low=min(figure['samples']), high=max(figure['samples']))
    return {**boots[0], 'rounds': len(boots), 'results': list(figures.values())}


def ratio(after, before):
    if before:
        return after / before
    return math.inf if after else 1.0


def ratio_interval(after, before):
    """95 % of the ratio of the medians, by bootstrap; the same for the same samples."""
    chance = random.Random(0)

    def median(samples):
        return statistics.median(chance.choices(samples, k=len(samples)))
    ratios = sorted(ratio(median(after), median(before)) for _ in range(RESAMPLES))
    return ratios[RESAMPLES // 40], ratios[-1 - RESAMPLES // 40]


def read_tolerances(path):
    """The list of (globs, percent); the first that matches counts."""
    tolerances = []
    with open(path, encoding='utf-8') as lines:
        for number, line in enumerate(lines, 1):
            entry, _, reason = line.partition(' # ')
            if not line.strip() or line.startswith('#'):
                continue
            try:
                *globs, percent = entry.split()
                tolerances.append((Key(*globs), float(percent)))
            except (TypeError, ValueError) as error:
                raise Unusable(f'{path}:{number}: not CASE MEMORY MR SIZE PERCENT # reason') \
                    from error
            if not reason.strip():
                raise Unusable(f'{path}:{number}: gives no reason')
    return tolerances


def tolerance(tolerances, key):
    for globs, percent in tolerances:
        if all(fnmatch.fnmatchcase(str(name), glob) for name, glob in zip(key, globs)):
            return percent
    raise Unusable(f'no tolerance for {" ".join(map(str, key))}: perf/tolerances lacks * * * *')
