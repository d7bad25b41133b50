// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: page faults that take long, or for ever, hold up nothing else
 * stage: check
 * where: guest
 * kernels: tree debug
 * vm: --pmem 256M --memory 3G
 * budget: 180
 *
 * The pages are userfaultfd's, and nobody answers for one before the subtest
 * does. What is compared is bytes, completions and their order, the device's
 * counters, and what the kernel traced. Where something has to return with a
 * fault stuck, a second is the limit: without that it would not return at all.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_pidfd_getfd
#define __NR_pidfd_getfd	438
#endif

#define PAGE		4096UL
#define PAGES		512
#define LENGTH		(PAGES * PAGE)
#define CONTENT		77		/* the seed of what the pages are answered with */
#define MS		1000000UL	/* ns */

/*
 * As programs set it: 67 ms, and few retries, which the longest faults would spend
 * many times. (On the debug kernel a second: there packets alone take so long.)
 */
static struct odp_pair_attr impatient = {
	.mtu = 1024, .timeout = 14, .retry_cnt = 5, .rnr_retry = 7, .max_wr = 256, .max_sge = 4,
};

struct ctx {
	struct odp_dev dev;
	struct odp_pair pair;
	uint8_t *peer;			/* pinned, at the other end of every transfer */
	struct odp_mr peer_mr;
	unsigned int slow;		/* what takes a second here takes so many */
	uint64_t limit;			/* ns in which things return */
};

/* Memory that nobody answers for until stuck_answer(). */
struct stuck {
	struct odp_mem mem;
	struct odp_mr mr;
	int fd;				/* of the userfaultfd */
	uint8_t *content;
};

/* --- helpers ------------------------------------------------------------------ */

static uint64_t counter(struct ctx *ctx, const char *name)
{
	return guest_counter(&ctx->dev, name);
}

/* Until the counter is at least @wanted: something has to come to pass. */
static int wait_counter(struct ctx *ctx, const char *name, uint64_t wanted)
{
	uint64_t end = odp_now() + ODP_WAIT_MS * MS;

	while (counter(ctx, name) < wanted)
		if (odp_now() > end)
			return odp_fail(ETIMEDOUT, "%s is %lu and does not come to %lu", name,
					counter(ctx, name), wanted);
	return 0;
}

static int in_time(struct ctx *ctx, uint64_t began, const char *what)
{
	uint64_t took = odp_now() - began;

	if (took <= ctx->limit)
		return 0;
	return odp_fail(ETIME, "%s took %lu ms", what, took / MS);
}

static int nothing_yet(struct odp_end *end, const char *what)
{
	struct ibv_wc wc;

	if (!ibv_poll_cq(end->cq, 1, &wc))
		return 0;
	return odp_fail(EPROTO, "%s: completed with \"%s\" before its page was there", what,
			ibv_wc_status_str(wc.status));
}

static int want_status(struct odp_end *end, enum ibv_wc_status wanted, const char *what)
{
	struct ibv_wc wc;
	int ret = odp_wait(end, &wc, ODP_WAIT_MS);

	if (ret || wc.status == wanted)
		return ret;
	return odp_fail(EPROTO, "%s: completed with \"%s\", not \"%s\"", what,
			ibv_wc_status_str(wc.status), ibv_wc_status_str(wanted));
}

static int reconnect(struct ctx *ctx, const struct odp_pair_attr *attr)
{
	odp_disconnect(&ctx->pair);
	return odp_connect(&ctx->pair, &ctx->dev, attr);
}

/* --- memory that nobody answers for --------------------------------------------- */

