// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * test: a GPU stand-in with memory of its own mirrors a process, alone and beside an RDMA device
 * stage: check
 * where: guest
 * kernels: tree debug
 * vm: --pmem 256M --swap 256M --append 'memmap=512M$0x40000000 test_hmm.spm_addr_dev0=0x40000000 test_hmm.spm_addr_dev1=0x50000000'
 * budget: 180
 *
 * The GPU is the kernel's lib/test_hmm.c, /dev/hmm_dmirror*: a device that reads
 * and writes the memory of the process that opened it, and migrates it to memory
 * of its own, which the CPU cannot reach (private) or can (coherent). What the
 * kernel's own hmm-tests do not have is here. Each subtest compares bytes, errors
 * or what the device says of each page.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gpu.h"
#include "guest.h"
#include "suite.h"

#ifndef __NR_process_mrelease
#define __NR_process_mrelease	448
#endif

#define PAGE		4096UL
#define PAGES		96UL		/* more than the driver's pieces of 64 */
#define LENGTH		(PAGES * PAGE)
#define ROUNDS		200

/* What a snapshot says of a page, as in the kernel's lib/test_hmm_uapi.h. */
#define GPU_PAGE_ERROR		0xff
#define GPU_PAGE_KIND(perm)	((perm) & 0xf0)	/* where it is; 0 for the system's */
#define GPU_PAGE_PRIVATE	0x20
#define GPU_PAGE_COHERENT	0x40

struct gpu {
	const char *path;
	uint8_t page;			/* what a page in its memory is called */
	int fd;				/* a mirror of this process */
};

struct ctx {
	struct odp_dev dev;
	struct odp_pair pair;
	uint8_t *peer;			/* pinned, at the other end of every transfer */
	struct odp_mr peer_mr;
	struct gpu gpu;			/* of this subtest */
	uint8_t *buffer;		/* what the GPU's data comes from and goes to */
	uint64_t seed;
};

/* --- helpers ------------------------------------------------------------------ */

/* Returns 0 or the negative errno as it is, with no message. */
static int command(int fd, unsigned long request, const void *addr, void *data, size_t length,
		   struct gpu_cmd *cmd)
{
	*cmd = (struct gpu_cmd){
		.addr = (uintptr_t)addr,
		.ptr = (uintptr_t)data,
		.npages = length / PAGE,
	};
	return ioctl(fd, request, cmd) ? -errno : 0;
}

/* The same, and want @wanted. @what is for the message. */
static int want(int fd, unsigned long request, const void *addr, void *data, size_t length,
		int wanted, const char *what)
{
	struct gpu_cmd cmd;
	int ret = command(fd, request, addr, data, length, &cmd);

	if (ret != wanted)
		return odp_fail(EPROTO, "%s: %s, not %s", what, strerror(-ret), strerror(-wanted));
	if (!ret && request != GPU_CHECK_EXCLUSIVE && cmd.cpages != length / PAGE)
		return odp_fail(EPROTO, "%s: did %lu of %zu pages", what,
				(unsigned long)cmd.cpages, length / PAGE);
	return 0;
}

/* The GPU reads [@addr, @addr + @length), which has to be the pattern @seed. */
static int gpu_read(struct ctx *ctx, const void *addr, size_t length, uint64_t seed,
		    const char *what)
{
	int ret;

	memset(ctx->buffer, 0xee, length);
	ret = want(ctx->gpu.fd, GPU_READ, addr, ctx->buffer, length, 0, what);
	return ret ?: guest_verify(ctx->buffer, length, seed, 0, what);
}

static int gpu_write(struct ctx *ctx, void *addr, size_t length, uint64_t seed, const char *what)
{
	odp_fill(ctx->buffer, length, seed, 0);
	return want(ctx->gpu.fd, GPU_WRITE, addr, ctx->buffer, length, 0, what);
}

/* Migrate to the GPU's memory, which has to hold the pattern @seed then. */
static int gpu_migrate(struct ctx *ctx, void *addr, size_t length, uint64_t seed)
{
	int ret;

	memset(ctx->buffer, 0xee, length);
	ret = want(ctx->gpu.fd, GPU_TO_DEVICE, addr, ctx->buffer, length, 0, "migration to the device");
	return ret ?: guest_verify(ctx->buffer, length, seed, 0, "migration to the device");
}

