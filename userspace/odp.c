// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#define _GNU_SOURCE
#include "odp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <rdma/rdma_netlink.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static __thread char error_text[512];

const char *odp_error(void)
{
	return error_text;
}

int odp_fail(int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(error_text, sizeof(error_text), fmt, args);
	va_end(args);
	return -err;
}

/* For failed calls that set errno: "what: reason". */
static int fail_errno(const char *what)
{
	int err = errno ? errno : EIO;

	return odp_fail(err, "%s: %s", what, strerror(err));
}

int odp_parse_number(const char *text, uint64_t low, uint64_t high,
		     uint64_t *value)
{
	unsigned long long number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, 0);
	if (*text < '0' || *text > '9' || *end || errno || number < low ||
	    number > high)
		return odp_fail(EINVAL, "%s is not a number from %lu to %lu",
				text, low, high);
	*value = number;
	return 0;
}

uint64_t odp_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* --- the device ---------------------------------------------------------- */

static bool is_ipv4_gid(const union ibv_gid *gid)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(gid->raw, prefix, sizeof(prefix));
}

static int find_gid(struct odp_dev *dev)
{
	struct ibv_gid_entry entry;
	struct ibv_port_attr port;
	int p, i;

	for (p = 1; p <= dev->attr.phys_port_cnt; p++) {
		if (ibv_query_port(dev->ctx, p, &port) || port.state != IBV_PORT_ACTIVE)
			continue;
		for (i = 0; i < port.gid_tbl_len; i++) {
			if (ibv_query_gid_ex(dev->ctx, p, i, &entry, 0) ||
			    entry.gid_type != IBV_GID_TYPE_ROCE_V2 || !is_ipv4_gid(&entry.gid))
				continue;
			dev->port = p;
			dev->gid_index = i;
			dev->gid = entry.gid;
			return 0;
		}
	}
	return odp_fail(ENODEV, "%s: no active port with a RoCE v2 IPv4 address; is its interface up and addressed?",
			dev->name);
}

static void query_odp(struct odp_dev *dev)
{
	struct ibv_device_attr_ex attr = {};

	/* A device that cannot tell has no ODP. */
	if (ibv_query_device_ex(dev->ctx, NULL, &attr))
		return;
	dev->odp_general = attr.odp_caps.general_caps;
	dev->odp_rc = attr.odp_caps.per_transport_caps.rc_odp_caps;
	dev->odp_uc = attr.odp_caps.per_transport_caps.uc_odp_caps;
	dev->odp_ud = attr.odp_caps.per_transport_caps.ud_odp_caps;
}

static int open_device(struct odp_dev *dev, struct ibv_device *device)
{
	int ret;

	memset(dev, 0, sizeof(*dev));
	snprintf(dev->name, sizeof(dev->name), "%s", ibv_get_device_name(device));
	dev->index = ibv_get_device_index(device);

	errno = 0;
	dev->ctx = ibv_open_device(device);
	if (!dev->ctx)
		return fail_errno(dev->name);
	ret = ibv_query_device(dev->ctx, &dev->attr);
	if (ret) {
		odp_close(dev);
		return odp_fail(ret, "ibv_query_device: %s", strerror(ret));
	}
	ret = find_gid(dev);
	if (ret) {
		odp_close(dev);
		return ret;
	}
	errno = 0;
	dev->pd = ibv_alloc_pd(dev->ctx);
	if (!dev->pd) {
		ret = fail_errno("ibv_alloc_pd");
		odp_close(dev);
		return ret;
	}
	query_odp(dev);
	return 0;
}

int odp_open(struct odp_dev *dev, const char *name)
{
	struct ibv_device **list;
	int count, pass, i, ret;

	memset(dev, 0, sizeof(*dev));
	errno = 0;
	list = ibv_get_device_list(&count);
	if (!list)
		return fail_errno("ibv_get_device_list");

	if (name)
		ret = odp_fail(ENODEV, "no RDMA device called %s", name);
	else
		ret = odp_fail(ENODEV, "no RDMA device; make one: rdma link add rxe0 type rxe netdev <interface>");

	/* Soft-RoCE devices in the first pass, whatever they are called. */
	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < count; i++) {
			const char *this = ibv_get_device_name(list[i]);

			if (name ? strcmp(this, name) : !strstr(this, "rxe") == !pass)
				continue;
			ret = open_device(dev, list[i]);
			if (!ret || name)
				goto out;
		}
	}
