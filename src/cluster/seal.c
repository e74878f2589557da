#include "cluster/seal.h"
#include <errno.h>
#include <glib/gstdio.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include <sys/random.h>

static const guint8 magic[4] = {'C', 'H', 'S', '1'};
#define TAG 16
#define NONCE 12
#define KEY_FILE_MAX 4096

G_DEFINE_QUARK(choir - seal - error - quark, choir_seal_error)

static gboolean bad_key(GError **error, const char *path, const char *why) {
  g_set_error(error, CHOIR_SEAL_ERROR, CHOIR_SEAL_ERROR_KEY, "the key file %s cannot be used: %s", path, why);
  return FALSE;
}

gboolean choir_seal_key_read(const char *path, ChoirSealKey *ret_key, GError **error) {
  g_autofree char *text = NULL;
  g_autoptr(GError) why = NULL;
  g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
  GStatBuf status;
  gsize length = sizeof ret_key->bytes;
  if (g_stat(path, &status) != 0)
    return bad_key(error, path, g_strerror(errno));
  if (status.st_mode & 0007)
    return bad_key(error, path, "everybody may read it; chmod 0640 it");
  if (status.st_size > KEY_FILE_MAX || !g_file_get_contents(path, &text, NULL, &why))
    return bad_key(error, path, why ? why->message : "it is too long");
  g_strstrip(text);
  if (strlen(text) < CHOIR_SEAL_KEY_TEXT || strpbrk(text, " \t\r\n"))
    return bad_key(error, path, "one line of at least 32 characters is expected");
  g_checksum_update(sum, (const guchar *)text, -1);
  g_checksum_get_digest(sum, ret_key->bytes, &length);
  return TRUE;
}

static gnutls_aead_cipher_hd_t cipher_of(const ChoirSealKey *key, const char *purpose, const guint8 *salt) {
  guint8 own[CHOIR_SEAL_KEY];
  gsize length = sizeof own;
  g_autoptr(GHmac) hmac = g_hmac_new(G_CHECKSUM_SHA256, key->bytes, sizeof key->bytes);
  g_hmac_update(hmac, (const guchar *)purpose, (gssize)strlen(purpose) + 1);
  g_hmac_update(hmac, salt, CHOIR_SEAL_SALT);
  g_hmac_get_digest(hmac, own, &length);
  gnutls_datum_t datum = {.data = own, .size = sizeof own};
  gnutls_aead_cipher_hd_t cipher;
  if (gnutls_aead_cipher_init(&cipher, GNUTLS_CIPHER_CHACHA20_POLY1305, &datum) != 0)
    g_error("GnuTLS knows no ChaCha20-Poly1305"); /* aborts: nothing may go out unsealed */
  return cipher;
}

GBytes *choir_seal(const ChoirSealKey *key, const char *purpose, const void *bind, gsize bind_length, const void *data,
                   gsize length) {
  static const guint8 nonce[NONCE];
  guint8 *out = g_malloc(length + CHOIR_SEAL_MORE), *salt = out + sizeof magic;
  gsize sealed = length + TAG;
  memcpy(out, magic, sizeof magic);
  if (getrandom(salt, CHOIR_SEAL_SALT, 0) != CHOIR_SEAL_SALT)
    g_error("the kernel gives no random numbers");
  gnutls_aead_cipher_hd_t cipher = cipher_of(key, purpose, salt);
  if (gnutls_aead_cipher_encrypt(cipher, nonce, sizeof nonce, bind, bind_length, TAG, data, length,
                                 salt + CHOIR_SEAL_SALT, &sealed) != 0)
    g_error("GnuTLS cannot seal");
  gnutls_aead_cipher_deinit(cipher);
  return g_bytes_new_take(out, length + CHOIR_SEAL_MORE);
}

GBytes *choir_unseal(const ChoirSealKey *key, const char *purpose, const void *bind, gsize bind_length,
                     const void *data, gsize length, GError **error) {
  static const guint8 nonce[NONCE];
  const guint8 *bytes = data;
  if (length >= CHOIR_SEAL_MORE && memcmp(bytes, magic, sizeof magic) == 0) {
    gsize opened = length - CHOIR_SEAL_MORE;
    guint8 *out = g_malloc(opened + 1);
    gnutls_aead_cipher_hd_t cipher = cipher_of(key, purpose, bytes + sizeof magic);
    const guint8 *sealed = bytes + sizeof magic + CHOIR_SEAL_SALT;
    int code = gnutls_aead_cipher_decrypt(cipher, nonce, sizeof nonce, bind, bind_length, TAG, sealed, opened + TAG,
                                          out, &opened);
    gnutls_aead_cipher_deinit(cipher);
    if (code == 0)
      return g_bytes_new_take(out, opened);
    g_free(out);
  }
  g_set_error_literal(error, CHOIR_SEAL_ERROR, CHOIR_SEAL_ERROR_OPEN,
                      "the message cannot be opened: the other side has another key, or it was changed on its way");
  return NULL;
}
