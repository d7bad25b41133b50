// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: regions that are larger than RAM, or than what a cgroup may have, and the OOM killer
 * stage: check
 * where: guest
 * kernels: tree
 * vm: --memory 512M --swap 2G
 * budget: 120
 *
 * Every byte of a region is moved in by RDMA WRITE, and back by RDMA READ. Each message
 * of the second pass finds most of its pages on the swap disk or in the file: what is in
 * memory at a time is counted.
 *
 * Where there is no way out, the OOM killer comes for the process whose region it is,
 * although that does nothing: a peer writes to it. The peer is told, and nothing of the
 * process stays. A process that was killed for its cgroup is the only one in it, and for
 * the system the one that asked to be killed first (oom_score_adj), so that it is known
 * who it must be.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE		4096UL
#define GIB		(1UL << 30)
#define MS		1000000UL	/* ns */
#define CHUNK		ODP_MIB		/* of one message at most, and the buffer's size */
#define SETTLE_MS	30000
#define OVERCOMMIT	"/proc/sys/vm/overcommit_memory"

/* What the kernel may not be refused is charged above the limit. */
#define SLACK		ODP_MIB

struct ctx {
	struct odp_dev dev;
	struct odp_pair pair;
	struct odp_mem mem;	/* pinned, at the other end of what this process moves */
	struct odp_mr buf;
	const char *device;
	uint64_t rng;
	const char *group;	/* in a child: its cgroup */
	int sock;		/* in a child: to the parent */
};

enum variant { EXPLICIT, IMPLICIT, GROUP, GLOBAL };

struct test {
	const char *name;
	int (*run)(struct ctx *ctx, const struct test *test);
	enum odp_mem_kind kind;
	enum variant variant;
};

static void nap(void)
{
	guest_sleep_ms(20);
}

/* --- what the kernel says --------------------------------------------------------- */

static int want_pins(long wanted)
{
	uint64_t deadline = odp_now() + SETTLE_MS * MS;
	long now;

	/* What goes to a disk, or the queue pairs of who was killed, takes its time. */
	while ((now = guest_pins()) != wanted && odp_now() < deadline)
		nap();
	return now == wanted ? 0 :
	       odp_fail(EPROTO, "%ld pages are pinned, %ld were", now, wanted);
}

/* How many of each thing the devices have, in one line. */
static int resources(char *line, size_t size)
{
	FILE *pipe = popen("rdma resource show", "re");
	size_t length = pipe ? fread(line, 1, size - 1, pipe) : 0;

	line[length] = 0;
	if (pipe)
		pclose(pipe);
	line[strcspn(line, "\n")] = 0;
	return strstr(line, " mr ") ? 0 : odp_fail(EIO, "rdma resource show: \"%s\"", line);
}

static int want_resources(const char *wanted)
{
	uint64_t deadline = odp_now() + SETTLE_MS * MS;
	char line[256];
	int ret;

	while (!(ret = resources(line, sizeof(line))) && strcmp(line, wanted)) {
		if (odp_now() > deadline)
			return odp_fail(EPROTO, "the device has \"%s\", had \"%s\"", line, wanted);
		nap();
	}
	return ret;
}

/* --- the device ------------------------------------------------------------------- */

static const struct odp_pair_attr pair_attr = {
	.mtu = 4096, .timeout = 18, .retry_cnt = 6, .rnr_retry = 7, .max_wr = 64, .max_sge = 4,
};

static int link_open(struct ctx *ctx)
{
	int ret;

	ret = odp_mem_map(&ctx->mem, ODP_MEM_ANON, CHUNK, NULL);
	if (!ret)
		ret = odp_reg(&ctx->buf, &ctx->dev, ctx->mem.addr, CHUNK, ODP_ACCESS);
	return ret ? ret : odp_connect(&ctx->pair, &ctx->dev, &pair_attr);
}