static int stuck_open_flags(struct ctx *ctx, struct stuck *stuck, int flags)
{
	int ret;

	memset(stuck, 0, sizeof(*stuck));
	stuck->fd = -1;
	ret = odp_mem_map(&stuck->mem, ODP_MEM_ANON, LENGTH, NULL);
	if (ret)
		return ret;
	stuck->content = malloc(LENGTH);
	if (!stuck->content)
		return guest_fail("malloc");
	odp_fill(stuck->content, LENGTH, CONTENT, 0);
	stuck->fd = guest_uffd(stuck->mem.addr, LENGTH, flags);
	if (stuck->fd < 0)
		return stuck->fd;
	return odp_reg(&stuck->mr, &ctx->dev, stuck->mem.addr, LENGTH,
		       ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
}

static int stuck_open(struct ctx *ctx, struct stuck *stuck)
{
	return stuck_open_flags(ctx, stuck, 0);
}

static void stuck_close(struct stuck *stuck)
{
	odp_dereg(&stuck->mr);
	if (stuck->fd >= 0)
		close(stuck->fd);
	stuck->fd = -1;
	free(stuck->content);
	stuck->content = NULL;
	odp_mem_unmap(&stuck->mem);
}

static int stuck_answer(struct stuck *stuck, size_t page, size_t pages)
{
	uint8_t *addr = stuck->mem.addr;
	size_t i;
	int ret = 0;

	for (i = page; ret >= 0 && i < page + pages; i++)
		ret = guest_uffd_copy(stuck->fd, addr + i * PAGE, stuck->content + i * PAGE, PAGE);
	return ret < 0 ? ret : 0;
}

/* What the memory holds after @length bytes of peer's went to @offset. */
static int check_write(struct ctx *ctx, struct stuck *stuck, size_t offset, size_t length)
{
	int ret = stuck_answer(stuck, 0, PAGES);

	memcpy(stuck->content + offset, ctx->peer, length);
	if (!ret && memcmp(stuck->mem.addr, stuck->content, LENGTH))
		ret = odp_fail(EBADMSG, "the memory is not what was answered and written");
	return ret;
}

/* --- a fault that ends ------------------------------------------------------------ */

struct delay {
	struct stuck *stuck;
	pthread_t thread;
	unsigned int ms;
	size_t page;
	size_t pages;
	bool each;		/* the delay, before each page */
	int err;
};

static void *answer_later(void *arg)
{
	struct delay *delay = arg;
	size_t i;

	guest_sleep_ms(delay->ms);
	for (i = 0; i < delay->pages && !delay->err; i++) {
		if (i && delay->each)
			guest_sleep_ms(delay->ms);
		delay->err = stuck_answer(delay->stuck, delay->page + i, 1);
	}
	return NULL;
}

static int delay_start(struct delay *delay)
{
	return pthread_create(&delay->thread, NULL, answer_later, delay) ?
		odp_fail(EAGAIN, "pthread_create") : 0;
}

static int delay_end(struct delay *delay)
{
	if (!delay->thread)
		return 0;
	pthread_join(delay->thread, NULL);
	return delay->err ? odp_fail(-delay->err, "the handler: %s", strerror(-delay->err)) : 0;
}

/*
 * A responder's fault of some length: it completes, without a retry, and what is
 * sent again meanwhile is bounded. The fourth of the time that the requester
 * waits each time makes 1 + log(ms / 12) / log(1.25) NAKs, and up to 655 ms one
 * each 160 ms after that.
 */
static int responder_fault(struct ctx *ctx, uint64_t ms)
{
	const size_t offset = 3 * PAGE - 1000, length = 20 * PAGE;
	struct stuck stuck;
	struct delay delay = { .stuck = &stuck, .ms = ms, .page = 0, .pages = PAGES };
	uint64_t sent, naks, retries, bound = 30 + ms / 160;
	int ret;

	ret = reconnect(ctx, &impatient);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	odp_fill(ctx->peer, LENGTH, ms, 0);
	sent = counter(ctx, "sent_pkts");
	naks = counter(ctx, "odp_rnr_naks");
	retries = counter(ctx, "completer_retry_err");
	if (!ret)
		ret = delay_start(&delay);
	if (!ret)
		ret = odp_write(&ctx->pair, &ctx->peer_mr, 0, &stuck.mr, offset, length);
	if (!ret)
		ret = delay_end(&delay);
	sent = counter(ctx, "sent_pkts") - sent;
	naks = counter(ctx, "odp_rnr_naks") - naks;
	retries = counter(ctx, "completer_retry_err") - retries;
	printf("# %lu ms: %lu packets for %lu, %lu RNR NAKs, %lu retries\n", ms, sent,
	       length / 1024 + 1, naks, retries);
	if (!ret)
		ret = check_write(ctx, &stuck, offset, length);
	if (!ret && naks > bound)
		ret = odp_fail(EPROTO, "%lu RNR NAKs in %lu ms, bound %lu", naks, ms, bound);
	if (!ret && ms >= 100 && !naks)
		ret = odp_fail(EPROTO, "the requester was not asked to come again");
	/* Each NAK lets a window be sent again, and there are acks. */
	if (!ret && sent > (naks + 2) * 2 * (length / 1024 + 2))
		ret = odp_fail(EPROTO, "%lu packets with %lu RNR NAKs", sent, naks);
	stuck_close(&stuck);
	return ret;
}

/* When rnr_retry is not 7, it is what ends the operation, as the specification has it. */
static int responder_gives_up(struct ctx *ctx, uint64_t unused)
{
	struct odp_pair_attr attr = impatient;
	struct ibv_sge sge = odp_sge(&ctx->peer_mr, 0, 100);
	struct stuck stuck;
	int ret;

	(void)unused;
	attr.rnr_retry = 3;
	ret = reconnect(ctx, &attr);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	if (!ret)
		ret = odp_post(&ctx->pair.local, IBV_WR_RDMA_WRITE, 0, &sge, 1, &stuck.mr, 0);
	if (!ret)
		ret = want_status(&ctx->pair.local, IBV_WC_RNR_RETRY_EXC_ERR, "WRITE");
	/* The MR goes on with others. */
	if (!ret)
		ret = stuck_answer(&stuck, 0, PAGES);
	if (!ret)
		ret = reconnect(ctx, &impatient);
	odp_fill(ctx->peer, PAGE, 4, 0);
	if (!ret)
		ret = odp_write(&ctx->pair, &ctx->peer_mr, 0, &stuck.mr, PAGE, 100);
	if (!ret)
		ret = check_write(ctx, &stuck, PAGE, 100);
	stuck_close(&stuck);
	return ret;
}

/* A READ whose pages come one by one, with a NAK or more before each. */
static int read_page_by_page(struct ctx *ctx, uint64_t ms)
{
	const size_t pages = 6, offset = 100, length = pages * PAGE - 200;
	struct stuck stuck;
	struct delay delay = {
		.stuck = &stuck, .ms = ms, .page = 0, .pages = pages, .each = true,
	};
	uint64_t naks;
	int ret;

	ret = reconnect(ctx, &impatient);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	memset(ctx->peer, 0, LENGTH);
	naks = counter(ctx, "odp_rnr_naks");
	if (!ret)
		ret = delay_start(&delay);
	if (!ret)
		ret = odp_read(&ctx->pair, &ctx->peer_mr, 0, &stuck.mr, offset, length);
	if (!ret)
		ret = delay_end(&delay);
	if (!ret)
		ret = guest_verify(ctx->peer, length, CONTENT, offset, "what was read");
	naks = counter(ctx, "odp_rnr_naks") - naks;
	if (!ret && ms >= 40 && naks < pages - 1)
		ret = odp_fail(EPROTO, "%lu RNR NAKs for %zu pages: this proves nothing", naks,
			       pages);
	/* The same once more, from the start, with what comes after it. */
	if (!ret)
		ret = odp_read(&ctx->pair, &ctx->peer_mr, PAGE, &stuck.mr, 0, length);
	if (!ret)
		ret = guest_verify(ctx->peer + PAGE, length, CONTENT, 0, "the second READ");
	stuck_close(&stuck);
	return ret;
}

/*
 * The first of two READs faults at the responder, and the second comes some time
 * later. Where the second is lost in the wait for the first, a timeout has to
 * find that out; here both take the time of one fault.
 */
static int two_reads(struct ctx *ctx, uint64_t distance)
{
	struct ibv_sge first = odp_sge(&ctx->peer_mr, 0, 100);
	struct ibv_sge second = odp_sge(&ctx->peer_mr, PAGE, 100);
	struct stuck stuck;
	struct delay delay = { .stuck = &stuck, .ms = 60, .page = 0, .pages = 1 };
	uint64_t began, took = 0, retries;
	int ret;

	ret = reconnect(ctx, NULL);	/* with a timeout of a second */
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	if (!ret)
		ret = stuck_answer(&stuck, 1, 1);
	memset(ctx->peer, 0, 2 * PAGE);
	retries = counter(ctx, "completer_retry_err");
	began = odp_now();
	if (!ret)
		ret = delay_start(&delay);
	if (!ret)
		ret = odp_post(&ctx->pair.local, IBV_WR_RDMA_READ, 1, &first, 1, &stuck.mr, 0);
	guest_sleep_ms(distance);
	if (!ret)
		ret = odp_post(&ctx->pair.local, IBV_WR_RDMA_READ, 2, &second, 1, &stuck.mr, PAGE);
	if (!ret)
		ret = odp_wait_success(&ctx->pair.local, "the first READ", 100);
	if (!ret)
		ret = odp_wait_success(&ctx->pair.local, "the second READ", 100);
	took = odp_now() - began;
	if (!ret)
		ret = delay_end(&delay);
	if (!ret)
		ret = guest_verify(ctx->peer, 100, CONTENT, 0, "the first READ");
	if (!ret)
		ret = guest_verify(ctx->peer + PAGE, 100, CONTENT, PAGE, "the second READ");
	if (!ret && counter(ctx, "completer_retry_err") != retries)
		ret = odp_fail(EPROTO, "a timeout or a sequence error had to find it out");
	if (!ret && took > (60 + distance + 500) * ctx->slow * MS)
		ret = odp_fail(ETIME, "both took %lu ms with a fault of 60", took / MS);
	stuck_close(&stuck);
	return ret;
}

/* Several operations wait for a page each; each completes once, in order. */
static int answered_in_order(struct ctx *ctx, uint64_t unused)
{
	enum { OPS = 24 };
	struct stuck stuck;
	unsigned int i;
	int ret;

	(void)unused;
	ret = reconnect(ctx, &impatient);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	odp_fill(ctx->peer, LENGTH, 6, 0);
	for (i = 0; !ret && i < OPS; i++) {
		struct ibv_sge local = odp_sge(&ctx->peer_mr, i * PAGE, 2 * PAGE);
		struct ibv_sge remote = odp_sge(&stuck.mr, 2 * i * PAGE, 2 * PAGE);

		if (i % 3 == 0)
			ret = odp_post_recv(&ctx->pair.remote, i, &remote, 1);
		if (!ret)
			ret = odp_post(&ctx->pair.local, i % 3 ? IBV_WR_RDMA_WRITE : IBV_WR_SEND,
				       i, &local, 1, &stuck.mr, 2 * i * PAGE);
	}
	guest_sleep_ms(50);
	if (!ret)
		ret = nothing_yet(&ctx->pair.local, "the first SEND");
	/* The last page first: what waits for the first still goes first. */
	for (i = 2 * OPS; !ret && i--; )
		ret = stuck_answer(&stuck, i, 1);
	for (i = 0; !ret && i < OPS; i++) {
		struct ibv_wc wc;

		ret = odp_wait(&ctx->pair.local, &wc, ODP_WAIT_MS);
		if (!ret && (wc.status != IBV_WC_SUCCESS || wc.wr_id != i))
			ret = odp_fail(EPROTO, "completion %u is of %lu: %s", i, wc.wr_id,
				       ibv_wc_status_str(wc.status));
		if (!ret)
			ret = guest_verify((uint8_t *)stuck.mem.addr + 2 * i * PAGE, 2 * PAGE, 6,
					   i * PAGE, "what arrived");
	}
	for (i = 0; !ret && i < OPS; i += 3) {
		struct ibv_wc wc;

		ret = odp_wait(&ctx->pair.remote, &wc, ODP_WAIT_MS);
		if (!ret && (wc.status != IBV_WC_SUCCESS || wc.wr_id != i))
			ret = odp_fail(EPROTO, "a receive is %lu, not %u: %s", wc.wr_id, i,
				       ibv_wc_status_str(wc.status));
	}
	guest_sleep_ms(50);
	if (!ret)
		ret = nothing_yet(&ctx->pair.local, "one more");
	if (!ret)
		ret = nothing_yet(&ctx->pair.remote, "one more receive");
	stuck_close(&stuck);
	return ret;
}

/*
 * The requester's own memory: none of its retries are spent on that, nor on responses
 * that it had to drop meanwhile. With @PATIENT no timeout comes that could find out.
 */
#define PATIENT		0x100

static int local_fault(struct ctx *ctx, uint64_t arg)
{
	const enum ibv_wr_opcode opcode = arg & ~PATIENT;
	/* More responses than are kept for a READ that waits. */
	const size_t length = 300 * PAGE, hole = 40;
	struct odp_pair_attr attr = impatient;
	struct ibv_sge sge;
	struct stuck stuck;
	struct delay delay = {
		.stuck = &stuck, .ms = ctx->slow * 700, .page = hole, .pages = 1,
	};
	uint64_t dropped, retries;
	int ret;

	attr.retry_cnt = 3;
	if (arg & PATIENT)
		attr.timeout = 22;
	ret = reconnect(ctx, &attr);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	if (!ret)
		ret = stuck_answer(&stuck, 0, hole);
	if (!ret)
		ret = stuck_answer(&stuck, hole + 1, PAGES - hole - 1);
	odp_fill(ctx->peer, LENGTH, 8, 0);
	dropped = counter(ctx, "odp_dropped_pkts");
	retries = counter(ctx, "completer_retry_err");
	sge = odp_sge(&stuck.mr, 10, length);
	if (!ret)
		ret = delay_start(&delay);
	if (!ret)
		ret = odp_post(&ctx->pair.local, opcode, 0, &sge, 1, &ctx->peer_mr, 0);
	if (!ret)
		ret = odp_wait_success(&ctx->pair.local, "the operation", length);
	if (!ret)
		ret = delay_end(&delay);
	if (!ret && opcode == IBV_WR_RDMA_READ)
		ret = guest_verify((uint8_t *)stuck.mem.addr + 10, length, 8, 0, "what was read");
	if (!ret && opcode == IBV_WR_RDMA_WRITE)
		ret = guest_verify(ctx->peer, length, CONTENT, 10, "what was written");
	dropped = counter(ctx, "odp_dropped_pkts") - dropped;
	if (!ret && opcode == IBV_WR_RDMA_READ && !dropped)
		ret = odp_fail(EPROTO, "no response was dropped: this proves nothing");
	if (!ret && arg & PATIENT && counter(ctx, "completer_retry_err") != retries)
		ret = odp_fail(EPROTO, "a timeout had to find out what was dropped");
	stuck_close(&stuck);
	return ret;
}

/* --- restarts ----------------------------------------------------------------------- */

/* A receive from an SRQ waits: it is taken once, and the next message gets the next. */
static int srq_taken_once(struct ctx *ctx, uint64_t ms)
{
	struct odp_pair_attr attr = impatient;
	struct stuck stuck;
	struct delay delay = { .stuck = &stuck, .ms = ms, .page = 0, .pages = 4 };
	unsigned int i;
	int ret;

	attr.srq = true;
	ret = reconnect(ctx, &attr);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	odp_fill(ctx->peer, LENGTH, 9, 0);
	for (i = 0; !ret && i < 3; i++) {
		struct ibv_sge sge = odp_sge(&stuck.mr, i * PAGE, PAGE);

		ret = odp_post_recv(&ctx->pair.remote, 100 + i, &sge, 1);
	}
	if (!ret)
		ret = delay_start(&delay);
	for (i = 0; !ret && i < 3; i++) {
		struct ibv_sge sge = odp_sge(&ctx->peer_mr, i * PAGE, 3000);

		ret = odp_post(&ctx->pair.local, IBV_WR_SEND, i, &sge, 1, NULL, 0);
	}
	for (i = 0; !ret && i < 3; i++) {
		struct ibv_wc wc;

		ret = odp_wait(&ctx->pair.remote, &wc, ODP_WAIT_MS);
		if (!ret && (wc.status != IBV_WC_SUCCESS || wc.wr_id != 100 + i ||
			     wc.byte_len != 3000))
			ret = odp_fail(EPROTO, "receive %u is %lu with %u bytes: %s", i, wc.wr_id,
				       wc.byte_len, ibv_wc_status_str(wc.status));
		if (!ret)
			ret = guest_verify((uint8_t *)stuck.mem.addr + i * PAGE, 3000, 9, i * PAGE,
					   "what arrived");
	}
	if (!ret)
		ret = delay_end(&delay);
	stuck_close(&stuck);
	return ret;
}

/*
 * A UD receive has a network header in front, and both parts have to wait. It is from
 * a shared receive queue: one of the queue pair's own is fetched anew each time.
 */
static int ud_header_once(struct ctx *ctx, uint64_t unused)
{
	struct odp_pair_attr attr = impatient;
	struct ibv_sge from = odp_sge(&ctx->peer_mr, 0, 1000);
	struct ibv_sge to[2];
	struct stuck stuck;
	int ret;

	(void)unused;
	attr.type = IBV_QPT_UD;
	attr.srq = true;
	ret = reconnect(ctx, &attr);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	/* The header ends with the first page, the payload begins in another SGE. */
	to[0] = odp_sge(&stuck.mr, PAGE - 40, 40 + 100);
	to[1] = odp_sge(&stuck.mr, 4 * PAGE - 200, 900);
	odp_fill(ctx->peer, PAGE, 10, 0);
	if (!ret)
		ret = odp_post_recv(&ctx->pair.remote, 0, to, 2);
	if (!ret)
		ret = odp_post(&ctx->pair.local, IBV_WR_SEND, 0, &from, 1, NULL, 0);
	guest_sleep_ms(30);
	if (!ret)
		ret = nothing_yet(&ctx->pair.remote, "the receive");
	if (!ret)
		ret = stuck_answer(&stuck, 0, 1);
	guest_sleep_ms(30);
	if (!ret)
		ret = nothing_yet(&ctx->pair.remote, "the receive with its header");
	if (!ret)
		ret = stuck_answer(&stuck, 1, 3);
	guest_sleep_ms(30);
	if (!ret)
		ret = nothing_yet(&ctx->pair.remote, "the receive with half its payload");
	if (!ret)
		ret = stuck_answer(&stuck, 4, 1);
	if (!ret)
		ret = odp_wait_success(&ctx->pair.remote, "the receive", 1040);
	if (!ret)
		ret = guest_verify((uint8_t *)stuck.mem.addr + PAGE, 100, 10, 0, "the first part");
	if (!ret)
		ret = guest_verify((uint8_t *)stuck.mem.addr + 4 * PAGE - 200, 900, 10, 100,
				   "the second part");
	/* IPv4: the header's second half; its version and length lead it. */
	if (!ret && ((uint8_t *)stuck.mem.addr)[PAGE - 20] != 0x45)
		ret = odp_fail(EBADMSG, "no IPv4 header before the payload");
	stuck_close(&stuck);
	return ret;
}

/*
 * What comes for a receive that waits is kept up to a bound, and then dropped and
 * counted; after it the queue pair works.
 */
static int queue_is_bounded(struct ctx *ctx, uint64_t type)
{
	enum { MESSAGES = 240, SIZE = 200 };
	struct odp_pair_attr attr = impatient;
	struct ibv_sge from = odp_sge(&ctx->peer_mr, 0, SIZE);
	struct stuck stuck;
	uint64_t dropped;
	unsigned int i, got = 0;
	struct ibv_wc wc;
	int ret;

	attr.type = type;
	ret = reconnect(ctx, &attr);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	odp_fill(ctx->peer, PAGE, 11, 0);
	for (i = 0; !ret && i < MESSAGES; i++) {
		struct ibv_sge to = odp_sge(&stuck.mr, i * 2048, 2048);

		ret = odp_post_recv(&ctx->pair.remote, i, &to, 1);
	}
	dropped = counter(ctx, "odp_dropped_pkts");
	for (i = 0; !ret && i < MESSAGES; i++) {
		ret = odp_post(&ctx->pair.local, IBV_WR_SEND, i, &from, 1, NULL, 0);
		if (!ret)
			ret = odp_wait_success(&ctx->pair.local, "SEND", SIZE);
	}
	if (!ret)
		ret = wait_counter(ctx, "odp_dropped_pkts", dropped + 1);
	dropped = counter(ctx, "odp_dropped_pkts") - dropped;
	if (!ret)
		ret = nothing_yet(&ctx->pair.remote, "a receive");
	if (!ret)
		ret = stuck_answer(&stuck, 0, PAGES);
	while (!ret && got < MESSAGES - dropped) {
		ret = odp_wait(&ctx->pair.remote, &wc, ODP_WAIT_MS);
		if (!ret && (wc.status != IBV_WC_SUCCESS || wc.wr_id != got))
			ret = odp_fail(EPROTO, "receive %u is %lu: %s", got, wc.wr_id,
				       ibv_wc_status_str(wc.status));
		if (!ret)
			ret = guest_verify((uint8_t *)stuck.mem.addr + got * 2048 +
					   (type == IBV_QPT_UD ? 40 : 0), SIZE, 11, 0,
					   "what arrived");
		got++;
	}
	guest_sleep_ms(50);
	if (!ret)
		ret = nothing_yet(&ctx->pair.remote, "a message that was dropped");
	if (!ret)
		ret = odp_post(&ctx->pair.local, IBV_WR_SEND, 0, &from, 1, NULL, 0);
	if (!ret)
		ret = odp_wait_success(&ctx->pair.local, "one more SEND", SIZE);
	if (!ret)
		ret = odp_wait_success(&ctx->pair.remote, "one more receive",
				       SIZE + (type == IBV_QPT_UD ? 40 : 0));
	printf("# %u of %u messages kept, %lu dropped\n", got, MESSAGES, dropped);
	stuck_close(&stuck);
	return ret;
}

/* --- a fault that does not end ---------------------------------------------------------- */

static int post_write(struct ctx *ctx, struct odp_pair *pair, struct stuck *stuck, size_t page)
{
	struct ibv_sge sge = odp_sge(&ctx->peer_mr, 0, 100);

	return odp_post(&pair->local, IBV_WR_RDMA_WRITE, 0, &sge, 1, &stuck->mr, page * PAGE);
}

/*
 * A page ahead in a message is nobody's business but that message's: another queue
 * pair that needs a page between does not wait for it.
 */
static int beside_a_message(struct ctx *ctx, uint64_t unused)
{
	struct ibv_sge whole = odp_sge(&ctx->peer_mr, 0, 40 * PAGE), page;
	struct odp_pair other = {};
	struct stuck stuck;
	int ret;

	(void)unused;
	ret = reconnect(ctx, &impatient);
	if (!ret)
		ret = odp_connect(&other, &ctx->dev, &impatient);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	odp_fill(ctx->peer, LENGTH, 14, 0);
	if (!ret)
		ret = odp_post(&ctx->pair.local, IBV_WR_RDMA_WRITE, 0, &whole, 1, &stuck.mr, 0);
	guest_sleep_ms(50);
	/* Page 0 is what that waits for; the other sends from page 30, and gets it. */
	page = odp_sge(&stuck.mr, 30 * PAGE, 100);
	if (!ret)
		ret = odp_post(&other.local, IBV_WR_RDMA_WRITE, 0, &page, 1, &ctx->peer_mr,
			       100 * PAGE);
	guest_sleep_ms(20);
	if (!ret)
		ret = stuck_answer(&stuck, 30, 1);
	if (!ret)
		ret = odp_wait_success(&other.local, "the other WRITE", 100);
	if (!ret)
		ret = guest_verify(ctx->peer + 100 * PAGE, 100, CONTENT, 30 * PAGE, "what it wrote");
	if (!ret)
		ret = nothing_yet(&ctx->pair.local, "the long WRITE");
	if (!ret)
		ret = stuck_answer(&stuck, 0, PAGES);
	if (!ret)
		ret = odp_wait_success(&ctx->pair.local, "the long WRITE", 40 * PAGE);
	if (!ret)
		ret = check_write(ctx, &stuck, 0, 40 * PAGE);
	odp_disconnect(&other);
	stuck_close(&stuck);
	return ret;
}

/*
 * A UD message whose header has a page and whose payload cannot have one, because its
 * handler does not take the device's faults. That is an error, once.
 */
static int ud_payload_refused(struct ctx *ctx, uint64_t unused)
{
	struct odp_pair_attr attr = impatient;
	struct ibv_sge from = odp_sge(&ctx->peer_mr, 0, 1000), to;
	struct stuck stuck;
	int ret;

	(void)unused;
	attr.type = IBV_QPT_UD;
	ret = reconnect(ctx, &attr);
	if (!ret)
		ret = stuck_open_flags(ctx, &stuck, UFFD_USER_MODE_ONLY);
	if (!ret)
		ret = stuck_answer(&stuck, 0, 1);
	to = odp_sge(&stuck.mr, PAGE - 40, 40 + 1000);
	if (!ret)
		ret = odp_post_recv(&ctx->pair.remote, 0, &to, 1);
	if (!ret)
		ret = odp_post(&ctx->pair.local, IBV_WR_SEND, 0, &from, 1, NULL, 0);
	if (!ret)
		ret = want_status(&ctx->pair.remote, IBV_WC_LOC_QP_OP_ERR, "the receive");
	stuck_close(&stuck);
	return ret;
}

/* What has not begun to be sent does not keep a send queue from being drained. */
static int drained(struct ctx *ctx, uint64_t unused)
{
	struct pollfd pollfd = { .fd = ctx->dev.ctx->async_fd, .events = POLLIN };
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_SQD };
	struct ibv_async_event event;
	struct ibv_sge sge;
	struct stuck stuck;
	int ret;

	(void)unused;
	ret = reconnect(ctx, &impatient);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	sge = odp_sge(&stuck.mr, 0, 100);
	if (!ret)
		ret = odp_post(&ctx->pair.local, IBV_WR_RDMA_WRITE, 0, &sge, 1, &ctx->peer_mr, 0);
	guest_sleep_ms(50);
	if (!ret && ibv_modify_qp(ctx->pair.local.qp, &attr, IBV_QP_STATE))
		ret = guest_fail("to SQD");
	if (!ret && poll(&pollfd, 1, 10000) != 1)
		ret = odp_fail(ETIMEDOUT, "the send queue is not drained");
	if (!ret && ibv_get_async_event(ctx->dev.ctx, &event))
		ret = guest_fail("ibv_get_async_event");
	if (!ret) {
		if (event.event_type != IBV_EVENT_SQ_DRAINED)
			ret = odp_fail(EPROTO, "event %s", ibv_event_type_str(event.event_type));
		ibv_ack_async_event(&event);
	}
	if (!ret)
		ret = stuck_answer(&stuck, 0, PAGES);
	guest_sleep_ms(30);
	if (!ret)
		ret = nothing_yet(&ctx->pair.local, "WRITE");
	attr.qp_state = IBV_QPS_RTS;
	if (!ret && ibv_modify_qp(ctx->pair.local.qp, &attr, IBV_QP_STATE))
		ret = guest_fail("to RTS");
	if (!ret)
		ret = odp_wait_success(&ctx->pair.local, "WRITE", 100);
	if (!ret)
		ret = guest_verify(ctx->peer, 100, CONTENT, 0, "what was written");
	stuck_close(&stuck);
	return ret;
}