out:
	ibv_free_device_list(list);
	return ret;
}

void odp_close(struct odp_dev *dev)
{
	if (dev->pd)
		ibv_dealloc_pd(dev->pd);
	if (dev->ctx)
		ibv_close_device(dev->ctx);
	dev->pd = NULL;
	dev->ctx = NULL;
}

bool odp_supported(const struct odp_dev *dev)
{
	const uint32_t need = IBV_ODP_SUPPORT_SEND | IBV_ODP_SUPPORT_RECV |
			      IBV_ODP_SUPPORT_WRITE | IBV_ODP_SUPPORT_READ;

	return (dev->odp_general & IBV_ODP_SUPPORT) && (dev->odp_rc & need) == need;
}

/* --- memory regions ------------------------------------------------------ */

int odp_reg_iova(struct odp_mr *mr, struct odp_dev *dev, void *addr,
		 size_t length, uint64_t iova, int access)
{
	const char *how = access & IBV_ACCESS_ON_DEMAND ? "ODP" : "pinned";

	memset(mr, 0, sizeof(*mr));
	errno = 0;
	mr->mr = ibv_reg_mr_iova(dev->pd, addr, length, iova, access);
	if (!mr->mr) {
		int err = errno ? errno : EIO;

		return odp_fail(err, "registering %zu bytes (%s): %s", length, how,
				strerror(err));
	}
	mr->dev = dev;
	mr->addr = addr;
	mr->length = length;
	mr->iova = iova;
	mr->access = access;
	mr->mrn = UINT32_MAX;
	return 0;
}

int odp_reg(struct odp_mr *mr, struct odp_dev *dev, void *addr, size_t length,
	    int access)
{
	return odp_reg_iova(mr, dev, addr, length, (uintptr_t)addr, access);
}

int odp_dereg(struct odp_mr *mr)
{
	int ret;

	if (!mr->mr)
		return 0;
	ret = ibv_dereg_mr(mr->mr);
	if (ret)
		return odp_fail(ret, "ibv_dereg_mr: %s", strerror(ret));
	mr->mr = NULL;
	return 0;
}

struct ibv_sge odp_sge(const struct odp_mr *mr, size_t offset, size_t length)
{
	return (struct ibv_sge){
		.addr = mr->iova + offset,
		.length = length,
		.lkey = mr->mr->lkey,
	};
}

/* --- counters, by rdma netlink -------------------------------------------- */

#define NL_BUFFER	32768

struct nl_attr32 {
	uint16_t type;
	uint32_t value;
};

static const struct nlattr *attr_next(const struct nlattr *at)
{
	return (const void *)((const char *)at + NLA_ALIGN(at->nla_len));
}

static const void *attr_data(const struct nlattr *at)
{
	return (const char *)at + NLA_HDRLEN;
}

#define for_each_attr(at, start, end)						\
	for (at = (const void *)(start);					\
	     (const char *)(at) + NLA_HDRLEN <= (const char *)(end) &&		\
	     (at)->nla_len >= NLA_HDRLEN &&					\
	     (const char *)(at) + (at)->nla_len <= (const char *)(end);		\
	     at = attr_next(at))

/* The walk's argument, beside the attribute that it is called for. */
struct nl_walk {
	uint32_t lkey;
	uint32_t mrn;
	bool found;
	struct odp_counters *counters;
};

static const char *attr_end(const struct nlattr *at)
{
	return (const char *)at + at->nla_len;
}

static void walk_mr_entry(const struct nlattr *entry, struct nl_walk *walk)
{
	const struct nlattr *at;
	uint32_t lkey = 0, mrn = 0;
	bool has_lkey = false;

	for_each_attr(at, attr_data(entry), attr_end(entry)) {
		switch (at->nla_type & NLA_TYPE_MASK) {
		case RDMA_NLDEV_ATTR_RES_LKEY:
			memcpy(&lkey, attr_data(at), sizeof(lkey));
			has_lkey = true;
			break;
		case RDMA_NLDEV_ATTR_RES_MRN:
			memcpy(&mrn, attr_data(at), sizeof(mrn));
			break;
		}
	}
	if (has_lkey && lkey == walk->lkey) {
		walk->mrn = mrn;
		walk->found = true;
	}
}

