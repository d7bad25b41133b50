// SPDX-License-Identifier: GPL-2.0
/*
 * A range of an mm whose changes a driver hears of
 *
 * This is the lowest layer of mm_mirror (Documentation/mm/mm_mirror.rst): the
 * notifier of a range, its sequence, and the order in which they move. A driver
 * that has its own way to the pages, and its own page table, takes no more.
 *
 * Locking
 * -------
 * The layer has no lock. The driver has one, of whatever kind, which it holds
 * from mmu_interval_read_retry() until its device knows the pages, and takes in
 * its invalidate callback. Here the sequence is moved on before that callback
 * is called, always and without a lock. So if the driver checked the sequence
 *
 *  - before the callback took the lock, the callback finds the device set up,
 *    and stops it;
 *  - after the callback released it, the check sees the new sequence, which was
 *    stored before that release.
 *
 * A driver that moves the sequence on itself has to do it under the lock, and
 * on every path: one that returned early without it would let a device go on
 * with pages that are gone.
 *
 * Invalidations that overlap store the same value: the mm's sequence is odd from
 * the first one's beginning to the last one's end.
 */

#include <linux/export.h>
#include <linux/mm_mirror_range.h>

/*
 * The driver that takes exclusive access to a page has the page already, and no
 * other page comes in its place. What the CPU does to get it back is an event
 * of no owner.
 */
static bool own_event(const struct mm_mirror_range *range,
		      const struct mmu_notifier_range *event)
{
	return range->owner && event->owner == range->owner &&
	       event->event == MMU_NOTIFY_EXCLUSIVE;
}

static bool mm_mirror_range_invalidate(struct mmu_interval_notifier *notifier,
				       const struct mmu_notifier_range *event,
				       unsigned long cur_seq)
{
	struct mm_mirror_range *range =
		container_of(notifier, struct mm_mirror_range, notifier);
	const struct mm_mirror_range_ops *ops = range->ops;

	/* Invariant 13 */
	if (own_event(range, event))
		return true;
	mmu_interval_set_seq(notifier, cur_seq);
	if (!ops)
		return true;
	if (!mmu_notifier_range_blockable(event))
		return ops->invalidate_nonblock &&
		       ops->invalidate_nonblock(range, event);
	ops->invalidate(range, event);
	return true;
}

static const struct mmu_interval_notifier_ops mm_mirror_range_notifier_ops = {
	.invalidate = mm_mirror_range_invalidate,
};

/* A failed insertion leaves the mm set. */
static int range_added(struct mm_mirror_range *range, int ret)
{
	if (ret)
		range->notifier.mm = NULL;
	return ret;
}

int mm_mirror_range_add(struct mm_mirror_range *range, struct mm_struct *mm,
			unsigned long start, unsigned long length)
{
	int ret = mmu_interval_notifier_insert(&range->notifier, mm, start,
					       length,
					       &mm_mirror_range_notifier_ops);

	return range_added(range, ret);
}
EXPORT_SYMBOL_GPL(mm_mirror_range_add);

int mm_mirror_range_add_locked(struct mm_mirror_range *range,
			       struct mm_struct *mm, unsigned long start,
			       unsigned long length)
{
	int ret = mmu_interval_notifier_insert_locked(&range->notifier, mm,
						      start, length,
						      &mm_mirror_range_notifier_ops);

	return range_added(range, ret);
}
EXPORT_SYMBOL_GPL(mm_mirror_range_add_locked);

void mm_mirror_range_remove(struct mm_mirror_range *range)
{
	if (!range->notifier.mm)
		return;
	mmu_interval_notifier_remove(&range->notifier);
	range->notifier.mm = NULL;
}
EXPORT_SYMBOL_GPL(mm_mirror_range_remove);
