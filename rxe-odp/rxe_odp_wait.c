// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging: page faults that may take long
 *
 * A page fault can wait for a disk, for a handler in user space, or for ever.
 * No task of a queue pair waits with it. The step that met the missing page, of
 * the requester, the completer or the responder, is parked: it has changed
 * nothing yet, returns, and is run again from its beginning when the fault has
 * ended. A work item takes the fault meanwhile.
 *
 * Faults of one MR on the same pages are one fault, with several steps that wait
 * for it. It goes on, ahead of the step, to the end of the message. Of each
 * process only RXE_ODP_MM_FAULTS are taken at a time: pages that nobody answers
 * for keep a worker each, and must not keep the other processes' away.
 *
 * What ibv_advise_mr() does not wait for is a fault that no step waits for. Where
 * others are to be taken, it goes back to the end of the queue, and what steps
 * wait for comes before it.
 *
 * Lifetime
 * --------
 * A parked step holds no reference to an MR, and a fault none to a queue pair.
 * The packets that wait with the step hold none to the queue pair that sent
 * them. What a fault works on, struct rxe_odp, outlives its MR. So destroying a
 * queue pair or an MR detaches and returns. A fault that nobody waits for any
 * more gets a signal, as the process would that had taken it, and goes away
 * when it has left wherever it was.
 *
 * A fault does hold the process's memory, though. With the memory go mappings of
 * the device's file, with the file the queue pairs, and with these the faults:
 * when the process is killed that circle has to be broken from here. Every
 * RXE_ODP_WATCH it is looked whether anybody but the faults uses the memory. If
 * not they get a signal too, and try anew, which fails if the memory is gone.
 *
 * Locking
 * -------
 * odp_lock covers all of this file's objects, and who waits for whom. It is
 * outside of rxe_task.lock, and no other lock is taken with it but the signal's.
 * A hit does not take it, nor does a fault that need not wait.
 */

#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/mm_mirror.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "rxe_odp.h"

#define CREATE_TRACE_POINTS
#include <trace/events/rxe.h>

/* Faults of one process that are under way at a time; the others queue. */
#define RXE_ODP_MM_FAULTS	16

/* Pieces of advice of one process that are under way or queue */
#define RXE_ODP_MM_PREFETCHES	4096

/* Beyond what a step needs, pages are faulted so many bytes at a time. */
#define RXE_ODP_AHEAD		(16 * PAGE_SIZE)

/*
 * Conditions that pass by themselves (an invalidation under way, no memory) are
 * tried again for so long before they fail the operation.
 */
#define RXE_ODP_FAULT_TIMEOUT	(10 * HZ)

#define RXE_ODP_WATCH		(HZ / 10)

/* What the faults of one process share */
struct rxe_odp_mm {
	struct list_head	entry;		/* in odp_mms */
	struct mm_struct	*mm;		/* each user has a reference */
	unsigned int		users;		/* MRs, also of faults under way */
	unsigned int		nr_running;
	unsigned int		nr_prefetches;	/* running or queued */
	atomic_t		faulting;	/* of these, that use the mm */
	struct list_head	running;	/* faults */
	struct list_head	queued;
};

struct rxe_odp_fault {
	struct rxe_odp		*odp;		/* a reference */
	enum mm_mirror_fault_kind kind;
	unsigned long		at;		/* below all is done */
	unsigned long		until;		/* below it is under way */
	unsigned long		end;
	struct list_head	entry;		/* in odp->faults */
	struct list_head	turn;		/* in running or queued of odp->mm */
	struct list_head	waits;
	struct rxe_odp_wait	*first;		/* only to compare */
	struct work_struct	work;
	struct task_struct	*worker;	/* while it takes signals */
	bool			started;
	bool			cancelled;
	bool			prefetch;
	bool			gives_way;	/* to others, and goes on later */
};

static DEFINE_SPINLOCK(odp_lock);
static LIST_HEAD(odp_mms);
static struct workqueue_struct *odp_wq;

static void odp_watch(struct work_struct *work);
static DECLARE_DELAYED_WORK(odp_watch_work, odp_watch);

static struct mm_mirror *odp_mirror(struct rxe_odp *odp)
{
	return &odp->umem->mirror;
}

