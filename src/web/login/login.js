// The forms of /login and /setup: one JSON request, then the page.
const form = /** @type {HTMLFormElement} */ (document.getElementById('form'));
const problem = /** @type {HTMLElement} */ (document.getElementById('problem'));
const button = /** @type {HTMLButtonElement} */ (form.querySelector('button'));

/** Only a path of this server: never another site's address. */
function next() {
  const wanted = new URLSearchParams(location.search).get('next') ?? '/';
  return /^\/[A-Za-z0-9._~/-]*$/.test(wanted) && !wanted.startsWith('//') ? wanted : '/';
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  button.disabled = true;
  problem.textContent = '';
  try {
    const response = await fetch(String(form.dataset.action), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-Choir-CSRF': '1' },
      body: JSON.stringify(Object.fromEntries(new FormData(form))),
    });
    if (response.ok) {
      location.replace(next());
      return;
    }
    const answer = await response.json();
    problem.textContent = answer.error?.message ?? `The server answered ${response.status}.`;
  } catch {
    problem.textContent = 'Choir does not answer.';
  }
  button.disabled = false;
});
