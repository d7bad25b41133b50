// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-postcopy: a post-copy migration in miniature, with RDMA going on all the time.
 *
 * Post-copy moves a process, or a virtual machine, before its memory: it runs on
 * at the destination at once, on empty memory, and userfaultfd tells a handler of
 * each page that is touched before it has come. The handler fetches that page at
 * once; the rest follows in the background.
 *
 * An RDMA device used to rule that out, for it wants all memory present and
 * pinned when it is registered. With on-demand paging it does not: the memory is
 * registered while it is empty, and a device that meets an absent page faults as
 * a CPU does. Its queue pair waits, the handler is asked, the transfer goes on.
 *
 *	source process			destination process
 *
 *	memory, full			memory, empty: userfaultfd, ODP
 *	  |				  ^ UFFDIO_COPY		^ RDMA READ and WRITE
 *	  +------- RDMA READ -------> bounce page		|
 *		   of one page	    main thread		    client thread
 *
 * The client does random READs and WRITEs from the first moment on, and compares
 * what it reads with what it has to be; at the end all of the memory is compared.
 *
 * Three things to copy from here:
 *
 * - The handler must not need what it provides. So it has a queue pair of its
 *   own, as the client's may be waiting for it, and its bounce page is pinned.
 * - userfaultfd() is called without UFFD_USER_MODE_ONLY, because the device's
 *   faults are the kernel's. That takes root or vm.unprivileged_userfaultfd=1.
 * - A handler that gives up closes the descriptor before anything else: until
 *   then each transfer that met an absent page waits.
 */
#define _GNU_SOURCE
#include "odp.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE		4096UL
#define MAX_MESSAGE	(64 * ODP_KIB)
#define BOUNCE		MAX_MESSAGE	/* behind the client's buffer */

static struct {
	const char *device;
	uint64_t size;
	uint64_t operations;
	uint64_t pace_us;
	uint64_t seed;
} opt = { .size = 16 * ODP_MIB, .operations = 400, .pace_us = 200, .seed = 1 };

static volatile sig_atomic_t interrupted;

/* What each process tells the other; the destination has no memory to offer. */
struct hello {
	struct odp_address address;
	uint64_t iova;
	uint32_t rkey;
};

struct destination {
	struct odp_dev dev;
	struct odp_mem mem;		/* empty at first */
	struct odp_mr mr;		/* on demand */
	struct odp_mem pinned;		/* the client's buffer and the bounce page */
	struct odp_mr pinned_mr;
	_Atomic bool complete;		/* all pages are here */
	_Atomic bool stop;		/* they will not come */

	/* The main thread, which migrates */
	int uffd;
	struct odp_pair link;		/* to the source process */
	struct odp_mr source;		/* the memory there */
	struct ibv_mr source_key;
	bool *present;			/* for each page */
	size_t on_demand;
	size_t background;
	uint64_t ns;

	/* The client thread */
	struct odp_pair pair;
	uint8_t *expected;		/* the memory as it would be with all pages here */
	uint64_t random;
	uint64_t operations;
	uint64_t early;			/* of these, while pages were missing */
	uint64_t verified;		/* bytes */
	_Atomic bool client_ended;
	int client_ret;
	char client_error[512];
};

static int fail_errno(const char *what)
{
	return odp_fail(errno, "%s: %s", what, strerror(errno));
}

static int open_device(struct odp_dev *dev)
{
	int ret = odp_open(dev, opt.device);

	if (!ret && !odp_supported(dev))
		ret = odp_fail(EOPNOTSUPP, "the kernel has no on-demand paging for %s", dev->name);
	return ret;
}

static int send_hello(int sock, const struct hello *hello)
{
	if (send(sock, hello, sizeof(*hello), MSG_NOSIGNAL) != sizeof(*hello))
		return fail_errno("talking to the other process");
	return 0;
}

static int recv_hello(int sock, struct hello *hello)
{
	struct timeval timeout = { .tv_sec = ODP_WAIT_MS / 1000 };
	ssize_t n;

	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	n = recv(sock, hello, sizeof(*hello), 0);
	if (n < 0)
		return fail_errno("waiting for the other process");
	return n ? 0 : odp_fail(ECONNRESET, "the other process has ended");
}

/* --- the source process ------------------------------------------------------ */

