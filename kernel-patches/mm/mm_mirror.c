// SPDX-License-Identifier: GPL-2.0
/*
 * mm_mirror: a device's mirror of part of a process's page table
 *
 * A device that can take page faults needs no pinned memory. It needs a mirror
 * of the CPU's page table: an entry is filled in when the device faults, and
 * dropped before the CPU's page table changes. This is that mirror: the
 * notifiers, the fault loop, the table, and their teardown.
 *
 * What is where
 * -------------
 * A mirror covers the range [start, end) of one mm. It is split into segments,
 * each with an interval notifier and so a sequence of its own, because the
 * retry check of an interval notifier knows nothing finer than the notifier: in
 * one large segment every munmap() restarts every fault. Entries live in
 * leaves, one page of them each. A leaf lies in one segment; a segment has one
 * leaf or many. Segments and leaves are aligned in the address space, clipped
 * to the mirror, and come into being when they are first touched: creating a
 * mirror inserts no notifier and allocates nothing for memory that nobody uses.
 *
 * Locking
 * -------
 * segment->lock	Held over the sequence check and the stores of a
 *			publish, and by an invalidation while it moves the
 *			sequence on: whoever takes it second sees the other.
 * mirror->lock		The driver's. A driver that has a page table of its own
 *			brings it, and it is taken in place of segment->lock:
 *			from the sequence check until the driver has updated its
 *			device, and over the whole of an invalidation.
 * leaf->lock		Protects the entries. Software access holds it for
 *			reading while it copies; a publish and an invalidation
 *			hold it for writing. Readers do not exclude each other.
 *
 * They nest in this order, inside mmap_lock, and the folio and rmap locks that
 * an invalidation arrives with. No memory is allocated and no fault taken under
 * any of them. Only the driver's may sleep, so that a mirror without one serves
 * invalidations that must not block (the OOM reaper).
 *
 * Leaves and segments are found without a lock: they go away only in
 * mm_mirror_destroy(), when no fault and no access is running any more, and
 * after their notifiers.
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
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mm_mirror.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/secretmem.h>
#include <linux/slab.h>
#include <linux/swap.h>

#define LEAF_ENTRIES	(PAGE_SIZE / sizeof(unsigned long))

struct mm_mirror_seg {
	struct mmu_interval_notifier notifier;
	struct mm_mirror *mirror;
	unsigned long start;
	unsigned long end;
	spinlock_t lock;	/* of the notifier's sequence */
};

struct mm_mirror_leaf {
	rwlock_t lock;		/* of the entries */
	unsigned long *entries;
};

static unsigned long leaf_index(struct mm_mirror *mirror, unsigned long addr)
{
	return (addr >> MM_MIRROR_LEAF_SHIFT) -
	       (mirror->start >> MM_MIRROR_LEAF_SHIFT);
}

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

static unsigned int entry_index(unsigned long addr)
{
	return (addr >> PAGE_SHIFT) & (LEAF_ENTRIES - 1);
}

/* The end of the leaf that @addr is in, or @end if that comes first. */
static unsigned long leaf_end(unsigned long addr, unsigned long end)
{
	return min(end - 1, addr | (MM_MIRROR_LEAF_SIZE - 1)) + 1;
}

/*
 * Drop an entry. The page is still mapped by the CPU, whose own dirty bit says
 * nothing of what the device wrote: a page that was swapped in or lazily freed
 * can be writable and clean.
 */
static void entry_drop(unsigned long *entry)
{
	unsigned long old = *entry;
	struct folio *folio;

	*entry = 0;
	if (!(old & (MM_MIRROR_DIRTY | MM_MIRROR_USED)))
		return;
	folio = page_folio(mm_mirror_entry_page(old));
	if (old & MM_MIRROR_DIRTY)
		folio_mark_dirty(folio);
	if (!folio_is_zone_device(folio))
		folio_mark_accessed(folio);
}

