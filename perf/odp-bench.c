// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-bench: what memory costs that is pinned, and what it costs on demand.
 *
 * One RC pair in loopback, one message at a time, so that a figure is the cost
 * of the message and not of a queue. Run it in tests/vm/run --deterministic:
 * a nanosecond is an instruction there, and figures repeat.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#define PAGE		4096UL
#define MESSAGE		ODP_MIB
#define MAX_ROUNDS	15

enum access { NONE, PINNED, ODP, ACCESSES };

static const char *const access_names[] = { "none", "pinned", "odp" };

struct bench {
	struct odp_dev dev;
	struct odp_pair pair;
	struct odp_mem staging;		/* pinned: the other end of each transfer */
	struct odp_mr staging_mr;
	enum odp_mem_kind kind;
	enum access access;
	size_t size;			/* registered and moved, bytes */
	int rounds;
};

/* Memory of the bench's kind, registered as its access says. */
struct region {
	struct odp_mem mem;
	struct odp_mr mr;
	uint64_t register_ns;
	uint64_t deregister_ns;
};

/* A case measures one round, in ns for all of its units. */
struct bench_case {
	const char *name;
	const char *unit;
	const char *what;
	int (*run)(struct bench *bench, uint64_t *ns, uint64_t *units);
	unsigned int accesses;		/* bits of enum access that it makes sense for */
};

#define BOTH	(1U << PINNED | 1U << ODP)

static int close_region(struct region *region, int ret)
{
	uint64_t start = odp_now();

	if (region->mr.mr) {
		if (ret)
			ibv_dereg_mr(region->mr.mr);
		else
			ret = odp_dereg(&region->mr);
	}
	region->deregister_ns = odp_now() - start;
	odp_mem_unmap(&region->mem);
	return ret;
}

static int open_region(struct bench *bench, struct region *region, bool touch)
{
	uint64_t start;
	int ret;

	memset(region, 0, sizeof(*region));
	ret = odp_mem_map(&region->mem, bench->kind, bench->size, NULL);
	if (ret)
		return ret;
	if (touch)
		odp_fill(region->mem.addr, region->mem.length, 1, 0);
	if (bench->access == NONE)
		return 0;
	start = odp_now();
	ret = odp_reg(&region->mr, &bench->dev, region->mem.addr, region->mem.length,
		      ODP_ACCESS | (bench->access == ODP ? IBV_ACCESS_ON_DEMAND : 0));
	region->register_ns = odp_now() - start;
	if (ret)
		odp_mem_unmap(&region->mem);
	return ret;
}

static int run_register(struct bench *bench, uint64_t *ns, uint64_t *units)
{
	struct region region;
	int ret;

	*units = 1;
	ret = open_region(bench, &region, true);
	*ns = region.register_ns;
	return ret ? ret : close_region(&region, 0);
}

static int run_deregister(struct bench *bench, uint64_t *ns, uint64_t *units)
{
	struct region region;
	int ret;

	*units = 1;
	ret = open_region(bench, &region, true);
	if (!ret)
		ret = odp_write(&bench->pair, &bench->staging_mr, 0, &region.mr, 0, MESSAGE);
	else
		return ret;
	ret = close_region(&region, ret);
	*ns = region.deregister_ns;
	return ret;
}

typedef int transfer_fn(struct odp_pair *pair, const struct odp_mr *local, size_t local_offset,
			const struct odp_mr *remote, size_t remote_offset, size_t length);

/* Moves all of the region once, in messages of @length that are @step apart. */
static int sweep(struct bench *bench, struct region *region, transfer_fn *transfer,
		 size_t length, size_t step, size_t total)
{
	size_t at;
	int ret = 0;

	for (at = 0; at + length <= total && !ret; at += step)
		ret = transfer(&bench->pair, &bench->staging_mr, 0, &region->mr, at, length);
	return ret;
}

