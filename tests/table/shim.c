// SPDX-License-Identifier: GPL-2.0
/* RCU, memory and DMA for the table of a mirror in a process; see shim.h. */
#include <sched.h>
#include <linux/xarray.h>

struct page shim_pages[SHIM_FRAMES] __attribute__((aligned(4096)));
unsigned int shim_warnings;
bool shim_quiet;
__thread unsigned int shim_atomic;

bool shim_warn(const char *what, const char *file, int line)
{
	__atomic_add_fetch(&shim_warnings, 1, __ATOMIC_RELAXED);
	if (!shim_quiet)
		printf("# warning: %s (%s:%d)\n", what,
		       strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line);
	return true;
}

/* Often, and at another leaf each time. */
bool need_resched(void)
{
	static __thread unsigned int asked;

	return ++asked % 3 == 0;
}

/*
 * RCU by epochs. A reader has the epoch in which it began in a slot of its own,
 * or 0. A grace period moves the epoch on, and waits for each reader that began
 * before. What is freed is a list, until rcu_barrier().
 */
#define READERS 64

static unsigned long rcu_epoch = 1;
static unsigned long rcu_reader[READERS];
static unsigned int rcu_readers;
static __thread unsigned int rcu_self;		/* 1 and up */
static pthread_mutex_t rcu_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rcu_head *rcu_list;
static __thread struct rcu_head *rcu_later;	/* when this thread leaves its section */

void rcu_read_lock(void)
{
	if (shim_atomic++)
		return;
	if (!rcu_self)
		rcu_self = __atomic_add_fetch(&rcu_readers, 1, __ATOMIC_SEQ_CST);
	BUG_ON(rcu_self > READERS);
	/* An exchange, so that nothing after it is read before it is seen. */
	__atomic_exchange_n(&rcu_reader[rcu_self - 1],
			    __atomic_load_n(&rcu_epoch, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
}

/* What this thread has called call_rcu() for. */
static void rcu_queue(void)
{
	struct rcu_head *head, *next;

	pthread_mutex_lock(&rcu_lock);
	for (head = rcu_later; head; head = next) {
		next = head->next;
		head->next = rcu_list;
		rcu_list = head;
	}
	pthread_mutex_unlock(&rcu_lock);
	rcu_later = NULL;
}

void rcu_read_unlock(void)
{
	if (--shim_atomic)
		return;
	__atomic_store_n(&rcu_reader[rcu_self - 1], 0, __ATOMIC_RELEASE);
	if (rcu_later)
		rcu_queue();
}

/*
 * A node of an xarray comes here before it is unlinked, with the lock held. In the
 * kernel a grace period lasts so much longer than the lock is held that it does not
 * matter; here one could end before a reader does that began in between.
 */
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	head->func = func;
	head->next = rcu_later;
	rcu_later = head;
	if (!shim_atomic)
		rcu_queue();
}

void rcu_barrier(void)
{
	struct rcu_head *head, *next;
	unsigned long epoch, began;
	unsigned int i;

	might_sleep();
	pthread_mutex_lock(&rcu_lock);
	head = rcu_list;
	rcu_list = NULL;
	pthread_mutex_unlock(&rcu_lock);

	epoch = __atomic_add_fetch(&rcu_epoch, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < READERS; i++) {
		while ((began = __atomic_load_n(&rcu_reader[i], __ATOMIC_SEQ_CST)) &&
		       began < epoch)
			sched_yield();
	}
	for (; head; head = next) {
		next = head->next;
		head->func(head);
	}
}

struct kmem_cache *radix_tree_node_cachep;
long shim_allocated;
long shim_fail_after = -1;
bool shim_fail_on;
unsigned int shim_failed;

void *kcalloc(size_t n, size_t size, gfp_t gfp)
{
	might_alloc(gfp);
	/* Only tests without threads let allocations fail. */
	if (shim_fail_after == 0) {
		shim_fail_after = shim_fail_on ? 0 : -1;
		shim_failed++;
		return NULL;
	}
	if (shim_fail_after > 0)
		shim_fail_after--;
	__atomic_add_fetch(&shim_allocated, 1, __ATOMIC_RELAXED);
	return calloc(n, size);
}

void kfree(const void *p)
{
	if (p)
		__atomic_sub_fetch(&shim_allocated, 1, __ATOMIC_RELAXED);
	free((void *)p);
}

void radix_tree_node_rcu_free(struct rcu_head *head)
{
	kfree(container_of(head, struct xa_node, rcu_head));
}

dma_addr_t dma_map_page(struct device *dev, struct page *page, size_t offset, size_t size,
			enum dma_data_direction dir)
{
	if (dev->fail_after >= 0 && !dev->fail_after--)
		return ~0UL;
	WARN_ON(offset || dir != DMA_BIDIRECTIONAL);
	/* Its size, to be compared when it is unmapped. */
	WARN_ON(__atomic_exchange_n(&page->mapped, size >> PAGE_SHIFT, __ATOMIC_RELAXED));
	return SHIM_DMA | page_to_pfn(page) << PAGE_SHIFT;
}

void dma_unmap_page(struct device *dev, dma_addr_t dma, size_t size, enum dma_data_direction dir)
{
	struct page *page = pfn_to_page((dma & ~SHIM_DMA) >> PAGE_SHIFT);

	WARN_ON(!dev || !(dma & SHIM_DMA) || dir != DMA_BIDIRECTIONAL);
	WARN_ON(__atomic_exchange_n(&page->mapped, 0, __ATOMIC_RELAXED) != size >> PAGE_SHIFT);
}