static unsigned long leaf_zap(struct mm_mirror_leaf *leaf, unsigned long start,
			      unsigned long end)
{
	unsigned long *entry = &leaf->entries[entry_index(start)];
	unsigned long *last = &leaf->entries[entry_index(end - 1)];
	unsigned long dropped = 0;

	write_lock(&leaf->lock);
	for (; entry <= last; entry++) {
		if (!*entry)
			continue;
		entry_drop(entry);
		dropped++;
	}
	write_unlock(&leaf->lock);
	return dropped;
}

static void mirror_zap(struct mm_mirror *mirror, unsigned long start,
		       unsigned long end, bool can_sleep)
{
	unsigned long base = mirror->start & ~(MM_MIRROR_LEAF_SIZE - 1);
	unsigned long index, dropped = 0;
	struct mm_mirror_leaf *leaf;

	xa_for_each_range(&mirror->leaves, index, leaf,
			  leaf_index(mirror, start),
			  leaf_index(mirror, end - 1)) {
		unsigned long addr = base + (index << MM_MIRROR_LEAF_SHIFT);

		dropped += leaf_zap(leaf, max(start, addr),
				    leaf_end(addr, end));
		if (can_sleep)
			cond_resched();
	}
	if (dropped)
		atomic64_add(dropped, &mirror->invalidations);
}

static bool mm_mirror_invalidate(struct mmu_interval_notifier *notifier,
				 const struct mmu_notifier_range *range,
				 unsigned long cur_seq)
{
	struct mm_mirror_seg *seg =
		container_of(notifier, struct mm_mirror_seg, notifier);
	struct mm_mirror *mirror = seg->mirror;
	bool blockable = mmu_notifier_range_blockable(range);
	unsigned long start = max(range->start, seg->start);
	unsigned long end = min(range->end, seg->end);

	if (!mirror->lock) {
		spin_lock(&seg->lock);
		mmu_interval_set_seq(notifier, cur_seq);
		spin_unlock(&seg->lock);
		mirror_zap(mirror, start, end, blockable);
		return true;
	}

	if (!blockable)
		return false;
	mutex_lock(mirror->lock);
	mmu_interval_set_seq(notifier, cur_seq);
	mirror->ops->invalidate(mirror, range, start, end);
	mirror_zap(mirror, start, end, true);
	mutex_unlock(mirror->lock);
	return true;
}

static const struct mmu_interval_notifier_ops mm_mirror_notifier_ops = {
	.invalidate = mm_mirror_invalidate,
};

static bool anything_mapped(struct mm_struct *mm, unsigned long start,
			    unsigned long end)
{
	bool mapped;

	mmap_read_lock(mm);
	mapped = find_vma_intersection(mm, start, end);
	mmap_read_unlock(mm);
	return mapped;
}

/*
 * Find or make the segment of @addr. The mm's users are held. Where nothing is
 * mapped no segment is made: a remote peer that guesses addresses must not cost
 * the process memory. The only segment of a driver with a page table of its own
 * costs it once, and its snapshot of unmapped memory is an empty one.
 */
static struct mm_mirror_seg *seg_get(struct mm_mirror *mirror,
				     unsigned long addr)
{
	unsigned long start = seg_start(mirror, addr);
	unsigned long end = seg_end(mirror, addr, mirror->end);
	unsigned long index = leaf_index(mirror, start);
	struct mm_mirror_seg *seg, *old;
	int ret;

	seg = xa_load(&mirror->segs, index);
	if (seg)
		return seg;
	if (!mirror->lock && !anything_mapped(mirror->mm, start, end))
		return ERR_PTR(-EFAULT);

	seg = kzalloc(sizeof(*seg), GFP_KERNEL_ACCOUNT);
	if (!seg)
		return ERR_PTR(-ENOMEM);
	seg->mirror = mirror;
	seg->start = start;
	seg->end = end;
	spin_lock_init(&seg->lock);
	ret = mmu_interval_notifier_insert(&seg->notifier, mirror->mm, start,
					   end - start,
					   &mm_mirror_notifier_ops);
	if (ret)
		goto free;

	old = xa_cmpxchg(&mirror->segs, index, NULL, seg, GFP_KERNEL_ACCOUNT);
	if (likely(!old))
		return seg;

	ret = xa_err(old);
	mmu_interval_notifier_remove(&seg->notifier);
free:
	kfree(seg);
	return ret ? ERR_PTR(ret) : old;
}

