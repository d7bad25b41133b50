// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: every verb on explicit and implicit ODP regions and through memory windows
 * stage: check
 * where: guest
 * kernels: tree
 * vm: --pmem 256M --hugepages 64
 * budget: 300
 *
 * TRANSPORT_VERB_ACCESS moves messages between two arenas, as tests/verbs.c does:
 * beside each is a model, and arena and model must be equal. ACCESS is what the ODP
 * memory is reached by: an MR of it (explicit), that of the whole address space
 * (implicit), or a window of type 1 or 2 that is bound to an MR (mw1, mw2; the
 * latter zero-based at times). pinned is the control. Each message has one of
 *
 *   {aligned, unaligned, across a page boundary, across one of 2 MiB} x MTU x
 *   {requester, responder, both} on ODP memory x length
 *
 * of which --iterations are picked at random; all of them where the environment has
 * SURFACE_ALL=1 (tests/vm/run --env SURFACE_ALL=1). Between messages pages are lost.
 *
 * rc_atomic_* count: what the device and CPUs add to one word must add up.
 *
 * error_* are refusals, for each access that they are possible with: the exact status
 * at both ends, no byte changed that must not, and another queue pair goes on.
 *
 * All randomness comes from --seed and the subtest's name.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "rc.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096UL
#define HUGE_PAGE	(2 * ODP_MIB)
#define ARENA		(4 * ODP_MIB)
#define MAX_LENGTH	70001UL
#define SCENE		(256 * ODP_KIB)	/* the memory of refusals, */
#define BAD		(20 * PAGE)	/* the page of it that is not like the others, */
#define GOOD		(30 * PAGE + 77)	/* and one that is */
#define GUARD		(2 * PAGE)
#define GRH		40		/* UD puts this before what it receives */
#define LOST_MS		2000
#define TRIES		5		/* UC and UD may drop while a page is brought in */
#define UC_PACKETS	24		/* fewer than rxe keeps while a fault is waited for */
#define UD_QKEY		0x1234		/* odp.c's */
#define SEND_ID		0x5e4d
#define RECV_ID		0x4ecf

#define BIT(n)		(1u << (n))
#define RC		BIT(IBV_QPT_RC)
#define UC		BIT(IBV_QPT_UC)
#define UD		BIT(IBV_QPT_UD)

#define FLUSH_RIGHTS	(IBV_ACCESS_FLUSH_GLOBAL | IBV_ACCESS_FLUSH_PERSISTENT)
#define RIGHTS		(ODP_ACCESS | IBV_ACCESS_REMOTE_ATOMIC)
#define QP_RIGHTS	(RIGHTS | FLUSH_RIGHTS)

static const int mtus[] = { 256, 512, 1024, 2048, 4096 };
static const enum odp_mem_kind kinds[] = { ODP_MEM_ANON, ODP_MEM_THP, ODP_MEM_MEMFD };

enum op {
	SEND, SEND_IMM, SEND_INV, SRQ_RECV, WRITE, WRITE_IMM, READ, FETCH_ADD, CMP_SWAP,
	ATOMIC_WRITE, FLUSH_GLOBAL, FLUSH_PERSISTENT, OPS,
};

#define FLUSHES		(BIT(FLUSH_GLOBAL) | BIT(FLUSH_PERSISTENT))
#define FETCHES		(BIT(FETCH_ADD) | BIT(CMP_SWAP))
#define WORDS		(FETCHES | BIT(ATOMIC_WRITE))
#define WRITES		(BIT(WRITE) | BIT(WRITE_IMM))
#define KEYED		(WRITES | BIT(READ) | WORDS | FLUSHES)

static const struct {
	const char *name;
	unsigned int on;		/* transports */
	enum ibv_wr_opcode opcode;
	enum ibv_wc_opcode done;	/* of the requester's completion */
	enum ibv_wc_opcode received;	/* of the receiver's; 0: there is none */
	int right;			/* what the remote key has to allow */
} ops[OPS] = {
	[SEND] = { "send", RC | UC | UD, IBV_WR_SEND, IBV_WC_SEND, IBV_WC_RECV, 0 },
	[SEND_IMM] = { "send_imm", RC | UC | UD, IBV_WR_SEND_WITH_IMM, IBV_WC_SEND, IBV_WC_RECV,
		       0 },
	[SEND_INV] = { "send_inv", RC, IBV_WR_SEND_WITH_INV, IBV_WC_SEND, IBV_WC_RECV, 0 },
	[SRQ_RECV] = { "srq_recv", RC | UC | UD, IBV_WR_SEND, IBV_WC_SEND, IBV_WC_RECV, 0 },
	[WRITE] = { "write", RC | UC, IBV_WR_RDMA_WRITE, IBV_WC_RDMA_WRITE, 0,
		    IBV_ACCESS_REMOTE_WRITE },
	[WRITE_IMM] = { "write_imm", RC | UC, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WC_RDMA_WRITE,
			IBV_WC_RECV_RDMA_WITH_IMM, IBV_ACCESS_REMOTE_WRITE },
	[READ] = { "read", RC, IBV_WR_RDMA_READ, IBV_WC_RDMA_READ, 0, IBV_ACCESS_REMOTE_READ },
	[FETCH_ADD] = { "fetch_add", RC, IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WC_FETCH_ADD, 0,
			IBV_ACCESS_REMOTE_ATOMIC },
	[CMP_SWAP] = { "cmp_swap", RC, IBV_WR_ATOMIC_CMP_AND_SWP, IBV_WC_COMP_SWAP, 0,
		       IBV_ACCESS_REMOTE_ATOMIC },
	[ATOMIC_WRITE] = { "atomic_write", RC, IBV_WR_ATOMIC_WRITE, IBV_WC_ATOMIC_WRITE, 0,
			   IBV_ACCESS_REMOTE_WRITE },
	[FLUSH_GLOBAL] = { "flush_global", RC, IBV_WR_FLUSH, IBV_WC_FLUSH, 0,
			   IBV_ACCESS_FLUSH_GLOBAL },
	[FLUSH_PERSISTENT] = { "flush_persistent", RC, IBV_WR_FLUSH, IBV_WC_FLUSH, 0,
			       IBV_ACCESS_FLUSH_PERSISTENT },
};

enum access { EXPLICIT, IMPLICIT, MW1, MW2, PINNED, ACCESSES };
static const char *const access_names[] = { "explicit", "implicit", "mw1", "mw2", "pinned" };

enum align { ALIGNED, UNALIGNED, ACROSS_PAGE, ACROSS_HUGE, ALIGNS };

/* Which end is ODP memory. */
#define REQUESTER	1
#define RESPONDER	2

static const struct {
	unsigned int mtus;
	int more;
} lengths[] = {
	{ 0, 1 }, { 0, 8 }, { 1, -1 }, { 1, 0 }, { 1, 1 }, { 3, 7 }, { 0, 4096 }, { 0, 20000 },
	{ 0, MAX_LENGTH },
};

/* One side: memory, its MR, and its model. All offsets are the memory's. */
struct side {
	const char *name;
	struct odp_mem mem;
	struct odp_mr mr;
	size_t start, length;	/* of what the MR is used for */
	uint64_t iova;		/* of the first byte of the memory */
	size_t hole;		/* the page that is not mapped, or 0 */
	bool odp;
	uint8_t *model;		/* what all of the memory must hold */
};

/* To remote memory: an MR's, or a window's. */
struct key {
	struct ibv_mw *mw;	/* or NULL */
	uint32_t rkey;
	uint64_t iova;		/* what the first byte of the memory is called */
	uint64_t base, length;	/* what the key opens */
};

struct request {
	enum op op;
	size_t mtu;		/* its number in mtus */
	struct side *local, *remote;
	size_t local_at, remote_at, length;
	uint32_t rkey;
	uint64_t remote_addr;
	uint64_t add;		/* or compare */
	uint64_t swap;		/* or write */
	uint32_t imm;		/* or the key to invalidate */
	uint8_t level;		/* of a flush */
};

struct ctx {
	struct odp_dev dev;
	uint64_t rng, iterations;
	bool odp, all;

	/* What a subtest has open; run_test() closes it. */
	struct odp_pair pairs[ARRAY_SIZE(mtus)];
	struct side local[2], remote[2];	/* pinned and ODP */
	struct side target, peer;		/* of refusals; the peer is pinned */
	struct key key;

	/* What it is doing, also for its message if that fails. */
	struct odp_pair *pair;
	struct request req;
};

/* What is bad in the memory: a page, or what is behind it. */
enum state { SOUND, HOLE, READONLY, END };

/* What else writes to the word that requests add to. */
enum beside { A_CPU, A_PROTECTION, A_PINNED_MR };

struct test {
	char name[48];
	int (*run)(struct ctx *ctx, const struct test *test);
	enum access access;
	enum ibv_qp_type transport;
	enum op op;
	const struct refusal *refusal;
	enum state state;
	bool bad_is_local;
	enum beside beside;
};

static uint64_t below(struct ctx *ctx, uint64_t limit)
{
	return odp_random(&ctx->rng) % limit;
}

static bool is_in(enum op op, unsigned int set)
{
	return set >> op & 1;
}

static bool is_window(enum access access)
{
	return access == MW1 || access == MW2;
}

static enum odp_mem_kind random_kind(struct ctx *ctx)
{
	return kinds[below(ctx, ARRAY_SIZE(kinds))];
}

