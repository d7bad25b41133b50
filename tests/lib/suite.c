// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "suite.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Each costs ODP_WAIT_MS; a device that is stuck stays so. */
#define MAX_TIMEOUTS	2

#define MAX_ONLY	32

static uint64_t test_seed(uint64_t seed, const char *name)
{
	while (*name)
		seed = odp_random(&seed) ^ (uint8_t)*name++;
	return seed;
}

static void print_replay(const struct suite *suite, const char *name, uint64_t seed)
{
	printf("# replay: %s --seed %lu --only %s", suite->program, seed, name);
	if (suite->iterations)
		printf(" --iterations %lu", *suite->iterations);
	putchar('\n');
}

/* Returns 0, or the error; the TAP line is printed. */
static int run_test(const struct suite *suite, size_t i, int number, uint64_t seed)
{
	const char *name = suite->name(i);
	int ret;

	if (suite->needs_odp && !odp_supported(suite->dev))
		ret = odp_fail(ENODEV, "the kernel has no ODP for %s", suite->dev->name);
	else
		ret = suite->run(suite->ctx, i, test_seed(seed, name));
	if (ret == -ENODEV) {
		printf("ok %d %s # SKIP %s\n", number, name, odp_error());
		ret = 0;
	} else if (ret) {
		printf("not ok %d %s\n# %s\n", number, name, odp_error());
		print_replay(suite, name, seed);
		if (suite->recover && suite->recover(suite->ctx))
			printf("# after it: %s\n", odp_error());
	} else {
		printf("ok %d %s\n", number, name);
	}
	fflush(stdout);
	return ret;
}

/* With none every name is wanted. */
static bool wanted(const char *name, const char *const *only)
{
	if (!*only)
		return true;
	while (*only && !strstr(name, *only))
		only++;
	return *only;
}

static int run_all(const struct suite *suite, uint64_t seed, const char *const *only)
{
	int ret, number = 0, planned = 0, failed = 0, timeouts = 0;
	const char *name;
	size_t i;

	for (i = 0; (name = suite->name(i)); i++)
		planned += wanted(name, only);
	printf("TAP version 13\n1..%d\n# seed %lu, device %s\n", planned, seed, suite->dev->name);
	for (i = 0; (name = suite->name(i)); i++) {
		if (!wanted(name, only))
			continue;
		ret = run_test(suite, i, ++number, seed);
		failed += ret != 0;
		timeouts += ret == -ETIMEDOUT;
		if (timeouts >= MAX_TIMEOUTS) {
			printf("Bail out! the device completes nothing\n");
			break;
		}
	}
	if (!planned)
		fprintf(stderr, "%s: no subtest has %s in its name; see --list\n", suite->program,
			*only);
	return failed || !planned;
}

static int usage(const struct suite *suite, FILE *out)
{
	fprintf(out, "usage: %s [options]\n%s\n\n"
		"  --device NAME     RDMA device (default: the first soft-RoCE device)\n"
		"  --seed N          repeat the run that printed this seed\n", suite->program,
		suite->about);
	if (suite->iterations)
		fprintf(out, "  --iterations N    messages a subtest (default %lu)\n",
			*suite->iterations);
	fprintf(out,
		"  --only TEXT       only subtests whose name contains TEXT; may be repeated\n"
		"  --list            print the subtests' names\n"
		"  --help            this text\n\n"
		"Prints TAP. Exits with 1 if a subtest failed, with 2 for a wrong option.\n");
	return out == stdout ? 0 : 2;
}

static int list(const struct suite *suite)
{
	const char *name;
	size_t i;

	for (i = 0; (name = suite->name(i)); i++)
		puts(name);
	return 0;
}

int suite_main(const struct suite *suite, int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "seed", required_argument, NULL, 's' },
		{ "only", required_argument, NULL, 'o' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "iterations", required_argument, NULL, 'i' },
		{}
	};
	uint64_t seed = (odp_now() ^ (uint64_t)time(NULL) << 20) % 1000000000;
	const char *device = NULL, *only[MAX_ONLY + 1] = {};
	int opt, failed, ret = 0;
	size_t n = 0;

	while (!ret && (opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'd':
			device = optarg;
			break;
		case 's':
			ret = odp_parse_number(optarg, 0, UINT64_MAX, &seed);
			break;
		case 'i':
			if (!suite->iterations)
				return usage(suite, stderr);
			ret = odp_parse_number(optarg, 1, UINT32_MAX, suite->iterations);
			break;
		case 'o':
			if (n == MAX_ONLY)
				return usage(suite, stderr);
			only[n++] = optarg;
			break;
		case 'l':
			return list(suite);
		case 'h':
			return usage(suite, stdout);
		default:
			return usage(suite, stderr);
		}
	}
	if (!ret && optind < argc)
		return usage(suite, stderr);
	if (ret) {
		fprintf(stderr, "%s: %s\n", suite->program, odp_error());
		return 2;
	}
	if (suite->open(suite->ctx, device)) {
		fprintf(stderr, "%s: %s\n", suite->program, odp_error());
		return 1;
	}
	failed = run_all(suite, seed, only);
	suite->close(suite->ctx);
	return !!failed;
}
