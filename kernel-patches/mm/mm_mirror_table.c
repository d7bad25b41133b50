// SPDX-License-Identifier: GPL-2.0
/*
 * The table of a mirror
 *
 * A leaf is what the table has of one aligned piece of the address space: on
 * level 0 PMD_SIZE, 2 MiB with 4 KiB pages, and on level 1 PUD_SIZE, 1 GiB. A
 * page of either size that the CPU maps as one is one entry, if the mirror
 * covers all of it. There is nothing for memory that has no entries: an empty
 * leaf goes away.
 *
 * Leaves are found under RCU. Their entries are read and written under
 * leaf->lock. A leaf is made by a fault before it takes any lock, and freed by
 * a zap; publish looks it up again. Nothing is allocated and nothing sleeps
 * under the locks that publish and zap are called with. What those locks are,
 * and why no publish runs beside a zap of the same leaf, is in mm_mirror.c.
 */

#include <linux/hmm.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/swap.h>

#include "mm_mirror_table.h"

static unsigned long level_size(unsigned int level)
{
	return PAGE_SIZE << mm_mirror_level_order(level);
}

static unsigned long level_index(const struct mm_mirror_table *table,
				 unsigned int level, unsigned long addr)
{
	return (addr - table->base) >> PAGE_SHIFT >>
	       mm_mirror_level_order(level);
}

/* The end of the leaf that @addr is in, or @end if that comes first. */
static unsigned long leaf_end(unsigned int level, unsigned long addr,
			      unsigned long end)
{
	return min(end - 1, addr | (level_size(level) - 1)) + 1;
}

/*
 * The level on which a page is one entry that the CPU maps with the order that
 * is in @pfn, or -1: entries of a page each.
 */
static int huge_level(const struct mm_mirror_table *table, unsigned long addr,
		      unsigned long pfn)
{
	int level;

	if (!(pfn & HMM_PFN_VALID))
		return -1;
	for (level = table->levels - 1; level >= 0; level--) {
		unsigned long first = addr & ~(level_size(level) - 1);

		if (hmm_pfn_to_map_order(pfn) >= mm_mirror_level_order(level) &&
		    first >= table->start &&
		    first + (level_size(level) - 1) <= table->end - 1)
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
					 bool entries)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT;
	struct mm_mirror_leaf *leaf;

	leaf = kzalloc(sizeof(*leaf), gfp);
	if (!leaf)
		return NULL;
	rwlock_init(&leaf->lock);
	if (entries) {
		leaf->entries = kcalloc(LEAF_ENTRIES, sizeof(long), gfp);
		if (table->dma_dev)
			leaf->dma = kcalloc(LEAF_ENTRIES, sizeof(dma_addr_t),
					    gfp);
	}
	if (!entries || (leaf->entries && (leaf->dma || !table->dma_dev)))
		return leaf;
	leaf_free(leaf);
	return NULL;
}

/*
 * Invariant 4: drop an entry. The page is still mapped by the CPU, whose own dirty bit says
 * nothing of what the device wrote: a page that was swapped in or lazily freed
 * can be writable and clean.
 */
static void entry_drop(struct mm_mirror_table *table, unsigned long *entry,
		       dma_addr_t *dma, unsigned int order)
{
	unsigned long old = *entry;
	struct folio *folio;

	if (IS_ENABLED(CONFIG_MM_MIRROR_DMA) && table->dma_dev)
		mm_mirror_dma_unmap(table, dma, order);
	WRITE_ONCE(*entry, 0);
	if (!(old & (MM_MIRROR_DIRTY | MM_MIRROR_USED)))
		return;
	folio = page_folio(mm_mirror_entry_page(old));
	if (old & MM_MIRROR_DIRTY)
		folio_mark_dirty(folio);
	if (old & MM_MIRROR_USED && !folio_is_zone_device(folio))
		folio_mark_accessed(folio);
}

/* Returns how many pages were dropped. Invariant 5: a huge entry goes whole. */
static unsigned long leaf_drop(struct mm_mirror_table *table,
			       struct mm_mirror_leaf *leaf, unsigned int level,
			       unsigned long start, unsigned long end)
{
	unsigned int order = mm_mirror_level_order(level);
	unsigned long i, last, dropped = 0;

	lockdep_assert_held_write(&leaf->lock);
	if (leaf->huge) {
		entry_drop(table, &leaf->huge, &leaf->huge_dma, order);
		WRITE_ONCE(leaf->present, 0);
		return BIT(order);
	}
	if (!leaf->present)
		return 0;
	i = (start >> PAGE_SHIFT) & (LEAF_ENTRIES - 1);
	last = ((end - 1) >> PAGE_SHIFT) & (LEAF_ENTRIES - 1);
	for (; i <= last; i++) {
		if (!leaf->entries[i])
			continue;
		entry_drop(table, &leaf->entries[i],
			   leaf->dma ? &leaf->dma[i] : NULL, 0);
		WRITE_ONCE(leaf->present, leaf->present - 1);
		dropped++;
	}
	return dropped;
}

