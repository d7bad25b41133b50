// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-torture: what fsx is for file systems, for on-demand-paged memory
 *
 * Each worker has arenas of memory of every kind, each one ODP memory region,
 * and beside each arena a model: plain memory that nothing pages out. A seeded
 * stream of operations writes to them from the CPU and through the device, in
 * both directions and between all of them, and takes their pages away in every
 * way there is. Arena and model must stay equal, byte for byte.
 *
 * What makes the expected bytes decidable:
 * - A worker waits for each completion before its next operation, and touches
 *   only its own arenas. So there is an order, and one thread replays exactly.
 * - MADV_DONTNEED and mapping anew: private memory is zero after it, a shared
 *   mapping keeps its file's bytes. A hole in a file is zero.
 * - After MADV_FREE a page is what it was, or zero, as reclaim likes. So all of
 *   it is written through the device at once, and must keep that.
 * - MADV_PAGEOUT, MADV_COLLAPSE, mremap(), mprotect(), fsync(): nothing changes.
 * - fork(): the child of private memory has what was there at the fork, whatever
 *   the device writes for the parent, and the parent sees nothing of what the
 *   child writes. Shared memory is not forked with.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "odp.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define PAGE		4096UL
#define MAX_MESSAGE	(256 * ODP_KIB)
#define MAX_PIECES	6
#define MAX_ARENAS	8
#define HISTORY		20
#define CHECK_EVERY	200

struct arena {
	const char *name;
	struct odp_mem mem;
	struct odp_mr mr;
	uint8_t *model;
	bool is_private;
	bool is_file;
};

struct worker {
	pthread_t thread;
	struct odp_dev *dev;
	int number;
	uint64_t rng;
	struct arena arenas[MAX_ARENAS];
	int count;
	struct odp_pair pairs[2];
	char history[HISTORY][160];
	unsigned long ops;
	char error[512];		/* what ended it; empty: nothing */
};

static struct {
	uint64_t seed;
	unsigned long ops;
	unsigned int seconds;
	unsigned int threads;
	bool noise;
} options = { .ops = 2000, .threads = 1 };

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

/* --- randomness, and what the history says ------------------------------------------------ */

static uint64_t below(struct worker *w, uint64_t limit)
{
	return odp_random(&w->rng) % limit;
}

__attribute__((format(printf, 2, 3)))
static void note(struct worker *w, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(w->history[w->ops % HISTORY], sizeof(w->history[0]), fmt, args);
	va_end(args);
}

static struct arena *any_arena(struct worker *w)
{
	return &w->arenas[below(w, w->count)];
}

/* Short and long ones, whole pages, and off by a little. */
static size_t random_length(struct worker *w, size_t max)
{
	size_t length = below(w, 4) ? 1 + below(w, 1UL << (1 + below(w, 18))) :
				      PAGE * (1 + below(w, 64));

	return length < max ? length : max;
}

struct range {
	size_t at;
	size_t length;
};

static struct range random_range(struct worker *w, const struct arena *a, size_t max)
{
	struct range r = { .length = random_length(w, max) };

	r.at = below(w, a->mem.length - r.length + 1);
	if (!below(w, 3))
		r.at &= ~(PAGE - 1);
	return r;
}

static struct range random_pages(struct worker *w, const struct arena *a)
{
	size_t pages = a->mem.length / PAGE;
	struct range r = { .length = 1 + below(w, below(w, 8) ? 16 : pages) };

	r.at = below(w, pages - r.length + 1) * PAGE;
	r.length *= PAGE;
	return r;
}

static uint8_t *addr(const struct arena *a, size_t at)
{
	return (uint8_t *)a->mem.addr + at;
}

static int check_arena(const struct arena *a, size_t at, size_t length)
{
	struct odp_mismatch bad;

	if (odp_compare(addr(a, at), a->model + at, length, &bad))
		return 0;
	return odp_fail(EBADMSG, "%s at %zu: %#04x, should be %#04x; %zu bytes wrong in [%zu, %zu)",
			a->name, at + bad.offset, bad.got, bad.expected, bad.count, at, at + length);
}

static int check_all(struct worker *w)
{
	int i, ret = 0;

	for (i = 0; i < w->count && !ret; i++)
		ret = check_arena(&w->arenas[i], 0, w->arenas[i].mem.length);
	return ret;
}

