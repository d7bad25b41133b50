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
#define GUARD		(2 * PAGE)
#define GRH		40		/* UD puts this before what it receives */
#define LOST_MS		2000
#define TRIES		5		/* UC and UD may drop while a page is brought in */
#define UC_PACKETS	24		/* fewer than rxe keeps while a fault is waited for */
#define UD_QKEY		0x1234		/* odp.c's */
#define SEND_ID		0x5e4d
#define RECV_ID		0x4ecf

/* The last two of IBV_ODP_SUPPORT_, which rdma-core 56 does not have yet. */
#define ODP_SUPPORT_FLUSH		(1u << 6)
#define ODP_SUPPORT_ATOMIC_WRITE	(1u << 7)

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

struct ctx {
	struct odp_dev dev;
	struct odp_pair pairs[ARRAY_SIZE(mtus)];	/* of one subtest's */
	uint64_t rng;
	uint64_t iterations;
	bool odp;
	bool all;
};

struct refusal;
enum state { SOUND, HOLE, READONLY, END };

struct test {
	char name[48];
	int (*run)(struct ctx *ctx, const struct test *test);
	enum access access;
	enum ibv_qp_type transport;
	enum op op;
	const struct refusal *refusal;
	enum state state;
	bool bad_is_local;
};

static uint64_t below(struct ctx *ctx, uint64_t limit)
{
	return odp_random(&ctx->rng) % limit;
}

static bool is_in(enum op op, unsigned int set)
{
	return set >> op & 1;
}

static enum odp_mem_kind random_kind(struct ctx *ctx)
{
	return kinds[below(ctx, ARRAY_SIZE(kinds))];
}

/* --- queue pairs: RC with all its verbs ------------------------------------------- */

static int create_end(struct odp_end *end, struct odp_dev *dev, bool srq)
{
	struct ibv_srq_init_attr srq_init = { .attr = { .max_wr = 64, .max_sge = 4 } };
	struct ibv_qp_init_attr_ex init = {
		.qp_type = IBV_QPT_RC,
		.cap = {
			.max_send_wr = 64, .max_recv_wr = 64, .max_send_sge = 4, .max_recv_sge = 4,
		},
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = dev->pd,
		.send_ops_flags = IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD |
				  IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
				  IBV_QP_EX_WITH_ATOMIC_WRITE | IBV_QP_EX_WITH_FLUSH,
	};

	errno = 0;
	end->cq = ibv_create_cq(dev->ctx, 128, NULL, NULL, 0);
	if (!end->cq)
		return guest_fail("ibv_create_cq");
	init.send_cq = end->cq;
	init.recv_cq = end->cq;
	if (srq) {
		end->srq = ibv_create_srq(dev->pd, &srq_init);
		if (!end->srq)
			return guest_fail("ibv_create_srq");
		init.srq = end->srq;
	}
	end->qp = ibv_create_qp_ex(dev->ctx, &init);
	return end->qp ? 0 : guest_fail("ibv_create_qp_ex");
}

static int connect_end(struct odp_end *end, struct odp_dev *dev, uint32_t peer, size_t mtu,
		       int rights)
{
	static const struct {
		enum ibv_qp_state state;
		int mask;
	} steps[] = {
		{ IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS },
		{ IBV_QPS_RTR, IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			       IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER },
		{ IBV_QPS_RTS, IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			       IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC },
	};
	const struct odp_pair_attr common = ODP_PAIR_ATTR_INIT;
	struct ibv_qp_attr attr = {
		.port_num = dev->port,
		.qp_access_flags = rights,
		.path_mtu = IBV_MTU_256 + mtu,
		.dest_qp_num = peer,
		.max_rd_atomic = 16,
		.max_dest_rd_atomic = 16,
		.min_rnr_timer = 12,
		.timeout = common.timeout,
		.retry_cnt = common.retry_cnt,
		.rnr_retry = common.rnr_retry,
		.ah_attr = {
			.is_global = 1,
			.port_num = dev->port,
			.grh = {
				.dgid = dev->gid, .sgid_index = dev->gid_index, .hop_limit = 64,
			},
		},
	};
	size_t i;
	int ret;

	end->peer = peer;
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		attr.qp_state = steps[i].state;
		ret = ibv_modify_qp(end->qp, &attr, IBV_QP_STATE | steps[i].mask);
		if (ret)
			return odp_fail(ret, "QP to state %d: %s", steps[i].state, strerror(ret));
	}
	return 0;
}

/* FLUSH and ATOMIC WRITE want more of a queue pair than odp_connect() gives it. */
static int connect_rc(struct odp_pair *pair, struct odp_dev *dev, size_t mtu, bool srq, int rights)
{
	int ret;

	memset(pair, 0, sizeof(*pair));
	pair->dev = dev;
	ret = create_end(&pair->local, dev, srq);
	if (!ret)
		ret = create_end(&pair->remote, dev, srq);
	if (!ret)
		ret = connect_end(&pair->local, dev, pair->remote.qp->qp_num, mtu, rights);
	if (!ret)
		ret = connect_end(&pair->remote, dev, pair->local.qp->qp_num, mtu, rights);
	if (ret)
		odp_disconnect(pair);
	return ret;
}

static int get_pair(struct ctx *ctx, const struct test *test, size_t mtu, struct odp_pair **pair)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;

	*pair = &ctx->pairs[mtu];
	if ((*pair)->local.qp)
		return 0;
	attr.mtu = mtus[mtu];
	attr.type = test->transport;
	attr.srq = test->op == SRQ_RECV;
	if (test->transport == IBV_QPT_RC)
		return connect_rc(*pair, &ctx->dev, mtu, attr.srq, QP_RIGHTS);
	return odp_connect(*pair, &ctx->dev, &attr);
}

static void drop_pairs(struct ctx *ctx)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(mtus); i++)
		odp_disconnect(&ctx->pairs[i]);
}

/* --- one side: memory, its MR, and its model; all offsets are the memory's --------- */

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
	mem->page_size = PAGE;
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

/* The I/O address: the same, zero-based, anywhere, or at the very top. */
static uint64_t random_iova(struct ctx *ctx, uintptr_t addr)
{
	uint64_t in_page = addr % PAGE;

	switch (below(ctx, 4)) {
	case 0:
		return addr;
	case 1:
		return in_page;
	case 2:
		return (odp_random(&ctx->rng) >> 17 & -PAGE) | in_page;
	default:
		return (-(64 * ODP_MIB) & -PAGE) | in_page;
	}
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
	if (kind == ODP_MEM_FSDAX && !side->odp)
		ret = map_devdax(&side->mem, size);
	else
		ret = odp_mem_map(&side->mem, kind, size, NULL);
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
			   random_iova(ctx, (uintptr_t)start), rights);
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
	int ret = check_range(side, 0, side->hole);

	return ret ? ret : check_range(side, behind, side->mem.length - behind);
}

