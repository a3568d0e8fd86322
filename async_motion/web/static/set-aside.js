// @ts-check
/** Frames that were set aside: one, or all of them, can be retried. */
import { ask } from './api.js';
import { note } from './notes.js';

class SetAside extends HTMLElement {
  connectedCallback() {
    for (const item of this.querySelectorAll('li')) {
      const number = Number(item.dataset.number);
      item.append(this.button('Try again', [number], item));
    }
    this.prepend(this.button('Try all again', null, this));
  }

  /** @param {string} words @param {number[] | null} numbers @param {Element} gone */
  button(words, numbers, gone) {
    const button = document.createElement('button');
    button.textContent = words;
    button.addEventListener('click', async () => {
      button.disabled = true;
      try {
        const { count } = await ask('spool/retry', { method: 'POST', body: { numbers } });
        note(count === 1 ? 'One frame is retried.' : `${count} frames try again.`);
        gone.remove();
      } catch (error) {
        button.disabled = false;
        note(/** @type {Error} */ (error).message);
      }
    });
    return button;
  }
}

customElements.define('set-aside', SetAside);
