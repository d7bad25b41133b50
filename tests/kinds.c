// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: every kind of memory, and everything that the mm does to it, under RDMA
 * stage: check
 * where: guest
 * kernels: tree
 * vm: --pmem 256M --hugepages 64 --swap 256M --memory 2G
 * budget: 300
 *
 * KIND__EVENT, or KIND__EVENT__ERRNO where the kernel must refuse, maps memory of a kind, registers an ODP region of it (of the whole
 * address space in one subtest of three), and lets the device write and read it.
 * Then the event happens, and the device goes on. Beside the memory is a model, to
 * which is done what the event must do to bytes (the table "events"); before and
 * after the event each byte that the device reads, that the CPU sees, and that the
 * file and the disk under it have must be the model's. What is gone must be refused
 * with the right status. Nothing may stay pinned, and an event that takes pages away
 * has to show in the region's counters.
 *
 * Which kinds there are depends on the guest: pages of 1 GiB where some are reserved,
 * and DAX files of the file system that is on /mnt/pmem: tests/kinds-xfs and its like
 * have those that this test's guest does not have.
 *
 * pins_* are what is said of pinning: where it is refused, and that ODP holds nothing.
 * owner_* are what a region does that outlives its process.
 *
 * All randomness comes from --seed and the subtest's name.
 */
#define _GNU_SOURCE
#include "gpu.h"
#include "guest.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/vfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif

/* As in the kernel's uapi, of which Debian 12 has an older one. */
#define FEATURE_WP_UNPOPULATED	(1 << 13)
#define FEATURE_WP_ASYNC	(1 << 15)
#define FEATURE_MOVE		(1 << 16)

struct move_arg {
	uint64_t dst, src, len, mode;
	int64_t moved;
};

#define MOVE			_IOWR(UFFDIO, 0x05, struct move_arg)

struct scan_region {
	uint64_t start, end, categories;
};

struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define SCAN			_IOWR('f', 16, struct scan_arg)
#define SCAN_WP_MATCHING	(1 << 0)
#define SCAN_CHECK_WPASYNC	(1 << 1)
#define SCAN_IS_WRITTEN		(1 << 1)

/* As in the kernel's mm/gup_test.h. */
struct gup_test {
	uint64_t get_usec, put_usec, addr, size;
	uint32_t pages_per_call, gup_flags, test_flags, which[8];
};

#define DUMP_PAGES		_IOWR('g', 6, struct gup_test)

#define MPOL_DEFAULT		0
#define MPOL_BIND		2
#define MPOL_MF_MOVE		(1 << 1)


#define PAGE			4096UL
#define HUGE_PAGE		(2 * ODP_MIB)
#define GIB			(1UL << 30)
#define HUGE_1GB		(30 << 26)	/* MAP_HUGE_1GB, MFD_HUGE_1GB */
#define MAX_AREA		(2 * GIB)
#define PEER			(64 * ODP_KIB)
#define MESSAGES		12
#define GUARD			(20 * PAGE)	/* the PROT_NONE page of "guarded" */
#define SETTLE_MS		30000
#define CHILD_BYTE		0xc5
#define GROUP			"/sys/fs/cgroup/kinds"
#define THP			"/sys/kernel/mm/transparent_hugepage/"
#define GIGANTIC_PAGES		"/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"
#define XFS			"/run/kinds-xfs"
#define PMEM			"/mnt/pmem"
#define XFS_MAGIC		0x58465342

/*
 * Fixed, and where the kernel maps nothing by itself: else the queues of a new pair
 * may come to be where something was unmapped.
 */
#define BASE			((uint8_t *)(64 * GIB))
#define SPARE			(BASE + MAX_AREA)

/* What a page is to the device. */
enum state { LIVE, GONE, POISONED };

/* Columns of the table of events. */
enum class {
	ANON, HUGETLB, HUGETLB_SHARED, SHMEM, CACHE, CACHE_PRIVATE, DAX, DAX_PRIVATE, DEVDAX,
	CLASSES,
};

#define HUGE		(1 << 0)	/* transparent huge pages */
#define BIG		(1 << 1)	/* only whole huge pages come and go */
#define NAMED		(1 << 2)	/* there is something to unlink */
#define NO_FD		(1 << 3)	/* a file that only the kernel knows */
#define READONLY	(1 << 4)
#define BY_PWRITE	(1 << 5)	/* the first bytes come through the file */
#define FEW_BYTES	(1 << 6)	/* many pages are the same */
#define UNTOUCHED	(1 << 7)	/* the first bytes come from a handler */
#define GIGANTIC	(1 << 8)	/* pages of 1 GiB */
#define ON_XFS		(1 << 9)	/* the file system on /mnt/pmem */
#define MOVABLE		(1 << 10)	/* to another node, each page of it */

struct ctx;
struct area;

struct kind {
	const char *name;
	enum class class;
	int (*map)(struct ctx *ctx, struct area *area);
	/* After the first bytes, before the region; or NULL. */
	int (*prepare)(struct ctx *ctx, struct area *area);
	unsigned int is;
	const char *dir;
	int variant;		/* flags of mmap() or memfd_create(), advice, a mode */
};

/* What the event is done to. */
enum where {
	MIDDLE,			/* some pages, or a huge one */
	ONE,			/* a page, or a huge one */
	TAIL,			/* the last ones */
	TO_END,			/* all from the middle on */
};

struct event {
	const char *name;
	int (*run)(struct ctx *ctx, struct area *area);
	char effect[CLASSES + 1];
	enum where where;
	unsigned int needs;	/* bits of the kind */
	unsigned int never;
	int variant;
};

/* Memory, its region, and what must be in it. Offsets are the memory's. */
struct area {
	const struct kind *kind;
	uint8_t *addr;
	size_t length, step;	/* step: what MIDDLE is */
	size_t stride;		/* of each so many bytes PEER are used */
	size_t at, span;	/* what the event is done to */
	int prot, flags, advice;
	int fd;			/* or -1 */
	int shm;		/* of System V, or -1 */
	char path[64];		/* to unlink, or "" */
	struct odp_mr mr;
	size_t bias;		/* of the first byte in the region */
	uint8_t *model;
	uint8_t *disk;		/* what a file has that is another thing; or NULL */
	uint8_t *cow;		/* of each page: it is not the file's any more */
	uint8_t *state;		/* of each page */
	int uffd, gpu;
	pthread_t thread;	/* a handler's, or whose stack it is */
	bool has_thread, stop;
	int rounds;		/* of the thread */
};

struct ctx {
	struct odp_dev dev;
	struct odp_pair pair;
	uint8_t *peer;		/* pinned, at the other end of every transfer */
	struct odp_mr peer_mr;
	uint64_t rng;
	const struct subtest *test;
	const char *phase;	/* of the subtest, for the message if that fails */
	int wanted;		/* errno that refuses the event, or 0 */
	bool group;
};

struct subtest {
	char name[64];
	const struct kind *kind;
	const struct event *event;
	char effect;
	int (*run)(struct ctx *ctx);	/* for pins_* */
};

static uint64_t below(struct ctx *ctx, uint64_t limit)
{
	return odp_random(&ctx->rng) % limit;
}

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void nap(void)
{
	guest_sleep_ms(20);
}

/* Say what was being done before what is in odp_error(). */
__attribute__((format(printf, 2, 3)))
static int during(int ret, const char *fmt, ...)
{
	char what[160], text[340];
	va_list args;

	if (!ret || ret == -ENODEV)
		return ret;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	snprintf(text, sizeof(text), "%s", odp_error());
	return odp_fail(-ret, "%s: %s", what, text);
}

/* What the event's system call returned, with errno: it may have to be refused. */
static int done(struct ctx *ctx, long ret, const char *what)
{
	if (!ctx->wanted)
		return ret < 0 ? guest_fail(what) : 0;
	if (ret >= 0)
		return odp_fail(EPROTO, "%s was done, should be refused with \"%s\"", what,
				strerror(ctx->wanted));
	if (errno != ctx->wanted)
		return odp_fail(EPROTO, "%s: \"%s\", should be \"%s\"", what, strerror(errno),
				strerror(ctx->wanted));
	return 0;
}

static int unavailable(const char *what)
{
	return odp_fail(ENODEV, "unavailable: %s: %s", what, strerror(errno));
}

/* KiB of @key in the mapping at @addr, of smaps. */
static long smaps_kib(const void *addr, const char *key)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool inside = false;
	char line[512];
	long kib = 0;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = (uintptr_t)addr >= start && (uintptr_t)addr < end;
		else if (inside && !strncmp(line, key, strlen(key)))
			kib = strtol(line + strlen(key) + 1, NULL, 10);
	}
	if (file)
		fclose(file);
	return kib;
}

/* --- the device ------------------------------------------------------------------- */

static int want_pair(struct ctx *ctx)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;

	attr.mtu = 4096;
	return ctx->pair.local.qp ? 0 : odp_connect(&ctx->pair, &ctx->dev, &attr);
}

static bool is_private(const struct area *area)
{
	switch (area->kind->class) {
	case ANON:
	case HUGETLB:
	case CACHE_PRIVATE:
	case DAX_PRIVATE:
		return true;
	default:
		return false;
	}
}

static bool is_writable(const struct area *area)
{
	return !(area->kind->is & READONLY);
}

/* How many of the @length bytes from @at on are in pages of the state of the first. */
static size_t run_of(const struct area *area, size_t at, size_t length)
{
	size_t page = at / PAGE, end;

	length = min(length, area->length - at);
	for (end = at / PAGE; end * PAGE < at + length; end++)
		if (area->state[end] != area->state[page])
			return end * PAGE - at;
	return length;
}

/* New bytes in the model. */
static void renew(struct ctx *ctx, struct area *area, size_t at, size_t length)
{
	size_t page;

	odp_fill(area->model + at, length, odp_random(&ctx->rng), 0);
	for (page = at / PAGE; page <= (at + length - 1) / PAGE; page++)
		area->cow[page] = 1;
}

static int device_write(struct ctx *ctx, struct area *area, size_t at, size_t length)
{
	renew(ctx, area, at, length);
	memcpy(ctx->peer, area->model + at, length);
	return during(odp_write(&ctx->pair, &ctx->peer_mr, 0, &area->mr, area->bias + at, length),
		      "at %#zx", at);
}

static int device_read(struct ctx *ctx, struct area *area, size_t at, size_t length)
{
	int ret;

	memset(ctx->peer, ~area->model[at], length);
	ret = odp_read(&ctx->pair, &ctx->peer_mr, 0, &area->mr, area->bias + at, length);
	return during(ret, "at %#zx", at) ?:
	       guest_compare("RDMA READ", ctx->peer, area->model + at, at, length);
}

/* An access that has to fail with @wanted, and takes the pair with it. */
static int want_status(struct ctx *ctx, const struct area *area, enum ibv_wr_opcode opcode,
		       size_t at, enum ibv_wc_status wanted)
{
	struct ibv_sge sge = odp_sge(&ctx->peer_mr, 0, 100);
	struct ibv_wc wc;
	int ret;

	ret = odp_post(&ctx->pair.local, opcode, 0, &sge, 1, &area->mr, area->bias + at);
	if (!ret)
		ret = odp_wait(&ctx->pair.local, &wc, ODP_WAIT_MS);
	odp_disconnect(&ctx->pair);
	if (!ret && wc.status != wanted)
		ret = odp_fail(EPROTO, "%s at %#zx: \"%s\", should be \"%s\"",
			       opcode == IBV_WR_RDMA_READ ? "RDMA READ" : "RDMA WRITE", at,
			       ibv_wc_status_str(wc.status), ibv_wc_status_str(wanted));
	return ret ?: want_pair(ctx);
}

