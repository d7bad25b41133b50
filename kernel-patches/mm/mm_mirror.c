// SPDX-License-Identifier: GPL-2.0
/*
 * mm_mirror: a device's mirror of part of a process's page table
 *
 * A device that can take page faults needs no pinned memory. It needs a mirror
 * of the CPU's page table: an entry is filled in when the device faults, and
 * dropped before the CPU's page table changes. This is that mirror: the
 * notifiers (mm_mirror_range.c), the fault loop, the table (mm_mirror_table.c),
 * and their teardown.
 *
 * A mirror of the range [start, end) of one mm is split into segments, each with
 * an interval notifier and so a sequence of its own: the retry check of such a
 * notifier knows nothing finer, and in one large segment every munmap() restarts
 * every fault. Segments come into being when they are first touched, so that
 * nothing is paid for memory that nobody uses. A leaf of the table lies in one.
 *
 * Locking
 * -------
 * segment->lock	Held over the sequence check and the stores of a
 *			publish, and taken by an invalidation after the sequence
 *			was moved on: whoever takes it second sees the other.
 * mirror->lock		The driver's. A driver that has a page table of its own
 *			brings it, and it is taken in place of segment->lock:
 *			from the sequence check until the driver has updated its
 *			device, and over the whole of an invalidation.
 * leaf->lock		Protects the entries. Software access holds it for
 *			reading while it copies; a publish and an invalidation
 *			hold it for writing. Readers do not exclude each other.
 *
 * They nest in this order, inside mmap_lock, and the folio and rmap locks that
 * an invalidation arrives with. No fault is taken under any of them, and no
 * memory allocated but what DMA mapping may need, atomically (invariant 7;
 * lockdep is told of the driver's in mm_mirror_init()). Only the driver's may
 * sleep, and its callback. Without these a mirror serves invalidations that must
 * not block, the OOM reaper's (invariant 10).
 *
 * Segments are found without a lock, made under segs_lock, which is outside of
 * mmap_lock, and go away in mm_mirror_destroy(), when the driver lets no fault
 * and no access run any more. Leaves are found under RCU, and freed by what
 * empties them. In an invalidation no publish is under way in that leaf then, or
 * can begin: the segment's sequence was moved on before, and the next fault
 * waits for the invalidation's end. Who drops entries without an invalidation
 * holds the driver's lock, as a publish does.
 *
 * The invariants that this keeps are in Documentation/mm/mm_mirror.rst; their
 * numbers stand where each is kept.
 *
 * Why a copy under leaf->lock is safe
 * -----------------------------------
 * An invalidation returns only after it held each present leaf's lock for
 * writing, and before the CPU's page table changes. So while a reader holds the
 * lock and sees a valid entry, the page is mapped, is the current one at that
 * address, and will not be freed. A reference to the page would give only the
 * last of the three: after fork() write-protects it, a late write would go to a
 * page that is shared by then. For the same reason an entry is writable only if
 * the CPU's was, and a written page is marked dirty when its entry is dropped,
 * under the same lock, before anyone can free it.
 *
 * Why a fault publishes nothing stale
 * -----------------------------------
 * The walk reads the sequence first, fills a private array, and publishes it
 * under segment->lock only if the sequence stands. An invalidation that began
 * before the publish has moved the sequence on, or will find the new entries
 * when it comes to the leaf.
 */

#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/memcontrol.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mm_mirror.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "internal.h"
#include "mm_mirror_table.h"

#define CREATE_TRACE_POINTS
#include <trace/events/mm_mirror.h>

/* How long a fault tries against invalidations that go on */
#define FAULT_TIMEOUT	(10 * HZ)

/* So many pages are faulted without an allocation. */
#define FEW_PAGES	16

struct mm_mirror_seg {
	struct mm_mirror_range range;
	struct mm_mirror *mirror;
	unsigned long start;
	unsigned long end;
	spinlock_t lock;	/* of a publish, see Locking */
};

static unsigned long seg_start(struct mm_mirror *mirror, unsigned long addr)
{
	return max(addr & ~mirror->seg_mask, mirror->start);
}

