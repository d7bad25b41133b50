/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_MM_MIRROR_H
#define _LINUX_MM_MIRROR_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/dma-direction.h>
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/mm_mirror_range.h>
#include <linux/mutex.h>
#include <linux/xarray.h>

struct device;
struct mm_mirror;

/*
 * An entry is one word: a page frame number above these bits, or 0.
 *
 * MM_MIRROR_VALID: the page may be read
 * MM_MIRROR_WRITE: the page may be written; never set without VALID
 * MM_MIRROR_DIRTY: the page was, or may have been, written through the mirror
 * MM_MIRROR_USED: the page was read or written through the mirror
 */
#define MM_MIRROR_VALID		BIT(0)
#define MM_MIRROR_WRITE		BIT(1)
#define MM_MIRROR_DIRTY		BIT(2)
#define MM_MIRROR_USED		BIT(3)
#define MM_MIRROR_PFN_SHIFT	4

/* A leaf of the table covers what the CPU's lowest page table does: 2 MiB. */
#define MM_MIRROR_LEAF_SHIFT	PMD_SHIFT
#define MM_MIRROR_LEAF_SIZE	BIT(MM_MIRROR_LEAF_SHIFT)
/* As the segment size of a mirror: one segment for the whole range. */
#define MM_MIRROR_ONE_SEGMENT	0UL
/* Entries of a page, of PMD_SIZE and of PUD_SIZE */
#define MM_MIRROR_LEVELS	3

/**
 * enum mm_mirror_fault_kind - what a fault asks the CPU's page table for
 * @MM_MIRROR_FAULT_READ: make every page present
 * @MM_MIRROR_FAULT_WRITE: make every page present and writable
 * @MM_MIRROR_SNAPSHOT: take what is present, fault nothing
 */
enum mm_mirror_fault_kind {
	MM_MIRROR_FAULT_READ,
	MM_MIRROR_FAULT_WRITE,
	MM_MIRROR_SNAPSHOT,
};

/**
 * struct mm_mirror_ops - what a driver with a page table of its own provides
 */
struct mm_mirror_ops {
	/**
	 * @invalidate: The device must not use [@start, @end) any more when
	 * this returns: what is invalidated, and all of a huge entry that it
	 * is a part of. The entries are still in the table; the core marks
	 * their pages dirty and drops them afterwards.
	 *
	 * Context: The driver's lock is held. May sleep.
	 */
	void (*invalidate)(struct mm_mirror *mirror,
			   const struct mmu_notifier_range *range,
			   unsigned long start, unsigned long end);
};

/**
 * struct mm_mirror_config - what kind of mirror a driver wants
 * @seg_size: the size in bytes of the pieces that fault and are invalidated
 *	independently of each other: a power of two and no less than
 *	MM_MIRROR_LEAF_SIZE, or MM_MIRROR_ONE_SEGMENT
 * @lock: the driver's lock, under which it updates its device's page table or
 *	uses entries; or NULL for a device that only uses mm_mirror_read() and
 *	mm_mirror_write(). Goes together with MM_MIRROR_ONE_SEGMENT
 * @ops: the driver's callbacks; or NULL where the table is all that the device
 *	has. Goes together with @lock
 * @owner: of the driver's device private pages: they are mirrored as they are,
 *	and exclusive access that the driver takes with this owner drops no
 *	entries. Goes together with @lock. Or NULL
 * @dma_dev: entries get DMA addresses for this device; or NULL
 * @dma_dir: the direction of these
 */
struct mm_mirror_config {
	unsigned long seg_size;
	struct mutex *lock;		/* of the device's page table */
	const struct mm_mirror_ops *ops;
	void *owner;
	struct device *dma_dev;
	enum dma_data_direction dma_dir;
};

/* Internal: see mm/mm_mirror_table.c. */
struct mm_mirror_table {
	unsigned long start;
	unsigned long end;
	unsigned long base;		/* what index 0 of each level stands for */
	unsigned int levels;		/* that segments have room for */
	unsigned int last_level;	/* that was published last */
	struct device *dma_dev;
	enum dma_data_direction dma_dir;
	struct xarray leaves[MM_MIRROR_LEVELS];
};

