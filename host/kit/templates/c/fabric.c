/* @NAME@: a fabric of class @CLASS@ whose endpoints reach each other inside one process: tagged messages and remote memory
 * access. One file, built with the system's compiler alone (see Makefile); yours will have a network. What each function
 * may do stands beside it in daos_plugin.h.
 *
 * One lock guards everything that endpoints share. A real fabric has no need for it: its network is the other side. */
#define _DEFAULT_SOURCE
#include "daos_plugin.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CLASS "@CLASS@"
#define INTERFACE "lo"

DAOS_PLUGIN_MANIFEST("{\"name\":\"@NAME@\",\"version\":\"0.1.0\",\"vendor\":\"example\",\"description\":\"A fabric of class " CLASS
                     ", inside one process\",\"classes\":[{\"kind\":\"fabric\",\"name\":\"" CLASS
                     "\",\"capabilities\":[\"scan\",\"messages\",\"rma\"]}]}");

enum { ENDPOINTS = 64, OUTSTANDING = 1024, MOST = 16 << 20, ADDRESS = 16 };
static const uint8_t magic[8] = "inmemory";

/* A message that met no receive. A real fabric bounds what it keeps of each peer. */
struct message { struct message *next; uint64_t tag; size_t len; uint8_t data[]; };
struct region { struct region *next; struct plugin *plugin; uint64_t key; uint8_t *ptr; size_t len; uint32_t access; };
struct endpoint {
  struct plugin *plugin;
  uint64_t id;           /* never used again */
  int wake;              /* becomes readable with each completion */
  uint32_t outstanding;  /* taken and not polled */
  uint32_t head, count;  /* completions, a ring */
  daos_fabric_completion done[OUTSTANDING];
  uint32_t receive_count; /* offered memory, oldest first */
  daos_fabric_request receives[OUTSTANDING];
  struct message *first, **last;
  uint64_t *peers;       /* ids by number, from 1; 0 = released */
  size_t peer_count;
};
struct plugin {
  const daos_host_services *host;
  pthread_mutex_t lock;
  struct endpoint *endpoints[ENDPOINTS];
  uint64_t last_id, last_key;
  struct region *regions;
};

@COMMON@@TEXT@
/* ---- The plugin as a whole, and its control face. ---- */

static daos_status create(daos_host_services_ptr host, daos_call_ptr call, daos_str settings, daos_handle *out) {
  (void)settings;
  struct plugin *p = calloc(1, sizeof *p);
  if (!p)
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for the plugin");
  p->host = host;
  pthread_mutex_init(&p->lock, NULL);
  *out = p;
  return DAOS_STATUS_OK;
}

static void destroy(daos_handle plugin) {
  struct plugin *p = plugin;
  pthread_mutex_destroy(&p->lock);
  free(p);
}

static daos_status scan(daos_handle plugin, daos_call_ptr call, daos_str request) {
  static const char text[] = "{\"devices\":[{\"kind\":\"fabric\",\"class\":\"" CLASS "\",\"address\":\"" INTERFACE "\"}]}";
  (void)plugin, (void)request;
  call->output(call->ctx, (const uint8_t *)text, sizeof text - 1);
  return DAOS_STATUS_OK;
}

/* ---- The data face: domains. A domain is the plugin itself, since there is one network. ---- */

static daos_status open_domain(daos_handle plugin, daos_call_ptr call, daos_str request, daos_handle *domain) {
  struct plugin *p = plugin;
  struct text provider, interface;
  if (string(p->host, request, "/provider", &provider) || string(p->host, request, "/interface", &interface))
    return fail(call, DAOS_STATUS_INVALID, "provider and interface must be texts");
  if (strcmp(provider.bytes, CLASS))
    return fail(call, DAOS_STATUS_NOT_FOUND, "there is no such provider; use " CLASS);
  if (interface.len && strcmp(interface.bytes, INTERFACE))
    return fail(call, DAOS_STATUS_NOT_FOUND, "there is no such interface; use " INTERFACE);
  *domain = p;
  return DAOS_STATUS_OK;
}

static void close_domain(daos_handle domain) { (void)domain; }

