// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * odp-torture: to on-demand-paged memory what fsx is to file systems
 *
 * A seeded stream of operations on several ranges of memory of different kinds
 * ("arenas"), each with an ODP MR and with a model: plain memory that follows
 * with memcpy() and memset(). Operations are RDMA messages between arenas, CPU
 * writes, and events of memory management, alone, beside messages in flight,
 * and in the orders that have broken such code before. After each operation a
 * piece is compared with its model, and now and then everything is.
 *
 * Rules: what the bytes must be
 *
 * Message:  the destination has the source's bytes once it has completed. No two
 *	     messages in flight overlap, source or destination.
 * Private memory (anonymous, lazyfree, thp, hugetlb, ext4-private, fsdax-private,
 *	     userfault):
 *	     MADV_DONTNEED, munmap() and a new mapping leave zeroes, or what the file
 *	     has. Page-out, collapse, split, merging, migration to
 *	     another node or to a GPU, mprotect(), userfaultfd's write protection,
 *	     mremap() away and back, and fork() change nothing.
 * Files (memfd, ext4, fsdax), mapped shared: only a hole, a truncation, what is cut
 *	     out and writes change them; neither MADV_DONTNEED nor a new mapping does.
 * Fork:     the child finds its private memory as it was at the fork whatever
 *	     the parent and the device do meanwhile; what it writes is seen by the
 *	     parent in files, and not in private memory.
 * Refusal:  the device gets at nothing that is read-only (by a write), without
 *	     permission, unmapped or behind the end of the file: such a message
 *	     fails, and no byte has changed. While memory is so, nothing else but
 *	     such messages, and reading where that is allowed, goes there.
 * Beside messages in flight run only events that change neither bytes nor
 *	     permissions.
 * Lazily freed pages: after MADV_FREE each page holds what it held or zeroes, and
 *	     may turn to zeroes at any time, until it is written, by whomever. Then
 *	     it is whichever of the two it was at that moment, with the written
 *	     bytes on top, and must stay so. So a page has up to two versions, to
 *	     both of which writes are applied; reading it tells which one is right.
 *	     What the device is to read is made known before, by a CPU write where
 *	     it was not written since.
 *
 * Randomness
 *
 * All that is decided in an operation comes from the seed, the thread's number
 * and the operation's number; never from time, from what a message or an event
 * met, or from the operations before. So --seed and --ops repeat a stream, with
 * --from its last part alone, on memory that begins as zeroes. Each thread has
 * its own arenas and queue pairs, and so the same stream alone as beside others.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS	16
#define PROGRESS_NS	5000000000ULL
#define ANY_OPS		(UINT64_MAX - KINDS - 1)

static struct options {
	const char *device;
	uint64_t seed;
	uint64_t ops;
	uint64_t seconds;
	uint64_t rounds;
	uint64_t threads;
	uint64_t only;		/* the number of the only thread's stream */
	uint64_t from;
	uint64_t check_every;
	uint64_t damage;	/* after this operation, to see it found */
	unsigned int kinds;
	bool noise;
	bool trace;
} opt = {
	.rounds = 1, .threads = 1, .only = UINT64_MAX, .check_every = 50, .damage = UINT64_MAX,
	.kinds = BIT(KINDS) - 1,
};

static volatile sig_atomic_t interrupted;
static volatile bool stop;		/* a thread has failed, or time is over */
static volatile bool stop_noise;

static void interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

/* --- a thread ---------------------------------------- */

/* Mixed, so that no two operations' series are parts of one. */
static void begin_series(struct torture *t, uint64_t op)
{
	uint64_t x = t->seed;

	x = odp_random(&x) ^ t->number;
	x = odp_random(&x) ^ op;
	t->rng = odp_random(&x);
}

static int check_all(struct torture *t)
{
	int i, ret = 0;

	for (i = 0; i < t->count && !ret; i++)
		ret = check_arena(t->present[i]);
	return ret;
}

static int open_all(struct torture *t)
{
	int kind, ret;

	for (kind = 0; kind < KINDS; kind++) {
		struct arena *arena = &t->arenas[kind];

		begin_series(t, UINT64_MAX - kind);
		if (!(opt.kinds >> kind & 1)) {
			snprintf(arena->skip, sizeof(arena->skip), "not among --kinds");
			continue;
		}
		ret = arena_open(t, arena, kind);
		if (!ret)
			t->present[t->count++] = arena;
		else if (ret != -ENODEV)
			return ret;
	}
	if (!t->count)
		return odp_fail(ENODEV, "none of the kinds of memory is available");
	return open_pairs(t);
}

