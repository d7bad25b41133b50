/* SPDX-License-Identifier: GPL-2.0 */
/*
 * As much of the kernel as the table of a mirror and lib/xarray.c need, in a
 * process. tests/table-user includes this before each source file, and makes
 * the headers that they name empty; xarray.h, hmm.h and mm_mirror.h are the
 * kernel's own.
 *
 * What threads share is read and written with __atomic builtins, and locks are
 * pthread's: ThreadSanitizer knows the order that either makes. It knows no
 * address dependency, so that rcu_dereference() is an acquire here.
 */
#ifndef _TABLE_SHIM_H
#define _TABLE_SHIM_H

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define CONFIG_XARRAY_MULTI	1

/* Words */
typedef uint32_t u32;
typedef uint64_t u64;
typedef unsigned int gfp_t;
typedef uint64_t dma_addr_t;
typedef struct { long counter; } atomic64_t;

#define BITS_PER_LONG		64
#define BIT(n)			(1UL << (n))
#define BITS_TO_LONGS(n)	(((n) + BITS_PER_LONG - 1) / BITS_PER_LONG)
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof(*(a)))
#define min(a, b)		({ __auto_type _a = (a); __auto_type _b = (b); _a < _b ? _a : _b; })
#define max(a, b)		({ __auto_type _a = (a); __auto_type _b = (b); _a > _b ? _a : _b; })
#define swap(a, b)		do { __auto_type _t = (a); (a) = (b); (b) = _t; } while (0)
#define container_of(p, t, m)	((t *)((char *)(p) - offsetof(t, m)))

/* Words that the compiler or sparse look at */
#define likely(x)		__builtin_expect(!!(x), 1)
#define unlikely(x)		__builtin_expect(!!(x), 0)
#define fallthrough		__attribute__((fallthrough))
#define __must_check
#define __rcu
#define __force
#define __bitwise
#define __user
#define __acquires(x)
#define __releases(x)
#define __must_hold(x)
#define EXPORT_SYMBOL(x)
#define EXPORT_SYMBOL_GPL(x)

/* IS_ENABLED(), as in linux/kconfig.h */
#define __ARG_PLACEHOLDER_1	0,
#define __take_second_arg(ignored, val, ...) val
#define __is_enabled(x)		___is_enabled(x)
#define ___is_enabled(x)	____is_enabled(__ARG_PLACEHOLDER_##x)
#define ____is_enabled(x)	__take_second_arg(x 1, 0)
#define IS_ENABLED(x)		__is_enabled(x)

/* What should not be */
extern unsigned int shim_warnings;
extern bool shim_quiet;			/* they are expected */
bool shim_warn(const char *what, const char *file, int line);

#define WARN_ON(x)		((x) ? shim_warn(#x, __FILE__, __LINE__) : false)
#define WARN_ON_ONCE(x)		WARN_ON(x)
#define BUG_ON(x)		do { if (WARN_ON(x)) abort(); } while (0)
#define BUG()			BUG_ON(1)

#define MAX_ERRNO		4095UL
#define IS_ERR_VALUE(x)		((unsigned long)(void *)(x) >= -MAX_ERRNO)
static inline void *ERR_PTR(long error) { return (void *)error; }
static inline bool IS_ERR(const void *p) { return IS_ERR_VALUE(p); }

/* Bitmaps: xarray's marks, which the table does not use */
static inline void __set_bit(unsigned int n, unsigned long *map)
{
	map[n / BITS_PER_LONG] |= BIT(n % BITS_PER_LONG);
}

static inline bool test_bit(unsigned int n, const unsigned long *map)
{
	return map[n / BITS_PER_LONG] >> n % BITS_PER_LONG & 1;
}

static inline bool __test_and_set_bit(unsigned int n, unsigned long *map)
{
	bool old = test_bit(n, map);

	__set_bit(n, map);
	return old;
}

