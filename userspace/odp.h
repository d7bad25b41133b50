/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * odp - the library under the demo, the benchmark and the tests: one RDMA
 * device, pairs of RC queue pairs connected to each other on it, memory of
 * every kind to register, and a pattern that shows a byte in the wrong place.
 *
 * Conventions
 *
 * Errors:    functions that return int return 0 or a negative errno;
 *	      odp_error() then is one line of text that says what failed.
 * Units:     lengths and offsets in bytes, times in nanoseconds unless the
 *	      name ends in _ms.
 * Ownership: the caller owns every struct; open/map/reg/connect fill it in,
 *	      and close/unmap/dereg/disconnect release what it holds. These may
 *	      be called on a zeroed struct, and twice. Release in reverse order.
 * Threads:   nothing is shared between devices and pairs, odp_error() is per
 *	      thread; two threads may not use one pair at once.
 */
#ifndef ODP_H
#define ODP_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ODP_KIB		(1UL << 10)
#define ODP_MIB		(1UL << 20)

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#endif

/* What went wrong in this thread's last failed call. Never NULL. */
const char *odp_error(void);

/* Set the message and return -err, for code that adds to the library. */
int odp_fail(int err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* A number from @low to @high, as strtoull() reads it, and nothing behind it. */
int odp_parse_number(const char *text, uint64_t low, uint64_t high,
		     uint64_t *value);

/* CLOCK_MONOTONIC, in ns. */
uint64_t odp_now(void);

/* --- the device ---------------------------------------------------------- */

struct odp_dev {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	char name[64];
	uint8_t port;
	int gid_index;		/* the RoCE v2 entry with an IPv4 address */
	union ibv_gid gid;
	uint32_t index;		/* as rdma netlink numbers the devices */
	uint64_t odp_general;	/* IBV_ODP_SUPPORT, IBV_ODP_SUPPORT_IMPLICIT */
	uint32_t odp_rc;	/* IBV_ODP_SUPPORT_SEND, ... for RC; 0 without ODP */
	uint32_t odp_uc;
	uint32_t odp_ud;
	struct ibv_device_attr attr;
};

/*
 * Open the device called @name; with NULL the first soft-RoCE device, or else
 * the first one that has an IPv4 GID. A kernel without ODP is no error: see
 * odp_supported().
 */
int odp_open(struct odp_dev *dev, const char *name);
void odp_close(struct odp_dev *dev);

/* True where explicit ODP MRs work for RC SEND, RECV, WRITE and READ. */
bool odp_supported(const struct odp_dev *dev);

/* --- memory regions ------------------------------------------------------ */

#define ODP_ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | \
			 IBV_ACCESS_REMOTE_READ)

struct odp_mr {
	struct odp_dev *dev;
	struct ibv_mr *mr;
	void *addr;
	size_t length;
	uint64_t iova;		/* what SGEs and remote addresses count from */
	int access;
	uint32_t mrn;		/* its number in rdma netlink, see odp_counters() */
};

/*
 * Register [@addr, @addr + @length). @access is a set of IBV_ACCESS_ flags:
 * ODP_ACCESS pins the memory, ODP_ACCESS | IBV_ACCESS_ON_DEMAND does not.
 */
int odp_reg(struct odp_mr *mr, struct odp_dev *dev, void *addr, size_t length,
	    int access);

/* The same at another I/O address; the kernel wants the same offset in a page. */
int odp_reg_iova(struct odp_mr *mr, struct odp_dev *dev, void *addr,
		 size_t length, uint64_t iova, int access);
int odp_dereg(struct odp_mr *mr);

/* The SGE for @length bytes at @offset of the MR. */
struct ibv_sge odp_sge(const struct odp_mr *mr, size_t offset, size_t length);

struct odp_counters {
	uint64_t faults;
	uint64_t invalidations;
	uint64_t prefetch;
};

/*
 * Read the MR's counters, as `rdma statistic show mr` does. -ENODATA: this
 * kernel keeps none for this MR. Needs CAP_NET_ADMIN the first time for an MR,
 * to find its number.
 */
int odp_counters(struct odp_mr *mr, struct odp_counters *counters);

/* --- queue pairs ---------------------------------------------------------- */

struct odp_end {
	struct ibv_cq *cq;	/* for sends and receives */
	struct ibv_qp *qp;
	struct ibv_srq *srq;	/* or NULL */
	struct ibv_ah *ah;	/* UD only: the way to the peer */
	uint32_t peer;		/* the other end's QP number */
};

/* Two queue pairs of one device, connected to each other. */
struct odp_pair {
	struct odp_dev *dev;
	struct odp_end local;	/* the requester in odp_write() and its like */
	struct odp_end remote;
};

struct odp_pair_attr {
	int mtu;		/* 256, 512, 1024, 2048 or 4096 */
	int timeout;		/* local ACK timeout: 4.096 us << timeout */
	int retry_cnt;		/* 7: rxe retries for ever */
	int rnr_retry;		/* 7: for ever */
	int max_wr;
	int max_sge;
	enum ibv_qp_type type;	/* IBV_QPT_RC where 0; or IBV_QPT_UC, IBV_QPT_UD */
	bool srq;		/* receives go to a shared receive queue at each end */
};

/*
 * A second of silence before a resend: under emulation less than that expires
 * while both sides are at work.
 */
#define ODP_PAIR_ATTR_INIT { .mtu = 1024, .timeout = 18, .retry_cnt = 6, \
			     .rnr_retry = 7, .max_wr = 64, .max_sge = 16 }

