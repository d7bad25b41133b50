/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_MM_MIRROR_RANGE_H
#define _LINUX_MM_MIRROR_RANGE_H

#include <linux/mmu_notifier.h>

struct mm_mirror_range;

/**
 * struct mm_mirror_range_ops - what a driver does when a range changes
 */
struct mm_mirror_range_ops {
	/**
	 * @invalidate: When this returns, the device must not use what lies in
	 * both @range and @event. The sequence was moved on before.
	 *
	 * Context: May sleep. Takes the lock that the driver holds from
	 * mmu_interval_read_retry() until its device knows. Nothing that holds
	 * this lock may allocate memory or fault.
	 */
	void (*invalidate)(struct mm_mirror_range *range,
			   const struct mmu_notifier_range *event);
	/**
	 * @invalidate_nonblock: The same where nothing may sleep, which is so
	 * for the OOM reaper; or NULL for a driver that cannot.
	 *
	 * Return: false if it would have to wait. The event does not take place
	 * then.
	 */
	bool (*invalidate_nonblock)(struct mm_mirror_range *range,
				    const struct mmu_notifier_range *event);
};

/**
 * struct mm_mirror_range - a range of an mm whose changes a driver hears of
 * @notifier: with the sequence: mmu_interval_read_begin() before looking at the
 *	mm, mmu_interval_read_retry() before using what was seen. Its mm is NULL
 *	while the range is not registered
 * @ops: the driver's callbacks, or NULL for one that only looks at the sequence
 * @owner: the exclusive access that a driver takes itself, with this owner,
 *	does not count as a change; or NULL
 *
 * Must be zeroed before it is used first. mmu_interval_read_begin() waits for
 * callbacks: it is not called with a lock held that they take.
 */
struct mm_mirror_range {
	struct mmu_interval_notifier notifier;
	const struct mm_mirror_range_ops *ops;
	void *owner;
};

/**
 * mm_mirror_range_add - hear of the changes of a range
 * @range: not registered; @range->ops and @range->owner are set
 * @mm: the mm; the caller holds a reference to its users
 * @start: first byte
 * @length: bytes
 *
 * Context: Process context, the mmap lock not held. Sleeps.
 * Return: 0, or an error of mmu_interval_notifier_insert(); then @range is not
 * registered.
 */
int mm_mirror_range_add(struct mm_mirror_range *range, struct mm_struct *mm,
			unsigned long start, unsigned long length);

/**
 * mm_mirror_range_add_locked - mm_mirror_range_add() under the mmap lock
 * @range: as there
 * @mm: as there
 * @start: as there
 * @length: as there
 *
 * Context: Process context, the mmap lock is held for writing. Sleeps.
 * Return: As there.
 */
int mm_mirror_range_add_locked(struct mm_mirror_range *range,
			       struct mm_struct *mm, unsigned long start,
			       unsigned long length);

/**
 * mm_mirror_range_remove - hear no more
 * @range: registered or not
 *
 * The device uses nothing of the range any more. When this returns, no callback
 * is running, and none will be called.
 *
 * Context: Process context, none of the locks held that invalidations take.
 * Waits for an invalidation that is under way.
 */
void mm_mirror_range_remove(struct mm_mirror_range *range);

#endif /* _LINUX_MM_MIRROR_RANGE_H */
