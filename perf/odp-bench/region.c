// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/* odp-bench: the memory that is measured, and messages to and from it. */
#define _GNU_SOURCE
#include "bench.h"

#include <string.h>
#include <sys/mman.h>

int bench_reconnect(struct bench *bench)
{
	odp_disconnect(&bench->pair);
	return odp_connect(&bench->pair, &bench->dev, NULL);
}

int bench_open(struct bench *bench, const char *device)
{
	struct region *staging = &bench->staging;
	int ret;

	ret = odp_open(&bench->dev, device);
	if (!ret)
		ret = bench_reconnect(bench);
	if (!ret)
		ret = odp_mem_map(&staging->mem, ODP_MEM_ANON, STAGING, NULL);
	if (ret)
		return ret;
	/* fork() would copy what is pinned, and be slow for a reason that is not its own. */
	if (madvise(staging->mem.addr, STAGING, MADV_DONTFORK))
		return odp_fail(errno, "MADV_DONTFORK: %s", strerror(errno));
	staging_fill(bench, STAGING);
	ret = odp_reg(&staging->mr, &bench->dev, staging->mem.addr, STAGING, ODP_ACCESS);
	if (ret == -ENOMEM)
		return odp_fail(ENOMEM, "%zu MiB cannot be pinned; run it as root, or raise ulimit -l",
				STAGING / ODP_MIB);
	return ret;
}

void bench_close(struct bench *bench)
{
	region_close(bench);
	odp_disconnect(&bench->pair);
	odp_dereg(&bench->staging.mr);
	odp_mem_unmap(&bench->staging.mem);
	odp_close(&bench->dev);
}

/* It may be more than there is RAM: a mapping of the library's would be refused. */
static int map_sparse(struct odp_mem *mem, size_t length)
{
	void *addr = mmap(NULL, length, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (addr == MAP_FAILED)
		return odp_fail(errno, "mapping %zu GiB: %s", length / GIB, strerror(errno));
	*mem = (struct odp_mem){
		.kind = ODP_MEM_ANON,
		.addr = addr,
		.length = length,
		.page_size = PAGE,
		.fd = -1,
		.base = addr,
		.base_length = length,
	};
	return 0;
}

int region_map(struct bench *bench, size_t length)
{
	int ret = region_close(bench);

	if (ret)
		return ret;
	if (length >= GIB)
		return map_sparse(&bench->region.mem, length);
	return odp_mem_map(&bench->region.mem, bench->kind, length, NULL);
}

int register_as(struct bench *bench, struct odp_mr *mr, void *addr, size_t length)
{
	int ret;

	switch (bench->access) {
	case NONE:
		return 0;
	case PINNED:
		return odp_reg(mr, &bench->dev, addr, length, ODP_ACCESS);
	case ODP:
		return odp_reg(mr, &bench->dev, addr, length, ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	default:
		ret = odp_reg(mr, &bench->dev, NULL, SIZE_MAX, ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
		/* It is all of memory; offsets are to count from here. */
		mr->iova = (uintptr_t)addr;
		return ret;
	}
}

int region_register(struct bench *bench)
{
	struct region *region = &bench->region;

	return register_as(bench, &region->mr, region->mem.addr, region->mem.length);
}

int region_open(struct bench *bench, size_t length)
{
	int ret;

	if (bench->region.mr.mr)
		return 0;
	ret = region_map(bench, length);
	return ret ? ret : region_register(bench);
}

int region_close(struct bench *bench)
{
	int ret = odp_dereg(&bench->region.mr);

	odp_mem_unmap(&bench->region.mem);
	return ret;
}

void region_touch(struct bench *bench, bool write)
{
	volatile char *at = bench->region.mem.addr;
	size_t i;

	for (i = 0; i < bench->region.mem.length; i += PAGE) {
		if (write)
			at[i] = 1;
		else
			(void)at[i];
	}
}

void region_fill(struct bench *bench)
{
	odp_fill(bench->region.mem.addr, bench->region.mem.length, bench->seed++, 0);
}

void staging_fill(struct bench *bench, size_t length)
{
	odp_fill(bench->staging.mem.addr, length, bench->seed++, 0);
}

static int advise(struct bench *bench, int advice, struct ibv_sge *sge)
{
	int ret = ibv_advise_mr(bench->dev.pd, advice - 1, IBV_ADVISE_MR_FLAG_FLUSH, sge, 1);

	if (ret == EOPNOTSUPP)
		return odp_fail(UNSUPPORTED, "this libibverbs cannot advise rxe: make rdma-core");
	if (ret)
		return odp_fail(ret, "ibv_advise_mr: %s", strerror(ret));
	return 0;
}

static int post(struct bench *bench, const struct sweep *s, size_t at)
{
	static const enum ibv_wr_opcode opcodes[] = {
		[WRITE] = IBV_WR_RDMA_WRITE,
		[READ] = IBV_WR_RDMA_READ,
		[SEND] = IBV_WR_SEND,
	};
	struct ibv_sge local = odp_sge(&bench->staging.mr, at, s->length);
	struct ibv_sge target = odp_sge(&bench->region.mr, at, s->length);
	int ret = 0;

	if (s->advice)
		ret = advise(bench, s->advice, &target);
	if (!ret && s->op == SEND)
		ret = odp_post_recv(&bench->pair.remote, 0, &target, 1);
	if (!ret)
		ret = odp_post(&bench->pair.local, opcodes[s->op], 0, &local, 1, &bench->region.mr,
			       at);
	return ret;
}

int sweep(struct bench *bench, const struct sweep *s)
{
	static const char *const names[] = { "RDMA WRITE", "RDMA READ", "SEND" };
	size_t i;
	int ret = 0;

	for (i = 0; i < s->count + s->depth && !ret; i++) {
		if (i >= s->depth)
			ret = odp_wait_success(&bench->pair.local, names[s->op], s->length);
		if (!ret && i >= s->depth && s->op == SEND)
			ret = odp_wait_success(&bench->pair.remote, "RECV", s->length);
		if (!ret && i < s->count)
			ret = post(bench, s, i * s->step);
	}
	return ret;
}

int sweep_check(struct bench *bench, const struct sweep *s)
{
	const char *is = bench->region.mem.addr, *expected = bench->staging.mem.addr;
	struct odp_mismatch bad;
	size_t i, at;

	for (i = 0; i < s->count; i++) {
		at = i * s->step;
		if (!odp_compare(is + at, expected + at, s->length, &bad))
			return odp_fail(WRONG_BYTES, "%zu bytes of message %zu are wrong, the first one at %zu",
					bad.count, i, bad.offset);
	}
	return 0;
}

double sweep_value(const struct bench *bench, const struct sweep *s, uint64_t ns)
{
	double bytes = (double)s->count * s->length;

	if (!strcmp(bench->test->unit, "ns/MiB"))
		return ns / (bytes / ODP_MIB);
	if (!strcmp(bench->test->unit, "ns/page"))
		return ns / (bytes / PAGE);
	return (double)ns / s->count;
}