static void link_close(struct ctx *ctx)
{
	odp_disconnect(&ctx->pair);
	odp_dereg(&ctx->buf);
	odp_mem_unmap(&ctx->mem);
}

/* @length bytes of the pattern to @at of the region. */
static int write_all(struct ctx *ctx, const struct odp_mr *mr, size_t at, size_t length,
		     uint64_t seed)
{
	size_t done, n;
	int ret = 0;

	for (done = 0; done < length && !ret; done += n) {
		n = length - done < CHUNK ? length - done : CHUNK;
		odp_fill(ctx->mem.addr, n, seed, done);
		ret = odp_write(&ctx->pair, &ctx->buf, 0, mr, at + done, n);
	}
	return ret;
}

static int read_all(struct ctx *ctx, const struct odp_mr *mr, size_t at, size_t length,
		    uint64_t seed)
{
	char what[64];
	size_t done, n;
	int ret = 0;

	for (done = 0; done < length && !ret; done += n) {
		n = length - done < CHUNK ? length - done : CHUNK;
		ret = odp_read(&ctx->pair, &ctx->buf, 0, mr, at + done, n);
		snprintf(what, sizeof(what), "RDMA READ at %zu", done);
		if (!ret)
			ret = guest_verify(ctx->mem.addr, n, seed, done, what);
	}
	return ret;
}

/* --- more than there is RAM ------------------------------------------------------- */

static int twice_the_ram(struct ctx *ctx, const struct test *test)
{
	long ram = guest_value("/proc/meminfo", "MemTotal:") << 10, swapped;
	long kills = guest_value("/proc/vmstat", "oom_kill"), pinned = guest_pins();
	uint64_t seed = odp_random(&ctx->rng);
	struct odp_mem mem = {};
	struct odp_mr mr = {};
	int ret;

	ret = guest_need_swap(NULL);
	if (!ret && ram > (long)GIB / 2)
		ret = odp_fail(EPROTO, "%ld MiB of RAM: this proves nothing (tests/vm/run --memory 512M)",
			       ram >> 20);
	ret = ret ?: odp_mem_map(&mem, test->kind, GIB, NULL) ?:
	      odp_reg(&mr, &ctx->dev, mem.addr, GIB, ODP_ACCESS | IBV_ACCESS_ON_DEMAND) ?:
	      write_all(ctx, &mr, 0, GIB, seed);
	/* Not one page is zero: what does not fit into RAM is on the disk. */
	swapped = guest_value("/proc/self/status", "VmSwap:") << 10;
	if (!ret && swapped < (long)GIB - ram)
		ret = odp_fail(EPROTO, "%ld MiB of %lu are swapped out, and %ld fit into RAM",
			       swapped >> 20, GIB >> 20, ram >> 20);
	ret = ret ?: read_all(ctx, &mr, 0, GIB, seed) ?: want_pins(pinned);
	kills = guest_value("/proc/vmstat", "oom_kill") - kills;
	if (!ret && kills)
		ret = odp_fail(EPROTO, "%ld processes were killed for their memory", kills);
	printf("# %s: %ld MiB of RAM, %ld MiB swapped out\n", test->name, ram >> 20, swapped >> 20);
	odp_dereg(&mr);
	odp_mem_unmap(&mem);
	return ret;
}

/* --- children in a memory cgroup of their own ------------------------------------- */

/* What a process tells the other one: how it went, or how to reach it. */
struct report {
	int ret;
	char text[400];
	struct odp_address address;
	uint64_t iova;
	uint32_t rkey;
};

struct child {
	char group[64];
	pid_t pid;
	int sock;
	int status;
};

static int group_limit(const char *group, const char *name, size_t bytes)
{
	char number[32];

	snprintf(number, sizeof(number), "%zu", bytes);
	return guest_group_write(group, name, number);
}

