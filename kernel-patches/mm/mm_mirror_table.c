// SPDX-License-Identifier: GPL-2.0
/*
 * The table of a mirror
 *
 * It has three levels of leaves, each found by address in an xarray. A leaf of
 * level 0 has what the CPU's lowest page table has: PMD_SIZE, 2 MiB with 4 KiB
 * pages, in entries of a page each. Leaves of level 1 and 2 are one entry each,
 * for a page of PMD_SIZE or PUD_SIZE that the CPU maps as one and the mirror
 * covers all of. There is nothing for memory that has no entries: an empty leaf
 * goes away. No address has entries on two levels, because between two ways of
 * mapping it the CPU invalidates it.
 *
 * Leaves are found under RCU. Their entries are read and written under
 * leaf->lock. A leaf is made by a fault before it takes any lock, and freed by
 * a zap; publish looks it up again. Nothing is allocated and nothing sleeps
 * under the locks that publish and zap are called with. What those locks are,
 * and why no publish runs beside a zap of the same leaf, is in mm_mirror.c.
 */

#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/hmm.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/swiotlb.h>

#include "mm_mirror_table.h"

static unsigned long leaf_size(unsigned int level)
{
	return BIT(mm_mirror_leaf_shift(level));
}

/* The end of the leaf that @addr is in, or @end if that comes first. */
static unsigned long leaf_end(unsigned int level, unsigned long addr,
			      unsigned long end)
{
	return min(end - 1, addr | (leaf_size(level) - 1)) + 1;
}

static unsigned long leaf_index(const struct mm_mirror_table *table,
				unsigned int level, unsigned long addr)
{
	return (addr - table->base) >> mm_mirror_leaf_shift(level);
}

/* The level for a page that the CPU maps with the order that is in @pfn. */
static unsigned int pfn_level(const struct mm_mirror_table *table,
			      unsigned long addr, unsigned long pfn)
{
	unsigned int level;

	for (level = table->levels - 1; level; level--) {
		unsigned long first = addr & ~(leaf_size(level) - 1);

		if (hmm_pfn_to_map_order(pfn) >= mm_mirror_entry_order(level) &&
		    first >= table->start &&
		    first + (leaf_size(level) - 1) <= table->end - 1)
			break;
	}
	return level;
}

static void leaf_free(struct mm_mirror_leaf *leaf)
{
	kfree(leaf->entries);
	kfree(leaf->dma);
	kfree(leaf);
}

static void leaf_free_rcu(struct rcu_head *rcu)
{
	leaf_free(container_of(rcu, struct mm_mirror_leaf, rcu));
}

static struct mm_mirror_leaf *leaf_alloc(const struct mm_mirror_table *table,
					 unsigned int level)
{
	unsigned int n = level ? 1 : LEAF_ENTRIES;
	gfp_t gfp = GFP_KERNEL_ACCOUNT;
	struct mm_mirror_leaf *leaf;

	leaf = kzalloc(sizeof(*leaf), gfp);
	if (!leaf)
		return NULL;
	rwlock_init(&leaf->lock);
	leaf->entries = kcalloc(n, sizeof(*leaf->entries), gfp);
	if (table->dma_dev)
		leaf->dma = kcalloc(n, sizeof(*leaf->dma), gfp);
	if (leaf->entries && (leaf->dma || !table->dma_dev))
		return leaf;
	leaf_free(leaf);
	return NULL;
}

/* Of anonymous memory nobody has to hear, unless it is in the swap cache. */
static void mark_dirty(struct folio *folio)
{
	if (!folio_test_anon(folio) || folio_test_swapcache(folio))
		folio_mark_dirty(folio);
	else if (!folio_test_dirty(folio))
		folio_set_dirty(folio);
}

/*
 * Invariant 4: what the device did to the page of an entry that goes. It is
 * still mapped by the CPU, whose own dirty bit says nothing of that: a page that
 * was swapped in or lazily freed can be writable and clean.
 */
