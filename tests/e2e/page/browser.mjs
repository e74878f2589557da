// Debian's Chromium under playwright-core, and a TAP printer. Every test of this folder uses it.
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const OUT = join(dirname(fileURLToPath(import.meta.url)), '../out');
export const URL_UNDER_TEST = process.env.CHOIR_URL ?? 'http://127.0.0.1:8000';
const QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required'];

/**
 * A browser of its own, with its own profile; `page` records what went wrong on it.
 * @param {{args?: string[], width?: number, height?: number, dark?: boolean, permissions?: string[], touch?: boolean, still?: boolean, before?: () => void}} [options]
 */
export async function openBrowser({ args = [], width = 1440, height = 900, dark = false, permissions = [], touch = false, still = false, before } = {}) {
  const executablePath = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
  const profile = mkdtempSync(join(tmpdir(), 'choir-page-'));
  mkdirSync(OUT, { recursive: true });
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: [...QUIET, ...args],
    viewport: { width, height },
    colorScheme: dark ? 'dark' : 'light',
    hasTouch: touch,
    reducedMotion: still ? 'reduce' : 'no-preference',
    permissions,
    acceptDownloads: true,
  });
  if (before) await context.addInitScript(before);
  const page = context.pages()[0] ?? (await context.newPage());
  /** @type {string[]} */
  const problems = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') problems.push(`${message.type()}: ${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => problems.push(`exception: ${error.message}`));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
  });
  const close = async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  };
  return { context, page, problems, close };
}

/** For waits in the page: the language model is warm. */
export const warm = async () => document.getElementById('status-light').dataset.light !== 'off' && (await fetch('/health')).status === 200;

/** Prints one TAP line per check; end() sets the exit code. */
export class Tap {
  constructor() {
    this.count = 0;
    this.failed = 0;
    this.watchdog = setTimeout(() => {
      console.log(`Bail out! nothing happened for too long`);
      process.exit(2);
    }, Number(process.env.CHOIR_PAGE_TIMEOUT ?? 600) * 1000);
  }

  ok(good, name, why = '') {
    this.count++;
    if (!good) this.failed++;
    console.log(`${good ? 'ok' : 'not ok'} ${this.count} - ${name}`);
    if (!good && why) console.log(`# ${String(why).replaceAll('\n', '\n# ')}`);
    return Boolean(good);
  }

  is(got, want, name) {
    return this.ok(Object.is(got, want), name, `got ${JSON.stringify(got)}, wanted ${JSON.stringify(want)}`);
  }

  note(text) {
    console.log(`# ${String(text).replaceAll('\n', ' ')}`);
  }

  skip(name, why) {
    this.count++;
    console.log(`ok ${this.count} - ${name} # SKIP ${why}`);
  }

  /** A check that waits: the predicate runs in the page until it is true. */
  async waits(page, name, predicate, argument, timeout = 15000) {
    try {
      await page.waitForFunction(predicate, argument, { timeout, polling: 100 });
      return this.ok(true, name);
    } catch (error) {
      const seen = await page.evaluate(() => document.getElementById('state-word')?.textContent).catch(() => '');
      return this.ok(false, name, `${error.message.split('\n')[0]} (the page says "${seen}")`);
    }
  }

  /** A step that throws is a failed check, and the rest still runs. */
  async step(name, run) {
    try {
      await run();
    } catch (error) {
      this.ok(false, name, error.stack);
    }
  }

  end() {
    clearTimeout(this.watchdog);
    console.log(`1..${this.count}`);
    process.exitCode = this.failed ? 1 : 0;
  }
}
