// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: ODP regions of any size and iova, re-registered, and prefetched
 * stage: check
 * where: guest
 * kernels: tree
 * vm: --pmem 256M --hugepages 64 --swap 64M
 * budget: 120
 *
 * Each subtest moves bytes by RDMA between a region and pinned memory, compares
 * them, and reads the region's counters where these tell something. What must be
 * refused has to give the right errno or completion, and after it everything has
 * to work as before.
 *
 * Those called mainline_ are what the ODP that rxe has upstream got wrong.
 *
 * All randomness comes from --seed and the subtest's name.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <rdma/ib_user_verbs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096UL
#define GIB		(1UL << 30)
#define TIB		(1UL << 40)
#define MS		1000000UL		/* ns */
#define LENGTH		(2 * ODP_MIB)		/* a whole huge page */
#define PAGES		(LENGTH / PAGE)
#define PEER_LENGTH	(16 * ODP_MIB + PAGE)
#define ODP		(ODP_ACCESS | IBV_ACCESS_ON_DEMAND)
#define READ_ONLY	(IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ON_DEMAND)
#define AT_ONCE_MS	2000
#define SETTLE_MS	20000
#define IDLE_MS		300			/* in which nothing may happen */

/* Where the kernel maps nothing by itself, such as the queues of a new pair. */
#define NOWHERE		((uint8_t *)(64 * GIB))

/* What an MR is. */
enum state { PINNED, EXPLICIT, IMPLICIT };
static const char *const state_names[] = { "pinned", "explicit ODP", "implicit ODP" };

/* A protection domain, a pair in it, and pinned memory for the other end. */
struct ctx {
	struct odp_dev dev;
	struct odp_pair pair;
	struct odp_mr peer;
	uint8_t *bytes;		/* of peer */
	struct ctx *other;	/* the same once more: another domain of the device */
	const struct test *test;
	uint64_t rng;
};

struct test {
	const char *name;
	int (*run)(struct ctx *ctx);
	enum odp_mem_kind kind;
	enum state from;	/* for what is not re-registered: what it is */
	enum state to;
	bool paged_out;
	int wanted;		/* errno */
};

/* --- helpers ------------------------------------------------------------------ */

/* Say what was being done before what is in odp_error(). */
__attribute__((format(printf, 2, 3)))
static int during(int ret, const char *fmt, ...)
{
	char what[160], text[340];
	va_list args;

	if (!ret)
		return 0;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	snprintf(text, sizeof(text), "%s", odp_error());
	return odp_fail(-ret, "%s: %s", what, text);
}

static int want_error(int ret, int wanted, const char *what)
{
	if (ret == -wanted)
		return 0;
	if (!ret)
		return odp_fail(EPROTO, "%s was taken, should be refused with \"%s\"", what,
				strerror(wanted));
	during(ret, "%s should be refused with \"%s\", but", what, strerror(wanted));
	return -EPROTO;
}

static int in_time(uint64_t began, const char *what)
{
	uint64_t took = (odp_now() - began) / MS;

	if (took <= AT_ONCE_MS)
		return 0;
	return odp_fail(ETIME, "%s took %lu ms, should at most %d", what, took, AT_ONCE_MS);
}

/* The KiB in the line that begins with @name. */
static long proc_kib(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	char line[256];
	long kib = 0;

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			kib = strtol(line + strlen(name), NULL, 10);
	if (file)
		fclose(file);
	return kib;
}

/* --- regions -------------------------------------------------------------------------- */

struct region {
	struct odp_mem mem;
	uint8_t *map;			/* the same without struct odp_mem */
	size_t map_length;
	uint8_t *addr;			/* what the offsets below count from */
	size_t base;			/* what that is in the MR: offset, or address */
	struct odp_mr mr;
	struct odp_counters seen;
};

static int region_map(struct region *r, enum odp_mem_kind kind, size_t length)
{
	int ret;

	memset(r, 0, sizeof(*r));
	ret = odp_mem_map(&r->mem, kind, length, NULL);
	r->addr = r->mem.addr;
	return ret;
}

/* Memory of any size of which nothing is there; @addr as for mmap(). */
static int region_sparse(struct region *r, uint8_t *addr, size_t length, int prot)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	memset(r, 0, sizeof(*r));
	addr = mmap(addr, length, prot, addr ? flags | MAP_FIXED_NOREPLACE : flags, -1, 0);
	if (addr == MAP_FAILED)
		return during(guest_fail("mmap"), "reserving %#zx bytes", length);
	madvise(addr, length, MADV_NOHUGEPAGE);
	r->addr = r->map = addr;
	r->map_length = length;
	return 0;
}

/* From here on the offsets count from @start of the memory. */
static int region_reg_iova(struct ctx *ctx, struct region *r, size_t start, size_t length,
			   uint64_t iova, int access)
{
	r->addr += start;
	return odp_reg_iova(&r->mr, &ctx->dev, r->addr, length, iova, access);
}

static int region_reg(struct ctx *ctx, struct region *r, size_t start, size_t length, int access)
{
	return region_reg_iova(ctx, r, start, length, (uintptr_t)r->addr + start, access);
}

static int region_reg_implicit(struct ctx *ctx, struct region *r, int access)
{
	r->base = (uintptr_t)r->addr;
	return odp_reg(&r->mr, &ctx->dev, NULL, SIZE_MAX, access);
}

static int region_open(struct ctx *ctx, struct region *r, enum odp_mem_kind kind, size_t length,
		       enum state state)
{
	int ret = region_map(r, kind, length);

	if (ret)
		return ret;
	return state == IMPLICIT ? region_reg_implicit(ctx, r, ODP) :
	       region_reg(ctx, r, 0, length, state == PINNED ? ODP_ACCESS : ODP);
}

static void region_close(struct region *r)
{
	odp_dereg(&r->mr);
	odp_mem_unmap(&r->mem);
	if (r->map)
		munmap(r->map, r->map_length);
	memset(r, 0, sizeof(*r));
}

/* A registration that has to fail. */
static int refuse_reg(struct ctx *ctx, void *addr, size_t length, uint64_t iova, int access,
		      const char *what)
{
	struct odp_mr mr;
	int ret = odp_reg_iova(&mr, &ctx->dev, addr, length, iova, access);

	if (!ret)
		odp_dereg(&mr);
	return want_error(ret, EINVAL, what);
}

enum counter { FAULTS, NO_FAULTS, LOST, PREFETCHED };
static const char *const counter_names[] = {
	"faulted or more", "faulted beyond those that were taken away", "taken away or more",
	"prefetched",
};

/* @pages of it, since the last time. */
static int want(struct region *r, enum counter counter, uint64_t pages, const char *what)
{
	struct odp_counters now, *seen = &r->seen;
	uint64_t faults, lost, prefetched;
	int ret = odp_counters(&r->mr, &now);
	bool good;

	faults = now.faults - seen->faults;
	lost = now.invalidations - seen->invalidations;
	prefetched = now.prefetch - seen->prefetch;
	*seen = now;
	good = counter == FAULTS ? faults >= pages :
	       counter == NO_FAULTS ? faults <= lost :
	       counter == LOST ? lost >= pages :
	       prefetched >= pages && prefetched <= pages + lost;
	if (ret || good)
		return ret;
	return odp_fail(EPROTO, "%s: %lu pages were faulted, %lu taken away, %lu prefetched; should be %lu %s",
			what, faults, lost, prefetched, pages, counter_names[counter]);
}

/* --- bytes to and from them -------------------------------------------------------------- */

static int write_new(struct ctx *ctx, struct region *r, size_t offset, size_t length,
		     uint64_t seed)
{
	odp_fill(ctx->bytes, length, seed, 0);
	return odp_write(&ctx->pair, &ctx->peer, 0, &r->mr, r->base + offset, length) ?:
	       guest_verify(r->addr + offset, length, seed, 0, "what a WRITE brought");
}

/* The bytes of @seed, with the MR at the remote end, and then at the local one. */
static int read_back(struct ctx *ctx, struct region *r, size_t offset, size_t length,
		     uint64_t seed)
{
	int ret;

	memset(ctx->bytes, 0, length);
	ret = odp_read(&ctx->pair, &ctx->peer, 0, &r->mr, r->base + offset, length) ?:
	      guest_verify(ctx->bytes, length, seed, 0, "what a READ brought");
	memset(ctx->bytes, 0, length);
	return ret ?: odp_write(&ctx->pair, &r->mr, r->base + offset, &ctx->peer, 0, length) ?:
	       guest_verify(ctx->bytes, length, seed, 0, "what a WRITE took from it");
}

static int move(struct ctx *ctx, struct region *r, size_t offset, size_t length)
{
	uint64_t seed = odp_random(&ctx->rng);

	return write_new(ctx, r, offset, length, seed) ?: read_back(ctx, r, offset, length, seed);
}

static int read_zeroes(struct ctx *ctx, struct region *r, size_t offset, size_t length)
{
	struct odp_mismatch bad;
	int ret;

	memset(ctx->bytes, 0x55, length);
	ret = odp_read(&ctx->pair, &ctx->peer, 0, &r->mr, r->base + offset, length);
	if (!ret && !odp_compare(ctx->bytes, NULL, length, &bad))
		ret = odp_fail(EBADMSG, "a READ of fresh memory brought %#x at %zu, should be 0",
			       bad.got, bad.offset);
	return ret;
}