static int want_refusal(struct ctx *ctx, const struct area *area, size_t at,
			enum ibv_wc_status wanted)
{
	return want_status(ctx, area, IBV_WR_RDMA_READ, at, wanted) ?:
	       want_status(ctx, area, IBV_WR_RDMA_WRITE, at, wanted);
}

/* The first page of each stretch that is not there, and its last one. */
static int check_dead(struct ctx *ctx, const struct area *area)
{
	enum ibv_wc_status wanted;
	size_t at, n;
	int ret = 0;

	for (at = 0; at < area->length && !ret; at += n) {
		n = run_of(area, at, area->length);
		if (area->state[at / PAGE] == LIVE)
			continue;
		wanted = area->state[at / PAGE] == GONE ? IBV_WC_REM_ACCESS_ERR : IBV_WC_REM_OP_ERR;
		ret = want_refusal(ctx, area, at + below(ctx, PAGE - 100), wanted);
		if (!ret && n > PAGE)
			ret = want_refusal(ctx, area, at + n - 100, wanted);
	}
	return ret;
}

/* A place in [from, from + length). */
static size_t somewhere(struct ctx *ctx, const struct area *area, size_t from, size_t length)
{
	size_t at = from + below(ctx, length);

	return at - at % area->stride + at % PEER;
}

/* Messages of any size to any place, half of them to where the event is. */
static int traffic(struct ctx *ctx, struct area *area)
{
	size_t at, length;
	int i, ret = 0;

	for (i = 0; i < MESSAGES && !ret; i++) {
		at = i < MESSAGES / 2 ? somewhere(ctx, area, area->at, area->span) :
					somewhere(ctx, area, 0, area->length);
		if (i % 4 == 3)
			at &= -PAGE;
		length = run_of(area, at, 1 + below(ctx, i % 3 ? 300 : 3 * PAGE));
		if (area->state[at / PAGE] != LIVE)
			continue;
		if (i % 2 && is_writable(area))
			ret = device_write(ctx, area, at, length);
		else
			ret = device_read(ctx, area, at, length);
	}
	at = area->length - PAGE;
	if (!ret && !is_writable(area) && area->state[at / PAGE] == LIVE)
		ret = want_status(ctx, area, IBV_WR_RDMA_WRITE, at, IBV_WC_REM_ACCESS_ERR);
	return ret;
}

/* The device has all of what the event is done to, and has written some of it. */
static int warm(struct ctx *ctx, struct area *area)
{
	size_t at, n;
	int ret = 0;

	for (at = area->at; at < area->at + area->span && !ret; at += n) {
		n = run_of(area, at, min(area->stride, area->at + area->span - at));
		if (area->state[at / PAGE] == LIVE)
			ret = device_read(ctx, area, at, min(n, PEER));
		if (!ret && area->state[at / PAGE] == LIVE && is_writable(area))
			ret = device_write(ctx, area, at + 1, 3);
	}
	return ret;
}

/* --- what must be the model's ----------------------------------------------------- */

static int check_device(struct ctx *ctx, struct area *area)
{
	size_t at, n;
	int ret = 0;

	for (at = 0; at < area->length && !ret; at += n) {
		n = run_of(area, at, area->stride);
		if (area->state[at / PAGE] == LIVE)
			ret = device_read(ctx, area, at, min(n, PEER));
	}
	return ret;
}

static int check_cpu(struct area *area)
{
	size_t at, n;
	int ret = 0;

	for (at = 0; at < area->length && !ret; at += n) {
		n = run_of(area, at, area->stride);
		if (area->state[at / PAGE] == LIVE)
			ret = guest_compare("CPU", area->addr + at, area->model + at, at, min(n, PEER));
	}
	return ret;
}

/* Through @fd, all but what the memory has failed of. */
static int check_fd(struct area *area, int fd, const char *what)
{
	const uint8_t *expected = area->disk ?: area->model;
	uint8_t *buffer = aligned_alloc(PAGE, PEER);
	size_t at, n, length;
	ssize_t got;
	int ret = 0;

	if (!buffer)
		return odp_fail(ENOMEM, "out of memory");
	for (at = 0; at < area->length && !ret; at += n) {
		n = run_of(area, at, area->stride);
		length = min(n, PEER);
		if (area->state[at / PAGE] == POISONED)
			continue;
		got = pread(fd, buffer, length, at);
		if (got < 0)
			ret = guest_fail(what);
		else if ((size_t)got != length)
			ret = odp_fail(EPROTO, "%s ends at %#zx", what, at + got);
		ret = ret ?: guest_compare(what, buffer, expected + at, at, length);
	}
	free(buffer);
	return ret;
}

static int check_file(struct area *area)
{
	enum class class = area->kind->class;
	char path[64];
	int fd, ret;

	if (area->fd < 0 || class == DEVDAX)
		return 0;
	ret = check_fd(area, area->fd, "the file");
	if (ret || (class != CACHE && class != CACHE_PRIVATE))
		return ret;
	if (fsync(area->fd))
		return guest_fail("fsync");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", area->fd);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return guest_fail("O_DIRECT");
	ret = check_fd(area, fd, "the disk");
	close(fd);
	return ret;
}

/* The order is a part of the test: who comes first meets what is not there. */
static int check(struct ctx *ctx, struct area *area)
{
	int ret;

	if (below(ctx, 2))
		ret = check_device(ctx, area) ?: check_cpu(area);
	else
		ret = check_cpu(area) ?: check_device(ctx, area);
	return ret ?: check_dead(ctx, area) ?: check_file(area);
}

/* --- userfaultfd ------------------------------------------------------------------ */

/* Returns a descriptor without any range. */
static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd;

	fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return unavailable("userfaultfd");
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	close(fd);
	return odp_fail(ENODEV, "unavailable: the kernel lacks one of userfaultfd's features %#lx",
			(unsigned long)features);
}

static int uffd_register(int fd, void *addr, size_t length, uint64_t mode)
{
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)addr, .len = length }, .mode = mode,
	};

	return ioctl(fd, UFFDIO_REGISTER, &range) ? guest_fail("UFFDIO_REGISTER") : 0;
}

/* Where the page cannot be had any more, the fault is taken again. */
static void serve(struct area *area, uint64_t at)
{
	struct uffdio_range range = { .start = at & -PAGE, .len = PAGE };
	struct uffdio_writeprotect wp = { .range = range };
	struct uffdio_continue cont = { .range = range };
	struct uffdio_copy copy = { .dst = range.start, .len = PAGE };
	int ret;

	switch (area->kind->variant) {
	case UFFDIO_REGISTER_MODE_WP:
		ret = ioctl(area->uffd, UFFDIO_WRITEPROTECT, &wp);
		break;
	case UFFDIO_REGISTER_MODE_MINOR:
		ret = ioctl(area->uffd, UFFDIO_CONTINUE, &cont);
		break;
	default:
		copy.src = (uintptr_t)(area->disk + (range.start - (uintptr_t)area->addr));
		ret = ioctl(area->uffd, UFFDIO_COPY, &copy);
	}
	if (ret)
		ioctl(area->uffd, UFFDIO_WAKE, &range);
}