/* Each page has to be in memory of @kind: the GPU's, or 0, the system's. */
static int want_pages(struct ctx *ctx, const void *addr, size_t length, uint8_t kind)
{
	uint8_t perm[PAGES];
	size_t i;
	int ret;

	ret = want(ctx->gpu.fd, GPU_SNAPSHOT, addr, perm, length, 0, "snapshot");
	for (i = 0; i < length / PAGE && !ret; i++)
		if (GPU_PAGE_KIND(perm[i]) != kind)
			ret = odp_fail(EPROTO, "page %zu is of kind %#x, not %#x", i,
				       GPU_PAGE_KIND(perm[i]), kind);
	return ret;
}

static int map_anon(uint8_t **addr)
{
	*addr = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return *addr == MAP_FAILED ? guest_fail("mmap") : 0;
}

/* --- memory that is not ordinary ------------------------------------------------ */

/* A file that is its own memory is mirrored as any other, and stays where it is. */
static int dax(struct ctx *ctx)
{
	struct odp_mem mem;
	int ret;

	ret = odp_mem_map(&mem, ODP_MEM_FSDAX, LENGTH, NULL);
	if (ret)
		return ret;
	odp_fill(mem.addr, LENGTH, 1, 0);
	ret = gpu_read(ctx, mem.addr, LENGTH, 1, "the device's read");
	if (!ret)
		ret = gpu_write(ctx, mem.addr, LENGTH, 2, "the device's write");
	if (!ret)
		ret = guest_verify(mem.addr, LENGTH, 2, 0, "the mapping");
	if (!ret && pread(mem.fd, ctx->buffer, LENGTH, 0) != (ssize_t)LENGTH)
		ret = guest_fail("pread");
	if (!ret)
		ret = guest_verify(ctx->buffer, LENGTH, 2, 0, "the file");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_TO_DEVICE, mem.addr, ctx->buffer, LENGTH, -EINVAL,
			   "migration of a DAX mapping");
	if (!ret)
		ret = guest_verify(mem.addr, LENGTH, 2, 0, "after the migration that was refused");
	if (!ret)
		ret = want_pages(ctx, mem.addr, LENGTH, 0);
	if (!ret)
		ret = gpu_read(ctx, mem.addr, LENGTH, 2, "the device's second read");
	/* The file loses the pages, and the device with it. */
	if (!ret)
		ret = odp_mem_discard(&mem, 0, LENGTH);
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_READ, mem.addr, ctx->buffer, LENGTH, 0, "a read of a hole");
	if (!ret && !odp_compare(ctx->buffer, NULL, LENGTH, NULL))
		ret = odp_fail(EBADMSG, "the device sees bytes where the file has a hole");
	odp_mem_unmap(&mem);
	return ret;
}

/* Not in the kernel's direct map: no device may have it, and nobody's bytes change. */
static int secretmem(struct ctx *ctx)
{
	uint8_t perm[PAGES], *addr;
	size_t i;
	int ret;

	ret = guest_map_secret(&addr, LENGTH);
	if (ret)
		return ret;
	odp_fill(addr, LENGTH, 3, 0);
	ret = want(ctx->gpu.fd, GPU_READ, addr, ctx->buffer, LENGTH, -EFAULT, "a read");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_WRITE, addr, ctx->buffer, LENGTH, -EFAULT, "a write");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_EXCLUSIVE, addr, ctx->buffer, LENGTH, -EFAULT,
			   "exclusive access");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_TO_DEVICE, addr, ctx->buffer, LENGTH, -EINVAL,
			   "migration");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_SNAPSHOT, addr, perm, LENGTH, 0, "snapshot");
	for (i = 0; i < PAGES && !ret; i++)
		if (perm[i] != GPU_PAGE_ERROR)
			ret = odp_fail(EPROTO, "the device sees page %zu as %#x", i, perm[i]);
	if (!ret)
		ret = guest_verify(addr, LENGTH, 3, 0, "secret memory");
	munmap(addr, LENGTH);
	return ret;
}

/* --- the end of the process ------------------------------------------------------ */

/* A process whose memory the GPU mirrors, with a descriptor of that mirror here. */
struct victim {
	pid_t pid;
	int fd;
	uint8_t *addr;			/* in the victim; it holds the pattern 4 */
};