static struct rxe_odp_mm *odp_mm_get(struct mm_struct *mm)
{
	struct rxe_odp_mm *new, *odp_mm;

	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return NULL;
	new->mm = mm;
	INIT_LIST_HEAD(&new->running);
	INIT_LIST_HEAD(&new->queued);

	spin_lock(&odp_lock);
	list_for_each_entry(odp_mm, &odp_mms, entry)
		if (odp_mm->mm == mm)
			goto found;
	odp_mm = new;
	new = NULL;
	list_add(&odp_mm->entry, &odp_mms);
found:
	odp_mm->users++;
	spin_unlock(&odp_lock);
	kfree(new);
	return odp_mm;
}

static void odp_mm_put(struct rxe_odp_mm *odp_mm)
{
	spin_lock(&odp_lock);
	if (--odp_mm->users)
		odp_mm = NULL;
	else
		list_del(&odp_mm->entry);
	spin_unlock(&odp_lock);
	kfree(odp_mm);
}

/**
 * rxe_odp_create - what an ODP MR needs besides a struct rxe_mr
 * @umem: its memory, which goes with it
 *
 * Context: Process context.
 * Return: it, or NULL if there is no memory.
 */
struct rxe_odp *rxe_odp_create(struct ib_umem_odp *umem)
{
	struct rxe_odp *odp;

	odp = kzalloc(sizeof(*odp), GFP_KERNEL_ACCOUNT);
	if (!odp)
		return NULL;
	odp->mm = odp_mm_get(umem->mirror.mm);
	if (!odp->mm) {
		kfree(odp);
		return NULL;
	}
	kref_init(&odp->ref);
	odp->umem = umem;
	INIT_LIST_HEAD(&odp->faults);
	return odp;
}

static void odp_release(struct kref *ref)
{
	struct rxe_odp *odp = container_of(ref, struct rxe_odp, ref);

	odp_mm_put(odp->mm);
	ib_umem_release(&odp->umem->umem);
	kfree(odp);
}

/* The step is run again, and finds @err where it was. */
static void wait_wake(struct rxe_odp_wait *wait, int err)
{
	lockdep_assert_held(&odp_lock);
	list_del(&wait->entry);
	wait->err = err;
	/* Pairs with rxe_odp_parked() */
	smp_store_release(&wait->fault, NULL);
	rxe_sched_task(wait->task);
}

/* Nobody finds this fault any more, and nobody waits for it. */
static void fault_close(struct rxe_odp_fault *fault, int err)
{
	struct rxe_odp_wait *wait, *next;
	bool same;

	lockdep_assert_held(&odp_lock);
	list_del_init(&fault->entry);
	list_for_each_entry_safe(wait, next, &fault->waits, entry) {
		/* The error is of some page: who asked for less asks again */
		same = wait->start <= fault->at && wait->end >= fault->until &&
		       wait->kind == fault->kind;
		wait_wake(wait, same ? err : 0);
	}
}

static void fault_run(struct rxe_odp_fault *fault)
{
	lockdep_assert_held(&odp_lock);
	fault->started = true;
	fault->odp->mm->nr_running++;
	list_move_tail(&fault->turn, &fault->odp->mm->running);
	queue_work(odp_wq, &fault->work);
	queue_delayed_work(system_wq, &odp_watch_work, RXE_ODP_WATCH);
}

static void fault_cancel(struct rxe_odp_fault *fault)
{
	lockdep_assert_held(&odp_lock);
	fault->cancelled = true;
	fault_close(fault, 0);
	if (fault->worker)
		send_sig(SIGKILL, fault->worker, 1);
	else if (!fault->started)
		fault_run(fault);	/* out of turn: it does nothing but end */
}

/* A prefetch goes back to the queue as soon as it can. */
static void fault_give_way(struct rxe_odp_fault *fault)
{
	lockdep_assert_held(&odp_lock);
	fault->gives_way = true;
	if (fault->worker)
		send_sig(SIGKILL, fault->worker, 1);
}

static void wait_leave(struct rxe_odp_wait *wait)
{
	struct rxe_odp_fault *fault = wait->fault;

	lockdep_assert_held(&odp_lock);
	if (!fault)
		return;
	list_del(&wait->entry);
	wait->fault = NULL;
	if (list_empty(&fault->waits))
		fault_cancel(fault);
}

/**
 * rxe_odp_put - give up a reference
 * @odp: what ODP MRs have
 *
 * Context: Process context. With the last one its memory goes.
 */
