// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: page faults on both sides of a link that loses packets: every byte, once, in order
 * stage: check
 * where: guest
 * kernels: tree debug
 * vm: --two-nodes
 * budget: 120
 *
 * A requester, a completer and a responder that are run again after a page fault
 * meet what was lost or sent twice: replayed READs, duplicates of what waits, NAKs
 * that did not arrive. Both ends' memory is userfaultfd's, and its handler takes a
 * random time for each page.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "suite.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE		4096UL
#define BLOCK		(5 * PAGE)		/* one message */
#define BLOCKS		48
#define LENGTH		(BLOCKS * BLOCK)
#define UNDER_WAY	6

struct side {
	struct odp_dev dev;
	struct odp_pair pair;		/* only its local end */
	struct odp_mem mem;
	struct odp_mr mr;
	uint8_t *content;		/* what the memory should hold */
	uint8_t *origin;		/* what the handler provides */
	uint64_t rng;
	pthread_t thread;
	int fd;
	bool stop;
	unsigned int answered;
};

struct ctx {
	struct side near, far;		/* the requester's, and the responder's */
};

/* --- a side ----------------------------------------------------------------------------- */

static void *handle(void *arg)
{
	struct side *side = arg;
	struct pollfd pollfd = { .fd = side->fd, .events = POLLIN };
	struct uffd_msg msg;

	while (!__atomic_load_n(&side->stop, __ATOMIC_RELAXED)) {
		size_t offset;

		if (poll(&pollfd, 1, 20) != 1 ||
		    read(side->fd, &msg, sizeof(msg)) != sizeof(msg) ||
		    msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		/* Most at once; some longer than a responder is silent. */
		if (odp_random(&side->rng) % 4 == 0)
			usleep(odp_random(&side->rng) % 40000);
		offset = (msg.arg.pagefault.address & -PAGE) - (uintptr_t)side->mem.addr;
		if (!guest_uffd_copy(side->fd, (uint8_t *)side->mem.addr + offset,
				     side->origin + offset, PAGE))
			side->answered++;
	}
	return NULL;
}

static int side_open(struct side *side, uint64_t seed)
{
	int ret;

	side->rng = seed;
	side->stop = false;
	side->answered = 0;
	ret = odp_mem_map(&side->mem, ODP_MEM_ANON, LENGTH, NULL);
	if (ret)
		return ret;
	side->content = malloc(LENGTH);
	side->origin = malloc(LENGTH);
	if (!side->content || !side->origin)
		return guest_fail("malloc");
	odp_fill(side->origin, LENGTH, seed, 0);
	memcpy(side->content, side->origin, LENGTH);
	side->fd = guest_uffd(side->mem.addr, LENGTH, 0);
	if (side->fd < 0)
		return side->fd;
	ret = odp_reg(&side->mr, &side->dev, side->mem.addr, LENGTH,
		      ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!ret && pthread_create(&side->thread, NULL, handle, side))
		ret = odp_fail(EAGAIN, "pthread_create");
	return ret;
}

static void side_close(struct side *side)
{
	odp_disconnect(&side->pair);
	odp_dereg(&side->mr);
	if (side->thread) {
		__atomic_store_n(&side->stop, true, __ATOMIC_RELAXED);
		pthread_join(side->thread, NULL);
		side->thread = 0;
	}
	if (side->fd >= 0)
		close(side->fd);
	side->fd = -1;
	free(side->content);
	free(side->origin);
	side->content = side->origin = NULL;
	odp_mem_unmap(&side->mem);
}

static int connect_sides(struct ctx *ctx)
{
	struct odp_address near, far;
	int ret;

	ret = odp_connect_begin(&ctx->near.pair, &ctx->near.dev, &near);
	if (!ret)
		ret = odp_connect_begin(&ctx->far.pair, &ctx->far.dev, &far);
	if (!ret)
		ret = odp_connect_to(&ctx->near.pair, &far);
	return ret ? ret : odp_connect_to(&ctx->far.pair, &near);
}

static int check(struct side *side, const char *which)
{
	struct odp_mismatch bad;

	if (odp_compare(side->mem.addr, side->content, LENGTH, &bad))
		return 0;
	return odp_fail(EBADMSG, "%s: byte %zu is %#x, should be %#x; %zu wrong", which, bad.offset,
			bad.got, bad.expected, bad.count);
}

/* --- traffic ----------------------------------------------------------------------------- */

static enum ibv_wr_opcode opcode_of(size_t kind, size_t block)
{
	static const enum ibv_wr_opcode opcodes[] = {
		IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE, IBV_WR_SEND,
	};

	return opcodes[kind < ARRAY_SIZE(opcodes) ? kind : block % ARRAY_SIZE(opcodes)];
}

/* A message of a block, not from its beginning to its end, and what it has to do. */
static int post_block(struct ctx *ctx, size_t kind, size_t block, uint64_t *rng)
{
	size_t start = block * BLOCK + odp_random(rng) % PAGE;
	size_t length = BLOCK - 2 * PAGE + odp_random(rng) % PAGE;
	struct ibv_sge near = odp_sge(&ctx->near.mr, start, length);
	struct ibv_sge far = odp_sge(&ctx->far.mr, start, length);
	enum ibv_wr_opcode opcode = opcode_of(kind, block);
	int ret = 0;

	if (opcode == IBV_WR_SEND)
		ret = odp_post_recv(&ctx->far.pair.local, block, &far, 1);
	if (opcode == IBV_WR_RDMA_READ)
		memcpy(ctx->near.content + start, ctx->far.content + start, length);
	else
		memcpy(ctx->far.content + start, ctx->near.content + start, length);
	return ret ? ret : odp_post(&ctx->near.pair.local, opcode, block, &near, 1, &ctx->far.mr,
				    start);
}

static int want_next(struct odp_end *end, size_t block, const char *what)
{
	struct ibv_wc wc;
	int ret = odp_wait(end, &wc, ODP_WAIT_MS);

	if (ret || (wc.status == IBV_WC_SUCCESS && wc.wr_id == block))
		return ret;
	return odp_fail(EPROTO, "%s %zu: the completion is of %lu, \"%s\"", what, block, wc.wr_id,
			ibv_wc_status_str(wc.status));
}

static int traffic(struct ctx *ctx, size_t kind, uint64_t seed)
{
	size_t posted, done;
	int ret = 0;

	for (posted = done = 0; !ret && done < BLOCKS; ) {
		if (posted < BLOCKS && posted - done < UNDER_WAY) {
			ret = post_block(ctx, kind, posted++, &seed);
			continue;
		}
		ret = want_next(&ctx->near.pair.local, done, "message");
		if (!ret && opcode_of(kind, done) == IBV_WR_SEND)
			ret = want_next(&ctx->far.pair.local, done, "receive");
		done++;
	}
	return ret;
}

/* --- running them -------------------------------------------------------------------- */

static const char *const names[] = { "read", "write", "send", "mixed", "mixed_again" };

static const char *name_test(size_t i)
{
	return i < ARRAY_SIZE(names) ? names[i] : NULL;
}

static int open_ctx(void *arg, const char *device)
{
	struct ctx *ctx = arg;
	int ret;

	ret = odp_open(&ctx->near.dev, device ? device : "rxe0");
	return ret ? ret : odp_open(&ctx->far.dev, "rxe1");
}

static void close_ctx(void *arg)
{
	struct ctx *ctx = arg;

	odp_close(&ctx->far.dev);
	odp_close(&ctx->near.dev);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	struct ctx *ctx = arg;
	int ret;

	ctx->near.fd = ctx->far.fd = -1;
	ret = side_open(&ctx->near, seed);
	if (!ret)
		ret = side_open(&ctx->far, seed + 1);
	if (!ret)
		ret = connect_sides(ctx);
	if (!ret)
		ret = guest_lose(2);
	if (!ret)
		ret = traffic(ctx, i, seed);
	guest_lose(0);
	if (!ret)
		ret = check(&ctx->near, "the requester's memory");
	if (!ret)
		ret = check(&ctx->far, "the responder's memory");
	printf("# %s: the handlers answered %u and %u times\n", names[i], ctx->near.answered,
	       ctx->far.answered);
	side_close(&ctx->near);
	side_close(&ctx->far);
	return ret;
}

int main(int argc, char **argv)
{
	static struct ctx ctx;
	const struct suite suite = {
		.program = "test-lossy",
		.about = "Page faults at both ends of a link that loses packets.\n"
			 "Wants a guest of tests/vm/run --two-nodes.",
		.ctx = &ctx,
		.dev = &ctx.near.dev,
		.needs_odp = true,
		.name = name_test,
		.open = open_ctx,
		.close = close_ctx,
		.run = run_test,
	};

	return suite_main(&suite, argc, argv);
}