static int child_main(struct ctx *ctx, const struct test *test,
		      int (*run)(struct ctx *ctx, const struct test *test))
{
	struct report report = {};

	report.ret = guest_group_write(ctx->group, "cgroup.procs", "0") ?:
		     odp_open(&ctx->dev, ctx->device) ?: run(ctx, test);
	snprintf(report.text, sizeof(report.text), "%s", odp_error());
	fflush(stdout);
	return write(ctx->sock, &report, sizeof(report)) != sizeof(report);
}

static int child_start(struct ctx *ctx, const struct test *test, struct child *child,
		       int (*run)(struct ctx *ctx, const struct test *test))
{
	int socks[2], ret;

	memset(child, 0, sizeof(*child));
	ret = guest_group_make(child->group);
	if (ret)
		return ret;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks))
		return guest_fail("socketpair");
	fflush(stdout);
	child->pid = fork();
	if (child->pid < 0) {
		child->pid = 0;
		return guest_fail("fork");
	}
	child->sock = socks[0];
	close(socks[!!child->pid]);
	if (!child->pid) {
		struct ctx own = {
			.device = ctx->device, .rng = ctx->rng, .group = child->group,
			.sock = socks[1],
		};

		_exit(child_main(&own, test, run));
	}
	return 0;
}

/* It has ended, or is ended; -ETIMEDOUT would mean that the device is stuck. */
static int child_reap(struct child *child, bool kill_it)
{
	uint64_t deadline = odp_now() + SETTLE_MS * MS;

	if (!child->pid)
		return 0;
	if (kill_it)
		kill(child->pid, SIGKILL);
	while (!waitpid(child->pid, &child->status, WNOHANG)) {
		if (odp_now() > deadline)
			return odp_fail(EBUSY, "the child does not end");
		nap();
	}
	child->pid = 0;
	close(child->sock);
	return 0;
}

/* --- far more than a cgroup may have ---------------------------------------------- */

#define FAR		(256 * ODP_MIB)
#define FAR_LIMIT	(32 * ODP_MIB)

/* All of it is in swap, or on the file's disk, but for what the cgroup may have. */
static int want_out(const struct ctx *ctx, const struct odp_mem *mem)
{
	long in, swapped;

	if (mem->fd < 0) {
		swapped = guest_group_value(ctx->group, "memory.swap.current", NULL);
		return swapped >= (long)(FAR - FAR_LIMIT) ? 0 :
		       odp_fail(EPROTO, "%ld KiB of the cgroup are in swap, should be %lu",
				swapped >> 10, (FAR - FAR_LIMIT) >> 10);
	}
	/* If others paid for the page cache, more of it would be there. */
	in = guest_count_resident(mem->addr, FAR) * PAGE;
	return in >= 0 && in <= (long)(FAR_LIMIT + SLACK) ? 0 :
	       odp_fail(EPROTO, "%ld KiB of the file are in memory, should be %lu at most",
			in >> 10, FAR_LIMIT >> 10);
}

static int far_child(struct ctx *ctx, const struct test *test)
{
	bool implicit = test->variant == IMPLICIT;
	uint64_t seed = odp_random(&ctx->rng);
	struct odp_mem mem = {};
	struct odp_mr mr = {};
	size_t at;
	int ret;

	ret = group_limit(ctx->group, "memory.max", FAR_LIMIT) ?: link_open(ctx) ?:
	      odp_mem_map(&mem, test->kind, FAR, NULL);
	if (ret)
		return ret;
	at = implicit ? (uintptr_t)mem.addr : 0;
	ret = odp_reg(&mr, &ctx->dev, implicit ? NULL : mem.addr, implicit ? SIZE_MAX : FAR,
		      ODP_ACCESS | IBV_ACCESS_ON_DEMAND) ?:
	      write_all(ctx, &mr, at, FAR, seed) ?: want_out(ctx, &mem) ?:
	      read_all(ctx, &mr, at, FAR, seed);
	odp_dereg(&mr);
	odp_mem_unmap(&mem);
	link_close(ctx);
	return ret;
}