static void be_victim(const struct ctx *ctx, int sock, uint8_t *addr)
{
	int fd = open(ctx->gpu.path, O_RDWR | O_CLOEXEC);

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	odp_fill(addr, LENGTH, 4, 0);
	if (fd < 0 || guest_send_fd(sock, fd))
		_exit(1);
	close(fd);
	for (;;)
		pause();
}

/* Killed, it stops at its end while it has its memory still. */
static int start_victim(struct ctx *ctx, struct victim *victim)
{
	int sock[2], status, ret;

	ret = map_anon(&victim->addr);
	if (ret)
		return ret;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock))
		return guest_fail("socketpair");
	victim->pid = fork();
	if (!victim->pid)
		be_victim(ctx, sock[1], victim->addr);
	close(sock[1]);
	if (victim->pid < 0)
		ret = guest_fail("fork");
	else if (waitpid(victim->pid, &status, 0) < 0 || !WIFSTOPPED(status) ||
		 ptrace(PTRACE_SETOPTIONS, victim->pid, NULL, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL) ||
		 ptrace(PTRACE_CONT, victim->pid, NULL, NULL))
		ret = guest_fail("ptrace");
	if (!ret) {
		victim->fd = guest_receive_fd(sock[0]);
		ret = victim->fd < 0 ? victim->fd : 0;
	}
	close(sock[0]);
	/* The mapping here is another one by now, of zeroes. */
	if (!ret)
		ret = want(victim->fd, GPU_READ, victim->addr, ctx->buffer, LENGTH, 0,
			   "a read of the other process");
	return ret ?: guest_verify(ctx->buffer, LENGTH, 4, 0, "a read of the other process");
}

static int kill_victim(struct victim *victim)
{
	int status;

	if (kill(victim->pid, SIGKILL) || waitpid(victim->pid, &status, 0) != victim->pid)
		return guest_fail("kill");
	if (status >> 8 != (SIGTRAP | PTRACE_EVENT_EXIT << 8))
		return odp_fail(EPROTO, "the victim did not stop at its end: status %#x", status);
	return 0;
}

static int end_victim(struct victim *victim, int ret)
{
	int status;

	if (victim->pid > 0) {
		kill(victim->pid, SIGKILL);
		ptrace(PTRACE_CONT, victim->pid, NULL, NULL);
		while (waitpid(victim->pid, &status, 0) == victim->pid && WIFSTOPPED(status))
			ptrace(PTRACE_CONT, victim->pid, NULL, NULL);
	}
	if (victim->addr)
		munmap(victim->addr, LENGTH);
	victim->pid = 0;
	return ret;
}

/* The mirror outlives the mm: everything is refused from then on, nothing hangs. */
static int mm_dies(struct ctx *ctx)
{
	struct victim victim = { .fd = -1 };
	void *addr;
	int ret;

	ret = start_victim(ctx, &victim);
	addr = victim.addr;
	if (!ret)
		ret = kill_victim(&victim);
	ret = end_victim(&victim, ret);
	if (!ret)
		ret = want(victim.fd, GPU_READ, addr, ctx->buffer, LENGTH, -EFAULT, "a read");
	if (!ret)
		ret = want(victim.fd, GPU_WRITE, addr, ctx->buffer, LENGTH, -EFAULT, "a write");
	if (!ret)
		ret = want(victim.fd, GPU_TO_DEVICE, addr, ctx->buffer, LENGTH, -EINVAL, "migration");
	if (!ret)
		ret = want(victim.fd, GPU_TO_SYSTEM, addr, ctx->buffer, LENGTH, -EINVAL,
			   "migration back");
	if (!ret)
		ret = want(victim.fd, GPU_EXCLUSIVE, addr, ctx->buffer, LENGTH, -EINVAL,
			   "exclusive access");
	if (!ret)
		ret = want(victim.fd, GPU_SNAPSHOT, addr, ctx->buffer, LENGTH, -EINVAL, "snapshot");
	if (victim.fd >= 0)
		close(victim.fd);
	return ret;
}