static int check_both(const struct side *a, const struct side *b)
{
	int ret = check_all(a);

	return ret ? ret : check_all(b);
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

/* Of the ODP side take pages away, those of the message or any, or nothing. */
static int lose(struct ctx *ctx, struct side *side, size_t at, size_t length)
{
	size_t start = at & -PAGE, end = (at + length + PAGE - 1) & -PAGE;
	uint8_t *addr;
	int ret = 0;

	if (!side->odp)
		return 0;
	if (below(ctx, 2)) {
		start = below(ctx, side->mem.length / PAGE) * PAGE;
		end = start + (1 + below(ctx, (side->mem.length - start) / PAGE)) * PAGE;
	}
	addr = side_at(side, start);
	switch (below(ctx, 4)) {
	case 0:
		ret = odp_mem_discard(&side->mem, start, end - start);
		memset(side->model + start, 0, end - start);
		break;
	case 1:
		/* Nothing to see where nothing can be paged out. */
		madvise(addr, end - start, MADV_PAGEOUT);
		break;
	case 2:
		if (mprotect(addr, end - start, PROT_NONE) ||
		    mprotect(addr, end - start, PROT_READ | PROT_WRITE))
			ret = guest_fail("mprotect");
		break;
	}
	return ret;
}

/* --- remote keys: an MR's, or a window's --------------------------------------------- */

struct key {
	struct ibv_mw *mw;	/* or NULL */
	uint32_t rkey;
	uint64_t iova;		/* what the first byte of the memory is called */
	uint64_t base, length;	/* what the key opens */
};

/* The key of the MR. */
static struct key key_of(const struct side *side)
{
	return (struct key){
		.rkey = side->mr.mr->rkey, .iova = side->iova,
		.base = side->iova + side->start, .length = side->length,
	};
}

/*
 * Bind a window of [@at, @at + @length), by the responder: one of type 2 is for
 * its queue pair alone.
 */
static int bind_window(struct key *key, struct odp_pair *pair, const struct side *side,
		       enum ibv_mw_type type, size_t at, size_t length, int rights,
		       enum ibv_wc_status wanted)
{
	struct ibv_mw_bind bind = {
		.wr_id = SEND_ID,
		.send_flags = IBV_SEND_SIGNALED,
		.bind_info = {
			.mr = side->mr.mr, .addr = side->iova + at, .length = length,
			.mw_access_flags = rights,
		},
	};
	struct ibv_send_wr *bad, wr = {
		.wr_id = SEND_ID, .opcode = IBV_WR_BIND_MW, .send_flags = IBV_SEND_SIGNALED,
	};
	struct ibv_wc wc;
	int ret;

	memset(key, 0, sizeof(*key));
	errno = 0;
	key->mw = ibv_alloc_mw(pair->dev->pd, type);
	if (!key->mw)
		return guest_fail("ibv_alloc_mw");
	if (type == IBV_MW_TYPE_1) {
		ret = ibv_bind_mw(pair->remote.qp, key->mw, &bind);
		key->rkey = key->mw->rkey;
	} else {
		key->rkey = ibv_inc_rkey(key->mw->rkey);
		wr.bind_mw.mw = key->mw;
		wr.bind_mw.rkey = key->rkey;
		wr.bind_mw.bind_info = bind.bind_info;
		ret = ibv_post_send(pair->remote.qp, &wr, &bad);
	}
	if (ret)
		return odp_fail(ret, "posting the bind of a type %d window: %s", type,
				strerror(ret));
	key->iova = rights & IBV_ACCESS_ZERO_BASED ? -(uint64_t)at : side->iova;
	key->base = key->iova + at;
	key->length = length;

	ret = odp_wait(&pair->remote, &wc, ODP_WAIT_MS);
	if (ret)
		return ret;
	if (wc.status != wanted || wc.wr_id != SEND_ID ||
	    (!wc.status && wc.opcode != IBV_WC_BIND_MW))
		return odp_fail(EPROTO, "bind of a type %d window: \"%s\", opcode %d, should be \"%s\"",
				type, ibv_wc_status_str(wc.status), wc.opcode,
				ibv_wc_status_str(wanted));
	return 0;
}

/* The key that the access column stands for; a window is only open where it must be. */
static int key_open(struct ctx *ctx, struct key *key, struct odp_pair *pair,
		    const struct side *side, enum access access, size_t at, size_t length,
		    int rights)
{
	*key = key_of(side);
	if (access == MW2 && below(ctx, 2))
		rights |= IBV_ACCESS_ZERO_BASED;
	if (access != MW1 && access != MW2)
		return 0;
	return bind_window(key, pair, side, access == MW1 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2, at,
			   length, rights, IBV_WC_SUCCESS);
}

/* Before its queue pair goes: a window holds the one that it is bound to. */
static int key_close(struct key *key, int ret)
{
	int err = key->mw ? ibv_dealloc_mw(key->mw) : 0;

	key->mw = NULL;
	if (ret || !err)
		return ret;
	return odp_fail(err, "ibv_dealloc_mw: %s", strerror(err));
}

/* --- requests ------------------------------------------------------------------------ */

struct request {
	enum op op;
	size_t mtu;			/* its number in mtus */
	struct side *local, *remote;
	size_t local_at, remote_at, length;
	uint32_t rkey;
	uint64_t remote_addr;
	uint64_t add;			/* or compare */
	uint64_t swap;			/* or write */
	uint32_t imm;			/* or the key to invalidate */
	uint8_t level;			/* of a flush */
};

static void use_key(struct request *req, const struct key *key)
{
	req->rkey = key->rkey;
	req->remote_addr = key->iova + req->remote_at;
}

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
	struct ibv_wc wc;
	int ret;

	ret = odp_wait(end, &wc, wait_ms);
	if (ret)
		return ret;
	if (wc.status)
		return odp_fail(EREMOTEIO, "%s: %s", ops[req->op].name,
				ibv_wc_status_str(wc.status));
	if (wc.wr_id == SEND_ID && wc.opcode == ops[req->op].done && wc.byte_len == req->length &&
	    wc.qp_num == end->qp->qp_num && !(wc.wc_flags & ~IBV_WC_WITH_IMM))
		return 0;
	return odp_fail(EPROTO, "completion of %s: opcode %d, %u bytes, wr_id %#lx, QP %#x, flags %#x",
			ops[req->op].name, wc.opcode, wc.byte_len, wc.wr_id, wc.qp_num,
			wc.wc_flags);
}

