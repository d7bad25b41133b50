// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: ODP regions of any size and iova, re-registered, and prefetched
 * stage: check
 * where: guest
 * kernels: tree
 * vm: --pmem 256M --hugepages 64
 * budget: 120
 *
 * Each subtest moves bytes by RDMA between a region and pinned memory, compares
 * them, and reads the region's counters where these tell something. What must be
 * refused is asked for, with the errno or completion that it has to give, and
 * after it everything has to work as before.
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
#define LENGTH		(2 * ODP_MIB)		/* of a region; whole, for kinds with huge pages */
#define PEER_LENGTH	(16 * ODP_MIB + PAGE)
#define ODP		(ODP_ACCESS | IBV_ACCESS_ON_DEMAND)
#define READ_ONLY	(IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ON_DEMAND)
#define AT_ONCE_MS	2000
#define SETTLE_MS	20000
#define IDLE_MS		300			/* in which nothing may happen */

/* Where nobody maps anything by chance: not queues of new queue pairs either. */
#define NOWHERE		((uint8_t *)(64 * GIB))

#define TRANSLATION	IBV_REREG_MR_CHANGE_TRANSLATION
#define PD		IBV_REREG_MR_CHANGE_PD
#define ACCESS		IBV_REREG_MR_CHANGE_ACCESS

/* A protection domain, a pair in it, and pinned memory for the other end. */
struct domain {
	struct odp_dev dev;
	struct odp_pair pair;
	struct odp_mr peer;
	uint64_t rng;
};

struct ctx {
	struct domain one;
	struct domain other;	/* of the same device, with the same memory */
	uint8_t *peer;
};

/* What an MR is. */
enum state { PINNED, EXPLICIT, IMPLICIT };
static const char *const state_names[] = { "pinned", "explicit ODP", "implicit ODP" };

struct test {
	const char *name;
	int (*run)(struct ctx *ctx, const struct test *test);
	enum odp_mem_kind kind;
	bool paged_out;
	bool implicit;
	enum state from;
	enum state to;
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
	char text[340];

	if (ret == -wanted)
		return 0;
	if (!ret)
		return odp_fail(EPROTO, "%s was taken, should be refused with \"%s\"", what,
				strerror(wanted));
	snprintf(text, sizeof(text), "%s", odp_error());
	return odp_fail(EPROTO, "%s should be refused with \"%s\", but: %s", what,
			strerror(wanted), text);
}

/* The same for a registration, which is undone where it must not have worked. */
static int want_no_mr(int ret, struct odp_mr *mr, int wanted, const char *what)
{
	if (!ret)
		odp_dereg(mr);
	return want_error(ret, wanted, what);
}

static void sleep_ms(unsigned int ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * MS };

	while (nanosleep(&time, &time))
		;
}

static int in_time(uint64_t began, unsigned int limit_ms, const char *what)
{
	uint64_t took = (odp_now() - began) / MS;

	if (took <= limit_ms)
		return 0;
	return odp_fail(ETIME, "%s took %lu ms, should return within %u", what, took, limit_ms);
}

/* Memory of any size of which nothing is there. */
static int map_sparse(uint8_t **addr, size_t size, int prot)
{
	*addr = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (*addr == MAP_FAILED) {
		*addr = NULL;
		return during(guest_fail("mmap"), "reserving %lu GiB", size / GIB);
	}
	madvise(*addr, size, MADV_NOHUGEPAGE);
	return 0;
}

static int map_fixed(uint8_t *addr, size_t size)
{
	if (mmap(addr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
		 MAP_FIXED_NOREPLACE, -1, 0) != addr)
		return guest_fail("mmap where nothing should be");
	madvise(addr, size, MADV_NOHUGEPAGE);
	return 0;
}

static size_t pages_of(const void *addr, size_t length)
{
	uintptr_t start = (uintptr_t)addr;

	return (start + length + PAGE - 1) / PAGE - start / PAGE;
}

/* How many pages are in the process's page table. */
static long resident(const void *addr, size_t length)
{
	size_t i, n = length / PAGE;
	uint64_t *entries;
	long count = 0;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return guest_fail("/proc/self/pagemap");
	entries = calloc(n, 8);
	if (!entries || pread(fd, entries, n * 8, (uintptr_t)addr / PAGE * 8) != (ssize_t)(n * 8))
		count = guest_fail("reading pagemap");
	for (i = 0; i < n && count >= 0; i++)
		count += entries[i] >> 63;
	free(entries);
	close(fd);
	return count;
}

/* The value, in KiB, of the line of a file in /proc that begins with @name. */
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

/* --- a region, and bytes to and from it --------------------------------------------- */

struct region {
	struct odp_mem mem;
	struct odp_mr mr;
	size_t base;		/* what the memory's start is in the MR: offset, or address */
};

static int region_open(struct domain *d, struct region *r, enum odp_mem_kind kind, size_t length,
		       int access, bool implicit)
{
	int ret;

	memset(r, 0, sizeof(*r));
	ret = odp_mem_map(&r->mem, kind, length, NULL);
	if (ret)
		return ret;
	r->base = implicit ? (uintptr_t)r->mem.addr : 0;
	return implicit ? odp_reg(&r->mr, &d->dev, NULL, SIZE_MAX, access) :
			  odp_reg(&r->mr, &d->dev, r->mem.addr, length, access);
}

static void region_close(struct region *r)
{
	odp_dereg(&r->mr);
	odp_mem_unmap(&r->mem);
}

/* The MR's bytes with it at the remote end, and at the local one: those of @seed. */
static int read_back(struct domain *d, const struct odp_mr *mr, size_t offset, size_t length,
		     uint64_t seed)
{
	uint8_t *peer = d->peer.addr;
	int ret;

	memset(peer, 0, length);
	ret = odp_read(&d->pair, &d->peer, 0, mr, offset, length);
	if (!ret)
		ret = guest_verify(peer, length, seed, 0, "what a READ brought");
	memset(peer, 0, length);
	if (!ret)
		ret = odp_write(&d->pair, mr, offset, &d->peer, 0, length);
	if (!ret)
		ret = guest_verify(peer, length, seed, 0, "what a WRITE took from it");
	return ret;
}

static int write_new(struct domain *d, const struct odp_mr *mr, size_t offset, const void *at,
		     size_t length, uint64_t seed)
{
	int ret;

	odp_fill(d->peer.addr, length, seed, 0);
	ret = odp_write(&d->pair, &d->peer, 0, mr, offset, length);
	return ret ? ret : guest_verify(at, length, seed, 0, "what a WRITE brought");
}

/* New bytes to @offset of the MR, which the CPU has to find @at, and back. */
static int move(struct domain *d, const struct odp_mr *mr, size_t offset, const void *at,
		size_t length)
{
	uint64_t seed = odp_random(&d->rng);
	int ret = write_new(d, mr, offset, at, length, seed);

	return ret ? ret : read_back(d, mr, offset, length, seed);
}

static int region_move(struct domain *d, const struct region *r, size_t offset, size_t length)
{
	return move(d, &r->mr, r->base + offset, (uint8_t *)r->mem.addr + offset, length);
}

static int read_zeroes(struct domain *d, const struct odp_mr *mr, size_t offset, size_t length)
{
	uint8_t *peer = d->peer.addr;
	struct odp_mismatch bad;
	int ret;

	memset(peer, 0x55, length);
	ret = odp_read(&d->pair, &d->peer, 0, mr, offset, length);
	if (!ret && !odp_compare(peer, NULL, length, &bad))
		ret = odp_fail(EBADMSG, "a READ of fresh memory brought %#x at %zu, should be 0",
			       bad.got, bad.offset);
	return ret;
}

/* An operation that has to be refused for a wrong access. The pair is new after it. */
static int refuse(struct domain *d, enum ibv_wr_opcode opcode, const struct odp_mr *mr,
		  size_t offset, size_t length, const char *what)
{
	struct ibv_sge sge = odp_sge(&d->peer, 0, length);
	struct ibv_wc wc;
	int ret;

	ret = odp_post(&d->pair.local, opcode, 0, &sge, 1, mr, offset);
	if (!ret)
		ret = odp_wait(&d->pair.local, &wc, ODP_WAIT_MS);
	odp_disconnect(&d->pair);
	if (!ret && wc.status != IBV_WC_REM_ACCESS_ERR)
		ret = odp_fail(EPROTO, "%s of %s completed with \"%s\", should be \"%s\"",
			       opcode == IBV_WR_RDMA_READ ? "a READ" : "a WRITE", what,
			       ibv_wc_status_str(wc.status),
			       ibv_wc_status_str(IBV_WC_REM_ACCESS_ERR));
	return ret ? ret : odp_connect(&d->pair, &d->dev, NULL);
}

static int refuse_both(struct domain *d, const struct odp_mr *mr, size_t offset, size_t length,
		       const char *what)
{
	int ret = refuse(d, IBV_WR_RDMA_WRITE, mr, offset, length, what);

	return ret ? ret : refuse(d, IBV_WR_RDMA_READ, mr, offset, length, what);
}

static int want_faults(struct odp_mr *mr, uint64_t at_least, const char *what)
{
	struct odp_counters now;
	int ret = odp_counters(mr, &now);

	if (!ret && now.faults < at_least)
		ret = odp_fail(EPROTO, "%s: page_faults is %lu, should be %lu or more", what,
			       now.faults, at_least);
	return ret;
}

/* Only a page that the kernel took away meanwhile may have been faulted. */
static int want_no_faults(struct odp_mr *mr, const struct odp_counters *before, const char *what)
{
	struct odp_counters now;
	int ret = odp_counters(mr, &now);

	if (!ret && now.faults - before->faults > now.invalidations - before->invalidations)
		ret = odp_fail(EPROTO, "%s: %lu page faults, should be none (%lu pages were taken away)",
			       what, now.faults - before->faults,
			       now.invalidations - before->invalidations);
	return ret;
}

/* --- lengths ---------------------------------------------------------------------- */

static int length_one(struct domain *d, size_t start, size_t length)
{
	struct odp_mr mr = { 0 };
	struct odp_mem mem;
	uint8_t *all, *addr;
	size_t i;
	int ret;

	ret = odp_mem_map(&mem, ODP_MEM_ANON, start + length + 2 * PAGE, NULL);
	if (ret)
		return ret;
	all = mem.addr;
	addr = all + PAGE + start;
	memset(all, 0x5a, mem.length);
	ret = odp_reg(&mr, &d->dev, addr, length, ODP);
	if (!ret)
		ret = move(d, &mr, 0, addr, length);
	if (!ret)
		ret = want_faults(&mr, pages_of(addr, length), "after the first WRITE");
	if (!ret)
		ret = refuse_both(d, &mr, 0, length + 1, "a byte more than the region has");
	for (i = 0; !ret && i < mem.length; i++)
		if (all[i] != 0x5a && (all + i < addr || all + i >= addr + length))
			ret = odp_fail(EBADMSG, "the byte at %ld of the region was written",
				       (long)(all + i - addr));
	odp_dereg(&mr);
	odp_mem_unmap(&mem);
	return during(ret, "a region of %zu bytes, %zu after a page's start", length, start);
}

