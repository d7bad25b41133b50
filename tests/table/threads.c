// SPDX-License-Identifier: GPL-2.0
/*
 * The table of a mirror among threads: accesses and faults against
 * invalidations, as mm_mirror.c has them, of an address space that is made up.
 * A page that the CPU has unmapped is poisoned, and soon used at another
 * address. Built with ThreadSanitizer, which sees what happened to go well.
 *
 * The ways to lock: with segments or one, or with a driver's lock and a device
 * that has a page table of its own.
 */
#include <sched.h>
#include <time.h>
#include <unistd.h>
#include "test.h"

#define WINDOW		(2UL << PUD_ORDER)	/* pages */
#define BASE		(BIT(47) - WINDOW * PAGE_SIZE)
#define POISON		~0UL
#define TAG(page)	(((page) + 1) * 0x1001)	/* what the page of an address contains */
#define ACCESSORS	3
#define INVALIDATORS	2

/* To see that without it, this test fails. */
#ifdef NO_SEQUENCE_CHECK
#define SEQUENCE_STANDS(x)	((void)(x), true)
#else
#define SEQUENCE_STANDS(x)	(x)
#endif

unsigned int test_failures;

static struct mm_mirror mirror;
static struct mm_mirror_table *const table = &mirror.table;
static struct device device = { .fail_after = -1 };
static bool stop;
static unsigned long accesses, misses, retries, invalidations;

/* A segment, and the notifiers' sequence as in mm/mmu_notifier.c. */
static struct seg {
	spinlock_t lock;
	unsigned long seq;
} segs[WINDOW];
static unsigned long seg_pages;
static pthread_mutex_t notifier_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t notifier_wait = PTHREAD_COND_INITIALIZER;
static unsigned long notifier_seq;
static unsigned int notifier_active;

/* The driver's lock, and its device: what it may use it looks up under its own lock. */
static bool with_driver;
static pthread_mutex_t driver_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t device_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long device_table[WINDOW];

/* What the CPU maps, as hmm_range_fault() returns it, and the free pages of each size. */
static pthread_mutex_t cpu_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long cpu[WINDOW];
static const unsigned int orders[] = { PUD_ORDER, PMD_ORDER, 0 };
static const unsigned int pool_size[] = { 3, 20, 160 };
static unsigned long pool[ARRAY_SIZE(orders)][160];
static unsigned int pool_free[ARRAY_SIZE(orders)];

static unsigned long address(unsigned long page)
{
	return BASE + page * PAGE_SIZE;
}

static void count(unsigned long *what)
{
	__atomic_add_fetch(what, 1, __ATOMIC_RELAXED);
}

static bool unmapped(unsigned long from, unsigned long pages)
{
	for (; pages--; from++)
		if (cpu[from])
			return false;
	return true;
}

/* A page of any size for an address that has none. */
static void cpu_map(unsigned long page, bool write, u64 *seed)
{
	unsigned long i, pfn, size, at;
	unsigned int kind;

	for (kind = random_below(seed, ARRAY_SIZE(orders)); kind < ARRAY_SIZE(orders); kind++) {
		size = BIT(orders[kind]);
		at = page & ~(size - 1);
		if (pool_free[kind] && unmapped(at, size))
			break;
	}
	if (kind == ARRAY_SIZE(orders))
		return;
	pfn = pool[kind][--pool_free[kind]];
	for (i = 0; i < size; i++) {
		pfn_to_page(pfn + i)->data = TAG(at + i);
		cpu[at + i] = (pfn + i) | HMM_PFN_VALID | (write ? HMM_PFN_WRITE : 0) |
			      (unsigned long)orders[kind] << HMM_PFN_ORDER_SHIFT;
	}
}

/* What becomes of a page that was invalidated: it is freed, or read-only from here on. */
static void cpu_change(unsigned long page, bool discard)
{
	unsigned int kind, order = hmm_pfn_to_map_order(cpu[page]);
	struct page *head = hmm_pfn_to_page(cpu[page]), *frame;
	bool writable = cpu[page] & HMM_PFN_WRITE;
	unsigned long i;

	for (i = 0; i < BIT(order); i++) {
		frame = head + i;
		/* No write came after the invalidation that made it read-only. */
		check(writable || frame->writes == frame->frozen);
		frame->frozen = frame->writes;
		if (!discard) {
			cpu[page + i] &= ~HMM_PFN_WRITE;
			continue;
		}
		check(!frame->writes || READ_ONCE(head->dirtied));
		check(!READ_ONCE(frame->mapped));
		frame->data = POISON;
		frame->writes = frame->frozen = 0;
		cpu[page + i] = 0;
	}
	if (!discard)
		return;
	WRITE_ONCE(head->dirtied, 0);
	for (kind = 0; orders[kind] != order; kind++)
		;
	pool[kind][pool_free[kind]++] = page_to_pfn(head);
}

