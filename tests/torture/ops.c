// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-torture: the operations. Each does to the models what it asks the device
 * or the kernel to do to the memory, and draws all that it decides from the
 * operation's own series.
 */
#define _GNU_SOURCE
#include "torture.h"
#include "../lib/gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define HUGE		(2 * ODP_MIB)
#define MAX_PIECES	8
#define MAX_MOVED	64

static const int mtus[PAIRS] = { 4096, 1024, 512, 4096 };

uint64_t below(struct torture *t, uint64_t limit)
{
	return odp_random(&t->rng) % limit;
}

static bool one_in(struct torture *t, uint64_t n)
{
	return !below(t, n);
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

void note(struct torture *t, const char *fmt, ...)
{
	char *line = t->log[t->logged++ % LOG_LINES];
	va_list args;
	int n;

	n = snprintf(line, sizeof(t->log[0]), "op %lu: ", t->op);
	va_start(args, fmt);
	vsnprintf(line + n, sizeof(t->log[0]) - n, fmt, args);
	va_end(args);
	if (t->trace)
		fprintf(stderr, "thread %u %s\n", t->number, line);
}

static void note_event(struct torture *t, const char *name, struct range r)
{
	t->events++;
	note(t, "%s %s %#zx+%#zx", name, r.arena->name, r.offset, r.length);
}

static int fail_errno(struct range r, const char *what)
{
	int err = errno;

	r.arena->failed = true;
	return odp_fail(err, "%s of %s %#zx+%#zx: %s", what, r.arena->name, r.offset, r.length,
			strerror(err));
}

static uint8_t *range_at(struct range r)
{
	return arena_at(r.arena, r.offset);
}

/* --- what to work on ---------------------------------------- */

static struct arena *any_arena(struct torture *t)
{
	return t->present[below(t, t->count)];
}

/* An arena of these kinds, or NULL where there is none. */
static struct arena *arena_of(struct torture *t, unsigned int kinds)
{
	struct arena *found[KINDS];
	int i, count = 0;

	for (i = 0; i < t->count; i++)
		if (BIT(t->present[i]->kind) & kinds)
			found[count++] = t->present[i];
	return count ? found[below(t, count)] : NULL;
}

static struct range whole(struct arena *arena)
{
	return (struct range){ arena, 0, arena->mem.length };
}

/* The i-th of n parts of an arena, of which none overlaps with another. */
static struct range part_of(struct arena *arena, size_t i, size_t n)
{
	size_t length = arena->mem.length / n;

	return (struct range){ arena, i * length, length };
}

/* Whole pages: one as often as many, now and then all. */
static struct range some_pages(struct torture *t, struct arena *arena, size_t most)
{
	size_t pages = arena->mem.length / PAGE, count = 1UL << below(t, 9);

	/* And huge pages whole. */
	if (most >= HUGE / PAGE && (arena->kind == HUGETLB || (arena->kind == THP && one_in(t, 4))))
		return part_of(arena, below(t, pages * PAGE / HUGE), pages * PAGE / HUGE);
	if (one_in(t, 8))
		count = pages;
	count = least(count + below(t, count), least(pages, most));
	return (struct range){ arena, below(t, pages - count + 1) * PAGE, count * PAGE };
}

/* Any bytes. */
static struct range some_bytes(struct torture *t, struct arena *arena)
{
	struct range r = some_pages(t, arena, MAX_MESSAGE / PAGE);
	size_t head = below(t, PAGE);

	r.offset += head;
	r.length -= head;
	r.length -= below(t, least(r.length, PAGE));
	return r;
}

/* What of the range is in the MR; the length may become 0. */
static struct range clip(struct range r)
{
	size_t first = r.arena->start, end = first + r.arena->mr.length;
	size_t from = r.offset > first ? r.offset : first;
	size_t to = least(r.offset + r.length, end);

	r.offset = from;
	r.length = to > from ? to - from : 0;
	return r;
}

/* --- messages ---------------------------------------- */

enum opcode { SEND, WRITE, READ, OPCODES };
static const char *const opcode_names[] = { "send", "write", "read" };

/* Scatter or gather list. */
struct list {
	int count;
	struct range piece[MAX_PIECES];
};

struct message {
	enum opcode opcode;
	struct odp_pair *pair;
	bool backwards;		/* the pair's remote end is the requester */
	size_t length;
	struct list from;
	struct list to;
};

static struct odp_end *requester(struct message *msg)
{
	return msg->backwards ? &msg->pair->remote : &msg->pair->local;
}

static struct odp_end *responder(struct message *msg)
{
	return msg->backwards ? &msg->pair->local : &msg->pair->remote;
}

static int open_pair(struct torture *t, int i)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;

	attr.mtu = mtus[i];
	attr.max_wr = 8;
	attr.max_sge = MAX_PIECES;
	return odp_connect(&t->pairs[i], t->dev, &attr);
}

