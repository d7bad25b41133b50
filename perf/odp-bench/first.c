// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-bench: the device comes to a page for the first time. Beside it, under mr
 * none, the CPU does the same; what is pinned was faulted in when it was registered.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SPAN		(4 * ODP_MIB)	/* what is swept in a round, at least one message */
#define SMALL		64		/* one such message a page */
#define SMALL_SPAN	ODP_MIB
#define PM_SWAPPED	(1ULL << 62)

static int count_swapped(const struct odp_mem *mem, size_t *swapped)
{
	uint64_t entry;
	size_t i;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return odp_fail(errno, "/proc/self/pagemap: %s", strerror(errno));
	for (i = 0; i < mem->length / PAGE; i++) {
		off_t at = ((uintptr_t)mem->addr / PAGE + i) * sizeof(entry);

		if (pread(fd, &entry, sizeof(entry), at) == sizeof(entry) && entry & PM_SWAPPED)
			(*swapped)++;
	}
	close(fd);
	return 0;
}

/*
 * Written to swap space and unmapped. The copies stay in the swap cache until the kernel
 * wants their memory, so the fault need not read the disk, and the figure repeats.
 */
static int swap_out(struct bench *bench)
{
	const struct odp_mem *mem = &bench->region.mem;
	size_t swapped = 0, pages = mem->length / PAGE;
	int ret;

	if (madvise(mem->addr, mem->length, MADV_PAGEOUT))
		return odp_fail(errno, "MADV_PAGEOUT: %s", strerror(errno));
	ret = count_swapped(mem, &swapped);
	if (!ret && swapped < pages - pages / 16)
		ret = odp_fail(UNSUPPORTED, "%zu of %zu pages can be swapped out; is there swap space? (tests/vm/run --swap)",
			       swapped, pages);
	return ret;
}

static int bring_to_state(struct bench *bench, size_t length)
{
	int ret = region_map(bench, length);

	if (ret || bench->test->state == ABSENT)
		return ret;
	region_fill(bench);
	return bench->test->state == SWAPPED ? swap_out(bench) : 0;
}

static int run_first(struct bench *bench, double *value)
{
	size_t span = bench->size == SMALL ? SMALL_SPAN : SPAN;
	struct sweep s = {
		.op = bench->test->op,
		.length = bench->size,
		.step = bench->size > PAGE ? bench->size : PAGE,
		.depth = 1,
		.advice = bench->test->advice,
	};
	uint64_t start;
	int ret;

	s.count = span > s.step ? span / s.step : 1;
	staging_fill(bench, s.count * s.step);
	ret = bring_to_state(bench, s.count * s.step);
	if (!ret)
		ret = region_register(bench);
	start = odp_now();
	if (!ret)
		ret = sweep(bench, &s);
	*value = sweep_value(bench, &s, odp_now() - start);
	if (!ret)
		ret = sweep_check(bench, &s);
	return ret;
}

static int run_first_cpu(struct bench *bench, double *value)
{
	uint64_t start;
	int ret;

	ret = bring_to_state(bench, SPAN);
	start = odp_now();
	if (!ret)
		region_touch(bench, bench->test->op == WRITE);
	*value = (double)(odp_now() - start) / (SPAN / PAGE);
	return ret;
}

#define FIRST(_op, _OP, _state, _STATE, _unit, _accesses, _kinds, ...)			\
	{ .name = "first_" #_op "_" #_state, .op = _OP, .state = _STATE, .run = run_first,	\
	  .what = "RDMA " #_OP ", pages " #_state, .unit = _unit, .accesses = _accesses,	\
	  .kinds = _kinds, .sizes = { __VA_ARGS__ } }

#define CPU(_op, _OP, _state, _STATE, _kinds)						\
	{ .name = "first_" #_op "_" #_state, .op = _OP, .state = _STATE,		\
	  .what = "the CPU's own access to them", .run = run_first_cpu, .unit = "ns/page",	\
	  .accesses = BIT(NONE), .kinds = _kinds, .sizes = { PAGE } }