/* While the child is at work: the most that its cgroup has at a time, and its report. */
static int watch(struct child *child, long *most, struct report *report)
{
	struct pollfd pollfd = { .fd = child->sock, .events = POLLIN };
	uint64_t deadline = odp_now() + 3 * ODP_WAIT_MS * MS;
	long now;

	*most = 0;
	while (!poll(&pollfd, 1, 10)) {
		now = guest_group_value(child->group, "memory.current", NULL);
		if (now < 0)
			return now;
		*most = now > *most ? now : *most;
		if (odp_now() > deadline)
			return odp_fail(EBUSY, "the child does not come to an end");
	}
	if (read(child->sock, report, sizeof(*report)) != sizeof(*report))
		return odp_fail(ECHILD, "the child was killed");
	return report->ret ? odp_fail(-report->ret, "%s", report->text) : 0;
}

static int cgroup_far_less(struct ctx *ctx, const struct test *test)
{
	long most = 0, peak, kills, all = guest_value("/proc/vmstat", "oom_kill"), pinned = guest_pins();
	struct report report;
	struct child child;
	int ret, end;

	ret = test->kind == ODP_MEM_EXT4 ? 0 : guest_need_swap(NULL);
	ret = ret ?: child_start(ctx, test, &child, far_child);
	if (ret)
		return ret;
	ret = watch(&child, &most, &report);
	peak = guest_group_value(child.group, "memory.peak", NULL);
	kills = guest_group_value(child.group, "memory.events", "oom_kill");
	all = guest_value("/proc/vmstat", "oom_kill") - all;
	printf("# %s: %ld KiB at most, %ld KiB seen, limit %lu, %ld OOM kills\n", test->name,
	       peak >> 10, most >> 10, FAR_LIMIT >> 10, kills);
	if (!ret && (kills || all))
		ret = odp_fail(EPROTO, "%ld OOM kills in the cgroup, and %ld in all", kills, all);
	if (!ret && (most > (long)(FAR_LIMIT + SLACK) || peak > (long)(FAR_LIMIT + SLACK)))
		ret = odp_fail(EPROTO, "the cgroup had %ld KiB, %lu are its limit", peak >> 10,
			       FAR_LIMIT >> 10);
	if (!ret && peak < (long)(FAR_LIMIT - SLACK))
		ret = odp_fail(EPROTO, "the cgroup had %ld KiB at most: this proves nothing",
			       peak >> 10);
	end = child_reap(&child, ret) ?: guest_group_remove(child.group) ?: want_pins(pinned);
	return ret ? ret : end;
}

/* --- the OOM killer --------------------------------------------------------------- */

#define OOM_LIMIT	(24 * ODP_MIB)
#define OOM_LENGTH(t)	((t)->variant == GLOBAL ? GIB : 128 * ODP_MIB)

/* Hand @self over, and connect with what comes back. */
static int connect_over(int sock, struct odp_pair *pair, const struct report *self,
			struct report *peer)
{
	struct pollfd pollfd = { .fd = sock, .events = POLLIN };

	if (write(sock, self, sizeof(*self)) != sizeof(*self) ||
	    poll(&pollfd, 1, ODP_WAIT_MS) != 1 ||
	    read(sock, peer, sizeof(*peer)) != sizeof(*peer))
		return odp_fail(EPIPE, "the other process says nothing");
	if (peer->ret)
		return odp_fail(-peer->ret, "%s", peer->text);
	return odp_connect_to(pair, &peer->address);
}