int open_pairs(struct torture *t)
{
	int i, ret = 0;

	for (i = 0; i < PAIRS && !ret; i++)
		if (!t->pairs[i].local.qp)
			ret = open_pair(t, i);
	return ret;
}

void close_pairs(struct torture *t)
{
	int i;

	for (i = 0; i < PAIRS; i++)
		odp_disconnect(&t->pairs[i]);
}

/* Any power of two is as likely as any other, but the large ones; so is a page boundary. */
static size_t some_length(struct torture *t, size_t most)
{
	size_t length = 1UL << below(t, one_in(t, 4) ? 19 : 15);

	length += below(t, length);
	if (one_in(t, 2))
		length = (length & -PAGE) + below(t, 7) - 3;
	if (!length || length > MAX_MESSAGE)
		length = 1 + below(t, 64);
	return least(length, most);
}

/* A gap before a piece at @offset; half of them lead to a page boundary. */
static size_t some_gap(struct torture *t, size_t offset, size_t slack)
{
	size_t gap = below(t, slack + 1), edge = (offset + gap) & -PAGE;

	if (one_in(t, 2) && edge >= offset + 3 && edge - offset + 3 <= slack)
		return edge - offset + below(t, 7) - 3;
	return gap;
}

/* Cut @length bytes in pieces, spread over the range without overlap. */
static void plan_list(struct torture *t, struct list *list, struct range r, size_t length,
		      int count)
{
	size_t slack = r.length - length, cursor = r.offset;
	struct range first;
	int i;

	list->count = count = least(count, length);
	for (i = 0; i < count; i++) {
		size_t left = count - i, part = length, gap;

		if (left > 1)
			part = 1 + below(t, least(length - left + 1, 2 * length / left));
		gap = some_gap(t, cursor, slack / left);
		list->piece[i] = (struct range){ r.arena, cursor + gap, part };
		cursor += gap + part;
		slack -= gap;
		length -= part;
	}
	/* Not always in order of their addresses. */
	i = below(t, count);
	first = list->piece[0];
	list->piece[0] = list->piece[i];
	list->piece[i] = first;
}

static int some_count(struct torture *t)
{
	return one_in(t, 2) ? 1 : 1 + below(t, MAX_PIECES);
}

/*
 * Plan a message on queue pair @pair from somewhere in @from to somewhere in
 * @to. A message of no bytes: one of them is outside of its MR.
 */
static void plan_message(struct torture *t, struct message *msg, int pair, struct range from,
			struct range to, int opcode)
{
	from = clip(from);
	to = clip(to);
	msg->opcode = opcode < 0 ? (int)below(t, OPCODES) : opcode;
	msg->pair = &t->pairs[pair];
	msg->backwards = one_in(t, 2);
	msg->length = some_length(t, least(from.length, to.length));
	if (!msg->length)
		return;
	plan_list(t, &msg->from, from, msg->length, msg->opcode == READ ? 1 : some_count(t));
	plan_list(t, &msg->to, to, msg->length, msg->opcode == WRITE ? 1 : some_count(t));
	note(t, "%s %zu bytes from %s %#zx (%d pieces) to %s %#zx (%d pieces), pair %d %s",
	     opcode_names[msg->opcode], msg->length, from.arena->name, msg->from.piece[0].offset,
	     msg->from.count, to.arena->name, msg->to.piece[0].offset, msg->to.count, pair,
	     msg->backwards ? "backwards" : "forwards");
}

/* What is sent must be known. Not beside messages: it may write. */
static int settle_source(struct message *msg)
{
	int i, ret = 0;

	for (i = 0; msg->length && i < msg->from.count && !ret; i++)
		ret = settle(msg->from.piece[i]);
	return ret;
}

static void make_sges(const struct list *list, struct ibv_sge *sge)
{
	int i;

	for (i = 0; i < list->count; i++) {
		const struct range *r = &list->piece[i];

		sge[i] = odp_sge(&r->arena->mr, r->offset - r->arena->start, r->length);
	}
}

static int post_message(struct message *msg)
{
	static const enum ibv_wr_opcode opcodes[] = {
		IBV_WR_SEND, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ,
	};
	struct list *local = msg->opcode == READ ? &msg->to : &msg->from;
	struct range *remote = msg->opcode == READ ? &msg->from.piece[0] : &msg->to.piece[0];
	struct ibv_sge sge[MAX_PIECES];
	int ret;

	if (!msg->length)
		return 0;
	if (msg->opcode == SEND) {
		make_sges(&msg->to, sge);
		ret = odp_post_recv(responder(msg), 0, sge, msg->to.count);
		if (ret)
			return ret;
	}
	make_sges(local, sge);
	return odp_post(requester(msg), opcodes[msg->opcode], 0, sge, local->count,
			msg->opcode == SEND ? NULL : &remote->arena->mr,
			remote->offset - remote->arena->start);
}

