// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test-powercut: what tests/power-cut runs in its guests; no test by itself.
 *
 * --write FILE makes a sparse file on a DAX file system, and writes to it with RDMA
 * WRITE through an ODP region. A FLUSH makes each write persistent, and when that
 * has completed a line says so:
 *
 *	ack OFFSET LENGTH SEED
 *
 * From then on bytes [OFFSET, OFFSET + LENGTH) of the file have to be odp_fill()'s
 * of SEED, whatever happens. It goes on until the power is cut; the lines, which
 * have left the guest before, are what it has promised. --verify FILE reads them in
 * the next boot, and compares.
 *
 * Each write has pages of its own. So the one that was under way when the power was
 * cut has changed no byte that a line tells of; and each one needs new blocks from
 * the file system, which are what can be lost.
 *
 * After each line the calls of arch_wb_cache_pmem() that rxe made for the FLUSH are
 * looked at, because lost caches cannot be seen under emulation:
 *
 *	traced OFFSET LENGTH			they were of just this range
 *	untraced OFFSET LENGTH REASON		they were not
 */
#define _GNU_SOURCE
#include "guest.h"
#include "rc.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE		4096UL
#define FILE_SIZE	(64 * ODP_MIB)
#define PLACE		(16 * ODP_KIB)		/* of one write */
#define PLACES		(FILE_SIZE / PLACE)

#define REGION		(ODP_ACCESS | IBV_ACCESS_ON_DEMAND | IBV_ACCESS_FLUSH_PERSISTENT)
#define QP_RIGHTS	(IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_FLUSH_PERSISTENT)

/* The file system calls it too: a FLUSH of an ODP region does so in flush_bytes(). */
#define PROBE		"p:powercut/wb arch_wb_cache_pmem addr=%di size=%si caller=$stack0:symbol"
#define ENABLE		TRACING "events/powercut/wb/enable"
#define BY_FLUSH	" caller=flush_bytes+"

static struct {
	const char *write, *verify;
	bool no_sync;
	uint64_t seed;
} opt = { .seed = 1 };

struct writer {
	struct odp_dev dev;
	struct odp_pair pair;
	struct odp_mem source;
	struct odp_mr source_mr;
	int fd;
	uint8_t *file;
	struct odp_mr mr;
	uint64_t rng;
	FILE *trace;
	int pagemap;
	uint64_t distance;	/* of the kernel's address of a page to its physical one */
};

/* --- what was written back ----------------------------------------------------------- */

