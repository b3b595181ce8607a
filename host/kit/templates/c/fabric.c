/* @NAME@: a fabric of class @CLASS@ whose endpoints reach each other between the processes of this machine: tagged messages
 * and remote memory access. One file, built with the system's compiler alone (see Makefile); yours will have a network.
 * What each function may do stands beside it in daos_plugin.h.
 *
 * The network here is datagrams between sockets, one per endpoint: they arrive whole and in order, and who is dead
 * refuses them. Everything happens in `poll`, also what peers want of this side's memory. */
#define _DEFAULT_SOURCE
#include "daos_plugin.h"
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CLASS "@CLASS@"
#define INTERFACE "lo"

DAOS_PLUGIN_MANIFEST("{\"name\":\"@NAME@\",\"version\":\"0.1.0\",\"vendor\":\"example\",\"description\":\"A fabric of class " CLASS
                     ", between processes of one machine\",\"classes\":[{\"kind\":\"fabric\",\"name\":\"" CLASS
                     "\",\"capabilities\":[\"scan\",\"messages\",\"rma\",\"truncation\"]}]}");

enum { ENDPOINTS = 64, OUTSTANDING = 1024, MOST = 16 << 20, PAYLOAD = 32 << 10, ADDRESS = 16 };
enum { PROBE_MS = 100, AGAIN_US = 500 }; /* how often who owes an answer is asked after, who takes nothing tried again */
static const uint8_t magic[8] = "loopback";

/* What stands before the data of a datagram. PROBE asks whether somebody is there: a dead one's socket refuses. READ and
 * WRITE are a part of a remote access each and answered by DONE, with data or a status. */
enum { PROBE, MESSAGE, READ, WRITE, DONE };
struct header {
  uint64_t kind, from; /* endpoint that sends */
  uint64_t operation;  /* its number at the endpoint that began it */
  uint64_t tag;        /* of a message; key of a registration */
  uint64_t addr, total, at; /* remote access: where it begins, bytes in all, where in it this part begins */
  uint64_t status;
};
struct datagram { struct header h; uint8_t data[PAYLOAD]; };

/* A message that met no receive. A real fabric bounds what it keeps of each peer. */
struct message { struct message *next; uint64_t tag; size_t len; uint8_t data[]; };
struct region { struct region *next; uint64_t key; uint8_t *ptr; size_t len; uint32_t access; };
/* Registrations of a domain. The lock is held while a part is copied: once one is removed, nobody reaches its memory. */
struct domain { pthread_mutex_t lock; struct region *regions; };
/* A SEND, READ or WRITE in parts of PAYLOAD bytes; one without data has one part. */
struct operation { struct operation *next; daos_fabric_request r; uint64_t number, peer; size_t parts, sent, answered; };
struct answer { struct answer *next; struct header h; };
/* What is known of another endpoint. It has a socket of its own, so that one that reads nothing fills up no other one's
 * way. `resolved` = the host has its number, which is its place in the list. */
struct link { uint64_t id, number; int socket, resolved; struct answer *owed, **last; int64_t probed; struct link *next; };
struct endpoint {
  struct domain *domain;
  uint64_t id, last_number, last_peer;
  int socket;
  uint32_t outstanding;   /* taken and not polled */
  uint32_t head, count;   /* completions, a ring */
  daos_fabric_completion done[OUTSTANDING];
  uint32_t receive_count; /* offered memory, oldest first */
  daos_fabric_request receives[OUTSTANDING];
  struct message *first, **last;
  struct operation *operations, **last_operation; /* oldest first: messages keep their order */
  struct link *links;
  struct datagram out, in;
};
struct plugin { const daos_host_services *host; };

@COMMON@@TEXT@
/* ---- The plugin as a whole, and its control face. ---- */

static daos_status create(daos_host_services_ptr host, daos_call_ptr call, daos_str settings, daos_handle *out) {
  (void)settings;
  struct plugin *p = calloc(1, sizeof *p);
  if (!p)
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for the plugin");
  p->host = host;
  *out = p;
  return DAOS_STATUS_OK;
}

static void destroy(daos_handle plugin) { free(plugin); }

static daos_status scan(daos_handle plugin, daos_call_ptr call, daos_str request) {
  static const char text[] = "{\"devices\":[{\"kind\":\"fabric\",\"class\":\"" CLASS "\",\"address\":\"" INTERFACE "\"}]}";
  (void)plugin, (void)request;
  call->output(call->ctx, (const uint8_t *)text, sizeof text - 1);
  return DAOS_STATUS_OK;
}

