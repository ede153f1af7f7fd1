// The connection of the page to the server: events that the server sends, recordings, and control requests.

const SERVER_EVENTS = ["snapshot", "report", "gone", "event", "clock"];
const REFUSED_AGAIN = 2000; // milliseconds until the next attempt after an answer that is an error
const SILENT_AFTER = 15; // seconds; the server sends the time each second when it has nothing else to send

/** The token in the page's address goes with each request. */
function withToken(path) {
  const token = new URLSearchParams(location.search).get("token");
  return token ? `${path}?token=${encodeURIComponent(token)}` : path;
}

/**
 * Calls `onMessage(type, data)` for all that the server sends, and `onState("live" or "reconnecting")`. If the server refuses,
 * `onRefused(text)` gets its reason.
 *
 * The browser connects again by itself, except after an answer that is an error, or if a proxy keeps a dead connection open.
 * Then this class does it.
 */
export class ServerEvents {
  constructor(onMessage, onState, onRefused) {
    Object.assign(this, { onMessage, onState, onRefused, source: null, timer: null });
    this.lastHeard = 0;
    setInterval(() => {
      if (this.source && performance.now() - this.lastHeard > SILENT_AFTER * 1000) this.#again(0);
    }, 2000);
    this.#open();
  }

  #open() {
    this.lastHeard = performance.now();
    const source = new EventSource(withToken("/events"));
    this.source = source;
    for (const type of SERVER_EVENTS) {
      source.addEventListener(type, (event) => {
        this.lastHeard = performance.now();
        this.onMessage(type, JSON.parse(event.data));
        if (type === "snapshot") this.onState("live");
      });
    }
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      this.lastHeard = performance.now();
      this.onState("reconnecting");
      if (source.readyState === EventSource.CLOSED) {
        this.#again(REFUSED_AGAIN);
        this.#tellReason();
      }
    });
  }

  /** An EventSource does not tell why it was refused, so ask once more. */
  async #tellReason() {
    const stop = new AbortController();
    try {
      const answer = await fetch(withToken("/events"), { signal: stop.signal });
      if (!answer.ok) this.onRefused((await answer.text()).trim().slice(0, 500));
    } catch {
      // The server does not answer at all. The page says that it reconnects.
    } finally {
      stop.abort();
    }
  }

  #again(delay) {
    this.source?.close();
    this.source = null;
    this.onState("reconnecting");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#open(), delay);
  }
}

/** The text of the recording that the server shows. */
export async function fetchRecording() {
  const answer = await fetch(withToken("/recording"));
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.text();
}

/** Ask the server to do something. Returns what it has done, as a sentence; raises Error with the reason if it has not. */
export async function requestControl(action, data, csrf) {
  const answer = await fetch(withToken(`/control/${action}`), {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf ?? "" },
    body: JSON.stringify(data),
  });
  if (!answer.ok) throw new Error((await answer.text()).slice(0, 500) || `the server answered ${answer.status}`);
  const { ok, text } = await answer.json();
  if (!ok) throw new Error(text);
  return text;
}
