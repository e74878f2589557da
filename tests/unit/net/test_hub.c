#include <sys/epoll.h>
#include <sys/socket.h>
#include "net/hub.h"
#include "wait.h"

typedef struct {
  ChoirHub *hub;
  int pairs[8][2];
  guint calls[8];
  gboolean remove_self, free_hub;
  int remove_other; /* pair that a callback removes, -1 for none */
} World;

static void on_event(int fd, uint32_t events, gpointer user) {
  World *world = user;
  for (int i = 0; i < 8; i++) {
    if (world->pairs[i][0] != fd)
      continue;
    world->calls[i]++;
    char byte;
    g_assert_cmpint(recv(fd, &byte, 1, MSG_DONTWAIT), <=, 1);
    if (world->remove_self)
      choir_hub_remove(world->hub, fd);
    if (world->remove_other >= 0 && world->remove_other != i)
      choir_hub_remove(world->hub, world->pairs[world->remove_other][0]);
    if (world->free_hub)
      g_clear_pointer(&world->hub, choir_hub_free);
    return;
  }
}

static void setup(World *world, gconstpointer data) {
  world->hub = choir_hub_new(NULL);
  world->remove_other = -1;
  for (guint i = 0; i < 8; i++) {
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, world->pairs[i]), ==, 0);
    g_assert_true(choir_hub_add(world->hub, world->pairs[i][0], EPOLLIN, on_event, world, NULL));
  }
}

static void teardown(World *world, gconstpointer data) {
  choir_hub_free(world->hub);
  for (guint i = 0; i < 8; i++) {
    close(world->pairs[i][0]);
    close(world->pairs[i][1]);
  }
}

static void poke(World *world, guint i) {
  g_assert_cmpint(write(world->pairs[i][1], "x", 1), ==, 1);
}

static guint total(World *world) {
  guint sum = 0;
  for (guint i = 0; i < 8; i++)
    sum += world->calls[i];
  return sum;
}

static void test_events(World *world, gconstpointer data) {
  for (guint i = 0; i < 8; i++)
    poke(world, i);
  WAIT_UNTIL(total(world) == 8, 1000);
  wait_ms(20);
  g_assert_cmpuint(total(world), ==, 8);
  choir_hub_modify(world->hub, world->pairs[0][0], 0);
  poke(world, 0);
  wait_ms(20);
  g_assert_cmpuint(world->calls[0], ==, 1);
  choir_hub_modify(world->hub, world->pairs[0][0], EPOLLIN);
  WAIT_UNTIL(world->calls[0] == 2, 1000);
  choir_hub_remove(world->hub, world->pairs[0][0]);
  choir_hub_remove(world->hub, world->pairs[0][0]);
  poke(world, 0);
  wait_ms(20);
  g_assert_cmpuint(world->calls[0], ==, 2);
}

static void test_removal_inside(World *world, gconstpointer data) {
  world->remove_self = TRUE;
  for (guint i = 0; i < 8; i++)
    poke(world, i);
  WAIT_UNTIL(total(world) == 8, 1000);
  for (guint i = 0; i < 8; i++)
    poke(world, i);
  wait_ms(20);
  g_assert_cmpuint(total(world), ==, 8);
}

/* Both are ready in the same batch; whichever runs first takes the other away. */
static void test_other_removed(World *world, gconstpointer data) {
  world->remove_other = 1;
  poke(world, 0);
  poke(world, 1);
  poke(world, 2);
  wait_ms(30);
  g_assert_cmpuint(world->calls[0] + world->calls[2], ==, 2);
  g_assert_cmpuint(world->calls[1], <=, 1);
  poke(world, 1);
  guint before = world->calls[1];
  wait_ms(20);
  g_assert_cmpuint(world->calls[1], ==, before);
}

static void test_freed_inside(World *world, gconstpointer data) {
  world->free_hub = TRUE;
  for (guint i = 0; i < 8; i++)
    poke(world, i);
  wait_ms(30);
  g_assert_cmpuint(total(world), ==, 1);
  g_assert_null(world->hub);
}

/* A descriptor closed without being removed, its number used again. */
static void test_number_reused(World *world, gconstpointer data) {
  int fd = world->pairs[3][0];
  close(fd);
  close(world->pairs[3][1]);
  int fresh[2];
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fresh), ==, 0);
  g_assert_true(fresh[0] == fd || fresh[1] == fd);
  world->pairs[3][0] = fd;
  world->pairs[3][1] = fresh[0] == fd ? fresh[1] : fresh[0];
  g_assert_true(choir_hub_add(world->hub, fd, EPOLLIN, on_event, world, NULL));
  poke(world, 3);
  WAIT_UNTIL(world->calls[3] == 1, 1000);
}

static void test_bad_descriptor(World *world, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  g_assert_false(choir_hub_add(world->hub, 99999, EPOLLIN, on_event, world, &error));
  g_assert_nonnull(error);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/hub/" name, World, NULL, setup, function, teardown)
  ADD("events", test_events);
  ADD("removal-inside", test_removal_inside);
  ADD("other-removed", test_other_removed);
  ADD("freed-inside", test_freed_inside);
  ADD("number-reused", test_number_reused);
  ADD("bad-descriptor", test_bad_descriptor);
  return g_test_run();
}