/* The same with the pages in the GPU's memory, which has them back in the end. */
static int mm_dies_migrated(struct ctx *ctx)
{
	struct victim victim = { .fd = -1 };
	int ret;

	ret = start_victim(ctx, &victim);
	if (!ret)
		ret = want(victim.fd, GPU_TO_DEVICE, victim.addr, ctx->buffer, LENGTH, 0, "migration");
	if (!ret)
		ret = guest_verify(ctx->buffer, LENGTH, 4, 0, "migration");
	ret = end_victim(&victim, ret);
	if (victim.fd >= 0)
		close(victim.fd);
	return ret;
}

/* In kB, of a process that has not let go of its memory yet. */
static long anonymous_memory(pid_t pid)
{
	char path[64], line[256];
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "RssAnon: %ld", &value) == 1)
			break;
	if (file)
		fclose(file);
	return value;
}

/*
 * The OOM reaper's way, taken by process_mrelease(): the memory of a process that is
 * being killed goes in an invalidation that must not block.
 */
static int reaped(struct ctx *ctx)
{
	struct victim victim = { .fd = -1 };
	long before = 0, after = 0;
	int pidfd = -1, ret;

	ret = start_victim(ctx, &victim);
	if (!ret)
		ret = kill_victim(&victim);
	if (!ret) {
		before = anonymous_memory(victim.pid);
		pidfd = syscall(SYS_pidfd_open, victim.pid, 0);
		if (pidfd < 0 || syscall(__NR_process_mrelease, pidfd, 0))
			ret = guest_fail("process_mrelease");
		after = anonymous_memory(victim.pid);
	}
	if (!ret && before - after < (long)LENGTH / 1024)
		ret = odp_fail(EPROTO, "%ld kB before, %ld kB after: nothing was reaped", before, after);
	if (!ret)
		ret = want(victim.fd, GPU_READ, victim.addr, ctx->buffer, LENGTH, -EFAULT,
			   "a read of reaped memory");
	ret = end_victim(&victim, ret);
	if (pidfd >= 0)
		close(pidfd);
	if (victim.fd >= 0)
		close(victim.fd);
	return ret;
}

/* --- migration ------------------------------------------------------------------ */

/* The device's own pages, found by a fault and not by the migration. */
static int migrated_faulted(struct ctx *ctx)
{
	uint8_t *addr;
	int ret;

	ret = map_anon(&addr);
	if (ret)
		return ret;
	odp_fill(addr, LENGTH, 5, 0);
	ret = gpu_migrate(ctx, addr, LENGTH, 5);
	/* Takes the entries away, and leaves the pages where they are. */
	if (!ret && mprotect(addr, LENGTH, PROT_READ))
		ret = guest_fail("mprotect");
	if (!ret)
		ret = gpu_read(ctx, addr, LENGTH, 5, "a read of a migrated page");
	if (!ret)
		ret = want_pages(ctx, addr, LENGTH, ctx->gpu.page);
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_WRITE, addr, ctx->buffer, LENGTH, -EPERM,
			   "a write to a read-only mapping");
	if (!ret && mprotect(addr, LENGTH, PROT_READ | PROT_WRITE))
		ret = guest_fail("mprotect");
	if (!ret)
		ret = gpu_write(ctx, addr, LENGTH, 6, "a write to a migrated page");
	if (!ret)
		ret = guest_verify(addr, LENGTH, 6, 0, "what the CPU sees");
	munmap(addr, LENGTH);
	return ret;
}

/*
 * Pages that KSM has merged stay in the system's memory: unmerging would not find
 * them elsewhere, and their way back ends in the middle.
 */
static int merged(struct ctx *ctx)
{
	uint8_t *addr;
	size_t i;
	int ret;

	ret = map_anon(&addr);
	if (ret)
		return ret;
	for (i = 0; i < PAGES; i++)
		odp_fill(addr + i * PAGE, PAGE, 7, 0);
	ret = guest_merge(addr, LENGTH);
	/* The driver wants to show what it has, and has nothing. */
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_TO_DEVICE, addr, ctx->buffer, LENGTH, -ENOENT,
			   "migration of merged pages");
	if (!ret && madvise(addr, LENGTH, MADV_UNMERGEABLE))
		ret = guest_fail("MADV_UNMERGEABLE");
	if (!ret)
		ret = guest_forget_merged();
	for (i = 0; i < PAGES && !ret; i++)
		ret = guest_verify(addr + i * PAGE, PAGE, 7, 0, "what the CPU sees");
	/* And now they may. */
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_TO_DEVICE, addr, ctx->buffer, LENGTH, 0, "migration");
	if (!ret)
		ret = want_pages(ctx, addr, LENGTH, ctx->gpu.page);
	munmap(addr, LENGTH);
	return ret;
}

