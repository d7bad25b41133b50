// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-demo: RDMA on memory of every kind, none of it pinned, each byte checked.
 *
 * For each kind of memory: register it pinned and on demand; write to it over
 * RDMA, which faults it in; take the pages away from the device and read it
 * back; throw part of it away, see zeroes, write other bytes, check those.
 */
#define _GNU_SOURCE
#include "odp.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#define CHUNKS		16
#define MAX_CHUNK	ODP_MIB		/* one message */
#define MIN_SIZE	(4 * ODP_MIB)

#define HEADER_FORMAT	"%-10s %10s  %11s %8s  %9s %9s  %7s %7s  %8s\n"
#define ROW_FORMAT	"%-10s %6zu MiB  %11s %8.3f  %5zu MiB %5zu MiB  %7lu %7lu  %4zu MiB\n"

struct row {
	struct odp_mem mem;
	struct odp_mr mr;
	struct odp_counters before;
	uint64_t register_ns;
	size_t written;
	size_t read;
	size_t verified;
};

struct demo {
	struct odp_dev dev;
	struct odp_pair pair;
	struct odp_mem staging;		/* the other end of every transfer: pinned */
	struct odp_mr staging_mr;
	size_t size;
	size_t chunk;
};

static const enum odp_mem_kind default_kinds[] = {
	ODP_MEM_ANON, ODP_MEM_THP, ODP_MEM_MEMFD, ODP_MEM_EXT4, ODP_MEM_FSDAX,
};

/* Spread over the MR, and on no boundary of anything. */
static size_t chunk_offset(const struct demo *demo, int i)
{
	return i * (demo->size / CHUNKS) + (i * 4099 + 1) % demo->chunk;
}

static int mismatch(const char *what, int chunk, const struct odp_mismatch *bad)
{
	return odp_fail(EBADMSG, "%s, message %d: byte %zu is %#04x and should be %#04x; %zu bytes are wrong",
			what, chunk, bad->offset, bad->got, bad->expected, bad->count);
}

/* RDMA WRITE every chunk with pattern @seed, and look at the memory. */
static int write_and_verify(struct demo *demo, struct row *row, uint64_t seed)
{
	struct odp_mismatch bad;
	int i, ret;

	for (i = 0; i < CHUNKS; i++) {
		size_t offset = chunk_offset(demo, i);

		odp_fill(demo->staging.addr, demo->chunk, seed, offset);
		ret = odp_write(&demo->pair, &demo->staging_mr, 0, &row->mr, offset, demo->chunk);
		if (ret)
			return ret;
		row->written += demo->chunk;
		if (!odp_verify((char *)row->mem.addr + offset, demo->chunk, seed, offset, &bad))
			return mismatch("after RDMA WRITE", i, &bad);
		row->verified += demo->chunk;
	}
	return 0;
}

/* RDMA READ every chunk; look for pattern @seed, or zeroes where @zero. */
static int read_and_verify(struct demo *demo, struct row *row, uint64_t seed, bool zero)
{
	struct odp_mismatch bad;
	int i, ret;

	for (i = 0; i < CHUNKS; i++) {
		size_t offset = chunk_offset(demo, i);
		bool good;

		odp_fill(demo->staging.addr, demo->chunk, ~seed, offset);
		ret = odp_read(&demo->pair, &demo->staging_mr, 0, &row->mr, offset, demo->chunk);
		if (ret)
			return ret;
		row->read += demo->chunk;
		good = zero ? odp_compare(demo->staging.addr, NULL, demo->chunk, &bad) :
			      odp_verify(demo->staging.addr, demo->chunk, seed, offset, &bad);
		if (!good)
			return mismatch("after RDMA READ", i, &bad);
		row->verified += demo->chunk;
	}
	return 0;
}

/* Make every page inaccessible and accessible again: the bytes stay. */
static int invalidate(struct row *row)
{
	if (mprotect(row->mem.addr, row->mem.length, PROT_NONE) ||
	    mprotect(row->mem.addr, row->mem.length, PROT_READ | PROT_WRITE))
		return odp_fail(errno, "mprotect: %s", strerror(errno));
	return 0;
}