/* Something of each kind that can wait: requester, completer and responder. */
static int park_all(struct ctx *ctx, struct odp_pair *pairs, struct stuck *stuck)
{
	uint64_t parked = counter(ctx, "odp_parked");
	struct ibv_sge sge;
	unsigned int i;
	int ret = 0;

	for (i = 0; !ret && i < 4; i++)
		ret = odp_connect(&pairs[i], &ctx->dev, &impatient);
	sge = odp_sge(&stuck->mr, 0, 100);
	if (!ret)	/* the requester */
		ret = odp_post(&pairs[0].local, IBV_WR_RDMA_WRITE, 0, &sge, 1, &ctx->peer_mr, 0);
	sge = odp_sge(&stuck->mr, 2 * PAGE, 3000);
	if (!ret)	/* the completer, with more responses behind */
		ret = odp_post(&pairs[1].local, IBV_WR_RDMA_READ, 0, &sge, 1, &ctx->peer_mr, 0);
	if (!ret)	/* the responder, with more requests behind */
		ret = post_write(ctx, &pairs[2], stuck, 4);
	if (!ret)
		ret = post_write(ctx, &pairs[2], stuck, 5);
	sge = odp_sge(&ctx->peer_mr, 0, 100);
	if (!ret)
		ret = odp_post(&pairs[3].local, IBV_WR_RDMA_READ, 0, &sge, 1, &stuck->mr,
			       6 * PAGE);
	return ret ? ret : wait_counter(ctx, "odp_parked", parked + 4);
}

