/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * suite - what the test programs have in common: options, seeds, TAP.
 *
 * Conventions are those of odp.h: int is 0 or a negative errno, with a line of
 * text in odp_error().
 */
#ifndef SUITE_H
#define SUITE_H

#include "odp.h"

struct suite {
	const char *program;	/* its name: test-... */
	const char *about;	/* for --help: what it shows and wants, in lines */
	void *ctx;		/* for the functions below */
	const struct odp_dev *dev;
	bool needs_odp;		/* without it every subtest is skipped */
	uint64_t *iterations;	/* the default, and what --iterations says; or NULL */

	/* The name of subtest @i, counted from 0; NULL behind the last one. */
	const char *(*name)(size_t i);

	/* Called once. @device is NULL where the user names none. */
	int (*open)(void *ctx, const char *device);
	void (*close)(void *ctx);

	/*
	 * @seed is for this subtest alone: the same whether it is run by itself
	 * or with the others. -ENODEV skips, and odp_error() is the reason.
	 */
	int (*run)(void *ctx, size_t i, uint64_t seed);

	/* A subtest has failed: make the next one independent of it. NULL: it is. */
	int (*recover)(void *ctx);
};

/* The whole of main(): returns the exit status. */
int suite_main(const struct suite *suite, int argc, char **argv);

#endif
