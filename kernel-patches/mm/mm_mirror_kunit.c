// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of mm_mirror
 *
 * Each case works on memory of its own thread's mm: the thread is the CPU that
 * the mirror is compared with. Invalidations come from madvise(), or are sent
 * by hand where their kind matters.
 */

#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/dma-mapping.h>
#include <linux/huge_mm.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/mm_mirror.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#include "mm_mirror_table.h"

#define PAGES(n)	((unsigned long)(n) << PAGE_SHIFT)
#define LEAF		MM_MIRROR_LEAF_SIZE

/* A mirror, and a driver that notes what it is told. */
struct fixture {
	struct kunit *test;
	struct mm_mirror mirror;
	struct mutex lock;		/* the driver's */
	unsigned long addr;		/* two leaves of memory, aligned */
	unsigned long told_start;	/* of the first invalidation */
	unsigned long told_end;
	int told;			/* how often */
	unsigned long entry;		/* what the table had then */
	dma_addr_t dma;
};

static void note_invalidate(struct mm_mirror *mirror,
			    const struct mmu_notifier_range *range,
			    unsigned long start, unsigned long end)
{
	struct fixture *f = container_of(mirror, struct fixture, mirror);
	unsigned int order;

	lockdep_assert_held(&f->lock);
	if (f->told++)
		return;
	f->told_start = start;
	f->told_end = end;
	f->entry = mm_mirror_entry(mirror, start, &order, &f->dma);
}

static const struct mm_mirror_ops note_ops = {
	.invalidate = note_invalidate,
};

static const struct mm_mirror_config software = {
	.seg_size = MM_MIRROR_LEAF_SIZE,
};

static void open_mirror(struct fixture *f, const struct mm_mirror_config *config)
{
	KUNIT_ASSERT_EQ(f->test, 0,
			mm_mirror_init(&f->mirror, current->mm, f->addr,
				       f->addr + 2 * LEAF, config));
}

