/* Time, timers and reminders that speak. What waits is in a file, so it survives a restart; what fell due meanwhile is
 * said at the next start. */
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "tools/boxed.h"
#include "tools/schema.h"
#include "tools/tools.h"
#include "tools/when.h"

#define WAITING_MAX 100
#define LATE_S 60 /* due so long ago: it is said that it is late */

typedef struct {
  gint64 id, due; /* seconds since 1970 */
  char *text;
} Entry;

typedef struct {
  const ChoirToolHouse *house;
  char *path;
  GArray *entries; /* Entry, soonest first */
  gint64 last_id;
  guint timer;
} Clock;

static void entry_clear(gpointer data) {
  g_free(((Entry *)data)->text);
}

static gint64 now_s(void) {
  return g_get_real_time() / G_USEC_PER_SEC;
}

static gint by_due(gconstpointer a, gconstpointer b) {
  gint64 x = ((const Entry *)a)->due, y = ((const Entry *)b)->due;
  return x < y ? -1 : x > y;
}

static gboolean save(Clock *clock, GError **error) {
  json_t *list = json_array();
  for (guint i = 0; i < clock->entries->len; i++) {
    const Entry *entry = &g_array_index(clock->entries, Entry, i);
    json_array_append_new(list, json_pack("{s:I,s:I,s:s}", "id", (json_int_t)entry->id, "due", (json_int_t)entry->due,
                                          "text", entry->text));
  }
  g_autofree char *text = choir_json_dump(list);
  json_decref(list);
  return g_file_set_contents_full(clock->path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  0600, error);
}

static void arm(Clock *clock);

static void speak(Clock *clock, const Entry *entry) {
  gint64 late = now_s() - entry->due;
  g_autofree char *ago = choir_when_say(late);
  g_autofree char *text =
      late > LATE_S ? g_strdup_printf("%s This was due %s ago.", entry->text, ago) : g_strdup(entry->text);
  clock->house->agent.say(clock->house->agent.self, text);
}

static gboolean on_due(gpointer user) {
  Clock *clock = user;
  g_autoptr(GError) error = NULL;
  clock->timer = 0;
  while (clock->entries->len > 0 && g_array_index(clock->entries, Entry, 0).due <= now_s()) {
    /* Said first: after a crash in between it is said twice rather than never. */
    speak(clock, &g_array_index(clock->entries, Entry, 0));
    g_array_remove_index(clock->entries, 0);
    if (!save(clock, &error))
      choir_warning(CHOIR_TOPIC_AGENT, "timers: %s", error->message);
    g_clear_error(&error);
  }
  arm(clock);
  return G_SOURCE_REMOVE;
}

static void arm(Clock *clock) {
  g_clear_handle_id(&clock->timer, g_source_remove);
  if (clock->entries->len == 0)
    return;
  gint64 left = g_array_index(clock->entries, Entry, 0).due * 1000 - g_get_real_time() / 1000;
  /* At most a minute ahead: the wall clock may be set meanwhile. */
  clock->timer = g_timeout_add((guint)CLAMP(left, 10, 60000), on_due, clock);
}

static void load(Clock *clock) {
  g_autofree char *text = NULL;
  gsize length, i;
  g_autoptr(GError) error = NULL;
  json_t *item;
  if (!g_file_get_contents(clock->path, &text, &length, NULL))
    return;
  json_t *list = choir_json_parse(text, length, &error);
  if (!list)
    choir_warning(CHOIR_TOPIC_AGENT, "timers: %s cannot be read (%s); it is left as it is until the next timer",
                  clock->path, error->message);
  json_array_foreach(list, i, item) {
    Entry entry = {choir_json_int(item, "id", 0), choir_json_int(item, "due", 0),
                   g_strdup(choir_json_string(item, "text", ""))};
    clock->last_id = MAX(clock->last_id, entry.id);
    g_array_append_val(clock->entries, entry);
  }
  json_decref(list);
  g_array_sort(clock->entries, by_due);
}

