/* A function for tests of backends in a cluster: answers calls, takes its time, writes, dies, and ends when it is told to.
 *
 * {"sleep": s} takes a while, {"print": "text"} writes, "die" ends it. A runtimeCommand with "exit" in it ends it at once,
 * and one that begins with "sleep" keeps it from listening. */

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 1 << 16 };

/* Stands for a process id, which is 1 in every Pod. */
static unsigned id;
static atomic_int in_flight;

static void nap(double seconds) {
  struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&time, NULL);
}

/* Calls in flight finish first. */
static void *end_when_told(void *signals) {
  int signal;
  sigwait(signals, &signal);
  while (atomic_load(&in_flight) > 0) nap(0.01);
  _exit(0);
}

/* In one piece: the second of two would wait for the receipt of the first, which takes 40 ms. */
static void answer(int peer, const char *text) {
  char whole[256];
  int length = snprintf(whole, sizeof whole, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
                        text[0] == '{' ? "application/json" : "text/plain", strlen(text), text);
  if (write(peer, whole, (size_t)length) < 0) return;
}

static void call(int peer, char *body) {
  char text[64];
  char *found;
  atomic_fetch_add(&in_flight, 1);
  if (strstr(body, "\"input\":\"die\"")) _exit(1);
  if ((found = strstr(body, "\"print\":\""))) {
    found += strlen("\"print\":\"");
    fprintf(stderr, "%.*s\n", (int)strcspn(found, "\""), found);
  }
  if ((found = strstr(body, "\"sleep\":"))) nap(strtod(found + strlen("\"sleep\":"), NULL));
  snprintf(text, sizeof text, "{\"pid\":%u}", id);
  answer(peer, text);
  atomic_fetch_sub(&in_flight, 1);
}

static void *serve(void *argument) {
  int peer = (int)(long)argument;
  char *text = calloc(1, HEAD_MAX + 1);
  size_t length = 0;
  while (text) {
    char *end = strstr(text, "\r\n\r\n");
    size_t body = 0;
    int is_last = 0;
    for (char *line = text; end && line < end; line = strstr(line, "\r\n") + 2) {
      if (!strncasecmp(line, "content-length:", 15)) body = strtoul(line + 15, NULL, 10);
      if (!strncasecmp(line, "connection: close", 17)) is_last = 1;
    }
    size_t whole = end ? (size_t)(end + 4 - text) + body : 0;
    if (!end || length < whole) {
      ssize_t more = length < HEAD_MAX ? read(peer, text + length, HEAD_MAX - length) : 0;
      if (more <= 0) break;
      length += (size_t)more;
      text[length] = 0;
      continue;
    }
    if (!strncmp(text, "POST", 4)) {
      call(peer, end + 4);
    } else {
      char load[32];
      snprintf(load, sizeof load, "in_flight %d\n", atomic_load(&in_flight));
      answer(peer, strncmp(text, "GET /metrics", 12) ? "{}" : load);
    }
    if (is_last) break;
    memmove(text, text + whole, length - whole + 1);
    length -= whole;
  }
  free(text);
  close(peer);
  return NULL;
}

int main(void) {
  const char *command = getenv("WATCHDOG_CMD"), *port = getenv("PORT");
  if (command && strstr(command, "exit")) {
    fprintf(stderr, "the reason\n");
    return 3;
  }
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  signal(SIGPIPE, SIG_IGN);
  pthread_t thread;
  pthread_create(&thread, NULL, end_when_told, &signals);
  if (command && !strncmp(command, "sleep", 5))
    for (;;) pause();
  if (getrandom(&id, sizeof id, 0) != sizeof id) return 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port ? port : "8080"))};
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128)) return 1;
  for (;;) {
    int peer = accept(listener, NULL, NULL);
    if (peer < 0) continue;
    if (!pthread_create(&thread, NULL, serve, (void *)(long)peer)) pthread_detach(thread);
  }
}
