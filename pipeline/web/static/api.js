/** The read API: JSON by GET, errors as values with a code, and one place that knows whether the service answers. */

const RETRY_SECONDS = 5;
const BUSY = ["busy", "too_slow", "too_many_clients"];

/** An answer other than the requested one; `code` is the API's (`unknown_series`, `database_away`), or `unreachable`. */
export class ApiError extends Error {
  constructor(status, { code, message, hint, since }, retryAfter) {
    super(message);
    Object.assign(this, { status, code, hint, since, retryAfter });
  }

  /** Tell whether nothing can be read now; a service that is only busy is asked again. */
  get away() {
    return (this.status >= 500 || this.status === 0) && !BUSY.includes(this.code);
  }

  get busy() {
    return BUSY.includes(this.code);
  }
}

/** What keeps the page from the data: null, or {code, since (ISO), message}; told to `health.listen`. */
export const health = {
  away: null,
  listeners: new Set(),
  probing: null,
  listen(listener) {
    this.listeners.add(listener);
  },
  report(error) {
    const since = error.since ?? this.away?.since ?? new Date().toISOString();
    this.away = { code: error.code, since, message: error.message, hint: error.hint };
    clearTimeout(this.probing);
    this.probing = setTimeout(() => this.probe(), error.retryAfter * 1000);
    this.tell();
  },
  /** The event stream says that the database has been away since then. */
  lost(since) {
    if (!this.away)
      this.report(new ApiError(503, { code: "database_away", message: "the database is away", since }, RETRY_SECONDS));
  },
  async probe() {
    try {
      const status = await fetchJson("api/status");
      if (status.database === "away")
        throw new ApiError(503, { code: "database_away", message: "", since: status.since }, RETRY_SECONDS);
      this.away = null;
      this.tell();
    } catch (error) {
      this.report(error);
    }
  },
  tell() {
    for (const listener of this.listeners) listener(this.away);
  },
};

/** GET `path` with parameters; those that are null are left out. Throws ApiError. */
export async function read(path, parameters = {}, { signal } = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(given).toString();
  try {
    return await fetchJson(query ? `${path}?${query}` : path, signal);
  } catch (error) {
    if (error instanceof ApiError && error.away) health.report(error);
    throw error;
  }
}

async function fetchJson(address, signal) {
  let response;
  try {
    response = await fetch(address, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { code: "unreachable", message: "tidecast serve does not answer" }, RETRY_SECONDS);
  }
  if (response.ok) return response.json();
  const body = await response.json().catch(() => ({}));
  const said = body.error ?? { code: `http_${response.status}`, message: `the service answered ${response.status}` };
  throw new ApiError(response.status, said, Number(response.headers.get("retry-after")) || RETRY_SECONDS);
}