/* As hmm_range_fault(). */
static void walk(unsigned long from, unsigned long to, bool write, unsigned long *pfns, u64 *seed)
{
	unsigned long page, i, at, size;

	pthread_mutex_lock(&cpu_lock);
	/* There are holes, as in a snapshot, but never in what becomes one huge page. */
	for (page = from; page < to; page++)
		if (!cpu[page] && random_below(seed, 8))
			cpu_map(page, write || random_below(seed, 2), seed);
	for (page = from; page < to; page++) {
		if (cpu[page] && write && !(cpu[page] & HMM_PFN_WRITE)) {
			size = BIT(hmm_pfn_to_map_order(cpu[page]));
			at = page & ~(size - 1);
			for (i = at; i < at + size; i++) {
				struct page *frame = hmm_pfn_to_page(cpu[i]);

				check(frame->writes == frame->frozen);
				cpu[i] |= HMM_PFN_WRITE;
			}
		}
		pfns[page - from] = cpu[page];
	}
	pthread_mutex_unlock(&cpu_lock);
}

/* As mmu_interval_read_begin(). */
static unsigned long read_begin(struct seg *seg)
{
	unsigned long seq;

	pthread_mutex_lock(&notifier_lock);
	seq = READ_ONCE(seg->seq);
	while (notifier_seq == seq)
		pthread_cond_wait(&notifier_wait, &notifier_lock);
	pthread_mutex_unlock(&notifier_lock);
	return seq;
}

/* What a driver does after mm_mirror_fault_and_lock(): all that it may use goes to its device. */
static void device_update(unsigned long from, unsigned long to)
{
	unsigned long page, entry;
	unsigned int order;
	dma_addr_t dma;

	check(!mm_mirror_dma_map(table, address(from), address(to)));
	pthread_mutex_lock(&device_lock);
	for (page = from; page < to; page++) {
		entry = mm_mirror_table_entry(table, address(page), &order, &dma);
		device_table[page] = entry;
		check(dma ==
		      (entry ? SHIM_DMA | entry >> MM_MIRROR_PFN_SHIFT << PAGE_SHIFT : 0));
	}
	pthread_mutex_unlock(&device_lock);
}