static void map_memory(struct kunit *test, struct fixture *f, unsigned long prot)
{
	unsigned long addr;

	memset(f, 0, sizeof(*f));
	f->test = test;
	mutex_init(&f->lock);
	addr = kunit_vm_mmap(test, NULL, 0, 3 * LEAF, prot,
			     MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_FALSE(test, !addr || IS_ERR_VALUE(addr));
	f->addr = ALIGN(addr, LEAF);
}

static void open_software(struct kunit *test, struct fixture *f)
{
	map_memory(test, f, PROT_READ | PROT_WRITE);
	open_mirror(f, &software);
}

static void open_driver(struct kunit *test, struct fixture *f)
{
	struct mm_mirror_config config = {
		.seg_size = MM_MIRROR_ONE_SEGMENT,
		.ops = &note_ops,
		.lock = &f->lock,
		.owner = f,
	};

	map_memory(test, f, PROT_READ | PROT_WRITE);
	open_mirror(f, &config);
}

static bool table_empty(struct mm_mirror *mirror)
{
	return xa_empty(&mirror->table.leaves[0]) &&
	       xa_empty(&mirror->table.leaves[1]) &&
	       xa_empty(&mirror->table.leaves[2]);
}

static int advise(unsigned long addr, unsigned long length, int advice)
{
	return do_madvise(current->mm, addr, length, advice);
}

static u64 cpu_read(struct kunit *test, unsigned long addr)
{
	u64 value = 0;

	KUNIT_EXPECT_EQ(test, 0, get_user(value, (u64 __user *)addr));
	return value;
}

static void cpu_write(struct kunit *test, unsigned long addr, u64 value)
{
	KUNIT_EXPECT_EQ(test, 0, put_user(value, (u64 __user *)addr));
}

/* Invalidate by hand. Returns what mmu_notifier_invalidate_range_start() does. */
static int send_event(enum mmu_notifier_event event, void *owner, bool block,
		      unsigned long start, unsigned long end)
{
	struct mmu_notifier_range range;
	int ret = 0;

	mmu_notifier_range_init_owner(&range, event, 0, current->mm, start, end,
				      owner);
	if (block)
		mmu_notifier_invalidate_range_start(&range);
	else
		ret = mmu_notifier_invalidate_range_start_nonblock(&range);
	if (!ret)
		mmu_notifier_invalidate_range_end(&range);
	return ret;
}

static int fault_unlock(struct fixture *f, unsigned long start,
			unsigned long end, enum mm_mirror_fault_kind kind)
{
	int ret = mm_mirror_fault_and_lock(&f->mirror, start, end, kind);

	if (!ret)
		mutex_unlock(&f->lock);
	return ret;
}

static unsigned long look_up(struct fixture *f, unsigned long addr,
			     unsigned int *order, dma_addr_t *dma)
{
	unsigned long entry;

	mutex_lock(&f->lock);
	entry = mm_mirror_entry(&f->mirror, addr, order, dma);
	mutex_unlock(&f->lock);
	return entry;
}

static unsigned long entry_of(struct fixture *f, unsigned long addr)
{
	unsigned int order;
	dma_addr_t dma;

	return look_up(f, addr, &order, &dma);
}

static unsigned int order_of(struct fixture *f, unsigned long addr)
{
	unsigned int order;
	dma_addr_t dma;

	look_up(f, addr, &order, &dma);
	return order;
}

/* Registering the whole address space costs nothing. */
static void whole_address_space(struct kunit *test)
{
	struct fixture f;
	u64 value = 42;

	map_memory(test, &f, PROT_READ | PROT_WRITE);
	KUNIT_ASSERT_EQ(test, 0, mm_mirror_init(&f.mirror, current->mm, 0,
						TASK_SIZE_MAX & PAGE_MASK,
						&software));
	KUNIT_EXPECT_TRUE(test, xa_empty(&f.mirror.segs));
	KUNIT_EXPECT_TRUE(test, table_empty(&f.mirror));
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_fault(&f.mirror, f.addr, f.addr + 8,
						 MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 8, mm_mirror_write(&f.mirror, f.addr, &value, 8));
	KUNIT_EXPECT_EQ(test, 42, cpu_read(test, f.addr));
	/* Nothing is made where nothing is mapped: not even a segment. */
	KUNIT_EXPECT_EQ(test, -EFAULT, mm_mirror_fault(&f.mirror, 0, PAGE_SIZE,
						       MM_MIRROR_FAULT_READ));
	KUNIT_EXPECT_NULL(test, xa_load(&f.mirror.segs, 0));
	mm_mirror_destroy(&f.mirror);
}

/* Bytes, over the ends of pages, leaves and segments, at odd addresses. */
static void copies(struct kunit *test)
{
	static const int offsets[] = { 0, 1, 4095, 4096, 5000 };
	size_t length = 3 * PAGE_SIZE + 77, i, o;
	struct fixture f;
	u8 *out, *in;

	open_software(test, &f);
	out = kunit_kmalloc(test, length, GFP_KERNEL);
	in = kunit_kzalloc(test, length, GFP_KERNEL);
	KUNIT_ASSERT_TRUE(test, out && in);
	for (o = 0; o < ARRAY_SIZE(offsets); o++) {
		unsigned long addr = f.addr + LEAF - PAGES(2) + offsets[o];

		for (i = 0; i < length; i++)
			out[i] = i * 7 + o;
		KUNIT_EXPECT_EQ(test, 0, mm_mirror_fault(&f.mirror, addr,
							 addr + length,
							 MM_MIRROR_FAULT_WRITE));
		KUNIT_EXPECT_EQ(test, length, mm_mirror_write(&f.mirror, addr,
							      out, length));
		KUNIT_EXPECT_EQ(test, 0, copy_from_user(in, (void __user *)addr,
							length));
		KUNIT_EXPECT_MEMEQ(test, out, in, length);
		memset(in, 0, length);
		KUNIT_EXPECT_EQ(test, length, mm_mirror_read(&f.mirror, addr,
							     in, length));
		KUNIT_EXPECT_MEMEQ(test, out, in, length);
	}
	mm_mirror_destroy(&f.mirror);
}

/* The entry that a device without a lock uses. No zap runs meanwhile. */
static unsigned long software_entry(struct fixture *f, unsigned long addr)
{
	unsigned int order;
	dma_addr_t dma;

	return mm_mirror_table_entry(&f->mirror.table, addr, &order, &dma);
}

static int add_at(struct page *page, unsigned int offset, void *arg)
{
	u64 *at = kmap_local_page(page) + offset;

	*(u64 *)arg += *at;
	kunmap_local(at);
	return 7;
}

/* A function gets at a page that the table has, and marks it used. */
static void functions_at_pages(struct kunit *test)
{
	unsigned long entry;
	struct fixture f;
	u64 sum = 0;

	open_software(test, &f);
	cpu_write(test, f.addr + PAGE_SIZE + 24, 40);
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			mm_mirror_apply(&f.mirror, f.addr + PAGE_SIZE + 24,
					false, add_at, &sum));
	KUNIT_EXPECT_EQ(test, 0,
			mm_mirror_fault(&f.mirror, f.addr, f.addr + 2 * PAGE_SIZE,
					MM_MIRROR_FAULT_READ));
	KUNIT_EXPECT_EQ(test, 7,
			mm_mirror_apply(&f.mirror, f.addr + PAGE_SIZE + 24,
					false, add_at, &sum));
	KUNIT_EXPECT_EQ(test, 40, sum);
	/* The first page is the zero page, and not writable. */
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			mm_mirror_apply(&f.mirror, f.addr, true, add_at, &sum));
	KUNIT_EXPECT_EQ(test, 7,
			mm_mirror_apply(&f.mirror, f.addr + PAGE_SIZE + 24,
					true, add_at, &sum));
	KUNIT_EXPECT_EQ(test, 80, sum);
	entry = software_entry(&f, f.addr + PAGE_SIZE);
	KUNIT_EXPECT_TRUE(test, entry & MM_MIRROR_USED);
	KUNIT_EXPECT_TRUE(test, entry & MM_MIRROR_DIRTY);
	KUNIT_EXPECT_FALSE(test, software_entry(&f, f.addr) & MM_MIRROR_USED);
	KUNIT_EXPECT_EQ(test, 0, advise(f.addr, LEAF, MADV_DONTNEED));
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			mm_mirror_apply(&f.mirror, f.addr + PAGE_SIZE + 24,
					false, add_at, &sum));
	mm_mirror_destroy(&f.mirror);
}

