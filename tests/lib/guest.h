/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * guest - what the test programs do to the kernel that they run on, and see of it.
 *
 * Conventions are those of odp.h: int is 0 or a negative errno, with a line of
 * text in odp_error().
 */
#ifndef GUEST_H
#define GUEST_H

#include "odp.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY	1
#endif
#define TRACING			"/sys/kernel/tracing/"

/* Fail with errno; never with -ENODEV, which would skip the subtest. */
int guest_fail(const char *what);

/* Open the device, and register @length bytes that are pinned; see guest_close_peer(). */
int guest_open_peer(struct odp_dev *dev, const char *device, struct odp_mr *mr, uint8_t **peer,
		    size_t length);
void guest_close_peer(struct odp_dev *dev, struct odp_mr *mr, uint8_t *peer);

void guest_sleep_ms(unsigned int ms);

/*
 * An I/O address for memory at @addr, with the same offset in its page: the same,
 * zero-based, anywhere, or at the very top. Draws from @rng.
 */
uint64_t guest_random_iova(uint64_t *rng, uintptr_t addr);

/* Map @length bytes of memfd_secret(). */
int guest_map_secret(uint8_t **addr, size_t length);

/* Want @expected's bytes; @offset and @what are for the message. */
int guest_compare(const char *what, const void *at, const void *expected, size_t offset,
		  size_t length);

/* Want odp_fill()'s bytes of @seed from @offset on; @what is for the message. */
int guest_verify(const void *at, size_t length, uint64_t seed, uint64_t offset,
		 const char *what);

/* The bits of /proc/PID/pagemap that guest_count_pages() is asked for. */
#define GUEST_PRESENT		(1ULL << 63)
#define GUEST_SWAPPED		(1ULL << 62)
#define GUEST_SOFT_DIRTY	(1ULL << 55)
#define GUEST_PFN		((1ULL << 55) - 1)

/* How many pages of the process's page table have @bit; or a negative errno. */
long guest_count_pages(const void *addr, size_t length, uint64_t bit);

/* How many pages of a mapping of a file are in memory; or a negative errno. */
long guest_count_resident(const void *addr, size_t length);

/* -ENODEV, which skips, where there is no swap space. @path, or NULL, is told where. */
int guest_need_swap(char path[128]);

/* Let the kernel look for equal pages, all the time and fast, or no more. */
int guest_ksm(bool run);

/* Nothing of the process is MADV_MERGEABLE any more: until KSM has seen that. */
int guest_forget_merged(void);

/* Until half of the pages are merged ones. -ENODEV, which skips, where there is no KSM. */
int guest_merge(void *addr, size_t length);

/* Lose so much of what is sent, between rxe0 and rxe1 of a guest with --two-nodes. */
int guest_lose(unsigned int percent);

/*
 * The number behind @key, or the first one with NULL, in a file of such lines; or a
 * negative errno.
 */
long guest_value(const char *path, const char *key);

/* How many pages are pinned in the whole system. */
long guest_pins(void);

/* Write to a file of the kernel's. */
int guest_write(const char *path, const char *text);

/* One of the device's counters, as it is now; 0 where the kernel has none of the name. */
uint64_t guest_counter(const struct odp_dev *dev, const char *name);

int guest_clear_trace(void);

/* Does a line of the trace have @event and all of @text? Fails if not. */
int guest_want_trace(const char *event, const char *text);

/* A descriptor to or from another process, over a socket. */
int guest_send_fd(int sock, int fd);
int guest_receive_fd(int sock);

/*
 * Memory cgroups. -ENODEV, which skips, where there are none. Remove one when nobody is
 * in it.
 */
#define GUEST_GROUP_NAME	64
int guest_group_make(char group[GUEST_GROUP_NAME]);
int guest_group_remove(const char *group);
int guest_group_write(const char *group, const char *name, const char *value);

/* As guest_value() of a file; and in bytes, one of memory.stat. */
long guest_group_value(const char *group, const char *name, const char *key);
long guest_group_stat(const char *group, const char *key);

/* Wait until it is at most @limit: RCU and deferred work take their time. */
int guest_group_settles(const char *group, const char *key, long limit);

/*
 * A userfaultfd for what is missing in [@addr, @addr + @length), with more @flags,
 * such as UFFD_USER_MODE_ONLY. Returns it, or a negative errno.
 */
int guest_uffd(void *addr, size_t length, int flags);

/*
 * Answer for @length bytes at @addr. Returns 1 where a page is there already: it
 * stays as it is.
 */
int guest_uffd_copy(int uffd, void *addr, const void *content, size_t length);

#endif
