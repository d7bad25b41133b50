// SPDX-License-Identifier: GPL-2.0
/*
 * The table of a mirror against a model of it: plain arrays, with an element
 * for each page of a window that the table covers, or all but its edges.
 *
 * @cpu is what the CPU maps, in the form that hmm_range_fault() returns, and
 * @entry what mm_mirror_entry() should say. Each operation is done to both, and
 * what the two say is compared. The unit tests use the same operations, and say
 * in numbers what they expect besides.
 */
#include <sys/mman.h>
#include "test.h"

#define WINDOW		(3UL << PUD_ORDER)	/* pages */

unsigned int test_failures;

static struct mm_mirror mirror;
static struct mm_mirror_table *const table = &mirror.table;
static u64 dma_mask;
static struct device device = { .dma_mask = &dma_mask };
static unsigned long first, last;	/* pages of the window that the table has: [first, last) */
static unsigned long cpu[WINDOW], entry[WINDOW];
static unsigned char level[WINDOW];	/* of the entry */
static bool dma[WINDOW];
static u64 seed = 1;

static unsigned long address(unsigned long page)
{
	return table->base + page * PAGE_SIZE;
}

/* The window begins at @base, aligned to a huge page of level 2. */
static void begin(unsigned long base, unsigned long from, unsigned long to, bool one_segment,
		  bool with_dma)
{
	struct mm_mirror_config config = {
		.seg_size = one_segment ? MM_MIRROR_ONE_SEGMENT : MM_MIRROR_LEAF_SIZE,
		.dma_dev = with_dma ? &device : NULL,
	};

	/* As good as memset(), of what is mostly untouched. */
	madvise(shim_pages, sizeof(shim_pages), MADV_DONTNEED);
	memset(cpu, 0, sizeof(cpu));
	memset(entry, 0, sizeof(entry));
	memset(dma, 0, sizeof(dma));
	device.fail_after = -1;
	first = from;
	last = to;
	mm_mirror_table_init(table, base + from * PAGE_SIZE, base + to * PAGE_SIZE, &config);
	check(table->levels == (one_segment ? 3 : 2) && address(0) == base);
}

/* The pages of the entry of a level that a page is in: [*from, *to). */
static void block(unsigned int of, unsigned long page, unsigned long *from, unsigned long *to)
{
	*from = page & ~(LEVEL_PAGES(of) - 1);
	*to = *from + LEVEL_PAGES(of);
}

/* The level that the entry of a page has to have. */
static unsigned int level_wanted(unsigned long page)
{
	unsigned long from, to;
	unsigned int of;

	for (of = table->levels - 1; of; of--) {
		block(of, page, &from, &to);
		if (hmm_pfn_to_map_order(cpu[page]) >= mm_mirror_entry_order(of) &&
		    from >= first && to <= last)
			break;
	}
	return of;
}

static unsigned long entry_of(unsigned long page)
{
	unsigned int order;
	dma_addr_t dma;

	return mm_mirror_table_entry(table, address(page), &order, &dma);
}

static dma_addr_t dma_of(unsigned long addr)
{
	unsigned int order;
	dma_addr_t dma_addr;

	mm_mirror_table_entry(table, addr, &order, &dma_addr);
	return dma_addr;
}

static void compare(unsigned long from, unsigned long to)
{
	unsigned long page, want;

	for (page = from; page < to; page++) {
		want = entry[page];
		if (!check(entry_of(page) == want)) {
			printf("# page %lx: %lx, not %lx\n", page, entry_of(page), want);
			break;
		}
		want = want && dma[page] ?
			SHIM_DMA | want >> MM_MIRROR_PFN_SHIFT << PAGE_SHIFT : 0;
		check(dma_of(address(page)) == want);
	}
}