/* --- moving bytes ---------------------------------------------------------------------------- */

static void cpu_write(struct worker *w, struct arena *a)
{
	struct range r = random_range(w, a, MAX_MESSAGE);

	note(w, "CPU writes %s [%zu, +%zu)", a->name, r.at, r.length);
	odp_fill(a->model + r.at, r.length, odp_random(&w->rng), 0);
	memcpy(addr(a, r.at), a->model + r.at, r.length);
}

/*
 * One message between [@to_at, +@length) of @to and pieces of @from that may lie
 * anywhere, or for READ the other way round: the pieces are local, at the end
 * that posts the message.
 */
static int message(struct worker *w, enum ibv_wr_opcode opcode, struct arena *local,
		   struct arena *remote, size_t remote_at, size_t length)
{
	struct odp_pair *pair = &w->pairs[below(w, ARRAY_SIZE(w->pairs))];
	bool swap = below(w, 2);
	struct odp_end *from = swap ? &pair->remote : &pair->local;
	struct odp_end *to = swap ? &pair->local : &pair->remote;
	int i, ret, pieces = 1 + below(w, MAX_PIECES);
	struct ibv_sge sge[MAX_PIECES], recv;
	size_t share = local->mem.length / pieces, done = 0;
	bool same = local == remote;

	/* Within one arena the two sides keep apart: halves of it. */
	if (same) {
		remote_at %= local->mem.length / 2 - length + 1;
		share = local->mem.length / 2 / pieces;
	}
	note(w, "%s %s [%zu, +%zu) %s %s, %d pieces, QP %d%s",
	     opcode == IBV_WR_RDMA_READ ? "READ" : opcode == IBV_WR_SEND ? "SEND" : "WRITE",
	     remote->name, remote_at, length, opcode == IBV_WR_RDMA_READ ? "into" : "from",
	     local->name, pieces, (int)(pair - w->pairs), swap ? ", backwards" : "");

	for (i = 0; i < pieces && done < length; i++) {
		size_t n = i == pieces - 1 ? length - done : 1 + below(w, length - done);
		size_t at = (same ? local->mem.length / 2 : 0) + i * share;

		if (n > share)
			n = share;
		at += below(w, share - n + 1);
		sge[i] = odp_sge(&local->mr, at, n);
		if (opcode == IBV_WR_RDMA_READ)
			memcpy(local->model + at, remote->model + remote_at + done, n);
		else
			memcpy(remote->model + remote_at + done, local->model + at, n);
		done += n;
	}
	if (opcode == IBV_WR_SEND) {
		recv = odp_sge(&remote->mr, remote_at, done);
		ret = odp_post_recv(to, 0, &recv, 1);
		if (ret)
			return ret;
	}
	ret = odp_post(from, opcode, 0, sge, i, &remote->mr, remote_at);
	if (!ret)
		ret = odp_wait_success(from, "the request", 0);
	if (!ret && opcode == IBV_WR_SEND)
		ret = odp_wait_success(to, "the receive", done);
	return ret;
}

static int device(struct worker *w)
{
	static const enum ibv_wr_opcode opcodes[] = { IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ,
						      IBV_WR_SEND };
	struct arena *local = any_arena(w), *remote = any_arena(w);
	struct range r = random_range(w, remote, MAX_MESSAGE);

	return message(w, opcodes[below(w, ARRAY_SIZE(opcodes))], local, remote, r.at, r.length);
}

/* --- taking pages away ------------------------------------------------------------------------- */

static int advise(struct arena *a, struct range r, int advice, const char *name)
{
	/* Reclaim and collapse may decline; then nothing has happened. */
	if (madvise(addr(a, r.at), r.length, advice) && advice == MADV_FREE)
		return odp_fail(errno, "%s: %s", name, strerror(errno));
	return 0;
}

static int discard(struct worker *w, struct arena *a, struct range r)
{
	note(w, "discard %s [%zu, +%zu)", a->name, r.at, r.length);
	memset(a->model + r.at, 0, r.length);
	return odp_mem_discard(&a->mem, r.at, r.length);
}

