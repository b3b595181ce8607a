/* @NAME@: storage-class memory of class @CLASS@: a directory of files, best on a tmpfs; yours will be a device. One file,
 * built with the system's compiler alone (see Makefile). What each function may do stands beside it in daos_plugin.h. */
#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L
#include "daos_plugin.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLASS "@CLASS@"
#define PREFIX "region-"
#define MARK ".formatted-by-@NAME@"

DAOS_PLUGIN_MANIFEST("{\"name\":\"@NAME@\",\"version\":\"0.1.0\",\"vendor\":\"example\",\"description\":\"Storage-class memory of class "
                     CLASS "\",\"classes\":[{\"kind\":\"scm\",\"name\":\"" CLASS "\",\"capabilities\":[\"format\"],"
                     "\"schema\":{\"type\":\"object\",\"properties\":{\"scm_mount\":{\"type\":\"string\",\"minLength\":1},"
                     "\"scm_size_mib\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":65536}},"
                     "\"required\":[\"scm_mount\",\"scm_size_mib\"],\"examples\":[{\"scm_size_mib\":32}]}}]}");

enum { PAGE = 4096, NAME = 64 };

struct region { struct region *next; char name[NAME + 1]; uint8_t *ptr; size_t len; };
struct memory {
  struct memory *next;
  struct plugin *plugin;
  uint64_t total;
  struct region *regions; /* those that are mapped */
  char directory[PATH_MAX];
};
struct plugin { const daos_host_services *host; pthread_mutex_t lock; struct memory *open; };

@COMMON@@NUMBER@@TEXT@
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

/* ---- The control face: blocking calls, one at a time, in a helper process. ---- */

/* The keys of the class in a document, below `prefix`. */
static daos_status config(struct plugin *p, daos_call_ptr call, daos_str doc, const char *prefix, struct text *mount, uint64_t *bytes) {
  char at[64];
  uint64_t mib = 0;
  snprintf(at, sizeof at, "%s/scm_mount", prefix);
  if (string(p->host, doc, at, mount))
    return fail(call, DAOS_STATUS_INVALID, "scm_mount must be a text");
  snprintf(at, sizeof at, "%s/scm_size_mib", prefix);
  if (number(p->host, doc, at, &mib))
    return fail(call, DAOS_STATUS_INVALID, "scm_size_mib must be a number");
  if (mount->bytes[0] != '/' || mount->len > PATH_MAX - 128)
    return fail(call, DAOS_STATUS_INVALID, "scm_mount must be an absolute path");
  if (strpbrk(mount->bytes, "\"\\") || strlen(mount->bytes) != mount->len)
    return fail(call, DAOS_STATUS_INVALID, "scm_mount must not hold quotes, backslashes or zero bytes");
  if (mib < 1 || mib > 65536)
    return fail(call, DAOS_STATUS_INVALID, "scm_size_mib is 1 to 65536");
  *bytes = mib << 20;
  return DAOS_STATUS_OK;
}

static daos_status validate(daos_handle plugin, daos_call_ptr call, daos_str doc) {
  struct text mount;
  uint64_t bytes;
  return config(plugin, call, doc, "/config", &mount, &bytes);
}

static int is_formatted(const char *directory) {
  char path[PATH_MAX];
  int len = snprintf(path, sizeof path, "%s/" MARK, directory);
  return len < (int)sizeof path && access(path, F_OK) == 0;
}

static struct memory *opened(struct plugin *p, const char *directory) {
  struct memory *m = p->open;
  while (m && strcmp(m->directory, directory))
    m = m->next;
  return m;
}

/* Reads only. */
static daos_status devices(daos_handle plugin, daos_call_ptr call, daos_str doc) {
  struct plugin *p = plugin;
  struct text mount;
  uint64_t bytes;
  daos_status status = config(p, call, doc, "/config", &mount, &bytes);
  if (status)
    return status;
  pthread_mutex_lock(&p->lock);
  int busy = opened(p, mount.bytes) != NULL;
  pthread_mutex_unlock(&p->lock);
  char text[2 * PATH_MAX + 400];
  int len = snprintf(text, sizeof text,
                     "[{\"class\":\"" CLASS "\",\"index\":0,\"address\":\"%s\",\"size\":%llu,\"state\":\"%s\",\"detail\":\"%s\","
                     "\"config\":{\"scm_mount\":\"%s\",\"scm_size_mib\":%llu}}]",
                     mount.bytes, (unsigned long long)bytes, busy ? "in_use" : is_formatted(mount.bytes) ? "present" : "absent",
                     busy ? "open in this process" : "", mount.bytes, (unsigned long long)bytes >> 20);
  call->output(call->ctx, (const uint8_t *)text, (size_t)len);
  return DAOS_STATUS_OK;
}

