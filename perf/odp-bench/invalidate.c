// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-bench: the kernel takes away what the device may use. A figure is all of
 * the call's cost: what the device adds is the difference to mr none, where the
 * same pages are in use by the CPU and by nobody else.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SPAN		(4 * ODP_MIB)
#define STORM_SPAN	(64 * PAGE)
#define STREAM_LENGTH	(64 * ODP_KIB)

static int failed(const char *what)
{
	return odp_fail(errno, "%s: %s", what, strerror(errno));
}

static int discard(struct bench *bench, uint64_t *ns)
{
	uint64_t start = odp_now();
	int ret = madvise(bench->region.mem.addr, SPAN, MADV_DONTNEED);

	*ns = odp_now() - start;
	return ret ? failed("MADV_DONTNEED") : 0;
}

static int protect(struct bench *bench, uint64_t *ns)
{
	uint64_t start = odp_now();
	int ret = mprotect(bench->region.mem.addr, SPAN, PROT_READ);

	*ns = odp_now() - start;
	return ret ? failed("mprotect") : 0;
}

static int unmap(struct bench *bench, uint64_t *ns)
{
	struct odp_mem *mem = &bench->region.mem;
	uint64_t start = odp_now();
	int ret = munmap(mem->addr, SPAN);

	*ns = odp_now() - start;
	if (ret)
		return failed("munmap");
	/* Nothing else may come to be there until all of it is unmapped. */
	if (mmap(mem->addr, SPAN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	    MAP_FAILED)
		return failed("mmap");
	return 0;
}

/* The child may run first, until its end: this thread's own time only. */
static uint64_t own_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static int fork_child(struct bench *bench __attribute__((unused)), uint64_t *ns)
{
	uint64_t start = own_time();
	pid_t child = fork();

	if (!child)
		_exit(0);
	*ns = own_time() - start;
	if (child < 0 || waitpid(child, NULL, 0) < 0)
		return failed("fork");
	return 0;
}

static int truncate_file(struct bench *bench, uint64_t *ns)
{
	uint64_t start = odp_now();
	int ret = ftruncate(bench->region.mem.fd, 0);

	*ns = odp_now() - start;
	return ret ? failed("ftruncate") : 0;
}

/* The device uses some bytes of each page, as the state says. */
static int use_pages(struct bench *bench)
{
	struct sweep s = {
		.op = bench->test->state == DIRTY ? WRITE : READ,
		.length = 64,
		.step = PAGE,
		.count = SPAN / PAGE,
		.depth = 16,
	};
	int ret;

	staging_fill(bench, SPAN);
	ret = sweep(bench, &s);
	return ret ? ret : sweep_check(bench, &s);
}

static int run_event(struct bench *bench, double *value)
{
	uint64_t ns = 0;
	int ret;

	ret = region_map(bench, SPAN);
	if (ret)
		return ret;
	region_touch(bench, true);
	ret = region_register(bench);
	if (!ret && bench->test->state != ABSENT)
		ret = use_pages(bench);
	if (!ret)
		ret = bench->test->event(bench, &ns);
	*value = (double)ns / (SPAN / PAGE);
	return ret ? ret : region_close(bench);
}

struct storm {
	char *addr;
	bool stop;
	int ret;
};

/* Use and discard, again and again; at each turn the other thread gets one too. */
static void *run_storm(void *arg)
{
	struct storm *storm = arg;
	size_t i;

	while (!__atomic_load_n(&storm->stop, __ATOMIC_RELAXED) && !storm->ret) {
		for (i = 0; i < STORM_SPAN; i += PAGE)
			((volatile char *)storm->addr)[i] = 1;
		if (madvise(storm->addr, STORM_SPAN, MADV_DONTNEED))
			storm->ret = failed("MADV_DONTNEED");
		sched_yield();
	}
	return NULL;
}

/* What is discarded is in the same MR as what the stream goes to, and beside it. */
static int run_storm_write(struct bench *bench, double *value)
{
	struct sweep s = {
		.op = WRITE,
		.length = bench->size,
		.step = bench->size,
		.count = SPAN / bench->size,
		.depth = 16,
	};
	struct storm storm = {};
	pthread_t thread;
	uint64_t start;
	int ret;

	ret = region_open(bench, SPAN + STORM_SPAN);
	if (ret)
		return ret;
	storm.addr = (char *)bench->region.mem.addr + SPAN;
	staging_fill(bench, SPAN);
	ret = pthread_create(&thread, NULL, run_storm, &storm);
	if (ret)
		return odp_fail(ret, "pthread_create: %s", strerror(ret));
	start = odp_now();
	ret = sweep(bench, &s);
	*value = sweep_value(bench, &s, odp_now() - start);
	__atomic_store_n(&storm.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	if (!ret)
		ret = storm.ret;
	return ret ? ret : sweep_check(bench, &s);
}

#define EVENT(_name, _event, _what, _state, _STATE, _accesses, _kinds)			\
	{ .name = _name "_" _state, .unit = "ns/page", .run = run_event, .event = _event,	\
	  .what = _what, .state = _STATE, .accesses = _accesses, .kinds = _kinds }

#define EVENTS(_name, _event, _what, _kinds, _more)					\
	EVENT(_name, _event, _what " of pages that the device has not used", "absent",	\
	      ABSENT, BIT(NONE) | BIT(ODP) | _more, _kinds),				\
	EVENT(_name, _event, _what " of pages that it has read", "clean", CLEAN,	\
	      BIT(ODP) | _more, _kinds),						\
	EVENT(_name, _event, _what " of pages that it has written", "dirty", DIRTY,	\
	      BIT(ODP) | _more, _kinds)

const struct bench_case invalidate_cases[] = {
	EVENTS("discard", discard, "MADV_DONTNEED", ANON, BIT(IMPLICIT)),
	EVENTS("discard", discard, "MADV_DONTNEED", THP | MEMFD, 0),
	EVENTS("protect", protect, "mprotect(PROT_READ)", ANON, 0),
	EVENTS("unmap", unmap, "munmap", ANON, 0),
	EVENTS("fork", fork_child, "fork", ANON, 0),
	EVENTS("truncate", truncate_file, "ftruncate", MEMFD | EXT4, 0),
	{ .name = "storm_write", .unit = "ns/MiB", .run = run_storm_write,
	  .what = "stream of WRITEs while other pages of the region are discarded",
	  .accesses = REGISTERED, .kinds = ANON, .sizes = { STREAM_LENGTH } },
	{}
};
