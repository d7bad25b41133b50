// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-torture: memory of which user space answers the faults. A missing page
 * becomes zeroes, a write-protected one may be written: no rule of the model
 * changes, only who is waited for.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* So many pages are given at once, as a server of pages would. */
#define AT_ONCE		16

static int give(const struct arena *arena, struct uffdio_range pages, bool write_protected)
{
	struct uffdio_writeprotect writable = { .range = pages };
	struct uffdio_zeropage zero = { .range = pages };

	return write_protected ? ioctl(arena->uffd, UFFDIO_WRITEPROTECT, &writable) :
				 ioctl(arena->uffd, UFFDIO_ZEROPAGE, &zero);
}

/*
 * Whoever was first, and whatever is mapped there by now: the fault is tried again.
 * Several pages are refused where they are not all in one mapping; then it is one.
 */
static void answer(const struct arena *arena, const struct uffd_msg *msg)
{
	bool write_protected = msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP;
	uint64_t at = msg->arg.pagefault.address & -PAGE;
	uint64_t left = (uintptr_t)arena_at(arena, arena->mem.length) - at;
	struct uffdio_range page = { .start = at, .len = PAGE };
	struct uffdio_range pages = {
		.start = at, .len = left < AT_ONCE * PAGE ? left : AT_ONCE * PAGE,
	};

	if (give(arena, pages, write_protected) && give(arena, page, write_protected))
		ioctl(arena->uffd, UFFDIO_WAKE, &page);
}

static void *handle(void *arg)
{
	struct arena *arena = arg;
	struct pollfd wanted = { .fd = arena->uffd, .events = POLLIN };
	struct uffd_msg msg;

	for (;;) {
		if (poll(&wanted, 1, -1) > 0 &&
		    read(arena->uffd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT)
			answer(arena, &msg);
	}
	return NULL;
}

int arena_arm(struct range r)
{
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)arena_at(r.arena, r.offset), .len = r.length },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};

	if (r.arena->kind != USERFAULT || !ioctl(r.arena->uffd, UFFDIO_REGISTER, &range))
		return 0;
	return odp_fail(errno, "UFFDIO_REGISTER: %s", strerror(errno));
}

int userfault_open(struct arena *arena)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	int ret;

	arena->uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (arena->uffd < 0)
		return odp_fail(ENODEV, "userfaultfd: %s", strerror(errno));
	ret = ioctl(arena->uffd, UFFDIO_API, &api) ? -errno : 0;
	if (ret)
		ret = odp_fail(ENODEV, "UFFDIO_API: %s", strerror(-ret));
	else
		ret = arena_arm((struct range){ arena, 0, arena->mem.length });
	if (!ret && pthread_create(&arena->handler, NULL, handle, arena))
		ret = odp_fail(EAGAIN, "no thread can be created");
	if (ret)
		close(arena->uffd);
	return ret;
}

void userfault_close(struct arena *arena)
{
	pthread_cancel(arena->handler);
	pthread_join(arena->handler, NULL);
	close(arena->uffd);
}

int write_protect(struct torture *t, struct range r)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)arena_at(r.arena, r.offset), .len = r.length },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	(void)t;
	if (!ioctl(r.arena->uffd, UFFDIO_WRITEPROTECT, &wp))
		return 0;
	r.arena->failed = true;
	return odp_fail(errno, "UFFDIO_WRITEPROTECT: %s", strerror(errno));
}
