// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The smallest ODP program: RDMA into memory that is not pinned. Plain
 * libibverbs; copy it.
 *
 *	cc example.c -libverbs && ./a.out [FILE]
 *
 * It writes by RDMA into FILE (which it makes, 64 MiB long), on a DAX filesystem
 * or any other; without FILE into anonymous memory.
 */
#include <err.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE	(64UL << 20)
#define OFFSET	12345		/* where to write: any byte will do */
#define CHECK(ok, what)	do { if (!(ok)) err(1, "%s", what); } while (0)

static union ibv_gid gid;
static int gid_index;

/* RoCE addresses are GIDs: take the RoCE v2 one that holds an IPv4 address. */
static void find_gid(struct ibv_context *ctx)
{
	struct ibv_gid_entry entry;

	for (int i = 0; i < 16; i++) {
		if (ibv_query_gid_ex(ctx, 1, i, &entry, 0) ||
		    entry.gid_type != IBV_GID_TYPE_ROCE_V2 || entry.gid.raw[10] != 0xff)
			continue;
		gid = entry.gid;
		gid_index = i;
		return;
	}
	errx(1, "no IPv4 GID: give the device's network interface an address");
}

/* Usually the two ends are two programs, which exchange qp_num and GID over a socket. */
static void connect_qp(struct ibv_qp *qp, uint32_t peer_qp_num)
{
	struct ibv_qp_attr init = { .qp_state = IBV_QPS_INIT, .port_num = 1,
				    .qp_access_flags = IBV_ACCESS_REMOTE_WRITE };
	struct ibv_qp_attr rtr = { .qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024,
				   .dest_qp_num = peer_qp_num, .max_dest_rd_atomic = 1,
				   .min_rnr_timer = 12, .ah_attr = {
					.is_global = 1, .port_num = 1,
					.grh = { .dgid = gid, .sgid_index = gid_index,
						 .hop_limit = 64 } } };
	struct ibv_qp_attr rts = { .qp_state = IBV_QPS_RTS, .timeout = 18, .retry_cnt = 6,
				   .rnr_retry = 7, .max_rd_atomic = 1 };

	CHECK(!ibv_modify_qp(qp, &init, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			     IBV_QP_ACCESS_FLAGS), "QP to INIT");
	CHECK(!ibv_modify_qp(qp, &rtr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
			     IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			     IBV_QP_MIN_RNR_TIMER), "QP to RTR");
	CHECK(!ibv_modify_qp(qp, &rts, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			     IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC),
	      "QP to RTS");
}

int main(int argc, char **argv)
{
	static char message[] = "Hello, unpinned memory";
	struct ibv_qp_init_attr qp_attr = { .qp_type = IBV_QPT_RC, .cap = {
		.max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 } };
	struct ibv_device **devices = ibv_get_device_list(NULL);
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	struct ibv_device_attr_ex caps;
	struct ibv_send_wr *bad;
	struct ibv_context *ctx;
	struct ibv_qp *qp, *peer;
	struct ibv_mr *source, *target;
	struct ibv_pd *pd;
	struct ibv_wc wc;
	char *memory;
	int n;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
		n = argc == 2 && !strcmp(argv[1], "--help") ? 0 : 2;
		fprintf(n ? stderr : stdout, "usage: odp-example [FILE]\n");
		return n;
	}
	if (!devices || !devices[0])
		errx(1, "no RDMA device: rdma link add rxe0 type rxe netdev <interface>");
	CHECK(ctx = ibv_open_device(devices[0]), "opening the device");
	find_gid(ctx);

	/* What the device can do without pinning. */
	CHECK(!ibv_query_device_ex(ctx, NULL, &caps), "querying the device");
	if (!(caps.odp_caps.per_transport_caps.rc_odp_caps & IBV_ODP_SUPPORT_WRITE))
		errx(1, "no ODP on %s: this kernel lacks it", ibv_get_device_name(devices[0]));

	/* 64 MiB, none of which is in memory yet. */
	if (argc == 2) {
		flags = MAP_SHARED;
		fd = open(argv[1], O_RDWR | O_CREAT, 0600);
		CHECK(fd >= 0 && !ftruncate(fd, SIZE), argv[1]);
	}
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);
	CHECK(memory != MAP_FAILED, "mapping memory");

	/* IBV_ACCESS_ON_DEMAND is all there is to ODP. */
	CHECK(pd = ibv_alloc_pd(ctx), "protection domain");
	CHECK(target = ibv_reg_mr(pd, memory, SIZE, IBV_ACCESS_ON_DEMAND |
				  IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE),
	      "registering the target");
	CHECK(source = ibv_reg_mr(pd, message, sizeof(message), IBV_ACCESS_ON_DEMAND),
	      "registering the source");

	/* Two queue pairs of one device, connected to each other. */
	CHECK(qp_attr.send_cq = ibv_create_cq(ctx, 2, NULL, NULL, 0), "completion queue");
	qp_attr.recv_cq = qp_attr.send_cq;
	CHECK((qp = ibv_create_qp(pd, &qp_attr)) && (peer = ibv_create_qp(pd, &qp_attr)),
	      "queue pairs");
	connect_qp(qp, peer->qp_num);
	connect_qp(peer, qp->qp_num);

	struct ibv_sge sge = { (uintptr_t)message, sizeof(message), source->lkey };
	struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE,
				  .send_flags = IBV_SEND_SIGNALED, .wr.rdma = {
				  .remote_addr = (uintptr_t)memory + OFFSET,
				  .rkey = target->rkey } };
	CHECK(!ibv_post_send(qp, &wr, &bad), "posting the write");
	while (!(n = ibv_poll_cq(qp_attr.send_cq, 1, &wc)))
		;
	if (n < 0 || wc.status != IBV_WC_SUCCESS)
		errx(1, "RDMA WRITE: %s", n < 0 ? "polling failed" : ibv_wc_status_str(wc.status));
	if (memcmp(memory + OFFSET, message, sizeof(message)))
		errx(1, "the memory does not hold what was written");
	printf("RDMA WRITE into %s: \"%s\"\n", argc == 2 ? argv[1] : "anonymous memory",
	       memory + OFFSET);

	ibv_destroy_qp(qp);
	ibv_destroy_qp(peer);
	ibv_destroy_cq(qp_attr.send_cq);
	ibv_dereg_mr(source);
	ibv_dereg_mr(target);
	ibv_dealloc_pd(pd);
	ibv_close_device(ctx);
	return 0;
}
