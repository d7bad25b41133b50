// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-torture: an arena, which is memory with an ODP MR, and its model, which
 * is plain memory that follows by the rules in torture.c.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct {
	const char *name;
	enum odp_mem_kind mem;
	size_t size;
} kinds[KINDS] = {
	[ANONYMOUS] =	{ "anonymous",	ODP_MEM_ANON,	ODP_MIB },
	[LAZYFREE] =	{ "lazyfree",	ODP_MEM_ANON,	ODP_MIB },
	[THP] =		{ "thp",	ODP_MEM_THP,	4 * ODP_MIB },
	[HUGETLB] =	{ "hugetlb",	ODP_MEM_HUGETLB, 4 * ODP_MIB },
	[MEMFD] =	{ "memfd",	ODP_MEM_MEMFD,	2 * ODP_MIB },
	[EXT4] =	{ "ext4",	ODP_MEM_EXT4,	ODP_MIB },
	[FSDAX] =	{ "fsdax",	ODP_MEM_FSDAX,	2 * ODP_MIB },
	[EXT4_COW] =	{ "ext4-private", ODP_MEM_EXT4,	ODP_MIB },
	[FSDAX_COW] =	{ "fsdax-private", ODP_MEM_FSDAX, 2 * ODP_MIB },
	[USERFAULT] =	{ "userfault",	ODP_MEM_ANON,	ODP_MIB },
};

const char *kind_name(enum kind kind)
{
	return kinds[kind].name;
}

int kind_find(const char *name)
{
	int kind;

	for (kind = 0; kind < KINDS; kind++)
		if (!strcmp(name, kinds[kind].name))
			return kind;
	return odp_fail(EINVAL, "no kind of arena is called %s", name);
}

/* A region of all memory, of which only the arena's part is used. */
static int register_implicit(struct torture *t, struct arena *arena, size_t length)
{
	int ret = odp_reg(&arena->mr, t->dev, NULL, SIZE_MAX, ODP_ACCESS | IBV_ACCESS_ON_DEMAND);

	arena->mr.addr = arena_at(arena, arena->start);
	arena->mr.iova = (uintptr_t)arena->mr.addr;
	arena->mr.length = length;
	return ret;
}

