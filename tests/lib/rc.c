// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#include "guest.h"
#include "rc.h"

#include <errno.h>
#include <string.h>

int rc_create(struct odp_end *end, struct odp_dev *dev, bool srq)
{
	struct ibv_srq_init_attr srq_init = { .attr = { .max_wr = 64, .max_sge = 4 } };
	struct ibv_qp_init_attr_ex init = {
		.qp_type = IBV_QPT_RC,
		.cap = {
			.max_send_wr = 64, .max_recv_wr = 64, .max_send_sge = 4, .max_recv_sge = 4,
		},
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = dev->pd,
		.send_ops_flags = IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD |
				  IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
				  IBV_QP_EX_WITH_ATOMIC_WRITE | IBV_QP_EX_WITH_FLUSH,
	};

	errno = 0;
	end->cq = ibv_create_cq(dev->ctx, 128, NULL, NULL, 0);
	if (!end->cq)
		return guest_fail("ibv_create_cq");
	if (srq) {
		end->srq = ibv_create_srq(dev->pd, &srq_init);
		if (!end->srq)
			return guest_fail("ibv_create_srq");
	}
	init.send_cq = end->cq;
	init.recv_cq = end->cq;
	init.srq = end->srq;
	end->qp = ibv_create_qp_ex(dev->ctx, &init);
	return end->qp ? 0 : guest_fail("ibv_create_qp_ex");
}

int rc_connect(struct odp_end *end, struct odp_dev *dev, const union ibv_gid *gid, uint32_t peer,
	       const struct rc_attr *how)
{
	static const struct {
		enum ibv_qp_state state;
		int mask;
	} steps[] = {
		{ IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS },
		{ IBV_QPS_RTR, IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			       IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER },
		{ IBV_QPS_RTS, IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			       IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC },
	};
	struct ibv_qp_attr attr = {
		.port_num = dev->port,
		.qp_access_flags = how->rights,
		.dest_qp_num = peer,
		.max_rd_atomic = 16,
		.max_dest_rd_atomic = how->resources,
		.min_rnr_timer = 12,
		.timeout = how->timeout,
		.retry_cnt = how->retry_cnt,
		.rnr_retry = 7,
		.ah_attr = {
			.is_global = 1,
			.port_num = dev->port,
			.grh = { .dgid = *gid, .sgid_index = dev->gid_index, .hop_limit = 64 },
		},
	};
	size_t i;
	int ret;

	end->peer = peer;
	attr.path_mtu = IBV_MTU_256;
	while (128 << attr.path_mtu < how->mtu)
		attr.path_mtu++;
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		attr.qp_state = steps[i].state;
		ret = ibv_modify_qp(end->qp, &attr, IBV_QP_STATE | steps[i].mask);
		if (ret)
			return odp_fail(ret, "QP to state %d: %s", steps[i].state, strerror(ret));
	}
	return 0;
}
