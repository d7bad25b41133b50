// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-bench: what memory costs that is pinned, and what it costs on demand.
 *
 * Run it in tests/vm/run --deterministic: a nanosecond is an instruction there,
 * and figures repeat. What it measures is in the tables of the other files.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <fnmatch.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define MAX_ROUNDS	99
#define ERROR_TEXT	512

static const char *const access_names[] = { "none", "pinned", "odp", "implicit" };

static const struct bench_case *const groups[] = {
	register_cases, first_cases, warm_cases, invalidate_cases, scale_cases, pitfall_cases,
};

/* --quick: these, of anonymous memory */
static const struct {
	const char *cases;
	size_t size;
} quick[] = {
	{ "register_*", ODP_MIB },
	{ "deregister", ODP_MIB },
	{ "first_write_absent", 64 },
	{ "first_write_absent", PAGE },
	{ "first_write_absent", ODP_MIB },
	{ "warm_*", 64 },
	{ "warm_*", PAGE },
	{ "warm_*", ODP_MIB },
	{ "discard_*", 0 },
};

static struct {
	const char *device;
	const char *json;
	char *globs;
	unsigned int kinds;
	unsigned int accesses;
	int rounds;
	bool quick;
	bool list;
	bool instructions;
} opt = {
	.kinds = BIT(ODP_MEM_KINDS) - 1,
	.accesses = BIT(ACCESSES) - 1,
};

static volatile sig_atomic_t stopped;

struct result {
	double samples[MAX_ROUNDS];
	double value;		/* the median */
	double low;
	double high;
	int error;		/* an errno, UNSUPPORTED or WRONG_BYTES */
	char text[ERROR_TEXT];
};

/* The figures so far, as JSON text, and the rest of what there is to say at the end. */
static struct {
	char *text;
	size_t length;
	FILE *stream;
	int figures;
	int refused;
	int failed;
	char note[ERROR_TEXT];
} report;

static void stop(int number)
{
	stopped = number;
}

static const char *error_name(int error)
{
	if (error == UNSUPPORTED)
		return "unsupported";
	if (error == WRONG_BYTES)
		return "wrong-bytes";
	return strerrorname_np(error) ?: "unknown";
}

/* Does one of the globs match? A list with commas between. */
static bool matches(const char *globs, const char *name)
{
	char *copy = strdup(globs), *rest = copy, *glob;
	bool found = false;

	while (!found && (glob = strsep(&rest, ",")))
		found = !fnmatch(glob, name, 0);
	free(copy);
	return found;
}

static bool is_quick(const struct bench *bench)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(quick); i++) {
		if (!fnmatch(quick[i].cases, bench->test->name, 0) &&
		    quick[i].size == bench->size && bench->kind == ODP_MEM_ANON)
			return true;
	}
	return false;
}

static bool selected(const struct bench *bench)
{
	const struct bench_case *test = bench->test;

	if (!(test->kinds & opt.kinds & BIT(bench->kind)) || !(test->accesses & opt.accesses))
		return false;
	if (opt.globs && !matches(opt.globs, test->name))
		return false;
	if (opt.instructions && test->parallel)
		return false;
	return !opt.quick || is_quick(bench);
}

static int walk_case(struct bench *bench, void (*row)(struct bench *bench))
{
	const size_t *size, *sizes = bench->test->sizes;
	int rows = 0;

	for (bench->kind = 0; bench->kind < ODP_MEM_KINDS; bench->kind++) {
		for (size = sizes; size == sizes || *size; size++) {
			bench->size = *size;
			if (stopped || !selected(bench))
				continue;
			row(bench);
			rows++;
		}
	}
	return rows;
}

/* A row has the figures of all ways to register, side by side. How many rows there are. */
static int walk_rows(struct bench *bench, void (*row)(struct bench *bench))
{
	size_t i;
	int rows = 0;

	for (i = 0; i < ARRAY_SIZE(groups); i++)
		for (bench->test = groups[i]; bench->test->name; bench->test++)
			rows += walk_case(bench, row);
	return rows;
}

/* The next way to register that the row has, from @access on. */
static enum access next_access(const struct bench *bench, enum access access)
{
	while (access < ACCESSES && !(bench->test->accesses & opt.accesses & BIT(access)))
		access++;
	return access;
}

#define for_each_access(bench)								\
	for ((bench)->access = next_access(bench, NONE); (bench)->access < ACCESSES;	\
	     (bench)->access = next_access(bench, (bench)->access + 1))

