/*
 * What runs in the Pods of smoke.py. Without arguments: an HTTP server on port 8080 that answers every request with the
 * name of its Pod. With arguments: prints the first and ends.
 */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

int main(int count, char **arguments) {
    if (count > 1)
        return puts(arguments[1]) < 0;
    signal(SIGTERM, end);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128))
        return 1;
    char name[65] = "", answer[256], request[4096];
    gethostname(name, sizeof name - 1);
    int length = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
                          strlen(name) + 1, name);
    for (;;) {
        int client = accept(listener, 0, 0);
        if (client < 0)
            continue;
        if (read(client, request, sizeof request) > 0 && write(client, answer, length) == length)
            shutdown(client, SHUT_WR);
        close(client);
    }
}