static gpointer open_clock(const ChoirToolHouse *house) {
  Clock *clock = g_new0(Clock, 1);
  clock->house = house;
  clock->path = g_build_filename(house->state_dir, "timers.json", NULL);
  clock->entries = g_array_new(FALSE, FALSE, sizeof(Entry));
  g_array_set_clear_func(clock->entries, entry_clear);
  load(clock);
  arm(clock);
  return clock;
}

static void close_clock(gpointer state) {
  Clock *clock = state;
  g_clear_handle_id(&clock->timer, g_source_remove);
  g_array_unref(clock->entries);
  g_free(clock->path);
  g_free(clock);
}

/* Other arguments may do. */
static void no_sense(ChoirToolCall *call, const char *text, const char *why) {
  choir_tool_call_done(call, TRUE,
                       g_error_new(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_ARGUMENTS, "\"%s\" is no %s", text, why));
}

static void get_time(ChoirToolCall *call) {
  g_autoptr(GDateTime) now = g_date_time_new_now_local();
  g_autofree char *text = g_date_time_format(now, "It is %H:%M on %A, %-d %B %Y.");
  tool_answer(call, TRUE, "%s", text);
}

static void add(ChoirToolCall *call, gint64 due, const char *text) {
  Clock *clock = choir_tool_call_state(call);
  g_autoptr(GError) error = NULL;
  if (clock->entries->len >= WAITING_MAX) {
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "%d timers wait already; cancel one first", WAITING_MAX);
    return;
  }
  Entry entry = {++clock->last_id, due, g_strdup(text)};
  g_array_append_val(clock->entries, entry);
  g_array_sort(clock->entries, by_due);
  if (!save(clock, &error)) {
    for (guint i = 0; i < clock->entries->len; i++)
      if (g_array_index(clock->entries, Entry, i).id == clock->last_id)
        g_array_remove_index(clock->entries, i);
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "the timer was not set: %s", error->message);
    return;
  }
  arm(clock);
  g_autoptr(GDateTime) at = g_date_time_new_from_unix_local(due);
  g_autofree char *left = choir_when_say(due - now_s()), *moment = g_date_time_format(at, "%H:%M");
  tool_answer(call, TRUE, "Number %" G_GINT64_FORMAT " is set for %s, in %s.", clock->last_id, moment, left);
}

static void set_timer(ChoirToolCall *call) {
  const char *duration = choir_tool_call_string(call, "duration", ""),
             *label = choir_tool_call_string(call, "label", NULL);
  guint seconds = choir_when_duration(duration);
  if (seconds == 0) {
    no_sense(call, duration, "duration; say it like \"10 minutes\" or \"1 hour 30 minutes\"");
    return;
  }
  g_autofree char *length = choir_when_say(seconds);
  g_autofree char *text =
      label ? g_strdup_printf("The %s timer is over.", label) : g_strdup_printf("The timer of %s is over.", length);
  add(call, now_s() + seconds, text);
}

static void set_reminder(ChoirToolCall *call) {
  g_autoptr(GDateTime) now = g_date_time_new_now_local();
  const char *when = choir_tool_call_string(call, "when", "");
  guint seconds = choir_when_duration(when);
  gint64 due = seconds ? now_s() + seconds : choir_when_moment(when, now);
  if (due == 0) {
    no_sense(call, when, "time; say it like \"5 pm\", \"17:30\", \"tomorrow at 8\" or \"in 10 minutes\"");
    return;
  }
  g_autofree char *text = g_strdup_printf("Reminder: %s.", choir_tool_call_string(call, "text", ""));
  add(call, due, text);
}

static void list_timers(ChoirToolCall *call) {
  Clock *clock = choir_tool_call_state(call);
  g_autoptr(GString) text = g_string_new(clock->entries->len ? NULL : "No timer or reminder waits.");
  for (guint i = 0; i < clock->entries->len; i++) {
    const Entry *entry = &g_array_index(clock->entries, Entry, i);
    g_autofree char *left = choir_when_say(MAX(0, entry->due - now_s()));
    g_string_append_printf(text, "%sNumber %" G_GINT64_FORMAT " in %s: %s", i ? "\n" : "", entry->id, left,
                           entry->text);
  }
  choir_tool_call_output(call, text->str, -1);
  choir_tool_call_done(call, TRUE, NULL);
}