void rxe_odp_put(struct rxe_odp *odp)
{
	kref_put(&odp->ref, odp_release);
}

/**
 * rxe_odp_destroy - the end of an ODP MR
 * @odp: from rxe_odp_create(); its memory goes now, or with the last fault
 *
 * Steps that wait for one of its pages are run again, and find no MR.
 *
 * Context: Process context. Sleeps, but for no page fault.
 */
void rxe_odp_destroy(struct rxe_odp *odp)
{
	struct rxe_odp_fault *fault, *next;

	spin_lock(&odp_lock);
	odp->dead = true;
	list_for_each_entry_safe(fault, next, &odp->faults, entry)
		fault_cancel(fault);
	spin_unlock(&odp_lock);
	rxe_odp_put(odp);
}

/*
 * Fault [at, until). What passes by itself is tried for RXE_ODP_FAULT_TIMEOUT. A
 * signal ends it if @fault is cancelled; else it lets go of the mm for a moment.
 */
static int fault_some(struct rxe_odp_fault *fault)
{
	struct mm_mirror *mirror = odp_mirror(fault->odp);
	struct rxe_odp_mm *odp_mm = fault->odp->mm;
	unsigned long deadline = 0;
	int err;

	for (;;) {
		atomic_inc(&odp_mm->faulting);
		if (fault->prefetch)
			err = mm_mirror_prefetch(mirror, fault->at,
						 fault->until, fault->kind);
		else
			err = mm_mirror_fault(mirror, fault->at, fault->until,
					      fault->kind);
		atomic_dec(&odp_mm->faulting);
		/* Not every file system has an error of its own for that */
		if (err && signal_pending(current))
			err = -EINTR;
		if (err != -EBUSY && err != -ENOMEM && err != -EINTR)
			return err;
		flush_signals(current);
		if (READ_ONCE(fault->cancelled) ||
		    READ_ONCE(fault->gives_way))
			return err;
		if (err == -EINTR) {
			schedule_timeout_uninterruptible(HZ / 20);
			continue;
		}
		deadline = deadline ?: jiffies + RXE_ODP_FAULT_TIMEOUT;
		if (time_after(jiffies, deadline))
			return err;
		schedule_timeout_uninterruptible(1);
	}
}

/*
 * [at, until) is there: who waits for it goes on. Nobody waits for what is ahead of
 * that, so it is not gone on with, or not now, where others wait for their turn.
 */
static bool fault_advance(struct rxe_odp_fault *fault)
{
	struct rxe_odp_wait *wait, *next;
	bool more;

	spin_lock(&odp_lock);
	list_for_each_entry_safe(wait, next, &fault->waits, entry)
		wait_wake(wait, 0);
	more = !fault->cancelled && fault->until < fault->end;
	if (more) {
		fault->at = fault->until;
		fault->until = min(fault->at + RXE_ODP_AHEAD, fault->end);
	}
	if (more && !list_empty(&fault->odp->mm->queued)) {
		fault->gives_way = fault->prefetch;
		more = false;
	}
	spin_unlock(&odp_lock);
	return more;
}

static int fault_all(struct rxe_odp_fault *fault)
{
	int err;

	do {
		err = fault_some(fault);
	} while (!err && fault_advance(fault));

	return err;
}

static bool fault_begin(struct rxe_odp_fault *fault)
{
	bool begin;

	spin_lock(&odp_lock);
	begin = !fault->cancelled && !fault->gives_way;
	if (begin)
		fault->worker = current;
	spin_unlock(&odp_lock);
	return begin;
}

/*
 * The next fault of the process takes this one's place. Returns false if it will
 * go on later, which may be now.
 */
static bool fault_end(struct rxe_odp_fault *fault, int err)
{
	struct rxe_odp_mm *odp_mm = fault->odp->mm;
	struct rxe_odp_fault *next;
	bool end;

	spin_lock(&odp_lock);
	fault->worker = NULL;
	end = fault->cancelled || !fault->gives_way;
	if (end) {
		if (!fault->cancelled)
			fault_close(fault, err);
		list_del(&fault->turn);
		odp_mm->nr_prefetches -= fault->prefetch;
	} else {
		fault->started = false;
		fault->gives_way = false;
		list_move_tail(&fault->turn, &odp_mm->queued);
	}
	odp_mm->nr_running--;
	next = list_first_entry_or_null(&odp_mm->queued, struct rxe_odp_fault,
					turn);
	if (next && odp_mm->nr_running < RXE_ODP_MM_FAULTS)
		fault_run(next);
	spin_unlock(&odp_lock);
	return end;
}

