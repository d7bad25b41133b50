// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: verbs move every byte right, on pinned and on-demand-paged memory of every kind
 * stage: smoke
 * where: guest
 * kernels: tree stock
 * vm: --pmem 256M --hugepages 64
 * budget: 240
 *
 * Three groups of subtests:
 *
 * KIND_OP_SIDES moves random messages between two arenas, of which the named
 * side (or both) is an ODP MR on that kind of memory, and the other a pinned
 * one on anonymous memory: so the requester's, the completer's and the
 * responder's copies each run over ODP alone, and together. Beside each arena
 * is a model, plain memory that does with memcpy what the device is asked to
 * do; arena and model must be equal, around the message after each one and
 * everywhere in the end. Between messages the pages of the ODP side are taken
 * away in every way there is. KIND_OP_pinned is the control, on any kernel.
 *
 * KIND_EVENT does one such way again and again, with each direction after it.
 *
 * The rest are capabilities and refusals: what the device claims works, and what
 * it does not claim fails, with an error that says so, and leaves every byte
 * alone.
 *
 * All randomness comes from --seed and the subtest's name.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "suite.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define PAGE		4096UL
#define MAX_MESSAGE	(8 * ODP_MIB)
#define BIG_ARENA	(10 * ODP_MIB)
#define SMALL_ARENA	(4 * ODP_MIB)
#define MAX_PIECES	12
#define GUARD		(2 * PAGE)

static const int mtus[] = { 256, 512, 1024, 2048, 4096 };

enum op { OP_SEND, OP_WRITE, OP_READ, OPS };
static const char *const op_names[] = { "send", "write", "read" };

enum sides { PINNED, LOCAL, REMOTE, BOTH, SIDES };
static const char *const sides_names[] = { "pinned", "local", "remote", "both" };

/* Ways to take pages away. */
enum event { DISCARD, PROTECT, REMAP, MREMAP, PAGEOUT, FORK, COLLAPSE, EVENTS };
static const char *const event_names[] = {
	"discard", "protect", "remap", "mremap", "pageout", "fork", "collapse",
};

struct ctx {
	struct odp_dev dev;
	struct odp_pair pairs[ARRAY_SIZE(mtus)];
	uint8_t *bounce;	/* a message's bytes, for the models */
	uint64_t rng;
	uint64_t iterations;
	bool odp;
};

struct transport;

struct test {
	char name[48];
	int (*run)(struct ctx *ctx, const struct test *test);
	bool needs_odp;
	enum odp_mem_kind kind;
	enum op op;
	enum sides sides;
	enum event event;
	const struct transport *transport;
	int access;
};

static uint64_t below(struct ctx *ctx, uint64_t limit)
{
	return odp_random(&ctx->rng) % limit;
}

static struct odp_pair *get_pair(struct ctx *ctx, size_t i)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;

	attr.mtu = mtus[i];
	if (!ctx->pairs[i].local.qp && odp_connect(&ctx->pairs[i], &ctx->dev, &attr))
		return NULL;
	return &ctx->pairs[i];
}

static struct odp_pair *any_pair(struct ctx *ctx)
{
	return get_pair(ctx, below(ctx, ARRAY_SIZE(mtus)));
}

static void drop_pairs(struct ctx *ctx)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(mtus); i++)
		odp_disconnect(&ctx->pairs[i]);
}

/* --- one side: memory, its MR, and its model -------------------------------- */

struct side {
	const char *name;
	struct odp_mem mem;
	struct odp_mr mr;
	size_t start;		/* of the MR in the memory */
	uint8_t *model;		/* what all of the memory must hold */
};

static uint8_t *side_addr(const struct side *side)
{
	return side->mem.addr;
}

/* The MR is less than the memory, and starts and ends on any byte. */
static int side_open(struct ctx *ctx, struct side *side, const char *name,
		     enum odp_mem_kind kind, size_t size, int access)
{
	uint8_t *start;
	int ret;

	memset(side, 0, sizeof(*side));
	side->name = name;
	ret = odp_mem_map(&side->mem, kind, size, NULL);
	if (ret)
		return ret;
	side->model = calloc(1, side->mem.length);
	if (!side->model)
		return odp_fail(ENOMEM, "out of memory");
	side->start = below(ctx, 2 * PAGE);
	start = side_addr(side) + side->start;
	return odp_reg_iova(&side->mr, &ctx->dev, start,
			    side->mem.length - side->start - below(ctx, 2 * PAGE),
			    guest_random_iova(&ctx->rng, (uintptr_t)start), access);
}

static void side_close(struct side *side)
{
	if (side->mr.mr)
		ibv_dereg_mr(side->mr.mr);
	free(side->model);
	odp_mem_unmap(&side->mem);
	memset(side, 0, sizeof(*side));
}

/* Compare [@offset, @offset + @length) of the memory with the model. */
static int check_range(const struct side *side, size_t offset, size_t length)
{
	struct odp_mismatch bad;

	if (odp_compare(side_addr(side) + offset, side->model + offset, length, &bad))
		return 0;
	return odp_fail(EBADMSG, "%s memory at %zu: %#04x, should be %#04x; %zu bytes wrong in [%zu, %zu), MR starts at %zu, iova %#lx for %p",
			side->name, offset + bad.offset, bad.got, bad.expected, bad.count,
			offset, offset + length, side->start, side->mr.iova, side->mr.addr);
}

static int check_all(const struct side *side)
{
	return check_range(side, 0, side->mem.length);
}

static int check_both(const struct side *a, const struct side *b)
{
	int ret = check_all(a);

	return ret ? ret : check_all(b);
}

/* By the CPU: write new bytes to a part of the MR. */
static void fill_range(struct ctx *ctx, struct side *side, size_t offset, size_t length)
{
	odp_fill(side->model + offset, length, odp_random(&ctx->rng), 0);
	memcpy(side_addr(side) + offset, side->model + offset, length);
}

/* --- messages --------------------------------------------------------------- */

struct piece {
	size_t offset;		/* in the MR */
	size_t length;
};

struct list {
	struct side *side;
	int count;
	struct piece piece[MAX_PIECES];
};

struct message {
	enum op op;
	size_t length;
	struct list local;
	struct list remote;
};

/* Any power of two is as likely as any other, and so is a page boundary. */
static size_t random_length(struct ctx *ctx, size_t max)
{
	size_t length = 1UL << below(ctx, 24);

	length += below(ctx, length);
	if (below(ctx, 2))
		length = (length & -PAGE) + below(ctx, 7) - 3;
	if (!length || length > 2 * MAX_MESSAGE)
		length = 1 + below(ctx, 64);
	return length < max ? length : max;
}