/* Registers, and waits for what is to come. */
static int oom_child(struct ctx *ctx, const struct test *test)
{
	struct report self = {}, peer;
	struct odp_mem mem;
	struct odp_mr mr;
	int ret;

	if (test->variant == GLOBAL)
		ret = guest_write("/proc/self/oom_score_adj", "1000");
	else
		ret = guest_group_write(ctx->group, "memory.swap.max", "0") ?:
		      group_limit(ctx->group, "memory.max", OOM_LIMIT);
	ret = ret ?: odp_mem_map(&mem, test->kind, OOM_LENGTH(test), NULL) ?:
	      odp_reg(&mr, &ctx->dev, mem.addr, mem.length, ODP_ACCESS | IBV_ACCESS_ON_DEMAND) ?:
	      odp_connect_begin(&ctx->pair, &ctx->dev, &self.address);
	if (ret)
		return ret;
	self.iova = mr.iova;
	self.rkey = mr.mr->rkey;
	ret = connect_over(ctx->sock, &ctx->pair, &self, &peer);
	while (!ret)
		pause();
	return ret;
}

/* Until it completes with an error, which must be before the end. */
static int write_until_killed(struct ctx *ctx, const struct test *test, struct odp_pair *pair,
			      const struct report *peer)
{
	struct ibv_mr key = { .rkey = peer->rkey };
	const struct odp_mr remote = { .mr = &key, .iova = peer->iova };
	size_t at;
	int ret = 0;

	odp_fill(ctx->mem.addr, CHUNK, odp_random(&ctx->rng), 0);
	for (at = 0; at < OOM_LENGTH(test) && !ret; at += CHUNK)
		ret = odp_write(pair, &ctx->buf, 0, &remote, at, CHUNK);
	if (!ret)
		return odp_fail(EPROTO, "%lu MiB were written", OOM_LENGTH(test) / ODP_MIB);
	printf("# %s: after %zu MiB: %s\n", test->name, at / ODP_MIB - 1, odp_error());
	return ret == -EREMOTEIO ? 0 : ret;
}

/* In the parent: connect with a child, and write to it until it is no more. */
static int oom_provoke(struct ctx *ctx, const struct test *test, struct child *child)
{
	struct report self = {}, peer;
	struct odp_pair pair = {};
	int ret;

	ret = child_start(ctx, test, child, oom_child) ?:
	      odp_connect_begin(&pair, &ctx->dev, &self.address) ?:
	      connect_over(child->sock, &pair, &self, &peer) ?:
	      write_until_killed(ctx, test, &pair, &peer);
	odp_disconnect(&pair);
	return ret;
}

/* The child was killed, nobody else was, and nothing of it is left. */
static int want_killed(struct child *child, const struct test *test, long all)
{
	const char *stat = test->kind == ODP_MEM_MEMFD ? "shmem" : "anon";
	long kills;
	int ret;

	ret = child_reap(child, false);
	kills = guest_group_value(child->group, "memory.events", "oom_kill");
	all = guest_value("/proc/vmstat", "oom_kill") - all;
	if (!ret && (!WIFSIGNALED(child->status) || WTERMSIG(child->status) != SIGKILL))
		ret = odp_fail(EPROTO, "the child was not killed: status %#x", child->status);
	if (!ret && (kills != 1 || all != 1))
		ret = odp_fail(EPROTO, "%ld OOM kills in the cgroup, and %ld in all", kills, all);
	return ret ? ret : guest_group_settles(child->group, stat, 64 * ODP_KIB);
}

/*
 * The child's pages are faulted in by the kernel, for nobody who runs. They are charged
 * to the child, and so it is the child that the OOM killer takes.
 */
static int oom_run(struct ctx *ctx, const struct test *test)
{
	long all = guest_value("/proc/vmstat", "oom_kill"), pinned = guest_pins();
	struct child child = {};
	char before[256];
	int ret, end;

	ret = resources(before, sizeof(before)) ?: oom_provoke(ctx, test, &child) ?:
	      want_killed(&child, test, all);
	end = child_reap(&child, true);
	if (child.group[0] && !end)
		end = guest_group_remove(child.group);
	return ret ?: end ?: want_pins(pinned) ?: want_resources(before);
}