/* An operation that is a wrong access. The pair is new after it. */
static int refuse_op(struct ctx *ctx, enum ibv_wr_opcode opcode, const struct odp_mr *mr,
		     size_t offset, size_t length, const char *what)
{
	struct ibv_sge sge = odp_sge(&ctx->peer, 0, length);
	struct ibv_wc wc;
	int ret;

	ret = odp_post(&ctx->pair.local, opcode, 0, &sge, 1, mr, offset) ?:
	      odp_wait(&ctx->pair.local, &wc, ODP_WAIT_MS);
	odp_disconnect(&ctx->pair);
	if (!ret && wc.status != IBV_WC_REM_ACCESS_ERR)
		ret = odp_fail(EPROTO, "%s of %s completed with \"%s\", should be \"%s\"",
			       opcode == IBV_WR_RDMA_READ ? "a READ" : "a WRITE", what,
			       ibv_wc_status_str(wc.status),
			       ibv_wc_status_str(IBV_WC_REM_ACCESS_ERR));
	return ret ?: odp_connect(&ctx->pair, &ctx->dev, NULL);
}

static int refuse(struct ctx *ctx, const struct odp_mr *mr, size_t offset, size_t length,
		  const char *what)
{
	return refuse_op(ctx, IBV_WR_RDMA_WRITE, mr, offset, length, what) ?:
	       refuse_op(ctx, IBV_WR_RDMA_READ, mr, offset, length, what);
}

/* --- lengths ---------------------------------------------------------------------------- */

static int length_one(struct ctx *ctx, size_t start, size_t length)
{
	size_t i, pages = (start % PAGE + length + PAGE - 1) / PAGE;
	struct region r;
	uint8_t *all;
	int ret;

	ret = region_map(&r, ODP_MEM_ANON, start + length + 2 * PAGE);
	if (ret)
		return ret;
	all = r.mem.addr;
	memset(all, 0x5a, r.mem.length);
	start += PAGE;
	ret = region_reg(ctx, &r, start, length, ODP) ?:
	      move(ctx, &r, 0, length) ?:
	      want(&r, FAULTS, pages, "the first WRITE") ?:
	      refuse(ctx, &r.mr, 0, length + 1, "a byte more than the region has");
	for (i = 0; i < r.mem.length && !ret; i++)
		if (all[i] != 0x5a && (i < start || i >= start + length))
			ret = odp_fail(EBADMSG, "the byte at %ld of the region was written",
				       (long)(i - start));
	region_close(&r);
	return during(ret, "a region of %zu bytes, %zu after a page's start", length, start % PAGE);
}

static int length_small(struct ctx *ctx)
{
	static const size_t lengths[] = { 1, 3, PAGE - 1, PAGE, PAGE + 1, 12345, ODP_MIB + 7 };
	static const size_t starts[] = { 0, 1, PAGE - 1 };
	size_t i, j;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(lengths) && !ret; i++)
		for (j = 0; j < ARRAY_SIZE(starts) && !ret; j++)
			ret = length_one(ctx, starts[j], lengths[i]);
	return ret;
}

/* Memory of any size, of which there are three times two pages. */
static int length_sparse(struct ctx *ctx, size_t size)
{
	const size_t start = 7, piece = 2 * PAGE, length = size - start - 5;
	struct region r;
	size_t i, at, offset;
	int ret;

	ret = region_sparse(&r, NULL, size, PROT_NONE) ?: region_reg(ctx, &r, start, length, ODP);
	for (i = 0; i < 3 && !ret; i++) {
		at = ((size - piece) / 2 * i + PAGE - 1) & -PAGE;
		offset = at + 100 - start;
		if (offset > length - 4000)
			offset = length - 4000;
		if (mprotect(r.map + at, piece, PROT_READ | PROT_WRITE))
			ret = guest_fail("mprotect");
		ret = during(ret ?: move(ctx, &r, offset, 4000), "4000 bytes at %#zx", offset);
	}
	ret = ret ?: want(&r, FAULTS, 3 * 2, "three times two pages") ?:
	      refuse(ctx, &r.mr, piece, 100, "what is PROT_NONE, beside what is not") ?:
	      refuse(ctx, &r.mr, size / 4, 100, "what is PROT_NONE, far from all else") ?:
	      refuse(ctx, &r.mr, length - 10, 11, "the last bytes and one more");
	region_close(&r);
	return during(ret, "a region of %zu GiB", size / GIB);
}

static int length_4gib(struct ctx *ctx)
{
	/* 4 GiB and 3 bytes */
	return length_sparse(ctx, 4 * GIB + 15);
}

/* Half of the address space, or as much of it as there is in one piece. */
static int length_64tib(struct ctx *ctx)
{
	struct region r;
	int ret = region_sparse(&r, NULL, 64 * TIB, PROT_NONE);

	region_close(&r);
	return length_sparse(ctx, ret ? 32 * TIB : 64 * TIB);
}

static long kernel_kib(void)
{
	return proc_kib("/proc/meminfo", "Slab:") + proc_kib("/proc/meminfo", "VmallocUsed:");
}

/* What a region costs the kernel that nobody has touched. */
static int length_costs_nothing(struct ctx *ctx)
{
	enum { COUNT = 64, LIMIT_KIB = 256 };
	struct odp_mr mrs[COUNT] = { 0 };
	const size_t size = 64 * GIB;
	struct region r;
	int i, ret;
	long used;

	/* What is made only once is there after the first one. */
	ret = region_sparse(&r, NULL, size, PROT_READ | PROT_WRITE) ?:
	      region_reg(ctx, &r, 0, size, ODP);
	used = kernel_kib();
	for (i = 0; i < COUNT && !ret; i++)
		ret = odp_reg(&mrs[i], &ctx->dev, r.addr, size, ODP);
	used = kernel_kib() - used;
	if (!ret && used > COUNT * LIMIT_KIB)
		ret = odp_fail(EPROTO, "%d untouched regions of 64 GiB take %ld KiB of the kernel's memory, should be at most %d each",
			       COUNT, used, LIMIT_KIB);
	ret = ret ?: move(ctx, &r, size - 5000, 5000);
	for (i = 0; i < COUNT; i++)
		odp_dereg(&mrs[i]);
	region_close(&r);
	return ret;
}

/* --- iova ------------------------------------------------------------------------------- */

/* Memory from its byte 123 on, at @base + 123. */
static int iova_one(struct ctx *ctx, uint64_t base, size_t pages)
{
	size_t length = pages * PAGE - 123;
	struct region r;
	int ret;

	ret = region_map(&r, ODP_MEM_ANON, pages * PAGE) ?:
	      region_reg_iova(ctx, &r, 123, length, base + 123, ODP) ?:
	      move(ctx, &r, 0, length) ?:
	      move(ctx, &r, 5 * PAGE - 7, 10 * PAGE) ?:
	      move(ctx, &r, length - 1, 1) ?:
	      refuse(ctx, &r.mr, length - 1, 2, "the last byte and one more") ?:
	      refuse(ctx, &r.mr, -1UL, 1, "the byte before the first one");
	ret = during(ret, "iova %#lx for %p", base + 123, (void *)r.addr);
	region_close(&r);
	return ret;
}

static int mainline_iova(struct ctx *ctx)
{
	/* The last one ends where the 64-bit space does. */
	static const uint64_t bases[] = {
		0, PAGE, 4 * GIB - 20 * PAGE, 128 * TIB, 1UL << 63, -64 * ODP_MIB, -40 * PAGE,
	};
	size_t i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(bases) && !ret; i++)
		ret = iova_one(ctx, bases[i], 40);
	return ret;
}

static int iova_other_offset(struct ctx *ctx)
{
	static const uint64_t iovas[] = { 0, 122, PAGE, (1UL << 45) + 124, -PAGE };
	size_t i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(iovas) && !ret; i++)
		ret = during(refuse_reg(ctx, ctx->bytes + 123, PAGE, iovas[i], ODP,
					"another offset in its page"),
			     "iova %#lx for an address that ends in 0x07b", iovas[i]);
	return ret;
}

/* --- implicit --------------------------------------------------------------------------- */

/* Two of them and an explicit one, over the same memory. */
static int mainline_implicit(struct ctx *ctx)
{
	struct region r[3] = { 0 };
	int i, ret;

	if (!(ctx->dev.odp_general & IBV_ODP_SUPPORT_IMPLICIT))
		return odp_fail(EPROTO, "the general ODP capabilities are %#lx, should have IBV_ODP_SUPPORT_IMPLICIT",
				ctx->dev.odp_general);
	ret = region_open(ctx, &r[0], ODP_MEM_ANON, LENGTH, IMPLICIT);
	r[1].addr = r[2].addr = r[0].addr;
	ret = ret ?: region_reg_implicit(ctx, &r[1], ODP) ?: region_reg(ctx, &r[2], 0, LENGTH, ODP);
	for (i = 0; i < 6 && !ret; i++)
		ret = during(move(ctx, &r[i % 3], 1234 * i, LENGTH / 2) ?:
			     want(&r[i % 3], FAULTS, PAGES / 2, "half of the memory written") ?:
			     odp_mem_discard(&r[0].mem, 0, LENGTH) ?:
			     want(&r[i % 3], LOST, PAGES / 2, "all of the memory discarded"),
			     "round %d, %s region", i, i % 3 == 2 ? "explicit" : "implicit");
	region_close(&r[2]);
	region_close(&r[1]);
	region_close(&r[0]);
	return ret;
}