static int run_source(int sock)
{
	struct pollfd pollfd = { .fd = sock };
	struct hello self = {}, peer;
	struct odp_pair link = {};
	struct odp_dev dev = {};
	struct odp_mem mem = {};
	struct odp_mr mr = {};
	int ret;

	/* Ctrl-C is for the destination, and the end of that for this process. */
	signal(SIGINT, SIG_IGN);
	ret = recv_hello(sock, &peer);
	if (!ret)
		ret = open_device(&dev);
	if (!ret)
		ret = odp_mem_map(&mem, ODP_MEM_ANON, opt.size, NULL);
	if (!ret)
		ret = odp_reg(&mr, &dev, mem.addr, mem.length, ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!ret) {
		odp_fill(mem.addr, mem.length, opt.seed, 0);
		self.iova = mr.iova;
		self.rkey = mr.mr->rkey;
		ret = odp_connect_begin(&link, &dev, &self.address);
	}
	if (!ret)
		ret = odp_connect_to(&link, &peer.address);
	if (!ret)
		ret = send_hello(sock, &self);
	/* The device serves the memory by itself, until the other end is closed. */
	if (!ret)
		poll(&pollfd, 1, -1);

	odp_disconnect(&link);
	odp_dereg(&mr);
	odp_mem_unmap(&mem);
	odp_close(&dev);
	return ret;
}

/* --- the client, a thread of the destination ----------------------------------- */

static int check_bytes(struct destination *dst, const void *at, size_t offset, size_t length)
{
	struct odp_mismatch bad;

	if (!odp_compare(at, dst->expected + offset, length, &bad))
		return odp_fail(EBADMSG, "%zu bytes at %zu: byte %zu is %#04x and should be %#04x; %zu are wrong",
				length, offset, bad.offset, bad.got, bad.expected, bad.count);
	dst->verified += length;
	return 0;
}

/* A transfer on no boundary of anything. The device faults on what is absent. */
static int operate(struct destination *dst)
{
	size_t length = 1 + odp_random(&dst->random) % MAX_MESSAGE;
	size_t offset = odp_random(&dst->random) % (dst->mr.length - length + 1);
	void *buffer = dst->pinned.addr;
	int ret;

	if (odp_random(&dst->random) % 2) {
		odp_fill(buffer, length, opt.seed + 1 + dst->operations, offset);
		ret = odp_write(&dst->pair, &dst->pinned_mr, 0, &dst->mr, offset, length);
		if (!ret)
			memcpy(dst->expected + offset, buffer, length);
		return ret;
	}
	memset(buffer, 0, length);
	ret = odp_read(&dst->pair, &dst->pinned_mr, 0, &dst->mr, offset, length);
	return ret ? ret : check_bytes(dst, buffer, offset, length);
}

static void *run_client(void *arg)
{
	struct destination *dst = arg;

	while (!interrupted && !dst->stop &&
	       (dst->operations < opt.operations || !dst->complete)) {
		dst->client_ret = operate(dst);
		if (dst->client_ret) {
			/* Each thread has an odp_error() of its own. */
			snprintf(dst->client_error, sizeof(dst->client_error), "%s", odp_error());
			break;
		}
		dst->operations++;
		if (!dst->complete)
			dst->early++;
	}
	dst->client_ended = true;
	return NULL;
}

/* --- the migration: the destination's main thread ------------------------------- */

static int open_uffd(struct destination *dst)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)dst->mem.addr, .len = dst->mem.length },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	dst->uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (dst->uffd < 0)
		return fail_errno("userfaultfd");
	if (ioctl(dst->uffd, UFFDIO_API, &api) || ioctl(dst->uffd, UFFDIO_REGISTER, &range))
		return fail_errno("UFFDIO_REGISTER");
	return 0;
}

/* Wakes all that wait, the device too. What is absent is zeroes from here on. */
static void close_uffd(struct destination *dst)
{
	if (dst->uffd >= 0)
		close(dst->uffd);
	dst->uffd = -1;
}

/* Wait until somebody waits for a page, or until @due. */
static bool next_fault(struct destination *dst, uint64_t due, size_t *page)
{
	struct pollfd pollfd = { .fd = dst->uffd, .events = POLLIN };
	uint64_t now = odp_now(), ns = due > now ? due - now : 0;
	struct timespec timeout = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
	struct uffd_msg msg;

	if (ppoll(&pollfd, 1, &timeout, NULL) != 1 ||
	    read(dst->uffd, &msg, sizeof(msg)) != sizeof(msg) ||
	    msg.event != UFFD_EVENT_PAGEFAULT)
		return false;
	*page = (msg.arg.pagefault.address - (uintptr_t)dst->mem.addr) / PAGE;
	return true;
}

/*
 * Fetch a page and put it in its place, which wakes who waits for it. It appears
 * there at once and whole, and UFFDIO_COPY never replaces a page that is there:
 * what the client writes stays. One thread brings all pages, so EEXIST, normal
 * where there are more, would be a bug.
 */
