// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_memfd_secret
#define __NR_memfd_secret	447
#endif

#define HW_COUNTER	"/sys/class/infiniband/%s/ports/1/hw_counters/%s"

int guest_fail(const char *what)
{
	int err = errno ? errno : EIO;

	return odp_fail(err == ENODEV ? EIO : err, "%s: %s", what, strerror(err));
}

int guest_open_peer(struct odp_dev *dev, const char *device, struct odp_mr *mr, uint8_t **peer,
		    size_t length)
{
	int ret;

	ret = odp_open(dev, device);
	if (ret)
		return ret;
	*peer = aligned_alloc(sysconf(_SC_PAGESIZE), length);
	if (!*peer)
		return odp_fail(ENOMEM, "out of memory");
	return odp_reg(mr, dev, *peer, length, ODP_ACCESS);
}

void guest_close_peer(struct odp_dev *dev, struct odp_mr *mr, uint8_t *peer)
{
	odp_dereg(mr);
	free(peer);
	odp_close(dev);
}

int guest_map_secret(uint8_t **addr, size_t length)
{
	int fd, ret = 0;

	fd = syscall(__NR_memfd_secret, 0);
	if (fd < 0)
		return odp_fail(ENODEV, "memfd_secret: %s", strerror(errno));
	if (ftruncate(fd, length))
		ret = guest_fail("ftruncate");
	if (!ret)
		*addr = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (!ret && *addr == MAP_FAILED)
		ret = guest_fail("mmap");
	close(fd);
	return ret;
}

int guest_verify(const void *at, size_t length, uint64_t seed, uint64_t offset,
		 const char *what)
{
	struct odp_mismatch bad;

	if (odp_verify(at, length, seed, offset, &bad))
		return 0;
	return odp_fail(EBADMSG, "%s: byte %zu is %#x, should be %#x; %zu wrong", what, bad.offset,
			bad.got, bad.expected, bad.count);
}

int guest_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		ret = guest_fail(path);
	if (fd >= 0)
		close(fd);
	return ret;
}

uint64_t guest_counter(const struct odp_dev *dev, const char *name)
{
	unsigned long value = 0;
	char path[256];
	FILE *file;

	/* The kernel keeps what it read for 10 ms. */
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	snprintf(path, sizeof(path), HW_COUNTER, dev->name, name);
	file = fopen(path, "r");
	if (file && fscanf(file, "%lu", &value) != 1)
		value = 0;
	if (file)
		fclose(file);
	return value;
}

int guest_clear_trace(void)
{
	int fd = open(TRACING "trace", O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0)
		return guest_fail(TRACING "trace");
	close(fd);
	return 0;
}

int guest_want_trace(const char *event, const char *text)
{
	char line[1024];
	bool found = false;
	FILE *trace;

	trace = fopen(TRACING "trace", "r");
	if (!trace)
		return guest_fail(TRACING "trace");
	while (!found && fgets(line, sizeof(line), trace))
		found = strstr(line, event) && strstr(line, text);
	fclose(trace);
	return found ? 0 : odp_fail(ENOMSG, "no %s with \"%s\" was traced", event, text);
}

int guest_uffd(void *addr, size_t length, int flags)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)addr, .len = length },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd, ret;

	fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
	if (fd < 0)
		return guest_fail("userfaultfd");
	if (!ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &range))
		return fd;
	ret = guest_fail("UFFDIO_REGISTER");
	close(fd);
	return ret;
}

int guest_uffd_copy(int uffd, void *addr, const void *content, size_t length)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)addr, .src = (uintptr_t)content, .len = length,
	};

	if (!ioctl(uffd, UFFDIO_COPY, &copy))
		return 0;
	return errno == EEXIST ? 1 : guest_fail("UFFDIO_COPY");
}