/* @warm: everything has been moved once before the clock starts. */
static int run_sweep(struct bench *bench, uint64_t *ns, uint64_t *units, transfer_fn *transfer,
		     size_t length, size_t step, size_t total, bool warm)
{
	struct region region;
	uint64_t start;
	int ret;

	*units = length == MESSAGE ? total / ODP_MIB : (total - length) / step + 1;
	ret = open_region(bench, &region, false);
	if (ret)
		return ret;
	if (warm)
		ret = sweep(bench, &region, transfer, MESSAGE, MESSAGE, region.mem.length);
	start = odp_now();
	if (!ret)
		ret = sweep(bench, &region, transfer, length, step, total);
	*ns = odp_now() - start;
	return close_region(&region, ret);
}

static int run_write_first(struct bench *bench, uint64_t *ns, uint64_t *units)
{
	return run_sweep(bench, ns, units, odp_write, MESSAGE, MESSAGE, bench->size, false);
}

static int run_write_warm(struct bench *bench, uint64_t *ns, uint64_t *units)
{
	return run_sweep(bench, ns, units, odp_write, MESSAGE, MESSAGE, bench->size, true);
}

static int run_read_warm(struct bench *bench, uint64_t *ns, uint64_t *units)
{
	return run_sweep(bench, ns, units, odp_read, MESSAGE, MESSAGE, bench->size, true);
}

static int run_send_warm(struct bench *bench, uint64_t *ns, uint64_t *units)
{
	return run_sweep(bench, ns, units, odp_send, MESSAGE, MESSAGE, bench->size, true);
}

static int run_write_4096(struct bench *bench, uint64_t *ns, uint64_t *units)
{
	return run_sweep(bench, ns, units, odp_write, PAGE, PAGE, ODP_MIB, true);
}

static int run_write_64(struct bench *bench, uint64_t *ns, uint64_t *units)
{
	return run_sweep(bench, ns, units, odp_write, 64, PAGE, ODP_MIB, true);
}

static int run_write_64_first(struct bench *bench, uint64_t *ns, uint64_t *units)
{
	return run_sweep(bench, ns, units, odp_write, 64, PAGE, ODP_MIB, false);
}

/* The CPU throws pages away that the device uses. */
static int run_discard(struct bench *bench, uint64_t *ns, uint64_t *units)
{
	struct region region;
	uint64_t start;
	int ret;

	*units = bench->size / PAGE;
	ret = open_region(bench, &region, true);
	if (ret)
		return ret;
	if (bench->access != NONE)
		ret = sweep(bench, &region, odp_write, MESSAGE, MESSAGE, region.mem.length);
	start = odp_now();
	if (!ret && madvise(region.mem.addr, region.mem.length, MADV_DONTNEED))
		ret = odp_fail(errno, "MADV_DONTNEED: %s", strerror(errno));
	*ns = odp_now() - start;
	return close_region(&region, ret);
}

static const struct bench_case cases[] = {
	{ "register", "region", "ibv_reg_mr of memory that was touched", run_register, BOTH },
	{ "deregister", "region", "ibv_dereg_mr, 1 MiB of it used", run_deregister, BOTH },
	{ "write_first", "MiB", "RDMA WRITE, 1 MiB each, to memory never touched", run_write_first,
	  BOTH },
	{ "write_warm", "MiB", "the same once more", run_write_warm, BOTH },
	{ "read_warm", "MiB", "RDMA READ, 1 MiB each, once more", run_read_warm, BOTH },
	{ "send_warm", "MiB", "SEND from pinned memory, 1 MiB each, once more", run_send_warm,
	  BOTH },
	{ "write_4096", "write", "RDMA WRITE, 4096 bytes each, warm", run_write_4096, BOTH },
	{ "write_64", "write", "RDMA WRITE, 64 bytes to each page, warm", run_write_64, BOTH },
	{ "write_64_first", "write", "RDMA WRITE, 64 bytes to each page, never touched",
	  run_write_64_first, BOTH },
	{ "discard", "page", "MADV_DONTNEED; under none: memory not registered", run_discard,
	  BOTH | 1U << NONE },
};

/* The median of the rounds; a first one, which warms the kernel up, not counted. */
static int measure(struct bench *bench, const struct bench_case *bench_case, double *value)
{
	uint64_t took, units = 1;
	double ns[MAX_ROUNDS];
	int i, ret;

	for (i = -1; i < bench->rounds; i++) {
		ret = bench_case->run(bench, &took, &units);
		if (ret)
			return ret;
		ns[i < 0 ? 0 : i] = took;
	}
	*value = quartile(ns, bench->rounds, 2) / units;
	return 0;
}