static void *handle_faults(void *arg)
{
	struct area *area = arg;
	struct pollfd pollfd = { .fd = area->uffd, .events = POLLIN };
	struct uffd_msg msg;

	while (!__atomic_load_n(&area->stop, __ATOMIC_RELAXED))
		if (poll(&pollfd, 1, 20) == 1 &&
		    read(area->uffd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT)
			serve(area, msg.arg.pagefault.address);
	return NULL;
}

static int start_thread(struct area *area, void *(*run)(void *), const pthread_attr_t *attr)
{
	int err = pthread_create(&area->thread, attr, run, area);

	area->has_thread = !err;
	return err ? odp_fail(err, "pthread_create: %s", strerror(err)) : 0;
}

static int start_handler(struct ctx *ctx, struct area *area)
{
	int mode = area->kind->variant, ret;

	(void)ctx;
	area->uffd = uffd_open(mode == UFFDIO_REGISTER_MODE_MINOR ? UFFD_FEATURE_MINOR_SHMEM :
			       mode == UFFDIO_REGISTER_MODE_WP ? UFFD_FEATURE_PAGEFAULT_FLAG_WP : 0);
	if (area->uffd < 0)
		return area->uffd;
	ret = uffd_register(area->uffd, area->addr, area->length, mode) ?:
	      start_thread(area, handle_faults, NULL);
	if (!ret && mode == UFFDIO_REGISTER_MODE_WP) {
		struct uffdio_writeprotect wp = {
			.range = { .start = (uintptr_t)area->addr, .len = area->length },
			.mode = UFFDIO_WRITEPROTECT_MODE_WP,
		};

		if (ioctl(area->uffd, UFFDIO_WRITEPROTECT, &wp))
			ret = guest_fail("UFFDIO_WRITEPROTECT");
	}
	return ret;
}

/* --- kinds of memory -------------------------------------------------------------- */

/* Map a part of the memory, over what is there. */
static int map_part(struct area *area, size_t at, size_t length)
{
	if (mmap(area->addr + at, length, area->prot, area->flags | MAP_FIXED, area->fd,
		 area->fd < 0 ? 0 : (off_t)at) == MAP_FAILED)
		return guest_fail("mmap");
	if (area->advice && madvise(area->addr + at, length, area->advice))
		return guest_fail("madvise");
	return 0;
}

static int map_anon(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	area->flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	area->advice = area->kind->is & HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
	return map_part(area, 0, area->length);
}

static int map_mthp(struct ctx *ctx, struct area *area)
{
	if (guest_write(THP "hugepages-64kB/enabled", "madvise"))
		return odp_fail(ENODEV, "unavailable: no huge pages of 64 KiB");
	/* It is too small for one of 2 MiB. */
	return map_anon(ctx, area) ?: madvise(area->addr, area->length, MADV_HUGEPAGE) ?
	       guest_fail("MADV_HUGEPAGE") : 0;
}

static int no_hugetlb(void)
{
	return odp_fail(ENODEV, "unavailable: no huge pages are free (tests/vm/run --hugepages)");
}

static int map_hugetlb(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	area->flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | area->kind->variant;
	return map_part(area, 0, area->length) ? no_hugetlb() : 0;
}

static int map_fd(struct area *area, const char *what)
{
	if (area->fd < 0)
		return unavailable(what);
	if (ftruncate(area->fd, area->length))
		return guest_fail(what);
	area->flags = area->flags ?: MAP_SHARED;
	return map_part(area, 0, area->length);
}

static int map_memfd(struct ctx *ctx, struct area *area)
{
	bool big = area->kind->is & BIG;
	int ret;

	(void)ctx;
	if (area->kind->is & HUGE) {
		area->advice = MADV_HUGEPAGE;
		if (guest_write(THP "shmem_enabled", "advise"))
			return odp_fail(ENODEV, "unavailable: no huge pages for shmem");
	}
	area->fd = memfd_create("kinds", MFD_CLOEXEC |
				(big ? MFD_HUGETLB | area->kind->variant : 0));
	ret = map_fd(area, "memfd_create");
	return ret && big ? no_hugetlb() : ret;
}

static int map_sysv(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	area->shm = shmget(IPC_PRIVATE, area->length, IPC_CREAT | 0600);
	if (area->shm < 0)
		return unavailable("shmget");
	return shmat(area->shm, area->addr, 0) == area->addr ? 0 : guest_fail("shmat");
}

static int map_posix(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	snprintf(area->path, sizeof(area->path), "/dev/shm/kinds-%d", getpid());
	area->fd = shm_open(area->path + strlen("/dev/shm"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	return map_fd(area, "shm_open");
}

/* A file system of @type on a loop device, at @dir; it stays. */
static int mount_loop(const char *type, const char *dir)
{
	char command[512];

	snprintf(command, sizeof(command),
		 "exec > /dev/null 2>&1; dir=%s fs=%s; image=/mnt/ext4/kinds.$fs\n"
		 "mountpoint -q $dir && exit; mkdir -p $dir && truncate -s 320M $image &&\n"
		 "mkfs.$fs -q %s $image && mount -o loop $image $dir", dir, type,
		 strcmp(type, "xfs") ? "-F" : "-f");
	if (system(command))
		return odp_fail(ENODEV, "unavailable: no %s can be mounted on a loop device", type);
	return 0;
}

static int map_file(struct ctx *ctx, struct area *area)
{
	const struct kind *kind = area->kind;
	struct statx st = {};
	bool dax;
	int ret;

	(void)ctx;
	ret = strcmp(kind->dir, XFS) ? 0 : mount_loop("xfs", XFS);
	if (ret)
		return ret;
	snprintf(area->path, sizeof(area->path), "%s/kinds-%d", kind->dir, getpid());
	area->fd = open(area->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (area->fd < 0)
		return unavailable(kind->dir);
	statx(area->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st);
	dax = kind->class == DAX || kind->class == DAX_PRIVATE;
	if (dax != !!(st.stx_attributes & STATX_ATTR_DAX))
		return odp_fail(ENODEV, "unavailable: files in %s are %sDAX", kind->dir,
				dax ? "not " : "");
	area->flags = kind->variant;
	if (kind->is & READONLY)
		area->prot = PROT_READ;
	return map_fd(area, kind->dir);
}

static int map_devdax(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	area->fd = open("/dev/dax1.0", O_RDWR | O_CLOEXEC);
	if (area->fd < 0)
		return unavailable("/dev/dax1.0");
	area->flags = MAP_SHARED;
	return map_part(area, 0, area->length);
}

static void *use_stack(void *arg)
{
	struct area *area = arg;

	while (!__atomic_load_n(&area->stop, __ATOMIC_RELAXED))
		nap();
	return NULL;
}

/* Below what the thread uses of its stack. */
static int map_stack(struct ctx *ctx, struct area *area)
{
	const size_t used = 256 * ODP_KIB;
	pthread_attr_t attr;
	int ret;

	(void)ctx;
	area->flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE;
	area->advice = MADV_NOHUGEPAGE;
	ret = map_part(area, 0, area->length + used);
	if (ret)
		return ret;
	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, area->addr, area->length + used);
	ret = start_thread(area, use_stack, &attr);
	pthread_attr_destroy(&attr);
	return ret;
}

/* A file or shared memory in a part of memory that is anonymous. */
static int map_other(struct area *area, int fd, size_t at, size_t length)
{
	int ret = 0;

	if (fd < 0)
		return odp_fail(ENODEV, "unavailable: a file: %s", strerror(errno));
	if (ftruncate(fd, length) || mmap(area->addr + at, length, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		ret = guest_fail("mmap");
	close(fd);
	return ret;
}

/* Shared, anonymous, a file, a DAX file, anonymous: the events are in what is anonymous. */
static int map_mixed(struct ctx *ctx, struct area *area)
{
	const int flags = O_TMPFILE | O_RDWR | O_CLOEXEC;
	const size_t part = 16 * PAGE;

	return map_anon(ctx, area) ?:
	       map_other(area, memfd_create("kinds", MFD_CLOEXEC), 0, 2 * part) ?:
	       map_other(area, open("/mnt/ext4", flags, 0600), 4 * part, part) ?:
	       map_other(area, open(PMEM, flags, 0600), 5 * part, part);
}

static int guard(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	area->state[GUARD / PAGE] = GONE;
	return mprotect(area->addr + GUARD, PAGE, PROT_NONE) ? guest_fail("mprotect") : 0;
}

static int want_huge(struct ctx *ctx, struct area *area)
{
	const char *key = area->kind->class == SHMEM ? "ShmemPmdMapped:" : "AnonHugePages:";

	(void)ctx;
	if (smaps_kib(area->addr, key) < (long)(HUGE_PAGE / ODP_KIB))
		return odp_fail(ENODEV, "unavailable: the kernel gave it no huge page");
	return 0;
}

static int want_mthp(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	(void)area;
	if (guest_value(THP "hugepages-64kB/stats/anon_fault_alloc", NULL) <= 0)
		return odp_fail(ENODEV, "unavailable: the kernel gave it no page of 64 KiB");
	return 0;
}

static int merge(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	return guest_merge(area->addr, area->length);
}

/* All of it on the swap disk. */
static int swap_out(struct ctx *ctx, struct area *area)
{
	uint64_t deadline = odp_now() + SETTLE_MS * 1000000ULL;
	long pages = area->length / PAGE, swapped;

	(void)ctx;
	swapped = guest_need_swap(NULL);
	if (swapped)
		return swapped;
	for (;;) {
		if (madvise(area->addr, area->length, MADV_PAGEOUT))
			return guest_fail("MADV_PAGEOUT");
		swapped = guest_count_pages(area->addr, area->length, GUEST_SWAPPED);
		if (swapped < 0 || swapped == pages)
			return swapped < 0 ? swapped : 0;
		if (odp_now() > deadline)
			return odp_fail(EBUSY, "%ld of %ld pages are in swap", swapped, pages);
		/* What is on its way from one list to another takes another turn. */
		guest_write("/proc/sys/vm/drop_caches", "1");
		nap();
	}
}

/* All of it in the GPU stand-in's own memory, where nobody else can reach it. */
static int to_device(struct ctx *ctx, struct area *area)
{
	long pages = area->length / PAGE, there;
	struct gpu_cmd cmd = { .addr = (uintptr_t)area->addr, .npages = pages };
	uint8_t *buffer;
	int ret = 0;

	(void)ctx;
	area->gpu = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	if (area->gpu < 0)
		return unavailable("/dev/hmm_dmirror0");
	buffer = malloc(area->length);
	cmd.ptr = (uintptr_t)buffer;
	if (!buffer || ioctl(area->gpu, GPU_TO_DEVICE, &cmd))
		ret = guest_fail("migrating to the device");
	free(buffer);
	there = guest_count_pages(area->addr, area->length, GUEST_SWAPPED);
	if (!ret && there != pages)
		ret = odp_fail(EPROTO, "%ld of %ld pages are in the device's memory", there, pages);
	return ret;
}

static const struct kind kinds[] = {
	{ "anonymous", ANON, map_anon, NULL, MOVABLE, NULL, 0 },
	{ "thp", ANON, map_anon, want_huge, HUGE | MOVABLE, NULL, 0 },
	{ "mthp", ANON, map_mthp, want_mthp, MOVABLE, NULL, 0 },
	{ "hugetlb_private", HUGETLB, map_hugetlb, NULL, BIG | MOVABLE, NULL, 0 },
	{ "hugetlb_shared", HUGETLB_SHARED, map_memfd, NULL, BIG | MOVABLE, NULL, 0 },
	{ "gigantic_private", HUGETLB, map_hugetlb, NULL, BIG | GIGANTIC, NULL, HUGE_1GB },
	{ "gigantic_shared", HUGETLB_SHARED, map_memfd, NULL, BIG | GIGANTIC, NULL, HUGE_1GB },
	{ "memfd", SHMEM, map_memfd, NULL, MOVABLE, NULL, 0 },
	{ "memfd_huge", SHMEM, map_memfd, want_huge, HUGE | MOVABLE, NULL, 0 },
	{ "sysv_shm", SHMEM, map_sysv, NULL, NAMED | NO_FD | MOVABLE, NULL, 0 },
	{ "posix_shm", SHMEM, map_posix, NULL, NAMED | MOVABLE, NULL, 0 },
	{ "ext4_shared", CACHE, map_file, NULL, NAMED | MOVABLE, "/mnt/ext4", MAP_SHARED },
	{ "ext4_private", CACHE_PRIVATE, map_file, NULL, NAMED | BY_PWRITE | MOVABLE, "/mnt/ext4",
	  MAP_PRIVATE },
	{ "xfs_shared", CACHE, map_file, NULL, NAMED | MOVABLE, XFS, MAP_SHARED },
	{ "xfs_private", CACHE_PRIVATE, map_file, NULL, NAMED | BY_PWRITE | MOVABLE, XFS,
	  MAP_PRIVATE },
	{ "fsdax_ext4_shared", DAX, map_file, NULL, NAMED, PMEM, MAP_SHARED },
	{ "fsdax_ext4_private", DAX_PRIVATE, map_file, NULL, NAMED | BY_PWRITE, PMEM,
	  MAP_PRIVATE },
	{ "fsdax_ext4_sync", DAX, map_file, NULL, NAMED, PMEM, MAP_SYNC | MAP_SHARED_VALIDATE },
	{ "fsdax_xfs_shared", DAX, map_file, NULL, NAMED | ON_XFS, PMEM, MAP_SHARED },
	{ "fsdax_xfs_private", DAX_PRIVATE, map_file, NULL, NAMED | BY_PWRITE | ON_XFS, PMEM,
	  MAP_PRIVATE },
	{ "fsdax_xfs_sync", DAX, map_file, NULL, NAMED | ON_XFS, PMEM,
	  MAP_SYNC | MAP_SHARED_VALIDATE },
	{ "devdax", DEVDAX, map_devdax, NULL, BIG, NULL, 0 },
	{ "readonly", CACHE, map_file, NULL, NAMED | BY_PWRITE | READONLY, "/mnt/ext4",
	  MAP_SHARED },
	{ "stack", ANON, map_stack, NULL, MOVABLE, NULL, 0 },
	{ "guarded", ANON, map_anon, guard, 0, NULL, 0 },
	{ "mixed", ANON, map_mixed, NULL, 0, NULL, 0 },
	{ "uffd_missing", ANON, map_anon, start_handler, UNTOUCHED, NULL,
	  UFFDIO_REGISTER_MODE_MISSING },
	{ "uffd_minor", SHMEM, map_memfd, start_handler, BY_PWRITE, NULL,
	  UFFDIO_REGISTER_MODE_MINOR },
	{ "uffd_wp", ANON, map_anon, start_handler, 0, NULL, UFFDIO_REGISTER_MODE_WP },
	{ "ksm", ANON, map_anon, merge, FEW_BYTES, NULL, 0 },
	{ "swapped", ANON, map_anon, swap_out, 0, NULL, 0 },
	{ "device_private", ANON, map_anon, to_device, 0, NULL, 0 },
};

static const struct kind *kind_called(const char *name)
{
	const struct kind *kind = kinds;

	while (strcmp(kind->name, name))
		kind++;
	return kind;
}

static bool pmem_is_xfs(void)
{
	struct statfs fs;

	return !statfs(PMEM, &fs) && fs.f_type == XFS_MAGIC;
}

/* Not where the guest cannot have it, so that it is not for lack of trying. */
static bool is_here(const struct kind *kind)
{
	if (kind->is & GIGANTIC)
		return guest_value(GIGANTIC_PAGES, NULL) > 0;
	if (kind->class == DAX || kind->class == DAX_PRIVATE)
		return pmem_is_xfs() == !!(kind->is & ON_XFS);
	return true;
}

static void area_close(struct area *area)
{
	odp_dereg(&area->mr);
	__atomic_store_n(&area->stop, true, __ATOMIC_RELAXED);
	if (area->has_thread)
		pthread_join(area->thread, NULL);
	munmap(BASE, 2 * MAX_AREA);
	if (area->path[0])
		unlink(area->path);
	if (area->shm >= 0)
		shmctl(area->shm, IPC_RMID, NULL);
	if (area->fd >= 0)
		close(area->fd);
	if (area->uffd >= 0)
		close(area->uffd);
	if (area->gpu >= 0)
		close(area->gpu);
	free(area->model);
	free(area->disk);
	free(area->cow);
	free(area->state);
}

/* The first bytes of the memory. */
static int area_fill(struct ctx *ctx, struct area *area)
{
	const bool few = area->kind->is & FEW_BYTES, by_cpu = !(area->kind->is & BY_PWRITE);
	const uint64_t seed = odp_random(&ctx->rng);
	size_t at;

	for (at = 0; at < area->length; at += few ? PAGE : area->stride)
		odp_fill(area->model + at, few ? PAGE : PEER, seed + (few ? at / PAGE % 4 : at), 0);
	if (area->kind->is & UNTOUCHED || (area->fd >= 0 && is_private(area))) {
		area->disk = malloc(area->length);
		if (!area->disk)
			return odp_fail(ENOMEM, "out of memory");
		memcpy(area->disk, area->model, area->length);
	}
	if (area->kind->is & UNTOUCHED)
		return 0;
	for (at = 0; at < area->length && by_cpu; at += area->stride)
		memcpy(area->addr + at, area->model + at, PEER);
	if (!by_cpu && pwrite(area->fd, area->model, area->length, 0) != (ssize_t)area->length)
		return guest_fail("pwrite");
	return 0;
}

/* Close it also where this fails. */
static int area_open(struct ctx *ctx, struct area *area, const struct kind *kind)
{
	int ret;

	*area = (struct area){
		.kind = kind, .addr = BASE, .fd = -1, .shm = -1, .uffd = -1, .gpu = -1,
		.prot = PROT_READ | PROT_WRITE, .length = 128 * PAGE, .step = 16 * PAGE,
		.at = 32 * PAGE, .stride = PEER,
	};
	if (kind->is & HUGE) {
		area->length = 2 * HUGE_PAGE;
		area->at = HUGE_PAGE / 2;
	}
	if (kind->is & BIG) {
		area->at = area->step = kind->is & GIGANTIC ? GIB : HUGE_PAGE;
		area->length = kind->is & GIGANTIC ? 2 * GIB : 3 * HUGE_PAGE;
	}
	if (kind->is & GIGANTIC)
		area->stride = 16 * ODP_MIB;
	area->span = area->step;
	area->model = calloc(area->length, 1);
	area->cow = calloc(area->length / PAGE, 1);
	area->state = calloc(area->length / PAGE, 1);
	if (!area->model || !area->cow || !area->state)
		return odp_fail(ENOMEM, "out of memory");
	ret = kind->map(ctx, area) ?: area_fill(ctx, area);
	if (!ret && kind->prepare)
		ret = kind->prepare(ctx, area);
	return ret;
}

static int area_reg(struct ctx *ctx, struct area *area, bool implicit)
{
	area->bias = implicit ? (uintptr_t)area->addr : 0;
	return odp_reg(&area->mr, &ctx->dev, implicit ? NULL : area->addr,
		       implicit ? SIZE_MAX : area->length, ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
}

/* --- events ----------------------------------------------------------------------- */

static int variant(const struct ctx *ctx)
{
	return ctx->test->event->variant;
}

static uint8_t *start(const struct area *area)
{
	return area->addr + area->at;
}

static int nothing(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	(void)area;
	return 0;
}

static int unmap(struct ctx *ctx, struct area *area)
{
	return done(ctx, munmap(start(area), area->span), "munmap");
}

static int map_over(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	return map_part(area, area->at, area->span);
}

/* What is before the tail grows to where the tail was. */
static int grow(struct ctx *ctx, struct area *area)
{
	if (!ctx->wanted && munmap(start(area), area->span))
		return guest_fail("munmap");
	return done(ctx, mremap(start(area) - area->span, area->span, 2 * area->span, 0) ==
		    MAP_FAILED ? -1 : 0, "mremap");
}

static int shrink(struct ctx *ctx, struct area *area)
{
	return done(ctx, mremap(start(area) - area->span, 2 * area->span, area->span, 0) ==
		    MAP_FAILED ? -1 : 0, "mremap");
}

/* Away, where the CPU sees the bytes and the device nothing at the old place, and back. */
static int move(struct ctx *ctx, struct area *area)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	int ret;

	if (mremap(start(area), area->span, area->span, flags, SPARE) == MAP_FAILED)
		return guest_fail("mremap");
	ret = guest_compare("CPU, moved", SPARE, area->model + area->at, area->at, area->span) ?:
	      want_refusal(ctx, area, area->at + 1, IBV_WC_REM_ACCESS_ERR);
	if (mremap(SPARE, area->span, area->span, flags, start(area)) == MAP_FAILED)
		ret = ret ?: guest_fail("mremap back");
	return ret;
}

static int protect(struct ctx *ctx, struct area *area)
{
	int ret;

	if (mprotect(start(area), area->span, PROT_NONE))
		return guest_fail("mprotect");
	ret = want_refusal(ctx, area, area->at + PAGE, IBV_WC_REM_ACCESS_ERR);
	if (!ret && mprotect(start(area), area->span, PROT_READ))
		ret = guest_fail("mprotect");
	ret = ret ?: device_read(ctx, area, area->at + 77, 2 * PAGE) ?:
	      want_status(ctx, area, IBV_WR_RDMA_WRITE, area->at + PAGE, IBV_WC_REM_ACCESS_ERR);
	if (!ret && mprotect(start(area), area->span, area->prot))
		ret = guest_fail("mprotect");
	return ret;
}

static int advise(struct ctx *ctx, struct area *area)
{
	return done(ctx, madvise(start(area), area->span, variant(ctx)), "madvise");
}

/* What the device writes to a page that is free to go is not free to go. */
static int advise_free(struct ctx *ctx, struct area *area)
{
	int ret;

	ret = done(ctx, madvise(start(area), area->span, MADV_FREE), "MADV_FREE");
	if (ret || ctx->wanted)
		return ret;
	ret = device_write(ctx, area, area->at, min(area->span, PEER));
	if (!ret && madvise(start(area), area->span, MADV_PAGEOUT))
		ret = guest_fail("MADV_PAGEOUT");
	return ret;
}

/*
 * Each CPU keeps pages back that are on their way to a list, and holds a reference. So
 * they are told to let go, and it is tried again. A page that was busy has failed all
 * the same: that it cannot be had any more (EFAULT) says that it is done.
 */
static int advise_patiently(uint8_t *at, size_t length, int advice, const char *what)
{
	uint64_t deadline = odp_now() + SETTLE_MS * 1000000ULL;

	guest_write("/proc/sys/vm/drop_caches", "1");
	while (madvise(at, length, advice)) {
		if (errno == EFAULT && advice == MADV_HWPOISON)
			break;
		if ((errno != EAGAIN && errno != EBUSY) || odp_now() > deadline)
			return guest_fail(what);
		nap();
		guest_write("/proc/sys/vm/drop_caches", "1");
	}
	return 0;
}

/* One page is taken out, and the whole put together again. */
static int collapse(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	if (madvise(start(area), PAGE, MADV_DONTNEED))
		return guest_fail("MADV_DONTNEED");
	return advise_patiently(area->addr, area->length, MADV_COLLAPSE, "MADV_COLLAPSE");
}

static int split(const struct area *area)
{
	char text[64];

	snprintf(text, sizeof(text), "%d,0x%lx,0x%lx", getpid(), (unsigned long)area->addr,
		 (unsigned long)area->addr + area->length);
	return guest_write("/sys/kernel/debug/split_huge_pages", text);
}

static int split_thp(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	return split(area);
}

static void *collapse_and_split(void *arg)
{
	struct area *area = arg;

	while (!__atomic_load_n(&area->stop, __ATOMIC_RELAXED)) {
		madvise(area->addr, area->length, MADV_COLLAPSE);
		split(area);
	}
	return NULL;
}

static int race_khugepaged(struct ctx *ctx, struct area *area)
{
	int i, ret;

	ret = start_thread(area, collapse_and_split, NULL);
	for (i = 0; i < 5 && !ret; i++)
		ret = traffic(ctx, area);
	__atomic_store_n(&area->stop, true, __ATOMIC_RELAXED);
	if (area->has_thread)
		pthread_join(area->thread, NULL);
	area->has_thread = false;
	return ret;
}

static int mergeable(struct ctx *ctx, struct area *area)
{
	int i, ret;

	if (madvise(start(area), area->span, MADV_MERGEABLE))
		return guest_fail("MADV_MERGEABLE");
	ret = guest_ksm(true);
	for (i = 0; i < 3 && !ret; i++) {
		nap();
		ret = traffic(ctx, area);
	}
	if (!ret && madvise(start(area), area->span, MADV_UNMERGEABLE))
		ret = guest_fail("MADV_UNMERGEABLE");
	return guest_ksm(false) ?: ret;
}

/* A clean page of a file is read again; a dirty one would be lost. */
static int poison(struct ctx *ctx, struct area *area)
{
	if (area->kind->class == CACHE && fsync(area->fd))
		return guest_fail("fsync");
	/* A page of a private mapping has to be its own. */
	if (is_private(area)) {
		renew(ctx, area, area->at, 8);
		memcpy(start(area), area->model + area->at, 8);
	}
	return advise_patiently(start(area), PAGE, MADV_HWPOISON, "MADV_HWPOISON");
}

static int soft_offline(struct ctx *ctx, struct area *area)
{
	if (ctx->wanted)
		return done(ctx, madvise(start(area), PAGE, MADV_SOFT_OFFLINE), "MADV_SOFT_OFFLINE");
	/* A large folio that is dirty cannot be split. */
	if (area->kind->class == CACHE && fsync(area->fd))
		return guest_fail("fsync");
	return advise_patiently(start(area), PAGE, MADV_SOFT_OFFLINE, "MADV_SOFT_OFFLINE");
}

/* @child runs, and returns its exit status, after the device has gone on here. */
static int with_child(struct ctx *ctx, struct area *area, int (*child)(struct ctx *, struct area *))
{
	int ret, status, go[2];
	pid_t pid;

	if (pipe(go))
		return guest_fail("pipe");
	fflush(stdout);
	pid = fork();
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &status, 1) < 0 ? 99 : child(ctx, area));
	}
	if (pid < 0) {
		ret = guest_fail("fork");
		close(go[0]);
		close(go[1]);
		return ret;
	}
	ret = traffic(ctx, area);
	if (!ret && is_writable(area)) {
		renew(ctx, area, area->at + PAGE + 300, 100);
		memcpy(start(area) + PAGE + 300, area->model + area->at + PAGE + 300, 100);
	}
	close(go[0]);
	close(go[1]);
	if (waitpid(pid, &status, 0) != pid)
		return ret ?: guest_fail("waitpid");
	if (!ret && status)
		ret = odp_fail(EPROTO, "the child ended with status %#x", status);
	return ret;
}

/* Its memory is what it was at the fork, or is shared; and it writes. */
static int child_writes(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	if (is_private(area) &&
	    guest_compare("CPU, in the child", start(area), area->model + area->at, area->at, area->span)) {
		printf("# %s\n", odp_error());
		fflush(stdout);
		return 1;
	}
	if (is_writable(area))
		memset(start(area) + 50, CHILD_BYTE, 100);
	return 0;
}

static int child_ends(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	(void)area;
	return 0;
}

/* The descriptors of the device stay open. */
static int child_executes(struct ctx *ctx, struct area *area)
{
	(void)area;
	fcntl(ctx->dev.ctx->cmd_fd, F_SETFD, 0);
	fcntl(ctx->dev.ctx->async_fd, F_SETFD, 0);
	execl("/bin/true", "true", NULL);
	return 127;
}

/* What the child does to its own address space is nothing to the region. */
static int child_unmaps(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	if (is_private(area))
		memset(start(area), CHILD_BYTE, area->span);
	return munmap(area->addr, area->length) ? 1 : 0;
}

static int child_lacks(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	return msync(start(area), PAGE, MS_ASYNC) && errno == ENOMEM ? 0 : 1;
}

static int child_has_zeroes(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	return odp_compare(start(area), NULL, area->span, NULL) ? 0 : 1;
}

static int fork_both_write(struct ctx *ctx, struct area *area)
{
	int ret = with_child(ctx, area, child_writes);

	if (!is_private(area) && is_writable(area))
		memset(area->model + area->at + 50, CHILD_BYTE, 100);
	return ret;
}

static int (*const children[])(struct ctx *ctx, struct area *area) = {
	child_executes, child_ends, child_unmaps,
};

static int fork_child(struct ctx *ctx, struct area *area)
{
	return with_child(ctx, area, children[variant(ctx)]);
}

static int dont_fork(struct ctx *ctx, struct area *area)
{
	int ret;

	if (madvise(start(area), area->span, MADV_DONTFORK))
		return guest_fail("MADV_DONTFORK");
	ret = with_child(ctx, area, child_lacks);
	if (!ret && madvise(start(area), area->span, MADV_DOFORK))
		ret = guest_fail("MADV_DOFORK");
	return ret;
}

static int wipe_on_fork(struct ctx *ctx, struct area *area)
{
	int ret;

	ret = done(ctx, madvise(start(area), area->span, MADV_WIPEONFORK), "MADV_WIPEONFORK");
	if (ret || ctx->wanted)
		return ret;
	ret = with_child(ctx, area, child_has_zeroes);
	if (!ret && madvise(start(area), area->span, MADV_KEEPONFORK))
		ret = guest_fail("MADV_KEEPONFORK");
	return ret;
}

/* Down, where the rest is refused as a CPU's access is, and up. */
static int truncate_file(struct ctx *ctx, struct area *area)
{
	int ret;

	if (ftruncate(area->fd, area->at))
		return guest_fail("ftruncate");
	ret = want_refusal(ctx, area, area->at + 5, IBV_WC_REM_ACCESS_ERR) ?:
	      device_read(ctx, area, area->at - 200, 200);
	if (ftruncate(area->fd, area->length))
		ret = ret ?: guest_fail("ftruncate");
	return ret;
}

static int file_allocate(struct ctx *ctx, struct area *area)
{
	return done(ctx, fallocate(area->fd, variant(ctx), area->at, area->span), "fallocate");
}

/* What is behind moves forward, and the file is made as long as it was. */
static int collapse_file(struct ctx *ctx, struct area *area)
{
	int ret;

	ret = done(ctx, fallocate(area->fd, FALLOC_FL_COLLAPSE_RANGE, area->at, area->step),
		   "fallocate");
	if (!ret && !ctx->wanted && ftruncate(area->fd, area->length))
		ret = guest_fail("ftruncate");
	return ret;
}

static int unlink_file(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	if (area->shm >= 0 ? shmctl(area->shm, IPC_RMID, NULL) : unlink(area->path))
		return guest_fail("unlink");
	area->path[0] = 0;
	area->shm = -1;
	return 0;
}

static int sync_memory(struct ctx *ctx, struct area *area)
{
	return done(ctx, msync(area->addr, area->length, MS_SYNC), "msync");
}

static int sync_and_drop(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	(void)area;
	sync();
	return guest_write("/proc/sys/vm/drop_caches", "3");
}

/* What the device writes then is dirty again. */
static int clear_refs(struct ctx *ctx, struct area *area)
{
	int ret = guest_write("/proc/self/clear_refs", "4");

	if (ret || (area->kind->class != ANON && area->kind->class != SHMEM))
		return ret;
	ret = device_write(ctx, area, area->at + 2 * PAGE + 9, 9);
	if (!ret && guest_count_pages(start(area) + 2 * PAGE, PAGE, GUEST_SOFT_DIRTY) != 1)
		ret = odp_fail(EPROTO, "a page that the device wrote is not soft-dirty");
	return ret;
}

/* The one page that the device writes, and none that it reads, was written. */
static int scan_pagemap(struct ctx *ctx, struct area *area)
{
	struct scan_region found[4];
	struct scan_arg arg = {
		.size = sizeof(arg), .flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)start(area), .end = (uintptr_t)start(area) + area->span,
		.vec = (uintptr_t)found, .vec_len = ARRAY_SIZE(found),
		.category_mask = SCAN_IS_WRITTEN, .return_mask = SCAN_IS_WRITTEN,
	};
	const uint64_t page = arg.start + 3 * PAGE;
	int fd, uffd, n, ret;

	uffd = uffd_open(FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED);
	if (uffd < 0)
		return uffd;
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ret = uffd_register(uffd, start(area), area->span, UFFDIO_REGISTER_MODE_WP);
	if (!ret && ioctl(fd, SCAN, &arg) < 0)
		ret = guest_fail("PAGEMAP_SCAN");
	ret = ret ?: device_read(ctx, area, area->at, area->span) ?:
	      device_write(ctx, area, area->at + 3 * PAGE + 33, 100);
	arg.walk_end = 0;
	n = ret ? 0 : ioctl(fd, SCAN, &arg);
	if (!ret && n < 0)
		ret = guest_fail("PAGEMAP_SCAN");
	if (!ret && (n != 1 || found[0].start != page || found[0].end != page + PAGE))
		ret = odp_fail(EPROTO, "PAGEMAP_SCAN found %d regions, the first [%#lx, %#lx), should be the page at %#lx",
			       n, n ? (long)found[0].start : 0, n ? (long)found[0].end : 0,
			       (long)page);
	if (fd >= 0)
		close(fd);
	close(uffd);
	return ret;
}

/* Pages that are @from, to where there are none; a huge one may be in between. */
static int uffd_move(int uffd, uint8_t *to, uint8_t *from, size_t length)
{
	uint64_t deadline = odp_now() + SETTLE_MS * 1000000ULL;
	struct move_arg arg = { 0 };
	size_t moved = 0;

	while (moved < length) {
		arg = (struct move_arg){
			.dst = (uintptr_t)to + moved, .src = (uintptr_t)from + moved,
			.len = length - moved,
		};
		if (ioctl(uffd, MOVE, &arg) && errno != EAGAIN && errno != EBUSY)
			return guest_fail("UFFDIO_MOVE");
		moved += arg.moved > 0 ? arg.moved : 0;
		if (odp_now() > deadline)
			return odp_fail(EBUSY, "UFFDIO_MOVE moved %zu bytes of %zu", moved, length);
	}
	return 0;
}

static int move_by_uffd(struct ctx *ctx, struct area *area)
{
	int uffd, ret;

	(void)ctx;
	uffd = uffd_open(FEATURE_MOVE);
	if (uffd < 0)
		return uffd;
	if (mmap(SPARE, area->span, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		ret = guest_fail("mmap");
	else
		ret = uffd_register(uffd, SPARE, area->span, UFFDIO_REGISTER_MODE_MISSING) ?:
		      uffd_move(uffd, SPARE, start(area), area->span) ?:
		      guest_compare("CPU, moved", SPARE, area->model + area->at, area->at, area->span) ?:
		      uffd_register(uffd, start(area), area->span, UFFDIO_REGISTER_MODE_MISSING) ?:
		      uffd_move(uffd, start(area), SPARE, area->span);
	close(uffd);
	return ret;
}

/* Each page of the range to node @node; @bad counts those that are not there then. */
static int pages_to_node(uint8_t *at, size_t length, int node, long *bad)
{
	size_t i, n = min(length / PAGE, 512);
	int nodes[512], status[512];
	void *pages[512];

	for (i = 0; i < n; i++) {
		pages[i] = at + i * (length / n);
		nodes[i] = node;
		status[i] = -1;
	}
	if (syscall(__NR_move_pages, 0, n, pages, nodes, status, MPOL_MF_MOVE) < 0)
		return guest_fail("move_pages");
	for (*bad = i = 0; i < n; i++)
		*bad += status[i] != node;
	return 0;
}

static bool has_two_nodes(void)
{
	return !access("/sys/devices/system/node/node1", F_OK);
}

static int move_pages(struct ctx *ctx, struct area *area)
{
	unsigned long mask = 1;
	long bad;
	int ret = 0;

	if (has_two_nodes())
		ret = pages_to_node(start(area), area->span, 1, &bad) ?: traffic(ctx, area);
	ret = ret ?: pages_to_node(start(area), area->span, 0, &bad);
	/* Memory that cannot be moved has no policy. */
	if (!ret && area->kind->class < DAX &&
	    (syscall(__NR_mbind, start(area), area->span, MPOL_BIND, &mask, 64, MPOL_MF_MOVE) ||
	     syscall(__NR_mbind, start(area), area->span, MPOL_DEFAULT, NULL, 0, 0)))
		ret = guest_fail("mbind");
	return ret;
}

static int compact(struct ctx *ctx, struct area *area)
{
	(void)ctx;
	(void)area;
	return guest_write("/proc/sys/vm/compact_memory", "1");
}

/* It is no error that there is less to have. */
static int reclaim(struct ctx *ctx, struct area *area)
{
	int ret;

	(void)area;
	if (!ctx->group)
		return odp_fail(ENODEV, "unavailable: no memory cgroup");
	ret = guest_write(GROUP "/memory.reclaim", "4M");
	return ret == -EAGAIN ? 0 : ret;
}

static int swap_off_and_on(struct ctx *ctx, struct area *area)
{
	char path[128];
	int ret;

	(void)ctx;
	ret = guest_need_swap(path);
	if (ret)
		return ret;
	if (madvise(area->addr, GUARD, MADV_PAGEOUT) ||
	    madvise(start(area), area->span, MADV_PAGEOUT))
		return guest_fail("MADV_PAGEOUT");
	if (swapoff(path) || swapon(path, 0))
		return guest_fail("swapoff, swapon");
	return 0;
}

/*
 * What an event must do, by the class of the memory, in the order of enum class:
 *
 *   =  nothing that is seen			-  makes no sense
 *   i  the same, but the region's pages go	g  there is nothing any more
 *   0  zeroes					f  what the file has
 *   h  zeroes in the file			t  zeroes in the file and in what is private
 *   s  what is behind moves forward		k  so it does in the file, and what is private stays
 *   p  the memory has failed
 *   e EINVAL  a EACCES  d ENODEV  o EOPNOTSUPP  x EIO: refused, and nothing happens
 */
static const struct event events[] = {
	{ "none", nothing, "=========", MIDDLE, 0, 0, 0 },
	{ "munmap", unmap, "ggggggggg", MIDDLE, 0, 0, 0 },
	{ "dontneed", advise, "00iiififi", MIDDLE, 0, 0, MADV_DONTNEED },
	{ "punch_hole", file_allocate, "--000h0h-", MIDDLE, 0, NO_FD,
	  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
	{ "truncate", truncate_file, "--000t0t-", TO_END, 0, NO_FD, 0 },
	{ "fork", fork_both_write, "ii===i=i=", MIDDLE, 0, 0, 0 },
	{ "mremap_move", move, "iiiiiiiii", MIDDLE, 0, 0, 0 },
	{ "hwpoison", poison, "ppppip---", ONE, 0, 0, 0 },
	{ "mprotect", protect, "iiiiiiiii", MIDDLE, 0, 0, 0 },
	{ "map_over", map_over, "00iiififi", MIDDLE, 0, NO_FD, 0 },
	{ "mremap_grow", grow, "0eeiififi", TAIL, 0, 0, 0 },
	{ "mremap_shrink", shrink, "ggggggggg", TAIL, 0, 0, 0 },
	{ "soft_offline", soft_offline, "iiii==x-x", ONE, 0, 0, 0 },
	{ "collapse", collapse, "0--i-----", ONE, HUGE, 0, 0 },
	{ "thp_split", split_thp, "=--=-----", MIDDLE, HUGE, 0, 0 },
	{ "khugepaged", race_khugepaged, "=--=-----", MIDDLE, HUGE, 0, 0 },
	{ "uffdio_move", move_by_uffd, "i--------", MIDDLE, 0, 0, 0 },
	{ "pagemap_scan", scan_pagemap, "=--=-----", MIDDLE, 0, 0, 0 },
	{ "free", advise_free, "ieeeeeeee", MIDDLE, 0, 0, 0 },
	{ "remove", advise, "ea000a0ad", MIDDLE, 0, 0, MADV_REMOVE },
	{ "pageout", advise, "=ee======", MIDDLE, 0, 0, MADV_PAGEOUT },
	{ "swap_off_on", swap_off_and_on, "=--=-----", MIDDLE, 0, 0, 0 },
	{ "memcg_reclaim", reclaim, "=========", MIDDLE, 0, 0, 0 },
	{ "collapse_range", collapse_file, "--oossss-", TO_END, 0, NO_FD, 0 },
	{ "zero_range", file_allocate, "--oo0h0h-", MIDDLE, 0, NO_FD, FALLOC_FL_ZERO_RANGE },
	{ "unlink", unlink_file, "---=====-", MIDDLE, NAMED, 0, 0 },
	{ "move_pages", move_pages, "=========", MIDDLE, 0, 0, 0 },
	{ "compaction", compact, "=========", MIDDLE, 0, 0, 0 },
	{ "msync", sync_memory, "========e", MIDDLE, 0, 0, 0 },
	{ "sync_drop", sync_and_drop, "=========", MIDDLE, 0, 0, 0 },
	{ "clear_refs", clear_refs, "=========", MIDDLE, 0, 0, 0 },
	{ "mergeable", mergeable, "=========", MIDDLE, 0, 0, 0 },
	{ "cold", advise, "=ee======", MIDDLE, 0, 0, MADV_COLD },
	{ "hugepage", advise, "=--======", MIDDLE, 0, 0, MADV_HUGEPAGE },
	{ "nohugepage", advise, "=--======", MIDDLE, 0, 0, MADV_NOHUGEPAGE },
	{ "dontfork", dont_fork, "=========", MIDDLE, 0, 0, 0 },
	{ "wipeonfork", wipe_on_fork, "=eeeeeeee", MIDDLE, 0, 0, 0 },
	{ "child_exec", fork_child, "=========", MIDDLE, 0, 0, 0 },
	{ "child_exit", fork_child, "=========", MIDDLE, 0, 0, 1 },
	{ "child_context", fork_child, "=========", MIDDLE, 0, 0, 2 },
};

/* Where a kind is not like its class. */
static const struct {
	const char *kind, *event;
	char effect;
} exceptions[] = {
	/* Its handler gives it the same bytes again. */
	{ "uffd_missing", "dontneed", 'f' },
	{ "uffd_missing", "mremap_grow", 'f' },
	/* Memory is under one userfaultfd only. */
	{ "uffd_missing", "uffdio_move", '-' },
	{ "uffd_missing", "pagemap_scan", '-' },
	{ "uffd_minor", "pagemap_scan", '-' },
	{ "uffd_wp", "uffdio_move", '-' },
	{ "uffd_wp", "pagemap_scan", '-' },
	/*
	 * Stock 6.12 under QEMU shows the child zeroes in place of a page of 1 GiB now and
	 * then, without any device.
	 */
	{ "gigantic_private", "fork", '-' },
	{ "gigantic_private", "child_context", '-' },
	/* XFS takes nothing away from who has a page of his own; ext4 does. */
	{ "xfs_private", "collapse_range", 'k' },
	{ "fsdax_xfs_private", "collapse_range", 'k' },
	/* A handler knows nothing of pages that failed. */
	{ "uffd_missing", "hwpoison", '-' },
	{ "uffd_minor", "hwpoison", '-' },
	{ "uffd_wp", "hwpoison", '-' },
	/* A page that failed is that of others, too; and one that is shared is not moved. */
	{ "ksm", "hwpoison", '-' },
	{ "ksm", "uffdio_move", '-' },
	{ "device_private", "hwpoison", '-' },
	/* It takes a write to get the page that would be dirty. */
	{ "readonly", "hwpoison", '-' },
};

static int errno_of(char effect)
{
	switch (effect) {
	case 'e':
		return EINVAL;
	case 'a':
		return EACCES;
	case 'd':
		return ENODEV;
	case 'o':
		return EOPNOTSUPP;
	case 'x':
		return EIO;
	default:
		return 0;
	}
}

/* --- a subtest -------------------------------------------------------------------- */

static void place(struct area *area, enum where where)
{
	switch (where) {
	case ONE:
		area->span = area->kind->is & BIG ? area->step : PAGE;
		break;
	case TAIL:
		area->at = area->length - area->span;
		break;
	case TO_END:
		area->span = area->length - area->at;
		break;
	default:
		break;
	}
}

/* The same to the model. */
static void apply(struct area *area, char effect)
{
	uint8_t *file = area->disk ?: area->model;
	size_t page, at = area->at, span = area->span;

	for (page = at / PAGE; page < (at + span) / PAGE; page++) {
		if (effect == 'g' || effect == 'p')
			area->state[page] = effect == 'g' ? GONE : POISONED;
		if (effect == '0' || effect == 't' || (effect == 'h' && !area->cow[page]))
			memset(area->model + page * PAGE, 0, PAGE);
	}
	if (area->disk && (effect == 'h' || effect == 't'))
		memset(file + at, 0, span);
	if (effect == 's' || effect == 'k') {
		memmove(file + at, file + at + area->step, span - area->step);
		memset(file + at + span - area->step, 0, area->step);
		/* It becomes shorter, and longer again. */
		memset(area->cow + (at + span - area->step) / PAGE, 0, area->step / PAGE);
	}
	for (page = at / PAGE; area->disk && page < (at + span) / PAGE; page++)
		if (effect == 's' || effect == 'f' || (effect == 'k' && !area->cow[page]))
			memcpy(area->model + page * PAGE, file + page * PAGE, PAGE);
	if (strchr("fts", effect))
		memset(area->cow + at / PAGE, 0, span / PAGE);
}

static bool takes_pages(char effect)
{
	return strchr("i0ghftskp", effect);
}

static int event(struct ctx *ctx, struct area *area, const struct odp_counters *before)
{
	const char effect = ctx->test->effect;
	struct odp_counters after;
	int ret;

	ctx->wanted = errno_of(effect);
	ret = ctx->test->event->run(ctx, area) ?: odp_counters(&area->mr, &after);
	ctx->wanted = 0;
	if (ret)
		return ret;
	if (takes_pages(effect) && after.invalidations == before->invalidations)
		return odp_fail(EPROTO, "no page of the region was invalidated");
	apply(area, effect);
	return 0;
}

/* What was taken has to be faulted in again. */
static int check_faults(struct ctx *ctx, struct area *area, const struct odp_counters *before)
{
	struct odp_counters after;
	int ret = odp_counters(&area->mr, &after);

	if (!ret && takes_pages(ctx->test->effect) && !strchr("gp", ctx->test->effect) &&
	    after.faults == before->faults)
		ret = odp_fail(EPROTO, "the device had no fault after the event");
	return ret;
}

static int steps(struct ctx *ctx, struct area *area)
{
	struct odp_counters counters;
	int ret;

	ctx->phase = "to begin with";
	ret = area_open(ctx, area, ctx->test->kind);
	if (ret)
		return ret;
	place(area, ctx->test->event->where);
	ret = area_reg(ctx, area, below(ctx, 3) == 0);
	if (ret)
		return ret;
	ctx->phase = "before the event";
	ret = traffic(ctx, area) ?: warm(ctx, area);
	if (ret)
		return ret;
	ctx->phase = "in the event";
	ret = odp_counters(&area->mr, &counters) ?: event(ctx, area, &counters);
	if (ret)
		return ret;
	ctx->phase = "just after the event";
	ret = check(ctx, area) ?: check_faults(ctx, area, &counters);
	if (ret)
		return ret;
	ctx->phase = "long after the event";
	ret = traffic(ctx, area) ?: check(ctx, area);
	if (!ret && area->gpu >= 0 && guest_count_pages(area->addr, area->length, GUEST_SWAPPED) > 0)
		ret = odp_fail(EPROTO, "pages are in the GPU's memory still");
	return ret;
}

static int run_subtest(struct ctx *ctx)
{
	const struct subtest *test = ctx->test;
	uint64_t deadline;
	struct area area;
	long before, after;
	int ret;

	before = guest_pins();
	ret = steps(ctx, &area);
	area_close(&area);
	ret = during(ret, "%s, %s, %s", test->kind->name, test->event->name, ctx->phase);
	/* What the disk was read with may be let go of a moment later. */
	deadline = odp_now() + 5000000000ULL;
	while ((after = guest_pins()) != before && odp_now() < deadline)
		nap();
	if (!ret && after != before)
		ret = odp_fail(EPROTO, "%s, %s: %ld pages are pinned, %ld were", test->kind->name,
			       test->event->name, after, before);
	return ret;
}

/* --- memory that is refused ------------------------------------------------------- */

static int secret(struct ctx *ctx)
{
	struct area area = { .length = 16 * PAGE };
	int ret;

	ret = guest_map_secret(&area.addr, area.length);
	if (ret)
		return ret;
	memset(area.addr, 0x55, area.length);
	ret = area_reg(ctx, &area, false) ?:
	      want_refusal(ctx, &area, PAGE + 7, IBV_WC_REM_ACCESS_ERR);
	if (!ret && (area.addr[0] != 0x55 || memcmp(area.addr, area.addr + 1, area.length - 1)))
		ret = odp_fail(EBADMSG, "secret memory was written");
	odp_dereg(&area.mr);
	munmap(area.addr, area.length);
	return during(ret, "secret, none");
}

/* --- a region that outlives its process -------------------------------------------- */

/* What the process that has the memory says to the one that uses it. */
struct offer {
	struct odp_address address;
	uint32_t rkey;
};

/*
 * In a child: memory at the address that the parent has it, too, if it is shared. Passes
 * the device's descriptor, and ends once it is told to: by exec, where the descriptor
 * goes on, or by exit.
 */
static int be_owner(const char *device, struct area *area, int sock, bool execute)
{
	struct ctx ctx = { .rng = 1 };
	struct odp_address peer;
	struct odp_pair pair = {};
	struct offer offer;
	char byte;
	int ret;

	ret = odp_open(&ctx.dev, device) ?: area_reg(&ctx, area, false) ?:
	      odp_connect_begin(&pair, &ctx.dev, &offer.address);
	if (ret)
		return ret;
	offer.rkey = area->mr.mr->rkey;
	if (write(sock, &offer, sizeof(offer)) != sizeof(offer) ||
	    read(sock, &peer, sizeof(peer)) != sizeof(peer))
		return guest_fail("socket");
	ret = odp_connect_to(&pair, &peer) ?: guest_send_fd(sock, ctx.dev.ctx->cmd_fd);
	if (ret)
		return ret;
	while (read(sock, &byte, 1) != 1)
		;
	if (execute) {
		fcntl(ctx.dev.ctx->cmd_fd, F_SETFD, 0);
		fcntl(ctx.dev.ctx->async_fd, F_SETFD, 0);
		execl("/bin/sleep", "sleep", "600", NULL);
	}
	_exit(0);
}

/* The memory has another process now, or none: so it is gone for the device. */
static int use_after_owner(struct ctx *ctx, struct area *area, pid_t pid, int sock, bool execute)
{
	uint64_t deadline = odp_now() + SETTLE_MS * 1000000ULL;
	char path[64], name[16] = "";
	int fd, status, ret;

	if (write(sock, "", 1) != 1)
		return guest_fail("socket");
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	while (execute && strncmp(name, "sleep", 5) && odp_now() < deadline) {
		nap();
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, name, sizeof(name)) < 0)
			return guest_fail(path);
		close(fd);
	}
	if (!execute && waitpid(pid, &status, 0) != pid)
		return guest_fail("waitpid");
	ret = want_status(ctx, area, IBV_WR_RDMA_READ, area->at, IBV_WC_REM_ACCESS_ERR);
	if (!ret && !is_private(area))
		ret = check_cpu(area) ?: check_file(area);
	return ret;
}

static int owner_of(struct ctx *ctx, struct area *area, const struct kind *kind, bool execute)
{
	int ret, fd = -1, sock[2];
	struct odp_address self;
	struct ibv_mr remote;
	struct offer offer;
	pid_t pid;

	ret = area_open(ctx, area, kind);
	if (ret)
		return ret;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock))
		return guest_fail("socketpair");
	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (be_owner(ctx->dev.name, area, sock[1], execute))
			fprintf(stderr, "# in the child: %s\n", odp_error());
		_exit(1);
	}
	close(sock[1]);
	odp_disconnect(&ctx->pair);
	ret = odp_connect_begin(&ctx->pair, &ctx->dev, &self);
	if (!ret && (read(sock[0], &offer, sizeof(offer)) != sizeof(offer) ||
		     write(sock[0], &self, sizeof(self)) != sizeof(self)))
		ret = odp_fail(EPROTO, "the child has ended");
	ret = ret ?: odp_connect_to(&ctx->pair, &offer.address);
	fd = ret ?: guest_receive_fd(sock[0]);
	ret = fd < 0 ? fd : 0;
	remote = (struct ibv_mr){ .rkey = offer.rkey };
	area->mr = (struct odp_mr){ .mr = &remote, .iova = (uintptr_t)area->addr };
	ret = ret ?: traffic(ctx, area) ?: check_device(ctx, area) ?:
	      use_after_owner(ctx, area, pid, sock[0], execute);
	area->mr.mr = NULL;
	if (fd >= 0)
		close(fd);
	close(sock[0]);
	if (pid > 0 && !kill(pid, SIGKILL))
		waitpid(pid, NULL, 0);
	odp_disconnect(&ctx->pair);
	return ret ?: want_pair(ctx);
}

