// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* odp-bench: where faults are known to cost more than themselves. */
#define _GNU_SOURCE
#include "bench.h"

#include <string.h>
#include <unistd.h>

#define MESSAGES	64		/* of a stream */
#define STREAMS		8		/* a single one is too short to time */
#define FAULT_AT	32
#define COUNTERS_US	20000		/* what sysfs says may be 10 ms old */
#define PAIRS		16

static const struct sweep stream = {
	.op = WRITE, .length = PAGE, .step = PAGE, .count = MESSAGES, .depth = MESSAGES,
};

/* All of it is resident after the first stream. */
static int stream_open(struct bench *bench)
{
	int ret;

	if (bench->region.mr.mr)
		return 0;
	ret = region_open(bench, MESSAGES * PAGE);
	return ret ? ret : sweep(bench, &stream);
}

/* @ns: for each of STREAMS, with or without a page that the device has to fault in. */
static int run_streams(struct bench *bench, bool fault, double *ns)
{
	uint64_t start, sum = 0;
	int i, ret = stream_open(bench);

	for (i = 0; i < STREAMS && !ret; i++) {
		staging_fill(bench, MESSAGES * PAGE);
		if (fault)
			ret = odp_mem_discard(&bench->region.mem, FAULT_AT * PAGE, PAGE);
		start = odp_now();
		if (!ret)
			ret = sweep(bench, &stream);
		sum += odp_now() - start;
		if (!ret)
			ret = sweep_check(bench, &stream);
	}
	*ns = (double)sum / STREAMS;
	return ret;
}

static int run_unfaulted(struct bench *bench, double *value)
{
	return run_streams(bench, false, value);
}

static int run_faulted(struct bench *bench, double *value)
{
	return run_streams(bench, true, value);
}

static int sent_packets(const struct bench *bench, uint64_t *packets)
{
	char path[256];
	FILE *file;
	int got = 0;

	usleep(COUNTERS_US);
	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/%u/hw_counters/sent_pkts",
		 bench->dev.name, bench->dev.port);
	file = fopen(path, "re");
	if (file) {
		got = fscanf(file, "%lu", packets);
		fclose(file);
	}
	return got == 1 ? 0 : odp_fail(UNSUPPORTED, "%s: this device does not count what it sends",
				       path);
}

/*
 * rxe has a counter of the times that it begins to resend, and none of the packets
 * that it sends again. So: what it sends more than for the same stream without the
 * fault, NAKs and acknowledgements of what came twice included.
 */
static int run_resends(struct bench *bench, double *value)
{
	uint64_t before = 0, between = 0, after = 0;
	double ns;
	int ret = stream_open(bench);

	if (!ret)
		ret = sent_packets(bench, &before);
	if (!ret)
		ret = run_streams(bench, false, &ns);
	if (!ret)
		ret = sent_packets(bench, &between);
	if (!ret)
		ret = run_streams(bench, true, &ns);
	if (!ret)
		ret = sent_packets(bench, &after);
	*value = ((double)(after - between) - (double)(between - before)) / STREAMS;
	return ret;
}

static int post_read(struct bench *bench, size_t local, size_t target)
{
	struct ibv_sge sge = odp_sge(&bench->staging.mr, local, PAGE);

	return odp_post(&bench->pair.local, IBV_WR_RDMA_READ, 0, &sge, 1, &bench->region.mr,
			target);
}

static int read_pair(struct bench *bench, size_t local, size_t target)
{
	int ret = post_read(bench, local, target);

	if (!ret)
		ret = post_read(bench, local + PAGE, target + bench->size);
	if (!ret)
		ret = odp_wait_success(&bench->pair.local, "the first READ", PAGE);
	return ret ? ret : odp_wait_success(&bench->pair.local, "the second READ", PAGE);
}

static int run_pairs(struct bench *bench, double *value)
{
	struct odp_mismatch bad;
	uint64_t start;
	size_t i;
	int ret;

	staging_fill(bench, 2 * PAIRS * PAGE);
	ret = region_map(bench, 2 * PAIRS * bench->size);
	if (!ret)
		ret = region_register(bench);
	start = odp_now();
	for (i = 0; i < PAIRS && !ret; i++)
		ret = read_pair(bench, 2 * i * PAGE, 2 * i * bench->size);
	*value = (double)(odp_now() - start) / PAIRS;
	if (!ret && !odp_compare(bench->staging.mem.addr, NULL, 2 * PAIRS * PAGE, &bad))
		ret = odp_fail(WRONG_BYTES, "%zu bytes are not 0, the first one at %zu", bad.count,
			       bad.offset);
	return ret;
}

#define STREAM(_name, _unit, _run, _what, _accesses, _kinds)				\
	{ .name = "stream_" _name, .unit = _unit, .run = _run, .what = _what,		\
	  .accesses = _accesses, .kinds = _kinds, .sizes = { PAGE } }

#define RESENDS	"packets sent more because of the fault"

const struct bench_case pitfall_cases[] = {
	STREAM("unfaulted", "ns/stream", run_unfaulted, "64 WRITEs at once", BOTH, ANON),
	STREAM("unfaulted", "ns/stream", run_unfaulted, "64 WRITEs at once", BIT(ODP), EXT4),
	STREAM("faulted", "ns/stream", run_faulted, "64 WRITEs, a page in the middle was discarded",
	       BIT(ODP), ANON | EXT4),
	STREAM("resends", "resends/stream", run_resends, RESENDS, BIT(ODP), ANON | EXT4),
	{ .name = "pair_read", .unit = "ns/pair", .run = run_pairs, .accesses = BIT(ODP),
	  .what = "two READs at once of untouched pages, so far apart", .kinds = ANON,
	  .sizes = { PAGE, 2 * PAGE, 8 * PAGE, 64 * PAGE, 512 * PAGE, 4096 * PAGE } },
	{}
};
