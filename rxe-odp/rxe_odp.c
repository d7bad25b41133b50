// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging: memory regions whose pages are not pinned
 *
 * An ODP MR has a mirror of the process's page table (mm/mm_mirror.c) in place
 * of an array of pinned pages. A packet's payload is copied through the mirror.
 * The copy holds a lock of the mirror's for as long as it is in one page, never
 * over a fault.
 *
 * A page that is missing is faulted in here where that waits for nothing, and
 * elsewhere where it may (rxe_odp_wait.c). A page that an invalidation takes
 * away between the fault and the copy is simply faulted again.
 */

#include <linux/mm_mirror.h>

#include <rdma/ib_umem_odp.h>
#include <rdma/rdma_netlink.h>

#include "rxe_odp.h"

/*
 * What ODP can be combined with; the rest is refused when registering. Programs
 * ask for atomics by habit, so these are refused when they come (odp_caps tells).
 */
#define RXE_ODP_ACCESS	(IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_READ | \
			 IB_ACCESS_REMOTE_WRITE | IB_ACCESS_REMOTE_ATOMIC | \
			 IB_ACCESS_ON_DEMAND | IB_ACCESS_OPTIONAL)

/*
 * How often a copy faults in place before it lets the work queue do it: pages
 * can be taken away again and again.
 */
#define RXE_ODP_TRIES		4

static struct mm_mirror *rxe_mr_mirror(struct rxe_mr *mr)
{
	return &mr->odp->umem->mirror;
}

/* Tell user space what ODP MRs are good for, and no more than that. */
void rxe_odp_init_device(struct rxe_dev *rxe)
{
	struct ib_odp_caps *caps = &rxe->attr.odp_caps;

	rxe->attr.kernel_cap_flags |= IBK_ON_DEMAND_PAGING;
	caps->general_caps = IB_ODP_SUPPORT;
	caps->per_transport_caps.rc_odp_caps =
		IB_ODP_SUPPORT_SEND | IB_ODP_SUPPORT_RECV |
		IB_ODP_SUPPORT_WRITE | IB_ODP_SUPPORT_READ |
		IB_ODP_SUPPORT_SRQ_RECV;
	caps->per_transport_caps.uc_odp_caps =
		IB_ODP_SUPPORT_SEND | IB_ODP_SUPPORT_RECV |
		IB_ODP_SUPPORT_WRITE | IB_ODP_SUPPORT_SRQ_RECV;
	caps->per_transport_caps.ud_odp_caps =
		IB_ODP_SUPPORT_SEND | IB_ODP_SUPPORT_RECV |
		IB_ODP_SUPPORT_SRQ_RECV;
}

/**
 * rxe_odp_init_mr - make an MR one of unpinned memory
 * @rxe: the device
 * @start: address in the calling process
 * @length: bytes
 * @access: IB_ACCESS_* flags, IB_ACCESS_ON_DEMAND among them
 * @mr: the MR
 *
 * Return: 0. -EOPNOTSUPP: @access asks for what ODP MRs cannot do, or for
 * implicit ODP. Otherwise an error of ib_umem_odp_get().
 */
int rxe_odp_init_mr(struct rxe_dev *rxe, u64 start, u64 length, int access,
		    struct rxe_mr *mr)
{
	struct ib_umem_odp *umem_odp;

	rxe_mr_init(access, mr);

	if (access & ~RXE_ODP_ACCESS) {
		rxe_dbg_mr(mr, "access = %#x not supported with ODP (%#x)\n",
			   access, RXE_ODP_ACCESS);
		return -EOPNOTSUPP;
	}
	if (!start && length == U64_MAX) {
		rxe_dbg_mr(mr, "implicit ODP not supported\n");
		return -EOPNOTSUPP;
	}

	umem_odp = ib_umem_odp_get(&rxe->ib_dev, start, length, access, NULL);
	if (IS_ERR(umem_odp))
		return PTR_ERR(umem_odp);

	mr->odp = rxe_odp_create(umem_odp);
	if (!mr->odp) {
		ib_umem_release(&umem_odp->umem);
		return -ENOMEM;
	}
	mr->ibmr.type = IB_MR_TYPE_USER;
	mr->state = RXE_MR_STATE_VALID;
	return 0;
}

