// @ts-check
/** One camera: its stream, with layers that are drawn over it, and the graph of the score. */
import { html, nothing, render, svg } from './vendor/lit-html.js';
import { address, ask, at, listen } from './api.js';

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

/** @param {number[][]} polygon */
export const points = (polygon) => polygon.map(([x, y]) => `${x},${y}`).join(' ');

/** @param {number} share */
export const percent = (share) => `${(share * 100).toPrecision(share ? 2 : 1)} %`;

class LiveCamera extends HTMLElement {
  connectedCallback() {
    this.name = this.getAttribute('name') || '';
    this.facts = JSON.parse(document.getElementById('facts')?.textContent || '{}');
    this.shown = new Set((localStorage.getItem('layers') ?? 'boxes,verdict').split(','));
    /** @type {any} */
    this.verdict = null;
    /** @type {{at: number, score: number, motion: boolean}[]} */
    this.scores = [];
    this.layer = '';
    this.stage = /** @type {HTMLElement} */ (this.querySelector('.frame'));
    this.overlay = document.createElement('div');
    this.overlay.className = 'overlay';
    this.stage.append(this.overlay);
    this.panel = document.createElement('div');
    this.append(this.panel);
    this.wanted = true;
    ask(at`cameras/${this.name}/scores`).then(({ scores }) => {
      this.scores = [...scores, ...this.scores];
      this.draw();
    }, () => {});
    this.open();
    document.addEventListener('visibilitychange', this.look);
    const image = this.stage.querySelector('img');
    image?.addEventListener('load', () => this.fit(image), { once: true });
    this.draw();
  }

  disconnectedCallback() {
    document.removeEventListener('visibilitychange', this.look);
    this.hang?.();
  }

  /** Stream only while the page is visible: a stream costs the service CPU. */
  look = () => {
    const image = this.stage?.querySelector('img');
    if (document.hidden) {
      this.hang?.();
      this.hang = undefined;
      image?.removeAttribute('src');
    } else if (!this.hang) {
      this.open();
      if (image) image.src = address(at`cameras/${this.name ?? ''}/stream`);
    }
  };

  open() {
    this.hang = listen(this.name ?? '', {
      judged: (verdict) => this.judged(verdict),
      motion: ({ camera, on }) => camera === this.name && this.classList.toggle('moving', on),
    });
  }

  /** @param {HTMLImageElement} image */
  fit(image) {
    if (image.naturalWidth && this.stage)
      this.stage.style.setProperty('--ratio', String(image.naturalWidth / image.naturalHeight));
  }

  /** @param {any} verdict */
  judged(verdict) {
    this.verdict = verdict;
    this.scores?.push({ at: Date.parse(verdict.at) / 1000, score: verdict.score, motion: verdict.motion });
    if (this.scores && this.scores.length > 900) this.scores.splice(0, 300);
    this.draw();
  }

  /** @param {string} name */
  toggle(name) {
    if (this.shown?.has(name)) this.shown.delete(name);
    else this.shown?.add(name);
    localStorage.setItem('layers', [...(this.shown ?? [])].join(','));
    this.draw();
  }

  /** @param {string} name */
  know(name) {
    this.layer = this.layer === name ? '' : name;
    this.draw();
  }

  draw() {
    const on = (/** @type {string} */ name) => this.shown?.has(name);
    const { verdict, facts } = this;
    const zones = on('zones') ? Object.entries(facts.zones || {}) : [];
    const masks = on('masks') ? facts.masks || [] : [];
    const boxes = on('boxes') && verdict ? verdict.boxes : [];
    render(html`
      ${this.layer ? html`<img alt=${`${this.layer} of the detector`} src=${address(at`cameras/${this.name ?? ''}/layer?layer=${this.layer}`)}>` : nothing}
      <svg class="layer" viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">
        ${masks.map((/** @type {number[][]} */ mask) => svg`<polygon class="mask" points=${points(mask)} />`)}
        ${zones.map(([name, shape]) => svg`<polygon class=${verdict?.zones.includes(name) ? 'zone hit' : 'zone'} points=${points(/** @type {number[][]} */ (shape))} />`)}
        ${boxes.map((/** @type {number[]} */ [x, y, w, h]) => svg`<rect class="box" x=${x} y=${y} width=${w} height=${h} />`)}
      </svg>
      ${on('verdict') && verdict ? html`<span class="verdict">${REASONS[/** @type {keyof REASONS} */ (verdict.reason)] || verdict.reason} · ${percent(verdict.score)}</span>` : nothing}
    `, /** @type {HTMLElement} */ (this.overlay));
    render(html`
      <div class="chips layers" role="group" aria-label="Layers">
        ${LAYERS.map(([name, words]) => html`<button class="chip" aria-pressed=${String(on(name))} @click=${() => this.toggle(name)}>${words}</button>`)}
        ${KNOWLEDGE.map(([name, words]) => html`<button class="chip" aria-pressed=${String(this.layer === name)} @click=${() => this.know(name)}>${words}</button>`)}
      </div>
      ${this.graph()}
    `, /** @type {HTMLElement} */ (this.panel));
  }

  graph() {
    const now = this.scores?.length ? this.scores[this.scores.length - 1].at : 0;
    const recent = (this.scores ?? []).filter(({ at }) => now - at < GRAPH_S);
    const level = this.facts.min_area || 0;
    const top = Math.max(level * 2.5, 0.002, ...recent.map(({ score }) => score)) * 1.08;
    const x = (/** @type {number} */ at) => (100 * (1 - (now - at) / GRAPH_S)).toFixed(2);
    const y = (/** @type {number} */ score) => (100 - 100 * score / top).toFixed(2);
    const line = recent.map(({ at, score }) => `${x(at)},${y(score)}`).join(' ');
    const first = recent.length ? x(recent[0].at) : '0';
    return html`<svg class="graph" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label=${`Score of the last two minutes; it counts from ${percent(level)} of the image`}>
      <polygon class="area" points=${`${first},100 ${line} 100,100`} />
      <polyline class="line" points=${line} />
      <line class="level" x1="0" x2="100" y1=${y(level)} y2=${y(level)} />
      ${recent.filter(({ motion }) => motion).map(({ at }) => svg`<rect class="moved" x=${x(at)} y="97" width=".5" height="3" />`)}
    </svg>`;
  }
}

customElements.define('live-camera', LiveCamera);
