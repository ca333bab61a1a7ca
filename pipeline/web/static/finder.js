/** The list of series: search as you type, only the visible rows in the page, keys for everything. */

import { byId, h } from "./dom.js";
import { read } from "./api.js";
import { count, quality } from "./words.js";

const ROW = 34; // pixels, as in page.css
const SPARE = 8; // rows above and below what is visible
const PAGE = 500; // series per request
const MOST = 20000; // rows that can be scrolled to; beyond it, searching is the way
const PAUSE = 150; // milliseconds without a key before the search is sent

/** Finds series and tells `choose(name)` which one was taken. */
export class Finder {
  constructor(choose) {
    this.choose = choose;
    this.search = byId("search");
    this.list = byId("series-list");
    this.counted = byId("finder-count");
    this.note = byId("finder-note");
    this.space = h("div", { class: "list-space", role: "presentation" });
    this.list.append(this.space);
    this.generation = 0;
    this.selected = null;
    this.active = -1;
    this.rows = new Map(); // index -> element
    this.clear();
    this.listen();
  }

  clear() {
    this.found = [];
    this.next = null;
    this.total = 0;
    this.loading = null;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
  }

  listen() {
    this.list.addEventListener("scroll", () => this.schedule(), { passive: true });
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest("[data-index]");
      if (row) this.take(Number(row.dataset.index));
    });
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.load(), PAUSE);
    });
    this.search.addEventListener("focus", () => this.open(true));
    for (const place of [this.search, this.list]) place.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, textarea, select");
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        this.search.focus();
        this.search.select();
      }
    });
    document.addEventListener("pointerdown", (event) => {
      if (!byId("finder").contains(event.target)) this.open(false);
    });
    byId("finder").addEventListener("focusout", (event) => {
      if (event.relatedTarget && !byId("finder").contains(event.relatedTarget)) this.open(false);
    });
    new ResizeObserver(() => this.schedule()).observe(this.list);
  }

  /** On a phone the list is open only while it is used; elsewhere the style sheet keeps it open. */
  open(is) {
    byId("finder").classList.toggle("open", is);
    this.schedule();
  }

  /** Request the first page of what is searched. */
  async load() {
    const generation = ++this.generation;
    const search = this.search.value.trim();
    const page = await read("api/series", { search, limit: PAGE }).catch(() => null);
    if (generation !== this.generation || page === null) return;
    const place = search === this.searched ? this.list.scrollTop : 0;
    this.clear();
    this.searched = search;
    this.total = page.total;
    this.add(page);
    this.active = this.found.findIndex((series) => series.name === this.selected);
    this.counted.textContent = search ? `${count(page.total)} found` : count(page.total);
    const beyond = page.total > MOST;
    this.note.hidden = !beyond && page.total > 0;
    this.note.textContent = beyond
      ? `The first ${count(MOST)} are listed; type to find the others.`
      : `Nothing is called “${search}”.`;
    if (!search && !page.total) this.note.textContent = "No series yet.";
    this.space.style.height = `${Math.min(page.total, MOST) * ROW}px`;
    this.list.scrollTop = place;
    if (this.active > 0 && !place) this.reveal(this.active);
    this.draw();
    return page.total;
  }

  /** There are so many series now: read the list again if that is news. */
  follow(total) {
    if (this.searched === "" && !this.search.value && total !== this.total) this.load();
  }

  add(page) {
    this.found.push(...page.items);
    this.next = page.next;
  }

  /** Request pages until row `last` is there. */
  more(last) {
    if (this.loading || this.next === null || last < this.found.length) return;
    const generation = this.generation;
    this.loading = (async () => {
      while (this.next !== null && this.found.length <= last && generation === this.generation) {
        const page = await read("api/series", { search: this.searched, after: this.next, limit: PAGE }).catch(
          () => null,
        );
        if (page === null || generation !== this.generation) break;
        this.add(page);
      }
    })().finally(() => {
      this.loading = null;
      if (generation === this.generation) this.schedule();
    });
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  /** Put the rows that are visible into the page and take the others out. */
  draw() {
    const rows = Math.min(this.total, MOST);
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - SPARE);
    const last = Math.min(rows, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW) + SPARE) - 1;
    this.more(last);
    for (const [index, row] of this.rows) {
      const stale = row.dataset.name === undefined && this.found[index];
      if (index < first || index > last || stale) {
        row.remove();
        this.rows.delete(index);
      }
    }
    for (let index = first; index <= last; index += 1) {
      if (!this.rows.has(index)) {
        const row = this.row(index);
        this.rows.set(index, row);
        this.space.append(row);
      }
    }
    for (const [index, row] of this.rows) {
      row.setAttribute("aria-selected", String(row.dataset.name !== undefined && row.dataset.name === this.selected));
      row.classList.toggle("active", index === this.active);
    }
    const shown = this.rows.get(this.active);
    for (const place of [this.search, this.list]) {
      if (shown) place.setAttribute("aria-activedescendant", shown.id);
      else place.removeAttribute("aria-activedescendant");
    }
  }

  row(index) {
    const series = this.found[index];
    const state = series ? quality(series.quality) : null;
    const row = h(
      "div",
      {
        class: "series",
        role: "option",
        id: `series-${index}`,
        "data-index": index,
        "data-name": series?.name,
        "aria-setsize": this.total,
        "aria-posinset": index + 1,
        title: series?.name,
      },
      h("span", { class: "series-label" }, series ? series.name : "loading"),
      state && state.level !== "ok"
        ? h("span", { class: `tag ${state.level}` }, state.level === "none" ? "new" : state.words)
        : null,
    );
    row.style.transform = `translateY(${index * ROW}px)`;
    return row;
  }

  key(event) {
    const rows = Math.min(this.total, MOST);
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    const inList = event.currentTarget === this.list;
    if (event.key in moves && rows) {
      event.preventDefault();
      this.active = Math.min(rows - 1, Math.max(0, this.active + moves[event.key]));
    } else if (inList && (event.key === "Home" || event.key === "End") && rows) {
      event.preventDefault();
      this.active = event.key === "Home" ? 0 : rows - 1;
    } else if (event.key === "Enter" && rows) {
      event.preventDefault();
      this.take(Math.max(0, this.active));
      return;
    } else if (event.key === "Escape") {
      this.open(false);
      if (this.search.value) {
        this.search.value = "";
        this.load();
      } else this.search.blur();
      return;
    } else return;
    this.reveal(this.active);
    this.draw();
  }

  reveal(index) {
    const top = index * ROW;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + ROW > this.list.scrollTop + this.list.clientHeight)
      this.list.scrollTop = top + ROW - this.list.clientHeight;
  }

  take(index) {
    const series = this.found[index];
    if (!series) return;
    this.active = index;
    this.select(series.name);
    this.open(false);
    this.choose(series.name);
  }

  /** Mark the series that is shown. */
  select(name) {
    this.selected = name;
    const index = this.found.findIndex((series) => series.name === name);
    if (index >= 0) {
      this.active = index;
      this.reveal(index);
    }
    this.draw();
  }

  /** The name of the first series of the list, or null. */
  get first() {
    return this.found[0]?.name ?? null;
  }
}
