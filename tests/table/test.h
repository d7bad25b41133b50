/* SPDX-License-Identifier: GPL-2.0 */
/* What table.c and threads.c have in common. */
#ifndef _TABLE_TEST_H
#define _TABLE_TEST_H

#include "mm_mirror_table.h"
#include <linux/hmm.h>

#define LEVEL_PAGES(level)	BIT(mm_mirror_entry_order(level))

extern unsigned int test_failures;

/* Where, and in which test, is for the reader: nothing ends here. */
#define check(x) check_at(!!(x), #x, __FILE__, __LINE__)
static inline bool check_at(bool good, const char *what, const char *file, int line)
{
	if (!good && __atomic_add_fetch(&test_failures, 1, __ATOMIC_RELAXED) <= 10)
		printf("# %s:%d: not so: %s\n", strrchr(file, '/') ? strrchr(file, '/') + 1 : file,
		       line, what);
	return good;
}

/* As xorshift64* has it: the same numbers everywhere. */
static inline unsigned long random_below(u64 *state, unsigned long n)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (*state * 0x2545f4914f6cdd1dUL >> 32) % n;
}

/* The end of a table of which all was zapped: nothing is left. */
static inline void table_end(struct mm_mirror_table *table)
{
	unsigned int level;

	for (level = 0; level < MM_MIRROR_LEVELS; level++)
		check(xa_empty(&table->leaves[level]));
	rcu_barrier();
}

/*
 * As mirror_copy() and leaf_copy() of mm_mirror.c: look an address up, and use
 * its page under the leaf's lock. Returns what was in the page, or 0.
 */
static inline unsigned long mirror_access(struct mm_mirror_table *table, unsigned long addr,
					  bool write)
{
	unsigned long need = write ? MM_MIRROR_WRITE : MM_MIRROR_VALID;
	unsigned long mark = MM_MIRROR_USED | (write ? MM_MIRROR_DIRTY : 0);
	unsigned long *entry, pfn, data = 0;
	struct mm_mirror_leaf *leaf;
	unsigned int level;

	rcu_read_lock();
	leaf = mm_mirror_table_find(table, addr, &level);
	if (leaf) {
		read_lock(&leaf->lock);
		entry = &leaf->entries[mm_mirror_entry_index(level, addr)];
		if (READ_ONCE(*entry) & need) {
			pfn = READ_ONCE(*entry) >> MM_MIRROR_PFN_SHIFT;
			pfn += mm_mirror_entry_offset(level, addr);
			/* Plain, so that ThreadSanitizer sees who changes it meanwhile. */
			data = pfn_to_page(pfn)->data;
			if (write)
				__atomic_add_fetch(&pfn_to_page(pfn)->writes, 1, __ATOMIC_RELAXED);
			if ((READ_ONCE(*entry) & mark) != mark)
				__atomic_or_fetch(entry, mark, __ATOMIC_SEQ_CST);
		}
		read_unlock(&leaf->lock);
	}
	rcu_read_unlock();
	return data;
}

#endif