static void walk_mrs(const struct nlattr *table, struct nl_walk *walk)
{
	const struct nlattr *at;

	if ((table->nla_type & NLA_TYPE_MASK) != RDMA_NLDEV_ATTR_RES_MR)
		return;
	for_each_attr(at, attr_data(table), attr_end(table))
		walk_mr_entry(at, walk);
}

static void walk_counters(const struct nlattr *table, struct nl_walk *walk)
{
	const struct nlattr *entry, *at;

	if ((table->nla_type & NLA_TYPE_MASK) != RDMA_NLDEV_ATTR_STAT_HWCOUNTERS)
		return;
	for_each_attr(entry, attr_data(table), attr_end(table)) {
		const char *name = "";
		uint64_t value = 0;

		for_each_attr(at, attr_data(entry), attr_end(entry)) {
			switch (at->nla_type & NLA_TYPE_MASK) {
			case RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_NAME:
				name = attr_data(at);
				break;
			case RDMA_NLDEV_ATTR_STAT_HWCOUNTER_ENTRY_VALUE:
				memcpy(&value, attr_data(at), sizeof(value));
				break;
			}
		}
		walk->found = true;
		if (!strcmp(name, "page_faults"))
			walk->counters->faults = value;
		else if (!strcmp(name, "page_invalidations"))
			walk->counters->invalidations = value;
		else if (!strcmp(name, "page_prefetch"))
			walk->counters->prefetch = value;
	}
}

static int nl_send(int sock, int op, int flags, const struct nl_attr32 *attrs, int count)
{
	struct {
		struct nlmsghdr header;
		char data[64];
	} msg = {};
	char *at = msg.data;
	int i;

	for (i = 0; i < count; i++) {
		struct nlattr attr = {
			.nla_len = NLA_HDRLEN + sizeof(attrs[i].value),
			.nla_type = attrs[i].type,
		};

		memcpy(at, &attr, sizeof(attr));
		memcpy(at + NLA_HDRLEN, &attrs[i].value, sizeof(attrs[i].value));
		at += NLA_ALIGN(attr.nla_len);
	}
	msg.header.nlmsg_len = at - (char *)&msg;
	msg.header.nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, op);
	msg.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	if (send(sock, &msg, msg.header.nlmsg_len, 0) < 0)
		return fail_errno("rdma netlink: send");
	return 0;
}

/* Ask, and call @walk_fn for each attribute of each answer until the last one. */
static int nl_call(int op, int flags, const struct nl_attr32 *attrs, int count,
		   void (*walk_fn)(const struct nlattr *at, struct nl_walk *walk),
		   struct nl_walk *walk)
{
	struct timeval timeout = { .tv_sec = ODP_WAIT_MS / 1000 };
	char *buffer = malloc(NL_BUFFER);
	const struct nlattr *at;
	struct nlmsghdr *msg;
	int sock, ret;
	ssize_t size;

	if (!buffer)
		return odp_fail(ENOMEM, "out of memory");
	sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA);
	if (sock < 0) {
		free(buffer);
		return fail_errno("rdma netlink: socket");
	}
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));

	ret = nl_send(sock, op, flags, attrs, count);
	while (!ret) {
		size = recv(sock, buffer, NL_BUFFER, 0);
		if (size < 0) {
			ret = fail_errno("rdma netlink: recv");
			break;
		}
		for (msg = (void *)buffer; NLMSG_OK(msg, size); msg = NLMSG_NEXT(msg, size)) {
			if (msg->nlmsg_type == NLMSG_DONE)
				goto out;
			if (msg->nlmsg_type == NLMSG_ERROR) {
				const struct nlmsgerr *err = NLMSG_DATA(msg);

				if (err->error)
					ret = odp_fail(-err->error, "rdma netlink: %s",
						       strerror(-err->error));
				goto out;
			}
			for_each_attr(at, NLMSG_DATA(msg), (char *)msg + msg->nlmsg_len)
				walk_fn(at, walk);
		}
	}
out:
	close(sock);
	free(buffer);
	return ret;
}

static int find_mrn(struct odp_mr *mr)
{
	const struct nl_attr32 attrs[] = {
		{ RDMA_NLDEV_ATTR_DEV_INDEX, mr->dev->index },
	};
	struct nl_walk walk = { .lkey = mr->mr->lkey };
	int ret;

	ret = nl_call(RDMA_NLDEV_CMD_RES_MR_GET, NLM_F_DUMP, attrs, ARRAY_SIZE(attrs),
		      walk_mrs, &walk);
	if (ret)
		return ret;
	if (!walk.found)
		return odp_fail(ENOENT, "rdma netlink does not list the MR with lkey %#x (is CAP_NET_ADMIN missing?)",
				mr->mr->lkey);
	mr->mrn = walk.mrn;
	return 0;
}

