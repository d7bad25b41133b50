// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: memory that a device uses survives reclaim, swap and sync, and is charged to its process
 * stage: check
 * where: guest
 * vm: --pmem 256M --hugepages 64 --swap 256M --memory 2G
 * budget: 120
 *
 * Reclaim, disk and swap are the real ones. Each subtest compares bytes, counts or
 * states, and has a control where it could pass for the wrong reason: that the
 * pages really went, and that what nobody wrote was thrown away.
 *
 * What must not depend on the memory of this process runs in a child, in a memory
 * cgroup of its own. Waiting is only ever for something that must come to pass.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096UL
#define GIB		(1UL << 30)
#define TIB		(1UL << 40)
#define CHUNK		ODP_MIB		/* of one message at most, and the buffer's size */
#define SETTLE_MS	30000
#define CACHE_MS	5000

/* A connection and a pinned buffer, for one thread. */
struct link {
	struct odp_pair pair;
	struct odp_mem mem;
	struct odp_mr buf;
};

struct ctx {
	struct odp_dev dev;
	struct link link;
	const char *device;
	uint64_t rng;
	const char *group;	/* in a child: its cgroup */
	int pipe;		/* in a child: to the parent */
};

struct test {
	char name[48];
	int (*run)(struct ctx *ctx, const struct test *test);
	bool child;		/* run in a child, in a cgroup of its own */
	enum odp_mem_kind kind;
	int variant;
};

static uint64_t below(struct ctx *ctx, uint64_t limit)
{
	return odp_random(&ctx->rng) % limit;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
}

/* --- the device ------------------------------------------------------------------ */

static const struct odp_pair_attr pair_attr = {
	.mtu = 4096, .timeout = 18, .retry_cnt = 6, .rnr_retry = 7, .max_wr = 64, .max_sge = 4,
};

static void link_close(struct link *link)
{
	odp_disconnect(&link->pair);
	odp_dereg(&link->buf);
	odp_mem_unmap(&link->mem);
}

static int link_open(struct link *link, struct odp_dev *dev)
{
	int ret;

	memset(link, 0, sizeof(*link));
	ret = odp_mem_map(&link->mem, ODP_MEM_ANON, CHUNK, NULL);
	if (!ret)
		ret = odp_reg(&link->buf, dev, link->mem.addr, CHUNK, ODP_ACCESS);
	if (!ret)
		ret = odp_connect(&link->pair, dev, &pair_attr);
	return ret;
}

static int ctx_open(struct ctx *ctx)
{
	return odp_open(&ctx->dev, ctx->device) ?: link_open(&ctx->link, &ctx->dev);
}

static void ctx_close(struct ctx *ctx)
{
	link_close(&ctx->link);
	odp_close(&ctx->dev);
}

/* By the device: put [@offset, @offset + @length) of the pattern there in @mr. */
static int write_pattern(struct link *link, const struct odp_mr *mr, size_t offset, size_t length,
			 uint64_t seed)
{
	size_t n;
	int ret = 0;

	for (; length && !ret; offset += n, length -= n) {
		n = length < CHUNK ? length : CHUNK;
		odp_fill(link->buf.addr, n, seed, offset);
		ret = odp_write(&link->pair, &link->buf, 0, mr, offset, n);
	}
	return ret;
}

/* By the device: get bytes of @mr, and want @expected. */
static int read_expect(struct link *link, const struct odp_mr *mr, size_t offset, size_t length,
		       const uint8_t *expected)
{
	struct odp_mismatch bad;
	int ret;

	ret = odp_read(&link->pair, &link->buf, 0, mr, offset, length);
	if (!ret && !odp_compare(link->buf.addr, expected, length, &bad))
		ret = odp_fail(EBADMSG, "RDMA READ of byte %zu: %#04x, should be %#04x; %zu wrong",
			       offset + bad.offset, bad.got, bad.expected, bad.count);
	return ret;
}

static int check_pattern(const void *start, size_t offset, size_t length, uint64_t seed)
{
	struct odp_mismatch bad;

	if (odp_verify((const uint8_t *)start + offset, length, seed, offset, &bad))
		return 0;
	return odp_fail(EBADMSG, "byte %zu is %#04x, should be %#04x; %zu of %zu wrong",
			offset + bad.offset, bad.got, bad.expected, bad.count, length);
}

/* --- memory that the device works on, and what must be in it --------------------- */

struct area {
	struct odp_mem mem;
	struct odp_mr mr;
	uint8_t *model;
};

static void area_close(struct area *area)
{
	odp_dereg(&area->mr);
	free(area->model);
	odp_mem_unmap(&area->mem);
	memset(area, 0, sizeof(*area));
}

