// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: 600 queue pairs wait for pages that never come, and the others keep their pace
 * stage: check
 * where: guest
 * vm: --deterministic --memory 3G
 * budget: 120
 *
 * In a guest whose time counts instructions: how many operations another queue pair
 * completes in a span of it, undisturbed and with the 600, each a third of them in
 * the requester, the completer and the responder.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "suite.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096UL
#define STUCK		600
#define LENGTH		((STUCK + 1) * PAGE)
#define SPAN		(300 * 1000000UL)	/* ns of the guest's time */
#define SETTLE		4			/* seconds until the RNR timers are long */
#define KEEP		90			/* per cent */

static const struct odp_pair_attr small = {
	.mtu = 1024, .timeout = 14, .retry_cnt = 7, .rnr_retry = 7, .max_wr = 4, .max_sge = 1,
};

struct ctx {
	struct odp_dev dev;
	struct odp_mem mem;		/* page i is what pair i waits for; the last is there */
	struct odp_mr mr;
	int uffd;
	struct odp_mem peer_mem;
	struct odp_mr peer;		/* pinned */
	struct odp_mem other_mem;
	struct odp_mr other;		/* ODP, all there */
	struct odp_pair pair;		/* the one that is not stuck */
	struct odp_pair stuck[STUCK];
	uint64_t alone[2];		/* operations undisturbed, by run_test()'s i */
};

static int count(struct ctx *ctx, const struct odp_mr *mr, size_t offset, uint64_t *ops)
{
	uint64_t end = odp_now() + SPAN;
	int ret = 0;

	for (*ops = 0; !ret && odp_now() < end; (*ops)++)
		ret = odp_write(&ctx->pair, &ctx->peer, 0, mr, offset, 64);
	return ret;
}

static int park(struct ctx *ctx, unsigned int i)
{
	struct odp_pair *pair = &ctx->stuck[i];
	struct ibv_sge missing = odp_sge(&ctx->mr, i * PAGE, 64);
	struct ibv_sge there = odp_sge(&ctx->peer, 0, 64);
	int ret;

	ret = odp_connect(pair, &ctx->dev, &small);
	if (ret)
		return ret;
	switch (i % 3) {
	case 0:
		return odp_post(&pair->local, IBV_WR_RDMA_WRITE, 0, &missing, 1, &ctx->peer, 0);
	case 1:
		return odp_post(&pair->local, IBV_WR_RDMA_READ, 0, &missing, 1, &ctx->peer, 0);
	default:
		return odp_post(&pair->local, IBV_WR_RDMA_WRITE, 0, &there, 1, &ctx->mr, i * PAGE);
	}
}

static int park_all(struct ctx *ctx)
{
	uint64_t before = guest_counter(&ctx->dev, "odp_parked"), waiting;
	struct ibv_wc wc;
	unsigned int i;
	int ret = 0;

	for (i = 0; !ret && i < STUCK; i++)
		ret = park(ctx, i);
	nanosleep(&(struct timespec){ .tv_sec = SETTLE }, NULL);
	waiting = guest_counter(&ctx->dev, "odp_parked") - before;
	if (!ret && waiting < STUCK)
		ret = odp_fail(EPROTO, "only %lu of %d wait", waiting, STUCK);
	for (i = 0; !ret && i < STUCK; i++)
		if (ibv_poll_cq(ctx->stuck[i].local.cq, 1, &wc))
			ret = odp_fail(EPROTO, "pair %u completed with \"%s\"", i,
				       ibv_wc_status_str(wc.status));
	return ret;
}

/* --- running them -------------------------------------------------------------------- */

static const char *const names[] = { "another_mr", "the_same_mr" };

static const char *name_test(size_t i)
{
	return i < ARRAY_SIZE(names) ? names[i] : NULL;
}

static int open_memory(struct ctx *ctx)
{
	int ret;

	ret = odp_mem_map(&ctx->mem, ODP_MEM_ANON, LENGTH, NULL);
	if (ret)
		return ret;
	((uint8_t *)ctx->mem.addr)[STUCK * PAGE] = 1;
	ctx->uffd = guest_uffd(ctx->mem.addr, LENGTH, 0);
	if (ctx->uffd < 0)
		return ctx->uffd;
	return odp_reg(&ctx->mr, &ctx->dev, ctx->mem.addr, LENGTH,
		       ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
}

static int open_ctx(void *arg, const char *device)
{
	struct ctx *ctx = arg;
	int ret;

	ret = odp_open(&ctx->dev, device);
	if (ret || !odp_supported(&ctx->dev))
		return ret;
	ret = odp_mem_map(&ctx->peer_mem, ODP_MEM_ANON, PAGE, NULL);
	if (!ret)
		ret = odp_reg(&ctx->peer, &ctx->dev, ctx->peer_mem.addr, PAGE, ODP_ACCESS);
	if (!ret)
		ret = odp_mem_map(&ctx->other_mem, ODP_MEM_ANON, PAGE, NULL);
	if (!ret)
		ret = odp_reg(&ctx->other, &ctx->dev, ctx->other_mem.addr, PAGE,
			      ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!ret)
		ret = open_memory(ctx);
	if (!ret)
		ret = odp_connect(&ctx->pair, &ctx->dev, NULL);
	/* Once to be warm, and then what is possible. */
	if (!ret)
		ret = count(ctx, &ctx->mr, STUCK * PAGE, &ctx->alone[0]);
	if (!ret)
		ret = count(ctx, &ctx->other, 0, &ctx->alone[0]);
	if (!ret)
		ret = count(ctx, &ctx->mr, STUCK * PAGE, &ctx->alone[1]);
	return ret ? ret : park_all(ctx);
}

static int run_test(void *arg, size_t i, __attribute__((unused)) uint64_t seed)
{
	struct ctx *ctx = arg;
	uint64_t ops;
	int ret;

	ret = count(ctx, i ? &ctx->mr : &ctx->other, i ? STUCK * PAGE : 0, &ops);
	if (ret)
		return ret;
	printf("# %s: %lu operations alone, %lu beside %d that wait: %lu %%\n", names[i],
	       ctx->alone[i], ops, STUCK, ops * 100 / ctx->alone[i]);
	if (ops * 100 < ctx->alone[i] * KEEP)
		return odp_fail(EPROTO, "less than %d %%", KEEP);
	return 0;
}

static void close_ctx(void *arg)
{
	struct ctx *ctx = arg;
	unsigned int i;

	for (i = 0; i < STUCK; i++)
		odp_disconnect(&ctx->stuck[i]);
	odp_disconnect(&ctx->pair);
	odp_dereg(&ctx->mr);
	odp_dereg(&ctx->other);
	odp_dereg(&ctx->peer);
	close(ctx->uffd);
	odp_mem_unmap(&ctx->mem);
	odp_mem_unmap(&ctx->other_mem);
	odp_mem_unmap(&ctx->peer_mem);
	odp_close(&ctx->dev);
}

int main(int argc, char **argv)
{
	static struct ctx ctx;
	const struct suite suite = {
		.program = "test-stuck",
		.about = "The pace of a queue pair beside 600 that wait for pages for ever.\n"
			 "Wants a guest of tests/vm/run --deterministic.",
		.ctx = &ctx,
		.dev = &ctx.dev,
		.needs_odp = true,
		.name = name_test,
		.open = open_ctx,
		.close = close_ctx,
		.run = run_test,
	};

	ctx.uffd = -1;
	return suite_main(&suite, argc, argv);
}
