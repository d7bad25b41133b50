/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mm_mirror

#if !defined(_TRACE_MM_MIRROR_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_MM_MIRROR_H

#include <linux/mm_mirror.h>
#include <linux/tracepoint.h>

TRACE_DEFINE_ENUM(MM_MIRROR_FAULT_READ);
TRACE_DEFINE_ENUM(MM_MIRROR_FAULT_WRITE);
TRACE_DEFINE_ENUM(MM_MIRROR_SNAPSHOT);
TRACE_DEFINE_ENUM(MMU_NOTIFY_UNMAP);
TRACE_DEFINE_ENUM(MMU_NOTIFY_CLEAR);
TRACE_DEFINE_ENUM(MMU_NOTIFY_PROTECTION_VMA);
TRACE_DEFINE_ENUM(MMU_NOTIFY_PROTECTION_PAGE);
TRACE_DEFINE_ENUM(MMU_NOTIFY_SOFT_DIRTY);
TRACE_DEFINE_ENUM(MMU_NOTIFY_RELEASE);
TRACE_DEFINE_ENUM(MMU_NOTIFY_MIGRATE);
TRACE_DEFINE_ENUM(MMU_NOTIFY_EXCLUSIVE);

/* A fault has ended: pages that are new or newly writable, nanoseconds, errno */
TRACE_EVENT(mm_mirror_fault,
	    TP_PROTO(const struct mm_mirror *mirror, unsigned long start,
		     unsigned long end, unsigned int kind, unsigned long pages,
		     unsigned int order, u64 ns, int ret),
	    TP_ARGS(mirror, start, end, kind, pages, order, ns, ret),
	    TP_STRUCT__entry(__field(const void *, mirror)
			     __field(unsigned long, start)
			     __field(unsigned long, end)
			     __field(unsigned int, kind)
			     __field(unsigned long, pages)
			     __field(unsigned int, order)
			     __field(u64, ns)
			     __field(int, ret)),
	    TP_fast_assign(__entry->mirror = mirror;
			   __entry->start = start;
			   __entry->end = end;
			   __entry->kind = kind;
			   __entry->pages = pages;
			   __entry->order = order;
			   __entry->ns = ns;
			   __entry->ret = ret;),
	    TP_printk("mirror=%p start=%#lx end=%#lx kind=%s pages=%lu order=%u ns=%llu ret=%d",
		      __entry->mirror, __entry->start, __entry->end,
		      __print_symbolic(__entry->kind,
				       { MM_MIRROR_FAULT_READ, "read" },
				       { MM_MIRROR_FAULT_WRITE, "write" },
				       { MM_MIRROR_SNAPSHOT, "snapshot" }),
		      __entry->pages, __entry->order, __entry->ns,
		      __entry->ret)
);

/* What an invalidation dropped: [start, end) is its part inside one segment */
TRACE_EVENT(mm_mirror_invalidate,
	    TP_PROTO(const struct mm_mirror *mirror, unsigned long start,
		     unsigned long end, unsigned int event,
		     unsigned long pages),
	    TP_ARGS(mirror, start, end, event, pages),
	    TP_STRUCT__entry(__field(const void *, mirror)
			     __field(unsigned long, start)
			     __field(unsigned long, end)
			     __field(unsigned int, event)
			     __field(unsigned long, pages)),
	    TP_fast_assign(__entry->mirror = mirror;
			   __entry->start = start;
			   __entry->end = end;
			   __entry->event = event;
			   __entry->pages = pages;),
	    TP_printk("mirror=%p start=%#lx end=%#lx event=%s pages=%lu",
		      __entry->mirror, __entry->start, __entry->end,
		      __print_symbolic(__entry->event,
				       { MMU_NOTIFY_UNMAP, "unmap" },
				       { MMU_NOTIFY_CLEAR, "clear" },
				       { MMU_NOTIFY_PROTECTION_VMA, "protection" },
				       { MMU_NOTIFY_PROTECTION_PAGE, "protection" },
				       { MMU_NOTIFY_SOFT_DIRTY, "soft-dirty" },
				       { MMU_NOTIFY_RELEASE, "release" },
				       { MMU_NOTIFY_MIGRATE, "migrate" },
				       { MMU_NOTIFY_EXCLUSIVE, "exclusive" }),
		      __entry->pages)
);

#endif /* _TRACE_MM_MIRROR_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
