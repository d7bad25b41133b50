// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * shared-page: what queue pairs cost each other that use one page.
 *
 * Each copy to or from an ODP MR takes the lock of the page's leaf (2 MiB) in the
 * mirror for reading: no copy waits for another one, but the lock's word goes from
 * CPU to CPU. Here all queue pairs use one page, and so one lock, or each has a page
 * in a leaf of its own, and nothing else differs. The control is the same memory in
 * a pinned MR, which has no such lock: a difference there comes from the page's own
 * cache lines, or from the host.
 *
 * Run it in tests/vm/run with as many CPUs as there are, and not --deterministic:
 * the CPUs have to run at the same time, so that the figures are of this machine.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PAGE		4096UL
#define LEAF		(2 * ODP_MIB)	/* of the mirror's table; odp_mem_map() aligns to it */
#define DEPTH		16		/* messages under way on each queue pair */
#define MAX_QPS		64
#define MAX_ROUNDS	99

/* An arrangement is a set of these. */
enum { APART = 1, PINNED = 2, ARRANGEMENTS = 4 };

struct traffic {
	const char *name;
	enum ibv_wr_opcode opcode;
	size_t length;
};

static const struct traffic traffics[] = {
	{ "write", IBV_WR_RDMA_WRITE, 64 },
	{ "write", IBV_WR_RDMA_WRITE, PAGE },
	{ "read", IBV_WR_RDMA_READ, 64 },
	{ "read", IBV_WR_RDMA_READ, PAGE },
};

struct worker {
	struct bench *bench;
	struct odp_pair pair;
	pthread_t thread;
	size_t local;		/* offsets of what it moves, in the memory */
	size_t remote;
	void *from;
	void *to;
	uint64_t start;
	uint64_t end;
	int ret;
	char error[256];
};

struct bench {
	struct odp_dev dev;
	struct odp_mem mem;		/* a leaf for each queue pair, and one for all local ends */
	struct odp_mr odp;		/* all of it */
	struct odp_mr pinned;		/* and once more */
	struct worker workers[MAX_QPS];
	int qps;
	int rounds;
	uint64_t ops;			/* of each queue pair in a round */
	uint64_t seed;			/* of this round's bytes */
	const struct traffic *traffic;
	const struct odp_mr *target;	/* one of the two */
	bool go;
};

/* Several messages under way: the queue pair is at work all the time, and not its thread. */
static int transfer(struct worker *worker)
{
	const struct bench *bench = worker->bench;
	const struct traffic *traffic = bench->traffic;
	struct odp_end *end = &worker->pair.local;
	struct ibv_sge sge = odp_sge(&bench->pinned, worker->local, traffic->length);
	uint64_t i;
	int ret = 0;

	for (i = 0; i < bench->ops + DEPTH && !ret; i++) {
		if (i >= DEPTH)
			ret = odp_wait_success(end, traffic->name, traffic->length);
		if (i < bench->ops && !ret)
			ret = odp_post(end, traffic->opcode, i, &sge, 1, bench->target,
				       worker->remote);
	}
	return ret;
}

static void *work(void *arg)
{
	struct worker *worker = arg;

	while (!__atomic_load_n(&worker->bench->go, __ATOMIC_ACQUIRE))
		sched_yield();
	worker->start = odp_now();
	worker->ret = transfer(worker);
	worker->end = odp_now();
	if (worker->ret)
		snprintf(worker->error, sizeof(worker->error), "%s", odp_error());
	return NULL;
}

/* @ns: from the first one's start to the last one's end, for each message of all. */
static int run_workers(struct bench *bench, double *ns)
{
	uint64_t start = UINT64_MAX, end = 0;
	struct worker *worker;
	int i, ret = 0;

	bench->go = false;
	for (i = 0; i < bench->qps && !ret; i++)
		ret = -pthread_create(&bench->workers[i].thread, NULL, work, &bench->workers[i]);
	if (ret) {
		odp_fail(-ret, "pthread_create: %s", strerror(-ret));
		i--;
	}
	__atomic_store_n(&bench->go, true, __ATOMIC_RELEASE);
	for (worker = bench->workers; worker < bench->workers + i; worker++)
		pthread_join(worker->thread, NULL);
	for (worker = bench->workers; worker < bench->workers + bench->qps && !ret; worker++) {
		start = worker->start < start ? worker->start : start;
		end = worker->end > end ? worker->end : end;
		if (worker->ret)
			ret = odp_fail(-worker->ret, "%s", worker->error);
	}
	*ns = (double)(end - start) / (bench->ops * bench->qps);
	return ret;
}

