// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: what a device uses can be moved: between NUMA nodes, and off memory that goes offline
 * stage: check
 * where: guest
 * kernels: tree
 * vm: --nodes 2 --memory 2G --hugepages 16 --append movablecore=1G
 * budget: 90
 *
 * One thread writes and reads a region by RDMA, and compares, while the kernel is made
 * to move the region's pages. It is asked afterwards where they are: that a page was
 * moved is not believed because a call returned 0. At the end all bytes are compared,
 * by the CPU and by the device, and the region's counter must show that pages which
 * the device had were taken away from it.
 *
 * A page that the kernel has a reference to for a moment cannot be moved in that
 * moment, and is tried again; a line of each subtest says how often. With a pin, of
 * which the buffer at the other end of the traffic is the control, it never can.
 *
 * With movablecore= each node has memory from which nothing but what can be moved is
 * allocated. Other memory cannot be relied on to go offline.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE		4096UL
#define MS		1000000UL		/* ns */
#define LENGTH		(16 * ODP_MIB)
#define PAGES		(LENGTH / PAGE)
#define CHUNK		(64 * ODP_KIB)		/* of one message at most, and the buffer's size */
#define MARGIN		(64 * ODP_KIB)		/* of the memory, outside of the region at most */
#define FILLER		(128 * ODP_MIB)
#define TRIES		10
#define LIMIT_MS	30000			/* for what must come to pass */
#define NODES		"/sys/devices/system/node/"
#define BLOCKS		"/sys/devices/system/memory/"
#define BALANCING	"/proc/sys/kernel/numa_balancing"
#define SCAN		"/sys/kernel/debug/sched/numa_balancing/"

struct area {
	struct odp_mem mem;
	struct odp_mr mr;
	uint8_t *at;		/* of the region, which begins and ends within a page */
	size_t length;
	uint8_t *model;		/* what must be there, kept by whoever makes the traffic */
};

/* A thread that writes and reads the region, with a connection and a pinned buffer. */
struct traffic {
	struct area *area;
	struct odp_pair pair;
	struct odp_mem mem;
	struct odp_mr buf;
	uint64_t rng;
	pthread_t thread;
	bool stop;
	bool ended;
	unsigned long messages;
	int ret;
	char error[256];
};

struct ctx {
	struct odp_dev dev;
	uint64_t rng;
	const struct test *test;
	unsigned long again;	/* how often pages had to be moved once more */
};

enum how { MOVE_PAGES, MBIND, MIGRATE_PAGES };

struct test {
	const char *name;
	int (*event)(struct ctx *ctx, struct area *area, struct traffic *traffic);
	enum odp_mem_kind kind;
	int node;		/* where the memory is to begin with */
	bool scattered;		/* in single pages */
};

static uint64_t below(struct ctx *ctx, uint64_t limit)
{
	return odp_random(&ctx->rng) % limit;
}

static uint64_t deadline(void)
{
	return odp_now() + LIMIT_MS * MS;
}

/* --- memory on a node, and where it is -------------------------------------------- */

static int set_policy(void *addr, size_t length, int mode, int node, int flags)
{
	unsigned long mask = 1UL << node;

	return syscall(__NR_mbind, addr, length, mode, mode == MPOL_DEFAULT ? NULL : &mask,
		       mode == MPOL_DEFAULT ? 0 : 64, flags) ? guest_fail("mbind") : 0;
}

static void touch(const void *addr, size_t length)
{
	size_t at;

	for (at = 0; at < length; at += PAGE)
		*((const volatile uint8_t *)addr + at);
}

/* move_pages(): @to is the node, or -1 to ask only. At most PAGES, by one thread. */
static int move_pages(const void *addr, size_t length, int to, int *status)
{
	static const void *pages[PAGES];
	static int nodes[PAGES];
	size_t i, n = length / PAGE;

	for (i = 0; i < n; i++) {
		pages[i] = (const uint8_t *)addr + i * PAGE;
		nodes[i] = to;
	}
	/* More than 0: pages could not be moved. */
	if (syscall(__NR_move_pages, 0, n, pages, to < 0 ? NULL : nodes, status,
		    to < 0 ? 0 : MPOL_MF_MOVE) < 0)
		return guest_fail("move_pages");
	return 0;
}