struct mover {
	pthread_t thread;
	int fd;
	uint8_t *addr;
	uint64_t moved;			/* pages that were on the device, and came back */
	uint64_t deadline;
	bool stop;
};

static void *move(void *arg)
{
	uint8_t *buffer = malloc(LENGTH);
	struct mover *mover = arg;
	struct gpu_cmd cmd;

	while (buffer && !__atomic_load_n(&mover->stop, __ATOMIC_RELAXED)) {
		/* What somebody else uses meanwhile stays, and is no error here. */
		command(mover->fd, GPU_TO_DEVICE, mover->addr, buffer, LENGTH, &cmd);
		if (!command(mover->fd, GPU_TO_SYSTEM, mover->addr, buffer, LENGTH, &cmd))
			__atomic_add_fetch(&mover->moved, cmd.cpages, __ATOMIC_RELAXED);
	}
	free(buffer);
	return NULL;
}

static int start_mover(struct ctx *ctx, struct mover *mover, uint8_t *addr)
{
	mover->fd = ctx->gpu.fd;
	mover->addr = addr;
	mover->deadline = odp_now() + ODP_WAIT_MS * 1000000ULL;
	return pthread_create(&mover->thread, NULL, move, mover) ? odp_fail(EAGAIN, "no thread") : 0;
}

/* Go on at least until all of it could have been on the device once. */
static bool go_on(const struct mover *mover, uint64_t round)
{
	return round < ROUNDS || (__atomic_load_n(&mover->moved, __ATOMIC_RELAXED) < PAGES &&
				  odp_now() < mover->deadline);
}

static int stop_mover(struct mover *mover, int ret)
{
	__atomic_store_n(&mover->stop, true, __ATOMIC_RELAXED);
	pthread_join(mover->thread, NULL);
	if (!ret && mover->moved < PAGES)
		ret = odp_fail(EPROTO, "only %lu pages came from the device: this proves nothing",
			       (unsigned long)mover->moved);
	return ret;
}

/* What the device writes while pages are on their way is not lost. */
static int written_while_migrating(struct ctx *ctx)
{
	struct mover mover = {};
	uint64_t i, random = ctx->seed;
	uint8_t *addr;
	int ret;

	ret = map_anon(&addr);
	if (ret)
		return ret;
	odp_fill(addr, LENGTH, 7, 0);
	ret = start_mover(ctx, &mover, addr);
	if (ret)
		return ret;
	for (i = 0; !ret && go_on(&mover, i); i++) {
		uint8_t *page = addr + odp_random(&random) % PAGES * PAGE;

		ret = gpu_write(ctx, page, PAGE, 100 + i, "the device's write");
		if (!ret && i % 2)
			ret = gpu_read(ctx, page, PAGE, 100 + i, "what the device sees");
		if (!ret)
			ret = guest_verify(page, PAGE, 100 + i, 0, "what the CPU sees");
	}
	ret = stop_mover(&mover, ret);
	munmap(addr, LENGTH);
	return ret;
}

/* --- exclusive access -------------------------------------------------------------- */