/* What is fetched ahead is counted apart, and a fault after it finds it. */
static void fetched_ahead(struct kunit *test)
{
	struct fixture f;
	u64 value;

	open_software(test, &f);
	KUNIT_EXPECT_EQ(test, 0,
			mm_mirror_prefetch(&f.mirror, f.addr, f.addr + LEAF,
					   MM_MIRROR_SNAPSHOT));
	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&f.mirror.prefetches));
	KUNIT_EXPECT_EQ(test, 0,
			mm_mirror_prefetch(&f.mirror, f.addr,
					   f.addr + 5 * PAGE_SIZE,
					   MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 5, atomic64_read(&f.mirror.prefetches));
	KUNIT_EXPECT_EQ(test, 8, mm_mirror_read(&f.mirror, f.addr, &value, 8));
	KUNIT_EXPECT_EQ(test, 0,
			mm_mirror_fault(&f.mirror, f.addr, f.addr + 8,
					MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&f.mirror.faults));
	mm_mirror_destroy(&f.mirror);
}

/* Invariant 1: an invalidation takes the entries away, and empty leaves go. */
static void invalidation(struct kunit *test)
{
	struct fixture f;
	u64 value = 1;

	open_software(test, &f);
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_fault(&f.mirror, f.addr,
						 f.addr + PAGES(3),
						 MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 3, atomic64_read(&f.mirror.faults));
	KUNIT_EXPECT_EQ(test, 0, advise(f.addr + PAGES(1), PAGES(1),
					MADV_DONTNEED));
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&f.mirror.invalidations));
	KUNIT_EXPECT_EQ(test, 8, mm_mirror_read(&f.mirror, f.addr, &value, 8));
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_read(&f.mirror, f.addr + PAGES(1),
						&value, 8));
	KUNIT_EXPECT_FALSE(test, table_empty(&f.mirror));
	KUNIT_EXPECT_EQ(test, 0, advise(f.addr, PAGES(3), MADV_DONTNEED));
	KUNIT_EXPECT_TRUE(test, table_empty(&f.mirror));
	mm_mirror_destroy(&f.mirror);
}

static void errors(struct kunit *test)
{
	struct mm_mirror_config config = software;
	struct fixture f;
	u64 value;

	map_memory(test, &f, PROT_READ);
	KUNIT_EXPECT_EQ(test, -EINVAL,
			mm_mirror_init(&f.mirror, current->mm, f.addr, f.addr,
				       &config));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			mm_mirror_init(&f.mirror, current->mm, f.addr + 1,
				       f.addr + LEAF, &config));
	open_mirror(&f, &software);
	KUNIT_EXPECT_EQ(test, -EPERM, mm_mirror_fault(&f.mirror, f.addr,
						      f.addr + 1,
						      MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_fault(&f.mirror, f.addr, f.addr + 1,
						 MM_MIRROR_FAULT_READ));
	KUNIT_EXPECT_EQ(test, 8, mm_mirror_read(&f.mirror, f.addr, &value, 8));
	/* A read-only entry is never written (invariant 6). */
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_write(&f.mirror, f.addr, &value, 8));
	KUNIT_EXPECT_EQ(test, -EINVAL, mm_mirror_fault(&f.mirror, f.addr - 1,
						       f.addr + 1,
						       MM_MIRROR_FAULT_READ));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			mm_mirror_fault(&f.mirror, f.addr + 2 * LEAF - 1,
					f.addr + 2 * LEAF + 1,
					MM_MIRROR_FAULT_READ));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(f.addr, LEAF));
	KUNIT_EXPECT_EQ(test, -EFAULT, mm_mirror_fault(&f.mirror, f.addr,
						       f.addr + 1,
						       MM_MIRROR_FAULT_READ));
	mm_mirror_destroy(&f.mirror);
}

