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

#include <linux/dax.h>
#include <linux/hugetlb_inline.h>
#include <linux/libnvdimm.h>
#include <linux/memremap.h>
#include <linux/mm_mirror.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include <rdma/ib_umem_odp.h>
#include <rdma/rdma_netlink.h>

#include "rxe_odp.h"

/*
 * How often a step faults in place before it lets the work queue do it: pages can
 * be taken away again and again.
 */
#define RXE_ODP_TRIES		4

/* How long a FLUSH goes on in one step, before others and the end get a turn */
#define RXE_ODP_FLUSH_STEP	max(HZ / 50, 1)

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
		IB_ODP_SUPPORT_ATOMIC | IB_ODP_SUPPORT_SRQ_RECV |
		RXE_ODP_SUPPORT_FLUSH;
	if (IS_ENABLED(CONFIG_64BIT)) {
		/* user space says SIZE_MAX where rxe_odp_is_implicit() wants U64_MAX */
		caps->general_caps |= IB_ODP_SUPPORT_IMPLICIT;
		caps->per_transport_caps.rc_odp_caps |=
			RXE_ODP_SUPPORT_ATOMIC_WRITE;
	}
	caps->per_transport_caps.uc_odp_caps =
		IB_ODP_SUPPORT_SEND | IB_ODP_SUPPORT_RECV |
		IB_ODP_SUPPORT_WRITE | IB_ODP_SUPPORT_SRQ_RECV;
	caps->per_transport_caps.ud_odp_caps =
		IB_ODP_SUPPORT_SEND | IB_ODP_SUPPORT_RECV |
		IB_ODP_SUPPORT_SRQ_RECV;
}

/* Is all of it in huge pages of hugetlbfs, as IB_ACCESS_HUGETLB says? */
static int check_hugetlb(unsigned long start, unsigned long end)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	unsigned long addr;

	mmap_read_lock(mm);
	for (addr = start; addr < end; addr = vma->vm_end) {
		vma = find_vma(mm, addr);
		if (!vma || vma->vm_start > addr || !is_vm_hugetlb_page(vma))
			break;
	}
	mmap_read_unlock(mm);
	return addr < end ? -EINVAL : 0;
}

/**
 * rxe_odp_init_mr - make an MR one of unpinned memory
 * @rxe: the device
 * @start: address in the calling process
 * @length: bytes; with 0 and U64_MAX it is all of the process's memory
 * @iova: what @start is called in requests
 * @access: IB_ACCESS_* flags, IB_ACCESS_ON_DEMAND among them
 * @mr: the MR
 *
 * Return: 0. -EINVAL: @access wants huge pages and there are others, or @iova
 * is another address than the process's in an MR of all of its memory. Otherwise
 * an error of ib_umem_odp_get().
 */
int rxe_odp_init_mr(struct rxe_dev *rxe, u64 start, u64 length, u64 iova,
		    int access, struct rxe_mr *mr)
{
	bool implicit = rxe_odp_is_implicit(start, length);
	struct ib_umem_odp *umem_odp;
	int err;

	rxe_mr_init(access, mr);

	if (implicit && (iova || access & IB_ACCESS_HUGETLB)) {
		rxe_dbg_mr(mr, "implicit ODP with iova or huge pages\n");
		return -EINVAL;
	}
	/* The mirror takes pages of any size; the flag is the user's promise */
	if (access & IB_ACCESS_HUGETLB) {
		err = check_hugetlb(start, start + length);
		if (err) {
			rxe_dbg_mr(mr, "not in huge pages\n");
			return err;
		}
		access &= ~IB_ACCESS_HUGETLB;
	}

	/* No process has anything in the last page of the address space */
	umem_odp = ib_umem_odp_get(&rxe->ib_dev, start,
				   implicit ? length & PAGE_MASK : length,
				   access, NULL);
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
	switch (err) {
	case -EFAULT:
	case -EPERM:
	case -EINVAL:	/* beyond all that a process can have */
		return -EFAULT;
	default:
		return -EIO;
	}
}

static unsigned long mr_va(struct rxe_mr *mr, u64 iova)
{
	return mr->odp->umem->umem.address + (iova - mr->ibmr.iova);
}

/*
 * A step has met a missing page at @va. It needs [va, need), and may need up to
 * @end later. Returns 0: try again; -EAGAIN: it waits, and has to return; or what
 * is wrong. @tries is 0 before the first one.
 */
static int bring_in(struct rxe_mr *mr, unsigned long va, unsigned long need,
		    unsigned long end, bool write, unsigned int *tries,
		    struct rxe_odp_wait *wait)
{
	enum mm_mirror_fault_kind kind = write ? MM_MIRROR_FAULT_WRITE :
						 MM_MIRROR_FAULT_READ;
	struct mm_mirror *mirror = rxe_mr_mirror(mr);
	int err;

