/*
 * Comes between a program and its disk (LD_PRELOAD): fsync and fdatasync hang, or take their time, as a file says that is
 * shared with whoever started the program. It also says what was on disk when: for each file its length at the beginning of
 * the latest of these calls that succeeded. Everything else is as it was.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NOTHING = 0, HANG = 1, SLOW = 2, FILES = 4096 };

/* The layout is known to stall.rs. */
struct control {
  uint32_t mode;
  uint32_t slow_ms_min;
  uint32_t slow_ms_max;
  uint32_t files;
  uint64_t hung;
  uint64_t slowed;
  struct {
    uint64_t inode;
    uint64_t bytes;
  } synced[FILES];
};

static volatile struct control *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("LD_LOADTEST_STALL");
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared != MAP_FAILED) control = shared;
  close(file);
}

static void wait_ms(uint32_t ms) {
  struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
  while (nanosleep(&time, &time) != 0) {
  }
}

static void stall(void) {
  if (control->mode == HANG) {
    __atomic_fetch_add(&control->hung, 1, __ATOMIC_SEQ_CST);
    while (control->mode == HANG) wait_ms(2);
  } else if (control->mode == SLOW) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    __atomic_fetch_add(&control->slowed, 1, __ATOMIC_SEQ_CST);
    uint64_t random = ((uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec) * 0x9e3779b97f4a7c15u >> 33;
    wait_ms(control->slow_ms_min + random % (control->slow_ms_max - control->slow_ms_min + 1));
  }
}

static void note(uint64_t inode, uint64_t bytes) {
  pthread_mutex_lock(&lock);
  uint32_t at = 0;
  while (at < control->files && control->synced[at].inode != inode) at++;
  if (at < FILES) {
    control->synced[at].inode = inode;
    control->synced[at].bytes = bytes;
    if (at == control->files) control->files = at + 1;
  }
  pthread_mutex_unlock(&lock);
}

static int sync_with(int file, const char *name) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  if (!control) return real(file);
  struct stat before;
  int is_file = fstat(file, &before) == 0 && S_ISREG(before.st_mode);
  stall();
  int result = real(file);
  if (result == 0 && is_file) note(before.st_ino, (uint64_t)before.st_size);
  return result;
}

int fsync(int file) { return sync_with(file, "fsync"); }

int fdatasync(int file) { return sync_with(file, "fdatasync"); }