/*
 * Invariants 4 and 8: what was written is dirty when its entry goes, and only
 * that; also where the mirror goes.
 */
static void dirty(struct kunit *test)
{
	struct folio *written, *read;
	struct page *pages[2];
	struct fixture f;
	u64 value = 1;

	open_software(test, &f);
	cpu_write(test, f.addr, 1);
	cpu_write(test, f.addr + PAGES(1), 1);
	KUNIT_ASSERT_EQ(test, 2, get_user_pages_fast(f.addr, 2, 0, pages));
	written = page_folio(pages[0]);
	read = page_folio(pages[1]);
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_fault(&f.mirror, f.addr,
						 f.addr + PAGES(2),
						 MM_MIRROR_FAULT_WRITE));
	folio_clear_dirty(written);
	folio_clear_dirty(read);
	KUNIT_EXPECT_EQ(test, 8, mm_mirror_write(&f.mirror, f.addr, &value, 8));
	KUNIT_EXPECT_EQ(test, 8, mm_mirror_read(&f.mirror, f.addr + PAGES(1),
						&value, 8));
	/* A read fault takes no dirtiness away (invariant 6). */
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_fault(&f.mirror, f.addr,
						 f.addr + PAGES(2),
						 MM_MIRROR_FAULT_READ));
	KUNIT_EXPECT_FALSE(test, folio_test_dirty(written));
	send_event(MMU_NOTIFY_CLEAR, NULL, true, f.addr, f.addr + PAGES(2));
	KUNIT_EXPECT_TRUE(test, folio_test_dirty(written));
	KUNIT_EXPECT_FALSE(test, folio_test_dirty(read));
	KUNIT_EXPECT_TRUE(test, folio_test_referenced(read) ||
			  folio_test_active(read));
	folio_mark_dirty(read);

	folio_clear_dirty(written);
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_fault(&f.mirror, f.addr,
						 f.addr + PAGES(1),
						 MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 8, mm_mirror_write(&f.mirror, f.addr, &value, 8));
	mm_mirror_destroy(&f.mirror);
	KUNIT_EXPECT_TRUE(test, folio_test_dirty(written));
	folio_put(written);
	folio_put(read);
}

/* Invariant 10: the OOM reaper is served; a driver that sleeps refuses it. */
static void events_that_must_not_block(struct kunit *test)
{
	struct mm_mirror_config table_only = {
		.seg_size = MM_MIRROR_ONE_SEGMENT,
	};
	struct fixture f;
	u64 value;

	open_software(test, &f);
	mm_mirror_fault(&f.mirror, f.addr, f.addr + 1, MM_MIRROR_FAULT_WRITE);
	KUNIT_EXPECT_EQ(test, 0, send_event(MMU_NOTIFY_UNMAP, NULL, false,
					    f.addr, f.addr + LEAF));
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_read(&f.mirror, f.addr, &value, 8));
	mm_mirror_destroy(&f.mirror);

	open_driver(test, &f);
	KUNIT_EXPECT_EQ(test, 0, fault_unlock(&f, f.addr, f.addr + 1,
					      MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, -EAGAIN, send_event(MMU_NOTIFY_UNMAP, NULL, false,
						  f.addr, f.addr + LEAF));
	KUNIT_EXPECT_EQ(test, 0, f.told);
	KUNIT_EXPECT_NE(test, 0, entry_of(&f, f.addr));
	mm_mirror_destroy(&f.mirror);

	/* No callback that may sleep, and the lock is free. */
	map_memory(test, &f, PROT_READ | PROT_WRITE);
	table_only.lock = &f.lock;
	open_mirror(&f, &table_only);
	KUNIT_EXPECT_EQ(test, 0, fault_unlock(&f, f.addr, f.addr + 1,
					      MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 0, send_event(MMU_NOTIFY_UNMAP, NULL, false,
					    f.addr, f.addr + LEAF));
	KUNIT_EXPECT_EQ(test, 0, entry_of(&f, f.addr));
	mm_mirror_destroy(&f.mirror);
}

/* Invariant 13 */
static void own_events(struct kunit *test)
{
	static const enum mmu_notifier_event events[] = {
		MMU_NOTIFY_UNMAP, MMU_NOTIFY_CLEAR, MMU_NOTIFY_PROTECTION_VMA,
		MMU_NOTIFY_PROTECTION_PAGE, MMU_NOTIFY_SOFT_DIRTY,
		MMU_NOTIFY_MIGRATE, MMU_NOTIFY_EXCLUSIVE,
	};
	struct fixture f;
	size_t i;
	int own;

	open_driver(test, &f);
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		for (own = 0; own < 2; own++) {
			bool kept = own && events[i] == MMU_NOTIFY_EXCLUSIVE;

			KUNIT_EXPECT_EQ(test, 0,
					fault_unlock(&f, f.addr, f.addr + 1,
						     MM_MIRROR_FAULT_WRITE));
			send_event(events[i], own ? (void *)&f : &f.mirror,
				   true, f.addr, f.addr + PAGE_SIZE);
			KUNIT_EXPECT_EQ_MSG(test, kept,
					    !!entry_of(&f, f.addr),
					    "event %d, own %d", events[i], own);
		}
	}
	mm_mirror_destroy(&f.mirror);
}