#define ADVISED(_op, _OP, _state, _STATE, _suffix, _ADVICE)				\
	{ .name = "first_" #_op "_" #_state "_" _suffix, .op = _OP, .state = _STATE,	\
	  .what = "the same, advised in the same time", .run = run_first, .unit = "ns/page",	\
	  .accesses = BIT(ODP), .kinds = ANON, .sizes = { ODP_MIB },			\
	  .advice = IBV_ADVISE_MR_ADVICE_##_ADVICE + 1 }

#define ALL_ADVISED(_op, _OP, _state, _STATE)						\
	ADVISED(_op, _OP, _state, _STATE, "prefetch", PREFETCH),			\
	ADVISED(_op, _OP, _state, _STATE, "prefetch_write", PREFETCH_WRITE),		\
	ADVISED(_op, _OP, _state, _STATE, "no_fault", PREFETCH_NO_FAULT)

#define MESSAGE		"ns/message"
#define PER_PAGE	"ns/page"

const struct bench_case first_cases[] = {
	FIRST(write, WRITE, absent, ABSENT, MESSAGE, REGISTERED, ANON, SMALL),
	FIRST(write, WRITE, absent, ABSENT, PER_PAGE, REGISTERED, ANON, ODP_MIB),
	FIRST(write, WRITE, absent, ABSENT, PER_PAGE, BIT(ODP), ANON, PAGE, 64 * ODP_KIB, STAGING),
	FIRST(write, WRITE, absent, ABSENT, PER_PAGE, BIT(ODP), SPECIAL, ODP_MIB),
	CPU(write, WRITE, absent, ABSENT, ANON | SPECIAL),
	ALL_ADVISED(write, WRITE, absent, ABSENT),
	FIRST(read, READ, absent, ABSENT, MESSAGE, BIT(ODP), ANON, SMALL),
	FIRST(read, READ, absent, ABSENT, PER_PAGE, BIT(ODP), ANON, PAGE, 64 * ODP_KIB, ODP_MIB,
	      STAGING),
	FIRST(read, READ, absent, ABSENT, PER_PAGE, BIT(ODP), MEMFD, ODP_MIB),
	CPU(read, READ, absent, ABSENT, ANON | MEMFD),
	ALL_ADVISED(read, READ, absent, ABSENT),
	FIRST(write, WRITE, resident, RESIDENT, MESSAGE, BIT(ODP), ANON, SMALL),
	FIRST(write, WRITE, resident, RESIDENT, PER_PAGE, BIT(ODP), ANON, 64 * ODP_KIB, ODP_MIB,
	      STAGING),
	FIRST(write, WRITE, resident, RESIDENT, PER_PAGE, BIT(ODP), THP, ODP_MIB),
	ALL_ADVISED(write, WRITE, resident, RESIDENT),
	FIRST(read, READ, resident, RESIDENT, MESSAGE, BIT(ODP), ANON, SMALL),
	FIRST(read, READ, resident, RESIDENT, PER_PAGE, BIT(ODP), ANON, 64 * ODP_KIB, ODP_MIB,
	      STAGING),
	ALL_ADVISED(read, READ, resident, RESIDENT),
	FIRST(write, WRITE, swapped, SWAPPED, MESSAGE, BIT(ODP), ANON, SMALL),
	FIRST(write, WRITE, swapped, SWAPPED, PER_PAGE, BIT(ODP), ANON, PAGE, ODP_MIB),
	CPU(write, WRITE, swapped, SWAPPED, ANON),
	FIRST(read, READ, swapped, SWAPPED, MESSAGE, BIT(ODP), ANON, SMALL),
	FIRST(read, READ, swapped, SWAPPED, PER_PAGE, BIT(ODP), ANON, PAGE, ODP_MIB),
	CPU(read, READ, swapped, SWAPPED, ANON),
	{}
};