static int bring(struct destination *dst, size_t page, size_t *count)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)dst->mem.addr + page * PAGE,
		.src = (uintptr_t)dst->pinned.addr + BOUNCE,
		.len = PAGE,
	};
	int ret;

	/* Nobody waits: who faulted looks for the page once more before that. */
	if (dst->present[page])
		return 0;
	ret = odp_read(&dst->link, &dst->pinned_mr, BOUNCE, &dst->source, page * PAGE, PAGE);
	if (ret)
		return ret;
	if (ioctl(dst->uffd, UFFDIO_COPY, &copy))
		return fail_errno("UFFDIO_COPY");
	dst->present[page] = true;
	(*count)++;
	return 0;
}

/* Bring what is asked for, and beside that all pages in order, at the given pace. */
static int migrate(struct destination *dst)
{
	size_t asked, next = 0, pages = dst->mem.length / PAGE;
	uint64_t due = odp_now();
	int ret = 0;

	while (!ret && dst->on_demand + dst->background < pages) {
		/* Before the last page is here, the client ends only if it has to. */
		if (dst->client_ended)
			return 0;
		if (next_fault(dst, due, &asked))
			ret = bring(dst, asked, &dst->on_demand);
		if (!ret && odp_now() >= due) {
			ret = bring(dst, next++, &dst->background);
			due = odp_now() + opt.pace_us * 1000;
		}
	}
	dst->complete = !ret;
	return ret;
}

/* Migrate beside the client, and compare all bytes in the end. */
static int run_migration(struct destination *dst)
{
	uint64_t start = odp_now();
	pthread_t client;
	int ret;

	if (pthread_create(&client, NULL, run_client, dst))
		return odp_fail(EAGAIN, "pthread_create");
	ret = migrate(dst);
	dst->ns = odp_now() - start;
	if (!dst->complete)
		dst->stop = true;
	close_uffd(dst);
	pthread_join(client, NULL);
	if (!ret && dst->client_ret)
		ret = odp_fail(-dst->client_ret, "%s", dst->client_error);
	if (!ret && interrupted)
		ret = odp_fail(EINTR, "interrupted");
	return ret ? ret : check_bytes(dst, dst->mem.addr, 0, dst->mem.length);
}

static int connect_source(struct destination *dst, int sock)
{
	struct hello self = {}, peer;
	int ret;

	ret = odp_connect_begin(&dst->link, &dst->dev, &self.address);
	if (!ret)
		ret = send_hello(sock, &self);
	if (!ret)
		ret = recv_hello(sock, &peer);
	if (ret)
		return ret;
	/* Of a region in another process, its address and its key are all there is. */
	dst->source_key.rkey = peer.rkey;
	dst->source.mr = &dst->source_key;
	dst->source.iova = peer.iova;
	return odp_connect_to(&dst->link, &peer.address);
}

static int open_destination(struct destination *dst)
{
	int ret;

	ret = open_device(&dst->dev);
	if (!ret)
		ret = odp_mem_map(&dst->mem, ODP_MEM_ANON, opt.size, NULL);
	if (!ret)
		ret = open_uffd(dst);
	/* There is not one page in it, and from here on the device may use it. */
	if (!ret)
		ret = odp_reg(&dst->mr, &dst->dev, dst->mem.addr, dst->mem.length,
			      ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!ret)
		ret = odp_mem_map(&dst->pinned, ODP_MEM_ANON, BOUNCE + PAGE, NULL);
	if (!ret)
		ret = odp_reg(&dst->pinned_mr, &dst->dev, dst->pinned.addr, dst->pinned.length,
			      ODP_ACCESS);
	if (!ret)
		ret = odp_connect(&dst->pair, &dst->dev, NULL);
	if (ret)
		return ret;
	dst->present = calloc(dst->mem.length / PAGE, sizeof(*dst->present));
	dst->expected = malloc(dst->mem.length);
	if (!dst->present || !dst->expected)
		return odp_fail(ENOMEM, "out of memory");
	odp_fill(dst->expected, dst->mem.length, opt.seed, 0);
	dst->random = opt.seed;
	return 0;
}

static void close_destination(struct destination *dst)
{
	close_uffd(dst);
	odp_disconnect(&dst->link);
	odp_disconnect(&dst->pair);
	odp_dereg(&dst->pinned_mr);
	odp_dereg(&dst->mr);
	odp_mem_unmap(&dst->pinned);
	odp_mem_unmap(&dst->mem);
	odp_close(&dst->dev);
	free(dst->present);
	free(dst->expected);
}