static void close_all(struct torture *t)
{
	int i;

	close_pairs(t);
	if (t->gpu >= 0)
		close(t->gpu);
	for (i = 0; i < t->count; i++)
		arena_close(t->present[i]);
	free(t->bounce);
}

/* A bit that no rule lets change. */
static void damage(struct torture *t)
{
	struct arena *arena = t->present[below(t, t->count)];
	size_t at = below(t, arena->mem.length);

	note(t, "--damage to %s %#zx", arena->name, at);
	*arena_at(arena, at) ^= 1 << below(t, 8);
}

static int run_ops(struct torture *t)
{
	int ret = 0;

	for (t->op = opt.from; t->op < opt.ops && !ret; t->op++) {
		if (stop || interrupted)
			break;
		begin_series(t, t->op);
		ret = run_op(t);
		if (!ret && t->op == opt.damage)
			damage(t);
		if (!ret && t->op % opt.check_every == opt.check_every - 1)
			ret = check_all(t);
		if (ret)
			break;
	}
	return ret;
}

static void *run_thread(void *arg)
{
	struct torture *t = arg;
	int i, ret;

	t->bounce = malloc(MAX_MESSAGE);
	/* Not every kernel has it. */
	t->gpu = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	ret = t->bounce ? open_all(t) : odp_fail(ENOMEM, "out of memory");
	if (!ret)
		ret = run_ops(t);
	if (!ret)
		ret = check_all(t);
	if (ret) {
		stop = true;
		snprintf(t->error, sizeof(t->error), "%s", odp_error());
		/* The others may be damaged as well. */
		for (i = 0; i < t->count; i++)
			check_arena(t->present[i]);
	}
	return NULL;
}

/* --- noise ---------------------------------------- */

/*
 * Elsewhere in the address space: maps, takes pages, gives them back, forks. Often
 * enough to meet each operation, seldom enough to leave them the time.
 */