/* What is mapped after the region was made, and unmapped; and what never is. */
static int implicit_later(struct ctx *ctx)
{
	static const uint64_t never[] = {
		0, 128 * TIB - PAGE, 128 * TIB, 1UL << 60, 0xffff888000000000, -2 * PAGE,
	};
	struct region r = { .addr = NOWHERE }, late = { 0 };
	size_t i;
	int ret;

	ret = region_reg_implicit(ctx, &r, ODP);
	for (i = 0; i < 2 && !ret; i++) {
		ret = refuse(ctx, &r.mr, r.base + 10, 100, "what is not mapped") ?:
		      region_sparse(&late, NOWHERE, 64 * PAGE, PROT_READ | PROT_WRITE) ?:
		      during(read_zeroes(ctx, &r, 0, 64 * PAGE) ?: move(ctx, &r, 10, 63 * PAGE) ?:
			     want(&r, FAULTS, 64, "64 pages"),
			     "memory that was mapped after the region was made");
		region_close(&late);
	}
	for (i = 0; i < ARRAY_SIZE(never) && !ret; i++)
		ret = during(refuse(ctx, &r.mr, never[i], 100, "what no process has"),
			     "address %#lx", never[i]);
	region_close(&r);
	return ret;
}

/* The mirror is of the parent's memory, before the fork and after it. */
static int implicit_fork(struct ctx *ctx)
{
	int fds[2], status = 0, ret;
	struct region r;
	pid_t pid;
	char go;

	ret = region_open(ctx, &r, ODP_MEM_ANON, LENGTH, IMPLICIT) ?:
	      write_new(ctx, &r, 0, LENGTH, 55) ?:
	      (pipe(fds) ? guest_fail("pipe") : 0);
	if (ret)
		goto out;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		/* Once the parent is done: is all as it was at the fork? */
		close(fds[1]);
		_exit(read(fds[0], &go, 1) != 0 || !odp_verify(r.addr, LENGTH, 55, 0, NULL));
	}
	ret = pid < 0 ? guest_fail("fork") : 0;
	ret = ret ?: during(read_back(ctx, &r, 0, LENGTH, 55) ?: move(ctx, &r, 0, LENGTH),
			    "the parent's memory after the fork");
	close(fds[0]);
	close(fds[1]);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status && !ret)
		ret = odp_fail(EBADMSG, "the child's memory is not what it was at the fork (status %#x)",
			       status);
out:
	region_close(&r);
	return ret;
}

static int implicit_refused(struct ctx *ctx)
{
	static const size_t lengths[] = { 1, PAGE, 64 * GIB };
	struct region r = { 0 };
	size_t i;
	int ret;

	ret = refuse_reg(ctx, NULL, SIZE_MAX, PAGE, ODP, "an implicit region at iova 4096") ?:
	      refuse_reg(ctx, NULL, SIZE_MAX, 0, ODP | IBV_ACCESS_HUGETLB,
			 "an implicit region with IBV_ACCESS_HUGETLB") ?:
	      refuse_reg(ctx, NULL, SIZE_MAX, 0, IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_WRITE,
			 "an implicit region with remote and without local write");
	/* With any other length it is an explicit one of what is at 0, which is nothing. */
	for (i = 0; i < ARRAY_SIZE(lengths) && !ret; i++) {
		ret = region_reg(ctx, &r, 0, lengths[i], ODP) ?:
		      refuse(ctx, &r.mr, 0, 1, "what is at 0") ?:
		      refuse(ctx, &r.mr, (uintptr_t)ctx->bytes, 100, "what is outside");
		region_close(&r);
		ret = during(ret, "address NULL, length %zu", lengths[i]);
	}
	return ret;
}

/* --- huge pages -------------------------------------------------------------------------- */

static int hugetlb_one(struct ctx *ctx, size_t size, size_t start, size_t length)
{
	struct region r;
	int i, ret;

	ret = region_map(&r, ODP_MEM_HUGETLB, size) ?:
	      region_reg(ctx, &r, start, length, ODP | IBV_ACCESS_HUGETLB);
	for (i = 0; i < 2 && !ret; i++)
		ret = move(ctx, &r, 0, length) ?:
		      want(&r, FAULTS, 1, "all of it written") ?:
		      odp_mem_discard(&r.mem, 0, size) ?:
		      want(&r, LOST, 1, "all of it discarded") ?:
		      read_zeroes(ctx, &r, 0, length);
	ret = ret ?: refuse(ctx, &r.mr, length, 1, "the byte behind the region");
	region_close(&r);
	return during(ret, "IBV_ACCESS_HUGETLB, %zu bytes at %zu", length, start);
}

static int mainline_hugetlb(struct ctx *ctx)
{
	return hugetlb_one(ctx, 6 * ODP_MIB, 0, 6 * ODP_MIB) ?:
	       hugetlb_one(ctx, 6 * ODP_MIB, 12345, 2 * ODP_MIB + 777) ?:
	       hugetlb_one(ctx, 6 * ODP_MIB, 5 * ODP_MIB, 1);
}

/* The flag is refused, and without it the same memory is not. */
static int refuse_huge(struct ctx *ctx, uint8_t *addr, size_t length, const char *what)
{
	struct region r = { .addr = addr };
	int ret;

	ret = refuse_reg(ctx, addr, length, (uintptr_t)addr, ODP | IBV_ACCESS_HUGETLB, what) ?:
	      during(region_reg(ctx, &r, 0, length, ODP), "%s, without the flag", what);
	region_close(&r);
	return ret;
}