/* Add what was being done to odp_error(); a reason to skip is long enough. */
__attribute__((format(printf, 2, 3)))
static int explain(int ret, const char *fmt, ...)
{
	char text[300], more[300];
	va_list args;

	if (!ret || ret == -ENODEV)
		return ret;
	snprintf(text, sizeof(text), "%s", odp_error());
	va_start(args, fmt);
	vsnprintf(more, sizeof(more), fmt, args);
	va_end(args);
	return odp_fail(-ret, "%s; %s", text, more);
}

/* --- queue pairs --------------------------------------------------------------------- */

/* FLUSH and ATOMIC WRITE want more of a queue pair than odp_connect() gives it. */
static int connect_rc(struct odp_pair *pair, struct odp_dev *dev, size_t mtu, bool srq, int rights)
{
	struct rc_attr attr = RC_ATTR_INIT;
	int ret;

	attr.mtu = mtus[mtu];
	attr.rights = rights;

	memset(pair, 0, sizeof(*pair));
	pair->dev = dev;
	ret = rc_create(&pair->local, dev, srq) ?: rc_create(&pair->remote, dev, srq) ?:
	      rc_connect(&pair->local, dev, &dev->gid, pair->remote.qp->qp_num, &attr) ?:
	      rc_connect(&pair->remote, dev, &dev->gid, pair->local.qp->qp_num, &attr);
	if (ret)
		odp_disconnect(pair);
	return ret;
}

/* The pair for the request; there is a new one where there is none. */
static int take_pair(struct ctx *ctx, const struct test *test, int rights)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;

	ctx->pair = &ctx->pairs[ctx->req.mtu];
	if (ctx->pair->local.qp)
		return 0;
	attr.mtu = mtus[ctx->req.mtu];
	attr.type = test->transport;
	attr.srq = test->op == SRQ_RECV;
	if (test->transport == IBV_QPT_RC)
		return connect_rc(ctx->pair, &ctx->dev, ctx->req.mtu, attr.srq, rights);
	return odp_connect(ctx->pair, &ctx->dev, &attr);
}

static int close_key(struct ctx *ctx)
{
	int err = ctx->key.mw ? ibv_dealloc_mw(ctx->key.mw) : 0;

	ctx->key.mw = NULL;
	return err ? odp_fail(err, "ibv_dealloc_mw: %s", strerror(err)) : 0;
}

/* The window goes first: it holds the queue pair that it is bound to. */
static int drop_pairs(struct ctx *ctx)
{
	int ret = close_key(ctx);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(mtus); i++)
		odp_disconnect(&ctx->pairs[i]);
	return ret;
}

/* --- memory -------------------------------------------------------------------------- */

static uint8_t *side_at(const struct side *side, size_t offset)
{
	return (uint8_t *)side->mem.addr + offset;
}

static struct ibv_sge sge_of(const struct side *side, size_t offset, size_t length)
{
	return (struct ibv_sge){
		.addr = side->iova + offset, .length = length, .lkey = side->mr.mr->lkey,
	};
}

/* Persistent memory that can be pinned; a file cannot. */
static int map_devdax(struct odp_mem *mem, size_t length)
{
	mem->kind = ODP_MEM_FSDAX;
	mem->fd = open("/dev/dax1.0", O_RDWR | O_CLOEXEC);
	if (mem->fd < 0)
		return odp_fail(ENODEV, "unavailable: /dev/dax1.0: %s", strerror(errno));
	mem->length = (length + HUGE_PAGE - 1) & -HUGE_PAGE;
	mem->addr = mmap(NULL, mem->length, PROT_READ | PROT_WRITE, MAP_SHARED, mem->fd, 0);
	if (mem->addr == MAP_FAILED)
		return guest_fail("/dev/dax1.0: mmap");
	mem->base = mem->addr;
	mem->base_length = mem->length;
	memset(mem->addr, 0, mem->length);
	return 0;
}

/* What is used is less than the memory, and starts and ends on any byte. */
static int side_open(struct ctx *ctx, struct side *side, const char *name, enum odp_mem_kind kind,
		     size_t size, enum access access, int rights)
{
	uint8_t *start;
	int ret;

	memset(side, 0, sizeof(*side));
	side->name = name;
	side->odp = access != PINNED;
	ret = kind == ODP_MEM_FSDAX && !side->odp ? map_devdax(&side->mem, size) :
						    odp_mem_map(&side->mem, kind, size, NULL);
	if (ret)
		return ret;
	side->model = calloc(1, side->mem.length);
	if (!side->model)
		return odp_fail(ENOMEM, "out of memory");
	side->start = below(ctx, 2 * PAGE);
	side->length = side->mem.length - side->start - below(ctx, 2 * PAGE);
	start = side_at(side, side->start);
	if (side->odp)
		rights |= IBV_ACCESS_ON_DEMAND;
	if (access == IMPLICIT) {
		side->iova = (uintptr_t)side->mem.addr;
		return odp_reg(&side->mr, &ctx->dev, NULL, SIZE_MAX, rights);
	}
	ret = odp_reg_iova(&side->mr, &ctx->dev, start, side->length,
			   guest_random_iova(&ctx->rng, (uintptr_t)start), rights);
	side->iova = side->mr.iova - side->start;
	return ret;
}

static void side_close(struct side *side)
{
	if (side->mr.mr)
		ibv_dereg_mr(side->mr.mr);
	free(side->model);
	odp_mem_unmap(&side->mem);
	memset(side, 0, sizeof(*side));
}

static int close_all(struct ctx *ctx)
{
	struct side *sides[] = {
		&ctx->local[0], &ctx->local[1], &ctx->remote[0], &ctx->remote[1], &ctx->target,
		&ctx->peer,
	};
	int ret = drop_pairs(ctx);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sides); i++)
		side_close(sides[i]);
	memset(&ctx->req, 0, sizeof(ctx->req));
	return ret;
}

static int check_range(const struct side *side, size_t offset, size_t length)
{
	struct odp_mismatch bad;

	if (odp_compare(side_at(side, offset), side->model + offset, length, &bad))
		return 0;
	return odp_fail(EBADMSG, "%s memory at %zu: %#04x, should be %#04x; %zu bytes wrong in [%zu, %zu)",
			side->name, offset + bad.offset, bad.got, bad.expected, bad.count, offset,
			offset + length);
}

static int check_all(const struct side *side)
{
	size_t behind = side->hole ? side->hole + PAGE : 0;

	return check_range(side, 0, side->hole) ?:
	       check_range(side, behind, side->mem.length - behind);
}

/* Those of refusals. */
static int check_both(const struct ctx *ctx)
{
	return check_all(&ctx->target) ?: check_all(&ctx->peer);
}

static int check_around(const struct side *side, size_t offset, size_t length)
{
	size_t start = offset > GUARD ? offset - GUARD : 0, end = offset + length + GUARD;

	return check_range(side, start, (end < side->mem.length ? end : side->mem.length) - start);
}

/* By the CPU: new bytes. */
static void fill_range(struct ctx *ctx, struct side *side, size_t offset, size_t length)
{
	odp_fill(side->model + offset, length, odp_random(&ctx->rng), 0);
	memcpy(side_at(side, offset), side->model + offset, length);
}

/* If it is ODP memory take pages away, those of the message or any, or nothing. */
static int lose(struct ctx *ctx, struct side *side, size_t at, size_t length)
{
	size_t start = at & -PAGE, end = (at + length + PAGE - 1) & -PAGE;

	if (!side->odp)
		return 0;
	if (below(ctx, 2)) {
		start = below(ctx, side->mem.length / PAGE) * PAGE;
		end = start + (1 + below(ctx, (side->mem.length - start) / PAGE)) * PAGE;
	}
	switch (below(ctx, 4)) {
	case 0:
		memset(side->model + start, 0, end - start);
		return odp_mem_discard(&side->mem, start, end - start);
	case 1:
		/* Nothing to see where nothing can be paged out. */
		madvise(side_at(side, start), end - start, MADV_PAGEOUT);
		return 0;
	case 2:
		if (mprotect(side_at(side, start), end - start, PROT_NONE) ||
		    mprotect(side_at(side, start), end - start, PROT_READ | PROT_WRITE))
			return guest_fail("mprotect");
	}
	return 0;
}

/* --- remote keys --------------------------------------------------------------------- */

/* Use the MR's. */
static struct key *mr_key(struct ctx *ctx, const struct side *side)
{
	ctx->key = (struct key){
		.rkey = side->mr.mr->rkey, .iova = side->iova,
		.base = side->iova + side->start, .length = side->length,
	};
	return &ctx->key;
}

static void use_key(struct ctx *ctx)
{
	ctx->req.rkey = ctx->key.rkey;
	ctx->req.remote_addr = ctx->key.iova + ctx->req.remote_at;
}

/*
 * Bind a window of [@at, @at + @length), by the responder: one of type 2 is for
 * its queue pair alone.
 */
