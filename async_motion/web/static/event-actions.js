// @ts-check
/** What an admin does with an event: a link for a phone, and deleting it. */
import { html, nothing, render } from './vendor/lit-html.js';
import { ask, at } from './api.js';
import { note } from './notes.js';

class EventActions extends HTMLElement {
  connectedCallback() {
    if (document.body.dataset.role !== 'admin') return;
    this.path = at`events/${this.getAttribute('camera') || ''}/${this.getAttribute('event') || ''}`;
    this.url = '';
    this.draw();
  }

  draw() {
    render(html`
      <button @click=${() => this.link()}><svg class="icon" aria-hidden="true"><use href="#icon-link"/></svg>Link</button>
      <button class="danger" @click=${() => this.dialog?.showModal()}><svg class="icon" aria-hidden="true"><use href="#icon-trash"/></svg>Delete</button>
      <dialog aria-labelledby="delete-title">
        <h2 id="delete-title">Delete this event?</h2>
        <p>Its frames are removed from the bucket for good.</p>
        <form method="dialog" class="bar">
          <button autofocus>Keep it</button>
          <button class="danger" value="delete" @click=${(/** @type {Event} */ event) => this.remove_(event)}>Delete</button>
        </form>
      </dialog>
      ${this.url ? html`<dialog class="link" aria-labelledby="link-title"><h2 id="link-title">A link for 24 hours</h2>
        <input readonly aria-label="Link" .value=${this.url} @focus=${(/** @type {Event} */ e) => /** @type {HTMLInputElement} */ (e.target).select()}>
        <form method="dialog" class="bar">
          <button class="primary" type="button" @click=${() => this.copy()}>Copy</button><button>Close</button>
        </form></dialog>` : nothing}
    `, this);
  }

  get dialog() {
    return this.querySelector('dialog');
  }

  async link() {
    try {
      ({ url: this.url } = await ask(`${this.path}/link`, { method: 'POST', body: { hours: 24 } }));
      this.draw();
      /** @type {HTMLDialogElement} */ (this.querySelector('dialog.link')).showModal();
    } catch (error) {
      note(/** @type {Error} */ (error).message);
    }
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.url || '');
      note('Copied.');
    } catch {
      /** @type {HTMLInputElement} */ (this.querySelector('dialog.link input')).select();
      document.execCommand('copy');
    }
  }

  /** @param {Event} event */
  async remove_(event) {
    event.preventDefault();
    try {
      await ask(/** @type {string} */ (this.path), { method: 'DELETE' });
      location.assign(/** @type {HTMLAnchorElement} */ (document.getElementById('back')).href);
    } catch (error) {
      this.dialog?.close();
      note(/** @type {Error} */ (error).message);
    }
  }
}

customElements.define('event-actions', EventActions);