static void list_row(struct bench *bench)
{
	for_each_access(bench)
		printf("%s\t%s\t%s\t%zu\t%s\n", bench->test->name, odp_mem_name(bench->kind),
		       access_names[bench->access], bench->size, bench->test->unit);
}

/*
 * Which order statistic, counted from either end, bounds the median's interval: the
 * highest with which the median is in it in 95 of 100 cases; where none is, the first.
 */
static int interval_rank(int count)
{
	double term = 1, below = 0;
	int i, rank = 0;

	for (i = 0; i < count; i++)
		term /= 2;
	for (;;) {
		below += term;
		if (2 * below > 0.05)
			return rank ? rank : 1;
		term = term * (count - rank) / (rank + 1);
		rank++;
	}
}

static void summarize(struct result *result)
{
	int count = opt.rounds, rank = interval_rank(count);
	double sorted[MAX_ROUNDS];

	memcpy(sorted, result->samples, count * sizeof(sorted[0]));
	qsort(sorted, count, sizeof(sorted[0]), compare_double);
	result->value = (sorted[count / 2] + sorted[(count - 1) / 2]) / 2;
	result->low = sorted[rank - 1];
	result->high = sorted[count - rank];
}

static bool has_access(const struct bench *bench)
{
	if (bench->access == ODP)
		return odp_supported(&bench->dev);
	if (bench->access == IMPLICIT)
		return odp_supported(&bench->dev) &&
		       bench->dev.odp_general & IBV_ODP_SUPPORT_IMPLICIT;
	return true;
}

/* A first round warms the kernel up, and does not count. */
static int run_rounds(struct bench *bench, struct result *result)
{
	double value = 0;
	int i, ret;

	if (!has_access(bench))
		return odp_fail(UNSUPPORTED, "%s has no such memory regions", bench->dev.name);
	for (i = -1; i < opt.rounds; i++) {
		if (stopped)
			return odp_fail(EINTR, "interrupted");
		ret = bench->test->run(bench, &value);
		if (ret)
			return ret;
		if (i >= 0)
			result->samples[i] = value;
	}
	summarize(result);
	return 0;
}

/* What the machine has not, and what the kernel never pins: a DAX or a shared file. */
static bool is_refusal(const struct bench *bench, int error)
{
	if (error == UNSUPPORTED || error == ENODEV)
		return true;
	return bench->access == PINNED && (error == EOPNOTSUPP || error == EFAULT);
}

static void measure(struct bench *bench, struct result *result)
{
	int ret = run_rounds(bench, result);

	if (ret)
		snprintf(result->text, sizeof(result->text), "%s", odp_error());
	result->error = -ret;
	ret = region_close(bench);
	if (ret && !result->error) {
		snprintf(result->text, sizeof(result->text), "%s", odp_error());
		result->error = -ret;
	}
}

/* A queue pair that met an error is of no use any more. */
static void count(struct bench *bench, const struct result *result)
{
	report.figures++;
	if (!result->error)
		return;
	if (is_refusal(bench, result->error)) {
		report.refused++;
		return;
	}
	report.failed++;
	if (bench_reconnect(bench)) {
		fprintf(stderr, "odp-bench: no new queue pairs: %s\n", odp_error());
		stopped = SIGTERM;
	}
}

static void add_json(const struct bench *bench, const struct result *result)
{
	FILE *out = report.stream;
	int i;

	fprintf(out, "%s\n  {\"case\": \"%s\", \"memory\": \"%s\", \"mr\": \"%s\", \"size\": %zu, \"unit\": \"%s\", ",
		report.figures ? "," : "", bench->test->name, odp_mem_name(bench->kind),
		access_names[bench->access], bench->size, bench->test->unit);
	if (result->error) {
		fprintf(out, "\"value\": null, \"low\": null, \"high\": null, \"samples\": [], \"error\": \"%s\"}",
			error_name(result->error));
		return;
	}
	fprintf(out, "\"value\": %.1f, \"low\": %.1f, \"high\": %.1f, \"samples\": [",
		result->value, result->low, result->high);
	for (i = 0; i < opt.rounds; i++)
		fprintf(out, "%s%.1f", i ? ", " : "", result->samples[i]);
	fprintf(out, "], \"error\": null}");
}

static int json_failed(const char *path, FILE *file)
{
	fprintf(stderr, "odp-bench: --json: %s: %s\n", path, strerror(errno));
	if (file)
		fclose(file);
	return -1;
}