static void model_message(struct torture *t, struct message *msg)
{
	uint8_t *at = t->bounce;
	int i;

	for (i = 0; i < msg->from.count; i++) {
		struct range *r = &msg->from.piece[i];

		memcpy(at, r->arena->model + r->offset, r->length);
		at += r->length;
	}
	at = t->bounce;
	for (i = 0; i < msg->to.count; i++) {
		model_write(msg->to.piece[i], at);
		at += msg->to.piece[i].length;
	}
	t->messages++;
	t->bytes += msg->length;
}

static int finish_message(struct torture *t, struct message *msg)
{
	int ret;

	if (!msg->length)
		return 0;
	ret = odp_wait_success(requester(msg), opcode_names[msg->opcode], msg->length);
	if (!ret && msg->opcode == SEND)
		ret = odp_wait_success(responder(msg), "receive", msg->length);
	if (ret)
		msg->to.piece[0].arena->failed = true;
	else
		model_message(t, msg);
	return ret;
}

/* One message, from start to end. */
static int move(struct torture *t, struct range from, struct range to, int opcode)
{
	struct message msg;
	int ret;

	plan_message(t, &msg, below(t, PAIRS), from, to, opcode);
	ret = open_pairs(t);
	if (!ret)
		ret = settle_source(&msg);
	if (!ret)
		ret = post_message(&msg);
	if (!ret)
		ret = finish_message(t, &msg);
	return ret;
}

static struct arena *other_arena(struct torture *t, struct arena *arena)
{
	int i, step = t->count > 1 ? 1 + below(t, t->count - 1) : 0;

	for (i = 0; t->present[i] != arena; i++)
		;
	return t->present[(i + step) % t->count];
}

/* A message between the range and any other arena; or within the only one. */
static int move_into(struct torture *t, struct range to)
{
	struct arena *arena = other_arena(t, to.arena);

	/* The model moves like memmove(), the device need not. */
	if (arena == to.arena)
		return move(t, part_of(arena, 0, 2), part_of(arena, 1, 2), -1);
	return move(t, whole(arena), to, -1);
}

static int move_out_of(struct torture *t, struct range from)
{
	struct arena *arena = other_arena(t, from.arena);

	if (arena == from.arena)
		return move(t, part_of(arena, 0, 2), part_of(arena, 1, 2), -1);
	return move(t, from, whole(arena), -1);
}

/*
 * The device must not get at any byte of the range: what it reads or writes
 * there fails, and nothing has changed. The queue pair is opened again when the
 * next message wants it: nothing may be mapped now, as it could be in a hole.
 */
static int refused(struct torture *t, struct range r, bool write)
{
	const unsigned int wanted = BIT(IBV_WC_REM_ACCESS_ERR) | BIT(IBV_WC_REM_OP_ERR) |
				    BIT(IBV_WC_REM_INV_REQ_ERR);
	struct arena *peer = other_arena(t, r.arena);
	int i = below(t, PAIRS), ret;
	struct message msg;
	struct ibv_wc wc;

	r = clip(r);
	if (!r.length || peer == r.arena)
		return 0;
	note(t, "%s that must be refused", write ? "write" : "read");
	plan_message(t, &msg, i, write ? whole(peer) : r, write ? r : whole(peer),
		     write ? WRITE : READ);
	ret = write ? settle_source(&msg) : 0;
	if (!ret)
		ret = post_message(&msg);
	if (!ret)
		ret = odp_wait(requester(&msg), &wc, ODP_WAIT_MS);
	if (!ret && !(wanted >> wc.status & 1)) {
		r.arena->failed = true;
		ret = odp_fail(EPROTO, "an access to %s memory that must be refused ends with: %s",
			       r.arena->name, ibv_wc_status_str(wc.status));
	}
	odp_disconnect(&t->pairs[i]);
	return ret;
}

/* --- events of memory management ---------------------------------------- */

/* Zeroes after it in private memory; a file keeps its bytes. */
static int dontneed(struct torture *t, struct range r)
{
	(void)t;
	if (madvise(range_at(r), r.length, MADV_DONTNEED))
		return fail_errno(r, "MADV_DONTNEED");
	if (is_private(r.arena))
		model_fresh(r);
	return 0;
}

static int lazyfree(struct torture *t, struct range r)
{
	size_t end = r.offset + r.length, at;

	(void)t;
	/* Of what is one of two already there must not be three. */
	for (at = r.offset; at < end; at += PAGE) {
		struct range page = { r.arena, at, PAGE };
		int ret = r.arena->state[at / PAGE] == MAYBE ? settle(page) : 0;

		if (ret)
			return ret;
	}
	if (madvise(range_at(r), r.length, MADV_FREE))
		return fail_errno(r, "MADV_FREE");
	model_free(r);
	return 0;
}