static int want_received(struct odp_pair *pair, const struct request *req, int wait_ms)
{
	bool ud = pair->local.ah, inv = req->op == SEND_INV;
	bool imm = req->op == SEND_IMM || req->op == WRITE_IMM;
	unsigned int flags = inv ? IBV_WC_WITH_INV : imm ? IBV_WC_WITH_IMM : 0;
	struct ibv_wc wc;
	int ret;

	ret = odp_wait(&pair->remote, &wc, wait_ms);
	if (ret)
		return ret;
	if (wc.status)
		return odp_fail(EREMOTEIO, "receive of %s: %s", ops[req->op].name,
				ibv_wc_status_str(wc.status));
	if (wc.wr_id == RECV_ID && wc.opcode == ops[req->op].received &&
	    wc.byte_len == req->length + (ud ? GRH : 0) &&
	    wc.qp_num == pair->remote.qp->qp_num &&
	    (!ud || (wc.src_qp == pair->local.qp->qp_num && wc.wc_flags & IBV_WC_GRH)) &&
	    (wc.wc_flags & ~IBV_WC_GRH) == flags &&
	    (!imm || wc.imm_data == req->imm) && (!inv || wc.invalidated_rkey == req->imm))
		return 0;
	return odp_fail(EPROTO, "receive of %s: opcode %d, %u bytes, wr_id %#lx, QP %#x from %#x, flags %#x (should be %#x), data %#x (%#x)",
			ops[req->op].name, wc.opcode, wc.byte_len, wc.wr_id, wc.qp_num, wc.src_qp,
			wc.wc_flags, flags, wc.imm_data, req->imm);
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

/*
 * One message and all of its completions; what is flushed is written right before.
 * -ETIMEDOUT: it was lost on the way.
 */
static int carry(struct odp_pair *pair, const struct request *req)
{
	bool reliable = pair->local.qp->qp_type == IBV_QPT_RC, flush = is_in(req->op, FLUSHES);
	int wait_ms = reliable ? ODP_WAIT_MS : LOST_MS, ret = 0;
	struct request write = *req;

	write.op = WRITE;
	if (ops[req->op].received)
		ret = post_receive(pair, req);
	if (!ret && flush)
		ret = post(&pair->local, &write);
	if (!ret)
		ret = post(&pair->local, req);
	if (!ret && flush)
		ret = want_done(&pair->local, &write, wait_ms);
	if (!ret)
		ret = want_done(&pair->local, req, wait_ms);
	if (!ret && ops[req->op].received)
		ret = want_received(pair, req, wait_ms);
	if (!ret && !reliable && req->op == WRITE)
		ret = want_arrival(req);
	return ret;
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

/* Add what was being done to the message in odp_error(). */
static int explain(int ret, const struct test *test, const struct request *req)
{
	const struct side *local = req->local, *remote = req->remote;
	char text[300];

	/* Skipped, with a reason that is long enough. */
	if (ret == -ENODEV)
		return ret;
	snprintf(text, sizeof(text), "%s", odp_error());
	return odp_fail(-ret, "%s; %s (%s) of %zu bytes, MTU %d, %s %s memory at %zu (local), %s %s memory at %zu (remote address %#lx)",
			text, ops[req->op].name, access_names[test->access], req->length,
			mtus[req->mtu], local->odp ? "ODP" : "pinned",
			odp_mem_name(local->mem.kind), req->local_at,
			remote->odp ? "ODP" : "pinned", odp_mem_name(remote->mem.kind),
			req->remote_at, req->remote_addr);
}

/* --- refused requests ----------------------------------------------------------------- */

#define REMOTE_REFUSAL	BIT(IBV_WC_REM_ACCESS_ERR)
#define REMOTE_FAILURE	(BIT(IBV_WC_REM_ACCESS_ERR) | BIT(IBV_WC_REM_OP_ERR) | \
			 BIT(IBV_WC_REM_INV_REQ_ERR))
#define LOCAL_REFUSAL	(BIT(IBV_WC_LOC_PROT_ERR) | BIT(IBV_WC_LOC_QP_OP_ERR) | \
			 BIT(IBV_WC_WR_FLUSH_ERR))
#define FLUSHED		BIT(IBV_WC_WR_FLUSH_ERR)

static int want_status(struct odp_end *end, const char *what, unsigned int wanted)
{
	struct ibv_wc wc;
	int ret;

	ret = odp_wait(end, &wc, ODP_WAIT_MS);
	if (ret)
		return ret;
	if (wanted >> wc.status & 1)
		return 0;
	return odp_fail(EPROTO, "%s: \"%s\", should be of the set %#x", what,
			ibv_wc_status_str(wc.status), wanted);
}

/*
 * Post a request that must fail with one of @wanted, beside a receive that then ends
 * with one of @received; it stays where that is 0. The queue pair is of no use then.
 */
static int want_refused(struct odp_pair *pair, const struct request *req, unsigned int wanted,
			unsigned int received)
{
	int ret;

	ret = post_receive(pair, req);
	if (!ret)
		ret = post(&pair->local, req);
	if (!ret)
		ret = want_status(&pair->local, ops[req->op].name, wanted);
	if (!ret && received)
		ret = want_status(&pair->remote, "its receive", received);
	return ret;
}

/* --- group one: each verb -------------------------------------------------------------- */

struct bench {
	struct side local[2], remote[2];	/* pinned and ODP */
};

struct pick {
	enum align align;
	size_t mtu;
	unsigned int sides;
	size_t length;
};

static int rights_of(const struct test *test)
{
	bool windows = test->access == MW1 || test->access == MW2 || test->op == SEND_INV;

	return RIGHTS | ops[test->op].right | (windows ? IBV_ACCESS_MW_BIND : 0);
}