/* A gap of at most @slack before a piece: half of the pieces touch a boundary. */
static size_t random_gap(struct ctx *ctx, uintptr_t addr, size_t length, size_t slack)
{
	size_t gap = below(ctx, slack + 1);
	uintptr_t edge;

	switch (below(ctx, 4)) {
	case 0:
		edge = ((addr + gap) & -PAGE) + below(ctx, 7) - 3;
		break;
	case 1:
		edge = ((addr + gap + length) & -PAGE) + below(ctx, 7) - 3 - length;
		break;
	default:
		return gap;
	}
	return edge >= addr && edge - addr <= slack ? edge - addr : gap;
}

/* Cut the message in up to @count pieces, spread over the MR without overlap. */
static void plan_list(struct ctx *ctx, struct list *list, struct side *side, size_t length,
		      int count)
{
	size_t slack = side->mr.length - length;
	uintptr_t start = (uintptr_t)side->mr.addr;
	size_t cursor = 0;
	int i;

	if ((size_t)count > length)
		count = length;
	list->side = side;
	list->count = count;
	for (i = 0; i < count; i++) {
		int after = count - i - 1;
		size_t part = after ? 1 + below(ctx, 2 * (length - after) / (after + 1) + 1) : length;
		size_t gap;

		if (part > length - after)
			part = length - after;
		gap = random_gap(ctx, start + cursor, part, slack / (after + 1));
		list->piece[i] = (struct piece){ cursor + gap, part };
		cursor += gap + part;
		slack -= gap;
		length -= part;
	}
	for (i = count - 1; i > 0; i--) {
		int j = below(ctx, i + 1);
		struct piece swap = list->piece[i];

		list->piece[i] = list->piece[j];
		list->piece[j] = swap;
	}
}

static int random_count(struct ctx *ctx)
{
	return below(ctx, 2) ? 1 : 1 + below(ctx, MAX_PIECES);
}

static void plan_message(struct ctx *ctx, struct message *msg, enum op op, struct side *local,
			 struct side *remote, size_t max)
{
	size_t limit = local->mr.length < remote->mr.length ? local->mr.length : remote->mr.length;

	msg->op = op;
	msg->length = random_length(ctx, max < limit ? max : limit);
	plan_list(ctx, &msg->local, local, msg->length, random_count(ctx));
	plan_list(ctx, &msg->remote, remote, msg->length, op == OP_SEND ? random_count(ctx) : 1);
}

/* One piece a side. */
static void simple_message(struct message *msg, enum op op, struct side *local,
			   size_t local_offset, struct side *remote, size_t remote_offset,
			   size_t length)
{
	msg->op = op;
	msg->length = length;
	msg->local = (struct list){ local, 1, { { local_offset, length } } };
	msg->remote = (struct list){ remote, 1, { { remote_offset, length } } };
}

static struct list *message_to(struct message *msg)
{
	return msg->op == OP_READ ? &msg->local : &msg->remote;
}

static struct list *message_from(struct message *msg)
{
	return msg->op == OP_READ ? &msg->remote : &msg->local;
}

static void make_sges(const struct list *list, struct ibv_sge *sge)
{
	int i;

	for (i = 0; i < list->count; i++)
		sge[i] = odp_sge(&list->side->mr, list->piece[i].offset, list->piece[i].length);
}

static int post_message(struct odp_pair *pair, const struct message *msg)
{
	static const enum ibv_wr_opcode opcodes[] = {
		IBV_WR_SEND, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ,
	};
	struct ibv_sge sge[MAX_PIECES];
	int ret;

	if (msg->op == OP_SEND) {
		make_sges(&msg->remote, sge);
		ret = odp_post_recv(&pair->remote, 0, sge, msg->remote.count);
		if (ret)
			return ret;
	}
	make_sges(&msg->local, sge);
	return odp_post(&pair->local, opcodes[msg->op], 0, sge, msg->local.count,
			msg->op == OP_SEND ? NULL : &msg->remote.side->mr,
			msg->remote.piece[0].offset);
}

/* Do with the models what the device was asked to do with the memory. */
static void model_message(struct ctx *ctx, struct message *msg)
{
	struct list *from = message_from(msg), *to = message_to(msg);
	uint8_t *at = ctx->bounce;
	int i;

	for (i = 0; i < from->count; i++) {
		memcpy(at, from->side->model + from->side->start + from->piece[i].offset,
		       from->piece[i].length);
		at += from->piece[i].length;
	}
	at = ctx->bounce;
	for (i = 0; i < to->count; i++) {
		memcpy(to->side->model + to->side->start + to->piece[i].offset, at,
		       to->piece[i].length);
		at += to->piece[i].length;
	}
}

/* The bytes of each piece and those around it. */
static int check_list(const struct list *list)
{
	const struct side *side = list->side;
	int i, ret = 0;

	for (i = 0; i < list->count && !ret; i++) {
		size_t start = side->start + list->piece[i].offset;
		size_t end = start + list->piece[i].length + GUARD;

		start = start > GUARD ? start - GUARD : 0;
		end = end < side->mem.length ? end : side->mem.length;
		ret = check_range(side, start, end - start);
	}
	return ret;
}

static int run_message(struct ctx *ctx, struct odp_pair *pair, struct message *msg)
{
	int ret;

	if (!pair)
		return -EIO;
	ret = post_message(pair, msg);
	if (!ret)
		ret = odp_wait_success(&pair->local, op_names[msg->op], msg->length);
	if (!ret && msg->op == OP_SEND)
		ret = odp_wait_success(&pair->remote, "receive", msg->length);
	if (!ret)
		model_message(ctx, msg);
	return ret;
}

/* Add what was being done to the message in odp_error(). */
static int explain(int ret, const struct message *msg, int mtu)
{
	char text[400];

	snprintf(text, sizeof(text), "%s", odp_error());
	return odp_fail(-ret, "%s; %s of %zu bytes, MTU %d, %d local pieces (first %zu+%zu), %d remote (first %zu+%zu)",
			text, op_names[msg->op], msg->length, mtu,
			msg->local.count, msg->local.piece[0].offset, msg->local.piece[0].length,
			msg->remote.count, msg->remote.piece[0].offset,
			msg->remote.piece[0].length);
}

/* --- events: take pages away -------------------------------------------------- */

struct child {
	pid_t pid;
	int pipe;
};

