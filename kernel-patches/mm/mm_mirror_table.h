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
 * What the table has of one aligned piece of the address space. On level 0 it
 * has an entry for each page, on the others one for all of it, a huge page.
 */
struct mm_mirror_leaf {
	rwlock_t lock;			/* of all below */
	unsigned int present;		/* how many entries are not 0 */
	unsigned long *entries;
	dma_addr_t *dma;		/* of each entry, or 0; or NULL */
	struct rcu_head rcu;
};

static inline unsigned int mm_mirror_leaf_shift(unsigned int level)
{
	return level > 1 ? PUD_SHIFT : PMD_SHIFT;
}

/* The order of what an entry of a level stands for. */
static inline unsigned int mm_mirror_entry_order(unsigned int level)
{
	return level ? mm_mirror_leaf_shift(level) - PAGE_SHIFT : 0;
}

static inline unsigned int mm_mirror_entry_index(unsigned int level,
						 unsigned long addr)
{
	return level ? 0 : (addr >> PAGE_SHIFT) & (LEAF_ENTRIES - 1);
}

/* Which page of an entry of a level an address is in. */
static inline unsigned long mm_mirror_entry_offset(unsigned int level,
						   unsigned long addr)
{
	return (addr >> PAGE_SHIFT) & (BIT(mm_mirror_entry_order(level)) - 1);
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
int mm_mirror_dma_map(struct mm_mirror_table *table, unsigned long start,
		      unsigned long end);

/* See mm_mirror_entry(). Zaps of the leaf are kept away. */
static inline unsigned long
mm_mirror_table_entry(struct mm_mirror_table *table, unsigned long addr,
		      unsigned int *order, dma_addr_t *dma)
{
	struct mm_mirror_leaf *leaf;
	unsigned long entry, offset;
	unsigned int level, i;

	*order = 0;
	*dma = 0;
	leaf = mm_mirror_table_find(table, addr, &level);
	if (!leaf)
		return 0;
	*order = mm_mirror_entry_order(level);
	offset = mm_mirror_entry_offset(level, addr);
	i = mm_mirror_entry_index(level, addr);
	entry = READ_ONCE(leaf->entries[i]);
	if (leaf->dma && leaf->dma[i])
		*dma = leaf->dma[i] + (offset << PAGE_SHIFT);
	return entry + (offset << MM_MIRROR_PFN_SHIFT);
}

#endif /* _MM_MIRROR_TABLE_H */