static void cancel_timer(ChoirToolCall *call) {
  Clock *clock = choir_tool_call_state(call);
  gint64 id = choir_tool_call_integer(call, "number", 0);
  g_autoptr(GError) error = NULL;
  for (guint i = 0; i < clock->entries->len; i++) {
    Entry entry = g_array_index(clock->entries, Entry, i);
    if (id != 0 && entry.id != id)
      continue;
    entry.text = g_strdup(entry.text);
    g_array_remove_index(clock->entries, i);
    if (!save(clock, &error)) {
      g_array_append_val(clock->entries, entry);
      g_array_sort(clock->entries, by_due);
      tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "the timer was not cancelled: %s", error->message);
      return;
    }
    arm(clock);
    tool_answer(call, TRUE, "Number %" G_GINT64_FORMAT " is cancelled: %s", entry.id, entry.text);
    entry_clear(&entry);
    return;
  }
  if (id)
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "there is no timer number %" G_GINT64_FORMAT "; ask for the list", id);
  else
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "no timer or reminder waits");
}

static const char *const time_examples[] = {"do you know what day it is",
                                            "can you tell me which day of the month we have",

                                            "what time is it",
                                            "what day is it today",
                                            "what is the date",
                                            "tell me the time",
                                            "what does the clock say",
                                            "is it monday",
                                            "which month is it",
                                            "what is the current time",
                                            "what year is it",
                                            "do you have the time",
                                            "is it late already",
                                            "give me today's date",

                                            "what weekday is today",
                                            "what's the hour",
                                            "time and date please",
                                            NULL};
static const ChoirToolShot timer_shots[] = {
    {"set a timer for ten minutes", "{\"duration\": \"ten minutes\"}"},
    {"start a five minute egg timer", "{\"duration\": \"five minute\", \"label\": \"egg\"}"},
    {"wake me in half an hour", "{\"duration\": \"half an hour\"}"},
    {"count down from ninety seconds", "{\"duration\": \"ninety seconds\"}"},
    {"set a twenty minute timer for the bread", "{\"duration\": \"twenty minute\", \"label\": \"bread\"}"},
    {"timer of 2 minutes", "{\"duration\": \"2 minutes\"}"},
    {"please start a countdown of 45 minutes for the exam", "{\"duration\": \"45 minutes\", \"label\": \"exam\"}"},
    {"Put on a rice timer for eleven minutes.", "{\"duration\": \"eleven minutes\", \"label\": \"rice\"}"},
    {"beep when an hour and ten minutes have passed", "{\"duration\": \"an hour and ten minutes\"}"},
    {"I need a timer, four minutes.", "{\"duration\": \"four minutes\"}"},
    {"let it ring after one hour", "{\"duration\": \"one hour\"}"},
    {"time the roast for 2 hours 15 minutes", "{\"duration\": \"2 hours 15 minutes\", \"label\": \"roast\"}"},
    {NULL, NULL}};
static const ChoirToolShot reminder_shots[] = {
    {"remind me to call the dentist at five pm", "{\"when\": \"five pm\", \"text\": \"call the dentist\"}"},
    {"remind me tomorrow at eight to take the bins out",
     "{\"when\": \"tomorrow at eight\", \"text\": \"take the bins out\"}"},
    {"tell me in an hour that the cake is done", "{\"when\": \"in an hour\", \"text\": \"the cake is done\"}"},
    {"Set a reminder for 14:15 to walk the dog.", "{\"when\": \"14:15\", \"text\": \"walk the dog\"}"},
    {"in thirty minutes remind me to turn the soup off",
     "{\"when\": \"in thirty minutes\", \"text\": \"turn the soup off\"}"},
    {"I must write to Anna tomorrow at noon, remind me of it",
     "{\"when\": \"tomorrow at noon\", \"text\": \"write to Anna\"}"},
    {"At 7:30 pm remind me of the film.", "{\"when\": \"7:30 pm\", \"text\": \"the film\"}"},
    {"please remind me about the appointment at four", "{\"when\": \"four\", \"text\": \"the appointment\"}"},
    {"do not let me miss the train at 6 am", "{\"when\": \"6 am\", \"text\": \"the train\"}"},
    {"make a reminder for midnight to close the windows", "{\"when\": \"midnight\", \"text\": \"close the windows\"}"},
    {"reminder at ten in the morning post the parcel",
     "{\"when\": \"ten in the morning\", \"text\": \"post the parcel\"}"},
    {NULL, NULL}};
