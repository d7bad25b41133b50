# SPDX-License-Identifier: GPL-2.0
#
# Targets only; each one's work is in the script that it calls, with --help.

export BUILD := $(abspath $(or $(BUILD),build))
STAGE := tests/lib/stage
STAGES := $(BUILD)/results/stages
SELECT := $(and $(KERNEL),--kernel '$(KERNEL)') $(and $(LIST),--list) $(patsubst %,'%',$(T))
RUN = tests/run --stages $(STAGES) $(SELECT)
# A list needs nothing built, and a kernel from elsewhere none of ours.
KERNELS := $(if $(KERNEL),$(filter stock tree debug kcsan,$(KERNEL)),kernel)
JOB_OPTION = $(and $(JOBS),$1 $(JOBS))
PREPARE := $(if $(LIST),,$(KERNELS) rdma-core userspace)
DEBUG := $(if $(LIST)$(KERNEL),,debug)
KCSAN := $(if $(LIST)$(KERNEL),,kcsan)

help: ## these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12
	@echo 'Variables: T="TEST..." LIST=1 KERNEL=stock|tree|debug|kcsan|BZIMAGE|SOURCE QUICK=1 DIRTY=1 A= B= SECONDS= SEED= BUILD= JOBS='

deps: ## install the Debian packages that are missing
	@rm -f $(STAGES)
	@$(STAGE) deps 300 tests/lib/deps
kernel: deps ## build both kernels (DIRTY=1: only the patched one, as edited in build/linux)
	@$(STAGE) kernel 1500 kernel-patches/build $(and $(DIRTY),--dirty) $(call JOB_OPTION,--jobs)
stock: deps ## build the stock kernel only
	@$(STAGE) stock 1200 kernel-patches/build --stock $(call JOB_OPTION,--jobs)
tree: deps ## build the patched kernel only
	@$(STAGE) tree 1200 kernel-patches/build $(if $(DIRTY),--dirty,--tree) $(call JOB_OPTION,--jobs)
debug: deps ## build the patched kernel with KASAN, lockdep and the like
	@$(STAGE) debug 1500 kernel-patches/build --debug $(call JOB_OPTION,--jobs)
kcsan: deps ## build the patched kernel with KCSAN, which reports data races
	@$(STAGE) kcsan 1500 kernel-patches/build --kcsan $(call JOB_OPTION,--jobs)
userspace: deps ## build our programs
	@$(STAGE) userspace 60 $(MAKE) --no-print-directory -C userspace
rdma-core: deps ## build rdma-core 56.1, in place
	@$(STAGE) rdma-core 300 userspace/rdma-core/build $(call JOB_OPTION,-j)
demo: tree userspace ## RDMA to and from unpinned memory, every byte verified
	@tests/vm/run --pmem 512M --memory 2G -- $(BUILD)/bin/odp-demo
smoke: $(PREPARE) ## the quick tests, under 5 minutes once built
	@$(RUN) --stage smoke
check: $(PREPARE) $(DEBUG) ## all tests for a landing, an hour or more from nothing
	@$(RUN) --stage check
check-long: $(PREPARE) $(DEBUG) $(KCSAN) ## what does not fit into check as well: hours
	@$(RUN) --stage long
torture: tree rdma-core userspace ## random RDMA and mm operations: SECONDS=60, SEED=N to repeat a run
	@tests/vm/run --pmem 256M --swap 256M --hugepages 64 --nodes 2 --timeout 0 -- $(BUILD)/bin/odp-torture --threads 2 \
		--noise --seconds $(or $(SECONDS),60) $(and $(SEED),--seed $(SEED))
perf: $(if $(QUICK),tree,kernel rdma-core) userspace ## benchmark pinned beside ODP, and report (QUICK=1: fewer cases)
	@perf/all $(and $(QUICK),--quick)
compare: kernel $(if $(QUICK),,rdma-core) userspace ## benchmark A= and B=: stock, tree, a revision, a kernel source, a bzImage
	@perf/compare $(and $(QUICK),--quick) '$(A)' '$(B)'
series: deps ## write the series as mails, with the recipients
	@kernel-patches/format
refresh: ## bring the repository up to date from the edited build/linux
	@kernel-patches/refresh
clean: ## remove everything that was built
	rm -rf $(BUILD)

.NOTPARALLEL:
.PHONY: help deps kernel stock tree debug kcsan userspace rdma-core demo smoke check check-long torture perf compare series refresh clean
