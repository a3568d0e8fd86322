// @ts-check
/** One camera: its stream, with layers that are drawn over it, and the graph of the score. */
import { html, nothing, render, svg } from './vendor/lit-html.js';
import { ago, address, ask, at, clock, kind, listen, showNewest } from './api.js';
import { label, points } from './shapes.js';

const LAYERS = [
  ['boxes', 'Boxes'],
  ['verdict', 'Verdict'],
  ['zones', 'Zones'],
  ['masks', 'Masks'],
];
const KNOWLEDGE = [
  ['background', 'Background'],
  ['noise', 'Noise'],
  ['unrest', 'Unrest'],
];
const REASONS = {
  motion: 'Motion', still: 'Still', learning: 'Learning', below_area: 'Too small', above_area: 'Too large',
  masked: 'Masked', scene_change: 'The scene has changed', debounce: 'Seen once, not yet confirmed',
};
const GRAPH_S = 120;
const WIDTH = 960;
const FIGURES_MS = 5000;
const SLOW_MS = 1000;
const AGAIN_MS = 5000;
/** How long the head of the stream may take. */
const ANSWER_MS = 10000;
const RECENT = 6;
/** Delays after the beginning or end of an event, until its image or its summary is stored. */
const SOON_MS = [1500, 5000];

/** @param {number} share */
const percent = (share) => `${(share * 100).toPrecision(share ? 2 : 1)} %`;

/** Return a duration as the page of events says it. @param {number} seconds */
function lasted(seconds) {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60);
  const [whole, rest, unit] = minutes < 60 ? [minutes, Math.round(seconds) % 60, 'min'] : [Math.floor(minutes / 60), minutes % 60, 'h'];
  return `${whole}:${String(rest).padStart(2, '0')} ${unit}`;
}

class LiveCamera extends HTMLElement {
  name = '';
  /** @type {any} */
  facts = {};
  shown = new Set((localStorage.getItem('layers') ?? 'boxes,verdict').split(','));
  /** @type {any} */
  verdict = null;
  /** @type {{at: number, score: number, motion: boolean}[]} */
  scores = [];
  layer = '';
  stage = /** @type {HTMLElement} */ (this.querySelector('.frame'));
  overlay = document.createElement('div');
  panel = document.createElement('div');
  /** @type {HTMLImageElement | null} */
  image = this.stage.querySelector('img');
  /** How each image is requested: null while there is a stream, else the least interval in ms. @type {number | null} */
  every = null;
  shownAt = 0;
  busy = false;
  /** The last events, newest first. @type {any[]} */
  events = [];

  connectedCallback() {
    this.name = this.getAttribute('name') || '';
    this.facts = JSON.parse(document.getElementById('facts')?.textContent || '{}');
    this.overlay.className = 'overlay';
    this.stage.append(this.overlay);
    this.append(this.panel);
    ask(at`cameras/${this.name}/scores`).then(({ scores }) => {
      this.scores = [...scores, ...this.scores];
      this.draw();
    }, () => {});
    this.hang = listen(this.name, {
      judged: (verdict) => this.judged(verdict),
      status: ({ camera }) => camera === this.name && this.figures(),
      event: (event) => event.camera === this.name && this.event(event),
    }, () => this.request(0));
    document.addEventListener('visibilitychange', this.look);
    this.timer = setInterval(() => this.figures(), FIGURES_MS);
    if (this.image) this.watch(this.image);
    this.recent();
    this.draw();
  }

  disconnectedCallback() {
    document.removeEventListener('visibilitychange', this.look);
    clearInterval(this.timer);
    this.hang?.();
  }

  /** Stream only while the page is visible: a stream costs the service CPU. */
  look = () => {
    if (!this.image || this.every !== null) return;
    if (document.hidden) this.image.removeAttribute('src');
    else this.image.src = address(at`cameras/${this.name}/stream`);
  };

  /** Fall back to single images if the stream fails. @param {HTMLImageElement} image */
  watch(image) {
    image.addEventListener('load', () => this.fit(), { once: true });
    // All streams are taken, or this one broke; perhaps before this script ran.
    image.addEventListener('error', () => this.replace());
    if (image.src && image.complete && !image.naturalWidth) this.replace();
  }