/* A child that, when told, looks whether its memory is as it was at the fork. */
static int fork_begin(struct side *side, struct child *child)
{
	int fds[2];
	char go;

	if (pipe(fds))
		return odp_fail(errno, "pipe: %s", strerror(errno));
	fflush(stdout);
	child->pid = fork();
	if (child->pid < 0)
		return odp_fail(errno, "fork: %s", strerror(errno));
	if (!child->pid) {
		close(fds[1]);
		/* Shared memory changes with the parent's. */
		_exit(read(fds[0], &go, 1) != 0 || (side->mem.fd < 0 && check_all(side)));
	}
	close(fds[0]);
	child->pipe = fds[1];
	return 0;
}

static int fork_end(struct child *child)
{
	int status;

	if (!child->pid)
		return 0;
	close(child->pipe);
	if (waitpid(child->pid, &status, 0) < 0)
		return odp_fail(errno, "waitpid: %s", strerror(errno));
	child->pid = 0;
	if (status)
		return odp_fail(EBADMSG, "the device wrote to a forked child's memory (status %#x)",
				status);
	return 0;
}

static bool move_pages_to(uint8_t *from, size_t length, uint8_t *to)
{
	return mremap(from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to) != MAP_FAILED;
}

static int move_away_and_back(uint8_t *addr, size_t length)
{
	size_t align = 2 * ODP_MIB;
	uint8_t *reserve, *away;
	int err = 0;

	reserve = mmap(NULL, length + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);
	if (reserve == MAP_FAILED)
		return odp_fail(errno, "mmap: %s", strerror(errno));
	/* Where huge pages could move whole. */
	away = reserve + (((uintptr_t)addr - (uintptr_t)reserve) & (align - 1));
	if (!move_pages_to(addr, length, away) || !move_pages_to(away, length, addr))
		err = errno;
	munmap(reserve, length + align);
	return err ? odp_fail(err, "mremap: %s", strerror(err)) : 0;
}

static int do_event(struct side *side, enum event event, size_t offset, size_t length,
		    struct child *child)
{
	size_t unit = side->mem.kind == ODP_MEM_HUGETLB ? side->mem.page_size : PAGE;
	uint8_t *addr = side_addr(side) + offset;
	int ret = 0;

	switch (event) {
	case DISCARD:
		ret = odp_mem_discard(&side->mem, offset, length);
		memset(side->model + offset, 0, length);
		break;
	case PROTECT:
		if (mprotect(addr, length, PROT_NONE) ||
		    mprotect(addr, length, PROT_READ | PROT_WRITE))
			ret = odp_fail(errno, "mprotect: %s", strerror(errno));
		break;
	case REMAP:
		ret = odp_mem_remap(&side->mem, offset, length);
		if (side->mem.fd < 0)
			memset(side->model + offset, 0, length);
		break;
	case MREMAP:
		ret = move_away_and_back(addr, length);
		/* What was mapped anew or moved before may be a mapping of its own. */
		if (ret == -EFAULT)
			ret = move_away_and_back(addr, unit);
		break;
	case PAGEOUT:
		/* Nothing to see where nothing can be paged out. */
		if (side->mem.fd >= 0)
			msync(addr, length, MS_SYNC);
		madvise(addr, length, MADV_PAGEOUT);
		break;
	case FORK:
		ret = fork_begin(side, child);
		break;
	case COLLAPSE:
		madvise(addr, length, MADV_COLLAPSE);
		break;
	case EVENTS:
		break;
	}
	return ret;
}

/* The event on a random part of the memory. */
static int random_event(struct ctx *ctx, struct side *side, enum event event, struct child *child)
{
	size_t unit = side->mem.kind == ODP_MEM_HUGETLB ? side->mem.page_size : PAGE;
	size_t units = side->mem.length / unit;
	size_t first = below(ctx, units);
	size_t count = 1 + below(ctx, units - first);

	return do_event(side, event, first * unit, count * unit, child);
}

/* --- group one: random messages ------------------------------------------------ */

static int odp_access(bool odp)
{
	return ODP_ACCESS | (odp ? IBV_ACCESS_ON_DEMAND : 0);
}

static int random_step(struct ctx *ctx, const struct test *test, struct side *local,
		       struct side *remote)
{
	bool odp_is_local = test->sides == LOCAL || (test->sides == BOTH && below(ctx, 2));
	struct side *odp = odp_is_local ? local : remote;
	size_t mtu = below(ctx, ARRAY_SIZE(mtus));
	struct child child = {};
	struct message msg;
	struct list *from;
	int i, ret = 0, end;

	if (test->sides != PINNED && !below(ctx, 3))
		ret = random_event(ctx, odp, below(ctx, EVENTS), &child);

	/* Big messages are few, or they take all the time there is. */
	plan_message(ctx, &msg, test->op, local, remote,
		     below(ctx, 8) ? ODP_MIB / 4 : MAX_MESSAGE);
	from = message_from(&msg);
	/* Else the source is what it happens to be: often never touched. */
	if (below(ctx, 4))
		for (i = 0; i < from->count; i++)
			fill_range(ctx, from->side, from->side->start + from->piece[i].offset,
				   from->piece[i].length);
	if (!ret)
		ret = run_message(ctx, get_pair(ctx, mtu), &msg);
	if (!ret && below(ctx, 4))
		ret = check_list(message_to(&msg));
	end = fork_end(&child);
	if (!ret)
		ret = end;
	return ret ? explain(ret, &msg, mtus[mtu]) : 0;
}

static int move_random(struct ctx *ctx, const struct test *test)
{
	bool odp_local = test->sides == LOCAL || test->sides == BOTH;
	bool odp_remote = test->sides == REMOTE || test->sides == BOTH;
	bool pinned = test->sides == PINNED;
	struct side local, remote = {};
	unsigned int i;
	int ret;

	ret = side_open(ctx, &local, "local", odp_local || pinned ? test->kind : ODP_MEM_ANON,
			BIG_ARENA, odp_access(odp_local));
	if (!ret)
		ret = side_open(ctx, &remote, "remote",
				odp_remote || pinned ? test->kind : ODP_MEM_ANON, BIG_ARENA,
				odp_access(odp_remote));
	for (i = 0; i < ctx->iterations && !ret; i++)
		ret = random_step(ctx, test, &local, &remote);
	if (!ret)
		ret = check_both(&local, &remote);
	side_close(&local);
	side_close(&remote);
	return ret;
}

/* --- group two: one event and each direction ------------------------------------- */