/* Memory that nobody has touched, with an ODP MR. */
static int area_map(struct ctx *ctx, struct area *area, enum odp_mem_kind kind, size_t length)
{
	int ret;

	memset(area, 0, sizeof(*area));
	ret = odp_mem_map(&area->mem, kind, length, NULL);
	if (ret)
		return ret;
	return odp_reg(&area->mr, &ctx->dev, area->mem.addr, area->mem.length,
		       ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
}

/* The same, written by the CPU, and with a model. */
static int area_open(struct ctx *ctx, struct area *area, enum odp_mem_kind kind, size_t length)
{
	int ret;

	ret = area_map(ctx, area, kind, length);
	if (ret)
		return ret;
	area->model = malloc(area->mem.length);
	if (!area->model)
		return odp_fail(ENOMEM, "out of memory");
	odp_fill(area->model, area->mem.length, odp_random(&ctx->rng), 0);
	memcpy(area->mem.addr, area->model, area->mem.length);
	return 0;
}

/* By the device: new bytes in a part of the area, and in the model. */
static int area_write(struct ctx *ctx, struct area *area, size_t offset, size_t length)
{
	uint64_t seed = odp_random(&ctx->rng);

	odp_fill(area->model + offset, length, seed, offset);
	return write_pattern(&ctx->link, &area->mr, offset, length, seed);
}

/* Some bytes at the start, at the end, in the middle, or all of a page. */
static int area_write_page(struct ctx *ctx, struct area *area, size_t page)
{
	static const size_t parts[][2] = {
		{ 0, PAGE }, { 0, 1 }, { PAGE - 3, 3 }, { 1000, 200 }, { 1, PAGE - 2 },
	};
	const size_t *part = parts[below(ctx, ARRAY_SIZE(parts))];

	return area_write(ctx, area, page * PAGE + part[0], part[1]);
}

static size_t area_pages(const struct area *area)
{
	return area->mem.length / PAGE;
}

static long vmstat(const char *key)
{
	return guest_value("/proc/vmstat", key);
}

/* --- where pages are ------------------------------------------------------------- */

/* The pages that are in memory, by the way that tells for this kind. */
static long area_resident(const struct area *area)
{
	if (area->mem.fd >= 0)
		return guest_count_resident(area->mem.addr, area->mem.length);
	return guest_count_pages(area->mem.addr, area->mem.length, GUEST_PRESENT);
}

static int drop_caches(void)
{
	return guest_write("/proc/sys/vm/drop_caches", "3");
}

/*
 * A page of a file that has lost its place in the page table, or is left in the swap
 * cache, MADV_PAGEOUT does not find: read, it has a place again.
 */
static void map_resident(const struct area *area)
{
	const volatile uint8_t *bytes = area->mem.addr;
	size_t at;

	for (at = 0; at < area->mem.length; at += PAGE)
		if (guest_count_resident((uint8_t *)area->mem.addr + at, PAGE) == 1)
			(void)bytes[at];
}

/*
 * Reclaim all of the area; a file has been written back before. A page that turns out
 * to be dirty, is on its way from one list to another or under writeback takes another
 * turn, and so does one that was written to swap: it only is cache then, which the
 * cgroup lets go of.
 */
static int page_out(const struct ctx *ctx, const struct area *area)
{
	uint64_t begin = odp_now(), waited;
	long left, cached = 0;

	for (;;) {
		if (madvise(area->mem.addr, area->mem.length, MADV_PAGEOUT))
			return guest_fail("MADV_PAGEOUT");
		if (ctx->group)
			cached = guest_group_stat(ctx->group, "swapcached");
		left = area_resident(area);
		if (left < 0 || cached < 0)
			return left < 0 ? left : cached;
		if (!left && cached < (long)area->mem.length / 16)
			return 0;
		/* A page can be in a batch of another CPU's, which this empties. */
		if (guest_write("/proc/sys/vm/compact_memory", "1"))
			return -EIO;
		waited = (odp_now() - begin) / 1000000;
		if (!left && waited > CACHE_MS) {
			/* Seen once. They are in swap; a write that is lost may not show. */
			printf("# %ld KiB stay in the swap cache\n", cached >> 10);
			return 0;
		}
		if (waited > SETTLE_MS)
			return odp_fail(EBUSY, "reclaim leaves %ld of %zu pages in memory", left,
					area_pages(area));
		if (area->mem.fd >= 0 && waited > CACHE_MS)
			map_resident(area);
		/* The first fails where it finds less. */
		if (ctx->group)
			guest_group_write(ctx->group, "memory.reclaim", "4M");
		else
			drop_caches();
		nap();
	}
}

/* The same, and want all of it on the swap disk. */
static int swap_out(const struct ctx *ctx, const struct area *area)
{
	long pages = area_pages(area), swapped = pages;
	int ret;

	ret = page_out(ctx, area);
	if (ret)
		return ret;
	/* The page table of a shared mapping does not tell what is swapped. */
	if (area->mem.fd < 0)
		swapped = guest_count_pages(area->mem.addr, area->mem.length, GUEST_SWAPPED);
	if (swapped != pages)
		return odp_fail(EPROTO, "%ld of %ld pages are in swap", swapped, pages);
	return 0;
}

/* --- anonymous memory and memfd: what the device wrote must get to swap ---------- */

/* All, a part, or nothing of each page; of huge pages only some have any. */
static int write_some(struct ctx *ctx, struct area *area, bool *written)
{
	size_t page, huge = area->mem.page_size / PAGE;
	int ret = 0;

	memset(written, 0, area_pages(area));
	for (page = 0; page < area_pages(area) && !ret; page++) {
		if (huge > 1 ? page / huge % 4 == 3 || below(ctx, huge) > 4 : page % 4 == 3)
			continue;
		written[page] = true;
		ret = area_write_page(ctx, area, page);
	}
	return ret;
}

/* What was not written is as it was or zero. Returns how many pages are zero, or an error. */
static long check_freed(struct area *area, const bool *written)
{
	char what[80];
	long zero = 0;
	size_t page;

	for (page = 0; page < area_pages(area); page++) {
		uint8_t *at = (uint8_t *)area->mem.addr + page * PAGE;
		uint8_t *model = area->model + page * PAGE;
		int ret;

		if (!written[page] && odp_compare(at, NULL, PAGE, NULL)) {
			memset(model, 0, PAGE);
			zero++;
			continue;
		}
		snprintf(what, sizeof(what), "page %zu, freed lazily and %s", page,
			 written[page] ? "then written by the device" : "kept");
		ret = guest_compare(what, at, model, 0, PAGE);
		if (ret)
			return ret;
	}
	return zero;
}

/*
 * Pages that are freed lazily are thrown away unless they are written, and the CPU's
 * page table does not know that the device wrote. The control are those that the
 * device left alone.
 */
static int free_write_reclaim(struct ctx *ctx, const struct test *test)
{
	size_t length = test->kind == ODP_MEM_THP ? 32 * ODP_MIB : 4 * ODP_MIB;
	bool *written = calloc(length / PAGE, 1);
	struct area area = {};
	int round, ret;
	long zero;

	ret = written ? guest_need_swap(NULL) : odp_fail(ENOMEM, "out of memory");
	if (!ret)
		ret = area_open(ctx, &area, test->kind, length);
	for (round = 0; round < 2 && !ret; round++) {
		/* In the second round the device has all of it mapped. */
		if (round)
			ret = area_write(ctx, &area, 0, length);
		if (!ret && madvise(area.mem.addr, length, MADV_FREE))
			ret = guest_fail("MADV_FREE");
		if (!ret)
			ret = write_some(ctx, &area, written);
		if (!ret)
			ret = page_out(ctx, &area);
		zero = ret ? ret : check_freed(&area, written);
		if (zero < 0)
			ret = zero;
		/* A quarter was left alone; of that, some may have been too new. */
		else if (zero < (long)(length / PAGE / 8))
			ret = odp_fail(EPROTO, "reclaim threw away only %ld of %zu pages: this proves nothing",
				       zero, area_pages(&area));
	}
	free(written);
	area_close(&area);
	return ret;
}

/* By the CPU or by the device, so that the page is clean and has its place in swap. */
static int swap_in(struct ctx *ctx, struct area *area, bool device)
{
	size_t offset;
	int ret = 0;

	if (!device)
		return guest_compare("swapped in by the CPU", area->mem.addr, area->model, 0,
				     area->mem.length);
	for (offset = 0; offset < area->mem.length && !ret; offset += 64 * ODP_KIB)
		ret = read_expect(&ctx->link, &area->mr, offset, 64 * ODP_KIB,
				  area->model + offset);
	return ret;
}

static int swapin_write_pageout(struct ctx *ctx, const struct test *test)
{
	long pages, before = vmstat("pswpout");
	struct area area = {};
	size_t page;
	int round, ret;

	ret = guest_need_swap(NULL);
	if (!ret)
		ret = area_open(ctx, &area, test->kind, 4 * ODP_MIB);
	for (round = 0; round < 4 && !ret; round++) {
		ret = swap_out(ctx, &area);
		if (!ret)
			ret = swap_in(ctx, &area, round % 2);
		if (!ret && area_resident(&area) != (long)area_pages(&area))
			ret = odp_fail(EPROTO, "%ld of %zu pages are in memory after reading all",
				       area_resident(&area), area_pages(&area));
		for (page = 0; page < area_pages(&area) && !ret; page += 1 + below(ctx, 3))
			ret = area_write_page(ctx, &area, page);
	}
	/* Straight from swap. */
	if (!ret)
		ret = swap_out(ctx, &area);
	for (page = 0; page < area_pages(&area) && !ret; page += 1 + below(ctx, 5))
		ret = area_write_page(ctx, &area, page);
	if (!ret)
		ret = swap_out(ctx, &area);
	if (!ret)
		ret = guest_compare("swapped in after the device wrote", area.mem.addr, area.model, 0,
				    area.mem.length);
	pages = vmstat("pswpout") - before;
	if (!ret && pages < (long)area_pages(&area))
		ret = odp_fail(EPROTO, "%ld pages were written to swap: this proves nothing", pages);
	area_close(&area);
	return ret;
}

/* --- files: what the device wrote must get to the disk --------------------------- */

enum flush { MSYNC, FSYNC, SYNC, MUNMAP, FLUSHES };
static const char *const flush_names[] = { "msync", "fsync", "sync", "munmap" };

static int flush_area(struct area *area, enum flush how)
{
	int ret = 0;

	switch (how) {
	case MSYNC:
		ret = msync(area->mem.addr, area->mem.length, MS_SYNC);
		break;
	case SYNC:
		sync();
		break;
	case MUNMAP:
		ret = munmap(area->mem.addr, area->mem.length);
		if (ret)
			break;
		/* fall through */
	default:
		ret = fsync(area->mem.fd);
	}
	return ret ? guest_fail(flush_names[how]) : 0;
}

/* Read the whole file through @fd and compare. */
static int check_file(const char *what, const struct area *area, int fd)
{
	size_t done;
	ssize_t n;
	char *at;
	int ret = 0;

	at = aligned_alloc(PAGE, area->mem.length);
	if (!at)
		return odp_fail(ENOMEM, "out of memory");
	for (done = 0; done < area->mem.length && !ret; done += n) {
		n = pread(fd, at + done, area->mem.length - done, done);
		if (n <= 0)
			ret = guest_fail(what);
	}
	if (!ret)
		ret = guest_compare(what, at, area->model, 0, area->mem.length);
	free(at);
	return ret;
}

/* What is on the disk, whatever the page cache has. */
static int check_disk(const struct area *area)
{
	char path[64];
	int fd, ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", area->mem.fd);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return guest_fail("O_DIRECT");
	ret = check_file("on disk (O_DIRECT)", area, fd);
	close(fd);
	return ret;
}

/* Read the disk, throw the file out of memory, see that it is gone, and read it again. */
static int check_evicted(const struct ctx *ctx, struct area *area)
{
	int ret;

	ret = check_disk(area);
	if (!ret)
		ret = page_out(ctx, area);
	if (!ret)
		ret = check_file("read from disk", area, area->mem.fd);
	if (!ret)
		ret = guest_compare("mapped", area->mem.addr, area->model, 0, area->mem.length);
	return ret;
}

static int file_write(struct ctx *ctx, const struct test *test)
{
	struct area area = {};
	int round, again, ret;
	size_t page;

	ret = area_open(ctx, &area, ODP_MEM_EXT4, 2 * ODP_MIB);
	if (!ret)
		ret = flush_area(&area, FSYNC);
	for (round = 0; round < 2 && !ret; round++) {
		/* The second time the pages are clean, and the device has had them. */
		for (again = 0; again < 2 && !ret; again++) {
			for (page = 0; page < area_pages(&area) && !ret; page += 1 + below(ctx, 4))
				ret = area_write_page(ctx, &area, page);
			if (!ret)
				ret = flush_area(&area, again ? test->variant : FSYNC);
		}
		if (!ret && test->variant == MUNMAP)
			ret = odp_mem_remap(&area.mem, 0, area.mem.length);
		if (!ret)
			ret = check_evicted(ctx, &area);
	}
	area_close(&area);
	return ret;
}

static int file_write_fsdax(struct ctx *ctx, const struct test *test)
{
	struct area area = {};
	size_t page;
	void *other;
	int ret;

	(void)test;
	ret = area_open(ctx, &area, ODP_MEM_FSDAX, 2 * ODP_MIB);
	for (page = 0; !ret && page < area_pages(&area); page += 1 + below(ctx, 4))
		ret = area_write_page(ctx, &area, page);
	if (!ret)
		ret = flush_area(&area, MUNMAP);
	if (!ret)
		ret = drop_caches();
	if (!ret)
		ret = check_file("read", &area, area.mem.fd);
	if (!ret)
		ret = check_disk(&area);
	if (!ret) {
		other = mmap(NULL, area.mem.length, PROT_READ, MAP_SHARED, area.mem.fd, 0);
		ret = other == MAP_FAILED ? guest_fail("mmap") :
		      guest_compare("another mapping", other, area.model, 0, area.mem.length);
		if (other != MAP_FAILED)
			munmap(other, area.mem.length);
	}
	area_close(&area);
	return ret;
}

/* --- two queue pairs on the same pages ------------------------------------------- */

struct reader {
	struct link link;
	const struct area *area;
	size_t start;
	int ret;
	char error[256];
};

#define WINDOW	(64 * ODP_KIB)

/* The second half of every other page, which nobody writes, from the end to the start. */
static void *read_halves(void *arg)
{
	struct reader *reader = arg;
	size_t at, end = reader->start + WINDOW;

	for (at = end - PAGE / 2; at > reader->start && at < end && !reader->ret; at -= 2 * PAGE)
		reader->ret = read_expect(&reader->link, &reader->area->mr, at, PAGE / 2,
					  reader->area->model + at);
	if (reader->ret)
		snprintf(reader->error, sizeof(reader->error), "%s", odp_error());
	return NULL;
}

/*
 * The file is not in memory. One queue pair writes from the start of each window,
 * all of a page and half of the next, while the other reads what is left out: the
 * reads bring in pages that the writes are for, mapped read-only.
 */
static int two_qps_read_ahead(struct ctx *ctx, const struct test *test)
{
	struct reader reader = {};
	struct area area = {};
	long majors = 0, faults;
	pthread_t thread;
	int round, ret;
	size_t at;

	ret = link_open(&reader.link, &ctx->dev);
	if (!ret)
		ret = area_open(ctx, &area, ODP_MEM_EXT4, 2 * ODP_MIB);
	if (!ret)
		ret = flush_area(&area, FSYNC);
	reader.area = &area;
	for (round = 0; round < 4 && !ret; round++) {
		ret = page_out(ctx, &area);
		faults = vmstat("pgmajfault");
		for (; !ret && reader.start < area.mem.length; reader.start += WINDOW) {
			if (pthread_create(&thread, NULL, read_halves, &reader))
				ret = guest_fail("pthread_create");
			if (ret)
				break;
			for (at = reader.start; at < reader.start + WINDOW && !ret; at += 2 * PAGE)
				ret = area_write(ctx, &area, at, PAGE + PAGE / 2);
			pthread_join(thread, NULL);
			if (!ret && reader.ret)
				ret = odp_fail(-reader.ret, "%s", reader.error);
		}
		majors += vmstat("pgmajfault") - faults;
		reader.start = 0;
		if (!ret)
			ret = flush_area(&area, FSYNC);
		if (!ret)
			ret = check_evicted(ctx, &area);
	}
	printf("# %s: %ld major faults for %d times %zu pages\n", test->name, majors, round,
	       area_pages(&area));
	if (!ret && (!majors || majors >= round * (long)area_pages(&area) / 2))
		ret = odp_fail(EPROTO, "no page was read ahead from the disk: this proves nothing");
	area_close(&area);
	link_close(&reader.link);
	return ret;
}

/* --- children in a memory cgroup of their own ------------------------------------ */

struct report {
	int ret;
	char text[400];
};

struct child {
	char group[64];
	pid_t pid;
	int pipe;
	int status;
};

static int child_main(struct ctx *ctx, const struct test *test,
		      int (*run)(struct ctx *ctx, const struct test *test))
{
	struct report report = {};

	report.ret = guest_group_write(ctx->group, "cgroup.procs", "0");
	if (!report.ret)
		report.ret = ctx_open(ctx);
	if (!report.ret)
		report.ret = run(ctx, test);
	snprintf(report.text, sizeof(report.text), "%s", odp_error());
	fflush(stdout);
	return write(ctx->pipe, &report, sizeof(report)) != sizeof(report);
}

static int child_start(struct ctx *ctx, const struct test *test, struct child *child,
		       int (*run)(struct ctx *ctx, const struct test *test))
{
	int fds[2], ret;

	memset(child, 0, sizeof(*child));
	ret = guest_group_make(child->group);
	if (ret)
		return ret;
	if (pipe(fds))
		return guest_fail("pipe");
	fflush(stdout);
	child->pid = fork();
	if (child->pid < 0)
		return guest_fail("fork");
	child->pipe = fds[0];
	close(fds[!!child->pid]);
	if (!child->pid) {
		ctx->group = child->group;
		ctx->pipe = fds[1];
		_exit(child_main(ctx, test, run));
	}
	return 0;
}

/* Returns what the child's function returned, or -ECHILD if the child was killed. */
static int child_wait(struct child *child)
{
	uint64_t deadline = odp_now() + 2 * ODP_WAIT_MS * 1000000ULL;
	struct report report;
	bool whole;

	whole = read(child->pipe, &report, sizeof(report)) == sizeof(report);
	close(child->pipe);
	while (!waitpid(child->pid, &child->status, WNOHANG)) {
		if (odp_now() > deadline)
			return odp_fail(ETIMEDOUT, "the child does not end");
		nap();
	}
	child->pid = 0;
	if (!whole)
		return odp_fail(ECHILD, "the child was killed (status %#x)", child->status);
	return report.ret ? odp_fail(-report.ret, "%s", report.text) : 0;
}

static int run_child(struct ctx *ctx, const struct test *test)
{
	struct child child;
	int ret;

	ret = child_start(ctx, test, &child, test->run);
	if (!ret)
		ret = child_wait(&child);
	guest_group_remove(child.group);
	return ret;
}

/* For this process the device works as ever. */
static int others_work(struct ctx *ctx)
{
	struct area area = {};
	int ret;

	ret = area_open(ctx, &area, ODP_MEM_ANON, CHUNK);
	if (!ret)
		ret = area_write(ctx, &area, 0, CHUNK);
	if (!ret)
		ret = guest_compare("another process's memory", area.mem.addr, area.model, 0, CHUNK);
	area_close(&area);
	return ret;
}

/* --- who pays -------------------------------------------------------------------- */

static const char *kind_stat(enum odp_mem_kind kind)
{
	return kind == ODP_MEM_MEMFD ? "shmem" : kind == ODP_MEM_EXT4 ? "file" : "anon";
}

static int want_growth(const char *what, long before, long after, long least, long most)
{
	if (before < 0 || after < 0)
		return before < 0 ? before : after;
	if (after - before >= least && after - before <= most)
		return 0;
	return odp_fail(EPROTO, "%s of the cgroup grew by %ld KiB, should be %ld to %ld", what,
			(after - before) >> 10, least >> 10, most >> 10);
}

/* Memory that the CPU never touches: all faults are the device's. */
static int cgroup_charge(struct ctx *ctx, const struct test *test)
{
	const char *what = kind_stat(test->kind);
	const long length = 32 * ODP_MIB;
	long before, after, tables, tables_after;
	struct area area;
	int ret;

	ret = area_map(ctx, &area, test->kind, length);
	before = guest_group_stat(ctx->group, what);
	tables = guest_group_stat(ctx->group, "pagetables");
	if (!ret)
		ret = write_pattern(&ctx->link, &area.mr, 0, length, 1);
	after = guest_group_stat(ctx->group, what);
	tables_after = guest_group_stat(ctx->group, "pagetables");
	if (!ret)
		ret = want_growth(what, before, after, length, length + ODP_MIB);
	if (!ret)
		ret = want_growth("pagetables", tables, tables_after, 15 * PAGE, 40 * PAGE);
	if (!ret)
		ret = check_pattern(area.mem.addr, 0, length, 1);
	area_close(&area);
	if (!ret)
		ret = guest_group_settles(ctx->group, what, before + ODP_MIB / 4);
	return ret;
}

static void *map_nothing(size_t length, int prot)
{
	return mmap(NULL, length, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/* One page in each 2 MiB: the mirror's table is what costs. */
static int cgroup_table(struct ctx *ctx, const struct test *test)
{
	const size_t length = GIB, step = 2 * ODP_MIB, pieces = length / step;
	const char *group = ctx->group;
	long slab, tables, slab_after, tables_after;
	struct odp_mr mr = {};
	size_t at;
	char *addr;
	int ret;

	(void)test;
	addr = map_nothing(length, PROT_READ | PROT_WRITE);
	if (addr == MAP_FAILED || madvise(addr, length, MADV_NOHUGEPAGE))
		return guest_fail("mmap of 1 GiB");
	ret = odp_reg(&mr, &ctx->dev, addr, length, ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	slab = guest_group_stat(group, "slab");
	tables = guest_group_stat(group, "pagetables");
	for (at = 0; at < length && !ret; at += step)
		ret = write_pattern(&ctx->link, &mr, at + 123, 8, at);
	slab_after = guest_group_stat(group, "slab");
	tables_after = guest_group_stat(group, "pagetables");
	if (!ret)
		ret = want_growth("pagetables", tables, tables_after, pieces * PAGE * 3 / 4,
				  pieces * PAGE * 2);
	if (!ret)
		ret = want_growth("slab", slab, slab_after, pieces * 512, pieces * PAGE * 2);
	for (at = 0; at < length && !ret; at += step)
		ret = check_pattern(addr, at + 123, 8, at);
	odp_dereg(&mr);
	if (!ret)
		ret = guest_group_settles(group, "slab", slab + 64 * ODP_KIB);
	munmap(addr, length);
	if (!ret)
		ret = guest_group_settles(group, "pagetables", tables + 64 * ODP_KIB);
	return ret;
}

#define LIMIT		(16 * ODP_MIB)

enum limit { RECLAIMS, REFUSES };

/* Write twice as much as the cgroup may have, and read it back. */
static int limit_child(struct ctx *ctx, const struct test *test)
{
	struct area area = {};
	char number[32];
	int ret;

	snprintf(number, sizeof(number), "%lu", LIMIT);
	ret = guest_group_write(ctx->group, "memory.max", number);
	if (!ret && test->variant == REFUSES)
		ret = guest_group_write(ctx->group, "memory.swap.max", "0");
	if (!ret)
		ret = area_map(ctx, &area, test->kind, 2 * LIMIT);
	if (!ret)
		ret = write_pattern(&ctx->link, &area.mr, 0, 2 * LIMIT, 1);
	if (!ret)
		ret = check_pattern(area.mem.addr, 0, 2 * LIMIT, 1);
	area_close(&area);
	return ret;
}

/*
 * A cgroup's limit holds for what the device does. Where there is swap or a file to
 * write to, all of it gets there; else the write fails, or the cgroup's OOM killer
 * comes, and to no one else.
 */
static int cgroup_limit(struct ctx *ctx, const struct test *test)
{
	long peak, kills, all = vmstat("oom_kill");
	struct child child;
	int ret;

	ret = test->variant == RECLAIMS && test->kind != ODP_MEM_EXT4 ? guest_need_swap(NULL) : 0;
	if (!ret)
		ret = child_start(ctx, test, &child, limit_child);
	if (ret)
		return ret;
	ret = child_wait(&child);
	peak = guest_group_value(child.group, "memory.peak", NULL);
	kills = guest_group_value(child.group, "memory.events", "oom_kill");
	all = vmstat("oom_kill") - all;
	printf("# %s: %s, %ld KiB at most, %ld OOM kills, status %#x\n", test->name,
	       ret ? odp_error() : "completed", peak >> 10, kills, child.status);
	if (test->variant == REFUSES) {
		if (ret == -EREMOTEIO || (ret == -ECHILD && kills > 0))
			ret = 0;
		else if (!ret)
			ret = odp_fail(EPROTO, "the device wrote %lu MiB in a cgroup of %lu",
				       2 * LIMIT / ODP_MIB, LIMIT / ODP_MIB);
	}
	if (!ret && all != kills)
		ret = odp_fail(EPROTO, "%ld OOM kills in the cgroup, and %ld in all", kills, all);
	if (!ret && (peak > (long)(LIMIT + ODP_MIB) || peak < (long)(LIMIT - ODP_MIB)))
		ret = odp_fail(EPROTO, "the cgroup had %ld KiB at most, %lu are its limit",
			       peak >> 10, LIMIT >> 10);
	if (!ret)
		ret = guest_group_settles(child.group, kind_stat(test->kind), ODP_MIB / 4);
	if (!ret)
		ret = others_work(ctx);
	guest_group_remove(child.group);
	return ret;
}

#define REGISTRATIONS	32

/* The kernel's own memory in bytes, whoever pays for it. */
static long kernel_memory(void)
{
	return (guest_value("/proc/meminfo", "SUnreclaim:") + guest_value("/proc/meminfo", "Percpu:") +
		guest_value("/proc/meminfo", "VmallocUsed:")) << 10;
}

/* What registering the same REGISTRATIONS times costs the cgroup, and the machine. */
static int register_costs(struct ctx *ctx, void *addr, size_t length, long cost[2])
{
	long before = guest_group_stat(ctx->group, "kernel"), all = kernel_memory();
	struct odp_mr mrs[REGISTRATIONS] = {};
	int i, ret = 0;

	for (i = 0; i < REGISTRATIONS && !ret; i++)
		ret = odp_reg(&mrs[i], &ctx->dev, addr, length, ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	cost[0] = guest_group_stat(ctx->group, "kernel") - before;
	cost[1] = kernel_memory() - all;
	for (i = 0; i < REGISTRATIONS; i++)
		odp_dereg(&mrs[i]);
	return ret;
}

/* The most address space that there is in one piece. */
static void *map_largest(size_t *length)
{
	size_t size = 0, step;
	void *addr;

	for (step = 128 * TIB; step >= GIB; step /= 2) {
		addr = map_nothing(size + step, PROT_NONE);
		if (addr == MAP_FAILED)
			continue;
		munmap(addr, size + step);
		size += step;
	}
	*length = size;
	return map_nothing(size, PROT_NONE);
}

static int sparse_register(struct ctx *ctx, const struct test *test)
{
	struct {
		const char *what;
		size_t length;
		int prot;
		long cost[2];
	} sizes[] = {
		{ "4 KiB", PAGE, PROT_READ | PROT_WRITE, {} },
		{ "1 TiB", TIB, PROT_READ | PROT_WRITE, {} },
		{ "1 TiB of PROT_NONE", TIB, PROT_NONE, {} },
		{ "all address space", 0, PROT_NONE, {} },
	}, *size;
	int ret = 0;

	for (size = sizes; size < sizes + ARRAY_SIZE(sizes) && !ret; size++) {
		void *addr = size->length ? map_nothing(size->length, size->prot) :
					    map_largest(&size->length);

		if (addr == MAP_FAILED)
			return guest_fail("mmap");
		/* The first time fills caches. */
		ret = register_costs(ctx, addr, size->length, size->cost);
		if (!ret)
			ret = register_costs(ctx, addr, size->length, size->cost);
		munmap(addr, size->length);
		printf("# %s: %d of %s (%zu MiB): %ld bytes of the cgroup, %ld in all\n",
		       test->name, REGISTRATIONS, size->what, size->length / ODP_MIB, size->cost[0],
		       size->cost[1]);
		/* What others do meanwhile is in the second. */
		if (!ret && (size->cost[0] - sizes->cost[0] >= 64L << 10 ||
			     size->cost[1] - sizes->cost[1] >= (64L << 10) * REGISTRATIONS))
			ret = odp_fail(EPROTO, "registering %s takes more than %s", size->what,
				       sizes->what);
	}
	return ret;
}

/* --- the process goes away ------------------------------------------------------- */

#define OUTSTANDING	48

/* Outstanding writes to memory that nobody has touched; a byte for each that ends. */
static int killed_child(struct ctx *ctx, const struct test *test)
{
	struct odp_end *end = &ctx->link.pair.local;
	struct ibv_sge sge;
	struct area area;
	size_t i;
	int ret;

	ret = area_map(ctx, &area, test->kind, OUTSTANDING * CHUNK);
	sge = odp_sge(&ctx->link.buf, 0, CHUNK);
	for (i = 0; i < OUTSTANDING && !ret; i++)
		ret = odp_post(end, IBV_WR_RDMA_WRITE, i, &sge, 1, &area.mr, i * CHUNK);
	for (i = 0; i < OUTSTANDING && !ret; i++) {
		if (write(ctx->pipe, "", 1) != 1)
			ret = guest_fail("pipe");
		if (!ret)
			ret = odp_wait_success(end, "RDMA WRITE", CHUNK);
	}
	while (!ret)
		pause();
	return ret;
}

static int exit_killed(struct ctx *ctx, const struct test *test)
{
	static const int moments[] = { 1, 2, 9, 30 };
	struct child child;
	char byte;
	size_t i;
	int ret = 0, n;

	for (i = 0; i < ARRAY_SIZE(moments) && !ret; i++) {
		ret = child_start(ctx, test, &child, killed_child);
		if (ret)
			break;
		for (n = 0; n < moments[i] && !ret; n++)
			if (read(child.pipe, &byte, 1) != 1)
				ret = odp_fail(EPROTO, "the child ended after %d writes", n);
		kill(child.pid, SIGKILL);
		n = child_wait(&child);
		if (!ret && (!WIFSIGNALED(child.status) || n == -ETIMEDOUT))
			ret = odp_fail(EPROTO, "the child was not killed: %s", odp_error());
		if (!ret)
			ret = guest_group_settles(child.group, kind_stat(test->kind), 64 * ODP_KIB);
		if (!ret)
			ret = guest_group_settles(child.group, "pagetables", 0);
		if (!ret)
			ret = guest_group_settles(child.group, "kernel", 256 * ODP_KIB);
		if (!ret)
			ret = others_work(ctx);
		guest_group_remove(child.group);
	}
	return ret;
}

/* --- what the device uses stays -------------------------------------------------- */

enum use { BY_READ, INVALIDATED, IN_PLACE };

static int use_piece(struct ctx *ctx, struct area *area, size_t at, enum use use)
{
	uint8_t *addr = (uint8_t *)area->mem.addr + at;
	int ret;

	if (use == BY_READ)
		return pread(area->mem.fd, ctx->link.buf.addr, CHUNK, at) == (ssize_t)CHUNK ?
		       0 : guest_fail("pread");
	ret = read_expect(&ctx->link, &area->mr, at, CHUNK, area->model + at);
	if (!ret && use == INVALIDATED &&
	    (mprotect(addr, CHUNK, PROT_NONE) || mprotect(addr, CHUNK, PROT_READ | PROT_WRITE)))
		ret = guest_fail("mprotect");
	return ret;
}

/* The pages in memory of the pieces that are used, and of the others. */
static void count_pieces(const struct area *area, long count[2])
{
	size_t i;

	count[0] = count[1] = 0;
	for (i = 0; i < area->mem.length / CHUNK; i++)
		count[i % 2] += guest_count_resident((uint8_t *)area->mem.addr + i * CHUNK, CHUNK);
}

/*
 * The device maps all of a new file, and the kernel is made to forget that any of it
 * was ever used. Then every other MiB is used twice, and a quarter of the memory
 * wanted back. BY_READ is the control: the same, used by read().
 */
static int accessed(struct ctx *ctx, const struct test *test)
{
	long before[2], after[2], lost[2];
	struct area area = {};
	int i, ret, fd;
	size_t at;

	ret = area_open(ctx, &area, ODP_MEM_EXT4, 16 * ODP_MIB);
	if (!ret)
		ret = flush_area(&area, FSYNC);
	for (at = 0; at < area.mem.length && !ret; at += CHUNK)
		ret = use_piece(ctx, &area, at, IN_PLACE);
	fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	if (!ret && write(fd, "3", 1) != 1)
		ret = guest_fail("/proc/self/clear_refs");
	close(fd);
	for (i = 0; i < 2; i++)
		for (at = CHUNK; at < area.mem.length && !ret; at += 2 * CHUNK)
			ret = use_piece(ctx, &area, at, test->variant);
	count_pieces(&area, before);
	if (!ret)
		ret = guest_group_write(ctx->group, "memory.reclaim", "4M swappiness=0");
	count_pieces(&area, after);
	lost[0] = before[0] - after[0];
	lost[1] = before[1] - after[1];
	printf("# %s: %ld of %ld used and %ld of %ld unused pages were lost\n", test->name,
	       lost[1], before[1], lost[0], before[0]);
	if (!ret && lost[0] + lost[1] < (long)area_pages(&area) / 8)
		ret = odp_fail(EPROTO, "reclaim took %ld pages: this proves nothing",
			       lost[0] + lost[1]);
	if (!ret && lost[1] > lost[0] / 2)
		ret = odp_fail(EPROTO, "reclaim took %ld pages in use, and %ld of as many unused ones",
			       lost[1], lost[0]);
	area_close(&area);
	return ret;
}

/* --- mappings come and go beside the device's ------------------------------------ */

#define CHURN_LENGTH	(64 * ODP_MIB)
#define CHURN_WRITES	1200

/*
 * BESIDE: the device's mappings and the others are in the same 2 MiB, the least that
 * an invalidation and a fault can meet in. ELSEWHERE: in other ones, but the region is
 * the whole address space, so that all of them are in it.
 */
enum churn_where { BESIDE, ELSEWHERE };

struct churn {
	char *inside;		/* in the memory, where the device never writes */
	size_t length;
	bool stop;
	unsigned long count;
	int err;
};

/* What became of CHURN_WRITES pages. */
struct churn_counts {
	struct odp_counters device;
	long walks;		/* of the page table, that wait or not: one a fault, and one a retry */
	long heard;		/* invalidations that met a part of the region that is used */
	unsigned long mappings;
};

static void *churn_mappings(void *arg)
{
	struct churn *churn = arg;
	char *inside, *outside;
	size_t at;

	while (!__atomic_load_n(&churn->stop, __ATOMIC_ACQUIRE) && !churn->err) {
		inside = mmap(churn->inside, churn->length, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		outside = map_nothing(churn->length, PROT_READ | PROT_WRITE);
		if (inside == MAP_FAILED || outside == MAP_FAILED) {
			churn->err = errno;
			break;
		}
		for (at = 0; at < churn->length; at += 4 * PAGE)
			inside[at] = outside[at] = 1;
		if (munmap(inside, churn->length) || munmap(outside, churn->length))
			churn->err = errno;
		__atomic_add_fetch(&churn->count, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/*
 * A warm page, and a cold one each time. With BESIDE the pages between them in the
 * same 2 MiB are mapped and unmapped without end.
 */
static int churn_writes(struct ctx *ctx, const struct area *area)
{
	const size_t step = CHURN_LENGTH / CHURN_WRITES & -PAGE;
	const struct odp_mr *mr = &area->mr;
	const size_t start = (uintptr_t)area->mem.addr - (uintptr_t)mr->addr;
	size_t i, warm = start + 7, cold, length;
	int ret = 0;

	for (i = 0; i < CHURN_WRITES && !ret; i++) {
		length = 1 + below(ctx, 300);
		cold = (i + 1) * step + below(ctx, PAGE - 300);
		/* Not where the other thread is at work. */
		if (cold < ODP_MIB + PAGE)
			cold = (1 + i) * PAGE;
		cold += start;
		ret = write_pattern(&ctx->link, mr, warm, length, i);
		if (!ret)
			ret = write_pattern(&ctx->link, mr, cold, length, i);
		if (!ret)
			ret = check_pattern(mr->addr, warm, length, i);
		if (!ret)
			ret = check_pattern(mr->addr, cold, length, i);
	}
	return ret;
}

/* The memory has 2 MiB behind what the device writes to. */
static int churn_open(struct ctx *ctx, struct area *area, enum churn_where where)
{
	int ret;

	ret = area_map(ctx, area, ODP_MEM_ANON, CHURN_LENGTH + 2 * ODP_MIB);
	if (ret || where == BESIDE)
		return ret;
	/* All but the first page and the last one: whatever is mapped is in it. */
	odp_dereg(&area->mr);
	return odp_reg(&area->mr, &ctx->dev, (void *)PAGE, 128 * TIB - 3 * PAGE,
		       ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
}

/* The kernel counts the calls of its functions where there is a probe at them. */
static int count_begin(void)
{
	int ret;

	ret = guest_write(TRACING "kprobe_events",
			 "p:churn/tried mmu_interval_read_try_begin\n"
			 "p:churn/waited mmu_interval_read_begin\n"
			 "p:churn/heard seg_invalidate\n");
	return ret ? ret : guest_write(TRACING "events/churn/enable", "1");
}

static int count_end(struct churn_counts *counts)
{
	long tried, waited;
	int ret, end;

	ret = guest_write(TRACING "events/churn/enable", "0");
	tried = guest_value(TRACING "kprobe_profile", "  tried");
	waited = guest_value(TRACING "kprobe_profile", "  waited");
	counts->heard = guest_value(TRACING "kprobe_profile", "  heard");
	if (!ret && (tried < 0 || waited < 0 || counts->heard < 0))
		ret = odp_fail(EPROTO, "the probes' counts are not in kprobe_profile");
	counts->walks = tried + waited;
	end = guest_write(TRACING "kprobe_events",
			 "-:churn/tried\n-:churn/waited\n-:churn/heard\n");
	return ret ? ret : end;
}

/* The writes, and what they took; with @churning while the other thread is at work. */
static int churn_run(struct ctx *ctx, enum churn_where where, bool churning,
		     struct churn_counts *counts)
{
	struct churn churn = {};
	struct area area;
	pthread_t thread;
	int ret, end;

	memset(counts, 0, sizeof(*counts));
	ret = churn_open(ctx, &area, where);
	churn.inside = (char *)area.mem.addr + (where == BESIDE ? ODP_MIB / 2 : CHURN_LENGTH);
	churn.length = ODP_MIB / 2;
	if (!ret)
		ret = count_begin();
	if (ret)
		goto out;
	if (churning && pthread_create(&thread, NULL, churn_mappings, &churn)) {
		ret = guest_fail("pthread_create");
		churning = false;
	}
	if (!ret)
		ret = churn_writes(ctx, &area);
	__atomic_store_n(&churn.stop, true, __ATOMIC_RELEASE);
	if (churning)
		pthread_join(thread, NULL);
	if (!ret && churn.err)
		ret = odp_fail(churn.err, "the other thread: %s", strerror(churn.err));
	end = count_end(counts);
	ret = ret ? ret : end;
	if (!ret)
		ret = odp_counters(&area.mr, &counts->device);
	counts->mappings = churn.count;
out:
	area_close(&area);
	return ret;
}

/* Each page once: what happens beside them takes nothing away from the device. */
static int want_churn(const struct test *test, const struct churn_counts *quiet,
		      const struct churn_counts *busy)
{
	const long heard = busy->heard - quiet->heard, half = busy->mappings / 2;

	if (busy->mappings < 20)
		return odp_fail(EPROTO, "the other thread did not run: this proves nothing");
	if (quiet->walks < CHURN_WRITES)
		return odp_fail(EPROTO, "%ld walks for %d pages: this proves nothing",
				quiet->walks, CHURN_WRITES + 1);
	if (busy->device.faults < CHURN_WRITES || quiet->device.faults > CHURN_WRITES + 64 ||
	    busy->device.faults > quiet->device.faults + CHURN_WRITES / 100)
		return odp_fail(EPROTO, "%lu faults for %d pages, %lu without the other thread",
				busy->device.faults, CHURN_WRITES + 1, quiet->device.faults);
	/* The control of the next: beside the device's pages each one is heard. */
	if (test->variant == BESIDE)
		return heard > half ? 0 :
		       odp_fail(EPROTO, "the region heard of %ld of %lu mappings in it that went: this proves nothing",
				heard, busy->mappings);
	if (heard > half)
		return odp_fail(EPROTO, "the region heard %ld times of %lu mappings that went elsewhere",
				heard, busy->mappings);
	if (busy->walks > quiet->walks + CHURN_WRITES / 100)
		return odp_fail(EPROTO, "%ld walks, and %ld without the other thread: faults start over",
				busy->walks, quiet->walks);
	return 0;
}

static int mapping_churn(struct ctx *ctx, const struct test *test)
{
	struct churn_counts counts[2];	/* without the other thread, and with it */
	int i, ret = 0;

	for (i = 0; i < 2 && !ret; i++) {
		ret = churn_run(ctx, test->variant, i, &counts[i]);
		printf("# %s: %lu faults in %ld walks, %lu invalidations, %ld heard, in %d writes beside %lu mappings\n",
		       test->name, counts[i].device.faults, counts[i].walks,
		       counts[i].device.invalidations, counts[i].heard, 2 * CHURN_WRITES,
		       counts[i].mappings);
	}
	return ret ? ret : want_churn(test, &counts[0], &counts[1]);
}

/* --- the list of tests ----------------------------------------------------------- */

static const struct test tests[] = {
	{ "free_write_reclaim_anonymous", free_write_reclaim, true, ODP_MEM_ANON, 0 },
	{ "free_write_reclaim_thp", free_write_reclaim, true, ODP_MEM_THP, 0 },
	{ "swapin_write_pageout_anonymous", swapin_write_pageout, true, ODP_MEM_ANON, 0 },
	{ "swapin_write_pageout_thp", swapin_write_pageout, true, ODP_MEM_THP, 0 },
	{ "swapin_write_pageout_memfd", swapin_write_pageout, true, ODP_MEM_MEMFD, 0 },
	{ "file_write_msync", file_write, false, ODP_MEM_EXT4, MSYNC },
	{ "file_write_fsync", file_write, false, ODP_MEM_EXT4, FSYNC },
	{ "file_write_sync", file_write, false, ODP_MEM_EXT4, SYNC },
	{ "file_write_munmap", file_write, false, ODP_MEM_EXT4, MUNMAP },
	{ "file_write_fsdax", file_write_fsdax, false, ODP_MEM_FSDAX, 0 },
	{ "two_qps_read_ahead", two_qps_read_ahead, false, ODP_MEM_EXT4, 0 },
	{ "accessed_by_read", accessed, true, ODP_MEM_EXT4, BY_READ },
	{ "accessed_invalidated", accessed, true, ODP_MEM_EXT4, INVALIDATED },
	/* Not IN_PLACE: reclaim looks for use in the CPU's page table alone. */
	{ "cgroup_charge_anonymous", cgroup_charge, true, ODP_MEM_ANON, 0 },
	{ "cgroup_charge_thp", cgroup_charge, true, ODP_MEM_THP, 0 },
	{ "cgroup_charge_memfd", cgroup_charge, true, ODP_MEM_MEMFD, 0 },
	{ "cgroup_charge_ext4", cgroup_charge, true, ODP_MEM_EXT4, 0 },
	{ "cgroup_table", cgroup_table, true, ODP_MEM_ANON, 0 },
	{ "cgroup_limit_reclaims_anonymous", cgroup_limit, false, ODP_MEM_ANON, RECLAIMS },
	{ "cgroup_limit_reclaims_memfd", cgroup_limit, false, ODP_MEM_MEMFD, RECLAIMS },
	{ "cgroup_limit_reclaims_ext4", cgroup_limit, false, ODP_MEM_EXT4, RECLAIMS },
	{ "cgroup_limit_refuses_anonymous", cgroup_limit, false, ODP_MEM_ANON, REFUSES },
	{ "cgroup_limit_refuses_memfd", cgroup_limit, false, ODP_MEM_MEMFD, REFUSES },
	{ "exit_killed_anonymous", exit_killed, false, ODP_MEM_ANON, 0 },
	{ "exit_killed_memfd", exit_killed, false, ODP_MEM_MEMFD, 0 },
	{ "exit_killed_ext4", exit_killed, false, ODP_MEM_EXT4, 0 },
	{ "sparse_register", sparse_register, true, ODP_MEM_ANON, 0 },
	{ "mapping_churn_beside", mapping_churn, false, ODP_MEM_ANON, BESIDE },
	{ "mapping_churn_elsewhere", mapping_churn, false, ODP_MEM_ANON, ELSEWHERE },
};

/* --- running them ---------------------------------------------------------------- */

static const char *name_test(size_t i)
{
	return i < ARRAY_SIZE(tests) ? tests[i].name : NULL;
}

static int open_first(void *arg, const char *device)
{
	struct ctx *ctx = arg;

	ctx->device = device;
	return ctx_open(ctx);
}

static void close_last(void *arg)
{
	ctx_close(arg);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	const struct test *test = &tests[i];
	struct ctx *ctx = arg;

	ctx->rng = seed;
	return test->child ? run_child(ctx, test) : test->run(ctx, test);
}

static int recover(void *arg)
{
	struct ctx *ctx = arg;

	link_close(&ctx->link);
	return link_open(&ctx->link, &ctx->dev);
}

int main(int argc, char **argv)
{
	struct ctx ctx = {};
	const struct suite suite = {
		.program = "test-memory",
		.about = "What a device wrote survives reclaim, swap and sync, and is charged to its\n"
			 "process. Wants root, swap, /mnt/ext4, /mnt/pmem and cgroup2: see tests/vm/run.",
		.ctx = &ctx,
		.dev = &ctx.dev,
		.needs_odp = true,
		.name = name_test,
		.open = open_first,
		.close = close_last,
		.run = run_test,
		.recover = recover,
	};

	return suite_main(&suite, argc, argv);
}