static int move_bytes(struct demo *demo, struct row *row)
{
	uint64_t seed = row->mem.kind;
	int ret;

	ret = write_and_verify(demo, row, seed);
	if (!ret)
		ret = invalidate(row);
	if (!ret)
		ret = read_and_verify(demo, row, seed, false);
	if (!ret)
		ret = odp_mem_discard(&row->mem, 0, row->mem.length);
	if (!ret)
		ret = read_and_verify(demo, row, seed, true);
	if (!ret)
		ret = write_and_verify(demo, row, seed + 100);
	return ret;
}

static int map_and_register(struct demo *demo, struct row *row, enum odp_mem_kind kind,
			    int access)
{
	uint64_t start;
	int ret;

	ret = odp_mem_map(&row->mem, kind, demo->size, NULL);
	if (ret)
		return ret;
	start = odp_now();
	ret = odp_reg(&row->mr, &demo->dev, row->mem.addr, row->mem.length, access);
	row->register_ns = odp_now() - start;
	return ret;
}

static int release(struct row *row, int ret)
{
	/* The first error is the one to tell of. */
	if (ret) {
		if (row->mr.mr)
			ibv_dereg_mr(row->mr.mr);
	} else {
		ret = odp_dereg(&row->mr);
	}
	odp_mem_unmap(&row->mem);
	return ret;
}

/* The cell of the pinned column: milliseconds, or the kernel's refusal. */
static int try_pinned(struct demo *demo, enum odp_mem_kind kind, char *cell, size_t size)
{
	struct row row = {};
	int ret;

	ret = map_and_register(demo, &row, kind, ODP_ACCESS);
	if (!ret)
		snprintf(cell, size, "%.3f", row.register_ns / 1e6);
	else if (row.mem.addr)
		snprintf(cell, size, "%s", strerrorname_np(-ret));
	else
		return ret;
	release(&row, ret);
	return 0;
}

static int run_row(struct demo *demo, enum odp_mem_kind kind)
{
	struct odp_counters counters;
	struct row row = {};
	char pinned[32];
	int ret;

	ret = try_pinned(demo, kind, pinned, sizeof(pinned));
	if (ret)
		return ret;
	ret = map_and_register(demo, &row, kind, ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!ret)
		ret = odp_counters(&row.mr, &row.before);
	if (!ret)
		ret = move_bytes(demo, &row);
	if (!ret)
		ret = odp_counters(&row.mr, &counters);
	if (!ret && counters.faults == row.before.faults)
		ret = odp_fail(EPROTO, "bytes moved, but no page fault was counted");
	if (!ret && counters.invalidations == row.before.invalidations)
		ret = odp_fail(EPROTO, "pages went away, but no invalidation was counted");
	if (!ret)
		printf(ROW_FORMAT,
		       odp_mem_name(kind), row.mr.length / ODP_MIB, pinned,
		       row.register_ns / 1e6, row.written / ODP_MIB, row.read / ODP_MIB,
		       counters.faults - row.before.faults,
		       counters.invalidations - row.before.invalidations,
		       row.verified / ODP_MIB);
	return release(&row, ret);
}

static int start(struct demo *demo, const char *device)
{
	struct odp_pair_attr attr = ODP_PAIR_ATTR_INIT;
	struct utsname uts;
	int ret;

	ret = odp_open(&demo->dev, device);
	if (ret)
		return ret;
	uname(&uts);
	if (!odp_supported(&demo->dev))
		return odp_fail(EOPNOTSUPP, "kernel %s has no on-demand paging for %s. Boot the patched kernel:\n"
				"  tests/vm/run --kernel tree --pmem 256M -- build/bin/odp-demo\n"
				"(`make demo` builds and boots it)", uts.release, demo->dev.name);

	attr.mtu = 4096;
	ret = odp_connect(&demo->pair, &demo->dev, &attr);
	if (!ret)
		ret = odp_mem_map(&demo->staging, ODP_MEM_ANON, demo->chunk, NULL);
	if (!ret)
		ret = odp_reg(&demo->staging_mr, &demo->dev, demo->staging.addr,
			      demo->staging.length, ODP_ACCESS);
	if (!ret)
		printf("RDMA on demand-paged memory: %s, kernel %s, RC in loopback, MTU %d\n\n",
		       demo->dev.name, uts.release, attr.mtu);
	return ret;
}

static void stop(struct demo *demo)
{
	odp_disconnect(&demo->pair);
	if (demo->staging_mr.mr)
		ibv_dereg_mr(demo->staging_mr.mr);
	odp_mem_unmap(&demo->staging);
	odp_close(&demo->dev);
}