static int bind_window(struct ctx *ctx, const struct side *side, enum ibv_mw_type type, size_t at,
		       size_t length, int rights, enum ibv_wc_status wanted)
{
	struct odp_end *end = &ctx->pair->remote;
	struct key *key = &ctx->key;
	struct ibv_mw_bind bind = {
		.wr_id = SEND_ID,
		.send_flags = IBV_SEND_SIGNALED,
		.bind_info = {
			.mr = side->mr.mr, .addr = side->iova + at, .length = length,
			.mw_access_flags = rights & ~IBV_ACCESS_LOCAL_WRITE,
		},
	};
	struct ibv_send_wr *bad, wr = {
		.wr_id = SEND_ID, .opcode = IBV_WR_BIND_MW, .send_flags = IBV_SEND_SIGNALED,
	};
	struct ibv_wc wc;
	int ret;

	memset(key, 0, sizeof(*key));
	errno = 0;
	key->mw = ibv_alloc_mw(ctx->dev.pd, type);
	if (!key->mw)
		return guest_fail("ibv_alloc_mw");
	if (type == IBV_MW_TYPE_1) {
		ret = ibv_bind_mw(end->qp, key->mw, &bind);
		key->rkey = key->mw->rkey;
	} else {
		key->rkey = ibv_inc_rkey(key->mw->rkey);
		wr.bind_mw.mw = key->mw;
		wr.bind_mw.rkey = key->rkey;
		wr.bind_mw.bind_info = bind.bind_info;
		ret = ibv_post_send(end->qp, &wr, &bad);
	}
	if (ret)
		return odp_fail(ret, "posting the bind of a type %d window: %s", type,
				strerror(ret));
	key->iova = rights & IBV_ACCESS_ZERO_BASED ? -(uint64_t)at : side->iova;
	key->base = key->iova + at;
	key->length = length;

	ret = odp_wait(end, &wc, ODP_WAIT_MS);
	if (ret || (wc.status == wanted && (wc.status || wc.opcode == IBV_WC_BIND_MW)))
		return ret;
	return odp_fail(EPROTO, "bind of a type %d window: \"%s\", opcode %d, should be \"%s\"",
			type, ibv_wc_status_str(wc.status), wc.opcode, ibv_wc_status_str(wanted));
}

/* The key that the access column stands for. A window is open where it must be only. */
static int open_key(struct ctx *ctx, const struct side *side, enum access access, size_t at,
		    size_t length, int rights)
{
	int ret = 0;

	if (access == MW2 && below(ctx, 2))
		rights |= IBV_ACCESS_ZERO_BASED;
	if (is_window(access))
		ret = bind_window(ctx, side, access == MW1 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2, at,
				  length, rights, IBV_WC_SUCCESS);
	else
		mr_key(ctx, side);
	use_key(ctx);
	return ret;
}

/* --- requests ------------------------------------------------------------------------ */

/* What ibv_post_send() does not have, or checks beforehand. */
static int post_extended(struct odp_end *end, const struct request *req)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(end->qp);
	struct ibv_sge sge;
	int ret;

	ibv_wr_start(qp);
	qp->wr_id = SEND_ID;
	qp->wr_flags = IBV_SEND_SIGNALED;
	switch (req->op) {
	case FETCH_ADD:
		ibv_wr_atomic_fetch_add(qp, req->rkey, req->remote_addr, req->add);
		break;
	case CMP_SWAP:
		ibv_wr_atomic_cmp_swp(qp, req->rkey, req->remote_addr, req->add, req->swap);
		break;
	case ATOMIC_WRITE:
		ibv_wr_atomic_write(qp, req->rkey, req->remote_addr, &req->swap);
		break;
	default:
		ibv_wr_flush(qp, req->rkey, req->remote_addr, req->length,
			     req->op == FLUSH_GLOBAL ? IBV_FLUSH_GLOBAL : IBV_FLUSH_PERSISTENT,
			     req->level);
	}
	if (is_in(req->op, FETCHES)) {
		sge = sge_of(req->local, req->local_at, req->length);
		ibv_wr_set_sge(qp, sge.lkey, sge.addr, sge.length);
	}
	ret = ibv_wr_complete(qp);
	return ret ? odp_fail(ret, "ibv_wr_complete: %s", strerror(ret)) : 0;
}

static int post(struct odp_end *end, const struct request *req)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = SEND_ID,
		.opcode = ops[req->op].opcode,
		.send_flags = IBV_SEND_SIGNALED,
		.num_sge = 1,
		.imm_data = req->imm,
	};
	struct ibv_sge sge;
	int ret;

	if (is_in(req->op, WORDS | FLUSHES))
		return post_extended(end, req);
	sge = sge_of(req->local, req->local_at, req->length);
	wr.sg_list = &sge;
	if (end->ah) {
		wr.wr.ud.ah = end->ah;
		wr.wr.ud.remote_qpn = end->peer;
		wr.wr.ud.remote_qkey = UD_QKEY;
	} else {
		wr.wr.rdma.remote_addr = req->remote_addr;
		wr.wr.rdma.rkey = req->rkey;
	}
	ret = ibv_post_send(end->qp, &wr, &bad);
	return ret ? odp_fail(ret, "ibv_post_send: %s", strerror(ret)) : 0;
}

/* The receive that the request goes to; one without memory where it needs none. */
static int post_receive(struct odp_pair *pair, const struct request *req)
{
	size_t grh = pair->local.ah ? GRH : 0;
	struct ibv_sge sge;

	if (ops[req->op].received != IBV_WC_RECV)
		return odp_post_recv(&pair->remote, RECV_ID, NULL, 0);
	sge = sge_of(req->remote, req->remote_at - grh, req->length + grh);
	return odp_post_recv(&pair->remote, RECV_ID, &sge, 1);
}

static int want_done(struct odp_end *end, const struct request *req, int wait_ms)
{
	const char *name = ops[req->op].name;
	struct ibv_wc wc;
	int ret;

	ret = odp_wait(end, &wc, wait_ms);
	if (ret)
		return ret;
	if (wc.status)
		return odp_fail(EREMOTEIO, "%s: %s", name, ibv_wc_status_str(wc.status));
	if (wc.wr_id == SEND_ID && wc.opcode == ops[req->op].done && wc.byte_len == req->length &&
	    wc.qp_num == end->qp->qp_num && !(wc.wc_flags & ~IBV_WC_WITH_IMM))
		return 0;
	return odp_fail(EPROTO, "completion of %s: opcode %d, %u bytes, wr_id %#lx, QP %#x, flags %#x",
			name, wc.opcode, wc.byte_len, wc.wr_id, wc.qp_num, wc.wc_flags);
}

static int want_received(struct odp_pair *pair, const struct request *req, int wait_ms)
{
	bool imm = req->op == SEND_IMM || req->op == WRITE_IMM, ud = pair->local.ah;
	unsigned int flags = req->op == SEND_INV ? IBV_WC_WITH_INV : imm ? IBV_WC_WITH_IMM : 0;
	const char *name = ops[req->op].name;
	struct ibv_wc wc;
	int ret;

	ret = odp_wait(&pair->remote, &wc, wait_ms);
	if (ret)
		return ret;
	if (wc.status)
		return odp_fail(EREMOTEIO, "receive of %s: %s", name,
				ibv_wc_status_str(wc.status));
	/* The key that was invalidated is where immediate data is. */
	if (wc.wr_id == RECV_ID && wc.opcode == ops[req->op].received &&
	    wc.byte_len == req->length + (ud ? GRH : 0) &&
	    wc.qp_num == pair->remote.qp->qp_num &&
	    (!ud || (wc.src_qp == pair->local.qp->qp_num && wc.wc_flags & IBV_WC_GRH)) &&
	    (wc.wc_flags & ~IBV_WC_GRH) == flags && (!flags || wc.imm_data == req->imm))
		return 0;
	return odp_fail(EPROTO, "receive of %s: opcode %d, %u bytes, wr_id %#lx, QP %#x from %#x, flags %#x (should be %#x), data %#x (%#x)",
			name, wc.opcode, wc.byte_len, wc.wr_id, wc.qp_num, wc.src_qp, wc.wc_flags,
			flags, wc.imm_data, req->imm);
}

/* UC reports a write when it has been sent, and it arrives a moment later. */
static int want_arrival(const struct request *req)
{
	const uint8_t *sent = req->local->model + req->local_at;
	uint64_t deadline = odp_now() + LOST_MS * 1000000ULL;

	while (!odp_compare(side_at(req->remote, req->remote_at), sent, req->length, NULL)) {
		if (odp_now() > deadline)
			return odp_fail(ETIMEDOUT, "the write has not arrived");
		sched_yield();
	}
	return 0;
}

/* Do with the models what the device was asked to do with the memory. */
static void apply(const struct request *req)
{
	uint8_t *local = req->local->model + req->local_at;
	uint8_t *remote = req->remote->model + req->remote_at;
	uint64_t old, new;

	switch (req->op) {
	case READ:
		memcpy(local, remote, req->length);
		break;
	case FETCH_ADD:
	case CMP_SWAP:
		memcpy(&old, remote, sizeof(old));
		new = req->op == FETCH_ADD ? old + req->add : old == req->add ? req->swap : old;
		memcpy(local, &old, sizeof(old));
		memcpy(remote, &new, sizeof(new));
		break;
	case ATOMIC_WRITE:
		memcpy(remote, &req->swap, sizeof(req->swap));
		break;
	default:
		memcpy(remote, local, req->length);
	}
}

/*
 * One message and all of its completions; what is flushed is written right before.
 * -ETIMEDOUT: it was lost on the way.
 */
static int carry(struct ctx *ctx)
{
	struct odp_pair *pair = ctx->pair;
	const struct request *req = &ctx->req;
	bool received = ops[req->op].received, flush = is_in(req->op, FLUSHES);
	bool reliable = pair->local.qp->qp_type == IBV_QPT_RC;
	int wait_ms = reliable ? ODP_WAIT_MS : LOST_MS, ret;
	struct request write = *req;

	write.op = WRITE;
	ret = (received ? post_receive(pair, req) : 0) ?:
	      (flush ? post(&pair->local, &write) : 0) ?:
	      post(&pair->local, req) ?:
	      (flush ? want_done(&pair->local, &write, wait_ms) : 0) ?:
	      want_done(&pair->local, req, wait_ms) ?:
	      (received ? want_received(pair, req, wait_ms) : 0) ?:
	      (!reliable && req->op == WRITE ? want_arrival(req) : 0);
	if (!ret)
		apply(req);
	return ret;
}