	/* What the fault that this step waited for has met */
	if (unlikely(wait->parks && wait->err && va >= wait->start &&
		     va < wait->end))
		return fault_error(mr, va, wait->err);

	/* No further ahead than the leaf that this ends in */
	end = min3(end, mirror->end,
		   ((need - 1) | (MM_MIRROR_LEAF_SIZE - 1)) + 1);
	if (++*tries > RXE_ODP_TRIES)
		return rxe_odp_park(mr->odp, va, need, end, kind, wait);

	err = fault_in_place(mirror, va, need, end, kind);
	switch (err) {
	case 0:
		return 0;
	case -EAGAIN:
	case -EBUSY:
	case -EINTR:
	case -ENOMEM:
		return rxe_odp_park(mr->odp, va, need, end, kind, wait);
	default:
		return fault_error(mr, va, err);
	}
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
	struct mm_mirror *mirror = rxe_mr_mirror(mr);
	unsigned long va = mr_va(mr, iova), need = va + length;
	bool write = dir == RXE_TO_MR_OBJ;
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

		err = bring_in(mr, va, need, need + more, write, &tries, wait);
		if (err)
			return err;
	}
}

/*
 * Let @fn at [va, va + length), which is in one page, once that is there. @end is
 * how far others like it will go. Returns what @fn does, or an error of bring_in().
 */
static int apply(struct rxe_mr *mr, unsigned long va, unsigned int length,
		 unsigned long end, bool write,
		 int (*fn)(struct page *page, unsigned int offset, void *arg),
		 void *arg, struct rxe_odp_wait *wait)
{
	unsigned int tries = 0;
	int err;

	for (;;) {
		err = mm_mirror_apply(rxe_mr_mirror(mr), va, write, fn, arg);
		if (err != -EAGAIN)
			return err;
		err = bring_in(mr, va, va + length, end, write, &tries, wait);
		if (err)
			return err;
	}
}

struct atomic_args {
	int opcode;
	u64 compare;
	u64 swap_add;	/* or what an ATOMIC WRITE writes */
	u64 orig_val;
};

static int do_atomic_op(struct page *page, unsigned int offset, void *arg)
{
	void *va = kmap_local_page(page) + offset;
	struct atomic_args *args = arg;

	args->orig_val = rxe_atomic_op(va, args->opcode, args->compare,
				       args->swap_add);
	kunmap_local(va);
	return 0;
}

static int atomic_apply(struct rxe_mr *mr, u64 iova,
			int (*fn)(struct page *page, unsigned int offset,
				  void *arg),
			struct atomic_args *args, struct rxe_odp_wait *wait)
{
	unsigned long va = mr_va(mr, iova);

	if (mr_check_range(mr, iova, sizeof(u64))) {
		rxe_dbg_mr(mr, "iova out of range\n");
		return RESPST_ERR_RKEY_VIOLATION;
	}
	if (va & 0x7) {
		rxe_dbg_mr(mr, "iova not aligned\n");
		return RESPST_ERR_MISALIGNED_ATOMIC;
	}
	return apply(mr, va, sizeof(u64), va + sizeof(u64), true, fn, args,
		     wait);
}

/**
 * rxe_odp_atomic_op - FETCH ADD or COMPARE SWAP in an ODP MR
 * @mr: the MR
 * @iova: address in the MR
 * @opcode: IB_OPCODE_RC_*
 * @compare: for COMPARE SWAP
 * @swap_add: what to write, or to add
 * @orig_val: what was there goes here
 * @wait: the step that does it, to be run again after -EAGAIN
 *
 * Context: As rxe_odp_mr_copy().
 * Return: RESPST_NONE, another state of the responder, or an error of
 * rxe_odp_mr_copy(), and nothing has changed.
 */
int rxe_odp_atomic_op(struct rxe_mr *mr, u64 iova, int opcode, u64 compare,
		      u64 swap_add, u64 *orig_val, struct rxe_odp_wait *wait)
{
	struct atomic_args args = {
		.opcode = opcode,
		.compare = compare,
		.swap_add = swap_add,
	};
	int err;

	err = atomic_apply(mr, iova, do_atomic_op, &args, wait);
	if (!err)
		*orig_val = args.orig_val;
	return err;
}

#ifdef CONFIG_64BIT
/* Only called for 64 bit architectures, see rxe_mr_do_atomic_write() */
static int do_atomic_write(struct page *page, unsigned int offset, void *arg)
{
	u64 *va = kmap_local_page(page) + offset;
	struct atomic_args *args = arg;

	/* Pairs with whoever looks at the word: all prior operations are there */
	smp_store_release(va, args->swap_add);
	kunmap_local(va);
	return 0;
}