/* Private memory is the child's from the fork on, and what is shared is the parent's, too. */
static int owner_ends(struct ctx *ctx, bool execute)
{
	static const char *const names[] = { "anonymous", "memfd", "ext4_shared", "hugetlb_shared" };
	struct area area;
	int ret = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names) && !ret; i++) {
		ret = during(owner_of(ctx, &area, kind_called(names[i]), execute), "%s", names[i]);
		area_close(&area);
	}
	return ret;
}

static int owner_exits(struct ctx *ctx)
{
	return owner_ends(ctx, false);
}

static int owner_executes(struct ctx *ctx)
{
	return owner_ends(ctx, true);
}

/* --- pins ------------------------------------------------------------------------- */

/* Persistent memory of a file cannot be pinned for long, and need not be. */
static int pins_fsdax(struct ctx *ctx)
{
	struct area area;
	struct odp_mr mr;
	int ret;

	ret = area_open(ctx, &area, kind_called(pmem_is_xfs() ? "fsdax_xfs_shared" : "fsdax_ext4_shared"));
	if (ret)
		goto out;
	ret = odp_reg(&mr, &ctx->dev, area.addr, area.length, ODP_ACCESS);
	if (!ret)
		odp_dereg(&mr);
	if (ret != -EOPNOTSUPP)
		ret = odp_fail(EPROTO, "pinning it: \"%s\", should be \"%s\"", strerror(-ret),
			       strerror(EOPNOTSUPP));
	else
		ret = area_reg(ctx, &area, false) ?: traffic(ctx, &area) ?: check(ctx, &area);
out:
	area_close(&area);
	return ret;
}

