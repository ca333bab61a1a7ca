/** Server-sent events of one series, with a reconnect of our own: a browser gives up after an answer that is no stream. */

const WAITS = [1, 2, 5, 10, 20]; // seconds

/** Follows one series; `receive` gets (event, data), `linked` gets {up, since} whenever the connection opens or breaks. */
export class Live {
  constructor(receive, linked) {
    Object.assign(this, { receive, linked, source: null, failures: 0, timer: null, since: Date.now(), up: null });
  }

  follow(series) {
    this.close();
    this.series = series;
    this.failures = 0;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    const query = this.series ? `?${new URLSearchParams({ series: this.series })}` : "";
    const source = new EventSource(`api/events${query}`);
    this.source = source;
    source.onopen = () => {
      this.failures = 0;
      this.turn(true);
    };
    source.onerror = () => {
      if (source !== this.source) return;
      source.close();
      this.turn(false);
      this.timer = setTimeout(() => this.open(), WAITS[Math.min(this.failures++, WAITS.length - 1)] * 1000);
    };
    for (const name of ["observation", "forecast", "status"]) {
      source.addEventListener(name, (event) => source === this.source && this.receive(name, JSON.parse(event.data)));
    }
  }

  turn(up) {
    if (up !== this.up) this.since = Date.now();
    const again = up && this.up === false;
    this.up = up;
    this.linked({ up, since: this.since, again });
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }
}