/*
 * Offsets in the page are the same in every arrangement. Short messages have cache
 * lines of their own, so that the lock's is the only one they share. The bytes are
 * those of the place in the target, because whole pages may be the same page.
 */
static void prepare(struct bench *bench, int arrangement)
{
	bool read = bench->traffic->opcode == IBV_WR_RDMA_READ;
	size_t length = bench->traffic->length;
	int i;

	bench->seed++;
	bench->target = arrangement & PINNED ? &bench->pinned : &bench->odp;
	for (i = 0; i < bench->qps; i++) {
		struct worker *worker = &bench->workers[i];

		worker->local = bench->qps * LEAF + i * PAGE;
		worker->remote = (arrangement & APART ? i * LEAF : 0) + i * length % PAGE;
		worker->from = (char *)bench->mem.addr + (read ? worker->remote : worker->local);
		worker->to = (char *)bench->mem.addr + (read ? worker->local : worker->remote);
		odp_fill(worker->from, length, bench->seed, worker->remote);
		memset(worker->to, 0, length);
	}
}

static int check(const struct bench *bench)
{
	const struct traffic *traffic = bench->traffic;
	struct odp_mismatch bad;
	int i;

	for (i = 0; i < bench->qps; i++) {
		const struct worker *worker = &bench->workers[i];

		if (!odp_verify(worker->to, traffic->length, bench->seed, worker->remote, &bad))
			return odp_fail(EBADMSG, "%s of %zu bytes, queue pair %d: byte %zu is %#04x, should be %#04x; %zu wrong",
					traffic->name, traffic->length, i, bad.offset, bad.got,
					bad.expected, bad.count);
	}
	return 0;
}

/* Before the rounds that count there is one that faults all pages in. */
static int measure(struct bench *bench, const struct traffic *traffic, double (*ns)[MAX_ROUNDS])
{
	struct odp_counters before = {}, after = {};
	int round, i, arrangement, ret = 0;

	bench->traffic = traffic;
	for (round = -1; round < bench->rounds && !ret; round++) {
		if (!round)
			ret = odp_counters(&bench->odp, &before);
		for (i = 0; i < ARRANGEMENTS && !ret; i++) {
			/* Each comes in each place, and next to the one it is compared with. */
			arrangement = i ^ (round & (ARRANGEMENTS - 1));
			prepare(bench, arrangement);
			ret = run_workers(bench, &ns[arrangement][round < 0 ? 0 : round]);
			if (!ret)
				ret = check(bench);
		}
	}
	if (!ret)
		ret = odp_counters(&bench->odp, &after);
	if (!ret && (after.faults != before.faults || after.invalidations != before.invalidations))
		ret = odp_fail(EPROTO, "%lu faults and %lu invalidations in memory that should be warm",
			       after.faults - before.faults,
			       after.invalidations - before.invalidations);
	return ret;
}

static void print_result(const struct traffic *traffic, double (*ns)[MAX_ROUNDS], int rounds)
{
	double odp[MAX_ROUNDS], pinned[MAX_ROUNDS], lock[MAX_ROUNDS];
	int i;

	for (i = 0; i < rounds; i++) {
		odp[i] = ns[0][i] / ns[APART][i];
		pinned[i] = ns[PINNED][i] / ns[PINNED | APART][i];
		lock[i] = odp[i] / pinned[i];
	}
	printf("%-5s %5zu  %9.1f %9.1f %6.3f  %9.1f %9.1f %6.3f  %6.3f  %.3f to %.3f\n",
	       traffic->name, traffic->length, quartile(ns[0], rounds, 2),
	       quartile(ns[APART], rounds, 2), quartile(odp, rounds, 2),
	       quartile(ns[PINNED], rounds, 2), quartile(ns[PINNED | APART], rounds, 2),
	       quartile(pinned, rounds, 2), quartile(lock, rounds, 2), quartile(lock, rounds, 1),
	       quartile(lock, rounds, 3));
}