/* Makes the memory empty. What is not ours is refused unless the administrator allowed it. This sample removes its own files only. */
static daos_status format(daos_handle plugin, daos_call_ptr call, daos_str doc) {
  struct text mount;
  uint64_t bytes;
  daos_status status = config(plugin, call, doc, "/device/config", &mount, &bytes);
  if (status)
    return status;
  if (mkdir(mount.bytes, 0700) && errno != EEXIST)
    return fail(call, DAOS_STATUS_IO, "cannot make the directory");
  DIR *list = opendir(mount.bytes);
  if (!list)
    return fail(call, DAOS_STATUS_IO, "cannot list the directory");
  int ours = is_formatted(mount.bytes);
  char path[2 * PATH_MAX];
  for (struct dirent *entry; !status && (entry = readdir(list));) {
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
      continue;
    int region = !strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1);
    if (!ours)
      status = fail(call, DAOS_STATUS_FOREIGN, "the directory is not empty; choose another one");
    else if (region && snprintf(path, sizeof path, "%s/%s", mount.bytes, entry->d_name) < (int)sizeof path && unlink(path))
      status = fail(call, DAOS_STATUS_IO, "cannot remove a region");
  }
  closedir(list);
  if (status)
    return status;
  snprintf(path, sizeof path, "%s/" MARK, mount.bytes);
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || close(fd))
    return fail(call, DAOS_STATUS_IO, "cannot mark the directory");
  int len = snprintf(path, sizeof path, "{\"size\":%llu}", (unsigned long long)bytes);
  call->output(call->ctx, (const uint8_t *)path, (size_t)len);
  return DAOS_STATUS_OK;
}

/* ---- The data face. ---- */

static daos_status open_memory(daos_handle plugin, daos_call_ptr call, daos_str doc, daos_handle *out) {
  struct plugin *p = plugin;
  struct text mount;
  uint64_t bytes;
  daos_status status = config(p, call, doc, "/config", &mount, &bytes);
  if (status)
    return status;
  if (!is_formatted(mount.bytes))
    return fail(call, DAOS_STATUS_NOT_FOUND, "the memory is not formatted; format it");
  struct memory *m = calloc(1, sizeof *m);
  if (!m)
    return fail(call, DAOS_STATUS_NO_MEMORY, "no memory for the memory");
  m->plugin = p, m->total = bytes;
  memcpy(m->directory, mount.bytes, mount.len + 1);
  pthread_mutex_lock(&p->lock);
  int busy = opened(p, mount.bytes) != NULL;
  if (!busy)
    m->next = p->open, p->open = m;
  pthread_mutex_unlock(&p->lock);
  if (busy) {
    free(m);
    return fail(call, DAOS_STATUS_BUSY, "the memory is open already");
  }
  *out = m;
  return DAOS_STATUS_OK;
}

static void close_memory(daos_handle scm) {
  struct memory *m = scm;
  pthread_mutex_lock(&m->plugin->lock);
  for (struct memory **at = &m->plugin->open; *at; at = &(*at)->next)
    if (*at == m) {
      *at = m->next;
      break;
    }
  pthread_mutex_unlock(&m->plugin->lock);
  free(m);
}

/* Bytes that the regions leave; -1 if they cannot be counted. */
static int64_t available(struct memory *m) {
  DIR *list = opendir(m->directory);
  uint64_t sum = 0;
  struct stat st;
  if (!list)
    return -1;
  for (struct dirent *entry; (entry = readdir(list));)
    if (!strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1) && !fstatat(dirfd(list), entry->d_name, &st, 0))
      sum += (uint64_t)st.st_size;
  closedir(list);
  return sum < m->total ? (int64_t)(m->total - sum) : 0;
}

static daos_status info(daos_handle scm, daos_scm_info *out) {
  struct memory *m = scm;
  int64_t left = available(m);
  if (left < 0)
    return DAOS_STATUS_IO;
  *out = (daos_scm_info){ .total = m->total, .available = (uint64_t)left, .persist_granularity = 8, .numa_node = -1,
    .flags = DAOS_SCM_INFO_EPHEMERAL };
  return DAOS_STATUS_OK;
}

static daos_status mount_point(daos_handle scm, daos_sink out) {
  struct memory *m = scm;
  out.write(out.ctx, (const uint8_t *)m->directory, strlen(m->directory));
  return DAOS_STATUS_OK;
}