int odp_counters(struct odp_mr *mr, struct odp_counters *counters)
{
	struct nl_attr32 attrs[] = {
		{ RDMA_NLDEV_ATTR_DEV_INDEX, mr->dev->index },
		{ RDMA_NLDEV_ATTR_STAT_RES, RDMA_NLDEV_ATTR_RES_MR },
		{ RDMA_NLDEV_ATTR_RES_MRN, 0 },
	};
	struct nl_walk walk = { .counters = counters };
	int ret;

	memset(counters, 0, sizeof(*counters));
	if (mr->mrn == UINT32_MAX) {
		ret = find_mrn(mr);
		if (ret)
			return ret;
	}
	attrs[2].value = mr->mrn;
	ret = nl_call(RDMA_NLDEV_CMD_STAT_GET, 0, attrs, ARRAY_SIZE(attrs), walk_counters,
		      &walk);
	if (ret)
		return ret;
	if (!walk.found)
		return odp_fail(ENODATA, "this kernel keeps no counters for the MR");
	return 0;
}

/* --- queue pairs ---------------------------------------------------------- */

static int create_end(struct odp_end *end, struct odp_dev *dev,
		      const struct odp_pair_attr *attr)
{
	struct ibv_srq_init_attr srq = {
		.attr = { .max_wr = attr->max_wr, .max_sge = attr->max_sge },
	};
	struct ibv_qp_init_attr init = {
		.qp_type = attr->type ? attr->type : IBV_QPT_RC,
		.cap = {
			.max_send_wr = attr->max_wr,
			.max_recv_wr = attr->max_wr,
			.max_send_sge = attr->max_sge,
			.max_recv_sge = attr->max_sge,
		},
	};

	errno = 0;
	end->cq = ibv_create_cq(dev->ctx, 2 * attr->max_wr, NULL, NULL, 0);
	if (!end->cq)
		return fail_errno("ibv_create_cq");
	init.send_cq = end->cq;
	init.recv_cq = end->cq;
	if (attr->srq) {
		end->srq = ibv_create_srq(dev->pd, &srq);
		if (!end->srq)
			return fail_errno("ibv_create_srq");
		init.srq = end->srq;
	}
	end->qp = ibv_create_qp(dev->pd, &init);
	if (!end->qp)
		return fail_errno("ibv_create_qp");
	return 0;
}

static int mtu_enum(int mtu)
{
	static const int sizes[] = { 256, 512, 1024, 2048, 4096 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		if (sizes[i] == mtu)
			return IBV_MTU_256 + i;
	return 0;
}

#define UD_QKEY	0x1234

static int to_init(struct odp_end *end, struct odp_dev *dev)
{
	bool ud = end->qp->qp_type == IBV_QPT_UD;
	struct ibv_qp_attr init = {
		.qp_state = IBV_QPS_INIT,
		.port_num = dev->port,
		.qkey = UD_QKEY,
		.qp_access_flags = ODP_ACCESS | IBV_ACCESS_REMOTE_ATOMIC,
	};
	int ret;

	ret = ibv_modify_qp(end->qp, &init, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			    (ud ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS));
	if (ret)
		return odp_fail(ret, "QP to INIT: %s", strerror(ret));
	return 0;
}

static int to_rtr(struct odp_end *end, struct odp_dev *dev, const union ibv_gid *peer_gid,
		  const struct odp_pair_attr *attr, int reads)
{
	struct ibv_qp_attr rtr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = mtu_enum(attr->mtu),
		.dest_qp_num = end->peer,
		.max_dest_rd_atomic = reads,
		.min_rnr_timer = 12,
		.ah_attr = {
			.is_global = 1,
			.port_num = dev->port,
			.grh = {
				.dgid = *peer_gid,
				.sgid_index = dev->gid_index,
				.hop_limit = 64,
			},
		},
	};
	int mask = IBV_QP_STATE, ret;

	if (end->qp->qp_type == IBV_QPT_UD) {
		errno = 0;
		end->ah = ibv_create_ah(dev->pd, &rtr.ah_attr);
		if (!end->ah)
			return fail_errno("ibv_create_ah");
	} else {
		mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	}
	if (end->qp->qp_type == IBV_QPT_RC)
		mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	ret = ibv_modify_qp(end->qp, &rtr, mask);
	if (ret)
		return odp_fail(ret, "QP to RTR: %s", strerror(ret));
	return 0;
}