/* As much as possible: what the kernel keeps is not an error. Files want to be clean. */
static int pageout(struct torture *t, struct range r)
{
	(void)t;
	if ((BIT(r.arena->kind) & (FILES & ~BIT(MEMFD))) && fsync(r.arena->mem.fd))
		return fail_errno(r, "fsync");
	madvise(range_at(r), r.length, MADV_PAGEOUT);
	return 0;
}

static int cold(struct torture *t, struct range r)
{
	(void)t;
	madvise(range_at(r), r.length, MADV_COLD);
	return 0;
}

static int collapse(struct torture *t, struct range r)
{
	size_t first = r.offset & -HUGE, end = (r.offset + r.length + HUGE - 1) & -HUGE;

	(void)t;
	/* It may be refused, for many reasons. */
	madvise(arena_at(r.arena, first), end - first, MADV_COLLAPSE);
	return 0;
}

static int protect(struct torture *t, struct range r)
{
	bool readable = !one_in(t, 3), source = readable && one_in(t, 2);
	int ret = source ? settle(r) : 0;

	if (ret)
		return ret;
	if (mprotect(range_at(r), r.length, readable ? PROT_READ : PROT_NONE))
		return fail_errno(r, "mprotect");
	if (one_in(t, 2))
		ret = refused(t, r, readable || one_in(t, 2));
	if (!ret && source)
		ret = move_out_of(t, r);
	if (!ret && readable)
		ret = check_range(r);
	if (mprotect(range_at(r), r.length, PROT_READ | PROT_WRITE))
		return fail_errno(r, "mprotect");
	return ret;
}

/*
 * While others map memory, a hole could be taken by them, and then be mapped
 * over; so nothing accessible is mapped there instead.
 */
static int unmap(struct torture *t, struct range r)
{
	const int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	int ret = 0;

	if (t->alone ? munmap(range_at(r), r.length) :
		       mmap(range_at(r), r.length, PROT_NONE, flags, -1, 0) == MAP_FAILED)
		return fail_errno(r, "unmapping");
	if (one_in(t, 3))
		ret = refused(t, r, one_in(t, 2));
	if (arena_remap(r))
		return fail_errno(r, "mapping anew");
	if (is_private(r.arena))
		model_fresh(r);
	return ret;
}

static int map_over(struct torture *t, struct range r)
{
	(void)t;
	if (arena_remap(r))
		return fail_errno(r, "mapping over");
	if (is_private(r.arena))
		model_fresh(r);
	return 0;
}

/* The pages move, and MREMAP_DONTUNMAP keeps everyone else out of where they were. */
static bool move_mapping(uint8_t *from, uint8_t *to, size_t length)
{
	return mremap(from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		      to) != MAP_FAILED;
}

static int move_away(struct torture *t, struct range r)
{
	uint8_t *reserve, *away, *home = range_at(r);
	size_t reserved = r.length + HUGE;
	uint64_t seed = odp_random(&t->rng);
	bool write = one_in(t, 2);
	int ret = 0;

	reserve = mmap(NULL, reserved, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserve == MAP_FAILED)
		return fail_errno(r, "mmap");
	/* Where huge pages could move whole. */
	away = reserve + (((uintptr_t)home - (uintptr_t)reserve) & (HUGE - 1));
	/* EFAULT: the range has become several mappings. */
	if (!move_mapping(home, away, r.length)) {
		r.length = PAGE;
		if (errno != EFAULT || !move_mapping(home, away, r.length))
			ret = fail_errno(r, "mremap");
	}
	if (!ret && write) {
		/* The model has them at home already. */
		struct range head = { r.arena, r.offset, least(r.length, 3 * PAGE) - 5 };

		odp_fill(t->bounce, head.length, seed, 0);
		memcpy(away, t->bounce, head.length);
		model_write(head, t->bounce);
	}
	if (!ret && (!move_mapping(away, home, r.length) || arena_arm(r)))
		ret = fail_errno(r, "mremap back");
	munmap(reserve, reserved);
	return ret;
}

/* --- fork ---------------------------------------- */

/*
 * The child writes to the range, waits, finds its private memory as it was at
 * the fork, and writes again. It has copies of the models that are its own. No
 * memory may be allocated here: another thread may have been in malloc().
 */
static void fork_child(struct torture *t, struct range r, uint64_t seed, int sock)
{
	char go = 0;
	int ret = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	cpu_write(t, r, seed);
	if (write(sock, &go, 1) != 1 || read(sock, &go, 1) != 1)
		_exit(2);
	if (is_private(r.arena)) {
		ret = check_arena(r.arena);
		if (!ret) {
			cpu_write(t, r, seed + 1);
			ret = check_range(r);
		}
	}
	if (ret && write(sock, odp_error(), strlen(odp_error())) < 0)
		_exit(2);
	_exit(ret != 0);
}