static void snapshots(struct kunit *test)
{
	struct fixture f;

	open_driver(test, &f);
	KUNIT_EXPECT_EQ(test, 0, fault_unlock(&f, f.addr, f.addr + LEAF,
					      MM_MIRROR_SNAPSHOT));
	KUNIT_EXPECT_TRUE(test, table_empty(&f.mirror));
	cpu_write(test, f.addr + PAGES(5), 5);
	KUNIT_EXPECT_EQ(test, 0, fault_unlock(&f, f.addr, f.addr + LEAF,
					      MM_MIRROR_SNAPSHOT));
	KUNIT_EXPECT_EQ(test, 0, entry_of(&f, f.addr));
	KUNIT_EXPECT_NE(test, 0, entry_of(&f, f.addr + PAGES(5)) &
			MM_MIRROR_DIRTY);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(f.addr, 2 * LEAF));
	KUNIT_EXPECT_EQ(test, 0, fault_unlock(&f, f.addr, f.addr + LEAF,
					      MM_MIRROR_SNAPSHOT));
	KUNIT_EXPECT_TRUE(test, table_empty(&f.mirror));
	mm_mirror_destroy(&f.mirror);
}

/* The device may write only what was faulted for writing. */
static void permission(struct kunit *test)
{
	struct fixture f;

	open_driver(test, &f);
	cpu_write(test, f.addr, 1);
	KUNIT_EXPECT_EQ(test, 0, fault_unlock(&f, f.addr, f.addr + 1,
					      MM_MIRROR_FAULT_READ));
	KUNIT_EXPECT_EQ(test, MM_MIRROR_VALID | MM_MIRROR_WRITE,
			entry_of(&f, f.addr) & 15);
	KUNIT_EXPECT_EQ(test, 0, fault_unlock(&f, f.addr, f.addr + 1,
					      MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, MM_MIRROR_VALID | MM_MIRROR_WRITE |
			MM_MIRROR_DIRTY, entry_of(&f, f.addr) & 15);
	KUNIT_EXPECT_EQ(test, 0, fault_unlock(&f, f.addr, f.addr + 1,
					      MM_MIRROR_FAULT_READ));
	KUNIT_EXPECT_NE(test, 0, entry_of(&f, f.addr) & MM_MIRROR_DIRTY);
	mm_mirror_destroy(&f.mirror);
}

static void make_huge(struct kunit *test, struct fixture *f)
{
	if (!thp_migration_supported() && !IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		kunit_skip(test, "no transparent huge pages");
	KUNIT_ASSERT_EQ(test, 0, advise(f->addr, 2 * LEAF, MADV_HUGEPAGE));
	cpu_write(test, f->addr, 1);
	cpu_write(test, f->addr + LEAF, 1);
}

/* A huge page is one entry, and invariant 5. */
static void huge_pages(struct kunit *test)
{
	struct fixture f;
	unsigned long pfn;

	open_driver(test, &f);
	make_huge(test, &f);
	/* Of one page the CPU's mapping tells all. */
	KUNIT_EXPECT_EQ(test, 0, fault_unlock(&f, f.addr + PAGES(3),
					      f.addr + PAGES(4),
					      MM_MIRROR_FAULT_WRITE));
	if (!order_of(&f, f.addr)) {
		mm_mirror_destroy(&f.mirror);
		kunit_skip(test, "the CPU has no huge page there");
	}
	KUNIT_EXPECT_EQ(test, PMD_SHIFT - PAGE_SHIFT, order_of(&f, f.addr));
	pfn = entry_of(&f, f.addr) >> MM_MIRROR_PFN_SHIFT;
	KUNIT_EXPECT_EQ(test, pfn + 511,
			entry_of(&f, f.addr + PAGES(511)) >> MM_MIRROR_PFN_SHIFT);
	KUNIT_EXPECT_EQ(test, 0, entry_of(&f, f.addr + LEAF));
	KUNIT_EXPECT_EQ(test, 512, atomic64_read(&f.mirror.faults));

	KUNIT_EXPECT_EQ(test, 0, advise(f.addr + PAGES(9), PAGES(1),
					MADV_DONTNEED));
	KUNIT_EXPECT_GT(test, f.told, 0);
	KUNIT_EXPECT_EQ(test, f.addr, f.told_start);
	KUNIT_EXPECT_EQ(test, f.addr + LEAF, f.told_end);
	KUNIT_EXPECT_NE(test, 0, f.entry);
	KUNIT_EXPECT_EQ(test, 0, entry_of(&f, f.addr));
	KUNIT_EXPECT_TRUE(test, table_empty(&f.mirror));

	/* Now there are page tables, and entries of a page each. */
	KUNIT_EXPECT_EQ(test, 0, fault_unlock(&f, f.addr, f.addr + LEAF,
					      MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 0, order_of(&f, f.addr));
	KUNIT_EXPECT_NE(test, 0, entry_of(&f, f.addr + PAGES(9)));
	mm_mirror_destroy(&f.mirror);
}

/* A mirror that does not cover the huge page has entries of a page each. */
static void huge_clipped(struct kunit *test)
{
	struct fixture f;
	u64 value = 7;

	map_memory(test, &f, PROT_READ | PROT_WRITE);
	make_huge(test, &f);
	KUNIT_ASSERT_EQ(test, 0, mm_mirror_init(&f.mirror, current->mm,
						f.addr + PAGES(1),
						f.addr + LEAF - PAGES(1),
						&software));
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_fault(&f.mirror, f.addr + PAGES(1),
						 f.addr + PAGES(3),
						 MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 2, atomic64_read(&f.mirror.faults));
	KUNIT_EXPECT_EQ(test, 8, mm_mirror_write(&f.mirror, f.addr + PAGES(2),
						 &value, 8));
	KUNIT_EXPECT_EQ(test, 7, cpu_read(test, f.addr + PAGES(2)));
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_write(&f.mirror, f.addr + PAGES(3),
						 &value, 8));
	mm_mirror_destroy(&f.mirror);
}

/* Software copies through a huge entry reach the page that they name. */
static void huge_copies(struct kunit *test)
{
	struct fixture f;
	unsigned long i;
	u64 value;

	open_software(test, &f);
	make_huge(test, &f);
	for (i = 0; i < 1024; i += 31)
		cpu_write(test, f.addr + PAGES(i) + 8, i);
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_fault(&f.mirror, f.addr,
						 f.addr + 2 * LEAF,
						 MM_MIRROR_FAULT_WRITE));
	for (i = 0; i < 1024; i += 31) {
		KUNIT_EXPECT_EQ(test, 8, mm_mirror_read(&f.mirror, f.addr +
							PAGES(i) + 8, &value, 8));
		KUNIT_EXPECT_EQ(test, i, value);
		value = ~i;
		KUNIT_EXPECT_EQ(test, 8, mm_mirror_write(&f.mirror, f.addr +
							 PAGES(i) + 8, &value, 8));
		KUNIT_EXPECT_EQ(test, ~i, cpu_read(test, f.addr + PAGES(i) + 8));
	}
	mm_mirror_destroy(&f.mirror);
}

static struct device *dma_device(struct kunit *test, u64 mask)
{
	struct device *dev = kunit_device_register(test, "mm_mirror");

	KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
	dev->dma_mask = &dev->coherent_dma_mask;
	dev->coherent_dma_mask = mask;
	return dev;
}

/* DMA addresses: there with the entry, and gone when the invalidation returns */
static void dma(struct kunit *test)
{
	struct mm_mirror_config config = {
		.seg_size = MM_MIRROR_ONE_SEGMENT,
		.ops = &note_ops,
		.dma_dir = DMA_BIDIRECTIONAL,
	};
	unsigned int order;
	dma_addr_t address;
	struct fixture f;
	struct page *page;
	unsigned long i;

	map_memory(test, &f, PROT_READ | PROT_WRITE);
	config.lock = &f.lock;
	config.dma_dev = dma_device(test, DMA_BIT_MASK(24));
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			mm_mirror_init(&f.mirror, current->mm, f.addr,
				       f.addr + LEAF, &config));
	config.dma_dev->coherent_dma_mask = DMA_BIT_MASK(64);
	open_mirror(&f, &config);

	for (i = 0; i < 2; i++) {
		unsigned long addr = f.addr + PAGES(17);

		KUNIT_ASSERT_EQ(test, 0, fault_unlock(&f, f.addr, f.addr + LEAF,
						      MM_MIRROR_FAULT_WRITE));
		page = mm_mirror_entry_page(look_up(&f, addr, &order, &address));
		KUNIT_EXPECT_EQ(test, page_to_phys(page), address);
		/* The device is told while the address still stands. */
		f.told = 0;
		KUNIT_EXPECT_EQ(test, 0, advise(addr, PAGES(1), MADV_DONTNEED));
		KUNIT_EXPECT_GT(test, f.told, 0);
		KUNIT_EXPECT_NE(test, 0, f.dma);
		KUNIT_EXPECT_EQ(test, 0, look_up(&f, addr, &order, &address));
		KUNIT_EXPECT_EQ(test, 0, address);
		/* And once more with huge pages, mapped whole. */
		KUNIT_EXPECT_EQ(test, 0, advise(f.addr, LEAF, MADV_DONTNEED));
		make_huge(test, &f);
	}
	mm_mirror_destroy(&f.mirror);
}

