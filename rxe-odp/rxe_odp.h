/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
#ifndef RXE_ODP_H
#define RXE_ODP_H

#include <linux/mm_mirror.h>

#include <rdma/ib_umem_odp.h>

#include "rxe.h"
#include "rxe_loc.h"

/* Packets that are kept for a step that waits for a fault: for RC all that a
 * requester sends before it wants an answer, for UC and UD fewer than stop a
 * sender on the same device, whose packets these are.
 */
#define RXE_ODP_MAX_QUEUED	(RXE_MAX_UNACKED_PSNS + 32)
#define RXE_ODP_MAX_DATAGRAMS	(RXE_INFLIGHT_SKBS_PER_QP_HIGH / 2)

/* Bits of odp_caps that enum ib_odp_transport_cap_bits does not have yet */
#define RXE_ODP_SUPPORT_FLUSH		BIT(6)
#define RXE_ODP_SUPPORT_ATOMIC_WRITE	BIT(7)

/* How long a responder that waits for a fault tells its requester nothing */
#define RXE_ODP_SILENCE_MS	10

/* What an ODP MR has in place of pages. Faults under way have references. */
struct rxe_odp {
	struct kref		ref;
	struct ib_umem_odp	*umem;
	struct rxe_odp_mm	*mm;
	struct list_head	faults;
	bool			dead;		/* the MR is gone */
};

static inline bool rxe_mr_is_odp(struct rxe_mr *mr)
{
	return mr->odp;
}

/* Is this the whole address space, as it is and as it will be? */
static inline bool rxe_odp_is_implicit(u64 start, u64 length)
{
	return !start && length == U64_MAX;
}

/* Does the step have to wait until a fault has ended? */
static inline bool rxe_odp_parked(struct rxe_odp_wait *wait)
{
	/* Pairs with wait_wake() */
	return smp_load_acquire(&wait->fault) && READ_ONCE(wait->parked);
}

#ifdef CONFIG_INFINIBAND_ON_DEMAND_PAGING
void __rxe_odp_done(struct rxe_odp_wait *wait);
#else
static inline void __rxe_odp_done(struct rxe_odp_wait *wait) {}
#endif

/* The step has copied all of its packet: if it had waited, that is over. */
static inline void rxe_odp_done(struct rxe_odp_wait *wait)
{
	if (unlikely(wait->parks))
		__rxe_odp_done(wait);
}

#ifdef CONFIG_INFINIBAND_ON_DEMAND_PAGING

/* rxe_odp.c */
void rxe_odp_init_device(struct rxe_dev *rxe);
int rxe_odp_init_mr(struct rxe_dev *rxe, u64 start, u64 length, u64 iova,
		    int access, struct rxe_mr *mr);
int rxe_odp_mr_copy(struct rxe_mr *mr, u64 iova, void *addr,
		    unsigned int length, unsigned int more,
		    enum rxe_mr_copy_dir dir, struct rxe_odp_wait *wait);
int rxe_odp_atomic_op(struct rxe_mr *mr, u64 iova, int opcode, u64 compare,
		      u64 swap_add, u64 *orig_val, struct rxe_odp_wait *wait);
int rxe_odp_atomic_write(struct rxe_mr *mr, u64 iova, u64 value,
			 struct rxe_odp_wait *wait);
int rxe_odp_flush_pmem(struct rxe_mr *mr, u64 iova, u64 length,
		       struct rxe_odp_wait *wait);
int rxe_odp_advise_mr(struct ib_pd *ibpd,
		      enum ib_uverbs_advise_mr_advice advice, u32 flags,
		      struct ib_sge *sg_list, u32 num_sge,
		      struct uverbs_attr_bundle *attrs);
int rxe_odp_fill_stat_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr);
int rxe_odp_fill_res_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr);

/* rxe_odp_wait.c */
int rxe_odp_init(void);
void rxe_odp_exit(void);
struct rxe_odp *rxe_odp_create(struct ib_umem_odp *umem);
void rxe_odp_put(struct rxe_odp *odp);
void rxe_odp_destroy(struct rxe_odp *odp);
int rxe_odp_prefetch(struct rxe_odp *odp, unsigned long start,
		     unsigned long end, enum mm_mirror_fault_kind kind);
int rxe_odp_park(struct rxe_odp *odp, unsigned long start, unsigned long need,
		 unsigned long end, enum mm_mirror_fault_kind kind,
		 struct rxe_odp_wait *wait);
void rxe_odp_wait_init(struct rxe_odp_wait *wait, struct rxe_task *task,
		       const char *step);
void rxe_odp_wait_end(struct rxe_odp_wait *wait);
void rxe_odp_stop(struct rxe_qp *qp);
u8 rxe_odp_rnr_timer(struct rxe_qp *qp, u32 psn);

void rxe_odp_orphan(struct sk_buff_head *pkts);

#else /* CONFIG_INFINIBAND_ON_DEMAND_PAGING */

static inline void rxe_odp_init_device(struct rxe_dev *rxe) {}

static inline int rxe_odp_init_mr(struct rxe_dev *rxe, u64 start, u64 length,
				  u64 iova, int access, struct rxe_mr *mr)
{
	return -EOPNOTSUPP;
}

static inline int rxe_odp_mr_copy(struct rxe_mr *mr, u64 iova, void *addr,
				  unsigned int length, unsigned int more,
				  enum rxe_mr_copy_dir dir,
				  struct rxe_odp_wait *wait)
{
	return -EOPNOTSUPP;
}

static inline int rxe_odp_atomic_op(struct rxe_mr *mr, u64 iova, int opcode,
				    u64 compare, u64 swap_add, u64 *orig_val,
				    struct rxe_odp_wait *wait)
{
	return RESPST_ERR_RKEY_VIOLATION;
}

static inline int rxe_odp_atomic_write(struct rxe_mr *mr, u64 iova, u64 value,
				       struct rxe_odp_wait *wait)
{
	return RESPST_ERR_RKEY_VIOLATION;
}

static inline int rxe_odp_flush_pmem(struct rxe_mr *mr, u64 iova, u64 length,
				     struct rxe_odp_wait *wait)
{
	return -EOPNOTSUPP;
}

static inline int rxe_odp_init(void)
{
	return 0;
}

static inline void rxe_odp_exit(void) {}
static inline void rxe_odp_destroy(struct rxe_odp *odp) {}
static inline void rxe_odp_wait_init(struct rxe_odp_wait *wait,
				     struct rxe_task *task,
				     const char *step) {}
static inline void rxe_odp_wait_end(struct rxe_odp_wait *wait) {}
static inline void rxe_odp_stop(struct rxe_qp *qp) {}
static inline void rxe_odp_orphan(struct sk_buff_head *pkts) {}

static inline u8 rxe_odp_rnr_timer(struct rxe_qp *qp, u32 psn)
{
	return qp->attr.min_rnr_timer;
}

#define rxe_odp_advise_mr NULL
#define rxe_odp_fill_stat_mr_entry NULL
#define rxe_odp_fill_res_mr_entry NULL

#endif /* CONFIG_INFINIBAND_ON_DEMAND_PAGING */

#endif /* RXE_ODP_H */
