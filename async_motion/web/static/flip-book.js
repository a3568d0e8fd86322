// @ts-check
/** An event's frames as a flip-book: played at their own times, with the boxes on or off. */
import { html, render, svg } from './vendor/lit-html.js';
import { address, ask, at, clock } from './api.js';

class FlipBook extends HTMLElement {
  path = '';
  image = /** @type {HTMLImageElement} */ (this.querySelector('.frame img'));
  /** @type {any[]} */
  frames = [];
  /** When each was captured, ms. @type {number[]} */
  times = [];
  place = 0;
  boxes = localStorage.getItem('boxes') !== 'off';
  playing = false;
  overlay = document.createElement('div');
  controls = document.createElement('div');

  async connectedCallback() {
    this.path = at`events/${this.getAttribute('camera') || ''}/${this.getAttribute('event') || ''}`;
    if (!this.image) return;
    try {
      ({ frames: this.frames } = await ask(this.path));
    } catch {
      return;
    }
    if (!this.frames?.length) return;
    this.times = this.frames.map((frame) => Date.parse(frame.captured_at));
    const shown = Number(this.image.src.match(/frames\/(\d+)/)?.[1] ?? 0);
    this.place = Math.max(0, this.frames.findIndex((frame) => frame.seq === shown));
    this.overlay.className = 'overlay';
    this.image.after(this.overlay);
    this.querySelector('.frame')?.after(this.controls);
    this.querySelector('.strip')?.addEventListener('click', (event) => {
      const link = /** @type {HTMLElement} */ (event.target).closest('a');
      if (!link) return;
      event.preventDefault();
      this.pause();
      this.show(this.frames.findIndex((frame) => frame.seq === Number(link.dataset.seq)));
    });
    document.addEventListener('keydown', this.key);
    this.fit();
    this.image.addEventListener('load', () => this.fit());
    this.draw();
  }

  disconnectedCallback() {
    document.removeEventListener('keydown', this.key);
    this.pause();
  }

  fit() {
    const { naturalWidth, naturalHeight } = /** @type {HTMLImageElement} */ (this.image);
    const frame = /** @type {HTMLElement} */ (this.querySelector('.frame'));
    if (naturalWidth) frame.style.setProperty('--ratio', String(naturalWidth / naturalHeight));
  }

  /** @param {KeyboardEvent} event */
  key = (event) => {
    if (event.target instanceof HTMLInputElement || document.querySelector('dialog[open]')) return;
    const place = this.place ?? 0;
    const count = this.frames?.length ?? 0;
    const wanted = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: count - 1 }[event.key];
    if (event.key === ' ' && !(event.target instanceof HTMLButtonElement)) this.toggle();
    else if (event.key === 'b') this.toggleBoxes();
    else if (wanted !== undefined) {
      this.pause();
      this.show(wanted);
    } else return;
    event.preventDefault();
  };

  /** @param {number} place */
  async show(place) {
    /** @type {any[]} */
    const frames = this.frames;
    if (place < 0 || place >= frames.length) return;
    this.place = place;
    this.draw();
    const next = new Image();
    next.src = address(`${this.path}/frames/${frames[place].seq}?width=960`);
    try {
      await next.decode();
    } catch {
      return;
    }
    // The viewer may have moved to another frame in the meantime.
    if (this.place === place && this.image) this.image.src = next.src;
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  pause() {
    this.playing = false;
    if (this.controls) this.draw();
  }

  async play() {
    const { frames = [], times = [] } = this;
    this.playing = true;
    if ((this.place ?? 0) >= frames.length - 1) await this.show(0);
    while (this.playing && (this.place ?? 0) < frames.length - 1) {
      const place = this.place ?? 0;
      const gap = Math.min(2000, Math.max(30, times[place + 1] - times[place]));
      const began = performance.now();
      const next = new Image();
      next.src = address(`${this.path}/frames/${frames[place + 1].seq}?width=960`);
      await next.decode().catch(() => {});
      await new Promise((done) => setTimeout(done, gap - (performance.now() - began)));
      if (this.playing) await this.show(place + 1);
    }
    this.pause();
  }

  toggleBoxes() {
    this.boxes = !this.boxes;
    localStorage.setItem('boxes', this.boxes ? 'on' : 'off');
    this.draw();
  }

  draw() {
    const { frames = [], times = [], place = 0 } = this;
    const frame = frames[place];
    const after = ((times[place] - times[0]) / 1000).toFixed(1);
    render(html`<svg class="layer" viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">
      ${this.boxes ? frame.boxes.map((/** @type {number[]} */ [x, y, w, h]) => svg`<rect class="box" x=${x} y=${y} width=${w} height=${h} />`) : ''}
    </svg><span class="verdict">${clock(frame.captured_at, Number(this.getAttribute('offset')))} · ${(frame.score * 100).toPrecision(2)} %</span>`, /** @type {HTMLElement} */ (this.overlay));
    render(html`<div class="player">
      <button class="quiet" aria-label=${this.playing ? 'Pause' : 'Play'} @click=${() => this.toggle()}><svg class="icon" aria-hidden="true"><use href=${this.playing ? '#icon-pause' : '#icon-play'} /></svg></button>
      <input type="range" min="0" max=${frames.length - 1} .value=${String(place)} aria-label="Frame" aria-valuetext=${`frame ${frame.seq}, ${after} s after the first`}
        @input=${(/** @type {Event} */ event) => { this.pause(); this.show(Number(/** @type {HTMLInputElement} */ (event.target).value)); }}>
      <span class="dim small">${place + 1}/${frames.length}</span>
      <button class="chip" aria-pressed=${String(this.boxes)} @click=${() => this.toggleBoxes()}>Boxes</button>
    </div>`, /** @type {HTMLElement} */ (this.controls));
    for (const link of this.querySelectorAll('.strip a')) {
      const here = Number(/** @type {HTMLElement} */ (link).dataset.seq) === frame.seq;
      if (here) {
        link.setAttribute('aria-current', 'true');
        const strip = /** @type {HTMLElement} */ (link.closest('.strip'));
        const box = link.getBoundingClientRect();
        // Not `scrollIntoView`: it would move the page as well.
        strip.scrollLeft += box.left + box.width / 2 - strip.getBoundingClientRect().left - strip.clientWidth / 2;
      } else link.removeAttribute('aria-current');
    }
  }
}

customElements.define('flip-book', FlipBook);
