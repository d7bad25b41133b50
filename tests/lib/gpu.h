/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The GPU stand-in, /dev/hmm_dmirror*, as in the kernel's lib/test_hmm_uapi.h. Its
 * memory is out of the CPU's reach in 0 and 1.
 */
#ifndef GPU_H
#define GPU_H

#include <stdint.h>
#include <sys/ioctl.h>

struct gpu_cmd {
	uint64_t addr;
	uint64_t ptr;		/* what was read or migrated goes here, what is written comes from */
	uint64_t npages;
	uint64_t cpages;
	uint64_t faults;
};

#define GPU_READ		_IOWR('H', 0x00, struct gpu_cmd)
#define GPU_WRITE		_IOWR('H', 0x01, struct gpu_cmd)
#define GPU_TO_DEVICE		_IOWR('H', 0x02, struct gpu_cmd)
#define GPU_TO_SYSTEM		_IOWR('H', 0x03, struct gpu_cmd)
#define GPU_SNAPSHOT		_IOWR('H', 0x04, struct gpu_cmd)
#define GPU_EXCLUSIVE		_IOWR('H', 0x05, struct gpu_cmd)
#define GPU_CHECK_EXCLUSIVE	_IOWR('H', 0x06, struct gpu_cmd)

#endif