static daos_status info(daos_handle domain, daos_fabric_info *out) {
  (void)domain;
  *out = (daos_fabric_info){ .max_message = MOST, .max_rma = MOST, .max_address = ADDRESS, .max_endpoints = ENDPOINTS,
    .max_outstanding = OUTSTANDING, .tag_bits = 64, .numa_node = -1,
    .flags = DAOS_FABRIC_INFO_CHECKS_ACCESS | DAOS_FABRIC_INFO_REPORTS_ACCESS };
  return DAOS_STATUS_OK;
}

static daos_status register_memory(daos_handle domain, daos_call_ptr call, uint8_t *ptr, uintptr_t len, uint32_t access,
                                   daos_memory_region *out) {
  struct plugin *p = domain;
  if (access & ~(uint32_t)(DAOS_FABRIC_LOCAL | DAOS_FABRIC_REMOTE_READ | DAOS_FABRIC_REMOTE_WRITE))
    return fail(call, DAOS_STATUS_INVALID, "unknown rights");
  struct region *r = malloc(sizeof *r);
  if (!r)
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for a registration");
  pthread_mutex_lock(&p->lock);
  /* A key that a peer cannot guess wants random numbers; here it only has to be another one. */
  p->last_key = p->last_key * 6364136223846793005u + 1442695040888963407u;
  *r = (struct region){ p->regions, p, p->last_key, ptr, len, access };
  p->regions = r;
  pthread_mutex_unlock(&p->lock);
  /* Remote addresses count from the start of the registration. */
  *out = (daos_memory_region){ .handle = r, .descriptor = 0, .key = r->key, .base = 0 };
  return DAOS_STATUS_OK;
}

/* Under the lock that remote accesses hold: on return nobody reaches the memory. */
static daos_status unregister_memory(daos_handle domain, daos_handle region) {
  struct plugin *p = domain;
  pthread_mutex_lock(&p->lock);
  for (struct region **at = &p->regions; *at; at = &(*at)->next)
    if (*at == region) {
      *at = (*at)->next;
      break;
    }
  pthread_mutex_unlock(&p->lock);
  free(region);
  return DAOS_STATUS_OK;
}

/* ---- Endpoints. ---- */

static daos_status open_endpoint(daos_handle domain, daos_call_ptr call, daos_handle *out) {
  struct plugin *p = domain;
  struct endpoint *e = calloc(1, sizeof *e);
  if (!e)
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for an endpoint");
  e->plugin = p, e->last = &e->first;
  e->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (e->wake < 0) {
    free(e);
    return fail(call, DAOS_STATUS_NO_MEMORY, "no descriptor to wait on");
  }
  pthread_mutex_lock(&p->lock);
  int slot = 0;
  while (slot < ENDPOINTS && p->endpoints[slot])
    slot++;
  if (slot < ENDPOINTS)
    p->endpoints[slot] = e, e->id = ++p->last_id;
  pthread_mutex_unlock(&p->lock);
  if (slot == ENDPOINTS) {
    close(e->wake);
    free(e);
    return fail(call, DAOS_STATUS_BUSY, "64 endpoints are open");
  }
  *out = e;
  return DAOS_STATUS_OK;
}

/* What it has offered goes with it: nobody touches that memory any more. */
static void close_endpoint(daos_handle endpoint) {
  struct endpoint *e = endpoint;
  pthread_mutex_lock(&e->plugin->lock);
  for (int slot = 0; slot < ENDPOINTS; slot++)
    if (e->plugin->endpoints[slot] == e)
      e->plugin->endpoints[slot] = NULL;
  pthread_mutex_unlock(&e->plugin->lock);
  for (struct message *m = e->first, *next; m; m = next)
    next = m->next, free(m);
  close(e->wake);
  free(e->peers);
  free(e);
}

static daos_status address(daos_handle endpoint, daos_sink out) {
  struct endpoint *e = endpoint;
  out.write(out.ctx, magic, sizeof magic);
  out.write(out.ctx, (const uint8_t *)&e->id, sizeof e->id);
  return DAOS_STATUS_OK;
}

static daos_status resolve(daos_handle endpoint, const uint8_t *bytes, uintptr_t len, uint64_t *peer) {
  struct endpoint *e = endpoint;
  uint64_t id;
  if (len != ADDRESS || memcmp(bytes, magic, sizeof magic))
    return DAOS_STATUS_INVALID;
  memcpy(&id, bytes + sizeof magic, sizeof id);
  if (!id)
    return DAOS_STATUS_INVALID;
  for (size_t i = 0; i < e->peer_count; i++)
    if (e->peers[i] == id)
      return *peer = i + 1, DAOS_STATUS_OK;
  uint64_t *more = realloc(e->peers, (e->peer_count + 1) * sizeof *more);
  if (!more)
    return DAOS_STATUS_NO_MEMORY;
  e->peers = more;
  e->peers[e->peer_count] = id;
  *peer = ++e->peer_count;
  return DAOS_STATUS_OK;
}