/**
 * struct mm_mirror - a device's mirror of one range of one mm
 * @mm: the mm; a reference to the structure (mmgrab()), not to the users
 * @start: first byte mirrored, page aligned
 * @end: byte after the last one mirrored, page aligned
 * @seg_mask: the size of a segment in bytes, less 1
 * @ops: from the config
 * @lock: from the config
 * @owner: from the config
 * @segs_lock: held while a segment is made
 * @segs: struct mm_mirror_seg by number, absent until first touched
 * @table: the entries
 * @dead: teardown has begun, faults are refused
 * @faults: pages that faults added to the table or made writable
 * @prefetches: those that mm_mirror_prefetch() did
 * @invalidations: pages that invalidations dropped
 */
struct mm_mirror {
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
	unsigned long seg_mask;
	const struct mm_mirror_ops *ops;
	struct mutex *lock;		/* of the device's page table */
	void *owner;
	struct mutex segs_lock;		/* of the making of segments */
	struct xarray segs;
	struct mm_mirror_table table;
	bool dead;
	atomic64_t faults;
	atomic64_t prefetches;
	atomic64_t invalidations;
};

/**
 * mm_mirror_dma_capable - can this device have a mirror with DMA addresses?
 * @dev: what does the DMA
 *
 * For a driver that makes its mirrors later, and has to refuse before.
 * mm_mirror_init() asks it by itself.
 *
 * Context: Any.
 * Return: false if there is memory that the device cannot reach by itself, or
 * that it and the CPU do not see alike.
 */
bool mm_mirror_dma_capable(struct device *dev);

/**
 * mm_mirror_init - begin to mirror a range
 * @mirror: zeroed memory, the driver's
 * @mm: the mm; the caller holds a reference to its users
 * @start: first byte, page aligned
 * @end: byte after the last one, page aligned
 * @config: what kind of mirror; not needed after the call
 *
 * Costs the same for any range: segments and leaves come with the faults.
 *
 * Context: Process context.
 * Return: 0. -EINVAL: the range is empty or not page aligned. -EOPNOTSUPP: not
 * every page can be mapped for the DMA device at its own address.
 */
int mm_mirror_init(struct mm_mirror *mirror, struct mm_struct *mm,
		   unsigned long start, unsigned long end,
		   const struct mm_mirror_config *config);

/**
 * mm_mirror_destroy - stop mirroring and free the table
 * @mirror: the mirror
 *
 * The driver has stopped its device and makes sure that no fault and no access
 * is running or will begin. Pages that the device wrote are marked dirty. The
 * entries go first and the notifiers after them, so that no page is freed while
 * an entry points to it (invariant 8).
 *
 * Context: Process context, none of the locks held that invalidations take.
 * Sleeps, and may wait for an invalidation that is under way.
 */
void mm_mirror_destroy(struct mm_mirror *mirror);

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
 * a write is asked for and the mapping is read-only. -EHWPOISON: a page that
 * failed. Transient: -EBUSY, invalidations went on for ten seconds; -ENOMEM;
 * -EINTR, a fatal signal.
 */
int mm_mirror_fault(struct mm_mirror *mirror, unsigned long start,
		    unsigned long end, enum mm_mirror_fault_kind kind);

/**
 * mm_mirror_prefetch - mm_mirror_fault() before the device asks for it
 * @mirror: a mirror without a lock of the driver's
 * @start: first byte
 * @end: byte after the last one
 * @kind: what is asked for
 *
 * The pages are counted by themselves.
 *
 * Context: As mm_mirror_fault().
 * Return: As mm_mirror_fault().
 */
int mm_mirror_prefetch(struct mm_mirror *mirror, unsigned long start,
		       unsigned long end, enum mm_mirror_fault_kind kind);

/**
 * mm_mirror_fault_nowait - mm_mirror_fault() as far as that needs no waiting
 * @mirror: a mirror without a lock of the driver's
 * @start: first byte
 * @end: byte after the last one
 * @kind: what is asked for
 *
 * For a context that serves more than this fault. See hmm_range_fault_nowait()
 * for what it can do.
 *
 * Context: Process context, no lock of the mm held. May sleep to reclaim memory.
 * Return: As mm_mirror_fault(), and -EAGAIN: call that one, from where waiting
 * holds up nobody.
 */
int mm_mirror_fault_nowait(struct mm_mirror *mirror, unsigned long start,
			   unsigned long end, enum mm_mirror_fault_kind kind);