static int trace_begin(struct writer *w)
{
	int fd, ret = 0;

	if (access(ENABLE, F_OK))
		ret = guest_write(TRACING "kprobe_events", PROBE);
	ret = ret ?: guest_write(ENABLE, "1") ?: guest_clear_trace();
	if (ret)
		return ret;
	fd = open(TRACING "trace_pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	w->trace = fd < 0 ? NULL : fdopen(fd, "r");
	if (!w->trace)
		return guest_fail(TRACING "trace_pipe");
	w->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	return w->pagemap < 0 ? guest_fail("/proc/self/pagemap") : 0;
}

/*
 * Want the call's @size bytes at @addr to be the file's at @offset, and in one page:
 * the next is somewhere else.
 */
static int check_call(struct writer *w, size_t offset, uint64_t addr, uint64_t size)
{
	const volatile uint8_t *byte = w->file + offset;
	uint64_t entry, physical;

	if (!size || offset % PAGE + size > PAGE)
		return odp_fail(EPROTO, "%" PRIu64 " bytes were written back at %zu, across pages",
				size, offset);
	(void)*byte;	/* Now it is in the page table. */
	if (pread(w->pagemap, &entry, sizeof(entry), (uintptr_t)byte / PAGE * sizeof(entry)) !=
	    sizeof(entry))
		return guest_fail("reading pagemap");
	if (!(entry & GUEST_PRESENT) || !(entry & GUEST_PFN))
		return odp_fail(EPROTO, "pagemap does not tell which page is at %zu", offset);
	physical = (entry & GUEST_PFN) * PAGE + offset % PAGE;
	/* The first call tells it: it is the same for all memory. */
	if (!w->distance)
		w->distance = addr - physical;
	if (addr - physical != w->distance)
		return odp_fail(EPROTO, "the bytes at %zu, physical %#" PRIx64
				", were not written back, but others, at %#" PRIx64,
				offset, physical, addr - w->distance);
	return 0;
}

/* Do the calls since the last time add up to the range, page for page and in order? */
static int check_trace(struct writer *w, size_t offset, size_t length)
{
	size_t end = offset + length;
	uint64_t addr = 0, size = 0;
	char line[512], *at;
	int ret = 0;

	while (fgets(line, sizeof(line), w->trace)) {
		at = strstr(line, " addr=");
		if (ret || !at || !strstr(at, BY_FLUSH))
			continue;
		if (sscanf(at, " addr=%" SCNx64 " size=%" SCNx64, &addr, &size) != 2)
			ret = odp_fail(EPROTO, "a line of the trace is not understood: %s", line);
		else if (size > end - offset)
			ret = odp_fail(EPROTO, "more was written back: %" PRIu64 " bytes, of %zu left",
				       size, end - offset);
		else
			ret = check_call(w, offset, addr, size);
		offset += size;
	}
	/* It has come to what there is; there will be more. */
	clearerr(w->trace);
	if (!ret && offset < end)
		ret = odp_fail(EPROTO, "the last %zu bytes were not written back", end - offset);
	return ret;
}

/* --- writing ------------------------------------------------------------------------- */

/* Its name and its size are persistent, and it has no block yet. */
static int open_file(struct writer *w)
{
	int flags = opt.no_sync ? MAP_SHARED : MAP_SHARED_VALIDATE | MAP_SYNC;

	w->fd = open(opt.write, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (w->fd < 0 || ftruncate(w->fd, FILE_SIZE) || syncfs(w->fd))
		return guest_fail(opt.write);
	w->file = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, flags, w->fd, 0);
	if (w->file == MAP_FAILED)
		return guest_fail(opt.no_sync ? "mmap" : "mmap with MAP_SYNC");
	/* One fault would take the blocks of 2 MiB, and all writes there would need no more. */
	if (madvise(w->file, FILE_SIZE, MADV_NOHUGEPAGE))
		return guest_fail("madvise(MADV_NOHUGEPAGE)");
	return 0;
}

static int open_pair(struct writer *w)
{
	struct odp_end *local = &w->pair.local, *remote = &w->pair.remote;
	struct rc_attr attr = RC_ATTR_INIT;

	attr.rights = QP_RIGHTS;
	w->pair.dev = &w->dev;
	return rc_create(local, &w->dev, false) ?: rc_create(remote, &w->dev, false) ?:
	       rc_connect(local, &w->dev, &w->dev.gid, remote->qp->qp_num, &attr) ?:
	       rc_connect(remote, &w->dev, &w->dev.gid, local->qp->qp_num, &attr);
}

static int open_writer(struct writer *w)
{
	int ret;

	ret = odp_open(&w->dev, NULL);
	if (!ret && !odp_supported(&w->dev))
		ret = odp_fail(EOPNOTSUPP, "the kernel has no on-demand paging for %s", w->dev.name);
	return ret ?: open_file(w) ?: open_pair(w) ?:
	       odp_mem_map(&w->source, ODP_MEM_ANON, PLACE, NULL) ?:
	       odp_reg(&w->source_mr, &w->dev, w->source.addr, PLACE,
		       ODP_ACCESS | IBV_ACCESS_ON_DEMAND) ?:
	       odp_reg(&w->mr, &w->dev, w->file, FILE_SIZE, REGION) ?: trace_begin(w);
}

static int post_flush(struct writer *w, size_t offset, size_t length)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(w->pair.local.qp);
	int ret;

	ibv_wr_start(qp);
	qp->wr_id = 0;
	qp->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_flush(qp, w->mr.mr->rkey, w->mr.iova + offset, length, IBV_FLUSH_PERSISTENT,
		     IBV_FLUSH_RANGE);
	ret = ibv_wr_complete(qp);
	return ret ? odp_fail(ret, "posting a FLUSH: %s", strerror(ret)) : 0;
}

static int write_once(struct writer *w, size_t place)
{
	size_t skip = odp_random(&w->rng) % PLACE;
	size_t length = 1 + odp_random(&w->rng) % (PLACE - skip);
	size_t offset = place * PLACE + skip;
	uint64_t seed = odp_random(&w->rng);
	struct ibv_sge sge = odp_sge(&w->source_mr, 0, length);
	int ret;

	odp_fill(w->source.addr, length, seed, 0);
	ret = odp_post(&w->pair.local, IBV_WR_RDMA_WRITE, 0, &sge, 1, &w->mr, offset) ?:
	      post_flush(w, offset, length) ?:
	      odp_wait_success(&w->pair.local, "RDMA WRITE", length) ?:
	      odp_wait_success(&w->pair.local, "FLUSH", length);
	if (ret)
		return ret;
	printf("ack %zu %zu %" PRIu64 "\n", offset, length, seed);
	if (check_trace(w, offset, length))
		printf("untraced %zu %zu %s\n", offset, length, odp_error());
	else
		printf("traced %zu %zu\n", offset, length);
	return ferror(stdout) ? guest_fail("standard output") : 0;
}