static void leaf_free(struct mm_mirror_leaf *leaf)
{
	free_page((unsigned long)leaf->entries);
	kfree(leaf);
}

static struct mm_mirror_leaf *leaf_alloc(void)
{
	struct mm_mirror_leaf *leaf;

	leaf = kmalloc(sizeof(*leaf), GFP_KERNEL_ACCOUNT);
	if (!leaf)
		return NULL;
	rwlock_init(&leaf->lock);
	leaf->entries = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!leaf->entries) {
		kfree(leaf);
		return NULL;
	}
	return leaf;
}

static bool any_valid(const unsigned long *pfns, unsigned long npages)
{
	while (npages--)
		if (*pfns++ & HMM_PFN_VALID)
			return true;
	return false;
}

/* Make the leaves that @pfns needs, so that publish need not allocate. */
static int leaves_reserve(struct mm_mirror *mirror, unsigned long start,
			  unsigned long end, const unsigned long *pfns)
{
	unsigned long next;

	for (; start < end; start = next) {
		unsigned long index = leaf_index(mirror, start);
		unsigned long npages;
		struct mm_mirror_leaf *leaf;
		void *old;

		next = leaf_end(start, end);
		npages = (next - start) >> PAGE_SHIFT;
		pfns += npages;
		if (xa_load(&mirror->leaves, index) ||
		    !any_valid(pfns - npages, npages))
			continue;

		leaf = leaf_alloc();
		if (!leaf)
			return -ENOMEM;
		old = xa_cmpxchg(&mirror->leaves, index, NULL, leaf,
				 GFP_KERNEL_ACCOUNT);
		if (old)
			leaf_free(leaf);
		if (xa_is_err(old))
			return xa_err(old);
		cond_resched();
	}
	return 0;
}

/* Returns the number of pages that are new, or newly writable. */
static unsigned long leaf_publish(struct mm_mirror_leaf *leaf,
				  unsigned long addr, unsigned long npages,
				  const unsigned long *pfns,
				  unsigned long implied)
{
	unsigned long *entry = &leaf->entries[entry_index(addr)];
	unsigned long i, changed = 0;

	write_lock(&leaf->lock);
	for (i = 0; i < npages; i++, entry++) {
		unsigned long new, old = *entry;

		if (!(pfns[i] & HMM_PFN_VALID))
			continue;
		new = (pfns[i] & ~HMM_PFN_FLAGS) << MM_MIRROR_PFN_SHIFT;
		new |= MM_MIRROR_VALID;
		if (pfns[i] & HMM_PFN_WRITE)
			new |= MM_MIRROR_WRITE | implied;

		/* A page is replaced only after an invalidation. */
		if (WARN_ON_ONCE(old && (old ^ new) >> MM_MIRROR_PFN_SHIFT)) {
			entry_drop(entry);
			old = 0;
		}
		/* Bits are only added: dirtiness must not be lost. */
		*entry = old | new;
		if (new & ~old & (MM_MIRROR_VALID | MM_MIRROR_WRITE))
			changed++;
	}
	write_unlock(&leaf->lock);
	return changed;
}