/* Zap a range, and return how many pages were dropped. */
static unsigned long zap(unsigned long from, unsigned long to)
{
	unsigned long page, b, e, want = 0, dropped;

	dropped = mm_mirror_table_zap(table, address(from), address(to), true);
	for (page = from; page < to; page++) {
		unsigned long old = entry[page];
		struct page *frame;

		if (!old)
			continue;
		block(level[page], page, &b, &e);
		frame = mm_mirror_entry_page(entry[b]);
		frame->want_dirtied += !!(old & MM_MIRROR_DIRTY);
		frame->want_accessed += old & MM_MIRROR_USED &&
					!frame->zone_device;
		check(frame->dirtied == frame->want_dirtied);
		check(frame->accessed == frame->want_accessed);
		check(!frame->mapped);
		want += e - b;
		memset(entry + b, 0, (e - b) * sizeof(*entry));
		memset(dma + b, 0, e - b);
		check(!entry_of(b) && !entry_of(e - 1));
	}
	check(dropped == want);
	compare(from, to);
	/* An empty leaf has gone; also one that only a reserve had made. */
	for (page = from; page < to; page++) {
		block(1, page, &b, &e);
		if (page == b && e <= to)
			check(!xa_load(&table->leaves[0], page >> PMD_ORDER) &&
			      !xa_load(&table->leaves[1], page >> PMD_ORDER));
	}
	return dropped;
}

/* The end: all is zapped, and all memory free. */
static void finish(void)
{
	zap(first, last);
	compare(0, WINDOW);
	table_end(table);
	check(!shim_allocated);
}

static int reserve(unsigned long from, unsigned long to)
{
	return mm_mirror_table_reserve(table, address(from), address(to), cpu + from);
}

/* Reserve and publish what the CPU maps. Returns the pages that changed, or -ENOMEM. */
static long fault(unsigned long from, unsigned long to, unsigned long implied)
{
	unsigned long page, b, e, want = 0, changed = 0;
	int ret = reserve(from, to);

	if (ret) {
		check(ret == -ENOMEM && shim_failed);
		compare(from, to);
		return ret;
	}
	check(mm_mirror_table_publish(table, address(from), address(to), cpu + from, implied,
				      &changed));
	for (page = from; page < to; page = e) {
		unsigned long i, new = MM_MIRROR_VALID;

		block(level_wanted(page), page, &b, &e);
		if (!(cpu[page] & HMM_PFN_VALID))
			continue;
		if (cpu[page] & HMM_PFN_WRITE)
			new |= MM_MIRROR_WRITE | implied;
		if (new & ~entry[page] & (MM_MIRROR_VALID | MM_MIRROR_WRITE))
			want += e - b;
		for (i = b; i < e; i++) {
			entry[i] |= new | (cpu[i] & ~HMM_PFN_FLAGS) << MM_MIRROR_PFN_SHIFT;
			level[i] = level_wanted(page);
		}
	}
	check(changed == want);
	compare(from, to);
	return changed;
}

/* Extend a range over the huge pages of the CPU that it begins or ends in. */
static void whole(unsigned long *from, unsigned long *to)
{
	unsigned long order;

	order = cpu[*from] ? hmm_pfn_to_map_order(cpu[*from]) : 0;
	*from &= ~(BIT(order) - 1);
	order = cpu[*to - 1] ? hmm_pfn_to_map_order(cpu[*to - 1]) : 0;
	*to = ((*to - 1) | (BIT(order) - 1)) + 1;
}

/* The CPU maps pages of an order, from the frames of a set; all that was there was invalidated. */
static void map(unsigned long from, unsigned long to, unsigned int order, unsigned long set,
		bool write)
{
	unsigned long page, b = from & ~(BIT(order) - 1), e = ((to - 1) | (BIT(order) - 1)) + 1;

	from = b;
	to = e;
	whole(&from, &to);
	if (max(from, first) < min(to, last))
		zap(max(from, first), min(to, last));
	memset(cpu + from, 0, (to - from) * sizeof(*cpu));
	for (page = b; page < e; page++)
		cpu[page] = (page + set * 4 * LEVEL_PAGES(2)) | HMM_PFN_VALID |
			    (write ? HMM_PFN_WRITE : 0) |
			    (unsigned long)order << HMM_PFN_ORDER_SHIFT;
}