static int hugetlb_refused(struct ctx *ctx)
{
	struct region anon = { 0 }, memfd = { 0 }, half = { 0 };
	const size_t huge = 2 * ODP_MIB;
	int ret;

	ret = region_map(&anon, ODP_MEM_ANON, huge) ?:
	      region_map(&memfd, ODP_MEM_MEMFD, huge) ?:
	      region_map(&half, ODP_MEM_HUGETLB, 2 * huge);
	if (!ret && mmap(half.addr + huge, huge, PROT_READ | PROT_WRITE,
			 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		ret = guest_fail("mmap");
	ret = ret ?: refuse_huge(ctx, anon.addr, huge, "IBV_ACCESS_HUGETLB on anonymous memory") ?:
	      refuse_huge(ctx, memfd.addr, huge, "IBV_ACCESS_HUGETLB on a memfd") ?:
	      refuse_huge(ctx, NOWHERE, huge, "IBV_ACCESS_HUGETLB where nothing is mapped") ?:
	      refuse_huge(ctx, half.addr, 2 * huge, "IBV_ACCESS_HUGETLB where half is huge") ?:
	      region_reg(ctx, &half, 1, huge - 1, ODP | IBV_ACCESS_HUGETLB) ?:
	      during(move(ctx, &half, 0, huge - 1), "the half that has huge pages");
	region_close(&half);
	region_close(&memfd);
	region_close(&anon);
	return ret;
}

/* --- re-registering ---------------------------------------------------------------------- */

#define TRANSLATION	IBV_REREG_MR_CHANGE_TRANSLATION
#define PD		IBV_REREG_MR_CHANGE_PD
#define ACCESS		IBV_REREG_MR_CHANGE_ACCESS

#define AREA		(16 * PAGE)
#define OLD_START	100UL
#define OLD_IOVA	((1UL << 45) + OLD_START)
#define NEW_START	300UL

/* libibverbs takes no NULL for an address, which is what makes a region implicit. */
static int rereg_implicit(struct ibv_mr *mr, int flags, struct ibv_pd *pd, int access)
{
	struct ib_uverbs_rereg_mr_resp resp = {};
	struct {
		struct ib_uverbs_cmd_hdr header;
		struct ib_uverbs_rereg_mr cmd;
	} request = {
		.header = {
			.command = IB_USER_VERBS_CMD_REREG_MR,
			.in_words = sizeof(request) / 4,
			.out_words = sizeof(resp) / 4,
		},
		.cmd = {
			.response = (uintptr_t)&resp,
			.mr_handle = mr->handle,
			.flags = flags,
			.length = UINT64_MAX,
			.pd_handle = pd ? pd->handle : 0,
			.access_flags = access,
		},
	};

	if (write(mr->context->cmd_fd, &request, sizeof(request)) != sizeof(request))
		return -1;
	mr->lkey = resp.lkey;
	mr->rkey = resp.rkey;
	if (pd)
		mr->pd = pd;
	return 0;
}

/* Of the last four that counts which @flags has. */
static int rereg(struct odp_mr *mr, int flags, struct ctx *to, void *addr, size_t length,
		 int access)
{
	struct ibv_pd *pd = flags & PD ? to->dev.pd : NULL;
	int ret, err;

	access = flags & ACCESS ? access : 0;
	errno = 0;
	if (!(flags & TRANSLATION))
		ret = ibv_rereg_mr(mr->mr, flags, pd, NULL, 0, access);
	else if (addr)
		ret = ibv_rereg_mr(mr->mr, flags, pd, addr, length, access);
	else
		ret = rereg_implicit(mr->mr, flags, pd, access);
	if (ret) {
		err = errno && errno != ENODEV ? errno : EIO;
		return odp_fail(err, "ibv_rereg_mr with flags %#x returned %d: %s%s", flags, ret,
				strerror(err), err == EOPNOTSUPP ?
				" (or the rxe provider of this libibverbs does not have it)" : "");
	}
	if (flags & TRANSLATION) {
		mr->addr = addr;
		mr->length = length;
		mr->iova = (uintptr_t)addr;
	}
	/* To the kernel it may be another one. */
	mr->mrn = UINT32_MAX;
	return 0;
}

static int access_of(enum state state, int access)
{
	return access | (state == PINNED ? 0 : IBV_ACCESS_ON_DEMAND);
}

/* Counters tell what an MR is that bytes were moved with. */
static int want_state(struct odp_mr *mr, enum state state)
{
	struct odp_counters counters;
	int ret = odp_counters(mr, &counters);

	if (state == PINNED)
		return ret == -ENODATA ? 0 :
		       ret ?: odp_fail(EPROTO, "there are page-fault counters, should be pinned");
	if (!ret && !counters.faults)
		ret = odp_fail(EPROTO, "no page fault was counted, should be %s",
			       state_names[state]);
	return ret;
}

/* What must be over when @was has become @r, which is in the domain of @now. */
static int want_old_gone(struct ctx *ctx, struct ctx *now, int flags, struct region *r,
			 size_t offset, const struct odp_mr *was)
{
	struct odp_mr old_range = *was, old_key = r->mr;

	old_range.mr = r->mr.mr;
	old_key.mr = was->mr;
	offset += r->base;
	return (flags & TRANSLATION ?
		refuse(now, &old_range, 50, 100, "the old range with the new key") : 0) ?:
	       (was->mr->rkey != r->mr.mr->rkey ?
		refuse(now, &old_key, offset, 100, "the new range with the old key") ?:
		refuse(now, was, 50, 100, "the old range with the old key") : 0) ?:
	       (now != ctx ?
		refuse(ctx, &r->mr, offset, 100, "the region in its old PD") : 0);
}

static int rereg_check(struct ctx *ctx, enum state from, enum state to, int flags,
		       struct region *r, struct region *new)
{
	const bool may_change = flags & TRANSLATION || (from == PINNED) != (to == PINNED);
	/* Else nothing would tell the new access from the old one. */
	const bool no_write = from == to && flags & ACCESS;
	int access = no_write ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ : ODP_ACCESS;
	struct ctx *now = flags & PD ? ctx->other : ctx;
	struct ibv_mr keys = *r->mr.mr;
	struct odp_mr was = r->mr;
	int ret;

	was.mr = &keys;
	new->addr += NEW_START;
	ret = rereg(&r->mr, flags, now, to == IMPLICIT ? NULL : new->addr,
		    to == IMPLICIT ? SIZE_MAX : 50001, access_of(to, access));
	if (ret)
		return ret;
	if (!may_change && (r->mr.mr->lkey != keys.lkey || r->mr.mr->rkey != keys.rkey))
		return odp_fail(EPROTO, "the keys %#x, %#x have become %#x, %#x and should stay",
				keys.lkey, keys.rkey, r->mr.mr->lkey, r->mr.mr->rkey);
	if (flags & TRANSLATION)
		r->addr = new->addr;
	if (to == IMPLICIT)
		r->base = (uintptr_t)r->addr;
	odp_fill(r->addr + 77, 40000, 33, 0);
	return (no_write ? read_back(now, r, 77, 40000, 33) ?:
			   refuse_op(now, IBV_WR_RDMA_WRITE, &r->mr, r->base + 77, 100,
				     "what is not writable any more") :
			   move(now, r, 77, 40000)) ?:
	       (to == IMPLICIT ? 0 :
		refuse(now, &r->mr, r->mr.length, 1, "the byte behind the region")) ?:
	       want_state(&r->mr, to) ?: want_old_gone(ctx, now, flags, r, 77, &was);
}

/* Every combination of flags that can do it. */
static int rereg_flags(struct ctx *ctx)
{
	const enum state from = ctx->test->from, to = ctx->test->to;
	struct region r, new = { 0 };
	int flags, ret = 0;

	for (flags = 1; flags <= (TRANSLATION | PD | ACCESS) && !ret; flags++) {
		if (((from == PINNED) != (to == PINNED) && !(flags & ACCESS)) ||
		    (to == IMPLICIT && !(flags & TRANSLATION)))
			continue;
		ret = region_map(&r, ODP_MEM_ANON, AREA) ?:
		      region_map(&new, ODP_MEM_ANON, AREA) ?:
		      region_reg_iova(ctx, &r, OLD_START, 60001, OLD_IOVA,
				      access_of(from, ODP_ACCESS)) ?:
		      during(move(ctx, &r, 50, 50000), "before it") ?:
		      rereg_check(ctx, from, to, flags, &r, &new);
		region_close(&r);
		region_close(&new);
		ret = during(ret, "%s to %s by%s%s%s", state_names[from], state_names[to],
			     flags & TRANSLATION ? " TRANSLATION" : "", flags & PD ? " PD" : "",
			     flags & ACCESS ? " ACCESS" : "");
	}
	return ret;
}

/* Access alone: the region stays what and where it is, and is accounted for when pinned. */
static int rereg_mlock(struct ctx *ctx)
{
	const size_t length = LENGTH - OLD_START - 5;
	long pinned = 0, odp = 0;
	struct region r;
	int i, ret;

	ret = region_map(&r, ODP_MEM_ANON, LENGTH) ?:
	      region_reg_iova(ctx, &r, OLD_START, length, OLD_IOVA, ODP_ACCESS);
	for (i = 0; i < 5 && !ret; i++) {
		enum state state = i % 2 ? EXPLICIT : PINNED;

		if (i)
			ret = rereg(&r.mr, ACCESS, ctx, NULL, 0, access_of(state, ODP_ACCESS));
		*(state == PINNED ? &pinned : &odp) = proc_kib("/proc/self/status", "VmPin:");
		if (i && !ret && pinned < odp + (long)(length / ODP_KIB))
			ret = odp_fail(EPROTO, "VmPin is %ld KiB pinned and %ld KiB not, should differ by %zu",
				       pinned, odp, length / ODP_KIB);
		ret = during(ret ?: move(ctx, &r, 0, length) ?: want_state(&r.mr, state) ?:
			     refuse(ctx, &r.mr, length, 1, "the byte behind the region"),
			     "change %d, %s", i, state_names[state]);
	}
	region_close(&r);
	return ret;
}

/* @r is a region of all its memory, and still has @keys. */
static int want_as_before(struct ctx *ctx, struct region *r, const struct ibv_mr *keys,
			  const char *what)
{
	if (r->mr.mr->lkey != keys->lkey || r->mr.mr->rkey != keys->rkey)
		return odp_fail(EPROTO, "after %s was refused the keys are not the same", what);
	return during(move(ctx, r, 0, AREA), "after %s was refused", what);
}

static const struct refusal {
	const char *what;
	int flags;
	int access;
	int wanted;
	bool only_pinned;
} refusals[] = {
	{ "no flag at all", 0, 0, EINVAL, false },
	{ "unknown access bits", ACCESS, ODP_ACCESS | 1 << 30, EINVAL, false },
	{ "unknown access bits with ODP", ACCESS, ODP | 1 << 30, EINVAL, false },
	{ "remote without local write", ACCESS, IBV_ACCESS_REMOTE_WRITE, EINVAL, false },
	{ "the same with ODP", ACCESS, IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_ON_DEMAND, EINVAL,
	  false },
	{ "a translation to nothing", TRANSLATION, 0, EFAULT, true },
	{ "a translation to nothing and a PD", TRANSLATION | PD, 0, EFAULT, true },
	{ "pinning nothing", TRANSLATION | ACCESS, ODP_ACCESS, EFAULT, false },
	{ "pinning nothing in another PD", TRANSLATION | PD | ACCESS, ODP_ACCESS, EFAULT, false },
};

static int rereg_refused(struct ctx *ctx)
{
	const enum state state = ctx->test->from;
	struct ibv_mr keys = { 0 };
	struct region r;
	size_t i;
	int ret;

	ret = region_open(ctx, &r, ODP_MEM_ANON, AREA, state);
	if (!ret)
		keys = *r.mr.mr;
	for (i = 0; i < ARRAY_SIZE(refusals) && !ret; i++) {
		const struct refusal *bad = &refusals[i];

		if (bad->only_pinned && state != PINNED)
			continue;
		ret = rereg(&r.mr, bad->flags, ctx->other, NOWHERE, AREA, bad->access);
		ret = want_error(ret, bad->wanted, bad->what) ?:
		      want_as_before(ctx, &r, &keys, bad->what) ?:
		      want_state(&r.mr, state);
	}
	region_close(&r);
	return ret;
}

/* Memory that ODP takes and that cannot be pinned. */
static int rereg_refused_file(struct ctx *ctx)
{
	struct ibv_mr keys = { 0 };
	struct region r;
	int ret;

	ret = region_open(ctx, &r, ctx->test->kind, AREA, EXPLICIT) ?: move(ctx, &r, 0, AREA);
	if (!ret)
		keys = *r.mr.mr;
	/* A provider that has no ibv_rereg_mr() shows in the last one. */
	ret = ret ?: want_error(rereg(&r.mr, ACCESS, ctx, NULL, 0, ODP_ACCESS), ctx->test->wanted,
				"ODP to pinned") ?:
	      want_as_before(ctx, &r, &keys, "ODP to pinned") ?:
	      rereg(&r.mr, ACCESS, ctx, NULL, 0, READ_ONLY);
	region_close(&r);
	return ret;
}

/* Bind a window on the first page. */
static int bind_window(struct ctx *ctx, struct ibv_mw *mw, const struct odp_mr *mr)
{
	struct ibv_send_wr *bad, wr = {
		.opcode = IBV_WR_BIND_MW,
		.send_flags = IBV_SEND_SIGNALED,
		.bind_mw = {
			.mw = mw,
			.rkey = ibv_inc_rkey(mw->rkey),
			.bind_info = {
				.mr = mr->mr,
				.addr = mr->iova,
				.length = PAGE,
				.mw_access_flags = IBV_ACCESS_REMOTE_WRITE,
			},
		},
	};
	int ret = ibv_post_send(ctx->pair.local.qp, &wr, &bad);

	return ret ? odp_fail(ret, "binding a window: %s", strerror(ret)) :
		     odp_wait_success(&ctx->pair.local, "binding a window", PAGE);
}

static int rereg_refused_window(struct ctx *ctx)
{
	static const int tries[] = { TRANSLATION, ACCESS, TRANSLATION | ACCESS };
	struct region r, other = { 0 };
	struct ibv_mw *mw = NULL;
	struct ibv_mr keys = { 0 };
	size_t i;
	int ret;

	ret = region_map(&r, ODP_MEM_ANON, AREA) ?:
	      region_reg(ctx, &r, 0, AREA, ODP_ACCESS | IBV_ACCESS_MW_BIND) ?:
	      region_map(&other, ODP_MEM_ANON, AREA);
	if (!ret) {
		keys = *r.mr.mr;
		mw = ibv_alloc_mw(ctx->dev.pd, IBV_MW_TYPE_2);
		ret = mw ? bind_window(ctx, mw, &r.mr) : guest_fail("ibv_alloc_mw");
	}
	for (i = 0; i < ARRAY_SIZE(tries) && !ret; i++) {
		ret = rereg(&r.mr, tries[i], ctx, other.addr, AREA, ODP);
		ret = ret == -EBUSY ? 0 : want_error(ret, EINVAL, "a change beside a window");
		ret = ret ?: want_as_before(ctx, &r, &keys, "a change beside a window");
		ret = during(ret, "flags %#x", tries[i]);
	}
	if (mw)
		ibv_dealloc_mw(mw);
	ret = ret ?: rereg(&r.mr, TRANSLATION | ACCESS, ctx, other.addr, AREA, ODP);
	r.addr = other.addr;
	ret = ret ?: during(move(ctx, &r, 0, AREA), "changed once the window is gone");
	region_close(&r);
	region_close(&other);
	return ret;
}

/* --- advice ------------------------------------------------------------------------------ */

#define SYNC		IBV_ADVISE_MR_FLAG_FLUSH
#define PREFETCH	IBV_ADVISE_MR_ADVICE_PREFETCH
#define FOR_WRITE	IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE
#define NO_FAULT	IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT
#define ADVICES		3

static const char *const advice_names[] = { "PREFETCH", "PREFETCH_WRITE", "PREFETCH_NO_FAULT" };

static int advise_list(struct ctx *ctx, int advice, int flags, struct ibv_sge *sge, int count)
{
	int err = ibv_advise_mr(ctx->dev.pd, advice, flags, sge, count);

	if (!err)
		return 0;
	return odp_fail(err == ENODEV ? EIO : err, "ibv_advise_mr(%s), flags %#x, %d ranges: %s%s",
			advice < ADVICES ? advice_names[advice] : "unknown", flags, count,
			strerror(err), err == EOPNOTSUPP ?
			" (or the rxe provider of this libibverbs does not have it)" : "");
}

static int advise(struct ctx *ctx, int advice, int flags, struct region *r, size_t offset,
		  size_t length)
{
	struct ibv_sge sge = odp_sge(&r->mr, r->base + offset, length);

	return advise_list(ctx, advice, flags, &sge, 1);
}

/* It has to come to pass. */
static int wait_prefetched(struct region *r, uint64_t pages)
{
	uint64_t end = odp_now() + SETTLE_MS * MS;
	struct odp_counters now;
	int ret;

	for (;;) {
		ret = odp_counters(&r->mr, &now);
		if (ret || now.prefetch >= r->seen.prefetch + pages)
			return ret;
		if (odp_now() > end)
			return odp_fail(ETIME, "%lu pages were prefetched in %d ms, should be %lu",
					now.prefetch - r->seen.prefetch, SETTLE_MS, pages);
		guest_sleep_ms(10);
	}
}

static int page_out(const struct odp_mem *mem)
{
	uint64_t end = odp_now() + SETTLE_MS * MS;
	long left;

	for (;;) {
		if (mem->fd >= 0)
			msync(mem->addr, mem->length, MS_SYNC);
		if (madvise(mem->addr, mem->length, MADV_PAGEOUT))
			return guest_fail("MADV_PAGEOUT");
		left = guest_count_pages(mem->addr, mem->length, GUEST_PRESENT);
		if (left <= 0)
			break;
		if (odp_now() > end)
			return odp_fail(EBUSY, "MADV_PAGEOUT leaves %ld pages in memory", left);
		guest_sleep_ms(10);
	}
	/* What the page table has lost may still be in the page cache. */
	if (mem->fd >= 0)
		posix_fadvise(mem->fd, 0, 0, POSIX_FADV_DONTNEED);
	return left;
}

/* The traffic that the advice was for meets no fault, and the bytes are right. */
static int prefetch_one(struct ctx *ctx, const struct test *test, int advice, int flags)
{
	uint64_t seed = odp_random(&ctx->rng);
	struct region r;
	int ret;

	ret = region_open(ctx, &r, test->kind, LENGTH, test->from);
	if (!ret && test->paged_out) {
		odp_fill(r.addr, LENGTH, seed, 0);
		ret = page_out(&r.mem);
	}
	ret = ret ?: advise(ctx, advice, flags, &r, 0, LENGTH) ?:
	      (flags & SYNC ? 0 : wait_prefetched(&r, PAGES)) ?:
	      want(&r, PREFETCHED, PAGES, "after the advice") ?:
	      (test->paged_out ? read_back(ctx, &r, 0, LENGTH, seed) :
				 read_zeroes(ctx, &r, 0, LENGTH)) ?:
	      (advice == FOR_WRITE ? move(ctx, &r, 0, LENGTH) : 0) ?:
	      want(&r, NO_FAULTS, 0, "traffic after the advice");
	region_close(&r);
	return during(ret, "%s %s, %s memory", flags & SYNC ? "synchronous" : "asynchronous",
		      advice_names[advice], odp_mem_name(test->kind));
}

static int prefetch_sync(struct ctx *ctx)
{
	const struct test *test = ctx->test;

	return (test->paged_out && test->kind != ODP_MEM_EXT4 ? guest_need_swap(NULL) : 0) ?:
	       prefetch_one(ctx, test, PREFETCH, SYNC) ?:
	       prefetch_one(ctx, test, FOR_WRITE, SYNC);
}

static int prefetch_async(struct ctx *ctx)
{
	return prefetch_one(ctx, ctx->test, PREFETCH, 0) ?:
	       prefetch_one(ctx, ctx->test, FOR_WRITE, 0);
}

/* What was prefetched for reading is the zero page. */
static int prefetch_then_write(struct ctx *ctx)
{
	struct region r;
	int ret;

	ret = region_open(ctx, &r, ODP_MEM_ANON, LENGTH, EXPLICIT) ?:
	      advise(ctx, PREFETCH, SYNC, &r, 0, LENGTH) ?:
	      want(&r, PREFETCHED, PAGES, "PREFETCH") ?:
	      move(ctx, &r, 0, LENGTH) ?:
	      want(&r, FAULTS, PAGES, "a WRITE after PREFETCH");
	region_close(&r);
	return ret;
}

/* Every other page is there. */
static int prefetch_no_fault(struct ctx *ctx)
{
	int flags, ret = 0;
	struct region r;
	size_t i;
	long now;

	for (flags = 0; flags <= SYNC && !ret; flags += SYNC) {
		ret = region_open(ctx, &r, ODP_MEM_ANON, LENGTH, ctx->test->from);
		for (i = 0; i < PAGES && !ret; i += 2)
			r.addr[i * PAGE] = i;
		ret = ret ?: advise(ctx, NO_FAULT, flags, &r, 0, LENGTH) ?:
		      wait_prefetched(&r, PAGES / 2);
		guest_sleep_ms(flags & SYNC ? 0 : IDLE_MS);
		ret = ret ?: want(&r, PREFETCHED, PAGES / 2, "PREFETCH_NO_FAULT of half");
		now = ret ? 0 : guest_count_pages(r.addr, LENGTH, GUEST_PRESENT);
		if (!ret && now != (long)PAGES / 2)
			ret = odp_fail(EPROTO, "%ld pages are in memory after PREFETCH_NO_FAULT, should be %lu",
				       now, PAGES / 2);
		for (i = 0; i < PAGES && !ret; i += 2)
			ret = write_new(ctx, &r, i * PAGE + 5, 100, i);
		ret = ret ?: want(&r, NO_FAULTS, 0, "WRITEs to what the CPU has written");
		for (i = 1; i < PAGES && !ret; i += 2)
			ret = write_new(ctx, &r, i * PAGE + 5, 100, i);
		ret = ret ?: want(&r, FAULTS, PAGES / 2, "WRITEs to what was not there");
		region_close(&r);
	}
	return ret;
}

/* A region that may only be read, of a file that is mapped to be read. */
static int prefetch_read_only(struct ctx *ctx)
{
	struct region r;
	int ret;

	ret = region_map(&r, ctx->test->kind, LENGTH);
	if (ret)
		return ret;
	odp_fill(r.addr, LENGTH, 44, 0);
	if (mmap(r.addr, LENGTH, PROT_READ, MAP_SHARED | MAP_FIXED, r.mem.fd, 0) == MAP_FAILED)
		ret = guest_fail("mmap");
	ret = ret ?: (ctx->test->from == IMPLICIT ? region_reg_implicit(ctx, &r, READ_ONLY) :
						   region_reg(ctx, &r, 0, LENGTH, READ_ONLY)) ?:
	      want_error(advise(ctx, FOR_WRITE, SYNC, &r, 0, LENGTH), EPERM,
			 "PREFETCH_WRITE of a read-only region") ?:
	      want_error(advise(ctx, FOR_WRITE, 0, &r, 0, LENGTH), EPERM,
			 "asynchronous PREFETCH_WRITE of a read-only region") ?:
	      want(&r, PREFETCHED, 0, "PREFETCH_WRITE that was refused") ?:
	      advise(ctx, PREFETCH, SYNC, &r, 0, LENGTH) ?:
	      want(&r, PREFETCHED, PAGES, "PREFETCH of a read-only region") ?:
	      read_back(ctx, &r, 0, LENGTH, 44) ?:
	      want(&r, NO_FAULTS, 0, "READs after PREFETCH");
	region_close(&r);
	return ret;
}

/* A page every 256 MiB, and the last one of each GiB. */
static bool is_touched(size_t page)
{
	return page % (GIB / 4 / PAGE) == 3 || page % (GIB / PAGE) == GIB / PAGE - 1;
}

/* Ranges one behind the other, of memory of which little is there. */
static int no_fault_big(struct ctx *ctx, size_t size, const uint32_t *lengths, int count)
{
	size_t page, end = 0, pages = 0;
	struct ibv_sge sge[4];
	struct region r;
	int i, ret;

	ret = region_sparse(&r, NULL, size, PROT_READ | PROT_WRITE) ?:
	      region_reg(ctx, &r, 0, size, ODP);
	for (i = 0; i < count && !ret; i++) {
		sge[i] = odp_sge(&r.mr, end, lengths[i]);
		end += lengths[i];
	}
	for (page = 0; page < size / PAGE && !ret; page++) {
		if (!is_touched(page))
			continue;
		r.addr[page * PAGE] = 1;
		pages += page * PAGE < end;
	}
	ret = ret ?: advise_list(ctx, NO_FAULT, SYNC, sge, count) ?:
	      want(&r, PREFETCHED, pages, "what is there of it");
	for (page = 0; page * PAGE < end && !ret; page++)
		if (is_touched(page))
			ret = write_new(ctx, &r, page * PAGE + 9, 50, page);
	ret = ret ?: want(&r, NO_FAULTS, 0, "WRITEs to what was there");
	region_close(&r);
	return during(ret, "PREFETCH_NO_FAULT of %#zx bytes in %d ranges", end, count);
}

static int prefetch_4gib(struct ctx *ctx)
{
	static const uint32_t lengths[] = { UINT32_MAX, UINT32_MAX, UINT32_MAX };

	return no_fault_big(ctx, 5 * GIB, lengths, 1) ?:
	       no_fault_big(ctx, 13 * GIB, lengths, 3);
}

static int prefetch_list(struct ctx *ctx)
{
	static struct ibv_sge sge[1000];
	const size_t count = ARRAY_SIZE(sge);
	struct region r;
	size_t i;
	int ret;

	ret = region_open(ctx, &r, ODP_MEM_ANON, count * PAGE, EXPLICIT);
	for (i = 0; i < count && !ret; i++)
		sge[i] = odp_sge(&r.mr, (count - 1 - i) * PAGE + i * 37 % 4000, 64);
	ret = ret ?: advise_list(ctx, FOR_WRITE, SYNC, sge, count) ?:
	      want(&r, PREFETCHED, count, "1000 ranges, each in a page of its own") ?:
	      move(ctx, &r, 0, count * PAGE) ?:
	      want(&r, NO_FAULTS, 0, "traffic after 1000 ranges");
	region_close(&r);
	return ret;
}

/* --- advice that is refused ----------------------------------------------------------------- */

enum key { KEY_GOOD, KEY_GONE, KEY_OTHER_BYTE, KEY_PINNED, KEY_WINDOW, KEY_OTHER_PD, KEYS };

static const struct bad_advice {
	const char *what;
	enum key key;
	size_t offset;
	uint32_t length;
	int wanted;
	int or;			/* another errno that is as good; or 0 */
	int advice;		/* in place of each of the three; or 0 */
	int flags;
} bad_advices[] = {
	{ "the key of a region that is gone", KEY_GONE, 0, PAGE, ENOENT, 0, 0, 0 },
	{ "a key that is none", KEY_OTHER_BYTE, 0, PAGE, ENOENT, 0, 0, 0 },
	{ "the key of a pinned region", KEY_PINNED, 0, PAGE, EINVAL, 0, 0, 0 },
	{ "the key of a memory window", KEY_WINDOW, 0, PAGE, EINVAL, 0, 0, 0 },
	{ "the key of another PD", KEY_OTHER_PD, 0, PAGE, EPERM, 0, 0, 0 },
	{ "a byte more than the region has", KEY_GOOD, LENGTH - 10, 11, EFAULT, 0, 0, 0 },
	{ "the byte behind the region", KEY_GOOD, LENGTH, 1, EFAULT, 0, 0, 0 },
	{ "the byte before the region", KEY_GOOD, -1UL, 1, EFAULT, 0, 0, 0 },
	{ "4 GiB - 1 of a small region", KEY_GOOD, 0, UINT32_MAX, EFAULT, 0, 0, 0 },
	{ "advice 77", KEY_GOOD, 0, PAGE, EOPNOTSUPP, 0, 77, 0 },
	{ "flag 2", KEY_GOOD, 0, PAGE, EINVAL, EOPNOTSUPP, 0, 2 },
};

/*
 * Alone, and at the end of a list; of that nothing must be done either, but what is
 * synchronous may have got somewhere before it comes to the error.
 */
static int refuse_advice(struct ctx *ctx, const struct bad_advice *bad, struct region *r,
			 uint32_t key, int advice)
{
	struct ibv_sge sge[5];
	int way, good, flags, ret = 0;

	for (way = 0; way < 4 && !ret; way++) {
		flags = bad->flags | (way & 1 ? SYNC : 0);
		for (good = 0; good < (way & 2 ? 4 : 0); good++)
			sge[good] = odp_sge(&r->mr, good * 3 * PAGE, way & 1 ? 0 : PAGE);
		sge[good] = odp_sge(&r->mr, bad->offset, bad->length);
		sge[good].lkey = key;
		ret = advise_list(ctx, advice, flags, sge, good + 1);
		ret = bad->or && ret == -bad->or ? 0 : want_error(ret, bad->wanted, bad->what);
		ret = during(ret, "advice %d, flags %#x, last of %d ranges", advice, flags,
			     good + 1);
	}
	return ret;
}

/* Lists of nothing. */
static int advise_nothing(struct ctx *ctx, struct region *r)
{
	struct ibv_sge sge = odp_sge(&r->mr, 0, PAGE);
	int ret;

	ret = during(advise(ctx, FOR_WRITE, SYNC, r, 0, 0), "a range of no bytes") ?:
	      during(advise(ctx, FOR_WRITE, 0, r, 0, 0), "a range of no bytes");
	if (ret)
		return ret;
	ret = advise_list(ctx, FOR_WRITE, SYNC, &sge, 0);
	return ret ? want_error(ret, EINVAL, "no range at all") : 0;
}

static int prefetch_refused(struct ctx *ctx)
{
	struct region r, pinned = { 0 }, other_pd = { 0 }, gone = { 0 };
	uint32_t keys[KEYS] = { 0 };
	struct ibv_mw *mw = NULL;
	size_t i;
	int ret;

	/* All of the same memory, so that only the key tells them from each other. */
	ret = region_open(ctx, &r, ODP_MEM_ANON, LENGTH, EXPLICIT);
	pinned.addr = other_pd.addr = gone.addr = r.addr;
	ret = ret ?: region_reg(ctx, &pinned, 0, LENGTH, ODP_ACCESS) ?:
	      region_reg(ctx->other, &other_pd, 0, LENGTH, ODP) ?:
	      region_reg(ctx, &gone, 0, LENGTH, ODP);
	if (!ret) {
		mw = ibv_alloc_mw(ctx->dev.pd, IBV_MW_TYPE_2);
		ret = mw ? 0 : guest_fail("ibv_alloc_mw");
	}
	if (!ret) {
		keys[KEY_GOOD] = r.mr.mr->lkey;
		keys[KEY_OTHER_BYTE] = r.mr.mr->lkey ^ 1;
		keys[KEY_PINNED] = pinned.mr.mr->lkey;
		keys[KEY_OTHER_PD] = other_pd.mr.mr->lkey;
		keys[KEY_WINDOW] = mw->rkey;
		keys[KEY_GONE] = gone.mr.mr->lkey;
		ret = odp_dereg(&gone.mr);
	}
	for (i = 0; i < ADVICES * ARRAY_SIZE(bad_advices) && !ret; i++) {
		const struct bad_advice *bad = &bad_advices[i / ADVICES];
		int advice = bad->advice ?: (int)(i % ADVICES);

		ret = refuse_advice(ctx, bad, &r, keys[bad->key], advice);
	}
	ret = ret ?: advise_nothing(ctx, &r);
	/* What was refused must not be done later either. */
	guest_sleep_ms(IDLE_MS);
	ret = ret ?: want(&r, PREFETCHED, 0, "all that was refused") ?:
	      during(move(ctx, &r, 0, LENGTH), "the ODP region") ?:
	      during(move(ctx, &pinned, 0, LENGTH), "the pinned region") ?:
	      during(move(ctx->other, &other_pd, 0, LENGTH), "the region of another PD");
	if (mw)
		ibv_dealloc_mw(mw);
	region_close(&gone);
	region_close(&other_pd);
	region_close(&pinned);
	region_close(&r);
	return ret;
}

/* What only a fault tells: half of the region is not mapped, and a page is read-only. */
static int prefetch_hole(struct ctx *ctx)
{
	const size_t half = 8 * PAGE;
	struct region r;
	int ret;

	ret = region_sparse(&r, NOWHERE, half, PROT_READ | PROT_WRITE) ?:
	      (ctx->test->from == IMPLICIT ? region_reg_implicit(ctx, &r, ODP) :
					     region_reg(ctx, &r, 0, 2 * half, ODP)) ?:
	      (mprotect(r.addr, PAGE, PROT_READ) ? guest_fail("mprotect") : 0) ?:
	      want_error(advise(ctx, PREFETCH, SYNC, &r, half, PAGE), EFAULT,
			 "PREFETCH of what is not mapped") ?:
	      want_error(advise(ctx, FOR_WRITE, SYNC, &r, half, half), EFAULT,
			 "PREFETCH_WRITE of what is not mapped") ?:
	      want_error(advise(ctx, FOR_WRITE, SYNC, &r, 0, PAGE), EPERM,
			 "PREFETCH_WRITE of what is mapped read-only") ?:
	      during(advise(ctx, PREFETCH, 0, &r, half, half) ?:
		     advise(ctx, FOR_WRITE, 0, &r, 0, PAGE), "asynchronous, of either");
	guest_sleep_ms(IDLE_MS);
	/* Only in the second part something may be done. */
	ret = ret ?: want(&r, PREFETCHED, 0, "a hole and a read-only page") ?:
	      want_error(advise(ctx, PREFETCH, SYNC, &r, 0, 2 * half), EFAULT,
			 "PREFETCH of what is mapped and what is not") ?:
	      refuse_op(ctx, IBV_WR_RDMA_WRITE, &r.mr, r.base + 10, 100, "a read-only page") ?:
	      read_zeroes(ctx, &r, 0, PAGE) ?:
	      move(ctx, &r, PAGE, half - PAGE);
	region_close(&r);
	return ret;
}

/* --- advice that is under way ----------------------------------------------------------------- */

#define BIG	(256 * ODP_MIB)

/* The device is as good as ever. */
static int still_works(struct ctx *ctx, const char *what)
{
	struct region r;
	int ret;

	ret = region_open(ctx, &r, ODP_MEM_ANON, LENGTH, EXPLICIT) ?: move(ctx, &r, 0, LENGTH) ?:
	      want(&r, FAULTS, PAGES, "all of it written");
	region_close(&r);
	return during(ret, "%s", what);
}

static int dereg_in_time(struct region *r)
{
	uint64_t began = odp_now();

	return odp_dereg(&r->mr) ?: in_time(began, "ibv_dereg_mr() with a prefetch under way");
}

static int advise_in_time(struct ctx *ctx, struct region *r, size_t length)
{
	uint64_t began = odp_now();

	return advise(ctx, FOR_WRITE, 0, r, 0, length) ?: in_time(began, "asynchronous advice");
}

static int under_way_dereg(struct ctx *ctx)
{
	struct region r;
	int i, ret = 0;

	for (i = 0; i < 2 && !ret; i++) {
		ret = region_sparse(&r, NULL, BIG, PROT_READ | PROT_WRITE) ?:
		      region_reg(ctx, &r, 0, BIG, ODP) ?:
		      advise_in_time(ctx, &r, BIG) ?:
		      dereg_in_time(&r);
		region_close(&r);
	}
	return ret ?: still_works(ctx, "after a region was deregistered with a prefetch under way");
}

static int under_way_close(struct ctx *ctx)
{
	struct ctx extra = { 0 };
	struct region r;
	uint64_t began;
	int ret;

	ret = region_sparse(&r, NULL, BIG, PROT_READ | PROT_WRITE) ?:
	      odp_open(&extra.dev, ctx->dev.name) ?:
	      region_reg(&extra, &r, 0, BIG, ODP) ?:
	      advise_in_time(&extra, &r, BIG);
	/* What libibverbs has of the region is lost with it. */
	began = odp_now();
	odp_close(&extra.dev);
	r.mr.mr = NULL;
	ret = ret ?: in_time(began, "ibv_close_device() with a prefetch under way");
	region_close(&r);
	return ret ?: still_works(ctx, "after the device was closed with a prefetch under way");
}

/* A region of which nobody answers for a page. Returns the userfaultfd. */
static int open_stuck(struct ctx *ctx, struct region *r)
{
	return region_open(ctx, r, ODP_MEM_ANON, LENGTH, EXPLICIT) ?:
	       guest_uffd(r->addr, LENGTH, 0);
}

/* Tells the parent when it begins to wait, and should that end. */
static void stuck_child(const char *device, int pipe)
{
	struct ctx ctx = { 0 };
	struct region r;
	int ret;

	ret = odp_open(&ctx.dev, device) ?: open_stuck(&ctx, &r);
	if (ret >= 0 && write(pipe, "b", 1) == 1)
		ret = advise(&ctx, FOR_WRITE, SYNC, &r, 0, LENGTH);
	fprintf(stderr, "# child: %d, %s\n", ret, odp_error());
	_exit(write(pipe, "e", 1) != 1);
}

static int kill_child(pid_t pid)
{
	uint64_t end = odp_now() + 10000 * MS;

	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, WNOHANG) != pid) {
		if (odp_now() > end)
			return odp_fail(ETIME, "a process that waits in ibv_advise_mr() does not die of SIGKILL within 10 s");
		guest_sleep_ms(10);
	}
	return 0;
}