static int drop_right_to_lock(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return guest_fail("capget");
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	data[0].permitted &= ~(1U << CAP_IPC_LOCK);
	data[0].inheritable &= ~(1U << CAP_IPC_LOCK);
	return syscall(SYS_capset, &header, data) ? guest_fail("capset") : 0;
}

/* Pinning is refused under a limit of @limit bytes. */
static int refuse_pinning(struct odp_dev *dev, void *addr, rlim_t limit, int wanted)
{
	const struct rlimit rlimit = { .rlim_cur = limit, .rlim_max = limit };
	struct odp_mr mr;
	int ret;

	if (setrlimit(RLIMIT_MEMLOCK, &rlimit))
		return guest_fail("RLIMIT_MEMLOCK");
	ret = odp_reg(&mr, dev, addr, PEER, ODP_ACCESS);
	if (ret == -wanted)
		return 0;
	return odp_fail(EPROTO, "pinning with a limit of %lu: \"%s\", should be \"%s\"",
			(unsigned long)limit, strerror(-ret), strerror(wanted));
}

/* In a child. The device is opened anew: the kernel binds an open one to its rights. */
static int memlock_child(const char *device)
{
	struct ctx ctx = { .rng = 1 };
	struct odp_mem mem;
	struct area area;
	int ret;

	ret = drop_right_to_lock() ?: odp_open(&ctx.dev, device) ?:
	      odp_mem_map(&mem, ODP_MEM_ANON, PEER, NULL);
	if (ret)
		return ret;
	ctx.peer = mem.addr;
	return refuse_pinning(&ctx.dev, mem.addr, PAGE, ENOMEM) ?:
	       refuse_pinning(&ctx.dev, mem.addr, 0, EPERM) ?:
	       odp_reg(&ctx.peer_mr, &ctx.dev, mem.addr, PEER, ODP_ACCESS | IBV_ACCESS_ON_DEMAND) ?:
	       area_open(&ctx, &area, kind_called("anonymous")) ?: area_reg(&ctx, &area, false) ?:
	       want_pair(&ctx) ?: traffic(&ctx, &area) ?: check(&ctx, &area);
}

