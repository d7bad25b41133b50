// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: a request whose packet or answer is lost is executed once, and answered
 * stage: check
 * where: guest
 * kernels: tree
 * vm: --two-nodes --pmem 64M
 * budget: 120
 *
 * What is answered from a responder's resource, on a link that loses packets:
 * atomics, ATOMIC WRITE, FLUSH, and READs through a zero-based window. Each
 * subtest sends one request after the other until the responder has seen a few
 * duplicates. On ODP memory the page is taken away before each of them.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "rc.h"
#include "suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE		4096UL
#define LENGTH		(16 * PAGE)
#define WINDOW_AT	(3 * PAGE + 16)		/* the window's first byte in the memory */
#define WINDOW_LENGTH	(8 * PAGE)
#define WORD_AT		(9 * PAGE + 24)		/* the word in the memory */
#define READ_AT		(PAGE + 7)		/* what is read in the window, */
#define READ_LENGTH	(3 * PAGE)		/* three packets */
#define DUPLICATES	4
#define MAX_REQUESTS	400
#define RIGHTS		(ODP_ACCESS | IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_FLUSH_GLOBAL)

enum op { FETCH_ADD, CMP_SWAP, ATOMIC_WRITE, FLUSH_GLOBAL, FLUSH_PERSISTENT, READ, OPS };
static const char *const op_names[] = {
	"fetch_add", "cmp_swap", "atomic_write", "flush_global", "flush_persistent", "read",
};

struct ctx {
	struct odp_dev near, far;
	struct odp_pair pair;
	struct odp_mem local, remote;
	struct odp_mr local_mr, remote_mr;
	struct ibv_mw *mw;
	uint32_t rkey;
};

struct test {
	char name[48];
	enum op op;
	bool odp;
};

static struct test tests[2 * OPS];
static size_t test_count;

static uint8_t *at(const struct odp_mem *mem, size_t offset)
{
	return (uint8_t *)mem->addr + offset;
}

/* --- the two ends ------------------------------------------------------------------------- */

static int open_memory(struct ctx *ctx, const struct test *test, uint64_t seed)
{
	bool persistent = test->op == FLUSH_PERSISTENT;
	int rights = RIGHTS | IBV_ACCESS_MW_BIND | (test->odp ? IBV_ACCESS_ON_DEMAND : 0) |
		     (persistent ? IBV_ACCESS_FLUSH_PERSISTENT : 0);
	int ret;

	ret = odp_mem_map(&ctx->local, ODP_MEM_ANON, LENGTH, NULL) ?:
	      odp_mem_map(&ctx->remote, persistent ? ODP_MEM_FSDAX : ODP_MEM_MEMFD, LENGTH, NULL);
	if (ret)
		return ret;
	odp_fill(ctx->remote.addr, LENGTH, seed, 0);
	memset(at(&ctx->remote, WORD_AT), 0, 8);
	return odp_reg(&ctx->local_mr, &ctx->near, ctx->local.addr, LENGTH, ODP_ACCESS) ?:
	       odp_reg(&ctx->remote_mr, &ctx->far, ctx->remote.addr, LENGTH, rights);
}

/* The far end has the responder, whose window it is. */
static int connect_ends(struct ctx *ctx)
{
	struct odp_end *near = &ctx->pair.local, *far = &ctx->pair.remote;
	struct rc_attr attr = RC_ATTR_INIT;
	int ret;

	attr.rights = RIGHTS | IBV_ACCESS_FLUSH_PERSISTENT;
	attr.timeout = 14;	/* 67 ms */
	attr.retry_cnt = 7;
	ret = rc_create(near, &ctx->near, false) ?: rc_create(far, &ctx->far, false);
	return ret ?: rc_connect(near, &ctx->near, &ctx->far.gid, far->qp->qp_num, &attr) ?:
		      rc_connect(far, &ctx->far, &ctx->near.gid, near->qp->qp_num, &attr);
}