static int event_step(struct ctx *ctx, enum event event, enum op op, struct side *odp,
		      struct side *peer, bool odp_is_local)
{
	struct child child = {};
	struct message msg;
	int ret, end;

	ret = event == FORK ? do_event(odp, FORK, 0, 0, &child) :
			      random_event(ctx, odp, event, &child);
	if (ret)
		return ret;
	plan_message(ctx, &msg, op, odp_is_local ? odp : peer, odp_is_local ? peer : odp, ODP_MIB);
	ret = run_message(ctx, any_pair(ctx), &msg);
	end = fork_end(&child);
	if (!ret)
		ret = end;
	if (!ret)
		ret = check_both(odp, peer);
	return ret ? explain(ret, &msg, 0) : 0;
}

/* Let the device map all of the MR, with bytes of its own. */
static int write_whole(struct ctx *ctx, struct side *peer, struct side *odp)
{
	size_t length = peer->mr.length < odp->mr.length ? peer->mr.length : odp->mr.length;
	struct message msg;

	fill_range(ctx, peer, 0, peer->mem.length);
	simple_message(&msg, OP_WRITE, peer, 0, odp, 0, length);
	return run_message(ctx, get_pair(ctx, ARRAY_SIZE(mtus) - 1), &msg);
}

static int lose_pages(struct ctx *ctx, const struct test *test)
{
	struct side odp, peer = {};
	int op, round, ret;

	ret = side_open(ctx, &odp, "ODP", test->kind, SMALL_ARENA, odp_access(true));
	if (!ret)
		ret = side_open(ctx, &peer, "pinned", ODP_MEM_ANON, SMALL_ARENA, odp_access(false));
	for (round = 0; round < 2 && !ret; round++) {
		ret = write_whole(ctx, &peer, &odp);
		for (op = 0; op < OPS && !ret; op++) {
			ret = event_step(ctx, test->event, op, &odp, &peer, false);
			if (!ret)
				ret = event_step(ctx, test->event, op, &odp, &peer, true);
		}
	}
	side_close(&odp);
	side_close(&peer);
	return ret;
}

/* --- group three: refusals --------------------------------------------------------- */

#define REMOTE_REFUSAL	(1u << IBV_WC_REM_ACCESS_ERR)
#define REMOTE_FAILURE	(1u << IBV_WC_REM_ACCESS_ERR | 1u << IBV_WC_REM_OP_ERR | \
			 1u << IBV_WC_REM_INV_REQ_ERR)
/* rxe 6.12 flushes the send queue before it reports what the requester met in it. */
#define LOCAL_REFUSAL	(1u << IBV_WC_LOC_PROT_ERR | 1u << IBV_WC_LOC_QP_OP_ERR | \
			 1u << IBV_WC_WR_FLUSH_ERR)

static int open_two(struct ctx *ctx, struct side *target, struct side *peer, int access)
{
	int ret;

	memset(peer, 0, sizeof(*peer));
	ret = side_open(ctx, target, "target", ODP_MEM_ANON, SMALL_ARENA, access);
	if (!ret)
		ret = side_open(ctx, peer, "peer", ODP_MEM_ANON, SMALL_ARENA, odp_access(false));
	if (!ret) {
		fill_range(ctx, target, 0, target->mem.length);
		fill_range(ctx, peer, 0, peer->mem.length);
	}
	return ret;
}

/* Wait for an error of @wanted, a set of 1 << status. */
static int want_error(struct odp_end *end, const char *what, unsigned int wanted)
{
	struct ibv_wc wc;
	int ret;

	ret = odp_wait(end, &wc, ODP_WAIT_MS);
	if (ret)
		return ret;
	if (wc.status == IBV_WC_SUCCESS)
		return odp_fail(EPROTO, "%s succeeded and must not", what);
	if (!(wanted >> wc.status & 1))
		return odp_fail(EPROTO, "%s failed, but with \"%s\"", what,
				ibv_wc_status_str(wc.status));
	return 0;
}

/* Post a message that must fail, and then look for damage. */
static int refuse_message(struct ctx *ctx, struct message *msg, unsigned int wanted)
{
	struct odp_pair *pair = any_pair(ctx);
	int ret;

	if (!pair)
		return -EIO;
	ret = post_message(pair, msg);
	if (!ret)
		ret = want_error(&pair->local, op_names[msg->op], wanted);
	drop_pairs(ctx);
	return ret;
}

/* After an error the MR must work as before, on new queue pairs. */
static int still_works(struct ctx *ctx, struct side *target, struct side *peer, enum op op)
{
	struct message msg;
	int ret;

	simple_message(&msg, op, peer, 5, target, 77, 3 * PAGE);
	ret = run_message(ctx, any_pair(ctx), &msg);
	return ret ? ret : check_both(target, peer);
}

/*
 * Part of a message that failed may have arrived: take what is there now for
 * right. [@offset, @offset + @length) of the MR.
 */
static void accept_range(struct side *side, size_t offset, size_t length)
{
	memcpy(side->model + side->start + offset, side_addr(side) + side->start + offset, length);
}

static int refuse_outside(struct ctx *ctx, const struct test *test)
{
	const unsigned int wanted = test->sides == LOCAL ? LOCAL_REFUSAL : REMOTE_REFUSAL;
	struct side target, peer;
	struct message msg;
	int i, ret;

	ret = open_two(ctx, &target, &peer, test->access);
	for (i = 0; i < 4 && !ret; i++) {
		size_t end = target.mr.length;
		/* Over the end by a byte, one byte after it, over and before the start. */
		const struct piece bad[] = {
			{ end - 999, 1000 }, { end, 1 }, { -1UL, 1000 }, { -4000UL, 100 },
		};

		if (test->sides == LOCAL)
			simple_message(&msg, test->op, &target, bad[i].offset, &peer, 9,
				       bad[i].length);
		else
			simple_message(&msg, test->op, &peer, 9, &target, bad[i].offset,
				       bad[i].length);
		ret = refuse_message(ctx, &msg, wanted);
		/* Of the bytes in bounds some were sent; none must arrive out of bounds. */
		if (test->sides == LOCAL)
			accept_range(&peer, 9, bad[i].length);
		if (!ret)
			ret = check_both(&target, &peer);
	}
	if (!ret)
		ret = still_works(ctx, &target, &peer, OP_WRITE);
	side_close(&target);
	side_close(&peer);
	return ret;
}

