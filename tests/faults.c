// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: faults that are not plain: userfaultfd, memory that is refused, pages that failed
 * stage: check
 * where: guest
 * vm: --pmem 256M --hugepages 16
 * budget: 90
 *
 * Each subtest makes a memory region on a kind of memory whose fault takes
 * another way than that of ordinary memory, lets the device access it, and
 * compares bytes, the completion's status, or what the kernel traced.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"
#include "suite.h"

#define PAGE		4096UL
#define PAGES		64
#define LENGTH		(PAGES * PAGE)

struct ctx {
	struct odp_dev dev;
	struct odp_pair pair;
	uint8_t *peer;			/* pinned, at the other end of every transfer */
	struct odp_mr peer_mr;
};

/* --- helpers ------------------------------------------------------------------ */

static int reg(struct ctx *ctx, struct odp_mr *mr, void *addr, size_t length)
{
	return odp_reg(mr, &ctx->dev, addr, length, ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
}

/* An operation that has to fail with @wanted. The queue pairs are new after it. */
static int want_status(struct ctx *ctx, enum ibv_wr_opcode opcode, const struct odp_mr *local,
		       const struct odp_mr *remote, enum ibv_wc_status wanted)
{
	struct ibv_sge sge = odp_sge(local, 0, 1000);
	struct ibv_wc wc;
	int ret;

	ret = odp_post(&ctx->pair.local, opcode, 0, &sge, 1, remote, 0);
	if (!ret)
		ret = odp_wait(&ctx->pair.local, &wc, ODP_WAIT_MS);
	odp_disconnect(&ctx->pair);
	if (!ret && wc.status != wanted)
		ret = odp_fail(EPROTO, "completed with \"%s\", not \"%s\"",
			       ibv_wc_status_str(wc.status), ibv_wc_status_str(wanted));
	return ret ? ret : odp_connect(&ctx->pair, &ctx->dev, NULL);
}

/*
 * The first bytes of @mr, as the responder's, the requester's and the completer's.
 * What the process may not do either is a wrong access; where the access is right
 * and the memory is not there, the operation has failed.
 */
static int want_refusal(struct ctx *ctx, const struct odp_mr *mr, bool wrong_access)
{
	const enum ibv_wc_status remote = wrong_access ? IBV_WC_REM_ACCESS_ERR : IBV_WC_REM_OP_ERR;
	const enum ibv_wc_status local = wrong_access ? IBV_WC_LOC_PROT_ERR : IBV_WC_LOC_QP_OP_ERR;
	const struct odp_mr *peer = &ctx->peer_mr;
	int ret;

	ret = want_status(ctx, IBV_WR_RDMA_READ, peer, mr, remote);
	if (!ret)
		ret = want_status(ctx, IBV_WR_RDMA_WRITE, peer, mr, remote);
	if (!ret)
		ret = want_status(ctx, IBV_WR_RDMA_WRITE, mr, peer, local);
	if (!ret)
		ret = want_status(ctx, IBV_WR_RDMA_READ, mr, peer, local);
	return ret;
}

/* --- userfaultfd ---------------------------------------------------------------- */

struct handler {
	pthread_t thread;
	int fd;
	uint8_t *addr;
	uint8_t *content;		/* what the memory is filled with */
	unsigned int delay_us;
	unsigned int faults;
	bool stop;
};

static void *handle_faults(void *arg)
{
	struct handler *handler = arg;
	struct pollfd pollfd = { .fd = handler->fd, .events = POLLIN };
	struct uffd_msg msg;

	while (!__atomic_load_n(&handler->stop, __ATOMIC_RELAXED)) {
		size_t offset;

		if (poll(&pollfd, 1, 50) != 1 ||
		    read(handler->fd, &msg, sizeof(msg)) != sizeof(msg) ||
		    msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		usleep(handler->delay_us);
		offset = (msg.arg.pagefault.address & ~(PAGE - 1)) - (uintptr_t)handler->addr;
		if (!guest_uffd_copy(handler->fd, handler->addr + offset,
				     handler->content + offset, PAGE))
			handler->faults++;
	}
	return NULL;
}

static int handler_open(struct handler *handler, uint8_t *addr, int flags)
{
	handler->addr = addr;
	handler->fd = guest_uffd(addr, LENGTH, flags);
	if (handler->fd < 0)
		return handler->fd;
	handler->content = malloc(LENGTH);
	if (!handler->content)
		return guest_fail("malloc");
	odp_fill(handler->content, LENGTH, 77, 0);
	if (pthread_create(&handler->thread, NULL, handle_faults, handler))
		return odp_fail(EAGAIN, "pthread_create");
	return 0;
}

static void handler_close(struct handler *handler)
{
	if (handler->thread) {
		__atomic_store_n(&handler->stop, true, __ATOMIC_RELAXED);
		pthread_join(handler->thread, NULL);
	}
	if (handler->fd > 0)
		close(handler->fd);
	free(handler->content);
}

static int map_anon(struct odp_mem *mem)
{
	return odp_mem_map(mem, ODP_MEM_ANON, LENGTH, NULL);
}

/* What the handler provides is what the device reads. */
static int uffd_read(struct ctx *ctx)
{
	struct handler handler = { .delay_us = 2000 };
	struct odp_mr mr = { 0 };
	struct odp_mem mem;
	int ret;

	ret = map_anon(&mem);
	if (!ret)
		ret = handler_open(&handler, mem.addr, 0);
	if (!ret)
		ret = reg(ctx, &mr, mem.addr, LENGTH);
	memset(ctx->peer, 0, LENGTH);
	if (!ret)
		ret = odp_read(&ctx->pair, &ctx->peer_mr, 0, &mr, 0, LENGTH);
	if (!ret)
		ret = guest_verify(ctx->peer, LENGTH, 77, 0, "what was read");
	if (!ret && handler.faults != PAGES)
		ret = odp_fail(EPROTO, "the handler answered %u faults, not %d", handler.faults,
			       PAGES);
	odp_dereg(&mr);
	handler_close(&handler);
	odp_mem_unmap(&mem);
	return ret;
}

/* The handler's bytes stay around what the device writes. */
static int uffd_write(struct ctx *ctx)
{
	struct handler handler = { .delay_us = 500 };
	struct odp_mr mr = { 0 };
	struct odp_mem mem;
	uint8_t *expected;
	int ret;

	expected = malloc(LENGTH);
	ret = expected ? map_anon(&mem) : guest_fail("malloc");
	if (!ret)
		ret = handler_open(&handler, mem.addr, 0);
	if (!ret)
		ret = reg(ctx, &mr, mem.addr, LENGTH);
	odp_fill(ctx->peer, LENGTH, 5, 0);
	if (!ret) {
		memcpy(expected, handler.content, LENGTH);
		memcpy(expected + 1000, ctx->peer, 10 * PAGE);
		ret = odp_write(&ctx->pair, &ctx->peer_mr, 0, &mr, 1000, 10 * PAGE);
	}
	if (!ret && memcmp(mem.addr, expected, LENGTH))
		ret = odp_fail(EBADMSG, "the memory is not what handler and device wrote");
	odp_dereg(&mr);
	handler_close(&handler);
	odp_mem_unmap(&mem);
	free(expected);
	return ret;
}

/* A descriptor for faults of user mode only does not see the device's: an error. */
static int uffd_user_mode_only(struct ctx *ctx)
{
	struct handler handler = { 0 };
	struct odp_mr mr = { 0 };
	struct odp_mem mem;
	int ret;

	ret = map_anon(&mem);
	if (!ret)
		ret = handler_open(&handler, mem.addr, UFFD_USER_MODE_ONLY);
	if (!ret)
		ret = reg(ctx, &mr, mem.addr, LENGTH);
	if (!ret)
		ret = want_refusal(ctx, &mr, true);
	if (!ret && handler.faults)
		ret = odp_fail(EPROTO, "the handler saw the fault");
	odp_dereg(&mr);
	handler_close(&handler);
	odp_mem_unmap(&mem);
	return ret;
}

/* --- memory that is refused ------------------------------------------------------ */

/* Secret memory is not in the kernel's direct map, present or not. */
static int secretmem(struct ctx *ctx)
{
	struct odp_mr mr = { 0 };
	uint8_t *addr;
	int ret;

	ret = guest_map_secret(&addr, LENGTH);
	if (ret)
		return ret;
	ret = reg(ctx, &mr, addr, LENGTH);
	if (!ret)
		ret = want_refusal(ctx, &mr, true);
	if (!ret) {
		memset(addr, 0x55, LENGTH);
		ret = want_refusal(ctx, &mr, true);
	}
	if (!ret && (addr[0] != 0x55 || memcmp(addr, addr + 1, LENGTH - 1)))
		ret = odp_fail(EBADMSG, "secret memory was written");
	odp_dereg(&mr);
	munmap(addr, LENGTH);
	return ret;
}

/* Behind the end of its file a mapping has no pages. */
static int behind_the_end(struct ctx *ctx)
{
	struct odp_mr mr = { 0 };
	uint8_t *addr;
	int fd, ret;

	fd = memfd_create("faults", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, PAGE))
		return guest_fail("memfd_create");
	addr = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED)
		return guest_fail("mmap");
	ret = reg(ctx, &mr, addr + PAGE, LENGTH - PAGE);
	if (!ret)
		ret = want_refusal(ctx, &mr, true);
	/* The file grows, and the same region works. */
	if (!ret && ftruncate(fd, LENGTH))
		ret = guest_fail("ftruncate");
	odp_fill(ctx->peer, LENGTH, 9, 0);
	if (!ret)
		ret = odp_write(&ctx->pair, &ctx->peer_mr, 0, &mr, 0, LENGTH - PAGE);
	if (!ret)
		ret = guest_verify(addr + PAGE, LENGTH - PAGE, 9, 0, "the file");
	odp_dereg(&mr);
	munmap(addr, LENGTH);
	close(fd);
	return ret;
}