/* All of it anew: whenever the kernel panics the last one is there, and complete. */
static int write_json(const struct bench *bench)
{
	char path[PATH_MAX];
	struct utsname uts;
	FILE *file;

	if (!opt.json)
		return 0;
	uname(&uts);
	fflush(report.stream);
	snprintf(path, sizeof(path), "%s.tmp", opt.json);
	file = fopen(path, "we");
	if (!file)
		return json_failed(path, NULL);
	fprintf(file, "{\"kernel\": \"%s\", \"device\": \"%s\", \"clock\": \"%s\", \"rounds\": %d, \"cpus\": %ld, \"results\": [",
		uts.release, bench->dev.name, opt.instructions ? "instructions" : "time",
		opt.rounds, sysconf(_SC_NPROCESSORS_ONLN));
	fwrite(report.text, 1, report.length, file);
	fprintf(file, "\n]}\n");
	if (fflush(file) || fsync(fileno(file)))
		return json_failed(path, file);
	fclose(file);
	if (rename(path, opt.json))
		return json_failed(opt.json, NULL);
	return 0;
}

static const char *size_text(size_t size, char text[16])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB" };
	int unit = 0;

	for (; size >= 1024; size /= 1024)
		unit++;
	snprintf(text, 16, size ? "%zu %s" : "-", size, units[unit]);
	return text;
}

static void print_cell(const struct result *result, bool measured)
{
	if (!measured)
		printf(" %12s", "");
	else if (result->error)
		printf(" %12s", error_name(result->error));
	else
		printf(" %12.1f", result->value);
}

/* Why a figure is missing, where that is not what was said last. */
static void print_note(const struct bench *bench, const struct result *result)
{
	if (!result->error || !strcmp(result->text, report.note))
		return;
	printf("  %s: %s\n", access_names[bench->access], result->text);
	strcpy(report.note, result->text);
}

static void measure_row(struct bench *bench)
{
	static struct result results[ACCESSES];
	unsigned int measured = 0;
	double spread = 0;
	char text[16];
	int access;

	for_each_access(bench) {
		struct result *result = &results[bench->access];

		measure(bench, result);
		if (stopped)
			break;
		add_json(bench, result);
		count(bench, result);
		if (write_json(bench))
			exit(1);
		measured |= BIT(bench->access);
		if (!result->error && result->value * spread < result->high - result->low)
			spread = (result->high - result->low) / result->value;
	}
	if (!measured)
		return;
	printf("%-34s %-9s %7s %-14s", bench->test->name, odp_mem_name(bench->kind),
	       size_text(bench->size, text), bench->test->unit);
	for (access = NONE; access < ACCESSES; access++)
		print_cell(&results[access], measured & BIT(access));
	printf(" %6.1f%%\n", 50 * spread);
	for_each_access(bench) {
		if (measured & BIT(bench->access))
			print_note(bench, &results[bench->access]);
	}
	fflush(stdout);
}

static int run_all(struct bench *bench)
{
	struct utsname uts;

	uname(&uts);
	printf("kernel %s, %s, %s, median of %d; +- is the widest interval's half\n\n", uts.release,
	       bench->dev.name, opt.instructions ? "counted instructions for ns" : "real time",
	       opt.rounds);
	printf("%-34s %-9s %7s %-14s %12s %12s %12s %12s %7s\n", "case", "memory", "size", "unit",
	       "none", "pinned", "odp", "implicit", "+-");
	report.stream = open_memstream(&report.text, &report.length);
	if (!report.stream || write_json(bench))
		return 1;
	walk_rows(bench, measure_row);
	printf("\n%d figures: %d measured, %d not to be had here, %d failed\n", report.figures,
	       report.figures - report.refused - report.failed, report.refused, report.failed);
	fclose(report.stream);
	free(report.text);
	if (stopped)
		fprintf(stderr, "odp-bench: ended by a signal, not all was measured\n");
	return stopped ? 128 + stopped : !!report.failed;
}

/* Once each: several entries may have a name in common. */
static void print_cases(FILE *out, const struct bench_case *group)
{
	const struct bench_case *test, *first;

	for (test = group; test->name; test++) {
		for (first = group; strcmp(first->name, test->name); first++)
			;
		if (first == test)
			fprintf(out, "  %-34s %s; %s\n", test->name, test->what, test->unit);
	}
}