/* A message in a page that is not mapped, and one that runs into it. */
static int refuse_hole(struct ctx *ctx, const struct test *test)
{
	unsigned int wanted = test->sides == LOCAL ? LOCAL_REFUSAL : REMOTE_FAILURE;
	const size_t hole = 100 * PAGE, length = 1500, before = 500;
	struct side target, peer;
	struct message msg;
	int i, ret;

	ret = open_two(ctx, &target, &peer, odp_access(true));
	if (!ret)
		ret = write_whole(ctx, &peer, &target);
	if (!ret && munmap(side_addr(&target) + hole, PAGE))
		ret = odp_fail(errno, "munmap: %s", strerror(errno));

	for (i = 0; i < 2 && !ret; i++) {
		size_t offset = hole - target.start + (i ? -before : 10);

		if (test->sides == LOCAL)
			simple_message(&msg, test->op, &target, offset, &peer, 9, length);
		else
			simple_message(&msg, test->op, &peer, 9, &target, offset, length);
		ret = refuse_message(ctx, &msg, wanted);
		if (message_to(&msg)->side == &peer)
			accept_range(&peer, 9, length);
		else if (i)
			accept_range(&target, offset, before);
		if (!ret)
			ret = check_all(&peer);
		if (!ret)
			ret = check_range(&target, 0, hole);
		if (!ret)
			ret = check_range(&target, hole + PAGE, target.mem.length - hole - PAGE);
	}

	/* Mapped again, the page is as good as any. */
	if (!ret) {
		ret = odp_mem_remap(&target.mem, hole, PAGE);
		memset(target.model + hole, 0, PAGE);
	}
	if (!ret) {
		simple_message(&msg, OP_WRITE, &peer, 9, &target, hole - target.start - 10, 5000);
		ret = run_message(ctx, any_pair(ctx), &msg);
	}
	if (!ret)
		ret = check_both(&target, &peer);
	side_close(&target);
	side_close(&peer);
	return ret;
}

static int refuse_readonly(struct ctx *ctx, const struct test *test)
{
	struct side target, peer;
	struct message msg;
	int ret;

	(void)test;
	ret = open_two(ctx, &target, &peer, odp_access(true));
	if (!ret)
		ret = write_whole(ctx, &peer, &target);
	if (!ret && mprotect(target.mem.addr, target.mem.length, PROT_READ))
		ret = odp_fail(errno, "mprotect: %s", strerror(errno));
	if (!ret) {
		fill_range(ctx, &peer, 0, peer.mem.length);
		simple_message(&msg, OP_WRITE, &peer, 0, &target, 1234, 3 * PAGE);
		ret = refuse_message(ctx, &msg, REMOTE_REFUSAL);
	}
	if (!ret)
		ret = check_both(&target, &peer);
	if (!ret)
		ret = still_works(ctx, &target, &peer, OP_READ);
	if (!ret && mprotect(target.mem.addr, target.mem.length, PROT_READ | PROT_WRITE))
		ret = odp_fail(errno, "mprotect: %s", strerror(errno));
	if (!ret)
		ret = still_works(ctx, &target, &peer, OP_WRITE);
	side_close(&target);
	side_close(&peer);
	return ret;
}

/* A file that is mapped read-only can be registered, and read. */
static int read_readonly_file(struct ctx *ctx, const struct test *test)
{
	struct side target, peer = {};
	struct message msg;
	int ret;

	ret = side_open(ctx, &target, "target", test->kind, SMALL_ARENA, odp_access(true));
	if (!ret)
		ret = side_open(ctx, &peer, "peer", ODP_MEM_ANON, SMALL_ARENA, odp_access(false));
	if (!ret)
		fill_range(ctx, &target, 0, target.mem.length);
	if (!ret)
		ret = odp_dereg(&target.mr);
	if (!ret && mmap(target.mem.addr, target.mem.length, PROT_READ, MAP_SHARED | MAP_FIXED,
			 target.mem.fd, 0) == MAP_FAILED)
		ret = odp_fail(errno, "mmap: %s", strerror(errno));
	if (!ret)
		ret = odp_reg(&target.mr, &ctx->dev, side_addr(&target) + target.start,
			      target.mem.length - target.start,
			      IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ON_DEMAND);
	if (!ret)
		ret = still_works(ctx, &target, &peer, OP_READ);
	if (!ret) {
		simple_message(&msg, OP_WRITE, &peer, 0, &target, 0, 100);
		ret = refuse_message(ctx, &msg, REMOTE_REFUSAL);
	}
	if (!ret)
		ret = check_both(&target, &peer);
	side_close(&target);
	side_close(&peer);
	return ret;
}

static int refuse_deregistered(struct ctx *ctx, const struct test *test)
{
	struct side target, peer;
	struct message msg;
	struct ibv_mr gone;
	int ret;

	ret = open_two(ctx, &target, &peer, test->access);
	if (!ret)
		ret = still_works(ctx, &target, &peer, OP_WRITE);
	if (!ret) {
		gone = *target.mr.mr;
		ret = odp_dereg(&target.mr);
	}
	if (!ret) {
		target.mr.mr = &gone;
		simple_message(&msg, OP_WRITE, &peer, 0, &target, 1000, 5000);
		ret = refuse_message(ctx, &msg, REMOTE_REFUSAL);
		target.mr.mr = NULL;
	}
	if (!ret)
		ret = check_both(&target, &peer);
	side_close(&target);
	side_close(&peer);
	return ret;
}

static enum ibv_qp_state qp_state(struct ibv_qp *qp)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	return ibv_query_qp(qp, &attr, IBV_QP_STATE, &init) ? IBV_QPS_UNKNOWN : attr.qp_state;
}

/*
 * A write that finds no room for its completion ends the queue pair. That must
 * not keep the MR: deregistering it would not return.
 */
static int overflow_cq(struct ctx *ctx, const struct test *test)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;
	struct odp_pair pair = { 0 };
	struct side target, peer;
	struct ibv_sge sge;
	struct ibv_wc wc;
	int i, ret;

	attr.max_wr = 1;
	ret = open_two(ctx, &target, &peer, test->access);
	if (!ret)
		ret = odp_connect(&pair, &ctx->dev, &attr);
	/* The receiver's completions are left where they are. */
	for (i = 0; !ret && i < 100; i++) {
		uint64_t until = odp_now() + 2000000000;

		sge = odp_sge(&peer.mr, 0, 1000);
		ret = odp_post_recv(&pair.remote, 0, NULL, 0);
		if (!ret)
			ret = odp_post(&pair.local, IBV_WR_RDMA_WRITE_WITH_IMM, 0, &sge, 1,
				       &target.mr, 0);
		while (!ret && odp_now() < until && qp_state(pair.remote.qp) != IBV_QPS_ERR &&
		       !ibv_poll_cq(pair.local.cq, 1, &wc))
			sched_yield();
		if (!ret && qp_state(pair.remote.qp) == IBV_QPS_ERR)
			break;
	}
	if (!ret && i == 100)
		ret = odp_fail(EPROTO, "a full completion queue took %d completions", i);
	if (!ret)
		ret = odp_dereg(&target.mr);
	odp_disconnect(&pair);
	side_close(&target);
	side_close(&peer);
	return ret;
}

