// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of mm_mirror_range
 *
 * Their subject is a driver that takes this layer and no more: it has its own
 * way to the pages, get_user_pages(), and its own page table, an array. That is
 * what the "userptr" objects of several GPU drivers are. It is built, and runs,
 * without the table of mm_mirror and without HMM.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/highmem.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/mm.h>
#include <linux/mm_mirror_range.h>
#include <linux/mutex.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#define NPAGES	4
#define SIZE	(NPAGES * PAGE_SIZE)

struct userptr {
	struct mm_mirror_range range;
	struct kunit *test;
	unsigned long addr;
	struct mutex lock;		/* of what follows */
	struct page *pages[NPAGES];
	bool mapped;			/* the device may use the pages */
	int told;			/* how often a callback ran */
	unsigned long seq;		/* to be found old by the callback */
	bool seq_was_old;
};

static void userptr_unmap(struct userptr *up)
{
	int i;

	lockdep_assert_held(&up->lock);
	for (i = 0; up->mapped && i < NPAGES; i++)
		put_page(up->pages[i]);
	up->mapped = false;
}

static void userptr_invalidate(struct mm_mirror_range *range,
			       const struct mmu_notifier_range *event)
{
	struct userptr *up = container_of(range, struct userptr, range);

	/* Without the lock: it was moved on before. */
	up->seq_was_old = mmu_interval_check_retry(&range->notifier, up->seq);
	mutex_lock(&up->lock);
	up->told++;
	userptr_unmap(up);
	mutex_unlock(&up->lock);
}

static bool userptr_invalidate_nonblock(struct mm_mirror_range *range,
					const struct mmu_notifier_range *event)
{
	struct userptr *up = container_of(range, struct userptr, range);

	if (!mutex_trylock(&up->lock))
		return false;
	up->told++;
	userptr_unmap(up);
	mutex_unlock(&up->lock);
	return true;
}

static const struct mm_mirror_range_ops userptr_ops = {
	.invalidate = userptr_invalidate,
};

static const struct mm_mirror_range_ops userptr_ops_nonblock = {
	.invalidate = userptr_invalidate,
	.invalidate_nonblock = userptr_invalidate_nonblock,
};

/* One try. Returns 0, -EAGAIN where the range changed meanwhile, or an error. */
static int userptr_map(struct userptr *up)
{
	unsigned long seq = mmu_interval_read_begin(&up->range.notifier);
	struct page *pages[NPAGES];
	int n, ret = -EAGAIN;

	n = get_user_pages_fast(up->addr, NPAGES, FOLL_WRITE, pages);
	if (n < 0)
		return n;

	mutex_lock(&up->lock);
	if (!up->mapped && n == NPAGES &&
	    !mmu_interval_read_retry(&up->range.notifier, seq)) {
		memcpy(up->pages, pages, sizeof(pages));
		up->mapped = true;
		n = 0;
	}
	if (up->mapped)
		ret = 0;
	mutex_unlock(&up->lock);
	while (n)
		put_page(pages[--n]);
	return ret;
}

/* What the device sees in a page, or false where it has none. */
static bool userptr_read(struct userptr *up, unsigned int page, u32 *value)
{
	bool mapped;

	mutex_lock(&up->lock);
	mapped = up->mapped;
	if (mapped)
		memcpy_from_page((char *)value, up->pages[page], 0,
				 sizeof(*value));
	mutex_unlock(&up->lock);
	return mapped;
}

static void open_userptr(struct kunit *test, struct userptr *up,
			 const struct mm_mirror_range_ops *ops)
{
	memset(up, 0, sizeof(*up));
	up->test = test;
	mutex_init(&up->lock);
	up->range.ops = ops;
	up->range.owner = up;
	up->addr = kunit_vm_mmap(test, NULL, 0, SIZE, PROT_READ | PROT_WRITE,
				 MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_FALSE(test, !up->addr || IS_ERR_VALUE(up->addr));
	KUNIT_ASSERT_EQ(test, 0, mm_mirror_range_add(&up->range, current->mm,
						     up->addr, SIZE));
}

static void close_userptr(struct userptr *up)
{
	mutex_lock(&up->lock);
	userptr_unmap(up);
	mutex_unlock(&up->lock);
	mm_mirror_range_remove(&up->range);
}

static int discard(struct userptr *up)
{
	return do_madvise(current->mm, up->addr, SIZE, MADV_DONTNEED);
}

static int cpu_write(struct userptr *up, unsigned int page, u32 value)
{
	return put_user(value, (u32 __user *)(up->addr + page * PAGE_SIZE));
}

static void send_event(struct userptr *up, enum mmu_notifier_event event,
		       void *owner, unsigned long start, unsigned long end)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init_owner(&range, event, 0, current->mm, start, end,
				      owner);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
}