static void usage(FILE *out)
{
	size_t i;

	fprintf(out,
		"usage: odp-bench [option...]\n"
		"What pinned memory and on-demand-paged memory cost, side by side. Smaller is better.\n"
		"\n"
		"  --device NAME           RDMA device (default: the first soft-RoCE device)\n"
		"  --quick                 a small set of figures\n"
		"  --rounds N              medians of N, 1 to %d (default 5, with --quick 3)\n"
		"  --cases GLOB[,GLOB...]  only these cases\n"
		"  --kinds KIND[,KIND...]  only these kinds of memory\n"
		"  --mr MR[,MR...]         only these: none (not registered), pinned, odp, implicit\n"
		"  --clock CLOCK           time, or instructions: tests/vm/run --deterministic counts\n"
		"                          them; what wants several CPUs is left out (default time)\n"
		"  --json FILE             the figures as JSON too, written anew with each one\n"
		"  --list                  print the figures' case, memory, mr, size and unit only\n"
		"  --help                  this text\n"
		"\n"
		"low and high in the JSON are the order statistics between which the median is in 95\n"
		"of 100 cases; of less than 6 rounds they are the lowest and the highest one. A round\n"
		"more comes first, and does not count. error is why there is no value: an errno,\n"
		"wrong-bytes, or unsupported by this machine.\n"
		"Exits with 1 if a figure failed for another reason than that there is no such memory\n"
		"or device here, or that the kernel does not pin such memory, and with 2 if it was not\n"
		"asked well.\n"
		"\nKinds:", MAX_ROUNDS);
	for (i = 0; i < ODP_MEM_KINDS; i++)
		fprintf(out, " %s", odp_mem_name(i));
	fprintf(out, "\n\nCases:\n");
	for (i = 0; i < ARRAY_SIZE(groups); i++)
		print_cases(out, groups[i]);
}

static int find_access(const char *name)
{
	int access;

	for (access = NONE; access < ACCESSES; access++)
		if (!strcmp(name, access_names[access]))
			return access;
	return odp_fail(EINVAL, "no memory region is called %s: none, pinned, odp or implicit",
			name);
}

/* The set of what a list with commas names. */
static unsigned int parse_set(char *text, int (*find)(const char *name))
{
	unsigned int set = 0;
	char *name;
	int found;

	while ((name = strsep(&text, ","))) {
		found = find(name);
		if (found < 0) {
			fprintf(stderr, "odp-bench: %s; see --help\n", odp_error());
			exit(2);
		}
		set |= BIT(found);
	}
	return set;
}

static bool parse_clock(const char *text)
{
	if (strcmp(text, "instructions") && strcmp(text, "time")) {
		fprintf(stderr, "odp-bench: --clock is instructions or time, not %s\n", text);
		exit(2);
	}
	return *text == 'i';
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "quick", no_argument, NULL, 'q' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "cases", required_argument, NULL, 'c' },
		{ "kinds", required_argument, NULL, 'k' },
		{ "mr", required_argument, NULL, 'm' },
		{ "clock", required_argument, NULL, 't' },
		{ "json", required_argument, NULL, 'j' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'd':
			opt.device = optarg;
			break;
		case 'q':
			opt.quick = true;
			break;
		case 'r':
			opt.rounds = number("rounds", optarg, MAX_ROUNDS);
			break;
		case 'c':
			opt.globs = optarg;
			break;
		case 'k':
			opt.kinds = parse_set(optarg, odp_mem_kind);
			break;
		case 'm':
			opt.accesses = parse_set(optarg, find_access);
			break;
		case 't':
			opt.instructions = parse_clock(optarg);
			break;
		case 'j':
			opt.json = optarg;
			break;
		case 'l':
			opt.list = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			fprintf(stderr, "odp-bench: see --help\n");
			exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "odp-bench: %s is no option; see --help\n", argv[optind]);
		exit(2);
	}
	if (!opt.rounds)
		opt.rounds = opt.quick ? 3 : 5;
}

static void count_row(struct bench *bench __attribute__((unused)))
{
}

/* Between two rounds: the JSON is complete then, and all is released. */
static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = stop, .sa_flags = SA_RESTART };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

int main(int argc, char **argv)
{
	struct bench bench = {};
	int ret = 1;

	parse(argc, argv);
	if (!walk_rows(&bench, opt.list ? list_row : count_row)) {
		fprintf(stderr, "odp-bench: there is no such figure; see --list\n");
		return 2;
	}
	if (opt.list)
		return 0;
	catch_signals();
	if (bench_open(&bench, opt.device))
		fprintf(stderr, "odp-bench: %s\n", odp_error());
	else
		ret = run_all(&bench);
	bench_close(&bench);
	return ret;
}