/* Shared memory has what the child wrote, private memory has not. */
static int fork_write(struct torture *t, struct range r)
{
	uint64_t seed = odp_random(&t->rng);
	int fds[2], status, i, count = below(t, 4), ret = 0;
	char text[900] = "", go = 0;
	pid_t pid;

	r.length = least(r.length, 16 * PAGE) - 7;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return fail_errno(r, "socketpair");
	pid = fork();
	if (pid < 0)
		return fail_errno(r, "fork");
	if (!pid)
		fork_child(t, r, seed, fds[1]);
	if (read(fds[0], &go, 1) != 1)
		ret = fail_errno(r, "reading from the child");
	if (!is_private(r.arena)) {
		odp_fill(t->bounce, r.length, seed, 0);
		model_write(r, t->bounce);
	}
	for (i = 0; i < count && !ret; i++)
		ret = one_in(t, 2) ? move_into(t, r) : move_out_of(t, r);
	if (write(fds[0], &go, 1) != 1 && !ret)
		ret = fail_errno(r, "writing to the child");
	if (waitpid(pid, &status, 0) < 0 && !ret)
		ret = fail_errno(r, "waitpid");
	if (!ret && status) {
		if (recv(fds[0], text, sizeof(text) - 1, MSG_DONTWAIT) < 0)
			text[0] = 0;
		r.arena->failed = true;
		ret = odp_fail(EBADMSG, "in the child of a fork (status %#x): %s", status, text);
	}
	close(fds[0]);
	close(fds[1]);
	return ret ? ret : check_range(r);
}

/* A child that ends at once: its address space comes and goes. */
static int fork_exit(struct torture *t, struct range r)
{
	pid_t pid = fork();

	(void)t;
	if (!pid)
		_exit(0);
	if (pid < 0 || waitpid(pid, NULL, 0) < 0)
		return fail_errno(r, "fork");
	return 0;
}

/* --- files ---------------------------------------- */

static int punch(struct torture *t, struct range r)
{
	if (one_in(t, 4)) {
		/* Less than whole pages are zeroed in place. */
		r.offset += below(t, PAGE);
		r.length -= PAGE - 1;
	}
	if (fallocate(r.arena->mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, r.offset,
		      r.length))
		return fail_errno(r, "punching a hole");
	model_zero(r);
	return 0;
}

static int zero(struct torture *t, struct range r)
{
	(void)t;
	if (fallocate(r.arena->mem.fd, FALLOC_FL_ZERO_RANGE, r.offset, r.length))
		return fail_errno(r, "zeroing a range");
	model_zero(r);
	return 0;
}

/* What is behind the range moves forward, and the file is made as long as it was. */
static int cut_out(struct torture *t, struct range r)
{
	struct arena *arena = r.arena;
	size_t end = r.offset + r.length, behind = arena->mem.length - end;

	(void)t;
	/* It does not cut the file's end off. */
	if (!behind)
		return 0;
	if (fallocate(arena->mem.fd, FALLOC_FL_COLLAPSE_RANGE, r.offset, r.length) ||
	    ftruncate(arena->mem.fd, arena->mem.length))
		return fail_errno(r, "collapsing a range");
	memmove(arena->model + r.offset, arena->model + end, behind);
	memset(arena->model + r.offset + behind, 0, r.length);
	return 0;
}

static int truncate_file(struct torture *t, struct range r)
{
	size_t end = r.arena->mem.length;
	int ret = 0;

	if (one_in(t, 2))
		r.offset += below(t, PAGE);
	r.length = end - r.offset;
	if (ftruncate(r.arena->mem.fd, r.offset))
		return fail_errno(r, "ftruncate");
	if (r.length > PAGE && one_in(t, 3)) {
		struct range gone = { r.arena, (r.offset + PAGE - 1) & -PAGE, 0 };

		gone.length = end - gone.offset;
		ret = refused(t, gone, one_in(t, 2));
	}
	if (ftruncate(r.arena->mem.fd, end))
		return fail_errno(r, "ftruncate back");
	model_zero(r);
	return ret;
}