/* How many pages are on the node; or a negative errno. */
static long count_on(const void *addr, size_t length, int node)
{
	static int status[PAGES];
	long count = 0;
	size_t i;
	int ret;

	touch(addr, length);
	ret = move_pages(addr, length, -1, status);
	for (i = 0; i < length / PAGE && !ret; i++)
		count += status[i] == node;
	return ret ? ret : count;
}

/* The number of each page's frame; 0 where there is none. */
static int read_frames(const void *addr, size_t length, uint64_t *frames)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), ret = 0;
	ssize_t size = length / PAGE * 8;
	size_t i;

	touch(addr, length);
	if (fd < 0 || pread(fd, frames, size, (uintptr_t)addr / PAGE * 8) != size)
		ret = guest_fail("/proc/self/pagemap");
	for (i = 0; i < length / PAGE && !ret; i++)
		frames[i] = frames[i] & GUEST_PRESENT ? frames[i] & GUEST_PFN : 0;
	if (fd >= 0)
		close(fd);
	return ret;
}

/*
 * Take @length bytes of the node's memory, page by page. Not the policy of a file's
 * pages: they come from where the CPU is.
 */
static int fill(void *addr, const void *content, size_t length, int node)
{
	int ret;

	ret = set_policy(addr, length, MPOL_BIND, node, 0);
	if (ret)
		return ret;
	if (content)
		memcpy(addr, content, length);
	else
		memset(addr, 1, length);
	return set_policy(addr, length, MPOL_DEFAULT, 0, 0);
}

/*
 * Every other page of it is given back, of those that have low frames: what is allocated
 * next gets these. Compaction goes from low frames to high ones.
 */
