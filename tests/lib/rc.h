/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * rc - RC queue pairs that can FLUSH and do an ATOMIC WRITE, which wants more of
 * libibverbs than odp_connect() uses, and than Debian 12 has.
 *
 * Conventions are those of odp.h: int is 0 or a negative errno, with a line of
 * text in odp_error().
 */
#ifndef RC_H
#define RC_H

#include "odp.h"

struct rc_attr {
	int mtu;		/* 256, 512, 1024, 2048 or 4096 */
	int rights;		/* IBV_ACCESS_ flags of the queue pair */
	int resources;		/* what a responder has for READs, atomics and FLUSHes */
	int timeout;		/* local ACK timeout: 4.096 us << timeout */
	int retry_cnt;		/* 7: rxe retries for ever */
};

#define RC_ATTR_INIT { .mtu = 1024, .resources = 16, .timeout = 18, .retry_cnt = 6 }

/* A queue pair with what it completes on, also a shared receive queue if @srq. */
int rc_create(struct odp_end *end, struct odp_dev *dev, bool srq);

/* Connect it with queue pair @peer of the device with @gid. */
int rc_connect(struct odp_end *end, struct odp_dev *dev, const union ibv_gid *gid, uint32_t peer,
	       const struct rc_attr *how);

#endif