static int sync_file(struct torture *t, struct range r)
{
	int fd = r.arena->mem.fd;

	switch (below(t, 3)) {
	case 0:
		return fsync(fd) ? fail_errno(r, "fsync") : 0;
	case 1:
		return msync(range_at(r), r.length, MS_SYNC) ? fail_errno(r, "msync") : 0;
	default:
		/* Not every file has it. */
		sync_file_range(fd, r.offset, r.length, SYNC_FILE_RANGE_WAIT_BEFORE |
				SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
		return 0;
	}
}

static int file_write(struct torture *t, struct range r)
{
	r.length = least(r.length, 32 * PAGE) - below(t, PAGE);
	odp_fill(t->bounce, r.length, odp_random(&t->rng), 0);
	if (pwrite(r.arena->mem.fd, t->bounce, r.length, r.offset) != (ssize_t)r.length)
		return fail_errno(r, "pwrite");
	model_write(r, t->bounce);
	return 0;
}

/* --- the rest of the events ---------------------------------------- */

static int reregister(struct torture *t, struct range r)
{
	int ret = odp_dereg(&r.arena->mr);

	return ret ? ret : arena_register(t, r.arena);
}

/* Fetched for the device, or taken as they are; waited for or not. No byte changes. */
static int advise(struct torture *t, struct range r)
{
	int advice = below(t, IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT + 1), ret;
	uint32_t flags = one_in(t, 2) ? IBV_ADVISE_MR_FLAG_FLUSH : 0;
	struct ibv_sge sge;

	r = clip(r);
	if (!r.length)
		return 0;
	sge = odp_sge(&r.arena->mr, r.offset - r.arena->start, r.length);
	ret = ibv_advise_mr(t->dev->pd, advice, flags, &sge, 1);
	/* Debian 12's provider has no such verb; the others pass by themselves. */
	if (!ret || ret == EOPNOTSUPP || ret == EBUSY || ret == ENOMEM)
		return 0;
	errno = ret;
	return fail_errno(r, "ibv_advise_mr");
}

/* Pages become equal, and may be merged by the time that they are used. */
static int merge(struct torture *t, struct range r)
{
	uint64_t seed = odp_random(&t->rng);
	size_t i, count = least(r.length / PAGE, 8);

	for (i = 0; i < count; i++)
		cpu_write(t, (struct range){ r.arena, r.offset + i * PAGE, PAGE }, seed);
	/* Not every kernel has it. */
	madvise(range_at(r), r.length, MADV_MERGEABLE);
	return 0;
}

static int unmerge(struct torture *t, struct range r)
{
	(void)t;
	madvise(range_at(r), r.length, MADV_UNMERGEABLE);
	return 0;
}

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

	/* Without privilege, or in a kernel without it, nothing happens. */
	if (fd >= 0) {
		ret = write(fd, text, strlen(text));
		close(fd);
	}
	return ret < 0 ? -errno : 0;
}

static int split(struct torture *t, struct range r)
{
	char text[64];

	(void)t;
	snprintf(text, sizeof(text), "%d,%p,%p", getpid(), range_at(r), range_at(r) + r.length);
	write_text("/sys/kernel/debug/split_huge_pages", text);
	return 0;
}

/* Every page table entry of the process loses its soft-dirty bit. */
static int clear_refs(struct torture *t, struct range r)
{
	(void)t, (void)r;
	write_text("/proc/self/clear_refs", "4");
	return 0;
}

static int lock_pages(struct torture *t, struct range r)
{
	(void)t;
	/* There may be a limit. */
	mlock(range_at(r), r.length);
	munlock(range_at(r), r.length);
	return 0;
}

/* Pages migrate, whoever's they are. */
static int compact(struct torture *t, struct range r)
{
	(void)t, (void)r;
	write_text("/proc/sys/vm/compact_memory", "1");
	return 0;
}

/* As far as the kernel moves them, and where there is such a node. */
static int to_node(struct torture *t, struct range r)
{
	int node = below(t, 2), nodes[MAX_MOVED], status[MAX_MOVED];
	size_t i, count = least(r.length / PAGE, MAX_MOVED);
	void *pages[MAX_MOVED];

	for (i = 0; i < count; i++) {
		pages[i] = range_at(r) + i * PAGE;
		nodes[i] = node;
	}
	syscall(__NR_move_pages, 0, count, pages, nodes, status, MPOL_MF_MOVE);
	return 0;
}

/* To memory that neither CPU nor RDMA device reaches: their next access brings it back. */
static int to_gpu(struct torture *t, struct range r)
{
	struct gpu_cmd cmd = {
		.addr = (uintptr_t)range_at(r), .ptr = (uintptr_t)t->bounce,
		.npages = least(r.length, MAX_MESSAGE) / PAGE,
	};

	/* What is not mapped, or is in use, stays. */
	if (t->gpu >= 0)
		ioctl(t->gpu, GPU_TO_DEVICE, &cmd);
	return 0;
}