static int length_small(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	static const size_t lengths[] = { 1, 3, PAGE - 1, PAGE, PAGE + 1, 12345, ODP_MIB + 7 };
	static const size_t starts[] = { 0, 1, PAGE - 1 };
	size_t i, j;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(lengths) && !ret; i++)
		for (j = 0; j < ARRAY_SIZE(starts) && !ret; j++)
			ret = length_one(&ctx->one, starts[j], lengths[i]);
	return ret;
}

static int length_4gib(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	const size_t length = 4 * GIB + 3;
	const size_t at[] = { 0, 2 * GIB - 500, 4 * GIB - 997 };
	struct domain *d = &ctx->one;
	struct odp_mr mr = { 0 };
	uint8_t *addr;
	size_t i;
	int ret;

	ret = map_sparse(&addr, length + PAGE, PROT_READ | PROT_WRITE);
	if (ret)
		return ret;
	ret = odp_reg(&mr, &d->dev, addr + 5, length, ODP);
	for (i = 0; i < ARRAY_SIZE(at) && !ret; i++)
		ret = during(move(d, &mr, at[i], addr + 5 + at[i], 1000),
			     "1000 bytes at %#zx of 4 GiB + 3", at[i]);
	if (!ret)
		ret = refuse_both(d, &mr, length, 1, "the byte behind 4 GiB + 3");
	if (!ret)
		ret = refuse_both(d, &mr, 4 * GIB - 10, 14, "the last bytes of 4 GiB + 3 and one more");
	odp_dereg(&mr);
	munmap(addr, length + PAGE);
	return ret;
}

/* Half of the address space, or as much of it as there is in one piece. */
static int length_64tib(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	const size_t start = 7, piece = 2 * PAGE;
	struct domain *d = &ctx->one;
	size_t i, size = 64 * TIB;
	struct odp_mr mr = { 0 };
	uint8_t *addr;
	int ret;

	ret = map_sparse(&addr, size, PROT_NONE);
	if (ret) {
		size = 32 * TIB;
		ret = map_sparse(&addr, size, PROT_NONE);
	}
	if (ret)
		return ret;
	printf("# %lu TiB\n", size / TIB);
	ret = odp_reg(&mr, &d->dev, addr + start, size - start - 5, ODP);
	for (i = 0; i < 3 && !ret; i++) {
		size_t at = (size - piece) / 2 * i & -PAGE;

		if (mprotect(addr + at, piece, PROT_READ | PROT_WRITE))
			ret = guest_fail("mprotect");
		if (!ret)
			ret = move(d, &mr, at + 100 - start, addr + at + 100, 5000);
		ret = during(ret, "5000 bytes at %#zx of %zu TiB", at, size / TIB);
	}
	if (!ret)
		ret = want_faults(&mr, 3 * 2, "three times two pages");
	if (!ret)
		ret = refuse_both(d, &mr, piece, 100, "what is not accessible, behind what is");
	if (!ret)
		ret = refuse_both(d, &mr, size / 4, 100, "what is not accessible, far from all that is");
	if (!ret)
		ret = refuse_both(d, &mr, size - start - 5, 1, "the byte behind the region");
	odp_dereg(&mr);
	munmap(addr, size);
	return ret;
}

static long kernel_kib(void)
{
	return proc_kib("/proc/meminfo", "Slab:") + proc_kib("/proc/meminfo", "VmallocUsed:");
}

/* What a region costs the kernel that nobody has touched. */
static int length_costs_nothing(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	enum { COUNT = 64, LIMIT_KIB = 256 };
	struct odp_mr mrs[COUNT] = { 0 };
	struct domain *d = &ctx->one;
	const size_t size = 64 * GIB;
	uint8_t *addr;
	long used;
	int i, ret;

	ret = map_sparse(&addr, size, PROT_READ | PROT_WRITE);
	if (ret)
		return ret;
	/* What comes once is there after this. */
	ret = odp_reg(&mrs[0], &d->dev, addr, size, ODP);
	odp_dereg(&mrs[0]);
	used = kernel_kib();
	for (i = 0; i < COUNT && !ret; i++)
		ret = odp_reg(&mrs[i], &d->dev, addr, size, ODP);
	used = kernel_kib() - used;
	if (!ret && used > COUNT * LIMIT_KIB)
		ret = odp_fail(EPROTO, "%d untouched regions of 64 GiB take %ld KiB of kernel memory, should be less than %d each",
			       COUNT, used, LIMIT_KIB);
	if (!ret)
		ret = move(d, &mrs[COUNT - 1], size - 5000, addr + size - 5000, 5000);
	for (i = 0; i < COUNT; i++)
		odp_dereg(&mrs[i]);
	munmap(addr, size);
	return ret;
}

/* --- iova ---------------------------------------------------------------------------- */

/* Register @mem from byte 123 to its end at @base + 123, and use all of it. */
static int iova_one(struct domain *d, const struct odp_mem *mem, uint64_t base)
{
	uint8_t *addr = (uint8_t *)mem->addr + 123;
	size_t length = mem->length - 123;
	struct odp_mr mr = { 0 };
	int ret;

	ret = odp_reg_iova(&mr, &d->dev, addr, length, base + 123, ODP);
	if (!ret)
		ret = move(d, &mr, 0, addr, length);
	if (!ret)
		ret = move(d, &mr, length - 1, addr + length - 1, 1);
	if (!ret)
		ret = refuse_both(d, &mr, length - 1, 2, "the last byte and one more");
	if (!ret)
		ret = refuse_both(d, &mr, -1UL, 1, "the byte before the first one");
	odp_dereg(&mr);
	return during(ret, "iova %#lx for %p", base + 123, (void *)addr);
}

static int iova_anywhere(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	const size_t size = 40 * PAGE;
	/* The last one ends with the 64-bit space. */
	const uint64_t bases[] = {
		0, PAGE, (4 * GIB) - size / 2, 128 * TIB, 1UL << 63, -(64 * ODP_MIB), -size,
	};
	struct odp_mem mem;
	size_t i;
	int ret;

	ret = odp_mem_map(&mem, ODP_MEM_ANON, size, NULL);
	for (i = 0; i < ARRAY_SIZE(bases) && !ret; i++)
		ret = iova_one(&ctx->one, &mem, bases[i]);
	odp_mem_unmap(&mem);
	return ret;
}

static int iova_other_offset(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	static const uint64_t iovas[] = { 0, 122, PAGE, (1UL << 45) + 124, -PAGE };
	struct domain *d = &ctx->one;
	struct odp_mem mem;
	struct odp_mr mr;
	size_t i;
	int ret;

	ret = odp_mem_map(&mem, ODP_MEM_ANON, 40 * PAGE, NULL);
	for (i = 0; i < ARRAY_SIZE(iovas) && !ret; i++) {
		ret = odp_reg_iova(&mr, &d->dev, (uint8_t *)mem.addr + 123, PAGE, iovas[i], ODP);
		ret = want_no_mr(ret, &mr, EINVAL, "a region");
		ret = during(ret, "iova %#lx for memory at %#lx", iovas[i],
			     (uintptr_t)mem.addr + 123);
	}
	if (!ret)
		ret = iova_one(d, &mem, 0);
	odp_mem_unmap(&mem);
	return ret;
}

/* --- implicit ------------------------------------------------------------------------ */

/* Two of them and an explicit one, over the same memory. */
static int implicit_two(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	struct domain *d = &ctx->one;
	struct region r[3] = { 0 };
	struct odp_counters before, after;
	int i, ret;

	if (!(d->dev.odp_general & IBV_ODP_SUPPORT_IMPLICIT))
		return odp_fail(EPROTO, "the general ODP capabilities are %#lx, without IBV_ODP_SUPPORT_IMPLICIT",
				d->dev.odp_general);
	ret = region_open(d, &r[0], ODP_MEM_ANON, LENGTH, ODP, true);
	r[1].mem = r[0].mem;
	r[2] = r[0];
	if (!ret)
		ret = odp_reg(&r[1].mr, &d->dev, r[1].mem.addr, LENGTH, ODP);
	memset(&r[2].mr, 0, sizeof(r[2].mr));
	if (!ret)
		ret = odp_reg(&r[2].mr, &d->dev, NULL, SIZE_MAX, ODP);
	for (i = 0; i < 6 && !ret; i++) {
		struct region *this = &r[i % 3];

		ret = region_move(d, this, 1234 * i, LENGTH / 2);
		if (!ret)
			ret = want_faults(&this->mr, LENGTH / 2 / PAGE, "half of the memory written");
		if (!ret)
			ret = odp_counters(&this->mr, &before);
		if (!ret)
			ret = odp_mem_discard(&this->mem, 0, LENGTH);
		if (!ret)
			ret = odp_counters(&this->mr, &after);
		if (!ret && after.invalidations < before.invalidations + LENGTH / 2 / PAGE)
			ret = odp_fail(EPROTO, "page_invalidations went from %lu to %lu when %lu pages went",
				       before.invalidations, after.invalidations, LENGTH / 2 / PAGE);
		ret = during(ret, "round %d, %s region", i, i % 3 == 1 ? "explicit" : "implicit");
	}
	odp_dereg(&r[2].mr);
	odp_dereg(&r[1].mr);
	region_close(&r[0]);
	return ret;
}

static int implicit_later(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	static const uint64_t never[] = {
		0, 128 * TIB - PAGE, 128 * TIB, 1UL << 60, 0xffff888000000000, -2 * PAGE,
	};
	const size_t size = 64 * PAGE, at = (uintptr_t)NOWHERE;
	struct domain *d = &ctx->one;
	struct odp_mr mr = { 0 };
	size_t i;
	int ret;

	ret = odp_reg(&mr, &d->dev, NULL, SIZE_MAX, ODP);
	for (i = 0; i < 2 && !ret; i++) {
		ret = refuse_both(d, &mr, at + 10, 100, "an address before it is mapped");
		if (!ret)
			ret = map_fixed(NOWHERE, size);
		if (ret)
			break;
		ret = read_zeroes(d, &mr, at, size);
		if (!ret)
			ret = move(d, &mr, at + 10, NOWHERE + 10, size - 20);
		munmap(NOWHERE, size);
		ret = during(ret, "memory that was mapped after the region was made");
	}
	if (!ret)
		ret = want_faults(&mr, 2 * size / PAGE, "mapped twice");
	for (i = 0; i < ARRAY_SIZE(never) && !ret; i++)
		ret = during(refuse_both(d, &mr, never[i], 100, "what no process has"),
			     "address %#lx", never[i]);
	odp_dereg(&mr);
	return ret;
}

/* Until told, and then it looks whether its memory is as it was. */
static void fork_child(const uint8_t *addr, uint64_t seed, int pipe)
{
	char go;

	_exit(read(pipe, &go, 1) != 0 || !odp_verify(addr, LENGTH, seed, 0, NULL));
}

/* The mirror is of the parent's memory, before the fork and after it. */
static int implicit_fork(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	struct domain *d = &ctx->one;
	int fds[2], status, ret;
	struct region r;
	pid_t pid;

	ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, ODP, true);
	if (!ret)
		ret = write_new(d, &r.mr, r.base, r.mem.addr, LENGTH, 55);
	if (!ret && pipe(fds))
		ret = guest_fail("pipe");
	if (ret)
		goto out;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		close(fds[1]);
		fork_child(r.mem.addr, 55, fds[0]);
	}
	close(fds[0]);
	if (pid < 0)
		ret = guest_fail("fork");
	if (!ret)
		ret = during(read_back(d, &r.mr, r.base, LENGTH, 55), "after the fork");
	if (!ret)
		ret = during(region_move(d, &r, 0, LENGTH), "the parent's memory after the fork");
	close(fds[1]);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status && !ret)
		ret = odp_fail(EBADMSG, "the child's memory is not what it was at the fork (status %#x)",
			       status);
