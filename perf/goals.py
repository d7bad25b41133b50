# SPDX-License-Identifier: GPL-2.0
"""The figures to reach, and what the measured ones make of them. One that is not there is
not a number, nor is what is computed from it."""

import math

from figures import by_key

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PAGE = 4096


class Measured:
    """Values by name; with no size, of the first size that there is."""

    def __init__(self, data):
        self.results = by_key(data)

    def get(self, case, memory, mr, size=None):
        for key, result in self.results.items():
            if key[:3] == (case, memory, mr) and size in (None, key.size):
                return math.nan if result['value'] is None else result['value']
        return math.nan

    def warm(self, memory, size, what='write'):
        """Of a page in messages of this size, or of a message smaller than a page."""
        return self.get(f'warm_{what}', memory, 'odp', size) * PAGE / max(size, PAGE)

    def has(self, *key):
        return key in self.results

    def cpu_touch(self, memory, case='first_write_absent'):
        """What it costs the CPU to touch such a page first; absent, where it has touched it."""
        what, state = case.split('_')[1:3]
        return self.get(f'first_{what}_{"swapped" if state == "swapped" else "absent"}', memory,
                        'none')

    def extra_touch(self, memory, size, case='first_write_absent'):
        """First touch by the device over first touch by the CPU."""
        what = case.split('_')[1]
        return (self.get(case, memory, 'odp', size) - self.warm(memory, size, what)) \
            / self.cpu_touch(memory, case)

    def extra_invalidation(self, event, state, memory='anonymous'):
        """ns a page over the same event in memory that is not registered."""
        return self.get(f'{event}_{state}', memory, 'odp') - \
            self.get(f'{event}_absent', memory, 'none')


def beside_stock(warm, stock, memory, mr, sizes):
    """The worst of warm WRITE, READ and SEND here over the stock kernel's, pinned."""
    ratios = [warm.get(f'warm_{what}', memory, mr, size)
              / stock.get(f'warm_{what}', memory, 'pinned', size)
              for what in ('write', 'read', 'send') for size in sizes
              if warm.has(f'warm_{what}', memory, mr, size)]
    return math.nan if any(map(math.isnan, ratios)) else max(ratios, default=math.nan)


def goals(own, warm, stock):
    """(figure, mainline's, measured, to reach, unit)"""
    register = own.get('register_touched', 'anonymous', 'odp', MIB)
    yield 'register 1 MiB, touched', '38.5 us', register / 1000, 10, 'us'
    for name, mainline, state, mr, size in (
            ('512 MiB, touched', '386', 'touched', 'odp', 512 * MIB),
            ('64 GiB, untouched', 'refused', 'untouched', 'odp', 64 * GIB),
            ('an implicit region', 'refused', 'touched', 'implicit', MIB)):
        yield (f'register {name} : 1 MiB, touched', mainline,
               own.get(f'register_{state}', 'anonymous', mr, size) / register, 1.1, '')
    yield ('kernel memory for a registered, untouched GiB', '2 MiB',
           own.get('table_registered', 'anonymous', 'odp') / KIB, 4, 'KiB')
    for name, memory, size in (('64 B', 'anonymous', 64), ('4 KiB', 'anonymous', PAGE),
                               ('1 MiB', 'anonymous', MIB), ('1 MiB, THP', 'thp', MIB)):
        yield (f'warm, ODP : stock pinned, {name}', '1.00 to 1.017',
               beside_stock(warm, stock, memory, 'odp', [size]), 1.005, '')
    yield ('first touch, 1 MiB messages, extra a page : first touch by the CPU', '1.86',
           warm.extra_touch('anonymous', MIB), 0.8, '')
    for memory, mainline, reach in (('thp', '1.078', 1.03), ('memfd', '1.239', 1.16)):
        cold = warm.get('first_write_absent', memory, 'odp', MIB)
        yield (f'first touch, 1 MiB messages, {memory}, cold : warm', mainline,
               cold / warm.warm(memory, MIB), reach, '')
    yield ('a 64-byte write to an untouched page, extra : first touch by the CPU', '1.84',
           warm.extra_touch('anonymous', 64), 1.3, '')
    for state, mainline, reach in (('clean', '52.9 ns', 20), ('dirty', 'marks nothing dirty', 40)):
        yield (f'invalidation, extra a page, {state}', mainline,
               own.extra_invalidation('discard', state), reach, 'ns')
    yield ('pinned, this series : stock', '-',
           beside_stock(warm, stock, 'anonymous', 'pinned', (64, PAGE, MIB)), 1.005, '')


def table(own, warm, stock):
    """The rows of the report; warm and stock have been measured in the same way."""
    for figure, mainline, value, limit, unit in goals(own, warm, stock):
        measured, verdict = f'{value:.3f} {unit}', 'reached' if value <= limit else 'missed'
        if math.isnan(value):
            measured, verdict = '-', 'not measured'
        yield figure, mainline, f'{limit:g} {unit}'.strip(), measured.strip(), verdict
    yield 'mirror-wide locks taken on a hit', 'a mutex', 'none', '-', 'see tests/lock-stat'
