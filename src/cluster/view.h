/* What the page and the command line show of the cluster: each part with its age and why it is missing. A part that
 * cannot be had now is shown as it was known last. Main thread only. */
#pragma once
#include "cluster/consul.h"
#include "cluster/experts.h"
#include "cluster/nomad.h"

typedef struct ChoirView ChoirView;

/* All borrowed; consul and nomad may be NULL. */
ChoirView *choir_view_new(ChoirConsul *consul, ChoirNomad *nomad, ChoirExperts *experts);
/* Nobody is told any more; consul and nomad go next, before the loop runs again. */
void choir_view_free(ChoirView *view);
/* Asks what is older than two seconds and tells when all have answered or were waited for long enough. Exactly once,
 * possibly at once. The returned id (0: it was told) is for choir_view_forget(). */
guint choir_view_refresh(ChoirView *view, void (*done)(gpointer user), gpointer user);
void choir_view_forget(ChoirView *view, guint id);
/* {"consul":{"url","problem"},"nomad":{...},"nodes":{"list":[{"name","address","alive","nomad","server","eligible",
 * "cpu","gbps","gmacs","ram_mb"}],"age_s","problem"},"jobs":{"list":[{"id","namespace","type","status","running",
 * "starting","failed","lost","queued"}],...},"allocations":{"list":[{"id","job","namespace","group","node","status",
 * "wanted","tasks":[{"name","state","failed","restarts"}],"age_s"}],...},"experts":{"list","problems","age_s"}}. Caller
 * decrefs. */
json_t *choir_view_json(ChoirView *view);
ChoirNomad *choir_view_nomad(ChoirView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirView, choir_view_free)