/* No figure before all bytes were right. */
static int run_all(struct bench *bench)
{
	static double ns[ARRAY_SIZE(traffics)][ARRANGEMENTS][MAX_ROUNDS];
	struct utsname uts;
	size_t i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(traffics); i++) {
		ret = measure(bench, &traffics[i], ns[i]);
		if (ret)
			return ret;
	}
	uname(&uts);
	printf("kernel %s, %s, %ld CPUs, MTU 1024, %d queue pairs, %lu messages of each in a round;\n"
	       "ns a message of all together, median of %d rounds; ratios: median of the rounds' ratios\n\n",
	       uts.release, bench->dev.name, sysconf(_SC_NPROCESSORS_ONLN), bench->qps, bench->ops,
	       bench->rounds);
	printf("%-11s  %-26s  %-26s  one/apart, ODP/pinned\n", "", "ODP", "pinned");
	printf("%-5s %5s  %9s %9s %6s  %9s %9s %6s  %6s  quartiles\n", "", "bytes", "one", "apart",
	       "ratio", "one", "apart", "ratio", "median");
	for (i = 0; i < ARRAY_SIZE(traffics); i++)
		print_result(&traffics[i], ns[i], bench->rounds);
	return 0;
}

static int start(struct bench *bench, const char *device)
{
	int i, ret;

	ret = odp_open(&bench->dev, device);
	if (!ret && !odp_supported(&bench->dev))
		ret = odp_fail(EOPNOTSUPP, "the kernel has no ODP for %s", bench->dev.name);
	if (!ret && sysconf(_SC_NPROCESSORS_ONLN) < 2)
		ret = odp_fail(ENODEV, "with one CPU nothing is shared (tests/vm/run --cpus)");
	if (!ret)
		ret = odp_mem_map(&bench->mem, ODP_MEM_ANON, (bench->qps + 1) * LEAF, NULL);
	if (!ret)
		ret = odp_reg(&bench->odp, &bench->dev, bench->mem.addr, bench->mem.length,
			      ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!ret)
		ret = odp_reg(&bench->pinned, &bench->dev, bench->mem.addr, bench->mem.length,
			      ODP_ACCESS);
	for (i = 0; i < bench->qps && !ret; i++) {
		bench->workers[i].bench = bench;
		ret = odp_connect(&bench->workers[i].pair, &bench->dev, NULL);
	}
	return ret;
}

static void stop(struct bench *bench)
{
	int i;

	for (i = 0; i < bench->qps; i++)
		odp_disconnect(&bench->workers[i].pair);
	odp_dereg(&bench->pinned);
	odp_dereg(&bench->odp);
	odp_mem_unmap(&bench->mem);
	odp_close(&bench->dev);
}

static int usage(FILE *out)
{
	fprintf(out,
		"usage: shared-page [options]\n"
		"What it costs queue pairs to use one page of an ODP MR, in place of one each. In a\n"
		"guest with two CPUs or more; the bytes are checked, and no figure printed if one is\n"
		"wrong.\n"
		"\n"
		"  --device NAME   RDMA device (default: the first soft-RoCE device)\n"
		"  --qps N         queue pairs, a thread each, 1 to %d (default 4); with 1 the\n"
		"                  arrangements are the same: what is left is noise\n"
		"  --rounds N      median of N, 1 to %d (default 15)\n"
		"  --ops N         messages of each queue pair in a round (default 1000)\n"
		"  --help          this text\n", MAX_QPS, MAX_ROUNDS);
	return out == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "qps", required_argument, NULL, 'q' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "ops", required_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	static struct bench bench = { .qps = 4, .rounds = 15, .ops = 1000 };
	const char *device = NULL;
	int opt, ret;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'd':
			device = optarg;
			break;
		case 'q':
			bench.qps = number("qps", optarg, MAX_QPS);
			break;
		case 'r':
			bench.rounds = number("rounds", optarg, MAX_ROUNDS);
			break;
		case 'o':
			bench.ops = number("ops", optarg, 10000000);
			break;
		default:
			return usage(opt == 'h' ? stdout : stderr);
		}
	}
	if (optind < argc)
		return usage(stderr);
	ret = start(&bench, device);
	if (!ret)
		ret = run_all(&bench);
	if (ret)
		fprintf(stderr, "shared-page: %s\n", odp_error());
	stop(&bench);
	return !!ret;
}