static const struct event {
	const char *name;
	int (*run)(struct torture *t, struct range r);
	unsigned int kinds;
	unsigned int beside;	/* the kinds on which it may run beside messages */
	int weight;
	size_t most;		/* pages */
} events[] = {
	{ "dontneed",	dontneed,	PRIVATE | FILES, FILES,			6, SIZE_MAX },
	{ "dontneed",	dontneed,	BIT(THP), 0,				4, 1 },
	{ "free",	lazyfree,	FREEABLE, 0,				8, SIZE_MAX },
	{ "pageout",	pageout,	SMALL_PRIVATE | FILES, SMALL_PRIVATE | FILES, 10, SIZE_MAX },
	{ "cold",	cold,		SMALL_PRIVATE | FILES, SMALL_PRIVATE | FILES, 1, SIZE_MAX },
	{ "protect",	protect,	PRIVATE | FILES, 0,			6, SIZE_MAX },
	{ "protect",	protect,	BIT(THP), 0,				4, 1 },
	{ "unmap",	unmap,		PRIVATE | FILES, 0,			4, SIZE_MAX },
	{ "map over",	map_over,	PRIVATE | FILES, FILES,			4, SIZE_MAX },
	{ "mremap",	move_away,	SMALL_PRIVATE | FILES, 0,		6, SIZE_MAX },
	{ "fork",	fork_write,	PRIVATE | FILES, 0,			6, SIZE_MAX },
	{ "fork, exit",	fork_exit,	PRIVATE, PRIVATE,			3, SIZE_MAX },
	{ "collapse",	collapse,	BIT(THP) | BIT(MEMFD), BIT(THP) | BIT(MEMFD), 6, SIZE_MAX },
	{ "split",	split,		BIT(THP) | BIT(MEMFD), BIT(THP) | BIT(MEMFD), 4, SIZE_MAX },
	{ "merge",	merge,		FREEABLE, 0,				4, SIZE_MAX },
	{ "unmerge",	unmerge,	FREEABLE, FREEABLE,			2, SIZE_MAX },
	{ "clear refs",	clear_refs,	PRIVATE | FILES, PRIVATE | FILES,	1, SIZE_MAX },
	{ "mlock",	lock_pages,	PRIVATE | FILES, PRIVATE | FILES,	2, SIZE_MAX },
	{ "to node",	to_node,	PRIVATE | FILES, PRIVATE | FILES,	3, SIZE_MAX },
	{ "to GPU",	to_gpu,		FREEABLE | BIT(USERFAULT), FREEABLE | BIT(USERFAULT), 4, SIZE_MAX },
	{ "write-protect", write_protect, BIT(USERFAULT), BIT(USERFAULT),	8, SIZE_MAX },
	{ "punch",	punch,		FILES, 0,				6, SIZE_MAX },
	{ "zero",	zero,		BIT(EXT4) | BIT(FSDAX), 0,		3, SIZE_MAX },
	{ "cut out",	cut_out,	BIT(EXT4) | BIT(FSDAX), 0,		3, SIZE_MAX },
	{ "truncate",	truncate_file,	FILES, 0,				4, SIZE_MAX },
	{ "sync",	sync_file,	FILES, FILES,				8, SIZE_MAX },
	{ "pwrite",	file_write,	FILES, 0,				4, SIZE_MAX },
	{ "reregister",	reregister,	PRIVATE | FILES, 0,			2, SIZE_MAX },
	{ "advise",	advise,		PRIVATE | FILES, PRIVATE | FILES,	8, SIZE_MAX },
	{ "compact",	compact,	PRIVATE, PRIVATE,			1, SIZE_MAX },
};

/* Any event that the arena can have, beside messages or not. */
static const struct event *any_event(struct torture *t, struct arena *arena, bool beside)
{
	size_t i;
	int pick;

	for (i = 0, pick = 0; i < ARRAY_SIZE(events); i++)
		if ((beside ? events[i].beside : events[i].kinds) & BIT(arena->kind))
			pick += events[i].weight;
	pick = below(t, pick);
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		if (!((beside ? events[i].beside : events[i].kinds) & BIT(arena->kind)))
			continue;
		pick -= events[i].weight;
		if (pick < 0)
			break;
	}
	return &events[i];
}

static int run_event(struct torture *t, const struct event *event, struct range r)
{
	note_event(t, event->name, r);
	return event->run(t, r);
}

/* --- operations ---------------------------------------- */

static int op_write(struct torture *t)
{
	struct range r = some_bytes(t, any_arena(t));

	note_event(t, "CPU write", r);
	cpu_write(t, r, odp_random(&t->rng));
	return 0;
}

/* The events that change no byte, all on @hot, while messages are in flight. */
static int race(struct torture *t, struct arena *hot)
{
	int i, count = 1 + below(t, 6), ret = 0;

	for (i = 0; i < count && !ret; i++) {
		const struct event *event = any_event(t, hot, true);
		struct range r = some_pages(t, hot, event->most);

		ret = run_event(t, event, one_in(t, 2) ? whole(hot) : r);
	}
	return ret;
}

/*
 * Up to one message on each queue pair, all at once, between parts of arenas
 * that do not overlap; with @hot from or to that arena, and a race there.
 */
static int messages(struct torture *t, int count, struct arena *hot)
{
	struct message msg[PAIRS];
	int i, ret = 0;

	for (i = 0; i < count; i++) {
		struct arena *from = any_arena(t), *to = any_arena(t);

		if (hot && one_in(t, 2))
			from = hot;
		else if (hot)
			to = hot;
		plan_message(t, &msg[i], i, part_of(from, 2 * i, 2 * count),
			     part_of(to, 2 * i + 1, 2 * count), -1);
	}
	for (i = 0; i < count && !ret; i++)
		ret = settle_source(&msg[i]);
	for (i = 0; i < count && !ret; i++)
		ret = post_message(&msg[i]);
	if (!ret && hot)
		ret = race(t, hot);
	for (i = 0; i < count && !ret; i++)
		ret = finish_message(t, &msg[i]);
	for (i = 0; i < count && !ret; i++)
		if (msg[i].length && one_in(t, 2))
			ret = check_range(msg[i].to.piece[0]);
	return ret;
}