/* Does a work item still wait for the handler of a userfaultfd? */
static bool fault_is_stuck(void)
{
	char path[300], stack[4096];
	struct dirent *entry;
	bool stuck = false;
	ssize_t n;
	DIR *dir;
	int fd;

	dir = opendir("/proc");
	while (dir && !stuck && (entry = readdir(dir))) {
		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stack", entry->d_name);
		fd = open(path, O_RDONLY);
		n = fd < 0 ? 0 : read(fd, stack, sizeof(stack) - 1);
		stack[n > 0 ? n : 0] = 0;
		stuck = strstr(stack, "handle_userfault");
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
	return stuck;
}

static int want_stuck(bool wanted)
{
	uint64_t end = odp_now() + 5000 * MS;

	while (fault_is_stuck() != wanted) {
		if (odp_now() > end)
			return odp_fail(EPROTO, wanted ? "no fault waits for its handler" :
					"a fault still waits for its handler");
		guest_sleep_ms(20);
	}
	return 0;
}

static int destroy_qp(struct ctx *ctx, uint64_t wait_ms)
{
	struct odp_pair pairs[4] = {};
	struct stuck stuck;
	unsigned int i;
	uint64_t began;
	int ret;

	ret = stuck_open(ctx, &stuck);
	if (!ret)
		ret = park_all(ctx, pairs, &stuck);
	guest_sleep_ms(wait_ms);
	for (i = 0; i < ARRAY_SIZE(pairs); i++) {
		began = odp_now();
		odp_disconnect(&pairs[i]);
		if (!ret)
			ret = in_time(ctx, began, "destroying two queue pairs");
	}
	/* Nothing waits any more: a page that is answered goes to nobody. */
	if (!ret)
		ret = stuck_answer(&stuck, 0, PAGES);
	if (!ret && memcmp(stuck.mem.addr, stuck.content, LENGTH))
		ret = odp_fail(EBADMSG, "a queue pair that is gone has written");
	if (!ret)
		ret = want_stuck(false);
	stuck_close(&stuck);
	return ret;
}

/*
 * The end goes that sent what waits at the other: a responder of READs, and a sender
 * of datagrams. What waits has no claim on it.
 */
static int destroy_sender(struct ctx *ctx, uint64_t type)
{
	struct odp_pair_attr attr = impatient;
	uint64_t began, parked = counter(ctx, "odp_parked");
	struct odp_pair pair = {};
	struct odp_end *sender;
	struct stuck stuck;
	struct ibv_sge sge;
	int ret;

	attr.type = type;
	ret = odp_connect(&pair, &ctx->dev, &attr);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	sge = odp_sge(&stuck.mr, 0, 4 * PAGE);
	if (!ret && type == IBV_QPT_RC) {
		ret = odp_post(&pair.local, IBV_WR_RDMA_READ, 0, &sge, 1, &ctx->peer_mr, 0);
	} else if (!ret) {
		ret = odp_post_recv(&pair.remote, 0, &sge, 1);
		sge = odp_sge(&ctx->peer_mr, 0, 100);
		if (!ret)
			ret = odp_post(&pair.local, IBV_WR_SEND, 0, &sge, 1, NULL, 0);
	}
	if (!ret)
		ret = wait_counter(ctx, "odp_parked", parked + 1);
	sender = type == IBV_QPT_RC ? &pair.remote : &pair.local;
	began = odp_now();
	if (!ret && ibv_destroy_qp(sender->qp))
		ret = guest_fail("ibv_destroy_qp");
	else if (!ret)
		sender->qp = NULL;
	if (!ret)
		ret = in_time(ctx, began, "destroying the sender");
	/* And the other one, with what nobody asks for again. */
	began = odp_now();
	odp_disconnect(&pair);
	if (!ret)
		ret = in_time(ctx, began, "destroying what waits");
	stuck_close(&stuck);
	return ret;
}

/* The MR goes, and what waited for it ends as if it had never been there. */
static int dereg_mr(struct ctx *ctx, uint64_t wait_ms)
{
	static const enum ibv_wc_status status[] = {
		IBV_WC_LOC_QP_OP_ERR, IBV_WC_LOC_PROT_ERR,
		IBV_WC_REM_ACCESS_ERR, IBV_WC_REM_ACCESS_ERR,
	};
	struct odp_pair pairs[4] = {};
	struct stuck stuck;
	unsigned int i;
	uint64_t began;
	int ret;

	ret = stuck_open(ctx, &stuck);
	if (!ret)
		ret = park_all(ctx, pairs, &stuck);
	guest_sleep_ms(wait_ms);
	began = odp_now();
	if (!ret)
		ret = odp_dereg(&stuck.mr);
	if (!ret)
		ret = in_time(ctx, began, "ibv_dereg_mr()");
	for (i = 0; !ret && i < ARRAY_SIZE(pairs); i++)
		ret = want_status(&pairs[i].local, status[i], "the operation");
	if (!ret)
		ret = want_stuck(false);
	for (i = 0; i < ARRAY_SIZE(pairs); i++)
		odp_disconnect(&pairs[i]);
	stuck_close(&stuck);
	return ret;
}

/* In a child: park, tell the parent, and wait for what comes. @device or the same. */
static void child_parks(struct ctx *ctx, const char *device, int pipe_fd, bool close_it)
{
	struct ctx own = { .slow = ctx->slow, .limit = ctx->limit };
	struct odp_pair pairs[4] = {};
	struct stuck stuck;
	uint64_t began;
	char ok = 1;
	int ret;

	ret = odp_open(&own.dev, device);
	own.peer = aligned_alloc(PAGE, LENGTH);
	if (!ret)
		ret = odp_reg(&own.peer_mr, &own.dev, own.peer, LENGTH, ODP_ACCESS);
	if (!ret)
		ret = stuck_open(&own, &stuck);
	if (!ret)
		ret = park_all(&own, pairs, &stuck);
	if (!ret && close_it) {
		began = odp_now();
		ibv_close_device(own.dev.ctx);
		ret = in_time(&own, began, "ibv_close_device()");
	}
	if (ret)
		fprintf(stderr, "# child: %s\n", odp_error());
	else if (write(pipe_fd, &stuck.fd, sizeof(stuck.fd)) != sizeof(stuck.fd))
		ok = 0;
	if (!ret && ok && !close_it)
		pause();
	_exit(ret || !ok);
}

struct child {
	pid_t pid;
	int uffd;		/* its number there */
	int pipe;
};

static int child_start(struct ctx *ctx, struct child *child, const char *device, bool close_it)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return guest_fail("pipe");
	fflush(stdout);
	child->pid = fork();
	if (child->pid < 0)
		return guest_fail("fork");
	if (!child->pid) {
		close(fds[0]);
		child_parks(ctx, device, fds[1], close_it);
	}
	close(fds[1]);
	child->pipe = fds[0];
	if (read(fds[0], &child->uffd, sizeof(child->uffd)) != sizeof(child->uffd))
		return odp_fail(ECHILD, "the child could not park its queue pairs");
	return 0;
}

