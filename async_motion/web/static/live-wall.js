// @ts-check
/** All cameras: each image is requested again about once a second, and sent only when it has changed. */
import { ago, ask, kind, listen, showNewest } from './api.js';

const EVERY_MS = 1000;
const WIDTH = 640;

class LiveWall extends HTMLElement {
  connectedCallback() {
    this.stop = new AbortController();
    this.hang = listen(null, {
      motion: ({ camera, on }) => this.card(camera)?.classList.toggle('moving', on),
    });
    this.watch(this.stop.signal);
  }

  disconnectedCallback() {
    this.stop?.abort();
    this.hang?.();
  }

  /** @param {string} name @returns {HTMLElement | null} */
  card(name) {
    return this.querySelector(`[data-camera="${CSS.escape(name)}"]`);
  }

  /** @param {AbortSignal} signal */
  async watch(signal) {
    while (!signal.aborted) {
      const began = performance.now();
      if (!document.hidden) {
        try {
          const { cameras } = await ask('cameras', { signal });
          await Promise.all(cameras.map((/** @type {any} */ camera) => this.show(camera)));
        } catch {
          // Unreachable for now: the images stay as they are, and are requested again.
          for (const state of this.querySelectorAll('.state')) {
            state.textContent = 'no answer';
            state.className = 'state bad';
          }
        }
      }
      await new Promise((done) => setTimeout(done, Math.max(200, EVERY_MS - (performance.now() - began))));
    }
  }

  /** @param {any} camera */
  async show(camera) {
    const card = this.card(camera.name);
    if (!card) return;
    card.classList.toggle('moving', camera.motion);
    const state = card.querySelector('.state');
    if (state) {
      state.textContent = camera.status;
      state.className = `state ${kind(camera)}`;
    }
    const more = card.querySelector('.more');
    const events = `${camera.events_today} event${camera.events_today === 1 ? '' : 's'} today`;
    if (more) more.textContent = camera.last_motion ? `${events} · last motion ${ago(camera.last_motion)}` : events;
    const problem = card.querySelector('.problem');
    if (problem) problem.textContent = camera.problem || '';
    if (!camera.picture || card.dataset.tag === camera.picture) return;
    const frame = card.querySelector('.frame');
    let image = frame?.querySelector('img');
    if (!image) {
      image = document.createElement('img');
      image.alt = `Newest frame of ${camera.title}`;
      frame?.querySelector('.empty')?.replaceWith(image);
    }
    card.dataset.tag = camera.picture;
    try {
      await showNewest(image, camera.name, WIDTH);
    } catch {
      // The next round tries again.
    }
  }
}

customElements.define('live-wall', LiveWall);