  /** Request single images instead of a stream that is refused, or that a proxy has broken. */
  async replace() {
    if (this.every !== null || !this.isConnected) return;
    const ending = new AbortController();
    const late = setTimeout(() => ending.abort(), ANSWER_MS);
    try {
      // Home Assistant's ingress passes the stream on without its boundary: to the browser it is no image then.
      const { ok } = await fetch(address(at`cameras/${this.name}/stream`), { signal: ending.signal });
      this.request(ok ? 0 : SLOW_MS);
    } catch {
      setTimeout(() => this.replace(), AGAIN_MS);
    } finally {
      clearTimeout(late);
      ending.abort();
    }
  }

  /** Show a camera that had no frame when the page was made. */
  begin() {
    this.image = document.createElement('img');
    this.image.alt = 'What the camera sees now';
    this.watch(this.image);
    this.stage.querySelector('.empty')?.replaceWith(this.image);
    this.look();
  }

  /** Request each image instead of the stream. @param {number} every least interval, ms */
  request(every) {
    if (this.every !== null) return;
    this.every = every;
    this.refresh();
  }

  /** Show the newest image, if it is due. */
  async refresh() {
    if (!this.image || this.every === null || this.busy || document.hidden || performance.now() - this.shownAt < this.every) return;
    this.busy = true;
    this.shownAt = performance.now();
    try {
      await showNewest(this.image, this.name, WIDTH);
    } catch {
      // The next verdict tries again.
    } finally {
      this.busy = false;
    }
  }

  /** Bring status, problem and figures up to date. */
  async figures() {
    if (document.hidden) return;
    try {
      const camera = await ask(at`cameras/${this.name}`);
      const status = document.getElementById('status');
      if (status) {
        status.textContent = camera.status;
        status.className = `state ${kind(camera)}`;
      }
      const problem = document.getElementById('problem');
      if (problem && problem.textContent !== (camera.problem || '')) problem.textContent = camera.problem || '';
      const values = {
        events: camera.events_today,
        motion: camera.last_motion ? ago(camera.last_motion) : 'none yet',
        judged: `${camera.fps.toFixed(1)} frames/s`,
      };
      for (const [name, value] of Object.entries(values)) {
        const place = document.getElementById(`figure-${name}`);
        if (place) place.textContent = String(value);
      }
    } catch {
      // The next round tries again.
    }
  }

  /** Show an event as it begins and ends. @param {any} event */
  event(event) {
    const known = this.events.find(({ event_id }) => event_id === event.event_id);
    if (known) Object.assign(known, { ended_at: event.ended_at });
    else this.events = [{ best: null, duration_s: null, ...event }, ...this.events].slice(0, RECENT);
    this.draw();
    for (const ms of SOON_MS) setTimeout(() => this.recent(), ms);
  }

  /** Read the last events from the store. */
  async recent() {
    try {
      const { events } = await ask(at`events?camera=${this.name}&limit=${RECENT}`);
      const ids = new Set(events.map((/** @type {any} */ { event_id }) => event_id));
      const newer = this.events.filter(({ event_id }) => !ids.has(event_id) && event_id > (events[0]?.event_id ?? ''));
      this.events = [...newer, ...events].slice(0, RECENT);
      this.draw();
    } catch {
      // The page of events says why the store cannot be read.
    }
  }

  fit() {
    const { naturalWidth = 0, naturalHeight = 1 } = this.image ?? {};
    if (naturalWidth) this.stage.style.setProperty('--ratio', String(naturalWidth / naturalHeight));
  }

  /** @param {any} verdict */
  judged(verdict) {
    this.verdict = verdict;
    this.scores.push({ at: Date.parse(verdict.at) / 1000, score: verdict.score, motion: verdict.motion });
    if (this.scores.length > 900) this.scores.splice(0, 300);
    if (!this.image) this.begin();
    // The page of an offline camera has its last image; now it is back.
    else if (this.every === null && this.image.src.includes('/picture?')) this.look();
    this.refresh();
    this.draw();
  }

  /** @param {string} name */
  toggle(name) {
    if (this.shown.has(name)) this.shown.delete(name);
    else this.shown.add(name);
    localStorage.setItem('layers', [...this.shown].join(','));
    this.draw();
  }

  /** @param {string} name */
  know(name) {
    this.layer = this.layer === name ? '' : name;
    this.draw();
  }