static int to_rts(struct odp_end *end, const struct odp_pair_attr *attr, int reads)
{
	struct ibv_qp_attr rts = {
		.qp_state = IBV_QPS_RTS,
		.timeout = attr->timeout,
		.retry_cnt = attr->retry_cnt,
		.rnr_retry = attr->rnr_retry,
		.max_rd_atomic = reads,
	};
	int mask = IBV_QP_STATE | IBV_QP_SQ_PSN, ret;

	if (end->qp->qp_type == IBV_QPT_RC)
		mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			IBV_QP_MAX_QP_RD_ATOMIC;
	ret = ibv_modify_qp(end->qp, &rts, mask);
	if (ret)
		return odp_fail(ret, "QP to RTS: %s", strerror(ret));
	return 0;
}

static struct odp_address address_of(const struct odp_end *end, const struct odp_dev *dev)
{
	return (struct odp_address){ .gid = dev->gid, .qp_num = end->qp->qp_num };
}

static int connect_end(struct odp_end *end, struct odp_dev *dev, struct odp_address peer,
		       const struct odp_pair_attr *attr)
{
	int reads = dev->attr.max_qp_rd_atom < 16 ? dev->attr.max_qp_rd_atom : 16;
	int ret;

	end->peer = peer.qp_num;
	ret = to_init(end, dev);
	if (!ret)
		ret = to_rtr(end, dev, &peer.gid, attr, reads);
	if (!ret)
		ret = to_rts(end, attr, reads);
	return ret;
}

static const struct odp_pair_attr default_attr = ODP_PAIR_ATTR_INIT;

int odp_connect(struct odp_pair *pair, struct odp_dev *dev,
		const struct odp_pair_attr *attr)
{
	int ret;

	memset(pair, 0, sizeof(*pair));
	pair->dev = dev;
	if (!attr)
		attr = &default_attr;
	if (!mtu_enum(attr->mtu))
		return odp_fail(EINVAL, "%d is no MTU: 256, 512, 1024, 2048 or 4096", attr->mtu);

	ret = create_end(&pair->local, dev, attr);
	if (!ret)
		ret = create_end(&pair->remote, dev, attr);
	if (!ret)
		ret = connect_end(&pair->local, dev, address_of(&pair->remote, dev), attr);
	if (!ret)
		ret = connect_end(&pair->remote, dev, address_of(&pair->local, dev), attr);
	if (ret)
		odp_disconnect(pair);
	return ret;
}

int odp_connect_begin(struct odp_pair *pair, struct odp_dev *dev, struct odp_address *self)
{
	int ret;

	memset(pair, 0, sizeof(*pair));
	pair->dev = dev;
	ret = create_end(&pair->local, dev, &default_attr);
	if (ret)
		odp_disconnect(pair);
	else
		*self = address_of(&pair->local, dev);
	return ret;
}

int odp_connect_to(struct odp_pair *pair, const struct odp_address *peer)
{
	return connect_end(&pair->local, pair->dev, *peer, &default_attr);
}

static void destroy_end(struct odp_end *end)
{
	if (end->qp)
		ibv_destroy_qp(end->qp);
	if (end->ah)
		ibv_destroy_ah(end->ah);
	if (end->srq)
		ibv_destroy_srq(end->srq);
	if (end->cq)
		ibv_destroy_cq(end->cq);
	memset(end, 0, sizeof(*end));
}

void odp_disconnect(struct odp_pair *pair)
{
	destroy_end(&pair->local);
	destroy_end(&pair->remote);
}

int odp_post(struct odp_end *end, enum ibv_wr_opcode opcode, uint64_t wr_id,
	     struct ibv_sge *sge, int num_sge,
	     const struct odp_mr *remote, size_t remote_offset)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = wr_id,
		.opcode = opcode,
		.send_flags = IBV_SEND_SIGNALED,
		.sg_list = sge,
		.num_sge = num_sge,
	};
	int ret;

	if (end->ah) {
		wr.wr.ud.ah = end->ah;
		wr.wr.ud.remote_qpn = end->peer;
		wr.wr.ud.remote_qkey = UD_QKEY;
	} else if (remote) {
		wr.wr.rdma.remote_addr = remote->iova + remote_offset;
		wr.wr.rdma.rkey = remote->mr->rkey;
	}
	ret = ibv_post_send(end->qp, &wr, &bad);
	if (ret)
		return odp_fail(ret, "ibv_post_send: %s", strerror(ret));
	return 0;
}