static int under_way_killed(struct ctx *ctx)
{
	struct pollfd pollfd = { .events = POLLIN };
	int fds[2], died, ret = 0;
	char said = 0;
	pid_t pid;

	if (pipe(fds))
		return guest_fail("pipe");
	fflush(stdout);
	pid = fork();
	if (!pid)
		stuck_child(ctx->dev.name, fds[1]);
	close(fds[1]);
	pollfd.fd = fds[0];
	if (pid < 0)
		ret = guest_fail("fork");
	else if (read(fds[0], &said, 1) != 1 || said != 'b')
		ret = odp_fail(ECHILD, "the child did not come to give advice; it says why above");
	else if (poll(&pollfd, 1, 2 * IDLE_MS))
		ret = odp_fail(EPROTO, "synchronous advice returned, should wait for a page that nobody answers for");
	died = pid > 0 ? kill_child(pid) : 0;
	close(fds[0]);
	return ret ?: died ?: still_works(ctx, "after a process was killed in ibv_advise_mr()");
}

/* Nobody waits for a prefetch that waits. */
static int under_way_stuck(struct ctx *ctx)
{
	const struct test plain = { .kind = ODP_MEM_ANON, .from = EXPLICIT };
	struct region r;
	int fd, ret;

	fd = open_stuck(ctx, &r);
	ret = fd < 0 ? fd : advise_in_time(ctx, &r, LENGTH);
	guest_sleep_ms(IDLE_MS);
	ret = ret ?: during(prefetch_one(ctx, &plain, PREFETCH, 0) ?:
			    prefetch_one(ctx, &plain, FOR_WRITE, SYNC),
			    "beside a prefetch that waits for ever") ?:
	      still_works(ctx, "beside a prefetch that waits for ever") ?:
	      want(&r, PREFETCHED, 0, "pages that nobody answers for") ?:
	      dereg_in_time(&r);
	odp_dereg(&r.mr);
	if (fd >= 0)
		close(fd);
	region_close(&r);
	return ret;
}