static int send_nonblock(struct userptr *up)
{
	struct mmu_notifier_range range;
	int ret;

	mmu_notifier_range_init(&range, MMU_NOTIFY_UNMAP, 0, current->mm,
				up->addr, up->addr + SIZE);
	ret = mmu_notifier_invalidate_range_start_nonblock(&range);
	if (!ret)
		mmu_notifier_invalidate_range_end(&range);
	return ret;
}

/* The device sees what the CPU wrote, and nothing of pages that are gone. */
static void device_follows_cpu(struct kunit *test)
{
	struct userptr up;
	u32 value = 0;

	open_userptr(test, &up, &userptr_ops);
	KUNIT_EXPECT_EQ(test, 0, cpu_write(&up, 1, 42));
	KUNIT_EXPECT_FALSE(test, userptr_read(&up, 1, &value));
	KUNIT_EXPECT_EQ(test, 0, userptr_map(&up));
	KUNIT_EXPECT_TRUE(test, userptr_read(&up, 1, &value));
	KUNIT_EXPECT_EQ(test, 42, value);

	KUNIT_EXPECT_EQ(test, 0, discard(&up));
	KUNIT_EXPECT_EQ(test, 1, up.told);
	KUNIT_EXPECT_FALSE(test, userptr_read(&up, 1, &value));
	KUNIT_EXPECT_EQ(test, 0, userptr_map(&up));
	KUNIT_EXPECT_TRUE(test, userptr_read(&up, 1, &value));
	KUNIT_EXPECT_EQ(test, 0, value);
	close_userptr(&up);
}

/* The sequence has moved when the callback runs, and only for the range. */
static void sequence(struct kunit *test)
{
	struct mmu_interval_notifier *notifier;
	struct userptr up;

	open_userptr(test, &up, &userptr_ops);
	notifier = &up.range.notifier;

	up.seq = mmu_interval_read_begin(notifier);
	send_event(&up, MMU_NOTIFY_CLEAR, NULL, up.addr + SIZE,
		   up.addr + 2 * SIZE);
	KUNIT_EXPECT_EQ(test, 0, up.told);
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(notifier, up.seq));

	send_event(&up, MMU_NOTIFY_CLEAR, NULL, up.addr, up.addr + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, 1, up.told);
	KUNIT_EXPECT_TRUE(test, up.seq_was_old);
	KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(notifier, up.seq));
	close_userptr(&up);

	/* It moves for a driver without a callback as well. */
	open_userptr(test, &up, NULL);
	up.seq = mmu_interval_read_begin(notifier);
	KUNIT_EXPECT_EQ(test, 0, discard(&up));
	KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(notifier, up.seq));
	close_userptr(&up);
}

/* Exclusive access of one's own is no change. Everything else is. */
static void own_events(struct kunit *test)
{
	static const enum mmu_notifier_event events[] = {
		MMU_NOTIFY_UNMAP, MMU_NOTIFY_CLEAR, MMU_NOTIFY_PROTECTION_VMA,
		MMU_NOTIFY_PROTECTION_PAGE, MMU_NOTIFY_SOFT_DIRTY,
		MMU_NOTIFY_MIGRATE, MMU_NOTIFY_EXCLUSIVE,
	};
	struct userptr up, other;
	unsigned long seq;
	bool kept;
	size_t i;
	int own;

	open_userptr(test, &up, &userptr_ops);
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		for (own = 0; own < 2; own++) {
			kept = own && events[i] == MMU_NOTIFY_EXCLUSIVE;
			KUNIT_EXPECT_EQ(test, 0, userptr_map(&up));
			seq = mmu_interval_read_begin(&up.range.notifier);
			send_event(&up, events[i],
				   own ? (void *)&up : (void *)&other, up.addr,
				   up.addr + PAGE_SIZE);
			KUNIT_EXPECT_EQ(test, kept, up.mapped);
			KUNIT_EXPECT_EQ(test, !kept,
					mmu_interval_read_retry(&up.range.notifier,
								seq));
		}
	}
	close_userptr(&up);

	/* Nobody owns what has no owner. */
	open_userptr(test, &up, &userptr_ops);
	up.range.owner = NULL;
	send_event(&up, MMU_NOTIFY_EXCLUSIVE, NULL, up.addr, up.addr + SIZE);
	KUNIT_EXPECT_EQ(test, 1, up.told);
	close_userptr(&up);
}

/* Somebody else who holds the lock, until told to release it. */
struct holder {
	struct work_struct work;
	struct mutex *lock;		/* what is held */
	struct completion held;
	struct completion release;
};

static void hold(struct work_struct *work)
{
	struct holder *holder = container_of(work, struct holder, work);

	mutex_lock(holder->lock);
	complete(&holder->held);
	wait_for_completion(&holder->release);
	mutex_unlock(holder->lock);
}

