#include "cli/jobs_state.h"
#include <string.h>
#include "base/text.h"

static const char *const names[] = {"healthy",  "starting", "sleeping",  "stopped",
                                    "finished", "failed",   "on demand", "unhealthy"};

const char *choir_job_status_name(ChoirJobStatus status) {
  return names[status];
}

void choir_job_state_free(ChoirJobState *state) {
  if (!state)
    return;
  g_ptr_array_unref(state->sick);
  g_free(state->why);
  g_free(state);
}

static gboolean is(const json_t *object, const char *key, const char *value) {
  return g_str_equal(choir_json_string(object, key, ""), value);
}

guint choir_job_wanted(const json_t *job) {
  guint wanted = 0;
  size_t i;
  json_t *group;
  json_array_foreach(json_object_get(job, "TaskGroups"), i, group) wanted +=
      (guint)MAX(0, choir_json_int(group, "Count", 0));
  return wanted;
}

void choir_job_keep_counts(json_t *job, const json_t *registered) {
  size_t i, j;
  json_t *group, *before;
  json_array_foreach(json_object_get(job, "TaskGroups"), i, group)
      json_array_foreach(json_object_get(registered, "TaskGroups"), j, before) {
    if (is(before, "Name", choir_json_string(group, "Name", "")))
      json_object_set(group, "Count", json_object_get(before, "Count"));
  }
}

gboolean choir_job_plan_changes(const json_t *plan) {
  const char *type = choir_json_string(json_object_get(plan, "Diff"), "Type", "");
  return !g_str_equal(type, "None");
}

char *choir_job_placement_why(const json_t *failed_groups) {
  GString *text = g_string_new(NULL);
  const char *group, *what;
  json_t *metric, *count;
  json_object_foreach((json_t *)failed_groups, group, metric) {
    g_string_append_printf(text, "%sgroup %s:", text->len ? "; " : "", group);
    if (choir_json_int(metric, "NodesEvaluated", 0) == 0)
      g_string_append(text, " no node is ready");
    json_object_foreach(json_object_get(metric, "DimensionExhausted"), what, count)
        g_string_append_printf(text, " %s is used up on %d node(s)", what, (int)json_integer_value(count));
    json_object_foreach(json_object_get(metric, "ConstraintFiltered"), what, count)
        g_string_append_printf(text, " %d node(s) do not meet %s", (int)json_integer_value(count), what);
  }
  return g_string_free(text, FALSE);
}

const json_t *choir_job_last_alloc(const json_t *allocs) {
  const json_t *last = NULL;
  size_t i;
  json_t *alloc;
  json_array_foreach((json_t *)allocs, i, alloc) {
    if (!last || choir_json_int(alloc, "CreateIndex", 0) > choir_json_int(last, "CreateIndex", 0))
      last = alloc;
  }
  return last;
}

char *choir_job_alloc_why(const json_t *alloc) {
  const char *task;
  json_t *state, *event;
  size_t i;
  const char *said = "", *failed_task = NULL;
  json_object_foreach(json_object_get(alloc, "TaskStates"), task, state) {
    if (!choir_json_bool(state, "Failed", FALSE) && failed_task)
      continue;
    json_array_foreach(json_object_get(state, "Events"), i, event) {
      const char *text = choir_json_string(event, "DisplayMessage", "");
      /* "Exceeded allowed attempts" says less than the exit before it. */
      if (*text && !is(event, "Type", "Not Restarting") && !is(event, "Type", "Alloc Unhealthy") &&
          !is(event, "Type", "Killing"))
        said = text;
    }
    failed_task = task;
  }
  return g_strdup(said);
}

/* The newest one; while that has yet to begin, the newest that failed says more. */
static const json_t *telling_alloc(const json_t *allocs) {
  const json_t *last = choir_job_last_alloc(allocs), *failed = NULL;
  size_t i;
  json_t *alloc;
  if (!last || !is(last, "ClientStatus", "pending"))
    return last;
  json_array_foreach((json_t *)allocs, i, alloc) {
    if (is(alloc, "ClientStatus", "failed") &&
        (!failed || choir_json_int(alloc, "CreateIndex", 0) > choir_json_int(failed, "CreateIndex", 0)))
      failed = alloc;
  }
  return failed ? failed : last;
}

/* A failing check of one of this allocation's services; NULL when none fails. */
static const json_t *failing_check(const json_t *critical, const char *alloc_id) {
  size_t i;
  json_t *check;
  json_array_foreach((json_t *)critical, i,
                     check) if (*alloc_id && strstr(choir_json_string(check, "ServiceID", ""), alloc_id)) return check;
  return NULL;
}