out:
	region_close(&r);
	return ret;
}

static int implicit_refused(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	static const size_t lengths[] = { 1, PAGE, 64 * GIB };
	struct domain *d = &ctx->one;
	struct odp_mr mr = { 0 };
	size_t i;
	int ret;

	ret = odp_reg_iova(&mr, &d->dev, NULL, SIZE_MAX, PAGE, ODP);
	ret = want_no_mr(ret, &mr, EINVAL, "an implicit region with an iova of 4096");
	if (!ret) {
		ret = odp_reg(&mr, &d->dev, NULL, SIZE_MAX, ODP | IBV_ACCESS_HUGETLB);
		ret = want_no_mr(ret, &mr, EINVAL, "an implicit region with IBV_ACCESS_HUGETLB");
	}
	if (!ret) {
		ret = odp_reg(&mr, &d->dev, NULL, SIZE_MAX,
			      IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_WRITE);
		ret = want_no_mr(ret, &mr, EINVAL, "an implicit region for remote write without local write");
	}
	/* Any other length is that of a region of what is at 0, which is nothing. */
	for (i = 0; i < ARRAY_SIZE(lengths) && !ret; i++) {
		ret = odp_reg(&mr, &d->dev, NULL, lengths[i], ODP);
		if (!ret)
			ret = refuse_both(d, &mr, 0, 1, "what is at 0");
		if (!ret)
			ret = refuse_both(d, &mr, (uintptr_t)ctx->peer, 100,
					  "memory outside of a region at 0");
		odp_dereg(&mr);
		ret = during(ret, "address NULL, length %zu", lengths[i]);
	}
	return ret;
}

/* --- huge pages ------------------------------------------------------------------------ */

static int hugetlb_one(struct domain *d, struct odp_mem *mem, size_t start, size_t length,
		       int access)
{
	uint8_t *addr = (uint8_t *)mem->addr + start;
	struct odp_counters before, after;
	struct odp_mr mr = { 0 };
	int i, ret;

	ret = odp_reg(&mr, &d->dev, addr, length, access);
	for (i = 0; i < 2 && !ret; i++) {
		ret = move(d, &mr, 0, addr, length);
		if (!ret)
			ret = odp_counters(&mr, &before);
		if (!ret)
			ret = odp_mem_discard(mem, 0, mem->length);
		if (!ret)
			ret = odp_counters(&mr, &after);
		if (!ret && (!before.faults || after.invalidations <= before.invalidations))
			ret = odp_fail(EPROTO, "page_faults %lu, page_invalidations %lu before and %lu after all pages went, should grow",
				       before.faults, before.invalidations, after.invalidations);
		if (!ret)
			ret = read_zeroes(d, &mr, 0, length);
	}
	if (!ret)
		ret = refuse_both(d, &mr, length, 1, "the byte behind the region");
	odp_dereg(&mr);
	return during(ret, "%zu bytes at %zu of huge pages", length, start);
}

static int hugetlb_works(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	const int access = ODP | IBV_ACCESS_HUGETLB;
	struct domain *d = &ctx->one;
	struct odp_mem mem;
	int ret;

	ret = odp_mem_map(&mem, ODP_MEM_HUGETLB, 6 * ODP_MIB, NULL);
	if (ret)
		return ret;
	ret = hugetlb_one(d, &mem, 0, 6 * ODP_MIB, access);
	if (!ret)
		ret = hugetlb_one(d, &mem, 12345, 2 * ODP_MIB + 777, access);
	if (!ret)
		ret = hugetlb_one(d, &mem, 5 * ODP_MIB, 1, access);
	odp_mem_unmap(&mem);
	return ret;
}

/* The flag is refused, and the same memory without it is not. */
static int refuse_huge(struct domain *d, void *addr, size_t length, const char *what)
{
	struct odp_mr mr = { 0 };
	int ret;

	ret = odp_reg(&mr, &d->dev, addr, length, ODP | IBV_ACCESS_HUGETLB);
	ret = want_no_mr(ret, &mr, EINVAL, what);
	if (!ret)
		ret = during(odp_reg(&mr, &d->dev, addr, length, ODP), "%s, without the flag", what);
	odp_dereg(&mr);
	return ret;
}