static void ignore_signal(int number)
{
	(void)number;
}

/* A page that failed gives an error, its neighbours their bytes. */
static int poisoned_page(struct ctx *ctx)
{
	struct odp_mr mr = { 0 };
	struct odp_mem mem;
	int ret;

	ret = map_anon(&mem);
	if (ret)
		return ret;
	odp_fill(mem.addr, LENGTH, 3, 0);
	ret = reg(ctx, &mr, mem.addr, LENGTH);
	if (!ret)
		ret = odp_read(&ctx->pair, &ctx->peer_mr, 0, &mr, 0, LENGTH);
	/* The kernel tells who maps the page; who ignores that is killed. */
	signal(SIGBUS, ignore_signal);
	if (!ret && madvise(mem.addr, PAGE, MADV_HWPOISON))
		ret = guest_fail("MADV_HWPOISON");
	if (!ret)
		ret = want_refusal(ctx, &mr, false);
	memset(ctx->peer, 0, LENGTH);
	if (!ret)
		ret = odp_read(&ctx->pair, &ctx->peer_mr, PAGE, &mr, PAGE, LENGTH - PAGE);
	if (!ret && memcmp(ctx->peer + PAGE, (uint8_t *)mem.addr + PAGE, LENGTH - PAGE))
		ret = odp_fail(EBADMSG, "the pages beside it were read wrong");
	odp_dereg(&mr);
	odp_mem_unmap(&mem);
	return ret;
}