struct result {
	double value[ACCESSES];		/* ns a unit; negative: none */
	char refusal[ACCESSES][32];
};

static void measure_case(struct bench *bench, const struct bench_case *bench_case,
			 struct result *result, int *failed)
{
	int ret;

	for (bench->access = NONE; bench->access < ACCESSES; bench->access++) {
		double *value = &result->value[bench->access];

		*value = -1;
		result->refusal[bench->access][0] = 0;
		if (!(bench_case->accesses & 1U << bench->access))
			continue;
		if (bench->access == ODP && !odp_supported(&bench->dev)) {
			strcpy(result->refusal[ODP], "EOPNOTSUPP");
			continue;
		}
		ret = measure(bench, bench_case, value);
		if (!ret)
			continue;
		*value = -1;
		snprintf(result->refusal[bench->access], sizeof(result->refusal[0]), "%s",
			 strerrorname_np(-ret));
		/* The kernel may refuse to pin, and nothing else. */
		if (bench->access == PINNED && (ret == -EOPNOTSUPP || ret == -EFAULT))
			continue;
		fprintf(stderr, "odp-bench: %s, %s, %s: %s\n", bench_case->name,
			odp_mem_name(bench->kind), access_names[bench->access], odp_error());
		(*failed)++;
		odp_disconnect(&bench->pair);
		if (odp_connect(&bench->pair, &bench->dev, NULL)) {
			fprintf(stderr, "odp-bench: no new queue pairs: %s\n", odp_error());
			exit(1);
		}
	}
}

static void print_cell(const struct result *result, enum access access)
{
	if (result->value[access] >= 0)
		printf(" %12.1f", result->value[access]);
	else
		printf(" %12s", result->refusal[access][0] ? result->refusal[access] : "-");
}

static void print_row(const struct bench *bench, const struct bench_case *bench_case,
		      const struct result *result)
{
	const double *value = result->value;

	printf("%-15s %-10s %-7s", bench_case->name, odp_mem_name(bench->kind), bench_case->unit);
	print_cell(result, NONE);
	print_cell(result, PINNED);
	print_cell(result, ODP);
	if (value[PINNED] > 0 && value[ODP] >= 0)
		printf(" %8.3f", value[ODP] / value[PINNED]);
	printf("\n");
	fflush(stdout);
}

static void write_json(FILE *json, const struct bench *bench, const struct bench_case *bench_case,
		       const struct result *result, bool *first)
{
	int access;

	for (access = NONE; access < ACCESSES; access++) {
		if (!(bench_case->accesses & 1U << access))
			continue;
		fprintf(json, "%s\n  {\"case\": \"%s\", \"memory\": \"%s\", \"mr\": \"%s\", \"per\": \"%s\", ",
			*first ? "" : ",", bench_case->name, odp_mem_name(bench->kind),
			access_names[access], bench_case->unit);
		if (result->value[access] >= 0)
			fprintf(json, "\"ns\": %.1f}", result->value[access]);
		else
			fprintf(json, "\"ns\": null, \"error\": \"%s\"}", result->refusal[access]);
		*first = false;
	}
}

static int start(struct bench *bench, const char *device)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;
	int ret;

	ret = odp_open(&bench->dev, device);
	if (!ret)
		ret = odp_connect(&bench->pair, &bench->dev, &attr);
	if (!ret)
		ret = odp_mem_map(&bench->staging, ODP_MEM_ANON, MESSAGE, NULL);
	if (!ret)
		ret = odp_reg(&bench->staging_mr, &bench->dev, bench->staging.addr,
			      bench->staging.length, ODP_ACCESS);
	return ret;
}

static void stop(struct bench *bench)
{
	odp_disconnect(&bench->pair);
	if (bench->staging_mr.mr)
		ibv_dereg_mr(bench->staging_mr.mr);
	odp_mem_unmap(&bench->staging);
	odp_close(&bench->dev);
}

