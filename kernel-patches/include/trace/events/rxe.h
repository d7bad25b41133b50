/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rxe

#if !defined(_TRACE_RXE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_RXE_H

#include <linux/mm_mirror.h>
#include <linux/tracepoint.h>

TRACE_DEFINE_ENUM(MM_MIRROR_FAULT_READ);
TRACE_DEFINE_ENUM(MM_MIRROR_FAULT_WRITE);

/* A step of a QP waits for a page fault on [start, end) of an MR at @mr */
TRACE_EVENT(rxe_odp_park,
	    TP_PROTO(u32 qpn, const char *step, unsigned long mr,
		     unsigned long start, unsigned long end,
		     unsigned int kind),
	    TP_ARGS(qpn, step, mr, start, end, kind),
	    TP_STRUCT__entry(__field(u32, qpn)
			     __string(step, step)
			     __field(unsigned long, mr)
			     __field(unsigned long, start)
			     __field(unsigned long, end)
			     __field(unsigned int, kind)),
	    TP_fast_assign(__entry->qpn = qpn;
			   __assign_str(step);
			   __entry->mr = mr;
			   __entry->start = start;
			   __entry->end = end;
			   __entry->kind = kind;),
	    TP_printk("qp=%u step=%s mr=%#lx start=%#lx end=%#lx kind=%s",
		      __entry->qpn, __get_str(step),
		      __entry->mr, __entry->start, __entry->end,
		      __print_symbolic(__entry->kind,
				       { MM_MIRROR_FAULT_READ, "read" },
				       { MM_MIRROR_FAULT_WRITE, "write" }))
);

/* The step that was parked has copied its packet: nanoseconds since */
TRACE_EVENT(rxe_odp_resume,
	    TP_PROTO(u32 qpn, const char *step, u64 ns),
	    TP_ARGS(qpn, step, ns),
	    TP_STRUCT__entry(__field(u32, qpn)
			     __string(step, step)
			     __field(u64, ns)),
	    TP_fast_assign(__entry->qpn = qpn;
			   __assign_str(step);
			   __entry->ns = ns;),
	    TP_printk("qp=%u step=%s ns=%llu", __entry->qpn,
		      __get_str(step), __entry->ns)
);

/* The requester is asked to come again: nanoseconds so far, and until then */
TRACE_EVENT(rxe_odp_rnr_nak,
	    TP_PROTO(u32 qpn, u32 psn, u64 ns, u64 timer_ns),
	    TP_ARGS(qpn, psn, ns, timer_ns),
	    TP_STRUCT__entry(__field(u32, qpn)
			     __field(u32, psn)
			     __field(u64, ns)
			     __field(u64, timer_ns)),
	    TP_fast_assign(__entry->qpn = qpn;
			   __entry->psn = psn;
			   __entry->ns = ns;
			   __entry->timer_ns = timer_ns;),
	    TP_printk("qp=%u psn=%u ns=%llu timer_ns=%llu", __entry->qpn,
		      __entry->psn, __entry->ns, __entry->timer_ns)
);

#endif /* _TRACE_RXE_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
