/* Approvals: several at once, each bound to the exact bytes a person saw. An answer counts once, must carry the digest,
 * must come from a principal that may approve, and after 120 s the answer is no. Main thread only. */
#pragma once
#include "agent/tool.h"
#include "base/principal.h"

typedef struct ChoirApprovals ChoirApprovals;

typedef struct {
  const char *tool, *action;
  const json_t *args;
  const char *target;  /* "sandbox", "this machine", "host atlas", "12 nodes" */
  const char *session; /* whose conversation asks */
  ChoirToolClass class;
  gboolean tainted;           /* a stranger's text is in it: no grant answers for it, and none is made of its answer */
  const char *const *reasons; /* why it asks, taint included; NULL-ended */
  const char *preview;        /* diff or dry run; may be NULL */
} ChoirApprovalRequest;

typedef enum { CHOIR_APPROVED, CHOIR_DENIED, CHOIR_EXPIRED, CHOIR_WITHDRAWN } ChoirVerdict;
typedef void (*ChoirApprovalDone)(ChoirVerdict verdict, const char *by, gpointer user);
/* change: "new" "closed"; card: as choir_approvals_list() has it. */
typedef void (*ChoirApprovalObserver)(const char *change, const json_t *card, gpointer user);

ChoirApprovals *choir_approvals_new(void);
void choir_approvals_free(ChoirApprovals *approvals); /* everything that waits is withdrawn */
/* SHA-256 of the canonical {"args","policy","session","target","tool"} (sorted keys, no spaces), hexadecimal; caller
 * frees. The executor computes it again before it runs. */
char *choir_approvals_digest(const ChoirApprovals *approvals, const ChoirApprovalRequest *request);
/* Returns its id (belongs to the approvals), or NULL when 100 wait already. A grant of the session for this signature
 * (never for CHOIR_CLASS_FLEET, never where a stranger's text is in it) answers at once, still asynchronously. */
const char *choir_approvals_ask(ChoirApprovals *approvals, const ChoirApprovalRequest *request,
                                guint seconds /* 0=120 */, ChoirApprovalDone done, gpointer user);
void choir_approvals_withdraw(ChoirApprovals *approvals, const char *id);
/* digest: what the person saw. grant: also let the same tool.action with the same target pass for this session.
 * FALSE with error: no such id (or answered, or expired), another digest, or this principal may not. */
gboolean choir_approvals_answer(ChoirApprovals *approvals, const char *id, const char *digest, gboolean approve,
                                gboolean grant, const ChoirPrincipal *by, GError **error);
/* [{"id","digest","tool","action","args","target","session","class","once","reasons":[],"preview","expires_ms"}];
 * once: no grant can be made of it. The text a person sees is rendered from the bytes of the digest. Caller decrefs. */
json_t *choir_approvals_list(const ChoirApprovals *approvals);
/* [{"session","signature","by"}]; caller decrefs. */
json_t *choir_approvals_grants(const ChoirApprovals *approvals);
gboolean choir_approvals_revoke(ChoirApprovals *approvals, const char *session, const char *signature);
guint choir_approvals_observe(ChoirApprovals *approvals, ChoirApprovalObserver observer, gpointer user);
void choir_approvals_unobserve(ChoirApprovals *approvals, guint id);

#define CHOIR_APPROVAL_ERROR (choir_approval_error_quark())
GQuark choir_approval_error_quark(void);
enum { CHOIR_APPROVAL_ERROR_UNKNOWN, CHOIR_APPROVAL_ERROR_DIGEST, CHOIR_APPROVAL_ERROR_FORBIDDEN };
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirApprovals, choir_approvals_free)
