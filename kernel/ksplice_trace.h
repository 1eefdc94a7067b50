/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trace events of what changes the kernel: events/ksplice/ of tracefs. One for each update and attempt, after it.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ksplice

#if !defined(KSPLICE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define KSPLICE_TRACE_H

#include <linux/tracepoint.h>
#include "internal.h"

DECLARE_EVENT_CLASS(ksplice_attempt,
	TP_PROTO(const struct ksplice_record *record),
	TP_ARGS(record),
	TP_STRUCT__entry(
		__array(char, update, KSPLICE_ID_SIZE + 1)
		__array(char, cause, 16)
		__field(unsigned int, functions)
		__field(unsigned int, tries)
		__field(unsigned int, conflicts)
		__field(u64, pause_ns)
	),
	TP_fast_assign(
		memcpy(__entry->update, record->id, KSPLICE_ID_SIZE);
		__entry->update[KSPLICE_ID_SIZE] = '\0';
		strscpy(__entry->cause, ksplice_cause_words[record->cause], sizeof(__entry->cause));
		__entry->functions = record->update->table->function_count;
		__entry->tries = record->tries;
		__entry->conflicts = record->conflict_count;
		__entry->pause_ns = record->pause_ns;
	),
	TP_printk("update=%s cause=%s functions=%u tries=%u conflicts=%u pause_ns=%llu",
		  __entry->update, __entry->cause, __entry->functions, __entry->tries, __entry->conflicts,
		  __entry->pause_ns)
);

DEFINE_EVENT(ksplice_attempt, ksplice_apply, TP_PROTO(const struct ksplice_record *record), TP_ARGS(record));
DEFINE_EVENT(ksplice_attempt, ksplice_undo, TP_PROTO(const struct ksplice_record *record), TP_ARGS(record));

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE ksplice_trace
#include <trace/define_trace.h>
