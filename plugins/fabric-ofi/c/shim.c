#include "shim.h"

const uint64_t SHIM_ADDR_UNSPEC = FI_ADDR_UNSPEC;

struct fi_info *shim_allocinfo(void)
{
	return fi_allocinfo();
}

enum fi_progress shim_data_progress(const struct fi_domain_attr *attr)
{
	return attr->data_progress;
}

int shim_fabric(struct fi_info *info, struct fid_fabric **fabric)
{
	return fi_fabric(info->fabric_attr, fabric, NULL);
}

int shim_domain(struct fid_fabric *fabric, struct fi_info *info, struct fid_domain **domain)
{
	return fi_domain(fabric, info, domain, NULL);
}

int shim_av_open(struct fid_domain *domain, struct fid_av **av)
{
	struct fi_av_attr attr = { .type = FI_AV_UNSPEC };

	return fi_av_open(domain, &attr, av, NULL);
}

int shim_av_insert(struct fid_av *av, const void *address, fi_addr_t *peer)
{
	return fi_av_insert(av, address, 1, peer, 0, NULL);
}

int shim_av_remove(struct fid_av *av, fi_addr_t peer)
{
	return fi_av_remove(av, &peer, 1, 0);
}

int shim_cq_open(struct fid_domain *domain, size_t size, int with_fd, struct fid_cq **cq)
{
	struct fi_cq_attr attr = {
		.size = size,
		.format = FI_CQ_FORMAT_TAGGED,
		.wait_obj = with_fd ? FI_WAIT_FD : FI_WAIT_NONE,
	};

	return fi_cq_open(domain, &attr, cq, NULL);
}

int shim_cq_fd(struct fid_cq *cq, int *fd)
{
	return fi_control(&cq->fid, FI_GETWAIT, fd);
}

int shim_trywait(struct fid_fabric *fabric, struct fid_cq *cq)
{
	struct fid *fids[1] = { &cq->fid };

	return fi_trywait(fabric, fids, 1);
}

ssize_t shim_cq_read(struct fid_cq *cq, struct fi_cq_tagged_entry *entries, size_t count)
{
	return fi_cq_read(cq, entries, count);
}

ssize_t shim_cq_readerr(struct fid_cq *cq, struct fi_cq_err_entry *entry)
{
	return fi_cq_readerr(cq, entry, 0);
}

const char *shim_cq_strerror(struct fid_cq *cq, const struct fi_cq_err_entry *entry, char *buf,
			     size_t len)
{
	return fi_cq_strerror(cq, entry->prov_errno, entry->err_data, buf, len);
}

int shim_endpoint(struct fid_domain *domain, struct fi_info *info, struct fid_ep **ep)
{
	return fi_endpoint(domain, info, ep, NULL);
}

int shim_ep_bind_av(struct fid_ep *ep, struct fid_av *av)
{
	return fi_ep_bind(ep, &av->fid, 0);
}

int shim_ep_bind_cq(struct fid_ep *ep, struct fid_cq *cq)
{
	return fi_ep_bind(ep, &cq->fid, FI_TRANSMIT | FI_RECV);
}

int shim_enable(struct fid_ep *ep)
{
	return fi_enable(ep);
}

int shim_getname(struct fid_ep *ep, void *address, size_t *len)
{
	return fi_getname(&ep->fid, address, len);
}

int shim_mr_reg(struct fid_domain *domain, const void *buf, size_t len, uint64_t access,
		uint64_t requested_key, struct fid_mr **mr)
{
	return fi_mr_reg(domain, buf, len, access, 0, requested_key, 0, mr, NULL);
}

uint64_t shim_mr_key(struct fid_mr *mr)
{
	return fi_mr_key(mr);
}

void *shim_mr_desc(struct fid_mr *mr)
{
	return fi_mr_desc(mr);
}

ssize_t shim_tsend(struct fid_ep *ep, const void *buf, size_t len, void *desc, fi_addr_t peer,
		   uint64_t tag, void *context)
{
	return fi_tsend(ep, buf, len, desc, peer, tag, context);
}

ssize_t shim_tinject(struct fid_ep *ep, const void *buf, size_t len, fi_addr_t peer, uint64_t tag)
{
	return fi_tinject(ep, buf, len, peer, tag);
}

ssize_t shim_trecv(struct fid_ep *ep, void *buf, size_t len, void *desc, fi_addr_t peer,
		   uint64_t tag, uint64_t ignore, void *context)
{
	return fi_trecv(ep, buf, len, desc, peer, tag, ignore, context);
}

ssize_t shim_read(struct fid_ep *ep, void *buf, size_t len, void *desc, fi_addr_t peer,
		  uint64_t addr, uint64_t key, void *context)
{
	return fi_read(ep, buf, len, desc, peer, addr, key, context);
}

ssize_t shim_write(struct fid_ep *ep, const void *buf, size_t len, void *desc, fi_addr_t peer,
		   uint64_t addr, uint64_t key, void *context)
{
	struct iovec local = { .iov_base = (void *)buf, .iov_len = len };
	struct fi_rma_iov remote = { .addr = addr, .len = len, .key = key };
	struct fi_msg_rma message = {
		.msg_iov = &local,
		.desc = &desc,
		.iov_count = 1,
		.addr = peer,
		.rma_iov = &remote,
		.rma_iov_count = 1,
		.context = context,
	};

	return fi_writemsg(ep, &message, FI_COMPLETION | FI_DELIVERY_COMPLETE);
}

ssize_t shim_cancel(struct fid_ep *ep, void *context)
{
	return fi_cancel(&ep->fid, context);
}

int shim_close_fabric(struct fid_fabric *fabric)
{
	return fi_close(&fabric->fid);
}

int shim_close_domain(struct fid_domain *domain)
{
	return fi_close(&domain->fid);
}

int shim_close_av(struct fid_av *av)
{
	return fi_close(&av->fid);
}

int shim_close_cq(struct fid_cq *cq)
{
	return fi_close(&cq->fid);
}

int shim_close_ep(struct fid_ep *ep)
{
	return fi_close(&ep->fid);
}

int shim_close_mr(struct fid_mr *mr)
{
	return fi_close(&mr->fid);
}
