/* A message that only who has the shared key can read or make: ChaCha20-Poly1305 (RFC 8439, by GnuTLS) under a key that
 * is made anew for every message, HMAC-SHA256(key, purpose, 32 random bytes). So the key never travels, and nothing has
 * to count nonces. Any thread. */
#pragma once
#include <glib.h>

#define CHOIR_SEAL_KEY 32
#define CHOIR_SEAL_SALT 32
#define CHOIR_SEAL_MARK 4                                        /* bytes in front of the salt */
#define CHOIR_SEAL_MORE (CHOIR_SEAL_MARK + CHOIR_SEAL_SALT + 16) /* bytes that sealing adds */
#define CHOIR_SEAL_KEY_TEXT 32                                   /* characters that a key's file must have */

#define CHOIR_SEAL_ERROR (choir_seal_error_quark())
GQuark choir_seal_error_quark(void);
enum { CHOIR_SEAL_ERROR_KEY, CHOIR_SEAL_ERROR_OPEN };

typedef struct {
  guint8 bytes[CHOIR_SEAL_KEY];
} ChoirSealKey;

/* One line of at least CHOIR_SEAL_KEY_TEXT characters, in a file that not everybody may read. */
gboolean choir_seal_key_read(const char *path, ChoirSealKey *ret_key, GError **error);
/* bind: bytes that are not in the message and must be the same at both ends (the question that an answer is for). */
GBytes *choir_seal(const ChoirSealKey *key, const char *purpose, const void *bind, gsize bind_length, const void *data,
                   gsize length);
/* NULL with error: another key, another purpose, or a bit was changed. */
GBytes *choir_unseal(const ChoirSealKey *key, const char *purpose, const void *bind, gsize bind_length,
                     const void *data, gsize length, GError **error);