/*
 * No allocation that fails leaves anything behind, and the next try works.
 *
 * What an allocation needs besides, a page of slabs or kmemleak's object, fails
 * in its turn, changes nothing, and is not needed each time. So the n-th is not
 * always the same one, and each n gets several tries.
 */
static void allocation_failures(struct kunit *test)
{
#ifdef CONFIG_FAILSLAB
	int i, ret, early = 0, late = 0;
	struct fixture f;

	map_memory(test, &f, PROT_READ | PROT_WRITE);
	for (i = 0; i < 320; i++) {
		open_mirror(&f, &software);
		current->fail_nth = 1 + i % 40;
		ret = mm_mirror_fault(&f.mirror, f.addr, f.addr + PAGES(2),
				      MM_MIRROR_FAULT_WRITE);
		current->fail_nth = 0;
		if (ret)
			KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
		else
			KUNIT_EXPECT_FALSE(test, table_empty(&f.mirror));
		/* Scratch or segment; leaf or entries. */
		early += ret && xa_empty(&f.mirror.segs);
		late += ret && !xa_empty(&f.mirror.segs);
		KUNIT_EXPECT_EQ(test, 0,
				mm_mirror_fault(&f.mirror, f.addr,
						f.addr + PAGES(2),
						MM_MIRROR_FAULT_WRITE));
		KUNIT_EXPECT_EQ(test, 0, advise(f.addr, LEAF, MADV_DONTNEED));
		KUNIT_EXPECT_TRUE(test, table_empty(&f.mirror));
		mm_mirror_destroy(&f.mirror);
	}
	kunit_info(test, "%d failed before the table, %d in it", early, late);
	/* A case that is skipped at boot could not be run again later. */
	if (!early && !late) {
		kunit_info(test, "nothing failed, failslab/ignore-gfp-wait is Y");
		return;
	}
	KUNIT_EXPECT_GT(test, early, 0);
	KUNIT_EXPECT_GT(test, late, 0);
#else
	kunit_skip(test, "no CONFIG_FAILSLAB");
#endif
}