/* Open it if it is not. */
static int bench_side(struct ctx *ctx, const struct test *test, struct side *side,
		      const char *name, bool odp)
{
	bool persistent = test->op == FLUSH_PERSISTENT && *name == 'r';

	if (side->mr.mr)
		return 0;
	return side_open(ctx, side, name, persistent ? ODP_MEM_FSDAX : random_kind(ctx), ARENA,
			 !odp ? PINNED : test->access == IMPLICIT ? IMPLICIT : EXPLICIT,
			 rights_of(test));
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

/* Across is what one word cannot be: it ends there. */
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

/* New bytes, and lost pages, in any order. */
static int stage(struct ctx *ctx, const struct test *test, struct request *req)
{
	bool from_remote = req->op == READ || is_in(req->op, WORDS);
	bool silent = test->transport == IBV_QPT_UC && req->op == WRITE;
	struct side *source = from_remote ? req->remote : req->local;
	size_t at = from_remote ? req->remote_at : req->local_at, end = at + req->length - 1;
	bool fill_first = !silent && below(ctx, 2);
	int ret;

	if (fill_first)
		fill_range(ctx, source, at, req->length);
	ret = lose(ctx, req->local, req->local_at, req->length);
	if (!ret)
		ret = lose(ctx, req->remote, req->remote_at, req->length);
	if (ret || fill_first)
		return ret;
	fill_range(ctx, source, at, req->length);
	/* Nothing but the last byte tells that all of it has arrived. */
	if (silent && source->model[end] == req->remote->model[req->remote_at + req->length - 1])
		*side_at(source, end) = ++source->model[end];
	return 0;
}

/* The window that SEND invalidated is closed. */
static int want_closed(struct ctx *ctx, struct odp_pair *pair, const struct request *req)
{
	struct request write = *req;
	struct side *side = req->remote;
	int ret;

	(void)ctx;
	write.op = WRITE;
	write.rkey = req->imm;
	write.remote_addr = side->iova + req->remote_at;
	ret = want_refused(pair, &write, REMOTE_REFUSAL, FLUSHED);
	return ret;
}

static int move_once(struct ctx *ctx, const struct test *test, struct request *req)
{
	size_t before = is_in(req->op, WORDS) ? 8 * below(ctx, 9) : below(ctx, 70);
	size_t at = req->remote_at - before, length = req->length + before + below(ctx, 70);
	int rights = RIGHTS | ops[req->op].right;
	struct odp_pair *pair;
	struct key key = {};
	int ret;

	ret = get_pair(ctx, test, req->mtu, &pair);
	if (ret)
		return ret;
	if (req->op == SEND_INV)
		ret = bind_window(&key, pair, req->remote, IBV_MW_TYPE_2, at, length, rights,
				  IBV_WC_SUCCESS);
	else
		ret = key_open(ctx, &key, pair, req->remote, test->access, at, length, rights);
	if (!ret) {
		use_key(req, &key);
		if (req->op == SEND_INV)
			req->imm = key.rkey;
		ret = carry(pair, req);
	}
	if (!ret && req->op == SEND_INV)
		ret = want_closed(ctx, pair, req);
	ret = key_close(&key, ret);
	if (ret || req->op == SEND_INV)
		odp_disconnect(pair);
	return ret;
}

static int step(struct ctx *ctx, const struct test *test, struct bench *bench,
		const struct pick *pick)
{
	bool odp_local = pick->sides & REQUESTER, odp_remote = pick->sides & RESPONDER;
	struct request req = {
		.op = test->op,
		.mtu = pick->mtu,
		.local = &bench->local[odp_local],
		.remote = &bench->remote[odp_remote],
		.length = pick_length(test, pick),
		.swap = odp_random(&ctx->rng),
		.imm = odp_random(&ctx->rng),
		.level = IBV_FLUSH_RANGE,
	};
	int tries = test->transport == IBV_QPT_RC ? 1 : TRIES, ret;

	ret = bench_side(ctx, test, req.local, "local", odp_local);
	if (!ret)
		ret = bench_side(ctx, test, req.remote, "remote", odp_remote);
	if (ret)
		return explain(ret, test, &req);
	req.local_at = place(ctx, pick->align, req.length, 1);
	req.remote_at = place(ctx, pick->align, req.length, is_in(test->op, WORDS) ? 8 : 1);
	ret = stage(ctx, test, &req);
	memcpy(&req.add, req.remote->model + req.remote_at, sizeof(req.add));
	if (req.op == FETCH_ADD || below(ctx, 2))
		req.add ^= odp_random(&ctx->rng) | 1;

	for (; !ret && tries; tries--) {
		ret = move_once(ctx, test, &req);
		if (ret != -ETIMEDOUT || test->transport == IBV_QPT_RC)
			break;
		ret = tries > 1 ? 0 : odp_fail(EPROTO, "lost %d times", TRIES);
	}
	if (!ret) {
		apply(&req);
		if (test->transport == IBV_QPT_UD)
			memcpy(req.remote->model + req.remote_at - GRH,
			       side_at(req.remote, req.remote_at - GRH), GRH);
		ret = check_around(req.local, req.local_at, req.length);
	}
	if (!ret)
		ret = check_around(req.remote, req.remote_at, req.length);
	return ret ? explain(ret, test, &req) : 0;
}

#define PRODUCT		(ALIGNS * ARRAY_SIZE(mtus) * (REQUESTER | RESPONDER) * ARRAY_SIZE(lengths))

static int move_messages(struct ctx *ctx, const struct test *test)
{
	uint64_t i, number, count = ctx->all ? PRODUCT : ctx->iterations;
	struct bench bench = {};
	struct side *sides[] = {
		&bench.local[0], &bench.local[1], &bench.remote[0], &bench.remote[1],
	};
	size_t j;
	int ret = 0;

	for (i = 0; i < count && !ret; i++) {
		struct pick pick;

		number = ctx->all ? i : below(ctx, PRODUCT);
		pick.align = number % ALIGNS;
		number /= ALIGNS;
		pick.mtu = number % ARRAY_SIZE(mtus);
		number /= ARRAY_SIZE(mtus);
		pick.length = number % ARRAY_SIZE(lengths);
		number /= ARRAY_SIZE(lengths);
		pick.sides = test->access == PINNED ? 0 : number + 1;
		ret = step(ctx, test, &bench, &pick);
	}
	for (j = 0; j < ARRAY_SIZE(sides); j++) {
		if (!ret && sides[j]->mr.mr)
			ret = check_all(sides[j]);
	}
	for (j = 0; j < ARRAY_SIZE(sides); j++)
		side_close(sides[j]);
	return ret;
}

/* --- group two: one word, devices and CPUs ------------------------------------------------ */

#define WORD_AT		(9 * PAGE + 64)
#define DEPTH		8U
#define FIRST_VALUE	0xfffffff0UL

enum beside { A_CPU, PROTECTION, A_PINNED_MR };

struct threads {
	pthread_t add, protect;
	bool adds, protects, stop;
	uint64_t *word;		/* in a mapping that stays writable */
	uint64_t added;
	uint8_t *page;		/* that of the MR's */
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
	threads->protects = threads->page && threads->adds &&
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
	struct odp_pair pair;
	struct request req;
	unsigned int depth, count;
	unsigned int posted, done, refused;
	size_t results;		/* where in the local memory the old values go */
	uint64_t last;
};

/* Post what there is room for, and look at one completion if there is one. */
static int adder_turn(struct ctx *ctx, struct adder *adder, bool may_refuse)
{
	struct request *req = &adder->req;
	struct ibv_wc wc;
	uint64_t old;
	int ret = 0;

	if (!adder->pair.local.qp)
		ret = connect_rc(&adder->pair, &ctx->dev, req->mtu, false, QP_RIGHTS);
	while (!ret && adder->posted < adder->count &&
	       adder->posted - adder->done < adder->depth) {
		req->local_at = adder->results + adder->posted % DEPTH * 8;
		ret = post(&adder->pair.local, req);
		adder->posted++;
	}
	if (ret || ibv_poll_cq(adder->pair.local.cq, 1, &wc) <= 0)
		return ret;
	if (wc.status == IBV_WC_REM_ACCESS_ERR && may_refuse) {
		/* There is but one, and it was not executed. */
		adder->posted--;
		adder->refused++;
		odp_disconnect(&adder->pair);
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

/* Both ends of the adders' requests, and what else writes to the word. */
static int add_up(struct ctx *ctx, const struct test *test, enum beside beside)
{
	unsigned int count = ctx->iterations * (beside == PROTECTION ? 8 : 64), i, done = 0;
	uint64_t deadline = odp_now() + ODP_WAIT_MS * 1000000ULL, sum;
	struct side target, peer = {};
	struct odp_mr pinned = {};
	struct threads threads = {};
	struct adder adders[2] = {};
	void *alias = MAP_FAILED;
	int ret;

	ret = side_open(ctx, &target, "target",
			beside == PROTECTION ? ODP_MEM_MEMFD : random_kind(ctx), 64 * ODP_KIB,
			test->access, RIGHTS);
	if (!ret)
		ret = side_open(ctx, &peer, "peer", ODP_MEM_ANON, 64 * ODP_KIB, PINNED, RIGHTS);
	if (ret)
		goto out;
	threads.word = (uint64_t *)side_at(&target, WORD_AT);
	*threads.word = FIRST_VALUE;
	if (beside == PROTECTION) {
		threads.page = side_at(&target, WORD_AT & -PAGE);
		alias = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, target.mem.fd,
			     WORD_AT & -PAGE);
		if (alias == MAP_FAILED)
			ret = guest_fail("mmap");
		threads.word = (uint64_t *)((uint8_t *)alias + WORD_AT % PAGE);
	}
	if (!ret && beside == A_PINNED_MR)
		ret = odp_reg(&pinned, &ctx->dev, side_at(&target, WORD_AT & -PAGE), PAGE, RIGHTS);
	for (i = 0; i < ARRAY_SIZE(adders); i++) {
		struct key key = key_of(&target);

		adders[i] = (struct adder){
			.req = {
				.op = FETCH_ADD, .mtu = below(ctx, ARRAY_SIZE(mtus)),
				.local = &peer, .remote = &target, .remote_at = WORD_AT,
				.length = 8, .add = 1,
			},
			.depth = beside == PROTECTION ? 1 : DEPTH,
			.count = count,
			.results = (3 + i) * PAGE + 5,
		};
		use_key(&adders[i].req, &key);
	}
	if (pinned.mr) {
		adders[1].req.rkey = pinned.mr->rkey;
		adders[1].req.remote_addr = (uintptr_t)threads.word;
	}
	if (!ret)
		ret = start_threads(&threads);
	while (!ret && adders[0].done + adders[1].done < 2 * count) {
		for (i = 0; i < ARRAY_SIZE(adders) && !ret; i++)
			ret = adder_turn(ctx, &adders[i], beside == PROTECTION);
		if (done != adders[0].done + adders[1].done)
			deadline = odp_now() + ODP_WAIT_MS * 1000000ULL;
		done = adders[0].done + adders[1].done;
		if (!ret && odp_now() > deadline)
			ret = odp_fail(ETIMEDOUT, "nothing is added any more");
		sched_yield();
	}
	stop_threads(&threads);
	sum = FIRST_VALUE + threads.added + done;
	if (!ret && *threads.word != sum)
		ret = odp_fail(EBADMSG, "the word is %#lx, should be %#lx", *threads.word, sum);
	if (ret) {
		ret = explain(ret, test, &adders[0].req);
		ret = odp_fail(-ret, "%.380s; by the CPU %lu, by the device %u and %u, refused %u and %u",
			       odp_error(), threads.added, adders[0].done, adders[1].done,
			       adders[0].refused, adders[1].refused);
	}
	for (i = 0; i < ARRAY_SIZE(adders); i++)
		odp_disconnect(&adders[i].pair);
	odp_dereg(&pinned);
	if (alias != MAP_FAILED)
		munmap(alias, PAGE);
out:
	side_close(&target);
	side_close(&peer);
	return ret;
}

static int add_beside_cpu(struct ctx *ctx, const struct test *test)
{
	return add_up(ctx, test, A_CPU);
}

static int add_beside_protection(struct ctx *ctx, const struct test *test)
{
	return add_up(ctx, test, PROTECTION);
}

static int add_beside_pinned(struct ctx *ctx, const struct test *test)
{
	return add_up(ctx, test, A_PINNED_MR);
}

/* --- group three: refusals ---------------------------------------------------------------- */

#define SCENE		(256 * ODP_KIB)
#define BAD		(20 * PAGE)	/* the page that is not like the others */
#define GOOD		(30 * PAGE + 77)

struct scene {
	struct side target, peer;
};

static void scene_close(struct scene *scene)
{
	side_close(&scene->target);
	side_close(&scene->peer);
}

static int scene_open(struct ctx *ctx, struct scene *scene, enum access access,
		      enum odp_mem_kind kind, int rights, enum state state)
{
	struct side *target = &scene->target;
	int ret;

	memset(scene, 0, sizeof(*scene));
	ret = side_open(ctx, target, "target", kind, SCENE,
			access == MW1 || access == MW2 ? EXPLICIT : access, rights);
	if (!ret)
		ret = side_open(ctx, &scene->peer, "peer", ODP_MEM_ANON, SCENE, PINNED, RIGHTS);
	if (ret)
		return ret;
	fill_range(ctx, target, 0, target->mem.length);
	fill_range(ctx, &scene->peer, 0, scene->peer.mem.length);
	if (state == HOLE) {
		target->hole = BAD;
		if (munmap(side_at(target, BAD), PAGE))
			return guest_fail("munmap");
	}
	if (state == READONLY && mprotect(side_at(target, BAD), PAGE, PROT_READ))
		return guest_fail("mprotect");
	return 0;
}

/* A request between the peer and @at of the target, by the MR's key. */
static struct request scene_request(struct ctx *ctx, struct scene *scene, enum op op, size_t at,
				    size_t length)
{
	struct key key = key_of(&scene->target);
	struct request req = {
		.op = op, .mtu = below(ctx, ARRAY_SIZE(mtus)),
		.local = &scene->peer, .remote = &scene->target,
		.local_at = 5 * PAGE + 9, .remote_at = at,
		.length = is_in(op, WORDS) ? 8 : length,
		.add = odp_random(&ctx->rng), .swap = odp_random(&ctx->rng),
	};

	use_key(&req, &key);
	return req;
}

/* It works, on a queue pair of its own, and nothing else has changed. */
static int works(struct ctx *ctx, const struct test *test, struct scene *scene, enum op op,
		 size_t at, size_t length)
{
	struct request req = scene_request(ctx, scene, op, at, length);
	struct odp_pair pair;
	int ret;

	ret = connect_rc(&pair, &ctx->dev, req.mtu, false, QP_RIGHTS);
	if (!ret)
		ret = carry(&pair, &req);
	odp_disconnect(&pair);
	if (!ret) {
		apply(&req);
		ret = check_both(&scene->target, &scene->peer);
	}
	return ret ? explain(ret, test, &req) : 0;
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

/* What the queue pairs, the memory and its neighbours can still do. */
static int still_works(struct ctx *ctx, const struct test *test, struct scene *scene)
{
	int ret;

	ret = works(ctx, test, scene, SEND, GOOD, 3 * PAGE);
	if (ret || test->refusal->state != READONLY)
		return ret;
	ret = works(ctx, test, scene, READ, BAD, PAGE);
	if (!ret)
		ret = works(ctx, test, scene, WRITE, BAD - 999, 999);
	if (!ret)
		ret = works(ctx, test, scene, WRITE, BAD + PAGE, 999);
	return ret;
}

static int refuse_case(struct ctx *ctx, const struct test *test, struct scene *scene, enum op op,
		       unsigned int i)
{
	const struct refusal *refusal = test->refusal;
	struct request req = scene_request(ctx, scene, op, BAD + 8 * (1 + below(ctx, 64)), 1000);
	int right = ops[op].right, rights = RIGHTS | right;
	unsigned int wanted = BIT(refusal->status);
	struct odp_pair pair;
	struct key key = {};
	int ret;

	if (refusal->no_right)
		rights &= ~right;
	ret = connect_rc(&pair, &ctx->dev, req.mtu, false,
			 refusal->no_qp_right ? QP_RIGHTS & ~right : QP_RIGHTS);
	/* A window has memory of the MR's on both sides of it. */
	if (!ret)
		ret = key_open(ctx, &key, &pair, &scene->target, test->access, BAD - 800,
			       PAGE + 1600, rights);
	if (!ret) {
		use_key(&req, &key);
		if (refusal->spoil)
			refusal->spoil(&req, &key, i);
		/* An immediate's receive may be taken already when it is refused. */
		ret = want_refused(&pair, &req, wanted,
				   op == WRITE_IMM ? wanted | FLUSHED : FLUSHED);
	}
	ret = key_close(&key, ret);
	odp_disconnect(&pair);
	if (!ret)
		ret = check_both(&scene->target, &scene->peer);
	return ret ? explain(ret, test, &req) : 0;
}

static int refuse_op(struct ctx *ctx, const struct test *test, enum op op)
{
	const struct refusal *refusal = test->refusal;
	bool window = test->access == MW1 || test->access == MW2;
	int rights = RIGHTS | ops[op].right | (window ? IBV_ACCESS_MW_BIND : 0);
	enum odp_mem_kind kind = random_kind(ctx);
	struct scene scene;
	unsigned int i;
	int ret;

	if (refusal->no_right && !window)
		rights &= ~ops[op].right;
	if (rights & IBV_ACCESS_FLUSH_PERSISTENT && !refusal->is_volatile)
		kind = ODP_MEM_FSDAX;
	ret = scene_open(ctx, &scene, test->access, kind, rights, refusal->state);
	for (i = 0; i < (refusal->cases ? refusal->cases : 1) && !ret; i++) {
		ret = refuse_case(ctx, test, &scene, op, i);
		if (!ret)
			ret = still_works(ctx, test, &scene);
	}
	scene_close(&scene);
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

/* --- what runs into the bad memory ---------------------------------------------------------- */

/*
 * The message of @length bytes failed @good bytes after its start. What arrived is whole
 * packets of it, in order; of the one that failed, if it was the destination that is
 * bad, also what is before the bad place. Then that is right.
 */
static int accept_partial(const struct request *req, struct side *to, size_t to_at,
			  const struct side *from, size_t from_at, size_t good, bool to_is_bad)
{
	size_t mtu = mtus[req->mtu], limit = to_is_bad ? good : req->length, fresh, stale, n;
	const uint8_t *got = side_at(to, to_at), *new = from->model + from_at;
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
	return odp_fail(EBADMSG, "%s memory at %zu: %zu bytes are of the message, and from %zu on the old ones: no whole packets before the bad place at %zu",
			to->name, to_at, fresh, stale, good);
}

static int partly_case(struct ctx *ctx, const struct test *test, struct scene *scene, size_t mtu,
		       bool into)
{
	struct side *target = &scene->target, *peer = &scene->peer;
	size_t bad = test->state == END ? target->start + target->length : BAD;
	size_t good = into ? 5000 : 0;
	struct request req = scene_request(ctx, scene, test->op, bad - good, good + 1000);
	bool word = is_in(test->op, WORDS), remote_fails = !test->bad_is_local;
	bool to_local = test->op == READ || word;
	unsigned int wanted = LOCAL_REFUSAL, received = 0;
	struct side *to, *from;
	size_t to_at, from_at;
	struct odp_pair pair;
	struct key key;
	uint64_t sum;
	int ret;

	req.mtu = mtu;
	if (test->bad_is_local) {
		req.local = target;
		req.local_at = bad - good;
		req.remote = peer;
		req.remote_at = 5 * PAGE + 16;
		key = key_of(peer);
		use_key(&req, &key);
	} else {
		wanted = test->op == SEND ? REMOTE_FAILURE : REMOTE_REFUSAL;
		received = test->op == SEND ? LOCAL_REFUSAL : FLUSHED;
	}
	to = to_local ? req.local : req.remote;
	to_at = to_local ? req.local_at : req.remote_at;
	from = to_local ? req.remote : req.local;
	from_at = to_local ? req.remote_at : req.local_at;
	fill_range(ctx, from, from_at, word ? 8 : good);

	ret = connect_rc(&pair, &ctx->dev, mtu, false, QP_RIGHTS);
	if (!ret)
		ret = want_refused(&pair, &req, wanted, received);
	/* What is on its way does not arrive any more. */
	odp_disconnect(&pair);
	if (!ret && word && !remote_fails) {
		/* Executed once, and only its answer has nowhere to go. */
		memcpy(&sum, from->model + from_at, sizeof(sum));
		sum += req.add;
		memcpy(from->model + from_at, &sum, sizeof(sum));
	} else if (!ret) {
		ret = accept_partial(&req, to, to_at, from, from_at, good, to == target);
	}
	if (!ret)
		ret = check_both(target, peer);
	return ret ? explain(ret, test, &req) : 0;
}

/* At the bad place, and into it, at every MTU. */
static int refuse_partly(struct ctx *ctx, const struct test *test)
{
	struct scene scene;
	size_t mtu;
	int ret;

	ret = scene_open(ctx, &scene, test->access, random_kind(ctx), RIGHTS, test->state);
	for (mtu = 0; mtu < ARRAY_SIZE(mtus) && !ret; mtu++) {
		ret = partly_case(ctx, test, &scene, mtu, false);
		if (!ret && !is_in(test->op, WORDS))
			ret = partly_case(ctx, test, &scene, mtu, true);
	}
	if (!ret)
		ret = works(ctx, test, &scene, WRITE, GOOD, 3 * PAGE);
	scene_close(&scene);
	return ret;
}

/* --- keys that are invalidated, bound and deregistered ---------------------------------------- */

static int local_inv(struct odp_end *end, uint32_t rkey, struct ibv_wc *wc)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = SEND_ID, .opcode = IBV_WR_LOCAL_INV, .send_flags = IBV_SEND_SIGNALED,
		.invalidate_rkey = rkey,
	};
	int ret;

	ret = ibv_post_send(end->qp, &wr, &bad);
	if (ret)
		return odp_fail(ret, "posting LOCAL_INV: %s", strerror(ret));
	return odp_wait(end, wc, ODP_WAIT_MS);
}

/* Invalidate the key of an MR; @status of the request, and of its receive. */
static int invalidate_mr(struct ctx *ctx, const struct test *test, enum access access,
			 enum ibv_wc_status status[2])
{
	struct odp_pair pair = {};
	struct ibv_wc wc[2] = {};
	struct request req;
	struct scene scene;
	int ret;

	ret = scene_open(ctx, &scene, access, random_kind(ctx), RIGHTS, SOUND);
	if (ret)
		goto out;
	req = scene_request(ctx, &scene, test->op, GOOD, 3000);
	req.imm = req.rkey;
	ret = connect_rc(&pair, &ctx->dev, req.mtu, false, QP_RIGHTS);
	if (!ret && test->op == SEND_INV) {
		ret = post_receive(&pair, &req);
		if (!ret)
			ret = post(&pair.local, &req);
		if (!ret)
			ret = odp_wait(&pair.local, &wc[0], ODP_WAIT_MS);
		if (!ret)
			ret = odp_wait(&pair.remote, &wc[1], ODP_WAIT_MS);
	} else if (!ret) {
		ret = local_inv(&pair.local, req.rkey, &wc[0]);
	}
	odp_disconnect(&pair);
	status[0] = wc[0].status;
	status[1] = wc[1].status;
	/* The message is in its receive before the key is looked at. */
	if (!ret && test->op == SEND_INV)
		ret = accept_partial(&req, req.remote, req.remote_at, req.local, req.local_at,
				     req.length, true);
	if (!ret)
		ret = check_both(&scene.target, &scene.peer);
	if (ret)
		ret = explain(ret, test, &req);
	else
		ret = works(ctx, test, &scene, WRITE, GOOD, 3 * PAGE);
out:
	scene_close(&scene);
	return ret;
}

/* Users' MRs cannot be invalidated, and ODP is no exception. */
static int refuse_invalidation(struct ctx *ctx, const struct test *test)
{
	enum ibv_wc_status pinned[2], odp[2];
	int ret;

	ret = invalidate_mr(ctx, test, PINNED, pinned);
	if (!ret)
		ret = invalidate_mr(ctx, test, test->access, odp);
	if (ret || ((odp[0] || odp[1]) && odp[0] == pinned[0] && odp[1] == pinned[1]))
		return ret;
	return odp_fail(EPROTO, "%s of an MR's key: \"%s\", its receive \"%s\"; pinned \"%s\", \"%s\"",
			test->op == SEND_INV ? "SEND with invalidate" : "LOCAL_INV",
			ibv_wc_status_str(odp[0]), ibv_wc_status_str(odp[1]),
			ibv_wc_status_str(pinned[0]), ibv_wc_status_str(pinned[1]));
}

static int invalidate_window(struct ctx *ctx, const struct test *test)
{
	struct odp_pair pair = {};
	struct key key = {};
	struct scene scene;
	struct request req;
	struct ibv_wc wc;
	int ret;

	ret = scene_open(ctx, &scene, test->access, random_kind(ctx), RIGHTS | IBV_ACCESS_MW_BIND,
			 SOUND);
	if (ret)
		goto out;
	req = scene_request(ctx, &scene, WRITE, GOOD, 3000);
	ret = connect_rc(&pair, &ctx->dev, req.mtu, false, QP_RIGHTS);
	if (!ret)
		ret = bind_window(&key, &pair, &scene.target, IBV_MW_TYPE_2, GOOD, 3000, RIGHTS,
				  IBV_WC_SUCCESS);
	use_key(&req, &key);
	if (!ret)
		ret = carry(&pair, &req);
	if (!ret) {
		apply(&req);
		ret = local_inv(&pair.remote, key.rkey, &wc);
	}
	if (!ret && (wc.status || wc.opcode != IBV_WC_LOCAL_INV))
		ret = odp_fail(EPROTO, "LOCAL_INV of a window's key: \"%s\", opcode %d",
			       ibv_wc_status_str(wc.status), wc.opcode);
	if (!ret)
		ret = want_refused(&pair, &req, REMOTE_REFUSAL, FLUSHED);
	ret = key_close(&key, ret);
	odp_disconnect(&pair);
	if (!ret)
		ret = check_both(&scene.target, &scene.peer);
	if (ret)
		ret = explain(ret, test, &req);
	else
		ret = works(ctx, test, &scene, WRITE, GOOD, 3 * PAGE);
out:
	scene_close(&scene);
	return ret;
}

/* An MR that was not registered for windows. */
static int refuse_bind(struct ctx *ctx, const struct test *test)
{
	struct odp_pair pair = {};
	struct key key = {};
	struct scene scene;
	int type, ret;

	ret = scene_open(ctx, &scene, test->access, random_kind(ctx), RIGHTS, SOUND);
	for (type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2 && !ret; type++) {
		ret = connect_rc(&pair, &ctx->dev, below(ctx, ARRAY_SIZE(mtus)), false, QP_RIGHTS);
		if (!ret)
			ret = bind_window(&key, &pair, &scene.target, type, GOOD, PAGE, RIGHTS,
					  IBV_WC_MW_BIND_ERR);
		ret = key_close(&key, ret);
		odp_disconnect(&pair);
		if (!ret)
			ret = works(ctx, test, &scene, WRITE, GOOD, 3 * PAGE);
	}
	scene_close(&scene);
	return ret;
}

/* One that a window is bound to, which goes on. */
static int refuse_dereg(struct ctx *ctx, const struct test *test)
{
	struct odp_pair pair = {};
	struct key key = {};
	struct request req;
	struct scene scene;
	int type, err, ret;

	ret = scene_open(ctx, &scene, test->access, random_kind(ctx), RIGHTS | IBV_ACCESS_MW_BIND,
			 SOUND);
	for (type = IBV_MW_TYPE_1; type <= IBV_MW_TYPE_2 && !ret; type++) {
		req = scene_request(ctx, &scene, WRITE, GOOD, 3000);
		ret = connect_rc(&pair, &ctx->dev, req.mtu, false, QP_RIGHTS);
		if (!ret)
			ret = bind_window(&key, &pair, &scene.target, type, GOOD, 3000, RIGHTS,
					  IBV_WC_SUCCESS);
		use_key(&req, &key);
		err = ret ? 0 : ibv_dereg_mr(scene.target.mr.mr);
		if (!ret && err != EINVAL)
			ret = odp_fail(EPROTO, "ibv_dereg_mr with a type %d window: %s, should be EINVAL",
				       type, err ? strerror(err) : "success");
		if (!ret && !err)
			scene.target.mr.mr = NULL;
		if (!ret)
			ret = carry(&pair, &req);
		if (!ret)
			apply(&req);
		ret = key_close(&key, ret);
		odp_disconnect(&pair);
		if (ret)
			ret = explain(ret, test, &req);
		else
			ret = works(ctx, test, &scene, WRITE, GOOD, 3 * PAGE);
	}
	if (!ret)
		ret = odp_dereg(&scene.target.mr);
	scene_close(&scene);
	return ret;
}

/* --- flushes that are not a message's ------------------------------------------------------------ */

/* What cannot be persistent cannot be pinned to be so. */
static int refuse_flush_mr(struct ctx *ctx, const struct test *test)
{
	struct side side;
	int ret;

	ret = side_open(ctx, &side, "volatile", random_kind(ctx), SCENE, test->access,
			RIGHTS | IBV_ACCESS_FLUSH_PERSISTENT);
	side_close(&side);
	if (ret == -EINVAL)
		return 0;
	return odp_fail(EPROTO, "volatile memory with IBV_ACCESS_FLUSH_PERSISTENT: %s, should be EINVAL",
			ret ? odp_error() : "registered");
}

/* Without a message before it. For the whole MR there is no length. */
static int flush(struct ctx *ctx, const struct test *test, struct side *side, enum op op,
		 size_t at, size_t length, uint8_t level)
{
	struct request req = {
		.op = op, .mtu = below(ctx, ARRAY_SIZE(mtus)), .local = side, .remote = side,
		.remote_at = at, .length = length, .level = level,
	};
	struct key key = key_of(side);
	struct odp_pair pair;
	int ret;

	use_key(&req, &key);
	if (level == IBV_FLUSH_MR)
		req.remote_addr = 0;
	ret = connect_rc(&pair, &ctx->dev, req.mtu, false, QP_RIGHTS);
	if (!ret)
		ret = post(&pair.local, &req);
	if (!ret)
		ret = want_done(&pair.local, &req, ODP_WAIT_MS);
	odp_disconnect(&pair);
	return ret ? explain(ret, test, &req) : 0;
}

static int flush_whole(struct ctx *ctx, const struct test *test)
{
	static const enum op both[] = { FLUSH_PERSISTENT, FLUSH_GLOBAL };
	struct scene scene;
	size_t i;
	int ret;

	ret = scene_open(ctx, &scene, test->access, ODP_MEM_FSDAX, RIGHTS | FLUSH_RIGHTS, SOUND);
	for (i = 0; i < 4 && !ret; i++) {
		/* In the second round some of it is a hole of the file. */
		if (i == 2)
			ret = lose(ctx, &scene.target, GOOD, 5 * PAGE);
		if (!ret)
			ret = works(ctx, test, &scene, WRITE, GOOD, 3 * PAGE);
		if (!ret)
			ret = flush(ctx, test, &scene.target, both[i % 2], 0, 0, IBV_FLUSH_MR);
		if (!ret)
			ret = check_both(&scene.target, &scene.peer);
	}
	scene_close(&scene);
	return ret;
}

/* Nobody has written there, and nobody does. */
static int flush_hole(struct ctx *ctx, const struct test *test)
{
	struct side side;
	int ret;

	ret = side_open(ctx, &side, "hole", ODP_MEM_FSDAX, ARENA, test->access,
			RIGHTS | FLUSH_RIGHTS);
	if (!ret)
		ret = flush(ctx, test, &side, FLUSH_PERSISTENT, 3 * PAGE + 5, ARENA / 2 + 77,
			    IBV_FLUSH_RANGE);
	if (!ret && test->access == EXPLICIT)
		ret = flush(ctx, test, &side, FLUSH_PERSISTENT, 0, 0, IBV_FLUSH_MR);
	if (!ret)
		ret = check_all(&side);
	side_close(&side);
	return ret;
}

/* Longer than 32 bits count, with a page here and there. */
static int flush_large(struct ctx *ctx, const struct test *test)
{
	const size_t size = 5UL << 30, at = size - 3 * PAGE - 5;
	struct side side = { .name = "large", .odp = true };
	struct odp_pair pair = {};
	struct scene scene;
	int ret;

	side.mem.addr = mmap(NULL, size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (side.mem.addr == MAP_FAILED)
		return guest_fail("mmap of 5 GiB");
	ret = scene_open(ctx, &scene, PINNED, ODP_MEM_ANON, RIGHTS, SOUND);
	if (!ret)
		ret = odp_reg(&side.mr, &ctx->dev, side.mem.addr, size,
			      RIGHTS | FLUSH_RIGHTS | IBV_ACCESS_ON_DEMAND);
	side.iova = side.mr.iova;
	if (!ret)
		ret = connect_rc(&pair, &ctx->dev, 4, false, QP_RIGHTS);
	if (!ret)
		ret = odp_write(&pair, &scene.peer.mr, 0, &side.mr, at, 2 * PAGE);
	odp_disconnect(&pair);
	if (!ret)
		ret = flush(ctx, test, &side, FLUSH_GLOBAL, 0, 0, IBV_FLUSH_MR);
	if (!ret && !odp_compare(side_at(&side, at), scene.peer.mr.addr, 2 * PAGE, NULL))
		ret = odp_fail(EBADMSG, "what was written at %zu is not there", at);
	odp_dereg(&side.mr);
	scene_close(&scene);
	munmap(side.mem.addr, size);
	return ret;
}

/* --- capabilities -------------------------------------------------------------------------------- */

/* All that is tested here is claimed. */
static int report_caps(struct ctx *ctx, const struct test *test)
{
	const uint32_t ud = IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV | IBV_ODP_SUPPORT_SRQ_RECV;
	const uint32_t uc = ud | IBV_ODP_SUPPORT_WRITE;
	const uint32_t rc = uc | IBV_ODP_SUPPORT_READ | IBV_ODP_SUPPORT_ATOMIC |
			    ODP_SUPPORT_FLUSH | ODP_SUPPORT_ATOMIC_WRITE;
	const struct odp_dev *dev = &ctx->dev;

	(void)test;
	if (dev->odp_general == (IBV_ODP_SUPPORT | IBV_ODP_SUPPORT_IMPLICIT) &&
	    dev->odp_rc == rc && dev->odp_uc == uc && dev->odp_ud == ud)
		return 0;
	return odp_fail(EPROTO, "ODP capabilities: general %#lx, RC %#x (should be %#x), UC %#x (%#x), UD %#x (%#x)",
			dev->odp_general, dev->odp_rc, rc, dev->odp_uc, uc, dev->odp_ud, ud);
}

/* --- the list of tests ---------------------------------------------------------------------------- */

#define MAX_TESTS	256

static struct test tests[MAX_TESTS];
static size_t test_count;

static struct test *add(int (*run)(struct ctx *ctx, const struct test *test), enum access access,
			const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static struct test *add(int (*run)(struct ctx *ctx, const struct test *test), enum access access,
			const char *fmt, ...)
{
	struct test *test = &tests[test_count++];
	size_t length;
	va_list args;

	test->run = run;
	test->access = access;
	va_start(args, fmt);
	vsnprintf(test->name, sizeof(test->name), fmt, args);
	va_end(args);
	length = strlen(test->name);
	snprintf(test->name + length, sizeof(test->name) - length, "_%s", access_names[access]);
	return test;
}

static void add_verbs(void)
{
	static const struct {
		const char *name;
		enum ibv_qp_type type;
	} transports[] = { { "rc", IBV_QPT_RC }, { "uc", IBV_QPT_UC }, { "ud", IBV_QPT_UD } };
	struct test *test;
	int op, access;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(transports); i++) {
		for (op = 0; op < OPS; op++) {
			if (!(ops[op].on >> transports[i].type & 1))
				continue;
			for (access = 0; access < ACCESSES; access++) {
				if (BIT(access) & ANY_MW && !is_in(op, KEYED))
					continue;
				test = add(move_messages, access, "%s_%s", transports[i].name,
					   ops[op].name);
				test->transport = transports[i].type;
				test->op = op;
			}
		}
	}
}

static void add_partly(const char *name, enum op op, bool local, enum state state,
		       unsigned int accesses)
{
	static const char *const states[] = { [HOLE] = "hole", [READONLY] = "readonly",
					      [END] = "end" };
	struct test *test;
	int access;

	for (access = 0; access < ACCESSES; access++) {
		if (!(accesses & BIT(access)))
			continue;
		test = add(refuse_partly, access, "error_%s_%s", states[state], name);
		test->op = op;
		test->bad_is_local = local;
		test->state = state;
	}
}

static void add_errors(void)
{
	const unsigned int odp = BIT(EXPLICIT) | BIT(IMPLICIT);
	const unsigned int ends = BIT(EXPLICIT) | BIT(PINNED);
	int access;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(refusals); i++)
		for (access = 0; access < ACCESSES; access++)
			if (refusals[i].accesses & BIT(access))
				add(refuse, access, "error_%s", refusals[i].name)->refusal =
					&refusals[i];

	add_partly("write", WRITE, false, HOLE, odp);
	add_partly("read", READ, false, HOLE, odp);
	add_partly("receive", SEND, false, HOLE, odp);
	add_partly("write_from", WRITE, true, HOLE, odp);
	add_partly("read_into", READ, true, HOLE, odp);
	add_partly("fetch_add_into", FETCH_ADD, true, HOLE, odp);
	add_partly("write", WRITE, false, READONLY, odp);
	add_partly("receive", SEND, false, READONLY, odp);
	add_partly("read_into", READ, true, READONLY, odp);
	add_partly("receive", SEND, false, END, ends);
	add_partly("write_from", WRITE, true, END, ends);
	add_partly("read_into", READ, true, END, ends);
	add_partly("fetch_add_into", FETCH_ADD, true, END, ends);

	for (access = 0; access < ACCESSES; access++) {
		if (!(ANY_MR & BIT(access)))
			continue;
		add(invalidate_window, access, "error_invalidated_window");
		add(refuse_bind, access, "error_bind");
		add(refuse_dereg, access, "error_dereg_bound");
		if (access == PINNED)
			continue;
		/* OPS: LOCAL_INV */
		add(refuse_invalidation, access, "error_local_inv_mr")->op = SEND;
		add(refuse_invalidation, access, "error_send_inv_mr")->op = SEND_INV;
	}
	add(refuse_flush_mr, PINNED, "error_flush_register");
}

static void add_rest(void)
{
	static const enum access accesses[] = { EXPLICIT, IMPLICIT };
	size_t i;

	add(report_caps, EXPLICIT, "caps_report");
	add(add_beside_cpu, PINNED, "rc_atomic_against_cpu");
	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		add(add_beside_cpu, accesses[i], "rc_atomic_against_cpu");
		add(add_beside_protection, accesses[i], "rc_atomic_while_protected");
		add(add_beside_pinned, accesses[i], "rc_atomic_beside_pinned");
		add(flush_hole, accesses[i], "rc_flush_hole");
	}
	add(flush_whole, EXPLICIT, "rc_flush_whole");
	add(flush_whole, PINNED, "rc_flush_whole");
	add(flush_large, EXPLICIT, "rc_flush_large");
}

/* --- running them --------------------------------------------------------------------------------- */

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

	drop_pairs(ctx);
	odp_close(&ctx->dev);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	struct ctx *ctx = arg;
	int ret;

	if (tests[i].access != PINNED && !ctx->odp)
		return odp_fail(ENODEV, "the kernel has no ODP for %s", ctx->dev.name);
	ctx->rng = seed;
	ret = tests[i].run(ctx, &tests[i]);
	/* The next one's are of another kind. */
	drop_pairs(ctx);
	return ret;
}

static int recover(void *arg)
{
	drop_pairs(arg);
	return 0;
}

int main(int argc, char **argv)
{
	struct ctx ctx = { .iterations = 16 };
	struct suite suite = {
		.program = "test-surface",
		.about = "Byte-exact test of every verb on ODP regions and through memory windows.\n"
			 "SURFACE_ALL=1 in the environment: every combination, not a sample.",
		.ctx = &ctx,
		.dev = &ctx.dev,
		.iterations = &ctx.iterations,
		.name = name_test,
		.open = open_ctx,
		.close = close_ctx,
		.run = run_test,
		.recover = recover,
	};

	add_rest();
	add_verbs();
	add_errors();
	return suite_main(&suite, argc, argv);
}