/* The end of the segment that @addr is in, or @end if that comes first. */
static unsigned long seg_end(struct mm_mirror *mirror, unsigned long addr,
			     unsigned long end)
{
	return min(end - 1, addr | mirror->seg_mask) + 1;
}

static struct mm_mirror_seg *seg_find(struct mm_mirror *mirror,
				      unsigned long addr)
{
	return xa_load(&mirror->segs,
		       seg_start(mirror, addr) >> MM_MIRROR_LEAF_SHIFT);
}

/* Invariant 1. The sequence was moved on. With a driver's lock it is held. */
static void seg_zap(struct mm_mirror_seg *seg,
		    const struct mmu_notifier_range *event)
{
	bool blockable = mmu_notifier_range_blockable(event);
	unsigned long start = max(event->start, seg->start);
	unsigned long end = min(event->end, seg->end);
	struct mm_mirror *mirror = seg->mirror;
	unsigned long dropped;

	if (mirror->ops) {
		mm_mirror_table_expand(&mirror->table, &start, &end);
		mirror->ops->invalidate(mirror, event, start, end);
	}
	dropped = mm_mirror_table_zap(&mirror->table, start, end, blockable);
	if (dropped)
		atomic64_add(dropped, &mirror->invalidations);
	trace_mm_mirror_invalidate(mirror, start, end, event->event, dropped);
}

static void seg_invalidate(struct mm_mirror_range *range,
			   const struct mmu_notifier_range *event)
{
	struct mm_mirror_seg *seg =
		container_of(range, struct mm_mirror_seg, range);
	struct mutex *lock = seg->mirror->lock;	/* the driver's */

	if (lock) {
		mutex_lock(lock);
		seg_zap(seg, event);
		mutex_unlock(lock);
		return;
	}
	/* A publish that saw the old sequence is over after this. */
	spin_lock(&seg->lock);
	spin_unlock(&seg->lock);
	seg_zap(seg, event);
}

/* Invariant 10. The driver's callback may sleep. */
static bool seg_invalidate_nonblock(struct mm_mirror_range *range,
				    const struct mmu_notifier_range *event)
{
	struct mm_mirror_seg *seg =
		container_of(range, struct mm_mirror_seg, range);
	struct mutex *lock = seg->mirror->lock;	/* the driver's */

	if (!lock) {
		seg_invalidate(range, event);
		return true;
	}
	if (seg->mirror->ops || !mutex_trylock(lock))
		return false;
	seg_zap(seg, event);
	mutex_unlock(lock);
	return true;
}

static const struct mm_mirror_range_ops seg_ops = {
	.invalidate = seg_invalidate,
	.invalidate_nonblock = seg_invalidate_nonblock,
};

/*
 * Make the segment of @addr. The mm's users are held. Where nothing is mapped
 * none is made: a remote peer that guesses addresses must not cost the process
 * memory. A driver with a page table of its own has only the one.
 *
 * A leaf must not have two notifiers even for a moment, because each would have
 * a sequence of its own. Hence segs_lock, which no invalidation takes.
 */
static struct mm_mirror_seg *seg_make(struct mm_mirror *mirror,
				      unsigned long addr, bool nowait)
{
	unsigned long start = seg_start(mirror, addr);
	unsigned long end = seg_end(mirror, addr, mirror->end);
	struct mm_struct *mm = mirror->mm;
	struct mm_mirror_seg *seg;
	bool mapped;
	int ret;

	lockdep_assert_held(&mirror->segs_lock);
	seg = seg_find(mirror, addr);
	if (seg)
		return seg;
	/* The first one of an mm takes its lock for writing. */
	if (nowait && !mmu_interval_notifier_ready(mm))
		return ERR_PTR(-EAGAIN);
	if (!mirror->lock) {
		if (!nowait)
			mmap_read_lock(mm);
		else if (!mmap_read_trylock(mm))
			return ERR_PTR(-EAGAIN);
		mapped = find_vma_intersection(mm, start, end);
		mmap_read_unlock(mm);
		if (!mapped)
			return ERR_PTR(-EFAULT);
	}

	seg = kzalloc(sizeof(*seg), GFP_KERNEL_ACCOUNT);
	if (!seg)
		return ERR_PTR(-ENOMEM);
	seg->range.ops = &seg_ops;
	seg->range.owner = mirror->owner;
	seg->mirror = mirror;
	seg->start = start;
	seg->end = end;
	spin_lock_init(&seg->lock);
	ret = mm_mirror_range_add(&seg->range, mm, start, end - start);
	if (!ret)
		ret = xa_err(xa_store(&mirror->segs,
				      start >> MM_MIRROR_LEAF_SHIFT, seg,
				      GFP_KERNEL_ACCOUNT));
	if (!ret)
		return seg;
	mm_mirror_range_remove(&seg->range);
	kfree(seg);
	return ERR_PTR(ret);
}