/* A fault that does not wait, and each of the reasons why it has to. */
static void faults_that_do_not_wait(struct kunit *test)
{
	struct mmu_notifier_range range;
	struct fixture f;
	u64 value = 1;

	open_software(test, &f);
	/* The first notifier of an mm needs the mmap lock. */
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			mm_mirror_fault_nowait(&f.mirror, f.addr, f.addr + 1,
					       MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 0, mm_mirror_fault(&f.mirror, f.addr, f.addr + 1,
						 MM_MIRROR_FAULT_READ));
	/* Nothing there, another segment, and write permission that is missing. */
	KUNIT_EXPECT_EQ(test, 0,
			mm_mirror_fault_nowait(&f.mirror, f.addr,
					       f.addr + LEAF + PAGES(2),
					       MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 8, mm_mirror_write(&f.mirror, f.addr + LEAF,
						 &value, 8));
	KUNIT_EXPECT_EQ(test, 1, cpu_read(test, f.addr + LEAF));

	KUNIT_EXPECT_EQ(test, 0, advise(f.addr, LEAF, MADV_DONTNEED));
	mmap_write_lock(current->mm);
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			mm_mirror_fault_nowait(&f.mirror, f.addr, f.addr + 1,
					       MM_MIRROR_FAULT_WRITE));
	mmap_write_unlock(current->mm);

	/* An invalidation of that segment is under way. */
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, current->mm,
				f.addr, f.addr + PAGE_SIZE);
	mmu_notifier_invalidate_range_start(&range);
	KUNIT_EXPECT_EQ(test, -EAGAIN,
			mm_mirror_fault_nowait(&f.mirror, f.addr, f.addr + 1,
					       MM_MIRROR_FAULT_WRITE));
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 0,
			mm_mirror_fault_nowait(&f.mirror, f.addr, f.addr + 1,
					       MM_MIRROR_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(f.addr, LEAF));
	KUNIT_EXPECT_EQ(test, -EFAULT,
			mm_mirror_fault_nowait(&f.mirror, f.addr, f.addr + 1,
					       MM_MIRROR_FAULT_WRITE));
	mm_mirror_destroy(&f.mirror);
}

