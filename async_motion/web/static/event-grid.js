// @ts-check
/** The grid of events: arrow keys move in it, and new events appear by themselves on the newest page of today. */
import { listen } from './api.js';

const SOON_MS = [1500, 5000];

class EventGrid extends HTMLElement {
  connectedCallback() {
    this.addEventListener('keydown', this.move);
    const day = /** @type {HTMLInputElement | null} */ (document.getElementById('day'));
    day?.addEventListener('change', () => day.value && day.form?.requestSubmit());
    if (this.dataset.newest)
      this.hang = listen(null, { event: () => SOON_MS.forEach((ms) => setTimeout(() => this.look(), ms)) });
  }

  disconnectedCallback() {
    this.hang?.();
  }

  /** @param {KeyboardEvent} event */
  move = (event) => {
    const cards = /** @type {HTMLElement[]} */ ([...this.querySelectorAll('.card')]);
    const at = cards.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    if (at < 0) return;
    const columns = cards.filter((card) => card.offsetTop === cards[0].offsetTop).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    const next = step && cards[at + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  };

  /** Fetch the page again and take over the cards and the timeline that have changed. */
  async look() {
    if (document.hidden || this.busy) return;
    this.busy = true;
    try {
      const response = await fetch(location.href);
      if (!response.ok) return;
      const page = new DOMParser().parseFromString(await response.text(), 'text/html');
      const fresh = [...page.querySelectorAll('event-grid > .card')];
      const known = new Map([...this.querySelectorAll(':scope > .card')].map((card) => [/** @type {HTMLElement} */ (card).dataset.id, card]));
      this.querySelector(':scope > .blank')?.remove();
      for (const card of fresh.reverse()) {
        const old = known.get(/** @type {HTMLElement} */ (card).dataset.id);
        if (!old) this.prepend(card);
        else if (old.innerHTML !== card.innerHTML && !old.contains(document.activeElement)) old.replaceWith(card);
      }
      const timeline = page.querySelector('.timeline');
      const shown = document.querySelector('.timeline');
      if (timeline && shown && !shown.contains(document.activeElement)) {
        timeline.querySelector('details')?.toggleAttribute('open', Boolean(shown.querySelector('details')?.open));
        shown.replaceWith(timeline);
      }
      const count = page.querySelector('.bar .dim');
      if (count) document.querySelector('.bar .dim')?.replaceWith(count);
    } catch {
      // The next event tries again.
    } finally {
      this.busy = false;
    }
  }
}

customElements.define('event-grid', EventGrid);