static void unmap(unsigned long from, unsigned long to)
{
	whole(&from, &to);
	zap(max(from, first), min(to, last));
	memset(cpu + from, 0, (to - from) * sizeof(*cpu));
}

/* A write fault needs no invalidation, making a page read-only does. */
static void protect(unsigned long from, unsigned long to, bool write)
{
	whole(&from, &to);
	if (!write)
		zap(max(from, first), min(to, last));
	for (; from < to; from++)
		if (cpu[from])
			cpu[from] = write ? cpu[from] | HMM_PFN_WRITE : cpu[from] & ~HMM_PFN_WRITE;
}

static void touch(unsigned long page, bool write)
{
	bool may = entry[page] & (write ? MM_MIRROR_WRITE : MM_MIRROR_VALID);
	unsigned long b, e;

	pfn_to_page(entry[page] >> MM_MIRROR_PFN_SHIFT)->data = page + 1;
	check(mirror_access(table, address(page), write) == (may ? page + 1 : 0));
	if (may) {
		block(level[page], page, &b, &e);
		for (; b < e; b++)
			entry[b] |= MM_MIRROR_USED | (write ? MM_MIRROR_DIRTY : 0);
	}
	compare(page, page + 1);
}

static void expand(unsigned long from, unsigned long to, unsigned long want_from,
		   unsigned long want_to)
{
	unsigned long start = address(from), end = address(to);

	mm_mirror_table_expand(table, &start, &end);
	check(start == address(want_from) && end == address(want_to));
}

/* Make DMA addresses. A mapping that fails leaves those that came before it. */
static void dma_map(unsigned long from, unsigned long to, int fail_after)
{
	unsigned long page, b, e;
	int ret;

	if (!table->dma_dev)
		return;
	device.fail_after = fail_after;
	ret = mm_mirror_dma_map(table, address(from), address(to));
	check(!ret || (ret == -EFAULT && device.fail_after < 0 && fail_after >= 0));
	device.fail_after = -1;
	for (page = from; page < to; page++) {
		if (!entry[page])
			continue;
		block(level[page], page, &b, &e);
		if (!ret || mm_mirror_entry_page(entry[b])->mapped)
			memset(dma + b, true, e - b);
	}
	compare(from, to);
}

#define P	BIT(PMD_ORDER)
#define G	BIT(PUD_ORDER)

/* A window from an address, with or without DMA: the unit tests are run in each of them. */
struct place {
	const char *name;
	unsigned long base;
	bool dma;
};

static void test_pages(const struct place *place)
{
	begin(place->base, 0, 2 * G, false, place->dma);
	map(2, 7, 0, 0, true);
	map(P - 1, P + 1, 0, 1, false);
	check(fault(0, P + 2, 0) == 7);
	check(fault(0, P + 2, 0) == 0);
	check(xa_empty(&table->leaves[1]) && xa_empty(&table->leaves[2]));
	dma_map(0, P + 2, -1);
	touch(3, true);
	touch(4, false);
	touch(P, true);
	touch(8, false);
	expand(3, P + 1, 3, P + 1);
	check(zap(4, 6) == 2);
	check(pfn_to_page(4)->accessed == 1 && !pfn_to_page(4)->dirtied);
	check(!pfn_to_page(5)->accessed);
	check(zap(0, P) == 4);
	check(pfn_to_page(3)->dirtied == 1 && pfn_to_page(3)->accessed == 1);
	check(zap(0, 2 * G) == 1);
	check(zap(0, 2 * G) == 0);
	/* Not marked accessed, as no device memory is. */
	map(9, 10, 0, 0, true);
	pfn_to_page(9)->zone_device = true;
	check(fault(9, 10, 0) == 1);
	touch(9, true);
	check(zap(9, 10) == 1 && pfn_to_page(9)->dirtied == 1);
	finish();
}