/* Want a completion with one of the statuses @wanted. */
static int want_status(struct odp_end *end, const char *what, unsigned int wanted)
{
	struct ibv_wc wc;
	int ret;

	ret = odp_wait(end, &wc, ODP_WAIT_MS);
	if (ret || wanted >> wc.status & 1)
		return ret;
	return odp_fail(EPROTO, "%s: \"%s\" (%d), should be of the set %#x", what,
			ibv_wc_status_str(wc.status), wc.status, wanted);
}

#define REMOTE_REFUSAL	BIT(IBV_WC_REM_ACCESS_ERR)
#define REMOTE_FAILURE	(BIT(IBV_WC_REM_ACCESS_ERR) | BIT(IBV_WC_REM_OP_ERR) | \
			 BIT(IBV_WC_REM_INV_REQ_ERR))
#define LOCAL_REFUSAL	(BIT(IBV_WC_LOC_PROT_ERR) | BIT(IBV_WC_LOC_QP_OP_ERR) | \
			 BIT(IBV_WC_WR_FLUSH_ERR))
#define FLUSHED		BIT(IBV_WC_WR_FLUSH_ERR)

/*
 * The request must fail with one of @wanted, beside a receive that then ends with one
 * of @received, or stays where that is 0. Then the queue pair goes, and with it what
 * is on its way still.
 */
static int want_refused(struct ctx *ctx, unsigned int wanted, unsigned int received)
{
	struct odp_pair *pair = ctx->pair;
	const struct request *req = &ctx->req;

	return post_receive(pair, req) ?:
	       post(&pair->local, req) ?:
	       want_status(&pair->local, ops[req->op].name, wanted) ?:
	       (received ? want_status(&pair->remote, "its receive", received) : 0) ?:
	       drop_pairs(ctx);
}

/* --- group one: each verb ------------------------------------------------------------ */

struct pick {
	enum align align;
	size_t mtu, length;
	unsigned int sides;
};

static int rights_of(const struct test *test)
{
	bool windows = is_window(test->access) || test->op == SEND_INV;

	return RIGHTS | ops[test->op].right | (windows ? IBV_ACCESS_MW_BIND : 0);
}

/* Open it if it is not. */
static int open_end(struct ctx *ctx, const struct test *test, struct side *side, bool odp,
		    bool remote)
{
	bool persistent = test->op == FLUSH_PERSISTENT && remote;
	int rights = rights_of(test);

	if (side->mr.mr)
		return 0;
	/* Only what is persistent can be pinned with that right. */
	if (!remote)
		rights &= ~IBV_ACCESS_FLUSH_PERSISTENT;
	return side_open(ctx, side, remote ? "remote" : "local",
			 persistent ? ODP_MEM_FSDAX : random_kind(ctx), ARENA,
			 !odp ? PINNED : test->access == IMPLICIT ? IMPLICIT : EXPLICIT, rights);
}

static size_t pick_length(const struct test *test, const struct pick *pick)
{
	size_t mtu = mtus[pick->mtu];
	size_t limit = test->transport == IBV_QPT_UD ? mtu :
		       test->transport == IBV_QPT_UC ? UC_PACKETS * mtu : MAX_LENGTH;
	size_t length = lengths[pick->length].mtus * mtu + lengths[pick->length].more;

	if (is_in(test->op, WORDS))
		return 8;
	if (pick->align >= ACROSS_PAGE && length < 2)
		return 2;
	return length < limit ? length : limit;
}

/* A remote word, which cannot be across a boundary, ends there. */
static size_t place(struct ctx *ctx, enum align align, size_t length, size_t unit)
{
	size_t first = MAX_LENGTH / PAGE + 4, last = ARENA / PAGE - first;
	size_t edge = align == ACROSS_HUGE ? HUGE_PAGE : (first + below(ctx, last - first)) * PAGE;

	switch (align) {
	case ALIGNED:
		return edge;
	case UNALIGNED:
		return edge + (unit + below(ctx, PAGE - unit)) / unit * unit;
	default:
		return (edge - 1 - below(ctx, length - 1)) / unit * unit;
	}
}

/* New bytes and lost pages, in any order. */
static int stage(struct ctx *ctx, const struct test *test)
{
	struct request *req = &ctx->req;
	bool from_remote = req->op == READ || is_in(req->op, WORDS);
	bool silent = test->transport == IBV_QPT_UC && req->op == WRITE;
	struct side *source = from_remote ? req->remote : req->local;
	size_t at = from_remote ? req->remote_at : req->local_at, end = at + req->length - 1;
	bool fill_first = !silent && below(ctx, 2);
	int ret;

	if (fill_first)
		fill_range(ctx, source, at, req->length);
	ret = lose(ctx, req->local, req->local_at, req->length) ?:
	      lose(ctx, req->remote, req->remote_at, req->length);
	if (ret || fill_first)
		return ret;
	fill_range(ctx, source, at, req->length);
	/* Only the last byte tells that all of it has arrived. */
	if (silent && source->model[end] == req->remote->model[req->remote_at + req->length - 1])
		*side_at(source, end) = ++source->model[end];
	return 0;
}

static int move_once(struct ctx *ctx, const struct test *test)
{
	struct request *req = &ctx->req;
	size_t before = is_in(req->op, WORDS) ? 8 * below(ctx, 9) : below(ctx, 70);
	size_t at = req->remote_at - before, length = before + req->length + below(ctx, 70);
	enum access access = req->op == SEND_INV ? MW2 : test->access;
	int ret, err;

	ret = take_pair(ctx, test, QP_RIGHTS) ?:
	      open_key(ctx, req->remote, access, at, length, RIGHTS | ops[req->op].right);
	if (req->op == SEND_INV)
		req->imm = req->rkey;
	ret = ret ?: carry(ctx);
	if (!ret && req->op == SEND_INV) {
		/* The window is closed now. */
		req->op = WRITE;
		return want_refused(ctx, REMOTE_REFUSAL, FLUSHED);
	}
	err = ret ? drop_pairs(ctx) : close_key(ctx);
	return ret ?: err;
}

static int step(struct ctx *ctx, const struct test *test, const struct pick *pick)
{
	bool odp_local = pick->sides & REQUESTER, odp_remote = pick->sides & RESPONDER;
	int tries = test->transport == IBV_QPT_RC ? 1 : TRIES, ret;
	struct request *req = &ctx->req;
	size_t unit = is_in(test->op, WORDS) ? 8 : 1;

	*req = (struct request){
		.op = test->op, .mtu = pick->mtu, .level = IBV_FLUSH_RANGE,
		.local = &ctx->local[odp_local], .remote = &ctx->remote[odp_remote],
		.length = pick_length(test, pick),
	};
	req->swap = odp_random(&ctx->rng);
	req->imm = odp_random(&ctx->rng);
	req->local_at = place(ctx, pick->align, req->length, 1);
	req->remote_at = place(ctx, pick->align, req->length, unit);
	ret = open_end(ctx, test, req->local, odp_local, false) ?:
	      open_end(ctx, test, req->remote, odp_remote, true) ?:
	      stage(ctx, test);
	if (ret)
		return ret;
	memcpy(&req->add, req->remote->model + req->remote_at, sizeof(req->add));
	if (req->op == FETCH_ADD || below(ctx, 2))
		req->add ^= odp_random(&ctx->rng) | 1;
	do {
		ret = move_once(ctx, test);
	} while (ret == -ETIMEDOUT && --tries > 0);
	if (ret == -ETIMEDOUT && test->transport != IBV_QPT_RC)
		ret = odp_fail(EPROTO, "lost %d times", TRIES);
	if (!ret && test->transport == IBV_QPT_UD)
		memcpy(req->remote->model + req->remote_at - GRH,
		       side_at(req->remote, req->remote_at - GRH), GRH);
	return ret ?: check_around(req->local, req->local_at, req->length) ?:
	       check_around(req->remote, req->remote_at, req->length);
}

#define PRODUCT		(ALIGNS * ARRAY_SIZE(mtus) * (REQUESTER | RESPONDER) * ARRAY_SIZE(lengths))

static int move_messages(struct ctx *ctx, const struct test *test)
{
	uint64_t i, number, count = ctx->all ? PRODUCT : ctx->iterations;
	struct pick pick;
	int end, ret = 0;

	/* Pinned memory has but one side. */
	if (ctx->all && test->access == PINNED)
		count /= REQUESTER | RESPONDER;
	for (i = 0; i < count && !ret; i++) {
		number = ctx->all ? i : below(ctx, PRODUCT);
		pick.align = number % ALIGNS;
		number /= ALIGNS;
		pick.mtu = number % ARRAY_SIZE(mtus);
		number /= ARRAY_SIZE(mtus);
		pick.length = number % ARRAY_SIZE(lengths);
		number /= ARRAY_SIZE(lengths);
		pick.sides = test->access == PINNED ? 0 : number + 1;
		ret = step(ctx, test, &pick);
	}
	/* What is not open has no bytes. */
	for (end = 0; end < 2 && !ret; end++)
		ret = check_all(&ctx->local[end]) ?: check_all(&ctx->remote[end]);
	return ret;
}

/* --- group two: one word, two queue pairs and CPUs ----------------------------------- */

