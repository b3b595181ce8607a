/* @NAME@: block devices of class @CLASS@ in memory. One file, built with the system's compiler alone (see Makefile);
 * put your hardware behind it piece by piece. What each function may do stands beside it in daos_plugin.h. */
#include "daos_plugin.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLASS "@CLASS@"
#define LIMITS "\"bdev_number\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":8}," \
               "\"bdev_size_mib\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":65536}"

/* Who the plugin is: read by the host without running any code. */
DAOS_PLUGIN_MANIFEST("{\"name\":\"@NAME@\",\"version\":\"0.1.0\",\"vendor\":\"example\",\"description\":\"Block devices of class "
                     CLASS "\",\"classes\":[{\"kind\":\"bdev\",\"name\":\"" CLASS "\",\"ephemeral\":true,"
                     "\"capabilities\":[\"flush\",\"write_zeroes\"],\"schema\":{\"type\":\"object\",\"properties\":{" LIMITS "},"
                     "\"required\":[\"bdev_size_mib\"],\"examples\":[{\"bdev_number\":2,\"bdev_size_mib\":16}]}}]}");

enum { BLOCK = 512, DEVICES = 8, QUEUES = 16, DEPTH = 256, SEGMENTS = 64, TRANSFER = 2048 };

struct plugin { const daos_host_services *host; atomic_flag open[DEVICES]; };
struct device { struct plugin *plugin; unsigned index; uint64_t blocks; uint8_t *data; atomic_uint queues; };
/* Used by one thread, so there are no locks. */
struct queue { struct device *device; uint32_t depth, head, count; daos_completion done[]; };

@COMMON@@NUMBER@
/* ---- The plugin as a whole, and its control face: blocking calls, one at a time, in a helper process. ---- */

static daos_status create(daos_host_services_ptr host, daos_call_ptr call, daos_str settings, daos_handle *out) {
  (void)settings;
  struct plugin *p = calloc(1, sizeof *p);
  if (!p)
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for the plugin");
  p->host = host;
  *out = p;
  return DAOS_STATUS_OK;
}

/* The keys of the class. The host has checked them against the schema; others call a plugin, too. */
static daos_status config(struct plugin *p, daos_call_ptr call, daos_str doc, uint64_t *n, uint64_t *mib) {
  *n = 1, *mib = 0;
  if (number(p->host, doc, "/config/bdev_number", n) || number(p->host, doc, "/config/bdev_size_mib", mib))
    return fail(call, DAOS_STATUS_INVALID, "bdev_number and bdev_size_mib must be numbers");
  if (*n < 1 || *n > DEVICES || *mib < 1 || *mib > 65536)
    return fail(call, DAOS_STATUS_INVALID, "bdev_number is 1 to 8, bdev_size_mib 1 to 65536");
  return DAOS_STATUS_OK;
}

static daos_status validate(daos_handle plugin, daos_call_ptr call, daos_str doc) {
  uint64_t n, mib;
  return config(plugin, call, doc, &n, &mib);
}

/* The devices of a configuration, in the order in which the engine numbers them. Reads only. */
static daos_status devices(daos_handle plugin, daos_call_ptr call, daos_str doc) {
  uint64_t n, mib;
  daos_status status = config(plugin, call, doc, &n, &mib);
  for (uint64_t i = 0; status == DAOS_STATUS_OK && i < n; i++) {
    char text[200];
    int len = snprintf(text, sizeof text,
                       "%s{\"class\":\"" CLASS "\",\"index\":%u,\"address\":\"memory%u\",\"size\":%llu,\"state\":\"present\"}%s",
                       i ? "," : "[", (unsigned)i, (unsigned)i, (unsigned long long)mib << 20, i + 1 < n ? "" : "]");
    call->output(call->ctx, (const uint8_t *)text, (size_t)len);
  }
  return status;
}

/* ---- The data face. ---- */

static daos_status open_device(daos_handle plugin, daos_call_ptr call, daos_str doc, daos_handle *out) {
  struct plugin *p = plugin;
  uint64_t index = DEVICES, size = 0;
  if (number(p->host, doc, "/index", &index) || number(p->host, doc, "/size", &size))
    return fail(call, DAOS_STATUS_INVALID, "the device's entry is malformed");
  if (index >= DEVICES || size < BLOCK)
    return fail(call, DAOS_STATUS_NOT_FOUND, "there is no such device");
  if (atomic_flag_test_and_set(&p->open[index]))
    return fail(call, DAOS_STATUS_BUSY, "the device is open already");
  struct device *d = calloc(1, sizeof *d);
  if (!d || !(d->data = calloc(size / BLOCK, BLOCK))) {
    free(d);
    atomic_flag_clear(&p->open[index]);
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for the device");
  }
  d->plugin = p, d->index = (unsigned)index, d->blocks = size / BLOCK;
  *out = d;
  return DAOS_STATUS_OK;
}

static void close_device(daos_handle bdev) {
  struct device *d = bdev;
  atomic_flag_clear(&d->plugin->open[d->index]);
  free(d->data);
  free(d);
}