/**
 * mm_mirror_fault_and_lock - fault a range and keep the driver's lock
 * @mirror: a mirror with a lock of the driver's and a single segment
 * @start: first byte
 * @end: byte after the last one
 * @kind: what is asked for
 *
 * For a driver that copies the entries into its device's page table, and does
 * that under its lock. The device's writes cannot be seen from here, so a
 * writable entry counts as written unless only reading was asked for: what has
 * no MM_MIRROR_DIRTY, the device must not write. With a DMA device each entry
 * has an address, see mm_mirror_entry().
 *
 * Context: Process context, no lock of the mm held, @mirror->lock not held.
 * Sleeps. On success @mirror->lock is held.
 * Return: 0, or an error as from mm_mirror_fault(), or -EFAULT also where DMA
 * mapping failed.
 */
int mm_mirror_fault_and_lock(struct mm_mirror *mirror, unsigned long start,
			     unsigned long end,
			     enum mm_mirror_fault_kind kind);

/**
 * mm_mirror_entry - the entry of an address
 * @mirror: a mirror with a lock of the driver's
 * @addr: an address in its range
 * @order: the order of the page that the entry stands for goes here
 * @dma: and here the DMA address of @addr's page; 0 without a DMA device
 *
 * Context: @mirror->lock is held, and the entry stands until it is released.
 * Return: the entry, or 0 if there is none. In a huge one the page of @addr.
 */
unsigned long mm_mirror_entry(struct mm_mirror *mirror, unsigned long addr,
			      unsigned int *order, dma_addr_t *dma);

/**
 * mm_mirror_empty - is there no entry at all?
 * @mirror: a mirror with a lock of the driver's
 *
 * Context: @mirror->lock is held.
 * Return: true if there is none. False does not promise that there is one.
 */
bool mm_mirror_empty(struct mm_mirror *mirror);

/**
 * mm_mirror_drop - drop the entries of a range
 * @mirror: a mirror with a lock of the driver's
 * @start: first byte
 * @end: byte after the last one
 *
 * The device does not use them any more. Huge entries are dropped whole.
 *
 * Context: @mirror->lock is held. May sleep.
 * Return: how many pages there were.
 */
unsigned long mm_mirror_drop(struct mm_mirror *mirror, unsigned long start,
			     unsigned long end);

/**
 * mm_mirror_read - copy out of a mirrored range
 * @mirror: the mirror
 * @addr: address in the mirrored mm; [@addr, @addr + @len) lies in the mirror
 * @to: kernel memory
 * @len: bytes
 *
 * Context: Task context, atomic or not. Never sleeps, never faults.
 * Return: the bytes copied. Fewer than @len: the page of the next one is not
 * in the table. Fault it in and go on. -EIO: the first byte is in memory that
 * failed with a machine check.
 */
ssize_t mm_mirror_read(struct mm_mirror *mirror, unsigned long addr, void *to,
		       size_t len);

/**
 * mm_mirror_write - copy into a mirrored range
 * @mirror: the mirror
 * @addr: address in the mirrored mm; [@addr, @addr + @len) lies in the mirror
 * @from: kernel memory
 * @len: bytes
 *
 * The pages are marked dirty when their entries are dropped.
 *
 * Context: Task context, atomic or not. Never sleeps, never faults.
 * Return: the bytes copied. Fewer than @len: the page of the next one is not
 * in the table, or not writable there. Fault it in and go on.
 */
ssize_t mm_mirror_write(struct mm_mirror *mirror, unsigned long addr,
			const void *from, size_t len);

/**
 * mm_mirror_apply - let a function at a piece of a mirrored page
 * @mirror: the mirror
 * @addr: address in the mirrored mm, and in the mirror
 * @write: @fn may write to the page
 * @fn: is called with the page of @addr, the offset of @addr in it, and @arg. It
 *	holds up every invalidation of the page: it is short and must not sleep
 * @arg: for @fn
 *
 * For what is neither reading nor writing, such as an atomic operation.
 *
 * Context: Task context, atomic or not. Never sleeps, never faults.
 * Return: what @fn returns, or -EAGAIN: the page is not in the table, or not
 * writable there. Fault it in and try again.
 */
int mm_mirror_apply(struct mm_mirror *mirror, unsigned long addr, bool write,
		    int (*fn)(struct page *page, unsigned int offset, void *arg),
		    void *arg);

static inline struct page *mm_mirror_entry_page(unsigned long entry)
{
	return pfn_to_page(entry >> MM_MIRROR_PFN_SHIFT);
}

#endif /* _LINUX_MM_MIRROR_H */
