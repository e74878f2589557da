// Runs before the first paint so that the page never flashes in the wrong colours. Not a module on purpose.
(() => {
  let stored = null;
  try {
    stored = localStorage.getItem('choir.theme');
  } catch {
    // Storage may be forbidden; the system's choice holds then.
  }
  const dark = stored ? stored === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
})();