#define WORD_AT		(9 * PAGE + 64)
#define DEPTH		8U
#define FIRST_VALUE	0xfffffff0UL

struct threads {
	pthread_t add, protect;
	bool adds, protects, stop;
	uint64_t *word;		/* in a mapping that stays writable */
	uint64_t added;
	uint8_t *page;		/* to be protected, or NULL */
};

static void *add_by_cpu(void *arg)
{
	struct threads *threads = arg;

	while (!__atomic_load_n(&threads->stop, __ATOMIC_RELAXED)) {
		__atomic_fetch_add(threads->word, 1, __ATOMIC_RELAXED);
		if (!(++threads->added % 64))
			sched_yield();
	}
	return NULL;
}

static void *protect_page(void *arg)
{
	struct threads *threads = arg;

	while (!__atomic_load_n(&threads->stop, __ATOMIC_RELAXED)) {
		mprotect(threads->page, PAGE, PROT_READ);
		mprotect(threads->page, PAGE, PROT_READ | PROT_WRITE);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return NULL;
}

static int start_threads(struct threads *threads)
{
	threads->adds = !pthread_create(&threads->add, NULL, add_by_cpu, threads);
	threads->protects = threads->page &&
			    !pthread_create(&threads->protect, NULL, protect_page, threads);
	if (threads->adds && threads->protects == !!threads->page)
		return 0;
	return odp_fail(EAGAIN, "pthread_create failed");
}

static void stop_threads(struct threads *threads)
{
	__atomic_store_n(&threads->stop, true, __ATOMIC_RELAXED);
	if (threads->adds)
		pthread_join(threads->add, NULL);
	if (threads->protects)
		pthread_join(threads->protect, NULL);
}

struct adder {
	struct odp_pair *pair;
	struct request req;
	unsigned int depth, count;
	unsigned int posted, done, refused;
	size_t results;		/* where in the local memory the old values go */
	uint64_t last;
};

/* Post what there is room for, and look at one completion if there is one. */
static int adder_turn(struct ctx *ctx, struct adder *adder)
{
	struct request *req = &adder->req;
	struct ibv_wc wc;
	uint64_t old;
	int ret = 0;

	if (!adder->pair->local.qp)
		ret = connect_rc(adder->pair, &ctx->dev, req->mtu, false, QP_RIGHTS);
	while (!ret && adder->posted < adder->count &&
	       adder->posted - adder->done < adder->depth) {
		req->local_at = adder->results + adder->posted % DEPTH * 8;
		ret = post(&adder->pair->local, req);
		adder->posted++;
	}
	if (ret || ibv_poll_cq(adder->pair->local.cq, 1, &wc) <= 0)
		return ret;
	if (wc.status == IBV_WC_REM_ACCESS_ERR && adder->depth == 1) {
		/* The page was protected, and the word left alone. */
		adder->posted--;
		adder->refused++;
		odp_disconnect(adder->pair);
		return 0;
	}
	if (wc.status)
		return odp_fail(EREMOTEIO, "FETCH_ADD %u: %s", adder->done,
				ibv_wc_status_str(wc.status));
	memcpy(&old, side_at(req->local, adder->results + adder->done % DEPTH * 8), sizeof(old));
	if (old < FIRST_VALUE || (adder->done && old <= adder->last))
		return odp_fail(EBADMSG, "FETCH_ADD %u returned %#lx after %#lx", adder->done, old,
				adder->last);
	adder->last = old;
	adder->done++;
	return 0;
}

/* Until both have done all; the device must go on. */
static int run_adders(struct ctx *ctx, struct adder adders[2])
{
	uint64_t deadline = 0;
	unsigned int done = 0;
	int ret;

	do {
		if (!deadline || done != adders[0].done + adders[1].done)
			deadline = odp_now() + ODP_WAIT_MS * 1000000ULL;
		done = adders[0].done + adders[1].done;
		ret = adder_turn(ctx, &adders[0]) ?: adder_turn(ctx, &adders[1]);
		if (!ret && odp_now() > deadline)
			ret = odp_fail(ETIMEDOUT, "nothing is added any more");
		sched_yield();
	} while (!ret && done < adders[0].count + adders[1].count);
	return ret;
}

static int add_up(struct ctx *ctx, const struct test *test)
{
	bool protect = test->beside == A_PROTECTION;
	struct odp_mr *pinned = &ctx->remote[0].mr;
	struct threads threads = {};
	struct adder adders[2];
	void *alias = NULL;
	uint64_t sum;
	int i, ret;

	/* For CPUs it is writable elsewhere. */
	ret = side_open(ctx, &ctx->target, "target", protect ? ODP_MEM_MEMFD : random_kind(ctx),
			SCENE, test->access, RIGHTS) ?:
	      side_open(ctx, &ctx->peer, "peer", ODP_MEM_ANON, SCENE, PINNED, RIGHTS);
	if (ret)
		return ret;
	threads.word = (uint64_t *)side_at(&ctx->target, WORD_AT);
	*threads.word = FIRST_VALUE;
	if (test->beside == A_PINNED_MR) {
		ret = odp_reg(pinned, &ctx->dev, threads.word, sizeof(*threads.word), RIGHTS);
		if (ret)
			return ret;
	}
	if (protect) {
		alias = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ctx->target.mem.fd,
			     WORD_AT & -PAGE);
		if (alias == MAP_FAILED)
			return guest_fail("mmap");
		threads.page = (uint8_t *)threads.word - WORD_AT % PAGE;
		threads.word = (uint64_t *)((uint8_t *)alias + WORD_AT % PAGE);
	}
	for (i = 0; i < 2; i++) {
		ctx->req = (struct request){
			.op = FETCH_ADD, .mtu = below(ctx, ARRAY_SIZE(mtus)), .local = &ctx->peer,
			.remote = &ctx->target, .remote_at = WORD_AT, .length = 8, .add = 1,
		};
		mr_key(ctx, &ctx->target);
		use_key(ctx);
		if (i && pinned->mr) {
			ctx->req.rkey = pinned->mr->rkey;
			ctx->req.remote_addr = pinned->iova;
		}
		adders[i] = (struct adder){
			.pair = &ctx->pairs[i], .req = ctx->req, .depth = protect ? 1 : DEPTH,
			.count = ctx->iterations * (protect ? 8 : 64),
			.results = (3 + i) * PAGE + 5,
		};
	}
	ret = start_threads(&threads) ?: run_adders(ctx, adders);
	stop_threads(&threads);
	sum = FIRST_VALUE + threads.added + adders[0].done + adders[1].done;
	if (!ret && *threads.word != sum)
		ret = odp_fail(EBADMSG, "the word is %#lx, should be %#lx", *threads.word, sum);
	if (alias)
		munmap(alias, PAGE);
	return explain(ret, "added by the CPU %lu, by the device %u and %u, refused %u and %u",
		       threads.added, adders[0].done, adders[1].done, adders[0].refused,
		       adders[1].refused);
}

/* --- group three: refusals ----------------------------------------------------------- */

static int scene_open(struct ctx *ctx, enum access access, enum odp_mem_kind kind, int rights,
		      enum state state)
{
	struct side *target = &ctx->target, *peer = &ctx->peer;
	int ret;

	ret = close_all(ctx) ?:
	      side_open(ctx, target, "target", kind, SCENE, is_window(access) ? EXPLICIT : access,
			rights) ?:
	      side_open(ctx, peer, "peer", ODP_MEM_ANON, SCENE, PINNED, RIGHTS);
	if (ret)
		return ret;
	fill_range(ctx, target, 0, target->mem.length);
	fill_range(ctx, peer, 0, peer->mem.length);
	if (state == HOLE) {
		target->hole = BAD;
		if (munmap(side_at(target, BAD), PAGE))
			return guest_fail("munmap");
	}
	if (state == READONLY && mprotect(side_at(target, BAD), PAGE, PROT_READ))
		return guest_fail("mprotect");
	return 0;
}

/* The next request: between the peer and @at of the target, by the MR's key. */
static void scene_request(struct ctx *ctx, enum op op, size_t at, size_t length)
{
	ctx->req = (struct request){
		.op = op, .mtu = below(ctx, ARRAY_SIZE(mtus)), .level = IBV_FLUSH_RANGE,
		.local = &ctx->peer, .remote = &ctx->target,
		.local_at = 5 * PAGE + 9, .remote_at = at,
		.length = is_in(op, WORDS) ? 8 : length,
	};
	ctx->req.add = odp_random(&ctx->rng);
	ctx->req.swap = odp_random(&ctx->rng);
	mr_key(ctx, &ctx->target);
	use_key(ctx);
}

/* It works, on another queue pair where the last one has failed, and nothing else changes. */
static int works(struct ctx *ctx, const struct test *test, enum op op, size_t at, size_t length)
{
	scene_request(ctx, op, at, length);
	return take_pair(ctx, test, QP_RIGHTS) ?: carry(ctx) ?: check_both(ctx);
}

/*
 * Each of @ops to the page BAD of memory in @state, in @cases that @spoil makes of it
 * (one where there is none), must end with @status.
 */
struct refusal {
	const char *name;
	unsigned int ops;
	unsigned int accesses;
	enum ibv_wc_status status;
	enum state state;
	unsigned int cases;
	void (*spoil)(struct request *req, const struct key *key, unsigned int i);
	bool no_right;		/* of the key, */
	bool no_qp_right;	/* and of the queue pair */
	bool is_volatile;	/* memory that cannot be made persistent */
};