static int hugetlb_refused(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	const size_t huge = 2 * ODP_MIB;
	struct odp_mem anon, memfd, half;
	struct domain *d = &ctx->one;
	int ret;

	memset(&memfd, 0, sizeof(memfd));
	memset(&half, 0, sizeof(half));
	ret = odp_mem_map(&anon, ODP_MEM_ANON, huge, NULL);
	if (!ret)
		ret = odp_mem_map(&memfd, ODP_MEM_MEMFD, huge, NULL);
	if (!ret)
		ret = odp_mem_map(&half, ODP_MEM_HUGETLB, 2 * huge, NULL);
	if (!ret && mmap((uint8_t *)half.addr + huge, huge, PROT_READ | PROT_WRITE,
			 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		ret = guest_fail("mmap");
	if (!ret)
		ret = refuse_huge(d, anon.addr, huge, "IBV_ACCESS_HUGETLB on anonymous memory");
	if (!ret)
		ret = refuse_huge(d, memfd.addr, huge, "IBV_ACCESS_HUGETLB on a memfd");
	if (!ret)
		ret = refuse_huge(d, NOWHERE, huge, "IBV_ACCESS_HUGETLB where nothing is mapped");
	if (!ret)
		ret = refuse_huge(d, half.addr, 2 * huge,
				  "IBV_ACCESS_HUGETLB on memory of which half has huge pages");
	/* The half that has them is as good as any. */
	half.length = huge;
	if (!ret)
		ret = hugetlb_one(d, &half, 1, huge - 1, ODP | IBV_ACCESS_HUGETLB);
	odp_mem_unmap(&half);
	odp_mem_unmap(&memfd);
	odp_mem_unmap(&anon);
	return ret;
}

/* --- re-registering ---------------------------------------------------------------------- */

#define AREA		(16 * PAGE)
#define OLD_START	100UL
#define OLD_IOVA	((1UL << 45) + OLD_START)
#define NEW_START	300UL

/*
 * As the kernel knows it: libibverbs takes no NULL for an address, which is what
 * makes a region implicit.
 */
static int rereg_raw(struct ibv_mr *mr, int flags, struct ibv_pd *pd, uint64_t start,
		     uint64_t length, int access)
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
			.start = start,
			.length = length,
			.hca_va = start,
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

/* Only what @flags say of the rest counts. */
static int rereg(struct odp_mr *mr, int flags, struct domain *to, void *addr, size_t length,
		 int access)
{
	struct ibv_pd *pd = flags & PD ? to->dev.pd : NULL;
	int ret;

	if (!(flags & TRANSLATION))
		addr = NULL, length = 0;
	if (!(flags & ACCESS))
		access = 0;
	errno = 0;
	if ((flags & TRANSLATION) && !addr)
		ret = rereg_raw(mr->mr, flags, pd, 0, length, access);
	else
		ret = ibv_rereg_mr(mr->mr, flags, pd, addr, length, access);
	if (ret) {
		int err = errno && errno != ENODEV ? errno : EIO;

		return odp_fail(err, "ibv_rereg_mr with flags %#x returned %d: %s%s", flags, ret,
				strerror(err), err == EOPNOTSUPP ?
				" (a libibverbs whose rxe provider does not have it?)" : "");
	}
	if (flags & TRANSLATION) {
		mr->addr = addr;
		mr->length = length;
		mr->iova = (uintptr_t)addr;
	}
	if (flags & ACCESS)
		mr->access = access;
	/* It may be another one to the kernel. */
	mr->mrn = UINT32_MAX;
	return 0;
}

static int state_access(enum state state, int access)
{
	return access | (state == PINNED ? 0 : IBV_ACCESS_ON_DEMAND);
}

/* The counters tell what the MR is. */
static int want_state(struct odp_mr *mr, enum state state)
{
	struct odp_counters counters;
	int ret = odp_counters(mr, &counters);

	if (state == PINNED && ret == -ENODATA)
		return 0;
	if (state == PINNED && !ret)
		return odp_fail(EPROTO, "the region has page-fault counters, should be pinned");
	if (!ret && !counters.faults)
		return odp_fail(EPROTO, "the region has met no page fault, should be of ODP");
	return ret;
}

/* All that must be over once @mr is what @was was changed to. */
static int want_old_gone(struct ctx *ctx, int flags, const struct odp_mr *mr, size_t offset,
			 const struct odp_mr *was)
{
	struct domain *d = flags & PD ? &ctx->other : &ctx->one;
	struct odp_mr mixed;
	int ret = 0;

	if (flags & TRANSLATION) {
		mixed = *was;
		mixed.mr = mr->mr;
		ret = refuse_both(d, &mixed, 50, 100, "the old range with the new key");
	}
	if (!ret && was->mr->rkey != mr->mr->rkey) {
		mixed = *mr;
		mixed.mr = was->mr;
		ret = refuse_both(d, &mixed, offset, 100, "the new range with the old key");
		if (!ret)
			ret = refuse_both(d, was, 50, 100, "the old range with the old key");
	}
	if (!ret && flags & PD)
		ret = refuse_both(&ctx->one, mr, offset, 100, "the region in its old PD");
	return ret;
}

static int rereg_one(struct ctx *ctx, enum state from, enum state to, int flags)
{
	struct domain *d = flags & PD ? &ctx->other : &ctx->one;
	/* Where else nothing would tell the new access from the old one. */
	bool no_write = from == to && flags & ACCESS;
	bool may_change = flags & TRANSLATION || (from == PINNED) != (to == PINNED);
	int access = state_access(to, no_write ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ :
						 ODP_ACCESS);
	struct odp_mem old = { 0 }, new = { 0 };
	struct odp_mr mr = { 0 }, was;
	uint8_t *at, *new_addr;
	struct ibv_mr keys;
	size_t offset = 77;
	int ret;

	ret = odp_mem_map(&old, ODP_MEM_ANON, AREA, NULL);
	if (!ret)
		ret = odp_mem_map(&new, ODP_MEM_ANON, AREA, NULL);
	at = (uint8_t *)old.addr + OLD_START;
	new_addr = (uint8_t *)new.addr + NEW_START;
	if (!ret)
		ret = odp_reg_iova(&mr, &ctx->one.dev, at, 60001, OLD_IOVA,
				   state_access(from, ODP_ACCESS));
	if (!ret)
		ret = during(move(&ctx->one, &mr, 50, at + 50, 50000), "before it");
	if (ret)
		goto out;

	keys = *mr.mr;
	was = mr;
	was.mr = &keys;
	if (to == IMPLICIT)
		ret = rereg(&mr, flags, d, NULL, SIZE_MAX, access);
	else
		ret = rereg(&mr, flags, d, new_addr, 50001, access);
	if (ret)
		goto out;
	if (!may_change && (mr.mr->lkey != keys.lkey || mr.mr->rkey != keys.rkey))
		ret = odp_fail(EPROTO, "the keys were %#x and %#x, are %#x and %#x, and should stay",
			       keys.lkey, keys.rkey, mr.mr->lkey, mr.mr->rkey);
	if (flags & TRANSLATION)
		at = new_addr;
	at += offset;
	if (to == IMPLICIT)
		offset = (uintptr_t)at;
	if (no_write) {
		odp_fill(at, 40000, 33, 0);
		if (!ret)
			ret = read_back(d, &mr, offset, 40000, 33);
		if (!ret)
			ret = refuse(d, IBV_WR_RDMA_WRITE, &mr, offset, 100,
				     "what is not writable any more");
	} else if (!ret) {
		ret = move(d, &mr, offset, at, 40000);
	}
	if (!ret)
		ret = want_state(&mr, to);
	if (!ret && to != IMPLICIT)
		ret = refuse_both(d, &mr, mr.length, 1, "the byte behind the region");
	if (!ret)
		ret = want_old_gone(ctx, flags, &mr, offset, &was);
	ret = during(ret, "after it");
out:
	odp_dereg(&mr);
	odp_mem_unmap(&new);
	odp_mem_unmap(&old);
	return during(ret, "%s to %s by%s%s%s", state_names[from], state_names[to],
		      flags & TRANSLATION ? " TRANSLATION" : "", flags & PD ? " PD" : "",
		      flags & ACCESS ? " ACCESS" : "");
}

/* Every combination of flags that can do it. */
static int rereg_flags(struct ctx *ctx, const struct test *test)
{
	bool needs_access = (test->from == PINNED) != (test->to == PINNED);
	int flags, ret = 0;

	for (flags = 1; flags <= (TRANSLATION | PD | ACCESS) && !ret; flags++) {
		if ((needs_access && !(flags & ACCESS)) ||
		    (test->to == IMPLICIT && !(flags & TRANSLATION)))
			continue;
		ret = rereg_one(ctx, test->from, test->to, flags);
	}
	return ret;
}

static int want_pinned(long kib, long other, long at_least, const char *what)
{
	if (kib >= other + at_least)
		return 0;
	return odp_fail(EPROTO, "VmPin is %ld KiB pinned and %ld KiB %s, should differ by %ld", kib,
			other, what, at_least);
}

/* Access alone: the region stays where it was, and is accounted for when it is pinned. */
static int rereg_mlock(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	const size_t length = LENGTH - OLD_START - 5;
	long pinned, odp, kib = length / ODP_KIB;
	struct domain *d = &ctx->one;
	struct odp_mr mr = { 0 };
	struct odp_mem mem;
	uint8_t *addr;
	int i, ret;

	ret = odp_mem_map(&mem, ODP_MEM_ANON, LENGTH, NULL);
	addr = (uint8_t *)mem.addr + OLD_START;
	if (!ret)
		ret = odp_reg_iova(&mr, &d->dev, addr, length, OLD_IOVA, ODP_ACCESS);
	for (i = 0; i < 2 && !ret; i++) {
		pinned = proc_kib("/proc/self/status", "VmPin:");
		ret = during(move(d, &mr, 0, addr, length), "all of the region, pinned");
		if (!ret)
			ret = rereg(&mr, ACCESS, d, NULL, 0, ODP);
		odp = proc_kib("/proc/self/status", "VmPin:");
		if (!ret)
			ret = want_pinned(pinned, odp, kib, "after pinned to ODP");
		if (!ret)
			ret = during(move(d, &mr, 0, addr, length), "all of the region, ODP");
		if (!ret)
			ret = want_state(&mr, EXPLICIT);
		if (!ret)
			ret = refuse_both(d, &mr, length, 1, "the byte behind the region");
		if (!ret)
			ret = rereg(&mr, ACCESS, d, NULL, 0, ODP_ACCESS);
		pinned = proc_kib("/proc/self/status", "VmPin:");
		if (!ret)
			ret = want_pinned(pinned, odp, kib, "before ODP to pinned");
		if (!ret)
			ret = want_state(&mr, PINNED);
	}
	odp_dereg(&mr);
	odp_mem_unmap(&mem);
	return ret;
}

/* @mr is a region of @at, and still has @keys. */
static int want_as_before(struct domain *d, const struct odp_mr *mr, const struct ibv_mr *keys,
			  const void *at, const char *what)
{
	if (mr->mr->lkey != keys->lkey || mr->mr->rkey != keys->rkey)
		return odp_fail(EPROTO, "after %s was refused the keys are others", what);
	return during(move(d, mr, 0, at, mr->length), "after %s was refused", what);
}

static const struct refusal {
	const char *what;
	int flags;
	int access;
	int wanted;
	bool only_pinned;
} refusals[] = {
	{ "no flag at all", 0, 0, EINVAL, false },
	{ "access bits that nobody knows", ACCESS, ODP_ACCESS | 1 << 30, EINVAL, false },
	{ "the same and ODP", ACCESS, ODP | 1 << 30, EINVAL, false },
	{ "remote write without local write", ACCESS, IBV_ACCESS_REMOTE_WRITE, EINVAL, false },
	{ "the same with ODP", ACCESS, IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_ON_DEMAND, EINVAL,
	  false },
	{ "a translation to what is not mapped", TRANSLATION, 0, EFAULT, true },
	{ "the same in another PD", TRANSLATION | PD, 0, EFAULT, true },
	{ "pinning what is not mapped", TRANSLATION | ACCESS, ODP_ACCESS, EFAULT, false },
	{ "pinning it in another PD", TRANSLATION | PD | ACCESS, ODP_ACCESS, EFAULT, false },
};

static int rereg_refused(struct ctx *ctx, const struct test *test)
{
	struct domain *d = &ctx->one;
	struct ibv_mr keys;
	struct region r;
	size_t i;
	int ret;

	ret = region_open(d, &r, ODP_MEM_ANON, AREA, state_access(test->from, ODP_ACCESS), false);
	if (!ret)
		keys = *r.mr.mr;
	for (i = 0; i < ARRAY_SIZE(refusals) && !ret; i++) {
		const struct refusal *bad = &refusals[i];

		if (bad->only_pinned && test->from != PINNED)
			continue;
		ret = rereg(&r.mr, bad->flags, &ctx->other, NOWHERE, AREA, bad->access);
		ret = want_error(ret, bad->wanted, bad->what);
		if (!ret)
			ret = want_as_before(d, &r.mr, &keys, r.mem.addr, bad->what);
		if (!ret)
			ret = want_state(&r.mr, test->from);
	}
	region_close(&r);
	return ret;
}

/* Memory that ODP has and that cannot be pinned. */
static int rereg_refused_file(struct ctx *ctx, const struct test *test)
{
	struct domain *d = &ctx->one;
	struct ibv_mr keys;
	struct region r;
	int ret;

	ret = region_open(d, &r, test->kind, AREA, ODP, false);
	if (!ret) {
		keys = *r.mr.mr;
		ret = region_move(d, &r, 0, AREA);
	}
	if (!ret) {
		ret = rereg(&r.mr, ACCESS, d, NULL, 0, ODP_ACCESS);
		ret = want_error(ret, test->wanted, "ODP to pinned");
	}
	if (!ret)
		ret = want_as_before(d, &r.mr, &keys, r.mem.addr, "ODP to pinned");
	/* In an old provider nothing works, which is the same errno. */
	if (!ret)
		ret = rereg(&r.mr, ACCESS, d, NULL, 0, READ_ONLY);
	region_close(&r);
	return during(ret, "%s", odp_mem_name(test->kind));
}

/* Bind a window on the first page of an MR. */
static int bind_window(struct domain *d, struct ibv_mw *mw, const struct odp_mr *mr)
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
	int ret = ibv_post_send(d->pair.local.qp, &wr, &bad);

	if (ret)
		return odp_fail(ret, "ibv_post_send of a bind: %s", strerror(ret));
	ret = odp_wait_success(&d->pair.local, "binding a window", PAGE);
	if (!ret)
		mw->rkey = wr.bind_mw.rkey;
	return ret;
}

static int rereg_refused_window(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	static const struct {
		const char *what;
		int flags;
		int access;
	} tries[] = {
		{ "another translation of what has a window", TRANSLATION, 0 },
		{ "pinned to ODP of what has a window", ACCESS, ODP },
		{ "both for what has a window", TRANSLATION | ACCESS, ODP },
	};
	struct odp_mem other = { 0 };
	struct domain *d = &ctx->one;
	struct ibv_mw *mw = NULL;
	struct ibv_mr keys;
	struct region r;
	size_t i;
	int ret;

	ret = region_open(d, &r, ODP_MEM_ANON, AREA, ODP_ACCESS | IBV_ACCESS_MW_BIND, false);
	if (!ret)
		ret = odp_mem_map(&other, ODP_MEM_ANON, AREA, NULL);
	if (!ret) {
		keys = *r.mr.mr;
		mw = ibv_alloc_mw(d->dev.pd, IBV_MW_TYPE_2);
		ret = mw ? bind_window(d, mw, &r.mr) : guest_fail("ibv_alloc_mw");
	}
	for (i = 0; i < ARRAY_SIZE(tries) && !ret; i++) {
		ret = rereg(&r.mr, tries[i].flags, d, other.addr, AREA, tries[i].access);
		ret = ret == -EBUSY ? 0 : want_error(ret, EINVAL, tries[i].what);
		if (!ret)
			ret = want_as_before(d, &r.mr, &keys, r.mem.addr, tries[i].what);
	}
	if (mw)
		ibv_dealloc_mw(mw);
	if (!ret)
		ret = during(rereg(&r.mr, TRANSLATION | ACCESS, d, other.addr, AREA, ODP),
			     "once the window is gone");
	if (!ret)
		ret = move(d, &r.mr, 0, other.addr, AREA);
	odp_dereg(&r.mr);
	odp_mem_unmap(&other);
	region_close(&r);
	return ret;
}

/* --- advice ------------------------------------------------------------------------------ */

#define SYNC		IBV_ADVISE_MR_FLAG_FLUSH
#define PREFETCH	IBV_ADVISE_MR_ADVICE_PREFETCH
#define FOR_WRITE	IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE
#define NO_FAULT	IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT
#define ADVICES		3

static const char *const advice_names[] = { "PREFETCH", "PREFETCH_WRITE", "PREFETCH_NO_FAULT" };

static int advise(struct domain *d, int advice, int flags, struct ibv_sge *sge, int count)
{
	int err = ibv_advise_mr(d->dev.pd, advice, flags, sge, count);

	if (!err)
		return 0;
	return odp_fail(err == ENODEV ? EIO : err, "ibv_advise_mr of %s, flags %#x, %d ranges: %s%s",
			advice < ADVICES ? advice_names[advice] : "an unknown advice", flags, count,
			strerror(err), err == EOPNOTSUPP ?
			" (a libibverbs whose rxe provider does not have it?)" : "");
}

static int advise_one(struct domain *d, int advice, int flags, const struct odp_mr *mr,
		      size_t offset, size_t length)
{
	struct ibv_sge sge = odp_sge(mr, offset, length);

	return advise(d, advice, flags, &sge, 1);
}

/* page_prefetch has grown by @pages, and by what was taken away meanwhile. */
static int want_prefetched(struct odp_mr *mr, const struct odp_counters *before, uint64_t pages,
			   const char *what)
{
	struct odp_counters now;
	uint64_t grown, lost;
	int ret = odp_counters(mr, &now);

	grown = now.prefetch - before->prefetch;
	lost = now.invalidations - before->invalidations;
	if (!ret && (grown < pages || grown > pages + lost))
		ret = odp_fail(EPROTO, "%s: page_prefetch has grown by %lu, should by %lu", what,
			       grown, pages);
	return ret;
}

/* Something has to come to pass. */
static int wait_prefetched(struct odp_mr *mr, const struct odp_counters *before, uint64_t pages)
{
	uint64_t end = odp_now() + SETTLE_MS * MS;
	struct odp_counters now;
	int ret;

	for (;;) {
		ret = odp_counters(mr, &now);
		if (ret || now.prefetch >= before->prefetch + pages)
			return ret;
		if (odp_now() > end)
			return odp_fail(ETIME, "page_prefetch has grown by %lu in %d ms, should by %lu",
					now.prefetch - before->prefetch, SETTLE_MS, pages);
		sleep_ms(10);
	}
}

static int need_swap(void)
{
	FILE *file = fopen("/proc/swaps", "re");
	char line[256];
	int lines = 0;

	while (file && fgets(line, sizeof(line), file))
		lines++;
	if (file)
		fclose(file);
	return lines > 1 ? 0 : odp_fail(ENODEV, "unavailable: no swap space (tests/vm/run --swap)");
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
		left = resident(mem->addr, mem->length);
		if (left < 0)
			return left;
		/* What the page table has lost the page cache may still have. */
		if (!left)
			return mem->fd >= 0 ? posix_fadvise(mem->fd, 0, 0, POSIX_FADV_DONTNEED) : 0;
		if (odp_now() > end)
			return odp_fail(EBUSY, "MADV_PAGEOUT leaves %ld pages in memory", left);
		sleep_ms(10);
	}
}