static int bind_window(struct ctx *ctx)
{
	struct ibv_send_wr *bad, wr = {
		.opcode = IBV_WR_BIND_MW, .send_flags = IBV_SEND_SIGNALED,
	};
	int ret;

	errno = 0;
	ctx->mw = ibv_alloc_mw(ctx->far.pd, IBV_MW_TYPE_2);
	if (!ctx->mw)
		return guest_fail("ibv_alloc_mw");
	ctx->rkey = ibv_inc_rkey(ctx->mw->rkey);
	wr.bind_mw.mw = ctx->mw;
	wr.bind_mw.rkey = ctx->rkey;
	wr.bind_mw.bind_info = (struct ibv_mw_bind_info){
		.mr = ctx->remote_mr.mr,
		.addr = ctx->remote_mr.iova + WINDOW_AT,
		.length = WINDOW_LENGTH,
		.mw_access_flags = (RIGHTS & ~IBV_ACCESS_LOCAL_WRITE) | IBV_ACCESS_ZERO_BASED |
				   (ctx->remote_mr.access & IBV_ACCESS_FLUSH_PERSISTENT),
	};
	ret = ibv_post_send(ctx->pair.remote.qp, &wr, &bad);
	return ret ? odp_fail(ret, "posting the bind: %s", strerror(ret)) :
		     odp_wait_success(&ctx->pair.remote, "bind", 0);
}

static void close_all(struct ctx *ctx)
{
	if (ctx->mw)
		ibv_dealloc_mw(ctx->mw);
	ctx->mw = NULL;
	odp_disconnect(&ctx->pair);
	odp_dereg(&ctx->local_mr);
	odp_dereg(&ctx->remote_mr);
	odp_mem_unmap(&ctx->local);
	odp_mem_unmap(&ctx->remote);
}

/* --- requests ------------------------------------------------------------------------------- */

/* Number @i of the subtest. All addresses are the window's. */
static int request(struct ctx *ctx, enum op op, uint64_t i)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(ctx->pair.local.qp);
	struct ibv_send_wr *bad, wr = {
		.opcode = IBV_WR_RDMA_READ, .send_flags = IBV_SEND_SIGNALED, .num_sge = 1,
		.wr.rdma = { .remote_addr = READ_AT, .rkey = ctx->rkey },
	};
	struct ibv_sge sge = odp_sge(&ctx->local_mr, 0, op == READ ? READ_LENGTH : 8);
	uint64_t word = WORD_AT - WINDOW_AT, value = i + 1;
	int ret;

	if (op == READ) {
		wr.sg_list = &sge;
		ret = ibv_post_send(ctx->pair.local.qp, &wr, &bad);
		return ret ? odp_fail(ret, "posting a READ: %s", strerror(ret)) : 0;
	}
	ibv_wr_start(qp);
	qp->wr_id = i;
	qp->wr_flags = IBV_SEND_SIGNALED;
	switch (op) {
	case FETCH_ADD:
		ibv_wr_atomic_fetch_add(qp, ctx->rkey, word, 1);
		break;
	case CMP_SWAP:
		ibv_wr_atomic_cmp_swp(qp, ctx->rkey, word, i, value);
		break;
	case ATOMIC_WRITE:
		ibv_wr_atomic_write(qp, ctx->rkey, word, &value);
		break;
	default:
		ibv_wr_flush(qp, ctx->rkey, READ_AT, READ_LENGTH,
			     op == FLUSH_GLOBAL ? IBV_FLUSH_GLOBAL : IBV_FLUSH_PERSISTENT,
			     IBV_FLUSH_RANGE);
	}
	if (op == FETCH_ADD || op == CMP_SWAP)
		ibv_wr_set_sge(qp, sge.lkey, sge.addr, sge.length);
	ret = ibv_wr_complete(qp);
	return ret ? odp_fail(ret, "posting request %lu: %s", i, strerror(ret)) : 0;
}