static int report(struct destination *dst)
{
	struct odp_counters counters;
	int ret;

	ret = odp_counters(&dst->mr, &counters);
	if (ret)
		return ret;
	printf("post-copy migration over %s, bytes equal\n\n"
	       "milliseconds      %10.0f\n"
	       "pages moved       %10zu\n"
	       "  on demand       %10zu  the device faulted on them\n"
	       "  in background   %10zu\n"
	       "RDMA operations   %10lu\n"
	       "  meanwhile       %10lu  while pages were missing\n"
	       "bytes verified    %10lu\n"
	       "MR page faults    %10lu\n", dst->dev.name, dst->ns / 1e6,
	       dst->on_demand + dst->background, dst->on_demand, dst->background,
	       dst->operations, dst->early, dst->verified, counters.faults);
	if (!dst->on_demand || !dst->early)
		return odp_fail(EPROTO, "traffic and migration did not overlap: larger --size or --pace?");
	return 0;
}

static void interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

static int run_destination(int sock)
{
	struct sigaction action = { .sa_handler = interrupt };
	struct destination dst = { .uffd = -1 };
	int ret;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	ret = open_destination(&dst);
	if (!ret)
		ret = connect_source(&dst, sock);
	if (!ret)
		ret = run_migration(&dst);
	if (!ret)
		ret = report(&dst);
	close_destination(&dst);
	return ret;
}

/* --- two processes ----------------------------------------------------------------- */

static int run_both(void)
{
	int sockets[2], status, ret;
	pid_t source;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		return fail_errno("socketpair");
	/* Before the first verbs call: its objects do not survive a fork(). */
	source = fork();
	if (source < 0)
		return fail_errno("fork");
	/* Each closes the other's end, or it would not see that close. */
	close(sockets[source ? 1 : 0]);
	if (!source)
		return run_source(sockets[1]);

	ret = run_destination(sockets[0]);
	if (ret)
		kill(source, SIGKILL);
	close(sockets[0]);
	while (waitpid(source, &status, 0) < 0)
		if (errno != EINTR)
			return fail_errno("waitpid");
	if (!ret && status)
		ret = odp_fail(ECHILD, "the source process has failed");
	return ret;
}

static void usage(FILE *out)
{
	fprintf(out,
		"usage: odp-postcopy [options]\n"
		"Move memory to another process by post-copy, with userfaultfd and on-demand paging,\n"
		"while RDMA reads and writes it; every byte is verified.\n"
		"\n"
		"  --device NAME     RDMA device (default: the first soft-RoCE device)\n"
		"  --size N          the memory: MiB up to 4096, bytes above (default 16)\n"
		"  --operations N    RDMA operations on it, at least (default 400)\n"
		"  --pace USEC       time from one page to the next in the background (default 200);\n"
		"                    the longer, the more come on demand\n"
		"  --seed N          of the bytes and the operations (default 1)\n"
		"  --help            this text\n");
}

static int parse_size(const char *text)
{
	int ret = odp_parse_number(text, 1, 4096 * ODP_MIB, &opt.size);

	if (!ret && opt.size <= 4096)
		opt.size *= ODP_MIB;
	return ret || opt.size >= ODP_MIB ? ret : odp_fail(EINVAL, "--size is less than 1 MiB");
}

/* Returns 0 to go on, 1 to end well, -1 to end with usage, -2 with odp_error(). */
static int parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "size", required_argument, NULL, 's' },
		{ "operations", required_argument, NULL, 'o' },
		{ "pace", required_argument, NULL, 'p' },
		{ "seed", required_argument, NULL, 'S' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	int c, ret = 0;

	while (!ret && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd': opt.device = optarg; break;
		case 's': ret = parse_size(optarg); break;
		case 'o': ret = odp_parse_number(optarg, 1, UINT64_MAX, &opt.operations); break;
		case 'p': ret = odp_parse_number(optarg, 0, 1000000, &opt.pace_us); break;
		case 'S': ret = odp_parse_number(optarg, 0, UINT64_MAX, &opt.seed); break;
		case 'h': usage(stdout); return 1;
		default: return -1;
		}
	}
	return ret ? -2 : optind < argc ? -1 : 0;
}

int main(int argc, char **argv)
{
	int ret;

	ret = parse_options(argc, argv);
	if (ret == -1)
		usage(stderr);
	if (ret == -2)
		fprintf(stderr, "odp-postcopy: %s\n", odp_error());
	if (ret)
		return ret < 0 ? 2 : 0;

	ret = run_both();
	if (ret)
		fprintf(stderr, "odp-postcopy: %s\n", odp_error());
	return ret ? 1 : 0;
}
