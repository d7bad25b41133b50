// SPDX-License-Identifier: GPL-2.0
/*
 * DMA addresses of the entries of a mirror
 *
 * An address is made when the driver asks for its entry, and goes with it: an
 * invalidation stops the device, and then unmaps. The CPU and the device look
 * at the page at the same time, and nobody calls dma_sync_*(). So the address
 * has to be the page's own: a device whose mappings are bounced or need cache
 * maintenance is refused at the start.
 *
 * All of it runs under the driver's lock. A mapping may allocate (an I/O page
 * table), but only atomically.
 */

#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/swiotlb.h>

#include "mm_mirror_table.h"

/* Can the device and the CPU share any page, without bouncing and syncing? */
bool mm_mirror_dma_capable(struct device *dev)
{
	return dev->dma_mask && !dma_addressing_limited(dev) &&
	       !is_swiotlb_force_bounce(dev) && dev_is_dma_coherent(dev);
}

void mm_mirror_dma_unmap(struct mm_mirror_table *table, dma_addr_t *dma,
			 unsigned int order)
{
	if (!*dma)
		return;
	dma_unmap_page(table->dma_dev, *dma, PAGE_SIZE << order,
		       table->dma_dir);
	*dma = 0;
}

/*
 * Map the entries of a range that have no address yet, a huge one whole.
 * Returns 0, or -EFAULT with a part of them mapped.
 */
int mm_mirror_dma_map(struct mm_mirror_table *table, unsigned long start,
		      unsigned long end)
{
	unsigned long addr, next;

	for (addr = start; addr < end; addr = next) {
		struct mm_mirror_leaf *leaf;
		unsigned int level, order;
		dma_addr_t *dma, new;
		unsigned long entry;

		leaf = mm_mirror_table_find(table, addr, &level);
		order = mm_mirror_level_order(level);
		next = (addr | ((PAGE_SIZE << order) - 1)) + 1;
		if (!leaf)
			continue;
		if (!READ_ONCE(leaf->huge)) {
			order = 0;
			next = addr + PAGE_SIZE;
		}
		entry = READ_ONCE(*mm_mirror_leaf_entry(leaf, addr));
		dma = mm_mirror_leaf_dma(leaf, addr);
		if (!entry || *dma)
			continue;
		new = dma_map_page(table->dma_dev, mm_mirror_entry_page(entry),
				   0, PAGE_SIZE << order, table->dma_dir);
		if (dma_mapping_error(table->dma_dev, new))
			return -EFAULT;
		*dma = new;
	}
	return 0;
}