/* The device keeps a page for itself until the CPU touches it, each page by itself. */
static int exclusive(struct ctx *ctx)
{
	const size_t touched = PAGES / 2;
	struct gpu_cmd cmd;
	uint8_t *addr;
	int ret;

	ret = map_anon(&addr);
	if (ret)
		return ret;
	odp_fill(addr, LENGTH, 8, 0);
	ret = want(ctx->gpu.fd, GPU_CHECK_EXCLUSIVE, addr, NULL, LENGTH, 0, "the check before");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_EXCLUSIVE, addr, ctx->buffer, LENGTH, 0, "exclusive access");
	if (!ret)
		ret = guest_verify(ctx->buffer, LENGTH, 8, 0, "exclusive access");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_CHECK_EXCLUSIVE, addr, NULL, LENGTH, -EPERM, "the check");
	/* The device has entries: it needs no fault, which would give the pages back. */
	odp_fill(ctx->buffer, LENGTH, 9, 0);
	if (!ret)
		ret = command(ctx->gpu.fd, GPU_WRITE, addr, ctx->buffer, LENGTH, &cmd);
	if (!ret && cmd.faults)
		ret = odp_fail(EPROTO, "a write took %lu faults", (unsigned long)cmd.faults);
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_CHECK_EXCLUSIVE, addr, NULL, LENGTH, -EPERM,
			   "the check after a write");
	if (!ret)
		ret = guest_verify(addr + touched * PAGE, PAGE, 9, touched * PAGE, "what the CPU sees");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_CHECK_EXCLUSIVE, addr + touched * PAGE, NULL, PAGE, 0,
			   "the check of a page that the CPU touched");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_CHECK_EXCLUSIVE, addr, NULL, touched * PAGE, -EPERM,
			   "the check of the others");
	if (!ret)
		ret = guest_verify(addr, LENGTH, 9, 0, "what the CPU sees of the others");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_CHECK_EXCLUSIVE, addr, NULL, LENGTH, 0, "the last check");
	munmap(addr, LENGTH);
	return ret;
}

/* Of a huge page the kernel gives no exclusive access: refused, and nothing is lost. */
static int exclusive_huge(struct ctx *ctx)
{
	struct odp_mem mem;
	int ret;

	ret = odp_mem_map(&mem, ODP_MEM_THP, 2 * ODP_MIB, NULL);
	if (ret)
		return ret;
	odp_fill(mem.addr, LENGTH, 10, 0);
	ret = gpu_read(ctx, mem.addr, LENGTH, 10, "a read");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_EXCLUSIVE, mem.addr, ctx->buffer, LENGTH, -EBUSY,
			   "exclusive access to a part of a huge page");
	if (!ret)
		ret = gpu_write(ctx, mem.addr, LENGTH, 11, "a write");
	if (!ret)
		ret = guest_verify(mem.addr, LENGTH, 11, 0, "what the CPU sees");
	if (!ret)
		ret = want(ctx->gpu.fd, GPU_CHECK_EXCLUSIVE, mem.addr, NULL, LENGTH, 0, "the check");
	odp_mem_unmap(&mem);
	return ret;
}

/* --- dirty ------------------------------------------------------------------------- */

/*
 * Memory that the process has given up is writable and clean for the CPU. What the
 * device writes to it then has to get to swap; what nobody writes goes.
 */
static int dirty(struct ctx *ctx)
{
	uint64_t deadline = odp_now() + 20000000000ULL;
	long present = PAGES;
	uint8_t *addr, *given_up;
	int ret;

	ret = map_anon(&addr);
	if (!ret)
		ret = map_anon(&given_up);
	if (ret)
		return ret;
	odp_fill(addr, LENGTH, 11, 0);
	odp_fill(given_up, LENGTH, 11, 0);
	if (madvise(addr, LENGTH, MADV_FREE) || madvise(given_up, LENGTH, MADV_FREE))
		ret = guest_fail("MADV_FREE");
	if (!ret)
		ret = gpu_write(ctx, addr, LENGTH, 12, "the device's write");
	while (!ret && present) {
		if (madvise(addr, LENGTH, MADV_PAGEOUT) || madvise(given_up, LENGTH, MADV_PAGEOUT))
			ret = guest_fail("MADV_PAGEOUT");
		if (!ret)
			ret = guest_write("/proc/sys/vm/drop_caches", "3");
		present = guest_count_pages(addr, LENGTH, GUEST_PRESENT) +
			  guest_count_pages(given_up, LENGTH, GUEST_PRESENT);
		if (!ret && present && odp_now() > deadline)
			ret = odp_fail(EBUSY, "reclaim leaves %ld pages", present);
	}
	if (!ret)
		ret = guest_verify(addr, LENGTH, 12, 0, "what the device wrote, from swap");
	if (!ret && !odp_compare(given_up, NULL, LENGTH, NULL))
		ret = odp_fail(EPROTO, "nothing was thrown away: this proves nothing");
	munmap(addr, LENGTH);
	munmap(given_up, LENGTH);
	return ret;
}