/* The id behind the number of a peer; 0 if it is none. */
static uint64_t id_of(struct endpoint *e, uint64_t peer) {
  return peer >= 1 && peer <= e->peer_count ? e->peers[peer - 1] : 0;
}

static daos_status release(daos_handle endpoint, uint64_t peer) {
  struct endpoint *e = endpoint;
  if (!id_of(e, peer))
    return DAOS_STATUS_NOT_FOUND;
  e->peers[peer - 1] = 0;
  return DAOS_STATUS_OK;
}

/* The functions below are called under the lock. */

static struct endpoint *find(struct plugin *p, uint64_t id) {
  for (int slot = 0; id && slot < ENDPOINTS; slot++)
    if (p->endpoints[slot] && p->endpoints[slot]->id == id)
      return p->endpoints[slot];
  return NULL;
}

/* There is room: an endpoint has no more completions than it has operations outstanding. */
static void complete(struct endpoint *e, const daos_fabric_request *r, uint64_t tag, uint64_t len, daos_status status) {
  daos_fabric_completion *c = &e->done[(e->head + e->count++) % OUTSTANDING];
  uint64_t one = 1;
  *c = (daos_fabric_completion){ .user = r->user, .tag = tag, .len = len, .status = status, .op = r->op };
  if (write(e->wake, &one, sizeof one) < 0)
    return; /* full: it is readable already */
}

static void deliver(struct endpoint *e, const daos_fabric_request *receive, uint64_t tag, const uint8_t *data, size_t len) {
  size_t n = len < receive->len ? len : receive->len;
  if (n)
    memcpy(receive->ptr, data, n);
  complete(e, receive, tag, n, n == len ? DAOS_STATUS_OK : DAOS_STATUS_TRUNCATED);
}

static void forget_receive(struct endpoint *e, uint32_t at) {
  e->receive_count--;
  memmove(&e->receives[at], &e->receives[at + 1], (e->receive_count - at) * sizeof e->receives[0]);
}

static daos_status send_message(struct endpoint *to, const daos_fabric_request *r) {
  if (!to)
    return DAOS_STATUS_UNREACHABLE;
  for (uint32_t i = 0; i < to->receive_count; i++) {
    daos_fabric_request receive = to->receives[i];
    if (!((receive.tag ^ r->tag) & ~receive.ignore)) {
      forget_receive(to, i);
      deliver(to, &receive, r->tag, r->ptr, r->len);
      return DAOS_STATUS_OK;
    }
  }
  struct message *m = malloc(sizeof *m + r->len);
  if (!m)
    return DAOS_STATUS_NO_MEMORY;
  m->next = NULL, m->tag = r->tag, m->len = r->len;
  if (r->len)
    memcpy(m->data, r->ptr, r->len);
  *to->last = m, to->last = &m->next;
  return DAOS_STATUS_OK;
}

static void receive_message(struct endpoint *e, const daos_fabric_request *r) {
  for (struct message **at = &e->first; *at; at = &(*at)->next) {
    struct message *m = *at;
    if ((m->tag ^ r->tag) & ~r->ignore)
      continue;
    *at = m->next;
    if (e->last == &m->next)
      e->last = at;
    deliver(e, r, m->tag, m->data, m->len);
    free(m);
    return;
  }
  e->receives[e->receive_count++] = *r;
}

static daos_status access_memory(struct plugin *p, struct endpoint *to, const daos_fabric_request *r) {
  uint32_t right = r->op == DAOS_FABRIC_OP_READ ? DAOS_FABRIC_REMOTE_READ : DAOS_FABRIC_REMOTE_WRITE;
  if (!to)
    return DAOS_STATUS_UNREACHABLE;
  for (struct region *m = p->regions; m; m = m->next) {
    if (m->key != r->remote_key)
      continue;
    if (!(m->access & right) || r->len > m->len || r->remote_addr > m->len - r->len)
      return DAOS_STATUS_ACCESS;
    if (r->op == DAOS_FABRIC_OP_READ)
      memmove(r->ptr, m->ptr + r->remote_addr, r->len);
    else
      memmove(m->ptr + r->remote_addr, r->ptr, r->len);
    return DAOS_STATUS_OK;
  }
  return DAOS_STATUS_ACCESS;
}