static void test_huge(const struct place *place)
{
	begin(place->base, 0, 3 * G, true, place->dma);
	map(P, 2 * P, PMD_ORDER, 0, true);
	map(G, 2 * G, PUD_ORDER, 1, true);
	map(2 * G, 2 * G + 5, 0, 0, true);
	/* A part of a huge page is all of it. */
	check(fault(P + 3, P + 4, 0) == (long)P);
	check(fault(0, 3 * G, 0) == (long)(G + 5));
	dma_map(0, 3 * G, -1);
	touch(P + 1, true);
	touch(2 * G - 1, true);
	compare(0, 3 * G);
	expand(P + 1, P + 2, P, 2 * P);
	expand(P - 1, P, P - 1, P);
	expand(G + P, G + P + 1, G, 2 * G);
	expand(2 * P - 1, G + 1, P, 2 * G);
	expand(0, 3 * G, 0, 3 * G);
	check(zap(2 * P - 1, G) == P);
	check(pfn_to_page(P)->dirtied == 1 && pfn_to_page(P)->accessed == 1);
	check(zap(2 * G - 1, 2 * G + 1) == G + 1);
	check(pfn_to_page(5 * G)->dirtied == 1);
	check(zap(0, 3 * G) == 4);
	/* One leaf in turn: pages, a huge page, pages. */
	map(0, P, 0, 0, true);
	check(fault(0, P, 0) == (long)P);
	map(0, P, PMD_ORDER, 1, true);
	check(fault(1, 2, 0) == (long)P);
	map(0, 1, 0, 0, true);
	check(fault(0, P, 0) == 1);
	finish();
	/* In segments of P pages, what is larger is entries of that size. */
	begin(place->base, 0, 3 * G, false, place->dma);
	map(0, G, PUD_ORDER, 0, true);
	check(fault(P - 1, P + 1, 0) == 2 * (long)P);
	expand(P - 1, P + 1, 0, 2 * P);
	check(zap(0, 1) == P);
	finish();
}

static void test_clipped(const struct place *place)
{
	begin(place->base, P - 1, 2 * G + P + 1, true, place->dma);
	map(0, 3 * G, PUD_ORDER, 0, true);
	/* A page, huge ones of level 1 up to G, one of level 2, one of level 1, a page. */
	check(fault(P - 1, 2 * G + P + 1, 0) == (long)(2 * G + 2));
	check(level[P - 1] == 0 && level[P] == 1 && level[G] == 2 && level[2 * G] == 1 &&
	      level[2 * G + P] == 0);
	dma_map(P - 1, 2 * G + P + 1, -1);
	check(zap(P - 1, P) == 1);
	check(zap(2 * G + P, 2 * G + P + 1) == 1);
	check(zap(G - 1, G + 1) == P + G);
	finish();
	begin(place->base, G - 1, 2 * G - 1, true, place->dma);
	map(0, 2 * G, PUD_ORDER, 0, false);
	check(fault(G - 1, 2 * G - 1, 0) == (long)G);
	check(level[G - 1] == 0 && level[G] == 1 && level[2 * G - 2] == 0);
	finish();
}

static void test_bits(const struct place *place)
{
	unsigned long all = MM_MIRROR_VALID | MM_MIRROR_WRITE | MM_MIRROR_DIRTY | MM_MIRROR_USED;
	static const unsigned int orders[] = { 0, PMD_ORDER, PUD_ORDER };
	unsigned int i, order;
	unsigned long page;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		order = orders[i];
		begin(place->base, 0, G, true, place->dma);
		page = order ? 0 : 5;
		map(page, page + 1, order, 0, false);
		check(fault(page, page + 1, MM_MIRROR_DIRTY) == (long)BIT(order));
		check(entry_of(page) % 16 == MM_MIRROR_VALID);
		touch(page, true);
		touch(page, false);
		check(entry_of(page) % 16 == (MM_MIRROR_VALID | MM_MIRROR_USED));
		protect(page, page + 1, true);
		check(fault(page, page + 1, MM_MIRROR_DIRTY) == (long)BIT(order));
		check(entry_of(page) % 16 == all);
		/* A walk for reading may have seen it read-only before. */
		cpu[page] &= ~HMM_PFN_WRITE;
		check(fault(page, page + 1, 0) == 0);
		check(entry_of(page) % 16 == all);
		check(zap(page, page + 1) == BIT(order) && pfn_to_page(page)->dirtied == 1);
		finish();
	}
}