static void fault_work(struct work_struct *work)
{
	struct rxe_odp_fault *fault =
		container_of(work, struct rxe_odp_fault, work);
	bool end;
	int err = 0;

	/* Every wait in a fault may be for ever, and all that may end by this */
	allow_kernel_signal(SIGKILL);
	if (fault_begin(fault))
		err = fault_all(fault);
	end = fault_end(fault, err);
	disallow_signal(SIGKILL);

	if (!end)
		return;
	rxe_odp_put(fault->odp);
	kfree(fault);
}

/*
 * Each fault under way has a reference to the users of its mm. If there are no
 * others, the process is gone. For a moment it can look so when it is not: then
 * the faults are only taken again.
 */
static void odp_watch(struct work_struct *work)
{
	struct rxe_odp_mm *odp_mm;
	struct rxe_odp_fault *fault;
	bool again = false;

	spin_lock(&odp_lock);
	list_for_each_entry(odp_mm, &odp_mms, entry) {
		again |= odp_mm->nr_running > 0;
		if (atomic_read(&odp_mm->mm->mm_users) >
		    atomic_read(&odp_mm->faulting))
			continue;
		list_for_each_entry(fault, &odp_mm->running, turn)
			if (fault->worker)
				send_sig(SIGKILL, fault->worker, 1);
	}
	spin_unlock(&odp_lock);
	if (again)
		queue_delayed_work(system_wq, &odp_watch_work, RXE_ODP_WATCH);
}

/*
 * A fault that @wait can wait for: one for just these pages, or its own, which has
 * gone on to them. Another one's may be stuck at a page that is not needed here,
 * and so may a prefetch.
 */
static struct rxe_odp_fault *fault_find(struct rxe_odp *odp,
					unsigned long start, unsigned long end,
					enum mm_mirror_fault_kind kind,
					struct rxe_odp_wait *wait)
{
	struct rxe_odp_fault *fault;

	lockdep_assert_held(&odp_lock);
	list_for_each_entry(fault, &odp->faults, entry)
		if (fault->at <= start && end <= fault->until &&
		    (fault->first == wait ||
		     (fault->at == start && fault->until == end)) &&
		    !fault->prefetch &&
		    (fault->kind == kind ||
		     fault->kind == MM_MIRROR_FAULT_WRITE))
			return fault;
	return NULL;
}

/* What is faulted ahead, and nobody waits for, gives way to what is needed. */
static void mm_cancel_ahead(struct rxe_odp_mm *odp_mm)
{
	struct rxe_odp_fault *fault, *next;

	lockdep_assert_held(&odp_lock);
	list_for_each_entry_safe(fault, next, &odp_mm->running, turn) {
		if (!list_empty(&fault->waits) || fault->cancelled)
			continue;
		if (fault->prefetch)
			fault_give_way(fault);
		else
			fault_cancel(fault);
	}
}

/* In the queue what steps wait for comes before what was only advised. */
static void fault_queue(struct rxe_odp_fault *fault, struct rxe_odp_mm *odp_mm)
{
	struct rxe_odp_fault *behind;

	lockdep_assert_held(&odp_lock);
	if (fault->prefetch) {
		list_add_tail(&fault->turn, &odp_mm->queued);
		return;
	}
	list_for_each_entry(behind, &odp_mm->queued, turn)
		if (behind->prefetch)
			break;
	list_add_tail(&fault->turn, &behind->turn);
	mm_cancel_ahead(odp_mm);
}

static void fault_start(struct rxe_odp_fault *fault, struct rxe_odp *odp)
{
	lockdep_assert_held(&odp_lock);
	kref_get(&odp->ref);
	fault->odp = odp;
	list_add_tail(&fault->entry, &odp->faults);
	if (odp->mm->nr_running < RXE_ODP_MM_FAULTS)
		fault_run(fault);
	else
		fault_queue(fault, odp->mm);
}