static void entry_note_use(unsigned long entry)
{
	struct folio *folio = page_folio(mm_mirror_entry_page(entry));

	if (entry & MM_MIRROR_DIRTY)
		mark_dirty(folio);
	if (entry & MM_MIRROR_USED && !folio_is_zone_device(folio))
		folio_mark_accessed(folio);
}

/* The caller counts it. Inline, because this is most of what a zap does. */
static __always_inline void entry_drop(struct mm_mirror_table *table,
				       struct mm_mirror_leaf *leaf,
				       unsigned int i, unsigned int order)
{
	unsigned long old = leaf->entries[i];

	if (leaf->dma && leaf->dma[i]) {
		dma_unmap_page(table->dma_dev, leaf->dma[i], PAGE_SIZE << order,
			       table->dma_dir);
		leaf->dma[i] = 0;
	}
	WRITE_ONCE(leaf->entries[i], 0);
	if (old & (MM_MIRROR_DIRTY | MM_MIRROR_USED))
		entry_note_use(old);
}

/* Returns how many pages were dropped. Invariant 5: a huge entry goes whole. */
static unsigned long leaf_drop(struct mm_mirror_table *table,
			       struct mm_mirror_leaf *leaf, unsigned int level,
			       unsigned long start, unsigned long end)
{
	unsigned int order = mm_mirror_entry_order(level), dropped = 0;
	unsigned int i, last = mm_mirror_entry_index(level, end - 1);

	lockdep_assert_held_write(&leaf->lock);
	for (i = mm_mirror_entry_index(level, start);
	     i <= last && dropped < leaf->present; i++) {
		if (leaf->entries[i]) {
			entry_drop(table, leaf, i, order);
			dropped++;
		}
	}
	WRITE_ONCE(leaf->present, leaf->present - dropped);
	return (unsigned long)dropped << order;
}

static unsigned long level_zap(struct mm_mirror_table *table,
			       unsigned int level, unsigned long start,
			       unsigned long end, bool may_sleep)
{
	struct xarray *leaves = &table->leaves[level];
	unsigned long index, dropped = 0;
	struct mm_mirror_leaf *leaf;

	rcu_read_lock();
	xa_for_each_range(leaves, index, leaf, leaf_index(table, level, start),
			  leaf_index(table, level, end - 1)) {
		unsigned long addr = table->base + index * leaf_size(level);
		bool empty;

		write_lock(&leaf->lock);
		dropped += leaf_drop(table, leaf, level, max(start, addr),
				     leaf_end(level, addr, end));
		empty = !leaf->present;
		write_unlock(&leaf->lock);

		if (empty && xa_cmpxchg(leaves, index, leaf, NULL, 0) == leaf)
			call_rcu(&leaf->rcu, leaf_free_rcu);
		if (may_sleep && need_resched()) {
			rcu_read_unlock();
			cond_resched();
			rcu_read_lock();
		}
	}
	rcu_read_unlock();
	return dropped;
}

/* Drop all entries that touch a range, and return how many pages that was. */
unsigned long mm_mirror_table_zap(struct mm_mirror_table *table,
				  unsigned long start, unsigned long end,
				  bool may_sleep)
{
	unsigned long dropped = 0;
	unsigned int level;

	for (level = 0; level < table->levels; level++)
		dropped += level_zap(table, level, start, end, may_sleep);
	return dropped;
}

/*
 * The leaf that has entries around an address, and its level; or NULL. An empty
 * one, which a fault has just made, may be on another level. The caller is
 * under RCU, or keeps zaps of the leaf away. Most mirrors are of pages of one
 * size, so the level that was published last is looked at first.
 */