static int want_no_mr(struct odp_mr *mr, int ret, const char *what)
{
	if (!ret) {
		odp_dereg(mr);
		return odp_fail(EPROTO, "%s was registered and must not be", what);
	}
	if (ret == -EINVAL || ret == -EOPNOTSUPP)
		return 0;
	return odp_fail(EPROTO, "%s: refused, but with %s", what, strerror(-ret));
}

static int refuse_iova_offset(struct ctx *ctx, const struct test *test)
{
	struct odp_mem mem;
	struct odp_mr mr;
	int ret;

	ret = odp_mem_map(&mem, ODP_MEM_ANON, 64 * ODP_KIB, NULL);
	if (ret)
		return ret;
	ret = odp_reg_iova(&mr, &ctx->dev, mem.addr, mem.length, 123, test->access);
	ret = want_no_mr(&mr, ret, "an MR whose iova has another offset in its page");
	odp_mem_unmap(&mem);
	return ret;
}

static int refuse_write_only(struct ctx *ctx, const struct test *test)
{
	struct odp_mem mem;
	struct odp_mr mr;
	int ret;

	ret = odp_mem_map(&mem, ODP_MEM_ANON, 64 * ODP_KIB, NULL);
	if (ret)
		return ret;
	ret = odp_reg(&mr, &ctx->dev, mem.addr, mem.length,
		      (test->access & IBV_ACCESS_ON_DEMAND) | IBV_ACCESS_REMOTE_WRITE);
	ret = want_no_mr(&mr, ret, "remote write without local write");
	odp_mem_unmap(&mem);
	return ret;
}

/* --- capabilities, counters, size ---------------------------------------------------- */

/* Whether the kernel was built with ODP in rxe, whatever the device says. */
static bool kernel_has_rxe_odp(void)
{
	FILE *file = fopen("/proc/kallsyms", "re");
	char line[512];
	bool found = false;

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = strstr(line, " rxe_odp_") != NULL;
	fclose(file);
	return found;
}

#define CAPS_RC		(IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV | \
			 IBV_ODP_SUPPORT_WRITE | IBV_ODP_SUPPORT_READ)

/* Everything that rxe can do, and tests/surface.c shows; FLUSH and ATOMIC WRITE by number. */
static int report_caps(struct ctx *ctx, const struct test *test)
{
	const uint32_t ud = IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV | IBV_ODP_SUPPORT_SRQ_RECV;
	const uint32_t uc = ud | IBV_ODP_SUPPORT_WRITE;
	const uint32_t rc = uc | IBV_ODP_SUPPORT_READ | IBV_ODP_SUPPORT_ATOMIC | 1 << 6 | 1 << 7;
	const struct odp_dev *dev = &ctx->dev;
	bool good;

	(void)test;
	if (ctx->odp || kernel_has_rxe_odp())
		good = dev->odp_general == (IBV_ODP_SUPPORT | IBV_ODP_SUPPORT_IMPLICIT) &&
		       dev->odp_rc == rc && dev->odp_uc == uc && dev->odp_ud == ud;
	else
		good = !dev->odp_general && !dev->odp_rc && !dev->odp_uc && !dev->odp_ud;
	if (good)
		return 0;
	return odp_fail(EPROTO, "ODP capabilities: general %#lx, RC %#x, UC %#x, UD %#x",
			dev->odp_general, dev->odp_rc, dev->odp_uc, dev->odp_ud);
}

/*
 * One capability of one transport on ODP memory: what is claimed works, what is
 * not claimed fails and leaves every byte alone.
 */
#define GRH		40	/* UD puts this before what it receives */
#define TRANSPORT_MS	2000
#define TRANSPORT_TRIES	5	/* UC and UD may drop while a page is brought in */

struct transport {
	const char *name;
	enum ibv_qp_type type;
	enum ibv_odp_transport_cap_bits cap;
};

static const struct transport transports[] = {
	{ "rc_srq_recv", IBV_QPT_RC, IBV_ODP_SUPPORT_SRQ_RECV },
	{ "uc_send", IBV_QPT_UC, IBV_ODP_SUPPORT_SEND },
	{ "uc_recv", IBV_QPT_UC, IBV_ODP_SUPPORT_RECV },
	{ "uc_write", IBV_QPT_UC, IBV_ODP_SUPPORT_WRITE },
	{ "uc_srq_recv", IBV_QPT_UC, IBV_ODP_SUPPORT_SRQ_RECV },
	{ "ud_send", IBV_QPT_UD, IBV_ODP_SUPPORT_SEND },
	{ "ud_recv", IBV_QPT_UD, IBV_ODP_SUPPORT_RECV },
	{ "ud_srq_recv", IBV_QPT_UD, IBV_ODP_SUPPORT_SRQ_RECV },
};

static bool is_claimed(const struct odp_dev *dev, const struct transport *transport)
{
	uint32_t caps = transport->type == IBV_QPT_RC ? dev->odp_rc :
			transport->type == IBV_QPT_UC ? dev->odp_uc : dev->odp_ud;

	return caps & transport->cap;
}

/* UC reports a write when it has been sent, and it arrives a moment later. */
static bool arrives(const uint8_t *at, const uint8_t *expected, size_t length, int wait_ms)
{
	uint64_t deadline = odp_now() + wait_ms * 1000000ULL;

	while (!odp_compare(at, expected, length, NULL)) {
		if (odp_now() > deadline)
			return false;
		sched_yield();
	}
	return true;
}

/* Move the first @length bytes at @from of @local to @to of @remote; true if they arrived. */
static bool transport_once(struct odp_pair *pair, bool write, struct side *local, size_t from,
			   struct side *remote, size_t to, size_t length)
{
	const uint8_t *source = local->model + local->start + from;
	uint8_t *at = side_addr(remote) + remote->start + to;
	size_t grh = pair->local.ah ? GRH : 0;
	struct ibv_sge sge;
	struct ibv_wc wc;

