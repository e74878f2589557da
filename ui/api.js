/** An answer of the server that is not 2xx, or none at all (status 0). */
export class ApiError extends Error {
  /** @param {string} message @param {number} status @param {string} [code] */
  constructor(message, status, code = '') {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @param {string} path
 * @param {object} [body] given: POST as JSON
 * @returns {Promise<any>}
 */
export async function api(path, body) {
  /** @type {RequestInit} */
  const init = { signal: AbortSignal.timeout(15000), headers: { Accept: 'application/json' } };
  if (body !== undefined) {
    init.method = 'POST';
    // The header that no form of another site can send.
    init.headers = { Accept: 'application/json', 'Content-Type': 'application/json', 'X-Choir-CSRF': '1' };
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new ApiError('Choir does not answer.', 0);
  }
  const text = await response.text();
  /** @type {any} */
  let json = null;
  try {
    json = text ? JSON.parse(text) : null;
  } catch {
    // A proxy in between may answer in HTML; its status still tells enough.
  }
  if (!response.ok) {
    const error = json?.error;
    if (response.status === 401) dispatchEvent(new Event('choir-login'));
    throw new ApiError(error?.message ?? `The server answered ${response.status}.`, response.status, error?.code ?? '');
  }
  return json;
}