/**
 * rxe_odp_atomic_write - ATOMIC WRITE to an ODP MR
 * @mr: the MR
 * @iova: address in the MR
 * @value: what to write
 * @wait: the step that does it, to be run again after -EAGAIN
 *
 * Context: As rxe_odp_mr_copy().
 * Return: As rxe_odp_atomic_op().
 */
int rxe_odp_atomic_write(struct rxe_mr *mr, u64 iova, u64 value,
			 struct rxe_odp_wait *wait)
{
	struct atomic_args args = { .swap_add = value };

	return atomic_apply(mr, iova, do_atomic_write, &args, wait);
}
#endif

static int flush_bytes(struct page *page, unsigned int offset, void *arg)
{
	unsigned int bytes = *(unsigned int *)arg;
	u8 *va;

	if (!rxe_is_pmem_page(page))
		return folio_test_anon(page_folio(page)) ||
		       is_zone_device_page(page) ? -EFAULT : -ENODATA;
	va = kmap_local_page(page) + offset;
	arch_wb_cache_pmem(va, bytes);
	kunmap_local(va);
	return 0;
}

/*
 * A page that has no storage: where a file that is its own memory has a hole,
 * nothing was written, and all of it is persistent. Anywhere else it is an error.
 * Returns -EAGAIN where it would have to wait.
 */
static int check_hole(struct rxe_odp *odp, unsigned long va)
{
	struct mm_struct *mm = odp->umem->mirror.mm;
	struct vm_area_struct *vma;
	int err = -EFAULT;

	if (!mmget_not_zero(mm))
		return -EFAULT;
	if (!mmap_read_trylock(mm)) {
		err = -EAGAIN;
	} else {
		vma = find_vma(mm, va);
		if (vma && vma->vm_start <= va && vma_is_dax(vma))
			err = 0;
		mmap_read_unlock(mm);
	}
	mmput_async(mm);
	return err;
}

/* As apply(). @bytes are in one page. */
static int flush_piece(struct rxe_mr *mr, unsigned long va, unsigned int bytes,
		       unsigned long end, struct rxe_odp_wait *wait)
{
	int err;

	err = apply(mr, va, bytes, end, false, flush_bytes, &bytes, wait);
	if (err != -ENODATA)
		return err;
	err = check_hole(mr->odp, va);
	if (err == -EAGAIN)
		rxe_odp_park(mr->odp, va, va + bytes, va + bytes,
			     MM_MIRROR_FAULT_READ, wait);
	return err;
}

/**
 * rxe_odp_flush_pmem - make a part of an ODP MR persistent
 * @mr: the MR
 * @iova: address in the MR
 * @length: bytes
 * @wait: the step that does it, to be run again after -EAGAIN, and goes on then
 *	where it was
 *
 * What the device wrote is in the memory's own page, whether or not that is
 * mapped now: so pages are faulted for it. This makes bytes persistent, and not
 * what a file system knows of them: that is MAP_SYNC's part, or fsync()'s.
 *
 * Context: As rxe_odp_mr_copy().
 * Return: 0. -EFAULT: not in the MR, or a part is not persistent memory; or an
 * error of rxe_odp_mr_copy().
 */
int rxe_odp_flush_pmem(struct rxe_mr *mr, u64 iova, u64 length,
		       struct rxe_odp_wait *wait)
{
	unsigned long start = mr_va(mr, iova), end = start + length, va;
	unsigned long until = jiffies + RXE_ODP_FLUSH_STEP;
	unsigned int bytes;
	int err = 0;

	if (mr_check_range(mr, iova, length))
		return -EFAULT;

	for (va = start + wait->done; va < end; va += bytes) {
		bytes = min(end - va, PAGE_SIZE - offset_in_page(va));
		if (time_after(jiffies, until)) {
			/* Waits for nothing, but its next turn */
			rxe_sched_task(wait->task);
			err = -EAGAIN;
		} else {
			err = flush_piece(mr, va, bytes, end, wait);
		}
		if (err)
			break;
		cond_resched();
	}
	wait->done = err == -EAGAIN ? va - start : 0;
	return err;
}