/* The path of a region; refuses what names none. */
static daos_status region_path(struct memory *m, daos_call_ptr call, daos_str name, char name_out[NAME + 1], char path[PATH_MAX]) {
  static const char fine[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  int ok = name.len >= 1 && name.len <= NAME;
  for (size_t i = 0; ok && i < name.len; i++)
    ok = name.ptr[i] && strchr(fine, name.ptr[i]);
  if (ok) {
    memcpy(name_out, name.ptr, name.len);
    name_out[name.len] = 0;
    ok = strcmp(name_out, ".") && strcmp(name_out, "..");
  }
  if (!ok)
    return fail(call, DAOS_STATUS_INVALID, "this names no region");
  if (snprintf(path, PATH_MAX, "%s/" PREFIX "%s", m->directory, name_out) >= PATH_MAX)
    return fail(call, DAOS_STATUS_INVALID, "the path of the region is too long");
  for (struct region *r = m->regions; r; r = r->next)
    if (!strcmp(r->name, name_out))
      return fail(call, DAOS_STATUS_BUSY, "the region is open");
  return DAOS_STATUS_OK;
}

/* Opens or makes a region. Everything is allocated now, so that full memory is an error here and never a signal later. */
static daos_status open_region(daos_handle scm, daos_call_ptr call, daos_str name, uint64_t len, uint32_t flags, daos_scm_region *out) {
  struct memory *m = scm;
  char text[NAME + 1], path[PATH_MAX];
  daos_status status = region_path(m, call, name, text, path);
  int make = flags & DAOS_SCM_CREATE, error = 0;
  if (status)
    return status;
  if (make && access(path, F_OK) == 0)
    return fail(call, DAOS_STATUS_EXISTS, "the region exists");
  if (make && !len)
    return fail(call, DAOS_STATUS_INVALID, "a region has at least one byte");
  int64_t left = available(m);
  if (make && (left < 0 || len > (uint64_t)left || (len + PAGE - 1) / PAGE * PAGE > (uint64_t)left))
    return fail(call, DAOS_STATUS_NO_SPACE, "there is no space for the region");
  len = (len + PAGE - 1) / PAGE * PAGE;
  int fd = open(path, O_RDWR | O_CLOEXEC | (make ? O_CREAT | O_EXCL : 0), 0600);
  if (fd < 0)
    return errno == ENOENT ? fail(call, DAOS_STATUS_NOT_FOUND, "there is no such region")
                           : fail(call, DAOS_STATUS_IO, "cannot open the region");
  struct stat st;
  if (make)
    error = posix_fallocate(fd, 0, (off_t)len);
  else if (fstat(fd, &st))
    error = errno;
  else
    len = (uint64_t)st.st_size;
  struct region *r = error ? NULL : calloc(1, sizeof *r);
  void *ptr = r ? mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  close(fd);
  if (ptr == MAP_FAILED) {
    free(r);
    if (make)
      unlink(path); /* what is left would be found as a region */
    return error == ENOSPC ? fail(call, DAOS_STATUS_NO_SPACE, "the file system is full")
                           : fail(call, DAOS_STATUS_IO, "cannot map the region");
  }
  memcpy(r->name, text, sizeof text);
  r->ptr = ptr, r->len = len;
  r->next = m->regions, m->regions = r;
  *out = (daos_scm_region){ .handle = r, .ptr = r->ptr, .len = r->len };
  return DAOS_STATUS_OK;
}

static void close_region(daos_handle scm, daos_handle region) {
  struct memory *m = scm;
  struct region *r = region;
  for (struct region **at = &m->regions; *at; at = &(*at)->next)
    if (*at == r) {
      *at = r->next;
      break;
    }
  munmap(r->ptr, r->len);
  free(r);
}

static daos_status remove_region(daos_handle scm, daos_call_ptr call, daos_str name) {
  char text[NAME + 1], path[PATH_MAX];
  daos_status status = region_path(scm, call, name, text, path);
  if (status)
    return status;
  if (unlink(path))
    return errno == ENOENT ? fail(call, DAOS_STATUS_NOT_FOUND, "there is no such region")
                           : fail(call, DAOS_STATUS_IO, "cannot remove the region");
  return DAOS_STATUS_OK;
}

/* Where stores reach the medium through processor caches alone, these write cache lines back. Any thread. */
static daos_status persist(daos_handle scm, const uint8_t *ptr, uintptr_t len) {
  (void)scm;
  uintptr_t start = (uintptr_t)ptr / PAGE * PAGE, end = (uintptr_t)ptr + len;
  return !len || !msync((void *)start, end - start, MS_SYNC) ? DAOS_STATUS_OK : DAOS_STATUS_IO;
}

/* `flush` has waited already. */
static daos_status drain(daos_handle scm) {
  (void)scm;
  return DAOS_STATUS_OK;
}

/* ---- The tables, and the way to them. ---- */

static const daos_control_table control = { .size = sizeof control, .version = DAOS_ABI_MINOR, .validate = validate,
  .devices = devices, .format = format };
static const daos_scm_table scm = { .size = sizeof scm, .version = DAOS_ABI_MINOR, .open = open_memory, .close = close_memory,
  .info = info, .mount_point = mount_point, .open_region = open_region, .close_region = close_region,
  .remove_region = remove_region, .persist = persist, .flush = persist, .drain = drain };

const daos_plugin_table *daos_plugin_entry_v1(uint16_t host_major, uint16_t host_minor) {
  static daos_plugin_table table = { .size = sizeof table, .abi_major = DAOS_ABI_MAJOR, .abi_minor = DAOS_ABI_MINOR,
    .create = create, .destroy = destroy, .control = &control, .scm = &scm };
  (void)host_minor;
  table.manifest = daos_plugin_manifest;
  return host_major == DAOS_ABI_MAJOR ? &table : NULL;
}