/* After it the traffic that it was for meets no fault, and the bytes are right. */
static int prefetch_one(struct domain *d, const struct test *test, int advice, int flags)
{
	uint64_t seed = odp_random(&d->rng);
	struct odp_counters before;
	struct region r;
	int ret;

	ret = region_open(d, &r, test->kind, LENGTH, ODP, test->implicit);
	if (!ret && test->paged_out) {
		odp_fill(r.mem.addr, LENGTH, seed, 0);
		ret = page_out(&r.mem);
	}
	if (!ret)
		ret = odp_counters(&r.mr, &before);
	if (!ret)
		ret = advise_one(d, advice, flags, &r.mr, r.base, LENGTH);
	if (!ret && !(flags & SYNC))
		ret = wait_prefetched(&r.mr, &before, LENGTH / PAGE);
	if (!ret)
		ret = want_prefetched(&r.mr, &before, LENGTH / PAGE, "after the advice");
	if (!ret)
		ret = odp_counters(&r.mr, &before);
	if (!ret)
		ret = test->paged_out ? read_back(d, &r.mr, r.base, LENGTH, seed) :
					read_zeroes(d, &r.mr, r.base, LENGTH);
	if (!ret && advice == FOR_WRITE)
		ret = region_move(d, &r, 0, LENGTH);
	if (!ret)
		ret = want_no_faults(&r.mr, &before, "traffic after the advice");
	region_close(&r);
	return during(ret, "%s %s, %s memory", flags & SYNC ? "synchronous" : "asynchronous",
		      advice_names[advice], odp_mem_name(test->kind));
}

static int prefetch_sync(struct ctx *ctx, const struct test *test)
{
	int ret = test->paged_out && test->kind != ODP_MEM_EXT4 ? need_swap() : 0;

	if (!ret)
		ret = prefetch_one(&ctx->one, test, PREFETCH, SYNC);
	return ret ? ret : prefetch_one(&ctx->one, test, FOR_WRITE, SYNC);
}

static int prefetch_async(struct ctx *ctx, const struct test *test)
{
	int ret = prefetch_one(&ctx->one, test, PREFETCH, 0);

	return ret ? ret : prefetch_one(&ctx->one, test, FOR_WRITE, 0);
}

/* What was prefetched to be read is not there to be written. */
static int prefetch_then_write(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	struct odp_counters before, after;
	struct domain *d = &ctx->one;
	struct region r;
	int ret;

	ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, ODP, false);
	if (!ret)
		ret = advise_one(d, PREFETCH, SYNC, &r.mr, 0, LENGTH);
	if (!ret)
		ret = odp_counters(&r.mr, &before);
	if (!ret)
		ret = region_move(d, &r, 0, LENGTH);
	if (!ret)
		ret = odp_counters(&r.mr, &after);
	if (!ret && after.faults < before.faults + LENGTH / PAGE)
		ret = odp_fail(EPROTO, "a WRITE after PREFETCH met %lu page faults, should be one for each of %lu pages",
			       after.faults - before.faults, LENGTH / PAGE);
	region_close(&r);
	return ret;
}

/* Every other page is there. */
static int prefetch_no_fault(struct ctx *ctx, const struct test *test)
{
	struct odp_counters before, after;
	const size_t pages = LENGTH / PAGE;
	struct domain *d = &ctx->one;
	struct region r;
	size_t i;
	long now;
	int ret;

	ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, ODP, test->implicit);
	for (i = 0; i < pages && !ret; i += 2)
		((uint8_t *)r.mem.addr)[i * PAGE] = i;
	if (!ret)
		ret = odp_counters(&r.mr, &before);
	if (!ret)
		ret = advise_one(d, NO_FAULT, SYNC, &r.mr, r.base, LENGTH);
	if (!ret)
		ret = want_prefetched(&r.mr, &before, pages / 2, "PREFETCH_NO_FAULT of half");
	if (!ret) {
		now = resident(r.mem.addr, LENGTH);
		if (now != (long)pages / 2)
			ret = odp_fail(EPROTO, "%ld pages are in memory after PREFETCH_NO_FAULT, should be %lu",
				       now, pages / 2);
	}
	if (!ret)
		ret = odp_counters(&r.mr, &before);
	for (i = 0; i < pages && !ret; i += 2)
		ret = region_move(d, &r, i * PAGE + 5, 100);
	if (!ret)
		ret = want_no_faults(&r.mr, &before, "WRITEs to pages that the CPU has written");
	for (i = 1; i < pages && !ret; i += 2)
		ret = region_move(d, &r, i * PAGE + 5, 100);
	if (!ret)
		ret = odp_counters(&r.mr, &after);
	if (!ret && after.faults < before.faults + pages / 2)
		ret = odp_fail(EPROTO, "WRITEs to pages that were not there met %lu faults, should be %lu",
			       after.faults - before.faults, pages / 2);
	region_close(&r);
	return ret;
}

/* A region that may only be read, explicit or implicit, of a mapping that may only be read. */
static int prefetch_read_only(struct ctx *ctx, const struct test *test)
{
	struct odp_counters before;
	struct domain *d = &ctx->one;
	struct region r = { 0 };
	int ret;

	ret = odp_mem_map(&r.mem, test->kind, LENGTH, NULL);
	if (ret)
		return ret;
	odp_fill(r.mem.addr, LENGTH, 44, 0);
	if (mmap(r.mem.addr, LENGTH, PROT_READ, MAP_SHARED | MAP_FIXED, r.mem.fd, 0) == MAP_FAILED)
		ret = guest_fail("mmap");
	r.base = test->implicit ? (uintptr_t)r.mem.addr : 0;
	if (!ret)
		ret = test->implicit ? odp_reg(&r.mr, &d->dev, NULL, SIZE_MAX, READ_ONLY) :
				       odp_reg(&r.mr, &d->dev, r.mem.addr, LENGTH, READ_ONLY);
	if (!ret)
		ret = odp_counters(&r.mr, &before);
	if (!ret) {
		ret = advise_one(d, FOR_WRITE, SYNC, &r.mr, r.base, LENGTH);
		ret = want_error(ret, EPERM, "PREFETCH_WRITE of a read-only region");
	}
	if (!ret) {
		ret = advise_one(d, FOR_WRITE, 0, &r.mr, r.base, LENGTH);
		ret = want_error(ret, EPERM, "asynchronous PREFETCH_WRITE of a read-only region");
	}
	if (!ret)
		ret = want_prefetched(&r.mr, &before, 0, "after PREFETCH_WRITE was refused");
	if (!ret)
		ret = advise_one(d, PREFETCH, SYNC, &r.mr, r.base, LENGTH);
	if (!ret)
		ret = want_prefetched(&r.mr, &before, LENGTH / PAGE, "PREFETCH of a read-only region");
	if (!ret)
		ret = odp_counters(&r.mr, &before);
	if (!ret)
		ret = read_back(d, &r.mr, r.base, LENGTH, 44);
	if (!ret)
		ret = want_no_faults(&r.mr, &before, "READs after PREFETCH");
	region_close(&r);
	return ret;
}

/* A page every 256 MiB, and the last one before each GiB. */
static bool is_touched(size_t page)
{
	return page % (GIB / 4 / PAGE) == 3 || page % (GIB / PAGE) == GIB / PAGE - 1;
}

/* Ranges one behind the other, of memory of which little is there. */
static int no_fault_big(struct domain *d, size_t size, const uint32_t *lengths, int count)
{
	size_t page, end = 0, pages = 0;
	struct odp_counters before;
	struct odp_mr mr = { 0 };
	struct ibv_sge sge[4];
	uint8_t *addr;
	int i, ret;

	ret = map_sparse(&addr, size, PROT_READ | PROT_WRITE);
	if (ret)
		return ret;
	ret = odp_reg(&mr, &d->dev, addr, size, ODP);
	for (i = 0; i < count && !ret; i++) {
		sge[i] = odp_sge(&mr, end, lengths[i]);
		end += lengths[i];
	}
	for (page = 0; page < size / PAGE && !ret; page++) {
		if (!is_touched(page))
			continue;
		addr[page * PAGE] = 1;
		pages += page * PAGE < end;
	}
	if (!ret)
		ret = odp_counters(&mr, &before);
	if (!ret)
		ret = advise(d, NO_FAULT, SYNC, sge, count);
	if (!ret)
		ret = want_prefetched(&mr, &before, pages, "what is there of it");
	if (!ret)
		ret = odp_counters(&mr, &before);
	for (page = 0; page * PAGE < end && !ret; page++)
		if (is_touched(page))
			ret = move(d, &mr, page * PAGE + 9, addr + page * PAGE + 9, 50);
	if (!ret)
		ret = want_no_faults(&mr, &before, "WRITEs to what was there");
	odp_dereg(&mr);
	munmap(addr, size);
	return during(ret, "PREFETCH_NO_FAULT of %#zx bytes in %d ranges", end, count);
}

static int prefetch_4gib(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	static const uint32_t lengths[] = { UINT32_MAX, UINT32_MAX, UINT32_MAX };
	int ret = no_fault_big(&ctx->one, 5 * GIB, lengths, 1);

	return ret ? ret : no_fault_big(&ctx->one, 13 * GIB, lengths, 3);
}