static void *make_noise(void *arg)
{
	uint64_t rng = *(uint64_t *)arg;

	while (!stop_noise) {
		size_t length = (1 + odp_random(&rng) % 64) * PAGE;
		char *addr = mmap(NULL, length, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		pid_t pid;

		if (addr != MAP_FAILED) {
			memset(addr, 0xee, length);
			munmap(addr, length);
		}
		if (odp_random(&rng) % 16 == 0) {
			pid = fork();
			if (!pid)
				_exit(0);
			if (pid > 0)
				waitpid(pid, NULL, 0);
		}
		usleep(odp_random(&rng) % 50000);
	}
	return NULL;
}

/* --- a round ---------------------------------------- */

static const char *const vmstat_names[] = {
	"ksm_swpin_copy", "cow_ksm", "pswpin", "pswpout", "pglazyfreed", "pgmigrate_success",
	"numa_pages_migrated", "thp_fault_alloc", "thp_collapse_alloc", "thp_split_pmd", "thp_split_page",
};

static void read_vmstat(uint64_t *values)
{
	FILE *file = fopen("/proc/vmstat", "re");
	char name[64];
	uint64_t value;
	size_t i;

	memset(values, 0, ARRAY_SIZE(vmstat_names) * sizeof(*values));
	while (file && fscanf(file, "%63s %lu", name, &value) == 2)
		for (i = 0; i < ARRAY_SIZE(vmstat_names); i++)
			if (!strcmp(name, vmstat_names[i]))
				values[i] = value;
	if (file)
		fclose(file);
}

static uint64_t total_ops(struct torture *threads)
{
	uint64_t i, sum = 0;

	for (i = 0; i < opt.threads; i++)
		sum += threads[i].op - opt.from;
	return sum;
}

/* What the stream did, and what it made the kernel do. */
static void summarize(struct torture *threads, uint64_t ns, const uint64_t *before)
{
	uint64_t i, messages = 0, bytes = 0, events = 0, faults = 0, lost = 0;
	uint64_t after[ARRAY_SIZE(vmstat_names)];
	struct odp_counters counters;
	int k;

	for (i = 0; i < opt.threads; i++) {
		struct torture *t = &threads[i];

		messages += t->messages;
		bytes += t->bytes;
		events += t->events;
		for (k = 0; k < t->count; k++) {
			if (odp_counters(&t->present[k]->mr, &counters))
				continue;
			faults += counters.faults;
			lost += counters.invalidations;
		}
	}
	printf("# %lu operations in %.1f s (%.1f/s): %lu messages with %lu KiB, %lu events; the present MRs: %lu pages faulted in, %lu taken away\n",
	       total_ops(threads), ns / 1e9, total_ops(threads) * 1e9 / ns, messages, bytes / 1024,
	       events, faults, lost);
	read_vmstat(after);
	printf("# kernel:");
	for (i = 0; i < ARRAY_SIZE(vmstat_names); i++)
		printf(" %s %lu", vmstat_names[i], after[i] - before[i]);
	printf("\n");
}

static void print_commented(const char *text)
{
	while (*text) {
		int n = strcspn(text, "\n");

		printf("# %.*s\n", n, text);
		text += n + (text[n] == '\n');
	}
}

static void report_failure(struct torture *t)
{
	uint64_t i, shown = t->logged < LOG_LINES ? t->logged : LOG_LINES;
	int k;

	printf("# seed %lu, thread %u, operation %lu:\n", t->seed, t->number, t->op);
	print_commented(t->error);
	printf("# what was done before:\n");
	for (i = t->logged - shown; i < t->logged; i++)
		printf("#   %s\n", t->log[i % LOG_LINES]);
	printf("# replay: odp-torture --seed %lu --ops %lu --from %lu --thread %u --check-every %lu --kinds ",
	       t->seed, t->op + 1, opt.from, t->number, opt.check_every);
	for (k = 0; k < t->count; k++)
		printf("%s%s", k ? "," : "", t->present[k]->name);
	printf("\n");
	if (opt.threads > 1 || opt.noise)
		printf("# if it takes the other threads: odp-torture --seed %lu --ops %lu --threads %lu%s\n",
		       t->seed, t->op + 1, opt.threads, opt.noise ? " --noise" : "");
}

/* The TAP line of each arena. Returns how many are wrong. */
static int report_thread(struct torture *t, unsigned int round, int *number)
{
	int kind, failed = 0;

	for (kind = 0; kind < KINDS; kind++)
		failed += t->arenas[kind].failed;
	/* Something went wrong with none of them in particular. */
	if (*t->error && !failed)
		t->arenas[0].failed = true;

	for (failed = 0, kind = 0; kind < KINDS; kind++) {
		struct arena *arena = &t->arenas[kind];

		/* Of more than one, the report is at the first. */
		if (arena->failed && !failed++)
			report_failure(t);
		printf("%s %d round_%u_thread_%u_%s", arena->failed ? "not ok" : "ok", ++*number,
		       round, t->number, kind_name(kind));
		if (arena->skip[0])
			printf(" # SKIP %s", arena->skip);
		else if (t->op == opt.from && !arena->failed)
			printf(" # SKIP stopped before the first operation");
		printf("\n");
	}
	return failed;
}

/* Until all threads have ended; says now and then how far they are. */
static void watch(struct torture *threads, pthread_t *ids, unsigned int round, uint64_t deadline)
{
	uint64_t begin = odp_now(), next = begin + PROGRESS_NS, now, i = 0;
	struct timespec soon;

	while (i < opt.threads) {
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_nsec += 200000000;
		soon.tv_sec += soon.tv_nsec / 1000000000;
		soon.tv_nsec %= 1000000000;
		if (!pthread_timedjoin_np(ids[i], NULL, &soon)) {
			i++;
			continue;
		}
		now = odp_now();
		if (now > deadline)
			stop = true;
		if (now < next)
			continue;
		next = now + PROGRESS_NS;
		fprintf(stderr, "odp-torture: round %u of %lu, seed %lu, %lu s: %lu operations\n",
			round, opt.rounds, threads[0].seed, (now - begin) / 1000000000,
			total_ops(threads));
	}
}

static int run_round(struct odp_dev *dev, unsigned int round, int *number, uint64_t *ops)
{
	uint64_t i, begin = odp_now(), before[ARRAY_SIZE(vmstat_names)];
	uint64_t seed = opt.seed + round - 1;
	struct torture *threads = calloc(opt.threads, sizeof(*threads));
	pthread_t ids[MAX_THREADS], noise;
	int failed = 0;

	if (!threads) {
		printf("Bail out! out of memory\n");
		return 1;
	}
	printf("# round %u: seed %lu\n", round, seed);
	fflush(stdout);
	stop = stop_noise = false;
	read_vmstat(before);
	if (opt.noise && pthread_create(&noise, NULL, make_noise, &seed))
		opt.noise = false;
	for (i = 0; i < opt.threads; i++) {
		struct torture *t = &threads[i];

		t->dev = dev;
		t->seed = seed;
		t->number = opt.only < UINT64_MAX ? opt.only : i;
		t->alone = opt.threads == 1 && !opt.noise;
		t->trace = opt.trace;
		t->op = opt.from;
		if (pthread_create(&ids[i], NULL, run_thread, t)) {
			printf("Bail out! no thread can be created\n");
			exit(1);
		}
	}
	watch(threads, ids, round, opt.seconds ? begin + opt.seconds * 1000000000ULL / opt.rounds :
						 UINT64_MAX);
	stop_noise = true;
	if (opt.noise)
		pthread_join(noise, NULL);
	for (i = 0; i < opt.threads; i++)
		failed += report_thread(&threads[i], round, number);
	summarize(threads, odp_now() - begin, before);
	*ops += total_ops(threads);
	fflush(stdout);
	for (i = 0; i < opt.threads; i++)
		close_all(&threads[i]);
	free(threads);
	return failed;
}

/* The kernel looks for equal pages all the time, where it can. */
static void run_ksm(bool run)
{
	FILE *file = fopen("/sys/kernel/mm/ksm/run", "we");

	if (file) {
		fputs(run ? "1" : "2", file);
		fclose(file);
	}
}

static bool swap_is_on(void)
{
	FILE *file = fopen("/proc/swaps", "re");
	int c, lines = 0;

	while (file && (c = getc(file)) != EOF)
		lines += c == '\n';
	if (file)
		fclose(file);
	return lines > 1;
}

/* With both limits: was there time for all operations? */
static void report_time(uint64_t ops, int number)
{
	const uint64_t wanted = opt.rounds * opt.threads * (opt.ops - opt.from);

	printf("ok %d all_operations", number);
	if (ops < wanted)
		printf(" # SKIP time was over after %lu of %lu operations", ops, wanted);
	printf("\n");
}

static int run_rounds(struct odp_dev *dev)
{
	const bool both = opt.seconds && opt.ops < ANY_OPS;
	int planned = opt.rounds * opt.threads * KINDS + both, number = 0, failed = 0;
	uint64_t ops = 0;
	unsigned int round;
	const char *skip = NULL;

	printf("TAP version 13\n1..%d\n# device %s, swap is %s\n", planned, dev->name,
	       swap_is_on() ? "on" : "off: nothing private is paged out");
	for (round = 1; round <= opt.rounds && !skip; round++) {
		if (!odp_supported(dev))
			skip = "the kernel has no ODP for the device";
		else if (interrupted)
			skip = "interrupted";
		else if (failed)
			skip = "a round before has failed";
		else
			failed += run_round(dev, round, &number, &ops);
	}
	if (both && !skip && !failed && !interrupted)
		report_time(ops, ++number);
	while (number < planned) {
		number++;
		printf("ok %d not_run_%d # SKIP %s\n", number, number,
		       skip ? skip : interrupted ? "interrupted" : "a round before has failed");
	}
	return failed;
}

/* --- options ---------------------------------------- */

static void usage(FILE *out)
{
	fprintf(out,
		"usage: odp-torture [options]\n"
		"Random RDMA and memory management on on-demand-paged memory, every byte checked\n"
		"against a model; prints TAP. Ctrl-C ends it with a summary.\n"
		"\n"
		"  --seed N          repeat the stream of this seed (default: from the time)\n"
		"  --ops N           end each thread after operation N - 1 (default 1000)\n"
		"  --seconds N       end after N seconds, also before --ops; without --ops only then\n"
		"  --rounds N        N times, with seeds that count up, on fresh memory\n"
		"  --threads N       N streams at once, each on its own memory (at most 16)\n"
		"  --thread N        only the stream of thread N\n"
		"  --noise           a thread beside them that maps, touches, unmaps and forks\n"
		"  --kinds A,B       of memory: anonymous,lazyfree,thp,hugetlb,memfd,ext4,fsdax,\n"
		"                    ext4-private,fsdax-private,userfault\n"
		"  --from N          begin with operation N, on fresh memory\n"
		"  --check-every N   operations between two checks of everything (default 50)\n"
		"  --damage N        flip a bit after operation N, to see it found\n"
		"  --trace           print each step\n"
		"  --device NAME     RDMA device (default: the first soft-RoCE device)\n"
		"  --help            this text\n");
}

static bool parse_kinds(char *list)
{
	char *name, *save = NULL;
	int kind;

	opt.kinds = 0;
	for (name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		kind = kind_find(name);
		if (kind < 0)
			return false;
		opt.kinds |= BIT(kind);
	}
	return opt.kinds || odp_fail(EINVAL, "--kinds wants a kind") == 0;
}

/* Returns 0 to go on, 1 to end well, -1 to end with usage, -2 with odp_error(). */
static int parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "seed", required_argument, NULL, 's' },
		{ "ops", required_argument, NULL, 'o' },
		{ "seconds", required_argument, NULL, 'S' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "threads", required_argument, NULL, 't' },
		{ "thread", required_argument, NULL, 'T' },
		{ "noise", no_argument, NULL, 'n' },
		{ "kinds", required_argument, NULL, 'k' },
		{ "from", required_argument, NULL, 'f' },
		{ "check-every", required_argument, NULL, 'c' },
		{ "damage", required_argument, NULL, 'D' },
		{ "trace", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	bool ok = true;
	int c;

	while (ok && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd': opt.device = optarg; break;
		case 's': ok = !odp_parse_number(optarg, 0, UINT64_MAX, &opt.seed); break;
		case 'o': ok = !odp_parse_number(optarg, 1, ANY_OPS, &opt.ops); break;
		case 'S': ok = !odp_parse_number(optarg, 1, 10000000, &opt.seconds); break;
		case 'r': ok = !odp_parse_number(optarg, 1, 1000, &opt.rounds); break;
		case 't': ok = !odp_parse_number(optarg, 1, MAX_THREADS, &opt.threads); break;
		case 'T': ok = !odp_parse_number(optarg, 0, UINT32_MAX, &opt.only); break;
		case 'n': opt.noise = true; break;
		case 'k': ok = parse_kinds(optarg); break;
		case 'f': ok = !odp_parse_number(optarg, 0, ANY_OPS, &opt.from); break;
		case 'c': ok = !odp_parse_number(optarg, 1, ANY_OPS, &opt.check_every); break;
		case 'D': ok = !odp_parse_number(optarg, 0, ANY_OPS, &opt.damage); break;
		case 'v': opt.trace = true; break;
		case 'h': usage(stdout); return 1;
		default: return -1;
		}
	}
	if (!ok)
		return -2;
	if (optind < argc)
		return -1;
	if (!opt.ops)
		opt.ops = opt.seconds ? ANY_OPS : opt.from + 1000;
	if (opt.only < UINT64_MAX && opt.threads > 1)
		return odp_fail(2, "--thread is one thread alone, without --threads");
	return opt.from < opt.ops ? 0 : odp_fail(2, "--from is not before --ops");
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = interrupt, .sa_flags = SA_RESTART };
	struct odp_dev dev;
	int ret;

	opt.seed = (odp_now() ^ (uint64_t)time(NULL) << 20) % 1000000000;
	ret = parse_options(argc, argv);
	if (ret == -1)
		usage(stderr);
	if (ret == -2)
		fprintf(stderr, "odp-torture: %s\n", odp_error());
	if (ret)
		return ret < 0 ? 2 : 0;

	if (odp_open(&dev, opt.device)) {
		fprintf(stderr, "odp-torture: %s\n", odp_error());
		return 1;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	run_ksm(true);
	ret = run_rounds(&dev);
	run_ksm(false);
	odp_close(&dev);
	if (interrupted && !ret)
		fprintf(stderr, "odp-torture: interrupted\n");
	return ret ? 1 : interrupted ? 130 : 0;
}
