// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-bench: queue pairs at work at the same time, a thread each. They use the
 * same page, or pages that are a leaf of the mirror's table apart, through one MR
 * or one each.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#define MAX_QPS		16
#define MESSAGES	8192		/* of all of them in a round */
#define LENGTH		64UL
#define DEPTH		16
#define LEAF		(2 * ODP_MIB)

struct worker {
	struct bench *bench;
	struct odp_pair pair;
	struct odp_mr own;
	const struct odp_mr *target;
	size_t offset;		/* in the target */
	size_t local;		/* in the staging memory */
	pthread_t thread;
	const bool *go;
	uint64_t start;
	uint64_t end;
	int ret;
	char error[256];
};

static int transfer(struct worker *worker)
{
	size_t i, count = MESSAGES / worker->bench->test->number;
	struct odp_end *end = &worker->pair.local;
	struct ibv_sge sge = odp_sge(&worker->bench->staging.mr, worker->local, LENGTH);
	int ret = 0;

	for (i = 0; i < count + DEPTH && !ret; i++) {
		if (i >= DEPTH)
			ret = odp_wait_success(end, "RDMA WRITE", LENGTH);
		if (!ret && i < count)
			ret = odp_post(end, IBV_WR_RDMA_WRITE, 0, &sge, 1, worker->target,
				       worker->offset);
	}
	return ret;
}

static void *work(void *arg)
{
	struct worker *worker = arg;

	while (!__atomic_load_n(worker->go, __ATOMIC_ACQUIRE))
		sched_yield();
	worker->start = odp_now();
	worker->ret = transfer(worker);
	worker->end = odp_now();
	/* The text is this thread's. */
	snprintf(worker->error, sizeof(worker->error), "%s", odp_error());
	return NULL;
}

static int prepare(struct bench *bench, struct worker *worker, size_t number)
{
	enum layout layout = bench->test->layout;
	size_t place = layout == ONE_PAGE ? number * LENGTH : number * LEAF;
	int ret = 0;

	worker->bench = bench;
	worker->local = number * PAGE;
	worker->target = layout == MR_EACH ? &worker->own : &bench->region.mr;
	worker->offset = layout == MR_EACH ? 0 : place;
	if (layout == MR_EACH)
		ret = register_as(bench, &worker->own, (char *)bench->region.mem.addr + place,
				  LEAF);
	return ret ? ret : odp_connect(&worker->pair, &bench->dev, NULL);
}

static int check(struct bench *bench, const struct worker *worker)
{
	const char *is = (char *)(uintptr_t)worker->target->iova + worker->offset;
	const char *expected = (char *)bench->staging.mem.addr + worker->local;

	if (memcmp(is, expected, LENGTH))
		return odp_fail(WRONG_BYTES, "wrong bytes at offset %zu", worker->offset);
	return 0;
}

/* @ns: from the first one's start to the last one's end. */
static int run_workers(struct worker *workers, int count, uint64_t *ns)
{
	uint64_t start = UINT64_MAX, end = 0;
	bool go = false;
	int i, err = 0, ret = 0, started;

	for (started = 0; started < count && !err; started += !err) {
		workers[started].go = &go;
		err = pthread_create(&workers[started].thread, NULL, work, &workers[started]);
	}
	__atomic_store_n(&go, true, __ATOMIC_RELEASE);
	if (err)
		ret = odp_fail(err, "pthread_create: %s", strerror(err));
	for (i = 0; i < started; i++) {
		pthread_join(workers[i].thread, NULL);
		if (!ret && workers[i].ret)
			ret = odp_fail(-workers[i].ret, "%s", workers[i].error);
		start = workers[i].start < start ? workers[i].start : start;
		end = workers[i].end > end ? workers[i].end : end;
	}
	*ns = end - start;
	return ret;
}

static int run_scale(struct bench *bench, double *value)
{
	static struct worker workers[MAX_QPS];
	int i, count = bench->test->number, ret;
	uint64_t ns = 0;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return odp_fail(UNSUPPORTED, "one CPU: nothing runs at the same time (tests/vm/run --cpus 2)");
	memset(workers, 0, sizeof(workers));
	ret = region_map(bench, count * LEAF);
	if (!ret && bench->test->layout != MR_EACH)
		ret = region_register(bench);
	staging_fill(bench, count * PAGE);
	for (i = 0; i < count && !ret; i++)
		ret = prepare(bench, &workers[i], i);
	if (!ret)
		ret = run_workers(workers, count, &ns);
	for (i = 0; i < count && !ret; i++)
		ret = check(bench, &workers[i]);
	*value = (double)ns / MESSAGES;
	for (i = 0; i < count; i++) {
		odp_disconnect(&workers[i].pair);
		odp_dereg(&workers[i].own);
	}
	return ret;
}

#define SCALE(_name, _layout, _what, _number)						\
	{ .name = "scale_" _name "_" #_number, .unit = "ns/message", .run = run_scale,	\
	  .what = #_number " queue pairs that WRITE to " _what, .accesses = BOTH,	\
	  .kinds = ANON, .sizes = { LENGTH }, .layout = _layout, .number = _number,	\
	  .parallel = true }

#define SCALES(_name, _layout, _what)							\
	SCALE(_name, _layout, _what, 1),						\
	SCALE(_name, _layout, _what, 2),						\
	SCALE(_name, _layout, _what, 4),						\
	SCALE(_name, _layout, _what, 8),						\
	SCALE(_name, _layout, _what, 16)

const struct bench_case scale_cases[] = {
	SCALES("page", ONE_PAGE, "one page"),
	SCALES("mr", ONE_MR, "one MR"),
	SCALES("mrs", MR_EACH, "an MR each"),
	{}
};