static daos_status geometry(daos_handle bdev, daos_bdev_geometry *out) {
  struct device *d = bdev;
  *out = (daos_bdev_geometry){ .block_size = BLOCK, .buffer_alignment = 1, .block_count = d->blocks,
    .max_transfer_blocks = TRANSFER, .max_segments = SEGMENTS, .atomic_write_blocks = 1, .max_queues = QUEUES,
    .max_queue_depth = DEPTH, .numa_node = -1, .flags = DAOS_BDEV_GEOMETRY_WRITE_ZEROES | DAOS_BDEV_GEOMETRY_EPHEMERAL };
  return DAOS_STATUS_OK;
}

static daos_status open_queue(daos_handle bdev, daos_call_ptr call, uint32_t depth, daos_handle *out) {
  struct device *d = bdev;
  if (depth < 1 || depth > DEPTH)
    return fail(call, DAOS_STATUS_INVALID, "the depth is 1 to 256");
  if (atomic_fetch_add(&d->queues, 1) >= QUEUES) {
    atomic_fetch_sub(&d->queues, 1);
    return fail(call, DAOS_STATUS_BUSY, "all queues of the device are open");
  }
  struct queue *q = calloc(1, sizeof *q + depth * sizeof q->done[0]);
  if (!q) {
    atomic_fetch_sub(&d->queues, 1);
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for the queue");
  }
  q->device = d, q->depth = depth;
  *out = q;
  return DAOS_STATUS_OK;
}

static void close_queue(daos_handle queue) {
  atomic_fetch_sub(&((struct queue *)queue)->device->queues, 1);
  free(queue);
}

/* Everything is checked before the first byte moves. */
static daos_status execute(struct device *d, const daos_request *r) {
  int data = r->op == DAOS_BDEV_OP_READ || r->op == DAOS_BDEV_OP_WRITE;
  size_t left = r->blocks * BLOCK;
  if (r->op == DAOS_BDEV_OP_FLUSH) /* there is no cache: what completed is as durable as it gets */
    return DAOS_STATUS_OK;
  if (!data && r->op != DAOS_BDEV_OP_WRITE_ZEROES)
    return DAOS_STATUS_NOT_SUPPORTED;
  if (!r->blocks || r->blocks > d->blocks || r->lba > d->blocks - r->blocks)
    return DAOS_STATUS_INVALID;
  uint8_t *at = d->data + r->lba * BLOCK;
  if (!data)
    return memset(at, 0, left), DAOS_STATUS_OK;
  if (r->blocks > TRANSFER || r->iov_count > SEGMENTS)
    return DAOS_STATUS_INVALID;
  for (uint32_t i = 0; i < r->iov_count; left -= r->iov[i++].len)
    if (r->iov[i].len > left)
      return DAOS_STATUS_INVALID;
  if (left)
    return DAOS_STATUS_INVALID;
  for (uint32_t i = 0; i < r->iov_count; at += r->iov[i++].len) {
    int read = r->op == DAOS_BDEV_OP_READ;
    memcpy(read ? r->iov[i].ptr : at, read ? at : r->iov[i].ptr, r->iov[i].len);
  }
  return DAOS_STATUS_OK;
}

static int32_t submit(daos_handle queue, const daos_request *requests, uint32_t count) {
  struct queue *q = queue;
  uint32_t n = 0;
  for (; n < count && q->count < q->depth; n++, q->count++)
    q->done[(q->head + q->count) % q->depth] = (daos_completion){ requests[n].tag, execute(q->device, &requests[n]), 0 };
  return (int32_t)n;
}

static int32_t poll_queue(daos_handle queue, daos_completion *out, uint32_t capacity) {
  struct queue *q = queue;
  uint32_t n = 0;
  for (; n < capacity && q->count; n++, q->count--, q->head = (q->head + 1) % q->depth)
    out[n] = q->done[q->head];
  return (int32_t)n;
}

/* Everything completes at once: whoever asks has something to poll. */
static daos_status arm_wait(daos_handle queue, daos_wait *out) {
  (void)queue;
  *out = DAOS_WAIT_BUSY;
  return DAOS_STATUS_OK;
}

/* ---- The tables, and the way to them. An optional member that is not named is NULL: not provided. ---- */

static const daos_control_table control = { .size = sizeof control, .version = DAOS_ABI_MINOR, .validate = validate, .devices = devices };
static const daos_bdev_table bdev = { .size = sizeof bdev, .version = DAOS_ABI_MINOR, .open = open_device, .close = close_device,
  .geometry = geometry, .open_queue = open_queue, .close_queue = close_queue, .submit = submit, .poll = poll_queue, .arm_wait = arm_wait };

const daos_plugin_table *daos_plugin_entry_v1(uint16_t host_major, uint16_t host_minor) {
  static daos_plugin_table table = { .size = sizeof table, .abi_major = DAOS_ABI_MAJOR, .abi_minor = DAOS_ABI_MINOR,
    .create = create, .destroy = free, .control = &control, .bdev = &bdev };
  (void)host_minor;
  table.manifest = daos_plugin_manifest;
  return host_major == DAOS_ABI_MAJOR ? &table : NULL;
}