/* --- what went wrong upstream ------------------------------------------------------------- */

/* Large messages whose packets and pages have no edge in common. */
static int mainline_offset(struct ctx *ctx)
{
	struct region r;
	int ret;

	ret = region_open(ctx, &r, ODP_MEM_ANON, 16 * ODP_MIB + PAGE, EXPLICIT) ?:
	      during(move(ctx, &r, 1, 16 * ODP_MIB), "16 MiB at 1, MTU 1024") ?:
	      during(move(ctx, &r, PAGE - 3, 16 * ODP_MIB), "16 MiB at 4093, MTU 1024");
	region_close(&r);
	return ret;
}

static int mainline_advice_on_pinned(struct ctx *ctx)
{
	struct region r;
	int i, ret;

	ret = region_open(ctx, &r, ODP_MEM_ANON, LENGTH, PINNED);
	for (i = 0; i < 2 * ADVICES && !ret; i++)
		ret = want_error(advise(ctx, i / 2, i % 2 ? SYNC : 0, &r, 0, LENGTH), EINVAL,
				 "advice on a pinned region");
	ret = ret ?: move(ctx, &r, 0, LENGTH);
	region_close(&r);
	return ret;
}

static int mainline_advice_2gib(struct ctx *ctx)
{
	static const uint32_t lengths[] = { 2 * GIB - 1, 2 * GIB, 2 * GIB + 1, 3 * GIB };
	size_t i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(lengths) && !ret; i++)
		ret = no_fault_big(ctx, 4 * GIB, &lengths[i], 1);
	return ret ?: no_fault_big(ctx, 10 * GIB, lengths, ARRAY_SIZE(lengths));
}