static const char *const list_examples[] = {"is any timer running",
                                            "when is the next timer over",
                                            "when will the next alarm ring",
                                            "which timers are running",
                                            "what reminders do i have",
                                            "how long is left on the timer",
                                            "list my timers",
                                            "show the reminders",
                                            "are there timers",
                                            "how much longer does the timer take",
                                            "what is going to ring next",
                                            "do i have reminders",
                                            "when will the timer ring",
                                            "which alarms are set",
                                            "how many reminders are waiting",
                                            NULL};
static const ChoirToolShot cancel_shots[] = {{"forget the reminder", "{\"number\": 0}"},
                                             {"I no longer need the timer, take it off", "{\"number\": 0}"},
                                             {"drop the fourth timer", "{\"number\": 4}"},
                                             {"cancel the timer", "{\"number\": 0}"},
                                             {"stop the egg timer", "{\"number\": 0}"},
                                             {"delete reminder two", "{\"number\": 2}"},
                                             {"remove timer number seven", "{\"number\": 7}"},
                                             {"I do not want the reminder, cancel it", "{\"number\": 0}"},
                                             {"cancel number 4", "{\"number\": 4}"},
                                             {"turn the alarm off", "{\"number\": 0}"},
                                             {"delete the third timer", "{\"number\": 3}"},
                                             {"Take reminder number nine away.", "{\"number\": 9}"},
                                             {"end the next timer", "{\"number\": 0}"},
                                             {"cancel my alarm", "{\"number\": 0}"},
                                             {NULL, NULL}};

/* What is said aloud later, as if it were this house's own. */
static const ChoirToolSink label_sink[] = {{"label", CHOIR_SINK_MEMORY}, {NULL, 0}};
static const ChoirToolSink text_sink[] = {{"text", CHOIR_SINK_MEMORY}, {NULL, 0}};
static const ChoirToolAction actions[] = {
    {.name = "get_time",
     .help = "Say the time and the date.",
     .schema = TOOL_NOTHING,
     .examples = time_examples,
     .run = get_time},
    {.name = "set_timer",
     .help = "Start a timer that speaks when it is over.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(
         TOOL_COPIED("duration", 60, "how long, like 10 minutes") "," TOOL_COPIED("label", 60, "what it is for"),
         "\"duration\""),
     .sinks = label_sink,
     .shots = timer_shots,
     .run = set_timer},
    {.name = "set_reminder",
     .help = "Remind the person of something at a time.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(
         TOOL_COPIED("when", 60, "when, like 5 pm or in 10 minutes") "," TOOL_COPIED("text", 200, "what to say"),
         "\"when\",\"text\""),
     .sinks = text_sink,
     .shots = reminder_shots,
     .run = set_reminder},
    {.name = "list_timers",
     .help = "List the timers and reminders that wait.",
     .schema = TOOL_NOTHING,
     .examples = list_examples,
     .run = list_timers},
    {.name = "cancel_timer",
     .help = "Cancel a timer or reminder.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT("\"number\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":1000000,\"default\":0,"
                           "\"description\":\"its number; 0 is the next one\"}",
                           "\"number\""),
     .shots = cancel_shots,
     .run = cancel_timer},
};

const ChoirTool choir_tool_clock = {.id = "clock",
                                    .title = "Clock",
                                    .help = "Time, timers and reminders that speak.",
                                    .actions = actions,
                                    .n_actions = G_N_ELEMENTS(actions),
                                    .at_start = TRUE,
                                    .open = open_clock,
                                    .close = close_clock};
