// @ts-check
/** The API, below any path: all addresses are relative to this file. */

const BASE = new URL('../api/v1/', import.meta.url);

/** A refusal; `problems` are one line for each setting that is wrong. */
export class ApiError extends Error {
  /** @param {number} status @param {{error?: string, problems?: string[]}} body */
  constructor(status, body) {
    super(body.error || `the service answers ${status}`);
    this.status = status;
    this.problems = body.problems || [];
  }
}

/**
 * Return the address of a resource.
 * @param {TemplateStringsArray} parts @param {...(string|number)} values
 */
export function at(parts, ...values) {
  return parts.reduce((text, part, i) => text + encodeURIComponent(String(values[i - 1])) + part);
}

/** @param {string} path */
export const address = (path) => new URL(path, BASE).href;

/**
 * Ask the API. Returns its answer, null for an empty one. Throws ApiError.
 * @param {string} path
 * @param {{method?: string, body?: unknown, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function ask(path, { method = 'GET', body, headers = {}, signal } = {}) {
  const response = await fetch(address(path), {
    method,
    signal,
    headers: body === undefined ? headers : { 'Content-Type': 'application/json', ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 204) return null;
  const text = await response.text();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    value = { error: response.ok ? 'the answer cannot be read' : '' };
    throw new ApiError(response.status, value);
  }
  if (!response.ok) throw new ApiError(response.status, value);
  return value;
}

const HELLO_MS = 4000;
const AGAIN_MS = 5000;
const GAP_MS = 200;

const pause = (/** @type {number} */ ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Subscribe to live updates while the page is visible. Returns a function that ends it.
 *
 * A proxy that compresses or buffers holds server-sent events back: if the first does not arrive soon, the same
 * news are requested one answer at a time, on this page and the next ones.
 * @param {string | null} camera whose verdicts come too
 * @param {Record<string, (values: any) => void>} handlers by name: motion, status, event, judged
 * @param {() => void} [onHeld] called if streams are held back
 */
export function listen(camera, handlers, onHeld = () => {}) {
  /** @type {AbortController | null} */
  let ending = null;
  const open = () => {
    ending = new AbortController();
    if (sessionStorage.getItem('news') === 'held') held(ending.signal);
    else stream(camera, handlers, ending.signal, held);
  };
  const held = (/** @type {AbortSignal} */ signal) => {
    sessionStorage.setItem('news', 'held');
    onHeld();
    poll(camera, handlers, signal);
  };
  const look = () => {
    if (document.hidden) {
      ending?.abort();
      ending = null;
    } else if (!ending) open();
  };
  document.addEventListener('visibilitychange', look);
  look();
  return () => {
    document.removeEventListener('visibilitychange', look);
    ending?.abort();
  };
}

/**
 * Receive news as server-sent events.
 * @param {string | null} camera @param {Record<string, (values: any) => void>} handlers
 * @param {AbortSignal} signal @param {(signal: AbortSignal) => void} held called if they are held back
 */
function stream(camera, handlers, signal, held) {
  const source = new EventSource(address(camera === null ? 'news' : at`news?camera=${camera}`));
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const wait = (/** @type {number} */ ms, /** @type {() => void} */ then) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      source.close();
      if (!signal.aborted) then();
    }, ms);
  };
  wait(HELLO_MS, () => held(signal));
  source.addEventListener('open', () => wait(HELLO_MS, () => held(signal)));
  source.addEventListener('hello', () => clearTimeout(timer));
  source.addEventListener('error', () => {
    // The browser connects again by itself, except after a refusal.
    if (source.readyState === EventSource.CLOSED) wait(AGAIN_MS, () => stream(camera, handlers, signal, held));
    else clearTimeout(timer);
  });
  for (const [name, handler] of Object.entries(handlers))
    source.addEventListener(name, (event) => handler(JSON.parse(/** @type {MessageEvent} */ (event).data)));
  signal.addEventListener('abort', () => {
    clearTimeout(timer);
    source.close();
  });
}

/**
 * Request news again and again; the service answers when there are some.
 * @param {string | null} camera @param {Record<string, (values: any) => void>} handlers @param {AbortSignal} signal
 */
async function poll(camera, handlers, signal) {
  let cursor = '';
  while (!signal.aborted) {
    try {
      const page = await ask(at`news/after?cursor=${cursor}` + (camera === null ? '' : at`&camera=${camera}`), { signal });
      cursor = page.cursor;
      for (const { name, values } of page.news) handlers[name]?.(values);
      await pause(GAP_MS);
    } catch {
      await pause(AGAIN_MS);
    }
  }
}

/**
 * Show a camera's newest image, fetched as a blob: the same address with another fragment would be the same image
 * to the browser's cache.
 * @param {HTMLImageElement} image @param {string} camera @param {number} width
 */
export async function showNewest(image, camera, width) {
  const response = await fetch(address(at`cameras/${camera}/picture?width=${width}`));
  if (!response.ok) return;
  const old = image.src;
  image.src = URL.createObjectURL(await response.blob());
  await image.decode();
  if (old.startsWith('blob:')) URL.revokeObjectURL(old);
}

/** Return a time of day as HH:MM:SS in the service's own time zone, as the pages have it. @param {string} iso */
export function clock(iso, offset = Number(document.body.dataset.offset)) {
  return new Date(Date.parse(iso) + offset * 60_000).toISOString().slice(11, 19);
}

/** Return how long ago a moment was, as the pages say it. @param {string} iso */
export function ago(iso) {
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  for (const [name, length, next] of /** @type {const} */ ([['s', 1, 120], ['min', 60, 7200], ['h', 3600, 172800]]))
    if (seconds < next) return seconds < 1 ? 'just now' : `${(seconds / length).toFixed(0)} ${name} ago`;
  return `${(seconds / 86400).toFixed(0)} days ago`;
}

/** Return the class of a camera's status. @param {{status: string, problem: string | null}} camera */
export function kind({ status, problem }) {
  if (status === 'offline') return 'bad';
  if (problem) return 'warn';
  return status === 'watching' ? 'good' : 'dim';
}