static void publish(struct mm_mirror *mirror, unsigned long start,
		    unsigned long end, const unsigned long *pfns,
		    unsigned long implied)
{
	unsigned long next, changed = 0;

	for (; start < end; start = next) {
		struct mm_mirror_leaf *leaf;
		unsigned long npages;

		next = leaf_end(start, end);
		npages = (next - start) >> PAGE_SHIFT;
		leaf = xa_load(&mirror->leaves, leaf_index(mirror, start));
		if (leaf)
			changed += leaf_publish(leaf, start, npages, pfns,
						implied);
		pfns += npages;
		if (mirror->lock)
			cond_resched();
	}
	if (changed)
		atomic64_add(changed, &mirror->faults);
}

/*
 * What get_user_pages() refuses and hmm_range_fault() does not: pages that are
 * not in the kernel's direct map, and writing to a shadow stack. Its entries
 * look writable, so it is not mirrored for reading either. A fault fails; a
 * snapshot leaves such a mapping out.
 */
static int refuse_vmas(struct hmm_range *range, enum mm_mirror_fault_kind kind)
{
	VMA_ITERATOR(vmi, range->notifier->mm, range->start);
	struct vm_area_struct *vma;

	for_each_vma_range(vmi, vma, range->end) {
		unsigned long start = max(vma->vm_start, range->start);
		unsigned long end = min(vma->vm_end, range->end);

		if (!vma_is_secretmem(vma) &&
		    !(vma->vm_flags & VM_SHADOW_STACK))
			continue;
		if (kind != MM_MIRROR_SNAPSHOT)
			return -EFAULT;
		memset(range->hmm_pfns + ((start - range->start) >> PAGE_SHIFT),
		       0, ((end - start) >> PAGE_SHIFT) * sizeof(long));
	}
	return 0;
}

static int range_fault(struct hmm_range *range, enum mm_mirror_fault_kind kind)
{
	struct mm_struct *mm = range->notifier->mm;
	int ret;

	range->default_flags = 0;
	if (kind != MM_MIRROR_SNAPSHOT)
		range->default_flags |= HMM_PFN_REQ_FAULT;
	if (kind == MM_MIRROR_FAULT_WRITE)
		range->default_flags |= HMM_PFN_REQ_WRITE;

	mmap_read_lock(mm);
	ret = refuse_vmas(range, kind);
	if (!ret)
		ret = hmm_range_fault(range);
	if (!ret && kind == MM_MIRROR_SNAPSHOT)
		ret = refuse_vmas(range, kind);
	mmap_read_unlock(mm);
	return ret;
}

/* The lock that the invalidation takes is held. */
static bool publish_if_current(struct mm_mirror_seg *seg,
			       const struct hmm_range *range,
			       unsigned long implied)
{
	if (mmu_interval_read_retry(&seg->notifier, range->notifier_seq))
		return false;
	publish(seg->mirror, range->start, range->end, range->hmm_pfns,
		implied);
	return true;
}

/* With a driver's lock, that lock is held on success. */
static bool lock_and_publish(struct mm_mirror_seg *seg,
			     const struct hmm_range *range,
			     unsigned long implied)
{
	struct mutex *lock = seg->mirror->lock;	/* the driver's */
	bool done;

	if (lock) {
		mutex_lock(lock);
		done = publish_if_current(seg, range, implied);
		if (!done)
			mutex_unlock(lock);
		return done;
	}

	spin_lock(&seg->lock);
	done = publish_if_current(seg, range, implied);
	spin_unlock(&seg->lock);
	return done;
}

/*
 * Fault [@start, @end) of @seg and publish it. With a driver's lock that lock
 * is held on success, from before the sequence is checked.
 */
static int seg_fault(struct mm_mirror_seg *seg, unsigned long start,
		     unsigned long end, enum mm_mirror_fault_kind kind,
		     unsigned long *pfns, unsigned long implied)
{
	unsigned long timeout =
		jiffies + msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	struct hmm_range range = {
		.notifier = &seg->notifier,
		.start = start,
		.end = end,
		.hmm_pfns = pfns,
		.dev_private_owner = seg,
	};
	int ret;

	do {
		range.notifier_seq = mmu_interval_read_begin(&seg->notifier);
		ret = range_fault(&range, kind);
		if (ret == -EBUSY && time_before(jiffies, timeout))
			continue;
		if (ret)
			return ret;
		ret = leaves_reserve(seg->mirror, start, end, pfns);
		if (ret)
			return ret;
		if (lock_and_publish(seg, &range, implied))
			return 0;
	} while (!fatal_signal_pending(current));

	return -EINTR;
}

