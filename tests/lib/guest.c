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

#define GUEST_PAGE	4096UL
#define LOSS		"tc qdisc replace dev eth0 root netem loss %u%%"
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

void guest_sleep_ms(unsigned int ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	while (nanosleep(&time, &time))
		;
}

uint64_t guest_random_iova(uint64_t *rng, uintptr_t addr)
{
	uint64_t in_page = addr % GUEST_PAGE;

	switch (odp_random(rng) % 4) {
	case 0:
		return addr;
	case 1:
		return in_page;
	case 2:
		return (odp_random(rng) >> 17 & -GUEST_PAGE) | in_page;
	default:
		return (-(64 * ODP_MIB) & -GUEST_PAGE) | in_page;
	}
}

long guest_count_pages(const void *addr, size_t length, uint64_t bit)
{
	uint64_t entries[512];
	size_t page, i, n;
	long count = 0;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return guest_fail("/proc/self/pagemap");
	for (page = 0; page < length / GUEST_PAGE; page += n) {
		n = length / GUEST_PAGE - page;
		n = n < ARRAY_SIZE(entries) ? n : ARRAY_SIZE(entries);
		if (pread(fd, entries, n * 8, ((uintptr_t)addr / GUEST_PAGE + page) * 8) !=
		    (ssize_t)(n * 8)) {
			count = guest_fail("reading pagemap");
			break;
		}
		for (i = 0; i < n; i++)
			count += !!(entries[i] & bit);
	}
	close(fd);
	return count;
}

int guest_need_swap(void)
{
	FILE *file = fopen("/proc/swaps", "re");
	char line[256];
	int lines = 0;

	while (file && fgets(line, sizeof(line), file))
		lines++;
	if (file)
		fclose(file);
	return lines > 1 ? 0 : odp_fail(ENODEV, "unavailable: no swap space (tests/vm/run --swap)");
}

int guest_lose(unsigned int percent)
{
	char command[256];

	snprintf(command, sizeof(command), LOSS " && ip netns exec node1 " LOSS, percent, percent);
	return system(command) ? odp_fail(EIO, "%s failed", command) : 0;
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
