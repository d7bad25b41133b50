/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* What the programs of this directory have in common. They define _GNU_SOURCE. */
#ifndef BENCH_H
#define BENCH_H

#include "odp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static inline int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The first, the second (the median) or the third quartile. Sorts @values. */
static inline double quartile(double *values, int count, int which)
{
	qsort(values, count, sizeof(*values), compare_double);
	return values[count * which / 4];
}

/* What an option says, 1 to @max; else the program ends. */
static inline unsigned long number(const char *option, const char *text, unsigned long max)
{
	uint64_t value;

	if (odp_parse_number(text, 1, max, &value)) {
		fprintf(stderr, "%s: --%s: %s\n", program_invocation_short_name, option,
			odp_error());
		exit(2);
	}
	return value;
}

#endif