/* The mm dies first (invariant 8). */
static void mm_dies_first(struct kunit *test)
{
	struct mm_struct *mm = mm_alloc();
	struct fixture f;

	KUNIT_ASSERT_NOT_NULL(test, mm);
	map_memory(test, &f, PROT_READ | PROT_WRITE);
	KUNIT_ASSERT_EQ(test, 0, mm_mirror_init(&f.mirror, mm, f.addr,
						f.addr + LEAF, &software));
	mmput(mm);
	KUNIT_EXPECT_EQ(test, -EFAULT, mm_mirror_fault(&f.mirror, f.addr,
						       f.addr + 1,
						       MM_MIRROR_FAULT_READ));
	mm_mirror_destroy(&f.mirror);
}

struct stress {
	struct fixture f;
	struct mm_struct *mm;
	atomic64_t written;
	unsigned long wrong;
	unsigned long failed;
};

/* Throws the page away and writes the next number, over and over. */
static int stress_cpu(void *data)
{
	struct stress *s = data;
	u64 n = 0;

	kthread_use_mm(s->mm);
	while (!kthread_should_stop()) {
		advise(s->f.addr, PAGES(1), MADV_DONTNEED);
		if (put_user(++n, (u64 __user *)s->f.addr))
			s->wrong++;
		atomic64_set(&s->written, n);
		cond_resched();
	}
	kthread_unuse_mm(s->mm);
	return 0;
}

/*
 * Invariants 1 and 2: what the mirror reads is never older than what the CPU
 * had written before the read began; 0 where the page was just thrown away.
 * Invariant 9: no fault fails because of it.
 */
static void stress(struct kunit *test)
{
	struct task_struct *task;
	struct stress *s;
	unsigned long i, hits = 0;

	s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, s);
	open_software(test, &s->f);
	s->mm = current->mm;
	task = kthread_run(stress_cpu, s, "mm_mirror_stress");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	for (i = 0; i < 20000; i++) {
		u64 before = atomic64_read(&s->written), value;

		if (mm_mirror_read(&s->f.mirror, s->f.addr, &value, 8) == 8) {
			hits++;
			if (value && value < before)
				s->wrong++;
		} else if (mm_mirror_fault(&s->f.mirror, s->f.addr,
					   s->f.addr + 8,
					   MM_MIRROR_FAULT_READ)) {
			s->failed++;
		}
		cond_resched();
	}
	kthread_stop(task);
	KUNIT_EXPECT_EQ(test, 0, s->wrong);
	KUNIT_EXPECT_EQ(test, 0, s->failed);
	KUNIT_EXPECT_GT(test, hits, 0);
	KUNIT_EXPECT_GT(test, atomic64_read(&s->f.mirror.invalidations), 0);
	mm_mirror_destroy(&s->f.mirror);
}

static struct kunit_case mm_mirror_cases[] = {
	KUNIT_CASE(whole_address_space),
	KUNIT_CASE(copies),
	KUNIT_CASE(functions_at_pages),
	KUNIT_CASE(fetched_ahead),
	KUNIT_CASE(invalidation),
	KUNIT_CASE(errors),
	KUNIT_CASE(dirty),
	KUNIT_CASE(events_that_must_not_block),
	KUNIT_CASE(own_events),
	KUNIT_CASE(snapshots),
	KUNIT_CASE(permission),
	KUNIT_CASE(huge_pages),
	KUNIT_CASE(huge_clipped),
	KUNIT_CASE(huge_copies),
	KUNIT_CASE(dma),
	KUNIT_CASE(allocation_failures),
	KUNIT_CASE(faults_that_do_not_wait),
	KUNIT_CASE(mm_dies_first),
	KUNIT_CASE_SLOW(stress),
	{}
};

static struct kunit_suite mm_mirror_suite = {
	.name = "mm_mirror",
	.test_cases = mm_mirror_cases,
};

kunit_test_suite(mm_mirror_suite);

MODULE_DESCRIPTION("KUnit tests of mm_mirror");
MODULE_LICENSE("GPL");