static int prefetch_list(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	enum { COUNT = 1000 };
	struct ibv_sge *sge = calloc(COUNT, sizeof(*sge));
	struct odp_counters before;
	struct domain *d = &ctx->one;
	struct region r = { 0 };
	int i, ret;

	ret = sge ? region_open(d, &r, ODP_MEM_ANON, COUNT * PAGE, ODP, false) :
		    guest_fail("calloc");
	if (!ret)
		ret = odp_counters(&r.mr, &before);
	for (i = 0; i < COUNT && !ret; i++)
		sge[i] = odp_sge(&r.mr, (COUNT - 1 - i) * PAGE + i * 37 % 4000, 64);
	if (!ret)
		ret = advise(d, FOR_WRITE, SYNC, sge, COUNT);
	if (!ret)
		ret = want_prefetched(&r.mr, &before, COUNT, "1000 ranges, each in a page of its own");
	if (!ret)
		ret = odp_counters(&r.mr, &before);
	if (!ret)
		ret = region_move(d, &r, 0, COUNT * PAGE);
	if (!ret)
		ret = want_no_faults(&r.mr, &before, "traffic after 1000 ranges were prefetched");
	region_close(&r);
	free(sge);
	return ret;
}

/* --- advice that is refused ------------------------------------------------------------------ */

enum key { KEY_GOOD, KEY_GONE, KEY_OTHER_BYTE, KEY_PINNED, KEY_WINDOW, KEY_OTHER_PD, KEYS };

#define ANY	-1	/* each of the three advices */

static const struct bad_advice {
	const char *what;
	enum key key;
	size_t offset;
	uint32_t length;
	int advice;
	int flags;
	int wanted;
	int or;			/* another errno that is as good; or 0 */
} bad_advices[] = {
	{ "the key of a region that is gone", KEY_GONE, 0, PAGE, ANY, 0, ENOENT, 0 },
	{ "a key that is none", KEY_OTHER_BYTE, 0, PAGE, ANY, 0, ENOENT, 0 },
	{ "the key of a pinned region", KEY_PINNED, 0, PAGE, ANY, 0, EINVAL, 0 },
	{ "the key of a memory window", KEY_WINDOW, 0, PAGE, ANY, 0, EINVAL, 0 },
	{ "the key of another PD", KEY_OTHER_PD, 0, PAGE, ANY, 0, EPERM, 0 },
	{ "a byte more than the region has", KEY_GOOD, LENGTH - 10, 11, ANY, 0, EFAULT, 0 },
	{ "the byte behind the region", KEY_GOOD, LENGTH, 1, ANY, 0, EFAULT, 0 },
	{ "the byte before the region", KEY_GOOD, -1UL, 1, ANY, 0, EFAULT, 0 },
	{ "4 GiB - 1 of a small region", KEY_GOOD, 0, UINT32_MAX, ANY, 0, EFAULT, 0 },
	{ "advice 77", KEY_GOOD, 0, PAGE, 77, 0, EOPNOTSUPP, 0 },
	{ "flag 2", KEY_GOOD, 0, PAGE, ANY, 2, EINVAL, EOPNOTSUPP },
};

/* Alone and at the end of a list, at once and later. */
static int refuse_advice(struct domain *d, const struct bad_advice *bad, const struct odp_mr *good,
			 uint32_t key, int advice)
{
	const struct ibv_sge wrong = {
		.addr = good->iova + bad->offset, .length = bad->length, .lkey = key,
	};
	struct ibv_sge sge[5];
	int i, count, flags, ret = 0;

	for (i = 0; i < 4 && !ret; i++) {
		flags = bad->flags | (i & 1 ? SYNC : 0);
		/* A list that is synchronous may have got somewhere before it met an error. */
		if (i == 3)
			break;
		for (count = 0; count < (i & 2 ? 4 : 0); count++)
			sge[count] = odp_sge(good, count * 3 * PAGE, PAGE);
		sge[count++] = wrong;
		ret = advise(d, advice, flags, sge, count);
		if (!bad->or || ret != -bad->or)
			ret = want_error(ret, bad->wanted, bad->what);
		ret = during(ret, "%s, %s, last of %d ranges",
			     advice < ADVICES ? advice_names[advice] : "unknown",
			     flags & SYNC ? "synchronous" : "asynchronous", count);
	}
	return ret;
}

static int refuse_advices(struct domain *d, const struct odp_mr *good, const uint32_t *keys)
{
	int ret = 0, advice;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad_advices) && !ret; i++) {
		const struct bad_advice *bad = &bad_advices[i];

		for (advice = 0; advice < ADVICES && !ret; advice++) {
			ret = refuse_advice(d, bad, good, keys[bad->key],
					    bad->advice == ANY ? advice : bad->advice);
			if (bad->advice != ANY)
				break;
		}
	}
	return ret;
}

static int prefetch_refused(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	struct odp_mr pinned = { 0 }, other_pd = { 0 }, gone = { 0 };
	struct domain *d = &ctx->one;
	struct odp_counters before;
	uint32_t keys[KEYS] = { 0 };
	struct ibv_mw *mw = NULL;
	struct ibv_sge sge;
	struct region r;
	int ret;

	/* All of the same memory: only the key tells them from each other. */
	ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, ODP, false);
	if (!ret)
		ret = odp_reg(&pinned, &d->dev, r.mem.addr, LENGTH, ODP_ACCESS);
	if (!ret)
		ret = odp_reg(&other_pd, &ctx->other.dev, r.mem.addr, LENGTH, ODP);
	if (!ret)
		ret = odp_reg(&gone, &d->dev, r.mem.addr, LENGTH, ODP);
	if (ret)
		goto out;
	keys[KEY_GOOD] = r.mr.mr->lkey;
	keys[KEY_OTHER_BYTE] = r.mr.mr->lkey ^ 1;
	keys[KEY_PINNED] = pinned.mr->lkey;
	keys[KEY_OTHER_PD] = other_pd.mr->lkey;
	keys[KEY_GONE] = gone.mr->lkey;
	ret = odp_dereg(&gone);
	mw = ibv_alloc_mw(d->dev.pd, IBV_MW_TYPE_2);
	if (!ret && !mw)
		ret = guest_fail("ibv_alloc_mw");
	if (!ret) {
		keys[KEY_WINDOW] = mw->rkey;
		ret = odp_counters(&r.mr, &before);
	}
	if (!ret)
		ret = refuse_advices(d, &r.mr, keys);
	if (!ret) {
		sge = odp_sge(&r.mr, 0, 0);
		ret = during(advise(d, FOR_WRITE, SYNC, &sge, 1), "a range of no bytes");
	}
	if (!ret) {
		sge = odp_sge(&r.mr, 0, PAGE);
		ret = advise(d, FOR_WRITE, SYNC, &sge, 0);
		ret = ret ? want_error(ret, EINVAL, "no range at all") : 0;
	}
	/* What was refused must not be done later either. */
	sleep_ms(IDLE_MS);
	if (!ret)
		ret = want_prefetched(&r.mr, &before, 0, "after all that was refused");
	if (!ret)
		ret = during(region_move(d, &r, 0, LENGTH), "the ODP region");
	if (!ret)
		ret = during(move(d, &pinned, 0, r.mem.addr, LENGTH), "the pinned region");
out:
	if (mw)
		ibv_dealloc_mw(mw);
	odp_dereg(&other_pd);
	odp_dereg(&pinned);
	region_close(&r);
	return ret;
}

/* What only the fault tells: half of the region is not mapped, and some read-only. */
static int prefetch_hole(struct ctx *ctx, const struct test *test)
{
	const size_t size = 16 * PAGE, hole = size / 2;
	const size_t base = test->implicit ? (uintptr_t)NOWHERE : 0;
	struct domain *d = &ctx->one;
	struct odp_counters before;
	struct odp_mr mr = { 0 };
	int ret;

	ret = map_fixed(NOWHERE, hole);
	if (ret)
		return ret;
	ret = test->implicit ? odp_reg(&mr, &d->dev, NULL, SIZE_MAX, ODP) :
			       odp_reg(&mr, &d->dev, NOWHERE, size, ODP);
	if (!ret)
		ret = odp_counters(&mr, &before);
	if (!ret)
		ret = want_error(advise_one(d, PREFETCH, SYNC, &mr, base + hole, PAGE), EFAULT,
				 "PREFETCH of what is not mapped");
	if (!ret)
		ret = want_error(advise_one(d, FOR_WRITE, SYNC, &mr, base + hole, hole), EFAULT,
				 "PREFETCH_WRITE of what is not mapped");
	if (!ret)
		ret = during(advise_one(d, PREFETCH, 0, &mr, base + hole, hole),
			     "asynchronous, of what is not mapped");
	if (!ret && mprotect(NOWHERE, PAGE, PROT_READ))
		ret = guest_fail("mprotect");
	if (!ret)
		ret = want_error(advise_one(d, FOR_WRITE, SYNC, &mr, base, PAGE), EPERM,
				 "PREFETCH_WRITE of what is mapped read-only");
	sleep_ms(IDLE_MS);
	if (!ret)
		ret = want_prefetched(&mr, &before, 0, "after a hole and a read-only page");
	/* Here a part may be done. */
	if (!ret)
		ret = want_error(advise_one(d, PREFETCH, SYNC, &mr, base, size), EFAULT,
				 "PREFETCH of what is mapped and what is not");
	if (!ret)
		ret = refuse(d, IBV_WR_RDMA_WRITE, &mr, base + 10, 100, "a read-only page");
	if (!ret)
		ret = move(d, &mr, base + PAGE, NOWHERE + PAGE, hole - PAGE);
	odp_dereg(&mr);
	munmap(NOWHERE, hole);
	return ret;
}

/* --- advice that is under way ------------------------------------------------------------------ */

#define BIG	(256 * ODP_MIB)

static int dereg_under_way(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	struct domain *d = &ctx->one;
	struct odp_mr mr = { 0 };
	uint64_t began;
	uint8_t *addr;
	int i, ret = 0;

	for (i = 0; i < 2 && !ret; i++) {
		ret = map_sparse(&addr, BIG, PROT_READ | PROT_WRITE);
		if (ret)
			break;
		ret = odp_reg(&mr, &d->dev, addr, BIG, ODP);
		began = odp_now();
		if (!ret)
			ret = advise_one(d, FOR_WRITE, 0, &mr, 0, BIG);
		if (!ret)
			ret = in_time(began, AT_ONCE_MS, "asynchronous advice of 256 MiB");
		began = odp_now();
		if (!ret)
			ret = odp_dereg(&mr);
		if (!ret)
			ret = in_time(began, AT_ONCE_MS, "ibv_dereg_mr() with a prefetch under way");
		odp_dereg(&mr);
		munmap(addr, BIG);
	}
	return ret;
}

static int close_under_way(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	struct domain *d = &ctx->one;
	struct odp_dev dev = { 0 };
	struct odp_mr mr[4] = { 0 };
	struct ibv_sge sge[ARRAY_SIZE(mr)];
	struct region r = { 0 };
	uint64_t began;
	uint8_t *addr;
	size_t i;
	int ret;

	ret = map_sparse(&addr, BIG, PROT_READ | PROT_WRITE);
	if (ret)
		return ret;
	ret = odp_open(&dev, d->dev.name);
	for (i = 0; i < ARRAY_SIZE(mr) && !ret; i++) {
		ret = odp_reg(&mr[i], &dev, addr, BIG, ODP);
		if (!ret)
			sge[i] = odp_sge(&mr[i], i * BIG / ARRAY_SIZE(mr), BIG / ARRAY_SIZE(mr));
	}
	if (!ret) {
		i = ibv_advise_mr(dev.pd, FOR_WRITE, 0, sge, ARRAY_SIZE(mr));
		ret = i ? odp_fail(i, "ibv_advise_mr of four regions: %s", strerror(i)) : 0;
	}
	/* With all that is open; what libibverbs has of the regions is lost. */
	began = odp_now();
	odp_close(&dev);
	if (!ret)
		ret = in_time(began, AT_ONCE_MS, "closing a device with prefetches under way");
	munmap(addr, BIG);
	if (!ret)
		ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, ODP, false);
	if (!ret)
		ret = during(region_move(d, &r, 0, LENGTH), "after another open of the device was closed");
	region_close(&r);
	return ret == -ENODEV ? -EIO : ret;
}