/*
 * A part of persistent memory is known to be bad, as the kernel notes it after a
 * machine check or when the platform says so. QEMU has no way to inject it.
 */
static int media_error(struct ctx *ctx)
{
	struct {
		struct fiemap map;
		struct fiemap_extent extent;
	} where = { .map = { .fm_length = PAGE, .fm_extent_count = 1 } };
	struct odp_mr mr = { 0 };
	char text[64];
	uint8_t *addr;
	int fd, ret;

	/* The file stays, so that nobody else gets its blocks. */
	fd = open("/mnt/pmem/bad", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return odp_fail(ENODEV, "unavailable: no /mnt/pmem (tests/vm/run --pmem)");
	addr = ftruncate(fd, LENGTH) ? MAP_FAILED :
		mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED)
		return guest_fail("/mnt/pmem/bad");
	odp_fill(addr, LENGTH, 21, 0);
	if (fsync(fd) || ioctl(fd, FS_IOC_FIEMAP, &where) || !where.map.fm_mapped_extents)
		return guest_fail("FS_IOC_FIEMAP");
	ret = reg(ctx, &mr, addr, LENGTH);
	if (!ret)
		ret = odp_read(&ctx->pair, &ctx->peer_mr, 0, &mr, 0, LENGTH);
	snprintf(text, sizeof(text), "%llu 8", where.extent.fe_physical / 512);
	if (!ret)
		ret = guest_write("/sys/block/pmem0/badblocks", text);
	if (!ret && madvise(addr, LENGTH, MADV_DONTNEED))
		ret = guest_fail("MADV_DONTNEED");
	if (!ret)
		ret = want_refusal(ctx, &mr, false);
	memset(ctx->peer, 0, LENGTH);
	if (!ret)
		ret = odp_read(&ctx->pair, &ctx->peer_mr, PAGE, &mr, PAGE, LENGTH - PAGE);
	if (!ret)
		ret = guest_verify(ctx->peer + PAGE, LENGTH - PAGE, 21, PAGE, "the rest of the file");
	odp_dereg(&mr);
	munmap(addr, LENGTH);
	close(fd);
	return ret;
}