/* --- beside an RDMA device ----------------------------------------------------------- */

static int open_shared(struct ctx *ctx, struct odp_mem *mem, struct odp_mr *mr)
{
	int ret;

	if (!odp_supported(&ctx->dev))
		return odp_fail(ENODEV, "the kernel has no ODP for %s", ctx->dev.name);
	ret = ctx->pair.local.qp ? 0 : odp_connect(&ctx->pair, &ctx->dev, NULL);
	if (!ret)
		ret = odp_mem_map(mem, ODP_MEM_ANON, LENGTH, NULL);
	if (!ret)
		ret = odp_reg(mr, &ctx->dev, mem->addr, LENGTH, ODP_ACCESS | IBV_ACCESS_ON_DEMAND);
	return ret;
}

static int rdma_read(struct ctx *ctx, const struct odp_mr *mr, size_t offset, size_t length,
		     uint64_t seed, const char *what)
{
	int ret;

	memset(ctx->peer, 0xee, length);
	ret = odp_read(&ctx->pair, &ctx->peer_mr, 0, mr, offset, length);
	return ret ?: guest_verify(ctx->peer, length, seed, offset, what);
}

/* One after the other: each sees what the other wrote, wherever the pages are. */
static int with_rdma(struct ctx *ctx)
{
	/* rxe reaches what the CPU reaches: the rest comes home when it faults. */
	uint8_t kind = ctx->gpu.page == GPU_PAGE_PRIVATE ? 0 : ctx->gpu.page;
	struct odp_mem mem = {};
	struct odp_mr mr = {};
	uint64_t round;
	int ret;

	ret = open_shared(ctx, &mem, &mr);
	for (round = 0; round < 8 && !ret; round++) {
		uint64_t seed = 1000 + 2 * round;

		odp_fill(ctx->peer, LENGTH, seed, 0);
		ret = odp_write(&ctx->pair, &ctx->peer_mr, 0, &mr, 0, LENGTH);
		if (!ret)
			ret = gpu_migrate(ctx, mem.addr, LENGTH, seed);
		if (!ret)
			ret = want_pages(ctx, mem.addr, LENGTH, ctx->gpu.page);
		if (!ret)
			ret = rdma_read(ctx, &mr, 0, LENGTH, seed, "RDMA READ of migrated pages");
		if (!ret)
			ret = want_pages(ctx, mem.addr, LENGTH, kind);
		if (!ret)
			ret = gpu_migrate(ctx, mem.addr, LENGTH, seed);
		if (!ret)
			ret = gpu_write(ctx, mem.addr, LENGTH, seed + 1, "the GPU's write");
		if (!ret)
			ret = rdma_read(ctx, &mr, 0, LENGTH, seed + 1, "RDMA READ of what the GPU wrote");
		if (!ret)
			ret = guest_verify(mem.addr, LENGTH, seed + 1, 0, "what the CPU sees");
	}
	odp_dereg(&mr);
	odp_mem_unmap(&mem);
	return ret;
}

/* All at once: the GPU migrates to and fro under RDMA traffic. */
static int under_rdma(struct ctx *ctx)
{
	struct odp_counters before, after;
	struct mover mover = {};
	struct odp_mem mem = {};
	struct odp_mr mr = {};
	uint64_t i, random = ctx->seed;
	uint8_t *model = calloc(1, LENGTH);
	struct odp_mismatch bad;
	int ret;

	ret = model ? open_shared(ctx, &mem, &mr) : odp_fail(ENOMEM, "out of memory");
	if (!ret)
		ret = odp_counters(&mr, &before);
	if (!ret)
		ret = start_mover(ctx, &mover, mem.addr);
	for (i = 0; !ret && go_on(&mover, i); i++) {
		size_t offset = odp_random(&random) % LENGTH;
		size_t length = 1 + odp_random(&random) % (LENGTH - offset);

		odp_fill(ctx->peer, length, i, offset);
		memcpy(model + offset, ctx->peer, length);
		ret = odp_write(&ctx->pair, &ctx->peer_mr, 0, &mr, offset, length);
		if (!ret)
			ret = rdma_read(ctx, &mr, offset, length, i, "RDMA READ");
	}
	if (mover.thread)
		ret = stop_mover(&mover, ret);
	if (!ret && !odp_compare(mem.addr, model, LENGTH, &bad))
		ret = odp_fail(EBADMSG, "in the end byte %zu is %#x, should be %#x; %zu wrong",
			       bad.offset, bad.got, bad.expected, bad.count);
	if (!ret)
		ret = odp_counters(&mr, &after);
	if (!ret && after.invalidations == before.invalidations)
		ret = odp_fail(EPROTO, "no migration was an invalidation of the MR");
	odp_dereg(&mr);
	odp_mem_unmap(&mem);
	free(model);
	return ret;
}