static int fill_with_holes(uint8_t **filler, int node)
{
	static uint64_t frames[FILLER / PAGE];
	uint64_t sum = 0;
	size_t i;
	int ret;

	*filler = mmap(NULL, FILLER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (*filler == MAP_FAILED)
		return guest_fail("mmap");
	madvise(*filler, FILLER, MADV_NOHUGEPAGE);
	ret = fill(*filler, NULL, FILLER, node) ?: read_frames(*filler, FILLER, frames);
	for (i = 0; i < ARRAY_SIZE(frames); i++)
		sum += frames[i];
	for (i = 0; i < ARRAY_SIZE(frames) && !ret; i += 2)
		if (frames[i] < sum / ARRAY_SIZE(frames) &&
		    madvise(*filler + i * PAGE, PAGE, MADV_DONTNEED))
			ret = guest_fail("MADV_DONTNEED");
	return ret;
}

/* --- the region ------------------------------------------------------------------- */

static void area_close(struct area *area)
{
	odp_dereg(&area->mr);
	free(area->model);
	odp_mem_unmap(&area->mem);
}

static int area_fill(struct ctx *ctx, struct area *area)
{
	uint8_t *filler = MAP_FAILED, *content;
	int ret = 0;

	content = malloc(area->mem.length);
	if (!content)
		return odp_fail(ENOMEM, "out of memory");
	odp_fill(content, area->mem.length, odp_random(&ctx->rng), 0);
	if (ctx->test->scattered)
		ret = fill_with_holes(&filler, ctx->test->node);
	if (!ret)
		ret = fill(area->mem.addr, content, area->mem.length, ctx->test->node);
	if (filler != MAP_FAILED)
		munmap(filler, FILLER);
	memmove(content, content + (area->at - (uint8_t *)area->mem.addr), area->length);
	area->model = content;
	return ret;
}

static int area_open(struct ctx *ctx, struct area *area)
{
	enum odp_mem_kind kind = ctx->test->kind;
	size_t before = below(ctx, MARGIN), behind = below(ctx, MARGIN);
	int ret;

	memset(area, 0, sizeof(*area));
	/* Huge pages for both nodes have to be there. */
	ret = odp_mem_map(&area->mem, kind, kind == ODP_MEM_HUGETLB ? LENGTH / 2 : LENGTH, NULL);
	if (ret)
		return ret;
	area->at = (uint8_t *)area->mem.addr + before;
	area->length = area->mem.length - before - behind;
	ret = area_fill(ctx, area);
	if (ret)
		return ret;
	return odp_reg_iova(&area->mr, &ctx->dev, area->at, area->length,
			    guest_random_iova(&ctx->rng, (uintptr_t)area->at),
			    ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
}

/* --- traffic ---------------------------------------------------------------------- */

static const struct odp_pair_attr pair_attr = {
	.mtu = 4096, .timeout = 18, .retry_cnt = 6, .rnr_retry = 7, .max_wr = 64, .max_sge = 4,
};

static int traffic_open(struct ctx *ctx, struct traffic *t, struct area *area)
{
	int ret;

	memset(t, 0, sizeof(*t));
	t->area = area;
	t->rng = odp_random(&ctx->rng);
	ret = odp_mem_map(&t->mem, ODP_MEM_ANON, CHUNK, NULL);
	if (!ret)
		ret = odp_reg(&t->buf, &ctx->dev, t->mem.addr, CHUNK, ODP_ACCESS);
	return ret ? ret : odp_connect(&t->pair, &ctx->dev, &pair_attr);
}

static void traffic_close(struct traffic *t)
{
	odp_disconnect(&t->pair);
	odp_dereg(&t->buf);
	odp_mem_unmap(&t->mem);
}

static int traffic_write(struct traffic *t, size_t at, size_t length)
{
	odp_fill(t->area->model + at, length, odp_random(&t->rng), at);
	memcpy(t->mem.addr, t->area->model + at, length);
	return odp_write(&t->pair, &t->buf, 0, &t->area->mr, at, length);
}

static int traffic_read(struct traffic *t, size_t at, size_t length)
{
	int ret = odp_read(&t->pair, &t->buf, 0, &t->area->mr, at, length);

	return ret ? ret : guest_compare("RDMA READ", t->mem.addr, t->area->model + at, at, length);
}

static void *traffic_run(void *arg)
{
	struct traffic *t = arg;

	while (!__atomic_load_n(&t->stop, __ATOMIC_ACQUIRE) && !t->ret) {
		size_t length = 1 + odp_random(&t->rng) % CHUNK;
		size_t at = odp_random(&t->rng) % (t->area->length - length + 1);

		t->ret = odp_random(&t->rng) % 2 ? traffic_write(t, at, length) :
						   traffic_read(t, at, length);
		__atomic_add_fetch(&t->messages, 1, __ATOMIC_RELEASE);
	}
	if (t->ret)
		snprintf(t->error, sizeof(t->error), "%s", odp_error());
	__atomic_store_n(&t->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

/* A signal is for the thread that starts it. */
static int traffic_start(struct traffic *t)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&t->thread, NULL, traffic_run, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err ? odp_fail(err, "pthread_create: %s", strerror(err)) : 0;
}

static int traffic_stop(struct traffic *t)
{
	__atomic_store_n(&t->stop, true, __ATOMIC_RELEASE);
	pthread_join(t->thread, NULL);
	return t->ret ? odp_fail(-t->ret, "%s", t->error) : 0;
}

/* So many more messages have come and gone. */
static int traffic_goes_on(struct traffic *t, unsigned long more)
{
	unsigned long wanted = __atomic_load_n(&t->messages, __ATOMIC_ACQUIRE) + more;
	uint64_t end = deadline();

	while (__atomic_load_n(&t->messages, __ATOMIC_ACQUIRE) < wanted) {
		if (__atomic_load_n(&t->ended, __ATOMIC_ACQUIRE))
			return odp_fail(EPIPE, "the traffic has ended");
		if (odp_now() > end)
			return odp_fail(EBUSY, "not %lu messages within %u ms", more, LIMIT_MS);
		guest_sleep_ms(5);
	}
	return 0;
}

/* All of the region by the device, which has all of it mapped then. */
static int read_all(struct traffic *t)
{
	size_t at, n;
	int ret = 0;

	for (at = 0; at < t->area->length && !ret; at += n) {
		n = t->area->length - at < CHUNK ? t->area->length - at : CHUNK;
		ret = traffic_read(t, at, n);
	}
	return ret;
}

/* --- moved on demand -------------------------------------------------------------- */

static int move(struct area *area, int node, enum how how)
{
	unsigned long from = 1UL << !node, to = 1UL << node;
	static int status[PAGES];
	int ret;

	switch (how) {
	case MOVE_PAGES:
		return move_pages(area->mem.addr, area->mem.length, node, status);
	case MBIND:
		ret = set_policy(area->mem.addr, area->mem.length, MPOL_BIND, node, MPOL_MF_MOVE);
		if (!ret)
			ret = set_policy(area->mem.addr, area->mem.length, MPOL_DEFAULT, 0, 0);
		return ret;
	default:
		/* More than 0: some pages of the process cannot be moved, such as pinned ones. */
		return syscall(__NR_migrate_pages, 0, 64, &from, &to) < 0 ?
		       guest_fail("migrate_pages") : 0;
	}
}

/* All of the memory to the node. */
static int to_node(struct ctx *ctx, struct area *area, int node, enum how how)
{
	long there, pages = area->mem.length / PAGE;
	uint64_t end = deadline();
	int ret;

	for (;; ctx->again++) {
		ret = move(area, node, how);
		there = ret ? ret : count_on(area->mem.addr, area->mem.length, node);
		if (there < 0 || there == pages)
			return there < 0 ? there : 0;
		if (odp_now() > end)
			return odp_fail(EBUSY, "%ld of %ld pages can be moved to node %d", there,
					pages, node);
		guest_sleep_ms(5);
	}
}

#define ROUNDS	7

/* There and back, each time by the one call or the other. */
static int moved(struct ctx *ctx, struct area *area, struct traffic *traffic)
{
	int round, ret = 0;

	for (round = 0; round < ROUNDS && !ret; round++)
		ret = to_node(ctx, area, round % 2, below(ctx, 2) ? MOVE_PAGES : MBIND) ?:
		      traffic_goes_on(traffic, 20);
	return ret;
}

/* The process is moved, and what is pinned is left behind. */
static int process_moved(struct ctx *ctx, struct area *area, struct traffic *traffic)
{
	long pinned = count_on(traffic->mem.addr, CHUNK, 1), after = pinned;
	int round, ret = pinned < 0 ? pinned : 0;

	for (round = 0; round < ROUNDS && !ret; round++) {
		ret = to_node(ctx, area, round % 2, MIGRATE_PAGES) ?: traffic_goes_on(traffic, 20);
		after = ret ? after : count_on(traffic->mem.addr, CHUNK, 1);
		if (!ret && after != pinned)
			ret = odp_fail(EPROTO, "%ld pinned pages are on node 1, %ld were", after,
				       pinned);
	}
	return ret;
}

/* --- moved by the kernel's own will ----------------------------------------------- */

/* This thread to CPU 0, which is of node 0, or back to any. */
static int run_on_node0(bool bound)
{
	cpu_set_t set;
	int cpu;

	CPU_ZERO(&set);
	for (cpu = 0; cpu < (bound ? 1 : CPU_SETSIZE); cpu++)
		CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return guest_fail("sched_setaffinity");
	return !bound || !access(NODES "node0/cpu0", F_OK) ? 0 :
	       odp_fail(EIO, "CPU 0 is not of node 0");
}

/* How often the kernel looks. Without these files (SCHED_DEBUG) it is each second. */
static int scan_each(const char *ms)
{
	if (access(SCAN "scan_delay_ms", F_OK))
		return 0;
	return guest_write(SCAN "scan_delay_ms", ms) ?: guest_write(SCAN "scan_period_min_ms", ms);
}

/*
 * A CPU of node 0 uses memory of node 1. It takes a part of the pages only: where the
 * device meets a page first, it is a CPU of the kernel's choice that seems to use it.
 */
static int balance(struct area *area, struct traffic *traffic)
{
	const long wanted = area->mem.length / PAGE / 16;
	long before = guest_value("/proc/vmstat", "numa_pages_migrated"), there, events;
	uint64_t end = deadline();
	unsigned int turn;

	there = count_on(area->mem.addr, area->mem.length, 0);
	if (there)
		return there < 0 ? there : odp_fail(EPROTO, "%ld pages are on node 0", there);
	do {
		/* It is time spent at work that counts, so this does not sleep. */
		for (turn = 0; turn < 100; turn++)
			touch(area->mem.addr, area->mem.length);
		there = count_on(area->mem.addr, area->mem.length, 0);
		events = guest_value("/proc/vmstat", "numa_pages_migrated");
		if (there < 0 || events < 0)
			return there < 0 ? there : events;
		if (there >= wanted && events - before >= wanted)
			return traffic_goes_on(traffic, 100);
	} while (odp_now() < end);
	return odp_fail(EBUSY, "%ld pages are on node 0, %ld were moved, after %u ms", there,
			events - before, LIMIT_MS);
}

static int balancing(struct ctx *ctx, struct area *area, struct traffic *traffic)
{
	int ret;

	(void)ctx;
	if (access(BALANCING, F_OK))
		return odp_fail(ENODEV, "unavailable: no NUMA balancing in this kernel");
	ret = scan_each("100") ?: run_on_node0(true) ?: guest_write(BALANCING, "1") ?:
	      balance(area, traffic);
	if (guest_write(BALANCING, "0") || scan_each("1000") || run_on_node0(false))
		ret = ret ? ret : -EIO;
	return ret;
}

/* How many pages of the region compaction has moved; or a negative errno. */
static long compact(struct area *area, struct traffic *traffic)
{
	static uint64_t before[PAGES], after[PAGES];
	long moved = 0;
	size_t i;
	int ret;

	ret = read_frames(area->mem.addr, area->mem.length, before) ?:
	      traffic_goes_on(traffic, 100) ?:
	      guest_write("/proc/sys/vm/compact_memory", "1") ?:
	      traffic_goes_on(traffic, 100) ?:
	      read_frames(area->mem.addr, area->mem.length, after);
	for (i = 0; i < area->mem.length / PAGE; i++)
		moved += before[i] != after[i];
	return ret ? ret : moved;
}

/*
 * The region's pages are where compaction makes room, among free ones. Where there were
 * none above them it moves none: then they go to the other node and come back, to other
 * places.
 */
static int compaction(struct ctx *ctx, struct area *area, struct traffic *traffic)
{
	const long wanted = area->mem.length / PAGE / 16;
	static int status[PAGES];
	int node = ctx->test->node, i, ret = 0;
	long moved = 0;

	for (i = 0; i < TRIES && !ret && moved < wanted; i++) {
		if (i)
			ret = move_pages(area->mem.addr, area->mem.length, !node, status) ?:
			      move_pages(area->mem.addr, area->mem.length, node, status);
		moved = ret ? ret : compact(area, traffic);
		ret = moved < 0 ? moved : 0;
	}
	if (!ret && moved < wanted)
		ret = odp_fail(EPROTO, "compaction moved %ld pages of the region: this proves nothing",
			       moved);
	return ret;
}

/* --- memory that goes offline ----------------------------------------------------- */

#define MAX_BLOCKS	64

/* A file of the block's, until the next call. */
static const char *block_file(size_t block, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), BLOCKS "memory%zu/%s", block, name);
	return path;
}

/* Is it memory that only what can be moved is allocated from? */
static bool block_is_movable(size_t block)
{
	FILE *file = fopen(block_file(block, "valid_zones"), "re");
	char line[64] = "";

	if (file && !fgets(line, sizeof(line), file))
		line[0] = 0;
	if (file)
		fclose(file);
	return !strncmp(line, "Movable", 7);
}

static size_t block_frames(void)
{
	unsigned long bytes = 0;
	FILE *file = fopen(BLOCKS "block_size_bytes", "re");

	if (file && fscanf(file, "%lx", &bytes) != 1)
		bytes = 0;
	if (file)
		fclose(file);
	return bytes / PAGE;
}

/* How many pages of the memory are in each block. */
static int count_in_blocks(const struct area *area, size_t frames, long count[MAX_BLOCKS])
{
	static uint64_t frame[PAGES];
	size_t i;
	int ret;

	memset(count, 0, MAX_BLOCKS * sizeof(*count));
	ret = read_frames(area->mem.addr, area->mem.length, frame);
	for (i = 0; i < area->mem.length / PAGE && !ret; i++)
		if (frame[i] && frame[i] / frames < MAX_BLOCKS)
			count[frame[i] / frames]++;
	return ret;
}

static void stop_waiting(int number)
{
	(void)number;
}

/* The kernel tries for ever; a signal ends it. -EINVAL: the block has holes. */
static int block_offline(size_t block)
{
	const struct sigaction action = { .sa_handler = stop_waiting };
	uint64_t end = deadline();
	int ret;

	sigaction(SIGALRM, &action, NULL);
	alarm(LIMIT_MS / 1000);
	do {
		ret = guest_write(block_file(block, "state"), "offline");
	} while ((ret == -EBUSY || ret == -EAGAIN) && odp_now() < end);
	alarm(0);
	return ret;
}

static int check_left(const struct area *area, size_t frames, size_t block)
{
	long count[MAX_BLOCKS];
	int ret;

	ret = count_in_blocks(area, frames, count);
	if (!ret && count[block])
		ret = odp_fail(EPROTO, "%ld pages are in a block that is offline", count[block]);
	return ret;
}

/*
 * The block that has most of the region, or the next one where that has a hole: then it
 * never goes, whatever is in it. RAM ends with one, for the firmware's tables.
 */
static int offline_one(const struct area *area, size_t frames, size_t *block, long *pages)
{
	long count[MAX_BLOCKS];
	size_t i, best;
	int ret;

	ret = count_in_blocks(area, frames, count);
	if (ret)
		return ret;
	for (i = 0; i < MAX_BLOCKS; i++)
		if (count[i] && !block_is_movable(i))
			count[i] = 0;
	for (;;) {
		for (best = i = 0; i < MAX_BLOCKS; i++)
			if (count[i] > count[best])
				best = i;
		if (!count[best])
			return odp_fail(EPROTO, "no page is in a block that can go offline (movablecore=)");
		*block = best;
		*pages = count[best];
		ret = block_offline(best);
		if (ret != -EINVAL)
			return ret;
		count[best] = 0;
	}
}

static int offline(struct ctx *ctx, struct area *area, struct traffic *traffic)
{
	size_t frames = block_frames(), block = 0;
	uint64_t began = odp_now();
	long pages = 0;
	int ret, back;

	if (!frames)
		return odp_fail(ENODEV, "unavailable: no memory hotplug in this kernel");
	ret = traffic_goes_on(traffic, 20) ?: offline_one(area, frames, &block, &pages);
	if (ret)
		return ret;
	printf("# %s: block %zu, with %ld of the pages, was offline within %lu ms\n",
	       ctx->test->name, block, pages, (odp_now() - began) / MS);
	ret = check_left(area, frames, block) ?: traffic_goes_on(traffic, 200) ?:
	      check_left(area, frames, block);
	back = guest_write(block_file(block, "state"), "online_movable");
	return ret ?: back ?: traffic_goes_on(traffic, 20);
}

/* --- the list of tests ------------------------------------------------------------ */

static const struct test tests[] = {
	{ "balancing", balancing, ODP_MEM_ANON, 1, false },
	{ "moved_anonymous", moved, ODP_MEM_ANON, 0, false },
	{ "moved_thp", moved, ODP_MEM_THP, 0, false },
	{ "moved_memfd", moved, ODP_MEM_MEMFD, 0, false },
	{ "moved_ext4", moved, ODP_MEM_EXT4, 0, false },
	{ "moved_hugetlb", moved, ODP_MEM_HUGETLB, 0, false },
	{ "process_moved_anonymous", process_moved, ODP_MEM_ANON, 0, false },
	{ "process_moved_memfd", process_moved, ODP_MEM_MEMFD, 0, false },
	{ "compaction_anonymous", compaction, ODP_MEM_ANON, 1, true },
	{ "compaction_memfd", compaction, ODP_MEM_MEMFD, 1, true },
	{ "offline_anonymous", offline, ODP_MEM_ANON, 1, false },
	{ "offline_memfd", offline, ODP_MEM_MEMFD, 1, false },
};

/* --- running them ----------------------------------------------------------------- */

static const char *name_test(size_t i)
{
	return i < ARRAY_SIZE(tests) ? tests[i].name : NULL;
}

static int open_ctx(void *arg, const char *device)
{
	struct ctx *ctx = arg;

	return odp_open(&ctx->dev, device);
}

static void close_ctx(void *arg)
{
	struct ctx *ctx = arg;

	odp_close(&ctx->dev);
}

static int run_under_traffic(struct ctx *ctx, struct area *area, struct traffic *traffic)
{
	struct odp_counters before, after;
	int ret, end;

	ret = read_all(traffic) ?: odp_counters(&area->mr, &before) ?: traffic_start(traffic);
	if (ret)
		return ret;
	ret = traffic_goes_on(traffic, 20) ?: ctx->test->event(ctx, area, traffic);
	end = traffic_stop(traffic);
	ret = end ? end : ret;
	if (!ret)
		ret = odp_counters(&area->mr, &after) ?: read_all(traffic) ?:
		      guest_compare("CPU", area->at, area->model, 0, area->length);
	if (ret)
		return ret;
	printf("# %s: %lu messages, %lu pages taken away, moved again %lu times\n",
	       ctx->test->name, traffic->messages, after.invalidations - before.invalidations,
	       ctx->again);
	return after.invalidations > before.invalidations ? 0 :
	       odp_fail(EPROTO, "no page of the region was invalidated");
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	struct ctx *ctx = arg;
	struct traffic traffic = {};
	struct area area = {};
	int ret;

	if (access(NODES "node1", F_OK))
		return odp_fail(ENODEV, "unavailable: one NUMA node (tests/vm/run --nodes 2)");
	ctx->rng = seed;
	ctx->test = &tests[i];
	ctx->again = 0;
	ret = area_open(ctx, &area) ?: traffic_open(ctx, &traffic, &area) ?:
	      run_under_traffic(ctx, &area, &traffic);
	traffic_close(&traffic);
	area_close(&area);
	return ret;
}

int main(int argc, char **argv)
{
	struct ctx ctx = {};
	const struct suite suite = {
		.program = "test-numa",
		.about = "What a device uses is moved between NUMA nodes, by compaction, and off memory\n"
			 "that goes offline. Wants root, two nodes, huge pages, /mnt/ext4 and\n"
			 "movablecore= on the kernel's command line: see tests/vm/run.",
		.ctx = &ctx,
		.dev = &ctx.dev,
		.needs_odp = true,
		.name = name_test,
		.open = open_ctx,
		.close = close_ctx,
		.run = run_test,
	};

	return suite_main(&suite, argc, argv);
}
