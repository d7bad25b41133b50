// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* odp-bench: memory that the device has used before. */
#define _GNU_SOURCE
#include "bench.h"

#define SPAN		(2 * ODP_MIB)	/* what a round moves, */
#define MESSAGES	1024		/* in no more messages than these */

/* The round that does not count is the first use. */
static int run_warm(struct bench *bench, double *value)
{
	struct sweep s = {
		.op = bench->test->op,
		.length = bench->size,
		.step = bench->size,
		.count = SPAN / bench->size,
		.depth = bench->test->number,
	};
	uint64_t start;
	int ret;

	if (s.count > MESSAGES)
		s.count = MESSAGES;
	if (!s.count)
		s.count = 1;
	ret = region_open(bench, s.count * s.step);
	if (ret)
		return ret;
	if (s.op == READ)
		region_fill(bench);
	else
		staging_fill(bench, s.count * s.step);
	start = odp_now();
	ret = sweep(bench, &s);
	*value = sweep_value(bench, &s, odp_now() - start);
	return ret ? ret : sweep_check(bench, &s);
}

#define WARM(_name, _op, _number, _unit, _what, _accesses, _kinds, ...)			\
	{ .name = _name, .op = _op, .number = _number, .unit = _unit, .what = _what,	\
	  .run = run_warm, .accesses = _accesses, .kinds = _kinds, .sizes = { __VA_ARGS__ } }

#define ONE(_name, _OP, _accesses, _kinds, ...)						\
	WARM("warm_" _name, _OP, 1, "ns/message", #_OP ", one at a time", _accesses, _kinds,	\
	     __VA_ARGS__)

#define STREAM(_name, _OP, _accesses, _kinds, ...)					\
	WARM("stream_" _name, _OP, 16, "ns/MiB", #_OP ", up to 16 in flight", _accesses,	\
	     _kinds, __VA_ARGS__)

#define RATE(_name, _OP)								\
	WARM("rate_" _name, _OP, 64, "ns/message", #_OP ", 64 in flight", REGISTERED, ANON,	\
	     64, PAGE)

#define ALL_SIZES	8, 64, PAGE, 64 * ODP_KIB, ODP_MIB, 4 * ODP_MIB

const struct bench_case warm_cases[] = {
	ONE("write", WRITE, REGISTERED, ANON, ALL_SIZES),
	ONE("write", WRITE, BOTH, THP, 64, PAGE, ODP_MIB),
	ONE("write", WRITE, BOTH, MEMFD, ODP_MIB),
	/* What first touch in them is beside. */
	ONE("write", WRITE, BIT(ODP), SPECIAL & ~(THP | MEMFD), ODP_MIB),
	ONE("read", READ, REGISTERED, ANON, ALL_SIZES),
	ONE("read", READ, BOTH, THP, PAGE, ODP_MIB),
	ONE("read", READ, BIT(ODP), MEMFD, ODP_MIB),
	ONE("send", SEND, REGISTERED, ANON, ALL_SIZES),
	ONE("send", SEND, BOTH, THP, PAGE, ODP_MIB),
	STREAM("write", WRITE, REGISTERED, ANON, PAGE, ODP_MIB),
	STREAM("write", WRITE, BOTH, THP, ODP_MIB),
	STREAM("read", READ, REGISTERED, ANON, PAGE, ODP_MIB),
	STREAM("read", READ, BOTH, THP, ODP_MIB),
	STREAM("send", SEND, REGISTERED, ANON, PAGE, ODP_MIB),
	STREAM("send", SEND, BOTH, THP, ODP_MIB),
	RATE("write", WRITE),
	RATE("send", SEND),
	{}
};