static void spoil_address(struct request *req, const struct key *key, unsigned int i)
{
	static const uint64_t addresses[] = { 0, 0xffff800000000000, -PAGE, -8UL };

	(void)key;
	req->remote_addr = addresses[i];
}

/* Over the end, behind it, and over the start. */
static void spoil_range(struct request *req, const struct key *key, unsigned int i)
{
	uint64_t end = key->base + key->length;
	const uint64_t bytes[] = { end - req->length + 1, end, key->base - 1 };
	const uint64_t words[] = { end & -8UL, (end + 7) & -8UL, (key->base - 1) & -8UL };

	req->remote_addr = is_in(req->op, WORDS) ? words[i] : bytes[i];
}

static void spoil_key(struct request *req, const struct key *key, unsigned int i)
{
	const uint32_t rkeys[] = { key->rkey ^ 0x5a, 0, UINT32_MAX };

	req->rkey = rkeys[i];
}

static void spoil_alignment(struct request *req, const struct key *key, unsigned int i)
{
	static const uint8_t offsets[] = { 1, 2, 4, 7 };

	(void)key;
	req->remote_addr += offsets[i];
}

#define ANY_MR		(BIT(EXPLICIT) | BIT(IMPLICIT) | BIT(PINNED))
#define ANY_MW		(BIT(MW1) | BIT(MW2))
#define ANY_ODP		(BIT(EXPLICIT) | BIT(IMPLICIT) | ANY_MW)
#define ANY_ACCESS	(ANY_ODP | BIT(PINNED))

static const struct refusal refusals[] = {
	{ .name = "unmapped", .ops = KEYED & ~BIT(FLUSH_GLOBAL), .accesses = ANY_ODP,
	  .status = IBV_WC_REM_ACCESS_ERR, .state = HOLE },
	{ .name = "far", .ops = KEYED & ~BIT(FLUSH_GLOBAL), .accesses = BIT(IMPLICIT),
	  .status = IBV_WC_REM_ACCESS_ERR, .cases = 4, .spoil = spoil_address },
	{ .name = "outside", .ops = KEYED, .accesses = ANY_ACCESS & ~BIT(IMPLICIT),
	  .status = IBV_WC_REM_ACCESS_ERR, .cases = 3, .spoil = spoil_range },
	{ .name = "wrong_key", .ops = KEYED, .accesses = ANY_ACCESS,
	  .status = IBV_WC_REM_ACCESS_ERR, .cases = 3, .spoil = spoil_key },
	{ .name = "no_right", .ops = KEYED, .accesses = ANY_ACCESS,
	  .status = IBV_WC_REM_ACCESS_ERR, .no_right = true },
	{ .name = "no_qp_right", .ops = KEYED, .accesses = ANY_MR,
	  .status = IBV_WC_REM_INV_REQ_ERR, .no_qp_right = true },
	{ .name = "misaligned", .ops = WORDS, .accesses = ANY_ACCESS,
	  .status = IBV_WC_REM_INV_REQ_ERR, .cases = 4, .spoil = spoil_alignment },
	{ .name = "readonly", .ops = WRITES | WORDS, .accesses = ANY_ODP,
	  .status = IBV_WC_REM_ACCESS_ERR, .state = READONLY },
	{ .name = "flush_volatile", .ops = BIT(FLUSH_PERSISTENT), .accesses = ANY_ODP,
	  .status = IBV_WC_REM_ACCESS_ERR, .is_volatile = true },
};

/* The MR, and of a page that can only be read the reading, and its neighbours. */
static int still_works(struct ctx *ctx, const struct test *test)
{
	return works(ctx, test, SEND, GOOD, 3 * PAGE) ?:
	       (test->refusal->state != READONLY ? 0 :
		works(ctx, test, READ, BAD, PAGE) ?:
		works(ctx, test, WRITE, BAD - 999, 999) ?:
		works(ctx, test, WRITE, BAD + PAGE, 999));
}

static int refuse_case(struct ctx *ctx, const struct test *test, enum op op, unsigned int i)
{
	const struct refusal *refusal = test->refusal;
	unsigned int wanted = BIT(refusal->status);
	int right = ops[op].right, ret;

	ret = drop_pairs(ctx);
	scene_request(ctx, op, BAD + 8 * (1 + below(ctx, 64)), 1000);
	/* A window has memory of the MR's on both sides of it. */
	ret = ret ?: take_pair(ctx, test, refusal->no_qp_right ? QP_RIGHTS & ~right : QP_RIGHTS) ?:
	      open_key(ctx, &ctx->target, test->access, BAD - 800, PAGE + 1600,
		       refusal->no_right ? RIGHTS & ~right : RIGHTS | right);
	if (ret)
		return ret;
	if (refusal->spoil)
		refusal->spoil(&ctx->req, &ctx->key, i);
	/* The receive of an immediate may be taken already when it is refused. */
	return want_refused(ctx, wanted, op == WRITE_IMM ? wanted | FLUSHED : FLUSHED) ?:
	       check_both(ctx);
}

static int refuse_op(struct ctx *ctx, const struct test *test, enum op op)
{
	const struct refusal *refusal = test->refusal;
	bool window = is_window(test->access);
	int rights = RIGHTS | ops[op].right | (window ? IBV_ACCESS_MW_BIND : 0), ret;
	enum odp_mem_kind kind = random_kind(ctx);
	unsigned int i;

	if (refusal->no_right && !window)
		rights &= ~ops[op].right;
	if (rights & IBV_ACCESS_FLUSH_PERSISTENT && !refusal->is_volatile)
		kind = ODP_MEM_FSDAX;
	ret = explain(scene_open(ctx, test->access, kind, rights, refusal->state), "for %s",
		      ops[op].name);
	for (i = 0; i < (refusal->cases ?: 1) && !ret; i++)
		ret = refuse_case(ctx, test, op, i) ?: still_works(ctx, test);
	return ret;
}

static int refuse(struct ctx *ctx, const struct test *test)
{
	int op, ret = 0;

	for (op = 0; op < OPS && !ret; op++)
		if (is_in(op, test->refusal->ops))
			ret = refuse_op(ctx, test, op);
	return ret;
}

/* --- what runs into the bad memory --------------------------------------------------- */

/*
 * The message failed after @good bytes. What arrived is whole packets of it, in order;
 * of the one that failed, if it was the destination that is bad, also what is before
 * the bad place. Then that is right.
 */
static int accept_partial(struct ctx *ctx, size_t good)
{
	const struct request *req = &ctx->req;
	bool back = req->op == READ;
	struct side *to = back ? req->local : req->remote, *from = back ? req->remote : req->local;
	size_t to_at = back ? req->local_at : req->remote_at, mtu = mtus[req->mtu];
	bool to_is_bad = to == &ctx->target;
	size_t limit = to_is_bad ? good : req->length, fresh, stale, n;
	const uint8_t *new = from->model + (back ? req->remote_at : req->local_at);
	const uint8_t *got = side_at(to, to_at);
	uint8_t *old = to->model + to_at;

	for (fresh = 0; fresh < good && got[fresh] == new[fresh]; fresh++)
		;
	for (stale = limit; stale && got[stale - 1] == old[stale - 1]; stale--)
		;
	for (n = stale; n <= fresh; n++) {
		if (n % mtu && !(to_is_bad && n >= good / mtu * mtu))
			continue;
		memcpy(old, got, n);
		return 0;
	}
	return odp_fail(EBADMSG, "%s memory at %zu: %zu bytes are the message's, and from %zu on the old ones: these are not whole packets before the bad place at %zu",
			to->name, to_at, fresh, stale, good);
}

static int partly_case(struct ctx *ctx, const struct test *test, size_t mtu, size_t good)
{
	struct side *target = &ctx->target, *peer = &ctx->peer;
	size_t at = (test->state == END ? target->start + target->length : BAD) - good;
	unsigned int wanted = test->op == SEND ? REMOTE_FAILURE : REMOTE_REFUSAL;
	unsigned int received = test->op == SEND ? LOCAL_REFUSAL : FLUSHED;
	struct request *req = &ctx->req;
	uint64_t sum;
	int ret;

	scene_request(ctx, test->op, at, good + 1000);
	req->mtu = mtu;
	if (test->bad_is_local) {
		wanted = LOCAL_REFUSAL;
		received = 0;
		req->local = target;
		req->local_at = at;
		req->remote = peer;
		req->remote_at = 5 * PAGE + 16;
		mr_key(ctx, peer);
		use_key(ctx);
	}
	if (test->op == READ)
		fill_range(ctx, req->remote, req->remote_at, good);
	else if (test->op != FETCH_ADD)
		fill_range(ctx, req->local, req->local_at, good);
	ret = take_pair(ctx, test, QP_RIGHTS) ?: want_refused(ctx, wanted, received);
	if (!ret && test->op == FETCH_ADD) {
		/* Executed once, and only the answer has nowhere to go. */
		memcpy(&sum, peer->model + req->remote_at, sizeof(sum));
		sum += req->add;
		memcpy(peer->model + req->remote_at, &sum, sizeof(sum));
	} else if (!ret) {
		ret = accept_partial(ctx, good);
	}
	return ret ?: check_both(ctx);
}

/* At the bad place, and into it, at every MTU. */
static int refuse_partly(struct ctx *ctx, const struct test *test)
{
	size_t mtu;
	int ret;

	ret = scene_open(ctx, test->access, random_kind(ctx), RIGHTS, test->state);
	for (mtu = 0; mtu < ARRAY_SIZE(mtus) && !ret; mtu++)
		ret = partly_case(ctx, test, mtu, 0) ?:
		      (test->op == FETCH_ADD ? 0 : partly_case(ctx, test, mtu, 5000)) ?:
		      works(ctx, test, WRITE, GOOD, 3 * PAGE);
	return ret;
}