static int mirror_fault(struct mm_mirror *mirror, unsigned long start,
			unsigned long end, enum mm_mirror_fault_kind kind,
			unsigned long implied)
{
	struct mem_cgroup *memcg, *old_memcg;
	struct mm_mirror_seg *seg;
	unsigned long *pfns;
	int ret;

	might_sleep();
	if (start >= end || start < mirror->start || end > mirror->end)
		return -EINVAL;
	if (WARN_ON_ONCE(seg_end(mirror, start, end) != end))
		return -EINVAL;
	if (mirror->dead || !mmget_not_zero(mirror->mm))
		return -EFAULT;

	/* The process pays for its page tables and ours, whoever faults. */
	memcg = get_mem_cgroup_from_mm(mirror->mm);
	old_memcg = set_active_memcg(memcg);

	start &= PAGE_MASK;
	end = PAGE_ALIGN(end);
	ret = -ENOMEM;
	pfns = kvcalloc((end - start) >> PAGE_SHIFT, sizeof(*pfns),
			GFP_KERNEL | __GFP_NOWARN);
	if (!pfns)
		goto out;
	seg = seg_get(mirror, start);
	ret = PTR_ERR_OR_ZERO(seg);
	if (!ret)
		ret = seg_fault(seg, start, end, kind, pfns, implied);
out:
	kvfree(pfns);
	set_active_memcg(old_memcg);
	mem_cgroup_put(memcg);
	mmput_async(mirror->mm);
	return ret;
}

/**
 * mm_mirror_fault - fault a range and enter it into the table
 * @mirror: a mirror without a lock of the driver's
 * @start: first byte
 * @end: byte after the last one
 * @kind: what is asked for
 *
 * Works through the range segment by segment and stops at the first that
 * fails. What was entered can be gone again when this returns.
 *
 * Context: Process context, no lock of the mm held. Sleeps, and waits for
 * invalidations that are under way.
 * Return: 0. -EINVAL: the range is not inside the mirror. -EFAULT: no mapping,
 * one that has no pages or that no device may use, or the mm is gone. -EPERM:
 * a write is asked for and the mapping is read-only. Transient: -EBUSY,
 * invalidations stopped the walk for HMM_RANGE_DEFAULT_TIMEOUT ms; -ENOMEM;
 * -EINTR. An invalidation after the walk repeats it, however often.
 */
