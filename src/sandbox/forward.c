#include "sandbox/forward.h"
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define RULES_MAX 4
#define LINKS_MAX 80
#define CHUNK (16u << 10)
/* A browser has a hundred threads; the 64 MB each that the sandbox allows would use up its memory. */
#define THREAD_STACK (1u << 20)

typedef struct {
  int fd;
  const char *to;
} Rule;

/* One direction each: what was read and not yet written. */
typedef struct {
  int from, to;
  gsize at, length;
  gboolean ended;
  char data[CHUNK];
} Flow;

typedef struct {
  int fd[2]; /* -1 = free */
  Flow flow[2];
} Pair;

static union {
  struct sockaddr any;
  struct sockaddr_in in;
  struct sockaddr_un un;
} address;

/* A socket for "9515" or "dir/name.sock", its address in `address`. */
static int socket_for(const char *end, socklen_t *ret_length) {
  memset(&address, 0, sizeof address);
  if (strchr(end, '/')) {
    address.un.sun_family = AF_UNIX;
    if (strlen(end) >= sizeof address.un.sun_path)
      return -1;
    memcpy(address.un.sun_path, end, strlen(end) + 1);
    *ret_length = sizeof address.un;
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  }
  address.in.sin_family = AF_INET;
  address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.in.sin_port = htons((guint16)atoi(end));
  *ret_length = sizeof address.in;
  return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static gboolean open_rule(const char *text, Rule *rule) {
  const char *equals = strchr(text, '=');
  char *from = equals ? strndup(text, (gsize)(equals - text)) : NULL;
  socklen_t length = 0;
  rule->fd = from ? socket_for(from, &length) : -1;
  free(from);
  rule->to = equals ? equals + 1 : NULL;
  return rule->fd >= 0 && bind(rule->fd, &address.any, length) == 0 && listen(rule->fd, 64) == 0;
}

static void close_pair(Pair *pair) {
  for (guint i = 0; i < 2; i++) {
    if (pair->fd[i] >= 0)
      close(pair->fd[i]);
    pair->fd[i] = -1;
  }
}

static void take(const Rule *rule, Pair *pairs) {
  int client = accept4(rule->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  socklen_t length = 0;
  Pair *pair = NULL;
  for (guint i = 0; i < LINKS_MAX && !pair; i++)
    if (pairs[i].fd[0] < 0)
      pair = &pairs[i];
  int server = client >= 0 && pair ? socket_for(rule->to, &length) : -1;
  if (server < 0 || connect(server, &address.any, length) != 0) { /* both are local: it is there or it is not */
    if (server >= 0)
      close(server);
    if (client >= 0)
      close(client);
    return;
  }
  pair->fd[0] = client;
  pair->fd[1] = server;
  for (guint i = 0; i < 2; i++)
    pair->flow[i] = (Flow){.from = pair->fd[i], .to = pair->fd[1 - i]};
}

/* FALSE: the connection is broken. */
static gboolean move(Flow *flow) {
  if (flow->length == 0 && !flow->ended) {
    ssize_t n = recv(flow->from, flow->data, CHUNK, MSG_DONTWAIT);
    if (n < 0)
      return errno == EAGAIN || errno == EINTR;
    flow->at = 0;
    flow->length = (gsize)n;
    if (n == 0) {
      flow->ended = TRUE;
      shutdown(flow->to, SHUT_WR);
    }
  }
  if (flow->length > 0) {
    ssize_t n = send(flow->to, flow->data + flow->at, flow->length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
      return errno == EAGAIN || errno == EINTR;
    flow->at += (gsize)n;
    flow->length -= (gsize)n;
  }
  return TRUE;
}

static void serve_pair(Pair *pair) {
  for (guint i = 0; i < 2; i++)
    if (!move(&pair->flow[i])) {
      close_pair(pair);
      return;
    }
  if (pair->flow[0].ended && pair->flow[1].ended)
    close_pair(pair);
}

static short wanted(const Pair *pair, guint side) {
  const Flow *in = &pair->flow[side], *out = &pair->flow[1 - side];
  return (short)((in->length == 0 && !in->ended ? POLLIN : 0) | (out->length > 0 ? POLLOUT : 0));
}

static void wait_and_serve(const Rule *rules, guint n_rules, Pair *pairs, int signals) {
  struct pollfd fds[1 + RULES_MAX + 2 * LINKS_MAX];
  guint n = 0, owner[G_N_ELEMENTS(fds)];
  gboolean touched[LINKS_MAX] = {0};
  fds[n++] = (struct pollfd){.fd = signals, .events = POLLIN};
  for (guint i = 0; i < n_rules; i++)
    fds[n++] = (struct pollfd){.fd = rules[i].fd, .events = POLLIN};
  for (guint i = 0; i < LINKS_MAX; i++)
    for (guint side = 0; side < 2 && pairs[i].fd[0] >= 0; side++) {
      short events = wanted(&pairs[i], side);
      owner[n] = i;
      /* Without events the end of a half-closed side would wake us again and again. */
      fds[n++] = (struct pollfd){.fd = events ? pairs[i].fd[side] : -1, .events = events};
    }
  if (poll(fds, n, -1) <= 0)
    return;
  for (guint i = 1 + n_rules; i < n; i++)
    if (fds[i].revents)
      touched[owner[i]] = TRUE;
  for (guint i = 0; i < LINKS_MAX; i++)
    if (touched[i])
      serve_pair(&pairs[i]);
  for (guint i = 0; i < n_rules; i++)
    if (fds[1 + i].revents)
      take(&rules[i], pairs);
}

static int start_and_serve(const Rule *rules, guint n_rules, char **argv) {
  static Pair pairs[LINKS_MAX];
  sigset_t set, before;
  int status = 0;
  for (guint i = 0; i < LINKS_MAX; i++)
    pairs[i].fd[0] = pairs[i].fd[1] = -1;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, &before);
  int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  pid_t pid = fork();
  if (pid == 0) {
    struct rlimit stack = {THREAD_STACK, THREAD_STACK};
    sigprocmask(SIG_SETMASK, &before, NULL);
    setrlimit(RLIMIT_STACK, &stack);
    execvp(argv[0], argv);
    fprintf(stderr, "choir-sandbox: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(126);
  }
  while (pid > 0) {
    struct signalfd_siginfo info;
    wait_and_serve(rules, n_rules, pairs, signals);
    while (read(signals, &info, sizeof info) > 0)
      ;
    if (waitpid(pid, &status, WNOHANG) == pid)
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return 126;
}

int choir_forward_main(int argc, char **argv) {
  Rule rules[RULES_MAX];
  guint n = 0;
  int at = 0;
  for (; at < argc && strcmp(argv[at], "--") != 0; at++, n++)
    if (n == RULES_MAX || !open_rule(argv[at], &rules[n])) {
      fprintf(stderr, "choir-sandbox: cannot forward %s: %s\n", argv[at], strerror(errno));
      return 126;
    }
  if (at + 1 >= argc) {
    fputs("choir-sandbox: nothing to run behind --\n", stderr);
    return 126;
  }
  return start_and_serve(rules, n, argv + at + 1);
}