/* What a walk leaves out: errors, and pages that are not there. */
static void test_holes(const struct place *place)
{
	unsigned long changed = 0;

	begin(place->base, 0, G, true, place->dma);
	cpu[1] = HMM_PFN_ERROR;
	check(fault(0, G, 0) == 0);
	check(!shim_allocated);
	map(P + 7, P + 8, 0, 0, true);
	check(fault(0, G, 0) == 1);
	/* A leaf that went between reserve and publish. */
	map(0, 1, 0, 0, true);
	check(!reserve(0, 1));
	check(zap(0, 1) == 0);
	check(!mm_mirror_table_publish(table, address(0), address(1), cpu, 0, &changed));
	check(!changed);
	/* A leaf that is there on another level. */
	map(2 * P, 3 * P, PMD_ORDER, 0, true);
	check(!reserve(2 * P, 3 * P));
	map(2 * P, 2 * P + 1, PMD_ORDER, 0, true);
	check(!reserve(2 * P, 2 * P + 1));
	cpu[2 * P] &= ~(0x1fUL << HMM_PFN_ORDER_SHIFT);
	check(!mm_mirror_table_publish(table, address(2 * P), address(2 * P + 1), cpu + 2 * P, 0,
				       &changed));
	check(!reserve(2 * P, 2 * P + 1));
	cpu[2 * P] |= (unsigned long)PMD_ORDER << HMM_PFN_ORDER_SHIFT;
	check(fault(2 * P, 2 * P + 1, 0) == (long)P);
	finish();
}

/*
 * A fault that will not publish: its walk was before an invalidation, and it
 * reserves when another fault has published what the CPU maps since.
 */
static void late_reserve(unsigned long from, unsigned long to, unsigned int order)
{
	static unsigned long old[WINDOW];

	memcpy(old, cpu + from, (to - from) * sizeof(*old));
	map(from, from + 1, order, 1, true);
	fault(from, to, 0);
	check(!mm_mirror_table_reserve(table, address(from), address(to), old));
	compare(from, to);
}

/* It hides nothing from who looks, and is in the way of nobody. */
static void test_late(const struct place *place)
{
	unsigned long huge = HMM_PFN_VALID | (unsigned long)PUD_ORDER << HMM_PFN_ORDER_SHIFT;

	begin(place->base, 0, 3 * G, true, place->dma);
	map(G, G + 1, 0, 0, true);
	late_reserve(G, G + 3 * P, PUD_ORDER);
	touch(G + 1, true);
	dma_map(G, 2 * G, -1);
	check(zap(G, G + 1) == G && pfn_to_page(5 * G)->dirtied == 1);
	/* The other way round, where there is a hole, and a page after it. */
	map(P, P + 1, 0, 0, true);
	check(fault(0, 2 * P, 0) == 1);
	check(!mm_mirror_table_reserve(table, address(0), address(1), &huge));
	compare(0, G);
	dma_map(0, 2 * P, -1);
	finish();
}

/* Each allocation fails in turn, alone or with all that follow. */
static void test_enomem(const struct place *place)
{
	unsigned int n, on, shape, enomem = 0;

	for (on = 0; on < 2; on++) {
		for (shape = 0; shape < 3; shape++) {
			for (n = 0;; n++) {
				begin(place->base, 1, 3 * G - 1, shape < 2, place->dma);
				/* A leaf that has no entries yet, and one that has. */
				map(P, 2 * P, PMD_ORDER, 0, true);
				map(2 * P, 3 * P, 0, 0, true);
				check(fault(P, 2 * P + 3, 0) == (long)P + 3);
				touch(P, true);
				map(P - 1, P + 1, 0, 1, true);
				map(G, 2 * G, shape ? PUD_ORDER : 0, 0, true);
				map(2 * G + P, 3 * G, PMD_ORDER, 0, false);
				shim_fail_after = n;
				shim_fail_on = on;
				shim_failed = 0;
				enomem += fault(P - 1, 2 * G + 2 * P, 0) < 0;
				shim_fail_after = -1;
				compare(0, 3 * G);
				check(fault(P - 1, 2 * G + 2 * P, 0) >= 0);
				finish();
				if (!shim_failed)
					break;
			}
		}
	}
	check(enomem > 10);
}