/* The ODP MR of a piece of advice, which the caller puts; and where it begins. */
static struct rxe_odp *advised_odp(struct rxe_pd *pd, struct ib_sge *sge,
				   bool write, unsigned long *va)
{
	struct rxe_dev *rxe = to_rdev(pd->ibpd.device);
	struct rxe_odp *odp = NULL;
	struct rxe_mr *mr;
	int err = 0;

	if (rkey_is_mw(sge->lkey))
		return ERR_PTR(-EINVAL);
	mr = rxe_pool_get_index(&rxe->mr_pool, sge->lkey >> 8);
	if (!mr)
		return ERR_PTR(-ENOENT);

	if (mr->lkey != sge->lkey || mr->state != RXE_MR_STATE_VALID)
		err = -ENOENT;
	else if (mr_pd(mr) != pd)
		err = -EPERM;
	else if (!rxe_mr_is_odp(mr))
		err = -EINVAL;
	else if (write && !(mr->access & IB_ACCESS_LOCAL_WRITE))
		err = -EPERM;
	else if (mr_check_range(mr, sge->addr, sge->length))
		err = -EFAULT;
	if (!err) {
		odp = mr->odp;
		kref_get(&odp->ref);
		*va = mr_va(mr, sge->addr);
	}
	rxe_put(mr);
	return err ? ERR_PTR(err) : odp;
}

/* For whom it waits, the MR can go meanwhile; only a fatal signal ends it. */
static int prefetch_now(struct rxe_odp *odp, unsigned long va,
			unsigned long end, enum mm_mirror_fault_kind kind)
{
	struct mm_mirror *mirror = &odp->umem->mirror;
	unsigned long next;
	int err = 0;

	for (; va < end && !err; va = next) {
		next = min(end - 1, va | (MM_MIRROR_LEAF_SIZE - 1)) + 1;
		err = mm_mirror_prefetch(mirror, va, next, kind);
		if (!err && fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	return err == -EINVAL ? -EFAULT : err;
}

/* Look at a piece of advice, and unless @act is false follow it. */
static int advise_piece(struct rxe_pd *pd, struct ib_sge *sge,
			enum mm_mirror_fault_kind kind, bool now, bool act)
{
	struct rxe_odp *odp;
	unsigned long va;
	int err = 0;

	odp = advised_odp(pd, sge, kind == MM_MIRROR_FAULT_WRITE, &va);
	if (IS_ERR(odp))
		return PTR_ERR(odp);
	if (act && sge->length && now)
		err = prefetch_now(odp, va, va + sge->length, kind);
	else if (act && sge->length)
		err = rxe_odp_prefetch(odp, va, va + sge->length, kind);
	rxe_odp_put(odp);
	return err;
}

/**
 * rxe_odp_advise_mr - what is going to be used of ODP MRs
 * @ibpd: the PD of the MRs
 * @advice: whether to fault pages, for reading or writing, or to take what the
 *	process has
 * @flags: with IB_UVERBS_ADVISE_MR_FLAG_FLUSH it is done on return, and errors
 *	of pages are reported
 * @sg_list: the pieces
 * @num_sge: how many
 * @attrs: unused
 *
 * If a key or a range is wrong nothing is done. The errors are those of
 * ibv_advise_mr(3).
 *
 * Context: Process context.
 * Return: 0. -EOPNOTSUPP: no such advice. -ENOENT: no such MR. -EPERM: it is
 * another PD's, or not writable. -EINVAL: no ODP MR. -EFAULT: the range is not
 * in the MR, or not in the process. Or an error of mm_mirror_fault().
 */
int rxe_odp_advise_mr(struct ib_pd *ibpd,
		      enum ib_uverbs_advise_mr_advice advice, u32 flags,
		      struct ib_sge *sg_list, u32 num_sge,
		      struct uverbs_attr_bundle *attrs)
{
	bool now = flags & IB_UVERBS_ADVISE_MR_FLAG_FLUSH;
	enum mm_mirror_fault_kind kind;
	unsigned int i;
	int err = 0;

	switch (advice) {
	case IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH:
		kind = MM_MIRROR_FAULT_READ;
		break;
	case IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE:
		kind = MM_MIRROR_FAULT_WRITE;
		break;
	case IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT:
		kind = MM_MIRROR_SNAPSHOT;
		break;
	default:
		return -EOPNOTSUPP;
	}

	/* All is looked at before anything is done */
	for (i = 0; i < num_sge && !err; i++)
		err = advise_piece(to_rpd(ibpd), &sg_list[i], kind, now, false);
	for (i = 0; i < num_sge && !err; i++)
		err = advise_piece(to_rpd(ibpd), &sg_list[i], kind, now, true);
	return err;
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
					 atomic64_read(&mirror->invalidations)) ||
	    rdma_nl_stat_hwcounter_entry(msg, "page_prefetch",
					 atomic64_read(&mirror->prefetches))) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}

int rxe_odp_fill_res_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct nlattr *table;

	struct rxe_mr *mr = to_rmr(ibmr);
	bool implicit;

	if (!rxe_mr_is_odp(mr))
		return 0;
	implicit = rxe_odp_is_implicit(mr->odp->umem->umem.address,
				       ibmr->length);

	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);
	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_put_driver_string(msg, "odp",
				      implicit ? "implicit" : "explicit")) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}