static inline bool __test_and_clear_bit(unsigned int n, unsigned long *map)
{
	bool old = test_bit(n, map);

	map[n / BITS_PER_LONG] &= ~BIT(n % BITS_PER_LONG);
	return old;
}

static inline unsigned long find_next_bit(const unsigned long *map, unsigned long size,
					  unsigned long n)
{
	while (n < size && !test_bit(n, map))
		n++;
	return min(n, size);
}

#define bitmap_empty(map, n)	(find_next_bit(map, n, 0) == (n))
#define bitmap_fill(map, n)	memset(map, 0xff, BITS_TO_LONGS(n) * sizeof(long))
#define bitmap_clear(map, from, n) do {					\
	for (unsigned int _n = (from); _n < (from) + (n); _n++)		\
		__test_and_clear_bit(_n, map);				\
} while (0)

/* Memory order */
#define READ_ONCE(x)		__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v)	__atomic_store_n(&(x), v, __ATOMIC_RELAXED)

/* RCU: see shim.c */
struct rcu_head {
	struct rcu_head *next;
	void (*func)(struct rcu_head *head);
};

void rcu_read_lock(void);
void rcu_read_unlock(void);
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head));
void rcu_barrier(void);

#define rcu_dereference_raw(p)		__atomic_load_n(&(p), __ATOMIC_ACQUIRE)
#define rcu_dereference_check(p, c)	rcu_dereference_raw(p)
#define rcu_dereference_protected(p, c)	rcu_dereference_raw(p)
#define rcu_assign_pointer(p, v)	__atomic_store_n(&(p), v, __ATOMIC_RELEASE)
/* xarray moves entries with it: their order comes from a lock, by way of a third thread. */
#define RCU_INIT_POINTER(p, v)		rcu_assign_pointer(p, v)

/*
 * Locks. Under any of these, and under RCU, nothing sleeps (invariant 7), and a
 * grace period waits for who holds them: xarray calls call_rcu() for a node, and
 * only then unlinks it.
 */
typedef pthread_mutex_t spinlock_t;
typedef pthread_rwlock_t rwlock_t;
struct mutex { pthread_mutex_t lock; };

extern __thread unsigned int shim_atomic;	/* how many of them this thread holds */

#define spin_lock_init(l)	((void)pthread_mutex_init(l, NULL))
#define spin_lock(l)		(rcu_read_lock(), (void)pthread_mutex_lock(l))
#define spin_unlock(l)		((void)pthread_mutex_unlock(l), rcu_read_unlock())
#define spin_lock_irq		spin_lock
#define spin_unlock_irq		spin_unlock
#define spin_lock_bh		spin_lock
#define spin_unlock_bh		spin_unlock
#define spin_lock_irqsave(l, f)	((f) = 0, spin_lock(l))
#define spin_unlock_irqrestore(l, f) ((void)(f), spin_unlock(l))
#define rwlock_init(l)		((void)pthread_rwlock_init(l, NULL))
#define read_lock(l)		(rcu_read_lock(), (void)pthread_rwlock_rdlock(l))
#define write_lock(l)		(rcu_read_lock(), (void)pthread_rwlock_wrlock(l))
#define read_unlock(l)		((void)pthread_rwlock_unlock(l), rcu_read_unlock())
#define write_unlock(l)		read_unlock(l)
#define lockdep_is_held(l)	1
#define lockdep_assert_held(l)	((void)(l))
#define lockdep_assert_held_write(l) ((void)(l))

#define might_sleep()		((void)WARN_ON(shim_atomic))
#define cond_resched()		might_sleep()
bool need_resched(void);

/* Memory: see shim.c */
#define GFP_NOWAIT		0u
#define GFP_KERNEL		1u
#define GFP_KERNEL_ACCOUNT	GFP_KERNEL
#define __GFP_ACCOUNT		2u
#define __GFP_NOWARN		4u
#define __GFP_BITS_SHIFT	8
#define gfpflags_allow_blocking(gfp) ((gfp) & GFP_KERNEL)
#define might_alloc(gfp)	do { if (gfpflags_allow_blocking(gfp)) might_sleep(); } while (0)

