// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_memfd_secret
#define __NR_memfd_secret	447
#endif

#define GUEST_PAGE	4096UL
#define LOSS		"tc qdisc replace dev eth0 root netem loss %u%%"
#define CGROUPS		"/sys/fs/cgroup"
#define KSM		"/sys/kernel/mm/ksm/"
#define SETTLE_MS	30000
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

long guest_count_resident(const void *addr, size_t length)
{
	unsigned char *map = calloc(length / GUEST_PAGE, 1);
	long count = 0;
	size_t i;

	if (!map || mincore((void *)addr, length, map))
		count = guest_fail("mincore");
	for (i = 0; i < length / GUEST_PAGE && count >= 0; i++)
		count += map[i] & 1;
	free(map);
	return count;
}

int guest_need_swap(char path[128])
{
	FILE *file = fopen("/proc/swaps", "re");
	char line[256] = "", first[128] = "";

	if (file && fgets(line, sizeof(line), file) && fgets(line, sizeof(line), file))
		sscanf(line, "%127s", first);
	if (file)
		fclose(file);
	if (!first[0])
		return odp_fail(ENODEV, "unavailable: no swap space (tests/vm/run --swap)");
	if (path)
		strcpy(path, first);
	return 0;
}

int guest_ksm(bool run)
{
	return guest_write(KSM "pages_to_scan", "1000") ?:
	       guest_write(KSM "sleep_millisecs", "5") ?: guest_write(KSM "run", run ? "1" : "0");
}

int guest_forget_merged(void)
{
	uint64_t deadline = odp_now() + SETTLE_MS * 1000000ULL;
	int ret = guest_ksm(true);

	while (!ret && guest_value("/proc/self/ksm_stat", "ksm_rmap_items") > 0) {
		if (odp_now() > deadline)
			ret = odp_fail(EBUSY, "KSM does not forget what was merged");
		guest_sleep_ms(20);
	}
	return guest_ksm(false) ?: ret;
}

int guest_merge(void *addr, size_t length)
{
	uint64_t deadline = odp_now() + SETTLE_MS * 1000000ULL;
	long merged = 0, wanted = length / GUEST_PAGE / 2;

	if (madvise(addr, length, MADV_MERGEABLE) || guest_ksm(true))
		return odp_fail(ENODEV, "unavailable: KSM: %s", strerror(errno));
	while (merged < wanted && odp_now() < deadline) {
		guest_sleep_ms(20);
		merged = guest_value("/proc/self/ksm_merging_pages", NULL);
	}
	guest_ksm(false);
	return merged < wanted ? odp_fail(EBUSY, "KSM merges %ld pages of %zu", merged,
					  length / GUEST_PAGE) : 0;
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

int guest_compare(const char *what, const void *at, const void *expected, size_t offset,
		  size_t length)
{
	struct odp_mismatch bad;

	if (odp_compare(at, expected, length, &bad))
		return 0;
	return odp_fail(EBADMSG, "%s: byte %#zx is %#04x, should be %#04x; %zu of %zu wrong", what,
			offset + bad.offset, bad.got, bad.expected, bad.count, length);
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

long guest_value(const char *path, const char *key)
{
	size_t length = key ? strlen(key) : 0;
	FILE *file = fopen(path, "re");
	long value = -ENOENT;
	char line[256];

	if (!file)
		return guest_fail(path);
	while (value < 0 && fgets(line, sizeof(line), file))
		if (!key || (!strncmp(line, key, length) && strchr(" \t", line[length])))
			value = strtol(line + length, NULL, 10);
	fclose(file);
	return value < 0 ? odp_fail(ENOENT, "no %s in %s", key ? key : "number", path) : value;
}

/* The kernel keeps a part of the counts per CPU. */
long guest_pins(void)
{
	guest_write("/proc/sys/vm/stat_refresh", "1");
	return guest_value("/proc/vmstat", "nr_foll_pin_acquired") -
	       guest_value("/proc/vmstat", "nr_foll_pin_released");
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

int guest_send_fd(int sock, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {}, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
			      .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : guest_fail("sendmsg");
}

int guest_receive_fd(int sock)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
			      .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg;
	int fd;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1)
		return odp_fail(EIO, "the other process has ended");
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		return odp_fail(EIO, "no descriptor came");
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(int));
	return fd;
}

static void group_path(char path[256], const char *group, const char *name)
{
	snprintf(path, 256, CGROUPS "/%s/%s", group, name);
}

int guest_group_write(const char *group, const char *name, const char *value)
{
	char path[256];

	group_path(path, group, name);
	return guest_write(path, value);
}

long guest_group_value(const char *group, const char *name, const char *key)
{
	char path[256];

	group_path(path, group, name);
	return guest_value(path, key);
}

/* Reading cpu.stat is what brings it up to date. */
long guest_group_stat(const char *group, const char *key)
{
	guest_group_value(group, "cpu.stat", NULL);
	return guest_group_value(group, "memory.stat", key);
}

int guest_group_settles(const char *group, const char *key, long limit)
{
	uint64_t deadline = odp_now() + SETTLE_MS * 1000000ULL;
	long value;

	while ((value = guest_group_stat(group, key)) > limit) {
		if (odp_now() > deadline)
			return odp_fail(EBUSY, "%s of the cgroup stays at %ld KiB, should be at most %ld",
					key, value >> 10, limit >> 10);
		guest_sleep_ms(20);
	}
	return value < 0 ? value : 0;
}

int guest_group_make(char group[GUEST_GROUP_NAME])
{
	static unsigned int number;
	struct statfs fs;
	char path[256];

	if (statfs(CGROUPS, &fs) || fs.f_type != CGROUP2_SUPER_MAGIC)
		if (mount("cgroup2", CGROUPS, "cgroup2", 0, NULL))
			return odp_fail(ENODEV, "unavailable: no cgroup2: %s", strerror(errno));
	if (guest_group_write(".", "cgroup.subtree_control", "+memory"))
		return odp_fail(ENODEV, "unavailable: no memory cgroups");
	snprintf(group, GUEST_GROUP_NAME, "odp-test-%d-%u", getpid(), number++);
	group_path(path, group, "");
	return mkdir(path, 0755) ? guest_fail(path) : 0;
}

int guest_group_remove(const char *group)
{
	char path[256];

	group_path(path, group, "");
	return rmdir(path) ? guest_fail(path) : 0;
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