/* Waits for a page that nobody answers for. Says when it begins, and should it end. */
static void stuck_child(const char *device, int pipe)
{
	struct odp_mr mr = { 0 };
	struct domain d = { 0 };
	struct odp_mem mem;
	int ret;

	ret = odp_open(&d.dev, device);
	if (!ret)
		ret = odp_mem_map(&mem, ODP_MEM_ANON, AREA, NULL);
	if (!ret) {
		ret = guest_uffd(mem.addr, AREA, 0);
		ret = ret < 0 ? ret : 0;
	}
	if (!ret)
		ret = odp_reg(&mr, &d.dev, mem.addr, AREA, ODP);
	if (!ret && write(pipe, "b", 1) == 1)
		ret = advise_one(&d, FOR_WRITE, SYNC, &mr, 0, AREA);
	fprintf(stderr, "# child: advice returned %d, %s\n", ret, ret ? odp_error() : "");
	_exit(write(pipe, "e", 1) != 1);
}

static int kill_child(pid_t pid)
{
	uint64_t end = odp_now() + 10000 * MS;
	int status;

	kill(pid, SIGKILL);
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (odp_now() > end)
			return odp_fail(ETIME, "a process that waits in ibv_advise_mr() does not die of SIGKILL within 10 s");
		sleep_ms(10);
	}
	return 0;
}

static int killed_under_way(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	struct domain *d = &ctx->one;
	struct region r = { 0 };
	struct pollfd pollfd = { .events = POLLIN };
	int fds[2], died, ret = 0;
	char said = 0;
	pid_t pid;

	if (pipe(fds))
		return guest_fail("pipe");
	fflush(stdout);
	pid = fork();
	if (!pid)
		stuck_child(d->dev.name, fds[1]);
	close(fds[1]);
	pollfd.fd = fds[0];
	if (pid < 0)
		ret = guest_fail("fork");
	if (!ret && (read(fds[0], &said, 1) != 1 || said != 'b'))
		ret = odp_fail(ECHILD, "the child did not come to advise (its stderr says why)");
	if (!ret && poll(&pollfd, 1, 2 * IDLE_MS))
		ret = odp_fail(EPROTO, "synchronous advice returned, should wait for a page that nobody answers for");
	died = pid > 0 ? kill_child(pid) : 0;
	ret = ret ? ret : died;
	close(fds[0]);
	if (!ret)
		ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, ODP, false);
	if (!ret)
		ret = during(region_move(d, &r, 0, LENGTH), "after the child was killed");
	region_close(&r);
	return ret;
}

/* Nobody else waits for a prefetch that waits. */
static int stuck_under_way(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	const struct test plain = { .kind = ODP_MEM_ANON };
	struct domain *d = &ctx->one;
	struct region stuck, r = { 0 };
	struct odp_counters before;
	uint64_t began;
	int fd = -1, ret;

	ret = region_open(d, &stuck, ODP_MEM_ANON, LENGTH, ODP, false);
	if (!ret) {
		fd = guest_uffd(stuck.mem.addr, LENGTH, 0);
		ret = fd < 0 ? fd : 0;
	}
	if (!ret)
		ret = odp_counters(&stuck.mr, &before);
	began = odp_now();
	if (!ret)
		ret = advise_one(d, FOR_WRITE, 0, &stuck.mr, 0, LENGTH);
	if (!ret)
		ret = in_time(began, AT_ONCE_MS, "asynchronous advice of pages that nobody answers for");
	sleep_ms(IDLE_MS);
	if (!ret)
		ret = prefetch_one(d, &plain, PREFETCH, 0);
	if (!ret)
		ret = prefetch_one(d, &plain, FOR_WRITE, SYNC);
	if (!ret)
		ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, ODP, false);
	if (!ret)
		ret = region_move(d, &r, 0, LENGTH);
	if (!ret)
		ret = want_faults(&r.mr, LENGTH / PAGE, "beside a prefetch that waits");
	if (!ret)
		ret = want_prefetched(&stuck.mr, &before, 0, "pages that nobody answers for");
	began = odp_now();
	if (!ret)
		ret = odp_dereg(&stuck.mr);
	if (!ret)
		ret = in_time(began, AT_ONCE_MS, "ibv_dereg_mr() with a prefetch that waits for ever");
	region_close(&r);
	odp_dereg(&stuck.mr);
	if (fd >= 0)
		close(fd);
	region_close(&stuck);
	return ret;
}

/* --- what went wrong upstream --------------------------------------------------------------------- */

/* Large messages, whose packets and pages have no edge in common. */
static int mainline_offset(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	static const size_t offsets[] = { 1, PAGE - 3 };
	struct domain *d = &ctx->one;
	struct region r;
	size_t i;
	int ret;

	ret = region_open(d, &r, ODP_MEM_ANON, 16 * ODP_MIB + PAGE, ODP, false);
	for (i = 0; i < ARRAY_SIZE(offsets) && !ret; i++)
		ret = during(region_move(d, &r, offsets[i], 16 * ODP_MIB),
			     "16 MiB at offset %zu, MTU 1024", offsets[i]);
	region_close(&r);
	return ret;
}

/* Each region's iova is as far from its address as can be, and one is in the other's. */
static int mainline_iova(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	const size_t size = 300 * PAGE, length = size - 123;
	struct odp_mr low = { 0 }, swapped = { 0 };
	struct domain *d = &ctx->one;
	struct odp_mem a = { 0 }, b = { 0 };
	uint8_t *in_a, *in_b;
	int ret;

	ret = odp_mem_map(&a, ODP_MEM_ANON, size, NULL);
	if (!ret)
		ret = odp_mem_map(&b, ODP_MEM_ANON, size, NULL);
	in_a = (uint8_t *)a.addr + 123;
	in_b = (uint8_t *)b.addr + 123;
	if (!ret)
		ret = odp_reg_iova(&low, &d->dev, in_a, length, 123, ODP);
	if (!ret)
		ret = odp_reg_iova(&swapped, &d->dev, in_b, length, (uintptr_t)in_a, ODP);
	if (!ret)
		ret = during(move(d, &low, 0, in_a, length), "a region at iova 123");
	if (!ret)
		ret = during(move(d, &swapped, 0, in_b, length), "a region at another one's address");
	if (!ret)
		ret = during(move(d, &low, 5 * PAGE - 7, in_a + 5 * PAGE - 7, 10 * PAGE),
			     "the first region's middle");
	odp_dereg(&swapped);
	odp_dereg(&low);
	odp_mem_unmap(&b);
	odp_mem_unmap(&a);
	return ret;
}

static int mainline_advice_on_pinned(struct ctx *ctx,
				     __attribute__((unused)) const struct test *test)
{
	struct domain *d = &ctx->one;
	struct region r;
	int i, ret;

	ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, ODP_ACCESS, false);
	for (i = 0; i < 2 * ADVICES && !ret; i++)
		ret = want_error(advise_one(d, i / 2, i % 2 ? SYNC : 0, &r.mr, 0, LENGTH), EINVAL,
				 "advice on a pinned region");
	if (!ret)
		ret = region_move(d, &r, 0, LENGTH);
	region_close(&r);
	return ret;
}

/* Of memory that the process may write. */
static int mainline_advice_read_only(struct ctx *ctx,
				     __attribute__((unused)) const struct test *test)
{
	struct domain *d = &ctx->one;
	struct odp_counters before;
	struct region r;
	int ret;

	ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, READ_ONLY, false);
	if (!ret) {
		odp_fill(r.mem.addr, LENGTH, 66, 0);
		ret = odp_counters(&r.mr, &before);
	}
	if (!ret)
		ret = want_error(advise_one(d, FOR_WRITE, SYNC, &r.mr, 0, LENGTH), EPERM,
				 "PREFETCH_WRITE of a read-only region");
	if (!ret)
		ret = advise_one(d, PREFETCH, SYNC, &r.mr, 0, LENGTH / 2);
	if (!ret)
		ret = advise_one(d, NO_FAULT, SYNC, &r.mr, LENGTH / 2, LENGTH / 2);
	if (!ret)
		ret = want_prefetched(&r.mr, &before, LENGTH / PAGE, "one half each way");
	if (!ret)
		ret = odp_counters(&r.mr, &before);
	if (!ret)
		ret = read_back(d, &r.mr, 0, LENGTH, 66);
	if (!ret)
		ret = want_no_faults(&r.mr, &before, "READs after it");
	if (!ret)
		ret = refuse(d, IBV_WR_RDMA_WRITE, &r.mr, 0, 100, "a read-only region");
	region_close(&r);
	return ret;
}

static int mainline_advice_2gib(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	static const uint32_t lengths[] = {
		2 * GIB - 1, 2 * GIB, 2 * GIB + 1, 3 * GIB,
	};
	size_t i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(lengths) && !ret; i++)
		ret = no_fault_big(&ctx->one, 4 * GIB, &lengths[i], 1);
	return ret ? ret : no_fault_big(&ctx->one, 10 * GIB, lengths, ARRAY_SIZE(lengths));
}

static int mainline_implicit(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	struct domain *d = &ctx->one;
	struct region r;
	int ret;

	ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, ODP, true);
	if (!ret)
		ret = region_move(d, &r, 77, LENGTH - 100);
	if (!ret)
		ret = want_faults(&r.mr, LENGTH / PAGE, "all of the memory written");
	region_close(&r);
	return during(ret, "an implicit region");
}

/* With the flag and without it, of the same pages. */
static int mainline_hugetlb(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	struct domain *d = &ctx->one;
	struct odp_mr flagged = { 0 };
	struct region r;
	int i, ret;

	ret = region_open(d, &r, ODP_MEM_HUGETLB, 4 * ODP_MIB, ODP, false);
	if (!ret)
		ret = odp_reg(&flagged, &d->dev, r.mem.addr, 4 * ODP_MIB, ODP | IBV_ACCESS_HUGETLB);
	for (i = 0; i < 2 && !ret; i++) {
		ret = during(region_move(d, &r, 4095, 3 * ODP_MIB), "without IBV_ACCESS_HUGETLB");
		if (!ret)
			ret = during(move(d, &flagged, 2 * ODP_MIB - 1000,
					  (uint8_t *)r.mem.addr + 2 * ODP_MIB - 1000, 2 * ODP_MIB),
				     "with IBV_ACCESS_HUGETLB");
		if (!ret)
			ret = odp_mem_discard(&r.mem, 0, 4 * ODP_MIB);
	}
	odp_dereg(&flagged);
	region_close(&r);
	return ret;
}

