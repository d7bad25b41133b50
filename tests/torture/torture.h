/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What the files of odp-torture share; torture.c says what it is and by which
 * rules. model.c: an arena, its model and the checks. ops.c: the operations.
 */
#ifndef TORTURE_H
#define TORTURE_H

#include "odp.h"

#include <pthread.h>

#define PAGE		4096UL
#define MAX_MESSAGE	(256 * ODP_KIB)
#define PAIRS		4
#define LOG_LINES	32

/*
 * The COW kinds are private mappings of files that have bytes of their own;
 * USERFAULT is anonymous, and each of its missing or write-protected pages is
 * given by a thread of the process.
 */
enum kind {
	ANONYMOUS, LAZYFREE, THP, HUGETLB, MEMFD, EXT4, FSDAX, EXT4_COW, FSDAX_COW, USERFAULT, KINDS
};

#define BIT(n)		(1u << (n))
#define FREEABLE	(BIT(ANONYMOUS) | BIT(LAZYFREE) | BIT(THP))
#define COPIES		(BIT(EXT4_COW) | BIT(FSDAX_COW))
#define SMALL_PRIVATE	(FREEABLE | COPIES | BIT(USERFAULT))
#define PRIVATE		(SMALL_PRIVATE | BIT(HUGETLB))
#define FILES		(BIT(MEMFD) | BIT(EXT4) | BIT(FSDAX))

/* What is known of a page: see "Lazily freed pages" in torture.c. */
enum page_state {
	KNOWN,			/* it equals the model */
	LAZY,			/* the model or zeroes, and may still turn to zeroes */
	MAYBE,			/* the model or the alternative, whichever it was when written */
};

struct arena {
	enum kind kind;
	const char *name;
	struct odp_mem mem;
	struct odp_mr mr;
	size_t start;		/* of the MR in the memory; its end is mr.length later */
	uint8_t *fresh;		/* what a new mapping of it holds; NULL: zeroes */
	uint8_t *model;		/* what all of the memory must hold */
	uint8_t *alternative;	/* what else a page that is MAYBE may hold */
	uint8_t *state;		/* of each page */
	int uffd;		/* of USERFAULT, answered by: */
	pthread_t handler;
	bool failed;
	char skip[256];		/* why there is no such arena, or "" */
};

/* A part of an arena's memory. */
struct range {
	struct arena *arena;
	size_t offset;
	size_t length;
};

/* A thread's stream of operations, and all that it works on. */
struct torture {
	struct odp_dev *dev;
	uint64_t seed;
	unsigned int number;	/* of the thread */
	bool alone;		/* nobody else maps memory in this process */
	bool trace;

	struct arena arenas[KINDS];
	struct arena *present[KINDS];
	int count;		/* of present[] */
	struct odp_pair pairs[PAIRS];
	uint8_t *bounce;	/* MAX_MESSAGE bytes, or one arena */
	int gpu;		/* the stand-in of the kernel's test_hmm, or negative */

	uint64_t op;		/* the number of this operation */
	uint64_t rng;		/* begins anew with each */
	uint64_t messages;
	uint64_t bytes;
	uint64_t events;

	char log[LOG_LINES][160];
	uint64_t logged;
	char error[1024];	/* the first failure, "" without one */
};

/* --- model.c ---------------------------------------- */

/* The kind of that name, or -EINVAL. */
int kind_find(const char *name);
const char *kind_name(enum kind kind);

static inline bool is_private(const struct arena *arena)
{
	return BIT(arena->kind) & PRIVATE;
}

static inline uint8_t *arena_at(const struct arena *arena, size_t offset)
{
	return (uint8_t *)arena->mem.addr + offset;
}

/* -ENODEV: there is no such memory here, and @arena->skip says why. */
int arena_open(struct torture *t, struct arena *arena, enum kind kind);
void arena_close(struct arena *arena);
int arena_register(struct torture *t, struct arena *arena);

/* Map the range anew, with whatever there is then: see model_fresh(). */
int arena_remap(struct range range);

/* The same to the models as was, or will be, done to the memory. */
void model_write(struct range range, const uint8_t *bytes);
void model_zero(struct range range);
void model_fresh(struct range range);	/* private memory that is mapped anew */
void model_free(struct range range);	/* settled before */

/* By the CPU, to memory and model. */
void cpu_write(struct torture *t, struct range range, uint64_t seed);

/* All pages that touch the range must hold what the rules say: -EBADMSG. */
int check_range(struct range range);
int check_arena(struct arena *arena);

/* Make what the pages hold known, by a write where only that helps. */
int settle(struct range range);

/* --- userfault.c ---------------------------------------- */

/* -ENODEV: the kernel has no such thing for us. */
int userfault_open(struct arena *arena);
void userfault_close(struct arena *arena);

/* A range that was just mapped: its faults go to the arena's handler, if it has one. */
int arena_arm(struct range range);

/* An event: the next write to each page is a fault. */
int write_protect(struct torture *t, struct range range);

/* --- ops.c ---------------------------------------- */

/* Note what is being done, for the report of a failure. */
void note(struct torture *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A number below @limit, from this operation's series. */
uint64_t below(struct torture *t, uint64_t limit);

/* Operation @t->op. */
int run_op(struct torture *t);

int open_pairs(struct torture *t);
void close_pairs(struct torture *t);

#endif