/* ---- The data face: domains and registrations. ---- */

static daos_status open_domain(daos_handle plugin, daos_call_ptr call, daos_str request, daos_handle *out) {
  struct plugin *p = plugin;
  struct text provider, interface;
  if (string(p->host, request, "/provider", &provider) || string(p->host, request, "/interface", &interface))
    return fail(call, DAOS_STATUS_INVALID, "provider and interface must be texts");
  if (strcmp(provider.bytes, CLASS))
    return fail(call, DAOS_STATUS_NOT_FOUND, "there is no such provider; use " CLASS);
  if (interface.len && strcmp(interface.bytes, INTERFACE))
    return fail(call, DAOS_STATUS_NOT_FOUND, "there is no such interface; use " INTERFACE);
  struct domain *d = calloc(1, sizeof *d);
  if (!d)
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for a domain");
  pthread_mutex_init(&d->lock, NULL);
  *out = d;
  return DAOS_STATUS_OK;
}

static void close_domain(daos_handle domain) {
  struct domain *d = domain;
  pthread_mutex_destroy(&d->lock);
  free(d);
}

static daos_status info(daos_handle domain, daos_fabric_info *out) {
  (void)domain;
  *out = (daos_fabric_info){ .max_message = PAYLOAD, .max_rma = MOST, .max_address = ADDRESS, .max_endpoints = ENDPOINTS,
    .max_outstanding = OUTSTANDING, .tag_bits = 64, .numa_node = -1,
    .flags = DAOS_FABRIC_INFO_CHECKS_ACCESS | DAOS_FABRIC_INFO_REPORTS_ACCESS | DAOS_FABRIC_INFO_MANUAL_PROGRESS };
  return DAOS_STATUS_OK;
}

/* A number that nobody guesses. */
static int random_number(uint64_t *out) { return getrandom(out, sizeof *out, 0) == sizeof *out; }

static daos_status register_memory(daos_handle domain, daos_call_ptr call, uint8_t *ptr, uintptr_t len, uint32_t access,
                                   daos_memory_region *out) {
  struct domain *d = domain;
  uint64_t key;
  if (access & ~(uint32_t)(DAOS_FABRIC_LOCAL | DAOS_FABRIC_REMOTE_READ | DAOS_FABRIC_REMOTE_WRITE))
    return fail(call, DAOS_STATUS_INVALID, "unknown rights");
  struct region *r = malloc(sizeof *r);
  if (!r || !random_number(&key)) {
    free(r);
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for a registration");
  }
  pthread_mutex_lock(&d->lock);
  *r = (struct region){ d->regions, key, ptr, len, access };
  d->regions = r;
  pthread_mutex_unlock(&d->lock);
  /* Remote addresses count from the start of the registration. */
  *out = (daos_memory_region){ .handle = r, .descriptor = 0, .key = key, .base = 0 };
  return DAOS_STATUS_OK;
}

static daos_status unregister_memory(daos_handle domain, daos_handle region) {
  struct domain *d = domain;
  pthread_mutex_lock(&d->lock);
  for (struct region **at = &d->regions; *at; at = &(*at)->next)
    if (*at == region) {
      *at = (*at)->next;
      break;
    }
  pthread_mutex_unlock(&d->lock);
  free(region);
  return DAOS_STATUS_OK;
}

/* Copies `len` bytes of a part out of registered memory or into it, if the access as a whole is allowed: one that is not
 * touches nothing. */
static daos_status access_memory(struct domain *d, const struct header *h, uint8_t *data, size_t len) {
  uint32_t right = h->kind == READ ? DAOS_FABRIC_REMOTE_READ : DAOS_FABRIC_REMOTE_WRITE;
  daos_status status = DAOS_STATUS_ACCESS;
  pthread_mutex_lock(&d->lock);
  for (struct region *r = d->regions; r; r = r->next) {
    if (r->key != h->tag)
      continue;
    if (!(r->access & right) || h->total > r->len || h->addr > r->len - h->total || h->at > h->total || len > h->total - h->at)
      break;
    uint8_t *memory = r->ptr + h->addr + h->at;
    if (len)
      memcpy(h->kind == READ ? data : memory, h->kind == READ ? memory : data, len);
    status = DAOS_STATUS_OK;
    break;
  }
  pthread_mutex_unlock(&d->lock);
  return status;
}

/* ---- The network: sockets of other endpoints, and what became of a datagram. ---- */

