/*
 * The first process of a Pod, and of each machine of the cluster: does nothing, and takes away what has ended.
 *
 * With it every other process of its process namespace ends.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void reap(int signal) {
    (void)signal;
    while (waitpid(-1, 0, WNOHANG) > 0) {
    }
}

static void end(int signal) {
    (void)signal;
    _exit(0);
}

int main(void) {
    struct sigaction reaps = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP | SA_RESTART};
    struct sigaction ends = {.sa_handler = end};
    if (sigaction(SIGCHLD, &reaps, 0) || sigaction(SIGTERM, &ends, 0) || sigaction(SIGINT, &ends, 0))
        return 1;
    for (;;)
        pause();
}