int mm_mirror_fault(struct mm_mirror *mirror, unsigned long start,
		    unsigned long end, enum mm_mirror_fault_kind kind)
{
	if (WARN_ON_ONCE(mirror->lock) || start >= end)
		return -EINVAL;

	while (start < end) {
		unsigned long next = seg_end(mirror, start, end);
		int ret = mirror_fault(mirror, start, next, kind, 0);

		if (ret)
			return ret;
		start = next;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(mm_mirror_fault);

/**
 * mm_mirror_fault_and_lock - fault a range and keep the driver's lock
 * @mirror: a mirror with a lock of the driver's and a single segment
 * @start: first byte
 * @end: byte after the last one
 * @kind: what is asked for
 *
 * For a driver that copies the entries into its device's page table, and does
 * that under its lock. The device's writes cannot be seen from here, so a
 * writable entry counts as written unless only reading was asked for.
 *
 * Context: Process context, no lock of the mm held, @mirror->lock not held.
 * Sleeps. On success @mirror->lock is held.
 * Return: 0, or an error as from mm_mirror_fault().
 */
int mm_mirror_fault_and_lock(struct mm_mirror *mirror, unsigned long start,
			     unsigned long end,
			     enum mm_mirror_fault_kind kind)
{
	if (WARN_ON_ONCE(!mirror->lock))
		return -EINVAL;
	return mirror_fault(mirror, start, end, kind,
			    kind == MM_MIRROR_FAULT_READ ? 0 : MM_MIRROR_DIRTY);
}
EXPORT_SYMBOL_GPL(mm_mirror_fault_and_lock);

/**
 * mm_mirror_entry - the entry of an address
 * @mirror: a mirror with a lock of the driver's
 * @addr: an address in its range
 *
 * Context: @mirror->lock is held, and the entry stands until it is released.
 * Return: the entry, or 0 if there is none.
 */
unsigned long mm_mirror_entry(struct mm_mirror *mirror, unsigned long addr)
{
	struct mm_mirror_leaf *leaf;

	lockdep_assert_held(mirror->lock);
	leaf = xa_load(&mirror->leaves, leaf_index(mirror, addr));
	return leaf ? leaf->entries[entry_index(addr)] : 0;
}
EXPORT_SYMBOL_GPL(mm_mirror_entry);

/* Readers share the leaf's lock, so the bits are set atomically, and once. */
static void entry_mark(unsigned long *entry, unsigned long bits)
{
	if ((READ_ONCE(*entry) & bits) != bits)
		atomic_long_or(bits, (atomic_long_t *)entry);
}

/*
 * Copy within one page, under the leaf's lock. Reading uses the copy that
 * survives a machine check where the memory can have one.
 */
static ssize_t page_copy(unsigned long *entry, unsigned long addr, void *buf,
			 size_t len, bool write)
{
	unsigned long need = write ? MM_MIRROR_WRITE : MM_MIRROR_VALID;
	unsigned long left = 0;
	char *page;

	if (unlikely(!(READ_ONCE(*entry) & need)))
		return 0;

	page = kmap_local_page(mm_mirror_entry_page(*entry));
	if (write) {
		memcpy(page + offset_in_page(addr), buf, len);
		entry_mark(entry, MM_MIRROR_DIRTY | MM_MIRROR_USED);
	} else {
		left = copy_mc_to_kernel(buf, page + offset_in_page(addr), len);
		entry_mark(entry, MM_MIRROR_USED);
	}
	kunmap_local(page);
	return unlikely(left == len) ? -EIO : len - left;
}

static ssize_t mirror_copy(struct mm_mirror *mirror, unsigned long addr,
			   void *buf, size_t len, bool write)
{
	struct mm_mirror_leaf *leaf;
	size_t done = 0;

	while (done < len) {
		size_t n = min(len - done, PAGE_SIZE - offset_in_page(addr));
		ssize_t copied;

		leaf = xa_load(&mirror->leaves, leaf_index(mirror, addr));
		if (!leaf)
			break;
		read_lock(&leaf->lock);
		copied = page_copy(&leaf->entries[entry_index(addr)], addr,
				   buf + done, n, write);
		read_unlock(&leaf->lock);
		if (unlikely(copied < 0))
			return done ? done : copied;
		done += copied;
		addr += copied;
		if (copied < n)
			break;
	}
	return done;
}

/**
 * mm_mirror_read - copy out of a mirrored range
 * @mirror: the mirror
 * @addr: address in the mirrored mm; [@addr, @addr + @len) lies in the mirror
 * @to: kernel memory
 * @len: bytes
 *
 * Context: Any that may take a read_lock(). Never sleeps, never faults.
 * Return: the bytes copied. Fewer than @len: the page of the next one is not
 * in the table. Fault it in and go on. -EIO: the first byte is in memory that
 * failed with a machine check.
 */
ssize_t mm_mirror_read(struct mm_mirror *mirror, unsigned long addr, void *to,
		       size_t len)
{
	return mirror_copy(mirror, addr, to, len, false);
}
EXPORT_SYMBOL_GPL(mm_mirror_read);

/**
 * mm_mirror_write - copy into a mirrored range
 * @mirror: the mirror
 * @addr: address in the mirrored mm; [@addr, @addr + @len) lies in the mirror
 * @from: kernel memory
 * @len: bytes
 *
 * The pages are marked dirty when their entries are dropped.
 *
 * Context: Any that may take a read_lock(). Never sleeps, never faults.
 * Return: the bytes copied. Fewer than @len: the page of the next one is not
 * in the table, or not writable there. Fault it in and go on.
 */
ssize_t mm_mirror_write(struct mm_mirror *mirror, unsigned long addr,
			const void *from, size_t len)
{
	return mirror_copy(mirror, addr, (void *)from, len, true);
}
EXPORT_SYMBOL_GPL(mm_mirror_write);

/**
 * mm_mirror_init - begin to mirror a range
 * @mirror: zeroed memory, the driver's
 * @mm: the mm; the caller holds a reference to its users
 * @start: first byte, page aligned
 * @end: byte after the last one, page aligned
 * @seg_size: the segment size in bytes, a power of two and no less than
 *	MM_MIRROR_LEAF_SIZE, or MM_MIRROR_ONE_SEGMENT
 * @ops: callbacks of a driver that has a page table of its own, or NULL
 * @lock: the lock under which that driver updates it, or NULL
 *
 * Costs the same for any range: segments and leaves come with the faults.
 *
 * Context: Process context.
 * Return: 0, or -EINVAL: the range is empty or not page aligned.
 */
int mm_mirror_init(struct mm_mirror *mirror, struct mm_struct *mm,
		   unsigned long start, unsigned long end,
		   unsigned long seg_size,
		   const struct mm_mirror_ops *ops, struct mutex *lock)
{
	if (start >= end || !PAGE_ALIGNED(start | end))
		return -EINVAL;
	if (WARN_ON_ONCE(seg_size & (MM_MIRROR_LEAF_SIZE - 1) ||
			 (seg_size && !is_power_of_2(seg_size)) ||
			 !!ops != !!lock))
		return -EINVAL;

	mmgrab(mm);
	mirror->mm = mm;
	mirror->start = start;
	mirror->end = end;
	mirror->seg_mask = seg_size - 1;
	mirror->ops = ops;
	mirror->lock = lock;
	mirror->dead = false;
	xa_init(&mirror->segs);
	xa_init(&mirror->leaves);
	atomic64_set(&mirror->faults, 0);
	atomic64_set(&mirror->invalidations, 0);
	return 0;
}
EXPORT_SYMBOL_GPL(mm_mirror_init);

/**
 * mm_mirror_destroy - stop mirroring and free the table
 * @mirror: the mirror
 *
 * The driver has stopped its device and makes sure that no fault and no access
 * is running or will begin. Pages that the device wrote are marked dirty. The
 * entries go first and the notifiers after them, so that no page is freed while
 * an entry points to it.
 *
 * Context: Process context, none of the locks held that invalidations take.
 * Sleeps, and may wait for an invalidation that is under way.
 */
void mm_mirror_destroy(struct mm_mirror *mirror)
{
	struct mm_mirror_leaf *leaf;
	struct mm_mirror_seg *seg;
	unsigned long index;

	might_sleep();
	mirror->dead = true;
	mirror_zap(mirror, mirror->start, mirror->end, true);

	xa_for_each(&mirror->segs, index, seg) {
		mmu_interval_notifier_remove(&seg->notifier);
		kfree(seg);
		cond_resched();
	}
	xa_for_each(&mirror->leaves, index, leaf) {
		leaf_free(leaf);
		cond_resched();
	}
	xa_destroy(&mirror->segs);
	xa_destroy(&mirror->leaves);
	mmdrop(mirror->mm);
}
EXPORT_SYMBOL_GPL(mm_mirror_destroy);