/* Create and connect. @attr may be NULL, for ODP_PAIR_ATTR_INIT. */
int odp_connect(struct odp_pair *pair, struct odp_dev *dev,
		const struct odp_pair_attr *attr);
void odp_disconnect(struct odp_pair *pair);

/* How another process finds an end: any way to hand it over will do. */
struct odp_address {
	union ibv_gid gid;
	uint32_t qp_num;
};

/*
 * The same with the other end in another process: this pair has a local end
 * only, with ODP_PAIR_ATTR_INIT, and odp_send() is not for it. Both processes
 * begin, hand @self to each other, and connect; a request that comes before the
 * end it is for has connected is lost, and resent after a second.
 */
int odp_connect_begin(struct odp_pair *pair, struct odp_dev *dev,
		      struct odp_address *self);
int odp_connect_to(struct odp_pair *pair, const struct odp_address *peer);

/*
 * Post one signalled work request. @remote and @remote_offset only count for
 * WRITE and READ. -EINVAL and the like come from the provider.
 */
int odp_post(struct odp_end *end, enum ibv_wr_opcode opcode, uint64_t wr_id,
	     struct ibv_sge *sge, int num_sge,
	     const struct odp_mr *remote, size_t remote_offset);
int odp_post_recv(struct odp_end *end, uint64_t wr_id, struct ibv_sge *sge,
		  int num_sge);

/* How long the functions below wait for a completion. */
#define ODP_WAIT_MS	60000

/*
 * Take one completion, whatever its status. Calls sched_yield() while the CQ is
 * empty, so that instruction-counted time does not count the waiting.
 * -ETIMEDOUT after @timeout_ms.
 */
int odp_wait(struct odp_end *end, struct ibv_wc *wc, int timeout_ms);

/*
 * Take one completion and want success, and for a receive @length bytes; @what
 * is for the message. -EREMOTEIO otherwise, -ETIMEDOUT after ODP_WAIT_MS.
 */
int odp_wait_success(struct odp_end *end, const char *what, size_t length);

/*
 * Move @length bytes between @local_offset of @local and @remote_offset of
 * @remote in one message, and wait until it has completed. odp_send() posts the
 * receive as well and takes both completions. -EREMOTEIO: it completed with an
 * error, and the pair is unusable from there on; odp_error() has the status.
 */
int odp_write(struct odp_pair *pair,
	      const struct odp_mr *local, size_t local_offset,
	      const struct odp_mr *remote, size_t remote_offset, size_t length);
int odp_read(struct odp_pair *pair,
	     const struct odp_mr *local, size_t local_offset,
	     const struct odp_mr *remote, size_t remote_offset, size_t length);
int odp_send(struct odp_pair *pair,
	     const struct odp_mr *local, size_t local_offset,
	     const struct odp_mr *remote, size_t remote_offset, size_t length);

/* --- memory to register --------------------------------------------------- */

enum odp_mem_kind {
	ODP_MEM_ANON,		/* 4 KiB pages, huge pages ruled out */
	ODP_MEM_THP,
	ODP_MEM_HUGETLB,	/* 2 MiB pages */
	ODP_MEM_MEMFD,
	ODP_MEM_EXT4,		/* a file in the page cache */
	ODP_MEM_FSDAX,		/* a file that is its own memory */
	ODP_MEM_KINDS,
};

struct odp_mem {
	enum odp_mem_kind kind;
	void *addr;
	size_t length;		/* rounded up to whole pages */
	size_t page_size;	/* of the pages that one hopes for */
	int fd;			/* -1 for anonymous kinds; the file is unlinked */
	void *base;		/* what was mapped, for unmap */
	size_t base_length;
};

const char *odp_mem_name(enum odp_mem_kind kind);
int odp_mem_kind(const char *name);	/* or -EINVAL */

/*
 * Map fresh, untouched, zero memory. @dir is where the file goes, NULL for
 * /mnt/ext4 and /mnt/pmem; files are sparse and have no name. -ENODEV: there is
 * none of this kind here, and odp_error() is "unavailable: " with the reason.
 */
int odp_mem_map(struct odp_mem *mem, enum odp_mem_kind kind, size_t length,
		const char *dir);
void odp_mem_unmap(struct odp_mem *mem);

/*
 * Throw the pages of a page-aligned range away, so that it reads as zeroes and
 * every mapping of it is invalidated: MADV_DONTNEED, and for files a hole.
 */
int odp_mem_discard(struct odp_mem *mem, size_t offset, size_t length);

/* Map the same place anew with MAP_FIXED; only a file keeps its bytes. */
int odp_mem_remap(struct odp_mem *mem, size_t offset, size_t length);

/* --- the pattern ----------------------------------------------------------- */

/*
 * Byte i of the pattern @seed depends on the seed and on i, so that bytes that
 * are shifted, swapped or stale show. Fill @buf with bytes [@offset, @offset +
 * @length) of it.
 */
void odp_fill(void *buf, size_t length, uint64_t seed, uint64_t offset);

struct odp_mismatch {
	size_t offset;		/* of the first bad byte, from the buffer's start */
	size_t count;		/* bad bytes in all */
	uint8_t expected;
	uint8_t got;
};

/* True where all bytes are right; @bad (may be NULL) is set otherwise. */
bool odp_verify(const void *buf, size_t length, uint64_t seed, uint64_t offset,
		struct odp_mismatch *bad);

/* The same against other memory, and against zeroes with @expected NULL. */
bool odp_compare(const void *buf, const void *expected, size_t length,
		 struct odp_mismatch *bad);

/* The next number of the repeatable series in @state; any state starts one. */
uint64_t odp_random(uint64_t *state);

#endif