int odp_post_recv(struct odp_end *end, uint64_t wr_id, struct ibv_sge *sge,
		  int num_sge)
{
	struct ibv_recv_wr *bad, wr = {
		.wr_id = wr_id,
		.sg_list = sge,
		.num_sge = num_sge,
	};
	int ret;

	ret = end->srq ? ibv_post_srq_recv(end->srq, &wr, &bad) :
			 ibv_post_recv(end->qp, &wr, &bad);
	if (ret)
		return odp_fail(ret, "ibv_post_recv: %s", strerror(ret));
	return 0;
}

int odp_wait(struct odp_end *end, struct ibv_wc *wc, int timeout_ms)
{
	uint64_t deadline = odp_now() + timeout_ms * 1000000ULL;
	int ret;

	for (;;) {
		ret = ibv_poll_cq(end->cq, 1, wc);
		if (ret > 0)
			return 0;
		if (ret < 0)
			return odp_fail(EIO, "ibv_poll_cq failed");
		if (odp_now() > deadline)
			return odp_fail(ETIMEDOUT, "no completion within %d ms", timeout_ms);
		sched_yield();
	}
}

int odp_wait_success(struct odp_end *end, const char *what, size_t length)
{
	struct ibv_wc wc;
	int ret;

	ret = odp_wait(end, &wc, ODP_WAIT_MS);
	if (ret)
		return odp_fail(-ret, "%s of %zu bytes: no completion within %d ms", what, length,
				ODP_WAIT_MS);
	if (wc.status != IBV_WC_SUCCESS)
		return odp_fail(EREMOTEIO, "%s of %zu bytes: %s", what, length,
				ibv_wc_status_str(wc.status));
	if (wc.opcode == IBV_WC_RECV && wc.byte_len != length)
		return odp_fail(EREMOTEIO, "%s of %zu bytes: %u bytes arrived", what, length,
				wc.byte_len);
	return 0;
}

int odp_write(struct odp_pair *pair,
	      const struct odp_mr *local, size_t local_offset,
	      const struct odp_mr *remote, size_t remote_offset, size_t length)
{
	struct ibv_sge sge = odp_sge(local, local_offset, length);
	int ret;

	ret = odp_post(&pair->local, IBV_WR_RDMA_WRITE, 0, &sge, 1, remote, remote_offset);
	return ret ? ret : odp_wait_success(&pair->local, "RDMA WRITE", length);
}

int odp_read(struct odp_pair *pair,
	     const struct odp_mr *local, size_t local_offset,
	     const struct odp_mr *remote, size_t remote_offset, size_t length)
{
	struct ibv_sge sge = odp_sge(local, local_offset, length);
	int ret;

	ret = odp_post(&pair->local, IBV_WR_RDMA_READ, 0, &sge, 1, remote, remote_offset);
	return ret ? ret : odp_wait_success(&pair->local, "RDMA READ", length);
}

int odp_send(struct odp_pair *pair,
	     const struct odp_mr *local, size_t local_offset,
	     const struct odp_mr *remote, size_t remote_offset, size_t length)
{
	struct ibv_sge from = odp_sge(local, local_offset, length);
	struct ibv_sge to = odp_sge(remote, remote_offset, length);
	int ret;

	ret = odp_post_recv(&pair->remote, 0, &to, 1);
	if (!ret)
		ret = odp_post(&pair->local, IBV_WR_SEND, 0, &from, 1, NULL, 0);
	if (!ret)
		ret = odp_wait_success(&pair->local, "SEND", length);
	if (!ret)
		ret = odp_wait_success(&pair->remote, "RECV", length);
	return ret;
}

/* --- memory to register --------------------------------------------------- */

#define HUGE_PAGE	(2 * ODP_MIB)

static const struct {
	const char *name;
	const char *dir;
} kinds[ODP_MEM_KINDS] = {
	[ODP_MEM_ANON] =	{ .name = "anonymous" },
	[ODP_MEM_THP] =		{ .name = "thp" },
	[ODP_MEM_HUGETLB] =	{ .name = "hugetlb" },
	[ODP_MEM_MEMFD] =	{ .name = "memfd" },
	[ODP_MEM_EXT4] =	{ .name = "ext4", .dir = "/mnt/ext4" },
	[ODP_MEM_FSDAX] =	{ .name = "fsdax", .dir = "/mnt/pmem" },
};