/* All of an address space: its first and its last page are parts of huge ones. */
static void test_edges(const struct place *place)
{
	static const unsigned int bits[] = { 47, 56 };
	unsigned long changed, start, end, last_page;
	unsigned long pfn = HMM_PFN_VALID | (unsigned long)PUD_ORDER << HMM_PFN_ORDER_SHIFT;
	struct mm_mirror_config config = { .seg_size = place->dma ? MM_MIRROR_LEAF_SIZE :
							MM_MIRROR_ONE_SEGMENT };
	struct mm_mirror_leaf *leaf;
	unsigned int i, of;

	for (i = 0; i < ARRAY_SIZE(bits); i++) {
		end = BIT(bits[i]) - PAGE_SIZE;
		last_page = end - PAGE_SIZE;
		changed = 0;
		mm_mirror_table_init(table, 0, end, &config);
		check(!mm_mirror_table_reserve(table, 0, PAGE_SIZE, &pfn));
		check(mm_mirror_table_publish(table, 0, PAGE_SIZE, &pfn, 0, &changed));
		leaf = mm_mirror_table_find(table, 0, &of);
		check(leaf && of == table->levels - 1);
		check(changed == LEVEL_PAGES(table->levels - 1));
		check(!mm_mirror_table_reserve(table, last_page, end, &pfn));
		check(mm_mirror_table_publish(table, last_page, end, &pfn, 0, &changed));
		leaf = mm_mirror_table_find(table, last_page, &of);
		check(leaf && leaf->present == 1 && !of);
		check(!mm_mirror_table_find(table, end / 2, &of));
		start = 0;
		mm_mirror_table_expand(table, &start, &end);
		check(start == 0 && end == BIT(bits[i]) - PAGE_SIZE);
		check(mm_mirror_table_zap(table, last_page, end, false) == 1);
		check(mm_mirror_table_zap(table, 0, end, false) == changed - 1);
		table_end(table);
		check(!shim_allocated);
	}
}

/* What no caller does: it is warned of, and no dirtiness is lost. */
static void test_replaced(const struct place *place)
{
	unsigned long changed = 0, pfn = 9 | HMM_PFN_VALID;
	unsigned int warnings = shim_warnings;

	shim_quiet = true;
	begin(place->base, 0, G, true, place->dma);
	map(3, 4, 0, 0, true);
	check(fault(3, 4, 0) == 1);
	touch(3, true);
	check(mm_mirror_table_publish(table, address(3), address(4), &pfn, 0, &changed));
	check(shim_warnings == warnings + 1 && pfn_to_page(3)->dirtied == 1 && changed == 1);
	check(entry_of(3) == (9UL << MM_MIRROR_PFN_SHIFT | MM_MIRROR_VALID));
	check(mm_mirror_table_zap(table, address(0), address(G), true) == 1);
	entry[3] = 0;
	shim_warnings = warnings;
	shim_quiet = false;
	pfn_to_page(3)->want_dirtied = pfn_to_page(3)->want_accessed = 1;
	finish();
}

static unsigned long below(unsigned long n)
{
	return random_below(&seed, n);
}

