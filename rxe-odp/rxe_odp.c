// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging: memory regions whose pages are not pinned
 *
 * An ODP MR has a mirror of the process's page table (mm/mm_mirror.c) in place
 * of an array of pinned pages. A packet's payload is copied through the mirror.
 * Where a page is missing, it is faulted in and the copy goes on: requester,
 * completer and responder all run in a workqueue, where a fault may sleep.
 *
 * The copy holds a lock of the mirror's for as long as it is in one page, never
 * over a fault. A page that an invalidation takes away between the fault and
 * the copy is simply faulted again.
 */

#include <linux/jiffies.h>
#include <linux/mm_mirror.h>
#include <linux/sched.h>

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
 * Conditions that pass by themselves (an invalidation under way, no memory) are
 * tried again for this long before they fail the operation, in milliseconds.
 */
#define RXE_ODP_FAULT_TIMEOUT	10000

static struct mm_mirror *rxe_mr_mirror(struct rxe_mr *mr)
{
	return &to_ib_umem_odp(mr->umem)->mirror;
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

	mr->umem = &umem_odp->umem;
	mr->ibmr.type = IB_MR_TYPE_USER;
	mr->state = RXE_MR_STATE_VALID;
	return 0;
}

/*
 * Fault [start, end), and take anything that the memory itself does not refuse
 * for a reason to try again.
 */
static int rxe_odp_fault(struct mm_mirror *mirror, unsigned long start,
			 unsigned long end, enum mm_mirror_fault_kind kind,
			 unsigned long timeout)
{
	for (;;) {
		int err = mm_mirror_fault(mirror, start, end, kind);

		switch (err) {
		case 0:
			return 0;
		case -EBUSY:
		case -EINTR:
		case -ENOMEM:
			if (time_after(jiffies, timeout))
				return err;
			schedule_timeout_uninterruptible(1);
			break;
		default:
			return -EFAULT;
		}
	}
}

/**
 * rxe_odp_mr_copy - copy between kernel memory and an ODP MR
 * @mr: the MR
 * @iova: address in the MR; the range was checked by the caller
 * @addr: kernel memory
 * @length: bytes
 * @dir: the direction
 *
 * Context: Process context. Sleeps if a page has to be faulted in.
 * Return: 0. -EFAULT: the process may not do this access either. -EBUSY,
 * -EINTR, -ENOMEM: what the fault met all through RXE_ODP_FAULT_TIMEOUT.
 */
int rxe_odp_mr_copy(struct rxe_mr *mr, u64 iova, void *addr,
		    unsigned int length, enum rxe_mr_copy_dir dir)
{
	unsigned long timeout =
		jiffies + msecs_to_jiffies(RXE_ODP_FAULT_TIMEOUT);
	unsigned long va = mr->umem->address + (iova - mr->ibmr.iova);
	struct mm_mirror *mirror = rxe_mr_mirror(mr);
	bool write = dir == RXE_TO_MR_OBJ;

	for (;;) {
		ssize_t copied;
		int err;

		if (write)
			copied = mm_mirror_write(mirror, va, addr, length);
		else
			copied = mm_mirror_read(mirror, va, addr, length);
		if (unlikely(copied < 0))
			return -EFAULT;
		va += copied;
		addr += copied;
		length -= copied;
		if (likely(!length))
			return 0;

		if (time_after(jiffies, timeout))
			return -EBUSY;
		err = rxe_odp_fault(mirror, va, va + length,
				    write ? MM_MIRROR_FAULT_WRITE :
					    MM_MIRROR_FAULT_READ, timeout);
		if (err) {
			rxe_dbg_mr(mr, "fault at %#lx failed, err = %d\n",
				   va, err);
			return err;
		}
	}
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