/* UC says that it has sent; it arrives a moment later, and is lost where a page has to come. */
static int uc_write(struct domain *d, const struct region *r, size_t length)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;
	const uint8_t *at = (uint8_t *)r->mem.addr + 33;
	struct odp_pair pair;
	bool arrived = false;
	uint64_t end;
	int tries, ret = 0;

	attr.type = IBV_QPT_UC;
	odp_fill(d->peer.addr, length, length, 0);
	for (tries = 0; tries < 5 && !arrived && !ret; tries++) {
		ret = odp_connect(&pair, &d->dev, &attr);
		if (ret)
			break;
		ret = odp_write(&pair, &d->peer, 0, &r->mr, 33, length);
		end = odp_now() + 2000 * MS;
		while (!ret && !arrived && odp_now() < end) {
			arrived = odp_verify(at, length, length, 0, NULL);
			sleep_ms(1);
		}
		odp_disconnect(&pair);
	}
	if (!ret && !arrived)
		ret = odp_fail(EBADMSG, "a UC WRITE of %zu bytes does not arrive", length);
	return ret;
}

static int mainline_uc(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	static const size_t lengths[] = { 1, 1000, 20000, 300000 };
	struct domain *d = &ctx->one;
	struct region r;
	size_t i;
	int ret;

	if (!(d->dev.odp_uc & IBV_ODP_SUPPORT_WRITE))
		return odp_fail(EPROTO, "the UC capabilities are %#x, without IBV_ODP_SUPPORT_WRITE",
				d->dev.odp_uc);
	ret = region_open(d, &r, ODP_MEM_ANON, LENGTH, ODP, false);
	for (i = 0; i < ARRAY_SIZE(lengths) && !ret; i++)
		ret = uc_write(d, &r, lengths[i]);
	if (!ret)
		ret = read_back(d, &r.mr, 33, lengths[i - 1], lengths[i - 1]);
	region_close(&r);
	return ret;
}

/* One region that becomes this and that, and there. */
static int mainline_rereg(struct ctx *ctx, __attribute__((unused)) const struct test *test)
{
	struct domain *d = &ctx->one;
	struct odp_mem mem[2] = { 0 };
	struct odp_mr mr = { 0 };
	int i, ret;

	ret = odp_mem_map(&mem[0], ODP_MEM_ANON, AREA, NULL);
	if (!ret)
		ret = odp_mem_map(&mem[1], ODP_MEM_MEMFD, AREA, NULL);
	if (!ret)
		ret = odp_reg(&mr, &d->dev, mem[0].addr, AREA, ODP);
	for (i = 0; i < 16 && !ret; i++) {
		uint64_t random = odp_random(&d->rng);
		int flags = random % 4 ? ACCESS : ACCESS | TRANSLATION;
		enum state state = random >> 8 & 1 ? PINNED : EXPLICIT;

		ret = rereg(&mr, flags, d, mem[random >> 16 & 1].addr, AREA,
			    state_access(state, ODP_ACCESS));
		if (!ret)
			ret = move(d, &mr, 0, mr.addr, AREA);
		if (!ret)
			ret = want_state(&mr, state);
		ret = during(ret, "change %d, to %s%s", i, state_names[state],
			     flags & TRANSLATION ? " with a translation" : "");
	}
	odp_dereg(&mr);
	odp_mem_unmap(&mem[1]);
	odp_mem_unmap(&mem[0]);
	return ret;
}

/* --- running them ------------------------------------------------------------------------------------ */

static const struct test tests[] = {
	{ .name = "length_small", .run = length_small },
	{ .name = "length_4gib", .run = length_4gib },
	{ .name = "length_64tib", .run = length_64tib },
	{ .name = "length_costs_nothing", .run = length_costs_nothing },
	{ .name = "iova_anywhere", .run = iova_anywhere },
	{ .name = "iova_other_offset", .run = iova_other_offset },
	{ .name = "implicit_two", .run = implicit_two },
	{ .name = "implicit_later", .run = implicit_later },
	{ .name = "implicit_fork", .run = implicit_fork },
	{ .name = "implicit_refused", .run = implicit_refused },
	{ .name = "hugetlb_works", .run = hugetlb_works },
	{ .name = "hugetlb_refused", .run = hugetlb_refused },
	{ .name = "rereg_pinned_to_pinned", .run = rereg_flags, .from = PINNED, .to = PINNED },
	{ .name = "rereg_pinned_to_explicit", .run = rereg_flags, .from = PINNED, .to = EXPLICIT },
	{ .name = "rereg_pinned_to_implicit", .run = rereg_flags, .from = PINNED, .to = IMPLICIT },
	{ .name = "rereg_explicit_to_pinned", .run = rereg_flags, .from = EXPLICIT, .to = PINNED },
	{ .name = "rereg_explicit_to_explicit", .run = rereg_flags, .from = EXPLICIT,
	  .to = EXPLICIT },
	{ .name = "rereg_explicit_to_implicit", .run = rereg_flags, .from = EXPLICIT,
	  .to = IMPLICIT },
	{ .name = "rereg_mlock", .run = rereg_mlock },
	{ .name = "rereg_refused_pinned", .run = rereg_refused, .from = PINNED },
	{ .name = "rereg_refused_explicit", .run = rereg_refused, .from = EXPLICIT },
	{ .name = "rereg_refused_window", .run = rereg_refused_window },
	{ .name = "rereg_refused_fsdax", .run = rereg_refused_file, .kind = ODP_MEM_FSDAX,
	  .wanted = EOPNOTSUPP },
	{ .name = "rereg_refused_ext4", .run = rereg_refused_file, .kind = ODP_MEM_EXT4,
	  .wanted = EFAULT },
	{ .name = "prefetch_anonymous", .run = prefetch_sync, .kind = ODP_MEM_ANON },
	{ .name = "prefetch_thp", .run = prefetch_sync, .kind = ODP_MEM_THP },
	{ .name = "prefetch_hugetlb", .run = prefetch_sync, .kind = ODP_MEM_HUGETLB },
	{ .name = "prefetch_memfd", .run = prefetch_sync, .kind = ODP_MEM_MEMFD },
	{ .name = "prefetch_ext4", .run = prefetch_sync, .kind = ODP_MEM_EXT4 },
	{ .name = "prefetch_fsdax", .run = prefetch_sync, .kind = ODP_MEM_FSDAX },
	{ .name = "prefetch_implicit", .run = prefetch_sync, .implicit = true },
	{ .name = "prefetch_paged_out_anonymous", .run = prefetch_sync, .kind = ODP_MEM_ANON,
	  .paged_out = true },
	{ .name = "prefetch_paged_out_memfd", .run = prefetch_sync, .kind = ODP_MEM_MEMFD,
	  .paged_out = true },
	{ .name = "prefetch_paged_out_ext4", .run = prefetch_sync, .kind = ODP_MEM_EXT4,
	  .paged_out = true },
	{ .name = "prefetch_async_anonymous", .run = prefetch_async, .kind = ODP_MEM_ANON },
	{ .name = "prefetch_async_ext4", .run = prefetch_async, .kind = ODP_MEM_EXT4 },
	{ .name = "prefetch_async_implicit", .run = prefetch_async, .implicit = true },
	{ .name = "prefetch_then_write", .run = prefetch_then_write },
	{ .name = "prefetch_no_fault", .run = prefetch_no_fault },
	{ .name = "prefetch_no_fault_implicit", .run = prefetch_no_fault, .implicit = true },
	{ .name = "prefetch_read_only_memfd", .run = prefetch_read_only, .kind = ODP_MEM_MEMFD },
	{ .name = "prefetch_read_only_ext4", .run = prefetch_read_only, .kind = ODP_MEM_EXT4 },
	{ .name = "prefetch_read_only_implicit", .run = prefetch_read_only, .kind = ODP_MEM_MEMFD,
	  .implicit = true },
	{ .name = "prefetch_4gib", .run = prefetch_4gib },
	{ .name = "prefetch_list", .run = prefetch_list },
	{ .name = "prefetch_refused", .run = prefetch_refused },
	{ .name = "prefetch_hole", .run = prefetch_hole },
	{ .name = "prefetch_hole_implicit", .run = prefetch_hole, .implicit = true },
	{ .name = "under_way_dereg", .run = dereg_under_way },
	{ .name = "under_way_close", .run = close_under_way },
	{ .name = "under_way_killed", .run = killed_under_way },
	{ .name = "under_way_stuck", .run = stuck_under_way },
	{ .name = "mainline_offset", .run = mainline_offset },
	{ .name = "mainline_iova", .run = mainline_iova },
	{ .name = "mainline_advice_on_pinned", .run = mainline_advice_on_pinned },
	{ .name = "mainline_advice_read_only", .run = mainline_advice_read_only },
	{ .name = "mainline_advice_2gib", .run = mainline_advice_2gib },
	{ .name = "mainline_implicit", .run = mainline_implicit },
	{ .name = "mainline_hugetlb", .run = mainline_hugetlb },
	{ .name = "mainline_uc", .run = mainline_uc },
	{ .name = "mainline_rereg", .run = mainline_rereg },
};

static const char *name_test(size_t i)
{
	return i < ARRAY_SIZE(tests) ? tests[i].name : NULL;
}

static int open_ctx(void *arg, const char *device)
{
	struct ctx *ctx = arg;
	int ret;

	ret = guest_open_peer(&ctx->one.dev, device, &ctx->one.peer, &ctx->peer, PEER_LENGTH);
	if (ret)
		return ret;
	ctx->other.dev = ctx->one.dev;
	ctx->other.dev.pd = ibv_alloc_pd(ctx->one.dev.ctx);
	if (!ctx->other.dev.pd)
		return guest_fail("ibv_alloc_pd");
	return odp_reg(&ctx->other.peer, &ctx->other.dev, ctx->peer, PEER_LENGTH, ODP_ACCESS);
}

/* run_test() connects them anew. */
static int recover(void *arg)
{
	struct ctx *ctx = arg;

	odp_disconnect(&ctx->one.pair);
	odp_disconnect(&ctx->other.pair);
	return 0;
}

static void close_ctx(void *arg)
{
	struct ctx *ctx = arg;

	recover(ctx);
	odp_dereg(&ctx->other.peer);
	ibv_dealloc_pd(ctx->other.dev.pd);
	guest_close_peer(&ctx->one.dev, &ctx->one.peer, ctx->peer);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	struct ctx *ctx = arg;
	int ret = 0;

	if (!odp_supported(&ctx->one.dev))
		return odp_fail(ENODEV, "the kernel has no ODP for %s", ctx->one.dev.name);
	ctx->one.rng = seed;
	ctx->other.rng = ~seed;
	if (!ctx->one.pair.local.qp)
		ret = odp_connect(&ctx->one.pair, &ctx->one.dev, NULL);
	if (!ret && !ctx->other.pair.local.qp)
		ret = odp_connect(&ctx->other.pair, &ctx->other.dev, NULL);
	return ret ? ret : tests[i].run(ctx, &tests[i]);
}

int main(int argc, char **argv)
{
	struct ctx ctx = {};
	const struct suite suite = {
		.program = "test-regions",
		.about = "On-demand-paged regions of any size, re-registered, and prefetched.",
		.ctx = &ctx,
		.dev = &ctx.one.dev,
		.name = name_test,
		.open = open_ctx,
		.close = close_ctx,
		.run = run_test,
		.recover = recover,
	};

	return suite_main(&suite, argc, argv);
}
