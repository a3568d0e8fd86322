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

/**
 * Subscribe to live updates. Returns a function that closes the connection.
 * @param {string | null} camera whose verdicts come too
 * @param {Record<string, (values: any) => void>} handlers by name: motion, status, event, judged
 */
export function listen(camera, handlers) {
  const source = new EventSource(address(camera === null ? 'news' : at`news?camera=${camera}`));
  for (const [name, handler] of Object.entries(handlers))
    source.addEventListener(name, (event) => handler(JSON.parse(/** @type {MessageEvent} */ (event).data)));
  return () => source.close();
}
