/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_MM_MIRROR_H
#define _LINUX_MM_MIRROR_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/dma-direction.h>
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
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
/* Sizes of huge page that are one entry: PMD_SIZE and PUD_SIZE. */
#define MM_MIRROR_LEVELS	2

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
 * @ops: the driver's callbacks, or NULL for a device that only uses
 *	mm_mirror_read() and mm_mirror_write()
 * @lock: the driver's lock, under which it updates its device's page table;
 *	or NULL. Goes together with @ops
 * @owner: of the driver's device private pages: they are mirrored as they are,
 *	and the invalidations of a migration or an exclusive access that the
 *	driver began itself, with this owner, are left out. Or NULL
 * @dma_dev: entries get DMA addresses for this device; or NULL
 * @dma_dir: the direction of these
 */
struct mm_mirror_config {
	unsigned long seg_size;
	const struct mm_mirror_ops *ops;
	struct mutex *lock;
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
 * @segs: struct mm_mirror_seg by number, absent until first touched
 * @table: the entries
 * @dead: teardown has begun, faults are refused
 * @faults: pages that faults added to the table or made writable
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
	struct xarray segs;
	struct mm_mirror_table table;
	bool dead;
	atomic64_t faults;
	atomic64_t invalidations;
};

int mm_mirror_init(struct mm_mirror *mirror, struct mm_struct *mm,
		   unsigned long start, unsigned long end,
		   const struct mm_mirror_config *config);
void mm_mirror_destroy(struct mm_mirror *mirror);

int mm_mirror_fault(struct mm_mirror *mirror, unsigned long start,
		    unsigned long end, enum mm_mirror_fault_kind kind);
int mm_mirror_fault_and_lock(struct mm_mirror *mirror, unsigned long start,
			     unsigned long end,
			     enum mm_mirror_fault_kind kind);
unsigned long mm_mirror_entry(struct mm_mirror *mirror, unsigned long addr);
unsigned int mm_mirror_entry_order(struct mm_mirror *mirror,
				   unsigned long addr);
bool mm_mirror_empty(struct mm_mirror *mirror);
dma_addr_t mm_mirror_dma_addr(struct mm_mirror *mirror, unsigned long addr);
unsigned long mm_mirror_drop(struct mm_mirror *mirror, unsigned long start,
			     unsigned long end);

ssize_t mm_mirror_read(struct mm_mirror *mirror, unsigned long addr, void *to,
		       size_t len);
ssize_t mm_mirror_write(struct mm_mirror *mirror, unsigned long addr,
			const void *from, size_t len);

static inline struct page *mm_mirror_entry_page(unsigned long entry)
{
	return pfn_to_page(entry >> MM_MIRROR_PFN_SHIFT);
}

#endif /* _LINUX_MM_MIRROR_H */