static unsigned long level_zap(struct mm_mirror_table *table,
			       unsigned int level, unsigned long start,
			       unsigned long end, bool may_sleep)
{
	struct xarray *leaves = &table->leaves[level];
	unsigned long index, dropped = 0;
	struct mm_mirror_leaf *leaf;

	rcu_read_lock();
	xa_for_each_range(leaves, index, leaf, level_index(table, level, start),
			  level_index(table, level, end - 1)) {
		unsigned long addr = table->base + index * level_size(level);
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
 * The leaf that has entries around an address, and its level; or NULL. A leaf
 * that is reserved and empty may be on the other level. The caller is under
 * RCU, or keeps zaps of the leaf away.
 */
struct mm_mirror_leaf *mm_mirror_table_find(struct mm_mirror_table *table,
					    unsigned long addr,
					    unsigned int *level)
{
	for (*level = 0; *level < table->levels; ++*level) {
		struct mm_mirror_leaf *leaf;

		leaf = xa_load(&table->leaves[*level],
			       level_index(table, *level, addr));
		if (leaf && READ_ONCE(leaf->present))
			return leaf;
	}
	*level = 0;
	return NULL;
}

/* Extend a range over the huge entries that it begins or ends in. */
void mm_mirror_table_expand(struct mm_mirror_table *table,
			    unsigned long *start, unsigned long *end)
{
	struct mm_mirror_leaf *leaf;
	unsigned int level;

	leaf = mm_mirror_table_find(table, *start, &level);
	if (leaf && READ_ONCE(leaf->huge))
		*start &= ~(level_size(level) - 1);
	leaf = mm_mirror_table_find(table, *end - 1, &level);
	if (leaf && READ_ONCE(leaf->huge))
		*end = leaf_end(level, *end - 1, ULONG_MAX);
}

static int leaf_reserve(struct mm_mirror_table *table, unsigned int level,
			unsigned long addr, bool entries)
{
	unsigned long index = level_index(table, level, addr);
	struct xarray *leaves = &table->leaves[level];
	struct mm_mirror_leaf *leaf, *new;
	bool there;

	rcu_read_lock();
	leaf = xa_load(leaves, index);
	there = leaf && (!entries || READ_ONCE(leaf->entries));
	rcu_read_unlock();
	if (there)
		return 0;

	new = leaf_alloc(table, entries);
	if (!new)
		return -ENOMEM;
	leaf = xa_cmpxchg(leaves, index, NULL, new, GFP_KERNEL_ACCOUNT);
	if (!leaf)
		return 0;
	if (!xa_is_err(leaf) && entries) {
		rcu_read_lock();
		leaf = xa_load(leaves, index);
		if (leaf) {
			write_lock(&leaf->lock);
			if (!leaf->entries) {
				swap(leaf->dma, new->dma);
				WRITE_ONCE(leaf->entries, new->entries);
				new->entries = NULL;
			}
			write_unlock(&leaf->lock);
		}
		rcu_read_unlock();
	}
	leaf_free(new);
	return xa_is_err(leaf) ? xa_err(leaf) : 0;
}

static bool any_valid(const unsigned long *pfns, unsigned long npages)
{
	while (npages--)
		if (*pfns++ & HMM_PFN_VALID)
			return true;
	return false;
}

/*
 * The next leaf that @pfns has something for, from *@addr on. Returns false
 * if there is none; *@next is the end of what the leaf has of the range.
 */
static bool next_leaf(const struct mm_mirror_table *table, unsigned long start,
		      unsigned long end, const unsigned long *pfns,
		      unsigned long *addr, unsigned long *next, int *level)
{
	for (; *addr < end; *addr = *next) {
		const unsigned long *here =
			pfns + ((*addr - start) >> PAGE_SHIFT);

		*level = huge_level(table, *addr, *here);
		*next = leaf_end(max(*level, 0), *addr, end);
		if (any_valid(here, (*next - *addr) >> PAGE_SHIFT))
			return true;
	}
	return false;
}

/* Make the leaves that @pfns needs, so that publish need not allocate. */
int mm_mirror_table_reserve(struct mm_mirror_table *table, unsigned long start,
			    unsigned long end, const unsigned long *pfns)
{
	unsigned long addr, next;
	int level;

	for (addr = start;
	     next_leaf(table, start, end, pfns, &addr, &next, &level);
	     addr = next) {
		int ret = leaf_reserve(table, max(level, 0), addr, level < 0);

		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/* Returns the pages that are new, or newly writable. */
static unsigned long entry_publish(struct mm_mirror_table *table,
				   struct mm_mirror_leaf *leaf,
				   unsigned long *entry, dma_addr_t *dma,
				   unsigned long pfn, unsigned long implied,
				   unsigned int order)
{
	unsigned long new, old = *entry;

	new = (pfn & ~HMM_PFN_FLAGS & ~(BIT(order) - 1)) << MM_MIRROR_PFN_SHIFT;
	new |= MM_MIRROR_VALID;
	if (pfn & HMM_PFN_WRITE)
		new |= MM_MIRROR_WRITE | implied;

	/* A page is replaced only after an invalidation. */
	if (WARN_ON_ONCE(old && (old ^ new) >> MM_MIRROR_PFN_SHIFT)) {
		entry_drop(table, entry, dma, order);
		WRITE_ONCE(leaf->present, leaf->present - 1);
		old = 0;
	}
	/* Invariant 6: bits are only added, dirtiness must not be lost. */
	WRITE_ONCE(*entry, old | new);
	WRITE_ONCE(leaf->present, leaf->present + !old);
	return new & ~old & (MM_MIRROR_VALID | MM_MIRROR_WRITE) ? BIT(order) : 0;
}

static unsigned long leaf_publish(struct mm_mirror_table *table,
				  struct mm_mirror_leaf *leaf, int level,
				  unsigned long start, unsigned long end,
				  const unsigned long *pfns,
				  unsigned long implied)
{
	unsigned long i, changed = 0;

	/* The CPU maps it in another way now, and invalidated the old one. */
	if (WARN_ON_ONCE(level < 0 ? leaf->huge : leaf->present && !leaf->huge))
		leaf_drop(table, leaf, max(level, 0),
			  start & ~(level_size(0) - 1),
			  leaf_end(0, start, ULONG_MAX));
	if (level >= 0)
		return entry_publish(table, leaf, &leaf->huge, &leaf->huge_dma,
				     *pfns, implied,
				     mm_mirror_level_order(level));

	i = (start >> PAGE_SHIFT) & (LEAF_ENTRIES - 1);
	for (; start < end; start += PAGE_SIZE, pfns++, i++)
		if (*pfns & HMM_PFN_VALID)
			changed += entry_publish(table, leaf, &leaf->entries[i],
						 leaf->dma ? &leaf->dma[i] : NULL,
						 *pfns, implied, 0);
	return changed;
}

/*
 * Enter @pfns, what hmm_range_fault() found in a range. *@changed grows by the
 * pages that are new, or newly writable. Returns false where a leaf has gone
 * since it was reserved.
 */
bool mm_mirror_table_publish(struct mm_mirror_table *table,
			     unsigned long start, unsigned long end,
			     const unsigned long *pfns, unsigned long implied,
			     unsigned long *changed)
{
	unsigned long addr, next;
	int level;

	for (addr = start;
	     next_leaf(table, start, end, pfns, &addr, &next, &level);
	     addr = next) {
		struct mm_mirror_leaf *leaf;

		leaf = xa_load(&table->leaves[max(level, 0)],
			       level_index(table, max(level, 0), addr));
		if (!leaf || (level < 0 && !READ_ONCE(leaf->entries)))
			return false;
		/* What the other level still has there is out of date. */
		if (table->levels > 1)
			level_zap(table, level < 1, addr, next, false);
		write_lock(&leaf->lock);
		*changed += leaf_publish(table, leaf, level, addr, next,
					 pfns + ((addr - start) >> PAGE_SHIFT),
					 implied);
		write_unlock(&leaf->lock);
	}
	return true;
}

void mm_mirror_table_init(struct mm_mirror_table *table, unsigned long start,
			  unsigned long end,
			  const struct mm_mirror_config *config)
{
	unsigned int level;

	table->start = start;
	table->end = end;
	table->base = start & ~(level_size(1) - 1);
	table->levels = 1;
	if (config->seg_size - 1 >= level_size(1) - 1)
		table->levels = MM_MIRROR_LEVELS;
	table->dma_dev = config->dma_dev;
	table->dma_dir = config->dma_dir;
	for (level = 0; level < ARRAY_SIZE(table->leaves); level++)
		xa_init_flags(&table->leaves[level], XA_FLAGS_ACCOUNT);
}