/* UC says that it was sent. It arrives later, or not: then its page had to come first. */
static int uc_write(struct ctx *ctx, struct region *r, size_t length)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;
	struct odp_pair pair;
	bool arrived = false;
	int i, tries, ret = 0;

	attr.type = IBV_QPT_UC;
	odp_fill(ctx->bytes, length, length, 0);
	for (tries = 0; tries < 5 && !arrived && !ret; tries++) {
		ret = odp_connect(&pair, &ctx->dev, &attr) ?:
		      odp_write(&pair, &ctx->peer, 0, &r->mr, 33, length);
		for (i = 0; i < 1000 && !arrived && !ret; i++) {
			arrived = odp_verify(r->addr + 33, length, length, 0, NULL);
			guest_sleep_ms(1);
		}
		odp_disconnect(&pair);
	}
	if (!ret && !arrived)
		ret = odp_fail(EBADMSG, "a UC WRITE of %zu bytes does not arrive", length);
	return ret;
}

static int mainline_uc(struct ctx *ctx)
{
	struct region r;
	int ret;

	if (!(ctx->dev.odp_uc & IBV_ODP_SUPPORT_WRITE))
		return odp_fail(EPROTO, "the UC capabilities are %#x, should have IBV_ODP_SUPPORT_WRITE",
				ctx->dev.odp_uc);
	ret = region_open(ctx, &r, ODP_MEM_ANON, LENGTH, EXPLICIT) ?:
	      uc_write(ctx, &r, 1) ?: uc_write(ctx, &r, 1000) ?: uc_write(ctx, &r, 300000) ?:
	      read_back(ctx, &r, 33, 300000, 300000);
	region_close(&r);
	return ret;
}