/* A fault of pages; nobody knows of it yet. */
static void fault_init(struct rxe_odp_fault *fault, unsigned long start,
		       unsigned long until, unsigned long end,
		       enum mm_mirror_fault_kind kind)
{
	fault->kind = kind;
	fault->at = start;
	fault->until = until;
	fault->end = end;
	INIT_LIST_HEAD(&fault->entry);
	INIT_LIST_HEAD(&fault->turn);
	INIT_LIST_HEAD(&fault->waits);
	INIT_WORK(&fault->work, fault_work);
}

/**
 * rxe_odp_prefetch - fault a range that nobody waits for
 * @odp: of the MR; the caller has a reference to that
 * @start: first byte, in the MR
 * @end: byte after the last one
 * @kind: for reading or writing, or what the process has
 *
 * It ends with the MR, or with the first page that fails.
 *
 * Context: Process context.
 * Return: 0. -ENOMEM: there is none, or the process has RXE_ODP_MM_PREFETCHES
 * under way.
 */
int rxe_odp_prefetch(struct rxe_odp *odp, unsigned long start,
		     unsigned long end, enum mm_mirror_fault_kind kind)
{
	struct rxe_odp_fault *fault;
	int err = 0;

	start &= PAGE_MASK;
	end = PAGE_ALIGN(end);
	fault = kzalloc(sizeof(*fault), GFP_KERNEL_ACCOUNT);
	if (!fault)
		return -ENOMEM;
	fault_init(fault, start, min(start + RXE_ODP_AHEAD, end), end, kind);
	fault->prefetch = true;
	spin_lock(&odp_lock);
	if (odp->mm->nr_prefetches >= RXE_ODP_MM_PREFETCHES)
		err = -ENOMEM;
	if (!err && !odp->dead) {
		odp->mm->nr_prefetches++;
		fault_start(fault, odp);
		fault = NULL;
	}
	spin_unlock(&odp_lock);
	kfree(fault);
	return err;
}

/* Nothing of the QP is run any more but what drains its queues. */
static void qp_stop(struct rxe_qp *qp)
{
	unsigned long flags;

	spin_lock_irqsave(&qp->state_lock, flags);
	qp->valid = 0;
	rxe_sched_task(&qp->send_task);
	rxe_sched_task(&qp->recv_task);
	spin_unlock_irqrestore(&qp->state_lock, flags);
}

/**
 * rxe_odp_park - let a step of a QP wait for a page fault
 * @odp: of the MR; the caller has a reference to that
 * @start: first byte that the step needs
 * @need: byte after the last one that it needs
 * @end: byte after the last one that the message will need
 * @kind: for reading or writing
 * @wait: the step
 *
 * The step has to return now, and to leave everything so that it can be run
 * again from its beginning.
 *
 * Context: Process context, from the step's own task.
 * Return: -EAGAIN.
 */
int rxe_odp_park(struct rxe_odp *odp, unsigned long start, unsigned long need,
		 unsigned long end, enum mm_mirror_fault_kind kind,
		 struct rxe_odp_wait *wait)
{
	struct rxe_qp *qp = wait->task->qp;
	struct rxe_odp_fault *new, *fault;
	bool stopped;

	start &= PAGE_MASK;
	need = PAGE_ALIGN(need);
	/* There is nobody to report to that this cannot be allocated */
	new = kzalloc(sizeof(*new), GFP_KERNEL | __GFP_NOFAIL);
	fault_init(new, start, need, PAGE_ALIGN(end), kind);
	new->first = wait;

	spin_lock(&odp_lock);
	stopped = wait->stopped;
	if (!stopped) {
		fault = fault_find(odp, start, need, kind, wait);
		if (!fault) {
			fault = new;
			new = NULL;
			fault_start(fault, odp);
		}
		if (wait->fault != fault) {
			wait_leave(wait);
			list_add_tail(&wait->entry, &fault->waits);
			wait->fault = fault;
		}
		wait->start = start;
		wait->end = need;
		wait->kind = kind;
		wait->err = 0;
		wait->parked = true;
		if (!wait->parks++)
			wait->since = ktime_get_ns();
	}
	spin_unlock(&odp_lock);
	kfree(new);
	if (stopped) {
		qp_stop(qp);
		return -EAGAIN;
	}

	rxe_counter_inc(to_rdev(qp->ibqp.device), RXE_CNT_ODP_PARKED);
	trace_rxe_odp_park(qp_num(qp), wait->step, odp->umem->umem.address,
			   start, need, kind);
	return -EAGAIN;
}