/* --- keys that are invalidated, bound and deregistered ------------------------------- */

static int local_inv(struct odp_end *end, uint32_t rkey, struct ibv_wc *wc)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = SEND_ID, .opcode = IBV_WR_LOCAL_INV, .send_flags = IBV_SEND_SIGNALED,
		.invalidate_rkey = rkey,
	};
	int ret = ibv_post_send(end->qp, &wr, &bad);

	return ret ? odp_fail(ret, "posting LOCAL_INV: %s", strerror(ret)) :
		     odp_wait(end, wc, ODP_WAIT_MS);
}

/* Invalidate the key of an MR: how the request ends, and its receive. */
static int invalidate_mr(struct ctx *ctx, const struct test *test, enum access access,
			 struct ibv_wc wc[2])
{
	struct request *req = &ctx->req;
	int ret;

	memset(wc, 0, 2 * sizeof(*wc));
	ret = scene_open(ctx, access, random_kind(ctx), RIGHTS, SOUND);
	if (ret)
		return ret;
	scene_request(ctx, test->op, GOOD, 3000);
	req->imm = req->rkey;
	ret = take_pair(ctx, test, QP_RIGHTS);
	if (!ret && test->op == SEND_INV)
		ret = post_receive(ctx->pair, req) ?: post(&ctx->pair->local, req) ?:
		      odp_wait(&ctx->pair->local, &wc[0], ODP_WAIT_MS) ?:
		      odp_wait(&ctx->pair->remote, &wc[1], ODP_WAIT_MS);
	else if (!ret)
		ret = local_inv(&ctx->pair->local, req->rkey, &wc[0]);
	/* The message is there before the key is looked at. */
	return ret ?: drop_pairs(ctx) ?:
	       (test->op == SEND_INV ? accept_partial(ctx, req->length) : 0) ?:
	       check_both(ctx) ?: works(ctx, test, WRITE, GOOD, 3 * PAGE);
}

/* Users' MRs cannot be invalidated, and ODP is no exception. */
static int refuse_invalidation(struct ctx *ctx, const struct test *test)
{
	struct ibv_wc pinned[2], odp[2];
	int ret;

	ret = invalidate_mr(ctx, test, PINNED, pinned) ?:
	      invalidate_mr(ctx, test, test->access, odp);
	if (ret || ((odp[0].status || odp[1].status) && odp[0].status == pinned[0].status &&
		    odp[1].status == pinned[1].status))
		return ret;
	return odp_fail(EPROTO, "%s of an MR's key: \"%s\", its receive \"%s\"; pinned: \"%s\", \"%s\"",
			test->op == SEND_INV ? "SEND with invalidate" : "LOCAL_INV",
			ibv_wc_status_str(odp[0].status), ibv_wc_status_str(odp[1].status),
			ibv_wc_status_str(pinned[0].status), ibv_wc_status_str(pinned[1].status));
}

/* A window of type @type, and a write through it that is still to be sent. */
static int open_window(struct ctx *ctx, const struct test *test, enum ibv_mw_type type, int rights,
		       enum ibv_wc_status wanted)
{
	int ret;

	ret = drop_pairs(ctx);
	scene_request(ctx, WRITE, GOOD, 3000);
	ret = ret ?: take_pair(ctx, test, QP_RIGHTS) ?:
	      bind_window(ctx, &ctx->target, type, GOOD, 3000, rights, wanted);
	use_key(ctx);
	return ret;
}

static int invalidate_window(struct ctx *ctx, const struct test *test)
{
	struct ibv_wc wc;
	uint32_t rkey;
	int ret;

	ret = scene_open(ctx, test->access, random_kind(ctx), RIGHTS | IBV_ACCESS_MW_BIND,
			 SOUND) ?:
	      open_window(ctx, test, IBV_MW_TYPE_2, RIGHTS, IBV_WC_SUCCESS) ?: carry(ctx) ?:
	      local_inv(&ctx->pair->remote, ctx->key.rkey, &wc);
	if (!ret && (wc.status || wc.opcode != IBV_WC_LOCAL_INV))
		ret = odp_fail(EPROTO, "LOCAL_INV of a window's key: \"%s\", opcode %d",
			       ibv_wc_status_str(wc.status), wc.opcode);
	rkey = ctx->key.rkey;
	ret = ret ?: want_refused(ctx, REMOTE_REFUSAL, FLUSHED) ?: check_both(ctx) ?:
	      works(ctx, test, WRITE, GOOD, 3 * PAGE) ?:
	      local_inv(&ctx->pair->remote, rkey, &wc);
	if (!ret && !wc.status)
		ret = odp_fail(EPROTO, "LOCAL_INV of a window that is not bound succeeded");
	return ret ?: drop_pairs(ctx) ?: works(ctx, test, WRITE, GOOD, 3 * PAGE);
}

/* To an MR that was not registered for windows. */
static int refuse_bind(struct ctx *ctx, const struct test *test)
{
	int type, ret;

	ret = scene_open(ctx, test->access, random_kind(ctx), RIGHTS, SOUND);
	for (type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2 && !ret; type++)
		ret = open_window(ctx, test, type, RIGHTS, IBV_WC_MW_BIND_ERR) ?:
		      drop_pairs(ctx) ?: works(ctx, test, WRITE, GOOD, 3 * PAGE);
	return ret;
}

static int want_bound(struct ctx *ctx, enum ibv_mw_type type)
{
	int err = ibv_dereg_mr(ctx->target.mr.mr);

	if (err == EINVAL)
		return 0;
	if (!err)
		ctx->target.mr.mr = NULL;
	return odp_fail(EPROTO, "ibv_dereg_mr with a type %d window: %s, should be EINVAL", type,
			err ? strerror(err) : "success");
}

/* An MR that a window is bound to goes on, until that is gone. */
static int refuse_dereg(struct ctx *ctx, const struct test *test)
{
	int type, ret;

	ret = scene_open(ctx, test->access, random_kind(ctx), RIGHTS | IBV_ACCESS_MW_BIND, SOUND);
	for (type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2 && !ret; type++)
		ret = open_window(ctx, test, type, RIGHTS, IBV_WC_SUCCESS) ?:
		      want_bound(ctx, type) ?: carry(ctx) ?: drop_pairs(ctx) ?:
		      works(ctx, test, WRITE, GOOD, 3 * PAGE);
	return ret ?: odp_dereg(&ctx->target.mr);
}

/* A FLUSH needs one of the responder's resources, and here it has none. */
static int refuse_flush(struct ctx *ctx, const struct test *test)
{
	struct rc_attr attr = RC_ATTR_INIT;
	struct odp_pair *pair = &ctx->pairs[0];
	int ret;

	attr.rights = QP_RIGHTS;
	attr.resources = 0;
	ret = scene_open(ctx, test->access, random_kind(ctx), RIGHTS | IBV_ACCESS_FLUSH_GLOBAL,
			 SOUND);
	if (ret)
		return ret;
	scene_request(ctx, FLUSH_GLOBAL, GOOD, PAGE);
	ctx->pair = pair;
	pair->dev = &ctx->dev;
	ret = rc_create(&pair->local, &ctx->dev, false) ?:
	      rc_create(&pair->remote, &ctx->dev, false) ?:
	      rc_connect(&pair->local, &ctx->dev, &ctx->dev.gid, pair->remote.qp->qp_num, &attr) ?:
	      rc_connect(&pair->remote, &ctx->dev, &ctx->dev.gid, pair->local.qp->qp_num, &attr) ?:
	      post(&pair->local, &ctx->req) ?:
	      want_status(&pair->local, "a FLUSH without a resource",
			  1 << IBV_WC_REM_INV_REQ_ERR);
	return ret ?: drop_pairs(ctx) ?: works(ctx, test, WRITE, GOOD, 3 * PAGE);
}

/* --- flushes that are not a message's ------------------------------------------------ */

/* What cannot be persistent cannot be pinned to be so. */
static int refuse_flush_mr(struct ctx *ctx, const struct test *test)
{
	int ret = side_open(ctx, &ctx->target, "volatile", random_kind(ctx), SCENE, test->access,
			    RIGHTS | IBV_ACCESS_FLUSH_PERSISTENT);

	if (ret == -EINVAL)
		return 0;
	if (!ret)
		return odp_fail(EPROTO, "volatile memory was registered with IBV_ACCESS_FLUSH_PERSISTENT");
	return explain(ret, "that should be EINVAL");
}

/* No write before it. For the whole MR there is no address, and no length. */
static int flush(struct ctx *ctx, const struct test *test, enum op op, size_t at, size_t length,
		 uint8_t level)
{
	struct request *req = &ctx->req;

	scene_request(ctx, op, at, length);
	req->local = req->remote;
	req->level = level;
	if (level == IBV_FLUSH_MR)
		req->remote_addr = 0;
	return take_pair(ctx, test, QP_RIGHTS) ?: post(&ctx->pair->local, req) ?:
	       want_done(&ctx->pair->local, req, ODP_WAIT_MS);
}