/* At another I/O address each time: no decision depends on it. */
int arena_register(struct torture *t, struct arena *arena)
{
	size_t length = arena->mr.length;
	uint64_t iova = (uintptr_t)arena_at(arena, arena->start);

	if (t->dev->odp_general & IBV_ODP_SUPPORT_IMPLICIT && !below(t, 4))
		return register_implicit(t, arena, length);
	if (below(t, 2))
		iova = (odp_random(&t->rng) >> 17 & -PAGE) | iova % PAGE;
	return odp_reg_iova(&arena->mr, t->dev, arena_at(arena, arena->start), length, iova,
			    ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
}

int arena_remap(struct range r)
{
	struct odp_mem *mem = &r.arena->mem;

	if (!(BIT(r.arena->kind) & COPIES))
		return odp_mem_remap(mem, r.offset, r.length) ?: arena_arm(r);
	if (mmap(arena_at(r.arena, r.offset), r.length, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_FIXED, mem->fd, r.offset) == MAP_FAILED)
		return odp_fail(errno, "mmap: %s", strerror(errno));
	return 0;
}

/* The file gets its bytes, which nobody changes, and is mapped so that it is copied. */
static int open_copy(struct torture *t, struct arena *arena)
{
	struct odp_mem *mem = &arena->mem;

	arena->fresh = malloc(mem->length);
	if (!arena->fresh)
		return odp_fail(ENOMEM, "out of memory");
	odp_fill(arena->fresh, mem->length, odp_random(&t->rng), 0);
	memcpy(arena->model, arena->fresh, mem->length);
	if (pwrite(mem->fd, arena->fresh, mem->length, 0) != (ssize_t)mem->length)
		return odp_fail(EIO, "pwrite: %s", strerror(errno));
	return arena_remap((struct range){ arena, 0, mem->length });
}

/* The MR is less than the memory, and starts and ends on any byte. */
int arena_open(struct torture *t, struct arena *arena, enum kind kind)
{
	int ret;

	memset(arena, 0, sizeof(*arena));
	arena->kind = kind;
	arena->name = kinds[kind].name;
	ret = odp_mem_map(&arena->mem, kinds[kind].mem, kinds[kind].size, NULL);
	if (!ret && kind == USERFAULT) {
		ret = userfault_open(arena);
		if (ret)
			odp_mem_unmap(&arena->mem);
	}
	if (ret) {
		snprintf(arena->skip, sizeof(arena->skip), "%s", odp_error());
		return ret;
	}
	arena->model = calloc(1, arena->mem.length);
	arena->alternative = calloc(1, arena->mem.length);
	arena->state = calloc(1, arena->mem.length / PAGE);
	if (!arena->model || !arena->alternative || !arena->state)
		return odp_fail(ENOMEM, "out of memory");
	ret = BIT(kind) & COPIES ? open_copy(t, arena) : 0;
	if (ret)
		return ret;
	arena->start = below(t, 2 * PAGE);
	arena->mr.length = arena->mem.length - arena->start - below(t, 2 * PAGE);
	return arena_register(t, arena);
}

void arena_close(struct arena *arena)
{
	odp_dereg(&arena->mr);
	if (arena->kind == USERFAULT)
		userfault_close(arena);
	free(arena->fresh);
	free(arena->model);
	free(arena->alternative);
	free(arena->state);
	odp_mem_unmap(&arena->mem);
}

/* --- the model ---------------------------------------- */

/* Call for each page that the range touches, with what it takes of it. */
#define for_each_page(page, part, range)						\
	for ((page) = (range).offset / PAGE, (part) = (range).offset;			\
	     (part) < (range).offset + (range).length;					\
	     (page)++, (part) = (page) * PAGE)

/* How much of the range is in the page of @part, which is in the range. */
static size_t in_page(struct range range, size_t part)
{
	size_t left = range.offset + range.length - part, room = PAGE - part % PAGE;

	return left < room ? left : room;
}

void model_write(struct range range, const uint8_t *bytes)
{
	struct arena *arena = range.arena;
	size_t page, part;

	for_each_page(page, part, range) {
		size_t n = in_page(range, part);

		if (n == PAGE)
			arena->state[page] = KNOWN;
		else if (arena->state[page] == LAZY)
			arena->state[page] = MAYBE;
		memcpy(arena->model + part, bytes, n);
		if (arena->state[page] == MAYBE)
			memcpy(arena->alternative + part, bytes, n);
		bytes += n;
	}
}

/* Whole pages, or a file, which has no others than known ones. */
void model_zero(struct range range)
{
	size_t page, part;

	memset(range.arena->model + range.offset, 0, range.length);
	for_each_page(page, part, range)
		range.arena->state[page] = KNOWN;
}

void model_fresh(struct range range)
{
	if (range.arena->fresh)
		model_write(range, range.arena->fresh + range.offset);
	else
		model_zero(range);
}

void model_free(struct range range)
{
	size_t page, part;

	memset(range.arena->alternative + range.offset, 0, range.length);
	for_each_page(page, part, range)
		range.arena->state[page] = LAZY;
}

void cpu_write(struct torture *t, struct range range, uint64_t seed)
{
	odp_fill(t->bounce, range.length, seed, 0);
	memcpy(arena_at(range.arena, range.offset), t->bounce, range.length);
	model_write(range, t->bounce);
}

/* --- checks ---------------------------------------- */

static int dump(char *text, size_t size, const char *what, const uint8_t *bytes)
{
	int i, n = snprintf(text, size, "\n%s", what);

	for (i = 0; i < 24; i++)
		n += snprintf(text + n, size - n, " %02x", bytes[i]);
	return n;
}

/* The report of a bad page: where it begins to differ, by how much, the bytes there. */
static int report_page(struct arena *arena, size_t page, const uint8_t *got)
{
	static const char *const states[] = {
		[KNOWN] = "known", [LAZY] = "lazily freed", [MAYBE] = "written after MADV_FREE",
	};
	size_t at = page * PAGE, from;
	struct odp_mismatch bad;
	char text[400];
	int n = 0;

	odp_compare(got, arena->model + at, PAGE, &bad);
	from = bad.offset < PAGE - 24 ? bad.offset : PAGE - 24;
	n += dump(text + n, sizeof(text) - n, "expected:", arena->model + at + from);
	if (arena->state[page] != KNOWN)
		n += dump(text + n, sizeof(text) - n, "or:      ",
			  arena->alternative + at + from);
	dump(text + n, sizeof(text) - n, "got:     ", got + from);
	arena->failed = true;
	return odp_fail(EBADMSG, "%s memory at %#zx (page %zu of %zu, %s; address %p; MR from %#zx to %#zx, iova %#lx): got %#04x, expected %#04x, %zu bytes of the page wrong%s\nbytes from %#zx:%s",
			arena->name, at + bad.offset, page, arena->mem.length / PAGE,
			states[arena->state[page]], (void *)arena_at(arena, at + bad.offset),
			arena->start, arena->start + arena->mr.length, arena->mr.iova,
			bad.got, bad.expected, bad.count,
			odp_compare(got, NULL, PAGE, NULL) ? ", all of it reads zero" : "",
			at + from, text);
}

/* See "Lazily freed pages": what such a page holds becomes known by reading it. */
static int check_unknown(struct arena *arena, size_t page)
{
	size_t at = page * PAGE;
	uint8_t got[PAGE];
	int tries;

	/* A page can be dropped while it is being read, but only once. */
	for (tries = 0; tries < 2; tries++) {
		memcpy(got, arena_at(arena, at), PAGE);
		if (!memcmp(got, arena->model + at, PAGE)) {
			if (arena->state[page] == MAYBE)
				arena->state[page] = KNOWN;
			return 0;
		}
		if (!memcmp(got, arena->alternative + at, PAGE)) {
			memcpy(arena->model + at, got, PAGE);
			arena->state[page] = KNOWN;
			return 0;
		}
		if (arena->state[page] == MAYBE)
			break;
	}
	return report_page(arena, page, got);
}

int check_range(struct range range)
{
	struct arena *arena = range.arena;
	uint8_t got[PAGE];
	size_t page, part;
	int ret;

	for_each_page(page, part, range) {
		size_t at = page * PAGE;

		if (arena->state[page] == KNOWN) {
			if (!memcmp(arena_at(arena, at), arena->model + at, PAGE))
				continue;
			memcpy(got, arena_at(arena, at), PAGE);
			return report_page(arena, page, got);
		}
		ret = check_unknown(arena, page);
		if (ret)
			return ret;
	}
	return 0;
}

int check_arena(struct arena *arena)
{
	return check_range((struct range){ arena, 0, arena->mem.length });
}

int settle(struct range range)
{
	struct arena *arena = range.arena;
	size_t page, part;
	int ret;

	for_each_page(page, part, range) {
		struct range byte = { arena, page * PAGE, 1 };

		if (arena->state[page] == LAZY) {
			/* After a write it can no longer be dropped. */
			uint8_t other = arena->model[byte.offset] ^ 0x5a;

			*arena_at(arena, byte.offset) = other;
			model_write(byte, &other);
		}
		if (arena->state[page] == MAYBE) {
			ret = check_unknown(arena, page);
			if (ret)
				return ret;
		}
	}
	return 0;
}