  draw() {
    const on = (/** @type {string} */ name) => this.shown.has(name);
    const { verdict, facts } = this;
    const zones = on('zones') ? Object.entries(facts.zones || {}) : [];
    const masks = on('masks') ? facts.masks || [] : [];
    const boxes = on('boxes') && verdict ? verdict.boxes : [];
    render(html`
      ${this.layer ? html`<img alt=${`${this.layer} of the detector`} src=${address(at`cameras/${this.name}/layer?layer=${this.layer}`)}>` : nothing}
      <svg class="layer" viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">
        ${masks.map((/** @type {number[][]} */ mask) => svg`<polygon class="mask" points=${points(mask)} />`)}
        ${zones.map(([name, shape]) => svg`<polygon class=${verdict?.zones.includes(name) ? 'zone hit' : 'zone'} points=${points(/** @type {number[][]} */ (shape))} />`)}
        ${boxes.map((/** @type {number[]} */ [x, y, w, h]) => svg`<rect class="box" x=${x} y=${y} width=${w} height=${h} />`)}
      </svg>
      ${zones.length ? html`<svg class="layer names" aria-hidden="true">${zones.map(([name, shape]) => label(name, /** @type {number[][]} */ (shape)))}</svg>` : nothing}
      ${on('verdict') && verdict ? html`<span class="verdict">${REASONS[/** @type {keyof REASONS} */ (verdict.reason)] || verdict.reason} · ${percent(verdict.score)}</span>` : nothing}
    `, this.overlay);
    render(html`
      <div class="chips layers" role="group" aria-label="Layers">
        ${LAYERS.map(([name, words]) => html`<button class="chip" aria-pressed=${String(on(name))} @click=${() => this.toggle(name)}>${words}</button>`)}
        ${KNOWLEDGE.map(([name, words]) => html`<button class="chip" aria-pressed=${String(this.layer === name)} @click=${() => this.know(name)}>${words}</button>`)}
      </div>
      ${this.every === SLOW_MS ? html`<p class="dim small" role="status">There is no free stream for now: the image is requested once a second.</p>` : nothing}
      ${this.graph()}
      ${this.events.length ? html`<h2>Last events</h2><div class="grid few">${this.events.map((event) => this.card(event))}</div>` : nothing}
    `, this.panel);
  }

  /** @param {any} event */
  card({ camera, event_id, best, started_at, ended_at, duration_s, zones }) {
    const path = at`events/${camera}/${event_id}/frames/${best ?? 0}?width=320`;
    return html`<a class="card shot" href=${at`event?camera=${camera}&id=${event_id}`}>
      <span class="frame">${best === null ? html`<span class="empty">No frame yet</span>` : html`<img src=${address(path)} alt="" width="320" height="180">`}
      ${ended_at ? nothing : html`<span class="pill">Ongoing</span>`}</span>
      <span class="about"><span class="name">${clock(started_at)}</span><span class="dim small">${duration_s === null ? '' : lasted(duration_s)}</span>
      <span class="more">${zones.join(', ')}</span></span></a>`;
  }

  graph() {
    const now = this.scores.length ? this.scores[this.scores.length - 1].at : 0;
    const recent = this.scores.filter(({ at }) => now - at < GRAPH_S);
    const level = this.facts.min_area || 0;
    const top = Math.max(level * 2.5, 0.002, ...recent.map(({ score }) => score)) * 1.08;
    const x = (/** @type {number} */ at) => (100 * (1 - (now - at) / GRAPH_S)).toFixed(2);
    const y = (/** @type {number} */ score) => (100 - 100 * score / top).toFixed(2);
    const line = recent.map(({ at, score }) => `${x(at)},${y(score)}`).join(' ');
    const first = recent.length ? x(recent[0].at) : '0';
    const peak = Math.max(0, ...recent.map(({ score }) => score));
    return html`<p class="legend dim small"><span>Score, last two minutes; peak ${percent(peak)}</span><span class="dashed">counts from ${percent(level)}</span></p>
    <svg class="graph" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label=${`Score of the last two minutes; it counts from ${percent(level)} of the image`}>
      <polygon class="area" points=${`${first},100 ${line} 100,100`} />
      <polyline class="line" points=${line} />
      <line class="level" x1="0" x2="100" y1=${y(level)} y2=${y(level)} />
      ${recent.filter(({ motion }) => motion).map(({ at }) => svg`<rect class="moved" x=${x(at)} y="97" width=".5" height="3" />`)}
    </svg>`;
  }
}

customElements.define('live-camera', LiveCamera);