const char *odp_mem_name(enum odp_mem_kind kind)
{
	return kinds[kind].name;
}

int odp_mem_kind(const char *name)
{
	int kind;

	for (kind = 0; kind < ODP_MEM_KINDS; kind++)
		if (!strcmp(name, kinds[kind].name))
			return kind;
	return odp_fail(EINVAL, "no kind of memory is called %s", name);
}

/* The kernel would leave 4 KiB pages under the name of a THP test. */
static int check_thp(void)
{
	char text[64] = "";
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");

	if (file) {
		if (!fgets(text, sizeof(text), file))
			text[0] = 0;
		fclose(file);
	}
	if (!strstr(text, "[always]") && !strstr(text, "[madvise]"))
		return odp_fail(ENODEV, "unavailable: transparent huge pages are off");
	return 0;
}

static int open_file(struct odp_mem *mem, const char *dir)
{
	bool want_dax = mem->kind == ODP_MEM_FSDAX, is_dax;
	struct statfs fs;
	struct statx st;

	if (!dir)
		dir = kinds[mem->kind].dir;
	mem->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (mem->fd < 0)
		return odp_fail(ENODEV, "unavailable: no file can be made in %s: %s", dir,
				strerror(errno));
	if (statx(mem->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) || fstatfs(mem->fd, &fs))
		return fail_errno(dir);
	is_dax = st.stx_attributes & STATX_ATTR_DAX;
	if (want_dax && !is_dax)
		return odp_fail(ENODEV, "unavailable: files in %s are not DAX", dir);
	if (!want_dax && (fs.f_type != EXT4_SUPER_MAGIC || is_dax))
		return odp_fail(ENODEV, "unavailable: files in %s are not ext4 files in the page cache",
				dir);
	return 0;
}

static int open_backing(struct odp_mem *mem, const char *dir)
{
	int ret;

	switch (mem->kind) {
	case ODP_MEM_ANON:
	case ODP_MEM_HUGETLB:
		return 0;
	case ODP_MEM_THP:
		return check_thp();
	case ODP_MEM_MEMFD:
		mem->fd = memfd_create("odp", MFD_CLOEXEC);
		if (mem->fd < 0)
			return fail_errno("memfd_create");
		break;
	default:
		ret = open_file(mem, dir);
		if (ret)
			return ret;
	}
	if (ftruncate(mem->fd, mem->length))
		return fail_errno("ftruncate");
	return 0;
}

/* Map [@offset, @offset + @length) over whatever is there. */
static int map_over(struct odp_mem *mem, size_t offset, size_t length)
{
	int flags = MAP_FIXED | (mem->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
	char *addr = (char *)mem->addr + offset;

	if (mem->kind == ODP_MEM_HUGETLB)
		flags |= MAP_HUGETLB;
	if (mmap(addr, length, PROT_READ | PROT_WRITE, flags, mem->fd,
		 mem->fd < 0 ? 0 : (off_t)offset) == MAP_FAILED) {
		if (mem->kind == ODP_MEM_HUGETLB)
			return odp_fail(ENODEV, "unavailable: no %zu MiB of 2 MiB huge pages free (tests/vm/run --hugepages)",
					length / ODP_MIB);
		return fail_errno("mmap");
	}
	/* EINVAL: a kernel without huge pages, which is as good. */
	if (mem->kind == ODP_MEM_ANON && madvise(addr, length, MADV_NOHUGEPAGE) && errno != EINVAL)
		return fail_errno("MADV_NOHUGEPAGE");
	if (mem->kind == ODP_MEM_THP && madvise(addr, length, MADV_HUGEPAGE))
		return fail_errno("MADV_HUGEPAGE");
	return 0;
}

int odp_mem_map(struct odp_mem *mem, enum odp_mem_kind kind, size_t length,
		const char *dir)
{
	bool huge = kind == ODP_MEM_THP || kind == ODP_MEM_HUGETLB;
	uintptr_t start;
	int ret;

	memset(mem, 0, sizeof(*mem));
	mem->kind = kind;
	mem->fd = -1;
	mem->page_size = huge ? HUGE_PAGE : (size_t)sysconf(_SC_PAGESIZE);
	mem->length = (length + mem->page_size - 1) & -mem->page_size;

	ret = open_backing(mem, dir);
	if (ret)
		goto fail;

	/* Any kind may get huge pages where it starts on a 2 MiB boundary. */
	mem->base_length = mem->length + HUGE_PAGE;
	mem->base = mmap(NULL, mem->base_length, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem->base == MAP_FAILED) {
		mem->base = NULL;
		ret = fail_errno("mmap");
		goto fail;
	}
	start = ((uintptr_t)mem->base + HUGE_PAGE - 1) & -HUGE_PAGE;
	mem->addr = (void *)start;
	ret = map_over(mem, 0, mem->length);
	if (ret)
		goto fail;
	return 0;
fail:
	odp_mem_unmap(mem);
	return ret;
}

void odp_mem_unmap(struct odp_mem *mem)
{
	if (mem->base)
		munmap(mem->base, mem->base_length);
	/* The length tells a mapping in the making from a zeroed struct. */
	if (mem->length && mem->fd >= 0)
		close(mem->fd);
	memset(mem, 0, sizeof(*mem));
}

int odp_mem_discard(struct odp_mem *mem, size_t offset, size_t length)
{
	if (mem->fd < 0) {
		if (madvise((char *)mem->addr + offset, length, MADV_DONTNEED))
			return fail_errno("MADV_DONTNEED");
		return 0;
	}
	if (fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length))
		return fail_errno("punching a hole");
	return 0;
}