static const json_t *blocked_groups(const json_t *evals) {
  const json_t *newest = NULL;
  size_t i;
  json_t *eval;
  json_array_foreach((json_t *)evals, i, eval) {
    if (!json_is_object(json_object_get(eval, "FailedTGAllocs")))
      continue;
    if (!newest || choir_json_int(eval, "CreateIndex", 0) > choir_json_int(newest, "CreateIndex", 0))
      newest = eval;
  }
  return json_object_get(newest, "FailedTGAllocs");
}

static void say(ChoirJobState *state, char *text /* taken */) {
  g_free(state->why);
  state->why = text;
}

static void judge_batch(ChoirJobState *state, const json_t *job, const json_t *allocs) {
  const json_t *last = choir_job_last_alloc(allocs);
  gboolean dead = is(job, "Status", "dead");
  if (!dead) {
    state->status = is(job, "Status", "running") ? CHOIR_JOB_HEALTHY : CHOIR_JOB_STARTING;
    say(state, g_strdup(is(job, "Status", "running") ? "runs now" : "waits for its turn"));
    return;
  }
  state->status = last && is(last, "ClientStatus", "failed") ? CHOIR_JOB_FAILED : CHOIR_JOB_FINISHED;
  if (state->status == CHOIR_JOB_FAILED) {
    g_autofree char *why = choir_job_alloc_why(last);
    say(state, g_strdup_printf("its last run failed%s%s", *why ? ": " : "", why));
  }
}

static void count_instances(ChoirJobState *state, const json_t *allocs, const json_t *critical, gboolean *ret_pending) {
  size_t i;
  json_t *alloc;
  const json_t *sick_check = NULL;
  json_array_foreach((json_t *)allocs, i, alloc) {
    const char *id = choir_json_string(alloc, "ID", "");
    if (!is(alloc, "DesiredStatus", "run"))
      continue;
    *ret_pending |= is(alloc, "ClientStatus", "pending");
    if (!is(alloc, "ClientStatus", "running"))
      continue;
    state->running++;
    const json_t *check = failing_check(critical, id);
    if (check) {
      sick_check = check;
      g_ptr_array_add(state->sick, g_strdup(id));
    } else {
      state->passing++;
    }
  }
  if (sick_check) {
    g_autofree char *output = g_strdup(choir_json_string(sick_check, "Output", ""));
    output[strcspn(output, "\r\n")] = '\0';
    say(state, g_strdup_printf("the check of %s fails: %s", choir_json_string(sick_check, "ServiceName", "?"),
                               *output ? output : "no word why"));
  }
}

static void judge_service(ChoirJobState *state, const json_t *job, const json_t *allocs, const json_t *critical,
                          const json_t *evals) {
  gboolean pending = FALSE, is_system = is(job, "Type", "system");
  count_instances(state, allocs, critical, &pending);
  if (is_system)
    state->wanted = state->running + (pending ? 1 : 0);
  state->missing = state->running < state->wanted;
  if (!state->missing && state->sick->len == 0) {
    state->status = CHOIR_JOB_HEALTHY;
    return;
  }
  state->status = state->missing && pending && state->sick->len == 0 ? CHOIR_JOB_STARTING : CHOIR_JOB_UNHEALTHY;
  if (!state->missing || *state->why)
    return;
  g_autofree char *unplaced = choir_job_placement_why(blocked_groups(evals));
  const json_t *last = telling_alloc(allocs);
  g_autofree char *said = last ? choir_job_alloc_why(last) : g_strdup("");
  const char *why = *unplaced ? unplaced : said;
  say(state, g_strdup_printf("%u of %u run%s%s", state->running, state->wanted, *why ? ": " : "", why));
}

ChoirJobState *choir_job_state(const json_t *job, const json_t *allocs, const json_t *critical, const json_t *evals) {
  ChoirJobState *state = g_new0(ChoirJobState, 1);
  const char *type = choir_json_string(job, "Type", "service");
  state->sick = g_ptr_array_new_with_free_func(g_free);
  state->why = g_strdup("");
  state->wanted = choir_job_wanted(job);
  if (choir_json_bool(job, "Stop", FALSE))
    state->status = CHOIR_JOB_STOPPED;
  else if (json_is_object(json_object_get(job, "Periodic")) ||
           (json_is_object(json_object_get(job, "ParameterizedJob")) && !choir_json_bool(job, "Dispatched", FALSE)))
    state->status = CHOIR_JOB_ON_DEMAND;
  else if (g_str_equal(type, "batch") || g_str_equal(type, "sysbatch"))
    judge_batch(state, job, allocs);
  else if (state->wanted == 0 && !g_str_equal(type, "system"))
    state->status = CHOIR_JOB_SLEEPING;
  else
    judge_service(state, job, allocs, critical, evals);
  return state;
}