/* One region that becomes this and that, here and there. */
static int mainline_rereg(struct ctx *ctx)
{
	struct region r, other = { 0 };
	uint8_t *addr[2];
	int i, ret;

	ret = region_open(ctx, &r, ODP_MEM_ANON, AREA, EXPLICIT) ?:
	      region_map(&other, ODP_MEM_MEMFD, AREA);
	addr[0] = r.addr;
	addr[1] = other.addr;
	for (i = 0; i < 16 && !ret; i++) {
		uint64_t random = odp_random(&ctx->rng);
		int flags = random % 4 ? ACCESS : ACCESS | TRANSLATION;
		enum state state = random >> 8 & 1 ? PINNED : EXPLICIT;

		ret = rereg(&r.mr, flags, ctx, addr[random >> 16 & 1], AREA,
			    access_of(state, ODP_ACCESS));
		r.addr = r.mr.addr;
		ret = during(ret ?: move(ctx, &r, 0, AREA) ?: want_state(&r.mr, state),
			     "change %d, to %s%s", i, state_names[state],
			     flags & TRANSLATION ? " and a translation" : "");
	}
	region_close(&r);
	region_close(&other);
	return ret;
}

/* --- running them ------------------------------------------------------------------------ */

#define REREG(f, t)	.run = rereg_flags, .from = f, .to = t
#define SYNC_OF(k)	.run = prefetch_sync, .kind = k, .from = EXPLICIT
#define ASYNC_OF(k)	.run = prefetch_async, .kind = k, .from = EXPLICIT

static const struct test tests[] = {
	{ .name = "length_small", .run = length_small },
	{ .name = "length_4gib", .run = length_4gib },
	{ .name = "length_64tib", .run = length_64tib },
	{ .name = "length_costs_nothing", .run = length_costs_nothing },
	{ .name = "mainline_iova", .run = mainline_iova },
	{ .name = "iova_other_offset", .run = iova_other_offset },
	{ .name = "mainline_implicit", .run = mainline_implicit },
	{ .name = "implicit_later", .run = implicit_later },
	{ .name = "implicit_fork", .run = implicit_fork },
	{ .name = "implicit_refused", .run = implicit_refused },
	{ .name = "mainline_hugetlb", .run = mainline_hugetlb },
	{ .name = "hugetlb_refused", .run = hugetlb_refused },
	{ .name = "rereg_pinned_to_pinned", REREG(PINNED, PINNED) },
	{ .name = "rereg_pinned_to_explicit", REREG(PINNED, EXPLICIT) },
	{ .name = "rereg_pinned_to_implicit", REREG(PINNED, IMPLICIT) },
	{ .name = "rereg_explicit_to_pinned", REREG(EXPLICIT, PINNED) },
	{ .name = "rereg_explicit_to_explicit", REREG(EXPLICIT, EXPLICIT) },
	{ .name = "rereg_explicit_to_implicit", REREG(EXPLICIT, IMPLICIT) },
	{ .name = "rereg_mlock", .run = rereg_mlock },
	{ .name = "rereg_refused_pinned", .run = rereg_refused, .from = PINNED },
	{ .name = "rereg_refused_explicit", .run = rereg_refused, .from = EXPLICIT },
	{ .name = "rereg_refused_window", .run = rereg_refused_window },
	{ .name = "rereg_refused_fsdax", .run = rereg_refused_file, .kind = ODP_MEM_FSDAX,
	  .wanted = EOPNOTSUPP },
	{ .name = "rereg_refused_ext4", .run = rereg_refused_file, .kind = ODP_MEM_EXT4,
	  .wanted = EFAULT },
	{ .name = "prefetch_anonymous", SYNC_OF(ODP_MEM_ANON) },
	{ .name = "prefetch_thp", SYNC_OF(ODP_MEM_THP) },
	{ .name = "prefetch_hugetlb", SYNC_OF(ODP_MEM_HUGETLB) },
	{ .name = "prefetch_memfd", SYNC_OF(ODP_MEM_MEMFD) },
	{ .name = "prefetch_ext4", SYNC_OF(ODP_MEM_EXT4) },
	{ .name = "prefetch_fsdax", SYNC_OF(ODP_MEM_FSDAX) },
	{ .name = "prefetch_implicit", .run = prefetch_sync, .from = IMPLICIT },
	{ .name = "prefetch_paged_out_anonymous", SYNC_OF(ODP_MEM_ANON), .paged_out = true },
	{ .name = "prefetch_paged_out_memfd", SYNC_OF(ODP_MEM_MEMFD), .paged_out = true },
	{ .name = "prefetch_paged_out_ext4", SYNC_OF(ODP_MEM_EXT4), .paged_out = true },
	{ .name = "prefetch_async_anonymous", ASYNC_OF(ODP_MEM_ANON) },
	{ .name = "prefetch_async_ext4", ASYNC_OF(ODP_MEM_EXT4) },
	{ .name = "prefetch_async_implicit", .run = prefetch_async, .from = IMPLICIT },
	{ .name = "prefetch_then_write", .run = prefetch_then_write },
	{ .name = "prefetch_no_fault", .run = prefetch_no_fault, .from = EXPLICIT },
	{ .name = "prefetch_no_fault_implicit", .run = prefetch_no_fault, .from = IMPLICIT },
	{ .name = "mainline_advice_read_only", .run = prefetch_read_only, .kind = ODP_MEM_MEMFD },
	{ .name = "prefetch_read_only_ext4", .run = prefetch_read_only, .kind = ODP_MEM_EXT4 },
	{ .name = "prefetch_read_only_implicit", .run = prefetch_read_only,
	  .kind = ODP_MEM_MEMFD, .from = IMPLICIT },
	{ .name = "prefetch_4gib", .run = prefetch_4gib },
	{ .name = "prefetch_list", .run = prefetch_list },
	{ .name = "prefetch_refused", .run = prefetch_refused },
	{ .name = "prefetch_hole", .run = prefetch_hole, .from = EXPLICIT },
	{ .name = "prefetch_hole_implicit", .run = prefetch_hole, .from = IMPLICIT },
	{ .name = "under_way_dereg", .run = under_way_dereg },
	{ .name = "under_way_close", .run = under_way_close },
	{ .name = "under_way_killed", .run = under_way_killed },
	{ .name = "under_way_stuck", .run = under_way_stuck },
	{ .name = "mainline_offset", .run = mainline_offset },
	{ .name = "mainline_advice_on_pinned", .run = mainline_advice_on_pinned },
	{ .name = "mainline_advice_2gib", .run = mainline_advice_2gib },
	{ .name = "mainline_uc", .run = mainline_uc },
	{ .name = "mainline_rereg", .run = mainline_rereg },
};

static const char *name_test(size_t i)
{
	return i < ARRAY_SIZE(tests) ? tests[i].name : NULL;
}

static int open_ctx(void *arg, const char *device)
{
	struct ctx *ctx = arg, *other = ctx->other;
	int ret;

	ret = guest_open_peer(&ctx->dev, device, &ctx->peer, &ctx->bytes, PEER_LENGTH);
	if (ret)
		return ret;
	other->dev = ctx->dev;
	other->bytes = ctx->bytes;
	other->dev.pd = ibv_alloc_pd(ctx->dev.ctx);
	if (!other->dev.pd)
		return guest_fail("ibv_alloc_pd");
	return odp_reg(&other->peer, &other->dev, other->bytes, PEER_LENGTH, ODP_ACCESS);
}

/* run_test() connects them anew. */
static int recover(void *arg)
{
	struct ctx *ctx = arg;

	odp_disconnect(&ctx->pair);
	odp_disconnect(&ctx->other->pair);
	return 0;
}

static void close_ctx(void *arg)
{
	struct ctx *ctx = arg;

	recover(ctx);
	odp_dereg(&ctx->other->peer);
	ibv_dealloc_pd(ctx->other->dev.pd);
	guest_close_peer(&ctx->dev, &ctx->peer, ctx->bytes);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	struct ctx *ctx = arg;
	int ret = 0;

	ctx->test = &tests[i];
	ctx->rng = seed;
	ctx->other->rng = ~seed;
	if (!ctx->pair.local.qp)
		ret = odp_connect(&ctx->pair, &ctx->dev, NULL);
	if (!ret && !ctx->other->pair.local.qp)
		ret = odp_connect(&ctx->other->pair, &ctx->other->dev, NULL);
	return ret ?: tests[i].run(ctx);
}

int main(int argc, char **argv)
{
	struct ctx other = {}, ctx = { .other = &other };
	const struct suite suite = {
		.program = "test-regions",
		.about = "On-demand-paged regions of any size, re-registered, and prefetched.",
		.ctx = &ctx,
		.dev = &ctx.dev,
		.needs_odp = true,
		.name = name_test,
		.open = open_ctx,
		.close = close_ctx,
		.run = run_test,
		.recover = recover,
	};

	return suite_main(&suite, argc, argv);
}