static int pins_memlock(struct ctx *ctx)
{
	char text[300] = "";
	int ret, status, report[2];
	pid_t pid;

	if (pipe(report))
		return guest_fail("pipe");
	fflush(stdout);
	pid = fork();
	if (!pid) {
		ret = memlock_child(ctx->dev.name);
		if (ret && write(report[1], odp_error(), strlen(odp_error())) < 0)
			_exit(2);
		_exit(ret ? 1 : 0);
	}
	close(report[1]);
	ret = pid < 0 ? guest_fail("fork") : 0;
	if (!ret && read(report[0], text, sizeof(text) - 1) < 0)
		ret = guest_fail("pipe");
	close(report[0]);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && !ret && status)
		ret = odp_fail(EPROTO, "in the child: %s (status %#x)", text, status);
	return ret;
}

/*
 * The references that eight pages of the memory have, as the kernel's dump_page() says
 * it, one more than there are while it does so.
 */
static int references(const struct area *area, int count[8])
{
	struct gup_test test = {
		.addr = (uintptr_t)area->addr, .size = area->length,
		.pages_per_call = area->length / PAGE,
	};
	int log, gup, i, found = 0, ret = 0;
	char line[1024], *at;
	ssize_t n;

	for (i = 0; i < 8; i++)
		test.which[i] = 1 + i * test.pages_per_call / 8;
	/* Each CPU has references to pages that are on their way to a list. */
	guest_write("/proc/sys/vm/drop_caches", "1");
	log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	gup = open("/sys/kernel/debug/gup_test", O_RDWR | O_CLOEXEC);
	if (log < 0 || lseek(log, 0, SEEK_END) < 0 || gup < 0 || ioctl(gup, DUMP_PAGES, &test))
		ret = guest_fail("gup_test");
	while (!ret && found < 8 && (n = read(log, line, sizeof(line) - 1)) > 0) {
		line[n] = 0;
		at = strstr(line, ";page: refcount:");
		if (at && sscanf(at, ";page: refcount:%d ", &count[found]) == 1)
			found++;
	}
	if (log >= 0)
		close(log);
	if (gup >= 0)
		close(gup);
	if (!ret && found != 8)
		ret = odp_fail(EPROTO, "the kernel described %d pages of 8", found);
	return ret;
}