extern long shim_allocated;		/* how many are not freed */
extern long shim_fail_after;		/* so many succeed before one fails; -1: all do */
extern bool shim_fail_on;		/* and all that come after it fail, too */
extern unsigned int shim_failed;
void *kcalloc(size_t n, size_t size, gfp_t gfp);
void kfree(const void *p);

#define kzalloc(size, gfp)	kcalloc(1, size, gfp)
/* There is one cache, of xarray's nodes. */
#define kmem_cache_alloc_lru(cache, lru, gfp) ((void)(lru), kzalloc(sizeof(struct xa_node), gfp))
#define kmem_cache_free(cache, p) kfree(p)
struct list_head { struct list_head *next, *prev; };
struct list_lru;
struct kmem_cache;

/*
 * Pages and folios. The sizes of huge pages are set by who compiles this: small
 * ones have the same edges, and more of them are met in the same time.
 */
#ifndef PMD_ORDER
#define PMD_ORDER		9
#define PUD_ORDER		18
#endif
#define PAGE_SHIFT		12
#define PAGE_SIZE		BIT(PAGE_SHIFT)
#define PMD_SHIFT		(PAGE_SHIFT + PMD_ORDER)
#define PUD_SHIFT		(PAGE_SHIFT + PUD_ORDER)
#define PUD_SIZE		BIT(PUD_SHIFT)
#define PUD_MASK		(~(PUD_SIZE - 1))

struct page {
	unsigned int dirtied, accessed;		/* how often it was marked */
	unsigned int want_dirtied, want_accessed;
	unsigned int mapped;			/* for DMA */
	bool zone_device;
	struct page *head;			/* or NULL: of its own */
	unsigned long data;			/* what is in it */
	unsigned long writes, frozen;		/* how often it was written; and when made read-only */
};

struct folio { struct page page; };

#define SHIM_FRAMES		(8UL << PUD_ORDER)
extern struct page shim_pages[SHIM_FRAMES];

#define pfn_to_page(pfn)	(&shim_pages[pfn])
#define page_to_pfn(page)	((unsigned long)((page) - shim_pages))
#define page_folio(page)	((struct folio *)((page)->head ?: (page)))
#define folio_is_zone_device(f)	((f)->page.zone_device)
#define folio_mark_dirty(f)	__atomic_add_fetch(&(f)->page.dirtied, 1, __ATOMIC_RELAXED)
/* Every other page is anonymous: what is set must be counted as what is marked. */
#define folio_test_anon(f)	((uintptr_t)(f) / sizeof(struct page) % 2)
#define folio_test_swapcache(f)	false
#define folio_test_dirty(f)	false
#define folio_set_dirty(f)	folio_mark_dirty(f)
#define folio_mark_accessed(f)	__atomic_add_fetch(&(f)->page.accessed, 1, __ATOMIC_RELAXED)

/* DMA: an address is the page's, and a bit that tells it from none */
enum dma_data_direction { DMA_BIDIRECTIONAL };
struct device { unsigned long *dma_mask; int fail_after; };

#define SHIM_DMA		BIT(60)
#define dma_addressing_limited(dev) false
#define is_swiotlb_force_bounce(dev) false
#define dev_is_dma_coherent(dev) true
#define dma_mapping_error(dev, dma) ((dma) == ~0UL)
dma_addr_t dma_map_page(struct device *dev, struct page *page, size_t offset, size_t size,
			enum dma_data_direction dir);
void dma_unmap_page(struct device *dev, dma_addr_t dma, size_t size,
		    enum dma_data_direction dir);

/* Only named */
struct mm_struct;
struct mmu_notifier_range;

#endif