/* A range of the table, more often a small one, or one that begins where a leaf does. */
static void random_range(unsigned long *from, unsigned long *to)
{
	static const unsigned long sizes[] = { 1, 2, 8, P, 2 * P, P, 8, 1, 3 * P, G };
	unsigned long align = below(4) ? 1 : below(8) ? P : G;

	*from = max((first + below(last - first)) & ~(align - 1), first);
	/* Large ranges take their time where huge pages are as large as in earnest. */
	*to = *from + 1 + below(sizes[below(ARRAY_SIZE(sizes) - (G > 4096 && below(16)))]);
	if (align > 1)
		*to = (*to + P - 1) & ~(P - 1);
	*to = min(*to, last);
}

static void random_operation(void)
{
	static const unsigned int orders[] = { 0, 0, PMD_ORDER, PUD_ORDER };
	unsigned long from, to, i, order;

	random_range(&from, &to);
	switch (below(16)) {
	case 0 ... 2:
		order = orders[below(G > 4096 && below(8) ? 3 : 4)];
		map(from, order ? from + 1 : to, order, below(2), below(2));
		break;
	case 3:
		unmap(from, to);
		break;
	case 4:
		protect(from, to, below(3));
		break;
	case 5:
		zap(from, to);
		break;
	case 6:
		late_reserve(from, to, orders[below(4)]);
		break;
	case 7:
		dma_map(from, to, below(2) ? (int)below(P) : -1);
		break;
	case 8:
		shim_failed = 0;
		shim_fail_after = below(8);
		shim_fail_on = below(2);
		fault(from, to, 0);
		shim_fail_after = -1;
		break;
	case 9 ... 11:
		fault(from, to, below(2) ? MM_MIRROR_DIRTY : 0);
		break;
	case 12:
		rcu_barrier();
		break;
	default:
		for (i = 0; i < 8; i++)
			touch(from + below(to - from), below(2));
	}
}

static void test_random(const struct place *place, unsigned int rounds)
{
	unsigned int round, i, operations = G > 4096 ? 400 : 1500;
	unsigned long from, to;

	for (round = 0; round < rounds && !test_failures; round++) {
		from = below(2) ? 0 : below(2) ? below(G) : P * below(G / P);
		to = WINDOW - (below(2) ? 0 : below(2) ? below(G) : P * below(G / P));
		begin(place->base, from, to, below(3), place->dma);
		for (i = 0; i < operations && !test_failures; i++)
			random_operation();
		compare(0, WINDOW);
		finish();
		if (test_failures)
			printf("# round %u, operation %u\n", round, i);
	}
}

/* Prints a result; the script numbers them. */
static void result(const char *name, const char *where)
{
	check(!shim_warnings);
	printf("%s %s_%s\n", test_failures ? "not ok" : "ok", name, where);
	fflush(stdout);
	test_failures = shim_warnings = 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const struct place *place);
	} tests[] = {
		{ "pages", test_pages }, { "huge", test_huge }, { "clipped", test_clipped },
		{ "bits", test_bits }, { "holes", test_holes }, { "late", test_late },
		{ "enomem", test_enomem }, { "edges", test_edges }, { "replaced", test_replaced },
	};
	const struct place places[] = {
		{ "from_0", 0, false },
		{ "to_47_bits", BIT(47) - WINDOW * PAGE_SIZE, true },
		{ "to_56_bits", BIT(56) - WINDOW * PAGE_SIZE, false },
	};
	unsigned int i, p, rounds = argc > 2 ? atoi(argv[2]) : 1;
	unsigned long first_seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		/* With too many allocations for each to fail in turn. */
		if (tests[i].run == test_enomem && G > 4096)
			continue;
		for (p = 0; p < ARRAY_SIZE(places); p++)
			tests[i].run(&places[p]);
		result(tests[i].name, argc > 3 ? argv[3] : "");
	}
	/* Any seed but 0 will do, and close ones are not alike. */
	seed = (first_seed + 1) * 0x9e3779b97f4a7c15UL | 1;
	for (p = 0; p < ARRAY_SIZE(places); p++)
		test_random(&places[p], rounds);
	if (test_failures)
		printf("# --seed %lu\n", first_seed);
	result("random", argc > 3 ? argv[3] : "");
	return 0;
}