/* --- the suite ------------------------------------------------------------------------ */

static const struct gpu gpus[] = {
	{ "/dev/hmm_dmirror0", GPU_PAGE_PRIVATE, -1 },
	{ "/dev/hmm_dmirror2", GPU_PAGE_COHERENT, -1 },
};

static const struct {
	const char *name;
	int gpu;			/* which of gpus[] */
	int (*run)(struct ctx *ctx);
} tests[] = {
	{ "dax", 0, dax },
	{ "coherent_dax", 1, dax },
	{ "secretmem", 0, secretmem },
	{ "coherent_secretmem", 1, secretmem },
	{ "mm_dies", 0, mm_dies },
	{ "mm_dies_migrated", 0, mm_dies_migrated },
	{ "coherent_mm_dies_migrated", 1, mm_dies_migrated },
	{ "reaped", 0, reaped },
	{ "migrated_faulted", 0, migrated_faulted },
	{ "coherent_migrated_faulted", 1, migrated_faulted },
	{ "merged", 0, merged },
	{ "coherent_merged", 1, merged },
	{ "written_while_migrating", 0, written_while_migrating },
	{ "coherent_written_while_migrating", 1, written_while_migrating },
	{ "exclusive", 0, exclusive },
	{ "exclusive_huge", 0, exclusive_huge },
	{ "dirty", 0, dirty },
	{ "with_rdma", 0, with_rdma },
	{ "coherent_with_rdma", 1, with_rdma },
	{ "under_rdma", 0, under_rdma },
	{ "coherent_under_rdma", 1, under_rdma },
};

static const char *name_test(size_t i)
{
	return i < ARRAY_SIZE(tests) ? tests[i].name : NULL;
}

static int open_ctx(void *arg, const char *device)
{
	struct ctx *ctx = arg;

	ctx->buffer = aligned_alloc(PAGE, LENGTH);
	if (!ctx->buffer)
		return odp_fail(ENOMEM, "out of memory");
	return guest_open_peer(&ctx->dev, device, &ctx->peer_mr, &ctx->peer, LENGTH);
}

static void close_ctx(void *arg)
{
	struct ctx *ctx = arg;

	odp_disconnect(&ctx->pair);
	free(ctx->buffer);
	guest_close_peer(&ctx->dev, &ctx->peer_mr, ctx->peer);
}

static int run_test(void *arg, size_t i, uint64_t seed)
{
	struct ctx *ctx = arg;
	int ret;

	ctx->seed = seed;
	ctx->gpu = gpus[tests[i].gpu];
	ctx->gpu.fd = open(ctx->gpu.path, O_RDWR | O_CLOEXEC);
	/* The rig has them: without one it is the rig that is wrong. */
	if (ctx->gpu.fd < 0)
		return odp_fail(EIO, "%s: %s; see the vm: line of tests/gpu.c", ctx->gpu.path,
				strerror(errno));
	ret = tests[i].run(ctx);
	close(ctx->gpu.fd);
	return ret;
}

static int recover(void *arg)
{
	struct ctx *ctx = arg;

	odp_disconnect(&ctx->pair);
	return 0;
}

int main(int argc, char **argv)
{
	struct ctx ctx = {};
	const struct suite suite = {
		.program = "test-gpu",
		.about = "A GPU stand-in (lib/test_hmm.c, CONFIG_TEST_HMM) mirrors this process,\n"
			 "alone and beside an RDMA device.",
		.ctx = &ctx,
		.dev = &ctx.dev,
		.name = name_test,
		.open = open_ctx,
		.close = close_ctx,
		.run = run_test,
		.recover = recover,
	};

	return suite_main(&suite, argc, argv);
}