static int run_all(struct bench *bench, const enum odp_mem_kind *kinds, int count,
		   const char *only, FILE *json)
{
	bool first = true;
	struct utsname uts;
	int i, failed = 0;
	size_t c;

	uname(&uts);
	printf("kernel %s, %s, %zu MiB, MTU 1024, median of %d; ns a unit\n\n", uts.release,
	       bench->dev.name, bench->size / ODP_MIB, bench->rounds);
	printf("%-15s %-10s %-7s %12s %12s %12s %8s\n", "case", "memory", "unit", "none", "pinned",
	       "ODP", "ODP/pin");
	if (json)
		fprintf(json, "{\"kernel\": \"%s\", \"bytes\": %zu, \"rounds\": %d, \"results\": [",
			uts.release, bench->size, bench->rounds);
	for (i = 0; i < count; i++) {
		for (c = 0; c < ARRAY_SIZE(cases); c++) {
			struct result result;

			if (only && strcmp(only, cases[c].name))
				continue;
			bench->kind = kinds[i];
			measure_case(bench, &cases[c], &result, &failed);
			print_row(bench, &cases[c], &result);
			if (json)
				write_json(json, bench, &cases[c], &result, &first);
		}
	}
	if (json)
		fprintf(json, "\n]}\n");
	return failed;
}

static void usage(FILE *out)
{
	size_t i;

	fprintf(out,
		"usage: odp-bench [options] [KIND...]\n"
		"What pinned memory and on-demand-paged memory cost, side by side, in nanoseconds.\n"
		"\n"
		"  --device NAME   RDMA device (default: the first soft-RoCE device)\n"
		"  --size MIB      registered and moved, 1 to 4096 (default 16)\n"
		"  --rounds N      median of N, 1 to %d (default 3)\n"
		"  --case NAME     only this case\n"
		"  --json FILE     the figures as JSON too: a list of {case, memory, mr, per, ns}\n"
		"  --help          this text\n"
		"\nKinds:", MAX_ROUNDS);
	for (i = 0; i < ODP_MEM_KINDS; i++)
		fprintf(out, " %s", odp_mem_name(i));
	fprintf(out, " (default: anonymous thp memfd)\n\nCases:\n");
	for (i = 0; i < ARRAY_SIZE(cases); i++)
		fprintf(out, "  %-15s %s; ns a %s\n", cases[i].name, cases[i].what, cases[i].unit);
}

static const char *known_case(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!strcmp(name, cases[i].name))
			return name;
	}
	fprintf(stderr, "odp-bench: no case %s; see --help\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "size", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "case", required_argument, NULL, 'c' },
		{ "json", required_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	struct bench bench = { .size = 16 * ODP_MIB, .rounds = 3 };
	enum odp_mem_kind kinds[64] = { ODP_MEM_ANON, ODP_MEM_THP, ODP_MEM_MEMFD };
	const char *device = NULL, *only = NULL, *path = NULL;
	FILE *json = NULL;
	int opt, kind, failed, count = 0;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'd':
			device = optarg;
			break;
		case 's':
			bench.size = number("size", optarg, 4096) * ODP_MIB;
			break;
		case 'r':
			bench.rounds = number("rounds", optarg, MAX_ROUNDS);
			break;
		case 'c':
			only = known_case(optarg);
			break;
		case 'j':
			path = optarg;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	for (; optind < argc && count < (int)ARRAY_SIZE(kinds); optind++) {
		kind = odp_mem_kind(argv[optind]);
		if (kind < 0) {
			fprintf(stderr, "odp-bench: %s\n", odp_error());
			return 2;
		}
		kinds[count++] = kind;
	}
	if (!count)
		count = 3;
	if (path) {
		json = fopen(path, "w");
		if (!json) {
			fprintf(stderr, "odp-bench: %s: %s\n", path, strerror(errno));
			return 1;
		}
	}
	if (start(&bench, device)) {
		fprintf(stderr, "odp-bench: %s\n", odp_error());
		failed = 1;
	} else {
		failed = run_all(&bench, kinds, count, only, json);
	}
	if (json && fclose(json)) {
		fprintf(stderr, "odp-bench: %s: %s\n", path, strerror(errno));
		failed = 1;
	}
	stop(&bench);
	return !!failed;
}