static int same_references(const struct area *area, const int before[8], const char *when)
{
	int after[8], i, ret = references(area, after);

	for (i = 0; i < 8 && !ret; i++)
		if (after[i] != before[i])
			ret = odp_fail(EPROTO, "a page has %d references %s, it had %d", after[i],
				       when, before[i]);
	return ret;
}

static int pins_references_of(struct ctx *ctx, struct area *area, const struct kind *kind)
{
	int before[8], ret;

	ret = area_open(ctx, area, kind) ?: check_cpu(area) ?: references(area, before) ?:
	      area_reg(ctx, area, false) ?: traffic(ctx, area) ?: check_device(ctx, area) ?:
	      same_references(area, before, "in use");
	odp_dereg(&area->mr);
	return ret ?: same_references(area, before, "deregistered");
}

static int pins_references(struct ctx *ctx)
{
	static const char *const names[] = {
		"anonymous", "thp", "mthp", "hugetlb_private", "hugetlb_shared", "memfd",
		"memfd_huge", "ext4_shared", "stack",
	};
	struct area area;
	int ret = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names) && !ret; i++) {
		ret = during(pins_references_of(ctx, &area, kind_called(names[i])), "%s", names[i]);
		area_close(&area);
	}
	return ret;
}

/*
 * Every page of memory that can be moved at all can be while it is registered and used.
 * Kinds that are not tried: DAX and devdax, which are where they are; and those whose
 * pages are not there, or have another user.
 */