/* A region of this process goes on, with the bytes that it had, and takes others. */
static int oom_kill(struct ctx *ctx, const struct test *test)
{
	uint64_t old = odp_random(&ctx->rng), new = odp_random(&ctx->rng);
	struct odp_mem mem = {};
	struct odp_mr mr = {};
	int ret;

	ret = odp_mem_map(&mem, ODP_MEM_ANON, 4 * CHUNK, NULL) ?:
	      odp_reg(&mr, &ctx->dev, mem.addr, mem.length, ODP_ACCESS | IBV_ACCESS_ON_DEMAND) ?:
	      write_all(ctx, &mr, 0, mem.length, old) ?: oom_run(ctx, test) ?:
	      read_all(ctx, &mr, 0, mem.length, old) ?: write_all(ctx, &mr, 0, mem.length, new) ?:
	      guest_verify(mem.addr, mem.length, new, 0, "after the OOM killer");
	odp_dereg(&mr);
	odp_mem_unmap(&mem);
	return ret;
}

/*
 * No swap, and this program stays in memory: what there is to reclaim is soon gone. The
 * child may map more than there is.
 */
static int oom_global(struct ctx *ctx, const struct test *test)
{
	char path[128] = "";
	int ret = 0;

	guest_need_swap(path);
	if ((path[0] && swapoff(path)) || mlockall(MCL_CURRENT))
		ret = guest_fail("swapoff, mlockall");
	ret = ret ?: guest_write(OVERCOMMIT, "1") ?: oom_kill(ctx, test);
	guest_write(OVERCOMMIT, "0");
	munlockall();
	if (path[0] && swapon(path, 0) && !ret)
		ret = guest_fail("swapon");
	return ret;
}

/* --- the list of tests ------------------------------------------------------------ */

static const struct test tests[] = {
	{ "twice_the_ram", twice_the_ram, ODP_MEM_ANON, EXPLICIT },
	{ "cgroup_far_less_explicit", cgroup_far_less, ODP_MEM_ANON, EXPLICIT },
	{ "cgroup_far_less_implicit", cgroup_far_less, ODP_MEM_ANON, IMPLICIT },
	{ "cgroup_far_less_ext4", cgroup_far_less, ODP_MEM_EXT4, EXPLICIT },
	{ "oom_kill_anonymous", oom_kill, ODP_MEM_ANON, GROUP },
	{ "oom_kill_memfd", oom_kill, ODP_MEM_MEMFD, GROUP },
	{ "oom_kill_global", oom_global, ODP_MEM_ANON, GLOBAL },
};

/* --- running them ----------------------------------------------------------------- */

static const char *name_test(size_t i)
{
	return i < ARRAY_SIZE(tests) ? tests[i].name : NULL;
}

static int open_first(void *arg, const char *device)
{
	struct ctx *ctx = arg;

	ctx->device = device;
	return odp_open(&ctx->dev, device) ?: link_open(ctx);
}

static void close_last(void *arg)
{
	struct ctx *ctx = arg;

	link_close(ctx);
	odp_close(&ctx->dev);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	struct ctx *ctx = arg;

	ctx->rng = seed;
	return tests[i].run(ctx, &tests[i]);
}

static int recover(void *arg)
{
	struct ctx *ctx = arg;

	link_close(ctx);
	return link_open(ctx);
}

int main(int argc, char **argv)
{
	struct ctx ctx = {};
	const struct suite suite = {
		.program = "test-limits",
		.about = "Regions that are larger than RAM, or than their cgroup, and the OOM killer.\n"
			 "Wants root, 512 MiB of RAM, swap, /mnt/ext4 and cgroup2: see tests/vm/run.",
		.ctx = &ctx,
		.dev = &ctx.dev,
		.needs_odp = true,
		.name = name_test,
		.open = open_first,
		.close = close_last,
		.run = run_test,
		.recover = recover,
	};

	/* A child that was killed leaves a socket behind. */
	signal(SIGPIPE, SIG_IGN);
	return suite_main(&suite, argc, argv);
}