static struct mm_mirror_seg *seg_get(struct mm_mirror *mirror,
				     unsigned long addr, bool nowait)
{
	struct mm_mirror_seg *seg = seg_find(mirror, addr);

	if (seg)
		return seg;
	if (!nowait)
		mutex_lock(&mirror->segs_lock);
	else if (!mutex_trylock(&mirror->segs_lock))
		return ERR_PTR(-EAGAIN);
	seg = seg_make(mirror, addr, nowait);
	mutex_unlock(&mirror->segs_lock);
	return seg;
}

/* Invariant 2. The lock that the invalidation takes is held. */
static bool publish_if_current(struct mm_mirror_seg *seg,
			       const struct hmm_range *range,
			       unsigned long implied, unsigned long *changed)
{
	return !mmu_interval_read_retry(range->notifier, range->notifier_seq) &&
	       mm_mirror_table_publish(&seg->mirror->table, range->start,
				       range->end, range->hmm_pfns, implied,
				       changed);
}

/* With a driver's lock, that lock is held on success. */
static bool lock_and_publish(struct mm_mirror_seg *seg,
			     const struct hmm_range *range,
			     unsigned long implied, unsigned long *changed)
{
	struct mutex *lock = seg->mirror->lock;	/* the driver's */
	bool done;

	if (lock) {
		mutex_lock(lock);
		done = publish_if_current(seg, range, implied, changed);
		if (!done)
			mutex_unlock(lock);
		return done;
	}

	spin_lock(&seg->lock);
	done = publish_if_current(seg, range, implied, changed);
	spin_unlock(&seg->lock);
	return done;
}

/*
 * Fault [@start, @end) of @seg and publish it. With a driver's lock that lock
 * is held on success, from before the sequence is checked.
 *
 * Invariant 9: invalidations can stop the walk, or make the publish come too
 * late, again and again. All of it is tried for FAULT_TIMEOUT.
 */
