// @ts-check
/** All cameras: each image is requested again about once a second, and sent only when it has changed. */
import { address, ask, at, listen } from './api.js';

const EVERY_MS = 1000;

class LiveWall extends HTMLElement {
  connectedCallback() {
    this.stop = new AbortController();
    this.hang = listen(null, {
      motion: ({ camera, on }) => this.card(camera)?.classList.toggle('moving', on),
    });
    this.watch();
  }

  disconnectedCallback() {
    this.stop?.abort();
    this.hang?.();
  }

  /** @param {string} name @returns {HTMLElement | null} */
  card(name) {
    return this.querySelector(`[data-camera="${CSS.escape(name)}"]`);
  }

  async watch() {
    const signal = /** @type {AbortController} */ (this.stop).signal;
    while (!signal.aborted) {
      const began = performance.now();
      if (!document.hidden) {
        try {
          const { cameras } = await ask('cameras', { signal });
          await Promise.all(cameras.map((/** @type {any} */ camera) => this.show(camera)));
        } catch {
          // Unreachable for now: the images stay as they are, and are requested again.
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
    if (state && state.textContent !== camera.status) {
      state.textContent = camera.status;
      const kind = { offline: 'bad', watching: camera.problem ? 'warn' : 'good' }[/** @type {string} */ (camera.status)];
      state.className = `state ${kind || 'dim'}`;
    }
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
      // As a blob: the same address with another fragment would be the same image to the browser's cache.
      const response = await fetch(address(at`cameras/${camera.name}/picture?width=640`));
      if (!response.ok) return;
      const old = image.src;
      image.src = URL.createObjectURL(await response.blob());
      await image.decode();
      if (old.startsWith('blob:')) URL.revokeObjectURL(old);
    } catch {
      // The next round tries again.
    }
  }
}

customElements.define('live-wall', LiveWall);