static int all_to_node(struct area *area, int node)
{
	uint64_t deadline = odp_now() + SETTLE_MS * 1000000ULL;
	long bad;
	int ret;

	/* A page may be on its way to a list for a moment. */
	do {
		guest_write("/proc/sys/vm/drop_caches", "1");
		ret = pages_to_node(area->addr, area->length, node, &bad);
	} while (!ret && bad && odp_now() < deadline);
	return ret ?: bad ? odp_fail(EPROTO, "%ld pages cannot be moved to node %d", bad, node) : 0;
}

static int pins_move_pages_of(struct ctx *ctx, struct area *area, const struct kind *kind)
{
	int ret;

	ret = area_open(ctx, area, kind) ?: check_cpu(area) ?: area_reg(ctx, area, false) ?:
	      traffic(ctx, area) ?: check_device(ctx, area);
	if (!ret && has_two_nodes())
		ret = all_to_node(area, 1) ?: traffic(ctx, area);
	return ret ?: all_to_node(area, 0) ?: traffic(ctx, area) ?: check(ctx, area);
}

static int pins_move_pages(struct ctx *ctx)
{
	struct area area;
	int ret = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds) && !ret; i++) {
		if (!is_here(&kinds[i]) || !(kinds[i].is & MOVABLE))
			continue;
		ret = during(pins_move_pages_of(ctx, &area, &kinds[i]), "%s", kinds[i].name);
		area_close(&area);
	}
	return ret;
}

/* --- what is done to a file while the device uses it ------------------------------- */

/* Its blocks go and come, for as long as it is told to. */
static void *change_layout(void *arg)
{
	struct area *area = arg;
	const off_t at = area->at, length = area->span;

	while (!__atomic_load_n(&area->stop, __ATOMIC_RELAXED)) {
		if (fallocate(area->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length) ||
		    fallocate(area->fd, 0, at, length) ||
		    fallocate(area->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, at, length))
			return (void *)(intptr_t)errno;
		__atomic_add_fetch(&area->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Writes and reads, whose bytes nobody can know, until the file has changed that often. */
static int use_while_it_changes(struct ctx *ctx, struct area *area, int rounds)
{
	uint64_t deadline = odp_now() + SETTLE_MS * 1000000ULL;
	size_t at;
	int ret = 0;

	while (!ret && __atomic_load_n(&area->rounds, __ATOMIC_RELAXED) < rounds) {
		at = below(ctx, area->length - PEER);
		ret = odp_write(&ctx->pair, &ctx->peer_mr, 0, &area->mr, at, PAGE) ?:
		      odp_read(&ctx->pair, &ctx->peer_mr, 0, &area->mr, at, PEER);
		if (!ret && odp_now() > deadline)
			ret = odp_fail(EBUSY, "the file was changed %d times of %d", area->rounds,
				       rounds);
	}
	return ret;
}

static int layout_of(struct ctx *ctx, struct area *area, const struct kind *kind)
{
	void *err = NULL;
	size_t at;
	int ret;

	ret = area_open(ctx, area, kind);
	area->at = 0;
	area->span = area->length;
	ret = ret ?: area_reg(ctx, area, false) ?: start_thread(area, change_layout, NULL) ?:
	      use_while_it_changes(ctx, area, 50);
	__atomic_store_n(&area->stop, true, __ATOMIC_RELAXED);
	if (area->has_thread)
		pthread_join(area->thread, &err);
	area->has_thread = false;
	if (!ret && err)
		ret = odp_fail(EPROTO, "fallocate: %s", strerror((intptr_t)err));
	for (at = 0; at < area->length && !ret; at += PEER)
		ret = device_write(ctx, area, at, PEER);
	return ret ?: check(ctx, area);
}

/* A file system waits for those who use a DAX page; nobody does. */
static int pins_layout(struct ctx *ctx)
{
	struct area area;
	int ret = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds) && !ret; i++) {
		if (!is_here(&kinds[i]) || kinds[i].map != map_file || kinds[i].is & READONLY ||
		    kinds[i].variant == MAP_PRIVATE)
			continue;
		ret = during(layout_of(ctx, &area, &kinds[i]), "%s", kinds[i].name);
		area_close(&area);
	}
	return ret;
}

/* All of it goes while regions are registered: the file system cannot be busy for them. */
static int file_goes(struct ctx *ctx, const char *dir, bool implicit)
{
	const struct kind kind = {
		.name = "file", .class = CACHE, .map = map_file, .dir = dir, .variant = MAP_SHARED,
	};
	struct area area;
	int ret;

	ret = area_open(ctx, &area, &kind) ?: area_reg(ctx, &area, implicit) ?:
	      traffic(ctx, &area) ?: warm(ctx, &area);
	if (ret)
		goto out;
	if (fallocate(area.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, area.at, area.span) ||
	    ftruncate(area.fd, area.at) || unlink(area.path) || munmap(area.addr, area.length) ||
	    close(area.fd))
		ret = guest_fail("punching a hole, truncating, unlinking, unmapping, closing");
	area.path[0] = 0;
	area.fd = -1;
	if (!ret && umount2(dir, 0))
		ret = guest_fail("umount");
	ret = ret ?: want_refusal(ctx, &area, 0, IBV_WC_REM_ACCESS_ERR);
out:
	area_close(&area);
	return during(ret, "%s, %s region", dir, implicit ? "implicit" : "explicit");
}

static int pins_umount(struct ctx *ctx)
{
	int i, ret = 0;

	mkdir("/run/kinds-tmpfs", 0700);
	for (i = 0; i < 2 && !ret; i++) {
		if (mount("tmpfs", "/run/kinds-tmpfs", "tmpfs", 0, NULL))
			return guest_fail("mount");
		ret = file_goes(ctx, "/run/kinds-tmpfs", i);
		umount2("/run/kinds-tmpfs", MNT_DETACH);
		ret = ret ?: mount_loop("ext4", "/run/kinds-ext4") ?:
		      file_goes(ctx, "/run/kinds-ext4", i);
	}
	umount2("/run/kinds-ext4", MNT_DETACH);
	return ret;
}

/* --- the list of subtests --------------------------------------------------------- */

static struct subtest tests[ARRAY_SIZE(kinds) * ARRAY_SIZE(events) + 16];
static size_t tests_count;

static char effect_of(const struct kind *kind, const struct event *event)
{
	size_t i;

	if ((kind->is & event->needs) != event->needs || kind->is & event->never)
		return '-';
	for (i = 0; i < ARRAY_SIZE(exceptions); i++)
		if (!strcmp(exceptions[i].kind, kind->name) &&
		    !strcmp(exceptions[i].event, event->name))
			return exceptions[i].effect;
	return event->effect[kind->class];
}

static void add(const struct kind *kind, const struct event *event)
{
	struct subtest *test = &tests[tests_count++];
	int wanted;

	test->kind = kind;
	test->event = event;
	test->effect = effect_of(kind, event);
	wanted = errno_of(test->effect);
	snprintf(test->name, sizeof(test->name), "%s__%s%s%s", kind->name, event->name,
		 wanted ? "__" : "", wanted ? strerrorname_np(wanted) : "");
}

static void add_other(const char *name, int (*run)(struct ctx *ctx))
{
	struct subtest *test = &tests[tests_count++];

	snprintf(test->name, sizeof(test->name), "%s", name);
	test->run = run;
}

static void add_all(void)
{
	size_t k, e;

	for (k = 0; k < ARRAY_SIZE(kinds); k++)
		for (e = 0; e < ARRAY_SIZE(events) && is_here(&kinds[k]); e++)
			if (effect_of(&kinds[k], &events[e]) != '-')
				add(&kinds[k], &events[e]);
	add_other("secret__none", secret);
	add_other("owner_exits", owner_exits);
	add_other("owner_executes", owner_executes);
	add_other("pins_fsdax", pins_fsdax);
	add_other("pins_memlock", pins_memlock);
	add_other("pins_references", pins_references);
	add_other("pins_move_pages", pins_move_pages);
	add_other("pins_layout", pins_layout);
	add_other("pins_umount", pins_umount);
}

static const char *name_test(size_t i)
{
	return i < tests_count ? tests[i].name : NULL;
}

/* --- running them ----------------------------------------------------------------- */

/*
 * The kernel tells who maps a page that fails; who ignores that is killed. An access of
 * the test's own to what is not there would be one without end.
 */
static void take_sigbus(int number, siginfo_t *info, void *where)
{
	static int taken;

	(void)where;
	if ((info->si_code != BUS_MCEERR_AR && info->si_code != BUS_MCEERR_AO) || ++taken > 1000)
		signal(number, SIG_DFL);
}

static int open_ctx(void *arg, const char *device)
{
	const struct sigaction action = { .sa_sigaction = take_sigbus, .sa_flags = SA_SIGINFO };
	struct ctx *ctx = arg;

	sigaction(SIGBUS, &action, NULL);
	guest_write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	mkdir(GROUP, 0755);
	ctx->group = !guest_write(GROUP "/cgroup.procs", "0");
	return guest_open_peer(&ctx->dev, device, &ctx->peer_mr, &ctx->peer, PEER);
}

static void close_ctx(void *arg)
{
	struct ctx *ctx = arg;

	odp_disconnect(&ctx->pair);
	guest_close_peer(&ctx->dev, &ctx->peer_mr, ctx->peer);
	umount2(XFS, MNT_DETACH);
	guest_write("/sys/fs/cgroup/cgroup.procs", "0");
	rmdir(GROUP);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	struct ctx *ctx = arg;
	int ret;

	ctx->rng = seed;
	ctx->test = &tests[i];
	ret = want_pair(ctx);
	if (ret)
		return ret;
	return ctx->test->run ? ctx->test->run(ctx) : run_subtest(ctx);
}

static int recover(void *arg)
{
	struct ctx *ctx = arg;

	ctx->wanted = 0;
	odp_disconnect(&ctx->pair);
	return 0;
}

int main(int argc, char **argv)
{
	struct ctx ctx = {};
	const struct suite suite = {
		.program = "test-kinds",
		.about = "Every kind of memory, and everything that the mm does to it, under RDMA. Wants\n"
			 "root, swap, huge pages, /mnt/ext4, /mnt/pmem and /dev/dax1.0: see tests/vm/run.",
		.ctx = &ctx,
		.dev = &ctx.dev,
		.needs_odp = true,
		.name = name_test,
		.open = open_ctx,
		.close = close_ctx,
		.run = run_test,
		.recover = recover,
	};

	add_all();
	return suite_main(&suite, argc, argv);
}
