/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * odp-bench: what its files have in common.
 *
 * A case is an entry of a table. With a kind of memory, a way to register and a
 * size it makes a figure, and its run() measures that once: a round. The memory
 * under test is the target of each transfer: what a WRITE goes to, a READ comes
 * from, or a SEND is received in. The other end is pinned, the staging memory.
 *
 * Functions return 0 or a negative errno with a line of text in odp_error(), as
 * the library does, or one of the errors below.
 */
#ifndef ODP_BENCH_H
#define ODP_BENCH_H

#include "../bench.h"

#include <pthread.h>

#define PAGE		4096UL
#define GIB		(1024 * ODP_MIB)
#define STAGING		(16 * ODP_MIB)

/* Beside the errnos: this machine has it not; bytes are not what they should be. */
enum { UNSUPPORTED = 10000, WRONG_BYTES };

enum access { NONE, PINNED, ODP, IMPLICIT, ACCESSES };

/* Sets of these, and of memory kinds */
#define BIT(n)		(1U << (n))
#define UNPINNED	(BIT(ODP) | BIT(IMPLICIT))
#define BOTH		(BIT(PINNED) | BIT(ODP))
#define REGISTERED	(BIT(PINNED) | UNPINNED)
#define ANON		BIT(ODP_MEM_ANON)
#define THP		BIT(ODP_MEM_THP)
#define MEMFD		BIT(ODP_MEM_MEMFD)
#define EXT4		BIT(ODP_MEM_EXT4)
#define SPECIAL		(BIT(ODP_MEM_KINDS) - 1 - ANON)

enum op { WRITE, READ, SEND };

/* What queue pairs have in common. */
enum layout { ONE_PAGE, ONE_MR, MR_EACH };

/* Where the memory is when the device comes to it. */
enum state {
	ABSENT,		/* no page has been touched */
	RESIDENT,	/* the CPU has, the device has not */
	SWAPPED,
	CLEAN,		/* the device has read each page */
	DIRTY,		/* the device has written each page */
};

#define MAX_SIZES	8

struct bench;

struct bench_case {
	const char *name;
	const char *unit;
	const char *what;
	int (*run)(struct bench *bench, double *value);
	unsigned int accesses;		/* bits of enum access */
	unsigned int kinds;		/* bits of enum odp_mem_kind */
	size_t sizes[MAX_SIZES];	/* up to the first 0; only that: no size */

	/* What run() is told; each group of cases uses some of them. */
	enum op op;
	enum state state;
	int advice;			/* IBV_ADVISE_MR_ADVICE_ + 1; 0: none */
	enum layout layout;
	int number;			/* in flight, or of queue pairs */
	int (*event)(struct bench *bench, uint64_t *ns);
	bool parallel;			/* wants CPUs that run at the same time */
};

/* Each ends with an entry without a name. */
extern const struct bench_case register_cases[];
extern const struct bench_case first_cases[];
extern const struct bench_case warm_cases[];
extern const struct bench_case invalidate_cases[];
extern const struct bench_case scale_cases[];
extern const struct bench_case pitfall_cases[];

struct region {
	struct odp_mem mem;
	struct odp_mr mr;
};

struct bench {
	struct odp_dev dev;
	struct odp_pair pair;
	struct region staging;
	struct region region;	/* the figure's; it stays open for the next round */
	uint64_t seed;

	/* The figure */
	const struct bench_case *test;
	enum odp_mem_kind kind;
	enum access access;
	size_t size;
};

/* In region.c */

int bench_open(struct bench *bench, const char *device);
void bench_close(struct bench *bench);

/* New queue pairs: those that met an error are of no use. */
int bench_reconnect(struct bench *bench);

/* Fresh memory of the figure's kind in bench->region, in place of what was there. */
int region_map(struct bench *bench, size_t length);

/* Register it as the figure says. */
int region_register(struct bench *bench);
int region_close(struct bench *bench);

/* Both, unless an earlier round has. */
int region_open(struct bench *bench, size_t length);

/* Register any memory so. */
int register_as(struct bench *bench, struct odp_mr *mr, void *addr, size_t length);

/* The CPU writes (or reads) each page of it once. */
void region_touch(struct bench *bench, bool write);

/* Give all of it, or @length bytes of the staging memory, bytes that neither has. */
void region_fill(struct bench *bench);
void staging_fill(struct bench *bench, size_t length);

/*
 * Messages between the region and the same offsets in the staging memory, @step
 * apart. With @advice each is announced before it is sent.
 */
struct sweep {
	enum op op;
	size_t length;
	size_t step;
	size_t count;
	size_t depth;		/* messages in flight */
	int advice;
};

int sweep(struct bench *bench, const struct sweep *sweep);

/* Before a sweep the source's bytes, or both ends', are new; after it both have them. */
int sweep_check(struct bench *bench, const struct sweep *sweep);

/* @ns for each of what the case's unit says. */
double sweep_value(const struct bench *bench, const struct sweep *sweep, uint64_t ns);

#endif
