#include "speech/jobs.h"
#include <string.h>
#include <unistd.h>

static gboolean push(ChoirJobs *jobs, guint32 session, guint32 gen, guint16 flags) {
  const ChoirWireFrame frame = {
      .session = session, .gen = gen, .flags = flags, .length = 4, .payload = (const guint8 *)"abcd"};
  gboolean hit = FALSE;
  gboolean ok = choir_jobs_push(jobs, &frame, &hit);
  return ok && !hit;
}

static void take(ChoirJobs *jobs, guint32 session, guint32 gen) {
  ChoirJob *job = choir_jobs_take(jobs);
  g_assert_cmpuint(job->frame.session, ==, session);
  g_assert_cmpuint(job->frame.gen, ==, gen);
  g_assert_cmpstr((const char *)job->frame.payload, ==, "abcd");
  g_assert_false(choir_job_cancelled(job));
  choir_jobs_done(jobs, job);
}

static void test_order_and_limit(void) {
  ChoirJobs *jobs = choir_jobs_new(3);
  g_assert_true(push(jobs, 1, 1, 0));
  g_assert_true(push(jobs, 1, 1, 0));
  g_assert_true(push(jobs, 2, 9, 0));
  g_assert_false(push(jobs, 1, 2, 0));
  take(jobs, 1, 1);
  take(jobs, 1, 1);
  take(jobs, 2, 9);
  choir_jobs_free(jobs);
}

static void test_cancel(void) {
  ChoirJobs *jobs = choir_jobs_new(8);
  push(jobs, 1, 1, 0);
  ChoirJob *at_work = choir_jobs_take(jobs);
  push(jobs, 1, 1, 0);
  push(jobs, 1, 2, 0);
  push(jobs, 2, 1, 0);
  g_assert_false(choir_jobs_cancel(jobs, 7, 100));
  g_assert_false(choir_job_cancelled(at_work));
  g_assert_true(choir_jobs_cancel(jobs, 1, 1));
  g_assert_true(choir_job_cancelled(at_work));
  choir_jobs_done(jobs, at_work);
  take(jobs, 1, 2);
  take(jobs, 2, 1);
  g_assert_false(choir_jobs_cancel(jobs, 1, 99)); /* nothing at work any more */
  choir_jobs_free(jobs);
}

/* A guess made at a pause is dropped when the person goes on; what was asked for in earnest is not. */
static void test_replace(void) {
  ChoirJobs *jobs = choir_jobs_new(8);
  push(jobs, 1, 1, CHOIR_JOB_REPLACEABLE);
  ChoirJob *at_work = choir_jobs_take(jobs);
  push(jobs, 1, 2, 0);
  g_assert_true(choir_job_cancelled(at_work));
  choir_jobs_done(jobs, at_work);
  push(jobs, 1, 3, CHOIR_JOB_REPLACEABLE);
  push(jobs, 2, 3, CHOIR_JOB_REPLACEABLE);
  push(jobs, 1, 4, CHOIR_JOB_REPLACEABLE);
  take(jobs, 1, 2);
  take(jobs, 2, 3);
  take(jobs, 1, 4);
  choir_jobs_free(jobs);
}