/* See rxe_odp_done(). */
void __rxe_odp_done(struct rxe_odp_wait *wait)
{
	struct rxe_qp *qp = wait->task->qp;
	u64 ns = ktime_get_ns() - wait->since;

	/* A fault can be under way still, for a packet that comes again */
	wait->parked = false;
	wait->parks = 0;
	wait->err = 0;
	rxe_counter_add(to_rdev(qp->ibqp.device), RXE_CNT_ODP_PARKED_US,
			div_u64(ns, NSEC_PER_USEC));
	trace_rxe_odp_resume(qp_num(qp), wait->step, ns);
}

void rxe_odp_wait_init(struct rxe_odp_wait *wait, struct rxe_task *task,
		       const char *step)
{
	wait->task = task;
	wait->step = step;
}

/**
 * rxe_odp_wait_end - let a step wait for nothing any more
 * @wait: the step, which is not under way
 *
 * Context: Process context, no spinlock held.
 */
void rxe_odp_wait_end(struct rxe_odp_wait *wait)
{
	spin_lock(&odp_lock);
	wait_leave(wait);
	spin_unlock(&odp_lock);
	wait->parked = false;
	wait->parks = 0;
	wait->err = 0;
	wait->done = 0;
}

/**
 * rxe_odp_stop - a QP is about to be destroyed
 * @qp: the QP, which the caller has a reference to
 *
 * What waits in its queues holds references to it. If a step is parked, nobody
 * would come to drain them.
 *
 * Context: Process context.
 */
void rxe_odp_stop(struct rxe_qp *qp)
{
	struct rxe_odp_wait *waits[] = {
		&qp->req.wait, &qp->comp.wait, &qp->resp.wait,
	};
	bool parked = false;
	unsigned int i;

	spin_lock(&odp_lock);
	for (i = 0; i < ARRAY_SIZE(waits); i++) {
		waits[i]->stopped = true;
		parked |= !!waits[i]->fault;
		wait_leave(waits[i]);
	}
	spin_unlock(&odp_lock);
	if (parked)
		qp_stop(qp);
}

/**
 * rxe_odp_rnr_timer - when to let a requester come again
 * @qp: the responder's QP, which waits for a fault
 * @psn: what it asks for then
 *
 * In a fourth of the time that it waited already: an answer is late by no more
 * than that, and the packets that are sent in vain get fewer.
 *
 * Context: Process context, from the responder's task.
 * Return: the code of a timer for an RNR NAK.
 */
u8 rxe_odp_rnr_timer(struct rxe_qp *qp, u32 psn)
{
	u64 waited = ktime_get_ns() - qp->resp.wait.since;
	unsigned long usec;
	u8 timer;

	usec = max_t(u64, div_u64(waited, 4 * NSEC_PER_USEC),
		     2 * RXE_ODP_SILENCE_MS * USEC_PER_MSEC);
	timer = rxe_rnr_timer(qp->attr.min_rnr_timer, usec, &usec);
	rxe_counter_inc(to_rdev(qp->ibqp.device), RXE_CNT_ODP_RNR);
	trace_rxe_odp_rnr_nak(qp_num(qp), psn, waited, usec * NSEC_PER_USEC);
	return timer;
}

/**
 * rxe_odp_orphan - let go of who sent the packets that wait with a step
 * @pkts: the step's queue, which is behind its packet that waits
 *
 * On one device these hold a reference to the QP that sent them.
 *
 * Context: Any.
 */
void rxe_odp_orphan(struct sk_buff_head *pkts)
{
	struct sk_buff *skb;
	unsigned long flags;

	spin_lock_irqsave(&pkts->lock, flags);
	skb_queue_walk(pkts, skb)
		skb_orphan(skb);
	spin_unlock_irqrestore(&pkts->lock, flags);
}

int __init rxe_odp_init(void)
{
	odp_wq = alloc_workqueue("rxe_odp", WQ_UNBOUND, WQ_MAX_ACTIVE);
	return odp_wq ? 0 : -ENOMEM;
}

/* Waits for the faults of MRs that are gone, which have got their signal. */
void rxe_odp_exit(void)
{
	cancel_delayed_work_sync(&odp_watch_work);
	destroy_workqueue(odp_wq);
}