static int flush_whole(struct ctx *ctx, const struct test *test)
{
	static const enum op both[] = { FLUSH_PERSISTENT, FLUSH_GLOBAL };
	int i, ret;

	ret = scene_open(ctx, test->access, ODP_MEM_FSDAX, RIGHTS | FLUSH_RIGHTS, SOUND);
	for (i = 0; i < 8 && !ret; i++)
		ret = works(ctx, test, WRITE, GOOD, 3 * PAGE) ?:
		      flush(ctx, test, both[i % 2], 0, 0, IBV_FLUSH_MR) ?: check_both(ctx) ?:
		      lose(ctx, &ctx->target, GOOD, 5 * PAGE);
	return ret;
}

/* Nobody has written there, and nobody does. */
static int flush_hole(struct ctx *ctx, const struct test *test)
{
	return side_open(ctx, &ctx->target, "hole", ODP_MEM_FSDAX, ARENA, test->access,
			 RIGHTS | FLUSH_RIGHTS) ?:
	       flush(ctx, test, FLUSH_PERSISTENT, 3 * PAGE + 5, ARENA / 2 + 77, IBV_FLUSH_RANGE) ?:
	       (test->access == IMPLICIT ? 0 :
		flush(ctx, test, FLUSH_PERSISTENT, 0, 0, IBV_FLUSH_MR)) ?:
	       check_all(&ctx->target);
}

/* Longer than 32 bits can count, of which there are three pages. */
static int flush_large(struct ctx *ctx, const struct test *test)
{
	const size_t size = 5UL << 30, at = size - 3 * PAGE - 5;
	struct side *side = &ctx->target;
	void *addr;
	int ret;

	addr = mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (addr == MAP_FAILED)
		return guest_fail("mmap of 5 GiB");
	*side = (struct side){
		.name = "large", .odp = true, .length = size, .iova = (uintptr_t)addr,
		.mem = { .addr = addr, .base = addr, .base_length = size },
	};
	ret = side_open(ctx, &ctx->peer, "peer", ODP_MEM_ANON, SCENE, PINNED, RIGHTS) ?:
	      odp_reg(&side->mr, &ctx->dev, addr, size,
		      RIGHTS | FLUSH_RIGHTS | IBV_ACCESS_ON_DEMAND);
	if (ret)
		return ret;
	fill_range(ctx, &ctx->peer, 0, ctx->peer.mem.length);
	ret = flush(ctx, test, FLUSH_GLOBAL, 0, 0, IBV_FLUSH_MR) ?:
	      odp_write(ctx->pair, &ctx->peer.mr, 0, &side->mr, at, 2 * PAGE) ?:
	      flush(ctx, test, FLUSH_GLOBAL, 0, 0, IBV_FLUSH_MR);
	if (!ret && !odp_compare(side_at(side, at), ctx->peer.mr.addr, 2 * PAGE, NULL))
		ret = odp_fail(EBADMSG, "what was written at %zu is not there", at);
	return ret;
}

/* --- the list of tests --------------------------------------------------------------- */

#define MAX_TESTS	256

static struct test tests[MAX_TESTS];
static size_t test_count;

static struct test *add(int (*run)(struct ctx *ctx, const struct test *test), const char *prefix,
			const char *name, enum access access)
{
	struct test *test = &tests[test_count++];

	test->run = run;
	test->access = access;
	test->transport = IBV_QPT_RC;
	snprintf(test->name, sizeof(test->name), "%s_%s_%s", prefix, name, access_names[access]);
	return test;
}

static void add_verbs(void)
{
	static const char *const transports[] = {
		[IBV_QPT_RC] = "rc", [IBV_QPT_UC] = "uc", [IBV_QPT_UD] = "ud",
	};
	struct test *test;
	int type, op, access;

	for (type = IBV_QPT_RC; type <= IBV_QPT_UD; type++) {
		for (op = 0; op < OPS; op++) {
			for (access = 0; access < ACCESSES; access++) {
				if (!(ops[op].on & BIT(type)) ||
				    (is_window(access) && !is_in(op, KEYED)))
					continue;
				test = add(move_messages, transports[type], ops[op].name, access);
				test->transport = type;
				test->op = op;
			}
		}
	}
}

static void add_partly(void)
{
	const unsigned int odp = BIT(EXPLICIT) | BIT(IMPLICIT);
	const unsigned int ends = BIT(EXPLICIT) | BIT(PINNED);
	const struct {
		const char *name;
		enum op op;
		bool local;
		enum state state;
		unsigned int accesses;
	} rows[] = {
		{ "hole_write", WRITE, false, HOLE, odp },
		{ "hole_read", READ, false, HOLE, odp },
		{ "hole_receive", SEND, false, HOLE, odp },
		{ "hole_write_from", WRITE, true, HOLE, odp },
		{ "hole_read_into", READ, true, HOLE, odp },
		{ "hole_fetch_add_into", FETCH_ADD, true, HOLE, odp },
		{ "readonly_write", WRITE, false, READONLY, odp },
		{ "readonly_receive", SEND, false, READONLY, odp },
		{ "readonly_read_into", READ, true, READONLY, odp },
		{ "end_receive", SEND, false, END, ends },
		{ "end_write_from", WRITE, true, END, ends },
		{ "end_read_into", READ, true, END, ends },
		{ "end_fetch_add_into", FETCH_ADD, true, END, ends },
	};
	struct test *test;
	int access;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		for (access = 0; access < ACCESSES; access++) {
			if (!(rows[i].accesses & BIT(access)))
				continue;
			test = add(refuse_partly, "error", rows[i].name, access);
			test->op = rows[i].op;
			test->bad_is_local = rows[i].local;
			test->state = rows[i].state;
		}
	}
}

static void add_refusals(void)
{
	int access;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(refusals); i++)
		for (access = 0; access < ACCESSES; access++)
			if (refusals[i].accesses & BIT(access))
				add(refuse, "error", refusals[i].name, access)->refusal =
					&refusals[i];
	for (access = 0; access < ACCESSES; access++) {
		if (is_window(access))
			continue;
		add(invalidate_window, "error", "invalidated_window", access);
		add(refuse_bind, "error", "bind", access);
		add(refuse_dereg, "error", "dereg_bound", access);
		if (access == PINNED)
			continue;
		add(refuse_invalidation, "error", "local_inv_mr", access);
		add(refuse_invalidation, "error", "send_inv_mr", access)->op = SEND_INV;
	}
	add(refuse_flush_mr, "error", "flush_register", PINNED);
	add(refuse_flush, "error", "flush_no_resource", EXPLICIT);
	add(refuse_flush, "error", "flush_no_resource", PINNED);
}

static void add_rest(void)
{
	static const char *const besides[] = { "against_cpu", "while_protected", "beside_pinned" };
	int access, beside;

	for (access = EXPLICIT; access <= IMPLICIT; access++) {
		for (beside = 0; beside < (int)ARRAY_SIZE(besides); beside++)
			add(add_up, "rc_atomic", besides[beside], access)->beside = beside;
		add(flush_hole, "rc_flush", "hole", access);
	}
	add(add_up, "rc_atomic", besides[A_CPU], PINNED);
	add(flush_whole, "rc_flush", "whole", EXPLICIT);
	add(flush_whole, "rc_flush", "whole", PINNED);
	add(flush_large, "rc_flush", "large", EXPLICIT);
}

/* --- running them -------------------------------------------------------------------- */

static const char *name_test(size_t i)
{
	return i < test_count ? tests[i].name : NULL;
}

static int open_ctx(void *arg, const char *device)
{
	const char *all = getenv("SURFACE_ALL");
	struct ctx *ctx = arg;

	ctx->all = all && !strcmp(all, "1");
	if (odp_open(&ctx->dev, device))
		return -ENODEV;
	ctx->odp = odp_supported(&ctx->dev);
	return 0;
}

static void close_ctx(void *arg)
{
	struct ctx *ctx = arg;

	odp_close(&ctx->dev);
}

/* Say what the message was that failed. */
static int describe(const struct ctx *ctx, const struct test *test, int ret)
{
	const struct request *req = &ctx->req;
	const struct side *local = req->local, *remote = req->remote;

	if (!local)
		return ret;
	return explain(ret, "%s (%s) of %zu bytes, MTU %d, local: %s %s memory at %zu, remote: %s %s at %zu, address %#lx, rkey %#x",
		       ops[req->op].name, access_names[test->access], req->length, mtus[req->mtu],
		       local->odp ? "ODP" : "pinned", odp_mem_name(local->mem.kind), req->local_at,
		       remote->odp ? "ODP" : "pinned", odp_mem_name(remote->mem.kind),
		       req->remote_at, req->remote_addr, req->rkey);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	const struct test *test = &tests[i];
	struct ctx *ctx = arg;
	int ret;

	if (test->access != PINNED && !ctx->odp)
		return odp_fail(ENODEV, "the kernel has no ODP for %s", ctx->dev.name);
	ctx->rng = seed;
	ret = describe(ctx, test, test->run(ctx, test));
	return ret ? (close_all(ctx), ret) : close_all(ctx);
}

/* run_test() has closed everything. */
int main(int argc, char **argv)
{
	struct ctx ctx = { .iterations = 16 };
	struct suite suite = {
		.program = "test-surface",
		.about = "Byte-exact test of every verb on ODP regions and through windows.\n"
			 "SURFACE_ALL=1 in the environment: every combination, not a sample.",
		.ctx = &ctx,
		.dev = &ctx.dev,
		.iterations = &ctx.iterations,
		.name = name_test,
		.open = open_ctx,
		.close = close_ctx,
		.run = run_test,
	};

	add_rest();
	add_verbs();
	add_partly();
	add_refusals();
	return suite_main(&suite, argc, argv);
}