static int child_end(struct child *child, int *status)
{
	int ret = waitpid(child->pid, status, 0) == child->pid ? 0 : guest_fail("waitpid");

	close(child->pipe);
	return ret;
}

static int close_device(struct ctx *ctx, uint64_t unused)
{
	struct child child;
	int ret, status = 0;

	(void)unused;
	ret = child_start(ctx, &child, ctx->dev.name, true);
	if (!ret)
		ret = child_end(&child, &status);
	if (!ret && status)
		ret = odp_fail(ECHILD, "the child ended with %#x", status);
	return ret ? ret : want_stuck(false);
}

/*
 * The process is killed that owns the memory and the queue pairs. @keep: somebody
 * else has its userfaultfd, as a migration's monitor does, and still says nothing.
 */
static int killed(struct ctx *ctx, uint64_t keep)
{
	struct child child;
	int ret, status, pidfd, uffd = -1;
	uint64_t began;

	ret = child_start(ctx, &child, ctx->dev.name, false);
	if (ret)
		return ret;
	if (keep) {
		pidfd = syscall(SYS_pidfd_open, child.pid, 0);
		uffd = syscall(__NR_pidfd_getfd, pidfd, child.uffd, 0);
		close(pidfd);
		if (uffd < 0)
			ret = guest_fail("pidfd_getfd");
	}
	if (!ret)
		ret = want_stuck(true);
	began = odp_now();
	kill(child.pid, SIGKILL);
	if (!ret)
		ret = child_end(&child, &status);
	if (!ret)
		ret = in_time(ctx, began, "exit");
	if (!ret)
		ret = want_stuck(false);
	if (uffd >= 0)
		close(uffd);
	return ret;
}