struct mm_mirror_leaf *mm_mirror_table_find(struct mm_mirror_table *table,
					    unsigned long addr,
					    unsigned int *level)
{
	unsigned int i;

	*level = READ_ONCE(table->last_level);
	for (i = 0; i < table->levels; i++) {
		struct mm_mirror_leaf *leaf;

		leaf = xa_load(&table->leaves[*level],
			       leaf_index(table, *level, addr));
		if (leaf && READ_ONCE(leaf->present))
			return leaf;
		if (++*level == table->levels)
			*level = 0;
	}
	return NULL;
}

/* Extend a range over the huge entries that it begins or ends in. */
void mm_mirror_table_expand(struct mm_mirror_table *table,
			    unsigned long *start, unsigned long *end)
{
	unsigned int level;

	if (mm_mirror_table_find(table, *start, &level) && level)
		*start &= ~(leaf_size(level) - 1);
	if (mm_mirror_table_find(table, *end - 1, &level) && level)
		*end = leaf_end(level, *end - 1, ULONG_MAX);
}

static int leaf_reserve(struct mm_mirror_table *table, unsigned int level,
			unsigned long addr)
{
	unsigned long index = leaf_index(table, level, addr);
	struct xarray *leaves = &table->leaves[level];
	struct mm_mirror_leaf *new, *old;

	if (xa_load(leaves, index))
		return 0;
	new = leaf_alloc(table, level);
	if (!new)
		return -ENOMEM;
	old = xa_cmpxchg(leaves, index, NULL, new, GFP_KERNEL_ACCOUNT);
	if (old)
		leaf_free(new);
	return xa_err(old);
}

