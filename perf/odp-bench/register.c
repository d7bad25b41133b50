// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* odp-bench: registering memory, and the kernel's memory that this takes. */
#define _GNU_SOURCE
#include "bench.h"

#include <string.h>
#include <unistd.h>

#define CALLS		16		/* a single one is too short to time */
#define USED		ODP_MIB
#define TABLE_MRS	256
#define TABLE_SPARE	(3 * TABLE_MRS)
#define TABLE_SPARE_MRS	8		/* of TABLE_RESIDENT each */
#define LEAF		(2 * ODP_MIB)
#define TABLE_RESIDENT	(64 * ODP_MIB)
#define SETTLE_US	100000

/* Touching all of it is not worth an OOM kill. */
static int check_available(size_t length)
{
	unsigned long kib = 0;
	char line[128];
	FILE *file = fopen("/proc/meminfo", "re");

	while (file && fgets(line, sizeof(line), file) &&
	       sscanf(line, "MemAvailable: %lu", &kib) != 1)
		;
	if (file)
		fclose(file);
	if (kib * ODP_KIB < length + length / 4)
		return odp_fail(UNSUPPORTED, "%zu MiB do not fit in the %lu that are available",
				length / ODP_MIB, kib / 1024);
	return 0;
}

/* The memory of a region to be, with pages if the case says so, or else pinning does. */
static int map_pages(struct bench *bench)
{
	bool touched = bench->test->state == RESIDENT;
	int ret = 0;

	if (touched || bench->access == PINNED)
		ret = check_available(bench->size);
	if (!ret)
		ret = region_map(bench, bench->size);
	if (!ret && touched)
		region_touch(bench, true);
	return ret;
}

static int run_register(struct bench *bench, double *value)
{
	int i, calls = bench->access == PINNED && bench->size > ODP_MIB ? 1 : CALLS, ret = 0;
	uint64_t start, ns = 0;

	for (i = 0; i < calls && !ret; i++) {
		if (bench->test->state == ABSENT || !bench->region.mem.addr)
			ret = map_pages(bench);
		start = odp_now();
		if (!ret)
			ret = region_register(bench);
		ns += odp_now() - start;
		if (!ret)
			ret = odp_dereg(&bench->region.mr);
	}
	*value = (double)ns / calls;
	return ret;
}

/* Where the device has used nothing there is nothing to let go of. */
static int run_deregister(struct bench *bench, double *value)
{
	size_t used = bench->size < USED ? bench->size : USED;
	struct sweep s = { .op = WRITE, .length = used, .step = used, .count = 1, .depth = 1 };
	uint64_t start;
	int ret = 0;

	staging_fill(bench, used);
	if (!bench->region.mem.addr)
		ret = map_pages(bench);
	if (!ret)
		ret = region_register(bench);
	if (!ret)
		ret = sweep(bench, &s);
	if (!ret)
		ret = sweep_check(bench, &s);
	start = odp_now();
	if (!ret)
		ret = odp_dereg(&bench->region.mr);
	*value = odp_now() - start;
	return ret;
}

static int tell_kernel(const char *path, const char *what)
{
	FILE *file = fopen(path, "we");

	if (!file || fputs(what, file) < 0 || fclose(file))
		return odp_fail(UNSUPPORTED, "%s: %s; run it as root", path, strerror(errno));
	return 0;
}

/*
 * The memory that the kernel has for itself: all pages but those that are free,
 * the process's, files', and page tables. Not from /proc/meminfo: its Slab and
 * VmallocUsed miss what drivers take as pages (a pinned MR's scatter list), its
 * MemFree what the CPUs keep in lists of their own, and both the last changes on
 * each CPU. /proc/zoneinfo has those lists, and vm.stat_refresh the changes.
 *
 * What was freed with kfree_rcu() is free seconds later, or when the kernel is
 * asked to shrink.
 */
static int kernel_pages(long *pages)
{
	static const char *const others[] = {
		"nr_free_pages", "count:", "nr_anon_pages", "nr_file_pages", "nr_page_table_pages",
	};
	char line[256], name[64];
	unsigned long value;
	FILE *file;
	size_t i;
	int ret;

	ret = tell_kernel("/proc/sys/vm/drop_caches", "2");
	usleep(SETTLE_US);
	if (!ret)
		ret = tell_kernel("/proc/sys/vm/stat_refresh", "1");
	if (ret)
		return ret;
	file = fopen("/proc/zoneinfo", "re");
	if (!file)
		return odp_fail(UNSUPPORTED, "/proc/zoneinfo: %s", strerror(errno));
	*pages = 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, " %63s %lu", name, &value) != 2)
			continue;
		for (i = 0; i < ARRAY_SIZE(others); i++)
			if (!strcmp(name, others[i]))
				*pages -= value;
	}
	fclose(file);
	return 0;
}