/* The handler goes: what waited gets pages as if it had never been there. */
static int handler_goes(struct ctx *ctx, uint64_t unused)
{
	struct stuck stuck;
	int ret;

	(void)unused;
	ret = reconnect(ctx, &impatient);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	odp_fill(ctx->peer, PAGE, 12, 0);
	if (!ret)
		ret = post_write(ctx, &ctx->pair, &stuck, 3);
	guest_sleep_ms(100);
	if (!ret)
		ret = nothing_yet(&ctx->pair.local, "WRITE");
	if (!ret) {
		close(stuck.fd);
		stuck.fd = -1;
		ret = odp_wait_success(&ctx->pair.local, "WRITE", 100);
	}
	if (!ret)
		ret = guest_verify((uint8_t *)stuck.mem.addr + 3 * PAGE, 100, 12, 0,
				   "what was written");
	stuck_close(&stuck);
	return ret;
}

/* --- the device goes -------------------------------------------------------------------- */

static int shell(const char *command)
{
	int status;

	fflush(stdout);
	status = system(command);
	return status ? odp_fail(EIO, "%s: status %#x", command, status) : 0;
}

static bool device_exists(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s", name);
	return !access(path, F_OK);
}

static int wait_gid(const char *name)
{
	uint64_t end = odp_now() + 10000 * MS;
	char path[128], type[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/1/gid_attrs/types/1", name);
	while (odp_now() < end) {
		fd = open(path, O_RDONLY);
		if (fd >= 0 && read(fd, type, sizeof(type)) > 0) {
			close(fd);
			return 0;
		}
		if (fd >= 0)
			close(fd);
		guest_sleep_ms(20);
	}
	return odp_fail(ETIMEDOUT, "%s has no IPv4 GID", name);
}

/* "rdma link delete", and the end of a network namespace. */
static int device_goes(struct ctx *ctx, uint64_t with_namespace)
{
	struct child child;
	int ret, status;
	uint64_t began;

	if (with_namespace)
		ret = shell("ip netns add waits && ip -n waits link add eth9 type dummy &&"
			    "ip -n waits address add 10.9.0.1/24 dev eth9 &&"
			    "ip -n waits link set eth9 up &&"
			    "ip netns exec waits rdma link add rxe9 type rxe netdev eth9");
	else
		ret = shell("ip link add eth9 type dummy && ip address add 10.9.0.1/24 dev eth9 &&"
			    "ip link set eth9 up && rdma link add rxe9 type rxe netdev eth9");
	if (!ret)
		ret = wait_gid("rxe9");
	if (!ret)
		ret = child_start(ctx, &child, "rxe9", false);
	if (ret)
		return ret;
	began = odp_now();
	ret = shell(with_namespace ? "ip netns delete waits" : "rdma link delete rxe9");
	if (!ret && !with_namespace)
		ret = in_time(ctx, began, "rdma link delete");
	/* The namespace's end goes on after the command. */
	while (!ret && device_exists("rxe9") && !in_time(ctx, began, "the end of the namespace"))
		guest_sleep_ms(10);
	if (!ret && device_exists("rxe9"))
		ret = odp_fail(EBUSY, "rxe9 is still there");
	if (!ret)
		ret = want_stuck(false);
	/* Its user is still there, and can end. */
	kill(child.pid, SIGTERM);
	if (!ret)
		ret = child_end(&child, &status);
	if (!with_namespace)
		shell("ip link delete eth9");
	return ret;
}

/* --- the others ----------------------------------------------------------------------------- */

/* More pages than are faulted at a time here; another process's file fault ends. */
static int other_process(struct ctx *ctx, uint64_t unused)
{
	enum { STUCK = 40 };
	struct odp_pair pairs[STUCK] = {};
	uint64_t parked = counter(ctx, "odp_parked");
	struct odp_mem file = {};
	struct odp_mr mr = {};
	struct stuck stuck;
	struct ctx own = {};
	int i, ret, status = 0;
	pid_t pid;

	(void)unused;
	ret = stuck_open(ctx, &stuck);
	for (i = 0; !ret && i < STUCK; i++) {
		ret = odp_connect(&pairs[i], &ctx->dev, &impatient);
		if (!ret)
			ret = post_write(ctx, &pairs[i], &stuck, 2 * i);
	}
	if (!ret)
		ret = wait_counter(ctx, "odp_parked", parked + STUCK);
	fflush(stdout);
	pid = ret ? 0 : fork();
	if (!ret && !pid) {
		ret = odp_open(&own.dev, ctx->dev.name);
		own.peer = aligned_alloc(PAGE, LENGTH);
		if (!ret)
			ret = odp_reg(&own.peer_mr, &own.dev, own.peer, LENGTH, ODP_ACCESS);
		if (!ret)
			ret = odp_mem_map(&file, ODP_MEM_EXT4, LENGTH, NULL);
		if (!ret)
			ret = odp_reg(&mr, &own.dev, file.addr, LENGTH,
				      ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
		if (!ret)
			ret = odp_connect(&own.pair, &own.dev, NULL);
		odp_fill(own.peer, LENGTH, 13, 0);
		if (!ret)
			ret = odp_write(&own.pair, &own.peer_mr, 0, &mr, 0, LENGTH);
		if (!ret)
			ret = guest_verify(file.addr, LENGTH, 13, 0, "the file");
		if (ret)
			fprintf(stderr, "# child: %s\n", odp_error());
		_exit(!!ret);
	}
	if (pid > 0 && (waitpid(pid, &status, 0) != pid || status))
		ret = odp_fail(ECHILD, "the other process ended with %#x", status);
	/* And all that waited goes on, in turns. */
	if (!ret)
		ret = stuck_answer(&stuck, 0, PAGES);
	for (i = 0; i < STUCK; i++) {
		if (!ret)
			ret = odp_wait_success(&pairs[i].local, "WRITE", 100);
		odp_disconnect(&pairs[i]);
	}
	stuck_close(&stuck);
	return ret;
}

/* Pages that are taken away all the time are no reason to fail. */
static void *discard_all_the_time(void *arg)
{
	struct delay *delay = arg;

	while (!__atomic_load_n(&delay->err, __ATOMIC_RELAXED))
		madvise(delay->stuck->mem.addr, 16 * PAGE, MADV_DONTNEED);
	return NULL;
}

static int taken_away(struct ctx *ctx, uint64_t unused)
{
	struct stuck stuck = { .fd = -1 };
	struct delay delay = { .stuck = &stuck };
	int i, ret;

	(void)unused;
	ret = reconnect(ctx, NULL);
	if (!ret)
		ret = odp_mem_map(&stuck.mem, ODP_MEM_ANON, LENGTH, NULL);
	if (!ret)
		ret = odp_reg(&stuck.mr, &ctx->dev, stuck.mem.addr, LENGTH,
			      ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!ret && pthread_create(&delay.thread, NULL, discard_all_the_time, &delay))
		ret = odp_fail(EAGAIN, "pthread_create");
	for (i = 0; !ret && i < 100; i++)
		ret = i & 1 ? odp_read(&ctx->pair, &ctx->peer_mr, 0, &stuck.mr, 500, 14 * PAGE) :
			      odp_write(&ctx->pair, &ctx->peer_mr, 0, &stuck.mr, 500, 14 * PAGE);
	__atomic_store_n(&delay.err, 1, __ATOMIC_RELAXED);
	if (delay.thread)
		pthread_join(delay.thread, NULL);
	stuck_close(&stuck);
	return ret;
}

/* --- what a user sees of it -------------------------------------------------------------------- */

static int traced(struct ctx *ctx, uint64_t unused)
{
	struct stuck stuck;
	struct delay delay = { .stuck = &stuck, .ms = 80, .page = 7, .pages = 1 };
	uint64_t parked = counter(ctx, "odp_parked_us");
	char text[128];
	int ret;

	(void)unused;
	ret = reconnect(ctx, &impatient);
	if (!ret)
		ret = stuck_open(ctx, &stuck);
	if (!ret)
		ret = guest_clear_trace();
	if (!ret)
		ret = guest_write(TRACING "events/rxe/enable", "1");
	if (!ret)
		ret = delay_start(&delay);
	if (!ret)
		ret = odp_write(&ctx->pair, &ctx->peer_mr, 0, &stuck.mr, 7 * PAGE, 10);
	guest_write(TRACING "events/rxe/enable", "0");
	if (!ret)
		ret = delay_end(&delay);
	snprintf(text, sizeof(text), "qp=%u step=responder mr=%#lx start=%#lx end=%#lx kind=write",
		 ctx->pair.remote.qp->qp_num, (uintptr_t)stuck.mem.addr,
		 (uintptr_t)stuck.mem.addr + 7 * PAGE, (uintptr_t)stuck.mem.addr + 8 * PAGE);
	if (!ret)
		ret = guest_want_trace("rxe_odp_park:", text);
	snprintf(text, sizeof(text), "qp=%u step=responder ns=", ctx->pair.remote.qp->qp_num);
	if (!ret)
		ret = guest_want_trace("rxe_odp_resume:", text);
	if (!ret)
		ret = guest_want_trace("rxe_odp_rnr_nak:", "timer_ns=");
	if (!ret && counter(ctx, "odp_parked_us") < parked + 70000)
		ret = odp_fail(EPROTO, "odp_parked_us does not have the time of the fault");
	stuck_close(&stuck);
	return ret;
}

/* --- running them -------------------------------------------------------------------- */

static const struct test {
	const char *name;
	int (*run)(struct ctx *ctx, uint64_t arg);
	uint64_t arg;
} tests[] = {
	{ "responder_fault_1_ms", responder_fault, 1 },
	{ "responder_fault_10_ms", responder_fault, 10 },
	{ "responder_fault_100_ms", responder_fault, 100 },
	{ "responder_fault_1_s", responder_fault, 1000 },
	{ "responder_fault_10_s", responder_fault, 10000 },
	{ "responder_gives_up", responder_gives_up, 0 },
	{ "read_page_by_page_2_ms", read_page_by_page, 2 },
	{ "read_page_by_page_60_ms", read_page_by_page, 60 },
	{ "two_reads_at_once", two_reads, 0 },
	{ "two_reads_8_ms_apart", two_reads, 8 },
	{ "two_reads_30_ms_apart", two_reads, 30 },
	{ "two_reads_100_ms_apart", two_reads, 100 },
	{ "answered_in_order", answered_in_order, 0 },
	{ "local_write", local_fault, IBV_WR_RDMA_WRITE },
	{ "local_read", local_fault, IBV_WR_RDMA_READ },
	{ "local_read_patient", local_fault, IBV_WR_RDMA_READ | PATIENT },
	{ "srq_taken_once_5_ms", srq_taken_once, 5 },
	{ "srq_taken_once_100_ms", srq_taken_once, 100 },
	{ "ud_header_once", ud_header_once, 0 },
	{ "uc_queue_is_bounded", queue_is_bounded, IBV_QPT_UC },
	{ "ud_queue_is_bounded", queue_is_bounded, IBV_QPT_UD },
	{ "beside_a_message", beside_a_message, 0 },
	{ "ud_payload_refused", ud_payload_refused, 0 },
	{ "drained", drained, 0 },
	{ "destroy_sender_rc", destroy_sender, IBV_QPT_RC },
	{ "destroy_sender_uc", destroy_sender, IBV_QPT_UC },
	{ "destroy_sender_ud", destroy_sender, IBV_QPT_UD },
	{ "destroy_qp", destroy_qp, 0 },
	{ "destroy_qp_after_nak", destroy_qp, 100 },
	{ "dereg_mr", dereg_mr, 0 },
	{ "dereg_mr_after_nak", dereg_mr, 100 },
	{ "close_device", close_device, 0 },
	{ "killed", killed, false },
	{ "killed_handler_stays", killed, true },
	{ "handler_goes", handler_goes, 0 },
	{ "link_delete", device_goes, false },
	{ "namespace_ends", device_goes, true },
	{ "other_process", other_process, 0 },
	{ "taken_away", taken_away, 0 },
	{ "traced", traced, 0 },
};

static const char *name_test(size_t i)
{
	return i < ARRAY_SIZE(tests) ? tests[i].name : NULL;
}

static int open_ctx(void *arg, const char *device)
{
	struct ctx *ctx = arg;

	/* The debug kernel takes its time for all that it does. */
	ctx->slow = access("/proc/lock_stat", F_OK) ? 1 : 5;
	if (ctx->slow > 1)
		impatient.timeout = 18;
	ctx->limit = ctx->slow * 1000 * MS;
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

	return tests[i].run(ctx, tests[i].arg);
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
		.program = "test-waits",
		.about = "Page faults that take long, on on-demand-paged memory.",
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