int odp_mem_remap(struct odp_mem *mem, size_t offset, size_t length)
{
	int ret = map_over(mem, offset, length);

	/* Here it was available a moment ago. */
	return ret == -ENODEV ? -ENOMEM : ret;
}

/* --- the pattern ----------------------------------------------------------- */

/* splitmix64's finaliser: every bit of the result depends on every bit of @x. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static uint64_t pattern_word(uint64_t mixed_seed, uint64_t offset)
{
	return mix(mixed_seed + (offset / 8) * 0x9e3779b97f4a7c15ULL);
}

void odp_fill(void *buf, size_t length, uint64_t seed, uint64_t offset)
{
	uint64_t word, mixed = mix(seed + 1);
	char *at = buf;

	while (length) {
		size_t skip = offset % 8;
		size_t n = 8 - skip < length ? 8 - skip : length;

		word = pattern_word(mixed, offset);
		memcpy(at, (char *)&word + skip, n);
		at += n;
		offset += n;
		length -= n;
	}
}

/* Note the bytes of @n at @at that differ from @expected. */
static void compare_bytes(const uint8_t *start, const uint8_t *at, const uint8_t *expected,
			  size_t n, struct odp_mismatch *bad)
{
	size_t i;

	for (i = 0; i < n; i++) {
		uint8_t got = at[i];

		if (got == expected[i])
			continue;
		if (!bad->count++) {
			bad->offset = at + i - start;
			bad->expected = expected[i];
			bad->got = got;
		}
	}
}

bool odp_verify(const void *buf, size_t length, uint64_t seed, uint64_t offset,
		struct odp_mismatch *bad)
{
	uint64_t word, mixed = mix(seed + 1);
	struct odp_mismatch found = {};
	const uint8_t *at = buf;

	while (length) {
		size_t skip = offset % 8;
		size_t n = 8 - skip < length ? 8 - skip : length;

		word = pattern_word(mixed, offset);
		if (memcmp(at, (char *)&word + skip, n))
			compare_bytes(buf, at, (uint8_t *)&word + skip, n, &found);
		at += n;
		offset += n;
		length -= n;
	}
	if (bad)
		*bad = found;
	return !found.count;
}

bool odp_compare(const void *buf, const void *expected, size_t length,
		 struct odp_mismatch *bad)
{
	static const uint8_t zeroes[4096];
	struct odp_mismatch found = {};
	size_t done, n;

	for (done = 0; done < length; done += n) {
		const uint8_t *at = (const uint8_t *)buf + done;
		const uint8_t *want = expected ? (const uint8_t *)expected + done : zeroes;

		n = length - done < sizeof(zeroes) ? length - done : sizeof(zeroes);
		if (memcmp(at, want, n))
			compare_bytes(buf, at, want, n, &found);
	}
	if (bad)
		*bad = found;
	return !found.count;
}

uint64_t odp_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ULL;
	return mix(*state);
}