/* Events that must not block are served, or refused and then nothing happens. */
static void events_that_must_not_block(struct kunit *test)
{
	struct holder holder;
	struct userptr up;
	u32 value;

	open_userptr(test, &up, &userptr_ops);
	KUNIT_EXPECT_EQ(test, 0, cpu_write(&up, 0, 7));
	KUNIT_EXPECT_EQ(test, 0, userptr_map(&up));
	KUNIT_EXPECT_EQ(test, -EAGAIN, send_nonblock(&up));
	KUNIT_EXPECT_EQ(test, 0, up.told);
	KUNIT_EXPECT_TRUE(test, userptr_read(&up, 0, &value));
	KUNIT_EXPECT_EQ(test, 7, value);
	close_userptr(&up);

	open_userptr(test, &up, &userptr_ops_nonblock);
	KUNIT_EXPECT_EQ(test, 0, userptr_map(&up));
	holder.lock = &up.lock;
	init_completion(&holder.held);
	init_completion(&holder.release);
	INIT_WORK_ONSTACK(&holder.work, hold);
	schedule_work(&holder.work);
	wait_for_completion(&holder.held);
	KUNIT_EXPECT_EQ(test, -EAGAIN, send_nonblock(&up));
	complete(&holder.release);
	flush_work(&holder.work);
	destroy_work_on_stack(&holder.work);
	KUNIT_EXPECT_TRUE(test, up.mapped);
	KUNIT_EXPECT_EQ(test, 0, send_nonblock(&up));
	KUNIT_EXPECT_FALSE(test, up.mapped);
	close_userptr(&up);

	open_userptr(test, &up, NULL);
	KUNIT_EXPECT_EQ(test, 0, send_nonblock(&up));
	close_userptr(&up);
}

/* Adding that fails changes nothing, and removing is for any range. */
static void add_and_remove(struct kunit *test)
{
	struct userptr up;

	open_userptr(test, &up, &userptr_ops);
	mm_mirror_range_remove(&up.range);
	KUNIT_EXPECT_EQ(test, 0, discard(&up));
	KUNIT_EXPECT_EQ(test, 0, up.told);
	mm_mirror_range_remove(&up.range);

	KUNIT_EXPECT_NE(test, 0, mm_mirror_range_add(&up.range, current->mm,
						     up.addr, 0));
	mm_mirror_range_remove(&up.range);
	KUNIT_EXPECT_NE(test, 0, mm_mirror_range_add(&up.range, current->mm,
						     PAGE_SIZE, ULONG_MAX));
	mm_mirror_range_remove(&up.range);

	mmap_write_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0,
			mm_mirror_range_add_locked(&up.range, current->mm,
						   up.addr, SIZE));
	mmap_write_unlock(current->mm);
	/* An event by hand: none of the CPU's pages are there to be discarded. */
	send_event(&up, MMU_NOTIFY_CLEAR, NULL, up.addr, up.addr + SIZE);
	KUNIT_EXPECT_EQ(test, 1, up.told);
	close_userptr(&up);
}

struct race {
	struct userptr up;
	struct mm_struct *mm;
	unsigned long mapped;
};

static int race_device(void *data)
{
	struct race *race = data;

	kthread_use_mm(race->mm);
	while (!kthread_should_stop()) {
		if (!userptr_map(&race->up))
			race->mapped++;
		cond_resched();
	}
	kthread_unuse_mm(race->mm);
	return 0;
}

/*
 * The device maps the pages again and again while the CPU discards them. What
 * it has mapped after that must be the pages that the CPU writes to then.
 */
static void map_against_discard(struct kunit *test)
{
	struct task_struct *task;
	unsigned long wrong = 0;
	struct race *race;
	u32 i, value;

	race = kunit_kzalloc(test, sizeof(*race), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, race);
	open_userptr(test, &race->up, &userptr_ops);
	race->mm = current->mm;
	task = kthread_run(race_device, race, "mm_mirror_range_race");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	for (i = 1; i <= 5000; i++) {
		if (discard(&race->up) || cpu_write(&race->up, i % NPAGES, i))
			wrong++;
		else if (userptr_read(&race->up, i % NPAGES, &value) &&
			 value != i)
			wrong++;
		/* One CPU may be all there is. */
		if (i % 64)
			cond_resched();
		else
			schedule_timeout_uninterruptible(1);
	}
	kthread_stop(task);
	KUNIT_EXPECT_EQ(test, 0, wrong);
	KUNIT_EXPECT_GT(test, race->mapped, 0);
	KUNIT_EXPECT_GT(test, race->up.told, 0);
	close_userptr(&race->up);
}

static struct kunit_case mm_mirror_range_cases[] = {
	KUNIT_CASE(device_follows_cpu),
	KUNIT_CASE(sequence),
	KUNIT_CASE(own_events),
	KUNIT_CASE(events_that_must_not_block),
	KUNIT_CASE(add_and_remove),
	KUNIT_CASE_SLOW(map_against_discard),
	{}
};

static struct kunit_suite mm_mirror_range_suite = {
	.name = "mm_mirror_range",
	.test_cases = mm_mirror_range_cases,
};

kunit_test_suite(mm_mirror_range_suite);

MODULE_DESCRIPTION("KUnit tests of mm_mirror_range");
MODULE_LICENSE("GPL");