static unsigned long device_access(unsigned long index, bool write)
{
	unsigned long entry, data = 0;
	struct page *page;

	pthread_mutex_lock(&device_lock);
	entry = device_table[index];
	if (write ? entry & MM_MIRROR_DIRTY : entry) {
		page = mm_mirror_entry_page(entry);
		check(READ_ONCE(page->head->mapped));
		data = page->data;
		if (write)
			__atomic_add_fetch(&page->writes, 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&device_lock);
	return data;
}

/* As mirror_fault(), seg_fault() and publish_if_current(), within one segment. */
static void fault(unsigned long from, unsigned long to, bool write, u64 *seed)
{
	struct seg *seg = &segs[from / seg_pages];
	unsigned long pfns[WINDOW], seq, changed = 0;
	bool done = false;

	while (!done) {
		seq = read_begin(seg);
		walk(from, to, write, pfns, seed);
		if (random_below(seed, 4) == 0)
			sched_yield();
		check(!mm_mirror_table_reserve(table, address(from), address(to), pfns));
		if (with_driver)
			pthread_mutex_lock(&driver_lock);
		else
			spin_lock(&seg->lock);
		done = SEQUENCE_STANDS(READ_ONCE(seg->seq) == seq) &&
		       mm_mirror_table_publish(table, address(from), address(to), pfns,
					       with_driver && write ? MM_MIRROR_DIRTY : 0, &changed);
		if (done && with_driver)
			device_update(from, to);
		if (with_driver)
			pthread_mutex_unlock(&driver_lock);
		else
			spin_unlock(&seg->lock);
		if (!done)
			count(&retries);
	}
}

/* Its caller holds the driver's lock; as its invalidate() and mm_mirror_drop(). */
static void device_zap(unsigned long start, unsigned long end)
{
	unsigned long page;

	mm_mirror_table_expand(table, &start, &end);
	pthread_mutex_lock(&device_lock);
	for (page = (start - BASE) / PAGE_SIZE; page < (end - BASE) / PAGE_SIZE; page++)
		device_table[page] = 0;
	pthread_mutex_unlock(&device_lock);
	mm_mirror_table_zap(table, start, end, true);
}

/* As seg_invalidate(), for each segment, between the notifiers' start and end. */
static void invalidate(unsigned long from, unsigned long to, bool discard, bool spurious)
{
	unsigned long page, next, seq, size;

	pthread_mutex_lock(&notifier_lock);
	notifier_active++;
	seq = notifier_seq |= 1;
	pthread_mutex_unlock(&notifier_lock);

	for (page = from; page < to; page = next) {
		struct seg *seg = &segs[page / seg_pages];

		next = min(to, (page / seg_pages + 1) * seg_pages);
		if (with_driver) {
			pthread_mutex_lock(&driver_lock);
			WRITE_ONCE(seg->seq, seq);
			device_zap(address(page), address(next));
			pthread_mutex_unlock(&driver_lock);
		} else {
			spin_lock(&seg->lock);
			WRITE_ONCE(seg->seq, seq);
			spin_unlock(&seg->lock);
			mm_mirror_table_zap(table, address(page), address(next), page & 1);
		}
	}

	pthread_mutex_lock(&cpu_lock);
	for (page = from; page < to && !spurious; page = next) {
		size = cpu[page] ? BIT(hmm_pfn_to_map_order(cpu[page])) : 1;
		next = (page & ~(size - 1)) + size;
		/* A huge page is never changed in part. */
		if (cpu[page] && !(page & (size - 1)) && next <= to)
			cpu_change(page, discard);
	}
	pthread_mutex_unlock(&cpu_lock);

	pthread_mutex_lock(&notifier_lock);
	if (!--notifier_active) {
		notifier_seq++;
		pthread_cond_broadcast(&notifier_wait);
	}
	pthread_mutex_unlock(&notifier_lock);
	count(&invalidations);
}

static void *invalidator(void *arg)
{
	u64 seed = (unsigned long)arg;
	unsigned long from, size;

	while (!READ_ONCE(stop)) {
		size = BIT(orders[random_below(&seed, ARRAY_SIZE(orders))]);
		from = random_below(&seed, WINDOW) & ~(size - 1);
		if (with_driver && random_below(&seed, 8) == 0) {
			pthread_mutex_lock(&driver_lock);
			device_zap(address(from), address(from + size));
			pthread_mutex_unlock(&driver_lock);
		}
		invalidate(from, from + size, random_below(&seed, 2), random_below(&seed, 8) == 0);
		if (random_below(&seed, 4) == 0)
			usleep(100);
	}
	return NULL;
}

static void *accessor(void *arg)
{
	u64 seed = (unsigned long)arg;
	unsigned long page, from, to, data;
	bool write;

	while (!READ_ONCE(stop)) {
		page = random_below(&seed, WINDOW);
		write = random_below(&seed, 2);
		if (with_driver && random_below(&seed, 2))
			data = device_access(page, write);
		else
			data = mirror_access(table, address(page), write);
		count(&accesses);
		if (data) {
			check(data == TAG(page));
			continue;
		}
		count(&misses);
		/* Not more than its segment, and often no more than the page. */
		from = page - random_below(&seed, page % seg_pages + 1) * random_below(&seed, 2);
		to = (page / seg_pages + 1) * seg_pages;
		to = page + 1 + random_below(&seed, to - page) * random_below(&seed, 2);
		fault(from, to, write, &seed);
	}
	return NULL;
}

static void run(const char *name, unsigned long seg_size, bool driver, unsigned long seed,
		unsigned int ms)
{
	struct mm_mirror_config config = {
		.seg_size = seg_size,
		.dma_dev = driver ? &device : NULL,
	};
	pthread_t threads[ACCESSORS + INVALIDATORS];
	struct timespec began, now;
	unsigned long i, j, pfn = 0;
	struct page *head;

	with_driver = driver;
	seg_pages = seg_size ? seg_size / PAGE_SIZE : WINDOW;
	stop = false;
	accesses = misses = retries = invalidations = 0;
	notifier_seq = 2;
	memset(cpu, 0, sizeof(cpu));
	memset(device_table, 0, sizeof(device_table));
	memset(shim_pages, 0, sizeof(shim_pages));
	for (i = 0; i < ARRAY_SIZE(orders); i++)
		for (j = pool_free[i] = 0; j < pool_size[i]; j++) {
			pool[i][pool_free[i]++] = pfn;
			for (head = pfn_to_page(pfn); pfn < page_to_pfn(head) + BIT(orders[i]); pfn++)
				pfn_to_page(pfn)->head = head;
		}
	for (i = 0; i < WINDOW; i++) {
		spin_lock_init(&segs[i].lock);
		segs[i].seq = 1;
	}
	mm_mirror_table_init(table, BASE, BASE + WINDOW * PAGE_SIZE, &config);

	clock_gettime(CLOCK_MONOTONIC, &began);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, i < ACCESSORS ? accessor : invalidator,
			       (void *)(seed * 0x9e3779b97f4a7c15UL + i * 2 + 1));
	do {
		usleep(500);
		rcu_barrier();
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - began.tv_sec) * 1000 + (now.tv_nsec - began.tv_nsec) / 1000000 < ms);
	WRITE_ONCE(stop, true);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);

	invalidate(0, WINDOW, true, false);
	table_end(table);
	check(!shim_allocated);
	check(!shim_warnings);
	/* It was not one after the other. */
	check(misses > 100 && invalidations > 100 && accesses - misses > 1000 && retries > 10);
	printf("# %lu accesses, %lu missed; %lu invalidations, %lu publishes came too late\n",
	       accesses, misses, invalidations, retries);
	printf("%s %s\n", test_failures ? "not ok" : "ok", name);
	fflush(stdout);
	test_failures = shim_warnings = 0;
}

int main(int argc, char **argv)
{
	unsigned long seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;
	unsigned int ms = argc > 2 ? atoi(argv[2]) : 2000;

	run("threads_segments", MM_MIRROR_LEAF_SIZE, false, seed, ms);
	run("threads_one_segment", MM_MIRROR_ONE_SEGMENT, false, seed, ms);
	run("threads_driver", MM_MIRROR_ONE_SEGMENT, true, seed, ms);
	return 0;
}