/* To one place after the other, all over the file. */
static int write_all(void)
{
	struct writer w = { .fd = -1, .pagemap = -1, .rng = opt.seed };
	size_t first, step, i;
	int ret;

	/* A line has to be out before the next write begins. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	first = odp_random(&w.rng) % PLACES;
	/* Odd, and so it comes by each of them: their number is a power of two. */
	step = odp_random(&w.rng) % PLACES | 1;
	ret = open_writer(&w);
	for (i = 0; i < PLACES && !ret; i++)
		ret = write_once(&w, (first + i * step) % PLACES);
	/* What it has open, the end of the process closes. */
	return ret ?: odp_fail(ENOSPC, "nobody has cut the power: all %lu places are written",
			       PLACES);
}

/* --- verifying ----------------------------------------------------------------------- */

/* Returns 1 where a byte is wrong. */
static int verify_all(void)
{
	size_t offset, length, acks = 0, bytes = 0, bad_acks = 0, bad_bytes = 0, zeroes = 0;
	static uint8_t buffer[PLACE];
	struct odp_mismatch bad;
	char line[128], end;
	uint64_t seed;
	ssize_t got;
	int fd;

	fd = open(opt.verify, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return guest_fail(opt.verify);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "ack %zu %zu %" SCNu64 "%c", &offset, &length, &seed, &end) != 4 ||
		    end != '\n' || !length || length > sizeof(buffer))
			return odp_fail(EINVAL, "no acknowledgement: %s", line);
		got = pread(fd, buffer, length, offset);
		if (got < 0)
			return guest_fail(opt.verify);
		/* What is behind the end of the file is not there. */
		memset(buffer + got, 0, length - got);
		acks++;
		bytes += length;
		if (odp_verify(buffer, length, seed, 0, &bad))
			continue;
		bad_acks++;
		bad_bytes += bad.count;
		zeroes += odp_compare(buffer, NULL, length, NULL);
		if (bad_acks <= 3)
			fprintf(stderr, "test-powercut: byte %zu is %#x, should be %#x; wrong are %zu of %zu bytes\n",
				offset + bad.offset, bad.got, bad.expected, bad.count, length);
	}
	close(fd);
	printf("acknowledged: %zu writes, %zu bytes; wrong: %zu writes, %zu bytes; all zeroes: %zu writes\n",
	       acks, bytes, bad_acks, bad_bytes, zeroes);
	return bad_acks ? 1 : 0;
}

/* --- options ------------------------------------------------------------------------- */

static void usage(FILE *out)
{
	fprintf(out,
		"usage: test-powercut --write FILE [--no-sync] [--seed N]\n"
		"       test-powercut --verify FILE < LINES\n"
		"Write to a new FILE on a DAX file system by RDMA, with a persistent FLUSH after each\n"
		"write and a line \"ack OFFSET LENGTH SEED\" for each FLUSH that was acknowledged; after\n"
		"a power cut, look whether the bytes of these LINES are there.\n"
		"\n"
		"  --write FILE      write until the power is cut\n"
		"  --no-sync         map it without MAP_SYNC: what is written can be lost\n"
		"  --seed N          of the bytes and the places (default 1)\n"
		"  --verify FILE     exit with 0 if no byte is wrong, with 1 if one is\n"
		"  --help            this text\n"
		"\n"
		"tests/power-cut does all of it. Exits with 2 if something is amiss.\n");
}

/* Returns 0 to go on, 1 to end well, -1 to end with usage, -2 with odp_error(). */
static int parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "write", required_argument, NULL, 'w' },
		{ "verify", required_argument, NULL, 'v' },
		{ "no-sync", no_argument, NULL, 'n' },
		{ "seed", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	int c, ret = 0;

	while (!ret && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'w': opt.write = optarg; break;
		case 'v': opt.verify = optarg; break;
		case 'n': opt.no_sync = true; break;
		case 's': ret = odp_parse_number(optarg, 0, UINT64_MAX, &opt.seed); break;
		case 'h': usage(stdout); return 1;
		default: return -1;
		}
	}
	return ret ? -2 : optind < argc || !opt.write == !opt.verify ? -1 : 0;
}

int main(int argc, char **argv)
{
	int ret;

	ret = parse_options(argc, argv);
	if (ret == -1)
		usage(stderr);
	if (ret == -2)
		fprintf(stderr, "test-powercut: %s\n", odp_error());
	if (ret)
		return ret < 0 ? 2 : 0;

	ret = opt.write ? write_all() : verify_all();
	if (ret < 0)
		fprintf(stderr, "test-powercut: %s\n", odp_error());
	return ret < 0 ? 2 : ret;
}