/* What request @i has to have done: @seed is of the responder's memory. */
static int check(struct ctx *ctx, enum op op, uint64_t i, uint64_t seed)
{
	uint64_t old, word;

	memcpy(&old, ctx->local.addr, 8);
	memcpy(&word, at(&ctx->remote, WORD_AT), 8);
	switch (op) {
	case FETCH_ADD:
	case CMP_SWAP:
		if (old == i && word == i + 1)
			return 0;
		return odp_fail(EBADMSG, "number %lu found %lu, and left %lu", i, old, word);
	case ATOMIC_WRITE:
		return word == i + 1 ? 0 : odp_fail(EBADMSG, "number %lu left %lu", i, word);
	case READ:
		/* The word lies behind what is read. */
		return guest_verify(ctx->local.addr, READ_LENGTH, seed, WINDOW_AT + READ_AT,
				    "what was read");
	default:
		return 0;
	}
}

static int run(struct ctx *ctx, const struct test *test, uint64_t seed)
{
	uint64_t before = guest_counter(&ctx->far, "duplicate_request"), duplicates = 0, i;
	int ret;

	ret = open_memory(ctx, test, seed) ?: connect_ends(ctx) ?: bind_window(ctx) ?: guest_lose(15);
	for (i = 0; !ret && i < MAX_REQUESTS && duplicates < DUPLICATES; i++) {
		/* The file keeps its bytes. */
		if (test->odp && madvise(ctx->remote.addr, LENGTH, MADV_DONTNEED))
			ret = guest_fail("MADV_DONTNEED");
		memset(ctx->local.addr, 0xee, READ_LENGTH);
		ret = ret ?: request(ctx, test->op, i) ?:
		      odp_wait_success(&ctx->pair.local, op_names[test->op], 0) ?:
		      check(ctx, test->op, i, seed);
		duplicates = guest_counter(&ctx->far, "duplicate_request") - before;
	}
	guest_lose(0);
	if (!ret && duplicates < DUPLICATES)
		ret = odp_fail(EPROTO, "only %lu duplicates of %lu requests", duplicates, i);
	printf("# %s: %lu requests, %lu duplicates\n", test->name, i, duplicates);
	return ret;
}

/* --- running them -------------------------------------------------------------------- */

static const char *name_test(size_t i)
{
	return i < test_count ? tests[i].name : NULL;
}

static int open_ctx(void *arg, const char *device)
{
	struct ctx *ctx = arg;

	return odp_open(&ctx->near, device ? device : "rxe0") ?: odp_open(&ctx->far, "rxe1");
}

static void close_ctx(void *arg)
{
	struct ctx *ctx = arg;

	odp_close(&ctx->far);
	odp_close(&ctx->near);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	struct ctx *ctx = arg;
	int ret;

	if (tests[i].odp && !odp_supported(&ctx->far))
		return odp_fail(ENODEV, "the kernel has no ODP for %s", ctx->far.name);
	ret = run(ctx, &tests[i], seed);
	close_all(ctx);
	return ret;
}

int main(int argc, char **argv)
{
	static struct ctx ctx;
	const struct suite suite = {
		.program = "test-replays",
		.about = "Requests and answers that are lost, on pinned and on-demand-paged memory.\n"
			 "Wants a guest of tests/vm/run --two-nodes.",
		.ctx = &ctx,
		.dev = &ctx.near,
		.name = name_test,
		.open = open_ctx,
		.close = close_ctx,
		.run = run_test,
	};
	int op, odp;

	for (op = 0; op < OPS; op++) {
		for (odp = 0; odp < 2; odp++) {
			/* Such memory is not pinned for long. */
			if (op == FLUSH_PERSISTENT && !odp)
				continue;
			tests[test_count] = (struct test){ .op = op, .odp = odp };
			snprintf(tests[test_count++].name, sizeof(tests[0].name), "%s_%s",
				 op_names[op], odp ? "odp" : "pinned");
		}
	}
	return suite_main(&suite, argc, argv);
}