/* Make the leaves that @pfns needs, so that publish need not allocate. */
int mm_mirror_table_reserve(struct mm_mirror_table *table, unsigned long start,
			    unsigned long end, const unsigned long *pfns)
{
	unsigned long addr, next;

	for (addr = start; addr < end; addr = next) {
		unsigned long pfn = pfns[(addr - start) >> PAGE_SHIFT];
		unsigned int level = pfn_level(table, addr, pfn);
		int ret;

		next = addr + PAGE_SIZE;
		if (!(pfn & HMM_PFN_VALID))
			continue;
		next = leaf_end(level, addr, end);
		ret = leaf_reserve(table, level, addr);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/* Returns the pages that are new, or newly writable. */
static unsigned long entry_publish(struct mm_mirror_table *table,
				   struct mm_mirror_leaf *leaf, unsigned int i,
				   unsigned int order, unsigned long pfn,
				   unsigned long implied)
{
	unsigned long new, old = leaf->entries[i];

	new = (pfn & ~HMM_PFN_FLAGS & ~(BIT(order) - 1)) << MM_MIRROR_PFN_SHIFT;
	new |= MM_MIRROR_VALID;
	if (pfn & HMM_PFN_WRITE)
		new |= MM_MIRROR_WRITE | implied;

	/* A page is replaced only after an invalidation. */
	if (WARN_ON_ONCE(old && (old ^ new) >> MM_MIRROR_PFN_SHIFT)) {
		entry_drop(table, leaf, i, order);
		WRITE_ONCE(leaf->present, leaf->present - 1);
		old = 0;
	}
	/* Invariant 6: bits are only added, dirtiness must not be lost. */
	WRITE_ONCE(leaf->entries[i], old | new);
	WRITE_ONCE(leaf->present, leaf->present + !old);
	return new & ~old & (MM_MIRROR_VALID | MM_MIRROR_WRITE) ? BIT(order) : 0;
}

static unsigned long leaf_publish(struct mm_mirror_table *table,
				  struct mm_mirror_leaf *leaf,
				  unsigned int level, unsigned long start,
				  unsigned long end, const unsigned long *pfns,
				  unsigned long implied)
{
	unsigned int i, order = mm_mirror_entry_order(level);
	unsigned int last = mm_mirror_entry_index(level, end - 1);
	unsigned long changed = 0;

	for (i = mm_mirror_entry_index(level, start); i <= last; i++, pfns++)
		if (*pfns & HMM_PFN_VALID)
			changed += entry_publish(table, leaf, i, order, *pfns,
						 implied);
	return changed;
}

/*
 * Enter @pfns, what hmm_range_fault() found in a range. *@changed grows by the
 * pages that are new, or newly writable. Returns false where a leaf is not there:
 * never was, or has gone since it was reserved.
 */
bool mm_mirror_table_publish(struct mm_mirror_table *table,
			     unsigned long start, unsigned long end,
			     const unsigned long *pfns, unsigned long implied,
			     unsigned long *changed)
{
	unsigned long addr, next;

	for (addr = start; addr < end; addr = next) {
		const unsigned long *pfn = pfns + ((addr - start) >> PAGE_SHIFT);
		unsigned int level = pfn_level(table, addr, *pfn);
		struct mm_mirror_leaf *leaf;

		next = addr + PAGE_SIZE;
		if (!(*pfn & HMM_PFN_VALID))
			continue;
		next = leaf_end(level, addr, end);
		leaf = xa_load(&table->leaves[level],
			       leaf_index(table, level, addr));
		if (!leaf)
			return false;
		write_lock(&leaf->lock);
		*changed += leaf_publish(table, leaf, level, addr, next, pfn,
					 implied);
		write_unlock(&leaf->lock);
		if (READ_ONCE(table->last_level) != level)
			WRITE_ONCE(table->last_level, level);
	}
	return true;
}

/*
 * Map the entries of a range for DMA that have no address yet, a huge one whole.
 * The driver's lock is held; what a mapping allocates is allocated atomically.
 * Returns 0, or -EFAULT with a part of them mapped.
 */
int mm_mirror_dma_map(struct mm_mirror_table *table, unsigned long start,
		      unsigned long end)
{
	unsigned long addr, next;

	for (addr = start; addr < end; addr = next) {
		struct mm_mirror_leaf *leaf;
		unsigned int level, i;
		unsigned long entry;
		dma_addr_t dma;
		size_t size;

		next = (addr | (MM_MIRROR_LEAF_SIZE - 1)) + 1;
		leaf = mm_mirror_table_find(table, addr, &level);
		if (!leaf)
			continue;
		size = PAGE_SIZE << mm_mirror_entry_order(level);
		next = (addr | (size - 1)) + 1;
		i = mm_mirror_entry_index(level, addr);
		entry = READ_ONCE(leaf->entries[i]);
		if (!entry || leaf->dma[i])
			continue;
		dma = dma_map_page(table->dma_dev, mm_mirror_entry_page(entry),
				   0, size, table->dma_dir);
		if (dma_mapping_error(table->dma_dev, dma))
			return -EFAULT;
		leaf->dma[i] = dma;
	}
	return 0;
}

/*
 * The CPU and the device look at a page at the same time, and nobody calls
 * dma_sync_*(). So its DMA address has to be its own: is it, for every page?
 */
bool mm_mirror_dma_capable(struct device *dev)
{
	return dev->dma_mask && !dma_addressing_limited(dev) &&
	       !is_swiotlb_force_bounce(dev) && dev_is_dma_coherent(dev);
}
EXPORT_SYMBOL_GPL(mm_mirror_dma_capable);

void mm_mirror_table_init(struct mm_mirror_table *table, unsigned long start,
			  unsigned long end,
			  const struct mm_mirror_config *config)
{
	unsigned int level;

	table->start = start;
	table->end = end;
	table->base = start & PUD_MASK;
	table->levels = config->seg_size - 1 >= PUD_SIZE - 1 ? 3 : 2;
	table->last_level = 0;
	table->dma_dev = config->dma_dev;
	table->dma_dir = config->dma_dir;
	for (level = 0; level < ARRAY_SIZE(table->leaves); level++)
		xa_init_flags(&table->leaves[level], XA_FLAGS_ACCOUNT);
}
