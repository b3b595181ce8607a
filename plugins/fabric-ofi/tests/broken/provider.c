/* A provider that libfabric loads (FI_PROVIDER_PATH) and that fails while it is opened, at the step that the variable
 * BROKEN_AT names: getinfo, fabric, domain, cq, av, endpoint, bind, enable, name; any other value: nowhere. It moves no
 * data. What is open is counted: a process that ends with something left open says so on standard error. */
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/providers/fi_prov.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int left_open;

static int broken_at(const char *step)
{
	const char *where = getenv("BROKEN_AT");

	return where && !strcmp(where, step);
}

static void *opened(size_t size)
{
	left_open++;
	return calloc(1, size);
}

static int no_bind(struct fid *fid, struct fid *other, uint64_t flags)
{
	return broken_at("bind") ? -FI_EIO : 0;
}

static int close_any(struct fid *fid)
{
	left_open--;
	free(fid);
	return 0;
}

static int control(struct fid *fid, int command, void *arg)
{
	return command == FI_ENABLE && broken_at("enable") ? -FI_EIO : 0;
}

static struct fi_ops ops = {
	.size = sizeof(struct fi_ops),
	.close = close_any,
	.bind = no_bind,
	.control = control,
};

static int name(fid_t fid, void *address, size_t *len)
{
	if (broken_at("name"))
		return -FI_EIO;
	memset(address, 'x', 8);
	*len = 8;
	return 0;
}

static struct fi_ops_cm cm_ops = {
	.size = sizeof(struct fi_ops_cm),
	.getname = name,
};

static int open_cq(struct fid_domain *domain, struct fi_cq_attr *attr, struct fid_cq **cq,
		   void *context)
{
	if (attr->wait_obj == FI_WAIT_FD)
		return -FI_ENOSYS;
	if (broken_at("cq"))
		return -FI_ENOMEM;
	*cq = opened(sizeof(**cq));
	(*cq)->fid.ops = &ops;
	return 0;
}

static int open_av(struct fid_domain *domain, struct fi_av_attr *attr, struct fid_av **av,
		   void *context)
{
	if (broken_at("av"))
		return -FI_ENOMEM;
	*av = opened(sizeof(**av));
	(*av)->fid.ops = &ops;
	return 0;
}

static int open_endpoint(struct fid_domain *domain, struct fi_info *info, struct fid_ep **ep,
			 void *context)
{
	if (broken_at("endpoint"))
		return -FI_EMFILE;
	*ep = opened(sizeof(**ep));
	(*ep)->fid.ops = &ops;
	(*ep)->cm = &cm_ops;
	return 0;
}

static struct fi_ops_domain domain_ops = {
	.size = sizeof(struct fi_ops_domain),
	.av_open = open_av,
	.cq_open = open_cq,
	.endpoint = open_endpoint,
};

static int open_domain(struct fid_fabric *fabric, struct fi_info *info, struct fid_domain **domain,
		       void *context)
{
	if (broken_at("domain"))
		return -FI_ENODEV;
	*domain = opened(sizeof(**domain));
	(*domain)->fid.ops = &ops;
	(*domain)->ops = &domain_ops;
	return 0;
}

static struct fi_ops_fabric fabric_ops = {
	.size = sizeof(struct fi_ops_fabric),
	.domain = open_domain,
};

static int open_fabric(struct fi_fabric_attr *attr, struct fid_fabric **fabric, void *context)
{
	if (broken_at("fabric"))
		return -FI_EIO;
	*fabric = opened(sizeof(**fabric));
	(*fabric)->fid.ops = &ops;
	(*fabric)->ops = &fabric_ops;
	return 0;
}

static struct fi_provider provider;

static int getinfo(uint32_t version, const char *node, const char *service, uint64_t flags,
		   const struct fi_info *hints, struct fi_info **found)
{
	struct fi_info *info;

	/* Layers look for endpoints of other kinds. */
	if (hints && hints->ep_attr && hints->ep_attr->type != FI_EP_UNSPEC &&
	    hints->ep_attr->type != FI_EP_RDM)
		return -FI_ENODATA;
	if (broken_at("getinfo") && hints)
		return -FI_EIO;
	info = fi_allocinfo();
	if (!info)
		return -FI_ENOMEM;
	info->caps = FI_MSG | FI_TAGGED | FI_RMA | FI_READ | FI_WRITE | FI_SEND | FI_RECV |
		     FI_REMOTE_READ | FI_REMOTE_WRITE;
	info->tx_attr->size = info->rx_attr->size = 64;
	info->tx_attr->caps = info->rx_attr->caps = info->caps;
	info->ep_attr->type = FI_EP_RDM;
	info->ep_attr->max_msg_size = 1 << 20;
	info->ep_attr->mem_tag_format = ~0ull;
	info->domain_attr->name = strdup("broken0");
	info->domain_attr->ep_cnt = 16;
	info->domain_attr->mr_key_size = 8;
	info->fabric_attr->name = strdup("broken");
	info->fabric_attr->prov_version = provider.version;
	*found = info;
	return 0;
}

static void cleanup(void)
{
}

static struct fi_provider provider = {
	.version = FI_VERSION(1, 0),
	.fi_version = FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION),
	.name = "broken",
	.getinfo = getinfo,
	.fabric = open_fabric,
	.cleanup = cleanup,
};

static void at_exit(void)
{
	if (left_open)
		fprintf(stderr, "broken: %d left open\n", left_open);
}

__attribute__((visibility("default"))) struct fi_provider *fi_prov_ini(void)
{
	atexit(at_exit);
	return &provider;
}