/* --- tracepoints ------------------------------------------------------------------- */

static int tracepoints(struct ctx *ctx)
{
	struct odp_mr mr = { 0 };
	struct odp_mem mem;
	char text[128];
	int ret;

	ret = map_anon(&mem);
	if (ret)
		return ret;
	ret = reg(ctx, &mr, mem.addr, LENGTH);
	if (!ret)
		ret = guest_clear_trace();
	if (!ret)
		ret = guest_write(TRACING "events/mm_mirror/enable", "1");
	if (!ret)
		ret = odp_write(&ctx->pair, &ctx->peer_mr, 0, &mr, PAGE, 10);
	if (!ret)
		ret = odp_mem_discard(&mem, 0, LENGTH);
	guest_write(TRACING "events/mm_mirror/enable", "0");
	if (!ret) {
		snprintf(text, sizeof(text), "start=%#lx end=%#lx kind=write pages=1 order=0 ns=",
			 (uintptr_t)mem.addr + PAGE, (uintptr_t)mem.addr + 2 * PAGE);
		ret = guest_want_trace("mm_mirror_fault:", text);
	}
	if (!ret)
		ret = guest_want_trace("mm_mirror_fault:", " ret=0");
	if (!ret)
		ret = guest_want_trace("mm_mirror_invalidate:", "event=clear pages=1");
	odp_dereg(&mr);
	odp_mem_unmap(&mem);
	return ret;
}

/* --- running them -------------------------------------------------------------------- */

static const struct test {
	const char *name;
	int (*run)(struct ctx *ctx);
} tests[] = {
	{ "uffd_read", uffd_read },
	{ "uffd_write", uffd_write },
	{ "uffd_user_mode_only", uffd_user_mode_only },
	{ "secretmem", secretmem },
	{ "behind_the_end", behind_the_end },
	{ "poisoned_page", poisoned_page },
	{ "media_error", media_error },
	{ "tracepoints", tracepoints },
};

static const char *name_test(size_t i)
{
	return i < ARRAY_SIZE(tests) ? tests[i].name : NULL;
}

static int open_ctx(void *arg, const char *device)
{
	struct ctx *ctx = arg;

	return guest_open_peer(&ctx->dev, device, &ctx->peer_mr, &ctx->peer, LENGTH);
}

static void close_ctx(void *arg)
{
	struct ctx *ctx = arg;

	odp_disconnect(&ctx->pair);
	guest_close_peer(&ctx->dev, &ctx->peer_mr, ctx->peer);
}

/* Nothing is random here. */
static int run_test(void *arg, size_t i, __attribute__((unused)) uint64_t seed)
{
	struct ctx *ctx = arg;
	int ret = 0;

	if (!ctx->pair.local.qp)
		ret = odp_connect(&ctx->pair, &ctx->dev, NULL);
	return ret ?: tests[i].run(ctx);
}

static int recover(void *arg)
{
	struct ctx *ctx = arg;

	odp_disconnect(&ctx->pair);
	return 0;
}

int main(int argc, char **argv)
{
	struct ctx ctx = {};
	const struct suite suite = {
		.program = "test-faults",
		.about = "Faults that are not plain, on on-demand-paged memory.",
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