static socklen_t name_of(uint64_t id, struct sockaddr_un *name) {
  *name = (struct sockaddr_un){ .sun_family = AF_UNIX };
  /* A name that starts with a zero is no file: the kernel forgets it with the socket. */
  int n = snprintf(name->sun_path + 1, sizeof name->sun_path - 1, "@NAME@-%016llx", (unsigned long long)id);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

enum sent { SENT, NOT_YET, GONE };

static enum sent send_datagram(struct link *to, const void *bytes, size_t len) {
  struct sockaddr_un name;
  socklen_t size = name_of(to->id, &name);
  if (sendto(to->socket, bytes, len, MSG_DONTWAIT, (struct sockaddr *)&name, size) >= 0)
    return SENT;
  return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? NOT_YET : GONE;
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct link *link_to(struct endpoint *e, uint64_t id) {
  for (struct link *l = e->links; l; l = l->next)
    if (l->id == id)
      return l;
  struct link *l = calloc(1, sizeof *l);
  if (!l)
    return NULL;
  l->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (l->socket < 0) {
    free(l);
    return NULL;
  }
  l->id = id, l->last = &l->owed, l->probed = now_ms(), l->next = e->links;
  return e->links = l;
}

static struct link *link_of(struct endpoint *e, uint64_t number) {
  for (struct link *l = e->links; l; l = l->next)
    if (l->resolved && l->number == number)
      return l;
  return NULL;
}

static void forget_answers(struct link *l) {
  for (struct answer *a = l->owed, *next; a; a = next)
    next = a->next, free(a);
  l->owed = NULL, l->last = &l->owed;
}

/* ---- Endpoints. ---- */

static daos_status open_endpoint(daos_handle domain, daos_call_ptr call, daos_handle *out) {
  struct endpoint *e = calloc(1, sizeof *e);
  struct sockaddr_un name;
  if (!e)
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for an endpoint");
  e->domain = domain, e->last = &e->first, e->last_operation = &e->operations;
  e->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (e->socket < 0 || !random_number(&e->id) || bind(e->socket, (struct sockaddr *)&name, name_of(e->id, &name))) {
    if (e->socket >= 0)
      close(e->socket);
    free(e);
    return fail(call, DAOS_STATUS_NO_MEMORY, "no socket for an endpoint");
  }
  *out = e;
  return DAOS_STATUS_OK;
}

/* What it has offered goes with it: nobody else touches that memory. */
static void close_endpoint(daos_handle endpoint) {
  struct endpoint *e = endpoint;
  for (struct message *m = e->first, *next; m; m = next)
    next = m->next, free(m);
  for (struct operation *o = e->operations, *next; o; o = next)
    next = o->next, free(o);
  for (struct link *l = e->links, *next; l; l = next) {
    next = l->next;
    forget_answers(l);
    close(l->socket);
    free(l);
  }
  close(e->socket);
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
  struct link *l = link_to(e, id);
  if (!l)
    return DAOS_STATUS_NO_MEMORY;
  if (!l->resolved)
    l->resolved = 1, l->number = ++e->last_peer;
  *peer = l->number;
  return DAOS_STATUS_OK;
}

/* There is room: an endpoint has no more completions than it has operations outstanding. */
static void complete(struct endpoint *e, const daos_fabric_request *r, uint64_t tag, uint64_t len, daos_status status) {
  daos_fabric_completion *c = &e->done[(e->head + e->count++) % OUTSTANDING];
  *c = (daos_fabric_completion){ .user = r->user, .tag = tag, .len = len, .status = status, .op = r->op };
}

/* Ends the operation at a place of the list. Answers that still come find none and touch nothing. */
static void end(struct endpoint *e, struct operation **at, daos_status status) {
  struct operation *o = *at;
  *at = o->next;
  if (e->last_operation == &o->next)
    e->last_operation = at;
  complete(e, &o->r, 0, 0, status);
  free(o);
}

static void end_all(struct endpoint *e, struct link *l, daos_status status) {
  for (struct operation **at = &e->operations; *at;)
    if ((*at)->peer == l->id)
      end(e, at, status);
    else
      at = &(*at)->next;
  forget_answers(l);
}

static daos_status release(daos_handle endpoint, uint64_t peer) {
  struct link *l = link_of(endpoint, peer);
  if (!l)
    return DAOS_STATUS_NOT_FOUND;
  end_all(endpoint, l, DAOS_STATUS_CANCELLED);
  l->resolved = 0; /* poll closes its socket */
  return DAOS_STATUS_OK;
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

static void message_came(struct endpoint *e, uint64_t tag, const uint8_t *data, size_t len) {
  for (uint32_t i = 0; i < e->receive_count; i++) {
    daos_fabric_request receive = e->receives[i];
    if (!((receive.tag ^ tag) & ~receive.ignore)) {
      forget_receive(e, i);
      deliver(e, &receive, tag, data, len);
      return;
    }
  }
  struct message *m = malloc(sizeof *m + len);
  if (!m)
    return; /* lost, as by a network; a real one would make the sender wait */
  m->next = NULL, m->tag = tag, m->len = len;
  memcpy(m->data, data, len);
  *e->last = m, e->last = &m->next;
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

static void owe(struct endpoint *e, const struct header *h) {
  struct link *l = link_to(e, h->from);
  struct answer *a = l ? malloc(sizeof *a) : NULL;
  if (!a)
    return; /* the other side waits, and asks after this one */
  *a = (struct answer){ NULL, *h };
  *l->last = a, l->last = &a->next;
}

/* An answer, believed only as far as it fits. */
static void answered(struct endpoint *e, const struct header *h, const uint8_t *data, size_t len) {
  for (struct operation **at = &e->operations; *at; at = &(*at)->next) {
    struct operation *o = *at;
    if (o->number != h->operation)
      continue;
    if (o->peer != h->from || h->at > o->r.len)
      return;
    size_t left = o->r.len - h->at, wanted = left < PAYLOAD ? left : PAYLOAD;
    if (o->r.op != DAOS_FABRIC_OP_READ || h->status)
      wanted = 0;
    if (len != wanted)
      return;
    if (len)
      memcpy(o->r.ptr + h->at, data, len);
    if (++o->answered == o->parts || h->status)
      end(e, at, (daos_status)h->status);
    return;
  }
}

static void arrived(struct endpoint *e, struct header *h, uint8_t *data, size_t len) {
  if (h->kind == MESSAGE)
    message_came(e, h->tag, data, len);
  else if (h->kind == DONE)
    answered(e, h, data, len);
  else if (h->kind == READ || h->kind == WRITE) {
    h->status = h->kind == WRITE ? (uint64_t)access_memory(e->domain, h, data, len) : 0;
    owe(e, h);
  }
}

/* Sends what is owed to another endpoint and what waits for it, as far as that takes it. */
static enum sent push(struct endpoint *e, struct link *l) {
  enum sent sent;
  while (l->owed) {
    struct answer *a = l->owed;
    size_t len = 0;
    e->out.h = a->h;
    if (a->h.kind == READ) {
      len = a->h.total > a->h.at ? a->h.total - a->h.at : 0;
      len = len < PAYLOAD ? len : PAYLOAD;
      e->out.h.status = (uint64_t)access_memory(e->domain, &a->h, e->out.data, len);
      len = e->out.h.status ? 0 : len;
    }
    e->out.h.kind = DONE, e->out.h.from = e->id;
    if ((sent = send_datagram(l, &e->out, sizeof e->out.h + len)) != SENT)
      return sent;
    if (!(l->owed = a->next))
      l->last = &l->owed;
    free(a);
  }
  for (struct operation **at = &e->operations; *at;) {
    struct operation *o = *at;
    if (o->peer != l->id) {
      at = &o->next;
      continue;
    }
    for (; o->sent < o->parts; o->sent++) {
      size_t begin = o->sent * PAYLOAD, left = o->r.len - begin, len = left < PAYLOAD ? left : PAYLOAD;
      int is_send = o->r.op == DAOS_FABRIC_OP_SEND, is_read = o->r.op == DAOS_FABRIC_OP_READ;
      e->out.h = (struct header){ is_send ? MESSAGE : is_read ? READ : WRITE, e->id, o->number,
        is_send ? o->r.tag : o->r.remote_key, o->r.remote_addr, o->r.len, begin, 0 };
      if (is_read)
        len = 0;
      if (len)
        memcpy(e->out.data, o->r.ptr + begin, len);
      if ((sent = send_datagram(l, &e->out, sizeof e->out.h + len)) != SENT)
        return sent;
    }
    if (o->r.op == DAOS_FABRIC_OP_SEND)
      end(e, at, DAOS_STATUS_OK); /* the kernel has the message: its memory may be used again */
    else
      at = &o->next;
  }
  return SENT;
}

/* Whether something towards another endpoint is to be sent, or, with `sent`, waits for its answer. */
static int has_work(struct endpoint *e, struct link *l, int sent) {
  for (struct operation *o = e->operations; o; o = o->next)
    if (o->peer == l->id && (o->sent < o->parts) != sent)
      return 1;
  return !sent && l->owed;
}

/* Takes what has come, sends what waits, asks after those who do not answer. */
static void progress(struct endpoint *e) {
  ssize_t n;
  while ((n = recv(e->socket, &e->in, sizeof e->in, 0)) >= 0)
    if ((size_t)n >= sizeof e->in.h)
      arrived(e, &e->in.h, e->in.data, (size_t)n - sizeof e->in.h);
  for (struct link **at = &e->links; *at;) {
    struct link *l = *at;
    enum sent sent = push(e, l);
    if (sent == SENT && has_work(e, l, 1) && now_ms() - l->probed > PROBE_MS) {
      l->probed = now_ms();
      e->out.h = (struct header){ .kind = PROBE, .from = e->id };
      sent = send_datagram(l, &e->out, sizeof e->out.h);
    }
    if (sent == GONE)
      end_all(e, l, DAOS_STATUS_UNREACHABLE);
    if (l->resolved || l->owed) {
      at = &l->next;
      continue;
    }
    *at = l->next; /* somebody who was only answered */
    close(l->socket);
    free(l);
  }
}

static daos_status begin(struct endpoint *e, const daos_fabric_request *r) {
  struct link *l = link_of(e, r->peer);
  if (r->len > MOST || (r->op == DAOS_FABRIC_OP_SEND && r->len > PAYLOAD))
    return DAOS_STATUS_INVALID;
  if (r->op == DAOS_FABRIC_OP_RECV) {
    receive_message(e, r);
    return DAOS_STATUS_OK;
  }
  if (r->op != DAOS_FABRIC_OP_SEND && r->op != DAOS_FABRIC_OP_READ && r->op != DAOS_FABRIC_OP_WRITE)
    return DAOS_STATUS_NOT_SUPPORTED;
  if (!l)
    return DAOS_STATUS_UNREACHABLE;
  struct operation *o = calloc(1, sizeof *o);
  if (!o)
    return DAOS_STATUS_NO_MEMORY;
  o->r = *r, o->number = ++e->last_number, o->peer = l->id, o->parts = r->len ? (r->len - 1) / PAYLOAD + 1 : 1;
  *e->last_operation = o, e->last_operation = &o->next;
  if (push(e, l) == GONE)
    end_all(e, l, DAOS_STATUS_UNREACHABLE);
  return DAOS_STATUS_OK;
}

static int32_t submit(daos_handle endpoint, const daos_fabric_request *requests, uint32_t count) {
  struct endpoint *e = endpoint;
  uint32_t n = 0;
  for (; n < count && e->outstanding < OUTSTANDING; n++) {
    e->outstanding++;
    daos_status status = begin(e, &requests[n]);
    if (status)
      complete(e, &requests[n], 0, 0, status);
  }
  return (int32_t)n;
}

static int32_t poll_endpoint(daos_handle endpoint, daos_fabric_completion *out, uint32_t capacity) {
  struct endpoint *e = endpoint;
  uint32_t n = 0;
  progress(e);
  for (; n < capacity && e->count; n++, e->count--, e->outstanding--, e->head = (e->head + 1) % OUTSTANDING)
    out[n] = e->done[e->head];
  return (int32_t)n;
}

static daos_status cancel(daos_handle endpoint, uint64_t user) {
  struct endpoint *e = endpoint;
  for (uint32_t i = 0; i < e->receive_count; i++)
    if (e->receives[i].user == user) {
      daos_fabric_request receive = e->receives[i];
      forget_receive(e, i);
      complete(e, &receive, 0, 0, DAOS_STATUS_CANCELLED);
      return DAOS_STATUS_OK;
    }
  for (struct operation **at = &e->operations; *at; at = &(*at)->next)
    if ((*at)->r.user == user) {
      end(e, at, DAOS_STATUS_CANCELLED);
      return DAOS_STATUS_OK;
    }
  return DAOS_STATUS_NOT_FOUND;
}

/* The socket is readable as long as something has come. What another endpoint does not take yet, and who does not answer, is
 * looked at again after a while. */
static daos_status arm_wait(daos_handle endpoint, daos_wait *out) {
  struct endpoint *e = endpoint;
  *out = DAOS_WAIT_BUSY;
  if (e->count)
    return DAOS_STATUS_OK;
  *out = (daos_wait){ .kind = DAOS_WAIT_KIND_FD, .fd = e->socket, .timeout_us = e->operations ? PROBE_MS * 1000 : 0 };
  for (struct link *l = e->links; l; l = l->next)
    if (has_work(e, l, 0))
      out->timeout_us = AGAIN_US;
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
