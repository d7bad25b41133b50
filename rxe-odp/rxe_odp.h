/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
#ifndef RXE_ODP_H
#define RXE_ODP_H

#include "rxe.h"
#include "rxe_loc.h"

static inline bool rxe_mr_is_odp(struct rxe_mr *mr)
{
	return mr->umem && mr->umem->is_odp;
}

#ifdef CONFIG_INFINIBAND_ON_DEMAND_PAGING

void rxe_odp_init_device(struct rxe_dev *rxe);
int rxe_odp_init_mr(struct rxe_dev *rxe, u64 start, u64 length, int access,
		    struct rxe_mr *mr);
int rxe_odp_mr_copy(struct rxe_mr *mr, u64 iova, void *addr,
		    unsigned int length, enum rxe_mr_copy_dir dir);
int rxe_odp_fill_stat_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr);
int rxe_odp_fill_res_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr);

#else /* CONFIG_INFINIBAND_ON_DEMAND_PAGING */

static inline void rxe_odp_init_device(struct rxe_dev *rxe) {}

static inline int rxe_odp_init_mr(struct rxe_dev *rxe, u64 start, u64 length,
				  int access, struct rxe_mr *mr)
{
	return -EOPNOTSUPP;
}

static inline int rxe_odp_mr_copy(struct rxe_mr *mr, u64 iova, void *addr,
				  unsigned int length,
				  enum rxe_mr_copy_dir dir)
{
	return -EOPNOTSUPP;
}

#define rxe_odp_fill_stat_mr_entry NULL
#define rxe_odp_fill_res_mr_entry NULL

#endif /* CONFIG_INFINIBAND_ON_DEMAND_PAGING */

#endif /* RXE_ODP_H */