static int dontneed(struct worker *w, struct arena *a, struct range r)
{
	note(w, "MADV_DONTNEED %s [%zu, +%zu)", a->name, r.at, r.length);
	if (a->is_private)
		memset(a->model + r.at, 0, r.length);
	return madvise(addr(a, r.at), r.length, MADV_DONTNEED) ?
	       odp_fail(errno, "MADV_DONTNEED: %s", strerror(errno)) : 0;
}

static int map_anew(struct worker *w, struct arena *a, struct range r)
{
	note(w, "map anew %s [%zu, +%zu)", a->name, r.at, r.length);
	if (a->is_private)
		memset(a->model + r.at, 0, r.length);
	return odp_mem_remap(&a->mem, r.at, r.length);
}

/*
 * Away and back: the region's addresses lose their pages, and have these again.
 * The mapping stays, or another thread's mmap() could take the place.
 */
static int move_away(struct worker *w, struct arena *a, struct range r)
{
	void *aside = mmap(NULL, r.length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	note(w, "mremap %s [%zu, +%zu)", a->name, r.at, r.length);
	if (aside == MAP_FAILED ||
	    mremap(addr(a, r.at), r.length, r.length,
		   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, aside) == MAP_FAILED ||
	    mremap(aside, r.length, r.length, MREMAP_MAYMOVE | MREMAP_FIXED,
		   addr(a, r.at)) == MAP_FAILED)
		return odp_fail(errno, "mremap: %s", strerror(errno));
	return 0;
}

/* Read-only for a while, in which the device reads it. */
static int protect(struct worker *w, struct arena *a, struct range r)
{
	struct arena *into = any_arena(w);
	int ret = 0;

	if (mprotect(addr(a, r.at), r.length, PROT_READ))
		return odp_fail(errno, "mprotect: %s", strerror(errno));
	if (into != a)
		ret = message(w, IBV_WR_RDMA_READ, into, a, r.at,
			      r.length < MAX_MESSAGE ? r.length : MAX_MESSAGE);
	note(w, "mprotect %s [%zu, +%zu), read by %s", a->name, r.at, r.length, into->name);
	if (mprotect(addr(a, r.at), r.length, PROT_READ | PROT_WRITE))
		return odp_fail(errno, "mprotect: %s", strerror(errno));
	return ret;
}

/* Lazily freed, written by the device, and reclaimed: the device's bytes stay. */
static int free_write(struct worker *w, struct arena *a, struct range r)
{
	struct arena *from = any_arena(w);
	int ret;

	if (!a->is_private || from == a)
		return 0;
	if (r.length > MAX_MESSAGE)
		r.length = MAX_MESSAGE;
	if (r.length > from->mem.length)
		r.length = from->mem.length;
	ret = advise(a, r, MADV_FREE, "MADV_FREE");
	while (!ret && r.length) {
		struct ibv_sge sge = odp_sge(&from->mr, 0, r.length);

		memcpy(a->model + r.at, from->model, r.length);
		ret = odp_post(&w->pairs[0].local, IBV_WR_RDMA_WRITE, 0, &sge, 1, &a->mr, r.at);
		if (!ret)
			ret = odp_wait_success(&w->pairs[0].local, "the write", 0);
		break;
	}
	note(w, "MADV_FREE, WRITE, MADV_PAGEOUT %s [%zu, +%zu) from %s", a->name, r.at, r.length,
	     from->name);
	if (!ret)
		ret = advise(a, r, MADV_PAGEOUT, "MADV_PAGEOUT");
	return ret ? ret : check_arena(a, r.at, r.length);
}

/* Out, in by a read of the device, written by it, and out again. */
static int swap_write(struct worker *w, struct arena *a, struct range r)
{
	struct arena *other = any_arena(w);
	int ret;

	if (other == a || r.length > MAX_MESSAGE || r.length > other->mem.length)
		return 0;
	ret = advise(a, r, MADV_PAGEOUT, "MADV_PAGEOUT");
	if (!ret)
		ret = message(w, IBV_WR_RDMA_READ, other, a, r.at, r.length);
	if (!ret)
		ret = message(w, IBV_WR_RDMA_WRITE, other, a, r.at, r.length);
	if (!ret)
		ret = advise(a, r, MADV_PAGEOUT, "MADV_PAGEOUT");
	note(w, "out, READ, WRITE, out %s [%zu, +%zu)", a->name, r.at, r.length);
	return ret ? ret : check_arena(a, r.at, r.length);
}

static int fork_beside(struct worker *w, struct arena *a, struct range r)
{
	struct arena *from = any_arena(w);
	int pipes[2], status, ret = 0;
	pid_t child;

	if (!a->is_private || from == a)
		return 0;
	if (pipe(pipes))
		return odp_fail(errno, "pipe: %s", strerror(errno));
	child = fork();
	if (child < 0)
		return odp_fail(errno, "fork: %s", strerror(errno));
	if (!child) {
		char byte;

		/* Everything the parent's device does comes before this ends. */
		close(pipes[1]);
		if (read(pipes[0], &byte, 1))
			_exit(2);
		if (memcmp(addr(a, r.at), a->model + r.at, r.length))
			_exit(1);
		memset(addr(a, r.at), 0xee, r.length);
		_exit(0);
	}
	close(pipes[0]);
	if (r.length <= MAX_MESSAGE)
		ret = message(w, IBV_WR_RDMA_WRITE, from, a, r.at, r.length);
	close(pipes[1]);
	note(w, "fork beside a write to %s [%zu, +%zu)", a->name, r.at, r.length);
	waitpid(child, &status, 0);
	if (!ret && status)
		ret = odp_fail(EBADMSG, "%s [%zu, +%zu): a forked child saw what the device wrote "
			       "for its parent (status %#x)", a->name, r.at, r.length, status);
	return ret ? ret : check_arena(a, r.at, r.length);
}

static int quiet_advice(struct worker *w, struct arena *a, struct range r)
{
	static const struct {
		int advice;
		const char *name;
	} advices[] = { { MADV_PAGEOUT, "MADV_PAGEOUT" }, { MADV_COLD, "MADV_COLD" },
			{ MADV_COLLAPSE, "MADV_COLLAPSE" }, { MADV_WILLNEED, "MADV_WILLNEED" } };
	size_t i = below(w, ARRAY_SIZE(advices));

	note(w, "%s %s [%zu, +%zu)", advices[i].name, a->name, r.at, r.length);
	return advise(a, r, advices[i].advice, advices[i].name);
}

static int sync_file(struct worker *w, struct arena *a, struct range r)
{
	note(w, "msync %s [%zu, +%zu)", a->name, r.at, r.length);
	return a->is_file && msync(addr(a, r.at), r.length, MS_SYNC) ?
	       odp_fail(errno, "msync: %s", strerror(errno)) : 0;
}

static int mm_event(struct worker *w)
{
	static int (*const events[])(struct worker *w, struct arena *a, struct range r) = {
		discard, dontneed, map_anew, move_away, protect, free_write, free_write, swap_write,
		swap_write, fork_beside, quiet_advice, quiet_advice, sync_file,
	};
	struct arena *a = any_arena(w);
	struct range r = random_pages(w, a);

	return events[below(w, ARRAY_SIZE(events))](w, a, r);
}

/* --- a worker ------------------------------------------------------------------------------------ */

static int step(struct worker *w)
{
	uint64_t kind = below(w, 10);
	struct arena *a;
	struct range r;
	int ret = 0;

	if (kind < 1)
		cpu_write(w, any_arena(w));
	else if (kind < 6)
		ret = device(w);
	else
		ret = mm_event(w);
	if (ret)
		return ret;
	if (w->ops % CHECK_EVERY == CHECK_EVERY - 1)
		return check_all(w);
	a = any_arena(w);
	r = random_range(w, a, MAX_MESSAGE);
	return check_arena(a, r.at, r.length);
}

static int open_arena(struct worker *w, enum odp_mem_kind kind, size_t length)
{
	struct arena *a = &w->arenas[w->count];
	int ret;

	ret = odp_mem_map(&a->mem, kind, length, NULL);
	if (ret == -ENODEV) {
		if (!w->number)
			printf("# no %s arena: %s\n", odp_mem_name(kind), odp_error());
		return 0;
	}
	if (ret)
		return ret;
	a->name = odp_mem_name(kind);
	a->is_private = kind == ODP_MEM_ANON || kind == ODP_MEM_THP;
	a->is_file = kind == ODP_MEM_EXT4 || kind == ODP_MEM_FSDAX;
	a->model = mmap(NULL, a->mem.length, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (a->model == MAP_FAILED)
		return odp_fail(errno, "mmap: %s", strerror(errno));
	w->count++;
	return odp_reg(&a->mr, w->dev, a->mem.addr, a->mem.length,
		       ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
}

static int open_worker(struct worker *w)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;
	int i, ret = 0;

	ret = open_arena(w, ODP_MEM_ANON, ODP_MIB);
	if (!ret)
		ret = open_arena(w, ODP_MEM_THP, 4 * ODP_MIB);
	if (!ret)
		ret = open_arena(w, ODP_MEM_MEMFD, ODP_MIB);
	if (!ret)
		ret = open_arena(w, ODP_MEM_EXT4, ODP_MIB);
	if (!ret)
		ret = open_arena(w, ODP_MEM_FSDAX, 4 * ODP_MIB);
	for (i = 0; i < (int)ARRAY_SIZE(w->pairs) && !ret; i++) {
		attr.mtu = i ? 4096 : 1024;
		ret = odp_connect(&w->pairs[i], w->dev, &attr);
	}
	return ret;
}

static void close_worker(struct worker *w)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(w->pairs); i++)
		odp_disconnect(&w->pairs[i]);
	while (w->count--) {
		struct arena *a = &w->arenas[w->count];

		odp_dereg(&a->mr);
		odp_mem_unmap(&a->mem);
		munmap(a->model, a->mem.length);
	}
}