/*
 * Fault [start, need) in place if that need not wait, and up to @end along with
 * it if all of that can be had.
 */
static int fault_in_place(struct mm_mirror *mirror, unsigned long start,
			  unsigned long need, unsigned long end,
			  enum mm_mirror_fault_kind kind)
{
	int err = mm_mirror_fault_nowait(mirror, start, end, kind);

	if (err && end > need)
		err = mm_mirror_fault_nowait(mirror, start, need, kind);
	return err;
}

/* Only what the process may not do either is a wrong access. */
static int fault_error(struct rxe_mr *mr, unsigned long va, int err)
{
	rxe_dbg_mr(mr, "fault at %#lx failed, err = %d\n", va, err);
	return err == -EFAULT || err == -EPERM ? -EFAULT : -EIO;
}

/**
 * rxe_odp_mr_copy - copy between kernel memory and an ODP MR
 * @mr: the MR
 * @iova: address in the MR; the range was checked by the caller
 * @addr: kernel memory
 * @length: bytes
 * @more: bytes behind these that the message goes on for
 * @dir: the direction
 * @wait: the step that copies, to be run again after -EAGAIN
 *
 * Context: Process context. May sleep to reclaim memory, waits for no fault.
 * Return: 0. -EAGAIN: a page is missing, and @wait waits for it; a part may be
 * copied. -EFAULT: the process may not do this access either. -EIO: the memory
 * failed, or for RXE_ODP_FAULT_TIMEOUT there was none to be had.
 */
int rxe_odp_mr_copy(struct rxe_mr *mr, u64 iova, void *addr,
		    unsigned int length, unsigned int more,
		    enum rxe_mr_copy_dir dir, struct rxe_odp_wait *wait)
{
	unsigned long va = mr->odp->umem->umem.address + (iova - mr->ibmr.iova);
	bool write = dir == RXE_TO_MR_OBJ;
	enum mm_mirror_fault_kind kind = write ? MM_MIRROR_FAULT_WRITE :
						 MM_MIRROR_FAULT_READ;
	struct mm_mirror *mirror = rxe_mr_mirror(mr);
	unsigned long need = va + length, end;
	unsigned int tries = 0;
	ssize_t copied;
	int err;

	for (;;) {
		if (write)
			copied = mm_mirror_write(mirror, va, addr, length);
		else
			copied = mm_mirror_read(mirror, va, addr, length);
		if (unlikely(copied < 0))
			return fault_error(mr, va, copied);
		va += copied;
		addr += copied;
		length -= copied;
		if (likely(!length))
			return 0;

		/* What the fault that this step waited for has met */
		if (unlikely(wait->parks && wait->err && va >= wait->start &&
			     va < wait->end))
			return fault_error(mr, va, wait->err);

		/* No further ahead than the leaf that this ends in */
		end = min3(need + more, mirror->end,
			   ((need - 1) | (MM_MIRROR_LEAF_SIZE - 1)) + 1);
		if (++tries > RXE_ODP_TRIES)
			break;
		err = fault_in_place(mirror, va, need, end, kind);
		switch (err) {
		case 0:
			break;
		case -EAGAIN:
		case -EBUSY:
		case -EINTR:
		case -ENOMEM:
			goto park;
		default:
			return fault_error(mr, va, err);
		}
	}
park:
	return rxe_odp_park(mr->odp, va, need, end, kind, wait);
}

/* The counters of rdma statistic show mr, with the names that mlx5 gave them */
int rxe_odp_fill_stat_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct rxe_mr *mr = to_rmr(ibmr);
	struct mm_mirror *mirror;
	struct nlattr *table;

	if (!rxe_mr_is_odp(mr))
		return 0;
	mirror = rxe_mr_mirror(mr);

	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_STAT_HWCOUNTERS);
	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_stat_hwcounter_entry(msg, "page_faults",
					 atomic64_read(&mirror->faults)) ||
	    rdma_nl_stat_hwcounter_entry(msg, "page_invalidations",
					 atomic64_read(&mirror->invalidations))) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}

int rxe_odp_fill_res_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct nlattr *table;

	if (!rxe_mr_is_odp(to_rmr(ibmr)))
		return 0;

	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);
	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_put_driver_string(msg, "odp", "explicit")) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}