/* A conversation does not wait for a file that is transcribed, and the file is not lost. */
static void test_background(void) {
  ChoirJobs *jobs = choir_jobs_new(8);
  g_assert_true(push(jobs, 1, 1, CHOIR_JOB_BACKGROUND));
  g_assert_true(push(jobs, 1, 2, CHOIR_JOB_BACKGROUND));
  ChoirJob *at_work = choir_jobs_take(jobs);
  g_assert_true(push(jobs, 2, 1, CHOIR_JOB_BACKGROUND)); /* of its own kind: no haste */
  g_assert_false(choir_job_cancelled(at_work));
  g_assert_false(push(jobs, 3, 1, 0)); /* hits */
  g_assert_true(choir_job_cancelled(at_work));
  g_assert_true(push(jobs, 4, 1, 0));
  choir_jobs_done(jobs, at_work);
  take(jobs, 3, 1);
  take(jobs, 4, 1);
  take(jobs, 1, 1);
  at_work = choir_jobs_take(jobs);
  g_assert_cmpuint(at_work->frame.gen, ==, 2);
  g_assert_true(choir_job_commit(at_work)); /* half of it is out */
  g_assert_true(push(jobs, 5, 1, 0));
  g_assert_false(choir_job_cancelled(at_work));
  g_assert_true(choir_jobs_cancel(jobs, 1, 2));
  g_assert_true(choir_job_cancelled(at_work));
  g_assert_false(choir_job_commit(at_work));
  choir_jobs_done(jobs, at_work);
  take(jobs, 5, 1);
  at_work = choir_jobs_take(jobs);
  push(jobs, 6, 1, 0);
  g_assert_false(choir_job_commit(at_work));    /* it gave way already */
  g_assert_true(choir_jobs_cancel(jobs, 2, 1)); /* and is not wanted any more */
  choir_jobs_done(jobs, at_work);
  take(jobs, 6, 1);
  g_assert_true(push(jobs, 7, 1, 0));
  take(jobs, 7, 1); /* nothing came back */
  choir_jobs_free(jobs);
}

static void options_of(const char *payload, gsize length, guint16 flags, const char *expected, const char *rest) {
  ChoirJobs *jobs = choir_jobs_new(8);
  gboolean hit;
  const ChoirWireFrame frame = {.flags = flags, .length = (guint32)length, .payload = (const guint8 *)payload};
  g_assert_true(choir_jobs_push(jobs, &frame, &hit));
  ChoirJob *job = choir_jobs_take(jobs);
  const guint8 *left = NULL;
  gsize n = 0;
  json_t *json = choir_job_options(job, &left, &n);
  if (!expected) {
    g_assert_null(json);
  } else {
    g_autofree char *text = json_dumps(json, JSON_COMPACT);
    g_assert_cmpstr(text, ==, expected);
    g_assert_cmpmem(left, n, rest, strlen(rest));
  }
  json_decref(json);
  choir_jobs_done(jobs, job);
  choir_jobs_free(jobs);
}

static void test_options(void) {
  options_of("pcm", 3, 0, "{}", "pcm");
  options_of("\4\0{}  pcm", 9, CHOIR_JOB_OPTIONS, "{}", "pcm");
  options_of("\10\0{\"a\":1} ", 10, CHOIR_JOB_OPTIONS, "{\"a\":1}", "");
  options_of("\3\0{} pcm", 8, CHOIR_JOB_OPTIONS, NULL, NULL); /* odd */
  options_of("\40\0{}", 4, CHOIR_JOB_OPTIONS, NULL, NULL);    /* longer than the frame */
  options_of("\4\0[1] pcm", 9, CHOIR_JOB_OPTIONS, NULL, NULL);
  options_of("\4", 1, CHOIR_JOB_OPTIONS, NULL, NULL);
  options_of("", 0, CHOIR_JOB_OPTIONS, NULL, NULL);
}

static gpointer feeder(gpointer data) {
  for (guint i = 0; i < 1000; i++)
    while (!push(data, 1, i + 1, 0))
      g_usleep(100);
  return NULL;
}

static void test_two_threads(void) {
  ChoirJobs *jobs = choir_jobs_new(4);
  GThread *thread = g_thread_new("feeder", feeder, jobs);
  for (guint i = 0; i < 1000; i++)
    take(jobs, 1, i + 1);
  g_thread_join(thread);
  choir_jobs_free(jobs);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/speech/jobs/order-and-limit", test_order_and_limit);
  g_test_add_func("/speech/jobs/cancel", test_cancel);
  g_test_add_func("/speech/jobs/replace", test_replace);
  g_test_add_func("/speech/jobs/background", test_background);
  g_test_add_func("/speech/jobs/options", test_options);
  g_test_add_func("/speech/jobs/two-threads", test_two_threads);
  return g_test_run();
}