static int op_message(struct torture *t)
{
	struct arena *from = any_arena(t), *to = any_arena(t);

	if (from != to)
		return move(t, whole(from), whole(to), -1);
	return messages(t, 1, NULL);
}

static int op_messages(struct torture *t)
{
	return messages(t, 2 + below(t, PAIRS - 1), NULL);
}

static int op_race(struct torture *t)
{
	return messages(t, 1 + below(t, PAIRS), any_arena(t));
}

static int op_event(struct torture *t)
{
	struct arena *arena = any_arena(t);
	const struct event *event = any_event(t, arena, false);

	return run_event(t, event, some_pages(t, arena, event->most));
}

/* The device knows the pages when they go, and comes back at once. */
static int op_return(struct torture *t)
{
	struct arena *arena = any_arena(t);
	const struct event *event = any_event(t, arena, false);
	struct range r = some_pages(t, arena, event->most);
	int ret;

	ret = move_into(t, r);
	if (!ret)
		ret = run_event(t, event, r);
	if (!ret)
		ret = one_in(t, 2) ? move_into(t, r) : move_out_of(t, r);
	return ret ? ret : check_range(r);
}

static int named_event(struct torture *t, const char *name, struct range r)
{
	size_t i;

	for (i = 0; strcmp(events[i].name, name); i++)
		;
	return run_event(t, &events[i], r);
}

/* A page that only the device has written since MADV_FREE. */
static int op_free(struct torture *t)
{
	struct arena *arena = arena_of(t, FREEABLE);
	int i, count = 1 + below(t, 3), ret = 0;
	struct range r;

	if (!arena)
		return 0;
	r = some_pages(t, arena, 32);
	note_event(t, "CPU write", r);
	cpu_write(t, r, odp_random(&t->rng));
	/* Either the device has the page before, or it finds it so. */
	if (one_in(t, 2))
		ret = move_into(t, r);
	if (!ret)
		ret = named_event(t, "free", r);
	for (i = 0; i < count && !ret; i++)
		ret = move_into(t, r);
	if (!ret && one_in(t, 4))
		ret = named_event(t, "fork, exit", r);
	if (!ret)
		ret = named_event(t, "pageout", r);
	return ret ? ret : check_range(r);
}

/* A page that is read back in for the device, and that only it writes then. */
static int op_swap(struct torture *t)
{
	struct arena *arena = any_arena(t);
	struct range r = some_pages(t, arena, 32);
	int ret;

	note_event(t, "CPU write", r);
	cpu_write(t, r, odp_random(&t->rng));
	ret = named_event(t, "pageout", r);
	if (!ret)
		ret = move_out_of(t, r);
	if (!ret)
		ret = move_into(t, r);
	if (!ret)
		ret = named_event(t, "pageout", r);
	return ret ? ret : check_range(r);
}

/* A huge page that was just faulted in whole, by a write of either. */
static int op_huge(struct torture *t)
{
	struct arena *arena = arena_of(t, BIT(THP));
	const struct event *event;
	struct range r;
	int ret;

	if (!arena)
		return 0;
	r = part_of(arena, below(t, arena->mem.length / HUGE), arena->mem.length / HUGE);
	event = any_event(t, arena, false);
	ret = named_event(t, "map over", r);
	if (!ret && one_in(t, 2))
		cpu_write(t, (struct range){ arena, r.offset, PAGE }, odp_random(&t->rng));
	if (!ret)
		ret = move_into(t, r);
	if (!ret)
		ret = run_event(t, event, some_pages(t, arena, event->most));
	if (!ret)
		ret = move_into(t, r);
	return ret ? ret : check_range(r);
}

static const struct {
	int weight;
	int (*run)(struct torture *t);
} ops[] = {
	{ 24, op_message },
	{ 10, op_messages },
	{ 14, op_race },
	{ 10, op_write },
	{ 18, op_event },
	{ 10, op_return },
	{ 7, op_free },
	{ 7, op_swap },
	{ 4, op_huge },
};

int run_op(struct torture *t)
{
	int i, pick, ret = open_pairs(t);

	if (ret)
		return ret;
	for (i = 0, pick = 0; i < (int)ARRAY_SIZE(ops); i++)
		pick += ops[i].weight;
	pick = below(t, pick);
	for (i = 0; pick >= ops[i].weight; i++)
		pick -= ops[i].weight;
	ret = ops[i].run(t);
	/* And a look at something else. */
	return ret ? ret : check_range(some_pages(t, any_arena(t), 16));
}