/* The device reads, some bytes each @step: that leaves nothing else in the kernel's memory. */
static int use_pages(struct bench *bench, const struct odp_mr *mr, size_t step)
{
	struct sweep s = {
		.op = READ, .length = 64, .step = step, .count = STAGING / step, .depth = 16,
	};
	struct region whole = bench->region;
	size_t at;
	int ret = 0;

	/* The staging memory is as long as a part of it. */
	for (at = 0; at < whole.mem.length && !ret; at += STAGING) {
		bench->region.mr = *mr;
		bench->region.mr.iova += at;
		bench->region.mem.addr = (char *)whole.mem.addr + at;
		ret = sweep(bench, &s);
		if (!ret)
			ret = sweep_check(bench, &s);
	}
	bench->region = whole;
	return ret;
}

/*
 * In pinned memory neighbours that are also neighbours in RAM share an entry of the
 * scatter list. How many are is chance, so none is to be.
 */
static void touch_scattered(struct bench *bench)
{
	volatile char *at = bench->region.mem.addr;
	size_t i, pages = bench->region.mem.length / PAGE;

	for (i = 0; i < pages; i++)
		at[i * 127 % pages * PAGE] = 1;
}

static int take_memory(struct bench *bench, struct odp_mr *mrs, int count, size_t step)
{
	int i, ret = 0;

	for (i = 0; i < count && !ret; i++) {
		ret = register_as(bench, &mrs[i], bench->region.mem.addr, bench->region.mem.length);
		if (!ret && bench->test->state == RESIDENT)
			ret = use_pages(bench, &mrs[i], step);
	}
	return ret;
}

/*
 * The allocators keep some of what was freed. Spare regions use that up first, so
 * that what is measured takes new memory. For what earlier rounds freed to be there
 * when they do, the kernel settles before.
 */
static int run_table(struct bench *bench, double *value)
{
	static struct odp_mr mrs[TABLE_SPARE + TABLE_MRS];
	bool large = bench->test->state == RESIDENT || bench->access == PINNED;
	int spare = large ? TABLE_SPARE_MRS : TABLE_SPARE, count = large ? 1 : TABLE_MRS;
	int i, err, ret;
	long before, after;

	ret = region_map(bench, large ? TABLE_RESIDENT : GIB);
	if (!ret && large) {
		touch_scattered(bench);
		region_fill(bench);
	}
	if (!ret)
		ret = kernel_pages(&before);
	if (!ret)
		ret = take_memory(bench, mrs, spare, LEAF);
	if (!ret)
		ret = kernel_pages(&before);
	if (!ret)
		ret = take_memory(bench, mrs + spare, count, PAGE);
	if (!ret)
		ret = kernel_pages(&after);
	for (i = 0; i < spare + count; i++) {
		err = odp_dereg(&mrs[i]);
		ret = ret ? ret : err;
	}
	if (!ret)
		*value = (after - before) * (double)PAGE / count * GIB / bench->region.mem.length;
	return ret;
}

#define CALL(_name, _run, _what, _state, _accesses, _kinds, ...)			\
	{ .name = _name, .unit = "ns/region", .what = _what, .run = _run, .state = _state,	\
	  .accesses = _accesses, .kinds = _kinds, .sizes = { __VA_ARGS__ } }

#define TOUCHED(...)								\
	CALL("register_touched", run_register, "ibv_reg_mr of memory that the CPU has used",	\
	     RESIDENT, __VA_ARGS__)
#define UNTOUCHED(...)								\
	CALL("register_untouched", run_register, "ibv_reg_mr of memory that nobody has used",	\
	     ABSENT, __VA_ARGS__)
#define DEREGISTER(...)								\
	CALL("deregister", run_deregister, "ibv_dereg_mr, up to a MiB of it used", RESIDENT,	\
	     __VA_ARGS__)

const struct bench_case register_cases[] = {
	TOUCHED(REGISTERED, ANON, PAGE, ODP_MIB, 512 * ODP_MIB),
	TOUCHED(BOTH, SPECIAL, ODP_MIB),
	UNTOUCHED(REGISTERED, ANON, PAGE, ODP_MIB, 512 * ODP_MIB),
	UNTOUCHED(UNPINNED, ANON, 64 * GIB),
	UNTOUCHED(BOTH, SPECIAL, ODP_MIB),
	DEREGISTER(REGISTERED, ANON, PAGE, ODP_MIB, 512 * ODP_MIB),
	DEREGISTER(BOTH, SPECIAL, ODP_MIB),
	{ .name = "table_registered", .unit = "bytes/GiB", .run = run_table, .state = ABSENT,
	  .what = "the kernel's memory for a region that nobody has used",
	  .accesses = REGISTERED, .kinds = ANON },
	{ .name = "table_resident", .unit = "bytes/GiB", .run = run_table, .state = RESIDENT,
	  .what = "the kernel's memory for a region of which the device uses each page",
	  .accesses = REGISTERED, .kinds = ANON },
	{}
};