static int32_t submit(daos_handle endpoint, const daos_fabric_request *requests, uint32_t count) {
  struct endpoint *e = endpoint;
  uint32_t n = 0;
  pthread_mutex_lock(&e->plugin->lock);
  for (; n < count && e->outstanding < OUTSTANDING; n++, e->outstanding++) {
    const daos_fabric_request *r = &requests[n];
    struct endpoint *to = find(e->plugin, id_of(e, r->peer));
    if (r->len > MOST)
      complete(e, r, 0, 0, DAOS_STATUS_INVALID);
    else if (r->op == DAOS_FABRIC_OP_RECV)
      receive_message(e, r);
    else if (r->op == DAOS_FABRIC_OP_SEND)
      complete(e, r, 0, 0, send_message(to, r));
    else if (r->op == DAOS_FABRIC_OP_READ || r->op == DAOS_FABRIC_OP_WRITE)
      complete(e, r, 0, 0, access_memory(e->plugin, to, r));
    else
      complete(e, r, 0, 0, DAOS_STATUS_NOT_SUPPORTED);
  }
  pthread_mutex_unlock(&e->plugin->lock);
  return (int32_t)n;
}

static int32_t poll_endpoint(daos_handle endpoint, daos_fabric_completion *out, uint32_t capacity) {
  struct endpoint *e = endpoint;
  uint32_t n = 0;
  pthread_mutex_lock(&e->plugin->lock);
  for (; n < capacity && e->count; n++, e->count--, e->outstanding--, e->head = (e->head + 1) % OUTSTANDING)
    out[n] = e->done[e->head];
  pthread_mutex_unlock(&e->plugin->lock);
  return (int32_t)n;
}

static daos_status cancel(daos_handle endpoint, uint64_t user) {
  struct endpoint *e = endpoint;
  daos_status status = DAOS_STATUS_NOT_FOUND;
  pthread_mutex_lock(&e->plugin->lock);
  for (uint32_t i = 0; i < e->receive_count; i++)
    if (e->receives[i].user == user) {
      daos_fabric_request receive = e->receives[i];
      forget_receive(e, i);
      complete(e, &receive, 0, 0, DAOS_STATUS_CANCELLED);
      status = DAOS_STATUS_OK;
      break;
    }
  pthread_mutex_unlock(&e->plugin->lock);
  return status;
}

/* The descriptor is emptied under the lock: the next completion makes it readable. */
static daos_status arm_wait(daos_handle endpoint, daos_wait *out) {
  struct endpoint *e = endpoint;
  uint64_t count;
  *out = DAOS_WAIT_BUSY;
  pthread_mutex_lock(&e->plugin->lock);
  if (!e->count) {
    if (read(e->wake, &count, sizeof count) < 0)
      count = 0; /* it was empty */
    *out = (daos_wait){ .kind = DAOS_WAIT_KIND_FD, .fd = e->wake, .timeout_us = 0 };
  }
  pthread_mutex_unlock(&e->plugin->lock);
  return DAOS_STATUS_OK;
}

/* ---- The tables, and the way to them. ---- */

static const daos_control_table control = { .size = sizeof control, .version = DAOS_ABI_MINOR, .scan = scan };
static const daos_fabric_table fabric = { .size = sizeof fabric, .version = DAOS_ABI_MINOR, .open = open_domain,
  .close = close_domain, .info = info, .register_ = register_memory, .unregister = unregister_memory,
  .open_endpoint = open_endpoint, .close_endpoint = close_endpoint, .address = address, .resolve = resolve,
  .release = release, .submit = submit, .poll = poll_endpoint, .cancel = cancel, .arm_wait = arm_wait };

const daos_plugin_table *daos_plugin_entry_v1(uint16_t host_major, uint16_t host_minor) {
  static daos_plugin_table table = { .size = sizeof table, .abi_major = DAOS_ABI_MAJOR, .abi_minor = DAOS_ABI_MINOR,
    .create = create, .destroy = destroy, .control = &control, .fabric = &fabric };
  (void)host_minor;
  table.manifest = daos_plugin_manifest;
  return host_major == DAOS_ABI_MAJOR ? &table : NULL;
}
