/* Most of libfabric's interface is static inline functions over tables of function pointers:
 * these are their out-of-line twins. Nothing here has a logic of its own. */
#ifndef OFI_SHIM_H
#define OFI_SHIM_H

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <rdma/fi_tagged.h>

/* Constants whose macros a header translator cannot evaluate. */
extern const uint64_t SHIM_ADDR_UNSPEC;

struct fi_info *shim_allocinfo(void);
/* A member of the structure in libfabric 1, of a union without a name in it in libfabric 2. */
enum fi_progress shim_data_progress(const struct fi_domain_attr *attr);
int shim_fabric(struct fi_info *info, struct fid_fabric **fabric);
int shim_domain(struct fid_fabric *fabric, struct fi_info *info, struct fid_domain **domain);
int shim_av_open(struct fid_domain *domain, struct fid_av **av);
int shim_av_insert(struct fid_av *av, const void *address, fi_addr_t *peer);
int shim_av_remove(struct fid_av *av, fi_addr_t peer);
int shim_cq_open(struct fid_domain *domain, size_t size, int with_fd, struct fid_cq **cq);
int shim_cq_fd(struct fid_cq *cq, int *fd);
int shim_trywait(struct fid_fabric *fabric, struct fid_cq *cq);
ssize_t shim_cq_read(struct fid_cq *cq, struct fi_cq_tagged_entry *entries, size_t count);
ssize_t shim_cq_readerr(struct fid_cq *cq, struct fi_cq_err_entry *entry);
const char *shim_cq_strerror(struct fid_cq *cq, const struct fi_cq_err_entry *entry, char *buf,
			     size_t len);
int shim_endpoint(struct fid_domain *domain, struct fi_info *info, struct fid_ep **ep);
int shim_ep_bind_av(struct fid_ep *ep, struct fid_av *av);
int shim_ep_bind_cq(struct fid_ep *ep, struct fid_cq *cq);
int shim_enable(struct fid_ep *ep);
int shim_getname(struct fid_ep *ep, void *address, size_t *len);
int shim_mr_reg(struct fid_domain *domain, const void *buf, size_t len, uint64_t access,
		uint64_t requested_key, struct fid_mr **mr);
uint64_t shim_mr_key(struct fid_mr *mr);
void *shim_mr_desc(struct fid_mr *mr);
ssize_t shim_tsend(struct fid_ep *ep, const void *buf, size_t len, void *desc, fi_addr_t peer,
		   uint64_t tag, void *context);
/* The memory is free on return, and there is no completion. */
ssize_t shim_tinject(struct fid_ep *ep, const void *buf, size_t len, fi_addr_t peer, uint64_t tag);
ssize_t shim_trecv(struct fid_ep *ep, void *buf, size_t len, void *desc, fi_addr_t peer,
		   uint64_t tag, uint64_t ignore, void *context);
ssize_t shim_read(struct fid_ep *ep, void *buf, size_t len, void *desc, fi_addr_t peer,
		  uint64_t addr, uint64_t key, void *context);
/* Completes once the data is in the target's memory (FI_DELIVERY_COMPLETE). */
ssize_t shim_write(struct fid_ep *ep, const void *buf, size_t len, void *desc, fi_addr_t peer,
		   uint64_t addr, uint64_t key, void *context);
ssize_t shim_cancel(struct fid_ep *ep, void *context);

int shim_close_fabric(struct fid_fabric *fabric);
int shim_close_domain(struct fid_domain *domain);
int shim_close_av(struct fid_av *av);
int shim_close_cq(struct fid_cq *cq);
int shim_close_ep(struct fid_ep *ep);
int shim_close_mr(struct fid_mr *mr);

#endif