static int run_rows(struct demo *demo, const enum odp_mem_kind *kinds, int count)
{
	int failed = 0;
	int i;

	printf("%-10s %10s  %s  %s  %s\n", "", "", "-- register in ms --", "-- moved by RDMA --",
	       "-- pages --");
	printf(HEADER_FORMAT, "memory", "registered", "pinned", "ODP", "written", "read",
	       "faulted", "lost", "verified");
	for (i = 0; i < count; i++) {
		fflush(stdout);
		if (!run_row(demo, kinds[i]))
			continue;
		printf("%-10s FAILED: %s\n", odp_mem_name(kinds[i]), odp_error());
		failed++;
		/* A completion with an error leaves the queue pairs dead. */
		odp_disconnect(&demo->pair);
		if (odp_connect(&demo->pair, &demo->dev, NULL)) {
			printf("no new queue pairs: %s\n", odp_error());
			break;
		}
	}
	return failed;
}

static void explain(void)
{
	printf("\nEvery byte was compared: after it was written; when it was read back, the pages having\n"
	       "been taken from the device; and when all of it had been thrown away and written anew.\n"
	       "An error name under \"pinned\" is the kernel's refusal to pin such memory.\n"
	       "\n"
	       "Next: your own program beside it      tests/vm/run -- ./program\n"
	       "      the smallest ODP program        userspace/example.c\n"
	       "                                      tests/vm/run -- build/bin/odp-example /mnt/ext4/file\n"
	       "      counters of a live MR           rdma statistic show mr\n");
}

static void usage(FILE *out)
{
	int kind;

	fprintf(out,
		"usage: odp-demo [options] [KIND...]\n"
		"RDMA to and from on-demand-paged memory of each KIND, every byte verified.\n"
		"\n"
		"  --device NAME   RDMA device (default: the first soft-RoCE device)\n"
		"  --size MIB      register this much a row, 4 to 4096 (default 256); the\n"
		"                  traffic is a quarter of it, and at most 16 MiB, each time\n"
		"  --help          this text\n"
		"\nKinds:");
	for (kind = 0; kind < ODP_MEM_KINDS; kind++)
		fprintf(out, " %s", odp_mem_name(kind));
	fprintf(out, " (default: all but hugetlb)\n");
}

static int parse_kinds(enum odp_mem_kind *kinds, char **names, int count)
{
	int i, kind;

	if (!count) {
		memcpy(kinds, default_kinds, sizeof(default_kinds));
		return ARRAY_SIZE(default_kinds);
	}
	for (i = 0; i < count; i++) {
		kind = odp_mem_kind(names[i]);
		if (kind < 0)
			return kind;
		kinds[i] = kind;
	}
	return count;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "size", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	struct demo demo = { .size = 256 * ODP_MIB };
	enum odp_mem_kind *kinds;
	const char *device = NULL;
	int opt, count, failed;
	uint64_t mib;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'd':
			device = optarg;
			break;
		case 's':
			if (odp_parse_number(optarg, MIN_SIZE / ODP_MIB, 4096, &mib)) {
				fprintf(stderr, "odp-demo: --size in MiB: %s\n", odp_error());
				return 2;
			}
			demo.size = mib * ODP_MIB;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}

	kinds = calloc(argc + ARRAY_SIZE(default_kinds), sizeof(*kinds));
	if (!kinds)
		return 1;
	count = parse_kinds(kinds, argv + optind, argc - optind);
	if (count < 0) {
		fprintf(stderr, "odp-demo: %s\n", odp_error());
		free(kinds);
		return 2;
	}

	demo.size &= -(CHUNKS * ODP_KIB * 4);
	demo.chunk = demo.size / 4 / CHUNKS;
	if (demo.chunk > MAX_CHUNK)
		demo.chunk = MAX_CHUNK;

	if (start(&demo, device)) {
		fprintf(stderr, "odp-demo: %s\n", odp_error());
		failed = 1;
	} else {
		failed = run_rows(&demo, kinds, count);
		if (failed)
			fprintf(stderr, "odp-demo: %d of %d rows failed\n", failed, count);
		else
			explain();
	}
	stop(&demo);
	free(kinds);
	return !!failed;
}