	if (!write) {
		sge = odp_sge(&remote->mr, to - grh, length + grh);
		if (odp_post_recv(&pair->remote, 0, &sge, 1))
			return false;
	}
	sge = odp_sge(&local->mr, from, length);
	if (odp_post(&pair->local, write ? IBV_WR_RDMA_WRITE : IBV_WR_SEND, 0, &sge, 1,
		     write ? &remote->mr : NULL, to))
		return false;
	if (odp_wait(&pair->local, &wc, TRANSPORT_MS) || wc.status != IBV_WC_SUCCESS)
		return false;
	if (write)
		return arrives(at, source, length, TRANSPORT_MS);
	if (odp_wait(&pair->remote, &wc, TRANSPORT_MS) || wc.status != IBV_WC_SUCCESS)
		return false;
	return wc.byte_len == length + grh && arrives(at, source, length, 0);
}

static int transport_step(struct ctx *ctx, const struct transport *transport, bool expected,
			  struct side *local, struct side *remote, size_t length)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;
	bool write = transport->cap == IBV_ODP_SUPPORT_WRITE, arrived = false;
	size_t from = below(ctx, ODP_MIB), to = GRH + below(ctx, ODP_MIB);
	struct odp_pair pair;
	int tries, ret;

	attr.type = transport->type;
	attr.srq = transport->cap == IBV_ODP_SUPPORT_SRQ_RECV;
	for (tries = expected ? TRANSPORT_TRIES : 1; tries && !arrived; tries--) {
		ret = odp_connect(&pair, &ctx->dev, &attr);
		if (ret)
			return ret;
		arrived = transport_once(&pair, write, local, from, remote, to, length);
		odp_disconnect(&pair);
	}
	if (arrived != expected)
		return odp_fail(EPROTO, "%s of %zu bytes %s", transport->name, length,
				arrived ? "works, and the capabilities do not say so" :
					  "does not arrive");
	if (arrived) {
		memcpy(remote->model + remote->start + to, local->model + local->start + from, length);
		if (transport->type == IBV_QPT_UD)
			accept_range(remote, to - GRH, GRH);
	}
	return check_both(local, remote);
}

static int carry_transport(struct ctx *ctx, const struct test *test)
{
	const struct transport *transport = test->transport;
	bool odp = test->access & IBV_ACCESS_ON_DEMAND;
	bool odp_local = odp && (transport->cap == IBV_ODP_SUPPORT_SEND ||
				 transport->cap == IBV_ODP_SUPPORT_WRITE);
	bool odp_remote = odp && transport->cap != IBV_ODP_SUPPORT_SEND;
	bool expected = !odp || is_claimed(&ctx->dev, transport);
	const size_t lengths[] = { 1, 777, 1000, 20000, 300000 };
	struct side local, remote = {};
	size_t i;
	int ret;

	ret = side_open(ctx, &local, "local", ODP_MEM_ANON, SMALL_ARENA, odp_access(odp_local));
	if (!ret)
		ret = side_open(ctx, &remote, "remote", ODP_MEM_ANON, SMALL_ARENA,
				odp_access(odp_remote));
	for (i = 0; i < ARRAY_SIZE(lengths) && !ret; i++) {
		/* A datagram is one packet. */
		if (transport->type == IBV_QPT_UD && lengths[i] > 1024)
			break;
		fill_range(ctx, &local, 0, local.mem.length);
		ret = transport_step(ctx, transport, expected, &local, &remote, lengths[i]);
	}
	side_close(&local);
	side_close(&remote);
	return ret;
}

static int count_pages(struct ctx *ctx, const struct test *test)
{
	struct odp_counters cold, warm, lost, again;
	struct side target, peer;
	int ret;

	(void)test;
	ret = open_two(ctx, &target, &peer, odp_access(true));
	if (!ret)
		ret = write_whole(ctx, &peer, &target);
	if (!ret)
		ret = odp_counters(&target.mr, &cold);
	if (!ret)
		ret = write_whole(ctx, &peer, &target);
	if (!ret)
		ret = odp_counters(&target.mr, &warm);
	if (!ret)
		ret = do_event(&target, DISCARD, 0, target.mem.length, NULL);
	if (!ret)
		ret = odp_counters(&target.mr, &lost);
	if (!ret)
		ret = write_whole(ctx, &peer, &target);
	if (!ret)
		ret = odp_counters(&target.mr, &again);
	if (!ret && (!cold.faults || warm.faults != cold.faults || lost.faults != warm.faults ||
		     again.faults <= lost.faults))
		ret = odp_fail(EPROTO, "page faults: %lu cold, %lu warm, %lu after MADV_DONTNEED, %lu after the next write",
			       cold.faults, warm.faults, lost.faults, again.faults);
	if (!ret && (warm.invalidations != cold.invalidations ||
		     lost.invalidations <= warm.invalidations ||
		     again.invalidations != lost.invalidations))
		ret = odp_fail(EPROTO, "invalidations: %lu cold, %lu warm, %lu after MADV_DONTNEED, %lu after the next write",
			       cold.invalidations, warm.invalidations, lost.invalidations,
			       again.invalidations);
	side_close(&target);
	side_close(&peer);
	return ret;
}

static int count_nothing_pinned(struct ctx *ctx, const struct test *test)
{
	struct odp_counters counters;
	struct side target, peer;
	int ret;

	(void)test;
	ret = open_two(ctx, &target, &peer, odp_access(false));
	if (!ret) {
		ret = odp_counters(&target.mr, &counters);
		if (ret == -ENODATA)
			ret = 0;
		else if (!ret)
			ret = odp_fail(EPROTO, "a pinned MR has page-fault counters");
	}
	side_close(&target);
	side_close(&peer);
	return ret;
}