static int seg_fault(struct mm_mirror_seg *seg, unsigned long start,
		     unsigned long end, enum mm_mirror_fault_kind kind,
		     unsigned long *pfns, unsigned long implied, bool nowait,
		     unsigned long *changed)
{
	struct mm_mirror *mirror = seg->mirror;
	unsigned long deadline = 0;
	struct hmm_range range = {
		.notifier = &seg->range.notifier,
		.start = start,
		.end = end,
		.hmm_pfns = pfns,
		.dev_private_owner = mirror->owner ?: mirror,
	};
	int ret;

	if (kind != MM_MIRROR_SNAPSHOT)
		range.default_flags |= HMM_PFN_REQ_FAULT;
	if (kind == MM_MIRROR_FAULT_WRITE)
		range.default_flags |= HMM_PFN_REQ_WRITE;

	do {
		if (nowait)
			ret = hmm_range_fault_nowait(&range);
		else
			ret = hmm_range_fault_unlocked_timeout(&range,
							       FAULT_TIMEOUT);
		if (ret)
			return ret;
		if (lock_and_publish(seg, &range, implied, changed))
			return 0;
		/* If not for an invalidation, it is a leaf that is not there */
		if (!mmu_interval_check_retry(range.notifier,
					      range.notifier_seq)) {
			ret = mm_mirror_table_reserve(&mirror->table, start,
						      end, pfns);
			if (ret)
				return ret;
			if (lock_and_publish(seg, &range, implied, changed))
				return 0;
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		deadline = deadline ?: jiffies + FAULT_TIMEOUT;
	} while (time_before(jiffies, deadline));
	return -EBUSY;
}

/* What changed in the table is added to @count. */
static int mirror_fault(struct mm_mirror *mirror, unsigned long start,
			unsigned long end, enum mm_mirror_fault_kind kind,
			unsigned long implied, bool nowait, atomic64_t *count)
{
	u64 began = trace_mm_mirror_fault_enabled() ? ktime_get_ns() : 0;
	unsigned long few[FEW_PAGES] = {}, *pfns = few, changed = 0;
	struct mem_cgroup *memcg, *old_memcg;
	struct mm_mirror_seg *seg;
	int ret;

	might_sleep();
	if (start >= end || start < mirror->start || end > mirror->end)
		return -EINVAL;
	if (READ_ONCE(mirror->dead) || !mmget_not_zero(mirror->mm))
		return -EFAULT;

	/* Invariant 12: for its page cache, its page tables, and our table. */
	memcg = get_mem_cgroup_from_mm(mirror->mm);
	old_memcg = set_active_memcg(memcg);

	start &= PAGE_MASK;
	end = PAGE_ALIGN(end);
	ret = -ENOMEM;
	/* Invariant 3 */
	if ((end - start) >> PAGE_SHIFT > FEW_PAGES)
		pfns = kvcalloc((end - start) >> PAGE_SHIFT, sizeof(*pfns),
				GFP_KERNEL | __GFP_NOWARN);
	if (pfns) {
		seg = seg_get(mirror, start, nowait);
		ret = PTR_ERR_OR_ZERO(seg);
	}
	if (!ret)
		ret = seg_fault(seg, start, end, kind, pfns, implied, nowait,
				&changed);
	atomic64_add(changed, count);
	if (began)
		trace_mm_mirror_fault(mirror, start, end, kind, changed,
				      pfns ? hmm_pfn_to_map_order(*pfns) : 0,
				      ktime_get_ns() - began, ret);
	if (pfns != few)
		kvfree(pfns);
	set_active_memcg(old_memcg);
	mem_cgroup_put(memcg);
	mmput_async(mirror->mm);
	return ret;
}

static int fault_segments(struct mm_mirror *mirror, unsigned long start,
			  unsigned long end, enum mm_mirror_fault_kind kind,
			  bool nowait, atomic64_t *count)
{
	if (WARN_ON_ONCE(mirror->lock) || start >= end)
		return -EINVAL;

	while (start < end) {
		unsigned long next = seg_end(mirror, start, end);
		int ret = mirror_fault(mirror, start, next, kind, 0, nowait,
				       count);

		if (ret)
			return ret;
		start = next;
	}
	return 0;
}

int mm_mirror_fault(struct mm_mirror *mirror, unsigned long start,
		    unsigned long end, enum mm_mirror_fault_kind kind)
{
	return fault_segments(mirror, start, end, kind, false, &mirror->faults);
}
EXPORT_SYMBOL_GPL(mm_mirror_fault);

int mm_mirror_prefetch(struct mm_mirror *mirror, unsigned long start,
		       unsigned long end, enum mm_mirror_fault_kind kind)
{
	return fault_segments(mirror, start, end, kind, false,
			      &mirror->prefetches);
}
EXPORT_SYMBOL_GPL(mm_mirror_prefetch);

int mm_mirror_fault_nowait(struct mm_mirror *mirror, unsigned long start,
			   unsigned long end, enum mm_mirror_fault_kind kind)
{
	return fault_segments(mirror, start, end, kind, true, &mirror->faults);
}
EXPORT_SYMBOL_GPL(mm_mirror_fault_nowait);

int mm_mirror_fault_and_lock(struct mm_mirror *mirror, unsigned long start,
			     unsigned long end,
			     enum mm_mirror_fault_kind kind)
{
	int ret;

	if (WARN_ON_ONCE(!mirror->lock))
		return -EINVAL;
	ret = mirror_fault(mirror, start, end, kind,
			   kind == MM_MIRROR_FAULT_READ ? 0 : MM_MIRROR_DIRTY,
			   false, &mirror->faults);
	if (ret || !mirror->table.dma_dev)
		return ret;
	ret = mm_mirror_dma_map(&mirror->table, start & PAGE_MASK,
				PAGE_ALIGN(end));
	if (ret)
		mutex_unlock(mirror->lock);
	return ret;
}
EXPORT_SYMBOL_GPL(mm_mirror_fault_and_lock);

unsigned long mm_mirror_entry(struct mm_mirror *mirror, unsigned long addr,
			      unsigned int *order, dma_addr_t *dma)
{
	lockdep_assert_held(mirror->lock);
	return mm_mirror_table_entry(&mirror->table, addr, order, dma);
}
EXPORT_SYMBOL_GPL(mm_mirror_entry);

bool mm_mirror_empty(struct mm_mirror *mirror)
{
	lockdep_assert_held(mirror->lock);
	return xa_empty(&mirror->table.leaves[0]) &&
	       xa_empty(&mirror->table.leaves[1]) &&
	       xa_empty(&mirror->table.leaves[2]);
}
EXPORT_SYMBOL_GPL(mm_mirror_empty);

unsigned long mm_mirror_drop(struct mm_mirror *mirror, unsigned long start,
			     unsigned long end)
{
	lockdep_assert_held(mirror->lock);
	return mm_mirror_table_zap(&mirror->table, start, end, true);
}
EXPORT_SYMBOL_GPL(mm_mirror_drop);

/* Reading survives a machine check where the memory is likely to have one. */
static unsigned long page_copy(struct page *page, unsigned int offset,
			       void *buf, size_t len, bool write)
{
	char *addr = kmap_local_page(page) + offset;
	unsigned long left = 0;

	if (write) {
		memcpy(addr, buf, len);
		flush_dcache_page(page);
	} else if (unlikely(is_zone_device_page(page))) {
		left = copy_mc_to_kernel(buf, addr, len);
	} else {
		memcpy(buf, addr, len);
	}
	kunmap_local(addr);
	return left;
}

/*
 * The page of an address, for an access that begins now, under the leaf's lock;
 * or NULL if no entry allows it.
 */
static struct page *leaf_use(struct mm_mirror_leaf *leaf, unsigned int level,
			     unsigned long addr, bool write)
{
	unsigned long need = write ? MM_MIRROR_WRITE : MM_MIRROR_VALID;
	unsigned long mark = MM_MIRROR_USED | (write ? MM_MIRROR_DIRTY : 0);
	unsigned long *slot, entry;

	slot = &leaf->entries[mm_mirror_entry_index(level, addr)];
	entry = READ_ONCE(*slot);
	if (unlikely(!(entry & need)))
		return NULL;
	/* Invariant 6. Readers share the lock: set atomically. */
	if ((entry & mark) != mark)
		atomic_long_or(mark, (atomic_long_t *)slot);
	return nth_page(mm_mirror_entry_page(entry),
			mm_mirror_entry_offset(level, addr));
}

/*
 * Copy within one leaf, under its lock, page by page until one has no entry
 * that allows it. Returns the bytes that were copied; *@failed is set where
 * the memory failed.
 */
static size_t leaf_copy(struct mm_mirror_leaf *leaf, unsigned int level,
			unsigned long addr, void *buf, size_t len, bool write,
			bool *failed)
{
	size_t n, left, done;

	for (done = 0; done < len; done += n) {
		unsigned int offset = offset_in_page(addr + done);
		struct page *page;

		page = leaf_use(leaf, level, addr + done, write);
		if (unlikely(!page))
			break;
		n = min(len - done, PAGE_SIZE - offset);
		left = page_copy(page, offset, buf + done, n, write);
		if (unlikely(left)) {
			*failed = true;
			return done + n - left;
		}
	}
	return done;
}

static ssize_t mirror_copy(struct mm_mirror *mirror, unsigned long addr,
			   void *buf, size_t len, bool write)
{
	size_t n, copied, done = 0;
	bool failed = false;

	do {
		unsigned long end = (addr + done) | (MM_MIRROR_LEAF_SIZE - 1);
		struct mm_mirror_leaf *leaf;
		unsigned int level;

		n = min(len - done - 1, end - (addr + done)) + 1;
		copied = 0;
		rcu_read_lock();
		leaf = mm_mirror_table_find(&mirror->table, addr + done,
					    &level);
		if (likely(leaf)) {
			read_lock(&leaf->lock);
			copied = leaf_copy(leaf, level, addr + done, buf + done,
					   n, write, &failed);
			read_unlock(&leaf->lock);
		}
		rcu_read_unlock();
		done += copied;
	} while (copied == n && done < len);
	return unlikely(failed && !done) ? -EIO : done;
}

ssize_t mm_mirror_read(struct mm_mirror *mirror, unsigned long addr, void *to,
		       size_t len)
{
	return mirror_copy(mirror, addr, to, len, false);
}
EXPORT_SYMBOL_GPL(mm_mirror_read);

ssize_t mm_mirror_write(struct mm_mirror *mirror, unsigned long addr,
			const void *from, size_t len)
{
	return mirror_copy(mirror, addr, (void *)from, len, true);
}
EXPORT_SYMBOL_GPL(mm_mirror_write);

int mm_mirror_apply(struct mm_mirror *mirror, unsigned long addr, bool write,
		    int (*fn)(struct page *page, unsigned int offset, void *arg),
		    void *arg)
{
	struct mm_mirror_leaf *leaf;
	struct page *page = NULL;
	unsigned int level;
	int ret = -EAGAIN;

	rcu_read_lock();
	leaf = mm_mirror_table_find(&mirror->table, addr, &level);
	if (leaf) {
		read_lock(&leaf->lock);
		page = leaf_use(leaf, level, addr, write);
		if (page)
			ret = fn(page, offset_in_page(addr), arg);
		if (page && write)
			flush_dcache_page(page);
		read_unlock(&leaf->lock);
	}
	rcu_read_unlock();
	return ret;
}
EXPORT_SYMBOL_GPL(mm_mirror_apply);

int mm_mirror_init(struct mm_mirror *mirror, struct mm_struct *mm,
		   unsigned long start, unsigned long end,
		   const struct mm_mirror_config *config)
{
	unsigned long size = config->seg_size;

	if (start >= end || !PAGE_ALIGNED(start | end))
		return -EINVAL;
	if (WARN_ON_ONCE(size & (MM_MIRROR_LEAF_SIZE - 1) ||
			 (size && !is_power_of_2(size)) ||
			 (config->lock && size) ||
			 ((config->ops || config->dma_dev || config->owner) &&
			  !config->lock)))
		return -EINVAL;
	if (config->dma_dev && !mm_mirror_dma_capable(config->dma_dev))
		return -EOPNOTSUPP;

	/* Invariant 7 */
	if (config->lock) {
		fs_reclaim_acquire(GFP_KERNEL);
		might_lock(config->lock);
		fs_reclaim_release(GFP_KERNEL);
	}
	mmgrab(mm);
	mirror->mm = mm;
	mirror->start = start;
	mirror->end = end;
	mirror->seg_mask = size - 1;
	mirror->ops = config->ops;
	mirror->lock = config->lock;
	mirror->owner = config->owner;
	mirror->dead = false;
	mutex_init(&mirror->segs_lock);
	xa_init_flags(&mirror->segs, XA_FLAGS_ACCOUNT);
	mm_mirror_table_init(&mirror->table, start, end, config);
	atomic64_set(&mirror->faults, 0);
	atomic64_set(&mirror->prefetches, 0);
	atomic64_set(&mirror->invalidations, 0);
	return 0;
}
EXPORT_SYMBOL_GPL(mm_mirror_init);

void mm_mirror_destroy(struct mm_mirror *mirror)
{
	struct mm_mirror_seg *seg;
	unsigned long index;

	might_sleep();
	WRITE_ONCE(mirror->dead, true);
	if (mirror->lock)
		mutex_lock(mirror->lock);
	mm_mirror_table_zap(&mirror->table, mirror->start, mirror->end, true);
	if (mirror->lock)
		mutex_unlock(mirror->lock);

	xa_for_each(&mirror->segs, index, seg) {
		mm_mirror_range_remove(&seg->range);
		kfree(seg);
		cond_resched();
	}
	xa_destroy(&mirror->segs);
	mmdrop(mirror->mm);
}
EXPORT_SYMBOL_GPL(mm_mirror_destroy);
