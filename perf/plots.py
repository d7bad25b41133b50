# SPDX-License-Identifier: GPL-2.0
"""Plots, by gnuplot. A value is (median, low, high), or None where there is none."""

import subprocess

from figures import Unusable

COLOURS = ('#9a9a9a', '#2f6db3', '#d9742b', '#3f9b5b', '#8d5aa8', '#b8a12c')
TERMINAL = 'svg size 820,400 dynamic noenhanced background "white" font "sans-serif,13"'


def quoted(text):
    return '"' + str(text).replace('\\', r'\\').replace('"', r'\"') + '"'


def cells(value):
    return ' '.join(map(str, value)) if value else '? ? ?'


def block(name, rows):
    return f'${name} << END\n' + '\n'.join(rows) + '\nEND\n'


def gnuplot(path, title, ylabel, script, clauses):
    head = f'''set terminal {TERMINAL}
set output {quoted(path)}
set title {quoted(title)}
set ylabel {quoted(ylabel)}
set border 3 lc rgb "#606060"
set grid ytics lc rgb "#dddddd" lt 1
set tics nomirror out
set key outside right top Left reverse samplen 1.5
set datafile missing "?"
set bars 0.5
set yrange [0:*]
'''
    try:
        child = subprocess.run(['gnuplot', '-'], text=True, check=False, stdout=subprocess.PIPE,
                               input=head + script + 'plot ' + ', '.join(clauses) + '\n',
                               stderr=subprocess.STDOUT)
    except FileNotFoundError as error:
        raise Unusable('no gnuplot: run make deps, or apt-get install gnuplot-nox') from error
    if child.returncode:
        raise Unusable(f'gnuplot does not plot {path}: {child.stdout}')


def grouped(path, title, ylabel, categories, series, script, x, how):
    """A group for each category, in it one of each of the series, x(at) to its right."""
    rows = [' '.join((str(at), *(cells(values[at]) for values in series.values())))
            for at in range(len(categories))]
    names = ', '.join(f'{quoted(category)} {at}' for at, category in enumerate(categories))
    script += block('data', rows) + f'set xrange [-0.6:{len(categories) - 0.4}]\n' \
        f'set xtics ({names}){" rotate by -35 left" * (len(categories) > 6)}\n'
    clauses = [f'$data using {x(at)}{3 * at + 2}:{3 * at + 3}:{3 * at + 4} title {quoted(name)} '
               f'{how} lc rgb "{COLOURS[at]}"' for at, name in enumerate(series)]
    gnuplot(path, title, ylabel, script, clauses)


def bars(path, title, series, ylabel, categories):
    script = 'set style histogram errorbars gap 1 lw 1\n' \
        'set errorbars 0.5 front lc rgb "#404040"\nset style fill solid 0.9 noborder\n'
    grouped(path, title, ylabel, categories, series, script, lambda at: '', 'with histograms')


def dots(path, title, series, ylabel, categories):
    """For what is all about as large: the axis does not begin at 0."""
    middle = (len(series) - 1) / 2
    grouped(path, title, ylabel, categories, series, 'set yrange [*:*]\n',
            lambda at: f'($1+{0.2 * (at - middle)}):', 'with yerrorbars pt 7 ps 0.6 lw 1.5')


def lines(path, title, series, ylabel, xlabel, name_of=str, logarithmic=False):
    """A line for each of the series, {x: value}; x is on a scale of powers of two."""
    ticks = sorted({x for points in series.values() for x in points})
    script = f'set xlabel {quoted(xlabel)}\nset logscale x 2\n' \
        f'set xrange [{ticks[0] / 1.3}:{ticks[-1] * 1.3}]\n' \
        'set xtics (' + ', '.join(f'{quoted(name_of(x))} {x}' for x in ticks) + ')\n'
    if logarithmic:
        script += 'set logscale y\nset format y "%.0s %cs"\nset yrange [*:*]\n'
    clauses = []
    for at, (name, points) in enumerate(series.items()):
        script += block(f'data{at}', [f'{x} {cells(points[x])}' for x in sorted(points)])
        clauses.append(f'$data{at} with yerrorlines title {quoted(name)} lc rgb "{COLOURS[at]}" '
                       f'lw 1.5 pt {at + 5} ps 0.7')
    gnuplot(path, title, ylabel, script, clauses)


def size_name(size):
    for unit, name in ((1 << 30, 'GiB'), (1 << 20, 'MiB'), (1 << 10, 'KiB')):
        if size >= unit and size % unit == 0:
            return f'{size // unit} {name}'
    return f'{size} B' if size else ''