static long available_kib(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	long kib = 0;

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %ld", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

/* Registering costs nothing for the size, and no offset is cut to 32 bits. */
static int register_sparse(struct ctx *ctx, const struct test *test)
{
	const size_t size = 64UL << 30, length = 3 * PAGE;
	const size_t at[] = { 17, (4UL << 30) - 100, (33UL << 30) + 5, size - length - 1 };
	struct odp_mismatch bad;
	struct side peer;
	struct odp_mr mr = {};
	long before, used;
	uint8_t *addr;
	size_t i;
	int ret;

	(void)test;
	addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0);
	if (addr == MAP_FAILED)
		return odp_fail(errno, "mmap of 64 GiB: %s", strerror(errno));
	ret = side_open(ctx, &peer, "peer", ODP_MEM_ANON, ODP_MIB, odp_access(false));
	before = available_kib();
	if (!ret)
		ret = odp_reg_iova(&mr, &ctx->dev, addr, size, 1UL << 45, odp_access(true));
	used = before - available_kib();
	/* A flat table of 8 bytes a page would be 128 MiB. */
	if (!ret && used > 32 * 1024)
		ret = odp_fail(EPROTO, "registering 64 GiB took %ld KiB of memory", used);

	for (i = 0; i < ARRAY_SIZE(at) && !ret; i++) {
		struct odp_pair *pair = any_pair(ctx);

		odp_fill(peer.mr.addr, length, i, 0);
		ret = pair ? odp_write(pair, &peer.mr, 0, &mr, at[i], length) : -EIO;
		if (!ret && !odp_verify(addr + at[i], length, i, 0, &bad))
			ret = odp_fail(EBADMSG, "byte %zu after %#zx: %#04x, should be %#04x",
				       bad.offset, at[i], bad.got, bad.expected);
	}
	if (mr.mr)
		ibv_dereg_mr(mr.mr);
	side_close(&peer);
	munmap(addr, size);
	return ret;
}

/* --- the list of tests ------------------------------------------------------------------ */

#define MAX_TESTS	256

static struct test tests[MAX_TESTS];
static int test_count;

__attribute__((format(printf, 2, 3)))
static struct test *add(int (*run)(struct ctx *ctx, const struct test *test), const char *fmt, ...)
{
	struct test *test = &tests[test_count++];
	va_list args;

	test->run = run;
	test->needs_odp = true;
	va_start(args, fmt);
	vsnprintf(test->name, sizeof(test->name), fmt, args);
	va_end(args);
	return test;
}

static void add_random(void)
{
	struct test *test;
	int kind, op, sides;

	for (kind = 0; kind < ODP_MEM_KINDS; kind++) {
		for (op = 0; op < OPS; op++) {
			for (sides = 0; sides < SIDES; sides++) {
				/* A file that needs write notification cannot be pinned for long. */
				if (sides == PINNED &&
				    (kind == ODP_MEM_EXT4 || kind == ODP_MEM_FSDAX))
					continue;
				test = add(move_random, "%s_%s_%s", odp_mem_name(kind),
					   op_names[op], sides_names[sides]);
				test->kind = kind;
				test->op = op;
				test->sides = sides;
				test->needs_odp = sides != PINNED;
			}
		}
	}
}

static void add_events(void)
{
	struct test *test;
	int kind, event;

	for (kind = 0; kind < ODP_MEM_KINDS; kind++) {
		for (event = 0; event < EVENTS; event++) {
			if (event == COLLAPSE && kind != ODP_MEM_THP)
				continue;
			test = add(lose_pages, "%s_%s", odp_mem_name(kind), event_names[event]);
			test->kind = kind;
			test->event = event;
		}
	}
}

/* One test on ODP memory, and its control on pinned memory. */
static void add_twice(int (*run)(struct ctx *ctx, const struct test *test), const char *name,
		      enum op op, enum sides sides)
{
	struct test *test;
	int odp;

	for (odp = 0; odp < 2; odp++) {
		test = add(run, "%s_%s", name, odp ? "odp" : "pinned");
		test->op = op;
		test->sides = sides;
		test->access = odp_access(odp);
		test->needs_odp = odp;
	}
}

static struct test *add_hole(const char *name, enum op op, enum sides sides)
{
	struct test *test = add(refuse_hole, "%s", name);

	test->op = op;
	test->sides = sides;
	return test;
}

static void add_transports(void)
{
	struct test *test;
	size_t i;
	int odp;

	for (i = 0; i < ARRAY_SIZE(transports); i++) {
		for (odp = 0; odp < 2; odp++) {
			test = add(carry_transport, "transport_%s_%s", transports[i].name,
				   odp ? "odp" : "pinned");
			test->transport = &transports[i];
			test->access = odp_access(odp);
			test->needs_odp = odp;
		}
	}
}

static void add_rest(void)
{
	add(report_caps, "caps_report")->needs_odp = false;
	add(count_pages, "counters_count");
	add(count_nothing_pinned, "counters_pinned")->needs_odp = false;
	add(register_sparse, "sparse_register");

	add_twice(refuse_outside, "outside_write", OP_WRITE, REMOTE);
	add_twice(refuse_outside, "outside_read", OP_READ, REMOTE);
	add_twice(refuse_outside, "outside_write_from", OP_WRITE, LOCAL);
	add_hole("hole_write", OP_WRITE, REMOTE);
	add_hole("hole_read", OP_READ, REMOTE);
	add_hole("hole_receive", OP_SEND, REMOTE);
	add_hole("hole_write_from", OP_WRITE, LOCAL);
	add_hole("hole_read_into", OP_READ, LOCAL);
	add(refuse_readonly, "readonly_write");
	add(read_readonly_file, "readonly_ext4_read")->kind = ODP_MEM_EXT4;
	add(read_readonly_file, "readonly_fsdax_read")->kind = ODP_MEM_FSDAX;
	add_twice(refuse_deregistered, "deregistered_write", OP_WRITE, REMOTE);
	add(overflow_cq, "cq_overflow_deregister")->access = odp_access(true);

	add_twice(refuse_iova_offset, "iova_offset_register", OP_WRITE, REMOTE);
	add_twice(refuse_write_only, "write_only_register", OP_WRITE, REMOTE);
}

/* --- running them -------------------------------------------------------------------------- */

static const char *name_test(size_t i)
{
	return i < (size_t)test_count ? tests[i].name : NULL;
}

static int open_ctx(void *arg, const char *device)
{
	struct ctx *ctx = arg;

	ctx->bounce = malloc(MAX_MESSAGE);
	if (!ctx->bounce)
		return odp_fail(ENOMEM, "out of memory");
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
	free(ctx->bounce);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	struct ctx *ctx = arg;

	if (tests[i].needs_odp && !ctx->odp)
		return odp_fail(ENODEV, "the kernel has no ODP for %s", ctx->dev.name);
	ctx->rng = seed;
	return tests[i].run(ctx, &tests[i]);
}

/* get_pair() connects them anew. */
static int recover(void *arg)
{
	drop_pairs(arg);
	return 0;
}

int main(int argc, char **argv)
{
	struct ctx ctx = { .iterations = 24 };
	struct suite suite = {
		.program = "test-verbs",
		.about = "Byte-exact test of verbs on pinned and on-demand-paged memory.",
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
	add_transports();
	add_random();
	add_events();
	return suite_main(&suite, argc, argv);
}
