/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The table of a mirror: what mm_mirror.c knows of it. See mm_mirror_table.c.
 */
#ifndef _MM_MIRROR_TABLE_H
#define _MM_MIRROR_TABLE_H

#include <linux/mm_mirror.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>

#define LEAF_ENTRIES	BIT(MM_MIRROR_LEAF_SHIFT - PAGE_SHIFT)

/*
 * The part of the table for one aligned piece of the address space: either
 * @entries of a page each, or one entry, @huge, for all of it.
 */
struct mm_mirror_leaf {
	rwlock_t lock;			/* of all below */
	unsigned int present;		/* how many entries are not 0 */
	unsigned long huge;		/* or 0 */
	unsigned long *entries;		/* or NULL, until needed */
	dma_addr_t huge_dma;		/* the address of @huge, or 0 */
	dma_addr_t *dma;		/* the addresses of @entries, or NULL */
	struct rcu_head rcu;
};

/* The order of what one leaf of a level covers; level 0 has entries, too. */
static inline unsigned int mm_mirror_level_order(unsigned int level)
{
	return (level ? PUD_SHIFT : PMD_SHIFT) - PAGE_SHIFT;
}

/* Which page of a huge entry of a level an address is in. */
static inline unsigned long mm_mirror_huge_offset(unsigned long addr,
						  unsigned int level)
{
	return (addr >> PAGE_SHIFT) & (BIT(mm_mirror_level_order(level)) - 1);
}

void mm_mirror_table_init(struct mm_mirror_table *table, unsigned long start,
			  unsigned long end,
			  const struct mm_mirror_config *config);
int mm_mirror_table_reserve(struct mm_mirror_table *table, unsigned long start,
			    unsigned long end, const unsigned long *pfns);
bool mm_mirror_table_publish(struct mm_mirror_table *table,
			     unsigned long start, unsigned long end,
			     const unsigned long *pfns, unsigned long implied,
			     unsigned long *changed);
unsigned long mm_mirror_table_zap(struct mm_mirror_table *table,
				  unsigned long start, unsigned long end,
				  bool may_sleep);
void mm_mirror_table_expand(struct mm_mirror_table *table,
			    unsigned long *start, unsigned long *end);
struct mm_mirror_leaf *mm_mirror_table_find(struct mm_mirror_table *table,
					    unsigned long addr,
					    unsigned int *level);

/* Only with CONFIG_MM_MIRROR_DMA */
bool mm_mirror_dma_capable(struct device *dev);
void mm_mirror_dma_unmap(struct mm_mirror_table *table, dma_addr_t *dma,
			 unsigned int order);
int mm_mirror_dma_map(struct mm_mirror_table *table, unsigned long start,
		      unsigned long end);

/* The entry of @addr in a leaf of any kind, and its DMA address. */
static inline unsigned long *
mm_mirror_leaf_entry(struct mm_mirror_leaf *leaf, unsigned long addr)
{
	if (READ_ONCE(leaf->huge) || !READ_ONCE(leaf->entries))
		return &leaf->huge;
	return &leaf->entries[(addr >> PAGE_SHIFT) & (LEAF_ENTRIES - 1)];
}

static inline dma_addr_t *
mm_mirror_leaf_dma(struct mm_mirror_leaf *leaf, unsigned long addr)
{
	if (READ_ONCE(leaf->huge) || !leaf->dma)
		return &leaf->huge_dma;
	return &leaf->dma[(addr >> PAGE_SHIFT) & (LEAF_ENTRIES - 1)];
}

/* See mm_mirror_entry(). Zaps of the leaf are kept away. */
static inline unsigned long
mm_mirror_table_entry(struct mm_mirror_table *table, unsigned long addr,
		      unsigned int *order, dma_addr_t *dma)
{
	unsigned long entry, offset = 0;
	struct mm_mirror_leaf *leaf;
	unsigned int level;

	*order = 0;
	*dma = 0;
	leaf = mm_mirror_table_find(table, addr, &level);
	if (!leaf)
		return 0;
	if (READ_ONCE(leaf->huge)) {
		*order = mm_mirror_level_order(level);
		offset = mm_mirror_huge_offset(addr, level);
	}
	entry = READ_ONCE(*mm_mirror_leaf_entry(leaf, addr));
	if (entry && table->dma_dev)
		*dma = *mm_mirror_leaf_dma(leaf, addr);
	if (*dma)
		*dma += offset << PAGE_SHIFT;
	return entry + (offset << MM_MIRROR_PFN_SHIFT);
}

#endif /* _MM_MIRROR_TABLE_H */