static void *work(void *arg)
{
	uint64_t until = odp_now() + options.seconds * 1000000000ULL;
	struct worker *w = arg;
	int ret = 0;

	while (!stopped && !ret) {
		if (options.seconds ? odp_now() >= until : w->ops >= options.ops)
			break;
		ret = step(w);
		if (!ret)
			w->ops++;
	}
	if (!ret)
		ret = check_all(w);
	if (ret)
		snprintf(w->error, sizeof(w->error), "%s", odp_error());
	return NULL;
}

struct noise {
	pthread_t thread;
	struct worker *workers;
	bool end;
};

/*
 * Takes pages from under the workers, which changes no byte, at any moment of a
 * fault or a copy; and maps and unmaps memory elsewhere in the process.
 */
static void *make_noise(void *arg)
{
	struct noise *noise = arg;
	uint64_t rng = options.seed;

	while (!stopped && !__atomic_load_n(&noise->end, __ATOMIC_RELAXED)) {
		struct worker *w = &noise->workers[odp_random(&rng) % options.threads];
		struct arena *a = &w->arenas[odp_random(&rng) % w->count];
		size_t pages = a->mem.length / PAGE, first = odp_random(&rng) % pages;
		size_t count = 1 + odp_random(&rng) % (pages - first);
		uint8_t *at;

		madvise(addr(a, first * PAGE), (count < 16 ? count : 16) * PAGE, MADV_PAGEOUT);
		at = mmap(NULL, ODP_MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
		if (at == MAP_FAILED)
			continue;
		at[0] = at[ODP_MIB / 2] = 1;
		munmap(at, ODP_MIB);
	}
	return NULL;
}

static void report(struct worker *w)
{
	unsigned long i, first = w->ops < HISTORY - 1 ? 0 : w->ops - (HISTORY - 1);

	if (!w->error[0]) {
		printf("ok %d thread %d of seed %lu\n# %lu operations on %d arenas\n", w->number + 1,
		       w->number, options.seed, w->ops, w->count);
		return;
	}
	printf("not ok %d thread %d of seed %lu\n# operation %lu: %s\n", w->number + 1, w->number,
	       options.seed, w->ops, w->error);
	for (i = first; i <= w->ops; i++)
		printf("#   %lu: %s\n", i, w->history[i % HISTORY]);
	printf("# replay: odp-torture --seed %lu --threads %u%s --ops %lu\n", options.seed,
	       options.threads, options.noise ? " --noise" : "", w->ops + 1);
}

static int run(struct odp_dev *dev)
{
	struct worker *workers = calloc(options.threads, sizeof(*workers));
	struct noise noise = { .workers = workers };
	unsigned int i, failed = 0;
	int ret = 0;

	if (!workers)
		return 1;
	printf("TAP version 13\n1..%u\n# seed %lu, device %s\n", options.threads, options.seed,
	       dev->name);
	for (i = 0; i < options.threads; i++) {
		workers[i].dev = dev;
		workers[i].number = i;
		workers[i].rng = options.seed * 1000003 + i;
		ret = ret ? ret : open_worker(&workers[i]);
	}
	if (ret) {
		printf("Bail out! %s\n", odp_error());
		return 1;
	}
	if (options.noise)
		pthread_create(&noise.thread, NULL, make_noise, &noise);
	for (i = 0; i < options.threads; i++)
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	for (i = 0; i < options.threads; i++) {
		struct timespec until;
		unsigned int waited = 0;

		do {
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec += 5;
			if (waited++)
				fprintf(stderr, "odp-torture: thread %u, operation %lu\n", i,
					workers[i].ops);
		} while (pthread_timedjoin_np(workers[i].thread, NULL, &until) == ETIMEDOUT);
		report(&workers[i]);
		failed += !!workers[i].error[0];
	}
	__atomic_store_n(&noise.end, true, __ATOMIC_RELAXED);
	if (options.noise)
		pthread_join(noise.thread, NULL);
	for (i = 0; i < options.threads; i++)
		close_worker(&workers[i]);
	free(workers);
	return stopped ? 130 : !!failed;
}

static void usage(FILE *out)
{
	fprintf(out,
		"usage: odp-torture [options]\n"
		"CPU, RDMA and mm operations on on-demand-paged memory, beside a model that knows\n"
		"every byte; prints TAP. Runs in the guest; --swap and --pmem of tests/vm/run give it\n"
		"more to do.\n"
		"\n"
		"  --seed N       repeat the run that printed this seed (exactly, with one thread)\n"
		"  --ops N        operations a thread (default %lu)\n"
		"  --seconds N    run for so long instead\n"
		"  --threads N    each with arenas and queue pairs of its own (default 1)\n"
		"  --noise        a further thread pages memory out, the workers' and its own\n"
		"  --device NAME  RDMA device (default: the first soft-RoCE device)\n"
		"  --help         this text\n", options.ops);
}

static unsigned long number(const char *name, const char *text, unsigned long max)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 0);
	if (!*text || *end || errno || !value || value > max) {
		fprintf(stderr, "odp-torture: --%s: %s is not a number from 1 to %lu\n", name, text,
			max);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "seed", required_argument, NULL, 's' }, { "ops", required_argument, NULL, 'o' },
		{ "seconds", required_argument, NULL, 't' },
		{ "threads", required_argument, NULL, 'n' }, { "noise", no_argument, NULL, 'x' },
		{ "device", required_argument, NULL, 'd' }, { "help", no_argument, NULL, 'h' }, {}
	};
	struct sigaction action = { .sa_handler = stop };
	const char *device = NULL;
	struct odp_dev dev;
	int opt, index, ret;

	options.seed = 1 + (odp_now() ^ (uint64_t)time(NULL) << 20) % 1000000000;
	while ((opt = getopt_long(argc, argv, "", names, &index)) != -1) {
		switch (opt) {
		case 's':
			options.seed = number("seed", optarg, 1000000000);
			break;
		case 'o':
			options.ops = number("ops", optarg, 1000000000);
			break;
		case 't':
			options.seconds = number("seconds", optarg, 1000000);
			break;
		case 'n':
			options.threads = number("threads", optarg, 64);
			break;
		case 'x':
			options.noise = true;
			break;
		case 'd':
			device = optarg;
			break;
		default:
			usage(opt == 'h' ? stdout : stderr);
			return opt == 'h' ? 0 : 2;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return 2;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (odp_open(&dev, device)) {
		fprintf(stderr, "odp-torture: %s\n", odp_error());
		return 1;
	}
	if (!odp_supported(&dev)) {
		printf("TAP version 13\n1..0 # SKIP the kernel has no ODP for %s\n", dev.name);
		return 0;
	}
	ret = run(&dev);
	odp_close(&dev);
	return ret;
}
